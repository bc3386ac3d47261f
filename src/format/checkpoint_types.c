/* Which type a checkpoint is computed in, and what is to be said about it: no weight is rounded in silence. */
#include "format/checkpoint.h"

static int32_t total(const struct checkpoint_types *types)
{
    return types->n[DTYPE_F32] + types->n[DTYPE_BF16] + types->n[DTYPE_F16];
}

enum dtype checkpoint_auto_type(const struct model_config *config, const struct checkpoint_types *types)
{
    if (config->has_dtype)
        return config->dtype == DTYPE_BF16 ? DTYPE_BF16 : DTYPE_F32;
    return total(types) > 0 && types->n[DTYPE_BF16] == total(types) ? DTYPE_BF16 : DTYPE_F32;
}

bool checkpoint_is_f16(const struct model_config *config, const struct checkpoint_types *types)
{
    return config->has_dtype ? config->dtype == DTYPE_F16 : total(types) > 0 && types->n[DTYPE_F16] == total(types);
}

cohort_status checkpoint_type_notes(const char *dir, const struct model_config *config,
                                    const struct checkpoint_types *types, enum dtype type, bool writes,
                                    struct text *notes, cohort_error *err)
{
    const int32_t n = total(types), bf16 = types->n[DTYPE_BF16], f16 = types->n[DTYPE_F16], f32 = types->n[DTYPE_F32];
    if (n == 0)
        return COHORT_OK;
    if (type == DTYPE_BF16 && bf16 < n)
        return text_printf(notes, err,
                           "%s: %d of %d tensors are %s, config.json says bfloat16: they are "
                           "rounded to BF16, as transformers does; --dtype f32 keeps their "
                           "values\n",
                           dir, (int)(n - bf16), (int)n,
                           f16 == 0   ? "F32"
                           : f32 == 0 ? "F16"
                                      : "F32 or F16");
    if (type == DTYPE_F32 && (f16 > 0 || (config->has_dtype && config->dtype == DTYPE_F16)))
        return text_printf(notes, err, "%s: %s: computed in F32, which keeps every value%s\n", dir,
                           f16 > 0 ? "weights are F16" : "config.json says float16",
                           !writes                            ? ""
                           : checkpoint_is_f16(config, types) ? ", and written as F16 in the end"
                                                              : ", and written as F32");
    if (type == DTYPE_F32 && !config->has_dtype && bf16 > 0)
        return text_printf(notes, err,
                           "%s: config.json states no dtype, %d of %d tensors are BF16, the others "
                           "F32: computed in F32, which keeps every value; --dtype bf16 takes half "
                           "of the memory\n",
                           dir, (int)bf16, (int)n);
    return COHORT_OK;
}

/* Any bytes as an adapter_config.json: either refused with a message, or settings by which a layout is opened or refused.
 * In a layout every site has its tensors, of the site's shapes, inside the table. */
#include "support/fuzz.h"

#include "format/adapter.h"
#include "format/architecture.h"

#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char folder[] = "/tmp/cohort-fuzz-adapter-XXXXXX";
static struct param_table base;
static struct model_config config;

static void leave(void)
{
    param_table_free(&base);
    (void)file_remove_all(folder, NULL);
}

/* The folder that the bytes are put into and the table of the base; once. */
static void begin(void)
{
    static bool begun;
    cohort_error err = {0};
    if (begun)
        return;
    begun = true;
    if (mkdtemp(folder) == NULL ||
        model_config_load(&config, NULL, COHORT_SOURCE_DIR "/tests/fixtures/adapter/base_qwen3_f32", &err) !=
            COHORT_OK ||
        architecture_params(&config, STORAGE_BF16, &base, &err) != COHORT_OK)
        abort();
    atexit(leave);
}

static void put_bytes(const uint8_t *data, size_t size)
{
    char path[sizeof folder + sizeof "/adapter_config.json"];
    snprintf(path, sizeof path, "%s/adapter_config.json", folder);
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(data, 1, size, file) != size || fclose(file) != 0)
        abort();
}

static bool inside(const struct adapter_layout *layout, const struct param *param, int64_t rows, int64_t columns)
{
    return param >= layout->table.params && param < layout->table.params + layout->table.n_params &&
           param->shape[0] == rows && param->shape[1] == columns && param->count == rows * columns &&
           param->offset + storage_bytes(param->format, param->count) <= layout->table.bytes;
}

static void check(const struct adapter_settings *settings)
{
    struct adapter_layout layout;
    cohort_error err = {0};
    if (adapter_layout_open(&layout, settings, &base, &config, STORAGE_F32, &err) != COHORT_OK) {
        if (err.status == COHORT_OK || err.message[0] == '\0')
            abort();
        return;
    }
    if (layout.n_sites <= 0)
        abort();
    for (int32_t i = 0; i < layout.n_sites; i++) {
        const struct adapter_site *site = &layout.sites[i];
        const int64_t n = site->base->shape[0], k = site->base->shape[1];
        if (site->r < 1 || !inside(&layout, site->a, site->r, k) || !inside(&layout, site->b, n, site->r) ||
            (site->magnitude != NULL) != settings->dora || (site->b_bias != NULL) != settings->bias ||
            (settings->dora && !inside(&layout, site->magnitude, n, 1)) ||
            (settings->bias && !inside(&layout, site->b_bias, n, 1)))
            abort();
    }
    adapter_layout_free(&layout);
}

static bool accepted(const uint8_t *data, size_t size)
{
    struct adapter_settings settings;
    struct text notes = {0};
    cohort_error err = {0};
    begin();
    put_bytes(data, size);
    const cohort_status status = adapter_settings_read(&settings, folder, &notes, &err);
    text_free(&notes);
    if (status == COHORT_OK) {
        check(&settings);
        adapter_settings_free(&settings);
        return true;
    }
    if (err.status == COHORT_OK || strstr(err.message, "adapter_config.json") == NULL)
        abort();
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    (void)accepted(data, size);
    return 0;
}

#ifndef COHORT_LIBFUZZER
#define SEED(text)                                                                                                     \
    {                                                                                                                  \
        text, sizeof text - 1                                                                                          \
    }

int main(int argc, char **argv)
{
    static const struct fuzz_seed seeds[] = {
        SEED("{\"peft_type\":\"LORA\",\"r\":4,\"lora_alpha\":8.5,\"target_modules\":[\"q_proj\",\"mlp.up_proj\"],"
             "\"layers_to_transform\":[0,2],\"layers_pattern\":\"layers\",\"rank_pattern\":{\"q_proj\":2},"
             "\"alpha_pattern\":{\"^model.layers.0.*\":3},\"use_rslora\":true}"),
        SEED("{\"peft_type\":\"LORA\",\"task_type\":\"CAUSAL_LM\",\"target_modules\":\".*\\\\.[01]\\\\..*(q|k)_proj\","
             "\"exclude_modules\":\"(?:.*)k_proj$\",\"use_dora\":true,\"lora_dropout\":0.1,\"bias\":\"none\"}"),
        SEED("{\"peft_type\":\"LORA\",\"target_modules\":\"all-linear\",\"modules_to_save\":[\"lm_head\"],"
             "\"lora_bias\":true,\"fan_in_fan_out\":true,\"init_lora_weights\":\"gaussian\",\"loftq_config\":{}}"),
        SEED("{\"fine_tune_type\":\"dora\",\"num_layers\":2,\"lora_parameters\":{\"rank\":8,\"scale\":20.0,"
             "\"dropout\":0.0,\"keys\":[\"self_attn.q_proj\"]},\"model\":\"m\"}")};
    static const char *const words[] = {"\"target_modules\":",
                                        "\"rank_pattern\":",
                                        "\"layers_to_transform\":",
                                        "\"modules_to_save\":",
                                        "\"embed_tokens\"",
                                        "\"lm_head\"",
                                        "null,",
                                        "[],",
                                        "{},",
                                        "1e308,",
                                        "65536,",
                                        "-1,",
                                        "(.*)*",
                                        "(?:",
                                        "\\\\d+",
                                        "[^.]*",
                                        "{2,3}",
                                        "|",
                                        "\\u0000",
                                        "\xff"};
    static const struct fuzz_target target = {.name = "adapter",
                                              .one = LLVMFuzzerTestOneInput,
                                              .accepted = accepted,
                                              .seeds = seeds,
                                              .n_seeds = sizeof seeds / sizeof *seeds,
                                              .words = words,
                                              .n_words = sizeof words / sizeof *words,
                                              .max_size = 2048};
    return fuzz_run(&target, argc, argv);
}
#endif

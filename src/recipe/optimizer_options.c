#include "recipe/optimizer_options.h"

cohort_status optimizer_read_kind(struct optimizer *optimizer, const struct options *options, cohort_error *err)
{
    optimizer_init(optimizer, options_choice(options, OPTION_OPTIM));
    for (size_t i = 0; i < options_list_count(options, OPTION_OPTIM_ARGS); i++)
        TRY(optimizer_set(optimizer, options_list_item(options, OPTION_OPTIM_ARGS, i), err));
    optimizer->ema_decay = options_float_or(options, OPTION_EMA_DECAY, 0.0);
    return optimizer_check(optimizer, err);
}

cohort_status optimizer_read(struct optimizer *optimizer, const struct options *options, cohort_error *err)
{
    TRY(optimizer_read_kind(optimizer, options, err));
    optimizer->beta1 = (float)options_float(options, OPTION_ADAM_BETA1);
    optimizer->beta2 = (float)options_float(options, OPTION_ADAM_BETA2);
    optimizer->eps = (float)options_float(options, OPTION_ADAM_EPSILON);
    optimizer->weight_decay = (float)options_float(options, OPTION_WEIGHT_DECAY);
    optimizer->max_grad_norm = options_float(options, OPTION_MAX_GRAD_NORM);
    for (size_t i = 0; i < options_list_count(options, OPTION_LR_GROUPS); i++)
        TRY(optimizer_add_group(optimizer, false, options_list_item(options, OPTION_LR_GROUPS, i), err));
    for (size_t i = 0; i < options_list_count(options, OPTION_WEIGHT_DECAY_GROUPS); i++)
        TRY(optimizer_add_group(optimizer, true, options_list_item(options, OPTION_WEIGHT_DECAY_GROUPS, i), err));
    return optimizer_check(optimizer, err);
}

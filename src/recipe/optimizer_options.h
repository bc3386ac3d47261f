/* The optimizer that the options name. */
#ifndef COHORT_RECIPE_OPTIMIZER_OPTIONS_H
#define COHORT_RECIPE_OPTIMIZER_OPTIONS_H

#include "run/options.h"
#include "train/optimizer.h"

/* Its type, arguments and mean of the weights: what decides which memory it takes. Options used: optim, optim_args,
 * ema_decay. */
cohort_status optimizer_read_kind(struct optimizer *optimizer, const struct options *options, cohort_error *err);
/* All of it, for a run. Options used: those, adam_beta1, adam_beta2, adam_epsilon, weight_decay, max_grad_norm, lr_groups,
 * weight_decay_groups. */
cohort_status optimizer_read(struct optimizer *optimizer, const struct options *options, cohort_error *err);

#endif

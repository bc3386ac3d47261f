/* What options say of a model's experts, for sft and grpo. */
#ifndef COHORT_RECIPE_ROUTING_OPTIONS_H
#define COHORT_RECIPE_ROUTING_OPTIONS_H

#include "run/options.h"
#include "train/routing.h"

/* router_aux_loss_coef, unset that of config.json. An error where it is given and the model has no experts. */
cohort_status routing_options(struct routing *routing, const struct options *options, const struct model_config *config,
                              cohort_error *err);

#endif

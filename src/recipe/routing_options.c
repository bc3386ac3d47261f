#include "recipe/routing_options.h"

cohort_status routing_options(struct routing *routing, const struct options *options, const struct model_config *config,
                              cohort_error *err)
{
    const bool experts = model_config_n_sparse(config) > 0;
    routing->aux_coef =
        options_float_or(options, OPTION_ROUTER_AUX_LOSS_COEF, experts ? config->experts.aux_coef : 0.0);
    if (!experts && routing->aux_coef > 0.0)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "router_aux_loss_coef is %g, but the model has no experts, so no router: leave it out",
                         routing->aux_coef);
    return COHORT_OK;
}

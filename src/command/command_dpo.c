/* cohort dpo: learning from pairs of a chosen and a rejected completion, beside a frozen reference. */
#include "command/command.h"
#include "recipe/preference_run.h"

#include <string.h>

static cohort_status read_terms(struct preference_config *config, const struct options *o, cohort_error *err)
{
    const size_t n = options_list_count(o, OPTION_LOSS_TYPE), weights = options_list_count(o, OPTION_LOSS_WEIGHTS);
    if (n == 0 || n > MOST_PREFERENCE_LOSSES)
        return error_set(err, COHORT_ERR_ARGUMENT, "loss_type: expected 1 to %d losses", (int)MOST_PREFERENCE_LOSSES);
    if (weights > 0 && weights != n)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "loss_weights has %zu numbers, and loss_type %zu losses: give one each", weights, n);
    for (size_t i = 0; i < n; i++) {
        config->terms[i].loss = (enum preference_loss)options_list_choice(o, OPTION_LOSS_TYPE, i);
        config->terms[i].weight = weights == 0 ? 1.0 : options_list_number(o, OPTION_LOSS_WEIGHTS, i);
    }
    config->n_terms = (int32_t)n;
    return COHORT_OK;
}

static cohort_status configure(struct preference_run *run, cohort_error *err)
{
    const struct options *o = run->r.t.options;
    struct preference_config *c = &run->p.config;
    TRY(read_terms(c, o, err));
    c->beta = options_float(o, OPTION_BETA);
    c->label_smoothing = options_float(o, OPTION_LABEL_SMOOTHING);
    c->divergence = (enum preference_divergence)options_choice(o, OPTION_F_DIVERGENCE_TYPE);
    c->alpha_coef = options_float(o, OPTION_F_ALPHA_DIVERGENCE_COEF);
    c->discopop_tau = options_float(o, OPTION_DISCOPOP_TAU);
    c->long_tail = options_is_set(o, OPTION_LD_ALPHA);
    c->ld_alpha = options_float_or(o, OPTION_LD_ALPHA, 1.0);
    c->weighting = options_bool(o, OPTION_USE_WEIGHTING);
    return preference_run_reference(run, options_bool(o, OPTION_REFERENCE_FREE) ? "reference_free" : NULL, err);
}

cohort_status command_dpo(struct options *options, const struct reward_list *extra, const cohort_observer *observer,
                          cohort_error *err)
{
    (void)extra;
    return preference_run(options, "dpo", "DPO", configure, observer, err);
}

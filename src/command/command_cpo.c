/* cohort cpo: learning from pairs by their log-probs alone, without a reference (CPO, SimPO, AlphaPO). */
#include "command/command.h"
#include "recipe/preference_run.h"

static cohort_status configure(struct preference_run *run, cohort_error *err)
{
    const struct options *o = run->r.t.options;
    struct preference_config *c = &run->p.config;
    const enum preference_loss loss =
        (enum preference_loss)((int)PREFERENCE_CPO_SIGMOID + options_choice(o, OPTION_LOSS_TYPE));
    const bool smoothed = loss != PREFERENCE_CPO_HINGE && loss != PREFERENCE_CPO_IPO;
    c->terms[0].loss = loss;
    c->terms[0].weight = 1.0;
    c->n_terms = 1;
    c->beta = options_float(o, OPTION_BETA);
    c->label_smoothing = options_float(o, OPTION_LABEL_SMOOTHING);
    c->simpo_gamma = options_float(o, OPTION_SIMPO_GAMMA);
    c->alpha = options_float(o, OPTION_ALPHA);
    c->nll = loss == PREFERENCE_CPO_ALPHAPO ? 0.0 : options_float(o, OPTION_CPO_ALPHA);
    if (c->label_smoothing > 0.0 && !smoothed)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "label_smoothing is of the losses sigmoid and simpo: leave it out, or take one of these");
    if (loss == PREFERENCE_CPO_ALPHAPO && c->alpha == 0.0)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "loss_type alphapo is simpo with cpo_alpha 0 and an alpha: give alpha, for example 0.25");
    return COHORT_OK;
}

cohort_status command_cpo(struct options *options, const struct reward_list *extra, const cohort_observer *observer,
                          cohort_error *err)
{
    (void)extra;
    return preference_run(options, "cpo", "CPO", configure, observer, err);
}

/* cohort orpo: learning the chosen completions, and that their odds are better than the rejected ones'. */
#include "command/command.h"
#include "recipe/preference_run.h"

static cohort_status configure(struct preference_run *run, cohort_error *err)
{
    struct preference_config *c = &run->p.config;
    (void)err;
    c->terms[0].loss = PREFERENCE_ORPO;
    c->terms[0].weight = 1.0;
    c->n_terms = 1;
    c->beta = options_float(run->r.t.options, OPTION_BETA);
    c->nll = 1.0;
    c->nll_prompts = true;
    return COHORT_OK;
}

cohort_status command_orpo(struct options *options, const struct reward_list *extra, const cohort_observer *observer,
                           cohort_error *err)
{
    (void)extra;
    return preference_run(options, "orpo", "ORPO", configure, observer, err);
}

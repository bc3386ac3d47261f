/* cohort reward: a model that scores answers, learned from pairs of a better and a worse one. */
#include "command/command.h"
#include "recipe/preference_run.h"

static cohort_status configure(struct preference_run *run, cohort_error *err)
{
    const struct options *o = run->r.t.options;
    struct preference_config *c = &run->p.config;
    (void)err;
    c->terms[0].loss = PREFERENCE_REWARD;
    c->terms[0].weight = 1.0;
    c->n_terms = 1;
    c->centre = options_float_or(o, OPTION_CENTER_REWARDS_COEFFICIENT, 0.0);
    return COHORT_OK;
}

cohort_status command_reward(struct options *options, const struct reward_list *extra, const cohort_observer *observer,
                             cohort_error *err)
{
    (void)extra;
    return preference_run(options, "reward", "Reward model", configure, observer, err);
}

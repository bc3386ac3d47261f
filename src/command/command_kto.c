/* cohort kto: learning from single completions that are wanted or not, beside a frozen reference. */
#include "command/command.h"
#include "recipe/preference_run.h"

static cohort_status configure(struct preference_run *run, cohort_error *err)
{
    const struct options *o = run->r.t.options;
    struct preference_config *c = &run->p.config;
    c->terms[0].loss = (enum preference_loss)((int)PREFERENCE_KTO + options_choice(o, OPTION_LOSS_TYPE));
    c->terms[0].weight = 1.0;
    c->n_terms = 1;
    c->beta = options_float(o, OPTION_BETA);
    c->desirable = options_float(o, OPTION_DESIRABLE_WEIGHT);
    c->undesirable = options_float(o, OPTION_UNDESIRABLE_WEIGHT);
    if (c->terms[0].loss == PREFERENCE_KTO && run->r.batch_size < 2)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "loss_type kto compares with completions of the batch's other prompts: give batch_size 2 or "
                         "more, or loss_type apo_zero_unpaired");
    return preference_run_reference(run, NULL, err);
}

cohort_status command_kto(struct options *options, const struct reward_list *extra, const cohort_observer *observer,
                          cohort_error *err)
{
    (void)extra;
    return preference_run(options, "kto", "KTO", configure, observer, err);
}

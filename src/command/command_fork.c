/* cohort fork: another run from a checkpoint of one. */
#include "command/command.h"
#include "recipe/run_fork.h"

cohort_status command_fork(struct options *options, const struct reward_list *extra, const cohort_observer *observer,
                           cohort_error *err)
{
    (void)extra;
    const char *from = options_string(options, OPTION_FROM), *out = options_string(options, OPTION_OUT);
    if (from == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "no run given: cohort fork RUN[@STEP] --out runs/NEW");
    if (out == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "no folder to write given: pass --out runs/NEW");
    return run_fork(from, options_string(options, OPTION_RUNS), out, options_stop(options), observer, err);
}

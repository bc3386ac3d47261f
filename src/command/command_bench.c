#include "command/command.h"

cohort_status command_bench(struct options *options, const struct command_rewards *extra, const cohort_observer *observer, cohort_error *err)
{
    (void)options;
    (void)extra;
    (void)observer;
    return error_set(err, COHORT_ERR_UNSUPPORTED, "bench is not built yet");
}

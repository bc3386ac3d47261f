/* cohort distill: the rollouts and steps of grpo, with the divergence to a teacher as the loss. */
#include "command/command_grpo.h"

cohort_status command_distill(struct options *options, const struct reward_list *extra, const cohort_observer *observer,
                              cohort_error *err)
{
    return command_groups(options, "distill", extra, observer, err);
}

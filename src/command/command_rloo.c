/* cohort rloo: grpo with the defaults of TRL's RLOOTrainer, which are rows of the option table. */
#include "command/command_grpo.h"

cohort_status command_rloo(struct options *options, const struct reward_list *extra, const cohort_observer *observer,
                           cohort_error *err)
{
    return command_groups(options, "rloo", extra, observer, err);
}

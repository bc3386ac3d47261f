/* What grpo and rloo are: the same run, each with its own options' defaults. */
#ifndef COHORT_COMMAND_COMMAND_GRPO_H
#define COHORT_COMMAND_COMMAND_GRPO_H

#include "command/command.h"

/* command: the name of the one whose options they are. */
cohort_status command_groups(struct options *options, const char *command, const struct reward_list *extra,
                             const cohort_observer *observer, cohort_error *err);

#endif

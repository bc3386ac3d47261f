/* The subcommands of run/command_list.h, one file each. Each takes options and an observer, writes its results to the observer's output and
 * nothing anywhere else but into the folders it was told to. */
#ifndef COHORT_COMMAND_COMMAND_H
#define COHORT_COMMAND_COMMAND_H

#include "reward/reward.h"
#include "run/options.h"

typedef cohort_status command_run(struct options *options, const struct reward_list *extra,
                                  const cohort_observer *observer, cohort_error *err);

#define COMMAND(id, name, ...) command_run command_##name;
COMMAND_LIST(COMMAND)
#undef COMMAND

#endif

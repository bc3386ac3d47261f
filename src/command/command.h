/* The subcommands, one file each. Each takes options and an observer, writes its results to the observer's output and
 * nothing anywhere else but into the folders it was told to. */
#ifndef COHORT_COMMAND_COMMAND_H
#define COHORT_COMMAND_COMMAND_H

#include "reward/reward.h"
#include "run/options.h"

typedef cohort_status command_run(struct options *options, const struct reward_list *extra,
                                  const cohort_observer *observer, cohort_error *err);

command_run command_generate, command_logprobs, command_tokenize, command_info, command_init, command_sft, command_grpo,
    command_eval, command_score, command_bench;

#endif

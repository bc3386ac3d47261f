/* Reward functions: numbers (or null: unscorable) for the rows of one generation batch, a group's completions consecutive. */
#ifndef COHORT_REWARD_REWARD_H
#define COHORT_REWARD_REWARD_H

#include "base/memory.h"

#include <jansson.h>

/* One completion to score. All pointers stay the caller's. */
struct reward_row {
    const json_t *data;       /* the data set row: every column is available to the reward */
    const char *prompt;       /* prompt as text, rendered */
    const char *completion;   /* decoded, special tokens left out */
    const int32_t *tokens;    /* completion ids */
    int32_t n_tokens;
    const char *finish_reason; /* "eos", "stop", "length", "cancelled" */
    int64_t prompt_index;      /* same for a group */
    int32_t completion_index;  /* within the group */
};

struct reward; /* one function */

/* spec: "accuracy", "regex", "format", or "exec:PROGRAM [ARGS]" (run by /bin/sh -c, started once, JSON lines on its stdin and stdout).
 * - accuracy: 1 if the answer in the completion (the last \boxed{...}, else the text after "####" or after the last "answer is", else the whole trimmed text) equals the
 *   row's column "answer" (or "solution") as text or as a number (integers, decimals, fractions, thousands separators, %), else 0; a row
 *   without that column is an error; an empty one null.
 * - regex: 1 if options->pattern (or the row's "pattern" column) matches the completion, else 0.
 * - format: TRL's think_format_reward (^<think>(?!.*<think>)(.*?)</think>.*$ DOTALL|MULTILINE).
 * - exec: request per batch, one line per row {"prompt","completion","tokens","finish_reason","prompt_index","completion_index", ...columns}, followed by an empty line; the
 *   program answers one line per row: a number, null, or {"reward": number|null}. timeout_s for a batch. A program that dies, hangs,
 *   answers garbage or too few lines is COHORT_ERR_REWARD with its exit status and the last lines of its stderr. No deadlock on full pipes (poll both). */
struct reward_options {
    const char *pattern; /* regex */
    double timeout_s;    /* exec; 0: 60 */
};
cohort_status reward_create(struct reward **out, const char *spec, const struct reward_options *options, cohort_error *err);
/* A function in C; context stays the caller's. */
typedef cohort_status reward_callback(void *context, const struct reward_row *rows, size_t n_rows, double *rewards,
                                      cohort_error *err);
cohort_status reward_create_callback(struct reward **out, const char *name, reward_callback *callback, void *context,
                                     cohort_error *err);
/* rewards[n_rows]: NaN stands for null. An infinite or NaN number from a program is an error, not null. */
cohort_status reward_score(struct reward *reward, const struct reward_row *rows, size_t n_rows, double *rewards,
                           cohort_error *err);
const char *reward_name(const struct reward *reward); /* "accuracy", "exec:check.py" -> "check.py"; used in metric names */
void reward_destroy(struct reward *reward);

#endif

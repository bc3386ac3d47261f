/* The rewards of a command, and prompts ready to be asked. */
#ifndef COHORT_RECIPE_SCORING_H
#define COHORT_RECIPE_SCORING_H

#include "reward/reward.h"
#include "run/options.h"
#include "recipe/session.h"
#include "train/grpo.h"

struct scoring {
    struct reward **rewards; /* those of the options (owned), then the extra ones (borrowed) */
    const char **names;
    double *weights;
    int32_t n, n_owned;
    const cohort_observer *observer; /* told the warnings of rewards; NULL: nobody */
};
/* Options used: reward, reward_weights, reward_pattern, reward_timeout. No reward at all is an error. The caller sets
 * the observer afterwards. */
cohort_status scoring_open(struct scoring *scoring, const struct options *options, const struct reward_list *extra,
                           cohort_error *err);
void scoring_close(struct scoring *scoring);
/* rewards[n_rows, n] */
cohort_status scoring_rows(const struct scoring *scoring, const struct reward_row *rows, size_t n_rows, double *rewards,
                           cohort_error *err);

/* A data set whose prompts are tokenised. */
struct prompt_set {
    struct dataset data;
    struct token_list *ids; /* [n_rows] */
    struct text *texts;     /* [n_rows] rendered */
    int32_t longest;        /* tokens */
    const int64_t *indices; /* [n_rows] by which rewards and logs identify the rows, borrowed; NULL: their place */
};
/* limit: rows taken at most (0: all); max_tokens: a longer prompt is an error that names the row. Options used: those
 * of row_style. */
cohort_status prompt_set_load(struct prompt_set *set, const struct session *session, const char *path, size_t limit,
                              int32_t max_tokens, const struct options *options, cohort_error *err);
/* The same of rows as JSON text, which messages call "rows:1" and so on. */
cohort_status prompt_set_take(struct prompt_set *set, const struct session *session, const char *const *rows,
                              size_t n_rows, int32_t max_tokens, const struct options *options, cohort_error *err);
void prompt_set_free(struct prompt_set *set);
/* Adds n completions of up to max_tokens for each prompt; none goes beyond the context. */
void prompt_set_need(const struct prompt_set *set, int32_t context, int32_t max_tokens, int32_t n,
                     struct rollout_need *need);

/* Completions as rows for rewards, which point into both; table[n_prompts * n]. */
void scoring_table(const struct prompt_set *set, const size_t *rows, int32_t n_prompts, int32_t n,
                   const struct completion *completions, struct reward_row *table);

/* Scores completions: prompt p of the batch is row rows[p] of set, n completions each. rewards[n_prompts * n,
 * scoring->n]. */
cohort_status scoring_completions(const struct scoring *scoring, const struct prompt_set *set, const size_t *rows,
                                  int32_t n_prompts, int32_t n, const struct completion *completions, double *rewards,
                                  cohort_error *err);

/* Appends one completion with its rewards as a JSON line: {"step" (if >= 0), "index", "completion_index", "prompt",
 * "completion", "finish_reason", "rewards", "advantage" (if not NaN)}. rewards[scoring->n]; set and row say what was
 * asked. */
cohort_status scoring_write(const struct scoring *scoring, const struct prompt_set *set, size_t row, int64_t step,
                            const struct completion *c, const double *rewards, double advantage, struct text *out,
                            cohort_error *err);
/* Appends every completion of a batch with its rewards and advantage to completions.jsonl of the run. */
struct run_folder;
cohort_status scoring_log(const struct scoring *scoring, const struct prompt_set *set, const size_t *rows,
                          const struct grpo_batch *batch, struct run_folder *run, int64_t step, cohort_error *err);

#endif

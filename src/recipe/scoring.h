/* The rewards of a command, and prompts ready to be asked. */
#ifndef COHORT_RECIPE_SCORING_H
#define COHORT_RECIPE_SCORING_H

#include "run/options.h"
#include "recipe/reward_model.h"
#include "train/grpo.h"
#include "train/metrics.h"

struct scoring {
    struct reward **rewards; /* those of the options (owned), then the extra ones (borrowed) */
    const char **names;
    double *weights;
    int32_t n, n_owned;
    struct reward_models models; /* of rewards "model:DIR": added by scoring_open; the caller opens and reads them */
    const cohort_observer *observer; /* told the warnings of rewards; NULL: nobody */
    struct reward_progress progress; /* what rewards are told of the run; the caller's */
    struct ranks *ranks;             /* rank 0 scores for all; NULL: one */
    bool keeps_extra;                /* the columns that rewards add are written with the completions */
    struct reward_log log;           /* metrics since scoring_take_metrics */
    struct scored_group *groups;     /* [n_groups] whose rewards were begun, or that have columns to be written */
    size_t n_groups, groups_capacity;
};
/* Options used: those of the group "Reward". No reward at all is an error. The caller sets
 * the observer afterwards. */
cohort_status scoring_open(struct scoring *scoring, const struct options *options, const struct reward_list *extra,
                           cohort_error *err);
void scoring_close(struct scoring *scoring);
/* rewards[n_rows, n], and lists of the same shape as reward_score_lists has them (NULL: they are dropped). Programs score
 * side by side; what is said beside rewards is added to log, rows from 0 on. */
cohort_status scoring_rows(const struct scoring *scoring, const struct reward_row *rows, size_t n_rows, double *rewards,
                           double **lists, struct reward_log *log, cohort_error *err);
/* Adds the metrics that rewards gave since the last call, each the mean of its values, as prefix and name; a name that
 * metrics has is left out. */
void scoring_take_metrics(struct scoring *scoring, const char *prefix, struct metrics *metrics);

/* A row that is ready to be asked. */
struct prompt {
    json_t *row; /* with every column, for the rewards */
    struct token_list ids;
    struct text text; /* rendered */
};
void prompt_free(struct prompt *prompt);

/* A data set whose rows were all found to be prompts. Of a row its number of tokens is kept, 4 bytes; the rest is read,
 * rendered and encoded again when it is asked. */
struct prompt_set {
    struct dataset data;
    int32_t *lengths; /* [n_rows] tokens */
    int32_t longest;
    const int64_t *indices; /* [n_rows] by which rewards and logs identify the rows, borrowed; NULL: their place */
    const struct session *session; /* borrowed */
    struct row_style style;
};
/* scoring: rewards that must be able to score the rows; NULL: none. named: the option that names the set; limit: rows taken at most (0: all); max_tokens: a longer prompt is an error
 * that names the row. session must stay as long as the set. Options used: those of data_open and row_style. */
cohort_status prompt_set_load(struct prompt_set *set, const struct session *session, const struct scoring *scoring,
                              enum option_id named, size_t limit, int32_t max_tokens, const struct options *options,
                              const cohort_observer *observer, cohort_error *err);
/* The same of a spec (data_paths.h) in place of an option's. */
cohort_status prompt_set_load_spec(struct prompt_set *set, const struct session *session, const struct scoring *scoring,
                                   const char *spec, size_t limit, int32_t max_tokens, const struct options *options,
                                   const cohort_observer *observer, cohort_error *err);
/* The same of rows as JSON text, which messages call "rows:1" and so on. */
cohort_status prompt_set_take(struct prompt_set *set, const struct session *session, const char *const *rows,
                              size_t n_rows, int32_t max_tokens, const struct options *options, cohort_error *err);
void prompt_set_free(struct prompt_set *set);
/* prompt: zeroed, or to be used again. */
cohort_status prompt_set_read(struct prompt_set *set, size_t row, struct prompt *prompt, cohort_error *err);
/* Adds n completions of up to max_tokens for each prompt; none goes beyond the context. */
void prompt_set_need(const struct prompt_set *set, int32_t context, int32_t max_tokens, int32_t n,
                     struct rollout_need *need);

/* Rows of a set that are asked together. */
struct prompt_batch {
    const struct prompt_set *set;
    const size_t *rows;           /* [n] of set, borrowed */
    const struct prompt *prompts; /* [n] of these rows, borrowed */
    const char *name;             /* of the set, for logs; NULL: it has none */
};

/* Completions as rows for rewards, which point into both; table[n_prompts * n]. */
void scoring_table(const struct prompt_batch *batch, int32_t n_prompts, int32_t n, const struct completion *completions,
                   struct reward_row *table);

/* The n completions of a prompt of the batch are there: programs of more than one worker begin to score them. Whoever
 * gives up a rollout calls scoring_abandon. */
cohort_status scoring_begin(struct scoring *scoring, const struct prompt_batch *batch, size_t prompt, int32_t n,
                            const struct completion *completions, cohort_error *err);
/* Drops what was begun and not finished. */
void scoring_abandon(struct scoring *scoring);

/* Scores completions, n of each prompt. rewards and lists (or NULL) [n_prompts * n, scoring->n], as of scoring_rows. */
cohort_status scoring_completions(struct scoring *scoring, const struct prompt_batch *batch, int32_t n_prompts,
                                  int32_t n, const struct completion *completions, double *rewards, double **lists,
                                  cohort_error *err);

/* Drops what was begun for these completions, and the columns that were added to them. */
void scoring_forget(struct scoring *scoring, const struct completion *completions, size_t n);

/* What rewards added to n completions belongs to those at to now, which they were moved to. */
cohort_status scoring_move(struct scoring *scoring, const struct completion *from, const struct completion *to,
                           size_t n, cohort_error *err);

/* By which rewards and logs identify the row of a prompt. */
int64_t scoring_row_of(const struct prompt_batch *batch, size_t prompt);
/* The columns that rewards added to a completion, an object; NULL: none. */
const json_t *scoring_extra(const struct scoring *scoring, const struct completion *completion);

/* A completion of a prompt of the batch as row_response_notable gives it. */
cohort_status scoring_parsed(const struct prompt_batch *batch, size_t prompt, const struct completion *c, json_t **out,
                             cohort_error *err);

/* Appends one completion with its rewards as a JSON line: {"step" (if >= 0), "set" (if it has a name), "index",
 * "completion_index", "prompt", "completion", "finish_reason", "rewards", "token_rewards" (lists by name, if there are
 * any), "parsed" (if it has thinking or calls), "extra" (if rewards added columns), "advantage" and "token_advantages" (if there are any)}; batch and prompt say
 * what was asked. */
struct scoring_result {
    const double *rewards;         /* [scoring->n] */
    double *const *lists;          /* [scoring->n] or NULL */
    const float *advantage;        /* NULL: none */
    const float *token_advantages; /* [n_tokens] or NULL */
};
cohort_status scoring_write(const struct scoring *scoring, const struct prompt_batch *batch, size_t prompt,
                            int64_t step, const struct completion *c, const struct scoring_result *result,
                            struct text *out, cohort_error *err);
/* Appends what of a row's rewards is lists: ", \"token_rewards\": {...}", or nothing. */
cohort_status scoring_write_lists(const struct scoring *scoring, double *const *lists, int32_t n_tokens,
                                  struct text *out, cohort_error *err);
/* Appends every completion of a batch with its rewards and advantage to completions.jsonl of the run. */
struct run_folder;
cohort_status scoring_log(struct scoring *scoring, const struct prompt_batch *prompts, const struct grpo_batch *batch,
                          struct run_folder *run, int64_t step, cohort_error *err);

#endif

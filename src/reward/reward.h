/* Reward functions: numbers (or null: unscorable) for the rows of one generation batch, a group's completions
 * consecutive; or, for a row, a list of numbers, one for each token of its completion. */
#ifndef COHORT_REWARD_REWARD_H
#define COHORT_REWARD_REWARD_H

#include "base/memory.h"
#include "base/stop.h"

#include <jansson.h>

/* One completion to score. All pointers stay the caller's. */
struct reward_row {
    const json_t *data;                      /* the data set row: every column is available to the reward */
    const char *prompt;                      /* prompt as text, rendered; a NUL follows, and it may hold others */
    const char *completion;                  /* decoded, special tokens left out; as the prompt */
    size_t prompt_length, completion_length; /* in bytes */
    const int32_t *tokens;                   /* completion ids */
    const bool *sampled;                     /* [n_tokens] whether the model drew them; NULL: it did */
    const float *logp;                       /* [n_tokens] as struct completion has them; NULL: not known */
    const json_t *episode; /* what happened between the turns of a completion (docs/ENVIRONMENTS.md); NULL: nothing */
    int32_t n_tokens;
    int64_t length; /* in tokens: n_tokens, or the number alone where the ids are not known; -1: neither is known */
    const char *finish_reason; /* "eos", "stop", "length", "cancelled" */
    int64_t prompt_index;      /* same for a group */
    int32_t completion_index;  /* within the group */
    /* What the completion says: {"thinking", "content", "tool_calls": [{"name", "arguments", ...}]}, a new reference.
     * NULL: it is not known how the model writes these. parser is its own. */
    cohort_status (*parse)(const struct reward_row *row, json_t **out, cohort_error *err);
    const void *parser;
};

struct reward; /* one function */

/* spec: "accuracy", "reasoning_accuracy", "cosine_scaled", "regex", "think_format" (or "format"),
 * "soft_overlong_punishment", "repetition_penalty", "length", "xml_format", "xml_count", "correctness", "integer",
 * "strict_format", "soft_format", "json_schema", "tool_use", "exec:PROGRAM [ARGS]" (run by /bin/sh -c, started once, JSON lines on its stdin and stdout) or "python:FILE:FUNCTION". Those of TRL have its
 * names without "_reward", its
 * parameters and its values.
 * - accuracy: 1 if the answer that the completion states (rules: answer_find.c) equals the row's
 *   column "answer" (or "solution"), as a number, choice, list or formula (rules: answer.c), else
 *   0; a row without that column is an error; null or blank is null.
 * - regex: 1 if options->pattern (or, where that is NULL, the row's "pattern" column) matches
 *   anywhere in the completion, else 0. PCRE2 syntax; classes, \b and letter case are of Unicode,
 * as in Python's re. A match that takes more than two million steps counts as none, with a warning.
 * - think_format, format: TRL's think_format_reward (^<think>(?!.*<think>)(.*?)</think>.*$ DOTALL|MULTILINE, from
 * the first character on).
 * - reasoning_accuracy: accuracy of what follows the last place of the first delimiter (in their order) that the
 * completion has; 0 where it has none of them, before the row's answer is looked at.
 * - soft_overlong_punishment, cosine_scaled, repetition_penalty: formulas in token_rewards.c. A row whose length (for
 * repetition_penalty: whose ids) is not known is an error.
 * - length, xml_format, xml_count: rules in text_rewards.c; correctness, integer, strict_format, soft_format in
 * format_rewards.c; json_schema in schema_reward.c; tool_use in tool_reward.c.
 * - exec: request per batch, one line per row
 * {"prompt","completion","tokens","finish_reason","prompt_index","completion_index","parsed" (of row->parse, where
 * that is not NULL), ...columns}, and in the last of a
 * batch "last_of_batch": true, which no other row has; a column named like one of these is left out, bytes that are
 * not UTF-8 become U+FFFD, a NUL is \u0000. The program answers one line per row: a number, null, a list of numbers and
 * nulls (one for each of the row's tokens), or {"reward": one of these}, flushed at the end of the batch at the latest; its empty lines are passed over. timeout_s for a batch.
 * A program that dies, hangs, answers garbage, too few or too many lines is COHORT_ERR_REWARD with its exit status and
 * the last of its stderr, and is ended with all it started; later calls fail too. No deadlock on full pipes (all are
 * polled), no SIGPIPE to the host. An answer may also have "metrics": {"NAME": number or a list of them} and "extra":
 * {"COLUMN": value}, which go to a reward_log. reward_destroy closes its stdin and gives it 2 s to end, then SIGTERM,
 * then SIGKILL to its process group. A reward serves one reward_score at a time.
 * - judge:URL: judge.c has what it asks and how it reads the answer.
 * - python: a function with TRL's signature, called for a batch by an interpreter that runs python_worker.py; its
 * __name__ is the reward's name. In all else it is an exec. */
enum { REWARD_MAX_WORKERS = 256 };
struct reward_options {
    const char *pattern;                     /* regex */
    double timeout_s;                        /* exec, python; 0: 60 */
    int workers;                             /* programs that share the batches of an exec or python reward; 0: 1 */
    const char *python;                      /* interpreter of python:; NULL: of $VIRTUAL_ENV, else python3 */
    const struct stop *stop;                 /* looked at while a program is waited for; NULL: none */
    const char *const *reasoning_delimiters; /* reasoning_accuracy; copied */
    size_t n_delimiters;                     /* 0: "</think>" */
    int64_t max_completion_len;              /* soft_overlong_punishment, in tokens; 0: missing, which is an error */
    int64_t soft_punish_cache;               /* the same; negative: missing */
    int64_t ngram_size;                      /* repetition_penalty, in tokens; 0: 3 */
    double max_penalty;                      /* repetition_penalty; at most 0 */
    int64_t max_len;                         /* cosine_scaled, in tokens; 0: missing */
    int64_t min_length, max_length;          /* length, in characters; 0: 50 and 500 */
    const char *const *tags;                 /* xml_format; copied */
    size_t n_tags;                           /* 0: "thinking" and "answer" */
    const char *schema;                      /* json_schema: JSON, or a file of it; NULL: the row's column "schema" */
    const char *const *tools;                /* tool_use: names of tools; copied */
    size_t n_tools;                          /* 0: those of the row's column "tools" */
    bool tool_optional;                      /* tool_use: a completion may do without a call */
    double min_value_wrong, max_value_wrong, min_value_correct, max_value_correct; /* cosine_scaled */
    /* judge: the model asked for (NULL: "default"), what it judges by (a file or the text; NULL: a rubric of our own), the
     * environment variable with the server's key (NULL: OPENAI_API_KEY, if there is one), the scores that it gives from
     * least to most (both 0: 0 to 1), and how often a request is tried again. timeout_s is a request's; workers: requests at
     * once. */
    const char *judge_model, *judge_rubric, *judge_key_env;
    const char *judge_ca; /* PEM file of the certificates that an https server is trusted by; NULL: the system's */
    double judge_least, judge_most;
    int judge_retries;
};
/* Whether a rubric is the name of a file. One word that names none is an error. */
cohort_status reward_judge_rubric_is_file(const char *rubric, bool *is_file, cohort_error *err);
/* Whether options->schema is a schema, not the name of a file. */
bool reward_schema_is_text(const char *schema);
cohort_status reward_create(struct reward **out, const char *spec, const struct reward_options *options,
                            cohort_error *err);
/* A function in C; context stays the caller's. It fills rewards; to reward tokens also lists, as reward_score_lists has it;
 * and may log (rows from 0). */
struct reward_log;
typedef cohort_status reward_callback(void *context, const struct reward_row *rows, size_t n_rows, double *rewards,
                                      double **lists, struct reward_log *log, cohort_error *err);
cohort_status reward_create_callback(struct reward **out, const char *name, reward_callback *callback, void *context,
                                     cohort_error *err);
/* rewards[n_rows]: NaN stands for null. An infinite or NaN number from a program is an error, not null. */
cohort_status reward_score(struct reward *reward, const struct reward_row *rows, size_t n_rows, double *rewards,
                           cohort_error *err);
/* Rewards of tokens: lists[i] of row i is [n_tokens], NaN: none at this token, or NULL where the row was given a number.
 * rewards[i] is then the sum of what is there, NaN of nothing. The caller gives lists[n_rows] of NULLs, and frees them
 * with reward_lists_clear, also after a failure. */
cohort_status reward_score_lists(struct reward *reward, const struct reward_row *rows, size_t n_rows, double *rewards,
                                 double **lists, cohort_error *err);
void reward_lists_clear(double **lists, size_t n);                                 /* accepts NULL */
cohort_status reward_list_new(double **list, int32_t n_tokens, cohort_error *err); /* of NaN; mem_free ends it */
double reward_list_sum(const double *list, int32_t n_tokens);

/* What a reward says beside its scores. Zero-initialise it, free it with reward_log_free. */
struct reward_log {
    json_t *metrics, *extra; /* NULL: none */
    json_t *warning;         /* a text for people; NULL: none */
};
/* Adds values (count of them, which have this sum) of a metric; a sum that is NaN stays one. False: out of memory. */
bool reward_log_metric(struct reward_log *log, const char *name, double sum, int64_t count);
/* A value of a row (from 0) in a further column. */
bool reward_log_extra(struct reward_log *log, const char *column, size_t row, json_t *value);
/* Adds what from says of rows that begin with first_row of into. */
bool reward_log_merge(struct reward_log *into, const struct reward_log *from, size_t first_row);
/* What a callback or a judge has said since the last time, of rows that begin with first_row of into. False: out of memory. */
bool reward_take_log(struct reward *reward, struct reward_log *into, size_t first_row);
bool reward_log_empty(const struct reward_log *log);
void reward_log_free(struct reward_log *log);

/* How far a run is, for rewards that change with it. */
struct reward_progress {
    int64_t step, max_steps; /* optimizer steps done, and planned (0: unknown) */
    double epoch;
    int64_t tokens_seen;
};

/* Programs score beside the caller: a batch is started, the caller does something else and then waits for it. As many
 * batches as there are programs are worked on at a time, the others wait in the order of their start. rows are read
 * during the start alone. */
bool reward_is_program(const struct reward *reward);
bool reward_may_keep_scores(const struct reward *reward); /* a program or a judge */
/* From now on such a reward is not asked again about a row that it scored before: the same data, prompt and completion. A
 * batch of which it says more than a number for each row is not kept. */
cohort_status reward_keep_scores(struct reward *reward, cohort_error *err);
int reward_workers(const struct reward *reward); /* of a program */
struct reward_job;
cohort_status reward_start(struct reward_job **out, struct reward *reward, const struct reward_row *rows, size_t n_rows,
                           const struct reward_progress *progress, cohort_error *err);
/* rewards[n_rows] and lists[n_rows] (or NULL) as from reward_score_lists. log (may be NULL) gets what was said, row 0 of the
 * job as first_row. Once. */
cohort_status reward_finish(struct reward_job *job, double *rewards, double **lists, struct reward_log *log,
                            size_t first_row, cohort_error *err);
/* What reward_score does with an infinite reward; lists may be NULL. */
cohort_status reward_check_finite(const struct reward *reward, const struct reward_row *rows, size_t n_rows,
                                  const double *rewards, double *const *lists, cohort_error *err);
/* Accepts NULL. A batch that was begun is waited for. */
void reward_job_free(struct reward_job *job);
/* Whether a data row has what the reward reads of it (an answer, a valid pattern), known before there is a completion; as
 * reward_score reports it. Programs and callbacks are not asked. */
cohort_status reward_check(struct reward *reward, const json_t *data, int64_t prompt_index, cohort_error *err);
/* What the caller should tell a person about the rewards so far, one line, or NULL. Valid until the reward is
 * destroyed; each is given once. */
const char *reward_warning(struct reward *reward);
const char *reward_name(const struct reward *reward); /* "accuracy", "exec:check.py" -> "check.py"; used in metric
                                                         names */
void reward_destroy(struct reward *reward);

/* What an embedding program hands to training beside options: reward functions in C, scored after those of the option
 * "reward". */
struct environment_binding;
struct reward_list {
    struct reward **rewards; /* borrowed */
    size_t count;
    const struct environment_binding *environment; /* that answers turns, borrowed; NULL: none */
};

#endif

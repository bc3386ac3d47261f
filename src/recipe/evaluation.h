/* Held-out evaluation: the rewards of a model's completions of one or several sets of prompts, and what they say about
 * the model. */
#ifndef COHORT_RECIPE_EVALUATION_H
#define COHORT_RECIPE_EVALUATION_H

#include "recipe/row_guide.h"
#include "recipe/evaluation_sets.h"
#include "train/metrics.h"

struct evaluation {
    struct engine *engine;
    struct ranks *ranks; /* that draw together; NULL: one */
    struct scoring *scoring;
    struct evaluation_sets *sets;
    const struct evaluation_judge *judge;
    struct engine_request pattern; /* sampling, seed, limits */
    struct row_guides *guides;
    int32_t n;
    struct episodes *episodes; /* that answer turns; NULL: none */
    int64_t step;              /* of the run, for these */
    const struct stop *stop;   /* NULL: none */
    grpo_progress *progress;
    void *progress_context;
};
/* What an evaluation writes beside its metrics; each may be NULL. */
struct evaluation_out {
    struct text *rows;  /* a JSON line for each completion (scoring_write) */
    struct text *shown; /* n_shown prompts of each set with a completion, for a person */
    size_t n_shown;
    /* Gets a set's completions, n of each prompt in order, with rewards[n_prompts * n, scoring->n] and their weighted sums
     * (NaN where all are null). */
    cohort_status (*record)(void *context, const struct prompt_batch *batch, int32_t n_prompts, int32_t n,
                            const struct completion *completions, const double *rewards, const double *sums,
                            cohort_error *err);
    void *record_context;
};
/* Generates n completions of every prompt. For each set it sets PREFIXreward, PREFIXmean@N, pass@K and maj@K with
 * .../stderr and .../n (docs/EVALUATION.md), PREFIXrewards/NAME/mean and PREFIXcompletions/...; PREFIX is "eval_", of a
 * set with a name "eval_NAME_". Where sets have names, eval_reward is the mean of theirs. The draws are the same at
 * every evaluation, so that differences come from the weights. */
cohort_status evaluation_run(const struct evaluation *evaluation, struct metrics *metrics,
                             const struct evaluation_out *out, cohort_error *err);

/* The metrics as a table for a person: a line for each quantity, a column for each set. */
cohort_status evaluation_table(const struct evaluation_sets *sets, const struct metrics *metrics, struct text *out,
                               cohort_error *err);

#endif

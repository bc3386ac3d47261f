/* Held-out evaluation: the rewards of a model's completions of a set of prompts. */
#ifndef COHORT_RECIPE_EVALUATION_H
#define COHORT_RECIPE_EVALUATION_H

#include "recipe/scoring.h"
#include "train/metrics.h"

struct evaluation {
    struct engine *engine;
    struct scoring *scoring;
    struct prompt_set *set;
    struct engine_request pattern; /* sampling, seed, limits */
    int32_t n;
    grpo_progress *progress;
    void *progress_context;
};
/* Generates n completions of every prompt and sets eval_reward, eval_rewards/NAME/mean and eval_completions/...; the
 * draws are the same at every evaluation, so that differences come from the weights. samples (may be NULL) gets one
 * JSON line for each completion. */
cohort_status evaluation_run(const struct evaluation *evaluation, struct metrics *metrics, struct text *samples,
                             cohort_error *err);

#endif

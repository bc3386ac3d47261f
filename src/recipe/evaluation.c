#include "recipe/evaluation.h"

#include <math.h>

static void evaluation_metrics(const struct evaluation *e, const struct completion *completions, const double *rewards,
                               size_t total, struct metrics *metrics)
{
    double length = 0.0, reward = 0.0;
    size_t truncated = 0, scored = 0;
    for (size_t i = 0; i < total; i++) {
        double sum = 0.0;
        bool any = false;
        for (int32_t f = 0; f < e->scoring->n; f++) {
            double value = rewards[i * (size_t)e->scoring->n + (size_t)f];
            sum += isnan(value) ? 0.0 : e->scoring->weights[f] * value;
            any = any || !isnan(value);
        }
        reward += any ? sum : 0.0;
        scored += any;
        length += completions[i].n_tokens;
        truncated += completions[i].finish_reason == FINISH_LENGTH;
    }
    metrics_set(metrics, "eval_reward", scored > 0 ? reward / (double)scored : (double)NAN);
    for (int32_t f = 0; f < e->scoring->n; f++) {
        double sum = 0.0;
        size_t count = 0;
        for (size_t i = 0; i < total; i++) {
            double value = rewards[i * (size_t)e->scoring->n + (size_t)f];
            sum += isnan(value) ? 0.0 : value;
            count += isnan(value) ? 0 : 1;
        }
        metrics_setf(metrics, count > 0 ? sum / (double)count : (double)NAN, "eval_rewards/%s/mean",
                     e->scoring->names[f]);
    }
    metrics_set(metrics, "eval_completions/mean_length", length / (double)total);
    metrics_set(metrics, "eval_completions/clipped_ratio", (double)truncated / (double)total);
}

/* Draws of evaluations never meet those of training batches, which count up from 0. */
static const uint64_t EVALUATION_BATCH = UINT64_MAX;

/* Programs begin to score what is there. */
struct begun {
    const struct evaluation *e;
    const struct prompt_batch *batch;
};

static cohort_status begin_rewards(void *context, int32_t prompt, const struct completion *group, cohort_error *err)
{
    const struct begun *b = context;
    return scoring_begin(b->e->scoring, b->batch, (size_t)prompt, b->e->n, group, err);
}

cohort_status evaluation_run(const struct evaluation *e, struct metrics *metrics, struct text *samples,
                             cohort_error *err)
{
    size_t n_prompts = e->set->data.n_rows, total = n_prompts * (size_t)e->n;
    struct grpo_prompt *asked = NULL;
    struct prompt *prompts = NULL;
    struct completion *completions = NULL;
    size_t *rows = NULL;
    double *rewards = NULL;
    const bool keeps_extra = e->scoring->keeps_extra;
    cohort_status status = COHORT_OK;
    TRY_GOTO(mem_alloc(&asked, n_prompts, sizeof *asked, "evaluation", err));
    TRY_GOTO(mem_alloc(&prompts, n_prompts, sizeof *prompts, "evaluation", err));
    TRY_GOTO(mem_alloc(&rows, n_prompts, sizeof *rows, "evaluation", err));
    TRY_GOTO(mem_alloc(&completions, total, sizeof *completions, "evaluation", err));
    TRY_GOTO(mem_alloc(&rewards, total * (size_t)e->scoring->n, sizeof *rewards, "evaluation", err));
    for (size_t i = 0; i < n_prompts; i++) {
        rows[i] = i;
        TRY_GOTO(prompt_set_read(e->set, i, &prompts[i], err));
        asked[i] =
            (struct grpo_prompt){.tokens = prompts[i].ids.ids, .n_tokens = (int32_t)prompts[i].ids.count, .id = i};
    }
    const struct prompt_batch batch = {.set = e->set, .rows = rows, .prompts = prompts};
    struct begun begun = {.e = e, .batch = &batch};
    TRY_GOTO(grpo_rollout(e->engine, asked, (int32_t)n_prompts, e->n, &e->pattern, EVALUATION_BATCH, completions,
                          e->progress, e->progress_context, begin_rewards, &begun, err));
    e->scoring->keeps_extra = samples != NULL;
    TRY_GOTO(scoring_completions(e->scoring, &batch, (int32_t)n_prompts, e->n, completions, rewards, err));
    evaluation_metrics(e, completions, rewards, total, metrics);
    scoring_take_metrics(e->scoring, "eval_", metrics);
    for (size_t i = 0; samples != NULL && i < total; i++)
        TRY_GOTO(scoring_write(e->scoring, &batch, i / (size_t)e->n, -1, &completions[i],
                               rewards + i * (size_t)e->scoring->n, (double)NAN, samples, err));
cleanup:
    e->scoring->keeps_extra = keeps_extra;
    scoring_forget(e->scoring, completions, completions == NULL ? 0 : total);
    for (size_t i = 0; completions != NULL && i < total; i++)
        completion_free(&completions[i]);
    for (size_t i = 0; prompts != NULL && i < n_prompts; i++)
        prompt_free(&prompts[i]);
    mem_free(completions);
    mem_free(prompts);
    mem_free(asked);
    mem_free(rows);
    mem_free(rewards);
    return status;
}

#include "train/grpo_rows.h"

#include "model/model_adapter.h"

cohort_status row_values_alloc(float ***values, const struct grpo_row *rows, int32_t n, const char *what,
                               cohort_error *err)
{
    TRY(mem_alloc(values, (size_t)n, sizeof **values, what, err));
    for (int32_t i = 0; i < n; i++)
        TRY(mem_alloc(&(*values)[i], (size_t)rows[i].episode->n_sampled, sizeof ***values, what, err));
    return COHORT_OK;
}

void row_values_free(float **values, int32_t n)
{
    for (int32_t i = 0; values != NULL && i < n; i++)
        mem_free(values[i]);
    mem_free(values);
}

cohort_status row_trees_build(struct row_trees *t, const struct grpo_row *rows, int32_t n, cohort_error *err)
{
    TRY(mem_alloc(&t->trees, (size_t)n, sizeof *t->trees, "step", err));
    TRY(mem_alloc(&t->first, (size_t)n, sizeof *t->first, "step", err));
    TRY(mem_alloc(&t->completions, (size_t)n, sizeof *t->completions, "step", err));
    for (int32_t i = 0; i < n; i++) {
        t->completions[i] = episode_tokens(rows[i].episode);
        t->completions[i].masks = rows[i].prompt->masks;
        if (i == 0 || rows[i].prompt != rows[i - 1].prompt) {
            t->first[t->n_trees] = i;
            t->trees[t->n_trees++] = (struct tree){.prompt = rows[i].prompt->tokens,
                                                   .n_prompt = rows[i].prompt->n_tokens,
                                                   .completions = t->completions + i};
        }
        t->trees[t->n_trees - 1].n_completions++;
    }
    return COHORT_OK;
}

bool row_trees_route(struct row_trees *t, const struct grpo_row *rows, int32_t width)
{
    bool all = true;
    for (int32_t i = 0; i < t->n_trees; i++)
        for (int32_t c = 0; c < t->trees[i].n_completions; c++) {
            const int32_t row = t->first[i] + c;
            const uint16_t *routes = rows[row].episode->routes;
            all = all && routes != NULL;
            if (t->trees[i].prompt_routes == NULL)
                t->trees[i].prompt_routes = routes;
            if (routes != NULL)
                t->completions[row].routes = routes + (size_t)t->trees[i].n_prompt * (size_t)width;
        }
    return all;
}

void row_trees_free(struct row_trees *t)
{
    mem_free(t->trees);
    mem_free(t->first);
    mem_free(t->completions);
}

cohort_status row_reference(struct grpo *grpo, const struct row_trees *trees, float *const *values, cohort_error *err)
{
    const bool itself = grpo->reference == grpo->model;
    if (itself)
        model_wear(grpo->model, grpo->reference_adapter);
    const cohort_status status = tree_runner_score(grpo->runner, grpo->reference, trees->trees, trees->n_trees,
                                                   grpo->config.sampling.temperature, values, NULL, err);
    if (itself)
        model_wear(grpo->model, grpo->model->adapter);
    return status;
}

bool grpo_masks(const struct grpo_config *config, const struct episode *e)
{
    return e->finish_reason == FINISH_LOST || (config->mask_truncated && episode_truncated(e));
}

cohort_status grpo_cancelled(cohort_error *err) { return error_set(err, COHORT_ERR_CANCELLED, "stopped on request"); }

/* Shared by the tests of steps of preferences: rows of a fixture (oracle/dpo_trl.py, oracle/preference_trl.py), and
 * comparison of metrics, gradients and weights with it. */
#ifndef COHORT_TESTS_SUPPORT_PREFERENCE_TEST_H
#define COHORT_TESTS_SUPPORT_PREFERENCE_TEST_H

#include "support/model_test.h"

#include "train/preference_step.h"

enum { MOST_PAIRS = 8, MOST_TOKENS = 40 };

struct pairs {
    int32_t prompt[MOST_PAIRS][MOST_TOKENS], tokens[MOST_PAIRS][2][MOST_TOKENS];
    struct completion_tokens completions[MOST_PAIRS][2];
    struct tree trees[MOST_PAIRS];
    struct preference_reference reference[MOST_PAIRS];
    bool wanted[MOST_PAIRS], single; /* rows are single completions */
    int32_t n;
};

static inline void read_pairs(struct pairs *pairs, const json_t *json, size_t first, size_t n)
{
    const char *const sides[2] = {pairs->single ? "completion_ids" : "chosen_ids", "rejected_ids"};
    assert_true(n > 0 && n <= MOST_PAIRS && json_array_size(json) >= first + n);
    pairs->n = (int32_t)n;
    for (size_t i = 0; i < n; i++) {
        const json_t *row = json_array_get(json, first + i);
        pairs->wanted[i] = json_is_true(json_object_get(row, "label"));
        for (int c = 0; c < (pairs->single ? 1 : 2); c++)
            pairs->completions[i][c] = (struct completion_tokens){
                .tokens = pairs->tokens[i][c],
                .n_tokens = read_ids(json_object_get(row, sides[c]), pairs->tokens[i][c], MOST_TOKENS)};
        pairs->trees[i] =
            (struct tree){.prompt = pairs->prompt[i],
                          .n_prompt = read_ids(json_object_get(row, "prompt_ids"), pairs->prompt[i], MOST_TOKENS),
                          .completions = pairs->completions[i],
                          .n_completions = pairs->single ? 1 : 2};
        if (json_object_get(row, "ref_chosen_logps") != NULL)
            pairs->reference[i] = (struct preference_reference){.chosen = json_number(row, "ref_chosen_logps"),
                                                                .rejected = json_number(row, "ref_rejected_logps")};
    }
}

/* Of metrics with a prefix, all that the fixture has. */
static inline void compare_metrics(const struct metrics *metrics, const char *prefix, const json_t *figures,
                                   struct tally *tally, const char *what)
{
    const char *name;
    const json_t *value;
    char full[64];
    json_object_foreach((json_t *)(uintptr_t)figures, name, value)
    {
        /* A KL is a mean of differences of sums, which TRL rounds to floats: of -50 to 2e-6. */
        const double want = json_number_value(value), least = strcmp(name, "kl") == 0 ? 1.0 : 0.1;
        snprintf(full, sizeof full, "%s%s", prefix, name);
        tally_add(tally, fabs(metrics_get(metrics, full) - want) / (least + fabs(want)), what, full);
    }
}

/* Of tensors of at least so many elements the fixture has every stride-th. */
static inline void compare_gradients(struct model_test *test, const char *name, int64_t large_stride, int64_t least,
                                     const struct safetensors *expected, struct tally *tally, const char *what)
{
    for (int32_t i = 0; i < test->model->base.table.n_params; i++) {
        const struct param *param = &test->model->base.table.params[i];
        const int64_t stride = param->count >= least ? large_stride : 1, n = (param->count + stride - 1) / stride;
        const float *want = fixture_tensor(expected, n, "%s.%s", name, param->name);
        float *got = fetched(test->backend, param_state(test->model->trained, i, PARAM_STATE_EXP_AVG),
                             (size_t)param->count * sizeof(float));
        for (int64_t k = 0; k < n; k++)
            got[k] = got[k * stride];
        tally_add(tally, relative_norm(got, want, n), what, param->name);
        free(got);
    }
}

/* A run of a fixture: what one step gives, and before it a held-out evaluation, where the fixture has one. */
struct preference_run {
    const char *name;
    const json_t *json;
    int64_t stride, least; /* of compare_gradients */
    const struct safetensors *expected;
};

/* That step, of a trainer whose first moment is the gradient (beta1 is 0, and nothing is clipped). */
static inline void compare_run(struct model_test *test, struct preference *trainer,
                               const struct preference_batch *batch, const struct preference_run *run,
                               struct tally *values, struct tally *gradients, const char *what)
{
    const json_t *eval = json_object_get(run->json, "eval");
    struct metrics metrics = {0};
    cohort_error err = {0};
    if (eval != NULL) {
        must(preference_evaluate(trainer, batch, &metrics, &err), &err);
        compare_metrics(&metrics, "eval_", eval, values, what);
    }
    must(preference_step(trainer, batch, &metrics, &err), &err);
    assert_string_equal(trainer->warning, "");
    compare_metrics(&metrics, "", json_object_get(run->json, "figures"), values, what);
    compare_gradients(test, run->name, run->stride, run->least, run->expected, gradients, what);
    metrics_free(&metrics);
}

/* Weights against the fixture's, by tensor: the difference as a share of how far the tensor has moved from start. */
static inline void compare_weights(const struct model *model, const struct model *start, const char *name,
                                   int64_t large_stride, int64_t least, const struct safetensors *expected,
                                   struct tally *tally, const char *what)
{
    for (int32_t p = 0; p < model->base.table.n_params; p++) {
        const struct param *param = &model->base.table.params[p];
        const int64_t stride = param->count >= least ? large_stride : 1, n = (param->count + stride - 1) / stride;
        const float *want = fixture_tensor(expected, n, "%s%s", name, param->name);
        float *got = fetched_tensor(model, param), *before = fetched_tensor(start, param);
        double apart = 0.0, moved = 0.0;
        for (int64_t k = 0; k < n; k++) {
            apart += pow((double)got[k * stride] - (double)want[k], 2.0);
            moved += pow((double)want[k] - (double)before[k * stride], 2.0);
        }
        assert_true(moved > 0.0);
        tally_add(tally, sqrt(apart / moved), what, param->name);
        free(got);
        free(before);
    }
}

#endif

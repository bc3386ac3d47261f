/* Sequence classifiers against transformers (tests/fixtures/classifier_*, oracle/classifier_transformers.py): scores and
 * the gradient of every tensor by name, on every instruction set of this machine or (--device cuda) on the GPU; and the
 * bits of a row, alone or among others. */
#include "support/model_test.h"

static const struct {
    const char *name;
    int32_t n_labels;
} fixtures[] = {{"classifier_qwen3", 1}, {"classifier_qwen2", 2}, {"classifier_llama", 3}, {"classifier_mistral", 1}};
enum { N_FIXTURES = sizeof fixtures / sizeof *fixtures, MOST_ROWS = 8, MOST_TOKENS = 512 };

struct rows {
    int32_t tokens[MOST_TOKENS];
    struct completion_tokens completion[MOST_ROWS];
    struct tree tree[MOST_ROWS]; /* a row each, its last third a completion */
    int32_t n, n_tokens;
};

static void rows_read(struct rows *rows, const char *fixture)
{
    char path[256];
    size_t i = 0, t = 0;
    json_t *row = NULL, *token = NULL;
    snprintf(path, sizeof path, FIXTURES "%s/cases.json", fixture);
    json_t *json = load_json(path);
    memset(rows, 0, sizeof *rows);
    json_array_foreach(json_object_get(json, "rows"), i, row)
    {
        const int32_t n = (int32_t)json_array_size(row), n_prompt = n - n / 3;
        int32_t *tokens = rows->tokens + rows->n_tokens;
        rows->completion[rows->n] = (struct completion_tokens){.tokens = tokens + n_prompt, .n_tokens = n - n_prompt};
        rows->tree[rows->n] = (struct tree){
            .prompt = tokens, .n_prompt = n_prompt, .completions = &rows->completion[rows->n], .n_completions = 1};
        rows->n++;
        json_array_foreach(row, t, token) rows->tokens[rows->n_tokens++] = (int32_t)json_integer_value(token);
    }
    json_decref(json);
}

static void plan(struct tree_runner *runner, struct arena *arena, struct model *model, int64_t tokens,
                 int64_t completions, enum decoder_mode mode)
{
    cohort_error err = {0};
    runner->extras.scores = true;
    for (int pass = 0; pass < 2; pass++) {
        must(tree_runner_plan(runner, arena, &model->config, model->type, tokens, completions, mode, &err), &err);
        if (pass == 0)
            must(arena_allocate(arena, model->backend, "test", &err), &err);
    }
}

static void unplan(struct tree_runner *runner, struct arena *arena, struct model *model)
{
    tree_runner_free(runner);
    arena_release(arena, model->backend);
}

/* Leaves in the runner what the scores of the micro-batch weigh, in order of its rows. */
static void weigh(struct tree_runner *runner, int32_t labels, const float *weights)
{
    for (int32_t c = 0; c < runner->packed.n_completions; c++)
        memcpy(runner->d_scores + runner->packed.first_output[c] * labels, weights + c * labels,
               (size_t)labels * sizeof *weights);
}

static void check(struct backend *backend, int f, const char *isa, struct tally *scores, struct tally *gradients)
{
    struct model_test test;
    struct tree_runner runner = {0};
    struct arena arena = {0};
    struct rows rows;
    struct safetensors file = {0};
    cohort_error err = {0};
    float got[MOST_ROWS * 4], alone[4];
    char path[256], setting[160];
    snprintf(path, sizeof path, FIXTURES "%s/expected.safetensors", fixtures[f].name);
    must(safetensors_open(&file, path, &err), &err);
    rows_read(&rows, fixtures[f].name);
    model_test_open(&test, backend, fixtures[f].name, DTYPE_F32);
    const int32_t labels = test.model->config.n_labels, n = rows.n * labels;
    assert_int_equal(labels, fixtures[f].n_labels);
    snprintf(setting, sizeof setting, "%s %s", fixtures[f].name, isa);

    for (int mode = DECODER_TRAIN; mode <= DECODER_RECOMPUTE; mode++) {
        plan(&runner, &arena, test.model, rows.n_tokens, rows.n, (enum decoder_mode)mode);
        must(tree_runner_scores(&runner, test.model, rows.tree, rows.n, got, &err), &err);
        assert_int_equal(runner.packing.n_micro, 1);
        tally_add(scores, relative_max(got, fixture_tensor(&file, n, "scores"), n), setting, "scores");
        zero_grad(&test);
        weigh(&runner, labels, fixture_tensor(&file, n, "weights"));
        tree_runner_backward(&runner, test.model, 1.0f, false);
        for (int32_t p = 0; p < test.model->base.table.n_params; p++) {
            const struct param *param = &test.model->base.table.params[p];
            char name[160];
            snprintf(name, sizeof name, "grad.%s", param->name);
            float *grad = fetched_grad(test.model, param);
            tally_add(gradients, relative_max(grad, fixture_tensor(&file, param->count, "%s", name), param->count),
                      setting, name);
            free(grad);
        }
        unplan(&runner, &arena, test.model);
    }

    /* In micro-batches of few tokens, and alone, as one sequence with nothing behind it: the same bits. */
    float parts[MOST_ROWS * 4];
    plan(&runner, &arena, test.model, 131, 3, DECODER_INFER);
    must(tree_runner_scores(&runner, test.model, rows.tree, rows.n, parts, &err), &err);
    assert_true(runner.packing.n_micro > 1);
    assert_memory_equal(parts, got, (size_t)n * sizeof *got);
    for (int32_t i = 0; i < rows.n; i++) {
        const struct completion_tokens nothing = {.tokens = NULL, .n_tokens = 0};
        const struct tree whole = {.prompt = rows.tree[i].prompt,
                                   .n_prompt = rows.tree[i].n_prompt + rows.completion[i].n_tokens,
                                   .completions = &nothing,
                                   .n_completions = 1};
        must(tree_runner_scores(&runner, test.model, &whole, 1, alone, &err), &err);
        assert_memory_equal(alone, got + i * labels, (size_t)labels * sizeof *got);
    }
    unplan(&runner, &arena, test.model);
    model_test_close(&test);
    safetensors_close(&file);
}

static void test_classifiers(void **state)
{
    (void)state;
    /* As of the decoder (test_model.c). */
    struct tally scores = {.what = "scores", .tolerance = 1e-5}, gradients = {.what = "gradients", .tolerance = 2e-5};
    const char *isa;
    for (size_t i = 0; (isa = test_provider(test_isas, N_TEST_ISAS, i)) != NULL; i++) {
        struct backend *backend = backend_here(isa, 2);
        if (backend == NULL)
            continue;
        for (int f = 0; f < N_FIXTURES; f++)
            if (!test_options.small || f % 2 == 0)
                check(backend, f, isa, &scores, &gradients);
        backend_destroy(backend);
    }
    tally_report(&scores);
    tally_report(&gradients);
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_classifiers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

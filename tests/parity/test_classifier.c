/* Sequence classifiers against transformers (tests/fixtures/classifier_*, oracle/classifier_transformers.py): scores and
 * the gradient of every tensor by name, on every instruction set of this machine or (--device cuda) on the GPU; and the
 * bits of a row, alone or among others. */
#include "support/model_test.h"

#include "model/classifier.h"

static const struct {
    const char *name;
    int32_t n_labels;
} fixtures[] = {{"classifier_qwen3", 1}, {"classifier_qwen2", 2}, {"classifier_llama", 3}, {"classifier_mistral", 1}};
enum { N_FIXTURES = sizeof fixtures / sizeof *fixtures, MOST_ROWS = 8, MOST_TOKENS = 512 };

struct rows {
    int32_t tokens[MOST_TOKENS];
    struct token_row row[MOST_ROWS];
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
        rows->row[rows->n++] = (struct token_row){rows->tokens + rows->n_tokens, (int32_t)json_array_size(row)};
        json_array_foreach(row, t, token) rows->tokens[rows->n_tokens++] = (int32_t)json_integer_value(token);
    }
    json_decref(json);
}

static void plan(struct classifier *classifier, struct arena *arena, struct model *model, int64_t tokens, int64_t rows,
                 enum decoder_mode mode)
{
    cohort_error err = {0};
    for (int pass = 0; pass < 2; pass++) {
        must(classifier_plan(classifier, arena, &model->config, model->type, tokens, rows, mode, &err), &err);
        if (pass == 0)
            must(arena_allocate(arena, model->backend, "test", &err), &err);
    }
}

static void unplan(struct classifier *classifier, struct arena *arena, struct model *model)
{
    classifier_free(classifier);
    arena_release(arena, model->backend);
}

static void check(struct backend *backend, int f, const char *isa, struct tally *scores, struct tally *gradients)
{
    struct model_test test;
    struct classifier classifier = {0};
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
        plan(&classifier, &arena, test.model, rows.n_tokens, rows.n, (enum decoder_mode)mode);
        must(classifier_forward(&classifier, test.model, rows.row, rows.n, got, &err), &err);
        tally_add(scores, relative_max(got, fixture_tensor(&file, n, "scores"), n), setting, "scores");
        zero_grad(&test);
        classifier_backward(&classifier, test.model, fixture_tensor(&file, n, "weights"));
        for (int32_t p = 0; p < test.model->base.table.n_params; p++) {
            const struct param *param = &test.model->base.table.params[p];
            char name[160];
            snprintf(name, sizeof name, "grad.%s", param->name);
            float *grad = fetched_grad(test.model, param);
            tally_add(gradients, relative_max(grad, fixture_tensor(&file, param->count, "%s", name), param->count),
                      setting, name);
            free(grad);
        }
        unplan(&classifier, &arena, test.model);
    }

    /* In micro-batches of few tokens, and alone: the same bits. */
    float parts[MOST_ROWS * 4];
    plan(&classifier, &arena, test.model, 131, 3, DECODER_INFER);
    must(classifier_score(&classifier, test.model, rows.row, rows.n, parts, &err), &err);
    assert_memory_equal(parts, got, (size_t)n * sizeof *got);
    for (int32_t i = 0; i < rows.n; i++) {
        must(classifier_score(&classifier, test.model, &rows.row[i], 1, alone, &err), &err);
        assert_memory_equal(alone, got + i * labels, (size_t)labels * sizeof *got);
    }
    unplan(&classifier, &arena, test.model);
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

/* A reference that follows the policy: its values against TRL's callback (tests/fixtures/reference_sync.json), and what a
 * model computes with them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "support/model_test.h"
#include "support/script_rows.h"

#include "train/reference_sync.h"

enum { N = 16 };

/* Values of a list, in a format, which hold them exactly. */
static void values_of(const json_t *list, enum storage_format format, void *out)
{
    assert_int_equal(json_array_size(list), N);
    for (size_t i = 0; i < N; i++) {
        const float value = (float)json_number_value(json_array_get(list, i));
        if (format == STORAGE_F32)
            ((float *)out)[i] = value;
        else
            ((uint16_t *)out)[i] = bf16_from_f32(value);
    }
}

/* TRL rounds the product and then the sum: it is within two roundings of what is mixed, ours within one. */
static void test_values(void **state)
{
    (void)state;
    json_t *json = load_json(FIXTURES "reference_sync.json");
    const json_t *cases = json_object_get(json, "cases");
    assert_int_equal(json_array_size(cases), 8);
    for (size_t c = 0; c < json_array_size(cases); c++) {
        const json_t *one = json_array_get(cases, c);
        const double alpha = json_number(one, "alpha");
        const bool f32 = strcmp(json_string_value(json_object_get(one, "type")), "f32") == 0;
        const enum storage_format format = f32 ? STORAGE_F32 : STORAGE_BF16;
        float policy[N], reference[N];
        values_of(json_object_get(one, "reference"), format, reference);
        for (size_t k = 0; k < 2; k++) {
            const json_t *theirs = json_array_get(json_object_get(one, "mixed"), k);
            values_of(json_array_get(json_object_get(one, "policies"), k), format, policy);
            reference_sync_values(alpha, format, N, policy, reference);
            for (size_t i = 0; i < N; i++) {
                const double want = json_number_value(json_array_get(theirs, i)),
                             got = f32 ? (double)reference[i] : (double)f32_from_bf16(((uint16_t *)reference)[i]),
                             from = f32 ? (double)policy[i] : (double)f32_from_bf16(((uint16_t *)policy)[i]),
                             unit = f32 ? 0x1p-24 : 0x1p-8, size = fmax(fmax(fabs(want), fabs(got)), fabs(from));
                if (fabs(got - want) > 3.0 * (double)(k + 1) * unit * size)
                    fail_msg("case %zu, mixed %zu times, value %zu: %.9g, TRL %.9g", c, k + 1, i, got, want);
                if (alpha == 1.0)
                    assert_true(got == from && want == from);
            }
        }
    }
    json_decref(json);
}

/* Another projection too, which products read from packed copies. */
static void other_projection(struct model *model)
{
    const struct param *param = param_find(&model->base.table, "model.layers.1.mlp.down_proj.weight");
    assert_non_null(param);
    float *w = fetched_tensor(model, param);
    for (int64_t i = 0; i < param->count; i++)
        w[i] *= i % 3 == 0 ? 1.2f : 0.9f;
    model->backend->ops->upload(model->backend, param_values(&model->base, param), w, (size_t)param->count * sizeof *w);
    free(w);
}

/* A model whose reference another one becomes computes what that one computes: packed copies follow. */
static void on_backend(struct backend *backend)
{
    struct model_test test = {0};
    struct model *policy = NULL;
    struct script_rows *rows = NULL;
    struct reference_sync sync = {.steps = 1, .alpha = 1.0};
    static float logp[3][N_ROWS][MAX_IDS];
    float *row[3][N_ROWS];
    cohort_error err = {0};
    rows = calloc(1, sizeof *rows);
    assert_non_null(rows);
    model_test_open(&test, backend, "model_tied", DTYPE_F32);
    script_rows_read(rows);
    model_test_plan(&test, 400, N_ROWS, DECODER_TRAIN, 0);
    must(model_clone(&policy, test.model, &err), &err);
    other_norm(policy);
    other_projection(policy);
    model_refresh(policy);
    must(reference_sync_open(&sync, &err), &err);
    for (int k = 0; k < 3; k++)
        for (int i = 0; i < N_ROWS; i++)
            row[k][i] = logp[k][i];
    must(tree_runner_score(&test.runner, policy, rows->trees, N_ROWS, 1.0f, row[0], NULL, &err), &err);
    must(tree_runner_score(&test.runner, test.model, rows->trees, N_ROWS, 1.0f, row[1], NULL, &err), &err);
    assert_memory_not_equal(logp[0], logp[1], sizeof logp[0]);
    /* 0 leaves it, 1 makes it the policy, and half of each is neither. */
    sync.alpha = 0.0;
    reference_sync_mix(&sync, test.model, policy);
    must(tree_runner_score(&test.runner, test.model, rows->trees, N_ROWS, 1.0f, row[2], NULL, &err), &err);
    assert_memory_equal(logp[2], logp[1], sizeof logp[1]);
    sync.alpha = 0.5;
    reference_sync_mix(&sync, test.model, policy);
    must(tree_runner_score(&test.runner, test.model, rows->trees, N_ROWS, 1.0f, row[2], NULL, &err), &err);
    assert_memory_not_equal(logp[2], logp[1], sizeof logp[1]);
    assert_memory_not_equal(logp[2], logp[0], sizeof logp[1]);
    sync.alpha = 1.0;
    reference_sync_mix(&sync, test.model, policy);
    must(tree_runner_score(&test.runner, test.model, rows->trees, N_ROWS, 1.0f, row[2], NULL, &err), &err);
    assert_memory_equal(logp[2], logp[0], sizeof logp[0]);
    reference_sync_close(&sync);
    model_destroy(policy);
    model_test_close(&test);
    free(rows);
}

static void test_model(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_TEST_ISAS; i++) {
        const char *provider = test_provider(test_isas, N_TEST_ISAS, i);
        struct backend *backend = provider == NULL ? NULL : backend_here(provider, 1);
        if (backend == NULL)
            continue;
        on_backend(backend);
        backend_destroy(backend);
    }
}

static void test_steps(void **state)
{
    (void)state;
    const struct reference_sync never = {0}, sync = {.steps = 4};
    for (int64_t step = 0; step < 20; step++) {
        assert_false(reference_sync_due(&never, step) || reference_sync_mixed(&never, step));
        assert_int_equal(reference_sync_due(&sync, step), step > 0 && step % 4 == 0);
        assert_int_equal(reference_sync_mixed(&sync, step), step >= 4);
    }
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

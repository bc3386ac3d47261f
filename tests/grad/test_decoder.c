/* The gradient of the whole decoder, end to end, against central differences of its own forward: no
 * other implementation is involved. fp32, random directions in every parameter tensor, tied and
 * untied, a temperature other than 1 and the entropy in the loss, prompts shared by their group.
 *
 * The error is relative to |gradient| |direction|. Steps are a trade: half as long and the rounding
 * of the fp32 forward shows (5e-4 becomes 1e-3), twice as long and the curvature does. */
#include "support/differences.h"
#include "support/model_test.h"

#include <stdlib.h>

enum { DIRECTIONS = 3 };

static const double GAIN_STEP = 0x1p-7, MATRIX_STEP = 0x1p-10;

struct problem {
    struct model_test test;
    struct fixture fixture;
    struct model_case c;
    struct case_trees trees;
};

/* L of the case, forward only. */
static double loss(void *context)
{
    struct problem *p = context;
    float logp[CASE_SEQUENCES][CASE_TOKENS], entropy[CASE_SEQUENCES][CASE_TOKENS];
    float *logp_of[CASE_SEQUENCES], *entropy_of[CASE_SEQUENCES];
    double sum = 0;
    cohort_error err = {0};
    for (int32_t i = 0; i < p->c.n; i++) {
        logp_of[i] = logp[i];
        entropy_of[i] = entropy[i];
    }
    model_refresh(p->test.model);
    must(tree_runner_score(&p->test.runner, p->test.model, p->trees.trees, p->trees.n_trees, p->c.temperature, logp_of,
                           entropy_of, &err),
         &err);
    for (int32_t i = 0; i < p->c.n; i++) {
        int32_t n = p->trees.completions[i].n_tokens;
        const struct safetensors *file = &p->fixture.expected;
        const float *c = fixture_tensor(file, n, "%s.%d.c", p->c.name, (int)i);
        const float *e = fixture_tensor(file, n, "%s.%d.e", p->c.name, (int)i);
        for (int32_t t = 0; t < n; t++)
            sum += (double)c[t] * (double)logp[i][t] + (double)e[t] * (double)entropy[i][t];
    }
    return sum;
}

/* The values of the tensor of the same name in another model. */
static cohort_status fetch_by_name(void *context, const struct param *param, int64_t first, int64_t count, void *to,
                                   cohort_error *err)
{
    struct param_set *set = context;
    return param_set_fetch(set, param_find(&set->table, param->name), first, count, to, err);
}

/* The fixture's model as one of a family that has no norm of the heads: those tensors are not there. */
static void open_without_head_norm(struct model_test *test, struct backend *backend, const char *fixture)
{
    static struct architecture plain;
    struct model_test whole;
    cohort_error err = {0};
    model_test_open(&whole, backend, fixture, DTYPE_F32);
    struct model_config config = whole.model->config;
    plain = *config.architecture;
    plain.tensors[TENSOR_QUERY_NORM] = plain.tensors[TENSOR_KEY_NORM] = NULL;
    config.architecture = &plain;
    memset(test, 0, sizeof *test);
    test->backend = backend;
    must(model_create(&test->model, backend, &config, DTYPE_F32, 0, fetch_by_name, &whole.model->base, &err), &err);
    must(param_set_train_begin(test->model->trained, DTYPE_F32, &err), &err);
    assert_int_equal(test->model->base.table.n_params, whole.model->base.table.n_params - 2 * config.n_layers);
    assert_null(test->model->layers[0].attention.q_norm.gain);
    model_test_close(&whole);
}

static void check(struct backend *backend, const char *isa, const char *fixture, const char *case_name, bool head_norm,
                  struct tally *tally)
{
    struct problem p = {0};
    char setting[96];
    snprintf(setting, sizeof setting, "%s %s %s%s", fixture, isa, case_name, head_norm ? "" : " without head norm");
    fixture_open(&p.fixture, fixture);
    if (head_norm)
        model_test_open(&p.test, backend, fixture, DTYPE_F32);
    else
        open_without_head_norm(&p.test, backend, fixture);
    for (size_t i = 0; fixture_case(&p.fixture, i, &p.c); i++)
        if (strcmp(p.c.name, case_name) == 0)
            break;
    assert_string_equal(p.c.name, case_name);
    case_trees_build(&p.trees, &p.c, true);
    model_test_plan(&p.test, p.trees.fed, p.c.n, DECODER_RECOMPUTE, 0);
    case_backward(&p.test, &p.fixture, &p.c, &p.trees);
    for (int32_t i = 0; i < p.test.model->base.table.n_params; i++) {
        const struct param *param = &p.test.model->base.table.params[i];
        float *direction = malloc(2 * (size_t)param->count * sizeof *direction);
        /* Gains act mildly, matrices and above all a few rows of the embedding strongly. */
        const double step = param->rank == 1 ? GAIN_STEP : MATRIX_STEP;
        assert_non_null(direction);
        for (uint64_t d = 0; d < DIRECTIONS; d++) {
            const float *gradient = param_grad(&p.test.model->base, param);
            direction_make(direction, gradient, param->count, DIRECTIONS * (uint64_t)i + d);
            tally_add(tally,
                      directional_error(loss, &p, param_values(&p.test.model->base, param), direction + param->count,
                                        gradient, direction, param->count, step),
                      setting, param->name);
        }
        free(direction);
    }
    model_test_close(&p.test);
    fixture_close(&p.fixture);
}

static void test_decoder(void **state)
{
    (void)state;
    struct tally tally = {.what = "directional derivatives", .tolerance = 1e-3};
    for (int isa = 0; isa < N_TEST_ISAS; isa++) {
        struct backend *backend = backend_here(test_isas[isa], 2);
        if (backend == NULL)
            continue;
        check(backend, test_isas[isa], "model_tied", "cold", true, &tally);
        check(backend, test_isas[isa], "model_untied", "entropy", true, &tally);
        check(backend, test_isas[isa], "model_wide_heads", "cold", true, &tally);
        check(backend, test_isas[isa], "model_tied", "cold", false, &tally);
        backend_destroy(backend);
    }
    tally_report(&tally);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_decoder)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

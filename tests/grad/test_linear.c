/* A fused projection with a bias: every form of its forward against double references, its backward against central
 * differences of the forward, and what of it trains. fp32, on every instruction set or with --device cuda on the GPU. */
#include "backend/ops.h"
#include "model/linear.h"
#include "support/differences.h"
#include "support/model_test.h"

#include <stdlib.h>

/* Two parts of N1 and N2 rows; M rows of input. */
enum { M = 21, K = 24, N1 = 10, N2 = 7, N = N1 + N2 };
enum { WEIGHT, WEIGHT_2, BIAS, BIAS_2, GAIN, N_PARAMS };
static const double EPS = 1e-5;

struct bench {
    struct backend *backend;
    struct param_set set;
    struct linear linear;
    struct norm norm;
    float *x, *y, *dy, *dx, *room; /* backend memory */
    float values[N_PARAMS][N * K], input[M * K], output[M * N], weights[M * N];
};

static void *take(struct backend *backend, size_t count)
{
    void *memory = NULL;
    cohort_error err = {0};
    must(backend->ops->alloc(backend, &memory, count * sizeof(float), "a test's tensor", &err), &err);
    return memory;
}

static void fill_from(float *x, int64_t n, uint64_t stream)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)test_number(stream, i);
}

static void param_write(struct bench *b, int i)
{
    cohort_error err = {0};
    const struct param *param = &b->set.table.params[i];
    must(param_set_store(&b->set, param, 0, param->count, b->values[i], &err), &err);
}

static void bench_open(struct bench *b, struct backend *backend, int frozen)
{
    static const struct {
        const char *name;
        int32_t rank;
        int64_t rows;
        bool adjacent;
    } rows[N_PARAMS] = {{"a.weight", 2, N1, false},
                        {"b.weight", 2, N2, true},
                        {"a.bias", 1, N1, false},
                        {"b.bias", 1, N2, true},
                        {"gain", 1, K, false}};
    struct param_table table = {.n_params = N_PARAMS};
    cohort_error err = {0};
    memset(b, 0, sizeof *b);
    b->backend = backend;
    must(mem_alloc(&table.params, N_PARAMS, sizeof *table.params, "table", &err), &err);
    for (int i = 0; i < N_PARAMS; i++) {
        struct param *param = &table.params[i];
        const int64_t columns = rows[i].rank == 2 ? K : 1;
        *param = (struct param){.rank = rows[i].rank,
                                .shape = {rows[i].rows, columns},
                                .count = rows[i].rows * columns,
                                .format = STORAGE_F32,
                                .adjacent = rows[i].adjacent};
        snprintf(param->name, sizeof param->name, "%s", rows[i].name);
    }
    must(param_set_open(&b->set, backend, &table, &err), &err);
    if (frozen >= 0)
        param_set_freeze(&b->set, &b->set.table.params[frozen]);
    must(param_set_allocate(&b->set, &err), &err);
    must(param_set_train_begin(&b->set, DTYPE_F32, &err), &err);
    for (int i = 0; i < N_PARAMS; i++) {
        fill_from(b->values[i], b->set.table.params[i].count, 30 + (uint64_t)i);
        param_write(b, i);
    }
    linear_open(&b->linear, &b->set, &b->set.table.params[WEIGHT], &b->set.table.params[BIAS]);
    assert_int_equal(b->linear.n, N);
    assert_int_equal(b->linear.k, K);
    must(linear_pack(&b->linear, &err), &err);
    b->norm = (struct norm){.set = &b->set, .gain = &b->set.table.params[GAIN], .eps = (float)EPS};
    b->x = take(backend, M * K);
    b->room = take(backend, M * K);
    b->dx = take(backend, M * K);
    b->y = take(backend, M * N);
    b->dy = take(backend, M * N);
    fill_from(b->input, M * K, 40);
    fill_from(b->weights, M * N, 41);
    backend->ops->upload(backend, b->x, b->input, sizeof b->input);
    backend->ops->upload(backend, b->dy, b->weights, sizeof b->weights);
}

static void bench_close(struct bench *b)
{
    float *const memory[] = {b->x, b->room, b->dx, b->y, b->dy};
    linear_close(&b->linear);
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
        b->backend->ops->free(b->backend, memory[i]);
    param_set_close(&b->set);
}

/* Element j of x[row] . W^T + b in double. */
static double wanted(const struct bench *b, const double *x, int64_t j)
{
    const float *w = j < N1 ? b->values[WEIGHT] + j * K : b->values[WEIGHT_2] + (j - N1) * K;
    double sum = (double)(j < N1 ? b->values[BIAS][j] : b->values[BIAS_2][j - N1]);
    for (int64_t k = 0; k < K; k++)
        sum += x[k] * (double)w[k];
    return sum;
}

static void expect_rows(struct bench *b, const char *form, bool normed, const float *before)
{
    b->backend->ops->download(b->backend, b->output, b->y, sizeof b->output);
    for (int64_t r = 0; r < M; r++) {
        double x[K], square = 0.0;
        for (int64_t k = 0; k < K; k++)
            square += (double)b->input[r * K + k] * (double)b->input[r * K + k] / K;
        for (int64_t k = 0; k < K; k++)
            x[k] = (double)b->input[r * K + k] * (normed ? (double)b->values[GAIN][k] / sqrt(square + EPS) : 1.0);
        for (int64_t j = 0; j < N; j++) {
            const double want = wanted(b, x, j) + (before == NULL ? 0.0 : (double)before[r * N + j]);
            /* Sums of K products of numbers up to about 3. */
            if (fabs((double)b->output[r * N + j] - want) > 1e-5)
                fail_msg("%s: [%d, %d] is %.9g, expected %.9g", form, (int)r, (int)j, (double)b->output[r * N + j],
                         want);
        }
    }
}

static void check_forwards(struct bench *b)
{
    const struct linear_normed normed = {.norm = &b->norm, .x = b->x, .room = b->room};
    linear_forward(&b->linear, M, b->x, b->y, DTYPE_F32);
    expect_rows(b, "forward", false, NULL);
    linear_forward_normed(&b->linear, M, &normed, b->y);
    expect_rows(b, "normed", true, NULL);
    linear_forward_residual(&b->linear, M, b->x, b->dy, b->y);
    expect_rows(b, "residual", false, b->weights);
    /* In place, as inference does. */
    b->backend->ops->copy(b->backend, b->y, b->dy, sizeof b->weights);
    linear_forward_residual(&b->linear, M, b->x, b->y, b->y);
    expect_rows(b, "residual in place", false, b->weights);
}

/* sum of outputs times weights, at the values that the host has now. */
static double weighted_sum(void *context)
{
    struct bench *b = context;
    double sum = 0.0;
    for (int i = 0; i < N_PARAMS; i++)
        param_write(b, i);
    b->backend->ops->upload(b->backend, b->x, b->input, sizeof b->input);
    linear_refresh(&b->linear);
    linear_forward(&b->linear, M, b->x, b->y, DTYPE_F32);
    b->backend->ops->download(b->backend, b->output, b->y, sizeof b->output);
    for (int64_t i = 0; i < M * N; i++)
        sum += (double)b->output[i] * (double)b->weights[i];
    return sum;
}

static void check_direction(struct bench *b, const char *name, float *values, const float *gradient, int64_t n,
                            struct tally *tally)
{
    float direction[M * K > N * K ? M * K : N * K], origin[M * K > N * K ? M * K : N * K];
    for (uint64_t d = 0; d < 3; d++) {
        direction_make(direction, gradient, n, 100 + d);
        tally_add(tally, directional_error(weighted_sum, b, values, origin, gradient, direction, n, 0.5),
                  b->backend->ops->name, name);
    }
}

static float *gradient_of(struct bench *b, int i)
{
    return fetched(b->backend, param_grad(&b->set, &b->set.table.params[i]),
                   (size_t)b->set.table.params[i].count * sizeof(float));
}

static void check_backward(struct bench *b, struct tally *tally)
{
    param_set_zero_grad(&b->set);
    linear_backward(&b->linear, M, b->dy, b->x, b->dx, DTYPE_F32);
    float *d_x = fetched(b->backend, b->dx, sizeof b->input), *gradient[GAIN];
    for (int i = 0; i < GAIN; i++)
        gradient[i] = gradient_of(b, i);
    check_direction(b, "x", b->input, d_x, M * K, tally);
    for (int i = 0; i < GAIN; i++)
        check_direction(b, b->set.table.params[i].name, b->values[i], gradient[i], b->set.table.params[i].count, tally);
    /* A second micro-batch adds to it. */
    weighted_sum(b);
    linear_backward(&b->linear, M, b->dy, b->x, b->dx, DTYPE_F32);
    for (int i = 0; i < GAIN; i++) {
        float *twice = gradient_of(b, i);
        for (int64_t k = 0; k < b->set.table.params[i].count; k++)
            assert_true(fabsf(twice[k] - 2.0f * gradient[i][k]) <= 1e-5f * (1.0f + fabsf(twice[k])));
        free(twice);
        free(gradient[i]);
    }
    free(d_x);
}

/* The other has the gradient that it has where both train. */
static void check_frozen(struct backend *backend, const struct bench *whole, int frozen, int trains)
{
    struct bench b;
    bench_open(&b, backend, frozen);
    assert_null(param_grad(&b.set, &b.set.table.params[frozen]));
    linear_backward(&b.linear, M, b.dy, b.x, b.dx, DTYPE_F32);
    const struct param *param = &whole->set.table.params[trains];
    float *have = gradient_of(&b, trains),
          *want = fetched(backend, param_grad(&whole->set, param), (size_t)param->count * sizeof(float));
    assert_memory_equal(have, want, (size_t)param->count * sizeof(float));
    free(have);
    free(want);
    bench_close(&b);
}

static void test_bias(void **state)
{
    (void)state;
    struct tally tally = {.what = "directional derivatives", .tolerance = 3e-5};
    const char *isa;
    for (size_t i = 0; (isa = test_provider(test_isas, N_TEST_ISAS, i)) != NULL; i++) {
        struct backend *backend = backend_here(isa, 2);
        static struct bench b;
        if (backend == NULL)
            continue;
        bench_open(&b, backend, -1);
        check_forwards(&b);
        linear_backward(&b.linear, M, b.dy, b.x, b.dx, DTYPE_F32);
        check_frozen(backend, &b, WEIGHT, BIAS);
        check_frozen(backend, &b, BIAS, WEIGHT);
        check_backward(&b, &tally);
        bench_close(&b);
        backend_destroy(backend);
    }
    tally_report(&tally);
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bias)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Matrix products of every provider this machine has: against a double reference, and bit-exact row
 * invariance (I2). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "backend/ops.h"
#include "base/rng.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const isa_names[] = {"portable", "avx2", "avx512", "avx512-bf16", "amx-bf16"};
enum { N_ISAS = 5, GUARD = 64 };

/* fp32 sums of k products against double: k * 2^-24 in the worst case, about sqrt(k) * 2^-24 in
 * practice. */
static const double tolerance = 1e-5;

static struct backend *open_backend(const char *isa, int threads)
{
    struct backend *backend = NULL;
    cohort_error err = {0};
    cohort_status status = backend_cpu_create(&backend, isa, threads, &err);
    if (status == COHORT_ERR_UNSUPPORTED)
        return NULL;
    if (status != COHORT_OK)
        fail_msg("%s", err.message);
    backend->alone_ns = 0.0; /* small shapes too */
    return backend;
}

static void *must(void *p)
{
    assert_non_null(p);
    return p;
}

/* A random matrix of type, in exactly fitting memory so that a sanitizer sees any read beyond it.
 */
static void *random_matrix(int64_t count, enum dtype type, uint64_t stream)
{
    void *x = must(malloc((size_t)count * dtype_bytes(type)));
    for (int64_t i = 0; i < count; i++) {
        struct rng_block block = rng_philox(1, RNG_TEST, stream, (uint64_t)i);
        float value = 2.0f * rng_uniform(block.word[0]) - 1.0f;
        if (type == DTYPE_F32)
            ((float *)x)[i] = value;
        else
            ((uint16_t *)x)[i] = bf16_from_f32(value);
    }
    return x;
}

static double at(const void *x, enum dtype type, int64_t i)
{
    return type == DTYPE_F32 ? (double)((const float *)x)[i] : (double)f32_from_bf16(((const uint16_t *)x)[i]);
}

/* Memory with GUARD bytes of a pattern on both sides, and the pattern inside. */
struct guarded {
    unsigned char *block;
    void *data;
    size_t bytes;
};

static struct guarded guarded_new(size_t bytes)
{
    struct guarded g = {.block = must(malloc(bytes + 2 * GUARD)), .bytes = bytes};
    memset(g.block, 0xa5, bytes + 2 * GUARD);
    g.data = g.block + GUARD;
    return g;
}

static void guarded_check_free(struct guarded *g)
{
    for (size_t i = 0; i < GUARD; i++) {
        assert_int_equal(g->block[i], 0xa5);
        assert_int_equal(g->block[GUARD + g->bytes + i], 0xa5);
    }
    free(g->block);
}

static struct weight *make_weight(struct backend *backend, const void *w, int64_t n, int64_t k, enum dtype type)
{
    struct weight *weight = NULL;
    cohort_error err = {0};
    if (backend->ops->weight_create(backend, &weight,
                                    &(struct weight_source){.format = storage_of(type), .data = w, .n = n, .k = k},
                                    &err) != COHORT_OK)
        fail_msg("%s", err.message);
    return weight;
}

/* |got - want| <= tolerance * scale, plus half a unit in the last place (2^-9 relative) for a bf16
 * result. */
static void check_value(const char *what, const struct backend *backend, enum dtype type, int64_t i, int64_t j,
                        double got, double want, double scale)
{
    double allowed = tolerance * (scale + 1e-30) + (type == DTYPE_BF16 ? fabs(want) / 256.0 : 0.0);
    if (!(fabs(got - want) <= allowed))
        fail_msg("%s %s: element %lld, %lld is %.9g, want %.9g within %.3g", what, backend->provider_bf16, (long long)i,
                 (long long)j, got, want, allowed);
}

/* y[m, n] in both types and with accumulate, rows n + 3 apart. */
static void check_forward(struct backend *backend, enum dtype type, int64_t m, int64_t n, int64_t k)
{
    void *x = random_matrix(m * k, type, 1), *w = random_matrix(n * k, type, 2);
    struct weight *weight = make_weight(backend, w, n, k, type);
    const int64_t stride = n + 3;
    for (int variant = 0; variant < 3; variant++) {
        enum dtype y_type = variant == 2 ? DTYPE_BF16 : DTYPE_F32;
        bool accumulate = variant == 1;
        int64_t count = (m - 1) * stride + n;
        struct guarded y = guarded_new((size_t)count * dtype_bytes(y_type));
        struct guarded before = guarded_new((size_t)count * dtype_bytes(y_type));
        if (accumulate)
            for (int64_t i = 0; i < count; i++)
                ((float *)y.data)[i] = (float)(i % 7) - 3.0f;
        memcpy(before.data, y.data, y.bytes);
        backend->ops->matmul_forward(backend, &(struct matmul_forward){.w = weight,
                                                                       .m = m,
                                                                       .x = x,
                                                                       .y = y.data,
                                                                       .y_stride = stride,
                                                                       .y_type = y_type,
                                                                       .accumulate = accumulate});
        for (int64_t i = 0; i < m; i++) {
            for (int64_t j = 0; j < n; j++) {
                double sum = 0.0, scale = 0.0;
                for (int64_t l = 0; l < k; l++) {
                    double term = at(x, type, i * k + l) * at(w, type, j * k + l);
                    sum += term;
                    scale += fabs(term);
                }
                double old = accumulate ? at(before.data, y_type, i * stride + j) : 0.0;
                check_value("forward", backend, y_type, i, j, at(y.data, y_type, i * stride + j), old + sum,
                            scale + fabs(old));
            }
            /* Nothing between the rows is written. */
            size_t gap = (size_t)(i * stride + n) * dtype_bytes(y_type);
            if (i + 1 < m)
                assert_memory_equal((char *)y.data + gap, (char *)before.data + gap, 3 * dtype_bytes(y_type));
        }
        guarded_check_free(&y);
        guarded_check_free(&before);
    }
    backend->ops->weight_destroy(backend, weight);
    free(x);
    free(w);
}

static void check_backward_input(struct backend *backend, enum dtype type, int64_t m, int64_t n, int64_t k)
{
    const int64_t stride = n + 5;
    void *dy = random_matrix(m * stride, type, 3), *w = random_matrix(n * k, type, 4);
    struct weight *weight = make_weight(backend, w, n, k, type);
    for (int variant = 0; variant < 3; variant++) {
        enum dtype dx_type = variant == 2 ? DTYPE_BF16 : DTYPE_F32;
        bool accumulate = variant == 1;
        struct guarded dx = guarded_new((size_t)(m * k) * dtype_bytes(dx_type));
        if (accumulate)
            for (int64_t i = 0; i < m * k; i++)
                ((float *)dx.data)[i] = 0.5f;
        backend->ops->matmul_backward_input(backend, &(struct matmul_backward_input){.w = weight,
                                                                                     .m = m,
                                                                                     .dy = dy,
                                                                                     .dy_stride = stride,
                                                                                     .dx = dx.data,
                                                                                     .dx_type = dx_type,
                                                                                     .accumulate = accumulate});
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < k; j++) {
                double sum = accumulate ? 0.5 : 0.0, scale = sum;
                for (int64_t l = 0; l < n; l++) {
                    double term = at(dy, type, i * stride + l) * at(w, type, l * k + j);
                    sum += term;
                    scale += fabs(term);
                }
                check_value("backward input", backend, dx_type, i, j, at(dx.data, dx_type, i * k + j), sum, scale);
            }
        guarded_check_free(&dx);
    }
    backend->ops->weight_destroy(backend, weight);
    free(dy);
    free(w);
}

static void check_backward_weight(struct backend *backend, enum dtype type, int64_t m, int64_t n, int64_t k)
{
    const int64_t stride = n + 1;
    void *dy = random_matrix(m * stride, type, 5), *x = random_matrix(m * k, type, 6);
    struct guarded dw = guarded_new((size_t)(n * k) * sizeof(float));
    float *got = dw.data;
    for (int64_t i = 0; i < n * k; i++)
        got[i] = (float)(i % 5);
    backend->ops->matmul_backward_weight(
        backend, &(struct matmul_backward_weight){
                     .m = m, .n = n, .k = k, .dy = dy, .dy_stride = stride, .x = x, .type = type, .dw = got});
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < k; j++) {
            double sum = (double)((i * k + j) % 5), scale = sum;
            for (int64_t l = 0; l < m; l++) {
                double term = at(dy, type, l * stride + i) * at(x, type, l * k + j);
                sum += term;
                scale += fabs(term);
            }
            check_value("backward weight", backend, DTYPE_F32, i, j, (double)got[i * k + j], sum, scale);
        }
    guarded_check_free(&dw);
    free(dy);
    free(x);
}

/* Shapes around the tiles: 12, 16, 32 rows; 16, 32 columns; 2, 32 of k; the pass of 512 and the
 * block of 2048. */
static const int64_t shapes[][3] = {
    {1, 1, 1},    {1, 24, 40},    {3, 2, 1},    {2, 31, 31},  {5, 32, 32},  {11, 33, 33},  {12, 16, 2},  {13, 15, 63},
    {15, 17, 64}, {16, 64, 65},   {17, 65, 95}, {31, 96, 97}, {32, 40, 24}, {33, 100, 17}, {64, 7, 130}, {65, 96, 3},
    {4, 70, 543}, {40, 33, 1100}, {2, 3, 2049}, {3, 2049, 5}, {2050, 3, 4}, {37, 2100, 6}, {1, 512, 96},
};

static void test_reference(void **state)
{
    (void)state;
    for (int i = 0; i < N_ISAS; i++) {
        struct backend *backend = open_backend(isa_names[i], 2);
        if (backend == NULL)
            continue;
        for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
            for (int type = DTYPE_F32; type <= DTYPE_BF16; type++) {
                const int64_t m = shapes[s][0], n = shapes[s][1], k = shapes[s][2];
                check_forward(backend, (enum dtype)type, m, n, k);
                check_backward_input(backend, (enum dtype)type, m, n, k);
                check_backward_weight(backend, (enum dtype)type, m, n, k);
            }
        backend_destroy(backend);
    }
}

/* Rows first .. first + m of x, by themselves, at an address that is skew bytes off a line. */
static void forward_rows(struct backend *backend, const struct weight *weight, enum dtype type, const char *x,
                         int64_t first, int64_t m, int64_t n, int64_t k, size_t skew, void *y, enum dtype y_type)
{
    size_t row = (size_t)k * dtype_bytes(type);
    char *copy = must(malloc((size_t)m * row + skew));
    memcpy(copy + skew, x + (size_t)first * row, (size_t)m * row);
    backend->ops->matmul_forward(
        backend,
        &(struct matmul_forward){.w = weight, .m = m, .x = copy + skew, .y = y, .y_stride = n, .y_type = y_type});
    free(copy);
}

/* Every row of every batch has the bits it has alone. */
static void check_invariance(const char *isa, enum dtype type, int64_t n, int64_t k)
{
    enum { ROWS = 512 };
    static const int64_t batches[] = {1, 2, 3, 5, 7, 15, 16, 17, 31, 33, 64, 100, 255, 512};
    char *x = random_matrix(ROWS * k, type, 7);
    void *w = random_matrix(n * k, type, 8);
    float *alone = must(malloc((size_t)(ROWS * n) * sizeof(float)));
    float *y = must(malloc((size_t)(ROWS * n) * sizeof(float)));
    uint16_t *half = must(malloc((size_t)(ROWS * n) * sizeof(uint16_t)));
    for (int threads = 1; threads <= 2; threads++) {
        struct backend *backend = open_backend(isa, threads);
        struct weight *weight = make_weight(backend, w, n, k, type);
        if (threads == 1)
            for (int64_t i = 0; i < ROWS; i++)
                forward_rows(backend, weight, type, x, i, 1, n, k, 0, alone + i * n, DTYPE_F32);
        for (size_t b = 0; b < sizeof batches / sizeof batches[0]; b++) {
            const int64_t m = batches[b];
            /* At the start, in the middle at an odd offset, and at the end; with two threads, which
               are slow beside other processes, in the middle. */
            const int64_t firsts[3] = {0, (ROWS - m) / 2 | (ROWS > m), ROWS - m};
            for (int f = threads == 1 ? 0 : 1; f < (threads == 1 ? 3 : 2); f++) {
                int64_t first = firsts[f] + m > ROWS ? ROWS - m : firsts[f];
                size_t skew = (size_t)f * 2 * dtype_bytes(type);
                forward_rows(backend, weight, type, x, first, m, n, k, skew, y, DTYPE_F32);
                if (memcmp(y, alone + first * n, (size_t)(m * n) * sizeof(float)) != 0)
                    fail_msg("%s %s [%lld, %lld]: rows %lld .. +%lld with %d threads differ from the "
                             "rows alone",
                             isa, dtype_name(type), (long long)n, (long long)k, (long long)first, (long long)m,
                             threads);
            }
            if (threads > 1)
                continue; /* what follows does not depend on them */
            forward_rows(backend, weight, type, x, 0, m, n, k, dtype_bytes(type), half, DTYPE_BF16);
            for (int64_t i = 0; i < m * n; i++)
                if (half[i] != bf16_from_f32(alone[i]))
                    fail_msg("%s %s: bf16 result %lld is not the rounded fp32 result", isa, dtype_name(type),
                             (long long)i);
        }
        backend->ops->weight_destroy(backend, weight);
        backend_destroy(backend);
    }
    free(x);
    free(w);
    free(alone);
    free(y);
    free(half);
}

static void test_row_invariance(void **state)
{
    (void)state;
    for (int i = 0; i < N_ISAS; i++) {
        struct backend *backend = open_backend(isa_names[i], 1);
        if (backend == NULL)
            continue;
        backend_destroy(backend);
        for (int type = DTYPE_F32; type <= DTYPE_BF16; type++) {
            check_invariance(isa_names[i], (enum dtype)type, 72, 1100); /* whole and part panels, three passes */
            check_invariance(isa_names[i], (enum dtype)type, 33, 95);
        }
    }
}

/* More rows than are packed at once, and the longest k: sampled rows against the same rows alone.
 */
static void check_sampled(struct backend *backend, int64_t m, int64_t n, int64_t k, int64_t every)
{
    char *x = random_matrix(m * k, DTYPE_BF16, 16);
    void *w = random_matrix(n * k, DTYPE_BF16, 17);
    struct weight *weight = make_weight(backend, w, n, k, DTYPE_BF16);
    float *y = must(malloc((size_t)(m * n) * sizeof(float)));
    float *row = must(malloc((size_t)n * sizeof(float)));
    forward_rows(backend, weight, DTYPE_BF16, x, 0, m, n, k, 0, y, DTYPE_F32);
    for (int64_t i = 0; i < m; i += every) {
        forward_rows(backend, weight, DTYPE_BF16, x, i, 1, n, k, 0, row, DTYPE_F32);
        if (memcmp(row, y + i * n, (size_t)n * sizeof(float)) != 0)
            fail_msg("%s: row %lld of %lld, k %lld, differs from the row alone", backend->provider_bf16, (long long)i,
                     (long long)m, (long long)k);
    }
    backend->ops->weight_destroy(backend, weight);
    free(x);
    free(w);
    free(y);
    free(row);
}

static void test_large_invariance(void **state)
{
    (void)state;
    for (int i = 0; i < N_ISAS; i++) {
        struct backend *backend = open_backend(isa_names[i], 2);
        if (backend == NULL)
            continue;
        check_sampled(backend, 8192, 40, 48, 31);
        check_sampled(backend, 40, 40, 25600, 13);
        backend_destroy(backend);
    }
}

/* A bf16 dx is the rounded fp32 dx, also where it is summed in scratch by parts: 300 rows are two
 * parts. */
static void test_backward_input_parts(void **state)
{
    (void)state;
    const int64_t m = 300, n = 2049, k = 16384, period = 65521;
    struct backend *backend = open_backend(NULL, 2);
    uint16_t *dy = random_matrix(m * n, DTYPE_BF16, 18), *w = must(malloc((size_t)(n * k) * 2));
    uint16_t *some = random_matrix(period, DTYPE_BF16, 20);
    for (int64_t i = 0; i < n * k; i++)
        w[i] = some[i % period];
    struct weight *weight = make_weight(backend, w, n, k, DTYPE_BF16);
    float *exact = must(malloc((size_t)(m * k) * sizeof(float)));
    uint16_t *rounded = must(malloc((size_t)(m * k) * sizeof(uint16_t)));
    struct matmul_backward_input p = {.w = weight, .m = m, .dy = dy, .dy_stride = n, .dx = exact};
    backend->ops->matmul_backward_input(backend, &p);
    p.dx = rounded;
    p.dx_type = DTYPE_BF16;
    backend->ops->matmul_backward_input(backend, &p);
    for (int64_t i = 0; i < m * k; i++)
        if (rounded[i] != bf16_from_f32(exact[i]))
            fail_msg("element %lld of %lld is not the rounded fp32 result", (long long)i, (long long)(m * k));
    backend->ops->weight_destroy(backend, weight);
    backend_destroy(backend);
    free(dy);
    free(w);
    free(some);
    free(exact);
    free(rounded);
}

/* The accumulated result is old + finished sum, one addition. */
static void test_accumulate_is_one_addition(void **state)
{
    (void)state;
    const int64_t m = 33, n = 40, k = 700;
    for (int i = 0; i < N_ISAS; i++) {
        struct backend *backend = open_backend(isa_names[i], 2);
        if (backend == NULL)
            continue;
        for (int type = DTYPE_F32; type <= DTYPE_BF16; type++) {
            void *x = random_matrix(m * k, (enum dtype)type, 9), *w = random_matrix(n * k, (enum dtype)type, 10);
            struct weight *weight = make_weight(backend, w, n, k, (enum dtype)type);
            float *sum = must(malloc((size_t)(m * n) * sizeof(float)));
            float *y = must(malloc((size_t)(m * n) * sizeof(float)));
            for (int64_t j = 0; j < m * n; j++)
                y[j] = 1e3f;
            struct matmul_forward p = {.w = weight, .m = m, .x = x, .y = sum, .y_stride = n, .y_type = DTYPE_F32};
            backend->ops->matmul_forward(backend, &p);
            p.y = y;
            p.accumulate = true;
            backend->ops->matmul_forward(backend, &p);
            for (int64_t j = 0; j < m * n; j++)
                assert_true(y[j] == 1e3f + sum[j]);
            backend->ops->weight_destroy(backend, weight);
            free(x);
            free(w);
            free(sum);
            free(y);
        }
        backend_destroy(backend);
    }
}

/* A row of NaN or infinity changes no other row. */
static void test_nan_stays_in_its_row(void **state)
{
    (void)state;
    enum { M = 35, N = 40, K = 47, BAD = 17 };
    for (int i = 0; i < N_ISAS; i++) {
        struct backend *backend = open_backend(isa_names[i], 1);
        if (backend == NULL)
            continue;
        for (int type = DTYPE_F32; type <= DTYPE_BF16; type++) {
            char *x = random_matrix((int64_t)M * K, (enum dtype)type, 11);
            void *w = random_matrix((int64_t)N * K, (enum dtype)type, 12);
            struct weight *weight = make_weight(backend, w, N, K, (enum dtype)type);
            float clean[M * N], dirty[M * N];
            struct matmul_forward p = {.w = weight, .m = M, .x = x, .y = clean, .y_stride = N, .y_type = DTYPE_F32};
            backend->ops->matmul_forward(backend, &p);
            size_t row = K * dtype_bytes((enum dtype)type);
            memset(x + BAD * row, 0xff, row);
            p.y = dirty;
            backend->ops->matmul_forward(backend, &p);
            assert_memory_equal(clean, dirty, sizeof(float) * BAD * N);
            assert_memory_equal(clean + (BAD + 1) * N, dirty + (BAD + 1) * N, sizeof(float) * (M - BAD - 1) * N);
            for (int j = 0; j < N; j++)
                assert_true(isnan(dirty[BAD * N + j]));
            backend->ops->weight_destroy(backend, weight);
            free(x);
            free(w);
        }
        backend_destroy(backend);
    }
}

/* Backward products do not depend on the number of threads. */
static void test_backward_threads(void **state)
{
    (void)state;
    const int64_t m = 130, n = 2500, k = 70;
    for (int i = 0; i < N_ISAS; i++) {
        uint16_t *dy = random_matrix(m * n, DTYPE_BF16, 13), *x = random_matrix(m * k, DTYPE_BF16, 14);
        uint16_t *w = random_matrix(n * k, DTYPE_BF16, 15);
        float *dx[2] = {0}, *dw[2] = {0};
        struct backend *backend = NULL;
        for (int t = 0; t < 2; t++) {
            backend = open_backend(isa_names[i], t == 0 ? 1 : 3);
            if (backend == NULL)
                break;
            struct weight *weight = make_weight(backend, w, n, k, DTYPE_BF16);
            dx[t] = must(calloc((size_t)(m * k), sizeof(float)));
            dw[t] = must(calloc((size_t)(n * k), sizeof(float)));
            backend->ops->matmul_backward_input(
                backend, &(struct matmul_backward_input){.w = weight, .m = m, .dy = dy, .dy_stride = n, .dx = dx[t]});
            backend->ops->matmul_backward_weight(
                backend,
                &(struct matmul_backward_weight){
                    .m = m, .n = n, .k = k, .dy = dy, .dy_stride = n, .x = x, .type = DTYPE_BF16, .dw = dw[t]});
            backend->ops->weight_destroy(backend, weight);
            backend_destroy(backend);
        }
        if (backend != NULL) {
            assert_memory_equal(dx[0], dx[1], (size_t)(m * k) * sizeof(float));
            assert_memory_equal(dw[0], dw[1], (size_t)(n * k) * sizeof(float));
        }
        for (int t = 0; t < 2; t++) {
            free(dx[t]);
            free(dw[t]);
        }
        free(dy);
        free(x);
        free(w);
    }
}

/* The packed copy follows the natural tensor when told to. */
static void test_refresh(void **state)
{
    (void)state;
    struct backend *backend = open_backend(NULL, 0);
    float w[6] = {1, 2, 3, 4, 5, 6}, x[3] = {1, 10, 100}, y[2];
    struct weight *weight = make_weight(backend, w, 2, 3, DTYPE_F32);
    struct matmul_forward p = {.w = weight, .m = 1, .x = x, .y = y, .y_stride = 2, .y_type = DTYPE_F32};
    w[5] = 7;
    backend->ops->matmul_forward(backend, &p);
    assert_true(y[0] == 321.0f && y[1] == 654.0f);
    backend->ops->weight_refresh(backend, weight);
    backend->ops->matmul_forward(backend, &p);
    assert_true(y[0] == 321.0f && y[1] == 754.0f);
    backend->ops->weight_destroy(backend, weight);
    backend_destroy(backend);
}

static void test_create_errors(void **state)
{
    (void)state;
    struct backend *backend = NULL;
    cohort_error err = {0};
    assert_int_equal(backend_cpu_create(&backend, "sse9", 1, &err), COHORT_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "sse9"));
    assert_null(backend);
    assert_int_equal(backend_cpu_create(&backend, NULL, -1, &err), COHORT_ERR_ARGUMENT);
    assert_int_equal(backend_cpu_create(&backend, "portable", 1, &err), COHORT_OK);
    assert_string_equal(backend->provider_bf16, "portable");
    void *block = &err;
    assert_int_equal(backend->ops->alloc(backend, &block, SIZE_MAX, "key cache", &err), COHORT_ERR_MEMORY);
    assert_non_null(strstr(err.message, "key cache"));
    assert_null(block);
    assert_int_equal(backend->ops->alloc(backend, &block, 5 << 20, "key cache", &err), COHORT_OK);
    assert_int_equal((uintptr_t)block % 64, 0);
    assert_int_equal(((char *)block)[0], 0);
    assert_memory_equal(block, (char *)block + 1, (5 << 20) - 1);
    backend->ops->free(backend, block);
    struct weight *weight = NULL;
    assert_int_equal(
        backend->ops->weight_create(
            backend, &weight,
            &(struct weight_source){.format = STORAGE_BF16, .data = NULL, .n = INT64_MAX / 2, .k = INT64_MAX / 2},
            &err),
        COHORT_ERR_ARGUMENT);
    assert_null(weight);
    assert_int_equal(
        backend->ops->weight_create(
            backend, &weight, &(struct weight_source){.format = N_STORAGE_FORMATS, .data = NULL, .n = 2, .k = 2}, &err),
        COHORT_ERR_UNSUPPORTED);
    backend->ops->weight_destroy(backend, NULL);
    backend_destroy(backend);
    backend_destroy(NULL);
}

int main(void)
{
    for (int i = 0; i < N_ISAS; i++) {
        struct backend *backend = open_backend(isa_names[i], 0);
        printf("%-12s %s\n", isa_names[i], backend != NULL ? "tested" : "not on this machine");
        backend_destroy(backend);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference),
        cmocka_unit_test(test_row_invariance),
        cmocka_unit_test(test_large_invariance),
        cmocka_unit_test(test_backward_input_parts),
        cmocka_unit_test(test_accumulate_is_one_addition),
        cmocka_unit_test(test_nan_stays_in_its_row),
        cmocka_unit_test(test_backward_threads),
        cmocka_unit_test(test_refresh),
        cmocka_unit_test(test_create_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

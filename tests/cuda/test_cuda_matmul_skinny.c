/* Products of few rows on the CUDA backend (kernel_matmul_skinny.cu), under every way to spread them over the device:
 * against exact sums of small integers, and bit for bit against products of many rows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "backend/ops.h"
#include "backend/cuda/kernel_matmul_skinny.h"
#include "base/rng.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GAP = 3, GUARD = 64, MAX_M = 8 };

static struct backend *backend;

static int setup(void **state)
{
    (void)state;
    cohort_error err = {0};
    return backend_cuda_create(&backend, 0, &err) == COHORT_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    backend_destroy(backend);
    return 0;
}

static void must_be_well(void)
{
    cohort_error err = {0};
    backend->ops->wait(backend);
    if (backend->ops->check(backend, &err) != COHORT_OK)
        fail_msg("%s", err.message);
}

static void *must(void *p)
{
    assert_non_null(p);
    return p;
}

static void *on_device(const void *from, size_t bytes)
{
    cohort_error err = {0};
    void *p = NULL;
    if (backend->ops->alloc(backend, &p, bytes, "a test's tensor", &err) != COHORT_OK)
        fail_msg("%s", err.message);
    backend->ops->upload(backend, p, from, bytes);
    return p;
}

/* A product's operands here and on the device, in memory of exactly their size. */
struct operands {
    int64_t m, n, k;
    uint16_t *x, *w; /* [m, k], [n, k] */
    void *device_x, *device_w;
};

/* Integers of -4 .. 4: all sums of their products are exact in fp32, in whatever order. */
static uint16_t small_integer(uint64_t stream, int64_t i)
{
    struct rng_block block = rng_philox(3, RNG_TEST, stream, (uint64_t)i);
    return bf16_from_f32((float)((int)(block.word[0] % 9u) - 4));
}

static uint16_t uniform(uint64_t stream, int64_t i)
{
    struct rng_block block = rng_philox(5, RNG_TEST, stream, (uint64_t)i);
    return bf16_from_f32(2.0f * rng_uniform(block.word[0]) - 1.0f);
}

static struct operands operands_new(int64_t m, int64_t n, int64_t k, uint16_t (*element)(uint64_t, int64_t))
{
    struct operands o = {.m = m, .n = n, .k = k};
    o.x = must(malloc((size_t)(m * k) * 2));
    o.w = must(malloc((size_t)(n * k) * 2));
    for (int64_t i = 0; i < m * k; i++)
        o.x[i] = element(1, i);
    for (int64_t i = 0; i < n * k; i++)
        o.w[i] = element(2, i);
    o.device_x = on_device(o.x, (size_t)(m * k) * 2);
    o.device_w = on_device(o.w, (size_t)(n * k) * 2);
    return o;
}

static void operands_free(struct operands *o)
{
    backend->ops->free(backend, o->device_x);
    backend->ops->free(backend, o->device_w);
    free(o->x);
    free(o->w);
}

/* y between guards, rows n + GAP apart. What it holds before: old(i) where a product adds to it, a pattern
 * elsewhere. */
struct output {
    enum dtype type;
    bool accumulate;
    int64_t m, n, stride;
    size_t bytes; /* with guards */
    unsigned char *before, *after;
};

static float old_value(int64_t i) { return (float)(i % 11) - 5.0f; }

static struct output output_new(int64_t m, int64_t n, enum dtype type, bool accumulate)
{
    struct output y = {.type = type, .accumulate = accumulate, .m = m, .n = n, .stride = n + GAP};
    const int64_t count = (m - 1) * y.stride + n;
    y.bytes = (size_t)count * dtype_bytes(type) + 2 * GUARD;
    y.before = must(malloc(y.bytes));
    y.after = must(malloc(y.bytes));
    memset(y.before, 0xa5, y.bytes);
    for (int64_t i = 0; accumulate && i < count; i++) {
        float old = old_value(i);
        memcpy(y.before + GUARD + (size_t)i * 4, &old, 4);
    }
    return y;
}

static void output_free(struct output *y)
{
    free(y->before);
    free(y->after);
}

static void run(struct output *y, const struct operands *o, const struct cuda_skinny_plan *plan)
{
    unsigned char *device = on_device(y->before, y->bytes);
    cuda_skinny_launch(backend, o->device_w, o->n, o->k,
                       &(struct matmul_forward){.m = y->m,
                                                .x = o->device_x,
                                                .y = device + GUARD,
                                                .y_stride = y->stride,
                                                .y_type = y->type,
                                                .accumulate = y->accumulate},
                       plan);
    must_be_well();
    backend->ops->download(backend, y->after, device, y->bytes);
    backend->ops->free(backend, device);
}

/* Guards and what lies between the rows are as they were. */
static void check_rest(const struct output *y)
{
    const size_t size = dtype_bytes(y->type);
    assert_memory_equal(y->after, y->before, GUARD);
    assert_memory_equal(y->after + y->bytes - GUARD, y->before + y->bytes - GUARD, GUARD);
    for (int64_t i = 0; i + 1 < y->m; i++) {
        const size_t gap = GUARD + (size_t)(i * y->stride + y->n) * size;
        assert_memory_equal(y->after + gap, y->before + gap, GAP * size);
    }
}

/* sums[i, j] exact. */
static void check_exact(const struct output *y, const float *sums, const char *what)
{
    for (int64_t i = 0; i < y->m; i++)
        for (int64_t j = 0; j < y->n; j++) {
            const int64_t at = i * y->stride + j;
            const float wanted = (y->accumulate ? old_value(at) : 0.0f) + sums[i * y->n + j];
            float got;
            if (y->type == DTYPE_F32) {
                memcpy(&got, y->after + GUARD + (size_t)at * 4, 4);
                if (memcmp(&got, &wanted, 4) != 0)
                    fail_msg("%s: element %lld, %lld is %.9g, not %.9g", what, (long long)i, (long long)j, (double)got,
                             (double)wanted);
            } else {
                uint16_t bits;
                memcpy(&bits, y->after + GUARD + (size_t)at * 2, 2);
                if (bits != bf16_from_f32(wanted))
                    fail_msg("%s: element %lld, %lld is %.9g, not %.9g rounded", what, (long long)i, (long long)j,
                             (double)f32_from_bf16(bits), (double)wanted);
            }
        }
}

/* Plan number i for these sizes, as on a device of few multiprocessors so that warps get several tiles; a ring if it
 * cannot be resident. False if the device's shared memory rules both out. */
static bool plan_number(int i, int64_t m, int64_t n, int64_t k, struct cuda_skinny_plan *plan, char *what,
                        size_t what_bytes)
{
    static const int warps[] = {1, 3, 8, 2}, depths[] = {4, 8, 16, 4, 8}, processors[] = {1, 6, 132};
    struct cuda_state few = *cuda_state_of(backend);
    few.multiprocessors = processors[i % 3];
    *plan = (struct cuda_skinny_plan){.tile_rows = i / 2 % 2 == 0 ? 8 : 16,
                                      .warps = warps[i / 4 % 4],
                                      .depth = depths[i % 5],
                                      .resident = i / 4 % 3 == 0,
                                      .overlap = i % 7 == 0};
    snprintf(what, what_bytes, "m %lld n %lld k %lld, plan %d", (long long)m, (long long)n, (long long)k, i);
    if (cuda_skinny_finish(&few, m, n, k, plan))
        return true;
    plan->resident = false;
    return cuda_skinny_finish(&few, m, n, k, plan);
}

/* Around the tiles of 8 and 16 rows, steps of 16 and stages of 128 columns, up to 8 rows of x. */
static const int64_t sizes[][3] = {{1, 1, 8},     {2, 7, 16},   {7, 8, 40},    {8, 9, 120},  {3, 15, 128}, {5, 16, 136},
                                   {6, 17, 256},  {7, 48, 24},  {8, 33, 264},  {1, 40, 128}, {3, 24, 152}, {4, 56, 384},
                                   {1, 200, 640}, {4, 130, 72}, {8, 16, 1032}, {8, 44, 512}, {2, 70, 640}};
enum { N_SIZES = sizeof sizes / sizeof sizes[0], N_PLANS = 60, PLANS_EACH = 12 };

static void test_exact(void **state)
{
    (void)state;
    for (int s = 0; s < N_SIZES; s++) {
        const int64_t m = sizes[s][0], n = sizes[s][1], k = sizes[s][2];
        struct operands o = operands_new(m, n, k, small_integer);
        float *sums = must(calloc((size_t)(m * n), sizeof *sums));
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < n; j++)
                for (int64_t l = 0; l < k; l++)
                    sums[i * n + j] += f32_from_bf16(o.x[i * k + l]) * f32_from_bf16(o.w[j * k + l]);
        int tried = 0, resident = 0;
        for (int i = 0; i < PLANS_EACH; i++) {
            struct cuda_skinny_plan plan;
            char what[100];
            if (!plan_number((i * 7 + s) % N_PLANS, m, n, k, &plan, what, sizeof what))
                continue;
            struct output y = output_new(m, n, i % 3 == 0 ? DTYPE_BF16 : DTYPE_F32, i % 3 == 1);
            run(&y, &o, &plan);
            check_exact(&y, sums, what);
            check_rest(&y);
            output_free(&y);
            tried++;
            resident += plan.resident;
        }
        assert_true(tried >= 3);
        assert_true(k % 128 != 0 || resident >= 2);
        free(sums);
        operands_free(&o);
    }
}

/* y of the first rows by matmul_forward, or (of_few) by the plan of choice for 8 rows. */
static float *reference_rows(const struct operands *o, bool of_few)
{
    struct weight *weight = NULL;
    struct cuda_skinny_plan plan;
    cohort_error err = {0};
    const size_t bytes = (size_t)(o->m * o->n) * sizeof(float);
    float *y = must(calloc(1, bytes)), *device = on_device(y, bytes);
    struct matmul_forward p = {
        .m = of_few ? MAX_M : o->m, .x = o->device_x, .y = device, .y_stride = o->n, .y_type = DTYPE_F32};
    if (of_few) {
        assert_true(cuda_skinny_choose(cuda_state_of(backend), MAX_M, o->n, o->k, &plan));
        cuda_skinny_launch(backend, o->device_w, o->n, o->k, &p, &plan);
    } else {
        if (backend->ops->weight_create(backend, &weight, o->device_w, o->n, o->k, DTYPE_BF16, &err) != COHORT_OK)
            fail_msg("%s", err.message);
        p.w = weight;
        backend->ops->matmul_forward(backend, &p);
        backend->ops->weight_destroy(backend, weight);
    }
    must_be_well();
    backend->ops->download(backend, y, device, bytes);
    backend->ops->free(backend, device);
    return y;
}

/* Row i of x has the same bits in y whatever the number of rows and the plan; if many, the bits that a product of so
 * many rows gives (cuBLASLt's then). Inputs whose sums are not exact: any other order over k shows. */
static void check_bits(int64_t n, int64_t k, int64_t many)
{
    static const int64_t few[] = {1, 2, 3, 4, 5, 7, 8};
    struct operands o = operands_new(many > 0 ? many : MAX_M, n, k, uniform);
    float *wanted = reference_rows(&o, many == 0);
    for (size_t f = 0; f < sizeof few / sizeof few[0]; f++)
        for (int i = (int)f; i < N_PLANS; i += 17) {
            struct cuda_skinny_plan plan;
            char what[100];
            if (!plan_number(i, few[f], n, k, &plan, what, sizeof what))
                continue;
            struct output y = output_new(few[f], n, DTYPE_F32, false);
            run(&y, &o, &plan);
            for (int64_t row = 0; row < few[f]; row++)
                if (memcmp(y.after + GUARD + (size_t)(row * y.stride) * 4, wanted + row * n, (size_t)n * 4) != 0)
                    fail_msg("%s: row %lld is not that of %lld rows", what, (long long)row,
                             (long long)(many > 0 ? many : MAX_M));
            output_free(&y);
        }
    free(wanted);
    operands_free(&o);
}

static bool small_only;
static bool brief_only; /* nothing of cuBLASLt, whose kernels racecheck breaks */

static void test_bits(void **state)
{
    (void)state;
    check_bits(40, 400, 0);
    check_bits(24, 1024, small_only && !brief_only ? 80 : 0);
    /* cuBLASLt sums in one chain at published sizes; at others its kernels may not. */
    if (!small_only) {
        check_bits(1024, 2048, 256);
        check_bits(1024, 3072, 256);
        check_bits(6144, 1024, 256);
    }
}

/* ---- x made by the product ---- */

static float uniform_float(uint64_t stream, int64_t i)
{
    return 2.0f * rng_uniform(rng_philox(5, RNG_TEST, stream, (uint64_t)i).word[0]) - 1.0f;
}

/* The product with the norm that makes x named in it has the bits of the norm and then the product: x itself is NaN in
 * the first. */
static void check_made(int64_t m, int64_t n, int64_t k, int number)
{
    struct operands o = operands_new(m, n, k, uniform);
    float *residual = must(malloc((size_t)(m * k) * 4));
    uint16_t *gain = must(malloc((size_t)k * 2));
    for (int64_t i = 0; i < m * k; i++)
        residual[i] = 3.0f * uniform_float(11, i) + (i % 97 == 0 ? 40.0f : 0.0f);
    for (int64_t i = 0; i < k; i++)
        gain[i] = bf16_from_f32(1.0f + uniform_float(13, i));
    void *residual_there = on_device(residual, (size_t)(m * k) * 4);
    void *gain_there = on_device(gain, (size_t)k * 2);
    const struct rmsnorm_forward norm = {.rows = m,
                                         .width = k,
                                         .x = residual_there,
                                         .gain = gain_there,
                                         .gain_type = DTYPE_BF16,
                                         .eps = 1e-6f,
                                         .y = o.device_x,
                                         .y_type = DTYPE_BF16};
    struct cuda_skinny_plan plan;
    char what[100];
    assert_true(plan_number(number, m, n, k, &plan, what, sizeof what));
    struct output y[2] = {output_new(m, n, DTYPE_F32, true), output_new(m, n, DTYPE_F32, true)};
    struct matmul_forward p = {
        .m = m, .x = o.device_x, .y_stride = y[0].stride, .y_type = DTYPE_F32, .accumulate = true};
    for (int made = 0; made < 2; made++) {
        unsigned char *to = on_device(y[made].before, y[made].bytes);
        memset(o.x, 0xff, (size_t)(m * k) * 2);
        backend->ops->upload(backend, o.device_x, o.x, (size_t)(m * k) * 2);
        p.y = to + GUARD;
        p.norm = made ? &norm : NULL;
        if (!made)
            backend->ops->rmsnorm_forward(backend, &norm);
        const bool done = cuda_skinny_launch(backend, o.device_w, n, k, &p, &plan);
        assert_int_equal(done, !made || (plan.resident && m == 1));
        must_be_well();
        backend->ops->download(backend, y[made].after, to, y[made].bytes);
        backend->ops->free(backend, to);
        if (!done) /* and nothing was done */
            assert_memory_equal(y[made].after, y[made].before, y[made].bytes);
        else if (made && memcmp(y[0].after, y[1].after, y[0].bytes) != 0)
            fail_msg("%s: not the bits of two operations", what);
    }
    output_free(&y[0]);
    output_free(&y[1]);
    backend->ops->free(backend, residual_there);
    backend->ops->free(backend, gain_there);
    free(residual);
    free(gain);
    operands_free(&o);
}

static void test_made(void **state)
{
    (void)state;
    /* Widths that give the norm 1 to 16 warps, one of them in part. */
    static const int64_t widths[] = {128, 384, 1024, 1152, 2048, 2560, 4096};
    for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++)
        for (int number = 0; number < N_PLANS; number += 13 + (int)i)
            check_made(1, 24, widths[i], number);
    check_made(2, 24, 1024, 0);
}

/* What other rows hold does not matter: NaN neither. */
static void test_rows_apart(void **state)
{
    (void)state;
    enum { M = 7, N = 24, K = 136 };
    struct operands o = operands_new(M, N, K, small_integer);
    float sums[N] = {0};
    for (int64_t j = 0; j < N; j++)
        for (int64_t l = 0; l < K; l++)
            sums[j] += f32_from_bf16(o.x[5 * K + l]) * f32_from_bf16(o.w[j * K + l]);
    for (int64_t i = 0; i < M * K; i++)
        if (i / K != 5)
            o.x[i] = 0x7fc0;
    backend->ops->upload(backend, o.device_x, o.x, (size_t)M * K * 2);
    for (int i = 0; i < 8; i++) {
        struct cuda_skinny_plan plan;
        char what[100];
        if (!plan_number(i, M, N, K, &plan, what, sizeof what))
            continue;
        struct output y = output_new(M, N, DTYPE_F32, false);
        run(&y, &o, &plan);
        assert_memory_equal(y.after + GUARD + (size_t)(5 * y.stride) * 4, sums, sizeof sums);
        output_free(&y);
    }
    operands_free(&o);
}

/* A chain of products, each of the one before, launched as early as can be: nobody reads what is not written yet,
 * nobody overwrites what is still read. */
static void test_overlap(void **state)
{
    (void)state;
    enum { STEPS = 20, M = 3 };
    const int64_t n = small_only ? 64 : 1024;
    const size_t bytes = (size_t)(M * n) * 2;
    struct operands o = operands_new(M, n, n, uniform);
    uint16_t *results[2];
    for (int early = 0; early < 2; early++) {
        void *buffers[2] = {on_device(o.x, bytes), on_device(o.x, bytes)};
        struct cuda_skinny_plan plan;
        assert_true(cuda_skinny_choose(cuda_state_of(backend), M, n, n, &plan));
        plan.overlap = early != 0;
        for (int step = 0; step < STEPS; step++)
            cuda_skinny_launch(
                backend, o.device_w, n, n,
                &(struct matmul_forward){
                    .m = M, .x = buffers[step % 2], .y = buffers[(step + 1) % 2], .y_stride = n, .y_type = DTYPE_BF16},
                &plan);
        must_be_well();
        results[early] = must(malloc(bytes));
        backend->ops->download(backend, results[early], buffers[STEPS % 2], bytes);
        for (int i = 0; i < 2; i++)
            backend->ops->free(backend, buffers[i]);
    }
    assert_memory_equal(results[0], results[1], bytes);
    for (size_t i = 0; i < bytes / 2; i++) /* finite, so every step mattered */
        assert_true((results[0][i] & 0x7f80) != 0x7f80);
    free(results[0]);
    free(results[1]);
    operands_free(&o);
}

/* The plans of choice: for the sizes of a model they fit, use the device and leave no tile out. */
static void test_choice(void **state)
{
    (void)state;
    static const int64_t model[][2] = {{4096, 1024},  {1024, 2048},   {6144, 1024},  {1024, 3072},
                                       {6144, 4096},  {4096, 4096},   {24576, 4096}, {4096, 12288},
                                       {10240, 5120}, {51200, 5120},  {5120, 25600}, {5120, 8192},
                                       {19456, 2560}, {151936, 1024}, {2560, 9728},  {2048, 6144}};
    struct cuda_state h200 = *cuda_state_of(backend), a100 = h200;
    int resident = 0, rings = 0;
    h200.multiprocessors = 132, h200.compute = 90, h200.shared_per_block = 227 << 10;
    a100.multiprocessors = 108, a100.compute = 80, a100.shared_per_block = 163 << 10;
    for (size_t i = 0; i < sizeof model / sizeof model[0]; i++)
        for (int64_t m = 1; m <= MAX_M; m++)
            for (int device = 0; device < 2; device++) {
                const struct cuda_state *s = device == 0 ? &h200 : &a100;
                struct cuda_skinny_plan plan;
                const bool takes = cuda_skinny_takes(s, m, model[i][0], model[i][1], &plan);
                assert_int_equal(takes, m == 1 || (m <= 4 && model[i][1] <= 4096));
                /* More rows of a long k than shared memory holds have no plan. */
                if (!cuda_skinny_choose(s, m, model[i][0], model[i][1], &plan)) {
                    assert_false(takes);
                    continue;
                }
                assert_true(plan.shared <= s->shared_per_block);
                assert_true(plan.blocks <= s->multiprocessors && plan.warps <= 8);
                /* On their way: at least 24 KB a multiprocessor, or all that its warps read. */
                const int64_t stages = (model[i][1] + 127) / 128;
                const int64_t tiles = (model[i][0] + plan.tile_rows - 1) / plan.tile_rows;
                if (plan.resident)
                    assert_true((int64_t)plan.blocks * plan.warps >= tiles);
                resident += plan.resident;
                rings += !plan.resident;
                assert_true(!takes || plan.resident || plan.depth >= stages ||
                            plan.warps * plan.depth * plan.tile_rows * 256 >= 24 << 10);
                /* Tiles of 8 rows need not divide evenly: 320 of them are 107 times 3. */
                if (m == 1 && device == 0)
                    assert_true(plan.blocks * 4 >= s->multiprocessors * 3);
            }
    struct cuda_skinny_plan plan;
    assert_true(resident > 0 && rings > 0);
    assert_false(cuda_skinny_takes(&h200, 1, 64, 12, &plan));
    assert_false(cuda_skinny_takes(&h200, 5, 4096, 1024, &plan));
    assert_true(cuda_skinny_takes(&h200, 1, 1, 8, &plan));
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        brief_only = brief_only || strcmp(argv[i], "--brief") == 0;
        small_only = small_only || brief_only || strcmp(argv[i], "--small") == 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exact),      cmocka_unit_test(test_bits),    cmocka_unit_test(test_made),
        cmocka_unit_test(test_rows_apart), cmocka_unit_test(test_overlap), cmocka_unit_test(test_choice),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

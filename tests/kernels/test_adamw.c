/* AdamW against torch, its split master, and the sum of squares. */
#include "backend/ops.h"
#include "kernels/kernel_test.h"

#include <jansson.h>

static void (*const adamw[])(struct backend *, const struct adamw *) = OPERATION(adamw);
static double (*const sum_squares[])(struct backend *, const float *, int64_t) = OPERATION(sum_squares);

enum { MAX_COUNT = 64 };

static int read_floats(const json_t *array, float *out)
{
    int n = (int)json_array_size(array);
    assert_in_range(n, 1, MAX_COUNT);
    for (int i = 0; i < n; i++)
        out[i] = (float)json_number_value(json_array_get(array, (size_t)i));
    return n;
}

static float number_of(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    assert_true(json_is_number(value));
    return (float)json_number_value(value);
}

/* Within 1e-6 of the expected value, or of the size of what was summed up to it if that is given.
 */
static void check_floats(const json_t *wanted, const float *got, const double *size)
{
    float expected[MAX_COUNT];
    int n = read_floats(wanted, expected);
    for (int i = 0; i < n; i++)
        expect_near((double)got[i], (double)expected[i], DTYPE_F32, size ? size[i] : fabs((double)expected[i]), 1e-6);
}

static void check_against_torch(int isa, const json_t *test)
{
    struct backend backend = backend_with(1);
    float w[MAX_COUNT], grad[MAX_COUNT];
    float m[MAX_COUNT] = {0}, v[MAX_COUNT] = {0};
    const json_t *grads = json_object_get(test, "grads");
    const json_t *weights = json_object_get(test, "weights");
    struct adamw params = {.count = read_floats(json_object_get(test, "start"), w),
                           .weight = w,
                           .type = DTYPE_F32,
                           .grad = grad,
                           .m = m,
                           .v = v,
                           .grad_scale = number_of(test, "grad_scale"),
                           .learning_rate = number_of(test, "learning_rate"),
                           .beta1 = 0.9f,
                           .beta2 = 0.999f,
                           .eps = number_of(test, "eps"),
                           .weight_decay = number_of(test, "weight_decay")};
    for (size_t step = 0; step < json_array_size(grads); step++) {
        read_floats(json_array_get(grads, step), grad);
        params.step = (int64_t)step + 1;
        adamw[isa](&backend, &params);
        check_floats(json_array_get(weights, step), w, NULL);
    }
    check_floats(json_object_get(test, "v"), v, NULL);
    /* m adds gradients of either sign: its rounding is relative to their root mean square. */
    double rms[MAX_COUNT];
    for (int i = 0; i < MAX_COUNT; i++)
        rms[i] = sqrt((double)v[i] / (1.0 - pow((double)0.999f, 10.0)));
    check_floats(json_object_get(test, "m"), m, rms);
}

static void test_against_torch(void **state)
{
    (void)state;
    json_error_t error;
    json_t *root = json_load_file(COHORT_SOURCE_DIR "/tests/fixtures/adamw_torch.json", 0, &error);
    assert_non_null(root);
    const json_t *cases = json_object_get(root, "cases");
    assert_int_equal(json_array_size(cases), 3);
    for (size_t i = 0; i < json_array_size(cases); i++)
        EACH_ISA(isa) check_against_torch(isa, json_array_get(cases, i));
    json_decref(root);
}

static float master_of(uint16_t high, int16_t low)
{
    return f32_from_bits(((uint32_t)high << 16) + (uint32_t)(int32_t)low);
}

static void split(float master, uint16_t *high, int16_t *low)
{
    uint32_t bits = f32_bits(master);
    *high = (uint16_t)((bits + 0x8000u) >> 16);
    *low = (int16_t)(uint16_t)(bits & 0xffffu);
}

/* 1000 steps of split bf16 and of plain fp32 leave the same master bits, moments included; the high
 * half is the master rounded. */
static void test_split_is_exact(void **state)
{
    (void)state;
    enum { COUNT = 300 }; /* a whole tile of 256 and a part */
    EACH_ISA(isa)
    {
        struct backend backend = backend_with(1);
        float plain[COUNT], grad[COUNT];
        float m[2][COUNT] = {{0}}, v[2][COUNT] = {{0}};
        uint16_t high[COUNT + 2];
        int16_t low[COUNT + 2];
        memset(high, GUARD_BYTE, sizeof high);
        memset(low, GUARD_BYTE, sizeof low);
        fill(plain, DTYPE_F32, COUNT, 20, 0.1);
        for (int i = 0; i < COUNT; i++)
            split(plain[i], &high[i + 1], &low[i + 1]);
        struct adamw params = {COUNT, plain, NULL,  DTYPE_F32, grad,  m[0],  v[0],  DTYPE_F32,
                               0,     0.5f,  1e-4f, 0.9f,      0.99f, 1e-8f, 0.01f, 1};
        struct adamw halves = params;
        halves.weight = high + 1;
        halves.low = low + 1;
        halves.type = DTYPE_BF16;
        halves.m = m[1];
        halves.v = v[1];
        for (int step = 1; step <= 1000; step++) {
            fill(grad, DTYPE_F32, COUNT, 21 + (uint64_t)step % 16, 1.0);
            params.step = halves.step = step;
            adamw[isa](&backend, &params);
            adamw[isa](&backend, &halves);
        }
        for (int i = 0; i < COUNT; i++) {
            float master = master_of(high[i + 1], low[i + 1]);
            assert_memory_equal(&master, &plain[i], sizeof master);
            assert_true(fabsf(f32_from_bf16(high[i + 1]) - master) <= fabsf(master) * 0x1p-8f);
        }
        assert_memory_equal(m[1], m[0], sizeof m[0]);
        assert_memory_equal(v[1], v[0], sizeof v[0]);
        assert_int_equal(high[0], GUARD_BYTE << 8 | GUARD_BYTE);
        assert_int_equal(high[COUNT + 1], GUARD_BYTE << 8 | GUARD_BYTE);
        assert_int_equal((uint16_t)low[0], GUARD_BYTE << 8 | GUARD_BYTE);
        assert_int_equal((uint16_t)low[COUNT + 1], GUARD_BYTE << 8 | GUARD_BYTE);
    }
}

/* At a learning rate of 1e-6 a step is far below half a bf16 step at 1: bf16 alone stands still,
 * the split master moves by 1000 steps of 1e-6. */
static void test_small_rate_is_not_lost(void **state)
{
    (void)state;
    EACH_ISA(isa)
    {
        struct backend backend = backend_with(1);
        uint16_t high = 0x3f80; /* 1.0 */
        int16_t low = 0;
        float grad = 1.0f, m = 0.0f, v = 0.0f, bare_m = 0.0f, bare_v = 0.0f;
        uint16_t bare = high;
        struct adamw params = {1, &high, &low,  DTYPE_BF16, &grad,  &m,    &v,   DTYPE_F32,
                               0, 1.0f,  1e-6f, 0.9f,       0.999f, 1e-8f, 0.0f, 1};
        for (int step = 1; step <= 1000; step++) {
            params.step = step;
            adamw[isa](&backend, &params);
            float rounded = f32_from_bf16(bare);
            struct adamw plain = params;
            plain.weight = &rounded;
            plain.type = DTYPE_F32;
            plain.low = NULL;
            plain.m = &bare_m;
            plain.v = &bare_v;
            adamw[isa](&backend, &plain);
            bare = bf16_from_f32(rounded);
        }
        assert_int_equal(bare, 0x3f80);
        /* 1000 roundings to the fp32 step below 1, 6e-8, each half of it at most. */
        expect_near((double)master_of(high, low), 1.0 - 1e-3, DTYPE_F32, 1.0, 3e-5);
    }
}

/* Chunks of threads: 40,000 elements, both types. */
static void test_adamw_threads(void **state)
{
    (void)state;
    enum { COUNT = 40001 };
    static float w[2][COUNT], grad[COUNT], m[2][COUNT], v[2][COUNT];
    static int16_t low[2][COUNT];
    fill(grad, DTYPE_F32, COUNT, 40, 1.0);
    EACH_ISA(isa)
    for (int type = DTYPE_F32; type <= DTYPE_BF16; type++) {
        memset(m, 0, sizeof m);
        memset(v, 0, sizeof v);
        memset(low, 0, sizeof low);
        for (int run = 0; run < 2; run++) {
            struct backend backend = backend_with(run + 1);
            fill(w[run], (enum dtype)type, COUNT, 41, 1.0);
            struct adamw params = {COUNT, w[run], low[run], (enum dtype)type, grad,  m[run], v[run], DTYPE_F32, 0,
                                   1.0f,  1e-3f,  0.9f,     0.999f,           1e-8f, 0.1f,   1};
            adamw[isa](&backend, &params);
        }
        assert_memory_equal(w[1], w[0], COUNT * dtype_bytes((enum dtype)type));
        assert_memory_equal(low[1], low[0], sizeof low[0]);
        assert_memory_equal(m[1], m[0], sizeof m[0]);
        assert_memory_equal(v[1], v[0], sizeof v[0]);
    }
}

/* Moments in bf16. With a constant gradient v creeps up by less than half a unit of bf16 a step, so rounding to nearest
 * would leave it standing still; rounded at random its mean follows fp32. One call, two threads and two calls with
 * their own first draw the same. */
static void test_adamw_narrow_moments(void **state)
{
    (void)state;
    enum { COUNT = 40000, HALF = COUNT / 2, STEPS = 300 };
    static float w[2][COUNT], grad[COUNT], wide_m[1], wide_v[1];
    static uint16_t m[2][COUNT], v[2][COUNT];
    for (int i = 0; i < COUNT; i++)
        grad[i] = 0.75f;
    EACH_ISA(isa)
    {
        memset(m, 0, sizeof m);
        memset(v, 0, sizeof v);
        memset(w, 0, sizeof w);
        wide_m[0] = wide_v[0] = 0.0f;
        float one = 0.0f;
        struct backend alone = backend_with(1);
        struct backend two = backend_with(2);
        for (int step = 1; step <= STEPS; step++) {
            struct adamw params = {.count = COUNT,
                                   .weight = w[0],
                                   .type = DTYPE_F32,
                                   .grad = grad,
                                   .m = m[0],
                                   .v = v[0],
                                   .moment_type = DTYPE_BF16,
                                   .first = 1002,
                                   .grad_scale = 1.0f,
                                   .learning_rate = 1e-3f,
                                   .beta1 = 0.9f,
                                   .beta2 = 0.9999f,
                                   .eps = 1e-8f,
                                   .step = step};
            adamw[isa](&two, &params);
            for (int part = 0; part < 2; part++) {
                struct adamw half = params;
                half.count = HALF;
                half.first = params.first + part * HALF;
                half.weight = w[1] + part * HALF;
                half.m = m[1] + part * HALF;
                half.v = v[1] + part * HALF;
                adamw[isa](&alone, &half);
            }
            struct adamw wide = params;
            wide.count = 1;
            wide.weight = &one;
            wide.m = wide_m;
            wide.v = wide_v;
            wide.moment_type = DTYPE_F32;
            adamw[isa](&alone, &wide);
        }
        assert_memory_equal(m[0], m[1], sizeof m[0]);
        assert_memory_equal(v[0], v[1], sizeof v[0]);
        assert_memory_equal(w[0], w[1], sizeof w[0]);
        double mean_m = 0.0;
        double mean_v = 0.0;
        for (int i = 0; i < COUNT; i++) {
            mean_m += (double)f32_from_bf16(m[0][i]) / COUNT;
            mean_v += (double)f32_from_bf16(v[0][i]) / COUNT;
        }
        /* 300 roundings of at most 2^-8, their errors' mean over 40,000 elements: well below 1e-3. */
        expect_near(mean_m, (double)wide_m[0], DTYPE_F32, 0.75, 1e-3);
        expect_near(mean_v, (double)wide_v[0], DTYPE_F32, (double)wide_v[0], 1e-3);
    }
}

/* More than one batch of blocks would be 64 MB; two blocks and a part show the order. All
 * instruction sets agree. */
static void test_sum_squares(void **state)
{
    (void)state;
    enum { COUNT = 2 * 65536 + 77 };
    static float x[COUNT];
    fill(x, DTYPE_F32, COUNT, 50, 3.0);
    const int64_t counts[] = {0, 1, 31, 32, 33, 65536, 65537, COUNT};
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        double wanted = 0.0;
        for (int64_t i = 0; i < counts[c]; i++)
            wanted += (double)x[i] * (double)x[i];
        EACH_ISA(isa)
        {
            struct backend one = backend_with(1);
            struct backend two = backend_with(2);
            double sum = sum_squares[isa](&one, x, counts[c]);
            expect_near(sum, wanted, DTYPE_F32, wanted, 1e-13);
            assert_true(sum == sum_squares[isa](&two, x, counts[c]));
            assert_true(sum == sum_squares[0](&one, x, counts[c]));
        }
    }
    /* Squares beyond fp32 are no overflow; a NaN shows. */
    float large[2] = {3e30f, 4e30f};
    struct backend one = backend_with(1);
    EACH_ISA(isa)
    {
        expect_near(sqrt(sum_squares[isa](&one, large, 2)), 5e30, DTYPE_F32, 5e30, 1e-7);
        large[1] = NAN;
        assert_true(isnan(sum_squares[isa](&one, large, 2)));
        large[1] = 4e30f;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_torch),          cmocka_unit_test(test_split_is_exact),
        cmocka_unit_test(test_small_rate_is_not_lost), cmocka_unit_test(test_adamw_threads),
        cmocka_unit_test(test_adamw_narrow_moments),   cmocka_unit_test(test_sum_squares),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

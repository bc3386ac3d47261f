/* Embedding, SwiGLU and conversion against double references and finite differences, on every
 * instruction set. */
#include "backend/ops.h"
#include "kernels/kernel_test.h"

static void (*const embed_f[])(struct backend *, const struct embed_forward *) = OPERATION(embed_forward);
static void (*const embed_b[])(struct backend *, const struct embed_backward *) = OPERATION(embed_backward);
static void (*const swiglu_f[])(struct backend *, const struct swiglu_forward *) = OPERATION(swiglu_forward);
static void (*const swiglu_b[])(struct backend *, const struct swiglu_backward *) = OPERATION(swiglu_backward);
static void (*const convert_op[])(struct backend *, const struct convert *) = OPERATION(convert);

enum { TOKENS = 5, VOCAB = 4 };
static const int32_t token[TOKENS] = {2, 0, 2, 3, 2};

static void check_embed(int isa, int64_t width, enum dtype type, int threads)
{
    struct backend backend = backend_with(threads);
    const size_t table_bytes = (size_t)(VOCAB * width) * dtype_bytes(type);
    const size_t bytes = (size_t)(TOKENS * width) * sizeof(float);
    void *table = guarded(table_bytes);
    float *y = guarded(bytes);
    fill(table, type, VOCAB * width, 1, 1.0);
    struct embed_forward params = {TOKENS, width, token, table, type, y};
    embed_f[isa](&backend, &params);
    for (int t = 0; t < TOKENS; t++)
        for (int64_t i = 0; i < width; i++)
            assert_true((double)y[t * width + i] == at(table, type, token[t] * width + i));

    float *d_table = guarded((size_t)(VOCAB * width) * sizeof(float));
    fill(y, DTYPE_F32, TOKENS * width, 2, 1.0);
    fill(d_table, DTYPE_F32, VOCAB * width, 3, 1.0);
    struct embed_backward back = {TOKENS, width, VOCAB, token, y, d_table};
    embed_b[isa](&backend, &back);
    for (int32_t id = 0; id < VOCAB; id++)
        for (int64_t i = 0; i < width; i++) {
            /* In fp32, tokens ascending: the exact bits. */
            float sum = (float)number(3, id * width + i);
            for (int t = 0; t < TOKENS; t++)
                sum = token[t] == id ? sum + y[t * width + i] : sum;
            assert_true(d_table[id * width + i] == sum);
        }
    guarded_free(table, table_bytes);
    guarded_free(y, bytes);
    guarded_free(d_table, (size_t)(VOCAB * width) * sizeof(float));
}

static void test_embed(void **state)
{
    (void)state;
    EACH_ISA(isa)
    for (int w = 0; w < N_WIDTHS; w++)
        for (int threads = 1; threads <= 3; threads++) {
            check_embed(isa, test_width[w], DTYPE_F32, threads);
            check_embed(isa, test_width[w], DTYPE_BF16, threads);
        }
}

static double silu(double x) { return x / (1.0 + exp(-x)); }

static void check_swiglu(int isa, int64_t width, enum dtype act)
{
    struct backend backend = backend_with(1);
    const size_t bytes = (size_t)(TOKENS * width) * dtype_bytes(act);
    void *x = guarded(2 * bytes);
    void *dy = guarded(bytes);
    void *y = guarded(bytes);
    void *dx = guarded(2 * bytes);
    fill(x, act, 2 * TOKENS * width, 4, 8.0);
    fill(dy, act, TOKENS * width, 5, 1.0);
    struct swiglu_forward params = {TOKENS, width, x, y, act};
    struct swiglu_backward back = {TOKENS, width, x, dy, dx, act};
    swiglu_f[isa](&backend, &params);
    swiglu_b[isa](&backend, &back);
    const double h = 1e-5;
    for (int t = 0; t < TOKENS; t++)
        for (int64_t i = 0; i < width; i++) {
            int64_t g_at = t * 2 * width + i;
            int64_t u_at = g_at + width;
            double g = at(x, act, g_at);
            double u = at(x, act, u_at);
            double d = at(dy, act, t * width + i);
            expect_near(at(y, act, t * width + i), silu(g) * u, act, fabs(silu(g) * u), 5e-7);
            double d_gate = d * u * (silu(g + h) - silu(g - h)) / (2.0 * h);
            double d_up = d * silu(g);
            /* The difference quotient is good to about 1e-9 * 8. */
            expect_near(at(dx, act, g_at), d_gate, act, fabs(d * u), 1e-6);
            expect_near(at(dx, act, u_at), d_up, act, fabs(d_up), 5e-7);
        }
    /* Two threads, and the last token alone: the same bits. */
    void *again = guarded(2 * bytes);
    backend = backend_with(2);
    back.d_gate_up = again;
    swiglu_b[isa](&backend, &back);
    assert_memory_equal(again, dx, 2 * bytes);
    params.y = again;
    swiglu_f[isa](&backend, &params);
    assert_memory_equal(again, y, bytes);
    const size_t row = bytes / TOKENS;
    params.tokens = 1;
    params.gate_up = (const char *)x + 2 * row * (TOKENS - 1);
    swiglu_f[isa](&backend, &params);
    assert_memory_equal(again, (const char *)y + row * (TOKENS - 1), row);
    guarded_free(again, 2 * bytes);
    guarded_free(x, 2 * bytes);
    guarded_free(dy, bytes);
    guarded_free(y, bytes);
    guarded_free(dx, 2 * bytes);
}

static void test_swiglu(void **state)
{
    (void)state;
    EACH_ISA(isa)
    for (int w = 0; w < N_WIDTHS; w++) {
        check_swiglu(isa, test_width[w], DTYPE_F32);
        check_swiglu(isa, test_width[w], DTYPE_BF16);
    }
}

/* Where exp(-g) would overflow or vanish. */
static void test_swiglu_extremes(void **state)
{
    (void)state;
    EACH_ISA(isa)
    {
        struct backend backend = backend_with(1);
        float x[8] = {-200.0f, -88.5f, 0.0f, 200.0f, 2.0f, 2.0f, 2.0f, 2.0f};
        float dy[4] = {1.0f, 1.0f, 1.0f, 1.0f};
        float y[4], dx[8];
        struct swiglu_forward params = {1, 4, x, y, DTYPE_F32};
        struct swiglu_backward back = {1, 4, x, dy, dx, DTYPE_F32};
        swiglu_f[isa](&backend, &params);
        swiglu_b[isa](&backend, &back);
        const float wanted_y[4] = {0.0f, 0.0f, 0.0f, 400.0f};
        const float wanted_dx[8] = {0.0f, 0.0f, 1.0f, 2.0f, 0.0f, 0.0f, 0.0f, 200.0f};
        for (int i = 0; i < 4; i++)
            expect_near((double)y[i], (double)wanted_y[i], DTYPE_F32, 1.0, 1e-30);
        for (int i = 0; i < 8; i++)
            expect_near((double)dx[i], (double)wanted_dx[i], DTYPE_F32, 1.0, 1e-30);
    }
}

static void check_convert(int isa, int64_t count, enum dtype from, enum dtype to)
{
    const size_t from_bytes = (size_t)count * dtype_bytes(from);
    const size_t to_bytes = (size_t)count * dtype_bytes(to);
    unsigned char *x = guarded(from_bytes);
    unsigned char *y = guarded(to_bytes);
    for (int64_t i = 0; i < count; i++) {
        /* Any bits: NaN, infinity and numbers below the normal ones are among them. */
        struct rng_block block = rng_philox(3, RNG_TEST, 9, (uint64_t)i);
        memcpy(x + (size_t)i * dtype_bytes(from), block.word, dtype_bytes(from));
    }
    for (int threads = 1; threads <= 2; threads++) {
        struct backend backend = backend_with(threads);
        memset(y, 0, to_bytes);
        struct convert params = {count, x, from, y, to};
        convert_op[isa](&backend, &params);
        for (int64_t i = 0; i < count; i++) {
            uint16_t half;
            float wide;
            memcpy(&half, x + (size_t)i * 2, sizeof half);
            if (from == DTYPE_F32)
                memcpy(&wide, x + (size_t)i * 4, sizeof wide);
            else
                wide = from == DTYPE_BF16 ? f32_from_bf16(half) : f32_from_f16(half);
            uint16_t narrow = from == DTYPE_BF16 ? half : bf16_from_f32(wide); /* a copy is a copy */
            if (to == DTYPE_F32)
                assert_memory_equal(y + (size_t)i * 4, &wide, sizeof wide);
            else
                assert_memory_equal(y + (size_t)i * 2, &narrow, sizeof narrow);
        }
    }
    guarded_free(x, from_bytes);
    guarded_free(y, to_bytes);
}

static void test_convert(void **state)
{
    (void)state;
    EACH_ISA(isa)
    for (int from = DTYPE_F32; from <= DTYPE_F16; from++)
        for (int to = DTYPE_F32; to <= DTYPE_BF16; to++) {
            for (int w = 0; w < N_WIDTHS; w++)
                check_convert(isa, test_width[w], (enum dtype)from, (enum dtype)to);
            check_convert(isa, 16384 + 5, (enum dtype)from, (enum dtype)to);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_embed),
        cmocka_unit_test(test_swiglu),
        cmocka_unit_test(test_swiglu_extremes),
        cmocka_unit_test(test_convert),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

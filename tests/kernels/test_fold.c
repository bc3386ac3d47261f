/* A change of low rank folded into a weight, and the norms and factors of its rows or columns, against the formula: bit for bit
 * where each step is one operation of fp32, and in double; the same bits at any address, with any number of threads, and
 * on every backend that has fused multiply-adds. */
#include "kernels/kernel_test.h"

struct shape {
    int64_t n, k, r;
};

static struct fold params_of(const struct shape *s, const struct array *w, const struct array *a, const struct array *b)
{
    return (struct fold){
        .n = s->n, .k = s->k, .r = s->r, .type = w->type, .w = w->d, .a = a->d, .b = b->d, .scale = 0.75f};
}

/* Element c of row i. The portable instruction set rounds a product before it is added: then within is how far off. */
static double wanted(const struct shape *s, const struct array *w, const struct array *a, const struct array *b,
                     int64_t i, int64_t c, double *size)
{
    float sum = 0.0f;
    *size = fabs(was(w, i * s->k + c));
    for (int64_t j = 0; j < s->r; j++) {
        sum = fmaf((float)was(b, i * s->r + j), (float)was(a, j * s->k + c), sum);
        *size += fabs(was(b, i * s->r + j) * was(a, j * s->k + c));
    }
    sum *= 0.75f;
    return (double)((float)was(w, i * s->k + c) + sum);
}

static void check(const struct shape *s, enum dtype type)
{
    const bool fused = strcmp(provider, "portable") != 0;
    const struct array *w = array_new(s->n * s->k, type, 1, 1.0), *a = array_new(s->r * s->k, type, 2, 1.0),
                       *b = array_new(s->n * s->r, type, 3, 0.3), *m = array_new(s->n, DTYPE_F32, 4, 2.0);
    const struct array *to = array_new(s->n * s->k, type, 5, 1.0), *plain = array_new(s->n * s->k, type, 6, 1.0),
                       *norm = array_new(s->n, DTYPE_F32, 7, 1.0), *factor = array_new(s->n, DTYPE_F32, 8, 1.0);
    struct fold p = params_of(s, w, a, b);
    use_threads(1);
    p.to = plain->d;
    backend->ops->fold(backend, &p); /* without a magnitude */
    p.to = to->d;
    p.magnitude = m->d;
    p.norm = norm->d;
    p.factor = factor->d;
    backend->ops->fold(backend, &p);
    pull(plain), pull(to), pull(norm), pull(factor);
    for (int64_t i = 0; i < s->n; i++) {
        double square = 0;
        for (int64_t c = 0; c < s->k; c++) {
            double size = 0;
            const double v = wanted(s, w, a, b, i, c, &size), scaled = get(factor, i) * v;
            square += v * v;
            if (fused) {
                const float rounded = type == DTYPE_F32 ? (float)v : f32_from_bf16(bf16_from_f32((float)v)),
                            product = (float)get(factor, i) * (float)v;
                assert_true(f32_bits((float)get(plain, i * s->k + c)) == f32_bits(rounded));
                assert_true(f32_bits((float)get(to, i * s->k + c)) ==
                            f32_bits(type == DTYPE_F32 ? product : f32_from_bf16(bf16_from_f32(product))));
            }
            expect_near(get(plain, i * s->k + c), v, type, size, 6e-8 * (double)(s->r + 2));
            expect_near(get(to, i * s->k + c), scaled, type, fabs(get(factor, i)) * size, 6e-8 * (double)(s->r + 3));
        }
        expect_near(get(norm, i), sqrt(square), DTYPE_F32, sqrt(square), fused ? 6e-8 : 1e-6);
        assert_true(f32_bits((float)get(factor, i)) == f32_bits((float)was(m, i) / (float)get(norm, i)));
    }
    use_threads(2);
    const struct array *w2 = array_shifted(s->n * s->k, type, 1, 1.0, 1),
                       *a2 = array_shifted(s->r * s->k, type, 2, 1.0, 1),
                       *b2 = array_shifted(s->n * s->r, type, 3, 0.3, 1),
                       *to2 = array_shifted(s->n * s->k, type, 5, 1.0, 1), *norm2 = array_new(s->n, DTYPE_F32, 7, 1.0),
                       *factor2 = array_new(s->n, DTYPE_F32, 8, 1.0);
    p = params_of(s, w2, a2, b2);
    p.magnitude = m->d;
    p.norm = norm2->d;
    p.factor = factor2->d;
    p.to = to2->d;
    backend->ops->fold(backend, &p);
    expect_same("another address, two threads", to, to2);
    expect_same("norms, another address", norm, norm2);
    expect_same("factors, another address", factor, factor2);
    arrays_free();
}

/* Norms and factors of the columns in place of the rows. */
static void check_columns(const struct shape *s, enum dtype type)
{
    const bool fused = strcmp(provider, "portable") != 0;
    const struct array *w = array_new(s->n * s->k, type, 1, 1.0), *a = array_new(s->r * s->k, type, 2, 1.0),
                       *b = array_new(s->n * s->r, type, 3, 0.3), *m = array_new(s->k, DTYPE_F32, 4, 2.0);
    const struct array *to[2], *norm[2], *factor[2], *start = array_new(s->k, DTYPE_F32, 9, 1.0);
    for (int threads = 1; threads <= 2; threads++) {
        const int i = threads - 1;
        struct fold p = params_of(s, w, a, b);
        p.by_column = true;
        p.magnitude = m->d;
        p.norm = (norm[i] = array_new(s->k, DTYPE_F32, 7, 1.0))->d;
        p.factor = (factor[i] = array_new(s->k, DTYPE_F32, 8, 1.0))->d;
        p.to = (to[i] = array_new(s->n * s->k, type, 5, 1.0))->d;
        use_threads(threads);
        backend->ops->fold(backend, &p);
    }
    struct fold norms = params_of(s, w, a, b);
    norms.by_column = true;
    norms.norm = start->d; /* alone */
    backend->ops->fold(backend, &norms);
    expect_same("two threads", to[0], to[1]);
    expect_same("norms, two threads", norm[0], norm[1]);
    expect_same("norms alone", norm[0], start);
    expect_same("factors, two threads", factor[0], factor[1]);
    pull(to[0]), pull(norm[0]), pull(factor[0]);
    for (int64_t c = 0; c < s->k; c++) {
        double lane[32] = {0}, square = 0;
        for (int64_t i = 0; i < s->n; i++) {
            double size = 0;
            const double v = wanted(s, w, a, b, i, c, &size), scaled = get(factor[0], c) * v;
            lane[i % 32] += v * v;
            square += v * v;
            expect_near(get(to[0], i * s->k + c), scaled, type, fabs(get(factor[0], c)) * size,
                        6e-8 * (double)(s->r + 3));
        }
        for (int half = 16; half > 0; half /= 2)
            for (int l = 0; l < half; l++)
                lane[l] += lane[l + half];
        expect_near(get(norm[0], c), sqrt(square), DTYPE_F32, sqrt(square), fused ? 6e-8 : 1e-6);
        assert_true(!fused || f32_bits((float)get(norm[0], c)) == f32_bits((float)sqrt(lane[0])));
        assert_true(f32_bits((float)get(factor[0], c)) == f32_bits((float)was(m, c) / (float)get(norm[0], c)));
    }
    arrays_free();
}

static void test_formula(void **state)
{
    (void)state;
    static const struct shape shapes[] = {{1, 1, 1},   {5, 33, 2},   {3, 7, 3}, {33, 64, 8},
                                          {70, 37, 3}, {2, 100, 16}, {7, 31, 1}};
    EACH_BACKEND
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int type = DTYPE_F32; type <= DTYPE_BF16; type++) {
            check(&shapes[i], (enum dtype)type);
            check_columns(&shapes[i], (enum dtype)type);
        }
}

/* A magnitude that is the norm leaves the weight as it is, to the bit; a row of zeros is no division by 0. */
static void test_identity(void **state)
{
    (void)state;
    static const struct shape s = {9, 70, 4};
    EACH_BACKEND
    for (int t = DTYPE_F32; t <= DTYPE_BF16; t++) {
        const enum dtype type = (enum dtype)t;
        const struct array *w = array_new(s.n * s.k, type, 1, 1.0), *a = array_new(s.r * s.k, type, 2, 1.0),
                           *b = array_new(s.n * s.r, type, 3, 0.0), *to = array_new(s.n * s.k, type, 5, 1.0),
                           *norm = array_new(s.n, DTYPE_F32, 6, 1.0), *factor = array_new(s.n, DTYPE_F32, 7, 1.0);
        for (int64_t c = 0; c < s.k; c++)
            set(w, 3 * s.k + c, 0.0f);
        set(w, 0, -0.0f);
        push(w);
        struct fold p = params_of(&s, w, a, b);
        p.norm = norm->d;
        backend->ops->fold(backend, &p);
        p.magnitude = norm->d;
        p.norm = NULL;
        p.factor = factor->d;
        p.to = to->d;
        backend->ops->fold(backend, &p);
        pull(to), pull(factor);
        for (int64_t i = 0; i < s.n; i++)
            assert_true(get(factor, i) == (i == 3 ? 0.0 : 1.0));
        for (int64_t i = 0; i < s.n * s.k; i++)
            assert_true(get(to, i) == get(w, i));
        arrays_free();
    }
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_formula), cmocka_unit_test(test_identity)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

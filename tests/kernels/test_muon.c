/* Muon's momentum, mixtures and transposes against their formulas in plain C, bit for bit, on every backend. */
#include "kernels/kernel_test.h"

static float between(float begin, float end, float share)
{
    return share < 0.5f ? begin + share * (end - begin) : end - (end - begin) * (1.0f - share);
}

static void expect_element(const struct array *a, int64_t i, float wanted)
{
    if ((float)get(a, i) != wanted)
        fail_msg("%s: element %lld of %lld is %.9g, expected %.9g", provider, (long long)i, (long long)a->count,
                 get(a, i), (double)wanted);
}

static float rounded(float x) { return f32_from_bf16(bf16_from_f32(x)); }

static void test_momentum(void **state)
{
    (void)state;
    static const int64_t counts[] = {1, 255, 20000};
    EACH_BACKEND
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
        for (int nesterov = 0; nesterov < 2; nesterov++) {
            const int64_t n = counts[c];
            const float momentum = nesterov ? 0.95f : 0.3f;
            use_threads(1 + nesterov);
            const struct array *grad = array_new(n, DTYPE_F32, 110, 1.0), *m = array_new(n, DTYPE_F32, 111, 1.0),
                               *x = array_new(n, DTYPE_BF16, 0, 0.0);
            backend->ops->muon_momentum(backend, &(struct muon_momentum){.count = n,
                                                                         .grad = grad->d,
                                                                         .scale = 0.5f,
                                                                         .momentum = momentum,
                                                                         .nesterov = nesterov,
                                                                         .m = m->d,
                                                                         .x = x->d});
            pull(m);
            pull(x);
            for (int64_t i = 0; i < n; i++) {
                const float g = (float)get(grad, i) * 0.5f, m1 = between((float)was(m, i), g, 1.0f - momentum);
                expect_element(m, i, m1);
                expect_element(x, i, rounded(nesterov ? between(g, m1, momentum) : m1));
            }
            arrays_free();
        }
}

static void test_mix(void **state)
{
    (void)state;
    static const int64_t counts[] = {1, 255, 20000};
    EACH_BACKEND
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
        for (int what = 0; what < 4; what++) { /* both, x alone, z alone, into x itself */
            const int64_t n = counts[c];
            use_threads(1 + what % 2);
            const struct array *x = array_new(n, DTYPE_BF16, 112, 1.0), *z = array_new(n, DTYPE_F32, 113, 1.0),
                               *y = array_new(n, DTYPE_BF16, 0, 0.0);
            const struct array *to = what == 3 ? x : y;
            backend->ops->muon_mix(backend, &(struct muon_mix){.count = n,
                                                               .x = what == 2 ? NULL : x->d,
                                                               .z = what == 1 ? NULL : z->d,
                                                               .a = 3.4445f,
                                                               .b = -1.5f,
                                                               .divisor = 0.7f,
                                                               .y = to->d});
            pull(to);
            for (int64_t i = 0; i < n; i++) {
                const float from_x = what == 2 ? 0.0f : 3.4445f * (float)was(x, i);
                const float from_z = what == 1 ? 0.0f : -1.5f * (float)was(z, i);
                expect_element(to, i, rounded((from_x + from_z) / 0.7f));
            }
            arrays_free();
        }
}

static void test_transpose(void **state)
{
    (void)state;
    static const int64_t sizes[][2] = {{1, 1}, {1, 100}, {100, 1}, {31, 33}, {64, 32}, {130, 70}};
    EACH_BACKEND
    for (size_t c = 0; c < sizeof sizes / sizeof *sizes; c++) {
        const int64_t rows = sizes[c][0], columns = sizes[c][1];
        use_threads(1 + (int)c % 2);
        const struct array *x = array_new(rows * columns, DTYPE_BF16, 114, 1.0),
                           *y = array_new(rows * columns, DTYPE_BF16, 0, 0.0);
        backend->ops->muon_transpose(backend,
                                     &(struct muon_transpose){.rows = rows, .columns = columns, .x = x->d, .y = y->d});
        pull(y);
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < columns; j++)
                expect_element(y, j * rows + i, (float)was(x, i * columns + j));
        arrays_free();
    }
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_momentum), cmocka_unit_test(test_mix),
                                       cmocka_unit_test(test_transpose)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

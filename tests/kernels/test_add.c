/* The sum of two arrays against IEEE's addition, bit for bit, on every backend. */
#include "kernels/kernel_test.h"

static void check(int64_t count)
{
    const struct array *x = array_new(count, DTYPE_F32, 93, 1.0), *y = array_new(count, DTYPE_F32, 94, 1e-3);
    backend->ops->add(backend, &(struct add){.count = count, .x = x->d, .y = y->d});
    pull(y);
    for (int64_t i = 0; i < count; i++) {
        const float wanted = (float)was(y, i) + (float)get(x, i);
        if (f32_bits((float)get(y, i)) != f32_bits(wanted))
            fail_msg("%s: element %lld of %lld is %.9g, expected %.9g", provider, (long long)i, (long long)count,
                     get(y, i), (double)wanted);
    }
    arrays_free();
}

static void test_formula(void **state)
{
    (void)state;
    static const int64_t counts[] = {0, 1, 255, 257, 16384, 16385, 40000};
    EACH_BACKEND
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
        for (int threads = 1; threads <= 2; threads++) {
            use_threads(threads);
            check(counts[c]);
        }
}

/* The sign of a zero stays: two of -0 are -0, others +0. */
static void test_zeros(void **state)
{
    (void)state;
    static const float a[] = {-0.0f, -0.0f, 0.0f, 0.0f}, b[] = {-0.0f, 0.0f, -0.0f, 0.0f};
    EACH_BACKEND
    {
        const struct array *x = array_of(a, 4, DTYPE_F32), *y = array_of(b, 4, DTYPE_F32);
        backend->ops->add(backend, &(struct add){.count = 4, .x = x->d, .y = y->d});
        pull(y);
        for (int i = 0; i < 4; i++)
            assert_int_equal(signbit(get(y, i)) != 0, i == 0);
        arrays_free();
    }
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_formula), cmocka_unit_test(test_zeros)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

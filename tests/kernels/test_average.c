/* The mean of the masters against its formula, bit for bit, on every backend. */
#include "kernels/kernel_test.h"

static void check(int64_t count, enum dtype type, bool split, float share)
{
    const struct array *w = array_new(count, type, 90, 1.0), *low = array_new(count, DTYPE_BF16, 91, 1e30);
    const struct array *mean = array_new(count, DTYPE_F32, 92, 1.0);
    const struct average p = {
        .count = count, .weight = w->d, .low = split ? low->d : NULL, .type = type, .mean = mean->d, .share = share};
    backend->ops->average(backend, &p);
    pull(mean);
    for (int64_t i = 0; i < count; i++) {
        const float old = (float)was(mean, i);
        const float master =
            split ? f32_from_bits(((uint32_t)((uint16_t *)w->x)[i] << 16) + (uint32_t)(int32_t)((int16_t *)low->x)[i])
                  : (float)get(w, i);
        const float wanted = share == 1.0f ? master : old + share * (master - old);
        if (f32_bits((float)get(mean, i)) != f32_bits(wanted))
            fail_msg("%s: mean %lld of %lld is %.9g, expected %.9g", provider, (long long)i, (long long)count,
                     get(mean, i), (double)wanted);
    }
    arrays_free();
}

static void test_formula(void **state)
{
    (void)state;
    static const int64_t counts[] = {1, 255, 257, 20000};
    EACH_BACKEND
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
        for (int share = 0; share < 2; share++) {
            use_threads(1 + share);
            check(counts[c], DTYPE_F32, false, share == 0 ? 0.01f : 1.0f);
            check(counts[c], DTYPE_BF16, false, share == 0 ? 0.01f : 1.0f);
            check(counts[c], DTYPE_BF16, true, share == 0 ? 0.01f : 1.0f);
        }
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_formula)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

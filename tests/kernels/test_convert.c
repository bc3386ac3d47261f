/* Conversion between types, bit for bit, on every backend. */
#include "kernels/kernel_test.h"

static void check(int64_t count, enum dtype from, enum dtype to, size_t shift)
{
    const struct array *x = array_shifted(count, from, 0, 0.0, shift), *y = array_shifted(count, to, 0, 0.0, shift);
    for (int64_t i = 0; i < count; i++) {
        /* Any bits: NaN, infinity and numbers below the normal ones are among them. */
        struct rng_block block = rng_philox(3, RNG_TEST, 9, (uint64_t)i);
        memcpy((char *)x->x + (size_t)i * dtype_bytes(from), block.word, dtype_bytes(from));
    }
    push(x);
    backend->ops->convert(backend, &(struct convert){count, x->d, from, y->d, to});
    pull(y);
    for (int64_t i = 0; i < count; i++) {
        uint16_t half;
        float wide;
        memcpy(&half, (char *)x->x + (size_t)i * 2, sizeof half);
        if (from == DTYPE_F32)
            memcpy(&wide, (char *)x->x + (size_t)i * 4, sizeof wide);
        else
            wide = from == DTYPE_BF16 ? f32_from_bf16(half) : f32_from_f16(half);
        const uint16_t narrow = from == DTYPE_BF16 ? half : bf16_from_f32(wide); /* a copy is a copy */
        /* A GPU has one NaN where the CPU keeps some of its bits. */
        if (test_options.cuda && from != to && isnan(wide))
            assert_true(isnan(get(y, i)));
        else if (to == DTYPE_F32)
            assert_memory_equal((char *)y->x + (size_t)i * 4, &wide, sizeof wide);
        else
            assert_memory_equal((char *)y->x + (size_t)i * 2, &narrow, sizeof narrow);
    }
    arrays_free();
}

static void test_convert(void **state)
{
    (void)state;
    static const int64_t counts[] = {1, 7, 8, 9, 15, 16, 17, 100, 1024, 2048, 5003, 16384 + 5};
    EACH_BACKEND
    for (int from = DTYPE_F32; from <= DTYPE_F16; from++)
        for (int to = DTYPE_F32; to <= DTYPE_BF16; to++)
            for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
                for (int threads = 1; threads <= 2; threads++) {
                    use_threads(threads);
                    check(counts[c], (enum dtype)from, (enum dtype)to, (c + (size_t)threads) % 2);
                }
}

/* Nothing to do is no error. */
static void test_nothing(void **state)
{
    (void)state;
    EACH_BACKEND
    {
        backend->ops->convert(backend, &(struct convert){.x_type = DTYPE_F32, .y_type = DTYPE_BF16});
        backend_must_be_well();
    }
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_convert), cmocka_unit_test(test_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

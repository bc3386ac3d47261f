/* Dropout by counters against its formula, bit for bit, on every backend: all pairs of types, beside what is there or in
 * its place; the share that is kept; the same bits for a row alone, at any address and with any number of threads. */
#include "base/rng.h"
#include "kernels/kernel_test.h"

static void check(int64_t rows, int64_t width, enum dtype x_type, enum dtype y_type, bool accumulate, size_t shift)
{
    static const float p = 0.3f;
    int32_t *position = malloc((size_t)rows * sizeof *position);
    uint64_t *stream = malloc((size_t)rows * sizeof *stream);
    assert_true(position && stream);
    for (int64_t t = 0; t < rows; t++) {
        position[t] = (int32_t)(7 * t % 5);
        stream[t] = rng_stream(4, (uint64_t)t / 2);
    }
    const struct array *x = array_shifted(rows * width, x_type, 1, 3.0, shift),
                       *y = array_shifted(rows * width, y_type, 2, 3.0, shift),
                       *alone = array_new(rows * width, y_type, 2, 3.0), *places = ids_of(position, rows),
                       *streams = array_of(stream, 2 * rows, DTYPE_F32);
    struct dropout op = {.rows = rows,
                         .width = width,
                         .position = places->d,
                         .stream = streams->d,
                         .seed = 99,
                         .p = p,
                         .x = x->d,
                         .x_type = x_type,
                         .y = y->d,
                         .y_type = y_type,
                         .accumulate = accumulate};
    backend->ops->dropout(backend, &op);
    pull(y);
    int64_t kept = 0;
    for (int64_t t = 0; t < rows; t++)
        for (int64_t i = 0; i < width; i++) {
            const uint64_t counter = (uint64_t)position[t] * (uint64_t)((width + 3) / 4) + (uint64_t)i / 4;
            const float u = rng_uniform(rng_philox(99, RNG_DROPOUT, stream[t], counter).word[i % 4]);
            const float value = u >= p ? 1.0f / (1.0f - p) * (float)was(x, t * width + i) : 0.0f,
                        sum = accumulate ? (float)was(y, t * width + i) + value : value,
                        want = y_type == DTYPE_F32 ? sum : f32_from_bf16(bf16_from_f32(sum));
            kept += u >= p;
            if (f32_bits((float)get(y, t * width + i)) != f32_bits(want))
                fail_msg("%s: [%d, %d] is %.9g, expected %.9g", provider, (int)t, (int)i, get(y, t * width + i),
                         (double)want);
        }
    const double n = (double)(rows * width);
    if (n > 5000) /* five standard deviations */
        assert_true(fabs((double)kept / n - 0.7) < 5.0 * sqrt(0.21 / n));
    op.rows = 1;
    op.position += rows - 1;
    op.stream += rows - 1;
    op.x = (const char *)x->d + (size_t)((rows - 1) * width) * dtype_bytes(x_type);
    op.y = (char *)alone->d + (size_t)((rows - 1) * width) * dtype_bytes(y_type);
    backend->ops->dropout(backend, &op);
    pull(alone);
    const size_t row = (size_t)width * dtype_bytes(y_type), at = (size_t)(rows - 1) * row;
    assert_memory_equal((char *)alone->x + at, (char *)y->x + at, row);
    free(position), free(stream);
    arrays_free();
}

static void test_formula(void **state)
{
    (void)state;
    EACH_BACKEND
    for (int kind = 0; kind < 8; kind++) {
        const enum dtype x_type = kind % 2 == 0 ? DTYPE_F32 : DTYPE_BF16,
                         y_type = kind / 2 % 2 == 0 ? DTYPE_F32 : DTYPE_BF16;
        for (int w = 0; w < N_WIDTHS; w++) {
            use_threads(1 + w % 3);
            check(3, test_width[w], x_type, y_type, kind >= 4, (size_t)w % 2);
        }
        check(9, 800, x_type, y_type, kind >= 4, 0);
    }
}

/* Nothing to do is no error; nothing dropped is a copy; in place. */
static void test_edges(void **state)
{
    (void)state;
    EACH_BACKEND
    {
        static const int32_t places[2] = {0};
        static const uint64_t streams[2] = {0};
        const struct array *x = array_new(20, DTYPE_BF16, 1, 1.0), *at = ids_of(places, 2),
                           *of = array_of(streams, 4, DTYPE_F32);
        backend->ops->dropout(backend, &(struct dropout){.width = 8});
        backend->ops->dropout(backend, &(struct dropout){.rows = 2,
                                                         .width = 10,
                                                         .position = at->d,
                                                         .stream = of->d,
                                                         .x = x->d,
                                                         .x_type = DTYPE_BF16,
                                                         .y = x->d,
                                                         .y_type = DTYPE_BF16});
        pull(x);
        for (int64_t i = 0; i < 20; i++)
            assert_true(get(x, i) == was(x, i));
        arrays_free();
    }
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_formula), cmocka_unit_test(test_edges)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

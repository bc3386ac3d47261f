/* A bias added to rows, and its gradient, against double references on every backend: all pairs of types; the same bits
 * for a row alone, among others, at any address and with any number of threads. */
#include "kernels/kernel_test.h"

static struct bias_forward add(int64_t rows, int64_t width, const struct array *y, const struct array *bias)
{
    return (struct bias_forward){
        .rows = rows, .width = width, .y = y->d, .y_type = y->type, .bias = bias->d, .bias_type = bias->type};
}

static void check_forward(int64_t rows, int64_t width, enum dtype y_type, enum dtype bias_type)
{
    const struct array *y = array_new(rows * width, y_type, 1, 4.0), *bias = array_new(width, bias_type, 2, 4.0);
    const struct array *y2 = array_shifted(rows * width, y_type, 1, 4.0, 1),
                       *bias2 = array_shifted(width, bias_type, 2, 4.0, 1);
    const struct array *alone = array_new(rows * width, y_type, 1, 4.0);
    use_threads(1);
    struct bias_forward p = add(rows, width, y, bias);
    backend->ops->bias_forward(backend, &p);
    pull(y);
    /* One sum in fp32, and one rounding. */
    for (int64_t i = 0; i < rows * width; i++)
        expect_near(get(y, i), was(y, i) + was(bias, i % width), y_type, fabs(was(y, i)) + fabs(was(bias, i % width)),
                    6e-8);
    use_threads(2);
    p = add(rows, width, y2, bias2);
    backend->ops->bias_forward(backend, &p);
    expect_same("another address, two threads", y, y2);
    p = add(1, width, alone, bias);
    p.y = (char *)alone->d + (size_t)((rows - 1) * width) * dtype_bytes(y_type);
    backend->ops->bias_forward(backend, &p);
    pull(alone);
    const size_t row = (size_t)width * dtype_bytes(y_type), last = (size_t)(rows - 1) * row;
    assert_memory_equal((char *)alone->x + last, (char *)y->x + last, row);
    arrays_free();
}

/* Rows are stride elements apart. */
static void check_backward(int64_t rows, int64_t width, int64_t stride, enum dtype type, float scale)
{
    const struct array *dy = array_new(rows * stride, type, 3, 1.0), *sum = array_new(width, DTYPE_F32, 4, 1.0);
    const struct array *dy2 = array_shifted(rows * stride, type, 3, 1.0, 1),
                       *sum2 = array_shifted(width, DTYPE_F32, 4, 1.0, 1);
    struct bias_backward p = {
        .rows = rows, .width = width, .dy = dy->d, .dy_stride = stride, .type = type, .scale = scale, .d_bias = sum->d};
    use_threads(1);
    backend->ops->bias_backward(backend, &p);
    pull(sum);
    for (int64_t i = 0; i < width; i++) {
        double want = was(sum, i), size = fabs(want);
        for (int64_t r = 0; r < rows; r++) {
            want += (double)scale * was(dy, r * stride + i);
            size += fabs((double)scale * was(dy, r * stride + i));
        }
        expect_near(get(sum, i), want, DTYPE_F32, size, 2e-6);
    }
    use_threads(2);
    p.dy = dy2->d;
    p.d_bias = sum2->d;
    backend->ops->bias_backward(backend, &p);
    expect_same("another address, two threads", sum, sum2);
    arrays_free();
}

static void test_reference(void **state)
{
    (void)state;
    static const int64_t rows[] = {1, 2, 15, 16, 17, 63, 64, 65, 130};
    EACH_BACKEND
    for (int y_type = DTYPE_F32; y_type <= DTYPE_BF16; y_type++) {
        for (int w = 0; w < N_WIDTHS; w++) {
            for (int bias_type = DTYPE_F32; bias_type <= DTYPE_BF16; bias_type++)
                check_forward(3, test_width[w], (enum dtype)y_type, (enum dtype)bias_type);
            check_backward(3, test_width[w], test_width[w] + w, (enum dtype)y_type, 0.75f);
        }
        for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
            check_backward(rows[r], 40, 40, (enum dtype)y_type, 1.0f);
        /* More runs than a block of threads has, and a ragged end. */
        check_forward(2, 4616, (enum dtype)y_type, (enum dtype)y_type);
        check_forward(2, 2051, (enum dtype)y_type, (enum dtype)y_type);
    }
    EACH_BACKEND
    if (!test_options.small)
        check_backward(3000, 1152, 1152, DTYPE_BF16, 1.0f);
}

/* What is not finite stays where it is. */
static void test_extremes(void **state)
{
    (void)state;
    enum { N = 4 };
    static const float before[N] = {INFINITY, 3e38f, -0.0f, 1.0f}, b[N] = {1.0f, 3e38f, 0.0f, NAN};
    EACH_BACKEND
    {
        const struct array *y = array_of(before, N, DTYPE_F32), *bias = array_of(b, N, DTYPE_F32);
        const struct bias_forward p = add(1, N, y, bias);
        backend->ops->bias_forward(backend, &p);
        pull(y);
        assert_true(isinf(get(y, 0)) && isinf(get(y, 1)) && get(y, 2) == 0.0 && isnan(get(y, 3)));
        arrays_free();
    }
}

/* Nothing to do is no error. */
static void test_nothing(void **state)
{
    (void)state;
    EACH_BACKEND
    {
        backend->ops->bias_forward(backend, &(struct bias_forward){.width = 8});
        backend->ops->bias_backward(backend, &(struct bias_backward){.width = 8});
        backend_must_be_well();
    }
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference),
        cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

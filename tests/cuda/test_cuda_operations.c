/* What of the CUDA backend no operation's own test reaches: memory, recorded steps, what is told when something fails. The
 * operations: tests/kernels with --device cuda; windows of decoding: test_cuda_attention.c, test_cuda_decode.c. */
#include "backend/ops.h"
#include "cuda/device_test.h"

#include <stdint.h>

/* ---- Memory ---- */

static void test_memory(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 63, 64, 4097, 1 << 20};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        const size_t n = sizes[s];
        unsigned char *x = malloc(n + 1), *y = malloc(n + 1);
        assert_true(x && y);
        void *a = device_copy(NULL, n), *b = device_copy(NULL, n);
        assert_int_equal((uintptr_t)a % 64, 0);
        device->ops->download(device, y, a, n);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(y[i], 0);
        for (size_t i = 0; i < n; i++)
            x[i] = (unsigned char)(i * 31 + 7);
        device->ops->upload(device, a, x, n);
        memset(x, 0, n); /* it may change when upload returns */
        device->ops->copy(device, b, a, n);
        device->ops->zero(device, a, n / 2);
        device->ops->download(device, x, a, n);
        device->ops->download(device, y, b, n);
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(y[i], (unsigned char)(i * 31 + 7));
            assert_int_equal(x[i], i < n / 2 ? 0 : y[i]);
        }
        device->ops->free(device, a);
        device->ops->free(device, b);
        free(x), free(y);
    }
    device->ops->free(device, NULL);
    device_must_be_well();
}

/* Too much: an error that says so, and everything works on. */
static void test_too_much_memory(void **state)
{
    (void)state;
    if (test_options.brief)
        skip(); /* memcheck reports every failed call, this one too */
    cohort_error err = {0};
    void *p = &err;
    const size_t before = device->ops->available(device);
    assert_true(before > 0);
    assert_int_equal(device->ops->alloc(device, &p, before + ((size_t)1 << 30), "a tensor", &err), COHORT_ERR_MEMORY);
    assert_null(p);
    assert_non_null(strstr(err.message, "a tensor"));
    device_must_be_well();
#if defined(COHORT_CUDA_EMULATED) /* a GPU is shared with others, whose memory comes and goes */
    void *some = device_copy(NULL, (size_t)8 << 20);
    assert_true(device->ops->available(device) < before);
    device->ops->free(device, some);
    assert_int_equal(device->ops->available(device), before);
#endif
    struct backend *none = NULL;
    assert_int_not_equal(backend_cuda_create(&none, 1000, &err), COHORT_OK);
    assert_null(none);
    assert_true(backend_cuda_present());
}

/* ---- Failures ---- */

/* A row that no block can hold is an error of the backend, not a wrong result. */
static void test_too_wide(void **state)
{
    (void)state;
    enum { ROWS = 2, WIDTH = 8196 };
    cohort_error err = {0};
    struct backend *const one = device;
    assert_int_equal(backend_cuda_create(&device, 0, &err), COHORT_OK);
    float *x = device_copy(NULL, ROWS * WIDTH * sizeof *x), *gain = device_copy(NULL, WIDTH * sizeof *gain);
    float *y = device_copy(NULL, ROWS * WIDTH * sizeof *y);
    device_must_be_well();
    device->ops->rmsnorm_forward(device,
                                 &(struct rmsnorm_forward){ROWS, WIDTH, NULL, x, gain, DTYPE_F32, 1e-3f, y, DTYPE_F32});
    assert_int_not_equal(device->ops->check(device, &err), COHORT_OK);
    assert_non_null(strstr(err.message, "rmsnorm_forward"));
    device->ops->free(device, x);
    device->ops->free(device, gain);
    device->ops->free(device, y);
    backend_destroy(device);
    device = one;
}

/* ---- Recorded steps ---- */

enum { COUNT = 1000 };

/* A step: x += start (as a product with a 1 x 1 weight of 1), y = x in bf16. */
struct steps {
    struct weight *one;
    float *start, *x;
    void *y;
    int called;
};
static void step(void *context)
{
    struct steps *s = context;
    s->called++;
    device->ops->matmul_forward(
        device,
        &(struct matmul_forward){
            .w = s->one, .m = COUNT, .x = s->start, .y = s->x, .y_stride = 1, .y_type = DTYPE_F32, .accumulate = true});
    device->ops->convert(
        device, &(struct convert){.count = COUNT, .x = s->x, .x_type = DTYPE_F32, .y = s->y, .y_type = DTYPE_BF16});
}

static void expect_steps(const struct steps *s, int steps)
{
    static float x[COUNT];
    static uint16_t y[COUNT];
    device_must_be_well();
    device->ops->download(device, x, s->x, sizeof x);
    device->ops->download(device, y, s->y, sizeof y);
    for (int i = 0; i < COUNT; i++) {
        assert_true(x[i] == (float)(i % 100 * steps));
        assert_int_equal(y[i], bf16_from_f32(x[i]));
    }
}

static void test_repeat(void **state)
{
    (void)state;
    static float start[COUNT];
    const float one = 1.0f;
    for (int i = 0; i < COUNT; i++)
        start[i] = (float)(i % 100);
    void *natural = device_copy(&one, sizeof one);
    cohort_error err = {0};
    struct steps s = {.start = device_copy(start, sizeof start),
                      .x = device_copy(NULL, sizeof start),
                      .y = device_copy(NULL, sizeof start)};
    assert_int_equal(
        device->ops->weight_create(
            device, &s.one, &(struct weight_source){.format = STORAGE_F32, .data = natural, .n = 1, .k = 1}, &err),
        COHORT_OK);
    device->ops->repeat(device, 5, 0, step, &s);
    assert_int_equal(s.called, 0);
    device->ops->repeat(device, 5, 1, step, &s);
    expect_steps(&s, 1);
    device->ops->repeat(device, 5, 4, step, &s);
    expect_steps(&s, 5);
    const int recorded = s.called; /* from now on the recording runs */
    device->ops->repeat(device, 5, 3, step, &s);
    expect_steps(&s, 8);
    assert_int_equal(s.called, recorded);
    /* Another key is another recording. */
    device->ops->repeat(device, 6, 2, step, &s);
    expect_steps(&s, 10);
    assert_true(s.called > recorded);
    /* Freeing memory forgets: the same key may then mean other buffers. */
    float *other = device_copy(NULL, sizeof start);
    device->ops->free(device, s.x);
    s.x = other;
    device->ops->repeat(device, 5, 3, step, &s);
    expect_steps(&s, 3);
    device->ops->weight_destroy(device, s.one);
    device->ops->free(device, s.x);
    device->ops->free(device, s.y);
    device->ops->free(device, s.start);
    device->ops->free(device, natural);
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_too_much_memory),
        cmocka_unit_test(test_too_wide),
        cmocka_unit_test(test_repeat),
    };
    return cmocka_run_group_tests(tests, device_setup, device_teardown);
}

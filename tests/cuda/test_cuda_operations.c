/* The CUDA backend's table where no kernel's own test reaches: memory, matrix products in all three forms against
 * double references, recorded steps, what is told when something fails. The other operations: test_cuda_pointwise.c,
 * test_cuda_attention*.c, test_cuda_head.c, test_cuda_sample.c, test_cuda_decode.c. --small: fewer shapes, for the
 * emulation. */
#include "backend/ops.h"
#include "cuda/device_test.h"

#include <stdint.h>

/* ---- Tensors on the device between guard bytes ---- */

struct tensor {
    enum dtype type;
    int64_t rows, width, stride; /* elements; what lies between rows is guarded too */
    unsigned char *base;         /* device */
    unsigned char *host;         /* with guards */
    size_t bytes;                /* without */
};

static void *tensor_at(const struct tensor *t) { return t->base + GUARD; }
static void *tensor_host(const struct tensor *t) { return t->host + GUARD; }

static double tensor_get(const struct tensor *t, int64_t row, int64_t i)
{
    return at(tensor_host(t), t->type, row * t->stride + i);
}

static void tensor_push(const struct tensor *t) { device->ops->upload(device, t->base, t->host, t->bytes + 2 * GUARD); }

/* Random for stream > 0, else the guard's bytes. */
static struct tensor tensor_new(int64_t rows, int64_t width, int64_t stride, enum dtype type, uint64_t stream)
{
    struct tensor t = {.type = type, .rows = rows, .width = width, .stride = stride};
    t.bytes = (size_t)((rows - 1) * stride + width) * dtype_bytes(type);
    t.host = malloc(t.bytes + 2 * GUARD);
    assert_non_null(t.host);
    memset(t.host, GUARD_BYTE, t.bytes + 2 * GUARD);
    for (int64_t r = 0; r < rows && stream > 0; r++)
        for (int64_t i = 0; i < width; i++) {
            const float x = (float)number(stream, r * width + i);
            const uint16_t half = bf16_from_f32(x);
            memcpy((char *)tensor_host(&t) + (size_t)(r * stride + i) * dtype_bytes(type),
                   type == DTYPE_F32 ? (const void *)&x : &half, dtype_bytes(type));
        }
    t.base = device_copy(t.host, t.bytes + 2 * GUARD);
    return t;
}

/* What the device has now; guards must be as they were. */
static void tensor_pull(struct tensor *t)
{
    const size_t element = dtype_bytes(t->type), end = t->bytes + 2 * GUARD;
    device_must_be_well();
    device->ops->download(device, t->host, t->base, end);
    for (size_t i = 0; i < end; i++) {
        const bool outside = i < GUARD || i >= GUARD + t->bytes;
        if (outside || (int64_t)((i - GUARD) / element) % t->stride >= t->width)
            assert_int_equal(t->host[i], GUARD_BYTE);
    }
}

static void tensor_free(struct tensor *t)
{
    device->ops->free(device, t->base);
    free(t->host);
}

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
    if (brief_run)
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

/* ---- Matrix products ---- */

static struct weight *weight_of(const struct tensor *w)
{
    cohort_error err;
    struct weight *weight = NULL;
    if (device->ops->weight_create(device, &weight, tensor_at(w), w->rows, w->width, w->type, &err) != COHORT_OK)
        fail_msg("%s", err.message);
    return weight;
}

/* One element against the sum of products in double: an fp32 chain of k terms is off by less than k * 2^-24 of the sum
 * of magnitudes, whatever its order. */
static void check_sum(const char *what, const struct tensor *y, int64_t row, int64_t i, double sum, double magnitude,
                      int64_t terms, double start)
{
    const double want = sum + start, have = tensor_get(y, row, i);
    const double bound = ((double)terms + 2) * 0x1p-24 * (magnitude + fabs(start)) +
                         (y->type == DTYPE_BF16 ? 0x1.01p-8 * fabs(want) : 0.0) + 1e-30;
    if (!(fabs(have - want) <= bound))
        fail_msg("%s, row %lld, column %lld: %.9g, expected %.9g within %.3g", what, (long long)row, (long long)i, have,
                 want, bound);
}

struct form {
    enum dtype type, out_type;
    bool accumulate;
    int64_t gap; /* between rows of the output or of dy */
    bool before; /* forward: added to a tensor other than the output */
};

static void check_forward(int64_t m, int64_t n, int64_t k, struct form f)
{
    struct tensor x = tensor_new(m, k, k, f.type, 1), w = tensor_new(n, k, k, f.type, 2),
                  y = tensor_new(m, n, n + f.gap, f.out_type, f.accumulate && !f.before ? 3 : 0);
    struct tensor start = tensor_new(m, n, n + f.gap, f.out_type, f.accumulate ? 3 : 0);
    struct weight *weight = weight_of(&w);
    device->ops->matmul_forward(device, &(struct matmul_forward){.w = weight,
                                                                 .m = m,
                                                                 .x = tensor_at(&x),
                                                                 .y = tensor_at(&y),
                                                                 .y_stride = y.stride,
                                                                 .y_type = f.out_type,
                                                                 .accumulate = f.accumulate,
                                                                 .before = f.before ? tensor_at(&start) : NULL});
    tensor_pull(&y);
    for (int64_t r = 0; r < m; r++)
        for (int64_t i = 0; i < n; i++) {
            double sum = 0, magnitude = 0;
            for (int64_t l = 0; l < k; l++) {
                sum += tensor_get(&x, r, l) * tensor_get(&w, i, l);
                magnitude += fabs(tensor_get(&x, r, l) * tensor_get(&w, i, l));
            }
            check_sum("forward", &y, r, i, sum, magnitude, k, f.accumulate ? tensor_get(&start, r, i) : 0.0);
        }
    /* A row alone: the same bits. */
    for (int64_t r = 0; r<m; r += m> 3 ? m / 3 : 1) {
        struct tensor alone = tensor_new(1, n, n, f.out_type, 0);
        const size_t row = (size_t)(r * y.stride) * dtype_bytes(f.out_type);
        const size_t bytes = (size_t)n * dtype_bytes(f.out_type);
        memcpy(tensor_host(&alone), (char *)tensor_host(&start) + row, bytes);
        tensor_push(&alone);
        device->ops->matmul_forward(
            device, &(struct matmul_forward){.w = weight,
                                             .m = 1,
                                             .x = (char *)tensor_at(&x) + (size_t)(r * k) * dtype_bytes(f.type),
                                             .y = tensor_at(&alone),
                                             .y_stride = n,
                                             .y_type = f.out_type,
                                             .accumulate = f.accumulate});
        tensor_pull(&alone);
        if (memcmp(tensor_host(&alone), (char *)tensor_host(&y) + row, bytes) != 0)
            fail_msg("row %lld of %lld x %lld x %lld: other bits alone", (long long)r, (long long)m, (long long)n,
                     (long long)k);
        tensor_free(&alone);
    }
    device->ops->weight_destroy(device, weight);
    tensor_free(&x), tensor_free(&w), tensor_free(&y), tensor_free(&start);
}

static void check_backward_input(int64_t m, int64_t n, int64_t k, struct form f)
{
    struct tensor dy = tensor_new(m, n, n + f.gap, f.type, 4), w = tensor_new(n, k, k, f.type, 5),
                  dx = tensor_new(m, k, k, f.out_type, f.accumulate ? 6 : 0);
    struct tensor start = tensor_new(m, k, k, f.out_type, f.accumulate ? 6 : 0);
    struct weight *weight = weight_of(&w);
    device->ops->matmul_backward_input(device, &(struct matmul_backward_input){.w = weight,
                                                                               .m = m,
                                                                               .dy = tensor_at(&dy),
                                                                               .dy_stride = dy.stride,
                                                                               .dx = tensor_at(&dx),
                                                                               .dx_type = f.out_type,
                                                                               .accumulate = f.accumulate});
    tensor_pull(&dx);
    for (int64_t r = 0; r < m; r++)
        for (int64_t i = 0; i < k; i++) {
            double sum = 0, magnitude = 0;
            for (int64_t l = 0; l < n; l++) {
                sum += tensor_get(&dy, r, l) * tensor_get(&w, l, i);
                magnitude += fabs(tensor_get(&dy, r, l) * tensor_get(&w, l, i));
            }
            check_sum("backward of the input", &dx, r, i, sum, magnitude, n,
                      f.accumulate ? tensor_get(&start, r, i) : 0.0);
        }
    device->ops->weight_destroy(device, weight);
    tensor_free(&dy), tensor_free(&w), tensor_free(&dx), tensor_free(&start);
}

static void check_backward_weight(int64_t m, int64_t n, int64_t k, struct form f)
{
    struct tensor dy = tensor_new(m, n, n + f.gap, f.type, 7), x = tensor_new(m, k, k, f.type, 8),
                  dw = tensor_new(n, k, k, DTYPE_F32, 9);
    struct tensor start = tensor_new(n, k, k, DTYPE_F32, 9);
    device->ops->matmul_backward_weight(device, &(struct matmul_backward_weight){.m = m,
                                                                                 .n = n,
                                                                                 .k = k,
                                                                                 .dy = tensor_at(&dy),
                                                                                 .dy_stride = dy.stride,
                                                                                 .x = tensor_at(&x),
                                                                                 .type = f.type,
                                                                                 .dw = tensor_at(&dw)});
    tensor_pull(&dw);
    for (int64_t r = 0; r < n; r++)
        for (int64_t i = 0; i < k; i++) {
            double sum = 0, magnitude = 0;
            for (int64_t l = 0; l < m; l++) {
                sum += tensor_get(&dy, l, r) * tensor_get(&x, l, i);
                magnitude += fabs(tensor_get(&dy, l, r) * tensor_get(&x, l, i));
            }
            check_sum("backward of the weight", &dw, r, i, sum, magnitude, m, tensor_get(&start, r, i));
        }
    tensor_free(&dy), tensor_free(&x), tensor_free(&dw), tensor_free(&start);
}

/* Briefly: nothing that goes to cuBLASLt, whose kernels compute-sanitizer's racecheck breaks. Rows around 16, the tile
 * of the matrix instruction, and 64, the tile of kernel_matmul_plain.cu; weights that cuBLASLt takes (multiples of 8)
 * and others, in both sizes. */
static void test_products(void **state)
{
    (void)state;
    static const int64_t rows[] = {1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 129};
    static const struct {
        int64_t n, k;
    } sizes[] = {{1, 1}, {7, 5}, {8, 8}, {16, 24}, {24, 16}, {63, 9}, {40, 64}, {304, 72}, {65, 130}, {136, 128}};
    const size_t n_rows = sizeof rows / sizeof *rows, n_sizes = sizeof sizes / sizeof *sizes;
    for (size_t r = 0; r < n_rows; r += small_run ? 4 : 1)
        for (size_t s = 0; s < n_sizes; s += small_run ? 2 : 1)
            for (int which = 0; which < (brief_run ? 2 : 6); which++) {
                /* fp32 throughout; bf16 to bf16; bf16 to fp32, each with and without adding. */
                struct form f = {.type = which < 2 ? DTYPE_F32 : DTYPE_BF16,
                                 .out_type = which < 2 || which > 3 ? DTYPE_F32 : DTYPE_BF16,
                                 .accumulate = which == 1 || which == 5,
                                 .gap = which == 3 || which == 5 ? 8 : 0};
                const struct form other = {.type = f.type, .out_type = DTYPE_F32, .accumulate = true, .before = true};
                if (which % 2 == 0)
                    check_forward(rows[r], sizes[s].n, sizes[s].k, other);
                check_forward(rows[r], sizes[s].n, sizes[s].k, f);
                check_backward_input(rows[r], sizes[s].n, sizes[s].k, f);
                check_backward_weight(rows[r], sizes[s].n, sizes[s].k, f);
            }
    const struct matmul_forward none = {.m = 0};
    device->ops->matmul_forward(device, &none);
    device->ops->matmul_backward_input(device, &(struct matmul_backward_input){.m = 0});
    device->ops->matmul_backward_weight(device, &(struct matmul_backward_weight){.m = 0});
    device_must_be_well();
}

/* NaN in a row stays there. */
static void test_rows_do_not_meet(void **state)
{
    (void)state;
    enum { M = 40, N = 48, K = 64, BAD = 19 };
    for (int which = 0; which < (brief_run ? 1 : 2); which++) {
        const enum dtype type = which ? DTYPE_BF16 : DTYPE_F32;
        struct tensor x = tensor_new(M, K, K, type, 1), w = tensor_new(N, K, K, type, 2),
                      y = tensor_new(M, N, N, type, 0);
        memset((char *)tensor_host(&x) + (size_t)(BAD * K + 3) * dtype_bytes(type), 0xff, dtype_bytes(type));
        tensor_push(&x);
        struct weight *weight = weight_of(&w);
        device->ops->matmul_forward(
            device, &(struct matmul_forward){
                        .w = weight, .m = M, .x = tensor_at(&x), .y = tensor_at(&y), .y_stride = N, .y_type = type});
        tensor_pull(&y);
        for (int64_t r = 0; r < M; r++)
            for (int64_t i = 0; i < N; i++)
                assert_int_equal(isnan(tensor_get(&y, r, i)) != 0, r == BAD);
        device->ops->weight_destroy(device, weight);
        tensor_free(&x), tensor_free(&w), tensor_free(&y);
    }
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
    cohort_error err;
    struct steps s = {.start = device_copy(start, sizeof start),
                      .x = device_copy(NULL, sizeof start),
                      .y = device_copy(NULL, sizeof start)};
    assert_int_equal(device->ops->weight_create(device, &s.one, natural, 1, 1, DTYPE_F32, &err), COHORT_OK);
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
    device_test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory),   cmocka_unit_test(test_too_much_memory),
        cmocka_unit_test(test_products), cmocka_unit_test(test_rows_do_not_meet),
        cmocka_unit_test(test_repeat),
    };
    return cmocka_run_group_tests(tests, device_setup, device_teardown);
}

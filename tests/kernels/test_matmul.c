/* Matrix products of every provider: against a double reference, and bit-exact row invariance (I2). */
#include "kernels/kernel_test.h"

#include "tensor/param.h"

/* ---- Matrices: rows stride elements apart, what lies between them keeps the guards' pattern ---- */

struct matrix {
    int64_t rows, width, stride;
    const struct array *a;
};

static int64_t span_of(int64_t rows, int64_t width, int64_t stride) { return (rows - 1) * stride + width; }

/* Random of a stream in (-1, 1), in stream 0 the pattern. */
static struct matrix matrix_new(int64_t rows, int64_t width, int64_t stride, enum dtype type, uint64_t stream)
{
    const struct matrix m = {rows, width, stride, array_new(span_of(rows, width, stride), type, 0, 0.0)};
    for (int64_t r = 0; r < rows && stream > 0; r++)
        for (int64_t i = 0; i < width; i++)
            set(m.a, r * stride + i, (float)number(stream, r * width + i));
    push(m.a);
    return m;
}

static double element(const struct matrix *m, int64_t row, int64_t i) { return get(m->a, row * m->stride + i); }

static void pull_matrix(const struct matrix *m)
{
    const size_t n = dtype_bytes(m->a->type);
    pull(m->a);
    for (size_t i = 0; i < m->a->bytes; i++)
        if ((int64_t)(i / n) % m->stride >= m->width && ((unsigned char *)m->a->x)[i] != GUARD_BYTE)
            fail_msg("%s: written between the rows", provider);
}

static void *row_at(const struct matrix *m, int64_t row)
{
    return (char *)m->a->d + (size_t)(row * m->stride) * dtype_bytes(m->a->type);
}

static struct weight *weight_of(const struct matrix *w)
{
    struct weight *weight = NULL;
    cohort_error err = {0};
    if (backend->ops->weight_create(
            backend, &weight,
            &(struct weight_source){.format = storage_of(w->a->type), .data = w->a->d, .n = w->rows, .k = w->width},
            &err) != COHORT_OK)
        fail_msg("%s", err.message);
    return weight;
}

/* An fp32 chain of k terms is off by less than k * 2^-24 of the sum of magnitudes, whatever its order, and here by no
 * more than 1e-5 of it; a bf16 result by 2^-8 of itself more. */
static void check_sum(const struct matrix *y, int64_t row, int64_t i, double sum, double magnitude, int64_t terms,
                      double start)
{
    const double want = sum + start, have = element(y, row, i), scale = magnitude + fabs(start) + 1e-30;
    const double chain = fmin(1e-5, ((double)terms + 2) * 0x1p-24);
    expect_near(have, want, y->a->type, scale, chain);
}

struct form {
    enum dtype type, out_type;
    bool accumulate;
    int64_t gap; /* between rows of the output or of dy */
    bool before; /* forward: added to a tensor other than the output */
};

static void check_forward(int64_t m, int64_t n, int64_t k, struct form f)
{
    const struct matrix x = matrix_new(m, k, k, f.type, 1), w = matrix_new(n, k, k, f.type, 2);
    const struct matrix y = matrix_new(m, n, n + f.gap, f.out_type, f.accumulate && !f.before ? 3 : 0);
    const struct matrix start = matrix_new(m, n, n + f.gap, f.out_type, f.accumulate ? 3 : 0);
    struct weight *weight = weight_of(&w);
    backend->ops->matmul_forward(backend, &(struct matmul_forward){.w = weight,
                                                                   .m = m,
                                                                   .x = x.a->d,
                                                                   .y = y.a->d,
                                                                   .y_stride = y.stride,
                                                                   .y_type = f.out_type,
                                                                   .accumulate = f.accumulate,
                                                                   .before = f.before ? start.a->d : NULL});
    pull_matrix(&y);
    for (int64_t r = 0; r < m; r++)
        for (int64_t i = 0; i < n; i++) {
            double sum = 0, magnitude = 0;
            for (int64_t l = 0; l < k; l++) {
                const double term = element(&x, r, l) * element(&w, i, l);
                sum += term;
                magnitude += fabs(term);
            }
            check_sum(&y, r, i, sum, magnitude, k, f.accumulate ? element(&start, r, i) : 0.0);
        }
    /* Rows alone: the same bits. */
    const size_t bytes = (size_t)n * dtype_bytes(f.out_type);
    const struct matrix alone = matrix_new(1, n, n, f.out_type, 0);
    for (int64_t r = 0; r<m; r += m> 3 ? m / 3 : 1) {
        memcpy(alone.a->x, (char *)start.a->x + (size_t)(r * y.stride) * dtype_bytes(f.out_type), bytes);
        push(alone.a);
        backend->ops->matmul_forward(backend, &(struct matmul_forward){.w = weight,
                                                                       .m = 1,
                                                                       .x = row_at(&x, r),
                                                                       .y = alone.a->d,
                                                                       .y_stride = n,
                                                                       .y_type = f.out_type,
                                                                       .accumulate = f.accumulate});
        pull_matrix(&alone);
        if (memcmp(alone.a->x, (char *)y.a->x + (size_t)(r * y.stride) * dtype_bytes(f.out_type), bytes) != 0)
            fail_msg("%s: row %lld of %lld x %lld x %lld has other bits alone", provider, (long long)r, (long long)m,
                     (long long)n, (long long)k);
    }
    backend->ops->weight_destroy(backend, weight);
    arrays_free();
}

static void check_backward_input(int64_t m, int64_t n, int64_t k, struct form f)
{
    const struct matrix dy = matrix_new(m, n, n + f.gap, f.type, 4), w = matrix_new(n, k, k, f.type, 5);
    const struct matrix dx = matrix_new(m, k, k, f.out_type, f.accumulate ? 6 : 0);
    struct weight *weight = weight_of(&w);
    backend->ops->matmul_backward_input(backend, &(struct matmul_backward_input){.w = weight,
                                                                                 .m = m,
                                                                                 .dy = dy.a->d,
                                                                                 .dy_stride = dy.stride,
                                                                                 .dx = dx.a->d,
                                                                                 .dx_type = f.out_type,
                                                                                 .accumulate = f.accumulate});
    pull_matrix(&dx);
    for (int64_t r = 0; r < m; r++)
        for (int64_t i = 0; i < k; i++) {
            double sum = 0, magnitude = 0;
            for (int64_t l = 0; l < n; l++) {
                const double term = element(&dy, r, l) * element(&w, l, i);
                sum += term;
                magnitude += fabs(term);
            }
            check_sum(&dx, r, i, sum, magnitude, n, f.accumulate ? (double)(float)number(6, r * k + i) : 0.0);
        }
    backend->ops->weight_destroy(backend, weight);
    arrays_free();
}

static void check_backward_weight(int64_t m, int64_t n, int64_t k, struct form f)
{
    const struct matrix dy = matrix_new(m, n, n + f.gap, f.type, 7), x = matrix_new(m, k, k, f.type, 8);
    const struct matrix dw = matrix_new(n, k, k, DTYPE_F32, 9);
    backend->ops->matmul_backward_weight(
        backend,
        &(struct matmul_backward_weight){
            .m = m, .n = n, .k = k, .dy = dy.a->d, .dy_stride = dy.stride, .x = x.a->d, .type = f.type, .dw = dw.a->d});
    pull_matrix(&dw);
    for (int64_t r = 0; r < n; r++)
        for (int64_t i = 0; i < k; i++) {
            double sum = 0, magnitude = 0;
            for (int64_t l = 0; l < m; l++) {
                const double term = element(&dy, l, r) * element(&x, l, i);
                sum += term;
                magnitude += fabs(term);
            }
            check_sum(&dw, r, i, sum, magnitude, m, (double)(float)number(9, r * k + i));
        }
    arrays_free();
}

/* fp32 throughout; bf16 to bf16; bf16 to fp32: each with and without adding, rows apart or not. */
static void check_forms(int64_t m, int64_t n, int64_t k)
{
    /* Briefly: nothing that goes to cuBLASLt, whose kernels compute-sanitizer's racecheck breaks. */
    for (int which = 0; which < (test_options.brief ? 2 : 6); which++) {
        const struct form f = {.type = which < 2 ? DTYPE_F32 : DTYPE_BF16,
                               .out_type = which < 2 || which > 3 ? DTYPE_F32 : DTYPE_BF16,
                               .accumulate = which == 1 || which == 5,
                               .gap = which == 3 || which == 5 ? 8
                                      : which == 1             ? 3
                                                               : 0};
        const struct form other = {.type = f.type, .out_type = DTYPE_F32, .accumulate = true, .before = true};
        if (which % 2 == 0)
            check_forward(m, n, k, other);
        check_forward(m, n, k, f);
        check_backward_input(m, n, k, f);
        check_backward_weight(m, n, k, f);
    }
}

/* The CPU's tiles: 12, 16, 32 rows; 16, 32 columns; 2, 32 of k; the pass of 512 and the block of 2048. A GPU's: rows
 * around 16, the tile of the matrix instruction, and 64, the tile of kernel_matmul_plain.cu; weights that cuBLASLt
 * takes (multiples of 8) and others, in both sizes. */
static void test_reference(void **state)
{
    (void)state;
    static const int64_t cpu[][3] = {
        {1, 1, 1},    {1, 24, 40},   {3, 2, 1},    {2, 31, 31},   {5, 32, 32},  {11, 33, 33},
        {12, 16, 2},  {13, 15, 63},  {15, 17, 64}, {16, 64, 65},  {17, 65, 95}, {31, 96, 97},
        {32, 40, 24}, {33, 100, 17}, {64, 7, 130}, {65, 96, 3},   {4, 70, 543}, {40, 33, 1100},
        {2, 3, 2049}, {3, 2049, 5},  {2050, 3, 4}, {37, 2100, 6}, {1, 512, 96},
    };
    static const int64_t rows[] = {1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 129};
    static const int64_t sizes[][2] = {{1, 1},  {7, 5},   {8, 8},    {16, 24},  {24, 16},
                                       {63, 9}, {40, 64}, {304, 72}, {65, 130}, {136, 128}};
    EACH_PRODUCT
    {
        use_threads(2);
        for (size_t s = 0; s < sizeof cpu / sizeof *cpu && !test_options.cuda; s++)
            check_forms(cpu[s][0], cpu[s][1], cpu[s][2]);
        for (size_t r = 0; r < sizeof rows / sizeof *rows && test_options.cuda; r += test_options.small ? 4 : 1)
            for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s += test_options.small ? 2 : 1)
                check_forms(rows[r], sizes[s][0], sizes[s][1]);
    }
}

/* ---- F16 weights: the bits of the same values in F32 ---- */

static void check_f16(int64_t m, int64_t n, int64_t k)
{
    const struct array *f16 = NULL, *f32 = NULL;
    struct weight *narrow = NULL, *wide = NULL;
    cohort_error err = {0};
    halves_of(n * k, 5, 1.0, &f16, &f32);
    const struct array *x = array_new(m * k, DTYPE_F32, 2, 1.0), *dy = array_new(m * n, DTYPE_F32, 3, 1.0),
                       *y = array_new(m * n, DTYPE_F32, 0, 0.0), *y2 = array_new(m * n, DTYPE_F32, 0, 0.0),
                       *dx = array_new(m * k, DTYPE_F32, 4, 1.0), *dx2 = array_new(m * k, DTYPE_F32, 4, 1.0);
    for (int which = 0; which < 2; which++)
        if (backend->ops->weight_create(backend, which == 0 ? &narrow : &wide,
                                        &(struct weight_source){.format = which == 0 ? STORAGE_F16 : STORAGE_F32,
                                                                .data = which == 0 ? f16->d : f32->d,
                                                                .n = n,
                                                                .k = k},
                                        &err) != COHORT_OK)
            fail_msg("%s", err.message);
    for (int which = 0; which < 2; which++) {
        const struct weight *w = which == 0 ? narrow : wide;
        backend->ops->matmul_forward(
            backend,
            &(struct matmul_forward){
                .w = w, .m = m, .x = x->d, .y = which == 0 ? y->d : y2->d, .y_stride = n, .y_type = DTYPE_F32});
        backend->ops->matmul_backward_input(backend, &(struct matmul_backward_input){.w = w,
                                                                                     .m = m,
                                                                                     .dy = dy->d,
                                                                                     .dy_stride = n,
                                                                                     .dx = which == 0 ? dx->d : dx2->d,
                                                                                     .dx_type = DTYPE_F32,
                                                                                     .accumulate = true});
    }
    expect_same("y of F16 weights", y, y2);
    expect_same("dx of F16 weights", dx, dx2);
    backend->ops->weight_destroy(backend, narrow);
    backend->ops->weight_destroy(backend, wide);
    arrays_free();
}

static void test_f16(void **state)
{
    (void)state;
    static const int64_t shapes[][3] = {{1, 1, 1},    {1, 33, 64},   {2, 31, 31},  {5, 32, 32},   {17, 65, 95},
                                        {64, 7, 130}, {33, 100, 17}, {3, 2100, 5}, {12, 128, 543}};
    EACH_PRODUCT
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes - (test_options.small ? 2 : 0); s++) {
        use_threads(1 + (int)s % 3);
        check_f16(shapes[s][0], shapes[s][1], shapes[s][2]);
    }
}

/* ---- Row invariance ---- */

/* y = rows first .. first + m of x; skew: elements that x and its copy lie off a line. */
static void forward_rows(const struct weight *weight, const struct array *x, int64_t first, int64_t m, int64_t n,
                         int64_t k, size_t skew, const struct array *y)
{
    const int before = n_arrays;
    const size_t row = (size_t)k * dtype_bytes(x->type);
    const struct array *copy = array_shifted(m * k, x->type, 0, 0.0, skew);
    memcpy(copy->x, (char *)x->x + (size_t)first * row, copy->bytes);
    push(copy);
    backend->ops->matmul_forward(
        backend,
        &(struct matmul_forward){.w = weight, .m = m, .x = copy->d, .y = y->d, .y_stride = n, .y_type = y->type});
    pull(y);
    arrays_free_from(before);
}

/* Every row of every batch has the bits it has alone. */
static void check_invariance(enum dtype type, int64_t n, int64_t k)
{
    static const int64_t batches[] = {1, 2, 3, 5, 7, 15, 16, 17, 31, 33, 64, 100, 255, 512};
    const int64_t most = test_options.small ? 64 : 512;
    use_threads(1);
    const struct array *x = array_new(most * k, type, 7, 1.0), *w = array_new(n * k, type, 8, 1.0);
    float *alone = malloc((size_t)(most * n) * sizeof *alone);
    const struct array *row = array_new(n, DTYPE_F32, 0, 0.0);
    assert_non_null(alone);
    for (int threads = 1; threads <= 2; threads++) {
        use_threads(threads);
        struct weight *weight = weight_of(&(struct matrix){n, k, k, w});
        for (int64_t i = 0; i < most && threads == 1; i++) {
            forward_rows(weight, x, i, 1, n, k, 0, row);
            memcpy(alone + i * n, row->x, row->bytes);
        }
        for (size_t b = 0; b < sizeof batches / sizeof batches[0] && batches[b] <= most; b++) {
            const int64_t m = batches[b];
            const int before = n_arrays;
            /* At the start, in the middle at an odd offset, and at the end; with two threads, which are slow beside
             * other processes, in the middle. */
            const int64_t firsts[3] = {0, (most - m) / 2 | (most > m), most - m};
            for (int f = threads == 1 ? 0 : 1; f < (threads == 1 ? 3 : 2); f++) {
                const int64_t first = firsts[f] + m > most ? most - m : firsts[f];
                const struct array *y = array_new(m * n, DTYPE_F32, 0, 0.0);
                forward_rows(weight, x, first, m, n, k, (size_t)f * (test_options.cuda ? 8 : 2), y);
                if (memcmp(y->x, alone + first * n, y->bytes) != 0)
                    fail_msg("%s %s [%lld, %lld]: rows %lld .. +%lld with %d threads differ from the rows alone",
                             provider, dtype_name(type), (long long)n, (long long)k, (long long)first, (long long)m,
                             threads);
                arrays_free_from(before);
            }
            if (threads > 1)
                continue; /* what follows does not depend on them */
            const struct array *half = array_new(m * n, DTYPE_BF16, 0, 0.0);
            forward_rows(weight, x, 0, m, n, k, test_options.cuda ? 8 : 1, half);
            for (int64_t i = 0; i < m * n; i++)
                if (((uint16_t *)half->x)[i] != bf16_from_f32(alone[i]))
                    fail_msg("%s %s: bf16 result %lld is not the rounded fp32 result", provider, dtype_name(type),
                             (long long)i);
            arrays_free_from(before);
        }
        backend->ops->weight_destroy(backend, weight);
    }
    free(alone);
    arrays_free();
}

static void test_row_invariance(void **state)
{
    (void)state;
    EACH_PRODUCT
    for (int type = DTYPE_F32; type <= (test_options.brief ? DTYPE_F32 : DTYPE_BF16); type++) {
        check_invariance((enum dtype)type, 72,
                         test_options.small ? 136 : 1100); /* whole and part panels, three passes */
        check_invariance((enum dtype)type, 33, 95);
    }
}

/* More rows than the CPU packs at once, and the longest k: sampled rows against the same rows alone. */
static void check_sampled(int64_t m, int64_t n, int64_t k, int64_t every)
{
    const struct array *x = array_new(m * k, DTYPE_BF16, 16, 1.0), *w = array_new(n * k, DTYPE_BF16, 17, 1.0);
    const struct array *y = array_new(m * n, DTYPE_F32, 0, 0.0), *row = array_new(n, DTYPE_F32, 0, 0.0);
    struct weight *weight = weight_of(&(struct matrix){n, k, k, w});
    forward_rows(weight, x, 0, m, n, k, 0, y);
    for (int64_t i = 0; i < m; i += every) {
        forward_rows(weight, x, i, 1, n, k, 0, row);
        if (memcmp(row->x, (float *)y->x + i * n, row->bytes) != 0)
            fail_msg("%s: row %lld of %lld, k %lld, differs from the row alone", provider, (long long)i, (long long)m,
                     (long long)k);
    }
    backend->ops->weight_destroy(backend, weight);
    arrays_free();
}

static void test_large_invariance(void **state)
{
    (void)state;
    EACH_PRODUCT
    {
        if (test_options.small)
            continue;
        use_threads(2);
        check_sampled(8192, 40, 48, 31);
        check_sampled(40, 40, 25600, 13);
    }
}

/* ---- Further properties ---- */

/* A bf16 dx is the rounded fp32 dx, also where the CPU sums it in scratch by parts: 300 rows are two parts. */
static void test_backward_input_parts(void **state)
{
    (void)state;
    const int64_t m = 300, n = 2049, k = 16384, period = 65521;
    if (test_options.cuda)
        skip();
    int best = 0;
    EACH_PRODUCT best = provider_index;
    assert_int_equal(next_provider(best - 1, N_PROVIDERS), best);
    use_threads(2);
    const struct array *dy = array_new(m * n, DTYPE_BF16, 18, 1.0), *w = array_new(n * k, DTYPE_BF16, 0, 0.0);
    const struct array *some = array_new(period, DTYPE_BF16, 20, 1.0);
    for (int64_t i = 0; i < n * k; i++)
        ((uint16_t *)w->x)[i] = ((uint16_t *)some->x)[i % period];
    push(w);
    struct weight *weight = weight_of(&(struct matrix){n, k, k, w});
    const struct array *exact = array_new(m * k, DTYPE_F32, 0, 0.0), *rounded = array_new(m * k, DTYPE_BF16, 0, 0.0);
    struct matmul_backward_input p = {.w = weight, .m = m, .dy = dy->d, .dy_stride = n, .dx = exact->d};
    backend->ops->matmul_backward_input(backend, &p);
    p.dx = rounded->d;
    p.dx_type = DTYPE_BF16;
    backend->ops->matmul_backward_input(backend, &p);
    pull(exact);
    pull(rounded);
    for (int64_t i = 0; i < m * k; i++)
        if (((uint16_t *)rounded->x)[i] != bf16_from_f32(((float *)exact->x)[i]))
            fail_msg("element %lld of %lld is not the rounded fp32 result", (long long)i, (long long)(m * k));
    backend->ops->weight_destroy(backend, weight);
    arrays_free();
}

/* The accumulated result is old + finished sum, one addition. */
static void test_accumulate_is_one_addition(void **state)
{
    (void)state;
    const int64_t m = 33, n = 40, k = test_options.small ? 136 : 700;
    EACH_PRODUCT
    for (int type = DTYPE_F32; type <= (test_options.brief ? DTYPE_F32 : DTYPE_BF16); type++) {
        use_threads(2);
        const struct array *x = array_new(m * k, (enum dtype)type, 9, 1.0);
        const struct matrix w = matrix_new(n, k, k, (enum dtype)type, 10);
        const struct array *sum = array_new(m * n, DTYPE_F32, 0, 0.0), *y = array_new(m * n, DTYPE_F32, 0, 0.0);
        struct weight *weight = weight_of(&w);
        for (int64_t j = 0; j < m * n; j++)
            set(y, j, 1e3f);
        push(y);
        struct matmul_forward p = {.w = weight, .m = m, .x = x->d, .y = sum->d, .y_stride = n, .y_type = DTYPE_F32};
        backend->ops->matmul_forward(backend, &p);
        p.y = y->d;
        p.accumulate = true;
        backend->ops->matmul_forward(backend, &p);
        pull(sum);
        pull(y);
        for (int64_t j = 0; j < m * n; j++)
            assert_true(((float *)y->x)[j] == 1e3f + ((float *)sum->x)[j]);
        backend->ops->weight_destroy(backend, weight);
        arrays_free();
    }
}

/* A row of NaN changes no other row. */
static void test_nan_stays_in_its_row(void **state)
{
    (void)state;
    enum { M = 40, N = 48, BAD = 17 };
    EACH_PRODUCT
    for (int which = 0; which < (test_options.brief ? 2 : 4); which++) {
        const enum dtype type = which & 2 ? DTYPE_BF16 : DTYPE_F32;
        const int64_t k = which & 1 ? 47 : 64;
        const struct array *x = array_new(M * k, type, 11, 1.0);
        const struct matrix w = matrix_new(N, k, k, type, 12);
        const struct array *clean = array_new(M * N, DTYPE_F32, 0, 0.0), *dirty = array_new(M * N, DTYPE_F32, 0, 0.0);
        struct weight *weight = weight_of(&w);
        struct matmul_forward p = {.w = weight, .m = M, .x = x->d, .y = clean->d, .y_stride = N, .y_type = DTYPE_F32};
        backend->ops->matmul_forward(backend, &p);
        const size_t row = (size_t)k * dtype_bytes(type);
        memset((char *)x->x + BAD * row, 0xff, row);
        push(x);
        p.y = dirty->d;
        backend->ops->matmul_forward(backend, &p);
        pull(clean);
        pull(dirty);
        for (int i = 0; i < M * N; i++)
            if (i / N == BAD)
                assert_true(isnan(get(dirty, i)));
            else
                assert_memory_equal((float *)dirty->x + i, (float *)clean->x + i, sizeof(float));
        backend->ops->weight_destroy(backend, weight);
        arrays_free();
    }
}

/* Backward products do not depend on the number of threads. */
static void test_backward_threads(void **state)
{
    (void)state;
    const int64_t m = test_options.small ? 33 : 130, n = test_options.small ? 72 : 2500,
                  k = test_options.small ? 72 : 70;
    EACH_PRODUCT
    {
        const enum dtype type = test_options.brief ? DTYPE_F32 : DTYPE_BF16;
        const struct array *dx[2], *dw[2];
        const struct array *dy = array_new(m * n, type, 13, 1.0), *x = array_new(m * k, type, 14, 1.0);
        const struct matrix w = matrix_new(n, k, k, type, 15);
        for (int t = 0; t < 2; t++) {
            use_threads(t == 0 ? 1 : 3);
            struct weight *weight = weight_of(&w);
            dx[t] = array_new(m * k, DTYPE_F32, 0, 0.0);
            dw[t] = array_new(n * k, DTYPE_F32, 30, 1.0);
            backend->ops->matmul_backward_input(
                backend,
                &(struct matmul_backward_input){.w = weight, .m = m, .dy = dy->d, .dy_stride = n, .dx = dx[t]->d});
            backend->ops->matmul_backward_weight(
                backend,
                &(struct matmul_backward_weight){
                    .m = m, .n = n, .k = k, .dy = dy->d, .dy_stride = n, .x = x->d, .type = type, .dw = dw[t]->d});
            backend->ops->weight_destroy(backend, weight);
        }
        expect_same("the input's gradient", dx[0], dx[1]);
        expect_same("the weight's gradient", dw[0], dw[1]);
        arrays_free();
    }
}

/* A packed copy follows the natural tensor when told to. */
static void test_refresh(void **state)
{
    (void)state;
    static const float numbers[6] = {1, 2, 3, 4, 5, 6}, factors[3] = {1, 10, 100};
    EACH_PRODUCT
    {
        const struct array *w = array_of(numbers, 6, DTYPE_F32), *x = array_of(factors, 3, DTYPE_F32);
        const struct array *y = array_new(2, DTYPE_F32, 0, 0.0);
        struct weight *weight = weight_of(&(struct matrix){2, 3, 3, w});
        const struct matmul_forward p = {.w = weight, .m = 1, .x = x->d, .y = y->d, .y_stride = 2, .y_type = DTYPE_F32};
        set(w, 5, 7);
        push(w);
        if (backend->ops->weight_bytes(backend, &(struct weight_source){.format = STORAGE_F32, .n = 2, .k = 3}) > 0) {
            backend->ops->matmul_forward(backend, &p);
            pull(y);
            assert_true(get(y, 0) == 321.0 && get(y, 1) == 654.0);
        }
        backend->ops->weight_refresh(backend, weight);
        backend->ops->matmul_forward(backend, &p);
        pull(y);
        assert_true(get(y, 0) == 321.0 && get(y, 1) == 754.0);
        backend->ops->weight_destroy(backend, weight);
        arrays_free();
    }
}

/* A weight that is filled part by part, and has no natural tensor, is the weight. */
static void test_fill(void **state)
{
    (void)state;
    enum { N = 3 * PARAM_PART_ROWS + 5, K = 70, M = 3 };
    static const enum dtype types[] = {DTYPE_F32, DTYPE_BF16};
    EACH_PRODUCT
    for (size_t t = 0; t < 2 && backend->ops->weight_fill != NULL; t++) {
        const struct matrix w = matrix_new(N, K, K, types[t], 1), x = matrix_new(M, K, K, types[t], 2);
        const struct array *y[2] = {array_new(M * N, DTYPE_F32, 0, 0.0), array_new(M * N, DTYPE_F32, 0, 0.0)};
        struct weight *weight[2] = {weight_of(&w), NULL};
        cohort_error err = {0};
        assert_int_equal(
            backend->ops->weight_create(backend, &weight[1],
                                        &(struct weight_source){.format = storage_of(types[t]), .n = N, .k = K}, &err),
            COHORT_OK);
        static const int64_t part[3][2] = {
            {2 * PARAM_PART_ROWS, PARAM_PART_ROWS + 5}, {0, PARAM_PART_ROWS}, {PARAM_PART_ROWS, PARAM_PART_ROWS}};
        for (int i = 0; i < 3; i++)
            backend->ops->weight_fill(backend, weight[1], part[i][0], part[i][1], row_at(&w, part[i][0]));
        for (int i = 0; i < 2; i++)
            backend->ops->matmul_forward(
                backend, &(struct matmul_forward){
                             .w = weight[i], .m = M, .x = x.a->d, .y = y[i]->d, .y_stride = N, .y_type = DTYPE_F32});
        pull(y[0]);
        pull(y[1]);
        assert_memory_equal(y[0]->x, y[1]->x, y[0]->bytes);
        backend->ops->weight_destroy(backend, weight[0]);
        backend->ops->weight_destroy(backend, weight[1]);
        arrays_free();
    }
}

/* Nothing to do is no error. */
static void test_nothing(void **state)
{
    (void)state;
    EACH_PRODUCT
    {
        const struct matrix w = matrix_new(8, 8, 8, DTYPE_F32, 1);
        struct weight *weight = weight_of(&w);
        backend->ops->matmul_forward(backend, &(struct matmul_forward){.w = weight, .m = 0});
        backend->ops->matmul_backward_input(backend, &(struct matmul_backward_input){.w = weight, .m = 0});
        backend->ops->matmul_backward_weight(backend, &(struct matmul_backward_weight){.n = 8, .k = 8});
        backend_must_be_well();
        backend->ops->weight_destroy(backend, weight);
        arrays_free();
    }
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    EACH_PRODUCT printf("%s is tested\n", provider);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference),
        cmocka_unit_test(test_f16),
        cmocka_unit_test(test_row_invariance),
        cmocka_unit_test(test_large_invariance),
        cmocka_unit_test(test_backward_input_parts),
        cmocka_unit_test(test_accumulate_is_one_addition),
        cmocka_unit_test(test_nan_stays_in_its_row),
        cmocka_unit_test(test_backward_threads),
        cmocka_unit_test(test_refresh),
        cmocka_unit_test(test_fill),
        cmocka_unit_test(test_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* A change of low rank to a projection (LoRA): forward and backward against double references on every backend, fused
 * and single, whole tiles and odd sizes; the same bits for rows alone, among others and with any number of threads; a
 * change whose b is 0 alters no bit. */
#include "kernels/kernel_test.h"

struct shape {
    int64_t m, k;
    int32_t n_parts;
    int64_t n[LOWRANK_PARTS], r[LOWRANK_PARTS], gap; /* gap: columns before the first part that have no change */
};

struct bench {
    const struct shape *shape;
    enum dtype type;
    struct lowrank change;
    int64_t n; /* columns of y */
    const struct array *w, *a, *b[LOWRANK_PARTS], *da, *db[LOWRANK_PARTS], *x, *dy;
    struct weight *base; /* of w [n, k] */
};

static struct weight *weight_of(const struct array *values, int64_t n, int64_t k)
{
    const struct weight_source source = {
        .format = storage_of(values->type), .data = values->d, .n = n, .k = k, .lowrank = true};
    struct weight *weight = NULL;
    cohort_error err = {0};
    if (backend->ops->weight_create(backend, &weight, &source, &err) != COHORT_OK)
        fail_msg("%s", err.message);
    return weight;
}

/* b_scale 0: nothing is changed. */
static void bench_open(struct bench *b, const struct shape *shape, enum dtype type, double b_scale)
{
    memset(b, 0, sizeof *b);
    b->shape = shape;
    b->type = type;
    b->change = (struct lowrank){.k = shape->k, .n_parts = shape->n_parts};
    b->n = shape->gap;
    for (int32_t i = 0; i < shape->n_parts; i++) {
        struct lowrank_part *part = &b->change.part[i];
        *part =
            (struct lowrank_part){.column = b->n, .n = shape->n[i], .r = shape->r[i], .scale = 0.75f + 0.5f * (float)i};
        b->b[i] = array_new(part->n * part->r, type, 10 + (uint64_t)i, b_scale);
        b->db[i] = array_new(part->n * part->r, DTYPE_F32, 20 + (uint64_t)i, 1.0);
        part->b = weight_of(b->b[i], part->n, part->r);
        part->db = b->db[i]->d;
        b->n += part->n;
        b->change.r += part->r;
    }
    b->a = array_new(b->change.r * shape->k, type, 1, 1.0);
    b->da = array_new(b->change.r * shape->k, DTYPE_F32, 2, 1.0);
    b->change.a = weight_of(b->a, b->change.r, shape->k);
    b->change.da = b->da->d;
    b->w = array_new(b->n * shape->k, type, 7, 0.5);
    b->base = weight_of(b->w, b->n, shape->k);
    b->x = array_new(shape->m * shape->k, type, 3, 1.0);
    b->dy = array_new(shape->m * b->n, type, 4, 1.0);
}

static void bench_close(struct bench *b)
{
    backend->ops->weight_destroy(backend, b->base);
    backend->ops->weight_destroy(backend, (struct weight *)b->change.a);
    for (int32_t i = 0; i < b->change.n_parts; i++)
        backend->ops->weight_destroy(backend, (struct weight *)b->change.part[i].b);
    arrays_free();
}

/* y = x . base^T + the change; where y is fp32, added to what is there. */
static void forward(const struct bench *b, int64_t first, int64_t rows, const struct array *y)
{
    const struct matmul_forward product = {.w = b->base,
                                           .m = rows,
                                           .x = (char *)b->x->d + (size_t)(first * b->shape->k) * dtype_bytes(b->type),
                                           .y = (char *)y->d + (size_t)(first * b->n) * dtype_bytes(y->type),
                                           .y_stride = b->n,
                                           .y_type = y->type,
                                           .accumulate = y->type == DTYPE_F32};
    backend->ops->lowrank_forward(backend, &(struct lowrank_forward){.change = &b->change, .product = &product});
}

/* The product alone. */
static void base_forward(const struct bench *b, const struct array *y)
{
    backend->ops->matmul_forward(backend, &(struct matmul_forward){.w = b->base,
                                                                   .m = b->shape->m,
                                                                   .x = b->x->d,
                                                                   .y = y->d,
                                                                   .y_stride = b->n,
                                                                   .y_type = y->type,
                                                                   .accumulate = y->type == DTYPE_F32});
}

static void backward(const struct bench *b, const struct array *dx)
{
    backend->ops->lowrank_backward(backend, &(struct lowrank_backward){.change = &b->change,
                                                                       .m = b->shape->m,
                                                                       .dy = b->dy->d,
                                                                       .dy_stride = b->n,
                                                                       .x = b->x->d,
                                                                       .dx = dx->d,
                                                                       .dx_type = dx->type});
}

static double rounded(double x, enum dtype type)
{
    return type == DTYPE_F32 ? x : (double)f32_from_bf16(bf16_from_f32((float)x));
}

/* The rounding of h moves by one step where its sum lies at the border between two values: a step of h, with what it is
 * multiplied by, is allowed beside the error of the sums. */
static double step_of(enum dtype type) { return type == DTYPE_F32 ? 1e-6 : 0.008; }

static void check_forward(const struct bench *b, enum dtype y_type)
{
    const int64_t m = b->shape->m, k = b->shape->k, n = b->n;
    const struct array *y = array_new(m * n, y_type, 5, 1.0), *alone = array_new(m * n, y_type, 5, 1.0),
                       *threads = array_new(m * n, y_type, 5, 1.0);
    const struct array *plain = array_new(m * n, y_type, 5, 1.0);
    forward(b, 0, m, y);
    base_forward(b, plain);
    pull(plain);
    pull(y);
    for (int64_t row = 0; row < m; row++) {
        int64_t first = 0;
        for (int64_t j = 0; j < b->shape->gap; j++)
            assert_true(get(y, row * n + j) == get(plain, row * n + j));
        for (int32_t i = 0; i < b->change.n_parts; i++) {
            const struct lowrank_part *part = &b->change.part[i];
            double h[64], size[64];
            for (int64_t c = 0; c < part->r; c++) {
                h[c] = size[c] = 0.0;
                for (int64_t e = 0; e < k; e++) {
                    const double product = get(b->x, row * k + e) * get(b->a, (first + c) * k + e);
                    h[c] += product;
                    size[c] += fabs(product);
                }
                h[c] = rounded((double)part->scale * h[c], b->type);
                size[c] = step_of(b->type) * fabs(h[c]) + 1e-6 * size[c] * (double)part->scale;
            }
            for (int64_t j = 0; j < part->n; j++) {
                const int64_t at_y = row * n + part->column + j;
                double want = get(plain, at_y), allowed = 1e-6 * fabs(want);
                for (int64_t c = 0; c < part->r; c++) {
                    const double w = get(b->b[i], j * part->r + c);
                    want += h[c] * w;
                    allowed += size[c] * fabs(w);
                }
                if (y_type == DTYPE_BF16)
                    allowed += 0.004 * fabs(want);
                if (!(fabs(get(y, at_y) - want) <= allowed))
                    fail_msg("%s: y[%lld, %lld] is %.9g, expected %.9g +- %.3g", provider, (long long)row,
                             (long long)(part->column + j), get(y, at_y), want, allowed);
            }
            first += part->r;
        }
    }
    for (int64_t row = 0; row < m; row += 3) /* rows in other batches */
        forward(b, row, m - row < 3 ? m - row : 3, alone);
    expect_same("rows in threes", y, alone);
    use_threads(3);
    forward(b, 0, m, threads);
    use_threads(1);
    expect_same("three threads", y, threads);
}

/* want +- allowed of the gradients, in double. */
static void check_backward(const struct bench *b, enum dtype dx_type)
{
    const int64_t m = b->shape->m, k = b->shape->k, n = b->n;
    const struct array *dx = array_new(m * k, dx_type, 6, 1.0);
    const double step = b->type == DTYPE_F32 ? 1e-6 : 0.006;
    backward(b, dx);
    pull(dx);
    pull(b->da);
    double *want_dx = widened(dx), *size_dx = widened(dx);
    for (int64_t i = 0; i < m * k; i++) {
        want_dx[i] = was(dx, i);
        size_dx[i] = fabs(want_dx[i]);
    }
    int64_t first = 0;
    for (int32_t i = 0; i < b->change.n_parts; i++) {
        const struct lowrank_part *part = &b->change.part[i];
        pull(b->db[i]);
        for (int64_t c = 0; c < part->r; c++) {
            double *h = calloc((size_t)m, sizeof *h), *d = calloc((size_t)m, sizeof *d);
            double *h_size = calloc((size_t)m, sizeof *h), *d_size = calloc((size_t)m, sizeof *d); /* of their sums */
            for (int64_t row = 0; row < m; row++) {
                for (int64_t e = 0; e < k; e++) {
                    const double product = get(b->x, row * k + e) * get(b->a, (first + c) * k + e);
                    h[row] += product;
                    h_size[row] += (double)part->scale * fabs(product);
                }
                for (int64_t j = 0; j < part->n; j++) {
                    const double product = get(b->dy, row * n + part->column + j) * get(b->b[i], j * part->r + c);
                    d[row] += product;
                    d_size[row] += (double)part->scale * fabs(product);
                }
                h[row] = rounded((double)part->scale * h[row], b->type);
                d[row] = rounded((double)part->scale * d[row], b->type);
                for (int64_t e = 0; e < k; e++) {
                    const double factor = get(b->a, (first + c) * k + e);
                    want_dx[row * k + e] += d[row] * factor;
                    size_dx[row * k + e] += d_size[row] * fabs(factor);
                }
            }
            for (int64_t j = 0; j < part->n; j++) {
                double want = was(b->db[i], j * part->r + c), size = fabs(want);
                for (int64_t row = 0; row < m; row++) {
                    want += get(b->dy, row * n + part->column + j) * h[row];
                    size += fabs(get(b->dy, row * n + part->column + j)) * h_size[row];
                }
                expect_near(get(b->db[i], j * part->r + c), want, DTYPE_F32, size, step);
            }
            for (int64_t e = 0; e < k; e++) {
                double want = was(b->da, (first + c) * k + e), size = fabs(want);
                for (int64_t row = 0; row < m; row++) {
                    want += get(b->x, row * k + e) * d[row];
                    size += fabs(get(b->x, row * k + e)) * d_size[row];
                }
                expect_near(get(b->da, (first + c) * k + e), want, DTYPE_F32, size, step);
            }
            free(h);
            free(d);
            free(h_size);
            free(d_size);
        }
        first += part->r;
    }
    for (int64_t i = 0; i < m * k; i++)
        expect_near(get(dx, i), want_dx[i], dx_type, size_dx[i], step);
    free(want_dx);
    free(size_dx);
}

static const struct shape shapes[] = {
    {.m = 5, .k = 32, .n_parts = 1, .n = {32}, .r = {8}},
    {.m = 37, .k = 96, .n_parts = 3, .n = {64, 32, 32}, .r = {16, 16, 16}},
    {.m = 19, .k = 1120, .n_parts = 2, .n = {96, 160}, .r = {8, 24}, .gap = 32},
    {.m = 9, .k = 64, .n_parts = 1, .n = {64}, .r = {56}},
    {.m = 7, .k = 33, .n_parts = 2, .n = {10, 17}, .r = {3, 1}},
    {.m = 4, .k = 2080, .n_parts = 1, .n = {1056}, .r = {16}},
};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

static void test_reference(void **state)
{
    (void)state;
    EACH_PRODUCT
    for (int type = DTYPE_F32; type <= DTYPE_BF16; type++)
        for (int s = 0; s < N_SHAPES; s++)
            for (int wide = DTYPE_F32; wide <= type; wide++) {
                struct bench b;
                bench_open(&b, &shapes[s], (enum dtype)type, 1.0);
                check_forward(&b, (enum dtype)wide);
                check_backward(&b, (enum dtype)wide);
                bench_close(&b);
            }
}

/* The example of PEFT in fp64 (Y, dA, dB, dX of y = W x + b + s B A x, for s = alpha / r and alpha / sqrt(r)). */
static void test_golden(void **state)
{
    (void)state;
    enum { M = 2, K = 3, N = 2, R = 2 };
    static const float w[] = {1, -.5f, .25f, .5f, .75f, -1}, a[] = {.2f, -.1f, .4f, .3f, .5f, -.2f},
                       b[] = {.5f, -.3f, .1f, .6f}, x[] = {1, 2, -1, .5f, -1.5f, 2}, g[] = {1, -2, .5f, 1.5f},
                       bias[] = {.1f, -.2f}, zero[N * K] = {0};
    static const struct {
        double scale, y[M * N], da[R * K], db[N * R], dx[M * K];
    } want[] = {{2,
                 {-1.45, 4.52, 3.5, -4.065},
                 {1, 0, 1, -2.25, -8.25, 6},
                 {.25, 2, 4.75, -9},
                 {-.78, -3.56, 3.09, 1.86, 1.545, -1.355}},
                {2.8284271247461903,
                 {-1.9884776311, 5.2324473273, 4.1834523779, -4.4750714267},
                 {1.4142135624, 0, 1.4142135624, -3.1819805153, -11.6672618896, 8.4852813742},
                 {.3535533906, 2.8284271247, 6.7175144213, -12.7279220614},
                 {-1.1030865787, -4.2061731573, 3.4379393924, 2.1126702730, 1.8225230868, -1.3467157288}}};
    EACH_PRODUCT
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        const struct array *W = array_of(w, N * K, DTYPE_F32), *A = array_of(a, R * K, DTYPE_F32),
                           *B = array_of(b, N * R, DTYPE_F32), *X = array_of(x, M * K, DTYPE_F32),
                           *G = array_of(g, M * N, DTYPE_F32), *da = array_of(zero, R * K, DTYPE_F32),
                           *db = array_of(zero, N * R, DTYPE_F32), *y = array_of(zero, M * N, DTYPE_F32),
                           *dx = array_of(zero, M * K, DTYPE_F32);
        struct weight *base = weight_of(W, N, K), *of_a = weight_of(A, R, K), *of_b = weight_of(B, N, R);
        const struct lowrank change = {
            .k = K,
            .r = R,
            .a = of_a,
            .da = da->d,
            .n_parts = 1,
            .part = {{.n = N, .r = R, .scale = (float)want[i].scale, .b = of_b, .db = db->d}}};
        backend->ops->lowrank_forward(
            backend, &(struct lowrank_forward){
                         .change = &change,
                         .product = &(struct matmul_forward){
                             .w = base, .m = M, .x = X->d, .y = y->d, .y_stride = N, .y_type = DTYPE_F32}});
        backend->ops->matmul_backward_input(
            backend, &(struct matmul_backward_input){
                         .w = base, .m = M, .dy = G->d, .dy_stride = N, .dx = dx->d, .dx_type = DTYPE_F32});
        backend->ops->lowrank_backward(
            backend,
            &(struct lowrank_backward){
                .change = &change, .m = M, .dy = G->d, .dy_stride = N, .x = X->d, .dx = dx->d, .dx_type = DTYPE_F32});
        pull(y), pull(da), pull(db), pull(dx);
        for (int e = 0; e < M * N; e++)
            expect_near(get(y, e) + (double)bias[e % N], want[i].y[e], DTYPE_F32, 5.0, 1e-6);
        for (int e = 0; e < R * K; e++)
            expect_near(get(da, e), want[i].da[e], DTYPE_F32, 12.0, 1e-6);
        for (int e = 0; e < N * R; e++)
            expect_near(get(db, e), want[i].db[e], DTYPE_F32, 13.0, 1e-6);
        for (int e = 0; e < M * K; e++)
            expect_near(get(dx, e), want[i].dx[e], DTYPE_F32, 5.0, 1e-6);
        backend->ops->weight_destroy(backend, base);
        backend->ops->weight_destroy(backend, of_a);
        backend->ops->weight_destroy(backend, of_b);
        arrays_free();
    }
}

/* More rows than have blocks of their own in a device's product, whose first are the same bits in a small batch. */
static void test_many_rows(void **state)
{
    (void)state;
    static const struct shape many = {.m = 1100, .k = 4128, .n_parts = 2, .n = {32, 32}, .r = {16, 8}};
    EACH_PRODUCT
    {
        struct bench b;
        bench_open(&b, &many, DTYPE_BF16, 1.0);
        /* Most of x . a^T cancels: what is left shows the order of its sum in spite of the rounding of h. */
        const int64_t half = many.k / 2;
        for (int64_t row = 0; row < many.m; row++)
            for (int64_t j = 1; j < half; j++)
                set(b.x, row * many.k + half + j, (float)get(b.x, row * many.k + j));
        for (int64_t c = 0; c < b.change.r; c++)
            for (int64_t j = 1; j < half; j++)
                set(b.a, c * many.k + half + j, -(float)get(b.a, c * many.k + j));
        push(b.x);
        push(b.a);
        backend->ops->weight_refresh(backend, (struct weight *)b.change.a);
        const struct array *y = array_new(many.m * b.n, DTYPE_BF16, 5, 1.0),
                           *few = array_new(many.m * b.n, DTYPE_BF16, 5, 1.0);
        forward(&b, 0, many.m, y);
        for (int64_t row = 0; row < many.m; row += 550)
            forward(&b, row, 550, few);
        expect_same("rows in two batches", y, few);
        bench_close(&b);
    }
}

struct step {
    const struct bench *b;
    const struct array *y;
};

static void step(void *context)
{
    const struct step *s = context;
    forward(s->b, 0, s->b->shape->m, s->y);
}

/* A device repeats a recording of the operation, in which parts of it run side by side. */
static void test_recorded(void **state)
{
    (void)state;
    enum { TIMES = 4 };
    EACH_PRODUCT
    for (int s = 0; s < N_SHAPES && backend->ops->repeat != NULL; s++) {
        struct bench b;
        bench_open(&b, &shapes[s], DTYPE_BF16, 1.0);
        const int64_t count = shapes[s].m * b.n;
        const struct array *y = array_new(count, DTYPE_F32, 5, 1.0), *recorded = array_new(count, DTYPE_F32, 5, 1.0);
        struct step once = {&b, recorded};
        for (int i = 0; i < TIMES; i++)
            forward(&b, 0, shapes[s].m, y);
        backend->ops->repeat(backend, 77 + (uint64_t)s, TIMES, step, &once);
        expect_same("a recorded step", y, recorded);
        bench_close(&b);
    }
}

static void test_zero(void **state)
{
    (void)state;
    EACH_PRODUCT
    for (int type = DTYPE_F32; type <= DTYPE_BF16; type++)
        for (int s = 0; s < N_SHAPES; s++) {
            struct bench b;
            bench_open(&b, &shapes[s], (enum dtype)type, 0.0);
            const int64_t count = shapes[s].m * b.n;
            const struct array *y = array_new(count, (enum dtype)type, 5, 1.0),
                               *alone = array_new(count, (enum dtype)type, 5, 1.0);
            for (int64_t i = 0; i < b.w->count;
                 i++) /* products so small that they are rounded to zeros of either sign */
                set(b.w, i, i % b.shape->k == 0 ? -1e-40f : 0.0f);
            push(b.w);
            backend->ops->weight_refresh(backend, b.base);
            forward(&b, 0, shapes[s].m, y);
            base_forward(&b, alone);
            expect_same("a change that is zero", y, alone);
            bench_close(&b);
        }
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_reference), cmocka_unit_test(test_golden),
                                       cmocka_unit_test(test_many_rows), cmocka_unit_test(test_recorded),
                                       cmocka_unit_test(test_zero)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

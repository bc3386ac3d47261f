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
    const struct array *a, *b[LOWRANK_PARTS], *da, *db[LOWRANK_PARTS], *x, *dy;
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
    b->x = array_new(shape->m * shape->k, type, 3, 1.0);
    b->dy = array_new(shape->m * b->n, type, 4, 1.0);
}

static void bench_close(struct bench *b)
{
    backend->ops->weight_destroy(backend, (struct weight *)b->change.a);
    for (int32_t i = 0; i < b->change.n_parts; i++)
        backend->ops->weight_destroy(backend, (struct weight *)b->change.part[i].b);
    arrays_free();
}

static void forward(const struct bench *b, int64_t first, int64_t rows, const struct array *y)
{
    backend->ops->lowrank_forward(
        backend, &(struct lowrank_forward){.change = &b->change,
                                           .m = rows,
                                           .x = (char *)b->x->d + (size_t)(first * b->shape->k) * dtype_bytes(b->type),
                                           .y = (char *)y->d + (size_t)(first * b->n) * dtype_bytes(y->type),
                                           .y_stride = b->n,
                                           .y_type = y->type});
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
    forward(b, 0, m, y);
    pull(y);
    for (int64_t row = 0; row < m; row++) {
        int64_t first = 0;
        for (int64_t j = 0; j < b->shape->gap; j++)
            assert_true(get(y, row * n + j) == was(y, row * n + j));
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
                double want = was(y, at_y), allowed = 1e-6 * fabs(want);
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

/* More rows than have blocks of their own in a device's product, whose first are the same bits in a small batch. */
static void test_many_rows(void **state)
{
    (void)state;
    static const struct shape many = {.m = 1100, .k = 1088, .n_parts = 2, .n = {32, 32}, .r = {16, 8}};
    EACH_PRODUCT
    {
        struct bench b;
        bench_open(&b, &many, DTYPE_BF16, 1.0);
        const struct array *y = array_new(many.m * b.n, DTYPE_BF16, 5, 1.0),
                           *few = array_new(many.m * b.n, DTYPE_BF16, 5, 1.0);
        forward(&b, 0, many.m, y);
        for (int64_t row = 0; row < many.m; row += 550)
            forward(&b, row, 550, few);
        expect_same("rows in two batches", y, few);
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
                               *before = array_new(count, (enum dtype)type, 5, 1.0);
            for (int64_t i = 0; i < count; i += 2) { /* negative zeros too */
                set(y, i, -0.0f);
                set(before, i, -0.0f);
            }
            push(y);
            push(before);
            forward(&b, 0, shapes[s].m, y);
            expect_same("a change that is zero", y, before);
            bench_close(&b);
        }
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_reference), cmocka_unit_test(test_many_rows),
                                       cmocka_unit_test(test_zero)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

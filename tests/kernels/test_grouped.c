/* Products of groups of rows against double references on every provider: groups without rows, all rows in one, whole
 * tiles and odd sizes, gathered and grouped factors; the same bits for a row whose expert has it alone and hundreds of
 * others, with any number of threads, and the bits of the plain product of the same row; likewise what changes of low rank
 * add to them. */
#include "kernels/kernel_test.h"

#include "backend/expert_ops.h"

enum { MOST_GROUPS = 8 };

struct shape {
    int64_t n, k;
    int32_t groups, each;
    int64_t rows[MOST_GROUPS]; /* their sum is a multiple of each */
};

static const struct shape shapes[] = {
    {24, 16, 3, 2, {1, 0, 5}},
    {17, 23, 2, 1, {3, 2}},
    {64, 72, 4, 2, {16, 17, 1, 0}},
    {136, 200, 2, 4, {129, 63}},
    {40, 64, 3, 3, {0, 90, 0}},
    {128, 128, 1, 1, {33}},
    {8, 8, 8, 4, {1, 1, 0, 0, 1, 1, 2, 2}},
    {72, 56, 2, 2, {300, 2}},
};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

struct bench {
    const struct shape *shape;
    enum dtype type;
    int64_t rows;
    const struct array *w, *begin, *pair;
    struct weight *weights[MOST_GROUPS];
    struct row_groups groups;
};

/* Pairs are dealt to rows in an order that is not their own. */
static void bench_open(struct bench *b, const struct shape *s, enum dtype type)
{
    int32_t begin[MOST_GROUPS + 1] = {0}, pair[2048];
    cohort_error err = {0};
    memset(b, 0, sizeof *b);
    b->shape = s;
    b->type = type;
    for (int32_t g = 0; g < s->groups; g++)
        begin[g + 1] = begin[g] + (int32_t)s->rows[g];
    b->rows = begin[s->groups];
    assert_true(b->rows % s->each == 0 && b->rows <= 2048);
    for (int64_t r = 0; r < b->rows; r++)
        pair[r] = (int32_t)((r * 7 + 3) % b->rows);
    assert_true(b->rows % 7 != 0);
    b->w = array_new(s->groups * s->n * s->k, type, 1, 1.0);
    b->begin = ids_of(begin, s->groups + 1);
    b->pair = ids_of(pair, b->rows);
    for (int32_t g = 0; g < s->groups; g++) {
        const struct weight_source source = {.format = storage_of(type),
                                             .data =
                                                 (const char *)b->w->d + (size_t)(g * s->n * s->k) * dtype_bytes(type),
                                             .n = s->n,
                                             .k = s->k};
        if (backend->ops->weight_create(backend, &b->weights[g], &source, &err) != COHORT_OK)
            fail_msg("%s", err.message);
    }
    b->groups =
        (struct row_groups){.n = s->groups, .each = s->each, .rows = b->rows, .begin = b->begin->d, .pair = b->pair->d};
}

static void bench_close(struct bench *b)
{
    for (int32_t g = 0; g < b->shape->groups; g++)
        backend->ops->weight_destroy(backend, b->weights[g]);
    arrays_free();
}

static const struct weight *const *weights_of(const struct bench *b)
{
    return (const struct weight *const *)b->weights;
}

static int32_t group_of(const struct bench *b, int64_t row)
{
    int32_t g = 0;
    while (row >= ((const int32_t *)b->begin->x)[g + 1])
        g++;
    return g;
}

static int64_t source_of(const struct bench *b, bool gather, int64_t row)
{
    return gather ? ((const int32_t *)b->pair->x)[row] / b->shape->each : row;
}

/* Sums of k products of numbers below 1: fp32 chains, as in test_matmul. */
static double slack(int64_t depth) { return 1e-6 + 1.2e-7 * (double)depth; }

static void check_forward(const struct shape *s, enum dtype type, bool gather)
{
    struct bench b;
    bench_open(&b, s, type);
    const int64_t x_rows = gather ? b.rows / s->each : b.rows;
    const struct array *x = array_new(x_rows * s->k, type, 2, 1.0), *y = array_new(b.rows * s->n, type, 0, 0.0),
                       *y2 = array_new(b.rows * s->n, type, 0, 0.0), *one = array_new(s->n, type, 0, 0.0);
    struct grouped_forward f = {.groups = &b.groups, .w = weights_of(&b), .gather = gather, .x = x->d, .y = y->d};
    use_threads(1);
    backend->ops->grouped_forward(backend, &f);
    f.y = y2->d;
    use_threads(3);
    backend->ops->grouped_forward(backend, &f);
    expect_same("three threads", y, y2);
    for (int64_t r = 0; r < b.rows; r++) {
        const int32_t g = group_of(&b, r);
        const int64_t from = source_of(&b, gather, r);
        for (int64_t i = 0; i < s->n; i++) {
            double sum = 0.0, scale = 0.0;
            for (int64_t l = 0; l < s->k; l++) {
                const double v = get(x, from * s->k + l) * get(b.w, (g * s->n + i) * s->k + l);
                sum += v;
                scale += fabs(v);
            }
            expect_near(get(y, r * s->n + i), sum, type, scale, slack(s->k));
        }
        if (r % 5 != 0 && r + 1 < b.rows)
            continue;
        /* The row by itself through the product that dense layers use. */
        backend->ops->matmul_forward(
            backend, &(struct matmul_forward){.w = b.weights[g],
                                              .m = 1,
                                              .x = (const char *)x->d + (size_t)(from * s->k) * dtype_bytes(type),
                                              .y = one->d,
                                              .y_stride = s->n,
                                              .y_type = type});
        pull(one);
        if (memcmp(one->x, (const char *)y->x + (size_t)(r * s->n) * dtype_bytes(type),
                   (size_t)s->n * dtype_bytes(type)) != 0)
            fail_msg("%s: row %d of %d has other bits alone", provider, (int)r, (int)b.rows);
    }
    bench_close(&b);
}

static void test_forward(void **state)
{
    (void)state;
    EACH_PRODUCT
    for (int i = 0; i < N_SHAPES; i++)
        for (int type = DTYPE_F32; type <= DTYPE_BF16; type++)
            for (int gather = 0; gather < 2; gather++)
                check_forward(&shapes[i], (enum dtype)type, gather == 1);
}

/* One expert's row alone, among 16, 17 and 300 others, and with other experts that are as busy: the same bits. */
static void test_row_invariance(void **state)
{
    (void)state;
    static const int64_t beside[] = {0, 15, 16, 63, 299};
    EACH_PRODUCT
    for (int type = DTYPE_F32; type <= DTYPE_BF16; type++) {
        unsigned char first[256 * sizeof(float)];
        for (int i = 0; i < 5; i++) {
            struct shape s = {.n = 136, .k = 264, .groups = 2, .each = 1, .rows = {beside[i] + 1, i % 2 == 0 ? 0 : 40}};
            struct bench b;
            if ((s.rows[0] + s.rows[1]) % 7 == 0)
                s.rows[1]++;
            bench_open(&b, &s, (enum dtype)type);
            const struct array *x = array_new(b.rows * s.k, (enum dtype)type, 9, 1.0),
                               *y = array_new(b.rows * s.n, (enum dtype)type, 0, 0.0);
            backend->ops->grouped_forward(
                backend, &(struct grouped_forward){.groups = &b.groups, .w = weights_of(&b), .x = x->d, .y = y->d});
            pull(y);
            if (i == 0)
                memcpy(first, y->x, (size_t)s.n * dtype_bytes((enum dtype)type));
            else
                assert_memory_equal(first, y->x, (size_t)s.n * dtype_bytes((enum dtype)type));
            bench_close(&b);
        }
    }
}

static void check_backward_input(const struct shape *s, enum dtype type, enum dtype dx_type, bool gather)
{
    struct bench b;
    bench_open(&b, s, type);
    const int64_t dy_rows = gather ? b.rows / s->each : b.rows;
    const struct array *dy = array_new(dy_rows * s->n, type, 2, 1.0), *dx = array_new(b.rows * s->k, dx_type, 0, 0.0),
                       *dx2 = array_new(b.rows * s->k, dx_type, 0, 0.0);
    struct grouped_backward_input f = {
        .groups = &b.groups, .w = weights_of(&b), .gather = gather, .dy = dy->d, .dx = dx->d, .dx_type = dx_type};
    use_threads(1);
    backend->ops->grouped_backward_input(backend, &f);
    f.dx = dx2->d;
    use_threads(3);
    backend->ops->grouped_backward_input(backend, &f);
    expect_same("three threads", dx, dx2);
    for (int64_t r = 0; r < b.rows; r++)
        for (int64_t i = 0; i < s->k; i++) {
            double sum = 0.0, scale = 0.0;
            for (int64_t l = 0; l < s->n; l++) {
                const double v =
                    get(dy, source_of(&b, gather, r) * s->n + l) * get(b.w, (group_of(&b, r) * s->n + l) * s->k + i);
                sum += v;
                scale += fabs(v);
            }
            expect_near(get(dx, r * s->k + i), sum, dx_type, scale, slack(s->n));
        }
    bench_close(&b);
}

static void check_backward_weight(const struct shape *s, enum dtype type, bool gather_dy, bool gather_x)
{
    struct bench b;
    bench_open(&b, s, type);
    const int64_t few = b.rows / s->each, count = s->groups * s->n * s->k;
    const struct array *dy = array_new((gather_dy ? few : b.rows) * s->n, type, 2, 1.0),
                       *x = array_new((gather_x ? few : b.rows) * s->k, type, 3, 1.0),
                       *dw = array_new(count, DTYPE_F32, 4, 1.0), *dw2 = array_new(count, DTYPE_F32, 4, 1.0);
    struct grouped_backward_weight f = {.groups = &b.groups,
                                        .n = s->n,
                                        .k = s->k,
                                        .gather_dy = gather_dy,
                                        .gather_x = gather_x,
                                        .dy = dy->d,
                                        .x = x->d,
                                        .type = type,
                                        .dw = dw->d};
    use_threads(1);
    backend->ops->grouped_backward_weight(backend, &f);
    f.dw = dw2->d;
    use_threads(3);
    backend->ops->grouped_backward_weight(backend, &f);
    expect_same("three threads", dw, dw2);
    double *sum = malloc((size_t)count * sizeof *sum), *scale = calloc((size_t)count, sizeof *scale);
    assert_true(sum != NULL && scale != NULL);
    for (int64_t i = 0; i < count; i++)
        sum[i] = was(dw, i);
    for (int64_t r = 0; r < b.rows; r++)
        for (int64_t i = 0; i < s->n; i++)
            for (int64_t j = 0; j < s->k; j++) {
                const int64_t at_w = (group_of(&b, r) * s->n + i) * s->k + j;
                const double v =
                    get(dy, source_of(&b, gather_dy, r) * s->n + i) * get(x, source_of(&b, gather_x, r) * s->k + j);
                sum[at_w] += v;
                scale[at_w] += fabs(v);
            }
    for (int64_t i = 0; i < count; i++)
        expect_near(get(dw, i), sum[i], DTYPE_F32, 1.0 + scale[i], slack(b.rows));
    free(sum);
    free(scale);
    bench_close(&b);
}

static void test_backward(void **state)
{
    (void)state;
    EACH_PRODUCT
    for (int i = 0; i < N_SHAPES; i++)
        for (int type = DTYPE_F32; type <= DTYPE_BF16; type++) {
            const enum dtype t = (enum dtype)type;
            for (int gather = 0; gather < 2; gather++)
                check_backward_input(&shapes[i], t, gather == 0 ? DTYPE_F32 : t, gather == 1);
            check_backward_weight(&shapes[i], t, true, false);
            check_backward_weight(&shapes[i], t, false, true);
        }
}

/* Weights in F16: the bits of the same values in F32. */
static void check_f16(const struct shape *s, bool gather)
{
    struct bench b;
    struct weight *narrow[MOST_GROUPS], *wide[MOST_GROUPS];
    const struct array *f16 = NULL, *f32 = NULL;
    cohort_error err = {0};
    bench_open(&b, s, DTYPE_F32);
    halves_of(s->groups * s->n * s->k, 5, 1.0, &f16, &f32);
    for (int32_t g = 0; g < s->groups; g++)
        for (int which = 0; which < 2; which++) {
            const struct array *a = which == 0 ? f16 : f32;
            const struct weight_source source = {.format = which == 0 ? STORAGE_F16 : STORAGE_F32,
                                                 .data = (const char *)a->d +
                                                         (size_t)(g * s->n * s->k) * dtype_bytes(a->type),
                                                 .n = s->n,
                                                 .k = s->k};
            if (backend->ops->weight_create(backend, which == 0 ? &narrow[g] : &wide[g], &source, &err) != COHORT_OK)
                fail_msg("%s", err.message);
        }
    const int64_t rows = gather ? b.rows / s->each : b.rows;
    const struct array *x = array_new(rows * s->k, DTYPE_F32, 2, 1.0), *dy = array_new(rows * s->n, DTYPE_F32, 3, 1.0),
                       *y = array_new(b.rows * s->n, DTYPE_F32, 0, 0.0),
                       *y2 = array_new(b.rows * s->n, DTYPE_F32, 0, 0.0),
                       *dx = array_new(b.rows * s->k, DTYPE_F32, 0, 0.0),
                       *dx2 = array_new(b.rows * s->k, DTYPE_F32, 0, 0.0);
    for (int which = 0; which < 2; which++) {
        const struct weight *const *w = (const struct weight *const *)(which == 0 ? narrow : wide);
        backend->ops->grouped_forward(
            backend, &(struct grouped_forward){
                         .groups = &b.groups, .w = w, .gather = gather, .x = x->d, .y = which == 0 ? y->d : y2->d});
        backend->ops->grouped_backward_input(backend,
                                             &(struct grouped_backward_input){.groups = &b.groups,
                                                                              .w = w,
                                                                              .gather = gather,
                                                                              .dy = dy->d,
                                                                              .dx = which == 0 ? dx->d : dx2->d,
                                                                              .dx_type = DTYPE_F32});
    }
    expect_same("y of F16 weights", y, y2);
    expect_same("dx of F16 weights", dx, dx2);
    for (int32_t g = 0; g < s->groups; g++) {
        backend->ops->weight_destroy(backend, narrow[g]);
        backend->ops->weight_destroy(backend, wide[g]);
    }
    bench_close(&b);
}

static void test_f16(void **state)
{
    (void)state;
    EACH_PRODUCT
    for (int i = 0; i < (test_options.small ? 4 : N_SHAPES); i++)
        check_f16(&shapes[i], i % 2 == 1);
}

/* ---- Changes of low rank ---- */

/* Weights like those of a stack [groups, n, k], in values of size scale. */
static const struct array *factor_new(const struct bench *b, int64_t n, int64_t k, uint64_t salt, double scale,
                                      struct weight *weights[MOST_GROUPS])
{
    cohort_error err = {0};
    const struct array *w = array_new(b->shape->groups * n * k, b->type, salt, scale);
    for (int32_t g = 0; g < b->shape->groups; g++) {
        const struct weight_source source = {.format = storage_of(b->type),
                                             .data = (const char *)w->d + (size_t)(g * n * k) * dtype_bytes(b->type),
                                             .n = n,
                                             .k = k};
        if (backend->ops->weight_create(backend, &weights[g], &source, &err) != COHORT_OK)
            fail_msg("%s", err.message);
    }
    return w;
}

static double rounded(double value, enum dtype type)
{
    return type == DTYPE_F32 ? (double)(float)value : (double)f32_from_bf16(bf16_from_f32((float)value));
}

/* Forward and backward against sums in double, h and d rounded as they are: with any number of threads, of a row alone as
 * struct lowrank_forward has it; b 0 changes no bit. */
static void check_change(const struct shape *s, enum dtype type, int64_t r, bool gather_x)
{
    struct bench b;
    struct weight *weights_a[MOST_GROUPS], *weights_b[MOST_GROUPS], *weights_0[MOST_GROUPS];
    const float scale = 1.5f;
    bench_open(&b, s, type);
    const struct array *a = factor_new(&b, r, s->k, 5, 1.0, weights_a),
                       *bb = factor_new(&b, s->n, r, 6, 1.0, weights_b);
    (void)factor_new(&b, s->n, r, 7, 0.0, weights_0);
    const int64_t few = b.rows / s->each;
    const bool gather_dy = !gather_x;
    const struct array *x = array_new((gather_x ? few : b.rows) * s->k, type, 2, 1.0),
                       *dy = array_new((gather_dy ? few : b.rows) * s->n, type, 3, 1.0),
                       *y = array_new(b.rows * s->n, type, 4, 1.0), *y2 = array_new(b.rows * s->n, type, 4, 1.0),
                       *dx = array_new(b.rows * s->k, DTYPE_F32, 8, 1.0),
                       *dx2 = array_new(b.rows * s->k, DTYPE_F32, 8, 1.0),
                       *da = array_new(s->groups * r * s->k, DTYPE_F32, 9, 1.0),
                       *da2 = array_new(s->groups * r * s->k, DTYPE_F32, 9, 1.0),
                       *db = array_new(s->groups * s->n * r, DTYPE_F32, 10, 1.0),
                       *db2 = array_new(s->groups * s->n * r, DTYPE_F32, 10, 1.0);
    struct expert_change change = {.n = s->n,
                                   .k = s->k,
                                   .r = r,
                                   .scale = scale,
                                   .a = (const struct weight *const *)weights_a,
                                   .b = (const struct weight *const *)weights_0};
    struct grouped_change_forward f = {
        .groups = &b.groups, .change = &change, .gather = gather_x, .x = x->d, .y = y2->d};
    backend->ops->grouped_change_forward(backend, &f); /* b is 0 */
    expect_same("a change that is 0", y, y2);
    change.b = (const struct weight *const *)weights_b;
    use_threads(1);
    f.y = y->d;
    backend->ops->grouped_change_forward(backend, &f);
    use_threads(3);
    f.y = y2->d;
    backend->ops->grouped_change_forward(backend, &f);
    expect_same("three threads", y, y2);
    for (int pass = 0; pass < 2; pass++) { /* the gradients, and dx apart, as callers ask */
        use_threads(pass == 0 ? 1 : 3);
        change.da = pass == 0 ? da->d : da2->d;
        change.db = pass == 0 ? db->d : db2->d;
        struct grouped_change_backward g = {.groups = &b.groups,
                                            .change = &change,
                                            .gather_dy = gather_dy,
                                            .dy = dy->d,
                                            .gather_x = gather_x,
                                            .x = x->d};
        backend->ops->grouped_change_backward(backend, &g);
        g.x = NULL;
        g.gather_x = false;
        g.dx = pass == 0 ? dx->d : dx2->d;
        g.dx_type = DTYPE_F32;
        backend->ops->grouped_change_backward(backend, &g);
    }
    expect_same("dx, three threads", dx, dx2);
    expect_same("da, three threads", da, da2);
    expect_same("db, three threads", db, db2);
    pull(y), pull(dx), pull(da), pull(db);

    const int64_t n_a = s->groups * r * s->k, n_b = s->groups * s->n * r;
    double *want_a = calloc((size_t)n_a, sizeof *want_a), *want_b = calloc((size_t)n_b, sizeof *want_b),
           *size_a = calloc((size_t)n_a, sizeof *size_a), *size_b = calloc((size_t)n_b, sizeof *size_b);
    assert_true(want_a && want_b && size_a && size_b);
    for (int64_t row = 0; row < b.rows; row++) {
        const int64_t e = group_of(&b, row), from_x = source_of(&b, gather_x, row),
                      from_y = source_of(&b, gather_dy, row);
        double h[16] = {0}, d[16] = {0}, size_h[16] = {0}, size_d[16] = {0};
        for (int64_t j = 0; j < r; j++) {
            for (int64_t l = 0; l < s->k; l++) {
                const double v = scale * get(x, from_x * s->k + l) * get(a, (e * r + j) * s->k + l);
                h[j] += v, size_h[j] += fabs(v);
            }
            for (int64_t i = 0; i < s->n; i++) {
                const double v = scale * get(dy, from_y * s->n + i) * get(bb, (e * s->n + i) * r + j);
                d[j] += v, size_d[j] += fabs(v);
            }
            h[j] = rounded(h[j], type), d[j] = rounded(d[j], type);
        }
        for (int64_t i = 0; i < s->n; i++) {
            double sum = was(y, row * s->n + i), size = fabs(sum);
            for (int64_t j = 0; j < r; j++) {
                sum += h[j] * get(bb, (e * s->n + i) * r + j);
                size += size_h[j] * fabs(get(bb, (e * s->n + i) * r + j));
                want_b[(e * s->n + i) * r + j] += get(dy, from_y * s->n + i) * h[j];
                size_b[(e * s->n + i) * r + j] += fabs(get(dy, from_y * s->n + i)) * size_h[j];
            }
            expect_near(get(y, row * s->n + i), sum, type, size, slack(s->k) + (type == DTYPE_BF16 ? 0x1p-8 : 0));
        }
        for (int64_t l = 0; l < s->k; l++) {
            double sum = was(dx, row * s->k + l), size = fabs(sum);
            for (int64_t j = 0; j < r; j++) {
                sum += d[j] * get(a, (e * r + j) * s->k + l);
                size += size_d[j] * fabs(get(a, (e * r + j) * s->k + l));
                want_a[(e * r + j) * s->k + l] += get(x, from_x * s->k + l) * d[j];
                size_a[(e * r + j) * s->k + l] += fabs(get(x, from_x * s->k + l)) * size_d[j];
            }
            /* A rounding of d that falls to the other side moves by half a unit of bf16. */
            expect_near(get(dx, row * s->k + l), sum, DTYPE_F32, size, slack(s->n) + (type == DTYPE_BF16 ? 0x1p-8 : 0));
        }
    }
    for (int64_t i = 0; i < n_a; i++)
        expect_near(get(da, i), was(da, i) + want_a[i], DTYPE_F32, 1.0 + size_a[i],
                    slack(b.rows + s->n) + (type == DTYPE_BF16 ? 0x1p-8 : 0));
    for (int64_t i = 0; i < n_b; i++)
        expect_near(get(db, i), was(db, i) + want_b[i], DTYPE_F32, 1.0 + size_b[i],
                    slack(b.rows + s->k) + (type == DTYPE_BF16 ? 0x1p-8 : 0));
    free(want_a), free(want_b), free(size_a), free(size_b);
    for (int32_t g = 0; g < s->groups; g++) {
        backend->ops->weight_destroy(backend, weights_a[g]);
        backend->ops->weight_destroy(backend, weights_b[g]);
        backend->ops->weight_destroy(backend, weights_0[g]);
    }
    bench_close(&b);
}

static void test_change(void **state)
{
    (void)state;
    static const int64_t ranks[] = {8, 3, 16, 1};
    EACH_PRODUCT
    for (int i = test_options.small ? N_SHAPES - 5 : 0; i < N_SHAPES - (test_options.small ? 1 : 0); i++)
        for (int type = DTYPE_F32; type <= DTYPE_BF16; type++)
            check_change(&shapes[i], (enum dtype)type, ranks[i % 4], i / 2 % 2 == (type == DTYPE_BF16));
}

/* A row's change has the same bits alone and among hundreds, whose experts are as busy. */
static void test_change_invariance(void **state)
{
    (void)state;
    static const int64_t beside[] = {0, 15, 16, 63, 299};
    EACH_PRODUCT
    for (int type = DTYPE_F32; type <= DTYPE_BF16; type++)
        for (int64_t r = 5; r <= 8; r += 3) {
            unsigned char first[256 * sizeof(float)];
            for (int i = 0; i < 5; i++) {
                struct shape s = {
                    .n = 136, .k = 264, .groups = 2, .each = 1, .rows = {beside[i] + 1, i % 2 == 0 ? 0 : 40}};
                struct bench b;
                struct weight *weights_a[MOST_GROUPS], *weights_b[MOST_GROUPS];
                if ((s.rows[0] + s.rows[1]) % 7 == 0)
                    s.rows[1]++;
                bench_open(&b, &s, (enum dtype)type);
                (void)factor_new(&b, r, s.k, 5, 1.0, weights_a), (void)factor_new(&b, s.n, r, 6, 1.0, weights_b);
                const struct array *x = array_new(b.rows * s.k, (enum dtype)type, 9, 1.0),
                                   *y = array_new(b.rows * s.n, (enum dtype)type, 4, 1.0);
                const struct expert_change change = {.n = s.n,
                                                     .k = s.k,
                                                     .r = r,
                                                     .scale = 2.0f,
                                                     .a = (const struct weight *const *)weights_a,
                                                     .b = (const struct weight *const *)weights_b};
                backend->ops->grouped_change_forward(
                    backend,
                    &(struct grouped_change_forward){.groups = &b.groups, .change = &change, .x = x->d, .y = y->d});
                pull(y);
                if (i == 0)
                    memcpy(first, y->x, (size_t)s.n * dtype_bytes((enum dtype)type));
                else
                    assert_memory_equal(first, y->x, (size_t)s.n * dtype_bytes((enum dtype)type));
                for (int32_t g = 0; g < s.groups; g++) {
                    backend->ops->weight_destroy(backend, weights_a[g]);
                    backend->ops->weight_destroy(backend, weights_b[g]);
                }
                bench_close(&b);
            }
        }
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward), cmocka_unit_test(test_row_invariance), cmocka_unit_test(test_backward),
        cmocka_unit_test(test_f16),     cmocka_unit_test(test_change),         cmocka_unit_test(test_change_invariance),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

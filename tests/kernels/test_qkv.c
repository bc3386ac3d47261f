/* Split, per head norm and rotation against double references, which are held by central differences, on every backend;
 * bits that do not depend on batch, threads or address. */
#include "kernels/kernel_test.h"
#include "support/reference.h"

enum { MAX_POSITION = 300, MOST_TOKENS = 9001 };

/* A batch: tokens at scattered positions, key rows in reverse order with a row of nobody behind each. hidden: every so
 * many tokens have no key row, 0 none. */
struct problem {
    struct qkv_backward p;   /* in backend memory */
    struct qkv_forward here; /* what the references look at */
    const struct array *qkv, *q_gain, *k_gain, *q, *k, *v, *dq, *dk, *dv, *d_qkv, *d_q_gain, *d_k_gain;
    const struct array *cosine, *sine;
    int32_t position[MOST_TOKENS], kv_row[MOST_TOKENS];
};

/* What the sine and cosine of the rotation are. */
static void fill_tables(const struct problem *b, int32_t n)
{
    for (int32_t t = 0; t < MAX_POSITION; t++)
        for (int32_t i = 0; i < n / 2; i++) {
            const double angle = t * pow(10000.0, -2.0 * i / n);
            set(b->cosine, t * (n / 2) + i, (float)cos(angle));
            set(b->sine, t * (n / 2) + i, (float)sin(angle));
        }
    push(b->cosine);
    push(b->sine);
}

static struct problem *problem_new(int64_t tokens, int32_t heads, int32_t kv, int32_t n, enum dtype act,
                                   enum dtype gain_type, bool norm, size_t shift, int32_t hidden)
{
    const int64_t nq = tokens * heads * n, nkv = 2 * tokens * kv * n, nqkv = tokens * (heads + 2 * kv) * n;
    struct problem *b = calloc(1, sizeof *b);
    assert_non_null(b);
    b->qkv = array_shifted(nqkv, act, 1, 1.0, shift);
    b->q_gain = array_shifted(n, gain_type, 2, 2.0, shift);
    b->k_gain = array_shifted(n, gain_type, 3, 2.0, shift);
    b->q = array_shifted(nq, act, 0, 0.0, shift);
    b->k = array_shifted(nkv, act, 0, 0.0, shift);
    b->v = array_shifted(nkv, act, 0, 0.0, shift);
    b->dq = array_shifted(nq, DTYPE_F32, 4, 1.0, shift);
    b->dk = array_shifted(nkv, DTYPE_F32, 5, 1.0, shift);
    b->dv = array_shifted(nkv, DTYPE_F32, 6, 1.0, shift);
    b->d_qkv = array_shifted(nqkv, act, 0, 0.0, shift);
    b->d_q_gain = array_shifted(n, DTYPE_F32, 7, 1.0, shift);
    b->d_k_gain = array_shifted(n, DTYPE_F32, 8, 1.0, shift);
    b->cosine = array_shifted(MAX_POSITION * (n / 2), DTYPE_F32, 0, 0.0, shift);
    b->sine = array_shifted(MAX_POSITION * (n / 2), DTYPE_F32, 0, 0.0, shift);
    fill_tables(b, n);
    for (int32_t t = 0; t < tokens; t++) {
        b->position[t] = (t * 37) % MAX_POSITION;
        b->kv_row[t] = hidden > 0 && t % hidden == hidden - 1 ? -1 : 2 * ((int32_t)tokens - 1 - t);
    }
    b->p = (struct qkv_backward){.forward = {.tokens = tokens,
                                             .n_heads = heads,
                                             .n_kv_heads = kv,
                                             .head_dim = n,
                                             .qkv = b->qkv->d,
                                             .position = ids_of(b->position, tokens)->d,
                                             .kv_row = ids_of(b->kv_row, tokens)->d,
                                             .cos_table = b->cosine->d,
                                             .sin_table = b->sine->d,
                                             .q_gain = norm ? b->q_gain->d : NULL,
                                             .k_gain = norm ? b->k_gain->d : NULL,
                                             .gain_type = gain_type,
                                             .eps = 1e-6f,
                                             .act = act,
                                             .q = b->q->d,
                                             .k = b->k->d,
                                             .v = b->v->d},
                                 .dq = b->dq->d,
                                 .dk = b->dk->d,
                                 .dv = b->dv->d,
                                 .d_qkv = b->d_qkv->d,
                                 .d_q_gain = b->d_q_gain->d,
                                 .d_k_gain = b->d_k_gain->d};
    b->here = b->p.forward;
    b->here.position = b->position;
    b->here.kv_row = b->kv_row;
    b->here.cos_table = b->cosine->x;
    b->here.sin_table = b->sine->x;
    return b;
}

static void run(const struct problem *b)
{
    backend->ops->qkv_forward(backend, &b->p.forward);
    backend->ops->qkv_backward(backend, &b->p);
}

/* bf16 (8 bits) rounds by up to 2^-8 of the value. gpu: the bound there, where the reciprocal root and the order of sums
 * are others than the CPU's. */
static void close_to(const char *what, const struct array *have, const double *want, double bound, double gpu)
{
    for (int64_t i = 0; i < have->count; i++) {
        const double limit = (have->type == DTYPE_F32 ? 0 : 0x1p-8 * fabs(want[i])) +
                             (test_options.cuda ? gpu + 1e-6 * fabs(want[i]) : bound);
        if (!(fabs(get(have, i) - want[i]) <= limit))
            fail_msg("%s %s element %lld: %g, reference %g", provider, what, (long long)i, get(have, i), want[i]);
    }
}

/* In rows of nobody the guards' pattern, in wanted too, so that they compare as the others. */
static void pattern_between(const struct problem *b, const struct array *have, double *want)
{
    const int64_t row = b->p.forward.n_kv_heads * b->p.forward.head_dim;
    const size_t bytes = (size_t)row * dtype_bytes(have->type);
    for (int64_t r = 1; r < 2 * b->p.forward.tokens; r += 2) {
        for (size_t i = 0; i < bytes; i++)
            assert_int_equal(((unsigned char *)have->x)[(size_t)r * bytes + i], GUARD_BYTE);
        for (int64_t i = 0; i < row; i++)
            want[r * row + i] = get(have, r * row + i);
    }
}

static double *zeros(int64_t n)
{
    double *y = calloc((size_t)(n + 1), sizeof *y);
    assert_non_null(y);
    return y;
}

static void reference_check(const struct problem *b)
{
    const int64_t tokens = b->p.forward.tokens;
    double *qkv = widened(b->qkv), *q_gain = widened(b->q_gain), *k_gain = widened(b->k_gain);
    double *dq = widened(b->dq), *dk = widened(b->dk), *dv = widened(b->dv);
    double *q = zeros(b->q->count), *k = zeros(b->k->count), *v = zeros(b->v->count), *d_qkv = zeros(b->qkv->count);
    double *d_q_gain = widened(b->d_q_gain), *d_k_gain = widened(b->d_k_gain);
    const double *gains[2] = {b->p.forward.q_gain ? q_gain : NULL, b->p.forward.k_gain ? k_gain : NULL};
    const struct array *outputs[] = {b->q, b->k, b->v, b->d_qkv, b->d_q_gain, b->d_k_gain};
    reference_qkv_forward(&b->here, qkv, gains[0], gains[1], q, k, v);
    reference_qkv_backward(&b->here, qkv, gains[0], gains[1], dq, dk, dv, d_qkv, d_q_gain, d_k_gain);
    for (size_t i = 0; i < sizeof outputs / sizeof *outputs; i++)
        pull(outputs[i]);
    pattern_between(b, b->k, k);
    pattern_between(b, b->v, v);
    close_to("q", b->q, q, 3e-6, 5e-6);
    close_to("k", b->k, k, 3e-6, 5e-6);
    close_to("v", b->v, v, 0, 0);
    /* Gradients of a head are of size rstd (about 2 here) times sums over D. */
    close_to("d_qkv", b->d_qkv, d_qkv, 2e-5, 3e-5);
    close_to("d_q_gain", b->d_q_gain, d_q_gain, 1e-4, 2e-6 * (double)(tokens * b->p.forward.n_heads));
    close_to("d_k_gain", b->d_k_gain, d_k_gain, 1e-4, 2e-6 * (double)(tokens * b->p.forward.n_kv_heads));
    double *all[] = {qkv, q_gain, k_gain, dq, dk, dv, q, k, v, d_qkv, d_q_gain, d_k_gain};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

/* Tokens whose keys nobody stores, which windows of decoding on a GPU have: q as ever, the rows that were theirs keep
 * what they had. */
static void hidden_check(const struct problem *b, int64_t tokens, int32_t heads, int32_t kv, int32_t n, enum dtype act,
                         enum dtype gain_type, bool norm)
{
    enum { HIDDEN = 3 };
    const size_t row = (size_t)(kv * n) * dtype_bytes(act);
    struct problem *h = problem_new(tokens, heads, kv, n, act, gain_type, norm, 1, HIDDEN);
    backend->ops->qkv_forward(backend, &h->p.forward);
    expect_same("q with hidden tokens", b->q, h->q);
    pull(h->k);
    pull(h->v);
    for (int64_t r = 0; r < 2 * tokens; r++) {
        const int64_t t = tokens - 1 - r / 2;
        const bool written = r % 2 == 0 && t % HIDDEN != HIDDEN - 1;
        const struct array *pair[2][2] = {{h->k, b->k}, {h->v, b->v}};
        for (int w = 0; w < 2; w++) {
            const unsigned char *have = (unsigned char *)pair[w][0]->x + (size_t)r * row;
            if (written)
                assert_memory_equal(have, (unsigned char *)pair[w][1]->x + (size_t)r * row, row);
            for (size_t i = 0; i < row && !written; i++)
                assert_int_equal(have[i], GUARD_BYTE);
        }
    }
    free(h);
}

static void check(int64_t tokens, int32_t heads, int32_t kv, int32_t n, enum dtype act, enum dtype gain_type, bool norm)
{
    use_threads(1);
    struct problem *b = problem_new(tokens, heads, kv, n, act, gain_type, norm, 0, 0);
    run(b);
    reference_check(b);
    /* Two threads elsewhere in memory: the same bits. */
    use_threads(2);
    struct problem *moved = problem_new(tokens, heads, kv, n, act, gain_type, norm, 1, 0);
    run(moved);
    expect_same("q", b->q, moved->q);
    expect_same("k", b->k, moved->k);
    expect_same("v", b->v, moved->v);
    expect_same("d_qkv", b->d_qkv, moved->d_qkv);
    expect_same("d_q_gain", b->d_q_gain, moved->d_q_gain);
    expect_same("d_k_gain", b->d_k_gain, moved->d_k_gain);
    free(moved);
    if (test_options.cuda)
        hidden_check(b, tokens, heads, kv, n, act, gain_type, norm);
    arrays_free();
    free(b);
}

static void test_reference(void **state)
{
    (void)state;
    static const struct {
        int64_t tokens;
        int32_t heads, kv, n;
    } shapes[] = {{1, 1, 1, 4},     {5, 4, 2, 8},   {63, 2, 1, 16}, {64, 3, 3, 40}, {65, 4, 1, 64}, {9, 5, 1, 64},
                  {130, 4, 2, 128}, {3, 2, 2, 256}, {7, 2, 1, 6},   {4, 3, 1, 248}, {2, 1, 1, 250}};
    EACH_BACKEND
    {
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
            for (int which = 0; which < 6; which++) {
                /* Both types with and without a norm, and gains of the other type. */
                const enum dtype act = which & 1 ? DTYPE_BF16 : DTYPE_F32, other = which & 1 ? DTYPE_F32 : DTYPE_BF16;
                const int64_t tokens = test_options.small && shapes[i].n == 128 ? 37 : shapes[i].tokens;
                check(tokens, shapes[i].heads, shapes[i].kv, shapes[i].n, act, which < 4 ? act : other,
                      (which & 2) || which >= 4);
            }
        check(test_options.cuda && !test_options.small ? MOST_TOKENS : 80, 16, 8, 128, DTYPE_BF16, DTYPE_BF16, true);
    }
}

/* In 8 bits: each head's numbers are those of its fp32 values, which the rows without kv8 hold rounded to act; q is the same.
 * Rows of nobody, and behind a head's scale, keep what they had. */
static void check_kv8(int64_t tokens, int32_t heads, int32_t kv, int32_t n, enum dtype act)
{
    struct problem *b = problem_new(tokens, heads, kv, n, act, act, true, 0, 0),
                   *eight = problem_new(tokens, heads, kv, n, act, act, true, 0, 0);
    const int64_t count = 2 * tokens * kv * (int64_t)KV8_HEAD_BYTES(n) / 4;
    const struct array *rows[2] = {array_new(count, DTYPE_F32, 0, 0.0), array_new(count, DTYPE_F32, 0, 0.0)},
                       *wide[2] = {b->k, b->v};
    set(b->qkv, (heads + kv) * n - 1, 0.0f); /* of token 0 */
    for (int32_t d = 0; d < n; d++) {
        set(b->qkv, (heads + kv) * n + d, d == 1 ? INFINITY : 1.0f);    /* its first value */
        set(b->qkv, (heads + 2 * kv) * n + (heads + kv) * n + d, 0.0f); /* token 1's */
    }
    memcpy(eight->qkv->x, b->qkv->x, b->qkv->bytes);
    push(b->qkv), push(eight->qkv);
    eight->p.forward.kv8 = true;
    eight->p.forward.k = rows[0]->d;
    eight->p.forward.v = rows[1]->d;
    use_threads(2);
    backend->ops->qkv_forward(backend, &b->p.forward);
    backend->ops->qkv_forward(backend, &eight->p.forward);
    expect_same("q beside 8 bits", b->q, eight->q);
    for (int w = 0; w < 2; w++) {
        int infinite = 0;
        pull(rows[w]), pull(wide[w]);
        for (int64_t h = 0; h < 2 * tokens * kv; h++) {
            const int8_t *number = (const int8_t *)rows[w]->x + h * KV8_HEAD_BYTES(n);
            float scale = 0.0f;
            double most = 0.0;
            memcpy(&scale, number + KV8_SCALE_AT(n), sizeof scale);
            for (int32_t i = h / kv % 2 == 1 ? 0 : n; i < KV8_SCALE_AT(n); i++)
                assert_int_equal((unsigned char)number[i], GUARD_BYTE);
            if (h / kv % 2 == 1)
                continue;
            for (int32_t d = 0; d < n; d++)
                most = fmax(most, fabs(get(wide[w], h * n + d)));
            if (!isfinite(most)) {
                assert_true(isnan(scale));
                infinite++;
                continue;
            }
            const double bound = act == DTYPE_F32 ? 1e-6 : 0x1p-8;
            assert_true(fabs((double)scale - most / 127) <= bound * most / 127);
            for (int32_t d = 0; d < n; d++)
                if (!(fabs((double)scale * number[d] - get(wide[w], h * n + d)) <=
                      (0.5 + 1e-4) * (double)scale + bound * most))
                    fail_msg("%s head %lld element %d: %d times %g, %g", provider, (long long)h, d, number[d],
                             (double)scale, get(wide[w], h * n + d));
        }
        assert_int_equal(infinite, w); /* one head of the values, and none of the keys */
    }
    arrays_free();
    free(b), free(eight);
}

static void test_kv8(void **state)
{
    (void)state;
    EACH_BACKEND
    for (int which = 0; which < 2; which++) {
        const enum dtype act = which ? DTYPE_BF16 : DTYPE_F32;
        check_kv8(9, 4, 2, 128, act);
        check_kv8(5, 2, 1, 64, act);
        check_kv8(3, 3, 2, 6, act);
        check_kv8(2, 1, 1, 250, act);
    }
}

static double objective(struct problem *b, double *const x[3], const double *dq, const double *dk, const double *dv)
{
    double *q = zeros(b->q->count), *k = zeros(b->k->count), *v = zeros(b->v->count), sum = 0;
    reference_qkv_forward(&b->here, x[0], x[1], x[2], q, k, v);
    for (int64_t i = 0; i < b->q->count; i++)
        sum += q[i] * dq[i];
    for (int64_t i = 0; i < b->k->count; i++)
        sum += k[i] * dk[i] + v[i] * dv[i];
    free(q), free(k), free(v);
    return sum;
}

static void test_reference_differences(void **state)
{
    (void)state;
    assert_true(next_provider(-1, 1) == 0);
    struct problem *b = problem_new(4, 2, 1, 6, DTYPE_F32, DTYPE_F32, true, 0, 0);
    double *x[3] = {widened(b->qkv), widened(b->q_gain), widened(b->k_gain)};
    double *dq = widened(b->dq), *dk = widened(b->dk), *dv = widened(b->dv);
    const int64_t size[3] = {b->qkv->count, 6, 6};
    double *d[3] = {zeros(size[0]), zeros(size[1]), zeros(size[2])};
    reference_qkv_backward(&b->here, x[0], x[1], x[2], dq, dk, dv, d[0], d[1], d[2]);
    for (int w = 0; w < 3; w++)
        for (int64_t i = 0; i < size[w]; i++) {
            const double step = 1e-5, middle = x[w][i];
            x[w][i] = middle + step;
            const double up = objective(b, x, dq, dk, dv);
            x[w][i] = middle - step;
            const double down = objective(b, x, dq, dk, dv);
            x[w][i] = middle;
            assert_true(fabs((up - down) / (2 * step) - d[w][i]) < 1e-7);
        }
    for (int w = 0; w < 3; w++)
        free(x[w]), free(d[w]);
    free(dq), free(dk), free(dv);
    arrays_free();
    free(b);
}

/* A token alone gives the bits it gives in a batch, and a NaN in another token does not reach it. */
static void test_rows_independent(void **state)
{
    (void)state;
    const int32_t dim = 40, heads = 3, kv = 1, width = (heads + 2 * kv) * dim;
    EACH_BACKEND
    for (int which = 0; which < 2; which++) {
        const enum dtype act = which ? DTYPE_BF16 : DTYPE_F32;
        const size_t element = dtype_bytes(act);
        struct problem *b = problem_new(70, heads, kv, dim, act, act, true, 0, 0);
        set(b->qkv, 11 * width + 5, NAN);
        push(b->qkv);
        use_threads(2);
        backend->ops->qkv_forward(backend, &b->p.forward);
        pull(b->q);
        pull(b->k);
        struct problem *one = problem_new(1, heads, kv, dim, act, act, true, 0, 0);
        for (int32_t t = 0; t < 70; t++) {
            one->p.forward.qkv = (const char *)b->qkv->d + (size_t)(t * width) * element;
            one->p.forward.position = b->p.forward.position + t;
            backend->ops->qkv_forward(backend, &one->p.forward);
            pull(one->q);
            pull(one->k);
            if (t == 11)
                assert_true(isnan(get(b->q, t * heads * dim)));
            else
                assert_memory_equal(one->q->x, (char *)b->q->x + (size_t)(t * heads * dim) * element, one->q->bytes);
            assert_memory_equal(one->k->x, (char *)b->k->x + (size_t)(b->kv_row[t] * kv * dim) * element,
                                (size_t)(kv * dim) * element);
        }
        arrays_free();
        free(b), free(one);
    }
}

/* Nothing to do is no error. */
static void test_nothing(void **state)
{
    (void)state;
    const struct qkv_forward none = {.n_heads = 1, .n_kv_heads = 1, .head_dim = 8};
    EACH_BACKEND
    {
        backend->ops->qkv_forward(backend, &none);
        backend->ops->qkv_backward(backend, &(struct qkv_backward){.forward = none});
        backend_must_be_well();
    }
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference),
        cmocka_unit_test(test_kv8),
        cmocka_unit_test(test_reference_differences),
        cmocka_unit_test(test_rows_independent),
        cmocka_unit_test(test_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Attention's backward against a double reference, which is held by central differences, and its bits, on every
 * backend: the same sequence gives the same gradients whatever else is in the batch. (Its speed: test_attention
 * --bench.) */
#include "kernels/attention_batch.h"

static const int32_t completions[] = {5, 40, 90};

/* ---- Reference ---- */

/* The reference's derivative against central differences of the reference's forward, all in double. */
static void check_differences(int32_t window)
{
    struct batch *b = batch_new(&(struct shape){4, 2, 6, window}, DTYPE_F32);
    static const int32_t lengths[] = {3, 2};
    add_tree(b, 1, 5, lengths, 2, 0);
    batch_fill(b);
    const int64_t nq = b->tokens * query_width(b), nk = b->kv_rows * key_width(b);
    double *x[3] = {widen(b->q, DTYPE_F32, nq), widen(b->k, DTYPE_F32, nk), widen(b->v, DTYPE_F32, nk)};
    double *d[3], *d_out = widen(b->q, DTYPE_F32, nq);
    double *out = calloc((size_t)nq, sizeof *out), *lse = calloc((size_t)nq, sizeof *lse);
    const int64_t size[3] = {nq, nk, nk};
    assert_true(out && lse);
    for (int64_t i = 0; i < nq; i++)
        d_out[i] = number(7, i);
    for (int w = 0; w < 3; w++) {
        d[w] = calloc((size_t)size[w], sizeof **d);
        assert_non_null(d[w]);
    }
    reference_attention_backward(&b->f, x[0], x[1], x[2], d_out, d[0], d[1], d[2]);
    for (int w = 0; w < 3; w++)
        for (int64_t i = 0; i < size[w]; i++) {
            const double step = 1e-5, middle = x[w][i];
            double side[2];
            for (int t = 0; t < 2; t++) {
                x[w][i] = t ? middle - step : middle + step;
                reference_attention_forward(&b->f, x[0], x[1], x[2], out, lse);
                side[t] = 0;
                for (int64_t j = 0; j < nq; j++)
                    side[t] += out[j] * d_out[j];
            }
            x[w][i] = middle;
            assert_true(fabs((side[0] - side[1]) / (2 * step) - d[w][i]) < 1e-8);
        }
    for (int w = 0; w < 3; w++)
        free(x[w]), free(d[w]);
    free(d_out), free(out), free(lse);
    batch_free(b);
}

static void test_reference_differences(void **state)
{
    (void)state;
    check_differences(0);
    check_differences(3);
}

/* have - start is want in the rows that somebody uses, within relative of the largest element. */
static void close_all(const char *what, const struct batch *b, const float *have, const double *want, double start,
                      int64_t n, const uint32_t *contents, int64_t width, double relative)
{
    double largest = 0;
    for (int64_t i = 0; i < n; i++)
        if (contents[i / width] != 0)
            largest = fmax(largest, fabs(want[i]));
    for (int64_t i = 0; i < n; i++)
        if (contents[i / width] != 0 && !(fabs((double)have[i] - start - want[i]) <= relative * largest + 1e-7))
            fail_msg("%s H %d K %d D %d %s: %s row %lld element %lld: %g, reference %g (largest %g)", provider,
                     b->f.n_heads, b->f.n_kv_heads, b->f.head_dim, b->f.act == DTYPE_F32 ? "f32" : "bf16", what,
                     (long long)(i / width), (long long)(i % width), (double)have[i] - start, want[i], largest);
}

/* On every backend, with two threads and with one: the same bits. */
static void check_and_free(struct batch *b)
{
    const enum dtype act = b->f.act;
    const int64_t nq = b->tokens * query_width(b), nk = b->kv_rows * key_width(b);
    double *d_out = NULL, *dq = calloc((size_t)nq, sizeof *dq), *dk = calloc((size_t)nk, sizeof *dk);
    double *dv = calloc((size_t)nk, sizeof *dv);
    assert_true(dq && dk && dv);
    EACH_PRODUCT
    {
        use_threads(test_options.small ? 1 : 2); /* other orders of the emulation take long */
        batch_backward(b);
        if (d_out == NULL) {
            double *q = widen(b->q, act, nq), *k = widen(b->k, act, nk), *v = widen(b->v, act, nk);
            d_out = widen(b->d_out, act, nq);
            reference_attention_backward(&b->f, q, k, v, d_out, dq, dk, dv);
            free(q), free(k), free(v);
        }
        /* delta = sum(dO * O) takes O as stored: in bf16 each O is off by up to 2^-8 of itself, which the exact
         * reference does not see; measured 3.8e-3 of the largest gradient. dv has no delta, but where weights,
         * one operand of its product, are rounded they are off by up to 2^-9 of themselves. */
        const double rough = act == DTYPE_F32 ? 2e-5 : 8e-3;
        const double value_rough = act == DTYPE_BF16 && (test_options.cuda || packed_weights(b)) ? 4e-3 : 2e-5;
        close_all("dq", b, b->dq, dq, 0, nq, b->token, query_width(b), rough);
        close_all("dk", b, b->dk, dk, 0.5, nk, b->kv, key_width(b), rough);
        close_all("dv", b, b->dv, dv, 0.5, nk, b->kv, key_width(b), value_rough);
        if (test_options.small)
            continue; /* test_bits has it */
        float *first[3] = {b->dq, b->dk, b->dv};
        b->dq = b->dk = b->dv = NULL;
        use_threads(1);
        batch_backward(b);
        assert_memory_equal(first[0], b->dq, (size_t)nq * sizeof(float));
        assert_memory_equal(first[1], b->dk, (size_t)nk * sizeof(float));
        assert_memory_equal(first[2], b->dv, (size_t)nk * sizeof(float));
        for (int w = 0; w < 3; w++)
            free(first[w]);
    }
    free(d_out), free(dq), free(dk), free(dv);
    batch_free(b);
}

static void test_reference(void **state)
{
    (void)state;
    enum { MATRIX = 6, BOTH = 10 }; /* those before it: of matrix instructions on a GPU; in a small run */
    static const struct shape shapes[] = {
        {4, 2, 128, 0}, {1, 1, 128, 0},  {4, 1, 64, 0},  {7, 1, 128, 0}, {2, 2, 64, 0}, {7, 1, 64, 0}, {4, 2, 40, 0},
        {65, 1, 4, 0},  {3, 1, 7, 0},    {1, 1, 256, 0}, {2, 2, 4, 0},   {4, 2, 8, 0},  {1, 1, 16, 0}, {4, 1, 40, 0},
        {6, 2, 64, 0},  {4, 2, 128, 20}, {4, 1, 64, 64}, {2, 1, 8, 40},  {3, 1, 16, 2}, {4, 2, 64, 90}};
    static const int32_t ragged[] = {1, 63, 64, 65, 130};
    for (int i = 0; i < (int)(sizeof shapes / sizeof *shapes); i++)
        for (int act = 0; act < 2; act++)
            for (int layout = 0; layout < 2; layout++) {
                /* On a GPU all sizes take the same kernel in fp32, as do the odd ones in bf16. */
                const bool windowed = shapes[i].window > 0,
                           again = (i < MATRIX && !act && i > 0) || (i >= BOTH && !windowed);
                if (test_options.small && (again || !((i + act) % 2 == layout || (act && i < 3))))
                    continue;
                if (!test_options.cuda && i > 0 && i < MATRIX)
                    continue;
                struct batch *b = batch_new(&shapes[i], act ? DTYPE_BF16 : DTYPE_F32);
                if (layout == 0)
                    add_ragged(b, ragged, 5);
                else {
                    add_tree(b, 1, 100, completions, 3, 0);
                    add_gap(b, 3);
                    add_tree(b, 10, 64, completions, 2, 1);
                    add_tree(b, 20, 3, completions, 1, 2);
                }
                check_and_free(b);
            }
    if (test_options.cuda && !test_options.small) { /* long ones */
        static const int32_t lengths[] = {333, 600};
        struct batch *b = batch_new(&shapes[0], DTYPE_BF16);
        add_alone(b, 50, 1100, 0);
        add_tree(b, 1, 290, lengths, 2, 1);
        check_and_free(b);
    }
}

/* ---- Bits ---- */

/* Rows of x have the same bits in y. dk, dv: not of the prompt, which sums over its completions. */
static void same_bits(const struct batch *x, const struct batch *y, uint32_t prompt)
{
    const size_t qw = (size_t)query_width(x), kw = (size_t)key_width(x);
    for (int32_t i = 0; i < x->tokens; i++) {
        int32_t j = 0;
        while (j < y->tokens && y->token[j] != x->token[i])
            j++;
        assert_true(j < y->tokens);
        const size_t xi = (size_t)i, yj = (size_t)j;
        if (memcmp(x->dq + xi * qw, y->dq + yj * qw, qw * sizeof(float)) != 0)
            fail_msg("%s: dq of stream %u differs", provider, x->token[i] >> 16);
        if (x->token[i] >> 16 != prompt && (memcmp(x->dk + xi * kw, y->dk + yj * kw, kw * sizeof(float)) != 0 ||
                                            memcmp(x->dv + xi * kw, y->dv + yj * kw, kw * sizeof(float)) != 0))
            fail_msg("%s: dk or dv of stream %u differs", provider, x->token[i] >> 16);
    }
}

static void check_part(struct batch *part, const struct batch *whole, uint32_t prompt)
{
    batch_backward(part);
    same_bits(part, whole, prompt);
    batch_free(part);
}

static void test_bits(void **state)
{
    (void)state;
    static const struct shape some[] = {{4, 2, 128, 0}, {7, 1, 64, 0}, {4, 2, 16, 0}, {4, 2, 128, 30}, {4, 2, 16, 30}};
    EACH_PRODUCT
    for (int i = 0; i < 5; i++)
        for (int act = 0; act < 2; act++) {
            if (act == 0 && some[i].head_dim > 16 && test_options.cuda)
                continue; /* the kernel of the third */
            const enum dtype type = act ? DTYPE_BF16 : DTYPE_F32;
            struct batch *run[2];
            for (int threads = 1; threads <= 2; threads++) {
                struct batch *b = run[threads - 1] = batch_new(&some[i], type);
                add_gap(b, 5);
                add_alone(b, 30, 77, 0);
                add_tree(b, 1, 100, completions, 3, 1);
                add_tree(b, 10, 20, completions, 2, 2);
                use_threads(threads);
                batch_backward(b);
            }
            struct batch *whole = run[0];
            const size_t kw = (size_t)key_width(whole) * sizeof(float), qw = (size_t)query_width(whole) * sizeof(float);
            assert_memory_equal(run[1]->dk, whole->dk, (size_t)whole->kv_rows * kw);
            assert_memory_equal(run[1]->dv, whole->dv, (size_t)whole->kv_rows * kw);
            assert_memory_equal(run[1]->dq, whole->dq, (size_t)whole->tokens * qw);
            use_threads(1);

            /* The first prompt with its first completion alone; a sequence alone, its keys' gradients too. */
            struct batch *part = batch_new(&some[i], type);
            add_tree(part, 1, 100, completions, 1, 0);
            check_part(part, whole, 1);
            part = batch_new(&some[i], type);
            add_alone(part, 30, 77, 0);
            check_part(part, whole, 0);
            batch_free(run[0]), batch_free(run[1]);
        }
}

/* dk and dv on top of what is there: twice is twice. On a GPU the finished sum is added to what is there, on the CPU
 * each term, which rounds what is there. */
static void test_accumulates(void **state)
{
    (void)state;
    EACH_PRODUCT
    for (int act = 0; act < 2; act++) {
        struct batch *b = batch_new(&(struct shape){4, 2, act ? 64 : 24, 0}, act ? DTYPE_BF16 : DTYPE_F32);
        add_tree(b, 1, 70, completions, 2, 0);
        b->start = 0.0f;
        batch_prepare(b, true);
        batch_layer(b, 1);
        float *dk = b->dk, *dv = b->dv;
        b->dk = b->dv = NULL;
        batch_layer(b, 2);
        float largest = 0.0f;
        for (int64_t i = 0; i < b->kv_rows * key_width(b); i++)
            largest = fmaxf(largest, fmaxf(fabsf(dk[i]), fabsf(dv[i])));
        const float each = 0x1p-23f * largest * 2.0f * (float)b->tokens; /* of a query and head: half a last place */
        for (int64_t i = 0; i < b->kv_rows * key_width(b); i++) {
            assert_true(fabsf(b->dk[i] - 2.0f * dk[i]) <= (test_options.cuda ? 4e-7f * fabsf(dk[i]) : each));
            assert_true(fabsf(b->dv[i] - 2.0f * dv[i]) <= (test_options.cuda ? 4e-7f * fabsf(dv[i]) : each));
        }
        free(dk), free(dv);
        batch_free(b);
    }
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference_differences),
        cmocka_unit_test(test_reference),
        cmocka_unit_test(test_bits),
        cmocka_unit_test(test_accumulates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

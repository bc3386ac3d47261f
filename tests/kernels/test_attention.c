/* Attention against double references, and the bits of I2: the same token gives the same output
 * however its batch, its pages and its prompt are arranged. With --bench: GFLOP/s of one thread. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "backend/cpu/cpu_kernels.h"
#include "backend/ops.h"
#include "base/rng.h"
#include "support/threads.h"
#include "support/reference.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct isa {
    const char *name;
    void (*forward)(struct backend *, const struct attention_forward *);
    void (*backward)(struct backend *, const struct attention_backward *);
};

static int isas(struct isa list[3])
{
    int n = 0;
    list[n++] = (struct isa){"portable", attention_forward_portable, attention_backward_portable};
#ifdef COHORT_X86
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        list[n++] = (struct isa){"avx2", attention_forward_avx2, attention_backward_avx2};
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq"))
        list[n++] = (struct isa){"avx512", attention_forward_avx512, attention_backward_avx512};
#endif
    return n;
}

enum { MAX_SEQS = 64, MAX_SPANS = 512, MAX_ROWS = 4096, GUARD = 16, PAGE = ATTENTION_CHUNK };

/* A batch. What a row holds is a function of its content, a number that tells a logical token;
 * content 0 is NaN: a row that nobody may use. Output buffers have GUARD guard floats at either
 * end. */
struct batch {
    struct attention_forward f;
    struct attention_seq seqs[MAX_SEQS];
    struct attention_span spans[MAX_SPANS];
    int32_t tokens, kv_rows;
    uint32_t token[MAX_ROWS], kv[MAX_ROWS];
    void *q, *k, *v, *d_out, *out_memory;
    float *lse_memory, *dq_memory, *dk_memory, *dv_memory;
};

static uint32_t content(uint32_t stream, int32_t position) { return stream << 16 | (uint32_t)(position + 1); }

static struct batch *batch_new(int32_t n_heads, int32_t n_kv_heads, int32_t head_dim, enum dtype act)
{
    struct batch *b = calloc(1, sizeof *b);
    assert_non_null(b);
    b->f = (struct attention_forward){.n_heads = n_heads,
                                      .n_kv_heads = n_kv_heads,
                                      .head_dim = head_dim,
                                      .scale = 1.0f / sqrtf((float)head_dim),
                                      .act = act};
    return b;
}

static struct attention_seq *add_seq(struct batch *b, uint32_t stream, int32_t first_position, int32_t n_queries,
                                     int32_t tree)
{
    struct attention_seq *seq = &b->seqs[b->f.n_seqs++];
    *seq = (struct attention_seq){b->tokens, n_queries, first_position, b->f.n_spans, 0, tree};
    for (int32_t i = 0; i < n_queries; i++)
        b->token[b->tokens++] = content(stream, first_position + i);
    return seq;
}

static void add_span(struct batch *b, struct attention_seq *seq, int32_t position, int32_t row, int32_t length)
{
    b->spans[b->f.n_spans++] = (struct attention_span){position, row, length};
    seq->n_spans++;
}

/* length new key rows with the contents of stream from position on. */
static int32_t add_rows(struct batch *b, uint32_t stream, int32_t position, int32_t length)
{
    const int32_t row = b->kv_rows;
    for (int32_t i = 0; i < length; i++)
        b->kv[b->kv_rows++] = content(stream, position + i);
    return row;
}

static float value(uint32_t what, uint32_t of, int64_t i)
{
    if (of == 0)
        return NAN;
    return 2.0f * rng_uniform(rng_philox(what, RNG_TEST, of, (uint64_t)i).word[0]) - 1.0f;
}

static void *fill(uint32_t what, const uint32_t *contents, int32_t rows, int32_t width, enum dtype act, float scale)
{
    const int64_t n = (int64_t)rows * width;
    char *memory = malloc((size_t)(n + 1) * dtype_bytes(act));
    assert_non_null(memory);
    for (int64_t i = 0; i < n; i++) {
        const float x = value(what, contents[i / width], i % width) * scale;
        const uint16_t half = bf16_from_f32(x);
        memcpy(memory + (size_t)i * dtype_bytes(act), act == DTYPE_F32 ? (const void *)&x : &half, dtype_bytes(act));
    }
    return memory;
}

/* n elements with guards; every byte is pattern. */
static void *guarded(int64_t n, int pattern)
{
    void *memory = malloc((size_t)(n + 2 * GUARD) * 4);
    assert_non_null(memory);
    memset(memory, pattern, (size_t)(n + 2 * GUARD) * 4);
    return memory;
}

static void guards_check(const void *memory, size_t bytes)
{
    const unsigned char *p = memory;
    for (size_t i = 0; i < GUARD * 4; i++) {
        assert_int_equal(p[i], 0x5a);
        assert_int_equal(p[GUARD * 4 + bytes + i], 0x5a);
    }
}

static void batch_fill(struct batch *b)
{
    const int32_t q_width = b->f.n_heads * b->f.head_dim, kv_width = b->f.n_kv_heads * b->f.head_dim;
    b->f.seqs = b->seqs;
    b->f.spans = b->spans;
    b->f.q = b->q = fill(1, b->token, b->tokens, q_width, b->f.act, 4.0f);
    b->f.k = b->k = fill(2, b->kv, b->kv_rows, kv_width, b->f.act, 1.0f);
    b->f.v = b->v = fill(3, b->kv, b->kv_rows, kv_width, b->f.act, 1.0f);
    b->d_out = fill(4, b->token, b->tokens, q_width, b->f.act, 1.0f);
    b->out_memory = guarded((int64_t)b->tokens * q_width, 0x5a);
    b->lse_memory = guarded((int64_t)b->tokens * b->f.n_heads, 0x5a);
    b->f.out = (char *)b->out_memory + GUARD * 4;
    b->f.lse = b->lse_memory + GUARD;
}

static void batch_forward(struct batch *b, const struct isa *isa, int threads)
{
    struct backend backend = backend_with(threads);
    isa->forward(&backend, &b->f);
    guards_check(b->out_memory, (size_t)(b->tokens * b->f.n_heads * b->f.head_dim) * dtype_bytes(b->f.act));
    guards_check(b->lse_memory, (size_t)(b->tokens * b->f.n_heads) * 4);
}

/* dk and dv start at 0.5 (they are accumulated into), dq at a pattern (it is overwritten). */
static struct attention_backward batch_backward(struct batch *b, const struct isa *isa, int threads)
{
    const int64_t nq = (int64_t)b->tokens * b->f.n_heads * b->f.head_dim;
    const int64_t nk = (int64_t)b->kv_rows * b->f.n_kv_heads * b->f.head_dim;
    free(b->dq_memory);
    free(b->dk_memory);
    free(b->dv_memory);
    b->dq_memory = guarded(nq, 0x5a);
    b->dk_memory = guarded(nk, 0x5a);
    b->dv_memory = guarded(nk, 0x5a);
    for (int64_t i = 0; i < nk; i++)
        b->dk_memory[GUARD + i] = b->dv_memory[GUARD + i] = 0.5f;
    struct attention_backward p = {.forward = b->f,
                                   .d_out = b->d_out,
                                   .dq = b->dq_memory + GUARD,
                                   .dk = b->dk_memory + GUARD,
                                   .dv = b->dv_memory + GUARD};
    struct backend backend = backend_with(threads);
    isa->backward(&backend, &p);
    guards_check(b->dq_memory, (size_t)nq * 4);
    guards_check(b->dk_memory, (size_t)nk * 4);
    guards_check(b->dv_memory, (size_t)nk * 4);
    return p;
}

static void batch_free(struct batch *b)
{
    void *memory[] = {b->q,          b->k,         b->v,         b->d_out,     b->out_memory,
                      b->lse_memory, b->dq_memory, b->dk_memory, b->dv_memory, b};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
        free(memory[i]);
}

static double *widen(const void *x, enum dtype act, int64_t n)
{
    double *y = malloc((size_t)(n + 1) * sizeof *y);
    assert_non_null(y);
    for (int64_t i = 0; i < n; i++)
        y[i] = act == DTYPE_F32 ? (double)((const float *)x)[i] : (double)f32_from_bf16(((const uint16_t *)x)[i]);
    return y;
}

/* Sequences each with key rows of its own, and rows that belong to nobody between them. */
static void add_ragged(struct batch *b, const int32_t *lengths, int32_t n)
{
    for (int32_t s = 0; s < n; s++) {
        struct attention_seq *seq = add_seq(b, (uint32_t)s + 1, 0, lengths[s], s);
        add_span(b, seq, 0, add_rows(b, (uint32_t)s + 1, 0, lengths[s]), lengths[s]);
        b->token[b->tokens++] = 0;
        b->kv[b->kv_rows++] = 0;
    }
}

/* A prompt (stream 1) and completions (streams 2, 3, ...) that read its key rows: training. */
static void add_tree(struct batch *b, int32_t prompt, const int32_t *lengths, int32_t n, int32_t tree)
{
    struct attention_seq *seq = add_seq(b, 1, 0, prompt, tree);
    const int32_t prompt_row = add_rows(b, 1, 0, prompt);
    add_span(b, seq, 0, prompt_row, prompt);
    for (int32_t s = 0; s < n; s++) {
        seq = add_seq(b, (uint32_t)s + 2, prompt, lengths[s], tree);
        add_span(b, seq, 0, prompt_row, prompt);
        add_span(b, seq, prompt, add_rows(b, (uint32_t)s + 2, prompt, lengths[s]), lengths[s]);
    }
}

struct shape {
    int32_t n_heads, n_kv_heads, head_dim;
};
static const struct shape shapes[] = {{2, 2, 4},   {4, 2, 8}, {1, 1, 16}, {4, 1, 40}, {6, 2, 64},
                                      {4, 2, 128}, {3, 1, 7}, {65, 1, 4}, {1, 1, 256}};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };
static const int32_t ragged[] = {1, 63, 64, 65, 130};
static const int32_t completions[] = {5, 40, 90};

static void forward_check(struct batch *b, const struct isa *isa)
{
    const enum dtype act = b->f.act;
    const int64_t nq = (int64_t)b->tokens * b->f.n_heads * b->f.head_dim;
    const int64_t nk = (int64_t)b->kv_rows * b->f.n_kv_heads * b->f.head_dim;
    double *q = widen(b->q, act, nq), *k = widen(b->k, act, nk), *v = widen(b->v, act, nk);
    double *want = calloc((size_t)nq, sizeof *want), *lse = calloc((size_t)nq, sizeof *lse);
    assert_true(want && lse);
    reference_attention_forward(&b->f, q, k, v, want, lse);
    double *have = widen(b->f.out, act, nq);
    for (int64_t i = 0; i < nq; i++) {
        if (b->token[i / (b->f.n_heads * b->f.head_dim)] == 0)
            continue;
        /* fp32: scores up to 4 sqrt(D) with relative errors of a few 1e-7; bf16 (8 bits) rounds by
         * up to 2^-8 of the value. */
        const double bound = 2e-5 + (act == DTYPE_F32 ? 0.0 : 0x1p-8 * fabs(want[i]));
        if (!(fabs(have[i] - want[i]) <= bound))
            fail_msg("%s D %d element %lld: %g, reference %g", isa->name, b->f.head_dim, (long long)i, have[i],
                     want[i]);
        const int64_t at = i / b->f.head_dim;
        assert_true(fabs((double)b->f.lse[at] - lse[at]) <= 1e-5 * (1 + fabs(lse[at])));
    }
    free(q), free(k), free(v), free(want), free(lse), free(have);
}

static void test_forward_reference(void **state)
{
    (void)state;
    struct isa list[3];
    const int n = isas(list);
    for (int i = 0; i < N_SHAPES; i++)
        for (int act = 0; act < 2; act++) {
            struct batch *b =
                batch_new(shapes[i].n_heads, shapes[i].n_kv_heads, shapes[i].head_dim, act ? DTYPE_BF16 : DTYPE_F32);
            add_ragged(b, ragged, 5);
            batch_fill(b);
            for (int s = 0; s < n; s++) {
                batch_forward(b, &list[s], 2);
                forward_check(b, &list[s]);
            }
            batch_free(b);
        }
}

/* Every token of x is in y with the same output bits. */
static void assert_same_forward(const struct batch *x, const struct batch *y, const char *what)
{
    const size_t row_bytes = (size_t)(x->f.n_heads * x->f.head_dim) * dtype_bytes(x->f.act);
    const size_t lse_bytes = (size_t)x->f.n_heads * 4;
    for (int32_t i = 0; i < x->tokens; i++) {
        if (x->token[i] == 0)
            continue;
        int32_t j = 0;
        while (j < y->tokens && y->token[j] != x->token[i])
            j++;
        assert_true(j < y->tokens);
        if (memcmp((const char *)x->f.out + (size_t)i * row_bytes, (const char *)y->f.out + (size_t)j * row_bytes,
                   row_bytes) != 0 ||
            memcmp(x->f.lse + i * x->f.n_heads, y->f.lse + j * x->f.n_heads, lse_bytes) != 0)
            fail_msg("%s: stream %u position %u differs", what, x->token[i] >> 16, (x->token[i] & 0xffff) - 1);
    }
}

/* Pages of 64 rows taken from the back to the front with a page of nobody between them. Full pages
 * of the prompt are shared, its last partial page is copied. Queries first .. first + n of each
 * completion. */
static void add_paged(struct batch *b, int32_t prompt, const int32_t *first, int32_t n_queries, int32_t n)
{
    int32_t free_page = MAX_ROWS / PAGE - 1;
    int32_t shared[8], n_shared = prompt / PAGE;
    b->kv_rows = MAX_ROWS;
    for (int32_t c = 0; c < n_shared; c++, free_page -= 2) {
        shared[c] = free_page * PAGE;
        for (int32_t j = 0; j < PAGE; j++)
            b->kv[shared[c] + j] = content(1, c * PAGE + j);
    }
    for (int32_t s = 0; s < n; s++) {
        struct attention_seq *seq = add_seq(b, (uint32_t)s + 2, first[s], n_queries, s);
        const int32_t length = first[s] + n_queries;
        for (int32_t c = 0; c * PAGE < length; c++) {
            const int32_t count = length - c * PAGE < PAGE ? length - c * PAGE : PAGE;
            int32_t row = c < n_shared ? shared[c] : free_page * PAGE;
            if (c >= n_shared) {
                free_page -= 2;
                for (int32_t j = 0; j < count; j++)
                    b->kv[row + j] = content(c * PAGE + j < prompt ? 1u : (uint32_t)s + 2, c * PAGE + j);
            }
            add_span(b, seq, c * PAGE, row, count);
        }
    }
}

static void layouts_check(const struct shape *shape, enum dtype act, const struct isa *isa)
{
    const int32_t prompt = 100;
    struct batch *tree = batch_new(shape->n_heads, shape->n_kv_heads, shape->head_dim, act);
    add_tree(tree, prompt, completions, 3, 0);
    batch_fill(tree);
    batch_forward(tree, isa, 1);

    struct batch *again = batch_new(shape->n_heads, shape->n_kv_heads, shape->head_dim, act);
    add_tree(again, prompt, completions, 3, 0);
    batch_fill(again);
    batch_forward(again, isa, 2);
    assert_same_forward(again, tree, "two threads");
    batch_free(again);

    for (int32_t s = 0; s < 3; s++) { /* alone, nothing shared, every row in one span */
        struct batch *alone = batch_new(shape->n_heads, shape->n_kv_heads, shape->head_dim, act);
        struct attention_seq *seq = add_seq(alone, 1, 0, prompt + completions[s], 0);
        for (int32_t i = prompt; i < prompt + completions[s]; i++)
            alone->token[i] = content((uint32_t)s + 2, i);
        const int32_t row = add_rows(alone, 1, 0, prompt);
        add_rows(alone, (uint32_t)s + 2, prompt, completions[s]);
        add_span(alone, seq, 0, row, prompt + completions[s]);
        batch_fill(alone);
        batch_forward(alone, isa, 1);
        assert_same_forward(alone, tree, "prompt not shared");
        batch_free(alone);
    }
    for (int32_t i = 0; i < 90; i += i < 5 || i > 25 ? 13 : 1) { /* decode steps of all that still run */
        int32_t first[3];
        for (int32_t s = 0; s < 3; s++)
            first[s] = prompt + (i < completions[s] ? i : completions[s] - 1);
        struct batch *step = batch_new(shape->n_heads, shape->n_kv_heads, shape->head_dim, act);
        add_paged(step, prompt, first, 1, 3);
        batch_fill(step);
        batch_forward(step, isa, 2);
        assert_same_forward(step, tree, "decode over pages");
        batch_free(step);
    }
    for (int32_t i = 0; i < prompt; i += 33) { /* the prompt in pieces */
        const int32_t n = prompt - i < 33 ? prompt - i : 33;
        struct batch *piece = batch_new(shape->n_heads, shape->n_kv_heads, shape->head_dim, act);
        struct attention_seq *seq = add_seq(piece, 1, i, n, 0);
        int32_t cut = (i + n) / 2; /* a span boundary anywhere */
        const int32_t high = add_rows(piece, 1, cut, i + n - cut), low = add_rows(piece, 1, 0, cut);
        add_span(piece, seq, 0, low, cut);
        add_span(piece, seq, cut, high, i + n - cut);
        batch_fill(piece);
        batch_forward(piece, isa, 1);
        assert_same_forward(piece, tree, "prefill in pieces");
        batch_free(piece);
    }
    batch_free(tree);
}

static void test_layouts(void **state)
{
    (void)state;
    struct isa list[3];
    const int n = isas(list);
    static const struct shape some[] = {{4, 2, 16}, {3, 3, 40}, {4, 1, 64}, {8, 2, 7}};
    for (int s = 0; s < n; s++)
        for (int i = 0; i < 4; i++) {
            layouts_check(&some[i], DTYPE_BF16, &list[s]);
            layouts_check(&some[i], DTYPE_F32, &list[s]);
        }
}

static void close_all(const char *what, const struct isa *isa, const float *have, const double *want, double start,
                      int64_t n, const uint32_t *contents, int64_t width, double relative)
{
    double largest = 0;
    for (int64_t i = 0; i < n; i++)
        if (contents[i / width] != 0)
            largest = fmax(largest, fabs(want[i]));
    for (int64_t i = 0; i < n; i++)
        if (contents[i / width] == 0) {
            assert_true(have[i] == (float)start || f32_bits(have[i]) == 0x5a5a5a5au);
        } else if (!(fabs((double)have[i] - start - want[i]) <= relative * largest + 1e-7)) {
            fail_msg("%s %s element %lld of %lld: %g, reference %g (largest %g)", isa->name, what, (long long)i,
                     (long long)n, (double)have[i] - start, want[i], largest);
        }
}

static void backward_check(struct batch *b, const struct isa *list, int n_isas)
{
    const enum dtype act = b->f.act;
    const int64_t q_width = b->f.n_heads * b->f.head_dim, kv_width = b->f.n_kv_heads * b->f.head_dim;
    const int64_t nq = b->tokens * q_width, nk = b->kv_rows * kv_width;
    double *q = widen(b->q, act, nq), *k = widen(b->k, act, nk), *v = widen(b->v, act, nk);
    double *d_out = widen(b->d_out, act, nq);
    double *dq = calloc((size_t)nq, sizeof *dq), *dk = calloc((size_t)nk, sizeof *dk);
    double *dv = calloc((size_t)nk, sizeof *dv);
    assert_true(dq && dk && dv);
    reference_attention_backward(&b->f, q, k, v, d_out, dq, dk, dv);
    for (int s = 0; s < n_isas; s++) {
        batch_forward(b, &list[s], 1);
        struct attention_backward p = batch_backward(b, &list[s], 2);
        /* delta = sum(dO * O) takes O as stored: in bf16 each O is off by up to 2^-8 of itself,
         * which the exact reference does not see; measured 3.8e-3 of the largest gradient. dv
         * has no delta. */
        const double rough = act == DTYPE_F32 ? 2e-5 : 8e-3;
        close_all("dq", &list[s], p.dq, dq, 0, nq, b->token, q_width, rough);
        close_all("dk", &list[s], p.dk, dk, 0.5, nk, b->kv, kv_width, rough);
        close_all("dv", &list[s], p.dv, dv, 0.5, nk, b->kv, kv_width, 2e-5);

        float *first[3] = {b->dq_memory, b->dk_memory, b->dv_memory};
        b->dq_memory = b->dk_memory = b->dv_memory = NULL;
        p = batch_backward(b, &list[s], 1);
        assert_memory_equal(first[0] + GUARD, p.dq, (size_t)nq * 4);
        assert_memory_equal(first[1] + GUARD, p.dk, (size_t)nk * 4);
        assert_memory_equal(first[2] + GUARD, p.dv, (size_t)nk * 4);
        free(first[0]), free(first[1]), free(first[2]);
    }
    free(q), free(k), free(v), free(d_out), free(dq), free(dk), free(dv);
}

static void test_backward_reference(void **state)
{
    (void)state;
    struct isa list[3];
    const int n = isas(list);
    for (int i = 0; i < N_SHAPES; i++)
        for (int act = 0; act < 2; act++) {
            const struct shape *s = &shapes[i];
            struct batch *b = batch_new(s->n_heads, s->n_kv_heads, s->head_dim, act ? DTYPE_BF16 : DTYPE_F32);
            if (i % 2 == 0)
                add_ragged(b, ragged, 5);
            add_tree(b, 100, completions, 3, 7);
            if (i % 2 == 1)
                add_tree(b, 64, completions, 2, 8);
            batch_fill(b);
            backward_check(b, list, n);
            batch_free(b);
        }
}

/* The reference's derivative against central differences of the reference's forward, all in double.
 */
static void test_reference_differences(void **state)
{
    (void)state;
    struct batch *b = batch_new(4, 2, 6, DTYPE_F32);
    static const int32_t lengths[] = {3, 2};
    add_tree(b, 5, lengths, 2, 0);
    batch_fill(b);
    const int64_t nq = b->tokens * 4 * 6, nk = b->kv_rows * 2 * 6;
    double *x[3] = {widen(b->q, DTYPE_F32, nq), widen(b->k, DTYPE_F32, nk), widen(b->v, DTYPE_F32, nk)};
    double *d_out = widen(b->d_out, DTYPE_F32, nq);
    double *d[3], *out = calloc((size_t)nq, sizeof *out), *lse = calloc((size_t)nq, sizeof *lse);
    const int64_t size[3] = {nq, nk, nk};
    for (int w = 0; w < 3; w++)
        d[w] = calloc((size_t)size[w], sizeof **d);
    reference_attention_backward(&b->f, x[0], x[1], x[2], d_out, d[0], d[1], d[2]);
    for (int w = 0; w < 3; w++)
        for (int64_t i = 0; i < size[w]; i++) {
            const double step = 1e-5, at = x[w][i];
            double side[2];
            for (int t = 0; t < 2; t++) {
                x[w][i] = t ? at - step : at + step;
                reference_attention_forward(&b->f, x[0], x[1], x[2], out, lse);
                side[t] = 0;
                for (int64_t j = 0; j < nq; j++)
                    side[t] += out[j] * d_out[j];
            }
            x[w][i] = at;
            assert_true(fabs((side[0] - side[1]) / (2 * step) - d[w][i]) < 1e-8);
        }
    for (int w = 0; w < 3; w++)
        free(x[w]), free(d[w]);
    free(d_out), free(out), free(lse);
    batch_free(b);
}

static void poison(void *x, enum dtype act, int64_t at)
{
    if (act == DTYPE_F32)
        ((float *)x)[at] = NAN;
    else
        ((uint16_t *)x)[at] = 0x7fc0;
}

/* A NaN in k or v of one token reaches the queries that see it, and nothing else. */
static void test_nan_stays(void **state)
{
    (void)state;
    struct isa list[3];
    const int n = isas(list);
    for (int s = 0; s < n; s++)
        for (int which = 0; which < 4; which++) {
            const enum dtype act = which & 1 ? DTYPE_BF16 : DTYPE_F32;
            struct batch *clean = batch_new(4, 2, 16, act), *broken = batch_new(4, 2, 16, act);
            add_ragged(clean, ragged, 5);
            add_ragged(broken, ragged, 5);
            batch_fill(clean);
            batch_fill(broken);
            /* Sequence 3 has 65 keys; its key 40, kv head 1. */
            const int32_t row = broken->spans[3].row + 40, token = broken->seqs[3].query_row;
            poison(which & 2 ? broken->v : broken->k, act, (int64_t)row * 32 + 16 + 3);
            batch_forward(clean, &list[s], 1);
            batch_forward(broken, &list[s], 1);
            double *a = widen(clean->f.out, act, clean->tokens * 64);
            double *b = widen(broken->f.out, act, clean->tokens * 64);
            for (int32_t t = 0; t < clean->tokens; t++)
                for (int32_t i = 0; i < 64 && clean->token[t]; i++) {
                    const bool sees = t >= token + 40 && t < token + 65 && i >= 32;
                    if (sees && (!(which & 2) || i % 16 == 3))
                        assert_true(isnan(b[t * 64 + i]));
                    else
                        assert_true(memcmp(&a[t * 64 + i], &b[t * 64 + i], sizeof *a) == 0);
                }
            struct attention_backward p = batch_backward(clean, &list[s], 1);
            struct attention_backward r = batch_backward(broken, &list[s], 1);
            for (int32_t t = 0; t < clean->kv_rows * 32; t++)
                if (t / 32 < broken->spans[3].row || t / 32 > broken->spans[3].row + 64) {
                    assert_true(f32_bits(p.dk[t]) == f32_bits(r.dk[t]));
                    assert_true(f32_bits(p.dv[t]) == f32_bits(r.dv[t]));
                }
            for (int32_t t = 0; t < clean->tokens * 64; t++)
                if (t / 64 < token + 40 || t / 64 > token + 64)
                    assert_true(f32_bits(p.dq[t]) == f32_bits(r.dq[t]));
            free(a), free(b);
            batch_free(clean), batch_free(broken);
        }
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void bench(void)
{
    struct isa list[3];
    const int n = isas(list);
    const int32_t length = 512;
    for (int s = 0; s < n; s++)
        for (int act = 0; act < 2; act++) {
            struct batch *b = batch_new(4, 2, 128, act ? DTYPE_BF16 : DTYPE_F32);
            add_ragged(b, &length, 1);
            batch_fill(b);
            double best[2] = {1e9, 1e9};
            for (int i = 0; i < 5; i++) {
                double start = now();
                batch_forward(b, &list[s], 1);
                best[0] = fmin(best[0], now() - start);
                start = now();
                batch_backward(b, &list[s], 1);
                best[1] = fmin(best[1], now() - start);
            }
            const double pairs = 4.0 * 512 * 513 / 2;
            printf("%-8s %s T 512 D 128: forward %.1f, backward %.1f GFLOP/s\n", list[s].name, act ? "bf16" : "f32 ",
                   pairs * 4 * 128 / best[0] * 1e-9, pairs * 10 * 128 / best[1] * 1e-9);
            batch_free(b);

            b = batch_new(4, 2, 128, act ? DTYPE_BF16 : DTYPE_F32);
            int32_t first[32];
            for (int i = 0; i < 32; i++)
                first[i] = 256;
            add_paged(b, 256, first, 1, 14);
            batch_fill(b);
            best[0] = 1e9;
            for (int i = 0; i < 20; i++) {
                const double start = now();
                batch_forward(b, &list[s], 1);
                best[0] = fmin(best[0], now() - start);
            }
            printf("%-8s %s decode 14 of a 256-token prompt: %.0f us\n", list[s].name, act ? "bf16" : "f32 ",
                   best[0] * 1e6);
            batch_free(b);
        }
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--bench") == 0) {
        bench();
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward_reference),
        cmocka_unit_test(test_layouts),
        cmocka_unit_test(test_reference_differences),
        cmocka_unit_test(test_backward_reference),
        cmocka_unit_test(test_nan_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

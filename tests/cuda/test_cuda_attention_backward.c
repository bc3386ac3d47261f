/* Attention's backward on the CUDA backend against the double reference, and its bits: the same sequence gives the same
 * gradients whatever else is in the batch. With --small: less of it. With --bench: TFLOP/s. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "backend/ops.h"
#include "base/rng.h"
#include "support/reference.h"
#ifdef COHORT_CUDA_EMULATED
#include "cuda_emulation_control.h"
#endif

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_SEQS = 128, MAX_SPANS = 256, MAX_ROWS = 4096, GUARD = 16 };

/* A training batch: keys lie in the rows of their queries. What a row holds is a function of its content, a number that
 * tells a logical token; content 0 is NaN: a row that nobody may use. */
struct batch {
    struct attention_forward f; /* tensors in backend memory */
    struct attention_backward p;
    struct attention_seq seqs[MAX_SEQS];
    struct attention_span spans[MAX_SPANS];
    int32_t position[MAX_ROWS];
    uint32_t content[MAX_ROWS];
    int32_t tokens, n_spans, n_trees;
    double *q, *k, *v, *d_out, *out, *lse; /* as stored, widened; out and lse before rounding */
    void *memory[16];
    int n_memory;
    void *out_memory[3]; /* dq, dk, dv with guards */
    float *dq, *dk, *dv; /* (host) with guards before and after */
};

static struct backend *backend;
static bool small;

static int setup(void **state)
{
    (void)state;
    cohort_error err = {0};
    if (backend_cuda_create(&backend, 0, &err) == COHORT_OK)
        return 0;
    fprintf(stderr, "%s\n", err.message);
    return -1;
}

static int teardown(void **state)
{
    (void)state;
    backend_destroy(backend);
    return 0;
}

static void check_backend(void)
{
    cohort_error err = {0};
    if (backend->ops->check(backend, &err) != COHORT_OK)
        fail_msg("%s", err.message);
}

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

/* n queries of stream at positions first, ... behind prompt_length keys in rows prompt_row, ... */
static int32_t add_seq(struct batch *b, uint32_t stream, int32_t first, int32_t n, int32_t prompt_row, int32_t tree)
{
    const int32_t row = b->tokens;
    struct attention_seq *seq = &b->seqs[b->f.n_seqs++];
    *seq = (struct attention_seq){row, n, first, b->n_spans, 0, tree};
    if (first > 0)
        b->spans[b->n_spans++] = (struct attention_span){0, prompt_row, first};
    b->spans[b->n_spans++] = (struct attention_span){first, row, n};
    seq->n_spans = b->n_spans - seq->span_begin;
    for (int32_t i = 0; i < n; i++) {
        b->position[b->tokens] = first + i;
        b->content[b->tokens++] = stream << 16 | (uint32_t)(first + i + 1);
    }
    return row;
}

static void add_gap(struct batch *b, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        b->position[b->tokens] = 0;
        b->content[b->tokens++] = 0;
    }
}

/* A prompt (stream) and completions (streams + 1, ...) of it. */
static void add_tree(struct batch *b, uint32_t stream, int32_t prompt, const int32_t *lengths, int32_t n)
{
    const int32_t row = add_seq(b, stream, 0, prompt, 0, b->n_trees);
    for (int32_t s = 0; s < n; s++)
        add_seq(b, stream + 1 + (uint32_t)s, prompt, lengths[s], row, b->n_trees);
    b->n_trees++;
}

static float value(uint32_t what, uint32_t of, int64_t i)
{
    if (of == 0)
        return NAN;
    return 2.0f * rng_uniform(rng_philox(what, RNG_TEST, of, (uint64_t)i).word[0]) - 1.0f;
}

/* Backend memory with count elements of act from x, which are rounded in x too. */
static void *put(struct batch *b, double *x, int64_t count, enum dtype act)
{
    const size_t bytes = (size_t)count * dtype_bytes(act);
    char *host = malloc(bytes + 1);
    assert_non_null(host);
    for (int64_t i = 0; i < count; i++) {
        const float f = (float)x[i];
        const uint16_t half = bf16_from_f32(f);
        memcpy(host + (size_t)i * dtype_bytes(act), act == DTYPE_F32 ? (const void *)&f : &half, dtype_bytes(act));
        x[i] = act == DTYPE_F32 ? (double)f : (double)f32_from_bf16(half);
    }
    void *memory;
    cohort_error err = {0};
    assert_int_equal(backend->ops->alloc(backend, &memory, bytes, "a test", &err), COHORT_OK);
    backend->ops->upload(backend, memory, host, bytes);
    free(host);
    b->memory[b->n_memory++] = memory;
    return memory;
}

static double *values(const struct batch *b, uint32_t what, int64_t width, double scale)
{
    double *x = malloc((size_t)(b->tokens * width + 1) * sizeof *x);
    assert_non_null(x);
    for (int64_t i = 0; i < b->tokens * width; i++)
        x[i] = (double)value(what, b->content[i / width], i % width) * scale;
    return x;
}

/* Fills the tensors; out and lse are the reference's. */
static void batch_fill(struct batch *b)
{
    const enum dtype act = b->f.act;
    const int64_t qw = (int64_t)b->f.n_heads * b->f.head_dim, kw = (int64_t)b->f.n_kv_heads * b->f.head_dim;
    b->f.n_spans = b->n_spans;
    b->f.seqs = b->seqs;
    b->f.spans = b->spans;
    b->q = values(b, 1, qw, 4.0);
    b->k = values(b, 2, kw, 1.0);
    b->v = values(b, 3, kw, 1.0);
    b->d_out = values(b, 4, qw, 1.0);
    b->f.q = put(b, b->q, b->tokens * qw, act);
    b->f.k = put(b, b->k, b->tokens * kw, act);
    b->f.v = put(b, b->v, b->tokens * kw, act);
    b->p.d_out = put(b, b->d_out, b->tokens * qw, act);
    b->out = values(b, 5, qw, NAN);
    b->lse = values(b, 5, b->f.n_heads, NAN);
    reference_attention_forward(&b->f, b->q, b->k, b->v, b->out, b->lse);
    b->f.out = put(b, b->out, b->tokens * qw, act);
    b->f.lse = put(b, b->lse, (int64_t)b->tokens * b->f.n_heads, DTYPE_F32);
    cohort_error err = {0};
    void *position;
    assert_int_equal(
        backend->ops->alloc(backend, &position, (size_t)(b->tokens + 1) * sizeof *b->position, "a test", &err),
        COHORT_OK);
    backend->ops->upload(backend, position, b->position, (size_t)b->tokens * sizeof *b->position);
    b->memory[b->n_memory++] = position;
    b->f.position = position;
}

static void prepare(const struct batch *b)
{
    const struct attention_batch batch = {.n_tokens = b->tokens,
                                          .n_seqs = b->f.n_seqs,
                                          .n_spans = b->n_spans,
                                          .n_trees = b->n_trees,
                                          .seqs = b->seqs,
                                          .spans = b->spans,
                                          .n_heads = b->f.n_heads,
                                          .n_kv_heads = b->f.n_kv_heads,
                                          .head_dim = b->f.head_dim,
                                          .backward = true};
    backend->ops->attention_prepare(backend, &batch);
}

/* Runs the backward from dk, dv = start, dq = 7, guards -3; checks guards. */
static void batch_backward(struct batch *b, float start)
{
    const int64_t nq = (int64_t)b->tokens * b->f.n_heads * b->f.head_dim;
    const int64_t nk = (int64_t)b->tokens * b->f.n_kv_heads * b->f.head_dim;
    const int64_t size[3] = {nq, nk, nk};
    float **host[3] = {&b->dq, &b->dk, &b->dv}, **device[3] = {&b->p.dq, &b->p.dk, &b->p.dv};
    for (int w = 0; w < 3; w++) {
        const size_t bytes = (size_t)(size[w] + 2 * GUARD) * sizeof(float);
        free(*host[w]);
        *host[w] = malloc(bytes);
        assert_non_null(*host[w]);
        for (int64_t i = 0; i < size[w] + 2 * GUARD; i++)
            (*host[w])[i] = i < GUARD || i >= size[w] + GUARD ? -3.0f : w == 0 ? 7.0f : start;
        cohort_error err = {0};
        if (!b->out_memory[w])
            assert_int_equal(backend->ops->alloc(backend, &b->out_memory[w], bytes, "a test", &err), COHORT_OK);
        backend->ops->upload(backend, b->out_memory[w], *host[w], bytes);
        *device[w] = (float *)b->out_memory[w] + GUARD;
    }
    b->p.forward = b->f;
    prepare(b);
    backend->ops->attention_backward(backend, &b->p);
    for (int w = 0; w < 3; w++) {
        backend->ops->download(backend, *host[w], b->out_memory[w], (size_t)(size[w] + 2 * GUARD) * sizeof(float));
        for (int i = 0; i < GUARD; i++) {
            assert_true((*host[w])[i] == -3.0f);
            assert_true((*host[w])[GUARD + size[w] + i] == -3.0f);
        }
    }
    check_backend();
}

static void batch_free(struct batch *b)
{
    for (int i = 0; i < b->n_memory; i++)
        backend->ops->free(backend, b->memory[i]);
    for (int i = 0; i < 3; i++)
        backend->ops->free(backend, b->out_memory[i]);
    free(b->q), free(b->k), free(b->v), free(b->d_out), free(b->out), free(b->lse);
    free(b->dq), free(b->dk), free(b->dv);
    free(b);
}

/* The largest error relative to the largest element. Rows of nobody keep what they had. */
static double error_of(const struct batch *b, const char *what, const float *have, const double *want, float start,
                       int64_t width, double bound)
{
    double largest = 0, worst = 0;
    int64_t at = 0;
    for (int64_t i = 0; i < b->tokens * width; i++)
        if (b->content[i / width])
            largest = fmax(largest, fabs(want[i]));
    for (int64_t i = 0; i < b->tokens * width; i++)
        if (b->content[i / width]) {
            const double difference = fabs((double)have[i] - (double)start - want[i]);
            if (!(difference <= worst)) {
                worst = difference;
                at = i;
            }
        } else {
            assert_true(have[i] == (start > 0 ? start : 7.0f));
        }
    if (!(worst <= bound * largest + 1e-7))
        fail_msg("H %d K %d D %d %s: %s row %lld element %lld: off by %g, largest %g", b->f.n_heads, b->f.n_kv_heads,
                 b->f.head_dim, b->f.act == DTYPE_F32 ? "f32" : "bf16", what, (long long)(at / width),
                 (long long)(at % width), worst, largest);
    return worst / largest;
}

struct shape {
    int32_t n_heads, n_kv_heads, head_dim;
};
static const struct shape shapes[] = {
    {4, 2, 128}, {1, 1, 128}, {4, 1, 64}, {7, 1, 128}, {2, 2, 64},
    {7, 1, 64},  {4, 2, 40},  {65, 1, 4}, {3, 1, 7},   {1, 1, 256},
};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };
static const int32_t completions[] = {5, 40, 90};

static void reference_check(const struct shape *shape, enum dtype act, int layout)
{
    struct batch *b = batch_new(shape->n_heads, shape->n_kv_heads, shape->head_dim, act);
    if (layout == 0) {
        static const int32_t lengths[] = {1, 63, 64, 65, 130};
        for (uint32_t s = 0; s < 5; s++) {
            add_seq(b, s + 1, 0, lengths[s], 0, b->n_trees++);
            add_gap(b, 1);
        }
    } else if (layout == 2) {
        static const int32_t lengths[] = {333, 600};
        add_seq(b, 50, 0, 1100, 0, b->n_trees++);
        add_tree(b, 1, 290, lengths, 2);
    } else {
        add_tree(b, 1, 100, completions, 3);
        add_gap(b, 3);
        add_tree(b, 10, 64, completions, 2);
        add_tree(b, 20, 3, completions, 1);
    }
    batch_fill(b);
    batch_backward(b, 0.5f);
    const int64_t qw = (int64_t)b->f.n_heads * b->f.head_dim, kw = (int64_t)b->f.n_kv_heads * b->f.head_dim;
    double *dq = calloc((size_t)(b->tokens * qw), sizeof *dq);
    double *dk = calloc((size_t)(b->tokens * kw), sizeof *dk);
    double *dv = calloc((size_t)(b->tokens * kw), sizeof *dv);
    assert_true(dq && dk && dv);
    reference_attention_backward(&b->f, b->q, b->k, b->v, b->d_out, dq, dk, dv);
    /* delta = sum(dO * O) takes O as stored: in bf16 each O is off by up to 2^-8 of itself, and the weights and their
     * derivatives, one operand of the products that follow, by up to 2^-9 of themselves. */
    const double rough = act == DTYPE_F32 ? 2e-5 : 8e-3, value_rough = act == DTYPE_F32 ? 2e-5 : 4e-3;
    const double e[3] = {error_of(b, "dq", b->dq + GUARD, dq, 0, qw, rough),
                         error_of(b, "dk", b->dk + GUARD, dk, 0.5f, kw, rough),
                         error_of(b, "dv", b->dv + GUARD, dv, 0.5f, kw, value_rough)};
    printf("H %d K %d D %d %s: errors of dq %.1e, dk %.1e, dv %.1e of the largest\n", shape->n_heads, shape->n_kv_heads,
           shape->head_dim, act == DTYPE_F32 ? "f32" : "bf16", e[0], e[1], e[2]);
    free(dq), free(dk), free(dv);
    batch_free(b);
}

static void test_reference(void **state)
{
    (void)state;
    for (int i = 0; i < N_SHAPES; i++)
        for (int act = 0; act < 2; act++)
            for (int layout = 0; layout < 2; layout++) {
                /* In fp32 all sizes take the same kernel, as do the odd ones in bf16. */
                const bool tiled = shapes[i].head_dim % 64 == 0 && shapes[i].head_dim < 256;
                const bool again = tiled && !act && i > 0;
                if (!small || (!again && ((i + act) % 2 == layout || (tiled && act && i < 3))))
                    reference_check(&shapes[i], act ? DTYPE_BF16 : DTYPE_F32, layout);
            }
    if (!small)
        reference_check(&shapes[0], DTYPE_BF16, 2);
}

/* Rows of x of the given streams have the same bits in y. dk, dv: not of prompts, which sum over their completions. */
static void same_bits(const struct batch *x, const struct batch *y, uint32_t prompt)
{
    const size_t qw = (size_t)x->f.n_heads * (size_t)x->f.head_dim,
                 kw = (size_t)x->f.n_kv_heads * (size_t)x->f.head_dim;
    for (int32_t i = 0; i < x->tokens; i++) {
        int32_t j = 0;
        while (j < y->tokens && y->content[j] != x->content[i])
            j++;
        assert_true(j < y->tokens);
        const size_t xi = (size_t)i, yj = (size_t)j;
        if (memcmp(x->dq + GUARD + xi * qw, y->dq + GUARD + yj * qw, qw * sizeof(float)) != 0)
            fail_msg("dq of stream %u differs", x->content[i] >> 16);
        if (x->content[i] >> 16 != prompt &&
            (memcmp(x->dk + GUARD + xi * kw, y->dk + GUARD + yj * kw, kw * sizeof(float)) != 0 ||
             memcmp(x->dv + GUARD + xi * kw, y->dv + GUARD + yj * kw, kw * sizeof(float)) != 0))
            fail_msg("dk or dv of stream %u differs", x->content[i] >> 16);
    }
}

static void test_bits(void **state)
{
    (void)state;
    static const struct shape some[] = {{4, 2, 128}, {7, 1, 64}, {4, 2, 16}};
    for (int i = 0; i < 3; i++)
        for (int act = 0; act < (i == 2 ? 2 : 1); act++) {
            const enum dtype type = act ? DTYPE_F32 : DTYPE_BF16;
            const struct shape *s = &some[i];
            struct batch *tree = batch_new(s->n_heads, s->n_kv_heads, s->head_dim, type);
            add_gap(tree, 5);
            add_seq(tree, 30, 0, 77, 0, tree->n_trees++);
            add_tree(tree, 1, 100, completions, 3);
            add_tree(tree, 10, 20, completions, 2);
            batch_fill(tree);
            batch_backward(tree, 0.5f);

            struct batch *again = batch_new(s->n_heads, s->n_kv_heads, s->head_dim, type);
            add_gap(again, 5);
            add_seq(again, 30, 0, 77, 0, again->n_trees++);
            add_tree(again, 1, 100, completions, 3);
            add_tree(again, 10, 20, completions, 2);
            batch_fill(again);
#ifdef COHORT_CUDA_EMULATED
            cuda_emulation_set_order(CUDA_EMULATION_SHUFFLED, 7);
#endif
            batch_backward(again, 0.5f);
#ifdef COHORT_CUDA_EMULATED
            cuda_emulation_set_order(CUDA_EMULATION_ASCENDING, 0);
#endif
            const size_t kw = (size_t)s->n_kv_heads * (size_t)s->head_dim;
            assert_memory_equal(again->dk, tree->dk, (size_t)tree->tokens * kw * sizeof(float));
            assert_memory_equal(again->dv, tree->dv, (size_t)tree->tokens * kw * sizeof(float));
            assert_memory_equal(again->dq, tree->dq,
                                (size_t)tree->tokens * (size_t)s->n_heads * (size_t)s->head_dim * sizeof(float));
            batch_free(again);

            /* The first prompt with its first completion alone. */
            struct batch *part = batch_new(s->n_heads, s->n_kv_heads, s->head_dim, type);
            add_tree(part, 1, 100, completions, 1);
            batch_fill(part);
            batch_backward(part, 0.5f);
            same_bits(part, tree, 1);
            batch_free(part);

            /* A sequence alone: its keys' gradients too. */
            part = batch_new(s->n_heads, s->n_kv_heads, s->head_dim, type);
            add_seq(part, 30, 0, 77, 0, part->n_trees++);
            batch_fill(part);
            batch_backward(part, 0.5f);
            same_bits(part, tree, 0);
            batch_free(part);
            batch_free(tree);
        }
}

/* dk and dv on top of what is there: twice is twice. */
static void test_accumulates(void **state)
{
    (void)state;
    for (int act = 0; act < 2; act++) {
        struct batch *b = batch_new(4, 2, act ? 64 : 24, act ? DTYPE_BF16 : DTYPE_F32);
        add_tree(b, 1, 70, completions, 2);
        batch_fill(b);
        batch_backward(b, 0.0f);
        const int64_t n = (int64_t)b->tokens * 2 * b->f.head_dim;
        const size_t bytes = (size_t)(n + GUARD) * sizeof(float);
        float *dk = malloc(bytes), *dv = malloc(bytes);
        assert_true(dk && dv);
        backend->ops->attention_backward(backend, &b->p);
        backend->ops->download(backend, dk, b->p.dk - GUARD, bytes);
        backend->ops->download(backend, dv, b->p.dv - GUARD, bytes);
        for (int64_t i = GUARD; i < n + GUARD; i++) {
            assert_true(fabsf(dk[i] - 2.0f * b->dk[i]) <= 4e-7f * fabsf(b->dk[i]));
            assert_true(fabsf(dv[i] - 2.0f * b->dv[i]) <= 4e-7f * fabsf(b->dv[i]));
        }
        free(dk), free(dv);
        batch_free(b);
    }
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Zeroed tensors: the work does not depend on values. 7 products of the visible pairs. */
static void bench(void)
{
    static const struct {
        int32_t n_heads, prompt, completion, n_completions, n_trees;
    } cases[] = {{16, 128, 512, 8, 8}, {16, 1024, 512, 16, 2}, {16, 640, 0, 0, 32}, {16, 4096, 0, 0, 4},
                 {32, 128, 512, 8, 4}, {32, 4096, 0, 0, 4},    {32, 32768, 0, 0, 1}};
    assert_int_equal(setup(NULL), 0);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct batch *b = batch_new(cases[c].n_heads, 8, 128, DTYPE_BF16);
        double pairs = 0;
        for (int32_t t = 0; t < cases[c].n_trees; t++) {
            const int32_t prompt = cases[c].prompt, row = b->tokens;
            for (int32_t s = -1; s < cases[c].n_completions; s++) {
                const int32_t n = s < 0 ? prompt : cases[c].completion, first = s < 0 ? 0 : prompt;
                b->seqs[b->f.n_seqs++] = (struct attention_seq){b->tokens, n, first, b->n_spans, s < 0 ? 1 : 2, t};
                if (s >= 0)
                    b->spans[b->n_spans++] = (struct attention_span){0, row, prompt};
                b->spans[b->n_spans++] = (struct attention_span){first, b->tokens, n};
                b->tokens += n;
                pairs += (double)n * (first + 0.5 * (n + 1));
            }
        }
        b->n_trees = cases[c].n_trees;
        b->f.n_spans = b->n_spans;
        b->f.seqs = b->seqs;
        b->f.spans = b->spans;
        const size_t elements = (size_t)b->tokens * (size_t)b->f.n_heads * 128;
        void *q[4];
        float *d[3];
        cohort_error err = {0};
        for (int i = 0; i < 4; i++)
            assert_int_equal(backend->ops->alloc(backend, &q[i], elements * 2, "bench", &err), COHORT_OK);
        for (int i = 0; i < 3; i++)
            assert_int_equal(backend->ops->alloc(backend, &d[i], elements * 4, "bench", &err), COHORT_OK);
        b->f.q = b->f.k = b->f.v = q[0];
        b->f.out = q[1];
        b->f.lse = q[2]; /* large enough */
        b->p = (struct attention_backward){b->f, q[3], d[0], d[1], d[2]};
        prepare(b);
        double best = 1e9;
        for (int i = 0; i < 5; i++) {
            backend->ops->wait(backend);
            const double start = now();
            for (int j = 0; j < 4; j++)
                backend->ops->attention_backward(backend, &b->p);
            backend->ops->wait(backend);
            best = fmin(best, (now() - start) / 4);
        }
        check_backend();
        printf("H %d K 8 D 128, %d x (%d + %d x %d): %.2f ms, %.0f TFLOP/s (7 products)\n", cases[c].n_heads,
               cases[c].n_trees, cases[c].prompt, cases[c].n_completions, cases[c].completion, best * 1e3,
               pairs * cases[c].n_heads * 7 * 2 * 128 / best * 1e-12);
        for (int i = 0; i < 4; i++)
            backend->ops->free(backend, q[i]);
        for (int i = 0; i < 3; i++)
            backend->ops->free(backend, d[i]);
        free(b);
    }
    teardown(NULL);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--bench") == 0) {
        bench();
        return 0;
    }
    small = argc > 1 && (strcmp(argv[1], "--small") == 0 || strcmp(argv[1], "--brief") == 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference),
        cmocka_unit_test(test_bits),
        cmocka_unit_test(test_accumulates),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

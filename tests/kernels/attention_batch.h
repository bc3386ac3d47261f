/* Batches for tests of attention: how they are laid out, run on the backend under test and compared. */
#ifndef COHORT_TESTS_KERNELS_ATTENTION_BATCH_H
#define COHORT_TESTS_KERNELS_ATTENTION_BATCH_H

#include "kernels/kernel_test.h"
#include "support/reference.h"

#include <time.h>

enum { MAX_SEQS = 512, MAX_SPANS = 2048, MAX_ROWS = 8192, PAGE = ATTENTION_CHUNK };

struct shape {
    int32_t n_heads, n_kv_heads, head_dim;
    int32_t window; /* 0: none */
};

/* A batch. What a row holds is a function of its content, a number that tells a logical token; content 0 is NaN: a row
 * that nobody may use. */
struct batch {
    struct attention_forward f; /* its tensors are there while a layer runs */
    struct attention_seq seqs[MAX_SEQS];
    struct attention_span spans[MAX_SPANS];
    int32_t position[MAX_ROWS];
    uint32_t token[MAX_ROWS], kv[MAX_ROWS];
    int32_t tokens, kv_rows;
    void *q, *k, *v, *d_out; /* (host) act */
    void *k8, *v8;           /* (host) what the forward reads with f.kv8 */
    void *out;               /* (host) results: act */
    float *lse, *dq, *dk, *dv;
    float start; /* what dk and dv begin with */
};

static inline uint32_t content(uint32_t stream, int32_t position) { return stream << 16 | (uint32_t)(position + 1); }

static inline struct batch *batch_new(const struct shape *shape, enum dtype act)
{
    struct batch *b = calloc(1, sizeof *b);
    assert_non_null(b);
    b->start = 0.5f;
    b->f = (struct attention_forward){.n_heads = shape->n_heads,
                                      .n_kv_heads = shape->n_kv_heads,
                                      .head_dim = shape->head_dim,
                                      .window = shape->window,
                                      .scale = 1.0f / sqrtf((float)shape->head_dim),
                                      .act = act};
    return b;
}

static inline void batch_free(struct batch *b)
{
    void *memory[] = {b->q, b->k, b->v, b->k8, b->v8, b->d_out, b->out, b->lse, b->dq, b->dk, b->dv, b};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
        free(memory[i]);
}

static inline int64_t query_width(const struct batch *b) { return (int64_t)b->f.n_heads * b->f.head_dim; }
static inline int64_t key_width(const struct batch *b) { return (int64_t)b->f.n_kv_heads * b->f.head_dim; }

/* Whether this provider of a CPU rounds weights to bf16 before their products. */
static inline bool packed_weights(const struct batch *b)
{
    return b->f.act == DTYPE_BF16 && strcmp(provider, "avx512-bf16") == 0;
}

/* ---- Layout ---- */

static inline void add_token(struct batch *b, uint32_t what, int32_t position)
{
    assert_true(b->tokens < MAX_ROWS);
    b->position[b->tokens] = position;
    b->token[b->tokens++] = what;
}

static inline struct attention_seq *add_seq(struct batch *b, uint32_t stream, int32_t first_position, int32_t n_queries,
                                            int32_t tree)
{
    assert_true(b->f.n_seqs < MAX_SEQS);
    struct attention_seq *seq = &b->seqs[b->f.n_seqs++];
    *seq = (struct attention_seq){b->tokens, n_queries, first_position, b->f.n_spans, 0, tree};
    for (int32_t i = 0; i < n_queries; i++)
        add_token(b, content(stream, first_position + i), first_position + i);
    return seq;
}

static inline void add_span(struct batch *b, struct attention_seq *seq, int32_t position, int32_t row, int32_t length)
{
    assert_true(b->f.n_spans < MAX_SPANS);
    b->spans[b->f.n_spans++] = (struct attention_span){position, row, length};
    seq->n_spans++;
}

/* length new key rows with the contents of stream from position on. */
static inline int32_t add_rows(struct batch *b, uint32_t stream, int32_t position, int32_t length)
{
    const int32_t row = b->kv_rows;
    assert_true(row + length <= MAX_ROWS);
    for (int32_t i = 0; i < length; i++)
        b->kv[b->kv_rows++] = content(stream, position + i);
    return row;
}

/* n rows that belong to nobody, among the tokens and among the keys. */
static inline void add_gap(struct batch *b, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        add_token(b, 0, 0);
        b->kv[b->kv_rows++] = 0;
    }
}

/* A sequence with key rows of its own; they are the rows of its queries where the batch has nothing but these, gaps and
 * trees. */
static inline void add_alone(struct batch *b, uint32_t stream, int32_t length, int32_t tree)
{
    struct attention_seq *seq = add_seq(b, stream, 0, length, tree);
    add_span(b, seq, 0, add_rows(b, stream, 0, length), length);
}

/* A prompt (stream) and completions (stream + 1, ...) that read its key rows: training. */
static inline void add_tree(struct batch *b, uint32_t stream, int32_t prompt, const int32_t *lengths, int32_t n,
                            int32_t tree)
{
    struct attention_seq *seq = add_seq(b, stream, 0, prompt, tree);
    const int32_t prompt_row = add_rows(b, stream, 0, prompt);
    add_span(b, seq, 0, prompt_row, prompt);
    for (int32_t s = 0; s < n; s++) {
        seq = add_seq(b, stream + 1 + (uint32_t)s, prompt, lengths[s], tree);
        add_span(b, seq, 0, prompt_row, prompt);
        add_span(b, seq, prompt, add_rows(b, stream + 1 + (uint32_t)s, prompt, lengths[s]), lengths[s]);
    }
}

/* Sequences of their own (streams 1, 2, ...), each with a row of nobody behind it. */
static inline void add_ragged(struct batch *b, const int32_t *lengths, int32_t n)
{
    for (int32_t s = 0; s < n; s++) {
        add_alone(b, (uint32_t)s + 1, lengths[s], s);
        add_gap(b, 1);
    }
}

/* ---- Running ---- */

static inline void *batch_rows(uint32_t what, const uint32_t *contents, int32_t rows, int64_t width, enum dtype act,
                               float scale)
{
    void *memory = malloc((size_t)(rows * width + 1) * dtype_bytes(act));
    assert_non_null(memory);
    for (int32_t row = 0; row < rows; row++) {
        struct rng_block block = {{0}};
        for (int64_t i = 0; i < width; i++) {
            if (contents[row] != 0 && i % 4 == 0)
                block = rng_philox(what, RNG_TEST, contents[row], (uint64_t)i);
            put(memory, act, row * width + i,
                contents[row] == 0 ? NAN : (2.0f * rng_uniform(block.word[i % 4]) - 1.0f) * scale);
        }
    }
    return memory;
}

/* Makes the forward's tensors here, once. */
static inline void batch_fill(struct batch *b)
{
    if (b->q != NULL)
        return;
    b->f.seqs = b->seqs;
    b->f.spans = b->spans;
    b->q = batch_rows(1, b->token, b->tokens, query_width(b), b->f.act, 4.0f);
    b->k = batch_rows(2, b->kv, b->kv_rows, key_width(b), b->f.act, 1.0f);
    b->v = batch_rows(3, b->kv, b->kv_rows, key_width(b), b->f.act, 1.0f);
}

/* Rows in 8 bits, whose values become those of x too. */
static inline void *narrow_rows(void *x, const struct batch *b)
{
    const int32_t n = b->f.head_dim, heads = b->kv_rows * b->f.n_kv_heads;
    char *to = malloc((size_t)(heads * KV8_HEAD_BYTES(n) + 1));
    assert_non_null(to);
    for (int32_t h = 0; h < heads; h++) {
        int8_t *number = (int8_t *)to + h * KV8_HEAD_BYTES(n);
        float most = 0.0f;
        for (int32_t d = 0; d < n; d++)
            most = fmaxf(most, fabsf((float)at(x, b->f.act, (int64_t)h * n + d)));
        const float scale = isnan(at(x, b->f.act, (int64_t)h * n)) ? NAN : most / 127.0f;
        for (int32_t d = 0; d < n; d++) {
            number[d] = isnan(scale) ? 0 : (int8_t)rintf((float)at(x, b->f.act, (int64_t)h * n + d) * (127.0f / most));
            put(x, b->f.act, (int64_t)h * n + d, scale * (float)number[d]);
        }
        memcpy(number + KV8_SCALE_AT(n), &scale, sizeof scale);
    }
    return to;
}

static inline void batch_prepare(struct batch *b, bool backward)
{
    const struct attention_batch batch = {.n_tokens = b->tokens,
                                          .n_seqs = b->f.n_seqs,
                                          .n_spans = b->f.n_spans,
                                          .n_trees = b->f.n_seqs > 0 ? b->seqs[b->f.n_seqs - 1].tree + 1 : 0,
                                          .seqs = b->seqs,
                                          .spans = b->spans,
                                          .n_heads = b->f.n_heads,
                                          .n_kv_heads = b->f.n_kv_heads,
                                          .head_dim = b->f.head_dim,
                                          .backward = backward};
    backend->ops->attention_prepare(backend, &batch);
}

/* A host copy of what the array holds now; old is freed. Rows of nobody among n of contents must be as they were. */
static inline void *kept(void *old, const struct array *a, const uint32_t *contents, int32_t n, int64_t width)
{
    const size_t row = (size_t)width * dtype_bytes(a->type);
    void *copy = malloc(a->bytes + 1);
    assert_non_null(copy);
    pull(a);
    memcpy(copy, a->x, a->bytes);
    for (int32_t t = 0; t < n; t++)
        for (size_t i = 0; contents[t] == 0 && i < row; i++)
            assert_int_equal(((unsigned char *)copy)[(size_t)t * row + i], GUARD_BYTE);
    free(old);
    return copy;
}

/* Gradients of keys or values, which begin with start in the rows that somebody uses. */
static inline struct array *key_gradient(const struct batch *b)
{
    struct array *a = array_new(b->kv_rows * key_width(b), DTYPE_F32, 0, 0.0);
    for (int64_t i = 0; i < a->count; i++)
        if (b->kv[i / key_width(b)] != 0)
            set(a, i, b->start);
    push(a);
    return a;
}

/* A layer of what has been prepared, and its backward so many times, from what the forward left. */
static inline void batch_layer(struct batch *b, int backward)
{
    const enum dtype act = b->f.act;
    const int64_t nq = b->tokens * query_width(b), nk = b->kv_rows * key_width(b);
    const int before = n_arrays;
    batch_fill(b);
    const struct array *out = array_new(nq, act, 0, 0.0),
                       *lse = array_new((int64_t)b->tokens * b->f.n_heads, DTYPE_F32, 0, 0.0);
    b->f.q = array_of(b->q, nq, act)->d;
    const int64_t n8 = b->kv_rows * b->f.n_kv_heads * (int64_t)KV8_HEAD_BYTES(b->f.head_dim) / 4;
    b->f.k = b->f.kv8 ? array_of(b->k8, n8, DTYPE_F32)->d : array_of(b->k, nk, act)->d;
    b->f.v = b->f.kv8 ? array_of(b->v8, n8, DTYPE_F32)->d : array_of(b->v, nk, act)->d;
    b->f.position = ids_of(b->position, b->tokens)->d;
    b->f.out = out->d;
    b->f.lse = lse->d;
    backend->ops->attention_forward(backend, &b->f);
    b->out = kept(b->out, out, b->token, b->tokens, query_width(b));
    b->lse = kept(b->lse, lse, b->token, b->tokens, b->f.n_heads);
    if (backward > 0) {
        if (b->d_out == NULL)
            b->d_out = batch_rows(4, b->token, b->tokens, query_width(b), act, 1.0f);
        const struct array *dq = array_new(nq, DTYPE_F32, 0, 0.0), *dk = key_gradient(b), *dv = key_gradient(b);
        const struct attention_backward p = {
            .forward = b->f, .d_out = array_of(b->d_out, nq, act)->d, .dq = dq->d, .dk = dk->d, .dv = dv->d};
        for (int i = 0; i < backward; i++)
            backend->ops->attention_backward(backend, &p);
        b->dq = kept(b->dq, dq, b->token, b->tokens, query_width(b));
        b->dk = kept(b->dk, dk, b->kv, b->kv_rows, key_width(b));
        b->dv = kept(b->dv, dv, b->kv, b->kv_rows, key_width(b));
    }
    arrays_free_from(before);
}

static inline void batch_forward(struct batch *b, bool for_backward)
{
    batch_prepare(b, for_backward);
    batch_layer(b, 0);
}

static inline void batch_backward(struct batch *b)
{
    batch_prepare(b, true);
    batch_layer(b, 1);
}

/* ---- Comparison ---- */

static inline double *widen(const void *x, enum dtype act, int64_t n)
{
    double *y = malloc((size_t)(n + 1) * sizeof *y);
    assert_non_null(y);
    for (int64_t i = 0; i < n; i++)
        y[i] = at(x, act, i);
    return y;
}

/* For negative controls: comparisons that were to be equal and are not. */
static int differences;

/* Every token of x that y has too has the same bits of out and lse there; at least so many of them. */
static inline void assert_same(const struct batch *x, const struct batch *y, int32_t least, const char *what)
{
    const size_t row = (size_t)query_width(x) * dtype_bytes(x->f.act), heads = (size_t)x->f.n_heads;
    int32_t found = 0;
    for (int32_t i = 0; i < x->tokens; i++) {
        int32_t j = 0;
        while (j < y->tokens && y->token[j] != x->token[i])
            j++;
        if (x->token[i] == 0 || j == y->tokens)
            continue;
        found++;
        if (memcmp((char *)x->out + (size_t)i * row, (char *)y->out + (size_t)j * row, row) != 0 ||
            memcmp(x->lse + (size_t)i * heads, y->lse + (size_t)j * heads, heads * sizeof(float)) != 0) {
            differences++;
            if (!test_options.expect_difference)
                fail_msg("%s, H %d K %d D %d window %d, %s: stream %u position %u differs", provider, x->f.n_heads,
                         x->f.n_kv_heads, x->f.head_dim, x->f.window, what, x->token[i] >> 16,
                         (x->token[i] & 0xffff) - 1);
        }
    }
    assert_true(found >= least);
}

/* The exit status of a program whose tests failed so often: with --expect-difference the comparisons must have seen
 * something, and nothing else may have failed. */
static inline int batch_status(int failed)
{
    if (!test_options.expect_difference)
        return failed;
    printf("%d comparisons differ\n", differences);
    return failed == 0 && differences > 0 ? 0 : 1;
}

/* Short sequences of streams 1000, ...: on a GPU there is then work for every multiprocessor, so that the rows of long
 * sequences are not divided among blocks. */
static inline void add_fillers(struct batch *b, int32_t tree)
{
    const int32_t n = test_options.cuda && !test_options.small ? 280 : 14;
    for (int32_t s = 0; s < n; s++)
        add_alone(b, 1000 + (uint32_t)s, 1, tree + s);
}

/* ---- Speed ---- */

static inline double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds of one layer, the fastest of 5 times so many: of its forward, or of its backward where that is not NULL. */
static inline double layer_seconds(const struct attention_forward *f, const struct attention_backward *p, int times)
{
    double best = INFINITY;
    for (int i = 0; i < 6; i++) {
        backend->ops->wait(backend);
        const double start = now();
        for (int j = 0; j < times; j++)
            if (p == NULL)
                backend->ops->attention_forward(backend, f);
            else
                backend->ops->attention_backward(backend, p);
        backend->ops->wait(backend);
        if (i > 0)
            best = fmin(best, (now() - start) / times);
    }
    backend_must_be_well();
    return best;
}

#endif

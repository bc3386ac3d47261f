/* Attention's forward on the CUDA backend against the double reference, and the bits of I2: a token gives the same
 * output in training, in prefill of any pieces, in a decoding window with its prompt shared or not, alone or among
 * others, its keys in whatever rows. --expect-difference is for the negative control, whose kernels walk the chunks of
 * small batches in another order. With --bench: TFLOP/s and GB/s. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "backend/ops.h"
#include "backend/sampling.h"
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

/* Of the backend (cuda_internal.h, which needs CUDA's headers). */
bool cuda_attention_prepare_decode(struct backend *, const struct decode_load *);

enum {
    MAX_SEQS = 512,
    MAX_SPANS = 2048,
    MAX_ROWS = 8192,
    PAGE = ATTENTION_CHUNK,
    WIDE = 300, /* idle rows: more than a GPU has multiprocessors */
    GUARD = 64, /* bytes around outputs */
    PATTERN = 0x5a
};

/* A batch. What a row holds is a function of its content, a number that tells a logical token; content 0 is NaN: a row
 * that nobody may use. */
struct batch {
    struct attention_forward f; /* tensors in backend memory while it runs */
    struct attention_seq seqs[MAX_SEQS];
    struct attention_span spans[MAX_SPANS];
    int32_t position[MAX_ROWS];
    uint32_t token[MAX_ROWS], kv[MAX_ROWS];
    int32_t tokens, kv_rows;
    unsigned char *out; /* (host) with guards, as lse */
    unsigned char *lse;
};

static struct backend *backend;
static bool small, brief; /* brief: for compute-sanitizer, smaller still */
static bool expect_difference;
static int differences; /* comparisons that were to be equal and are not */

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

static void batch_free(struct batch *b)
{
    free(b->out);
    free(b->lse);
    free(b);
}

static void add_token(struct batch *b, uint32_t what, int32_t position)
{
    assert_true(b->tokens < MAX_ROWS);
    b->position[b->tokens] = position;
    b->token[b->tokens++] = what;
}

static struct attention_seq *add_seq(struct batch *b, uint32_t stream, int32_t first_position, int32_t n_queries,
                                     int32_t tree)
{
    assert_true(b->f.n_seqs < MAX_SEQS);
    struct attention_seq *seq = &b->seqs[b->f.n_seqs++];
    *seq = (struct attention_seq){b->tokens, n_queries, first_position, b->f.n_spans, 0, tree};
    for (int32_t i = 0; i < n_queries; i++)
        add_token(b, content(stream, first_position + i), first_position + i);
    return seq;
}

static void add_span(struct batch *b, struct attention_seq *seq, int32_t position, int32_t row, int32_t length)
{
    assert_true(b->f.n_spans < MAX_SPANS);
    b->spans[b->f.n_spans++] = (struct attention_span){position, row, length};
    seq->n_spans++;
}

/* length new key rows with the contents of stream from position on. */
static int32_t add_rows(struct batch *b, uint32_t stream, int32_t position, int32_t length)
{
    const int32_t row = b->kv_rows;
    assert_true(row + length <= MAX_ROWS);
    for (int32_t i = 0; i < length; i++)
        b->kv[b->kv_rows++] = content(stream, position + i);
    return row;
}

/* ---- Running ---- */

static float value(uint32_t what, uint32_t of, int64_t i)
{
    if (of == 0)
        return NAN;
    return 2.0f * rng_uniform(rng_philox(what, RNG_TEST, of, (uint64_t)i).word[0]) - 1.0f;
}

static void *device_alloc(size_t bytes)
{
    void *memory;
    cohort_error err = {0};
    if (backend->ops->alloc(backend, &memory, bytes, "a test", &err) != COHORT_OK)
        fail_msg("%s", err.message);
    return memory;
}

/* Host memory with the rows of a tensor. */
static void *host_rows(uint32_t what, const uint32_t *contents, int32_t rows, int64_t width, enum dtype act,
                       float scale)
{
    const int64_t n = (int64_t)rows * width;
    char *host = malloc((size_t)(n + 1) * dtype_bytes(act));
    assert_non_null(host);
    for (int64_t i = 0; i < n; i++) {
        const float x = value(what, contents[i / width], i % width) * scale;
        const uint16_t half = bf16_from_f32(x);
        memcpy(host + (size_t)i * dtype_bytes(act), act == DTYPE_F32 ? (const void *)&x : &half, dtype_bytes(act));
    }
    return host;
}

static void *device_put(const void *host, size_t bytes)
{
    void *memory = device_alloc(bytes);
    backend->ops->upload(backend, memory, host, bytes);
    return memory;
}

static void *device_rows(uint32_t what, const uint32_t *contents, int32_t rows, int64_t width, enum dtype act,
                         float scale)
{
    void *host = host_rows(what, contents, rows, width, act, scale);
    void *memory = device_put(host, (size_t)(rows * width) * dtype_bytes(act));
    free(host);
    return memory;
}

static int64_t query_width(const struct batch *b) { return b->f.n_heads * b->f.head_dim; }
static int64_t key_width(const struct batch *b) { return b->f.n_kv_heads * b->f.head_dim; }

static void guards_check(const unsigned char *memory, size_t bytes)
{
    for (size_t i = 0; i < GUARD; i++) {
        assert_int_equal(memory[i], PATTERN);
        assert_int_equal(memory[GUARD + bytes + i], PATTERN);
    }
}

/* Runs the layer for what has been prepared; rows of nobody must stay as they were. */
static void batch_run(struct batch *b)
{
    const enum dtype act = b->f.act;
    const size_t out_bytes = (size_t)(b->tokens * query_width(b)) * dtype_bytes(act);
    const size_t lse_bytes = (size_t)(b->tokens * b->f.n_heads) * sizeof(float);
    free(b->out), free(b->lse);
    b->out = malloc(out_bytes + 2 * GUARD);
    b->lse = malloc(lse_bytes + 2 * GUARD);
    assert_true(b->out && b->lse);
    memset(b->out, PATTERN, out_bytes + 2 * GUARD);
    memset(b->lse, PATTERN, lse_bytes + 2 * GUARD);
    void *memory[] = {device_rows(1, b->token, b->tokens, query_width(b), act, 4.0f),
                      device_rows(2, b->kv, b->kv_rows, key_width(b), act, 1.0f),
                      device_rows(3, b->kv, b->kv_rows, key_width(b), act, 1.0f),
                      device_put(b->position, (size_t)b->tokens * sizeof *b->position),
                      device_put(b->out, out_bytes + 2 * GUARD),
                      device_put(b->lse, lse_bytes + 2 * GUARD)};
    b->f.seqs = b->seqs;
    b->f.spans = b->spans;
    b->f.q = memory[0];
    b->f.k = memory[1];
    b->f.v = memory[2];
    b->f.position = memory[3];
    b->f.out = (char *)memory[4] + GUARD;
    b->f.lse = (float *)(void *)((char *)memory[5] + GUARD);
    backend->ops->attention_forward(backend, &b->f);
    backend->ops->download(backend, b->out, memory[4], out_bytes + 2 * GUARD);
    backend->ops->download(backend, b->lse, memory[5], lse_bytes + 2 * GUARD);
    check_backend();
    guards_check(b->out, out_bytes);
    guards_check(b->lse, lse_bytes);
    for (int32_t i = 0; i < b->tokens; i++)
        for (size_t j = 0; b->token[i] == 0 && j < (size_t)query_width(b) * dtype_bytes(act); j++)
            assert_int_equal(b->out[GUARD + (size_t)i * (size_t)query_width(b) * dtype_bytes(act) + j], PATTERN);
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
        backend->ops->free(backend, memory[i]);
}

static void batch_forward(struct batch *b, bool backward)
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
    batch_run(b);
}

/* ---- Layouts ---- */

/* A sequence with key rows of its own, and a row that belongs to nobody behind it. */
static void add_alone(struct batch *b, uint32_t stream, int32_t length, int32_t tree)
{
    struct attention_seq *seq = add_seq(b, stream, 0, length, tree);
    add_span(b, seq, 0, add_rows(b, stream, 0, length), length);
    add_token(b, 0, 0);
    b->kv[b->kv_rows++] = 0;
}

/* A prompt (stream) and completions (stream + 1, ...) that read its key rows: training. */
static void add_tree(struct batch *b, uint32_t stream, int32_t prompt, const int32_t *lengths, int32_t n, int32_t tree)
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

/* Short sequences of streams 1000, ...: enough that there is work for every multiprocessor, so that the rows of long
 * sequences are not divided among blocks. */
static void add_fillers(struct batch *b, int32_t tree)
{
    const int32_t n = small ? 14 : 280;
    for (int32_t s = 0; s < n; s++) {
        struct attention_seq *seq = add_seq(b, 1000 + (uint32_t)s, 0, 1, tree + s);
        add_span(b, seq, 0, add_rows(b, 1000 + (uint32_t)s, 0, 1), 1);
    }
}

/* ---- Comparison ---- */

static double *widen(const void *x, enum dtype act, int64_t n)
{
    double *y = malloc((size_t)(n + 1) * sizeof *y);
    assert_non_null(y);
    for (int64_t i = 0; i < n; i++)
        if (act == DTYPE_F32) {
            float f;
            memcpy(&f, (const char *)x + i * 4, 4);
            y[i] = (double)f;
        } else {
            uint16_t half;
            memcpy(&half, (const char *)x + i * 2, 2);
            y[i] = (double)f32_from_bf16(half);
        }
    return y;
}

static void reference_check(struct batch *b)
{
    const enum dtype act = b->f.act;
    const int64_t nq = b->tokens * query_width(b), nk = b->kv_rows * key_width(b);
    void *rows[3] = {host_rows(1, b->token, b->tokens, query_width(b), act, 4.0f),
                     host_rows(2, b->kv, b->kv_rows, key_width(b), act, 1.0f),
                     host_rows(3, b->kv, b->kv_rows, key_width(b), act, 1.0f)};
    double *q = widen(rows[0], act, nq), *k = widen(rows[1], act, nk), *v = widen(rows[2], act, nk);
    double *want = calloc((size_t)nq, sizeof *want);
    double *lse = calloc((size_t)(b->tokens * b->f.n_heads), sizeof *lse);
    assert_true(want && lse);
    reference_attention_forward(&b->f, q, k, v, want, lse);
    double *have = widen(b->out + GUARD, act, nq);
    double *have_lse = widen(b->lse + GUARD, DTYPE_F32, b->tokens * b->f.n_heads);
    double worst = 0;
    for (int64_t i = 0; i < nq; i++) {
        if (b->token[i / query_width(b)] == 0)
            continue;
        /* fp32: scores up to 4 sqrt(D) with relative errors of a few 1e-7. bf16: the result is rounded by up to 2^-9 of
         * itself; the weights, which sum to 1, by up to 2^-9 of themselves before they meet values of at most 1. */
        const double error = fabs(have[i] - want[i]);
        const double bound = 2e-5 + (act == DTYPE_F32 ? 0.0 : 0x1.01p-9 * (fabs(want[i]) + 1.0));
        if (!(error <= bound))
            fail_msg("H %d K %d D %d token %lld element %lld: %g, reference %g", b->f.n_heads, b->f.n_kv_heads,
                     b->f.head_dim, (long long)(i / query_width(b)), (long long)(i % query_width(b)), have[i], want[i]);
        worst = fmax(worst, error);
        const int64_t at = i / b->f.head_dim;
        if (!(fabs(have_lse[at] - lse[at]) <= 1e-5 * (1 + fabs(lse[at]))))
            fail_msg("lse of token %lld: %g, reference %g", (long long)(at / b->f.n_heads), have_lse[at], lse[at]);
    }
    printf("H %d K %d D %d %s: largest error %.1e\n", b->f.n_heads, b->f.n_kv_heads, b->f.head_dim,
           act == DTYPE_F32 ? "f32" : "bf16", worst);
    free(rows[0]), free(rows[1]), free(rows[2]);
    free(q), free(k), free(v), free(want), free(lse), free(have), free(have_lse);
}

/* Every token of x that y has too has the same bits there; at least `least` of them. */
static void assert_same(const struct batch *x, const struct batch *y, int32_t least, const char *what)
{
    const size_t row_bytes = (size_t)query_width(x) * dtype_bytes(x->f.act);
    const size_t lse_bytes = (size_t)x->f.n_heads * sizeof(float);
    int32_t found = 0;
    for (int32_t i = 0; i < x->tokens; i++) {
        int32_t j = 0;
        while (j < y->tokens && y->token[j] != x->token[i])
            j++;
        if (x->token[i] == 0 || j == y->tokens)
            continue;
        found++;
        if (memcmp(x->out + GUARD + (size_t)i * row_bytes, y->out + GUARD + (size_t)j * row_bytes, row_bytes) != 0 ||
            memcmp(x->lse + GUARD + (size_t)i * lse_bytes, y->lse + GUARD + (size_t)j * lse_bytes, lse_bytes) != 0) {
            differences++;
            if (!expect_difference)
                fail_msg("H %d K %d D %d, %s: stream %u position %u differs", x->f.n_heads, x->f.n_kv_heads,
                         x->f.head_dim, what, x->token[i] >> 16, (x->token[i] & 0xffff) - 1);
        }
    }
    assert_true(found >= least);
}

/* ---- Tests ---- */

struct shape {
    int32_t n_heads, n_kv_heads, head_dim;
    enum dtype act;
};

static void test_reference(void **state)
{
    (void)state;
    static const struct shape shapes[] = {{4, 2, 128, DTYPE_BF16}, {1, 1, 128, DTYPE_BF16}, {7, 1, 64, DTYPE_BF16},
                                          {6, 2, 64, DTYPE_BF16},  {64, 1, 64, DTYPE_BF16}, {65, 1, 64, DTYPE_BF16},
                                          {4, 1, 40, DTYPE_BF16},  {4, 2, 128, DTYPE_F32},  {2, 2, 4, DTYPE_F32},
                                          {3, 1, 7, DTYPE_F32},    {1, 1, 256, DTYPE_F32},  {4, 2, 16, DTYPE_F32}};
    static const int32_t alone[] = {1, 63, 64, 65, 130, 256, 257};
    static const int32_t lengths[] = {5, 40, 90};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i += brief ? 3 : 1) {
        const struct shape *s = &shapes[i];
        struct batch *b = batch_new(s->n_heads, s->n_kv_heads, s->head_dim, s->act);
        const int32_t n = (s->n_heads > 16 && small) || brief ? 5 : 7;
        for (int32_t j = 0; j < n; j++)
            add_alone(b, 1 + (uint32_t)j, alone[j], j);
        if (i % 3 == 0)
            add_tree(b, 10, 220, lengths, 3, n);
        batch_forward(b, i % 3 == 0);
        reference_check(b);
        batch_free(b);
        if (i % 3 == 0) { /* long enough for three splits, few enough to be divided */
            b = batch_new(s->n_heads, s->n_kv_heads, s->head_dim, s->act);
            struct attention_seq *seq = add_seq(b, 1, 530, 3, 0);
            add_span(b, seq, 0, add_rows(b, 1, 0, 533), 533);
            batch_forward(b, false);
            reference_check(b);
            batch_free(b);
        }
    }
}

enum { PROMPT = 300, N_COMPLETIONS = 3 };
static const int32_t completion_length[N_COMPLETIONS] = {5, 40, 230};

/* Pages of a decoding window, taken from the back to the front with a page of nobody between them. The prompt's last
 * partial page goes on in the first own page. */
struct pages {
    int32_t prompt[32], own[N_COMPLETIONS][16], n_own[N_COMPLETIONS];
};

static void fill_page(struct batch *b, int32_t page, uint32_t stream, int32_t begin, int32_t end)
{
    for (int32_t p = begin; p < end; p++)
        b->kv[page * PAGE + p % PAGE] = content(stream, p);
}

static void build_pages(struct batch *b, struct pages *pages, int32_t prompt, const int32_t *behind)
{
    int32_t free_page = MAX_ROWS / 2 / PAGE - 1;
    b->kv_rows = MAX_ROWS / 2;
    for (int32_t c = 0; c * PAGE < prompt; c++, free_page -= 2) {
        pages->prompt[c] = free_page;
        fill_page(b, free_page, 1, c * PAGE, prompt < (c + 1) * PAGE ? prompt : (c + 1) * PAGE);
    }
    for (int32_t s = 0; s < N_COMPLETIONS; s++) {
        pages->n_own[s] = 0;
        for (int32_t c = prompt / PAGE; c * PAGE < behind[s]; c++, free_page -= 2) {
            pages->own[s][pages->n_own[s]++] = free_page;
            fill_page(b, free_page, (uint32_t)s + 2, c * PAGE < prompt ? prompt : c * PAGE,
                      behind[s] < (c + 1) * PAGE ? behind[s] : (c + 1) * PAGE);
        }
    }
}

/* Steps of a decoding window that begins at offset first of each completion (or its end), made of one plan; every
 * step's tokens are compared with tree's. Rows behind the slots are idle: with many of them the window is a wide one,
 * which has a kernel of its own. */
static void decode_check(const struct shape *shape, const struct batch *tree, int32_t prompt, int32_t first,
                         int32_t steps, bool shared, int32_t idle)
{
    struct decode_slot slots[N_COMPLETIONS];
    struct pages pages;
    for (int32_t step = 0; step<steps; step += steps> 2 ? steps - 1 : 1) {
        struct batch *b = batch_new(shape->n_heads, shape->n_kv_heads, shape->head_dim, shape->act);
        int32_t behind[N_COMPLETIONS];
        for (int32_t s = 0; s < N_COMPLETIONS; s++) {
            const int32_t last = completion_length[s] - steps;
            const int32_t at = prompt + (first < last ? first : last);
            slots[s] = (struct decode_slot){.position = at,
                                            .n_left = steps,
                                            .tree = shared ? 0 : s,
                                            .n_prompt = prompt,
                                            .prompt_page = pages.prompt,
                                            .own_page = pages.own[s]};
            behind[s] = at + step + 1;
            add_token(b, content((uint32_t)s + 2, at + step), at + step);
        }
        for (int32_t i = 0; i < idle; i++)
            add_token(b, 0, 0);
        build_pages(b, &pages, prompt, behind);
        for (int32_t s = 0; s < N_COMPLETIONS; s++)
            slots[s].n_own_pages = pages.n_own[s];
        const struct decode_load load = {.slots = slots,
                                         .n_slots = N_COMPLETIONS,
                                         .n_rows = b->tokens,
                                         .steps = steps,
                                         .n_heads = shape->n_heads,
                                         .n_kv_heads = shape->n_kv_heads,
                                         .head_dim = shape->head_dim};
        assert_true(cuda_attention_prepare_decode(backend, &load));
        batch_run(b);
        assert_same(b, tree, N_COMPLETIONS, shared ? "decoding, prompt shared" : "decoding");
        batch_run(b); /* the plan is good for any number of layers */
        assert_same(b, tree, N_COMPLETIONS, "decoding, second layer");
        batch_free(b);
    }
}

static void layouts_check(const struct shape *shape, int32_t prompt)
{
    const int32_t n_heads = shape->n_heads, n_kv_heads = shape->n_kv_heads;
    const int32_t head_dim = shape->head_dim;
    struct batch *tree = batch_new(n_heads, n_kv_heads, head_dim, shape->act);
    add_tree(tree, 1, prompt, completion_length, N_COMPLETIONS, 0);
    batch_forward(tree, true);

    struct batch *b = batch_new(n_heads, n_kv_heads, head_dim, shape->act);
    add_fillers(b, 0);
    add_tree(b, 1, prompt, completion_length, N_COMPLETIONS, 1000);
    batch_forward(b, false);
    assert_same(b, tree, prompt, "among others");
    batch_free(b);

    for (int32_t s = 0; s < N_COMPLETIONS; s++) { /* nothing shared, every row in one span */
        const int32_t length = prompt + completion_length[s];
        b = batch_new(n_heads, n_kv_heads, head_dim, shape->act);
        struct attention_seq *seq = add_seq(b, 1, 0, length, 0);
        const int32_t row = add_rows(b, 1, 0, prompt);
        add_rows(b, (uint32_t)s + 2, prompt, length - prompt);
        for (int32_t i = prompt; i < length; i++)
            b->token[i] = content((uint32_t)s + 2, i);
        add_span(b, seq, 0, row, length);
        batch_forward(b, s == 1);
        assert_same(b, tree, length, "prompt not shared");
        batch_free(b);
    }
    for (int32_t i = 0; i < prompt; i += 77) { /* the prompt in pieces */
        const int32_t n = prompt - i < 77 ? prompt - i : 77;
        const int32_t cut = (i + n) / 2; /* a span boundary anywhere */
        b = batch_new(n_heads, n_kv_heads, head_dim, shape->act);
        struct attention_seq *seq = add_seq(b, 1, i, n, 0);
        const int32_t high = add_rows(b, 1, cut, i + n - cut), low = add_rows(b, 1, 0, cut);
        add_span(b, seq, 0, low, cut);
        add_span(b, seq, cut, high, i + n - cut);
        batch_forward(b, false);
        assert_same(b, tree, n, "prefill in pieces");
        batch_free(b);
    }
    /* One query of each, as steps that the host drives: divided among blocks, or not. */
    for (int among = 0; among < 2; among++)
        for (int32_t i = 0; i < 230; i += i < 5 ? 4 : 75) {
            b = batch_new(n_heads, n_kv_heads, head_dim, shape->act);
            for (int32_t s = 0; s < N_COMPLETIONS; s++) {
                const int32_t last = completion_length[s] - 1, at = prompt + (i < last ? i : last);
                struct attention_seq *seq = add_seq(b, (uint32_t)s + 2, at, 1, s);
                const int32_t row = add_rows(b, 1, 0, prompt);
                add_span(b, seq, 0, row, prompt);
                b->kv[b->kv_rows++] = 0;
                add_span(b, seq, prompt, add_rows(b, (uint32_t)s + 2, prompt, at + 1 - prompt), at + 1 - prompt);
            }
            if (among)
                add_fillers(b, 3);
            batch_forward(b, false);
            assert_same(b, tree, N_COMPLETIONS, among ? "one query among others" : "one query");
            batch_free(b);
        }
    for (int shared = 0; shared < 2; shared++) {
        decode_check(shape, tree, prompt, 0, 4, shared, 3);
        decode_check(shape, tree, prompt, 200, 2, shared, 3);
        decode_check(shape, tree, prompt, 200, 2, shared, WIDE);
        decode_check(shape, tree, prompt, 1000, 1, shared, shared ? 3 : WIDE);
    }
    batch_free(tree);
}

static void test_layouts(void **state)
{
    (void)state;
    static const struct shape shapes[] = {
        {4, 2, 128, DTYPE_BF16}, {4, 1, 64, DTYPE_BF16}, {8, 1, 128, DTYPE_BF16}, /* three slots: 24 rows */
        {2, 2, 128, DTYPE_BF16}, {3, 1, 40, DTYPE_BF16}, {4, 2, 16, DTYPE_F32}};
    for (size_t i = 0; i < (brief ? 2 : sizeof shapes / sizeof *shapes); i++) {
#ifdef COHORT_CUDA_EMULATED
        cuda_emulation_set_order((enum cuda_emulation_order)(i % 3), i);
#endif
        layouts_check(&shapes[i], PROMPT);
        if (i == 0 && !brief) {
            layouts_check(&shapes[i], 512); /* whole splits, whole pages */
            layouts_check(&shapes[i], 100);
            if (!small)
                layouts_check(&shapes[i], 1300);
        }
    }
#ifdef COHORT_CUDA_EMULATED
    cuda_emulation_set_order(CUDA_EMULATION_ASCENDING, 0);
    /* A device with less shared memory: fewer chunks on the way. */
    backend_destroy(backend);
    cuda_emulation_set_device(0, 0, 80);
    assert_int_equal(setup(NULL), 0);
    layouts_check(&shapes[0], PROMPT);
    backend_destroy(backend);
    cuda_emulation_set_device(0, 0, 90);
    assert_int_equal(setup(NULL), 0);
#endif
}

/* Nothing to do is no error. */
static void test_empty(void **state)
{
    (void)state;
    struct batch *b = batch_new(4, 2, 128, DTYPE_BF16);
    batch_forward(b, false);
    batch_forward(b, true);
    const struct decode_load load = {.n_heads = 4, .n_kv_heads = 2, .head_dim = 128};
    assert_true(cuda_attention_prepare_decode(backend, &load));
    batch_run(b);
    batch_free(b);
}

/* ---- Speed ---- */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds of one layer: the median of 5 times `times`. */
static double layer_seconds(const struct attention_forward *f, int times)
{
    double seconds[5];
    for (int i = 0; i < 6; i++) {
        backend->ops->wait(backend);
        const double start = now();
        for (int j = 0; j < times; j++)
            backend->ops->attention_forward(backend, f);
        backend->ops->wait(backend);
        if (i > 0)
            seconds[i - 1] = (now() - start) / times;
    }
    for (int i = 0; i < 5; i++)
        for (int j = i + 1; j < 5; j++)
            if (seconds[j] < seconds[i]) {
                const double x = seconds[i];
                seconds[i] = seconds[j];
                seconds[j] = x;
            }
    check_backend();
    return seconds[2];
}

/* Random bf16 in backend memory. */
static void *device_random(int64_t count)
{
    uint16_t *host = malloc((size_t)count * sizeof *host);
    assert_non_null(host);
    uint32_t x = 1;
    for (int64_t i = 0; i < count; i++) {
        x = x * 1664525u + 1013904223u;
        host[i] = bf16_from_f32((float)(int32_t)x * 0x1p-31f);
    }
    void *memory = device_put(host, (size_t)count * sizeof *host);
    free(host);
    return memory;
}

static void bench_tokens(int32_t n_heads, int32_t n_kv_heads, int32_t length, int32_t n_seqs)
{
    const int32_t tokens = length * n_seqs;
    struct attention_seq *seqs = calloc((size_t)n_seqs, sizeof *seqs);
    struct attention_span *spans = calloc((size_t)n_seqs, sizeof *spans);
    int32_t *position = calloc((size_t)tokens, sizeof *position);
    assert_true(seqs && spans && position);
    for (int32_t s = 0; s < n_seqs; s++) {
        seqs[s] = (struct attention_seq){s * length, length, 0, s, 1, s};
        spans[s] = (struct attention_span){0, s * length, length};
        for (int32_t i = 0; i < length; i++)
            position[s * length + i] = i;
    }
    const struct attention_batch batch = {tokens, n_seqs, n_seqs, n_seqs, seqs, spans, n_heads, n_kv_heads, 128, true};
    void *memory[] = {
        device_random((int64_t)tokens * n_heads * 128),       device_random((int64_t)tokens * n_kv_heads * 128),
        device_random((int64_t)tokens * n_kv_heads * 128),    device_put(position, (size_t)tokens * sizeof *position),
        device_alloc((size_t)tokens * (size_t)n_heads * 256), device_alloc((size_t)tokens * (size_t)n_heads * 4)};
    const struct attention_forward f = {n_heads,   n_kv_heads, 128,       0.088f,    DTYPE_BF16,
                                        n_seqs,    n_seqs,     seqs,      spans,     memory[3],
                                        memory[0], memory[1],  memory[2], memory[4], memory[5]};
    backend->ops->attention_prepare(backend, &batch);
    const double t = layer_seconds(&f, 20);
    const double pairs = 0.5 * length * (length + 1.0) * n_seqs * n_heads;
    printf("attention H %d K %d, %d x %d tokens: %8.1f us, %6.1f TFLOP/s\n", n_heads, n_kv_heads, n_seqs, length,
           t * 1e6, pairs * 4 * 128 / t * 1e-12);
    for (size_t i = 0; i < 6; i++)
        backend->ops->free(backend, memory[i]);
    free(seqs), free(spans), free(position);
}

/* group slots share a prompt of n_prompt tokens; each is `own` tokens behind it. */
static void bench_decode(int32_t n_heads, int32_t n_kv_heads, int32_t n_slots, int32_t n_prompt, int32_t own,
                         int32_t group, bool shared)
{
    const int32_t prompt_pages = (n_prompt + PAGE - 1) / PAGE;
    const int32_t own_pages = (n_prompt + own + 2) / PAGE - n_prompt / PAGE + 1;
    const int32_t n_pages = n_slots / group * prompt_pages + n_slots * own_pages;
    int32_t *page = calloc((size_t)n_pages, sizeof *page);
    struct decode_slot *slots = calloc((size_t)n_slots, sizeof *slots);
    int32_t *position = calloc((size_t)n_slots, sizeof *position);
    assert_true(page && slots && position);
    for (int32_t i = 0; i < n_pages; i++)
        page[i] = i;
    for (int32_t i = 0; i < n_slots; i++) {
        position[i] = n_prompt + own;
        slots[i] = (struct decode_slot){.position = position[i],
                                        .n_left = 2,
                                        .tree = shared ? i / group : i,
                                        .n_prompt = n_prompt,
                                        .prompt_page = page + i / group * prompt_pages,
                                        .own_page = page + n_slots / group * prompt_pages + i * own_pages,
                                        .n_own_pages = own_pages};
    }
    const int64_t kv = (int64_t)n_pages * PAGE * n_kv_heads * 128;
    void *memory[] = {device_random((int64_t)n_slots * n_heads * 128), device_random(kv), device_random(kv),
                      device_put(position, (size_t)n_slots * sizeof *position),
                      device_alloc((size_t)n_slots * (size_t)n_heads * 256)};
    const struct attention_forward f = {.n_heads = n_heads,
                                        .n_kv_heads = n_kv_heads,
                                        .head_dim = 128,
                                        .scale = 0.088f,
                                        .act = DTYPE_BF16,
                                        .position = memory[3],
                                        .q = memory[0],
                                        .k = memory[1],
                                        .v = memory[2],
                                        .out = memory[4]};
    const struct decode_load load = {.slots = slots,
                                     .n_slots = n_slots,
                                     .n_rows = n_slots,
                                     .steps = 1,
                                     .n_heads = n_heads,
                                     .n_kv_heads = n_kv_heads,
                                     .head_dim = 128};
    assert_true(cuda_attention_prepare_decode(backend, &load));
    const double t = layer_seconds(&f, 50);
    /* Keys and values as if nothing were shared. */
    const double bytes = 512.0 * n_kv_heads * n_slots * (n_prompt + own + 1);
    printf("decode H %d K %d, %3d slots, prompt %4d + %3d, groups of %2d %s: %7.1f us, %6.0f GB/s\n", n_heads,
           n_kv_heads, n_slots, n_prompt, own, group, shared ? "shared  " : "unshared", t * 1e6, bytes / t * 1e-9);
    for (size_t i = 0; i < 5; i++)
        backend->ops->free(backend, memory[i]);
    free(page), free(slots), free(position);
}

static int bench(void)
{
    if (setup(NULL) != 0)
        return 1;
    static const int32_t heads[][2] = {{16, 8}, {32, 8}};
    if (small) {
        bench_tokens(4, 2, 130, 2);
        bench_decode(4, 2, 4, 300, 20, 2, true);
    }
    for (int i = 0; i < 2 && !small; i++) {
        const int32_t h = heads[i][0], k = heads[i][1];
        bench_tokens(h, k, 640, 32);
        bench_tokens(h, k, 1024, 16);
        bench_tokens(h, k, 4096, 4);
        bench_tokens(h, k, 16384, 1);
        bench_decode(h, k, 1, 128, 128, 1, false);
        bench_decode(h, k, 1, 1024, 128, 1, false);
        bench_decode(h, k, 64, 128, 256, 1, false);
        bench_decode(h, k, 256, 128, 0, 1, false);
        bench_decode(h, k, 256, 128, 128, 1, false);
        bench_decode(h, k, 256, 128, 500, 1, false);
        bench_decode(h, k, 256, 1024, 476, 1, false);
        bench_decode(h, k, 256, 1024, 256, 16, false);
        bench_decode(h, k, 256, 1024, 256, 16, true);
    }
    return teardown(NULL);
}

int main(int argc, char **argv)
{
    bool speed = false;
    for (int i = 1; i < argc; i++) {
        speed = speed || strcmp(argv[i], "--bench") == 0;
        brief = brief || strcmp(argv[i], "--brief") == 0;
        small = small || brief || strcmp(argv[i], "--small") == 0;
        expect_difference = expect_difference || strcmp(argv[i], "--expect-difference") == 0;
    }
    if (speed)
        return bench();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_reference),
        cmocka_unit_test(test_layouts),
    };
    const int failed = cmocka_run_group_tests(tests, setup, teardown);
    if (expect_difference) {
        printf("%d comparisons differ\n", differences);
        return failed == 0 && differences > 0 ? 0 : 1;
    }
    return failed;
}

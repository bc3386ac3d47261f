/* Attention's forward against a double reference, and the bits of I2, on every backend: a token gives the same output
 * however its batch, its pages and its prompt are arranged. (Windows of decoding, which only a GPU has:
 * tests/cuda/test_cuda_attention.c.) --expect-difference is for a negative control, whose kernels walk the chunks of
 * small batches in another order. With --bench: speed, the backward's too. */
#include "kernels/attention_batch.h"

/* ---- Reference ---- */

struct wanted {
    double *out, *lse;
};

static struct wanted reference_of(struct batch *b)
{
    const int64_t nq = b->tokens * query_width(b), nk = b->kv_rows * key_width(b);
    batch_fill(b);
    double *q = widen(b->q, b->f.act, nq), *k = widen(b->k, b->f.act, nk), *v = widen(b->v, b->f.act, nk);
    struct wanted wanted = {calloc((size_t)nq, sizeof(double)),
                            calloc((size_t)b->tokens * (size_t)b->f.n_heads, sizeof(double))};
    assert_true(wanted.out && wanted.lse);
    reference_attention_forward(&b->f, q, k, v, wanted.out, wanted.lse);
    free(q), free(k), free(v);
    return wanted;
}

static void reference_check(const struct batch *b, const struct wanted *wanted)
{
    for (int64_t i = 0; i < b->tokens * query_width(b); i++) {
        if (b->token[i / query_width(b)] == 0)
            continue;
        /* fp32: scores up to 4 sqrt(D) with relative errors of a few 1e-7. bf16: the result is rounded by up to 2^-8 of
         * itself; on a GPU by up to 2^-9, and so are the weights, which sum to 1, before they meet values of at most 1.
         * (Rounded weights of a CPU are divided by their own sum, which cancels part of that.) */
        const double want = wanted->out[i], have = at(b->out, b->f.act, i);
        const double narrow = test_options.cuda ? 0x1.01p-9 * (fabs(want) + 1.0)
                                                : 0x1p-8 * fabs(want) + (packed_weights(b) ? 0x1.01p-9 : 0.0);
        if (!(fabs(have - want) <= 2e-5 + (b->f.act == DTYPE_F32 ? 0.0 : narrow)))
            fail_msg("%s H %d K %d D %d token %lld element %lld: %g, reference %g", provider, b->f.n_heads,
                     b->f.n_kv_heads, b->f.head_dim, (long long)(i / query_width(b)), (long long)(i % query_width(b)),
                     have, want);
        const int64_t head = i / b->f.head_dim;
        const double lse = wanted->lse[head];
        if (!(fabs((double)b->lse[head] - lse) <= 1e-5 * (1 + fabs(lse))))
            fail_msg("%s: lse of token %lld: %g, reference %g", provider, (long long)(head / b->f.n_heads),
                     (double)b->lse[head], lse);
    }
}

/* On every backend; backward: as of a batch that a backward follows. */
static void check_and_free(struct batch *b, bool backward)
{
    const struct wanted wanted = reference_of(b);
    EACH_PRODUCT
    {
        use_threads(test_options.small ? 1 : 2); /* other orders of the emulation take long */
        batch_forward(b, backward);
        reference_check(b, &wanted);
    }
    free(wanted.out), free(wanted.lse);
    batch_free(b);
}

static void test_reference(void **state)
{
    (void)state;
    static const struct {
        struct shape shape;
        enum dtype small; /* the one that a small run has: on a GPU all sizes take the same kernel in fp32 */
    } cases[] = {{{4, 2, 128, 0}, DTYPE_BF16},  {{1, 1, 128, 0}, DTYPE_BF16},   {{7, 1, 64, 0}, DTYPE_BF16},
                 {{6, 2, 64, 0}, DTYPE_BF16},   {{64, 1, 64, 0}, DTYPE_BF16},   {{65, 1, 64, 0}, DTYPE_BF16},
                 {{4, 1, 40, 0}, DTYPE_BF16},   {{4, 2, 128, 0}, DTYPE_F32},    {{2, 2, 4, 0}, DTYPE_F32},
                 {{3, 1, 7, 0}, DTYPE_F32},     {{1, 1, 256, 0}, DTYPE_F32},    {{4, 2, 16, 0}, DTYPE_F32},
                 {{4, 2, 8, 0}, DTYPE_BF16},    {{1, 1, 16, 0}, DTYPE_F32},     {{65, 1, 4, 0}, DTYPE_BF16},
                 {{4, 2, 64, 1}, DTYPE_BF16},   {{2, 2, 128, 63}, DTYPE_BF16},  {{4, 2, 64, 64}, DTYPE_BF16},
                 {{6, 2, 16, 65}, DTYPE_F32},   {{4, 1, 128, 200}, DTYPE_BF16}, {{2, 1, 8, 20}, DTYPE_F32},
                 {{4, 2, 128, 300}, DTYPE_BF16}};
    static const int32_t ragged[] = {1, 63, 64, 65, 130, 256, 257}, lengths[] = {5, 40, 90, 0};
    for (int i = 0; i < (int)(sizeof cases / sizeof *cases); i += test_options.brief ? 3 : 1)
        for (int act = 0; act < 2; act++) {
            const struct shape *s = &cases[i].shape;
            const enum dtype type = act ? DTYPE_BF16 : DTYPE_F32;
            if (i == 7 && !test_options.small)
                continue; /* both have been */
            if (test_options.small && (type != cases[i].small || (i >= 12 && s->window == 0)))
                continue;
            const bool few = !test_options.cuda || test_options.brief || (s->n_heads > 16 && test_options.small);
            const int n = few ? 5 : 7;
            struct batch *b = batch_new(s, type);
            add_ragged(b, ragged, n);
            if (i % 3 == 0)
                add_tree(b, 10, 220, lengths, 3, n);
            check_and_free(b, i % 3 == 0);
            if (i % 3 != 0)
                continue;
            /* Few rows of a long context: three splits, which a GPU divides among blocks. */
            b = batch_new(s, type);
            add_span(b, add_seq(b, 1, 530, 3, 0), 0, add_rows(b, 1, 0, 533), 533);
            check_and_free(b, false);
        }
}

/* ---- Layouts ---- */

enum { N_COMPLETIONS = 3 };
static const int32_t completion_length[N_COMPLETIONS] = {5, 40, 230};

/* Pages of 64 rows taken from the back to the front with a page of nobody between them. Full pages of the prompt are
 * shared, its last partial page is copied. The query of each completion is at its position at[]. */
static void add_paged(struct batch *b, int32_t prompt, const int32_t *at, int32_t n)
{
    const int32_t n_shared = prompt / PAGE;
    int32_t shared[MAX_ROWS / PAGE], n_pages = n_shared;
    for (int32_t s = 0; s < n; s++)
        n_pages += at[s] / PAGE + 1 - n_shared;
    int32_t free_page = 2 * n_pages - 1;
    b->kv_rows = 2 * n_pages * PAGE;
    assert_true(b->kv_rows < MAX_ROWS);
    for (int32_t c = 0; c < n_shared; c++, free_page -= 2) {
        shared[c] = free_page * PAGE;
        for (int32_t j = 0; j < PAGE; j++)
            b->kv[shared[c] + j] = content(1, c * PAGE + j);
    }
    for (int32_t s = 0; s < n; s++) {
        struct attention_seq *seq = add_seq(b, (uint32_t)s + 2, at[s], 1, s);
        const int32_t length = at[s] + 1;
        for (int32_t c = 0; c * PAGE < length; c++) {
            const int32_t count = length - c * PAGE < PAGE ? length - c * PAGE : PAGE;
            const int32_t row = c < n_shared ? shared[c] : free_page * PAGE;
            if (c >= n_shared) {
                free_page -= 2;
                for (int32_t j = 0; j < count; j++)
                    b->kv[row + j] = content(c * PAGE + j < prompt ? 1u : (uint32_t)s + 2, c * PAGE + j);
            }
            add_span(b, seq, c * PAGE, row, count);
        }
    }
}

/* The prompt in pieces of so many, each with a span's border somewhere. */
static void check_pieces(const struct batch *tree, const struct shape *shape, int32_t prompt, int32_t most)
{
    for (int32_t i = 0; i < prompt; i += most) {
        const int32_t n = prompt - i < most ? prompt - i : most, cut = (i + n) / 2;
        struct batch *b = batch_new(shape, tree->f.act);
        struct attention_seq *seq = add_seq(b, 1, i, n, 0);
        const int32_t high = add_rows(b, 1, cut, i + n - cut), low = add_rows(b, 1, 0, cut);
        add_span(b, seq, 0, low, cut);
        add_span(b, seq, cut, high, i + n - cut);
        batch_forward(b, false);
        assert_same(b, tree, n, "prefill in pieces");
        batch_free(b);
    }
}

/* Decoding, a step of all completions together, as the host drives it: on a GPU divided among blocks, or not. */
static void check_steps(const struct batch *tree, const struct shape *shape, int32_t prompt)
{
    for (int among = 0; among < (test_options.cuda ? 2 : 1); among++)
        for (int32_t i = 0; i < 230; i += test_options.cuda ? i < 5 ? 4 : 75 : i < 5 || i > 25 ? 13 : 1) {
            int32_t at[N_COMPLETIONS];
            for (int32_t c = 0; c < N_COMPLETIONS; c++)
                at[c] = prompt + (i < completion_length[c] ? i : completion_length[c] - 1);
            struct batch *b = batch_new(shape, tree->f.act);
            add_paged(b, prompt, at, N_COMPLETIONS);
            if (among)
                add_fillers(b, N_COMPLETIONS);
            batch_forward(b, false);
            assert_same(b, tree, N_COMPLETIONS, among ? "decoding over pages among others" : "decoding over pages");
            batch_free(b);
        }
}

static void check_layouts(const struct shape *shape, enum dtype act, int32_t prompt)
{
    struct batch *tree = batch_new(shape, act), *b;
    add_tree(tree, 1, prompt, completion_length, N_COMPLETIONS, 0);
    use_threads(1);
    batch_forward(tree, true);

    b = batch_new(shape, act);
    add_fillers(b, 0);
    add_tree(b, 1, prompt, completion_length, N_COMPLETIONS, 1000);
    use_threads(2);
    batch_forward(b, false);
    assert_same(b, tree, prompt, "among others");
    batch_free(b);

    for (int32_t i = 0; i < N_COMPLETIONS; i++) { /* alone: nothing shared, every row in one span */
        const int32_t length = prompt + completion_length[i];
        b = batch_new(shape, act);
        struct attention_seq *seq = add_seq(b, 1, 0, length, 0);
        for (int32_t t = prompt; t < length; t++)
            b->token[t] = content((uint32_t)i + 2, t);
        const int32_t row = add_rows(b, 1, 0, prompt);
        add_rows(b, (uint32_t)i + 2, prompt, length - prompt);
        add_span(b, seq, 0, row, length);
        use_threads(1);
        batch_forward(b, i == 1);
        assert_same(b, tree, length, "prompt not shared");
        batch_free(b);
    }
    check_pieces(tree, shape, prompt, test_options.cuda ? 77 : 33);
    use_threads(2);
    check_steps(tree, shape, prompt);
    batch_free(tree);
}

static void test_layouts(void **state)
{
    (void)state;
    static const struct shape some[] = {{4, 2, 16, 0},  {3, 3, 40, 0},  {4, 1, 64, 0},  {8, 2, 7, 0},
                                        {1, 1, 128, 0}, {4, 2, 16, 20}, {3, 1, 40, 64}, {4, 2, 16, 129}};
    /* A GPU has matrix instructions for 64 and 128; the third has 24 rows in three slots. A small run has one type of
     * each. */
    static const struct {
        struct shape shape;
        enum dtype small;
    } gpu[] = {{{4, 2, 128, 0}, DTYPE_BF16},  {{4, 1, 64, 0}, DTYPE_BF16},   {{8, 1, 128, 0}, DTYPE_BF16},
               {{2, 2, 128, 0}, DTYPE_BF16},  {{3, 1, 40, 0}, DTYPE_BF16},   {{4, 2, 16, 0}, DTYPE_F32},
               {{4, 2, 128, 20}, DTYPE_BF16}, {{4, 1, 64, 300}, DTYPE_BF16}, {{4, 2, 16, 130}, DTYPE_F32}};
    const int n_some = test_options.small ? 0 : (int)(sizeof some / sizeof *some);
    const int n_gpu = !test_options.cuda ? 0 : test_options.brief ? 2 : (int)(sizeof gpu / sizeof *gpu);
    EACH_PRODUCT
    {
        for (int i = 0; i < 2 * n_some; i++)
            check_layouts(&some[i / 2], i % 2 ? DTYPE_BF16 : DTYPE_F32, 100);
        for (int i = 0; i < 2 * n_gpu; i++)
            if (!test_options.small || gpu[i / 2].small == (i % 2 ? DTYPE_BF16 : DTYPE_F32))
                check_layouts(&gpu[i / 2].shape, i % 2 ? DTYPE_BF16 : DTYPE_F32, 300);
        if (test_options.cuda && !test_options.brief) {
            check_layouts(&gpu[0].shape, DTYPE_BF16, 512); /* whole splits, whole pages */
            check_layouts(&gpu[0].shape, DTYPE_BF16, 100);
            if (!test_options.small)
                check_layouts(&gpu[0].shape, DTYPE_BF16, 1300);
        }
#if defined(COHORT_CUDA_EMULATED)
        if (test_options.cuda && getenv("CUDA_EMULATION_CAPABILITY") == NULL) {
            use_capability(80); /* less shared memory: fewer chunks on the way */
            check_layouts(&gpu[0].shape, DTYPE_BF16, 300);
            use_capability(90);
        }
#endif
    }
}

/* Keys and values in 8 bits give the bits that the values which they stand for give in act. */
static void check_kv8(struct batch *b)
{
    batch_fill(b);
    b->k8 = narrow_rows(b->k, b);
    b->v8 = narrow_rows(b->v, b);
    struct batch *wide = calloc(1, sizeof *wide);
    assert_non_null(wide);
    batch_forward(b, false);
    *wide = *b;
    b->out = b->lse = NULL;
    b->f.kv8 = true;
    batch_forward(b, false);
    assert_same(b, wide, b->tokens / 2, "8 bits");
    free(wide->out), free(wide->lse), free(wide);
    batch_free(b);
}

static void test_kv8(void **state)
{
    (void)state;
    static const struct shape shapes[] = {{4, 2, 128, 0}, {4, 1, 64, 0},  {3, 1, 40, 0},
                                          {8, 2, 7, 0},   {2, 2, 16, 20}, {4, 2, 64, 130}};
    static const int32_t ragged[] = {1, 63, 64, 65, 130}, at[] = {301, 310, 420};
    EACH_PRODUCT
    for (int i = 0; i < (int)(sizeof shapes / sizeof *shapes); i++)
        for (int act = 0; act < 2; act++) {
            struct batch *b = batch_new(&shapes[i], act ? DTYPE_BF16 : DTYPE_F32);
            add_ragged(b, ragged, 5);
            check_kv8(b);
            b = batch_new(&shapes[i], act ? DTYPE_BF16 : DTYPE_F32);
            add_paged(b, 300, at, 3);
            check_kv8(b);
        }
}

/* ---- What only a small batch shows ---- */

/* A NaN in k or v of one token reaches the queries that see it, and nothing else. (On a GPU 0 * NaN may reach queries of
 * its own sequence and chunk that do not: of the values as kernel_attention_forward.cu says, of keys in the
 * backward.) */
static void test_nan_stays(void **state)
{
    (void)state;
    static const int32_t ragged[] = {7, 65, 30};
    EACH_PRODUCT
    for (int which = 0; which < (test_options.cuda ? 4 : 8); which++) {
        const enum dtype act = which & 1 ? DTYPE_F32 : DTYPE_BF16;
        const bool values = (which & 2) != 0;
        const int32_t key = which & 4 ? 41 : 40; /* the second of two that a step takes, or the first */
        const struct shape shape =
            test_options.cuda && !(which & 1) ? (struct shape){2, 2, 64, 0} : (struct shape){4, 2, 16, 0};
        const int32_t d = shape.head_dim, kw = 2 * d, qw = shape.n_heads * d;
        struct batch *clean = batch_new(&shape, act), *broken = batch_new(&shape, act);
        add_ragged(clean, ragged, 3);
        add_ragged(broken, ragged, 3);
        /* Sequence 1 has 65 keys; that key, kv head 1. */
        const int32_t row = broken->spans[1].row, token = broken->seqs[1].query_row;
        batch_fill(broken);
        put(values ? broken->v : broken->k, act, (int64_t)(row + key) * kw + d + 3, NAN);
        batch_backward(clean);
        batch_backward(broken);
        for (int32_t t = 0; t < clean->tokens; t++)
            for (int32_t i = 0; i < qw && clean->token[t]; i++) {
                const int64_t e = (int64_t)t * qw + i;
                const double x = at(clean->out, act, e), y = at(broken->out, act, e);
                const bool hit = i >= qw / 2 && (!values || i % d == 3);
                if (hit && t >= token + key && t < token + 65)
                    assert_true(isnan(y));
                else if (!(hit && test_options.cuda && values && t >= token && t < token + key))
                    assert_memory_equal(&x, &y, sizeof x);
            }
        for (int64_t e = 0; e < (int64_t)clean->kv_rows * kw; e++)
            if (e / kw < row || e / kw > row + 64) {
                assert_true(f32_bits(clean->dk[e]) == f32_bits(broken->dk[e]));
                assert_true(f32_bits(clean->dv[e]) == f32_bits(broken->dv[e]));
            }
        const int32_t first = test_options.cuda ? token : token + key;
        for (int64_t e = 0; e < (int64_t)clean->tokens * qw; e++)
            if (e / qw < first || e / qw > token + 64)
                assert_true(f32_bits(clean->dq[e]) == f32_bits(broken->dq[e]));
        batch_free(clean), batch_free(broken);
    }
}

/* Nothing to do is no error. */
static void test_nothing(void **state)
{
    (void)state;
    EACH_PRODUCT
    {
        struct batch *b = batch_new(&(struct shape){4, 2, 128, 0}, DTYPE_BF16);
        batch_forward(b, false);
        batch_backward(b);
        batch_free(b);
    }
}

/* ---- Speed ---- */

struct bench {
    int32_t n_heads, n_kv_heads, prompt, completion, n_completions, n_trees;
};

/* A training batch of heads of 128, forward and backward. */
static void bench_trees(const struct bench *c, enum dtype act)
{
    const int32_t n_seqs = c->n_trees * (1 + c->n_completions);
    const int64_t tokens = (int64_t)c->n_trees * (c->prompt + c->completion * c->n_completions);
    const int64_t nq = tokens * c->n_heads * 128, nk = tokens * c->n_kv_heads * 128;
    struct attention_seq *seqs = calloc((size_t)n_seqs, sizeof *seqs);
    struct attention_span *spans = calloc(2 * (size_t)n_seqs, sizeof *spans);
    int32_t *position = calloc((size_t)tokens, sizeof *position), row = 0, n_spans = 0;
    double pairs = 0;
    assert_true(seqs && spans && position);
    for (int32_t s = 0; s < n_seqs; s++) {
        const int32_t tree = s / (1 + c->n_completions), i = s % (1 + c->n_completions);
        const int32_t n = i == 0 ? c->prompt : c->completion, first = i == 0 ? 0 : c->prompt;
        seqs[s] = (struct attention_seq){row, n, first, n_spans, i == 0 ? 1 : 2, tree};
        if (i > 0)
            spans[n_spans++] = (struct attention_span){0, seqs[tree * (1 + c->n_completions)].query_row, first};
        spans[n_spans++] = (struct attention_span){first, row, n};
        for (int32_t j = 0; j < n; j++)
            position[row++] = first + j;
        pairs += (double)c->n_heads * n * (first + 0.5 * (n + 1));
    }
    const struct attention_batch batch = {(int32_t)tokens, n_seqs,     n_spans,       c->n_trees, seqs,
                                          spans,           c->n_heads, c->n_kv_heads, 128,        true};
    const struct attention_forward f = {.n_heads = c->n_heads,
                                        .n_kv_heads = c->n_kv_heads,
                                        .head_dim = 128,
                                        .scale = 0.088f,
                                        .act = act,
                                        .n_seqs = n_seqs,
                                        .n_spans = n_spans,
                                        .seqs = seqs,
                                        .spans = spans,
                                        .position = ids_of(position, tokens)->d,
                                        .q = array_new(nq, act, 1, 1.0)->d,
                                        .k = array_new(nk, act, 2, 1.0)->d,
                                        .v = array_new(nk, act, 3, 1.0)->d,
                                        .out = array_new(nq, act, 0, 0.0)->d,
                                        .lse = array_new(tokens * c->n_heads, DTYPE_F32, 0, 0.0)->d};
    const struct attention_backward p = {.forward = f,
                                         .d_out = array_new(nq, act, 4, 1.0)->d,
                                         .dq = array_new(nq, DTYPE_F32, 0, 0.0)->d,
                                         .dk = array_new(nk, DTYPE_F32, 5, 1.0)->d,
                                         .dv = array_new(nk, DTYPE_F32, 6, 1.0)->d};
    backend->ops->attention_prepare(backend, &batch);
    const double forward = layer_seconds(&f, NULL, test_options.cuda ? 20 : 1);
    const double backward = layer_seconds(&f, &p, test_options.cuda ? 4 : 1);
    const int products = test_options.cuda ? 7 : 5; /* a GPU computes scores and their derivatives twice */
    printf("%-8s %s H %d K %d D 128, %d x (%d + %d x %d): forward %.0f us, %.1f GFLOP/s; backward %.0f us, %.1f "
           "GFLOP/s (%d products)\n",
           provider, act == DTYPE_F32 ? "f32 " : "bf16", c->n_heads, c->n_kv_heads, c->n_trees, c->prompt,
           c->n_completions, c->completion, forward * 1e6, pairs * 2 * 256 / forward * 1e-9, backward * 1e6,
           pairs * products * 256 / backward * 1e-9, products);
    fflush(stdout);
    arrays_free();
    free(seqs), free(spans), free(position);
}

/* A step of 14 completions of a prompt of 256, by the host. */
static void bench_step(enum dtype act)
{
    int32_t at[14];
    struct batch *b = batch_new(&(struct shape){4, 2, 128, 0}, act);
    for (int i = 0; i < 14; i++)
        at[i] = 256;
    add_paged(b, 256, at, 14);
    batch_fill(b);
    b->f.q = array_of(b->q, b->tokens * query_width(b), act)->d;
    b->f.k = array_of(b->k, b->kv_rows * key_width(b), act)->d;
    b->f.v = array_of(b->v, b->kv_rows * key_width(b), act)->d;
    b->f.position = ids_of(b->position, b->tokens)->d;
    b->f.out = array_new(b->tokens * query_width(b), act, 0, 0.0)->d;
    batch_prepare(b, false);
    printf("%-8s %s decode 14 of a 256-token prompt: %.0f us\n", provider, act == DTYPE_F32 ? "f32 " : "bf16",
           layer_seconds(&b->f, NULL, 4) * 1e6);
    arrays_free();
    batch_free(b);
}

static void bench(void **state)
{
    (void)state;
    static const struct bench on_cpu[] = {{4, 2, 512, 0, 0, 1}};
    static const struct bench on_gpu[] = {{16, 8, 640, 0, 0, 32},    {16, 8, 1024, 0, 0, 16}, {16, 8, 4096, 0, 0, 4},
                                          {16, 8, 16384, 0, 0, 1},   {32, 8, 640, 0, 0, 32},  {32, 8, 1024, 0, 0, 16},
                                          {32, 8, 4096, 0, 0, 4},    {32, 8, 16384, 0, 0, 1}, {16, 8, 128, 512, 8, 8},
                                          {16, 8, 1024, 512, 16, 2}, {32, 8, 128, 512, 8, 4}, {32, 8, 32768, 0, 0, 1}};
    const bool large = test_options.cuda && !test_options.small;
    EACH_PRODUCT
    for (int act = large ? 1 : 0; act < 2; act++) {
        const enum dtype type = act ? DTYPE_BF16 : DTYPE_F32;
        for (size_t i = 0; i < (large ? sizeof on_gpu / sizeof *on_gpu : 1); i++)
            bench_trees(large ? &on_gpu[i] : &on_cpu[i], type);
        bench_step(type);
    }
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layouts),   cmocka_unit_test(test_reference), cmocka_unit_test(test_kv8),
        cmocka_unit_test(test_nan_stays), cmocka_unit_test(test_nothing),
    };
    const struct CMUnitTest control[] = {cmocka_unit_test(test_layouts)}, times[] = {cmocka_unit_test(bench)};
    if (test_options.bench)
        return cmocka_run_group_tests(times, NULL, NULL);
    if (test_options.expect_difference)
        return batch_status(cmocka_run_group_tests(control, NULL, NULL));
    return cmocka_run_group_tests(tests, NULL, NULL);
}

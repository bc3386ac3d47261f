/* Every backward operation of the backend table against central differences of its own forward, in fp32, on every
 * instruction set, or with --device cuda on the GPU: embedding, matrix products (input and weight), RMS norm (with a row
 * list), q/k norm and rotation, attention over a tree, SwiGLU, magnitudes, head. tests/kernels compares the same kernels with double
 * references, element by element and in bf16; here no reference is involved.
 *
 * The scalar is the sum of outputs times fixed random weights; those weights are the gradient that goes into the
 * backward. */
#include "kernels/kernel_test.h"
#include "support/differences.h"
#include "support/tally.h"

enum { DIRECTIONS = 3, MOST_OPERANDS = 4 };

struct operand {
    const char *name;
    const struct array *value, *other; /* other: of an input its gradient, of an output the weights of the sum */
};

struct operation {
    const char *name;
    struct operand in[MOST_OPERANDS], out[MOST_OPERANDS];
    void (*forward)(struct operation *);
    void (*backward)(struct operation *); /* adds to or writes in[].other, which starts at 0 */
    bool slow;                            /* a small run takes one direction alone */
    double linear;                        /* step for an operation that is linear in each input: no curvature, so a long
                                             one */
    struct weight *weight;
    const int32_t *ids, *rows; /* lists that it reads, in backend memory as more */
    float *more;               /* tables, or an output without a weight */
};

static const struct array *numbers(int64_t n, uint64_t stream, double scale, double shift)
{
    const struct array *a = array_new(n, DTYPE_F32, 0, 0.0);
    for (int64_t i = 0; i < n; i++)
        set(a, i, (float)(shift + scale * test_number(stream, i)));
    push(a);
    return a;
}

static void input(struct operation *op, int slot, const char *name, int64_t n, double scale, double shift)
{
    op->in[slot] = (struct operand){name, numbers(n, 10 + (uint64_t)slot, scale, shift), numbers(n, 0, 0, 0)};
}

static void output(struct operation *op, int slot, const char *name, int64_t n)
{
    op->out[slot] = (struct operand){name, numbers(n, 0, 0, 0), numbers(n, 20 + (uint64_t)slot, 1, 0)};
}

static float *in(const struct operation *op, int slot) { return op->in[slot].value->d; }
static float *out(const struct operation *op, int slot) { return op->out[slot].value->d; }
static float *gradient(const struct operation *op, int slot) { return op->in[slot].other->d; }
static float *given(const struct operation *op, int slot) { return op->out[slot].other->d; }

static double weighted_sum(void *context)
{
    struct operation *op = context;
    double sum = 0;
    for (int i = 0; i < MOST_OPERANDS; i++)
        if (op->in[i].value != NULL)
            push(op->in[i].value);
    op->forward(op);
    for (int i = 0; i < MOST_OPERANDS; i++) {
        const struct operand *o = &op->out[i];
        if (o->value != NULL)
            pull(o->value);
        for (int64_t k = 0; o->value != NULL && k < o->value->count; k++)
            sum += get(o->value, k) * get(o->other, k);
    }
    return sum;
}

static void check_and_free(struct operation *op, struct tally *tally)
{
    const uint64_t directions = test_options.small ? 1 : DIRECTIONS,
                   last = test_options.small && op->slow ? 0 : directions;
    char setting[64];
    snprintf(setting, sizeof setting, "%s %s", op->name, provider);
    op->forward(op);
    op->backward(op);
    for (int i = 0; i < MOST_OPERANDS; i++)
        if (op->in[i].value != NULL)
            pull(op->in[i].other);
    for (int i = 0; i < MOST_OPERANDS && op->in[i].value != NULL; i++) {
        const struct operand *o = &op->in[i];
        const int64_t n = o->value->count;
        float *direction = malloc((size_t)n * sizeof *direction), *origin = malloc((size_t)n * sizeof *origin);
        assert_true(direction && origin);
        for (uint64_t d = 0; d <= last; d++) {
            direction_make(direction, o->other->x, n, 100 + d);
            if (d == directions) /* along the input: norms have gradients across it, random directions hardly see what
                                    goes wrong along it */
                memcpy(direction, o->value->x, (size_t)n * sizeof *direction);
            tally_add(tally,
                      directional_error(weighted_sum, op, o->value->x, origin, o->other->x, direction, n,
                                        op->linear > 0 ? op->linear : 0x1p-7),
                      setting, o->name);
        }
        free(direction), free(origin);
    }
    arrays_free();
}

/* ---- Embedding ---- */

enum { VOCAB = 37, WIDTH = 40, TOKENS = 11 };
static const int32_t ids[TOKENS] = {3, 0, 36, 3, 3, 17, 8, 0, 35, 20, 3};

static void embed_forward_run(struct operation *op)
{
    backend->ops->embed_forward(backend, &(struct embed_forward){.tokens = TOKENS,
                                                                 .width = WIDTH,
                                                                 .token = op->ids,
                                                                 .table = in(op, 0),
                                                                 .type = DTYPE_F32,
                                                                 .y = out(op, 0)});
}

static void embed_backward_run(struct operation *op)
{
    backend->ops->embed_backward(backend, &(struct embed_backward){.tokens = TOKENS,
                                                                   .width = WIDTH,
                                                                   .vocab = VOCAB,
                                                                   .token = op->ids,
                                                                   .dy = given(op, 0),
                                                                   .d_table = gradient(op, 0)});
}

static void check_embed(struct tally *tally)
{
    struct operation op = {.name = "embed",
                           .forward = embed_forward_run,
                           .backward = embed_backward_run,
                           .linear = 0.5,
                           .ids = ids_of(ids, TOKENS)->d};
    input(&op, 0, "table", VOCAB * WIDTH, 1, 0);
    output(&op, 0, "y", TOKENS * WIDTH);
    check_and_free(&op, tally);
}

/* ---- Matrix product: x [M, K], w [N, K], y [M, N] with rows STRIDE apart ---- */

enum { M = 19, N = 45, K = 70, STRIDE = 50 };

static void matmul_forward_run(struct operation *op)
{
    backend->ops->weight_refresh(backend, op->weight);
    backend->ops->matmul_forward(
        backend,
        &(struct matmul_forward){
            .w = op->weight, .m = M, .x = in(op, 0), .y = out(op, 0), .y_stride = STRIDE, .y_type = DTYPE_F32});
}

static void matmul_backward_run(struct operation *op)
{
    backend->ops->matmul_backward_input(backend, &(struct matmul_backward_input){.w = op->weight,
                                                                                 .m = M,
                                                                                 .dy = given(op, 0),
                                                                                 .dy_stride = STRIDE,
                                                                                 .dx = gradient(op, 0),
                                                                                 .dx_type = DTYPE_F32});
    backend->ops->matmul_backward_weight(backend, &(struct matmul_backward_weight){.m = M,
                                                                                   .n = N,
                                                                                   .k = K,
                                                                                   .dy = given(op, 0),
                                                                                   .dy_stride = STRIDE,
                                                                                   .x = in(op, 0),
                                                                                   .type = DTYPE_F32,
                                                                                   .dw = gradient(op, 1)});
}

static void check_matmul(struct tally *tally)
{
    struct operation op = {
        .name = "matmul", .forward = matmul_forward_run, .backward = matmul_backward_run, .linear = 0.5};
    cohort_error err = {0};
    input(&op, 0, "x", M * K, 1, 0);
    input(&op, 1, "w", N * K, 1, 0);
    output(&op, 0, "y", M * STRIDE); /* between the rows the product writes nothing: 0 throughout */
    const struct weight_source source = {.format = STORAGE_F32, .data = in(&op, 1), .n = N, .k = K};
    if (backend->ops->weight_create(backend, &op.weight, &source, &err) != COHORT_OK)
        fail_msg("%s", err.message);
    check_and_free(&op, tally);
    backend->ops->weight_destroy(backend, op.weight);
}

/* ---- RMS norm: rows of a list, each at most once ---- */

enum { ROWS = 5, ALL_ROWS = 9 };
static const int32_t row_list[ROWS] = {7, 0, 3, 8, 2};

static void rmsnorm_forward_run(struct operation *op)
{
    backend->ops->rmsnorm_forward(backend, &(struct rmsnorm_forward){.rows = ROWS,
                                                                     .width = WIDTH,
                                                                     .row = op->rows,
                                                                     .x = in(op, 0),
                                                                     .gain = in(op, 1),
                                                                     .gain_type = DTYPE_F32,
                                                                     .eps = 1e-2f,
                                                                     .y = out(op, 0),
                                                                     .y_type = DTYPE_F32});
}

static void rmsnorm_backward_run(struct operation *op)
{
    backend->ops->rmsnorm_backward(backend, &(struct rmsnorm_backward){.rows = ROWS,
                                                                       .width = WIDTH,
                                                                       .row = op->rows,
                                                                       .x = in(op, 0),
                                                                       .gain = in(op, 1),
                                                                       .gain_type = DTYPE_F32,
                                                                       .eps = 1e-2f,
                                                                       .dy = given(op, 0),
                                                                       .dx = gradient(op, 0),
                                                                       .d_gain = gradient(op, 1)});
}

static void check_rmsnorm(struct tally *tally)
{
    struct operation op = {.name = "rmsnorm",
                           .forward = rmsnorm_forward_run,
                           .backward = rmsnorm_backward_run,
                           .rows = ids_of(row_list, ROWS)->d};
    input(&op, 0, "x", ALL_ROWS * WIDTH, 1, 0);
    input(&op, 1, "gain", WIDTH, 0.5, 1);
    output(&op, 0, "y", ROWS * WIDTH);
    check_and_free(&op, tally);
}

/* ---- q, k, v: norm per head and rotation ---- */

enum { HEADS = 4, KV_HEADS = 2, HEAD_DIM = 12, POSITIONS = 90 };
enum { Q_WIDTH = HEADS * HEAD_DIM, KV_WIDTH = KV_HEADS * HEAD_DIM };
static const int32_t positions[TOKENS] = {0, 1, 2, 3, 4, 5, 70, 71, 88, 5, 6};
static const int32_t kv_rows[TOKENS] = {4, 3, 2, 1, 0, 10, 9, 8, 7, 6, 5};

static struct qkv_forward qkv_of(struct operation *op)
{
    return (struct qkv_forward){.tokens = TOKENS,
                                .n_heads = HEADS,
                                .n_kv_heads = KV_HEADS,
                                .head_dim = HEAD_DIM,
                                .qkv = in(op, 0),
                                .position = op->ids,
                                .kv_row = op->rows,
                                .cos_table = op->more,
                                .sin_table = op->more + POSITIONS * (HEAD_DIM / 2),
                                .q_gain = in(op, 1),
                                .k_gain = in(op, 2),
                                .gain_type = DTYPE_F32,
                                .eps = 1e-3f,
                                .act = DTYPE_F32,
                                .q = out(op, 0),
                                .k = out(op, 1),
                                .v = out(op, 2)};
}

static void qkv_forward_run(struct operation *op)
{
    struct qkv_forward p = qkv_of(op);
    backend->ops->qkv_forward(backend, &p);
}

static void qkv_backward_run(struct operation *op)
{
    backend->ops->qkv_backward(backend, &(struct qkv_backward){.forward = qkv_of(op),
                                                               .dq = given(op, 0),
                                                               .dk = given(op, 1),
                                                               .dv = given(op, 2),
                                                               .d_qkv = gradient(op, 0),
                                                               .d_q_gain = gradient(op, 1),
                                                               .d_k_gain = gradient(op, 2)});
}

static void check_qkv(struct tally *tally)
{
    static float tables[2 * POSITIONS * (HEAD_DIM / 2)];
    for (int p = 0; p < POSITIONS; p++)
        for (int i = 0; i < HEAD_DIM / 2; i++) {
            double angle = p * pow(1e4, -2.0 * i / HEAD_DIM);
            tables[p * (HEAD_DIM / 2) + i] = (float)cos(angle);
            tables[(POSITIONS + p) * (HEAD_DIM / 2) + i] = (float)sin(angle);
        }
    struct operation op = {.name = "qkv",
                           .forward = qkv_forward_run,
                           .backward = qkv_backward_run,
                           .more = array_of(tables, 2 * POSITIONS * (HEAD_DIM / 2), DTYPE_F32)->d,
                           .ids = ids_of(positions, TOKENS)->d,
                           .rows = ids_of(kv_rows, TOKENS)->d};
    input(&op, 0, "qkv", TOKENS * (Q_WIDTH + 2 * KV_WIDTH), 1, 0);
    input(&op, 1, "q gain", HEAD_DIM, 0.5, 1);
    input(&op, 2, "k gain", HEAD_DIM, 0.5, 1);
    output(&op, 0, "q", TOKENS * Q_WIDTH);
    output(&op, 1, "k", TOKENS * KV_WIDTH);
    output(&op, 2, "v", TOKENS * KV_WIDTH);
    check_and_free(&op, tally);
}

/* ---- Attention: a prompt of 66 with completions of 3 and 70, and a lone sequence of 5; so keys lie in two and three
 * chunks, and two spans. The log-sum-exp is no output of the decoder: no weight. ---- */

enum { ATTENTION_ROWS = 66 + 3 + 70 + 5 };
static const struct attention_span spans[] = {{0, 0, 66}, {0, 0, 66},   {66, 66, 3},
                                              {0, 0, 66}, {66, 69, 70}, {0, 139, 5}};
static const struct attention_seq seqs[] = {
    {0, 66, 0, 0, 1, 0}, {66, 3, 66, 1, 2, 0}, {69, 70, 66, 3, 2, 0}, {139, 5, 0, 5, 1, 1}};

static struct attention_forward attention_of(struct operation *op)
{
    return (struct attention_forward){.n_heads = HEADS,
                                      .n_kv_heads = KV_HEADS,
                                      .head_dim = HEAD_DIM,
                                      .scale = 0.6f,
                                      .act = DTYPE_F32,
                                      .n_seqs = 4,
                                      .n_spans = 6,
                                      .seqs = seqs,
                                      .spans = spans,
                                      .position = op->ids,
                                      .q = in(op, 0),
                                      .k = in(op, 1),
                                      .v = in(op, 2),
                                      .out = out(op, 0),
                                      .lse = op->more};
}

static void attention_forward_run(struct operation *op)
{
    struct attention_forward p = attention_of(op);
    backend->ops->attention_forward(backend, &p);
}

static void attention_backward_run(struct operation *op)
{
    backend->ops->attention_backward(backend, &(struct attention_backward){.forward = attention_of(op),
                                                                           .d_out = given(op, 0),
                                                                           .dq = gradient(op, 0),
                                                                           .dk = gradient(op, 1),
                                                                           .dv = gradient(op, 2)});
}

static void check_attention(struct tally *tally)
{
    static const struct attention_batch batch = {ATTENTION_ROWS, 4, 6, 2, seqs, spans, HEADS, KV_HEADS, HEAD_DIM, true};
    int32_t position[ATTENTION_ROWS];
    for (int s = 0; s < 4; s++)
        for (int32_t i = 0; i < seqs[s].n_queries; i++)
            position[seqs[s].query_row + i] = seqs[s].first_position + i;
    struct operation op = {.name = "attention",
                           .forward = attention_forward_run,
                           .backward = attention_backward_run,
                           .slow = true,
                           .ids = ids_of(position, ATTENTION_ROWS)->d,
                           .more = array_new(ATTENTION_ROWS * HEADS, DTYPE_F32, 0, 0.0)->d};
    input(&op, 0, "q", ATTENTION_ROWS * Q_WIDTH, 1, 0);
    input(&op, 1, "k", ATTENTION_ROWS * KV_WIDTH, 1, 0);
    input(&op, 2, "v", ATTENTION_ROWS * KV_WIDTH, 1, 0);
    output(&op, 0, "out", ATTENTION_ROWS * Q_WIDTH);
    backend->ops->attention_prepare(backend, &batch);
    check_and_free(&op, tally);
}

/* ---- SwiGLU ---- */

static void swiglu_forward_run(struct operation *op)
{
    backend->ops->swiglu_forward(
        backend, &(struct swiglu_forward){
                     .tokens = TOKENS, .width = WIDTH, .gate_up = in(op, 0), .y = out(op, 0), .act = DTYPE_F32});
}

static void swiglu_backward_run(struct operation *op)
{
    backend->ops->swiglu_backward(backend, &(struct swiglu_backward){.tokens = TOKENS,
                                                                     .width = WIDTH,
                                                                     .gate_up = in(op, 0),
                                                                     .dy = given(op, 0),
                                                                     .d_gate_up = gradient(op, 0),
                                                                     .act = DTYPE_F32});
}

static void check_swiglu(struct tally *tally)
{
    struct operation op = {.name = "swiglu", .forward = swiglu_forward_run, .backward = swiglu_backward_run};
    input(&op, 0, "gate and up", TOKENS * 2 * WIDTH, 3, 0);
    output(&op, 0, "y", TOKENS * WIDTH);
    check_and_free(&op, tally);
}

/* ---- Head: log-prob and entropy of rows of logits ---- */

static void head_forward_run(struct operation *op)
{
    backend->ops->head_stats(backend, &(struct head_stats){.rows = TOKENS,
                                                           .vocab = VOCAB,
                                                           .logits = in(op, 0),
                                                           .temperature = 0.7f,
                                                           .target = op->ids,
                                                           .logp = out(op, 0),
                                                           .lse = op->more,
                                                           .entropy = out(op, 1),
                                                           .mean = out(op, 2)});
}

static void head_backward_run(struct operation *op)
{
    backend->ops->head_gradient(backend, &(struct head_gradient){.rows = TOKENS,
                                                                 .vocab = VOCAB,
                                                                 .logits = in(op, 0),
                                                                 .temperature = 0.7f,
                                                                 .target = op->ids,
                                                                 .lse = op->more,
                                                                 .entropy = out(op, 1),
                                                                 .d_logp = given(op, 0),
                                                                 .d_entropy = given(op, 1),
                                                                 .d_mean = given(op, 2),
                                                                 .d_logits = gradient(op, 0),
                                                                 .act = DTYPE_F32});
}

static void check_head(struct tally *tally)
{
    struct operation op = {.name = "head",
                           .forward = head_forward_run,
                           .backward = head_backward_run,
                           .ids = ids_of(ids, TOKENS)->d,
                           .more = array_new(TOKENS, DTYPE_F32, 0, 0.0)->d};
    input(&op, 0, "logits", TOKENS * VOCAB, 3, 0);
    output(&op, 0, "logp", TOKENS);
    output(&op, 1, "entropy", TOKENS);
    output(&op, 2, "mean", TOKENS);
    check_and_free(&op, tally);
}

/* The same over the tokens that each row may take. */

static struct head_allowed some;

static void masked_forward_run(struct operation *op)
{
    backend->ops->head_stats(backend, &(struct head_stats){.rows = TOKENS,
                                                           .vocab = VOCAB,
                                                           .logits = in(op, 0),
                                                           .temperature = 0.7f,
                                                           .target = op->ids,
                                                           .logp = out(op, 0),
                                                           .lse = op->more,
                                                           .entropy = out(op, 1),
                                                           .allowed = some});
}

static void masked_backward_run(struct operation *op)
{
    backend->ops->head_gradient(backend, &(struct head_gradient){.rows = TOKENS,
                                                                 .vocab = VOCAB,
                                                                 .logits = in(op, 0),
                                                                 .temperature = 0.7f,
                                                                 .target = op->ids,
                                                                 .lse = op->more,
                                                                 .entropy = out(op, 1),
                                                                 .d_logp = given(op, 0),
                                                                 .d_entropy = given(op, 1),
                                                                 .d_logits = gradient(op, 0),
                                                                 .act = DTYPE_F32,
                                                                 .allowed = some});
}

static void check_masked_head(struct tally *tally)
{
    enum { WORDS = (VOCAB + 31) / 32 };
    uint32_t bits[TOKENS * WORDS];
    int32_t which[TOKENS];
    for (int32_t t = 0; t < TOKENS; t++) {
        which[t] = t == 1 ? -1 : t; /* one row may take them all */
        for (int w = 0; w < WORDS; w++)
            bits[t * WORDS + w] = 0x5A5A5A5Au >> t;
        bits[t * WORDS + ids[t] / 32] |= 1u << (ids[t] % 32);
    }
    some = (struct head_allowed){(const uint32_t *)ids_of((const int32_t *)bits, TOKENS * WORDS)->d,
                                 ids_of(which, TOKENS)->d};
    struct operation op = {.name = "head over allowed tokens",
                           .forward = masked_forward_run,
                           .backward = masked_backward_run,
                           .ids = ids_of(ids, TOKENS)->d,
                           .more = array_new(TOKENS, DTYPE_F32, 0, 0.0)->d};
    input(&op, 0, "logits", TOKENS * VOCAB, 3, 0);
    output(&op, 0, "logp", TOKENS);
    output(&op, 1, "entropy", TOKENS);
    check_and_free(&op, tally);
}

/* ---- Magnitudes of columns, whose norms are constants ---- */

static const struct array *factors, *norms;

static void magnitude_forward_run(struct operation *op)
{
    for (int64_t i = 0; i < WIDTH; i++)
        set(factors, i, (float)(get(op->in[1].value, i) / get(norms, i)));
    push(factors);
    backend->ops->magnitude_forward(backend, &(struct magnitude_forward){.rows = TOKENS,
                                                                         .width = WIDTH,
                                                                         .z = in(op, 0),
                                                                         .factor = factors->d,
                                                                         .y = out(op, 0),
                                                                         .y_type = DTYPE_F32});
}

static void magnitude_backward_run(struct operation *op)
{
    backend->ops->magnitude_backward(backend,
                                     &(struct magnitude_backward){.rows = TOKENS,
                                                                  .width = WIDTH,
                                                                  .dy = given(op, 0),
                                                                  .z = in(op, 0),
                                                                  .factor = factors->d,
                                                                  .type = DTYPE_F32,
                                                                  .dz = gradient(op, 0),
                                                                  .n_parts = 1,
                                                                  .part = {{0, WIDTH, norms->d, gradient(op, 1)}}});
}

static void check_magnitude(struct tally *tally)
{
    struct operation op = {
        .name = "magnitude", .forward = magnitude_forward_run, .backward = magnitude_backward_run, .linear = 0.5};
    factors = numbers(WIDTH, 0, 0, 0);
    norms = numbers(WIDTH, 30, 0.4, 1.5);
    input(&op, 0, "z", TOKENS * WIDTH, 3, 0);
    input(&op, 1, "magnitude", WIDTH, 2, 0);
    output(&op, 0, "y", TOKENS * WIDTH);
    check_and_free(&op, tally);
}

static void test_operations(void **state)
{
    (void)state;
    struct tally tally = {.what = "directional derivatives", .tolerance = 3e-5};
    EACH_BACKEND
    {
        use_threads(2);
        check_embed(&tally);
        check_matmul(&tally);
        check_rmsnorm(&tally);
        check_qkv(&tally);
        check_attention(&tally);
        check_swiglu(&tally);
        check_magnitude(&tally);
        check_head(&tally);
        check_masked_head(&tally);
    }
    tally_report(&tally);
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_operations)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Every backward operation of the backend table against central differences of its own forward, in
 * fp32, on every instruction set: embedding, matrix products (input and weight), RMS norm (with a
 * row list), q/k norm and rotation, attention over a tree, SwiGLU, head. tests/kernels compares the
 * same kernels with double references, element by element and in bf16; here no reference is
 * involved.
 *
 * The scalar is the sum of outputs times fixed random weights; those weights are the gradient that
 * goes into the backward. */
#include "backend/ops.h"
#include "support/differences.h"
#include "support/model_test.h"

#include <stdlib.h>

enum { DIRECTIONS = 3, MAX_ARRAYS = 4 };

struct array {
    const char *name;
    int64_t n;
    float *data, *other; /* other: of an input its gradient, of an output the weights of the sum */
    float *copy;         /* of an input: scratch */
};

struct operation {
    const char *name;
    struct backend *backend;
    struct array in[MAX_ARRAYS], out[MAX_ARRAYS];
    void (*forward)(struct operation *);
    void (*backward)(struct operation *); /* adds to or writes in[].other, which starts at 0 */
    double linear;                        /* step for an operation that is linear in each input: no curvature, so a long
                                             one */
    void *context;
};

static float *numbers(int64_t n, uint64_t stream, double scale, double shift)
{
    float *x = malloc((size_t)n * sizeof *x);
    assert_non_null(x);
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(shift + scale * test_number(stream, i));
    return x;
}

static void input(struct operation *op, int slot, const char *name, int64_t n, double scale, double shift)
{
    op->in[slot] = (struct array){.name = name,
                                  .n = n,
                                  .data = numbers(n, 10 + (uint64_t)slot, scale, shift),
                                  .other = numbers(n, 0, 0, 0),
                                  .copy = numbers(2 * n, 0, 0, 0)};
}

static void output(struct operation *op, int slot, const char *name, int64_t n)
{
    op->out[slot] = (struct array){
        .name = name, .n = n, .data = numbers(n, 0, 0, 0), .other = numbers(n, 20 + (uint64_t)slot, 1, 0)};
}

static double weighted_sum(void *context)
{
    struct operation *op = context;
    double sum = 0;
    op->forward(op);
    for (int i = 0; i < MAX_ARRAYS; i++)
        for (int64_t k = 0; k < op->out[i].n; k++)
            sum += (double)op->out[i].data[k] * (double)op->out[i].other[k];
    return sum;
}

static void check_and_free(struct operation *op, const char *isa, struct tally *tally)
{
    char setting[64];
    snprintf(setting, sizeof setting, "%s %s", op->name, isa);
    op->forward(op);
    op->backward(op);
    for (int i = 0; i < MAX_ARRAYS; i++) {
        struct array *a = &op->in[i];
        for (uint64_t d = 0; a->n > 0 && d <= DIRECTIONS; d++) {
            direction_make(a->copy, a->other, a->n, 100 + d);
            if (d == DIRECTIONS) /* along the input: norms have gradients across it, random
                                    directions hardly see what goes wrong along it */
                memcpy(a->copy, a->data, (size_t)a->n * sizeof *a->copy);
            tally_add(tally,
                      directional_error(weighted_sum, op, a->data, a->copy + a->n, a->other, a->copy, a->n,
                                        op->linear > 0 ? op->linear : 0x1p-7),
                      setting, a->name);
        }
    }
    for (int i = 0; i < MAX_ARRAYS; i++) {
        free(op->in[i].data);
        free(op->in[i].other);
        free(op->in[i].copy);
        free(op->out[i].data);
        free(op->out[i].other);
    }
}

/* ---- Embedding ---- */

enum { VOCAB = 37, WIDTH = 40, TOKENS = 11 };
static const int32_t ids[TOKENS] = {3, 0, 36, 3, 3, 17, 8, 0, 35, 20, 3};

static void embed_forward_run(struct operation *op)
{
    op->backend->ops->embed_forward(op->backend, &(struct embed_forward){.tokens = TOKENS,
                                                                         .width = WIDTH,
                                                                         .token = ids,
                                                                         .table = op->in[0].data,
                                                                         .type = DTYPE_F32,
                                                                         .y = op->out[0].data});
}

static void embed_backward_run(struct operation *op)
{
    op->backend->ops->embed_backward(op->backend, &(struct embed_backward){.tokens = TOKENS,
                                                                           .width = WIDTH,
                                                                           .vocab = VOCAB,
                                                                           .token = ids,
                                                                           .dy = op->out[0].other,
                                                                           .d_table = op->in[0].other});
}

static void check_embed(struct backend *backend, const char *isa, struct tally *tally)
{
    struct operation op = {.name = "embed",
                           .backend = backend,
                           .forward = embed_forward_run,
                           .backward = embed_backward_run,
                           .linear = 0.5};
    input(&op, 0, "table", VOCAB * WIDTH, 1, 0);
    output(&op, 0, "y", TOKENS * WIDTH);
    check_and_free(&op, isa, tally);
}

/* ---- Matrix product: x [M, K], w [N, K], y [M, N] with rows STRIDE apart ---- */

enum { M = 19, N = 45, K = 70, STRIDE = 50 };

static void matmul_forward_run(struct operation *op)
{
    struct weight *w = op->context;
    op->backend->ops->weight_refresh(op->backend, w);
    op->backend->ops->matmul_forward(
        op->backend,
        &(struct matmul_forward){
            .w = w, .m = M, .x = op->in[0].data, .y = op->out[0].data, .y_stride = STRIDE, .y_type = DTYPE_F32});
}

static void matmul_backward_run(struct operation *op)
{
    op->backend->ops->matmul_backward_input(op->backend, &(struct matmul_backward_input){.w = op->context,
                                                                                         .m = M,
                                                                                         .dy = op->out[0].other,
                                                                                         .dy_stride = STRIDE,
                                                                                         .dx = op->in[0].other,
                                                                                         .dx_type = DTYPE_F32});
    op->backend->ops->matmul_backward_weight(op->backend, &(struct matmul_backward_weight){.m = M,
                                                                                           .n = N,
                                                                                           .k = K,
                                                                                           .dy = op->out[0].other,
                                                                                           .dy_stride = STRIDE,
                                                                                           .x = op->in[0].data,
                                                                                           .type = DTYPE_F32,
                                                                                           .dw = op->in[1].other});
}

static void check_matmul(struct backend *backend, const char *isa, struct tally *tally)
{
    struct operation op = {.name = "matmul",
                           .backend = backend,
                           .forward = matmul_forward_run,
                           .backward = matmul_backward_run,
                           .linear = 0.5};
    struct weight *w = NULL;
    cohort_error err = {0};
    input(&op, 0, "x", M * K, 1, 0);
    input(&op, 1, "w", N * K, 1, 0);
    output(&op, 0, "y", M * STRIDE); /* between the rows the product writes nothing: 0 throughout */
    must(backend->ops->weight_create(
             backend, &w, &(struct weight_source){.format = STORAGE_F32, .data = op.in[1].data, .n = N, .k = K}, &err),
         &err);
    op.context = w;
    check_and_free(&op, isa, tally);
    backend->ops->weight_destroy(backend, w);
}

/* ---- RMS norm: rows of a list, each at most once ---- */

enum { ROWS = 5, ALL_ROWS = 9 };
static const int32_t row_list[ROWS] = {7, 0, 3, 8, 2};

static void rmsnorm_forward_run(struct operation *op)
{
    op->backend->ops->rmsnorm_forward(op->backend, &(struct rmsnorm_forward){.rows = ROWS,
                                                                             .width = WIDTH,
                                                                             .row = row_list,
                                                                             .x = op->in[0].data,
                                                                             .gain = op->in[1].data,
                                                                             .gain_type = DTYPE_F32,
                                                                             .eps = 1e-2f,
                                                                             .y = op->out[0].data,
                                                                             .y_type = DTYPE_F32});
}

static void rmsnorm_backward_run(struct operation *op)
{
    op->backend->ops->rmsnorm_backward(op->backend, &(struct rmsnorm_backward){.rows = ROWS,
                                                                               .width = WIDTH,
                                                                               .row = row_list,
                                                                               .x = op->in[0].data,
                                                                               .gain = op->in[1].data,
                                                                               .gain_type = DTYPE_F32,
                                                                               .eps = 1e-2f,
                                                                               .dy = op->out[0].other,
                                                                               .dx = op->in[0].other,
                                                                               .d_gain = op->in[1].other});
}

static void check_rmsnorm(struct backend *backend, const char *isa, struct tally *tally)
{
    struct operation op = {
        .name = "rmsnorm", .backend = backend, .forward = rmsnorm_forward_run, .backward = rmsnorm_backward_run};
    input(&op, 0, "x", ALL_ROWS * WIDTH, 1, 0);
    input(&op, 1, "gain", WIDTH, 0.5, 1);
    output(&op, 0, "y", ROWS * WIDTH);
    check_and_free(&op, isa, tally);
}

/* ---- q, k, v: norm per head and rotation ---- */

enum { HEADS = 4, KV_HEADS = 2, HEAD_DIM = 12, POSITIONS = 90 };
enum { Q_WIDTH = HEADS * HEAD_DIM, KV_WIDTH = KV_HEADS * HEAD_DIM };
static const int32_t positions[TOKENS] = {0, 1, 2, 3, 4, 5, 70, 71, 88, 5, 6};
static const int32_t kv_rows[TOKENS] = {4, 3, 2, 1, 0, 10, 9, 8, 7, 6, 5};

static struct qkv_forward qkv_of(struct operation *op)
{
    float *tables = op->context;
    return (struct qkv_forward){.tokens = TOKENS,
                                .n_heads = HEADS,
                                .n_kv_heads = KV_HEADS,
                                .head_dim = HEAD_DIM,
                                .qkv = op->in[0].data,
                                .position = positions,
                                .kv_row = kv_rows,
                                .cos_table = tables,
                                .sin_table = tables + POSITIONS * (HEAD_DIM / 2),
                                .q_gain = op->in[1].data,
                                .k_gain = op->in[2].data,
                                .gain_type = DTYPE_F32,
                                .eps = 1e-3f,
                                .act = DTYPE_F32,
                                .q = op->out[0].data,
                                .k = op->out[1].data,
                                .v = op->out[2].data};
}

static void qkv_forward_run(struct operation *op)
{
    struct qkv_forward p = qkv_of(op);
    op->backend->ops->qkv_forward(op->backend, &p);
}

static void qkv_backward_run(struct operation *op)
{
    op->backend->ops->qkv_backward(op->backend, &(struct qkv_backward){.forward = qkv_of(op),
                                                                       .dq = op->out[0].other,
                                                                       .dk = op->out[1].other,
                                                                       .dv = op->out[2].other,
                                                                       .d_qkv = op->in[0].other,
                                                                       .d_q_gain = op->in[1].other,
                                                                       .d_k_gain = op->in[2].other});
}

static void check_qkv(struct backend *backend, const char *isa, struct tally *tally)
{
    static float tables[2 * POSITIONS * (HEAD_DIM / 2)];
    for (int p = 0; p < POSITIONS; p++)
        for (int i = 0; i < HEAD_DIM / 2; i++) {
            double angle = p * pow(1e4, -2.0 * i / HEAD_DIM);
            tables[p * (HEAD_DIM / 2) + i] = (float)cos(angle);
            tables[(POSITIONS + p) * (HEAD_DIM / 2) + i] = (float)sin(angle);
        }
    struct operation op = {
        .name = "qkv", .backend = backend, .forward = qkv_forward_run, .backward = qkv_backward_run, .context = tables};
    input(&op, 0, "qkv", TOKENS * (Q_WIDTH + 2 * KV_WIDTH), 1, 0);
    input(&op, 1, "q gain", HEAD_DIM, 0.5, 1);
    input(&op, 2, "k gain", HEAD_DIM, 0.5, 1);
    output(&op, 0, "q", TOKENS * Q_WIDTH);
    output(&op, 1, "k", TOKENS * KV_WIDTH);
    output(&op, 2, "v", TOKENS * KV_WIDTH);
    check_and_free(&op, isa, tally);
}

/* ---- Attention: a prompt of 66 with completions of 3 and 70, and a lone sequence of 5; so keys
 * lie in two and three chunks, and two spans. The log-sum-exp is no output of the decoder: no
 * weight. ---- */

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
                                      .q = op->in[0].data,
                                      .k = op->in[1].data,
                                      .v = op->in[2].data,
                                      .out = op->out[0].data,
                                      .lse = op->context};
}

static void attention_forward_run(struct operation *op)
{
    struct attention_forward p = attention_of(op);
    op->backend->ops->attention_forward(op->backend, &p);
}

static void attention_backward_run(struct operation *op)
{
    op->backend->ops->attention_backward(op->backend, &(struct attention_backward){.forward = attention_of(op),
                                                                                   .d_out = op->out[0].other,
                                                                                   .dq = op->in[0].other,
                                                                                   .dk = op->in[1].other,
                                                                                   .dv = op->in[2].other});
}

static void check_attention(struct backend *backend, const char *isa, struct tally *tally)
{
    static float lse[ATTENTION_ROWS * HEADS];
    struct operation op = {.name = "attention",
                           .backend = backend,
                           .forward = attention_forward_run,
                           .backward = attention_backward_run,
                           .context = lse};
    input(&op, 0, "q", ATTENTION_ROWS * Q_WIDTH, 1, 0);
    input(&op, 1, "k", ATTENTION_ROWS * KV_WIDTH, 1, 0);
    input(&op, 2, "v", ATTENTION_ROWS * KV_WIDTH, 1, 0);
    output(&op, 0, "out", ATTENTION_ROWS * Q_WIDTH);
    check_and_free(&op, isa, tally);
}

/* ---- SwiGLU ---- */

static void swiglu_forward_run(struct operation *op)
{
    op->backend->ops->swiglu_forward(
        op->backend,
        &(struct swiglu_forward){
            .tokens = TOKENS, .width = WIDTH, .gate_up = op->in[0].data, .y = op->out[0].data, .act = DTYPE_F32});
}

static void swiglu_backward_run(struct operation *op)
{
    op->backend->ops->swiglu_backward(op->backend, &(struct swiglu_backward){.tokens = TOKENS,
                                                                             .width = WIDTH,
                                                                             .gate_up = op->in[0].data,
                                                                             .dy = op->out[0].other,
                                                                             .d_gate_up = op->in[0].other,
                                                                             .act = DTYPE_F32});
}

static void check_swiglu(struct backend *backend, const char *isa, struct tally *tally)
{
    struct operation op = {
        .name = "swiglu", .backend = backend, .forward = swiglu_forward_run, .backward = swiglu_backward_run};
    input(&op, 0, "gate and up", TOKENS * 2 * WIDTH, 3, 0);
    output(&op, 0, "y", TOKENS * WIDTH);
    check_and_free(&op, isa, tally);
}

/* ---- Head: log-prob and entropy of rows of logits ---- */

static void head_forward_run(struct operation *op)
{
    op->backend->ops->head_stats(op->backend, &(struct head_stats){.rows = TOKENS,
                                                                   .vocab = VOCAB,
                                                                   .logits = op->in[0].data,
                                                                   .temperature = 0.7f,
                                                                   .target = ids,
                                                                   .logp = op->out[0].data,
                                                                   .lse = op->context,
                                                                   .entropy = op->out[1].data});
}

static void head_backward_run(struct operation *op)
{
    op->backend->ops->head_gradient(op->backend, &(struct head_gradient){.rows = TOKENS,
                                                                         .vocab = VOCAB,
                                                                         .logits = op->in[0].data,
                                                                         .temperature = 0.7f,
                                                                         .target = ids,
                                                                         .lse = op->context,
                                                                         .entropy = op->out[1].data,
                                                                         .d_logp = op->out[0].other,
                                                                         .d_entropy = op->out[1].other,
                                                                         .d_logits = op->in[0].other,
                                                                         .act = DTYPE_F32});
}

static void check_head(struct backend *backend, const char *isa, struct tally *tally)
{
    static float lse[TOKENS];
    struct operation op = {
        .name = "head", .backend = backend, .forward = head_forward_run, .backward = head_backward_run, .context = lse};
    input(&op, 0, "logits", TOKENS * VOCAB, 3, 0);
    output(&op, 0, "logp", TOKENS);
    output(&op, 1, "entropy", TOKENS);
    check_and_free(&op, isa, tally);
}

static void test_operations(void **state)
{
    (void)state;
    struct tally tally = {.what = "directional derivatives", .tolerance = 3e-5};
    for (int isa = 0; isa < N_TEST_ISAS; isa++) {
        struct backend *backend = backend_here(test_isas[isa], 2);
        if (backend == NULL)
            continue;
        check_embed(backend, test_isas[isa], &tally);
        check_matmul(backend, test_isas[isa], &tally);
        check_rmsnorm(backend, test_isas[isa], &tally);
        check_qkv(backend, test_isas[isa], &tally);
        check_attention(backend, test_isas[isa], &tally);
        check_swiglu(backend, test_isas[isa], &tally);
        check_head(backend, test_isas[isa], &tally);
        backend_destroy(backend);
    }
    tally_report(&tally);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_operations)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "model/decoder.h"
#include "backend/ops.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* The sizes a layer works with, from the config. */
struct dims {
    int64_t C, F, QD, KD, QKV;
    int32_t H, K, D;
};

static struct dims dims_of(const struct model_config *c)
{
    struct dims d = {
        .C = c->hidden_size, .F = c->intermediate_size, .H = c->n_heads, .K = c->n_kv_heads, .D = c->head_dim};
    d.QD = (int64_t)d.H * d.D;
    d.KD = (int64_t)d.K * d.D;
    d.QKV = d.QD + 2 * d.KD;
    return d;
}

size_t kv_layer_bytes(const struct model_config *config, enum dtype act, int64_t rows)
{
    return (size_t)rows * (size_t)config->n_kv_heads * (size_t)config->head_dim * dtype_bytes(act);
}

cohort_status decoder_work_plan(struct decoder_work *work, struct arena *arena, const struct model_config *config,
                                enum dtype act, int64_t max_tokens, enum decoder_mode mode, cohort_error *err)
{
    struct dims d = dims_of(config);
    size_t T = (size_t)max_tokens, a = dtype_bytes(act);
    size_t L = (size_t)config->n_layers;
    size_t slots = mode == DECODER_TRAIN ? L : 1;
    size_t C = (size_t)d.C, F = (size_t)d.F, QD = (size_t)d.QD, KD = (size_t)d.KD, QKV = (size_t)d.QKV;
    work->mode = mode;
    work->max_tokens = max_tokens;
    if (work->layers == NULL)
        TRY(mem_alloc(&work->layers, slots, sizeof *work->layers, "layer activations", err));
    work->n_layers = (int32_t)slots;
    work->token = arena_take(arena, T * sizeof(int32_t));
    work->position = arena_take(arena, T * sizeof(int32_t));
    work->kv_row = arena_take(arena, T * sizeof(int32_t));
    work->x = arena_take(arena, (mode == DECODER_INFER ? 1 : L + 1) * T * C * sizeof(float));
    for (size_t l = 0; l < slots; l++) {
        struct layer_acts *acts = &work->layers[l];
        acts->qkv = arena_take(arena, T * QKV * a);
        acts->q = arena_take(arena, T * QD * a);
        acts->attn = arena_take(arena, T * QD * a);
        acts->lse = mode == DECODER_INFER ? NULL : arena_take(arena, T * (size_t)d.H * sizeof(float));
        acts->mid = mode == DECODER_INFER ? NULL : arena_take(arena, T * C * sizeof(float));
        acts->gate_up = arena_take(arena, T * 2 * F * a);
    }
    work->normed = arena_take(arena, T * C * a);
    work->ffn = arena_take(arena, T * F * a);
    if (mode == DECODER_INFER)
        return COHORT_OK;
    work->kv.rows = max_tokens;
    work->kv.layer_bytes = mode == DECODER_TRAIN ? T * KD * a : 0;
    work->kv.k = arena_take(arena, slots * T * KD * a);
    work->kv.v = arena_take(arena, slots * T * KD * a);
    work->d_x = arena_take(arena, T * C * sizeof(float));
    work->d_out = arena_take(arena, T * C * a);
    work->d_normed = arena_take(arena, T * C * sizeof(float));
    work->d_ffn = arena_take(arena, T * F * a);
    work->d_gate_up = arena_take(arena, T * 2 * F * a);
    work->d_attn = arena_take(arena, T * QD * a);
    work->d_q = arena_take(arena, T * QD * sizeof(float));
    work->d_k = arena_take(arena, T * KD * sizeof(float));
    work->d_v = arena_take(arena, T * KD * sizeof(float));
    work->d_qkv = arena_take(arena, T * QKV * a);
    return COHORT_OK;
}

void decoder_work_free(struct decoder_work *work)
{
    mem_free(work->layers);
    memset(work, 0, sizeof *work);
}

/* One layer at work: everything its forward and backward share. */
struct layer_run {
    struct model *model;
    struct decoder_work *work;
    const struct batch *batch;
    const struct layer_weights *w;
    struct layer_acts *acts;
    void *k, *v; /* this layer's key and value rows */
    struct dims d;
    float *x; /* [T, C] the layer's input */
};

static struct layer_run layer_run_of(struct model *model, struct decoder_work *work, const struct batch *batch,
                                     const struct kv_store *kv, int32_t layer)
{
    struct dims d = dims_of(&model->config);
    size_t kv_offset = (size_t)layer * kv->layer_bytes;
    int64_t x_offset = work->mode == DECODER_INFER ? 0 : (int64_t)layer * work->max_tokens * d.C;
    return (struct layer_run){.model = model,
                              .work = work,
                              .batch = batch,
                              .w = &model->layers[layer],
                              .acts = &work->layers[work->n_layers == 1 ? 0 : layer],
                              .k = (char *)kv->k + kv_offset,
                              .v = (char *)kv->v + kv_offset,
                              .d = d,
                              .x = work->x + x_offset};
}

/* work->normed = norm(x). */
static struct rmsnorm_forward norm_params(const struct layer_run *r, const struct param *gain, const float *x)
{
    return (struct rmsnorm_forward){.rows = r->batch->n_tokens,
                                    .width = r->d.C,
                                    .x = x,
                                    .gain = model_tensor(r->model, gain),
                                    .gain_type = r->model->type,
                                    .eps = r->model->config.rms_norm_eps,
                                    .y = r->work->normed,
                                    .y_type = r->model->type};
}

static void norm(const struct layer_run *r, const struct param *gain, const float *x)
{
    struct backend *be = r->model->backend;
    const struct rmsnorm_forward params = norm_params(r, gain, x);
    be->ops->rmsnorm_forward(be, &params);
}

/* dx += gradient through the norm, from work->d_normed. */
static void norm_backward(const struct layer_run *r, const struct param *gain, const float *x)
{
    struct backend *be = r->model->backend;
    be->ops->rmsnorm_backward(be, &(struct rmsnorm_backward){.rows = r->batch->n_tokens,
                                                             .width = r->d.C,
                                                             .x = x,
                                                             .gain = model_tensor(r->model, gain),
                                                             .gain_type = r->model->type,
                                                             .eps = r->model->config.rms_norm_eps,
                                                             .dy = r->work->d_normed,
                                                             .dx = r->work->d_x,
                                                             .d_gain = model_grad(r->model, gain)});
}

/* y = x . w^T in the activation type. */
static struct matmul_forward project_params(const struct layer_run *r, const struct weight *w, int64_t n, const void *x,
                                            void *y)
{
    return (struct matmul_forward){
        .w = w, .m = r->batch->n_tokens, .x = x, .y = y, .y_stride = n, .y_type = r->model->type};
}

/* y = norm(x) . w^T. */
static void project_normed(const struct layer_run *r, const struct param *gain, const float *x, const struct weight *w,
                           int64_t n, void *y)
{
    struct backend *be = r->model->backend;
    const struct rmsnorm_forward normed = norm_params(r, gain, x);
    struct matmul_forward product = project_params(r, w, n, normed.y, y);
    product.norm = &normed;
    be->ops->matmul_forward(be, &product);
}

/* Residual y = before + x . w^T. */
static void project_residual(const struct layer_run *r, const struct weight *w, const void *x, const float *before,
                             float *y)
{
    struct backend *be = r->model->backend;
    struct matmul_forward product = project_params(r, w, r->d.C, x, y);
    product.y_type = DTYPE_F32;
    product.accumulate = true;
    product.before = before;
    be->ops->matmul_forward(be, &product);
}

/* dx = dy . w, and dw += dy^T . x. */
static void project_backward(const struct layer_run *r, const struct weight *w, const struct param *param, int64_t n,
                             int64_t k, const void *dy, const void *x, void *dx, enum dtype dx_type)
{
    struct backend *be = r->model->backend;
    int64_t m = r->batch->n_tokens;
    be->ops->matmul_backward_input(
        be, &(struct matmul_backward_input){.w = w, .m = m, .dy = dy, .dy_stride = n, .dx = dx, .dx_type = dx_type});
    be->ops->matmul_backward_weight(be, &(struct matmul_backward_weight){.m = m,
                                                                         .n = n,
                                                                         .k = k,
                                                                         .dy = dy,
                                                                         .dy_stride = n,
                                                                         .x = x,
                                                                         .type = r->model->type,
                                                                         .dw = model_grad(r->model, param)});
}

static void convert_residual(const struct layer_run *r)
{
    struct backend *be = r->model->backend;
    be->ops->convert(be, &(struct convert){.count = r->batch->n_tokens * r->d.C,
                                           .x = r->work->d_x,
                                           .x_type = DTYPE_F32,
                                           .y = r->work->d_out,
                                           .y_type = r->model->type});
}

static struct qkv_forward qkv_params(const struct layer_run *r)
{
    const struct model *model = r->model;
    return (struct qkv_forward){.tokens = r->batch->n_tokens,
                                .n_heads = r->d.H,
                                .n_kv_heads = r->d.K,
                                .head_dim = r->d.D,
                                .qkv = r->acts->qkv,
                                .position = r->work->position,
                                .kv_row = r->work->kv_row,
                                .cos_table = model->cos_table,
                                .sin_table = model->sin_table,
                                .q_gain = model_tensor(model, r->w->q_norm),
                                .k_gain = model_tensor(model, r->w->k_norm),
                                .gain_type = model->type,
                                .eps = model->config.rms_norm_eps,
                                .act = model->type,
                                .q = r->acts->q,
                                .k = r->k,
                                .v = r->v};
}

static struct attention_forward attention_params(const struct layer_run *r)
{
    return (struct attention_forward){.n_heads = r->d.H,
                                      .n_kv_heads = r->d.K,
                                      .head_dim = r->d.D,
                                      .scale = 1.0f / sqrtf((float)r->d.D),
                                      .act = r->model->type,
                                      .n_seqs = r->batch->n_seqs,
                                      .n_spans = r->batch->n_spans,
                                      .seqs = r->batch->seqs,
                                      .spans = r->batch->spans,
                                      .position = r->work->position,
                                      .q = r->acts->q,
                                      .k = r->k,
                                      .v = r->v,
                                      .out = r->acts->attn,
                                      .lse = r->acts->lse};
}

/* mid = x + o(attention(norm(x))). In inference mid is x itself. */
static void attention_block_forward(const struct layer_run *r, float *mid)
{
    struct backend *be = r->model->backend;
    struct qkv_forward qkv = qkv_params(r);
    struct attention_forward attention = attention_params(r);
    project_normed(r, r->w->input_norm, r->x, r->w->qkv, r->d.QKV, r->acts->qkv);
    be->ops->qkv_forward(be, &qkv);
    be->ops->attention_forward(be, &attention);
    project_residual(r, r->w->attn_out, r->acts->attn, r->x, mid);
}

/* work->d_x: from dL/d mid to dL/d x. */
static void attention_block_backward(const struct layer_run *r)
{
    struct backend *be = r->model->backend;
    struct decoder_work *work = r->work;
    size_t kv_bytes = (size_t)r->batch->n_tokens * (size_t)r->d.KD * sizeof(float);
    convert_residual(r);
    project_backward(r, r->w->attn_out, r->w->o, r->d.C, r->d.QD, work->d_out, r->acts->attn, work->d_attn,
                     r->model->type);
    be->ops->zero(be, work->d_k, kv_bytes);
    be->ops->zero(be, work->d_v, kv_bytes);
    be->ops->attention_backward(
        be,
        &(struct attention_backward){
            .forward = attention_params(r), .d_out = work->d_attn, .dq = work->d_q, .dk = work->d_k, .dv = work->d_v});
    be->ops->qkv_backward(be, &(struct qkv_backward){.forward = qkv_params(r),
                                                     .dq = work->d_q,
                                                     .dk = work->d_k,
                                                     .dv = work->d_v,
                                                     .d_qkv = work->d_qkv,
                                                     .d_q_gain = model_grad(r->model, r->w->q_norm),
                                                     .d_k_gain = model_grad(r->model, r->w->k_norm)});
    norm(r, r->w->input_norm, r->x);
    project_backward(r, r->w->qkv, r->w->q, r->d.QKV, r->d.C, work->d_qkv, work->normed, work->d_normed, DTYPE_F32);
    norm_backward(r, r->w->input_norm, r->x);
}

static struct swiglu_forward swiglu_params(const struct layer_run *r)
{
    return (struct swiglu_forward){.tokens = r->batch->n_tokens,
                                   .width = r->d.F,
                                   .gate_up = r->acts->gate_up,
                                   .y = r->work->ffn,
                                   .act = r->model->type};
}

/* out = mid + down(silu(gate(norm(mid))) * up(norm(mid))). In inference out is mid itself. NULL: only what the backward
 * reads. */
static void feed_forward_block_forward(const struct layer_run *r, const float *mid, float *out)
{
    struct backend *be = r->model->backend;
    const struct swiglu_forward inner = swiglu_params(r);
    project_normed(r, r->w->post_norm, mid, r->w->gate_up, 2 * r->d.F, r->acts->gate_up);
    if (out == NULL)
        return;
    be->ops->swiglu_forward(be, &inner);
    project_residual(r, r->w->ffn_down, r->work->ffn, mid, out);
}

/* work->d_x: from dL/d out to dL/d mid. */
static void feed_forward_block_backward(const struct layer_run *r)
{
    struct backend *be = r->model->backend;
    struct decoder_work *work = r->work;
    const struct swiglu_forward inner = swiglu_params(r);
    convert_residual(r);
    be->ops->swiglu_forward(be, &inner);
    project_backward(r, r->w->ffn_down, r->w->down, r->d.C, r->d.F, work->d_out, work->ffn, work->d_ffn,
                     r->model->type);
    be->ops->swiglu_backward(be, &(struct swiglu_backward){.tokens = r->batch->n_tokens,
                                                           .width = r->d.F,
                                                           .gate_up = r->acts->gate_up,
                                                           .dy = work->d_ffn,
                                                           .d_gate_up = work->d_gate_up,
                                                           .act = r->model->type});
    norm(r, r->w->post_norm, r->acts->mid);
    project_backward(r, r->w->gate_up, r->w->gate, 2 * r->d.F, r->d.C, work->d_gate_up, work->normed, work->d_normed,
                     DTYPE_F32);
    norm_backward(r, r->w->post_norm, r->acts->mid);
}

/* From x to out; the layer's activations are left in r->acts. out NULL: only those. */
static void layer_forward(const struct layer_run *r, float *out)
{
    float *mid = r->acts->mid != NULL ? r->acts->mid : out;
    attention_block_forward(r, mid);
    feed_forward_block_forward(r, mid, out);
}

static void layer_backward(const struct layer_run *r)
{
    feed_forward_block_backward(r);
    attention_block_backward(r);
}

static void upload_batch(struct model *model, struct decoder_work *work, const struct batch *batch)
{
    struct backend *be = model->backend;
    size_t bytes = (size_t)batch->n_tokens * sizeof(int32_t);
    assert(batch->n_tokens > 0 && batch->n_tokens <= work->max_tokens);
    be->ops->upload(be, work->token, batch->token, bytes);
    be->ops->upload(be, work->position, batch->position, bytes);
    be->ops->upload(be, work->kv_row, batch->kv_row, bytes);
    be->ops->attention_prepare(be, &(struct attention_batch){.n_tokens = batch->n_tokens,
                                                             .n_seqs = batch->n_seqs,
                                                             .n_spans = batch->n_spans,
                                                             .n_trees = batch->n_trees,
                                                             .seqs = batch->seqs,
                                                             .spans = batch->spans,
                                                             .n_heads = model->config.n_heads,
                                                             .n_kv_heads = model->config.n_kv_heads,
                                                             .head_dim = model->config.head_dim,
                                                             .backward = work->mode != DECODER_INFER});
}

float *decoder_forward(struct model *model, struct decoder_work *work, const struct batch *batch,
                       const struct kv_store *kv)
{
    upload_batch(model, work, batch);
    return decoder_layers(model, work, batch, kv == NULL ? &work->kv : kv);
}

float *decoder_layers(struct model *model, struct decoder_work *work, const struct batch *batch,
                      const struct kv_store *kv)
{
    struct backend *be = model->backend;
    be->ops->embed_forward(be, &(struct embed_forward){.tokens = batch->n_tokens,
                                                       .width = model->config.hidden_size,
                                                       .token = work->token,
                                                       .table = model_tensor(model, model->embedding),
                                                       .type = model->type,
                                                       .y = work->x});
    float *x = work->x;
    for (int32_t l = 0; l < model->config.n_layers; l++) {
        struct layer_run run = layer_run_of(model, work, batch, kv, l);
        float *out = work->mode == DECODER_INFER ? run.x : run.x + work->max_tokens * run.d.C;
        layer_forward(&run, out);
        x = out;
    }
    return x;
}

void decoder_backward(struct model *model, struct decoder_work *work, const struct batch *batch)
{
    struct backend *be = model->backend;
    assert(work->mode != DECODER_INFER && model->grad != NULL);
    for (int32_t l = model->config.n_layers - 1; l >= 0; l--) {
        struct layer_run run = layer_run_of(model, work, batch, &work->kv, l);
        if (work->mode == DECODER_RECOMPUTE)
            layer_forward(&run, NULL);
        layer_backward(&run);
    }
    be->ops->embed_backward(be, &(struct embed_backward){.tokens = batch->n_tokens,
                                                         .width = model->config.hidden_size,
                                                         .vocab = model->config.vocab_size,
                                                         .token = work->token,
                                                         .dy = work->d_x,
                                                         .d_table = model_grad(model, model->embedding)});
}

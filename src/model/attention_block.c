#include "model/attention_block.h"

#include "model/layer_run.h"

#include <math.h>

static struct qkv_forward qkv_params(const struct layer_run *r)
{
    const struct model *model = r->model;
    const struct model_config *c = &model->config;
    const struct attention_block *a = &r->layer->attention;
    struct qkv_forward params = {.tokens = r->batch->n_tokens,
                                 .n_heads = c->n_heads,
                                 .n_kv_heads = c->n_kv_heads,
                                 .head_dim = c->head_dim,
                                 .qkv = r->acts->qkv,
                                 .position = r->work->position,
                                 .kv_row = r->work->kv_row,
                                 .cos_table = model->rotation.cos_table,
                                 .sin_table = model->rotation.sin_table,
                                 .eps = c->rms_norm_eps,
                                 .act = model->type,
                                 .q = r->acts->q,
                                 .k = r->state.k,
                                 .v = r->state.v,
                                 .kv8 = r->state.kv8};
    if (a->q_norm.gain != NULL) {
        params.q_gain = param_values(a->q_norm.set, a->q_norm.gain);
        params.k_gain = param_values(a->k_norm.set, a->k_norm.gain);
        params.gain_type = storage_dtype(a->q_norm.gain->format);
    }
    return params;
}

static struct attention_forward attention_params(const struct layer_run *r)
{
    const struct model_config *c = &r->model->config;
    const struct attention_block *a = &r->layer->attention;
    return (struct attention_forward){.n_heads = c->n_heads,
                                      .n_kv_heads = c->n_kv_heads,
                                      .head_dim = c->head_dim,
                                      .window = a->window,
                                      .scale = 1.0f / sqrtf((float)c->head_dim),
                                      .act = r->model->type,
                                      .n_seqs = r->batch->n_seqs,
                                      .n_spans = r->batch->n_spans,
                                      .seqs = r->batch->seqs,
                                      .spans = r->batch->spans,
                                      .position = r->batch->shifted ? r->work->key_position : r->work->position,
                                      .q = r->acts->q,
                                      .k = r->state.k,
                                      .v = r->state.v,
                                      .kv8 = r->state.kv8,
                                      .out = r->acts->attn,
                                      .lse = r->acts->lse};
}

void attention_block_forward(const struct layer_run *r, float *mid)
{
    struct backend *be = r->model->backend;
    const struct attention_block *a = &r->layer->attention;
    const int64_t T = r->batch->n_tokens;
    const struct qkv_forward qkv = qkv_params(r);
    const struct attention_forward attention = attention_params(r);
    const struct linear_normed input = {.norm = &a->norm, .x = r->x, .room = r->work->normed};
    linear_forward_normed(&a->qkv, T, &input, r->acts->qkv);
    be->ops->qkv_forward(be, &qkv);
    be->ops->attention_forward(be, &attention);
    linear_forward_residual(&a->out, T, r->acts->attn, r->x, mid);
}

void attention_block_backward(const struct layer_run *r)
{
    struct backend *be = r->model->backend;
    struct decoder_work *work = r->work;
    const struct attention_block *a = &r->layer->attention;
    const struct model_config *c = &r->model->config;
    const enum dtype type = r->model->type;
    const int64_t T = r->batch->n_tokens;
    const size_t kv_bytes = kv_layer_bytes(c, DTYPE_F32, false, T);
    layer_run_convert(r);
    linear_backward(&a->out, T, work->d_out, r->acts->attn, work->d_attn, type);
    be->ops->zero(be, work->d_k, kv_bytes);
    be->ops->zero(be, work->d_v, kv_bytes);
    be->ops->attention_backward(
        be,
        &(struct attention_backward){
            .forward = attention_params(r), .d_out = work->d_attn, .dq = work->d_q, .dk = work->d_k, .dv = work->d_v});
    struct qkv_backward qkv = {
        .forward = qkv_params(r), .dq = work->d_q, .dk = work->d_k, .dv = work->d_v, .d_qkv = work->d_qkv};
    if (a->q_norm.gain != NULL) {
        qkv.d_q_gain = param_grad(a->q_norm.set, a->q_norm.gain);
        qkv.d_k_gain = param_grad(a->k_norm.set, a->k_norm.gain);
    }
    be->ops->qkv_backward(be, &qkv);
    norm_forward(&a->norm, T, NULL, r->x, work->normed, type);
    linear_backward(&a->qkv, T, work->d_qkv, work->normed, work->d_normed, DTYPE_F32);
    norm_backward(&a->norm, T, NULL, r->x, work->d_normed, work->d_x);
}

#include "model/decoder.h"

#include "model/embedding.h"
#include "model/layer_run.h"
#include "model/model_adapter.h"

#include <assert.h>
#include <string.h>

size_t kv_layer_bytes(const struct model_config *config, enum dtype act, bool kv8, int64_t rows)
{
    const size_t head = kv8 ? (size_t)KV8_HEAD_BYTES(config->head_dim) : (size_t)config->head_dim * dtype_bytes(act);
    return (size_t)rows * (size_t)config->n_kv_heads * head;
}

struct layer_state kv_layer_state(const struct kv_store *kv, int32_t layer)
{
    const size_t offset = (size_t)layer * kv->layer_bytes;
    return (struct layer_state){
        .k = (char *)kv->k + offset, .v = (char *)kv->v + offset, .routes = kv->routes, .kv8 = kv->kv8};
}

/* The width of the feed-forward block's rows for each token: of layer's, or (-1) of the widest. */
static size_t inner_width(const struct model_config *config, int32_t layer)
{
    const size_t dense = (size_t)config->intermediate_size,
                 sparse = (size_t)config->experts.chosen * (size_t)config->experts.size;
    size_t width = 0;
    for (int32_t l = 0; l < config->n_layers; l++) {
        const size_t own = model_config_sparse(config, l) ? sparse : dense;
        if (layer == l)
            return own;
        width = own > width ? own : width;
    }
    return width;
}

static bool any_experts(const struct model_config *config) { return model_config_n_sparse(config) > 0; }

int32_t route_width(const struct model_config *config)
{
    return model_config_n_sparse(config) * config->experts.chosen;
}

cohort_status decoder_work_plan(struct decoder_work *work, struct arena *arena, const struct model_config *config,
                                enum dtype act, int64_t max_tokens, enum decoder_mode mode, cohort_error *err)
{
    size_t T = (size_t)max_tokens, a = dtype_bytes(act);
    size_t L = (size_t)config->n_layers;
    size_t slots = mode == DECODER_TRAIN ? L : 1;
    size_t C = (size_t)config->hidden_size, F = inner_width(config, -1);
    size_t H = (size_t)config->n_heads, D = (size_t)config->head_dim, QD = H * D;
    size_t KD = (size_t)config->n_kv_heads * D, QKV = QD + 2 * KD;
    work->mode = mode;
    work->max_tokens = max_tokens;
    if (work->layers == NULL)
        TRY(mem_alloc(&work->layers, slots, sizeof *work->layers, "layer activations", err));
    work->n_layers = (int32_t)slots;
    work->token = arena_take(arena, T * sizeof(int32_t));
    work->position = arena_take(arena, T * sizeof(int32_t));
    work->kv_row = arena_take(arena, T * sizeof(int32_t));
    work->key_position = mode == DECODER_INFER ? arena_take(arena, T * sizeof(int32_t)) : NULL;
    work->noise_scale = work->noisy ? arena_take(arena, T * sizeof(float)) : NULL;
    work->noise_stream = work->noisy ? arena_take(arena, T * sizeof(uint64_t)) : NULL;
    work->x = arena_take(arena, (mode == DECODER_INFER ? 1 : L + 1) * T * C * sizeof(float));
    for (size_t l = 0; l < slots; l++) {
        struct layer_acts *acts = &work->layers[l];
        acts->qkv = arena_take(arena, T * QKV * a);
        acts->q = arena_take(arena, T * QD * a);
        acts->attn = arena_take(arena, T * QD * a);
        acts->lse = mode == DECODER_INFER ? NULL : arena_take(arena, T * H * sizeof(float));
        acts->mid = mode == DECODER_INFER ? NULL : arena_take(arena, T * C * sizeof(float));
        acts->gate_up = arena_take(arena, T * 2 * (slots == 1 ? F : inner_width(config, (int32_t)l)) * a);
        if (slots == 1 ? any_experts(config) : model_config_sparse(config, (int32_t)l))
            expert_acts_plan(&acts->experts, arena, config, max_tokens);
    }
    work->normed = arena_take(arena, T * C * a);
    work->ffn = arena_take(arena, T * F * a);
    if (any_experts(config))
        expert_work_plan(&work->experts, arena, config, act, max_tokens, mode != DECODER_INFER);
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

static struct layer_run layer_run_of(struct model *model, struct decoder_work *work, const struct batch *batch,
                                     const struct kv_store *kv, int32_t layer)
{
    const int64_t C = model->config.hidden_size;
    const int64_t x_offset = work->mode == DECODER_INFER ? 0 : (int64_t)layer * work->max_tokens * C;
    return (struct layer_run){.model = model,
                              .work = work,
                              .batch = batch,
                              .layer = &model->layers[layer],
                              .acts = &work->layers[work->n_layers == 1 ? 0 : layer],
                              .state = kv_layer_state(kv, layer),
                              .x = work->x + x_offset};
}

void layer_run_convert(const struct layer_run *r)
{
    struct backend *be = r->model->backend;
    be->ops->convert(be, &(struct convert){.count = (int64_t)r->batch->n_tokens * r->model->config.hidden_size,
                                           .x = r->work->d_x,
                                           .x_type = DTYPE_F32,
                                           .y = r->work->d_out,
                                           .y_type = r->model->type});
}

/* Runs one layer from x to out and leaves its activations in r->acts; with out NULL it computes only those. */
static void layer_forward(const struct layer_run *r, float *out)
{
    float *mid = r->acts->mid != NULL ? r->acts->mid : out;
    attention_block_forward(r, mid);
    (r->layer->sparse ? experts_forward : feed_forward_forward)(r, mid, out);
}

static void layer_backward(const struct layer_run *r)
{
    (r->layer->sparse ? experts_backward : feed_forward_backward)(r);
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
    if (batch->shifted)
        be->ops->upload(be, work->key_position, batch->key_position, bytes);
    if (batch->noise != NULL) {
        assert(work->noisy);
        if (batch->noise->scale != NULL)
            be->ops->upload(be, work->noise_scale, batch->noise->scale, (size_t)batch->n_tokens * sizeof(float));
        be->ops->upload(be, work->noise_stream, batch->noise->stream, (size_t)batch->n_tokens * sizeof(uint64_t));
    }
    if (work->experts.on.compare)
        be->ops->upload(be, work->experts.given, batch->routes,
                        (size_t)batch->n_tokens * (size_t)batch->route_width * sizeof *batch->routes);
    if (work->experts.on.compare)
        be->ops->zero(be, work->experts.differ, bytes);
    if (work->experts.on.sums || work->experts.on.aux)
        be->ops->upload(be, work->experts.count, batch->count, bytes);
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

/* Of the projections' adapters, until the next batch. */
static void set_dropout(struct model *model, const struct decoder_work *work, const struct batch *batch)
{
    struct adapter_dropout dropout = {0};
    if (model->adapter == NULL)
        return;
    if (batch->noise != NULL)
        dropout = (struct adapter_dropout){.p = (float)batch->noise->dropout,
                                           .seed = batch->noise->seed,
                                           .tokens = batch->n_tokens,
                                           .position = work->position,
                                           .stream = work->noise_stream};
    model_adapter_drop(model->adapter, &dropout);
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
    embedding_forward(model, batch->n_tokens, work->token, work->x);
    for (int32_t i = 0; i < batch->n_vectors; i++) {
        const struct batch_vectors *v = &batch->vectors[i];
        const int64_t C = model->config.hidden_size;
        assert(work->mode == DECODER_INFER);
        be->ops->upload(be, work->x + v->row * C, v->values, (size_t)(v->n * C) * sizeof(float));
    }
    set_dropout(model, work, batch);
    if (batch->noise != NULL && batch->noise->scale != NULL)
        be->ops->embed_noise(be, &(struct embed_noise){.tokens = batch->n_tokens,
                                                       .width = model->config.hidden_size,
                                                       .position = work->position,
                                                       .scale = work->noise_scale,
                                                       .stream = work->noise_stream,
                                                       .seed = batch->noise->seed,
                                                       .y = work->x});
    float *x = work->x;
    for (int32_t l = 0; l < model->config.n_layers; l++) {
        struct layer_run run = layer_run_of(model, work, batch, kv, l);
        model_need_layer(model, l);
        float *out = work->mode == DECODER_INFER ? run.x : run.x + work->max_tokens * model->config.hidden_size;
        layer_forward(&run, out);
        x = out;
    }
    return x;
}

void decoder_backward(struct model *model, struct decoder_work *work, const struct batch *batch)
{
    assert(work->mode != DECODER_INFER && model->trained->training.grad != NULL);
    set_dropout(model, work, batch);
    for (int32_t l = model->config.n_layers - 1; l >= 0; l--) {
        struct layer_run run = layer_run_of(model, work, batch, &work->kv, l);
        model_need_layer(model, l);
        if (work->mode == DECODER_RECOMPUTE)
            layer_forward(&run, NULL);
        layer_backward(&run);
        param_set_done(model->trained, l + 1);
    }
    embedding_backward(model, batch->n_tokens, work->token, work->d_x);
    param_set_done(model->trained, 0);
}

#include "model/model.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

void *model_tensor(const struct model *model, const struct param *param)
{
    return (char *)model->weights + (size_t)param->offset * dtype_bytes(model->type);
}

float *model_grad(const struct model *model, const struct param *param) { return model->grad + param->offset; }

static int64_t qkv_rows(const struct model_config *c)
{
    return (int64_t)(c->n_heads + 2 * c->n_kv_heads) * c->head_dim;
}

static int64_t query_width(const struct model_config *c) { return (int64_t)c->n_heads * c->head_dim; }

/* Of one of the two rotation tables, [max_context, D/2]. */
static size_t rotation_count(const struct model *model)
{
    return (size_t)model->max_context * (size_t)(model->config.head_dim / 2);
}

size_t model_weight_bytes(const struct model *model)
{
    const struct model_config *c = &model->config;
    struct backend *be = model->backend;
    const enum dtype type = model->type;
    int64_t C = c->hidden_size, F = c->intermediate_size;
    size_t layer = be->ops->weight_bytes(be, qkv_rows(c), C, type) +
                   be->ops->weight_bytes(be, C, query_width(c), type) + be->ops->weight_bytes(be, 2 * F, C, type) +
                   be->ops->weight_bytes(be, C, F, type);
    return (size_t)model->params.n_elements * dtype_bytes(type) + (size_t)c->n_layers * layer +
           be->ops->weight_bytes(be, c->vocab_size, C, type) + 2 * rotation_count(model) * sizeof(float);
}

size_t model_train_bytes(const struct model *model, enum dtype moment_type)
{
    return (size_t)model->params.n_elements *
           (sizeof(float) + 2 * dtype_bytes(moment_type) + (model->type == DTYPE_BF16 ? sizeof(int16_t) : 0));
}

static const struct param *layer_param(const struct param_table *table, int32_t layer, const char *name)
{
    char full[sizeof table->params->name];
    snprintf(full, sizeof full, "model.layers.%d.%s.weight", (int)layer, name);
    const struct param *param = param_find(table, full);
    assert(param != NULL);
    return param;
}

/* cos and sin of position * theta^(-2i/D), frequencies and angles in fp32 as transformers computes them. */
static cohort_status build_rotation(struct model *model, cohort_error *err)
{
    struct backend *be = model->backend;
    int32_t half = model->config.head_dim / 2;
    size_t count = rotation_count(model);
    float *host = NULL;
    cohort_status status = COHORT_OK;
    TRY(mem_alloc(&host, 2 * count, sizeof *host, "rotation table", err));
    for (int32_t i = 0; i < half; i++) {
        float frequency = (float)(1.0 / pow(model->config.rope_theta, 2.0 * i / model->config.head_dim));
        for (int32_t p = 0; p < model->max_context; p++) {
            float angle = (float)p * frequency;
            size_t at = (size_t)p * (size_t)half + (size_t)i;
            host[at] = (float)cos((double)angle);
            host[count + at] = (float)sin((double)angle);
        }
    }
    TRY_GOTO(be->ops->alloc(be, &model->cos_table, count * sizeof(float), "rotation table", err));
    TRY_GOTO(be->ops->alloc(be, &model->sin_table, count * sizeof(float), "rotation table", err));
    be->ops->upload(be, model->cos_table, host, count * sizeof(float));
    be->ops->upload(be, model->sin_table, host + count, count * sizeof(float));
cleanup:
    mem_free(host);
    return status;
}

cohort_status model_open(struct model **out, struct backend *backend, const struct model_config *config,
                         enum dtype type, int32_t max_context, cohort_error *err)
{
    cohort_status status = COHORT_OK;
    struct model *model = NULL;
    *out = NULL;
    TRY(mem_alloc(&model, 1, sizeof *model, "model", err));
    model->backend = backend;
    model->type = type;
    model->config = *config;
    const struct model_config *c = &model->config;
    model->max_context = max_context > 0 && max_context < c->max_positions ? max_context : c->max_positions;
    TRY_GOTO(model_config_params(c, &model->params, err));
    TRY_GOTO(mem_alloc(&model->layers, (size_t)c->n_layers, sizeof *model->layers, "layers", err));
    for (int32_t l = 0; l < c->n_layers; l++) {
        struct layer_weights *w = &model->layers[l];
        w->input_norm = layer_param(&model->params, l, "input_layernorm");
        w->q = layer_param(&model->params, l, "self_attn.q_proj");
        w->q_norm = layer_param(&model->params, l, "self_attn.q_norm");
        w->k_norm = layer_param(&model->params, l, "self_attn.k_norm");
        w->o = layer_param(&model->params, l, "self_attn.o_proj");
        w->post_norm = layer_param(&model->params, l, "post_attention_layernorm");
        w->gate = layer_param(&model->params, l, "mlp.gate_proj");
        w->down = layer_param(&model->params, l, "mlp.down_proj");
    }
    model->embedding = param_find(&model->params, "model.embed_tokens.weight");
    model->final_norm = param_find(&model->params, "model.norm.weight");
    model->head_param = c->tie_embeddings ? model->embedding : param_find(&model->params, "lm_head.weight");
    assert(model->embedding != NULL && model->final_norm != NULL && model->head_param != NULL);
    *out = model;
    return COHORT_OK;
cleanup:
    model_destroy(model);
    return status;
}

/* Backend memory for the weights, and the rotation tables. */
static cohort_status allocate(struct model *model, cohort_error *err)
{
    struct backend *be = model->backend;
    assert(model->weights == NULL);
    TRY(be->ops->alloc(be, &model->weights, (size_t)model->params.n_elements * dtype_bytes(model->type), "weights",
                       err));
    return build_rotation(model, err);
}

static cohort_status pack(struct model *model, struct weight **out, const struct param *param, int64_t n, int64_t k,
                          cohort_error *err)
{
    struct backend *be = model->backend;
    return be->ops->weight_create(be, out, model_tensor(model, param), n, k, model->type, err);
}

static cohort_status pack_weights(struct model *model, cohort_error *err)
{
    const struct model_config *c = &model->config;
    int64_t C = c->hidden_size, F = c->intermediate_size;
    for (int32_t l = 0; l < c->n_layers; l++) {
        struct layer_weights *w = &model->layers[l];
        TRY(stop_check(model->backend->stop, err));
        TRY(pack(model, &w->qkv, w->q, qkv_rows(c), C, err));
        TRY(pack(model, &w->attn_out, w->o, C, query_width(c), err));
        TRY(pack(model, &w->gate_up, w->gate, 2 * F, C, err));
        TRY(pack(model, &w->ffn_down, w->down, C, F, err));
    }
    TRY(pack(model, &model->head, model->head_param, c->vocab_size, C, err));
    return stop_check(model->backend->stop, err); /* a product's packing may have been cut */
}

static cohort_status store_part(void *context, const struct param *param, int64_t first, int64_t count,
                                const void *data, cohort_error *err)
{
    struct model *model = context;
    size_t size = dtype_bytes(model->type);
    TRY(stop_check(model->backend->stop, err));
    model->backend->ops->upload(model->backend, (char *)model->weights + (size_t)(param->offset + first) * size, data,
                                (size_t)count * size);
    return COHORT_OK;
}

cohort_status model_read(struct model *model, const char *dir, struct weight_files *files, cohort_error *err)
{
    TRY(checkpoint_look(dir, &model->params, NULL, err)); /* before memory is taken */
    TRY(allocate(model, err));
    TRY(checkpoint_read_hashed(dir, &model->params, model->type, store_part, model, files, err));
    return pack_weights(model, err);
}

cohort_status model_load_hashed(struct model **out, struct backend *backend, const char *dir, enum dtype type,
                                int32_t max_context, struct weight_files *files, cohort_error *err)
{
    struct model_config config = {0};
    struct model *model = NULL;
    cohort_status status = COHORT_OK;
    *out = NULL;
    TRY_GOTO(model_config_load(&config, NULL, dir, err));
    TRY_GOTO(model_open(&model, backend, &config, type, max_context, err));
    TRY_GOTO(model_read(model, dir, files, err));
    *out = model;
    model = NULL;
cleanup:
    model_destroy(model);
    return status;
}

cohort_status model_load(struct model **out, struct backend *backend, const char *dir, enum dtype type,
                         int32_t max_context, cohort_error *err)
{
    return model_load_hashed(out, backend, dir, type, max_context, NULL, err);
}

cohort_status model_create(struct model **out, struct backend *backend, const struct model_config *config,
                           enum dtype type, int32_t max_context, checkpoint_fetch *fetch, void *context,
                           cohort_error *err)
{
    enum { PART = 1 << 20 }; /* elements fetched at a time */
    struct model *model = NULL;
    void *part = NULL;
    cohort_status status = COHORT_OK;
    *out = NULL;
    TRY(mem_alloc(&part, PART, dtype_bytes(type), "part of a tensor", err));
    TRY_GOTO(model_open(&model, backend, config, type, max_context, err));
    TRY_GOTO(allocate(model, err));
    for (int32_t i = 0; i < model->params.n_params; i++) {
        const struct param *param = &model->params.params[i];
        for (int64_t first = 0; first < param->count; first += PART) {
            int64_t count = param->count - first < PART ? param->count - first : PART;
            TRY_GOTO(fetch(context, param, first, count, part, err));
            TRY_GOTO(store_part(model, param, first, count, part, err));
        }
    }
    TRY_GOTO(pack_weights(model, err));
    *out = model;
    model = NULL;
cleanup:
    mem_free(part);
    model_destroy(model);
    return status;
}

cohort_status model_clone(struct model **out, const struct model *from, cohort_error *err)
{
    struct backend *be = from->backend;
    struct model *model = NULL;
    cohort_status status = COHORT_OK;
    *out = NULL;
    TRY_GOTO(model_open(&model, be, &from->config, from->type, from->max_context, err));
    TRY_GOTO(allocate(model, err));
    be->ops->copy(be, model->weights, from->weights, (size_t)from->params.n_elements * dtype_bytes(from->type));
    TRY_GOTO(pack_weights(model, err));
    *out = model;
    model = NULL;
cleanup:
    model_destroy(model);
    return status;
}

void model_destroy(struct model *model)
{
    if (model == NULL)
        return;
    struct backend *be = model->backend;
    for (int32_t l = 0; model->layers != NULL && l < model->config.n_layers; l++) {
        struct layer_weights *w = &model->layers[l];
        be->ops->weight_destroy(be, w->qkv);
        be->ops->weight_destroy(be, w->attn_out);
        be->ops->weight_destroy(be, w->gate_up);
        be->ops->weight_destroy(be, w->ffn_down);
    }
    be->ops->weight_destroy(be, model->head);
    be->ops->free(be, model->weights);
    be->ops->free(be, model->cos_table);
    be->ops->free(be, model->sin_table);
    be->ops->free(be, model->grad);
    be->ops->free(be, model->m);
    be->ops->free(be, model->v);
    be->ops->free(be, model->low);
    mem_free(model->layers);
    param_table_free(&model->params);
    mem_free(model);
}

cohort_status model_train_begin(struct model *model, enum dtype moment_type, cohort_error *err)
{
    struct backend *be = model->backend;
    size_t bytes = (size_t)model->params.n_elements * sizeof(float);
    size_t moment = (size_t)model->params.n_elements * dtype_bytes(moment_type);
    assert(model->grad == NULL);
    model->moment_type = moment_type;
    TRY(be->ops->alloc(be, &model->grad, bytes, "gradient", err));
    TRY(be->ops->alloc(be, &model->m, moment, "optimizer's first moment", err));
    TRY(be->ops->alloc(be, &model->v, moment, "optimizer's second moment", err));
    if (model->type == DTYPE_BF16)
        TRY(be->ops->alloc(be, &model->low, bytes / 2, "low halves of the master weights", err));
    return COHORT_OK;
}

void model_refresh(struct model *model)
{
    struct backend *be = model->backend;
    for (int32_t l = 0; l < model->config.n_layers; l++) {
        struct layer_weights *w = &model->layers[l];
        be->ops->weight_refresh(be, w->qkv);
        be->ops->weight_refresh(be, w->attn_out);
        be->ops->weight_refresh(be, w->gate_up);
        be->ops->weight_refresh(be, w->ffn_down);
    }
    be->ops->weight_refresh(be, model->head);
}

cohort_status model_fetch(void *context, const struct param *param, int64_t first, int64_t count, void *to,
                          cohort_error *err)
{
    (void)err;
    const struct model *model = context;
    size_t size = dtype_bytes(model->type);
    model->backend->ops->download(model->backend, to,
                                  (const char *)model->weights + (size_t)(param->offset + first) * size,
                                  (size_t)count * size);
    return COHORT_OK;
}

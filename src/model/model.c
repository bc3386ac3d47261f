#include "model/model.h"

#include "model/model_adapter.h"
#include "model/param_shard.h"

#include <assert.h>
#include <string.h>

enum { LAYER_LINEARS = 4, LAYER_STACKS = 2 };

int32_t model_linears(const struct model *model)
{
    return model->layers == NULL ? 0 : model->config.n_layers * LAYER_LINEARS + 1;
}

struct linear *model_linear(const struct model *model, int32_t i)
{
    const int32_t layer = i / LAYER_LINEARS;
    if (layer == model->config.n_layers)
        return (struct linear *)&model->head;
    struct layer *l = &model->layers[layer];
    struct linear *const linears[LAYER_LINEARS] = {&l->attention.qkv, &l->attention.out,
                                                   l->sparse ? &l->experts.router : &l->feed_forward.gate_up,
                                                   l->sparse ? NULL : &l->feed_forward.down};
    return linears[i % LAYER_LINEARS];
}

int32_t model_stacks(const struct model *model)
{
    return model->layers == NULL ? 0 : model->config.n_layers * LAYER_STACKS;
}

struct expert_stack *model_stack(const struct model *model, int32_t i)
{
    struct layer *l = &model->layers[i / LAYER_STACKS];
    return !l->sparse ? NULL : i % LAYER_STACKS == 0 ? &l->experts.gate_up : &l->experts.down;
}

/* Whether projection i shares the packed weight of layer 0. */
static bool borrows(const struct model *model, int32_t i)
{
    return param_set_divides(&model->base) && i >= LAYER_LINEARS && i < model->config.n_layers * LAYER_LINEARS;
}

size_t model_weight_bytes(const struct model *model)
{
    size_t bytes =
        param_set_value_sizes(&model->base, 0).own + rotation_bytes(model->max_context, model->config.head_dim);
    for (int32_t i = 0; i < model_linears(model); i++)
        bytes += model_linear(model, i) == NULL || borrows(model, i) ? 0 : linear_packed_bytes(model_linear(model, i));
    for (int32_t i = 0; i < model_stacks(model); i++)
        bytes += model_stack(model, i) == NULL ? 0 : expert_stack_packed_bytes(model_stack(model, i));
    if (model->adapter != NULL)
        bytes += model_adapter_bytes(model->adapter);
    return bytes;
}

/* NULL: there is none. */
static const struct param *tensor(const struct model *model, enum tensor_role role, int32_t layer)
{
    return architecture_param(&model->config, &model->base.table, role, layer);
}

/* Where a tensor lies: in the base, or in an adapter's set that has its own in its place (set and layout NULL: none). */
static const struct param *placed(const struct model *model, enum tensor_role role, int32_t layer,
                                  const struct param_set *set, const struct adapter_layout *layout,
                                  const struct param_set **in)
{
    const struct param *base = tensor(model, role, layer),
                       *own = layout == NULL || base == NULL ? NULL : adapter_saved_as(layout, base);
    *in = own == NULL ? &model->base : set;
    return own == NULL ? base : own;
}

void model_place(struct model *model, const struct param_set *set, const struct adapter_layout *layout)
{
    for (int32_t l = 0; l < model->config.n_layers; l++) {
        struct attention_block *a = &model->layers[l].attention;
        struct norm *post =
            model->layers[l].sparse ? &model->layers[l].experts.norm : &model->layers[l].feed_forward.norm;
        a->norm.gain = placed(model, TENSOR_INPUT_NORM, l, set, layout, &a->norm.set);
        a->q_norm.gain = placed(model, TENSOR_QUERY_NORM, l, set, layout, &a->q_norm.set);
        a->k_norm.gain = placed(model, TENSOR_KEY_NORM, l, set, layout, &a->k_norm.set);
        post->gain = placed(model, TENSOR_POST_NORM, l, set, layout, &post->set);
        a->norm.eps = a->q_norm.eps = a->k_norm.eps = post->eps = model->config.rms_norm_eps;
    }
    model->embedding = placed(model, TENSOR_EMBEDDING, 0, set, layout, &model->embedding_set);
    model->final_norm.gain = placed(model, TENSOR_FINAL_NORM, 0, set, layout, &model->final_norm.set);
    model->final_norm.eps = model->config.rms_norm_eps;
}

bool model_places(const struct model *model, const struct param *param)
{
    static const enum tensor_role roles[] = {TENSOR_INPUT_NORM, TENSOR_QUERY_NORM, TENSOR_KEY_NORM, TENSOR_POST_NORM};
    bool found = param == tensor(model, TENSOR_EMBEDDING, 0) || param == tensor(model, TENSOR_FINAL_NORM, 0);
    for (int32_t l = 0; l < model->config.n_layers; l++)
        for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
            found = found || param == tensor(model, roles[i], l);
    return found;
}

static void open_feed_forward(struct model *model, int32_t l)
{
    struct feed_forward *f = &model->layers[l].feed_forward;
    linear_open(&f->gate_up, &model->base, tensor(model, TENSOR_GATE, l), tensor(model, TENSOR_GATE_BIAS, l));
    linear_open(&f->down, &model->base, tensor(model, TENSOR_DOWN, l), tensor(model, TENSOR_DOWN_BIAS, l));
}

static void open_experts(struct model *model, int32_t l)
{
    struct experts *x = &model->layers[l].experts;
    const int32_t n = model->config.experts.n;
    for (int32_t before = 0; before < l; before++)
        x->index += model->layers[before].sparse ? 1 : 0;
    linear_open(&x->router, &model->base, tensor(model, TENSOR_ROUTER, l), NULL);
    expert_stack_open(&x->gate_up, &model->base, tensor(model, TENSOR_EXPERT_GATE, l), n);
    expert_stack_open(&x->down, &model->base, tensor(model, TENSOR_EXPERT_DOWN, l), n);
}

static void open_layer(struct model *model, int32_t l)
{
    struct attention_block *a = &model->layers[l].attention;
    linear_open(&a->qkv, &model->base, tensor(model, TENSOR_QUERY, l), tensor(model, TENSOR_QUERY_BIAS, l));
    a->window = model_config_window(&model->config, l);
    linear_open(&a->out, &model->base, tensor(model, TENSOR_ATTENTION_OUT, l),
                tensor(model, TENSOR_ATTENTION_OUT_BIAS, l));
    model->layers[l].sparse = model_config_sparse(&model->config, l);
    if (model->layers[l].sparse)
        open_experts(model, l);
    else
        open_feed_forward(model, l);
}

cohort_status model_open(struct model **out, struct backend *backend, const struct model_config *config,
                         enum dtype type, int32_t max_context, cohort_error *err)
{
    cohort_status status = COHORT_OK;
    struct model *model = NULL;
    struct param_table table = {0};
    *out = NULL;
    TRY(mem_alloc(&model, 1, sizeof *model, "model", err));
    model->backend = backend;
    model->type = type;
    model->config = *config;
    const struct model_config *c = &model->config;
    model->max_context = max_context > 0 && max_context < c->max_positions ? max_context : c->max_positions;
    TRY_GOTO(architecture_params(c, storage_of(type), &table, err));
    TRY_GOTO(param_set_open(&model->base, backend, &table, err));
    model->trained = &model->base;
    TRY_GOTO(mem_alloc(&model->layers, (size_t)c->n_layers, sizeof *model->layers, "layers", err));
    for (int32_t l = 0; l < c->n_layers; l++)
        open_layer(model, l);
    model_place(model, NULL, NULL);
    const bool tied = c->tie_embeddings && c->n_labels == 0;
    linear_open(&model->head, &model->base,
                tied ? model->embedding : tensor(model, c->n_labels > 0 ? TENSOR_SCORE : TENSOR_HEAD, 0), NULL);
    *out = model;
    return COHORT_OK;
cleanup:
    model_destroy(model);
    return status;
}

void model_store_f16(struct model *model)
{
    assert(model->type == DTYPE_F32 && model->base.values == NULL);
    for (int32_t i = 0; i < model->base.table.n_params; i++)
        if (model->base.table.params[i].rank > 1)
            model->base.table.params[i].format = STORAGE_F16;
    param_set_layout(&model->base);
}

/* Backend memory for the weights, and the rotation tables. */
static cohort_status allocate(struct model *model, struct pool *pool, cohort_error *err)
{
    TRY(param_set_allocate(&model->base, err));
    return rotation_build(&model->rotation, model->backend, &model->config.rope, model->max_context,
                          model->config.head_dim, pool, err);
}

void model_pack_alone(struct model *model)
{
    struct param *params = model->base.table.params;
    assert(model->base.values == NULL && model->adapter == NULL);
    for (int32_t i = 0; i < model_linears(model); i++) {
        const struct linear *linear = model_linear(model, i);
        if (linear == NULL || linear->weight == model->embedding || linear->weight->drawn ||
            !linear_packs_alone(linear))
            continue;
        struct param *part = &params[linear->weight - params];
        for (int64_t row = 0; row < linear->n; part++) {
            part->packed = true;
            row += param_rows(part);
        }
    }
    param_set_layout(&model->base);
}

static cohort_status store_packed(const struct model *model, const struct param *param, int64_t first, int64_t count,
                                  const void *data, cohort_error *err)
{
    struct backend *be = model->backend;
    const int64_t k = param_columns(param);
    int64_t row = 0;
    int32_t i = 0;
    TRY(stop_check(be->stop, err));
    while (model_linear(model, i) == NULL || !linear_row_of(model_linear(model, i), param, &row))
        i++;
    be->ops->weight_fill(be, model_linear(model, i)->packed, row + first / k, count / k, data);
    return COHORT_OK;
}

cohort_status model_store(void *context, const struct param *param, int64_t first, int64_t count, const void *data,
                          cohort_error *err)
{
    struct model *model = context;
    return param->packed ? store_packed(model, param, first, count, data, err)
                         : param_set_store(&model->base, param, first, count, data, err);
}

/* Of what has its values in the set, or of what has not: which is filled as they are read. */
static cohort_status pack_linears(struct model *model, bool alone, cohort_error *err)
{
    for (int32_t i = 0; i < model_linears(model); i++) {
        TRY(stop_check(model->backend->stop, err));
        if (model_linear(model, i) != NULL && borrows(model, i) && !alone)
            linear_borrow(model_linear(model, i), model_linear(model, i % LAYER_LINEARS));
        else if (model_linear(model, i) != NULL && model_linear(model, i)->weight->packed == alone)
            TRY(linear_pack(model_linear(model, i), err));
    }
    return COHORT_OK;
}

static cohort_status pack_weights(struct model *model, cohort_error *err)
{
    TRY(pack_linears(model, false, err));
    for (int32_t i = 0; i < model_stacks(model); i++) {
        TRY(stop_check(model->backend->stop, err));
        if (model_stack(model, i) != NULL)
            TRY(expert_stack_pack(model_stack(model, i), err));
    }
    return stop_check(model->backend->stop, err); /* a stop may have cut the packing short */
}

/* Values for what no file has, as transformers draws them. */
static cohort_status draw_new(struct model *model, cohort_error *err)
{
    enum { PART = 1 << 16 };
    struct checkpoint_init init = {.seed = model->head_seed,
                                   .standard_deviation = (float)model->config.initializer_range};
    void *part = NULL;
    cohort_status status = COHORT_OK;
    TRY(mem_alloc(&part, PART, sizeof(float), "part of a tensor", err));
    for (int32_t i = 0; i < model->base.table.n_params; i++) {
        const struct param *param = &model->base.table.params[i];
        for (int64_t first = 0; param->drawn && first < param->count; first += PART) {
            const int64_t count = param->count - first < PART ? param->count - first : PART;
            TRY_GOTO(checkpoint_init_fetch(&init, param, first, count, part, err));
            TRY_GOTO(model_store(model, param, first, count, part, err));
        }
    }
cleanup:
    mem_free(part);
    return status;
}

cohort_status model_read(struct model *model, const char *dir, struct weight_files *files, cohort_error *err)
{
    struct backend *be = model->backend;
    struct pool *pool = NULL;
    cohort_status status = COHORT_OK;
    TRY(checkpoint_look(dir, &model->base.table, NULL, err)); /* before memory is taken */
    if (be->host_memory) {
        TRY(pool_create(&pool, be->threads, err));
        pool_set_stop(pool, be->stop);
    }
    TRY_GOTO(allocate(model, pool, err));
    TRY_GOTO(pack_linears(model, true, err));
    TRY_GOTO(checkpoint_read_hashed(dir, &model->base.table, model_store, model, files, pool, err));
    if (model->config.head_is_new)
        TRY_GOTO(draw_new(model, err));
    TRY_GOTO(pack_weights(model, err));
cleanup:
    pool_destroy(pool);
    return status;
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
    TRY_GOTO(allocate(model, NULL, err));
    for (int32_t i = 0; i < model->base.table.n_params; i++) {
        const struct param *param = &model->base.table.params[i];
        for (int64_t first = 0; first < param->count; first += PART) {
            int64_t count = param->count - first < PART ? param->count - first : PART;
            TRY_GOTO(fetch(context, param, first, count, part, err));
            TRY_GOTO(param_set_store(&model->base, param, first, count, part, err));
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
    struct model *model = NULL;
    cohort_status status = COHORT_OK;
    *out = NULL;
    TRY_GOTO(model_open(&model, from->backend, &from->config, from->type, from->max_context, err));
    for (int32_t i = 0; i < from->base.table.n_params; i++)
        model->base.table.params[i].format = from->base.table.params[i].format;
    param_set_layout(&model->base);
    TRY_GOTO(allocate(model, NULL, err));
    param_set_copy(&model->base, &from->base);
    TRY_GOTO(pack_weights(model, err));
    *out = model;
    model = NULL;
cleanup:
    model_destroy(model);
    return status;
}

cohort_status model_adapt(struct model *model, const struct adapter_settings *settings, cohort_error *err)
{
    assert(model->adapter == NULL);
    TRY(model_adapter_open(&model->adapter, model, settings, err));
    model_wear(model, model->adapter);
    return COHORT_OK;
}

void model_train_adapter(struct model *model)
{
    for (int32_t i = 0; i < model->base.table.n_params; i++)
        if (!model->base.table.params[i].adjacent)
            param_set_freeze(&model->base, &model->base.table.params[i]);
    model->trained = &model->adapter->set;
}

void model_destroy(struct model *model)
{
    if (model == NULL)
        return;
    model_adapter_destroy(model->adapter);
    for (int32_t i = 0; i < model_linears(model); i++)
        if (model_linear(model, i) != NULL)
            linear_close(model_linear(model, i));
    for (int32_t i = 0; i < model_stacks(model); i++)
        if (model_stack(model, i) != NULL)
            expert_stack_close(model_stack(model, i));
    rotation_free(&model->rotation, model->backend);
    mem_free(model->layers);
    param_set_close(&model->base);
    mem_free(model);
}

/* What ranks divide is packed when it is needed. */
static void refresh(const struct model *model, int32_t i)
{
    const struct linear *linear = model_linear(model, i);
    const bool divided = param_set_divides(&model->base) && i < model->config.n_layers * LAYER_LINEARS;
    if (linear_trains(linear) && !linear->weight->packed && !divided)
        linear_refresh(linear);
}

void model_refresh(struct model *model)
{
    model->n_changes++;
    model->backend->unstoppable++;
    for (int32_t i = 0; i < model_linears(model); i++)
        if (model_linear(model, i) != NULL)
            refresh(model, i);
    for (int32_t i = 0; i < model_stacks(model); i++)
        if (model_stack(model, i) != NULL && expert_stack_trains(model_stack(model, i)))
            expert_stack_refresh(model_stack(model, i));
    if (model->adapter != NULL && model->trained == &model->adapter->set)
        model_adapter_refresh(model->adapter);
    model->backend->unstoppable--;
}

void model_need_layer(struct model *model, int32_t layer)
{
    struct param_set *set = &model->base;
    if (!param_set_divides(set) || model->whole)
        return;
    param_shard_need(set, layer + 1);
    for (int32_t i = 0; model->n_packed != set->n_brought && i < LAYER_LINEARS; i++)
        linear_refresh(model_linear(model, layer * LAYER_LINEARS + i));
    model->n_packed = set->n_brought;
}

cohort_status model_plan_whole(struct model *model, struct arena *arena, cohort_error *err)
{
    for (int32_t i = 0; param_set_divides(&model->base) && i < model->config.n_layers * LAYER_LINEARS; i++) {
        void *room = arena_take(arena, linear_whole_bytes(model_linear(model, i)));
        if (room != NULL)
            TRY(linear_plan_whole(model_linear(model, i), room, err));
    }
    return COHORT_OK;
}

cohort_status model_gather_whole(struct model *model, cohort_error *err)
{
    struct param_set *set = &model->base;
    if (!param_set_divides(set))
        return COHORT_OK;
    assert(!model->whole);
    for (int32_t l = 0; l < model->config.n_layers; l++) {
        param_shard_need(set, l + 1);
        for (int32_t i = 0; i < LAYER_LINEARS; i++)
            linear_fill_whole(model_linear(model, l * LAYER_LINEARS + i));
    }
    TRY(param_shard_check(set, err));
    for (int32_t i = 0; i < model->config.n_layers * LAYER_LINEARS; i++)
        linear_swap_whole(model_linear(model, i));
    model->whole = true;
    return COHORT_OK;
}

void model_leave_whole(struct model *model)
{
    for (int32_t i = 0; model->whole && i < model->config.n_layers * LAYER_LINEARS; i++)
        linear_swap_whole(model_linear(model, i));
    model->whole = false;
}

cohort_status model_embed(const struct model *model, const int32_t *ids, size_t count, float *out, cohort_error *err)
{
    const size_t bytes = count * (size_t)model->config.hidden_size * sizeof(float);
    struct backend *be = model->backend;
    int32_t *token = NULL;
    float *rows = NULL;
    cohort_status status = COHORT_OK;
    TRY_GOTO(be->ops->alloc(be, &token, count * sizeof *token, "ids of rows of the embedding", err));
    TRY_GOTO(be->ops->alloc(be, &rows, bytes, "rows of the embedding", err));
    be->ops->upload(be, token, ids, count * sizeof *token);
    embedding_forward(model, (int64_t)count, token, rows);
    be->ops->download(be, out, rows, bytes);
    status = backend_check(be, err);
cleanup:
    be->ops->free(be, token);
    be->ops->free(be, rows);
    return status;
}

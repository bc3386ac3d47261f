#include "model/embedding.h"

#include "model/model.h"

#include <string.h>

void embedding_adapter_open(struct embedding_adapter *adapter, const struct param_set *set,
                            const struct param_set *base_set, const struct adapter_layout *layout)
{
    *adapter = (struct embedding_adapter){.set = set, .base_set = base_set};
    for (int32_t i = 0; i < layout->n_sites; i++) {
        const struct adapter_site *site = &layout->sites[i];
        if (site->where != ADAPTER_OF_EMBEDDING)
            continue;
        adapter->base = site->base;
        adapter->a = site->b; /* of the product A . B, whose transpose a projection would have */
        adapter->b = site->a;
        adapter->r = site->r;
        adapter->scale = site->scale;
    }
}

void embedding_adapter_close(struct embedding_adapter *adapter)
{
    if (adapter->set != NULL)
        adapter->set->backend->ops->free(adapter->set->backend, adapter->room);
    memset(adapter, 0, sizeof *adapter);
}

void embedding_adapter_merge(struct embedding_adapter *adapter, const struct param_set *set, const struct param *param)
{
    adapter->merged_set = set;
    adapter->merged = param;
}

size_t embedding_adapter_bytes(const struct embedding_adapter *adapter)
{
    return adapter->a == NULL ? 0 : (size_t)EMBEDDING_ROOM * (size_t)adapter->r * sizeof(float);
}

cohort_status embedding_adapter_pack(struct embedding_adapter *adapter, cohort_error *err)
{
    struct backend *be = adapter->set->backend;
    if (adapter->a == NULL)
        return COHORT_OK;
    TRY(be->ops->alloc(be, &adapter->room, embedding_adapter_bytes(adapter), "room of an adapter", err));
    embedding_adapter_refresh(adapter);
    return COHORT_OK;
}

void embedding_adapter_refresh(const struct embedding_adapter *adapter)
{
    struct backend *be = adapter->set->backend;
    if (adapter->merged == NULL)
        return;
    be->ops->fold(be, &(struct fold){.n = adapter->base->shape[0],
                                     .k = adapter->base->shape[1],
                                     .r = adapter->r,
                                     .type = storage_dtype(adapter->base->format),
                                     .w = param_values(adapter->base_set, adapter->base),
                                     .a = param_values(adapter->set, adapter->b),
                                     .b = param_values(adapter->set, adapter->a),
                                     .scale = adapter->scale,
                                     .to = param_values(adapter->merged_set, adapter->merged)});
}

void embedding_forward(const struct model *model, int64_t n, const int32_t *token, float *y)
{
    struct backend *be = model->backend;
    const struct embedding_adapter *change = model->embedding_adapter;
    const bool merged = change != NULL && change->merged != NULL;
    const struct param *table = merged ? change->merged : model->embedding;
    be->ops->embed_forward(
        be, &(struct embed_forward){.tokens = n,
                                    .width = model->config.hidden_size,
                                    .token = token,
                                    .table = param_values(merged ? change->merged_set : model->embedding_set, table),
                                    .type = storage_dtype(table->format),
                                    .y = y});
    if (change != NULL && !merged)
        be->ops->embed_change_forward(be, &(struct embed_change_forward){.tokens = n,
                                                                         .width = model->config.hidden_size,
                                                                         .r = change->r,
                                                                         .token = token,
                                                                         .a = param_values(change->set, change->a),
                                                                         .b = param_values(change->set, change->b),
                                                                         .type = storage_dtype(change->a->format),
                                                                         .scale = change->scale,
                                                                         .y = y});
}

/* Of A and B, in chunks of rows. */
static void change_backward(const struct model *model, int64_t n, const int32_t *token, const float *dy)
{
    const struct embedding_adapter *change = model->embedding_adapter;
    struct backend *be = model->backend;
    const int64_t C = model->config.hidden_size;
    for (int64_t row = 0; row < n; row += EMBEDDING_ROOM)
        be->ops->embed_change_backward(
            be, &(struct embed_change_backward){.tokens = n - row < EMBEDDING_ROOM ? n - row : EMBEDDING_ROOM,
                                                .width = C,
                                                .r = change->r,
                                                .vocab = model->config.vocab_size,
                                                .token = token + row,
                                                .a = param_values(change->set, change->a),
                                                .b = param_values(change->set, change->b),
                                                .type = storage_dtype(change->a->format),
                                                .scale = change->scale,
                                                .dy = dy + row * C,
                                                .d = change->room,
                                                .da = param_grad(change->set, change->a),
                                                .db = param_grad(change->set, change->b)});
}

void embedding_backward(const struct model *model, int64_t n, const int32_t *token, const float *dy)
{
    struct backend *be = model->backend;
    float *d_table = param_grad(model->embedding_set, model->embedding);
    if (model->embedding_adapter != NULL &&
        param_grad(model->embedding_adapter->set, model->embedding_adapter->a) != NULL)
        change_backward(model, n, token, dy);
    if (d_table != NULL)
        be->ops->embed_backward(be, &(struct embed_backward){.tokens = n,
                                                             .width = model->config.hidden_size,
                                                             .vocab = model->config.vocab_size,
                                                             .token = token,
                                                             .dy = dy,
                                                             .d_table = d_table});
}

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
        adapter->magnitude = site->magnitude;
        adapter->r = site->r;
        adapter->scale = site->scale;
    }
}

void embedding_adapter_close(struct embedding_adapter *adapter)
{
    float *const own[] = {adapter->room, adapter->factor, adapter->norm, adapter->z, adapter->dz};
    for (size_t i = 0; adapter->set != NULL && i < sizeof own / sizeof *own; i++)
        adapter->set->backend->ops->free(adapter->set->backend, own[i]);
    memset(adapter, 0, sizeof *adapter);
}

void embedding_adapter_merge(struct embedding_adapter *adapter, const struct param_set *set, const struct param *param)
{
    adapter->merged_set = set;
    adapter->merged = param;
}

size_t embedding_adapter_bytes(const struct embedding_adapter *adapter)
{
    const size_t room = (size_t)EMBEDDING_ROOM * sizeof(float);
    if (adapter->a == NULL)
        return 0;
    const size_t columns = (size_t)adapter->base->shape[1];
    return room * (size_t)adapter->r + (adapter->magnitude == NULL ? 0 : 2 * columns * (sizeof(float) + room));
}

/* What a magnitude needs. */
static cohort_status make_factors(struct embedding_adapter *adapter, cohort_error *err)
{
    static const char what[] = "factors of an adapter";
    struct backend *be = adapter->set->backend;
    const size_t columns = (size_t)adapter->base->shape[1] * sizeof(float);
    TRY(be->ops->alloc(be, &adapter->factor, columns, what, err));
    TRY(be->ops->alloc(be, &adapter->norm, columns, what, err));
    TRY(be->ops->alloc(be, &adapter->z, EMBEDDING_ROOM * columns, what, err));
    return be->ops->alloc(be, &adapter->dz, EMBEDDING_ROOM * columns, what, err);
}

cohort_status embedding_adapter_pack(struct embedding_adapter *adapter, cohort_error *err)
{
    struct backend *be = adapter->set->backend;
    if (adapter->a == NULL)
        return COHORT_OK;
    TRY(be->ops->alloc(be, &adapter->room, (size_t)EMBEDDING_ROOM * (size_t)adapter->r * sizeof(float),
                       "room of an adapter", err));
    if (adapter->magnitude != NULL)
        TRY(make_factors(adapter, err));
    embedding_adapter_refresh(adapter);
    return COHORT_OK;
}

static struct fold fold_of(const struct embedding_adapter *adapter)
{
    return (struct fold){.n = adapter->base->shape[0],
                         .k = adapter->base->shape[1],
                         .r = adapter->r,
                         .type = storage_dtype(adapter->base->format),
                         .w = param_values(adapter->base_set, adapter->base),
                         .a = param_values(adapter->set, adapter->b),
                         .b = param_values(adapter->set, adapter->a),
                         .scale = adapter->scale,
                         .by_column = true};
}

void embedding_adapter_refresh(const struct embedding_adapter *adapter)
{
    struct backend *be = adapter->set->backend;
    if (adapter->merged == NULL && adapter->magnitude == NULL)
        return;
    struct fold fold = fold_of(adapter);
    if (adapter->magnitude != NULL) {
        fold.magnitude = param_values(adapter->set, adapter->magnitude);
        fold.norm = adapter->norm;
        fold.factor = adapter->factor;
    }
    if (adapter->merged != NULL)
        fold.to = param_values(adapter->merged_set, adapter->merged);
    be->ops->fold(be, &fold);
}

void embedding_adapter_start_magnitudes(const struct embedding_adapter *adapter)
{
    struct backend *be = adapter->set->backend;
    if (adapter->magnitude == NULL)
        return;
    struct fold fold = fold_of(adapter);
    fold.norm = param_values(adapter->set, adapter->magnitude);
    be->ops->fold(be, &fold);
}

/* y[n, C] of rows of a table. */
static void take_rows(const struct model *model, const struct param_set *set, const struct param *table, int64_t n,
                      const int32_t *token, float *y)
{
    struct backend *be = model->backend;
    be->ops->embed_forward(be, &(struct embed_forward){.tokens = n,
                                                       .width = model->config.hidden_size,
                                                       .token = token,
                                                       .table = param_values(set, table),
                                                       .type = storage_dtype(table->format),
                                                       .y = y});
}

/* y + s A[token] . B. */
static void add_change(const struct model *model, int64_t n, const int32_t *token, float *y)
{
    const struct embedding_adapter *change = model->embedding_adapter;
    struct backend *be = model->backend;
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

void embedding_forward(const struct model *model, int64_t n, const int32_t *token, float *y)
{
    const struct embedding_adapter *change = model->embedding_adapter;
    if (change != NULL && change->merged != NULL) {
        take_rows(model, change->merged_set, change->merged, n, token, y);
        return;
    }
    take_rows(model, model->embedding_set, model->embedding, n, token, y);
    if (change == NULL)
        return;
    add_change(model, n, token, y);
    if (change->magnitude != NULL)
        model->backend->ops->magnitude_forward(model->backend,
                                               &(struct magnitude_forward){.rows = n,
                                                                           .width = model->config.hidden_size,
                                                                           .z = y,
                                                                           .factor = change->factor,
                                                                           .y = y,
                                                                           .y_type = DTYPE_F32});
}

/* The gradient of the magnitudes from dy of a chunk of rows; z is computed again. The gradient behind them is in dz. */
static const float *magnitude_gradient(const struct model *model, int64_t n, const int32_t *token, const float *dy)
{
    const struct embedding_adapter *change = model->embedding_adapter;
    const int64_t C = model->config.hidden_size;
    take_rows(model, model->embedding_set, model->embedding, n, token, change->z);
    add_change(model, n, token, change->z);
    model->backend->ops->magnitude_backward(
        model->backend,
        &(struct magnitude_backward){
            .rows = n,
            .width = C,
            .dy = dy,
            .z = change->z,
            .factor = change->factor,
            .type = DTYPE_F32,
            .dz = change->dz,
            .n_parts = 1,
            .part[0] = {.n = C, .norm = change->norm, .d_magnitude = param_grad(change->set, change->magnitude)}});
    return change->dz;
}

/* Of A, B and the magnitudes, in chunks of rows. */
static void change_backward(const struct model *model, int64_t n, const int32_t *token, const float *dy)
{
    const struct embedding_adapter *change = model->embedding_adapter;
    struct backend *be = model->backend;
    const int64_t C = model->config.hidden_size;
    for (int64_t row = 0; row < n; row += EMBEDDING_ROOM) {
        const int64_t rows = n - row < EMBEDDING_ROOM ? n - row : EMBEDDING_ROOM;
        const float *d = dy + row * C;
        if (change->magnitude != NULL)
            d = magnitude_gradient(model, rows, token + row, d);
        be->ops->embed_change_backward(be, &(struct embed_change_backward){.tokens = rows,
                                                                           .width = C,
                                                                           .r = change->r,
                                                                           .vocab = model->config.vocab_size,
                                                                           .token = token + row,
                                                                           .a = param_values(change->set, change->a),
                                                                           .b = param_values(change->set, change->b),
                                                                           .type = storage_dtype(change->a->format),
                                                                           .scale = change->scale,
                                                                           .dy = d,
                                                                           .d = change->room,
                                                                           .da = param_grad(change->set, change->a),
                                                                           .db = param_grad(change->set, change->b)});
    }
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

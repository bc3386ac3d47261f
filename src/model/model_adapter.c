#include "model/model_adapter.h"

#include <assert.h>
#include <string.h>

static bool within(const struct param *param, const struct param *first, int64_t rows)
{
    for (const struct param *part = first; part != NULL && rows > 0; rows -= part->shape[0], part++)
        if (part == param)
            return true;
    return false;
}

/* Every tensor in place of one of the base's is computed with: those of projections, of norms and the embedding. */
static cohort_status check_saved(const struct model *model, const struct adapter_layout *layout, cohort_error *err)
{
    for (int32_t s = 0; s < layout->n_saved; s++) {
        const struct param *base = layout->saved[s].base;
        bool used = model_places(model, base);
        for (int32_t i = 0; i < model_linears(model) && !used; i++) {
            const struct linear *linear = model_linear(model, i);
            used = linear != NULL && (within(base, linear->weight, linear->n) || within(base, linear->bias, linear->n));
        }
        if (!used)
            return error_set(err, COHORT_ERR_UNSUPPORTED,
                             "modules_to_save: %s is no projection, norm or embedding, and is not trained beside an "
                             "adapter; leave its module out, or merge the adapter with cohort merge",
                             base->name);
    }
    return COHORT_OK;
}

static bool is_changed(const struct adapter_layout *layout, const struct linear *linear)
{
    for (int32_t s = 0; s < layout->n_sites; s++)
        if (layout->sites[s].where != ADAPTER_OF_EMBEDDING && within(layout->sites[s].base, linear->weight, linear->n))
            return true;
    return false;
}

/* Adds tensors like those from first on that have so many rows together. */
static cohort_status add_like(struct param_table *table, size_t *capacity, const struct param *first, int64_t rows,
                              cohort_error *err)
{
    for (const struct param *part = first; rows > 0; rows -= param_rows(part), part++) {
        TRY(mem_grow(&table->params, capacity, (size_t)table->n_params + 1, sizeof *table->params,
                     "table of merged weights", err));
        table->params[table->n_params++] = *part;
        table->params[table->n_params - 1].adjacent = part != first;
    }
    return COHORT_OK;
}

/* Gives the projections that have an adapter merged weights: a set with tensors like theirs. */
static cohort_status open_merged(struct model_adapter *adapter, const struct model *model, cohort_error *err)
{
    struct param_table table = {0};
    size_t capacity = 0;
    cohort_status status = COHORT_OK;
    for (int32_t i = 0; i < adapter->n_linears; i++) {
        const struct linear *linear = model_linear(model, i);
        if (linear != NULL && is_changed(&adapter->layout, linear))
            TRY_GOTO(add_like(&table, &capacity, linear->weight, linear->n, err));
    }
    for (int32_t i = 0; i < adapter->n_stacks; i++) {
        const struct expert_adapter *stack = &adapter->stacks[i];
        if (stack->a != NULL)
            TRY_GOTO(add_like(&table, &capacity, stack->of->weight, stack->of->n_experts * stack->of->n, err));
    }
    if (adapter->embedding.a != NULL)
        TRY_GOTO(add_like(&table, &capacity, adapter->embedding.base, adapter->embedding.base->shape[0], err));
    TRY_GOTO(param_set_open(&adapter->merged, model->backend, &table, err));
    const struct param *next = adapter->merged.table.params;
    for (int32_t i = 0; i < adapter->n_linears; i++) {
        const struct linear *linear = model_linear(model, i);
        if (linear == NULL || !is_changed(&adapter->layout, linear))
            continue;
        TRY_GOTO(linear_adapter_merge(&adapter->linears[i], &adapter->merged, next, err));
        for (int64_t rows = linear->n; rows > 0; next++)
            rows -= next->shape[0];
    }
    for (int32_t i = 0; i < adapter->n_stacks; i++) {
        struct expert_adapter *stack = &adapter->stacks[i];
        if (stack->a == NULL)
            continue;
        TRY_GOTO(expert_adapter_merge(stack, &adapter->merged, next, err));
        for (int64_t rows = stack->of->n_experts * stack->of->n; rows > 0; next++)
            rows -= param_rows(next);
    }
    if (adapter->embedding.a != NULL)
        embedding_adapter_merge(&adapter->embedding, &adapter->merged, next);
cleanup:
    param_table_free(&table);
    return status;
}

/* Of the stacks, or a router. */
static bool changes_experts(const struct model_adapter *adapter)
{
    for (int32_t i = 0; i < adapter->layout.n_sites; i++)
        if (adapter->layout.sites[i].base->expert)
            return true;
    return false;
}

/* Dropout acts on what A reads: nothing else of an adapter goes with it here, and the head's rows are not the tokens. */
static cohort_status open_dropout(struct model_adapter *adapter, const struct adapter_settings *settings,
                                  cohort_error *err)
{
    const struct linear_adapter *head = &adapter->linears[adapter->n_linears - 1];
    const char *with = settings->dora             ? "DoRA (use_dora)"
                       : settings->merged         ? "merged weights (lora_merge)"
                       : head->change.n_parts > 0 ? "an adapter of the head (lm_head)"
                       : changes_experts(adapter) ? "adapters of experts and routers, as in PEFT"
                                                  : NULL;
    if (settings->dropout == 0.0)
        return COHORT_OK;
    if (settings->dropout > 0.99)
        return error_set(err, COHORT_ERR_ARGUMENT, "lora_dropout %g: expected at most 0.99", settings->dropout);
    if (with != NULL)
        return error_set(err, COHORT_ERR_UNSUPPORTED, "lora_dropout %g does not go with %s: leave one of them out",
                         settings->dropout, with);
    for (int32_t i = 0; i < adapter->n_linears; i++)
        if (adapter->linears[i].a != NULL) {
            adapter->linears[i].dropout = &adapter->dropout;
            adapter->linears[i].number = (uint64_t)i;
        }
    return COHORT_OK;
}

/* Enough rows for the products to be fast, of no more memory than that needs. */
static void size_room(struct model_adapter *adapter)
{
    enum { ELEMENTS = 1 << 24, FEWEST = 16, MOST = 4096 };
    struct adapter_room *room = &adapter->room;
    for (int32_t i = 0; i < adapter->n_linears; i++)
        if (linear_adapter_has_magnitudes(&adapter->linears[i]) && adapter->linears[i].of->n > room->width)
            room->width = adapter->linears[i].of->n;
    for (int32_t i = 0; i < adapter->n_linears; i++)
        if (adapter->linears[i].dropout != NULL && adapter->linears[i].change.k > room->width)
            room->width = adapter->linears[i].change.k;
    if (room->width == 0)
        return;
    room->rows = ELEMENTS / room->width;
    room->rows = room->rows < FEWEST ? FEWEST : room->rows > MOST ? MOST : room->rows;
}

static size_t room_bytes(const struct model_adapter *adapter, size_t element)
{
    return (size_t)(adapter->room.rows * adapter->room.width) * element;
}

/* stack: NULL of a layer without experts. */
static void open_stack(struct model_adapter *adapter, struct expert_adapter *to, const struct expert_stack *stack)
{
    const struct adapter_site *site = NULL;
    for (int32_t i = 0; stack != NULL && i < adapter->layout.n_sites; i++)
        if (adapter->layout.sites[i].base == stack->weight)
            site = &adapter->layout.sites[i];
    if (stack != NULL)
        expert_adapter_open(to, &adapter->set, stack, site);
}

cohort_status model_adapter_open(struct model_adapter **out, const struct model *model,
                                 const struct adapter_settings *settings, cohort_error *err)
{
    struct model_adapter *adapter = NULL;
    cohort_status status = COHORT_OK;
    *out = NULL;
    TRY(mem_alloc(&adapter, 1, sizeof *adapter, "adapter", err));
    adapter->type = model->type;
    adapter->base = &model->base;
    TRY_GOTO(adapter_layout_open(&adapter->layout, settings, &model->base.table, &model->config,
                                 storage_of(model->type), err));
    TRY_GOTO(check_saved(model, &adapter->layout, err));
    struct param_table table = adapter->layout.table;
    memset(&adapter->layout.table, 0, sizeof adapter->layout.table);
    TRY_GOTO(param_set_open(&adapter->set, model->backend, &table, err));
    adapter->layout.table = adapter->set.table;
    adapter->n_linears = model_linears(model);
    TRY_GOTO(mem_alloc(&adapter->linears, (size_t)adapter->n_linears, sizeof *adapter->linears, "adapter", err));
    for (int32_t i = 0; i < adapter->n_linears; i++)
        if (model_linear(model, i) == NULL)
            adapter->linears[i] =
                (struct linear_adapter){.set = &adapter->set, .of = model_linear(model, 0)}; /* of nothing */
        else
            TRY_GOTO(linear_adapter_open(&adapter->linears[i], &adapter->set, model_linear(model, i), &adapter->layout,
                                         &adapter->room, err));
    adapter->n_stacks = model_stacks(model);
    TRY_GOTO(mem_alloc(&adapter->stacks, (size_t)adapter->n_stacks, sizeof *adapter->stacks, "adapter", err));
    for (int32_t i = 0; i < adapter->n_stacks; i++)
        open_stack(adapter, &adapter->stacks[i], model_stack(model, i));
    embedding_adapter_open(&adapter->embedding, &adapter->set, adapter->base, &adapter->layout);
    if (settings->merged)
        TRY_GOTO(open_merged(adapter, model, err));
    TRY_GOTO(open_dropout(adapter, settings, err));
    size_room(adapter);
    *out = adapter;
    return COHORT_OK;
cleanup:
    model_adapter_destroy(adapter);
    return status;
}

void model_adapter_destroy(struct model_adapter *adapter)
{
    if (adapter == NULL)
        return;
    for (int32_t i = 0; adapter->linears != NULL && i < adapter->n_linears; i++)
        linear_adapter_close(&adapter->linears[i]);
    for (int32_t i = 0; adapter->stacks != NULL && i < adapter->n_stacks; i++)
        expert_adapter_close(&adapter->stacks[i]);
    embedding_adapter_close(&adapter->embedding);
    if (adapter->set.backend != NULL) {
        adapter->set.backend->ops->free(adapter->set.backend, adapter->room.z);
        adapter->set.backend->ops->free(adapter->set.backend, adapter->room.dz);
    }
    if (adapter->set.table.params != NULL) /* the same as the layout's */
        memset(&adapter->layout.table, 0, sizeof adapter->layout.table);
    adapter_layout_free(&adapter->layout);
    param_set_close(&adapter->set);
    param_set_close(&adapter->merged);
    mem_free(adapter->linears);
    mem_free(adapter->stacks);
    mem_free(adapter);
}

static cohort_status pack(struct model_adapter *adapter, cohort_error *err)
{
    struct backend *be = adapter->set.backend;
    if (adapter->merged.table.n_params > 0)
        TRY(param_set_allocate(&adapter->merged, err));
    if (adapter->room.rows > 0) {
        TRY(be->ops->alloc(be, &adapter->room.z, room_bytes(adapter, sizeof(float)), "room of an adapter", err));
        TRY(be->ops->alloc(be, &adapter->room.dz, room_bytes(adapter, dtype_bytes(adapter->type)), "room of an adapter",
                           err));
    }
    for (int32_t i = 0; i < adapter->n_linears; i++)
        TRY(linear_adapter_pack(&adapter->linears[i], err));
    for (int32_t i = 0; i < adapter->n_stacks; i++) {
        TRY(stop_check(be->stop, err));
        TRY(expert_adapter_pack(&adapter->stacks[i], err));
    }
    TRY(embedding_adapter_pack(&adapter->embedding, err));
    return stop_check(adapter->set.backend->stop, err); /* a stop may have cut the packing short */
}

cohort_status model_adapter_read(struct model_adapter *adapter, const char *dir,
                                 const struct adapter_settings *settings, struct weight_files *files, cohort_error *err)
{
    TRY(param_set_allocate(&adapter->set, err));
    TRY(adapter_read(dir, settings, &adapter->layout, param_set_store, &adapter->set, files, err));
    return pack(adapter, err);
}

/* What begins as the base has it. */
static void start_from_base(struct model_adapter *adapter)
{
    struct backend *be = adapter->set.backend;
    for (int32_t i = 0; i < adapter->n_linears; i++)
        linear_adapter_start_magnitudes(&adapter->linears[i]);
    embedding_adapter_start_magnitudes(&adapter->embedding);
    for (int32_t i = 0; i < adapter->layout.n_saved; i++) {
        const struct adapter_saved *saved = &adapter->layout.saved[i];
        assert(saved->own->format == saved->base->format);
        be->ops->copy(be, param_values(&adapter->set, saved->own), param_values(adapter->base, saved->base),
                      storage_bytes(saved->base->format, saved->base->count));
    }
}

cohort_status model_adapter_start(struct model_adapter *adapter, uint64_t seed, cohort_error *err)
{
    enum { PART = 1 << 20 }; /* elements at a time */
    struct checkpoint_init init = {.seed = seed};
    void *part = NULL;
    cohort_status status = COHORT_OK;
    TRY(mem_alloc(&part, PART, sizeof(float), "part of a tensor", err));
    TRY_GOTO(param_set_allocate(&adapter->set, err));
    for (int32_t i = 0; i < adapter->set.table.n_params; i++) {
        const struct param *param = &adapter->set.table.params[i];
        for (int64_t first = 0; first < param->count; first += PART) {
            const int64_t count = param->count - first < PART ? param->count - first : PART;
            TRY_GOTO(adapter_init_fetch(&init, param, first, count, part, err));
            TRY_GOTO(param_set_store(&adapter->set, param, first, count, part, err));
        }
    }
    start_from_base(adapter);
    TRY_GOTO(pack(adapter, err));
cleanup:
    mem_free(part);
    return status;
}

void model_adapter_refresh(const struct model_adapter *adapter)
{
    for (int32_t i = 0; i < adapter->n_linears; i++)
        linear_adapter_refresh(&adapter->linears[i]);
    for (int32_t i = 0; i < adapter->n_stacks; i++)
        expert_adapter_refresh(&adapter->stacks[i]);
    embedding_adapter_refresh(&adapter->embedding);
}

size_t model_adapter_bytes(const struct model_adapter *adapter)
{
    size_t bytes = adapter->set.table.bytes + adapter->merged.table.bytes +
                   room_bytes(adapter, sizeof(float) + dtype_bytes(adapter->type));
    for (int32_t i = 0; i < adapter->n_linears; i++)
        bytes += linear_adapter_packed_bytes(&adapter->linears[i]);
    for (int32_t i = 0; i < adapter->n_stacks; i++)
        bytes += expert_adapter_packed_bytes(&adapter->stacks[i]);
    return bytes + embedding_adapter_bytes(&adapter->embedding);
}

void model_adapter_extent(const struct model_adapter *adapter, int64_t *rank, int64_t *depth, int64_t *expert_rank)
{
    *rank = *depth = *expert_rank = 0;
    for (int32_t i = 0; i < adapter->n_stacks; i++)
        *expert_rank = adapter->stacks[i].change.r > *expert_rank ? adapter->stacks[i].change.r : *expert_rank;
    for (int32_t i = 0; i < adapter->n_linears; i++) {
        const struct lowrank *change = &adapter->linears[i].change;
        *rank = change->r > *rank ? change->r : *rank;
        *depth = change->n_parts > 0 && change->k > *depth ? change->k : *depth;
        for (int32_t p = 0; p < change->n_parts; p++)
            *depth = change->part[p].n > *depth ? change->part[p].n : *depth;
    }
}

void model_adapter_drop(struct model_adapter *adapter, const struct adapter_dropout *dropout)
{
    adapter->dropout = *dropout;
}

void model_wear(struct model *model, const struct model_adapter *adapter)
{
    for (int32_t i = 0; i < model_linears(model); i++) {
        const struct linear_adapter *of = adapter == NULL ? NULL : &adapter->linears[i];
        if (model_linear(model, i) != NULL)
            model_linear(model, i)->adapter = of != NULL && linear_adapter_acts(of) ? of : NULL;
    }
    for (int32_t i = 0; i < model_stacks(model); i++) {
        const struct expert_adapter *of = adapter == NULL ? NULL : &adapter->stacks[i];
        if (model_stack(model, i) != NULL)
            model_stack(model, i)->adapter = of != NULL && of->a != NULL ? of : NULL;
    }
    model->worn = adapter;
    model->embedding_adapter = adapter == NULL || adapter->embedding.a == NULL ? NULL : &adapter->embedding;
    model_place(model, adapter == NULL ? NULL : &adapter->set, adapter == NULL ? NULL : &adapter->layout);
}

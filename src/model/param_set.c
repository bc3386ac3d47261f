#include "model/param_set.h"

#include <assert.h>
#include <string.h>

static int32_t index_of(const struct param_set *set, const struct param *param)
{
    assert(param >= set->table.params && param < set->table.params + set->table.n_params);
    return (int32_t)(param - set->table.params);
}

/* Lays out what trains (first >= 0) in the arrays: each tensor begins at a multiple of PARAM_ALIGNMENT, unless it is
 * adjacent. */
static void lay_out_training(struct param_set *set)
{
    struct param_training *t = &set->training;
    const int64_t unit = PARAM_ALIGNMENT;
    t->n_elements = 0;
    for (int32_t i = 0; i < set->table.n_params; i++) {
        const struct param *param = &set->table.params[i];
        if (t->first[i] < 0)
            continue;
        if (!param->adjacent)
            t->n_elements = (t->n_elements + unit - 1) / unit * unit;
        t->first[i] = t->n_elements;
        t->n_elements += param->count;
    }
    t->n_elements = (t->n_elements + unit - 1) / unit * unit;
}

cohort_status param_set_open(struct param_set *set, struct backend *backend, struct param_table *table,
                             cohort_error *err)
{
    memset(set, 0, sizeof *set);
    set->backend = backend;
    set->table = *table;
    memset(table, 0, sizeof *table);
    TRY(mem_alloc(&set->training.first, (size_t)set->table.n_params, sizeof *set->training.first, "parameter table",
                  err));
    param_set_layout(set);
    return COHORT_OK;
}

void param_set_close(struct param_set *set)
{
    struct backend *be = set->backend;
    struct param_training *t = &set->training;
    if (be != NULL) {
        be->ops->free(be, set->values);
        be->ops->free(be, t->grad);
        be->ops->free(be, t->m);
        be->ops->free(be, t->v);
        be->ops->free(be, t->low);
    }
    mem_free(t->first);
    param_table_free(&set->table);
    memset(set, 0, sizeof *set);
}

void param_set_layout(struct param_set *set)
{
    assert(set->values == NULL);
    param_table_layout(&set->table);
    lay_out_training(set);
}

void param_set_freeze(struct param_set *set, const struct param *param)
{
    int32_t i = index_of(set, param);
    assert(set->training.grad == NULL && !param->adjacent);
    do
        set->training.first[i++] = -1;
    while (i < set->table.n_params && set->table.params[i].adjacent);
    lay_out_training(set);
}

cohort_status param_set_allocate(struct param_set *set, cohort_error *err)
{
    assert(set->values == NULL);
    return set->backend->ops->alloc(set->backend, &set->values, set->table.bytes, "weights", err);
}

void param_set_copy(struct param_set *to, const struct param_set *from)
{
    assert(to->table.bytes == from->table.bytes && to->backend == from->backend);
    to->backend->ops->copy(to->backend, to->values, from->values, from->table.bytes);
}

/* Whether the master of anything that trains is split into value and low half. */
static bool any_low(const struct param_set *set)
{
    for (int32_t i = 0; i < set->table.n_params; i++)
        if (set->training.first[i] >= 0 && set->table.params[i].format == STORAGE_BF16)
            return true;
    return false;
}

cohort_status param_set_train_begin(struct param_set *set, enum dtype moment_type, cohort_error *err)
{
    struct backend *be = set->backend;
    struct param_training *t = &set->training;
    const size_t n = (size_t)t->n_elements, moment = n * dtype_bytes(moment_type);
    assert(t->grad == NULL && n > 0);
    t->moment_type = moment_type;
    TRY(be->ops->alloc(be, &t->grad, n * sizeof *t->grad, "gradient", err));
    TRY(be->ops->alloc(be, &t->m, moment, "optimizer's first moment", err));
    TRY(be->ops->alloc(be, &t->v, moment, "optimizer's second moment", err));
    if (any_low(set))
        TRY(be->ops->alloc(be, &t->low, n * sizeof *t->low, "low halves of the master weights", err));
    return COHORT_OK;
}

size_t param_set_train_bytes(const struct param_set *set, enum dtype moment_type)
{
    return (size_t)set->training.n_elements *
           (sizeof(float) + 2 * dtype_bytes(moment_type) + (any_low(set) ? sizeof(int16_t) : 0));
}

void param_set_zero_grad(struct param_set *set)
{
    set->backend->ops->zero(set->backend, set->training.grad, (size_t)set->training.n_elements * sizeof(float));
}

void *param_values(const struct param_set *set, const struct param *param)
{
    return (char *)set->values + param->offset;
}

bool param_trains(const struct param_set *set, const struct param *param)
{
    return set->training.first[index_of(set, param)] >= 0;
}

float *param_grad(const struct param_set *set, const struct param *param)
{
    if (!param_trains(set, param))
        return NULL;
    assert(set->training.grad != NULL);
    return set->training.grad + set->training.first[index_of(set, param)];
}

cohort_status param_set_fetch(void *context, const struct param *param, int64_t first, int64_t count, void *to,
                              cohort_error *err)
{
    (void)err;
    const struct param_set *set = context;
    set->backend->ops->download(set->backend, to,
                                (const char *)param_values(set, param) + storage_bytes(param->format, first),
                                storage_bytes(param->format, count));
    return COHORT_OK;
}

cohort_status param_set_store(void *context, const struct param *param, int64_t first, int64_t count, const void *data,
                              cohort_error *err)
{
    const struct param_set *set = context;
    TRY(stop_check(set->backend->stop, err));
    set->backend->ops->upload(set->backend, (char *)param_values(set, param) + storage_bytes(param->format, first),
                              data, storage_bytes(param->format, count));
    return COHORT_OK;
}

#include "model/linear_adapter.h"

#include "model/linear.h"

#include <assert.h>
#include <string.h>

static const struct adapter_site *site_of(const struct adapter_layout *layout, const struct param *base)
{
    for (int32_t i = 0; i < layout->n_sites; i++)
        if (layout->sites[i].base == base)
            return &layout->sites[i];
    return NULL;
}

void linear_adapter_open(struct linear_adapter *adapter, const struct param_set *set, const struct linear *linear,
                         const struct adapter_layout *layout)
{
    const struct param_table *base = &linear->set->table;
    const struct param *end = base->params + base->n_params;
    int64_t column = 0;
    *adapter = (struct linear_adapter){.set = set, .change = {.k = linear->k}};
    for (const struct param *part = linear->weight; part == linear->weight || (part < end && part->adjacent); part++) {
        const struct adapter_site *site = site_of(layout, part);
        if (site != NULL) {
            struct lowrank *change = &adapter->change;
            const int32_t i = change->n_parts++;
            assert(i < LOWRANK_PARTS);
            adapter->a = i == 0 ? site->a : adapter->a;
            assert(site->a == adapter->a + i && (i == 0 || site->a->adjacent));
            adapter->b[i] = site->b;
            change->part[i] =
                (struct lowrank_part){.column = column, .n = part->shape[0], .r = site->r, .scale = site->scale};
            change->r += site->r;
        }
        column += part->shape[0];
    }
}

void linear_adapter_close(struct linear_adapter *adapter)
{
    if (adapter->set != NULL) {
        struct backend *be = adapter->set->backend;
        be->ops->weight_destroy(be, adapter->packed_a);
        for (int i = 0; i < LOWRANK_PARTS; i++)
            be->ops->weight_destroy(be, adapter->packed_b[i]);
    }
    memset(adapter, 0, sizeof *adapter);
}

/* Of A with those adjacent to it (part -1), or of the B of a part. The set may still have no values. */
static struct weight_source source_of(const struct linear_adapter *adapter, int32_t part)
{
    const struct param_set *set = adapter->set;
    const struct param *param = part < 0 ? adapter->a : adapter->b[part];
    return (struct weight_source){.format = param->format,
                                  .data = set->values == NULL ? NULL : param_values(set, param),
                                  .n = part < 0 ? adapter->change.r : adapter->change.part[part].n,
                                  .k = part < 0 ? adapter->change.k : adapter->change.part[part].r,
                                  .lowrank = true};
}

size_t linear_adapter_packed_bytes(const struct linear_adapter *adapter)
{
    struct backend *be = adapter->set->backend;
    size_t bytes = 0;
    for (int32_t i = -1; adapter->a != NULL && i < adapter->change.n_parts; i++) {
        const struct weight_source source = source_of(adapter, i);
        bytes += be->ops->weight_bytes(be, &source);
    }
    return bytes;
}

cohort_status linear_adapter_pack(struct linear_adapter *adapter, cohort_error *err)
{
    struct backend *be = adapter->set->backend;
    for (int32_t i = -1; adapter->a != NULL && i < adapter->change.n_parts; i++) {
        const struct weight_source source = source_of(adapter, i);
        TRY(be->ops->weight_create(be, i < 0 ? &adapter->packed_a : &adapter->packed_b[i], &source, err));
    }
    adapter->change.a = adapter->packed_a;
    for (int32_t i = 0; i < adapter->change.n_parts; i++)
        adapter->change.part[i].b = adapter->packed_b[i];
    return COHORT_OK;
}

void linear_adapter_refresh(const struct linear_adapter *adapter)
{
    struct backend *be = adapter->set->backend;
    if (adapter->a == NULL)
        return;
    be->ops->weight_refresh(be, adapter->packed_a);
    for (int32_t i = 0; i < adapter->change.n_parts; i++)
        be->ops->weight_refresh(be, adapter->packed_b[i]);
}

void linear_adapter_forward(const struct linear_adapter *adapter, const struct matmul_forward *product)
{
    struct backend *be = adapter->set->backend;
    be->ops->lowrank_forward(be, &(struct lowrank_forward){.change = &adapter->change, .product = product});
}

void linear_adapter_backward(const struct linear_adapter *adapter, int64_t m, const void *dy, int64_t dy_stride,
                             const void *x, void *dx, enum dtype dx_type)
{
    struct backend *be = adapter->set->backend;
    struct lowrank change = adapter->change;
    change.da = param_grad(adapter->set, adapter->a);
    for (int32_t i = 0; i < change.n_parts; i++)
        change.part[i].db = param_grad(adapter->set, adapter->b[i]);
    be->ops->lowrank_backward(
        be, &(struct lowrank_backward){
                .change = &change, .m = m, .dy = dy, .dy_stride = dy_stride, .x = x, .dx = dx, .dx_type = dx_type});
}

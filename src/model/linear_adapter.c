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
                         const struct adapter_layout *layout, const struct adapter_room *room)
{
    const struct param_table *base = &linear->set->table;
    const struct param *end = base->params + base->n_params;
    int64_t column = 0;
    *adapter = (struct linear_adapter){.set = set, .of = linear, .room = room, .change = {.k = linear->k}};
    for (const struct param *part = linear->weight; part == linear->weight || (part < end && part->adjacent); part++) {
        const struct adapter_site *site = site_of(layout, part);
        if (site != NULL) {
            struct lowrank *change = &adapter->change;
            const int32_t i = change->n_parts++;
            assert(i < LOWRANK_PARTS);
            adapter->a = i == 0 ? site->a : adapter->a;
            assert(site->a == adapter->a + i && (i == 0 || site->a->adjacent));
            adapter->b[i] = site->b;
            adapter->base[i] = site->base;
            adapter->magnitude[i] = site->magnitude;
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
        be->ops->free(be, adapter->factor);
        be->ops->free(be, adapter->norm);
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

bool linear_adapter_has_magnitudes(const struct linear_adapter *adapter) { return adapter->magnitude[0] != NULL; }

size_t linear_adapter_packed_bytes(const struct linear_adapter *adapter)
{
    struct backend *be = adapter->set->backend;
    size_t bytes = 0;
    for (int32_t i = -1; adapter->a != NULL && i < adapter->change.n_parts; i++) {
        const struct weight_source source = source_of(adapter, i);
        bytes += be->ops->weight_bytes(be, &source);
    }
    return linear_adapter_has_magnitudes(adapter) ? bytes + 2 * (size_t)adapter->of->n * sizeof(float) : bytes;
}

/* The rows of the weight of part i, with its change. */
static struct fold fold_of(const struct linear_adapter *adapter, int32_t i)
{
    const struct lowrank_part *part = &adapter->change.part[i];
    const struct param *w = adapter->base[i];
    assert(adapter->a[i].format == w->format);
    return (struct fold){.n = part->n,
                         .k = adapter->change.k,
                         .r = part->r,
                         .type = storage_dtype(w->format),
                         .w = param_values(adapter->of->set, w),
                         .a = param_values(adapter->set, adapter->a + i),
                         .b = param_values(adapter->set, adapter->b[i]),
                         .scale = part->scale};
}

static void find_factors(const struct linear_adapter *adapter)
{
    struct backend *be = adapter->set->backend;
    for (int32_t i = 0; i < adapter->change.n_parts; i++) {
        struct fold fold = fold_of(adapter, i);
        fold.magnitude = param_values(adapter->set, adapter->magnitude[i]);
        fold.norm = adapter->norm + adapter->change.part[i].column;
        fold.factor = adapter->factor + adapter->change.part[i].column;
        be->ops->fold(be, &fold);
    }
}

void linear_adapter_start_magnitudes(const struct linear_adapter *adapter)
{
    struct backend *be = adapter->set->backend;
    for (int32_t i = 0; linear_adapter_has_magnitudes(adapter) && i < adapter->change.n_parts; i++) {
        struct fold fold = fold_of(adapter, i);
        fold.norm = param_values(adapter->set, adapter->magnitude[i]);
        be->ops->fold(be, &fold);
    }
}

/* Columns of parts without an adapter keep the factor 1. */
static cohort_status make_factors(struct linear_adapter *adapter, cohort_error *err)
{
    struct backend *be = adapter->set->backend;
    const size_t n = (size_t)adapter->of->n;
    float *ones = NULL;
    TRY(be->ops->alloc(be, &adapter->factor, n * sizeof *ones, "factors of an adapter", err));
    TRY(be->ops->alloc(be, &adapter->norm, n * sizeof *ones, "norms of an adapter", err));
    TRY(mem_alloc(&ones, n, sizeof *ones, "factors of an adapter", err));
    for (size_t i = 0; i < n; i++)
        ones[i] = 1.0f;
    be->ops->upload(be, adapter->factor, ones, n * sizeof *ones);
    mem_free(ones);
    find_factors(adapter);
    return COHORT_OK;
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
    return linear_adapter_has_magnitudes(adapter) ? make_factors(adapter, err) : COHORT_OK;
}

void linear_adapter_refresh(const struct linear_adapter *adapter)
{
    struct backend *be = adapter->set->backend;
    if (adapter->a == NULL)
        return;
    be->ops->weight_refresh(be, adapter->packed_a);
    for (int32_t i = 0; i < adapter->change.n_parts; i++)
        be->ops->weight_refresh(be, adapter->packed_b[i]);
    if (linear_adapter_has_magnitudes(adapter))
        find_factors(adapter);
}

/* z of rows [row, row + m) of the projection's input, in the room. */
static void make_z(const struct linear_adapter *adapter, const struct weight *w, const void *x, int64_t row, int64_t m)
{
    struct backend *be = adapter->set->backend;
    const size_t stride = (size_t)adapter->change.k * dtype_bytes(linear_type(adapter->of));
    const struct matmul_forward product = {.w = w,
                                           .m = m,
                                           .x = (const char *)x + (size_t)row * stride,
                                           .y = adapter->room->z,
                                           .y_stride = adapter->of->n,
                                           .y_type = DTYPE_F32};
    be->ops->lowrank_forward(be, &(struct lowrank_forward){.change = &adapter->change, .product = &product});
}

static int64_t chunk(const struct linear_adapter *adapter, int64_t row, int64_t m)
{
    return m - row < adapter->room->rows ? m - row : adapter->room->rows;
}

static void forward_with_magnitudes(const struct linear_adapter *adapter, const struct matmul_forward *p)
{
    struct backend *be = adapter->set->backend;
    const int64_t n = adapter->of->n;
    assert(p->y_stride == n && (!p->accumulate || p->y_type == DTYPE_F32));
    matmul_make_input(be, p);
    for (int64_t row = 0; row < p->m; row += adapter->room->rows) {
        const int64_t m = chunk(adapter, row, p->m);
        const float *before = p->before != NULL ? p->before : p->y;
        make_z(adapter, p->w, p->x, row, m);
        be->ops->magnitude_forward(
            be, &(struct magnitude_forward){.rows = m,
                                            .width = n,
                                            .z = adapter->room->z,
                                            .factor = adapter->factor,
                                            .before = p->accumulate ? before + row * n : NULL,
                                            .y = (char *)p->y + (size_t)(row * n) * dtype_bytes(p->y_type),
                                            .y_type = p->y_type});
    }
}

void linear_adapter_forward(const struct linear_adapter *adapter, const struct matmul_forward *product)
{
    struct backend *be = adapter->set->backend;
    if (linear_adapter_has_magnitudes(adapter))
        forward_with_magnitudes(adapter, product);
    else
        be->ops->lowrank_forward(be, &(struct lowrank_forward){.change = &adapter->change, .product = product});
}

/* The change with the places of its gradients. */
static struct lowrank with_gradients(const struct linear_adapter *adapter)
{
    struct lowrank change = adapter->change;
    change.da = param_grad(adapter->set, adapter->a);
    for (int32_t i = 0; i < change.n_parts; i++)
        change.part[i].db = param_grad(adapter->set, adapter->b[i]);
    return change;
}

static void product_backward(const struct linear_adapter *adapter, const struct lowrank *change,
                             const struct matmul_backward_input *p, const void *x)
{
    struct backend *be = adapter->set->backend;
    be->ops->matmul_backward_input(be, p);
    be->ops->lowrank_backward(be, &(struct lowrank_backward){.change = change,
                                                             .m = p->m,
                                                             .dy = p->dy,
                                                             .dy_stride = p->dy_stride,
                                                             .x = x,
                                                             .dx = p->dx,
                                                             .dx_type = p->dx_type});
}

/* z is computed again. */
static void backward_with_magnitudes(const struct linear_adapter *adapter, const struct lowrank *change,
                                     const struct matmul_backward_input *p, const void *x)
{
    struct backend *be = adapter->set->backend;
    const struct adapter_room *room = adapter->room;
    const enum dtype type = linear_type(adapter->of);
    const int64_t n = adapter->of->n, k = change->k;
    struct magnitude_backward scaled = {
        .width = n, .z = room->z, .factor = adapter->factor, .type = type, .dz = room->dz, .n_parts = change->n_parts};
    assert(p->dy_stride == n);
    for (int32_t i = 0; i < change->n_parts; i++)
        scaled.part[i] = (struct magnitude_part){.column = change->part[i].column,
                                                 .n = change->part[i].n,
                                                 .norm = adapter->norm + change->part[i].column,
                                                 .d_magnitude = param_grad(adapter->set, adapter->magnitude[i])};
    for (int64_t row = 0; row < p->m; row += room->rows) {
        struct matmul_backward_input product = *p;
        make_z(adapter, p->w, x, row, chunk(adapter, row, p->m));
        scaled.rows = product.m = chunk(adapter, row, p->m);
        scaled.dy = (const char *)p->dy + (size_t)(row * n) * dtype_bytes(type);
        be->ops->magnitude_backward(be, &scaled);
        product.dy = room->dz;
        product.dx = (char *)p->dx + (size_t)(row * k) * dtype_bytes(p->dx_type);
        product_backward(adapter, change, &product, (const char *)x + (size_t)(row * k) * dtype_bytes(type));
    }
}

void linear_adapter_backward(const struct linear_adapter *adapter, const struct matmul_backward_input *product,
                             const void *x)
{
    const struct lowrank change = with_gradients(adapter);
    if (linear_adapter_has_magnitudes(adapter))
        backward_with_magnitudes(adapter, &change, product, x);
    else
        product_backward(adapter, &change, product, x);
}

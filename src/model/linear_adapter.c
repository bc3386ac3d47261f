#include "model/linear_adapter.h"

#include "base/rng.h"
#include "model/linear.h"

#include <assert.h>
#include <string.h>

static const struct adapter_site *site_of(const struct adapter_layout *layout, const struct param *base)
{
    for (int32_t i = 0; i < layout->n_sites; i++)
        if (layout->sites[i].base == base && layout->sites[i].where != ADAPTER_OF_EMBEDDING)
            return &layout->sites[i];
    return NULL;
}

/* The adapter's own projection in place of the base's: all parts of a fused one, or none. */
static cohort_status open_instead(struct linear_adapter *adapter, const struct linear *linear,
                                  const struct adapter_layout *layout, cohort_error *err)
{
    const struct param *end = linear->set->table.params + linear->set->table.n_params, *with = NULL, *without = NULL;
    for (const struct param *part = linear->weight; part == linear->weight || (part < end && part->adjacent); part++) {
        const bool own = adapter_saved_as(layout, part) != NULL;
        with = own && with == NULL ? part : with;
        without = !own && without == NULL ? part : without;
    }
    if (with == NULL)
        return COHORT_OK;
    if (without != NULL)
        return error_set(
            err, COHORT_ERR_UNSUPPORTED,
            "modules_to_save: %s is the adapter's own and %s is not, but they are one product here: name "
            "both of them or neither, or merge the adapter with cohort merge and give that folder as --model",
            with->name, without->name);
    TRY(mem_alloc(&adapter->instead, 1, sizeof *adapter->instead, "adapter", err));
    linear_open(adapter->instead, adapter->set, adapter_saved_as(layout, linear->weight),
                linear->bias == NULL ? NULL : adapter_saved_as(layout, linear->bias));
    return COHORT_OK;
}

/* Of part i of the projection. */
static void open_bias(struct linear_adapter *adapter, const struct linear *linear, const struct adapter_layout *layout,
                      int32_t i, int64_t column, const struct adapter_site *site)
{
    struct adapter_bias *bias = &adapter->biases[i];
    *bias = (struct adapter_bias){.column = column, .n = linear->weight[i].shape[0], .base = linear->bias + i};
    bias->own = adapter_saved_as(layout, bias->base);
    bias->of_b = site == NULL ? NULL : site->b_bias;
    bias->scale = site == NULL ? 0.0f : site->scale;
}

cohort_status linear_adapter_open(struct linear_adapter *adapter, const struct param_set *set,
                                  const struct linear *linear, const struct adapter_layout *layout,
                                  const struct adapter_room *room, cohort_error *err)
{
    const struct param_table *base = &linear->set->table;
    const struct param *end = base->params + base->n_params;
    int64_t column = 0;
    int32_t n = 0;
    bool biases = false;
    *adapter = (struct linear_adapter){.set = set, .of = linear, .room = room, .change = {.k = linear->k}};
    TRY(open_instead(adapter, linear, layout, err));
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
        if (linear->bias != NULL && adapter->instead == NULL) {
            assert(n < LOWRANK_PARTS);
            open_bias(adapter, linear, layout, n, column, site);
            biases = biases || adapter->biases[n].own != NULL || adapter->biases[n].of_b != NULL;
            n++;
        }
        column += part->shape[0];
    }
    adapter->n_biases = biases ? n : 0;
    return COHORT_OK;
}

cohort_status linear_adapter_merge(struct linear_adapter *adapter, const struct param_set *set,
                                   const struct param *params, cohort_error *err)
{
    TRY(mem_alloc(&adapter->merged, 1, sizeof *adapter->merged, "adapter", err));
    linear_open(adapter->merged, set, params, NULL);
    assert(adapter->merged->n == adapter->of->n && adapter->merged->k == adapter->of->k);
    return COHORT_OK;
}

bool linear_adapter_acts(const struct linear_adapter *adapter)
{
    return adapter->a != NULL || adapter->instead != NULL || adapter->n_biases > 0;
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
        be->ops->free(be, adapter->bias);
    }
    struct linear *const own[] = {adapter->instead, adapter->merged};
    for (int i = 0; i < 2; i++) {
        if (own[i] != NULL)
            linear_close(own[i]);
        mem_free(own[i]);
    }
    mem_free(adapter->bias_room);
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
    const size_t columns = (size_t)adapter->of->n * sizeof(float);
    bytes += (linear_adapter_has_magnitudes(adapter) ? 2 * columns : 0) + (adapter->n_biases > 0 ? columns : 0);
    bytes += adapter->merged != NULL ? linear_packed_bytes(adapter->merged) : 0;
    return bytes + (adapter->instead != NULL ? linear_packed_bytes(adapter->instead) : 0);
}

/* The rows of the weight of part i, with its change. */
static struct fold fold_of(const struct linear_adapter *adapter, int32_t i)
{
    const struct lowrank_part *part = &adapter->change.part[i];
    const struct param *w = adapter->base[i];
    assert(adapter->a != NULL && adapter->a[i].format == w->format);
    return (struct fold){.n = part->n,
                         .k = adapter->change.k,
                         .r = part->r,
                         .type = storage_dtype(w->format),
                         .w = param_values(adapter->of->set, w),
                         .a = param_values(adapter->set, adapter->a + i),
                         .b = param_values(adapter->set, adapter->b[i]),
                         .scale = part->scale};
}

/* Factors and merged weights, of what there is. */
static void fold_parts(const struct linear_adapter *adapter)
{
    struct backend *be = adapter->set->backend;
    const bool magnitudes = linear_adapter_has_magnitudes(adapter);
    for (int32_t i = 0; (magnitudes || adapter->merged != NULL) && i < adapter->change.n_parts; i++) {
        struct fold fold = fold_of(adapter, i);
        if (magnitudes) {
            fold.magnitude = param_values(adapter->set, adapter->magnitude[i]);
            fold.norm = adapter->norm + adapter->change.part[i].column;
            fold.factor = adapter->factor + adapter->change.part[i].column;
        }
        if (adapter->merged != NULL)
            fold.to =
                param_values(adapter->merged->set, adapter->merged->weight + (adapter->base[i] - adapter->of->weight));
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
    return COHORT_OK;
}

/* Adds scale times a bias of a set to n floats. scale 0: they become the bias. */
static void take_bias(const struct linear_adapter *adapter, const struct param_set *set, const struct param *bias,
                      float scale, float *to)
{
    struct backend *be = set->backend;
    void *values = adapter->bias_room + adapter->of->n;
    be->ops->download(be, values, param_values(set, bias), storage_bytes(bias->format, bias->count));
    for (int64_t i = 0; i < bias->count; i++) {
        const float value = storage_get(bias->format, values, i);
        to[i] = scale == 0.0f ? value : to[i] + scale * value;
    }
}

static void find_bias(const struct linear_adapter *adapter)
{
    struct backend *be = adapter->set->backend;
    for (int32_t i = 0; i < adapter->n_biases; i++) {
        const struct adapter_bias *bias = &adapter->biases[i];
        float *to = adapter->bias_room + bias->column;
        if (bias->own != NULL)
            take_bias(adapter, adapter->set, bias->own, 0.0f, to);
        else
            take_bias(adapter, adapter->of->set, bias->base, 0.0f, to);
        if (bias->of_b != NULL && bias->scale != 0.0f)
            take_bias(adapter, adapter->set, bias->of_b, bias->scale, to);
    }
    be->ops->upload(be, adapter->bias, adapter->bias_room, (size_t)adapter->of->n * sizeof(float));
}

/* Whatever else there is but A and B. */
static cohort_status pack_rest(struct linear_adapter *adapter, cohort_error *err)
{
    struct backend *be = adapter->set->backend;
    const size_t n = (size_t)adapter->of->n;
    if (linear_adapter_has_magnitudes(adapter))
        TRY(make_factors(adapter, err));
    if (adapter->merged != NULL) /* parts without an adapter stay as they are here */
        be->ops->copy(be, param_values(adapter->merged->set, adapter->merged->weight),
                      param_values(adapter->of->set, adapter->of->weight),
                      storage_bytes(adapter->of->weight->format, adapter->of->n * adapter->of->k));
    fold_parts(adapter);
    if (adapter->merged != NULL)
        TRY(linear_pack(adapter->merged, err));
    if (adapter->instead != NULL)
        TRY(linear_pack(adapter->instead, err));
    if (adapter->n_biases == 0)
        return COHORT_OK;
    TRY(mem_alloc(&adapter->bias_room, 2 * n, sizeof(float), "biases of an adapter", err));
    TRY(be->ops->alloc(be, &adapter->bias, n * sizeof(float), "biases of an adapter", err));
    find_bias(adapter);
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
    return pack_rest(adapter, err);
}

void linear_adapter_refresh(const struct linear_adapter *adapter)
{
    struct backend *be = adapter->set->backend;
    if (adapter->a != NULL)
        be->ops->weight_refresh(be, adapter->packed_a);
    for (int32_t i = 0; i < adapter->change.n_parts; i++)
        be->ops->weight_refresh(be, adapter->packed_b[i]);
    fold_parts(adapter);
    if (adapter->merged != NULL)
        linear_refresh(adapter->merged);
    if (adapter->instead != NULL && linear_trains(adapter->instead))
        linear_refresh(adapter->instead);
    if (adapter->n_biases > 0)
        find_bias(adapter);
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

static bool drops(const struct linear_adapter *adapter)
{
    return adapter->dropout != NULL && adapter->dropout->p > 0.0f;
}

/* D of m rows of width k from row on; with accumulate y gets it added. */
static void drop(const struct linear_adapter *adapter, int64_t row, int64_t m, const void *x, enum dtype x_type,
                 void *y, enum dtype y_type, bool accumulate)
{
    struct backend *be = adapter->set->backend;
    const struct adapter_dropout *d = adapter->dropout;
    be->ops->dropout(be, &(struct dropout){.rows = m,
                                           .width = adapter->change.k,
                                           .position = d->position + row,
                                           .stream = d->stream + row,
                                           .seed = rng_stream(d->seed, adapter->number),
                                           .p = d->p,
                                           .x = x,
                                           .x_type = x_type,
                                           .y = y,
                                           .y_type = y_type,
                                           .accumulate = accumulate});
}

static void forward_with_dropout(const struct linear_adapter *adapter, const struct matmul_forward *p)
{
    struct backend *be = adapter->set->backend;
    const enum dtype type = linear_type(adapter->of);
    const int64_t k = adapter->change.k;
    struct matmul_forward rest = *p;
    assert(p->m == adapter->dropout->tokens);
    matmul_make_input(be, p);
    rest.norm = NULL;
    be->ops->matmul_forward(be, &rest);
    rest.w = NULL;
    rest.accumulate = false;
    rest.before = NULL;
    for (int64_t row = 0; row < p->m; row += adapter->room->rows) {
        rest.m = chunk(adapter, row, p->m);
        drop(adapter, row, rest.m, (const char *)p->x + (size_t)(row * k) * dtype_bytes(type), type, adapter->room->dz,
             type, false);
        rest.x = adapter->room->dz;
        rest.y = (char *)p->y + (size_t)(row * p->y_stride) * dtype_bytes(p->y_type);
        be->ops->lowrank_forward(be, &(struct lowrank_forward){.change = &adapter->change, .product = &rest});
    }
}

void linear_adapter_forward(const struct linear_adapter *adapter, const struct matmul_forward *product)
{
    struct backend *be = adapter->set->backend;
    if (adapter->merged != NULL) {
        struct matmul_forward merged = *product;
        merged.w = adapter->merged->packed;
        be->ops->matmul_forward(be, &merged);
    } else if (drops(adapter))
        forward_with_dropout(adapter, product);
    else if (linear_adapter_has_magnitudes(adapter))
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

/* Of the change alone: the gradients, and what it adds to dx. */
static void change_backward(const struct linear_adapter *adapter, const struct lowrank *change,
                            const struct matmul_backward_input *p, const void *x)
{
    struct backend *be = adapter->set->backend;
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
        if (p->dx != NULL) {
            product.dx = (char *)p->dx + (size_t)(row * k) * dtype_bytes(p->dx_type);
            be->ops->matmul_backward_input(be, &product);
        }
        change_backward(adapter, change, &product, (const char *)x + (size_t)(row * k) * dtype_bytes(type));
    }
}

static void backward_with_dropout(const struct linear_adapter *adapter, const struct lowrank *change,
                                  const struct matmul_backward_input *p, const void *x)
{
    struct backend *be = adapter->set->backend;
    const struct adapter_room *room = adapter->room;
    const enum dtype type = linear_type(adapter->of);
    const int64_t k = change->k;
    for (int64_t row = 0; row < p->m; row += room->rows) {
        const int64_t m = chunk(adapter, row, p->m);
        struct matmul_backward_input part = *p;
        drop(adapter, row, m, (const char *)x + (size_t)(row * k) * dtype_bytes(type), type, room->dz, type, false);
        be->ops->zero(be, room->z, (size_t)(m * k) * sizeof(float));
        part.m = m;
        part.dy = (const char *)p->dy + (size_t)(row * p->dy_stride) * dtype_bytes(type);
        part.dx = room->z;
        part.dx_type = DTYPE_F32;
        change_backward(adapter, change, &part, room->dz);
        drop(adapter, row, m, room->z, DTYPE_F32, (char *)p->dx + (size_t)(row * k) * dtype_bytes(p->dx_type),
             p->dx_type, true);
    }
}

void linear_adapter_backward(const struct linear_adapter *adapter, const struct matmul_backward_input *product,
                             const void *x)
{
    struct backend *be = adapter->set->backend;
    const struct lowrank change = with_gradients(adapter);
    const bool magnitudes = linear_adapter_has_magnitudes(adapter);
    struct matmul_backward_input rest = *product;
    if (adapter->merged != NULL) { /* which has all of dx */
        struct matmul_backward_input merged = *product;
        merged.w = adapter->merged->packed;
        be->ops->matmul_backward_input(be, &merged);
        rest.dx = NULL;
    } else if (!magnitudes) {
        be->ops->matmul_backward_input(be, product);
    }
    if (magnitudes)
        backward_with_magnitudes(adapter, &change, &rest, x);
    else if (drops(adapter))
        backward_with_dropout(adapter, &change, &rest, x);
    else
        change_backward(adapter, &change, &rest, x);
}

void linear_adapter_bias_backward(const struct linear_adapter *adapter, int64_t m, const void *dy)
{
    struct backend *be = adapter->set->backend;
    const enum dtype type = linear_type(adapter->of);
    for (int32_t i = 0; i < adapter->n_biases; i++) {
        const struct adapter_bias *bias = &adapter->biases[i];
        const struct param *const trains[] = {bias->own, bias->of_b};
        for (int which = 0; which < 2; which++)
            if (trains[which] != NULL)
                be->ops->bias_backward(
                    be, &(struct bias_backward){.rows = m,
                                                .width = bias->n,
                                                .dy = (const char *)dy + (size_t)bias->column * dtype_bytes(type),
                                                .dy_stride = adapter->of->n,
                                                .type = type,
                                                .scale = which == 0 ? 1.0f : bias->scale,
                                                .d_bias = param_grad(adapter->set, trains[which])});
    }
}

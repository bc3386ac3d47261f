#include "model/linear.h"

#include "backend/ops.h"

#include <assert.h>
#include <string.h>

/* Rows of a tensor and of those adjacent to it. */
static int64_t rows_of(const struct param_set *set, const struct param *first)
{
    const struct param *end = set->table.params + set->table.n_params;
    int64_t rows = param_rows(first);
    for (const struct param *part = first + 1; part < end && part->adjacent; part++)
        rows += param_rows(part);
    return rows;
}

void linear_open(struct linear *linear, const struct param_set *set, const struct param *weight,
                 const struct param *bias)
{
    *linear = (struct linear){
        .set = set, .weight = weight, .bias = bias, .n = rows_of(set, weight), .k = param_columns(weight)};
    assert(bias == NULL || rows_of(set, bias) == linear->n);
}

void linear_close(struct linear *linear)
{
    if (linear->packed != NULL && !linear->borrows)
        linear->set->backend->ops->weight_destroy(linear->set->backend, linear->packed);
    if (linear->whole != NULL)
        linear->set->backend->ops->weight_destroy(linear->set->backend, linear->whole);
    memset(linear, 0, sizeof *linear);
}

enum dtype linear_type(const struct linear *linear) { return storage_act(linear->weight->format); }

/* The set may still have no values: sizes do not need them. */
static struct weight_source source_of(const struct linear *linear)
{
    const struct param_set *set = linear->set;
    const bool there = set->values != NULL && !linear->weight->packed;
    return (struct weight_source){.format = linear->weight->format,
                                  .data = there ? param_values(set, linear->weight) : NULL,
                                  .n = linear->n,
                                  .k = linear->k};
}

size_t linear_packed_bytes(const struct linear *linear)
{
    struct backend *be = linear->set->backend;
    const struct weight_source source = source_of(linear);
    return be->ops->weight_bytes(be, &source);
}

cohort_status linear_pack(struct linear *linear, cohort_error *err)
{
    struct backend *be = linear->set->backend;
    const struct weight_source source = source_of(linear);
    return be->ops->weight_create(be, &linear->packed, &source, err);
}

void linear_refresh(const struct linear *linear)
{
    struct backend *be = linear->set->backend;
    be->ops->weight_refresh(be, linear->packed);
}

void linear_borrow(struct linear *linear, const struct linear *from)
{
    assert(linear->n == from->n && linear->k == from->k && linear->packed == NULL);
    linear->packed = from->packed;
    linear->borrows = true;
}

/* Bytes of the values, which a backend without packed weights reads. */
static size_t natural_bytes(const struct linear *linear)
{
    return storage_bytes(linear->weight->format, linear->n * linear->k);
}

size_t linear_whole_bytes(const struct linear *linear)
{
    const size_t packed = linear_packed_bytes(linear);
    return packed > 0 ? packed : natural_bytes(linear);
}

cohort_status linear_plan_whole(struct linear *linear, void *room, cohort_error *err)
{
    struct backend *be = linear->set->backend;
    struct weight_source source = source_of(linear);
    assert(linear->whole == NULL);
    if (linear_packed_bytes(linear) > 0)
        source.room = room;
    else
        source.data = linear->room = room;
    return be->ops->weight_create(be, &linear->whole, &source, err);
}

void linear_fill_whole(const struct linear *linear)
{
    struct backend *be = linear->set->backend;
    if (linear->room != NULL)
        be->ops->copy(be, linear->room, param_values(linear->set, linear->weight), natural_bytes(linear));
    be->ops->weight_refresh(be, linear->whole);
}

void linear_swap_whole(struct linear *linear)
{
    struct weight *packed = linear->packed;
    linear->packed = linear->whole;
    linear->whole = packed;
}

bool linear_packs_alone(const struct linear *linear)
{
    const struct param *end = linear->set->table.params + linear->set->table.n_params;
    if (linear->set->backend->ops->weight_fill == NULL || linear_packed_bytes(linear) == 0)
        return false;
    for (const struct param *part = linear->weight; part + 1 < end && part[1].adjacent; part++)
        if (param_rows(part) % PARAM_PART_ROWS != 0)
            return false;
    return true;
}

bool linear_row_of(const struct linear *linear, const struct param *param, int64_t *row)
{
    const struct param *part = linear->weight;
    if (param < part)
        return false;
    for (*row = 0; *row < linear->n; part++) {
        if (part == param)
            return true;
        *row += param_rows(part);
    }
    return false;
}

bool linear_trains(const struct linear *linear) { return param_trains(linear->set, linear->weight); }

/* The projection that is computed: an adapter may have its own. */
static const struct linear *worn(const struct linear *linear)
{
    return linear->adapter != NULL && linear->adapter->instead != NULL ? linear->adapter->instead : linear;
}

/* Whether an adapter changes the product. */
static bool is_changed(const struct linear *linear) { return linear->adapter != NULL && linear->adapter->a != NULL; }

/* The product and what an adapter adds to it. */
static void multiply(const struct linear *linear, const struct matmul_forward *product)
{
    struct backend *be = linear->set->backend;
    if (is_changed(linear))
        linear_adapter_forward(linear->adapter, product);
    else
        be->ops->matmul_forward(be, product);
}

/* y[m, n] += b */
static void add_bias(const struct linear *linear, int64_t m, void *y, enum dtype y_type)
{
    struct backend *be = linear->set->backend;
    const bool own = linear->adapter != NULL && linear->adapter->n_biases > 0;
    if (linear->bias != NULL)
        be->ops->bias_forward(
            be, &(struct bias_forward){.rows = m,
                                       .width = linear->n,
                                       .y = y,
                                       .y_type = y_type,
                                       .bias = own ? linear->adapter->bias : param_values(linear->set, linear->bias),
                                       .bias_type = own ? DTYPE_F32 : storage_dtype(linear->bias->format)});
}

void linear_forward(const struct linear *linear, int64_t m, const void *x, void *y, enum dtype y_type)
{
    linear = worn(linear);
    multiply(linear, &(struct matmul_forward){
                         .w = linear->packed, .m = m, .x = x, .y = y, .y_stride = linear->n, .y_type = y_type});
    add_bias(linear, m, y, y_type);
}

void linear_forward_residual(const struct linear *linear, int64_t m, const void *x, const float *before, float *y)
{
    linear = worn(linear);
    multiply(linear, &(struct matmul_forward){.w = linear->packed,
                                              .m = m,
                                              .x = x,
                                              .y = y,
                                              .y_stride = linear->n,
                                              .y_type = DTYPE_F32,
                                              .accumulate = true,
                                              .before = before});
    add_bias(linear, m, y, DTYPE_F32);
}

void linear_forward_normed(const struct linear *linear, int64_t m, const struct linear_normed *input, void *y)
{
    linear = worn(linear);
    const enum dtype type = linear_type(linear);
    const struct rmsnorm_forward norm = norm_operation(input->norm, m, NULL, input->x, input->room, type);
    multiply(linear, &(struct matmul_forward){.w = linear->packed,
                                              .m = m,
                                              .x = input->room,
                                              .y = y,
                                              .y_stride = linear->n,
                                              .y_type = type,
                                              .norm = &norm});
    add_bias(linear, m, y, type);
}

void linear_backward(const struct linear *linear, int64_t m, const void *dy, const void *x, void *dx,
                     enum dtype dx_type)
{
    linear = worn(linear);
    struct backend *be = linear->set->backend;
    const struct matmul_backward_input product = {
        .w = linear->packed, .m = m, .dy = dy, .dy_stride = linear->n, .dx = dx, .dx_type = dx_type};
    if (is_changed(linear))
        linear_adapter_backward(linear->adapter, &product, x);
    else
        be->ops->matmul_backward_input(be, &product);
    if (linear->adapter != NULL)
        linear_adapter_bias_backward(linear->adapter, m, dy);
    if (linear->bias != NULL && param_trains(linear->set, linear->bias))
        be->ops->bias_backward(be, &(struct bias_backward){.rows = m,
                                                           .width = linear->n,
                                                           .dy = dy,
                                                           .dy_stride = linear->n,
                                                           .type = linear_type(linear),
                                                           .scale = 1.0f,
                                                           .d_bias = param_grad(linear->set, linear->bias)});
    if (!linear_trains(linear))
        return;
    be->ops->matmul_backward_weight(be,
                                    &(struct matmul_backward_weight){.m = m,
                                                                     .n = linear->n,
                                                                     .k = linear->k,
                                                                     .dy = dy,
                                                                     .dy_stride = linear->n,
                                                                     .x = x,
                                                                     .type = linear_type(linear),
                                                                     .dw = param_grad(linear->set, linear->weight)});
}

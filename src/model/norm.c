#include "model/norm.h"

#include "backend/ops.h"

struct rmsnorm_forward norm_operation(const struct norm *norm, int64_t rows, const int32_t *row, const float *x,
                                      void *y, enum dtype y_type)
{
    return (struct rmsnorm_forward){.rows = rows,
                                    .width = norm->gain->count,
                                    .row = row,
                                    .x = x,
                                    .gain = param_values(norm->set, norm->gain),
                                    .gain_type = storage_dtype(norm->gain->format),
                                    .eps = norm->eps,
                                    .y = y,
                                    .y_type = y_type};
}

void norm_forward(const struct norm *norm, int64_t rows, const int32_t *row, const float *x, void *y, enum dtype y_type)
{
    struct backend *be = norm->set->backend;
    const struct rmsnorm_forward operation = norm_operation(norm, rows, row, x, y, y_type);
    be->ops->rmsnorm_forward(be, &operation);
}

void norm_backward(const struct norm *norm, int64_t rows, const int32_t *row, const float *x, const float *dy,
                   float *dx)
{
    struct backend *be = norm->set->backend;
    be->ops->rmsnorm_backward(be, &(struct rmsnorm_backward){.rows = rows,
                                                             .width = norm->gain->count,
                                                             .row = row,
                                                             .x = x,
                                                             .gain = param_values(norm->set, norm->gain),
                                                             .gain_type = storage_dtype(norm->gain->format),
                                                             .eps = norm->eps,
                                                             .dy = dy,
                                                             .dx = dx,
                                                             .d_gain = param_grad(norm->set, norm->gain)});
}

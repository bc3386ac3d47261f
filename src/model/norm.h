/* An RMS norm of the residual stream with its gain, forward beside backward. */
#ifndef COHORT_MODEL_NORM_H
#define COHORT_MODEL_NORM_H

#include "model/param_set.h"

struct norm {
    const struct param_set *set;
    const struct param *gain; /* [C] */
    float eps;
};

/* The operation as the backend takes it: y[rows, C] of y_type = norm of x. row is NULL, or row[i] is the row of x that
 * becomes row i of y. */
struct rmsnorm_forward norm_operation(const struct norm *norm, int64_t rows, const int32_t *row, const float *x,
                                      void *y, enum dtype y_type);
void norm_forward(const struct norm *norm, int64_t rows, const int32_t *row, const float *x, void *y,
                  enum dtype y_type);
/* dx += the gradient of dy[rows, C] through the norm; also adds the gain's gradient if it trains. */
void norm_backward(const struct norm *norm, int64_t rows, const int32_t *row, const float *x, const float *dy,
                   float *dx);

#endif

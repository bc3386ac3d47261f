/* One projection y = x . W^T + b, fused or not, forward beside backward: q, k and v (or gate and up) are one weight of
 * which each has some rows, because their tensors lie next to each other, and so do their biases.
 *
 * A projection may wear an adapter, a param_set of its own whose product is added behind this one. It changes what
 * linear_forward and linear_backward do and nothing around them. */
#ifndef COHORT_MODEL_LINEAR_H
#define COHORT_MODEL_LINEAR_H

#include "model/linear_adapter.h"
#include "model/norm.h"

struct linear {
    const struct param_set *set;
    const struct param *weight;           /* the first part of a fused one */
    const struct param *bias;             /* of the first part, [n] with those adjacent to it; NULL: there is none */
    int64_t n, k;                         /* of all parts: [n, k] */
    struct weight *packed;                /* owned; NULL until linear_pack */
    bool borrows;                         /* packed is that of another layer's (linear_borrow) */
    struct weight *whole;                 /* owned; of a weight that ranks divide, in a rollout (linear_plan_whole) */
    void *room;                           /* borrowed; its values, where the backend does not pack them */
    const struct linear_adapter *adapter; /* borrowed; NULL: none, which is what the others begin with */
};

/* Called before its set has values. The parts are the tensor and those adjacent to it. bias: NULL, or that of the first
 * part; then every part has one. */
void linear_open(struct linear *linear, const struct param_set *set, const struct param *weight,
                 const struct param *bias);
void linear_close(struct linear *linear);
/* The type of x and of dy: a weight is multiplied by rows of its own type. */
enum dtype linear_type(const struct linear *linear);
/* Bytes of the packed weight, before there is one. */
size_t linear_packed_bytes(const struct linear *linear);
cohort_status linear_pack(struct linear *linear, cohort_error *err);
/* Of a weight that ranks divide: shares the packed weight of one of the same shape in another layer, which is packed anew
 * whenever another layer's values are there. */
void linear_borrow(struct linear *linear, const struct linear *from);
/* Memory for the weight beside those of all other layers, as products read it: bytes, and room for so many. linear_fill_whole
 * makes it from the values that are there; linear_swap_whole has products read it, or no more. */
size_t linear_whole_bytes(const struct linear *linear);
cohort_status linear_plan_whole(struct linear *linear, void *room, cohort_error *err);
void linear_fill_whole(const struct linear *linear);
void linear_swap_whole(struct linear *linear);
/* Whether its tensors can be held by the packed weight alone, part by part as they are read. */
bool linear_packs_alone(const struct linear *linear);
/* Whether param is one of its tensors, and at which row of all that one begins. */
bool linear_row_of(const struct linear *linear, const struct param *param, int64_t *row);
/* Packs the values as they are now. */
void linear_refresh(const struct linear *linear);
/* Whether an optimizer changes the weight. */
bool linear_trains(const struct linear *linear);

/* y[m, n] of y_type = x[m, k] . W^T + b. The bias is added to the product as y_type holds it. */
void linear_forward(const struct linear *linear, int64_t m, const void *x, void *y, enum dtype y_type);
/* y = before + x . W^T + b, the sum over k finished before it is added; in fp32. y may be before. */
void linear_forward_residual(const struct linear *linear, int64_t m, const void *x, const float *before, float *y);

/* The input of a projection behind a norm: rows of the residual stream. Their normalised values are an intermediate
 * result of the product, which some kernels never write: nothing in here holds them afterwards, and the content of room
 * is undefined. Code that needs them too (the backward) runs norm_forward. */
struct linear_normed {
    const struct norm *norm;
    const float *x; /* [m, k] residual */
    void *room;     /* [m, k] of linear_type: memory to work in */
};
/* y[m, n] of linear_type = norm(x) . W^T + b. */
void linear_forward_normed(const struct linear *linear, int64_t m, const struct linear_normed *input, void *y);

/* dx[m, k] of dx_type = dy[m, n] . W; b's gradient += the sum over the rows of dy, and W's += dy^T . x, each unless it
 * is frozen; with an adapter what follows from that. x is read for the gradients of W and of an adapter only. */
void linear_backward(const struct linear *linear, int64_t m, const void *dy, const void *x, void *dx,
                     enum dtype dx_type);

#endif

/* The adapter of one projection (LoRA): of each of its parts that has one, A [r, K] and B [N, r] in a param_set of their
 * own, whose product s * x . A^T . B^T is added behind the weight's. linear_forward and linear_backward run it. */
#ifndef COHORT_MODEL_LINEAR_ADAPTER_H
#define COHORT_MODEL_LINEAR_ADAPTER_H

#include "backend/ops.h"
#include "format/adapter.h"
#include "model/param_set.h"

struct linear;

struct linear_adapter {
    const struct param_set *set;
    const struct param *a; /* of the first part that has one, the others' adjacent; NULL: the projection has none */
    const struct param *b[LOWRANK_PARTS];
    struct lowrank change; /* its weights are NULL until linear_adapter_pack, its gradients always */
    struct weight *packed_a, *packed_b[LOWRANK_PARTS]; /* owned */
};

/* The sites that are parts of the projection. linear must be open. */
void linear_adapter_open(struct linear_adapter *adapter, const struct param_set *set, const struct linear *linear,
                         const struct adapter_layout *layout);
void linear_adapter_close(struct linear_adapter *adapter);
/* Bytes of what linear_adapter_pack makes. */
size_t linear_adapter_packed_bytes(const struct linear_adapter *adapter);
cohort_status linear_adapter_pack(struct linear_adapter *adapter, cohort_error *err);
/* Packs the values as they are now. */
void linear_adapter_refresh(const struct linear_adapter *adapter);

/* The product, and its y += s * x[m, K] . A^T . B^T. */
void linear_adapter_forward(const struct linear_adapter *adapter, const struct matmul_forward *product);
/* The gradients of A and B, and dx += what follows from them. */
void linear_adapter_backward(const struct linear_adapter *adapter, int64_t m, const void *dy, int64_t dy_stride,
                             const void *x, void *dx, enum dtype dx_type);

#endif

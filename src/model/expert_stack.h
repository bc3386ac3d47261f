/* The projections of one kind of all experts of a layer, [E, n, k], and the adapter that they may wear: what a struct
 * linear is to one projection.
 *
 * An adapter (LoRA) gives expert e A [r, k] and B [n, r] of its own: behind its product with the weight, a row gets s * x
 * . A^T . B^T, as in linear_adapter.h. Merged, the products are those of W + s B A, rounded once, in memory of their
 * own. */
#ifndef COHORT_MODEL_EXPERT_STACK_H
#define COHORT_MODEL_EXPERT_STACK_H

#include "backend/expert_ops.h"
#include "format/adapter.h"
#include "model/param_set.h"

struct expert_adapter;

struct expert_stack {
    const struct param_set *set;
    const struct param *weight; /* the first tensor of those that lie next to each other, or the only one */
    int32_t n_experts;          /* E */
    int64_t n, k;
    struct weight **packed;               /* [E], owned; NULL until expert_stack_pack */
    const struct expert_adapter *adapter; /* borrowed; NULL: it wears none */
};

/* Called before its set has values. */
void expert_stack_open(struct expert_stack *stack, const struct param_set *set, const struct param *weight,
                       int32_t n_experts);
void expert_stack_close(struct expert_stack *stack);
size_t expert_stack_packed_bytes(const struct expert_stack *stack);
cohort_status expert_stack_pack(struct expert_stack *stack, cohort_error *err);
void expert_stack_refresh(const struct expert_stack *stack);
bool expert_stack_trains(const struct expert_stack *stack);

/* y = x . w^T for the grouped rows, in the type of the weights. gather: x is not grouped. */
void expert_stack_forward(const struct expert_stack *stack, const struct row_groups *groups, bool gather, const void *x,
                          void *y);
/* dx = dy . w */
void expert_stack_backward_input(const struct expert_stack *stack, const struct row_groups *groups, bool gather,
                                 const void *dy, void *dx, enum dtype dx_type);
/* The gradients of whatever trains in it. gather_dy, gather_x: which of the two is not grouped; not both. */
void expert_stack_backward_weight(const struct expert_stack *stack, const struct row_groups *groups, bool gather_dy,
                                  const void *dy, bool gather_x, const void *x);

struct expert_adapter {
    const struct param_set *set;
    const struct expert_stack *of;
    const struct param *a, *b; /* [E, r, k], [E, n, r]; NULL: the stack has none */
    struct expert_change change;
    struct weight **packed_a, **packed_b; /* [E] each, owned */
    struct expert_stack *merged;          /* owned; NULL: not merged */
};

/* What a site of the layout says (NULL: there is none). The stack must be open, and stay. */
void expert_adapter_open(struct expert_adapter *adapter, const struct param_set *set, const struct expert_stack *stack,
                         const struct adapter_site *site);
/* Has it compute with merged weights: params, in a set that is only open, are like those of the stack. */
cohort_status expert_adapter_merge(struct expert_adapter *adapter, const struct param_set *set,
                                   const struct param *params, cohort_error *err);
void expert_adapter_close(struct expert_adapter *adapter);
/* Bytes of what expert_adapter_pack makes. */
size_t expert_adapter_packed_bytes(const struct expert_adapter *adapter);
cohort_status expert_adapter_pack(struct expert_adapter *adapter, cohort_error *err);
/* After an update of its values. */
void expert_adapter_refresh(const struct expert_adapter *adapter);

#endif

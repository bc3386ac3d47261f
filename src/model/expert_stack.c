#include "model/expert_stack.h"

#include "backend/ops.h"

#include <assert.h>
#include <string.h>

/* ---- Weights of all experts ---- */

/* The set may still have no values: sizes do not need them. */
static struct weight_source source_of(const struct param_set *set, const struct param *first, int32_t expert, int64_t n,
                                      int64_t k)
{
    const size_t offset = storage_bytes(first->format, expert * n * k);
    return (struct weight_source){.format = first->format,
                                  .data = set->values == NULL ? NULL : (const char *)param_values(set, first) + offset,
                                  .n = n,
                                  .k = k};
}

static size_t packed_bytes(const struct param_set *set, const struct param *first, int32_t n_experts, int64_t n,
                           int64_t k)
{
    struct backend *be = set->backend;
    const struct weight_source source = source_of(set, first, 0, n, k);
    return (size_t)n_experts * be->ops->weight_bytes(be, &source);
}

static cohort_status pack(struct weight ***out, const struct param_set *set, const struct param *first,
                          int32_t n_experts, int64_t n, int64_t k, cohort_error *err)
{
    struct backend *be = set->backend;
    TRY(mem_alloc(out, (size_t)n_experts, sizeof **out, "experts", err));
    for (int32_t e = 0; e < n_experts; e++) {
        const struct weight_source source = source_of(set, first, e, n, k);
        TRY(be->ops->weight_create(be, &(*out)[e], &source, err));
    }
    return COHORT_OK;
}

static void destroy(struct backend *be, struct weight **packed, int32_t n_experts)
{
    for (int32_t e = 0; packed != NULL && e < n_experts; e++)
        be->ops->weight_destroy(be, packed[e]);
    mem_free(packed);
}

static void refresh(struct backend *be, struct weight *const *packed, int32_t n_experts)
{
    for (int32_t e = 0; e < n_experts; e++)
        be->ops->weight_refresh(be, packed[e]);
}

/* ---- Stacks ---- */

void expert_stack_open(struct expert_stack *stack, const struct param_set *set, const struct param *weight,
                       int32_t n_experts)
{
    const struct param *end = set->table.params + set->table.n_params;
    int64_t rows = param_rows(weight);
    for (const struct param *part = weight + 1; part < end && part->adjacent; part++)
        rows += param_rows(part);
    assert(rows % n_experts == 0);
    *stack = (struct expert_stack){
        .set = set, .weight = weight, .n_experts = n_experts, .n = rows / n_experts, .k = param_columns(weight)};
}

void expert_stack_close(struct expert_stack *stack)
{
    if (stack->set != NULL)
        destroy(stack->set->backend, stack->packed, stack->n_experts);
    memset(stack, 0, sizeof *stack);
}

size_t expert_stack_packed_bytes(const struct expert_stack *stack)
{
    return packed_bytes(stack->set, stack->weight, stack->n_experts, stack->n, stack->k);
}

cohort_status expert_stack_pack(struct expert_stack *stack, cohort_error *err)
{
    return pack(&stack->packed, stack->set, stack->weight, stack->n_experts, stack->n, stack->k, err);
}

void expert_stack_refresh(const struct expert_stack *stack)
{
    refresh(stack->set->backend, stack->packed, stack->n_experts);
}

bool expert_stack_trains(const struct expert_stack *stack) { return param_trains(stack->set, stack->weight); }

/* What products are made with, and the change that is then added (NULL: none). */
static const struct weight *const *weights_of(const struct expert_stack *stack, const struct expert_change **change)
{
    const struct expert_adapter *adapter = stack->adapter;
    *change = adapter != NULL && adapter->merged == NULL ? &adapter->change : NULL;
    return (const struct weight *const *)(adapter != NULL && adapter->merged != NULL ? adapter->merged->packed
                                                                                     : stack->packed);
}

void expert_stack_forward(const struct expert_stack *stack, const struct row_groups *groups, bool gather, const void *x,
                          void *y)
{
    struct backend *be = stack->set->backend;
    const struct expert_change *change = NULL;
    const struct weight *const *w = weights_of(stack, &change);
    be->ops->grouped_forward(be, &(struct grouped_forward){.groups = groups, .w = w, .gather = gather, .x = x, .y = y});
    if (change != NULL)
        be->ops->grouped_change_forward(
            be, &(struct grouped_change_forward){.groups = groups, .change = change, .gather = gather, .x = x, .y = y});
}

void expert_stack_backward_input(const struct expert_stack *stack, const struct row_groups *groups, bool gather,
                                 const void *dy, void *dx, enum dtype dx_type)
{
    struct backend *be = stack->set->backend;
    const struct expert_change *change = NULL;
    const struct weight *const *w = weights_of(stack, &change);
    be->ops->grouped_backward_input(
        be, &(struct grouped_backward_input){
                .groups = groups, .w = w, .gather = gather, .dy = dy, .dx = dx, .dx_type = dx_type});
    if (change != NULL)
        be->ops->grouped_change_backward(
            be, &(struct grouped_change_backward){
                    .groups = groups, .change = change, .gather_dy = gather, .dy = dy, .dx = dx, .dx_type = dx_type});
}

void expert_stack_backward_weight(const struct expert_stack *stack, const struct row_groups *groups, bool gather_dy,
                                  const void *dy, bool gather_x, const void *x)
{
    struct backend *be = stack->set->backend;
    const struct expert_adapter *adapter = stack->adapter;
    if (expert_stack_trains(stack))
        be->ops->grouped_backward_weight(
            be, &(struct grouped_backward_weight){.groups = groups,
                                                  .n = stack->n,
                                                  .k = stack->k,
                                                  .gather_dy = gather_dy,
                                                  .gather_x = gather_x,
                                                  .dy = dy,
                                                  .x = x,
                                                  .type = storage_act(stack->weight->format),
                                                  .dw = param_grad(stack->set, stack->weight)});
    if (adapter == NULL || !param_trains(adapter->set, adapter->a))
        return;
    struct expert_change change = adapter->change;
    change.da = param_grad(adapter->set, adapter->a);
    change.db = param_grad(adapter->set, adapter->b);
    be->ops->grouped_change_backward(
        be, &(struct grouped_change_backward){
                .groups = groups, .change = &change, .gather_dy = gather_dy, .dy = dy, .gather_x = gather_x, .x = x});
}

/* ---- Their adapter ---- */

void expert_adapter_open(struct expert_adapter *adapter, const struct param_set *set, const struct expert_stack *stack,
                         const struct adapter_site *site)
{
    *adapter = (struct expert_adapter){.set = set, .of = stack};
    if (site == NULL)
        return;
    adapter->a = site->a;
    adapter->b = site->b;
    adapter->change = (struct expert_change){.n = stack->n, .k = stack->k, .r = site->r, .scale = site->scale};
    assert(site->n_experts == stack->n_experts && site->b->shape[1] == stack->n && site->a->shape[2] == stack->k);
}

cohort_status expert_adapter_merge(struct expert_adapter *adapter, const struct param_set *set,
                                   const struct param *params, cohort_error *err)
{
    TRY(mem_alloc(&adapter->merged, 1, sizeof *adapter->merged, "adapter", err));
    expert_stack_open(adapter->merged, set, params, adapter->of->n_experts);
    assert(adapter->merged->n == adapter->of->n && adapter->merged->k == adapter->of->k);
    return COHORT_OK;
}

void expert_adapter_close(struct expert_adapter *adapter)
{
    if (adapter->set != NULL) {
        destroy(adapter->set->backend, adapter->packed_a, adapter->of->n_experts);
        destroy(adapter->set->backend, adapter->packed_b, adapter->of->n_experts);
    }
    if (adapter->merged != NULL)
        expert_stack_close(adapter->merged);
    mem_free(adapter->merged);
    memset(adapter, 0, sizeof *adapter);
}

size_t expert_adapter_packed_bytes(const struct expert_adapter *adapter)
{
    const struct expert_change *c = &adapter->change;
    if (adapter->a == NULL)
        return 0;
    const int32_t n_experts = adapter->of->n_experts;
    return packed_bytes(adapter->set, adapter->a, n_experts, c->r, c->k) +
           packed_bytes(adapter->set, adapter->b, n_experts, c->n, c->r) +
           (adapter->merged != NULL ? expert_stack_packed_bytes(adapter->merged) : 0);
}

/* Gives the merged weights their values. */
static void fold_all(const struct expert_adapter *adapter)
{
    struct backend *be = adapter->set->backend;
    const struct expert_change *c = &adapter->change;
    for (int32_t e = 0; e < adapter->of->n_experts; e++) {
        const struct weight_source w = source_of(adapter->of->set, adapter->of->weight, e, c->n, c->k),
                                   a = source_of(adapter->set, adapter->a, e, c->r, c->k),
                                   b = source_of(adapter->set, adapter->b, e, c->n, c->r),
                                   to = source_of(adapter->merged->set, adapter->merged->weight, e, c->n, c->k);
        assert(a.format == w.format && to.format == w.format);
        be->ops->fold(be, &(struct fold){.n = c->n,
                                         .k = c->k,
                                         .r = c->r,
                                         .type = storage_dtype(w.format),
                                         .w = w.data,
                                         .a = a.data,
                                         .b = b.data,
                                         .scale = c->scale,
                                         .to = (void *)to.data});
    }
}

cohort_status expert_adapter_pack(struct expert_adapter *adapter, cohort_error *err)
{
    struct expert_change *c = &adapter->change;
    if (adapter->a == NULL)
        return COHORT_OK;
    const int32_t n_experts = adapter->of->n_experts;
    TRY(pack(&adapter->packed_a, adapter->set, adapter->a, n_experts, c->r, c->k, err));
    TRY(pack(&adapter->packed_b, adapter->set, adapter->b, n_experts, c->n, c->r, err));
    c->a = (const struct weight *const *)adapter->packed_a;
    c->b = (const struct weight *const *)adapter->packed_b;
    if (adapter->merged == NULL)
        return COHORT_OK;
    fold_all(adapter);
    return expert_stack_pack(adapter->merged, err);
}

void expert_adapter_refresh(const struct expert_adapter *adapter)
{
    if (adapter->a == NULL)
        return;
    refresh(adapter->set->backend, adapter->packed_a, adapter->of->n_experts);
    refresh(adapter->set->backend, adapter->packed_b, adapter->of->n_experts);
    if (adapter->merged == NULL)
        return;
    fold_all(adapter);
    expert_stack_refresh(adapter->merged);
}

#include "model/experts.h"

#include "backend/expert_ops.h"
#include "model/layer_run.h"

#include <assert.h>
#include <string.h>

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
    for (int32_t e = 0; stack->packed != NULL && e < stack->n_experts; e++)
        stack->set->backend->ops->weight_destroy(stack->set->backend, stack->packed[e]);
    mem_free(stack->packed);
    memset(stack, 0, sizeof *stack);
}

/* The set may still have no values: sizes do not need them. */
static struct weight_source source_of(const struct expert_stack *stack, int32_t expert)
{
    const struct param_set *set = stack->set;
    const size_t offset = storage_bytes(stack->weight->format, expert * stack->n * stack->k);
    return (struct weight_source){.format = stack->weight->format,
                                  .data = set->values == NULL ? NULL
                                                              : (const char *)param_values(set, stack->weight) + offset,
                                  .n = stack->n,
                                  .k = stack->k};
}

size_t expert_stack_packed_bytes(const struct expert_stack *stack)
{
    struct backend *be = stack->set->backend;
    const struct weight_source source = source_of(stack, 0);
    return (size_t)stack->n_experts * be->ops->weight_bytes(be, &source);
}

cohort_status expert_stack_pack(struct expert_stack *stack, cohort_error *err)
{
    struct backend *be = stack->set->backend;
    TRY(mem_alloc(&stack->packed, (size_t)stack->n_experts, sizeof *stack->packed, "experts", err));
    for (int32_t e = 0; e < stack->n_experts; e++) {
        const struct weight_source source = source_of(stack, e);
        TRY(be->ops->weight_create(be, &stack->packed[e], &source, err));
    }
    return COHORT_OK;
}

void expert_stack_refresh(const struct expert_stack *stack)
{
    struct backend *be = stack->set->backend;
    for (int32_t e = 0; e < stack->n_experts; e++)
        be->ops->weight_refresh(be, stack->packed[e]);
}

bool expert_stack_trains(const struct expert_stack *stack) { return param_trains(stack->set, stack->weight); }

static const struct weight *const *weights_of(const struct expert_stack *stack)
{
    return (const struct weight *const *)stack->packed;
}

/* ---- Plans ---- */

static size_t pairs_of(const struct model_config *config, int64_t tokens)
{
    return (size_t)tokens * (size_t)config->experts.chosen;
}

void expert_acts_plan(struct expert_acts *acts, struct arena *arena, const struct model_config *config,
                      int64_t max_tokens)
{
    const size_t pairs = pairs_of(config, max_tokens), E = (size_t)config->experts.n;
    acts->logits = arena_take(arena, (size_t)max_tokens * E * sizeof(float));
    acts->expert = arena_take(arena, pairs * sizeof(int32_t));
    acts->weight = arena_take(arena, pairs * sizeof(float));
    acts->begin = arena_take(arena, (E + 1) * sizeof(int32_t));
    acts->pair = arena_take(arena, pairs * sizeof(int32_t));
    acts->row = arena_take(arena, pairs * sizeof(int32_t));
}

void expert_work_plan(struct expert_work *work, struct arena *arena, const struct model_config *config, enum dtype act,
                      int64_t max_tokens, bool train)
{
    const size_t pairs = pairs_of(config, max_tokens), C = (size_t)config->hidden_size;
    work->out = arena_take(arena, pairs * C * (train ? sizeof(float) : dtype_bytes(act)));
    if (!train)
        return;
    work->d_pair = work->out;
    work->d_weight = arena_take(arena, pairs * sizeof(float));
    work->d_logits = arena_take(arena, (size_t)max_tokens * (size_t)config->experts.n * dtype_bytes(act));
    work->given = arena_take(arena, (size_t)max_tokens * (size_t)route_width(config) * sizeof *work->given);
    work->differ = arena_take(arena, (size_t)max_tokens * sizeof *work->differ);
    work->count = arena_take(arena, (size_t)max_tokens * sizeof *work->count);
    work->sums = arena_take(arena, expert_sums_size(config) * sizeof *work->sums);
    work->aux = arena_take(arena, (size_t)config->experts.n * sizeof *work->aux);
}

size_t expert_sums_size(const struct model_config *config)
{
    return (size_t)model_config_n_sparse(config) * (2 * (size_t)config->experts.n + 2);
}

/* ---- The block ---- */

static struct row_groups groups_of(const struct layer_run *r)
{
    const struct expert_config *c = &r->model->config.experts;
    const struct expert_acts *a = &r->acts->experts;
    return (struct row_groups){.n = c->n,
                               .each = c->chosen,
                               .rows = (int64_t)r->batch->n_tokens * c->chosen,
                               .begin = a->begin,
                               .pair = a->pair};
}

static struct swiglu_forward swiglu_params(const struct layer_run *r, int64_t rows)
{
    return (struct swiglu_forward){.tokens = rows,
                                   .width = r->layer->experts.down.k,
                                   .gate_up = r->acts->gate_up,
                                   .y = r->work->ffn,
                                   .act = r->model->type};
}

/* again: the forward runs a second time, for its backward, and reports nothing. */
static void route(const struct layer_run *r, bool again)
{
    struct backend *be = r->model->backend;
    const struct expert_config *c = &r->model->config.experts;
    const struct expert_acts *a = &r->acts->experts;
    const struct expert_work *work = &r->work->experts;
    const bool given = work->on.compare && (!again || work->on.replay);
    const int64_t place = (int64_t)r->layer->experts.index * c->chosen;
    linear_forward(&r->layer->experts.router, r->batch->n_tokens, r->work->normed, a->logits, DTYPE_F32);
    be->ops->route_forward(be,
                           &(struct route_forward){.tokens = r->batch->n_tokens,
                                                   .n_experts = c->n,
                                                   .chosen = c->chosen,
                                                   .normalised = c->normalised,
                                                   .logits = a->logits,
                                                   .expert = a->expert,
                                                   .weight = a->weight,
                                                   .begin = a->begin,
                                                   .pair = a->pair,
                                                   .row = a->row,
                                                   .record = r->state.routes == NULL ? NULL : r->state.routes + place,
                                                   .record_row = r->work->kv_row,
                                                   .given = given ? work->given + place : NULL,
                                                   .stride = route_width(&r->model->config),
                                                   .replay = work->on.replay,
                                                   .differ = work->differ});
    if (work->on.sums && !again)
        be->ops->route_sums(
            be, &(struct route_sums){.tokens = r->batch->n_tokens,
                                     .n_experts = c->n,
                                     .chosen = c->chosen,
                                     .logits = a->logits,
                                     .expert = a->expert,
                                     .count = work->count,
                                     .sums = work->sums + (int64_t)r->layer->experts.index * (2 * c->n + 2)});
}

void experts_forward(const struct layer_run *r, const float *mid, float *out)
{
    struct backend *be = r->model->backend;
    const struct experts *x = &r->layer->experts;
    const int64_t T = r->batch->n_tokens;
    norm_forward(&x->norm, T, NULL, mid, r->work->normed, r->model->type);
    route(r, out == NULL);
    const struct row_groups groups = groups_of(r);
    const struct swiglu_forward inner = swiglu_params(r, groups.rows);
    be->ops->grouped_forward(be, &(struct grouped_forward){.groups = &groups,
                                                           .w = weights_of(&x->gate_up),
                                                           .gather = true,
                                                           .x = r->work->normed,
                                                           .y = r->acts->gate_up});
    if (out == NULL)
        return;
    be->ops->swiglu_forward(be, &inner);
    be->ops->grouped_forward(
        be, &(struct grouped_forward){
                .groups = &groups, .w = weights_of(&x->down), .x = r->work->ffn, .y = r->work->experts.out});
    be->ops->combine_forward(be, &(struct combine_forward){.tokens = T,
                                                           .width = x->down.n,
                                                           .chosen = groups.each,
                                                           .row = r->acts->experts.row,
                                                           .weight = r->acts->experts.weight,
                                                           .x = r->work->experts.out,
                                                           .x_type = r->model->type,
                                                           .before = mid,
                                                           .y = out});
}

/* From d_out to d_ffn, and the gradients of the down projections and of the routing weights. */
static void down_backward(const struct layer_run *r, const struct row_groups *groups)
{
    struct backend *be = r->model->backend;
    struct decoder_work *work = r->work;
    const struct expert_stack *down = &r->layer->experts.down;
    const enum dtype type = r->model->type;
    be->ops->grouped_backward_input(be, &(struct grouped_backward_input){.groups = groups,
                                                                         .w = weights_of(down),
                                                                         .gather = true,
                                                                         .dy = work->d_out,
                                                                         .dx = work->d_ffn,
                                                                         .dx_type = type});
    be->ops->combine_backward(be, &(struct combine_backward){.rows = groups->rows,
                                                             .width = down->k,
                                                             .pair = groups->pair,
                                                             .weight = r->acts->experts.weight,
                                                             .x = work->ffn,
                                                             .dx = work->d_ffn,
                                                             .act = type,
                                                             .d_weight = work->experts.d_weight});
    if (expert_stack_trains(down))
        be->ops->grouped_backward_weight(be,
                                         &(struct grouped_backward_weight){.groups = groups,
                                                                           .n = down->n,
                                                                           .k = down->k,
                                                                           .gather_dy = true,
                                                                           .dy = work->d_out,
                                                                           .x = work->ffn,
                                                                           .type = type,
                                                                           .dw = param_grad(down->set, down->weight)});
}

/* The gradient of the router, and through it that of normed into d_normed. */
static void route_backward(const struct layer_run *r)
{
    struct backend *be = r->model->backend;
    const struct expert_config *c = &r->model->config.experts;
    const struct expert_acts *a = &r->acts->experts;
    be->ops->route_backward(be, &(struct route_backward){.tokens = r->batch->n_tokens,
                                                         .n_experts = c->n,
                                                         .chosen = c->chosen,
                                                         .normalised = c->normalised,
                                                         .logits = a->logits,
                                                         .expert = a->expert,
                                                         .d_weight = r->work->experts.d_weight,
                                                         .aux = r->work->experts.on.aux ? r->work->experts.aux : NULL,
                                                         .count = r->work->experts.count,
                                                         .d_logits = r->work->experts.d_logits,
                                                         .act = r->model->type});
    linear_backward(&r->layer->experts.router, r->batch->n_tokens, r->work->experts.d_logits, r->work->normed,
                    r->work->d_normed, DTYPE_F32);
}

void experts_backward(const struct layer_run *r)
{
    struct backend *be = r->model->backend;
    struct decoder_work *work = r->work;
    const struct experts *x = &r->layer->experts;
    const enum dtype type = r->model->type;
    const int64_t T = r->batch->n_tokens;
    const struct row_groups groups = groups_of(r);
    const struct swiglu_forward inner = swiglu_params(r, groups.rows);
    layer_run_convert(r);
    be->ops->swiglu_forward(be, &inner);
    down_backward(r, &groups);
    be->ops->swiglu_backward(be, &(struct swiglu_backward){.tokens = groups.rows,
                                                           .width = inner.width,
                                                           .gate_up = r->acts->gate_up,
                                                           .dy = work->d_ffn,
                                                           .d_gate_up = work->d_gate_up,
                                                           .act = type});
    norm_forward(&x->norm, T, NULL, r->acts->mid, work->normed, type);
    route_backward(r);
    be->ops->grouped_backward_input(be, &(struct grouped_backward_input){.groups = &groups,
                                                                         .w = weights_of(&x->gate_up),
                                                                         .dy = work->d_gate_up,
                                                                         .dx = work->experts.d_pair,
                                                                         .dx_type = DTYPE_F32});
    if (expert_stack_trains(&x->gate_up))
        be->ops->grouped_backward_weight(
            be, &(struct grouped_backward_weight){.groups = &groups,
                                                  .n = x->gate_up.n,
                                                  .k = x->gate_up.k,
                                                  .gather_x = true,
                                                  .dy = work->d_gate_up,
                                                  .x = work->normed,
                                                  .type = type,
                                                  .dw = param_grad(x->gate_up.set, x->gate_up.weight)});
    be->ops->combine_forward(be, &(struct combine_forward){.tokens = T,
                                                           .width = x->gate_up.k,
                                                           .chosen = groups.each,
                                                           .row = r->acts->experts.row,
                                                           .x = work->experts.d_pair,
                                                           .x_type = DTYPE_F32,
                                                           .before = work->d_normed,
                                                           .y = work->d_normed});
    norm_backward(&x->norm, T, NULL, r->acts->mid, work->d_normed, work->d_x);
}

#include "model/experts.h"

#include "backend/expert_ops.h"
#include "model/layer_run.h"

#include <assert.h>
#include <string.h>

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
    expert_stack_forward(&x->gate_up, &groups, true, r->work->normed, r->acts->gate_up);
    if (out == NULL)
        return;
    be->ops->swiglu_forward(be, &inner);
    expert_stack_forward(&x->down, &groups, false, r->work->ffn, r->work->experts.out);
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
    expert_stack_backward_input(down, groups, true, work->d_out, work->d_ffn, type);
    be->ops->combine_backward(be, &(struct combine_backward){.rows = groups->rows,
                                                             .width = down->k,
                                                             .pair = groups->pair,
                                                             .weight = r->acts->experts.weight,
                                                             .x = work->ffn,
                                                             .dx = work->d_ffn,
                                                             .act = type,
                                                             .d_weight = work->experts.d_weight});
    expert_stack_backward_weight(down, groups, true, work->d_out, false, work->ffn);
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
    expert_stack_backward_input(&x->gate_up, &groups, false, work->d_gate_up, work->experts.d_pair, DTYPE_F32);
    expert_stack_backward_weight(&x->gate_up, &groups, false, work->d_gate_up, true, work->normed);
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

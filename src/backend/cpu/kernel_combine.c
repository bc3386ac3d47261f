/* The outputs of a token's experts added to the residual stream in the order of the experts, and what its gradient needs
 * of the weights. -DCOHORT_BREAK_COMBINE=1 is the negative control of the tests: with 16 tokens or more the order is the
 * opposite one, as atomics would have it at times. Never in a build that is used. */
#include "backend/cpu/act_part.h"
#include "backend/cpu/cpu_kernels.h"

#include <assert.h>

#ifndef COHORT_BREAK_COMBINE
#define COHORT_BREAK_COMBINE 0
#endif

ALWAYS_INLINE void combine_row(const struct combine_forward *p, enum dtype type, int64_t t)
{
    const bool reverse = COHORT_BREAK_COMBINE && p->tokens >= 16;
    const int64_t first = t * p->chosen;
    for (int64_t i = 0; i < p->width; i += VW) {
        const int n = part_of(i, p->width);
        vf y = vf_load_act_part(p->before + t * p->width, DTYPE_F32, i, n);
        for (int32_t step = 0; step < p->chosen; step++) {
            const int64_t pair = first + (reverse ? p->chosen - 1 - step : step);
            const void *x = act_at(p->x, type, p->row[pair] * p->width);
            const vf v = vf_load_act_part(x, type, i, n);
            y = vf_add(y, p->weight == NULL ? v : vf_mul(vf_set(p->weight[pair]), v));
        }
        vf_store_act_part(p->y + t * p->width, DTYPE_F32, i, y, n);
    }
}

static void combine_rows(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct combine_forward *p = context;
    (void)thread;
    for (int64_t t = begin; t < end; t++)
        if (p->x_type == DTYPE_F32)
            combine_row(p, DTYPE_F32, t);
        else
            combine_row(p, DTYPE_BF16, t);
}

void CPU_NAME(combine_forward)(struct backend *backend, const struct combine_forward *p)
{
    assert(p->x_type != DTYPE_F16);
    cpu_run(backend, cpu_threads(backend, p->tokens * p->width * p->chosen, 0.1), p->tokens, 0, combine_rows, p);
}

ALWAYS_INLINE void weigh_row(const struct combine_backward *p, enum dtype type, int64_t r)
{
    void *x = act_at_mut(p->x, type, r * p->width), *dx = act_at_mut(p->dx, type, r * p->width);
    const vf weight = vf_set(p->weight[p->pair[r]]);
    vf dot = vf_zero();
    for (int64_t i = 0; i < p->width; i += VW) {
        const int n = part_of(i, p->width);
        const vf a = vf_load_act_part(x, type, i, n), b = vf_load_act_part(dx, type, i, n);
        dot = vf_add(dot, vf_mul(a, b));
        vf_store_act_part(x, type, i, vf_mul(weight, a), n);
        vf_store_act_part(dx, type, i, vf_mul(weight, b), n);
    }
    p->d_weight[p->pair[r]] = vf_sum(dot);
}

static void weigh_rows(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct combine_backward *p = context;
    (void)thread;
    for (int64_t r = begin; r < end; r++)
        if (p->act == DTYPE_F32)
            weigh_row(p, DTYPE_F32, r);
        else
            weigh_row(p, DTYPE_BF16, r);
}

void CPU_NAME(combine_backward)(struct backend *backend, const struct combine_backward *p)
{
    assert(p->act != DTYPE_F16);
    cpu_run(backend, cpu_threads(backend, p->rows * p->width, 0.3), p->rows, 0, weigh_rows, p);
}

/* SwiGLU, forward and backward, elementwise. Threads split tokens. */
#include "backend/cpu/act_part.h"
#include "backend/cpu/cpu_kernels.h"

#include <assert.h>

ALWAYS_INLINE void swiglu_row(const void *gate_up, enum dtype act, int64_t width, void *y)
{
    const vf one = vf_set(1.0f);
    const void *up = act_at(gate_up, act, width);
    for (int64_t i = 0; i < width; i += VW) {
        int n = part_of(i, width);
        vf g = vf_load_act_part(gate_up, act, i, n);
        vf u = vf_load_act_part(up, act, i, n);
        vf silu = vf_div(g, vf_add(one, vf_exp(vf_sub(vf_zero(), g))));
        vf_store_act_part(y, act, i, vf_mul(silu, u), n);
    }
}

static void swiglu_tokens(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct swiglu_forward *p = context;
    (void)thread;
    for (int64_t t = begin; t < end; t++) {
        const void *x = act_at(p->gate_up, p->act, t * 2 * p->width);
        void *y = act_at_mut(p->y, p->act, t * p->width);
        if (p->act == DTYPE_F32)
            swiglu_row(x, DTYPE_F32, p->width, y);
        else
            swiglu_row(x, DTYPE_BF16, p->width, y);
    }
}

void CPU_NAME(swiglu_forward)(struct backend *backend, const struct swiglu_forward *p)
{
    assert(p->act != DTYPE_F16);
    cpu_run(backend, cpu_threads(backend, p->tokens * p->width, 0.4), p->tokens, 0, swiglu_tokens, p);
}

/* With s = sigmoid(g): d_up = dy * g * s, d_gate = dy * u * s * (1 + g * (1 - s)). 1 - s is taken
 * as e^-g * s, which does not cancel. */
ALWAYS_INLINE void swiglu_back_row(const void *gate_up, const void *dy, enum dtype act, int64_t width, void *d_gate_up)
{
    const vf one = vf_set(1.0f);
    const void *up = act_at(gate_up, act, width);
    void *d_up = act_at_mut(d_gate_up, act, width);
    for (int64_t i = 0; i < width; i += VW) {
        int n = part_of(i, width);
        vf g = vf_load_act_part(gate_up, act, i, n);
        vf u = vf_load_act_part(up, act, i, n);
        vf d = vf_load_act_part(dy, act, i, n);
        vf e = vf_exp(vf_sub(vf_zero(), g));
        vf s = vf_div(one, vf_add(one, e));
        vf ds = vf_mul(d, s);
        vf slope = vf_fma(g, vf_mul(e, s), one);
        vf_store_act_part(d_gate_up, act, i, vf_mul(vf_mul(ds, u), slope), n);
        vf_store_act_part(d_up, act, i, vf_mul(ds, g), n);
    }
}

static void swiglu_gradient(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct swiglu_backward *p = context;
    (void)thread;
    for (int64_t t = begin; t < end; t++) {
        const void *x = act_at(p->gate_up, p->act, t * 2 * p->width);
        const void *dy = act_at(p->dy, p->act, t * p->width);
        void *dx = act_at_mut(p->d_gate_up, p->act, t * 2 * p->width);
        if (p->act == DTYPE_F32)
            swiglu_back_row(x, dy, DTYPE_F32, p->width, dx);
        else
            swiglu_back_row(x, dy, DTYPE_BF16, p->width, dx);
    }
}

void CPU_NAME(swiglu_backward)(struct backend *backend, const struct swiglu_backward *p)
{
    assert(p->act != DTYPE_F16);
    cpu_run(backend, cpu_threads(backend, p->tokens * p->width, 0.8), p->tokens, 0, swiglu_gradient, p);
}

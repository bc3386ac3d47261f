/* Operations without a sum over a row: embedding, SwiGLU, conversion. Threads split tokens, except
 * in embed_backward where they split the width, so that the gradient of a token id that occurs more
 * than once has one order of summation. */
#include "backend/cpu/act_part.h"
#include "backend/cpu/cpu_kernels.h"

#include <assert.h>

enum { CONVERT_CHUNK = 16384 };

ALWAYS_INLINE void widen(const void *x, enum dtype type, int64_t count, float *y)
{
    for (int64_t i = 0; i < count; i += VW) {
        int n = part_of(i, count);
        vf_store_act_part(y, DTYPE_F32, i, vf_load_act_part(x, type, i, n), n);
    }
}

static void embed_tokens(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct embed_forward *p = context;
    (void)thread;
    for (int64_t t = begin; t < end; t++) {
        assert(p->token[t] >= 0);
        const void *x = act_at(p->table, p->type, p->token[t] * p->width);
        float *y = p->y + t * p->width;
        if (p->type == DTYPE_F32)
            memcpy(y, x, (size_t)p->width * sizeof *y);
        else
            widen(x, DTYPE_BF16, p->width, y);
    }
}

void CPU_NAME(embed_forward)(struct backend *backend, const struct embed_forward *p)
{
    assert(p->type != DTYPE_F16);
    cpu_run(backend, cpu_threads(backend, p->tokens * p->width, 0.15), p->tokens, 0, embed_tokens, p);
}

/* Vectors of the width. */
static void embed_gradient(const void *context, int64_t first, int64_t last, int thread)
{
    const struct embed_backward *p = context;
    const int64_t begin = first * VW, end = last * VW < p->width ? last * VW : p->width;
    (void)thread;
    for (int64_t t = 0; t < p->tokens; t++) {
        assert(p->token[t] >= 0 && p->token[t] < p->vocab);
        const float *dy = p->dy + t * p->width;
        float *row = p->d_table + p->token[t] * p->width;
        for (int64_t i = begin; i < end; i += VW) {
            int n = part_of(i, end);
            vf sum = vf_add(vf_load_act_part(row, DTYPE_F32, i, n), vf_load_act_part(dy, DTYPE_F32, i, n));
            vf_store_act_part(row, DTYPE_F32, i, sum, n);
        }
    }
}

void CPU_NAME(embed_backward)(struct backend *backend, const struct embed_backward *p)
{
    cpu_run(backend, cpu_threads(backend, p->tokens * p->width, 0.3), (p->width + VW - 1) / VW, 0, embed_gradient, p);
}

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

/* From any type to F32 or BF16; F16 exists in checkpoints only. */
static void convert_chunk(const struct convert *p, int64_t first, int64_t count)
{
    const void *x = act_at(p->x, p->x_type, first);
    void *y = act_at_mut(p->y, p->y_type, first);
    if (p->x_type == p->y_type) {
        memcpy(y, x, (size_t)count * dtype_bytes(p->x_type));
    } else if (p->x_type == DTYPE_F16) {
        const uint16_t *half = x;
        for (int64_t i = 0; i < count; i++)
            act_store(y, p->y_type, i, f32_from_f16(half[i]));
    } else if (p->x_type == DTYPE_BF16) {
        widen(x, DTYPE_BF16, count, y);
    } else {
        for (int64_t i = 0; i < count; i += VW) {
            int n = part_of(i, count);
            vf_store_act_part(y, DTYPE_BF16, i, vf_load_act_part(x, DTYPE_F32, i, n), n);
        }
    }
}

static void convert_chunks(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct convert *p = context;
    const int64_t first = begin * CONVERT_CHUNK, left = p->count - first;
    const int64_t count = (end - begin) * CONVERT_CHUNK;
    (void)thread;
    convert_chunk(p, first, left < count ? left : count);
}

void CPU_NAME(convert)(struct backend *backend, const struct convert *p)
{
    assert(p->y_type != DTYPE_F16 || p->x_type == DTYPE_F16);
    cpu_run(backend, backend->threads, (p->count + CONVERT_CHUNK - 1) / CONVERT_CHUNK, 0, convert_chunks, p);
}

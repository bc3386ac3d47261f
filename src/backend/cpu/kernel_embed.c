/* Embedding, forward and backward. Threads split tokens in the forward and the width in the backward, so that the
 * gradient of a token id that occurs more than once has one order of summation. */
#include "backend/cpu/act_part.h"
#include "backend/cpu/cpu_kernels.h"
#include "base/rng.h"

#include <assert.h>

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
        else if (p->type == DTYPE_BF16)
            act_widen(x, DTYPE_BF16, p->width, y);
        else
            for (int64_t c = 0; c < p->width; c++)
                y[c] = f32_from_f16(((const uint16_t *)x)[c]);
    }
}

void CPU_NAME(embed_forward)(struct backend *backend, const struct embed_forward *p)
{
    cpu_run(backend, cpu_threads(backend, p->tokens * p->width, 0.15), p->tokens, 0, embed_tokens, p);
}

/* The number of vectors in the width. */
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

/* Vectors of the width, of one token after the other. */
static void change_rows(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct embed_change_forward *p = context;
    const vf zero = vf_zero();
    (void)thread;
    for (int64_t t = begin; t < end; t++) {
        assert(p->token[t] >= 0);
        const int64_t row = p->token[t] * p->r;
        float *y = p->y + t * p->width;
        for (int64_t i = 0; i < p->width; i += VW) {
            const int n = part_of(i, p->width);
            vf sum = zero;
            for (int64_t j = 0; j < p->r; j++)
                sum = vf_fma(vf_set(act_load(p->a, p->type, row + j)),
                             vf_load_act_part(act_at(p->b, p->type, j * p->width), p->type, i, n), sum);
            float lane[VW];
            vf_store(lane, vf_mul(vf_set(p->scale), sum));
            for (int e = 0; e < n; e++)
                y[i + e] = lane[e] == 0.0f ? y[i + e] : y[i + e] + lane[e];
        }
    }
}

void CPU_NAME(embed_change_forward)(struct backend *backend, const struct embed_change_forward *p)
{
    cpu_run(backend, cpu_threads(backend, p->tokens * p->width * p->r, 0.1), p->tokens, 0, change_rows, p);
}

static void change_inner(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct embed_change_backward *p = context;
    (void)thread;
    for (int64_t t = begin; t < end; t++)
        for (int64_t j = 0; j < p->r; j++) {
            const void *b = act_at(p->b, p->type, j * p->width);
            vf sum = vf_zero();
            for (int64_t i = 0; i < p->width; i += VW) {
                const int n = part_of(i, p->width);
                sum = vf_fma(vf_load_act_part(p->dy + t * p->width, DTYPE_F32, i, n),
                             vf_load_act_part(b, p->type, i, n), sum);
            }
            p->d[t * p->r + j] = p->scale * vf_sum(sum);
        }
}

/* The number of vectors in the width. */
static void change_gradient(const void *context, int64_t first, int64_t last, int thread)
{
    const struct embed_change_backward *p = context;
    const int64_t begin = first * VW, end = last * VW < p->width ? last * VW : p->width;
    (void)thread;
    for (int64_t t = 0; t < p->tokens; t++) {
        const int64_t row = p->token[t] * p->r;
        const float *dy = p->dy + t * p->width;
        for (int64_t j = 0; j < p->r; j++) {
            const vf a = vf_set(p->scale * act_load(p->a, p->type, row + j));
            float *db = p->db + j * p->width;
            for (int64_t i = begin; i < end; i += VW) {
                const int n = part_of(i, end);
                const vf was = vf_load_act_part(db, DTYPE_F32, i, n);
                vf_store_act_part(db, DTYPE_F32, i, vf_fma(a, vf_load_act_part(dy, DTYPE_F32, i, n), was), n);
            }
        }
    }
}

void CPU_NAME(embed_change_backward)(struct backend *backend, const struct embed_change_backward *p)
{
    const int threads = cpu_threads(backend, p->tokens * p->width * p->r, 0.2);
    cpu_run(backend, threads, p->tokens, 0, change_inner, p);
    cpu_run(backend, threads, (p->width + VW - 1) / VW, 0, change_gradient, p);
    CPU_NAME(embed_backward)
    (backend,
     &(struct embed_backward){
         .tokens = p->tokens, .width = p->r, .vocab = p->vocab, .token = p->token, .dy = p->d, .d_table = p->da});
}

static void add_noise(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct embed_noise *p = context;
    const uint64_t blocks = (uint64_t)(p->width + 3) / 4;
    (void)thread;
    for (int64_t t = begin; t < end; t++) {
        float *y = p->y + t * p->width;
        for (int64_t c = 0; c < p->width; c += 4) {
            const struct rng_block block =
                rng_philox(p->seed, RNG_NOISE, p->stream[t], (uint64_t)p->position[t] * blocks + (uint64_t)c / 4);
            for (int64_t i = c; i < c + 4 && i < p->width; i++)
                y[i] += p->scale[t] * (2.0f * rng_uniform(block.word[i - c]) - 1.0f);
        }
    }
}

void CPU_NAME(embed_noise)(struct backend *backend, const struct embed_noise *p)
{
    cpu_run(backend, cpu_threads(backend, p->tokens * p->width, 5.0), p->tokens, 0, add_noise, p);
}

/* The divergence of two rows of logits, and its gradient by the first. Both read each row once and are bound by memory.
 * The formulas are those of cpu/kernel_divergence.c. */
#include "backend/cuda/head_row.cuh"

#include <assert.h>

enum { FINISH_WARPS = 4 /* rows of a block that finishes sums */ };

/* Below all log-probs that are any, and still a number: what can never be has this one, so that its probability of 0
 * times a difference of two such is 0. */
#define NEVER (-1e30f)

/* The formulas of struct divergence. */
enum divergence_kind { FORWARD_KL, REVERSE_KL, BETWEEN };

static divergence_kind kind_of(float beta) { return beta == 0.0f ? FORWARD_KL : beta == 1.0f ? REVERSE_KL : BETWEEN; }

/* A NaN is one of the whole row, whose lse is NaN too: what is written in the end is made of that one. */
static __device__ __forceinline__ float log_prob(float logit, float inv_temperature, float lse)
{
    return fmaxf(logit * inv_temperature - lse, NEVER);
}

/* With d = ln q - ln p: ln m - ln p, and ln q - ln m. */
struct mix_gaps {
    float own, other;
};

static __device__ __forceinline__ mix_gaps gaps_of(float d, float beta)
{
    const float below = fminf(d, 0.0f), above = fmaxf(d, 0.0f);
    const float rest = logf(fmaf(beta, expf(below), (1.0f - beta) * expf(-above)));
    return mix_gaps{above + rest, below - rest};
}

/* Block p + n_parts * r: part p of row r; sums[r, p] of KL(p || m) and of KL(q || m), in that order. */
template <divergence_kind KIND>
static __global__ void __launch_bounds__(LOGITS_THREADS)
    divergence_part_kernel(divergence p, int n_parts, float inv_temperature, float2 *sums)
{
    __shared__ float2 shared[LOGITS_WARPS];
    const int64_t row = blockIdx.x / (unsigned)n_parts;
    const int64_t begin = (int64_t)(blockIdx.x % (unsigned)n_parts) * LOGITS_PART;
    const float lse = p.lse[row], lse_teacher = p.lse_teacher[row];
    float x[LOGITS_EACH], y[LOGITS_EACH];
    load_part(x, p.logits + row * p.vocab, begin, p.vocab);
    load_part(y, p.teacher + row * p.vocab, begin, p.vocab);
    float own[4] = {0.0f, 0.0f, 0.0f, 0.0f}, other[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
    for (int i = 0; i < LOGITS_EACH; i++) {
        const float lp = log_prob(x[i], inv_temperature, lse), lq = log_prob(y[i], inv_temperature, lse_teacher);
        const float d = lq - lp;
        if (KIND == REVERSE_KL) {
            own[i % 4] -= expf(lp) * d;
        } else if (KIND == FORWARD_KL) {
            other[i % 4] = fmaf(expf(lq), d, other[i % 4]);
        } else {
            const mix_gaps gaps = gaps_of(d, p.beta);
            own[i % 4] -= expf(lp) * gaps.own;
            other[i % 4] = fmaf(expf(lq), gaps.other, other[i % 4]);
        }
    }
    const float a = warp_sum((own[0] + own[1]) + (own[2] + own[3]));
    const float b = warp_sum((other[0] + other[1]) + (other[2] + other[3]));
    if (threadIdx.x % 32 == 0)
        shared[threadIdx.x / 32] = make_float2(a, b);
    __syncthreads();
    if (threadIdx.x != 0)
        return;
    float2 whole = make_float2(0.0f, 0.0f);
#pragma unroll
    for (int i = 0; i < LOGITS_WARPS; i++) {
        whole.x += shared[i].x;
        whole.y += shared[i].y;
    }
    sums[row * n_parts + blockIdx.x % (unsigned)n_parts] = whole;
}

/* A row's parts in ascending order, in double: each lane those of its place, then the lanes. */
static __global__ void __launch_bounds__(FINISH_WARPS * 32)
    divergence_finish_kernel(divergence p, int n_parts, const float2 *sums)
{
    const int64_t r = (int64_t)blockIdx.x * FINISH_WARPS + threadIdx.x / 32;
    if (r >= p.rows)
        return;
    const int lane = (int)threadIdx.x % 32, each = parts_per_lane(n_parts);
    const int begin = lane * each < n_parts ? lane * each : n_parts;
    const int end = begin + each < n_parts ? begin + each : n_parts;
    double a = 0.0, b = 0.0, own = 0.0, other = 0.0;
    for (int i = begin; i < end; i++) {
        a += (double)sums[r * n_parts + i].x;
        b += (double)sums[r * n_parts + i].y;
    }
    for (int i = 0; i < 32; i++) {
        own += lane_value(a, i);
        other += lane_value(b, i);
    }
    if (lane != 0)
        return;
    const bool valid = fabsf(p.lse[r]) < INFINITY && fabsf(p.lse_teacher[r]) < INFINITY,
               ends = p.beta == 0.0f || p.beta == 1.0f;
    const double beta = (double)p.beta, value = ends ? own + other : beta * other + (1.0 - beta) * own;
    p.value[r] = valid ? (float)value : not_a_number();
    p.to_mix[r] = valid ? (float)own : not_a_number();
}

static int64_t parts_of(int64_t vocab) { return (vocab + LOGITS_PART - 1) / LOGITS_PART; }

extern "C" size_t cuda_divergence_scratch(int64_t vocab, int64_t rows)
{
    return (size_t)rows * (size_t)parts_of(vocab) * sizeof(float2);
}

extern "C" void cuda_divergence(struct backend *backend, const struct divergence *p)
{
    struct cuda_state *s = cuda_state_of(backend);
    assert(p->temperature > 0.0f && p->vocab > 0 && p->vocab <= INT32_MAX && p->beta >= 0.0f && p->beta <= 1.0f);
    if (p->rows <= 0)
        return;
    const int64_t n_parts = parts_of(p->vocab);
    assert(p->rows * n_parts <= INT32_MAX);
    float2 *sums = (float2 *)cuda_scratch(backend, cuda_divergence_scratch(p->vocab, p->rows));
    if (sums == NULL)
        return;
    const divergence_kind kind = kind_of(p->beta);
    auto kernel = kind == FORWARD_KL   ? divergence_part_kernel<FORWARD_KL>
                  : kind == REVERSE_KL ? divergence_part_kernel<REVERSE_KL>
                                       : divergence_part_kernel<BETWEEN>;
    LAUNCH(kernel, (unsigned)(p->rows * n_parts), LOGITS_THREADS, 0, s->stream, *p, (int)n_parts, 1.0f / p->temperature,
           sums);
    LAUNCH(divergence_finish_kernel, (unsigned)((p->rows + FINISH_WARPS - 1) / FINISH_WARPS), FINISH_WARPS * 32, 0,
           s->stream, *p, (int)n_parts, sums);
    cuda_note(backend, "divergence", cudaSuccess);
}

/* Block b + n_parts * r: entries LOGITS_PART * b ... of row r. */
template <typename T, divergence_kind KIND>
static __global__ void __launch_bounds__(LOGITS_THREADS)
    divergence_gradient_kernel(divergence p, int n_parts, float inv_temperature)
{
    const int64_t row = blockIdx.x / (unsigned)n_parts;
    const int64_t begin = (int64_t)(blockIdx.x % (unsigned)n_parts) * LOGITS_PART;
    const float lse = p.lse[row], lse_teacher = p.lse_teacher[row], to_mix = p.to_mix[row];
    const float factor = p.weight[row] * inv_temperature * (KIND == BETWEEN ? 1.0f - p.beta : 1.0f);
    float x[LOGITS_EACH], y[LOGITS_EACH];
    load_part(x, p.logits + row * p.vocab, begin, p.vocab);
    load_part(y, p.teacher + row * p.vocab, begin, p.vocab);
    const int64_t left = p.vocab - begin;
    T *out = (T *)p.d_logits + row * p.vocab + begin;
    const bool wide = ((uintptr_t)out & (4 * sizeof(T) - 1)) == 0;
#pragma unroll
    for (int v = 0; v < LOGITS_EACH / 4; v++) {
        float d[4];
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const float lp = log_prob(x[4 * v + j], inv_temperature, lse),
                        lq = log_prob(y[4 * v + j], inv_temperature, lse_teacher), prob = expf(lp);
            float slope;
            if (KIND == FORWARD_KL)
                slope = (prob - expf(lq)) + to_mix; /* 0, or NaN where there is no distribution */
            else if (KIND == REVERSE_KL)
                slope = prob * (-to_mix - (lq - lp));
            else
                slope = prob * (-to_mix - gaps_of(lq - lp, p.beta).own);
            d[j] = slope * factor;
        }
        store_logits4(out, part_offset(v), left, wide, d);
    }
}

template <typename T> static auto gradient_kernel_of(divergence_kind kind)
{
    return kind == FORWARD_KL   ? divergence_gradient_kernel<T, FORWARD_KL>
           : kind == REVERSE_KL ? divergence_gradient_kernel<T, REVERSE_KL>
                                : divergence_gradient_kernel<T, BETWEEN>;
}

extern "C" void cuda_divergence_gradient(struct backend *backend, const struct divergence *p)
{
    struct cuda_state *s = cuda_state_of(backend);
    assert(p->temperature > 0.0f && p->act != DTYPE_F16 && p->beta >= 0.0f && p->beta <= 1.0f);
    if (p->rows <= 0)
        return;
    const int64_t n_parts = parts_of(p->vocab);
    assert(p->rows * n_parts <= INT32_MAX);
    const divergence_kind kind = kind_of(p->beta);
    auto kernel = p->act == DTYPE_F32 ? gradient_kernel_of<float>(kind) : gradient_kernel_of<uint16_t>(kind);
    LAUNCH(kernel, (unsigned)(p->rows * n_parts), LOGITS_THREADS, 0, s->stream, *p, (int)n_parts,
           1.0f / p->temperature);
    cuda_note(backend, "divergence_gradient", cudaSuccess);
}

/* The end of the model: log-probs and entropy of rows of logits, and their gradient. Both read the logits once and are
 * bound by memory. */
#include "backend/cuda/head_row.cuh"

#include <assert.h>

enum { FINISH_WARPS = 4 /* rows of a block that finishes statistics */ };

/* Block p + n_parts * r: part p of row r. */
static __global__ void __launch_bounds__(LOGITS_THREADS)
    stats_part_kernel(const float *logits, int64_t vocab, int n_parts, float inv_temperature, logits_part *parts)
{
    __shared__ logits_part shared[LOGITS_WARPS];
    const int64_t row = blockIdx.x / (unsigned)n_parts;
    const int64_t part = blockIdx.x % (unsigned)n_parts;
    float x[LOGITS_EACH];
    load_part(x, logits + row * vocab, part * LOGITS_PART, vocab);
    const logits_part whole = part_statistics(x, inv_temperature, shared);
    if (threadIdx.x == 0)
        parts[row * n_parts + part] = whole;
}

static __global__ void __launch_bounds__(FINISH_WARPS * 32)
    stats_finish_kernel(head_stats p, int n_parts, float inv_temperature, const logits_part *parts)
{
    const int64_t r = (int64_t)blockIdx.x * FINISH_WARPS + threadIdx.x / 32;
    if (r >= p.rows)
        return;
    const logits_row row = row_statistics<PARTS_AT_ONCE>(parts + r * n_parts, n_parts);
    if (threadIdx.x % 32 != 0)
        return;
    const float logit = p.logits[r * p.vocab + p.target[r]];
    p.lse[r] = (float)row.lse;
    p.logp[r] = row_logp(row.lse, logit, inv_temperature);
    if (p.entropy != NULL)
        p.entropy[r] = (float)row.entropy;
}

extern "C" void cuda_head_stats(struct backend *backend, const struct head_stats *p)
{
    struct cuda_state *s = cuda_state_of(backend);
    assert(p->temperature > 0.0f && p->vocab > 0 && p->vocab <= INT32_MAX);
    if (p->rows <= 0)
        return;
    const int64_t n_parts = (p->vocab + LOGITS_PART - 1) / LOGITS_PART;
    assert(p->rows * n_parts <= INT32_MAX);
    logits_part *parts = (logits_part *)cuda_scratch(backend, (size_t)(p->rows * n_parts) * sizeof(logits_part));
    if (parts == NULL)
        return;
    const float inv_temperature = 1.0f / p->temperature;
    LAUNCH(stats_part_kernel, (unsigned)(p->rows * n_parts), LOGITS_THREADS, 0, s->stream, p->logits, p->vocab,
           (int)n_parts, inv_temperature, parts);
    LAUNCH(stats_finish_kernel, (unsigned)((p->rows + FINISH_WARPS - 1) / FINISH_WARPS), FINISH_WARPS * 32, 0,
           s->stream, *p, (int)n_parts, inv_temperature, parts);
    cuda_note(backend, "head_stats", cudaSuccess);
}

/* What one row's gradient is made of: with l = log p and p = exp(l),
 * d z_v = d_logp * (onehot - p) - d_entropy * p * (l + entropy), d_logit = inv_temperature * d z.
 * A row without a distribution has a NaN lse, which passes through p into every entry. */
struct gradient_row {
    float inv_temperature, lse, entropy, d_logp, d_entropy;
};

static __device__ __forceinline__ float gradient_of(const gradient_row &g, float logit, bool target)
{
    const float l = logit * g.inv_temperature - g.lse;
    const float prob = expf(l);
    const float gain = fmaxf(l, LOG_OF_NOTHING) + g.entropy;
    const float down = prob * fmaf(g.d_entropy, gain, g.d_logp);
    return target ? (g.d_logp - down) * g.inv_temperature : down * -g.inv_temperature;
}

static __device__ __forceinline__ void store4(uint16_t *to, const float d[4])
{
    uint2 packed = make_uint2(pack_bf16(d[0], d[1]), pack_bf16(d[2], d[3]));
    *reinterpret_cast<uint2 *>(to) = packed;
}
static __device__ __forceinline__ void store4(float *to, const float d[4])
{
    *reinterpret_cast<float4 *>(to) = make_float4(d[0], d[1], d[2], d[3]);
}

/* Block b + n_parts * r: entries LOGITS_PART * b ... of row r. */
template <typename T>
static __global__ void __launch_bounds__(LOGITS_THREADS)
    gradient_kernel(head_gradient p, int n_parts, float inv_temperature)
{
    const int64_t r = blockIdx.x / (unsigned)n_parts;
    const int64_t begin = (int64_t)(blockIdx.x % (unsigned)n_parts) * LOGITS_PART;
    float x[LOGITS_EACH];
    load_part(x, p.logits + r * p.vocab, begin, p.vocab);
    gradient_row g = {inv_temperature, p.lse[r], 0.0f, p.d_logp[r], 0.0f};
    if (p.d_entropy != NULL) {
        g.entropy = p.entropy[r];
        g.d_entropy = p.d_entropy[r];
    }
    const int64_t target = p.target[r] - begin;
    const int64_t left = p.vocab - begin;
    T *out = (T *)p.d_logits + r * p.vocab + begin;
    const bool wide = ((uintptr_t)out & (4 * sizeof(T) - 1)) == 0;
#pragma unroll
    for (int v = 0; v < LOGITS_EACH / 4; v++) {
        const int i = part_offset(v);
        float d[4];
#pragma unroll
        for (int j = 0; j < 4; j++)
            d[j] = gradient_of(g, x[4 * v + j], i + j == target);
        if (wide && i + 4 <= left) {
            store4(out + i, d);
        } else {
#pragma unroll
            for (int j = 0; j < 4; j++)
                if (i + j < left)
                    store_element(out + i + j, d[j]);
        }
    }
}

extern "C" void cuda_head_gradient(struct backend *backend, const struct head_gradient *p)
{
    struct cuda_state *s = cuda_state_of(backend);
    assert(p->temperature > 0.0f && p->act != DTYPE_F16);
    assert(p->d_entropy == NULL || p->entropy != NULL);
    if (p->rows <= 0)
        return;
    const int64_t n_parts = (p->vocab + LOGITS_PART - 1) / LOGITS_PART;
    assert(p->rows * n_parts <= INT32_MAX);
    const unsigned grid = (unsigned)(p->rows * n_parts);
    const float inv_temperature = 1.0f / p->temperature;
    if (p->act == DTYPE_F32)
        LAUNCH((gradient_kernel<float>), grid, LOGITS_THREADS, 0, s->stream, *p, (int)n_parts, inv_temperature);
    else
        LAUNCH((gradient_kernel<uint16_t>), grid, LOGITS_THREADS, 0, s->stream, *p, (int)n_parts, inv_temperature);
    cuda_note(backend, "head_gradient", cudaSuccess);
}

/* The end of the model: log-probs and entropy of rows of logits, and their gradient. Both read the logits once and are
 * bound by memory. */
#include "backend/cuda/head_row.cuh"

#include <assert.h>

enum { FINISH_WARPS = 4 /* rows of a block that finishes statistics */ };

/* The sum of z over a part; those past the end count as nothing. Every thread gets it. */
static __device__ __forceinline__ float part_sum(const float x[LOGITS_EACH], float inv_temperature, int64_t left,
                                                 float *shared)
{
    float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
    for (int i = 0; i < LOGITS_EACH; i++)
        sum[i % 4] += part_offset(i / 4) + i % 4 < left ? x[i] * inv_temperature : 0.0f;
    const float own = warp_sum((sum[0] + sum[1]) + (sum[2] + sum[3]));
    if (threadIdx.x % 32 == 0)
        shared[threadIdx.x / 32] = own;
    __syncthreads();
    float total = 0.0f;
#pragma unroll
    for (int i = 0; i < LOGITS_WARPS; i++)
        total += shared[i];
    return total;
}

/* The thread's entries of a part of row r, without what the row is not allowed. */
static __device__ __forceinline__ void forbid_of_row(float x[LOGITS_EACH], const head_allowed &allowed, int64_t r,
                                                     int64_t begin, int64_t vocab)
{
    if (allowed.which[r] >= 0)
        forbid_part(x, allowed.bits + allowed.which[r] * allowed_words(vocab), begin, vocab);
}

/* Block p + n_parts * r: part p of row r. sums: of z over each part, with MEAN. MASKED: rows may have ids that are not
 * allowed. */
template <bool MEAN, bool MASKED>
static __global__ void __launch_bounds__(LOGITS_THREADS)
    stats_part_kernel(const float *logits, int64_t vocab, int n_parts, float inv_temperature, logits_part *parts,
                      float *sums, head_allowed allowed)
{
    __shared__ logits_part shared[LOGITS_WARPS];
    const int64_t row = blockIdx.x / (unsigned)n_parts;
    const int64_t part = blockIdx.x % (unsigned)n_parts;
    float x[LOGITS_EACH];
    load_part(x, logits + row * vocab, part * LOGITS_PART, vocab);
    if (MASKED)
        forbid_of_row(x, allowed, row, part * LOGITS_PART, vocab);
    const logits_part whole = part_statistics(x, inv_temperature, shared);
    if (threadIdx.x == 0)
        parts[row * n_parts + part] = whole;
    if (MEAN) {
        __shared__ float shared_sum[LOGITS_WARPS];
        const float sum = part_sum(x, inv_temperature, vocab - part * LOGITS_PART, shared_sum);
        if (threadIdx.x == 0)
            sums[row * n_parts + part] = sum;
    }
}

/* Whether the token is the row's first entry with the largest z, as an argmax gives it. By one warp; only parts that
 * have this maximum are read again. */
static __device__ bool row_is_top(const float *logits, int32_t token, float inv_temperature, const logits_part *part,
                                  int n_parts)
{
    const int lane = (int)threadIdx.x % 32;
    const float z = logits[token] * inv_temperature;
    float max = negative_infinity();
    for (int b = lane; b < n_parts; b += 32)
        max = fmaxf(max, part[b].max);
    if (!(warp_max(max) <= z))
        return false;
    bool earlier = false;
    for (int b = 0; (int64_t)b * LOGITS_PART < token; b++) {
        if (part[b].max != z)
            continue;
        const int64_t begin = (int64_t)b * LOGITS_PART;
        const int64_t end = begin + LOGITS_PART < token ? begin + LOGITS_PART : (int64_t)token;
        for (int64_t i = begin + lane; i < end; i += 32)
            earlier = earlier || logits[i] * inv_temperature == z;
    }
    return warp_max(earlier ? 1.0f : 0.0f) == 0.0f;
}

/* A row's parts in ascending order, in double: each lane those of its place, then the lanes. */
static __device__ double sum_of_parts(const float *sums, int n_parts)
{
    const int lane = (int)threadIdx.x % 32, each = parts_per_lane(n_parts);
    const int begin = lane * each < n_parts ? lane * each : n_parts;
    const int end = begin + each < n_parts ? begin + each : n_parts;
    double own = 0.0, total = 0.0;
    for (int b = begin; b < end; b++)
        own += (double)sums[b];
    for (int i = 0; i < 32; i++)
        total += lane_value(own, i);
    return total;
}

static __global__ void __launch_bounds__(FINISH_WARPS * 32)
    stats_finish_kernel(head_stats p, int n_parts, float inv_temperature, const logits_part *parts, const float *sums)
{
    const int64_t r = (int64_t)blockIdx.x * FINISH_WARPS + threadIdx.x / 32;
    if (r >= p.rows)
        return;
    const logits_row row = row_statistics<PARTS_AT_ONCE>(parts + r * n_parts, n_parts);
    bool top = false;
    double mean = 0.0;
    if (p.top != NULL)
        top =
            row.valid && row_is_top(p.logits + r * p.vocab, p.target[r], inv_temperature, parts + r * n_parts, n_parts);
    if (p.mean != NULL)
        mean = sum_of_parts(sums + r * n_parts, n_parts) / (double)p.vocab - row.lse;
    if (threadIdx.x % 32 != 0)
        return;
    if (p.top != NULL)
        p.top[r] = top ? 1 : 0;
    if (p.mean != NULL)
        p.mean[r] = row.valid ? (float)mean : not_a_number();
    const float logit = p.logits[r * p.vocab + p.target[r]];
    p.lse[r] = (float)row.lse;
    p.logp[r] = row_logp(row.lse, logit, inv_temperature);
    if (p.entropy != NULL)
        p.entropy[r] = (float)row.entropy;
}

static int64_t parts_of(int64_t vocab) { return (vocab + LOGITS_PART - 1) / LOGITS_PART; }

/* Parts, and behind them their sums of z. */
extern "C" size_t cuda_head_scratch(int64_t vocab, int64_t rows)
{
    return (size_t)rows * (size_t)parts_of(vocab) * (sizeof(logits_part) + sizeof(float));
}

extern "C" void cuda_head_stats(struct backend *backend, const struct head_stats *p)
{
    struct cuda_state *s = cuda_state_of(backend);
    assert(p->temperature > 0.0f && p->vocab > 0 && p->vocab <= INT32_MAX);
    if (p->rows <= 0)
        return;
    const int64_t n_parts = parts_of(p->vocab);
    assert(p->rows * n_parts <= INT32_MAX);
    const size_t count = (size_t)(p->rows * n_parts);
    logits_part *parts = (logits_part *)cuda_scratch(backend, cuda_head_scratch(p->vocab, p->rows));
    if (parts == NULL)
        return;
    float *sums = (float *)(parts + count);
    const float inv_temperature = 1.0f / p->temperature;
    assert(p->allowed.bits == NULL || (p->top == NULL && p->mean == NULL));
    auto kernel = p->mean != NULL           ? stats_part_kernel<true, false>
                  : p->allowed.bits != NULL ? stats_part_kernel<false, true>
                                            : stats_part_kernel<false, false>;
    LAUNCH(kernel, (unsigned)count, LOGITS_THREADS, 0, s->stream, p->logits, p->vocab, (int)n_parts, inv_temperature,
           parts, sums, p->allowed);
    LAUNCH(stats_finish_kernel, (unsigned)((p->rows + FINISH_WARPS - 1) / FINISH_WARPS), FINISH_WARPS * 32, 0,
           s->stream, *p, (int)n_parts, inv_temperature, parts, sums);
    cuda_note(backend, "head_stats", cudaSuccess);
}

/* What one row's gradient is made of: with l = log p and p = exp(l),
 * d z_v = d_logp * onehot - p * (d_logp + d_mean + d_entropy * (l + entropy)) + d_mean / V, d_logit = inv_temperature *
 * d z. A row without a distribution has a NaN lse, which passes through p into every entry. */
struct gradient_row {
    float inv_temperature, lse, entropy, d_logp, d_entropy;
    float d_both;  /* d_logp + d_mean */
    float uniform; /* d_mean / V */
};

/* SMOOTH: there is a d_mean. */
template <bool SMOOTH>
static __device__ __forceinline__ float gradient_of(const gradient_row &g, float logit, bool target)
{
    const float l = logit * g.inv_temperature - g.lse;
    const float prob = expf(l);
    const float gain = fmaxf(l, LOG_OF_NOTHING) + g.entropy;
    float down = prob * fmaf(g.d_entropy, gain, g.d_both);
    if (SMOOTH)
        down -= g.uniform;
    return target ? (g.d_logp - down) * g.inv_temperature : down * -g.inv_temperature;
}

/* Block b + n_parts * r: entries LOGITS_PART * b ... of row r. */
template <typename T, bool SMOOTH, bool MASKED>
static __global__ void __launch_bounds__(LOGITS_THREADS)
    gradient_kernel(head_gradient p, int n_parts, float inv_temperature)
{
    const int64_t r = blockIdx.x / (unsigned)n_parts;
    const int64_t begin = (int64_t)(blockIdx.x % (unsigned)n_parts) * LOGITS_PART;
    float x[LOGITS_EACH];
    load_part(x, p.logits + r * p.vocab, begin, p.vocab);
    if (MASKED)
        forbid_of_row(x, p.allowed, r, begin, p.vocab);
    gradient_row g = {inv_temperature, p.lse[r], 0.0f, p.d_logp[r], 0.0f, p.d_logp[r], 0.0f};
    if (SMOOTH) {
        g.d_both = p.d_logp[r] + p.d_mean[r];
        g.uniform = p.d_mean[r] / (float)p.vocab;
    }
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
            d[j] = gradient_of<SMOOTH>(g, x[4 * v + j], i + j == target);
        store_logits4(out, i, left, wide, d);
    }
}

extern "C" void cuda_head_gradient(struct backend *backend, const struct head_gradient *p)
{
    struct cuda_state *s = cuda_state_of(backend);
    assert(p->temperature > 0.0f && p->act != DTYPE_F16);
    assert(p->d_entropy == NULL || p->entropy != NULL);
    if (p->rows <= 0)
        return;
    const int64_t n_parts = parts_of(p->vocab);
    assert(p->rows * n_parts <= INT32_MAX);
    const unsigned grid = (unsigned)(p->rows * n_parts);
    const float inv_temperature = 1.0f / p->temperature;
    const bool f32 = p->act == DTYPE_F32;
    assert(p->allowed.bits == NULL || p->d_mean == NULL);
    auto kernel = f32 ? gradient_kernel<float, false, false> : gradient_kernel<uint16_t, false, false>;
    if (p->d_mean != NULL)
        kernel = f32 ? gradient_kernel<float, true, false> : gradient_kernel<uint16_t, true, false>;
    else if (p->allowed.bits != NULL)
        kernel = f32 ? gradient_kernel<float, false, true> : gradient_kernel<uint16_t, false, true>;
    LAUNCH(kernel, grid, LOGITS_THREADS, 0, s->stream, *p, (int)n_parts, inv_temperature);
    cuda_note(backend, "head_gradient", cudaSuccess);
}

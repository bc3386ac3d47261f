/* Which experts a token goes to, and its gradient: a warp has a token, lane l its experts l, l + 32, ... . Then the pairs
 * of tokens and experts are sorted by expert with a stable counting sort, all on the device: the step of a recorded
 * window learns nothing from the host. Sums over a row have the order of lanes; atomics are on integers only. */
#include "backend/cuda/cuda_device.cuh"
#include "backend/expert_ops.h"

#include <assert.h>

namespace
{

enum {
    ROW_WARPS = 4,       /* tokens of a block */
    PLACE_THREADS = 256, /* pairs that a block sorts */
    FEW_THREADS = 1024,  /* of the block that sorts all, where there are few */
    FEW_PAIRS = 8192,
    FEW_EXPERTS = 256, /* a block has a counter for each in each of its warps */
    SCAN_THREADS = 1024,
    SUM_TOKENS = 64 /* that a block of the sums has */
};

__device__ __forceinline__ int lanes_below(unsigned mask) { return __popc(mask & ((1u << (threadIdx.x % 32)) - 1u)); }

/* p[i]: of expert i * 32 + lane. */
template <int PER> __device__ __forceinline__ void softmax(const float *logits, int n, float (&p)[PER])
{
    const int lane = (int)(threadIdx.x % 32);
    float most = -INFINITY, sum = 0.0f;
#pragma unroll
    for (int i = 0; i < PER; i++) {
        p[i] = i * 32 + lane < n ? logits[i * 32 + lane] : -INFINITY;
        most = fmaxf(most, p[i]);
    }
    most = warp_max(most);
#pragma unroll
    for (int i = 0; i < PER; i++) {
        p[i] = i * 32 + lane < n ? expf(p[i] - most) : 0.0f;
        sum += p[i];
    }
    sum = warp_sum(sum);
#pragma unroll
    for (int i = 0; i < PER; i++)
        p[i] = p[i] / sum;
}

/* The largest value of all lanes, of equal ones that of the lowest number. */
__device__ __forceinline__ void best_of_warp(float &value, int &expert)
{
    for (int o = 16; o > 0; o >>= 1) {
        const float v = __shfl_xor_sync(0xffffffffu, value, o);
        const int e = __shfl_xor_sync(0xffffffffu, expert, o);
        if (v > value || (v == value && e < expert)) {
            value = v;
            expert = e;
        }
    }
}

template <int PER> __global__ void __launch_bounds__(32 * ROW_WARPS) route_kernel(const route_forward f)
{
    const int64_t t = (int64_t)blockIdx.x * ROW_WARPS + threadIdx.x / 32;
    const int lane = (int)(threadIdx.x % 32), k = f.chosen;
    if (t >= f.tokens)
        return;
    float p[PER], q[PER]; /* q: p of those that are not taken yet, a NaN below all */
    softmax<PER>(f.logits + t * f.n_experts, f.n_experts, p);
#pragma unroll
    for (int i = 0; i < PER; i++)
        q[i] = i * 32 + lane >= f.n_experts ? -3.0f : p[i] >= 0.0f ? p[i] : -1.0f;
    int mine = 0x7fffffff; /* lane j < k: the expert taken in turn j */
    float weight = 0.0f;
    for (int j = 0; j < k; j++) {
        float value = -4.0f, kept = 0.0f;
        int expert = 0x7fffffff;
#pragma unroll
        for (int i = 0; i < PER; i++)
            if (q[i] > value) {
                value = q[i];
                expert = i * 32 + lane;
            }
        best_of_warp(value, expert);
#pragma unroll
        for (int i = 0; i < PER; i++)
            if (expert == i * 32 + lane) {
                q[i] = -2.0f;
                kept = p[i];
            }
        kept = __shfl_sync(0xffffffffu, kept, expert % 32);
        if (lane == j) {
            mine = expert;
            weight = kept;
        }
    }
    if (f.given != NULL && f.given[t * f.stride] != ROUTE_UNKNOWN) {
        int given = lane < k ? f.given[t * f.stride + lane] : -1, place = 0;
        for (int j = 0; j < k; j++)
            place += __shfl_sync(0xffffffffu, mine, j) < mine;
        const int there = __shfl_sync(0xffffffffu, given, lane < k ? place : 0);
        const bool differs = __any_sync(0xffffffffu, lane < k && there != mine);
        if (lane == 0 && differs)
            f.differ[t] += 1;
        for (int j = 0; f.replay && j < k; j++) {
            const int expert = __shfl_sync(0xffffffffu, given, j);
            float kept = 0.0f;
#pragma unroll
            for (int i = 0; i < PER; i++)
                kept = expert == i * 32 + lane ? p[i] : kept;
            kept = __shfl_sync(0xffffffffu, kept, expert % 32);
            if (lane == j) {
                mine = expert;
                weight = kept;
            }
        }
    }
    int rank = 0; /* of the lane's expert among those chosen */
    for (int j = 0; j < k; j++)
        rank += __shfl_sync(0xffffffffu, mine, j) < mine;
    float sum = 0.0f;
    for (int j = 0; j < k; j++) {
        const unsigned who = __ballot_sync(0xffffffffu, lane < k && rank == j);
        sum += __shfl_sync(0xffffffffu, weight, __ffs((int)who) - 1);
    }
    if (lane < k) {
        f.expert[t * k + rank] = mine;
        f.weight[t * k + rank] = f.normalised ? weight / sum : weight;
        if (f.record != NULL && f.record_row[t] >= 0)
            f.record[f.record_row[t] * f.stride + rank] = (uint16_t)mine;
    }
}

template <int PER> __global__ void __launch_bounds__(32 * ROW_WARPS) route_backward_kernel(const route_backward b)
{
    const int64_t t = (int64_t)blockIdx.x * ROW_WARPS + threadIdx.x / 32;
    const int lane = (int)(threadIdx.x % 32), n = b.n_experts, k = b.chosen;
    if (t >= b.tokens)
        return;
    const int32_t *expert = b.expert + t * k;
    const float *dw = b.d_weight + t * k;
    float p[PER], dp[PER], sum = 0.0f, mean = 0.0f, dot = 0.0f;
    softmax<PER>(b.logits + t * n, n, p);
#pragma unroll
    for (int i = 0; i < PER; i++)
        dp[i] = b.aux != NULL && i * 32 + lane < n ? (float)b.count[t] * b.aux[i * 32 + lane] : 0.0f;
    for (int j = 0; j < k; j++) {
        float chosen = 0.0f;
#pragma unroll
        for (int i = 0; i < PER; i++)
            chosen = expert[j] == i * 32 + lane ? p[i] : chosen;
        chosen = __shfl_sync(0xffffffffu, chosen, expert[j] % 32);
        sum += chosen;
        mean += dw[j] * chosen;
    }
    for (int j = 0; j < k; j++) {
        const float d = b.normalised ? (dw[j] - mean / sum) / sum : dw[j];
#pragma unroll
        for (int i = 0; i < PER; i++)
            dp[i] += expert[j] == i * 32 + lane ? d : 0.0f;
    }
#pragma unroll
    for (int i = 0; i < PER; i++)
        dot += dp[i] * p[i];
    dot = warp_sum(dot);
#pragma unroll
    for (int i = 0; i < PER; i++)
        if (i * 32 + lane < n) {
            const float d = p[i] * (dp[i] - dot);
            const int64_t at = t * n + i * 32 + lane;
            if (b.act == DTYPE_F32)
                ((float *)b.d_logits)[at] = d;
            else
                ((uint16_t *)b.d_logits)[at] = float_to_bf16(d);
        }
}

/* ---- Grouping ---- */

/* How often each expert stands in pairs first .. end. Counts of whole numbers are the same in whatever order threads add;
 * which row a pair gets is place_pairs' affair, which goes by the order of pairs. */
__device__ __forceinline__ void count_pairs(const int32_t *expert, int first, int end, int32_t *count)
{
    for (int i = first + (int)threadIdx.x; i < end; i += (int)blockDim.x)
        atomicAdd(&count[expert[i]], 1);
}

/* Writes one pair for each thread to its row, in order: base[e] is the first free row of expert e, and what follows it
 * when all have written. counts: [warps, E]. */
__device__ __forceinline__ void place_pairs(const route_forward &f, int first, int pairs, int32_t *base,
                                            int32_t *counts)
{
    const int i = first + (int)threadIdx.x, n = f.n_experts;
    const int warps = (int)(blockDim.x / 32), warp = (int)(threadIdx.x / 32);
    const int e = i < pairs ? f.expert[i] : -1;
    for (int j = (int)threadIdx.x; j < warps * n; j += (int)blockDim.x)
        counts[j] = 0;
    __syncthreads();
    const unsigned same = __match_any_sync(0xffffffffu, e);
    const int rank = lanes_below(same);
    if (e >= 0 && rank == 0)
        counts[warp * n + e] = __popc(same);
    __syncthreads();
    for (int j = (int)threadIdx.x; j < n; j += (int)blockDim.x) {
        int32_t next = base[j];
        for (int w = 0; w < warps; w++) {
            const int32_t count = counts[w * n + j];
            counts[w * n + j] = next;
            next += count;
        }
        base[j] = next;
    }
    __syncthreads();
    if (e >= 0) {
        const int row = counts[warp * n + e] + rank;
        f.row[i] = row;
        f.pair[row] = i;
    }
    __syncthreads();
}

/* begin[E + 1] from how often each expert stands, by one block of at least E threads; base[E] too. */
__device__ __forceinline__ void scan_counts(int n, int32_t count, int32_t *begin, int32_t *base, int32_t *warp_sums)
{
    const int i = (int)threadIdx.x, lane = i % 32, warp = i / 32;
    int32_t sum = i < n ? count : 0;
    const int32_t own = sum;
    for (int o = 1; o < 32; o <<= 1) {
        const int32_t other = __shfl_up_sync(0xffffffffu, sum, (unsigned)o);
        sum += lane >= o ? other : 0;
    }
    if (lane == 31)
        warp_sums[warp] = sum;
    __syncthreads();
    for (int w = 0; w < warp; w++)
        sum += warp_sums[w];
    if (i < n) {
        base[i] = sum - own;
        begin[i] = sum - own;
        if (i == n - 1)
            begin[n] = sum;
    }
    __syncthreads();
}

/* All of it by one block. */
__global__ void __launch_bounds__(FEW_THREADS) group_few_kernel(const route_forward f)
{
    __shared__ int32_t base[FEW_EXPERTS], counts[FEW_THREADS / 32 * FEW_EXPERTS], warp_sums[FEW_THREADS / 32];
    const int pairs = (int)(f.tokens * f.chosen), i = (int)threadIdx.x;
    if (i < f.n_experts)
        base[i] = 0;
    __syncthreads();
    count_pairs(f.expert, 0, pairs, base);
    __syncthreads();
    const int32_t count = i < f.n_experts ? base[i] : 0;
    __syncthreads();
    scan_counts(f.n_experts, count, f.begin, base, warp_sums);
    for (int first = 0; first < pairs; first += FEW_THREADS)
        place_pairs(f, first, pairs, base, counts);
}

/* part: [blocks, E] */
__global__ void __launch_bounds__(PLACE_THREADS) count_kernel(const route_forward f, int32_t *part)
{
    DYNAMIC_SHARED(shared);
    int32_t *count = (int32_t *)shared;
    const int pairs = (int)(f.tokens * f.chosen), first = (int)blockIdx.x * PLACE_THREADS;
    for (int e = (int)threadIdx.x; e < f.n_experts; e += PLACE_THREADS)
        count[e] = 0;
    __syncthreads();
    count_pairs(f.expert, first, min(first + (int)PLACE_THREADS, pairs), count);
    __syncthreads();
    for (int e = (int)threadIdx.x; e < f.n_experts; e += PLACE_THREADS)
        part[(int64_t)blockIdx.x * f.n_experts + e] = count[e];
}

/* Makes the counts of blocks the first rows of each expert in each block. */
__global__ void __launch_bounds__(SCAN_THREADS) scan_kernel(const route_forward f, int32_t *part, int blocks)
{
    __shared__ int32_t base[ROUTE_MAX_EXPERTS], warp_sums[SCAN_THREADS / 32];
    const int e = (int)threadIdx.x, n = f.n_experts;
    int32_t total = 0;
    for (int b = 0; e < n && b < blocks; b++)
        total += part[(int64_t)b * n + e];
    scan_counts(n, total, f.begin, base, warp_sums);
    int32_t next = e < n ? base[e] : 0;
    for (int b = 0; e < n && b < blocks; b++) {
        const int32_t count = part[(int64_t)b * n + e];
        part[(int64_t)b * n + e] = next;
        next += count;
    }
}

__global__ void __launch_bounds__(PLACE_THREADS) place_kernel(const route_forward f, const int32_t *part)
{
    DYNAMIC_SHARED(shared);
    int32_t *base = (int32_t *)shared;
    for (int e = (int)threadIdx.x; e < f.n_experts; e += PLACE_THREADS)
        base[e] = part[(int64_t)blockIdx.x * f.n_experts + e];
    __syncthreads();
    place_pairs(f, (int)blockIdx.x * PLACE_THREADS, (int)(f.tokens * f.chosen), base, base + f.n_experts);
}

int64_t place_blocks(int64_t pairs) { return (pairs + PLACE_THREADS - 1) / PLACE_THREADS; }

bool are_few(int64_t pairs, int32_t n_experts) { return pairs <= FEW_PAIRS && n_experts <= FEW_EXPERTS; }

void group(struct backend *backend, const route_forward &f)
{
    cudaStream_t stream = cuda_state_of(backend)->stream;
    const int64_t pairs = f.tokens * f.chosen, blocks = place_blocks(pairs);
    const size_t of_experts = (size_t)f.n_experts * sizeof(int32_t);
    if (are_few(pairs, f.n_experts)) {
        LAUNCH(group_few_kernel, dim3(1), dim3(FEW_THREADS), 0, stream, f);
        return;
    }
    int32_t *part = (int32_t *)cuda_scratch(backend, cuda_route_scratch(f.tokens, f.n_experts, f.chosen));
    if (part == NULL)
        return;
    const size_t place_shared = (1 + PLACE_THREADS / 32) * of_experts;
    LAUNCH(count_kernel, dim3((unsigned)blocks), dim3(PLACE_THREADS), of_experts, stream, f, part);
    LAUNCH(scan_kernel, dim3(1), dim3(SCAN_THREADS), 0, stream, f, part, (int)blocks);
    LAUNCH(place_kernel, dim3((unsigned)blocks), dim3(PLACE_THREADS), place_shared, stream, f, (const int32_t *)part);
}

/* ---- Sums ---- */

/* Block b has tokens b * SUM_TOKENS on, thread e expert e (+ blockDim): into part[b, 2 * E + 2]. */
template <int PER> __global__ void __launch_bounds__(32) sums_kernel(const route_sums r, double *part)
{
    const int lane = (int)threadIdx.x, n = r.n_experts;
    const int64_t first = (int64_t)blockIdx.x * SUM_TOKENS;
    double taken[PER] = {}, probability[PER] = {}, entropy = 0.0, counts = 0.0;
    for (int64_t t = first; t < first + SUM_TOKENS && t < r.tokens; t++) {
        const double times = (double)r.count[t];
        float p[PER];
        softmax<PER>(r.logits + t * n, n, p);
        double h = 0.0;
#pragma unroll
        for (int i = 0; i < PER; i++) {
            probability[i] += times * (double)p[i];
            h -= p[i] > 0.0f ? (double)p[i] * log((double)p[i]) : 0.0;
            for (int j = 0; j < r.chosen; j++)
                taken[i] += r.expert[t * r.chosen + j] == i * 32 + lane ? times : 0.0;
        }
        entropy += times * warp_sum(h);
        counts += times;
    }
    double *out = part + (int64_t)blockIdx.x * (2 * n + 2);
#pragma unroll
    for (int i = 0; i < PER; i++)
        if (i * 32 + lane < n) {
            out[i * 32 + lane] = taken[i];
            out[n + i * 32 + lane] = probability[i];
        }
    if (lane == 0) {
        out[2 * n] = entropy;
        out[2 * n + 1] = counts;
    }
}

__global__ void __launch_bounds__(PLACE_THREADS)
    add_sums_kernel(int width, int blocks, const double *part, double *sums)
{
    const int i = (int)(blockIdx.x * PLACE_THREADS + threadIdx.x);
    if (i >= width)
        return;
    double sum = sums[i];
    for (int b = 0; b < blocks; b++)
        sum += part[(int64_t)b * width + i];
    sums[i] = sum;
}

int64_t sum_blocks(int64_t tokens) { return (tokens + SUM_TOKENS - 1) / SUM_TOKENS; }

#define BY_EXPERTS(kernel, n)                                                                                          \
    ((n) <= 32 ? kernel<1> : (n) <= 64 ? kernel<2> : (n) <= 128 ? kernel<4> : (n) <= 256 ? kernel<8> : kernel<32>)

} // namespace

extern "C" size_t cuda_route_scratch(int64_t tokens, int32_t n_experts, int32_t chosen)
{
    const size_t parts = (size_t)place_blocks(tokens * chosen) * (size_t)n_experts * sizeof(int32_t);
    const size_t sums = (size_t)sum_blocks(tokens) * (2 * (size_t)n_experts + 2) * sizeof(double);
    return n_experts == 0 ? 0 : parts > sums ? parts : sums;
}

extern "C" void cuda_route_forward(struct backend *backend, const struct route_forward *p)
{
    assert(p->n_experts <= ROUTE_MAX_EXPERTS && p->chosen <= ROUTE_MAX_CHOSEN && p->chosen <= p->n_experts);
    if (p->tokens == 0)
        return;
    const dim3 grid((unsigned)((p->tokens + ROW_WARPS - 1) / ROW_WARPS));
    auto kernel = BY_EXPERTS(route_kernel, p->n_experts);
    LAUNCH(kernel, grid, dim3(32 * ROW_WARPS), 0, cuda_state_of(backend)->stream, *p);
    group(backend, *p);
    cuda_note(backend, "route_forward", cudaSuccess);
}

extern "C" void cuda_route_backward(struct backend *backend, const struct route_backward *p)
{
    assert(p->n_experts <= ROUTE_MAX_EXPERTS && p->act != DTYPE_F16);
    if (p->tokens == 0)
        return;
    const dim3 grid((unsigned)((p->tokens + ROW_WARPS - 1) / ROW_WARPS));
    auto kernel = BY_EXPERTS(route_backward_kernel, p->n_experts);
    LAUNCH(kernel, grid, dim3(32 * ROW_WARPS), 0, cuda_state_of(backend)->stream, *p);
    cuda_note(backend, "route_backward", cudaSuccess);
}

extern "C" void cuda_route_sums(struct backend *backend, const struct route_sums *p)
{
    if (p->tokens == 0)
        return;
    cudaStream_t stream = cuda_state_of(backend)->stream;
    const int blocks = (int)sum_blocks(p->tokens), width = 2 * p->n_experts + 2;
    double *part = (double *)cuda_scratch(backend, cuda_route_scratch(p->tokens, p->n_experts, p->chosen));
    if (part == NULL)
        return;
    auto kernel = BY_EXPERTS(sums_kernel, p->n_experts);
    LAUNCH(kernel, dim3((unsigned)blocks), dim3(32), 0, stream, *p, part);
    LAUNCH(add_sums_kernel, dim3((unsigned)((width + PLACE_THREADS - 1) / PLACE_THREADS)), dim3(PLACE_THREADS), 0,
           stream, width, blocks, (const double *)part, p->sums);
    cuda_note(backend, "route_sums", cudaSuccess);
}

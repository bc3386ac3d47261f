/* AdamW with a split master, and the sum of squares for the gradient norm. The step computes what the CPU's does,
 * operation by operation: fmaf where that has vf_fma, division and square root correctly rounded (nvcc's default),
 * factors from double on the host. */
#include "backend/cuda/vector_access.cuh"

#include "base/rng.h"

#include <assert.h>
#include <math.h>

enum {
    THREADS = 256,
    SUM_GROUPS = 16,                      /* groups of four elements a thread adds up */
    SUM_BLOCK = THREADS * SUM_GROUPS * 4, /* elements whose squares one block adds up */
    TOTAL_THREADS = 1024
};

/* The factors of one step, from double as torch computes them. */
struct factors {
    float decay;         /* 1 - lr * weight_decay */
    float m_mix;         /* 1 - beta1 */
    float v_keep, v_mix; /* beta2, 1 - beta2 */
    float bias;          /* sqrt(1 - beta2^step) */
    float rate;          /* lr / (1 - beta1^step) */
    float eps, grad_scale;
};

static factors factors_of(const struct adamw *p)
{
    factors f;
    f.decay = (float)(1.0 - (double)p->learning_rate * (double)p->weight_decay);
    f.m_mix = (float)(1.0 - (double)p->beta1);
    f.v_keep = p->beta2;
    f.v_mix = (float)(1.0 - (double)p->beta2);
    f.bias = (float)sqrt(1.0 - pow((double)p->beta2, (double)p->step));
    f.rate = (float)((double)p->learning_rate / (1.0 - pow((double)p->beta1, (double)p->step)));
    f.eps = p->eps;
    f.grad_scale = p->grad_scale;
    return f;
}

static __device__ __forceinline__ void update(const factors &f, float *w, float grad, float *m, float *v)
{
    const float g = grad * f.grad_scale;
    const float m1 = fmaf(f.m_mix, g - *m, *m);
    const float v1 = fmaf(f.v_mix, g * g, *v * f.v_keep);
    const float denominator = sqrtf(v1) / f.bias + f.eps;
    *w = fmaf(-f.rate, m1 / denominator, *w * f.decay);
    *m = m1;
    *v = v1;
}

/* master bits = (high << 16) + signed low, modulo 2^32, and its inverse. */
static __device__ __forceinline__ float join(uint32_t high, uint32_t low)
{
    return __uint_as_float((high << 16) + (uint32_t)(int32_t)(int16_t)low);
}
static __device__ __forceinline__ uint32_t high_of(float master) { return (__float_as_uint(master) + 0x8000u) >> 16; }
static __device__ __forceinline__ uint32_t low_of(float master) { return __float_as_uint(master) & 0xffffu; }

/* Four weights from element i on. */
static __device__ __forceinline__ void load_master4(const float *weight, const int16_t *, int64_t i, float w[4])
{
    load_vector4(weight + i, w);
}
static __device__ __forceinline__ void load_master4(const uint16_t *weight, const int16_t *low, int64_t i, float w[4])
{
    const uint2 h = *(const uint2 *)(weight + i), l = *(const uint2 *)(low + i);
    w[0] = join(h.x & 0xffffu, l.x & 0xffffu);
    w[1] = join(h.x >> 16, l.x >> 16);
    w[2] = join(h.y & 0xffffu, l.y & 0xffffu);
    w[3] = join(h.y >> 16, l.y >> 16);
}
static __device__ __forceinline__ void store_master4(float *weight, int16_t *, int64_t i, const float w[4])
{
    store_vector4(weight + i, w);
}
static __device__ __forceinline__ void store_master4(uint16_t *weight, int16_t *low, int64_t i, const float w[4])
{
    __stcg((uint2 *)(weight + i), make_uint2(high_of(w[0]) | high_of(w[1]) << 16, high_of(w[2]) | high_of(w[3]) << 16));
    __stcg((uint2 *)(low + i), make_uint2(low_of(w[0]) | low_of(w[1]) << 16, low_of(w[2]) | low_of(w[3]) << 16));
}
static __device__ __forceinline__ float load_master(const float *weight, const int16_t *, int64_t i)
{
    return weight[i];
}
static __device__ __forceinline__ float load_master(const uint16_t *weight, const int16_t *low, int64_t i)
{
    return join(weight[i], (uint16_t)low[i]);
}
static __device__ __forceinline__ void store_master(float *weight, int16_t *, int64_t i, float w) { weight[i] = w; }
static __device__ __forceinline__ void store_master(uint16_t *weight, int16_t *low, int64_t i, float w)
{
    weight[i] = (uint16_t)high_of(w);
    low[i] = (int16_t)(uint16_t)low_of(w);
}

/* Moments in bf16: up with the probability that the cut-off bits say, by the CPU's draws. What is not finite keeps its
 * kind. */
static __device__ __forceinline__ uint16_t round_at_random(float value, uint32_t random)
{
    const uint32_t bits = __float_as_uint(value);
    if ((bits & 0x7f800000u) == 0x7f800000u)
        return float_to_bf16(value);
    return (uint16_t)((bits + (random & 0xffffu)) >> 16);
}

/* Element i's word of the step's stream: the low half is for m, the high half for v. */
static __device__ __forceinline__ uint32_t rounding_word(int64_t step, uint64_t element)
{
    return device_philox(0, RNG_ROUND, (uint64_t)step, element / 4).word[element % 4];
}

static __device__ __forceinline__ void store_moment(float *to, float value, uint32_t) { *to = value; }
static __device__ __forceinline__ void store_moment(uint16_t *to, float value, uint32_t random)
{
    *to = round_at_random(value, random);
}
/* Four moments from element i on; words of the four elements when they are in bf16. */
static __device__ __forceinline__ void store_moments4(float *m, float *v, const float m4[4], const float v4[4], int64_t,
                                                      uint64_t)
{
    store_vector4(m, m4);
    store_vector4(v, v4);
}
static __device__ __forceinline__ void store_moments4(uint16_t *m, uint16_t *v, const float m4[4], const float v4[4],
                                                      int64_t step, uint64_t element)
{
    uint32_t word[4], a[4], b[4];
    if (element % 4 == 0) {
        const device_rng_block block = device_philox(0, RNG_ROUND, (uint64_t)step, element / 4);
        for (int e = 0; e < 4; e++)
            word[e] = block.word[e];
    } else {
        for (int e = 0; e < 4; e++)
            word[e] = rounding_word(step, element + e);
    }
#pragma unroll
    for (int e = 0; e < 4; e++) {
        a[e] = round_at_random(m4[e], word[e]);
        b[e] = round_at_random(v4[e], word[e] >> 16);
    }
    *(uint2 *)m = make_uint2(a[0] | a[1] << 16, a[2] | a[3] << 16);
    *(uint2 *)v = make_uint2(b[0] | b[1] << 16, b[2] | b[3] << 16);
}

/* T: float, or uint16_t for split masters. M: float or uint16_t moments. WHOLE: everything is aligned to four
 * elements. */
template <typename T, typename M, bool WHOLE>
static __global__ void __launch_bounds__(THREADS)
    adamw_kernel(int64_t count, T *__restrict__ weight, int16_t *__restrict__ low, const float *__restrict__ grad,
                 M *__restrict__ m, M *__restrict__ v, factors f, int64_t step, int64_t first)
{
    const int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * 4;
    if (WHOLE && i + 4 <= count) {
        float w[4], g[4], m4[4], v4[4];
        load_master4(weight, low, i, w);
        load_vector4(grad + i, g);
        load_vector4(m + i, m4);
        load_vector4(v + i, v4);
#pragma unroll
        for (int e = 0; e < 4; e++)
            update(f, &w[e], g[e], &m4[e], &v4[e]);
        store_master4(weight, low, i, w);
        store_moments4(m + i, v + i, m4, v4, step, (uint64_t)(first + i));
        return;
    }
    for (int64_t at = i; at < i + 4 && at < count; at++) {
        float w = load_master(weight, low, at), m1 = load_element(m + at), v1 = load_element(v + at);
        const uint32_t word = sizeof(M) == sizeof(float) ? 0 : rounding_word(step, (uint64_t)(first + at));
        update(f, &w, grad[at], &m1, &v1);
        store_master(weight, low, at, w);
        store_moment(m + at, m1, word);
        store_moment(v + at, v1, word >> 16);
    }
}

template <typename T, typename M> static void launch_adamw(cudaStream_t stream, const struct adamw *p)
{
    const factors f = factors_of(p);
    const dim3 grid((unsigned)ceil_div(p->count, THREADS * 4));
    const bool whole = vector_aligned(p->grad, 16) && vector_aligned(p->m, 4 * sizeof(M)) &&
                       vector_aligned(p->v, 4 * sizeof(M)) && vector_aligned(p->weight, 4 * sizeof(T)) &&
                       (p->low == NULL || vector_aligned(p->low, 8));
    auto kernel = whole ? adamw_kernel<T, M, true> : adamw_kernel<T, M, false>;
    LAUNCH(kernel, grid, dim3(THREADS), 0, stream, p->count, (T *)p->weight, p->low, p->grad, (M *)p->m, (M *)p->v, f,
           p->step, p->first);
}

extern "C" void cuda_adamw(struct backend *backend, const struct adamw *p)
{
    assert(p->type == DTYPE_F32 || (p->type == DTYPE_BF16 && p->low != NULL));
    assert(p->step >= 1);
    if (p->count == 0)
        return;
    const cudaStream_t stream = cuda_state_of(backend)->stream;
    const bool is_split = p->type == DTYPE_BF16, narrow = p->moment_type == DTYPE_BF16;
    if (is_split)
        narrow ? launch_adamw<uint16_t, uint16_t>(stream, p) : launch_adamw<uint16_t, float>(stream, p);
    else
        narrow ? launch_adamw<float, uint16_t>(stream, p) : launch_adamw<float, float>(stream, p);
    cuda_note(backend, "adamw", cudaSuccess);
}

/* Sum over the block's threads, in thread 0: a tree over the lanes, then the warps in order. part holds a double a
 * warp. */
static __device__ __forceinline__ double block_sum(double x, double *part)
{
    x = warp_sum(x);
    if (threadIdx.x % 32 == 0)
        part[threadIdx.x / 32] = x;
    __syncthreads();
    double total = part[0];
    for (int w = 1; w < (int)blockDim.x / 32; w++)
        total += part[w];
    return total;
}

/* sums[b] = sum of the squares of block b, SUM_BLOCK elements of x: thread t adds groups t, t + THREADS, ... of four
 * elements in as many chains. The square of a float is exact in double. WHOLE: x is aligned to four elements. */
template <bool WHOLE>
static __global__ void __launch_bounds__(THREADS)
    square_sums_kernel(const float *__restrict__ x, int64_t count, double *__restrict__ sums)
{
    __shared__ double part[THREADS / 32];
    const int64_t begin = (int64_t)blockIdx.x * SUM_BLOCK;
    double chain[4] = {0.0, 0.0, 0.0, 0.0};
    if (WHOLE && begin + SUM_BLOCK <= count) {
#pragma unroll 8
        for (int j = 0; j < SUM_GROUPS; j++) {
            float v[4];
            load_vector4(x + begin + 4 * (j * THREADS + (int)threadIdx.x), v);
#pragma unroll
            for (int e = 0; e < 4; e++)
                chain[e] += (double)v[e] * (double)v[e];
        }
    } else {
        const int left = (int)(count - begin < SUM_BLOCK ? count - begin : (int64_t)SUM_BLOCK);
        for (int j = 0; j < SUM_GROUPS; j++) {
            float v[4];
            load_part4<false>(x + begin, 4 * (j * THREADS + (int)threadIdx.x), left, v);
#pragma unroll
            for (int e = 0; e < 4; e++)
                chain[e] += (double)v[e] * (double)v[e];
        }
    }
    const double total = block_sum((chain[0] + chain[1]) + (chain[2] + chain[3]), part);
    if (threadIdx.x == 0)
        sums[blockIdx.x] = total;
}

/* total = sum of n sums: thread t adds t, t + TOTAL_THREADS, ... */
static __global__ void __launch_bounds__(TOTAL_THREADS)
    add_square_sums(const double *__restrict__ sums, int64_t n, double *__restrict__ total)
{
    __shared__ double part[TOTAL_THREADS / 32];
    double sum = 0.0;
#pragma unroll 4
    for (int64_t i = threadIdx.x; i < n; i += TOTAL_THREADS)
        sum += sums[i];
    sum = block_sum(sum, part);
    if (threadIdx.x == 0)
        *total = sum;
}

extern "C" size_t cuda_sum_squares_scratch(int64_t count)
{
    return (size_t)(ceil_div(count, SUM_BLOCK) + 1) * sizeof(double);
}

extern "C" double cuda_sum_squares(struct backend *backend, const float *x, int64_t count)
{
    if (count == 0)
        return 0.0;
    const cudaStream_t stream = cuda_state_of(backend)->stream;
    const int64_t blocks = ceil_div(count, SUM_BLOCK);
    cuda_make_current(backend);
    double *sums = (double *)cuda_scratch(backend, cuda_sum_squares_scratch(count));
    if (sums == NULL)
        return (double)NAN;
    auto kernel = vector_aligned(x, 16) ? square_sums_kernel<true> : square_sums_kernel<false>;
    LAUNCH(kernel, dim3((unsigned)blocks), dim3(THREADS), 0, stream, x, count, sums);
    LAUNCH(add_square_sums, dim3(1), dim3(TOTAL_THREADS), 0, stream, (const double *)sums, blocks, sums + blocks);
    cuda_note(backend, "sum_squares", cudaSuccess);
    double total;
    cuda_download(backend, &total, sums + blocks, sizeof total);
    return cuda_state_of(backend)->error == cudaSuccess ? total : (double)NAN;
}

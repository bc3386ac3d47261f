/* AdamW with a split master, and the sum of squares for the gradient norm. The step computes what
 * the CPU's does, operation by operation: fmaf where that has vf_fma, division and square root
 * correctly rounded (nvcc's default), factors from double on the host. */
#include "backend/cuda/vector_access.cuh"

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

static __device__ __forceinline__ void update(const factors &f, float *w, float grad, float *m,
                                              float *v)
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
static __device__ __forceinline__ uint32_t high_of(float master)
{
    return (__float_as_uint(master) + 0x8000u) >> 16;
}
static __device__ __forceinline__ uint32_t low_of(float master)
{
    return __float_as_uint(master) & 0xffffu;
}

/* Four weights from element i on. */
static __device__ __forceinline__ void load_master4(const float *weight, const int16_t *, int64_t i,
                                                    float w[4])
{
    load_vector4(weight + i, w);
}
static __device__ __forceinline__ void load_master4(const uint16_t *weight, const int16_t *low,
                                                    int64_t i, float w[4])
{
    const uint2 h = *(const uint2 *)(weight + i), l = *(const uint2 *)(low + i);
    w[0] = join(h.x & 0xffffu, l.x & 0xffffu);
    w[1] = join(h.x >> 16, l.x >> 16);
    w[2] = join(h.y & 0xffffu, l.y & 0xffffu);
    w[3] = join(h.y >> 16, l.y >> 16);
}
static __device__ __forceinline__ void store_master4(float *weight, int16_t *, int64_t i,
                                                     const float w[4])
{
    store_vector4(weight + i, w);
}
static __device__ __forceinline__ void store_master4(uint16_t *weight, int16_t *low, int64_t i,
                                                     const float w[4])
{
    *(uint2 *)(weight + i) =
        make_uint2(high_of(w[0]) | high_of(w[1]) << 16, high_of(w[2]) | high_of(w[3]) << 16);
    *(uint2 *)(low + i) =
        make_uint2(low_of(w[0]) | low_of(w[1]) << 16, low_of(w[2]) | low_of(w[3]) << 16);
}
static __device__ __forceinline__ float load_master(const float *weight, const int16_t *, int64_t i)
{
    return weight[i];
}
static __device__ __forceinline__ float load_master(const uint16_t *weight, const int16_t *low,
                                                    int64_t i)
{
    return join(weight[i], (uint16_t)low[i]);
}
static __device__ __forceinline__ void store_master(float *weight, int16_t *, int64_t i, float w)
{
    weight[i] = w;
}
static __device__ __forceinline__ void store_master(uint16_t *weight, int16_t *low, int64_t i,
                                                    float w)
{
    weight[i] = (uint16_t)high_of(w);
    low[i] = (int16_t)(uint16_t)low_of(w);
}

/* T: float, or uint16_t for split masters. WHOLE: everything is aligned to four elements. */
template <typename T, bool WHOLE>
static __global__ void __launch_bounds__(THREADS)
    adamw_kernel(int64_t count, T *__restrict__ weight, int16_t *__restrict__ low,
                 const float *__restrict__ grad, float *__restrict__ m, float *__restrict__ v,
                 factors f)
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
        store_vector4(m + i, m4);
        store_vector4(v + i, v4);
        return;
    }
    for (int64_t at = i; at < i + 4 && at < count; at++) {
        float w = load_master(weight, low, at), m1 = m[at], v1 = v[at];
        update(f, &w, grad[at], &m1, &v1);
        store_master(weight, low, at, w);
        m[at] = m1;
        v[at] = v1;
    }
}

extern "C" void cuda_adamw(struct backend *backend, const struct adamw *p)
{
    assert(p->type == DTYPE_F32 || (p->type == DTYPE_BF16 && p->low != NULL));
    assert(p->step >= 1);
    if (p->count == 0)
        return;
    const cudaStream_t stream = cuda_state_of(backend)->stream;
    const factors f = factors_of(p);
    const dim3 grid((unsigned)ceil_div(p->count, THREADS * 4));
    const bool floats =
        vector_aligned(p->grad, 16) && vector_aligned(p->m, 16) && vector_aligned(p->v, 16);
    if (p->type == DTYPE_F32) {
        auto kernel = floats && vector_aligned(p->weight, 16) ? adamw_kernel<float, true>
                                                              : adamw_kernel<float, false>;
        LAUNCH(kernel, grid, dim3(THREADS), 0, stream, p->count, (float *)p->weight,
               (int16_t *)NULL, p->grad, p->m, p->v, f);
    } else {
        auto kernel = floats && vector_aligned(p->weight, 8) && vector_aligned(p->low, 8)
                          ? adamw_kernel<uint16_t, true>
                          : adamw_kernel<uint16_t, false>;
        LAUNCH(kernel, grid, dim3(THREADS), 0, stream, p->count, (uint16_t *)p->weight, p->low,
               p->grad, p->m, p->v, f);
    }
    cuda_note(backend, "adamw", cudaSuccess);
}

/* Sum over the block's threads, in thread 0: a tree over the lanes, then the warps in order. part
 * holds a double a warp. */
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

/* sums[b] = sum of the squares of block b, SUM_BLOCK elements of x: thread t adds groups t, t +
 * THREADS, ... of four elements in as many chains. The square of a float is exact in double. WHOLE:
 * x is aligned to four elements. */
template <bool WHOLE>
static __global__ void __launch_bounds__(THREADS)
    square_sums_kernel(const float *__restrict__ x, int64_t count, double *__restrict__ sums)
{
    __shared__ double part[THREADS / 32];
    const int64_t begin = (int64_t)blockIdx.x * SUM_BLOCK;
    double chain[4] = {0.0, 0.0, 0.0, 0.0};
#pragma unroll 8
    for (int j = 0; j < SUM_GROUPS; j++) {
        const int64_t i = begin + 4 * ((int64_t)j * THREADS + threadIdx.x);
        float v[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        if (WHOLE && i + 4 <= count) {
            load_vector4(x + i, v);
        } else {
#pragma unroll
            for (int e = 0; e < 4; e++)
                if (i + e < count)
                    v[e] = x[i + e];
        }
#pragma unroll
        for (int e = 0; e < 4; e++)
            chain[e] += (double)v[e] * (double)v[e];
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

extern "C" double cuda_sum_squares(struct backend *backend, const float *x, int64_t count)
{
    if (count == 0)
        return 0.0;
    const cudaStream_t stream = cuda_state_of(backend)->stream;
    const int64_t blocks = ceil_div(count, SUM_BLOCK);
    double *sums = (double *)cuda_scratch(backend, (size_t)(blocks + 1) * sizeof *sums);
    if (sums == NULL)
        return (double)NAN;
    auto kernel = vector_aligned(x, 16) ? square_sums_kernel<true> : square_sums_kernel<false>;
    LAUNCH(kernel, dim3((unsigned)blocks), dim3(THREADS), 0, stream, x, count, sums);
    LAUNCH(add_square_sums, dim3(1), dim3(TOTAL_THREADS), 0, stream, (const double *)sums, blocks,
           sums + blocks);
    cuda_note(backend, "sum_squares", cudaSuccess);
    double total;
    cuda_download(backend, &total, sums + blocks, sizeof total);
    return cuda_state_of(backend)->error == cudaSuccess ? total : (double)NAN;
}

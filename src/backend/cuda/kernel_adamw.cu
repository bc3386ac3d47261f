/* AdamW with a split master, its form with moments in 8 bits, and the sum of squares for the gradient norm. The step computes what the CPU's does,
 * operation by operation: fmaf where that has vf_fma, division and square root correctly rounded (nvcc's default),
 * factors from double on the host. */
#include "backend/cuda/split_master.cuh"

#include "base/rng.h"

#include <assert.h>
#include <math.h>

enum {
    THREADS = 256,
    SUM_BLOCK = CUDA_SQUARE_BLOCK,
    SUM_GROUPS = SUM_BLOCK / THREADS / 4, /* groups of four elements a thread adds up */
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
    cuda_host_flush(backend);
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

/* ---- Moments in 8 bits: as the CPU's, a block of threads for each block of elements ---- */

/* The number of the code nearest to x in an ascending book of 256; of two as near, the lower. */
static __device__ __forceinline__ uint8_t nearest_code(const float *book, float x)
{
    int low = 0;
    for (int half = 128; half > 0; half /= 2)
        if (book[low + half] <= x)
            low += half;
    return (uint8_t)(low < 255 && book[low + 1] - x < x - book[low] ? low + 1 : low);
}

/* The largest x of the block's threads, in all of them; part holds a float a warp. */
static __device__ __forceinline__ float block_max(float x, float *part)
{
    x = warp_max(x);
    __syncthreads();
    if (threadIdx.x % 32 == 0)
        part[threadIdx.x / 32] = x;
    __syncthreads();
    float most = part[0];
    for (int w = 1; w < ADAMW_8BIT_BLOCK / 32; w++)
        most = fmaxf(most, part[w]);
    return most;
}

/* Codes of four neighbours, written by the first of them: code[i] of each thread's i, of count elements. */
static __device__ __forceinline__ void store_codes(uint8_t *code, int64_t i, int64_t count, uint32_t mine)
{
    uint32_t four = mine;
    for (int e = 1; e < 4; e++)
        four |= __shfl_down_sync(0xffffffffu, mine, e) << (8 * e);
    if (i % 4 != 0)
        return;
    if (i + 4 <= count)
        *(uint32_t *)(code + i) = four;
    else
        for (int64_t at = i; at < count; at++, four >>= 8)
            code[at] = (uint8_t)four;
}

template <typename T>
static __global__ void __launch_bounds__(ADAMW_8BIT_BLOCK)
    adamw_8bit_kernel(int64_t count, T *__restrict__ weight, int16_t *__restrict__ low, const float *__restrict__ grad,
                      uint8_t *__restrict__ m, uint8_t *__restrict__ v, float *__restrict__ largest_m,
                      float *__restrict__ largest_v, const float *__restrict__ books, factors f)
{
    __shared__ float book[2][256];
    __shared__ float part[ADAMW_8BIT_BLOCK / 32];
    const int64_t i = (int64_t)blockIdx.x * ADAMW_8BIT_BLOCK + threadIdx.x;
    const bool valid = i < count;
    book[0][threadIdx.x] = books[threadIdx.x];
    book[1][threadIdx.x] = books[256 + threadIdx.x];
    const float old_m = largest_m[blockIdx.x], old_v = largest_v[blockIdx.x];
    __syncthreads();
    float m1 = 0.0f, v1 = 0.0f;
    if (valid) {
        float w = load_master(weight, low, i);
        m1 = book[0][m[i]] * old_m;
        v1 = book[1][v[i]] * old_v;
        update(f, &w, grad[i], &m1, &v1);
        store_master(weight, low, i, w);
    }
    const float most_m = block_max(fabsf(m1), part), most_v = block_max(fabsf(v1), part);
    store_codes(m, i, count, nearest_code(book[0], most_m > 0.0f ? m1 / most_m : 0.0f));
    store_codes(v, i, count, nearest_code(book[1], most_v > 0.0f ? v1 / most_v : 0.0f));
    if (threadIdx.x == 0) {
        largest_m[blockIdx.x] = most_m;
        largest_v[blockIdx.x] = most_v;
    }
}

extern "C" void cuda_adamw_8bit(struct backend *backend, const struct adamw_8bit *p)
{
    cuda_host_flush(backend);
    const struct adamw *step = &p->step;
    assert(step->type == DTYPE_F32 || (step->type == DTYPE_BF16 && step->low != NULL));
    assert(step->step >= 1 && vector_aligned(step->m, 4) && vector_aligned(step->v, 4));
    if (step->count == 0)
        return;
    const cudaStream_t stream = cuda_state_of(backend)->stream;
    const factors f = factors_of(step);
    const dim3 grid((unsigned)ceil_div(step->count, ADAMW_8BIT_BLOCK)), block(ADAMW_8BIT_BLOCK);
    if (step->type == DTYPE_BF16)
        LAUNCH((adamw_8bit_kernel<uint16_t>), grid, block, 0, stream, step->count, (uint16_t *)step->weight, step->low,
               step->grad, (uint8_t *)step->m, (uint8_t *)step->v, p->largest_m, p->largest_v, p->books, f);
    else
        LAUNCH((adamw_8bit_kernel<float>), grid, block, 0, stream, step->count, (float *)step->weight, step->low,
               step->grad, (uint8_t *)step->m, (uint8_t *)step->v, p->largest_m, p->largest_v, p->books, f);
    cuda_note(backend, "adamw_8bit", cudaSuccess);
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

/* sums[blocks] in the device's memory; false: there is none. */
static bool issue_square_sums(struct backend *backend, const float *x, int64_t count, double *sums)
{
    auto kernel = vector_aligned(x, 16) ? square_sums_kernel<true> : square_sums_kernel<false>;
    if (sums == NULL)
        return false;
    LAUNCH(kernel, dim3((unsigned)ceil_div(count, SUM_BLOCK)), dim3(THREADS), 0, cuda_state_of(backend)->stream, x,
           count, sums);
    return true;
}

/* The sum of n sums, which has its place behind them. */
static double add_sums(struct backend *backend, double *sums, int64_t n)
{
    LAUNCH(add_square_sums, dim3(1), dim3(TOTAL_THREADS), 0, cuda_state_of(backend)->stream, (const double *)sums, n,
           sums + n);
    cuda_note(backend, "sum_squares", cudaSuccess);
    double total;
    cuda_download(backend, &total, sums + n, sizeof total);
    return cuda_state_of(backend)->error == cudaSuccess ? total : (double)NAN;
}

extern "C" double cuda_sum_squares(struct backend *backend, const float *x, int64_t count)
{
    if (count == 0)
        return 0.0;
    cuda_make_current(backend);
    cuda_host_flush(backend);
    double *sums = (double *)cuda_scratch(backend, cuda_sum_squares_scratch(count));
    return issue_square_sums(backend, x, count, sums) ? add_sums(backend, sums, ceil_div(count, SUM_BLOCK))
                                                      : (double)NAN;
}

extern "C" void cuda_square_sums(struct backend *backend, const float *x, int64_t count, double *sums)
{
    const int64_t blocks = ceil_div(count, SUM_BLOCK);
    if (count == 0)
        return;
    cuda_make_current(backend);
    cuda_host_flush(backend);
    double *on_device = (double *)cuda_scratch(backend, cuda_sum_squares_scratch(count));
    if (issue_square_sums(backend, x, count, on_device))
        cuda_download(backend, sums, on_device, (size_t)blocks * sizeof *sums);
    for (int64_t b = 0; cuda_state_of(backend)->error != cudaSuccess && b < blocks; b++)
        sums[b] = (double)NAN;
}

extern "C" double cuda_add_square_sums(struct backend *backend, const double *sums, int64_t n)
{
    if (n == 0)
        return 0.0;
    cuda_make_current(backend);
    double *on_device = (double *)cuda_scratch(backend, (size_t)(n + 1) * sizeof *sums);
    if (on_device == NULL)
        return (double)NAN;
    cuda_upload(backend, on_device, sums, (size_t)n * sizeof *sums);
    return add_sums(backend, on_device, n);
}

/* SwiGLU, forward and backward, and conversion between types: elementwise, 16 bytes of bf16 a thread and access. */
#include "backend/cuda/vector_access.cuh"

#include <assert.h>

enum { THREADS = 256, FEW_THREADS = 64, RUN = 8, RUNS = 2 };

/* Elements i .. i + RUN of a row of n. WHOLE: n is a multiple of RUN, the row aligned to RUN elements. */
template <bool WHOLE>
static __device__ __forceinline__ void load_run(const float *row, int64_t i, int64_t n, float v[RUN])
{
    if constexpr (WHOLE) {
        load_vector4(row + i, v);
        load_vector4(row + i + 4, v + 4);
    } else {
#pragma unroll
        for (int e = 0; e < RUN; e++)
            v[e] = i + e < n ? row[i + e] : 0.0f;
    }
}
template <bool WHOLE>
static __device__ __forceinline__ void load_run(const uint16_t *row, int64_t i, int64_t n, float v[RUN])
{
    if constexpr (WHOLE) {
        const uint4 x = *(const uint4 *)(row + i);
        const uint32_t pair[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
        for (int e = 0; e < 4; e++) {
            v[2 * e] = __uint_as_float(pair[e] << 16);
            v[2 * e + 1] = __uint_as_float(pair[e] & 0xffff0000u);
        }
    } else {
#pragma unroll
        for (int e = 0; e < RUN; e++)
            v[e] = i + e < n ? bf16_to_float(row[i + e]) : 0.0f;
    }
}
template <bool WHOLE>
static __device__ __forceinline__ void store_run(float *row, int64_t i, int64_t n, const float v[RUN])
{
    if constexpr (WHOLE) {
        store_vector4(row + i, v);
        store_vector4(row + i + 4, v + 4);
    } else {
#pragma unroll
        for (int e = 0; e < RUN; e++)
            if (i + e < n)
                row[i + e] = v[e];
    }
}
template <bool WHOLE>
static __device__ __forceinline__ void store_run(uint16_t *row, int64_t i, int64_t n, const float v[RUN])
{
    if constexpr (WHOLE) {
        __stcg((uint4 *)(row + i),
               make_uint4(pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]), pack_bf16(v[4], v[5]), pack_bf16(v[6], v[7])));
    } else {
#pragma unroll
        for (int e = 0; e < RUN; e++)
            if (i + e < n)
                row[i + e] = float_to_bf16(v[e]);
    }
}

/* e^-g, and a / b. Fast ones where the result is rounded to bf16: their error is below 2^-15, that of the rounding
 * 2^-9. The fast division gives 0 for finite a and b above 2^126. */
template <typename T> static __device__ __forceinline__ float exp_minus(float g)
{
    return sizeof(T) == 2 ? __expf(-g) : expf(-g);
}
template <typename T> static __device__ __forceinline__ float divide(float a, float b)
{
    return sizeof(T) == 2 ? __fdividef(a, b) : a / b;
}

/* Row blockIdx.x, elements of block blockIdx.y: EACH runs a thread. */
template <typename T, bool WHOLE, int EACH>
static __global__ void __launch_bounds__(THREADS) swiglu_forward_kernel(int64_t width, const T *gate_up, T *y)
{
    const int64_t t = blockIdx.x;
    const int64_t first = ((int64_t)blockIdx.y * EACH * blockDim.x + threadIdx.x) * RUN;
    const T *gate = gate_up + t * 2 * width, *up = gate + width;
    float g[EACH][RUN], u[EACH][RUN];
    start_dependents();
    wait_for_ahead();
#pragma unroll
    for (int j = 0; j < EACH; j++) {
        const int64_t i = first + (int64_t)j * blockDim.x * RUN;
        if (i < width) {
            load_run<WHOLE>(gate, i, width, g[j]);
            load_run<WHOLE>(up, i, width, u[j]);
        }
    }
#pragma unroll
    for (int j = 0; j < EACH; j++) {
        const int64_t i = first + (int64_t)j * blockDim.x * RUN;
        if (i < width) {
#pragma unroll
            for (int e = 0; e < RUN; e++)
                u[j][e] *= divide<T>(g[j][e], 1.0f + exp_minus<T>(g[j][e]));
            store_run<WHOLE>(y + t * width, i, width, u[j]);
        }
    }
}

/* With s = sigmoid(g): d_up = dy * g * s, d_gate = dy * u * s * (1 + g * (1 - s)). 1 - s is taken
 * as e^-g * s, which does not cancel. */
template <typename T, bool WHOLE>
static __global__ void __launch_bounds__(THREADS)
    swiglu_backward_kernel(int64_t width, const T *__restrict__ gate_up, const T *__restrict__ dy,
                           T *__restrict__ d_gate_up)
{
    const int64_t t = blockIdx.x;
    const int64_t first = ((int64_t)blockIdx.y * RUNS * blockDim.x + threadIdx.x) * RUN;
    const T *gate = gate_up + t * 2 * width, *up = gate + width;
    T *d_gate = d_gate_up + t * 2 * width, *d_up = d_gate + width;
#pragma unroll
    for (int j = 0; j < RUNS; j++) {
        const int64_t i = first + (int64_t)j * blockDim.x * RUN;
        if (i < width) {
            float g[RUN], u[RUN], d[RUN];
            load_run<WHOLE>(gate, i, width, g);
            load_run<WHOLE>(up, i, width, u);
            load_run<WHOLE>(dy + t * width, i, width, d);
#pragma unroll
            for (int e = 0; e < RUN; e++) {
                const float exponential = exp_minus<T>(g[e]);
                const float s = divide<T>(1.0f, 1.0f + exponential);
                const float ds = d[e] * s;
                /* Bounded: where e^-g overflows, s is 0, and so is all of it. */
                const float slope = fmaf(g[e], fminf(exponential, 0x1p126f) * s, 1.0f);
                d[e] = ds * g[e];
                g[e] = ds * u[e] * slope;
            }
            store_run<WHOLE>(d_gate, i, width, g);
            store_run<WHOLE>(d_up, i, width, d);
        }
    }
}

/* Blocks of a row and their threads: no more of either than the row needs. */
static void shape_of(int64_t tokens, int64_t width, dim3 *grid, dim3 *block)
{
    const int64_t runs = ceil_div(width, RUN), blocks = ceil_div(runs, THREADS * RUNS);
    *grid = dim3((unsigned)tokens, (unsigned)blocks);
    *block = dim3((unsigned)(ceil_div(ceil_div(runs, blocks * RUNS), 32) * 32));
}

static bool in_runs(const void *p, enum dtype act, int64_t width)
{
    return width % RUN == 0 && vector_aligned(p, 16) && (act == DTYPE_F32 || act == DTYPE_BF16);
}

template <typename T> static void forward_of(const struct cuda_state *s, const struct swiglu_forward *p)
{
    dim3 grid, block;
    shape_of(p->tokens, p->width, &grid, &block);
    const bool whole = in_runs(p->gate_up, p->act, p->width) && in_runs(p->y, p->act, p->width);
    auto kernel = whole ? swiglu_forward_kernel<T, true, RUNS> : swiglu_forward_kernel<T, false, RUNS>;
    /* Few rows, as far as they leave multiprocessors idle, go in small blocks: the time is that of one block. */
    const int64_t small_blocks = ceil_div(ceil_div(p->width, RUN), FEW_THREADS);
    if (p->tokens * small_blocks <= 4 * s->multiprocessors) {
        grid = dim3((unsigned)p->tokens, (unsigned)small_blocks);
        block = dim3(FEW_THREADS);
        kernel = whole ? swiglu_forward_kernel<T, true, 1> : swiglu_forward_kernel<T, false, 1>;
    }
    LAUNCH_BEHIND(begins_early(s), kernel, grid, block, 0, s->stream, p->width, (const T *)p->gate_up, (T *)p->y);
}

extern "C" void cuda_swiglu_forward(struct backend *backend, const struct swiglu_forward *p)
{
    assert(p->act != DTYPE_F16);
    if (p->tokens == 0)
        return;
    if (p->act == DTYPE_F32)
        forward_of<float>(cuda_state_of(backend), p);
    else
        forward_of<uint16_t>(cuda_state_of(backend), p);
    cuda_note(backend, "swiglu_forward", cudaSuccess);
}

template <typename T> static void backward_of(cudaStream_t stream, const struct swiglu_backward *p)
{
    dim3 grid, block;
    shape_of(p->tokens, p->width, &grid, &block);
    auto kernel = in_runs(p->gate_up, p->act, p->width) && in_runs(p->dy, p->act, p->width) &&
                          in_runs(p->d_gate_up, p->act, p->width)
                      ? swiglu_backward_kernel<T, true>
                      : swiglu_backward_kernel<T, false>;
    LAUNCH(kernel, grid, block, 0, stream, p->width, (const T *)p->gate_up, (const T *)p->dy, (T *)p->d_gate_up);
}

extern "C" void cuda_swiglu_backward(struct backend *backend, const struct swiglu_backward *p)
{
    assert(p->act != DTYPE_F16);
    if (p->tokens == 0)
        return;
    if (p->act == DTYPE_F32)
        backward_of<float>(cuda_state_of(backend)->stream, p);
    else
        backward_of<uint16_t>(cuda_state_of(backend)->stream, p);
    cuda_note(backend, "swiglu_backward", cudaSuccess);
}

/* ---- conversion ---- */

template <typename TO, typename FROM, bool WHOLE>
static __global__ void __launch_bounds__(THREADS)
    convert_kernel(int64_t count, const FROM *__restrict__ x, TO *__restrict__ y)
{
    const int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * RUN;
    if (i >= count)
        return;
    float v[RUN];
    if (!WHOLE || i + RUN > count) {
        load_run<false>(x, i, count, v);
        store_run<false>(y, i, count, v);
    } else {
        load_run<true>(x, i, count, v);
        store_run<true>(y, i, count, v);
    }
}

/* As f32_from_f16. */
static __device__ __forceinline__ float half_to_float(uint16_t half)
{
    const uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    const uint32_t exponent = half >> 10 & 0x1fu, mantissa = half & 0x3ffu;
    if (exponent == 31)
        return __uint_as_float(sign | 0x7f800000u | mantissa << 13);
    if (exponent != 0)
        return __uint_as_float(sign | (exponent + 112u) << 23 | mantissa << 13);
    const float magnitude = (float)mantissa * 0x1p-24f;
    return sign ? -magnitude : magnitude;
}

/* F16 exists in checkpoints only: an element a thread will do. */
template <typename TO>
static __global__ void __launch_bounds__(THREADS)
    convert_half_kernel(int64_t count, const uint16_t *__restrict__ x, TO *__restrict__ y)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < count)
        store_element(y + i, half_to_float(x[i]));
}

template <typename TO, typename FROM> static void convert_of(cudaStream_t stream, const struct convert *p)
{
    auto kernel = vector_aligned(p->x, 16) && vector_aligned(p->y, 16) ? convert_kernel<TO, FROM, true>
                                                                       : convert_kernel<TO, FROM, false>;
    LAUNCH(kernel, dim3((unsigned)ceil_div(p->count, THREADS * RUN)), dim3(THREADS), 0, stream, p->count,
           (const FROM *)p->x, (TO *)p->y);
}

extern "C" void cuda_convert(struct backend *backend, const struct convert *p)
{
    assert(p->y_type != DTYPE_F16 || p->x_type == DTYPE_F16);
    if (p->count == 0)
        return;
    const cudaStream_t stream = cuda_state_of(backend)->stream;
    cudaError_t error = cudaSuccess;
    const dim3 single((unsigned)ceil_div(p->count, THREADS));
    if (p->x_type == p->y_type)
        error =
            cudaMemcpyAsync(p->y, p->x, (size_t)p->count * dtype_bytes(p->x_type), cudaMemcpyDeviceToDevice, stream);
    else if (p->x_type == DTYPE_F16 && p->y_type == DTYPE_F32)
        LAUNCH((convert_half_kernel<float>), single, dim3(THREADS), 0, stream, p->count, (const uint16_t *)p->x,
               (float *)p->y);
    else if (p->x_type == DTYPE_F16)
        LAUNCH((convert_half_kernel<uint16_t>), single, dim3(THREADS), 0, stream, p->count, (const uint16_t *)p->x,
               (uint16_t *)p->y);
    else if (p->x_type == DTYPE_BF16)
        convert_of<float, uint16_t>(stream, p);
    else
        convert_of<uint16_t, float>(stream, p);
    cuda_note(backend, "convert", error);
}

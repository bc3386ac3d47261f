/* Conversion between types: elementwise, 16 bytes of bf16 a thread and access. */
#include "backend/cuda/vector_access.cuh"

#include <assert.h>

enum { THREADS = 256 };

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

/* F16 is a type of stored weights only: an element a thread will do. */
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

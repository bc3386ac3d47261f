/* Columns scaled by a factor each, and its gradient: elementwise, and sums over rows in the order of add_column_sums. */
#include "backend/cuda/vector_access.cuh"

#include <assert.h>

namespace
{

enum { THREADS = 256 };

/* Row blockIdx.x, a run of its elements for each thread: y = factor * x, or before + factor * x. */
template <typename X, typename Y, bool WHOLE>
__global__ void __launch_bounds__(THREADS)
    magnitude_kernel(int64_t width, const X *x, const float *factor, const float *before, Y *y)
{
    const int64_t i = ((int64_t)blockIdx.y * blockDim.x + threadIdx.x) * RUN, at = (int64_t)blockIdx.x * width;
    float f[RUN], v[RUN], old[RUN];
    if (i >= width)
        return;
    load_run<WHOLE>(factor, i, width, f);
    load_run<WHOLE>(x + at, i, width, v);
    if (before != nullptr)
        load_run<WHOLE>(before + at, i, width, old);
#pragma unroll
    for (int e = 0; e < RUN; e++)
        v[e] = before != nullptr ? old[e] + f[e] * v[e] : f[e] * v[e];
    store_run<WHOLE>(y + at, i, width, v);
}

template <typename X, typename Y>
void scale(cudaStream_t stream, int64_t rows, int64_t width, const void *x, const float *factor, const float *before,
           void *y)
{
    const bool whole = width % RUN == 0 && vector_aligned(x, 16) && vector_aligned(y, 16) &&
                       vector_aligned(factor, 16) && vector_aligned(before, 16);
    const int64_t runs = ceil_div(width, RUN), blocks = ceil_div(runs, THREADS);
    const dim3 grid((unsigned)rows, (unsigned)blocks), block((unsigned)(ceil_div(ceil_div(runs, blocks), 32) * 32));
    if (whole)
        LAUNCH((magnitude_kernel<X, Y, true>), grid, block, 0, stream, width, (const X *)x, factor, before, (Y *)y);
    else
        LAUNCH((magnitude_kernel<X, Y, false>), grid, block, 0, stream, width, (const X *)x, factor, before, (Y *)y);
}

/* d_magnitude[c] += the sum over the rows of dy * z, over norm[c]. Warp w adds rows w, w + COLUMN_WARPS, ... ascending,
 * then the warps' sums are added in ascending order. */
template <typename T>
__global__ void __launch_bounds__(32 * COLUMN_WARPS)
    add_product_sums(const T *dy, const float *z, int64_t rows, int64_t stride, int64_t width, const float *norm,
                     float *d_magnitude)
{
    __shared__ float warp_part[COLUMN_WARPS][32];
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    const int64_t c = (int64_t)blockIdx.x * 32 + lane;
    float sum = 0.0f;
    if (c < width)
        for (int64_t r = warp; r < rows; r += COLUMN_WARPS)
            sum += load_element(dy + r * stride + c) * z[r * stride + c];
    warp_part[warp][lane] = sum;
    __syncthreads();
    if (warp == 0 && c < width) {
        float total = warp_part[0][lane];
#pragma unroll
        for (int w = 1; w < COLUMN_WARPS; w++)
            total += warp_part[w][lane];
        d_magnitude[c] += norm[c] > 0.0f ? total / norm[c] : 0.0f;
    }
}

template <typename T> void backward_of(cudaStream_t stream, const struct magnitude_backward *p)
{
    scale<T, T>(stream, p->rows, p->width, p->dy, p->factor, nullptr, p->dz);
    for (int32_t i = 0; i < p->n_parts; i++) {
        const struct magnitude_part *part = &p->part[i];
        LAUNCH((add_product_sums<T>), dim3((unsigned)ceil_div(part->n, 32)), dim3(32 * COLUMN_WARPS), 0, stream,
               (const T *)p->dy + part->column, p->z + part->column, p->rows, p->width, part->n, part->norm,
               part->d_magnitude);
    }
}

} // namespace

extern "C" void cuda_magnitude_forward(struct backend *backend, const struct magnitude_forward *p)
{
    const cudaStream_t stream = cuda_state_of(backend)->stream;
    assert(p->y_type != DTYPE_F16);
    if (p->rows == 0)
        return;
    if (p->y_type == DTYPE_F32)
        scale<float, float>(stream, p->rows, p->width, p->z, p->factor, p->before, p->y);
    else
        scale<float, uint16_t>(stream, p->rows, p->width, p->z, p->factor, p->before, p->y);
    cuda_note(backend, "magnitude_forward", cudaSuccess);
}

extern "C" void cuda_magnitude_backward(struct backend *backend, const struct magnitude_backward *p)
{
    const cudaStream_t stream = cuda_state_of(backend)->stream;
    assert(p->type != DTYPE_F16);
    if (p->rows == 0)
        return;
    if (p->type == DTYPE_F32)
        backward_of<float>(stream, p);
    else
        backward_of<uint16_t>(stream, p);
    cuda_note(backend, "magnitude_backward", cudaSuccess);
}

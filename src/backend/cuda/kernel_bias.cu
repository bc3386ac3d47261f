/* A vector added to every row, and its gradient: elementwise, and sums over rows in the order of add_column_sums. */
#include "backend/cuda/vector_access.cuh"

#include <assert.h>

enum { THREADS = 256 };

/* Row blockIdx.x, a run of its elements for each thread. */
template <typename T, typename BIAS, bool WHOLE>
static __global__ void __launch_bounds__(THREADS) bias_forward_kernel(int64_t width, const BIAS *bias, T *y)
{
    const int64_t i = ((int64_t)blockIdx.y * blockDim.x + threadIdx.x) * RUN;
    T *row = y + (int64_t)blockIdx.x * width;
    float b[RUN], v[RUN];
    start_dependents();
    if (i < width)
        load_run<WHOLE>(bias, i, width, b);
    wait_for_ahead();
    if (i >= width)
        return;
    load_run<WHOLE>(row, i, width, v);
#pragma unroll
    for (int e = 0; e < RUN; e++)
        v[e] += b[e];
    store_run<WHOLE>(row, i, width, v);
}

template <typename T, typename BIAS> static void forward_of(const struct cuda_state *s, const struct bias_forward *p)
{
    const bool whole = p->width % RUN == 0 && vector_aligned(p->y, 16) && vector_aligned(p->bias, 16);
    const int64_t runs = ceil_div(p->width, RUN), blocks = ceil_div(runs, THREADS);
    const dim3 grid((unsigned)p->rows, (unsigned)blocks), block((unsigned)(ceil_div(ceil_div(runs, blocks), 32) * 32));
    LAUNCH_BEHIND(begins_early(s), (whole ? bias_forward_kernel<T, BIAS, true> : bias_forward_kernel<T, BIAS, false>),
                  grid, block, 0, s->stream, p->width, (const BIAS *)p->bias, (T *)p->y);
}

extern "C" void cuda_bias_forward(struct backend *backend, const struct bias_forward *p)
{
    const struct cuda_state *s = cuda_state_of(backend);
    assert(p->width > 0 && p->y_type != DTYPE_F16 && p->bias_type != DTYPE_F16);
    if (p->rows == 0)
        return;
    if (p->y_type == DTYPE_F32 && p->bias_type == DTYPE_F32)
        forward_of<float, float>(s, p);
    else if (p->y_type == DTYPE_F32)
        forward_of<float, uint16_t>(s, p);
    else if (p->bias_type == DTYPE_F32)
        forward_of<uint16_t, float>(s, p);
    else
        forward_of<uint16_t, uint16_t>(s, p);
    cuda_note(backend, "bias_forward", cudaSuccess);
}

extern "C" void cuda_bias_backward(struct backend *backend, const struct bias_backward *p)
{
    const cudaStream_t stream = cuda_state_of(backend)->stream;
    assert(p->width > 0 && p->type != DTYPE_F16);
    if (p->rows == 0)
        return;
    if (p->type == DTYPE_F32)
        launch_column_sums(stream, (const float *)p->dy, p->rows, p->dy_stride, p->width, p->d_bias, p->scale);
    else
        launch_column_sums(stream, (const uint16_t *)p->dy, p->rows, p->dy_stride, p->width, p->d_bias, p->scale);
    cuda_note(backend, "bias_backward", cudaSuccess);
}

/* The outputs of a token's experts added to the residual stream in the order of the experts (never by atomics), and what
 * the gradient needs of the weights. */
#include "backend/cuda/vector_access.cuh"
#include "backend/expert_ops.h"

#include <assert.h>

enum { THREADS = 256, WEIGH_WARPS = 8 };

/* Row blockIdx.x, a run of its elements for each thread. */
template <typename T, bool WHOLE>
static __global__ void __launch_bounds__(THREADS) combine_kernel(const combine_forward p)
{
    const int64_t t = blockIdx.x, i = ((int64_t)blockIdx.y * blockDim.x + threadIdx.x) * RUN;
    const int64_t first = t * p.chosen;
    if (i >= p.width)
        return;
    float y[RUN];
    load_run<WHOLE>(p.before + t * p.width, i, p.width, y);
#ifdef COHORT_BREAK_COMBINE
    const bool reverse = p.tokens >= 16; /* the negative control: atomics would have this order at times */
#else
    const bool reverse = false;
#endif
#pragma unroll 2
    for (int32_t step = 0; step < p.chosen; step++) {
        const int64_t pair = first + (reverse ? p.chosen - 1 - step : step);
        const float weight = p.weight == NULL ? 1.0f : p.weight[pair];
        float x[RUN];
        load_run<WHOLE>((const T *)p.x + p.row[pair] * p.width, i, p.width, x);
#pragma unroll
        for (int e = 0; e < RUN; e++)
            y[e] += weight * x[e];
    }
    store_run<WHOLE>(p.y + t * p.width, i, p.width, y);
}

template <typename T> static void combine_of(cudaStream_t stream, const struct combine_forward *p)
{
    const bool whole =
        p->width % RUN == 0 && vector_aligned(p->x, 16) && vector_aligned(p->before, 16) && vector_aligned(p->y, 16);
    const int64_t runs = ceil_div(p->width, RUN), blocks = ceil_div(runs, THREADS);
    const dim3 grid((unsigned)p->tokens, (unsigned)blocks),
        block((unsigned)(ceil_div(ceil_div(runs, blocks), 32) * 32));
    auto kernel = whole ? combine_kernel<T, true> : combine_kernel<T, false>;
    LAUNCH(kernel, grid, block, 0, stream, *p);
}

extern "C" void cuda_combine_forward(struct backend *backend, const struct combine_forward *p)
{
    assert(p->x_type != DTYPE_F16);
    if (p->tokens == 0)
        return;
    if (p->x_type == DTYPE_F32)
        combine_of<float>(cuda_state_of(backend)->stream, p);
    else
        combine_of<uint16_t>(cuda_state_of(backend)->stream, p);
    cuda_note(backend, "combine_forward", cudaSuccess);
}

/* A warp has a row. */
template <typename T> static __global__ void __launch_bounds__(32 * WEIGH_WARPS) weigh_kernel(const combine_backward p)
{
    const int64_t r = (int64_t)blockIdx.x * WEIGH_WARPS + threadIdx.x / 32;
    const int lane = (int)(threadIdx.x % 32);
    if (r >= p.rows)
        return;
    T *x = (T *)p.x + r * p.width, *dx = (T *)p.dx + r * p.width;
    const int32_t pair = p.pair[r];
    const float weight = p.weight[pair];
    float dot = 0.0f;
#pragma unroll 4
    for (int64_t i = lane; i < p.width; i += 32) {
        const float a = load_element(x + i), b = load_element(dx + i);
        dot = fmaf(a, b, dot);
        store_element(x + i, weight * a);
        store_element(dx + i, weight * b);
    }
    dot = warp_sum(dot);
    if (lane == 0)
        p.d_weight[pair] = dot;
}

extern "C" void cuda_combine_backward(struct backend *backend, const struct combine_backward *p)
{
    assert(p->act != DTYPE_F16);
    if (p->rows == 0)
        return;
    const dim3 grid((unsigned)ceil_div(p->rows, WEIGH_WARPS)), block(32 * WEIGH_WARPS);
    cudaStream_t stream = cuda_state_of(backend)->stream;
    if (p->act == DTYPE_F32)
        LAUNCH(weigh_kernel<float>, grid, block, 0, stream, *p);
    else
        LAUNCH(weigh_kernel<uint16_t>, grid, block, 0, stream, *p);
    cuda_note(backend, "combine_backward", cudaSuccess);
}

/* SwiGLU, forward and backward: elementwise, 16 bytes of bf16 a thread and access. */
#include "backend/cuda/vector_access.cuh"

#include <assert.h>

enum { THREADS = 256, FEW_THREADS = 64, RUNS = 2 };

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

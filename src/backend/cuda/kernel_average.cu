/* A mean of the masters over steps, elementwise: the CPU's operations, so that the bits are the same. */
#include "backend/cuda/split_master.cuh"

#include <assert.h>

enum { THREADS = 256 };

static __global__ void __launch_bounds__(THREADS)
    average_split(int64_t count, const uint16_t *__restrict__ weight, const int16_t *__restrict__ low,
                  float *__restrict__ mean, float share)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= count)
        return;
    const float w = load_master(weight, low, i);
    mean[i] = share == 1.0f ? w : mean[i] + share * (w - mean[i]);
}

template <typename T>
static __global__ void __launch_bounds__(THREADS)
    average_plain(int64_t count, const T *__restrict__ weight, float *__restrict__ mean, float share)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= count)
        return;
    const float w = load_element(weight + i);
    mean[i] = share == 1.0f ? w : mean[i] + share * (w - mean[i]);
}

extern "C" void cuda_average(struct backend *backend, const struct average *p)
{
    cuda_host_flush(backend);
    const cudaStream_t stream = cuda_state_of(backend)->stream;
    const dim3 grid((unsigned)ceil_div(p->count, THREADS)), block(THREADS);
    assert(p->type == DTYPE_F32 || p->type == DTYPE_BF16);
    if (p->count == 0)
        return;
    if (p->low != NULL)
        LAUNCH(average_split, grid, block, 0, stream, p->count, (const uint16_t *)p->weight, p->low, p->mean, p->share);
    else if (p->type == DTYPE_BF16)
        LAUNCH((average_plain<uint16_t>), grid, block, 0, stream, p->count, (const uint16_t *)p->weight, p->mean,
               p->share);
    else
        LAUNCH((average_plain<float>), grid, block, 0, stream, p->count, (const float *)p->weight, p->mean, p->share);
    cuda_note(backend, "average", cudaSuccess);
}

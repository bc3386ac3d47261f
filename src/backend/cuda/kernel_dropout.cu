/* Elements kept by counters, scaled; the others 0: the CPU's operations, so that the bits are the same. */
#include "base/rng.h"
#include "backend/cuda/vector_access.cuh"

#include <assert.h>

namespace
{

enum { THREADS = 128 };

/* Row blockIdx.x, four elements for each thread. */
template <typename X, typename Y> __global__ void __launch_bounds__(THREADS) dropout_kernel(dropout p)
{
    const int64_t t = blockIdx.x, c = 4 * ((int64_t)blockIdx.y * THREADS + threadIdx.x);
    if (c >= p.width)
        return;
    const uint64_t blocks = (uint64_t)(p.width + 3) / 4;
    const float kept = 1.0f / (1.0f - p.p);
    const device_rng_block block =
        device_philox(p.seed, RNG_DROPOUT, p.stream[t], (uint64_t)p.position[t] * blocks + (uint64_t)c / 4);
    const X *x = (const X *)p.x + t * p.width;
    Y *y = (Y *)p.y + t * p.width;
    for (int i = 0; i < 4 && c + i < p.width; i++) {
        const float uniform = (float)(block.word[i] >> 8) * 0x1p-24f; /* rng_uniform */
        const float value = uniform >= p.p ? kept * load_element(x + c + i) : 0.0f;
        if (!p.accumulate)
            store_element(y + c + i, value);
        else if (value != 0.0f)
            store_element(y + c + i, load_element(y + c + i) + value);
    }
}

} // namespace

extern "C" void cuda_dropout(struct backend *backend, const struct dropout *p)
{
    const cudaStream_t stream = cuda_state_of(backend)->stream;
    const dim3 grid((unsigned)p->rows, (unsigned)ceil_div(ceil_div(p->width, 4), THREADS)), block(THREADS);
    assert(p->x_type != DTYPE_F16 && p->y_type != DTYPE_F16);
    if (p->rows == 0)
        return;
    if (p->x_type == DTYPE_F32 && p->y_type == DTYPE_F32)
        LAUNCH((dropout_kernel<float, float>), grid, block, 0, stream, *p);
    else if (p->x_type == DTYPE_F32)
        LAUNCH((dropout_kernel<float, uint16_t>), grid, block, 0, stream, *p);
    else if (p->y_type == DTYPE_F32)
        LAUNCH((dropout_kernel<uint16_t, float>), grid, block, 0, stream, *p);
    else
        LAUNCH((dropout_kernel<uint16_t, uint16_t>), grid, block, 0, stream, *p);
    cuda_note(backend, "dropout", cudaSuccess);
}

/* Sums of two arrays, one addition for each element. */
#include "backend/cuda/vector_access.cuh"

enum { THREADS = 256 };

static __global__ void __launch_bounds__(THREADS)
    add_kernel(int64_t count, const float *__restrict__ x, float *__restrict__ y)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < count)
        y[i] += x[i];
}

extern "C" void cuda_add(struct backend *backend, const struct add *p)
{
    cuda_host_flush(backend);
    if (p->count == 0)
        return;
    LAUNCH(add_kernel, dim3((unsigned)ceil_div(p->count, THREADS)), dim3(THREADS), 0, cuda_state_of(backend)->stream,
           p->count, p->x, p->y);
    cuda_note(backend, "add", cudaSuccess);
}

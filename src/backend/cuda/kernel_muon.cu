/* What Muon computes beside products of matrices: the momentum, mixtures of a matrix and a product, a transpose. The
 * CPU's operations one by one. */
#include "backend/cuda/vector_access.cuh"

#include <assert.h>

enum { THREADS = 256, SQUARE = 32, SQUARE_ROWS = THREADS / SQUARE };

/* torch.lerp: from the nearer end. */
static __device__ __forceinline__ float between(float begin, float end, float share)
{
    return share < 0.5f ? begin + share * (end - begin) : end - (end - begin) * (1.0f - share);
}

static __global__ void __launch_bounds__(THREADS)
    momentum_kernel(int64_t count, const float *__restrict__ grad, float scale, float momentum, bool nesterov,
                    float *__restrict__ m, uint16_t *__restrict__ x)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= count)
        return;
    const float g = grad[i] * scale, m1 = between(m[i], g, 1.0f - momentum);
    m[i] = m1;
    x[i] = float_to_bf16(nesterov ? between(g, m1, momentum) : m1);
}

extern "C" void cuda_muon_momentum(struct backend *backend, const struct muon_momentum *p)
{
    cuda_host_flush(backend);
    const cudaStream_t stream = cuda_state_of(backend)->stream;
    if (p->count == 0)
        return;
    LAUNCH(momentum_kernel, dim3((unsigned)ceil_div(p->count, THREADS)), dim3(THREADS), 0, stream, p->count, p->grad,
           p->scale, p->momentum, p->nesterov, p->m, p->x);
    cuda_note(backend, "muon_momentum", cudaSuccess);
}

/* y may be x. */
static __global__ void __launch_bounds__(THREADS)
    mix_kernel(int64_t count, const uint16_t *x, const float *z, float a, float b, float divisor, uint16_t *y)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= count)
        return;
    const float from_x = x == NULL ? 0.0f : a * load_element(x + i), from_z = z == NULL ? 0.0f : b * z[i];
    y[i] = float_to_bf16((from_x + from_z) / divisor);
}

extern "C" void cuda_muon_mix(struct backend *backend, const struct muon_mix *p)
{
    const cudaStream_t stream = cuda_state_of(backend)->stream;
    if (p->count == 0)
        return;
    LAUNCH(mix_kernel, dim3((unsigned)ceil_div(p->count, THREADS)), dim3(THREADS), 0, stream, p->count, p->x, p->z,
           p->a, p->b, p->divisor, p->y);
    cuda_note(backend, "muon_mix", cudaSuccess);
}

/* A block moves SQUARE x SQUARE elements through shared memory. */
static __global__ void __launch_bounds__(THREADS)
    transpose_kernel(int64_t rows, int64_t columns, const uint16_t *__restrict__ x, uint16_t *__restrict__ y)
{
    __shared__ uint16_t part[SQUARE][SQUARE + 2];
    const int at = (int)threadIdx.x % SQUARE, lane = (int)threadIdx.x / SQUARE;
    const int64_t squares = (columns + SQUARE - 1) / SQUARE;
    const int64_t row = (int64_t)blockIdx.x / squares * SQUARE, column = (int64_t)blockIdx.x % squares * SQUARE;
    for (int r = lane; r < SQUARE; r += SQUARE_ROWS)
        if (row + r < rows && column + at < columns)
            part[r][at] = x[(row + r) * columns + column + at];
    __syncthreads();
    for (int j = lane; j < SQUARE; j += SQUARE_ROWS)
        if (column + j < columns && row + at < rows)
            y[(column + j) * rows + row + at] = part[at][j];
}

extern "C" void cuda_muon_transpose(struct backend *backend, const struct muon_transpose *p)
{
    const cudaStream_t stream = cuda_state_of(backend)->stream;
    assert(p->x != p->y);
    if (p->rows == 0 || p->columns == 0)
        return;
    const int64_t blocks = ceil_div(p->rows, SQUARE) * ceil_div(p->columns, SQUARE);
    LAUNCH(transpose_kernel, dim3((unsigned)blocks), dim3(THREADS), 0, stream, p->rows, p->columns, p->x, p->y);
    cuda_note(backend, "muon_transpose", cudaSuccess);
}

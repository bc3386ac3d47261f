/* Rows of a weight with a change of low rank: their norms, and what they come to. The operations are the CPU's, so that
 * the bits are the same. */
#include "backend/cuda/vector_access.cuh"

#include <assert.h>

namespace
{

/* A warp has ROWS rows, which share what it reads of a; lane c % 32 has column c. */
enum { WARPS = 8, ROWS = 4 };

template <typename T> struct fold_args {
    int64_t n, k, r;
    const T *w, *a, *b;
    float scale;
    const float *magnitude;
    float *norm, *factor;
    T *to;
};

template <typename T>
__device__ __forceinline__ void changed(const fold_args<T> &p, const int64_t row[ROWS], int64_t c, float v[ROWS])
{
    float sum[ROWS] = {};
    for (int64_t j = 0; j < p.r; j++) {
        const float a = load_element(p.a + j * p.k + c);
#pragma unroll
        for (int q = 0; q < ROWS; q++)
            sum[q] = fmaf(load_element(p.b + row[q] * p.r + j), a, sum[q]);
    }
#pragma unroll
    for (int q = 0; q < ROWS; q++)
        v[q] = load_element(p.w + row[q] * p.k + c) + p.scale * sum[q];
}

template <typename T> __global__ void __launch_bounds__(32 * WARPS) fold_kernel(fold_args<T> p)
{
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    const int64_t first = ((int64_t)blockIdx.x * WARPS + warp) * ROWS;
    int64_t row[ROWS];
    float factor[ROWS], v[ROWS];
    if (first >= p.n)
        return;
#pragma unroll
    for (int q = 0; q < ROWS; q++) {
        row[q] = first + q < p.n ? first + q : p.n - 1;
        factor[q] = 1.0f;
    }
    if (p.norm != nullptr || p.magnitude != nullptr) {
        double square[ROWS] = {};
        for (int64_t c = lane; c < p.k; c += 32) {
            changed(p, row, c, v);
#pragma unroll
            for (int q = 0; q < ROWS; q++)
                square[q] += (double)v[q] * (double)v[q];
        }
#pragma unroll
        for (int q = 0; q < ROWS; q++) {
            const float norm = (float)sqrt(warp_sum(square[q]));
            if (p.magnitude != nullptr)
                factor[q] = norm > 0.0f ? p.magnitude[row[q]] / norm : p.magnitude[row[q]];
            if (lane != 0 || first + q >= p.n)
                continue;
            if (p.norm != nullptr)
                p.norm[row[q]] = norm;
            if (p.factor != nullptr)
                p.factor[row[q]] = factor[q];
        }
    }
    for (int64_t c = lane; p.to != nullptr && c < p.k; c += 32) {
        changed(p, row, c, v);
#pragma unroll
        for (int q = 0; q < ROWS; q++)
            if (first + q < p.n)
                store_element(p.to + row[q] * p.k + c, p.magnitude != nullptr ? factor[q] * v[q] : v[q]);
    }
}

template <typename T> void fold_of(cudaStream_t stream, const struct fold *p)
{
    const fold_args<T> args = {p->n,     p->k,         p->r,    (const T *)p->w, (const T *)p->a, (const T *)p->b,
                               p->scale, p->magnitude, p->norm, p->factor,       (T *)p->to};
    LAUNCH((fold_kernel<T>), dim3((unsigned)ceil_div(p->n, WARPS * ROWS)), dim3(32 * WARPS), 0, stream, args);
}

} // namespace

extern "C" void cuda_fold(struct backend *backend, const struct fold *p)
{
    const cudaStream_t stream = cuda_state_of(backend)->stream;
    assert(p->type != DTYPE_F16 && p->k > 0);
    if (p->n == 0)
        return;
    if (p->type == DTYPE_F32)
        fold_of<float>(stream, p);
    else
        fold_of<uint16_t>(stream, p);
    cuda_note(backend, "fold", cudaSuccess);
}

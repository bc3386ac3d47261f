/* Rows of a weight with a change of low rank: their norms or those of its columns, and what they come to. The operations are the CPU's, so that
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
    bool by_column;
    const float *magnitude;
    float *norm, *factor;
    T *to;
};

/* Keeps the norm of row or column i, and its factor. */
template <typename T>
__device__ __forceinline__ void note_norm(const fold_args<T> &p, int64_t i, float norm, float factor)
{
    if (p.norm != nullptr)
        p.norm[i] = norm;
    if (p.factor != nullptr && p.magnitude != nullptr)
        p.factor[i] = factor;
}

template <typename T> __device__ __forceinline__ float factor_of(const fold_args<T> &p, int64_t i, float norm)
{
    if (p.magnitude == nullptr)
        return 1.0f;
    return norm > 0.0f ? p.magnitude[i] / norm : p.magnitude[i];
}

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
    if (!p.by_column && (p.norm != nullptr || p.magnitude != nullptr)) {
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
            factor[q] = factor_of(p, row[q], norm);
            if (lane == 0 && first + q < p.n)
                note_norm(p, row[q], norm, factor[q]);
        }
    }
    for (int64_t c = lane; p.to != nullptr && c < p.k; c += 32) {
        const bool scaled = p.magnitude != nullptr;
        const float column = p.by_column && scaled ? p.factor[c] : 1.0f;
        changed(p, row, c, v);
#pragma unroll
        for (int q = 0; q < ROWS; q++)
            if (first + q < p.n)
                store_element(p.to + row[q] * p.k + c, scaled ? (p.by_column ? column : factor[q]) * v[q] : v[q]);
    }
}

/* Norms and factors of 32 columns: a warp for the rows of each remainder by 32, a lane for each column. */
template <typename T> __global__ void __launch_bounds__(32 * 32) column_kernel(fold_args<T> p)
{
    __shared__ double lanes[32][32];
    const int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    const int64_t c = (int64_t)blockIdx.x * 32 + lane;
    double square = 0;
    for (int64_t i = warp; c < p.k && i < p.n; i += 32) {
        float sum = 0;
        for (int64_t j = 0; j < p.r; j++)
            sum = fmaf(load_element(p.b + i * p.r + j), load_element(p.a + j * p.k + c), sum);
        const float v = load_element(p.w + i * p.k + c) + p.scale * sum;
        square += (double)v * (double)v;
    }
    lanes[warp][lane] = square;
    for (int half = 16; half > 0; half /= 2) {
        __syncthreads();
        if (warp < half)
            lanes[warp][lane] += lanes[warp + half][lane];
    }
    if (warp == 0 && c < p.k) {
        const float norm = (float)sqrt(lanes[0][lane]);
        note_norm(p, c, norm, factor_of(p, c, norm));
    }
}

template <typename T> void fold_of(cudaStream_t stream, const struct fold *p)
{
    const fold_args<T> args = {p->n,     p->k,         p->r,         (const T *)p->w, (const T *)p->a, (const T *)p->b,
                               p->scale, p->by_column, p->magnitude, p->norm,         p->factor,       (T *)p->to};
    if (p->by_column && (p->norm != nullptr || p->magnitude != nullptr))
        LAUNCH((column_kernel<T>), dim3((unsigned)ceil_div(p->k, 32)), dim3(32 * 32), 0, stream, args);
    if (p->by_column && p->to == nullptr)
        return;
    LAUNCH((fold_kernel<T>), dim3((unsigned)ceil_div(p->n, WARPS * ROWS)), dim3(32 * WARPS), 0, stream, args);
}

} // namespace

extern "C" void cuda_fold(struct backend *backend, const struct fold *p)
{
    const cudaStream_t stream = cuda_state_of(backend)->stream;
    assert(p->type != DTYPE_F16 && p->k > 0);
    assert(!p->by_column || p->magnitude == NULL || p->factor != NULL);
    if (p->n == 0)
        return;
    if (p->type == DTYPE_F32)
        fold_of<float>(stream, p);
    else
        fold_of<uint16_t>(stream, p);
    cuda_note(backend, "fold", cudaSuccess);
}

/* RMS norm of a row, as kernel_rmsnorm.cu and products of few rows (kernel_matmul_skinny.cu) compute it: the same bits
 * in both.
 *
 * Order of sums (invariant I2): thread t of a row's threads holds its groups of four elements t,
 * t + threads, ...; it sums them in that order, lane by lane of the four, the warp combines its
 * lanes by a fixed tree and the warps are added in ascending order. The number of threads is a
 * function of the width alone. */
#ifndef COHORT_BACKEND_CUDA_RMSNORM_ROW_CUH
#define COHORT_BACKEND_CUDA_RMSNORM_ROW_CUH

#include "backend/cuda/vector_access.cuh"

/* Groups of four elements that a thread holds, and threads of a row. */
struct row_shape {
    int per_thread, threads;
};

enum { ROW_THREADS = 512, ROW_WARPS = ROW_THREADS / 32, ROW_WIDTH = 4 * 4 * ROW_THREADS };

static inline row_shape row_shape_of(int64_t width)
{
    const int64_t vectors = ceil_div(width, 4);
    const int per_thread = vectors <= 2 * ROW_THREADS ? 2 : 4;
    return {per_thread, (int)ceil_div(ceil_div(vectors, per_thread), 32) * 32};
}

/* First element of a thread's group j. */
static __device__ __forceinline__ int row_element(int thread, int threads, int j) { return 4 * (thread + j * threads); }

/* The four lanes of a thread. */
static __device__ __forceinline__ float add4(const float a[4]) { return (a[0] + a[1]) + (a[2] + a[3]); }

/* Sum of the warp's squares, in every lane. */
template <int PER> static __device__ __forceinline__ float row_warp_squares(const float v[PER][4])
{
    float square[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
    for (int j = 0; j < PER; j++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            square[e] = fmaf(v[j][e], v[j][e], square[e]);
    return warp_sum(add4(square));
}

/* 1 / root mean square from the sums of the row's warps, in shared memory. */
static __device__ __forceinline__ float row_rstd(const float *partial, int warps, float inverse_width, float eps)
{
    float total = partial[0];
#pragma unroll
    for (int w = 1; w < ROW_WARPS; w++) { /* all are read at once, then added */
        const float next = w < warps ? partial[w] : 0.0f;
        total += next;
    }
    return rsqrtf(fmaf(total, inverse_width, eps));
}

static __device__ __forceinline__ float row_normed(float x, float rstd, float gain) { return x * rstd * gain; }

#endif

/* What the elementwise and norm kernels share: four elements of a row at a time in fp32, and sums over rows in a fixed
 * order. */
#ifndef COHORT_BACKEND_CUDA_VECTOR_ACCESS_CUH
#define COHORT_BACKEND_CUDA_VECTOR_ACCESS_CUH

#include "backend/cuda/cuda_device.cuh"

/* Whether p may be read in vectors of that many bytes. */
static inline bool vector_aligned(const void *p, size_t bytes) { return (uintptr_t)p % bytes == 0; }

/* Whether rows of width elements at p can be read in fours. */
static inline bool rows_in_fours(const void *p, enum dtype type, int64_t width)
{
    return width % 4 == 0 && vector_aligned(p, 4 * dtype_bytes(type));
}

static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* Four elements in one access: 16 bytes of floats, 8 of bf16. Stores name their cache (the second level, where they go
 * anyway): nvcc 13 takes plain ones apart into single words in places. */
template <typename T> struct vector4;
template <> struct vector4<float> {
    using type = float4;
};
template <> struct vector4<uint16_t> {
    using type = uint2;
};
static __device__ __forceinline__ void unpack4(const float4 &x, float v[4])
{
    v[0] = x.x, v[1] = x.y, v[2] = x.z, v[3] = x.w;
}
static __device__ __forceinline__ void unpack4(const uint2 &x, float v[4])
{
    v[0] = __uint_as_float(x.x << 16), v[1] = __uint_as_float(x.x & 0xffff0000u);
    v[2] = __uint_as_float(x.y << 16), v[3] = __uint_as_float(x.y & 0xffff0000u);
}
/* Zeros unless valid. Only the access depends on that, so that no branch makes loads wait for each other. */
template <typename T> static __device__ __forceinline__ void load_vector4(const T *p, bool valid, float v[4])
{
    typename vector4<T>::type x = {};
    if (valid)
        x = *(const typename vector4<T>::type *)p;
    unpack4(x, v);
}
template <typename T> static __device__ __forceinline__ void load_vector4(const T *p, float v[4])
{
    load_vector4(p, true, v);
}
static __device__ __forceinline__ void store_vector4(float *p, const float v[4])
{
    __stcg((float4 *)p, make_float4(v[0], v[1], v[2], v[3]));
}
static __device__ __forceinline__ void store_vector4(uint16_t *p, const float v[4])
{
    __stcg((uint2 *)p, make_uint2(pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3])));
}

/* Elements i .. i + 4 of a row of n, zeros behind its end. WHOLE: n is a multiple of 4 and the row aligned to four
 * elements, so that one access serves; what is computed is the same. */
template <bool WHOLE, typename T>
static __device__ __forceinline__ void load_part4(const T *row, int i, int n, float v[4])
{
    if constexpr (WHOLE) {
        load_vector4(row + i, i < n, v);
    } else {
        v[0] = v[1] = v[2] = v[3] = 0.0f;
#pragma unroll
        for (int e = 0; e < 4; e++)
            if (i + e < n)
                v[e] = load_element(row + i + e);
    }
}
template <bool WHOLE, typename T>
static __device__ __forceinline__ void store_part4(T *row, int i, int n, const float v[4])
{
    if constexpr (WHOLE) {
        if (i < n)
            store_vector4(row + i, v);
    } else {
#pragma unroll
        for (int e = 0; e < 4; e++)
            if (i + e < n)
                store_element(row + i + e, v[e]);
    }
}

/* ---- Elementwise operations: eight elements in a run ---- */

enum { RUN = 8 };

/* Elements i .. i + RUN of a row of n. WHOLE: n is a multiple of RUN, the row aligned to RUN elements. */
template <bool WHOLE>
static __device__ __forceinline__ void load_run(const float *row, int64_t i, int64_t n, float v[RUN])
{
    if constexpr (WHOLE) {
        load_vector4(row + i, v);
        load_vector4(row + i + 4, v + 4);
    } else {
#pragma unroll
        for (int e = 0; e < RUN; e++)
            v[e] = i + e < n ? row[i + e] : 0.0f;
    }
}
template <bool WHOLE>
static __device__ __forceinline__ void load_run(const uint16_t *row, int64_t i, int64_t n, float v[RUN])
{
    if constexpr (WHOLE) {
        const uint4 x = *(const uint4 *)(row + i);
        const uint32_t pair[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
        for (int e = 0; e < 4; e++) {
            v[2 * e] = __uint_as_float(pair[e] << 16);
            v[2 * e + 1] = __uint_as_float(pair[e] & 0xffff0000u);
        }
    } else {
#pragma unroll
        for (int e = 0; e < RUN; e++)
            v[e] = i + e < n ? bf16_to_float(row[i + e]) : 0.0f;
    }
}
template <bool WHOLE>
static __device__ __forceinline__ void store_run(float *row, int64_t i, int64_t n, const float v[RUN])
{
    if constexpr (WHOLE) {
        store_vector4(row + i, v);
        store_vector4(row + i + 4, v + 4);
    } else {
#pragma unroll
        for (int e = 0; e < RUN; e++)
            if (i + e < n)
                row[i + e] = v[e];
    }
}
template <bool WHOLE>
static __device__ __forceinline__ void store_run(uint16_t *row, int64_t i, int64_t n, const float v[RUN])
{
    if constexpr (WHOLE) {
        __stcg((uint4 *)(row + i),
               make_uint4(pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]), pack_bf16(v[4], v[5]), pack_bf16(v[6], v[7])));
    } else {
#pragma unroll
        for (int e = 0; e < RUN; e++)
            if (i + e < n)
                row[i + e] = float_to_bf16(v[e]);
    }
}

/* ---- Gradients of gains: sums over rows in two stages ---- */

/* Consecutive rows that are summed as one block, a function of the number of rows alone: blocks enough to fill a large
 * device, few enough that their sums are small beside the rows. */
enum { MAX_ROW_BLOCKS = 1024, MIN_BLOCK_ROWS = 8 };
static inline int rows_per_block(int64_t rows)
{
    const int64_t n = ceil_div(rows, MAX_ROW_BLOCKS);
    return n > MIN_BLOCK_ROWS ? (int)n : (int)MIN_BLOCK_ROWS;
}

/* Blocks of rows_per_block rows that so many rows, or fewer, come to at most. */
static inline int64_t row_blocks_most(int64_t rows)
{
    const int64_t n = ceil_div(rows, MIN_BLOCK_ROWS);
    return n < MAX_ROW_BLOCKS ? n : (int64_t)MAX_ROW_BLOCKS;
}

enum { COLUMN_WARPS = 16 };

/* out[c] += scale * the sum over rows b < n_rows of part[b * stride + c], c < width: warp w adds rows w, w + 16, ... ascending, then
 * the warps' sums are added in ascending order. */
template <int WARPS, typename T>
static __global__ void __launch_bounds__(32 * WARPS)
    add_column_sums(const T *part, int n_rows, int64_t stride, int width, float *out, float scale)
{
    __shared__ float warp_part[WARPS][32];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int c = (int)blockIdx.x * 32 + lane;
    float sum = 0.0f;
    if (c < width)
#pragma unroll 8
        for (int b = warp; b < n_rows; b += WARPS)
            sum += load_element(part + b * stride + c);
    warp_part[warp][lane] = sum;
    __syncthreads();
    if (warp == 0 && c < width) {
        float total = warp_part[0][lane];
#pragma unroll
        for (int w = 1; w < WARPS; w++)
            total += warp_part[w][lane];
        out[c] += scale * total;
    }
}

template <typename T>
static inline void launch_column_sums(cudaStream_t stream, const T *part, int64_t n_rows, int64_t stride, int64_t width,
                                      float *out, float scale = 1.0f)
{
    LAUNCH((add_column_sums<COLUMN_WARPS, T>), dim3((unsigned)ceil_div(width, 32)), dim3(32 * COLUMN_WARPS), 0, stream,
           part, (int)n_rows, stride, (int)width, out, scale);
}

#endif

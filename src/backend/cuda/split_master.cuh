/* What the optimizers' kernels share: master weights in fp32 that are stored as a bf16 weight and its low half (struct
 * adamw), and sums over a block. */
#ifndef COHORT_BACKEND_CUDA_SPLIT_MASTER_CUH
#define COHORT_BACKEND_CUDA_SPLIT_MASTER_CUH

#include "backend/cuda/vector_access.cuh"

/* master bits = (high << 16) + signed low, modulo 2^32, and its inverse. */
static __device__ __forceinline__ float join(uint32_t high, uint32_t low)
{
    return __uint_as_float((high << 16) + (uint32_t)(int32_t)(int16_t)low);
}
static __device__ __forceinline__ uint32_t high_of(float master) { return (__float_as_uint(master) + 0x8000u) >> 16; }
static __device__ __forceinline__ uint32_t low_of(float master) { return __float_as_uint(master) & 0xffffu; }

/* Four weights from element i on. */
static __device__ __forceinline__ void load_master4(const float *weight, const int16_t *, int64_t i, float w[4])
{
    load_vector4(weight + i, w);
}
static __device__ __forceinline__ void load_master4(const uint16_t *weight, const int16_t *low, int64_t i, float w[4])
{
    const uint2 h = *(const uint2 *)(weight + i), l = *(const uint2 *)(low + i);
    w[0] = join(h.x & 0xffffu, l.x & 0xffffu);
    w[1] = join(h.x >> 16, l.x >> 16);
    w[2] = join(h.y & 0xffffu, l.y & 0xffffu);
    w[3] = join(h.y >> 16, l.y >> 16);
}
static __device__ __forceinline__ void store_master4(float *weight, int16_t *, int64_t i, const float w[4])
{
    store_vector4(weight + i, w);
}
static __device__ __forceinline__ void store_master4(uint16_t *weight, int16_t *low, int64_t i, const float w[4])
{
    __stcg((uint2 *)(weight + i), make_uint2(high_of(w[0]) | high_of(w[1]) << 16, high_of(w[2]) | high_of(w[3]) << 16));
    __stcg((uint2 *)(low + i), make_uint2(low_of(w[0]) | low_of(w[1]) << 16, low_of(w[2]) | low_of(w[3]) << 16));
}
static __device__ __forceinline__ float load_master(const float *weight, const int16_t *, int64_t i)
{
    return weight[i];
}
static __device__ __forceinline__ float load_master(const uint16_t *weight, const int16_t *low, int64_t i)
{
    return join(weight[i], (uint16_t)low[i]);
}
static __device__ __forceinline__ void store_master(float *weight, int16_t *, int64_t i, float w) { weight[i] = w; }
static __device__ __forceinline__ void store_master(uint16_t *weight, int16_t *low, int64_t i, float w)
{
    weight[i] = (uint16_t)high_of(w);
    low[i] = (int16_t)(uint16_t)low_of(w);
}

/* Sum over the block's threads, in thread 0: a tree over the lanes, then the warps in order. part holds a double a
 * warp. */
static __device__ __forceinline__ double block_sum(double x, double *part)
{
    x = warp_sum(x);
    if (threadIdx.x % 32 == 0)
        part[threadIdx.x / 32] = x;
    __syncthreads();
    double total = part[0];
    for (int w = 1; w < (int)blockDim.x / 32; w++)
        total += part[w];
    return total;
}

#endif

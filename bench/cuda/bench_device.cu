#include "bench_device.h"

#include "backend/cuda/cuda_device.cuh"

static __device__ __forceinline__ float uniform(uint64_t i, uint32_t seed)
{
    uint64_t h = (i + 1) * 0x9e3779b97f4a7c15ull ^ (uint64_t)seed * 0xbf58476d1ce4e5b9ull;
    h ^= h >> 31;
    h *= 0x94d049bb133111ebull;
    h ^= h >> 29;
    return (float)(int32_t)(uint32_t)(h >> 16) * (1.0f / 2147483648.0f);
}

template <typename T> static __global__ void fill(T *x, int64_t count, float scale, uint32_t seed)
{
    const int64_t stride = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += stride)
        store_element(x + i, scale * uniform((uint64_t)i, seed));
}

void bench_fill_bf16(void *x, int64_t count, float scale, uint32_t seed, cudaStream_t stream)
{
    if (count > 0)
        LAUNCH(fill<uint16_t>, 1056, 256, 0, stream, (uint16_t *)x, count, scale, seed);
}

void bench_fill_f32(void *x, int64_t count, float scale, uint32_t seed, cudaStream_t stream)
{
    if (count > 0)
        LAUNCH(fill<float>, 1056, 256, 0, stream, (float *)x, count, scale, seed);
}

template <typename T> static __global__ void compare(const T *a, const T *b, int64_t count, bench_difference *found)
{
    const int64_t stride = (int64_t)gridDim.x * blockDim.x;
    unsigned long long different = 0, first = ~0ull;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += stride)
        if (a[i] != b[i]) {
            different++;
            first = min(first, (unsigned long long)i);
        }
    if (different > 0) {
        atomicAdd(&found->count, different);
        atomicMin(&found->first, first);
    }
}

void bench_compare(const void *a, const void *b, int64_t rows, int64_t columns, int size,
                   struct bench_difference *found, cudaStream_t stream)
{
    if (size == 2)
        LAUNCH(compare<uint16_t>, 1056, 256, 0, stream, (const uint16_t *)a, (const uint16_t *)b, rows * columns,
               found);
    else
        LAUNCH(compare<uint32_t>, 1056, 256, 0, stream, (const uint32_t *)a, (const uint32_t *)b, rows * columns,
               found);
}

/* ---- Chains of matrix instructions ---- */

/* Both chains multiply the same numbers: row r of the weights (8 different ones) and token t, column c of step s. */
static __device__ __forceinline__ uint16_t chain_weight(int row, int column)
{
    return float_to_bf16(uniform((uint64_t)(row * 16 + column), 1));
}
static __device__ __forceinline__ uint16_t chain_token(int token, int column)
{
    return float_to_bf16(uniform((uint64_t)(token * 16 + column), 2));
}

enum { CHAIN = 1024 };

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
/* A matrix of 8 rows of 16 columns in shared memory as wgmma reads it without swizzle: two core matrices (8 rows of 16
 * bytes) 128 bytes apart along k. Groups of 8 rows lie group bytes apart. */
static __device__ __forceinline__ uint64_t wgmma_matrix(const void *p, uint32_t group)
{
    uint64_t d = (uint64_t)((shared_address(p) & 0x3ffff) >> 4);
    d |= (uint64_t)(128 >> 4) << 16;
    d |= (uint64_t)(group >> 4) << 32;
    return d;
}
#endif

/* One block of 128 threads. */
static __global__ void chains(float *out)
{
    __shared__ __align__(128) uint16_t w[2][8][8], x[2][8][8];
    const int lane = (int)(threadIdx.x & 31), warp = (int)threadIdx.x / 32;
    for (int i = (int)threadIdx.x; i < 128; i += (int)blockDim.x) {
        const int row = i / 16, column = i % 16;
        w[column / 8][row][column % 8] = chain_weight(row, column);
        x[column / 8][row][column % 8] = chain_token(row, column);
    }
    __syncthreads();
    if (warp == 0) {
        const int row = lane / 4, column = lane % 4 * 2;
        uint32_t a[4], b[2];
        for (int half = 0; half < 2; half++) {
            a[2 * half] = *(const uint32_t *)&w[half][row][column];
            a[2 * half + 1] = a[2 * half];
            b[half] = *(const uint32_t *)&x[half][row][column];
        }
        float d[4] = {};
        long long begin = clock64();
        for (int i = 0; i < CHAIN; i++)
            mma_bf16(d, a, b[0], b[1]);
        if (lane == 5)
            out[2] = d[0]; /* weight row 1, token 2 */
        long long end = clock64();
        if (lane == 5)
            out[0] = (float)(end - begin) / CHAIN;
    }
    __syncthreads();
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    float d[4] = {};
    /* All 8 groups of 8 rows of the 64 x 16 factor are the same. */
    const uint64_t a = wgmma_matrix(w, 0), b = wgmma_matrix(x, 0);
    asm volatile("fence.proxy.async;" ::: "memory");
    __syncthreads();
    long long begin = clock64();
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
    for (int i = 0; i < CHAIN; i++)
        asm volatile("wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 "
                     "{%0,%1,%2,%3}, %4, %5, 1, 1, 1, 0, 0;"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                     : "l"(a), "l"(b)
                     : "memory");
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
    asm volatile("wgmma.wait_group.sync.aligned 0;" : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : : "memory");
    long long end = clock64();
    if (threadIdx.x == 5) {
        out[1] = (float)(end - begin) / CHAIN;
        out[3] = d[0];
    }
#else
    if (threadIdx.x == 5) {
        out[1] = 0.0f;
        out[3] = 0.0f;
    }
#endif
}

void bench_chains(float *cycles, cudaStream_t stream) { LAUNCH(chains, 1, 128, 0, stream, cycles); }

/* What the kernels share: launching, warps, bf16, asynchronous copies, matrix instructions.
 *
 * Kernels use only what this header names, so that the tests can also build them for the CPU (COHORT_CUDA_EMULATED),
 * where every thread of a block is a coroutine. */
#ifndef COHORT_BACKEND_CUDA_CUDA_DEVICE_CUH
#define COHORT_BACKEND_CUDA_CUDA_DEVICE_CUH

#include "backend/cuda/cuda_internal.h"

#include <math.h>
#include <stdint.h>

#ifdef COHORT_CUDA_EMULATED
#include <cuda_emulation.h>
#else

/* LAUNCH(kernel, grid, block, shared bytes, stream, arguments...). A template's name in parentheses. */
#define LAUNCH(kernel, grid, block, shared, stream, ...) kernel<<<grid, block, shared, stream>>>(__VA_ARGS__)
/* Shared memory whose size the launch gives. */
#define DYNAMIC_SHARED(name)                             extern __shared__ __align__(128) unsigned char name[]
/* Lets a kernel have more than 48 KB of it. */
#ifdef COHORT_CUDA_AS /* no more than that card has */
#define ALLOW_SHARED(kernel, bytes)                                                                                    \
    ((size_t)(bytes) > cuda_shared_of(COHORT_CUDA_AS)                                                                  \
         ? cudaErrorInvalidValue                                                                                       \
         : cudaFuncSetAttribute((const void *)(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, (int)(bytes)))
#else
#define ALLOW_SHARED(kernel, bytes)                                                                                    \
    cudaFuncSetAttribute((const void *)(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, (int)(bytes))
#endif

/* Blocks of so many threads that a multiprocessor is to hold at once, for __launch_bounds__: those of workstation cards
 * hold 1,536 threads, not 2,048. */
#if defined(__CUDA_ARCH__) && ((__CUDA_ARCH__ > 800 && __CUDA_ARCH__ < 900) || __CUDA_ARCH__ >= 1200)
#define BLOCKS_HELD(threads, wanted) ((threads) * (wanted) > 1536 ? 1536 / (threads) : (wanted))
#else
#define BLOCKS_HELD(threads, wanted) (wanted)
#endif

/* LAUNCH_BEHIND(early, kernel, ...): a launch that, if early, may begin while the kernel ahead of it in the stream
 * still runs (programmatic dependent launch, compute capability 9.0). Until it has called wait_for_ahead it must not
 * touch what a kernel ahead of it writes or reads, and every thread that touches such memory calls it. */
template <typename... P, typename... A>
static inline void launch_behind(bool early, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared,
                                 cudaStream_t stream, const A &...arguments)
{
    cudaLaunchAttribute attribute;
    cudaLaunchConfig_t config = {};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared;
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = early ? 1 : 0;
    /* A multiprocessor divides its memory between shared memory and cache anew only when it is empty: kernels that are
     * to be there together all ask for the same. */
    if (early)
        (void)cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                                   cudaSharedmemCarveoutMaxShared);
    (void)cudaLaunchKernelEx(&config, kernel, arguments...); /* cuda_note asks for its error */
}
#define LAUNCH_BEHIND(early, kernel, grid, block, shared, stream, ...)                                                 \
    launch_behind(early, kernel, grid, block, shared, stream, __VA_ARGS__)
/* Waits until all kernels ahead have finished and their writes can be seen. */
static __device__ __forceinline__ void wait_for_ahead()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
/* From here on, once all blocks have called it, a kernel launched behind this one may begin. */
static __device__ __forceinline__ void start_dependents()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}

static __device__ __forceinline__ uint32_t shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* Two floats rounded to nearest even, low in the low half. */
static __device__ __forceinline__ uint32_t pack_bf16(float low, float high)
{
    uint32_t r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}

/* 16 bytes to shared memory, both addresses 16-byte aligned; zeros if not valid (from is then not read, but must be an
 * address). */
static __device__ __forceinline__ void copy_async16(void *to, const void *from, bool valid)
{
    int bytes = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(bytes)
                 : "memory");
}
static __device__ __forceinline__ void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/* Waits until at most N of the thread's groups are unfinished. A barrier must follow before other threads read. */
template <int N> static __device__ __forceinline__ void copy_async_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

/* 16 bytes of global memory as the second-level cache has them. */
static __device__ __forceinline__ uint4 load_past_l1(const uint4 *p) { return __ldcg(p); }

/* Asks for the 128 bytes around from to be brought into the second-level cache. Nothing is read: what others may be
 * writing there does not matter. */
static __device__ __forceinline__ void prefetch_line(const void *from)
{
    asm volatile("prefetch.global.L2 [%0];" ::"l"(from));
}

/* Four 8 x 8 matrices of 16-bit elements; lane i gives the address of row i % 8 of matrix i / 8. */
static __device__ __forceinline__ void load_matrix4(uint32_t r[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}
static __device__ __forceinline__ void load_matrix4_transposed(uint32_t r[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

/* d += a . b, m16n8k16, bf16 in, fp32 sums (PTX ISA, mma.m16n8k16: fragment layouts). */
static __device__ __forceinline__ void mma_bf16(float d[4], const uint32_t a[4], uint32_t b0, uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

#endif

/* Whether a kernel may begin while the one ahead of it runs (LAUNCH_BEHIND): in a recorded step of decoding, which
 * writes no weights. __restrict__ takes away the order of reads and wait_for_ahead: nvcc moves those behind it ahead of
 * it, and back. */
static inline bool begins_early(const struct cuda_state *s) { return s->capturing && s->compute >= 90; }

/* 2^x to 2 units in the last place, results below 2^-126 flushed to 0; 0 gives 1 and -inf gives 0, exactly (PTX ISA,
 * ex2.approx.ftz). */
static __device__ __forceinline__ float exp2_approximate(float x)
{
#ifdef COHORT_CUDA_EMULATED
    return exp2f(x);
#else
    float r;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
#endif
}

static __device__ __forceinline__ float bf16_to_float(uint16_t x) { return __uint_as_float((uint32_t)x << 16); }
static __device__ __forceinline__ uint16_t float_to_bf16(float x) { return (uint16_t)(pack_bf16(x, 0.0f) & 0xffffu); }

/* Elements of an activation or weight: T is uint16_t (bf16) or float, of a weight half_element too. */
static __device__ __forceinline__ float load_element(const uint16_t *x) { return bf16_to_float(*x); }
static __device__ __forceinline__ float load_element(const float *x) { return *x; }
/* An F16 weight. */
struct half_element {
    uint16_t bits;
};
static __device__ __forceinline__ float load_element(const half_element *x)
{
    const uint32_t sign = (uint32_t)(x->bits & 0x8000u) << 16, exponent = x->bits >> 10 & 0x1fu,
                   mantissa = x->bits & 0x3ffu;
    if (exponent == 0) {
        const float magnitude = (float)mantissa * 0x1p-24f;
        return sign != 0 ? -magnitude : magnitude;
    }
    return __uint_as_float(sign | (exponent == 31 ? 0x7f800000u : (exponent + 112u) << 23) | mantissa << 13);
}
static __device__ __forceinline__ void store_element(uint16_t *x, float v) { *x = float_to_bf16(v); }
static __device__ __forceinline__ void store_element(float *x, float v) { *x = v; }

/* Sums and maxima over a warp in one fixed order, in every lane. */
static __device__ __forceinline__ float warp_sum(float x)
{
    for (int o = 16; o > 0; o >>= 1)
        x += __shfl_xor_sync(0xffffffffu, x, o);
    return x;
}
static __device__ __forceinline__ double warp_sum(double x)
{
    for (int o = 16; o > 0; o >>= 1)
        x += __shfl_xor_sync(0xffffffffu, x, o);
    return x;
}
static __device__ __forceinline__ float warp_max(float x)
{
    for (int o = 16; o > 0; o >>= 1)
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, o));
    return x;
}

/* Philox4x32-10 as base/rng.c computes it. */
struct device_rng_block {
    uint32_t word[4];
};
static __device__ inline device_rng_block device_philox(uint64_t seed, uint32_t purpose, uint64_t stream,
                                                        uint64_t counter)
{
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    uint32_t c0 = (uint32_t)counter, c1 = (uint32_t)(counter >> 32) ^ (purpose << 24), c2 = (uint32_t)stream,
             c3 = (uint32_t)(stream >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    device_rng_block block = {{c0, c1, c2, c3}};
    return block;
}

#endif

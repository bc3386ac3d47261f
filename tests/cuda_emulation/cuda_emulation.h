/* CUDA C++ on the CPU, for tests: what src/backend/cuda/cuda_device.cuh promises to kernels when COHORT_CUDA_EMULATED
 * is defined. A .cu file is compiled as C++; every thread of a block is a coroutine that gives way at barriers and warp
 * collectives; blocks run one after the other. Kernels that would be wrong on a GPU for reasons of order (barriers not
 * reached by all, lanes missing from a collective, a copy not waited for, memory not written) are made to fail: see
 * cuda_emulation.cpp. */
#ifndef COHORT_TESTS_CUDA_EMULATION_H
#define COHORT_TESTS_CUDA_EMULATION_H

#include "cuda_emulation_control.h"

#include <cuda_runtime_api.h>

#include <math.h>
#include <stdint.h>
#include <string.h>

#include <memory>
#include <tuple>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __constant__    static
#define __shared__      static
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__    __attribute__((noinline))
#define __align__(n)    __attribute__((aligned(n)))
#define __launch_bounds__(...)
#ifndef __restrict__
#define __restrict__ __restrict
#endif

/* ---- vector types ---- */
struct dim3 {
    unsigned int x, y, z;
    constexpr dim3(unsigned int x_ = 1, unsigned int y_ = 1, unsigned int z_ = 1) : x(x_), y(y_), z(z_) {}
};
#define EMULATED_VECTOR(type, name, align2, align4)                                                                    \
    struct alignas(align2) name##2 { type x, y; };                                                                     \
    struct name##3 { type x, y, z; };                                                                                  \
    struct alignas(align4) name##4 { type x, y, z, w; };                                                               \
    static inline name##2 make_##name##2(type x, type y) { return name##2 {x, y}; }                                    \
    static inline name##3 make_##name##3(type x, type y, type z) { return name##3 {x, y, z}; }                         \
    static inline name##4 make_##name##4(type x, type y, type z, type w) { return name##4 {x, y, z, w}; }
EMULATED_VECTOR(float, float, 8, 16)
EMULATED_VECTOR(double, double, 16, 16)
EMULATED_VECTOR(int, int, 8, 16)
EMULATED_VECTOR(unsigned int, uint, 8, 16)
EMULATED_VECTOR(short, short, 4, 8)
EMULATED_VECTOR(unsigned short, ushort, 4, 8)
EMULATED_VECTOR(unsigned char, uchar, 2, 4)
EMULATED_VECTOR(signed char, char, 2, 4)
EMULATED_VECTOR(long long, longlong, 16, 16)
EMULATED_VECTOR(unsigned long long, ulonglong, 16, 16)
#undef EMULATED_VECTOR

/* Of the running thread. */
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;

/* ---- launching ---- */
/* A kernel with its arguments: invoke(call) runs it in the current thread. */
void emulated_launch(const char *name, const void *function, dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                     void (*invoke)(const void *call), std::shared_ptr<void> call, size_t call_bytes);

/* Arguments are converted and copied when the kernel is launched, as CUDA does. */
template <typename... P> struct emulated_launcher {
    struct call {
        void (*kernel)(P...);
        std::tuple<P...> arguments;
    };
    void (*kernel)(P...);
    const char *name;
    dim3 grid, block;
    size_t shared;
    cudaStream_t stream;
    static void invoke(const void *c) { std::apply(((const call *)c)->kernel, ((const call *)c)->arguments); }
    void operator()(P... p) const
    {
        emulated_launch(name, (const void *)kernel, grid, block, shared, stream, invoke,
                        std::make_shared<call>(call{kernel, std::tuple<P...>(p...)}), sizeof(call));
    }
};
template <typename... P>
static inline emulated_launcher<P...> emulated_configure(void (*kernel)(P...), const char *name, dim3 grid, dim3 block,
                                                         size_t shared, cudaStream_t stream)
{
    return emulated_launcher<P...>{kernel, name, grid, block, shared, stream};
}
#define LAUNCH(kernel, grid, block, shared, stream, ...)                                                               \
    emulated_configure(kernel, #kernel, grid, block, shared, stream)(__VA_ARGS__)

/* Kernels run one after the other: a launch never begins early. */
#define LAUNCH_BEHIND(early, kernel, grid, block, shared, stream, ...)                                                 \
    ((void)(early), LAUNCH(kernel, grid, block, shared, stream, __VA_ARGS__))
static inline void wait_for_ahead() {}
static inline void start_dependents() {}
static inline void prefetch_line(const void *) {}

static inline uint4 load_past_l1(const uint4 *p) { return *p; }

extern unsigned char *emulated_dynamic_shared;
#define DYNAMIC_SHARED(name) unsigned char *const name = emulated_dynamic_shared
#define ALLOW_SHARED(kernel, bytes)                                                                                    \
    cudaFuncSetAttribute((const void *)(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, (int)(bytes))

/* ---- barriers and warp collectives ---- */
enum emulated_collective {
    EMULATED_SYNCWARP,
    EMULATED_SHFL,
    EMULATED_SHFL_XOR,
    EMULATED_SHFL_UP,
    EMULATED_SHFL_DOWN,
    EMULATED_BALLOT,
    EMULATED_MATCH_ANY,
    EMULATED_LDMATRIX,
    EMULATED_LDMATRIX_TRANSPOSED,
    EMULATED_MMA_BF16,
};
/* What a lane brings to a collective and what it takes away. */
struct emulated_exchange {
    uint64_t in, out;
    const void *row;     /* ldmatrix */
    uint32_t *registers; /* ldmatrix */
    int n_matrices;
    float *d; /* mma */
    const uint32_t *a;
    uint32_t b[2];
};
void emulated_barrier(const char *file, int line);
int emulated_barrier_count(const char *file, int line, int predicate);
void emulated_collect(emulated_collective what, unsigned mask, emulated_exchange *exchange);
/* Of a shuffle: lane is a lane, a mask of lanes or a distance. */
uint64_t emulated_exchange_value(emulated_collective what, unsigned mask, uint64_t x, int lane, int width);

#define __syncthreads()        emulated_barrier(__FILE__, __LINE__)
#define __syncthreads_count(p) emulated_barrier_count(__FILE__, __LINE__, (p) ? 1 : 0)
#define __syncthreads_or(p)    (emulated_barrier_count(__FILE__, __LINE__, (p) ? 1 : 0) != 0)
#define __syncthreads_and(p)   (emulated_barrier_count(__FILE__, __LINE__, (p) ? 0 : 1) == 0)

static inline void __syncwarp(unsigned mask = 0xffffffffu) { emulated_collect(EMULATED_SYNCWARP, mask, NULL); }
template <typename T>
static inline T emulated_shuffle(emulated_collective what, unsigned mask, T x, int lane, int width)
{
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 4 or 8 bytes");
    uint64_t bits = 0;
    memcpy(&bits, &x, sizeof x);
    bits = emulated_exchange_value(what, mask, bits, lane, width);
    memcpy(&x, &bits, sizeof x);
    return x;
}
template <typename T> static inline T __shfl_sync(unsigned mask, T x, int lane, int width = 32)
{
    return emulated_shuffle(EMULATED_SHFL, mask, x, lane, width);
}
template <typename T> static inline T __shfl_xor_sync(unsigned mask, T x, int lanes, int width = 32)
{
    return emulated_shuffle(EMULATED_SHFL_XOR, mask, x, lanes, width);
}
template <typename T> static inline T __shfl_up_sync(unsigned mask, T x, unsigned delta, int width = 32)
{
    return emulated_shuffle(EMULATED_SHFL_UP, mask, x, (int)delta, width);
}
template <typename T> static inline T __shfl_down_sync(unsigned mask, T x, unsigned delta, int width = 32)
{
    return emulated_shuffle(EMULATED_SHFL_DOWN, mask, x, (int)delta, width);
}
static inline unsigned __ballot_sync(unsigned mask, int predicate)
{
    emulated_exchange e = {};
    e.in = predicate != 0;
    emulated_collect(EMULATED_BALLOT, mask, &e);
    return (unsigned)e.out;
}
static inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
static inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, !predicate) == 0; }
template <typename T> static inline unsigned __match_any_sync(unsigned mask, T x)
{
    emulated_exchange e = {};
    memcpy(&e.in, &x, sizeof x);
    emulated_collect(EMULATED_MATCH_ANY, mask, &e);
    return (unsigned)e.out;
}

/* ---- copies and matrices (cuda_device.cuh says what they do) ---- */
void copy_async16(void *to, const void *from, bool valid);
void copy_async_commit();
void emulated_copy_async_wait(int n);
template <int N> static inline void copy_async_wait() { emulated_copy_async_wait(N); }

static inline void load_matrix4(uint32_t r[4], const void *row)
{
    emulated_exchange e = {};
    e.row = row;
    e.registers = r;
    e.n_matrices = 4;
    emulated_collect(EMULATED_LDMATRIX, 0xffffffffu, &e);
}
static inline void load_matrix4_transposed(uint32_t r[4], const void *row)
{
    emulated_exchange e = {};
    e.row = row;
    e.registers = r;
    e.n_matrices = 4;
    emulated_collect(EMULATED_LDMATRIX_TRANSPOSED, 0xffffffffu, &e);
}
static inline void mma_bf16(float d[4], const uint32_t a[4], uint32_t b0, uint32_t b1)
{
    emulated_exchange e = {};
    e.d = d;
    e.a = a;
    e.b[0] = b0;
    e.b[1] = b1;
    emulated_collect(EMULATED_MMA_BF16, 0xffffffffu, &e);
}

/* ---- single instructions ---- */
#define EMULATED_CAST(name, from, to)                                                                                  \
    static inline to name(from x)                                                                                      \
    {                                                                                                                  \
        to r;                                                                                                          \
        static_assert(sizeof r == sizeof x, "a cast of bits");                                                         \
        memcpy(&r, &x, sizeof r);                                                                                      \
        return r;                                                                                                      \
    }
EMULATED_CAST(__uint_as_float, uint32_t, float)
EMULATED_CAST(__float_as_uint, float, uint32_t)
EMULATED_CAST(__int_as_float, int32_t, float)
EMULATED_CAST(__float_as_int, float, int32_t)
EMULATED_CAST(__longlong_as_double, long long, double)
EMULATED_CAST(__double_as_longlong, double, long long)
#undef EMULATED_CAST

static inline uint32_t emulated_bf16(float x)
{
    uint32_t u = __float_as_uint(x);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return 0x7fffu;
    return (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
}
static inline uint32_t pack_bf16(float low, float high) { return emulated_bf16(low) | emulated_bf16(high) << 16; }

/* A GPU's fast versions differ from these in the last bits. */
#define __expf(x)    expf(x)
#define __exp2f(x)   exp2f(x)
#define __logf(x)    logf(x)
#define __log2f(x)   log2f(x)
#define __powf(x, y) powf(x, y)
#define __sinf(x)    sinf(x)
#define __cosf(x)    cosf(x)
static inline float __fdividef(float x, float y) { return x / y; }
static inline float __fdiv_rn(float x, float y) { return x / y; }
static inline float __fadd_rn(float x, float y) { return x + y; }
static inline float __fsub_rn(float x, float y) { return x - y; }
static inline float __fmul_rn(float x, float y) { return x * y; }
static inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
static inline float __frcp_rn(float x) { return 1.0f / x; }
static inline float __fsqrt_rn(float x) { return sqrtf(x); }
static inline float __frsqrt_rn(float x) { return (float)(1.0 / sqrt((double)x)); }
static inline double __dadd_rn(double x, double y) { return x + y; }
static inline double __dmul_rn(double x, double y) { return x * y; }
static inline double __fma_rn(double x, double y, double z) { return fma(x, y, z); }
static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
static inline double rsqrt(double x) { return 1.0 / sqrt(x); }
static inline float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }
static inline int __float2int_rn(float x) { return (int)rintf(x); }
static inline int __float2int_rz(float x) { return (int)x; }
static inline int __float2int_rd(float x) { return (int)floorf(x); }
static inline float __int2float_rn(int x) { return (float)x; }
static inline float __uint2float_rn(unsigned x) { return (float)x; }

static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __ffsll(long long x) { return __builtin_ffsll(x); }
static inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
static inline int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
static inline unsigned __umulhi(unsigned x, unsigned y) { return (unsigned)((uint64_t)x * y >> 32); }
static inline unsigned __brev(unsigned x)
{
    unsigned r = 0;
    for (int i = 0; i < 32; i++)
        r |= (x >> i & 1u) << (31 - i);
    return r;
}

template <typename A, typename B> static inline typename std::common_type<A, B>::type min(A a, B b)
{
    using T = typename std::common_type<A, B>::type;
    if constexpr (std::is_floating_point<T>::value)
        return (T)fmin((double)a, (double)b);
    return (T)b < (T)a ? (T)b : (T)a;
}
template <typename A, typename B> static inline typename std::common_type<A, B>::type max(A a, B b)
{
    using T = typename std::common_type<A, B>::type;
    if constexpr (std::is_floating_point<T>::value)
        return (T)fmax((double)a, (double)b);
    return (T)a < (T)b ? (T)b : (T)a;
}

/* ---- memory ---- */
template <typename T> static inline T __ldg(const T *p) { return *p; }
template <typename T> static inline T __ldcs(const T *p) { return *p; }
template <typename T> static inline T __ldcg(const T *p) { return *p; }
template <typename T> static inline T __ldca(const T *p) { return *p; }
template <typename T> static inline void __stcs(T *p, T x) { *p = x; }
template <typename T> static inline void __stcg(T *p, T x) { *p = x; }
void __threadfence();
static inline void __threadfence_block() {}

/* No atomics on floats: their order is not fixed (invariant I2). */
template <typename T> struct emulated_atomic {
    static_assert(std::is_integral<T>::value && (sizeof(T) == 4 || sizeof(T) == 8),
                  "atomics are for integers of 4 or 8 bytes");
    using type = T;
};
void emulated_atomic_happens();
/* Out of line and not instrumented: the check of races must not take them for plain accesses. */
#define EMULATED_ATOMICALLY __attribute__((noinline, no_sanitize_thread))
#define EMULATED_ATOMIC(name, expression)                                                                              \
    template <typename T> EMULATED_ATOMICALLY T name(T *p, typename emulated_atomic<T>::type x)                        \
    {                                                                                                                  \
        T old = *p;                                                                                                    \
        *p = (T)(expression);                                                                                          \
        emulated_atomic_happens();                                                                                     \
        return old;                                                                                                    \
    }
EMULATED_ATOMIC(atomicAdd, old + x)
EMULATED_ATOMIC(atomicSub, old - x)
EMULATED_ATOMIC(atomicMax, old < x ? x : old)
EMULATED_ATOMIC(atomicMin, x < old ? x : old)
EMULATED_ATOMIC(atomicOr, old | x)
EMULATED_ATOMIC(atomicAnd, old &x)
EMULATED_ATOMIC(atomicXor, old ^ x)
EMULATED_ATOMIC(atomicExch, x)
#undef EMULATED_ATOMIC
template <typename T>
EMULATED_ATOMICALLY T atomicCAS(T *p, typename emulated_atomic<T>::type compare, typename emulated_atomic<T>::type x)
{
    T old = *p;
    if (old == compare)
        *p = x;
    emulated_atomic_happens();
    return old;
}

#endif

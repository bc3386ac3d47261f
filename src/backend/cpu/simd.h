/* The small set of vector operations that the CPU kernels use. Kernel files are compiled once per instruction set (see
 * CPU_ISA_NAME) with -ffp-contract=off, so a product and a sum are fused exactly where vf_fma says so, and nowhere
 * else: that is what keeps two compilations of one loop equal. VW is the number of floats in a vector. */
#ifndef COHORT_BACKEND_CPU_SIMD_H
#define COHORT_BACKEND_CPU_SIMD_H

#include "tensor/dtype.h"

#include <stdint.h>
#include <string.h>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

/* CPU_NAME(attention_forward) has _avx512 behind its name in the file compiled for AVX-512. */
#define CPU_JOIN2(a, b) a##_##b
#define CPU_JOIN(a, b)  CPU_JOIN2(a, b)
#define CPU_NAME(name)  CPU_JOIN(name, CPU_ISA_NAME)

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)

enum { VW = 16 };
typedef __m512 vf;
static inline vf vf_zero(void) { return _mm512_setzero_ps(); }
static inline vf vf_set(float x) { return _mm512_set1_ps(x); }
static inline vf vf_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void vf_store(float *p, vf x) { _mm512_storeu_ps(p, x); }
static inline vf vf_add(vf a, vf b) { return _mm512_add_ps(a, b); }
static inline vf vf_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
static inline vf vf_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
static inline vf vf_div(vf a, vf b) { return _mm512_div_ps(a, b); }
static inline vf vf_max(vf a, vf b) { return _mm512_max_ps(a, b); }
static inline vf vf_min(vf a, vf b) { return _mm512_min_ps(a, b); }
/* a * b + c with one rounding where the instruction set has it (AVX-512, AVX2), else with two. */
static inline vf vf_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
static inline vf vf_load_bf16(const uint16_t *p)
{
    return _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)p)), 16));
}
/* Round to nearest even; NaN stays NaN. */
static inline void vf_store_bf16(uint16_t *p, vf x)
{
    __m512i bits = _mm512_castps_si512(x);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
    __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    rounded =
        _mm512_mask_mov_epi32(rounded, nan, _mm512_or_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(0x40)));
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtepi32_epi16(rounded));
}
/* 2^n for whole n in [-126, 127]. */
static inline vf vf_pow2(vf n)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23));
}
static inline vf vf_round(vf x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

#elif defined(__AVX2__) && defined(__FMA__)

enum { VW = 8 };
typedef __m256 vf;
static inline vf vf_zero(void) { return _mm256_setzero_ps(); }
static inline vf vf_set(float x) { return _mm256_set1_ps(x); }
static inline vf vf_load(const float *p) { return _mm256_loadu_ps(p); }
static inline void vf_store(float *p, vf x) { _mm256_storeu_ps(p, x); }
static inline vf vf_add(vf a, vf b) { return _mm256_add_ps(a, b); }
static inline vf vf_sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
static inline vf vf_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
static inline vf vf_div(vf a, vf b) { return _mm256_div_ps(a, b); }
static inline vf vf_max(vf a, vf b) { return _mm256_max_ps(a, b); }
static inline vf vf_min(vf a, vf b) { return _mm256_min_ps(a, b); }
static inline vf vf_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
static inline vf vf_load_bf16(const uint16_t *p)
{
    return _mm256_castsi256_ps(
        _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)), 16));
}
static inline void vf_store_bf16(uint16_t *p, vf x)
{
    float lane[8];
    _mm256_storeu_ps(lane, x);
    for (int i = 0; i < 8; i++)
        p[i] = bf16_from_f32(lane[i]);
}
static inline vf vf_pow2(vf n)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
static inline vf vf_round(vf x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

#else /* portable: GCC and clang vector extensions, lowered to whatever the machine has */

enum { VW = 8 };
typedef float vf __attribute__((vector_size(32)));
typedef int32_t vi_ __attribute__((vector_size(32)));
static inline vf vf_set(float x) { return (vf){x, x, x, x, x, x, x, x}; }
static inline vf vf_zero(void) { return vf_set(0.0f); }
static inline vf vf_load(const float *p)
{
    vf x;
    memcpy(&x, p, sizeof x);
    return x;
}
static inline void vf_store(float *p, vf x) { memcpy(p, &x, sizeof x); }
static inline vf vf_add(vf a, vf b) { return a + b; }
static inline vf vf_sub(vf a, vf b) { return a - b; }
static inline vf vf_mul(vf a, vf b) { return a * b; }
static inline vf vf_div(vf a, vf b) { return a / b; }
/* As the x86 instructions: the second operand where either is NaN. */
static inline vf vf_max(vf a, vf b)
{
    for (int i = 0; i < VW; i++)
        a[i] = a[i] > b[i] ? a[i] : b[i];
    return a;
}
static inline vf vf_min(vf a, vf b)
{
    for (int i = 0; i < VW; i++)
        a[i] = a[i] < b[i] ? a[i] : b[i];
    return a;
}
static inline vf vf_fma(vf a, vf b, vf c) { return a * b + c; }
static inline vf vf_load_bf16(const uint16_t *p)
{
    vf x;
    for (int i = 0; i < VW; i++)
        x[i] = f32_from_bf16(p[i]);
    return x;
}
static inline void vf_store_bf16(uint16_t *p, vf x)
{
    for (int i = 0; i < VW; i++)
        p[i] = bf16_from_f32(x[i]);
}
static inline vf vf_pow2(vf n)
{
    vi_ bits;
    for (int i = 0; i < VW; i++)
        bits[i] = ((int32_t)n[i] + 127) << 23;
    vf x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
static inline vf vf_round(vf x)
{
    const vf magic = vf_set(12582912.0f); /* 1.5 * 2^23: adding it leaves no fraction bits */
    return (x + magic) - magic;
}

#endif

/* The first n < VW floats at p, zeros behind them. */
static inline vf vf_load_part(const float *p, int n)
{
    float lane[VW] = {0};
    memcpy(lane, p, (size_t)n * sizeof *p);
    return vf_load(lane);
}
static inline void vf_store_part(float *p, vf x, int n)
{
    float lane[VW];
    vf_store(lane, x);
    memcpy(p, lane, (size_t)n * sizeof *p);
}

/* Lane i + lane i + VW/2, halving: a fixed tree. */
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
#define VF_HALVING(name, op8, op4, op1)                                                                                \
    static inline float name(vf x)                                                                                     \
    {                                                                                                                  \
        const __m256 y = op8(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));                                 \
        __m128 z = op4(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));                                        \
        z = op4(z, _mm_movehl_ps(z, z));                                                                               \
        return _mm_cvtss_f32(op1(z, _mm_movehdup_ps(z)));                                                              \
    }
VF_HALVING(vf_sum, _mm256_add_ps, _mm_add_ps, _mm_add_ss)
VF_HALVING(vf_max_lane, _mm256_max_ps, _mm_max_ps, _mm_max_ss) /* of a NaN the second */
#else
static inline float vf_sum(vf x)
{
    float lane[VW];
    vf_store(lane, x);
    for (int half = VW / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            lane[i] = lane[i] + lane[i + half];
    return lane[0];
}
static inline float vf_max_lane(vf x)
{
    float lane[VW];
    vf_store(lane, x);
    for (int half = VW / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            lane[i] = lane[i] > lane[i + half] ? lane[i] : lane[i + half];
    return lane[0];
}
#endif

/* exp, about 1 ulp in [-87, 88]; below, 0; above, the value at 88. Cody-Waite reduction by ln 2 and the
 * degree-5 polynomial of Cephes expf. exp(0) is exactly 1. */
static inline vf vf_exp(vf x)
{
    const vf low = vf_set(-87.33654f);
    vf clamped = vf_min(vf_max(x, low), vf_set(88.0f));
    vf n = vf_round(vf_mul(clamped, vf_set(1.44269504088896341f)));
    vf r = vf_fma(n, vf_set(-0.693359375f), clamped);
    r = vf_fma(n, vf_set(2.12194440e-4f), r);
    vf p = vf_set(1.9875691500e-4f);
    p = vf_fma(p, r, vf_set(1.3981999507e-3f));
    p = vf_fma(p, r, vf_set(8.3334519073e-3f));
    p = vf_fma(p, r, vf_set(4.1665795894e-2f));
    p = vf_fma(p, r, vf_set(1.6666665459e-1f));
    p = vf_fma(p, r, vf_set(5.0000001201e-1f));
    p = vf_fma(vf_mul(p, r), r, vf_add(r, vf_set(1.0f)));
    vf y = vf_mul(p, vf_pow2(n));
#if defined(__AVX512F__) && defined(__AVX512BW__)
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, low, _CMP_NLT_UQ), y);
#elif defined(__AVX2__)
    return _mm256_andnot_ps(_mm256_cmp_ps(x, low, _CMP_LT_OQ), y);
#else
    for (int i = 0; i < VW; i++)
        y[i] = x[i] < -87.33654f ? 0.0f : y[i];
    return y;
#endif
}

/* log of a positive normal number, about 1 ulp: x = m 2^n with m in [sqrt(1/2), sqrt(2)) and the degree-8 polynomial of
 * Cephes logf. log(1) is exactly 0. */
static inline vf vf_log(vf x)
{
    float lane[VW], exponent[VW];
    vf_store(lane, x);
    for (int i = 0; i < VW; i++) {
        uint32_t bits;
        memcpy(&bits, &lane[i], sizeof bits);
        const int32_t n = (int32_t)(bits - 0x3f3504f3u) >> 23;
        bits -= (uint32_t)n << 23;
        memcpy(&lane[i], &bits, sizeof bits);
        exponent[i] = (float)n;
    }
    const vf n = vf_load(exponent), f = vf_sub(vf_load(lane), vf_set(1.0f)), z = vf_mul(f, f);
    vf p = vf_set(7.0376836292e-2f);
    p = vf_fma(p, f, vf_set(-1.1514610310e-1f));
    p = vf_fma(p, f, vf_set(1.1676998740e-1f));
    p = vf_fma(p, f, vf_set(-1.2420140846e-1f));
    p = vf_fma(p, f, vf_set(1.4249322787e-1f));
    p = vf_fma(p, f, vf_set(-1.6668057665e-1f));
    p = vf_fma(p, f, vf_set(2.0000714765e-1f));
    p = vf_fma(p, f, vf_set(-2.4999993993e-1f));
    p = vf_fma(p, f, vf_set(3.3333331174e-1f));
    p = vf_mul(vf_mul(p, f), z);
    p = vf_fma(n, vf_set(-2.12194440e-4f), p);
    p = vf_fma(z, vf_set(-0.5f), p);
    return vf_fma(n, vf_set(0.693359375f), vf_add(f, p));
}

/* Rows as stored (act) to and from fp32. */
static inline vf vf_load_act(const void *p, enum dtype type, int64_t i)
{
    return type == DTYPE_F32 ? vf_load((const float *)p + i) : vf_load_bf16((const uint16_t *)p + i);
}
static inline void vf_store_act(void *p, enum dtype type, int64_t i, vf x)
{
    if (type == DTYPE_F32)
        vf_store((float *)p + i, x);
    else
        vf_store_bf16((uint16_t *)p + i, x);
}
static inline float act_load(const void *p, enum dtype type, int64_t i)
{
    return type == DTYPE_F32 ? ((const float *)p)[i] : f32_from_bf16(((const uint16_t *)p)[i]);
}
static inline void act_store(void *p, enum dtype type, int64_t i, float x)
{
    if (type == DTYPE_F32)
        ((float *)p)[i] = x;
    else
        ((uint16_t *)p)[i] = bf16_from_f32(x);
}
static inline const void *act_at(const void *p, enum dtype type, int64_t i)
{
    return (const char *)p + (size_t)i * dtype_bytes(type);
}
static inline void *act_at_mut(void *p, enum dtype type, int64_t i)
{
    return (char *)p + (size_t)i * dtype_bytes(type);
}

#endif

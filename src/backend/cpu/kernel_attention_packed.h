/* Attention in bf16 where the instruction set multiplies bf16: an operand is 32 bits with two neighbours along what is
 * summed over (elements of a head for scores, keys for what weights select, queries for gradients), and VDPBF16PS adds both
 * products to an fp32 accumulator. Weights, and gradients of scores, are rounded to bf16 before their products. The
 * output is divided by the sum of the rounded weights, so that what rounding adds to all of them cancels; lse has the sum
 * of the weights themselves.
 *
 * Exactness (I2): as kernel_attention.h says, where a term is two keys of which the first is at an even absolute position,
 * since chunks begin there. A query that sees one key of two takes the step with nothing in the other's place.
 *
 * Included by kernel_attention.h. Without the instruction HAVE_PACKED is 0, and nothing here is called. */
#ifndef COHORT_BACKEND_CPU_KERNEL_ATTENTION_PACKED_H
#define COHORT_BACKEND_CPU_KERNEL_ATTENTION_PACKED_H

#include "backend/cpu/simd.h"

#include <stdbool.h>

#if defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)

enum { HAVE_PACKED = 1 };

static inline vf packed_fma(vf a, vf b, vf sum) { return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b); }

/* c[0 .. n) += of one step only the second elements of the pairs, or the first. */
static inline void packed_half(float *c, float a, const float *b, int64_t n, bool second)
{
    const __m512i keep = _mm512_set1_epi32((int32_t)(second ? 0xffff0000u : 0x0000ffffu));
    const vf scalar = vf_set(a);
    for (int64_t i = 0; i < n; i += VW) {
        const __m512i x = _mm512_and_si512(_mm512_castps_si512(vf_load(b + i)), keep);
        vf_store(c + i, packed_fma(scalar, _mm512_castsi512_ps(x), vf_load(c + i)));
    }
}

/* Of 32 elements the first n. */
static inline __mmask32 first_of_32(int32_t n) { return n >= 32 ? 0xffffffffu : n <= 0 ? 0 : (1u << n) - 1; }

/* Neighbouring rows of 32 elements as pairs, the first 16 elements and the others. */
static inline void packed_interleave(__m512i even, __m512i odd, float *to, bool both)
{
    static const uint16_t order[32] = {0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
                                       8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
    const __m512i first = _mm512_loadu_si512(order);
    vf_store(to, _mm512_castsi512_ps(_mm512_permutex2var_epi16(even, first, odd)));
    if (both)
        vf_store(to + VW, _mm512_castsi512_ps(
                              _mm512_permutex2var_epi16(even, _mm512_add_epi16(first, _mm512_set1_epi16(16)), odd)));
}

/* 2^x, relative error about 2e-7, 0 from -160 down, NaN of NaN. */
static inline vf exp2_fast(vf x, __mmask16 lanes)
{
    x = _mm512_max_ps(vf_set(-160.0f), x); /* of a NaN the second */
    const vf n = vf_round(x), r = vf_sub(x, n);
    vf p = vf_set(1.32647273e-3f);
    p = vf_fma(p, r, vf_set(9.67151299e-3f));
    p = vf_fma(p, r, vf_set(5.55073358e-2f));
    p = vf_fma(p, r, vf_set(2.40222424e-1f));
    p = vf_fma(p, r, vf_set(6.93147004e-1f));
    p = vf_fma(p, r, vf_set(1.0f));
    return _mm512_maskz_scalef_ps(lanes, p, n);
}

/* Two vectors, rounded, as the elements low .. high in order. */
static inline __m512bh round_two(vf low, vf high) { return _mm512_cvtne2ps_pbh(high, low); }

#else

enum { HAVE_PACKED = 0 };

static inline vf packed_fma(vf a, vf b, vf sum)
{
    (void)a;
    (void)b;
    return sum;
}

static inline void packed_half(float *c, float a, const float *b, int64_t n, bool second)
{
    (void)c;
    (void)a;
    (void)b;
    (void)n;
    (void)second;
}

#endif
#endif

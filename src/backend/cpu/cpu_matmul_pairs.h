/* Reordering of bf16 matrices into pairs of neighbours along k, for the files compiled with AVX-512
 * BW. */
#ifndef COHORT_BACKEND_CPU_CPU_MATMUL_PAIRS_H
#define COHORT_BACKEND_CPU_CPU_MATMUL_PAIRS_H

#include <immintrin.h>
#include <stdint.h>

/* 16 x 16 transpose of 32-bit elements. */
static inline __attribute__((always_inline)) void transpose_pairs(__m512i r[16])
{
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
    }
    for (int i = 0; i < 8; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    }
}

/* Rows first .. first + 16 of x (zeros from rows on), elements k0 .. k0 + 32 (zeros from k on), as
 * pairs. */
static inline __attribute__((always_inline)) void load_pairs(__m512i r[16], const uint16_t *x, int64_t stride,
                                                             int first, int rows, int64_t k0, int64_t k)
{
    int64_t left = k - k0;
    __mmask32 mask = left >= 32 ? 0xffffffffu : (__mmask32)((1u << left) - 1u);
    for (int i = 0; i < 16; i++)
        r[i] =
            first + i < rows ? _mm512_maskz_loadu_epi16(mask, x + (first + i) * stride + k0) : _mm512_setzero_si512();
}

/* Two rows of [k, cols] as pairs (row i, row i + 1), columns 0 .. 32 (zeros from cols on, and
 * beyond k). */
static inline __attribute__((always_inline)) void interleave_rows(__m512i pair[2], const uint16_t *x, int64_t stride,
                                                                  int cols, int64_t i, int64_t k)
{
    static const uint16_t low[32] = {0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
                                     8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
    const __m512i first = _mm512_loadu_si512(low);
    const __m512i second = _mm512_add_epi16(first, _mm512_set1_epi16(16));
    __mmask32 mask = cols >= 32 ? 0xffffffffu : (__mmask32)((1u << cols) - 1u);
    __m512i even = i < k ? _mm512_maskz_loadu_epi16(mask, x + i * stride) : _mm512_setzero_si512();
    __m512i odd = i + 1 < k ? _mm512_maskz_loadu_epi16(mask, x + (i + 1) * stride) : _mm512_setzero_si512();
    pair[0] = _mm512_permutex2var_epi16(even, first, odd);
    pair[1] = _mm512_permutex2var_epi16(even, second, odd);
}

#endif

/* Matrix products by VDPBF16PS: each lane adds two products of bf16 to an fp32 accumulator. Blocks
 * are [k/2][MR] and panels [k/2][NR] pairs of neighbours in k; k is padded to 32 so that AMX reads
 * the same panels. */
#include "backend/cpu/cpu_matmul.h"
#include "backend/cpu/cpu_matmul_pairs.h"

enum { MR = 12, NR = 32, K_UNIT = 32, PAIRS = K_UNIT / 2, PREFETCH_BYTES = 4096 };

static void pack_a(void *block, const void *x, int64_t stride, int rows, int64_t k)
{
    uint32_t *to = block;
    for (int64_t k0 = 0; k0 < k; k0 += K_UNIT, to += PAIRS * MR) {
        __m512i r[16];
        load_pairs(r, x, stride, 0, rows, k0, k);
        transpose_pairs(r);
        for (int i = 0; i < PAIRS; i++)
            _mm512_mask_storeu_epi32(to + i * MR, (__mmask16)0x0fff, r[i]);
    }
}

static void pack_a_t(void *block, const void *x, int64_t stride, int rows, int64_t k)
{
    uint32_t *to = block;
    const int64_t pairs = (k + K_UNIT - 1) / K_UNIT * PAIRS;
    for (int64_t i = 0; i < pairs; i++, to += MR) {
        __m512i pair[2];
        interleave_rows(pair, x, stride, rows, 2 * i, k);
        _mm512_mask_storeu_epi32(to, (__mmask16)0x0fff, pair[0]);
    }
}

void matmul_pack_b_dot(void *panel, const void *w, int64_t stride, int cols, int64_t k)
{
    uint32_t *to = panel;
    for (int64_t k0 = 0; k0 < k; k0 += K_UNIT, to += PAIRS * NR) {
        for (int half = 0; half < 2; half++) {
            __m512i r[16];
            load_pairs(r, w, stride, half * 16, cols, k0, k);
            transpose_pairs(r);
            for (int i = 0; i < PAIRS; i++)
                _mm512_storeu_si512(to + i * NR + half * 16, r[i]);
        }
    }
}

void matmul_pack_b_t_dot(void *panel, const void *w, int64_t stride, int cols, int64_t k)
{
    uint32_t *to = panel;
    const int64_t pairs = (k + K_UNIT - 1) / K_UNIT * PAIRS;
    for (int64_t i = 0; i < pairs; i++, to += NR) {
        __m512i pair[2];
        interleave_rows(pair, w, stride, cols, 2 * i, k);
        _mm512_storeu_si512(to, pair[0]);
        _mm512_storeu_si512(to + 16, pair[1]);
    }
}

/* rows is a constant where this is inlined: 2 * rows accumulators in registers, each taking its
 * pairs in ascending k. */
static inline __attribute__((always_inline)) void multiply_rows(const uint32_t *a, const uint32_t *b, int64_t steps,
                                                                const int rows, float *c, int64_t c_stride)
{
    __m512 sum[MR][2];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
        sum[r][0] = _mm512_setzero_ps();
        sum[r][1] = _mm512_setzero_ps();
    }
    for (int64_t i = 0; i < steps * PAIRS; i++, a += MR, b += NR) {
        _mm_prefetch((const char *)b + PREFETCH_BYTES, _MM_HINT_T0);
        _mm_prefetch((const char *)b + PREFETCH_BYTES + 64, _MM_HINT_T0);
        __m512bh w0 = (__m512bh)_mm512_loadu_si512(b);
        __m512bh w1 = (__m512bh)_mm512_loadu_si512(b + 16);
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            __m512bh x = (__m512bh)_mm512_set1_epi32((int)a[r]);
            sum[r][0] = _mm512_dpbf16_ps(sum[r][0], w0, x);
            sum[r][1] = _mm512_dpbf16_ps(sum[r][1], w1, x);
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
        _mm512_storeu_ps(c + r * c_stride, sum[r][0]);
        _mm512_storeu_ps(c + r * c_stride + 16, sum[r][1]);
    }
}

#define ROWS(n)                                                                                                        \
    case n: multiply_rows(block, panel, steps, n, c, c_stride); break;

static void kernel(const void *block, const void *panel, int64_t steps, int rows, float *c, int64_t c_stride)
{
    switch (rows) {
        ROWS(1)
        ROWS(2)
        ROWS(3)
        ROWS(4)
        ROWS(5)
        ROWS(6)
        ROWS(7)
        ROWS(8)
        ROWS(9)
        ROWS(10)
        ROWS(11)
        ROWS(12)
    default: break;
    }
}

const struct cpu_matmul matmul_bf16_dot = {
    .name = "avx512-bf16",
    .type = DTYPE_BF16,
    .b_type = DTYPE_BF16,
    .mr = MR,
    .nr = NR,
    .k_unit = K_UNIT,
    .a_bytes = 2,
    .b_bytes = 2,
    .products_per_ns = 100,
    .pack_a = pack_a,
    .pack_a_t = pack_a_t,
    .pack_b = matmul_pack_b_dot,
    .pack_b_t = matmul_pack_b_t_dot,
    .kernel = kernel,
    .store = matmul_store_avx512,
};

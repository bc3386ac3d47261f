/* Matrix products by TDPBF16PS: a tile of C takes 16 pairs of k at a time. A block is two tiles of
 * 16 rows, a panel two tiles of 16 columns, so a block by a panel is four tiles of C. Blocks are
 * [k/32][2 tiles][16 rows][32]; panels are those of avx512bf16_matmul.c. The last block is padded
 * with rows of zeros: the tile instructions work row by row, so what is beside a row does not touch
 * it. TDPBF16PS flushes denormals and rounds to nearest even whatever MXCSR says. */
#include "backend/cpu/cpu_matmul.h"
#include "backend/cpu/cpu_matmul_pairs.h"

enum {
    MR = 32,
    NR = 32,
    K_UNIT = 32,
    TILE_BYTES = 1024,
    STEP_BYTES = 2 * TILE_BYTES,
    /* With few rows the panels come from memory. Prefetching far ahead into the second-level cache, whose queue of
     * misses is longer, and near ahead into the first is 17 % faster than either alone (measured). */
    PREFETCH_FAR = 65536,
    PREFETCH_NEAR = 4096
};

struct tile_config {
    uint8_t palette, start_row;
    uint8_t reserved[14];
    uint16_t column_bytes[16];
    uint8_t rows[16];
};

static void begin(void)
{
    static const struct tile_config config = {
        .palette = 1,
        .column_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
        .rows = {16, 16, 16, 16, 16, 16, 16, 16},
    };
    _tile_loadconfig(&config);
}

static void end(void) { _tile_release(); }

static void pack_a(void *block, const void *x, int64_t stride, int rows, int64_t k)
{
    char *to = block;
    const uint16_t *from = x;
    const int used = rows > 16 ? 32 : 16;
    for (int64_t k0 = 0; k0 < k; k0 += K_UNIT, to += STEP_BYTES) {
        __mmask32 mask = k - k0 >= 32 ? 0xffffffffu : (__mmask32)((1u << (k - k0)) - 1u);
        for (int r = 0; r < rows; r++)
            _mm512_storeu_si512(to + r * 64, _mm512_maskz_loadu_epi16(mask, from + r * stride + k0));
        for (int r = rows; r < used; r++)
            _mm512_storeu_si512(to + r * 64, _mm512_setzero_si512());
    }
}

/* From [k, rows]: pairs of k beside each other for each of 16 rows are the transpose of a tile. */
static void pack_a_t(void *block, const void *x, int64_t stride, int rows, int64_t k)
{
    char *to = block;
    const uint16_t *from = x;
    for (int64_t k0 = 0; k0 < k; k0 += K_UNIT, to += STEP_BYTES) {
        __m512i tile[2][16];
        for (int i = 0; i < 16; i++) {
            __m512i pair[2];
            interleave_rows(pair, from, stride, rows, k0 + 2 * i, k);
            tile[0][i] = pair[0];
            tile[1][i] = pair[1];
        }
        for (int half = 0; half < (rows > 16 ? 2 : 1); half++) {
            transpose_pairs(tile[half]);
            for (int r = 0; r < 16; r++)
                _mm512_storeu_si512(to + half * TILE_BYTES + r * 64, tile[half][r]);
        }
    }
}

static void kernel(const void *block, const void *panel, int64_t steps, int rows, float *c, int64_t c_stride)
{
    const char *a = block, *b = panel;
    const int64_t c_bytes = c_stride * (int64_t)sizeof(float);
    float *c_low = c + 16 * c_stride;
    /* The tile intrinsics do not tell the compiler what memory they read. */
    __asm__ volatile("" ::: "memory");
    _tile_zero(0);
    _tile_zero(1);
    if (rows <= 16) {
        for (int64_t i = 0; i < steps; i++, a += STEP_BYTES, b += STEP_BYTES) {
            for (int line = 0; line < STEP_BYTES; line += 64) {
                _mm_prefetch(b + PREFETCH_FAR + line, _MM_HINT_T1);
                _mm_prefetch(b + PREFETCH_NEAR + line, _MM_HINT_T0);
            }
            _tile_loadd(4, a, 64);
            _tile_loadd(6, b, 128);
            _tile_loadd(7, b + 64, 128);
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 4, 7);
        }
        _tile_stored(0, c, c_bytes);
        _tile_stored(1, c + 16, c_bytes);
        return;
    }
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t i = 0; i < steps; i++, a += STEP_BYTES, b += STEP_BYTES) {
        _tile_loadd(6, b, 128);
        _tile_loadd(4, a, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, b + 64, 128);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, a + TILE_BYTES, 64);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, c, c_bytes);
    _tile_stored(1, c + 16, c_bytes);
    _tile_stored(2, c_low, c_bytes);
    _tile_stored(3, c_low + 16, c_bytes);
}

const struct cpu_matmul matmul_bf16_amx = {
    .name = "amx-bf16",
    .type = DTYPE_BF16,
    .b_type = DTYPE_BF16,
    .mr = MR,
    .nr = NR,
    .k_unit = K_UNIT,
    .a_bytes = 2,
    .b_bytes = 2,
    .products_per_ns = 400,
    .begin = begin,
    .end = end,
    .pack_a = pack_a,
    .pack_a_t = pack_a_t,
    .pack_b = matmul_pack_b_dot,
    .pack_b_t = matmul_pack_b_t_dot,
    .kernel = kernel,
    .store = matmul_store_avx512,
};

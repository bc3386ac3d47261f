/* What the forward and the backward of attention share: where a chunk's keys lie, the gather of a
 * chunk into fp32, and one small product. Included by kernel_attention*.c, so compiled once per
 * instruction set.
 *
 * Exactness (I2): every element of every product is one accumulator that takes its terms in
 * ascending order, one vf_fma each. Tiles only decide which elements are computed side by side, so
 * the tile shape, the other rows and the number of queries cannot change a bit. In particular the
 * score of a key is fma over d = 0 .. D-1 in one lane that belongs to that key: the chunk is
 * transposed once, keys lie across lanes, and no lane ever meets another. (In bf16, where the instruction set has products
 * of it, a step takes two terms: kernel_attention_packed.h.) */
#ifndef COHORT_BACKEND_CPU_KERNEL_ATTENTION_H
#define COHORT_BACKEND_CPU_KERNEL_ATTENTION_H

#include "backend/cpu/cpu_kernels.h"
#include "backend/cpu/kernel_attention_packed.h"
#include "backend/cpu/simd.h"
#include "backend/ops.h"

#include <assert.h>
#include <math.h>

enum {
    MAX_HEAD_DIM = 256,
    CHUNK = ATTENTION_CHUNK,
    /* Columns of a tile in vectors, rows of the widest tile: what the registers hold. */
    TILE_VECTORS = VW == 16 ? 4 : 2,
    TILE_ROWS = VW == 16 ? 6 : 4
};

#define LOG2_E 1.44269504088896341f
#define LN_2   0.693147180559945309f

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* C[m, n] = A . B, or C += A . B. A's element (row, step) is a[row * a_row + step * a_step]. An element of A and B is a
 * float, or with pairs two neighbours in bf16, of which a step takes both (kernel_attention_packed.h). */
struct product {
    float *c;
    const float *a, *b;
    int64_t c_row, a_row, a_step, b_row;
    bool fresh, packed;
};

ALWAYS_INLINE void product_tile(const struct product *p, bool packed, int rows, int vectors, int64_t row, int64_t col,
                                int64_t begin, int64_t end)
{
    vf acc[TILE_ROWS][TILE_VECTORS];
    float *c = p->c + row * p->c_row + col;
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++)
            acc[r][v] = p->fresh ? vf_zero() : vf_load(c + r * p->c_row + v * VW);
    const float *a = p->a + row * p->a_row + begin * p->a_step;
    const float *b = p->b + begin * p->b_row + col;
    const int64_t a_row = p->a_row, a_step = p->a_step, b_row = p->b_row;
    for (int64_t k = begin; k < end; k++, a += a_step, b += b_row) {
        vf x[TILE_VECTORS];
        for (int v = 0; v < vectors; v++)
            x[v] = vf_load(b + v * VW);
        for (int r = 0; r < rows; r++) {
            const vf scalar = vf_set(a[r * a_row]);
            for (int v = 0; v < vectors; v++)
                acc[r][v] = packed ? packed_fma(scalar, x[v], acc[r][v]) : vf_fma(scalar, x[v], acc[r][v]);
        }
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++)
            vf_store(c + r * p->c_row + v * VW, acc[r][v]);
}

ALWAYS_INLINE void product_columns(const struct product *p, bool packed, int rows, int64_t row, int64_t n,
                                   int64_t begin, int64_t end)
{
    int64_t col = 0;
    for (; col + TILE_VECTORS * VW <= n; col += TILE_VECTORS * VW)
        product_tile(p, packed, rows, TILE_VECTORS, row, col, begin, end);
    for (; col < n; col += VW)
        product_tile(p, packed, rows, 1, row, col, begin, end);
}

ALWAYS_INLINE void product_rows_of(const struct product *p, bool packed, int rows, int64_t row, int64_t n,
                                   int64_t begin, int64_t end)
{
    switch (rows) {
    case TILE_ROWS: product_columns(p, packed, TILE_ROWS, row, n, begin, end); break;
    case 2: product_columns(p, packed, 2, row, n, begin, end); break;
    default: product_columns(p, packed, 1, row, n, begin, end); break;
    }
}

static inline void product_rows(const struct product *p, int rows, int64_t row, int64_t n, int64_t begin, int64_t end)
{
    if (HAVE_PACKED && p->packed)
        product_rows_of(p, true, rows, row, n, begin, end);
    else
        product_rows_of(p, false, rows, row, n, begin, end);
}

static inline int product_height(int64_t rows_left)
{
    return rows_left >= TILE_ROWS ? TILE_ROWS : rows_left >= 2 ? 2 : 1;
}

/* n: a multiple of VW. steps: how many terms each row takes. */
static inline void product_run(const struct product *p, int64_t m, int64_t n, int64_t steps)
{
    for (int64_t row = 0; row < m; row += product_height(m - row))
        product_rows(p, product_height(m - row), row, n, 0, steps);
}

/* The keys of a chunk that a query sees: from begin to before end. */
struct chunk_range {
    int32_t begin, end;
};

/* The terms begin .. end of one row, where end of pairs, or begin, may be in the middle of one: there the other half of B
 * is not looked at. */
static inline void product_row_range(const struct product *p, int64_t row, int64_t n, int32_t begin, int32_t end)
{
    if (!(HAVE_PACKED && p->packed)) {
        product_rows(p, 1, row, n, begin, end);
        return;
    }
    if (begin % 2 != 0 && begin < end) {
        packed_half(p->c + row * p->c_row, p->a[row * p->a_row + begin / 2 * p->a_step], p->b + begin / 2 * p->b_row, n,
                    true);
        begin++;
    }
    if (begin / 2 < end / 2)
        product_rows(p, 1, row, n, begin / 2, end / 2);
    if (end % 2 != 0 && begin < end)
        packed_half(p->c + row * p->c_row, p->a[row * p->a_row + end / 2 * p->a_step], p->b + end / 2 * p->b_row, n,
                    false);
}

/* The same, of rows that take the terms of their ranges only, and are added to. What lies outside in A and B is not even
 * read (a masked key contributes exactly nothing, NaN included). */
static inline void product_run_ranges(const struct product *p, int64_t m, int64_t n, const struct chunk_range *ranges)
{
    assert(!p->fresh);
    const int32_t unit = HAVE_PACKED && p->packed ? 2 : 1;
    for (int64_t row = 0; row < m;) {
        const int rows = product_height(m - row);
        int32_t begin = ranges[row].begin, end = ranges[row].end;
        for (int r = 1; r < rows; r++) {
            begin = ranges[row + r].begin > begin ? ranges[row + r].begin : begin;
            end = ranges[row + r].end < end ? ranges[row + r].end : end;
        }
        begin = (begin + unit - 1) / unit * unit; /* whole steps that all take */
        end = end / unit * unit;
        if (begin >= end)
            begin = end = 0;
        for (int r = 0; r < rows && begin < end; r++)
            if (ranges[row + r].begin < begin)
                product_row_range(p, row + r, n, ranges[row + r].begin, begin);
        if (begin < end)
            product_rows(p, rows, row, n, begin / unit, end / unit);
        for (int r = 0; r < rows; r++) {
            const int32_t from = begin < end || ranges[row + r].begin < end ? end : ranges[row + r].begin;
            if (ranges[row + r].end > from)
                product_row_range(p, row + r, n, from, ranges[row + r].end);
        }
        row += rows;
    }
}

/* Whether the operands of products are pairs. */
static inline bool is_packed(enum dtype act) { return HAVE_PACKED && act == DTYPE_BF16; }

/* vf_exp, but NaN stays NaN: a broken score must be seen in the output, not counted as a masked
 * key. */
static inline vf exp_keep_nan(vf x)
{
    return vf_fma(vf_zero(), vf_max(vf_set(-100.0f), vf_min(vf_set(100.0f), x)), vf_exp(x));
}

/* Keys of one chunk of one sequence: how many, and the row of each. */
struct chunk_keys {
    int32_t n;
    int32_t row[CHUNK];
};

static inline void chunk_find(struct chunk_keys *keys, const struct attention_forward *p,
                              const struct attention_seq *seq, int32_t chunk, int32_t n)
{
    const struct attention_span *span = p->spans + seq->span_begin;
    const int32_t start = chunk * CHUNK;
    int32_t low = 0, high = seq->n_spans - 1;
    while (low < high) { /* the last span that begins at or before start */
        const int32_t middle = low + (high - low + 1) / 2;
        if (span[middle].position <= start)
            low = middle;
        else
            high = middle - 1;
    }
    keys->n = n;
    for (int32_t j = 0, s = low; j < n; s++) {
        assert(s < seq->n_spans && span[s].position <= start + j);
        const int32_t skip = start + j - span[s].position;
        for (int32_t i = skip; i < span[s].length && j < n; i++)
            keys->row[j++] = span[s].row + i;
    }
}

static inline bool chunk_same(const struct chunk_keys *have, const struct chunk_keys *want)
{
    return have->n >= want->n && memcmp(have->row, want->row, (size_t)want->n * sizeof *want->row) == 0;
}

static inline int64_t padded(int64_t n) { return (n + VW - 1) / VW * VW; }

/* One row of head_dim elements from index at, as fp32 with zeros up to the next whole vector. */
static inline void load_row(float *to, const void *from, enum dtype act, int64_t at, int32_t head_dim)
{
    int32_t d = 0;
    for (; d + VW <= head_dim; d += VW)
        vf_store(to + d, vf_load_act(from, act, at + d));
    for (; d < head_dim; d++)
        to[d] = act_load(from, act, at + d);
    for (; d < padded(head_dim); d++)
        to[d] = 0.0f;
}

/* The chunk as [key][padded D] fp32. row_stride and offset in elements. */
static inline void chunk_load(float *to, const struct chunk_keys *keys, const void *from, enum dtype act,
                              int64_t row_stride, int64_t offset, int32_t head_dim)
{
    for (int32_t j = 0; j < keys->n; j++)
        load_row(to + j * padded(head_dim), from, act, keys->row[j] * row_stride + offset, head_dim);
}

#if defined(__AVX512F__) && defined(__AVX512BW__)
static inline void transpose(vf x[VW])
{
    vf y[VW];
    for (int i = 0; i < 16; i += 2) {
        y[i] = _mm512_unpacklo_ps(x[i], x[i + 1]);
        y[i + 1] = _mm512_unpackhi_ps(x[i], x[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int j = 0; j < 2; j++) {
            const __m512d a = _mm512_castps_pd(y[i + j]), b = _mm512_castps_pd(y[i + j + 2]);
            x[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
            x[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        }
    /* x[4g + c] holds column 4q + c of rows 4g .. 4g+3 in its quarter q. */
    for (int c = 0; c < 4; c++) {
        const vf a = _mm512_shuffle_f32x4(x[c], x[4 + c], 0x88);
        const vf b = _mm512_shuffle_f32x4(x[c], x[4 + c], 0xdd);
        const vf d = _mm512_shuffle_f32x4(x[8 + c], x[12 + c], 0x88);
        const vf e = _mm512_shuffle_f32x4(x[8 + c], x[12 + c], 0xdd);
        y[c] = _mm512_shuffle_f32x4(a, d, 0x88);
        y[8 + c] = _mm512_shuffle_f32x4(a, d, 0xdd);
        y[4 + c] = _mm512_shuffle_f32x4(b, e, 0x88);
        y[12 + c] = _mm512_shuffle_f32x4(b, e, 0xdd);
    }
    for (int i = 0; i < 16; i++)
        x[i] = y[i];
}
static inline vf bf16_pair_first(vf pair)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(pair), 16));
}
static inline vf bf16_pair_second(vf pair)
{
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(pair), _mm512_set1_epi32((int32_t)0xffff0000u)));
}
static inline vf bf16_pairs_load(const uint16_t *p) { return _mm512_castsi512_ps(_mm512_loadu_si512(p)); }
#else
static inline void transpose(vf x[VW])
{
    float in[VW][VW], out[VW][VW];
    for (int i = 0; i < VW; i++)
        vf_store(in[i], x[i]);
    for (int i = 0; i < VW; i++)
        for (int j = 0; j < VW; j++)
            out[i][j] = in[j][i];
    for (int i = 0; i < VW; i++)
        x[i] = vf_load(out[i]);
}
static inline vf bf16_pair_first(vf pair)
{
    uint32_t bits[VW];
    memcpy(bits, &pair, sizeof bits);
    for (int i = 0; i < VW; i++)
        bits[i] <<= 16;
    memcpy(&pair, bits, sizeof bits);
    return pair;
}
static inline vf bf16_pair_second(vf pair)
{
    uint32_t bits[VW];
    memcpy(bits, &pair, sizeof bits);
    for (int i = 0; i < VW; i++)
        bits[i] &= 0xffff0000u;
    memcpy(&pair, bits, sizeof bits);
    return pair;
}
static inline vf bf16_pairs_load(const uint16_t *p)
{
    vf pair;
    memcpy(&pair, p, sizeof pair);
    return pair;
}
#endif

/* The chunk as [D][CHUNK] fp32, keys across; zeros where there is no key (their lanes are computed
 * and never used). bf16 is transposed in pairs of d, half the shuffles. */
static inline void chunk_load_transposed(float *to, const struct chunk_keys *keys, const void *from, enum dtype act,
                                         int64_t row_stride, int64_t offset, int32_t head_dim)
{
    const int32_t step = act == DTYPE_F32 ? VW : 2 * VW;
    const int32_t whole = head_dim / step * step;
    const int32_t n_lanes = (int32_t)padded(keys->n);
    for (int32_t j = 0; j < n_lanes; j += VW) {
        for (int32_t d = 0; d < whole; d += step) {
            vf x[VW];
            for (int32_t i = 0; i < VW; i++) {
                const int64_t at = j + i < keys->n ? keys->row[j + i] * row_stride + offset + d : -1;
                x[i] = at < 0             ? vf_zero()
                       : act == DTYPE_F32 ? vf_load((const float *)from + at)
                                          : bf16_pairs_load((const uint16_t *)from + at);
            }
            transpose(x);
            for (int32_t i = 0; i < VW; i++) {
                if (act == DTYPE_F32) {
                    vf_store(to + (d + i) * CHUNK + j, x[i]);
                } else {
                    vf_store(to + (d + 2 * i) * CHUNK + j, bf16_pair_first(x[i]));
                    vf_store(to + (d + 2 * i + 1) * CHUNK + j, bf16_pair_second(x[i]));
                }
            }
        }
        for (int32_t i = 0; i < VW; i++)
            for (int32_t d = whole; d < head_dim; d++)
                to[d * CHUNK + j + i] =
                    j + i < keys->n ? act_load(from, act, keys->row[j + i] * row_stride + offset + d) : 0.0f;
    }
}

/* How far rows of pairs along a head lie apart, in pairs: whole vectors. */
static inline int64_t packed_width(int64_t head_dim) { return (head_dim + 2 * VW - 1) / (2 * VW) * VW; }

#if defined(__AVX512BF16__)

/* One row of head_dim elements from index at as pairs, zeros behind it. */
static inline void packed_load_row(float *to, const void *from, int64_t at, int32_t head_dim)
{
    for (int32_t d = 0; d < head_dim; d += 2 * VW)
        _mm512_storeu_si512(to + d / 2,
                            _mm512_maskz_loadu_epi16(first_of_32(head_dim - d), (const uint16_t *)from + at + d));
}

/* The chunk as [pairs along D][CHUNK], keys across; zeros where there is no key. */
static inline void packed_load_across(float *to, const struct chunk_keys *keys, const void *from, int64_t row_stride,
                                      int64_t offset, int32_t head_dim)
{
    for (int32_t j = 0; j < keys->n; j += VW)
        for (int32_t d = 0; d < head_dim; d += 2 * VW) {
            const __mmask32 mask = first_of_32(head_dim - d);
            const uint16_t *base = (const uint16_t *)from + offset + d;
            vf x[VW];
            for (int32_t i = 0; i < VW; i++)
                x[i] = j + i < keys->n
                           ? _mm512_castsi512_ps(_mm512_maskz_loadu_epi16(mask, base + keys->row[j + i] * row_stride))
                           : vf_zero();
            transpose(x);
            for (int32_t i = 0; i < VW; i++)
                vf_store(to + (d / 2 + i) * CHUNK + j, x[i]);
        }
}

/* The chunk as [pairs of keys][padded D]; a last key alone is paired with zeros. */
static inline void packed_load_keys(float *to, const struct chunk_keys *keys, const void *from, int64_t row_stride,
                                    int64_t offset, int32_t head_dim)
{
    for (int32_t j = 0; j < keys->n; j += 2)
        for (int32_t d = 0; d < head_dim; d += 2 * VW) {
            const __mmask32 mask = first_of_32(head_dim - d);
            const uint16_t *base = (const uint16_t *)from + offset + d;
            const __m512i even = _mm512_maskz_loadu_epi16(mask, base + keys->row[j] * row_stride);
            const __m512i odd = j + 1 < keys->n ? _mm512_maskz_loadu_epi16(mask, base + keys->row[j + 1] * row_stride)
                                                : _mm512_setzero_si512();
            packed_interleave(even, odd, to + j / 2 * padded(head_dim) + d, head_dim - d > VW);
        }
}

/* Rows of pairs along a head, n of them, as [n / 2][padded D]: two rows in one, with zeros beside a last one alone. */
static inline void packed_load_two(float *to, const float *rows, int32_t n, int32_t head_dim)
{
    const int64_t width = packed_width(head_dim);
    for (int32_t i = 0; i < n; i += 2)
        for (int32_t d = 0; d < head_dim; d += 2 * VW) {
            const __m512i even = _mm512_loadu_si512(rows + i * width + d / 2);
            const __m512i odd = i + 1 < n ? _mm512_loadu_si512(rows + (i + 1) * width + d / 2) : _mm512_setzero_si512();
            packed_interleave(even, odd, to + i / 2 * padded(head_dim) + d, head_dim - d > VW);
        }
}

/* A bit for each key of the chunk that is seen. */
static inline uint64_t range_lanes(struct chunk_range range)
{
    return (~0ull >> (CHUNK - range.end)) & (~0ull << range.begin);
}

#else

static inline void packed_load_two(float *to, const float *rows, int32_t n, int32_t head_dim)
{
    (void)to, (void)rows, (void)n, (void)head_dim;
}
static inline void packed_load_row(float *to, const void *from, int64_t at, int32_t head_dim)
{
    (void)to, (void)from, (void)at, (void)head_dim;
}
static inline void packed_load_across(float *to, const struct chunk_keys *keys, const void *from, int64_t row_stride,
                                      int64_t offset, int32_t head_dim)
{
    (void)to, (void)keys, (void)from, (void)row_stride, (void)offset, (void)head_dim;
}
static inline void packed_load_keys(float *to, const struct chunk_keys *keys, const void *from, int64_t row_stride,
                                    int64_t offset, int32_t head_dim)
{
    (void)to, (void)keys, (void)from, (void)row_stride, (void)offset, (void)head_dim;
}

#endif

/* Scores before scaling, [rows][CHUNK]: rows of q (padded D apart, or packed_width) against the keys that lie across. What
 * no row of a tile sees is not computed. */
static inline void chunk_scores(float *scores, const float *q, const float *k_across, int64_t rows,
                                const struct chunk_range *ranges, int32_t head_dim, bool packed)
{
    const struct product p = {.c = scores,
                              .c_row = CHUNK,
                              .a = q,
                              .a_row = packed ? packed_width(head_dim) : padded(head_dim),
                              .a_step = 1,
                              .b = k_across,
                              .b_row = CHUNK,
                              .fresh = true,
                              .packed = packed};
    for (int64_t row = 0; row < rows; row += product_height(rows - row)) {
        const int height = product_height(rows - row);
        int32_t end = 0;
        for (int r = 0; r < height; r++)
            end = ranges[row + r].end > end ? ranges[row + r].end : end;
        product_rows(&p, height, row, padded(end), 0, packed ? (head_dim + 1) / 2 : head_dim);
    }
}

/* How many keys of the chunk, from its first on, lie before the query at position or are its own. */
static inline int32_t visible(int32_t position, int32_t chunk)
{
    const int32_t n = position - chunk * CHUNK + 1;
    return n < CHUNK ? n : CHUNK;
}

/* The first key that the query at position sees. window 0: there is none. */
static inline int32_t first_seen(int32_t position, int32_t window)
{
    return window > 0 && position >= window ? position - window + 1 : 0;
}

/* Its keys in a chunk of which it sees some. */
static inline struct chunk_range seen(int32_t position, int32_t window, int32_t chunk)
{
    const int32_t begin = first_seen(position, window) - chunk * CHUNK;
    return (struct chunk_range){begin > 0 ? begin : 0, visible(position, chunk)};
}

/* Whether a chunk is behind it: before everything that the query sees. */
static inline bool left_behind(int32_t position, int32_t window, int32_t chunk)
{
    return first_seen(position, window) >= (chunk + 1) * CHUNK;
}

#endif

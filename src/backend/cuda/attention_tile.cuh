/* Tiles of attention: what its forward and backward kernels share.
 *
 * A tile of keys or values is [64][D] bf16 in shared memory, 16-byte pieces of a row exchanged by the row's number
 * (swizzle), so that the 8 rows of a matrix that ldmatrix reads lie in different banks. A warp owns 16 rows of a tile
 * of queries. Fragments of mma.m16n8k16 (PTX ISA): with g = lane / 4 and t = lane % 4, an accumulator holds (row g,
 * columns 2t, 2t + 1), (row g + 8, the same); of A: a[0] (g, 2t..), a[1] (g + 8, 2t..), a[2] (g, 8 + 2t..), a[3] (g +
 * 8, 8 + 2t..).
 *
 * Exactness (I2): attention_step takes 16 rows over 64 keys (kernel_attention_decode.cu does the same arithmetic,
 * divided among warps), attention_merge is the only code that joins two splits, attention_finish the only end. What a
 * row gets is fixed by its own chunks in ascending order: a masked key adds exactly 0, a chunk of masked keys leaves m,
 * l and o as they are, and so does a split of masked keys in a merge. */
#ifndef COHORT_BACKEND_CUDA_ATTENTION_TILE_CUH
#define COHORT_BACKEND_CUDA_ATTENTION_TILE_CUH

#include "backend/cuda/cuda_device.cuh"
#include "backend/ops.h"

enum { TILE_THREADS = 128, TILE_WARPS = TILE_THREADS / 32, CHUNKS_PER_SPLIT = CUDA_SPLIT / ATTENTION_CHUNK };

#define ATTENTION_LOG2_E 1.44269504088896340736f
#define ATTENTION_LN_2   0.69314718055994530942f

/* ---- rows of keys ---- */

static __device__ __forceinline__ int32_t attention_key_row(const cuda_seq &seq, cuda_chunk chunk, int32_t position)
{
    return (position < seq.boundary ? chunk.low : chunk.high) + position % ATTENTION_CHUNK;
}

/* ---- keys and values in 8 bits (KV8_HEAD_BYTES) ---- */

/* The head of a row, number `at` of all. */
static __device__ __forceinline__ const int8_t *kv8_head(const void *rows, int64_t at, int head_dim)
{
    return (const int8_t *)rows + at * KV8_HEAD_BYTES(head_dim);
}
static __device__ __forceinline__ float kv8_scale(const int8_t *head, int head_dim)
{
    return *(const float *)(head + KV8_SCALE_AT(head_dim));
}
/* Four of its numbers as bf16. */
static __device__ __forceinline__ uint2 kv8_four(uint32_t numbers, float scale)
{
    const float a = scale * (float)(int8_t)(numbers & 0xffu), b = scale * (float)(int8_t)(numbers >> 8 & 0xffu),
                c = scale * (float)(int8_t)(numbers >> 16 & 0xffu), d = scale * (float)(int8_t)(numbers >> 24);
    return make_uint2(pack_bf16(a, b), pack_bf16(c, d));
}
/* Numbers 8 piece .. 8 piece + 8 as bf16 to 16 bytes of shared memory, or zeros. D: a multiple of 4, so that the head
 * begins at one. */
template <int D>
static __device__ __forceinline__ void kv8_copy16(uint16_t *to, const int8_t *head, int piece, bool there)
{
    const uint32_t *from = (const uint32_t *)(head + piece * 8);
    const float scale = there ? kv8_scale(head, D) : 0.0f;
    const uint2 low = kv8_four(there ? from[0] : 0u, scale), high = kv8_four(there ? from[1] : 0u, scale);
    *(uint4 *)to = make_uint4(low.x, low.y, high.x, high.y);
}

/* ---- tiles in shared memory ----
 * A tile is told by the shared memory and the index of its first element there, a multiple of D:
 * exchanging pieces is then an exclusive or with the index, and what a lane adds to it need not be
 * kept in a register for every piece. */

/* Element of 16-byte piece `piece` (8 elements) of row `row` in a tile. */
template <int D> static __device__ __forceinline__ int tile_at(int row, int piece)
{
    return row * D + (piece ^ (row & 7)) * 8;
}

/* Starts copying keys and values chunk * 64 .. + 64 of one kv head into two tiles; the head begins at element head_at
 * of a row of stride elements. Keys from end on (absolute position) become zeros: what lies there may be anything, and
 * 0 * NaN is not 0. EIGHT: keys and values are in 8 bits, and are there when the call returns. */
template <int D, bool EIGHT>
static __device__ __forceinline__ void tile_load_keys(uint16_t *tile_k, uint16_t *tile_v, const void *k, const void *v,
                                                      int32_t head_at, int32_t stride, int32_t boundary,
                                                      cuda_chunk rows, int32_t chunk, int32_t end)
{
    constexpr int PIECES = D / 8, ROWS = TILE_THREADS / PIECES;
    static_assert(ROWS % 8 == 0, "a thread's rows are exchanged alike");
    const int piece = (int)threadIdx.x % PIECES, first = (int)threadIdx.x / PIECES;
    const int32_t position = chunk * ATTENTION_CHUNK;
    const int to = tile_at<D>(first, piece);
    head_at += piece * 8;
#pragma unroll 4
    for (int i = 0; i < ATTENTION_CHUNK / ROWS; i++) {
        const int j = first + i * ROWS;
        const bool there = position + j < end;
        const int32_t row = (position + j < boundary ? rows.low : rows.high) + j;
        if constexpr (EIGHT) {
            const int64_t head = there ? ((int64_t)row * stride + head_at) / D : 0;
            kv8_copy16<D>(tile_k + to + i * ROWS * D, kv8_head(k, head, D), piece, there);
            kv8_copy16<D>(tile_v + to + i * ROWS * D, kv8_head(v, head, D), piece, there);
        } else {
            const int64_t from = there ? (int64_t)row * stride + head_at : 0;
            copy_async16(tile_k + to + i * ROWS * D, (const uint16_t *)k + from, there);
            copy_async16(tile_v + to + i * ROWS * D, (const uint16_t *)v + from, there);
        }
    }
}

/* B fragments of rows (keys) 16 n .. 16 n + 16 over d 16 k .. 16 k + 16, for S = Q . K^T: b[0], b[1] for the first 8
 * rows, b[2], b[3] for the others. */
template <int D>
static __device__ __forceinline__ void tile_load_b(uint32_t b[4], const uint16_t *memory, int tile, int n, int k)
{
    const int lane = (int)threadIdx.x % 32;
    const int at = tile + (lane / 16 * 8 + lane % 8) * D + ((lane / 8 % 2) ^ (lane % 8)) * 8;
    load_matrix4(b, memory + (at ^ (k * 16)) + n * 16 * D);
}

/* B fragments of d 16 n .. 16 n + 16 over rows (keys) 16 k .. 16 k + 16, for O = P . V: b[0], b[1] for the first 8 d,
 * b[2], b[3] for the others. */
template <int D>
static __device__ __forceinline__ void tile_load_b_transposed(uint32_t b[4], const uint16_t *memory, int tile, int n,
                                                              int k)
{
    const int lane = (int)threadIdx.x % 32;
    const int at = tile + (lane / 8 % 2 * 8 + lane % 8) * D + ((lane / 16) ^ (lane % 8)) * 8;
    load_matrix4_transposed(b, memory + (at ^ (n * 16)) + k * 16 * D);
}

/* 16 rows as the A of a product over D: in registers, or read from a tile where registers are short. load gives the
 * fragments of d 16 k .. 16 k + 16. */
template <int D> struct rows_in_registers {
    uint32_t a[D / 16][4];

    /* From global memory: row0 and row1 are the lane's rows g and g + 8, NULL: zeros. */
    __device__ __forceinline__ void fill(const uint16_t *row0, const uint16_t *row1)
    {
        const int t = (int)threadIdx.x % 4;
#pragma unroll
        for (int k = 0; k < D / 16; k++) {
            const int d = k * 16 + t * 2;
            a[k][0] = row0 ? *(const uint32_t *)(row0 + d) : 0u;
            a[k][1] = row1 ? *(const uint32_t *)(row1 + d) : 0u;
            a[k][2] = row0 ? *(const uint32_t *)(row0 + d + 8) : 0u;
            a[k][3] = row1 ? *(const uint32_t *)(row1 + d + 8) : 0u;
        }
    }
    __device__ __forceinline__ void load(uint32_t r[4], int k) const
    {
#pragma unroll
        for (int i = 0; i < 4; i++)
            r[i] = a[k][i];
    }
};

template <int D> struct rows_in_tile {
    const uint16_t *memory;
    int first; /* tile + 16 w * D for rows 16 w .. 16 w + 16 */

    __device__ __forceinline__ void load(uint32_t r[4], int k) const
    {
        const int lane = (int)threadIdx.x % 32;
        const int at = first + (lane / 8 % 2 * 8 + lane % 8) * D + ((lane / 16) ^ (lane % 8)) * 8;
        load_matrix4(r, memory + (at ^ (k * 16)));
    }
};

/* s = A . tile^T for keys 16 n .. 16 n + 16 * GROUPS, summed over D ascending; two accumulators for every group of 16
 * keys. */
template <int D, int GROUPS, class ROWS>
static __device__ __forceinline__ void tile_scores(float s[2 * GROUPS][4], const ROWS &rows, const uint16_t *memory,
                                                   int tile, int n)
{
#pragma unroll
    for (int j = 0; j < 2 * GROUPS; j++)
        s[j][0] = s[j][1] = s[j][2] = s[j][3] = 0.0f;
#pragma unroll
    for (int k = 0; k < D / 16; k++) {
        uint32_t a[4];
        rows.load(a, k);
#pragma unroll
        for (int i = 0; i < GROUPS; i++) {
            uint32_t b[4];
            tile_load_b<D>(b, memory, tile, n + i, k);
            mma_bf16(s[2 * i], a, b[0], b[1]);
            mma_bf16(s[2 * i + 1], a, b[2], b[3]);
        }
    }
}

/* The A fragments of 16 rows over a group of 16 keys, from its two accumulators, rounded to bf16. */
static __device__ __forceinline__ void pack_group(uint32_t a[4], const float p[2][4])
{
    a[0] = pack_bf16(p[0][0], p[0][1]);
    a[1] = pack_bf16(p[0][2], p[0][3]);
    a[2] = pack_bf16(p[1][0], p[1][1]);
    a[3] = pack_bf16(p[1][2], p[1][3]);
}

/* o += A . rows 16 k .. 16 k + 16 of tile, for d 16 n .. 16 n + 8 * COLUMNS. */
template <int D, int COLUMNS>
static __device__ __forceinline__ void tile_accumulate(float o[COLUMNS][4], const uint32_t a[4], const uint16_t *memory,
                                                       int tile, int n, int k)
{
#pragma unroll
    for (int i = 0; i < COLUMNS / 2; i++) {
        uint32_t b[4];
        tile_load_b_transposed<D>(b, memory, tile, n + i, k);
        mma_bf16(o[2 * i], a, b[0], b[1]);
        mma_bf16(o[2 * i + 1], a, b[2], b[3]);
    }
}

/* How many keys before its own a query sees at most, of a layer with this window (0: none). */
static inline int32_t attention_reach(int32_t window) { return window > 0 ? window - 1 : INT32_MAX; }

/* The first key that the query at position sees. */
static __device__ __forceinline__ int32_t attention_first(int32_t position, int32_t reach)
{
    return max(position - reach, 0);
}

/* Whether a key so far before a query's own (< 0: behind it) is one that the query sees. */
static __device__ __forceinline__ bool attention_sees(int32_t before, int32_t reach)
{
    return (uint32_t)before <= (uint32_t)reach;
}

/* Scores of keys that the row whose own key is last (counted from the first one here) does not see become -inf. Lane's
 * rows g and g + 8. */
template <int GROUPS>
static __device__ __forceinline__ void tile_mask(float s[2 * GROUPS][4], int32_t last0, int32_t last1, int32_t reach)
{
    const int t2 = (int)threadIdx.x % 4 * 2;
#pragma unroll
    for (int j = 0; j < 2 * GROUPS; j++) {
        const int key = j * 8 + t2;
        s[j][0] = attention_sees(last0 - key, reach) ? s[j][0] : -INFINITY;
        s[j][1] = attention_sees(last0 - key - 1, reach) ? s[j][1] : -INFINITY;
        s[j][2] = attention_sees(last1 - key, reach) ? s[j][2] : -INFINITY;
        s[j][3] = attention_sees(last1 - key - 1, reach) ? s[j][3] : -INFINITY;
    }
}

/* ---- online softmax ---- */

/* The running softmax of a split for one row: m the maximum of scores in base 2, l the sum. In a warp's tile each lane
 * keeps the sum over its own columns; attention_split_end adds the four. */
struct softmax_row {
    float m, l;
};

static __device__ __forceinline__ softmax_row softmax_start()
{
    softmax_row row = {-INFINITY, 0.0f};
    return row;
}

/* What scores are shifted by: m, but a row that has seen no key yet has none (-inf - -inf is NaN). */
static __device__ __forceinline__ float softmax_shift(float m) { return m == -INFINITY ? 0.0f : m; }

/* The largest raw score of row g + 8 h, over the groups of this warp. */
template <int GROUPS> static __device__ __forceinline__ float softmax_top(const float s[2 * GROUPS][4], int h)
{
    float top = fmaxf(s[0][2 * h], s[0][2 * h + 1]);
#pragma unroll
    for (int j = 1; j < 2 * GROUPS; j++)
        top = fmaxf(top, fmaxf(s[j][2 * h], s[j][2 * h + 1]));
    top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
    return fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
}

/* Moves m on to a chunk with the largest raw score top; returns the factor for what was summed before. scale2 = scale *
 * log2 e > 0. */
static __device__ __forceinline__ float softmax_move(softmax_row *row, float top, float scale2)
{
    const float before = row->m;
    row->m = fmaxf(before, top * scale2);
    return exp2_approximate(before - softmax_shift(row->m));
}

/* Raw scores of a group of 16 keys become weights in place; returns the lane's sum of them for row
 * g
 * + 8 h. A chunk's sum is that of its groups, ascending. */
static __device__ __forceinline__ float softmax_group(float s[2][4], int h, float shift, float scale2)
{
#pragma unroll
    for (int j = 0; j < 2; j++)
#pragma unroll
        for (int c = 2 * h; c < 2 * h + 2; c++)
            s[j][c] = exp2_approximate(fmaf(s[j][c], scale2, -shift));
    return ((s[0][2 * h] + s[0][2 * h + 1]) + s[1][2 * h]) + s[1][2 * h + 1];
}

template <int COLUMNS> static __device__ __forceinline__ void rows_scale(float o[COLUMNS][4], const float factor[2])
{
#pragma unroll
    for (int j = 0; j < COLUMNS; j++) {
        o[j][0] *= factor[0];
        o[j][1] *= factor[0];
        o[j][2] *= factor[1];
        o[j][3] *= factor[1];
    }
}

/* One warp: 16 rows of queries (q) over one chunk of 64 keys. last[h]: index in the chunk of the last key that the
 * lane's row g + 8 h sees, read only if masked, as is reach. */
template <int D, class ROWS>
static __device__ __forceinline__ void attention_step(float o[D / 8][4], softmax_row row[2], const ROWS &q,
                                                      const uint16_t *memory, int tile_k, int tile_v, float scale2,
                                                      bool masked, const int32_t last[2], int32_t reach)
{
    float s[8][4], factor[2];
    tile_scores<D, 4>(s, q, memory, tile_k, 0);
    if (masked)
        tile_mask<4>(s, last[0], last[1], reach);
#pragma unroll
    for (int h = 0; h < 2; h++) {
        factor[h] = softmax_move(&row[h], softmax_top<4>(s, h), scale2);
        const float shift = softmax_shift(row[h].m);
        float sum = softmax_group(s, h, shift, scale2);
#pragma unroll
        for (int n = 1; n < 4; n++)
            sum += softmax_group(s + 2 * n, h, shift, scale2);
        row[h].l = fmaf(row[h].l, factor[h], sum);
    }
    rows_scale<D / 8>(o, factor);
#pragma unroll
    for (int k = 0; k < 4; k++) {
        uint32_t a[4];
        pack_group(a, s + 2 * k);
        tile_accumulate<D, D / 8>(o, a, memory, tile_v, 0, k);
    }
}

/* The end of a split: l of the whole row, in every lane that holds some of it. */
static __device__ __forceinline__ void attention_split_end(softmax_row row[2])
{
#pragma unroll
    for (int h = 0; h < 2; h++) {
        row[h].l += __shfl_xor_sync(0xffffffffu, row[h].l, 1);
        row[h].l += __shfl_xor_sync(0xffffffffu, row[h].l, 2);
    }
}

/* ---- splits ---- */

struct merge_factors {
    float old, fresh;
};

/* Joins a split (fresh) to the merged splits before it; then attention_merge for each element of o. The first split is
 * copied. */
static __device__ __forceinline__ merge_factors attention_merge_rows(softmax_row *row, softmax_row fresh)
{
    const float m = fmaxf(row->m, fresh.m), shift = softmax_shift(m);
    merge_factors f = {exp2_approximate(row->m - shift), exp2_approximate(fresh.m - shift)};
    row->l = fmaf(fresh.l, f.fresh, row->l * f.old);
    row->m = m;
    return f;
}
static __device__ __forceinline__ float attention_merge(float o, float fresh, merge_factors f)
{
    return fmaf(fresh, f.fresh, o * f.old);
}

/* o * attention_finish(row) is the output. */
static __device__ __forceinline__ float attention_finish(softmax_row row) { return 1.0f / row.l; }
/* Natural log of the sum of exp of the scaled scores. */
static __device__ __forceinline__ float attention_lse(softmax_row row)
{
    return fmaf(row.m, ATTENTION_LN_2, logf(row.l));
}

#endif

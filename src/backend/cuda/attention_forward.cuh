/* What the forward kernels of attention share: their arguments, and how a row's splits that different blocks computed
 * come together. */
#ifndef COHORT_BACKEND_CUDA_ATTENTION_FORWARD_CUH
#define COHORT_BACKEND_CUDA_ATTENTION_FORWARD_CUH

#include "backend/cuda/attention_tile.cuh"

/* -DCOHORT_BREAK_ATTENTION=1 is the negative control of the tests: a batch of few tokens then walks the chunks of a
 * split in descending order, as a decode kernel of its own might. Never in a build that is used. */
#ifndef COHORT_BREAK_ATTENTION
#define COHORT_BREAK_ATTENTION 0
#endif

struct attention_arguments {
    const cuda_seq *seqs;
    const cuda_chunk *chunks;
    const cuda_item *items;
    const int32_t *n_items, *position, *split_base;
    const void *q, *k, *v;
    void *out;
    float *lse;
    float *partial_o, *partial_m, *partial_l;
    int32_t *arrived;
    float scale2; /* scale * log2 e */
    int32_t n_heads, n_kv_heads, head_dim, n_tokens;
    int32_t reach;     /* keys before its own that a query sees at most */
    int32_t max_items; /* there is room for so many: any of them may be read */
    bool kv8;          /* k and v are in 8 bits: the host's word, which kernels have as a template's argument */
};

/* The chunk visited as number i of an item whose chunks end at end: i itself. */
static __device__ __forceinline__ int32_t attention_chunk(const attention_arguments &a, int32_t i, int32_t end)
{
    if (COHORT_BREAK_ATTENTION && a.n_tokens < 64) {
        const int32_t first = i / CHUNKS_PER_SPLIT * CHUNKS_PER_SPLIT;
        const int32_t behind = first + CHUNKS_PER_SPLIT < end ? first + CHUNKS_PER_SPLIT : end;
        return first + behind - 1 - i;
    }
    return i;
}

/* Index of (token, split, head) in partial_m, partial_l; times D in partial_o. */
static __device__ __forceinline__ int64_t attention_partial(const attention_arguments &a, int32_t token, int32_t split,
                                                            int32_t head)
{
    return ((int64_t)a.split_base[token] + split) * a.n_heads + head;
}

/* The splits that the query at position sees keys of: from begin to before end. Only these are computed and merged. A row
 * without a token has position -1, and none. */
struct split_range {
    int32_t begin, end;
};
static __device__ __forceinline__ split_range attention_splits(const attention_arguments &a, int32_t position)
{
    const split_range range = {attention_first(position, a.reach) / CUDA_SPLIT, (position + CUDA_SPLIT) / CUDA_SPLIT};
    return range;
}

/* ---- a lane's rows ---- */

/* Columns from `column` on of the lane's row g + 8 h; says also its lse where that is wanted. */
template <int COLUMNS>
static __device__ __forceinline__ void write_result(const attention_arguments &a, int32_t token, int32_t head, int h,
                                                    int column, const float o[COLUMNS][4], softmax_row row)
{
    const int t = (int)threadIdx.x % 4;
    const int64_t at = (int64_t)token * a.n_heads + head;
    const float inverse = attention_finish(row);
    uint16_t *out = (uint16_t *)a.out + at * a.head_dim + column + t * 2;
#pragma unroll
    for (int j = 0; j < COLUMNS; j++)
        *(uint32_t *)(out + j * 8) = pack_bf16(o[j][2 * h] * inverse, o[j][2 * h + 1] * inverse);
    if (a.lse && t == 0 && column == 0)
        a.lse[at] = attention_lse(row);
}

template <int COLUMNS>
static __device__ __forceinline__ void write_partial(const attention_arguments &a, int32_t token, int32_t split,
                                                     int32_t head, int h, int column, const float o[COLUMNS][4],
                                                     softmax_row row)
{
    const int t = (int)threadIdx.x % 4;
    const int64_t at = attention_partial(a, token, split, head);
#pragma unroll
    for (int j = 0; j < COLUMNS; j++)
        *(float2 *)(a.partial_o + at * a.head_dim + column + j * 8 + t * 2) = make_float2(o[j][2 * h], o[j][2 * h + 1]);
    if (t == 0 && column == 0) {
        a.partial_m[at] = row.m;
        a.partial_l[at] = row.l;
    }
}

/* A row of the item as a lane needs it. */
struct forward_row {
    int32_t token, head; /* token -1: there is no such row */
};

static __device__ __forceinline__ forward_row row_of(const cuda_item &item, int32_t kv_head, int32_t ratio, int32_t row)
{
    forward_row r = {-1, 0};
    if (row < item.n_queries * ratio) {
        r.token = item.query_row + row / ratio;
        r.head = kv_head * ratio + row % ratio;
    }
    return r;
}

/* The lane's rows of an item of one split: the result where the row has no other split. */
template <int COLUMNS>
static __device__ __forceinline__ void write_split(const attention_arguments &a, const cuda_item &item, int32_t kv_head,
                                                   int32_t ratio, int32_t my_row, int column, const int32_t position[2],
                                                   const float o[COLUMNS][4], const softmax_row row[2])
{
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const forward_row r = row_of(item, kv_head, ratio, my_row + 8 * h);
        const split_range splits = attention_splits(a, position[h]);
        if (r.token < 0 || item.split_begin < splits.begin || item.split_begin >= splits.end)
            continue; /* no row, or other rows of the tile see keys of this split and this one does not */
        if (splits.end - splits.begin == 1)
            write_result<COLUMNS>(a, r.token, r.head, h, column, o, row[h]);
        else
            write_partial<COLUMNS>(a, r.token, item.split_begin, r.head, h, column, o, row[h]);
    }
}

static __device__ __forceinline__ const uint16_t *query_of(const attention_arguments &a, forward_row r, int head_dim)
{
    return (const uint16_t *)a.q + ((int64_t)r.token * a.n_heads + r.head) * head_dim;
}

/* ---- splits of several blocks ---- */

/* One warp: merges the splits of one row in ascending order and writes the result. Read as volatile: the first-level
 * cache may hold what lay beside it before another block wrote this. AT_ONCE splits are read before the first of them
 * is needed. */
template <class T, int PER_LANE>
static __device__ __forceinline__ void attention_merge_splits(const attention_arguments &a, int32_t token, int32_t head,
                                                              split_range splits)
{
    constexpr int AT_ONCE = 4;
    const int lane = (int)threadIdx.x % 32;
    const volatile float *pm = a.partial_m, *pl = a.partial_l, *po = a.partial_o;
    const int64_t base = attention_partial(a, token, splits.begin, head);
    const int32_t n_splits = splits.end - splits.begin;
    softmax_row row = softmax_start();
    float o[PER_LANE];
#pragma unroll
    for (int i = 0; i < PER_LANE; i++)
        o[i] = 0.0f;
    for (int32_t first = 0; first < n_splits; first += AT_ONCE) {
        softmax_row fresh[AT_ONCE];
        float x[AT_ONCE][PER_LANE];
#pragma unroll
        for (int j = 0; j < AT_ONCE; j++) {
            const int64_t at = base + (int64_t)min(first + j, n_splits - 1) * a.n_heads;
            fresh[j].m = pm[at];
            fresh[j].l = pl[at];
#pragma unroll
            for (int i = 0; i < PER_LANE; i++) {
                const int d = i * 32 + lane;
                x[j][i] = d < a.head_dim ? po[at * a.head_dim + d] : 0.0f;
            }
        }
#pragma unroll
        for (int j = 0; j < AT_ONCE; j++) {
            if (first + j >= n_splits)
                break;
            if (first + j == 0) {
                row = fresh[j];
#pragma unroll
                for (int i = 0; i < PER_LANE; i++)
                    o[i] = x[j][i];
            } else {
                const merge_factors f = attention_merge_rows(&row, fresh[j]);
#pragma unroll
                for (int i = 0; i < PER_LANE; i++)
                    o[i] = attention_merge(o[i], x[j][i], f);
            }
        }
    }
    const float inverse = attention_finish(row);
    T *out = (T *)a.out + ((int64_t)token * a.n_heads + head) * a.head_dim;
#pragma unroll
    for (int i = 0; i < PER_LANE; i++)
        if (i * 32 + lane < a.head_dim)
            store_element(out + i * 32 + lane, o[i] * inverse);
    if (a.lse && lane == 0)
        a.lse[(int64_t)token * a.n_heads + head] = attention_lse(row);
}

/* The whole block, after it wrote the partial results of a split: counts the split for each of the item's rows, and
 * merges the rows for which it was the last to finish. Rows of one split need neither. flag: shared, one for each
 * query. */
template <class T, int PER_LANE>
static __device__ __forceinline__ void attention_arrive(const attention_arguments &a, const cuda_item &item,
                                                        int32_t kv_head, int32_t *flag)
{
    const int32_t ratio = a.n_heads / a.n_kv_heads;
    __threadfence();
    __syncthreads();
    for (int32_t i = (int32_t)threadIdx.x; i < item.n_queries; i += (int32_t)blockDim.x) {
        const int32_t token = item.query_row + i;
        const split_range splits = attention_splits(a, a.position[token]);
        const int32_t n_splits = splits.end - splits.begin;
        flag[i] = 0;
        if (n_splits > 1 && item.split_begin >= splits.begin && item.split_begin < splits.end) {
            int32_t *arrived = a.arrived + (int64_t)token * a.n_kv_heads + kv_head;
            if (atomicAdd(arrived, 1) == n_splits - 1) {
                flag[i] = 1;
                *arrived = 0;
            }
        }
    }
    __threadfence();
    __syncthreads();
    for (int32_t r = (int32_t)threadIdx.x / 32; r < item.n_queries * ratio; r += (int32_t)blockDim.x / 32)
        if (flag[r / ratio])
            attention_merge_splits<T, PER_LANE>(a, item.query_row + r / ratio, kv_head * ratio + r % ratio,
                                                attention_splits(a, a.position[item.query_row + r / ratio]));
    __syncthreads();
}

/* For what the tile kernel does not take: fp32, other head sizes, many heads to a kv head. Blocks of TILE_THREADS. */
void attention_forward_plain(cudaStream_t stream, int blocks, enum dtype act, const attention_arguments &a);
/* For items of few rows, bf16 and head sizes 64 and 128. */
void attention_forward_few(struct backend *backend, const attention_arguments &a);

#endif

/* What the forward kernels of attention share: their arguments, and how a row's splits that
 * different blocks computed come together. */
#ifndef COHORT_BACKEND_CUDA_ATTENTION_FORWARD_CUH
#define COHORT_BACKEND_CUDA_ATTENTION_FORWARD_CUH

#include "backend/cuda/attention_tile.cuh"

/* -DCOHORT_BREAK_ATTENTION=1 is the negative control of the tests: a batch of few tokens then walks
 * the chunks of a split in descending order, as a decode kernel of its own might. Never in a build
 * that is used. */
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
};

/* The chunk visited as number i of an item whose chunks end at end: i itself. */
static __device__ __forceinline__ int32_t attention_chunk(const attention_arguments &a, int32_t i,
                                                          int32_t end)
{
    if (COHORT_BREAK_ATTENTION && a.n_tokens < 64) {
        const int32_t first = i / CHUNKS_PER_SPLIT * CHUNKS_PER_SPLIT;
        const int32_t behind = first + CHUNKS_PER_SPLIT < end ? first + CHUNKS_PER_SPLIT : end;
        return first + behind - 1 - i;
    }
    return i;
}

/* Index of (token, split, head) in partial_m, partial_l; times D in partial_o. */
static __device__ __forceinline__ int64_t attention_partial(const attention_arguments &a,
                                                            int32_t token, int32_t split,
                                                            int32_t head)
{
    return ((int64_t)a.split_base[token] + split) * a.n_heads + head;
}

/* One warp: merges the splits of one row in ascending order and writes the result. Read as
 * volatile: the first-level cache may hold what lay beside it before another block wrote this. */
template <class T, int PER_LANE>
static __device__ __forceinline__ void
attention_merge_splits(const attention_arguments &a, int32_t token, int32_t head, int32_t n_splits)
{
    const int lane = (int)threadIdx.x % 32;
    const volatile float *pm = a.partial_m, *pl = a.partial_l, *po = a.partial_o;
    softmax_row row = softmax_start();
    float o[PER_LANE];
#pragma unroll
    for (int i = 0; i < PER_LANE; i++)
        o[i] = 0.0f;
    for (int32_t split = 0; split < n_splits; split++) {
        const int64_t at = attention_partial(a, token, split, head);
        const softmax_row fresh = {pm[at], pl[at]};
        float x[PER_LANE];
#pragma unroll
        for (int i = 0; i < PER_LANE; i++) {
            const int d = i * 32 + lane;
            x[i] = d < a.head_dim ? po[at * a.head_dim + d] : 0.0f;
        }
        if (split == 0) {
            row = fresh;
#pragma unroll
            for (int i = 0; i < PER_LANE; i++)
                o[i] = x[i];
        } else {
            const merge_factors f = attention_merge_rows(&row, fresh);
#pragma unroll
            for (int i = 0; i < PER_LANE; i++)
                o[i] = attention_merge(o[i], x[i], f);
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

/* The whole block, after it wrote the partial results of a split: counts the split for each of the
 * item's rows, and merges the rows for which it was the last to finish. Rows of one split need
 * neither. flag: shared, one for each query. */
template <class T, int PER_LANE>
static __device__ __forceinline__ void attention_arrive(const attention_arguments &a,
                                                        const cuda_item &item, int32_t kv_head,
                                                        int32_t *flag)
{
    const int32_t ratio = a.n_heads / a.n_kv_heads;
    __threadfence();
    __syncthreads();
    for (int32_t i = (int32_t)threadIdx.x; i < item.n_queries; i += (int32_t)blockDim.x) {
        const int32_t token = item.query_row + i;
        const int32_t n_splits = a.position[token] / CUDA_SPLIT + 1;
        flag[i] = 0;
        if (n_splits > 1 && item.split_begin < n_splits) {
            int32_t *arrived = a.arrived + (int64_t)token * a.n_kv_heads + kv_head;
            if (atomicAdd(arrived, 1) == n_splits - 1) {
                flag[i] = n_splits;
                *arrived = 0;
            }
        }
    }
    __threadfence();
    __syncthreads();
    for (int32_t r = (int32_t)threadIdx.x / 32; r < item.n_queries * ratio;
         r += (int32_t)blockDim.x / 32)
        if (flag[r / ratio])
            attention_merge_splits<T, PER_LANE>(a, item.query_row + r / ratio,
                                                kv_head * ratio + r % ratio, flag[r / ratio]);
    __syncthreads();
}

/* For what the tile kernel does not take: fp32, other head sizes, many heads to a kv head. Blocks
 * of TILE_THREADS. */
void attention_forward_plain(cudaStream_t stream, int blocks, enum dtype act,
                             const attention_arguments &a);

#endif

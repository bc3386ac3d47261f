/* What the two versions of attention's backward share. */
#ifndef COHORT_BACKEND_CUDA_ATTENTION_BACKWARD_CUH
#define COHORT_BACKEND_CUDA_ATTENTION_BACKWARD_CUH

#include "backend/cuda/cuda_device.cuh"
#include "backend/ops.h"

/* Shapes as in struct attention_backward. */
struct gradient {
    const struct cuda_seq *seqs;
    const struct cuda_chunk *chunks;
    const struct cuda_item *items;
    const int32_t *n_items;
    const struct cuda_key_item *key_items;
    int64_t n_pairs;                              /* T * H */
    int32_t n_heads, n_kv_heads, ratio, head_dim; /* ratio = H / K, R in comments */
    int32_t reach;                                /* keys before its own that a query sees at most */
    float scale, scale_log2;                      /* scale_log2 = scale * log2(e) */
    const void *q, *k, *v, *out, *d_out;
    const float *lse;
    float *dq, *dk, *dv;
    float2 *statistics; /* [T, H] x: lse * log2(e), y: delta */
};

/* Heads of other sizes, or fp32. */
void cuda_attention_gradient_plain(struct cuda_state *s, const struct gradient *g, enum dtype act);

/* Keys of an item: positions begin .. end; position p lies in row row + p. */
struct gradient_keys {
    int32_t begin, end;
    int64_t row;
};

static __device__ __forceinline__ struct gradient_keys gradient_keys_of(const struct gradient &g,
                                                                        const struct cuda_key_item &item)
{
    const struct cuda_seq &seq = g.seqs[item.seq];
    const int32_t low = item.chunk * ATTENTION_CHUNK;
    struct gradient_keys keys;
    keys.begin = max(low, seq.first_position);
    keys.end = min(low + ATTENTION_CHUNK, seq.first_position + seq.n_queries);
    keys.row = (int64_t)seq.query_row - seq.first_position;
    return keys;
}

/* The first query of sequence number s that sees a key of the item. Another sequence's queries see those before its own
 * first position, all of them. */
static __device__ __forceinline__ int32_t gradient_first_query(const struct gradient &g,
                                                               const struct cuda_key_item &item, int32_t s)
{
    const int32_t begin = gradient_keys_of(g, item).begin, first = g.seqs[s].first_position;
    if (s == item.seq)
        return begin - first;
    return begin < first ? 0 : g.seqs[s].n_queries;
}

/* The first one that has all keys of the item behind its window, or its number of queries. */
static __device__ __forceinline__ int32_t gradient_end_query(const struct gradient &g, const struct cuda_key_item &item,
                                                             int32_t s)
{
    const int64_t behind = (int64_t)gradient_keys_of(g, item).end + g.reach - g.seqs[s].first_position;
    return behind < g.seqs[s].n_queries ? (int32_t)(behind > 0 ? behind : 0) : g.seqs[s].n_queries;
}

#endif

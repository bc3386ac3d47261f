/* Causal attention, forward, for what the tile kernel does not take: fp32 (parity), head sizes other than 64 and 128,
 * more than 64 heads to a kv head. The same plan, splits and merge; a warp takes one row (query, head) at a time, its
 * lanes lie along D for the dot products and the output, along the keys of a chunk for the softmax. */
#include "backend/cuda/attention_forward.cuh"
#include "backend/ops.h"

/* Head kv_head of rows of keys or values, of which element d is asked for as fp32 of T. */
template <class T, bool EIGHT> struct plain_head {
    const T *at;
    __device__ __forceinline__ plain_head(const attention_arguments &a, const void *rows, int32_t kv_head, int32_t row)
        : at((const T *)rows + ((int64_t)row * a.n_kv_heads + kv_head) * a.head_dim)
    {
    }
    __device__ __forceinline__ float element(int d) const { return load_element(at + d); }
};
template <class T> struct plain_head<T, true> {
    const int8_t *at;
    float scale;
    __device__ __forceinline__ plain_head(const attention_arguments &a, const void *rows, int32_t kv_head, int32_t row)
        : at(kv8_head(rows, (int64_t)row * a.n_kv_heads + kv_head, a.head_dim)), scale(kv8_scale(at, a.head_dim))
    {
    }
    __device__ __forceinline__ float element(int d) const
    {
        T narrow;
        store_element(&narrow, scale * (float)at[d]);
        return load_element(&narrow);
    }
};

/* PER_LANE * 32 >= D. */
template <class T, bool EIGHT, int PER_LANE>
static __device__ __forceinline__ void plain_chunk(const attention_arguments &a, const cuda_seq &seq, int32_t kv_head,
                                                   int32_t chunk, int32_t hidden, int32_t visible,
                                                   const float q[PER_LANE], float o[PER_LANE], softmax_row *row)
{
    const int lane = (int)threadIdx.x % 32;
    const cuda_chunk rows = a.chunks[seq.chunk_begin + chunk];
    float s[2] = {-INFINITY, -INFINITY}; /* of keys lane, lane + 32 */
    for (int32_t j = hidden; j < visible; j++) {
        const plain_head<T, EIGHT> key(a, a.k, kv_head, attention_key_row(seq, rows, chunk * ATTENTION_CHUNK + j));
        float x = 0.0f;
#pragma unroll
        for (int i = 0; i < PER_LANE; i++)
            if (i * 32 + lane < a.head_dim)
                x = fmaf(q[i], key.element(i * 32 + lane), x);
        x = warp_sum(x);
        if (j % 32 == lane) {
            if (j < 32)
                s[0] = x;
            else
                s[1] = x;
        }
    }
    const float m = fmaxf(row->m, warp_max(fmaxf(s[0], s[1])) * a.scale2);
    const float shift = softmax_shift(m), factor = exp2f(row->m - shift);
    const float p[2] = {exp2f(fmaf(s[0], a.scale2, -shift)), exp2f(fmaf(s[1], a.scale2, -shift))};
    row->l = fmaf(row->l, factor, warp_sum(p[0] + p[1]));
    row->m = m;
#pragma unroll
    for (int i = 0; i < PER_LANE; i++)
        o[i] *= factor;
    for (int32_t j = hidden; j < visible; j++) {
        const plain_head<T, EIGHT> value(a, a.v, kv_head, attention_key_row(seq, rows, chunk * ATTENTION_CHUNK + j));
        const float weight = __shfl_sync(0xffffffffu, j < 32 ? p[0] : p[1], j % 32);
#pragma unroll
        for (int i = 0; i < PER_LANE; i++)
            if (i * 32 + lane < a.head_dim)
                o[i] = fmaf(weight, value.element(i * 32 + lane), o[i]);
    }
}

/* Splits split_begin .. split_end of one row, as far as it reaches. */
template <class T, bool EIGHT, int PER_LANE>
static __device__ __forceinline__ void plain_row(const attention_arguments &a, const cuda_item &item,
                                                 const cuda_seq &seq, int32_t kv_head, int32_t token, int32_t head)
{
    const int lane = (int)threadIdx.x % 32;
    const int64_t at = (int64_t)token * a.n_heads + head;
    const int32_t position = a.position[token];
    const split_range splits = attention_splits(a, position);
    const int32_t split_begin = max(item.split_begin, splits.begin), split_end = min(item.split_end, splits.end);
    const int32_t first = attention_first(position, a.reach);
    float q[PER_LANE], o[PER_LANE], merged_o[PER_LANE];
    softmax_row merged = softmax_start();
#pragma unroll
    for (int i = 0; i < PER_LANE; i++) {
        const int d = i * 32 + lane;
        q[i] = d < a.head_dim ? load_element((const T *)a.q + at * a.head_dim + d) : 0.0f;
        merged_o[i] = 0.0f;
    }
    for (int32_t split = split_begin; split < split_end; split++) {
        softmax_row row = softmax_start();
#pragma unroll
        for (int i = 0; i < PER_LANE; i++)
            o[i] = 0.0f;
        const int32_t begin = max(split * CHUNKS_PER_SPLIT, first / ATTENTION_CHUNK);
        const int32_t end = min((split + 1) * CHUNKS_PER_SPLIT, position / ATTENTION_CHUNK + 1);
        for (int32_t i = begin; i < end; i++) {
            const int32_t chunk = attention_chunk(a, i, end);
            const int32_t visible = min((int32_t)ATTENTION_CHUNK, position - chunk * ATTENTION_CHUNK + 1);
            const int32_t hidden = max(first - chunk * ATTENTION_CHUNK, 0);
            plain_chunk<T, EIGHT, PER_LANE>(a, seq, kv_head, chunk, hidden, visible, q, o, &row);
        }
        if (split == split_begin) {
            merged = row;
#pragma unroll
            for (int i = 0; i < PER_LANE; i++)
                merged_o[i] = o[i];
        } else {
            const merge_factors f = attention_merge_rows(&merged, row);
#pragma unroll
            for (int i = 0; i < PER_LANE; i++)
                merged_o[i] = attention_merge(merged_o[i], o[i], f);
        }
    }
    if (split_end <= split_begin)
        return;
    if (item.partial && splits.end - splits.begin > 1) {
        const int64_t to = attention_partial(a, token, item.split_begin, head);
#pragma unroll
        for (int i = 0; i < PER_LANE; i++)
            if (i * 32 + lane < a.head_dim)
                a.partial_o[to * a.head_dim + i * 32 + lane] = merged_o[i];
        if (lane == 0) {
            a.partial_m[to] = merged.m;
            a.partial_l[to] = merged.l;
        }
        return;
    }
    const float inverse = attention_finish(merged);
#pragma unroll
    for (int i = 0; i < PER_LANE; i++)
        if (i * 32 + lane < a.head_dim)
            store_element((T *)a.out + at * a.head_dim + i * 32 + lane, merged_o[i] * inverse);
    if (a.lse && lane == 0)
        a.lse[at] = attention_lse(merged);
}

template <class T, bool EIGHT, int PER_LANE>
__global__ __launch_bounds__(TILE_THREADS, 4) void attention_forward_rows(const attention_arguments a)
{
    __shared__ int32_t flag[CUDA_TILE];
    const int32_t ratio = a.n_heads / a.n_kv_heads;
    const int64_t n_work = (int64_t)*a.n_items * a.n_kv_heads;
    for (int64_t work = blockIdx.x; work < n_work; work += gridDim.x) {
        const cuda_item item = a.items[work / a.n_kv_heads];
        const int32_t kv_head = (int32_t)(work % a.n_kv_heads);
        const cuda_seq seq = a.seqs[item.seq];
        for (int32_t r = (int32_t)threadIdx.x / 32; r < item.n_queries * ratio; r += TILE_WARPS)
            plain_row<T, EIGHT, PER_LANE>(a, item, seq, kv_head, item.query_row + r / ratio,
                                          kv_head * ratio + r % ratio);
        if (item.partial)
            attention_arrive<T, PER_LANE>(a, item, kv_head, flag);
    }
}

template <class T, bool EIGHT> static void launch_rows(cudaStream_t stream, int blocks, const attention_arguments &a)
{
    if (a.head_dim <= 32)
        LAUNCH((attention_forward_rows<T, EIGHT, 1>), blocks, TILE_THREADS, 0, stream, a);
    else if (a.head_dim <= 64)
        LAUNCH((attention_forward_rows<T, EIGHT, 2>), blocks, TILE_THREADS, 0, stream, a);
    else if (a.head_dim <= 128)
        LAUNCH((attention_forward_rows<T, EIGHT, 4>), blocks, TILE_THREADS, 0, stream, a);
    else
        LAUNCH((attention_forward_rows<T, EIGHT, 8>), blocks, TILE_THREADS, 0, stream, a);
}

void attention_forward_plain(cudaStream_t stream, int blocks, enum dtype act, const attention_arguments &a)
{
    if (act == DTYPE_BF16)
        (a.kv8 ? launch_rows<uint16_t, true> : launch_rows<uint16_t, false>)(stream, blocks, a);
    else
        (a.kv8 ? launch_rows<float, true> : launch_rows<float, false>)(stream, blocks, a);
}

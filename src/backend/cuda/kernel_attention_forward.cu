/* Causal attention, forward: tiles of 64 rows (queries times the heads of one kv head) against
 * chunks of 64 keys, through the tensor cores. A warp has 16 rows; a warp without rows only helps
 * to load. One kernel for prefill, training and decode: an item is either a tile of queries with
 * all splits it needs, whose results stay in registers, or one split whose result other blocks
 * merge (partial).
 *
 * A NaN among the values of a key reaches the rows of its own chunk that do not see the key when
 * they are computed together with rows that do: 0 * NaN. Nothing else passes between rows. */
#include "backend/cuda/attention_forward.cuh"

#include <assert.h>

/* Blocks to a multiprocessor in a recorded step. */
enum { BLOCKS_RECORDED = 2 };

/* Elements of shared memory: stages of a tile of keys and one of values, and a tile of queries
 * where registers are short. Two blocks fit on a multiprocessor: with two stages of an A100, with
 * three (decoding only, which wants many bytes under way) of an H200. */
template <int D, bool PARTIAL, int STAGES> struct forward_memory {
    enum {
        TILE = ATTENTION_CHUNK * D,
        STAGE = 2 * TILE,
        QUERIES = STAGES * STAGE,
        ALL = QUERIES + (PARTIAL ? 0 : TILE)
    };
};

/* The item's largest and smallest position. */
static __device__ __forceinline__ void
position_range(const attention_arguments &a, const cuda_item &item, int32_t *least, int32_t *most)
{
    const int32_t lane = (int32_t)threadIdx.x % 32;
    int32_t low = 0x7fffffff, high = -1;
    for (int32_t i = lane; i < item.n_queries; i += 32) {
        const int32_t position = a.position[item.query_row + i];
        low = min(low, position);
        high = max(high, position);
    }
#pragma unroll
    for (int o = 16; o > 0; o >>= 1) {
        low = min(low, __shfl_xor_sync(0xffffffffu, low, o));
        high = max(high, __shfl_xor_sync(0xffffffffu, high, o));
    }
    *least = low;
    *most = high;
}

template <int D>
static __device__ __forceinline__ void write_result(const attention_arguments &a, int32_t token,
                                                    int32_t head, int h, const float o[D / 8][4],
                                                    softmax_row row)
{
    const int t = (int)threadIdx.x % 4;
    const int64_t at = (int64_t)token * a.n_heads + head;
    const float inverse = attention_finish(row);
    uint16_t *out = (uint16_t *)a.out + at * D + t * 2;
#pragma unroll
    for (int j = 0; j < D / 8; j++)
        *(uint32_t *)(out + j * 8) = pack_bf16(o[j][2 * h] * inverse, o[j][2 * h + 1] * inverse);
    if (a.lse && t == 0)
        a.lse[at] = attention_lse(row);
}

template <int D>
static __device__ __forceinline__ void write_partial(const attention_arguments &a, int32_t token,
                                                     int32_t split, int32_t head, int h,
                                                     const float o[D / 8][4], softmax_row row)
{
    const int t = (int)threadIdx.x % 4;
    const int64_t at = attention_partial(a, token, split, head);
#pragma unroll
    for (int j = 0; j < D / 8; j++)
        *(float2 *)(a.partial_o + at * D + j * 8 + t * 2) =
            make_float2(o[j][2 * h], o[j][2 * h + 1]);
    if (t == 0) {
        a.partial_m[at] = row.m;
        a.partial_l[at] = row.l;
    }
}

/* A row of the item as a lane needs it. */
struct forward_row {
    int32_t token, head; /* token -1: there is no such row */
};

static __device__ __forceinline__ forward_row row_of(const cuda_item &item, int32_t kv_head,
                                                     int32_t ratio, int32_t row)
{
    forward_row r = {-1, 0};
    if (row < item.n_queries * ratio) {
        r.token = item.query_row + row / ratio;
        r.head = kv_head * ratio + row % ratio;
    }
    return r;
}

template <int D, bool PARTIAL> struct query_rows : rows_in_registers<D> {
};
template <int D> struct query_rows<D, false> : rows_in_tile<D> {
};

static __device__ __forceinline__ const uint16_t *query_of(const attention_arguments &a,
                                                           forward_row r, int head_dim)
{
    return (const uint16_t *)a.q + ((int64_t)r.token * a.n_heads + r.head) * head_dim;
}

/* Starts copying the item's rows into a tile; rows behind the last become zeros. */
template <int D>
static __device__ __forceinline__ void load_queries(const attention_arguments &a,
                                                    const cuda_item &item, int32_t kv_head,
                                                    int32_t ratio, uint16_t *tile)
{
    constexpr int PIECES = D / 8, ROWS = TILE_THREADS / PIECES;
    const int piece = (int)threadIdx.x % PIECES;
    for (int j = (int)threadIdx.x / PIECES; j < CUDA_TILE; j += ROWS) {
        const forward_row r = row_of(item, kv_head, ratio, j);
        const bool there = r.token >= 0;
        copy_async16(tile + tile_at<D>(j, piece),
                     there ? query_of(a, r, D) + piece * 8 : (const uint16_t *)a.q, there);
    }
}

/* PARTIAL: every item is one split. Otherwise every item has all splits of its rows, and the merged
 * o stays in registers too. */
template <int D, bool PARTIAL, int STAGES>
__global__ __launch_bounds__(TILE_THREADS,
                             2) void attention_forward_tiles(const attention_arguments a)
{
    DYNAMIC_SHARED(memory);
    __shared__ int32_t flag[CUDA_TILE];
    typedef forward_memory<D, PARTIAL, STAGES> layout;
    uint16_t *tiles = (uint16_t *)memory;
    const int32_t ratio = a.n_heads / a.n_kv_heads, kv_stride = a.n_kv_heads * D;
    const int32_t n_work = *a.n_items * a.n_kv_heads;

    for (int32_t work = (int32_t)blockIdx.x; work < n_work; work += (int32_t)gridDim.x) {
        const cuda_item item = a.items[work / a.n_kv_heads];
        const int32_t kv_head = work % a.n_kv_heads;
        const cuda_seq seq = a.seqs[item.seq];
        int32_t least, most;
        position_range(a, item, &least, &most);
        const int32_t begin = item.split_begin * CHUNKS_PER_SPLIT;
        const int32_t end = min(item.split_end * CHUNKS_PER_SPLIT, most / ATTENTION_CHUNK + 1);
        if (most < 0 || begin >= end)
            continue; /* the same for all threads */

        const int32_t key_end = min(seq.n_keys, most + 1);
        const int32_t head_at = kv_head * D;
        /* Chunks before this one hold only keys that all rows see. */
        const int32_t first_masked = (least + 1) / ATTENTION_CHUNK;

        /* Which warp has which rows turns with the item: items of decoding have rows for one warp
         * only, and blocks that share a multiprocessor should not all use the same quarter of it.
         */
        const int32_t turn = PARTIAL ? work + (int32_t)blockIdx.x : 0;
        const int32_t first_row = (((int32_t)threadIdx.x / 32 + turn) & (TILE_WARPS - 1)) * 16;
        const bool active = first_row < item.n_queries * ratio;
        const int32_t my_row = first_row + (int32_t)threadIdx.x % 32 / 4; /* and 8 behind it */

        /* STAGES - 1 chunks are under way before the first is waited for, each with a group of its
         * own (empty behind the last). The rows of the chunk to be loaded next are read ahead. */
        cuda_chunk rows = a.chunks[seq.chunk_begin + attention_chunk(a, begin, end)];
        if constexpr (!PARTIAL)
            load_queries<D>(a, item, kv_head, ratio, tiles + layout::QUERIES);
#pragma unroll
        for (int i = 0; i < STAGES - 1; i++) {
            if (begin + i < end) {
                uint16_t *to = tiles + i * layout::STAGE;
                tile_load_keys<D>(to, to + layout::TILE, a.k, a.v, head_at, kv_stride, seq.boundary,
                                  rows, attention_chunk(a, begin + i, end), key_end);
                if (begin + i + 1 < end)
                    rows = a.chunks[seq.chunk_begin + attention_chunk(a, begin + i + 1, end)];
            }
            copy_async_commit();
        }

        query_rows<D, PARTIAL> q;
        int32_t position[2];
        {
            const uint16_t *from[2];
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const forward_row r = row_of(item, kv_head, ratio, my_row + 8 * h);
                position[h] = r.token >= 0 ? a.position[r.token] : -1;
                from[h] = r.token >= 0 ? query_of(a, r, D) : NULL;
            }
            if constexpr (PARTIAL) {
                q.fill(from[0], from[1]);
            } else {
                q.memory = tiles;
                q.first = layout::QUERIES + first_row * D;
            }
        }

        float o[D / 8][4], merged_o[PARTIAL ? 1 : D / 8][4];
        softmax_row row[2], merged[2];
        int now = 0; /* the chunk's stage, as the index of its first element */
        int32_t i = begin;
        while (i < end) {
            const int32_t split_end = min(i + CHUNKS_PER_SPLIT, end);
            const bool first = i == begin;
            row[0] = row[1] = softmax_start();
#pragma unroll
            for (int j = 0; j < D / 8; j++)
                o[j][0] = o[j][1] = o[j][2] = o[j][3] = 0.0f;
#pragma unroll 1
            for (; i < split_end; i++) {
                copy_async_wait<STAGES - 2>();
                __syncthreads(); /* chunk i is there for all, and all are done with chunk i - 1 */
                const int32_t next = i + STAGES - 1;
                if (next < end) {
                    uint16_t *to =
                        tiles + now + (now == 0 ? (STAGES - 1) * layout::STAGE : -layout::STAGE);
                    tile_load_keys<D>(to, to + layout::TILE, a.k, a.v, head_at, kv_stride,
                                      seq.boundary, rows, attention_chunk(a, next, end), key_end);
                    if (next + 1 < end)
                        rows = a.chunks[seq.chunk_begin + attention_chunk(a, next + 1, end)];
                }
                copy_async_commit();
                if (active) {
                    const int32_t chunk = attention_chunk(a, i, end);
                    const int32_t last[2] = {position[0] - chunk * ATTENTION_CHUNK,
                                             position[1] - chunk * ATTENTION_CHUNK};
                    attention_step<D>(o, row, q, tiles, now, now + layout::TILE, a.scale2,
                                      chunk >= first_masked, last);
                }
                now = now == (STAGES - 1) * layout::STAGE ? 0 : now + layout::STAGE;
            }
            attention_split_end(row);
            if constexpr (!PARTIAL) {
                if (first) {
                    merged[0] = row[0];
                    merged[1] = row[1];
#pragma unroll
                    for (int j = 0; j < D / 8; j++)
#pragma unroll
                        for (int c = 0; c < 4; c++)
                            merged_o[j][c] = o[j][c];
                } else {
                    const merge_factors f[2] = {attention_merge_rows(&merged[0], row[0]),
                                                attention_merge_rows(&merged[1], row[1])};
#pragma unroll
                    for (int j = 0; j < D / 8; j++)
#pragma unroll
                        for (int c = 0; c < 4; c++)
                            merged_o[j][c] = attention_merge(merged_o[j][c], o[j][c], f[c / 2]);
                }
            }
        }

        if (active) {
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const forward_row r = row_of(item, kv_head, ratio, my_row + 8 * h);
                if (r.token < 0)
                    continue;
                if constexpr (!PARTIAL)
                    write_result<D>(a, r.token, r.head, h, merged_o, merged[h]);
                else if (position[h] < item.split_begin * CUDA_SPLIT)
                    continue; /* other rows of the tile reach this split, this one does not */
                else if (position[h] < CUDA_SPLIT)
                    write_result<D>(a, r.token, r.head, h, o, row[h]);
                else
                    write_partial<D>(a, r.token, item.split_begin, r.head, h, o, row[h]);
            }
        }
        if (PARTIAL && most >= CUDA_SPLIT)
            attention_arrive<uint16_t, D / 32>(a, item, kv_head, flag);
        else
            __syncthreads(); /* before the next item's copies */
    }
}

template <int D, bool PARTIAL, int STAGES>
static void launch_tiles(cudaStream_t stream, int blocks, const attention_arguments &a)
{
    const size_t shared = forward_memory<D, PARTIAL, STAGES>::ALL * sizeof(uint16_t);
    ALLOW_SHARED((attention_forward_tiles<D, PARTIAL, STAGES>), shared);
    LAUNCH((attention_forward_tiles<D, PARTIAL, STAGES>), blocks, TILE_THREADS, shared, stream, a);
}

/* deep: two blocks of three stages fit on a multiprocessor. */
template <int D>
static void choose_tiles(cudaStream_t stream, int blocks, bool partial, bool deep,
                         const attention_arguments &a)
{
    if (!partial)
        launch_tiles<D, false, 2>(stream, blocks, a);
    else if (deep)
        launch_tiles<D, true, 3>(stream, blocks, a);
    else
        launch_tiles<D, true, 2>(stream, blocks, a);
}

extern "C" void cuda_attention_forward(struct backend *backend, const struct attention_forward *p)
{
    struct cuda_state *s = cuda_state_of(backend);
    const struct cuda_attention *plan = &s->attention;
    const int64_t work = (int64_t)plan->max_items * p->n_kv_heads;
    if (work == 0)
        return;
    attention_arguments a = {};
    a.seqs = plan->seqs;
    a.chunks = plan->chunks;
    a.items = plan->items;
    a.n_items = plan->n_items;
    a.position = p->position;
    a.split_base = plan->split_base;
    a.q = p->q;
    a.k = p->k;
    a.v = p->v;
    a.out = p->out;
    a.lse = p->lse;
    a.partial_o = plan->partial_o;
    a.partial_m = plan->partial_m;
    a.partial_l = plan->partial_l;
    a.arrived = plan->arrived;
    a.scale2 = p->scale * ATTENTION_LOG2_E;
    a.n_heads = p->n_heads;
    a.n_kv_heads = p->n_kv_heads;
    a.head_dim = p->head_dim;
    a.n_tokens = plan->n_tokens;

    /* A recorded step must not depend on how much there is to do: blocks that fill the machine,
     * each taking items in turn. */
    assert(work <= INT32_MAX);
    const int blocks = plan->recorded ? BLOCKS_RECORDED * s->multiprocessors : (int)work;
    const bool deep = s->shared_per_block > 200 * 1024;
    const bool tiles = p->act == DTYPE_BF16 && (p->head_dim == 64 || p->head_dim == 128) &&
                       p->n_heads / p->n_kv_heads <= CUDA_TILE;
    if (!tiles)
        attention_forward_plain(s->stream, blocks, p->act, a);
    else if (p->head_dim == 64)
        choose_tiles<64>(s->stream, blocks, plan->partial, deep, a);
    else
        choose_tiles<128>(s->stream, blocks, plan->partial, deep, a);
    cuda_note(backend, "attention_forward", cudaSuccess);
}

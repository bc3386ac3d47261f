/* Causal attention, forward: tiles of 64 rows (queries times the heads of one kv head) against chunks of 64 keys,
 * through the tensor cores. A warp has 16 rows; a warp without rows only helps to load. Items of few rows have a kernel
 * of their own (kernel_attention_decode.cu). An item is either a tile of queries with all splits it needs, whose
 * results stay in registers, or one split whose result other blocks merge (partial).
 *
 * A NaN among the values of a key reaches the rows of its own chunk that do not see the key when they are computed
 * together with rows that do: 0 * NaN. Nothing else passes between rows. */
#include "backend/cuda/attention_forward.cuh"
#include "backend/ops.h"

#include <assert.h>

/* Blocks to a multiprocessor in a recorded step. */
enum { BLOCKS_RECORDED = 2 };

/* Elements of shared memory: stages of a tile of keys and one of values, and a tile of queries where registers are
 * short. Two blocks fit on a multiprocessor: with two stages of an A100, with three (decoding only, which wants many
 * bytes under way) of an H200. */
template <int D, bool PARTIAL, int STAGES> struct forward_memory {
    enum {
        TILE = ATTENTION_CHUNK * D,
        STAGE = 2 * TILE,
        QUERIES = STAGES * STAGE,
        ALL = QUERIES + (PARTIAL ? 0 : TILE)
    };
};

/* An item's work for one kv head: number work of all, chunks begin .. end. least and most are the positions of its
 * rows. */
struct item_cursor {
    int32_t work, begin, end, least, most;
    cuda_item item;
};

/* From c->work on, in steps of the grid, the first item with something to do; false if there is none. The same in all
 * threads of the block. */
static __device__ __forceinline__ bool open_item(const attention_arguments &a, int32_t n_work, item_cursor *c)
{
    for (; c->work < n_work; c->work += (int32_t)gridDim.x) {
        c->item = a.items[c->work / a.n_kv_heads];
        int32_t least = 0x7fffffff, most = -1;
        for (int32_t i = (int32_t)threadIdx.x % 32; i < c->item.n_queries; i += 32) {
            const int32_t position = a.position[c->item.query_row + i];
            least = min(least, position);
            most = max(most, position);
        }
#pragma unroll
        for (int o = 16; o > 0; o >>= 1) {
            least = min(least, __shfl_xor_sync(0xffffffffu, least, o));
            most = max(most, __shfl_xor_sync(0xffffffffu, most, o));
        }
        c->least = least;
        c->most = most;
        c->begin = max(c->item.split_begin * CHUNKS_PER_SPLIT, attention_first(least, a.reach) / ATTENTION_CHUNK);
        c->end = most < 0 ? 0 : min(c->item.split_end * CHUNKS_PER_SPLIT, most / ATTENTION_CHUNK + 1);
        if (c->begin < c->end)
            return true;
    }
    return false;
}

/* The chunks of a block's items, one item after the other: what is loaded, some chunks ahead of what is computed. The
 * next item begins to load while the last one is still being finished. */
struct key_stream {
    int32_t work, i, end;                   /* chunk i of item work, up to end */
    int32_t boundary, chunk_begin, key_end; /* of the item's sequence */
    cuda_chunk rows;                        /* of chunk i */
};

static __device__ __forceinline__ void stream_rows(const attention_arguments &a, key_stream *s)
{
    s->rows = a.chunks[s->chunk_begin + attention_chunk(a, s->i, s->end)];
}

static __device__ __forceinline__ void stream_item(const attention_arguments &a, int32_t n_work, key_stream *s)
{
    item_cursor c;
    c.work = s->work;
    const bool more = open_item(a, n_work, &c);
    s->work = c.work;
    if (!more)
        return;
    const cuda_seq &seq = a.seqs[c.item.seq];
    s->i = c.begin;
    s->end = c.end;
    s->boundary = seq.boundary;
    s->chunk_begin = seq.chunk_begin;
    s->key_end = min(seq.n_keys, c.most + 1);
    stream_rows(a, s);
}

/* Starts copying the stream's next chunk, if there is one, as one group. */
template <int D, bool EIGHT>
static __device__ __forceinline__ void stream_load(const attention_arguments &a, int32_t n_work, key_stream *s,
                                                   uint16_t *to)
{
    if (s->work < n_work) {
        tile_load_keys<D, EIGHT>(to, to + ATTENTION_CHUNK * D, a.k, a.v, s->work % a.n_kv_heads * D, a.n_kv_heads * D,
                                 s->boundary, s->rows, attention_chunk(a, s->i, s->end), s->key_end);
        if (++s->i < s->end) {
            stream_rows(a, s);
        } else {
            s->work += (int32_t)gridDim.x;
            stream_item(a, n_work, s);
        }
    }
    copy_async_commit();
}

template <int D, bool PARTIAL> struct query_rows : rows_in_registers<D> {
};
template <int D> struct query_rows<D, false> : rows_in_tile<D> {
};

/* Starts copying the item's rows into a tile; rows behind the last become zeros. */
template <int D>
static __device__ __forceinline__ void load_queries(const attention_arguments &a, const cuda_item &item,
                                                    int32_t kv_head, int32_t ratio, uint16_t *tile)
{
    constexpr int PIECES = D / 8, ROWS = TILE_THREADS / PIECES;
    const int piece = (int)threadIdx.x % PIECES;
    for (int j = (int)threadIdx.x / PIECES; j < CUDA_TILE; j += ROWS) {
        const forward_row r = row_of(item, kv_head, ratio, j);
        const bool there = r.token >= 0;
        copy_async16(tile + tile_at<D>(j, piece), there ? query_of(a, r, D) + piece * 8 : (const uint16_t *)a.q, there);
    }
}

/* PARTIAL: every item is one split. Otherwise every item has all splits of its rows, and the merged o stays in
 * registers too. */
template <int D, bool PARTIAL, int STAGES, bool EIGHT>
__global__ __launch_bounds__(TILE_THREADS, 2) void attention_forward_tiles(const attention_arguments a)
{
    DYNAMIC_SHARED(memory);
    __shared__ int32_t flag[CUDA_TILE];
    typedef forward_memory<D, PARTIAL, STAGES> layout;
    uint16_t *tiles = (uint16_t *)memory;
    const int32_t ratio = a.n_heads / a.n_kv_heads;
    const int32_t n_work = *a.n_items * a.n_kv_heads;

    /* STAGES - 1 chunks are under way before the first is waited for, each with a group of its own. */
    item_cursor c;
    c.work = (int32_t)blockIdx.x;
    key_stream stream;
    stream.work = c.work;
    stream_item(a, n_work, &stream);
#pragma unroll
    for (int i = 0; i < STAGES - 1; i++) {
        if (!PARTIAL && i == 0 && open_item(a, n_work, &c)) /* the block's only item */
            load_queries<D>(a, c.item, c.work % a.n_kv_heads, ratio, tiles + layout::QUERIES);
        stream_load<D, EIGHT>(a, n_work, &stream, tiles + i * layout::STAGE);
    }
    int now = 0; /* the chunk's stage, as the index of its first element */

    for (; open_item(a, n_work, &c); c.work += (int32_t)gridDim.x) {
        const cuda_item &item = c.item;
        const int32_t kv_head = c.work % a.n_kv_heads, end = c.end;
        /* Chunks before this one hold only keys that all rows see, if they begin at this key or behind it. */
        const int32_t first_masked = (c.least + 1) / ATTENTION_CHUNK, all_from = attention_first(c.most, a.reach);
        const int warp = (int)threadIdx.x / 32;
        const int32_t first_row = warp * 16;
        const bool active = first_row < item.n_queries * ratio;
        const int32_t my_row = first_row + (int32_t)threadIdx.x % 32 / 4; /* and 8 behind it */

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

        /* Waits for chunk i and starts loading another in place of the one before. */
        const auto turn_to = [&]() {
            copy_async_wait<STAGES - 2>();
            __syncthreads(); /* the chunk is there for all, and all are done with the one before */
            stream_load<D, EIGHT>(a, n_work, &stream,
                                  tiles + now + (now == 0 ? (STAGES - 1) * layout::STAGE : -layout::STAGE));
        };
        const auto turn_from = [&]() { now = now == (STAGES - 1) * layout::STAGE ? 0 : now + layout::STAGE; };

        float o[D / 8][4], merged_o[PARTIAL ? 1 : D / 8][4];
        softmax_row row[2], merged[2];
        int32_t i = c.begin;
        while (i < end) {
            const int32_t split_end = min((i / CHUNKS_PER_SPLIT + 1) * CHUNKS_PER_SPLIT, end);
            const bool first = i == c.begin;
            row[0] = row[1] = softmax_start();
#pragma unroll
            for (int j = 0; j < D / 8; j++)
                o[j][0] = o[j][1] = o[j][2] = o[j][3] = 0.0f;
#pragma unroll 1
            for (; i < split_end; i++) {
                turn_to();
                if (active) {
                    const int32_t chunk = attention_chunk(a, i, end);
                    const int32_t last[2] = {position[0] - chunk * ATTENTION_CHUNK,
                                             position[1] - chunk * ATTENTION_CHUNK};
                    attention_step<D>(o, row, q, tiles, now, now + layout::TILE, a.scale2,
                                      chunk >= first_masked || chunk * ATTENTION_CHUNK < all_from, last, a.reach);
                }
                turn_from();
            }
            attention_split_end(row);
            if constexpr (!PARTIAL) {
                if (first) {
                    merged[0] = row[0];
                    merged[1] = row[1];
#pragma unroll
                    for (int j = 0; j < D / 8; j++)
#pragma unroll
                        for (int e = 0; e < 4; e++)
                            merged_o[j][e] = o[j][e];
                } else {
                    const merge_factors f[2] = {attention_merge_rows(&merged[0], row[0]),
                                                attention_merge_rows(&merged[1], row[1])};
#pragma unroll
                    for (int j = 0; j < D / 8; j++)
#pragma unroll
                        for (int e = 0; e < 4; e++)
                            merged_o[j][e] = attention_merge(merged_o[j][e], o[j][e], f[e / 2]);
                }
            }
        }

        if constexpr (PARTIAL) {
            if (active)
                write_split<D / 8>(a, item, kv_head, ratio, my_row, 0, position, o, row);
            if (c.most >= CUDA_SPLIT)
                attention_arrive<uint16_t, D / 32>(a, item, kv_head, flag);
        } else if (active) {
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const forward_row r = row_of(item, kv_head, ratio, my_row + 8 * h);
                if (r.token >= 0)
                    write_result<D / 8>(a, r.token, r.head, h, 0, merged_o, merged[h]);
            }
        }
    }
}

template <int D, bool PARTIAL, int STAGES, bool EIGHT>
static void launch_tiles(cudaStream_t stream, int blocks, const attention_arguments &a)
{
    const size_t shared = forward_memory<D, PARTIAL, STAGES>::ALL * sizeof(uint16_t);
    ALLOW_SHARED((attention_forward_tiles<D, PARTIAL, STAGES, EIGHT>), shared);
    LAUNCH((attention_forward_tiles<D, PARTIAL, STAGES, EIGHT>), blocks, TILE_THREADS, shared, stream, a);
}

/* deep: two blocks of three stages fit on a multiprocessor. */
template <int D, bool EIGHT>
static void choose_tiles(cudaStream_t stream, int blocks, bool partial, bool deep, const attention_arguments &a)
{
    if (!partial)
        launch_tiles<D, false, 2, EIGHT>(stream, blocks, a);
    else if (deep)
        launch_tiles<D, true, 3, EIGHT>(stream, blocks, a);
    else
        launch_tiles<D, true, 2, EIGHT>(stream, blocks, a);
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
    a.reach = attention_reach(p->window);
    a.kv8 = p->kv8;
    a.max_items = plan->max_items;

    /* A recorded step must not depend on how much there is to do: blocks that fill the machine, each taking items in
     * turn. */
    assert(work <= INT32_MAX);
    const int blocks = plan->recorded ? BLOCKS_RECORDED * s->multiprocessors : (int)work;
    const bool deep = s->shared_per_block > 200 * 1024;
    const bool tiles =
        p->act == DTYPE_BF16 && (p->head_dim == 64 || p->head_dim == 128) && p->n_heads / p->n_kv_heads <= CUDA_TILE;
    if (!tiles)
        attention_forward_plain(s->stream, blocks, p->act, a);
    else if (plan->few)
        attention_forward_few(backend, a);
    else if (p->head_dim == 64)
        (p->kv8 ? choose_tiles<64, true> : choose_tiles<64, false>)(s->stream, blocks, plan->partial, deep, a);
    else
        (p->kv8 ? choose_tiles<128, true> : choose_tiles<128, false>)(s->stream, blocks, plan->partial, deep, a);
    cuda_note(backend, "attention_forward", cudaSuccess);
}

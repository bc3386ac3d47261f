/* Causal attention for items of few rows (decoding): one split each of at most 16 rows, which all four warps share. A
 * warp computes the scores and weights of a quarter of a chunk's keys, and o for a quarter of D: every number is made
 * as attention_step makes it, in a fraction of the time.
 *
 * Keys and values pass through a ring of three pieces in shared memory, alternately the keys and the values of CHUNKS
 * chunks. Many items: pieces of one chunk, so that four blocks fit on a multiprocessor (H200; three on an A100) and one
 * waits while others compute. Few items: pieces of a whole split, so that all of it is under way at once and what the
 * warps tell each other is told once. Two pieces are always under way; the next item begins to load while the last is
 * finished. */
#include "backend/cuda/attention_forward.cuh"
#include "backend/ops.h"

#include <assert.h>
#include <stddef.h>

enum { PIECES = 3 };

/* Blocks to a multiprocessor, by their shared memory. */
#if defined(__CUDA_ARCH__) && (__CUDA_ARCH__ < 900 || __CUDA_ARCH__ >= 1200)
#define DECODE_BLOCKS 3
#else
#define DECODE_BLOCKS 4
#endif

template <int D, int CHUNKS> struct decode_memory {
    enum { TILE = ATTENTION_CHUNK * D, PIECE = CHUNKS * TILE, ALL = PIECES * PIECE };
};

/* What the warps tell each other of CHUNKS chunks. */
template <int CHUNKS> struct decode_exchange {
    float top[CHUNKS][TILE_WARPS][16];
    float2 sum[CHUNKS][TILE_WARPS][32];
    uint4 weights[CHUNKS][TILE_WARPS][32];
};

/* ---- items ----
 * Lane i of every warp holds word i of an item: one read, and no array with a changing index. */

static __device__ __forceinline__ int32_t item_word(const attention_arguments &a, int32_t work)
{
    const int32_t index = work / a.n_kv_heads, lane = (int32_t)threadIdx.x % 32;
    const int32_t words = (int32_t)(sizeof(cuda_item) / sizeof(int32_t));
    static_assert(sizeof(cuda_item) / sizeof(int32_t) <= 32, "a word to a lane");
    return index < a.max_items && lane < words ? ((const int32_t *)(a.items + index))[lane] : 0;
}

static __device__ __forceinline__ int32_t word_of(int32_t words, size_t offset)
{
    return __shfl_sync(0xffffffffu, words, (int)(offset / sizeof(int32_t)));
}
#define ITEM_WORD(words, member) word_of(words, offsetof(cuda_item, member))

/* An item for one kv head, number work of all. */
struct decode_item {
    int32_t work, words;
    int32_t position;                     /* lane i: of the item's query i; others -1 */
    int32_t least, most;                  /* of these */
    int32_t split, first_chunk, n_chunks; /* of the split's chunks first_chunk .. n_chunks have keys that a row sees */
};

/* The rows of keys of the item's chunk i, or of the one that is visited in its place. */
static __device__ __forceinline__ int32_t decode_chunk(const attention_arguments &a, const decode_item &item, int32_t i)
{
    const int32_t first = item.split * CHUNKS_PER_SPLIT;
    return attention_chunk(a, first + i, first + item.n_chunks) - first;
}

/* The items a block loads, in steps of the grid. */
struct decode_stream {
    decode_item item;
    int32_t ahead; /* words of the next */
    int32_t i;     /* the next chunk to load */
    bool values;   /* its keys are under way */
};

/* From item.work on, whose words are in ahead, the first item with something to do, and its first chunk in s->i; false if
 * there is none (item.work is then n_work or beyond). */
static __device__ __forceinline__ bool stream_open(const attention_arguments &a, int32_t n_work, decode_stream *s)
{
    const int32_t lane = (int32_t)threadIdx.x % 32;
    decode_item *item = &s->item;
    for (; item->work < n_work; item->work += (int32_t)gridDim.x) {
        item->words = s->ahead;
        s->ahead = item_word(a, item->work + (int32_t)gridDim.x);
        const int32_t first = ITEM_WORD(item->words, query_row);
        const int32_t n = ITEM_WORD(item->words, n_queries);
        item->split = ITEM_WORD(item->words, split_begin);
        item->position = lane < n ? a.position[first + lane] : -1;
        int32_t least = lane < n ? item->position : 0x7fffffff, most = item->position;
#pragma unroll
        for (int o = CUDA_FEW_ROWS / 2; o > 0; o >>= 1) {
            least = min(least, __shfl_xor_sync(0xffffffffu, least, o));
            most = max(most, __shfl_xor_sync(0xffffffffu, most, o));
        }
        item->least = __shfl_sync(0xffffffffu, least, 0);
        item->most = __shfl_sync(0xffffffffu, most, 0);
        const int32_t chunks = item->most < 0 ? 0 : item->most / ATTENTION_CHUNK + 1;
        item->n_chunks = min(chunks - item->split * CHUNKS_PER_SPLIT, (int32_t)CHUNKS_PER_SPLIT);
        const int32_t first_key = attention_first(item->least, a.reach);
        item->first_chunk = max(first_key / ATTENTION_CHUNK - item->split * CHUNKS_PER_SPLIT, 0);
        if (item->n_chunks > item->first_chunk) {
            s->i = item->first_chunk;
            return true;
        }
    }
    return false;
}

/* Starts copying a chunk of keys or values of one kv head. Keys from end on become zeros, as in tile_load_keys. */
template <int D, bool EIGHT>
static __device__ __forceinline__ void load_chunk(uint16_t *tile, const void *rows, int32_t n_kv_heads, int32_t kv_head,
                                                  int32_t boundary, int32_t low, int32_t high, int32_t position,
                                                  int32_t end)
{
    constexpr int ACROSS = D / 8, ROWS = TILE_THREADS / ACROSS;
    static_assert(ROWS % 8 == 0, "a thread's rows are exchanged alike");
    const int across = (int)threadIdx.x % ACROSS, first = (int)threadIdx.x / ACROSS;
    const uint16_t *from = (const uint16_t *)rows + kv_head * D + across * 8;
    tile += tile_at<D>(first, across);
#pragma unroll 4
    for (int i = 0; i < ATTENTION_CHUNK / ROWS; i++) {
        const int32_t j = first + i * ROWS;
        const bool there = position + j < end;
        const int32_t row = (position + j < boundary ? low : high) + j;
        if constexpr (EIGHT)
            kv8_copy16<D>(tile + i * ROWS * D, kv8_head(rows, there ? (int64_t)row * n_kv_heads + kv_head : 0, D),
                          across, there);
        else
            copy_async16(tile + i * ROWS * D, there ? from + (int64_t)row * n_kv_heads * D : from, there);
    }
}

/* Starts copying the next piece, if there is one, as one group. */
template <int D, int CHUNKS, bool EIGHT>
static __device__ __forceinline__ void stream_load(const attention_arguments &a, int32_t n_work, decode_stream *s,
                                                   uint16_t *to)
{
    if (s->item.work < n_work && s->i >= s->item.n_chunks) {
        s->item.work += (int32_t)gridDim.x;
        stream_open(a, n_work, s);
    }
    if (s->item.work < n_work) {
        const decode_item &item = s->item;
        const int32_t boundary = ITEM_WORD(item.words, boundary);
        const int32_t end = min(ITEM_WORD(item.words, n_keys), item.most + 1);
#pragma unroll
        for (int c = 0; c < CHUNKS; c++) {
            if (s->i + c >= item.n_chunks)
                break;
            const int32_t chunk = decode_chunk(a, item, s->i + c);
            const size_t rows = offsetof(cuda_item, chunks) + (size_t)chunk * sizeof(cuda_chunk);
            load_chunk<D, EIGHT>(to + c * ATTENTION_CHUNK * D, s->values ? a.v : a.k, a.n_kv_heads,
                                 item.work % a.n_kv_heads, boundary,
                                 word_of(item.words, rows + offsetof(cuda_chunk, low)),
                                 word_of(item.words, rows + offsetof(cuda_chunk, high)),
                                 (item.split * CHUNKS_PER_SPLIT + chunk) * ATTENTION_CHUNK, end);
        }
        if (s->values)
            s->i += CHUNKS;
        s->values = !s->values;
    }
    copy_async_commit();
}

/* Asks for the first keys and values of an item whose rows' positions are not known yet. No more than one piece of
 * each: all blocks together must not ask for more than the cache holds. */
template <int D, int CHUNKS, bool EIGHT>
static __device__ __forceinline__ void prefetch_item(const attention_arguments &a, int32_t work, int32_t words)
{
    constexpr int ROW = EIGHT ? KV8_HEAD_BYTES(D) : D * 2; /* bytes of a head */
    constexpr int LINES = (ROW + 127) / 128;
    const int32_t first = ITEM_WORD(words, split_begin) * CUDA_SPLIT;
    const int32_t boundary = ITEM_WORD(words, boundary), n_keys = ITEM_WORD(words, n_keys);
    const int32_t row = (int32_t)threadIdx.x / LINES, line = (int32_t)threadIdx.x % LINES;
    for (int32_t c = 0; c < CHUNKS; c++) {
        const size_t rows = offsetof(cuda_item, chunks) + (size_t)c * sizeof(cuda_chunk);
        const int32_t low = word_of(words, rows + offsetof(cuda_chunk, low));
        const int32_t high = word_of(words, rows + offsetof(cuda_chunk, high));
        for (int32_t j = row; j < ATTENTION_CHUNK; j += TILE_THREADS / LINES) {
            const int32_t position = first + c * ATTENTION_CHUNK + j;
            if (position >= n_keys)
                break;
            const int64_t head = (int64_t)((position < boundary ? low : high) + j) * a.n_kv_heads + work % a.n_kv_heads;
            prefetch_line((const char *)a.k + head * ROW + line * 128);
            prefetch_line((const char *)a.v + head * ROW + line * 128);
        }
    }
}

/* ---- the step ---- */

/* Raw scores of the 16 rows over this warp's 16 keys of each chunk; the largest of each row go to exchange. Chunks that
 * are not there are computed too, and not looked at. */
template <int D, int CHUNKS>
static __device__ __forceinline__ void decode_scores(const attention_arguments &a, const decode_item &item,
                                                     float s[CHUNKS][2][4], const rows_in_registers<D> &q,
                                                     const uint16_t *memory, int tile, int32_t i,
                                                     const int32_t position[2], decode_exchange<CHUNKS> *exchange)
{
    const int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
#pragma unroll
    for (int c = 0; c < CHUNKS; c++)
#pragma unroll
        for (int j = 0; j < 2; j++)
            s[c][j][0] = s[c][j][1] = s[c][j][2] = s[c][j][3] = 0.0f;
#pragma unroll
    for (int k = 0; k < D / 16; k++)
#pragma unroll
        for (int c = 0; c < CHUNKS; c++) {
            uint32_t b[4];
            tile_load_b<D>(b, memory, tile + c * ATTENTION_CHUNK * D, warp, k);
            mma_bf16(s[c][0], q.a[k], b[0], b[1]);
            mma_bf16(s[c][1], q.a[k], b[2], b[3]);
        }
#pragma unroll
    for (int c = 0; c < CHUNKS; c++) {
        if (i + c >= item.n_chunks)
            break;
        const int32_t chunk = item.split * CHUNKS_PER_SPLIT + decode_chunk(a, item, i + c);
        const int32_t first = chunk * ATTENTION_CHUNK + warp * 16;
        /* Between these, all rows see all keys. */
        if (chunk >= (item.least + 1) / ATTENTION_CHUNK ||
            chunk * ATTENTION_CHUNK < attention_first(item.most, a.reach))
            tile_mask<1>(s[c], position[0] - first, position[1] - first, a.reach);
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const float top = softmax_top<1>(s[c], h);
            if (lane % 4 == 0)
                exchange->top[c][warp][lane / 4 + 8 * h] = top;
        }
    }
}

/* Scores become weights in exchange; m moves on over n chunks. */
template <int CHUNKS>
static __device__ __forceinline__ void decode_weights(float factor[CHUNKS][2], softmax_row row[2],
                                                      float s[CHUNKS][2][4], int32_t n, float scale2,
                                                      decode_exchange<CHUNKS> *exchange)
{
    const int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
#pragma unroll
    for (int c = 0; c < CHUNKS; c++) {
        if (c >= n)
            break;
        float sum[2];
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float top = exchange->top[c][0][lane / 4 + 8 * h];
#pragma unroll
            for (int w = 1; w < TILE_WARPS; w++)
                top = fmaxf(top, exchange->top[c][w][lane / 4 + 8 * h]);
            factor[c][h] = softmax_move(&row[h], top, scale2);
            sum[h] = softmax_group(s[c], h, softmax_shift(row[h].m), scale2);
        }
        uint32_t weights[4];
        pack_group(weights, s[c]);
        exchange->sum[c][warp][lane] = make_float2(sum[0], sum[1]);
        exchange->weights[c][warp][lane] = make_uint4(weights[0], weights[1], weights[2], weights[3]);
    }
}

/* l and this warp's quarter of o over n chunks. */
template <int D, int CHUNKS>
static __device__ __forceinline__ void
decode_accumulate(float o[D / 32][4], softmax_row row[2], const float factor[CHUNKS][2], int32_t n,
                  const uint16_t *memory, int tile, const decode_exchange<CHUNKS> *exchange)
{
    const int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
#pragma unroll
    for (int c = 0; c < CHUNKS; c++) {
        if (c >= n)
            break;
        float2 total = exchange->sum[c][0][lane];
#pragma unroll
        for (int w = 1; w < TILE_WARPS; w++) {
            const float2 x = exchange->sum[c][w][lane];
            total.x += x.x;
            total.y += x.y;
        }
        row[0].l = fmaf(row[0].l, factor[c][0], total.x);
        row[1].l = fmaf(row[1].l, factor[c][1], total.y);
        rows_scale<D / 32>(o, factor[c]);
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const uint4 x = exchange->weights[c][k][lane];
            const uint32_t weights[4] = {x.x, x.y, x.z, x.w};
            tile_accumulate<D, D / 32>(o, weights, memory, tile + c * ATTENTION_CHUNK * D, warp * (D / 64), k);
        }
    }
}

/* ---- the end of an item ---- */

/* As attention_arrive. The barrier puts the block's writes before the fence of the threads that count, and a fence
 * passes on what its thread has seen. */
template <int D>
static __device__ __forceinline__ void decode_arrive(const attention_arguments &a, const decode_item &item,
                                                     int32_t query_row, int32_t n_queries, int32_t *flag)
{
    const int32_t ratio = a.n_heads / a.n_kv_heads, kv_head = item.work % a.n_kv_heads;
    const int32_t thread = (int32_t)threadIdx.x;
    __syncthreads();
    if (thread < n_queries) { /* the first warp: item.position is that of query `thread` */
        const split_range splits = attention_splits(a, item.position);
        const int32_t n_splits = splits.end - splits.begin;
        int32_t merge = 0;
        if (n_splits > 1 && item.split >= splits.begin && item.split < splits.end) {
            int32_t *arrived = a.arrived + (int64_t)(query_row + thread) * a.n_kv_heads + kv_head;
            __threadfence();
            if (atomicAdd(arrived, 1) == n_splits - 1) {
                merge = 1;
                *arrived = 0;
            }
            __threadfence();
        }
        flag[thread] = merge;
    }
    __syncthreads();
    for (int32_t r = thread / 32; r < n_queries * ratio; r += TILE_WARPS)
        if (flag[r / ratio])
            attention_merge_splits<uint16_t, D / 32>(a, query_row + r / ratio, kv_head * ratio + r % ratio,
                                                     attention_splits(a, a.position[query_row + r / ratio]));
}

template <int D, int CHUNKS, bool EIGHT>
__global__ __launch_bounds__(TILE_THREADS,
                             CHUNKS == 1 ? DECODE_BLOCKS : 1) void attention_decode(const attention_arguments a)
{
    typedef decode_memory<D, CHUNKS> layout;
    DYNAMIC_SHARED(memory);
    __shared__ int32_t flag[CUDA_FEW_ROWS];
    __shared__ decode_exchange<CHUNKS> exchange;
    uint16_t *tiles = (uint16_t *)memory;
    const int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    const int32_t ratio = a.n_heads / a.n_kv_heads;

    /* The plan was there before the kernels ahead began. */
    start_dependents();
    decode_stream stream;
    stream.item.work = (int32_t)blockIdx.x;
    stream.ahead = item_word(a, stream.item.work);
    stream.values = false;
    const int32_t n_work = *a.n_items * a.n_kv_heads;
    if (stream.item.work < n_work)
        prefetch_item<D, CHUNKS, EIGHT>(a, stream.item.work, stream.ahead);
    wait_for_ahead();
    if (!stream_open(a, n_work, &stream))
        return;
    decode_item item = stream.item;
    cuda_item rows; /* of item, as row_of and write_split want it */
    rows_in_registers<D> q;
    int32_t position[2];
    const int32_t my_row = lane / 4; /* and 8 behind it */
    const auto take_rows = [&]() {
        rows.query_row = ITEM_WORD(item.words, query_row);
        rows.n_queries = ITEM_WORD(item.words, n_queries);
        rows.split_begin = item.split;
        const uint16_t *from[2];
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const forward_row r = row_of(rows, item.work % a.n_kv_heads, ratio, my_row + 8 * h);
            const int32_t query = r.token < 0 ? 31 : r.token - rows.query_row;
            position[h] = __shfl_sync(0xffffffffu, item.position, query);
            from[h] = r.token < 0 ? NULL : query_of(a, r, D);
        }
        q.fill(from[0], from[1]);
    };

    stream_load<D, CHUNKS, EIGHT>(a, n_work, &stream, tiles);
    take_rows(); /* not behind all of the keys and values */
    stream_load<D, CHUNKS, EIGHT>(a, n_work, &stream, tiles + layout::PIECE);
    static_assert(PIECES == 3, "two pieces are under way");
    int now = 0; /* the piece's first element */

    /* Waits for the next piece and starts loading another in place of the one before it, which all warps are done with.
     * Returns where it lies. */
    const auto turn = [&]() {
        const int here = now;
        copy_async_wait<PIECES - 2>();
        __syncthreads();
        stream_load<D, CHUNKS, EIGHT>(a, n_work, &stream,
                                      tiles + (here == 0 ? (PIECES - 1) * layout::PIECE : here - layout::PIECE));
        now = here == (PIECES - 1) * layout::PIECE ? 0 : here + layout::PIECE;
        return here;
    };

    for (;;) {
        const int32_t kv_head = item.work % a.n_kv_heads;
        float o[D / 32][4];
        softmax_row row[2] = {softmax_start(), softmax_start()};
#pragma unroll
        for (int j = 0; j < D / 32; j++)
            o[j][0] = o[j][1] = o[j][2] = o[j][3] = 0.0f;
#pragma unroll 1
        for (int32_t i = item.first_chunk; i < item.n_chunks; i += CHUNKS) {
            const int32_t n = min(item.n_chunks - i, (int32_t)CHUNKS);
            float s[CHUNKS][2][4], factor[CHUNKS][2];
            const int keys = turn();
            decode_scores<D, CHUNKS>(a, item, s, q, tiles, keys, i, position, &exchange);
            const int values = turn();
            decode_weights<CHUNKS>(factor, row, s, n, a.scale2, &exchange);
            __syncthreads();
            decode_accumulate<D, CHUNKS>(o, row, factor, n, tiles, values, &exchange);
        }
        attention_split_end(row);
        write_split<D / 32>(a, rows, kv_head, ratio, my_row, warp * (D / 4), position, o, row);
        if (item.most >= CUDA_SPLIT)
            decode_arrive<D>(a, item, rows.query_row, rows.n_queries, flag);
        /* Loading is at most one item ahead, and has turned to it in the last chunk. */
        if (stream.item.work >= n_work)
            return;
        item = stream.item;
        take_rows();
    }
}

template <int D, int CHUNKS, bool EIGHT>
static void launch_decode(struct backend *backend, int64_t blocks, const attention_arguments &a)
{
    struct cuda_state *s = cuda_state_of(backend);
    const size_t shared = decode_memory<D, CHUNKS>::ALL * sizeof(uint16_t);
    void (*const kernel)(const attention_arguments) = attention_decode<D, CHUNKS, EIGHT>;
    ALLOW_SHARED(kernel, shared);
    LAUNCH_BEHIND(begins_early(s), kernel, (unsigned)blocks, TILE_THREADS, shared, s->stream, a);
}

template <int D, bool EIGHT> static void choose_decode(struct backend *backend, const attention_arguments &a)
{
    struct cuda_state *s = cuda_state_of(backend);
    const int64_t machine = s->multiprocessors, work = (int64_t)a.max_items * a.n_kv_heads;
    const int64_t blocks = s->shared_per_block > 200 * 1024 ? 4 : 3; /* blocks to a multiprocessor */
    const size_t whole = decode_memory<D, CHUNKS_PER_SPLIT>::ALL * sizeof(uint16_t) +
                         sizeof(decode_exchange<CHUNKS_PER_SPLIT>) + CUDA_FEW_ROWS * sizeof(int32_t);
    assert(work + blocks * machine <= INT32_MAX);
    /* A recorded step is of so many tokens always, whatever there is to do for them. */
    if ((int64_t)a.n_tokens * a.n_kv_heads <= machine && whole <= s->shared_per_block)
        launch_decode<D, CHUNKS_PER_SPLIT, EIGHT>(backend, machine < work ? machine : work, a);
    else
        launch_decode<D, 1, EIGHT>(backend, blocks * machine < work ? blocks * machine : work, a);
}

void attention_forward_few(struct backend *backend, const attention_arguments &a)
{
    if (a.head_dim == 64)
        (a.kv8 ? choose_decode<64, true> : choose_decode<64, false>)(backend, a);
    else
        (a.kv8 ? choose_decode<128, true> : choose_decode<128, false>)(backend, a);
}

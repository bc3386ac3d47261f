/* Attention, backward, by recomputation from lse (Dao et al., "FlashAttention"): with p = exp(s * scale - lse), delta =
 * sum(dO * O), ds = p * (dO . v - delta): dv += p dO, dk += ds q * scale, dq = sum ds k * scale.
 *
 * Two passes, each of which owns what it writes, so that no sum needs an atomic and every sum has one order. Of dq: a
 * block takes the rows of one item (up to CUDA_TILE of them, a row being one query and head) and walks chunks of keys
 * ascending. Of dk and dv: a block takes the up to ATTENTION_CHUNK keys of a key item and walks the rows that see them:
 * sequences ascending, queries ascending, heads ascending within CUDA_TILE / R queries at a time. Scores are computed
 * in both: 7 products instead of 5.
 *
 * Here with matrix instructions: bf16, head sizes 64 and 128. The rest goes to kernel_attention_backward_plain.cu. */
#include "backend/cuda/attention_backward.cuh"
#include "backend/cuda/attention_tile.cuh"
#include "backend/ops.h"

enum { WARP_ROWS = 16, SLICE = 32, ROWS = CUDA_TILE };

static_assert((int)TILE_WARPS * WARP_ROWS == ROWS && (int)ATTENTION_CHUNK == (int)ROWS,
              "a warp has 16 rows of a tile, or 16 keys");

/* A 16 x 16 piece of sums (two 16 x 8 tiles) as A of a product. */
static __device__ __forceinline__ void sums_to_a(uint32_t a[4], const float low[4], const float high[4])
{
    a[0] = pack_bf16(low[0], low[1]);
    a[1] = pack_bf16(low[2], low[3]);
    a[2] = pack_bf16(high[0], high[1]);
    a[3] = pack_bf16(high[2], high[3]);
}

template <int D> static __global__ void __launch_bounds__(TILE_THREADS, 2) gradient_of_queries(const struct gradient g)
{
    DYNAMIC_SHARED(memory);
    constexpr int TILE = ROWS * D, PAIR = 2 * TILE;
    uint16_t *tiles = (uint16_t *)memory; /* two pairs of a k and a v tile */
    const int64_t index = blockIdx.x / g.n_kv_heads;
    const int kv_head = (int)(blockIdx.x % g.n_kv_heads);
    if (index >= *g.n_items)
        return;
    const struct cuda_item item = g.items[index];
    const struct cuda_seq seq = g.seqs[item.seq];
    const int ratio = g.ratio, n_rows = item.n_queries * ratio;
    const int first = seq.first_position + item.query_row - seq.query_row, end = first + item.n_queries,
              n_chunks = (end - 1) / ATTENTION_CHUNK + 1,
              first_chunk = attention_first(first, g.reach) / ATTENTION_CHUNK,
              all_from = attention_first(end - 1, g.reach);
    const int stride = g.n_kv_heads * D, head_at = kv_head * D;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;

    const struct cuda_chunk *chunks = g.chunks + seq.chunk_begin;
    uint16_t *const begin_at = tiles + (first_chunk & 1) * PAIR;
    tile_load_keys<D, false>(begin_at, begin_at + TILE, g.k, g.v, head_at, stride, seq.boundary, chunks[first_chunk],
                             first_chunk, end);
    copy_async_commit();
    struct cuda_chunk next_rows = chunks[min(first_chunk + 1, n_chunks - 1)];

    /* The thread's two rows, 8 apart. Row r is head r % R of query r / R. One beyond the item's has lse infinite: p =
     * 0. */
    float lse[2], delta[2];
    int limit[2];
    int64_t pair[2];
    rows_in_registers<D> q, d_out;
    {
        const uint16_t *q_row[2], *d_out_row[2];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int r = warp * WARP_ROWS + (lane >> 2) + 8 * i;
            const bool there = r < n_rows;
            pair[i] = there ? ((int64_t)item.query_row + r / ratio) * g.n_heads + kv_head * ratio + r % ratio : -1;
            const float2 statistics = there ? g.statistics[pair[i]] : make_float2(INFINITY, 0.0f);
            lse[i] = statistics.x;
            delta[i] = statistics.y;
            limit[i] = first + r / ratio;
            q_row[i] = there ? (const uint16_t *)g.q + pair[i] * D : NULL;
            d_out_row[i] = there ? (const uint16_t *)g.d_out + pair[i] * D : NULL;
        }
        q.fill(q_row[0], q_row[1]);
        d_out.fill(d_out_row[0], d_out_row[1]);
    }
    float dq[D / 8][4];
#pragma unroll
    for (int i = 0; i < D / 8; i++)
        dq[i][0] = dq[i][1] = dq[i][2] = dq[i][3] = 0.0f;

    for (int chunk = first_chunk; chunk < n_chunks; chunk++) {
        const int k_tile = (chunk & 1) * PAIR, v_tile = k_tile + TILE;
        copy_async_wait<0>();
        __syncthreads(); /* this chunk is there, and everyone is done with the other pair */
        if (chunk + 1 < n_chunks) {
            uint16_t *to = tiles + (k_tile ^ PAIR);
            tile_load_keys<D, false>(to, to + TILE, g.k, g.v, head_at, stride, seq.boundary, next_rows, chunk + 1, end);
            copy_async_commit();
            if (chunk + 2 < n_chunks)
                next_rows = chunks[chunk + 2];
        }
        const bool masked = chunk * ATTENTION_CHUNK + ATTENTION_CHUNK - 1 > first || chunk * ATTENTION_CHUNK < all_from;
#pragma unroll 1
        for (int slice = 0; slice < ATTENTION_CHUNK; slice += SLICE) {
            float s[SLICE / 8][4], ds[SLICE / 8][4];
#pragma unroll
            for (int i = 0; i < SLICE / 8; i++)
#pragma unroll
                for (int e = 0; e < 4; e++)
                    s[i][e] = ds[i][e] = 0.0f;
#pragma unroll
            for (int step = 0; step < D / 16; step++)
#pragma unroll
                for (int i = 0; i < SLICE / 16; i++) {
                    uint32_t b[4];
                    tile_load_b<D>(b, tiles, k_tile + slice * D, i, step);
                    mma_bf16(s[2 * i], q.a[step], b[0], b[1]);
                    mma_bf16(s[2 * i + 1], q.a[step], b[2], b[3]);
                    tile_load_b<D>(b, tiles, v_tile + slice * D, i, step);
                    mma_bf16(ds[2 * i], d_out.a[step], b[0], b[1]);
                    mma_bf16(ds[2 * i + 1], d_out.a[step], b[2], b[3]);
                }
#pragma unroll
            for (int i = 0; i < SLICE / 8; i++)
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    float p = exp2_approximate(fmaf(s[i][e], g.scale_log2, -lse[e >> 1]));
                    if (masked) {
                        const int position = chunk * ATTENTION_CHUNK + slice + 8 * i + 2 * (lane & 3) + (e & 1);
                        p = attention_sees(limit[e >> 1] - position, g.reach) ? p : 0.0f;
                    }
                    ds[i][e] = p * (ds[i][e] - delta[e >> 1]);
                }
#pragma unroll
            for (int i = 0; i < SLICE / 16; i++) {
                uint32_t a[4];
                sums_to_a(a, ds[2 * i], ds[2 * i + 1]);
#pragma unroll
                for (int step = 0; step < D / 16; step++) {
                    uint32_t b[4];
                    tile_load_b_transposed<D>(b, tiles, k_tile + slice * D, step, i);
                    mma_bf16(dq[2 * step], a, b[0], b[1]);
                    mma_bf16(dq[2 * step + 1], a, b[2], b[3]);
                }
            }
        }
    }
#pragma unroll
    for (int i = 0; i < 2; i++)
        if (pair[i] >= 0) {
            float *to = g.dq + pair[i] * D + 2 * (lane & 3);
#pragma unroll
            for (int j = 0; j < D / 8; j++)
                *(float2 *)(to + 8 * j) = make_float2(dq[j][2 * i] * g.scale, dq[j][2 * i + 1] * g.scale);
        }
}

/* The rows that see a key item, tile by tile. */
struct row_walk {
    int seq, query; /* queries query .. of this sequence come next; seq = end: no more */
};

static __device__ __forceinline__ void walk_settle(struct row_walk &w, const struct gradient &g,
                                                   const struct cuda_key_item &item)
{
    while (w.seq < item.seq_end && w.query >= gradient_end_query(g, item, w.seq)) {
        w.seq++;
        w.query = w.seq < item.seq_end ? gradient_first_query(g, item, w.seq) : 0;
    }
}

template <int D> static __global__ void __launch_bounds__(TILE_THREADS, 2) gradient_of_keys(const struct gradient g)
{
    DYNAMIC_SHARED(memory);
    constexpr int TILE = ROWS * D, PAIR = 2 * TILE, PIECES = D / 8;
    uint16_t *tiles = (uint16_t *)memory;                 /* k, v, two pairs of a q and a d_out tile */
    float2 *statistics = (float2 *)(tiles + 3 * PAIR);    /* [2][ROWS] */
    int32_t *offset = (int32_t *)(statistics + 2 * ROWS); /* [ROWS] r / R * H + r % R */
    int32_t *query = offset + ROWS;                       /* [ROWS] r / R */
    const struct cuda_key_item item = g.key_items[blockIdx.x / g.n_kv_heads];
    const int kv_head = (int)(blockIdx.x % g.n_kv_heads), ratio = g.ratio, tile_queries = ROWS / ratio;
    const struct gradient_keys keys = gradient_keys_of(g, item);
    if (keys.begin >= keys.end)
        return;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int piece = threadIdx.x % PIECES, first_row = threadIdx.x / PIECES;
    const int chunk_begin = item.chunk * ATTENTION_CHUNK;

    for (int j = first_row; j < ROWS; j += TILE_THREADS / PIECES) {
        const bool valid = chunk_begin + j >= keys.begin && chunk_begin + j < keys.end;
        const int64_t at = valid ? ((keys.row + chunk_begin + j) * g.n_kv_heads + kv_head) * D + piece * 8 : 0;
        uint16_t *to = tiles + tile_at<D>(j, piece);
        copy_async16(to, (const uint16_t *)g.k + at, valid);
        copy_async16(to + TILE, (const uint16_t *)g.v + at, valid);
    }
    if (threadIdx.x < ROWS) {
        const int r = threadIdx.x;
        offset[r] = r / ratio * g.n_heads + r % ratio;
        query[r] = r / ratio;
    }
    __syncthreads();

    /* Starts copying a tile to pair number buffer; returns the statistics of row threadIdx.x. */
    const auto fetch = [&](const struct row_walk &w, int buffer) {
        const struct cuda_seq &seq = g.seqs[w.seq];
        const int n_queries = min(gradient_end_query(g, item, w.seq) - w.query, tile_queries),
                  n_rows = n_queries * ratio;
        const int64_t base = ((int64_t)seq.query_row + w.query) * g.n_heads + kv_head * ratio;
        uint16_t *to = tiles + (1 + buffer) * PAIR + tile_at<D>(first_row, piece);
#pragma unroll
        for (int i = 0; i < ROWS / (TILE_THREADS / PIECES); i++) {
            const int step = i * (TILE_THREADS / PIECES), r = first_row + step; /* step % 8 = 0 */
            const bool valid = r < n_rows;
            const int64_t at = valid ? (base + offset[r]) * D + piece * 8 : 0;
            copy_async16(to + step * D, (const uint16_t *)g.q + at, valid);
            copy_async16(to + step * D + TILE, (const uint16_t *)g.d_out + at, valid);
        }
        copy_async_commit();
        /* lse infinite: p = 0 */
        return (int)threadIdx.x < n_rows ? g.statistics[base + offset[threadIdx.x]] : make_float2(INFINITY, 0.0f);
    };

    const rows_in_tile<D> k_rows = {tiles, warp * WARP_ROWS * D}, v_rows = {tiles, TILE + warp * WARP_ROWS * D};
    float dk[D / 8][4], dv[D / 8][4];
#pragma unroll
    for (int i = 0; i < D / 8; i++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            dk[i][e] = dv[i][e] = 0.0f;

    struct row_walk walk = {item.seq_begin, gradient_first_query(g, item, item.seq_begin)};
    walk_settle(walk, g, item);
    float2 next_statistics = make_float2(INFINITY, 0.0f);
    if (walk.seq < item.seq_end)
        next_statistics = fetch(walk, 0);
    for (int buffer = 0; walk.seq < item.seq_end; buffer ^= 1) {
        const int q_tile = (1 + buffer) * PAIR, o_tile = q_tile + TILE;
        const float2 *tile_statistics = statistics + buffer * ROWS;
        if (threadIdx.x < ROWS)
            statistics[buffer * ROWS + threadIdx.x] = next_statistics;
        copy_async_wait<0>();
        __syncthreads(); /* this tile is there, and everyone is done with the other pair */
        const struct cuda_seq &seq = g.seqs[walk.seq];
        const int n_queries = min(gradient_end_query(g, item, walk.seq) - walk.query, tile_queries);
        const int n_rows = n_queries * ratio;
        const bool own = walk.seq == item.seq;
        /* A row sees keys up to limit (+ its query, if the keys are its own sequence's). */
        const int limit = own ? seq.first_position + walk.query : seq.first_position - 1;
        /* And no key farther before its own position, which is that of the tile's first query (+ its query). */
        const int own_position = seq.first_position + walk.query;
        const bool masked = keys.end - 1 > limit || own_position + n_queries - 1 - keys.begin > g.reach;
        walk.query += tile_queries;
        walk_settle(walk, g, item);
        if (walk.seq < item.seq_end)
            next_statistics = fetch(walk, buffer ^ 1);

#pragma unroll 1
        for (int slice = 0; slice < n_rows; slice += SLICE) {
            float p[SLICE / 8][4], ds[SLICE / 8][4]; /* transposed: [16 keys, SLICE rows] */
#pragma unroll
            for (int i = 0; i < SLICE / 8; i++)
#pragma unroll
                for (int e = 0; e < 4; e++)
                    p[i][e] = ds[i][e] = 0.0f;
#pragma unroll
            for (int step = 0; step < D / 16; step++) {
                uint32_t k[4], v[4];
                k_rows.load(k, step);
                v_rows.load(v, step);
#pragma unroll
                for (int i = 0; i < SLICE / 16; i++) {
                    uint32_t b[4];
                    tile_load_b<D>(b, tiles, q_tile + slice * D, i, step);
                    mma_bf16(p[2 * i], k, b[0], b[1]);
                    mma_bf16(p[2 * i + 1], k, b[2], b[3]);
                    tile_load_b<D>(b, tiles, o_tile + slice * D, i, step);
                    mma_bf16(ds[2 * i], v, b[0], b[1]);
                    mma_bf16(ds[2 * i + 1], v, b[2], b[3]);
                }
            }
#pragma unroll
            for (int i = 0; i < SLICE / 8; i++) {
                const int r = slice + 8 * i + 2 * (lane & 3); /* rows r and r + 1 */
                const float4 both = *(const float4 *)(tile_statistics + r);
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    float x = exp2_approximate(fmaf(p[i][e], g.scale_log2, e & 1 ? -both.z : -both.x));
                    if (masked) {
                        const int position = chunk_begin + warp * WARP_ROWS + (lane >> 2) + 8 * (e >> 1);
                        const int q = query[r + (e & 1)];
                        x = position <= limit + (own ? q : 0) && own_position + q - position <= g.reach ? x : 0.0f;
                    }
                    p[i][e] = x;
                    ds[i][e] = x * (ds[i][e] - (e & 1 ? both.w : both.y));
                }
            }
#pragma unroll
            for (int i = 0; i < SLICE / 16; i++) {
                uint32_t a[4], b[4];
                sums_to_a(a, p[2 * i], p[2 * i + 1]);
#pragma unroll
                for (int step = 0; step < D / 16; step++) {
                    tile_load_b_transposed<D>(b, tiles, o_tile + slice * D, step, i);
                    mma_bf16(dv[2 * step], a, b[0], b[1]);
                    mma_bf16(dv[2 * step + 1], a, b[2], b[3]);
                }
                sums_to_a(a, ds[2 * i], ds[2 * i + 1]);
#pragma unroll
                for (int step = 0; step < D / 16; step++) {
                    tile_load_b_transposed<D>(b, tiles, q_tile + slice * D, step, i);
                    mma_bf16(dk[2 * step], a, b[0], b[1]);
                    mma_bf16(dk[2 * step + 1], a, b[2], b[3]);
                }
            }
        }
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int position = chunk_begin + warp * WARP_ROWS + (lane >> 2) + 8 * i;
        if (position < keys.begin || position >= keys.end)
            continue;
        const int64_t at = ((keys.row + position) * g.n_kv_heads + kv_head) * D + 2 * (lane & 3);
#pragma unroll
        for (int j = 0; j < D / 8; j++) {
            float2 *to_k = (float2 *)(g.dk + at + 8 * j), *to_v = (float2 *)(g.dv + at + 8 * j);
            const float2 old_k = *to_k, old_v = *to_v;
            *to_k = make_float2(fmaf(dk[j][2 * i], g.scale, old_k.x), fmaf(dk[j][2 * i + 1], g.scale, old_k.y));
            *to_v = make_float2(old_v.x + dv[j][2 * i], old_v.y + dv[j][2 * i + 1]);
        }
    }
}

/* lse in base 2 and delta of each (token, head), D / 8 lanes each. */
template <int D> static __global__ void __launch_bounds__(256) gradient_statistics(const struct gradient g)
{
    const int64_t thread = (int64_t)blockIdx.x * 256 + threadIdx.x, pair = thread / (D / 8);
    const int part = (int)(thread % (D / 8));
    float sum = 0.0f;
    if (pair < g.n_pairs) {
        const int64_t at = pair * D + part * 8;
        const uint4 out = *(const uint4 *)((const uint16_t *)g.out + at);
        const uint4 d_out = *(const uint4 *)((const uint16_t *)g.d_out + at);
        const uint32_t x[4] = {out.x, out.y, out.z, out.w}, dx[4] = {d_out.x, d_out.y, d_out.z, d_out.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            sum = fmaf(__uint_as_float(x[i] << 16), __uint_as_float(dx[i] << 16), sum);
            sum = fmaf(__uint_as_float(x[i] & 0xffff0000u), __uint_as_float(dx[i] & 0xffff0000u), sum);
        }
    }
#pragma unroll
    for (int o = D / 16; o > 0; o >>= 1)
        sum += __shfl_xor_sync(0xffffffffu, sum, o);
    if (pair < g.n_pairs && part == 0)
        g.statistics[pair] = make_float2(g.lse[pair] * ATTENTION_LOG2_E, sum);
}

template <int D> static void run(struct cuda_state *s, const struct gradient *g)
{
    const size_t pair_bytes = (size_t)2 * ROWS * D * sizeof(uint16_t);
    const size_t queries_bytes = 2 * pair_bytes;
    const size_t keys_bytes = 3 * pair_bytes + 2 * ROWS * (sizeof(float2) + sizeof(int32_t));
    const struct cuda_attention *plan = &s->attention;
    LAUNCH((gradient_statistics<D>), (unsigned)((g->n_pairs * (D / 8) + 255) / 256), 256, 0, s->stream, *g);
    ALLOW_SHARED((gradient_of_queries<D>), queries_bytes);
    ALLOW_SHARED((gradient_of_keys<D>), keys_bytes);
    if (plan->max_items > 0)
        LAUNCH((gradient_of_queries<D>), (unsigned)((int64_t)plan->max_items * g->n_kv_heads), TILE_THREADS,
               queries_bytes, s->stream, *g);
    if (plan->n_key_items > 0)
        LAUNCH((gradient_of_keys<D>), (unsigned)((int64_t)plan->n_key_items * g->n_kv_heads), TILE_THREADS, keys_bytes,
               s->stream, *g);
}

extern "C" size_t cuda_attention_gradient_scratch(int64_t tokens, int32_t n_heads)
{
    return (size_t)(tokens * n_heads) * sizeof(float2);
}

extern "C" void cuda_attention_backward(struct backend *backend, const struct attention_backward *p)
{
    struct cuda_state *s = cuda_state_of(backend);
    const struct attention_forward *f = &p->forward;
    const struct cuda_attention *plan = &s->attention;
    if (plan->n_tokens == 0)
        return;
    struct gradient g = {};
    g.seqs = plan->seqs;
    g.chunks = plan->chunks;
    g.items = plan->items;
    g.n_items = plan->n_items;
    g.key_items = plan->key_items;
    g.n_pairs = (int64_t)plan->n_tokens * f->n_heads;
    g.n_heads = f->n_heads;
    g.n_kv_heads = f->n_kv_heads;
    g.ratio = f->n_heads / f->n_kv_heads;
    g.head_dim = f->head_dim;
    g.reach = attention_reach(f->window);
    g.scale = f->scale;
    g.scale_log2 = f->scale * ATTENTION_LOG2_E;
    g.q = f->q;
    g.k = f->k;
    g.v = f->v;
    g.out = f->out;
    g.lse = f->lse;
    g.d_out = p->d_out;
    g.dq = p->dq;
    g.dk = p->dk;
    g.dv = p->dv;
    g.statistics = (float2 *)cuda_scratch(backend, cuda_attention_gradient_scratch(plan->n_tokens, f->n_heads));
    if (!g.statistics)
        return;

    if (f->act == DTYPE_BF16 && f->head_dim == 128 && g.ratio <= CUDA_TILE)
        run<128>(s, &g);
    else if (f->act == DTYPE_BF16 && f->head_dim == 64 && g.ratio <= CUDA_TILE)
        run<64>(s, &g);
    else
        cuda_attention_gradient_plain(s, &g, f->act);
    cuda_note(backend, "attention_backward", cudaSuccess);
}

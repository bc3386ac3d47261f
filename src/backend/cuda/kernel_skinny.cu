/* Products of few rows, y[m, n] = x[m, k] . w[n, k]^T with m up to 64, in bf16: decoding reads
 * every weight once a step, so what counts is that all memory channels are busy all the time and
 * that a product starts and ends quickly.
 *
 * Order of sums (invariant I2). Every output element is one chain of matrix instructions over
 * ascending k in steps of 16 in one fp32 accumulator, as in cuBLASLt's kernels without split-K
 * (columns beyond k are zeros in both factors). So k is never divided between warps; warps divide
 * the rows of w.
 *
 * Two kernels. Where a warp gets one tile and its weights fit in shared memory, resident_kernel
 * (below, "All of k at once"); else skinny_kernel:
 *
 * A warp owns tiles of 8 or 16 weight rows and a ring of stages of its own in shared memory, each
 * stage STAGE_K columns of its rows. It refills a stage as soon as it has read it, for the next
 * tile too, without a word to other warps. The activations x lie in shared memory for the whole
 * launch (loaded by helper warps while the first weights are on their way) or, where they do not
 * fit, come in the same stages; then the block's warps go in step.
 *
 * Weights are the matrix instruction's 16 x 16 factor, tokens its 16 x 8 factor. A tile of 8 rows
 * gives the same rows to both halves of the factor: 1,024 weight rows are then 128 tiles, about one
 * for each multiprocessor, where one instruction's latency a step of k is the limit, not their
 * number. */
#include "backend/cuda/kernel_skinny.h"

#include "backend/cuda/cuda_device.cuh"

enum {
    STAGE_K = 128,           /* columns of a stage */
    ROW_BYTES = STAGE_K * 2, /* of a row in a stage */
    PAIRS = STAGE_K / 32,    /* of steps of 16 columns, in a stage */
    CHUNKS = ROW_BYTES / 16, /* what one copy moves, in a row of a stage */
    MAX_WARPS = 8,
    MAX_TOKENS = 64,    /* m */
    MAX_SIZE = 1 << 24, /* n, k: indices of tiles and stages are 32 bits */
};

/* Warps that load x, where it is not staged. With many tokens the others need the registers (more
 * than 8 warps leave 168 each) and load it themselves. */
template <int TOKENS, bool STAGED> static constexpr int helpers = STAGED || TOKENS > 2 ? 0 : 4;

/* What a launch works on. */
struct skinny_product {
    const uint16_t *w, *x; /* [n, k], [m, k] */
    void *y;               /* [m, n], rows y_stride elements apart */
    int64_t y_stride;
    int m, n, k, n_stages, n_tiles, warps;
    bool y_f32, accumulate;
};

/* Where chunk c of a row lies: neighbouring rows in different banks, so that the 8 rows that a
 * matrix load reads at once do not collide. */
static __device__ __forceinline__ int chunk_at(int row, int c)
{
    return row * ROW_BYTES + ((c ^ (row & 7)) << 4);
}

/* ROWS 8 or 16; TOKENS tiles of 8 tokens. Two steps of 16 columns. */
template <int ROWS, int TOKENS> struct skinny_fragments {
    uint32_t a[ROWS / 8 * 4];
    uint32_t b[TOKENS][4];
};

/* Where a lane's part of the next stage of weights comes from: chunk lane % CHUNKS of every second
 * row from lane / CHUNKS on. Rows beyond n are those of row n - 1: not stored. */
template <int ROWS> struct skinny_source {
    const uint16_t *from[ROWS / 2];
    int tile, stage, column; /* column: of the lane's chunk */
};

template <int ROWS>
static __device__ __forceinline__ void begin_tile(const skinny_product &p, skinny_source<ROWS> &s,
                                                  int tile)
{
    const int lane = (int)(threadIdx.x & 31);
    s.tile = tile;
    s.stage = 0;
    s.column = lane % CHUNKS * 8;
#pragma unroll
    for (int i = 0; i < ROWS / 2; i++) {
        const int row = min(tile * ROWS + 2 * i + lane / CHUNKS, p.n - 1);
        s.from[i] = p.w + (int64_t)row * p.k + s.column;
    }
}

/* Asks for the next stage of the warp's weights and goes on, to the tile stride further behind the
 * last stage of one. to[j]: where in a stage the lane's chunk of row 2 * j + lane / CHUNKS lies; 8
 * rows further the banks are the same. */
template <int ROWS>
static __device__ __forceinline__ void copy_weights(const skinny_product &p, unsigned char *slot,
                                                    const int (&to)[4], skinny_source<ROWS> &s,
                                                    int stride)
{
    const bool valid = s.column < p.k;
#pragma unroll
    for (int i = 0; i < ROWS / 2; i++) {
        copy_async16(slot + to[i % 4] + i / 4 * (8 * ROW_BYTES), s.from[i], valid);
        s.from[i] += STAGE_K;
    }
    s.column += STAGE_K;
    if (__builtin_expect(++s.stage == p.n_stages, 0))
        begin_tile(p, s, s.tile + stride);
}

/* Asks for a stage of x, shared among count threads. */
static __device__ __forceinline__ void copy_stage(const skinny_product &p, unsigned char *slot,
                                                  int stage, int thread, int count)
{
    for (int i = thread; i < p.m * CHUNKS; i += count) {
        const int row = i / CHUNKS, chunk = i % CHUNKS;
        const int column = stage * STAGE_K + chunk * 8;
        const bool valid = column < p.k;
        copy_async16(slot + chunk_at(row, chunk), valid ? p.x + (int64_t)row * p.k + column : p.x,
                     valid);
    }
}

/* Asks for all of x. */
static __device__ __forceinline__ void copy_tokens(const skinny_product &p, unsigned char *tokens,
                                                   int thread, int count)
{
    for (int row = 0; row < p.m; row++)
        for (int i = thread; i < p.n_stages * CHUNKS; i += count) {
            const int column = i * 8;
            const bool valid = column < p.k;
            copy_async16(tokens + i / CHUNKS * (p.m * ROW_BYTES) + chunk_at(row, i % CHUNKS),
                         valid ? p.x + (int64_t)row * p.k + column : p.x, valid);
        }
}

/* The fragments of columns 32 * pair .. + 32 of a stage. row_at and token_at[t] say where in a
 * stage the lane's row of pair 0 (and step 0) lies: another pair or step is another chunk of the
 * same row, so other bits below the row's. */
template <int ROWS, int TOKENS>
static __device__ __forceinline__ void
load_fragments(skinny_fragments<ROWS, TOKENS> &f, const unsigned char *weights, int row_at,
               const unsigned char *tokens, const int (&token_at)[TOKENS], int pair)
{
    const int other = pair % 2 * 64, far = pair / 2 * 128;
#pragma unroll
    for (int step = 0; step < ROWS / 8; step++)
        load_matrix4(f.a + 4 * step, weights + (row_at ^ other ^ step * 32) + far);
#pragma unroll
    for (int t = 0; t < TOKENS; t++)
        load_matrix4(f.b[t], tokens + (token_at[t] ^ other) + far);
}

template <int ROWS, int TOKENS>
static __device__ __forceinline__ void multiply(float (&sum)[TOKENS][4],
                                                const skinny_fragments<ROWS, TOKENS> &f, int step)
{
    uint32_t a[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
        a[i] = ROWS == 8 ? f.a[2 * step + i / 2] : f.a[(4 * step + i) % (ROWS / 8 * 4)];
#pragma unroll
    for (int t = 0; t < TOKENS; t++)
        mma_bf16(sum[t], a, f.b[t][2 * step], f.b[t][2 * step + 1]);
}

/* Element i of a lane's part of an accumulator is weight row lane / 4 (+ 8 from i = 2), token
 * lane % 4 * 2 + i % 2. Its place in y, or -1 where the tile hangs over. */
template <int ROWS>
static __device__ __forceinline__ int64_t place(const skinny_product &p, int tile, int t, int i)
{
    const int lane = (int)(threadIdx.x & 31);
    const int row = tile * ROWS + lane / 4 + i / 2 * 8;
    const int token = t * 8 + lane % 4 * 2 + i % 2;
    return row < p.n && token < p.m ? token * p.y_stride + row : -1;
}

template <int ROWS, int TOKENS, bool STAGED, int DEPTH>
static __global__ void __launch_bounds__(32 * (MAX_WARPS + helpers<TOKENS, STAGED>))
    skinny_kernel(const skinny_product p)
{
    DYNAMIC_SHARED(shared);
    constexpr int SLOT = ROWS * ROW_BYTES;
    constexpr int USED = ROWS / 4; /* elements of a lane's part: rows 8 .. of a tile of 8 repeat */
    constexpr bool EARLY = TOKENS <= 2; /* y is read at a tile's start; else registers are short */
    constexpr int HELPERS = helpers<TOKENS, STAGED>;
    constexpr bool ALONE = !STAGED && HELPERS == 0;
    const int lane = (int)(threadIdx.x & 31), warp = (int)(threadIdx.x / 32);
    const int token_bytes = p.m * ROW_BYTES;
    unsigned char *const tokens = shared + p.warps * (DEPTH * SLOT);
    unsigned char *const ring = shared + warp * (DEPTH * SLOT);
    const int first = (int)blockIdx.x * p.warps + warp;
    const int stride = (int)gridDim.x * p.warps;

    start_dependents();
    const bool helper = HELPERS > 0 && warp >= p.warps;
    if (ALONE || helper) {
        wait_for_ahead();
        copy_tokens(p, tokens, (int)threadIdx.x - (helper ? 32 * p.warps : 0),
                    32 * (helper ? HELPERS : p.warps));
        copy_async_commit();
    }

    /* Warps that go in step go equally often; those without a tile left do not store. */
    const int tiles = STAGED ? (p.n_tiles + stride - 1) / stride
                             : (first < p.n_tiles ? (p.n_tiles - 1 - first) / stride + 1 : 0);
    const int total = helper ? 0 : tiles * p.n_stages;
    int to[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
        to[i] = chunk_at(2 * i + lane / CHUNKS, lane % CHUNKS);
    skinny_source<ROWS> source;
    begin_tile(p, source, first);
    if (STAGED)
        wait_for_ahead();
#pragma unroll 1
    for (int i = 0; i < DEPTH; i++) {
        if (i < total) {
            if (STAGED)
                copy_stage(p, tokens + i * token_bytes, source.stage, (int)threadIdx.x,
                           (int)blockDim.x);
            copy_weights<ROWS>(p, ring + i * SLOT, to, source, stride);
        }
        copy_async_commit();
    }
    wait_for_ahead();
    if (helper)
        copy_async_wait<0>();
    else
        copy_async_wait<DEPTH - 1>(); /* its first stage, and its part of x */
    if (HELPERS > 0 || ALONE || STAGED)
        __syncthreads(); /* x is there */
    if (total == 0)
        return;

    const int row_at = ROWS == 8 ? chunk_at(lane & 7, lane / 8) : chunk_at(lane & 15, lane / 16);
    int token_at[TOKENS]; /* tokens beyond m are token m - 1: not stored */
#pragma unroll
    for (int t = 0; t < TOKENS; t++)
        token_at[t] = chunk_at(min(t * 8 + (lane & 7), p.m - 1), lane / 8);
    skinny_fragments<ROWS, TOKENS> fragments[2];
    float sum[TOKENS][4] = {}, before[EARLY ? TOKENS : 1][USED] = {};
    int tile = first;
    int stage = 0, slot = 0;
    load_fragments<ROWS, TOKENS>(fragments[0], ring, row_at, tokens, token_at, 0);
#pragma unroll 1
    for (int done = 0; done < total; done++) {
        unsigned char *const weights = ring + slot * SLOT;
        unsigned char *const x = tokens + (STAGED ? slot : stage) * token_bytes;
        if (EARLY && stage == 0 && p.accumulate) {
#pragma unroll
            for (int t = 0; t < TOKENS; t++)
#pragma unroll
                for (int i = 0; i < USED; i++) {
                    const int64_t at = place<ROWS>(p, tile, t, i);
                    before[EARLY ? t : 0][i] = at >= 0 ? ((const float *)p.y)[at] : 0.0f;
                }
        }
#pragma unroll
        for (int pair = 0; pair < PAIRS - 1; pair++) {
            load_fragments<ROWS, TOKENS>(fragments[(pair + 1) & 1], weights, row_at, x, token_at,
                                         pair + 1);
            multiply<ROWS, TOKENS>(sum, fragments[pair & 1], 0);
            multiply<ROWS, TOKENS>(sum, fragments[pair & 1], 1);
        }
        /* The last pair: the stage is read, so its place is given to a later one, and the next
         * stage must have come. */
        const int next_slot = (slot + 1) % DEPTH;
        const int next_stage = stage + 1 == p.n_stages ? 0 : stage + 1;
        copy_async_wait<DEPTH - 2>();
        if (STAGED)
            __syncthreads();
        else
            __syncwarp();
        if (done + 1 < total)
            load_fragments<ROWS, TOKENS>(fragments[PAIRS & 1], ring + next_slot * SLOT, row_at,
                                         tokens + (STAGED ? next_slot : next_stage) * token_bytes,
                                         token_at, 0);
        multiply<ROWS, TOKENS>(sum, fragments[(PAIRS - 1) & 1], 0);
        if (done + DEPTH < total) {
            if (STAGED)
                copy_stage(p, x, source.stage, (int)threadIdx.x, (int)blockDim.x);
            copy_weights<ROWS>(p, weights, to, source, stride);
        }
        copy_async_commit();
        multiply<ROWS, TOKENS>(sum, fragments[(PAIRS - 1) & 1], 1);
        if (next_stage == 0) {
#pragma unroll
            for (int t = 0; t < TOKENS; t++)
#pragma unroll
                for (int i = 0; i < USED; i++) {
                    const int64_t at = place<ROWS>(p, tile, t, i);
                    if (at < 0)
                        continue;
                    if (!p.y_f32) {
                        ((uint16_t *)p.y)[at] = float_to_bf16(sum[t][i]);
                    } else {
                        float *const y = (float *)p.y + at;
                        const float old =
                            EARLY ? before[EARLY ? t : 0][i] : (p.accumulate ? *y : 0.0f);
                        *y = p.accumulate ? old + sum[t][i] : sum[t][i];
                    }
                }
#pragma unroll
            for (int t = 0; t < TOKENS; t++)
#pragma unroll
                for (int i = 0; i < 4; i++)
                    sum[t][i] = 0.0f;
            tile += stride;
        }
        slot = next_slot;
        stage = next_stage;
    }
}

/* ---- All of k at once ---- */

/* Where little has to be read (a warp's one tile, all of k, in shared memory at once), time is
 * latency: that of launching, of x, which the kernel ahead writes, and of the chain over k. So the
 * threads of a block together ask for all of its weights before anything else, in GROUPS parts in
 * order of k, and what follows x's arrival is the chain and little else: no ring, fragments loaded
 * four steps before they are used and as the matrix instruction wants them. (A tile of 8 rows
 * gives each row to the instruction twice, which costs bandwidth of shared memory: it is for
 * matrices of so few rows that a multiprocessor has one warp. Small code: much of it comes from
 * memory at every launch.)
 *
 * Rows lie row_bytes apart: 16 bytes more than they hold, so that matrix loads do not collide. */
enum { GROUPS = 4, LEAST_WARPS = 4 /* that copy, of a block */ };

template <int TOKENS> struct resident_fragments {
    uint32_t a[4][4]; /* of four steps of 16 columns */
    uint32_t b[2][TOKENS][4];
};

static __host__ __device__ __forceinline__ int resident_row_bytes(int64_t k)
{
    return (int)k * 2 + 16;
}

/* Asks for the weights of the block's rows, every warp for every warps-th row. */
template <int ROWS>
static __device__ __forceinline__ void
copy_resident(const skinny_product &p, unsigned char *weights, int row_bytes, int group_chunks)
{
    const int lane = (int)(threadIdx.x & 31), warp = (int)(threadIdx.x / 32);
    const int warps = (int)(blockDim.x / 32);
    const int first = (int)blockIdx.x * p.warps * ROWS;
    const int rows = min(p.warps * ROWS, p.n - first); /* others: whatever is there, not stored */
    const int64_t step = (int64_t)warps * p.k;
    const uint16_t *const corner = p.w + (int64_t)(first + warp) * p.k;
    unsigned char *const to_corner = weights + warp * row_bytes;
#pragma unroll 1
    for (int group = 0; group < GROUPS; group++) {
        const int end = min((group + 1) * group_chunks, p.k / 8);
#pragma unroll 1
        for (int chunk = group * group_chunks + lane; chunk < end; chunk += 32) {
            const uint16_t *from = corner + chunk * 8;
            unsigned char *to = to_corner + chunk * 16;
#pragma unroll 4
            for (int row = warp; row < rows; row += warps) {
                copy_async16(to, from, true);
                from += step;
                to += warps * row_bytes;
            }
        }
        copy_async_commit();
    }
}

/* x, which is one piece of memory, into rows. Read past the first-level cache: the kernel that
 * wrote it may have run while this one was already there. */
static __device__ __forceinline__ void load_tokens(const skinny_product &p, unsigned char *tokens,
                                                   int row_bytes)
{
    enum { AT_ONCE = 4 };
    const int chunks = p.k / 8, total = p.m * chunks, threads = (int)blockDim.x;
#pragma unroll 1
    for (int begin = (int)threadIdx.x; begin < total; begin += AT_ONCE * threads) {
        uint4 x[AT_ONCE];
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++)
            if (begin + i * threads < total)
                x[i] = load_past_l1((const uint4 *)p.x + begin + i * threads);
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) {
            const int at = begin + i * threads;
            const int row = p.m == 1 ? 0 : (int)((unsigned)at / (unsigned)chunks);
            if (at < total)
                *(uint4 *)(tokens + row * row_bytes + (at - row * chunks) * 16) = x[i];
        }
    }
}

/* Waits for the next of the groups of weights: every thread has committed GROUPS of them and one
 * of nothing for each that it waited for. Every thread of the block. */
static __device__ __forceinline__ void wait_for_group()
{
    copy_async_wait<GROUPS - 1>();
    copy_async_commit();
    __syncthreads();
}

/* Columns 64 * half .. + 64 behind the lane's places. */
template <int TOKENS>
static __device__ __forceinline__ void
load_resident(resident_fragments<TOKENS> &f, const unsigned char *row,
              const unsigned char *const (&token)[TOKENS], int half)
{
#pragma unroll
    for (int i = 0; i < 2; i++) {
        load_matrix4(f.a[2 * i], row + half * 128 + i * 64);
#pragma unroll
        for (int t = 0; t < TOKENS; t++)
            load_matrix4(f.b[i][t], token[t] + half * 128 + i * 64);
        load_matrix4(f.a[2 * i + 1], row + half * 128 + i * 64 + 32);
    }
}

template <int TOKENS>
static __device__ __forceinline__ void multiply_resident(float (&sum)[TOKENS][4],
                                                         const resident_fragments<TOKENS> &f)
{
#pragma unroll
    for (int step = 0; step < 4; step++)
#pragma unroll
        for (int t = 0; t < TOKENS; t++)
            mma_bf16(sum[t], f.a[step], f.b[step / 2][t][step % 2 * 2],
                     f.b[step / 2][t][step % 2 * 2 + 1]);
}

template <int ROWS, int TOKENS>
static __global__ void __launch_bounds__(32 * MAX_WARPS) resident_kernel(const skinny_product p)
{
    DYNAMIC_SHARED(shared);
    constexpr int USED = ROWS / 4; /* elements of a lane's part: rows 8 .. of a tile of 8 repeat */
    const int lane = (int)(threadIdx.x & 31), warp = (int)(threadIdx.x / 32);
    const int row_bytes = resident_row_bytes(p.k);
    const int group_stages = (p.n_stages + GROUPS - 1) / GROUPS;
    unsigned char *const tokens = shared + p.warps * ROWS * row_bytes;

    start_dependents();
    copy_resident<ROWS>(p, shared, row_bytes, group_stages * CHUNKS);
    /* Where the lane's rows for the matrix loads are: tokens beyond m are token m - 1, not stored.
     */
    const unsigned char *row =
        shared + (warp * ROWS + (lane & (ROWS - 1))) * row_bytes + lane / 16 * 16;
    const unsigned char *token[TOKENS];
#pragma unroll
    for (int t = 0; t < TOKENS; t++)
        token[t] = tokens + min(t * 8 + (lane & 7), p.m - 1) * row_bytes + lane / 8 * 16;
    const int tile = (int)blockIdx.x * p.warps + warp;

    wait_for_ahead();
    load_tokens(p, tokens, row_bytes);
    float before[TOKENS][USED] = {};
    if (p.accumulate && warp < p.warps) {
#pragma unroll
        for (int t = 0; t < TOKENS; t++)
#pragma unroll
            for (int i = 0; i < USED; i++) {
                const int64_t at = place<ROWS>(p, tile, t, i);
                before[t][i] = at >= 0 ? ((const float *)p.y)[at] : 0.0f;
            }
    }
    wait_for_group();
    if (warp >= p.warps) { /* only copied */
        for (int next = group_stages; next < p.n_stages; next += group_stages)
            wait_for_group();
        return;
    }

    /* A stage's halves: one comes while the other is multiplied. */
    resident_fragments<TOKENS> halves[2];
    float sum[TOKENS][4] = {};
    load_resident<TOKENS>(halves[0], row, token, 0);
    int left = group_stages; /* of the group's stages, those not loaded yet and the one at hand */
#pragma unroll 1
    for (int next = 1; next <= p.n_stages; next++) {
        load_resident<TOKENS>(halves[1], row, token, 1);
        multiply_resident<TOKENS>(sum, halves[0]);
        const int ahead = next < p.n_stages ? ROW_BYTES : 0; /* the last again, for nothing */
        row += ahead;
#pragma unroll
        for (int t = 0; t < TOKENS; t++)
            token[t] += ahead;
        if (--left == 0 && next < p.n_stages) {
            wait_for_group();
            left = group_stages;
        }
        load_resident<TOKENS>(halves[0], row, token, 0);
        multiply_resident<TOKENS>(sum, halves[1]);
    }
#pragma unroll
    for (int t = 0; t < TOKENS; t++)
#pragma unroll
        for (int i = 0; i < USED; i++) {
            const int64_t at = place<ROWS>(p, tile, t, i);
            if (at < 0)
                continue;
            if (!p.y_f32)
                ((uint16_t *)p.y)[at] = float_to_bf16(sum[t][i]);
            else
                ((float *)p.y)[at] = p.accumulate ? before[t][i] + sum[t][i] : sum[t][i];
        }
}

/* ---- Plans ---- */

static int64_t up(int64_t a, int64_t b) { return (a + b - 1) / b; }

bool cuda_skinny_finish(const struct cuda_state *s, int64_t m, int64_t n, int64_t k,
                        struct cuda_skinny_plan *plan)
{
    const int64_t tiles = up(n, plan->tile_rows), stages = up(k, STAGE_K);
    const int most = plan->depth;
    if (plan->resident) {
        const int64_t rows = (int64_t)plan->warps * plan->tile_rows + m,
                      blocks = up(tiles, plan->warps);
        const int64_t bytes = rows * resident_row_bytes(k);
        plan->resident = m <= 16 && k % STAGE_K == 0 && bytes <= (int64_t)s->shared_per_block &&
                         blocks <= INT32_MAX;
        if (plan->resident) {
            plan->blocks = (int)blocks;
            plan->shared = (size_t)bytes;
            return true;
        }
    }
    for (; plan->warps > 0; plan->warps /= 2) {
        const int64_t blocks = up(tiles, plan->warps);
        plan->blocks = (int)(blocks < s->multiprocessors ? blocks : s->multiprocessors);
        /* Stages of one warp in all: a ring twice as deep would stay empty. */
        const int64_t total = up(tiles, (int64_t)plan->blocks * plan->warps) * stages;
        for (int depth = 16; depth >= 4; depth /= 2) {
            const int64_t ring = (int64_t)plan->warps * depth * plan->tile_rows * ROW_BYTES;
            const int64_t x = m * ROW_BYTES * (plan->staged ? depth : stages);
            if (depth > 4 && (depth > most || depth / 2 >= total))
                continue;
            if (ring + x <= (int64_t)s->shared_per_block) {
                plan->depth = depth;
                plan->shared = (size_t)(ring + x);
                return true;
            }
        }
    }
    return false;
}

bool cuda_skinny_choose(const struct cuda_state *s, int64_t m, int64_t n, int64_t k,
                        struct cuda_skinny_plan *plan)
{
    /* Enough on their way for a multiprocessor's share of the bandwidth (latency of about a
     * microsecond times 33 GB/s), twice; little enough that the next kernel's can be there too. */
    enum { RING_BYTES = 128 << 10, RESIDENT_BYTES = 64 << 10 };
    *plan = (struct cuda_skinny_plan){};
    plan->overlap = s->capturing; /* a recorded step writes no weights */
    /* Everything at once if every warp has one tile, and two kernels of the kind, or nearly, fit
     * next to each other: the second's weights then come while the first multiplies. */
    plan->tile_rows = n <= 8 * (int64_t)s->multiprocessors ? 8 : 16;
    const int64_t tiles = up(up(n, plan->tile_rows), s->multiprocessors);
    if (m <= 16 && tiles <= MAX_WARPS) {
        plan->resident = true;
        plan->warps = (int)tiles;
        if (cuda_skinny_finish(s, m, n, k, plan) && plan->resident &&
            plan->shared <= s->shared_per_block / 3 * 2)
            return true;
        plan->resident = false;
    }
    plan->tile_rows = m <= 16 ? 8 : 16;
    const int64_t each = up(up(n, plan->tile_rows), s->multiprocessors);
    plan->warps = (int)up(each, up(each, MAX_WARPS));
    const int64_t x = m * ROW_BYTES * up(k, STAGE_K);
    /* Many tiles are worth the wait for all of x. */
    const bool many = each > 2 * MAX_WARPS && x + RING_BYTES <= (int64_t)s->shared_per_block;
    plan->staged = x > RESIDENT_BYTES && !many;
    plan->depth = RING_BYTES / (plan->warps * plan->tile_rows * ROW_BYTES);
    return cuda_skinny_finish(s, m, n, k, plan);
}

bool cuda_skinny_takes(const struct cuda_state *s, int64_t m, int64_t n, int64_t k,
                       enum dtype y_type)
{
    struct cuda_skinny_plan plan;
    (void)y_type;
    if (m < 1 || m > MAX_TOKENS || n < 1 || n > MAX_SIZE || k < 8 || k > MAX_SIZE || k % 8 != 0)
        return false;
    /* Where it is the faster one on an H200 (docs/SPEED.md): beyond these its longer chains cost more
     * than cuBLASLt's launches. */
    if (m > 4 || (m > 1 && k > 4096))
        return false;
    return cuda_skinny_choose(s, m, n, k, &plan);
}

template <int ROWS, int TOKENS, bool STAGED, int DEPTH>
static void launch(struct backend *backend, const skinny_product &p,
                   const struct cuda_skinny_plan *plan)
{
    struct cuda_state *s = cuda_state_of(backend);
    void (*const kernel)(const skinny_product) = skinny_kernel<ROWS, TOKENS, STAGED, DEPTH>;
    if (plan->shared > 48 << 10)
        cuda_note(backend, "products of few rows", ALLOW_SHARED(kernel, plan->shared));
    const unsigned threads = 32u * (unsigned)(plan->warps + helpers<TOKENS, STAGED>);
    LAUNCH_BEHIND(plan->overlap && s->compute >= 90, kernel, (unsigned)plan->blocks, threads,
                  plan->shared, s->stream, p);
    cuda_note(backend, "products of few rows", cudaSuccess);
}

template <int ROWS, int TOKENS, bool STAGED>
static void launch_depth(struct backend *backend, const skinny_product &p,
                         const struct cuda_skinny_plan *plan)
{
    if (plan->depth == 16)
        launch<ROWS, TOKENS, STAGED, 16>(backend, p, plan);
    else if (plan->depth == 8)
        launch<ROWS, TOKENS, STAGED, 8>(backend, p, plan);
    else
        launch<ROWS, TOKENS, STAGED, 4>(backend, p, plan);
}

template <int ROWS, int TOKENS>
static void launch_mode(struct backend *backend, const skinny_product &p,
                        const struct cuda_skinny_plan *plan)
{
    if (plan->staged)
        launch_depth<ROWS, TOKENS, true>(backend, p, plan);
    else
        launch_depth<ROWS, TOKENS, false>(backend, p, plan);
}

template <int ROWS, int TOKENS>
static void launch_resident(struct backend *backend, const skinny_product &p,
                            const struct cuda_skinny_plan *plan)
{
    struct cuda_state *s = cuda_state_of(backend);
    void (*const kernel)(const skinny_product) = resident_kernel<ROWS, TOKENS>;
    if (plan->shared > 48 << 10)
        cuda_note(backend, "products of few rows", ALLOW_SHARED(kernel, plan->shared));
    const unsigned warps = (unsigned)(plan->warps > LEAST_WARPS ? plan->warps : LEAST_WARPS);
    LAUNCH_BEHIND(plan->overlap && s->compute >= 90, kernel, (unsigned)plan->blocks, 32 * warps,
                  plan->shared, s->stream, p);
    cuda_note(backend, "products of few rows", cudaSuccess);
}

void cuda_skinny_launch(struct backend *backend, const void *w, int64_t n, int64_t k,
                        const struct matmul_forward *f, const struct cuda_skinny_plan *plan)
{
    if (f->m <= 0 || n <= 0)
        return;
    skinny_product p = {};
    p.w = (const uint16_t *)w;
    p.x = (const uint16_t *)f->x;
    p.y = f->y;
    p.y_stride = f->y_stride;
    p.m = (int)f->m;
    p.n = (int)n;
    p.k = (int)k;
    p.n_stages = (int)up(k, STAGE_K);
    p.n_tiles = (int)up(n, plan->tile_rows);
    p.warps = plan->warps;
    p.y_f32 = f->y_type == DTYPE_F32;
    p.accumulate = f->accumulate;
    if (plan->resident && plan->tile_rows == 8 && f->m <= 8)
        launch_resident<8, 1>(backend, p, plan);
    else if (plan->resident && plan->tile_rows == 8)
        launch_resident<8, 2>(backend, p, plan);
    else if (plan->resident && f->m <= 8)
        launch_resident<16, 1>(backend, p, plan);
    else if (plan->resident)
        launch_resident<16, 2>(backend, p, plan);
    else if (plan->tile_rows == 8 && f->m <= 8)
        launch_mode<8, 1>(backend, p, plan);
    else if (plan->tile_rows == 8 && f->m <= 16)
        launch_mode<8, 2>(backend, p, plan);
    else if (f->m <= 8)
        launch_mode<16, 1>(backend, p, plan);
    else if (f->m <= 16)
        launch_mode<16, 2>(backend, p, plan);
    else if (f->m <= 32)
        launch_mode<16, 4>(backend, p, plan);
    else
        launch_mode<16, 8>(backend, p, plan);
}

void cuda_skinny_forward(struct backend *backend, const void *w, int64_t n, int64_t k,
                         const struct matmul_forward *f)
{
    struct cuda_skinny_plan plan;
    if (f->m <= 0)
        return;
    if (!cuda_skinny_choose(cuda_state_of(backend), f->m, n, k, &plan)) {
        cuda_note(backend, "products of few rows", cudaErrorInvalidValue);
        return;
    }
    cuda_skinny_launch(backend, w, n, k, f, &plan);
}

/* Products of few rows, y[m, n] = x[m, k] . w[n, k]^T in bf16: decoding reads every weight once a step, so what counts
 * is that all memory channels are busy all the time and that a product starts and ends quickly. It is for m up to 4,
 * and m = 1 where k exceeds 4,096 (cuda_skinny_takes): of more rows cuBLASLt is the faster one on an H200. Measured for
 * 0.6B, with instances for more rows that are gone: m = 16 qkv 6.0 us against 4.9, o 7.7 against 5.5; m = 64 head 110
 * against 84. The kernels take m up to 8, one instruction's tokens, so that the limit can be measured (bench/cuda).
 *
 * Order of sums (invariant I2). Every output element is one chain of matrix instructions over ascending k in steps of
 * 16 in one fp32 accumulator, as in cuBLASLt's kernels without split-K (columns beyond k are zeros in both factors). So
 * k is never divided between warps; warps divide the rows of w. Weights are the matrix instruction's 16 x 16 factor,
 * tokens its 16 x 8 factor. A tile of 8 weight rows gives the same rows to both halves of the factor: 1,024 rows are
 * then 128 tiles, about one for each multiprocessor, where one instruction's latency a step of k is the limit, not
 * their number.
 *
 * Two kernels. Where a warp gets one tile and its weights fit in shared memory, resident_kernel (below, "All of k at
 * once"); else ring_kernel:
 *
 * A warp owns tiles of 8 weight rows and a ring of stages of its own in shared memory, each stage STAGE_K columns of
 * its rows. It refills a stage as soon as it has read it, for the next tile too, without a word to other warps. The
 * activations x lie in shared memory for the whole launch, loaded by helper warps while the first weights are on their
 * way. */
#include "backend/cuda/kernel_matmul_skinny.h"

#include "backend/cuda/rmsnorm_row.cuh"
#include "backend/ops.h"

#include <assert.h>

enum {
    STAGE_K = 128,           /* columns of a stage */
    ROW_BYTES = STAGE_K * 2, /* of a row in a stage */
    PAIRS = STAGE_K / 32,    /* of steps of 16 columns, in a stage */
    CHUNKS = ROW_BYTES / 16, /* what one copy moves, in a row of a stage */
    RING_ROWS = 8,           /* of a tile in a ring */
    MAX_WARPS = 8,           /* that multiply */
    HELPERS = 4,             /* warps that load x for the others, beside rings */
    MAX_TOKENS = 8,          /* m */
    MAX_SIZE = 1 << 24,      /* n, k: indices of tiles and stages are 32 bits */
};

/* What a launch works on. */
struct skinny_product {
    const uint16_t *w, *x; /* [n, k], [m, k] */
    const float *residual; /* [k] whose norm is x; NULL: x is there */
    const uint16_t *gain;  /* [k] */
    int norm_threads;      /* those of kernel_rmsnorm.cu for a row of k */
    float inverse_width, eps;
    void *y; /* [m, n], rows y_stride elements apart */
    int64_t y_stride;
    int m, n, k, n_stages, n_tiles, warps;
    bool y_f32, accumulate;
};

/* Element i of a lane's part of an accumulator is weight row lane / 4 (+ 8 from i = 2), token
 * lane % 4 * 2 + i % 2. Its place in y, or -1 where the tile hangs over. */
template <int ROWS> static __device__ __forceinline__ int64_t place(const skinny_product &p, int tile, int i)
{
    const int lane = (int)(threadIdx.x & 31);
    const int row = tile * ROWS + lane / 4 + i / 2 * 8;
    const int token = lane % 4 * 2 + i % 2;
    return row < p.n && token < p.m ? token * p.y_stride + row : -1;
}

/* What a lane's part is added to. Of a tile of 8 rows, elements 2 and 3 repeat 0 and 1. */
template <int ROWS>
static __device__ __forceinline__ void load_before(const skinny_product &p, int tile, float (&before)[ROWS / 4])
{
#pragma unroll
    for (int i = 0; i < ROWS / 4; i++) {
        const int64_t at = place<ROWS>(p, tile, i);
        before[i] = at >= 0 ? ((const float *)p.y)[at] : 0.0f;
    }
}

template <int ROWS>
static __device__ __forceinline__ void store(const skinny_product &p, int tile, const float (&sum)[4],
                                             const float (&before)[ROWS / 4])
{
#pragma unroll
    for (int i = 0; i < ROWS / 4; i++) {
        const int64_t at = place<ROWS>(p, tile, i);
        if (at < 0)
            continue;
        if (!p.y_f32)
            ((uint16_t *)p.y)[at] = float_to_bf16(sum[i]);
        else
            ((float *)p.y)[at] = p.accumulate ? before[i] + sum[i] : sum[i];
    }
}

/* ---- Rings ---- */

/* Where chunk c of a row lies: neighbouring rows in different banks, so that the 8 rows that a matrix load reads at
 * once do not collide. */
static __device__ __forceinline__ int chunk_at(int row, int c) { return row * ROW_BYTES + ((c ^ (row & 7)) << 4); }

/* Two steps of 16 columns. */
struct ring_fragments {
    uint32_t a[4];
    uint32_t b[4];
};

/* Where a lane's part of the next stage of weights comes from: chunk lane % CHUNKS of every second row from lane /
 * CHUNKS on. Rows beyond n are those of row n - 1: not stored. */
struct ring_source {
    const uint16_t *from[RING_ROWS / 2];
    int tile, stage, column; /* column: of the lane's chunk */
};

static __device__ __forceinline__ void begin_tile(const skinny_product &p, ring_source &s, int tile)
{
    const int lane = (int)(threadIdx.x & 31);
    s.tile = tile;
    s.stage = 0;
    s.column = lane % CHUNKS * 8;
#pragma unroll
    for (int i = 0; i < RING_ROWS / 2; i++) {
        const int row = min(tile * RING_ROWS + 2 * i + lane / CHUNKS, p.n - 1);
        s.from[i] = p.w + (int64_t)row * p.k + s.column;
    }
}

/* Asks for the next stage of the warp's weights and goes on, to the tile stride further behind the last stage of one.
 * to[i]: where in a stage the lane's chunk of row 2 * i + lane / CHUNKS lies. */
static __device__ __forceinline__ void copy_weights(const skinny_product &p, unsigned char *slot,
                                                    const int (&to)[RING_ROWS / 2], ring_source &s, int stride)
{
    const bool valid = s.column < p.k;
#pragma unroll
    for (int i = 0; i < RING_ROWS / 2; i++) {
        copy_async16(slot + to[i], s.from[i], valid);
        s.from[i] += STAGE_K;
    }
    s.column += STAGE_K;
    if (__builtin_expect(++s.stage == p.n_stages, 0))
        begin_tile(p, s, s.tile + stride);
}

/* Asks for all of x, shared among count threads. */
static __device__ __forceinline__ void copy_tokens(const skinny_product &p, unsigned char *tokens, int thread,
                                                   int count)
{
    for (int row = 0; row < p.m; row++)
        for (int i = thread; i < p.n_stages * CHUNKS; i += count) {
            const int column = i * 8;
            const bool valid = column < p.k;
            copy_async16(tokens + i / CHUNKS * (p.m * ROW_BYTES) + chunk_at(row, i % CHUNKS),
                         valid ? p.x + (int64_t)row * p.k + column : p.x, valid);
        }
}

/* The fragments of columns 32 * pair .. + 32 of a stage. row_at and token_at say where in a stage the lane's row of
 * pair 0 lies: another pair is other chunks of the same row, so other bits below the row's. */
static __device__ __forceinline__ void load_fragments(ring_fragments &f, const unsigned char *weights, int row_at,
                                                      const unsigned char *tokens, int token_at, int pair)
{
    const int other = pair % 2 * 64, far = pair / 2 * 128;
    load_matrix4(f.a, weights + (row_at ^ other) + far);
    load_matrix4(f.b, tokens + (token_at ^ other) + far);
}

static __device__ __forceinline__ void multiply(float (&sum)[4], const ring_fragments &f, int step)
{
    uint32_t a[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
        a[i] = f.a[2 * step + i / 2];
    mma_bf16(sum, a, f.b[2 * step], f.b[2 * step + 1]);
}

template <int DEPTH>
static __global__ void __launch_bounds__(32 * (MAX_WARPS + HELPERS)) ring_kernel(const skinny_product p)
{
    DYNAMIC_SHARED(shared);
    constexpr int SLOT = RING_ROWS * ROW_BYTES;
    const int lane = (int)(threadIdx.x & 31), warp = (int)(threadIdx.x / 32);
    const int token_bytes = p.m * ROW_BYTES;
    unsigned char *const tokens = shared + p.warps * (DEPTH * SLOT);
    unsigned char *const ring = shared + warp * (DEPTH * SLOT);
    const int first = (int)blockIdx.x * p.warps + warp;
    const int stride = (int)gridDim.x * p.warps;
    const bool helper = warp >= p.warps;

    start_dependents();
    if (helper) {
        wait_for_ahead();
        copy_tokens(p, tokens, (int)threadIdx.x - 32 * p.warps, 32 * HELPERS);
        copy_async_commit();
    }

    const int tiles = first < p.n_tiles ? (p.n_tiles - 1 - first) / stride + 1 : 0;
    const int total = helper ? 0 : tiles * p.n_stages;
    int to[RING_ROWS / 2];
#pragma unroll
    for (int i = 0; i < RING_ROWS / 2; i++)
        to[i] = chunk_at(2 * i + lane / CHUNKS, lane % CHUNKS);
    ring_source source;
    begin_tile(p, source, first);
#pragma unroll 1
    for (int i = 0; i < DEPTH; i++) {
        if (i < total)
            copy_weights(p, ring + i * SLOT, to, source, stride);
        copy_async_commit();
    }
    wait_for_ahead();
    if (helper)
        copy_async_wait<0>();
    else
        copy_async_wait<DEPTH - 1>(); /* its first stage */
    __syncthreads();                  /* x is there */
    if (total == 0)
        return;

    const int row_at = chunk_at(lane & 7, lane / 8);
    /* Tokens beyond m are token m - 1: not stored. */
    const int token_at = chunk_at(min(lane & 7, p.m - 1), lane / 8);
    ring_fragments fragments[2];
    float sum[4] = {}, before[RING_ROWS / 4] = {};
    int tile = first;
    int stage = 0, slot = 0;
    load_fragments(fragments[0], ring, row_at, tokens, token_at, 0);
#pragma unroll 1
    for (int done = 0; done < total; done++) {
        unsigned char *const weights = ring + slot * SLOT;
        const unsigned char *const x = tokens + stage * token_bytes;
        if (stage == 0 && p.accumulate)
            load_before<RING_ROWS>(p, tile, before);
#pragma unroll
        for (int pair = 0; pair < PAIRS - 1; pair++) {
            load_fragments(fragments[(pair + 1) & 1], weights, row_at, x, token_at, pair + 1);
            multiply(sum, fragments[pair & 1], 0);
            multiply(sum, fragments[pair & 1], 1);
        }
        /* The last pair: the stage is read, so its place is given to a later one, and the next stage must have come. */
        const int next_slot = (slot + 1) % DEPTH;
        const int next_stage = stage + 1 == p.n_stages ? 0 : stage + 1;
        copy_async_wait<DEPTH - 2>();
        __syncwarp();
        if (done + 1 < total)
            load_fragments(fragments[PAIRS & 1], ring + next_slot * SLOT, row_at, tokens + next_stage * token_bytes,
                           token_at, 0);
        multiply(sum, fragments[(PAIRS - 1) & 1], 0);
        if (done + DEPTH < total)
            copy_weights(p, weights, to, source, stride);
        copy_async_commit();
        multiply(sum, fragments[(PAIRS - 1) & 1], 1);
        if (next_stage == 0) {
            store<RING_ROWS>(p, tile, sum, before);
#pragma unroll
            for (int i = 0; i < 4; i++)
                sum[i] = 0.0f;
            tile += stride;
        }
        slot = next_slot;
        stage = next_stage;
    }
}

/* ---- All of k at once ---- */

/* Where little has to be read (a warp's one tile, all of k, in shared memory at once), time is latency: that of
 * launching, of x, which the kernel ahead writes, and of the chain over k. So the threads of a block together ask for
 * all of its weights before anything else, in GROUPS parts in order of k, and what follows x's arrival is the chain and
 * little else: no ring, fragments loaded four steps before they are used and as the matrix instruction wants them. (A
 * tile of 8 rows gives each row to the instruction twice, which costs bandwidth of shared memory: it is for matrices of
 * so few rows that a multiprocessor has one warp. Small code: much of it comes from memory at every launch.)
 *
 * Rows lie row_bytes apart: 16 bytes more than they hold, so that matrix loads do not collide. */
enum { GROUPS = 4, LEAST_WARPS = 4 /* that copy, of a block */ };

struct resident_fragments {
    uint32_t a[4][4]; /* of four steps of 16 columns */
    uint32_t b[2][4];
};

static __host__ __device__ __forceinline__ int resident_row_bytes(int64_t k) { return (int)k * 2 + 16; }

/* Asks for the weights of the block's rows, every warp for every warps-th row. */
template <int ROWS>
static __device__ __forceinline__ void copy_resident(const skinny_product &p, unsigned char *weights, int row_bytes,
                                                     int group_chunks)
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

/* x, which is one piece of memory, into rows. Read past the first-level cache: the kernel that wrote it may have run
 * while this one was already there. */
static __device__ __forceinline__ void load_tokens(const skinny_product &p, unsigned char *tokens, int row_bytes)
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

/* ---- x made here ----
 *
 * The norm of one row: every block makes all of x for itself, which costs less than a kernel between this product and
 * the one ahead: 2 % of decoding at batch 1 are gained. (SwiGLU in the down projection lost 4 %.) */

/* A warp here stands for every (warps of the block)-th of a row's block in kernel_rmsnorm.cu, at most NORM_TURNS of
 * them; each thread holds NORM_PER groups of four elements in either. */
enum { NORM_PER = 2, NORM_TURNS = ROW_WARPS / LEAST_WARPS };
struct norm_gains {
    float g[NORM_TURNS][NORM_PER][4];
};

static __device__ __forceinline__ int norm_thread(int turn) { return (int)threadIdx.x + turn * (int)blockDim.x; }

/* Before x is there: gains are weights. */
static __device__ __forceinline__ void load_gains(const skinny_product &p, norm_gains &gains)
{
#pragma unroll
    for (int turn = 0; turn < NORM_TURNS; turn++)
#pragma unroll
        for (int j = 0; j < NORM_PER; j++) {
            const int thread = norm_thread(turn), i = row_element(thread, p.norm_threads, j);
            load_vector4(p.gain + i, thread < p.norm_threads && i < p.k, gains.g[turn][j]);
        }
}

static __device__ __forceinline__ void make_normed(const skinny_product &p, const norm_gains &gains,
                                                   unsigned char *tokens)
{
    __shared__ float partial[ROW_WARPS];
    float v[NORM_TURNS][NORM_PER][4];
#pragma unroll
    for (int turn = 0; turn < NORM_TURNS; turn++)
#pragma unroll
        for (int j = 0; j < NORM_PER; j++) {
            const int thread = norm_thread(turn), i = row_element(thread, p.norm_threads, j);
            uint4 x = {};
            if (thread < p.norm_threads && i < p.k)
                x = load_past_l1((const uint4 *)(p.residual + i));
            v[turn][j][0] = __uint_as_float(x.x), v[turn][j][1] = __uint_as_float(x.y);
            v[turn][j][2] = __uint_as_float(x.z), v[turn][j][3] = __uint_as_float(x.w);
        }
#pragma unroll
    for (int turn = 0; turn < NORM_TURNS; turn++) {
        const int thread = norm_thread(turn);
        if (turn * (int)blockDim.x >= p.norm_threads)
            break;
        const float squares = row_warp_squares<NORM_PER>(v[turn]);
        if (thread < p.norm_threads && thread % 32 == 0)
            partial[thread / 32] = squares;
    }
    __syncthreads();
    const float rstd = row_rstd(partial, p.norm_threads / 32, p.inverse_width, p.eps);
#pragma unroll
    for (int turn = 0; turn < NORM_TURNS; turn++)
#pragma unroll
        for (int j = 0; j < NORM_PER; j++) {
            const int thread = norm_thread(turn), i = row_element(thread, p.norm_threads, j);
            const float(&g)[4] = gains.g[turn][j];
            float(&x)[4] = v[turn][j];
#pragma unroll
            for (int e = 0; e < 4; e++)
                x[e] = row_normed(x[e], rstd, g[e]);
            if (thread < p.norm_threads && i < p.k)
                *(uint2 *)(tokens + i * 2) = make_uint2(pack_bf16(x[0], x[1]), pack_bf16(x[2], x[3]));
        }
}

/* Waits for the next of the groups of weights: every thread has committed GROUPS of them and one of nothing for each
 * that it waited for. Every thread of the block. */
static __device__ __forceinline__ void wait_for_group()
{
    copy_async_wait<GROUPS - 1>();
    copy_async_commit();
    __syncthreads();
}

/* Columns 64 * half .. + 64 behind the lane's places. */
static __device__ __forceinline__ void load_resident(resident_fragments &f, const unsigned char *row,
                                                     const unsigned char *token, int half)
{
#pragma unroll
    for (int i = 0; i < 2; i++) {
        load_matrix4(f.a[2 * i], row + half * 128 + i * 64);
        load_matrix4(f.b[i], token + half * 128 + i * 64);
        load_matrix4(f.a[2 * i + 1], row + half * 128 + i * 64 + 32);
    }
}

static __device__ __forceinline__ void multiply_resident(float (&sum)[4], const resident_fragments &f)
{
#pragma unroll
    for (int step = 0; step < 4; step++)
        mma_bf16(sum, f.a[step], f.b[step / 2][step % 2 * 2], f.b[step / 2][step % 2 * 2 + 1]);
}

/* ROWS of a tile: 8 or 16. */
template <int ROWS, bool NORM>
static __global__ void __launch_bounds__(32 * MAX_WARPS) resident_kernel(const skinny_product p)
{
    DYNAMIC_SHARED(shared);
    const int lane = (int)(threadIdx.x & 31), warp = (int)(threadIdx.x / 32);
    const int row_bytes = resident_row_bytes(p.k);
    const int group_stages = (p.n_stages + GROUPS - 1) / GROUPS;
    unsigned char *const tokens = shared + p.warps * ROWS * row_bytes;

    start_dependents();
    copy_resident<ROWS>(p, shared, row_bytes, group_stages * CHUNKS);
    /* Where the lane's rows for the matrix loads are: tokens beyond m are token m - 1, not stored. */
    const unsigned char *row = shared + (warp * ROWS + (lane & (ROWS - 1))) * row_bytes + lane / 16 * 16;
    const unsigned char *token = tokens + min(lane & 7, p.m - 1) * row_bytes + lane / 8 * 16;
    const int tile = (int)blockIdx.x * p.warps + warp;

    norm_gains gains;
    if (NORM)
        load_gains(p, gains);
    wait_for_ahead();
    if (NORM)
        make_normed(p, gains, tokens);
    else
        load_tokens(p, tokens, row_bytes);
    float before[ROWS / 4] = {};
    if (p.accumulate && warp < p.warps)
        load_before<ROWS>(p, tile, before);
    wait_for_group();
    if (warp >= p.warps) { /* only copied */
        for (int next = group_stages; next < p.n_stages; next += group_stages)
            wait_for_group();
        return;
    }

    /* A stage's halves: one comes while the other is multiplied. */
    resident_fragments halves[2];
    float sum[4] = {};
    load_resident(halves[0], row, token, 0);
    int left = group_stages; /* of the group's stages, those not loaded yet and the one at hand */
#pragma unroll 1
    for (int next = 1; next <= p.n_stages; next++) {
        load_resident(halves[1], row, token, 1);
        multiply_resident(sum, halves[0]);
        const int ahead = next < p.n_stages ? ROW_BYTES : 0; /* the last again, for nothing */
        row += ahead;
        token += ahead;
        if (--left == 0 && next < p.n_stages) {
            wait_for_group();
            left = group_stages;
        }
        load_resident(halves[0], row, token, 0);
        multiply_resident(sum, halves[1]);
    }
    store<ROWS>(p, tile, sum, before);
}

/* ---- Plans ---- */

static int64_t up(int64_t a, int64_t b) { return (a + b - 1) / b; }

static bool finish_resident(const struct cuda_state *s, int64_t m, int64_t n, int64_t k, struct cuda_skinny_plan *plan)
{
    const int64_t blocks = up(up(n, plan->tile_rows), plan->warps);
    const int64_t rows = (int64_t)plan->warps * plan->tile_rows + m;
    const int64_t bytes = rows * resident_row_bytes(k);
    const int64_t fixed = ROW_WARPS * (int64_t)sizeof(float); /* of make_normed */
    if (k % STAGE_K != 0 || bytes + fixed > (int64_t)s->shared_per_block || blocks > INT32_MAX)
        return false;
    plan->blocks = (int)blocks;
    plan->shared = (size_t)bytes;
    return true;
}

bool cuda_skinny_finish(const struct cuda_state *s, int64_t m, int64_t n, int64_t k, struct cuda_skinny_plan *plan)
{
    if (m > MAX_TOKENS)
        return false;
    if (plan->resident)
        return finish_resident(s, m, n, k, plan);
    const int64_t tiles = up(n, RING_ROWS), stages = up(k, STAGE_K);
    const int64_t x = m * ROW_BYTES * stages;
    const int most = plan->depth;
    plan->tile_rows = RING_ROWS;
    for (; plan->warps > 0; plan->warps /= 2) {
        const int64_t blocks = up(tiles, plan->warps);
        plan->blocks = (int)(blocks < s->multiprocessors ? blocks : s->multiprocessors);
        /* Stages of one warp in all: a ring twice as deep would stay empty. */
        const int64_t total = up(tiles, (int64_t)plan->blocks * plan->warps) * stages;
        for (int depth = 16; depth >= 4; depth /= 2) {
            const int64_t ring = (int64_t)plan->warps * depth * RING_ROWS * ROW_BYTES;
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

bool cuda_skinny_choose(const struct cuda_state *s, int64_t m, int64_t n, int64_t k, struct cuda_skinny_plan *plan)
{
    /* Enough on their way for a multiprocessor's share of the bandwidth (latency of about a microsecond times 33 GB/s),
     * twice; little enough that the next kernel's can be there too. */
    enum { RING_BYTES = 128 << 10 };
    *plan = (struct cuda_skinny_plan){};
    plan->overlap = s->capturing; /* a recorded step writes no weights */
    /* Everything at once if every warp has one tile, and two kernels of the kind, or nearly, fit next to each other:
     * the second's weights then come while the first multiplies. */
    plan->tile_rows = n <= 8 * (int64_t)s->multiprocessors ? 8 : 16;
    const int64_t tiles = up(up(n, plan->tile_rows), s->multiprocessors);
    if (tiles <= MAX_WARPS) {
        plan->resident = true;
        plan->warps = (int)tiles;
        if (cuda_skinny_finish(s, m, n, k, plan) && plan->shared <= s->shared_per_block / 3 * 2)
            return true;
        plan->resident = false;
    }
    const int64_t each = up(up(n, RING_ROWS), s->multiprocessors);
    plan->warps = (int)up(each, up(each, MAX_WARPS));
    plan->depth = RING_BYTES / (plan->warps * RING_ROWS * ROW_BYTES);
    return cuda_skinny_finish(s, m, n, k, plan);
}

bool cuda_skinny_takes(const struct cuda_state *s, int64_t m, int64_t n, int64_t k, struct cuda_skinny_plan *plan)
{
    /* Where it is the faster one on an H200 (the head of this file). */
    if (m < 1 || m > 4 || (m > 1 && k > 4096))
        return false;
    if (n < 1 || n > MAX_SIZE || k < 8 || k > MAX_SIZE || k % 8 != 0)
        return false;
    return cuda_skinny_choose(s, m, n, k, plan);
}

static void launch(struct backend *backend, void (*kernel)(const skinny_product), const skinny_product &p,
                   const struct cuda_skinny_plan *plan, int warps)
{
    struct cuda_state *s = cuda_state_of(backend);
    if (plan->shared > 48 << 10)
        cuda_note(backend, "products of few rows", ALLOW_SHARED(kernel, plan->shared));
    LAUNCH_BEHIND(plan->overlap && s->compute >= 90, kernel, (unsigned)plan->blocks, 32u * (unsigned)warps,
                  plan->shared, s->stream, p);
    cuda_note(backend, "products of few rows", cudaSuccess);
}

template <int ROWS>
static void launch_resident(struct backend *backend, const skinny_product &p, const struct cuda_skinny_plan *plan)
{
    launch(backend, p.residual != NULL ? resident_kernel<ROWS, true> : resident_kernel<ROWS, false>, p, plan,
           plan->warps > LEAST_WARPS ? plan->warps : LEAST_WARPS);
}

/* Makes the norm part of the product, if the kernel can. */
static bool take_norm(skinny_product *p, const struct rmsnorm_forward *norm, const struct cuda_skinny_plan *plan)
{
    const row_shape shape = row_shape_of(p->k);
    if (!plan->resident || p->m != 1 || norm->row != NULL || shape.per_thread != NORM_PER ||
        norm->gain_type != DTYPE_BF16 || norm->y_type != DTYPE_BF16 || !vector_aligned(norm->x, 16) ||
        !vector_aligned(norm->gain, 8))
        return false;
    assert(norm->rows == 1 && norm->width == p->k && norm->y == p->x);
    p->residual = norm->x;
    p->gain = (const uint16_t *)norm->gain;
    p->norm_threads = shape.threads;
    p->inverse_width = 1.0f / (float)norm->width;
    p->eps = norm->eps;
    return true;
}

bool cuda_skinny_launch(struct backend *backend, const void *w, int64_t n, int64_t k, const struct matmul_forward *f,
                        const struct cuda_skinny_plan *plan)
{
    skinny_product p = {};
    if (f->m <= 0 || n <= 0)
        return true;
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
    if (f->norm != NULL && !take_norm(&p, f->norm, plan))
        return false;
    if (plan->resident && plan->tile_rows == 8)
        launch_resident<8>(backend, p, plan);
    else if (plan->resident)
        launch_resident<16>(backend, p, plan);
    else
        launch(backend,
               plan->depth == 16  ? ring_kernel<16>
               : plan->depth == 8 ? ring_kernel<8>
                                  : ring_kernel<4>,
               p, plan, plan->warps + HELPERS);
    return true;
}

bool cuda_skinny_forward(struct backend *backend, const void *w, int64_t n, int64_t k, const struct matmul_forward *f)
{
    struct cuda_skinny_plan plan;
    if (!cuda_skinny_takes(cuda_state_of(backend), f->m, n, k, &plan))
        return false;
    matmul_copy_before(backend, f);
    if (!cuda_skinny_launch(backend, w, n, k, f, &plan)) {
        struct matmul_forward made = *f;
        matmul_make_input(backend, f);
        made.norm = NULL;
        cuda_skinny_launch(backend, w, n, k, &made, &plan);
    }
    return true;
}

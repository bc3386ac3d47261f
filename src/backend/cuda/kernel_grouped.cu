/* Products of groups of rows, one weight a group: the experts of a layer. How many rows a group has is known to the
 * device alone, so that a launch has blocks for the most tiles that there can be, each of which finds its group.
 *
 * Order of sums (invariant I2). An output element is one chain of matrix instructions over ascending k in steps of 16 in
 * one fp32 accumulator, the weight being the 16 x 16 factor, as in kernel_matmul_skinny.cu. Tiles differ in how many rows
 * they have, and no bit of a row depends on that: which is used follows from the number of rows and groups, that is how
 * many rows a group has on average. fp32, and sizes that are no multiple of 8, go to plain_kernel, by the weight's sizes
 * alone, whose chain is one of fmaf.
 *
 * Few rows (decoding): each weight is read once, 64 of its rows by a block of four warps, and what counts is that much
 * of it is on its way; tiles of many rows are 128 x 64 and 128 x 128. The gradient of the weights is the same kernel
 * with both factors transposed: its depth is the rows of the group. */
#include "backend/cuda/vector_access.cuh"
#include "backend/expert_ops.h"

#include <assert.h>

namespace
{

enum { DEPTH = 64, ROW_BYTES = DEPTH * 2, STEPS = DEPTH / 16, PLAIN_TILE = 64, PLAIN_CELL = 4, PLAIN_DEPTH = 16 };

/* d[b, a] = sum over depth of A[a] B[b] for the rows b of a group, or (WEIGHTS) d[g][a, b] += the sum over the rows of
 * group g of A[row, a] B[row, b]. */
struct grouped_product {
    const void *a, *b;
    int64_t a_group;         /* elements from one group's A to the next one's */
    int32_t n_a, n_b, depth; /* n_b: with WEIGHTS; depth: without */
    int64_t lda, ldb;
    const int32_t *begin, *pair;
    int32_t n_groups, each;
    bool gather_a, gather_b;
    void *d;
    int64_t ldd;
    float scale; /* of a sum; without WEIGHTS */
    bool add;    /* to d, where the sum is not 0; without WEIGHTS */
};

/* The sum of an element goes where it belongs, rounded once. */
template <typename D> __device__ __forceinline__ void put(const grouped_product &p, D *d, float sum)
{
    const float value = p.scale * sum;
    if (!p.add)
        store_element(d, value);
    else if (value != 0.0f)
        store_element(d, load_element(d) + value);
}

/* Row of a tensor that is not grouped. */
__device__ __forceinline__ int64_t source_row(const grouped_product &p, bool gather, int row)
{
    return gather ? p.pair[row] / p.each : row;
}

/* The group of tile number slot, its first row there and how many follow in the group; false if there is no such tile.
 * Every warp finds it for itself. */
template <int TILE>
__device__ __forceinline__ bool find_tile(const grouped_product &p, int slot, int &group, int &row, int &rows)
{
    const int lane = (int)(threadIdx.x % 32);
    for (int first = 0; first < p.n_groups; first += 32) {
        const int g = first + lane;
        const int begin = g < p.n_groups ? p.begin[g] : 0, end = g < p.n_groups ? p.begin[g + 1] : 0;
        const int own = (end - begin + TILE - 1) / TILE;
        int sum = own;
        for (int o = 1; o < 32; o <<= 1) {
            const int other = __shfl_up_sync(0xffffffffu, sum, (unsigned)o);
            sum += lane >= o ? other : 0;
        }
        const unsigned behind = __ballot_sync(0xffffffffu, sum > slot);
        if (behind != 0) {
            const int who = __ffs((int)behind) - 1;
            const int tile = slot - __shfl_sync(0xffffffffu, sum - own, who);
            group = first + who;
            row = __shfl_sync(0xffffffffu, begin, who) + tile * TILE;
            rows = __shfl_sync(0xffffffffu, end, who) - row;
            rows = rows < TILE ? rows : TILE;
            return true;
        }
        slot -= __shfl_sync(0xffffffffu, sum, 31);
    }
    return false;
}

/* ---- Plain arithmetic ---- */

/* A: of the elements of a, which are weights without WEIGHTS. */
template <typename A, typename T, typename D, bool TRANSPOSED, bool WEIGHTS>
__global__ void __launch_bounds__(256) plain_kernel(const grouped_product p)
{
    __shared__ float tile_a[PLAIN_DEPTH][PLAIN_TILE + 1], tile_b[PLAIN_DEPTH][PLAIN_TILE + 1];
    constexpr int SIDE = PLAIN_TILE / PLAIN_CELL;
    int group = (int)blockIdx.z, row0 = (int)blockIdx.y * PLAIN_TILE, rows = PLAIN_TILE, first = 0, depth = p.depth;
    const int a0 = (int)blockIdx.x * PLAIN_TILE, r = (int)threadIdx.x / SIDE, c = (int)threadIdx.x % SIDE;
    if (WEIGHTS) {
        first = p.begin[group];
        depth = p.begin[group + 1] - first;
        rows = min(rows, p.n_b - row0);
        if (depth == 0)
            return;
    } else if (!find_tile<PLAIN_TILE>(p, (int)blockIdx.y, group, row0, rows)) {
        return;
    }
    const A *a = (const A *)p.a + (int64_t)group * p.a_group;
    const T *b = (const T *)p.b;
    float sum[PLAIN_CELL][PLAIN_CELL] = {};
    for (int l0 = 0; l0 < depth; l0 += PLAIN_DEPTH) {
        for (int i = (int)threadIdx.x; i < PLAIN_TILE * PLAIN_DEPTH; i += 256) {
            const int x = i / PLAIN_DEPTH, l = i % PLAIN_DEPTH;
            const bool deep = l0 + l < depth;
            float va = 0.0f, vb = 0.0f;
            if (deep && a0 + x < p.n_a)
                va = load_element(WEIGHTS      ? a + source_row(p, p.gather_a, first + l0 + l) * p.lda + a0 + x
                                  : TRANSPOSED ? a + (int64_t)(l0 + l) * p.lda + a0 + x
                                               : a + (int64_t)(a0 + x) * p.lda + l0 + l);
            if (deep && x < rows)
                vb = load_element(WEIGHTS ? b + source_row(p, p.gather_b, first + l0 + l) * p.ldb + row0 + x
                                          : b + source_row(p, p.gather_b, row0 + x) * p.ldb + l0 + l);
            tile_a[l][x] = va;
            tile_b[l][x] = vb;
        }
        __syncthreads();
        const int n = depth - l0 < PLAIN_DEPTH ? depth - l0 : (int)PLAIN_DEPTH;
        for (int l = 0; l < n; l++)
#pragma unroll
            for (int i = 0; i < PLAIN_CELL; i++)
#pragma unroll
                for (int j = 0; j < PLAIN_CELL; j++)
                    sum[i][j] = fmaf(tile_b[l][r + i * SIDE], tile_a[l][c + j * SIDE], sum[i][j]);
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < PLAIN_CELL; i++)
#pragma unroll
        for (int j = 0; j < PLAIN_CELL; j++) {
            const int y = r + i * SIDE, x = a0 + c + j * SIDE;
            if (y >= rows || x >= p.n_a)
                continue;
            if (WEIGHTS)
                ((float *)p.d)[((int64_t)group * p.n_a + x) * p.ldd + row0 + y] += sum[i][j];
            else
                put(p, (D *)p.d + (int64_t)(row0 + y) * p.ldd + x, sum[i][j]);
        }
}

/* ---- Matrix instructions ---- */

/* Where chunk c (16 bytes) of a row lies: the eight rows that a matrix load reads at once in different banks. */
template <int BYTES> __device__ __forceinline__ int chunk_at(int row, int c)
{
    return row * BYTES + ((c ^ (row & 7)) << 4);
}

/* A tile of a factor in shared memory. Not TRANSPOSED: SIZE rows of DEPTH elements; else DEPTH rows of SIZE. */
template <int SIZE, bool TRANSPOSED> struct factor_tile {
    static constexpr int ROWS = TRANSPOSED ? (int)DEPTH : SIZE;
    static constexpr int BYTES = TRANSPOSED ? SIZE * 2 : (int)ROW_BYTES;
    static constexpr int CHUNKS = BYTES / 16;
};

/* Fragments of 16 of the size and 16 of the depth, as the matrix instruction wants its 16 x 16 factor. */
template <int SIZE, bool TRANSPOSED>
__device__ __forceinline__ void load_a(uint32_t (&f)[4], const unsigned char *tile, int first, int step)
{
    using shape = factor_tile<SIZE, TRANSPOSED>;
    const int lane = (int)(threadIdx.x % 32);
    if (TRANSPOSED)
        load_matrix4_transposed(
            f, tile + chunk_at<shape::BYTES>(step * 16 + (lane & 7) + (lane >> 4) * 8, first / 8 + ((lane >> 3) & 1)));
    else
        load_matrix4(f, tile + chunk_at<shape::BYTES>(first + (lane & 15), step * 2 + (lane >> 4)));
}

/* Likewise of two 16 x 8 factors beside each other: f[0], f[1] and f[2], f[3]. */
template <int SIZE, bool TRANSPOSED>
__device__ __forceinline__ void load_b(uint32_t (&f)[4], const unsigned char *tile, int first, int step)
{
    using shape = factor_tile<SIZE, TRANSPOSED>;
    const int lane = (int)(threadIdx.x % 32);
    if (TRANSPOSED)
        load_matrix4_transposed(f, tile + chunk_at<shape::BYTES>(step * 16 + (lane & 15), first / 8 + (lane >> 4)));
    else
        load_matrix4(f,
                     tile + chunk_at<shape::BYTES>(first + (lane & 7) + (lane >> 4) * 8, step * 2 + ((lane >> 3) & 1)));
}

/* TN x TM elements a block, WN x WM of them a warp. TRANSPOSED: of A, and with WEIGHTS of both. */
template <int TN_, int TM_, int WN_, int WM_, int STAGES_> struct tiling {
    static constexpr int TN = TN_, TM = TM_, WN = WN_, WM = WM_, STAGES = STAGES_;
    static constexpr int WARPS = TN / WN * (TM / WM), THREADS = 32 * WARPS;
    static constexpr int PITCH = TN + 8; /* elements from one row of results to the next, in shared memory */
    static constexpr int A_BYTES = TN * ROW_BYTES, STAGE_BYTES = A_BYTES + TM * ROW_BYTES; /* of a stage */
    static constexpr int RESULT_BYTES = TM * PITCH * 4;
    static constexpr int SHARED_BYTES = STAGES * STAGE_BYTES > RESULT_BYTES ? STAGES *STAGE_BYTES : RESULT_BYTES;
};
using few_rows = tiling<64, 16, 16, 16, 6>;
using some_rows = tiling<128, 64, 32, 32, 3>;
using many_rows = tiling<128, 128, 64, 32, 3>;

template <typename TILING, bool TRANSPOSED, bool WEIGHTS, typename D>
__global__ void __launch_bounds__(TILING::THREADS) grouped_kernel(const grouped_product p)
{
    DYNAMIC_SHARED(shared);
    __shared__ int32_t source[TILING::TM]; /* rows of B */
    constexpr int TN = TILING::TN, TM = TILING::TM, STAGES = TILING::STAGES, THREADS = TILING::THREADS;
    constexpr int NA = TILING::WN / 16, NB = TILING::WM / 16;
    using a_tile = factor_tile<TN, TRANSPOSED || WEIGHTS>;
    using b_tile = factor_tile<TM, WEIGHTS>;
    const int lane = (int)(threadIdx.x % 32), warp = (int)(threadIdx.x / 32);
    const int a0 = (int)blockIdx.x * TN, wa = warp % (TN / TILING::WN) * TILING::WN,
              wb = warp / (TN / TILING::WN) * TILING::WM;
    int group = (int)blockIdx.z, row0 = (int)blockIdx.y * TM, rows = TM, first = 0, depth = p.depth;
    if (WEIGHTS) {
        first = p.begin[group];
        depth = p.begin[group + 1] - first;
        if (depth == 0)
            return;
    } else {
        if (!find_tile<TM>(p, (int)blockIdx.y, group, row0, rows))
            return;
        for (int i = (int)threadIdx.x; i < TM; i += THREADS)
            source[i] = (int32_t)source_row(p, p.gather_b, row0 + (i < rows ? i : 0));
        __syncthreads();
    }
    const uint16_t *const a = (const uint16_t *)p.a + (int64_t)group * p.a_group, *const b = (const uint16_t *)p.b;

    const auto load_stage = [&](int stage, int l0) {
        unsigned char *const to_a = shared + stage * TILING::STAGE_BYTES, *const to_b = to_a + TILING::A_BYTES;
        for (int i = (int)threadIdx.x; i < a_tile::ROWS * a_tile::CHUNKS; i += THREADS) {
            const int r = i / a_tile::CHUNKS, c = i % a_tile::CHUNKS;
            const uint16_t *from;
            bool valid;
            if constexpr (WEIGHTS || TRANSPOSED) {
                valid = l0 + r < depth && a0 + c * 8 < p.n_a;
                from = a + (WEIGHTS ? source_row(p, p.gather_a, first + (valid ? l0 + r : 0)) : l0 + r) * p.lda + a0 +
                       c * 8;
            } else {
                valid = a0 + r < p.n_a && l0 + c * 8 < depth;
                from = a + (int64_t)(a0 + r) * p.lda + l0 + c * 8;
            }
            copy_async16(to_a + chunk_at<a_tile::BYTES>(r, c), valid ? from : a, valid);
        }
        for (int i = (int)threadIdx.x; i < b_tile::ROWS * b_tile::CHUNKS; i += THREADS) {
            const int r = i / b_tile::CHUNKS, c = i % b_tile::CHUNKS;
            const uint16_t *from;
            bool valid;
            if constexpr (WEIGHTS) {
                valid = l0 + r < depth && row0 + c * 8 < p.n_b;
                from = b + source_row(p, p.gather_b, first + (valid ? l0 + r : 0)) * p.ldb + row0 + c * 8;
            } else {
                valid = r < rows && l0 + c * 8 < depth;
                from = b + (int64_t)source[r] * p.ldb + l0 + c * 8;
            }
            copy_async16(to_b + chunk_at<b_tile::BYTES>(r, c), valid ? from : b, valid);
        }
    };

    const int stages = (depth + DEPTH - 1) / DEPTH;
#pragma unroll
    for (int s = 0; s < STAGES - 1; s++) {
        if (s < stages)
            load_stage(s, s * DEPTH);
        copy_async_commit();
    }
    float sum[NA][2 * NB][4] = {};
#pragma unroll 1
    for (int s = 0; s < stages; s++) {
        copy_async_wait<STAGES - 2>();
        __syncthreads();
        if (s + STAGES - 1 < stages)
            load_stage((s + STAGES - 1) % STAGES, (s + STAGES - 1) * DEPTH);
        copy_async_commit();
        const unsigned char *const at_a = shared + s % STAGES * TILING::STAGE_BYTES, *const at_b =
                                                                                         at_a + TILING::A_BYTES;
#pragma unroll
        for (int step = 0; step < STEPS; step++) {
            uint32_t fa[NA][4], fb[NB][4];
#pragma unroll
            for (int i = 0; i < NA; i++)
                load_a<TN, TRANSPOSED || WEIGHTS>(fa[i], at_a, wa + 16 * i, step);
#pragma unroll
            for (int j = 0; j < NB; j++)
                load_b<TM, WEIGHTS>(fb[j], at_b, wb + 16 * j, step);
#pragma unroll
            for (int i = 0; i < NA; i++)
#pragma unroll
                for (int j = 0; j < 2 * NB; j++)
                    mma_bf16(sum[i][j], fa[i], fb[j / 2][j % 2 * 2], fb[j / 2][j % 2 * 2 + 1]);
        }
    }
    copy_async_wait<0>();

    /* Element e of a lane: A's lane / 4 (+ 8 from e = 2), B's lane % 4 * 2 + e % 2. */
    if constexpr (WEIGHTS) {
#pragma unroll
        for (int i = 0; i < NA; i++)
#pragma unroll
            for (int j = 0; j < 2 * NB; j++)
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    const int x = a0 + wa + 16 * i + lane / 4 + 8 * half, y = row0 + wb + 8 * j + lane % 4 * 2;
                    if (x >= p.n_a || y >= p.n_b)
                        continue;
                    float *d = (float *)p.d + ((int64_t)group * p.n_a + x) * p.ldd + y;
                    d[0] += sum[i][j][2 * half];
                    d[1] += sum[i][j][2 * half + 1];
                }
    } else if (p.add) {
#pragma unroll
        for (int i = 0; i < NA; i++)
#pragma unroll
            for (int j = 0; j < 2 * NB; j++)
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    const int x = a0 + wa + 16 * i + lane / 4 + e / 2 * 8, y = wb + 8 * j + lane % 4 * 2 + e % 2;
                    if (x < p.n_a && y < rows)
                        put(p, (D *)p.d + (int64_t)(row0 + y) * p.ldd + x, sum[i][j][e]);
                }
    } else {
        D *const out = (D *)shared;
        __syncthreads();
#pragma unroll
        for (int i = 0; i < NA; i++)
#pragma unroll
            for (int j = 0; j < 2 * NB; j++)
#pragma unroll
                for (int e = 0; e < 4; e++)
                    store_element(out + (wb + 8 * j + lane % 4 * 2 + e % 2) * TILING::PITCH + wa + 16 * i + lane / 4 +
                                      e / 2 * 8,
                                  p.scale * sum[i][j][e]);
        __syncthreads();
        constexpr int EACH = 16 / (int)sizeof(D), CHUNKS = TN / EACH;
        for (int i = (int)threadIdx.x; i < rows * CHUNKS; i += THREADS) {
            const int y = i / CHUNKS, x = i % CHUNKS * EACH;
            if (a0 + x < p.n_a)
                *(uint4 *)((D *)p.d + (int64_t)(row0 + y) * p.ldd + a0 + x) =
                    *(const uint4 *)(out + y * TILING::PITCH + x);
        }
    }
}

/* Blocks for rows in tiles: each group may leave one tile unfilled. */
unsigned tiles_of(const row_groups *groups, int tile)
{
    const int64_t begun = groups->rows < groups->n ? groups->rows : groups->n;
    return (unsigned)(groups->rows / tile + begun);
}

template <typename TILING, bool TRANSPOSED, bool WEIGHTS, typename D>
void launch(struct backend *backend, const row_groups *groups, const grouped_product &p)
{
    const unsigned across = (unsigned)ceil_div(p.n_a, TILING::TN);
    const dim3 grid = WEIGHTS ? dim3(across, (unsigned)ceil_div(p.n_b, TILING::TM), (unsigned)groups->n)
                              : dim3(across, tiles_of(groups, TILING::TM));
    auto kernel = grouped_kernel<TILING, TRANSPOSED, WEIGHTS, D>;
    const cudaError_t allowed = ALLOW_SHARED(kernel, TILING::SHARED_BYTES);
    if (allowed != cudaSuccess) {
        cuda_note(backend, "a grouped product", allowed);
        return;
    }
    LAUNCH(kernel, grid, dim3(TILING::THREADS), TILING::SHARED_BYTES, cuda_state_of(backend)->stream, p);
}

template <typename A, typename T, typename D, bool TRANSPOSED, bool WEIGHTS>
void launch_plain(struct backend *backend, const row_groups *groups, const grouped_product &p)
{
    const unsigned across = (unsigned)ceil_div(p.n_a, PLAIN_TILE);
    const dim3 grid = WEIGHTS ? dim3(across, (unsigned)ceil_div(p.n_b, PLAIN_TILE), (unsigned)groups->n)
                              : dim3(across, tiles_of(groups, PLAIN_TILE));
    auto kernel = plain_kernel<A, T, D, TRANSPOSED, WEIGHTS>;
    LAUNCH(kernel, grid, dim3(256), 0, cuda_state_of(backend)->stream, p);
}

/* As cuda_matmul.c's: by the weight's sizes alone. */
bool takes(enum dtype type, int64_t n, int64_t k) { return type == DTYPE_BF16 && n % 8 == 0 && k % 8 == 0; }

template <bool TRANSPOSED, typename D>
void rows_product(struct backend *backend, const row_groups *groups, const grouped_product &p)
{
    const int64_t mean = groups->rows / groups->n;
    if (mean <= 16)
        launch<few_rows, TRANSPOSED, false, D>(backend, groups, p);
    else if (mean <= 64)
        launch<some_rows, TRANSPOSED, false, D>(backend, groups, p);
    else
        launch<many_rows, TRANSPOSED, false, D>(backend, groups, p);
}

/* The stack of weights where products find it. */
const void *staged(struct backend *backend, const struct weight *const *w, int32_t n_groups)
{
    return cuda_stage(backend, w[0]->natural,
                      (size_t)n_groups * (size_t)(w[0]->n * w[0]->k) * dtype_bytes(w[0]->stored), false);
}

/* A product of these groups; all else is 0. */
grouped_product product_of(const struct row_groups *groups)
{
    grouped_product p = {};
    p.begin = groups->begin;
    p.pair = groups->pair;
    p.n_groups = groups->n;
    p.each = groups->each;
    p.scale = 1.0f;
    return p;
}

/* One with weights, which lie behind each other: of y = x . w^T, or with backward of dx = dy . w. */
grouped_product product_with(struct backend *backend, const struct row_groups *groups,
                             const struct weight *const *weights, bool backward)
{
    const struct weight *w = weights[0];
    grouped_product p = product_of(groups);
    p.a = staged(backend, weights, groups->n);
    p.a_group = w->n * w->k;
    p.lda = w->k;
    p.n_a = (int32_t)(backward ? w->k : w->n);
    p.depth = (int32_t)(backward ? w->n : w->k);
    p.ldb = backward ? w->n : w->k;
    p.ldd = backward ? w->k : w->n;
    assert(groups->n == 1 ||
           (const char *)weights[1]->natural == (const char *)w->natural + (size_t)p.a_group * dtype_bytes(w->stored));
    return p;
}

/* d = scale * x . w[e]^T of every row, or with BACKWARD scale * x . w[e]; or d += that. */
struct with_weights {
    const struct weight *const *w;
    const void *x;
    bool gather;
    void *d;
    enum dtype d_type;
    float scale;
    bool add;
};

template <bool BACKWARD> void multiply(struct backend *backend, const struct row_groups *groups, const with_weights &m)
{
    const struct weight *w = m.w[0];
    const bool wide = m.d_type == DTYPE_F32;
    grouped_product p = product_with(backend, groups, m.w, BACKWARD);
    p.b = m.x;
    p.gather_b = m.gather;
    p.d = m.d;
    p.scale = m.scale;
    p.add = m.add;
    if (takes(w->type, w->n, w->k))
        (wide ? rows_product<BACKWARD, float> : rows_product<BACKWARD, uint16_t>)(backend, groups, p);
    else if (w->stored == DTYPE_F16) {
        assert(wide);
        launch_plain<half_element, float, float, BACKWARD, false>(backend, groups, p);
    } else if (w->type == DTYPE_F32)
        (wide ? launch_plain<float, float, float, BACKWARD, false>
              : launch_plain<float, float, uint16_t, BACKWARD, false>)(backend, groups, p);
    else
        (wide ? launch_plain<uint16_t, uint16_t, float, BACKWARD, false>
              : launch_plain<uint16_t, uint16_t, uint16_t, BACKWARD, false>)(backend, groups, p);
    cuda_staged(backend, w->natural);
}

/* dw[e] += dy^T . x over the rows of each group. */
void add_gradient(struct backend *backend, const struct grouped_backward_weight &f)
{
    grouped_product p = product_of(f.groups);
    p.a = f.dy;
    p.b = f.x;
    p.n_a = (int32_t)f.n;
    p.n_b = (int32_t)f.k;
    p.lda = f.n;
    p.ldb = f.k;
    p.gather_a = f.gather_dy;
    p.gather_b = f.gather_x;
    p.d = cuda_stage(backend, f.dw, (size_t)f.groups->n * (size_t)(f.n * f.k) * sizeof *f.dw, true);
    p.ldd = f.k;
    if (takes(f.type, f.n, f.k))
        launch<many_rows, true, true, float>(backend, f.groups, p);
    else if (f.type == DTYPE_F32)
        launch_plain<float, float, float, true, true>(backend, f.groups, p);
    else
        launch_plain<uint16_t, uint16_t, float, true, true>(backend, f.groups, p);
    cuda_staged(backend, f.dw);
}

/* Of h or d of a change. */
size_t narrow_bytes(int64_t rows, int64_t rank, size_t element)
{
    return ((size_t)(rows * rank) * element + 255) / 256 * 256;
}

} // namespace

extern "C" void cuda_grouped_forward(struct backend *backend, const struct grouped_forward *f)
{
    if (f->groups->rows == 0)
        return;
    multiply<false>(backend, f->groups, {f->w, f->x, f->gather, f->y, f->w[0]->type, 1.0f, false});
    cuda_note(backend, "grouped_forward", cudaSuccess);
}

extern "C" void cuda_grouped_backward_input(struct backend *backend, const struct grouped_backward_input *f)
{
    if (f->groups->rows == 0)
        return;
    multiply<true>(backend, f->groups, {f->w, f->dy, f->gather, f->dx, f->dx_type, 1.0f, false});
    cuda_note(backend, "grouped_backward_input", cudaSuccess);
}

extern "C" void cuda_grouped_backward_weight(struct backend *backend, const struct grouped_backward_weight *f)
{
    if (f->groups->rows == 0)
        return;
    add_gradient(backend, *f);
    cuda_note(backend, "grouped_backward_weight", cudaSuccess);
}

extern "C" size_t cuda_grouped_scratch(int64_t rows, int64_t rank)
{
    return 2 * narrow_bytes(rows, rank, sizeof(float));
}

extern "C" void cuda_grouped_change_forward(struct backend *backend, const struct grouped_change_forward *f)
{
    const struct expert_change *c = f->change;
    const enum dtype act = c->a[0]->type;
    if (f->groups->rows == 0)
        return;
    void *h = cuda_scratch(backend, cuda_grouped_scratch(f->groups->rows, c->r));
    if (h == nullptr)
        return;
    multiply<false>(backend, f->groups, {c->a, f->x, f->gather, h, act, c->scale, false});
    multiply<false>(backend, f->groups, {c->b, h, false, f->y, act, 1.0f, true});
    cuda_note(backend, "grouped_change_forward", cudaSuccess);
}

extern "C" void cuda_grouped_change_backward(struct backend *backend, const struct grouped_change_backward *f)
{
    const struct row_groups *groups = f->groups;
    const struct expert_change *c = f->change;
    const enum dtype act = c->a[0]->type;
    if (groups->rows == 0)
        return;
    char *d = (char *)cuda_scratch(backend, cuda_grouped_scratch(groups->rows, c->r));
    if (d == nullptr)
        return;
    multiply<true>(backend, groups, {c->b, f->dy, f->gather_dy, d, act, c->scale, false});
    if (f->dx != nullptr)
        multiply<true>(backend, groups, {c->a, d, false, f->dx, f->dx_type, 1.0f, true});
    if (f->x != nullptr) {
        char *h = d + narrow_bytes(groups->rows, c->r, dtype_bytes(act));
        multiply<false>(backend, groups, {c->a, f->x, f->gather_x, h, act, c->scale, false});
        add_gradient(backend, {groups, c->n, c->r, f->gather_dy, false, f->dy, h, act, c->db});
        add_gradient(backend, {groups, c->r, c->k, false, f->gather_x, d, f->x, act, c->da});
    }
    cuda_note(backend, "grouped_change_backward", cudaSuccess);
}

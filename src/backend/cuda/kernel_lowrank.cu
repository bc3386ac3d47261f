/* Changes of low rank (LoRA), as two products of which each reads or writes one large matrix once: narrow is
 * h[m, R] = scale * x[m, k] . w[R, k]^T, wide is y[m, n] += h[m, r] . w[n, r]^T. Both read w with its reduction along
 * rows, so that the backward passes take the transposes of a and b.
 *
 * Exactness: narrow sums over k in segments of SEGMENT, each one chain of matrix instructions in fp32; the segments of a
 * group of WARPS are added ascending, and the groups are, whether one block walks all groups (many rows) or each has a
 * block of its own and the last one to arrive adds them up (few rows). Which lane has which k does not matter to a sum
 * that one instruction takes; it is chosen so that a lane reads 16 bytes. wide is one chain over r. */
#include "backend/cuda/vector_access.cuh"

#include <assert.h>

namespace
{

constexpr int WARPS = 8, THREADS = 32 * WARPS, SEGMENT = 128, GROUP = WARPS * SEGMENT, STEP = 32;
constexpr int TILE = 16;                    /* rows and columns of the instruction's tile are 16 and 8 */
constexpr int COLUMNS = 64, WIDE_WARPS = 4; /* of wide: columns of a warp, which lie beside each other in a block */
constexpr int64_t FEW_ROWS = 1024;          /* up to here the groups of narrow have blocks of their own */
constexpr int ARRIVED = 8192;               /* counters */

struct narrow_part {
    uint16_t *to;
    int64_t stride;
    int32_t begin; /* first of its columns */
    float scale;
};

struct narrow_args {
    int64_t m, depth, x_stride;
    const uint16_t *x, *w; /* w [columns, depth] */
    int32_t columns, n_parts, groups;
    narrow_part part[LOWRANK_PARTS];
    float *partial; /* [groups, m, columns], or NULL: a block walks all groups */
    int32_t *arrived;
};

__device__ __forceinline__ void store_narrow(const narrow_args &p, int64_t row, int32_t column, float sum)
{
    int i = 0;
    while (i + 1 < p.n_parts && column >= p.part[i + 1].begin)
        i++;
    const narrow_part &part = p.part[i];
    part.to[row * part.stride + (column - part.begin)] = float_to_bf16(part.scale * sum);
}

/* The warp's segment of a group: sums[ROWS / 16][N / 8] of its rows and columns from column0 on. */
template <int MT, int NT>
__device__ __forceinline__ void multiply_segment(const narrow_args &p, int64_t row0, int32_t column0, int64_t begin,
                                                 float sum[MT][NT][4])
{
    const int lane = (int)threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const uint16_t *x[MT][2], *w[NT];
    const int64_t end = begin + SEGMENT < p.depth ? begin + SEGMENT : p.depth;
#pragma unroll
    for (int i = 0; i < MT; i++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int64_t row = row0 + i * TILE + h * 8 + g;
            x[i][h] = p.x + (row < p.m ? row : p.m - 1) * p.x_stride + t * 8;
        }
#pragma unroll
    for (int j = 0; j < NT; j++) {
        const int32_t column = column0 + j * 8 + g;
        w[j] = p.w + (int64_t)(column < p.columns ? column : p.columns - 1) * p.depth + t * 8;
    }
#pragma unroll
    for (int i = 0; i < MT; i++)
#pragma unroll
        for (int j = 0; j < NT; j++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                sum[i][j][e] = 0.0f;
#pragma unroll 4
    for (int64_t k = begin; k < end; k += STEP) {
        uint4 a[MT][2], b[NT];
#pragma unroll
        for (int i = 0; i < MT; i++)
#pragma unroll
            for (int h = 0; h < 2; h++)
                a[i][h] = *(const uint4 *)(x[i][h] + k);
#pragma unroll
        for (int j = 0; j < NT; j++)
            b[j] = *(const uint4 *)(w[j] + k);
#pragma unroll
        for (int i = 0; i < MT; i++) {
            const uint32_t low[4] = {a[i][0].x, a[i][1].x, a[i][0].y, a[i][1].y};
            const uint32_t high[4] = {a[i][0].z, a[i][1].z, a[i][0].w, a[i][1].w};
#pragma unroll
            for (int j = 0; j < NT; j++) {
                mma_bf16(sum[i][j], low, b[j].x, b[j].y);
                mma_bf16(sum[i][j], high, b[j].z, b[j].w);
            }
        }
    }
}

/* Block: MT * 16 rows, NT * 8 columns, one group or all. The warps' sums are added in ascending order, in two rounds of
 * shared memory. */
template <int MT, int NT> __global__ void __launch_bounds__(THREADS) narrow_kernel(narrow_args p)
{
    constexpr int ROWS = MT * TILE, N = NT * 8, EACH = ROWS * N / THREADS, ROUND = WARPS / 2;
    __shared__ float shared[ROUND][ROWS][N];
    __shared__ int last;
    const int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const int64_t row0 = (int64_t)blockIdx.x * ROWS;
    const int32_t column0 = (int32_t)blockIdx.z * N;
    const int32_t first = p.partial != nullptr ? (int32_t)blockIdx.y : 0;
    const int32_t end = p.partial != nullptr ? first + 1 : p.groups;
    float total[EACH] = {};
    for (int32_t group = first; group < end; group++) {
        float sum[MT][NT][4];
        multiply_segment<MT, NT>(p, row0, column0, (int64_t)group * GROUP + warp * SEGMENT, sum);
        float added[EACH] = {};
#pragma unroll
        for (int round = 0; round < WARPS / ROUND; round++) {
            if (group > first || round > 0)
                __syncthreads();
            if (warp / ROUND == round) {
#pragma unroll
                for (int i = 0; i < MT; i++)
#pragma unroll
                    for (int j = 0; j < NT; j++)
#pragma unroll
                        for (int e = 0; e < 4; e++)
                            shared[warp % ROUND][i * TILE + e / 2 * 8 + g][j * 8 + t * 2 + e % 2] = sum[i][j][e];
            }
            __syncthreads();
#pragma unroll
            for (int i = 0; i < EACH; i++) {
                const int at = i * THREADS + (int)threadIdx.x, row = at / N, column = at % N;
#pragma unroll
                for (int s = 0; s < ROUND; s++)
                    added[i] = round + s > 0 ? added[i] + shared[s][row][column] : shared[s][row][column];
            }
        }
#pragma unroll
        for (int i = 0; i < EACH; i++)
            total[i] = group > first ? total[i] + added[i] : added[i];
    }
    if (p.partial != nullptr) {
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const int at = i * THREADS + (int)threadIdx.x, column = column0 + at % N;
            const int64_t row = row0 + at / N;
            if (row < p.m && column < p.columns)
                p.partial[((int64_t)first * p.m + row) * p.columns + column] = total[i];
        }
        __threadfence();
        __syncthreads();
        if (threadIdx.x == 0) {
            int32_t *arrived = p.arrived + (int64_t)blockIdx.z * gridDim.x + blockIdx.x;
            /* Counts blocks: whoever is last, the sums below are in order. */
            last = atomicAdd(arrived, 1) == p.groups - 1;
            if (last)
                *arrived = 0;
        }
        __syncthreads();
        if (!last)
            return;
        __threadfence();
    }
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const int at = i * THREADS + (int)threadIdx.x;
        const int32_t column = column0 + at % N;
        const int64_t row = row0 + at / N;
        if (row >= p.m || column >= p.columns)
            continue;
        float sum = total[i];
        if (p.partial != nullptr) {
            const float *from = p.partial + row * p.columns + column;
            sum = __ldcg(from);
            for (int32_t group = 1; group < p.groups; group++)
                sum += __ldcg(from + (int64_t)group * p.m * p.columns);
        }
        store_narrow(p, row, column, sum);
    }
}

struct wide_part {
    const uint16_t *h, *w; /* [m, h_stride], [n, r] */
    int64_t h_stride, n, column;
    int32_t r, block; /* block: its first along the grid */
};

struct wide_args {
    int64_t m, y_stride;
    void *y;
    int32_t n_parts;
    wide_part part[LOWRANK_PARTS];
};

/* Eight consecutive elements of y, as they lie there, and with v added: what adds 0 changes nothing. */
struct run_of_bf16 {
    uint4 word;
    __device__ __forceinline__ void load(const uint16_t *y) { word = *(const uint4 *)y; }
    __device__ __forceinline__ void add(uint16_t *y, const float v[8]) const
    {
        const uint32_t was[4] = {word.x, word.y, word.z, word.w};
        uint32_t is[4];
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const float low = __uint_as_float(was[e] << 16), high = __uint_as_float(was[e] & 0xffff0000u);
            const uint32_t both = pack_bf16(low + v[2 * e], high + v[2 * e + 1]);
            is[e] = (v[2 * e] == 0.0f ? was[e] & 0xffffu : both & 0xffffu) |
                    (v[2 * e + 1] == 0.0f ? was[e] & 0xffff0000u : both & 0xffff0000u);
        }
        __stcg((uint4 *)y, make_uint4(is[0], is[1], is[2], is[3]));
    }
};
struct run_of_floats {
    float word[8];
    __device__ __forceinline__ void load(const float *y)
    {
        load_vector4(y, word);
        load_vector4(y + 4, word + 4);
    }
    __device__ __forceinline__ void add(float *y, const float v[8]) const
    {
        float sum[8];
#pragma unroll
        for (int e = 0; e < 8; e++)
            sum[e] = v[e] == 0.0f ? word[e] : word[e] + v[e];
        store_vector4(y, sum);
        store_vector4(y + 4, sum + 4);
    }
};
template <typename Y> struct run_type;
template <> struct run_type<float> {
    using type = run_of_floats;
};
template <> struct run_type<uint16_t> {
    using type = run_of_bf16;
};

/* Block: a tile of 16 rows, COLUMNS columns of one part for each warp. A lane's columns of four tiles of the instruction
 * are eight consecutive ones: column c of tile j is column c / 2 * 8 + 2 j + c % 2 of 32. All that a lane reads for the
 * first step of r is asked for before it is used. */
template <typename Y> __global__ void __launch_bounds__(32 * WIDE_WARPS) wide_kernel(wide_args p)
{
    constexpr int TILES = COLUMNS / 8, RUNS = COLUMNS / 32;
    const int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32, g = lane / 4, t = lane % 4;
    int i = 0;
    while (i + 1 < p.n_parts && (int32_t)blockIdx.x >= p.part[i + 1].block)
        i++;
    const wide_part &part = p.part[i];
    const int64_t column0 = ((int64_t)((int32_t)blockIdx.x - part.block) * WIDE_WARPS + warp) * COLUMNS;
    const int64_t row0 = (int64_t)blockIdx.y * TILE;
    const int64_t rows[2] = {row0 + g, row0 + g + 8};
    float sum[TILES][4] = {};
    uint2 b[TILES] = {};
    typename run_type<Y>::type old[2][RUNS] = {};
    start_dependents();
#pragma unroll
    for (int j = 0; j < TILES; j++) {
        const int64_t column = column0 + j / 4 * 32 + g / 2 * 8 + j % 4 * 2 + g % 2;
        if (column < part.n && t * 4 < part.r)
            b[j] = *(const uint2 *)(part.w + column * part.r + t * 4);
    }
    if (column0 >= part.n)
        return;
    for (int k = t * 4; k < part.r + t * 4; k += TILE) {
        uint2 a[2] = {};
#pragma unroll
        for (int h = 0; h < 2; h++)
            if (rows[h] < p.m && k < part.r)
                a[h] = *(const uint2 *)(part.h + rows[h] * part.h_stride + k);
        if (k < TILE) {
#pragma unroll
            for (int h = 0; h < 2; h++)
#pragma unroll
                for (int q = 0; q < RUNS; q++) {
                    const int64_t column = column0 + q * 32 + t * 8;
                    if (rows[h] < p.m && column < part.n)
                        old[h][q].load((const Y *)p.y + rows[h] * p.y_stride + part.column + column);
                }
        } else {
#pragma unroll
            for (int j = 0; j < TILES; j++) {
                const int64_t column = column0 + j / 4 * 32 + g / 2 * 8 + j % 4 * 2 + g % 2;
                b[j] = column < part.n && k < part.r ? *(const uint2 *)(part.w + column * part.r + k) : uint2{};
            }
        }
        const uint32_t pairs[4] = {a[0].x, a[1].x, a[0].y, a[1].y};
#pragma unroll
        for (int j = 0; j < TILES; j++)
            mma_bf16(sum[j], pairs, b[j].x, b[j].y);
    }
#pragma unroll
    for (int h = 0; h < 2; h++)
#pragma unroll
        for (int q = 0; q < RUNS; q++) {
            const int64_t column = column0 + q * 32 + t * 8;
            float v[8];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                v[2 * j] = sum[q * 4 + j][2 * h];
                v[2 * j + 1] = sum[q * 4 + j][2 * h + 1];
            }
            if (rows[h] < p.m && column < part.n)
                old[h][q].add((Y *)p.y + rows[h] * p.y_stride + part.column + column, v);
        }
}

/* ---- the gradient of a factor: out[N, R] += wide[m, N]^T . narrow[m, R] ----
 *
 * Rows in fixed blocks of BLOCK_ROWS, each one chain; what they give is added in ascending order. */
constexpr int BLOCK_ROWS = 1024, DEPTH = 32, GRADIENT_COLUMNS = 16 * WARPS, STAGES = 3;
constexpr int WIDE_ROW = GRADIENT_COLUMNS + 8; /* of shared memory: eight rows lie in different banks */

struct gradient_args {
    int64_t m, n, wide_stride, narrow_stride;
    const uint16_t *wide, *narrow;
    int32_t r;
    float *partial; /* [blocks of rows, n, r] */
};

template <int NT>
__device__ __forceinline__ void load_stage(const gradient_args &p, uint16_t (*wide)[WIDE_ROW],
                                           uint16_t (*narrow)[NT * 8 + 8], int64_t row0, int64_t column0, int32_t r0)
{
    constexpr int WIDE_EACH = GRADIENT_COLUMNS / 8, NARROW_EACH = NT;
    for (int i = (int)threadIdx.x; i < DEPTH * WIDE_EACH; i += THREADS) {
        const int row = i / WIDE_EACH, column = i % WIDE_EACH * 8;
        const bool valid = row0 + row < p.m && column0 + column < p.n;
        copy_async16(&wide[row][column], valid ? p.wide + (row0 + row) * p.wide_stride + column0 + column : p.wide,
                     valid);
    }
    for (int i = (int)threadIdx.x; i < DEPTH * NARROW_EACH; i += THREADS) {
        const int row = i / NARROW_EACH, column = i % NARROW_EACH * 8;
        const bool valid = row0 + row < p.m && r0 + column < p.r;
        copy_async16(&narrow[row][column], valid ? p.narrow + (row0 + row) * p.narrow_stride + r0 + column : p.narrow,
                     valid);
    }
}

/* Block: GRADIENT_COLUMNS of N, NT * 8 of R, one block of rows; a warp has 16 of N. */
template <int NT> __global__ void __launch_bounds__(THREADS) gradient_kernel(gradient_args p)
{
    __shared__ __align__(16) uint16_t wide[STAGES][DEPTH][WIDE_ROW], narrow[STAGES][DEPTH][NT * 8 + 8];
    const int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const int64_t column0 = (int64_t)blockIdx.x * GRADIENT_COLUMNS, first = (int64_t)blockIdx.y * BLOCK_ROWS;
    const int64_t end = first + BLOCK_ROWS < p.m ? first + BLOCK_ROWS : p.m;
    const int32_t r0 = (int32_t)blockIdx.z * NT * 8;
    const int steps = (int)((end - first + DEPTH - 1) / DEPTH);
    float sum[NT][4] = {};
    for (int s = 0; s < STAGES - 1; s++) {
        if (s < steps)
            load_stage<NT>(p, wide[s], narrow[s], first + s * DEPTH, column0, r0);
        copy_async_commit();
    }
    for (int s = 0; s < steps; s++) {
        const int stage = s % STAGES, next = s + STAGES - 1;
        copy_async_wait<STAGES - 2>();
        __syncthreads();
        if (next < steps)
            load_stage<NT>(p, wide[next % STAGES], narrow[next % STAGES], first + (int64_t)next * DEPTH, column0, r0);
        copy_async_commit();
#pragma unroll
        for (int k = 0; k < DEPTH; k += TILE) {
            uint32_t a[4];
            load_matrix4_transposed(a, &wide[stage][k + lane / 16 * 8 + lane % 8][warp * 16 + lane / 8 % 2 * 8]);
#pragma unroll
            for (int j = 0; j < NT; j += 2) {
                uint32_t b[4];
                load_matrix4_transposed(b, &narrow[stage][k + lane / 8 % 2 * 8 + lane % 8][(j + lane / 16) * 8]);
                mma_bf16(sum[j], a, b[0], b[1]);
                mma_bf16(sum[j + 1], a, b[2], b[3]);
            }
        }
    }
    copy_async_wait<0>();
#pragma unroll
    for (int j = 0; j < NT; j++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int64_t row = column0 + warp * 16 + h * 8 + g;
            const int32_t column = r0 + j * 8 + t * 2;
            if (row < p.n && column < p.r)
                *(float2 *)(p.partial + ((int64_t)blockIdx.y * p.n + row) * p.r + column) =
                    make_float2(sum[j][2 * h], sum[j][2 * h + 1]);
        }
}

/* out[N, R], or [R, N] if transposed, += the blocks' sums. */
__global__ void add_gradient_kernel(int64_t n, int32_t r, int32_t blocks, const float *partial, float *out,
                                    int transposed)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n * r)
        return;
    float sum = partial[i];
    for (int32_t b = 1; b < blocks; b++)
        sum += partial[(int64_t)b * n * r + i];
    out[transposed ? i % r * n + i / r : i] += sum;
}

/* ---- any sizes, and fp32: one thread an element, one chain over the depth ---- */

struct plain_args {
    int64_t m, columns, depth, x_stride, to_stride, w_column, w_depth;
    float scale;
    int add; /* to += the sum where that is not 0; else to = scale * sum */
};

template <typename T, typename TO> __global__ void plain_kernel(plain_args p, const T *x, const T *w, TO *to)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= p.m * p.columns)
        return;
    const int64_t row = i / p.columns, column = i % p.columns;
    float sum = 0.0f;
    for (int64_t k = 0; k < p.depth; k++)
        sum = fmaf(load_element(x + row * p.x_stride + k), load_element(w + column * p.w_column + k * p.w_depth), sum);
    TO *at = to + row * p.to_stride + column;
    if (!p.add)
        store_element(at, p.scale * sum);
    else if (sum != 0.0f)
        store_element(at, load_element(at) + sum);
}

template <typename T> __global__ void transpose_kernel(int64_t rows, int64_t columns, const T *from, T *to)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < rows * columns)
        to[i % columns * rows + i / columns] = from[i];
}

/* ---- host ---- */

/* By the sizes of the change and of what it changes alone. */
bool takes(const struct lowrank *change, int64_t stride)
{
    bool good = change->a->type == DTYPE_BF16 && change->k % STEP == 0 && stride % 8 == 0;
    for (int32_t i = 0; i < change->n_parts; i++) {
        const struct lowrank_part *part = &change->part[i];
        good = good && part->n % STEP == 0 && part->column % 8 == 0 && part->r % 8 == 0;
    }
    return good;
}

template <int MT, int NT> void launch_narrow(cudaStream_t stream, const narrow_args &p)
{
    const dim3 grid((unsigned)ceil_div(p.m, MT * TILE), p.partial != nullptr ? (unsigned)p.groups : 1,
                    (unsigned)ceil_div(p.columns, NT * 8));
    LAUNCH((narrow_kernel<MT, NT>), grid, dim3(THREADS), 0, stream, p);
}

/* partial: room for [groups, m, columns] floats where m is at most FEW_ROWS. */
void narrow(struct cuda_state *s, cudaStream_t stream, narrow_args p, float *partial)
{
    p.groups = (int32_t)ceil_div(p.depth, GROUP);
    const int64_t counters = ceil_div(p.m, TILE) * ceil_div(p.columns, 16);
    if (p.m <= FEW_ROWS && p.groups > 1 && counters <= ARRIVED) {
        p.partial = partial;
        p.arrived = s->lowrank_arrived;
    }
    if (p.m <= FEW_ROWS || p.columns <= 16)
        p.m <= FEW_ROWS ? launch_narrow<1, 2>(stream, p) : launch_narrow<2, 2>(stream, p);
    else if (p.columns <= 32)
        launch_narrow<2, 4>(stream, p);
    else
        launch_narrow<2, 6>(stream, p);
}

void wide(const struct cuda_state *s, const wide_args &p, int64_t blocks, enum dtype y_type)
{
    const dim3 grid((unsigned)blocks, (unsigned)ceil_div(p.m, TILE)), block(32 * WIDE_WARPS);
    if (y_type == DTYPE_F32)
        LAUNCH((wide_kernel<float>), grid, block, 0, s->stream, p);
    else
        LAUNCH((wide_kernel<uint16_t>), grid, block, 0, s->stream, p);
}

unsigned blocks_for(int64_t elements) { return (unsigned)ceil_div(elements, 256); }

void plain(const struct cuda_state *s, const plain_args &p, const void *x, const void *w, enum dtype type, void *to,
           enum dtype to_type)
{
    const dim3 grid(blocks_for(p.m * p.columns)), block(256);
    if (type == DTYPE_F32 && to_type == DTYPE_F32)
        LAUNCH((plain_kernel<float, float>), grid, block, 0, s->stream, p, (const float *)x, (const float *)w,
               (float *)to);
    else if (type == DTYPE_F32)
        LAUNCH((plain_kernel<float, uint16_t>), grid, block, 0, s->stream, p, (const float *)x, (const float *)w,
               (uint16_t *)to);
    else if (to_type == DTYPE_F32)
        LAUNCH((plain_kernel<uint16_t, float>), grid, block, 0, s->stream, p, (const uint16_t *)x, (const uint16_t *)w,
               (float *)to);
    else
        LAUNCH((plain_kernel<uint16_t, uint16_t>), grid, block, 0, s->stream, p, (const uint16_t *)x,
               (const uint16_t *)w, (uint16_t *)to);
}

/* Where an operation's intermediate results lie. */
struct room {
    char *h, *d; /* h: [m, r] of each part behind the other; d: [m, r] of all */
    float *partial;
};

/* What is made once, at the first use, which is never recorded. */
bool begin(struct backend *backend)
{
    struct cuda_state *s = cuda_state_of(backend);
    if (cuda_alloc(backend, &s->lowrank_arrived, ARRIVED * sizeof(int32_t), "counters of adapters", nullptr) !=
        COHORT_OK) {
        cuda_note(backend, "counters of adapters", cudaErrorMemoryAllocation);
        return false;
    }
    cudaError_t result = cudaStreamCreateWithFlags(&s->side, cudaStreamNonBlocking);
    if (result == cudaSuccess)
        result = cudaEventCreateWithFlags(&s->fork, cudaEventDisableTiming);
    if (result == cudaSuccess)
        result = cudaEventCreateWithFlags(&s->join, cudaEventDisableTiming);
    cuda_note(backend, "a second stream", result);
    return result == cudaSuccess;
}

size_t align(size_t bytes) { return (bytes + 63) / 64 * 64; }

bool room_take(struct backend *backend, const struct lowrank *change, int64_t m, struct room *room)
{
    struct cuda_state *s = cuda_state_of(backend);
    int64_t depth = change->k;
    for (int32_t i = 0; i < change->n_parts; i++)
        depth = change->part[i].n > depth ? change->part[i].n : depth;
    const size_t part = align((size_t)(m * change->r) * dtype_bytes(change->a->type));
    char *memory = (char *)cuda_scratch(backend, cuda_lowrank_scratch(m, change->r, depth));
    if (memory == nullptr)
        return false;
    if (s->lowrank_arrived == nullptr && !begin(backend))
        return false;
    room->h = memory;
    room->d = memory + part;
    room->partial = (float *)(memory + 2 * part);
    return true;
}

/* room->h = scale * x . a^T */
void make_h(struct backend *backend, const struct lowrank *change, int64_t m, const void *x, bool good,
            cudaStream_t stream, const struct room *room)
{
    struct cuda_state *s = cuda_state_of(backend);
    const size_t type = dtype_bytes(change->a->type);
    narrow_args p = {};
    int64_t first = 0;
    p.m = m;
    p.depth = p.x_stride = change->k;
    p.x = (const uint16_t *)x;
    p.w = (const uint16_t *)change->a->natural;
    p.columns = (int32_t)change->r;
    p.n_parts = change->n_parts;
    for (int32_t i = 0; i < change->n_parts; i++) {
        const struct lowrank_part *part = &change->part[i];
        void *to = room->h + (size_t)(m * first) * type;
        if (good)
            p.part[i] = narrow_part{(uint16_t *)to, part->r, (int32_t)first, part->scale};
        else
            plain(s, plain_args{m, part->r, change->k, change->k, part->r, change->k, 1, part->scale, 0}, x,
                  (const char *)change->a->natural + (size_t)(first * change->k) * type, change->a->type, to,
                  change->a->type);
        first += part->r;
    }
    if (good)
        narrow(s, stream, p, room->partial);
}

/* room->d = scale * dy . b of each part, beside each other. */
void make_d(struct backend *backend, const struct lowrank_backward *op, bool good, const struct room *room)
{
    struct cuda_state *s = cuda_state_of(backend);
    const struct lowrank *change = op->change;
    const size_t type = dtype_bytes(change->a->type);
    int64_t first = 0;
    for (int32_t i = 0; i < change->n_parts; i++) {
        const struct lowrank_part *part = &change->part[i];
        const char *dy = (const char *)op->dy + (size_t)part->column * type;
        char *to = room->d + (size_t)first * type;
        if (good) {
            narrow_args p = {};
            p.m = op->m;
            p.depth = part->n;
            p.x_stride = op->dy_stride;
            p.x = (const uint16_t *)dy;
            p.w = (const uint16_t *)part->b->transposed;
            p.columns = (int32_t)part->r;
            p.n_parts = 1;
            p.part[0] = narrow_part{(uint16_t *)to, change->r, 0, part->scale};
            narrow(s, s->stream, p, room->partial);
        } else {
            plain(s, plain_args{op->m, part->r, part->n, op->dy_stride, change->r, 1, part->r, part->scale, 0}, dy,
                  part->b->natural, change->a->type, to, change->a->type);
        }
        first += part->r;
    }
}

/* out[n, r] (transposed: [r, n]) += wide[m, n]^T . narrow[m, r] */
void add_gradient(struct backend *backend, int64_t m, const void *wide, int64_t wide_stride, int64_t n,
                  const void *narrow, int64_t r, float *out, bool transposed, float *partial)
{
    const struct cuda_state *s = cuda_state_of(backend);
    gradient_args p = {};
    p.m = m;
    p.n = n;
    p.wide = (const uint16_t *)wide;
    p.wide_stride = wide_stride;
    p.narrow = (const uint16_t *)narrow;
    p.narrow_stride = r;
    p.r = (int32_t)r;
    p.partial = partial;
    const int64_t blocks = ceil_div(m, BLOCK_ROWS);
    const int columns = r <= 16 ? 16 : r <= 32 ? 32 : 48;
    const dim3 grid((unsigned)ceil_div(n, GRADIENT_COLUMNS), (unsigned)blocks, (unsigned)ceil_div(r, columns)),
        block(THREADS);
    if (columns == 16)
        LAUNCH((gradient_kernel<2>), grid, block, 0, s->stream, p);
    else if (columns == 32)
        LAUNCH((gradient_kernel<4>), grid, block, 0, s->stream, p);
    else
        LAUNCH((gradient_kernel<6>), grid, block, 0, s->stream, p);
    LAUNCH(add_gradient_kernel, dim3(blocks_for(n * r)), dim3(256), 0, s->stream, n, (int32_t)r, (int32_t)blocks,
           (const float *)partial, out, transposed ? 1 : 0);
}

} // namespace

/* Of partial sums: of narrow with few rows, and of the gradients. */
extern "C" size_t cuda_lowrank_scratch(int64_t tokens, int64_t rank, int64_t depth)
{
    const int64_t few = tokens < FEW_ROWS ? tokens : FEW_ROWS, narrow = few * ceil_div(depth, GROUP),
                  gradient = ceil_div(tokens, BLOCK_ROWS) * depth;
    return rank == 0 ? 0
                     : 2 * align((size_t)(tokens * rank) * sizeof(float)) +
                           (size_t)(rank * (narrow > gradient ? narrow : gradient)) * sizeof(float);
}

extern "C" void cuda_lowrank_destroy(struct backend *backend)
{
    struct cuda_state *s = cuda_state_of(backend);
    cuda_free(backend, s->lowrank_arrived);
    s->lowrank_arrived = nullptr;
    if (s->side != nullptr)
        (void)cudaStreamDestroy(s->side);
    if (s->fork != nullptr)
        (void)cudaEventDestroy(s->fork);
    if (s->join != nullptr)
        (void)cudaEventDestroy(s->join);
    s->side = nullptr;
    s->fork = s->join = nullptr;
}

extern "C" void cuda_transpose(struct backend *backend, const void *from, void *to, int64_t rows, int64_t columns,
                               enum dtype type)
{
    const cudaStream_t stream = cuda_state_of(backend)->stream;
    const dim3 grid(blocks_for(rows * columns)), block(256);
    if (type == DTYPE_F32)
        LAUNCH((transpose_kernel<float>), grid, block, 0, stream, rows, columns, (const float *)from, (float *)to);
    else
        LAUNCH((transpose_kernel<uint16_t>), grid, block, 0, stream, rows, columns, (const uint16_t *)from,
               (uint16_t *)to);
    cuda_note(backend, "transpose", cudaSuccess);
}

/* y += h . b^T */
static void add_h(struct backend *backend, const struct lowrank *change, int64_t m, void *y, int64_t y_stride,
                  enum dtype y_type, bool good, const struct room *room)
{
    const struct cuda_state *s = cuda_state_of(backend);
    const size_t type = dtype_bytes(change->a->type);
    wide_args p = {};
    int64_t first = 0, blocks = 0;
    p.m = m;
    p.y = y;
    p.y_stride = y_stride;
    p.n_parts = change->n_parts;
    for (int32_t i = 0; i < change->n_parts; i++) {
        const struct lowrank_part *part = &change->part[i];
        const char *h = room->h + (size_t)(m * first) * type;
        if (good)
            p.part[i] = wide_part{(const uint16_t *)h,
                                  (const uint16_t *)part->b->natural,
                                  part->r,
                                  part->n,
                                  part->column,
                                  (int32_t)part->r,
                                  (int32_t)blocks};
        else
            plain(s, plain_args{m, part->n, part->r, part->r, y_stride, part->r, 1, 1.0f, 1}, h, part->b->natural,
                  change->a->type, (char *)y + (size_t)part->column * dtype_bytes(y_type), y_type);
        blocks += ceil_div(part->n, WIDE_WARPS * COLUMNS);
        first += part->r;
    }
    if (good)
        wide(s, p, blocks, y_type);
}

/* h needs nothing of the product: in a recorded step of decoding, where it takes a small part of the machine, it is made
 * beside it, of what the product leaves of the machine. */
extern "C" void cuda_lowrank_forward(struct backend *backend, const struct lowrank_forward *op)
{
    static const char what[] = "a branch of a recorded step";
    const struct matmul_forward *product = op->product;
    struct cuda_state *s = cuda_state_of(backend);
    const bool good = takes(op->change, product->y_stride), beside = good && s->capturing;
    struct room room;
    if (product->m == 0 || !room_take(backend, op->change, product->m, &room))
        return;
    matmul_make_input(backend, product);
    struct matmul_forward rest = *product;
    rest.norm = nullptr;
    if (beside) {
        cuda_note(backend, what, cudaEventRecord(s->fork, s->stream));
        cuda_note(backend, what, cudaStreamWaitEvent(s->side, s->fork, 0));
    }
    if (rest.w != nullptr)
        cuda_matmul_forward(backend, &rest);
    make_h(backend, op->change, product->m, product->x, good, beside ? s->side : s->stream, &room);
    if (beside) {
        cuda_note(backend, what, cudaEventRecord(s->join, s->side));
        cuda_note(backend, what, cudaStreamWaitEvent(s->stream, s->join, 0));
    }
    add_h(backend, op->change, product->m, product->y, product->y_stride, product->y_type, good, &room);
    cuda_note(backend, "lowrank_forward", cudaSuccess);
}

static void weight_gradient(struct backend *backend, int64_t m, const void *dy, int64_t dy_stride, int64_t n,
                            const void *x, int64_t k, enum dtype type, float *dw)
{
    struct matmul_backward_weight product = {};
    product.m = m;
    product.n = n;
    product.k = k;
    product.dy = dy;
    product.dy_stride = dy_stride;
    product.x = x;
    product.type = type;
    product.dw = dw;
    cuda_matmul_backward_weight(backend, &product);
}

extern "C" void cuda_lowrank_backward(struct backend *backend, const struct lowrank_backward *op)
{
    struct cuda_state *s = cuda_state_of(backend);
    const struct lowrank *change = op->change;
    const enum dtype type = change->a->type;
    const bool good = takes(change, op->dy_stride);
    struct room room;
    int64_t first = 0;
    if (op->m == 0 || !room_take(backend, change, op->m, &room))
        return;
    make_h(backend, change, op->m, op->x, good, s->stream, &room);
    make_d(backend, op, good, &room);
    for (int32_t i = 0; i < change->n_parts; i++) {
        const struct lowrank_part *part = &change->part[i];
        const void *dy = (const char *)op->dy + (size_t)part->column * dtype_bytes(type),
                   *h = room.h + (size_t)(op->m * first) * dtype_bytes(type);
        first += part->r;
        if (part->db != nullptr && good)
            add_gradient(backend, op->m, dy, op->dy_stride, part->n, h, part->r, part->db, false, room.partial);
        else if (part->db != nullptr)
            weight_gradient(backend, op->m, dy, op->dy_stride, part->n, h, part->r, type, part->db);
    }
    if (change->da != nullptr && good)
        add_gradient(backend, op->m, op->x, change->k, change->k, room.d, change->r, change->da, true, room.partial);
    else if (change->da != nullptr)
        weight_gradient(backend, op->m, room.d, change->r, change->r, op->x, change->k, type, change->da);
    if (op->dx != nullptr && good) {
        wide_args p = {};
        p.m = op->m;
        p.y = op->dx;
        p.y_stride = change->k;
        p.n_parts = 1;
        p.part[0] = wide_part{(const uint16_t *)room.d,
                              (const uint16_t *)change->a->transposed,
                              change->r,
                              change->k,
                              0,
                              (int32_t)change->r,
                              0};
        wide(s, p, ceil_div(change->k, WIDE_WARPS * COLUMNS), op->dx_type);
    } else if (op->dx != nullptr) {
        plain(s, plain_args{op->m, change->k, change->r, change->r, change->k, 1, change->k, 1.0f, 1}, room.d,
              change->a->natural, type, op->dx, op->dx_type);
    }
    cuda_note(backend, "lowrank_backward", cudaSuccess);
}

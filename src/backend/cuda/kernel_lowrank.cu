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

constexpr int WARPS = 4, THREADS = 32 * WARPS, SEGMENT = 256, GROUP = WARPS * SEGMENT, STEP = 32;
constexpr int TILE = 16;           /* rows and columns of the instruction's tile are 16 and 8 */
constexpr int COLUMNS = 64;        /* of wide's block, which has a tile of rows for each warp */
constexpr int64_t FEW_ROWS = 1024; /* up to here the groups of narrow have blocks of their own */
constexpr int ARRIVED = 8192;      /* counters */

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

/* Block: MT * 16 rows, NT * 8 columns, one group or all. */
template <int MT, int NT> __global__ void __launch_bounds__(THREADS) narrow_kernel(narrow_args p)
{
    constexpr int ROWS = MT * TILE, N = NT * 8, EACH = ROWS * N / THREADS;
    __shared__ float shared[WARPS][ROWS][N];
    __shared__ int last;
    const int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const int64_t row0 = (int64_t)blockIdx.x * ROWS;
    const int32_t column0 = (int32_t)blockIdx.z * N;
    const int32_t first = p.partial != nullptr ? (int32_t)blockIdx.y : 0;
    const int32_t end = p.partial != nullptr ? first + 1 : p.groups;
    float total[EACH];
    start_dependents();
    wait_for_ahead();
    for (int32_t group = first; group < end; group++) {
        float sum[MT][NT][4];
        multiply_segment<MT, NT>(p, row0, column0, (int64_t)group * GROUP + warp * SEGMENT, sum);
        if (group > first)
            __syncthreads();
#pragma unroll
        for (int i = 0; i < MT; i++)
#pragma unroll
            for (int j = 0; j < NT; j++)
#pragma unroll
                for (int e = 0; e < 4; e++)
                    shared[warp][i * TILE + e / 2 * 8 + g][j * 8 + t * 2 + e % 2] = sum[i][j][e];
        __syncthreads();
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const int at = i * THREADS + (int)threadIdx.x, row = at / N, column = at % N;
            float added = shared[0][row][column];
#pragma unroll
            for (int s = 1; s < WARPS; s++)
                added += shared[s][row][column];
            total[i] = group > first ? total[i] + added : added;
        }
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

/* y of eight consecutive elements: what adds 0 changes nothing. */
__device__ __forceinline__ void add_run(uint16_t *y, const float v[8])
{
    uint4 *at = (uint4 *)y;
    const uint4 old = *at;
    const uint32_t was[4] = {old.x, old.y, old.z, old.w};
    uint32_t is[4];
#pragma unroll
    for (int e = 0; e < 4; e++) {
        const float low = __uint_as_float(was[e] << 16), high = __uint_as_float(was[e] & 0xffff0000u);
        const uint32_t both = pack_bf16(low + v[2 * e], high + v[2 * e + 1]);
        is[e] = (v[2 * e] == 0.0f ? was[e] & 0xffffu : both & 0xffffu) |
                (v[2 * e + 1] == 0.0f ? was[e] & 0xffff0000u : both & 0xffff0000u);
    }
    __stcg(at, make_uint4(is[0], is[1], is[2], is[3]));
}
__device__ __forceinline__ void add_run(float *y, const float v[8])
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float old[4];
        load_vector4(y + half * 4, old);
#pragma unroll
        for (int e = 0; e < 4; e++)
            old[e] = v[half * 4 + e] == 0.0f ? old[e] : old[e] + v[half * 4 + e];
        store_vector4(y + half * 4, old);
    }
}

/* Block: a tile of 16 rows for each warp, COLUMNS columns of one part. A lane's columns of four tiles of the instruction
 * are eight consecutive ones: column c of tile j is column c / 2 * 8 + 2 j + c % 2 of 32. */
template <typename Y> __global__ void __launch_bounds__(THREADS) wide_kernel(wide_args p)
{
    const int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32, g = lane / 4, t = lane % 4;
    int i = 0;
    while (i + 1 < p.n_parts && (int32_t)blockIdx.x >= p.part[i + 1].block)
        i++;
    const wide_part &part = p.part[i];
    const int64_t column0 = (int64_t)((int32_t)blockIdx.x - part.block) * COLUMNS;
    const int64_t row0 = ((int64_t)blockIdx.y * WARPS + warp) * TILE;
    float sum[COLUMNS / 8][4] = {};
    start_dependents();
    wait_for_ahead();
    if (row0 >= p.m)
        return;
    const int64_t rows[2] = {row0 + g, row0 + g + 8};
    for (int k = t * 4; k < part.r + t * 4; k += TILE) {
        uint2 a[2] = {};
#pragma unroll
        for (int h = 0; h < 2; h++)
            if (rows[h] < p.m && k < part.r)
                a[h] = *(const uint2 *)(part.h + rows[h] * part.h_stride + k);
        const uint32_t pairs[4] = {a[0].x, a[1].x, a[0].y, a[1].y};
#pragma unroll
        for (int j = 0; j < COLUMNS / 8; j++) {
            const int64_t column = column0 + j / 4 * 32 + g / 2 * 8 + j % 4 * 2 + g % 2;
            uint2 b = {};
            if (column < part.n && k < part.r)
                b = *(const uint2 *)(part.w + column * part.r + k);
            mma_bf16(sum[j], pairs, b.x, b.y);
        }
    }
#pragma unroll
    for (int h = 0; h < 2; h++)
#pragma unroll
        for (int q = 0; q < COLUMNS / 32; q++) {
            const int64_t column = column0 + q * 32 + t * 8;
            float v[8];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                v[2 * j] = sum[q * 4 + j][2 * h];
                v[2 * j + 1] = sum[q * 4 + j][2 * h + 1];
            }
            if (rows[h] < p.m && column < part.n)
                add_run((Y *)p.y + rows[h] * p.y_stride + part.column + column, v);
        }
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

/* By the sizes of the change alone. */
bool takes(const struct lowrank *change)
{
    bool good = change->a->type == DTYPE_BF16 && change->k % STEP == 0;
    for (int32_t i = 0; i < change->n_parts; i++) {
        const struct lowrank_part *part = &change->part[i];
        good = good && part->n % STEP == 0 && part->column % 8 == 0 && part->r % 8 == 0;
    }
    return good;
}

template <int MT, int NT> void launch_narrow(const struct cuda_state *s, const narrow_args &p)
{
    const dim3 grid((unsigned)ceil_div(p.m, MT * TILE), p.partial != nullptr ? (unsigned)p.groups : 1,
                    (unsigned)ceil_div(p.columns, NT * 8));
    LAUNCH_BEHIND(begins_early(s), (narrow_kernel<MT, NT>), grid, dim3(THREADS), 0, s->stream, p);
}

template <int MT> void launch_narrow_columns(const struct cuda_state *s, const narrow_args &p)
{
    if (p.columns <= 16)
        launch_narrow<MT, 2>(s, p);
    else if (p.columns <= 32)
        launch_narrow<MT, 4>(s, p);
    else
        launch_narrow<MT, 6>(s, p);
}

/* partial: room for [groups, m, columns] floats where m is at most FEW_ROWS. */
void narrow(struct cuda_state *s, narrow_args p, float *partial)
{
    p.groups = (int32_t)ceil_div(p.depth, GROUP);
    const int64_t counters = ceil_div(p.m, TILE) * ceil_div(p.columns, 16);
    if (p.m <= FEW_ROWS && p.groups > 1 && counters <= ARRIVED) {
        p.partial = partial;
        p.arrived = s->lowrank_arrived;
    }
    if (p.m <= FEW_ROWS)
        launch_narrow_columns<1>(s, p);
    else
        launch_narrow_columns<2>(s, p);
}

void wide(const struct cuda_state *s, const wide_args &p, int64_t blocks, enum dtype y_type)
{
    const dim3 grid((unsigned)blocks, (unsigned)ceil_div(p.m, WARPS * TILE));
    if (y_type == DTYPE_F32)
        LAUNCH_BEHIND(begins_early(s), (wide_kernel<float>), grid, dim3(THREADS), 0, s->stream, p);
    else
        LAUNCH_BEHIND(begins_early(s), (wide_kernel<uint16_t>), grid, dim3(THREADS), 0, s->stream, p);
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
    if (s->lowrank_arrived == nullptr && cuda_alloc(backend, &s->lowrank_arrived, ARRIVED * sizeof(int32_t),
                                                    "counters of adapters", nullptr) != COHORT_OK) {
        cuda_note(backend, "counters of adapters", cudaErrorMemoryAllocation);
        return false;
    }
    room->h = memory;
    room->d = memory + part;
    room->partial = (float *)(memory + 2 * part);
    return true;
}

/* room->h = scale * x . a^T */
void make_h(struct backend *backend, const struct lowrank *change, int64_t m, const void *x, const struct room *room)
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
        if (takes(change))
            p.part[i] = narrow_part{(uint16_t *)to, part->r, (int32_t)first, part->scale};
        else
            plain(s, plain_args{m, part->r, change->k, change->k, part->r, change->k, 1, part->scale, 0}, x,
                  (const char *)change->a->natural + (size_t)(first * change->k) * type, change->a->type, to,
                  change->a->type);
        first += part->r;
    }
    if (takes(change))
        narrow(s, p, room->partial);
}

/* room->d = scale * dy . b of each part, beside each other. */
void make_d(struct backend *backend, const struct lowrank_backward *op, const struct room *room)
{
    struct cuda_state *s = cuda_state_of(backend);
    const struct lowrank *change = op->change;
    const size_t type = dtype_bytes(change->a->type);
    int64_t first = 0;
    for (int32_t i = 0; i < change->n_parts; i++) {
        const struct lowrank_part *part = &change->part[i];
        const char *dy = (const char *)op->dy + (size_t)part->column * type;
        char *to = room->d + (size_t)first * type;
        if (takes(change)) {
            narrow_args p = {};
            p.m = op->m;
            p.depth = part->n;
            p.x_stride = op->dy_stride;
            p.x = (const uint16_t *)dy;
            p.w = (const uint16_t *)part->b->transposed;
            p.columns = (int32_t)part->r;
            p.n_parts = 1;
            p.part[0] = narrow_part{(uint16_t *)to, change->r, 0, part->scale};
            narrow(s, p, room->partial);
        } else {
            plain(s, plain_args{op->m, part->r, part->n, op->dy_stride, change->r, 1, part->r, part->scale, 0}, dy,
                  part->b->natural, change->a->type, to, change->a->type);
        }
        first += part->r;
    }
}

} // namespace

extern "C" size_t cuda_lowrank_scratch(int64_t tokens, int64_t rank, int64_t depth)
{
    const int64_t few = tokens < FEW_ROWS ? tokens : FEW_ROWS;
    return rank == 0 ? 0
                     : 2 * align((size_t)(tokens * rank) * sizeof(float)) +
                           (size_t)(few * rank * ceil_div(depth, GROUP)) * sizeof(float);
}

extern "C" void cuda_lowrank_destroy(struct backend *backend)
{
    struct cuda_state *s = cuda_state_of(backend);
    cuda_free(backend, s->lowrank_arrived);
    s->lowrank_arrived = nullptr;
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

extern "C" void cuda_lowrank_forward(struct backend *backend, const struct lowrank_forward *op)
{
    struct cuda_state *s = cuda_state_of(backend);
    const struct lowrank *change = op->change;
    const size_t type = dtype_bytes(change->a->type);
    struct room room;
    if (op->m == 0 || !room_take(backend, change, op->m, &room))
        return;
    make_h(backend, change, op->m, op->x, &room);
    wide_args p = {};
    int64_t first = 0, blocks = 0;
    p.m = op->m;
    p.y = op->y;
    p.y_stride = op->y_stride;
    p.n_parts = change->n_parts;
    for (int32_t i = 0; i < change->n_parts; i++) {
        const struct lowrank_part *part = &change->part[i];
        const char *h = room.h + (size_t)(op->m * first) * type;
        if (takes(change))
            p.part[i] = wide_part{(const uint16_t *)h,
                                  (const uint16_t *)part->b->natural,
                                  part->r,
                                  part->n,
                                  part->column,
                                  (int32_t)part->r,
                                  (int32_t)blocks};
        else
            plain(s, plain_args{op->m, part->n, part->r, part->r, op->y_stride, part->r, 1, 1.0f, 1}, h,
                  part->b->natural, change->a->type, (char *)op->y + (size_t)part->column * dtype_bytes(op->y_type),
                  op->y_type);
        blocks += ceil_div(part->n, COLUMNS);
        first += part->r;
    }
    if (takes(change))
        wide(s, p, blocks, op->y_type);
    cuda_note(backend, "lowrank_forward", cudaSuccess);
}

extern "C" void cuda_lowrank_backward(struct backend *backend, const struct lowrank_backward *op)
{
    struct cuda_state *s = cuda_state_of(backend);
    const struct lowrank *change = op->change;
    const enum dtype type = change->a->type;
    struct room room;
    int64_t first = 0;
    if (op->m == 0 || !room_take(backend, change, op->m, &room))
        return;
    make_h(backend, change, op->m, op->x, &room);
    make_d(backend, op, &room);
    for (int32_t i = 0; i < change->n_parts; i++) {
        const struct lowrank_part *part = &change->part[i];
        struct matmul_backward_weight product = {};
        product.m = op->m;
        product.n = part->n;
        product.k = part->r;
        product.dy = (const char *)op->dy + (size_t)part->column * dtype_bytes(type);
        product.dy_stride = op->dy_stride;
        product.x = room.h + (size_t)(op->m * first) * dtype_bytes(type);
        product.type = type;
        product.dw = part->db;
        if (part->db != nullptr)
            cuda_matmul_backward_weight(backend, &product);
        first += part->r;
    }
    struct matmul_backward_weight product = {};
    product.m = op->m;
    product.n = change->r;
    product.k = change->k;
    product.dy = room.d;
    product.dy_stride = change->r;
    product.x = op->x;
    product.type = type;
    product.dw = change->da;
    if (change->da != nullptr)
        cuda_matmul_backward_weight(backend, &product);
    if (takes(change)) {
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
        wide(s, p, ceil_div(change->k, COLUMNS), op->dx_type);
    } else {
        plain(s, plain_args{op->m, change->k, change->r, change->r, change->k, 1, change->k, 1.0f, 1}, room.d,
              change->a->natural, type, op->dx, op->dx_type);
    }
    cuda_note(backend, "lowrank_backward", cudaSuccess);
}

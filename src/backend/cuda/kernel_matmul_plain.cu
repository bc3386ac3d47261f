/* Matrix products in plain fp32 arithmetic: for fp32 models (parity, not speed) and for sizes that cuBLASLt's kernels
 * do not take. */
#include "backend/cuda/cuda_device.cuh"
#include "backend/cuda/kernel_matmul_plain.h"

#include <assert.h>

namespace
{

/* A block computes TILE x TILE elements, a thread CELL x CELL of them, DEPTH of the sum at a time. */
constexpr int TILE = 64, CELL = 4, SIDE = TILE / CELL, DEPTH = 16, THREADS = SIDE * SIDE;

struct plain_args {
    int64_t rows, columns, depth, a_row, a_depth, b_column, b_depth, d_row;
    int accumulate;
};

template <typename T, typename B, typename D>
__global__ void __launch_bounds__(THREADS) plain_kernel(plain_args p, const T *a, const B *b, D *d)
{
    __shared__ float tile_a[DEPTH][TILE + 1], tile_b[DEPTH][TILE + 1];
    const int64_t row0 = (int64_t)blockIdx.y * TILE, column0 = (int64_t)blockIdx.x * TILE;
    const int r = (int)threadIdx.x / SIDE, c = (int)threadIdx.x % SIDE;
    float sum[CELL][CELL] = {};
    for (int64_t l0 = 0; l0 < p.depth; l0 += DEPTH) {
        for (int i = (int)threadIdx.x; i < TILE * DEPTH; i += THREADS) {
            /* Neighbouring threads read neighbouring elements, whichever way the matrix lies. */
            int ia = p.a_depth == 1 ? i / DEPTH : i % TILE, la = p.a_depth == 1 ? i % DEPTH : i / TILE;
            int ib = p.b_depth == 1 ? i / DEPTH : i % TILE, lb = p.b_depth == 1 ? i % DEPTH : i / TILE;
            bool in_a = row0 + ia < p.rows && l0 + la < p.depth, in_b = column0 + ib < p.columns && l0 + lb < p.depth;
            tile_a[la][ia] = in_a ? load_element(a + (row0 + ia) * p.a_row + (l0 + la) * p.a_depth) : 0.0f;
            tile_b[lb][ib] = in_b ? load_element(b + (column0 + ib) * p.b_column + (l0 + lb) * p.b_depth) : 0.0f;
        }
        __syncthreads();
        const int n = p.depth - l0 < DEPTH ? (int)(p.depth - l0) : DEPTH;
        for (int l = 0; l < n; l++)
#pragma unroll
            for (int i = 0; i < CELL; i++)
#pragma unroll
                for (int j = 0; j < CELL; j++)
                    sum[i][j] = fmaf(tile_a[l][r + i * SIDE], tile_b[l][c + j * SIDE], sum[i][j]);
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < CELL; i++)
#pragma unroll
        for (int j = 0; j < CELL; j++) {
            int64_t row = row0 + r + i * SIDE, column = column0 + c + j * SIDE;
            if (row >= p.rows || column >= p.columns)
                continue;
            D *to = d + row * p.d_row + column;
            store_element(to, p.accumulate ? load_element(to) + sum[i][j] : sum[i][j]);
        }
}

template <typename T, typename B, typename D> void launch(cudaStream_t stream, const struct plain_product *p)
{
    const plain_args args = {p->rows,     p->columns, p->depth, p->a_row,     p->a_depth,
                             p->b_column, p->b_depth, p->d_row, p->accumulate};
    const dim3 grid((unsigned)((p->columns + TILE - 1) / TILE), (unsigned)((p->rows + TILE - 1) / TILE));
    LAUNCH((plain_kernel<T, B, D>), grid, dim3(THREADS), 0, stream, args, (const T *)p->a, (const B *)p->b, (D *)p->d);
}

} // namespace

/* Rows are blocks' y, of which there are at most 65,535: more go in slices. */
void cuda_plain_product(struct backend *backend, const struct plain_product *product)
{
    const int64_t most = (int64_t)65535 * TILE;
    struct plain_product p = *product;
    assert(p.b_type == p.type || (p.b_type == DTYPE_F16 && p.type == DTYPE_F32 && p.d_type == DTYPE_F32));
    cudaStream_t stream = cuda_state_of(backend)->stream;
    for (int64_t first = 0; first < product->rows; first += most) {
        p.rows = product->rows - first < most ? product->rows - first : most;
        p.a = (const char *)product->a + first * p.a_row * (int64_t)dtype_bytes(p.type);
        p.d = (char *)product->d + first * p.d_row * (int64_t)dtype_bytes(p.d_type);
        if (p.b_type == DTYPE_F16)
            launch<float, half_element, float>(stream, &p);
        else if (p.type == DTYPE_F32 && p.d_type == DTYPE_F32)
            launch<float, float, float>(stream, &p);
        else if (p.type == DTYPE_F32)
            launch<float, float, uint16_t>(stream, &p);
        else if (p.d_type == DTYPE_F32)
            launch<uint16_t, uint16_t, float>(stream, &p);
        else
            launch<uint16_t, uint16_t, uint16_t>(stream, &p);
    }
    cuda_note(backend, "plain product", cudaSuccess);
}

/* RMS norm (Zhang and Sennrich, arXiv 1910.07467), forward and backward. One block of threads works on a row, which
 * stays in registers. The order of sums: rmsnorm_row.cuh. */
#include "backend/cuda/rmsnorm_row.cuh"

#include <assert.h>

static __device__ __forceinline__ void copy4(const float from[4], float to[4])
{
#pragma unroll
    for (int e = 0; e < 4; e++)
        to[e] = from[e];
}

/* First element of the thread's group j. */
static __device__ __forceinline__ int element_of(int j) { return row_element((int)threadIdx.x, (int)blockDim.x, j); }

template <typename GAIN, int PER, bool WHOLE>
static __global__ void __launch_bounds__(ROW_THREADS, BLOCKS_HELD(ROW_THREADS, !WHOLE     ? 1
                                                                               : PER == 2 ? 4
                                                                                          : 2))
    rmsnorm_forward_kernel(int width, float inverse_width, const int32_t *row, const float *x, const GAIN *gain,
                           float eps, void *y, enum dtype y_type)
{
    __shared__ float partial[ROW_WARPS];
    const int64_t r = blockIdx.x;
    float v[PER][4], g[PER][4];
    start_dependents();
#pragma unroll
    for (int j = 0; j < PER; j++)
        load_part4<WHOLE>(gain, element_of(j), width, g[j]);
    wait_for_ahead();
    const float *from = x + (row ? row[r] : r) * width;
#pragma unroll
    for (int j = 0; j < PER; j++)
        load_part4<WHOLE>(from, element_of(j), width, v[j]);
    const float squares = row_warp_squares<PER>(v);
    if (threadIdx.x % 32 == 0)
        partial[threadIdx.x / 32] = squares;
    __syncthreads();
    const float rstd = row_rstd(partial, (int)blockDim.x / 32, inverse_width, eps);
#pragma unroll
    for (int j = 0; j < PER; j++) {
#pragma unroll
        for (int e = 0; e < 4; e++)
            v[j][e] = row_normed(v[j][e], rstd, g[j][e]);
        if (y_type == DTYPE_F32)
            store_part4<WHOLE>((float *)y + r * width, element_of(j), width, v[j]);
        else
            store_part4<WHOLE>((uint16_t *)y + r * width, element_of(j), width, v[j]);
    }
}

/* A block takes block_rows consecutive rows of dy, and leaves the sum over them of dy * n in row blockIdx.x of
 * gain_part (unless NULL). THREADS at most, and BLOCKS of them at a time on a multiprocessor, so that one reads while
 * another waits for its sums; wide rows read their gains again for every row for that (they lie in the first-level
 * cache). */
template <typename GAIN, int PER, int THREADS, int BLOCKS, bool WHOLE>
static __global__ void __launch_bounds__(THREADS, BLOCKS_HELD(THREADS, BLOCKS))
    rmsnorm_backward_kernel(int64_t rows, int block_rows, int width, float inverse_width,
                            const int32_t *__restrict__ row, const float *__restrict__ x, const GAIN *gain, float eps,
                            const float *__restrict__ dy, float *dx, float *gain_part)
{
    constexpr bool KEEP_GAINS = PER <= 2;
    /* Two of each: a row's sums are read while the next row's are written. */
    __shared__ float squares[2][ROW_WARPS], products[2][ROW_WARPS];
    const int64_t begin = (int64_t)blockIdx.x * block_rows;
    const int64_t end = begin + block_rows < rows ? begin + block_rows : rows;
    const int warp = threadIdx.x / 32, n_warps = blockDim.x / 32;
    float kept[KEEP_GAINS ? PER : 1][4], d_gain[PER][4];
#pragma unroll
    for (int j = 0; j < PER; j++) {
        if constexpr (KEEP_GAINS)
            load_part4<WHOLE>(gain, element_of(j), width, kept[j]);
#pragma unroll
        for (int e = 0; e < 4; e++)
            d_gain[j][e] = 0.0f;
    }
    for (int64_t r = begin; r < end; r++) {
        const int64_t x_row = row ? row[r] : r;
        const float *from = x + x_row * width;
        float *to = dx + x_row * width;
        float v[PER][4], d[PER][4], sum[PER][4];
#pragma unroll
        for (int j = 0; j < PER; j++) {
            load_part4<WHOLE>(from, element_of(j), width, v[j]);
            load_part4<WHOLE>(dy + r * width, element_of(j), width, d[j]);
            load_part4<WHOLE>(to, element_of(j), width, sum[j]);
        }
        float square[4] = {0.0f, 0.0f, 0.0f, 0.0f}, product[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
        for (int j = 0; j < PER; j++) {
            float g[4];
            if constexpr (KEEP_GAINS)
                copy4(kept[j], g);
            else
                load_part4<WHOLE>(gain, element_of(j), width, g);
#pragma unroll
            for (int e = 0; e < 4; e++) {
                square[e] = fmaf(v[j][e], v[j][e], square[e]);
                product[e] = fmaf(g[e] * d[j][e], v[j][e], product[e]);
            }
        }
        const float warp_square = warp_sum(add4(square)), warp_product = warp_sum(add4(product));
        const int side = (int)(r & 1);
        if (threadIdx.x % 32 == 0) {
            squares[side][warp] = warp_square;
            products[side][warp] = warp_product;
        }
        __syncthreads();
        float total = squares[side][0], dot = products[side][0];
        for (int w = 1; w < n_warps; w++) {
            total += squares[side][w];
            dot += products[side][w];
        }
        const float rstd = rsqrtf(fmaf(total, inverse_width, eps));
        /* n * mean(g*dy*n) = x * (rstd^2 * sum(g*dy*x) / C). */
        const float back = -(rstd * rstd * (dot * inverse_width));
#pragma unroll
        for (int j = 0; j < PER; j++) {
            float g[4];
            if constexpr (KEEP_GAINS)
                copy4(kept[j], g);
            else
                load_part4<WHOLE>(gain, element_of(j), width, g);
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const float inner = fmaf(v[j][e], back, g[e] * d[j][e]);
                sum[j][e] = fmaf(rstd, inner, sum[j][e]);
                d_gain[j][e] = fmaf(d[j][e], v[j][e] * rstd, d_gain[j][e]);
            }
            store_part4<WHOLE>(to, element_of(j), width, sum[j]);
        }
    }
    if (gain_part != NULL)
#pragma unroll
        for (int j = 0; j < PER; j++)
            store_part4<WHOLE>(gain_part + (int64_t)blockIdx.x * width, element_of(j), width, d_gain[j]);
}

template <typename GAIN> static void forward_of(const struct cuda_state *s, const struct rmsnorm_forward *p)
{
    const row_shape shape = row_shape_of(p->width);
    const bool in_fours = rows_in_fours(p->x, DTYPE_F32, p->width) && rows_in_fours(p->gain, p->gain_type, p->width) &&
                          rows_in_fours(p->y, p->y_type, p->width);
    auto kernel = in_fours ? rmsnorm_forward_kernel<GAIN, 4, true> : rmsnorm_forward_kernel<GAIN, 4, false>;
    if (shape.per_thread == 2)
        kernel = in_fours ? rmsnorm_forward_kernel<GAIN, 2, true> : rmsnorm_forward_kernel<GAIN, 2, false>;
    LAUNCH_BEHIND(begins_early(s), kernel, dim3((unsigned)p->rows), dim3((unsigned)shape.threads), 0, s->stream,
                  (int)p->width, 1.0f / (float)p->width, p->row, p->x, (const GAIN *)p->gain, p->eps, p->y, p->y_type);
}

extern "C" void cuda_rmsnorm_forward(struct backend *backend, const struct rmsnorm_forward *p)
{
    assert(p->width > 0 && p->gain_type != DTYPE_F16 && p->y_type != DTYPE_F16);
    if (p->rows == 0)
        return;
    if (p->width > ROW_WIDTH) {
        cuda_note(backend, "rmsnorm_forward: width", cudaErrorInvalidValue);
        return;
    }
    if (p->gain_type == DTYPE_F32)
        forward_of<float>(cuda_state_of(backend), p);
    else
        forward_of<uint16_t>(cuda_state_of(backend), p);
    cuda_note(backend, "rmsnorm_forward", cudaSuccess);
}

template <typename GAIN>
static void backward_of(cudaStream_t stream, const struct rmsnorm_backward *p, int block_rows, float *part)
{
    const row_shape shape = row_shape_of(p->width);
    const bool in_fours = rows_in_fours(p->x, DTYPE_F32, p->width) && rows_in_fours(p->gain, p->gain_type, p->width) &&
                          rows_in_fours(p->dy, DTYPE_F32, p->width) && rows_in_fours(p->dx, DTYPE_F32, p->width);
    auto kernel = in_fours ? rmsnorm_backward_kernel<GAIN, 4, ROW_THREADS, 1, true>
                           : rmsnorm_backward_kernel<GAIN, 4, ROW_THREADS, 1, false>;
    if (shape.per_thread == 2)
        kernel = in_fours ? rmsnorm_backward_kernel<GAIN, 2, ROW_THREADS, 2, true>
                          : rmsnorm_backward_kernel<GAIN, 2, ROW_THREADS, 2, false>;
    else if (shape.threads <= 320 && in_fours)
        kernel = rmsnorm_backward_kernel<GAIN, 4, 320, 2, true>;
    LAUNCH(kernel, dim3((unsigned)ceil_div(p->rows, block_rows)), dim3((unsigned)shape.threads), 0, stream, p->rows,
           block_rows, (int)p->width, 1.0f / (float)p->width, p->row, p->x, (const GAIN *)p->gain, p->eps, p->dy, p->dx,
           part);
}

extern "C" size_t cuda_rmsnorm_scratch(int64_t rows, int64_t width)
{
    return (size_t)(row_blocks_most(rows) * width) * sizeof(float);
}

extern "C" void cuda_rmsnorm_backward(struct backend *backend, const struct rmsnorm_backward *p)
{
    assert(p->width > 0 && p->gain_type != DTYPE_F16);
    if (p->rows == 0)
        return;
    if (p->width > ROW_WIDTH) {
        cuda_note(backend, "rmsnorm_backward: width", cudaErrorInvalidValue);
        return;
    }
    const cudaStream_t stream = cuda_state_of(backend)->stream;
    const int block_rows = rows_per_block(p->rows);
    const int64_t blocks = ceil_div(p->rows, block_rows);
    float *part = NULL;
    if (p->d_gain != NULL) {
        part = (float *)cuda_scratch(backend, cuda_rmsnorm_scratch(p->rows, p->width));
        if (part == NULL)
            return;
    }
    if (p->gain_type == DTYPE_F32)
        backward_of<float>(stream, p, block_rows, part);
    else
        backward_of<uint16_t>(stream, p, block_rows, part);
    if (part != NULL)
        launch_column_sums(stream, part, blocks, p->width, p->width, p->d_gain);
    cuda_note(backend, "rmsnorm_backward", cudaSuccess);
}

/* Adafactor's means of squared gradients over rows and columns, and the gradient scaled by them. Sums are of doubles in
 * an order that the sizes give. */
#include "backend/cuda/split_master.cuh"

#include <assert.h>

enum { THREADS = 256, COLUMN_LANES = 32, COLUMN_THREADS = 32 * COLUMN_LANES };

static __device__ __forceinline__ float square_of(float grad, float scale, float floor)
{
    const float g = grad * scale;
    return g * g + floor;
}

/* A block has one row: its threads' sums in a tree. */
static __global__ void __launch_bounds__(THREADS)
    means_of_rows(int64_t columns, const float *__restrict__ grad, float scale, float floor, float keep, float mix,
                  float *__restrict__ row)
{
    __shared__ double part[THREADS / 32];
    const float *g = grad + (int64_t)blockIdx.x * columns;
    double sum = 0.0;
    for (int64_t i = threadIdx.x; i < columns; i += THREADS)
        sum += (double)square_of(g[i], scale, floor);
    sum = block_sum(sum, part);
    if (threadIdx.x == 0)
        row[blockIdx.x] = keep * row[blockIdx.x] + mix * (float)(sum / (double)columns);
}

/* A block has 32 columns; lane l of COLUMN_LANES adds rows l, l + COLUMN_LANES, ... , then the lanes are added in
 * order. */
static __global__ void __launch_bounds__(COLUMN_THREADS)
    means_of_columns(int64_t rows, int64_t columns, const float *__restrict__ grad, float scale, float floor,
                     float keep, float mix, float *__restrict__ col)
{
    __shared__ double part[COLUMN_LANES][32];
    const int at = (int)threadIdx.x % 32, lane = (int)threadIdx.x / 32;
    const int64_t j = (int64_t)blockIdx.x * 32 + at;
    double sum = 0.0;
    if (j < columns)
        for (int64_t r = lane; r < rows; r += COLUMN_LANES)
            sum += (double)square_of(grad[r * columns + j], scale, floor);
    part[lane][at] = sum;
    __syncthreads();
    if (lane != 0 || j >= columns)
        return;
    for (int l = 1; l < COLUMN_LANES; l++)
        sum += part[l][at];
    col[j] = keep * col[j] + mix * (float)(sum / (double)rows);
}

static __global__ void __launch_bounds__(THREADS)
    mean_of_means(int64_t rows, const float *__restrict__ row, float *__restrict__ mean)
{
    __shared__ double part[THREADS / 32];
    double sum = 0.0;
    for (int64_t r = threadIdx.x; r < rows; r += THREADS)
        sum += (double)row[r];
    sum = block_sum(sum, part);
    if (threadIdx.x == 0)
        *mean = (float)(sum / (double)rows);
}

static __global__ void __launch_bounds__(THREADS)
    means_of_elements(int64_t count, const float *__restrict__ grad, float scale, float floor, float keep, float mix,
                      float *__restrict__ mean)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < count)
        mean[i] = keep * mean[i] + mix * square_of(grad[i], scale, floor);
}

extern "C" void cuda_adafactor_means(struct backend *backend, const struct adafactor_means *p)
{
    cuda_host_flush(backend);
    const cudaStream_t stream = cuda_state_of(backend)->stream;
    const int64_t count = p->rows * p->columns;
    assert(count > 0);
    if (p->col == NULL) {
        LAUNCH(means_of_elements, dim3((unsigned)ceil_div(count, THREADS)), dim3(THREADS), 0, stream, count, p->grad,
               p->scale, p->floor, p->keep, p->mix, p->row);
    } else {
        LAUNCH(means_of_rows, dim3((unsigned)p->rows), dim3(THREADS), 0, stream, p->columns, p->grad, p->scale,
               p->floor, p->keep, p->mix, p->row);
        LAUNCH(means_of_columns, dim3((unsigned)ceil_div(p->columns, 32)), dim3(COLUMN_THREADS), 0, stream, p->rows,
               p->columns, p->grad, p->scale, p->floor, p->keep, p->mix, p->col);
        LAUNCH(mean_of_means, dim3(1), dim3(THREADS), 0, stream, p->rows, (const float *)p->row, p->row_mean);
    }
    cuda_note(backend, "adafactor_means", cudaSuccess);
}

/* col NULL: row has the gradient's shape. */
static __global__ void __launch_bounds__(THREADS)
    scale_kernel(int64_t count, int64_t columns, float *__restrict__ grad, float scale, const float *__restrict__ row,
                 const float *__restrict__ col, const float *__restrict__ row_mean)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= count)
        return;
    const float g = grad[i] * scale;
    grad[i] = col == NULL ? (1.0f / sqrtf(row[i])) * g
                          : (1.0f / sqrtf(row[i / columns] / *row_mean)) * (1.0f / sqrtf(col[i % columns])) * g;
}

extern "C" void cuda_adafactor_scale(struct backend *backend, const struct adafactor_scale *p)
{
    cuda_host_flush(backend);
    const cudaStream_t stream = cuda_state_of(backend)->stream;
    const int64_t count = p->rows * p->columns;
    if (count == 0)
        return;
    LAUNCH(scale_kernel, dim3((unsigned)ceil_div(count, THREADS)), dim3(THREADS), 0, stream, count, p->columns, p->grad,
           p->scale, p->row, p->col, p->row_mean);
    cuda_note(backend, "adafactor_scale", cudaSuccess);
}

/* Adafactor's means of squared gradients over rows and columns, and the gradient scaled by them. Sums are of doubles in
 * one order: over a row in lanes, over a column by ascending rows. */
#include "backend/cpu/act_part.h"
#include "backend/cpu/cpu_kernels.h"

#include <assert.h>
#include <math.h>

enum { LANES = 16, COLUMN_BLOCK = 64, CHUNK = 16384 };

static float square_of(const struct adafactor_means *p, int64_t i)
{
    const float g = p->grad[i] * p->scale;
    return g * g + p->floor;
}

static void means_of_rows(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct adafactor_means *p = context;
    (void)thread;
    for (int64_t r = begin; r < end; r++) {
        double lane[LANES] = {0}, sum = 0.0;
        for (int64_t i = 0; i < p->columns; i++)
            lane[i % LANES] += (double)square_of(p, r * p->columns + i);
        for (int j = 0; j < LANES; j++)
            sum += lane[j];
        p->row[r] = p->keep * p->row[r] + p->mix * (float)(sum / (double)p->columns);
    }
}

static void means_of_columns(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct adafactor_means *p = context;
    (void)thread;
    for (int64_t b = begin; b < end; b++) {
        const int64_t first = b * COLUMN_BLOCK, left = p->columns - first;
        const int64_t n = left < COLUMN_BLOCK ? left : COLUMN_BLOCK;
        double sum[COLUMN_BLOCK] = {0};
        for (int64_t r = 0; r < p->rows; r++)
            for (int64_t j = 0; j < n; j++)
                sum[j] += (double)square_of(p, r * p->columns + first + j);
        for (int64_t j = 0; j < n; j++)
            p->col[first + j] = p->keep * p->col[first + j] + p->mix * (float)(sum[j] / (double)p->rows);
    }
}

static void means_of_elements(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct adafactor_means *p = context;
    const int64_t count = p->rows * p->columns, last = end * CHUNK < count ? end * CHUNK : count;
    (void)thread;
    for (int64_t i = begin * CHUNK; i < last; i++)
        p->row[i] = p->keep * p->row[i] + p->mix * square_of(p, i);
}

void CPU_NAME(adafactor_means)(struct backend *backend, const struct adafactor_means *p)
{
    const int64_t count = p->rows * p->columns;
    const int threads = cpu_threads(backend, count, 1.0);
    double sum = 0.0;
    assert(count > 0);
    if (p->col == NULL) {
        cpu_run(backend, threads, (count + CHUNK - 1) / CHUNK, 0, means_of_elements, p);
        return;
    }
    cpu_run(backend, threads, p->rows, 0, means_of_rows, p);
    cpu_run(backend, threads, (p->columns + COLUMN_BLOCK - 1) / COLUMN_BLOCK, 0, means_of_columns, p);
    for (int64_t r = 0; r < p->rows; r++)
        sum += (double)p->row[r];
    *p->row_mean = (float)(sum / (double)p->rows);
}

static void scale_rows(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct adafactor_scale *p = context;
    (void)thread;
    for (int64_t r = begin; r < end; r++) {
        const float by_row = 1.0f / sqrtf(p->row[r] / *p->row_mean);
        float *g = p->grad + r * p->columns;
        for (int64_t j = 0; j < p->columns; j++)
            g[j] = by_row * (1.0f / sqrtf(p->col[j])) * (g[j] * p->scale);
    }
}

static void scale_elements(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct adafactor_scale *p = context;
    const int64_t count = p->rows * p->columns, last = end * CHUNK < count ? end * CHUNK : count;
    (void)thread;
    for (int64_t i = begin * CHUNK; i < last; i++)
        p->grad[i] = (1.0f / sqrtf(p->row[i])) * (p->grad[i] * p->scale);
}

void CPU_NAME(adafactor_scale)(struct backend *backend, const struct adafactor_scale *p)
{
    const int64_t count = p->rows * p->columns;
    const int threads = cpu_threads(backend, count, 1.0);
    if (p->col == NULL)
        cpu_run(backend, threads, (count + CHUNK - 1) / CHUNK, 0, scale_elements, p);
    else
        cpu_run(backend, threads, p->rows, 0, scale_rows, p);
}

/* Sums of two arrays, one addition for each element. */
#include "backend/cpu/cpu_kernels.h"
#include "backend/cpu/simd.h"

enum { CHUNK = 16384 };

static void add_chunks(const void *context, int64_t first, int64_t last, int thread)
{
    const struct add *p = context;
    const int64_t end = last * CHUNK < p->count ? last * CHUNK : p->count;
    const float *restrict x = p->x;
    float *restrict y = p->y;
    (void)thread;
    for (int64_t i = first * CHUNK; i < end; i++)
        y[i] += x[i];
}

void CPU_NAME(add)(struct backend *backend, const struct add *p)
{
    cpu_run(backend, cpu_threads(backend, p->count, 0.2), (p->count + CHUNK - 1) / CHUNK, 0, add_chunks, p);
}

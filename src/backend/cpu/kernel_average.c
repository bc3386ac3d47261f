/* A mean of the masters over steps: plain products and sums in one order, as in kernel_descent.c. */
#include "backend/cpu/act_part.h"
#include "backend/cpu/cpu_kernels.h"
#include "backend/cpu/split_master.h"

#include <assert.h>

enum { TILE = 256, CHUNK = 64 * TILE };

static void average_tile(const struct average *p, int64_t begin, int64_t count)
{
    float w[TILE];
    float *mean = p->mean + begin;
    if (p->low != NULL)
        master_join((const uint16_t *)p->weight + begin, p->low + begin, count, w);
    else
        act_widen(act_at(p->weight, p->type, begin), p->type, count, w);
    if (p->share == 1.0f)
        memcpy(mean, w, (size_t)count * sizeof *w);
    else
        for (int64_t i = 0; i < count; i++)
            mean[i] = mean[i] + p->share * (w[i] - mean[i]);
}

static void average_chunks(const void *context, int64_t first, int64_t last, int thread)
{
    const struct average *p = context;
    const int64_t end = last * CHUNK < p->count ? last * CHUNK : p->count;
    (void)thread;
    for (int64_t i = first * CHUNK; i < end; i += TILE)
        average_tile(p, i, end - i < TILE ? end - i : TILE);
}

void CPU_NAME(average)(struct backend *backend, const struct average *p)
{
    assert(p->type == DTYPE_F32 || p->type == DTYPE_BF16);
    cpu_run(backend, cpu_threads(backend, p->count, 0.3), (p->count + CHUNK - 1) / CHUNK, 0, average_chunks, p);
}

/* What Muon computes beside products of matrices: the momentum, mixtures of a matrix and a product, a transpose. Plain
 * products and sums in one order, as in kernel_descent.c. */
#include "backend/cpu/act_part.h"
#include "backend/cpu/cpu_kernels.h"

#include <assert.h>

enum { TILE = 256, CHUNK = 64 * TILE, SQUARE = 32 };

/* torch.lerp: from the nearer end. */
static inline float between(float begin, float end, float share)
{
    return share < 0.5f ? begin + share * (end - begin) : end - (end - begin) * (1.0f - share);
}

static void momentum_chunks(const void *context, int64_t first, int64_t last, int thread)
{
    const struct muon_momentum *p = context;
    const int64_t end = last * CHUNK < p->count ? last * CHUNK : p->count;
    const float share = 1.0f - p->momentum;
    (void)thread;
    for (int64_t i = first * CHUNK; i < end; i++) {
        const float g = p->grad[i] * p->scale, m = between(p->m[i], g, share);
        p->m[i] = m;
        p->x[i] = bf16_from_f32(p->nesterov ? between(g, m, p->momentum) : m);
    }
}

void CPU_NAME(muon_momentum)(struct backend *backend, const struct muon_momentum *p)
{
    cpu_run(backend, cpu_threads(backend, p->count, 0.5), (p->count + CHUNK - 1) / CHUNK, 0, momentum_chunks, p);
}

static void mix_chunks(const void *context, int64_t first, int64_t last, int thread)
{
    const struct muon_mix *p = context;
    const int64_t end = last * CHUNK < p->count ? last * CHUNK : p->count;
    (void)thread;
    for (int64_t i = first * CHUNK; i < end; i++) {
        const float x = p->x == NULL ? 0.0f : p->a * f32_from_bf16(p->x[i]);
        const float z = p->z == NULL ? 0.0f : p->b * p->z[i];
        p->y[i] = bf16_from_f32((x + z) / p->divisor);
    }
}

void CPU_NAME(muon_mix)(struct backend *backend, const struct muon_mix *p)
{
    cpu_run(backend, cpu_threads(backend, p->count, 0.5), (p->count + CHUNK - 1) / CHUNK, 0, mix_chunks, p);
}

/* Item i is rows i * SQUARE on of x. */
static void transpose_rows(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct muon_transpose *p = context;
    const int64_t last = end * SQUARE < p->rows ? end * SQUARE : p->rows;
    (void)thread;
    for (int64_t column = 0; column < p->columns; column += SQUARE) {
        const int64_t stop = column + SQUARE < p->columns ? column + SQUARE : p->columns;
        for (int64_t r = begin * SQUARE; r < last; r++)
            for (int64_t j = column; j < stop; j++)
                p->y[j * p->rows + r] = p->x[r * p->columns + j];
    }
}

void CPU_NAME(muon_transpose)(struct backend *backend, const struct muon_transpose *p)
{
    assert(p->x != p->y);
    cpu_run(backend, cpu_threads(backend, p->rows * p->columns, 0.5), (p->rows + SQUARE - 1) / SQUARE, 1,
            transpose_rows, p);
}

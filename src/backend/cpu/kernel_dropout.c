/* Elements kept by counters, scaled; the others 0. */
#include "backend/cpu/act_part.h"
#include "backend/cpu/cpu_kernels.h"
#include "base/rng.h"

#include <assert.h>

ALWAYS_INLINE void drop_row(const struct dropout *p, enum dtype x_type, enum dtype y_type, int64_t row)
{
    const uint64_t blocks = (uint64_t)(p->width + 3) / 4;
    const float kept = 1.0f / (1.0f - p->p);
    const void *x = act_at(p->x, x_type, row * p->width);
    void *y = act_at_mut(p->y, y_type, row * p->width);
    for (int64_t c = 0; c < p->width; c += 4) {
        const struct rng_block block =
            rng_philox(p->seed, RNG_DROPOUT, p->stream[row], (uint64_t)p->position[row] * blocks + (uint64_t)c / 4);
        for (int64_t i = c; i < c + 4 && i < p->width; i++) {
            const float value = rng_uniform(block.word[i - c]) >= p->p ? kept * act_load(x, x_type, i) : 0.0f;
            if (!p->accumulate)
                act_store(y, y_type, i, value);
            else if (value != 0.0f)
                act_store(y, y_type, i, act_load(y, y_type, i) + value);
        }
    }
}

static void drop_rows(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct dropout *p = context;
    (void)thread;
    for (int64_t r = begin; r < end; r++)
        if (p->x_type == DTYPE_F32 && p->y_type == DTYPE_F32)
            drop_row(p, DTYPE_F32, DTYPE_F32, r);
        else if (p->x_type == DTYPE_F32)
            drop_row(p, DTYPE_F32, DTYPE_BF16, r);
        else if (p->y_type == DTYPE_F32)
            drop_row(p, DTYPE_BF16, DTYPE_F32, r);
        else
            drop_row(p, DTYPE_BF16, DTYPE_BF16, r);
}

void CPU_NAME(dropout)(struct backend *backend, const struct dropout *p)
{
    assert(p->x_type != DTYPE_F16 && p->y_type != DTYPE_F16);
    cpu_run(backend, cpu_threads(backend, p->rows * p->width, 5.0), p->rows, 0, drop_rows, p);
}

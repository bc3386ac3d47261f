/* SGD, Lion and steps along a given direction, on split masters: plain products and sums in one order, so that every
 * instruction set and a GPU give the same bits. */
#include "backend/cpu/act_part.h"
#include "backend/cpu/cpu_kernels.h"
#include "backend/cpu/split_master.h"

#include <assert.h>
#include <math.h>

enum { TILE = 256, CHUNK = 64 * TILE };

/* d: the direction in fp32, which it may overwrite. m may be NULL. */
static void step_sgd(const struct descent *p, float *w, float *d, float *m, int64_t count)
{
    const float mix = 1.0f - p->dampening;
    for (int64_t i = 0; i < count; i++)
        d[i] = d[i] * p->scale + p->coupled_decay * w[i];
    if (m != NULL)
        for (int64_t i = 0; i < count; i++) {
            m[i] = p->fresh ? d[i] : p->momentum * m[i] + mix * d[i];
            d[i] = p->nesterov ? d[i] + p->momentum * m[i] : m[i];
        }
    for (int64_t i = 0; i < count; i++)
        w[i] = w[i] - p->rate * d[i];
}

static void step_lion(const struct descent *p, float *restrict w, const float *restrict d, float *restrict m,
                      int64_t count)
{
    const float keep1 = p->momentum, mix1 = 1.0f - keep1, keep2 = p->beta2, mix2 = 1.0f - keep2;
    const float scale = p->scale, keep = p->keep, rate = p->rate;
    for (int64_t i = 0; i < count; i++) {
        const float g = d[i] * scale, c = keep1 * m[i] + mix1 * g;
        const int sign = (c > 0.0f) - (c < 0.0f); /* without a branch, which nobody could predict */
        w[i] = w[i] * keep - rate * (float)sign;
        m[i] = keep2 * m[i] + mix2 * g;
    }
}

static void step_along(const struct descent *p, float *w, const float *d, float *m, int64_t count)
{
    const float mix = 1.0f - p->momentum;
    for (int64_t i = 0; i < count; i++) {
        float step = p->rate * (d[i] * p->scale);
        if (m != NULL)
            step = m[i] = p->momentum * m[i] + mix * step;
        w[i] = w[i] * p->keep - step;
    }
}

static void step_tile(const struct descent *p, int64_t begin, int64_t count)
{
    float master[TILE], d[TILE];
    const bool is_split = p->type == DTYPE_BF16;
    float *w = is_split ? master : (float *)p->weight + begin;
    float *m = p->m == NULL ? NULL : p->m + begin;
    if (is_split)
        master_join((const uint16_t *)p->weight + begin, p->low + begin, count, master);
    act_widen(act_at(p->direction, p->direction_type, begin), p->direction_type, count, d);
    switch (p->rule) {
    case DESCENT_SGD: step_sgd(p, w, d, m, count); break;
    case DESCENT_LION: step_lion(p, w, d, m, count); break;
    case DESCENT_ALONG: step_along(p, w, d, m, count); break;
    }
    if (is_split)
        master_split(master, count, (uint16_t *)p->weight + begin, p->low + begin);
}

static void step_chunks(const void *context, int64_t first, int64_t last, int thread)
{
    const struct descent *p = context;
    const int64_t end = last * CHUNK < p->count ? last * CHUNK : p->count;
    (void)thread;
    for (int64_t i = first * CHUNK; i < end; i += TILE)
        step_tile(p, i, end - i < TILE ? end - i : TILE);
}

void CPU_NAME(descent)(struct backend *backend, const struct descent *p)
{
    assert(p->type == DTYPE_F32 || (p->type == DTYPE_BF16 && p->low != NULL));
    assert(p->rule != DESCENT_LION || p->m != NULL);
    cpu_run(backend, cpu_threads(backend, p->count, 0.5), (p->count + CHUNK - 1) / CHUNK, 0, step_chunks, p);
}

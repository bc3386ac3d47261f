/* Rows of a weight with a change of low rank: their norms or those of its columns, and what they come to. */
#include "backend/cpu/act_part.h"
#include "backend/cpu/cpu_kernels.h"

#include <assert.h>
#include <math.h>

enum { LANES = 32 };

/* Elements c .. c + n of row i of w + scale * (b . a). */
ALWAYS_INLINE vf changed(const struct fold *p, enum dtype type, int64_t i, int64_t c, int n)
{
    vf sum = vf_zero();
    for (int64_t j = 0; j < p->r; j++) {
        const vf b = vf_set(act_load(p->b, type, i * p->r + j));
        sum = vf_fma(b, vf_load_act_part(act_at(p->a, type, j * p->k), type, c, n), sum);
    }
    return vf_add(vf_load_act_part(act_at(p->w, type, i * p->k), type, c, n), vf_mul(vf_set(p->scale), sum));
}

ALWAYS_INLINE float row_norm(const struct fold *p, enum dtype type, int64_t i)
{
    double lane[LANES] = {0};
    for (int64_t c = 0; c < p->k; c += VW) {
        float v[VW];
        vf_store(v, changed(p, type, i, c, part_of(c, p->k))); /* zeros behind the row's end */
        for (int l = 0; l < VW; l++)
            lane[c % LANES + l] += (double)v[l] * (double)v[l];
    }
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int l = 0; l < half; l++)
            lane[l] += lane[l + half];
    return (float)sqrt(lane[0]);
}

/* Keeps the norm of row or column i; the factor. */
static float note_norm(const struct fold *p, int64_t i, float norm)
{
    float factor = 1.0f;
    if (p->norm != NULL)
        p->norm[i] = norm;
    if (p->magnitude == NULL)
        return factor;
    factor = norm > 0.0f ? p->magnitude[i] / norm : p->magnitude[i];
    if (p->factor != NULL)
        p->factor[i] = factor;
    return factor;
}

/* Of columns c .. c + n. */
ALWAYS_INLINE void column_norms(const struct fold *p, enum dtype type, int64_t c, int n)
{
    double lane[LANES][VW] = {{0}};
    for (int64_t i = 0; i < p->n; i++) {
        float v[VW];
        vf_store(v, changed(p, type, i, c, n));
        for (int l = 0; l < VW; l++)
            lane[i % LANES][l] += (double)v[l] * (double)v[l];
    }
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            for (int l = 0; l < VW; l++)
                lane[i][l] += lane[i + half][l];
    for (int l = 0; l < n; l++)
        note_norm(p, c + l, (float)sqrt(lane[0][l]));
}

/* The number of vectors in the width. */
static void fold_columns(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct fold *p = context;
    (void)thread;
    for (int64_t i = begin; i < end; i++)
        if (p->type == DTYPE_F32)
            column_norms(p, DTYPE_F32, i * VW, part_of(i * VW, p->k));
        else
            column_norms(p, DTYPE_BF16, i * VW, part_of(i * VW, p->k));
}

ALWAYS_INLINE void fold_row(const struct fold *p, enum dtype type, int64_t i)
{
    float factor = 1.0f;
    if (!p->by_column && (p->norm != NULL || p->magnitude != NULL))
        factor = note_norm(p, i, row_norm(p, type, i));
    if (p->to == NULL)
        return;
    for (int64_t c = 0; c < p->k; c += VW) {
        const int n = part_of(c, p->k);
        vf v = changed(p, type, i, c, n);
        if (p->magnitude != NULL)
            v = vf_mul(p->by_column ? vf_load_act_part(p->factor, DTYPE_F32, c, n) : vf_set(factor), v);
        vf_store_act_part(act_at_mut(p->to, type, i * p->k), type, c, v, n);
    }
}

static void fold_rows(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct fold *p = context;
    (void)thread;
    for (int64_t i = begin; i < end; i++)
        if (p->type == DTYPE_F32)
            fold_row(p, DTYPE_F32, i);
        else
            fold_row(p, DTYPE_BF16, i);
}

void CPU_NAME(fold)(struct backend *backend, const struct fold *p)
{
    assert(p->type != DTYPE_F16 && p->k > 0);
    const int threads = cpu_threads(backend, p->n * p->k, 0.1 * (double)(p->r + 1));
    assert(!p->by_column || p->magnitude == NULL || p->factor != NULL);
    if (p->by_column && (p->norm != NULL || p->magnitude != NULL))
        cpu_run(backend, threads, (p->k + VW - 1) / VW, 0, fold_columns, p);
    if (!p->by_column || p->to != NULL)
        cpu_run(backend, threads, p->n, 0, fold_rows, p);
}

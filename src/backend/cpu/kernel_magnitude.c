/* Columns scaled by a factor each, and its gradient: the sum over rows is taken in blocks of ROW_BLOCK rows, which are
 * added to the gradient in ascending order. */
#include "backend/cpu/act_part.h"
#include "backend/cpu/cpu_kernels.h"

#include <assert.h>

enum { ROW_BLOCK = 64 };

ALWAYS_INLINE void scale_row(const struct magnitude_forward *p, enum dtype type, int64_t row)
{
    const int64_t at = row * p->width;
    void *y = act_at_mut(p->y, type, at);
    for (int64_t i = 0; i < p->width; i += VW) {
        const int n = part_of(i, p->width);
        vf v = vf_mul(vf_load_act_part(p->factor, DTYPE_F32, i, n), vf_load_act_part(p->z + at, DTYPE_F32, i, n));
        if (p->before != NULL)
            v = vf_add(vf_load_act_part(p->before + at, DTYPE_F32, i, n), v);
        vf_store_act_part(y, type, i, v, n);
    }
}

static void scale_rows(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct magnitude_forward *p = context;
    (void)thread;
    for (int64_t r = begin; r < end; r++)
        if (p->y_type == DTYPE_F32)
            scale_row(p, DTYPE_F32, r);
        else
            scale_row(p, DTYPE_BF16, r);
}

void CPU_NAME(magnitude_forward)(struct backend *backend, const struct magnitude_forward *p)
{
    assert(p->y_type != DTYPE_F16);
    cpu_run(backend, cpu_threads(backend, p->rows * p->width, 0.2), p->rows, 0, scale_rows, p);
}

ALWAYS_INLINE void gradient_row(const struct magnitude_backward *p, enum dtype type, int64_t row)
{
    const int64_t at = row * p->width;
    for (int64_t i = 0; i < p->width; i += VW) {
        const int n = part_of(i, p->width);
        vf_store_act_part(
            act_at_mut(p->dz, type, at), type, i,
            vf_mul(vf_load_act_part(p->factor, DTYPE_F32, i, n), vf_load_act_part(act_at(p->dy, type, at), type, i, n)),
            n);
    }
}

static void gradient_rows(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct magnitude_backward *p = context;
    (void)thread;
    for (int64_t r = begin; r < end; r++)
        if (p->type == DTYPE_F32)
            gradient_row(p, DTYPE_F32, r);
        else
            gradient_row(p, DTYPE_BF16, r);
}

struct summing {
    const struct magnitude_backward *p;
    const struct magnitude_part *part;
};

/* Columns i .. i + n of a part. */
ALWAYS_INLINE void sum_columns(const struct summing *s, enum dtype type, int64_t i, int n)
{
    const struct magnitude_backward *p = s->p;
    const struct magnitude_part *part = s->part;
    for (int64_t block = 0; block < p->rows; block += ROW_BLOCK) {
        const int64_t end = block + ROW_BLOCK < p->rows ? block + ROW_BLOCK : p->rows;
        float sum[VW];
        vf acc = vf_zero();
        for (int64_t r = block; r < end; r++) {
            const int64_t at = r * p->width + part->column;
            acc = vf_add(acc, vf_mul(vf_load_act_part(act_at(p->dy, type, at), type, i, n),
                                     vf_load_act_part(p->z + at, DTYPE_F32, i, n)));
        }
        vf_store(sum, acc);
        for (int l = 0; l < n; l++)
            part->d_magnitude[i + l] += part->norm[i + l] > 0.0f ? sum[l] / part->norm[i + l] : 0.0f;
    }
}

/* Item i is columns i * VW on. */
static void sum_parts(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct summing *s = context;
    (void)thread;
    for (int64_t i = begin; i < end; i++)
        if (s->p->type == DTYPE_F32)
            sum_columns(s, DTYPE_F32, i * VW, part_of(i * VW, s->part->n));
        else
            sum_columns(s, DTYPE_BF16, i * VW, part_of(i * VW, s->part->n));
}

void CPU_NAME(magnitude_backward)(struct backend *backend, const struct magnitude_backward *p)
{
    assert(p->type != DTYPE_F16);
    cpu_run(backend, cpu_threads(backend, p->rows * p->width, 0.2), p->rows, 0, gradient_rows, p);
    for (int32_t i = 0; i < p->n_parts; i++)
        cpu_run(backend, cpu_threads(backend, p->rows * p->part[i].n, 0.2), (p->part[i].n + VW - 1) / VW, 0, sum_parts,
                &(struct summing){.p = p, .part = &p->part[i]});
}

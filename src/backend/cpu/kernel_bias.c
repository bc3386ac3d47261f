/* Adds a vector to every row, and sums its gradient. The sum over rows is taken in blocks of ROW_BLOCK rows, which are
 * added to the gradient in ascending order. */
#include "backend/cpu/act_part.h"
#include "backend/cpu/cpu_kernels.h"

#include <assert.h>

enum { ROW_BLOCK = 64, N_ACC = 4 };

ALWAYS_INLINE void add_row(void *y, enum dtype y_type, const void *bias, enum dtype bias_type, int64_t width)
{
    for (int64_t i = 0; i < width; i += VW) {
        const int n = part_of(i, width);
        const vf b = vf_load_act_part(bias, bias_type, i, n);
        vf_store_act_part(y, y_type, i, vf_add(vf_load_act_part(y, y_type, i, n), b), n);
    }
}

static void add_rows(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct bias_forward *p = context;
    (void)thread;
    for (int64_t r = begin; r < end; r++) {
        void *y = act_at_mut(p->y, p->y_type, r * p->width);
        if (p->y_type == DTYPE_F32 && p->bias_type == DTYPE_F32)
            add_row(y, DTYPE_F32, p->bias, DTYPE_F32, p->width);
        else if (p->y_type == DTYPE_F32)
            add_row(y, DTYPE_F32, p->bias, DTYPE_BF16, p->width);
        else if (p->bias_type == DTYPE_F32)
            add_row(y, DTYPE_BF16, p->bias, DTYPE_F32, p->width);
        else
            add_row(y, DTYPE_BF16, p->bias, DTYPE_BF16, p->width);
    }
}

void CPU_NAME(bias_forward)(struct backend *backend, const struct bias_forward *p)
{
    assert(p->width > 0 && p->y_type != DTYPE_F16 && p->bias_type != DTYPE_F16);
    cpu_run(backend, cpu_threads(backend, p->rows * p->width, 0.1), p->rows, 0, add_rows, p);
}

ALWAYS_INLINE void sum_columns(const struct bias_backward *p, enum dtype type, int64_t begin)
{
    for (int64_t block = 0; block < p->rows; block += ROW_BLOCK) {
        const int64_t end = block + ROW_BLOCK < p->rows ? block + ROW_BLOCK : p->rows;
        vf acc[N_ACC] = {vf_zero(), vf_zero(), vf_zero(), vf_zero()};
        for (int64_t r = block; r < end; r++) {
            const void *dy = act_at(p->dy, type, r * p->dy_stride);
            int64_t i = begin;
            for (int a = 0; a < N_ACC && i < p->width; a++, i += VW)
                acc[a] = vf_add(acc[a], vf_load_act_part(dy, type, i, part_of(i, p->width)));
        }
        int64_t i = begin;
        for (int a = 0; a < N_ACC && i < p->width; a++, i += VW) {
            const int n = part_of(i, p->width);
            const vf sum = vf_add(vf_load_act_part(p->d_bias, DTYPE_F32, i, n), vf_mul(vf_set(p->scale), acc[a]));
            vf_store_act_part(p->d_bias, DTYPE_F32, i, sum, n);
        }
    }
}

/* Item i is columns i * N_ACC * VW on. */
static void sum_rows(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct bias_backward *p = context;
    (void)thread;
    for (int64_t i = begin; i < end; i++)
        if (p->type == DTYPE_F32)
            sum_columns(p, DTYPE_F32, i * N_ACC * VW);
        else
            sum_columns(p, DTYPE_BF16, i * N_ACC * VW);
}

void CPU_NAME(bias_backward)(struct backend *backend, const struct bias_backward *p)
{
    assert(p->width > 0 && p->type != DTYPE_F16);
    const int64_t items = (p->width + N_ACC * VW - 1) / (N_ACC * VW);
    cpu_run(backend, cpu_threads(backend, p->rows * p->width, 0.1), items, 0, sum_rows, p);
}

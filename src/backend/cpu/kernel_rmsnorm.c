/* RMS norm (Zhang and Sennrich, arXiv 1910.07467), forward and backward. Invariant I2: a sum over a
 * row runs in N_ACC * VW lanes, element i in lane i mod (N_ACC * VW), lanes combined by a fixed
 * tree. */
#include "backend/cpu/act_part.h"
#include "backend/cpu/cpu_kernels.h"

#include <assert.h>
#include <math.h>

enum {
    N_ACC = 4,
    GAIN_BLOCK = 64,       /* rows summed on their own before they are added to d_gain */
    PHASE = 8 * GAIN_BLOCK /* rows between two steps of the backward */
};

static inline float acc_sum(const vf acc[N_ACC])
{
    return vf_sum(vf_add(vf_add(acc[0], acc[1]), vf_add(acc[2], acc[3])));
}

/* 1 / sqrt(mean(x^2) + eps). */
static float row_rstd(const float *x, int64_t width, float eps)
{
    vf acc[N_ACC] = {vf_zero(), vf_zero(), vf_zero(), vf_zero()};
    int64_t i = 0;
    for (; i + N_ACC * VW <= width; i += N_ACC * VW)
        for (int a = 0; a < N_ACC; a++) {
            vf v = vf_load(x + i + a * VW);
            acc[a] = vf_fma(v, v, acc[a]);
        }
    for (int a = 0; i < width; i += VW, a++) {
        vf v = vf_load_act_part(x, DTYPE_F32, i, part_of(i, width));
        acc[a] = vf_fma(v, v, acc[a]);
    }
    return 1.0f / sqrtf(acc_sum(acc) / (float)width + eps);
}

ALWAYS_INLINE void forward_row(const float *x, const void *gain, enum dtype gain_type, float rstd, int64_t width,
                               void *y, enum dtype y_type)
{
    const vf scale = vf_set(rstd);
    for (int64_t i = 0; i < width; i += VW) {
        int n = part_of(i, width);
        vf normed = vf_mul(vf_load_act_part(x, DTYPE_F32, i, n), scale);
        vf g = vf_load_act_part(gain, gain_type, i, n);
        vf_store_act_part(y, y_type, i, vf_mul(normed, g), n);
    }
}

static void forward_rows(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct rmsnorm_forward *p = context;
    (void)thread;
    for (int64_t r = begin; r < end; r++) {
        const float *x = p->x + (p->row ? p->row[r] : r) * p->width;
        void *y = act_at_mut(p->y, p->y_type, r * p->width);
        float rstd = row_rstd(x, p->width, p->eps);
        if (p->gain_type == DTYPE_F32 && p->y_type == DTYPE_F32)
            forward_row(x, p->gain, DTYPE_F32, rstd, p->width, y, DTYPE_F32);
        else if (p->gain_type == DTYPE_F32)
            forward_row(x, p->gain, DTYPE_F32, rstd, p->width, y, DTYPE_BF16);
        else if (p->y_type == DTYPE_F32)
            forward_row(x, p->gain, DTYPE_BF16, rstd, p->width, y, DTYPE_F32);
        else
            forward_row(x, p->gain, DTYPE_BF16, rstd, p->width, y, DTYPE_BF16);
    }
}

void CPU_NAME(rmsnorm_forward)(struct backend *backend, const struct rmsnorm_forward *p)
{
    assert(p->width > 0 && p->gain_type != DTYPE_F16 && p->y_type != DTYPE_F16);
    cpu_run(backend, cpu_threads(backend, p->rows * p->width, 0.3), p->rows, 0, forward_rows, p);
}

/* dx += rstd * (g*dy - n * mean(g*dy*n)), n = x * rstd. */
ALWAYS_INLINE void backward_row(const float *x, const void *gain, enum dtype gain_type, const float *dy, float rstd,
                                int64_t width, float *dx)
{
    vf acc[N_ACC] = {vf_zero(), vf_zero(), vf_zero(), vf_zero()};
    int64_t i = 0;
    for (; i + N_ACC * VW <= width; i += N_ACC * VW)
        for (int a = 0; a < N_ACC; a++) {
            int64_t at = i + a * VW;
            vf scaled = vf_mul(vf_load_act(gain, gain_type, at), vf_load(dy + at));
            acc[a] = vf_fma(scaled, vf_load(x + at), acc[a]);
        }
    for (int a = 0; i < width; i += VW, a++) {
        int n = part_of(i, width);
        vf scaled = vf_mul(vf_load_act_part(gain, gain_type, i, n), vf_load_act_part(dy, DTYPE_F32, i, n));
        acc[a] = vf_fma(scaled, vf_load_act_part(x, DTYPE_F32, i, n), acc[a]);
    }
    /* n * mean(g*dy*n) = x * (rstd^2 * sum(g*dy*x) / C). */
    const vf back = vf_set(-(rstd * rstd * (acc_sum(acc) / (float)width)));
    const vf scale = vf_set(rstd);
    for (i = 0; i < width; i += VW) {
        int n = part_of(i, width);
        vf scaled = vf_mul(vf_load_act_part(gain, gain_type, i, n), vf_load_act_part(dy, DTYPE_F32, i, n));
        vf inner = vf_fma(vf_load_act_part(x, DTYPE_F32, i, n), back, scaled);
        vf_store_act_part(dx, DTYPE_F32, i, vf_fma(scale, inner, vf_load_act_part(dx, DTYPE_F32, i, n)), n);
    }
}

/* d_gain[begin .. begin + N_ACC * VW] += for each block of rows of a phase, ascending, the sum over
 * its rows, ascending, of dy * x * rstd. */
static void gain_columns(const struct rmsnorm_backward *p, int64_t first, int rows, const float *rstd, int64_t begin)
{
    for (int block = 0; block < rows; block += GAIN_BLOCK) {
        vf acc[N_ACC] = {vf_zero(), vf_zero(), vf_zero(), vf_zero()};
        int end = block + GAIN_BLOCK < rows ? block + GAIN_BLOCK : rows;
        for (int r = block; r < end; r++) {
            int64_t at = first + r;
            const float *x = p->x + (p->row ? p->row[at] : at) * p->width;
            const float *dy = p->dy + at * p->width;
            int64_t i = begin;
            for (int a = 0; a < N_ACC && i < p->width; a++, i += VW) {
                int n = part_of(i, p->width);
                vf normed = vf_mul(vf_load_act_part(x, DTYPE_F32, i, n), vf_set(rstd[r]));
                acc[a] = vf_fma(vf_load_act_part(dy, DTYPE_F32, i, n), normed, acc[a]);
            }
        }
        int64_t i = begin;
        for (int a = 0; a < N_ACC && i < p->width; a++, i += VW) {
            int n = part_of(i, p->width);
            vf sum = vf_add(vf_load_act_part(p->d_gain, DTYPE_F32, i, n), acc[a]);
            vf_store_act_part(p->d_gain, DTYPE_F32, i, sum, n);
        }
    }
}

struct phase {
    const struct rmsnorm_backward *p;
    int64_t first;
    int rows;
    float *rstd; /* [rows] */
};

static void backward_rows(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct phase *phase = context;
    const struct rmsnorm_backward *p = phase->p;
    (void)thread;
    for (int64_t r = begin; r < end; r++) {
        const int64_t at = phase->first + r;
        const int64_t x_row = p->row ? p->row[at] : at;
        const float *x = p->x + x_row * p->width;
        const float *dy = p->dy + at * p->width;
        float *dx = p->dx + x_row * p->width;
        const float rstd = row_rstd(x, p->width, p->eps);
        phase->rstd[r] = rstd;
        if (p->gain_type == DTYPE_F32)
            backward_row(x, p->gain, DTYPE_F32, dy, rstd, p->width, dx);
        else
            backward_row(x, p->gain, DTYPE_BF16, dy, rstd, p->width, dx);
    }
}

/* Item i is columns i * N_ACC * VW on. */
static void backward_gain(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct phase *phase = context;
    (void)thread;
    for (int64_t i = begin; i < end; i++)
        gain_columns(phase->p, phase->first, phase->rows, phase->rstd, i * N_ACC * VW);
}

/* Threads share out the rows of a phase for dx and then its columns for d_gain: the sum over
 * rows has one order. */
void CPU_NAME(rmsnorm_backward)(struct backend *backend, const struct rmsnorm_backward *p)
{
    assert(p->width > 0 && p->gain_type != DTYPE_F16);
    float rstd[PHASE];
    const int threads = cpu_threads(backend, p->rows * p->width, 0.8);
    const int64_t columns = (p->width + N_ACC * VW - 1) / (N_ACC * VW);
    for (int64_t first = 0; first < p->rows; first += PHASE) {
        const struct phase phase = {p, first, p->rows - first < PHASE ? (int)(p->rows - first) : PHASE, rstd};
        cpu_run(backend, threads, phase.rows, 0, backward_rows, &phase);
        if (p->d_gain != NULL)
            cpu_run(backend, threads, columns, 0, backward_gain, &phase);
    }
}

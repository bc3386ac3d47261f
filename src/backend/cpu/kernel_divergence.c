/* The divergence of two rows of logits, and its gradient by the first. */
#include "backend/cpu/act_part.h"
#include "backend/cpu/cpu_kernels.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>

enum { BLOCK = 2048, N_ACC = 2 };

/* Below all log-probs that are any, and still a number: what can never be has this one, so that its probability of 0
 * times a difference of two such is 0. */
#define NEVER (-1e30f)

/* The three formulas of struct divergence. */
enum kind { FORWARD_KL, REVERSE_KL, BETWEEN };

static enum kind kind_of(float beta) { return beta == 0.0f ? FORWARD_KL : beta == 1.0f ? REVERSE_KL : BETWEEN; }

struct row {
    const float *logits, *teacher;
    float scale, lse, lse_teacher, beta;
};

static inline vf load_part(const float *x, int64_t i, int64_t count)
{
    if (count - i >= VW)
        return vf_load(x + i);
    float lane[VW];
    for (int j = 0; j < VW; j++)
        lane[j] = i + j < count ? x[i + j] : NEVER;
    return vf_load(lane);
}

/* Log-prob; vf_max gives its second operand where either is NaN. */
static inline vf log_prob(vf logits, float scale, float lse)
{
    return vf_max(vf_set(NEVER), vf_sub(vf_mul(logits, vf_set(scale)), vf_set(lse)));
}

/* With d = ln q - ln p: ln m - ln p, and ln q - ln m. The larger of both is taken out, so that neither exp overflows and
 * what remains is in [min(beta, 1 - beta), 1]. */
struct gaps {
    vf own, other;
};

static inline struct gaps mix_gaps(vf d, float beta)
{
    const vf zero = vf_zero(), below = vf_min(zero, d), above = vf_max(zero, d);
    const vf u = vf_fma(vf_set(beta), vf_exp(below), vf_mul(vf_set(1.0f - beta), vf_exp(vf_sub(zero, above))));
    const vf rest = vf_log(u);
    return (struct gaps){vf_add(above, rest), vf_sub(below, rest)};
}

/* Adds what one vector adds to KL(p || m) and to KL(q || m); of the ends of beta only the one that there is. */
ALWAYS_INLINE void add_terms(const struct row *r, vf logits, vf teacher, enum kind kind, vf *own, vf *other)
{
    const vf lp = log_prob(logits, r->scale, r->lse), lq = log_prob(teacher, r->scale, r->lse_teacher);
    const vf d = vf_sub(lq, lp);
    if (kind == REVERSE_KL) {
        *own = vf_sub(*own, vf_mul(vf_exp(lp), d));
    } else if (kind == FORWARD_KL) {
        *other = vf_fma(vf_exp(lq), d, *other);
    } else {
        const struct gaps gaps = mix_gaps(d, r->beta);
        *own = vf_sub(*own, vf_mul(vf_exp(lp), gaps.own));
        *other = vf_fma(vf_exp(lq), gaps.other, *other);
    }
}

/* Vector i of a block goes to accumulator i mod N_ACC, blocks are added in ascending order in double. */
ALWAYS_INLINE void sum_row(const struct row *r, int64_t vocab, enum kind kind, double *own, double *other)
{
    *own = *other = 0.0;
    for (int64_t begin = 0; begin < vocab; begin += BLOCK) {
        const int64_t end = begin + BLOCK < vocab ? begin + BLOCK : vocab;
        vf a[N_ACC] = {vf_zero(), vf_zero()}, b[N_ACC] = {vf_zero(), vf_zero()};
        int64_t i = begin;
        for (; i + N_ACC * VW <= end; i += N_ACC * VW)
            for (int k = 0; k < N_ACC; k++)
                add_terms(r, vf_load(r->logits + i + k * VW), vf_load(r->teacher + i + k * VW), kind, &a[k], &b[k]);
        for (int k = 0; i < end; i += VW, k++)
            add_terms(r, load_part(r->logits, i, end), load_part(r->teacher, i, end), kind, &a[k], &b[k]);
        *own += (double)vf_sum(vf_add(a[0], a[1]));
        *other += (double)vf_sum(vf_add(b[0], b[1]));
    }
}

static struct row row_of(const struct divergence *p, int64_t r)
{
    return (struct row){.logits = p->logits + r * p->vocab,
                        .teacher = p->teacher + r * p->vocab,
                        .scale = 1.0f / p->temperature,
                        .lse = p->lse[r],
                        .lse_teacher = p->lse_teacher[r],
                        .beta = p->beta};
}

static void value_rows(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct divergence *p = context;
    const enum kind kind = kind_of(p->beta);
    const double beta = (double)p->beta;
    (void)thread;
    for (int64_t r = begin; r < end; r++) {
        const struct row row = row_of(p, r);
        double own, other;
        if (kind == FORWARD_KL)
            sum_row(&row, p->vocab, FORWARD_KL, &own, &other);
        else if (kind == REVERSE_KL)
            sum_row(&row, p->vocab, REVERSE_KL, &own, &other);
        else
            sum_row(&row, p->vocab, BETWEEN, &own, &other);
        const bool valid = isfinite(row.lse) && isfinite(row.lse_teacher);
        const double value = kind == BETWEEN ? beta * other + (1.0 - beta) * own : own + other;
        p->value[r] = valid ? (float)value : NAN;
        p->to_mix[r] = valid ? (float)own : NAN;
    }
}

void CPU_NAME(divergence)(struct backend *backend, const struct divergence *p)
{
    assert(p->temperature > 0.0f && p->beta >= 0.0f && p->beta <= 1.0f);
    cpu_run(backend, cpu_threads(backend, p->rows * p->vocab, 1.0), p->rows, 0, value_rows, p);
}

ALWAYS_INLINE void gradient_block(const struct row *r, int64_t begin, int64_t end, float factor, float to_mix,
                                  void *out, enum dtype act, enum kind kind)
{
    for (int64_t i = begin; i < end; i += VW) {
        const vf lp = log_prob(load_part(r->logits, i, end), r->scale, r->lse),
                 lq = log_prob(load_part(r->teacher, i, end), r->scale, r->lse_teacher);
        const vf p = vf_exp(lp), d = vf_sub(lq, lp);
        vf slope;
        if (kind == FORWARD_KL)
            slope = vf_add(vf_sub(p, vf_exp(lq)), vf_set(to_mix)); /* 0, or NaN where there is no distribution */
        else if (kind == REVERSE_KL)
            slope = vf_mul(p, vf_sub(vf_set(-to_mix), d));
        else
            slope = vf_mul(p, vf_sub(vf_set(-to_mix), mix_gaps(d, r->beta).own));
        vf_store_act_part(out, act, i, vf_mul(slope, vf_set(factor)), part_of(i, end));
    }
}

/* Item: (row, block). */
static void gradient_blocks(const void *context, int64_t first, int64_t last, int thread)
{
    const struct divergence *p = context;
    const enum kind kind = kind_of(p->beta);
    const int64_t blocks = (p->vocab + BLOCK - 1) / BLOCK;
    (void)thread;
    for (int64_t item = first; item < last; item++) {
        const int64_t r = item / blocks, begin = item % blocks * BLOCK,
                      end = begin + BLOCK < p->vocab ? begin + BLOCK : p->vocab;
        const struct row row = row_of(p, r);
        const float factor = p->weight[r] * row.scale * (kind == BETWEEN ? 1.0f - p->beta : 1.0f), mix = p->to_mix[r];
        void *out = act_at_mut(p->d_logits, p->act, r * p->vocab);
#define GRADIENT(act)                                                                                                  \
    if (kind == FORWARD_KL)                                                                                            \
        gradient_block(&row, begin, end, factor, mix, out, act, FORWARD_KL);                                           \
    else if (kind == REVERSE_KL)                                                                                       \
        gradient_block(&row, begin, end, factor, mix, out, act, REVERSE_KL);                                           \
    else                                                                                                               \
        gradient_block(&row, begin, end, factor, mix, out, act, BETWEEN)
        if (p->act == DTYPE_F32) {
            GRADIENT(DTYPE_F32);
        } else {
            GRADIENT(DTYPE_BF16);
        }
#undef GRADIENT
    }
}

void CPU_NAME(divergence_gradient)(struct backend *backend, const struct divergence *p)
{
    assert(p->temperature > 0.0f && p->act != DTYPE_F16 && p->beta >= 0.0f && p->beta <= 1.0f);
    const int64_t blocks = (p->vocab + BLOCK - 1) / BLOCK;
    cpu_run(backend, cpu_threads(backend, p->rows * p->vocab, 1.0), p->rows * blocks, 0, gradient_blocks, p);
}

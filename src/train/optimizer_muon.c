/* Muon (torch.optim.Muon; Jordan et al. 2024): the momentum of a matrix made orthogonal by Newton and Schulz's
 * iteration in bf16. Its products are those of the backward, in fp32 sums of a fixed order, rounded once to bf16. */
#include "train/optimizer_internal.h"

#include <math.h>

/* X is [r, c] with r at most c, and Y its transpose. */
struct work {
    int64_t r, c;
    uint16_t *x, *y; /* [r, c], [c, r] */
    uint16_t *s, *u; /* [r, r] */
    float *product;  /* [r, c]; [r, r] in it */
};

static const double A = 3.4445, B = -4.7750, C = 2.0315;

static size_t aligned(size_t bytes) { return (bytes + 255) / 256 * 256; }

/* Where the buffers lie, and how many bytes they take together. */
struct places {
    size_t y, s, u, product, bytes; /* x is at 0 */
};

static struct places lay_out(const struct param *param)
{
    const int64_t rows = param->shape[0], columns = param->shape[1], side = rows < columns ? rows : columns;
    const size_t whole = (size_t)param->count, square = (size_t)side * (size_t)side;
    struct places p;
    p.y = aligned(whole * sizeof(uint16_t));
    p.s = p.y + aligned(whole * sizeof(uint16_t));
    p.u = p.s + aligned(square * sizeof(uint16_t));
    p.product = p.u + aligned(square * sizeof(uint16_t));
    p.bytes = p.product + aligned(whole * sizeof(float));
    return p;
}

size_t muon_work_bytes(const struct param *param) { return lay_out(param).bytes; }

static struct work work_of(const struct param *param, char *base)
{
    const struct places p = lay_out(param);
    const int64_t rows = param->shape[0], columns = param->shape[1];
    return (struct work){.r = rows < columns ? rows : columns,
                         .c = rows < columns ? columns : rows,
                         .x = (uint16_t *)(void *)base,
                         .y = (uint16_t *)(void *)(base + p.y),
                         .s = (uint16_t *)(void *)(base + p.s),
                         .u = (uint16_t *)(void *)(base + p.u),
                         .product = (float *)(void *)(base + p.product)};
}

/* product[n, k] = a[m, n]^T . b[m, k]. */
static void multiply(struct backend *be, float *product, int64_t m, int64_t n, int64_t k, const uint16_t *a,
                     const uint16_t *b)
{
    be->ops->zero(be, product, (size_t)n * (size_t)k * sizeof *product);
    be->ops->matmul_backward_weight(
        be, &(struct matmul_backward_weight){
                .m = m, .n = n, .k = k, .dy = a, .dy_stride = n, .x = b, .type = DTYPE_BF16, .dw = product});
}

static void mix(struct backend *be, int64_t count, double a, const uint16_t *x, double b, const float *z,
                double divisor, uint16_t *y)
{
    be->ops->muon_mix(
        be, &(struct muon_mix){
                .count = count, .x = x, .z = z, .a = (float)a, .b = (float)b, .divisor = (float)divisor, .y = y});
}

static void transpose(struct backend *be, int64_t rows, int64_t columns, const uint16_t *x, uint16_t *y)
{
    be->ops->muon_transpose(be, &(struct muon_transpose){.rows = rows, .columns = columns, .x = x, .y = y});
}

/* The norm in bf16, as torch has it. */
static float norm_of(struct backend *be, const struct work *w)
{
    const int64_t count = w->r * w->c;
    be->ops->convert(
        be, &(struct convert){.count = count, .x = w->x, .x_type = DTYPE_BF16, .y = w->product, .y_type = DTYPE_F32});
    return f32_from_bf16(bf16_from_f32((float)sqrt(be->ops->sum_squares(be, w->product, count))));
}

/* Makes w->x, [r, c], orthogonal. */
static void orthogonalise(struct backend *be, const struct work *w, int steps, double eps)
{
    const int64_t r = w->r, c = w->c;
    mix(be, r * c, 1.0, w->x, 0.0, NULL, fmax((double)norm_of(be, w), eps), w->x);
    for (int i = 0; i < steps; i++) {
        transpose(be, r, c, w->x, w->y);
        multiply(be, w->product, c, r, r, w->y, w->y); /* X X^T */
        mix(be, r * r, 0.0, NULL, 1.0, w->product, 1.0, w->s);
        multiply(be, w->product, r, r, r, w->s, w->s); /* S S, for S is symmetric, bit for bit */
        mix(be, r * r, B, w->s, C, w->product, 1.0, w->u);
        multiply(be, w->product, r, r, c, w->u, w->x); /* U X */
        mix(be, r * c, A, w->x, 1.0, w->product, 1.0, w->x);
    }
}

static double factor_of(enum optimizer_rate rate, double rows, double columns)
{
    switch (rate) {
    case OPTIMIZER_RATE_ORIGINAL: return sqrt(fmax(1.0, rows / columns));
    case OPTIMIZER_RATE_MATCH_RMS_ADAMW: return 0.2 * sqrt(fmax(rows, columns));
    case OPTIMIZER_RATE_SPECTRAL_UNCLAMPED: return sqrt(rows / columns);
    }
    return 1.0;
}

void muon_update(const struct param_update *u)
{
    struct backend *be = u->set->backend;
    const double *a = u->optimizer->arguments;
    const struct param *param = u->param;
    const int64_t rows = param->shape[0], columns = param->shape[1];
    const struct work w = work_of(param, u->set->training.work);
    const bool tall = rows > columns;
    be->ops->muon_momentum(be, &(struct muon_momentum){.count = param->count,
                                                       .grad = u->grad,
                                                       .scale = (float)u->scale,
                                                       .momentum = (float)a[OPTIMIZER_MOMENTUM],
                                                       .nesterov = a[OPTIMIZER_NESTEROV] != 0.0,
                                                       .m = param_state(u->set, u->i, PARAM_STATE_MOMENTUM),
                                                       .x = tall ? w.y : w.x});
    if (tall)
        transpose(be, rows, columns, w.y, w.x);
    orthogonalise(be, &w, (int)a[OPTIMIZER_NS_STEPS], a[OPTIMIZER_NS_EPS]);
    if (tall)
        transpose(be, columns, rows, w.x, w.y);
    struct descent p = optimizer_descent(u, DESCENT_ALONG, tall ? w.y : w.x, DTYPE_BF16);
    p.m = NULL; /* the momentum is in the direction */
    p.rate = (float)(u->learning_rate *
                     factor_of((enum optimizer_rate)a[OPTIMIZER_ADJUST_LR_FN], (double)rows, (double)columns));
    be->ops->descent(be, &p);
}

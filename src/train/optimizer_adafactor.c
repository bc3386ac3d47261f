/* Adafactor (Shazeer and Stern 2018) as transformers.Adafactor has it: second moments kept as means over rows and over
 * columns. */
#include "train/optimizer_internal.h"

#include <math.h>

static const double FLOOR = 1e-30, LEAST_SCALE = 1e-3; /* eps of transformers */

/* Weights are brought into fp32 in pieces: their squares are added piece by piece. */
enum { PIECE = 1 << 20 };

/* The mean of the row means, and the piece. */
struct work {
    float row_mean[64];
    float piece[];
};

size_t adafactor_work_bytes(const struct optimizer *optimizer)
{
    return sizeof(struct work) + (optimizer->arguments[OPTIMIZER_SCALE_PARAMETER] != 0.0 ? PIECE * sizeof(float) : 0);
}

/* The root mean square of a tensor's masters. */
static double rms_of_weights(const struct param_update *u, struct work *w)
{
    struct backend *be = u->set->backend;
    const struct param *p = u->param;
    const int16_t *low = param_state(u->set, u->i, PARAM_STATE_LOW);
    double sum = 0.0;
    for (int64_t first = 0; first < p->count; first += PIECE) {
        const int64_t count = p->count - first < PIECE ? p->count - first : PIECE;
        be->ops->average(
            be, &(struct average){.count = count,
                                  .weight = (const char *)param_home(u->set, u->i) + storage_bytes(p->format, first),
                                  .low = low == NULL ? NULL : low + first,
                                  .type = storage_dtype(p->format),
                                  .mean = w->piece,
                                  .share = 1.0f});
        sum += be->ops->sum_squares(be, w->piece, count);
    }
    return sqrt(sum / (double)p->count);
}

static double rate_of(const struct param_update *u, struct work *w)
{
    const double *a = u->optimizer->arguments, t = (double)u->optimizer->step;
    double rate = u->learning_rate;
    if (a[OPTIMIZER_RELATIVE_STEP] != 0.0)
        rate = fmin(a[OPTIMIZER_WARMUP_INIT] != 0.0 ? 1e-6 * t : 1e-2, 1.0 / sqrt(t));
    if (a[OPTIMIZER_SCALE_PARAMETER] != 0.0)
        rate *= fmax(LEAST_SCALE, rms_of_weights(u, w));
    return rate;
}

void adafactor_update(const struct param_update *u)
{
    struct backend *be = u->set->backend;
    const double *a = u->optimizer->arguments;
    const struct param *p = u->param;
    struct work *w = u->set->training.work;
    const double keep = 1.0 - pow((double)u->optimizer->step, a[OPTIMIZER_DECAY_RATE]);
    const bool factored = p->rank > 1;
    const int64_t stack = p->rank == 3 ? p->shape[0] : 1; /* of matrices, each with means of its own */
    const int64_t rows = factored ? param_rows(p) / stack : 1, columns = factored ? param_columns(p) : p->count;
    float *row = param_state(u->set, u->i, factored ? PARAM_STATE_ROW : PARAM_STATE_SQUARES),
          *col = param_state(u->set, u->i, PARAM_STATE_COLUMN);
    const double rate = rate_of(u, w);
    for (int64_t i = 0; i < stack; i++) {
        float *matrix = u->grad + i * rows * columns, *row_i = row + i * rows,
              *col_i = col == NULL ? NULL : col + i * columns;
        be->ops->adafactor_means(be, &(struct adafactor_means){.rows = rows,
                                                               .columns = columns,
                                                               .grad = matrix,
                                                               .scale = (float)u->scale,
                                                               .floor = (float)FLOOR,
                                                               .keep = (float)keep,
                                                               .mix = (float)(1.0 - keep),
                                                               .row = row_i,
                                                               .col = col_i,
                                                               .row_mean = w->row_mean});
        be->ops->adafactor_scale(be, &(struct adafactor_scale){.rows = rows,
                                                               .columns = columns,
                                                               .grad = matrix,
                                                               .scale = (float)u->scale,
                                                               .row = row_i,
                                                               .col = col_i,
                                                               .row_mean = w->row_mean});
    }
    const double rms = sqrt(be->ops->sum_squares(be, u->grad, p->count) / (double)p->count);
    struct descent d = optimizer_descent(u, DESCENT_ALONG, u->grad, DTYPE_F32);
    d.scale = (float)(1.0 / fmax(1.0, rms / a[OPTIMIZER_CLIP_THRESHOLD]));
    d.rate = (float)rate;
    d.keep = (float)(1.0 - u->weight_decay * rate);
    d.momentum = (float)a[OPTIMIZER_BETA1];
    be->ops->descent(be, &d);
}

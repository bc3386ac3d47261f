/* The rates. Formulas, and the order of their operations: transformers/optimization.py, the functions whose names end
 * in lr_lambda. */
#include "train/schedule.h"

#include <math.h>

static const double PI = 3.14159265358979323846;

enum curve {
#define CURVE(id, word) CURVE_##id,
    SCHEDULE_CURVE_LIST(CURVE)
#undef CURVE
};

/* Share of the way from the end of warm-up to the last step, in [0, 1]. transformers lets it pass
 * 1, where its cosine rises again; here the rate stays after the end where it was. */
static double progress(const struct schedule *s, int64_t step)
{
    int64_t span = s->total_steps > s->warmup_steps ? s->total_steps - s->warmup_steps : 1;
    double share = (double)(step - s->warmup_steps) / (double)span;
    return share < 1.0 ? share : 1.0;
}

/* n waves over the whole way. */
static double wave(double n, double share) { return 0.5 * (1.0 + cos(PI * n * 2.0 * share)); }

/* The part of the rate above the least one; both and the result in shares of the peak. */
static double above(double least, double factor) { return factor * (1.0 - least) + least; }

static double rise(enum curve curve, double share)
{
    switch (curve) {
    case CURVE_LINEAR: return share;
    case CURVE_COSINE: return 0.5 * (1.0 - cos(PI * share));
    case CURVE_ONE_MINUS_SQRT: return 1.0 - sqrt(1.0 - share);
    }
    return share;
}

static double fall(enum curve curve, double share, double n_cycles)
{
    switch (curve) {
    case CURVE_LINEAR: return 1.0 - share;
    case CURVE_COSINE: return wave(n_cycles, share);
    case CURVE_ONE_MINUS_SQRT: return 1.0 - sqrt(share);
    }
    return 0.0;
}

static double warmup_factor(const struct schedule *s, int64_t step)
{
    const double *p = s->parameters, done = (double)step, all = (double)s->warmup_steps;
    switch (s->type) {
    case SCHEDULE_COSINE_WARMUP_WITH_MIN_LR:
        if (isnan(p[SCHEDULE_WARMUP_LR_RATE]))
            return (done + 1.0) / all;
        return p[SCHEDULE_WARMUP_LR_RATE] + (1.0 - p[SCHEDULE_WARMUP_LR_RATE]) * done / (all > 2.0 ? all - 1.0 : 1.0);
    case SCHEDULE_WARMUP_STABLE_DECAY:
        return above(p[SCHEDULE_MIN_LR_RATIO], rise((enum curve)p[SCHEDULE_WARMUP_TYPE], done / all));
    default: return done / all;
    }
}

static double polynomial_factor(const struct schedule *s, int64_t step)
{
    const double base = s->learning_rate, end = s->parameters[SCHEDULE_LR_END];
    if (step > s->total_steps || s->total_steps <= s->warmup_steps)
        return end / base;
    return ((base - end) * pow(1.0 - progress(s, step), s->parameters[SCHEDULE_POWER]) + end) / base;
}

static double decay_factor(const struct schedule *s, int64_t step)
{
    const double *p = s->parameters, steps = p[SCHEDULE_NUM_DECAY_STEPS],
                 done = (double)(step - s->warmup_steps) - p[SCHEDULE_NUM_STABLE_STEPS];
    if (done < 0.0)
        return 1.0;
    if (done >= steps)
        return p[SCHEDULE_MIN_LR_RATIO];
    return fmax(0.0, above(p[SCHEDULE_MIN_LR_RATIO],
                           fall((enum curve)p[SCHEDULE_DECAY_TYPE], done / steps, p[SCHEDULE_NUM_CYCLES])));
}

/* Share of the peak after the warm-up. */
static double factor(const struct schedule *s, int64_t step)
{
    const double *p = s->parameters;
    switch (s->type) {
    case SCHEDULE_CONSTANT:
    case SCHEDULE_CONSTANT_WITH_WARMUP: return 1.0;
    case SCHEDULE_LINEAR:
        if (s->total_steps <= step)
            return 0.0;
        return (double)(s->total_steps - step) / (double)(s->total_steps - s->warmup_steps);
    case SCHEDULE_COSINE: return wave(p[SCHEDULE_NUM_CYCLES], progress(s, step));
    case SCHEDULE_COSINE_WITH_RESTARTS:
        if (progress(s, step) >= 1.0)
            return 0.0;
        return 0.5 * (1.0 + cos(PI * fmod(p[SCHEDULE_NUM_CYCLES] * progress(s, step), 1.0)));
    case SCHEDULE_POLYNOMIAL: return polynomial_factor(s, step);
    case SCHEDULE_INVERSE_SQRT:
        return 1.0 / sqrt(((double)step + (p[SCHEDULE_TIMESCALE] - (double)s->warmup_steps)) / p[SCHEDULE_TIMESCALE]);
    case SCHEDULE_COSINE_WITH_MIN_LR:
        return above(p[SCHEDULE_MIN_LR_RATE], wave(p[SCHEDULE_NUM_CYCLES], progress(s, step)));
    case SCHEDULE_COSINE_WARMUP_WITH_MIN_LR:
        return above(p[SCHEDULE_MIN_LR_RATE], wave(p[SCHEDULE_NUM_CYCLES], progress(s, step + 1)));
    case SCHEDULE_WARMUP_STABLE_DECAY: return decay_factor(s, step);
    }
    return 1.0;
}

double schedule_rate(const struct schedule *s, int64_t step)
{
    if (step < 0)
        step = 0;
    return s->learning_rate * (step < s->warmup_steps ? warmup_factor(s, step) : factor(s, step));
}

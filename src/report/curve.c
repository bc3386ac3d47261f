#include "report/curve.h"

#include <math.h>

void curve_free(struct curve *curve)
{
    mem_free(curve->x);
    mem_free(curve->y);
    *curve = (struct curve){0};
}

static cohort_status curve_alloc(struct curve *curve, size_t n, cohort_error *err)
{
    *curve = (struct curve){0};
    cohort_status status = mem_alloc(&curve->x, n, sizeof *curve->x, "curve", err);
    if (status == COHORT_OK)
        status = mem_alloc(&curve->y, n, sizeof *curve->y, "curve", err);
    if (status != COHORT_OK)
        curve_free(curve);
    return status;
}

cohort_status curve_take(struct curve *curve, int64_t *steps, double *values, size_t n, cohort_error *err)
{
    cohort_status status = curve_alloc(curve, n, err);
    for (size_t i = 0; status == COHORT_OK && i < n; i++) {
        curve->x[i] = (double)steps[i];
        curve->y[i] = isfinite(values[i]) ? values[i] : NAN;
    }
    curve->n = status == COHORT_OK ? n : 0;
    mem_free(steps);
    mem_free(values);
    return status;
}

double curve_half_life(size_t n) { return fmax(5.0, (double)n / 50.0); }

cohort_status curve_smooth(const struct curve *curve, double half_life, struct curve *out, cohort_error *err)
{
    const double keep = exp2(-1.0 / half_life);
    double sum = 0.0, weight = 0.0;
    TRY(curve_alloc(out, curve->n, err));
    for (out->n = 0; out->n < curve->n; out->n++) {
        const double y = curve->y[out->n];
        if (!isnan(y)) {
            sum = keep * sum + (1.0 - keep) * y;
            weight = keep * weight + (1.0 - keep);
        }
        out->x[out->n] = curve->x[out->n];
        out->y[out->n] = isnan(y) ? NAN : sum / weight;
    }
    return COHORT_OK;
}

static void add_point(struct curve *out, const struct curve *from, size_t i)
{
    out->x[out->n] = from->x[i];
    out->y[out->n++] = from->y[i];
}

cohort_status curve_thin(const struct curve *curve, size_t buckets, struct curve *out, cohort_error *err)
{
    const size_t n = curve->n;
    const bool all = n <= 2 * buckets;
    TRY(curve_alloc(out, all ? n : 2 * buckets + 2, err));
    for (size_t b = 0; b < (all ? n : buckets); b++) {
        const size_t begin = all ? b : b * n / buckets, end = all ? b + 1 : (b + 1) * n / buckets;
        size_t low = begin, high = begin;
        for (size_t i = begin; i < end; i++) {
            if (isnan(curve->y[low]) || curve->y[i] < curve->y[low])
                low = i;
            if (isnan(curve->y[high]) || curve->y[i] > curve->y[high])
                high = i;
        }
        const size_t first = low < high ? low : high, second = low < high ? high : low;
        if (b == 0 && first != begin)
            add_point(out, curve, begin);
        add_point(out, curve, first);
        if (second != first)
            add_point(out, curve, second);
        if (end == n && second != n - 1)
            add_point(out, curve, n - 1);
    }
    return COHORT_OK;
}

struct curve_summary curve_summarise(const struct curve *curve)
{
    struct curve_summary s = {0, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN};
    size_t finite = 0, seen = 0;
    for (size_t i = 0; i < curve->n; i++)
        finite += isnan(curve->y[i]) ? 0u : 1u;
    const size_t tenth = finite < 10 ? 1 : finite / 10;
    double early = 0.0, late = 0.0;
    for (size_t i = 0; i < curve->n; i++) {
        const double y = curve->y[i];
        if (isnan(y))
            continue;
        if (s.n++ == 0)
            s.first = s.least = s.most = y, s.least_x = s.most_x = curve->x[i];
        if (y < s.least)
            s.least = y, s.least_x = curve->x[i];
        if (y > s.most)
            s.most = y, s.most_x = curve->x[i];
        s.last = y;
        s.last_x = curve->x[i];
        early += seen < tenth ? y : 0.0;
        late += seen >= finite - tenth ? y : 0.0;
        seen++;
    }
    if (s.n > 0) {
        s.early = early / (double)tenth;
        s.late = late / (double)tenth;
    }
    return s;
}

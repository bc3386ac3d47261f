/* A metric against steps, made ready to be drawn: smoothed, and thinned out so that no extreme is lost. */
#ifndef COHORT_REPORT_CURVE_H
#define COHORT_REPORT_CURVE_H

#include "base/memory.h"

#include <stdint.h>

/* y may be NaN: the curve has a gap there. */
struct curve {
    size_t n;
    double *x, *y; /* [n] owned, x ascending */
};
void curve_free(struct curve *curve);
/* Takes over both arrays of n. */
cohort_status curve_take(struct curve *curve, int64_t *steps, double *values, size_t n, cohort_error *err);

/* *out: the exponential mean of the finite values so far, corrected for its start, with half the weight after half_life
 * points; NaN where y is. */
cohort_status curve_smooth(const struct curve *curve, double half_life, struct curve *out, cohort_error *err);
/* Points for a smoothed line of n: at least 5, and a fiftieth of them. */
double curve_half_life(size_t n);
/* *out: at most 2 * buckets + 2 points, the lowest and the highest of each bucket of neighbours in their order, with the first
 * and the last of all. All points where they are no more than that. */
cohort_status curve_thin(const struct curve *curve, size_t buckets, struct curve *out, cohort_error *err);

/* Of the finite values. */
struct curve_summary {
    size_t n; /* 0: the rest is NaN */
    double first, last, least, most;
    double early, late; /* means of the first and the last tenth, of one value at least */
    double least_x, most_x, last_x;
};
struct curve_summary curve_summarise(const struct curve *curve);

#endif

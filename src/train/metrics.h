/* Named numbers of one step, in the order they were added; one JSON object a line in metrics.jsonl.
 */
#ifndef COHORT_TRAIN_METRICS_H
#define COHORT_TRAIN_METRICS_H

#include "base/memory.h"

enum { METRICS_MAX = 96 };

struct metrics {
    struct {
        char name[80];
        double value;
    } items[METRICS_MAX];
    size_t count;
};

/* A second value for a name replaces the first. */
void metrics_set(struct metrics *metrics, const char *name, double value);
void metrics_setf(struct metrics *metrics, double value, const char *format, ...) PRINTF_LIKE(3, 4);
/* NaN if there is none. */
double metrics_get(const struct metrics *metrics, const char *name);
/* Appends {"a": 1, ...} and a newline; values that are not finite become null. */
cohort_status metrics_write(const struct metrics *metrics, struct text *out, cohort_error *err);

#endif

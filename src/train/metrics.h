/* Named numbers of one step, in the order they were added, and as the text of one line of metrics.jsonl (which
 * run/run_folder.c writes). */
#ifndef COHORT_TRAIN_METRICS_H
#define COHORT_TRAIN_METRICS_H

#include "base/memory.h"

/* Zero-initialise it and free it with metrics_free. It holds any number of names of any length. */
struct metrics {
    cohort_metric *items; /* names are owned */
    size_t count, room;
    bool incomplete; /* memory could not be had for one; metrics_write says so */
};

/* A second value for a name replaces the first. */
void metrics_set(struct metrics *metrics, const char *name, double value);
void metrics_setf(struct metrics *metrics, double value, const char *format, ...) PRINTF_LIKE(3, 4);
/* Sets a value only where the name has none yet. */
void metrics_offer(struct metrics *metrics, double value, const char *format, ...) PRINTF_LIKE(3, 4);
/* Adds all of another's. */
void metrics_add(struct metrics *metrics, const struct metrics *other);
/* The value of a name; NaN if there is none. */
double metrics_get(const struct metrics *metrics, const char *name);
/* Appends {"a": 1, ...} and a newline; values that are not finite become null. COHORT_ERR_MEMORY where one could not be
 * kept. */
cohort_status metrics_write(const struct metrics *metrics, struct text *out, cohort_error *err);
/* Accepts NULL; *metrics may be used anew. */
void metrics_free(struct metrics *metrics);

#endif

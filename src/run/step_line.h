/* The line that a person reads of a step: its numbers in columns, as many of them as the terminal holds. */
#ifndef COHORT_RUN_STEP_LINE_H
#define COHORT_RUN_STEP_LINE_H

#include "base/memory.h"

#include <stdint.h>

/* Zero-initialise it and free it with step_line_free. It keeps which columns a run has, from its first line on. */
struct step_line {
    bool begun, evaluates;
    char **functions; /* [n_functions] names of reward functions */
    size_t n_functions, room;
    int64_t lines; /* since the last header */
};
struct step_line_at {
    int64_t step, steps; /* steps 0: no end */
    double seconds_left; /* of the run; NaN: unknown */
    bool evaluates;      /* the run has held-out rows */
    int columns;         /* of the terminal; 0: the line goes into a file or a pipe, and has all columns */
};
/* Appends a header, where one is due (before the first line, and every 40 lines of a terminal), and the line. */
cohort_status step_line_write(struct step_line *line, const struct step_line_at *at, const cohort_metric *metrics,
                              size_t count, struct text *out, cohort_error *err);
void step_line_free(struct step_line *line);
/* "1h02m", "12m30s", "45s" */
void step_line_duration(double seconds, char out[24]);

#endif

/* Where a run's metrics go beside its folder (option report_to): event files for TensorBoard, and programs that get a
 * JSON line for each step. None of them ever stops a run: what goes wrong is told once. */
#ifndef COHORT_RECIPE_REPORT_TO_H
#define COHORT_RECIPE_REPORT_TO_H

#include "recipe/session.h"
#include "run/options.h"
#include "train/metrics.h"

struct report_to; /* NULL: nothing is reported */

/* Whether the option's values are understood; to find a wrong one before anything else is done. */
cohort_status report_to_check(const struct options *options, cohort_error *err);
/* run: the folder; step: that the run goes on from. What cannot be opened is told the observer. */
cohort_status report_to_open(struct report_to **out, const struct options *options, const char *command,
                             const char *run, int64_t step, const cohort_observer *observer, cohort_error *err);
/* A line of metrics.jsonl as it was logged, "step" first. */
void report_to_step(struct report_to *report, int64_t step, const struct metrics *metrics);
/* outcome: how the run ended. Programs get two seconds to read what waits. Accepts NULL. */
void report_to_close(struct report_to *report, const char *outcome);
/* Forgets it in a child that was forked since. */
void report_to_leave(struct report_to *report);

#endif

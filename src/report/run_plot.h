/* The curve that a run draws into its folder while it goes on. */
#ifndef COHORT_REPORT_RUN_PLOT_H
#define COHORT_REPORT_RUN_PLOT_H

#include "run/run_folder.h"

/* Draws one metric, and that of evaluations (may be NULL), against steps, read from metrics.jsonl, as an SVG with axes
 * into the run folder. Having nothing to draw is not an error. */
cohort_status run_plot(const struct run_folder *run, const char *metric, const char *eval_metric, const char *title,
                       const char *file_name, cohort_error *err);

#endif

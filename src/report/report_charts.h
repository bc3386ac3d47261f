/* The charts of a report: which metrics are drawn together, and what to see in them. */
#ifndef COHORT_REPORT_REPORT_CHARTS_H
#define COHORT_REPORT_REPORT_CHARTS_H

#include "report/chart.h"
#include "run/store_read.h"

/* A run whose record is open. */
struct report_run {
    struct store_reader reader;
    const cohort_stored_run *run; /* of the reader */
    char **names;                 /* [n_names] owned: of its metrics */
    size_t n_names, names_room;
    struct chart_mark *marks; /* [n_marks] owned: resumes, warnings, skipped updates */
    size_t n_marks, marks_room;
    size_t warnings;
};
/* *run is zeroed; close it after a failure too. folder: the run folder. */
cohort_status report_run_open(struct report_run *run, const char *folder, cohort_error *err);
void report_run_close(struct report_run *run);
bool report_run_takes_rows(const struct report_run *run);
/* A metric of the run as a curve, without points where it has none of that name. */
cohort_status report_curve(struct report_run *run, const char *name, struct curve *curve, cohort_error *err);
/* The mean reward of an evaluation's set of prompts: the metric of that name, and, where completions were kept, for each
 * point the standard error of a mean over prompts; NULL where none was. Free *error with mem_free. */
cohort_status report_eval_curve(struct report_run *run, const char *name, struct curve *curve, double **error,
                                cohort_error *err);
/* Whether a metric is the mean reward of an evaluation ("eval_reward", "eval_SET_reward"). */
bool report_is_eval_reward(const char *name);

/* Sections of charts, one below the other. runs: those that are drawn together. */
cohort_status report_learned(struct report_run *runs, size_t n, struct text *out, cohort_error *err);
cohort_status report_health(struct report_run *runs, size_t n, struct text *out, cohort_error *err);
/* One chart of these metrics, as a file of its own. */
cohort_status report_plot(struct report_run *run, const char *title, const char *const *names, size_t n,
                          struct text *out, cohort_error *err);

#endif

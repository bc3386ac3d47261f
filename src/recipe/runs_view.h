/* What "cohort runs" prints: runs, what was recorded of them, and their comparison. */
#ifndef COHORT_RECIPE_RUNS_VIEW_H
#define COHORT_RECIPE_RUNS_VIEW_H

#include "recipe/json_rows.h"
#include "recipe/session.h"
#include "recipe/table_out.h"
#include "run/export_list.h"
#include "run/options.h"
#include "run/store_begin.h"
#include "run/store_read.h"

#define EXPORT_FORMAT(id, word) EXPORT_##id,
#define EXPORT_TABLE(id, word)  EXPORT_##id,
enum export_format { EXPORT_FORMAT_LIST(EXPORT_FORMAT) N_EXPORT_FORMATS };
enum export_table { EXPORT_TABLE_LIST(EXPORT_TABLE) N_EXPORT_TABLES };
#undef EXPORT_FORMAT
#undef EXPORT_TABLE

struct runs_view {
    const struct options *options;
    const cohort_observer *observer;
};

/* *path = the folder of a run by its name in the folder of option runs, or by its path. Free it with mem_free. */
cohort_status runs_find(const struct runs_view *view, const char *name, char **path, cohort_error *err);
/* The same in a folder of runs. */
cohort_status runs_find_in(const char *runs, const char *name, char **path, cohort_error *err);
/* Opens it. Close the reader after a failure too. */
cohort_status runs_open(const struct runs_view *view, const char *name, struct store_reader *reader, cohort_error *err);
/* The steps of option step: all, N, or FIRST:LAST, either of which may be left out. */
cohort_status runs_steps(const struct options *options, int64_t *first, int64_t *last, cohort_error *err);
/* The form of option format, in which a table is printed; others than these are refused for what is named. */
cohort_status runs_form(const struct options *options, const char *what, enum table_form *form, cohort_error *err);

cohort_status runs_list(const struct runs_view *view, cohort_error *err);
cohort_status runs_show(const struct runs_view *view, const char *name, cohort_error *err);
cohort_status runs_compare(const struct runs_view *view, const char *const *names, size_t n, cohort_error *err);

/* ---- runs_export.c ---- */

cohort_status runs_completions(const struct runs_view *view, const char *name, cohort_error *err);
cohort_status runs_sql(const struct runs_view *view, const char *name, const char *sql, cohort_error *err);
cohort_status runs_export(const struct runs_view *view, const char *name, cohort_error *err);

#endif

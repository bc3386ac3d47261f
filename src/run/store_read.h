/* Reading a run's database, as cohort.h describes it: the functions there check arguments and call these.
 *
 * A reader never holds a transaction while a caller looks: rows are read in pages, copied, and then shown, so that a slow
 * caller keeps neither the write-ahead log nor, where there is none, the trainer (sql excepted, whose statement goes on
 * between rows). */
#ifndef COHORT_RUN_STORE_READ_H
#define COHORT_RUN_STORE_READ_H

#include "base/stop.h"
#include "run/store_db.h"

struct store_reader {
    struct store_db db;
    char *folder;
    int64_t data_version; /* at the last question; -1: not asked yet */
    cohort_stored_run run;
    struct text run_texts;
};
/* *reader is zeroed; close it after a failure too. */
cohort_status store_reader_open(struct store_reader *reader, const char *folder, cohort_error *err);
void store_reader_close(struct store_reader *reader);

typedef bool store_visit_run(void *context, const cohort_stored_run *run);
typedef bool store_visit_input(void *context, const cohort_stored_input *input);
typedef bool store_visit_step(void *context, const cohort_stored_step *step);
typedef bool store_visit_name(void *context, const char *name);
typedef bool store_visit_completion(void *context, const cohort_stored_completion *completion);
typedef bool store_visit_turn(void *context, const cohort_stored_turn *turn);
typedef bool store_visit_evaluation(void *context, const cohort_stored_evaluation *evaluation);
typedef bool store_visit_event(void *context, const cohort_stored_event *event);
typedef bool store_visit_row(void *context, const cohort_stored_row *row);

cohort_status store_read_run(struct store_reader *reader, const cohort_stored_run **run, cohort_error *err);
cohort_status store_read_list(const char *folder, store_visit_run *visit, void *context, cohort_error *err);
cohort_status store_read_changed(struct store_reader *reader, bool *changed, cohort_error *err);
cohort_status store_read_inputs(struct store_reader *reader, store_visit_input *visit, void *context,
                                cohort_error *err);
cohort_status store_read_steps(struct store_reader *reader, int64_t first, int64_t last, store_visit_step *visit,
                               void *context, cohort_error *err);
cohort_status store_read_names(struct store_reader *reader, store_visit_name *visit, void *context, cohort_error *err);
cohort_status store_read_curve(struct store_reader *reader, const char *name, int64_t first, int64_t last,
                               int64_t **steps, double **values, size_t *n, cohort_error *err);
cohort_status store_read_evaluations(struct store_reader *reader, int64_t first, int64_t last,
                                     store_visit_evaluation *visit, void *context, cohort_error *err);
cohort_status store_read_events(struct store_reader *reader, int64_t after, const char *kind, store_visit_event *visit,
                                void *context, cohort_error *err);
cohort_status store_read_sql(struct store_reader *reader, const char *sql, const struct stop *stop,
                             store_visit_row *visit, void *context, cohort_error *err);

/* ---- store_completions.c ---- */

/* One of ours, with everything in it. */
extern const cohort_completion_query store_all_completions;
cohort_status store_read_completions(struct store_reader *reader, const cohort_completion_query *query,
                                     store_visit_completion *visit, void *context, cohort_error *err);
cohort_status store_read_count(struct store_reader *reader, const cohort_completion_query *query, int64_t *count,
                               cohort_error *err);
cohort_status store_read_turns(struct store_reader *reader, int64_t step, const char *set, int64_t group, int64_t index,
                               store_visit_turn *visit, void *context, cohort_error *err);

/* ---- for both ---- */

/* A column of the present row as a copy in texts, at *at; *length bytes, NUL behind; *length -1: null. */
cohort_status store_copy_column(const struct store_reader *reader, sqlite3_stmt *statement, int column,
                                struct text *texts, size_t *at, int64_t *length, cohort_error *err);
cohort_status store_prepare(struct store_reader *reader, const char *sql, sqlite3_stmt **statement, cohort_error *err);
/* *there: a row; else the end. */
cohort_status store_next(struct store_reader *reader, sqlite3_stmt *statement, bool *there, cohort_error *err);

#endif

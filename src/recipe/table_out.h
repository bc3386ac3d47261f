/* A table of named columns, written row by row in one of the forms that "cohort runs" has: JSON lines, CSV, Parquet, or
 * lines with tabs for people. It goes to the observer's output, or into a file that is there when it is whole. */
#ifndef COHORT_RECIPE_TABLE_OUT_H
#define COHORT_RECIPE_TABLE_OUT_H

#include "format/parquet_write.h"
#include "recipe/session.h"

enum table_form { TABLE_TABS, TABLE_JSONL, TABLE_CSV, TABLE_PARQUET };

struct table_out {
    enum table_form form;
    const struct parquet_column *columns; /* [n] borrowed */
    size_t n;
    const cohort_observer *observer; /* gets the bytes where there is no file */
    char *path, *temporary;          /* of the file; NULL: none */
    int fd;                          /* 0: none */
    struct text line;                /* of the present row */
    size_t next;                     /* column that is put next */
    struct parquet_writer parquet;
};
/* path NULL: to the observer. Zero-initialise; close it after a failure too. The head (of CSV and tabs) is written here. */
cohort_status table_open(struct table_out *out, enum table_form form, const struct parquet_column *columns, size_t n,
                         const char *path, const cohort_observer *observer, cohort_error *err);
/* The columns of a row, in their order, each by one of these. A number that is NaN is null in JSON, "nan" elsewhere. */
cohort_status table_integer(struct table_out *out, int64_t value, cohort_error *err);
cohort_status table_number(struct table_out *out, double value, cohort_error *err);
/* bytes NULL: null. */
cohort_status table_text(struct table_out *out, const char *bytes, size_t length, cohort_error *err);
/* JSON text, which stands as it is in JSON lines. */
cohort_status table_json(struct table_out *out, const char *bytes, size_t length, cohort_error *err);
cohort_status table_null(struct table_out *out, cohort_error *err);
/* A column that the row has not: JSON lines leave it out. Not the first one. */
cohort_status table_absent(struct table_out *out, cohort_error *err);
cohort_status table_end_row(struct table_out *out, cohort_error *err);
/* Ends it and gives the file its name. */
cohort_status table_finish(struct table_out *out, cohort_error *err);
void table_close(struct table_out *out);

#endif

/* Writes flat Parquet files: nullable columns of whole numbers, numbers and texts, in plain pages without compression, a
 * page for each column of a row group. Every reader has these; those who want smaller files rewrite them. */
#ifndef COHORT_FORMAT_PARQUET_WRITE_H
#define COHORT_FORMAT_PARQUET_WRITE_H

#include "base/memory.h"

enum parquet_kind { PARQUET_INTEGER, PARQUET_NUMBER, PARQUET_TEXT };

struct parquet_column {
    const char *name; /* it must outlive the writer */
    enum parquet_kind kind;
};

/* Takes the bytes of the file in order. */
typedef cohort_status parquet_take(void *context, const char *bytes, size_t length, cohort_error *err);

struct parquet_writer {
    const struct parquet_column *columns; /* borrowed */
    struct parquet_chunk *chunks;         /* [n_columns] of the row group that is being filled */
    size_t n_columns;
    parquet_take *take;
    void *context;
    int64_t written;              /* bytes that were taken */
    int64_t n_rows, n_group_rows; /* of the file, of the row group */
    size_t group_bytes;
    struct text groups; /* the footer's entries of row groups */
    int64_t n_groups;
};
/* Zero-initialise; close it after a failure too. */
cohort_status parquet_writer_open(struct parquet_writer *writer, const struct parquet_column *columns, size_t n,
                                  parquet_take *take, void *context, cohort_error *err);
/* A value of the present row; a column that gets none is null. The kind must be the column's. */
cohort_status parquet_put_integer(struct parquet_writer *writer, size_t column, int64_t value, cohort_error *err);
cohort_status parquet_put_number(struct parquet_writer *writer, size_t column, double value, cohort_error *err);
cohort_status parquet_put_text(struct parquet_writer *writer, size_t column, const char *bytes, size_t length,
                               cohort_error *err);
cohort_status parquet_end_row(struct parquet_writer *writer, cohort_error *err);
/* Writes the footer, without which it is no file. */
cohort_status parquet_finish(struct parquet_writer *writer, cohort_error *err);
void parquet_writer_close(struct parquet_writer *writer);

#endif

/* Arrow IPC, read only: rows as JSON objects. Both forms: the stream (.arrow, as datasets.save_to_disk and its cache
 * write it) and the file (.arrow, .feather of version 2).
 *
 * Read: null, bool, integers, floats, text and binary (plain, large and views), fixed binary, decimals, dates, times,
 * timestamps, durations, lists (plain, large, fixed, views), structs, maps and dictionaries of these, in any nesting;
 * bodies that are not compressed or with LZ4 or ZSTD; metadata of version 4 and 5. Unions, intervals and run-end encoded
 * columns, and files of big-endian machines, are refused by name, and so is a stream without its end mark: it was cut
 * short.
 *
 * What a value becomes in JSON is as in parquet.h. An arrow.json column is what its text says, an arrow.uuid text; any
 * other extension is what it is stored as; a duration is its number.
 *
 * Memory: beside the map of the file 16 bytes for each record batch, and the dictionaries. A batch that is not
 * compressed is read where it lies. Of compressed ones, ARROW_CACHE_BYTES stay unpacked, or one where that is larger, so
 * that ascending rows unpack each once and a row at random costs a batch. A file is used by one thread at a time. */
#ifndef COHORT_FORMAT_ARROW_H
#define COHORT_FORMAT_ARROW_H

#include "base/memory.h"

#include <jansson.h>

enum {
    ARROW_MAX_DEPTH = 64,            /* of columns within columns */
    ARROW_MAX_FIELDS = 1 << 20,      /* all of them */
    ARROW_MAX_NAMES = 1 << 26,       /* bytes of all names */
    ARROW_MAX_BATCH_BYTES = 1 << 30, /* that a record batch, or all dictionaries together, unpack to */
    ARROW_CACHE_BYTES = 1 << 26,
    ARROW_MAX_ROW_VALUES = 1 << 24,
    ARROW_MAX_ROW_BYTES = 1 << 28 /* of text in a row */
};

struct arrow_file;

/* Maps the file; passes over the heads of all record batches, so that their places and numbers of rows are known. */
cohort_status arrow_open(struct arrow_file **out, const char *path, cohort_error *err);
/* Accepts NULL. */
void arrow_close(struct arrow_file *file);
int64_t arrow_n_rows(const struct arrow_file *file);

/* Columns: name and type in words, as in parquet.h. */
int32_t arrow_n_columns(const struct arrow_file *file);
const char *arrow_column_name(const struct arrow_file *file, int32_t column);
const char *arrow_column_type(const struct arrow_file *file, int32_t column);

/* The name of a column of which a value was bytes that are not UTF-8, and became null; each column once. NULL: there is
 * none that was not named. */
const char *arrow_lost(struct arrow_file *file);

/* *out = a row as a JSON object (new reference), keys in the order of the schema. Any row in any order. Errors name the
 * file, the column, and the row, counted from 1. */
cohort_status arrow_row(struct arrow_file *file, int64_t row, json_t **out, cohort_error *err);

#endif

/* Parquet files, read only: rows as JSON objects.
 *
 * Read: flat, list, map and struct columns in any nesting (three-level lists, the two-level ones of older writers,
 * bare repeated fields); pages of version 1 and 2; the encodings PLAIN, PLAIN_DICTIONARY, RLE_DICTIONARY, RLE,
 * BIT_PACKED (levels), DELTA_BINARY_PACKED, DELTA_LENGTH_BYTE_ARRAY, DELTA_BYTE_ARRAY and BYTE_STREAM_SPLIT; the codecs
 * UNCOMPRESSED, SNAPPY, GZIP and ZSTD. A column of another codec (LZ4, LZ4_RAW, BROTLI, LZO), an encrypted file and a
 * column in another file are refused by name. A page's CRC is checked if it has one.
 *
 * What a value becomes in JSON:
 *   boolean, integers          themselves; an unsigned one beyond int64 becomes the double next to it
 *   float16, float, double     a number; NaN becomes null, an infinity the text "Infinity" or "-Infinity"
 *   string, enum               text, which must be UTF-8
 *   json                       what its text says: datasets marks columns so that held objects of different keys
 *   binary, bson               text if the bytes are UTF-8 (older writers do not mark text), else null: JSON has no bytes
 *   uuid                       text, "00112233-4455-6677-8899-aabbccddeeff"
 *   decimal                    text with all its digits, "-12.50"
 *   date, time, timestamp      text of ISO 8601, "2024-02-29", "23:59:59.250", "2024-02-29T23:59:59.250"; an instant (a
 *                              timestamp adjusted to UTC) ends with "Z". Beyond the years 0000 to 9999: the stored number
 *   struct                     an object with all its fields
 *   list                       an array
 *   map                        an object if its keys are text (the last of equal keys counts), else an array of
 *                              [key, value]
 *   null, whatever the type    null
 * These are the values that pyarrow shows, save for binary, decimal, the times (there objects of Python), and maps
 * (there lists of pairs). A duration, which Parquet has no name for, is its number.
 *
 * Memory: beside the map of the file, its footer's content (at most PARQUET_MAX_FOOTER bytes in the file), 16 bytes for
 * each page that was met, one decoded page with its dictionary for every column that is read, and
 * PARQUET_CACHE_BYTES of further decoded pages, so that ascending rows decode each page once and a row at random costs
 * one page in each column. (Version 1 pages of lists do not say how many rows they hold: their first row costs the decoding
 * of the column's chunk once.) A file is used by one thread at a time. */
#ifndef COHORT_FORMAT_PARQUET_H
#define COHORT_FORMAT_PARQUET_H

#include "base/memory.h"

#include <jansson.h>

enum {
    PARQUET_MAX_FOOTER = 1 << 28,
    PARQUET_MAX_DEPTH = 64,           /* of the schema */
    PARQUET_MAX_ELEMENTS = 1 << 20,   /* of the schema, groups and columns */
    PARQUET_MAX_PAGE_BYTES = 1 << 30, /* of a page, unpacked, and of the values made from it */
    PARQUET_MAX_PAGE_VALUES = 1 << 26,
    PARQUET_CACHE_BYTES = 1 << 26,
    PARQUET_MAX_ROW_VALUES = 1 << 24,
    PARQUET_MAX_ROW_BYTES = 1 << 28 /* of text in a row */
};

struct parquet_file;

/* Maps the file; checks magic, footer, schema and every column chunk's place before anything is decoded. */
cohort_status parquet_open(struct parquet_file **out, const char *path, cohort_error *err);
/* Accepts NULL. */
void parquet_close(struct parquet_file *file);
int64_t parquet_n_rows(const struct parquet_file *file);

/* Top-level columns: name and type in words ("string", "int64", "list<struct<role: string, content: string>>"). */
int32_t parquet_n_columns(const struct parquet_file *file);
const char *parquet_column_name(const struct parquet_file *file, int32_t column);
const char *parquet_column_type(const struct parquet_file *file, int32_t column);
/* From now on rows have the columns that were asked for last; the others are not decoded. All are read at first. */
void parquet_column_read(struct parquet_file *file, int32_t column, bool read);

/* The name of a column of which a value was bytes that are not UTF-8, and became null; each column once. NULL: there is
 * none that was not named. */
const char *parquet_lost(struct parquet_file *file);

/* *out = a row as a JSON object (new reference), keys in the order of the schema. Any row in any order. Errors name the
 * file, the column, and the row (counted from 1) or the page's place in the file. */
cohort_status parquet_row(struct parquet_file *file, int64_t row, json_t **out, cohort_error *err);

#endif

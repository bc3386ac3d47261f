/* One file of a data set, whatever its format: rows as JSON objects, reached by their index. */
#ifndef COHORT_RUN_DATA_FILE_H
#define COHORT_RUN_DATA_FILE_H

#include "run/data_bytes.h"
#include "run/data_index.h"

#include <jansson.h>

enum { DATA_ROW_BYTES = 64 << 20 }; /* of a row, as text */

struct data_file;

/* What differs between formats. */
struct data_format {
    const char *name;    /* "JSON lines" */
    const char *endings; /* of names that say it, each between blanks: " .jsonl .ndjson " */
    bool lines;          /* a row's place is a line, otherwise its number */
    /* Passes over file->bytes, fills n_rows and what row needs. What is found wrong is an error with its place. */
    cohort_status (*open)(struct data_file *file, cohort_error *err);
    /* *out = a row as a JSON object, a new reference. */
    cohort_status (*row)(struct data_file *file, size_t row, json_t **out, cohort_error *err);
    /* Name and type of column i; false behind the last. NULL: rows have to say. */
    bool (*column)(const struct data_file *file, size_t i, const char **name, const char **type);
    /* Behind row: a column of which the row lost bytes that JSON cannot hold; each once. NULL within: none. NULL: never. */
    const char *(*lost)(struct data_file *file);
    void (*rest)(struct data_file *file);  /* gives back what of state the next row can make again; NULL: nothing */
    void (*close)(struct data_file *file); /* of state; NULL: nothing to do */
};

struct data_file {
    const struct data_format *format;
    struct data_bytes bytes;
    struct data_index index; /* of text */
    struct text buffer;      /* the row that was read last */
    void *state;             /* of the format */
    size_t mark;             /* bytes of the byte order mark that text begins with: 3 or 0 */
    size_t n_rows;
};

extern const struct data_format data_format_jsonl, data_format_objects, data_format_array, data_format_csv,
    data_format_tsv, data_format_parquet, data_format_arrow;

/* Finds the format by what the file holds first and by its name second, and opens it. notes gets a line where the two
 * disagree. *file is overwritten; close it also after a failure. */
cohort_status data_file_open(struct data_file *file, const char *path, struct data_room *room, struct hash *hash,
                             const struct stop *stop, struct text *notes, cohort_error *err);
void data_file_close(struct data_file *file);
/* Gives back memory and descriptor until the next row is read. */
void data_file_rest(struct data_file *file);

/* The format that a file's name says, packed or not; NULL: it is no data file's. */
const struct data_format *data_file_named(const char *name);

/* "path:12" or "path:row 12", by which messages about a row begin. */
enum { DATA_PLACE = 512 };
void data_file_place(const struct data_file *file, size_t row, char place[DATA_PLACE]);

/* file->buffer = the bytes of a row by file->index, at most DATA_ROW_BYTES and a little. */
cohort_status data_file_text(struct data_file *file, size_t row, cohort_error *err);

#endif

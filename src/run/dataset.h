/* Data sets: rows of one file or of several, reached by their index, with the columns that commands read.
 *
 * Nothing of the rows' content is kept: a text file costs 8 bytes a row (data_index.h), a Parquet file nothing, and a
 * row is read, parsed and renamed each time it is asked for. */
#ifndef COHORT_RUN_DATASET_H
#define COHORT_RUN_DATASET_H

#include "run/data_columns.h"
#include "run/data_file.h"

struct dataset_request {
    const char *spec;           /* as data_paths.h describes it */
    size_t limit;               /* rows taken at most, of weighted files from each; 0: all */
    const char *const *columns; /* "prompt=question", as data_columns.h describes them */
    size_t n_columns;
    bool recognise; /* the forms of data_columns.h become canonical columns */
    const struct stop *stop;
};

/* Rows that are drawn from together: all of them, or a file (or folder) with its weight. */
struct dataset_part {
    size_t first, n_rows;
    double weight; /* 0: no weights are given, and there is one part */
};

struct dataset_file {
    struct data_file data;
    struct data_form form;
    size_t first;  /* of its rows in the set */
    size_t n_rows; /* that are taken */
};

enum { DATASET_AWAKE = 8 };

struct dataset {
    char *path; /* the spec, or "standard input": for messages */
    size_t n_rows;
    char sha256[HASH_HEX]; /* of the files' bytes as they are stored, in order; then of the weights, if there are any */
    struct dataset_file *files;
    size_t n_files, file_capacity;
    size_t awake[DATASET_AWAKE]; /* files that hold memory or a descriptor, the one that was read last first */
    size_t n_awake;
    struct dataset_part *parts;
    size_t n_parts, part_capacity;
    struct data_columns columns;
    struct text notes; /* lines that a person should be told once */
    json_t *lost;      /* an object of the columns that a note named as lossy; NULL: none */
    /* Tells a person a line that only a row showed; NULL: nobody asks. */
    void (*tell)(void *context, const char *line);
    void *tell_context;
    json_t **given; /* [n_rows] by dataset_add, owned; a set has files or these */
    size_t given_capacity;
};

/* Reads every file once, for its hash and the places of its rows, and the first row of each, by which columns are
 * found. Blank lines are skipped; a row that is no JSON object, repeated keys, invalid UTF-8, rows over 64 MB and a set
 * without rows are errors with their place, of single rows when they are read. A UTF-8 byte order mark at the start of
 * a file and CRLF are accepted, and numbers that do not fit become what json_text_parse says, NaN null. On failure
 * dataset is empty. */
cohort_status dataset_open(struct dataset *dataset, const struct dataset_request *request, cohort_error *err);
/* A row as the caller has it, in JSON text; messages call it "rows:1" and so on. */
cohort_status dataset_add(struct dataset *dataset, const char *row, size_t length, cohort_error *err);
void dataset_free(struct dataset *dataset);

/* *row = a new reference to the row, which nobody changes. */
cohort_status dataset_row(struct dataset *dataset, size_t i, json_t **row, cohort_error *err);
/* What messages about a row begin with. */
void dataset_place(const struct dataset *dataset, size_t i, char place[DATA_PLACE]);

#endif

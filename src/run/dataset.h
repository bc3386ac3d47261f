/* JSONL data sets: one JSON object a line. Rows keep their line number for messages, and every column for the
 * rewards. */
#ifndef COHORT_RUN_DATASET_H
#define COHORT_RUN_DATASET_H

#include "base/hash.h"

#include <jansson.h>

struct dataset_row {
    json_t *json; /* object, owned by the data set */
    int64_t line; /* from 1 */
};

struct dataset {
    char *path;
    struct dataset_row *rows;
    size_t n_rows, capacity;
    char sha256[HASH_HEX]; /* of the bytes as they were read */
};

/* "-" reads standard input. Blank lines are skipped; a line that is not a JSON object, duplicate keys, invalid UTF-8 or
 * an empty file is an error with path:line:column; so are NUL bytes and lines over 64 MB. A UTF-8 byte order mark at
 * the start and CRLF are accepted, and numbers that do not fit become what json_text_parse says, NaN null. On failure
 * dataset is empty. */
cohort_status dataset_load(struct dataset *dataset, const char *path, cohort_error *err);
/* Adds a row from its JSON text; messages begin with dataset->path and number, its line. */
cohort_status dataset_add(struct dataset *dataset, const char *row, size_t length, int64_t number, cohort_error *err);
void dataset_free(struct dataset *dataset);

/* Row index for draw i (i counts rows over all epochs) of a shuffled walk: a permutation per epoch that is a function
 * of (seed, epoch) (Fisher-Yates on Philox), so that resume needs only i. Without shuffle: i modulo n. The permutation
 * of the last epoch asked for is kept: seed, n and shuffle may not change between calls. */
struct dataset_order {
    size_t n;
    uint64_t seed;
    bool shuffle;
    uint64_t cached_epoch; /* of permutation */
    uint32_t *permutation; /* owned; NULL until first used */
};
cohort_status dataset_order_at(struct dataset_order *order, uint64_t i, size_t *row, cohort_error *err);
void dataset_order_free(struct dataset_order *order);

#endif

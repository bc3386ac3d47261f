/* Where the rows of a text file begin, and in which line: 8 bytes a row, and 16 for each place where a row is not in
 * the line behind the row before it. */
#ifndef COHORT_RUN_DATA_INDEX_H
#define COHORT_RUN_DATA_INDEX_H

#include "base/memory.h"

#include <stdint.h>

struct data_index {
    uint64_t **blocks; /* of places in bytes; grown by whole blocks, so that nothing is copied */
    struct data_shift {
        size_t row;
        int64_t by; /* line - row, from this row on */
    } * shifts;
    size_t n_rows, n_blocks, block_capacity, n_shifts, shift_capacity;
    uint64_t end; /* behind the last row */
};

/* line from 1; lines do not fall. */
cohort_status data_index_add(struct data_index *index, uint64_t at, int64_t line, cohort_error *err);
uint64_t data_index_at(const struct data_index *index, size_t row); /* of n_rows: the end */
int64_t data_index_line(const struct data_index *index, size_t row);
void data_index_free(struct data_index *index);

#endif

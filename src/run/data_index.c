#include "run/data_index.h"

#include <string.h>

enum { BLOCK = 1 << 15 };

cohort_status data_index_add(struct data_index *index, uint64_t at, int64_t line, cohort_error *err)
{
    const size_t row = index->n_rows;
    const int64_t by = line - (int64_t)row;
    if (row / BLOCK == index->n_blocks) {
        TRY(mem_grow(&index->blocks, &index->block_capacity, index->n_blocks + 1, sizeof *index->blocks,
                     "places of rows", err));
        TRY(mem_alloc(&index->blocks[index->n_blocks], BLOCK, sizeof **index->blocks, "places of rows", err));
        index->n_blocks++;
    }
    if (by != (index->n_shifts == 0 ? 1 : index->shifts[index->n_shifts - 1].by)) {
        TRY(mem_grow(&index->shifts, &index->shift_capacity, index->n_shifts + 1, sizeof *index->shifts,
                     "lines of rows", err));
        index->shifts[index->n_shifts++] = (struct data_shift){.row = row, .by = by};
    }
    index->blocks[row / BLOCK][row % BLOCK] = at;
    index->n_rows++;
    return COHORT_OK;
}

uint64_t data_index_at(const struct data_index *index, size_t row)
{
    return row == index->n_rows ? index->end : index->blocks[row / BLOCK][row % BLOCK];
}

int64_t data_index_line(const struct data_index *index, size_t row)
{
    size_t low = 0, high = index->n_shifts; /* shifts before low begin at row or before it, those from high on behind */
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (index->shifts[middle].row <= row)
            low = middle + 1;
        else
            high = middle;
    }
    return (int64_t)row + (low == 0 ? 1 : index->shifts[low - 1].by);
}

void data_index_free(struct data_index *index)
{
    for (size_t i = 0; i < index->n_blocks; i++)
        mem_free(index->blocks[i]);
    mem_free(index->blocks);
    mem_free(index->shifts);
    memset(index, 0, sizeof *index);
}

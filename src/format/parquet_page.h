/* One page of a Parquet file. Only src/format/parquet*.c includes this. */
#ifndef COHORT_FORMAT_PARQUET_PAGE_H
#define COHORT_FORMAT_PARQUET_PAGE_H

#include "format/parquet_internal.h"

/* By number, as in the format. */
enum page_type { PAGE_DATA, PAGE_INDEX, PAGE_DICTIONARY, PAGE_DATA_V2 };

struct page_head {
    uint64_t at, end; /* the head's place in the file, and the place behind the page */
    const uint8_t *bytes;
    int32_t type, packed, unpacked, n_values, encoding;
    uint32_t crc;
    bool has_crc;
    int32_t definition_encoding, repetition_encoding;   /* of version 1 */
    int32_t n_rows, definition_bytes, repetition_bytes; /* of version 2 */
    bool is_packed;                                     /* of version 2 */
};

/* Reads the head at a place of the file; the page must end at end or before. */
cohort_status page_head_read(const struct parquet_file *file, int32_t leaf, uint64_t at, uint64_t end,
                             struct page_head *head, cohort_error *err);
/* Whether its values are indices into the chunk's dictionary. */
bool page_has_indices(const struct page_head *head);
/* Decodes a page into the slot's buffers. dictionary may be NULL. */
cohort_status page_decode(struct parquet_file *file, int32_t leaf, int32_t codec, const struct page_head *head,
                          const struct parquet_slot *dictionary, struct parquet_slot *slot, cohort_error *err);
/* The refusal of a page, naming file, column and the page's place. */
cohort_status page_error(const struct parquet_file *file, int32_t leaf, uint64_t at, const char *why,
                         cohort_error *err);

/* Makes a slot's buffer hold at least bytes; its content is lost. */
cohort_status slot_need(struct parquet_file *file, struct parquet_slot *slot, struct parquet_buffer *buffer,
                        size_t bytes, cohort_error *err);

#endif

/* Parquet's encodings of levels and values, each into memory of the caller. Every function takes the bytes it may read
 * and returns NULL, or what is wrong with them in words. */
#ifndef COHORT_FORMAT_PARQUET_ENCODING_H
#define COHORT_FORMAT_PARQUET_ENCODING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct byte_range {
    const uint8_t *at, *end;
};
/* Where the bytes of a value lie. */
struct byte_span {
    uint32_t offset, length;
};

/* A hybrid of runs and bit-packed groups: count numbers of width bits (levels: up to 8, indices: up to 32). */
const char *rle_levels(struct byte_range in, unsigned width, size_t count, uint8_t *out);
const char *rle_indices(struct byte_range in, unsigned width, size_t count, uint32_t *out);
/* BIT_PACKED, the old encoding of levels: from the highest bit on. *in moves behind them. */
const char *packed_levels(struct byte_range *in, unsigned width, size_t count, uint8_t *out);
/* Booleans, a byte each. */
const char *plain_booleans(struct byte_range in, size_t count, uint8_t *out);
/* PLAIN byte arrays: a length of 4 bytes before each. Offsets count from in.at. */
const char *plain_spans(struct byte_range in, size_t count, struct byte_span *out);
/* DELTA_BINARY_PACKED: exactly count numbers of width 4 or 8 bytes. *in moves behind them. */
const char *delta_integers(struct byte_range *in, size_t width, size_t count, void *out);
/* DELTA_LENGTH_BYTE_ARRAY. Offsets count from in.at. */
const char *delta_spans(struct byte_range in, size_t count, struct byte_span *out);
/* DELTA_BYTE_ARRAY in two steps: spans and prefixes (how much of the value before each begins with) of count values,
 * and how many bytes they are together; then the values one behind the other, whose spans are then theirs in out. */
const char *delta_prefixes(struct byte_range in, size_t count, uint32_t *prefixes, struct byte_span *spans,
                           size_t *bytes);
void delta_join(const uint8_t *suffixes, size_t count, const uint32_t *prefixes, struct byte_span *spans, uint8_t *out);
/* BYTE_STREAM_SPLIT: count values of width bytes. */
const char *split_streams(struct byte_range in, size_t width, size_t count, uint8_t *out);

#endif

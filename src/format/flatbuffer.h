/* Flatbuffers, read only, from bytes that nobody vouches for: every place is checked before it is read. A mistake sets
 * wrong and stays: from then on all that is read is 0, absent or empty, so that a caller may look once, at the end.
 * (flatbuffers.dev, the page on internals) */
#ifndef COHORT_FORMAT_FLATBUFFER_H
#define COHORT_FORMAT_FLATBUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct flatbuffer {
    const uint8_t *bytes;
    size_t size;
    const char *wrong; /* NULL: nothing so far */
};

/* A table; at 0: there is none, and all its fields are absent. */
struct flat_table {
    uint32_t at, fields; /* fields: of its vtable */
    uint16_t n_fields, size;
};

/* Structs or offsets one behind the other. */
struct flat_vector {
    uint32_t at, count;
};

struct flat_table flat_root(struct flatbuffer *in);
/* Field number slot of a table; absent is what the table does not hold. Numbers are little-endian of width bytes, with
 * their sign. */
int64_t flat_number(struct flatbuffer *in, const struct flat_table *table, unsigned slot, unsigned width,
                    int64_t absent);
struct flat_table flat_within(struct flatbuffer *in, const struct flat_table *table, unsigned slot);
/* Items of width bytes each; of tables and strings the 4 of their offsets. */
struct flat_vector flat_items(struct flatbuffer *in, const struct flat_table *table, unsigned slot, unsigned width);
/* NULL: absent. */
const char *flat_text(struct flatbuffer *in, const struct flat_table *table, unsigned slot, size_t *length);

struct flat_table flat_item_table(struct flatbuffer *in, struct flat_vector vector, uint32_t i);
/* The number of 8 bytes at byte from of struct i, each of width bytes. */
int64_t flat_item_number(const struct flatbuffer *in, struct flat_vector vector, uint32_t i, unsigned width,
                         unsigned from);

#endif

/* Host memory for bookkeeping (names, tables, small buffers). Tensor memory belongs to a backend. */
#ifndef COHORT_BASE_MEMORY_H
#define COHORT_BASE_MEMORY_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* *out = zeroed count*size bytes, 64-byte aligned; free with mem_free. count*size is checked for overflow; a zero
 * product gives a valid one-byte block. On failure *out is NULL and err names what was wanted. */
cohort_status mem_alloc(void *out, size_t count, size_t size, const char *what, cohort_error *err);

/* Grows *array (of elements of size bytes, mem_alloc'ed or NULL) to hold at least wanted elements, doubling; keeps
 * content, zeroes the new part. *capacity is updated only after success. */
cohort_status mem_grow(void *array, size_t *capacity, size_t wanted, size_t size, const char *what, cohort_error *err);

/* *out = a copy of length bytes of text plus a terminating NUL. */
cohort_status mem_strdup(char **out, const char *text, size_t length, cohort_error *err);

/* Accepts NULL. */
void mem_free(void *block);

/* Bytes of the machine's memory that could be allocated now. */
size_t mem_available(void);

/* Bytes of its own memory that this process has written to. 0: the system does not say. */
size_t mem_written(void);

/* A growing byte string. Zero-initialise; data is NUL-terminated once anything was appended. */
struct text {
    char *data;
    size_t length;
    size_t capacity;
};
cohort_status text_append(struct text *text, const char *bytes, size_t length, cohort_error *err);
cohort_status text_printf(struct text *text, cohort_error *err, const char *format, ...) PRINTF_LIKE(3, 4);
/* Appends what a terminal may be given: controls (but newline and tab), marks that turn the direction of writing, and bytes
 * that are not UTF-8 as \x1b. */
cohort_status text_append_shown(struct text *text, const char *bytes, size_t length, cohort_error *err);
/* Appends a number as protocol buffers and Thrift have it: seven bits a byte, the lowest first. */
cohort_status text_append_varint(struct text *text, uint64_t value, cohort_error *err);
void text_free(struct text *text);
/* Whether a string ends with another. */
bool text_ends(const char *string, const char *end);

#endif

/* UTF-8: whether bytes are text, and its characters. */
#ifndef COHORT_BASE_UTF8_H
#define COHORT_BASE_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Offset of the first byte that is not part of valid UTF-8, or length. */
size_t utf8_check(const char *text, size_t length);
/* Decodes the character at text, which is valid UTF-8. Returns its length. */
size_t utf8_decode(const char *text, uint32_t *code_point);
/* Puts code_point's UTF-8 into to (4 bytes), returns its length. */
size_t utf8_encode(uint32_t code_point, char *to);

#endif

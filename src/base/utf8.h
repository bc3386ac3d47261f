/* UTF-8: whether bytes are text. */
#ifndef COHORT_BASE_UTF8_H
#define COHORT_BASE_UTF8_H

#include <stddef.h>

/* Offset of the first byte that is not part of valid UTF-8, or length. */
size_t utf8_check(const char *text, size_t length);

#endif

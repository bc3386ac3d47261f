/* Numbers as text, the same whatever locale the host program has set: a decimal point, no grouping. Every number of a
 * file or an option is read and written through here (tests/house/test_layout.sh looks). The locale is changed for the
 * calling thread only, while a function here runs, and put back before it returns. */
#ifndef COHORT_BASE_NUMBER_H
#define COHORT_BASE_NUMBER_H

#include "base/error.h"

#include <locale.h>
#include <stddef.h>

/* The whole of text must be [+-] digits [. digits] [e [+-] digits], with a digit before or behind the point: no
 * blanks, no hexadecimal, inf or nan. Returns false also for what no double can hold: 1e999, and 1e-999, which would
 * be zero. */
bool number_read(const char *text, size_t length, double *number);
/* The whole of text must be [+-] digits, and fit. */
bool number_read_integer(const char *text, size_t length, int64_t *integer);

/* The shortest decimal form that reads back to the same float or double, NUL-terminated: "0.1", "100", "1e-06". Not for
 * NaN and infinities. */
enum { NUMBER_BYTES = 40 };
void number_write_float(float number, char out[NUMBER_BYTES]);
void number_write_double(double number, char out[NUMBER_BYTES]);

/* snprintf and vsnprintf. */
int number_format(char *out, size_t size, const char *format, ...) PRINTF_LIKE(3, 4);
int number_vformat(char *out, size_t size, const char *format, va_list args) PRINTF_LIKE(3, 0);

/* For another library that reads or writes numbers itself: this thread is under the C locale from begin to end. Nothing
 * of the host program may run between the two. */
struct number_scope {
    locale_t c, before;
};
struct number_scope number_scope_begin(void);
void number_scope_end(struct number_scope scope);

/* Letters of ASCII without regard to case, in every locale (Turkish has another lower-case I). */
bool ascii_same(const char *a, const char *b);
bool ascii_same_bytes(const char *a, const char *b, size_t length);

#endif

#include "base/number.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct number_scope number_scope_begin(void)
{
    /* The C library's is static: nothing is allocated, so this does not fail. */
    struct number_scope scope = {.c = newlocale(LC_ALL_MASK, "C", (locale_t)0)};
    if (scope.c != (locale_t)0)
        scope.before = uselocale(scope.c);
    return scope;
}

void number_scope_end(struct number_scope scope)
{
    if (scope.c == (locale_t)0)
        return;
    int saved = errno;
    uselocale(scope.before);
    freelocale(scope.c);
    errno = saved;
}

static size_t digits(const char *text, size_t length, size_t at)
{
    size_t n = 0;
    while (at + n < length && text[at + n] >= '0' && text[at + n] <= '9')
        n++;
    return n;
}

static bool number_shape(const char *text, size_t length, bool *has_nonzero)
{
    size_t at = 0;
    if (at < length && (text[at] == '+' || text[at] == '-'))
        at++;
    size_t mantissa_start = at;
    size_t n = digits(text, length, at);
    at += n;
    if (at < length && text[at] == '.') {
        at++;
        size_t fraction = digits(text, length, at);
        n += fraction;
        at += fraction;
    }
    if (n == 0)
        return false;
    *has_nonzero = false;
    for (size_t i = mantissa_start; i < at; i++)
        if (text[i] >= '1' && text[i] <= '9')
            *has_nonzero = true;
    if (at < length && (text[at] == 'e' || text[at] == 'E')) {
        at++;
        if (at < length && (text[at] == '+' || text[at] == '-'))
            at++;
        n = digits(text, length, at);
        if (n == 0)
            return false;
        at += n;
    }
    return at == length;
}

bool number_read(const char *text, size_t length, double *number)
{
    bool nonzero = false;
    char copy[256]; /* longer is no number anybody writes */
    if (length >= sizeof copy || !number_shape(text, length, &nonzero))
        return false;
    memcpy(copy, text, length);
    copy[length] = '\0';
    struct number_scope scope = number_scope_begin();
    double value = strtod(copy, NULL);
    number_scope_end(scope);
    /* 1e999 is infinite and 1e-999 is zero: neither is what was written. */
    if (!isfinite(value) || (nonzero && value == 0.0))
        return false;
    *number = value;
    return true;
}

bool number_read_integer(const char *text, size_t length, int64_t *integer)
{
    size_t at = length > 0 && (text[0] == '+' || text[0] == '-') ? 1 : 0;
    bool negative = at == 1 && text[0] == '-';
    int64_t value = 0;
    if (length == at || digits(text, length, at) != length - at)
        return false;
    for (; at < length; at++) {
        int digit = text[at] - '0';
        if (__builtin_mul_overflow(value, (int64_t)10, &value) ||
            __builtin_add_overflow(value, (int64_t)(negative ? -digit : digit), &value))
            return false;
    }
    *integer = value;
    return true;
}

void number_write_float(float number, char out[NUMBER_BYTES])
{
    struct number_scope scope = number_scope_begin();
    for (int precision = 1; precision <= 9; precision++) {
        snprintf(out, NUMBER_BYTES, "%.*g", precision, (double)number);
        if (strtof(out, NULL) == number)
            break;
    }
    number_scope_end(scope);
}

void number_write_double(double number, char out[NUMBER_BYTES])
{
    /* 100 rather than 1e+02: an exponent only where there would be many zeros. */
    const bool many = fabs(number) < 1e-4 || fabs(number) >= 1e16;
    struct number_scope scope = number_scope_begin();
    for (int precision = 1; precision <= 17; precision++) {
        snprintf(out, NUMBER_BYTES, "%.*g", precision, number);
        if (strtod(out, NULL) == number && (many || strchr(out, 'e') == NULL))
            break;
    }
    number_scope_end(scope);
}

int number_vformat(char *out, size_t size, const char *format, va_list args)
{
    struct number_scope scope = number_scope_begin();
    int n = vsnprintf(out, size, format, args);
    number_scope_end(scope);
    return n;
}

int number_format(char *out, size_t size, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = number_vformat(out, size, format, args);
    va_end(args);
    return n;
}

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c; }

bool ascii_same_bytes(const char *a, const char *b, size_t length)
{
    size_t i = 0;
    while (i < length && lower(a[i]) == lower(b[i]))
        i++;
    return i == length;
}

bool ascii_same(const char *a, const char *b)
{
    for (; *a != '\0' && lower(*a) == lower(*b); a++, b++)
        ;
    return *a == '\0' && *b == '\0';
}

#include "run/options_internal.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t digits(const char *text, size_t length, size_t at)
{
    size_t n = 0;
    while (at + n < length && text[at + n] >= '0' && text[at + n] <= '9')
        n++;
    return n;
}

/* [+-] digits [. digits] [e [+-] digits], with a digit before or after the point: what strtod takes
 * beyond this (hex, inf, nan, blanks, a locale's comma) is no number here. */
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

bool options_scan_number(const char *text, size_t length, double *number)
{
    bool nonzero = false;
    char copy[256]; /* longer is no number anybody writes */
    if (length >= sizeof copy || !number_shape(text, length, &nonzero))
        return false;
    memcpy(copy, text, length);
    copy[length] = '\0';
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (c == (locale_t)0)
        return false;
    double value = strtod_l(copy, NULL, c);
    freelocale(c);
    /* 1e999 is infinite and 1e-999 is zero: neither is what was written. */
    if (!isfinite(value) || (nonzero && value == 0.0))
        return false;
    *number = value;
    return true;
}

bool options_scan_integer(const char *text, int64_t *integer)
{
    size_t length = strlen(text);
    size_t sign = length > 0 && (text[0] == '+' || text[0] == '-') ? 1 : 0;
    if (length == sign || digits(text, length, sign) != length - sign)
        return false;
    errno = 0;
    long long value = strtoll(text, NULL, 10);
    if (errno != 0)
        return false;
    *integer = value;
    return true;
}

cohort_status options_print_number(double number, struct text *out, cohort_error *err)
{
    char shortest[64] = "";
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (c == (locale_t)0)
        return error_set(err, COHORT_ERR_MEMORY, "cannot make the C locale");
    locale_t before = uselocale(c); /* of this thread only; put back below */
    for (int precision = 1; precision <= 17; precision++) {
        snprintf(shortest, sizeof shortest, "%.*g", precision, number);
        /* 100.0 rather than 1.0e+02: an exponent only where there would be many zeros. */
        bool many = fabs(number) < 1e-4 || fabs(number) >= 1e16;
        if (strtod(shortest, NULL) == number && (many || strchr(shortest, 'e') == NULL))
            break;
    }
    uselocale(before);
    freelocale(c);
    size_t mantissa = strcspn(shortest, "e");
    bool has_point = memchr(shortest, '.', mantissa) != NULL;
    return text_printf(out, err, "%.*s%s%s", (int)mantissa, shortest, has_point ? "" : ".0",
                       shortest + mantissa);
}

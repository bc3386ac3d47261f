/* Numbers and truth values as YAML 1.1 spells them, and numbers as we do.
 *
 * A file of options that another trainer reads must mean the same here. There a scalar first goes through PyYAML's
 * resolver (which finds integers, floats and booleans in plain text) and, where that says "a string" (so for 1e-6, and
 * for all that is quoted), through Python's int() or float(). tests/fixtures/yaml_scalars.tsv holds what comes out.
 * What YAML 1.1 and 1.2 read as different numbers is refused, with the reason: 1:30 (90 in base 60) and 010 (8 in base
 * 8). */
#include "base/number.h"
#include "run/options_internal.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* The value of c as a digit, or 99. */
static int digit_value(char c)
{
    return is_digit(c) ? c - '0' : (c >= 'a' && c <= 'f') ? c - 'a' + 10 : (c >= 'A' && c <= 'F') ? c - 'A' + 10 : 99;
}

/* Whether everything from here to the end is a digit of the base or an underscore. */
static bool all_of_base(const char *text, int base)
{
    size_t n = 0;
    for (; *text != '\0'; text++) {
        if (*text != '_' && digit_value(*text) >= base)
            return false;
        n += *text != '_';
    }
    return n > 0;
}

/* [1-9][0-9_]*(:[0-5]?[0-9])+, or of a float [0-9][0-9_]*(:[0-5]?[0-9])+\.[0-9_]*: base 60. */
static bool base_60(const char *text)
{
    size_t parts = 0;
    bool from_zero = *text == '0';
    if (!is_digit(*text))
        return false;
    text += strspn(text, "0123456789_");
    for (; *text == ':'; parts++) {
        size_t n = strspn(text + 1, "0123456789");
        if (n < 1 || n > 2 || (n == 2 && text[1] > '5'))
            return false;
        text += 1 + n;
    }
    if (*text == '.')
        return parts > 0 && text[1 + strspn(text + 1, "0123456789_")] == '\0';
    return parts > 0 && *text == '\0' && !from_zero;
}

/* [0-9][0-9_]*, or with a point [0-9_]* behind it, or \.[0-9][0-9_]*, then ([eE][-+][0-9]+)?: what the resolver takes
 * for a decimal number, wherever its underscores stand. */
static bool resolver_decimal(const char *text, bool sign)
{
    bool point = false;
    if (is_digit(*text)) {
        text += strspn(text, "0123456789_");
        point = *text == '.';
        text += point ? 1 : 0;
    } else if (!sign && text[0] == '.' && is_digit(text[1])) {
        point = true;
        text++;
    } else {
        return false;
    }
    if (point)
        text += strspn(text, "0123456789_");
    if (point && (*text == 'e' || *text == 'E')) {
        if (text[1] != '-' && text[1] != '+')
            return false;
        text += 2;
        if (!is_digit(*text))
            return false;
        text += strspn(text, "0123456789");
    }
    return *text == '\0';
}

/* The rule of int() and float(): an underscore must be between two digits. */
static bool python_underscores(const char *text)
{
    for (size_t i = 0; text[i] != '\0'; i++)
        if (text[i] == '_' && (i == 0 || !is_digit(text[i - 1]) || !is_digit(text[i + 1])))
            return false;
    return true;
}

/* Rewrites sign and digits of another base as decimal. */
static bool write_based(const char *digits, int base, bool negative, char out[OPTIONS_NUMBER_BYTES])
{
    int64_t value = 0;
    for (; *digits != '\0'; digits++)
        if (*digits != '_' && (__builtin_mul_overflow(value, (int64_t)base, &value) ||
                               __builtin_add_overflow(value, (int64_t)digit_value(*digits), &value)))
            return false;
    snprintf(out, OPTIONS_NUMBER_BYTES, "%s%lld", negative ? "-" : "", (long long)value);
    return true;
}

const char *options_yaml_number(const char *text, bool quoted, char out[OPTIONS_NUMBER_BYTES])
{
    static const char blanks[] = " \t\n\r\f\v";
    size_t length = strlen(text);
    if (quoted) { /* a string to Python, whose int() and float() strip it */
        text += strspn(text, blanks);
        length = strlen(text);
        while (length > 0 && strchr(blanks, text[length - 1]) != NULL)
            length--;
    }
    assert(length < OPTIONS_NUMBER_BYTES);
    memcpy(out, text, length);
    out[length] = '\0';
    const bool sign = *out == '-' || *out == '+', negative = *out == '-';
    char digits[OPTIONS_NUMBER_BYTES];
    memcpy(digits, out + (sign ? 1 : 0), length + 1 - (sign ? 1 : 0));
    if (!quoted) {
        if (base_60(digits))
            return "is a number in base 60 to YAML 1.1 (1:30 is 90) and a text to others; write "
                   "it with decimal digits";
        if (strncmp(digits, "0b", 2) == 0 && all_of_base(digits + 2, 2)) {
            write_based(digits + 2, 2, negative, out);
            return NULL;
        }
        if (strncmp(digits, "0x", 2) == 0 && all_of_base(digits + 2, 16)) {
            write_based(digits + 2, 16, negative, out);
            return NULL;
        }
        if (digits[0] == '0' && digits[1] != '\0' && all_of_base(digits, 8)) {
            char octal[OPTIONS_NUMBER_BYTES], decimal[OPTIONS_NUMBER_BYTES];
            if (!write_based(digits, 8, negative, octal) || !write_based(digits, 10, negative, decimal) ||
                strcmp(octal, decimal) != 0)
                return "is octal to YAML 1.1 (010 is 8) and decimal to others; write it without "
                       "the zero in front";
            memcpy(out, octal, sizeof octal);
            return NULL;
        }
    }
    if ((!quoted && resolver_decimal(digits, sign)) || python_underscores(out)) {
        size_t n = 0;
        for (size_t i = 0; i < length; i++)
            if (out[i] != '_')
                out[n++] = out[i];
        out[n] = '\0';
    }
    return NULL;
}

bool options_read_bool(const char *text, bool *out)
{
    /* Words of YAML 1.1 that count in three spellings (on, On, ON), and those of argparse's truth in every TRL script,
     * which count in any. */
    static const char *const any[2][5] = {{"false", "no", "f", "n", "0"}, {"true", "yes", "t", "y", "1"}};
    static const char *const three[2][3] = {{"off", "Off", "OFF"}, {"on", "On", "ON"}};
    for (int truth = 0; truth < 2; truth++) {
        for (size_t i = 0; i < sizeof any[0] / sizeof any[0][0]; i++)
            if (ascii_same(text, any[truth][i])) {
                *out = truth == 1;
                return true;
            }
        for (size_t i = 0; i < sizeof three[0] / sizeof three[0][0]; i++)
            if (strcmp(text, three[truth][i]) == 0) {
                *out = truth == 1;
                return true;
            }
    }
    return false;
}

cohort_status options_print_number(double number, struct text *out, cohort_error *err)
{
    char shortest[NUMBER_BYTES];
    number_write_double(number, shortest);
    size_t mantissa = strcspn(shortest, "e");
    bool has_point = memchr(shortest, '.', mantissa) != NULL;
    return text_printf(out, err, "%.*s%s%s", (int)mantissa, shortest, has_point ? "" : ".0", shortest + mantissa);
}

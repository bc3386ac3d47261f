/* Numbers of answers: [sign] [currency] number [unit], read exactly and compared exactly, without the host's locale. */
#include "reward/answer_internal.h"

#include <stdio.h>
#include <string.h>

static bool starts(const char *text, const char *prefix) { return strncmp(text, prefix, strlen(prefix)) == 0; }

/* ASCII alone: what the host's locale makes of letters is nothing to us. */
static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c; }

static bool same_word(const char *word, size_t length, const char *known)
{
    for (size_t i = 0; i < length; i++)
        if (lower(word[i]) != known[i])
            return false; /* its NUL too */
    return known[length] == '\0';
}

static bool add_digit(struct decimal *d, char digit)
{
    if (d->n_digits == 0 && digit == '0')
        return true;
    if (d->n_digits == MAX_DIGITS)
        return false;
    d->digits[d->n_digits++] = digit;
    d->digits[d->n_digits] = '\0';
    return true;
}

static void normalise(struct decimal *d)
{
    while (d->n_digits > 0 && d->digits[d->n_digits - 1] == '0') {
        d->digits[--d->n_digits] = '\0';
        d->exponent++;
    }
    if (d->n_digits == 0)
        d->exponent = 0;
}

/* [+-]digits, at most six of them. */
static bool scan_exponent(const char **text, long *exponent)
{
    const char *at = *text;
    bool negative = *at == '-';
    at += *at == '-' || *at == '+';
    long value = 0;
    int n = 0;
    for (; is_digit(at[n]); n++) {
        if (n == 6)
            return false;
        value = value * 10 + (at[n] - '0');
    }
    if (n == 0)
        return false;
    *exponent = negative ? -value : value;
    *text = at + n;
    return true;
}

/* digits with thousands separators, fraction, exponent. */
static bool scan_decimal(const char **text, struct decimal *d)
{
    const char *at = *text;
    int whole = 0, fraction = 0, group = 0;
    bool grouped = false;
    memset(d, 0, sizeof *d);
    for (;; at++) {
        if (is_digit(*at)) {
            if (!add_digit(d, *at) || (grouped && group == 3))
                return false;
            whole++;
            group++;
        } else if (*at == ',' && is_digit(at[1])) {
            if (whole == 0 || (grouped ? group != 3 : whole > 3))
                return false;
            grouped = true;
            group = 0;
        } else {
            break;
        }
    }
    if (grouped && group != 3)
        return false;
    if (*at == '.' && (is_digit(at[1]) || whole > 0)) {
        at++;
        for (; is_digit(*at); at++, fraction++) {
            if (!add_digit(d, *at))
                return false;
            d->exponent--;
        }
    }
    if (whole + fraction == 0)
        return false;
    if ((*at == 'e' || *at == 'E') && (is_digit(at[1]) || at[1] == '-' || at[1] == '+')) {
        long exponent = 0;
        at++;
        if (!scan_exponent(&at, &exponent))
            return false;
        d->exponent += exponent;
    }
    normalise(d);
    *text = at;
    return true;
}

/* "\times 10^{3}" after a decimal; leaves *text where it is if there is none. */
static bool scan_power(const char **text, struct decimal *d)
{
    static const char *const signs[] = {"*", "x"}; /* \times and its like are cleaned to * */
    const char *at = *text + (**text == ' ');
    bool found = false;
    for (size_t i = 0; i < sizeof signs / sizeof signs[0] && !found; i++)
        if (starts(at, signs[i])) {
            at += strlen(signs[i]);
            found = true;
        }
    at += *at == ' ';
    if (!found || !starts(at, "10^"))
        return true;
    at += 3;
    bool braced = *at == '{';
    long exponent = 0;
    at += braced;
    if (!scan_exponent(&at, &exponent) || (braced && *at++ != '}'))
        return false;
    if (d->n_digits > 0)
        d->exponent += exponent;
    *text = at;
    return true;
}

/* "{decimal}" or one digit. */
static bool scan_argument(const char **text, bool *negative, struct decimal *d)
{
    const char *at = *text;
    at += *at == ' ';
    if (is_digit(*at)) {
        memset(d, 0, sizeof *d);
        add_digit(d, *at);
        normalise(d);
        *text = at + 1;
        return true;
    }
    if (*at++ != '{')
        return false;
    at += *at == ' ';
    if (*at == '-' || *at == '+') {
        *negative ^= *at == '-';
        at++;
    }
    if (!scan_decimal(&at, d))
        return false;
    at += *at == ' ';
    *text = at + 1;
    return *at == '}';
}

/* Words that are no units: they change the value, or make a sentence of it. */
static bool changes_value(const char *word, size_t length)
{
    static const char *const words[] = {
        "thousand", "thousands", "million", "millions", "billion",   "billions",   "trillion",   "trillions",
        "hundred",  "hundreds",  "dozen",   "dozens",   "half",      "halves",     "third",      "thirds",
        "quarter",  "quarters",  "fourth",  "fourths",  "fifth",     "fifths",     "sixth",      "sixths",
        "eighth",   "eighths",   "tenth",   "tenths",   "hundredth", "hundredths", "thousandth", "thousandths",
        "pi",       "tau",       "sqrt",    "mod",      "or",        "and",        "to",         "plus",
        "minus",    "times",     "over",    "squared",  "cubed",     "factorial",  "is",         "not",
        "but",      "if",        "sin",     "cos",      "tan",       "log",        "ln",         "exp"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (same_word(word, length, words[i]))
            return true;
    return false;
}

/* "cm", "m/s", "m^2", "km²"; single letters only where they are common units, or 5 x would be 5. */
static bool unit_word(const char *word, size_t length)
{
    size_t n = 0;
    while (n < length && (is_letter(word[n]) || (word[n] == '/' && n > 0 && n + 1 < length)))
        n++;
    if (n == 0 || changes_value(word, n))
        return false;
    if (n == 1 && strchr("mgshlL", word[0]) == NULL)
        return false;
    const char *rest = word + n;
    size_t left = length - n;
    return left == 0 || (left == 2 && (memcmp(rest, "^2", 2) == 0 || memcmp(rest, "^3", 2) == 0 ||
                                       memcmp(rest, "\xc2\xb2", 2) == 0 || memcmp(rest, "\xc2\xb3", 2) == 0));
}

/* What may follow a number to its end. */
static bool scan_unit(const char *text, struct number *number)
{
    static const char *const attached[] = {"%",
                                           "\xc2\xb0",
                                           "\xc2\xb0"
                                           "C",
                                           "\xc2\xb0"
                                           "F",
                                           "mm",
                                           "cm",
                                           "km",
                                           "mg",
                                           "kg",
                                           "ml",
                                           "ms",
                                           "min"};
    bool blank = *text == ' ';
    text += blank;
    size_t length = strlen(text);
    if (length == 0)
        return true;
    if (length >= sizeof number->unit || (number->unit[0] != '\0' && !blank))
        return false;
    bool good = false;
    for (size_t i = 0; i < sizeof attached / sizeof attached[0]; i++)
        good = good || strcmp(attached[i], text) == 0;
    if (blank && !good) {
        size_t first = strcspn(text, " ");
        good = unit_word(text, first) && (text[first] == '\0' || unit_word(text + first + 1, length - first - 1));
    }
    if (good && number->unit[0] == '\0')
        memcpy(number->unit, text, length + 1);
    return good;
}

static bool scan_currency(const char **text, struct number *number)
{
    static const char *const signs[] = {"$", "\xe2\x82\xac", "\xc2\xa3"}; /* dollar, euro, pound */
    for (size_t i = 0; i < sizeof signs / sizeof signs[0]; i++)
        if (starts(*text, signs[i]) && number->unit[0] == '\0') {
            snprintf(number->unit, sizeof number->unit, "%s", signs[i]);
            *text += strlen(signs[i]);
            *text += **text == ' ';
            return true;
        }
    return false;
}

/* An integer of at most 17 digits. */
static bool small_integer(const struct decimal *d, uint64_t *value)
{
    *value = 0;
    if (d->exponent < 0 || d->n_digits + d->exponent > 17)
        return false;
    for (int i = 0; i < d->n_digits; i++)
        *value = *value * 10 + (uint64_t)(d->digits[i] - '0');
    for (long i = 0; i < d->exponent; i++)
        *value *= 10;
    return true;
}

__extension__ typedef unsigned __int128 wide;

/* 2 and 1/2 -> 5/2; false where the parts are no integers or the fraction is none below 1. */
static bool add_whole(const struct decimal *whole, struct number *number)
{
    uint64_t a = 0, b = 0, c = 0;
    char reversed[40];
    int n = 0;
    if (!small_integer(whole, &a) || !small_integer(&number->over, &b) || !small_integer(&number->under, &c) || b >= c)
        return false;
    for (wide sum = (wide)a * c + b; sum > 0; sum /= 10)
        reversed[n++] = (char)('0' + (int)(sum % 10));
    memset(&number->over, 0, sizeof number->over);
    while (n > 0)
        add_digit(&number->over, reversed[--n]);
    normalise(&number->over);
    return true;
}

static bool starts_fraction(const char *text) { return starts(text, "\\frac") && !is_letter(text[strlen("\\frac")]); }

static bool scan_fraction(const char **text, struct number *number)
{
    *text += strlen("\\frac");
    return scan_argument(text, &number->negative, &number->over) &&
           scan_argument(text, &number->negative, &number->under);
}

/* What follows an integer of a mixed number: \frac{1}{2}, or 1/2 behind a blank. *is: whether there is such a thing. */
static bool scan_mixed(const char **text, struct number *number, bool *is)
{
    struct decimal whole = number->over;
    bool negative = number->negative;
    const char *at = *text + (**text == ' ');
    *is = false;
    if (starts_fraction(at)) {
        if (!scan_fraction(&at, number) || number->negative != negative)
            return false;
    } else if (**text == ' ' && is_digit(*at)) {
        if (!scan_decimal(&at, &number->over))
            return false;
        at += *at == ' ';
        if (*at++ != '/')
            return false;
        at += *at == ' ';
        if (!scan_decimal(&at, &number->under))
            return false;
    } else {
        return true;
    }
    *is = true;
    *text = at;
    return add_whole(&whole, number);
}

bool answer_number(const char *text, struct number *number)
{
    memset(number, 0, sizeof *number);
    add_digit(&number->under, '1');
    scan_currency(&text, number);
    if (*text == '-' || *text == '+') {
        number->negative = *text++ == '-';
        text += *text == ' ';
        scan_currency(&text, number);
    }
    if (starts_fraction(text)) {
        if (!scan_fraction(&text, number))
            return false;
    } else {
        bool mixed = false;
        if (!scan_decimal(&text, &number->over) || !scan_mixed(&text, number, &mixed))
            return false;
        const char *slash = text + (*text == ' ');
        if (!mixed && *slash == '/') {
            text = slash + 1;
            text += *text == ' ';
            if (!scan_decimal(&text, &number->under))
                return false;
        } else if (!mixed && !scan_power(&text, &number->over)) {
            return false;
        }
    }
    if (number->under.n_digits == 0)
        return false; /* a division by zero is no number */
    if (number->over.n_digits == 0)
        number->negative = false;
    return scan_unit(text, number);
}

/* --- comparison --- */

static bool same_decimal(const struct decimal *a, const struct decimal *b)
{
    return a->exponent == b->exponent && strcmp(a->digits, b->digits) == 0;
}

/* a * b: digits from the lowest on, without trailing zeros of its decimal form. */
struct product {
    unsigned char digits[2 * MAX_DIGITS + 1];
    int n_digits;
    long exponent;
};

static void multiply(const struct decimal *a, const struct decimal *b, struct product *p)
{
    int n = a->n_digits + b->n_digits, low = 0;
    memset(p, 0, sizeof *p);
    for (int i = 0; i < a->n_digits; i++) {
        int carry = 0, x = a->digits[a->n_digits - 1 - i] - '0';
        for (int j = 0; j < b->n_digits; j++) {
            int sum = p->digits[i + j] + x * (b->digits[b->n_digits - 1 - j] - '0') + carry;
            p->digits[i + j] = (unsigned char)(sum % 10);
            carry = sum / 10;
        }
        p->digits[i + b->n_digits] = (unsigned char)carry;
    }
    while (n > 0 && p->digits[n - 1] == 0)
        n--;
    while (low < n && p->digits[low] == 0)
        low++;
    memmove(p->digits, p->digits + low, (size_t)(n - low));
    p->n_digits = n - low;
    p->exponent = n == 0 ? 0 : a->exponent + b->exponent + low;
}

/* a * 10^shift is b. */
static bool same_value(const struct number *a, const struct number *b, long shift)
{
    if (a->over.n_digits == 0 || b->over.n_digits == 0)
        return a->over.n_digits == b->over.n_digits;
    if (a->negative != b->negative)
        return false;
    if (same_decimal(&a->under, &b->under)) {
        struct decimal moved = a->over;
        moved.exponent += shift;
        return same_decimal(&moved, &b->over);
    }
    struct product x, y;
    multiply(&a->over, &b->under, &x);
    multiply(&b->over, &a->under, &y);
    return x.exponent + shift == y.exponent && x.n_digits == y.n_digits &&
           memcmp(x.digits, y.digits, (size_t)x.n_digits) == 0;
}

/* The unit without plural s, and symbols for the words that mean them. */
static void plain_unit(const char *unit, char out[UNIT_SIZE])
{
    static const struct {
        const char *from, *to;
    } words[] = {{"dollar", "$"},          {"usd", "$"},          {"percent", "%"},
                 {"euro", "\xe2\x82\xac"}, {"pound", "\xc2\xa3"}, {"degree", "\xc2\xb0"}};
    snprintf(out, UNIT_SIZE, "%s", unit);
    size_t n = strlen(out);
    if (n > 2 && out[n - 1] == 's')
        out[n - 1] = '\0';
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (same_word(out, strlen(out), words[i].from))
            snprintf(out, UNIT_SIZE, "%s", words[i].to);
}

static bool same_unit(const char *a, const char *b)
{
    char x[UNIT_SIZE], y[UNIT_SIZE];
    plain_unit(a, x);
    plain_unit(b, y);
    return *a == '\0' || *b == '\0' || strcmp(x, y) == 0;
}

bool answer_number_equal(const struct number *a, const struct number *b)
{
    if (!same_unit(a->unit, b->unit))
        return false;
    if (same_value(a, b, 0))
        return true;
    char x[UNIT_SIZE], y[UNIT_SIZE];
    plain_unit(a->unit, x);
    plain_unit(b->unit, y);
    /* 50% is 50 of what is counted in percent, and 0.5 of what is not. */
    if (strcmp(x, "%") == 0 && *y == '\0')
        return same_value(a, b, -2);
    return strcmp(y, "%") == 0 && *x == '\0' && same_value(b, a, -2);
}

size_t answer_without_unit(const char *text, size_t length)
{
    static const char *const marks[] = {"%", "\xc2\xb0"};
    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++) {
        size_t n = strlen(marks[i]);
        if (length > n && memcmp(text + length - n, marks[i], n) == 0)
            return length - n;
    }
    for (int words = 0; words < 2; words++) {
        size_t start = length;
        while (start > 0 && text[start - 1] != ' ' && length - start < UNIT_SIZE)
            start--;
        if (start < 2 || text[start - 1] != ' ' || length - start < 2 || !unit_word(text + start, length - start))
            break;
        length = start - 1;
    }
    return length;
}

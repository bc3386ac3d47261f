/* When two answers are the same.
 *
 * Both are cleaned: blanks around and repeated ones inside go, so do $...$, $$...$$, \(...\),
 * \[...\], **...** and `...` around the whole, a final period, \left and \right, thin spaces;
 * \text{...}, \mathrm{...} and \textbf{...} become their content; \dfrac and \tfrac are \frac; "x =
 * 5" is "5" where the left side is one name (and both answers do not name different ones).
 *
 * They are equal if the cleaned texts are (letter case counts), or if both are numbers of the same
 * value. A number is [sign] [currency] decimal [unit]          5   +5   -0.50   .5   1,234.5
 * 1e-3   1.5 \times 10^{3}   $5   5%   5 cm [sign] [currency] decimal / decimal [unit]       3/4
 *   [sign] \frac{decimal}{decimal} [unit]            \frac{3}{4}   \frac34
 * Commas are thousands separators only in groups of three ("1,234", never "1,23"). Values are
 * compared exactly (0.75 = 3/4, but 0.333 is not 1/3); only fractions of more than 18 digits are
 * compared as doubles, to 1e-9 relative. A unit (%, currency, degrees, or a word or two after a
 * blank) that only one side has is ignored; units of both sides must agree. 50% is the number 50.
 * Words that change the value ("million", "half", "or") are no units. Everything else is text:
 * sets, tuples, mixed numbers, formulas. Nothing is equal to an empty answer. */
#include "base/number.h"
#include "reward/reward_internal.h"

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- cleaning --- */

static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

static bool starts(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* A command of LaTeX and no longer one: \left but not \leftarrow. */
static bool starts_command(const char *text, const char *command)
{
    return starts(text, command) && !is_letter(text[strlen(command)]);
}

struct replacement {
    const char *from, *to;
};

/* Longest first where one begins another. */
static const struct replacement replacements[] = {
    {"^{\\circ}", "\xc2\xb0"},
    {"^\\circ", "\xc2\xb0"},
    {"{,}", ","},
    {"\\!", ""},
    {"\\$", "$"},
    {"\\%", "%"},
    {"\\ ", " "},
    {"\\;", " "},
    {"\\:", " "},
    {"~", " "},
    {"\xc2\xa0", " "},     /* no-break space */
    {"\xe2\x88\x92", "-"}, /* U+2212 minus */
    {"\xe2\x80\xaf", " "}, /* narrow no-break space */
};

static const struct replacement commands[] = {
    {"\\dfrac", "\\frac"}, {"\\tfrac", "\\frac"}, {"\\left", ""}, {"\\right", ""}};

/* Replaces what has one meaning in several spellings; blanks become one space. */
static cohort_status respell(const char *in, struct text *out, cohort_error *err)
{
    enum { DEEP = 32 };
    bool boxes[DEEP] = {false}; /* whether the brace at this depth opened a \text */
    int depth = 0;
    TRY(text_append(out, "", 0, err));
    while (*in != '\0') {
        const struct replacement *found = NULL;
        for (size_t i = 0; i < sizeof replacements / sizeof replacements[0] && found == NULL; i++)
            if (starts(in, replacements[i].from))
                found = &replacements[i];
        for (size_t i = 0; i < sizeof commands / sizeof commands[0] && found == NULL; i++)
            if (starts_command(in, commands[i].from))
                found = &commands[i];
        static const char *const boxed[] = {"\\text{", "\\mathrm{", "\\textbf{"};
        size_t box = 0;
        for (size_t i = 0; i < sizeof boxed / sizeof boxed[0]; i++)
            if (starts(in, boxed[i]))
                box = strlen(boxed[i]);
        char last = out->length > 0 ? out->data[out->length - 1] : ' ';
        if (found != NULL) {
            if (strcmp(found->to, " ") != 0 || last != ' ')
                TRY(text_append(out, found->to, strlen(found->to), err));
            in += strlen(found->from);
        } else if (starts(in, "\\,")) { /* between digits it groups them, elsewhere it is a blank */
            in += 2;
            if (!(is_digit(last) && is_digit(*in)) && last != ' ')
                TRY(text_append(out, " ", 1, err));
        } else if (box > 0 && depth + 1 < DEEP) {
            boxes[depth++] = true;
            if (last != ' ')
                TRY(text_append(out, " ", 1, err));
            in += box;
        } else if (is_space(*in)) {
            if (last != ' ')
                TRY(text_append(out, " ", 1, err));
            in++;
        } else if (*in == '}' && depth > 0 && boxes[depth - 1]) {
            boxes[--depth] = false;
            in++;
        } else {
            if (*in == '{' && depth + 1 < DEEP)
                boxes[depth++] = false;
            else if (*in == '}' && depth > 0)
                depth--;
            TRY(text_append(out, in, 1, err));
            in++;
        }
    }
    return COHORT_OK;
}

struct span {
    const char *at;
    size_t length;
};

static bool unwrap(struct span *s, const char *open, const char *close)
{
    size_t a = strlen(open), b = strlen(close);
    if (s->length <= a + b || memcmp(s->at, open, a) != 0 ||
        memcmp(s->at + s->length - b, close, b) != 0)
        return false;
    /* "$5 and $6$" is not wrapped: the mark may not come again inside. */
    for (size_t i = a; i + b <= s->length - b; i++)
        if (memcmp(s->at + i, close, b) == 0)
            return false;
    s->at += a;
    s->length -= a + b;
    return true;
}

static struct span strip(const char *text)
{
    struct span s = {text, strlen(text)};
    bool again = true;
    while (again) {
        again = false;
        while (s.length > 0 && is_space(s.at[0])) {
            s.at++;
            s.length--;
        }
        while (s.length > 0 && is_space(s.at[s.length - 1]))
            s.length--;
        if (s.length > 1 && s.at[s.length - 1] == '.' && s.at[s.length - 2] != '.') {
            s.length--;
            again = true;
        }
        again = again || unwrap(&s, "$$", "$$") || unwrap(&s, "$", "$") ||
                unwrap(&s, "\\(", "\\)") || unwrap(&s, "\\[", "\\]") || unwrap(&s, "**", "**") ||
                unwrap(&s, "`", "`");
    }
    return s;
}

/* *out: the cleaned text. */
static cohort_status clean(const char *in, struct text *out, cohort_error *err)
{
    struct text unwrapped = {0}, respelled = {0};
    cohort_status status = COHORT_OK;
    struct span s = strip(in);
    TRY_GOTO(text_append(&unwrapped, s.at, s.length, err));
    TRY_GOTO(respell(unwrapped.data, &respelled, err));
    s = strip(respelled.data);
    TRY_GOTO(text_append(out, s.at, s.length, err));
cleanup:
    text_free(&unwrapped);
    text_free(&respelled);
    return status;
}

/* Length of the name before "=" in "x = 5", or 0; *right: what follows. */
static size_t left_side(const char *text, const char **right)
{
    size_t n = 0;
    *right = text;
    if (!is_letter(text[0]))
        return 0;
    while (is_letter(text[n]) || is_digit(text[n]) || text[n] == '_')
        n++;
    const char *at = text + n;
    at += *at == ' ';
    if (*at != '=' || strchr(at + 1, '=') != NULL)
        return 0;
    at++;
    at += *at == ' ';
    if (*at == '\0')
        return 0;
    *right = at;
    return n;
}

/* --- numbers --- */

enum { MAX_DIGITS = 256, EXACT_DIGITS = 37 };

/* digits * 10^exponent, without leading or trailing zeros; zero has no digits. */
struct decimal {
    char digits[MAX_DIGITS + 1];
    int n_digits;
    long exponent;
};

struct number {
    bool negative;
    struct decimal over, under; /* under: 1 where there is no fraction */
    char unit[48];
};

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
    static const char *const signs[] = {"\\times", "\\cdot", "*", "x", "\xc3\x97", "\xc2\xb7"};
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
        char one[2] = {*at, '\0'};
        const char *digit = one;
        *text = at + 1;
        return scan_decimal(&digit, d);
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
        "thousand",  "thousands",  "million",    "millions",    "billion", "billions", "trillion",
        "trillions", "hundred",    "hundreds",   "dozen",       "dozens",  "half",     "halves",
        "third",     "thirds",     "quarter",    "quarters",    "fourth",  "fourths",  "fifth",
        "fifths",    "sixth",      "sixths",     "eighth",      "eighths", "tenth",    "tenths",
        "hundredth", "hundredths", "thousandth", "thousandths", "pi",      "tau",      "sqrt",
        "mod",       "or",         "and",        "to",          "plus",    "minus",    "times",
        "over",      "squared",    "cubed",      "factorial",   "is",      "not",      "but",
        "if",        "sin",        "cos",        "tan",         "log",     "ln",       "exp"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strlen(words[i]) == length && ascii_same_bytes(words[i], word, length))
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
    return left == 0 ||
           (left == 2 && (memcmp(rest, "^2", 2) == 0 || memcmp(rest, "^3", 2) == 0 ||
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
        good = unit_word(text, first) &&
               (text[first] == '\0' || unit_word(text + first + 1, length - first - 1));
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

static bool scan_number(const char *text, struct number *number)
{
    memset(number, 0, sizeof *number);
    add_digit(&number->under, '1');
    scan_currency(&text, number);
    if (*text == '-' || *text == '+') {
        number->negative = *text++ == '-';
        text += *text == ' ';
        scan_currency(&text, number);
    }
    if (starts_command(text, "\\frac")) {
        text += strlen("\\frac");
        if (!scan_argument(&text, &number->negative, &number->over) ||
            !scan_argument(&text, &number->negative, &number->under))
            return false;
    } else {
        if (!scan_decimal(&text, &number->over))
            return false;
        const char *slash = text + (*text == ' ');
        if (*slash == '/') {
            text = slash + 1;
            text += *text == ' ';
            if (!scan_decimal(&text, &number->under))
                return false;
        } else if (!scan_power(&text, &number->over)) {
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

__extension__ typedef unsigned __int128 wide;

static wide digits_value(const struct decimal *d)
{
    wide value = 0;
    for (int i = 0; i < d->n_digits; i++)
        value = value * 10u + (wide)(unsigned)(d->digits[i] - '0');
    return value;
}

/* a * b without trailing zeros, and its exponent; EXACT_DIGITS together, so below 2^128. */
static wide product(const struct decimal *a, const struct decimal *b, long *exponent)
{
    wide p = digits_value(a) * digits_value(b);
    *exponent = a->exponent + b->exponent;
    while (p != 0 && p % 10 == 0) {
        p /= 10;
        ++*exponent;
    }
    return p;
}

static double decimal_value(const struct decimal *d, locale_t c)
{
    char text[MAX_DIGITS + 32];
    snprintf(text, sizeof text, "%se%ld", d->n_digits > 0 ? d->digits : "0", d->exponent);
    return strtod_l(text, NULL, c);
}

static bool same_value(const struct number *a, const struct number *b)
{
    if (a->negative != b->negative)
        return false;
    if (same_decimal(&a->under, &b->under))
        return same_decimal(&a->over, &b->over);
    if (a->over.n_digits == 0 || b->over.n_digits == 0)
        return a->over.n_digits == b->over.n_digits;
    if (a->over.n_digits + b->under.n_digits <= EXACT_DIGITS &&
        b->over.n_digits + a->under.n_digits <= EXACT_DIGITS) {
        long left = 0, right = 0;
        return product(&a->over, &b->under, &left) == product(&b->over, &a->under, &right) &&
               left == right;
    }
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (c == (locale_t)0)
        return false;
    double x = decimal_value(&a->over, c) / decimal_value(&a->under, c);
    double y = decimal_value(&b->over, c) / decimal_value(&b->under, c);
    freelocale(c);
    return isfinite(x) && isfinite(y) && fabs(x - y) <= 1e-9 * fmax(fabs(x), fabs(y));
}

/* The unit without plural s, and symbols for the words that mean them. */
static void plain_unit(const char *unit, char out[48])
{
    static const struct replacement words[] = {{"dollar", "$"},       {"usd", "$"},
                                               {"percent", "%"},      {"euro", "\xe2\x82\xac"},
                                               {"pound", "\xc2\xa3"}, {"degree", "\xc2\xb0"}};
    snprintf(out, 48, "%s", unit);
    size_t n = strlen(out);
    if (n > 2 && out[n - 1] == 's')
        out[n - 1] = '\0';
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (ascii_same(out, words[i].from))
            snprintf(out, 48, "%s", words[i].to);
}

static bool same_unit(const char *a, const char *b)
{
    char x[48], y[48];
    plain_unit(a, x);
    plain_unit(b, y);
    return *a == '\0' || *b == '\0' || strcmp(x, y) == 0;
}

static bool same_answer(const char *a, const char *b)
{
    const char *a_right = a, *b_right = b;
    if (*a == '\0' || *b == '\0')
        return false;
    if (strcmp(a, b) == 0)
        return true;
    size_t a_left = left_side(a, &a_right), b_left = left_side(b, &b_right);
    if (a_left > 0 && b_left > 0 && (a_left != b_left || memcmp(a, b, a_left) != 0))
        return false;
    if (strcmp(a_right, b_right) == 0)
        return true;
    struct number x, y;
    return scan_number(a_right, &x) && scan_number(b_right, &y) && same_unit(x.unit, y.unit) &&
           same_value(&x, &y);
}

cohort_status answer_equal(const char *a, const char *b, bool *equal, cohort_error *err)
{
    struct text x = {0}, y = {0};
    cohort_status status = COHORT_OK;
    TRY_GOTO(clean(a, &x, err));
    TRY_GOTO(clean(b, &y, err));
    *equal = same_answer(x.data, y.data);
cleanup:
    text_free(&x);
    text_free(&y);
    return status;
}

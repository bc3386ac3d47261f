/* Units of answers: signs and words behind a number ("5 cm", "50 square meters", "3.5 dollars") and currencies before it.
 *
 * A unit that only one of two answers has is ignored, units of both must agree, in any of their spellings. Words that
 * change the value ("million", "half", "or") are no units. */
#include "reward/answer_internal.h"

#include <stdio.h>
#include <string.h>

/* ASCII alone: what the host's locale makes of letters is nothing to us. */
static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c; }

static bool same_word(const char *word, size_t length, const char *known)
{
    for (size_t i = 0; i < length; i++)
        if (lower(word[i]) != known[i])
            return false; /* its NUL too */
    return known[length] == '\0';
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
    return left == 0 || (left == 2 && (memcmp(rest, "^2", 2) == 0 || memcmp(rest, "^3", 2) == 0));
}

size_t answer_unit_end(struct span s, int words)
{
    static const char *const attached[] = {"\xc2\xb0"
                                           "C",
                                           "\xc2\xb0"
                                           "F",
                                           "$",
                                           "\xe2\x82\xac",
                                           "\xc2\xa3",
                                           "mm",
                                           "cm",
                                           "km",
                                           "mg",
                                           "kg",
                                           "ml",
                                           "ms",
                                           "min"};
    size_t end = s.length;
    if (words == 0) {
        for (size_t i = 0; i < sizeof attached / sizeof attached[0]; i++) {
            const size_t n = strlen(attached[i]);
            if (s.length > n && memcmp(s.at + s.length - n, attached[i], n) == 0 &&
                strchr("})! 0123456789", s.at[s.length - n - 1]) != NULL)
                return s.length - n;
        }
        return s.length;
    }
    for (int word = 0; word < words; word++) {
        size_t start = end;
        while (start > 0 && s.at[start - 1] != ' ' && end - start < UNIT_SIZE)
            start--;
        if (start < 2 || s.at[start - 1] != ' ' || !unit_word(s.at + start, end - start))
            return s.length;
        end = start - 1;
    }
    return end;
}

/* --- spellings --- */

static const struct {
    const char *from, *to;
} spellings[] = {
    {"dollar", "$"},          {"usd", "$"},          {"cent", "cent"},
    {"euro", "\xe2\x82\xac"}, {"pound", "\xc2\xa3"}, {"lb", "\xc2\xa3"},
    {"degree", "\xc2\xb0"},   {"deg", "\xc2\xb0"},   {"percent", "%"},
    {"percentage", "%"},      {"pct", "%"},          {"millimeter", "mm"},
    {"millimetre", "mm"},     {"centimeter", "cm"},  {"centimetre", "cm"},
    {"meter", "m"},           {"metre", "m"},        {"kilometer", "km"},
    {"kilometre", "km"},      {"milligram", "mg"},   {"gram", "g"},
    {"kilogram", "kg"},       {"second", "s"},       {"sec", "s"},
    {"minute", "min"},        {"hour", "h"},         {"hr", "h"},
    {"foot", "ft"},           {"feet", "ft"},        {"inch", "in"},
    {"inche", "in"},          {"mile", "mi"},        {"yard", "yd"},
    {"liter", "l"},           {"litre", "l"},        {"milliliter", "ml"},
    {"millilitre", "ml"},     {"year", "yr"},
};

/* One spelling of a unit: without plural s, "square meters" as m^2, in lower-case letters, without blanks. */
static void plain_unit(const char *unit, char out[UNIT_SIZE])
{
    const char *power = "";
    size_t n = 0;
    while (*unit != '\0') {
        const size_t length = strcspn(unit, " ");
        char word[UNIT_SIZE];
        size_t letters = 0;
        while (letters < length && letters + 1 < sizeof word && unit[letters] != '^') {
            word[letters] = lower(unit[letters]);
            letters++;
        }
        word[letters] = '\0';
        const char *tail = unit + letters;
        size_t tail_length = length - letters;
        if (letters > 2 && word[letters - 1] == 's')
            word[letters - 1] = '\0';
        if (strcmp(word, "square") == 0 || strcmp(word, "sq") == 0 || strcmp(word, "cubic") == 0 ||
            strcmp(word, "cu") == 0) {
            power = word[0] == 's' ? "^2" : "^3";
        } else {
            const char *plain = word;
            for (size_t i = 0; i < sizeof spellings / sizeof spellings[0]; i++)
                if (strcmp(word, spellings[i].from) == 0)
                    plain = spellings[i].to;
            n += (size_t)snprintf(out + n, UNIT_SIZE - n, "%s%.*s", plain, (int)tail_length, tail);
            n = n < UNIT_SIZE ? n : UNIT_SIZE - 1;
        }
        unit += length;
        unit += strspn(unit, " ");
    }
    snprintf(out + n, UNIT_SIZE - n, "%s", power);
}

bool answer_same_unit(const char *a, const char *b)
{
    char x[UNIT_SIZE] = "", y[UNIT_SIZE] = "";
    plain_unit(a, x);
    plain_unit(b, y);
    return *a == '\0' || *b == '\0' || strcmp(x, y) == 0;
}

bool answer_is_percent(const char *unit)
{
    char plain[UNIT_SIZE] = "";
    plain_unit(unit, plain);
    return strcmp(plain, "%") == 0;
}

size_t answer_currency(struct span s)
{
    static const char *const signs[] = {"$", "\xe2\x82\xac", "\xc2\xa3"}; /* dollar, euro, pound */
    for (size_t i = 0; i < sizeof signs / sizeof signs[0]; i++) {
        const size_t n = strlen(signs[i]);
        if (s.length > n && memcmp(s.at, signs[i], n) == 0)
            return n;
    }
    return 0;
}

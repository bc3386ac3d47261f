/* Numbers: bounds digit by digit, multiples by the remainder of the digits so far. What is restricted has no exponent. */
#include "base/number.h"
#include "guide/guide_json.h"

#include <stdio.h>
#include <string.h>

enum { MOST_DIGITS = 40, MOST_DIVISOR = 10000 };

/* The absolute value of a decimal number. */
struct decimal {
    char whole[MOST_DIGITS + 1];    /* without leading zeros; "0" */
    char fraction[MOST_DIGITS + 1]; /* without trailing zeros */
    bool negative;
};

/* Reads the shortest form that is the number: what a schema says in up to 15 digits is exactly this. */
static cohort_status read_decimal(struct json_reading *j, const json_t *value, struct decimal *out, cohort_error *err)
{
    char text[NUMBER_BYTES], digits[2 * NUMBER_BYTES] = "";
    int64_t exponent = 0;
    size_t n = 0, point = 0;
    bool behind = false;
    memset(out, 0, sizeof *out);
    if (json_is_integer(value))
        (void)snprintf(text, sizeof text, "%lld", (long long)json_integer_value(value));
    else
        number_write_double(json_real_value(value), text);
    const char *at = text;
    out->negative = *at == '-';
    at += out->negative;
    for (; *at != '\0' && *at != 'e'; at++) {
        if (*at == '.')
            behind = true;
        else {
            digits[n++] = *at;
            point += !behind;
        }
    }
    if (*at == 'e' && !number_read_integer(at + 1, strlen(at + 1), &exponent))
        exponent = MOST_DIGITS;
    const int64_t whole = (int64_t)point + exponent;
    if (whole > MOST_DIGITS || whole < -MOST_DIGITS || n > MOST_DIGITS || (int64_t)n - whole > MOST_DIGITS)
        return json_wrong(j, COHORT_ERR_UNSUPPORTED, err, "a bound or divisor of more than %d digits",
                          (int)MOST_DIGITS);
    if (!json_is_integer(value) && n > 16)
        return json_wrong(j, COHORT_ERR_UNSUPPORTED, err, "a bound or divisor of more than 16 digits");
    size_t w = 0, f = 0;
    for (int64_t i = 0; i < whole; i++) {
        const char c = i < (int64_t)n ? digits[i] : '0';
        if (w > 0 || c != '0')
            out->whole[w++] = c;
    }
    if (w == 0)
        out->whole[w++] = '0';
    for (int64_t i = whole; i < (int64_t)n; i++)
        out->fraction[f++] = i < 0 ? '0' : digits[i];
    while (f > 0 && out->fraction[f - 1] == '0')
        out->fraction[--f] = '\0';
    out->whole[w] = '\0';
    if (out->whole[0] == '0' && f == 0)
        out->negative = false;
    return COHORT_OK;
}

/* ---- Numbers without a sign, as nfas over characters ---- */

static void digit_edges(struct nfa *nfa, uint32_t from, int lo, int hi, uint32_t to)
{
    if (lo <= hi)
        nfa_edge(nfa, from, (uint32_t)('0' + lo), (uint32_t)('0' + hi), to);
}

/* A fraction of any digits, or none, from a state behind the whole part to end. */
static void any_fraction(struct nfa *nfa, uint32_t from, uint32_t end)
{
    const uint32_t point = nfa_bytes(nfa, from, ".", 1), loop = nfa_state(nfa);
    nfa_skip(nfa, from, end);
    digit_edges(nfa, point, 0, 9, loop);
    digit_edges(nfa, loop, 0, 9, loop);
    nfa_skip(nfa, loop, end);
}

/* n further digits, then any fraction. */
static void any_digits(struct nfa *nfa, uint32_t from, size_t n, uint32_t end)
{
    for (size_t i = 0; i < n; i++) {
        const uint32_t to = nfa_state(nfa);
        digit_edges(nfa, from, 0, 9, to);
        from = to;
    }
    any_fraction(nfa, from, end);
}

/* Behind a whole part that is the bound's: fractions that are less (or more) than the bound's, or equal where that is
 * allowed. */
static void bounded_fraction(struct nfa *nfa, uint32_t from, const char *bound, bool more, bool equal, uint32_t end)
{
    const size_t n = strlen(bound);
    if (n == 0 ? equal : !more) /* no fraction at all: equal to a bound without one, else less */
        nfa_skip(nfa, from, end);
    uint32_t at = nfa_bytes(nfa, from, ".", 1);
    const uint32_t any = nfa_state(nfa);
    digit_edges(nfa, any, 0, 9, any);
    nfa_skip(nfa, any, end);
    for (size_t i = 0; i < n; i++) {
        const int digit = bound[i] - '0';
        const uint32_t to = nfa_state(nfa);
        if (more)
            digit_edges(nfa, at, digit + 1, 9, any);
        else
            digit_edges(nfa, at, 0, digit - 1, any);
        digit_edges(nfa, at, digit, digit, to);
        at = to;
        if (!more && i + 1 < n) /* the bound has digits left that are not all zero */
            nfa_skip(nfa, at, end);
    }
    /* All of the bound's digits: zeros may follow, and, where more is wanted, anything behind them. */
    const uint32_t zeros = nfa_state(nfa);
    if (equal && n > 0)
        nfa_skip(nfa, at, end);
    nfa_edge(nfa, at, '0', '0', zeros);
    nfa_edge(nfa, zeros, '0', '0', zeros);
    if (equal)
        nfa_skip(nfa, zeros, end);
    if (more) {
        digit_edges(nfa, at, 1, 9, any);
        digit_edges(nfa, zeros, 1, 9, any);
    }
}

/* Numbers at most (more: at least) as large as the bound. */
static void bounded(struct nfa *nfa, uint32_t from, const struct decimal *bound, bool more, bool equal, uint32_t end)
{
    const char *whole = bound->whole;
    const size_t n = strlen(whole);
    /* Of other lengths. */
    uint32_t at = from;
    if (more) {
        for (size_t i = 0; i <= n; i++) {
            const uint32_t to = nfa_state(nfa);
            digit_edges(nfa, at, i == 0 ? 1 : 0, 9, to);
            at = to;
        }
        digit_edges(nfa, at, 0, 9, at);
        any_fraction(nfa, at, end);
    } else {
        for (size_t i = 0; i + 1 < n; i++) {
            const uint32_t to = nfa_state(nfa);
            digit_edges(nfa, at, i == 0 ? 1 : 0, 9, to);
            if (i == 0) {
                const uint32_t zero = nfa_bytes(nfa, from, "0", 1);
                any_fraction(nfa, zero, end);
            }
            any_fraction(nfa, to, end);
            at = to;
        }
    }
    /* Of the same length: equal up to a digit that is less or more. */
    at = from;
    for (size_t i = 0; i < n; i++) {
        const int digit = whole[i] - '0', least = i == 0 && n > 1 ? 1 : 0;
        const uint32_t apart = nfa_state(nfa), to = nfa_state(nfa);
        if (more)
            digit_edges(nfa, at, digit + 1, 9, apart);
        else
            digit_edges(nfa, at, least, digit - 1, apart);
        any_digits(nfa, apart, n - i - 1, end);
        digit_edges(nfa, at, digit, digit, to);
        at = to;
    }
    bounded_fraction(nfa, at, bound->fraction, more, equal, end);
}

static cohort_status freeze(struct json_reading *j, struct nfa *nfa, uint32_t start, uint32_t end,
                            struct automaton *out, cohort_error *err)
{
    bool fits = true;
    TRY(automaton_determinize(out, nfa, start, end, AUTOMATON_MOST_STATES, &fits, err));
    return fits ? automaton_minimize(out, AUTOMATON_MOST_STATES / 10, err)
                : json_wrong(j, COHORT_ERR_UNSUPPORTED, err, "the numbers need more than %d states",
                             (int)AUTOMATON_MOST_STATES);
}

/* Numbers with a sign that are at most, or at least, a bound. */
static cohort_status one_bound(struct json_reading *j, const struct decimal *bound, bool more, bool equal,
                               struct automaton *out, cohort_error *err)
{
    static const struct decimal zero = {.whole = "0"};
    struct nfa nfa = {0};
    const uint32_t start = nfa_state(&nfa), end = nfa_state(&nfa), minus = nfa_bytes(&nfa, start, "-", 1);
    if (more && bound->negative) { /* -y >= -b: y at most b; and all that are not negative */
        bounded(&nfa, minus, bound, false, equal, end);
        bounded(&nfa, start, &zero, true, true, end);
    } else if (more) { /* -0 is 0 */
        bounded(&nfa, start, bound, true, equal, end);
        if (bound->whole[0] == '0' && bound->fraction[0] == '\0' && equal)
            bounded(&nfa, minus, &zero, false, true, end);
    } else if (bound->negative) {
        bounded(&nfa, minus, bound, true, equal, end);
    } else {
        const bool nothing = bound->whole[0] == '0' && bound->fraction[0] == '\0' && !equal;
        bounded(&nfa, start, bound, false, equal, end);
        bounded(&nfa, minus, &zero, true, !nothing, end);
    }
    const cohort_status status = freeze(j, &nfa, start, end, out, err);
    nfa_free(&nfa);
    return status;
}

/* ---- Multiples ---- */

/* A number is a multiple of k / 10^p where its digits up to the p-th of the fraction are one of k, and zeros follow. States:
 * a remainder for each number of digits of the fraction that were read. */
static cohort_status multiples(struct json_reading *j, const json_t *of, struct automaton *out, cohort_error *err)
{
    struct decimal d;
    struct nfa nfa = {0};
    uint32_t k = 0;
    cohort_status status = COHORT_OK;
    TRY(read_decimal(j, of, &d, err));
    const uint32_t p = (uint32_t)strlen(d.fraction);
    for (const char *part = d.whole;; part = d.fraction) {
        for (const char *c = part; *c != '\0' && k <= MOST_DIVISOR; c++)
            k = 10 * k + (uint32_t)(*c - '0');
        if (part == d.fraction)
            break;
    }
    if (k == 0 || k > MOST_DIVISOR || d.negative)
        return json_wrong(j, COHORT_ERR_UNSUPPORTED, err, "multipleOf with more than %d remainders", (int)MOST_DIVISOR);
    const uint32_t start = nfa_state(&nfa), end = nfa_state(&nfa), unsigned_start = nfa_state(&nfa),
                   zero = nfa_state(&nfa), zeros = nfa_state(&nfa);
    nfa_skip(&nfa, start, unsigned_start);
    nfa_skip(&nfa, nfa_bytes(&nfa, start, "-", 1), unsigned_start);
    /* whole[r], then behind[f][r] with f digits of the fraction, f = 0: behind the point. */
    const uint32_t whole = nfa.n_states;
    for (uint32_t i = 0; i < k * (p + 2); i++)
        (void)nfa_state(&nfa);
    const uint32_t behind = whole + k;
    nfa_edge(&nfa, unsigned_start, '0', '0', zero);
    nfa_skip(&nfa, zero, end);
    nfa_edge(&nfa, zero, '.', '.', behind);
    for (uint32_t c = 1; c <= 9; c++)
        nfa_edge(&nfa, unsigned_start, '0' + c, '0' + c, whole + c % k);
    for (uint32_t r = 0; r < k; r++) {
        uint64_t scaled = r;
        for (uint32_t i = 0; i < p; i++)
            scaled = scaled * 10 % k;
        if (scaled == 0)
            nfa_skip(&nfa, whole + r, end);
        nfa_edge(&nfa, whole + r, '.', '.', behind + r);
        for (uint32_t c = 0; c <= 9; c++)
            nfa_edge(&nfa, whole + r, '0' + c, '0' + c, whole + (10 * r + c) % k);
        for (uint32_t f = 0; f < p; f++) {
            for (uint32_t c = 0; c <= 9; c++)
                nfa_edge(&nfa, behind + f * k + r, '0' + c, '0' + c, behind + (f + 1) * k + (10 * r + c) % k);
            scaled = r;
            for (uint32_t i = f; i < p; i++)
                scaled = scaled * 10 % k;
            if (f > 0 && scaled == 0)
                nfa_skip(&nfa, behind + f * k + r, end);
        }
    }
    if (p > 0)
        nfa_skip(&nfa, behind + p * k, end);
    nfa_edge(&nfa, behind + p * k, '0', '0', zeros);
    nfa_edge(&nfa, zeros, '0', '0', zeros);
    nfa_skip(&nfa, zeros, end);
    TRY_GOTO(freeze(j, &nfa, start, end, out, err));
cleanup:
    nfa_free(&nfa);
    return status;
}

/* ---- Together ---- */

/* -?(0|[1-9][0-9]*), with a fraction unless it is an integer, and with an exponent too. */
static void any_number(struct nfa *nfa, uint32_t from, bool integer, bool exponent, uint32_t end)
{
    const uint32_t begin = nfa_state(nfa), whole = nfa_state(nfa), loop = nfa_state(nfa), tail = nfa_state(nfa);
    nfa_skip(nfa, from, begin);
    nfa_skip(nfa, nfa_bytes(nfa, from, "-", 1), begin);
    nfa_edge(nfa, begin, '0', '0', whole);
    digit_edges(nfa, begin, 1, 9, loop);
    digit_edges(nfa, loop, 0, 9, loop);
    nfa_skip(nfa, loop, whole);
    if (integer) {
        nfa_skip(nfa, whole, end);
        return;
    }
    any_fraction(nfa, whole, tail);
    nfa_skip(nfa, tail, end);
    if (!exponent)
        return;
    const uint32_t mark = nfa_state(nfa), sign = nfa_state(nfa), digits = nfa_state(nfa);
    nfa_edge(nfa, tail, 'e', 'e', mark);
    nfa_edge(nfa, tail, 'E', 'E', mark);
    nfa_skip(nfa, mark, sign);
    nfa_edge(nfa, mark, '+', '+', sign);
    nfa_edge(nfa, mark, '-', '-', sign);
    digit_edges(nfa, sign, 0, 9, digits);
    digit_edges(nfa, digits, 0, 9, digits);
    nfa_skip(nfa, digits, end);
}

static cohort_status meet(struct json_reading *j, struct automaton *out, bool *plain, struct automaton *other,
                          cohort_error *err)
{
    if (*plain)
        *out = *other;
    else
        TRY(json_intersect(j, out, other, err));
    *plain = false;
    memset(other, 0, sizeof *other);
    return COHORT_OK;
}

cohort_status json_number_automaton(struct json_reading *j, const json_t *schema, bool integer, struct automaton *out,
                                    bool *plain, cohort_error *err)
{
    static const struct {
        const char *key;
        bool more, equal;
    } bounds[] = {{"minimum", true, true},
                  {"exclusiveMinimum", true, false},
                  {"maximum", false, true},
                  {"exclusiveMaximum", false, false}};
    struct automaton other = {0};
    json_t *item;
    size_t i;
    *plain = true;
    memset(out, 0, sizeof *out);
    for (size_t k = 0; k < 4; k++) {
        const json_t *value = json_object_get(schema, bounds[k].key);
        struct decimal bound;
        if (value == NULL)
            continue;
        const size_t before = json_enter(j, bounds[k].key);
        TRY(read_decimal(j, value, &bound, err));
        TRY(one_bound(j, &bound, bounds[k].more, bounds[k].equal, &other, err));
        TRY(meet(j, out, plain, &other, err));
        json_leave(j, before);
    }
    json_array_foreach(json_object_get(schema, KEY_MULTIPLES), i, item)
    {
        const size_t before = json_enter(j, "multipleOf");
        TRY(multiples(j, item, &other, err));
        TRY(meet(j, out, plain, &other, err));
        json_leave(j, before);
    }
    if (*plain || !integer)
        return COHORT_OK;
    struct nfa nfa = {0};
    const uint32_t start = nfa_state(&nfa), end = nfa_state(&nfa);
    any_number(&nfa, start, true, false, end);
    const cohort_status status = freeze(j, &nfa, start, end, &other, err);
    nfa_free(&nfa);
    TRY(status);
    return meet(j, out, plain, &other, err);
}

cohort_status json_number_part(struct json_reading *j, const json_t *schema, bool integer, uint32_t in, uint32_t from,
                               uint32_t *to, cohort_error *err)
{
    struct automaton numbers = {0};
    struct nfa *nfa = grammar_nfa(j->grammar, in);
    bool plain = true;
    const cohort_status status = json_number_automaton(j, schema, integer, &numbers, &plain, err);
    if (status == COHORT_OK && plain) {
        const uint32_t begin = nfa_state(nfa);
        *to = nfa_state(nfa);
        nfa_skip(nfa, from, begin);
        any_number(nfa, begin, integer, true, *to);
    } else if (status == COHORT_OK) {
        *to = nfa_automaton(nfa, from, &numbers);
    }
    automaton_free(&numbers);
    return status;
}

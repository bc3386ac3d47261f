/* Strings: their characters, lengths, patterns and formats. Where a pattern, a format or a set of keys says which contents
 * are allowed, each character is written in one way: as it is, or, where JSON needs it, by its short escape or \u00xx. Where
 * only a length matters, any escape may stand. */
#include "base/json_text.h"
#include "base/utf8.h"
#include "guide/guide_json.h"

#include <stdio.h>
#include <string.h>

/* ---- Formats: RFC 3339, 5321, 1123, 2673, 4291, 3986, 4122, ISO 8601 ---- */

#define F_DATE                                                                                                         \
    "([0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8])" \
    ")"                                                                                                                \
    "|([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29)"
#define F_TIME                                                                                                         \
    "(([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]+)?([zZ]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])|"                   \
    "23:59:60(\\.[0-9]+)?[zZ])"
#define F_CLOCK "T([0-9]+H([0-9]+M([0-9]+S)?)?|[0-9]+M([0-9]+S)?|[0-9]+S)"
#define F_LABEL "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
#define F_HOST  F_LABEL "(\\." F_LABEL ")*"
#define F_ATOM  "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
#define F_BYTE  "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
#define F_IPV4  F_BYTE "(\\." F_BYTE "){3}"
#define F_H16   "[0-9A-Fa-f]{1,4}"
#define F_LS32  "(" F_H16 ":" F_H16 "|" F_IPV4 ")"
#define F_IPV6                                                                                                         \
    "((" F_H16 ":){6}" F_LS32 "|::(" F_H16 ":){5}" F_LS32 "|(" F_H16 ")?::(" F_H16 ":){4}" F_LS32 "|((" F_H16          \
    ":){0,1}" F_H16 ")?::(" F_H16 ":){3}" F_LS32 "|((" F_H16 ":){0,2}" F_H16 ")?::(" F_H16 ":){2}" F_LS32 "|((" F_H16  \
    ":){0,3}" F_H16 ")?::" F_H16 ":" F_LS32 "|((" F_H16 ":){0,4}" F_H16 ")?::" F_LS32 "|((" F_H16 ":){0,5}" F_H16      \
    ")?::" F_H16 "|((" F_H16 ":){0,6}" F_H16 ")?::)"
#define F_HEX    "[0-9A-Fa-f]"
#define F_PCT    "%" F_HEX F_HEX
#define F_REG    "([A-Za-z0-9._~!$&'()*+,;=-]|" F_PCT ")"
#define F_PCHAR  "([A-Za-z0-9._~!$&'()*+,;=:@-]|" F_PCT ")"
#define F_NOCOL  "([A-Za-z0-9._~!$&'()*+,;=@-]|" F_PCT ")"
#define F_AUTH   "//((([A-Za-z0-9._~!$&'()*+,;=:-]|" F_PCT ")*@)?(\\[" F_IPV6 "\\]|" F_REG "*)(:[0-9]*)?)"
#define F_PATH   "(/" F_PCHAR "*)*"
#define F_TAIL   "(\\?(" F_PCHAR "|[/?])*)?(#(" F_PCHAR "|[/?])*)?"
#define F_SCHEME "[A-Za-z][A-Za-z0-9+.-]*:"
#define F_ROOTED "/(" F_PCHAR "+" F_PATH ")?"
#define F_URI    F_SCHEME "(" F_AUTH F_PATH "|" F_ROOTED "|" F_PCHAR "+" F_PATH "|)" F_TAIL

static const struct {
    const char *name, *pattern; /* NULL: of numbers, which it says nothing about here */
} formats[] = {
    {"date-time", "^" F_DATE "[tT]" F_TIME "$"},
    {"date", "^" F_DATE "$"},
    {"time", "^" F_TIME "$"},
    {"duration", "^P(([0-9]+Y([0-9]+M([0-9]+D)?)?|[0-9]+M([0-9]+D)?|[0-9]+D)(" F_CLOCK ")?|" F_CLOCK "|[0-9]+W)$"},
    {"email", "^" F_ATOM "(\\." F_ATOM ")*@" F_HOST "$"},
    {"hostname", "^" F_HOST "$"},
    {"ipv4", "^" F_IPV4 "$"},
    {"ipv6", "^" F_IPV6 "$"},
    {"uuid", "^" F_HEX "{8}-" F_HEX "{4}-" F_HEX "{4}-" F_HEX "{4}-" F_HEX "{12}$"},
    {"uri", "^" F_URI "$"},
    {"uri-reference", "^(" F_URI "|(" F_AUTH F_PATH "|" F_ROOTED "|" F_NOCOL "+" F_PATH "|)" F_TAIL ")$"},
    {"int32", NULL},
    {"int64", NULL},
    {"float", NULL},
    {"double", NULL},
};

/* *known false: the format says nothing (an annotation), which the caller is told. */
static cohort_status format_automaton(struct json_reading *j, const json_t *format, struct automaton *out, bool *known,
                                      cohort_error *err)
{
    const char *name = json_string_value(format);
    *known = false;
    for (size_t i = 0; name != NULL && i < sizeof formats / sizeof formats[0]; i++)
        if (strcmp(name, formats[i].name) == 0 && formats[i].pattern != NULL) {
            *known = true;
            return regex_search_automaton(out, formats[i].pattern, strlen(formats[i].pattern), j->reading->origin, err);
        }
    if (j->reading->ignored != NULL && name != NULL)
        return text_printf(j->reading->ignored, err, "#%s/format \"%.100s\"\n", j->place, name);
    return COHORT_OK;
}

/* ---- Contents ---- */

cohort_status json_intersect(struct json_reading *j, struct automaton *a, struct automaton *b, cohort_error *err)
{
    struct automaton both = {0};
    bool fits = true;
    const cohort_status status = automaton_combine(&both, a, b, PRODUCT_BOTH, AUTOMATON_MOST_STATES, &fits, err);
    automaton_free(a);
    automaton_free(b);
    *a = both;
    if (status == COHORT_OK && !fits)
        return json_wrong(j, COHORT_ERR_UNSUPPORTED, err,
                          "patterns, formats and lengths together need more than %d states: allow a shorter text",
                          (int)AUTOMATON_MOST_STATES);
    return status;
}

/* least to most characters. most < 0: no bound. */
static cohort_status length_automaton(struct json_reading *j, int64_t least, int64_t most, struct automaton *out,
                                      cohort_error *err)
{
    struct nfa nfa = {0};
    bool fits = true;
    const int64_t n = most >= 0 ? most : least;
    cohort_status status = COHORT_OK;
    if (n > AUTOMATON_MOST_STATES)
        return json_wrong(j, COHORT_ERR_UNSUPPORTED, err, "a length of more than %d beside a pattern or a format",
                          (int)AUTOMATON_MOST_STATES);
    const uint32_t start = nfa_state(&nfa), end = nfa_state(&nfa);
    uint32_t at = start;
    for (int64_t i = 0; i <= n; i++) {
        if (i >= least)
            nfa_skip(&nfa, at, end);
        if (i == n)
            break;
        const uint32_t to = nfa_state(&nfa);
        nfa_edge(&nfa, at, 0, CODE_POINT_LAST, to);
        at = to;
    }
    if (most < 0)
        nfa_edge(&nfa, at, 0, CODE_POINT_LAST, at);
    TRY_GOTO(automaton_determinize(out, &nfa, start, end, AUTOMATON_MOST_STATES + 2, &fits, err));
cleanup:
    nfa_free(&nfa);
    return status;
}

static int64_t bound(const json_t *schema, const char *key, int64_t otherwise)
{
    const json_t *value = json_object_get(schema, key);
    return value != NULL ? json_integer_value(value) : otherwise;
}

/* Meets another automaton: takes it over. */
static cohort_status meet(struct json_reading *j, struct automaton *out, bool *all, struct automaton *other,
                          cohort_error *err)
{
    if (*all)
        *out = *other;
    else
        TRY(json_intersect(j, out, other, err));
    *all = false;
    memset(other, 0, sizeof *other);
    return COHORT_OK;
}

/* What patterns and formats say of the contents. */
static cohort_status contents_automaton(struct json_reading *j, const json_t *schema, struct automaton *out, bool *all,
                                        cohort_error *err)
{
    struct automaton other = {0};
    json_t *item;
    size_t i;
    *all = true;
    memset(out, 0, sizeof *out);
    json_array_foreach(json_object_get(schema, KEY_PATTERNS), i, item)
    {
        const size_t before = json_enter(j, "pattern");
        TRY(json_pattern(j, item, &other, err));
        json_leave(j, before);
        TRY(meet(j, out, all, &other, err));
    }
    json_array_foreach(json_object_get(schema, KEY_FORMATS), i, item)
    {
        bool known = false;
        TRY(format_automaton(j, item, &other, &known, err));
        if (known)
            TRY(meet(j, out, all, &other, err));
    }
    return COHORT_OK;
}

cohort_status json_string_automaton(struct json_reading *j, const json_t *schema, struct automaton *out, bool *all,
                                    cohort_error *err)
{
    struct automaton length = {0};
    const int64_t least = bound(schema, "minLength", 0), most = bound(schema, "maxLength", -1);
    TRY(contents_automaton(j, schema, out, all, err));
    if (least == 0 && most < 0)
        return COHORT_OK;
    TRY(length_automaton(j, least, most, &length, err));
    return meet(j, out, all, &length, err);
}

/* ---- As JSON ---- */

/* One character of a string, in any way in which JSON may write it. */
static void any_character(struct nfa *nfa, uint32_t from, uint32_t to)
{
    static const char hex[][2] = {{'0', '9'}, {'A', 'F'}, {'a', 'f'}};
    nfa_utf8(nfa, from, 0x20, 0x21, to);
    nfa_utf8(nfa, from, 0x23, 0x5B, to);
    nfa_utf8(nfa, from, 0x5D, CODE_POINT_LAST, to);
    const uint32_t escape = nfa_bytes(nfa, from, "\\", 1);
    for (const char *c = "\"\\/bfnrt"; *c != '\0'; c++)
        nfa_edge(nfa, escape, (unsigned char)*c, (unsigned char)*c, to);
    const uint32_t digits = nfa_bytes(nfa, escape, "u", 1);
    uint32_t first = nfa_state(nfa), second = nfa_state(nfa), third = nfa_state(nfa), high = nfa_state(nfa);
    for (size_t i = 0; i < 3; i++) {
        const uint32_t lo = (unsigned char)hex[i][0], hi = (unsigned char)hex[i][1];
        /* The first digit: D is apart, because D8 to DF are surrogates. */
        if (lo == '0')
            nfa_edge(nfa, digits, lo, hi, first);
        else
            for (uint32_t c = lo; c <= hi; c++)
                if (c != 'D' && c != 'd')
                    nfa_edge(nfa, digits, c, c, first);
        nfa_edge(nfa, first, lo, hi, second);
        nfa_edge(nfa, second, lo, hi, third);
        nfa_edge(nfa, third, lo, hi, to);
    }
    nfa_edge(nfa, digits, 'D', 'D', high);
    nfa_edge(nfa, digits, 'd', 'd', high);
    nfa_edge(nfa, high, '0', '7', second);
    /* D8 to DB, two digits, then \uDC00 to \uDFFF. */
    uint32_t a = nfa_state(nfa), b = nfa_state(nfa), c = nfa_state(nfa);
    nfa_edge(nfa, high, '8', '9', a);
    nfa_edge(nfa, high, 'A', 'B', a);
    nfa_edge(nfa, high, 'a', 'b', a);
    const uint32_t low = nfa_bytes(nfa, c, "\\u", 2), low_d = nfa_state(nfa), x = nfa_state(nfa), y = nfa_state(nfa);
    nfa_edge(nfa, low, 'D', 'D', low_d);
    nfa_edge(nfa, low, 'd', 'd', low_d);
    nfa_edge(nfa, low_d, 'C', 'F', x);
    nfa_edge(nfa, low_d, 'c', 'f', x);
    for (size_t i = 0; i < 3; i++) {
        const uint32_t lo = (unsigned char)hex[i][0], hi = (unsigned char)hex[i][1];
        nfa_edge(nfa, a, lo, hi, b);
        nfa_edge(nfa, b, lo, hi, c);
        nfa_edge(nfa, x, lo, hi, y);
        nfa_edge(nfa, y, lo, hi, to);
    }
}

/* Characters lo .. hi, each in one way. */
static void one_way(struct nfa *nfa, uint32_t from, uint32_t lo, uint32_t hi, uint32_t to)
{
    static const char shorts[][3] = {"\bb", "\tt", "\nn", "\ff", "\rr", "\"\"", "\\\\"};
    static const char digits[] = "0123456789abcdef";
    for (uint32_t c = lo; c <= hi && c <= '\\'; c++) {
        char text[7] = "";
        size_t n = 0;
        for (size_t i = 0; i < sizeof shorts / sizeof shorts[0]; i++)
            if ((unsigned char)shorts[i][0] == c) {
                text[0] = '\\';
                text[1] = shorts[i][1];
                n = 2;
            }
        if (n == 0 && c < 0x20) {
            text[0] = '\\';
            text[1] = 'u';
            text[2] = text[3] = '0';
            text[4] = digits[c >> 4];
            text[5] = digits[c & 15];
            n = 6;
        }
        if (n > 0)
            nfa_skip(nfa, nfa_bytes(nfa, from, text, n), to);
    }
    static const uint32_t plain[][2] = {{0x20, 0x21}, {0x23, 0x5B}, {0x5D, CODE_POINT_LAST}};
    for (size_t i = 0; i < 3; i++) {
        const uint32_t a = lo > plain[i][0] ? lo : plain[i][0], b = hi < plain[i][1] ? hi : plain[i][1];
        if (a <= b)
            nfa_utf8(nfa, from, a, b, to);
    }
}

uint32_t json_quoted(struct json_reading *j, uint32_t in, uint32_t from, const struct automaton *automaton)
{
    struct nfa *nfa = grammar_nfa(j->grammar, in);
    if (automaton == NULL) {
        if (j->string == 0) {
            const uint32_t rule = grammar_rule(j->grammar, "string", 6);
            struct nfa *own = grammar_nfa(j->grammar, rule);
            const uint32_t loop = nfa_bytes(own, grammar_start(j->grammar, rule), "\"", 1);
            any_character(own, loop, loop);
            grammar_end(j->grammar, rule, nfa_bytes(own, loop, "\"", 1));
            j->string = rule;
        }
        return grammar_refer(j->grammar, in, from, j->string);
    }
    const uint32_t open = nfa_bytes(nfa, from, "\"", 1), close = nfa_state(nfa), end = nfa_state(nfa),
                   base = nfa->n_states;
    for (uint32_t q = 0; q < automaton->n_states; q++)
        (void)nfa_state(nfa);
    if (automaton->n_states > 0)
        nfa_skip(nfa, open, base);
    for (uint32_t q = 0; q < automaton->n_states; q++) {
        for (uint32_t e = automaton->first[q]; e < automaton->first[q + 1]; e++)
            one_way(nfa, base + q, automaton->edges[e].lo, automaton->edges[e].hi, base + automaton->edges[e].to);
        if (automaton->accepts[q])
            nfa_skip(nfa, base + q, close);
    }
    nfa_edge(nfa, close, '"', '"', end);
    return end;
}

cohort_status json_string_part(struct json_reading *j, const json_t *schema, uint32_t in, uint32_t from, uint32_t *to,
                               cohort_error *err)
{
    struct automaton contents = {0};
    struct nfa *nfa = grammar_nfa(j->grammar, in);
    const int64_t least = bound(schema, "minLength", 0), most = bound(schema, "maxLength", -1);
    bool all = true;
    cohort_status status = COHORT_OK;
    TRY_GOTO(contents_automaton(j, schema, &contents, &all, err));
    if (all && least == 0 && most < 0) {
        *to = json_quoted(j, in, from, NULL);
    } else if (all) { /* counted */
        if (least > UINT32_MAX / 2 || most > UINT32_MAX / 2)
            return json_wrong(j, COHORT_ERR_UNSUPPORTED, err, "a length of more than 2,147,483,647");
        if (j->character == 0) {
            const uint32_t rule = grammar_rule(j->grammar, "character", 9);
            struct nfa *own = grammar_nfa(j->grammar, rule);
            const uint32_t end = nfa_state(own);
            any_character(own, grammar_start(j->grammar, rule), end);
            grammar_end(j->grammar, rule, end);
            j->character = rule;
        }
        *to = nfa_bytes(nfa, from, "\"", 1);
        if (most >= 0 && most < least)
            *to = nfa_state(nfa); /* nothing leads there */
        else
            *to = grammar_repeat(j->grammar, in, *to, j->character, (uint32_t)least,
                                 most >= 0 ? (uint32_t)most : REPEAT_FOREVER);
        *to = nfa_bytes(nfa, *to, "\"", 1);
    } else {
        automaton_free(&contents);
        TRY_GOTO(json_string_automaton(j, schema, &contents, &all, err));
        *to = json_quoted(j, in, from, &contents);
    }
cleanup:
    automaton_free(&contents);
    return status;
}

/* Regular expressions of Rust, PCRE and ECMA-262, as far as they say something about a language: groups capture nothing,
 * and whether a repetition is greedy makes no difference. */
#include "base/number.h"
#include "base/utf8.h"
#include "guide/grammar.h"

#include <string.h>
#include <utf8proc.h>

enum { DEPTH = 200, MOST_REPEATS = 100000 };

struct reader {
    struct exprs *exprs;
    const char *text;
    size_t length, at;
    enum regex_dialect dialect;
    unsigned flags;
    const char *origin;
    int depth;
};

static cohort_status wrong(const struct reader *r, cohort_status status, const char *what, cohort_error *err)
{
    return error_set(err, status, "%s: at byte %zu of the regular expression: %s", r->origin, r->at + 1, what);
}

static bool more(const struct reader *r) { return r->at < r->length; }
static char here(const struct reader *r) { return more(r) ? r->text[r->at] : '\0'; }
static char ahead(const struct reader *r, size_t n) { return r->at + n < r->length ? r->text[r->at + n] : '\0'; }

static bool eat(struct reader *r, const char *word)
{
    const size_t n = strlen(word);
    if (r->length - r->at < n || memcmp(r->text + r->at, word, n) != 0)
        return false;
    r->at += n;
    return true;
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

/* ---- Classes of characters ---- */

static cohort_status add_all(struct range_set *set, const uint32_t (*ranges)[2], size_t n, bool negated,
                             cohort_error *err)
{
    struct range_set own = {0};
    cohort_status status = COHORT_OK;
    for (size_t i = 0; i < n; i++)
        TRY_GOTO(range_set_add(&own, ranges[i][0], ranges[i][1], err));
    if (negated)
        TRY_GOTO(range_set_invert(&own, CODE_POINT_LAST, err));
    for (size_t i = 0; i < own.n; i++)
        TRY_GOTO(range_set_add(set, own.list[i][0], own.list[i][1], err));
cleanup:
    range_set_free(&own);
    return status;
}

static cohort_status add_perl_class(struct range_set *set, char name, cohort_error *err)
{
    static const uint32_t digit[][2] = {{'0', '9'}}, word[][2] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}},
                          space[][2] = {{'\t', '\r'},     {' ', ' '},       {0xA0, 0xA0},     {0x1680, 0x1680},
                                        {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F},
                                        {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
    switch (name) {
    case 'd':
    case 'D': return add_all(set, digit, 1, name == 'D', err);
    case 'w':
    case 'W': return add_all(set, word, 4, name == 'W', err);
    default: return add_all(set, space, sizeof space / sizeof space[0], name == 'S', err);
    }
}

static const struct {
    const char *name, *prefix; /* of the two letters that utf8proc gives */
} categories[] = {{"Letter", "L"},
                  {"Cased_Letter", "LC"},
                  {"Mark", "M"},
                  {"Number", "N"},
                  {"Punctuation", "P"},
                  {"Symbol", "S"},
                  {"Separator", "Z"},
                  {"Other", "C"},
                  {"Uppercase_Letter", "Lu"},
                  {"Lowercase_Letter", "Ll"},
                  {"Titlecase_Letter", "Lt"},
                  {"Modifier_Letter", "Lm"},
                  {"Other_Letter", "Lo"},
                  {"Decimal_Number", "Nd"},
                  {"Letter_Number", "Nl"},
                  {"Other_Number", "No"}};

/* \p{...}, behind the p. */
static cohort_status add_category(struct reader *r, struct range_set *set, bool negated, cohort_error *err)
{
    char name[40] = "";
    size_t n = 0;
    if (here(r) != '{') {
        name[n++] = here(r);
        r->at++;
    } else {
        for (r->at++; more(r) && here(r) != '}' && n + 1 < sizeof name; r->at++)
            name[n++] = here(r);
        if (!eat(r, "}"))
            return wrong(r, COHORT_ERR_FORMAT, "expected \\p{NAME}", err);
    }
    const char *given = name, *equals = strchr(name, '=');
    if (name[0] == '^') {
        negated = !negated;
        given = name + 1;
    }
    if (equals != NULL && (strncmp(name, "gc=", 3) == 0 || strncmp(name, "General_Category=", 17) == 0))
        given = equals + 1;
    for (size_t i = 0; i < sizeof categories / sizeof categories[0]; i++)
        if (strcmp(given, categories[i].name) == 0)
            given = categories[i].prefix;
    const bool cased = strcmp(given, "LC") == 0;
    const size_t length = strlen(given);
    struct range_set own = {0};
    cohort_status status = COHORT_OK;
    for (uint32_t c = 0, first = 0, inside = 0; length > 0 && length <= 2; c++) {
        const char *code = c <= CODE_POINT_LAST ? utf8proc_category_string((utf8proc_int32_t)c) : "\0";
        const bool in = c <= CODE_POINT_LAST &&
                        (cased ? code[0] == 'L' && strchr("ult", code[1]) != NULL : strncmp(code, given, length) == 0);
        if (in && !inside)
            first = c;
        else if (!in && inside)
            TRY_GOTO(range_set_add(&own, first, c - 1, err));
        inside = in;
        if (c > CODE_POINT_LAST)
            break;
    }
    if (own.n == 0) {
        status = wrong(r, COHORT_ERR_UNSUPPORTED,
                       "\\p{...} knows general categories alone (L, Lu, Letter, Nd, P ...), not this name", err);
        goto cleanup;
    }
    TRY_GOTO(add_all(set, (const uint32_t(*)[2])own.list, own.n, negated, err));
cleanup:
    range_set_free(&own);
    return status;
}

/* ---- Escapes ---- */

static bool read_hex(struct reader *r, size_t least, size_t most, uint32_t *value)
{
    size_t n = 0;
    *value = 0;
    for (; n < most && more(r); n++, r->at++) {
        const char c = here(r);
        const uint32_t digit = is_digit(c)              ? (uint32_t)(c - '0')
                               : (c >= 'a' && c <= 'f') ? (uint32_t)(c - 'a') + 10
                               : (c >= 'A' && c <= 'F') ? (uint32_t)(c - 'A') + 10
                                                        : 16;
        if (digit == 16)
            break;
        *value = *value * 16 + digit;
    }
    return n >= least;
}

/* \xHH, \x{H...}, \uHHHH (a pair of surrogates is one character), \u{H...}, \UHHHHHHHH; behind the letter. */
static cohort_status read_code(struct reader *r, char kind, uint32_t *c, cohort_error *err)
{
    const size_t digits = kind == 'x' ? 2 : kind == 'u' ? 4 : 8;
    bool good = false;
    uint32_t low = 0;
    if (kind != 'U' && eat(r, "{")) {
        good = read_hex(r, 1, 8, c) && eat(r, "}");
    } else {
        good = read_hex(r, digits, digits, c);
        if (good && *c >= 0xD800 && *c < 0xDC00 && eat(r, "\\u")) {
            good = read_hex(r, 4, 4, &low) && low >= 0xDC00 && low < 0xE000;
            *c = 0x10000 + ((*c - 0xD800) << 10) + (low - 0xDC00);
        }
    }
    if (!good || *c > CODE_POINT_LAST || (*c >= 0xD800 && *c < 0xE000))
        return wrong(r, COHORT_ERR_FORMAT, "expected the hexadecimal number of a character", err);
    return COHORT_OK;
}

/* An escape, behind the backslash: a character (*is_char), or a set that is added. */
static cohort_status read_escape(struct reader *r, struct range_set *set, bool *is_char, uint32_t *c, cohort_error *err)
{
    if (!more(r))
        return wrong(r, COHORT_ERR_FORMAT, "a backslash at the end", err);
    const char letter = here(r);
    r->at++;
    *is_char = true;
    switch (letter) {
    case 't': *c = '\t'; return COHORT_OK;
    case 'n': *c = '\n'; return COHORT_OK;
    case 'r': *c = '\r'; return COHORT_OK;
    case 'f': *c = '\f'; return COHORT_OK;
    case 'v': *c = '\v'; return COHORT_OK;
    case '0': *c = 0; return is_digit(here(r)) ? wrong(r, COHORT_ERR_UNSUPPORTED, "octal escapes", err) : COHORT_OK;
    case 'c':
        if (!is_letter(here(r)))
            return wrong(r, COHORT_ERR_FORMAT, "expected a letter behind \\c", err);
        *c = (uint32_t)here(r) & 31;
        r->at++;
        return COHORT_OK;
    case 'x':
    case 'u':
    case 'U': return read_code(r, letter, c, err);
    case 'd':
    case 'D':
    case 'w':
    case 'W':
    case 's':
    case 'S': *is_char = false; return add_perl_class(set, letter, err);
    case 'p':
    case 'P': *is_char = false; return add_category(r, set, letter == 'P', err);
    default: break;
    }
    if (letter == 'b' || letter == 'B')
        return wrong(r, COHORT_ERR_UNSUPPORTED, "word boundaries (\\b) are not supported", err);
    if (is_digit(letter) || letter == 'k')
        return wrong(r, COHORT_ERR_UNSUPPORTED, "back references are not supported: they are not regular", err);
    if (is_letter(letter))
        return wrong(r, COHORT_ERR_UNSUPPORTED, "this escape is not supported", err);
    r->at--;
    r->at += utf8_decode(r->text + r->at, c);
    return COHORT_OK;
}

/* ---- [...] ---- */

/* One end of a range, or a class (*is_char false, added). */
static cohort_status read_member(struct reader *r, struct range_set *set, bool *is_char, uint32_t *c, cohort_error *err)
{
    *is_char = true;
    if (here(r) == '[' && ahead(r, 1) == ':')
        return wrong(r, COHORT_ERR_UNSUPPORTED, "classes like [:alpha:] are not supported: write \\p{L} or a-z", err);
    if (here(r) != '\\') {
        r->at += utf8_decode(r->text + r->at, c);
        return COHORT_OK;
    }
    r->at++;
    if (here(r) == 'b' || here(r) == '-') {
        *c = here(r) == 'b' ? '\b' : '-';
        r->at++;
        return COHORT_OK;
    }
    return read_escape(r, set, is_char, c, err);
}

static cohort_status finish_set(struct reader *r, struct range_set *set, bool negated, uint32_t *out, cohort_error *err)
{
    if ((r->flags & REGEX_FOLD) != 0)
        TRY(range_set_fold(set, err));
    if (negated)
        TRY(range_set_invert(set, CODE_POINT_LAST, err));
    range_set_normalize(set);
    return expr_set(r->exprs, set, out, err);
}

static cohort_status read_class(struct reader *r, uint32_t *out, cohort_error *err)
{
    struct range_set set = {0};
    cohort_status status = COHORT_OK;
    const bool negated = eat(r, "^");
    for (bool first = true; first || here(r) != ']' || !more(r); first = false) {
        bool is_char = true, last_is_char = true;
        uint32_t lo = 0, hi = 0;
        if (!more(r)) {
            status = wrong(r, COHORT_ERR_FORMAT, "'[' without ']'", err);
            goto cleanup;
        }
        if (first && here(r) == ']' && r->dialect == REGEX_SEARCH)
            break; /* ECMA-262: [] is nothing, [^] anything */
        TRY_GOTO(read_member(r, &set, &is_char, &lo, err));
        if (is_char && here(r) == '-' && ahead(r, 1) != ']' && r->at + 1 < r->length) {
            r->at++;
            TRY_GOTO(read_member(r, &set, &last_is_char, &hi, err));
            if (!last_is_char || hi < lo) {
                status = wrong(r, COHORT_ERR_FORMAT, "a range of characters that ends before it begins", err);
                goto cleanup;
            }
        } else {
            hi = lo;
        }
        if (is_char)
            TRY_GOTO(range_set_add(&set, lo, hi, err));
    }
    r->at++;
    TRY_GOTO(finish_set(r, &set, negated, out, err));
cleanup:
    range_set_free(&set);
    return status;
}

/* ---- The expression ---- */

/* What a part says about the places that it may stand at. */
struct part {
    uint32_t expr;
    bool ends; /* it ends with $ */
};

static cohort_status read_either(struct reader *r, bool first, struct part *out, cohort_error *err);

/* (?...): flags change r->flags; *group: a group follows. */
static cohort_status read_group_head(struct reader *r, bool *group, cohort_error *err)
{
    *group = true;
    if (!eat(r, "?"))
        return COHORT_OK;
    if (eat(r, ":"))
        return COHORT_OK;
    if (here(r) == '=' || here(r) == '!' || (here(r) == '<' && (ahead(r, 1) == '=' || ahead(r, 1) == '!')))
        return wrong(r, COHORT_ERR_UNSUPPORTED, "looking ahead and behind is not supported", err);
    if (eat(r, "P<") || eat(r, "<")) {
        while (more(r) && here(r) != '>')
            r->at++;
        return eat(r, ">") ? COHORT_OK : wrong(r, COHORT_ERR_FORMAT, "expected (?<NAME>...)", err);
    }
    for (bool off = false; more(r); r->at++) {
        const unsigned flag = here(r) == 'i' ? REGEX_FOLD : here(r) == 's' ? REGEX_DOT_ALL : 0;
        if (here(r) == '-') {
            off = true;
        } else if (here(r) == ')' || here(r) == ':') {
            *group = here(r) == ':';
            r->at++;
            return COHORT_OK;
        } else if (flag == 0) {
            break;
        } else {
            r->flags = off ? r->flags & ~flag : r->flags | flag;
        }
    }
    return wrong(r, COHORT_ERR_UNSUPPORTED, "this kind of group is not supported", err);
}

static cohort_status read_atom(struct reader *r, bool first, struct part *out, bool *nothing, cohort_error *err)
{
    struct range_set set = {0};
    bool is_char = true;
    uint32_t c = 0;
    cohort_status status = COHORT_OK;
    const unsigned flags = r->flags;
    bool group = false;
    *nothing = false;
    out->ends = false;
    switch (here(r)) {
    case '(':
        r->at++;
        TRY(read_group_head(r, &group, err));
        if (!group) { /* (?i) holds to the end of the group that it stands in */
            *nothing = true;
            return expr_empty(r->exprs, &out->expr, err);
        }
        if (++r->depth > DEPTH)
            return wrong(r, COHORT_ERR_UNSUPPORTED, "groups nest deeper than 200 levels", err);
        TRY(read_either(r, first, out, err));
        r->depth--;
        r->flags = flags;
        return eat(r, ")") ? COHORT_OK : wrong(r, COHORT_ERR_FORMAT, "'(' without ')'", err);
    case '[': r->at++; return read_class(r, &out->expr, err);
    case '^':
        r->at++;
        if (r->dialect == REGEX_WHOLE && !first)
            return wrong(r, COHORT_ERR_UNSUPPORTED, "'^' within an expression is not supported", err);
        *nothing = true;
        return expr_mark(r->exprs, EXPR_BEGIN, &out->expr, err);
    case '$':
        r->at++;
        out->ends = true;
        *nothing = true;
        return expr_mark(r->exprs, EXPR_END, &out->expr, err);
    case '.':
        r->at++;
        if ((r->flags & REGEX_DOT_ALL) == 0) {
            TRY_GOTO(range_set_add(&set, '\n', '\n', err));
            if (r->dialect == REGEX_SEARCH) {
                TRY_GOTO(range_set_add(&set, '\r', '\r', err));
                TRY_GOTO(range_set_add(&set, 0x2028, 0x2029, err));
            }
        }
        TRY_GOTO(range_set_invert(&set, CODE_POINT_LAST, err));
        TRY_GOTO(expr_set(r->exprs, &set, &out->expr, err));
        break;
    case '*':
    case '+':
    case '?': return wrong(r, COHORT_ERR_FORMAT, "a repetition of nothing", err);
    case '\\':
        r->at++;
        TRY_GOTO(read_escape(r, &set, &is_char, &c, err));
        if (is_char)
            TRY_GOTO(range_set_add(&set, c, c, err));
        TRY_GOTO(finish_set(r, &set, false, &out->expr, err));
        break;
    default:
        r->at += utf8_decode(r->text + r->at, &c);
        TRY_GOTO(range_set_add(&set, c, c, err));
        TRY_GOTO(finish_set(r, &set, false, &out->expr, err));
    }
cleanup:
    range_set_free(&set);
    return status;
}

static bool read_count(struct reader *r, uint32_t *count)
{
    const size_t from = r->at;
    int64_t value = 0;
    while (is_digit(here(r)))
        r->at++;
    if (!number_read_integer(r->text + from, r->at - from, &value) || value > MOST_REPEATS)
        return false;
    *count = (uint32_t)value;
    return true;
}

/* {m}, {m,}, {m,n}; *found false: the brace is a character. */
static cohort_status read_braces(struct reader *r, uint32_t *least, uint32_t *most, bool *found, cohort_error *err)
{
    size_t at = r->at + 1;
    while (at < r->length && (is_digit(r->text[at]) || r->text[at] == ','))
        at++;
    *found = at < r->length && r->text[at] == '}' && is_digit(r->text[r->at + 1]);
    if (!*found)
        return COHORT_OK;
    r->at++;
    bool good = read_count(r, least);
    *most = *least;
    if (good && eat(r, ",")) {
        *most = REPEAT_FOREVER;
        good = here(r) == '}' || read_count(r, most);
    }
    if (!good || !eat(r, "}") || *most < *least)
        return wrong(r, COHORT_ERR_FORMAT, "expected {least,most} of at most 100000", err);
    return COHORT_OK;
}

static cohort_status read_repeats(struct reader *r, struct part *part, bool nothing, cohort_error *err)
{
    while (more(r)) {
        uint32_t least = 0, most = REPEAT_FOREVER;
        bool found = true;
        if (here(r) == '{') {
            TRY(read_braces(r, &least, &most, &found, err));
            if (!found)
                return COHORT_OK;
        } else if (eat(r, "+")) {
            least = 1;
        } else if (eat(r, "?")) {
            most = 1;
        } else if (!eat(r, "*")) {
            return COHORT_OK;
        }
        if (nothing || part->ends)
            return wrong(r, COHORT_ERR_FORMAT, "a repetition of nothing", err);
        if (eat(r, "+"))
            return wrong(r, COHORT_ERR_UNSUPPORTED, "possessive repetitions are not supported", err);
        (void)eat(r, "?");
        TRY(expr_repeat(r->exprs, part->expr, least, most, &part->expr, err));
    }
    return COHORT_OK;
}

static cohort_status read_join(struct reader *r, bool first, struct part *out, cohort_error *err)
{
    uint32_t *parts = NULL;
    size_t n = 0, capacity = 0;
    cohort_status status = COHORT_OK;
    out->ends = false;
    while (more(r) && here(r) != '|' && here(r) != ')') {
        struct part part = {0};
        bool nothing = false;
        if (out->ends && r->dialect == REGEX_WHOLE && here(r) != '$') {
            status = wrong(r, COHORT_ERR_UNSUPPORTED, "'$' within an expression is not supported", err);
            goto cleanup;
        }
        TRY_GOTO(read_atom(r, first, &part, &nothing, err));
        TRY_GOTO(read_repeats(r, &part, nothing, err));
        TRY_GOTO(mem_grow(&parts, &capacity, n + 1, sizeof *parts, "grammar", err));
        parts[n++] = part.expr;
        first = first && nothing;
        out->ends = part.ends;
    }
    if (n == 0)
        TRY_GOTO(expr_empty(r->exprs, &out->expr, err));
    else
        TRY_GOTO(expr_list(r->exprs, EXPR_JOIN, parts, n, &out->expr, err));
cleanup:
    mem_free(parts);
    return status;
}

static cohort_status read_either(struct reader *r, bool first, struct part *out, cohort_error *err)
{
    uint32_t *parts = NULL;
    size_t n = 0, capacity = 0;
    cohort_status status = COHORT_OK;
    out->ends = false;
    do {
        struct part part = {0};
        TRY_GOTO(read_join(r, first, &part, err));
        TRY_GOTO(mem_grow(&parts, &capacity, n + 1, sizeof *parts, "grammar", err));
        parts[n++] = part.expr;
        out->ends = out->ends || part.ends;
    } while (eat(r, "|"));
    TRY_GOTO(expr_list(r->exprs, EXPR_EITHER, parts, n, &out->expr, err));
cleanup:
    mem_free(parts);
    return status;
}

cohort_status regex_parse(struct exprs *exprs, const char *text, size_t length, enum regex_dialect dialect,
                          unsigned flags, const char *origin, uint32_t *out, cohort_error *err)
{
    struct reader r = {
        .exprs = exprs, .text = text, .length = length, .dialect = dialect, .flags = flags, .origin = origin};
    struct part part = {0};
    r.at = utf8_check(text, length);
    if (r.at < length)
        return wrong(&r, COHORT_ERR_FORMAT, "this is not UTF-8", err);
    r.at = 0;
    TRY(read_either(&r, true, &part, err));
    if (more(&r))
        return wrong(&r, COHORT_ERR_FORMAT, "')' without '('", err);
    *out = part.expr;
    return COHORT_OK;
}

/* ---- Searching ----
 *
 * A text is read between two labels, its begin and its end, which ^ and $ read, each as often as an expression has them (^^a is
 * ^a). What is searched for may begin with the one or behind any characters, and end likewise. Afterwards the labels are
 * taken off. */

/* What one or more of labels lo .. hi lead to, from the first state (forward), or the states from which they lead to an end. */
static void mark_labels(const struct automaton *a, uint32_t lo, uint32_t hi, bool forward, bool *marked)
{
    for (bool more = true; more;) {
        more = false;
        for (uint32_t q = 0; q < a->n_states; q++)
            for (uint32_t e = a->first[q]; e < a->first[q + 1]; e++) {
                const struct range_edge *edge = &a->edges[e];
                const uint32_t state = forward ? edge->to : q;
                if (marked[state] || edge->lo > hi || edge->hi < lo ||
                    !(forward ? q == 0 || marked[q] : a->accepts[edge->to] || marked[edge->to]))
                    continue;
                marked[state] = more = true;
            }
    }
}

static cohort_status strip_marks(struct automaton *out, const struct automaton *marked, cohort_error *err)
{
    const uint32_t begin = CODE_POINT_LAST + 1, finish = begin + 1;
    struct nfa nfa = {0};
    bool fits = false, *begun = NULL, *ends = NULL, *empty = NULL;
    cohort_status status = COHORT_OK;
    TRY_GOTO(mem_alloc(&begun, marked->n_states, sizeof *begun, "regular expression", err));
    TRY_GOTO(mem_alloc(&ends, marked->n_states, sizeof *ends, "regular expression", err));
    TRY_GOTO(mem_alloc(&empty, marked->n_states, sizeof *empty, "regular expression", err));
    mark_labels(marked, begin, begin, true, begun);
    mark_labels(marked, finish, finish, false, ends);
    mark_labels(marked, begin, finish, true, empty); /* of an empty text both are at one place: $^ is found there */
    for (uint32_t q = 0; q < marked->n_states; q++)
        (void)nfa_state(&nfa);
    const uint32_t start = nfa_state(&nfa), end = nfa_state(&nfa);
    for (uint32_t q = 0; q < marked->n_states; q++) {
        if (begun[q])
            nfa_skip(&nfa, start, q);
        if (ends[q])
            nfa_skip(&nfa, q, end);
        if (empty[q] && marked->accepts[q])
            nfa_skip(&nfa, start, end);
        for (uint32_t e = marked->first[q]; e < marked->first[q + 1]; e++) {
            const struct range_edge *edge = &marked->edges[e];
            if (edge->lo <= CODE_POINT_LAST)
                nfa_edge(&nfa, q, edge->lo, edge->hi < CODE_POINT_LAST ? edge->hi : CODE_POINT_LAST, edge->to);
        }
    }
    TRY_GOTO(automaton_determinize(out, &nfa, start, end, AUTOMATON_MOST_STATES, &fits, err));
cleanup:
    nfa_free(&nfa);
    mem_free(begun);
    mem_free(ends);
    mem_free(empty);
    return status;
}

cohort_status regex_search_automaton(struct automaton *out, const char *text, size_t length, const char *origin,
                                     cohort_error *err)
{
    const uint32_t begin = CODE_POINT_LAST + 1, finish = begin + 1;
    struct exprs exprs = {0};
    struct nfa nfa = {0};
    struct automaton marked = {0};
    uint32_t expr = 0;
    bool fits = true;
    cohort_status status = COHORT_OK;
    memset(out, 0, sizeof *out);
    TRY_GOTO(regex_parse(&exprs, text, length, REGEX_SEARCH, 0, origin, &expr, err));
    const uint32_t start = nfa_state(&nfa), before = nfa_state(&nfa), inside = nfa_state(&nfa);
    nfa_skip(&nfa, start, inside);
    nfa_edge(&nfa, start, begin, begin, before);
    nfa_edge(&nfa, before, 0, CODE_POINT_LAST, before);
    nfa_skip(&nfa, before, inside);
    const uint32_t found = expr_to_chars(&exprs, expr, &nfa, inside), behind = nfa_state(&nfa), end = nfa_state(&nfa);
    nfa_skip(&nfa, found, end);
    nfa_skip(&nfa, found, behind);
    nfa_edge(&nfa, behind, 0, CODE_POINT_LAST, behind);
    nfa_edge(&nfa, behind, finish, finish, end);
    status = automaton_determinize(&marked, &nfa, start, end, AUTOMATON_MOST_STATES, &fits, err);
    if (status != COHORT_OK) {
        error_context(err, "%s", origin);
        goto cleanup;
    }
    if (!fits) {
        status = error_set(err, COHORT_ERR_UNSUPPORTED,
                           "%s: the regular expression needs more than %d states: lower the counts of its repetitions",
                           origin, (int)AUTOMATON_MOST_STATES);
        goto cleanup;
    }
    TRY_GOTO(strip_marks(out, &marked, err));
    TRY_GOTO(automaton_minimize(out, AUTOMATON_MOST_STATES / 10, err));
cleanup:
    exprs_free(&exprs);
    nfa_free(&nfa);
    automaton_free(&marked);
    return status;
}

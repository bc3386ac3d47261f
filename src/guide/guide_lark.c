/* guided_grammar in the notation of Lark, the part of it that llguidance reads: rules in small letters, terminals in
 * capitals, which are regular. Every text that the rules derive is a member: no terminal is longer than another by rule. */
#include "guide/guide_grammar_reader.h"

#include "base/json_text.h"
#include "base/utf8.h"

#include <stdio.h>
#include <string.h>

static const char NAME_MORE[] = "_";

/* The terminals of lark's grammars/common.lark, as regular expressions. */
static const struct {
    const char *name, *regex;
} common[] = {
    {"DIGIT", "[0-9]"},
    {"HEXDIGIT", "[0-9A-Fa-f]"},
    {"INT", "[0-9]+"},
    {"SIGNED_INT", "[+\\-]?[0-9]+"},
    {"DECIMAL", "[0-9]+\\.[0-9]*|\\.[0-9]+"},
    {"FLOAT", "[0-9]+[eE][+\\-]?[0-9]+|([0-9]+\\.[0-9]*|\\.[0-9]+)([eE][+\\-]?[0-9]+)?"},
    {"SIGNED_FLOAT", "[+\\-]?([0-9]+[eE][+\\-]?[0-9]+|([0-9]+\\.[0-9]*|\\.[0-9]+)([eE][+\\-]?[0-9]+)?)"},
    {"NUMBER", "[0-9]+([eE][+\\-]?[0-9]+)?|([0-9]+\\.[0-9]*|\\.[0-9]+)([eE][+\\-]?[0-9]+)?"},
    {"SIGNED_NUMBER", "[+\\-]?([0-9]+([eE][+\\-]?[0-9]+)?|([0-9]+\\.[0-9]*|\\.[0-9]+)([eE][+\\-]?[0-9]+)?)"},
    {"ESCAPED_STRING", "\"([^\"\\\\\\n]|\\\\[^\\n])*\""},
    {"LCASE_LETTER", "[a-z]"},
    {"UCASE_LETTER", "[A-Z]"},
    {"LETTER", "[A-Za-z]"},
    {"WORD", "[A-Za-z]+"},
    {"CNAME", "[_A-Za-z][_A-Za-z0-9]*"},
    {"WS_INLINE", "[ \\t]+"},
    {"WS", "[ \\t\\f\\r\\n]+"},
    {"CR", "\\r"},
    {"LF", "\\n"},
    {"NEWLINE", "(\\r?\\n)+"},
    {"SH_COMMENT", "#[^\\n]*"},
    {"CPP_COMMENT", "//[^\\n]*"},
    {"C_COMMENT", "/\\*([^*]|\\*+[^*/])*\\*+/"},
    {"SQL_COMMENT", "--[^\\n]*"},
};

struct lark {
    struct grammar_reader r;
    bool in_terminal; /* what is read belongs to a terminal */
    bool ignores;     /* the grammar has %ignore: rule ignore stands before every terminal in a rule */
    uint32_t ignore;
    uint32_t *ignored; /* [n_ignored] expressions of it */
    size_t n_ignored, ignored_capacity;
    bool *terminal; /* [rules of r] */
    size_t terminal_capacity;
};

static cohort_status wrong(const struct lark *l, const char *what, cohort_error *err)
{
    return reader_wrong(&l->r, COHORT_ERR_FORMAT, what, err);
}

static cohort_status unsupported(const struct lark *l, const char *what, cohort_error *err)
{
    char text[200];
    (void)snprintf(text, sizeof text, "%s: this is not supported", what);
    return reader_wrong(&l->r, COHORT_ERR_UNSUPPORTED, text, err);
}

/* White space and comments; line ends too, where an expression may go on behind them. */
static void skip(struct lark *l, bool lines)
{
    struct grammar_reader *r = &l->r;
    for (;;) {
        const char c = reader_here(r);
        if (reader_more(r) && (c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r'))))
            r->at++;
        else if (c == '#' || (c == '/' && r->at + 1 < r->length && r->text[r->at + 1] == '/'))
            while (reader_more(r) && reader_here(r) != '\n')
                r->at++;
        else
            return;
    }
}

/* Whether a name is that of a terminal: its first letter is a capital. */
static bool names_terminal(const char *name, size_t n)
{
    while (n > 0 && (*name < 'A' || *name > 'Z') && (*name < 'a' || *name > 'z')) {
        name++;
        n--;
    }
    return n > 0 && *name <= 'Z';
}

/* What is ignored may stand before a terminal of a rule. */
static cohort_status put_terminal(struct lark *l, uint32_t expr, uint32_t *out, cohort_error *err)
{
    uint32_t pair[2] = {0, expr};
    *out = expr;
    if (l->in_terminal || !l->ignores)
        return COHORT_OK;
    TRY(expr_rule(&l->r.exprs, l->ignore, &pair[0], err));
    return expr_list(&l->r.exprs, EXPR_JOIN, pair, 2, out, err);
}

/* "..." behind its opening quote, as UTF-8. */
static cohort_status read_text(struct lark *l, struct text *out, cohort_error *err)
{
    struct grammar_reader *r = &l->r;
    while (!reader_eat(r, "\"")) {
        char bytes[4];
        uint32_t c = 0;
        if (!reader_more(r) || reader_here(r) == '\n')
            return wrong(l, "a text without its closing '\"'", err);
        if (reader_eat(r, "\\"))
            TRY(reader_escape(r, &c, err));
        else
            r->at += utf8_decode(r->text + r->at, &c);
        TRY(text_append(out, bytes, utf8_encode(c, bytes), err));
    }
    return COHORT_OK;
}

/* "x".."y" behind its dots. */
static cohort_status read_range(struct lark *l, const struct text *first, uint32_t *out, cohort_error *err)
{
    struct text last = {0};
    struct range_set set = {0};
    uint32_t lo = 0, hi = 0;
    cohort_status status = COHORT_OK;
    skip(l, false);
    if (!reader_eat(&l->r, "\"")) {
        status = wrong(l, "expected a text behind '..'", err);
        goto cleanup;
    }
    TRY_GOTO(read_text(l, &last, err));
    if (first->length == 0 || last.length == 0 || utf8_decode(first->data, &lo) != first->length ||
        utf8_decode(last.data, &hi) != last.length || hi < lo) {
        status = wrong(l, "a range is of two characters, the smaller one first", err);
        goto cleanup;
    }
    TRY_GOTO(range_set_add(&set, lo, hi, err));
    TRY_GOTO(expr_set(&l->r.exprs, &set, out, err));
cleanup:
    text_free(&last);
    range_set_free(&set);
    return status;
}

static cohort_status read_literal(struct lark *l, uint32_t *out, cohort_error *err)
{
    struct text text = {0};
    cohort_status status = COHORT_OK;
    TRY_GOTO(read_text(l, &text, err));
    const size_t n = reader_name(&l->r, "");
    const bool fold = n == 1 && reader_here(&l->r) == 'i';
    if (n > 0 && !fold) {
        status = unsupported(l, "a flag of a text beside i", err);
        goto cleanup;
    }
    l->r.at += n;
    const size_t behind = l->r.at;
    skip(l, false);
    if (!fold && reader_eat(&l->r, "..")) {
        TRY_GOTO(read_range(l, &text, out, err));
    } else {
        l->r.at = behind;
        if (text.length == 0)
            TRY_GOTO(expr_empty(&l->r.exprs, out, err));
        else
            TRY_GOTO(expr_text(&l->r.exprs, text.data, text.length, fold, out, err));
    }
cleanup:
    text_free(&text);
    return status;
}

/* /.../flags at its first slash. */
static cohort_status read_regex(struct lark *l, uint32_t *out, cohort_error *err)
{
    struct grammar_reader *r = &l->r;
    const size_t from = ++r->at;
    bool class = false;
    unsigned flags = 0;
    char origin[160];
    size_t line = 1;
    for (; reader_more(r) && (class || reader_here(r) != '/') && reader_here(r) != '\n'; r->at++) {
        if (reader_here(r) == '\\' && r->at + 1 < r->length)
            r->at++;
        else if (reader_here(r) == '[')
            class = true;
        else if (reader_here(r) == ']')
            class = false;
    }
    const size_t length = r->at - from;
    if (!reader_eat(r, "/"))
        return wrong(l, "a regular expression without its closing '/'", err);
    for (size_t n = reader_name(r, ""); n > 0; n--, r->at++)
        switch (reader_here(r)) {
        case 'i': flags |= REGEX_FOLD; break;
        case 's': flags |= REGEX_DOT_ALL; break;
        case 'u': break; /* text is Unicode in any case */
        default: return unsupported(l, "a flag of a regular expression beside i, s and u", err);
        }
    for (size_t i = 0; i < from; i++)
        line += r->text[i] == '\n';
    (void)snprintf(origin, sizeof origin, "%.100s: line %zu", r->reading->origin, line);
    return regex_parse(&r->exprs, r->text + from, length, REGEX_WHOLE, flags, origin, out, err);
}

/* Takes the JSON object that stands here. */
static cohort_status read_json(struct lark *l, json_t **out, cohort_error *err)
{
    struct grammar_reader *r = &l->r;
    int64_t line = 1;
    int depth = 0;
    bool quoted = false;
    skip(l, true);
    const size_t from = r->at;
    if (reader_here(r) != '{')
        return wrong(l, "expected a JSON object", err);
    for (size_t i = 0; i < from; i++)
        line += r->text[i] == '\n';
    do {
        const char c = reader_here(r);
        if (!reader_more(r))
            break;
        if (quoted && c == '\\' && r->at + 1 < r->length)
            r->at++;
        else if (c == '"')
            quoted = !quoted;
        else if (!quoted)
            depth += c == '{' || c == '[' ? 1 : c == '}' || c == ']' ? -1 : 0;
        r->at++;
    } while (depth > 0);
    return json_text_parse(out, r->text + from, r->at - from, r->reading->origin, line, JSON_TEXT_ANY, err);
}

/* %regex {"substring_chars": "..."} or {"substring_chunks": [...]}: a part of the text, of whole characters or chunks. */
static cohort_status read_substring(struct lark *l, uint32_t *out, cohort_error *err)
{
    struct grammar *g = l->r.reading->grammar;
    const uint32_t rule = grammar_rule(g, NULL, 0);
    const size_t at = l->r.at;
    json_t *json = NULL;
    TRY(read_json(l, &json, err));
    const json_t *chars = json_object_get(json, "substring_chars"), *chunks = json_object_get(json, "substring_chunks");
    cohort_status status = COHORT_OK;
    struct nfa *nfa = grammar_nfa(g, rule);
    uint32_t state = grammar_start(g, rule);
    const uint32_t start = state, end = nfa_state(nfa);
    bool good = json_object_size(json) == 1 && (json_is_string(chars) || json_is_array(chunks));
    nfa_skip(nfa, state, end);
    state = nfa_state(nfa); /* nothing leads back to the start */
    nfa_skip(nfa, start, state);
    for (size_t i = 0; good && chars != NULL && i < json_string_length(chars);) {
        uint32_t c = 0;
        const size_t n = utf8_decode(json_string_value(chars) + i, &c);
        nfa_skip(nfa, start, state);
        state = nfa_bytes(nfa, state, json_string_value(chars) + i, n);
        nfa_skip(nfa, state, end);
        i += n;
    }
    for (size_t i = 0; good && i < json_array_size(chunks); i++) {
        const json_t *chunk = json_array_get(chunks, i);
        good = json_is_string(chunk);
        nfa_skip(nfa, start, state);
        if (good)
            state = nfa_bytes(nfa, state, json_string_value(chunk), json_string_length(chunk));
        nfa_skip(nfa, state, end);
    }
    grammar_end(g, rule, end);
    if (!good) {
        l->r.at = at;
        status = unsupported(l, "%regex with anything but substring_chars (a text) or substring_chunks (texts)", err);
    }
    json_decref(json);
    return status == COHORT_OK ? expr_rule(&l->r.exprs, rule, out, err) : status;
}

static cohort_status read_schema(struct lark *l, uint32_t *out, cohort_error *err)
{
    struct grammar *g = l->r.reading->grammar;
    const uint32_t rule = grammar_rule(g, NULL, 0);
    json_t *json = NULL;
    uint32_t to = 0;
    if (l->in_terminal)
        return unsupported(l, "%json in a terminal", err);
    TRY(read_json(l, &json, err));
    cohort_status status = guide_read_schema(l->r.reading, json, rule, grammar_start(g, rule), &to, err);
    json_decref(json);
    if (status != COHORT_OK)
        return status;
    grammar_end(g, rule, to);
    return expr_rule(&l->r.exprs, rule, out, err);
}

/* Marks which of the named rules are terminals. */
static cohort_status find_rule(struct lark *l, const char *name, size_t n, struct named_rule **out, cohort_error *err)
{
    const size_t before = l->r.n_rules;
    TRY(reader_rule(&l->r, name, n, out, err));
    TRY(mem_grow(&l->terminal, &l->terminal_capacity, l->r.n_rules, sizeof *l->terminal, "grammar", err));
    if (l->r.n_rules > before)
        l->terminal[before] = names_terminal(name, n);
    return COHORT_OK;
}

static cohort_status read_either(struct lark *l, bool inside, uint32_t *out, cohort_error *err);

static cohort_status read_group(struct lark *l, const char *close, uint32_t *out, cohort_error *err)
{
    if (++l->r.depth > READER_DEPTH)
        return unsupported(l, "brackets nested deeper than 200 levels", err);
    skip(l, true);
    TRY(read_either(l, true, out, err));
    l->r.depth--;
    return reader_eat(&l->r, close) ? COHORT_OK : wrong(l, "a bracket is not closed", err);
}

static cohort_status read_name(struct lark *l, size_t n, uint32_t *out, cohort_error *err)
{
    struct grammar_reader *r = &l->r;
    const char *name = r->text + r->at;
    const bool terminal = names_terminal(name, n);
    struct named_rule *rule = NULL;
    if (l->in_terminal && !terminal)
        return wrong(l, "a terminal cannot contain a rule", err);
    TRY(find_rule(l, name, n, &rule, err));
    r->at += n;
    if (reader_here(r) == '{' && r->at + 1 < r->length && (r->text[r->at + 1] < '0' || r->text[r->at + 1] > '9'))
        return unsupported(l, "a template, name{...}", err);
    TRY(expr_rule(&r->exprs, rule->rule, out, err));
    return terminal ? put_terminal(l, *out, out, err) : COHORT_OK;
}

/* *found false: nothing of an expression stands here. */
static cohort_status read_atom(struct lark *l, uint32_t *out, bool *found, cohort_error *err)
{
    struct grammar_reader *r = &l->r;
    const char c = reader_here(r);
    *found = true;
    if (c == '&' || (c == '~' && r->at + 1 < r->length) || c == '@')
        return unsupported(l, c == '&' ? "'&'" : c == '~' ? "'~' before an expression" : "'@'", err);
    if (reader_eat(r, "(")) {
        return read_group(l, ")", out, err);
    } else if (reader_eat(r, "[")) {
        TRY(read_group(l, "]", out, err));
        return expr_repeat(&r->exprs, *out, 0, 1, out, err);
    } else if (reader_eat(r, "\"")) {
        TRY(read_literal(l, out, err));
    } else if (c == '/') {
        TRY(read_regex(l, out, err));
    } else if (c == '<') {
        if (l->in_terminal)
            return unsupported(l, "a token in a terminal", err);
        TRY(reader_token(r, out, err));
    } else if (reader_eat(r, "%json")) {
        TRY(read_schema(l, out, err));
    } else if (reader_eat(r, "%regex")) {
        TRY(read_substring(l, out, err));
    } else {
        const size_t n = reader_name(r, NAME_MORE);
        *found = n > 0;
        return n > 0 ? read_name(l, n, out, err) : COHORT_OK;
    }
    return put_terminal(l, *out, out, err);
}

/* ~n, ~m..n, {n}, {m,n}, {m,}, behind the first character. */
static cohort_status read_counts(struct lark *l, bool braces, uint32_t *least, uint32_t *most, cohort_error *err)
{
    struct grammar_reader *r = &l->r;
    skip(l, false);
    if (braces && reader_here(r) == ',')
        *least = 0;
    else
        TRY(reader_count(r, least, err));
    *most = *least;
    skip(l, false);
    if (reader_eat(r, braces ? "," : "..")) {
        skip(l, false);
        *most = REPEAT_FOREVER;
        if (!braces || reader_here(r) != '}')
            TRY(reader_count(r, most, err));
        skip(l, false);
    }
    if ((braces && !reader_eat(r, "}")) || *most < *least)
        return wrong(l, braces ? "expected {least,most}" : "expected ~least..most", err);
    return COHORT_OK;
}

static cohort_status read_repeats(struct lark *l, uint32_t *part, cohort_error *err)
{
    struct grammar_reader *r = &l->r;
    for (;;) {
        uint32_t least = 0, most = REPEAT_FOREVER;
        const size_t from = r->at;
        if (reader_eat(r, "+")) {
            least = 1;
        } else if (reader_eat(r, "?")) {
            most = 1;
        } else if (reader_eat(r, "{")) {
            TRY(read_counts(l, true, &least, &most, err));
        } else if (!reader_eat(r, "*")) {
            skip(l, false);
            if (!reader_eat(r, "~")) {
                r->at = from;
                return COHORT_OK;
            }
            TRY(read_counts(l, false, &least, &most, err));
        }
        TRY(expr_repeat(&r->exprs, *part, least, most, part, err));
    }
}

static cohort_status read_join(struct lark *l, bool inside, uint32_t *out, cohort_error *err)
{
    struct grammar_reader *r = &l->r;
    uint32_t *parts = NULL;
    size_t n = 0, capacity = 0;
    cohort_status status = COHORT_OK;
    for (;;) {
        uint32_t part = 0;
        bool found = false;
        TRY_GOTO(read_atom(l, &part, &found, err));
        if (!found)
            break;
        TRY_GOTO(read_repeats(l, &part, err));
        TRY_GOTO(mem_grow(&parts, &capacity, n + 1, sizeof *parts, "grammar", err));
        parts[n++] = part;
        skip(l, inside);
    }
    if (reader_eat(r, "->")) { /* how Lark's trees call it */
        skip(l, false);
        const size_t name = reader_name(r, NAME_MORE);
        if (name == 0 || l->in_terminal) {
            status = wrong(l, "expected a name behind '->', in a rule", err);
            goto cleanup;
        }
        r->at += name;
        skip(l, inside);
    }
    if (n == 0)
        TRY_GOTO(expr_empty(&r->exprs, out, err));
    else
        TRY_GOTO(expr_list(&r->exprs, EXPR_JOIN, parts, n, out, err));
cleanup:
    mem_free(parts);
    return status;
}

/* Whether another alternative follows, on this line or at the beginning of a later one. */
static bool more_follows(struct lark *l)
{
    const size_t from = l->r.at;
    skip(l, true);
    if (reader_eat(&l->r, "|"))
        return true;
    l->r.at = from;
    return false;
}

static cohort_status read_either(struct lark *l, bool inside, uint32_t *out, cohort_error *err)
{
    uint32_t *parts = NULL;
    size_t n = 0, capacity = 0;
    cohort_status status = COHORT_OK;
    do {
        skip(l, inside);
        TRY_GOTO(mem_grow(&parts, &capacity, n + 1, sizeof *parts, "grammar", err));
        TRY_GOTO(read_join(l, inside, &parts[n++], err));
    } while (more_follows(l));
    TRY_GOTO(expr_list(&l->r.exprs, EXPR_EITHER, parts, n, out, err));
cleanup:
    mem_free(parts);
    return status;
}

static cohort_status end_of_line(struct lark *l, cohort_error *err)
{
    skip(l, false);
    return !reader_more(&l->r) || reader_here(&l->r) == '\n' || reader_here(&l->r) == '\r'
               ? COHORT_OK
               : wrong(l, "expected a text, an expression, a name, a bracket or the end", err);
}

static cohort_status define(struct lark *l, struct named_rule *rule, uint32_t body, cohort_error *err)
{
    if (rule->defined)
        return wrong(l, "this name is defined already", err);
    rule->body = body;
    rule->defined = true;
    return COHORT_OK;
}

static cohort_status import_one(struct lark *l, const char *as, size_t as_length, const char *name, size_t n,
                                cohort_error *err)
{
    struct named_rule *rule = NULL;
    uint32_t body = 0;
    char text[120];
    size_t i = 0;
    const size_t all = sizeof common / sizeof *common;
    while (i < all && (strlen(common[i].name) != n || memcmp(common[i].name, name, n) != 0))
        i++;
    if (i == all) {
        (void)snprintf(text, sizeof text, "common.%.*s", n < 60 ? (int)n : 60, name);
        return unsupported(l, text, err);
    }
    TRY(regex_parse(&l->r.exprs, common[i].regex, strlen(common[i].regex), REGEX_WHOLE, 0, l->r.reading->origin, &body,
                    err));
    TRY(find_rule(l, as, as_length, &rule, err));
    return define(l, rule, body, err);
}

/* %import common.X, common.X -> Y, common (X, Y). */
static cohort_status read_import(struct lark *l, cohort_error *err)
{
    struct grammar_reader *r = &l->r;
    skip(l, false);
    if (!reader_eat(r, "common"))
        return unsupported(l, "an import from anywhere but common", err);
    if (reader_eat(r, ".")) {
        const size_t n = reader_name(r, NAME_MORE);
        const char *name = r->text + r->at, *as = name;
        size_t as_length = n;
        r->at += n;
        skip(l, false);
        if (reader_eat(r, "->")) {
            skip(l, false);
            as = r->text + r->at;
            as_length = reader_name(r, NAME_MORE);
            r->at += as_length;
        }
        if (n == 0 || as_length == 0 || !names_terminal(as, as_length))
            return wrong(l, "expected the name of a terminal", err);
        return import_one(l, as, as_length, name, n, err);
    }
    skip(l, false);
    if (!reader_eat(r, "("))
        return wrong(l, "expected common.NAME or common (NAME, NAME)", err);
    do {
        skip(l, true);
        const size_t n = reader_name(r, NAME_MORE);
        const char *name = r->text + r->at;
        if (n == 0)
            return wrong(l, "expected the name of a terminal", err);
        r->at += n;
        TRY(import_one(l, name, n, name, n, err));
        skip(l, true);
    } while (reader_eat(r, ","));
    return reader_eat(r, ")") ? COHORT_OK : wrong(l, "a bracket is not closed", err);
}

static cohort_status read_ignore(struct lark *l, cohort_error *err)
{
    uint32_t body = 0;
    skip(l, false);
    l->in_terminal = true;
    TRY(read_either(l, false, &body, err));
    TRY(mem_grow(&l->ignored, &l->ignored_capacity, l->n_ignored + 1, sizeof *l->ignored, "grammar", err));
    l->ignored[l->n_ignored++] = body;
    return COHORT_OK;
}

static cohort_status read_definition(struct lark *l, cohort_error *err)
{
    struct grammar_reader *r = &l->r;
    struct named_rule *rule = NULL;
    uint32_t body = 0;
    while (reader_eat(r, "?") || reader_eat(r, "!")) /* how Lark's trees are built */
        ;
    const size_t n = reader_name(r, NAME_MORE), from = r->at;
    if (n == 0)
        return wrong(l, "expected a rule or terminal, NAME: and what it is", err);
    r->at += n;
    if (reader_here(r) == '.')
        return unsupported(l, "a priority", err);
    if (reader_here(r) == '{')
        return unsupported(l, "a template, name{...}", err);
    if (reader_here(r) == '[')
        return unsupported(l, "attributes of a rule, name[...]", err);
    skip(l, false);
    if (!reader_eat(r, ":"))
        return wrong(l, "expected NAME: and what it is", err);
    TRY(find_rule(l, r->text + from, n, &rule, err));
    const size_t number = (size_t)(rule - r->rules);
    l->in_terminal = l->terminal[number];
    TRY(read_either(l, false, &body, err));
    TRY(end_of_line(l, err));
    return define(l, &r->rules[number], body, err);
}

static cohort_status read_statement(struct lark *l, cohort_error *err)
{
    static const char *const others[] = {"%declare", "%override", "%extend", "%llguidance"};
    if (reader_eat(&l->r, "%import")) {
        TRY(read_import(l, err));
        return end_of_line(l, err);
    }
    if (reader_eat(&l->r, "%ignore")) {
        TRY(read_ignore(l, err));
        return end_of_line(l, err);
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (reader_eat(&l->r, others[i]))
            return unsupported(l, others[i], err);
    return read_definition(l, err);
}

/* ---- Terminals are regular: none leads back to itself ---- */

enum { UNSEEN, OPEN, SEEN };

static cohort_status visit(struct lark *l, uint32_t number, unsigned char *seen, int depth, cohort_error *err);

static cohort_status visit_expr(struct lark *l, uint32_t expr, unsigned char *seen, int depth, cohort_error *err)
{
    const struct expr x = l->r.exprs.list[expr];
    if (x.kind == EXPR_RULE)
        for (uint32_t i = 0; i < l->r.n_rules; i++)
            if (l->r.rules[i].rule == x.rule)
                return visit(l, i, seen, depth + 1, err);
    if (x.kind == EXPR_REPEAT)
        return visit_expr(l, x.rule, seen, depth, err);
    for (uint32_t i = 0; (x.kind == EXPR_JOIN || x.kind == EXPR_EITHER) && i < x.n; i++)
        TRY(visit_expr(l, l->r.exprs.parts[x.at + i], seen, depth, err));
    return COHORT_OK;
}

static cohort_status visit(struct lark *l, uint32_t number, unsigned char *seen, int depth, cohort_error *err)
{
    const struct named_rule *rule = &l->r.rules[number];
    if (seen[number] == SEEN || !rule->defined)
        return COHORT_OK;
    if (seen[number] == OPEN || depth > 1000) {
        char what[160];
        (void)snprintf(what, sizeof what, "terminal '%.*s' contains itself; terminals are regular, rules may recur",
                       rule->length < 60 ? (int)rule->length : 60, rule->name);
        l->r.at = rule->used_at;
        return reader_wrong(&l->r, COHORT_ERR_FORMAT, what, err);
    }
    seen[number] = OPEN;
    TRY(visit_expr(l, rule->body, seen, depth, err));
    seen[number] = SEEN;
    return COHORT_OK;
}

static cohort_status check_terminals(struct lark *l, cohort_error *err)
{
    unsigned char *seen = NULL;
    cohort_status status = COHORT_OK;
    TRY(mem_alloc(&seen, l->r.n_rules, sizeof *seen, "grammar", err));
    for (uint32_t i = 0; i < l->r.n_rules && status == COHORT_OK; i++)
        if (l->terminal[i])
            status = visit(l, i, seen, 0, err);
    mem_free(seen);
    return status;
}

/* Rule ignore: what is ignored, any number of times. */
static cohort_status finish_ignore(struct lark *l, cohort_error *err)
{
    struct grammar *g = l->r.reading->grammar;
    uint32_t body = 0;
    if (!l->ignores)
        return COHORT_OK;
    if (l->n_ignored == 0)
        TRY(expr_empty(&l->r.exprs, &body, err));
    else
        TRY(expr_list(&l->r.exprs, EXPR_EITHER, l->ignored, l->n_ignored, &body, err));
    TRY(expr_repeat(&l->r.exprs, body, 0, REPEAT_FOREVER, &body, err));
    grammar_end(g, l->ignore, expr_to_rule(&l->r.exprs, body, g, l->ignore, grammar_start(g, l->ignore)));
    return COHORT_OK;
}

/* Whether the text has a word somewhere; it need not end with a NUL. */
static bool has_word(const char *text, size_t length, const char *word)
{
    const size_t n = strlen(word);
    for (size_t i = 0; i + n <= length; i++)
        if (memcmp(text + i, word, n) == 0)
            return true;
    return false;
}

cohort_status guide_read_lark(struct guide_reading *reading, const char *text, size_t length, uint32_t root,
                              cohort_error *err)
{
    struct lark l = {.r = {.reading = reading, .text = text, .length = length}};
    cohort_status status = COHORT_OK;
    l.r.at = utf8_check(text, length);
    if (l.r.at < length)
        return wrong(&l, "this is not UTF-8", err);
    l.r.at = 0;
    l.ignores = has_word(text, length, "%ignore");
    if (l.ignores)
        l.ignore = grammar_rule(reading->grammar, "%ignore", 7);
    for (skip(&l, true); reader_more(&l.r); skip(&l, true))
        TRY_GOTO(read_statement(&l, err));
    TRY_GOTO(check_terminals(&l, err));
    TRY_GOTO(finish_ignore(&l, err));
    TRY_GOTO(reader_finish(&l.r, "start", root, err));
cleanup:
    reader_free(&l.r);
    mem_free(l.ignored);
    mem_free(l.terminal);
    return status;
}

bool guide_is_gbnf(const char *text, size_t length) { return has_word(text, length, "::="); }

/* A line that begins with start: or with a statement of Lark's. */
bool guide_is_lark(const char *text, size_t length)
{
    static const char *const begins[] = {"start", "%import", "%ignore"};
    for (size_t at = 0; at < length; at++) {
        const size_t line = at;
        while (at < length && (text[at] == ' ' || text[at] == '\t' || text[at] == '?' || text[at] == '!'))
            at++;
        for (size_t i = 0; i < sizeof begins / sizeof *begins; i++) {
            const size_t n = strlen(begins[i]);
            size_t behind = at + n;
            if (behind > length || memcmp(text + at, begins[i], n) != 0)
                continue;
            while (behind < length && (text[behind] == ' ' || text[behind] == '\t'))
                behind++;
            if (i > 0 || (behind < length && text[behind] == ':' && !(behind + 1 < length && text[behind + 1] == ':')))
                return true;
        }
        at = line;
        while (at < length && text[at] != '\n')
            at++;
    }
    return false;
}

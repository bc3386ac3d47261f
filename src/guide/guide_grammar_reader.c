#include "guide/guide_grammar_reader.h"

#include "base/number.h"
#include "base/utf8.h"

#include <stdio.h>
#include <string.h>

cohort_status reader_wrong(const struct grammar_reader *r, cohort_status status, const char *what, cohort_error *err)
{
    size_t line = 1;
    for (size_t i = 0; i < r->at && i < r->length; i++)
        line += r->text[i] == '\n';
    return error_set(err, status, "%s: line %zu: %s", r->reading->origin, line, what);
}

bool reader_eat(struct grammar_reader *r, const char *word)
{
    const size_t n = strlen(word);
    if (r->length - r->at < n || memcmp(r->text + r->at, word, n) != 0)
        return false;
    r->at += n;
    return true;
}

static bool is_word(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); }

size_t reader_name(const struct grammar_reader *r, const char *more)
{
    size_t n = 0;
    while (r->at + n < r->length &&
           (is_word(r->text[r->at + n]) || (r->text[r->at + n] != '\0' && strchr(more, r->text[r->at + n]) != NULL)))
        n++;
    return n;
}

cohort_status reader_rule(struct grammar_reader *r, const char *name, size_t length, struct named_rule **out,
                          cohort_error *err)
{
    for (size_t i = 0; i < r->n_rules; i++)
        if (r->rules[i].length == length && memcmp(r->rules[i].name, name, length) == 0) {
            *out = &r->rules[i];
            return COHORT_OK;
        }
    TRY(mem_grow(&r->rules, &r->rule_capacity, r->n_rules + 1, sizeof *r->rules, "grammar", err));
    r->rules[r->n_rules] = (struct named_rule){
        .name = name, .length = length, .rule = grammar_rule(r->reading->grammar, name, length), .used_at = r->at};
    *out = &r->rules[r->n_rules++];
    return COHORT_OK;
}

cohort_status reader_count(struct grammar_reader *r, uint32_t *count, cohort_error *err)
{
    const size_t from = r->at;
    int64_t value = 0;
    while (reader_here(r) >= '0' && reader_here(r) <= '9')
        r->at++;
    if (!number_read_integer(r->text + from, r->at - from, &value) || value > READER_MOST_REPEATS)
        return reader_wrong(r, COHORT_ERR_FORMAT, "expected a count of at most 100000", err);
    *count = (uint32_t)value;
    return COHORT_OK;
}

static bool read_hex(struct grammar_reader *r, size_t digits, uint32_t *value)
{
    *value = 0;
    for (size_t i = 0; i < digits; i++, r->at++) {
        const char c = reader_here(r);
        const uint32_t digit = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                               : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a') + 10
                               : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A') + 10
                                                      : 16;
        if (digit == 16)
            return false;
        *value = *value * 16 + digit;
    }
    return true;
}

cohort_status reader_escape(struct grammar_reader *r, uint32_t *c, cohort_error *err)
{
    const char letter = reader_here(r);
    if (!reader_more(r))
        return reader_wrong(r, COHORT_ERR_FORMAT, "a backslash at the end", err);
    r->at++;
    switch (letter) {
    case 'n': *c = '\n'; return COHORT_OK;
    case 'r': *c = '\r'; return COHORT_OK;
    case 't': *c = '\t'; return COHORT_OK;
    case 'f': *c = '\f'; return COHORT_OK;
    case 'b': *c = '\b'; return COHORT_OK;
    case 'v': *c = '\v'; return COHORT_OK;
    case 'x':
    case 'u':
    case 'U':
        if (!read_hex(r,
                      letter == 'x'   ? 2
                      : letter == 'u' ? 4
                                      : 8,
                      c) ||
            *c > CODE_POINT_LAST || (*c >= 0xD800 && *c < 0xE000))
            return reader_wrong(r, COHORT_ERR_FORMAT, "expected the hexadecimal number of a character", err);
        return COHORT_OK;
    default:
        if (is_word(letter))
            return reader_wrong(r, COHORT_ERR_FORMAT, "this escape is not known", err);
        r->at--; /* it may have several bytes */
        r->at += utf8_decode(r->text + r->at, c);
        return COHORT_OK;
    }
}

cohort_status reader_token(struct grammar_reader *r, uint32_t *out, cohort_error *err)
{
    const struct guide_vocabulary *v = r->reading->vocabulary;
    const bool negated = reader_eat(r, "!");
    const size_t from = r->at;
    const char *end = memchr(r->text + r->at, '>', r->length - r->at);
    char name[200];
    int64_t id = -1;
    if (!reader_eat(r, "<") || end == NULL || (size_t)(end - r->text) - from + 1 >= sizeof name)
        return reader_wrong(r, COHORT_ERR_FORMAT, "expected a token, <[ID]> or <TEXT>", err);
    const size_t n = (size_t)(end - r->text) - from + 1;
    memcpy(name, r->text + from, n);
    name[n] = '\0';
    if (name[1] == '[' && n > 4 && name[n - 2] == ']') {
        if (!number_read_integer(name + 2, n - 4, &id) || id < 0 || id >= v->size)
            return reader_wrong(r, COHORT_ERR_FORMAT, "the vocabulary has no token of this id", err);
    } else {
        id = v->tokenizer != NULL ? tokenizer_find(v->tokenizer, name) : -1;
        if (id < 0)
            return reader_wrong(r, COHORT_ERR_FORMAT, "the vocabulary has no token of this text", err);
    }
    r->at = from + n;
    struct range_set ids = {0};
    cohort_status status = range_set_add(&ids, (uint32_t)id, (uint32_t)id, err);
    if (status == COHORT_OK && negated)
        status = range_set_invert(&ids, (uint32_t)v->size - 1, err);
    if (status == COHORT_OK)
        status = expr_tokens(&r->exprs, &ids, out, err);
    range_set_free(&ids);
    return status;
}

/* ---- Left recursion ---- */

/* Whether an expression begins with a rule, as the first part of a join; *rest: what stands behind it. */
static cohort_status begins_with(struct grammar_reader *r, uint32_t expr, uint32_t rule, bool *yes, uint32_t *rest,
                                 cohort_error *err)
{
    const struct expr x = r->exprs.list[expr];
    *yes = false;
    if (x.kind == EXPR_RULE && x.rule == rule) {
        *yes = true;
        return expr_empty(&r->exprs, rest, err);
    }
    if (x.kind != EXPR_JOIN || x.n < 2)
        return COHORT_OK;
    const struct expr first = r->exprs.list[r->exprs.parts[x.at]];
    if (first.kind != EXPR_RULE || first.rule != rule)
        return COHORT_OK;
    *yes = true;
    uint32_t *parts = NULL;
    TRY(mem_alloc(&parts, x.n, sizeof *parts, "grammar", err));
    memcpy(parts, r->exprs.parts + x.at + 1, (x.n - 1) * sizeof *parts);
    const cohort_status status = expr_list(&r->exprs, EXPR_JOIN, parts, x.n - 1, rest, err);
    mem_free(parts);
    return status;
}

/* a: a x | y becomes y x*. */
static cohort_status unwind(struct grammar_reader *r, struct named_rule *rule, cohort_error *err)
{
    uint32_t *tails = NULL, *heads = NULL;
    size_t n_tails = 0, n_heads = 0;
    const struct expr x = r->exprs.list[rule->body];
    const uint32_t n = x.kind == EXPR_EITHER ? x.n : 1;
    cohort_status status = COHORT_OK;
    TRY_GOTO(mem_alloc(&tails, n, sizeof *tails, "grammar", err));
    TRY_GOTO(mem_alloc(&heads, n, sizeof *heads, "grammar", err));
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t part = x.kind == EXPR_EITHER ? r->exprs.parts[x.at + i] : rule->body;
        bool left = false;
        uint32_t rest = 0;
        TRY_GOTO(begins_with(r, part, rule->rule, &left, &rest, err));
        if (left)
            tails[n_tails++] = rest;
        else
            heads[n_heads++] = part;
    }
    if (n_tails > 0) {
        uint32_t pair[2] = {0, 0};
        TRY_GOTO(expr_list(&r->exprs, EXPR_EITHER, heads, n_heads, &pair[0], err));
        TRY_GOTO(expr_list(&r->exprs, EXPR_EITHER, tails, n_tails, &pair[1], err));
        TRY_GOTO(expr_repeat(&r->exprs, pair[1], 0, REPEAT_FOREVER, &pair[1], err));
        TRY_GOTO(expr_list(&r->exprs, EXPR_JOIN, pair, 2, &rule->body, err));
    }
cleanup:
    mem_free(tails);
    mem_free(heads);
    return status;
}

cohort_status reader_finish(struct grammar_reader *r, const char *start, uint32_t root, cohort_error *err)
{
    struct grammar *g = r->reading->grammar;
    const struct named_rule *first = NULL;
    for (size_t i = 0; i < r->n_rules; i++) {
        struct named_rule *rule = &r->rules[i];
        char what[200];
        if (!rule->defined) {
            r->at = rule->used_at;
            (void)snprintf(what, sizeof what, "rule '%.*s' is not defined",
                           rule->length < 100 ? (int)rule->length : 100, rule->name);
            return reader_wrong(r, COHORT_ERR_FORMAT, what, err);
        }
        if (rule->length == strlen(start) && memcmp(rule->name, start, rule->length) == 0)
            first = rule;
        TRY(unwind(r, rule, err));
        grammar_end(g, rule->rule, expr_to_rule(&r->exprs, rule->body, g, rule->rule, grammar_start(g, rule->rule)));
    }
    if (first == NULL)
        return error_set(err, COHORT_ERR_FORMAT, "%s: the grammar has no rule '%s', which is where it begins",
                         r->reading->origin, start);
    grammar_end(g, root, grammar_refer(g, root, grammar_start(g, root), first->rule));
    return COHORT_OK;
}

void reader_free(struct grammar_reader *r)
{
    exprs_free(&r->exprs);
    mem_free(r->rules);
}

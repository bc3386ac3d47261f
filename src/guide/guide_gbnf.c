/* guided_grammar: GBNF, as llama.cpp reads it. */
#include "base/utf8.h"
#include "guide/guide_grammar_reader.h"

#include <string.h>

static const char NAME_MORE[] = "-_";

/* White space and comments; line ends too where an expression may go on behind them. */
static void skip(struct grammar_reader *r, bool lines)
{
    for (;;) {
        const char c = reader_here(r);
        if (c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r')))
            r->at++;
        else if (c == '#')
            while (reader_more(r) && reader_here(r) != '\n')
                r->at++;
        else
            return;
    }
}

static cohort_status read_char(struct grammar_reader *r, uint32_t *c, cohort_error *err)
{
    if (reader_eat(r, "\\"))
        return reader_escape(r, c, err);
    r->at += utf8_decode(r->text + r->at, c);
    return COHORT_OK;
}

static cohort_status read_literal(struct grammar_reader *r, uint32_t *out, cohort_error *err)
{
    uint32_t *parts = NULL;
    size_t n = 0, capacity = 0;
    cohort_status status = COHORT_OK;
    while (!reader_eat(r, "\"")) {
        uint32_t c = 0;
        if (!reader_more(r) || reader_here(r) == '\n') {
            status = reader_wrong(r, COHORT_ERR_FORMAT, "a text without its closing '\"'", err);
            goto cleanup;
        }
        TRY_GOTO(read_char(r, &c, err));
        TRY_GOTO(mem_grow(&parts, &capacity, n + 1, sizeof *parts, "grammar", err));
        TRY_GOTO(expr_char(&r->exprs, c, &parts[n++], err));
    }
    if (n == 0)
        TRY_GOTO(expr_empty(&r->exprs, out, err));
    else
        TRY_GOTO(expr_list(&r->exprs, EXPR_JOIN, parts, n, out, err));
cleanup:
    mem_free(parts);
    return status;
}

static cohort_status read_class(struct grammar_reader *r, uint32_t *out, cohort_error *err)
{
    struct range_set set = {0};
    const bool negated = reader_eat(r, "^");
    cohort_status status = COHORT_OK;
    while (!reader_eat(r, "]")) {
        uint32_t lo = 0, hi = 0;
        if (!reader_more(r)) {
            status = reader_wrong(r, COHORT_ERR_FORMAT, "'[' without ']'", err);
            goto cleanup;
        }
        TRY_GOTO(read_char(r, &lo, err));
        hi = lo;
        if (reader_here(r) == '-' && r->at + 1 < r->length && r->text[r->at + 1] != ']') {
            r->at++;
            TRY_GOTO(read_char(r, &hi, err));
        }
        if (hi < lo) {
            status = reader_wrong(r, COHORT_ERR_FORMAT, "a range of characters that ends before it begins", err);
            goto cleanup;
        }
        TRY_GOTO(range_set_add(&set, lo, hi, err));
    }
    if (negated)
        TRY_GOTO(range_set_invert(&set, CODE_POINT_LAST, err));
    range_set_normalize(&set);
    TRY_GOTO(expr_set(&r->exprs, &set, out, err));
cleanup:
    range_set_free(&set);
    return status;
}

static cohort_status read_either(struct grammar_reader *r, bool inside, uint32_t *out, cohort_error *err);

/* *found false: nothing of an expression stands here. */
static cohort_status read_atom(struct grammar_reader *r, bool inside, uint32_t *out, bool *found, cohort_error *err)
{
    struct range_set all = {0};
    struct named_rule *rule = NULL;
    *found = true;
    if (reader_eat(r, "\""))
        return read_literal(r, out, err);
    if (reader_eat(r, "["))
        return read_class(r, out, err);
    if (reader_eat(r, ".")) {
        cohort_status status = range_set_add(&all, 0, CODE_POINT_LAST, err);
        if (status == COHORT_OK)
            status = expr_set(&r->exprs, &all, out, err);
        range_set_free(&all);
        return status;
    }
    if (reader_here(r) == '<' || reader_here(r) == '!')
        return reader_token(r, out, err);
    if (reader_eat(r, "(")) {
        if (++r->depth > READER_DEPTH)
            return reader_wrong(r, COHORT_ERR_UNSUPPORTED, "brackets nest deeper than 200 levels", err);
        skip(r, true);
        TRY(read_either(r, true, out, err));
        r->depth--;
        return reader_eat(r, ")") ? COHORT_OK : reader_wrong(r, COHORT_ERR_FORMAT, "'(' without ')'", err);
    }
    const size_t n = reader_name(r, NAME_MORE);
    if (n == 0) {
        *found = false;
        return COHORT_OK;
    }
    /* A name before ::= begins the next rule. */
    const size_t from = r->at;
    r->at += n;
    const size_t behind = r->at;
    skip(r, false);
    if (reader_eat(r, "::=")) {
        r->at = from;
        *found = false;
        return inside ? reader_wrong(r, COHORT_ERR_FORMAT, "'(' without ')'", err) : COHORT_OK;
    }
    r->at = behind;
    TRY(reader_rule(r, r->text + from, n, &rule, err));
    return expr_rule(&r->exprs, rule->rule, out, err);
}

static cohort_status read_repeats(struct grammar_reader *r, uint32_t *part, cohort_error *err)
{
    for (;;) {
        uint32_t least = 0, most = REPEAT_FOREVER;
        if (reader_eat(r, "+")) {
            least = 1;
        } else if (reader_eat(r, "?")) {
            most = 1;
        } else if (reader_eat(r, "{")) {
            skip(r, false);
            TRY(reader_count(r, &least, err));
            most = least;
            skip(r, false);
            if (reader_eat(r, ",")) {
                skip(r, false);
                most = REPEAT_FOREVER;
                if (reader_here(r) != '}')
                    TRY(reader_count(r, &most, err));
                skip(r, false);
            }
            if (!reader_eat(r, "}") || most < least)
                return reader_wrong(r, COHORT_ERR_FORMAT, "expected {least,most}", err);
        } else if (!reader_eat(r, "*")) {
            return COHORT_OK;
        }
        TRY(expr_repeat(&r->exprs, *part, least, most, part, err));
    }
}

static cohort_status read_join(struct grammar_reader *r, bool inside, uint32_t *out, cohort_error *err)
{
    uint32_t *parts = NULL;
    size_t n = 0, capacity = 0;
    cohort_status status = COHORT_OK;
    for (;;) {
        uint32_t part = 0;
        bool found = false;
        TRY_GOTO(read_atom(r, inside, &part, &found, err));
        if (!found)
            break;
        TRY_GOTO(read_repeats(r, &part, err));
        TRY_GOTO(mem_grow(&parts, &capacity, n + 1, sizeof *parts, "grammar", err));
        parts[n++] = part;
        skip(r, inside);
    }
    if (n == 0)
        TRY_GOTO(expr_empty(&r->exprs, out, err));
    else
        TRY_GOTO(expr_list(&r->exprs, EXPR_JOIN, parts, n, out, err));
cleanup:
    mem_free(parts);
    return status;
}

static cohort_status read_either(struct grammar_reader *r, bool inside, uint32_t *out, cohort_error *err)
{
    uint32_t *parts = NULL;
    size_t n = 0, capacity = 0;
    cohort_status status = COHORT_OK;
    do {
        skip(r, n > 0 || inside);
        TRY_GOTO(mem_grow(&parts, &capacity, n + 1, sizeof *parts, "grammar", err));
        TRY_GOTO(read_join(r, inside, &parts[n++], err));
    } while (reader_eat(r, "|"));
    TRY_GOTO(expr_list(&r->exprs, EXPR_EITHER, parts, n, out, err));
cleanup:
    mem_free(parts);
    return status;
}

cohort_status guide_read_gbnf(struct guide_reading *reading, const char *text, size_t length, uint32_t root,
                              cohort_error *err)
{
    struct grammar_reader r = {.reading = reading, .text = text, .length = length};
    cohort_status status = COHORT_OK;
    r.at = utf8_check(text, length);
    if (r.at < length)
        return reader_wrong(&r, COHORT_ERR_FORMAT, "this is not UTF-8", err);
    r.at = 0;
    for (skip(&r, true); reader_more(&r); skip(&r, true)) {
        struct named_rule *rule = NULL;
        const size_t n = reader_name(&r, NAME_MORE), from = r.at;
        r.at += n;
        skip(&r, false);
        if (n == 0 || !reader_eat(&r, "::=")) {
            status = reader_wrong(&r, COHORT_ERR_FORMAT, "expected NAME ::= and what it is", err);
            goto cleanup;
        }
        TRY_GOTO(reader_rule(&r, text + from, n, &rule, err));
        const size_t number = (size_t)(rule - r.rules);
        if (rule->defined) {
            status = reader_wrong(&r, COHORT_ERR_FORMAT, "this rule is defined already", err);
            goto cleanup;
        }
        skip(&r, true);
        uint32_t body = 0;
        TRY_GOTO(read_either(&r, false, &body, err));
        skip(&r, false);
        if (reader_more(&r) && reader_here(&r) != '\n' && reader_here(&r) != '\r') {
            status = reader_wrong(&r, COHORT_ERR_FORMAT, "expected a text, a class, a name, a bracket or the end", err);
            goto cleanup;
        }
        r.rules[number].body = body;
        r.rules[number].defined = true;
    }
    TRY_GOTO(reader_finish(&r, "root", root, err));
cleanup:
    reader_free(&r);
    return status;
}

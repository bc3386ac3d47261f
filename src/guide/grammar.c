#include "guide/grammar.h"

#include "base/number.h"
#include "base/utf8.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* ---- Rules ---- */

static bool keep(struct grammar *g, cohort_status status)
{
    if (g->status == COHORT_OK)
        g->status = status;
    return g->status == COHORT_OK;
}

void grammar_fail(struct grammar *grammar, cohort_status status, const char *format, ...)
{
    char message[400];
    va_list args;
    va_start(args, format);
    (void)number_vformat(message, sizeof message, format, args);
    va_end(args);
    if (grammar->status == COHORT_OK)
        grammar->status = error_set(&grammar->problem, status, "%s", message);
}

uint32_t grammar_rule(struct grammar *grammar, const char *name, size_t length)
{
    struct rule *rule = NULL;
    if (grammar->status != COHORT_OK)
        return 0;
    if (grammar->n_rules >= GRAMMAR_MOST_RULES)
        grammar_fail(grammar, COHORT_ERR_UNSUPPORTED, "the grammar has more than %d rules", (int)GRAMMAR_MOST_RULES);
    const size_t n = grammar->n_rules;
    if (!keep(grammar,
              mem_grow(&grammar->rules, &grammar->rule_capacity, n + 1, sizeof rule, "grammar", &grammar->problem)) ||
        !keep(grammar, mem_alloc(&rule, 1, sizeof *rule, "grammar", &grammar->problem)))
        return 0;
    grammar->rules[n] = rule;
    grammar->n_rules = n + 1;
    rule->start = nfa_state(&rule->nfa);
    rule->end = nfa_state(&rule->nfa);
    if (name != NULL)
        (void)keep(grammar, mem_strdup(&rule->name, name, length, &grammar->problem));
    return (uint32_t)n;
}

struct nfa *grammar_nfa(struct grammar *grammar, uint32_t rule)
{
    assert(grammar != NULL);
    if (rule < grammar->n_rules)
        return &grammar->rules[rule]->nfa;
    grammar->none.status = grammar->status; /* there was no memory for a rule: what is built goes nowhere */
    return &grammar->none;
}

uint32_t grammar_start(const struct grammar *grammar, uint32_t rule)
{
    return rule < grammar->n_rules ? grammar->rules[rule]->start : 0;
}

void grammar_end(struct grammar *grammar, uint32_t rule, uint32_t state)
{
    if (rule < grammar->n_rules)
        nfa_skip(grammar_nfa(grammar, rule), state, grammar->rules[rule]->end);
}

static uint32_t label_edge(struct grammar *grammar, uint32_t in, uint32_t from, uint32_t label)
{
    struct nfa *nfa = grammar_nfa(grammar, in);
    const uint32_t to = nfa_state(nfa);
    nfa_edge(nfa, from, label, label, to);
    return to;
}

uint32_t grammar_refer(struct grammar *grammar, uint32_t in, uint32_t from, uint32_t rule)
{
    return label_edge(grammar, in, from, rule_label(rule));
}

uint32_t grammar_repeat(struct grammar *grammar, uint32_t in, uint32_t from, uint32_t rule, uint32_t least,
                        uint32_t most)
{
    const size_t n = grammar->n_repetitions;
    if (most == 0)
        return from;
    if (least == 1 && most == 1)
        return grammar_refer(grammar, in, from, rule);
    if (!keep(grammar, mem_grow(&grammar->repetitions, &grammar->repetition_capacity, n + 1,
                                sizeof *grammar->repetitions, "grammar", &grammar->problem)))
        return from;
    grammar->repetitions[n] = (struct repetition){rule, least, most};
    grammar->n_repetitions = n + 1;
    return label_edge(grammar, in, from, repeat_label((uint32_t)n));
}

cohort_status grammar_check(const struct grammar *grammar, cohort_error *err)
{
    if (grammar->status != COHORT_OK)
        return error_set(err, grammar->status, "%s", grammar->problem.message);
    for (size_t i = 0; i < grammar->n_rules; i++)
        TRY(nfa_check(&grammar->rules[i]->nfa, err));
    return COHORT_OK;
}

void grammar_free(struct grammar *grammar)
{
    for (size_t i = 0; i < grammar->n_rules; i++) {
        nfa_free(&grammar->rules[i]->nfa);
        mem_free(grammar->rules[i]->name);
        mem_free(grammar->rules[i]);
    }
    mem_free(grammar->rules);
    mem_free(grammar->repetitions);
    memset(grammar, 0, sizeof *grammar);
}

/* ---- Sets ---- */

cohort_status range_set_add(struct range_set *set, uint32_t first, uint32_t last, cohort_error *err)
{
    TRY(mem_grow(&set->list, &set->capacity, set->n + 1, sizeof *set->list, "grammar", err));
    set->list[set->n][0] = first;
    set->list[set->n++][1] = last;
    return COHORT_OK;
}

static int by_first(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;
    return (x[0] > y[0]) - (x[0] < y[0]);
}

void range_set_normalize(struct range_set *set)
{
    size_t n = 0;
    if (set->n == 0)
        return;
    qsort(set->list, set->n, sizeof *set->list, by_first);
    for (size_t i = 1; i < set->n; i++) {
        if (set->list[i][0] <= set->list[n][1] + 1) {
            if (set->list[i][1] > set->list[n][1])
                set->list[n][1] = set->list[i][1];
        } else {
            n++;
            set->list[n][0] = set->list[i][0];
            set->list[n][1] = set->list[i][1];
        }
    }
    set->n = n + 1;
}

cohort_status range_set_invert(struct range_set *set, uint32_t last, cohort_error *err)
{
    struct range_set other = {0};
    uint32_t from = 0;
    cohort_status status = COHORT_OK;
    range_set_normalize(set);
    for (size_t i = 0; i < set->n; i++) {
        if (set->list[i][0] > from)
            TRY_GOTO(range_set_add(&other, from, set->list[i][0] - 1, err));
        from = set->list[i][1] + 1;
    }
    if (from <= last)
        TRY_GOTO(range_set_add(&other, from, last, err));
    range_set_free(set);
    *set = other;
    return COHORT_OK;
cleanup:
    range_set_free(&other);
    return status;
}

cohort_status range_set_fold(struct range_set *set, cohort_error *err)
{
    const size_t n = set->n;
    for (size_t i = 0; i < n; i++) {
        if (set->list[i][0] == 0 && set->list[i][1] >= CODE_POINT_LAST)
            continue;
        for (uint32_t c = set->list[i][0]; c <= set->list[i][1] && c <= CODE_POINT_LAST; c++) {
            const uint32_t lower = (uint32_t)utf8proc_tolower((utf8proc_int32_t)c),
                           upper = (uint32_t)utf8proc_toupper((utf8proc_int32_t)c);
            if (lower != c)
                TRY(range_set_add(set, lower, lower, err));
            if (upper != c)
                TRY(range_set_add(set, upper, upper, err));
        }
    }
    range_set_normalize(set);
    return COHORT_OK;
}

void range_set_free(struct range_set *set)
{
    mem_free(set->list);
    memset(set, 0, sizeof *set);
}

/* ---- Expressions ---- */

void exprs_free(struct exprs *exprs)
{
    mem_free(exprs->list);
    mem_free(exprs->parts);
    mem_free(exprs->ranges);
    memset(exprs, 0, sizeof *exprs);
}

static cohort_status expr_add(struct exprs *exprs, struct expr expr, uint32_t *out, cohort_error *err)
{
    TRY(mem_grow(&exprs->list, &exprs->capacity, exprs->n + 1, sizeof *exprs->list, "grammar", err));
    *out = (uint32_t)exprs->n;
    exprs->list[exprs->n++] = expr;
    return COHORT_OK;
}

cohort_status expr_empty(struct exprs *exprs, uint32_t *out, cohort_error *err)
{
    return expr_add(exprs, (struct expr){.kind = EXPR_EMPTY}, out, err);
}

static cohort_status add_ranges(struct exprs *exprs, enum expr_kind kind, const struct range_set *set, uint32_t *out,
                                cohort_error *err)
{
    const size_t at = exprs->n_ranges;
    TRY(mem_grow(&exprs->ranges, &exprs->range_capacity, at + set->n + 1, sizeof *exprs->ranges, "grammar", err));
    if (set->n > 0)
        memcpy(exprs->ranges + at, set->list, set->n * sizeof *set->list);
    exprs->n_ranges = at + set->n;
    return expr_add(exprs,
                    (struct expr){.kind = kind, .at = (uint32_t)at, .n = (uint32_t)set->n, .weight = 2 * set->n + 1},
                    out, err);
}

cohort_status expr_set(struct exprs *exprs, const struct range_set *set, uint32_t *out, cohort_error *err)
{
    return add_ranges(exprs, EXPR_SET, set, out, err);
}

cohort_status expr_tokens(struct exprs *exprs, const struct range_set *ids, uint32_t *out, cohort_error *err)
{
    return add_ranges(exprs, EXPR_TOKENS, ids, out, err);
}

cohort_status expr_char(struct exprs *exprs, uint32_t code_point, uint32_t *out, cohort_error *err)
{
    uint32_t list[1][2] = {{code_point, code_point}};
    return expr_set(exprs, &(struct range_set){.list = list, .n = 1}, out, err);
}

cohort_status expr_text(struct exprs *exprs, const char *text, size_t length, bool fold, uint32_t *out,
                        cohort_error *err)
{
    uint32_t *parts = NULL;
    size_t n = 0;
    cohort_status status = COHORT_OK;
    TRY_GOTO(mem_alloc(&parts, length + 1, sizeof *parts, "grammar", err));
    for (size_t i = 0; i < length; n++) {
        uint32_t c = 0;
        i += utf8_decode(text + i, &c);
        if (!fold) {
            TRY_GOTO(expr_char(exprs, c, &parts[n], err));
            continue;
        }
        struct range_set set = {0};
        status = range_set_add(&set, c, c, err);
        if (status == COHORT_OK)
            status = range_set_fold(&set, err);
        if (status == COHORT_OK)
            status = expr_set(exprs, &set, &parts[n], err);
        range_set_free(&set);
        if (status != COHORT_OK)
            goto cleanup;
    }
    TRY_GOTO(expr_list(exprs, EXPR_JOIN, parts, n, out, err));
cleanup:
    mem_free(parts);
    return status;
}

static uint64_t bounded(uint64_t weight) { return weight < 1u << 30 ? weight : 1u << 30; }

cohort_status expr_list(struct exprs *exprs, enum expr_kind kind, const uint32_t *parts, size_t n, uint32_t *out,
                        cohort_error *err)
{
    const size_t at = exprs->n_parts;
    uint64_t weight = 1;
    if (n == 1) {
        *out = parts[0];
        return COHORT_OK;
    }
    TRY(mem_grow(&exprs->parts, &exprs->part_capacity, at + n + 1, sizeof *exprs->parts, "grammar", err));
    for (size_t i = 0; i < n; i++) {
        exprs->parts[at + i] = parts[i];
        weight = bounded(weight + exprs->list[parts[i]].weight);
    }
    exprs->n_parts = at + n;
    return expr_add(exprs, (struct expr){.kind = kind, .at = (uint32_t)at, .n = (uint32_t)n, .weight = weight}, out,
                    err);
}

cohort_status expr_repeat(struct exprs *exprs, uint32_t part, uint32_t least, uint32_t most, uint32_t *out,
                          cohort_error *err)
{
    const uint64_t times = most == REPEAT_FOREVER ? (uint64_t)least + 1 : most;
    return expr_add(exprs,
                    (struct expr){.kind = EXPR_REPEAT,
                                  .rule = part,
                                  .least = least,
                                  .most = most,
                                  .weight = bounded(times * exprs->list[part].weight + 1)},
                    out, err);
}

cohort_status expr_rule(struct exprs *exprs, uint32_t rule, uint32_t *out, cohort_error *err)
{
    return expr_add(exprs, (struct expr){.kind = EXPR_RULE, .rule = rule, .weight = 1}, out, err);
}

cohort_status expr_mark(struct exprs *exprs, enum expr_kind kind, uint32_t *out, cohort_error *err)
{
    return expr_add(exprs, (struct expr){.kind = kind, .weight = 1}, out, err);
}

/* ---- Expressions as automata ---- */

/* A repetition becomes copies while it is small, beyond that it is counted. */
enum { COPIED_WEIGHT = 96 };

struct emission {
    const struct exprs *exprs;
    struct grammar *grammar; /* NULL: over code points */
    uint32_t in;
    struct nfa *nfa;
};

static uint32_t emit(const struct emission *e, uint32_t expr, uint32_t from);

static uint32_t emit_copies(const struct emission *e, const struct expr *x, uint32_t from)
{
    for (uint32_t i = 0; i < x->least && e->nfa->status == COHORT_OK; i++)
        from = emit(e, x->rule, from);
    if (x->most == REPEAT_FOREVER) {
        const uint32_t loop = nfa_state(e->nfa);
        nfa_skip(e->nfa, from, loop);
        nfa_skip(e->nfa, emit(e, x->rule, loop), loop);
        return loop;
    }
    const uint32_t end = nfa_state(e->nfa);
    for (uint32_t i = x->least; i < x->most && e->nfa->status == COHORT_OK; i++) {
        nfa_skip(e->nfa, from, end);
        from = emit(e, x->rule, from);
    }
    nfa_skip(e->nfa, from, end);
    return end;
}

static uint32_t emit_repeat(const struct emission *e, const struct expr *x, uint32_t from)
{
    const bool plain = x->least <= 1 && (x->most == REPEAT_FOREVER || x->most <= 1);
    if (e->grammar == NULL || plain || x->weight <= COPIED_WEIGHT)
        return emit_copies(e, x, from);
    const uint32_t body = grammar_rule(e->grammar, NULL, 0);
    grammar_end(e->grammar, body, expr_to_rule(e->exprs, x->rule, e->grammar, body, grammar_start(e->grammar, body)));
    return grammar_repeat(e->grammar, e->in, from, body, x->least, x->most);
}

static uint32_t emit(const struct emission *e, uint32_t expr, uint32_t from)
{
    const struct expr *x = &e->exprs->list[expr];
    struct nfa *nfa = e->nfa;
    uint32_t to = 0;
    if (nfa->status != COHORT_OK)
        return from;
    switch (x->kind) {
    case EXPR_EMPTY: return from;
    case EXPR_SET:
    case EXPR_TOKENS:
        to = nfa_state(nfa);
        for (uint32_t i = x->at; i < x->at + x->n; i++) {
            const uint32_t lo = e->exprs->ranges[i][0], hi = e->exprs->ranges[i][1];
            if (x->kind == EXPR_TOKENS)
                nfa_edge(nfa, from, LABEL_TOKEN + lo, LABEL_TOKEN + hi, to);
            else if (e->grammar == NULL)
                nfa_edge(nfa, from, lo, hi, to);
            else
                nfa_utf8(nfa, from, lo, hi, to);
        }
        return to;
    case EXPR_JOIN:
        for (uint32_t i = x->at; i < x->at + x->n; i++)
            from = emit(e, e->exprs->parts[i], from);
        return from;
    case EXPR_EITHER:
        to = nfa_state(nfa);
        for (uint32_t i = x->at; i < x->at + x->n; i++) {
            /* Each alternative has a start of its own: a loop that begins one would else lead into the others. */
            const uint32_t start = nfa_state(nfa);
            nfa_skip(nfa, from, start);
            nfa_skip(nfa, emit(e, e->exprs->parts[i], start), to);
        }
        return to;
    case EXPR_REPEAT: return emit_repeat(e, x, from);
    case EXPR_RULE: return grammar_refer(e->grammar, e->in, from, x->rule);
    case EXPR_BEGIN:
    case EXPR_END:
        if (e->grammar != NULL)
            return from; /* the parser has seen that it stands where it says nothing */
        to = nfa_state(nfa);
        nfa_edge(nfa, from, CODE_POINT_LAST + 1 + (x->kind == EXPR_END), CODE_POINT_LAST + 1 + (x->kind == EXPR_END),
                 to);
        return to;
    }
    return from;
}

uint32_t expr_to_rule(const struct exprs *exprs, uint32_t expr, struct grammar *grammar, uint32_t in, uint32_t from)
{
    const struct emission e = {exprs, grammar, in, grammar_nfa(grammar, in)};
    return emit(&e, expr, from);
}

uint32_t expr_to_chars(const struct exprs *exprs, uint32_t expr, struct nfa *nfa, uint32_t from)
{
    const struct emission e = {exprs, NULL, 0, nfa};
    return emit(&e, expr, from);
}

#include "guide/guide_read.h"

#include "base/json_text.h"
#include "base/utf8.h"

#include <string.h>

static cohort_status read_regex(struct guide_reading *r, const char *text, size_t length, uint32_t root,
                                cohort_error *err)
{
    struct exprs exprs = {0};
    uint32_t expr = 0;
    cohort_status status = regex_parse(&exprs, text, length, REGEX_WHOLE, 0, r->origin, &expr, err);
    if (status == COHORT_OK)
        grammar_end(r->grammar, root, expr_to_rule(&exprs, expr, r->grammar, root, grammar_start(r->grammar, root)));
    exprs_free(&exprs);
    return status;
}

static cohort_status read_choice(struct guide_reading *r, const char *text, size_t length, uint32_t root,
                                 cohort_error *err)
{
    json_t *list = NULL;
    cohort_status status = COHORT_OK;
    TRY(json_text_parse(&list, text, length, r->origin, 1, JSON_TEXT_NUL, err));
    if (json_array_size(list) == 0)
        status = error_set(err, COHORT_ERR_ARGUMENT, "%s: expected a list of texts, at least one", r->origin);
    for (size_t i = 0; i < json_array_size(list) && status == COHORT_OK; i++) {
        const json_t *item = json_array_get(list, i);
        if (!json_is_string(item))
            status = error_set(err, COHORT_ERR_ARGUMENT, "%s: choice %zu is not a text", r->origin, i + 1);
        else
            grammar_end(r->grammar, root,
                        nfa_bytes(grammar_nfa(r->grammar, root), grammar_start(r->grammar, root),
                                  json_string_value(item), json_string_length(item)));
    }
    json_decref(list);
    return status;
}

bool guide_looks_like_grammar(const char *text, size_t length)
{
    return guide_is_gbnf(text, length) || guide_is_lark(text, length);
}

static cohort_status read_grammar(struct guide_reading *r, const char *text, size_t length, uint32_t root,
                                  cohort_error *err)
{
    enum guide_notation notation = r->options->notation;
    if (notation == GUIDE_NOTATION_AUTO)
        notation = guide_is_lark(text, length)   ? GUIDE_NOTATION_LARK
                   : guide_is_gbnf(text, length) ? GUIDE_NOTATION_GBNF
                                                 : GUIDE_NOTATION_AUTO;
    if (notation == GUIDE_NOTATION_AUTO)
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s: neither GBNF (root ::= ...) nor Lark (start: ...); guided_grammar_kind says which it is",
                         r->origin);
    return notation == GUIDE_NOTATION_GBNF ? guide_read_gbnf(r, text, length, root, err)
                                           : guide_read_lark(r, text, length, root, err);
}

typedef cohort_status reader(struct guide_reading *reading, const char *text, size_t length, uint32_t root,
                             cohort_error *err);
static reader *const readers[GUIDE_KINDS] = {[GUIDE_REGEX] = read_regex,
                                             [GUIDE_CHOICE] = read_choice,
                                             [GUIDE_JSON] = guide_read_json,
                                             [GUIDE_GRAMMAR] = read_grammar,
                                             [GUIDE_TOOLS] = guide_read_tools};

cohort_status guide_read(struct grammar *grammar, const struct guide_vocabulary *vocabulary, enum guide_kind kind,
                         const char *text, size_t length, const struct guide_options *options, const char *origin,
                         struct text *ignored, cohort_error *err)
{
    struct guide_reading reading = {
        .grammar = grammar, .vocabulary = vocabulary, .options = options, .origin = origin, .ignored = ignored};
    uint32_t root = grammar_rule(grammar, "root", 4);
    if (options->after >= 0) { /* what stands between </think> and an answer */
        struct nfa *nfa = grammar_nfa(grammar, root);
        const uint32_t start = grammar_start(grammar, root), one = nfa_bytes(nfa, start, "\n", 1),
                       two = nfa_bytes(nfa, one, "\n", 1), begin = nfa_state(nfa),
                       inner = grammar_rule(grammar, NULL, 0);
        nfa_skip(nfa, start, begin);
        nfa_skip(nfa, one, begin);
        nfa_skip(nfa, two, begin);
        grammar_end(grammar, root, grammar_refer(grammar, root, begin, inner));
        root = inner;
    }
    TRY(readers[kind](&reading, text, length, root, err));
    const cohort_status status = grammar_check(grammar, err);
    if (status != COHORT_OK)
        error_context(err, "%s", origin);
    return status;
}

cohort_status guide_create(struct guide **out, const struct guide_vocabulary *vocabulary, enum guide_kind kind,
                           const char *text, size_t length, const struct guide_options *options, const char *origin,
                           struct text *ignored, cohort_error *err)
{
    struct grammar grammar = {0};
    *out = NULL;
    cohort_status status = guide_read(&grammar, vocabulary, kind, text, length, options, origin, ignored, err);
    if (status == COHORT_OK)
        status = guide_of_grammar(out, vocabulary, &grammar, options, origin, err);
    grammar_free(&grammar);
    return status;
}

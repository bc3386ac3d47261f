/* From tokens to nodes: expressions, with jinja2's precedences: "a ~ b" binds tighter than "+", filters and tests bind
 * tighter than any operator. */
#include "text/jinja_internal.h"

#include <string.h>

static cohort_status parse_condition(struct jinja_parser *parser, struct jinja_node **out);
static cohort_status parse_or(struct jinja_parser *parser, struct jinja_node **out);
static cohort_status parse_postfix(struct jinja_parser *parser, struct jinja_node *node, struct jinja_node **out);

/* The parser calls itself for what stands in brackets and behind prefixes; this bounds its stack. */
static cohort_status enter(struct jinja_parser *parser)
{
    if (parser->depth++ < PARSE_DEPTH)
        return COHORT_OK;
    return jinja_parse_fail(parser, COHORT_ERR_UNSUPPORTED, jinja_token(parser)->line, "nested more than %d deep",
                            (int)PARSE_DEPTH);
}

static cohort_status parse_inner(struct jinja_parser *parser, bool with_condition, struct jinja_node **out)
{
    TRY(enter(parser));
    TRY(with_condition ? parse_condition(parser, out) : parse_or(parser, out));
    parser->depth--;
    return COHORT_OK;
}

/* A node over one child. */
static cohort_status node_over(struct jinja_parser *parser, enum jinja_node_type type, int32_t line,
                               struct jinja_node *left, struct jinja_node **out)
{
    TRY(jinja_node_new(parser, type, line, out));
    (*out)->left = left;
    return jinja_node_above(parser, *out, left);
}

/* ---- names and literals ---- */

static cohort_status parse_name(struct jinja_parser *parser, struct jinja_node **out)
{
    static const char *const constants[] = {"true", "True", "false", "False", "none", "None"};
    const struct jinja_token *token = jinja_token(parser);
    TRY(jinja_node_new(parser, NODE_NAME, token->line, out));
    parser->at++;
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++) {
        if (!jinja_is_name(token, constants[i]))
            continue;
        (*out)->type = NODE_CONSTANT;
        (*out)->constant = i < 4 ? jinja_bool(i < 2) : (struct jinja_value){.kind = KIND_NONE};
        return COHORT_OK;
    }
    TRY(jinja_intern(parser, token->bytes, token->length, &(*out)->name));
    const struct jinja_template *template = parser->template;
    for (struct jinja_signature *s = parser->signature; s != NULL; s = s->outer) {
        s->uses_caller |= (*out)->name == template->caller;
        s->uses_varargs |= (*out)->name == template->varargs;
        s->uses_kwargs |= (*out)->name == template->kwargs;
    }
    return COHORT_OK;
}

/* One string, or several that stand side by side. */
static cohort_status parse_string(struct jinja_parser *parser, struct jinja_node **out)
{
    const struct jinja_token *first = jinja_token(parser);
    size_t length = 0;
    const size_t from = parser->at;
    TRY(jinja_node_new(parser, NODE_CONSTANT, first->line, out));
    for (; jinja_token(parser)->type == TOKEN_STRING; parser->at++)
        length += jinja_token(parser)->length;
    if (parser->at == from + 1)
        return jinja_literal(parser, first->bytes, first->length, &(*out)->constant);
    char *bytes = NULL;
    TRY(jinja_arena_take(&parser->template->arena, &bytes, length + 1, parser->err));
    length = 0;
    for (size_t i = from; i < parser->at; i++) {
        memcpy(bytes + length, parser->tokens[i].bytes, parser->tokens[i].length);
        length += parser->tokens[i].length;
    }
    return jinja_literal(parser, bytes, length, &(*out)->constant);
}

/* [a, b] or {a: b, c: d}; the opening bracket was stepped over. */
static cohort_status parse_items(struct jinja_parser *parser, const char *closing, struct jinja_node *node)
{
    struct jinja_node_list list = {0};
    cohort_status status = COHORT_OK;
    const bool dict = node->type == NODE_DICT;
    while (!jinja_is_operator(jinja_token(parser), closing)) {
        struct jinja_node *item = NULL;
        if (list.count > 0 && !jinja_skip_operator(parser, ",")) {
            status = jinja_expected(parser, dict ? "',' or '}'" : "',' or ']'");
            goto cleanup;
        }
        if (jinja_is_operator(jinja_token(parser), closing))
            break;
        TRY_GOTO(parse_inner(parser, true, &item));
        TRY_GOTO(jinja_node_push(parser, &list, item));
        if (!dict)
            continue;
        if (!jinja_skip_operator(parser, ":")) {
            status = jinja_expected(parser, "':'");
            goto cleanup;
        }
        TRY_GOTO(parse_inner(parser, true, &item));
        TRY_GOTO(jinja_node_push(parser, &list, item));
    }
    parser->at++;
    return jinja_node_keep(parser, &list, node);
cleanup:
    mem_free(list.items);
    return status;
}

/* Whether a tuple without brackets ends here. */
static bool tuple_ends(const struct jinja_token *token)
{
    return token->type == TOKEN_PRINT_END || token->type == TOKEN_BLOCK_END || jinja_is_operator(token, ")");
}

static cohort_status parse_tuple(struct jinja_parser *parser, bool with_condition, bool in_brackets,
                                 struct jinja_node **out)
{
    struct jinja_node_list list = {0};
    cohort_status status = COHORT_OK;
    const int32_t line = jinja_token(parser)->line;
    bool is_tuple = false;
    for (;;) {
        struct jinja_node *item = NULL;
        if (tuple_ends(jinja_token(parser)))
            break;
        TRY_GOTO(parse_inner(parser, with_condition, &item));
        TRY_GOTO(jinja_node_push(parser, &list, item));
        *out = item;
        if (!jinja_skip_operator(parser, ","))
            break;
        is_tuple = true;
    }
    if (list.count == 0 && !in_brackets) {
        status = jinja_expected(parser, "an expression");
        goto cleanup;
    }
    if (is_tuple || list.count == 0) {
        TRY_GOTO(jinja_node_new(parser, NODE_TUPLE, line, out));
        return jinja_node_keep(parser, &list, *out);
    }
cleanup:
    mem_free(list.items);
    return status;
}

static cohort_status parse_primary(struct jinja_parser *parser, struct jinja_node **out)
{
    const struct jinja_token *token = jinja_token(parser);
    switch (token->type) {
    case TOKEN_NAME: return parse_name(parser, out);
    case TOKEN_STRING: return parse_string(parser, out);
    case TOKEN_INTEGER:
    case TOKEN_FLOAT:
        TRY(jinja_node_new(parser, NODE_CONSTANT, token->line, out));
        parser->at++;
        (*out)->constant = token->type == TOKEN_INTEGER
                               ? jinja_int(token->integer)
                               : (struct jinja_value){.kind = KIND_FLOAT, .u.real = token->real};
        return COHORT_OK;
    default: break;
    }
    if (jinja_skip_operator(parser, "(")) {
        TRY(parse_tuple(parser, true, true, out));
        return jinja_skip_operator(parser, ")") ? COHORT_OK : jinja_expected(parser, "')'");
    }
    const bool list = jinja_is_operator(token, "[");
    if (!list && !jinja_is_operator(token, "{"))
        return jinja_expected(parser, "an expression");
    parser->at++;
    TRY(jinja_node_new(parser, list ? NODE_LIST : NODE_DICT, token->line, out));
    return parse_items(parser, list ? "]" : "}", *out);
}

/* ---- what stands behind: attributes, items, calls, filters, tests ---- */

static cohort_status new_attribute(struct jinja_parser *parser, struct jinja_node *left,
                                   const struct jinja_token *token, struct jinja_node **out)
{
    TRY(node_over(parser, NODE_ATTRIBUTE, token->line, left, out));
    TRY(jinja_intern(parser, token->bytes, token->length, &(*out)->name));
    const struct jinja_string *name = parser->template->names[(*out)->name];
    (*out)->constant = jinja_string_value(name);
    (*out)->builtin = jinja_find_method(name->bytes);
    return COHORT_OK;
}

/* One bound of a slice, or NULL where none stands. */
static cohort_status parse_bound(struct jinja_parser *parser, struct jinja_node **out)
{
    const struct jinja_token *token = jinja_token(parser);
    *out = NULL;
    if (jinja_is_operator(token, ":") || jinja_is_operator(token, "]") || jinja_is_operator(token, ","))
        return COHORT_OK;
    return parse_inner(parser, true, out);
}

/* What stands between [ and ]. */
static cohort_status parse_item(struct jinja_parser *parser, struct jinja_node *left, int32_t line,
                                struct jinja_node **out)
{
    struct jinja_node *bounds[3] = {NULL, NULL, NULL};
    TRY(parse_bound(parser, &bounds[0]));
    if (jinja_skip_operator(parser, ":")) {
        TRY(node_over(parser, NODE_SLICE, line, left, out));
        TRY(parse_bound(parser, &bounds[1]));
        if (jinja_skip_operator(parser, ":"))
            TRY(parse_bound(parser, &bounds[2]));
        TRY(jinja_arena_take(&parser->template->arena, &(*out)->items, sizeof bounds, parser->err));
        for (size_t i = 0; i < 3; i++) {
            (*out)->items[i] = bounds[i];
            TRY(jinja_node_above(parser, *out, bounds[i]));
        }
    } else {
        if (bounds[0] == NULL)
            return jinja_expected(parser, "an index");
        TRY(node_over(parser, NODE_ITEM, line, left, out));
        (*out)->right = bounds[0];
        TRY(jinja_node_above(parser, *out, bounds[0]));
    }
    return jinja_skip_operator(parser, "]") ? COHORT_OK : jinja_expected(parser, "']'");
}

struct argument_lists {
    struct jinja_node_list values, named;
    int32_t *names;
    size_t names_capacity;
};

static cohort_status parse_argument(struct jinja_parser *parser, struct argument_lists *lists,
                                    struct jinja_arguments *arguments)
{
    struct jinja_node *value = NULL;
    const struct jinja_token *token = jinja_token(parser);
    if (jinja_skip_operator(parser, "*")) {
        if (arguments->star != NULL || arguments->double_star != NULL)
            return jinja_expected(parser, "one *list at most");
        TRY(parse_inner(parser, true, &value));
        arguments->star = value;
        return COHORT_OK;
    }
    if (jinja_skip_operator(parser, "**")) {
        TRY(parse_inner(parser, true, &value));
        arguments->double_star = value;
        return COHORT_OK;
    }
    if (arguments->double_star != NULL)
        return jinja_expected(parser, "')' behind **dict");
    if (token->type == TOKEN_NAME && jinja_is_operator(token + 1, "=")) {
        const size_t n = lists->named.count;
        parser->at += 2;
        TRY(parse_inner(parser, true, &value));
        TRY(mem_grow(&lists->names, &lists->names_capacity, n + 1, sizeof *lists->names, "names of arguments",
                     parser->err));
        TRY(jinja_intern(parser, token->bytes, token->length, &lists->names[n]));
        for (size_t i = 0; i < n; i++)
            if (lists->names[i] == lists->names[n])
                return jinja_parse_fail(parser, COHORT_ERR_FORMAT, token->line, "the argument '%.*s' stands twice",
                                        (int)(token->length < 60 ? token->length : 60), token->bytes);
        return jinja_node_push(parser, &lists->named, value);
    }
    if (lists->named.count > 0 || arguments->star != NULL)
        return jinja_expected(parser, "NAME=value behind an argument with a name");
    TRY(parse_inner(parser, true, &value));
    return jinja_node_push(parser, &lists->values, value);
}

static cohort_status keep_arguments(struct jinja_parser *parser, const struct argument_lists *lists,
                                    struct jinja_node *node, struct jinja_arguments *arguments)
{
    const size_t count = lists->values.count, n_named = lists->named.count;
    int32_t *names = NULL;
    if (count + n_named > 0)
        TRY(jinja_arena_take(&parser->template->arena, &arguments->values,
                             (count + n_named) * sizeof *arguments->values, parser->err));
    if (n_named > 0) {
        TRY(jinja_arena_take(&parser->template->arena, &names, n_named * sizeof *names, parser->err));
        memcpy(names, lists->names, n_named * sizeof *names);
    }
    for (size_t i = 0; i < count + n_named; i++) {
        arguments->values[i] = i < count ? lists->values.items[i] : lists->named.items[i - count];
        TRY(jinja_node_above(parser, node, arguments->values[i]));
    }
    TRY(jinja_node_above(parser, node, arguments->star));
    TRY(jinja_node_above(parser, node, arguments->double_star));
    arguments->names = names;
    arguments->count = count;
    arguments->n_named = n_named;
    node->arguments = arguments;
    return COHORT_OK;
}

/* What stands between ( and ), which are stepped over. */
static cohort_status parse_arguments(struct jinja_parser *parser, struct jinja_node *node)
{
    struct argument_lists lists = {0};
    struct jinja_arguments *arguments = NULL;
    cohort_status status = COHORT_OK;
    TRY(jinja_arena_take(&parser->template->arena, &arguments, sizeof *arguments, parser->err));
    parser->at++;
    for (bool first = true; !jinja_is_operator(jinja_token(parser), ")"); first = false) {
        if (!first && !jinja_skip_operator(parser, ",")) {
            status = jinja_expected(parser, "',' or ')'");
            goto cleanup;
        }
        if (!first && jinja_is_operator(jinja_token(parser), ")"))
            break;
        TRY_GOTO(parse_argument(parser, &lists, arguments));
    }
    parser->at++;
    TRY_GOTO(keep_arguments(parser, &lists, node, arguments));
cleanup:
    mem_free(lists.values.items);
    mem_free(lists.named.items);
    mem_free(lists.names);
    return status;
}

static cohort_status parse_call(struct jinja_parser *parser, struct jinja_node *callee, struct jinja_node **out)
{
    TRY(node_over(parser, NODE_CALL, jinja_token(parser)->line, callee, out));
    return parse_arguments(parser, *out);
}

static cohort_status parse_postfix(struct jinja_parser *parser, struct jinja_node *node, struct jinja_node **out)
{
    for (;; node = *out) {
        *out = node;
        const int32_t line = jinja_token(parser)->line;
        if (jinja_skip_operator(parser, ".")) {
            const struct jinja_token *token = jinja_token(parser);
            if (token->type == TOKEN_NAME) {
                TRY(new_attribute(parser, node, token, out));
            } else if (token->type == TOKEN_INTEGER) { /* list.0 */
                struct jinja_node *index = NULL;
                TRY(jinja_node_new(parser, NODE_CONSTANT, line, &index));
                index->constant = jinja_int(token->integer);
                TRY(node_over(parser, NODE_ITEM, line, node, out));
                (*out)->right = index;
            } else {
                return jinja_expected(parser, "a name or number behind '.'");
            }
            parser->at++;
        } else if (jinja_skip_operator(parser, "[")) {
            TRY(parse_item(parser, node, line, out));
        } else if (jinja_is_operator(jinja_token(parser), "(")) {
            TRY(parse_call(parser, node, out));
        } else {
            return COHORT_OK;
        }
    }
}

/* The dotted name of a filter or test; *builtin is what find finds. */
static cohort_status parse_builtin(struct jinja_parser *parser, const char *kind,
                                   const struct jinja_builtin *(*find)(const char *name),
                                   const struct jinja_builtin **builtin)
{
    char name[64];
    size_t n = 0;
    const int32_t line = jinja_token(parser)->line;
    do {
        const struct jinja_token *token = jinja_token(parser);
        if (token->type != TOKEN_NAME)
            return jinja_expected(parser, kind);
        for (size_t i = 0; i < token->length && n + 2 < sizeof name; i++)
            name[n++] = token->bytes[i];
        name[n++] = '.';
        parser->at++;
    } while (n + 2 < sizeof name && jinja_skip_operator(parser, "."));
    name[n - 1] = '\0';
    *builtin = find(name);
    if (*builtin == NULL || (*builtin)->run == NULL)
        return jinja_parse_fail(parser, COHORT_ERR_UNSUPPORTED, line, "%s named '%s' is not supported", kind, name);
    return COHORT_OK;
}

static cohort_status parse_filter(struct jinja_parser *parser, struct jinja_node *node, struct jinja_node **out)
{
    const int32_t line = jinja_token(parser)->line;
    const struct jinja_builtin *builtin = NULL;
    TRY(parse_builtin(parser, "a filter", jinja_find_filter, &builtin));
    TRY(node_over(parser, NODE_FILTER, line, node, out));
    (*out)->builtin = builtin;
    return jinja_is_operator(jinja_token(parser), "(") ? parse_arguments(parser, *out) : COHORT_OK;
}

cohort_status jinja_parse_filters(struct jinja_parser *parser, struct jinja_node *node, bool inline_first,
                                  struct jinja_node **out)
{
    *out = node;
    while (inline_first || jinja_skip_operator(parser, "|")) {
        inline_first = false;
        TRY(parse_filter(parser, *out, out));
    }
    return COHORT_OK;
}

/* Whether the argument of a test stands here without brackets: "x is divisibleby 3". */
static bool test_argument(const struct jinja_token *token)
{
    if (token->type == TOKEN_NAME)
        return !jinja_is_name(token, "else") && !jinja_is_name(token, "or") && !jinja_is_name(token, "and");
    return token->type == TOKEN_STRING || token->type == TOKEN_INTEGER || token->type == TOKEN_FLOAT ||
           jinja_is_operator(token, "[") || jinja_is_operator(token, "{");
}

static cohort_status parse_test(struct jinja_parser *parser, struct jinja_node *node, struct jinja_node **out)
{
    const int32_t line = jinja_token(parser)->line;
    const bool negated = jinja_skip_name(parser, "not");
    const struct jinja_builtin *builtin = NULL;
    struct jinja_node *test = NULL, *argument = NULL;
    TRY(parse_builtin(parser, "a test", jinja_find_test, &builtin));
    TRY(node_over(parser, NODE_TEST, line, node, &test));
    test->builtin = builtin;
    if (jinja_is_operator(jinja_token(parser), "(")) {
        TRY(parse_arguments(parser, test));
    } else if (test_argument(jinja_token(parser))) {
        if (jinja_is_name(jinja_token(parser), "is"))
            return jinja_parse_fail(parser, COHORT_ERR_FORMAT, line, "tests cannot be chained with 'is'");
        struct argument_lists lists = {0};
        struct jinja_arguments *arguments = NULL;
        TRY(enter(parser));
        TRY(parse_primary(parser, &argument));
        TRY(parse_postfix(parser, argument, &argument));
        parser->depth--;
        TRY(jinja_arena_take(&parser->template->arena, &arguments, sizeof *arguments, parser->err));
        cohort_status status = jinja_node_push(parser, &lists.values, argument);
        if (status == COHORT_OK)
            status = keep_arguments(parser, &lists, test, arguments);
        mem_free(lists.values.items);
        TRY(status);
    }
    *out = test;
    return negated ? node_over(parser, NODE_NOT, line, test, out) : COHORT_OK;
}

/* ---- operators ---- */

static cohort_status parse_unary(struct jinja_parser *parser, bool with_filters, struct jinja_node **out)
{
    const struct jinja_token *token = jinja_token(parser);
    const bool minus = jinja_is_operator(token, "-");
    struct jinja_node *node = NULL;
    if (minus || jinja_is_operator(token, "+")) {
        parser->at++;
        TRY(enter(parser));
        TRY(parse_unary(parser, false, &node));
        parser->depth--;
        TRY(node_over(parser, minus ? NODE_NEGATE : NODE_PLUS, token->line, node, &node));
    } else {
        TRY(parse_primary(parser, &node));
    }
    TRY(parse_postfix(parser, node, &node));
    while (with_filters) {
        if (jinja_skip_operator(parser, "|"))
            TRY(parse_filter(parser, node, &node));
        else if (jinja_skip_name(parser, "is"))
            TRY(parse_test(parser, node, &node));
        else if (jinja_is_operator(jinja_token(parser), "("))
            TRY(parse_call(parser, node, &node));
        else
            break;
    }
    *out = node;
    return COHORT_OK;
}

/* The levels of operators, from the loosest; "~" has one of its own between them. */
enum level { LEVEL_COMPARE, LEVEL_SUM, LEVEL_CONCAT, LEVEL_PRODUCT, LEVEL_POWER, LEVEL_UNARY };

static const struct {
    const char *text;
    uint8_t level, op;
} OPERATORS[] = {{"==", LEVEL_COMPARE, OP_EQ}, {"!=", LEVEL_COMPARE, OP_NE}, {"<", LEVEL_COMPARE, OP_LT},
                 {"<=", LEVEL_COMPARE, OP_LE}, {">", LEVEL_COMPARE, OP_GT},  {">=", LEVEL_COMPARE, OP_GE},
                 {"+", LEVEL_SUM, OP_ADD},     {"-", LEVEL_SUM, OP_SUB},     {"~", LEVEL_CONCAT, OP_ADD},
                 {"*", LEVEL_PRODUCT, OP_MUL}, {"/", LEVEL_PRODUCT, OP_DIV}, {"//", LEVEL_PRODUCT, OP_FLOORDIV},
                 {"%", LEVEL_PRODUCT, OP_MOD}, {"**", LEVEL_POWER, OP_POW}};

/* Steps over an operator of that level if one stands here. */
static bool skip_operator_of(struct jinja_parser *parser, enum level level, uint8_t *op)
{
    const struct jinja_token *token = jinja_token(parser);
    if (level == LEVEL_COMPARE && jinja_is_name(token, "in")) {
        parser->at++;
        *op = OP_IN;
        return true;
    }
    if (level == LEVEL_COMPARE && jinja_is_name(token, "not") && jinja_is_name(token + 1, "in")) {
        parser->at += 2;
        *op = OP_NOT_IN;
        return true;
    }
    if (token->type != TOKEN_OPERATOR)
        return false;
    for (size_t i = 0; i < sizeof OPERATORS / sizeof *OPERATORS; i++) {
        if (OPERATORS[i].level == level && jinja_is_operator(token, OPERATORS[i].text)) {
            parser->at++;
            *op = OPERATORS[i].op;
            return true;
        }
    }
    return false;
}

static cohort_status parse_level(struct jinja_parser *parser, enum level level, struct jinja_node **out);

/* "a + b - c" is one node, so that a long sum is not a deep tree. */
static cohort_status parse_chain(struct jinja_parser *parser, enum level level, struct jinja_node *first, uint8_t op,
                                 struct jinja_node **out)
{
    struct jinja_node_list list = {0};
    uint8_t *operators = NULL, *kept = NULL;
    size_t capacity = 0;
    cohort_status status = COHORT_OK;
    const int32_t line = jinja_token(parser)->line;
    do {
        struct jinja_node *next = NULL;
        TRY_GOTO(parse_level(parser, level + 1, &next));
        TRY_GOTO(mem_grow(&operators, &capacity, list.count + 1, 1, "operators", parser->err));
        operators[list.count] = op;
        TRY_GOTO(jinja_node_push(parser, &list, next));
    } while (skip_operator_of(parser, level, &op));
    const enum jinja_node_type type = level == LEVEL_COMPARE  ? NODE_COMPARE
                                      : level == LEVEL_CONCAT ? NODE_CONCAT
                                                              : NODE_CHAIN;
    TRY_GOTO(node_over(parser, type, line, first, out));
    TRY_GOTO(jinja_arena_take(&parser->template->arena, &kept, list.count, parser->err));
    memcpy(kept, operators, list.count);
    (*out)->operators = kept;
    status = jinja_node_keep(parser, &list, *out);
cleanup:
    mem_free(operators);
    mem_free(list.items);
    return status;
}

static cohort_status parse_level(struct jinja_parser *parser, enum level level, struct jinja_node **out)
{
    struct jinja_node *first = NULL;
    uint8_t op = 0;
    TRY(parse_unary(parser, true, &first));
    for (int at = LEVEL_POWER; at >= (int)level; at--)
        if (skip_operator_of(parser, (enum level)at, &op))
            TRY(parse_chain(parser, (enum level)at, first, op, &first));
    *out = first;
    return COHORT_OK;
}

static cohort_status parse_not(struct jinja_parser *parser, struct jinja_node **out)
{
    const int32_t line = jinja_token(parser)->line;
    if (!jinja_skip_name(parser, "not"))
        return parse_level(parser, LEVEL_COMPARE, out);
    TRY(enter(parser));
    TRY(parse_not(parser, out));
    parser->depth--;
    return node_over(parser, NODE_NOT, line, *out, out);
}

/* "a and b and c", or with or: one node. */
static cohort_status parse_logic(struct jinja_parser *parser, bool is_or, struct jinja_node **out)
{
    struct jinja_node_list list = {0};
    cohort_status status = COHORT_OK;
    const int32_t line = jinja_token(parser)->line;
    do {
        TRY_GOTO(is_or ? parse_logic(parser, false, out) : parse_not(parser, out));
        TRY_GOTO(jinja_node_push(parser, &list, *out));
    } while (jinja_skip_name(parser, is_or ? "or" : "and"));
    if (list.count > 1) {
        TRY_GOTO(jinja_node_new(parser, is_or ? NODE_OR : NODE_AND, line, out));
        return jinja_node_keep(parser, &list, *out);
    }
cleanup:
    mem_free(list.items);
    return status;
}

static cohort_status parse_or(struct jinja_parser *parser, struct jinja_node **out)
{
    return parse_logic(parser, true, out);
}

static cohort_status parse_condition(struct jinja_parser *parser, struct jinja_node **out)
{
    const int32_t line = jinja_token(parser)->line;
    TRY(parse_or(parser, out));
    while (jinja_skip_name(parser, "if")) {
        struct jinja_node *condition = NULL, *other = NULL;
        TRY(parse_or(parser, &condition));
        if (jinja_skip_name(parser, "else"))
            TRY(parse_inner(parser, true, &other));
        TRY(node_over(parser, NODE_CONDITION, line, *out, out));
        (*out)->right = condition;
        (*out)->third = other;
        TRY(jinja_node_above(parser, *out, condition));
        TRY(jinja_node_above(parser, *out, other));
    }
    return COHORT_OK;
}

cohort_status jinja_parse_expression(struct jinja_parser *parser, bool with_tuple, bool with_condition,
                                     struct jinja_node **out)
{
    if (with_tuple)
        return parse_tuple(parser, with_condition, false, out);
    return parse_inner(parser, with_condition, out);
}

/* ---- targets of assignments ---- */

static cohort_status parse_one_target(struct jinja_parser *parser, bool with_attribute, bool with_tuple,
                                      struct jinja_node **out)
{
    const struct jinja_token *token = jinja_token(parser);
    if (with_tuple && jinja_skip_operator(parser, "(")) {
        TRY(enter(parser));
        TRY(jinja_parse_target(parser, false, true, out));
        parser->depth--;
        return jinja_skip_operator(parser, ")") ? COHORT_OK : jinja_expected(parser, "')'");
    }
    if (token->type != TOKEN_NAME)
        return jinja_expected(parser, "a name to assign to");
    TRY(parse_name(parser, out));
    if ((*out)->type != NODE_NAME)
        return jinja_parse_fail(parser, COHORT_ERR_FORMAT, token->line, "cannot assign to '%.*s'", (int)token->length,
                                token->bytes);
    if (!with_attribute || !jinja_skip_operator(parser, "."))
        return COHORT_OK;
    token = jinja_token(parser);
    if (token->type != TOKEN_NAME)
        return jinja_expected(parser, "the name of an attribute");
    parser->at++;
    TRY(new_attribute(parser, *out, token, out));
    (*out)->type = NODE_ATTRIBUTE_TARGET;
    return COHORT_OK;
}

cohort_status jinja_parse_target(struct jinja_parser *parser, bool with_attribute, bool with_tuple,
                                 struct jinja_node **out)
{
    struct jinja_node_list list = {0};
    cohort_status status = COHORT_OK;
    const int32_t line = jinja_token(parser)->line;
    TRY(parse_one_target(parser, with_attribute, with_tuple, out));
    if (!with_tuple || !jinja_is_operator(jinja_token(parser), ","))
        return COHORT_OK;
    TRY_GOTO(jinja_node_push(parser, &list, *out));
    while (jinja_skip_operator(parser, ",")) {
        const struct jinja_token *token = jinja_token(parser);
        if (tuple_ends(token) || jinja_is_name(token, "in") || jinja_is_operator(token, "="))
            break;
        TRY_GOTO(parse_one_target(parser, with_attribute, true, out));
        TRY_GOTO(jinja_node_push(parser, &list, *out));
    }
    TRY_GOTO(jinja_node_new(parser, NODE_TUPLE, line, out));
    status = jinja_node_keep(parser, &list, *out);
cleanup:
    mem_free(list.items);
    return status;
}

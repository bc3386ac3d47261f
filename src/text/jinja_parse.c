/* From tokens to nodes: statements. Expressions are in jinja_expression.c. */
#include "text/jinja_internal.h"

#include "base/number.h"

#include <stdarg.h>
#include <string.h>

enum {
    MAX_SOURCE = 1 << 20, /* bytes; the longest published template has 20,000 */
    MAX_HEIGHT = 400      /* of a tree of nodes, which are walked recursively */
};

cohort_status(jinja_parse_fail)(struct jinja_parser *parser, cohort_status status, int32_t line, const char *format,
                                ...)
{
    char message[512];
    va_list args;
    va_start(args, format);
    number_vformat(message, sizeof message, format, args);
    va_end(args);
    return error_set(parser->err, status, "%s:%d: %s", parser->template->name, (int)line, message);
}

/* ---- what is made ---- */

static uint64_t name_hash(const char *bytes, size_t length)
{
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * 0x100000001b3u;
    return hash;
}

int32_t jinja_name_find(const struct jinja_template *template, const char *name, size_t length)
{
    if (template->slots == NULL)
        return -1;
    for (size_t at = name_hash(name, length);; at++) {
        const int32_t slot = template->slots[at & template->slot_mask];
        if (slot == 0)
            return -1;
        const struct jinja_string *known = template->names[slot - 1];
        if (known->length == length && memcmp(known->bytes, name, length) == 0)
            return slot - 1;
    }
}

static cohort_status grow_slots(struct jinja_parser *parser)
{
    struct jinja_template *template = parser->template;
    const size_t size = template->slots == NULL ? 64 : 2 * (template->slot_mask + 1);
    mem_free(template->slots);
    template->slots = NULL;
    TRY(mem_alloc(&template->slots, size, sizeof *template->slots, "the template's names", parser->err));
    template->slot_mask = size - 1;
    for (size_t i = 0; i < template->n_names; i++) {
        size_t at = name_hash(template->names[i]->bytes, template->names[i]->length);
        while (template->slots[at & template->slot_mask] != 0)
            at++;
        template->slots[at & template->slot_mask] = (int32_t)i + 1;
    }
    return COHORT_OK;
}

cohort_status jinja_intern(struct jinja_parser *parser, const char *bytes, size_t length, int32_t *name)
{
    struct jinja_template *template = parser->template;
    *name = jinja_name_find(template, bytes, length);
    if (*name >= 0)
        return COHORT_OK;
    if (template->slots == NULL || template->n_names * 2 > template->slot_mask)
        TRY(grow_slots(parser));
    TRY(mem_grow(&template->names, &template->names_capacity, template->n_names + 1, sizeof(struct jinja_string *),
                 "the template's names", parser->err));
    struct jinja_string *string = NULL;
    char *copy = NULL;
    TRY(jinja_arena_take(&template->arena, &string, sizeof *string, parser->err));
    TRY(jinja_arena_take(&template->arena, &copy, length + 1, parser->err));
    memcpy(copy, bytes, length);
    *string = (struct jinja_string){.bytes = copy, .length = length, .characters = UNCOUNTED};
    string->characters = jinja_characters(string);
    *name = (int32_t) template->n_names;
    template->names[template->n_names++] = string;
    size_t at = name_hash(bytes, length);
    while (template->slots[at & template->slot_mask] != 0)
        at++;
    template->slots[at & template->slot_mask] = *name + 1;
    return COHORT_OK;
}

cohort_status jinja_node_new(struct jinja_parser *parser, enum jinja_node_type type, int32_t line,
                             struct jinja_node **out)
{
    TRY(jinja_arena_take(&parser->template->arena, out, sizeof **out, parser->err));
    (*out)->type = type;
    (*out)->line = line;
    (*out)->name = -1;
    (*out)->height = 1;
    return COHORT_OK;
}

cohort_status jinja_node_above(struct jinja_parser *parser, struct jinja_node *node, const struct jinja_node *child)
{
    if (child == NULL || child->height < node->height)
        return COHORT_OK;
    node->height = child->height + 1;
    if (node->height <= MAX_HEIGHT)
        return COHORT_OK;
    return jinja_parse_fail(parser, COHORT_ERR_UNSUPPORTED, node->line, "nested more than %d deep", (int)MAX_HEIGHT);
}

cohort_status jinja_node_push(struct jinja_parser *parser, struct jinja_node_list *list, const struct jinja_node *node)
{
    TRY(mem_grow(&list->items, &list->capacity, list->count + 1, sizeof *list->items, "the template's nodes",
                 parser->err));
    list->items[list->count++] = node;
    return COHORT_OK;
}

cohort_status jinja_node_keep(struct jinja_parser *parser, struct jinja_node_list *list, struct jinja_node *node)
{
    cohort_status status = COHORT_OK;
    if (list->count > 0)
        TRY_GOTO(
            jinja_arena_take(&parser->template->arena, &node->items, list->count * sizeof *list->items, parser->err));
    for (size_t i = 0; i < list->count; i++) {
        node->items[i] = list->items[i];
        TRY_GOTO(jinja_node_above(parser, node, list->items[i]));
    }
    node->n_items = list->count;
cleanup:
    mem_free(list->items);
    *list = (struct jinja_node_list){0};
    return status;
}

/* ---- tokens ---- */

const struct jinja_token *jinja_token(const struct jinja_parser *parser) { return &parser->tokens[parser->at]; }

bool jinja_is_operator(const struct jinja_token *token, const char *op)
{
    return token->type == TOKEN_OPERATOR && token->length == strlen(op) && memcmp(token->bytes, op, token->length) == 0;
}

bool jinja_is_name(const struct jinja_token *token, const char *name)
{
    return token->type == TOKEN_NAME && token->length == strlen(name) && memcmp(token->bytes, name, token->length) == 0;
}

bool jinja_skip_operator(struct jinja_parser *parser, const char *op)
{
    const bool there = jinja_is_operator(jinja_token(parser), op);
    parser->at += there;
    return there;
}

bool jinja_skip_name(struct jinja_parser *parser, const char *name)
{
    const bool there = jinja_is_name(jinja_token(parser), name);
    parser->at += there;
    return there;
}

cohort_status(jinja_expected)(struct jinja_parser *parser, const char *what)
{
    const struct jinja_token *token = jinja_token(parser);
    const int32_t line = token->line;
    switch (token->type) {
    case TOKEN_END: return jinja_parse_fail(parser, COHORT_ERR_FORMAT, line, "expected %s, the template ends", what);
    case TOKEN_PRINT_END: return jinja_parse_fail(parser, COHORT_ERR_FORMAT, line, "expected %s, found '}}'", what);
    case TOKEN_BLOCK_END: return jinja_parse_fail(parser, COHORT_ERR_FORMAT, line, "expected %s, found '%%}'", what);
    default:
        return jinja_parse_fail(parser, COHORT_ERR_FORMAT, line, "expected %s, found '%.*s'", what,
                                (int)(token->length < 60 ? token->length : 60), token->bytes);
    }
}

static cohort_status expect_block_end(struct jinja_parser *parser)
{
    if (jinja_token(parser)->type != TOKEN_BLOCK_END)
        return jinja_expected(parser, "'%}'");
    parser->at++;
    return COHORT_OK;
}

/* ---- statements ---- */

static cohort_status parse_body(struct jinja_parser *parser, const char *const *ends, struct jinja_node **out);

/* The rest of a tag and the statements up to one of ends ("endfor", "else"; NULL behind the last), whose name is
 * stepped over. A colon may stand before "%}". */
static cohort_status parse_block(struct jinja_parser *parser, const char *const *ends, struct jinja_node *above,
                                 const struct jinja_node **out)
{
    struct jinja_node *body = NULL;
    jinja_skip_operator(parser, ":");
    TRY(expect_block_end(parser));
    TRY(parse_body(parser, ends, &body));
    *out = body;
    TRY(jinja_node_above(parser, above, body));
    return COHORT_OK;
}

static const struct jinja_token *token_before(const struct jinja_parser *parser)
{
    return &parser->tokens[parser->at - 1];
}

static cohort_status parse_if(struct jinja_parser *parser, struct jinja_node *node)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL}, *const last[] = {"endif", NULL};
    struct jinja_node_list parts = {0};
    cohort_status status = COHORT_OK;
    node->type = NODE_IF;
    do {
        struct jinja_node *condition = NULL;
        const struct jinja_node *body = NULL;
        TRY_GOTO(jinja_parse_expression(parser, true, false, &condition));
        TRY_GOTO(jinja_node_push(parser, &parts, condition));
        TRY_GOTO(parse_block(parser, ends, node, &body));
        TRY_GOTO(jinja_node_push(parser, &parts, body));
    } while (jinja_is_name(token_before(parser), "elif"));
    if (jinja_is_name(token_before(parser), "else")) {
        const struct jinja_node *body = NULL;
        TRY_GOTO(parse_block(parser, last, node, &body));
        TRY_GOTO(jinja_node_push(parser, &parts, body));
    }
    return jinja_node_keep(parser, &parts, node);
cleanup:
    mem_free(parts.items);
    return status;
}

static cohort_status parse_for(struct jinja_parser *parser, struct jinja_node *node)
{
    static const char *const ends[] = {"else", "endfor", NULL}, *const last[] = {"endfor", NULL};
    struct jinja_node *target = NULL, *over = NULL, *filter = NULL;
    node->type = NODE_FOR;
    TRY(jinja_parse_target(parser, false, true, &target));
    if (!jinja_skip_name(parser, "in"))
        return jinja_expected(parser, "'in'");
    TRY(jinja_parse_expression(parser, true, false, &over));
    if (jinja_skip_name(parser, "if"))
        TRY(jinja_parse_expression(parser, false, true, &filter));
    if (jinja_is_name(jinja_token(parser), "recursive"))
        return jinja_parse_fail(parser, COHORT_ERR_UNSUPPORTED, node->line, "recursive loops are not supported");
    node->target = target;
    node->left = over;
    node->right = filter;
    TRY(jinja_node_above(parser, node, target));
    TRY(jinja_node_above(parser, node, over));
    TRY(jinja_node_above(parser, node, filter));
    parser->loops++;
    TRY(parse_block(parser, ends, node, &node->body));
    parser->loops--;
    if (jinja_is_name(token_before(parser), "else"))
        TRY(parse_block(parser, last, node, &node->third));
    return COHORT_OK;
}

static cohort_status parse_set(struct jinja_parser *parser, struct jinja_node *node)
{
    static const char *const ends[] = {"endset", NULL};
    struct jinja_node *target = NULL, *value = NULL;
    TRY(jinja_parse_target(parser, true, true, &target));
    node->target = target;
    if (jinja_skip_operator(parser, "=")) {
        node->type = NODE_SET;
        TRY(jinja_parse_expression(parser, true, true, &value));
        node->left = value;
        return jinja_node_above(parser, node, value);
    }
    node->type = NODE_SET_BLOCK;
    TRY(jinja_parse_filters(parser, NULL, false, &value));
    node->left = value;
    TRY(jinja_node_above(parser, node, value));
    return parse_block(parser, ends, node, &node->body);
}

static cohort_status parse_parameters(struct jinja_parser *parser, struct jinja_node *node,
                                      struct jinja_signature *signature)
{
    struct jinja_node_list names = {0}, defaults = {0};
    cohort_status status = COHORT_OK;
    bool has_default = false;
    if (!jinja_skip_operator(parser, "("))
        return jinja_expected(parser, "'('");
    while (!jinja_is_operator(jinja_token(parser), ")")) {
        struct jinja_node *name = NULL, *value = NULL;
        if (names.count > 0 && !jinja_skip_operator(parser, ",")) {
            status = jinja_expected(parser, "',' or ')'");
            goto cleanup;
        }
        TRY_GOTO(jinja_parse_target(parser, false, false, &name));
        if (jinja_skip_operator(parser, "=")) {
            TRY_GOTO(jinja_parse_expression(parser, false, true, &value));
            has_default = true;
        } else if (has_default) {
            status = jinja_parse_fail(parser, COHORT_ERR_FORMAT, node->line,
                                      "a parameter without a default stands behind one that has a default");
            goto cleanup;
        }
        TRY_GOTO(jinja_node_push(parser, &names, name));
        TRY_GOTO(jinja_node_push(parser, &defaults, value));
        TRY_GOTO(jinja_node_above(parser, node, value));
    }
    parser->at++;
    const size_t n = names.count;
    int32_t *ids = NULL;
    if (n > 0) {
        TRY_GOTO(jinja_arena_take(&parser->template->arena, &ids, n * sizeof *ids, parser->err));
        TRY_GOTO(
            jinja_arena_take(&parser->template->arena, &signature->defaults, n * sizeof *defaults.items, parser->err));
    }
    for (size_t i = 0; i < n; i++) {
        ids[i] = names.items[i]->name;
        signature->defaults[i] = defaults.items[i];
    }
    signature->parameters = ids;
    signature->n_parameters = n;
cleanup:
    mem_free(names.items);
    mem_free(defaults.items);
    return status;
}

/* The body of a macro or caller: a function of its own, which break and continue do not leave. */
static cohort_status parse_function_body(struct jinja_parser *parser, struct jinja_node *node, const char *const *ends,
                                         struct jinja_signature *signature)
{
    struct jinja_signature *const outer = parser->signature;
    const int loops = parser->loops;
    signature->outer = outer;
    parser->signature = signature;
    parser->loops = 0;
    TRY(parse_block(parser, ends, node, &signature->body));
    parser->signature = outer;
    parser->loops = loops;
    return COHORT_OK;
}

static cohort_status parse_macro(struct jinja_parser *parser, struct jinja_node *node)
{
    static const char *const ends[] = {"endmacro", NULL};
    struct jinja_node *name = NULL;
    struct jinja_signature *signature = NULL;
    node->type = NODE_MACRO;
    TRY(jinja_parse_target(parser, false, false, &name));
    TRY(jinja_arena_take(&parser->template->arena, &signature, sizeof *signature, parser->err));
    node->name = signature->name = name->name;
    node->macro = signature;
    TRY(parse_parameters(parser, node, signature));
    return parse_function_body(parser, node, ends, signature);
}

static cohort_status parse_call_block(struct jinja_parser *parser, struct jinja_node *node)
{
    static const char *const ends[] = {"endcall", NULL};
    struct jinja_node *call = NULL;
    struct jinja_signature *signature = NULL;
    node->type = NODE_CALL_BLOCK;
    TRY(jinja_arena_take(&parser->template->arena, &signature, sizeof *signature, parser->err));
    signature->name = -1;
    node->macro = signature;
    if (jinja_is_operator(jinja_token(parser), "("))
        TRY(parse_parameters(parser, node, signature));
    TRY(jinja_parse_expression(parser, false, true, &call));
    if (call->type != NODE_CALL)
        return jinja_parse_fail(parser, COHORT_ERR_FORMAT, node->line, "expected a call behind 'call'");
    node->left = call;
    TRY(jinja_node_above(parser, node, call));
    return parse_function_body(parser, node, ends, signature);
}

static cohort_status parse_filter_block(struct jinja_parser *parser, struct jinja_node *node)
{
    static const char *const ends[] = {"endfilter", NULL};
    struct jinja_node *filters = NULL;
    node->type = NODE_FILTER_BLOCK;
    TRY(jinja_parse_filters(parser, NULL, true, &filters));
    node->left = filters;
    TRY(jinja_node_above(parser, node, filters));
    return parse_block(parser, ends, node, &node->body);
}

static cohort_status parse_with(struct jinja_parser *parser, struct jinja_node *node)
{
    static const char *const ends[] = {"endwith", NULL};
    struct jinja_node_list pairs = {0};
    cohort_status status = COHORT_OK;
    node->type = NODE_WITH;
    while (jinja_token(parser)->type != TOKEN_BLOCK_END && !jinja_is_operator(jinja_token(parser), ":")) {
        struct jinja_node *target = NULL, *value = NULL;
        if (pairs.count > 0 && !jinja_skip_operator(parser, ",")) {
            status = jinja_expected(parser, "',' or '%}'");
            goto cleanup;
        }
        TRY_GOTO(jinja_parse_target(parser, false, true, &target));
        if (!jinja_skip_operator(parser, "=")) {
            status = jinja_expected(parser, "'='");
            goto cleanup;
        }
        TRY_GOTO(jinja_parse_expression(parser, false, true, &value));
        TRY_GOTO(jinja_node_push(parser, &pairs, target));
        TRY_GOTO(jinja_node_push(parser, &pairs, value));
    }
    TRY(jinja_node_keep(parser, &pairs, node));
    return parse_block(parser, ends, node, &node->body);
cleanup:
    mem_free(pairs.items);
    return status;
}

static cohort_status parse_print(struct jinja_parser *parser, struct jinja_node *node)
{
    struct jinja_node_list prints = {0};
    cohort_status status = COHORT_OK;
    node->type = NODE_BODY;
    while (jinja_token(parser)->type != TOKEN_BLOCK_END) {
        struct jinja_node *print = NULL, *value = NULL;
        if (prints.count > 0 && !jinja_skip_operator(parser, ",")) {
            status = jinja_expected(parser, "',' or '%}'");
            goto cleanup;
        }
        TRY_GOTO(jinja_parse_expression(parser, false, true, &value));
        TRY_GOTO(jinja_node_new(parser, NODE_PRINT, node->line, &print));
        print->left = value;
        TRY_GOTO(jinja_node_above(parser, print, value));
        TRY_GOTO(jinja_node_push(parser, &prints, print));
    }
    return jinja_node_keep(parser, &prints, node);
cleanup:
    mem_free(prints.items);
    return status;
}

static cohort_status parse_jump(struct jinja_parser *parser, struct jinja_node *node, enum jinja_node_type type)
{
    node->type = type;
    if (parser->loops > 0)
        return COHORT_OK;
    return jinja_parse_fail(parser, COHORT_ERR_FORMAT, node->line,
                            "'%s' stands in no loop (a macro, call or generation block is a function of its own)",
                            type == NODE_BREAK ? "break" : "continue");
}

/* A statement; the token behind "{%" is its name. */
static cohort_status parse_statement(struct jinja_parser *parser, struct jinja_node **out)
{
    static const char *const generation_ends[] = {"endgeneration", NULL};
    static const char *const refused[] = {"include", "import", "from", "extends", "block", "do", "autoescape"};
    const struct jinja_token *token = jinja_token(parser);
    struct jinja_node *node = NULL;
    if (token->type != TOKEN_NAME)
        return jinja_expected(parser, "the name of a tag");
    TRY(jinja_node_new(parser, NODE_BODY, token->line, &node));
    *out = node;
    parser->at++;
    if (jinja_is_name(token, "if"))
        return parse_if(parser, node);
    if (jinja_is_name(token, "for"))
        return parse_for(parser, node);
    if (jinja_is_name(token, "set"))
        return parse_set(parser, node);
    if (jinja_is_name(token, "macro"))
        return parse_macro(parser, node);
    if (jinja_is_name(token, "call"))
        return parse_call_block(parser, node);
    if (jinja_is_name(token, "filter"))
        return parse_filter_block(parser, node);
    if (jinja_is_name(token, "with"))
        return parse_with(parser, node);
    if (jinja_is_name(token, "print"))
        return parse_print(parser, node);
    if (jinja_is_name(token, "break"))
        return parse_jump(parser, node, NODE_BREAK);
    if (jinja_is_name(token, "continue"))
        return parse_jump(parser, node, NODE_CONTINUE);
    if (jinja_is_name(token, "generation")) {
        node->type = NODE_GENERATION;
        parser->template->marks_generation = true;
        const int loops = parser->loops;
        parser->loops = 0;
        TRY(parse_block(parser, generation_ends, node, &node->body));
        parser->loops = loops;
        return COHORT_OK;
    }
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (jinja_is_name(token, refused[i]))
            return jinja_parse_fail(parser, COHORT_ERR_UNSUPPORTED, token->line,
                                    "{%% %s %%} is not supported: a chat template is one file", refused[i]);
    return jinja_parse_fail(parser, COHORT_ERR_FORMAT, token->line, "unknown tag '%.*s'",
                            (int)(token->length < 60 ? token->length : 60), token->bytes);
}

static cohort_status add_literal(struct jinja_parser *parser, const struct jinja_string *string)
{
    struct jinja_template *template = parser->template;
    TRY(mem_grow(&template->literals, &template->literals_capacity, template->n_literals + 1,
                 sizeof *template->literals, "the template's literals", parser->err));
    template->literals[template->n_literals++] = string;
    return COHORT_OK;
}

cohort_status jinja_literal(struct jinja_parser *parser, const char *bytes, size_t length, struct jinja_value *out)
{
    struct jinja_string *string = NULL;
    TRY(jinja_arena_take(&parser->template->arena, &string, sizeof *string, parser->err));
    *string = (struct jinja_string){.bytes = bytes, .length = length, .characters = UNCOUNTED};
    string->characters = jinja_characters(string);
    *out = jinja_string_value(string);
    return add_literal(parser, string);
}

/* Names the tag that does not belong here, or what is missing. */
static cohort_status fail_end(struct jinja_parser *parser, const char *const *ends)
{
    char what[128];
    size_t n = 0;
    for (size_t i = 0; ends[i] != NULL; i++)
        n += (size_t)number_format(what + n, sizeof what - n, "%s{%% %s %%}", i == 0 ? "" : " or ", ends[i]);
    return jinja_expected(parser, what);
}

static bool is_one_of(const struct jinja_token *token, const char *const *names)
{
    for (; names != NULL && *names != NULL; names++)
        if (jinja_is_name(token, *names))
            return true;
    return false;
}

static bool is_end_tag(const struct jinja_token *token)
{
    return token->type == TOKEN_NAME && ((token->length > 3 && memcmp(token->bytes, "end", 3) == 0) ||
                                         jinja_is_name(token, "else") || jinja_is_name(token, "elif"));
}

static cohort_status parse_statements(struct jinja_parser *parser, const char *const *ends,
                                      struct jinja_node_list *list)
{
    for (;;) {
        const struct jinja_token *token = jinja_token(parser);
        struct jinja_node *node = NULL;
        parser->at++;
        switch (token->type) {
        case TOKEN_DATA:
            TRY(jinja_node_new(parser, NODE_TEXT, token->line, &node));
            TRY(jinja_literal(parser, token->bytes, token->length, &node->constant));
            break;
        case TOKEN_PRINT_BEGIN: {
            struct jinja_node *value = NULL;
            TRY(jinja_parse_expression(parser, true, true, &value));
            if (jinja_token(parser)->type != TOKEN_PRINT_END)
                return jinja_expected(parser, "'}}'");
            parser->at++;
            TRY(jinja_node_new(parser, NODE_PRINT, token->line, &node));
            node->left = value;
            TRY(jinja_node_above(parser, node, value));
            break;
        }
        case TOKEN_BLOCK_BEGIN:
            if (is_one_of(jinja_token(parser), ends)) {
                parser->at++;
                return COHORT_OK;
            }
            if (ends != NULL && is_end_tag(jinja_token(parser)))
                return fail_end(parser, ends);
            TRY(parse_statement(parser, &node));
            TRY(expect_block_end(parser));
            break;
        default: parser->at--; return ends == NULL ? COHORT_OK : fail_end(parser, ends);
        }
        TRY(jinja_node_push(parser, list, node));
    }
}

static cohort_status parse_body(struct jinja_parser *parser, const char *const *ends, struct jinja_node **out)
{
    struct jinja_node_list list = {0};
    TRY(jinja_node_new(parser, NODE_BODY, jinja_token(parser)->line, out));
    if (parser->depth++ >= PARSE_DEPTH)
        return jinja_parse_fail(parser, COHORT_ERR_UNSUPPORTED, jinja_token(parser)->line, "nested more than %d deep",
                                (int)PARSE_DEPTH);
    cohort_status status = parse_statements(parser, ends, &list);
    parser->depth--;
    if (status == COHORT_OK)
        return jinja_node_keep(parser, &list, *out);
    mem_free(list.items);
    return status;
}

/* ---- the whole ---- */

/* The source with its line ends as "\n", without the last one: what jinja2's lexer sees. */
static cohort_status take_source(struct jinja_parser *parser, const char *source, size_t length)
{
    struct jinja_template *template = parser->template;
    TRY(mem_strdup(&template->source, source, length, parser->err));
    char *to = template->source;
    for (size_t i = 0; i < length; i++) {
        if (source[i] == '\r' && i + 1 < length && source[i + 1] == '\n')
            continue;
        *to++ = source[i] == '\r' ? '\n' : source[i];
    }
    if (to > template->source && to[-1] == '\n')
        to--;
    template->source_length = (size_t)(to - template->source);
    template->source[template->source_length] = '\0';
    return COHORT_OK;
}

static cohort_status intern_known(struct jinja_parser *parser)
{
    struct jinja_template *template = parser->template;
    TRY(jinja_intern(parser, "loop", 4, &template->loop));
    TRY(jinja_intern(parser, "caller", 6, &template->caller));
    TRY(jinja_intern(parser, "varargs", 7, &template->varargs));
    return jinja_intern(parser, "kwargs", 6, &template->kwargs);
}

cohort_status jinja_parse(struct jinja_template **out, const char *source, size_t length, const char *name,
                          cohort_error *err)
{
    struct jinja_parser parser = {.err = err};
    struct jinja_node *body = NULL;
    cohort_status status = COHORT_OK;
    *out = NULL;
    if (length > MAX_SOURCE)
        return error_set(err, COHORT_ERR_UNSUPPORTED, "%s: %zu bytes are too long for a chat template: %d at most",
                         name, length, (int)MAX_SOURCE);
    const size_t valid = utf8_check(source, length);
    if (valid < length)
        return error_set(err, COHORT_ERR_FORMAT, "%s: byte %zu is not UTF-8", name, valid);
    TRY(mem_alloc(&parser.template, 1, sizeof *parser.template, "a template", err));
    parser.template->arena.first_bytes = 1 << 14;
    TRY_GOTO(mem_strdup(&parser.template->name, name, strlen(name), err));
    TRY_GOTO(take_source(&parser, source, length));
    TRY_GOTO(intern_known(&parser));
    TRY_GOTO(jinja_lex(&parser));
    TRY_GOTO(parse_body(&parser, NULL, &body));
    if (jinja_token(&parser)->type != TOKEN_END)
        TRY_GOTO(jinja_expected(&parser, "text or a tag"));
    parser.template->body = body;
cleanup:
    mem_free(parser.tokens);
    if (status == COHORT_OK)
        *out = parser.template;
    else
        jinja_destroy(parser.template);
    return status;
}

void jinja_destroy(struct jinja_template *template)
{
    if (template == NULL)
        return;
    jinja_arena_free(&template->arena);
    mem_free(template->name);
    mem_free(template->source);
    mem_free(template->names);
    mem_free(template->slots);
    mem_free(template->literals);
    mem_free(template);
}

bool jinja_marks_generation(const struct jinja_template *template) { return template->marks_generation; }

void jinja_literals(const struct jinja_template *template,
                    void (*visit)(const char *bytes, size_t length, void *context), void *context)
{
    for (size_t i = 0; i < template->n_literals; i++)
        visit(template->literals[i]->bytes, template->literals[i]->length, context);
}

bool jinja_mentions(const struct jinja_template *template, const char *name)
{
    const size_t length = strlen(name);
    if (jinja_name_find(template, name, length) >= 0)
        return true;
    for (size_t i = 0; i < template->n_literals; i++)
        if (template->literals[i]->length == length && memcmp(template->literals[i]->bytes, name, length) == 0)
            return true;
    return false;
}

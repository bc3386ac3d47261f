/* guided_json: schemas, types, references, fixed values, white space. */
#include "guide/guide_json.h"

#include "base/json_text.h"
#include "base/number.h"
#include "guide/json_schema.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- Places ---- */

cohort_status json_wrong(const struct json_reading *j, cohort_status status, cohort_error *err, const char *format, ...)
{
    char message[300];
    va_list args;
    va_start(args, format);
    (void)number_vformat(message, sizeof message, format, args);
    va_end(args);
    return error_set(err, status, "%s: at #%.300s: %s", j->reading->origin, j->place, message);
}

size_t json_enter(struct json_reading *j, const char *key)
{
    const size_t before = strlen(j->place), n = strlen(key);
    if (before + n + 2 < sizeof j->place) {
        j->place[before] = '/';
        memcpy(j->place + before + 1, key, n + 1);
    }
    return before;
}

size_t json_enter_item(struct json_reading *j, const char *key, size_t item)
{
    const size_t before = json_enter(j, key);
    char number[24];
    (void)snprintf(number, sizeof number, "%zu", item);
    (void)json_enter(j, number);
    return before;
}

void json_leave(struct json_reading *j, size_t before) { j->place[before] = '\0'; }

/* ---- References ---- */

cohort_status json_keep(struct json_reading *j, json_t *made, cohort_error *err)
{
    if (made == NULL || json_array_append_new(j->made, made) != 0)
        return error_set(err, COHORT_ERR_MEMORY, "out of memory for a JSON schema");
    return COHORT_OK;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* %2F and the like in a reference become what they stand for. */
static void unquote(const char *from, char *to, size_t size)
{
    size_t n = 0;
    for (; *from != '\0' && n + 1 < size; from++) {
        const int high = *from == '%' ? hex_digit(from[1]) : -1, low = high >= 0 ? hex_digit(from[2]) : -1;
        to[n++] = low >= 0 ? (char)(16 * high + low) : *from;
        from += low >= 0 ? 2 : 0;
    }
    to[n] = '\0';
}

/* A schema within the root whose $anchor or $id this is. */
static const json_t *find_named(const json_t *schema, const char *name, int depth)
{
    const char *key;
    json_t *item;
    size_t i;
    if (depth > JSON_SCHEMA_DEPTH)
        return NULL;
    if (json_is_object(schema)) {
        const char *anchor = json_string_value(json_object_get(schema, "$anchor")),
                   *id = json_string_value(json_object_get(schema, "$id"));
        if (id == NULL)
            id = json_string_value(json_object_get(schema, "id"));
        if ((name[0] == '#' && anchor != NULL && strcmp(anchor, name + 1) == 0) ||
            (id != NULL && strcmp(id, name) == 0))
            return schema;
        json_object_foreach((json_t *)(uintptr_t)schema, key, item)
        {
            const json_t *found =
                strcmp(key, "enum") == 0 || strcmp(key, "const") == 0 ? NULL : find_named(item, name, depth + 1);
            if (found != NULL)
                return found;
        }
    }
    json_array_foreach(schema, i, item)
    {
        const json_t *found = find_named(item, name, depth + 1);
        if (found != NULL)
            return found;
    }
    return NULL;
}

cohort_status json_target(struct json_reading *j, const json_t *reference, const json_t **target, cohort_error *err)
{
    char name[600];
    *target = NULL;
    if (!json_is_string(reference))
        return json_wrong(j, COHORT_ERR_FORMAT, err, "$ref: expected a text");
    unquote(json_string_value(reference), name, sizeof name);
    *target = json_schema_place(j->root, name);
    if (*target == NULL)
        *target = find_named(j->root, name, 0);
    if (*target == NULL || !(json_is_object(*target) || json_is_boolean(*target)))
        return json_wrong(j, COHORT_ERR_UNSUPPORTED, err,
                          "$ref \"%.200s\" is no place of a schema within this one, as in \"#/$defs/NAME\"", name);
    return COHORT_OK;
}

/* ---- White space ---- */

static bool flexible(const struct json_reading *j) { return j->reading->options->whitespace == GUIDE_SPACE_FLEXIBLE; }

uint32_t json_blank(struct json_reading *j, uint32_t in, uint32_t from)
{
    enum { MOST_INDENT = 20 };
    if (!flexible(j))
        return from;
    if (j->blank == 0) {
        const uint32_t rule = grammar_rule(j->grammar, "white space", 11);
        struct nfa *nfa = grammar_nfa(j->grammar, rule);
        const uint32_t start = grammar_start(j->grammar, rule);
        uint32_t at = nfa_bytes(nfa, start, "\n", 1);
        grammar_end(j->grammar, rule, start);
        grammar_end(j->grammar, rule, nfa_bytes(nfa, start, " ", 1));
        for (int i = 0; i <= MOST_INDENT; i++) {
            grammar_end(j->grammar, rule, at);
            at = nfa_bytes(nfa, at, " ", 1);
        }
        j->blank = rule;
    }
    return grammar_refer(j->grammar, in, from, j->blank);
}

static uint32_t separator(struct json_reading *j, uint32_t in, uint32_t from, const char *mark, bool before)
{
    if (before)
        from = json_blank(j, in, from);
    from = nfa_bytes(grammar_nfa(j->grammar, in), from, mark, 1);
    return flexible(j) ? json_blank(j, in, from) : nfa_bytes(grammar_nfa(j->grammar, in), from, " ", 1);
}

uint32_t json_comma(struct json_reading *j, uint32_t in, uint32_t from) { return separator(j, in, from, ",", true); }
uint32_t json_colon(struct json_reading *j, uint32_t in, uint32_t from) { return separator(j, in, from, ":", true); }

/* ---- Fixed values ---- */

cohort_status json_value_text(struct json_reading *j, const json_t *value, struct text *out, cohort_error *err)
{
    char digits[NUMBER_BYTES];
    (void)j;
    if (json_is_real(value)) { /* the shortest form, as everywhere */
        number_write_double(json_real_value(value), digits);
        return text_append(out, digits, strlen(digits), err);
    }
    return json_text_write(value, JSON_ENCODE_ANY | JSON_COMPACT, out, err);
}

/* A value, its parts in the order in which they are given, with white space between them as everywhere. */
static cohort_status value_part(struct json_reading *j, const json_t *value, uint32_t in, uint32_t from, uint32_t *to,
                                int depth, cohort_error *err)
{
    struct nfa *nfa = grammar_nfa(j->grammar, in);
    struct text text = {0};
    const char *key;
    json_t *item;
    size_t i;
    bool first = true;
    if (depth > JSON_SCHEMA_DEPTH)
        return json_wrong(j, COHORT_ERR_UNSUPPORTED, err, "a value nests deeper than %d levels",
                          (int)JSON_SCHEMA_DEPTH);
    if (json_is_object(value)) {
        from = json_blank(j, in, nfa_bytes(nfa, from, "{", 1));
        json_object_foreach((json_t *)(uintptr_t)value, key, item)
        {
            json_t *name = json_string(key);
            if (!first)
                from = json_comma(j, in, from);
            first = false;
            cohort_status status = name == NULL ? error_set(err, COHORT_ERR_MEMORY, "out of memory for a JSON schema")
                                                : value_part(j, name, in, from, &from, depth + 1, err);
            json_decref(name);
            TRY(status);
            from = json_colon(j, in, from);
            TRY(value_part(j, item, in, from, &from, depth + 1, err));
        }
        *to = nfa_bytes(nfa, first ? from : json_blank(j, in, from), "}", 1);
        return COHORT_OK;
    }
    if (json_is_array(value)) {
        from = json_blank(j, in, nfa_bytes(nfa, from, "[", 1));
        json_array_foreach(value, i, item)
        {
            if (i > 0)
                from = json_comma(j, in, from);
            TRY(value_part(j, item, in, from, &from, depth + 1, err));
        }
        *to = nfa_bytes(nfa, json_array_size(value) == 0 ? from : json_blank(j, in, from), "]", 1);
        return COHORT_OK;
    }
    cohort_status status = json_value_text(j, value, &text, err);
    if (status == COHORT_OK)
        *to = nfa_bytes(nfa, from, text.data, text.length);
    if (status == COHORT_OK && json_is_real(value) && strpbrk(text.data, ".e") == NULL) { /* 1000, or 1000.0 */
        const uint32_t end = nfa_state(nfa);
        nfa_skip(nfa, *to, end);
        nfa_skip(nfa, nfa_bytes(nfa, *to, ".0", 2), end);
        *to = end;
    }
    text_free(&text);
    return status;
}

static cohort_status values_part(struct json_reading *j, const json_t *values, uint32_t in, uint32_t from, uint32_t end,
                                 cohort_error *err)
{
    size_t i;
    json_t *item;
    json_array_foreach(values, i, item)
    {
        uint32_t to = 0;
        TRY(value_part(j, item, in, from, &to, 0, err));
        nfa_skip(grammar_nfa(j->grammar, in), to, end);
    }
    return COHORT_OK;
}

/* ---- Schemas ---- */

unsigned json_kinds_of(const json_t *schema)
{
    static const struct {
        const char *name;
        unsigned kinds;
    } names[] = {{"null", KIND_NULL},     {"boolean", KIND_BOOLEAN}, {"integer", KIND_INTEGER}, {"number", KIND_NUMBER},
                 {"string", KIND_STRING}, {"array", KIND_ARRAY},     {"object", KIND_OBJECT}};
    const json_t *type = json_object_get(schema, "type");
    unsigned kinds = 0;
    if (type == NULL)
        return KIND_ALL;
    for (size_t i = 0; i < (json_is_string(type) ? 1 : json_array_size(type)); i++) {
        const char *name = json_string_value(json_is_string(type) ? type : json_array_get(type, i));
        for (size_t k = 0; name != NULL && k < sizeof names / sizeof names[0]; k++)
            kinds |= strcmp(name, names[k].name) == 0 ? names[k].kinds : 0;
    }
    return (kinds & KIND_NUMBER) != 0 ? kinds & ~(unsigned)KIND_INTEGER : kinds;
}

/* The values of a simple schema, from a state of its rule to end. */
static cohort_status simple_part(struct json_reading *j, const json_t *schema, uint32_t in, uint32_t from, uint32_t end,
                                 cohort_error *err)
{
    struct nfa *nfa = grammar_nfa(j->grammar, in);
    json_t *values = NULL;
    uint32_t to = 0;
    TRY(json_values(j, schema, &values, err));
    if (values != NULL) {
        const cohort_status status = values_part(j, values, in, from, end, err);
        json_decref(values);
        return status;
    }
    const unsigned kinds = json_kinds_of(schema);
    if ((kinds & KIND_NULL) != 0)
        nfa_skip(nfa, nfa_bytes(nfa, from, "null", 4), end);
    if ((kinds & KIND_BOOLEAN) != 0) {
        nfa_skip(nfa, nfa_bytes(nfa, from, "true", 4), end);
        nfa_skip(nfa, nfa_bytes(nfa, from, "false", 5), end);
    }
    if ((kinds & (KIND_INTEGER | KIND_NUMBER)) != 0) {
        TRY(json_number_part(j, schema, (kinds & KIND_NUMBER) == 0, in, from, &to, err));
        nfa_skip(nfa, to, end);
    }
    if ((kinds & KIND_STRING) != 0) {
        TRY(json_string_part(j, schema, in, from, &to, err));
        nfa_skip(nfa, to, end);
    }
    if ((kinds & KIND_ARRAY) != 0) {
        TRY(json_array_part(j, schema, in, from, &to, err));
        nfa_skip(nfa, to, end);
    }
    if ((kinds & KIND_OBJECT) != 0) {
        TRY(json_object_part(j, schema, in, from, &to, err));
        nfa_skip(nfa, to, end);
    }
    return COHORT_OK;
}

/* Keys that say nothing about values. */
static bool says_nothing(const char *key)
{
    static const char *const keys[] = {"$schema",     "$id",      "id",          "title",    "description", "default",
                                       "examples",    "$comment", "deprecated",  "readOnly", "writeOnly",   "$defs",
                                       "definitions", "$anchor",  "$vocabulary", "example"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (strcmp(key, keys[i]) == 0)
            return true;
    return false;
}

/* The only key of a schema that says something, or NULL. */
static const char *only_key(const json_t *schema)
{
    const char *key, *found = NULL;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)schema, key, value)
    {
        if (says_nothing(key))
            continue;
        if (found != NULL)
            return NULL;
        found = key;
    }
    return found;
}

static cohort_status one_of_rules(struct json_reading *j, const json_t *list, const char *keyword, uint32_t rule,
                                  cohort_error *err)
{
    json_t *item;
    size_t i;
    json_array_foreach(list, i, item)
    {
        uint32_t part = 0;
        const size_t before = json_enter_item(j, keyword, i);
        TRY(json_rule(j, item, &part, err));
        json_leave(j, before);
        grammar_end(j->grammar, rule, grammar_refer(j->grammar, rule, grammar_start(j->grammar, rule), part));
    }
    return COHORT_OK;
}

static cohort_status fill_rule(struct json_reading *j, const json_t *schema, uint32_t rule, cohort_error *err)
{
    struct grammar *g = j->grammar;
    const uint32_t start = grammar_start(g, rule);
    json_t *list = NULL, *item;
    size_t i;
    cohort_status status = COHORT_OK;
    if (json_is_boolean(schema)) {
        if (json_is_true(schema)) {
            json_t *empty = json_object();
            TRY(json_keep(j, empty, err));
            return fill_rule(j, empty, rule, err);
        }
        return COHORT_OK; /* nothing */
    }
    if (!json_is_object(schema))
        return json_wrong(j, COHORT_ERR_FORMAT, err, "expected a schema: an object, true or false");
    TRY(json_check_keywords(j, schema, err));
    const json_t *reference = json_object_get(schema, "$ref"), *any = json_object_get(schema, "anyOf"),
                 *one = json_object_get(schema, "oneOf");
    const char *only = only_key(schema);
    if (reference != NULL && (j->lone_references || (only != NULL && strcmp(only, "$ref") == 0))) {
        const json_t *target = NULL;
        uint32_t other = 0;
        TRY(json_target(j, reference, &target, err));
        char place[sizeof j->place];
        memcpy(place, j->place, sizeof place);
        const char *name = json_string_value(reference);
        if (name[0] == '#')
            (void)snprintf(j->place, sizeof j->place, "%s", name + 1);
        TRY(json_rule(j, target, &other, err));
        memcpy(j->place, place, sizeof place);
        grammar_end(g, rule, grammar_refer(g, rule, start, other));
        return COHORT_OK;
    }
    if (only != NULL && strcmp(only, "anyOf") == 0)
        return one_of_rules(j, any, "anyOf", rule, err);
    if (only != NULL && strcmp(only, "oneOf") == 0) {
        bool disjoint = true;
        TRY(json_disjoint(j, one, &disjoint, err));
        if (!disjoint && j->reading->options->unsupported == GUIDE_UNSUPPORTED_REFUSE)
            return json_wrong(j, COHORT_ERR_UNSUPPORTED, err,
                              "oneOf: it is not certain that no value meets two of its schemas: use anyOf, or set "
                              "guided_unsupported: ignore, which takes it for anyOf");
        if (!disjoint && j->reading->ignored != NULL)
            TRY(text_printf(j->reading->ignored, err, "#%s: oneOf, taken for anyOf\n", j->place));
        return one_of_rules(j, one, "oneOf", rule, err);
    }
    TRY_GOTO(json_expand(j, schema, &list, err));
    json_array_foreach(list, i, item)
    {
        const uint32_t end = nfa_state(grammar_nfa(g, rule));
        TRY_GOTO(simple_part(j, item, rule, start, end, err));
        grammar_end(g, rule, end);
    }
cleanup:
    json_decref(list);
    return status;
}

cohort_status json_rule(struct json_reading *j, const json_t *schema, uint32_t *rule, cohort_error *err)
{
    struct text key = {0};
    cohort_status status = COHORT_OK;
    if (json_is_object(schema) && json_object_size(schema) == 0)
        schema = json_true();
    TRY_GOTO(json_text_write(schema, JSON_ENCODE_ANY | JSON_COMPACT, &key, err));
    const json_t *known = json_object_get(j->rules, key.data);
    if (known != NULL) {
        *rule = (uint32_t)json_integer_value(known);
        goto cleanup;
    }
    if (j->depth >= JSON_SCHEMA_DEPTH) {
        status =
            json_wrong(j, COHORT_ERR_UNSUPPORTED, err, "schemas nest deeper than %d levels", (int)JSON_SCHEMA_DEPTH);
        goto cleanup;
    }
    char name[sizeof j->place + 2];
    (void)snprintf(name, sizeof name, "#%s", j->place);
    *rule = grammar_rule(j->grammar, name, strlen(name));
    if (json_object_set_new(j->rules, key.data, json_integer(*rule)) != 0) {
        status = error_set(err, COHORT_ERR_MEMORY, "out of memory for a JSON schema");
        goto cleanup;
    }
    j->depth++;
    TRY_GOTO(fill_rule(j, schema, *rule, err));
    j->depth--;
    status = grammar_check(j->grammar, err);
    if (status != COHORT_OK)
        error_context(err, "%s: at #%s", j->reading->origin, j->place);
cleanup:
    text_free(&key);
    return status;
}

/* Drafts up to 7 say that $ref stands alone. */
static bool has_lone_references(const json_t *root)
{
    const char *draft = json_string_value(json_object_get(root, "$schema"));
    return draft != NULL && (strstr(draft, "draft-07") != NULL || strstr(draft, "draft-06") != NULL ||
                             strstr(draft, "draft-04") != NULL || strstr(draft, "draft-03") != NULL);
}

cohort_status guide_read_schema(struct guide_reading *reading, const json_t *schema, uint32_t in, uint32_t from,
                                uint32_t *to, cohort_error *err)
{
    struct json_reading j = {.reading = reading,
                             .grammar = reading->grammar,
                             .root = schema,
                             .rules = json_object(),
                             .made = json_array(),
                             .lone_references = has_lone_references(schema)};
    uint32_t rule = 0;
    cohort_status status = j.rules == NULL || j.made == NULL
                               ? error_set(err, COHORT_ERR_MEMORY, "out of memory for a JSON schema")
                               : json_rule(&j, schema, &rule, err);
    if (status == COHORT_OK)
        *to = grammar_refer(reading->grammar, in, from, rule);
    json_decref(j.rules);
    json_decref(j.made);
    return status;
}

cohort_status guide_read_json(struct guide_reading *reading, const char *text, size_t length, uint32_t root,
                              cohort_error *err)
{
    json_t *schema = NULL;
    uint32_t to = 0;
    TRY(json_text_parse(&schema, text, length, reading->origin, 1, JSON_TEXT_ANY, err));
    cohort_status status = guide_read_schema(reading, schema, root, grammar_start(reading->grammar, root), &to, err);
    if (status == COHORT_OK)
        grammar_end(reading->grammar, root, to);
    json_decref(schema);
    return status;
}

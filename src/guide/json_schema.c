#include "guide/json_schema.h"

#include "base/number.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <math.h>
#include <pcre2.h>
#include <string.h>

enum { DEPTH = 128, STEPS = 1000000, PLACE = 400, REFERENCES = 32, MATCH_LIMIT = 20000, STEPS_OF_MATCH = 50 };

/* --- keywords --- */

/* What the value of a keyword must be. */
enum form {
    ANY,
    TYPE,
    SCHEMA,
    SCHEMA_OR_LIST,
    SCHEMAS,
    SCHEMA_MAP,
    PATTERN_MAP,
    NAMES,
    NUMBER,
    POSITIVE,
    COUNT,
    PATTERN,
    SWITCH,
    LIST,
    REFERENCE
};

static const struct keyword {
    const char *name;
    enum form form;
} keywords[] = {
    {"type", TYPE},
    {"enum", LIST},
    {"const", ANY},
    {"properties", SCHEMA_MAP},
    {"required", NAMES},
    {"additionalProperties", SCHEMA},
    {"patternProperties", PATTERN_MAP},
    {"propertyNames", SCHEMA},
    {"minProperties", COUNT},
    {"maxProperties", COUNT},
    {"items", SCHEMA_OR_LIST},
    {"prefixItems", SCHEMAS},
    {"additionalItems", SCHEMA},
    {"minItems", COUNT},
    {"maxItems", COUNT},
    {"uniqueItems", SWITCH},
    {"minimum", NUMBER},
    {"maximum", NUMBER},
    {"exclusiveMinimum", NUMBER},
    {"exclusiveMaximum", NUMBER},
    {"multipleOf", POSITIVE},
    {"minLength", COUNT},
    {"maxLength", COUNT},
    {"pattern", PATTERN},
    {"anyOf", SCHEMAS},
    {"oneOf", SCHEMAS},
    {"allOf", SCHEMAS},
    {"not", SCHEMA},
    {"$ref", REFERENCE},
    {"$defs", SCHEMA_MAP},
    {"definitions", SCHEMA_MAP},
    {"title", ANY},
    {"description", ANY},
    {"default", ANY},
    {"examples", ANY},
    {"format", ANY},
    {"$schema", ANY},
    {"$id", ANY},
    {"$comment", ANY},
    {"deprecated", ANY},
    {"readOnly", ANY},
    {"writeOnly", ANY},
};

static const char *const type_names[] = {"null", "boolean", "object", "array", "number", "string", "integer"};

/* --- references --- */

/* ~1 is a slash, ~0 a tilde; length of the token that is made. */
static size_t unescape(const char *from, size_t length, char *to, size_t size)
{
    size_t n = 0;
    for (size_t i = 0; i < length && n < size; i++) {
        const bool escaped = from[i] == '~' && i + 1 < length && (from[i + 1] == '0' || from[i + 1] == '1');
        to[n++] = escaped ? from[i + 1] == '0' ? '~' : '/' : from[i];
        i += escaped;
    }
    return n;
}

const json_t *json_schema_place(const json_t *root, const char *reference)
{
    if (reference[0] != '#' || (reference[1] != '/' && reference[1] != '\0'))
        return NULL;
    for (const char *at = reference + 1; root != NULL && *at == '/';) {
        const size_t length = strcspn(++at, "/");
        char token[200];
        const size_t n = unescape(at, length, token, sizeof token);
        if (n == sizeof token)
            return NULL;
        token[n] = '\0';
        if (json_is_array(root)) {
            int64_t index = -1;
            root = number_read_integer(token, n, &index) && index >= 0 ? json_array_get(root, (size_t)index) : NULL;
        } else {
            root = json_object_get(root, token);
        }
        at += length;
    }
    return root;
}

/* --- the schema itself --- */

struct check {
    const json_t *root;
    const char *origin;
    char place[PLACE];
    size_t length; /* of place */
    int depth;
};

static cohort_status wrong(const struct check *c, cohort_status status, cohort_error *err, const char *what)
{
    return error_set(err, status, "%s: at #%.300s: %s", c->origin, c->place, what);
}

static size_t enter(struct check *c, const char *name)
{
    const size_t before = c->length, n = strlen(name);
    if (c->length + n + 2 < sizeof c->place) {
        c->place[c->length] = '/';
        memcpy(c->place + c->length + 1, name, n + 1);
        c->length += n + 1;
    }
    return before;
}

static void leave(struct check *c, size_t before)
{
    c->length = before;
    c->place[before] = '\0';
}

static cohort_status check_schema(struct check *c, const json_t *schema, cohort_error *err);

static pcre2_code *compile(const char *pattern, size_t length)
{
    int code = 0;
    PCRE2_SIZE offset = 0;
    return pcre2_compile((PCRE2_SPTR)pattern, length,
                         PCRE2_UTF | PCRE2_MATCH_INVALID_UTF | PCRE2_NEVER_BACKSLASH_C | PCRE2_DOLLAR_ENDONLY, &code,
                         &offset, NULL);
}

static cohort_status check_list(struct check *c, const json_t *list, bool schemas, cohort_error *err)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        char name[NUMBER_BYTES];
        number_format(name, sizeof name, "%zu", i);
        const size_t before = enter(c, name);
        if (!schemas && !json_is_string(item))
            return wrong(c, COHORT_ERR_FORMAT, err, "expected the name of a property, a text");
        if (schemas)
            TRY(check_schema(c, item, err));
        leave(c, before);
    }
    return COHORT_OK;
}

static bool is_type(const json_t *name)
{
    for (size_t i = 0; json_is_string(name) && i < sizeof type_names / sizeof type_names[0]; i++)
        if (strcmp(json_string_value(name), type_names[i]) == 0)
            return true;
    return false;
}

static bool is_type_or_list(const json_t *value)
{
    bool known = is_type(value) || json_array_size(value) > 0;
    for (size_t i = 0; i < json_array_size(value); i++)
        known = known && is_type(json_array_get(value, i));
    return known;
}

static bool is_pattern(const json_t *value)
{
    pcre2_code *code = json_is_string(value) ? compile(json_string_value(value), json_string_length(value)) : NULL;
    const bool good = code != NULL;
    pcre2_code_free(code);
    return good;
}

static const char *expected(enum form form, const json_t *value)
{
    switch (form) {
    case ANY: return NULL;
    case TYPE:
        return is_type_or_list(value) ? NULL
                                      : "null, boolean, object, array, number, string or integer, or a list of these";
    case SCHEMA: return json_is_object(value) || json_is_boolean(value) ? NULL : "a schema: an object, true or false";
    case SCHEMA_OR_LIST:
        return json_is_object(value) || json_is_boolean(value) || json_is_array(value) ? NULL
                                                                                       : "a schema, or a list of them";
    case LIST: return json_is_array(value) ? NULL : "a list";
    case SCHEMAS: return json_array_size(value) > 0 ? NULL : "a list of schemas";
    case NAMES: return json_is_array(value) ? NULL : "a list of names of properties";
    case SCHEMA_MAP:
    case PATTERN_MAP: return json_is_object(value) ? NULL : "an object of schemas by name";
    case NUMBER: return json_is_number(value) ? NULL : "a number";
    case POSITIVE: return json_is_number(value) && json_number_value(value) > 0 ? NULL : "a number above 0";
    case COUNT: return json_is_integer(value) && json_integer_value(value) >= 0 ? NULL : "a whole number of at least 0";
    case SWITCH: return json_is_boolean(value) ? NULL : "true or false";
    case PATTERN: return is_pattern(value) ? NULL : "a regular expression (PCRE2)";
    case REFERENCE: return json_is_string(value) ? NULL : "a text";
    }
    return NULL;
}

static const struct keyword *find_keyword(const char *name)
{
    for (size_t i = 0; i < sizeof keywords / sizeof keywords[0]; i++)
        if (strcmp(name, keywords[i].name) == 0)
            return &keywords[i];
    return NULL;
}

const char *json_schema_form(const char *keyword, const json_t *value)
{
    const struct keyword *found = find_keyword(keyword);
    return found == NULL ? NULL : expected(found->form, value);
}

/* A reference that leads to itself through references alone would never end. */
static cohort_status check_reference(const struct check *c, const json_t *value, cohort_error *err)
{
    for (int i = 0; i < REFERENCES; i++) {
        const json_t *found = json_is_string(value) ? json_schema_place(c->root, json_string_value(value)) : NULL;
        if (!json_is_object(found) && !json_is_boolean(found))
            return wrong(c, COHORT_ERR_UNSUPPORTED, err,
                         "expected a reference to a place in the same schema that is there, as in \"#/$defs/NAME\"");
        value = json_object_get(found, "$ref");
        if (value == NULL)
            return COHORT_OK;
    }
    return wrong(c, COHORT_ERR_FORMAT, err, "the references go in a circle");
}

static cohort_status check_keyword(struct check *c, enum form form, const json_t *value, cohort_error *err)
{
    const char *key, *want = form == REFERENCE ? NULL : expected(form, value);
    char message[120];
    json_t *item;
    if (want != NULL) {
        (void)snprintf(message, sizeof message, "expected %s", want);
        return wrong(c, COHORT_ERR_FORMAT, err, message);
    }
    switch (form) {
    case SCHEMA: return check_schema(c, value, err);
    case SCHEMA_OR_LIST: return json_is_array(value) ? check_list(c, value, true, err) : check_schema(c, value, err);
    case SCHEMAS: return check_list(c, value, true, err);
    case NAMES: return check_list(c, value, false, err);
    case SCHEMA_MAP:
    case PATTERN_MAP:
        json_object_foreach((json_t *)(uintptr_t)value, key, item)
        {
            const size_t before = enter(c, key);
            json_t *name = form == PATTERN_MAP ? json_string(key) : NULL;
            const bool good = form == SCHEMA_MAP || is_pattern(name);
            json_decref(name);
            if (!good)
                return wrong(c, COHORT_ERR_FORMAT, err, "expected a regular expression (PCRE2) for a name");
            TRY(check_schema(c, item, err));
            leave(c, before);
        }
        return COHORT_OK;
    case REFERENCE: return check_reference(c, value, err);
    default: return COHORT_OK;
    }
}

static cohort_status check_schema(struct check *c, const json_t *schema, cohort_error *err)
{
    const char *key;
    json_t *value;
    if (json_is_boolean(schema))
        return COHORT_OK;
    if (!json_is_object(schema))
        return wrong(c, COHORT_ERR_FORMAT, err, "expected a schema: an object, true or false");
    if (++c->depth > DEPTH)
        return wrong(c, COHORT_ERR_UNSUPPORTED, err, "the schema nests deeper than 128 levels");
    json_object_foreach((json_t *)(uintptr_t)schema, key, value)
    {
        const struct keyword *keyword = find_keyword(key);
        const size_t before = enter(c, key);
        if (keyword == NULL)
            return wrong(c, COHORT_ERR_UNSUPPORTED, err,
                         "this keyword is not supported; docs/REWARDS.md lists those that are");
        TRY(check_keyword(c, keyword->form, value, err));
        leave(c, before);
    }
    c->depth--;
    return COHORT_OK;
}

cohort_status json_schema_check(const json_t *schema, const char *origin, cohort_error *err)
{
    struct check c = {.root = schema, .origin = origin};
    return check_schema(&c, schema, err);
}

/* --- values --- */

struct validation {
    const json_t *root;
    long steps;
    int depth;
    cohort_error *err;
    cohort_status status; /* the first error, which is out of memory */
};

static bool valid_at(struct validation *v, const json_t *schema, const json_t *value);

bool json_schema_same(const json_t *a, const json_t *b)
{
    const char *key;
    json_t *item;
    if (json_is_integer(a) && json_is_integer(b))
        return json_integer_value(a) == json_integer_value(b);
    if (json_is_number(a) && json_is_number(b))
        return json_number_value(a) == json_number_value(b);
    if (json_typeof(a) != json_typeof(b))
        return false;
    if (json_is_array(a)) {
        bool same = json_array_size(a) == json_array_size(b);
        for (size_t i = 0; same && i < json_array_size(a); i++)
            same = json_schema_same(json_array_get(a, i), json_array_get(b, i));
        return same;
    }
    if (!json_is_object(a))
        return json_equal(a, b);
    if (json_object_size(a) != json_object_size(b))
        return false;
    json_object_foreach((json_t *)(uintptr_t)a, key, item)
    {
        const json_t *other = json_object_get(b, key);
        if (other == NULL || !json_schema_same(item, other))
            return false;
    }
    return true;
}

static bool has_type(const json_t *value, const char *type)
{
    switch (type[0]) {
    case 'o': return json_is_object(value);
    case 'a': return json_is_array(value);
    case 's': return json_is_string(value);
    case 'b': return json_is_boolean(value);
    case 'i':
        return json_is_integer(value) ||
               (json_is_real(value) && json_real_value(value) == rint(json_real_value(value)));
    default: return type[2] == 'l' ? json_is_null(value) : json_is_number(value); /* null, number */
    }
}

static bool type_holds(const json_t *type, const json_t *value)
{
    if (json_is_string(type))
        return has_type(value, json_string_value(type));
    for (size_t i = 0; i < json_array_size(type); i++)
        if (has_type(value, json_string_value(json_array_get(type, i))))
            return true;
    return false;
}

static bool out_of_memory(struct validation *v)
{
    if (v->status == COHORT_OK)
        v->status = error_set(v->err, COHORT_ERR_MEMORY, "JSON schema: out of memory");
    return false;
}

static bool pattern_holds(struct validation *v, const json_t *pattern, const json_t *value)
{
    pcre2_code *code = compile(json_string_value(pattern), json_string_length(pattern));
    pcre2_match_context *limits = pcre2_match_context_create(NULL);
    pcre2_match_data *match = code == NULL ? NULL : pcre2_match_data_create(1, NULL);
    bool holds = false;
    v->steps -= STEPS_OF_MATCH;
    if (code == NULL || limits == NULL || match == NULL) {
        out_of_memory(v); /* it compiled when the schema was checked */
    } else {
        pcre2_set_match_limit(limits, MATCH_LIMIT); /* what needs more does not match */
        holds = pcre2_match(code, (PCRE2_SPTR)json_string_value(value), json_string_length(value), 0, 0, match,
                            limits) >= 0;
    }
    pcre2_match_data_free(match);
    pcre2_match_context_free(limits);
    pcre2_code_free(code);
    return holds;
}

/* Characters of a JSON text, which is valid UTF-8. */
static size_t count_characters(const json_t *text)
{
    const char *at = json_string_value(text);
    size_t n = 0;
    for (size_t i = 0; i < json_string_length(text); i++)
        n += ((unsigned char)at[i] & 0xc0) != 0x80;
    return n;
}

static bool within(const json_t *schema, const char *least, const char *most, size_t n)
{
    const json_t *low = json_object_get(schema, least), *high = json_object_get(schema, most);
    return (low == NULL || (json_int_t)n >= json_integer_value(low)) &&
           (high == NULL || (json_int_t)n <= json_integer_value(high));
}

static bool number_holds(const json_t *schema, const json_t *value)
{
    const double x = json_number_value(value);
    const json_t *low = json_object_get(schema, "minimum"), *high = json_object_get(schema, "maximum"),
                 *above = json_object_get(schema, "exclusiveMinimum"),
                 *below = json_object_get(schema, "exclusiveMaximum"), *of = json_object_get(schema, "multipleOf");
    if ((low != NULL && x < json_number_value(low)) || (high != NULL && x > json_number_value(high)) ||
        (above != NULL && x <= json_number_value(above)) || (below != NULL && x >= json_number_value(below)))
        return false;
    if (of == NULL)
        return true;
    if (json_is_integer(of) && json_is_integer(value))
        return json_integer_value(value) % json_integer_value(of) == 0;
    /* 0.3 is a multiple of 0.1, though not of the double next to it: within the rounding of the quotient. */
    const double quotient = x / json_number_value(of);
    return fabs(quotient) < 0x1p53 ? fabs(quotient - rint(quotient)) <= 4 * 0x1p-53 * fabs(quotient)
                                   : fmod(x, json_number_value(of)) == 0.0;
}

/* The schema of an element: one of the list that stands in prefixItems, or in older drafts in items; else that of the
 * others. */
static const json_t *item_schema(const json_t *schema, size_t i)
{
    const json_t *items = json_object_get(schema, "items"), *first = json_object_get(schema, "prefixItems");
    if (json_is_array(items)) {
        first = items;
        items = json_object_get(schema, "additionalItems");
    }
    return i < json_array_size(first) ? json_array_get(first, i) : items;
}

static bool items_hold(struct validation *v, const json_t *schema, const json_t *value)
{
    const size_t n = json_array_size(value);
    if (!within(schema, "minItems", "maxItems", n))
        return false;
    for (size_t i = 0; i < n; i++) {
        const json_t *item = item_schema(schema, i);
        if (item != NULL && !valid_at(v, item, json_array_get(value, i)))
            return false;
    }
    if (json_is_true(json_object_get(schema, "uniqueItems")))
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < i; j++)
                if (v->steps-- <= 0 || json_schema_same(json_array_get(value, i), json_array_get(value, j)))
                    return false;
    return true;
}

/* The schemas of patternProperties whose pattern is found in the key. *matched: there was one. */
static bool patterns_hold(struct validation *v, const json_t *patterns, const char *key, const json_t *value,
                          bool *matched)
{
    const char *pattern;
    json_t *part;
    bool holds = true;
    json_object_foreach((json_t *)(uintptr_t)patterns, pattern, part)
    {
        json_t *name = json_string_nocheck(key), *expression = json_string_nocheck(pattern);
        const bool known = name != NULL && expression != NULL;
        const bool found = known ? pattern_holds(v, expression, name) : out_of_memory(v);
        json_decref(name);
        json_decref(expression);
        *matched = *matched || found;
        holds = holds && known && (!found || valid_at(v, part, value));
    }
    return holds;
}

static bool properties_hold(struct validation *v, const json_t *schema, const json_t *value)
{
    const json_t *properties = json_object_get(schema, "properties"), *required = json_object_get(schema, "required"),
                 *additional = json_object_get(schema, "additionalProperties"),
                 *names = json_object_get(schema, "propertyNames"),
                 *patterns = json_object_get(schema, "patternProperties");
    const char *key;
    json_t *item;
    if (!within(schema, "minProperties", "maxProperties", json_object_size(value)))
        return false;
    for (size_t i = 0; i < json_array_size(required); i++)
        if (json_object_get(value, json_string_value(json_array_get(required, i))) == NULL)
            return false;
    json_object_foreach((json_t *)(uintptr_t)value, key, item)
    {
        const json_t *property = json_object_get(properties, key);
        bool matched = property != NULL;
        if (patterns != NULL && !patterns_hold(v, patterns, key, item, &matched))
            return false;
        const json_t *part = property != NULL ? property : matched ? NULL : additional;
        if (part != NULL && !valid_at(v, part, item))
            return false;
        if (names != NULL) {
            json_t *name = json_string_nocheck(key);
            const bool good = name == NULL ? out_of_memory(v) : valid_at(v, names, name);
            json_decref(name);
            if (!good)
                return false;
        }
    }
    return true;
}

static size_t count_valid(struct validation *v, const json_t *schemas, const json_t *value)
{
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(schemas); i++)
        n += valid_at(v, json_array_get(schemas, i), value);
    return n;
}

static bool combinations_hold(struct validation *v, const json_t *schema, const json_t *value)
{
    const json_t *any = json_object_get(schema, "anyOf"), *one = json_object_get(schema, "oneOf"),
                 *all = json_object_get(schema, "allOf"), *not = json_object_get(schema, "not"),
                 *reference = json_object_get(schema, "$ref");
    return (any == NULL || count_valid(v, any, value) > 0) && (one == NULL || count_valid(v, one, value) == 1) &&
           (all == NULL || count_valid(v, all, value) == json_array_size(all)) &&
           (not == NULL || !valid_at(v, not, value)) &&
           (reference == NULL || valid_at(v, json_schema_place(v->root, json_string_value(reference)), value));
}

static bool all_hold(struct validation *v, const json_t *schema, const json_t *value)
{
    const json_t *type = json_object_get(schema, "type"), *constant = json_object_get(schema, "const"),
                 *choices = json_object_get(schema, "enum"), *pattern = json_object_get(schema, "pattern");
    if ((type != NULL && !type_holds(type, value)) || (constant != NULL && !json_schema_same(constant, value)))
        return false;
    bool chosen = choices == NULL;
    for (size_t i = 0; !chosen && i < json_array_size(choices); i++)
        chosen = json_schema_same(json_array_get(choices, i), value);
    if (!chosen || (json_is_number(value) && !number_holds(schema, value)))
        return false;
    if (json_is_string(value) && (!within(schema, "minLength", "maxLength", count_characters(value)) ||
                                  (pattern != NULL && !pattern_holds(v, pattern, value))))
        return false;
    return (!json_is_array(value) || items_hold(v, schema, value)) &&
           (!json_is_object(value) || properties_hold(v, schema, value)) && combinations_hold(v, schema, value);
}

static bool valid_at(struct validation *v, const json_t *schema, const json_t *value)
{
    if (v->status != COHORT_OK || v->depth >= DEPTH)
        v->steps = 0; /* nothing is valid any more, nor is anything invalid for "not" */
    if (v->steps-- <= 0)
        return false;
    if (json_is_boolean(schema))
        return json_is_true(schema);
    v->depth++;
    const bool valid = all_hold(v, schema, value);
    v->depth--;
    return valid;
}

cohort_status json_schema_valid(const json_t *root, const json_t *part, const json_t *value, bool *valid,
                                cohort_error *err)
{
    struct validation v = {.root = root, .steps = STEPS, .err = err};
    const bool holds = valid_at(&v, part, value);
    *valid = holds && v.steps > 0;
    return v.status;
}

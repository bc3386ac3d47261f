/* Schemas that must hold together: allOf, $ref and anyOf beside other keywords, as a list of simple schemas. */
#include "guide/guide_json.h"
#include "guide/json_schema.h"

#include <string.h>

/* ---- Keywords ---- */

/* What is enforced, then what says nothing about values. */
static const char *const keywords[] = {"type",
                                       "enum",
                                       "const",
                                       "properties",
                                       "required",
                                       "additionalProperties",
                                       "patternProperties",
                                       "minProperties",
                                       "maxProperties",
                                       "items",
                                       "prefixItems",
                                       "additionalItems",
                                       "minItems",
                                       "maxItems",
                                       "minimum",
                                       "maximum",
                                       "exclusiveMinimum",
                                       "exclusiveMaximum",
                                       "multipleOf",
                                       "minLength",
                                       "maxLength",
                                       "pattern",
                                       "format",
                                       "anyOf",
                                       "oneOf",
                                       "allOf",
                                       "$ref",
                                       "$schema",
                                       "$id",
                                       "id",
                                       "$anchor",
                                       "$vocabulary",
                                       "$comment",
                                       "$defs",
                                       "definitions",
                                       "title",
                                       "description",
                                       "default",
                                       "example",
                                       "examples",
                                       "deprecated",
                                       "readOnly",
                                       "writeOnly",
                                       "contentEncoding",
                                       "contentMediaType",
                                       "contentSchema"};

/* Of older drafts: {"minimum": 3, "exclusiveMinimum": true}. */
static bool is_old_exclusive(const char *key, const json_t *value)
{
    return json_is_boolean(value) && (strcmp(key, "exclusiveMinimum") == 0 || strcmp(key, "exclusiveMaximum") == 0);
}

cohort_status json_check_keywords(struct json_reading *j, const json_t *schema, cohort_error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)schema, key, value)
    {
        bool known = key[0] == ' '; /* of a merged schema, whose parts were looked at */
        for (size_t i = 0; !known && i < sizeof keywords / sizeof keywords[0]; i++)
            known = strcmp(key, keywords[i]) == 0;
        known = known || (strcmp(key, "uniqueItems") == 0 && json_is_false(value));
        if (!known && j->reading->options->unsupported == GUIDE_UNSUPPORTED_IGNORE) {
            if (j->reading->ignored != NULL)
                TRY(text_printf(j->reading->ignored, err, "#%s/%s\n", j->place, key));
            continue;
        }
        const size_t before = json_enter(j, key);
        if (!known)
            return json_wrong(j, COHORT_ERR_UNSUPPORTED, err,
                              "this keyword cannot be enforced while generating (docs/GUIDED.md lists those that are); "
                              "guided_unsupported: ignore leaves it out");
        const char *want = is_old_exclusive(key, value) ? NULL : json_schema_form(key, value);
        if (want != NULL)
            return json_wrong(j, COHORT_ERR_FORMAT, err, "expected %s", want);
        json_leave(j, before);
    }
    return COHORT_OK;
}

/* ---- Simple schemas ---- */

static cohort_status no_memory(cohort_error *err)
{
    return error_set(err, COHORT_ERR_MEMORY, "out of memory for a JSON schema");
}

/* A copy of what says something of this level, in one form: lists for pattern, format and multipleOf, enum for const,
 * prefixItems and items for the older list of items. A new object. */
static cohort_status normal_form(const json_t *schema, json_t **out, cohort_error *err)
{
    static const char *const copied[] = {"type",
                                         "enum",
                                         "properties",
                                         "required",
                                         "additionalProperties",
                                         "patternProperties",
                                         "items",
                                         "minItems",
                                         "maxItems",
                                         "minProperties",
                                         "maxProperties",
                                         "prefixItems",
                                         "minimum",
                                         "maximum",
                                         "exclusiveMinimum",
                                         "exclusiveMaximum",
                                         "minLength",
                                         "maxLength",
                                         KEY_PATTERNS,
                                         KEY_FORMATS,
                                         KEY_MULTIPLES};
    static const char *const lists[][2] = {
        {"pattern", KEY_PATTERNS}, {"format", KEY_FORMATS}, {"multipleOf", KEY_MULTIPLES}};
    json_t *o = json_object();
    bool good = o != NULL;
    for (size_t i = 0; good && i < sizeof copied / sizeof copied[0]; i++) {
        json_t *value = json_object_get(schema, copied[i]);
        good = value == NULL || json_object_set(o, copied[i], value) == 0;
    }
    for (size_t i = 0; good && i < sizeof lists / sizeof lists[0]; i++) {
        json_t *value = json_object_get(schema, lists[i][0]);
        good = value == NULL || json_object_set_new(o, lists[i][1], json_pack("[O]", value)) == 0;
    }
    json_t *constant = json_object_get(schema, "const"), *items = json_object_get(schema, "items"),
           *others = json_object_get(schema, "additionalItems");
    if (good && constant != NULL && json_object_get(o, "enum") == NULL) {
        good = json_object_set_new(o, "enum", json_pack("[O]", constant)) == 0;
    } else if (good && constant != NULL) { /* both: the constant, if it is one of the values */
        json_t *list = json_array(), *value;
        size_t i;
        good = list != NULL;
        json_array_foreach(json_object_get(o, "enum"), i, value) good =
            good && (!json_schema_same(value, constant) || json_array_append(list, value) == 0);
        good = good && json_object_set(o, "enum", list) == 0;
        json_decref(list);
    }
    if (good && json_is_array(items)) {
        good = json_object_set(o, "prefixItems", items) == 0 &&
               (others != NULL ? json_object_set(o, "items", others) : json_object_del(o, "items")) == 0;
    }
    static const char *const bounds[][2] = {{"exclusiveMinimum", "minimum"}, {"exclusiveMaximum", "maximum"}};
    for (size_t i = 0; good && i < 2; i++) {
        const json_t *exclusive = json_object_get(o, bounds[i][0]);
        json_t *bound = json_object_get(o, bounds[i][1]);
        if (!json_is_boolean(exclusive))
            continue;
        if (json_is_true(exclusive) && bound != NULL) {
            good = json_object_set(o, bounds[i][0], bound) == 0;
            (void)json_object_del(o, bounds[i][1]);
        } else {
            (void)json_object_del(o, bounds[i][0]);
        }
    }
    if (!good) {
        json_decref(o);
        return no_memory(err);
    }
    *out = o;
    return COHORT_OK;
}

static bool is_anything(const json_t *schema)
{
    return json_is_true(schema) || (json_is_object(schema) && json_object_size(schema) == 0);
}

cohort_status json_both(struct json_reading *j, const json_t *a, const json_t *b, const json_t **out, cohort_error *err)
{
    *out = b;
    if (a == NULL || (b != NULL && (is_anything(a) || json_is_false(b))))
        return COHORT_OK;
    *out = a;
    if (b == NULL || is_anything(b) || json_is_false(a) || json_equal(a, b))
        return COHORT_OK;
    json_t *made = json_pack("{s:[OO]}", "allOf", (json_t *)(uintptr_t)a, (json_t *)(uintptr_t)b);
    TRY(json_keep(j, made, err));
    *out = made;
    return COHORT_OK;
}

/* ---- Merging ---- */

static bool set_new(json_t *object, const char *key, json_t *value)
{
    return value != NULL && json_object_set_new(object, key, value) == 0;
}

/* Keeps the larger or the smaller of two numbers. */
static bool merge_bound(json_t *into, const json_t *from, const char *key, bool larger)
{
    json_t *other = json_object_get(from, key);
    const json_t *own = json_object_get(into, key);
    if (other == NULL)
        return true;
    const double x = json_number_value(own), y = json_number_value(other);
    return own != NULL && (larger ? x >= y : x <= y) ? true : json_object_set(into, key, other) == 0;
}

static bool merge_list(json_t *into, const json_t *from, const char *key)
{
    json_t *other = json_object_get(from, key), *own = json_object_get(into, key), *item;
    size_t i;
    if (other == NULL)
        return true;
    if (own == NULL)
        return json_object_set(into, key, other) == 0;
    json_t *both = json_copy(own);
    bool good = both != NULL;
    json_array_foreach(other, i, item)
    {
        bool there = false;
        for (size_t k = 0; good && k < json_array_size(both); k++)
            there = there || json_equal(json_array_get(both, k), item);
        good = good && (there || json_array_append(both, item) == 0);
    }
    return good ? set_new(into, key, both) : (json_decref(both), false);
}

/* *left false: the types have nothing in common. */
static bool merge_types(json_t *into, const json_t *from, bool *left)
{
    static const char *const names[] = {"null", "boolean", "integer", "number", "string", "array", "object"};
    if (json_object_get(from, "type") == NULL)
        return true;
    unsigned a = json_kinds_of(into), b = json_kinds_of(from);
    a |= (a & KIND_NUMBER) != 0 ? (unsigned)KIND_INTEGER : 0;
    b |= (b & KIND_NUMBER) != 0 ? (unsigned)KIND_INTEGER : 0;
    unsigned kinds = a & b;
    kinds = (kinds & KIND_NUMBER) != 0 ? kinds & ~(unsigned)KIND_INTEGER : kinds;
    *left = kinds != 0;
    json_t *list = json_array();
    bool good = list != NULL;
    for (unsigned i = 0; good && i < 7; i++)
        good = (kinds & 1u << i) == 0 || json_array_append_new(list, json_string(names[i])) == 0;
    return good ? set_new(into, "type", list) : (json_decref(list), false);
}

cohort_status json_property(struct json_reading *j, const json_t *schema, const char *key, const json_t **out,
                            cohort_error *err)
{
    const json_t *named = json_object_get(json_object_get(schema, "properties"), key);
    const char *pattern;
    json_t *part;
    bool matched = named != NULL;
    *out = named;
    if (named != NULL && json_object_get(schema, KEY_MERGED) != NULL)
        return COHORT_OK;
    json_object_foreach((json_t *)(uintptr_t)json_object_get(schema, "patternProperties"), pattern, part)
    {
        bool found = false;
        TRY(json_key_matches(j, pattern, key, &found, err));
        if (found) {
            TRY(json_both(j, *out, part, out, err));
            matched = true;
        }
    }
    if (!matched)
        *out = json_object_get(schema, "additionalProperties");
    return COHORT_OK;
}

/* Adds a property to merged ones, as both schemas have it. */
static cohort_status merge_property(struct json_reading *j, json_t *properties, const char *key, const json_t *a,
                                    const json_t *b, cohort_error *err)
{
    const json_t *x = NULL, *y = NULL, *both = NULL;
    TRY(json_property(j, a, key, &x, err));
    TRY(json_property(j, b, key, &y, err));
    TRY(json_both(j, x, y, &both, err));
    return json_object_set(properties, key, both != NULL ? (json_t *)(uintptr_t)both : json_true()) == 0
               ? COHORT_OK
               : no_memory(err);
}

static cohort_status merge_patterns(struct json_reading *j, json_t *into, const json_t *from, cohort_error *err)
{
    const json_t *a = json_object_get(into, "patternProperties"), *b = json_object_get(from, "patternProperties"),
                 *more_a = json_object_get(into, "additionalProperties"),
                 *more_b = json_object_get(from, "additionalProperties");
    const bool open = (more_a == NULL || is_anything(more_a)) && (more_b == NULL || is_anything(more_b));
    const char *pattern;
    json_t *part;
    if (a == NULL && b == NULL)
        return COHORT_OK;
    if (a != NULL && b != NULL && !open && !json_equal(a, b))
        return json_wrong(j, COHORT_ERR_UNSUPPORTED, err,
                          "patternProperties of two schemas, together with additionalProperties, cannot be merged");
    json_t *all = json_object();
    cohort_status status = all == NULL ? no_memory(err) : COHORT_OK;
    for (int k = 0; k < 2 && status == COHORT_OK; k++) {
        json_object_foreach((json_t *)(uintptr_t)(k == 0 ? a : b), pattern, part)
        {
            const json_t *rest = a != NULL && b != NULL ? NULL : k == 0 ? more_b : more_a, *both = NULL;
            if (status == COHORT_OK)
                status = json_both(j, part, rest, &both, err);
            if (status == COHORT_OK)
                status = json_both(j, both, json_object_get(all, pattern), &both, err);
            if (status == COHORT_OK && json_object_set(all, pattern, (json_t *)(uintptr_t)both) != 0)
                status = no_memory(err);
        }
    }
    if (status == COHORT_OK && json_object_set(into, "patternProperties", all) != 0)
        status = no_memory(err);
    json_decref(all);
    return status;
}

static cohort_status merge_objects(struct json_reading *j, json_t *into, const json_t *from, cohort_error *err)
{
    static const char *const keys[] = {"properties", "patternProperties", "additionalProperties"};
    const char *key;
    json_t *part;
    bool any = false;
    for (size_t i = 0; i < 3; i++)
        any = any || json_object_get(from, keys[i]) != NULL;
    if (!any)
        return COHORT_OK;
    json_t *properties = json_object();
    cohort_status status = properties == NULL ? no_memory(err) : COHORT_OK;
    json_object_foreach(json_object_get(into, "properties"), key, part)
    {
        if (status == COHORT_OK)
            status = merge_property(j, properties, key, into, from, err);
    }
    json_object_foreach((json_t *)(uintptr_t)json_object_get(from, "properties"), key, part)
    {
        if (status == COHORT_OK && json_object_get(properties, key) == NULL)
            status = merge_property(j, properties, key, from, into, err);
    }
    const json_t *more = NULL;
    if (status == COHORT_OK)
        status = merge_patterns(j, into, from, err);
    if (status == COHORT_OK)
        status = json_both(j, json_object_get(into, "additionalProperties"),
                           json_object_get(from, "additionalProperties"), &more, err);
    if (status == COHORT_OK &&
        (json_object_set(into, KEY_MERGED, json_true()) != 0 ||
         (json_object_size(properties) > 0 && json_object_set(into, "properties", properties) != 0) ||
         (more != NULL && json_object_set(into, "additionalProperties", (json_t *)(uintptr_t)more) != 0)))
        status = no_memory(err);
    json_decref(properties);
    return status;
}

static cohort_status merge_arrays(struct json_reading *j, json_t *into, const json_t *from, cohort_error *err)
{
    const json_t *a = json_object_get(into, "prefixItems"), *b = json_object_get(from, "prefixItems"),
                 *more_a = json_object_get(into, "items"), *more_b = json_object_get(from, "items"), *both = NULL;
    const size_t n = json_array_size(a) > json_array_size(b) ? json_array_size(a) : json_array_size(b);
    if (b == NULL && more_b == NULL)
        return COHORT_OK;
    json_t *first = json_array();
    cohort_status status = first == NULL ? no_memory(err) : COHORT_OK;
    for (size_t i = 0; i < n && status == COHORT_OK; i++) {
        status = json_both(j, i < json_array_size(a) ? json_array_get(a, i) : more_a,
                           i < json_array_size(b) ? json_array_get(b, i) : more_b, &both, err);
        if (status == COHORT_OK &&
            json_array_append(first, both != NULL ? (json_t *)(uintptr_t)both : json_true()) != 0)
            status = no_memory(err);
    }
    if (status == COHORT_OK)
        status = json_both(j, more_a, more_b, &both, err);
    if (status == COHORT_OK && ((n > 0 && json_object_set(into, "prefixItems", first) != 0) ||
                                (both != NULL && json_object_set(into, "items", (json_t *)(uintptr_t)both) != 0)))
        status = no_memory(err);
    json_decref(first);
    return status;
}

static bool merge_values(json_t *into, const json_t *from)
{
    json_t *own = json_object_get(into, "enum"), *other = json_object_get(from, "enum"), *value;
    size_t i;
    if (other == NULL)
        return true;
    if (own == NULL)
        return json_object_set(into, "enum", other) == 0;
    json_t *both = json_array();
    bool good = both != NULL;
    json_array_foreach(own, i, value)
    {
        bool there = false;
        for (size_t k = 0; k < json_array_size(other); k++)
            there = there || json_schema_same(json_array_get(other, k), value);
        good = good && (!there || json_array_append(both, value) == 0);
    }
    return good ? set_new(into, "enum", both) : (json_decref(both), false);
}

/* Two normal forms as one; *out NULL: their types have nothing in common. */
static cohort_status merge(struct json_reading *j, const json_t *a, const json_t *b, json_t **out, cohort_error *err)
{
    static const char *const larger[] = {"minLength", "minItems", "minProperties", "minimum", "exclusiveMinimum"},
                             *const smaller[] = {"maxLength", "maxItems", "maxProperties", "maximum",
                                                 "exclusiveMaximum"},
                             *const lists[] = {"required", KEY_PATTERNS, KEY_FORMATS, KEY_MULTIPLES};
    json_t *into = json_copy((json_t *)(uintptr_t)a);
    bool left = true, good = into != NULL;
    for (size_t i = 0; good && i < 5; i++)
        good = merge_bound(into, b, larger[i], true) && merge_bound(into, b, smaller[i], false);
    for (size_t i = 0; good && i < 4; i++)
        good = merge_list(into, b, lists[i]);
    good = good && merge_values(into, b) && merge_types(into, b, &left);
    cohort_status status = good ? COHORT_OK : no_memory(err);
    if (status == COHORT_OK)
        status = merge_objects(j, into, b, err);
    if (status == COHORT_OK)
        status = merge_arrays(j, into, b, err);
    *out = status == COHORT_OK && left ? into : NULL;
    if (*out == NULL)
        json_decref(into);
    return status;
}

/* ---- Alternatives ---- */

/* *list = each of *list with each of more; takes more over. */
static cohort_status cross(struct json_reading *j, json_t **list, json_t *more, cohort_error *err)
{
    json_t *all = json_array(), *a, *b;
    size_t i, k;
    cohort_status status = all == NULL ? no_memory(err) : COHORT_OK;
    json_array_foreach(*list, i, a)
    {
        json_array_foreach(more, k, b)
        {
            json_t *merged = NULL;
            if (status == COHORT_OK)
                status = merge(j, a, b, &merged, err);
            if (status == COHORT_OK && merged != NULL && json_array_append_new(all, merged) != 0)
                status = no_memory(err);
        }
    }
    if (status == COHORT_OK && json_array_size(all) > JSON_MOST_ALTERNATIVES)
        status = json_wrong(j, COHORT_ERR_UNSUPPORTED, err, "allOf and anyOf together make more than %d alternatives",
                            (int)JSON_MOST_ALTERNATIVES);
    json_decref(*list);
    json_decref(more);
    *list = all;
    return status;
}

static cohort_status expand_list(struct json_reading *j, const json_t *schemas, const char *keyword, json_t **out,
                                 cohort_error *err)
{
    json_t *item;
    size_t i;
    cohort_status status = COHORT_OK;
    *out = json_array();
    if (*out == NULL)
        return no_memory(err);
    json_array_foreach(schemas, i, item)
    {
        json_t *part = NULL;
        const size_t before = json_enter_item(j, keyword, i);
        status = json_expand(j, item, &part, err);
        if (status == COHORT_OK && json_array_extend(*out, part) != 0)
            status = no_memory(err);
        json_decref(part);
        if (status != COHORT_OK)
            return status;
        json_leave(j, before);
    }
    return COHORT_OK;
}

static cohort_status expand_parts(struct json_reading *j, const json_t *schema, json_t **out, cohort_error *err)
{
    const json_t *reference = json_object_get(schema, "$ref"), *any = json_object_get(schema, "anyOf"),
                 *one = json_object_get(schema, "oneOf"), *target = NULL;
    json_t *part = NULL, *item;
    size_t i;
    cohort_status status = COHORT_OK;
    if (reference != NULL) {
        TRY(json_target(j, reference, &target, err));
        TRY_GOTO(json_expand(j, target, &part, err));
        TRY(cross(j, out, part, err));
        part = NULL;
    }
    json_array_foreach(json_object_get(schema, "allOf"), i, item)
    {
        const size_t before = json_enter_item(j, "allOf", i);
        TRY_GOTO(json_expand(j, item, &part, err));
        json_leave(j, before);
        TRY(cross(j, out, part, err));
        part = NULL;
    }
    if (any != NULL) {
        TRY_GOTO(expand_list(j, any, "anyOf", &part, err));
        TRY(cross(j, out, part, err));
        part = NULL;
    }
    if (one != NULL) {
        bool disjoint = true;
        TRY(json_disjoint(j, one, &disjoint, err));
        if (!disjoint && j->reading->options->unsupported == GUIDE_UNSUPPORTED_REFUSE)
            return json_wrong(j, COHORT_ERR_UNSUPPORTED, err,
                              "oneOf: it is not certain that no value meets two of its schemas: use anyOf, or set "
                              "guided_unsupported: ignore, which takes it for anyOf");
        if (!disjoint && j->reading->ignored != NULL)
            TRY(text_printf(j->reading->ignored, err, "#%s: oneOf, taken for anyOf\n", j->place));
        TRY_GOTO(expand_list(j, one, "oneOf", &part, err));
        TRY(cross(j, out, part, err));
        part = NULL;
    }
cleanup:
    json_decref(part);
    return status;
}

cohort_status json_expand(struct json_reading *j, const json_t *schema, json_t **out, cohort_error *err)
{
    json_t *own = NULL;
    cohort_status status = COHORT_OK;
    *out = json_array();
    if (*out == NULL)
        return no_memory(err);
    if (json_is_false(schema))
        return COHORT_OK;
    if (json_is_true(schema))
        return json_array_append_new(*out, json_object()) == 0 ? COHORT_OK : no_memory(err);
    if (!json_is_object(schema))
        return json_wrong(j, COHORT_ERR_FORMAT, err, "expected a schema: an object, true or false");
    TRY(json_check_keywords(j, schema, err));
    const bool alone = j->lone_references && json_object_get(schema, "$ref") != NULL;
    if (alone)
        own = json_object();
    else
        TRY(normal_form(schema, &own, err));
    if (own == NULL || json_array_append_new(*out, own) != 0)
        return no_memory(err);
    if (++j->depth > JSON_SCHEMA_DEPTH)
        return json_wrong(j, COHORT_ERR_UNSUPPORTED, err,
                          "schemas that hold together nest deeper than %d levels, or refer to themselves",
                          (int)JSON_SCHEMA_DEPTH);
    if (alone) {
        json_t *lone = json_pack("{s:O}", "$ref", json_object_get(schema, "$ref"));
        status = lone == NULL ? no_memory(err) : expand_parts(j, lone, out, err);
        json_decref(lone);
    } else {
        status = expand_parts(j, schema, out, err);
    }
    j->depth--;
    return status;
}

/* ---- Values ---- */

cohort_status json_plain(const json_t *schema, json_t **out, cohort_error *err)
{
    static const char *const lists[][2] = {{KEY_PATTERNS, "pattern"}, {KEY_MULTIPLES, "multipleOf"}};
    json_t *o = json_copy((json_t *)(uintptr_t)schema), *all = json_array(), *item;
    bool good = o != NULL && all != NULL;
    size_t i;
    for (size_t k = 0; good && k < 2; k++) {
        json_array_foreach(json_object_get(schema, lists[k][0]), i, item) good =
            good && json_array_append_new(all, json_pack("{s:O}", lists[k][1], item)) == 0;
        (void)json_object_del(o, lists[k][0]);
    }
    if (good) {
        (void)json_object_del(o, KEY_FORMATS);
        good = json_array_size(all) == 0 || json_object_set(o, "allOf", all) == 0;
    }
    json_decref(all);
    if (!good) {
        json_decref(o);
        return no_memory(err);
    }
    *out = o;
    return COHORT_OK;
}

/* Whether a text has the formats that a simple schema asks for: the validator takes them for annotations. */
static cohort_status has_formats(struct json_reading *j, const json_t *schema, const json_t *value, bool *valid,
                                 cohort_error *err)
{
    struct automaton contents = {0};
    uint32_t *points = NULL;
    size_t n = 0;
    bool all = true;
    cohort_status status = COHORT_OK;
    if (!json_is_string(value) || json_object_get(schema, KEY_FORMATS) == NULL)
        return COHORT_OK;
    TRY_GOTO(json_string_automaton(j, schema, &contents, &all, err));
    TRY_GOTO(json_code_points(json_string_value(value), &points, &n, err));
    *valid = all || automaton_accepts(&contents, points, n);
cleanup:
    automaton_free(&contents);
    mem_free(points);
    return status;
}

cohort_status json_values(struct json_reading *j, const json_t *schema, json_t **out, cohort_error *err)
{
    const json_t *values = json_object_get(schema, "enum");
    json_t *plain = NULL, *list = NULL, *value;
    size_t i;
    cohort_status status = COHORT_OK;
    *out = NULL;
    if (values == NULL)
        return COHORT_OK;
    TRY(json_plain(schema, &plain, err));
    list = json_array();
    if (list == NULL)
        status = no_memory(err);
    json_array_foreach(values, i, value)
    {
        bool valid = false;
        if (status == COHORT_OK)
            status = json_schema_valid(j->root, plain, value, &valid, err);
        if (status == COHORT_OK && valid)
            status = has_formats(j, schema, value, &valid, err);
        if (status == COHORT_OK && valid && json_array_append(list, value) != 0)
            status = no_memory(err);
    }
    json_decref(plain);
    if (status == COHORT_OK)
        *out = list;
    else
        json_decref(list);
    return status;
}

/* Objects and arrays. Properties come in the order of the schema; further ones behind them. States of an object are how
 * many of its properties were passed and how many pairs were written, the latter as far as it makes a difference: none or
 * some, for the comma, and what minProperties and maxProperties count. */
#include "base/utf8.h"
#include "guide/guide_json.h"

#include <stdio.h>
#include <string.h>

enum { MOST_OBJECT_STATES = 20000, MOST_PARTITIONS = 64 };

static cohort_status no_memory(cohort_error *err)
{
    return error_set(err, COHORT_ERR_MEMORY, "out of memory for a JSON schema");
}

cohort_status json_pattern(struct json_reading *j, const json_t *pattern, struct automaton *out, cohort_error *err)
{
    char origin[500];
    (void)snprintf(origin, sizeof origin, "%s: at #%s", j->reading->origin, j->place);
    if (!json_is_string(pattern))
        return json_wrong(j, COHORT_ERR_FORMAT, err, "expected a regular expression");
    return regex_search_automaton(out, json_string_value(pattern), json_string_length(pattern), origin, err);
}

static cohort_status key_automaton(struct json_reading *j, const char *pattern, struct automaton *out,
                                   cohort_error *err)
{
    json_t *text = json_string(pattern);
    if (text == NULL)
        return no_memory(err);
    const cohort_status status = json_pattern(j, text, out, err);
    json_decref(text);
    return status;
}

cohort_status json_code_points(const char *text, uint32_t **out, size_t *n, cohort_error *err)
{
    const size_t length = strlen(text);
    TRY(mem_alloc(out, length + 1, sizeof **out, "JSON schema", err));
    *n = 0;
    for (size_t i = 0; i < length; (*n)++)
        i += utf8_decode(text + i, &(*out)[*n]);
    return COHORT_OK;
}

cohort_status json_key_matches(struct json_reading *j, const char *pattern, const char *key, bool *found,
                               cohort_error *err)
{
    struct automaton automaton = {0};
    uint32_t *points = NULL;
    size_t n = 0;
    cohort_status status = COHORT_OK;
    TRY_GOTO(key_automaton(j, pattern, &automaton, err));
    TRY_GOTO(json_code_points(key, &points, &n, err));
    *found = automaton_accepts(&automaton, points, n);
cleanup:
    automaton_free(&automaton);
    mem_free(points);
    return status;
}

/* ---- Further properties ---- */

/* Keys that the same schema holds for. */
struct key_part {
    struct automaton keys;
    const json_t *schema; /* NULL: any value */
};
struct key_parts {
    struct key_part list[MOST_PARTITIONS];
    size_t n;
};

static void key_parts_free(struct key_parts *parts)
{
    for (size_t i = 0; i < parts->n; i++)
        automaton_free(&parts->list[i].keys);
    mem_free(parts);
}

/* All keys but those of the object's list of names. */
static cohort_status other_keys(const json_t *names, struct automaton *out, cohort_error *err)
{
    struct nfa all = {0}, named = {0};
    struct automaton any = {0}, these = {0};
    uint32_t *points = NULL;
    const char *key;
    json_t *value;
    bool fits = true;
    cohort_status status = COHORT_OK;
    const uint32_t start = nfa_state(&all);
    nfa_edge(&all, start, 0, CODE_POINT_LAST, start);
    TRY_GOTO(automaton_determinize(&any, &all, start, start, AUTOMATON_MOST_STATES, &fits, err));
    const uint32_t first = nfa_state(&named), end = nfa_state(&named);
    json_object_foreach((json_t *)(uintptr_t)names, key, value)
    {
        uint32_t at = first;
        size_t n = 0;
        mem_free(points);
        points = NULL;
        TRY_GOTO(json_code_points(key, &points, &n, err));
        for (size_t i = 0; i < n; i++) {
            const uint32_t to = nfa_state(&named);
            nfa_edge(&named, at, points[i], points[i], to);
            at = to;
        }
        nfa_skip(&named, at, end);
    }
    TRY_GOTO(automaton_determinize(&these, &named, first, end, AUTOMATON_MOST_STATES, &fits, err));
    if (fits)
        TRY_GOTO(automaton_combine(out, &any, &these, PRODUCT_WITHOUT, AUTOMATON_MOST_STATES, &fits, err));
    if (!fits)
        status = error_set(err, COHORT_ERR_UNSUPPORTED, "a JSON schema has too many properties in one object");
cleanup:
    nfa_free(&all);
    nfa_free(&named);
    automaton_free(&any);
    automaton_free(&these);
    mem_free(points);
    return status;
}

/* Cuts each part by a pattern: keys in which it is found get its schema too. */
static cohort_status cut_parts(struct json_reading *j, struct key_parts *parts, const char *pattern,
                               const json_t *schema, bool *matched, cohort_error *err)
{
    struct automaton keys = {0}, in = {0}, out = {0};
    bool fits = true;
    const size_t n = parts->n;
    cohort_status status = COHORT_OK;
    TRY_GOTO(key_automaton(j, pattern, &keys, err));
    for (size_t i = 0; i < n && fits; i++) {
        struct key_part *part = &parts->list[i];
        TRY_GOTO(automaton_combine(&in, &part->keys, &keys, PRODUCT_BOTH, AUTOMATON_MOST_STATES, &fits, err));
        if (fits)
            TRY_GOTO(automaton_combine(&out, &part->keys, &keys, PRODUCT_WITHOUT, AUTOMATON_MOST_STATES, &fits, err));
        if (!fits || parts->n == MOST_PARTITIONS) {
            status = json_wrong(j, COHORT_ERR_UNSUPPORTED, err, "patternProperties overlap in too many ways");
            goto cleanup;
        }
        automaton_free(&part->keys);
        part->keys = out;
        out = (struct automaton){0};
        const json_t *both = schema;
        if (matched[i])
            TRY_GOTO(json_both(j, part->schema, schema, &both, err));
        matched[parts->n] = true;
        parts->list[parts->n++] = (struct key_part){in, both};
        in = (struct automaton){0};
    }
cleanup:
    automaton_free(&keys);
    automaton_free(&in);
    automaton_free(&out);
    return status;
}

/* The rule of one further pair; *none: there can be none. */
static cohort_status pair_rule(struct json_reading *j, const json_t *schema, const json_t *names, uint32_t *rule,
                               bool *none, cohort_error *err)
{
    struct key_parts *parts = NULL;
    bool matched[MOST_PARTITIONS] = {false};
    const json_t *additional = json_object_get(schema, "additionalProperties"),
                 *patterns = json_object_get(schema, "patternProperties");
    const char *pattern;
    json_t *part;
    cohort_status status = COHORT_OK;
    *none = true;
    if (json_is_false(additional) && json_object_size(patterns) == 0)
        return COHORT_OK;
    TRY_GOTO(mem_alloc(&parts, 1, sizeof *parts, "JSON schema", err));
    const bool any_key = json_object_size(names) == 0 && json_object_size(patterns) == 0;
    if (!any_key)
        TRY_GOTO(other_keys(names, &parts->list[0].keys, err));
    parts->list[0].schema = additional;
    parts->n = 1;
    json_object_foreach((json_t *)(uintptr_t)patterns, pattern, part)
    {
        const size_t before = json_enter(j, "patternProperties");
        TRY_GOTO(cut_parts(j, parts, pattern, part, matched, err));
        json_leave(j, before);
    }
    *rule = grammar_rule(j->grammar, NULL, 0);
    const uint32_t start = grammar_start(j->grammar, *rule);
    for (size_t i = 0; i < parts->n; i++) {
        uint32_t value = 0;
        if ((!any_key && parts->list[i].keys.n_states == 0) || json_is_false(parts->list[i].schema))
            continue;
        const size_t before = json_enter(j, matched[i] ? "patternProperties" : "additionalProperties");
        TRY_GOTO(json_rule(j, parts->list[i].schema != NULL ? parts->list[i].schema : json_true(), &value, err));
        json_leave(j, before);
        const uint32_t key = json_quoted(j, *rule, start, any_key ? NULL : &parts->list[i].keys);
        grammar_end(j->grammar, *rule, grammar_refer(j->grammar, *rule, json_colon(j, *rule, key), value));
        *none = false;
    }
cleanup:
    if (parts != NULL)
        key_parts_free(parts);
    return status;
}

/* ---- Objects ---- */

struct property {
    const char *key;
    uint32_t rule;
    bool required, forbidden;
};

struct object {
    struct property *properties;
    size_t n, n_required;
    uint32_t pair;       /* the rule of a further pair */
    bool closed;         /* there is none */
    int64_t least, most; /* of all pairs; most -1: no bound */
    size_t counts;       /* numbers of pairs that are told apart */
};

static bool is_required(const json_t *schema, const char *key)
{
    const json_t *list = json_object_get(schema, "required"), *item;
    size_t i;
    json_array_foreach(list, i, item)
    {
        if (json_is_string(item) && strcmp(json_string_value(item), key) == 0)
            return true;
    }
    return false;
}

/* The names of an object: its properties, then what is required beside them. */
static cohort_status object_names(const json_t *schema, json_t **out, cohort_error *err)
{
    const char *key;
    json_t *value, *names = json_object();
    size_t i;
    bool good = names != NULL;
    json_object_foreach((json_t *)(uintptr_t)json_object_get(schema, "properties"), key, value) good =
        good && json_object_set(names, key, json_true()) == 0;
    json_array_foreach(json_object_get(schema, "required"), i, value) good =
        good && (!json_is_string(value) || json_object_set(names, json_string_value(value), json_true()) == 0);
    if (!good) {
        json_decref(names);
        return no_memory(err);
    }
    *out = names;
    return COHORT_OK;
}

static cohort_status read_object(struct json_reading *j, const json_t *schema, const json_t *names, struct object *o,
                                 cohort_error *err)
{
    const char *key;
    json_t *value;
    const json_t *least = json_object_get(schema, "minProperties"), *most = json_object_get(schema, "maxProperties");
    TRY(mem_alloc(&o->properties, json_object_size(names), sizeof *o->properties, "JSON schema", err));
    json_object_foreach((json_t *)(uintptr_t)names, key, value)
    {
        const json_t *part = NULL;
        struct property *p = &o->properties[o->n++];
        *p = (struct property){.key = key, .required = is_required(schema, key)};
        const size_t before = json_enter(j, "properties");
        (void)json_enter(j, key);
        TRY(json_property(j, schema, key, &part, err));
        p->forbidden = part != NULL && json_is_false(part);
        if (!p->forbidden)
            TRY(json_rule(j, part != NULL ? part : json_true(), &p->rule, err));
        json_leave(j, before);
        o->n_required += p->required;
    }
    TRY(pair_rule(j, schema, names, &o->pair, &o->closed, err));
    o->least = least != NULL ? json_integer_value(least) : 0;
    o->most = most != NULL ? json_integer_value(most) : -1;
    if (o->least <= (int64_t)o->n_required)
        o->least = 0;
    if (o->closed && o->most >= (int64_t)o->n)
        o->most = -1;
    /* Keys beyond the named ones may repeat, which a reader takes for one: of them only one counts for sure. */
    if (!o->closed && o->least > (int64_t)o->n_required + 1)
        return json_wrong(j, COHORT_ERR_UNSUPPORTED, err,
                          "minProperties %lld asks for several properties that are not named: name them, or set "
                          "additionalProperties: false",
                          (long long)o->least);
    o->counts = (size_t)(o->most >= 0 ? o->most : o->least > 1 ? o->least : 1) + 1;
    if (o->counts > MOST_OBJECT_STATES || (o->n + 1) * o->counts > MOST_OBJECT_STATES)
        return json_wrong(j, COHORT_ERR_UNSUPPORTED, err, "too many properties to count");
    return COHORT_OK;
}

/* One pair more; false: there may be none. */
static bool count_up(const struct object *o, size_t count, size_t *next)
{
    if (o->most >= 0 && count == (size_t)o->most)
        return false;
    *next = count + 1 < o->counts ? count + 1 : count;
    return true;
}

static cohort_status emit_object(struct json_reading *j, const struct object *o, uint32_t in, uint32_t from,
                                 uint32_t *to, cohort_error *err)
{
    struct nfa *nfa = grammar_nfa(j->grammar, in);
    uint32_t *states = NULL; /* [n + 1, counts] */
    struct text key = {0};
    size_t next = 0;
    cohort_status status = COHORT_OK;
    TRY(mem_alloc(&states, (o->n + 1) * o->counts, sizeof *states, "JSON schema", err));
    for (size_t i = 0; i < (o->n + 1) * o->counts; i++)
        states[i] = nfa_state(nfa);
    nfa_skip(nfa, json_blank(j, in, nfa_bytes(nfa, from, "{", 1)), states[0]);
    *to = nfa_state(nfa);
    for (size_t i = 0; i < o->n; i++) {
        const struct property *p = &o->properties[i];
        json_t *name = json_string(p->key);
        key.length = 0;
        status = name == NULL ? no_memory(err) : json_value_text(j, name, &key, err);
        json_decref(name);
        if (status != COHORT_OK)
            goto cleanup;
        for (size_t c = 0; c < o->counts; c++) {
            const uint32_t at = states[i * o->counts + c];
            if (!p->required)
                nfa_skip(nfa, at, states[(i + 1) * o->counts + c]);
            if (p->forbidden || !count_up(o, c, &next))
                continue;
            const uint32_t before = c > 0 ? json_comma(j, in, at) : at,
                           behind = json_colon(j, in, nfa_bytes(nfa, before, key.data, key.length));
            nfa_skip(nfa, grammar_refer(j->grammar, in, behind, p->rule), states[(i + 1) * o->counts + next]);
        }
    }
    for (size_t c = 0; c < o->counts; c++) {
        const uint32_t at = states[o->n * o->counts + c];
        if ((int64_t)c >= o->least)
            nfa_skip(nfa, nfa_bytes(nfa, c > 0 ? json_blank(j, in, at) : at, "}", 1), *to);
        if (o->closed || !count_up(o, c, &next))
            continue;
        const uint32_t before = c > 0 ? json_comma(j, in, at) : at;
        nfa_skip(nfa, grammar_refer(j->grammar, in, before, o->pair), states[o->n * o->counts + next]);
    }
cleanup:
    mem_free(states);
    text_free(&key);
    return status;
}

cohort_status json_object_part(struct json_reading *j, const json_t *schema, uint32_t in, uint32_t from, uint32_t *to,
                               cohort_error *err)
{
    struct object o = {0};
    json_t *names = NULL;
    cohort_status status = COHORT_OK;
    TRY_GOTO(object_names(schema, &names, err));
    TRY_GOTO(read_object(j, schema, names, &o, err));
    TRY_GOTO(emit_object(j, &o, in, from, to, err));
cleanup:
    mem_free(o.properties);
    json_decref(names);
    return status;
}

/* ---- Arrays ---- */

cohort_status json_array_part(struct json_reading *j, const json_t *schema, uint32_t in, uint32_t from, uint32_t *to,
                              cohort_error *err)
{
    const json_t *first = json_object_get(schema, "prefixItems"), *items = json_object_get(schema, "items"),
                 *low = json_object_get(schema, "minItems"), *high = json_object_get(schema, "maxItems");
    const int64_t least = low != NULL ? json_integer_value(low) : 0,
                  most = high != NULL ? json_integer_value(high) : -1;
    const size_t n = json_array_size(first);
    struct nfa *nfa = grammar_nfa(j->grammar, in);
    uint32_t at = nfa_bytes(nfa, from, "[", 1), rule = 0;
    *to = nfa_state(nfa);
    if (least > UINT32_MAX / 2 || most > UINT32_MAX / 2)
        return json_wrong(j, COHORT_ERR_UNSUPPORTED, err, "a count of more than 2,147,483,647 items");
    if (least == 0)
        nfa_skip(nfa, nfa_bytes(nfa, at, "]", 1), *to);
    at = json_blank(j, in, at);
    for (size_t i = 0; i < n; i++) {
        if (most >= 0 && (int64_t)i >= most)
            return COHORT_OK;
        const size_t before = json_enter_item(j, "prefixItems", i);
        TRY(json_rule(j, json_array_get(first, i), &rule, err));
        json_leave(j, before);
        at = grammar_refer(j->grammar, in, i > 0 ? json_comma(j, in, at) : at, rule);
        if ((int64_t)i + 1 >= least)
            nfa_skip(nfa, nfa_bytes(nfa, json_blank(j, in, at), "]", 1), *to);
    }
    if (json_is_false(items) || (most >= 0 && (int64_t)n >= most))
        return COHORT_OK;
    const size_t before = json_enter(j, "items");
    TRY(json_rule(j, items != NULL ? items : json_true(), &rule, err));
    json_leave(j, before);
    int64_t written = (int64_t)n;
    if (n == 0) {
        at = grammar_refer(j->grammar, in, at, rule);
        written = 1;
        if (least <= 1)
            nfa_skip(nfa, nfa_bytes(nfa, json_blank(j, in, at), "]", 1), *to);
    }
    if (most >= 0 && written >= most)
        return COHORT_OK;
    const uint32_t more = grammar_rule(j->grammar, NULL, 0);
    grammar_end(j->grammar, more,
                grammar_refer(j->grammar, more, json_comma(j, more, grammar_start(j->grammar, more)), rule));
    const uint32_t wanted = least > written ? (uint32_t)(least - written) : 1;
    at = grammar_repeat(j->grammar, in, at, more, wanted, most >= 0 ? (uint32_t)(most - written) : REPEAT_FOREVER);
    nfa_skip(nfa, nfa_bytes(nfa, json_blank(j, in, at), "]", 1), *to);
    return COHORT_OK;
}

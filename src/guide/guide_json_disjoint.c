/* Whether two schemas have no value in common, for oneOf: false also where that is not certain. */
#include "guide/guide_json.h"
#include "guide/json_schema.h"

#include <string.h>

static cohort_status simple_disjoint(struct json_reading *j, const json_t *a, const json_t *b, int depth,
                                     bool *disjoint, cohort_error *err);

static cohort_status all_disjoint(struct json_reading *j, const json_t *a, const json_t *b, int depth, bool *disjoint,
                                  cohort_error *err)
{
    json_t *x = NULL, *y = NULL, *p, *q;
    size_t i, k;
    cohort_status status = COHORT_OK;
    *disjoint = true;
    TRY_GOTO(json_expand(j, a, &x, err));
    TRY_GOTO(json_expand(j, b, &y, err));
    json_array_foreach(x, i, p)
    {
        json_array_foreach(y, k, q)
        {
            if (*disjoint)
                TRY_GOTO(simple_disjoint(j, p, q, depth, disjoint, err));
        }
    }
cleanup:
    json_decref(x);
    json_decref(y);
    return status;
}

static bool requires(const json_t *schema, const char *key)
{
    const json_t *list = json_object_get(schema, "required");
    for (size_t i = 0; i < json_array_size(list); i++)
        if (json_is_string(json_array_get(list, i)) && strcmp(json_string_value(json_array_get(list, i)), key) == 0)
            return true;
    return false;
}

static cohort_status objects_disjoint(struct json_reading *j, const json_t *a, const json_t *b, int depth,
                                      bool *disjoint, cohort_error *err)
{
    enum { MOST_DEPTH = 8 };
    const json_t *pair[2] = {a, b};
    *disjoint = false;
    for (int k = 0; k < 2; k++) {
        const json_t *one = pair[k], *other = pair[1 - k], *list = json_object_get(one, "required");
        for (size_t i = 0; i < json_array_size(list) && !*disjoint; i++) {
            const char *key = json_string_value(json_array_get(list, i));
            if (key == NULL)
                continue;
            const json_t *there = NULL;
            TRY(json_property(j, other, key, &there, err));
            *disjoint = there != NULL && json_is_false(there);
            const json_t *p = json_object_get(json_object_get(one, "properties"), key),
                         *q = json_object_get(json_object_get(other, "properties"), key);
            if (!*disjoint && k == 0 && depth < MOST_DEPTH && p != NULL && q != NULL && requires(other, key))
                TRY(all_disjoint(j, p, q, depth + 1, disjoint, err));
        }
    }
    return COHORT_OK;
}

static cohort_status strings_disjoint(struct json_reading *j, const json_t *a, const json_t *b, bool *disjoint,
                                      cohort_error *err)
{
    struct automaton x = {0}, y = {0};
    bool all_x = false, all_y = false;
    cohort_status status = COHORT_OK;
    *disjoint = false;
    TRY_GOTO(json_string_automaton(j, a, &x, &all_x, err));
    TRY_GOTO(json_string_automaton(j, b, &y, &all_y, err));
    if (!all_x && !all_y) {
        TRY_GOTO(json_intersect(j, &x, &y, err));
        *disjoint = x.n_states == 0;
    }
cleanup:
    automaton_free(&x);
    automaton_free(&y);
    return status;
}

static cohort_status numbers_disjoint(struct json_reading *j, const json_t *a, const json_t *b, bool *disjoint,
                                      cohort_error *err)
{
    struct automaton x = {0}, y = {0};
    bool plain_x = false, plain_y = false;
    cohort_status status = COHORT_OK;
    *disjoint = false;
    /* A number may be written in several ways; 1 and 1.0 are one: as numbers with a fraction they are compared. */
    TRY_GOTO(json_number_automaton(j, a, false, &x, &plain_x, err));
    TRY_GOTO(json_number_automaton(j, b, false, &y, &plain_y, err));
    if (!plain_x && !plain_y) {
        TRY_GOTO(json_intersect(j, &x, &y, err));
        *disjoint = x.n_states == 0;
    }
cleanup:
    automaton_free(&x);
    automaton_free(&y);
    return status;
}

static bool lengths_apart(const json_t *a, const json_t *b)
{
    const json_t *most_a = json_object_get(a, "maxItems"), *most_b = json_object_get(b, "maxItems");
    return (most_a != NULL && json_integer_value(json_object_get(b, "minItems")) > json_integer_value(most_a)) ||
           (most_b != NULL && json_integer_value(json_object_get(a, "minItems")) > json_integer_value(most_b));
}

static cohort_status simple_disjoint(struct json_reading *j, const json_t *a, const json_t *b, int depth,
                                     bool *disjoint, cohort_error *err)
{
    json_t *values = NULL, *plain = NULL, *value;
    const json_t *against = b;
    size_t i;
    cohort_status status = COHORT_OK;
    *disjoint = true;
    TRY(json_values(j, a, &values, err));
    if (values == NULL) {
        TRY(json_values(j, b, &values, err));
        against = a;
    }
    if (values != NULL) {
        TRY_GOTO(json_plain(against, &plain, err));
        json_array_foreach(values, i, value)
        {
            bool valid = false;
            TRY_GOTO(json_schema_valid(j->root, plain, value, &valid, err));
            *disjoint = *disjoint && !valid;
        }
        goto cleanup;
    }
    unsigned x = json_kinds_of(a), y = json_kinds_of(b);
    x |= (x & KIND_NUMBER) != 0 ? (unsigned)KIND_INTEGER : 0;
    y |= (y & KIND_NUMBER) != 0 ? (unsigned)KIND_INTEGER : 0;
    const unsigned both = x & y;
    *disjoint = (both & (KIND_NULL | KIND_BOOLEAN)) == 0;
    if (*disjoint && (both & KIND_STRING) != 0)
        TRY_GOTO(strings_disjoint(j, a, b, disjoint, err));
    if (*disjoint && (both & (KIND_NUMBER | KIND_INTEGER)) != 0)
        TRY_GOTO(numbers_disjoint(j, a, b, disjoint, err));
    if (*disjoint && (both & KIND_ARRAY) != 0)
        *disjoint = lengths_apart(a, b);
    if (*disjoint && (both & KIND_OBJECT) != 0)
        TRY_GOTO(objects_disjoint(j, a, b, depth, disjoint, err));
cleanup:
    json_decref(values);
    json_decref(plain);
    return status;
}

cohort_status json_disjoint(struct json_reading *j, const json_t *list, bool *disjoint, cohort_error *err)
{
    *disjoint = true;
    for (size_t i = 0; i < json_array_size(list) && *disjoint; i++)
        for (size_t k = 0; k < i && *disjoint; k++)
            TRY(all_disjoint(j, json_array_get(list, i), json_array_get(list, k), 0, disjoint, err));
    return COHORT_OK;
}

/* JSON Schema as a grammar: what its parts share. docs/GUIDED.md says which keywords hold how.
 *
 * A schema becomes a rule. Equal schemas (as text) are one rule, so that references which recur end. Schemas with allOf,
 * or with anyOf beside other keywords, are first brought into a list of simple ones of which a value must meet one
 * (guide_json_merge.c). Nothing outside src/guide includes this. */
#ifndef COHORT_GUIDE_GUIDE_JSON_H
#define COHORT_GUIDE_GUIDE_JSON_H

#include "guide/guide_read.h"

#include <jansson.h>

enum { JSON_SCHEMA_DEPTH = 128, JSON_MOST_ALTERNATIVES = 256 };

/* Keys of schemas that merging made: lists of what cannot be one value of the keyword. */
#define KEY_PATTERNS  " patterns"
#define KEY_FORMATS   " formats"
#define KEY_MULTIPLES " multiples"
#define KEY_MERGED    " merged" /* its properties have what patternProperties say of them */

struct json_reading {
    struct guide_reading *reading;
    struct grammar *grammar;
    const json_t *root;
    json_t *rules;   /* an object: schema as text -> rule */
    json_t *made;    /* a list that keeps merged schemas alive */
    char place[400]; /* a JSON pointer to the schema that is read */
    int depth;
    bool lone_references;                   /* draft 7 and earlier: what stands beside $ref says nothing */
    uint32_t any, string, character, blank; /* rules, where they were needed; 0: not yet */
};

/* An error at the schema's place. */
cohort_status json_wrong(const struct json_reading *j, cohort_status status, cohort_error *err, const char *format, ...)
    PRINTF_LIKE(4, 5);
/* Goes down to a part, for messages; what it returns leads back up. */
size_t json_enter(struct json_reading *j, const char *key);
size_t json_enter_item(struct json_reading *j, const char *key, size_t item);
void json_leave(struct json_reading *j, size_t before);

/* The rule of a schema. */
cohort_status json_rule(struct json_reading *j, const json_t *schema, uint32_t *rule, cohort_error *err);
/* Where "#/a/b" points to. */
cohort_status json_target(struct json_reading *j, const json_t *reference, const json_t **target, cohort_error *err);
/* Keeps a schema that was made until the end; NULL is out of memory. */
cohort_status json_keep(struct json_reading *j, json_t *made, cohort_error *err);

/* guide_json_merge.c: the simple schemas (without $ref, allOf, anyOf, oneOf) of which a value meets one, as a new list. */
cohort_status json_expand(struct json_reading *j, const json_t *schema, json_t **out, cohort_error *err);
/* A simple schema as the validator knows it. A new object. */
cohort_status json_plain(const json_t *schema, json_t **out, cohort_error *err);
/* guide_json_disjoint.c: whether it is certain that no value meets two of the schemas of a list. */
cohort_status json_disjoint(struct json_reading *j, const json_t *list, bool *disjoint, cohort_error *err);
/* Whether a keyword is known; an error if not, unless it is to be ignored. */
cohort_status json_check_keywords(struct json_reading *j, const json_t *schema, cohort_error *err);
/* What an object's schema says of the value of a key; NULL: nothing. */
cohort_status json_property(struct json_reading *j, const json_t *schema, const char *key, const json_t **out,
                            cohort_error *err);
/* Both schemas at once, as one that is kept; true and equal ones fall away. */
cohort_status json_both(struct json_reading *j, const json_t *a, const json_t *b, const json_t **out,
                        cohort_error *err);
/* The types that a simple schema leaves, as bits. */
enum json_kinds {
    KIND_NULL = 1,
    KIND_BOOLEAN = 2,
    KIND_INTEGER = 4,
    KIND_NUMBER = 8, /* with a fraction too */
    KIND_STRING = 16,
    KIND_ARRAY = 32,
    KIND_OBJECT = 64,
    KIND_ALL = 127 - 4
};
unsigned json_kinds_of(const json_t *schema);
/* The values that enum allows, as far as the rest of a simple schema does; a new list, NULL: it has none. */
cohort_status json_values(struct json_reading *j, const json_t *schema, json_t **out, cohort_error *err);

/* Each of these puts values of a simple schema behind from, a state of rule in; *to is where they end. */
cohort_status json_object_part(struct json_reading *j, const json_t *schema, uint32_t in, uint32_t from, uint32_t *to,
                               cohort_error *err);
cohort_status json_array_part(struct json_reading *j, const json_t *schema, uint32_t in, uint32_t from, uint32_t *to,
                              cohort_error *err);
cohort_status json_string_part(struct json_reading *j, const json_t *schema, uint32_t in, uint32_t from, uint32_t *to,
                               cohort_error *err);
cohort_status json_number_part(struct json_reading *j, const json_t *schema, bool integer, uint32_t in, uint32_t from,
                               uint32_t *to, cohort_error *err);

/* guide_json_string.c: the contents that a string schema allows, over code points; *all: any. */
cohort_status json_string_automaton(struct json_reading *j, const json_t *schema, struct automaton *out, bool *all,
                                    cohort_error *err);
/* A string's contents, each character in one way, in quotes; any string, if automaton is NULL. */
uint32_t json_quoted(struct json_reading *j, uint32_t in, uint32_t from, const struct automaton *automaton);
/* The text of a value as it is generated. */
cohort_status json_value_text(struct json_reading *j, const json_t *value, struct text *out, cohort_error *err);
/* guide_json_number.c: the numbers that a schema allows, as characters. *plain: nothing restricts them. */
cohort_status json_number_automaton(struct json_reading *j, const json_t *schema, bool integer, struct automaton *out,
                                    bool *plain, cohort_error *err);
/* Whether a key of patternProperties is found in a key. */
cohort_status json_key_matches(struct json_reading *j, const char *pattern, const char *key, bool *found,
                               cohort_error *err);
/* The code points of a text, for mem_free. */
cohort_status json_code_points(const char *text, uint32_t **out, size_t *n, cohort_error *err);
/* A copy of a regular expression that is found in the contents. */
cohort_status json_pattern(struct json_reading *j, const json_t *pattern, struct automaton *out, cohort_error *err);
/* Replaces *a by what both accept; b is freed. */
cohort_status json_intersect(struct json_reading *j, struct automaton *a, struct automaton *b, cohort_error *err);

/* Between the parts of an object or an array: ", " and ": ", or as guide_whitespace says. */
uint32_t json_comma(struct json_reading *j, uint32_t in, uint32_t from);
uint32_t json_colon(struct json_reading *j, uint32_t in, uint32_t from);
/* Behind an opening bracket and before a closing one. */
uint32_t json_blank(struct json_reading *j, uint32_t in, uint32_t from);

#endif

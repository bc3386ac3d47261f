/* JSON Schema (2020-12, and the older forms of items) as far as rewards and guides need it: whether a JSON value is what a
 * schema asks for.
 *
 * Keywords: type, enum, const, properties, required, additionalProperties, patternProperties, propertyNames, minProperties, maxProperties,
 * items (a list as in older drafts too), prefixItems, additionalItems, minItems, maxItems, uniqueItems, minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf, minLength,
 * maxLength, pattern, anyOf, oneOf, allOf, not, and $ref to a place in the same schema (#, #/$defs/NAME ...), with true
 * and false as schemas. Annotations (title, description, default, examples, format, $schema, $id, $comment, deprecated,
 * readOnly, writeOnly, $defs, definitions) say nothing about validity, format as in the standard. Any other keyword is an
 * error that names its place: a schema that is not understood must not pass. */
#ifndef COHORT_GUIDE_JSON_SCHEMA_H
#define COHORT_GUIDE_JSON_SCHEMA_H

#include "base/memory.h"

#include <jansson.h>

/* Whether the schema is one that json_schema_valid understands; origin begins messages ("schema.json"). COHORT_ERR_FORMAT,
 * COHORT_ERR_UNSUPPORTED for keywords and references that are not known here, COHORT_ERR_MEMORY. */
cohort_status json_schema_check(const json_t *schema, const char *origin, cohort_error *err);

/* Whether value is valid against part, which is the schema root or one within it; root was checked. A value that takes more
 * than a million steps, or nests deeper than the limit, is not. The only error is COHORT_ERR_MEMORY. */
cohort_status json_schema_valid(const json_t *root, const json_t *part, const json_t *value, bool *valid,
                                cohort_error *err);

/* What a keyword wants for its value, to be said behind "expected "; NULL: this is one, or the keyword is not known here. Parts
 * that are schemas are not looked into. */
const char *json_schema_form(const char *keyword, const json_t *value);
/* The place that "#" or "#/a/0/b" names within a schema, or NULL. */
const json_t *json_schema_place(const json_t *root, const char *reference);
/* Equal as JSON: 1 is 1.0, the order of keys says nothing. */
bool json_schema_same(const json_t *a, const json_t *b);

#endif

/* JSON Schema (2020-12) as far as a reward needs it: whether a JSON value is what a schema asks for.
 *
 * Keywords: type, enum, const, properties, required, additionalProperties, propertyNames, minProperties, maxProperties,
 * items, minItems, maxItems, uniqueItems, minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf, minLength,
 * maxLength, pattern, anyOf, oneOf, allOf, not, and $ref to a place in the same schema (#, #/$defs/NAME ...), with true
 * and false as schemas. Annotations (title, description, default, examples, format, $schema, $id, $comment, deprecated,
 * readOnly, writeOnly, $defs, definitions) say nothing about validity, format as in the standard. Any other keyword is an
 * error that names its place: a schema that is not understood must not pass. */
#ifndef COHORT_REWARD_JSON_SCHEMA_H
#define COHORT_REWARD_JSON_SCHEMA_H

#include "base/memory.h"

#include <jansson.h>

/* Whether the schema is one that json_schema_valid understands; origin begins messages ("schema.json"). COHORT_ERR_FORMAT,
 * COHORT_ERR_UNSUPPORTED for keywords and references that are not known here, COHORT_ERR_MEMORY. */
cohort_status json_schema_check(const json_t *schema, const char *origin, cohort_error *err);

/* Whether value is valid against part, which is the schema root or one within it; root was checked. A value that takes more
 * than a million steps, or nests deeper than the limit, is not. The only error is COHORT_ERR_MEMORY. */
cohort_status json_schema_valid(const json_t *root, const json_t *part, const json_t *value, bool *valid,
                                cohort_error *err);

#endif

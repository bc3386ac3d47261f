/* jansson under the C locale. It reads and writes numbers by strtod and printf and mends a decimal
 * comma, but asserts where the locale's point has two bytes (Pashto). The library reads and writes
 * JSON through these alone (tests/house/test_layout.sh looks). */
#ifndef COHORT_BASE_NUMBER_JSON_H
#define COHORT_BASE_NUMBER_JSON_H

#include "base/number.h"

#include <jansson.h>

/* json_loadb */
static inline json_t *number_json_load(const char *bytes, size_t length, size_t flags,
                                       json_error_t *error)
{
    struct number_scope scope = number_scope_begin();
    json_t *json = json_loadb(bytes, length, flags, error);
    number_scope_end(scope);
    return json;
}

/* json_dumps: free() it */
static inline char *number_json_dump(const json_t *json, size_t flags)
{
    struct number_scope scope = number_scope_begin();
    char *text = json_dumps(json, flags);
    number_scope_end(scope);
    return text;
}

/* json_dumpb */
static inline size_t number_json_dump_into(const json_t *json, char *out, size_t size, size_t flags)
{
    struct number_scope scope = number_scope_begin();
    size_t length = json_dumpb(json, out, size, flags);
    number_scope_end(scope);
    return length;
}

#endif

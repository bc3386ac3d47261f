/* The subset of Jinja that published chat templates use, in the environment that transformers makes for them: sandboxed
 * and immutable, trim_blocks, lstrip_blocks, break and continue, {% generation %}, its own tojson, raise_exception and
 * strftime_now. What a template writes is byte for byte what jinja2 renders. include, import, from, extends, block, do
 * and recursive loops are refused by name, as are filters, tests and methods that are not here. */
#ifndef COHORT_TEXT_JINJA_H
#define COHORT_TEXT_JINJA_H

#include "base/memory.h"

#include <jansson.h>

struct jinja_template; /* parsed; immutable: any number of threads may render it */

/* name is for messages ("chat_template.jinja"), which read "chat_template.jinja:12: 'foo' is undefined". source must be
 * UTF-8; it is copied. Errors: COHORT_ERR_FORMAT, COHORT_ERR_UNSUPPORTED for a construct that is refused by name. */
cohort_status jinja_parse(struct jinja_template **out, const char *source, size_t length, const char *name,
                          cohort_error *err);
void jinja_destroy(struct jinja_template *template);
/* Whether it has {% generation %} blocks. */
bool jinja_marks_generation(const struct jinja_template *template);
/* Calls visit for every piece of literal text that it may write: data between tags, and string constants. */
void jinja_literals(const struct jinja_template *template,
                    void (*visit)(const char *bytes, size_t length, void *context), void *context);
/* Whether the template mentions name anywhere as a variable, an attribute or a string constant (for example
 * "tools"). */
bool jinja_mentions(const struct jinja_template *template, const char *name);

/* Who wrote a byte of the output (invariant I12). */
enum jinja_origin {
    JINJA_TEMPLATE, /* the template's own literal */
    JINJA_FOREIGN,  /* a value of a user, system, tool, schema: never a control token */
    JINJA_ASSISTANT /* a value of an assistant's message */
};
struct jinja_variable {
    const char *name;
    const json_t *value;               /* borrowed while rendering; NULL: there is none */
    enum jinja_origin origin;          /* of every string (and object key) within value */
    const enum jinja_origin *elements; /* of each element of value, an array, in place of origin; or NULL */
};
struct jinja_span {
    size_t from, to; /* bytes of the output */
    enum jinja_origin origin;
};
struct jinja_output { /* zero-initialise; free with jinja_output_free */
    struct text text;
    struct jinja_span *spans; /* ascending, adjoining ones of one origin merged; what none covers is JINJA_TEMPLATE */
    size_t n_spans, spans_capacity;
    struct jinja_span *generation; /* bytes within {% generation %} blocks, ascending, merged; origin is unused */
    size_t n_generation, generation_capacity;
};
struct jinja_settings { /* zero: the defaults */
    int64_t max_steps;  /* evaluated nodes, and 64 bytes or 8 items that are looked at count as one; 0: 10 million */
    int64_t max_bytes;  /* of all that is made while rendering; 0: 128 MB */
    int32_t max_depth;  /* of nesting while rendering, calls of macros included; 0: 200 */
    int64_t now;        /* seconds since 1970 for strftime_now (local time); 0: the clock */
};
/* Replaces what out holds. A string that is derived from values keeps the origin of their bytes, byte for byte where
 * the operation keeps bytes (+, ~, slices, strip, split, replace, join, upper, default, macros, set blocks, ...);
 * tojson and the printed form of a list or dict from outside are of its origin as a whole. Booleans and numbers print
 * as JINJA_TEMPLATE. Errors are COHORT_ERR_FORMAT with template and line, also where a bound of settings is reached and
 * where the template itself raises ("..:3: the template says: ..."); or COHORT_ERR_MEMORY. */
cohort_status jinja_render(const struct jinja_template *template, const struct jinja_variable *variables,
                           size_t n_variables, const struct jinja_settings *settings, struct jinja_output *out,
                           cohort_error *err);
void jinja_output_free(struct jinja_output *out);

#endif

/* What the readers of guided_regex, guided_json and so on share. Nothing outside src/guide includes this. */
#ifndef COHORT_GUIDE_GUIDE_READ_H
#define COHORT_GUIDE_GUIDE_READ_H

#include "guide/guide.h"

struct guide_reading {
    struct grammar *grammar;
    const struct guide_vocabulary *vocabulary;
    const struct guide_options *options;
    const char *origin;
    struct text *ignored; /* may be NULL */
};

/* guided_json (guide_json.c): a schema as text, or as JSON behind a state of a rule. */
cohort_status guide_read_json(struct guide_reading *reading, const char *text, size_t length, uint32_t root,
                              cohort_error *err);
cohort_status guide_read_schema(struct guide_reading *reading, const json_t *schema, uint32_t in, uint32_t from,
                                uint32_t *to, cohort_error *err);
/* guided_grammar: GBNF (guide_gbnf.c), Lark (guide_lark.c), and whether a text is evidently one of them. */
cohort_status guide_read_gbnf(struct guide_reading *reading, const char *text, size_t length, uint32_t root,
                              cohort_error *err);
cohort_status guide_read_lark(struct guide_reading *reading, const char *text, size_t length, uint32_t root,
                              cohort_error *err);
/* guided_tools (guide_tools.c). */
cohort_status guide_read_tools(struct guide_reading *reading, const char *text, size_t length, uint32_t root,
                               cohort_error *err);
bool guide_is_gbnf(const char *text, size_t length);
bool guide_is_lark(const char *text, size_t length);

#endif

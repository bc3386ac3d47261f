/* A grammar as it runs: the automata of all rules in one numbering of states, each deterministic where that is not too
 * large. Immutable. Every state can reach the end of its rule, so that what was begun can always be finished. */
#ifndef COHORT_GUIDE_GRAMMAR_TABLES_H
#define COHORT_GUIDE_GRAMMAR_TABLES_H

#include "guide/grammar.h"

struct byte_edge {
    unsigned char lo, hi;
    uint32_t to;
};
struct label_edge {
    uint32_t lo, hi, to; /* LABEL_TOKEN (a range), LABEL_RULE or LABEL_REPEAT */
};

struct grammar_tables {
    uint32_t n_states;
    uint32_t *byte_first, *label_first; /* [n_states + 1] */
    struct byte_edge *bytes;            /* of a state ascending by lo */
    struct label_edge *labels;
    bool *accepts, *deterministic; /* [n_states]; deterministic: by bytes, together with what it reaches in its rule */
    uint32_t *distance;            /* [n_states] the fewest bytes to the end of the rule */
    uint32_t n_rules;
    uint32_t *rule_start;    /* [n_rules] */
    uint32_t *rule_distance; /* [n_rules] */
    struct repetition *repetitions;
    size_t n_repetitions;
    /* Bytes that no edge tells apart. */
    unsigned char class_of[256], byte_of[256];
    uint32_t n_classes;
};
enum { DISTANCE_NEVER = 1 << 30 };
static inline uint32_t distance_add(uint32_t a, uint32_t b)
{
    return a + b < (uint32_t)DISTANCE_NEVER ? a + b : (uint32_t)DISTANCE_NEVER;
}

/* Errors: nothing can be generated, or a rule begins with itself; origin begins messages. */
cohort_status grammar_compile(struct grammar_tables *tables, const struct grammar *grammar, const char *origin,
                              cohort_error *err);
void grammar_tables_free(struct grammar_tables *tables);

#endif

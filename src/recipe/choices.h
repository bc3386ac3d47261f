/* What the words of ENUM options mean in code. Every choice of the option table that is not handed on as a word stands
 * here with its value: a word without one is found by tests/unit/test_choices.c, and reading it is our mistake
 * (assert), never the last of a chain of comparisons. */
#ifndef COHORT_RECIPE_CHOICES_H
#define COHORT_RECIPE_CHOICES_H

#include "run/options.h"

struct choice {
    const char *word;
    int value;
};
struct choice_list {
    const char *option;
    const struct choice *choices; /* in the table's order */
    size_t count;
};
const struct choice_list *choice_lists(size_t *count);

enum { CHOICE_AUTO = -1 };                        /* "auto" of dtype and recompute */
enum output_format { OUTPUT_TEXT, OUTPUT_JSONL }; /* of "format" */

/* The value of an ENUM option, which must be set. Cast it to its enum. */
int choice_of(const struct options *options, const char *option);

#endif

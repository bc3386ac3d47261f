/* Shared by the files of the rewards. */
#ifndef COHORT_REWARD_INTERNAL_H
#define COHORT_REWARD_INTERNAL_H

#include "reward/reward.h"

/* What a kind of reward does; state is its own. */
struct reward_kind {
    cohort_status (*score)(void *state, const char *name, const struct reward_row *rows,
                           size_t n_rows, double *rewards, cohort_error *err);
    void (*destroy)(void *state);
};

struct reward {
    char *name;
    const struct reward_kind *kind;
    void *state; /* owned */
};

extern const struct reward_kind reward_kind_accuracy, reward_kind_pattern, reward_kind_exec;

/* pattern NULL: the row's column "pattern". format: the match must begin at the first character, as
 * TRL's re.match. */
cohort_status reward_pattern_create(void **state, const char *pattern, bool format,
                                    cohort_error *err);
/* Starts the program. */
cohort_status reward_exec_create(void **state, const char *program, double timeout_s,
                                 cohort_error *err);

/* Whether two answers (extracted, not empty) are the same, by the rules of answer.c. */
cohort_status answer_equal(const char *a, const char *b, bool *equal, cohort_error *err);

#endif

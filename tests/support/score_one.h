/* One completion through one reward. */
#ifndef COHORT_TESTS_SCORE_ONE_H
#define COHORT_TESTS_SCORE_ONE_H

#include "reward/reward.h"

#include <jansson.h>
#include <string.h>

/* row: the data set's, as JSON. Fails the test where the reward cannot be made or refuses the row. */
static inline double score_one(const char *name, const struct reward_options *options, const char *row,
                               const char *completion)
{
    struct reward *reward = NULL;
    cohort_error err = {0};
    json_t *data = json_loads(row, 0, NULL);
    double value = -9;
    if (reward_create(&reward, name, options, &err) != COHORT_OK)
        fail_msg("%s", err.message);
    const struct reward_row line = {.data = data,
                                    .prompt = "",
                                    .completion = completion,
                                    .completion_length = strlen(completion),
                                    .finish_reason = "eos"};
    if (reward_score(reward, &line, 1, &value, &err) != COHORT_OK)
        fail_msg("%s", err.message);
    reward_destroy(reward);
    json_decref(data);
    return value;
}

#endif

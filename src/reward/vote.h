/* Which completions of a question state the same answer: for majority votes. */
#ifndef COHORT_REWARD_VOTE_H
#define COHORT_REWARD_VOTE_H

#include "reward/reward.h"

/* Whether a reward finds an answer in the completion and compares it with the row's, so that its completions can vote:
 * accuracy and reasoning_accuracy. */
bool reward_judges_answers(const struct reward *reward);

/* answers[n]: 0 for completions that passed (by such a reward: they state the row's answer), the same number from 1 on
 * for others that state the same answer as each other, -1 for those that state none. Returns COHORT_ERR_CANCELLED on a
 * stop, which may be NULL. */
cohort_status reward_vote(const struct reward_row *rows, const bool *passed, size_t n, const struct stop *stop,
                          int32_t *answers, cohort_error *err);

#endif

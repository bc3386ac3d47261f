/* Whether completions say something, and something else each time, by their token ids: words would need a language. */
#ifndef COHORT_TRAIN_REPETITION_H
#define COHORT_TRAIN_REPETITION_H

#include "train/episode.h"

/* *repeated: the share of episodes[n] that have at least 100 sampled tokens and of whose 4-grams more than half came
 * before in the same completion. *distinct: the share of a group that differs from each other, mean over the groups;
 * group completions of a prompt are consecutive. COHORT_ERR_MEMORY is the only error. */
cohort_status repetition_measure(const struct episode *episodes, int32_t n, int32_t group, double *repeated,
                                 double *distinct, cohort_error *err);

#endif

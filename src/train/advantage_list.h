/* Choices of advantages. X(ID, word): a word of scale_rewards is ADVANTAGE_SCALE_ID, of advantage_estimator
 * ADVANTAGE_ID, of multi_objective_aggregation ADVANTAGE_ID. */
#ifndef COHORT_TRAIN_ADVANTAGE_LIST_H
#define COHORT_TRAIN_ADVANTAGE_LIST_H

/* What advantages are divided by. */
#define ADVANTAGE_SCALE_LIST(X)                                                                                        \
    X(GROUP, "group")                                                                                                  \
    X(BATCH, "batch")                                                                                                  \
    X(NONE, "none")

/* What is subtracted from a reward. */
#define ADVANTAGE_ESTIMATOR_LIST(X)                                                                                    \
    X(GRPO, "grpo")                                                                                                    \
    X(RLOO, "rloo")                                                                                                    \
    X(REINFORCE_PLUS_PLUS, "reinforce_plus_plus")                                                                      \
    X(REINFORCE_PLUS_PLUS_BASELINE, "reinforce_plus_plus_baseline")                                                    \
    X(PASS_AT_K, "pass_at_k")

/* How several reward functions become one number. */
#define ADVANTAGE_AGGREGATION_LIST(X)                                                                                  \
    X(SUM_THEN_NORMALIZE, "sum_then_normalize")                                                                        \
    X(NORMALIZE_THEN_SUM, "normalize_then_sum")

#endif

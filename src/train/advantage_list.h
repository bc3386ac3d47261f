/* What advantages are divided by. X(ID, word): ADVANTAGE_SCALE_ID and its word of scale_rewards. */
#ifndef COHORT_TRAIN_ADVANTAGE_LIST_H
#define COHORT_TRAIN_ADVANTAGE_LIST_H

#define ADVANTAGE_SCALE_LIST(X)                                                                                        \
    X(GROUP, "group")                                                                                                  \
    X(BATCH, "batch")                                                                                                  \
    X(NONE, "none")

#endif

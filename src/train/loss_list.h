/* The losses and the levels of their ratio. */
#ifndef COHORT_TRAIN_LOSS_LIST_H
#define COHORT_TRAIN_LOSS_LIST_H

/* X(ID, word): LOSS_ID and its word of loss_type. */
#define LOSS_LIST(X)                                                                                                   \
    X(GRPO, "grpo")                                                                                                    \
    X(BNPO, "bnpo")                                                                                                    \
    X(DR_GRPO, "dr_grpo")                                                                                              \
    X(DAPO, "dapo")

/* X(ID, word): LOSS_LEVEL_ID and its word of importance_sampling_level. */
#define LOSS_LEVEL_LIST(X)                                                                                             \
    X(TOKEN, "token")                                                                                                  \
    X(SEQUENCE, "sequence")

#endif

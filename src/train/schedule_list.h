/* The learning rate schedules. X(ID, word): SCHEDULE_ID and its word of lr_scheduler_type. */
#ifndef COHORT_TRAIN_SCHEDULE_LIST_H
#define COHORT_TRAIN_SCHEDULE_LIST_H

#define SCHEDULE_LIST(X)                                                                                               \
    X(CONSTANT, "constant")                                                                                            \
    X(LINEAR, "linear")                                                                                                \
    X(COSINE, "cosine")

#endif

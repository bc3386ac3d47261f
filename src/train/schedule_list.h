/* The learning rate schedules, and their parameters. */
#ifndef COHORT_TRAIN_SCHEDULE_LIST_H
#define COHORT_TRAIN_SCHEDULE_LIST_H

/* X(ID, word): SCHEDULE_ID and its word of lr_scheduler_type. */
#define SCHEDULE_LIST(X)                                                                                               \
    X(CONSTANT, "constant")                                                                                            \
    X(LINEAR, "linear")                                                                                                \
    X(COSINE, "cosine")                                                                                                \
    X(COSINE_WITH_RESTARTS, "cosine_with_restarts")                                                                    \
    X(POLYNOMIAL, "polynomial")                                                                                        \
    X(CONSTANT_WITH_WARMUP, "constant_with_warmup")                                                                    \
    X(INVERSE_SQRT, "inverse_sqrt")                                                                                    \
    X(COSINE_WITH_MIN_LR, "cosine_with_min_lr")                                                                        \
    X(COSINE_WARMUP_WITH_MIN_LR, "cosine_warmup_with_min_lr")                                                          \
    X(WARMUP_STABLE_DECAY, "warmup_stable_decay")

/* X(ID, name, form, least, most): SCHEDULE_ID and its name in lr_scheduler_kwargs; form: NUMBER, WHOLE (a number), or
 * CURVE (one of SCHEDULE_CURVE_LIST). */
#define SCHEDULE_PARAMETER_LIST(X)                                                                                     \
    X(NUM_CYCLES, "num_cycles", NUMBER, 0, 1e6)                                                                        \
    X(LR_END, "lr_end", NUMBER, 0, 10)                                                                                 \
    X(POWER, "power", NUMBER, 0, 1000)                                                                                 \
    X(TIMESCALE, "timescale", WHOLE, 1, 1e15)                                                                          \
    X(MIN_LR, "min_lr", NUMBER, 0, 10)                                                                                 \
    X(MIN_LR_RATE, "min_lr_rate", NUMBER, 0, 1)                                                                        \
    X(WARMUP_LR_RATE, "warmup_lr_rate", NUMBER, 0, 1)                                                                  \
    X(NUM_DECAY_STEPS, "num_decay_steps", WHOLE, 0, 1e15)                                                              \
    X(NUM_STABLE_STEPS, "num_stable_steps", WHOLE, 0, 1e15)                                                            \
    X(WARMUP_TYPE, "warmup_type", CURVE, 0, 0)                                                                         \
    X(DECAY_TYPE, "decay_type", CURVE, 0, 0)                                                                           \
    X(MIN_LR_RATIO, "min_lr_ratio", NUMBER, 0, 1)

/* X(ID, word): SCHEDULE_CURVE_ID, a form of the rise and the fall of warmup_stable_decay. */
#define SCHEDULE_CURVE_LIST(X)                                                                                         \
    X(LINEAR, "linear")                                                                                                \
    X(COSINE, "cosine")                                                                                                \
    X(ONE_MINUS_SQRT, "1-sqrt")

#endif

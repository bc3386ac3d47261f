/* The kinds of inputs that a run reads (invariant I11); they are the words of --accept-changed. */
#ifndef COHORT_RUN_INPUT_KIND_H
#define COHORT_RUN_INPUT_KIND_H

/* X(ID, word): INPUT_ID.
 *   MODEL     what the run began with, which the frozen reference reads again
 *   ADAPTER   the adapter that the run began with, likewise
 *   SCHEDULE  no files: the number of steps that a decaying rate was planned for */
#define INPUT_KIND_LIST(X)                                                                                             \
    X(DATA, "data")                                                                                                    \
    X(EVAL_DATA, "eval_data")                                                                                          \
    X(MODEL, "model")                                                                                                  \
    X(ADAPTER, "adapter")                                                                                              \
    X(REWARD, "reward")                                                                                                \
    X(TOKENIZER, "tokenizer")                                                                                          \
    X(TEMPLATE, "template")                                                                                            \
    X(GUIDE, "guide")                                                                                                  \
    X(TEACHER, "teacher")                                                                                              \
    X(REFERENCE, "reference")                                                                                          \
    X(SCHEDULE, "schedule")

#define INPUT_KIND(id, word) INPUT_##id,
enum input_kind { INPUT_KIND_LIST(INPUT_KIND) INPUT_KINDS };
#undef INPUT_KIND

#endif

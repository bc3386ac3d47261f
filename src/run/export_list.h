/* What "cohort runs" exports and in which forms, and the order of completions.
 * X(ID, word) */
#ifndef COHORT_RUN_EXPORT_LIST_H
#define COHORT_RUN_EXPORT_LIST_H

#define EXPORT_FORMAT_LIST(X)                                                                                          \
    X(TEXT, "text")                                                                                                    \
    X(JSONL, "jsonl")                                                                                                  \
    X(CSV, "csv")                                                                                                      \
    X(PARQUET, "parquet")                                                                                              \
    X(TENSORBOARD, "tensorboard")

#define EXPORT_TABLE_LIST(X)                                                                                           \
    X(METRICS, "metrics")                                                                                              \
    X(COMPLETIONS, "completions")                                                                                      \
    X(EVENTS, "events")

/* In the order of enum cohort_completion_order. */
#define COMPLETION_ORDER_LIST(X)                                                                                       \
    X(BY_STEP, "step")                                                                                                 \
    X(NEWEST_FIRST, "newest")                                                                                          \
    X(BEST_FIRST, "best")                                                                                              \
    X(WORST_FIRST, "worst")

#endif

/* What cohort bench measures. X(name, word): bench_NAME and its word of kind. */
#ifndef COHORT_BENCH_BENCH_LIST_H
#define COHORT_BENCH_BENCH_LIST_H

#define BENCH_LIST(X)                                                                                                  \
    X(gemm, "gemm")                                                                                                    \
    X(prefill, "prefill")                                                                                              \
    X(decode, "decode")                                                                                                \
    X(train, "train")                                                                                                  \
    X(grpo, "grpo")                                                                                                    \
    X(exactness, "exactness")                                                                                          \
    X(lora, "lora")

#endif

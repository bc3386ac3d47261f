/* Types that options choose from. X(ID, word): DTYPE_ID. */
#ifndef COHORT_TENSOR_DTYPE_LIST_H
#define COHORT_TENSOR_DTYPE_LIST_H

/* What a model can compute in. */
#define COMPUTE_TYPE_LIST(X)                                                                                           \
    X(BF16, "bf16")                                                                                                    \
    X(F32, "f32")

/* What AdamW's moments can be kept in. */
#define MOMENTS_TYPE_LIST(X)                                                                                           \
    X(F32, "f32")                                                                                                      \
    X(BF16, "bf16")

#endif

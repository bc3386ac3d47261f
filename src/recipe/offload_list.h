/* What a run can keep in the host's memory: the words of offload. */
#ifndef COHORT_RECIPE_OFFLOAD_LIST_H
#define COHORT_RECIPE_OFFLOAD_LIST_H

/* X(ID, word): OFFLOAD_ID */
#define OFFLOAD_LIST(X)                                                                                                \
    X(OPTIMIZER, "optimizer")                                                                                          \
    X(GRADIENTS, "gradients")                                                                                          \
    X(REFERENCE, "reference")

#endif

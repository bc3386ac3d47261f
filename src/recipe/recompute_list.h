/* The levels of recomputation in the backward, from the fastest to the one that takes the least memory: nothing, the
 * head's logits, the logits and the layers' activations. X(ID, word): RECOMPUTE_ID and its word of recompute. */
#ifndef COHORT_RECIPE_RECOMPUTE_LIST_H
#define COHORT_RECIPE_RECOMPUTE_LIST_H

#define RECOMPUTE_LIST(X)                                                                                              \
    X(NONE, "none")                                                                                                    \
    X(LOGITS, "logits")                                                                                                \
    X(LAYER, "layer")

#endif

/* What becomes of an answer that does not fit into its completion. */
#ifndef COHORT_RECIPE_OVERLONG_LIST_H
#define COHORT_RECIPE_OVERLONG_LIST_H

/* X(ID, word): OVERLONG_ID and its word of overlong. */
#define OVERLONG_LIST(X)                                                                                               \
    X(DROP, "drop") /* it is dropped, and the episode ends */                                                          \
    X(CUT, "cut")   /* its words are cut, so that it fits and the model can go on */

#endif

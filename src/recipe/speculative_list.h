/* Where drafts come from that a step verifies (src/rollout/drafts.h): nowhere, or what stood behind the same tokens before.
 * X(ID, word): SPECULATIVE_ID and its word of speculative. */
#ifndef COHORT_RECIPE_SPECULATIVE_LIST_H
#define COHORT_RECIPE_SPECULATIVE_LIST_H

#define SPECULATIVE_LIST(X)                                                                                            \
    X(NONE, "none")                                                                                                    \
    X(NGRAM, "ngram")

#endif

/* What the ranks of a run divide among them: what the optimizer keeps, or the matrices of layers too. X(ID, word): SHARD_ID
 * and its word of shard. */
#ifndef COHORT_RECIPE_SHARD_LIST_H
#define COHORT_RECIPE_SHARD_LIST_H

#define SHARD_LIST(X)                                                                                                  \
    X(STATE, "state")                                                                                                  \
    X(WEIGHTS, "weights")

#endif

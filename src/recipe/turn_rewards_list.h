/* What becomes of the rewards that an environment gives to turns. */
#ifndef COHORT_RECIPE_TURN_REWARDS_LIST_H
#define COHORT_RECIPE_TURN_REWARDS_LIST_H

/* X(ID, word): TURN_REWARDS_ID and its word of turn_rewards. */
#define TURN_REWARDS_LIST(X)                                                                                           \
    X(SUM, "sum")                                                                                                      \
    X(PER_TURN, "per_turn")

#endif

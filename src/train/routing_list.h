/* Where tokens go in steps on data that an earlier policy sampled. X(ID, word): ROUTER_REPLAY_ID. */
#ifndef COHORT_TRAIN_ROUTING_LIST_H
#define COHORT_TRAIN_ROUTING_LIST_H

/* NONE: where the router of the weights as they are sends them. ROLLOUT: where they went when they were sampled. */
#define ROUTER_REPLAY_LIST(X)                                                                                          \
    X(NONE, "none")                                                                                                    \
    X(ROLLOUT, "rollout")

#endif

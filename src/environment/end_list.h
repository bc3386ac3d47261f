/* How an episode ends: constant, word, whether what happened says nothing about the model, so that its reward is null. */
#define ENVIRONMENT_END_LIST(X)                                                                                        \
    X(DONE, "done", false)          /* the environment says so */                                                      \
    X(NO_CALL, "no_call", false)    /* a turn without a call, where there are tools alone */                           \
    X(TURNS, "turns", false)        /* as many turns as there may be */                                                \
    X(TOKENS, "tokens", false)      /* its room is filled by what came from outside */                                 \
    X(OVERLONG, "overlong", false)  /* a reply that does not fit is dropped */                                         \
    X(CUT_TURN, "cut_turn", false)  /* its room ended within a turn */                                                 \
    X(TURN_TIME, "turn_time", true) /* no answer in time */                                                            \
    X(EPISODE_TIME, "episode_time", true)                                                                              \
    X(ERROR, "error", true)       /* the environment says that it failed */                                            \
    X(PROTOCOL, "protocol", true) /* what it says makes no sense */                                                    \
    X(DIED, "died", true)         /* its program ended, or had to be ended */                                          \
    X(CANCELLED, "cancelled", true)

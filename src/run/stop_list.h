/* What ends a run before its last step: the choices of stop_on. */
#ifndef COHORT_RUN_STOP_LIST_H
#define COHORT_RUN_STOP_LIST_H

/* X(ID, word): STOP_ON_ID */
#define STOP_ON_LIST(X)                                                                                                \
    X(NOTHING, "nothing")                                                                                              \
    X(DIVERGED, "diverged")

#endif

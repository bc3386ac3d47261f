/* A request to stop, made from outside: by another thread or by a signal handler. Work that takes long looks at it
 * between its pieces and ends with COHORT_ERR_CANCELLED. Once made, a request stands until its owner takes it back,
 * which must not happen while a call that was given it is running. */
#ifndef COHORT_BASE_STOP_H
#define COHORT_BASE_STOP_H

#include "base/error.h"

struct stop;

#ifndef __cplusplus /* the CUDA sources pass the pointer on and never look */
#include <stdatomic.h>

struct stop {
    atomic_bool requested; /* lock-free: a signal handler may store to it */
};

/* NULL is a request that nobody can make. */
static inline bool stop_requested(const struct stop *stop)
{
    return stop != NULL && atomic_load_explicit(&stop->requested, memory_order_relaxed);
}

/* COHORT_ERR_CANCELLED if a stop is requested. */
static inline cohort_status stop_check(const struct stop *stop, cohort_error *err)
{
    return stop_requested(stop) ? error_set(err, COHORT_ERR_CANCELLED, "stopped on request") : COHORT_OK;
}

#endif /* __cplusplus */

#endif

/* A small pool of threads that share out a range of items: what the loops of the CPU backend run on. No global state; a
 * pool belongs to whoever made it.
 *
 * The caller of pool_run takes part. Pieces of the range are taken one at a time from a counter, so a thread that the
 * system has taken off its core holds up the one piece that it has begun and nothing else. Which thread does a piece is
 * chance: results must not depend on it. */
#ifndef COHORT_BASE_POOL_H
#define COHORT_BASE_POOL_H

#include "base/stop.h"

#include <stdbool.h>
#include <stdint.h>

enum { POOL_MAX_THREADS = 1024 };

struct pool;

/* Does items begin .. end. thread is 0 .. pool_threads - 1 and belongs to one thread for the length of the call: it
 * tells working memory apart. Must not call pool_run itself. */
typedef void pool_fn(const void *context, int64_t begin, int64_t end, int thread);

/* threads counts the caller, 1 .. POOL_MAX_THREADS. If the system gives fewer threads the pool has fewer, which is
 * no error; pool_threads says how many it has. COHORT_ERR_MEMORY means that the pool itself could not be allocated.
 * The threads have stacks of a fixed size (ulimit -s does not matter), block all signals except those of faults, and
 * allocate nothing. */
cohort_status pool_create(struct pool **out, int threads, cohort_error *err);
/* Ends the threads. Must not be called while a run is going on. NULL is allowed, and so is a call in a forked child. */
void pool_destroy(struct pool *pool);
int pool_threads(const struct pool *pool);

/* fn over 0 .. items in pieces of grain items (0: a few pieces for each thread); returns when all
 * are done. Waiting threads spin briefly and then sleep. A second caller waits for the first.
 * In a child forked from the pool's process the threads do not exist: a pool of more than one then
 * does nothing, and pool_check says so. pool NULL: the calling thread alone, in one piece. */
void pool_run(struct pool *pool, int64_t items, int64_t grain, pool_fn *fn, const void *context);
/* The same on the calling thread alone, as thread 0, whatever another caller does. */
void pool_run_alone(struct pool *pool, int64_t items, int64_t grain, pool_fn *fn, const void *context);

/* From now on pieces are skipped while a stop is requested (NULL: never). What such a run should have computed is then
 * garbage, which its caller finds out by looking at stop: a request stands. Not during a run. */
void pool_set_stop(struct pool *pool, const struct stop *stop);
/* Whether a piece of work should end early, for use within fn where a piece takes more than milliseconds. */
bool pool_stopped(struct pool *pool);

/* COHORT_ERR_STATE: this is a forked child of the process that made the pool, which has none of its threads. */
cohort_status pool_check(struct pool *pool, cohort_error *err);

#endif

/* Another run from a checkpoint of one: its folder, which says where it comes from. */
#ifndef COHORT_RECIPE_RUN_FORK_H
#define COHORT_RECIPE_RUN_FORK_H

#include "recipe/session.h"
#include "run/options.h"

/* from: RUN or RUN@STEP, RUN a path or a name in the folder runs. out must not exist; after a failure it does not. A
 * checkpoint that is resumed from where the fork put it (trainer/origin.json is there) may get other options; the next
 * one is as any other. */
cohort_status run_fork(const char *from, const char *runs, const char *out, const struct stop *stop,
                       const cohort_observer *observer, cohort_error *err);

#endif

/* --resume where there is no checkpoint: whether what stands in the run folder is the beginning of a run of ours, so
 * that one command serves the first start and every one after it. */
#ifndef COHORT_RECIPE_RUN_START_H
#define COHORT_RECIPE_RUN_START_H

#include "base/memory.h"

enum run_start {
    RUN_START_NEW,   /* no folder, or one without any sign of a run */
    RUN_START_AGAIN, /* a run that began and stopped before its first checkpoint */
    RUN_START_OTHER  /* holds what a beginning run does not write: not to be touched */
};
/* path has no checkpoint. *foreign: with RUN_START_OTHER the name of what stands in the way (mem_alloc'ed), else
 * NULL. */
cohort_status run_start_look(const char *path, enum run_start *start, char **foreign, cohort_error *err);

#endif

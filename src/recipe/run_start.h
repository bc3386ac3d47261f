/* --resume without a checkpoint: whether the run folder holds the beginning of a run of ours, so that one command
 * serves the first start and every later one. */
#ifndef COHORT_RECIPE_RUN_START_H
#define COHORT_RECIPE_RUN_START_H

#include "base/memory.h"

enum run_start {
    RUN_START_NEW,       /* no folder, or one without any sign of a run */
    RUN_START_UNSTEPPED, /* a run that began and stopped before its first step */
    RUN_START_AGAIN,     /* a run that began and stopped before its first checkpoint */
    RUN_START_OTHER      /* holds what a beginning run does not write: not to be touched */
};
/* path has no checkpoint. *foreign is, with RUN_START_OTHER, the name of the entry in the way (free it with mem_free),
 * else NULL. */
cohort_status run_start_look(const char *path, enum run_start *start, char **foreign, cohort_error *err);

#endif

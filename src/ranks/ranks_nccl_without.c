/* In place of ranks_nccl.c in a build without CUDA, or without NCCL. */
#ifndef COHORT_NCCL_FOUND
#include "ranks/ranks.h"

cohort_status ranks_open_device(struct ranks *ranks, int gpu, struct text *note, cohort_error *err)
{
    if (ranks_count(ranks) == 1 || gpu < 0 || note == NULL)
        return COHORT_OK;
    return text_printf(note, err,
                       "memory of GPUs goes through the host's between ranks: this build has no NCCL (configure with "
                       "-DCOHORT_NCCL=on)\n");
}
#endif

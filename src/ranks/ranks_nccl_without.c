/* In place of ranks_nccl.c in a build without CUDA, or without NCCL. */
#ifndef COHORT_NCCL_FOUND
#include "ranks/ranks_nccl.h"

cohort_status ranks_open_device(struct ranks *ranks, int gpu, struct text *note, cohort_error *err)
{
    if (ranks_count(ranks) == 1 || gpu < 0 || note == NULL)
        return COHORT_OK;
    return text_printf(note, err,
                       "memory of GPUs goes through the host's between ranks: this build has no NCCL (configure with "
                       "-DCOHORT_NCCL=on)\n");
}

cohort_status ranks_nccl_begin(struct ranks *ranks, int gpu, struct presence *own, cohort_error *err)
{
    (void)ranks;
    (void)gpu;
    (void)own;
    return error_set(err, COHORT_ERR_UNSUPPORTED,
                     "ranks that no MPI joins exchange between GPUs by NCCL, which this build does not have: configure "
                     "with -DCOHORT_CUDA=ON -DCOHORT_NCCL=on, or start them with mpirun");
}

void ranks_nccl_leave(struct ranks *ranks) { (void)ranks; }

bool ranks_nccl_impossible(const struct ranks *ranks, const struct presence *all, char *why, size_t room)
{
    (void)ranks;
    (void)all;
    (void)why;
    (void)room;
    return true;
}

cohort_status ranks_nccl_name(struct ranks *ranks, char name[RANKS_NCCL_NAME], cohort_error *err)
{
    (void)name;
    return ranks_nccl_begin(ranks, 0, NULL, err);
}

cohort_status ranks_nccl_join(struct ranks *ranks, const char name[RANKS_NCCL_NAME], cohort_error *err)
{
    (void)name;
    return ranks_nccl_begin(ranks, 0, NULL, err);
}

cohort_status ranks_nccl_exchange(struct ranks *ranks, const struct ranks_message *sends, size_t n_sends,
                                  const struct ranks_message *receives, size_t n_receives, cohort_error *err)
{
    (void)sends;
    (void)n_sends;
    (void)receives;
    (void)n_receives;
    return ranks_nccl_begin(ranks, 0, NULL, err);
}
#endif

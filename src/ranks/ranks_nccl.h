/* Parts of ranks_nccl.c for who joins ranks: a job over MPI (ranks_open_device), and one without it (ranks_line.c). */
#ifndef COHORT_RANKS_RANKS_NCCL_H
#define COHORT_RANKS_RANKS_NCCL_H

#include "ranks/ranks.h"

enum { RANKS_NCCL_NAME = 128 }; /* bytes by which ranks find each other */

/* What a rank says of itself before a communicator is made. */
struct presence {
    int32_t can;   /* it has a GPU and NCCL */
    char bus[32];  /* of the GPU */
    char why[256]; /* it cannot */
};

/* Fills own, and makes ranks->device_state, which ranks_nccl_leave or, once joined, ranks_close frees. */
cohort_status ranks_nccl_begin(struct ranks *ranks, int gpu, struct presence *own, cohort_error *err);
void ranks_nccl_leave(struct ranks *ranks);
/* Whether memory of GPUs cannot cross between ranks of whom all[count] are said, and why: the same for every rank. */
bool ranks_nccl_impossible(const struct ranks *ranks, const struct presence *all, char *why, size_t room);
/* Rank 0 makes the name; all join by it. */
cohort_status ranks_nccl_name(struct ranks *ranks, char name[RANKS_NCCL_NAME], cohort_error *err);
cohort_status ranks_nccl_join(struct ranks *ranks, const char name[RANKS_NCCL_NAME], cohort_error *err);
/* exchange of struct ranks_ops, for bytes of the host, through memory of the GPU. */
cohort_status ranks_nccl_exchange(struct ranks *ranks, const struct ranks_message *sends, size_t n_sends,
                                  const struct ranks_message *receives, size_t n_receives, cohort_error *err);

#endif

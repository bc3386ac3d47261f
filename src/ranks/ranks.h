/* Several processes that do one job, its ranks, and how they exchange bytes. NULL is the rank of a job that has one: every
 * function takes it and has nothing to do.
 *
 * All ranks call the same functions in the same order, from one thread at a time. A call waits for the others for at most
 * the time limit of ranks_set_timeout; who does not answer is named in the error. A rank that fails says so (ranks_fail):
 * whichever call the others are in, or come to, returns what it said; so does a call that fails. After a failure nothing can be
 * exchanged any more.
 *
 * What carries the bytes is a struct ranks_ops: MPI (ranks_mpi.c), or NCCL where no MPI joined the ranks (ranks_line.c). Bytes are exchanged and never added up: the order of
 * sums is the caller's (train/lanes.h). Memory of GPUs crosses as it lies there where a struct ranks_device_ops is found:
 * NCCL (ranks_nccl.c). */
#ifndef COHORT_RANKS_RANKS_H
#define COHORT_RANKS_RANKS_H

#include "base/memory.h"

struct ranks;

/* Bytes to a rank or from it; never oneself. Those between two ranks arrive in the order of their lists. */
struct ranks_message {
    int32_t peer;
    void *bytes; /* sent from or received into */
    size_t n;
};

struct ranks_ops {
    cohort_status (*exchange)(struct ranks *ranks, const struct ranks_message *sends, size_t n_sends,
                              const struct ranks_message *receives, size_t n_receives, cohort_error *err);
    /* Called by a rank that waits for others by other means than exchange, since so many seconds: an error if one of
     * them has failed, or does not answer in time. */
    cohort_status (*look)(struct ranks *ranks, double waited, cohort_error *err);
    /* Hands a notice to every other rank, if that takes no time. */
    void (*notify)(struct ranks *ranks, const void *notice, size_t n);
    /* Ends the processes of all ranks; returns where that is left to whoever started them. */
    void (*end)(struct ranks *ranks, int code);
    void (*close)(struct ranks *ranks);
};

/* Exchanges of memory of a GPU. A stream is what work is issued to in order: a cudaStream_t. */
struct ranks_device_ops {
    cohort_status (*begin)(struct ranks *ranks, void *stream, const struct ranks_message *sends, size_t n_sends,
                           const struct ranks_message *receives, size_t n_receives, uint64_t *ticket,
                           cohort_error *err);
    cohort_status (*after)(struct ranks *ranks, void *stream, uint64_t ticket, cohort_error *err);
    cohort_status (*settle)(struct ranks *ranks, cohort_error *err);
    void (*close)(struct ranks *ranks);
};

enum { RANKS_HOST = 64, RANKS_PATIENCE = 1800 /* seconds, until ranks_set_timeout */ };

struct ranks {
    const struct ranks_ops *ops;
    int32_t rank, count;
    int32_t local_rank, local_count; /* among those of this host */
    double timeout;                  /* seconds */
    char (*hosts)[RANKS_HOST];       /* [count] names */
    bool failed;                     /* here or elsewhere: nothing can be exchanged any more */
    bool told;                       /* and everybody knows */
    bool agreed;                     /* all end alike, and know it: nobody need be told */
    cohort_error why;                /* it failed */
    cohort_status why_status;
    void *state;                               /* of ops */
    const struct ranks_device_ops *device_ops; /* NULL: memory of GPUs goes through copies on the host */
    void *device_state;
};

static inline int32_t ranks_rank(const struct ranks *ranks) { return ranks == NULL ? 0 : ranks->rank; }
static inline int32_t ranks_count(const struct ranks *ranks) { return ranks == NULL ? 1 : ranks->count; }

/* Joins the job that mpirun or srun started this process in. COHORT_ERR_UNSUPPORTED: a build without MPI, or no Open MPI
 * on this machine. wanted: how many ranks whoever started it speaks of; another number is an error. */
cohort_status ranks_open_mpi(struct ranks **out, int32_t wanted, cohort_error *err);
/* Joins a job that is described in full: a rank of count that has the GPU of this number on its host, where rank 0 listens at
 * host and port. */
struct ranks_place {
    int32_t rank, count, gpu, port;
    const char *host;
};
cohort_status ranks_open_line(struct ranks **out, const struct ranks_place *place, cohort_error *err);
/* Leaves the job. After a failure that was not agreed on it ends the processes of all ranks with this exit code: then it may
 * not return. Accepts NULL. */
void ranks_close(struct ranks *ranks, int code);
/* After a failure, whether it is for this rank to tell people: for rank 0; for another where nobody has ended it within
 * some seconds. */
bool ranks_speaks(const struct ranks *ranks);
void ranks_set_timeout(struct ranks *ranks, double seconds);

/* ---- Exchanges ---- */

cohort_status ranks_exchange(struct ranks *ranks, const struct ranks_message *sends, size_t n_sends,
                             const struct ranks_message *receives, size_t n_receives, cohort_error *err);
/* n bytes of rank from become everybody's. */
cohort_status ranks_broadcast(struct ranks *ranks, int32_t from, void *bytes, size_t n, cohort_error *err);
/* The same of a text, whose length only that rank knows; that of the others is overwritten. */
cohort_status ranks_broadcast_text(struct ranks *ranks, int32_t from, struct text *text, cohort_error *err);
/* n bytes of every rank, in the order of ranks: all[count * n]. */
cohort_status ranks_gather(struct ranks *ranks, const void *own, size_t n, void *all, cohort_error *err);
/* What every rank has, of any length: all[count], for ranks_texts_free also after a failure. */
cohort_status ranks_gather_texts(struct ranks *ranks, const struct text *own, struct text **all, cohort_error *err);
void ranks_texts_free(const struct ranks *ranks, struct text *all);
cohort_status ranks_barrier(struct ranks *ranks, cohort_error *err);

/* ---- Exchanges of memory of GPUs ---- */

/* Called by all, each with the number of its GPU on its host (-1: it has none). Where memory of all of them can cross as it
 * is, ranks_device is true from then on; where not, a line of note says why (which may be NULL). More calls do nothing. */
cohort_status ranks_open_device(struct ranks *ranks, int gpu, struct text *note, cohort_error *err);
bool ranks_device(const struct ranks *ranks);
/* ranks_exchange of memory of the GPU. Begins when all is done that was issued to stream until now, and goes on beside what is
 * issued to it from now on: that may not touch the messages' bytes before ranks_device_after, which lets the stream (and not
 * the host) wait for the exchange of this ticket, and those begun before it. Exchanges happen in the order in which they
 * are begun. */
cohort_status ranks_device_begin(struct ranks *ranks, void *stream, const struct ranks_message *sends, size_t n_sends,
                                 const struct ranks_message *receives, size_t n_receives, uint64_t *ticket,
                                 cohort_error *err);
cohort_status ranks_device_after(struct ranks *ranks, void *stream, uint64_t ticket, cohort_error *err);
/* Waits until all that were begun are done, within the time limit. Before the host waits for a stream that itself waits for other
 * ranks by ranks_device_after, it calls this: the device has no time limit. After a failure the stream waits no more,
 * and received bytes are anything. */
cohort_status ranks_device_settle(struct ranks *ranks, cohort_error *err);

/* ---- Failures ---- */

/* A place that all ranks come to: returns when none has failed until here. One that has, with *own, tells the others, whose calls
 * return it, and gets its status back. */
cohort_status ranks_agree(struct ranks *ranks, cohort_status status, const cohort_error *own, cohort_error *err);
/* Tells the others of a failure after which this rank takes no part any more. What was learned from another rank is not told
 * again. */
void ranks_fail(struct ranks *ranks, cohort_status status, const cohort_error *err);

/* ---- For implementations ---- */

/* Fills err with the notice that another rank gave by ranks_fail. */
cohort_status ranks_told(struct ranks *ranks, const void *notice, size_t n, cohort_error *err);
enum { RANKS_SPINS = 2000 }; /* polls before the waiting thread sleeps in between */
/* Between the polls of a wait, of which this is number polls. Returns the number of the next one. */
int ranks_pause(int polls);

#endif

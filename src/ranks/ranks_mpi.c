/* Ranks over Open MPI. Calls do not block: a wait polls, looks whether another rank has said that it failed, and ends at the
 * time limit. */
#ifdef COHORT_MPI_FOUND

#include "ranks/ranks.h"

#include "base/clock.h"

#include <dlfcn.h>
#include <errno.h>
#include <mpi.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* Open MPI is loaded when a job is joined and not before: it brings a dozen libraries, and a run of one rank needs none of
 * them. Its handles are addresses of its own variables, which the names of its header would link to. */
#define LIBRARY "libmpi.so.40"
#define FUNCTION_LIST(X)                                                                                               \
    X(MPI_Abort)                                                                                                       \
    X(MPI_Comm_dup)                                                                                                    \
    X(MPI_Comm_free)                                                                                                   \
    X(MPI_Comm_rank)                                                                                                   \
    X(MPI_Comm_set_errhandler)                                                                                         \
    X(MPI_Comm_size)                                                                                                   \
    X(MPI_Comm_split_type)                                                                                             \
    X(MPI_Error_string)                                                                                                \
    X(MPI_Finalize)                                                                                                    \
    X(MPI_Get_processor_name)                                                                                          \
    X(MPI_Init_thread)                                                                                                 \
    X(MPI_Initialized)                                                                                                 \
    X(MPI_Iprobe)                                                                                                      \
    X(MPI_Irecv)                                                                                                       \
    X(MPI_Isend)                                                                                                       \
    X(MPI_Recv)                                                                                                        \
    X(MPI_Test)                                                                                                        \
    X(MPI_Testall)
#define VARIABLE_LIST(X)                                                                                               \
    X(world, "ompi_mpi_comm_world")                                                                                    \
    X(byte, "ompi_mpi_byte")                                                                                           \
    X(null_info, "ompi_mpi_info_null")                                                                                 \
    X(null_request, "ompi_request_null")                                                                               \
    X(errors_return, "ompi_mpi_errors_return")

enum {
    MOST_BYTES = 1 << 30, /* of a message: its length is an int */
    MOST_NOTICE = 2048
};

struct mpi {
    void *library;
#define FUNCTION(name) __typeof__(name) *name;
    FUNCTION_LIST(FUNCTION)
#undef FUNCTION
#define VARIABLE(name, symbol) void *name;
    VARIABLE_LIST(VARIABLE)
#undef VARIABLE
    MPI_Comm data, control;
    bool owned, joined; /* MPI was initialised here; the communicators are there */
    /* Of the exchange in hand. */
    MPI_Request *requests;
    int32_t *peers; /* of each request */
    size_t n, request_room, peer_room;
    char heard[MOST_NOTICE]; /* of another rank's failure, */
    bool has_heard;
    char notice[MOST_NOTICE]; /* what was handed out, for as long as it is under way */
    MPI_Request *notices;     /* [count] */
};

static cohort_status load(struct mpi *mpi, cohort_error *err)
{
#define NAME(name)  #name,
#define PLACE(name) &mpi->name,
    static const char *const names[] = {FUNCTION_LIST(NAME)};
    void *const places[] = {FUNCTION_LIST(PLACE)};
#undef NAME
#undef PLACE
#define NAME(name, symbol)  symbol,
#define PLACE(name, symbol) &mpi->name,
    static const char *const symbols[] = {VARIABLE_LIST(NAME)};
    void **const variables[] = {VARIABLE_LIST(PLACE)};
#undef NAME
#undef PLACE
    mpi->library = dlopen(LIBRARY, RTLD_NOW | RTLD_GLOBAL); /* its plugins look for its symbols */
    if (mpi->library == NULL)
        return error_set(err, COHORT_ERR_UNSUPPORTED,
                         "several ranks need Open MPI 4, " LIBRARY " (Debian: openmpi-bin): %s", dlerror());
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        void *found = dlsym(mpi->library, names[i]);
        if (found == NULL)
            return error_set(err, COHORT_ERR_UNSUPPORTED, LIBRARY " has no %s: it is not Open MPI 4", names[i]);
        memcpy(places[i], &found, sizeof found);
    }
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++)
        if ((*variables[i] = dlsym(mpi->library, symbols[i])) == NULL)
            return error_set(err, COHORT_ERR_UNSUPPORTED, LIBRARY " has no %s: it is not Open MPI 4", symbols[i]);
    return COHORT_OK;
}

/* COHORT_ERR_IO with what MPI calls the code. */
static cohort_status check(const struct mpi *mpi, int code, const char *what, cohort_error *err)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    if (code == MPI_SUCCESS)
        return COHORT_OK;
    (void)mpi->MPI_Error_string(code, text, &length);
    return error_set(err, COHORT_ERR_IO, "MPI, %s: %s", what, text);
}

/* Looks whether another rank has said that it failed. */
static cohort_status look_for_notice(struct mpi *mpi, cohort_error *err)
{
    MPI_Status from;
    int there = 0;
    if (mpi->has_heard)
        return COHORT_OK;
    TRY(check(mpi, mpi->MPI_Iprobe(MPI_ANY_SOURCE, 0, mpi->control, &there, &from), "looking for messages", err));
    if (!there)
        return COHORT_OK;
    mpi->has_heard = true;
    return check(mpi,
                 mpi->MPI_Recv(mpi->heard, sizeof mpi->heard, (MPI_Datatype)mpi->byte, from.MPI_SOURCE, 0, mpi->control,
                               MPI_STATUS_IGNORE),
                 "a notice", err);
}

/* The ranks that a wait of so many seconds was for when its time was over. */
static cohort_status late(struct ranks *ranks, double waited, cohort_error *err)
{
    struct mpi *mpi = ranks->state;
    int32_t who = -1, more = 0;
    for (size_t i = 0; i < mpi->n; i++) {
        int done = 0;
        if (mpi->MPI_Test(&mpi->requests[i], &done, MPI_STATUS_IGNORE) != MPI_SUCCESS || done || mpi->peers[i] == who)
            continue;
        more += who >= 0 ? 1 : 0;
        who = who >= 0 ? who : mpi->peers[i];
    }
    char others[32] = "";
    if (more > 0)
        snprintf(others, sizeof others, ", and others,");
    return error_set(err, COHORT_ERR_IO,
                     "rank %d of %d (%s)%s has not answered for %lld s (--rank-timeout): it hangs, or does what takes "
                     "longer than that",
                     (int)who, (int)ranks->count, who < 0 ? "?" : ranks->hosts[who], others, (long long)(waited + 0.5));
}

static cohort_status wait_all(struct ranks *ranks, cohort_error *err)
{
    struct mpi *mpi = ranks->state;
    const double PATIENCE = 0.2; /* seconds: what a rank sent before it failed still comes */
    const double begin = clock_seconds();
    double heard = 0.0;
    for (int polls = 0;; polls = ranks_pause(polls)) {
        int done = 0;
        TRY(check(mpi, mpi->MPI_Testall((int)mpi->n, mpi->requests, &done, MPI_STATUSES_IGNORE), "an exchange", err));
        if (done)
            return COHORT_OK;
        if (polls % 64 == 63 || polls >= RANKS_SPINS) {
            const double now = clock_seconds();
            TRY(look_for_notice(mpi, err));
            heard = mpi->has_heard && heard == 0.0 ? now : heard;
            if (mpi->has_heard && now - heard > PATIENCE)
                return ranks_told(ranks, mpi->heard, sizeof mpi->heard, err);
            if (now - begin > ranks->timeout)
                return late(ranks, ranks->timeout, err);
        }
    }
}

static cohort_status post(struct ranks *ranks, const struct ranks_message *m, bool sends, cohort_error *err)
{
    struct mpi *mpi = ranks->state;
    MPI_Datatype byte = (MPI_Datatype)mpi->byte;
    size_t done = 0;
    do {
        const int n = (int)(m->n - done < MOST_BYTES ? m->n - done : MOST_BYTES);
        char *at = (char *)m->bytes + done;
        TRY(mem_grow(&mpi->requests, &mpi->request_room, mpi->n + 1, sizeof(MPI_Request), "messages to ranks", err));
        TRY(mem_grow(&mpi->peers, &mpi->peer_room, mpi->n + 1, sizeof *mpi->peers, "messages to ranks", err));
        mpi->peers[mpi->n] = m->peer;
        const int code = sends ? mpi->MPI_Isend(at, n, byte, m->peer, 0, mpi->data, &mpi->requests[mpi->n])
                               : mpi->MPI_Irecv(at, n, byte, m->peer, 0, mpi->data, &mpi->requests[mpi->n]);
        TRY(check(mpi, code, sends ? "sending" : "receiving", err));
        mpi->n++;
        done += (size_t)n;
    } while (done < m->n);
    return COHORT_OK;
}

static cohort_status exchange(struct ranks *ranks, const struct ranks_message *sends, size_t n_sends,
                              const struct ranks_message *receives, size_t n_receives, cohort_error *err)
{
    struct mpi *mpi = ranks->state;
    mpi->n = 0;
    for (size_t i = 0; i < n_receives; i++)
        TRY(post(ranks, &receives[i], false, err));
    for (size_t i = 0; i < n_sends; i++)
        TRY(post(ranks, &sends[i], true, err));
    return wait_all(ranks, err);
}

/* Who is there, of those that wait as this rank does: each sends every other a byte. */
static cohort_status call_roll(struct ranks *ranks, cohort_error *err)
{
    const double LONGEST = 3.0; /* seconds: the others' waits may have begun later */
    struct mpi *mpi = ranks->state;
    const double timeout = ranks->timeout;
    char *bytes = NULL; /* not freed after a failure: messages to it may be under way */
    TRY(mem_alloc(&bytes, (size_t)ranks->count, 1, "messages to ranks", err));
    mpi->n = 0;
    for (int32_t r = 0; r < ranks->count; r++) {
        if (r == ranks->rank)
            continue;
        TRY(post(ranks, &(struct ranks_message){r, bytes + r, 1}, false, err));
        TRY(post(ranks, &(struct ranks_message){r, bytes + ranks->rank, 1}, true, err));
    }
    ranks->timeout = LONGEST;
    const cohort_status status = wait_all(ranks, err);
    ranks->timeout = timeout;
    if (status == COHORT_OK)
        mem_free(bytes);
    return status;
}

static cohort_status look(struct ranks *ranks, double waited, cohort_error *err)
{
    struct mpi *mpi = ranks->state;
    TRY(look_for_notice(mpi, err));
    if (mpi->has_heard)
        return ranks_told(ranks, mpi->heard, sizeof mpi->heard, err);
    if (waited <= ranks->timeout)
        return COHORT_OK;
    const cohort_status status = call_roll(ranks, err);
    if (status == COHORT_OK)
        return error_set(err, COHORT_ERR_IO, "an exchange between GPUs has not ended within %lld s (--rank-timeout)",
                         (long long)(ranks->timeout + 0.5));
    return mpi->has_heard ? status : late(ranks, ranks->timeout, err);
}

static void notify(struct ranks *ranks, const void *notice, size_t n)
{
    const double LONGEST = 0.5; /* seconds: a small message needs nobody on the other side */
    struct mpi *mpi = ranks->state;
    int done = 0;
    memcpy(mpi->notice, notice, n < MOST_NOTICE ? n : MOST_NOTICE);
    for (int32_t r = 0; r < ranks->count; r++) {
        mpi->notices[r] = (MPI_Request)mpi->null_request;
        if (r != ranks->rank)
            (void)mpi->MPI_Isend(mpi->notice, MOST_NOTICE, (MPI_Datatype)mpi->byte, r, 0, mpi->control,
                                 &mpi->notices[r]);
    }
    const double begin = clock_seconds();
    for (int polls = 0; !done && clock_seconds() - begin < LONGEST; polls = ranks_pause(polls))
        if (mpi->MPI_Testall((int)ranks->count, mpi->notices, &done, MPI_STATUSES_IGNORE) != MPI_SUCCESS)
            return;
}

static void end(struct ranks *ranks, int code)
{
    /* mpirun may drop what it has not passed on yet of this rank's last words. */
    struct timespec left = {.tv_sec = 1};
    struct mpi *mpi = ranks->state;
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
    (void)mpi->MPI_Abort((MPI_Comm)mpi->world, code);
}

static void close_mpi(struct ranks *ranks)
{
    struct mpi *mpi = ranks->state;
    if (mpi == NULL)
        return;
    if (mpi->joined && !ranks->failed) { /* else messages may be under way that nobody takes */
        (void)mpi->MPI_Comm_free(&mpi->data);
        (void)mpi->MPI_Comm_free(&mpi->control);
        if (mpi->owned)
            (void)mpi->MPI_Finalize();
    }
    /* The library stays: it has threads and exit handlers of its own. What may be under way stays too. */
    if (!ranks->failed) {
        mem_free(mpi->requests);
        mem_free(mpi->peers);
        mem_free(mpi->notices);
        mem_free(mpi);
    }
    ranks->state = NULL;
}

static const struct ranks_ops operations = {exchange, look, notify, end, close_mpi};

static cohort_status join(struct ranks *ranks, int32_t wanted, cohort_error *err)
{
    struct mpi *mpi = ranks->state;
    int there = 0, level = 0, rank = 0, count = 0, local[2] = {0, 1}, length = 0;
    char name[MPI_MAX_PROCESSOR_NAME] = "", own[RANKS_HOST] = "";
    MPI_Comm here;
    TRY(check(mpi, mpi->MPI_Initialized(&there), "looking whether it is initialised", err));
    mpi->owned = !there;
    if (!there)
        TRY(check(mpi, mpi->MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &level), "joining the job", err));
    MPI_Comm world = (MPI_Comm)mpi->world;
    (void)mpi->MPI_Comm_set_errhandler(world, (MPI_Errhandler)mpi->errors_return);
    TRY(check(mpi, mpi->MPI_Comm_rank(world, &rank), "the rank", err));
    TRY(check(mpi, mpi->MPI_Comm_size(world, &count), "the number of ranks", err));
    if (count != wanted)
        return error_set(err, COHORT_ERR_STATE,
                         "whoever started this process speaks of %d ranks, MPI of %d: start with Open MPI's mpirun, or "
                         "with srun --mpi=pmix",
                         (int)wanted, count);
    TRY(check(mpi, mpi->MPI_Comm_dup(world, &mpi->data), "a communicator", err));
    TRY(check(mpi, mpi->MPI_Comm_dup(world, &mpi->control), "a communicator", err));
    TRY(check(mpi, mpi->MPI_Comm_split_type(world, MPI_COMM_TYPE_SHARED, 0, (MPI_Info)mpi->null_info, &here),
              "the ranks of a host", err));
    TRY(check(mpi, mpi->MPI_Comm_rank(here, &local[0]), "the ranks of a host", err));
    TRY(check(mpi, mpi->MPI_Comm_size(here, &local[1]), "the ranks of a host", err));
    (void)mpi->MPI_Comm_free(&here);
    mpi->joined = true;
    ranks->rank = rank;
    ranks->count = count;
    ranks->local_rank = local[0];
    ranks->local_count = local[1];
    TRY(mem_alloc(&mpi->notices, (size_t)count, sizeof(MPI_Request), "messages to ranks", err));
    TRY(mem_alloc(&ranks->hosts, (size_t)count, sizeof *ranks->hosts, "names of hosts", err));
    (void)mpi->MPI_Get_processor_name(name, &length);
    snprintf(own, sizeof own, "%.*s", RANKS_HOST - 1, name);
    return ranks_gather(ranks, own, sizeof own, ranks->hosts, err);
}

cohort_status ranks_open_mpi(struct ranks **out, int32_t wanted, cohort_error *err)
{
    struct ranks *ranks = NULL;
    struct mpi *mpi = NULL;
    *out = NULL;
    TRY(mem_alloc(&ranks, 1, sizeof *ranks, "ranks", err));
    *ranks = (struct ranks){.count = 1, .local_count = 1, .timeout = RANKS_PATIENCE};
    cohort_status status = mem_alloc(&mpi, 1, sizeof *mpi, "ranks", err);
    ranks->state = mpi;
    ranks->ops = &operations;
    if (status == COHORT_OK)
        status = load(mpi, err);
    if (status == COHORT_OK)
        status = join(ranks, wanted, err);
    if (status != COHORT_OK) {
        ranks->failed = true; /* whoever started the processes ends the others when this one exits */
        mem_free(ranks->hosts);
        ranks->hosts = NULL;
        ranks_close(ranks, 1);
        return status;
    }
    *out = ranks;
    return COHORT_OK;
}

#endif

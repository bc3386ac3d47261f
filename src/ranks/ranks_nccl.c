/* Memory of GPUs between ranks, over NCCL: its sends and receives, and no sums. NCCL finds the ways there are (NVLink, PCIe,
 * networks) by itself.
 *
 * Owns a communicator, which does not block the host, and a stream of its own, in which exchanges follow each other. A
 * wait of the host polls, asks whether another rank has failed (look of struct ranks_ops), and ends at the time limit; then the
 * communicator is aborted, so that streams that wait for it go on. */
#ifdef COHORT_NCCL_FOUND

#include "ranks/ranks_nccl.h"

#include "base/clock.h"

#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <nccl.h>
#include <stdio.h>
#include <string.h>

/* Loaded when GPUs are to exchange and not before. */
#define LIBRARY "libnccl.so.2"
#define FUNCTION_LIST(X)                                                                                               \
    X(ncclGetVersion)                                                                                                  \
    X(ncclGetErrorString)                                                                                              \
    X(ncclGetLastError)                                                                                                \
    X(ncclGetUniqueId)                                                                                                 \
    X(ncclCommInitRankConfig)                                                                                          \
    X(ncclCommGetAsyncError)                                                                                           \
    X(ncclCommAbort)                                                                                                   \
    X(ncclCommFinalize)                                                                                                \
    X(ncclCommDestroy)                                                                                                 \
    X(ncclGroupStart)                                                                                                  \
    X(ncclGroupEnd)                                                                                                    \
    X(ncclSend)                                                                                                        \
    X(ncclRecv)

enum {
    LEAST_VERSION = 21800, /* communicators that do not block, as we use them */
    N_EVENTS = 16,         /* an older ticket waits for a newer exchange */
    STAGE = 16 << 20       /* bytes of the host on their way, out and as many in */
};

struct nccl {
    void *library;
#define FUNCTION(name) __typeof__(name) *name;
    FUNCTION_LIST(FUNCTION)
#undef FUNCTION
    int gpu;
    ncclComm_t comm;
    cudaStream_t stream;
    cudaEvent_t begun, done[N_EVENTS];
    uint64_t ticket;  /* of the last exchange; the first is 1 */
    uint64_t settled; /* up to this one they are known to be done */
    char *stage,
        *pinned; /* [2, STAGE] on the GPU and on the host: bytes out, bytes in; NULL: no exchange needed them */
    struct ranks_message *messages; /* [2, count] of a round */
};

static cohort_status load(struct nccl *nccl, cohort_error *err)
{
#define NAME(name)  #name,
#define PLACE(name) &nccl->name,
    static const char *const names[] = {FUNCTION_LIST(NAME)};
    void *const places[] = {FUNCTION_LIST(PLACE)};
#undef NAME
#undef PLACE
    int version = 0;
    nccl->library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
#ifdef COHORT_NCCL_LIBRARY /* the one that belongs to the header, where no loader looks by itself */
    if (nccl->library == NULL)
        nccl->library = dlopen(COHORT_NCCL_LIBRARY, RTLD_NOW | RTLD_LOCAL);
#endif
    if (nccl->library == NULL)
        return error_set(err, COHORT_ERR_UNSUPPORTED, "there is no NCCL, " LIBRARY " (%s)", dlerror());
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        void *found = dlsym(nccl->library, names[i]);
        if (found == NULL)
            return error_set(err, COHORT_ERR_UNSUPPORTED, LIBRARY " has no %s: it is too old", names[i]);
        memcpy(places[i], &found, sizeof found);
    }
    if (nccl->ncclGetVersion(&version) != ncclSuccess || version < LEAST_VERSION)
        return error_set(err, COHORT_ERR_UNSUPPORTED, LIBRARY " is version %d.%d, 2.18 or newer is needed",
                         version / 10000, version / 100 % 100);
    return COHORT_OK;
}

static cohort_status check_cuda(cudaError_t result, const char *what, cohort_error *err)
{
    if (result == cudaSuccess)
        return COHORT_OK;
    (void)cudaGetLastError();
    return error_set(err, result == cudaErrorMemoryAllocation ? COHORT_ERR_MEMORY : COHORT_ERR_UNSUPPORTED,
                     "an exchange between GPUs, %s: CUDA reports '%s'", what, cudaGetErrorString(result));
}

/* COHORT_ERR_IO with what NCCL says. That work goes on is no error. */
static cohort_status check_nccl(const struct nccl *nccl, ncclResult_t result, const char *what, cohort_error *err)
{
    if (result == ncclSuccess || result == ncclInProgress)
        return COHORT_OK;
    return error_set(err, COHORT_ERR_IO, "NCCL, %s: %s (%s; NCCL_DEBUG=WARN says more)", what,
                     nccl->ncclGetErrorString(result), nccl->ncclGetLastError(nccl->comm));
}

/* Streams that wait for other ranks go on. */
static void give_up(struct nccl *nccl)
{
    if (nccl->comm != NULL)
        (void)nccl->ncclCommAbort(nccl->comm);
    nccl->comm = NULL;
}

/* Waits until NCCL has taken what it was asked for, or, with all, until the GPU has done it. */
static cohort_status wait_for(struct ranks *ranks, bool all, const char *what, cohort_error *err)
{
    struct nccl *nccl = ranks->device_state;
    const double begin = clock_seconds();
    cohort_status status = COHORT_OK;
    for (int polls = 0;; polls = ranks_pause(polls)) {
        ncclResult_t result = ncclSuccess;
        TRY_GOTO(check_nccl(nccl, nccl->ncclCommGetAsyncError(nccl->comm, &result), what, err));
        TRY_GOTO(check_nccl(nccl, result, what, err));
        if (result == ncclSuccess) {
            const cudaError_t device = all ? cudaStreamQuery(nccl->stream) : cudaSuccess;
            if (device == cudaSuccess)
                return COHORT_OK;
            if (device != cudaErrorNotReady)
                TRY_GOTO(check_cuda(device, what, err));
            (void)cudaGetLastError();
        }
        if (polls % 64 == 63 || polls >= RANKS_SPINS)
            TRY_GOTO(ranks->ops->look(ranks, clock_seconds() - begin, err));
    }
cleanup:
    give_up(nccl);
    return status;
}

static cohort_status post(struct nccl *nccl, const struct ranks_message *sends, size_t n_sends,
                          const struct ranks_message *receives, size_t n_receives, cohort_error *err)
{
    for (size_t i = 0; i < n_sends; i++)
        TRY(check_nccl(nccl,
                       nccl->ncclSend(sends[i].bytes, sends[i].n, ncclUint8, sends[i].peer, nccl->comm, nccl->stream),
                       "sending", err));
    for (size_t i = 0; i < n_receives; i++)
        TRY(check_nccl(
            nccl,
            nccl->ncclRecv(receives[i].bytes, receives[i].n, ncclUint8, receives[i].peer, nccl->comm, nccl->stream),
            "receiving", err));
    return COHORT_OK;
}

static cohort_status issue(struct ranks *ranks, const struct ranks_message *sends, size_t n_sends,
                           const struct ranks_message *receives, size_t n_receives, cohort_error *err)
{
    struct nccl *nccl = ranks->device_state;
    cohort_status status = COHORT_OK;
    TRY_GOTO(check_nccl(nccl, nccl->ncclGroupStart(), "an exchange", err));
    status = post(nccl, sends, n_sends, receives, n_receives, err);
    const ncclResult_t ended = nccl->ncclGroupEnd();
    if (status != COHORT_OK)
        goto cleanup;
    TRY_GOTO(check_nccl(nccl, ended, "an exchange", err));
    return wait_for(ranks, false, "an exchange", err);
cleanup:
    give_up(nccl);
    return status;
}

static cohort_status begin(struct ranks *ranks, void *stream, const struct ranks_message *sends, size_t n_sends,
                           const struct ranks_message *receives, size_t n_receives, uint64_t *ticket, cohort_error *err)
{
    struct nccl *nccl = ranks->device_state;
    cohort_status status = COHORT_OK;
    TRY_GOTO(check_cuda(cudaSetDevice(nccl->gpu), "its device", err));
    TRY_GOTO(check_cuda(cudaEventRecord(nccl->begun, (cudaStream_t)stream), "an event", err));
    TRY_GOTO(check_cuda(cudaStreamWaitEvent(nccl->stream, nccl->begun, 0), "an event", err));
    TRY(issue(ranks, sends, n_sends, receives, n_receives, err));
    *ticket = ++nccl->ticket;
    TRY_GOTO(check_cuda(cudaEventRecord(nccl->done[*ticket % N_EVENTS], nccl->stream), "an event", err));
    return COHORT_OK;
cleanup:
    give_up(nccl);
    return status;
}

static cohort_status after(struct ranks *ranks, void *stream, uint64_t ticket, cohort_error *err)
{
    struct nccl *nccl = ranks->device_state;
    if (ticket <= nccl->settled)
        return COHORT_OK;
    TRY(check_cuda(cudaSetDevice(nccl->gpu), "its device", err));
    return check_cuda(cudaStreamWaitEvent((cudaStream_t)stream, nccl->done[ticket % N_EVENTS], 0), "an event", err);
}

static cohort_status settle(struct ranks *ranks, cohort_error *err)
{
    struct nccl *nccl = ranks->device_state;
    if (nccl->settled == nccl->ticket)
        return COHORT_OK;
    TRY(check_cuda(cudaSetDevice(nccl->gpu), "its device", err));
    TRY(wait_for(ranks, true, "an exchange", err));
    nccl->settled = nccl->ticket;
    return COHORT_OK;
}

/* ---- Bytes of the host ---- */

/* Copies bytes from .. from + room of what lies behind each other in the messages of a peer: out of them into buffer, or the other
 * way. Returns how many there are. buffer NULL: counts. */
static size_t move_slice(const struct ranks_message *messages, size_t n, int32_t peer, size_t from, size_t room,
                         char *buffer, bool out)
{
    size_t at = 0, moved = 0;
    for (size_t i = 0; i < n && moved < room; i++) {
        if (messages[i].peer != peer)
            continue;
        const size_t skip = from + moved > at ? from + moved - at : 0;
        if (skip < messages[i].n) {
            const size_t left = messages[i].n - skip, k = left < room - moved ? left : room - moved;
            char *bytes = (char *)messages[i].bytes + skip;
            if (buffer != NULL)
                memcpy(out ? buffer + moved : bytes, out ? bytes : buffer + moved, k);
            moved += k;
        }
        at += messages[i].n;
    }
    return moved;
}

static cohort_status make_stage(struct ranks *ranks, cohort_error *err)
{
    struct nccl *nccl = ranks->device_state;
    if (nccl->messages == NULL)
        TRY(mem_alloc(&nccl->messages, 2 * (size_t)ranks->count, sizeof *nccl->messages, "messages to ranks", err));
    if (nccl->pinned == NULL)
        TRY(check_cuda(cudaMallocHost((void **)&nccl->pinned, 2 * (size_t)STAGE), "memory", err));
    if (nccl->stage == NULL)
        TRY(check_cuda(cudaMalloc((void **)&nccl->stage, 2 * (size_t)STAGE), "memory", err));
    return COHORT_OK;
}

/* Between two ranks, round number i carries slice i of the bytes of all messages between them: both know how many rounds that
 * are, and no round waits for a later one. */
cohort_status ranks_nccl_exchange(struct ranks *ranks, const struct ranks_message *sends, size_t n_sends,
                                  const struct ranks_message *receives, size_t n_receives, cohort_error *err)
{
    struct nccl *nccl = ranks->device_state;
    const size_t slice = (size_t)STAGE / (size_t)ranks->count / 64 * 64;
    TRY(check_cuda(cudaSetDevice(nccl->gpu), "its device", err));
    TRY(make_stage(ranks, err));
    char *const pinned_in = nccl->pinned + STAGE, *const stage_in = nccl->stage + STAGE;
    struct ranks_message *out = nccl->messages, *in = out + ranks->count;
    for (size_t from = 0;; from += slice) {
        size_t n_out = 0, n_in = 0;
        for (int32_t r = 0; r < ranks->count; r++) {
            const size_t place = (size_t)r * slice;
            const size_t sent = move_slice(sends, n_sends, r, from, slice, nccl->pinned + place, true),
                         received = move_slice(receives, n_receives, r, from, slice, NULL, false);
            if (sent > 0)
                TRY(check_cuda(cudaMemcpyAsync(nccl->stage + place, nccl->pinned + place, sent, cudaMemcpyHostToDevice,
                                               nccl->stream),
                               "bytes of the host", err));
            if (sent > 0)
                out[n_out++] = (struct ranks_message){r, nccl->stage + place, sent};
            if (received > 0)
                in[n_in++] = (struct ranks_message){r, stage_in + place, received};
        }
        if (n_out + n_in == 0)
            return COHORT_OK;
        TRY(issue(ranks, out, n_out, in, n_in, err));
        for (size_t i = 0; i < n_in; i++)
            TRY(check_cuda(cudaMemcpyAsync(pinned_in + (size_t)in[i].peer * slice, in[i].bytes, in[i].n,
                                           cudaMemcpyDeviceToHost, nccl->stream),
                           "bytes of the host", err));
        TRY(wait_for(ranks, true, "an exchange", err));
        for (size_t i = 0; i < n_in; i++)
            (void)move_slice(receives, n_receives, in[i].peer, from, slice, pinned_in + (size_t)in[i].peer * slice,
                             false);
    }
}

static void close_nccl(struct ranks *ranks)
{
    struct nccl *nccl = ranks->device_state;
    ranks->device_ops = NULL;
    ranks->device_state = NULL;
    if (nccl == NULL)
        return;
    (void)cudaSetDevice(nccl->gpu);
    if (nccl->comm != NULL && !ranks->failed) {
        ncclResult_t result = nccl->ncclCommFinalize(nccl->comm);
        const double LONGEST = 5.0, begun = clock_seconds(); /* seconds */
        for (int polls = 0; result == ncclInProgress && clock_seconds() - begun < LONGEST; polls = ranks_pause(polls))
            if (nccl->ncclCommGetAsyncError(nccl->comm, &result) != ncclSuccess)
                break;
        if (result == ncclSuccess) {
            (void)nccl->ncclCommDestroy(nccl->comm);
            nccl->comm = NULL;
        }
    }
    give_up(nccl);
    (void)cudaFree(nccl->stage);
    (void)cudaFreeHost(nccl->pinned);
    mem_free(nccl->messages);
    if (nccl->begun != NULL)
        (void)cudaEventDestroy(nccl->begun);
    for (int i = 0; i < N_EVENTS; i++)
        if (nccl->done[i] != NULL)
            (void)cudaEventDestroy(nccl->done[i]);
    if (nccl->stream != NULL)
        (void)cudaStreamDestroy(nccl->stream);
    mem_free(nccl); /* the library stays: it has threads and exit handlers of its own */
}

static const struct ranks_device_ops operations = {begin, after, settle, close_nccl};

/* ---- Opening ---- */

bool ranks_nccl_impossible(const struct ranks *ranks, const struct presence *all, char *why, size_t room)
{
    for (int32_t r = 0; r < ranks->count; r++) {
        if (!all[r].can)
            snprintf(why, room, "rank %d (%s): %.*s", (int)r, ranks->hosts[r], (int)sizeof all[r].why - 1, all[r].why);
        if (!all[r].can)
            return true;
        for (int32_t other = 0; other < r; other++)
            if (strcmp(all[r].bus, all[other].bus) == 0 && strcmp(ranks->hosts[r], ranks->hosts[other]) == 0) {
                snprintf(why, room, "ranks %d and %d share a GPU of %s", (int)other, (int)r, ranks->hosts[r]);
                return true;
            }
    }
    return false;
}

cohort_status ranks_nccl_begin(struct ranks *ranks, int gpu, struct presence *own, cohort_error *err)
{
    struct nccl *nccl = NULL;
    cohort_error why = {.message = "it computes on a CPU"};
    TRY(mem_alloc(&nccl, 1, sizeof *nccl, "ranks", err));
    nccl->gpu = gpu;
    *own = (struct presence){.can = gpu >= 0};
    if (own->can)
        own->can = load(nccl, &why) == COHORT_OK &&
                   check_cuda(cudaDeviceGetPCIBusId(own->bus, sizeof own->bus, gpu), "its GPU", &why) == COHORT_OK;
    snprintf(own->why, sizeof own->why, "%.*s", (int)sizeof own->why - 1, why.message);
    ranks->device_state = nccl;
    return COHORT_OK;
}

void ranks_nccl_leave(struct ranks *ranks)
{
    mem_free(ranks->device_state);
    ranks->device_state = NULL;
}

static cohort_status make_stream(struct nccl *nccl, cohort_error *err)
{
    TRY(check_cuda(cudaSetDevice(nccl->gpu), "its device", err));
    TRY(check_cuda(cudaStreamCreateWithFlags(&nccl->stream, cudaStreamNonBlocking), "a stream", err));
    TRY(check_cuda(cudaEventCreateWithFlags(&nccl->begun, cudaEventDisableTiming), "an event", err));
    for (int i = 0; i < N_EVENTS; i++)
        TRY(check_cuda(cudaEventCreateWithFlags(&nccl->done[i], cudaEventDisableTiming), "an event", err));
    return COHORT_OK;
}

cohort_status ranks_nccl_name(struct ranks *ranks, char name[RANKS_NCCL_NAME], cohort_error *err)
{
    struct nccl *nccl = ranks->device_state;
    _Static_assert(sizeof(ncclUniqueId) == RANKS_NCCL_NAME, "NCCL's id");
    ncclUniqueId id = {0};
    TRY(check_nccl(nccl, nccl->ncclGetUniqueId(&id), "the id of a communicator", err));
    memcpy(name, &id, sizeof id);
    return COHORT_OK;
}

cohort_status ranks_nccl_join(struct ranks *ranks, const char name[RANKS_NCCL_NAME], cohort_error *err)
{
    struct nccl *nccl = ranks->device_state;
    ncclUniqueId id = {0};
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    ranks->device_ops = &operations;
    memcpy(&id, name, sizeof id);
    config.blocking = 0;
    TRY(make_stream(nccl, err));
    TRY(check_nccl(nccl, nccl->ncclCommInitRankConfig(&nccl->comm, ranks->count, id, ranks->rank, &config),
                   "a communicator", err));
    return wait_for(ranks, false, "a communicator", err);
}

/* A job without MPI has its communicator since it was joined. */
static cohort_status check_gpu(const struct ranks *ranks, int gpu, cohort_error *err)
{
    const struct nccl *nccl = ranks->device_state;
    if (nccl->gpu == gpu)
        return COHORT_OK;
    return error_set(err, COHORT_ERR_ARGUMENT,
                     "rank %d exchanges with others through GPU %d (LOCAL_RANK) and is to compute %s: leave --device "
                     "out; ranks on CPUs are started by mpirun",
                     (int)ranks->rank, nccl->gpu, gpu < 0 ? "on a CPU" : "on another GPU");
}

cohort_status ranks_open_device(struct ranks *ranks, int gpu, struct text *note, cohort_error *err)
{
    struct presence own, *all = NULL;
    char why[512] = "", name[RANKS_NCCL_NAME] = "";
    cohort_status status = COHORT_OK;
    if (ranks_count(ranks) == 1)
        return COHORT_OK;
    if (ranks->device_ops != NULL)
        return check_gpu(ranks, gpu, err);
    TRY(mem_alloc(&all, (size_t)ranks->count, sizeof *all, "ranks", err));
    TRY_GOTO(ranks_nccl_begin(ranks, gpu, &own, err));
    TRY_GOTO(ranks_gather(ranks, &own, sizeof own, all, err));
    if (ranks_nccl_impossible(ranks, all, why, sizeof why)) {
        if (gpu >= 0 && note != NULL)
            status = text_printf(note, err, "memory of GPUs goes through the host's between ranks: %s\n", why);
        goto cleanup;
    }
    if (ranks->rank == 0)
        TRY_GOTO(ranks_nccl_name(ranks, name, err));
    TRY_GOTO(ranks_broadcast(ranks, 0, name, sizeof name, err));
    TRY_GOTO(ranks_nccl_join(ranks, name, err));
cleanup:
    if (ranks->device_ops == NULL)
        ranks_nccl_leave(ranks);
    mem_free(all);
    return status;
}

#endif

/* Memory of GPUs between ranks, over NCCL: its sends and receives, and no sums. NCCL finds the ways there are (NVLink, PCIe,
 * networks) by itself.
 *
 * Owns a communicator, which does not block the host, and a stream of its own, in which exchanges follow each other. A
 * wait of the host polls, asks whether another rank has failed (look of struct ranks_ops), and ends at the time limit; then the
 * communicator is aborted, so that streams that wait for it go on. */
#ifdef COHORT_NCCL_FOUND

#include "ranks/ranks.h"

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
    BUS_ID = 32
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
};

/* What a rank says of itself before a communicator is made. */
struct presence {
    int32_t can;      /* it has a GPU and NCCL */
    char bus[BUS_ID]; /* of the GPU */
    char why[256];    /* it cannot */
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

static cohort_status begin(struct ranks *ranks, void *stream, const struct ranks_message *sends, size_t n_sends,
                           const struct ranks_message *receives, size_t n_receives, uint64_t *ticket, cohort_error *err)
{
    struct nccl *nccl = ranks->device_state;
    cohort_status status = COHORT_OK;
    TRY_GOTO(check_cuda(cudaSetDevice(nccl->gpu), "its device", err));
    TRY_GOTO(check_cuda(cudaEventRecord(nccl->begun, (cudaStream_t)stream), "an event", err));
    TRY_GOTO(check_cuda(cudaStreamWaitEvent(nccl->stream, nccl->begun, 0), "an event", err));
    TRY_GOTO(check_nccl(nccl, nccl->ncclGroupStart(), "an exchange", err));
    status = post(nccl, sends, n_sends, receives, n_receives, err);
    const ncclResult_t ended = nccl->ncclGroupEnd();
    if (status != COHORT_OK)
        goto cleanup;
    TRY_GOTO(check_nccl(nccl, ended, "an exchange", err));
    TRY(wait_for(ranks, false, "an exchange", err));
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

/* Why memory of GPUs cannot cross as it is; false: it can. Ranks come to the same answer. */
static bool impossible(const struct ranks *ranks, const struct presence *all, struct text *note)
{
    static const char BEGIN[] = "memory of GPUs goes through the host's between ranks";
    for (int32_t r = 0; r < ranks->count; r++) {
        if (!all[r].can) {
            (void)text_printf(note, NULL, "%s: rank %d (%s): %s\n", BEGIN, (int)r, ranks->hosts[r], all[r].why);
            return true;
        }
        for (int32_t other = 0; other < r; other++)
            if (strcmp(all[r].bus, all[other].bus) == 0 && strcmp(ranks->hosts[r], ranks->hosts[other]) == 0) {
                (void)text_printf(note, NULL, "%s: ranks %d and %d share a GPU of %s\n", BEGIN, (int)other, (int)r,
                                  ranks->hosts[r]);
                return true;
            }
    }
    return false;
}

static cohort_status make_stream(struct nccl *nccl, cohort_error *err)
{
    TRY(check_cuda(cudaStreamCreateWithFlags(&nccl->stream, cudaStreamNonBlocking), "a stream", err));
    TRY(check_cuda(cudaEventCreateWithFlags(&nccl->begun, cudaEventDisableTiming), "an event", err));
    for (int i = 0; i < N_EVENTS; i++)
        TRY(check_cuda(cudaEventCreateWithFlags(&nccl->done[i], cudaEventDisableTiming), "an event", err));
    return COHORT_OK;
}

static cohort_status make_communicator(struct ranks *ranks, cohort_error *err)
{
    struct nccl *nccl = ranks->device_state;
    ncclUniqueId id = {0};
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    if (ranks->rank == 0)
        TRY(check_nccl(nccl, nccl->ncclGetUniqueId(&id), "the id of a communicator", err));
    TRY(ranks_broadcast(ranks, 0, &id, sizeof id, err));
    TRY(check_nccl(nccl, nccl->ncclCommInitRankConfig(&nccl->comm, ranks->count, id, ranks->rank, &config),
                   "a communicator", err));
    return wait_for(ranks, false, "a communicator", err);
}

cohort_status ranks_open_device(struct ranks *ranks, int gpu, struct text *note, cohort_error *err)
{
    struct presence own = {.can = gpu >= 0}, *all = NULL;
    struct nccl *nccl = NULL;
    cohort_error why = {.message = "it computes on a CPU"};
    cohort_status status = COHORT_OK;
    if (ranks_count(ranks) == 1 || ranks->device_ops != NULL)
        return COHORT_OK;
    TRY(mem_alloc(&all, (size_t)ranks->count, sizeof *all, "ranks", err));
    TRY_GOTO(mem_alloc(&nccl, 1, sizeof *nccl, "ranks", err));
    nccl->gpu = gpu;
    if (own.can)
        own.can = load(nccl, &why) == COHORT_OK &&
                  check_cuda(cudaDeviceGetPCIBusId(own.bus, sizeof own.bus, gpu), "its GPU", &why) == COHORT_OK;
    snprintf(own.why, sizeof own.why, "%.*s", (int)sizeof own.why - 1, why.message);
    TRY_GOTO(ranks_gather(ranks, &own, sizeof own, all, err));
    if (impossible(ranks, all, gpu >= 0 ? note : NULL))
        goto cleanup;
    ranks->device_state = nccl;
    ranks->device_ops = &operations;
    nccl = NULL;
    TRY_GOTO(check_cuda(cudaSetDevice(gpu), "its device", err));
    TRY_GOTO(make_stream(ranks->device_state, err));
    TRY_GOTO(make_communicator(ranks, err));
cleanup:
    mem_free(nccl);
    mem_free(all);
    return status;
}

#endif

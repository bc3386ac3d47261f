/* NCCL for the emulated GPU: a library of its own, which the program loads as it would load NCCL. A message is a file in a folder that
 * the communicator's ranks share; a receive waits in its stream until the file is there. As with a communicator that does not
 * block, calls are under way when they return: what a group asks for comes to its stream when somebody asks how the
 * communicator does. NCCL_EMULATION=hangs:N or fails:N: at exchange number N of this process. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "emulation_state.h"

#include <nccl.h>

struct ncclComm {
    std::string folder;
    int rank, n;
    std::vector<unsigned long> sent, received; /* messages to and from each */
    int busy;                                  /* so often it says that it is under way */
    bool aborted;
    std::vector<std::function<void()>> asked; /* not issued yet */
};

namespace
{
/* An aborted communicator is kept for what still waits in streams. */
using message = std::shared_ptr<std::string>;
int depth = 0, exchanges = 0;
ncclComm *grouped = NULL;

/* Whether NCCL_EMULATION says that of this exchange. */
bool happens(const char *what)
{
    const char *text = getenv("NCCL_EMULATION");
    return text && std::string(text) == std::string(what) + ":" + std::to_string(exchanges);
}

message file_of(const ncclComm *comm, int from, int to, unsigned long number)
{
    return std::make_shared<std::string>(comm->folder + "/" + std::to_string(from) + "-" + std::to_string(to) + "-" +
                                         std::to_string(number));
}

int write_message(const std::string &path, const void *bytes, size_t n)
{
    const std::string begun = path + ".part";
    FILE *file = fopen(begun.c_str(), "wb");
    const bool ok = file && fwrite(bytes, 1, n, file) == n && fflush(file) == 0;
    if (file)
        fclose(file);
    return ok && rename(begun.c_str(), path.c_str()) == 0 ? EMULATED_DONE : EMULATED_FAILED;
}

int read_message(const std::string &path, void *bytes, size_t n)
{
    struct stat about;
    FILE *file = fopen(path.c_str(), "rb");
    if (!file)
        return EMULATED_LATER;
    const bool ok = fstat(fileno(file), &about) == 0 && (size_t)about.st_size == n && fread(bytes, 1, n, file) == n;
    fclose(file);
    unlink(path.c_str());
    if (!ok)
        emulated_fail("a message of another size than the receive of %zu bytes", n);
    return ok ? EMULATED_DONE : EMULATED_FAILED;
}

size_t bytes_of(size_t count, ncclDataType_t type) { return type == ncclFloat32 ? count * 4 : count; }

ncclResult_t ask(ncclComm *comm, std::function<void()> work)
{
    if (depth == 0) {
        emulated_fail("a call of NCCL that is in no group");
        return ncclInvalidUsage;
    }
    grouped = comm;
    comm->asked.push_back(std::move(work));
    return ncclSuccess;
}
} // namespace

extern "C" {
ncclResult_t ncclGetVersion(int *version)
{
    *version = 22800;
    return ncclSuccess;
}
const char *ncclGetErrorString(ncclResult_t result) { return result == ncclSuccess ? "no error" : "emulated error"; }
const char *ncclGetLastError(ncclComm_t) { return "of the emulation"; }

ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(id->internal, sizeof id->internal, "%s/nccl-emulated-XXXXXX", tmp ? tmp : "/tmp");
    return mkdtemp(id->internal) ? ncclSuccess : ncclSystemError;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int n, ncclUniqueId id, int rank, ncclConfig_t *config)
{
    if (config->blocking != 0 || config->magic != 0xcafebeef)
        return ncclInvalidArgument;
    *comm =
        new ncclComm{id.internal, rank, n, std::vector<unsigned long>(n), std::vector<unsigned long>(n), 3, false, {}};
    return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error)
{
    *error = ncclSuccess;
    if (comm->busy > 0) {
        comm->busy--;
        *error = ncclInProgress;
        return ncclSuccess;
    }
    if (!comm->asked.empty() && happens("hangs"))
        for (;;)
            pause();
    if (!comm->asked.empty() && happens("fails"))
        *error = ncclRemoteError;
    for (auto &work : comm->asked)
        work();
    comm->asked.clear();
    return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm)
{
    comm->aborted = true; /* what waits in streams looks at it */
    return ncclSuccess;
}
ncclResult_t ncclCommFinalize(ncclComm_t comm)
{
    comm->busy = 3;
    return ncclInProgress;
}
ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
    rmdir(comm->folder.c_str()); /* the last one succeeds where every message was taken */
    delete comm;
    return ncclSuccess;
}

ncclResult_t ncclGroupStart(void)
{
    depth++;
    return ncclSuccess;
}
ncclResult_t ncclGroupEnd(void)
{
    if (--depth > 0 || !grouped)
        return ncclSuccess;
    exchanges++;
    grouped->busy = 2;
    grouped = NULL;
    return ncclInProgress;
}

ncclResult_t ncclSend(const void *from, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream)
{
    const size_t n = bytes_of(count, type);
    if (!emulated_device_range(from, n))
        emulated_fail("a message of %zu bytes that lie in no memory of the device", n);
    const message path = file_of(comm, comm->rank, peer, comm->sent[(size_t)peer]++);
    return ask(comm, [=]() {
        emulated_issue(stream, [=]() { return comm->aborted ? EMULATED_DONE : write_message(*path, from, n); });
    });
}
ncclResult_t ncclRecv(void *to, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream)
{
    const size_t n = bytes_of(count, type);
    if (!emulated_device_range(to, n))
        emulated_fail("a message of %zu bytes to no memory of the device", n);
    const message path = file_of(comm, peer, comm->rank, comm->received[(size_t)peer]++);
    return ask(comm, [=]() {
        emulated_issue(stream, [=]() { return comm->aborted ? EMULATED_DONE : read_message(*path, to, n); });
    });
}
} // extern "C"

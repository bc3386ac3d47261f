/* The CUDA runtime's memory, streams, events and graphs on the CPU.
 *
 * What is issued to a stream waits in its queue until something needs it done (a synchronisation, a copy to pageable
 * memory, cudaFree), as on a GPU that is slow: a host that reads or overwrites pinned memory too early shows. Copies
 * from pageable memory read it at once, as CUDA does. Under capture, what is issued goes to the graph.
 *
 * Device memory comes filled with 0xFF (NaN), its end against a page that cannot be touched (up to the 256 bytes of
 * alignment, which cudaFree checks). Leaks end the process with status 1. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

/* After the standard headers: it defines words that they use in attributes. */
#include "emulation_state.h"

using operation = emulated_work;

struct emulated_graph {
    std::vector<operation> operations;
};
struct emulated_graph_exec {
    std::shared_ptr<emulated_graph> graph;
};
struct emulated_event {
    bool recorded;
    emulated_stream *stream;
    uint64_t position; /* in the stream, counted in operations */
};
struct emulated_stream {
    int device;
    std::deque<operation> queue;
    uint64_t taken; /* operations that left the queue */
    emulated_graph *capture;
    bool capture_invalid;
    cudaStreamCaptureMode mode;
    emulated_stream *capture_origin; /* whose capture a branch belongs to; NULL: its own, or none */
    int capture_branches;            /* that have not come back */
};

namespace
{
constexpr unsigned char guard = 0xFF;
constexpr size_t page = 4096;

struct block {
    size_t bytes;
    unsigned char *mapping;
    size_t mapped;
    int device; /* of device memory */
};

constexpr int most_devices = 2;
/* Of the calling thread of the host; as with the real one, a thread begins with the first. */
thread_local int current = 0;

struct runtime {
    std::map<uintptr_t, block> device, pinned;
    std::map<const void *, int> allowed_shared;
    std::vector<emulated_stream *> streams;
    cudaError_t last = cudaSuccess;
    cudaError_t sticky = cudaSuccess; /* a kernel failed */
    bool expected = false;
    std::string failure;
    size_t used[most_devices] = {}, total = (size_t)1 << 30; /* total: of each device */
    int devices = 1;
    int multiprocessors = 6, capability = 90;
    int driver = CUDART_VERSION;
    cudaError_t start = cudaSuccess; /* what asking for devices gives */
    uint64_t launches = 0;
    int events = 0, graphs = 0;

    runtime();
    ~runtime();
} R;
emulated_stream default_stream;

cudaError_t note(cudaError_t error)
{
    if (error != cudaSuccess)
        R.last = error;
    return error;
}

const std::pair<const uintptr_t, block> *find(const std::map<uintptr_t, block> &blocks, const void *p)
{
    auto at = blocks.upper_bound((uintptr_t)p);
    if (at == blocks.begin())
        return NULL;
    --at;
    return (uintptr_t)p < at->first + at->second.bytes ? &*at : NULL;
}
bool inside(const std::map<uintptr_t, block> &blocks, const void *p, size_t bytes)
{
    auto at = find(blocks, p);
    return at && bytes <= at->first + at->second.bytes - (uintptr_t)p;
}

emulated_stream *stream_of(cudaStream_t stream) { return stream ? stream : &default_stream; }

/* Does what was issued to a stream, up to a position in it; without wait, as far as nothing has to be waited for. */
bool drain(emulated_stream *stream, uint64_t position = UINT64_MAX, bool wait = true)
{
    bool ok = true;
    while (!stream->queue.empty() && stream->taken < position) {
        const int result = ok ? stream->queue.front()() : EMULATED_DONE;
        if (result == EMULATED_LATER && !wait)
            break;
        if (result == EMULATED_LATER) {
            usleep(50);
            continue;
        }
        stream->queue.pop_front();
        stream->taken++;
        if (result == EMULATED_FAILED) {
            ok = false;
            R.sticky = cudaErrorLaunchFailure;
        }
    }
    return ok;
}
bool drain_all()
{
    bool ok = drain(&default_stream);
    for (emulated_stream *s : R.streams)
        ok = drain(s) && ok;
    return ok;
}

/* A device's stream, memory and handles may be used only while it is the calling thread's current one: stricter than CUDA
 * is throughout, so that a device that nobody chose is seen. */
bool is_current(const char *what, int device)
{
    if (device != current)
        emulated_fail("%s of device %d while device %d is the thread's current one", what, device, current);
    return device == current;
}

void issue(emulated_stream *stream, operation o)
{
    if (stream != &default_stream && !is_current("work for a stream", stream->device))
        return;
    if (stream->capture)
        stream->capture->operations.push_back(std::move(o));
    else
        stream->queue.push_back(std::move(o));
}

/* A call that may not happen while a stream is captured, unless only its thread is minded. */
bool forbidden_by_capture()
{
    bool forbidden = false;
    for (emulated_stream *s : R.streams)
        if (s->capture && s->mode != cudaStreamCaptureModeRelaxed) {
            s->capture_invalid = true;
            forbidden = true;
        }
    return forbidden;
}

unsigned char *map_block(std::map<uintptr_t, block> &blocks, size_t bytes)
{
    size_t rounded = (bytes + 255) / 256 * 256;
    size_t body = (rounded + page - 1) / page * page;
    unsigned char *mapping = (unsigned char *)mmap(NULL, body + 2 * page, PROT_READ | PROT_WRITE,
                                                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping == MAP_FAILED)
        return NULL;
    mprotect(mapping, page, PROT_NONE);
    mprotect(mapping + page + body, page, PROT_NONE);
    memset(mapping + page, guard, body);
    unsigned char *p = mapping + page + body - rounded;
    blocks[(uintptr_t)p] = block{bytes, mapping, body + 2 * page, current};
    return p;
}

void check_guards(const void *p, const block &b)
{
    const unsigned char *begin = (const unsigned char *)p, *c = b.mapping + page;
    for (; c < begin; c++)
        if (*c != guard)
            return emulated_fail("device memory of %zu bytes: written %zu bytes before its begin", b.bytes,
                                 (size_t)(begin - c));
    for (c = begin + b.bytes; c < b.mapping + b.mapped - page; c++)
        if (*c != guard)
            return emulated_fail("device memory of %zu bytes: written at byte %zu, behind its end", b.bytes,
                                 (size_t)(c - begin));
}

runtime::runtime()
{
    if (const char *value = getenv("CUDA_EMULATION_CAPABILITY"))
        capability = atoi(value);
    const char *device = getenv("CUDA_EMULATION_DEVICE"), *memory = getenv("CUDA_EMULATION_MEMORY");
    if (const char *value = getenv("CUDA_EMULATION_DEVICES"))
        devices = std::min(atoi(value), most_devices);
    const std::string what = device ? device : "";
    if (what == "none") {
        start = cudaErrorNoDevice;
    } else if (what == "no-driver") {
        start = cudaErrorInsufficientDriver;
        driver = 0;
    } else if (what == "old-driver") {
        start = cudaErrorInsufficientDriver;
        driver = 11040;
    } else if (what == "turing") {
        capability = 75;
    }
    if (memory)
        total = (size_t)strtoull(memory, NULL, 10) << 10;
}

runtime::~runtime()
{
    bool leaked = !device.empty() || !pinned.empty() || !streams.empty() || events || graphs;
    if (!leaked || expected)
        return;
    for (auto &d : device)
        fprintf(stderr, "cuda emulation: leaked %zu bytes of device memory\n", d.second.bytes);
    for (auto &d : pinned)
        fprintf(stderr, "cuda emulation: leaked %zu bytes of pinned memory\n", d.second.bytes);
    fprintf(stderr, "cuda emulation: leaked %zu streams, %d events, %d graphs\n", streams.size(), events, graphs);
    fflush(NULL);
    _exit(1);
}
} // namespace

void emulated_fail(const char *format, ...)
{
    char message[1000];
    va_list list;
    va_start(list, format);
    vsnprintf(message, sizeof message, format, list);
    va_end(list);
    if (!R.expected) {
        fprintf(stderr, "cuda emulation: %s\n", message);
        fflush(NULL);
        abort();
    }
    if (R.failure.empty())
        R.failure = message;
}
void emulated_issue(cudaStream_t stream, emulated_work work) { issue(stream_of(stream), std::move(work)); }
bool emulated_device_range(const void *p, size_t bytes) { return inside(R.device, p, bytes); }
bool emulated_kernel_range(const void *p, size_t bytes)
{
    return inside(R.device, p, bytes) || inside(R.pinned, p, bytes);
}
int emulated_capability() { return R.capability; }
size_t emulated_shared_limit()
{
    const int c = R.capability;
    return (size_t)(c >= 90 && c < 120 ? 227 : c == 80 || c == 87 ? 163 : 99) << 10;
}

extern "C" {
void cuda_emulation_set_device(int multiprocessors, size_t memory_bytes, int capability)
{
    if (multiprocessors)
        R.multiprocessors = multiprocessors;
    if (memory_bytes)
        R.total = memory_bytes;
    if (capability)
        R.capability = capability;
}
uint64_t cuda_emulation_launches(void) { return R.launches; }
size_t cuda_emulation_allocated(void) { return R.used[0] + R.used[1]; }
void cuda_emulation_set_devices(int devices) { R.devices = devices; }
void cuda_emulation_set_current(int device) { current = device; }
int cuda_emulation_current(void) { return current; }
void cuda_emulation_expect_failure(bool expected)
{
    R.expected = expected;
    R.failure.clear();
    R.sticky = R.last = cudaSuccess;
}
const char *cuda_emulation_failure(void) { return R.failure.empty() ? NULL : R.failure.c_str(); }

/* ---- errors ---- */
static const struct {
    cudaError_t error;
    const char *name, *text;
} errors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {cudaErrorStreamCaptureUnjoined, "cudaErrorStreamCaptureUnjoined", "capturing stream has unjoined work"},
};
const char *cudaGetErrorString(cudaError_t error)
{
    for (auto &e : errors)
        if (e.error == error)
            return e.text;
    return "unrecognized error code";
}
const char *cudaGetErrorName(cudaError_t error)
{
    for (auto &e : errors)
        if (e.error == error)
            return e.name;
    return "cudaErrorUnknown";
}
cudaError_t cudaGetLastError(void)
{
    cudaError_t error = R.sticky != cudaSuccess ? R.sticky : R.last;
    R.last = cudaSuccess;
    return error;
}
cudaError_t cudaPeekAtLastError(void) { return R.sticky != cudaSuccess ? R.sticky : R.last; }

/* ---- the device ---- */
cudaError_t cudaGetDeviceCount(int *count)
{
    *count = R.start == cudaSuccess ? R.devices : 0;
    return note(R.start);
}
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *prop, int device)
{
    if (device < 0 || device >= R.devices)
        return note(cudaErrorInvalidDevice);
    memset(prop, 0, sizeof *prop);
    snprintf(prop->name, sizeof prop->name, "CPU emulation");
    prop->totalGlobalMem = R.total;
    prop->sharedMemPerBlock = 48 << 10;
    prop->sharedMemPerBlockOptin = emulated_shared_limit();
    prop->sharedMemPerMultiprocessor = emulated_shared_limit() + 1024;
    prop->reservedSharedMemPerBlock = 1024;
    prop->regsPerBlock = 65536;
    prop->warpSize = 32;
    prop->maxThreadsPerBlock = 1024;
    prop->maxThreadsPerMultiProcessor = 2048;
    prop->major = R.capability / 10;
    prop->minor = R.capability % 10;
    prop->multiProcessorCount = R.multiprocessors;
    prop->l2CacheSize = 50 << 20;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attr, int device)
{
    if (device < 0 || device >= R.devices)
        return note(cudaErrorInvalidDevice);
    switch (attr) {
    case cudaDevAttrMaxThreadsPerBlock: *value = 1024; break;
    case cudaDevAttrMultiProcessorCount: *value = R.multiprocessors; break;
    case cudaDevAttrComputeCapabilityMajor: *value = R.capability / 10; break;
    case cudaDevAttrComputeCapabilityMinor: *value = R.capability % 10; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = (int)emulated_shared_limit(); break;
    default: return note(cudaErrorInvalidValue);
    }
    return cudaSuccess;
}
/* Of each process another one, but where CUDA_EMULATION_BUS says which. */
cudaError_t cudaDeviceGetPCIBusId(char *id, int length, int device)
{
    const char *bus = getenv("CUDA_EMULATION_BUS");
    if (device < 0 || device >= R.devices)
        return note(cudaErrorInvalidDevice);
    if (bus)
        snprintf(id, (size_t)length, "%s", bus);
    else
        snprintf(id, (size_t)length, "%08x:%02x:00.0", (unsigned)getpid(), device);
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int device)
{
    if (device < 0 || device >= R.devices)
        return note(cudaErrorInvalidDevice);
    current = device;
    return cudaSuccess;
}
cudaError_t cudaGetDevice(int *device)
{
    *device = current;
    return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int *version)
{
    *version = R.driver;
    return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}
cudaError_t cudaDeviceReset(void) { return cudaSuccess; }

static cudaError_t settled() { return R.sticky != cudaSuccess ? note(R.sticky) : cudaSuccess; }
cudaError_t cudaDeviceSynchronize(void)
{
    if (forbidden_by_capture())
        return note(cudaErrorStreamCaptureUnsupported);
    drain_all();
    return settled();
}

/* ---- memory ---- */
cudaError_t cudaMalloc(void **memory, size_t bytes)
{
    *memory = NULL;
    if (forbidden_by_capture())
        return note(cudaErrorStreamCaptureUnsupported);
    if (bytes == 0)
        return cudaSuccess;
    if (bytes > R.total - R.used[current])
        return note(cudaErrorMemoryAllocation);
    *memory = map_block(R.device, bytes);
    if (!*memory)
        return note(cudaErrorMemoryAllocation);
    R.used[current] += bytes;
    return cudaSuccess;
}
cudaError_t cudaFree(void *memory)
{
    if (!memory)
        return cudaSuccess;
    if (forbidden_by_capture())
        return note(cudaErrorStreamCaptureUnsupported);
    drain_all();
    auto at = R.device.find((uintptr_t)memory);
    if (at == R.device.end()) {
        emulated_fail("cudaFree of %p, which cudaMalloc did not give", memory);
        return note(cudaErrorInvalidValue);
    }
    if (!is_current("freeing memory", at->second.device))
        return note(cudaErrorInvalidValue);
    check_guards(memory, at->second);
    R.used[current] -= at->second.bytes;
    munmap(at->second.mapping, at->second.mapped);
    R.device.erase(at);
    return settled();
}
cudaError_t cudaMallocHost(void **memory, size_t bytes)
{
    *memory = NULL;
    if (forbidden_by_capture())
        return note(cudaErrorStreamCaptureUnsupported);
    if (bytes)
        *memory = map_block(R.pinned, bytes);
    return bytes && !*memory ? note(cudaErrorMemoryAllocation) : cudaSuccess;
}
cudaError_t cudaHostAlloc(void **memory, size_t bytes, unsigned int) { return cudaMallocHost(memory, bytes); }
cudaError_t cudaFreeHost(void *memory)
{
    if (!memory)
        return cudaSuccess;
    if (forbidden_by_capture())
        return note(cudaErrorStreamCaptureUnsupported);
    drain_all();
    auto at = R.pinned.find((uintptr_t)memory);
    if (at == R.pinned.end()) {
        emulated_fail("cudaFreeHost of %p, which cudaMallocHost did not give", memory);
        return note(cudaErrorInvalidValue);
    }
    check_guards(memory, at->second);
    munmap(at->second.mapping, at->second.mapped);
    R.pinned.erase(at);
    return settled();
}
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    *free_bytes = R.total - R.used[current];
    *total_bytes = R.total;
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream_)
{
    emulated_stream *stream = stream_of(stream_);
    if (bytes == 0)
        return cudaSuccess;
    bool to_device = find(R.device, to) != NULL, from_device = find(R.device, from) != NULL;
    if (kind == cudaMemcpyDefault)
        kind = to_device     ? from_device ? cudaMemcpyDeviceToDevice : cudaMemcpyHostToDevice
               : from_device ? cudaMemcpyDeviceToHost
                             : cudaMemcpyHostToHost;
    bool want_to = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    bool want_from = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (want_to != to_device || want_from != from_device || (to_device && !inside(R.device, to, bytes)) ||
        (from_device && !inside(R.device, from, bytes))) {
        emulated_fail("a copy of %zu bytes (kind %d) from %s to %s memory, or outside an allocation", bytes, (int)kind,
                      from_device ? "device" : "host", to_device ? "device" : "host");
        return note(cudaErrorInvalidValue);
    }
    if (!stream->capture && !from_device && !find(R.pinned, from)) {
        auto snapshot = std::make_shared<std::vector<unsigned char>>((const unsigned char *)from,
                                                                     (const unsigned char *)from + bytes);
        issue(stream, [to, snapshot]() {
            memcpy(to, snapshot->data(), snapshot->size());
            return true;
        });
    } else {
        issue(stream, [to, from, bytes]() {
            memmove(to, from, bytes);
            return true;
        });
    }
    if (!stream->capture && !to_device && !find(R.pinned, to))
        drain(stream);
    return settled();
}
cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind)
{
    if (forbidden_by_capture())
        return note(cudaErrorStreamCaptureUnsupported);
    cudaError_t error = cudaMemcpyAsync(to, from, bytes, kind, NULL);
    drain(&default_stream);
    return error != cudaSuccess ? error : settled();
}
cudaError_t cudaMemsetAsync(void *memory, int value, size_t bytes, cudaStream_t stream)
{
    if (bytes == 0)
        return cudaSuccess;
    if (!inside(R.device, memory, bytes) && !inside(R.pinned, memory, bytes)) {
        emulated_fail("a memset of %zu bytes outside an allocation", bytes);
        return note(cudaErrorInvalidValue);
    }
    issue(stream_of(stream), [memory, value, bytes]() {
        memset(memory, value, bytes);
        return true;
    });
    return settled();
}
cudaError_t cudaMemset(void *memory, int value, size_t bytes)
{
    if (forbidden_by_capture())
        return note(cudaErrorStreamCaptureUnsupported);
    return cudaMemsetAsync(memory, value, bytes, NULL);
}

/* ---- streams and events ---- */
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned int)
{
    *stream = new emulated_stream();
    (*stream)->device = current;
    R.streams.push_back(*stream);
    return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t *stream) { return cudaStreamCreateWithFlags(stream, 0); }
cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    for (size_t i = 0; i < R.streams.size(); i++)
        if (R.streams[i] == stream) {
            is_current("the end of a stream", stream->device);
            drain(stream);
            R.streams.erase(R.streams.begin() + (ptrdiff_t)i);
            delete stream;
            return cudaSuccess;
        }
    return note(cudaErrorInvalidResourceHandle);
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream_)
{
    emulated_stream *stream = stream_of(stream_);
    if (stream != &default_stream)
        is_current("waiting for a stream", stream->device);
    if (stream->capture) {
        stream->capture_invalid = true;
        return note(cudaErrorStreamCaptureUnsupported);
    }
    drain(stream);
    return settled();
}
cudaError_t cudaStreamQuery(cudaStream_t stream_)
{
    emulated_stream *stream = stream_of(stream_);
    if (stream->capture)
        return cudaStreamSynchronize(stream);
    for (emulated_stream *other : R.streams) /* what waits for nothing of this stream runs before it */
        drain(other == stream ? &default_stream : other, UINT64_MAX, false);
    drain(stream, UINT64_MAX, false);
    return stream->queue.empty() ? settled() : cudaErrorNotReady;
}
/* Under capture a stream joins the one whose event it waits for, until that one waits for it. What both issue goes to the
 * graph in the order of the calls, one of those that their events allow. */
cudaError_t cudaStreamWaitEvent(cudaStream_t stream_, cudaEvent_t event, unsigned int)
{
    emulated_stream *stream = stream_of(stream_), *other = event->stream;
    if (other && other->capture && other != stream) {
        if (!stream->capture) {
            stream->capture = other->capture;
            stream->capture_origin = other;
            other->capture_branches++;
        } else if (other->capture_origin == stream) {
            other->capture = NULL;
            other->capture_origin = NULL;
            stream->capture_branches--;
        }
        return cudaSuccess;
    }
    if (other && other != stream)
        issue(stream, [other, position = event->position]() {
            if (other != &default_stream && std::find(R.streams.begin(), R.streams.end(), other) == R.streams.end())
                return EMULATED_DONE; /* its end was waited for */
            if (!drain(other, position, false))
                return EMULATED_FAILED;
            return other->taken < position ? EMULATED_LATER : EMULATED_DONE;
        });
    return settled();
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned int)
{
    *event = new emulated_event();
    R.events++;
    return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t *event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    if (event)
        R.events--;
    delete event;
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    event->recorded = true;
    event->stream = stream_of(stream);
    event->position = event->stream->taken + event->stream->queue.size();
    return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    if (forbidden_by_capture())
        return note(cudaErrorStreamCaptureUnsupported);
    if (event->recorded)
        drain(event->stream, event->position);
    return settled();
}
cudaError_t cudaEventQuery(cudaEvent_t event) { return cudaEventSynchronize(event); }
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t, cudaEvent_t)
{
    *ms = 1.0f;
    return settled();
}

/* ---- kernels ---- */
cudaError_t cudaFuncSetAttribute(const void *function, enum cudaFuncAttribute attribute, int value)
{
    if (attribute == cudaFuncAttributeMaxDynamicSharedMemorySize) {
        if (value < 0 || (size_t)value > emulated_shared_limit())
            return note(cudaErrorInvalidValue);
        R.allowed_shared[function] = value;
    }
    return cudaSuccess;
}
} // extern "C"

void emulated_launch(const char *name, const void *function, dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                     void (*invoke)(const void *call), std::shared_ptr<void> call, size_t call_bytes)
{
    R.launches++;
    uint64_t threads = (uint64_t)block.x * block.y * block.z;
    auto allowed = R.allowed_shared.find(function);
    size_t limit = 48 << 10;
    if (allowed != R.allowed_shared.end() && (size_t)allowed->second > limit)
        limit = (size_t)allowed->second;
    const char *wrong = NULL;
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
        wrong = "the grid";
    else if (threads == 0 || threads > 1024 || block.z > 64)
        wrong = "the block";
    else if (shared > limit)
        wrong = "the shared memory (ALLOW_SHARED missing?)";
    if (wrong) {
        emulated_fail("launch of %s<<<(%u, %u, %u), (%u, %u, %u), %zu>>>: %s is not possible", name, grid.x, grid.y,
                      grid.z, block.x, block.y, block.z, shared, wrong);
        note(cudaErrorInvalidConfiguration);
        return;
    }
    if (R.sticky != cudaSuccess)
        return;
    auto kernel = std::make_shared<emulated_kernel>(
        emulated_kernel{name, grid, block, shared, invoke, std::move(call), call_bytes});
    issue(stream_of(stream), [kernel]() { return emulated_run(*kernel); });
}

/* ---- graphs ---- */
extern "C" {
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    if (!stream || stream->capture)
        return note(cudaErrorStreamCaptureUnsupported);
    stream->capture = new emulated_graph();
    stream->capture_invalid = false;
    stream->mode = mode;
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    *graph = NULL;
    if (!stream || !stream->capture)
        return note(cudaErrorStreamCaptureUnmatched);
    emulated_graph *captured = stream->capture;
    stream->capture = NULL;
    if (stream->capture_branches > 0 || stream->capture_origin) {
        delete captured;
        return note(stream->capture_origin ? cudaErrorStreamCaptureUnmatched : cudaErrorStreamCaptureUnjoined);
    }
    if (stream->capture_invalid) {
        delete captured;
        return note(cudaErrorStreamCaptureInvalidated);
    }
    *graph = captured;
    R.graphs++;
    return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status)
{
    emulated_stream *s = stream_of(stream);
    *status = !s->capture          ? cudaStreamCaptureStatusNone
              : s->capture_invalid ? cudaStreamCaptureStatusInvalidated
                                   : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long)
{
    *exec = new emulated_graph_exec{std::make_shared<emulated_graph>(*graph)};
    R.graphs++;
    return cudaSuccess;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    if (stream_of(stream)->capture)
        return note(cudaErrorStreamCaptureUnsupported);
    auto graph = exec->graph;
    issue(stream_of(stream), [graph]() {
        for (const operation &o : graph->operations)
            if (!o())
                return false;
        return true;
    });
    return settled();
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    if (graph)
        R.graphs--;
    delete graph;
    return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    if (exec)
        R.graphs--;
    delete exec;
    return cudaSuccess;
}
} // extern "C"

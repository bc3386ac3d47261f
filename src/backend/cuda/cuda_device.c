/* The device beneath the CUDA backend: which one it is, its stream and memory, and what went wrong. Calls come down to
 * here; nothing here calls up.
 *
 * Owns one stream; everything is issued to it in order, so host code synchronises only where numbers are returned. A
 * failed call or launch is kept (cuda_note) and reported by check, by alloc and by everything after it. Freeing memory
 * forgets the recorded steps, which hold addresses. */
#include "backend/cuda/cuda_internal.h"

#include "base/memory.h"

#include <stdio.h>
#include <string.h>

enum { LEAST_COMPUTE = 80 }; /* bf16 matrix instructions and asynchronous copies */

void cuda_note(struct backend *backend, const char *what, cudaError_t result)
{
    struct cuda_state *s = cuda_state_of(backend);
    if (result == cudaSuccess)
        result = cudaGetLastError();
    else
        (void)cudaGetLastError();
    if (result == cudaSuccess || s->error != cudaSuccess)
        return;
    s->error = result;
    snprintf(s->error_where, sizeof s->error_where, "%s", what);
}

static cohort_status error_of(const struct cuda_state *s, cohort_error *err)
{
    return error_set(err, s->error == cudaErrorMemoryAllocation ? COHORT_ERR_MEMORY : COHORT_ERR_UNSUPPORTED,
                     "%s: CUDA reports '%s' in %s%s", s->name, cudaGetErrorString(s->error), s->error_where,
                     s->error == cudaErrorMemoryAllocation
                         ? "; lower --micro-batch-tokens or --decode-concurrency, or close what "
                           "else uses the GPU (nvidia-smi lists it)"
                         : "");
}

cohort_status cuda_check(struct backend *backend, cohort_error *err)
{
    cuda_make_current(backend);
    cuda_note(backend, "an earlier operation", cudaSuccess);
    const struct cuda_state *s = cuda_state_of(backend);
    return s->error == cudaSuccess ? COHORT_OK : error_of(s, err);
}

/* This takes well under a microsecond if the device is the current one already. It is not done while steps are
 * recorded: the call that records them has done it. */
void cuda_make_current(struct backend *backend)
{
    const struct cuda_state *s = cuda_state_of(backend);
    const cudaError_t result = s->capturing ? cudaSuccess : cudaSetDevice(s->device);
    if (result != cudaSuccess)
        cuda_note(backend, "making the device the current one", result);
}

static void forget_graphs(struct cuda_state *s)
{
    while (s->graphs != NULL) {
        struct cuda_graph *next = s->graphs->next;
        (void)cudaGraphExecDestroy(s->graphs->exec);
        mem_free(s->graphs);
        s->graphs = next;
    }
}

/* ---- Memory ---- */

size_t cuda_available(struct backend *backend)
{
    size_t free_bytes = 0, total = 0;
    cuda_make_current(backend);
    cuda_note(backend, "asking for free memory", cudaMemGetInfo(&free_bytes, &total));
    return free_bytes;
}

cohort_status cuda_alloc(struct backend *backend, void *out, size_t bytes, const char *what, cohort_error *err)
{
    struct cuda_state *s = cuda_state_of(backend);
    void *block = NULL;
    memcpy(out, &block, sizeof block);
    cuda_make_current(backend);
    if (s->error != cudaSuccess)
        return error_of(s, err);
    cudaError_t result = cudaMalloc(&block, bytes > 0 ? bytes : 1);
    if (result == cudaErrorMemoryAllocation) {
        (void)cudaGetLastError();
        return error_set(err, COHORT_ERR_MEMORY,
                         "%s: %.2f GB are wanted, %.2f GB of %s are free; use a smaller batch or "
                         "model, or close what else uses the GPU (nvidia-smi lists it)",
                         what, (double)bytes / 1e9, (double)cuda_available(backend) / 1e9, s->name);
    }
    if (result == cudaSuccess)
        result = cudaMemsetAsync(block, 0, bytes > 0 ? bytes : 1, s->stream);
    cuda_note(backend, what, result);
    if (s->error != cudaSuccess)
        return error_of(s, err);
    memcpy(out, &block, sizeof block);
    return COHORT_OK;
}

void cuda_free(struct backend *backend, void *memory)
{
    struct cuda_state *s = cuda_state_of(backend);
    if (memory == NULL)
        return;
    cuda_make_current(backend);
    if (cuda_free_host(backend, memory))
        return;
    cuda_wait(backend);
    forget_graphs(s);
    cuda_note(backend, "freeing memory", cudaFree(memory));
}

size_t cuda_grown_bytes(size_t bytes)
{
    enum { UNIT = 1 << 20 };
    return (bytes + bytes / 8 + UNIT - 1) / UNIT * UNIT;
}

bool cuda_grow(struct backend *backend, void **memory, size_t *capacity, size_t bytes)
{
    if (bytes <= *capacity)
        return true;
    struct cuda_state *s = cuda_state_of(backend);
    if (s->capturing) {
        cuda_note(backend, "working memory inside a recorded step", cudaErrorMemoryAllocation);
        return false;
    }
    cuda_free(backend, *memory);
    *memory = NULL;
    *capacity = 0;
    const size_t rounded = cuda_grown_bytes(bytes);
    if (cuda_alloc(backend, memory, rounded, "working memory of an operation", NULL) != COHORT_OK) {
        cuda_note(backend, "working memory of an operation", cudaErrorMemoryAllocation);
        return false;
    }
    *capacity = rounded;
    return true;
}

void *cuda_scratch(struct backend *backend, size_t bytes)
{
    struct cuda_state *s = cuda_state_of(backend);
    return cuda_grow(backend, &s->scratch, &s->scratch_bytes, bytes) ? s->scratch : NULL;
}

static void before_wait(struct backend *backend)
{
    if (backend->before_wait != NULL)
        backend->before_wait(backend->before_wait_context);
    cuda_make_current(backend);
}

void cuda_wait(struct backend *backend)
{
    before_wait(backend);
    cuda_note(backend, "waiting for the device", cudaStreamSynchronize(cuda_state_of(backend)->stream));
}

/* What lies in host memory is there once everything that was issued is done. */
static void move_on_host(struct backend *backend, void *to, const void *from, size_t bytes)
{
    cuda_host_flush(backend);
    cuda_wait(backend);
    memcpy(to, from, bytes);
}

/* The source is pageable memory: the driver has copied the bytes when it returns. */
void cuda_upload(struct backend *backend, void *to, const void *from, size_t bytes)
{
    before_wait(backend);
    if (bytes > 0 && cuda_on_host(backend, to))
        move_on_host(backend, to, from, bytes);
    else if (bytes > 0)
        cuda_note(backend, "upload",
                  cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, cuda_state_of(backend)->stream));
}

void cuda_download(struct backend *backend, void *to, const void *from, size_t bytes)
{
    struct cuda_state *s = cuda_state_of(backend);
    before_wait(backend);
    memset(to, 0, bytes); /* in case the copy fails */
    if (bytes == 0 || s->error != cudaSuccess)
        return;
    if (cuda_on_host(backend, from)) {
        move_on_host(backend, to, from, bytes);
        return;
    }
    cuda_note(backend, "download", cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, s->stream));
    cuda_wait(backend);
}

void cuda_wait_all(struct backend *backend)
{
    cuda_make_current(backend);
    cuda_host_flush(backend);
    cuda_wait(backend);
}

/* On a stream of its own, which waits for no kernel. Errors are told to the caller alone: the backend's are the other
 * thread's. */
cohort_status cuda_download_beside(struct backend *backend, void *to, const void *from, size_t bytes, cohort_error *err)
{
    struct cuda_state *s = cuda_state_of(backend);
    cudaError_t result = cudaSuccess;
    cuda_make_current(backend);
    if (bytes > 0 && cuda_on_host(backend, from)) {
        memcpy(to, from, bytes);
        return COHORT_OK;
    }
    if (s->beside == NULL)
        result = cudaStreamCreateWithFlags(&s->beside, cudaStreamNonBlocking);
    if (result == cudaSuccess && bytes > 0)
        result = cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, s->beside);
    if (result == cudaSuccess)
        result = cudaStreamSynchronize(s->beside);
    if (result == cudaSuccess)
        return COHORT_OK;
    (void)cudaGetLastError();
    return error_set(err, COHORT_ERR_UNSUPPORTED, "%s: a copy to the host failed: %s", s->name,
                     cudaGetErrorString(result));
}

void cuda_zero(struct backend *backend, void *memory, size_t bytes)
{
    cuda_make_current(backend);
    if (cuda_on_host(backend, memory))
        cuda_host_flush(backend);
    if (bytes > 0)
        cuda_note(backend, "zero", cudaMemsetAsync(memory, 0, bytes, cuda_state_of(backend)->stream));
}

void cuda_copy(struct backend *backend, void *to, const void *from, size_t bytes)
{
    cuda_make_current(backend);
    const bool to_host = cuda_on_host(backend, to), from_host = cuda_on_host(backend, from);
    if (to_host || from_host)
        cuda_host_flush(backend);
    if (bytes > 0 && to_host && from_host)
        move_on_host(backend, to, from, bytes);
    else if (bytes > 0)
        cuda_note(backend, "copy",
                  cudaMemcpyAsync(to, from, bytes,
                                  to_host     ? cudaMemcpyDeviceToHost
                                  : from_host ? cudaMemcpyHostToDevice
                                              : cudaMemcpyDeviceToDevice,
                                  cuda_state_of(backend)->stream));
}

/* ---- Opening ---- */

/* The number of devices, or why there is none. */
static cohort_status count_devices(int *count, cohort_error *err)
{
    int driver = 0, runtime = 0;
    cudaError_t result = cudaGetDeviceCount(count);
    (void)cudaGetLastError();
    (void)cudaDriverGetVersion(&driver);
    (void)cudaRuntimeGetVersion(&runtime);
    if (result == cudaErrorInsufficientDriver && driver > 0)
        return error_set(err, COHORT_ERR_UNSUPPORTED,
                         "the NVIDIA driver is too old: it supports CUDA %d.%d, this cohort needs "
                         "%d.%d; update the driver, build with an older CUDA, or use --device cpu",
                         driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
    if (driver == 0)
        return error_set(err, COHORT_ERR_UNSUPPORTED,
                         "no NVIDIA driver was found (nvidia-smi should list a GPU); install one, "
                         "or use --device cpu");
    if (result == cudaErrorNoDevice || (result == cudaSuccess && *count == 0))
        return error_set(err, COHORT_ERR_UNSUPPORTED,
                         "no NVIDIA GPU was found (nvidia-smi should list one; CUDA_VISIBLE_DEVICES "
                         "may hide it); use --device cpu");
    if (result != cudaSuccess)
        return error_set(err, COHORT_ERR_UNSUPPORTED,
                         "CUDA does not start: %s; try nvidia-smi, or "
                         "use --device cpu",
                         cudaGetErrorString(result));
    return COHORT_OK;
}

/* Reads everything about the device on which the backend bases decisions. */
static void set_limits(struct cuda_state *s, const struct cudaDeviceProp *properties)
{
    s->compute = properties->major * 10 + properties->minor;
    s->multiprocessors = properties->multiProcessorCount;
    s->shared_per_block = properties->sharedMemPerBlockOptin;
    snprintf(s->name, sizeof s->name, "GPU %d (%s)", s->device, properties->name);
#ifdef COHORT_CUDA_AS /* a build for checks (cmake/cuda.cmake) */
    if (s->compute > COHORT_CUDA_AS) {
        s->compute = COHORT_CUDA_AS;
        s->shared_per_block = cuda_shared_of(COHORT_CUDA_AS);
        snprintf(s->name, sizeof s->name, "GPU %d (%s) as compute capability %d.%d", s->device, properties->name,
                 COHORT_CUDA_AS / 10, COHORT_CUDA_AS % 10);
    }
#endif
}

cohort_status cuda_device_open(struct backend *backend, int device, cohort_error *err)
{
    struct cuda_state *s = cuda_state_of(backend);
    struct cudaDeviceProp properties;
    int count = 0;
    TRY(count_devices(&count, err));
    if (device < 0 || device >= count)
        return error_set(err, COHORT_ERR_ARGUMENT, "there is no GPU %d: this machine has %d, numbered from 0", device,
                         count);
    cudaError_t result = cudaSetDevice(device);
    if (result == cudaSuccess)
        result = cudaGetDeviceProperties(&properties, device);
    if (result != cudaSuccess)
        return error_set(err, COHORT_ERR_UNSUPPORTED, "GPU %d does not answer: %s", device, cudaGetErrorString(result));
    s->device = backend->gpu = device;
    set_limits(s, &properties);
    if (s->compute < LEAST_COMPUTE)
        return error_set(err, COHORT_ERR_UNSUPPORTED,
                         "%s has compute capability %d.%d, cohort needs 8.0 (A100) or newer; use "
                         "--device cpu",
                         s->name, properties.major, properties.minor);
    result = cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking);
    if (result != cudaSuccess)
        return error_set(err, COHORT_ERR_UNSUPPORTED, "%s: no stream can be made: %s", s->name,
                         cudaGetErrorString(result));
    backend->stream = s->stream;
    return COHORT_OK;
}

void cuda_device_close(struct backend *backend)
{
    struct cuda_state *s = cuda_state_of(backend);
    cuda_free(backend, s->scratch);
    forget_graphs(s);
    cuda_host_close(backend);
    if (s->beside != NULL)
        (void)cudaStreamDestroy(s->beside);
    (void)cudaStreamDestroy(s->stream);
}

bool backend_cuda_present(void)
{
    int count = 0, major = 0, minor = 0;
    if (count_devices(&count, NULL) != COHORT_OK)
        return false;
    cudaError_t result = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0);
    if (result == cudaSuccess)
        result = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0);
    (void)cudaGetLastError();
    return result == cudaSuccess && major * 10 + minor >= LEAST_COMPUTE;
}

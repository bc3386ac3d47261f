/* What the two halves of the emulation share: running kernels (cuda_emulation.cpp) and the runtime's memory, streams
 * and graphs (emulated_runtime.cpp). */
#ifndef COHORT_TESTS_EMULATION_STATE_H
#define COHORT_TESTS_EMULATION_STATE_H

#include <functional>

#include "cuda_emulation.h"

struct emulated_kernel {
    const char *name;
    dim3 grid, block;
    size_t shared;
    void (*invoke)(const void *call);
    std::shared_ptr<void> call;
    size_t call_bytes;
};

/* Where the running kernel is: for the check of races. */
struct emulated_progress {
    const emulated_kernel *kernel; /* NULL: none runs */
    uint64_t serial;               /* of the block, over all launches */
    uint64_t launch;
    int thread;
    uint32_t barriers;       /* passed by the block */
    uint32_t warp_syncs[32]; /* __syncwarp of all lanes, passed by each warp */
};
extern emulated_progress emulated_now;
/* If set: called for what the emulation itself reads and writes for a thread. */
extern void (*emulated_on_access)(const void *p, size_t bytes, bool write);
/* If set: called at a thread's __threadfence (or, atomic, at its atomic operation). */
extern void (*emulated_on_fence)(bool atomic);
/* Memory a kernel may touch besides device memory: shared memory and stacks of threads. */
bool emulated_in_dynamic_shared(const void *p);
bool emulated_in_stack(const void *p);
bool emulated_is_argument(const void *p, size_t bytes);

/* Runs all blocks. False: the kernel failed (and failures are expected). */
bool emulated_run(const emulated_kernel &kernel);

/* Puts work into a stream's queue (or the graph that is captured). It says how it went (true: it is done). */
enum { EMULATED_FAILED, EMULATED_DONE, EMULATED_LATER /* it waits for something, and is asked again */ };
using emulated_work = std::function<int()>;
void emulated_issue(cudaStream_t stream, emulated_work work);

/* Keeps the message if failures are expected, else prints it and ends the process. */
void emulated_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Whether [p, p + bytes) lies in one live allocation of device memory. */
bool emulated_device_range(const void *p, size_t bytes);
/* Device memory, or pinned memory of the host, which kernels may use too. */
bool emulated_kernel_range(const void *p, size_t bytes);

/* Capability 80 or 90, and what a block of it may have. */
int emulated_capability();
size_t emulated_shared_limit();

#endif

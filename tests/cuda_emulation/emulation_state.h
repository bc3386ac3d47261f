/* What the two halves of the emulation share: running kernels (cuda_emulation.cpp) and the
 * runtime's memory, streams and graphs (emulated_runtime.cpp). */
#ifndef COHORT_TESTS_EMULATION_STATE_H
#define COHORT_TESTS_EMULATION_STATE_H

#include "cuda_emulation.h"

struct emulated_kernel {
    const char *name;
    dim3 grid, block;
    size_t shared;
    std::function<void()> body;
};

/* Runs all blocks. False: the kernel failed (and failures are expected). */
bool emulated_run(const emulated_kernel &kernel);

/* Puts work into a stream's queue (or the graph that is captured). It returns false if it failed.
 */
void emulated_issue(cudaStream_t stream, std::function<bool()> work);

/* Keeps the message if failures are expected, else prints it and ends the process. */
void emulated_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Whether [p, p + bytes) lies in one live allocation of device memory. */
bool emulated_device_range(const void *p, size_t bytes);

/* Capability 80 or 90, and what a block of it may have. */
int emulated_capability();
size_t emulated_shared_limit();

#endif

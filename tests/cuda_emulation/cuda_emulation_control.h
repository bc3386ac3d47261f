/* What tests can ask of the emulation (C and C++). */
#ifndef COHORT_TESTS_CUDA_EMULATION_CONTROL_H
#define COHORT_TESTS_CUDA_EMULATION_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The order in which blocks, warps and lanes that could all run are run. A kernel whose result depends on it lacks a
 * barrier. Also from the environment: CUDA_EMULATION_ORDER=ascending, descending, shuffled or shuffled:SEED. */
enum cuda_emulation_order {
    CUDA_EMULATION_ASCENDING,
    CUDA_EMULATION_DESCENDING,
    CUDA_EMULATION_SHUFFLED,
};
void cuda_emulation_set_order(enum cuda_emulation_order order, uint64_t seed);

/* The device that cudaGetDeviceProperties tells of. Zeros keep what is: 6 multiprocessors, 1 GiB, capability 9.0 with
 * 227 KiB of shared memory for a block. Memory only while nothing is allocated. Capability 80 has 163 KiB; 86, 89 and
 * 120 have 99. From the environment: CUDA_EMULATION_MEMORY=KIBIBYTES, CUDA_EMULATION_CAPABILITY=80, and
 * CUDA_EMULATION_DEVICE=none, no-driver, old-driver (CUDA 11.4) or turing (capability 7.5). */
void cuda_emulation_set_device(int multiprocessors, size_t memory_bytes, int capability);

/* How many devices there are, all alike: 1, or 2. What belongs to a device is used only while it is the current one of the
 * calling thread, else that is a failure. A thread begins with the first. */
void cuda_emulation_set_devices(int devices);
void cuda_emulation_set_current(int device);
int cuda_emulation_current(void);

/* Kernels launched and bytes allocated so far. */
uint64_t cuda_emulation_launches(void);
size_t cuda_emulation_allocated(void);

/* What is undefined on a GPU (a barrier not reached by all, memory written behind its end, ...) ends the process with a
 * message. While expected, the message is kept instead and the call or the next synchronisation returns an error. */
void cuda_emulation_expect_failure(bool expected);
/* The first message since then, or NULL. */
const char *cuda_emulation_failure(void);

/* With COHORT_RACECHECK: races and stray accesses found since the last call, which are then not told at the end. */
int cuda_emulation_races(void);

#ifdef __cplusplus
}
#endif

#endif

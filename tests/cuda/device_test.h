/* Shared by tests of draws on the CUDA backend: the backend, memory on it, numbers. */
#ifndef COHORT_TESTS_CUDA_DEVICE_TEST_H
#define COHORT_TESTS_CUDA_DEVICE_TEST_H

#include "backend/cpu/cpu_kernels.h"
#include "support/numbers.h"

#include <stdio.h>

#if defined(COHORT_CUDA_EMULATED)
#include "cuda_emulation_control.h"
#endif

static struct backend *device;
static struct backend *cpu;
static bool small_run; /* --small: the emulation is slow */
static bool brief_run; /* --brief: for compute-sanitizer, smaller still */

static inline int device_setup(void **state)
{
    cohort_error err = {0};
    (void)state;
#if defined(COHORT_CUDA_EMULATED)
    cuda_emulation_set_order(CUDA_EMULATION_SHUFFLED, 5); /* barriers that lack show */
#endif
    if (backend_cuda_create(&device, 0, &err) != COHORT_OK ||
        backend_cpu_create(&cpu, CPU_ISA_PORTABLE, 1, &err) != COHORT_OK) {
        fprintf(stderr, "%s\n", err.message);
        return -1;
    }
    return 0;
}

static inline int device_teardown(void **state)
{
    (void)state;
    backend_destroy(device);
    backend_destroy(cpu);
    return 0;
}

static inline void device_must_be_well(void)
{
    cohort_error err = {0};
    device->ops->wait(device);
    if (device->ops->check(device, &err) != COHORT_OK)
        fail_msg("%s", err.message);
}

/* Memory on the device with a copy of from (NULL: zeros). */
static inline void *device_copy(const void *from, size_t bytes)
{
    cohort_error err = {0};
    void *p = NULL;
    if (device->ops->alloc(device, &p, bytes, "a test's tensor", &err) != COHORT_OK)
        fail_msg("%s", err.message);
    if (from != NULL)
        device->ops->upload(device, p, from, bytes);
    return p;
}

/* bytes from the device to to, then frees them there. */
static inline void device_take(void *to, void *from, size_t bytes)
{
    device->ops->download(device, to, from, bytes);
    device->ops->free(device, from);
}

static inline void device_test_arguments(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        brief_run = brief_run || strcmp(argv[i], "--brief") == 0;
        small_run = small_run || brief_run || strcmp(argv[i], "--small") == 0;
    }
}

#endif

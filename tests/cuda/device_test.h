/* Shared by the tests of what only the CUDA backend has: the backend, memory on it, numbers. */
#ifndef COHORT_TESTS_CUDA_DEVICE_TEST_H
#define COHORT_TESTS_CUDA_DEVICE_TEST_H

#include "support/numbers.h"
#include "support/test_backend.h"

#include <stdio.h>

#if defined(COHORT_CUDA_EMULATED)
#include "cuda_emulation_control.h"
#endif

static struct backend *device;

static inline int device_setup(void **state)
{
    (void)state;
#if defined(COHORT_CUDA_EMULATED)
    cuda_emulation_set_order(CUDA_EMULATION_SHUFFLED, 5); /* barriers that lack show */
#endif
    device = backend_here("cuda", 0);
    return 0;
}

static inline int device_teardown(void **state)
{
    (void)state;
    backend_destroy(device);
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

#endif

/* Backends for tests that call kernels of one instruction set themselves: with real threads, one pool for each number
 * of them in a test program. */
#ifndef COHORT_TESTS_SUPPORT_THREADS_H
#define COHORT_TESTS_SUPPORT_THREADS_H

#include "backend/backend.h"

#include <stdio.h>
#include <stdlib.h>

enum { TEST_MAX_THREADS = 16 };
static struct backend *test_pools[TEST_MAX_THREADS + 1];

static inline void test_pools_close(void)
{
    for (int i = 0; i <= TEST_MAX_THREADS; i++)
        backend_destroy(test_pools[i]);
}

/* Everything is shared out, however small (alone_ns is 0). Valid until the program ends. */
static inline struct backend backend_with(int threads)
{
    cohort_error err = {0};
    static bool registered;
    if (!registered)
        registered = atexit(test_pools_close) == 0;
    if (threads < 1 || threads > TEST_MAX_THREADS ||
        (test_pools[threads] == NULL &&
         backend_cpu_create(&test_pools[threads], CPU_ISA_PORTABLE, threads, &err) != COHORT_OK)) {
        fprintf(stderr, "%d threads: %s\n", threads, err.message);
        exit(2);
    }
    struct backend backend = *test_pools[threads];
    backend.alone_ns = 0.0;
    return backend;
}

#endif

/* Where a test runs. One source serves all backends: without arguments it runs on the CPU, on every instruction set of
 * this machine; with --device cuda on GPU 0. Results are read through the backend's own download.
 *
 * --small: fewer and smaller cases, for an emulated device; --brief: smaller still, for a memory checker.
 * --expect-difference, --bench: of the tests that have them, the negative control and times instead of tests. */
#ifndef COHORT_TESTS_SUPPORT_TEST_BACKEND_H
#define COHORT_TESTS_SUPPORT_TEST_BACKEND_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "backend/backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
    bool cuda, small, brief, expect_difference, bench;
} test_options;

/* Reads the arguments of the program; one that is not known ends it. */
static inline void test_arguments(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--small") == 0)
            test_options.small = true;
        else if (strcmp(argv[i], "--brief") == 0)
            test_options.small = test_options.brief = true;
        else if (strcmp(argv[i], "--expect-difference") == 0)
            test_options.expect_difference = true;
        else if (strcmp(argv[i], "--bench") == 0)
            test_options.bench = true;
        else if (strcmp(argv[i], "--device") == 0 && i + 1 < argc &&
                 (strcmp(argv[i + 1], "cpu") == 0 || strcmp(argv[i + 1], "cuda") == 0))
            test_options.cuda = strcmp(argv[++i], "cuda") == 0;
        else {
            fprintf(stderr,
                    "%s: argument %s is not understood; known are --device cpu|cuda, --small, "
                    "--brief, --expect-difference and --bench\n",
                    argv[0], argv[i]);
            exit(2);
        }
    }
}

/* Number i of the providers to run on: of the list cpu, or "cuda" alone. NULL behind the last. */
static inline const char *test_provider(const char *const *cpu, size_t n_cpu, size_t i)
{
    if (test_options.cuda)
        return i == 0 ? "cuda" : NULL;
    return i < n_cpu ? cpu[i] : NULL;
}

/* The instruction set that the option isa calls so. */
static inline enum cpu_isa test_isa(const char *word)
{
#define WORD_OF(id, word, ...) word,
    static const char *const words[] = {"auto", CPU_ISA_LIST(WORD_OF)};
#undef WORD_OF
    for (int i = 0; i < N_CPU_ISAS; i++)
        if (strcmp(words[i], word) == 0)
            return (enum cpu_isa)i;
    fail_msg("%s is no instruction set", word);
    return CPU_ISA_AUTO;
}

/* NULL where the machine lacks the instruction set. A GPU that is not there is a failure: it was asked for. */
static inline struct backend *backend_here(const char *provider, int threads)
{
    struct backend *backend = NULL;
    cohort_error err = {0};
    if (strcmp(provider, "cuda") == 0) {
        if (backend_cuda_create(&backend, 0, &err) != COHORT_OK)
            fail_msg("%s", err.message);
        return backend;
    }
    if (backend_cpu_create(&backend, test_isa(provider), threads, &err) == COHORT_OK)
        return backend;
    if (strcmp(provider, "portable") == 0 || strcmp(provider, "auto") == 0)
        fail_msg("%s", err.message);
    return NULL;
}

/* A host copy of bytes of backend memory, for free. What an operation noted as wrong fails here. */
static inline void *fetched(struct backend *backend, const void *memory, size_t bytes)
{
    cohort_error err = {0};
    void *copy = malloc(bytes > 0 ? bytes : 1);
    assert_non_null(copy);
    backend->ops->download(backend, copy, memory, bytes);
    if (backend->ops->check(backend, &err) != COHORT_OK)
        fail_msg("%s", err.message);
    return copy;
}

/* What a test measured, on a line of its own: scripts/gpu-check shows the last. */
#define test_figure(...)                                                                                               \
    do {                                                                                                               \
        printf("figure: " __VA_ARGS__);                                                                                \
        printf("\n");                                                                                                  \
        fflush(stdout);                                                                                                \
    } while (0)

#endif

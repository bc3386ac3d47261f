/* A small deterministic fuzzing driver, so that CTest runs every fuzz target without libFuzzer.
 *
 * A target is tests/fuzz/test_fuzz_NAME.c: it defines LLVMFuzzerTestOneInput and
 *
 *     #ifndef COHORT_LIBFUZZER
 *     int main(int argc, char **argv)
 *     {
 *         return fuzz_run(&target, argc, argv);
 *     }
 *     #endif
 *
 * Built with -DCOHORT_LIBFUZZER and clang's -fsanitize=fuzzer the same file is a libFuzzer target.
 */
#ifndef COHORT_TESTS_SUPPORT_FUZZ_H
#define COHORT_TESTS_SUPPORT_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* libFuzzer's entry: takes any bytes, must return 0 and keep no state that changes the next call. A
 * broken property is abort(), a memory error is the sanitizer's to find. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The bytes as a file, for readers that want a path: its descriptor, which the caller closes. */
enum { FUZZ_PATH = 64 };
static inline int fuzz_file(const uint8_t *data, size_t size, char path[FUZZ_PATH])
{
    const int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    snprintf(path, FUZZ_PATH, "/proc/self/fd/%d", fd);
    return fd;
}

struct fuzz_seed {
    const void *data;
    size_t size;
};

struct fuzz_target {
    const char *name; /* for messages and for the file that keeps a failing input */
    int (*one)(const uint8_t *data, size_t size);
    bool (*accepted)(const uint8_t *data, size_t size); /* must hold for seeds: of one that is refused, most of the
                                                           reader would stay untouched. NULL: not asked */
    const struct fuzz_seed *seeds; /* run unchanged first, then mutated and spliced; at least one */
    size_t n_seeds;
    const char *const *words; /* what mutations insert, for example keys of the format; may be NULL */
    size_t n_words;
    size_t max_size; /* of a mutated input in bytes; 0: 4096 */
    double seconds;  /* of processor time without --seconds; 0: 2 */
};

/* Without arguments: the seeds, then mutations of them for 2 seconds of processor time (or the target's). The n-th mutation is a
 * function of (seed, n). Arguments: --seconds N (of processor time), --seed S, or files to run once each (to reproduce
 * a failure). An input that kills the process is left in the temporary folder as
 * cohort-fuzz-NAME-PID; the path is printed at start. Returns the exit status of main. */
int fuzz_run(const struct fuzz_target *target, int argc, char **argv);
/* A file of tests/fixtures, whose bytes stay for the life of the process. Where it cannot be read that ends with status 1. */
struct fuzz_seed fuzz_fixture(const char *name);
/* The same with texts as seeds, in place of the target's. */
int fuzz_run_texts(const struct fuzz_target *target, const char *const *texts, size_t n_texts, int argc, char **argv);

#endif

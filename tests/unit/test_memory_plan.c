/* cohort info --memory, with every single allocation failing once: the plan is printed whole and right, or the command
 * fails. A failed allocation of the planning itself is not a plan that does not fit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "cohort.h"
#include "support/sanitized.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The library allocates by mem_alloc, that by aligned_alloc: ours comes before the C library's, and fails when it is
 * told to. */
static long failing = -1; /* the allocation that fails, counted down; -1: none */

#if !SANITIZED && defined(__GLIBC__)
#define CAN_FAIL 1
extern void *__libc_memalign(size_t, size_t);

__attribute__((visibility("default"))) void *aligned_alloc(size_t alignment, size_t size)
{
    if (failing >= 0 && failing-- == 0)
        return NULL;
    return __libc_memalign(alignment, size);
}
#else
#define CAN_FAIL 0
#endif

struct printed {
    char text[8192];
    size_t length;
};

static void keep(void *context, const char *text, size_t length)
{
    struct printed *p = context;
    if (length > sizeof p->text - 1 - p->length)
        length = sizeof p->text - 1 - p->length;
    memcpy(p->text + p->length, text, length);
    p->length += length;
    p->text[p->length] = '\0';
}

/* fail: the allocation that fails; *reached: whether there were so many. */
static cohort_status info(struct printed *printed, long fail, bool *reached, cohort_error *err)
{
    cohort_options *options = NULL;
    cohort_observer observer;
    const char *const values[][2] = {{"memory", "true"},  {"preset", "nano"}, {"device", "cpu"},
                                     {"isa", "portable"}, {"threads", "1"},   {"memory_limit", "10"}};
    cohort_observer_init(&observer);
    observer.context = printed;
    observer.output = keep;
    printed->length = 0;
    printed->text[0] = '\0';
    assert_int_equal(cohort_options_create(&options, COHORT_INFO, err), COHORT_OK);
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
        assert_int_equal(cohort_options_set(options, values[i][0], values[i][1], NULL, err), COHORT_OK);
    failing = fail;
    const cohort_status status = cohort_run(options, &observer, err);
    *reached = failing < 0;
    failing = -1;
    cohort_options_destroy(options);
    return status;
}

static void test_every_allocation(void **state)
{
    (void)state;
    static struct printed right, printed;
    cohort_error err = {0};
    long k = 0, failed = 0;
    bool reached = false;
    assert_int_equal(info(&right, -1, &reached, &err), COHORT_OK);
    assert_non_null(strstr(right.text, "memory plan, CPU: weights "));
    for (; CAN_FAIL; k++) {
        const cohort_status status = info(&printed, k, &reached, &err);
        if (status == COHORT_OK && strcmp(printed.text, right.text) != 0)
            fail_msg("allocation %ld fails, and what is printed is\n%s", k, printed.text);
        if (!reached)
            break;
        failed += status != COHORT_OK;
        if (status != COHORT_OK && status != COHORT_ERR_MEMORY)
            fail_msg("allocation %ld fails: %s: %s", k, cohort_status_name(status), err.message);
    }
    printf("%ld allocations failed, %ld of them an error\n", k, failed);
    assert_true(!CAN_FAIL || failed > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_allocation)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* What a rank does when an exchange fails, with operations that only note what is asked of them. That of real processes is
 * tests/fault/test_ranks_failing.sh. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "ranks/ranks.h"

#include <string.h>

/* The buffer of an exchange, while the caller still has it; and what others were told meanwhile. */
struct notes {
    bool under_way, told_under_way;
    int n_told;
    char notice[2048];
    size_t notice_bytes;
    cohort_status answer;
};

static cohort_status exchange(struct ranks *ranks, const struct ranks_message *sends, size_t n_sends,
                              const struct ranks_message *receives, size_t n_receives, cohort_error *err)
{
    const struct notes *notes = ranks->state;
    (void)sends, (void)n_sends, (void)receives, (void)n_receives;
    return notes->answer == COHORT_OK ? COHORT_OK : error_set(err, notes->answer, "rank 1 has not answered");
}

static void notify(struct ranks *ranks, const void *notice, size_t n)
{
    struct notes *notes = ranks->state;
    notes->n_told++;
    notes->told_under_way = notes->under_way;
    assert_true(n <= sizeof notes->notice);
    memcpy(notes->notice, notice, n);
    notes->notice_bytes = n;
}

static const struct ranks_ops operations = {.exchange = exchange, .notify = notify};

static cohort_status ask(struct ranks *ranks, cohort_error *err)
{
    struct notes *notes = ranks->state;
    char bytes[4];
    notes->under_way = true;
    const cohort_status status = ranks_broadcast(ranks, 1, bytes, sizeof bytes, err);
    notes->under_way = false;
    return status;
}

/* Whoever waited in vain says so before it gives up the buffers that a late answer would come into, and says it once. */
static void test_tells_while_under_way(void **state)
{
    struct notes notes = {.answer = COHORT_ERR_IO};
    char hosts[2][RANKS_HOST] = {"one", "two"};
    struct ranks ranks = {.ops = &operations, .count = 2, .hosts = hosts, .state = &notes};
    struct ranks other = {.ops = &operations, .rank = 1, .count = 2, .hosts = hosts};
    cohort_error err = {0};
    (void)state;
    assert_int_equal(ask(&ranks, &err), COHORT_ERR_IO);
    assert_true(notes.told_under_way && ranks.failed);
    assert_string_equal(err.message, "rank 1 has not answered");
    ranks_fail(&ranks, COHORT_ERR_IO, &err);
    assert_int_equal(notes.n_told, 1);
    /* What the other makes of it. */
    assert_int_equal(ranks_told(&other, notes.notice, notes.notice_bytes, &err), COHORT_ERR_IO);
    assert_string_equal(err.message, "rank 0 of 2 (one): rank 1 has not answered");
    /* Nothing is exchanged any more, whatever the operations could do. */
    notes.answer = COHORT_OK;
    assert_int_equal(ask(&ranks, &err), COHORT_ERR_IO);
    assert_string_equal(err.message, "rank 1 has not answered");
}

/* A failure of its own is told at once too, and what was heard from another is not told again. */
static void test_tells_once(void **state)
{
    struct notes notes = {0};
    char hosts[2][RANKS_HOST] = {"one", "two"};
    struct ranks ranks = {.ops = &operations, .count = 2, .hosts = hosts, .state = &notes};
    cohort_error err = {0}, got = {0};
    (void)state;
    assert_int_equal(ask(&ranks, &err), COHORT_OK);
    assert_int_equal(notes.n_told, 0);
    error_set(&err, COHORT_ERR_MEMORY, "no memory");
    assert_int_equal(ranks_agree(&ranks, COHORT_ERR_MEMORY, &err, &got), COHORT_ERR_MEMORY);
    ranks_fail(&ranks, COHORT_ERR_MEMORY, &err);
    assert_int_equal(notes.n_told, 1);
    /* A notice that names no rank, or no failure, is an error all the same. */
    const struct {
        int32_t rank, status;
    } senseless[] = {{2, COHORT_ERR_IO}, {-1, COHORT_ERR_IO}, {1, COHORT_OK}};
    for (size_t i = 0; i < sizeof senseless / sizeof *senseless; i++)
        assert_int_equal(ranks_told(&ranks, &senseless[i], sizeof senseless[i], &err), COHORT_ERR_INTERNAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_tells_while_under_way), cmocka_unit_test(test_tells_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

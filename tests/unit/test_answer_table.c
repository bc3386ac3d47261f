/* The accuracy reward on pairs of answers by kind (tests/fixtures/answer_table.json, oracle/answer_table.py), judged by
 * math-verify as TRL sets it up.
 *
 * Where math-verify is wrong the pair has a reason ("why"), and right is what the table says. On the others the two must
 * agree in 98 of 100, and no different answers may count as the same.
 *
 * "test_answer_table --bench" prints the time of a pair. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "reward/reward_internal.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static json_t *read_pairs(void)
{
    json_error_t error;
    json_t *pairs = json_load_file(COHORT_SOURCE_DIR "/tests/fixtures/answer_table.json", 0, &error);
    if (pairs == NULL)
        fail_msg("answer_table.json:%d: %s", error.line, error.text);
    return pairs;
}

static struct span text_of(const json_t *pair, const char *key)
{
    const json_t *text = json_object_get(pair, key);
    return (struct span){json_string_value(text), json_string_length(text)};
}

static bool equal(struct span stated, struct span expected)
{
    bool same = false;
    cohort_error err = {0};
    if (answer_equal(stated, expected, &same, &err) != COHORT_OK)
        fail_msg("%s", err.message);
    return same;
}

static void test_table(void **state)
{
    (void)state;
    json_t *pairs = read_pairs();
    size_t agree = 0, judged = 0, apart = 0, failed = 0;
    for (size_t i = 0; i < json_array_size(pairs); i++) {
        const json_t *pair = json_array_get(pairs, i);
        const bool same = json_is_true(json_object_get(pair, "same"));
        const bool verified = json_is_true(json_object_get(pair, "math_verify"));
        const bool ours = equal(text_of(pair, "answer"), text_of(pair, "gold"));
        const bool has_reason = json_object_get(pair, "why") != NULL;
        if (ours != same) {
            print_message("%s: '%s' for '%s' counts as %s\n", json_string_value(json_object_get(pair, "kind")),
                          json_string_value(json_object_get(pair, "answer")),
                          json_string_value(json_object_get(pair, "gold")), ours ? "right" : "wrong");
            failed += ours || has_reason;
        }
        apart += has_reason;
        judged += !has_reason;
        agree += !has_reason && ours == verified;
    }
    print_message("%zu of %zu agree with math-verify, %zu stand apart\n", agree, judged, apart);
    json_decref(pairs);
    assert_int_equal(failed, 0);
    assert_true(judged >= 400 && agree * 100 >= judged * 98);
}

/* An answer is its own, and what is the same in one direction is in the other, but for inequalities. */
static void test_symmetry(void **state)
{
    (void)state;
    json_t *pairs = read_pairs();
    size_t failed = 0;
    for (size_t i = 0; i < json_array_size(pairs); i++) {
        const json_t *pair = json_array_get(pairs, i);
        const struct span answer = text_of(pair, "answer"), gold = text_of(pair, "gold");
        const char *kind = json_string_value(json_object_get(pair, "kind"));
        const bool one_way = strcmp(kind, "inequality") == 0;
        if (!equal(answer, answer) || (!one_way && equal(answer, gold) != equal(gold, answer))) {
            print_error("%s: '%s' and '%s' in turn\n", kind, answer.at, gold.at);
            failed++;
        }
    }
    json_decref(pairs);
    assert_int_equal(failed, 0);
}

static void bench(void)
{
    json_t *pairs = read_pairs();
    const size_t n = json_array_size(pairs);
    double best = 1e9;
    for (int turn = 0; turn < 20; turn++) {
        struct timespec from, to;
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
        for (size_t i = 0; i < n; i++)
            (void)equal(text_of(json_array_get(pairs, i), "answer"), text_of(json_array_get(pairs, i), "gold"));
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
        const double took = (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) * 1e-9;
        best = took < best ? took : best;
    }
    printf("%zu pairs, %.2f microseconds each\n", n, best / (double)n * 1e6);
    json_decref(pairs);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--bench") == 0) {
        bench();
        return 0;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_table), cmocka_unit_test(test_symmetry)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

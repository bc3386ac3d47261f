/* pass@k, mean@n and maj@k with their standard errors against oracle/estimates.py, which looks at every choice of k
 * completions in exact fractions; and which completions vote alike. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "recipe/estimates.h"
#include "reward/vote.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 16 };

static void near(double got, double want, const char *what)
{
    if (!(fabs(got - want) <= 1e-12))
        fail_msg("%s: %.17g, expected %.17g", what, got, want);
}

static void compare(const json_t *want, const struct estimate *got, const char *what)
{
    assert_int_equal(got->n, json_integer_value(json_object_get(want, "n")));
    near(estimate_mean(got), json_number_value(json_object_get(want, "mean")), what);
    const json_t *error = json_object_get(want, "stderr");
    if (json_is_null(error))
        assert_true(isnan(estimate_error(got)));
    else
        near(estimate_error(got), json_number_value(error), what);
}

static int64_t read_question(const json_t *list, int32_t answers[MOST], int64_t *right)
{
    const size_t n = json_array_size(list);
    assert_in_range(n, 1, MOST);
    *right = 0;
    for (size_t i = 0; i < n; i++) {
        answers[i] = (int32_t)json_integer_value(json_array_get(list, i));
        *right += answers[i] == VOTE_RIGHT;
    }
    return (int64_t)n;
}

static json_t *load(void)
{
    json_error_t error;
    json_t *json = json_load_file(COHORT_SOURCE_DIR "/tests/fixtures/estimates.json", 0, &error);
    if (json == NULL)
        fail_msg("%s", error.text);
    return json;
}

static void test_oracle(void **state)
{
    (void)state;
    json_t *json = load(), *one;
    size_t i;
    json_array_foreach(json_object_get(json, "cases"), i, one)
    {
        const json_t *questions = json_object_get(one, "questions");
        const char *k;
        json_t *want;
        struct estimate mean = {0};
        for (size_t q = 0; q < json_array_size(questions); q++) {
            int32_t answers[MOST];
            int64_t right = 0, n = read_question(json_array_get(questions, q), answers, &right);
            estimate_add(&mean, (double)right / (double)n);
        }
        compare(json_object_get(one, "mean"), &mean, "mean");
        json_object_foreach(json_object_get(one, "pass"), k, want)
        {
            struct estimate pass = {0}, votes = {0};
            char what[64];
            for (size_t q = 0; q < json_array_size(questions); q++) {
                int32_t answers[MOST], count[MOST + 1] = {0};
                int64_t right = 0, n = read_question(json_array_get(questions, q), answers, &right);
                estimate_add(&pass, estimate_pass(n, right, atol(k)));
                estimate_add(&votes, estimate_votes(answers, n, atol(k), count));
                for (int c = 0; c <= MOST; c++)
                    assert_int_equal(count[c], 0);
            }
            snprintf(what, sizeof what, "case %zu, k %s", i, k);
            compare(want, &pass, what);
            compare(json_object_get(json_object_get(one, "maj"), k), &votes, what);
        }
    }
    assert_int_equal(i, 60);
    json_array_foreach(json_object_get(json, "pass_large"), i, one)
    {
        const int64_t n = json_integer_value(json_array_get(one, 0)), c = json_integer_value(json_array_get(one, 1)),
                      k = json_integer_value(json_array_get(one, 2));
        near(estimate_pass(n, c, k), json_number_value(json_array_get(one, 3)), "large");
    }
    assert_int_equal(i, 5);
    json_decref(json);
}

static void test_nothing(void **state)
{
    (void)state;
    struct estimate none = {0};
    assert_true(isnan(estimate_mean(&none)) && isnan(estimate_error(&none)));
}

/* Who states the same answer. */
static void test_vote(void **state)
{
    (void)state;
    static const struct {
        const char *completion;
        bool passed;
        int32_t answer;
    } rows[] = {{"The answer is 7.", false, 1},
                {"\\boxed{42}", true, 0},
                {"So the answer is: 7, altogether", false, 1},
                {"", false, -1},
                {"#### 1/2", false, 2},
                {"I get 6 * 7 = 42", true, 0},
                {"the answer is 0.5", false, 2},
                {"\\boxed{x = 7}", false, 1},
                {"  \n ", false, -1},
                {"no idea", false, 3},
                {"no idea", false, 3}};
    enum { N = sizeof rows / sizeof *rows };
    struct reward_row table[N] = {0};
    bool passed[N];
    int32_t answers[N];
    cohort_error err = {0};
    for (size_t i = 0; i < N; i++) {
        table[i].completion = rows[i].completion;
        table[i].completion_length = strlen(rows[i].completion);
        passed[i] = rows[i].passed;
    }
    assert_int_equal(reward_vote(table, passed, N, NULL, answers, &err), COHORT_OK);
    for (size_t i = 0; i < N; i++)
        if (answers[i] != rows[i].answer)
            fail_msg("'%s' is answer %d, expected %d", rows[i].completion, (int)answers[i], (int)rows[i].answer);
    struct stop stop = {.requested = true};
    assert_int_equal(reward_vote(table, passed, N, &stop, answers, &err), COHORT_ERR_CANCELLED);
}

static void test_judges(void **state)
{
    (void)state;
    static const struct {
        const char *spec;
        bool judges;
    } rewards[] = {{"accuracy", true}, {"reasoning_accuracy", true}, {"think_format", false}};
    for (size_t i = 0; i < sizeof rewards / sizeof *rewards; i++) {
        struct reward *reward = NULL;
        cohort_error err = {0};
        const struct reward_options options = {0};
        assert_int_equal(reward_create(&reward, rewards[i].spec, &options, &err), COHORT_OK);
        assert_int_equal(reward_judges_answers(reward), rewards[i].judges);
        reward_destroy(reward);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_oracle), cmocka_unit_test(test_nothing),
                                       cmocka_unit_test(test_vote), cmocka_unit_test(test_judges)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

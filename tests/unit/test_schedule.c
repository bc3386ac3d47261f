/* Learning rates against transformers.get_scheduler (tests/fixtures/schedule,
 * oracle/schedule_transformers.py), and what of parameters is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "train/schedule.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

static enum schedule_type type_named(const char *name)
{
    static const char *const names[] = {
#define SCHEDULE(id, word) word,
        SCHEDULE_LIST(SCHEDULE)
#undef SCHEDULE
    };
    size_t i = 0;
    while (i < sizeof names / sizeof names[0] && strcmp(names[i], name) != 0)
        i++;
    assert_true(i < sizeof names / sizeof names[0]);
    return (enum schedule_type)i;
}

static struct schedule planned(enum schedule_type type, double base, double warmup, int64_t total)
{
    struct schedule schedule;
    schedule_init(&schedule, type, base);
    assert_int_equal(schedule_plan(&schedule, warmup, total, NULL), COHORT_OK);
    return schedule;
}

static void check_case(size_t index, const json_t *item, int *checked)
{
    const double base = json_real_value(json_object_get(item, "base"));
    const json_t *steps = json_object_get(item, "steps"), *rates = json_object_get(item, "rates");
    const json_t *kwargs = json_object_get(item, "kwargs");
    struct schedule schedule;
    cohort_error err = {0};
    schedule_init(&schedule, type_named(json_string_value(json_object_get(item, "type"))), base);
    for (size_t i = 0; i < json_array_size(kwargs); i++)
        if (schedule_set(&schedule, json_string_value(json_array_get(kwargs, i)), &err) != COHORT_OK)
            fail_msg("case %zu: %s", index, err.message);
    if (schedule_plan(&schedule, json_number_value(json_object_get(item, "warmup")),
                      json_integer_value(json_object_get(item, "total")), &err) != COHORT_OK)
        fail_msg("case %zu: %s", index, err.message);
    for (size_t i = 0; i < json_array_size(steps); i++) {
        json_int_t step = json_integer_value(json_array_get(steps, i));
        double want = json_number_value(json_array_get(rates, i)), got = schedule_rate(&schedule, step);
        /* Same double arithmetic: a few units in the last place of base, and of the rate itself. */
        if (fabs(got - want) > 1e-15 * base || fabs(got - want) > 1e-12 * want)
            fail_msg("case %zu step %d: %.17g, expected %.17g", index, (int)step, got, want);
        (*checked)++;
    }
}

static void test_transformers(void **state)
{
    (void)state;
    json_error_t error;
    json_t *root = json_load_file(COHORT_SOURCE_DIR "/tests/fixtures/schedule/transformers.json", 0, &error);
    assert_non_null(root);
    size_t index;
    json_t *item;
    int checked = 0;
    json_array_foreach(json_object_get(root, "cases"), index, item) check_case(index, item, &checked);
    assert_int_equal(checked, 354 + 22 * 4 * 100);
    json_decref(root);
}

/* Beyond the last step the rate stays where it ended; transformers' cosine would rise again. */
static void test_after_the_end(void **state)
{
    (void)state;
    static const struct {
        const char *type, *kwargs[2];
        double rate;
    } ends[] = {
        {"constant", {NULL}, 2.0},
        {"linear", {NULL}, 0.0},
        {"cosine", {NULL}, 0.0},
        {"cosine_with_restarts", {"num_cycles=3"}, 0.0},
        {"polynomial", {"lr_end=0.5"}, 0.5},
        {"cosine_with_min_lr", {"min_lr=0.5"}, 0.5},
        {"cosine_warmup_with_min_lr", {"min_lr_rate=0.25"}, 0.5},
        {"warmup_stable_decay", {"num_decay_steps=5", "min_lr_ratio=0.25"}, 0.5},
    };
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        struct schedule schedule;
        schedule_init(&schedule, type_named(ends[i].type), 2.0);
        for (size_t k = 0; k < 2 && ends[i].kwargs[k] != NULL; k++)
            assert_int_equal(schedule_set(&schedule, ends[i].kwargs[k], NULL), COHORT_OK);
        assert_int_equal(schedule_plan(&schedule, 4, 20, NULL), COHORT_OK);
        for (int64_t step = 20; step < 60; step++)
            assert_true(schedule_rate(&schedule, step) == ends[i].rate);
    }
}

/* A warm-up longer than the run is a ramp that is cut off. */
static void test_warmup_longer_than_run(void **state)
{
    (void)state;
    struct schedule cosine = planned(SCHEDULE_COSINE, 8.0, 8, 4), linear = planned(SCHEDULE_LINEAR, 8.0, 8, 4),
                    polynomial = planned(SCHEDULE_POLYNOMIAL, 8.0, 8, 4),
                    equal = planned(SCHEDULE_POLYNOMIAL, 8.0, 4, 4);
    assert_true(schedule_rate(&cosine, 3) == 3.0);
    assert_true(schedule_rate(&linear, 3) == 3.0);
    assert_true(schedule_rate(&linear, 8) == 0.0);
    assert_true(schedule_rate(&polynomial, 3) == 3.0);
    assert_true(fabs(schedule_rate(&equal, 4) - 1e-7) < 1e-20);
}

/* Below 1 it is a share, rounded up; from 1 on a count, rounded down. */
static void test_warmup_share(void **state)
{
    (void)state;
    static const struct {
        double warmup;
        int64_t steps;
    } cases[] = {{0, 0}, {0.1, 3}, {0.5, 13}, {0.999, 25}, {1, 1}, {1.5, 1}, {24, 24}, {1e300, 1000000000000000}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(planned(SCHEDULE_LINEAR, 1.0, cases[i].warmup, 25).warmup_steps, cases[i].steps);
    struct schedule constant;
    schedule_init(&constant, SCHEDULE_CONSTANT, 1.0);
    assert_false(schedule_needs_total(&constant, 10));
    assert_true(schedule_needs_total(&constant, 0.1));
    schedule_init(&constant, SCHEDULE_WARMUP_STABLE_DECAY, 1.0);
    assert_true(schedule_needs_total(&constant, 10));
    assert_int_equal(schedule_set(&constant, "num_stable_steps=5", NULL), COHORT_OK);
    assert_false(schedule_needs_total(&constant, 10));
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *type, *kwargs[2];
        double warmup;
        int64_t total;
        const char *says;
    } cases[] = {
        {"cosine", {"num_cycles"}, 0, 9, "write NAME=VALUE"},
        {"cosine", {"power=2"}, 0, 9, "the cosine schedule has no parameter 'power'; it has num_cycles"},
        {"constant", {"power=2"}, 0, 9, "no parameter 'power'; it has none"},
        {"linear", {"=2"}, 0, 9, "no parameter ''"},
        {"cosine", {"num_cycles=1", "num_cycles=1"}, 0, 9, "num_cycles is given twice"},
        {"cosine", {"num_cycles=many"}, 0, 9, "num_cycles cannot be 'many': expected a number from 0 to"},
        {"cosine", {"num_cycles=-1"}, 0, 9, "num_cycles cannot be '-1'"},
        {"inverse_sqrt", {"timescale=0"}, 0, 9, "timescale cannot be '0': expected an integer from 1"},
        {"inverse_sqrt", {"timescale=1.5"}, 0, 9, "timescale cannot be '1.5': expected an integer"},
        {"warmup_stable_decay", {"decay_type=exponential"}, 0, 9, "expected one of linear, cosine, 1-sqrt"},
        {"warmup_stable_decay", {NULL}, 0, 9, "num_decay_steps: 100"},
        {"warmup_stable_decay", {"num_decay_steps=6"}, 4, 9, "4 steps of warm-up and 6 of decay"},
        {"cosine_with_min_lr", {NULL}, 0, 9, "needs one of min_lr"},
        {"cosine_warmup_with_min_lr", {"min_lr=0.1", "min_lr_rate=0.1"}, 0, 9, "needs only one of min_lr"},
        {"cosine_with_min_lr", {"min_lr=2"}, 0, 9, "min_lr 2 must be at most learning_rate 1"},
        {"polynomial", {"lr_end=1"}, 0, 9, "lr_end 1 is not below learning_rate 1"},
        {"cosine", {NULL}, 0, 0, "a learning rate that decays (lr_scheduler_type cosine)"},
        {"constant", {NULL}, 0.5, 0, "needs steps"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct schedule schedule;
        cohort_error err = {0};
        cohort_status status = COHORT_OK;
        schedule_init(&schedule, type_named(cases[i].type), 1.0);
        for (size_t k = 0; k < 2 && cases[i].kwargs[k] != NULL && status == COHORT_OK; k++)
            status = schedule_set(&schedule, cases[i].kwargs[k], &err);
        if (status == COHORT_OK)
            status = schedule_plan(&schedule, cases[i].warmup, cases[i].total, &err);
        assert_int_equal(status, COHORT_ERR_ARGUMENT);
        if (strstr(err.message, cases[i].says) == NULL)
            fail_msg("case %zu: '%s' does not say '%s'", i, err.message, cases[i].says);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_transformers),
        cmocka_unit_test(test_after_the_end),
        cmocka_unit_test(test_warmup_longer_than_run),
        cmocka_unit_test(test_warmup_share),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Learning rates against transformers.get_scheduler (tests/fixtures/schedule,
 * oracle/schedule_transformers.py). */
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
    if (strcmp(name, "linear") == 0)
        return SCHEDULE_LINEAR;
    if (strcmp(name, "cosine") == 0)
        return SCHEDULE_COSINE;
    assert_string_equal(name, "constant");
    return SCHEDULE_CONSTANT;
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
    json_array_foreach(json_object_get(root, "cases"), index, item)
    {
        enum schedule_type type = type_named(json_string_value(json_object_get(item, "type")));
        double base = json_real_value(json_object_get(item, "base"));
        json_int_t warmup = json_integer_value(json_object_get(item, "warmup"));
        json_int_t total = json_integer_value(json_object_get(item, "total"));
        json_t *steps = json_object_get(item, "steps"), *rates = json_object_get(item, "rates");
        for (size_t i = 0; i < json_array_size(steps); i++) {
            json_int_t step = json_integer_value(json_array_get(steps, i));
            double want = json_number_value(json_array_get(rates, i));
            double got = schedule_rate(type, base, step, warmup, total);
            /* Same double arithmetic: a few units in the last place of base. */
            if (fabs(got - want) > 1e-15 * base)
                fail_msg("case %zu step %d: %.17g, expected %.17g", index, (int)step, got, want);
            checked++;
        }
    }
    assert_int_equal(checked, 354);
    json_decref(root);
}

/* Beyond the last step the rate stays where it ended; transformers' cosine would rise again. */
static void test_after_the_end(void **state)
{
    (void)state;
    for (int64_t step = 20; step < 60; step++) {
        assert_true(schedule_rate(SCHEDULE_CONSTANT, 2.0, step, 4, 20) == 2.0);
        assert_true(schedule_rate(SCHEDULE_LINEAR, 2.0, step, 4, 20) == 0.0);
        assert_true(schedule_rate(SCHEDULE_COSINE, 2.0, step, 4, 20) == 0.0);
    }
}

/* A warm-up longer than the run is a ramp that is cut off. */
static void test_warmup_longer_than_run(void **state)
{
    (void)state;
    assert_true(schedule_rate(SCHEDULE_COSINE, 8.0, 3, 8, 4) == 3.0);
    assert_true(schedule_rate(SCHEDULE_LINEAR, 8.0, 3, 8, 4) == 3.0);
    assert_true(schedule_rate(SCHEDULE_LINEAR, 8.0, 8, 8, 4) == 0.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_transformers),
        cmocka_unit_test(test_after_the_end),
        cmocka_unit_test(test_warmup_longer_than_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

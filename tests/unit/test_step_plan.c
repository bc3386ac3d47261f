/* Generation batches, slices and optimizer steps as TRL walks and counts them (tests/fixtures/step_walk.json, written by
 * oracle/step_walk_trl.py from TRL's own trainer). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "train/step_plan.h"

#include <jansson.h>
#include <string.h>

static json_t *fixture;

static int64_t number(const json_t *object, const char *name)
{
    return json_integer_value(json_object_get(object, name));
}

/* Every slice of TRL's walk is the one of ours, in the same optimizer step; TRL ends a step that an epoch leaves short. */
static void test_walk(void **state)
{
    (void)state;
    size_t w = 0;
    json_t *walk = NULL;
    json_array_foreach(json_object_get(fixture, "walks"), w, walk)
    {
        const struct step_plan plan = {.slices = (int32_t)number(walk, "slices"),
                                       .accumulated = (int32_t)number(walk, "accumulated"),
                                       .iterations = (int32_t)number(walk, "iterations")};
        const json_t *places = json_object_get(walk, "walk");
        const size_t n = json_array_size(places), epoch = n / 3;
        const bool whole = epoch % (size_t)plan.accumulated == 0;
        int64_t batches = 0;
        assert_true(w > 0 || n == 48);
        for (size_t i = 0; i < n; i++) {
            const json_t *theirs = json_array_get(places, i);
            const struct step_slice slice = step_plan_slice(&plan, (int64_t)i);
            const int64_t step = (int64_t)i / plan.accumulated;
            assert_int_equal(slice.batch, json_integer_value(json_array_get(theirs, 0)));
            assert_int_equal(slice.slice, json_integer_value(json_array_get(theirs, 1)));
            if (whole || i < epoch)
                assert_int_equal(step, json_integer_value(json_array_get(theirs, 2)));
            /* What was begun and what is done, counted along the walk. */
            batches = slice.batch + 1;
            if ((int64_t)(i + 1) % plan.accumulated == 0) {
                const bool ends = (int64_t)(i + 1) % ((int64_t)plan.slices * plan.iterations) == 0;
                assert_int_equal(step_plan_batches(&plan, step + 1), batches);
                assert_int_equal(step_plan_done(&plan, step + 1), ends ? batches : batches - 1);
            }
        }
    }
    assert_int_equal(w, 4);
}

static void test_traits(void **state)
{
    (void)state;
    static const struct {
        struct step_plan plan;
        bool aligned, reuses;
        int32_t most;
    } cases[] = {{{1, 1, 1}, true, false, 2}, {{1, 1, 2}, true, true, 2},  {{4, 4, 1}, true, false, 2},
                 {{4, 2, 1}, true, true, 2},  {{4, 3, 2}, false, true, 2}, {{2, 4, 1}, false, false, 3},
                 {{2, 5, 1}, false, true, 4}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(step_plan_aligned(&cases[i].plan), cases[i].aligned);
        assert_int_equal(step_plan_reuses(&cases[i].plan), cases[i].reuses);
        assert_true(step_plan_most_batches(&cases[i].plan) >= cases[i].most - 1);
        /* No step takes from more. */
        for (int64_t step = 0; step < 40; step++) {
            const int64_t first = step_plan_slice(&cases[i].plan, step * cases[i].plan.accumulated).batch,
                          last = step_plan_slice(&cases[i].plan, (step + 1) * cases[i].plan.accumulated - 1).batch;
            assert_true(last - first + 1 <= step_plan_most_batches(&cases[i].plan));
        }
    }
}

static void test_counts(void **state)
{
    (void)state;
    size_t i = 0, refused = 0;
    json_t *row = NULL;
    json_array_foreach(json_object_get(fixture, "counts"), i, row)
    {
        const json_t *given = json_object_get(row, "given");
        const int64_t accumulated = number(given, "gradient_accumulation_steps");
        struct step_counts counts = {.group = number(given, "num_generations"),
                                     .iterations = 1,
                                     .slice = number(given, "per_device_train_batch_size"),
                                     .accumulated = accumulated == 0 ? 1 : accumulated,
                                     .slices = number(given, "steps_per_generation"),
                                     .completions = number(given, "generation_batch_size")};
        struct step_plan plan = {0};
        cohort_error err = {0};
        const cohort_status status = step_plan_count(&plan, &counts, 8, &err);
        if (json_is_true(json_object_get(row, "refused"))) {
            assert_int_equal(status, COHORT_ERR_ARGUMENT);
            refused++;
            continue;
        }
        assert_int_equal(status, COHORT_OK);
        assert_int_equal(plan.slices, number(row, "slices"));
        assert_int_equal(plan.accumulated, number(row, "accumulated"));
        assert_int_equal(counts.prompts, number(row, "prompts"));
    }
    assert_int_equal(i, 7);
    assert_int_equal(refused, 3);
}

/* Our own count beside TRL's. */
static void test_own_counts(void **state)
{
    (void)state;
    struct step_plan plan = {0};
    cohort_error err = {0};
    struct step_counts c = {.group = 8, .iterations = 1, .accumulated = 1};
    assert_int_equal(step_plan_count(&plan, &c, 8, &err), COHORT_OK); /* nothing given: a batch a step */
    assert_true(c.prompts == 8 && plan.slices == 1 && plan.accumulated == 1);
    c = (struct step_counts){.group = 8, .iterations = 1, .accumulated = 1, .slices = 4, .prompts = 6};
    assert_int_equal(step_plan_count(&plan, &c, 8, &err), COHORT_OK);
    assert_true(c.prompts == 6 && plan.slices == 4);
    c = (struct step_counts){.group = 8, .iterations = 1, .accumulated = 1, .slice = 16, .slices = 4, .prompts = 8};
    assert_int_equal(step_plan_count(&plan, &c, 8, &err), COHORT_OK);
    c.prompts = 7;
    assert_int_equal(step_plan_count(&plan, &c, 8, &err), COHORT_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "is 8: leave prompts_per_step out"));
    c = (struct step_counts){.group = 2, .iterations = 1, .accumulated = 1, .slices = 4, .prompts = 1};
    assert_int_equal(step_plan_count(&plan, &c, 8, &err), COHORT_ERR_ARGUMENT);
    c = (struct step_counts){.group = 2, .iterations = 1, .accumulated = 1, .completions = 16};
    assert_int_equal(step_plan_count(&plan, &c, 8, &err), COHORT_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "per_device_train_batch_size"));
}

/* A permutation by (seed, batch) alone; one slice leaves the order. */
static void test_order(void **state)
{
    (void)state;
    const struct step_plan plan = {.slices = 4, .accumulated = 1, .iterations = 1}, one = {1, 1, 1};
    int32_t a[64], b[64], c[64];
    bool there[64] = {false};
    step_plan_order(&plan, 7, 3, 64, a);
    step_plan_order(&plan, 7, 3, 64, b);
    step_plan_order(&plan, 7, 4, 64, c);
    assert_memory_equal(a, b, sizeof a);
    assert_memory_not_equal(a, c, sizeof a);
    for (int i = 0; i < 64; i++)
        there[a[i]] = true;
    for (int i = 0; i < 64; i++)
        assert_true(there[i]);
    step_plan_order(&one, 7, 3, 64, a);
    for (int i = 0; i < 64; i++)
        assert_int_equal(a[i], i);
}

static int load(void **state)
{
    (void)state;
    fixture = json_load_file(COHORT_SOURCE_DIR "/tests/fixtures/step_walk.json", 0, NULL);
    return fixture == NULL ? -1 : 0;
}

static int unload(void **state)
{
    (void)state;
    json_decref(fixture);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_walk),       cmocka_unit_test(test_traits), cmocka_unit_test(test_counts),
        cmocka_unit_test(test_own_counts), cmocka_unit_test(test_order),
    };
    return cmocka_run_group_tests(tests, load, unload);
}

/* accuracy and reasoning_accuracy beside TRL's functions of these names on the same completions
 * (tests/fixtures/accuracy_trl.json, oracle/accuracy_trl.py): with thinking blocks, without, cut off, with several answers.
 * A case without a reason ("why") has TRL's rewards; one with a reason has what is right. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/error.h"
#include "reward/reward.h"

#include <jansson.h>
#include <string.h>

static double score(struct reward *reward, const json_t *item)
{
    json_t *data = json_pack("{s:O}", "solution", json_object_get(item, "gold"));
    const json_t *completion = json_object_get(item, "completion");
    const struct reward_row row = {.data = data,
                                   .prompt = "",
                                   .completion = json_string_value(completion),
                                   .completion_length = json_string_length(completion),
                                   .finish_reason = "eos"};
    double value = -1;
    cohort_error err = {0};
    if (reward_score(reward, &row, 1, &value, &err) != COHORT_OK)
        fail_msg("%s", err.message);
    json_decref(data);
    return value;
}

static void test_beside_trl(void **state)
{
    (void)state;
    static const char *const names[][3] = {{"accuracy", "trl", "right"},
                                           {"reasoning_accuracy", "trl_reasoning", "right_reasoning"}};
    json_error_t error;
    json_t *cases = json_load_file(COHORT_SOURCE_DIR "/tests/fixtures/accuracy_trl.json", 0, &error);
    if (cases == NULL)
        fail_msg("accuracy_trl.json:%d: %s", error.line, error.text);
    size_t failed = 0, apart = 0;
    for (size_t n = 0; n < 2; n++) {
        struct reward *reward = NULL;
        cohort_error err = {0};
        if (reward_create(&reward, names[n][0], NULL, &err) != COHORT_OK)
            fail_msg("%s", err.message);
        for (size_t i = 0; i < json_array_size(cases); i++) {
            const json_t *item = json_array_get(cases, i);
            const bool has_reason = json_object_get(item, "why") != NULL;
            const double expected = has_reason ? json_is_true(json_object_get(item, names[n][2]))
                                               : json_number_value(json_object_get(item, names[n][1]));
            const double value = score(reward, item);
            apart += has_reason;
            if (value != expected) {
                print_error("%s, %s: '%s' for '%s' gets %g, expected %g\n", names[n][0],
                            json_string_value(json_object_get(item, "form")),
                            json_string_value(json_object_get(item, "completion")),
                            json_string_value(json_object_get(item, "gold")), value, expected);
                failed++;
            }
        }
        reward_destroy(reward);
    }
    assert_true(json_array_size(cases) > 300 && apart < json_array_size(cases) / 5);
    json_decref(cases);
    assert_int_equal(failed, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_beside_trl)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

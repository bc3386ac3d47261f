/* Built-in rewards against TRL's functions (tests/fixtures/rewards.json, oracle/rewards_trl.py) and mlx-node's rules
 * (rewards_text.json, oracle/rewards_text.py): equal, bit for bit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/error.h"
#include "reward/reward.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

enum { MAX_TOKENS = 1024, MAX_TEXTS = 4 };

static int64_t whole(const json_t *parameters, const char *name, int64_t otherwise)
{
    const json_t *value = json_object_get(parameters, name);
    return value == NULL ? otherwise : json_integer_value(value);
}

static double real(const json_t *parameters, const char *name, double otherwise)
{
    const json_t *value = json_object_get(parameters, name);
    return value == NULL ? otherwise : json_number_value(value);
}

static size_t texts(const json_t *parameters, const char *name, const char *out[MAX_TEXTS])
{
    const json_t *list = json_object_get(parameters, name);
    assert_in_range(json_array_size(list), 0, MAX_TEXTS);
    for (size_t i = 0; i < json_array_size(list); i++)
        out[i] = json_string_value(json_array_get(list, i));
    return json_array_size(list);
}

/* What is left out has TRL's default, as in the option table. */
static struct reward *make(const char *name, const json_t *parameters)
{
    const char *delimiters[MAX_TEXTS] = {0}, *tags[MAX_TEXTS] = {0}, *tools[MAX_TEXTS] = {0};
    struct reward_options options = {.reasoning_delimiters = delimiters,
                                     .n_delimiters = texts(parameters, "reasoning_delimiters", delimiters),
                                     .tags = tags,
                                     .n_tags = texts(parameters, "tags", tags),
                                     .tools = tools,
                                     .n_tools = texts(parameters, "tools", tools),
                                     .tool_optional = json_is_true(json_object_get(parameters, "optional")),
                                     .min_length = whole(parameters, "min_length", 0),
                                     .max_length = whole(parameters, "max_length", 0),
                                     .max_completion_len = whole(parameters, "max_completion_len", 0),
                                     .soft_punish_cache = whole(parameters, "soft_punish_cache", -1),
                                     .ngram_size = whole(parameters, "ngram_size", 0),
                                     .max_penalty = real(parameters, "max_penalty", -1.0),
                                     .max_len = whole(parameters, "max_len", 0),
                                     .min_value_wrong = real(parameters, "min_value_wrong", -1.0),
                                     .max_value_wrong = real(parameters, "max_value_wrong", -0.5),
                                     .min_value_correct = real(parameters, "min_value_correct", 0.5),
                                     .max_value_correct = real(parameters, "max_value_correct", 1.0)};
    struct reward *reward = NULL;
    cohort_error err = {0};
    if (reward_create(&reward, name, &options, &err) != COHORT_OK)
        fail_msg("%s", err.message);
    assert_string_equal(reward_name(reward), name);
    return reward;
}

static void check_row(struct reward *reward, const json_t *item, size_t c, size_t r)
{
    static int32_t ids[MAX_TOKENS];
    const json_t *list = json_object_get(item, "ids"), *completion = json_object_get(item, "completion"),
                 *want = json_object_get(item, "value");
    assert_in_range(json_array_size(list), 0, MAX_TOKENS);
    for (size_t i = 0; i < json_array_size(list); i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    const struct reward_row row = {.data = item,
                                   .prompt = "",
                                   .completion = json_string_value(completion),
                                   .completion_length = json_string_length(completion),
                                   .tokens = ids,
                                   .n_tokens = (int32_t)json_array_size(list),
                                   .length = json_integer_value(json_object_get(item, "n")),
                                   .finish_reason = "eos"};
    cohort_error err = {0};
    double value = -99.0;
    if (reward_score(reward, &row, 1, &value, &err) != COHORT_OK)
        fail_msg("case %zu, row %zu: %s", c, r, err.message);
    if (json_is_null(want) ? !isnan(value) : value != json_number_value(want))
        fail_msg("%s, case %zu, row %zu: %.17g, expected %.17g", reward_name(reward), c, r, value,
                 json_is_null(want) ? (double)NAN : json_number_value(want));
}

static void check_file(const char *path, size_t at_least)
{
    json_error_t error;
    json_t *root = json_load_file(path, JSON_ALLOW_NUL, &error);
    if (root == NULL)
        fail_msg("%s", error.text);
    const json_t *cases = json_object_get(root, "cases");
    size_t checked = 0;
    for (size_t c = 0; c < json_array_size(cases); c++) {
        const json_t *item = json_array_get(cases, c), *rows = json_object_get(item, "rows");
        struct reward *reward =
            make(json_string_value(json_object_get(item, "reward")), json_object_get(item, "parameters"));
        for (size_t r = 0; r < json_array_size(rows); r++, checked++)
            check_row(reward, json_array_get(rows, r), c, r);
        reward_destroy(reward);
    }
    assert_in_range(checked, at_least, 10000);
    json_decref(root);
}

static void test_values(void **state)
{
    (void)state;
    check_file(COHORT_SOURCE_DIR "/tests/fixtures/rewards.json", 600);
    check_file(COHORT_SOURCE_DIR "/tests/fixtures/rewards_text.json", 3000);
}

/* What TRL would need a Python error for, or would not say. */
static void test_refused(void **state)
{
    (void)state;
    static const char *const delimiters[] = {"</think>", ""};
    static const struct {
        const char *reward, *says;
        struct reward_options options;
    } wrong[] = {
        {"soft_overlong_punishment", "--max-completion-len", {.soft_punish_cache = 3}},
        {"soft_overlong_punishment", "--soft-punish-cache", {.max_completion_len = 3, .soft_punish_cache = -1}},
        {"cosine_scaled", "--max-len", {.ngram_size = 3}},
        {"reasoning_accuracy",
         "text 2 of --reasoning-delimiters is empty",
         {.reasoning_delimiters = delimiters, .n_delimiters = 2}},
        {"length", "--reward-max-length 500", {.min_length = 501}},
        {"xml_format", "text 1 of --reward-tags is empty", {.tags = &delimiters[1], .n_tags = 1}},
        {"soft_overlong", "soft_overlong_punishment", {.ngram_size = 3}},
    };
    struct reward *reward = NULL;
    cohort_error err = {0};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(reward_create(&reward, wrong[i].reward, &wrong[i].options, &err), COHORT_ERR_ARGUMENT);
        assert_null(reward);
        if (strstr(err.message, wrong[i].says) == NULL)
            fail_msg("'%s' does not say '%s'", err.message, wrong[i].says);
    }

    static const char *const counting[] = {"soft_overlong_punishment", "cosine_scaled", "repetition_penalty"};
    const struct reward_options options = {.max_completion_len = 5, .soft_punish_cache = 2, .max_len = 5};
    json_t *data = json_pack("{s:s}", "answer", "7");
    for (size_t i = 0; i < sizeof counting / sizeof counting[0]; i++) {
        struct reward_row row = {.data = data, .completion = "7", .completion_length = 1, .length = -1};
        double value = 0.0;
        assert_int_equal(reward_create(&reward, counting[i], &options, &err), COHORT_OK);
        assert_int_equal(reward_score(reward, &row, 1, &value, &err), COHORT_ERR_ARGUMENT);
        assert_non_null(strstr(err.message, "'completion_ids'"));
        row.length = 3; /* their number, not the ids */
        assert_int_equal(reward_score(reward, &row, 1, &value, &err),
                         strcmp(counting[i], "repetition_penalty") == 0 ? COHORT_ERR_ARGUMENT : COHORT_OK);
        reward_destroy(reward);
    }
    json_decref(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_values), cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

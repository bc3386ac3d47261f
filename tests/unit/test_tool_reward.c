/* The reward tool_use: calls in the forms that models write. mlx-node's own form is in tests/fixtures/rewards_text.json. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "reward/reward.h"
#include "support/score_one.h"

#include <string.h>

static double score(const struct reward_options *options, const char *row, const char *completion)
{
    return score_one("tool_use", options, row, completion);
}

static const char row[] =
    "{\"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"weather\", \"parameters\": {}}},"
    "{\"name\": \"clock\"}]}";

static void test_forms(void **state)
{
    (void)state;
    static const struct {
        const char *completion;
        double value;
    } cases[] = {
        {"<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Rome\"}}\n</tool_call>", 1.0},
        {"<tool_call>\n{\"name\": \"clock\", \"arguments\": {}}\n</tool_call>", 1.0},
        {"<tool_call>\n{\"name\": \"clock\"}\n</tool_call>", 0.7},
        {"<tool_call>\n{\"name\": \"search\", \"arguments\": {}}\n</tool_call>", -0.5},
        {"<tool_call>\n{\"name\": \"clock\", \"arguments\": {}\n</tool_call>", -0.5},
        {"<tool_call>\n{\"name\": \"clock\", \"arguments\": {}}", -0.5},
        {"<tool_call>\n{\"arguments\": {}}\n</tool_call>", -0.5},
        {"<tool_call><function=weather><parameter=city>Rome</parameter></function></tool_call>", 1.0},
        {"<tool_call><function=weather></function></tool_call>", 0.7},
        {"<tool_call><function=search><parameter=q>x</parameter></function></tool_call>", -0.5},
        {"<tool_call><name>weather</name><arguments>{}</arguments></tool_call>", 1.0},
        {"<think>I could <tool_call> now</think>It is noon.", 0.0},
        {"<think>a</think><tool_call>{\"name\": \"clock\", \"arguments\": {}}</tool_call>", 1.0},
        /* The lowest of several counts. */
        {"<tool_call>{\"name\": \"clock\", \"arguments\": {}}</tool_call>\n<tool_call>{\"name\": "
         "\"clock\"}</tool_call>",
         0.7},
        {"<tool_call>{\"name\": \"clock\", \"arguments\": {}}</tool_call> <tool_call>{", -0.5},
        {"<tool_call>{\"name\": \"clock\"}</tool_call> <tool_call>{\"name\": \"clock\", \"arguments\": {}}</tool_call>",
         0.7},
        {"It is noon.", 0.0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const double value = score(&(struct reward_options){0}, row, cases[i].completion);
        if (value != cases[i].value)
            fail_msg("'%s' gets %g, expected %g", cases[i].completion, value, cases[i].value);
    }
}

static void test_tools(void **state)
{
    (void)state;
    static const char call[] = "<tool_call>{\"name\": \"search\", \"arguments\": {}}</tool_call>";
    static const char *const tools[] = {"a", "search"};
    assert_true(score(&(struct reward_options){0}, "{}", call) == 1.0);
    assert_true(score(&(struct reward_options){0}, "{\"tools\": null}", call) == 1.0);
    assert_true(score(&(struct reward_options){0}, row, call) == -0.5);
    assert_true(score(&(struct reward_options){.tools = tools, .n_tools = 2}, row, call) == 1.0);
    assert_true(score(&(struct reward_options){.tools = tools, .n_tools = 1}, row, call) == -0.5);
    assert_true(score(&(struct reward_options){.tool_optional = true}, row, "no") == 0.5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_forms), cmocka_unit_test(test_tools)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

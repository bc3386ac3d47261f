/* An answer told apart as it comes: however its text is cut into pieces, what is said is the same, and what is said of a
 * whole text is what response_parse finds in it. */
#include "serve/speech.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct heard {
    struct text thinking, content, calls;
};

static cohort_status hear_thinking(void *context, const char *text, size_t length, cohort_error *err)
{
    assert_true(length > 0);
    return text_append(&((struct heard *)context)->thinking, text, length, err);
}

static cohort_status hear_content(void *context, const char *text, size_t length, cohort_error *err)
{
    assert_true(length > 0);
    return text_append(&((struct heard *)context)->content, text, length, err);
}

static cohort_status hear_call(void *context, const char *name, const char *id, const char *arguments, size_t length,
                               cohort_error *err)
{
    assert_int_equal(strlen(arguments), length);
    return text_printf(&((struct heard *)context)->calls, err, "%s(%s)%s%s;", name, arguments, id == NULL ? "" : "#",
                       id == NULL ? "" : id);
}

struct trial {
    enum response_form form;
    bool in_thinking, calls, one;
    const char *text, *thinking, *content, *called;
};

static const struct trial trials[] = {
    {RESPONSE_HERMES, false, true, false, "plain text \n", "", "plain text \n", ""},
    {RESPONSE_HERMES, false, true, false, "<think>\nso\nbe it\n</think>\n\nHello ", "so\nbe it", "Hello ", ""},
    {RESPONSE_HERMES, true, true, false, "\nso\n</think>\n\nHello", "so", "Hello", ""},
    {RESPONSE_HERMES, true, true, false, "never ends \n", "never ends", "", ""},
    {RESPONSE_HERMES, false, true, false, "a < b <thin <think", "", "a < b <thin <think", ""},
    {RESPONSE_HERMES, false, true, false,
     "Sure.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n</tool_call>\n"
     "<tool_call>\n{\"name\": \"g\", \"arguments\": {}}\n</tool_call>",
     "", "Sure.", "f({\"x\": 1});g({});"},
    {RESPONSE_HERMES, false, true, true,
     "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n</tool_call>\n"
     "<tool_call>\n{\"name\": \"g\", \"arguments\": {}}\n</tool_call> more",
     "", "", "f({\"x\": 1});"},
    {RESPONSE_HERMES, false, false, false, "<tool_call>x</tool_call>", "", "<tool_call>x</tool_call>", ""},
    {RESPONSE_HERMES, false, true, false, "ok <tool_call>{\"name\": </tool_call> then", "",
     "ok<tool_call>{\"name\": </tool_call>then", ""},
    {RESPONSE_HERMES, false, true, false, "<tool_call>{\"name\": \"f\", \"argu", "",
     "<tool_call>{\"name\": \"f\", \"argu", ""},
    {RESPONSE_XML, false, true, false,
     "<tool_call>\n<function=f>\n<parameter=x>\n1\n</parameter>\n</function>\n</tool_call>", "", "",
     "f({\"x\": \"1\"});"},
    {RESPONSE_LLAMA, false, true, false, "{\"name\": \"f\", \"parameters\": {\"x\": [1, 2]}}", "", "",
     "f({\"x\": [1, 2]});"},
    {RESPONSE_LLAMA, false, true, false, "no {call} here", "", "no {call} here", ""},
    {RESPONSE_MISTRAL, false, true, false, "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {}}]", "", "", "f({});"},
    {RESPONSE_PLAIN, false, true, false, "<think></think>x", "", "x", ""},
};

static struct heard hear(const struct trial *trial, unsigned cut)
{
    struct heard heard = {0};
    struct speech speech = {.calls = trial->calls, .one = trial->one, .form = trial->form};
    const struct speech_sink sink = {&heard, hear_thinking, hear_content, hear_call};
    const size_t length = strlen(trial->text);
    speech_begin(&speech, trial->in_thinking);
    for (size_t n = 0; n < length;) {
        n += cut == 0 ? length : 1 + (size_t)rand() % cut;
        n = n > length ? length : n;
        assert_int_equal(speech_feed(&speech, trial->text, n, false, &sink, NULL), COHORT_OK);
    }
    assert_int_equal(speech_feed(&speech, trial->text, length, true, &sink, NULL), COHORT_OK);
    assert_int_equal(text_append(&heard.thinking, "", 0, NULL), COHORT_OK);
    assert_int_equal(text_append(&heard.content, "", 0, NULL), COHORT_OK);
    assert_int_equal(text_append(&heard.calls, "", 0, NULL), COHORT_OK);
    return heard;
}

static void test_cut_anywhere(void **state)
{
    (void)state;
    srand(1);
    for (size_t i = 0; i < sizeof trials / sizeof trials[0]; i++)
        for (unsigned cut = 0; cut < 40; cut++) {
            struct heard heard = hear(&trials[i], cut % 8);
            assert_string_equal(heard.thinking.data, trials[i].thinking);
            assert_string_equal(heard.content.data, trials[i].content);
            assert_string_equal(heard.calls.data, trials[i].called);
            text_free(&heard.thinking);
            text_free(&heard.content);
            text_free(&heard.calls);
        }
}

static void test_as_parsed(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof trials / sizeof trials[0]; i++) {
        const struct trial *trial = &trials[i];
        struct response response = {0};
        if (!trial->calls || trial->one)
            continue;
        assert_int_equal(
            response_parse(&response, trial->text, strlen(trial->text), trial->form, trial->in_thinking, NULL, NULL),
            COHORT_OK);
        struct heard heard = hear(trial, 3);
        assert_int_equal(text_append(&response.thinking, "", 0, NULL), COHORT_OK);
        assert_string_equal(heard.thinking.data, response.thinking.data);
        size_t good = 0, said = 0;
        for (size_t k = 0; k < response.n_calls; k++)
            good += response.calls[k].error == NULL;
        for (const char *at = heard.calls.data; (at = strchr(at, ';')) != NULL; at++)
            said++;
        assert_int_equal(good, said);
        text_free(&heard.thinking);
        text_free(&heard.content);
        text_free(&heard.calls);
        response_free(&response);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cut_anywhere), cmocka_unit_test(test_as_parsed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Completions parsed back: what transformers and mistral-common read in whole completions (tests/fixtures/chat/responses.jsonl), and
 * what is made of those that are cut off or malformed, of which nothing may be lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/file.h"
#include "base/json_text.h"
#include "base/rng.h"
#include "text/response.h"

#include <stdlib.h>
#include <string.h>

/* Parts one behind another cover the text; content is the parts of that kind; every call has its part. */
static void check_whole(const struct response *r, const char *text, size_t length)
{
    struct text content = {0};
    size_t at = 0, calls = 0;
    assert_int_equal(text_append(&content, "", 0, NULL), COHORT_OK);
    for (size_t i = 0; i < r->n_parts; i++) {
        const struct response_part *part = &r->parts[i];
        assert_int_equal(part->from, at);
        assert_true(part->to > part->from && part->to <= length);
        at = part->to;
        if (part->kind == RESPONSE_CONTENT)
            assert_int_equal(text_append(&content, text + part->from, part->to - part->from, NULL), COHORT_OK);
        if (part->kind == RESPONSE_CALL)
            assert_int_equal(part->call, calls++);
    }
    assert_int_equal(at, length);
    assert_int_equal(calls, r->n_calls);
    assert_int_equal(content.length, r->content.length);
    if (content.length > 0)
        assert_memory_equal(content.data, r->content.data, content.length);
    for (size_t i = 0; i < r->n_calls; i++) {
        const struct response_call *call = &r->calls[i];
        assert_true(call->error != NULL || (call->name != NULL && call->arguments != NULL));
        assert_true(call->arguments_from <= call->arguments_to && call->arguments_to <= length);
    }
    text_free(&content);
}

/* thinking|content|NAME{arguments}|..., an error as !error, a call without its end with ~ before it. */
static void write_down(const struct response *r, struct text *out)
{
    assert_int_equal(text_printf(out, NULL, "%s|%s", r->thinking.data == NULL ? "" : r->thinking.data,
                                 r->content.data == NULL ? "" : r->content.data),
                     COHORT_OK);
    for (size_t i = 0; i < r->n_calls; i++) {
        const struct response_call *call = &r->calls[i];
        struct text arguments = {0};
        if (call->arguments != NULL)
            assert_int_equal(json_text_write(call->arguments, JSON_ENCODE_ANY | JSON_COMPACT, &arguments, NULL),
                             COHORT_OK);
        assert_int_equal(text_printf(out, NULL, "|%s%s%s%s%s", call->closed ? "" : "~", call->error == NULL ? "" : "!",
                                     call->name == NULL ? "" : call->name, call->id == NULL ? "" : "#",
                                     call->id == NULL ? "" : call->id),
                         COHORT_OK);
        assert_int_equal(text_append(out, arguments.data, arguments.length, NULL), COHORT_OK);
        text_free(&arguments);
    }
}

static const struct {
    enum response_form form;
    const char *text, *wanted;
} CASES[] = {
    /* Hermes and Qwen: whole */
    {RESPONSE_HERMES, "", "|"},
    {RESPONSE_HERMES, "hi", "|hi"},
    {RESPONSE_HERMES, "<think>\na\n</think>\n\nhi", "a|hi"},
    {RESPONSE_HERMES, "<think></think>hi", "|hi"},
    {RESPONSE_HERMES, "a\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n</tool_call>", "|a|f{\"x\":1}"},
    {RESPONSE_HERMES,
     "<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>\n<tool_call>\n{\"name\": \"g\", \"arguments\": "
     "{\"s\": \"</tool_call>\"}}\n</tool_call>",
     "||f{}|g{\"s\":\"</tool_call>\"}"},
    {RESPONSE_HERMES, "<tool_call>{\"name\": \"f\"}</tool_call>", "||f{}"},
    {RESPONSE_HERMES, "<tool_call>{\"name\": \"f\", \"arguments\": null}</tool_call>", "||f{}"},
    {RESPONSE_HERMES, "<tool_call>{\"name\": \"f\", \"arguments\": \"{}\"}</tool_call>", "||f\"{}\""},
    {RESPONSE_HERMES, "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1, \"a\": 2}}</tool_call>", "||f{\"a\":2}"},
    {RESPONSE_HERMES, "a<tool_call>{\"name\": \"f\"}</tool_call>b<tool_call>{\"name\": \"g\"}</tool_call>c",
     "|abc|f{}|g{}"},
    /* thinking and its tags */
    {RESPONSE_HERMES, "a</think>b", "a|b"},
    {RESPONSE_HERMES, "<think>a<tool_call>{\"name\": \"f\"}</tool_call>", "a<tool_call>{\"name\": \"f\"}</tool_call>|"},
    {RESPONSE_HERMES, "<think>a</think>b<think>c</think>d", "a\n\nc|bd"},
    {RESPONSE_PLAIN, "<think>a</think>b<tool_call>", "a|b<tool_call>"},
    /* Hermes: cut off and malformed */
    {RESPONSE_HERMES, "<tool_call>\n{\"name\": \"f\", \"arguments\": {}}", "||~f{}"},
    {RESPONSE_HERMES, "<tool_call>\n{\"name\": \"f\", \"arg", "||~!"},
    {RESPONSE_HERMES, "<tool_call>", "||~!"},
    {RESPONSE_HERMES, "<tool_call></tool_call>x", "|x|!"},
    {RESPONSE_HERMES, "<tool_call>[]</tool_call>", "||!"},
    {RESPONSE_HERMES, "<tool_call>{\"name\": \"f\"} {\"name\": \"g\"}</tool_call>", "||!"},
    {RESPONSE_HERMES, "<tool_call>{\"name\": 5}</tool_call>", "||!"},
    {RESPONSE_HERMES, "<tool_call>{\"arguments\": {}}</tool_call>", "||!{}"},
    {RESPONSE_HERMES, "<tool_call>{bad}</tool_call>\n<tool_call>{\"name\": \"g\"}</tool_call>", "||!|g{}"},
    {RESPONSE_HERMES, "<tool_call>{\"name\": \"f\" <tool_call>{\"name\": \"g\"}</tool_call>", "||!"},
    /* A text where the tool's schema has another type, as transformers reads it. */
    {RESPONSE_HERMES,
     "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \" 3.0 \", \"b\": \"4\", \"c\": \"5\"}}</tool_call>",
     "||f{\"a\":3,\"b\":\"4\",\"c\":\"5\"}"},
    {RESPONSE_HERMES, "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \" seven \"}}</tool_call>",
     "||f{\"a\":\" seven \"}"},
    {RESPONSE_HERMES, "<tool_call>{\"name\": \"g\", \"arguments\": {\"a\": \"3\"}}</tool_call>", "||g{\"a\":\"3\"}"},
    {RESPONSE_LLAMA, "{\"name\": \"f\", \"parameters\": {\"a\": \"3\"}}", "||f{\"a\":3}"},
    {RESPONSE_MISTRAL, "[TOOL_CALLS]f[ARGS]{\"a\": \"3\"}", "||f{\"a\":3}"},
    /* XML */
    {RESPONSE_XML,
     "ok\n<tool_call>\n<function=f>\n<parameter=a>\n1\n</parameter>\n<parameter=b>\nx y\n</parameter>\n</function>\n</"
     "tool_call>",
     "|ok|f{\"a\":1,\"b\":\"x y\"}"},
    {RESPONSE_XML, "<tool_call>\n<function=g>\n</function>\n</tool_call>", "||g{}"},
    {RESPONSE_XML, "<tool_call>\n<function=f>\n<parameter=a>\nseven\n</parameter>\n</function>\n</tool_call>",
     "||f{\"a\":\"seven\"}"},
    {RESPONSE_XML,
     "<tool_call>\n<function=f>\n<parameter=a>\n3.0\n</parameter>\n<parameter=a>\n4\n</parameter>\n</"
     "function>\n</tool_call>",
     "||f{\"a\":4}"},
    {RESPONSE_XML, "<tool_call>\n<function=f>\n<parameter=a>\n1", "||~!f{\"a\":1}"},
    {RESPONSE_XML, "<tool_call>\n<function=f", "||~!"},
    {RESPONSE_XML, "<tool_call>\n{\"name\": \"f\"}\n</tool_call>z", "|z|!"},
    /* Llama */
    {RESPONSE_LLAMA, "{\"name\": \"f\", \"parameters\": {\"a\": 1}}", "||f{\"a\":1}"},
    {RESPONSE_LLAMA, "{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n", "||f{\"a\":1}"},
    {RESPONSE_LLAMA, "see {\"name\": \"f\", \"parameters\": {}}", "|see|f{}"},
    {RESPONSE_LLAMA, "{\"name\": \"f\", \"parameters\": {}} and so on",
     "|{\"name\": \"f\", \"parameters\": {}} and so on"},
    {RESPONSE_LLAMA, "{\"a\": 1}", "|{\"a\": 1}"},
    {RESPONSE_LLAMA, "{\"name\": \"f\", \"par", "||~!"},
    {RESPONSE_LLAMA, "<|python_tag|>{\"name\": \"f\", \"parameters\": {}}; {\"name\": \"g\"}", "||f{}|g{}"},
    {RESPONSE_LLAMA, "<|python_tag|>brave_search.call(query=\"a \\\"b\\\"\", n=3)",
     "||brave_search{\"query\":\"a \\\"b\\\"\",\"n\":3}"},
    {RESPONSE_LLAMA, "<|python_tag|>print(1)", "||!"},
    {RESPONSE_LLAMA, "<|python_tag|>", "||!"},
    /* Mistral */
    {RESPONSE_MISTRAL, "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {\"a\": 1}, \"id\": \"abcdefghi\"}]",
     "||f#abcdefghi{\"a\":1}"},
    {RESPONSE_MISTRAL, "x[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {}}, {\"name\": \"g\", \"arguments\": {}}]",
     "|x|f{}|g{}"},
    {RESPONSE_MISTRAL, "[TOOL_CALLS]f[ARGS]{\"a\": 1}[TOOL_CALLS]g[CALL_ID]abcdefghi[ARGS]{}",
     "||f{\"a\":1}|g#abcdefghi{}"},
    {RESPONSE_MISTRAL, "[TOOL_CALLS]f{\"a\": 1}", "||f{\"a\":1}"},
    {RESPONSE_MISTRAL, "[THINK]a[/THINK]b", "a|b"},
    {RESPONSE_MISTRAL, "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {}}, {\"na", "||f{}|~!"},
    {RESPONSE_MISTRAL, "[TOOL_CALLS][]", "||!"},
    {RESPONSE_MISTRAL, "[TOOL_CALLS]", "||~!"},
    {RESPONSE_MISTRAL, "[TOOL_CALLS]f[ARGS]{\"a\"", "||~!f"},
    {RESPONSE_HERMES, "[TOOL_CALLS]f", "|[TOOL_CALLS]f"},
};

static const char TOOLS[] =
    "[{\"type\": \"function\", \"function\": {\"name\": \"f\", \"parameters\": {\"type\": \"object\", \"properties\": "
    "{\"a\": {\"type\": \"integer\"}, \"b\": {\"type\": \"string\"}}}}}]";

static void test_cases(void **state)
{
    (void)state;
    json_error_t position;
    json_t *tools = json_loads(TOOLS, 0, &position);
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        struct response response = {0};
        struct text found = {0};
        assert_int_equal(
            response_parse(&response, CASES[i].text, strlen(CASES[i].text), CASES[i].form, false, tools, NULL),
            COHORT_OK);
        write_down(&response, &found);
        if (strcmp(found.data, CASES[i].wanted) != 0)
            fail_msg("%s: expected %s, found %s", CASES[i].text, CASES[i].wanted, found.data);
        check_whole(&response, CASES[i].text, strlen(CASES[i].text));
        text_free(&found);
        response_free(&response);
    }
    json_decref(tools);
}

/* The prompt opened the thinking. */
static void test_in_thinking(void **state)
{
    (void)state;
    static const struct {
        const char *text, *wanted;
        bool open;
    } cases[] = {
        {"a</think>\n\nb", "a|b", false},
        {"a <tool_call>{\"name\": \"f\"}</tool_call>", "a <tool_call>{\"name\": \"f\"}</tool_call>|", true},
        {"a <tool_call>x</tool_call></think><tool_call>{\"name\": \"f\"}</tool_call>",
         "a <tool_call>x</tool_call>||f{}", false},
        {"<think>\na</think>b", "a|b", false},
        {"", "|", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct response response = {0};
        struct text found = {0};
        assert_int_equal(
            response_parse(&response, cases[i].text, strlen(cases[i].text), RESPONSE_HERMES, true, NULL, NULL),
            COHORT_OK);
        write_down(&response, &found);
        if (strcmp(found.data, cases[i].wanted) != 0 ||
            (response.thinking_open != cases[i].open && cases[i].text[0] != 0))
            fail_msg("%s: expected %s, found %s", cases[i].text, cases[i].wanted, found.data);
        check_whole(&response, cases[i].text, strlen(cases[i].text));
        text_free(&found);
        response_free(&response);
    }
    assert_true(response_opens_thinking("x<think>\n", 9));
    assert_true(response_opens_thinking("x[THINK]", 8));
    assert_false(response_opens_thinking("<think>\n\n</think>\n\n", 19));
    assert_false(response_opens_thinking("", 0));
}

static enum response_form form_of(const char *literal, const char *more)
{
    struct response_signs signs = {0};
    response_form_read(&signs, literal, strlen(literal));
    response_form_read(&signs, more, strlen(more));
    return response_form_of(&signs);
}

static void test_forms(void **state)
{
    (void)state;
    assert_int_equal(form_of("<|im_start|>", "<think>"), RESPONSE_PLAIN);
    assert_int_equal(form_of("\n<tool_call>\n{\"name\": \"", "x"), RESPONSE_HERMES);
    assert_int_equal(form_of("<tool_call>\n<function=", "x"), RESPONSE_XML);
    assert_int_equal(form_of("<tool_call>", "\n<function="), RESPONSE_XML);
    assert_int_equal(form_of("<tool_call>", "<arg_key>"), RESPONSE_PLAIN);
    assert_int_equal(form_of("\", \"parameters\": ", "x"), RESPONSE_LLAMA);
    assert_int_equal(form_of("[TOOL_CALLS][", "x"), RESPONSE_MISTRAL);
}

/* However it is cut and put together, nothing is lost. */
static void test_random(void **state)
{
    (void)state;
    static const char *const pieces[] = {"<tool_call>",
                                         "</tool_call>",
                                         "<think>",
                                         "</think>",
                                         "{\"name\": \"f\", ",
                                         "}",
                                         "{",
                                         "\"arguments\": {}",
                                         "\"",
                                         "\\",
                                         "[",
                                         "]",
                                         ",",
                                         " ",
                                         "\n",
                                         "x",
                                         "\xff",
                                         "[TOOL_CALLS]",
                                         "[ARGS]",
                                         "[CALL_ID]",
                                         "<|python_tag|>",
                                         "<function=f>",
                                         "<parameter=a>",
                                         "</parameter>",
                                         "</function>",
                                         ".call(",
                                         "a=",
                                         ")",
                                         "[THINK]",
                                         "[/THINK]",
                                         ";"};
    for (uint64_t round = 0; round < 20000; round++) {
        struct text text = {0};
        struct response response = {0};
        struct rng_block bits = rng_philox(7, RNG_INIT, 1, round);
        const size_t n = bits.word[0] % 14;
        assert_int_equal(text_append(&text, "", 0, NULL), COHORT_OK);
        for (size_t i = 0; i < n; i++) {
            struct rng_block more = rng_philox(8, RNG_INIT, round, i);
            const char *piece = pieces[more.word[0] % (sizeof pieces / sizeof pieces[0])];
            assert_int_equal(text_append(&text, piece, strlen(piece), NULL), COHORT_OK);
        }
        cohort_error err = {0};
        if (response_parse(&response, text.data, text.length, (enum response_form)(bits.word[1] % RESPONSE_FORMS),
                           bits.word[2] % 4 == 0, NULL, &err) != COHORT_OK)
            fail_msg("%s: %s", text.data, err.message);
        check_whole(&response, text.data, text.length);
        response_free(&response);
        text_free(&text);
    }
}

/* The fixture's rows: what is stripped there stands in content as it was written. */
static void test_fixture(void **state)
{
    (void)state;
    static const char *const names[RESPONSE_FORMS] = {"plain", "hermes", "xml", "llama", "mistral"};
    struct text lines = {0};
    json_error_t position;
    json_t *tools = NULL;
    size_t count = 0, calls = 0;
    assert_int_equal(file_read(COHORT_SOURCE_DIR "/tests/fixtures/chat/responses.jsonl", 0, &lines, NULL), COHORT_OK);
    for (char *at = lines.data, *end; (end = strchr(at, '\n')) != NULL; at = end + 1) {
        json_t *row = json_loadb(at, (size_t)(end - at), 0, &position);
        const json_t *text = json_object_get(row, "text"), *wanted = json_object_get(row, "calls");
        struct response r = {0};
        size_t form = 0;
        if (text == NULL) {
            tools = row;
            continue;
        }
        while (strcmp(names[form], json_string_value(json_object_get(row, "form"))) != 0)
            form++;
        assert_int_equal(response_parse(&r, json_string_value(text), json_string_length(text), (enum response_form)form,
                                        json_is_true(json_object_get(row, "in_thinking")),
                                        json_object_get(tools, "tools"), NULL),
                         COHORT_OK);
        check_whole(&r, json_string_value(text), json_string_length(text));
        const char *thinking = r.thinking.data == NULL ? "" : r.thinking.data,
                   *content = r.content.data == NULL ? "" : r.content.data;
        bool same = r.n_calls == json_array_size(wanted) &&
                    strcmp(thinking, json_string_value(json_object_get(row, "thinking"))) == 0 &&
                    strcmp(content, json_string_value(json_object_get(row, "content"))) == 0;
        for (size_t i = 0; same && i < r.n_calls; i++) {
            const json_t *call = json_array_get(wanted, i);
            same = r.calls[i].error == NULL && r.calls[i].closed &&
                   strcmp(r.calls[i].name, json_string_value(json_object_get(call, "name"))) == 0 &&
                   json_equal(r.calls[i].arguments, json_object_get(call, "arguments"));
            calls++;
        }
        if (!same) {
            struct text found = {0};
            write_down(&r, &found);
            fail_msg("%.*s: found %s", (int)(end - at), at, found.data);
        }
        response_free(&r);
        json_decref(row);
        count++;
    }
    assert_true(count >= 110 && calls >= 100);
    json_decref(tools);
    text_free(&lines);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fixture), cmocka_unit_test(test_cases),  cmocka_unit_test(test_in_thinking),
        cmocka_unit_test(test_forms),   cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Chat templates against what transformers renders with Jinja
 * (tests/fixtures/tokenizer/chat.jsonl). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/file.h"
#include "format/chat_template.h"

#include <stdio.h>
#include <string.h>

#define FIXTURES COHORT_SOURCE_DIR "/tests/fixtures/tokenizer/"

static void check_render(const char *template_text, const json_t *messages, bool prompt,
                         bool thinking, const json_t *wanted, int line)
{
    struct chat_options options = {.add_generation_prompt = prompt, .enable_thinking = thinking};
    struct text out = {0};
    cohort_error err = {0};
    assert_int_equal(text_append(&out, "kept", 4, NULL), COHORT_OK);
    if (chat_template_render(template_text, messages, &options, "chat.jsonl", &out, NULL, &err) !=
        COHORT_OK)
        fail_msg("line %d: %s", line, err.message);
    assert_memory_equal(out.data, "kept", 4);
    size_t length = json_string_length(wanted);
    if (out.length - 4 != length || memcmp(out.data + 4, json_string_value(wanted), length) != 0)
        fail_msg("line %d: expected \"%s\", found \"%s\"", line, json_string_value(wanted),
                 out.data + 4);
    text_free(&out);
}

static void test_renders(void **state)
{
    (void)state;
    struct text content = {0};
    json_error_t position;
    json_t *templates = json_load_file(FIXTURES "templates.json", 0, &position);
    assert_non_null(templates);
    const char *hybrid = json_string_value(json_object_get(templates, "hybrid"));
    const char *hybrid2 = json_string_value(json_object_get(templates, "hybrid2"));
    const char *instruct = json_string_value(json_object_get(templates, "instruct"));
    assert_string_equal(hybrid, chat_template_qwen3());
    assert_int_equal(file_read(FIXTURES "chat.jsonl", 0, &content, NULL), COHORT_OK);
    int line = 0;
    for (char *at = content.data, *end; (end = strchr(at, '\n')) != NULL; at = end + 1) {
        json_t *row = json_loadb(at, (size_t)(end - at), JSON_ALLOW_NUL, &position);
        assert_non_null(row);
        line++;
        const json_t *messages = json_object_get(row, "messages");
        for (int prompt = 0; prompt < 2; prompt++) {
            for (int thinking = 0; thinking < 2; thinking++) {
                char key[16];
                snprintf(key, sizeof key, "%s_%s", prompt ? "prompt" : "plain",
                         thinking ? "on" : "off");
                const json_t *wanted = json_object_get(json_object_get(row, "hybrid"), key);
                assert_non_null(wanted);
                check_render(NULL, messages, prompt == 1, thinking == 1, wanted, line);
                check_render(hybrid, messages, prompt == 1, thinking == 1, wanted, line);
                check_render(hybrid2, messages, prompt == 1, thinking == 1, wanted, line);
                wanted =
                    json_object_get(json_object_get(row, "instruct"), prompt ? "prompt" : "plain");
                check_render(instruct, messages, prompt == 1, thinking == 1, wanted, line);
            }
        }
        json_decref(row);
    }
    assert_true(line >= 40);
    text_free(&content);
    json_decref(templates);
}

static void test_recognition(void **state)
{
    (void)state;
    json_t *messages = json_pack("[{s:s, s:s}]", "role", "user", "content", "Hi");
    struct chat_options options = {.add_generation_prompt = true, .enable_thinking = true};
    struct text template_text = {0}, out = {0};
    cohort_error err = {0};
    const char *own = chat_template_qwen3();
    assert_int_equal(text_append(&template_text, own, strlen(own), NULL), COHORT_OK);
    assert_int_equal(text_append(&template_text, " \r\n\n", 4, NULL), COHORT_OK);
    assert_int_equal(
        chat_template_render(template_text.data, messages, &options, "x.jsonl:3", &out, NULL, &err),
        COHORT_OK);
    template_text.data[100] ^= 1;
    assert_int_equal(
        chat_template_render(template_text.data, messages, &options, "x.jsonl:3", &out, NULL, &err),
        COHORT_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "x.jsonl:3: unknown template"));
    assert_int_equal(chat_template_render("", messages, &options, "x.jsonl:3", &out, NULL, &err),
                     COHORT_ERR_UNSUPPORTED);
    text_free(&template_text);
    text_free(&out);
    json_decref(messages);
}

static void test_bad_messages(void **state)
{
    (void)state;
    static const struct {
        const char *messages;
        cohort_status status;
        const char *message;
    } cases[] = {
        {"[]", COHORT_ERR_FORMAT, "messages: expected a non-empty array"},
        {"{}", COHORT_ERR_FORMAT, "messages: expected a non-empty array"},
        {"['x']", COHORT_ERR_FORMAT, "messages[0]: expected an object"},
        {"[{'content':'x'}]", COHORT_ERR_FORMAT, "messages[0].role: expected a string"},
        {"[{'role':1,'content':'x'}]", COHORT_ERR_FORMAT, "messages[0].role"},
        {"[{'role':'developer','content':'x'}]", COHORT_ERR_FORMAT, "\"developer\""},
        {"[{'role':'user'}]", COHORT_ERR_FORMAT, "messages[0].content"},
        {"[{'role':'user','content':null}]", COHORT_ERR_FORMAT, "messages[0].content"},
        {"[{'role':'user','content':[{'type':'text'}]}]", COHORT_ERR_FORMAT, "messages[0].content"},
        {"[{'role':'tool','content':'5'},{'role':'user','content':'x'}]", COHORT_ERR_UNSUPPORTED,
         "messages[0]: role"},
        {"[{'role':'user','content':'x'},{'role':'tool','content':'5'}]", COHORT_ERR_UNSUPPORTED,
         "messages[1]: role"},
        {"[{'role':'user','content':'x'},{'role':'assistant','content':'','tool_calls':[{}]}]",
         COHORT_ERR_UNSUPPORTED, "messages[1].tool_calls"},
        {"[{'role':'system','content':'x','tools':[{}]},{'role':'user','content':'x'}]",
         COHORT_ERR_UNSUPPORTED, "messages[0].tools"},
        {"[{'role':'user','content':'x'},{'role':'assistant','content':'','reasoning_content':4}]",
         COHORT_ERR_FORMAT, "messages[1].reasoning_content"},
    };
    struct chat_options options = {.enable_thinking = true};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char json[400];
        snprintf(json, sizeof json, "%s", cases[i].messages);
        for (char *at = json; *at != '\0'; at++)
            if (*at == '\'')
                *at = '"';
        json_error_t position;
        json_t *messages = json_loads(json, 0, &position);
        assert_non_null(messages);
        struct text out = {0};
        cohort_error err = {0};
        assert_int_equal(text_append(&out, "kept", 4, NULL), COHORT_OK);
        cohort_status status =
            chat_template_render(NULL, messages, &options, "d.jsonl:7", &out, NULL, &err);
        if (status != cases[i].status || strstr(err.message, cases[i].message) == NULL ||
            strstr(err.message, "d.jsonl:7: ") == NULL)
            fail_msg("%s: status %d, \"%s\"", cases[i].messages, (int)status, err.message);
        assert_string_equal(out.data, "kept");
        text_free(&out);
        json_decref(messages);
    }
    struct text out = {0};
    assert_int_equal(chat_template_render(NULL, NULL, &options, "d", &out, NULL, NULL),
                     COHORT_ERR_FORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_renders),
        cmocka_unit_test(test_recognition),
        cmocka_unit_test(test_bad_messages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Chat templates against what transformers renders with Jinja
 * (tests/fixtures/tokenizer/chat.jsonl). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/file.h"
#include "text/chat_template.h"

#include <stdio.h>
#include <string.h>

#define FIXTURES COHORT_SOURCE_DIR "/tests/fixtures/tokenizer/"

static void check_render(const char *template_text, const json_t *messages, bool prompt, bool thinking,
                         const json_t *wanted, int line)
{
    struct chat_options options = {.add_generation_prompt = prompt, .enable_thinking = thinking};
    struct text out = {0};
    cohort_error err = {0};
    assert_int_equal(text_append(&out, "kept", 4, NULL), COHORT_OK);
    if (chat_template_render(template_text, messages, &options, "chat.jsonl", &out, NULL, &err) != COHORT_OK)
        fail_msg("line %d: %s", line, err.message);
    assert_memory_equal(out.data, "kept", 4);
    size_t length = json_string_length(wanted);
    if (out.length - 4 != length || memcmp(out.data + 4, json_string_value(wanted), length) != 0)
        fail_msg("line %d: expected \"%s\", found \"%s\"", line, json_string_value(wanted), out.data + 4);
    text_free(&out);
}

/* Known templates, and which renderings of the fixture's rows are theirs. */
static const struct {
    const char *name; /* NULL: no template in the folder */
    const char *rows;
    bool thinks; /* there is one for thinking on and one for off */
} TEMPLATES[] = {
    {NULL, "hybrid", true},
    {"hybrid", "hybrid", true},
    {"hybrid2", "hybrid", true},
    {"instruct", "instruct", false},
    {"thinking", "thinking", false},
    {"training", "training", true},
    {"instruct_training", "instruct", false},
};
enum { N_TEMPLATES = sizeof TEMPLATES / sizeof TEMPLATES[0] };

static const char *text_of(const json_t *templates, const char *name)
{
    return name == NULL ? NULL : json_string_value(json_object_get(templates, name));
}

/* What transformers renders to go on with the last message, by template; null: it refuses. Returns how many were
 * compared. */
static int check_continued(const json_t *templates, const json_t *messages, const json_t *wanted, int line)
{
    struct chat_options options = {.enable_thinking = true, .continue_final = true};
    for (size_t t = 0; t < N_TEMPLATES; t++) {
        const json_t *want = json_object_get(wanted, TEMPLATES[t].name == NULL ? "hybrid" : TEMPLATES[t].name);
        struct text out = {0};
        cohort_error err = {0};
        cohort_status status = chat_template_render(text_of(templates, TEMPLATES[t].name), messages, &options,
                                                    "chat.jsonl", &out, NULL, &err);
        if (wanted == NULL) /* the last message is another's */
            assert_non_null(strstr(err.message, "expected a message of the assistant to go on"));
        else if ((status == COHORT_OK) != json_is_string(want))
            fail_msg("line %d, %s: status %d, %s", line, TEMPLATES[t].rows, (int)status, err.message);
        else if (status == COHORT_OK &&
                 (out.length != json_string_length(want) || memcmp(out.data, json_string_value(want), out.length) != 0))
            fail_msg("line %d, %s: expected \"%s\", found \"%s\"", line, TEMPLATES[t].rows, json_string_value(want),
                     out.data);
        text_free(&out);
    }
    return wanted == NULL ? 0 : N_TEMPLATES;
}

static void test_renders(void **state)
{
    (void)state;
    struct text content = {0};
    json_error_t position;
    json_t *templates = json_load_file(FIXTURES "templates.json", 0, &position);
    assert_non_null(templates);
    assert_string_equal(text_of(templates, "hybrid"), chat_template_qwen3());
    assert_int_equal(file_read(FIXTURES "chat.jsonl", 0, &content, NULL), COHORT_OK);
    int line = 0, n_continued = 0;
    for (char *at = content.data, *end; (end = strchr(at, '\n')) != NULL; at = end + 1) {
        json_t *row = json_loadb(at, (size_t)(end - at), JSON_ALLOW_NUL, &position);
        assert_non_null(row);
        line++;
        const json_t *messages = json_object_get(row, "messages");
        for (int prompt = 0; prompt < 2; prompt++) {
            for (int thinking = 0; thinking < 2; thinking++) {
                char key[16];
                snprintf(key, sizeof key, "%s_%s", prompt ? "prompt" : "plain", thinking ? "on" : "off");
                for (size_t t = 0; t < N_TEMPLATES; t++) {
                    const json_t *wanted =
                        json_object_get(json_object_get(row, TEMPLATES[t].rows), TEMPLATES[t].thinks ? key
                                                                                 : prompt            ? "prompt"
                                                                                                     : "plain");
                    assert_non_null(wanted);
                    check_render(text_of(templates, TEMPLATES[t].name), messages, prompt == 1, thinking == 1, wanted,
                                 line);
                }
            }
        }
        n_continued += check_continued(templates, messages, json_object_get(row, "continue"), line);
        json_decref(row);
    }
    assert_true(line >= 40 && n_continued >= 100);
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
    assert_int_equal(chat_template_render(template_text.data, messages, &options, "x.jsonl:3", &out, NULL, &err),
                     COHORT_OK);
    struct text windows = {0};
    for (const char *at = own; *at != '\0'; at++)
        assert_int_equal(text_append(&windows, *at == '\n' ? "\r\n" : at, *at == '\n' ? 2 : 1, NULL), COHORT_OK);
    assert_int_equal(chat_template_render(windows.data, messages, &options, "x.jsonl:3", &out, NULL, &err), COHORT_OK);
    text_free(&windows);
    template_text.data[100] ^= 1;
    assert_int_equal(chat_template_render(template_text.data, messages, &options, "x.jsonl:3", &out, NULL, &err),
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
        {"[{'role':'tool','content':'5'},{'role':'user','content':'x'}]", COHORT_ERR_UNSUPPORTED, "messages[0]: role"},
        {"[{'role':'user','content':'x'},{'role':'tool','content':'5'}]", COHORT_ERR_UNSUPPORTED, "messages[1]: role"},
        {"[{'role':'user','content':'x'},{'role':'assistant','content':'','tool_calls':[{}]}]", COHORT_ERR_UNSUPPORTED,
         "messages[1].tool_calls"},
        {"[{'role':'system','content':'x','tools':[{}]},{'role':'user','content':'x'}]", COHORT_ERR_UNSUPPORTED,
         "messages[0].tools"},
        {"[{'role':'user','content':'x'},{'role':'assistant','content':'','reasoning_content':4}]", COHORT_ERR_FORMAT,
         "messages[1].reasoning_content"},
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
        cohort_status status = chat_template_render(NULL, messages, &options, "d.jsonl:7", &out, NULL, &err);
        if (status != cases[i].status || strstr(err.message, cases[i].message) == NULL ||
            strstr(err.message, "d.jsonl:7: ") == NULL)
            fail_msg("%s: status %d, \"%s\"", cases[i].messages, (int)status, err.message);
        assert_string_equal(out.data, "kept");
        text_free(&out);
        json_decref(messages);
    }
    struct text out = {0};
    assert_int_equal(chat_template_render(NULL, NULL, &options, "d", &out, NULL, NULL), COHORT_ERR_FORMAT);
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

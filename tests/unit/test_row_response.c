/* Completions taken apart for rewards: which rows can be, and what of tokens counts (tests/unit/test_response.c has the
 * forms). What transformers reads of the same texts lies in tests/fixtures/chat/responses.jsonl (oracle/responses.py). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/file.h"
#include "recipe/row_response.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct session session; /* the tokenizer of bytes with the template of Qwen3 */

static int open_session(void **state)
{
    char folder[] = "/tmp/cohort-response-XXXXXX";
    cohort_error err = {0};
    (void)state;
    if (mkdtemp(folder) == NULL || tokenizer_write_bytes(folder, &err) != COHORT_OK ||
        tokenizer_load(&session.tokenizer, folder, &err) != COHORT_OK ||
        chat_template_open(&session.chat, session.tokenizer, NULL, &err) != COHORT_OK)
        print_error("%s\n", err.message);
    return file_remove_all(folder, NULL) == COHORT_OK && session.chat != NULL ? 0 : -1;
}

static int close_session(void **state)
{
    (void)state;
    chat_template_close(session.chat);
    tokenizer_destroy(session.tokenizer);
    return 0;
}

static json_t *json_of(const char *quoted)
{
    char text[1000];
    json_error_t position;
    snprintf(text, sizeof text, "%s", quoted);
    for (char *at = text; *at != '\0'; at++)
        *at = *at == '\'' ? '"' : *at;
    json_t *json = json_loads(text, JSON_ALLOW_NUL, &position);
    assert_non_null(json);
    return json;
}

/* What the completion is, whose text becomes tokens, with an end or without. */
static json_t *parsed(const char *data, const char *prompt, const char *text, size_t length, const char *finish_reason)
{
    struct token_list ids = {0};
    json_t *json = json_of(data), *out = NULL;
    const struct row_style style = {0};
    cohort_error err = {0};
    struct text whole = {0};
    assert_int_equal(text_append(&whole, text, length, &err), COHORT_OK);
    if (strcmp(finish_reason, "eos") == 0)
        assert_int_equal(text_append(&whole, "<|im_end|>", 10, &err), COHORT_OK);
    assert_int_equal(tokenizer_encode(session.tokenizer, whole.data, whole.length, true, &ids, &err), COHORT_OK);
    text_free(&whole);
    struct reward_row row = {.data = json,
                             .prompt = prompt,
                             .prompt_length = strlen(prompt),
                             .completion = "what stop left",
                             .completion_length = 14,
                             .tokens = ids.ids,
                             .n_tokens = (int32_t)ids.count,
                             .finish_reason = finish_reason};
    row_response_set(&row, &session, &style);
    if (row.parse != NULL && row.parse(&row, &out, &err) != COHORT_OK)
        fail_msg("%s", err.message);
    token_list_free(&ids);
    json_decref(json);
    return out;
}

static void check(const char *data, const char *prompt, const char *text, size_t length, const char *finish_reason,
                  const char *wanted)
{
    json_t *found = parsed(data, prompt, text, length, finish_reason), *should = json_of(wanted);
    char *written = json_dumps(found, JSON_COMPACT | JSON_ENCODE_ANY);
    if (!json_equal(found, should))
        fail_msg("%s: %s, expected %s", text, written == NULL ? "nothing" : written, wanted);
    free(written);
    json_decref(found);
    json_decref(should);
}

#define ASKED                                      "{'messages':[{'role':'user','content':'q'}]}"
#define PROMPT                                     "<|im_start|>assistant\n"
#define CHECK(prompt, text, finish_reason, wanted) check(ASKED, prompt, text, sizeof(text) - 1, finish_reason, wanted)

static void test_rows(void **state)
{
    (void)state;
    CHECK(PROMPT, "<think>\na\n</think>\n\nb", "eos", "{'thinking':'a','content':'b','tool_calls':[]}");
    CHECK(PROMPT, "", "eos", "{'thinking':'','content':'','tool_calls':[]}");
    CHECK(PROMPT, "", "length", "{'thinking':'','content':'what stop left','tool_calls':[]}"); /* no token: its text */
    CHECK(PROMPT "<think>\n", "a\n</think>\nb", "eos", "{'thinking':'a','content':'b','tool_calls':[]}");
    CHECK(PROMPT "<think>\n", "a", "length", "{'thinking':'a','content':'','tool_calls':[]}");
    CHECK(PROMPT, "<think>a</think>b", "stop", "{'thinking':'','content':'what stop left','tool_calls':[]}");
    /* Cut within a character; a special token that ended nothing is text. */
    CHECK(PROMPT, "<|im_start|>a\0b", "length", "{'thinking':'','content':'<|im_start|>a\\u0000b','tool_calls':[]}");
    CHECK(PROMPT, "a\n<tool_call>\n{\"name\": \"f\"}\n</tool_call>", "eos",
          "{'thinking':'','content':'a','tool_calls':[{'name':'f','arguments':{}}]}");
    /* A call that was cut off keeps its text. */
    static const char cut[] = "<tool_call>\n{\"name\": \"f\", \"argu";
    json_t *found = parsed(ASKED, PROMPT, cut, sizeof cut - 1, "length");
    const json_t *call = json_array_get(json_object_get(found, "tool_calls"), 0);
    assert_true(json_is_false(json_object_get(call, "closed")));
    assert_true(json_string_length(json_object_get(call, "error")) > 0);
    assert_string_equal(json_string_value(json_object_get(call, "text")), cut);
    json_decref(found);
}

/* Rows whose prompt is text say nothing of how their model writes calls. */
static void test_texts(void **state)
{
    (void)state;
    static const char *const texts[] = {"{'prompt':'q'}", "{'prompt':'q','messages':null}",
                                        "{'prompt':'q','messages':[]}", "{'a':1}"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        assert_null(parsed(texts[i], "q", "<think>a</think>b", 17, "eos"));
    const struct row_style chat = {.chat = true};
    json_t *row = json_of(texts[0]);
    assert_true(row_is_conversation(row, &chat));
    json_decref(row);
}

static void test_transformers(void **state)
{
    (void)state;
    FILE *file = fopen(COHORT_SOURCE_DIR "/tests/fixtures/chat/responses.jsonl", "r");
    static char line[100000];
    size_t n = 0;
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL) {
        json_error_t position;
        json_t *row = json_loads(line, 0, &position);
        const json_t *text = json_object_get(row, "text"), *calls = json_object_get(row, "calls");
        const char *form = json_string_value(json_object_get(row, "form"));
        if (form != NULL && strcmp(form, "hermes") == 0) {
            json_t *found = parsed(ASKED, json_is_true(json_object_get(row, "in_thinking")) ? PROMPT "<think>" : PROMPT,
                                   json_string_value(text), json_string_length(text), "eos");
            const json_t *found_calls = json_object_get(found, "tool_calls");
            bool same = json_equal(json_object_get(found, "thinking"), json_object_get(row, "thinking")) &&
                        json_equal(json_object_get(found, "content"), json_object_get(row, "content")) &&
                        json_array_size(found_calls) == json_array_size(calls);
            for (size_t i = 0; same && i < json_array_size(calls); i++)
                same = json_equal(json_array_get(found_calls, i), json_array_get(calls, i));
            if (!same)
                fail_msg("%s: %s", line, json_dumps(found, 0));
            json_decref(found);
            n++;
        }
        json_decref(row);
    }
    fclose(file);
    assert_true(n > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows), cmocka_unit_test(test_texts),
                                       cmocka_unit_test(test_transformers)};
    return cmocka_run_group_tests(tests, open_session, close_session);
}

/* Which bytes of a conversation are trained, against TRL's training templates (tests/fixtures/chat/masks.json, numbers and
 * hashes). The Qwen3 templates are at hand; TRL's others are read from the folder COHORT_TRL_TEMPLATES, if it is set
 * (tests/slow/test_trl_masks.sh). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/file.h"
#include "base/hash.h"
#include "text/chat_training.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FIXTURES COHORT_SOURCE_DIR "/tests/fixtures/"
#define DIR      COHORT_BINARY_DIR "/test-chat-training"

static struct tokenizer *tokenizer;
static json_t *rows, *masks; /* of the fixtures */

static void put(const char *name, const char *content, size_t length)
{
    char path[300];
    snprintf(path, sizeof path, DIR "/%s", name);
    assert_int_equal(file_write_atomic(path, content, length, NULL), COHORT_OK);
}

/* Adds a file's conversations to rows: messages, tools, and settings: the other keys but for special tokens. */
static void read_rows(const char *path)
{
    struct text content = {0};
    json_error_t position;
    assert_int_equal(file_read(path, 0, &content, NULL), COHORT_OK);
    for (char *at = content.data, *end; (end = strchr(at, '\n')) != NULL; at = end + 1) {
        json_t *row = json_loadb(at, (size_t)(end - at), 0, &position), *settings = json_object(), *value = NULL;
        const char *key = NULL;
        json_object_foreach(row, key, value)
        {
            if (strstr(key, "_token") == NULL && strcmp(key, "messages") != 0 && strcmp(key, "tools") != 0)
                assert_int_equal(json_object_set(settings, key, value), 0);
        }
        assert_int_equal(json_object_set_new(row, "settings", settings), 0);
        assert_int_equal(json_array_append_new(rows, row), 0);
    }
    text_free(&content);
}

static int set_up(void **state)
{
    static const char special[] =
        "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"unk_token\": \"<unk>\", \"pad_token\": \"<pad>\"}";
    cohort_error err = {0};
    json_error_t position;
    (void)state;
    if (file_remove_all(DIR, &err) != COHORT_OK || tokenizer_write_bytes(DIR, &err) != COHORT_OK) {
        print_error("%s\n", err.message);
        return 1;
    }
    put("tokenizer_config.json", special, strlen(special));
    if (tokenizer_load(&tokenizer, DIR, &err) != COHORT_OK) {
        print_error("%s\n", err.message);
        return 1;
    }
    rows = json_array();
    read_rows(FIXTURES "chat/conversations.jsonl");
    read_rows(FIXTURES "jinja/conversations.jsonl");
    masks = json_load_file(FIXTURES "chat/masks.json", 0, &position);
    return masks == NULL;
}

static int tear_down(void **state)
{
    (void)state;
    tokenizer_destroy(tokenizer);
    json_decref(rows);
    json_decref(masks);
    return 0;
}

static struct chat_template *open_text(const char *text, size_t length)
{
    struct chat_template *chat = NULL;
    cohort_error err = {0};
    put("given.jinja", text, length);
    if (chat_template_open(&chat, tokenizer, DIR "/given.jinja", &err) != COHORT_OK)
        fail_msg("%s", err.message);
    return chat;
}

/* What a comparison came to. */
enum outcome { SAME, SPANS, TEXT, REFUSED, BOTH_REFUSED, PARSED, ACCEPTED, OUTCOMES };
static const char *const outcome_names[OUTCOMES] = {"same",         "spans",  "text",    "refused",
                                                    "both refused", "parsed", "accepted"};

/* Whether nothing in [from, to) is content. */
static bool of_template(const struct chat_training *found, size_t from, size_t to)
{
    for (size_t i = 0; i < found->spans.count; i++)
        if (found->spans.items[i].from < to && found->spans.items[i].to > from)
            return false;
    return true;
}

/* TRL's spans with adjoining ones made one, which is the same mask. exact: they are ours. Else ours may begin later, where
 * TRL's markers take in what the prompt ends with (a newline in Qwen2.5, all of <|start|>assistant in gpt-oss). */
static bool same_spans(const struct chat_training *found, const json_t *wanted, bool exact)
{
    size_t at = 0;
    for (size_t i = 0; i < json_array_size(wanted); i++) {
        const json_t *pair = json_array_get(wanted, i);
        size_t from = (size_t)json_integer_value(json_array_get(pair, 0)),
               to = (size_t)json_integer_value(json_array_get(pair, 1));
        for (; i + 1 < json_array_size(wanted); i++) {
            pair = json_array_get(wanted, i + 1);
            if ((size_t)json_integer_value(json_array_get(pair, 0)) != to)
                break;
            to = (size_t)json_integer_value(json_array_get(pair, 1));
        }
        if (from == to)
            continue;
        if (at == found->trained.count)
            return false;
        const struct content_span *span = &found->trained.items[at++];
        if (!exact && from < span->from && of_template(found, from, span->from))
            from = span->from;
        if (span->from != from || span->to != to)
            return false;
    }
    return at == found->trained.count;
}

/* Some templates write today's date, which the fixture has not. */
static void hide_date(struct text *text)
{
    char today[16];
    struct tm parts;
    const time_t now = time(NULL);
    assert_int_equal(strftime(today, sizeof today, "%Y-%m-%d", localtime_r(&now, &parts)), 10);
    for (char *at = text->data; (at = strstr(at, today)) != NULL;)
        memcpy(at, "2000-01-01", 10);
}

/* Arguments of a call that are JSON text, which are given as an object where the template fails for text. */
static bool has_text_arguments(const json_t *messages)
{
    for (size_t i = 0; i < json_array_size(messages); i++) {
        const json_t *calls = json_object_get(json_array_get(messages, i), "tool_calls");
        for (size_t k = 0; k < json_array_size(calls); k++) {
            const json_t *call = json_array_get(calls, k), *function = json_object_get(call, "function");
            if (json_is_string(json_object_get(function != NULL ? function : call, "arguments")))
                return true;
        }
    }
    return false;
}

static enum outcome compare(const struct chat_template *chat, const json_t *row, const json_t *wanted, bool exact)
{
    struct chat_training found = {0};
    const struct chat_options options = {.tools = json_object_get(row, "tools"),
                                         .settings = json_object_get(row, "settings")};
    cohort_error err = {0};
    char digest[HASH_HEX];
    enum outcome outcome = SAME;
    cohort_status status =
        chat_training_render(&found, chat, json_object_get(row, "messages"), &options, CHAT_ALL, "row", &err);
    if (status != COHORT_OK) {
        assert_true(strncmp(err.message, "row: ", 5) == 0);
        if (getenv("COHORT_TELL") != NULL)
            print_message("%s\n", err.message);
        outcome = json_is_null(wanted) ? BOTH_REFUSED : REFUSED;
    } else if (json_is_null(wanted)) {
        outcome = has_text_arguments(json_object_get(row, "messages")) ? PARSED : ACCEPTED;
    } else {
        struct hash hash;
        hide_date(&found.text);
        hash_begin(&hash);
        hash_add(&hash, found.text.data, found.text.length);
        hash_end(&hash, digest);
        if (strcmp(digest, json_string_value(json_object_get(wanted, "sha256"))) != 0)
            outcome = TEXT;
        else if (!same_spans(&found, json_object_get(wanted, "spans"), exact))
            outcome = SPANS;
    }
    chat_training_free(&found);
    return outcome;
}

/* counts[outcome] for all rows. */
static void compare_all(const char *text, size_t length, const char *name, bool exact, size_t counts[OUTCOMES])
{
    struct chat_template *chat = open_text(text, length);
    const json_t *wanted = json_object_get(masks, name);
    assert_int_equal(json_array_size(wanted), json_array_size(rows));
    memset(counts, 0, OUTCOMES * sizeof counts[0]);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const enum outcome outcome = compare(chat, json_array_get(rows, i), json_array_get(wanted, i), exact);
        counts[outcome]++;
        if (getenv("COHORT_TELL") != NULL && outcome != SAME && outcome != BOTH_REFUSED)
            print_message("%s%s row %zu: %s\n", name, exact ? "_training" : "", i, outcome_names[outcome]);
    }
    chat_template_close(chat);
}

/* Qwen3's hybrid template drops the thinking of earlier turns; what is trained is what TRL's variant renders. */
static void test_qwen3(void **state)
{
    (void)state;
    static const struct {
        const char *text, *name;
        bool exact;
    } cases[] = {{"hybrid", "qwen3", false},
                 {"hybrid2", "qwen3", false},
                 {"training", "qwen3", true},
                 {"instruct", "qwen3_instruct_2507", false},
                 {"instruct_training", "qwen3_instruct_2507", true}};
    json_error_t position;
    json_t *templates = json_load_file(FIXTURES "tokenizer/templates.json", 0, &position);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t counts[OUTCOMES];
        const json_t *text = json_object_get(templates, cases[i].text);
        compare_all(json_string_value(text), json_string_length(text), cases[i].name, cases[i].exact, counts);
        /* Refused are parts of content where the template wants text, roles that it leaves out, and an assistant's
         * message with nothing before it. The one other text: the first revision prints a tool's result that is no text. */
        if (counts[SPANS] + counts[ACCEPTED] > 0 || counts[TEXT] > (cases[i].exact ? 0 : 1) || counts[REFUSED] > 7 ||
            counts[SAME] < 50)
            fail_msg("%s: %zu same, %zu other spans, %zu other text, %zu refused", cases[i].text, counts[SAME],
                     counts[SPANS], counts[TEXT], counts[REFUSED]);
    }
    json_decref(templates);
}

#define TURNS(before, behind)                                                                                          \
    "{% for m in messages %}[{{ m.role }}]" before "{{ m.content }}" behind                                            \
    "{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"

/* Templates of our own: what of each message is trained, divided by bars, or why nothing can be. */
static void test_own(void **state)
{
    (void)state;
    static const struct {
        enum chat_trained trained;
        const char *text, *wanted;
    } cases[] = {
        {CHAT_ALL, TURNS("", "."), "a1.|a2."},
        {CHAT_LAST, TURNS("", ".\n"), "a2."},
        /* The end of a conversation is no turn's; an ending of its own for the last turn is. */
        {CHAT_ALL, TURNS("", "<end>\n") "{% if not add_generation_prompt %}</s>{% endif %}", "a1<end>\n|a2<end>\n</s>"},
        {CHAT_ALL, TURNS("", "{{ '<return>' if loop.last and m.role == 'assistant' else '<end>' }}"),
         "a1<end>|a2<return>"},
        {CHAT_ALL, TURNS("", "{{ '<return>' if loop.last else '<end>' }}"), "messages[1]: the chat template renders"},
        /* The prompt opens the thinking. */
        {CHAT_ALL, TURNS("{{ '<think>' if m.role == 'assistant' }}", ".") "{{ '<think>' if add_generation_prompt }}",
         "<think>a1.|<think>a2."},
        /* Thinking that earlier turns lack is put back; a message that is shortened in another way is not. */
        {CHAT_ALL, TURNS("{{ '<think>t</think>' if loop.last and m.role == 'assistant' }}", "."),
         "<think>t</think>a1.|<think>t</think>a2."},
        {CHAT_ALL, TURNS("{{ 'last: ' if loop.last and m.role == 'assistant' }}", "."),
         "messages[1]: the chat template renders"},
        {CHAT_LAST, TURNS("{{ 'last: ' if loop.last and m.role == 'assistant' }}", "."), "last: a2."},
        {CHAT_ALL,
         "{% for m in messages %}[{{ m.role }}]{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
         "q1|a1|q2|a2"},
        {CHAT_LAST, TURNS("", ".") "{{ '!' if add_generation_prompt }}",
         "is no beginning of the rendered conversation"},
    };
    json_error_t position;
    json_t *messages = json_loads("[{\"role\": \"user\", \"content\": \"q1\"}, {\"role\": \"assistant\", \"content\": "
                                  "\"a1\"}, {\"role\": \"user\", \"content\": \"q2\"}, {\"role\": \"assistant\", "
                                  "\"content\": \"a2\"}]",
                                  0, &position);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct chat_template *chat = open_text(cases[i].text, strlen(cases[i].text));
        struct chat_training out = {0};
        struct text found = {0};
        cohort_error err = {0};
        const struct chat_options options = {0};
        cohort_status status = chat_training_render(&out, chat, messages, &options, cases[i].trained, "d:1", &err);
        for (size_t k = 0; k < out.trained.count && status == COHORT_OK; k++)
            assert_int_equal(text_printf(&found, NULL, "%s%.*s", k == 0 ? "" : "|",
                                         (int)(out.trained.items[k].to - out.trained.items[k].from),
                                         out.text.data + out.trained.items[k].from),
                             COHORT_OK);
        if (status == COHORT_OK ? found.data == NULL || strcmp(found.data, cases[i].wanted) != 0
                                : strstr(err.message, cases[i].wanted) == NULL)
            fail_msg("case %zu: %s%s, expected %s", i, found.data == NULL ? "" : found.data, err.message,
                     cases[i].wanted);
        text_free(&found);
        chat_training_free(&out);
        chat_template_close(chat);
    }
    json_decref(messages);
}

static void read_template(const char *name, const char *suffix, struct text *out)
{
    char path[400];
    snprintf(path, sizeof path, "%s/%s%s.jinja", getenv("COHORT_TRL_TEMPLATES"), name, suffix);
    assert_int_equal(file_read(path, 0, out, NULL), COHORT_OK);
}

static void test_trl(void **state)
{
    (void)state;
    const char *name = NULL;
    json_t *wanted = NULL;
    size_t sum[2][OUTCOMES] = {{0}};
    if (getenv("COHORT_TRL_TEMPLATES") == NULL)
        skip();
    json_object_foreach(masks, name, wanted)
    {
        for (int training = 0; training < 2; training++) {
            struct text text = {0};
            size_t counts[OUTCOMES];
            read_template(name, training ? "_training" : "", &text);
            compare_all(text.data, text.length, name, training, counts);
            print_message("%-24s%-10s", name, training ? "training" : "original");
            for (size_t k = 0; k < OUTCOMES; k++) {
                if (counts[k] > 0)
                    print_message(" %zu %s", counts[k], outcome_names[k]);
                sum[training][k] += counts[k];
            }
            print_message("\n");
            /* GLM ends a turn with what begins the next one: TRL's variant writes that behind the last, too. Diffusion
             * Gemma has results of tools within a turn. Cohere's variant has another place for a developer's message, and
             * where two turns of the assistant follow each other, TRL's spans may adjoin. */
            const bool glm = strcmp(name, "glm4moe") == 0, gemma = strcmp(name, "diffusion_gemma") == 0;
            assert_true(glm || counts[TEXT] <= 1);
            assert_true(glm || gemma || counts[SPANS] <= 1);
            text_free(&text);
        }
    }
    assert_int_equal(sum[1][SPANS] + sum[1][TEXT] + sum[1][ACCEPTED], 0);
    assert_int_equal(sum[0][ACCEPTED], 0);
    assert_true(sum[0][SPANS] <= 25 && sum[0][PARSED] <= 20 && sum[1][PARSED] <= 20);
    /* Refused are, beyond tools and roles that a template does not know, texts where it takes parts alone, as three of
     * vision models do. */
    assert_true(sum[1][SAME] > 1320 && sum[0][SAME] > 1170);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_own), cmocka_unit_test(test_qwen3),
                                       cmocka_unit_test(test_trl)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

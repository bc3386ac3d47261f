/* Chat templates against what transformers renders with Jinja (tests/fixtures/tokenizer/chat.jsonl), and what stands
 * around the interpreter: where templates come from, variables, who wrote what, the end of a turn. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/file.h"
#include "text/chat_template.h"
#include "text/response.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIXTURES COHORT_SOURCE_DIR "/tests/fixtures/tokenizer/"
#define DIR      COHORT_BINARY_DIR "/test-chat-template"

enum { TEXT_END = 256, TURN_START = 257, TURN_END = 258, THINK = 259 };

static struct tokenizer *bytes; /* of tokenizer_write_bytes, in DIR */

static void put(const char *name, const char *content)
{
    char path[300];
    snprintf(path, sizeof path, DIR "/%s", name);
    assert_int_equal(file_write_atomic(path, content, strlen(content), NULL), COHORT_OK);
}

/* The template of that text; NULL: of DIR. */
static struct chat_template *open_text(const char *text)
{
    struct chat_template *chat = NULL;
    cohort_error err = {0};
    if (text != NULL)
        put("given.jinja", text);
    if (chat_template_open(&chat, bytes, text == NULL ? NULL : DIR "/given.jinja", &err) != COHORT_OK)
        fail_msg("%s", err.message);
    return chat;
}

static int set_up(void **state)
{
    cohort_error err = {0};
    json_error_t position;
    (void)state;
    if (file_remove_all(DIR, &err) != COHORT_OK || tokenizer_write_bytes(DIR, &err) != COHORT_OK) {
        print_error("%s\n", err.message);
        return 1;
    }
    json_t *config = json_load_file(DIR "/tokenizer_config.json", 0, &position); /* one special token without a name */
    if (json_object_del(config, "pad_token") != 0 || json_dump_file(config, DIR "/tokenizer_config.json", 0) != 0)
        return 1;
    json_decref(config);
    if (tokenizer_load(&bytes, DIR, &err) != COHORT_OK) {
        print_error("%s\n", err.message);
        return 1;
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    tokenizer_destroy(bytes);
    return 0;
}

static json_t *json_of(const char *text)
{
    json_error_t position;
    char *copy = strdup(text);
    for (char *at = copy; *at != '\0'; at++)
        *at = *at == '\'' ? '"' : *at;
    json_t *json = json_loads(copy, JSON_DECODE_ANY, &position);
    if (json == NULL)
        fail_msg("%s: %s", text, position.text);
    free(copy);
    return json;
}

static void check_render(const struct chat_template *chat, const json_t *messages, bool prompt, bool thinking,
                         const json_t *wanted, int line)
{
    struct chat_options options = {.add_generation_prompt = prompt,
                                   .thinking = thinking ? CHAT_THINKING_ON : CHAT_THINKING_OFF};
    struct text out = {0};
    cohort_error err = {0};
    assert_int_equal(text_append(&out, "kept", 4, NULL), COHORT_OK);
    if (chat_template_render(chat, messages, &options, "chat.jsonl", &out, NULL, &err) != COHORT_OK)
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

static struct chat_template *chats[N_TEMPLATES];

static const char *text_of(const json_t *templates, const char *name)
{
    return name == NULL ? NULL : json_string_value(json_object_get(templates, name));
}

/* What transformers renders to go on with the last message, by template; null: it refuses. Returns how many were
 * compared. */
static int check_continued(const json_t *messages, const json_t *wanted, int line)
{
    struct chat_options options = {.thinking = CHAT_THINKING_ON, .continue_final = true};
    for (size_t t = 0; t < N_TEMPLATES; t++) {
        const json_t *want = json_object_get(wanted, TEMPLATES[t].name == NULL ? "hybrid" : TEMPLATES[t].name);
        struct text out = {0};
        cohort_error err = {0};
        cohort_status status = chat_template_render(chats[t], messages, &options, "chat.jsonl", &out, NULL, &err);
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
    for (size_t t = 0; t < N_TEMPLATES; t++)
        chats[t] = open_text(text_of(templates, TEMPLATES[t].name));
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
                    check_render(chats[t], messages, prompt == 1, thinking == 1, wanted, line);
                }
            }
        }
        n_continued += check_continued(messages, json_object_get(row, "continue"), line);
        json_decref(row);
    }
    assert_true(line >= 40 && n_continued >= 100);
    for (size_t t = 0; t < N_TEMPLATES; t++)
        chat_template_close(chats[t]);
    text_free(&content);
    json_decref(templates);
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
        {"[{'role':'user','content':5}]", COHORT_ERR_FORMAT, "messages[0].content: expected a string, or a list"},
        {"[{'role':'user','content':[{'type':'image','url':'x'}]}]", COHORT_ERR_UNSUPPORTED,
         "messages[0].content[0]: type \"image\" is not supported"},
        {"[{'role':'user','content':'x'},{'role':'assistant','content':'','reasoning_content':4}]", COHORT_ERR_FORMAT,
         "messages[1].reasoning_content"},
    };
    struct chat_options options = {.thinking = CHAT_THINKING_ON};
    struct chat_template *chat = open_text(NULL);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *messages = json_of(cases[i].messages);
        struct text out = {0};
        cohort_error err = {0};
        assert_int_equal(text_append(&out, "kept", 4, NULL), COHORT_OK);
        cohort_status status = chat_template_render(chat, messages, &options, "d.jsonl:7", &out, NULL, &err);
        if (status != cases[i].status || strstr(err.message, cases[i].message) == NULL ||
            strstr(err.message, "d.jsonl:7: ") == NULL)
            fail_msg("%s: status %d, \"%s\"", cases[i].messages, (int)status, err.message);
        assert_string_equal(out.data, "kept");
        text_free(&out);
        json_decref(messages);
    }
    struct text out = {0};
    assert_int_equal(chat_template_render(chat, NULL, &options, "d", &out, NULL, NULL), COHORT_ERR_FORMAT);
    chat_template_close(chat);
}

/* A template in whatever form of lines and ends, and what is wrong with one. */
static void test_templates(void **state)
{
    (void)state;
    json_t *messages = json_of("[{'role':'user','content':'Hi'}]");
    struct chat_options options = {.add_generation_prompt = true};
    struct text windows = {0}, out = {0}, own = {0};
    struct chat_template *chat = NULL;
    cohort_error err = {0};
    for (const char *at = chat_template_qwen3(); *at != '\0'; at++)
        assert_int_equal(text_append(&windows, *at == '\n' ? "\r\n" : at, *at == '\n' ? 2 : 1, NULL), COHORT_OK);
    chat = open_text(NULL);
    assert_true(chat_template_given(chat)); /* it stands in tokenizer_config.json */
    assert_int_equal(chat_template_render(chat, messages, &options, "x", &own, NULL, NULL), COHORT_OK);
    chat_template_close(chat);
    chat = open_text(windows.data);
    assert_int_equal(chat_template_render(chat, messages, &options, "x", &out, NULL, NULL), COHORT_OK);
    assert_string_equal(out.data, own.data);
    chat_template_close(chat);
    put("given.jinja", "a\n{% foreign %}");
    assert_int_equal(chat_template_open(&chat, bytes, DIR "/given.jinja", &err), COHORT_ERR_FORMAT);
    assert_non_null(strstr(err.message, "given.jinja:2: "));
    assert_int_equal(chat_template_open(&chat, bytes, DIR "/nowhere.jinja", &err), COHORT_ERR_IO);
    chat = open_text("a\n{{ messages[0].content + 1 }}");
    assert_int_equal(chat_template_render(chat, messages, &options, "d.jsonl:3", &out, NULL, &err), COHORT_ERR_FORMAT);
    assert_non_null(strstr(err.message, "d.jsonl:3: "));
    assert_non_null(strstr(err.message, "given.jinja:2: "));
    assert_string_equal(out.data, own.data);
    chat_template_close(chat);
    text_free(&windows);
    text_free(&own);
    text_free(&out);
    json_decref(messages);
}

/* Which of a folder's templates counts, with tools and without. */
static void test_folders(void **state)
{
    (void)state;
    static const struct {
        const char *config, *jinja, *folder, *folder_tools;
        const char *plain, *tools; /* what is rendered, or a part of the message */
    } cases[] = {
        {"'C'", NULL, NULL, NULL, "C", "C"},
        {"'C'", "J", NULL, NULL, "J", "J"},
        {"[{'name':'default','template':'D'},{'name':'tool_use','template':'{#tools#}T'}]", NULL, NULL, NULL, "D", "T"},
        {"{'default':'D','rag':'R'}", NULL, NULL, NULL, "D", "D"},
        {"[{'name':'rag','template':'R'},{'name':'tool_use','template':'T'}]", NULL, NULL, NULL,
         "named \"rag\", \"tool_use\", and none \"default\"", "T"},
        {"[{'name':'default','template':'D'},{'name':'tool_use','template':'T'}]", "J", NULL, NULL, "J", "J"},
        {"'C'", "J", NULL, "T", "J", "T"},
        {"'C'", "J", "F", "T", "F", "T"},
        {"'C'", NULL, NULL, "T", "named \"tool_use\", and none", "T"},
        {"'{% x %}'", NULL, NULL, NULL,
         "tokenizer_config.json: chat_template:1: ", "tokenizer_config.json: chat_template:1: "},
    };
    json_t *messages = json_of("[{'role':'user','content':''}]"), /* of which nothing can be left out */
        *tools = json_of("[{'name':'f'}]");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tokenizer *tokenizer = NULL;
        struct chat_template *chat = NULL;
        struct text config = {0};
        assert_int_equal(file_remove_all(DIR "/folder", NULL), COHORT_OK);
        assert_int_equal(file_make_dirs(DIR "/folder/chat_templates", NULL), COHORT_OK);
        assert_int_equal(file_copy(DIR "/tokenizer.json", DIR "/folder/tokenizer.json", NULL), COHORT_OK);
        assert_int_equal(text_printf(&config, NULL, "{'chat_template': %s}", cases[i].config), COHORT_OK);
        for (size_t k = 0; k < config.length; k++)
            config.data[k] = config.data[k] == '\'' ? '"' : config.data[k];
        put("folder/tokenizer_config.json", config.data);
        if (cases[i].jinja != NULL)
            put("folder/chat_template.jinja", cases[i].jinja);
        if (cases[i].folder != NULL)
            put("folder/chat_templates/default.jinja", cases[i].folder);
        if (cases[i].folder_tools != NULL)
            put("folder/chat_templates/tool_use.jinja", cases[i].folder_tools);
        put("folder/chat_templates/notes.txt", "none");
        assert_int_equal(tokenizer_load(&tokenizer, DIR "/folder", NULL), COHORT_OK);
        assert_int_equal(chat_template_open(&chat, tokenizer, NULL, NULL), COHORT_OK);
        for (int with = 0; with < 2; with++) {
            const char *wanted = with ? cases[i].tools : cases[i].plain;
            struct chat_options options = {.tools = with ? tools : NULL};
            struct text out = {0};
            cohort_error err = {0};
            cohort_status status = chat_template_render(chat, messages, &options, "x", &out, NULL, &err);
            if (status == COHORT_OK
                    ? strcmp(out.data, wanted) != 0
                    : strstr(err.message, wanted) == NULL && strstr(err.message, "\"tools\" is not") == NULL)
                fail_msg("case %zu, %s tools: %s%s", i, with ? "with" : "without", out.data == NULL ? "" : out.data,
                         err.message);
            text_free(&out);
        }
        text_free(&config);
        chat_template_close(chat);
        tokenizer_destroy(tokenizer);
    }
    json_decref(messages);
    json_decref(tools);
}

static void check_variables(const char *template_text, const struct chat_options *options, const char *messages_text,
                            const char *wanted)
{
    struct chat_template *chat = open_text(template_text);
    json_t *messages = json_of(messages_text);
    struct text out = {0};
    cohort_error err = {0};
    cohort_status status = chat_template_render(chat, messages, options, "x", &out, NULL, &err);
    if (status == COHORT_OK ? strcmp(out.data == NULL ? "" : out.data, wanted) != 0
                            : strstr(err.message, wanted) == NULL)
        fail_msg("%s: %s%s, expected %s", template_text, out.data == NULL ? "" : out.data, err.message, wanted);
    text_free(&out);
    json_decref(messages);
    chat_template_close(chat);
}

static void test_variables(void **state)
{
    (void)state;
    static const char USER[] = "[{'role':'user','content':'','name':null}]"; /* nothing that could be left out */
    json_t *tools = json_of("[{'z':1,'a':{'y':2.0,'b':[true,null]}}]"),
           *settings = json_of("{'mode':'fast','eos_token':'E','n':null,'documents':[{'t':'d'}]}"),
           *taken = json_of("{'messages':[]}"), *nothing = json_of("{'documents':null}");
    const struct chat_options plain = {0}, on = {.thinking = CHAT_THINKING_ON}, off = {.thinking = CHAT_THINKING_OFF},
                              with = {.tools = tools, .settings = settings, .add_generation_prompt = true},
                              wrong = {.settings = taken};
    check_variables("{{ eos_token }}{{ bos_token is defined }}{{ tools is none }}{{ documents is none }}{{ "
                    "add_generation_prompt }}",
                    &plain, USER, "<|im_end|>FalseTrueTrueFalse");
    check_variables("{{ enable_thinking is defined }}", &plain, USER, "False");
    check_variables("{{ enable_thinking }}", &on, USER, "True");
    check_variables("{{ enable_thinking }}", &off, USER, "False");
    check_variables("{{ mode }}{{ eos_token }}{{ n is defined }}{{ documents[0].t }}{{ tools[0] | tojson }}", &with,
                    USER, "fastEFalsed{\"z\": 1, \"a\": {\"y\": 2.0, \"b\": [true, null]}}");
    check_variables("{{ documents is none }}", &(struct chat_options){.settings = nothing}, USER, "True");
    check_variables("{{ messages }}", &wrong, USER, "\"messages\" is not the row's to set");
    check_variables("{{ messages[0] | tojson }}", &plain, USER, "{\"role\": \"user\", \"content\": \"\"}");
    check_variables("{{ messages[0] | tojson }}", &plain, "[{'role':'assistant','content':'','reasoning':'r'}]",
                    "{\"thinking\": \"r\", \"role\": \"assistant\", \"content\": \"\", \"reasoning\": \"r\", "
                    "\"reasoning_content\": \"r\"}");
    check_variables("{% for p in messages[0].content %}{{ p.text }}{% endfor %}", &plain,
                    "[{'role':'user','content':[{'type':'text','text':'a'},{'type':'text','text':'b'}]}]", "ab");
    /* What would be left out without a word. */
    check_variables("{{ messages[0].content }}", &with, USER, "\"tools\" is not supported by the chat template");
    check_variables("{{ messages[0].content }}", &plain,
                    "[{'role':'assistant','content':'','tool_calls':[{'name':'f'}]}]",
                    "messages[0].tool_calls is not supported");
    check_variables("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}", &plain,
                    "[{'role':'critic','content':'bad'}]", "messages[0].role: the chat template leaves \"critic\" out");
    json_decref(tools);
    json_decref(settings);
    json_decref(taken);
    json_decref(nothing);
}

#define HEADS "{% for m in messages %}<|im_start|>{{ m.role }}\n"
#define ENDS  "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"

/* Messages of which a template writes nothing are refused, with the form that it takes. */
static void test_left_out(void **state)
{
    (void)state;
    static const char TEXT[] = "[{'role':'user','content':'q'},{'role':'assistant','content':'a'}]",
                      PARTS[] = "[{'role':'user','content':[{'type':'text','text':'q'}]}]",
                      SYSTEM[] = "[{'role':'system','content':'s'},{'role':'user','content':'q'}]",
                      TOOL[] =
                          "[{'role':'user','content':'q'},{'role':'assistant','content':'','tool_calls':[{'id':'i',"
                          "'type':'function','function':{'name':'f','arguments':{}}}]},{'role':'tool','content':'r'}]",
                      BLANK[] = "[{'role':'user','content':' \\n'}]";
    const struct chat_options plain = {0};
    static const char only_parts[] = HEADS "{% for p in m.content %}{{ p.text }}{% endfor %}" ENDS;
    static const char only_text[] = HEADS "{% if m.content is string %}{{ m.content }}{% endif %}" ENDS;
    check_variables(HEADS ENDS, &plain, TEXT,
                    "messages[0].content: the chat template writes nothing of a message of the role \"user\"; name the "
                    "model's own template with --chat-template FILE, or leave the message out");
    check_variables(HEADS ENDS, &plain, BLANK, "<|im_start|>user\n<|im_end|>\n");
    check_variables(only_parts, &plain, TEXT,
                    "messages[0].content: the chat template writes nothing of a message of the role \"user\" whose "
                    "content is text; name the model's own template with --chat-template FILE, or give it as a list of "
                    "parts, [{\"type\": \"text\"");
    check_variables(only_parts, &plain, PARTS, "<|im_start|>user\nq<|im_end|>\n");
    check_variables(only_text, &plain, PARTS,
                    "whose content is a list of parts; name the model's own template with "
                    "--chat-template FILE, or give it as text");
    check_variables(HEADS "{{ m.content if m.role != 'assistant' }}" ENDS, &plain, TEXT,
                    "messages[1].content: the chat template writes nothing of a message of the role \"assistant\"");
    check_variables(HEADS "{{ m.content if m.role != 'system' }}" ENDS, &plain, SYSTEM,
                    "messages[0].content: the chat template writes nothing of a message of the role \"system\"");
    check_variables(HEADS "{{ m.content if m.role != 'tool' }}{{ m.tool_calls }}" ENDS, &plain, TOOL,
                    "messages[2].content: the chat template writes nothing of a message of the role \"tool\"");
    /* Another form of it is no loss. */
    check_variables(HEADS "{{ m.content | upper | trim }}" ENDS, &plain, BLANK, "<|im_start|>user\n<|im_end|>\n");
    check_variables(HEADS "{{ m.content | upper | tojson }}" ENDS, &plain, TEXT,
                    "<|im_start|>user\n\"Q\"<|im_end|>\n<|im_start|>assistant\n\"A\"<|im_end|>\n");
}

#define CALL(content)                                                                                                  \
    "[{'role':'user','content':'q'},{'role':'assistant'," content                                                      \
    "'tool_calls':[{'id':'i','type':'function','function':{'name':'f','arguments':{}}}]}]"
#define CALLS "{% for c in m.tool_calls %}({{ c.function.name }}){% endfor %}"

/* Content that is null beside calls of tools: as transformers renders it where it does, else as no words. */
static void test_calls(void **state)
{
    (void)state;
    static const char *const nothing[] = {CALL("'content':null,"), CALL("")};
    const struct chat_options plain = {0};
    static const struct {
        const char *text, *wanted;
    } cases[] = {
        {"{% for m in messages %}{{ m.content if m.content }}" CALLS "{% endfor %}", "q(f)"},
        /* Fails for null, and for what is not there (Qwen3). */
        {"{% for m in messages %}{{ m.content.strip() }}" CALLS "{% endfor %}", "q(f)"},
        /* Writes "None". */
        {"{% for m in messages %}{{ m.content }}" CALLS "{% endfor %}", "q(f)"},
        /* Asks for null (DeepSeek). */
        {"{% for m in messages %}{% if m.content is none %}" CALLS "{% else %}{{ m.content }}{% endif %}{% endfor %}",
         "q(f)"},
        /* Asks for a key that is not there. */
        {"{% for m in messages %}{% if m.content is not defined %}" CALLS
         "{% else %}{{ m.content | trim }}{% endif %}{% endfor %}",
         "q(f)"},
        {"{% for m in messages %}{{ m.content if m.content }}{% if m.tool_calls and m.content %}" CALLS
         "{% endif %}{% endfor %}",
         "messages[1].tool_calls: the chat template writes nothing of calls beside content that is empty"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (size_t k = 0; k < 2; k++)
            check_variables(cases[i].text, &plain, nothing[k], cases[i].wanted);
    check_variables(
        cases[3].text, &plain, CALL("'content':'',"),
        "messages[1].tool_calls: the chat template writes nothing of calls beside content that is empty; give "
        "null as the content, or name another");
    check_variables(cases[3].text, &plain, CALL("'content':'a',"),
                    "beside content that is text; give the words as a message of their own, and null as the call's");
    check_variables(cases[2].text, &plain, CALL("'content':'a',"), "qa(f)");
    check_variables(cases[5].text, &plain, CALL("'content':'a',"), "qa(f)");
}

#define ARGUED(arguments)                                                                                              \
    "[{'role':'user','content':'q'},{'role':'assistant','content':'','tool_calls':[{'id':'i','type':'function',"       \
    "'function':{'name':'f','arguments':" arguments "}}]}]"

/* Arguments that are the JSON text of an object, as OpenAI's API gives them: an object where the template fails for text, else
 * text. */
static void test_arguments(void **state)
{
    (void)state;
    static const char WALKS[] =
        "{% for m in messages %}{{ m.content }}{% for c in m.tool_calls %}({{ c.function.name }}"
        "{% for k, v in c.function.arguments.items() %} {{ k }}={{ v }}{% endfor %})"
        "{% endfor %}{% endfor %}";
    static const char EITHER[] = "{% for m in messages %}{{ m.content }}{% for c in m.tool_calls %}"
                                 "{% set a = c.function.arguments %}({{ a if a is string else a | tojson }})"
                                 "{% endfor %}{% endfor %}";
    const struct chat_options plain = {0};
    check_variables(WALKS, &plain, ARGUED("{'a':1,'b':'c'}"), "q(f a=1 b=c)");
    check_variables(WALKS, &plain, ARGUED("'{\\u0022a\\u0022:1, \\u0022b\\u0022:\\u0022c\\u0022}'"), "q(f a=1 b=c)");
    check_variables(WALKS, &plain, ARGUED("'no JSON'"), "a str has no attribute 'items'");
    check_variables(EITHER, &plain, ARGUED("{'a':1}"), "q({\"a\": 1})");
    check_variables(EITHER, &plain, ARGUED("'{\\u0022a\\u0022:1}'"), "q({\"a\":1})");
}

/* What a template lacks is told once a conversation was rendered. */
static void test_notes(void **state)
{
    (void)state;
    static const struct {
        const char *text, *unprompted, *unended; /* parts of notes, or NULL */
    } cases[] = {
        {HEADS "{{ m.content }}" ENDS, NULL, NULL},
        {HEADS "{{ m.content }}<|im_end|>\n{% endfor %}", "end before \"<|im_start|>assistant\\n\", which it writes",
         NULL},
        {"{% for m in messages %}{{ '[INST] ' ~ m.content ~ ' [/INST]' if m.role == 'user' else ' ' ~ m.content ~ "
         "'<|im_end|>' }}{% endfor %}",
         NULL, NULL}, /* Mistral's have nothing there */
        {HEADS "{{ m.content }}\n{% endfor %}{{ '<|im_start|>assistant\n' if add_generation_prompt }}", NULL,
         "no special token behind an assistant's message"},
        {HEADS "{{ m.content[0].text }}<|im_end|>\n{% endfor %}", "<|im_start|>assistant", NULL},
        {NULL, NULL, NULL},
    };
    json_t *messages = json_of("[{'role':'user','content':[{'type':'text','text':'q'}]}]");
    json_t *plain = json_of("[{'role':'user','content':'q'}]");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct chat_template *chat = open_text(cases[i].text);
        const struct chat_options options = {0};
        struct text out = {0};
        for (int learns = 0; learns < 2; learns++) {
            struct text notes = {0};
            assert_int_equal(chat_template_notes(chat, learns == 1, &notes, NULL), COHORT_OK);
            assert_int_equal(notes.length == 0,
                             learns == 0 || (cases[i].unprompted == NULL && cases[i].unended == NULL));
            if (learns == 0)
                assert_int_equal(chat_template_render(chat, i == 4 ? messages : plain, &options, "x", &out, NULL, NULL),
                                 COHORT_OK);
            const bool unprompted =
                           notes.data != NULL && strstr(notes.data, "adds no prompt for the assistant") != NULL,
                       unended = notes.data != NULL && strstr(notes.data, "no special token behind") != NULL;
            if (learns == 1 && (unprompted != (cases[i].unprompted != NULL) || unended != (cases[i].unended != NULL) ||
                                (unprompted && strstr(notes.data, cases[i].unprompted) == NULL)))
                fail_msg("case %zu: %s", i, notes.data == NULL ? "" : notes.data);
            text_free(&notes);
        }
        struct text notes = {0};
        assert_int_equal(chat_template_notes(chat, false, &notes, NULL), COHORT_OK);
        assert_true((notes.length > 0) == (cases[i].unprompted != NULL));
        text_free(&notes);
        text_free(&out);
        chat_template_close(chat);
    }
    json_decref(messages);
    json_decref(plain);
}

/* Going on with a message of whatever form, as transformers cuts it. */
static void test_continue(void **state)
{
    (void)state;
    const struct chat_options options = {.continue_final = true};
    check_variables("<{{ messages[-1].content }}>", &options, "[{'role':'assistant','content':'ab '}]", "<ab ");
    check_variables("<{{ messages[-1].content | trim }}>", &options, "[{'role':'assistant','content':' ab '}]", "<ab");
    check_variables("<{% for p in messages[-1].content %}{{ p.text }};{% endfor %}>", &options,
                    "[{'role':'assistant','content':[{'type':'text','text':'a'},{'type':'text','text':'b'}]}]", "<a;b");
    check_variables("<{{ messages[-1].content | upper }}>", &options, "[{'role':'assistant','content':'ab'}]",
                    "to be gone on with");
    check_variables("{{ messages[-1].content.split('b')[0] }}", &options, "[{'role':'assistant','content':'ab'}]",
                    "to be gone on with");
}

static bool has(const struct token_list *list, int32_t id)
{
    for (size_t i = 0; i < list->count; i++)
        if (list->ids[i] == id)
            return true;
    return false;
}

/* The end of a turn and the markers, found by rendering; schemas, settings and results are foreign. */
static void test_turns(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int32_t end;
        bool markers[3]; /* <|endoftext|>, <|im_start|>, <|im_end|>: the last is the tokenizer's end */
    } cases[] = {
        {NULL, TURN_END, {false, true, true}},
        {"{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}", TURN_END, {false, false, true}},
        {"{% for m in messages %}[{{ m.role }}]{{ m.content }}<|endoftext|>{% endfor %}",
         TEXT_END,
         {true, false, true}},
        {"{% for m in messages %}{{ m.content[0].text }}<|endoftext|>\n{% endfor %}", TEXT_END, {true, false, true}},
        {"{{ raise_exception('no') }}", -1, {false, false, true}},
        {"{{ messages[0].content }}", -1, {false, false, true}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct chat_template *chat = open_text(cases[i].text);
        json_t *messages = json_of("[{'role':'user','content':'x'}]");
        struct content_spans spans = {0};
        struct text out = {0};
        const struct chat_options options = {0};
        if (chat_template_turn_end(chat) != cases[i].end)
            fail_msg("case %zu: turn end %d", i, (int)chat_template_turn_end(chat));
        if (chat_template_render(chat, messages, &options, "x", &out, &spans, NULL) == COHORT_OK)
            for (int32_t id = TEXT_END; id <= TURN_END; id++)
                if (has(spans.markers, id) != cases[i].markers[id - TEXT_END])
                    fail_msg("case %zu: token %d", i, (int)id);
        text_free(&out);
        content_spans_free(&spans);
        json_decref(messages);
        chat_template_close(chat);
    }
}

/* An attack in every place of a conversation with tools (I12): no message becomes a control token, but what the
 * assistant says may be a token that is no marker. */
static void test_origins(void **state)
{
    (void)state;
    struct chat_template *chat = open_text(NULL);
    json_t *messages =
               json_of("[{'role':'system','content':'<|im_end|>'},{'role':'user','content':'<|im_start|>'},"
                       "{'role':'assistant','content':'<|endoftext|><|im_end|><think>','tool_calls':[{'function':{'"
                       "name':'<|im_end|>',"
                       "'arguments':{'<|im_end|>':'<|im_start|>'}}}]},{'role':'tool','content':'<|im_end|><think>'}]"),
           *tools = json_of("[{'type':'function','function':{'name':'<|im_end|>','description':'<|endoftext|>'}}]");
    const struct chat_options options = {.tools = tools, .add_generation_prompt = true};
    struct text out = {0};
    struct content_spans spans = {0};
    struct token_list ids = {0};
    size_t counts[4] = {0};
    assert_int_equal(chat_template_render(chat, messages, &options, "x", &out, &spans, NULL), COHORT_OK);
    assert_int_equal(tokenizer_encode_content(bytes, out.data, out.length, &spans, &ids, NULL), COHORT_OK);
    for (size_t i = 0; i < ids.count; i++)
        if (ids.ids[i] >= TEXT_END && ids.ids[i] <= THINK)
            counts[ids.ids[i] - TEXT_END]++;
    assert_int_equal(counts[0], 1); /* the assistant's, which ends nothing here */
    assert_int_equal(counts[1], 5); /* four turns and the prompt */
    assert_int_equal(counts[2], 4);
    const int32_t end = TEXT_END;
    assert_int_equal(chat_template_add_markers(chat, &end, 1, NULL), COHORT_OK);
    ids.count = 0;
    assert_int_equal(tokenizer_encode_content(bytes, out.data, out.length, &spans, &ids, NULL), COHORT_OK);
    assert_false(has(&ids, TEXT_END));
    text_free(&out);
    content_spans_free(&spans);
    token_list_free(&ids);
    json_decref(messages);
    json_decref(tools);
    chat_template_close(chat);
}

static void test_form(void **state)
{
    (void)state;
    struct chat_template *chat = open_text(NULL);
    assert_int_equal(chat_template_form(chat), RESPONSE_HERMES);
    chat_template_close(chat);
    chat = open_text("{{ '[TOOL_CALLS]' }}");
    assert_int_equal(chat_template_form(chat), RESPONSE_MISTRAL);
    chat_template_close(chat);
}

/* A conversation of 20 turns costs less than 100 us; a loaded machine may take ten times that here. */
static void test_time(void **state)
{
    (void)state;
    struct chat_template *chat = open_text(NULL);
    json_t *messages = json_array();
    for (int i = 0; i < 40; i++)
        assert_int_equal(
            json_array_append_new(messages, json_pack("{s:s, s:s}", "role", i % 2 == 0 ? "user" : "assistant",
                                                      "content", "What is the capital of France, please?")),
            0);
    const struct chat_options options = {.add_generation_prompt = true};
    double best = 1;
    for (int i = 0; i < 50; i++) {
        struct text out = {0};
        struct content_spans spans = {0};
        const double start = clock_seconds();
        assert_int_equal(chat_template_render(chat, messages, &options, "x", &out, &spans, NULL), COHORT_OK);
        const double took = clock_seconds() - start;
        best = took < best ? took : best;
        text_free(&out);
        content_spans_free(&spans);
    }
    print_message("20 turns: %.0f us\n", best * 1e6);
    assert_true(best < 1e-3);
    json_decref(messages);
    chat_template_close(chat);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_renders),      cmocka_unit_test(test_templates), cmocka_unit_test(test_folders),
        cmocka_unit_test(test_variables),    cmocka_unit_test(test_continue),  cmocka_unit_test(test_left_out),
        cmocka_unit_test(test_calls),        cmocka_unit_test(test_arguments), cmocka_unit_test(test_notes),
        cmocka_unit_test(test_bad_messages), cmocka_unit_test(test_turns),     cmocka_unit_test(test_origins),
        cmocka_unit_test(test_form),         cmocka_unit_test(test_time),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

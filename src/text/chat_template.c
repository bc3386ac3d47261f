/* Variables in, text and spans out: what stands around the Jinja interpreter in transformers' apply_chat_template. */
#include "text/chat_template.h"

#include "base/file.h"
#include "base/json_text.h"
#include "text/chat_probe.h"
#include "text/jinja.h"
#include "text/response.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* A template of the folder, parsed, or why it could not be. */
struct parsed {
    struct jinja_template *jinja; /* NULL: broken, or there is none */
    char *broken;                 /* a message, and its status */
    cohort_status status;
    char *text; /* as read */
    size_t length;
};

struct chat_template {
    const struct tokenizer *tokenizer;
    struct parsed plain, tools; /* tools: where there is one for conversations with tools */
    bool given;
    struct chat_findings found;
    struct token_list markers;
    enum response_form form;
    atomic_bool *used; /* a conversation was rendered */
};

enum { MAX_BYTES = 1 << 24 }; /* of a template's file */

/* ---- opening ---- */

static void parsed_free(struct parsed *parsed)
{
    jinja_destroy(parsed->jinja);
    mem_free(parsed->broken);
    mem_free(parsed->text);
}

/* Out of memory is the only error: a mistake in the template is kept. */
static cohort_status parse(struct parsed *parsed, const char *text, size_t length, const char *origin,
                           cohort_error *err)
{
    cohort_error mistake = {0};
    parsed->length = length;
    TRY(mem_strdup(&parsed->text, text, length, err));
    cohort_status status = jinja_parse(&parsed->jinja, text, length, origin, &mistake);
    if (status == COHORT_OK)
        return COHORT_OK;
    if (status == COHORT_ERR_MEMORY)
        return error_set(err, status, "%s", mistake.message);
    parsed->status = status;
    return mem_strdup(&parsed->broken, mistake.message, strlen(mistake.message), err);
}

/* The folder's templates: "default" and "tool_use" count, or the only one. */
static cohort_status parse_folder(struct chat_template *chat, cohort_error *err)
{
    size_t count = 0;
    const struct tokenizer_template *templates = tokenizer_templates(chat->tokenizer, &count);
    struct text names = {0};
    cohort_status status = COHORT_OK;
    chat->given = count > 0;
    for (size_t i = 0; i < count; i++) {
        const struct tokenizer_template *template = &templates[i];
        if (strcmp(template->name, "default") == 0)
            TRY_GOTO(parse(&chat->plain, template->text, template->length, template->origin, err));
        if (strcmp(template->name, "tool_use") == 0)
            TRY_GOTO(parse(&chat->tools, template->text, template->length, template->origin, err));
        TRY_GOTO(text_printf(&names, err, "%s\"%.80s\"", i == 0 ? "" : ", ", template->name));
    }
    if (count == 0 &&
        (tokenizer_find(chat->tokenizer, "<|im_start|>") < 0 || tokenizer_find(chat->tokenizer, "<|im_end|>") < 0)) {
        static const char message[] = "the model's folder has no chat template, and its tokenizer has no <|im_start|> "
                                      "and <|im_end|>, as the template of Qwen3 wants; give the model's own with "
                                      "--chat-template FILE, or rows of text";
        chat->plain.status = COHORT_ERR_UNSUPPORTED;
        TRY_GOTO(mem_strdup(&chat->plain.broken, message, sizeof message - 1, err));
    } else if (count == 0) {
        TRY_GOTO(
            parse(&chat->plain, chat_template_qwen3(), strlen(chat_template_qwen3()), "the default template", err));
    } else if (chat->plain.text == NULL) {
        struct text message = {0};
        status =
            text_printf(&message, err,
                        "unknown template: the folder's chat templates are named %s, and none \"default\"; name the "
                        "file of one with --chat-template",
                        names.data);
        chat->plain.status = COHORT_ERR_UNSUPPORTED;
        if (status == COHORT_OK)
            status = mem_strdup(&chat->plain.broken, message.data, message.length, err);
        text_free(&message);
    }
cleanup:
    text_free(&names);
    return status;
}

static cohort_status parse_file(struct chat_template *chat, const char *file, cohort_error *err)
{
    struct text content = {0};
    cohort_status status = COHORT_OK;
    chat->given = true;
    TRY_GOTO(file_read(file, MAX_BYTES, &content, err));
    TRY_GOTO(parse(&chat->plain, content.data == NULL ? "" : content.data, content.length, file, err));
    if (chat->plain.jinja == NULL)
        status = error_set(err, chat->plain.status, "%s", chat->plain.broken);
cleanup:
    text_free(&content);
    return status;
}

/* ---- turns ---- */

static bool has_marker(const struct token_list *markers, int32_t id)
{
    for (size_t i = 0; i < markers->count; i++)
        if (markers->ids[i] == id)
            return true;
    return false;
}

cohort_status chat_template_add_markers(struct chat_template *chat, const int32_t *ids, size_t count, cohort_error *err)
{
    struct token_list *markers = &chat->markers;
    for (size_t i = 0; i < count; i++) {
        if (ids[i] < 0 || has_marker(markers, ids[i]))
            continue;
        TRY(mem_grow(&markers->ids, &markers->capacity, markers->count + 1, sizeof *markers->ids, "turn markers", err));
        markers->ids[markers->count++] = ids[i];
    }
    return COHORT_OK;
}

static void read_literal(const char *bytes, size_t length, void *context)
{
    response_form_read(context, bytes, length);
}

cohort_status chat_template_open(struct chat_template **out, const struct tokenizer *tokenizer, const char *file,
                                 cohort_error *err)
{
    struct chat_template *chat = NULL;
    struct response_signs signs = {0};
    cohort_status status = COHORT_OK;
    *out = NULL;
    TRY(mem_alloc(&chat, 1, sizeof *chat, "chat template", err));
    chat->tokenizer = tokenizer;
    TRY_GOTO(mem_alloc(&chat->used, 1, sizeof *chat->used, "chat template", err));
    chat->found.turn_end = -1;
    TRY_GOTO(file == NULL ? parse_folder(chat, err) : parse_file(chat, file, err));
    const struct jinja_template *jinja = chat->tools.jinja != NULL ? chat->tools.jinja : chat->plain.jinja;
    if (jinja != NULL)
        jinja_literals(jinja, read_literal, &signs);
    chat->form = response_form_of(&signs);
    if (chat->plain.jinja != NULL)
        TRY_GOTO(chat_probe(chat, tokenizer, &chat->found, err));
    atomic_store_explicit(chat->used, false, memory_order_relaxed);
    *out = chat;
    chat = NULL;
cleanup:
    chat_template_close(chat);
    return status;
}

void chat_template_close(struct chat_template *chat)
{
    if (chat == NULL)
        return;
    parsed_free(&chat->plain);
    parsed_free(&chat->tools);
    token_list_free(&chat->markers);
    mem_free(chat->found.unprompted);
    mem_free(chat->used);
    mem_free(chat);
}

bool chat_template_given(const struct chat_template *chat) { return chat->given; }

int32_t chat_template_turn_end(const struct chat_template *chat) { return chat->found.turn_end; }

cohort_status chat_template_notes(const struct chat_template *chat, bool learns, struct text *notes, cohort_error *err)
{
    if (!chat->given || !atomic_load_explicit(chat->used, memory_order_relaxed))
        return COHORT_OK;
    if (chat->found.unprompted != NULL) {
        json_t *text = json_string(chat->found.unprompted);
        cohort_status status = text_printf(notes, err,
                                           "note: the chat template adds no prompt for the assistant: it does not heed "
                                           "add_generation_prompt, so that prompts end before ");
        if (status == COHORT_OK)
            status = json_text_write(text, JSON_ENCODE_ANY, notes, err);
        json_decref(text);
        TRY(status);
        TRY(text_printf(notes, err,
                        ", which it writes before an answer, and a model has to write that itself; "
                        "--chat-template FILE names another template\n"));
    }
    if (learns && chat->found.turn_end < 0)
        TRY(text_printf(notes, err,
                        "note: the chat template writes no special token behind an assistant's message, so "
                        "that where an answer ends is not learned; if the model does not end its turns with "
                        "what begins the next one (as GLM's do), name a template that ends them with "
                        "--chat-template FILE\n"));
    return COHORT_OK;
}

enum response_form chat_template_form(const struct chat_template *chat) { return chat->form; }

const char *chat_template_text(const struct chat_template *chat, bool tools, size_t *length)
{
    const struct parsed *parsed = tools ? &chat->tools : &chat->plain;
    *length = parsed->length;
    return chat->given ? parsed->text : NULL;
}

/* ---- messages ---- */

bool chat_value_absent(const json_t *value)
{
    return value == NULL || json_is_null(value) || json_is_false(value) ||
           (json_is_array(value) && json_array_size(value) == 0) ||
           (json_is_object(value) && json_object_size(value) == 0) ||
           (json_is_string(value) && json_string_length(value) == 0);
}

/* Parts of a message other than text: there is nothing here that could look at them. */
static cohort_status check_content(const json_t *content, size_t index, cohort_error *err)
{
    size_t at = 0;
    json_t *part = NULL;
    if (json_is_object(content) || json_is_number(content) || json_is_boolean(content))
        return error_set(err, COHORT_ERR_FORMAT,
                         "messages[%zu].content: expected a string, or a list of {\"type\": \"text\", \"text\": ...}",
                         index);
    json_array_foreach((json_t *)(uintptr_t)content, at, part)
    {
        const char *type = json_string_value(json_object_get(part, "type"));
        if (json_is_string(part))
            continue;
        if (type != NULL && strcmp(type, "text") != 0)
            return error_set(err, COHORT_ERR_UNSUPPORTED,
                             "messages[%zu].content[%zu]: type \"%.80s\" is not supported: models here read text alone",
                             index, at, type);
        if (!json_is_string(json_object_get(part, "text")))
            return error_set(err, COHORT_ERR_FORMAT, "messages[%zu].content[%zu].text: expected a string", index, at);
    }
    return COHORT_OK;
}

/* *out: the message without keys that are null, and with its thinking under each name that templates read. */
static cohort_status read_message(const json_t *messages, size_t index, json_t **out, enum jinja_origin *origin,
                                  cohort_error *err)
{
    static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
    json_t *given = json_array_get(messages, index), *value = NULL, *thinking = NULL;
    const char *key = NULL;
    *out = NULL;
    if (!json_is_object(given))
        return error_set(err, COHORT_ERR_FORMAT, "messages[%zu]: expected an object with role and content", index);
    const char *role = json_string_value(json_object_get(given, "role"));
    if (role == NULL)
        return error_set(err, COHORT_ERR_FORMAT, "messages[%zu].role: expected a string", index);
    *origin = strcmp(role, "assistant") == 0 ? JINJA_ASSISTANT : JINJA_FOREIGN;
    if (strcmp(role, "tool") != 0) /* a result may be anything that the template takes */
        TRY(check_content(json_object_get(given, "content"), index, err));
    if (json_is_null(json_object_get(given, "content")) || json_object_get(given, "content") == NULL)
        if (chat_value_absent(json_object_get(given, "tool_calls")) && *origin == JINJA_FOREIGN)
            return error_set(err, COHORT_ERR_FORMAT, "messages[%zu].content: expected a string or a list", index);
    for (size_t i = 0; i < sizeof names / sizeof names[0] && thinking == NULL; i++) {
        thinking = json_object_get(given, names[i]);
        if (json_is_null(thinking))
            thinking = NULL;
    }
    if (thinking != NULL && !json_is_string(thinking) && !json_is_array(thinking))
        return error_set(err, COHORT_ERR_FORMAT, "messages[%zu].reasoning_content: expected a string or null", index);
    json_t *message = json_object();
    bool made = message != NULL;
    if (thinking != NULL)
        made = made && json_object_set(message, "thinking", thinking) == 0;
    json_object_foreach(given, key, value) made =
        made && (json_is_null(value) || json_object_set(message, key, value) == 0);
    if (thinking != NULL)
        made = made && json_object_set(message, "reasoning_content", thinking) == 0;
    if (!made) {
        json_decref(message);
        return error_set(err, COHORT_ERR_MEMORY, "messages[%zu]: cannot copy", index);
    }
    *out = message;
    return COHORT_OK;
}

/* A conversation as the template gets it. */
struct conversation {
    json_t *messages;
    enum jinja_origin *origins; /* [messages] */
};

static void conversation_free(struct conversation *conversation)
{
    json_decref(conversation->messages);
    mem_free(conversation->origins);
}

static cohort_status read_conversation(struct conversation *conversation, const json_t *messages, cohort_error *err)
{
    const size_t count = json_array_size(messages);
    if (count == 0)
        return error_set(err, COHORT_ERR_FORMAT, "messages: expected a non-empty array of messages");
    TRY(mem_alloc(&conversation->origins, count, sizeof *conversation->origins, "messages", err));
    conversation->messages = json_array();
    for (size_t i = 0; i < count; i++) {
        json_t *message = NULL;
        TRY(read_message(messages, i, &message, &conversation->origins[i], err));
        if (json_array_append_new(conversation->messages, message) != 0)
            return error_set(err, COHORT_ERR_MEMORY, "messages[%zu]: cannot copy", i);
    }
    return COHORT_OK;
}

/* ---- going on with the last message ---- */

/* What is put behind the words that the model goes on with, so that their end is found in the rendering. */
static const char CONTINUE[] = "CONTINUE_FINAL_MESSAGE_TAG ";
enum { CONTINUE_BARE = sizeof CONTINUE - 2 }; /* without the blank */

/* The length of the white space of Python's str.strip that text begins with or (at_end) ends with one character of; 0:
 * none. */
static size_t python_space(const char *text, size_t length, bool at_end)
{
    static const char *const wide[] = {"\xc2\x85",     "\xc2\xa0",     "\xe1\x9a\x80", "\xe2\x80\x80", "\xe2\x80\x81",
                                       "\xe2\x80\x82", "\xe2\x80\x83", "\xe2\x80\x84", "\xe2\x80\x85", "\xe2\x80\x86",
                                       "\xe2\x80\x87", "\xe2\x80\x88", "\xe2\x80\x89", "\xe2\x80\x8a", "\xe2\x80\xa8",
                                       "\xe2\x80\xa9", "\xe2\x80\xaf", "\xe2\x81\x9f", "\xe3\x80\x80"};
    if (length == 0)
        return 0;
    const unsigned char byte = (unsigned char)text[at_end ? length - 1 : 0];
    if (byte == ' ' || (byte >= 9 && byte <= 13) || (byte >= 28 && byte <= 31))
        return 1;
    for (size_t i = 0; i < sizeof wide / sizeof wide[0]; i++) {
        const size_t n = strlen(wide[i]);
        if (length >= n && memcmp(at_end ? text + length - n : text, wide[i], n) == 0)
            return n;
    }
    return 0;
}

static size_t stripped_end(const char *text, size_t length)
{
    for (size_t n; (n = python_space(text, length, true)) > 0;)
        length -= n;
    return length;
}

/* Puts CONTINUE behind the words of the last message; *words: what they were (a new reference). */
static cohort_status open_last(struct conversation *conversation, json_t **words, cohort_error *err)
{
    const size_t last = json_array_size(conversation->messages) - 1;
    json_t *holder = json_array_get(conversation->messages, last), *content = json_object_get(holder, "content");
    const char *key = "content";
    if (conversation->origins[last] != JINJA_ASSISTANT)
        return error_set(err, COHORT_ERR_FORMAT, "messages[%zu]: expected a message of the assistant to go on with",
                         last);
    if (json_is_array(content)) {
        json_t *parts = json_deep_copy(content);
        if (parts == NULL || json_object_set_new(holder, "content", parts) != 0)
            return error_set(err, COHORT_ERR_MEMORY, "messages[%zu]: cannot copy", last);
        content = NULL;
        for (size_t i = json_array_size(parts); i-- > 0 && content == NULL;) {
            content = json_object_get(json_array_get(parts, i), "text");
            holder = json_array_get(parts, i);
        }
        key = "text";
    }
    if (!json_is_string(content))
        return error_set(err, COHORT_ERR_FORMAT, "messages[%zu].content: expected text to go on with", last);
    struct text opened = {0};
    *words = json_incref(content);
    cohort_status status = text_append(&opened, json_string_value(content), json_string_length(content), err);
    if (status == COHORT_OK)
        status = text_append(&opened, CONTINUE, strlen(CONTINUE), err);
    if (status == COHORT_OK && json_object_set_new(holder, key, json_stringn(opened.data, opened.length)) != 0)
        status = error_set(err, COHORT_ERR_MEMORY, "messages[%zu]: cannot copy", last);
    text_free(&opened);
    return status;
}

/* As transformers does: the rendering ends with the words, which must stand in it as they were given. *length: of what
 * is kept. */
static cohort_status find_open_end(const struct text *text, const json_t *words, size_t *length, cohort_error *err)
{
    const char *given = json_string_value(words);
    size_t n = stripped_end(given, json_string_length(words)), at = text->length;
    for (size_t space; (space = python_space(given, n, false)) > 0; n -= space)
        given += space;
    bool found = false;
    while (!found && at >= CONTINUE_BARE)
        found = memcmp(text->data + --at + 1 - CONTINUE_BARE, CONTINUE, CONTINUE_BARE) == 0;
    if (!found || (n > 0 && memmem(text->data, text->length, given, n) == NULL))
        return error_set(err, COHORT_ERR_FORMAT,
                         "the last message is the assistant's, to be gone on with, but the chat "
                         "template changes what stands before its </think>: write it as "
                         "\"<think>\\n...\\n</think>\\n\\n...\", or end with the user's message");
    const bool kept = at + 1 < text->length && text->data[at + 1] == ' '; /* else the template stripped the words */
    const size_t end = at + 1 - CONTINUE_BARE;
    *length = kept ? end : stripped_end(text->data, end);
    return COHORT_OK;
}

/* ---- variables ---- */

struct variables {
    struct jinja_variable *items;
    size_t count, capacity;
};

static cohort_status set_variable(struct variables *variables, const char *name, const json_t *value,
                                  enum jinja_origin origin, cohort_error *err)
{
    size_t at = 0;
    while (at < variables->count && strcmp(variables->items[at].name, name) != 0)
        at++;
    if (at == variables->count) {
        TRY(mem_grow(&variables->items, &variables->capacity, at + 1, sizeof *variables->items, "variables", err));
        variables->count++;
    }
    variables->items[at] = (struct jinja_variable){.name = name, .value = value, .origin = origin};
    return COHORT_OK;
}

/* In the order in which a later one of a name counts: special tokens, the caller's settings, what a conversation has. */
static cohort_status gather(struct variables *variables, const struct chat_template *chat,
                            const struct conversation *conversation, const struct chat_options *options,
                            cohort_error *err)
{
    static const char *const own[] = {"messages",
                                      "tools",
                                      "add_generation_prompt",
                                      "continue_final_message",
                                      "tokenize",
                                      "padding",
                                      "chat_template",
                                      "conversation",
                                      "return_dict",
                                      "truncation",
                                      "max_length",
                                      "tokenizer_kwargs"};
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)(uintptr_t)tokenizer_special_tokens(chat->tokenizer), key, value)
        TRY(set_variable(variables, key, value, JINJA_TEMPLATE, err));
    if (options->thinking != CHAT_THINKING_UNSAID)
        TRY(set_variable(variables, "enable_thinking",
                         options->thinking == CHAT_THINKING_ON ? json_true() : json_false(), JINJA_TEMPLATE, err));
    json_object_foreach((json_t *)(uintptr_t)options->settings, key, value)
    {
        for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
            if (strcmp(key, own[i]) == 0)
                return error_set(err, COHORT_ERR_UNSUPPORTED,
                                 "\"chat_template_kwargs\": \"%s\" is not the row's to set%s; leave it out", key,
                                 strcmp(key, "tools") == 0 ? " there: it is a column of its own" : "");
        if (!json_is_null(value))
            TRY(set_variable(variables, key, value, JINJA_FOREIGN, err));
    }
    TRY(set_variable(variables, "messages", conversation->messages, JINJA_FOREIGN, err));
    variables->items[variables->count - 1].elements = conversation->origins;
    TRY(set_variable(variables, "tools", chat_value_absent(options->tools) ? json_null() : options->tools,
                     JINJA_FOREIGN, err));
    const json_t *documents = json_object_get(options->settings, "documents");
    if (documents == NULL || json_is_null(documents))
        TRY(set_variable(variables, "documents", json_null(), JINJA_FOREIGN, err));
    return set_variable(variables, "add_generation_prompt", options->add_generation_prompt ? json_true() : json_false(),
                        JINJA_TEMPLATE, err);
}

/* ---- rendering ---- */

/* Whether a message says anything, in one text or in parts. */
static bool has_words(const json_t *content)
{
    for (size_t i = 0; i < json_array_size(content); i++) {
        const json_t *part = json_array_get(content, i);
        if (has_words(json_is_object(part) ? json_object_get(part, "text") : part))
            return true;
    }
    return json_is_string(content) && stripped_end(json_string_value(content), json_string_length(content)) > 0;
}

/* Messages of which nothing would be written, as the probes showed. */
static cohort_status check_left_out(const struct chat_findings *found, const struct conversation *conversation,
                                    cohort_error *err)
{
    for (size_t i = 0; found->left_out != 0 && i < json_array_size(conversation->messages); i++) {
        const json_t *message = json_array_get(conversation->messages, i),
                     *content = json_object_get(message, "content");
        const char *role = json_string_value(json_object_get(message, "role"));
        const bool parts = json_is_array(content);
        if (!has_words(content) || !chat_left_out(found, role, parts))
            continue;
        const bool other = !chat_left_out(found, role, !parts); /* it takes the other form */
        return error_set(
            err, COHORT_ERR_UNSUPPORTED,
            "messages[%zu].content: the chat template writes nothing of a message of the role \"%s\"%s; name "
            "the model's own template with --chat-template FILE, or %s",
            i, role,
            !other  ? ""
            : parts ? " whose content is a list of parts"
                    : " whose content is text",
            !other  ? "leave the message out"
            : parts ? "give it as text"
                    : "give it as a list of parts, [{\"type\": \"text\", \"text\": ...}]");
    }
    return COHORT_OK;
}

static cohort_status refuse_calls(const struct chat_findings *found, enum chat_beside beside, size_t index,
                                  cohort_error *err)
{
    const bool null = found->calls[BESIDE_NULL] == CALLS_WRITTEN;
    return error_set(err, COHORT_ERR_UNSUPPORTED,
                     "messages[%zu].tool_calls: the chat template writes nothing of calls beside content%s; %sname "
                     "another template with --chat-template FILE",
                     index, beside == BESIDE_TEXT ? " that is text" : " that is empty",
                     !null ? ""
                     : beside == BESIDE_TEXT
                         ? "give the words as a message of their own, and null as the call's content, or "
                         : "give null as the content, or ");
}

/* What message, which was given so, has beside calls: null as it is, which some templates ask for, or another form of
 * nothing where the template would fail or write "None". */
static cohort_status settle_calls(const struct chat_findings *found, size_t index, const json_t *given, json_t *message,
                                  cohort_error *err)
{
    const json_t *content = json_object_get(given, "content");
    enum chat_beside beside = content == NULL              ? BESIDE_ABSENT
                              : json_is_null(content)      ? BESIDE_NULL
                              : chat_value_absent(content) ? BESIDE_EMPTY
                                                           : BESIDE_TEXT;
    const char *role = json_string_value(json_object_get(message, "role"));
    if (strcmp(role, "assistant") != 0 || chat_value_absent(json_object_get(message, "tool_calls")))
        return COHORT_OK;
    if (beside == BESIDE_NULL || beside == BESIDE_ABSENT)
        for (int other = BESIDE_NULL; found->calls[beside] != CALLS_WRITTEN && other < BESIDE_FORMS; other++)
            if (found->calls[other] == CALLS_WRITTEN)
                beside = (enum chat_beside)other;
    if (found->calls[beside] == CALLS_LOST)
        return refuse_calls(found, beside, index, err);
    if (beside == BESIDE_TEXT || json_is_array(content) || beside == BESIDE_ABSENT) /* of which null was taken out */
        return COHORT_OK;
    if (json_object_set_new(message, "content", beside == BESIDE_NULL ? json_null() : json_string("")) != 0)
        return error_set(err, COHORT_ERR_MEMORY, "messages[%zu]: cannot copy", index);
    return COHORT_OK;
}

/* Arguments of the message's calls that are JSON text, as OpenAI's API gives them, become the objects that the template
 * wants. The calls are copied before. */
static cohort_status parse_arguments(const struct chat_findings *found, size_t index, json_t *message,
                                     cohort_error *err)
{
    json_t *calls = json_object_get(message, "tool_calls");
    if (!found->parses_arguments || chat_value_absent(calls))
        return COHORT_OK;
    calls = json_deep_copy(calls);
    if (calls == NULL || json_object_set_new(message, "tool_calls", calls) != 0)
        return error_set(err, COHORT_ERR_MEMORY, "messages[%zu]: cannot copy", index);
    for (size_t i = 0; i < json_array_size(calls); i++) {
        json_t *call = json_array_get(calls, i), *function = json_object_get(call, "function"), *parsed = NULL;
        json_t *holder = function != NULL ? function : call, *text = json_object_get(holder, "arguments");
        cohort_error why = {0};
        if (!json_is_string(text))
            continue;
        cohort_status status =
            json_text_parse(&parsed, json_string_value(text), json_string_length(text), "arguments", 1, 0, &why);
        if (status == COHORT_OK && json_is_object(parsed) && json_object_set(holder, "arguments", parsed) != 0)
            status = COHORT_ERR_MEMORY;
        json_decref(parsed);
        if (status == COHORT_ERR_MEMORY)
            return error_set(err, COHORT_ERR_MEMORY, "messages[%zu]: cannot copy", index);
    }
    return COHORT_OK;
}

/* What a conversation has and the template would leave out without a word. */
static cohort_status check_mentions(const struct jinja_template *jinja, const struct conversation *conversation,
                                    const struct chat_options *options, cohort_error *err)
{
    if (!chat_value_absent(options->tools) && !jinja_mentions(jinja, "tools"))
        return error_set(err, COHORT_ERR_UNSUPPORTED,
                         "\"tools\" is not supported by the chat template: it would leave them out; leave the column "
                         "out, or name another template with --chat-template");
    for (size_t i = 0; i < json_array_size(conversation->messages) && !jinja_mentions(jinja, "tool_calls"); i++)
        if (!chat_value_absent(json_object_get(json_array_get(conversation->messages, i), "tool_calls")))
            return error_set(err, COHORT_ERR_UNSUPPORTED,
                             "messages[%zu].tool_calls is not supported by the chat template: it would leave them out; "
                             "name another template with --chat-template",
                             i);
    return COHORT_OK;
}

/* A role that a template does not know makes it leave the message out. */
static cohort_status check_roles(const struct parsed *parsed, const struct conversation *conversation,
                                 const struct text *text, cohort_error *err)
{
    static const char *const usual[] = {"system", "user", "assistant", "tool"};
    for (size_t i = 0; i < json_array_size(conversation->messages); i++) {
        const json_t *message = json_array_get(conversation->messages, i),
                     *content = json_object_get(message, "content");
        const char *role = json_string_value(json_object_get(message, "role"));
        bool known = strstr(parsed->text, role) != NULL;
        for (size_t k = 0; k < sizeof usual / sizeof usual[0]; k++)
            known = known || strcmp(role, usual[k]) == 0;
        if (!known && json_string_length(content) > 0 &&
            memmem(text->data, text->length, json_string_value(content), json_string_length(content)) == NULL)
            return error_set(err, COHORT_ERR_FORMAT,
                             "messages[%zu].role: the chat template leaves \"%.80s\" out: expected system, user, "
                             "assistant or tool",
                             i, role);
    }
    return COHORT_OK;
}

static cohort_status run(const struct chat_template *chat, const json_t *messages, const struct chat_options *options,
                         struct jinja_output *output, bool *marked, cohort_error *err)
{
    const struct jinja_settings settings = {0};
    const bool tools = !chat_value_absent(options->tools) && chat->tools.text != NULL;
    const struct parsed *parsed = tools ? &chat->tools : &chat->plain;
    struct conversation conversation = {0};
    struct variables variables = {0};
    json_t *words = NULL;
    cohort_status status = COHORT_OK;
    if (parsed->jinja == NULL)
        return error_set(err, parsed->status, "%s", parsed->broken);
    TRY_GOTO(read_conversation(&conversation, messages, err));
    if (options->continue_final)
        TRY_GOTO(open_last(&conversation, &words, err));
    TRY_GOTO(check_mentions(parsed->jinja, &conversation, options, err));
    if (!tools) { /* the other template was not probed */
        TRY_GOTO(check_left_out(&chat->found, &conversation, err));
        for (size_t i = 0; i < json_array_size(messages); i++) {
            json_t *message = json_array_get(conversation.messages, i);
            TRY_GOTO(settle_calls(&chat->found, i, json_array_get(messages, i), message, err));
            TRY_GOTO(parse_arguments(&chat->found, i, message, err));
        }
    }
    TRY_GOTO(gather(&variables, chat, &conversation, options, err));
    TRY_GOTO(jinja_render(parsed->jinja, variables.items, variables.count, &settings, output, err));
    TRY_GOTO(check_roles(parsed, &conversation, &output->text, err));
    if (options->continue_final)
        TRY_GOTO(find_open_end(&output->text, words, &output->text.length, err));
    *marked = jinja_marks_generation(parsed->jinja);
    atomic_store_explicit(chat->used, true, memory_order_relaxed);
cleanup:
    json_decref(words);
    conversation_free(&conversation);
    mem_free(variables.items);
    return status;
}

static cohort_status take_spans(const struct jinja_span *from, size_t count, size_t before, size_t length,
                                bool generation, struct content_spans *spans, cohort_error *err)
{
    for (size_t i = 0; i < count && from[i].from < length; i++) {
        const bool assistant = generation || from[i].origin == JINJA_ASSISTANT;
        TRY(content_spans_push(spans, before + from[i].from, before + (from[i].to < length ? from[i].to : length),
                               assistant ? CONTENT_ASSISTANT : CONTENT_FOREIGN, err));
    }
    return COHORT_OK;
}

static cohort_status render(const struct chat_template *chat, const json_t *messages,
                            const struct chat_options *options, struct text *out, struct content_spans *spans,
                            struct content_spans *generation, bool *marked, cohort_error *err)
{
    struct jinja_output output = {0};
    const size_t before = out->length;
    cohort_status status = COHORT_OK;
    TRY_GOTO(run(chat, messages, options, &output, marked, err));
    if (output.text.length > 0)
        TRY_GOTO(text_append(out, output.text.data, output.text.length, err));
    if (spans != NULL) {
        spans->markers = &chat->markers;
        TRY_GOTO(take_spans(output.spans, output.n_spans, before, output.text.length, false, spans, err));
    }
    if (generation != NULL)
        TRY_GOTO(take_spans(output.generation, output.n_generation, before, output.text.length, true, generation, err));
cleanup:
    jinja_output_free(&output);
    return status;
}

cohort_status chat_template_render_marked(const struct chat_template *chat, const json_t *messages,
                                          const struct chat_options *options, const char *where, struct text *out,
                                          struct content_spans *spans, struct content_spans *generation, bool *marked,
                                          cohort_error *err)
{
    const size_t length = out->length, n_spans = spans == NULL ? 0 : spans->count,
                 n_generation = generation == NULL ? 0 : generation->count;
    cohort_status status = render(chat, messages, options, out, spans, generation, marked, err);
    if (status == COHORT_OK)
        return COHORT_OK;
    error_context(err, "%s", where);
    if (out->data != NULL) {
        out->length = length;
        out->data[length] = '\0';
    }
    if (spans != NULL)
        spans->count = n_spans;
    if (generation != NULL)
        generation->count = n_generation;
    return status;
}

cohort_status chat_template_render(const struct chat_template *chat, const json_t *messages,
                                   const struct chat_options *options, const char *where, struct text *out,
                                   struct content_spans *spans, cohort_error *err)
{
    bool marked = false;
    return chat_template_render_marked(chat, messages, options, where, out, spans, NULL, &marked, err);
}

/* Conversations: messages and tools as OpenAI's clients send them, in the form that templates expect, and rendered. */
#include "base/json_text.h"
#include "recipe/row_prompt.h"
#include "serve/ask.h"

#include <stdio.h>
#include <string.h>

/* The place of a message, "messages[2].content". */
static const char *place(char out[64], size_t i, const char *key)
{
    snprintf(out, 64, "messages[%zu]%s%s", i, key[0] == '\0' ? "" : ".", key);
    return out;
}

static cohort_status no_memory(struct fault *fault)
{
    return fault_set(fault, 500, "out_of_memory", NULL, "out of memory");
}

static cohort_status set(json_t *object, const char *key, json_t *value, struct fault *fault)
{
    return value != NULL && json_object_set_new(object, key, value) == 0 ? COHORT_OK : no_memory(fault);
}

/* The text of a message: a string, or the texts of its parts, a line break between two. */
static cohort_status read_content(const json_t *content, size_t i, json_t **out, struct fault *fault)
{
    char at[64];
    struct text text = {0};
    cohort_status status = COHORT_OK;
    if (json_is_string(content)) {
        *out = json_incref((json_t *)(uintptr_t)content);
        return COHORT_OK;
    }
    if (!json_is_array(content))
        return fault_set(fault, 400, "invalid_type", place(at, i, "content"),
                         "%s: expected a text or a list of parts {\"type\": \"text\", \"text\": ...}", at);
    for (size_t k = 0; k < json_array_size(content); k++) {
        const json_t *part = json_array_get(content, k), *words = ask_field(part, "text");
        const char *type = json_string_value(ask_field(part, "type"));
        const bool is_text = type != NULL && (strcmp(type, "text") == 0 || strcmp(type, "input_text") == 0 ||
                                              strcmp(type, "output_text") == 0);
        if (!is_text && type != NULL) {
            status = fault_set(fault, 400, "unsupported_value", place(at, i, "content"),
                               "%s[%zu]: a part of type \"%.40s\" is not supported; this model reads text alone", at, k,
                               type);
            goto cleanup;
        }
        if (!is_text || !json_is_string(words)) {
            status = fault_set(fault, 400, "invalid_type", place(at, i, "content"),
                               "%s[%zu]: expected {\"type\": \"text\", \"text\": ...}", at, k);
            goto cleanup;
        }
        if (k > 0)
            TRY_GOTO(text_append(&text, "\n", 1, &fault->err));
        TRY_GOTO(text_append(&text, json_string_value(words), json_string_length(words), &fault->err));
    }
    *out = json_text_value(text.data, text.length);
    status = *out != NULL ? COHORT_OK : no_memory(fault);
cleanup:
    text_free(&text);
    return status;
}

/* Arguments are JSON text with clients and an object in templates; text that is none stays text. */
static json_t *arguments_of(const json_t *given)
{
    json_t *value = NULL;
    if (json_is_string(given) &&
        json_text_parse(&value, json_string_value(given), json_string_length(given), "arguments", 1, JSON_TEXT_REPEATED,
                        NULL) == COHORT_OK &&
        json_is_object(value))
        return value;
    json_decref(value);
    return given == NULL ? json_object() : json_incref((json_t *)(uintptr_t)given);
}

static cohort_status read_calls(const json_t *calls, size_t i, json_t *message, struct fault *fault)
{
    char at[64];
    json_t *list = json_array();
    cohort_status status = list != NULL ? COHORT_OK : no_memory(fault);
    if (!json_is_array(calls))
        status = fault_set(fault, 400, "invalid_type", place(at, i, "tool_calls"), "%s: expected a list", at);
    for (size_t k = 0; status == COHORT_OK && k < json_array_size(calls); k++) {
        const json_t *call = json_array_get(calls, k), *function = ask_field(call, "function");
        const json_t *name = ask_field(function, "name"), *id = ask_field(call, "id");
        if (!json_is_string(name) || (id != NULL && !json_is_string(id))) {
            status = fault_set(fault, 400, "invalid_type", place(at, i, "tool_calls"),
                               "%s[%zu]: expected {\"id\", \"type\": \"function\", \"function\": {\"name\", "
                               "\"arguments\"}}",
                               at, k);
            break;
        }
        json_t *made = json_pack("{s:s, s:{s:O, s:o}}", "type", "function", "function", "name", name, "arguments",
                                 arguments_of(ask_field(function, "arguments")));
        if (made != NULL && id != NULL)
            json_text_set(&made, "id", json_incref((json_t *)(uintptr_t)id));
        status = json_array_append_new(list, made) == 0 ? COHORT_OK : no_memory(fault);
    }
    if (status == COHORT_OK && json_array_size(list) > 0)
        return set(message, "tool_calls", list, fault);
    json_decref(list);
    return status;
}

static const char *role_of(const json_t *message)
{
    static const char *const roles[] = {"system", "user", "assistant", "tool"};
    const char *role = json_string_value(ask_field(message, "role"));
    for (size_t i = 0; role != NULL && i < sizeof roles / sizeof roles[0]; i++)
        if (strcmp(role, roles[i]) == 0)
            return roles[i];
    return role != NULL && strcmp(role, "developer") == 0 ? "system" : NULL;
}

/* What an assistant's message has beside its content. */
static cohort_status read_assistant(const json_t *given, size_t i, json_t *message, struct fault *fault)
{
    const json_t *calls = ask_field(given, "tool_calls"), *thought = ask_field(given, "reasoning_content");
    char at[64];
    if (thought == NULL)
        thought = ask_field(given, "reasoning");
    if (thought != NULL && !json_is_string(thought))
        return fault_set(fault, 400, "invalid_type", place(at, i, "reasoning_content"), "%s: expected a text", at);
    if (thought != NULL)
        TRY(set(message, "reasoning_content", json_incref((json_t *)(uintptr_t)thought), fault));
    return calls == NULL ? COHORT_OK : read_calls(calls, i, message, fault);
}

static cohort_status read_message(const json_t *given, size_t i, json_t *message, struct fault *fault)
{
    const char *role = role_of(given);
    const json_t *content = ask_field(given, "content"), *id = ask_field(given, "tool_call_id"),
                 *name = ask_field(given, "name");
    char at[64];
    json_t *text = NULL;
    if (!json_is_object(given) || role == NULL)
        return fault_set(fault, 400, "invalid_value", place(at, i, "role"),
                         "%s: expected a message whose role is system, developer, user, assistant or tool", at);
    TRY(set(message, "role", json_string(role), fault));
    if (strcmp(role, "assistant") == 0)
        TRY(read_assistant(given, i, message, fault));
    if (content == NULL && json_object_get(message, "tool_calls") == NULL &&
        json_object_get(message, "reasoning_content") == NULL)
        return fault_set(fault, 400, "missing_parameter", place(at, i, "content"), "%s: the field is required", at);
    if (content != NULL)
        TRY(read_content(content, i, &text, fault));
    TRY(set(message, "content", text != NULL ? text : json_string(""), fault));
    if (strcmp(role, "tool") == 0 && !json_is_string(id))
        return fault_set(fault, 400, "missing_parameter", place(at, i, "tool_call_id"),
                         "%s: the field is required in the answer of a tool", at);
    if (id != NULL && json_is_string(id))
        TRY(set(message, "tool_call_id", json_incref((json_t *)(uintptr_t)id), fault));
    if (name != NULL && json_is_string(name))
        TRY(set(message, "name", json_incref((json_t *)(uintptr_t)name), fault));
    return COHORT_OK;
}

cohort_status ask_chat_messages(struct ask *ask, const json_t *messages, struct fault *fault)
{
    if (!json_is_array(messages) || json_array_size(messages) == 0)
        return fault_set(fault, 400, json_is_array(messages) ? "invalid_value" : "invalid_type", "messages",
                         "messages: expected a list of at least one message {\"role\": ..., \"content\": ...}");
    ask->messages = json_array();
    for (size_t i = 0; i < json_array_size(messages); i++) {
        json_t *message = json_object();
        if (message == NULL || json_array_append_new(ask->messages, message) != 0)
            return no_memory(fault);
        TRY(read_message(json_array_get(messages, i), i, message, fault));
    }
    return COHORT_OK;
}

cohort_status ask_chat_tools(struct ask *ask, const json_t *tools, const json_t *choice, struct fault *fault)
{
    const char *word = json_string_value(choice);
    if (tools != NULL && !json_is_array(tools))
        return fault_set(fault, 400, "invalid_type", "tools", "tools: expected a list");
    for (size_t i = 0; i < json_array_size(tools); i++) {
        const json_t *tool = json_array_get(tools, i), *function = ask_field(tool, "function");
        if (!json_is_object(function) || !json_is_string(ask_field(function, "name")))
            return fault_set(fault, 400, "invalid_type", "tools",
                             "tools[%zu]: expected {\"type\": \"function\", \"function\": {\"name\": ..., "
                             "\"parameters\": {...}}}",
                             i);
    }
    if (choice != NULL && word == NULL && !json_is_object(choice))
        return fault_set(fault, 400, "invalid_type", "tool_choice",
                         "tool_choice: expected auto, none, required, or {\"type\": \"function\", ...}");
    if (word != NULL && strcmp(word, "none") == 0)
        return COHORT_OK; /* the model does not hear of them */
    if (word != NULL && strcmp(word, "auto") != 0 && strcmp(word, "required") != 0)
        return fault_set(fault, 400, "invalid_value", "tool_choice",
                         "tool_choice: expected auto, none, required, or {\"type\": \"function\", ...}");
    if (word == NULL && choice != NULL) {
        const json_t *function = ask_field(choice, "function"),
                     *name = ask_field(function != NULL ? function : choice, "name");
        if (!json_is_string(name))
            return fault_set(fault, 400, "invalid_type", "tool_choice", "tool_choice: no function is named");
        ask->forced_name = json_string_value(name);
    }
    ask->forced = choice != NULL && (word == NULL || strcmp(word, "required") == 0);
    if (ask->forced && json_array_size(tools) == 0)
        return fault_set(fault, 400, "invalid_value", "tool_choice", "tool_choice: there are no tools");
    if (json_array_size(tools) == 0)
        return COHORT_OK;
    ask->tools = json_incref((json_t *)(uintptr_t)tools);
    ask->calls = true;
    return COHORT_OK;
}

/* Variables of the template, a new reference: chat_template_kwargs and the fields that are short for one of them. */
static cohort_status read_settings(const struct ask *ask, const struct ask_context *context, json_t **settings,
                                   enum chat_thinking *thinking, struct fault *fault)
{
    const json_t *given = ask_field(ask->body, "chat_template_kwargs");
    const char *effort = NULL;
    bool think = false;
    if (given != NULL && !json_is_object(given))
        return fault_set(fault, 400, "invalid_type", "chat_template_kwargs",
                         "chat_template_kwargs: expected an object");
    *thinking = context->thinking;
    *settings = given != NULL ? json_copy((json_t *)(uintptr_t)given) : json_object();
    if (*settings == NULL)
        return no_memory(fault);
    if (ask->form == ASK_CHAT)
        TRY(ask_string(ask->body, "reasoning_effort", &effort, fault));
    else if (ask->form == ASK_RESPONSES)
        TRY(ask_string(ask_field(ask->body, "reasoning"), "effort", &effort, fault));
    const char *kind = json_string_value(ask_field(ask_field(ask->body, "thinking"), "type"));
    if (ask->form == ASK_MESSAGES && kind != NULL)
        *thinking = strcmp(kind, "disabled") == 0 ? CHAT_THINKING_OFF : CHAT_THINKING_ON;
    if (effort != NULL && strcmp(effort, "none") == 0)
        *thinking = CHAT_THINKING_OFF;
    else if (effort != NULL)
        TRY(set(*settings, "reasoning_effort", json_string(effort), fault));
    if (ask_field(given, "enable_thinking") != NULL) {
        TRY(ask_bool(given, "enable_thinking", &think, fault));
        *thinking = think ? CHAT_THINKING_ON : CHAT_THINKING_OFF;
    }
    if (ask_field(ask->body, "enable_thinking") != NULL) {
        TRY(ask_bool(ask->body, "enable_thinking", &think, fault));
        *thinking = think ? CHAT_THINKING_ON : CHAT_THINKING_OFF;
    }
    return COHORT_OK;
}

static cohort_status render(struct ask *ask, const struct ask_context *context, const struct chat_options *options,
                            struct fault *fault)
{
    struct ask_prompt *prompt = &ask->prompts[0];
    struct rendered rendered = {0};
    cohort_status status = chat_template_render(context->session->chat, ask->messages, options, "messages",
                                                &rendered.text, &rendered.spans, &fault->err);
    if (status == COHORT_OK)
        status = row_encode(context->session, &rendered.text, &rendered.spans, 0, rendered.text.length, context->trust,
                            &prompt->ids, &fault->err);
    if (status == COHORT_OK) {
        prompt->text = rendered.text;
        memset(&rendered.text, 0, sizeof rendered.text);
    }
    rendered_free(&rendered);
    return status;
}

cohort_status ask_chat_prompt(struct ask *ask, const struct ask_context *context, struct fault *fault)
{
    struct chat_options options = {.add_generation_prompt = true, .tools = ask->tools};
    json_t *settings = NULL;
    TRY(mem_alloc(&ask->prompts, 1, sizeof *ask->prompts, "prompt", &fault->err));
    ask->n_prompts = 1;
    cohort_status status = read_settings(ask, context, &settings, &options.thinking, fault);
    if (status == COHORT_OK && ask->form == ASK_CHAT)
        status = ask_bool(ask->body, "continue_final_message", &options.continue_final, fault);
    if (status == COHORT_OK && ask->form == ASK_MESSAGES) { /* Anthropic's clients begin the answer so */
        const json_t *last = json_array_get(ask->messages, json_array_size(ask->messages) - 1);
        options.continue_final = strcmp(json_string_value(json_object_get(last, "role")), "assistant") == 0 &&
                                 json_object_get(last, "tool_calls") == NULL;
    }
    options.add_generation_prompt = !options.continue_final;
    if (status == COHORT_OK && ask->form == ASK_CHAT)
        status = ask_bool(ask->body, "add_generation_prompt", &options.add_generation_prompt, fault);
    if (status == COHORT_OK && options.continue_final && options.add_generation_prompt)
        status = fault_set(fault, 400, "invalid_value", "continue_final_message",
                           "continue_final_message and add_generation_prompt exclude each other");
    options.settings = settings;
    if (status == COHORT_OK)
        status = render(ask, context, &options, fault);
    json_decref(settings);
    TRY(status);
    ask->thinks = response_opens_thinking(ask->prompts[0].text.data == NULL ? "" : ask->prompts[0].text.data,
                                          ask->prompts[0].text.length);
    ask->response = chat_template_form(context->session->chat);
    ask->special = ask->calls && (ask->response == RESPONSE_LLAMA || ask->response == RESPONSE_MISTRAL);
    return COHORT_OK;
}

/* ---- Completions ---- */

static cohort_status add_text(struct ask *ask, const struct ask_context *context, const json_t *text,
                              struct fault *fault)
{
    struct ask_prompt *prompt = &ask->prompts[ask->n_prompts++];
    TRY(text_append(&prompt->text, json_string_value(text), json_string_length(text), &fault->err));
    return tokenizer_encode_text(context->session->tokenizer, prompt->text.data, prompt->text.length, false,
                                 &prompt->ids, &fault->err);
}

static cohort_status add_ids(struct ask *ask, const struct ask_context *context, const json_t *ids, struct fault *fault)
{
    struct ask_prompt *prompt = &ask->prompts[ask->n_prompts++];
    TRY(ask_ids(ids, "prompt", context->session->model->config.vocab_size, &prompt->ids, fault));
    return ask->echo ? tokenizer_decode(context->session->tokenizer, prompt->ids.ids, prompt->ids.count, false,
                                        &prompt->text, &fault->err)
                     : COHORT_OK;
}

cohort_status ask_completion_prompts(struct ask *ask, const struct ask_context *context, struct fault *fault)
{
    const json_t *prompt = ask_field(ask->body, "prompt");
    const json_t *first = json_array_get(prompt, 0);
    const bool one = json_is_string(prompt) || json_is_integer(first);
    const size_t n = one ? 1 : json_array_size(prompt);
    if (prompt == NULL)
        return fault_set(fault, 400, "missing_parameter", "prompt", "prompt: the field is required");
    if (n == 0 || n > ASK_MOST_PROMPTS || (!one && !json_is_string(first) && !json_is_array(first)))
        return fault_set(fault, 400, "invalid_value", "prompt",
                         "prompt: expected a text, a list of token ids, or a list of at most %d of these",
                         (int)ASK_MOST_PROMPTS);
    TRY(mem_alloc(&ask->prompts, n, sizeof *ask->prompts, "prompts", &fault->err));
    for (size_t i = 0; i < n; i++) {
        const json_t *each = one ? prompt : json_array_get(prompt, i);
        TRY(json_is_string(each) ? add_text(ask, context, each, fault) : add_ids(ask, context, each, fault));
    }
    return COHORT_OK;
}

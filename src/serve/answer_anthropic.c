/* Messages, as Anthropic's API has them: the request in the terms of a conversation, and its answer. */
#include "base/json_text.h"
#include "serve/job.h"

#include <string.h>

static cohort_status no_memory(cohort_error *err)
{
    return error_set(err, COHORT_ERR_MEMORY, "an answer: out of memory");
}

/* ---- The request ---- */

static cohort_status bad(struct fault *fault, const char *param, const char *expected)
{
    return fault_set(fault, 400, "invalid_type", param, "%s: expected %s", param, expected);
}

/* The texts of a list of blocks, or a text itself, as a value; a new reference. NULL: something else stands there. */
static json_t *plain_text(const json_t *content)
{
    struct text text = {0};
    if (json_is_string(content))
        return json_incref((json_t *)(uintptr_t)content);
    for (size_t i = 0; i < json_array_size(content); i++) {
        const json_t *block = json_array_get(content, i), *words = ask_field(block, "text");
        const char *type = json_string_value(ask_field(block, "type"));
        if (type == NULL || strcmp(type, "text") != 0 || !json_is_string(words) ||
            (text.length > 0 && text_append(&text, "\n", 1, NULL) != COHORT_OK) ||
            text_append(&text, json_string_value(words), json_string_length(words), NULL) != COHORT_OK) {
            text_free(&text);
            return NULL;
        }
    }
    json_t *value = json_is_array(content) ? json_text_value(text.data, text.length) : NULL;
    text_free(&text);
    return value;
}

static cohort_status put_message(json_t *list, json_t *message, struct fault *fault)
{
    return message != NULL && json_array_append_new(list, message) == 0
               ? COHORT_OK
               : fault_set(fault, 500, "out_of_memory", NULL, "out of memory");
}

/* A user's message: its texts, and before them the results of tools, each of which is a message of its own. */
static cohort_status read_user(json_t *list, const json_t *content, struct fault *fault)
{
    json_t *texts = json_array();
    cohort_status status = COHORT_OK;
    for (size_t i = 0; i < json_array_size(content) && status == COHORT_OK; i++) {
        json_t *block = json_array_get(content, i);
        const char *type = json_string_value(ask_field(block, "type"));
        if (type == NULL || strcmp(type, "tool_result") != 0) {
            status = put_message(texts, json_incref(block), fault);
            continue;
        }
        const json_t *id = ask_field(block, "tool_use_id"), *said = ask_field(block, "content");
        json_t *text = said == NULL ? json_string("") : plain_text(said);
        if (!json_is_string(id) || text == NULL) {
            json_decref(text);
            status = bad(fault, "messages", "a tool_result with tool_use_id, and content that is text");
        } else {
            status = put_message(
                list, json_pack("{s:s, s:O, s:o}", "role", "tool", "tool_call_id", id, "content", text), fault);
        }
    }
    if (status == COHORT_OK && json_array_size(texts) > 0) {
        json_t *text = plain_text(texts);
        status = text == NULL ? bad(fault, "messages", "blocks of type text or tool_result in a user's message")
                              : put_message(list, json_pack("{s:s, s:o}", "role", "user", "content", text), fault);
    }
    json_decref(texts);
    return status;
}

static cohort_status read_assistant(json_t *list, const json_t *content, struct fault *fault)
{
    json_t *texts = json_array(), *calls = json_array(), *thinking = NULL;
    cohort_status status = COHORT_OK;
    for (size_t i = 0; i < json_array_size(content) && status == COHORT_OK; i++) {
        json_t *block = json_array_get(content, i);
        const char *type = json_string_value(ask_field(block, "type"));
        if (type != NULL && strcmp(type, "thinking") == 0) {
            json_decref(thinking);
            thinking = json_incref(json_object_get(block, "thinking"));
        } else if (type != NULL && strcmp(type, "tool_use") == 0) {
            const json_t *name = ask_field(block, "name"), *input = ask_field(block, "input");
            if (!json_is_string(name) || !json_is_object(input)) {
                status = bad(fault, "messages", "a tool_use with a name and an input that is an object");
                break;
            }
            json_t *call =
                json_pack("{s:s, s:{s:O, s:O}}", "type", "function", "function", "name", name, "arguments", input);
            if (call != NULL && json_is_string(ask_field(block, "id")))
                json_text_set(&call, "id", json_incref(json_object_get(block, "id")));
            status = put_message(calls, call, fault);
        } else if (type == NULL || strcmp(type, "redacted_thinking") != 0) {
            status = put_message(texts, json_incref(block), fault);
        }
    }
    json_t *text = status == COHORT_OK ? plain_text(texts) : NULL;
    if (status == COHORT_OK && text == NULL)
        status = bad(fault, "messages", "blocks of type text, thinking or tool_use in an assistant's message");
    if (status == COHORT_OK) {
        json_t *message = json_pack("{s:s, s:O}", "role", "assistant", "content", text);
        if (json_array_size(calls) > 0)
            json_text_set(&message, "tool_calls", json_incref(calls));
        if (json_is_string(thinking))
            json_text_set(&message, "reasoning_content", json_incref(thinking));
        status = put_message(list, message, fault);
    }
    json_decref(text);
    json_decref(texts);
    json_decref(calls);
    json_decref(thinking);
    return status;
}

static cohort_status read_messages(json_t *list, const json_t *body, struct fault *fault)
{
    const json_t *system = ask_field(body, "system"), *messages = ask_field(body, "messages");
    if (system != NULL) {
        json_t *text = plain_text(system);
        if (text == NULL)
            return bad(fault, "system", "a text or a list of blocks of type text");
        TRY(put_message(list, json_pack("{s:s, s:o}", "role", "system", "content", text), fault));
    }
    if (!json_is_array(messages) || json_array_size(messages) == 0)
        return bad(fault, "messages", "a list of at least one message");
    for (size_t i = 0; i < json_array_size(messages); i++) {
        const json_t *message = json_array_get(messages, i), *content = ask_field(message, "content");
        const char *role = json_string_value(ask_field(message, "role"));
        const bool assistant = role != NULL && strcmp(role, "assistant") == 0;
        if (role == NULL || (!assistant && strcmp(role, "user") != 0))
            return bad(fault, "messages", "messages whose role is user or assistant");
        if (json_is_string(content))
            TRY(put_message(list, json_pack("{s:s, s:O}", "role", role, "content", content), fault));
        else if (json_is_array(content))
            TRY(assistant ? read_assistant(list, content, fault) : read_user(list, content, fault));
        else
            return bad(fault, "messages", "content that is a text or a list of blocks");
    }
    return COHORT_OK;
}

/* Tools and the choice among them in OpenAI's form; new references. */
static cohort_status read_tools(const json_t *body, json_t **tools, json_t **choice, struct fault *fault)
{
    const json_t *given = ask_field(body, "tools"), *wish = ask_field(body, "tool_choice");
    const char *type = json_string_value(ask_field(wish, "type"));
    if (given != NULL && !json_is_array(given))
        return bad(fault, "tools", "a list");
    for (size_t i = 0; i < json_array_size(given); i++) {
        const json_t *tool = json_array_get(given, i), *name = ask_field(tool, "name"),
                     *schema = ask_field(tool, "input_schema");
        if (!json_is_string(name) || !json_is_object(schema))
            return bad(fault, "tools", "tools with a name and an input_schema");
        json_t *function = json_pack("{s:O, s:O}", "name", name, "parameters", schema);
        if (function != NULL && ask_field(tool, "description") != NULL)
            json_text_set(&function, "description", json_incref(json_object_get(tool, "description")));
        *tools = *tools != NULL ? *tools : json_array();
        if (json_array_append_new(*tools, json_pack("{s:s, s:o}", "type", "function", "function", function)) != 0)
            return fault_set(fault, 500, "out_of_memory", NULL, "out of memory");
    }
    if (wish == NULL)
        return COHORT_OK;
    if (type == NULL)
        return bad(fault, "tool_choice", "an object with a type");
    *choice = strcmp(type, "tool") == 0
                  ? json_pack("{s:s, s:{s:O?}}", "type", "function", "function", "name", ask_field(wish, "name"))
              : strcmp(type, "any") == 0 ? json_string("required")
                                         : json_string(type);
    return COHORT_OK;
}

cohort_status ask_anthropic(struct ask *ask, const struct ask_context *context, struct fault *fault)
{
    json_t *list = json_array(), *tools = NULL, *choice = NULL;
    cohort_status status = read_messages(list, ask->body, fault);
    if (status == COHORT_OK)
        status = ask_chat_messages(ask, list, fault);
    if (status == COHORT_OK)
        status = read_tools(ask->body, &tools, &choice, fault);
    if (status == COHORT_OK)
        status = ask_chat_tools(ask, tools, choice, fault);
    if (status == COHORT_OK && ask->forced_name != NULL) /* the same text, which stays */
        ask->forced_name = json_string_value(ask_field(ask_field(ask->body, "tool_choice"), "name"));
    json_decref(list);
    json_decref(tools);
    json_decref(choice);
    return status == COHORT_OK ? ask_chat_prompt(ask, context, fault) : status;
}

/* ---- The answer ---- */

static const char *stop_reason(const struct choice *c)
{
    if (c->speech.n_calls > 0)
        return "tool_use";
    if (c->stop != NULL)
        return "stop_sequence";
    return c->finish == FINISH_LENGTH ? "max_tokens" : "end_turn";
}

static json_t *stop_value(const struct choice *c)
{
    return c->stop != NULL ? json_text_value(c->stop, strlen(c->stop)) : json_null();
}

static json_t *usage(const struct job *job)
{
    return json_pack("{s:I, s:I}", "input_tokens", (json_int_t)job_prompt_tokens(job), "output_tokens",
                     (json_int_t)job_drawn_tokens(job));
}

/* content and what says how it ended are used up. */
static json_t *message(const struct job *job, json_t *content, json_t *reason, json_t *stop)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o}", "id", job->id, "type", "message", "role", "assistant",
                     "model", job->ask.model, "content", content, "stop_reason", reason, "stop_sequence", stop, "usage",
                     usage(job));
}

static json_t *use_block(const json_t *call, json_t *input)
{
    return json_pack("{s:s, s:O, s:O, s:o}", "type", "tool_use", "id", json_object_get(call, "id"), "name",
                     json_object_get(json_object_get(call, "function"), "name"), "input", input);
}

static cohort_status whole(struct job *job, json_t **out, cohort_error *err)
{
    const struct choice *c = &job->choices[0];
    json_t *content = json_array();
    if (c->thinking.length > 0)
        json_text_add(&content, json_pack("{s:s, s:o, s:s}", "type", "thinking", "thinking",
                                          json_text_value(c->thinking.data, c->thinking.length), "signature", ""));
    if (c->content.length > 0 || (c->calls == NULL && c->thinking.length == 0))
        json_text_add(&content, json_pack("{s:s, s:o}", "type", "text", "text",
                                          json_text_value(c->content.data, c->content.length)));
    for (size_t i = 0; i < json_array_size(c->calls); i++) {
        const json_t *call = json_array_get(c->calls, i);
        const json_t *arguments = json_object_get(json_object_get(call, "function"), "arguments");
        json_t *input = NULL;
        TRY(json_text_parse(&input, json_string_value(arguments), json_string_length(arguments), "arguments", 1,
                            JSON_TEXT_NUL | JSON_TEXT_REPEATED, err));
        json_text_add(&content, use_block(call, input));
    }
    *out = message(job, content, json_string(stop_reason(c)), stop_value(c));
    return *out != NULL ? COHORT_OK : no_memory(err);
}

static cohort_status begin(struct job *job, cohort_error *err)
{
    return job_event(job, "message_start",
                     json_pack("{s:s, s:o}", "type", "message_start", "message",
                               message(job, json_array(), json_null(), json_null())),
                     err);
}

static cohort_status close_block(struct choice *c, cohort_error *err)
{
    if (!c->is_open)
        return COHORT_OK;
    c->is_open = false;
    return job_event(c->job, "content_block_stop",
                     json_pack("{s:s, s:i}", "type", "content_block_stop", "index", c->block), err);
}

static cohort_status open_block(struct choice *c, enum speech_state kind, json_t *block, cohort_error *err)
{
    cohort_status status = close_block(c, err);
    if (status != COHORT_OK) {
        json_decref(block);
        return status;
    }
    c->is_open = true;
    c->open = kind;
    return job_event(
        c->job, "content_block_start",
        json_pack("{s:s, s:i, s:o}", "type", "content_block_start", "index", ++c->block, "content_block", block), err);
}

static cohort_status delta(struct choice *c, json_t *what, cohort_error *err)
{
    return job_event(c->job, "content_block_delta",
                     json_pack("{s:s, s:i, s:o}", "type", "content_block_delta", "index", c->block, "delta", what),
                     err);
}

static cohort_status piece(struct choice *c, enum speech_state kind, const char *text, size_t length, cohort_error *err)
{
    const bool thinking = kind == SPEECH_THINKING;
    if (!c->is_open || c->open != kind)
        TRY(open_block(c, kind,
                       thinking ? json_pack("{s:s, s:s, s:s}", "type", "thinking", "thinking", "", "signature", "")
                                : json_pack("{s:s, s:s}", "type", "text", "text", ""),
                       err));
    json_t *words = json_text_value(text, length);
    return delta(c,
                 thinking ? json_pack("{s:s, s:o}", "type", "thinking_delta", "thinking", words)
                          : json_pack("{s:s, s:o}", "type", "text_delta", "text", words),
                 err);
}

static cohort_status call(struct choice *c, const json_t *made, const char *arguments, size_t length, cohort_error *err)
{
    TRY(open_block(c, SPEECH_CALL, use_block(made, json_object()), err));
    TRY(delta(c,
              json_pack("{s:s, s:o}", "type", "input_json_delta", "partial_json", json_text_value(arguments, length)),
              err));
    return close_block(c, err);
}

static cohort_status tokens(struct choice *c, cohort_error *err)
{
    (void)err;
    c->n_said = c->n_due;
    return COHORT_OK;
}

static cohort_status finish(struct choice *c, cohort_error *err)
{
    TRY(close_block(c, err));
    return job_event(c->job, "message_delta",
                     json_pack("{s:s, s:{s:s, s:o}, s:o}", "type", "message_delta", "delta", "stop_reason",
                               stop_reason(c), "stop_sequence", stop_value(c), "usage", usage(c->job)),
                     err);
}

static cohort_status end(struct job *job, cohort_error *err)
{
    return job_event(job, "message_stop", json_pack("{s:s}", "type", "message_stop"), err);
}

const struct dialect dialect_anthropic = {"msg_", begin, piece, call, tokens, finish, end, whole, fault_value_anthropic,
                                          "error"};

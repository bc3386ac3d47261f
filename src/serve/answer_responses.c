/* Responses, as OpenAI's newer API has them: the request in the terms of a conversation, and its answer. Nothing is kept
 * between requests, so that a conversation is sent whole. */
#include "base/json_text.h"
#include "serve/job.h"

#include <stdio.h>
#include <string.h>

static cohort_status no_memory(cohort_error *err)
{
    return error_set(err, COHORT_ERR_MEMORY, "an answer: out of memory");
}

/* ---- The request ---- */

static cohort_status put_message(json_t *list, json_t *message, struct fault *fault)
{
    return message != NULL && json_array_append_new(list, message) == 0
               ? COHORT_OK
               : fault_set(fault, 500, "out_of_memory", NULL, "out of memory");
}

/* Calls stand as items of their own; in a conversation they are part of the assistant's message before them. */
static cohort_status put_call(json_t *list, const json_t *item, struct fault *fault)
{
    const json_t *name = ask_field(item, "name"), *id = ask_field(item, "call_id"),
                 *arguments = ask_field(item, "arguments");
    json_t *last = json_array_get(list, json_array_size(list) - 1);
    const char *role = json_string_value(json_object_get(last, "role"));
    if (!json_is_string(name) || !json_is_string(id) || !json_is_string(arguments))
        return fault_set(fault, 400, "invalid_type", "input",
                         "input: expected a function_call with call_id, name and arguments, all texts");
    if (role == NULL || strcmp(role, "assistant") != 0) {
        TRY(put_message(list, json_pack("{s:s, s:s}", "role", "assistant", "content", ""), fault));
        last = json_array_get(list, json_array_size(list) - 1);
    }
    if (json_object_get(last, "tool_calls") == NULL)
        (void)json_object_set_new(last, "tool_calls", json_array());
    return put_message(json_object_get(last, "tool_calls"),
                       json_pack("{s:O, s:s, s:{s:O, s:O}}", "id", id, "type", "function", "function", "name", name,
                                 "arguments", arguments),
                       fault);
}

static cohort_status put_item(json_t *list, const json_t *item, struct fault *fault)
{
    const char *type = json_string_value(ask_field(item, "type"));
    if (type != NULL && strcmp(type, "function_call") == 0)
        return put_call(list, item, fault);
    if (type != NULL && strcmp(type, "function_call_output") == 0)
        return put_message(list,
                           json_pack("{s:s, s:O?, s:O?}", "role", "tool", "tool_call_id", ask_field(item, "call_id"),
                                     "content", ask_field(item, "output")),
                           fault);
    if (type != NULL && strcmp(type, "reasoning") == 0)
        return COHORT_OK; /* an earlier answer's, which templates leave out */
    if (type != NULL && strcmp(type, "message") != 0)
        return fault_set(fault, 400, "unsupported_value", "input", "input: an item of type \"%.40s\" is not supported",
                         type);
    return put_message(
        list, json_pack("{s:O?, s:O?}", "role", ask_field(item, "role"), "content", ask_field(item, "content")), fault);
}

static cohort_status read_input(json_t *list, const json_t *body, struct fault *fault)
{
    const json_t *input = ask_field(body, "input");
    const char *instructions = NULL;
    TRY(ask_string(body, "instructions", &instructions, fault));
    if (instructions != NULL)
        TRY(put_message(list, json_pack("{s:s, s:s}", "role", "system", "content", instructions), fault));
    if (json_is_string(input))
        return put_message(list, json_pack("{s:s, s:O}", "role", "user", "content", input), fault);
    if (!json_is_array(input) || json_array_size(input) == 0)
        return fault_set(fault, 400, input == NULL ? "missing_parameter" : "invalid_type", "input",
                         "input: expected a text, or a list of items");
    for (size_t i = 0; i < json_array_size(input); i++)
        TRY(put_item(list, json_array_get(input, i), fault));
    return COHORT_OK;
}

/* Tools in the form of chat completions; a new reference. */
static cohort_status read_tools(const json_t *given, json_t **out, struct fault *fault)
{
    if (given != NULL && !json_is_array(given))
        return fault_set(fault, 400, "invalid_type", "tools", "tools: expected a list");
    for (size_t i = 0; i < json_array_size(given); i++) {
        const json_t *tool = json_array_get(given, i);
        const char *type = json_string_value(ask_field(tool, "type"));
        if (type == NULL || strcmp(type, "function") != 0)
            return fault_set(fault, 400, "unsupported_value", "tools", "tools[%zu]: functions alone are supported", i);
        json_t *function = json_copy((json_t *)(uintptr_t)tool);
        (void)json_object_del(function, "type");
        (void)json_object_del(function, "strict");
        *out = *out != NULL ? *out : json_array();
        TRY(put_message(*out, json_pack("{s:s, s:o}", "type", "function", "function", function), fault));
    }
    return COHORT_OK;
}

cohort_status ask_responses(struct ask *ask, const struct ask_context *context, struct fault *fault)
{
    json_t *list = json_array(), *tools = NULL;
    if (ask_field(ask->body, "previous_response_id") != NULL || json_is_true(ask_field(ask->body, "background"))) {
        json_decref(list);
        return fault_set(fault, 400, "unsupported_value", "previous_response_id",
                         "nothing is kept between requests: send the conversation as input, and wait for its answer");
    }
    cohort_status status = read_input(list, ask->body, fault);
    if (status == COHORT_OK)
        status = ask_chat_messages(ask, list, fault);
    if (status == COHORT_OK)
        status = read_tools(ask_field(ask->body, "tools"), &tools, fault);
    if (status == COHORT_OK)
        status = ask_chat_tools(ask, tools, ask_field(ask->body, "tool_choice"), fault);
    json_decref(list);
    json_decref(tools);
    return status == COHORT_OK ? ask_chat_prompt(ask, context, fault) : status;
}

/* ---- The answer ---- */

/* The answer is a list of items, one of each kind of what is said in a row: reasoning, a message, a call. */
static json_t *item_value(const struct choice *c, int number, enum speech_state kind, const char *status, json_t *text)
{
    char id[48];
    job_name(c->job, kind == SPEECH_THINKING ? "rs_" : kind == SPEECH_CONTENT ? "msg_" : "fc_", 1000 + number, id);
    if (kind == SPEECH_THINKING)
        return json_pack("{s:s, s:s, s:o}", "id", id, "type", "reasoning", "summary",
                         text == NULL ? json_array() : json_pack("[{s:s, s:o}]", "type", "summary_text", "text", text));
    return json_pack(
        "{s:s, s:s, s:s, s:s, s:o}", "id", id, "type", "message", "status", status, "role", "assistant", "content",
        text == NULL ? json_array()
                     : json_pack("[{s:s, s:o, s:[]}]", "type", "output_text", "text", text, "annotations"));
}

static json_t *call_value(const struct choice *c, int number, const json_t *call, const char *status, json_t *arguments)
{
    char id[48];
    job_name(c->job, "fc_", 1000 + number, id);
    return json_pack("{s:s, s:s, s:s, s:O, s:O, s:o}", "id", id, "type", "function_call", "status", status, "call_id",
                     json_object_get(call, "id"), "name", json_object_get(json_object_get(call, "function"), "name"),
                     "arguments", arguments);
}

/* output is used up. */
static json_t *response_value(const struct job *job, const char *status, json_t *output)
{
    const struct choice *c = &job->choices[0];
    const bool cut = c->ended && c->finish == FINISH_LENGTH, done = strcmp(status, "in_progress") != 0;
    const json_t *tools = ask_field(job->ask.body, "tools");
    const json_int_t in = job_prompt_tokens(job), out = job_drawn_tokens(job);
    json_t *used =
        done ? json_pack("{s:I, s:I, s:{s:I}, s:I}", "input_tokens", in, "output_tokens", out, "output_tokens_details",
                         "reasoning_tokens", (json_int_t)job_thought_tokens(job), "total_tokens", in + out)
             : json_null();
    return json_pack(
        "{s:s, s:s, s:I, s:s, s:s, s:o, s:o, s:o, s:n, s:b, s:s, s:o, s:{}, s:n, s:n, s:n}", "id", job->id, "object",
        "response", "created_at", (json_int_t)job->created, "status", cut && done ? "incomplete" : status, "model",
        job->ask.model, "output", output, "usage", used, "incomplete_details",
        cut && done ? json_pack("{s:s}", "reason", "max_output_tokens") : json_null(), "error", "parallel_tool_calls",
        !json_is_false(ask_field(job->ask.body, "parallel_tool_calls")), "tool_choice", "auto", "tools",
        tools != NULL ? json_incref((json_t *)(uintptr_t)tools) : json_array(), "metadata", "instructions",
        "temperature", "top_p");
}

static cohort_status note_item(struct job *job, json_t *item, cohort_error *err)
{
    if (job->note == NULL)
        job->note = json_array();
    return json_array_append_new(job->note, item) == 0 ? COHORT_OK : no_memory(err);
}

static cohort_status whole(struct job *job, json_t **out, cohort_error *err)
{
    const struct choice *c = &job->choices[0];
    json_t *output = json_array();
    int number = 0;
    if (c->thinking.length > 0)
        json_text_add(&output, item_value(c, number++, SPEECH_THINKING, "completed",
                                          json_text_value(c->thinking.data, c->thinking.length)));
    if (c->content.length > 0 || c->calls == NULL)
        json_text_add(&output, item_value(c, number++, SPEECH_CONTENT, "completed",
                                          json_text_value(c->content.data, c->content.length)));
    for (size_t i = 0; i < json_array_size(c->calls); i++) {
        const json_t *call = json_array_get(c->calls, i);
        json_text_add(&output,
                      call_value(c, number++, call, "completed",
                                 json_incref(json_object_get(json_object_get(call, "function"), "arguments"))));
    }
    *out = response_value(job, "completed", output);
    return *out != NULL ? COHORT_OK : no_memory(err);
}

/* An event; value is used up and gets its type and number. */
static cohort_status event(struct job *job, const char *type, json_t *value, cohort_error *err)
{
    if (value == NULL || json_object_set_new(value, "type", json_string(type)) != 0 ||
        json_object_set_new(value, "sequence_number", json_integer((json_int_t)job->said)) != 0) {
        json_decref(value);
        return no_memory(err);
    }
    return job_event(job, type, value, err);
}

static cohort_status begin(struct job *job, cohort_error *err)
{
    TRY(event(job, "response.created", json_pack("{s:o}", "response", response_value(job, "in_progress", json_array())),
              err));
    return event(job, "response.in_progress",
                 json_pack("{s:o}", "response", response_value(job, "in_progress", json_array())), err);
}

/* The text of the item that is open: what was said since it began. */
static json_t *open_text(const struct choice *c)
{
    const struct text *all = c->open == SPEECH_THINKING ? &c->thinking : &c->content;
    return json_text_value(all->data + c->item_from, all->length - c->item_from);
}

static json_t *part_value(const struct choice *c, json_t *text)
{
    return c->open == SPEECH_THINKING
               ? json_pack("{s:s, s:o}", "type", "summary_text", "text", text)
               : json_pack("{s:s, s:o, s:[]}", "type", "output_text", "text", text, "annotations");
}

/* Of the item that is open; what is used up. */
static json_t *of_item(const struct choice *c, const char *key, json_t *what)
{
    char id[48];
    job_name(c->job, c->open == SPEECH_THINKING ? "rs_" : "msg_", 1000 + c->block, id);
    return json_pack("{s:s, s:i, s:i, s:o}", "item_id", id, "output_index", c->block,
                     c->open == SPEECH_THINKING ? "summary_index" : "content_index", 0, key, what);
}

static cohort_status close_item(struct choice *c, cohort_error *err)
{
    const bool thinking = c->open == SPEECH_THINKING;
    if (!c->is_open)
        return COHORT_OK;
    c->is_open = false;
    TRY(event(c->job, thinking ? "response.reasoning_summary_text.done" : "response.output_text.done",
              of_item(c, "text", open_text(c)), err));
    TRY(event(c->job, thinking ? "response.reasoning_summary_part.done" : "response.content_part.done",
              of_item(c, "part", part_value(c, open_text(c))), err));
    json_t *item = item_value(c, c->block, c->open, "completed", open_text(c));
    TRY(event(c->job, "response.output_item.done", json_pack("{s:i, s:O}", "output_index", c->block, "item", item),
              err));
    return note_item(c->job, item, err);
}

static cohort_status open_item(struct choice *c, enum speech_state kind, size_t length, cohort_error *err)
{
    const bool thinking = kind == SPEECH_THINKING;
    TRY(close_item(c, err));
    c->is_open = true;
    c->open = kind;
    c->block++;
    c->item_from = (thinking ? c->thinking.length : c->content.length) - length; /* the piece is there already */
    TRY(event(
        c->job, "response.output_item.added",
        json_pack("{s:i, s:o}", "output_index", c->block, "item", item_value(c, c->block, kind, "in_progress", NULL)),
        err));
    return event(c->job, thinking ? "response.reasoning_summary_part.added" : "response.content_part.added",
                 of_item(c, "part", part_value(c, json_string(""))), err);
}

static cohort_status piece(struct choice *c, enum speech_state kind, const char *text, size_t length, cohort_error *err)
{
    if (!c->is_open || c->open != kind)
        TRY(open_item(c, kind, length, err));
    return event(c->job,
                 kind == SPEECH_THINKING ? "response.reasoning_summary_text.delta" : "response.output_text.delta",
                 of_item(c, "delta", json_text_value(text, length)), err);
}

static cohort_status call(struct choice *c, const json_t *made, const char *arguments, size_t length, cohort_error *err)
{
    char id[48];
    TRY(close_item(c, err));
    c->block++;
    job_name(c->job, "fc_", 1000 + c->block, id);
    TRY(event(c->job, "response.output_item.added",
              json_pack("{s:i, s:o}", "output_index", c->block, "item",
                        call_value(c, c->block, made, "in_progress", json_string(""))),
              err));
    TRY(event(c->job, "response.function_call_arguments.delta",
              json_pack("{s:s, s:i, s:o}", "item_id", id, "output_index", c->block, "delta",
                        json_text_value(arguments, length)),
              err));
    TRY(event(c->job, "response.function_call_arguments.done",
              json_pack("{s:s, s:i, s:o, s:O}", "item_id", id, "output_index", c->block, "arguments",
                        json_text_value(arguments, length), "name",
                        json_object_get(json_object_get(made, "function"), "name")),
              err));
    json_t *item = call_value(c, c->block, made, "completed", json_text_value(arguments, length));
    TRY(event(c->job, "response.output_item.done", json_pack("{s:i, s:O}", "output_index", c->block, "item", item),
              err));
    return note_item(c->job, item, err);
}

static cohort_status tokens(struct choice *c, cohort_error *err)
{
    (void)err;
    c->n_said = c->n_due;
    return COHORT_OK;
}

static cohort_status finish(struct choice *c, cohort_error *err) { return close_item(c, err); }

static cohort_status end(struct job *job, cohort_error *err)
{
    const bool cut = job->choices[0].finish == FINISH_LENGTH;
    json_t *output = job->note != NULL ? json_incref(job->note) : json_array();
    return event(job, cut ? "response.incomplete" : "response.completed",
                 json_pack("{s:o}", "response", response_value(job, "completed", output)), err);
}

const struct dialect dialect_responses = {"resp_", begin, piece, call, tokens, finish, end, whole, fault_value, NULL};

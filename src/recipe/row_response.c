#include "recipe/row_response.h"

#include "base/json_text.h"
#include "text/response.h"

#include <string.h>

/* The completion with its special tokens, in which some families write calls, without the token that ended it. Of one
 * that a stop string cut, the text that is left. */
static cohort_status decode(const struct session *session, const struct reward_row *row, struct text *out,
                            cohort_error *err)
{
    const bool ended = strcmp(row->finish_reason, "eos") == 0;
    if (row->n_tokens == 0 || strcmp(row->finish_reason, "stop") == 0)
        return text_append(out, row->completion, row->completion_length, err);
    TRY(text_append(out, "", 0, err));
    return tokenizer_decode(session->tokenizer, row->tokens, (size_t)row->n_tokens - (ended ? 1 : 0), false, out, err);
}

static void set(json_t *object, bool *made, const char *key, json_t *value)
{
    *made = json_object_set_new(object, key, value) == 0 && *made;
}

/* {"name", "arguments", "id" (Mistral's), "closed" (false: its end was not written), and of one that is not as it should
 * be "error" and the "text" that stands there}; what could not be read is left out. */
static json_t *call_value(const struct response_call *call, const char *text, size_t length)
{
    json_t *value = json_object();
    bool made = value != NULL;
    if (call->name != NULL)
        set(value, &made, "name", json_text_value(call->name, strlen(call->name)));
    if (call->arguments != NULL)
        set(value, &made, "arguments", json_incref(call->arguments));
    if (call->id != NULL)
        set(value, &made, "id", json_text_value(call->id, strlen(call->id)));
    if (!call->closed)
        set(value, &made, "closed", json_false());
    if (call->error != NULL) {
        set(value, &made, "error", json_text_value(call->error, strlen(call->error)));
        set(value, &made, "text", json_text_value(text, length));
    }
    if (made)
        return value;
    json_decref(value);
    return NULL;
}

static json_t *response_value(const struct response *response, const char *text)
{
    json_t *value = json_object(), *calls = json_array();
    bool made = value != NULL && calls != NULL;
    for (size_t i = 0; made && i < response->n_parts; i++) {
        const struct response_part *part = &response->parts[i];
        if (part->kind == RESPONSE_CALL)
            made = json_array_append_new(
                       calls, call_value(&response->calls[part->call], text + part->from, part->to - part->from)) == 0;
    }
    set(value, &made, "thinking", json_text_value(response->thinking.data, response->thinking.length));
    set(value, &made, "content", json_text_value(response->content.data, response->content.length));
    set(value, &made, "tool_calls", calls);
    if (made)
        return value;
    json_decref(value);
    return NULL;
}

static cohort_status parse(const struct reward_row *row, json_t **out, cohort_error *err)
{
    const struct session *session = row->parser;
    const struct row_style style = {0};
    struct row_settings settings = {0};
    struct response response = {0};
    struct text text = {0};
    cohort_status status = COHORT_OK;
    *out = NULL;
    TRY_GOTO(row_settings(row->data, "row", &style, true, &settings, err));
    TRY_GOTO(decode(session, row, &text, err));
    TRY_GOTO(response_parse(&response, text.data, text.length, chat_template_form(session->chat),
                            response_opens_thinking(row->prompt, row->prompt_length), settings.chat.tools, err));
    *out = response_value(&response, text.data);
    if (*out == NULL)
        status = error_set(err, COHORT_ERR_MEMORY, "a completion taken apart: out of memory");
cleanup:
    row_settings_free(&settings);
    response_free(&response);
    text_free(&text);
    return status;
}

cohort_status row_response_text(const char *text, size_t length, json_t **out, cohort_error *err)
{
    struct response response = {0};
    cohort_status status = response_parse(&response, text, length, RESPONSE_HERMES, false, NULL, err);
    *out = status == COHORT_OK ? response_value(&response, text) : NULL;
    if (status == COHORT_OK && *out == NULL)
        status = error_set(err, COHORT_ERR_MEMORY, "a completion taken apart: out of memory");
    response_free(&response);
    return status;
}

void row_response_set(struct reward_row *row, const struct session *session, const struct row_style *style)
{
    if (session->chat == NULL || !row_is_conversation(row->data, style))
        return;
    row->parse = parse;
    row->parser = session;
}

cohort_status row_response_notable(const struct reward_row *row, json_t **out, cohort_error *err)
{
    *out = NULL;
    if (row->parse == NULL)
        return COHORT_OK;
    TRY(row->parse(row, out, err));
    if (!chat_value_absent(json_object_get(*out, "thinking")) ||
        !chat_value_absent(json_object_get(*out, "tool_calls")))
        return COHORT_OK;
    json_decref(*out);
    *out = NULL;
    return COHORT_OK;
}

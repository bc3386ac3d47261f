#include "recipe/row_prompt.h"

#include "base/json_text.h"
#include "run/data_columns.h"

#include <stdio.h>
#include <string.h>

struct row_style row_style(const struct options *options)
{
    struct row_style style = {.chat = options_bool_or(options, OPTION_CHAT, false),
                              .trust = options_bool(options, OPTION_TRUST_CONTENT)};
    if (options_is_set(options, OPTION_THINKING))
        style.thinking = options_bool(options, OPTION_THINKING) ? CHAT_THINKING_ON : CHAT_THINKING_OFF;
    return style;
}

const json_t *row_column(const json_t *row, const char *name)
{
    const json_t *value = json_object_get(row, name);
    return json_is_null(value) ? NULL : value;
}

bool row_is_conversation(const json_t *row, const struct row_style *style)
{
    const json_t *prompt = row_column(row, "prompt");
    return json_is_string(prompt) ? style->chat || !chat_value_absent(row_column(row, "messages"))
                                  : prompt != NULL || row_column(row, "messages") != NULL;
}

void rendered_free(struct rendered *rendered)
{
    text_free(&rendered->text);
    content_spans_free(&rendered->spans);
}

void row_settings_free(struct row_settings *settings)
{
    json_decref(settings->tools);
    memset(settings, 0, sizeof *settings);
}

/* A list of JSON schemas, or a JSON text of one, as datasets keep what has no common shape. */
static cohort_status read_tools(const json_t *column, const char *where, struct row_settings *out, cohort_error *err)
{
    const json_t *tools = column, *tool = NULL;
    if (json_is_string(column) && json_string_length(column) > 0) {
        char origin[600];
        snprintf(origin, sizeof origin, "%.520s: \"tools\"", where);
        TRY(json_text_parse(&out->tools, json_string_value(column), json_string_length(column), origin, 1,
                            JSON_TEXT_ANY | JSON_TEXT_NUL | JSON_TEXT_REPEATED, err));
        tools = out->tools;
    }
    if (chat_value_absent(tools))
        return COHORT_OK;
    bool good = json_is_array(tools);
    for (size_t i = 0; good && i < json_array_size(tools); i++) {
        tool = json_array_get(tools, i);
        good = json_is_object(tool);
    }
    if (!good)
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s: \"tools\": expected a list of JSON schemas, [{\"type\": \"function\", \"function\": "
                         "{\"name\": ...}}], or a JSON text of it",
                         where);
    out->chat.tools = tools;
    return COHORT_OK;
}

cohort_status row_settings(const json_t *row, const char *where, const struct row_style *style, bool conversation,
                           struct row_settings *out, cohort_error *err)
{
    static const char *const images[] = {"image", "images"};
    memset(out, 0, sizeof *out);
    out->chat.thinking = style->thinking;
    for (size_t i = 0; i < sizeof images / sizeof images[0]; i++)
        if (!chat_value_absent(json_object_get(row, images[i])))
            return error_set(err, COHORT_ERR_UNSUPPORTED,
                             "%s: \"%s\" is not supported: models here read text alone; leave the "
                             "row or the column out",
                             where, images[i]);
    if (!conversation)
        return COHORT_OK;
    TRY(read_tools(json_object_get(row, "tools"), where, out, err));
    const json_t *settings = row_column(row, "chat_template_kwargs");
    if (settings == NULL)
        return COHORT_OK;
    if (!json_is_object(settings))
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s: \"chat_template_kwargs\": expected an object, for example "
                         "{\"enable_thinking\": false}",
                         where);
    out->chat.settings = settings;
    const json_t *thinking = row_column(settings, "enable_thinking");
    if (thinking != NULL && !json_is_boolean(thinking))
        return error_set(err, COHORT_ERR_FORMAT, "%s: \"chat_template_kwargs\".enable_thinking: expected true or false",
                         where);
    if (thinking != NULL)
        out->chat.thinking = json_is_true(thinking) ? CHAT_THINKING_ON : CHAT_THINKING_OFF;
    return COHORT_OK;
}

static bool ends_with_assistant(const json_t *messages)
{
    size_t n = json_array_size(messages);
    const char *role = n == 0 ? NULL : json_string_value(json_object_get(json_array_get(messages, n - 1), "role"));
    return role != NULL && strcmp(role, "assistant") == 0;
}

cohort_status row_render_prompt(const struct session *session, const json_t *messages, const char *where,
                                const struct chat_options *chat, struct rendered *out, cohort_error *err)
{
    struct chat_options options = *chat;
    options.continue_final = ends_with_assistant(messages);
    options.add_generation_prompt = !options.continue_final;
    return chat_template_render(session->chat, messages, &options, where, &out->text, &out->spans, err);
}

cohort_status row_encode(const struct session *session, const struct text *text, const struct content_spans *spans,
                         size_t from, size_t to, bool trust, struct token_list *ids, cohort_error *err)
{
    struct content_spans part = {.markers = spans->markers};
    cohort_status status = COHORT_OK;
    for (size_t i = 0; !trust && i < spans->count; i++) {
        const struct content_span span = spans->items[i];
        const size_t first = span.from > from ? span.from : from, last = span.to < to ? span.to : to;
        if (first < last)
            TRY_GOTO(content_spans_push(&part, first - from, last - from, span.kind, err));
    }
    TRY_GOTO(tokenizer_encode_more(session->tokenizer, text->data + from, to - from, &part, ids, err));
cleanup:
    content_spans_free(&part);
    return status;
}

cohort_status row_lacks(const json_t *row, const char *where, const char *expected, cohort_error *err)
{
    struct text names = {0};
    cohort_status status = COHORT_OK;
    TRY_GOTO(data_columns_list(row, &names, err));
    if (row_column(row, "chosen") != NULL && row_column(row, "rejected") != NULL)
        status =
            error_set(err, COHORT_ERR_UNSUPPORTED,
                      "%s: expected %s; \"chosen\" and \"rejected\" are preferences, which are not trained here; sft "
                      "learns what was chosen with --columns messages=chosen (a conversation) or "
                      "prompt=NAME,completion=chosen",
                      where, expected);
    else
        status = error_set(err, COHORT_ERR_FORMAT,
                           "%s: expected %s; the row has %s: --columns says which is which, for example --columns "
                           "prompt=NAME,completion=NAME",
                           where, expected, names.data);
cleanup:
    text_free(&names);
    return status;
}

/* *messages with the style's system message before it, if it does not begin with one. */
static cohort_status put_system(json_t **messages, const char *where, const struct row_style *style, cohort_error *err)
{
    if (style->system == NULL)
        return COHORT_OK;
    if (*messages == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "%s: --system is a message of a conversation, and this prompt is text that is taken as it "
                         "stands; add --chat",
                         where);
    const char *role = json_string_value(json_object_get(json_array_get(*messages, 0), "role"));
    if (role != NULL && strcmp(role, "system") == 0)
        return COHORT_OK;
    json_t *message = json_pack("{s:s, s:s}", "role", "system", "content", style->system);
    if (message == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "--system: the text is not valid UTF-8");
    json_t *all = json_copy(*messages); /* the messages themselves are the row's */
    if (all == NULL || json_array_insert_new(all, 0, message) != 0) {
        json_decref(all);
        return error_set(err, COHORT_ERR_MEMORY, "%s: cannot build a message", where);
    }
    json_decref(*messages);
    *messages = all;
    return COHORT_OK;
}

cohort_status row_messages(const json_t *row, const char *where, const struct row_style *style, json_t **out,
                           cohort_error *err)
{
    const json_t *prompt = row_column(row, "prompt"), *messages = row_column(row, "messages");
    *out = NULL;
    if (prompt != NULL && chat_value_absent(messages))
        messages = NULL; /* an empty list beside a prompt */
    if (prompt != NULL && messages != NULL)
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s: has both \"prompt\" and \"messages\"; say which counts, with --columns prompt=prompt or "
                         "--columns messages=messages",
                         where);
    if (style->asks && ends_with_assistant(messages))
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s: the last of \"messages\" is the assistant's: that is the answer, "
                         "which must not stand in the prompt; give rows of \"prompt\" and "
                         "\"completion\" (only the prompt is used), or leave the last message out",
                         where);
    if (json_is_array(prompt))
        messages = prompt;
    if (messages != NULL)
        *out = json_incref((json_t *)(uintptr_t)messages);
    else if (json_is_string(prompt) && style->chat)
        *out = json_pack("[{s:s, s:O}]", "role", "user", "content", prompt);
    else if (!json_is_string(prompt))
        return row_lacks(row, where, "a column \"prompt\" (text or a list of messages) or \"messages\"", err);
    else
        return put_system(out, where, style, err);
    return *out != NULL ? put_system(out, where, style, err)
                        : error_set(err, COHORT_ERR_MEMORY, "%s: cannot build a message", where);
}

/* messages NULL: the prompt is text. */
static cohort_status encode_prompt(const struct session *session, const json_t *row, const json_t *messages,
                                   const char *where, const struct row_style *style, struct token_list *ids,
                                   struct text *text, cohort_error *err)
{
    struct rendered rendered = {0};
    struct row_settings settings = {0};
    cohort_status status = COHORT_OK;
    TRY_GOTO(row_settings(row, where, style, messages != NULL, &settings, err));
    if (settings.chat.tools == NULL)
        settings.chat.tools = session->tools;
    if (messages != NULL) {
        TRY_GOTO(row_render_prompt(session, messages, where, &settings.chat, &rendered, err));
    } else {
        const json_t *prompt = row_column(row, "prompt");
        TRY_GOTO(text_append(&rendered.text, json_string_value(prompt), json_string_length(prompt), err));
    }
    if (rendered.text.length == 0) {
        status = error_set(err, COHORT_ERR_FORMAT, "%s: the prompt is empty", where);
        goto cleanup;
    }
    TRY_GOTO(text_append(text, rendered.text.data, rendered.text.length, err));
    if (messages != NULL)
        status = row_encode(session, &rendered.text, &rendered.spans, 0, rendered.text.length, style->trust, ids, err);
    else
        status = tokenizer_encode_text(session->tokenizer, rendered.text.data, rendered.text.length, false, ids, err);
    if (status != COHORT_OK)
        error_context(err, "%s: prompt", where);
cleanup:
    row_settings_free(&settings);
    rendered_free(&rendered);
    return status;
}

cohort_status row_prompt(const struct session *session, const json_t *row, const char *where,
                         const struct row_style *style, struct token_list *ids, struct text *text, cohort_error *err)
{
    json_t *messages = NULL;
    cohort_status status = row_messages(row, where, style, &messages, err);
    if (status == COHORT_OK)
        status = encode_prompt(session, row, messages, where, style, ids, text, err);
    json_decref(messages);
    return status;
}

cohort_status row_prompt_messages(const struct session *session, const json_t *row, const json_t *messages,
                                  const char *where, const struct row_style *style, struct token_list *ids,
                                  struct text *text, cohort_error *err)
{
    ids->count = 0;
    text->length = 0;
    return encode_prompt(session, row, messages, where, style, ids, text, err);
}

cohort_status row_tell_template(const struct session *session, bool learns, const cohort_observer *observer,
                                cohort_error *err)
{
    struct text notes = {0};
    const cohort_status status = chat_template_notes(session->chat, learns, &notes, err);
    if (status == COHORT_OK)
        observer_notes(observer, &notes);
    text_free(&notes);
    return status;
}

#include "recipe/row_prompt.h"

#include <string.h>

struct row_style row_style(const struct options *options)
{
    return (struct row_style){.thinking = options_bool(options, OPTION_THINKING),
                              .trust = options_bool(options, OPTION_TRUST_CONTENT)};
}

const json_t *row_column(const json_t *row, const char *name)
{
    const json_t *value = json_object_get(row, name);
    return json_is_null(value) ? NULL : value;
}

void rendered_free(struct rendered *rendered)
{
    text_free(&rendered->text);
    content_spans_free(&rendered->spans);
}

/* Tools may be given as JSON text, of which only an empty list is accepted. */
static bool no_tools(const json_t *value)
{
    const char *text = json_string_value(value);
    return chat_value_absent(value) || (text != NULL && (strcmp(text, "[]") == 0 || strcmp(text, "null") == 0));
}

cohort_status row_settings(const json_t *row, const char *where, const struct row_style *style, bool conversation,
                           bool *thinking, cohort_error *err)
{
    static const char *const images[] = {"image", "images"};
    *thinking = style->thinking;
    for (size_t i = 0; i < sizeof images / sizeof images[0]; i++)
        if (!chat_value_absent(json_object_get(row, images[i])))
            return error_set(err, COHORT_ERR_UNSUPPORTED,
                             "%s: \"%s\" is not supported: models here read text alone; leave the "
                             "row or the column out",
                             where, images[i]);
    if (!conversation)
        return COHORT_OK;
    if (!no_tools(json_object_get(row, "tools")))
        return error_set(err, COHORT_ERR_UNSUPPORTED,
                         "%s: \"tools\" is not supported: the chat template would put them into "
                         "the prompt; render the prompt yourself and give it as text, or leave the "
                         "column out",
                         where);
    const json_t *settings = row_column(row, "chat_template_kwargs"), *value = NULL;
    const char *key = NULL;
    if (settings == NULL)
        return COHORT_OK;
    if (!json_is_object(settings))
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s: \"chat_template_kwargs\": expected an object, for example "
                         "{\"enable_thinking\": false}",
                         where);
    for (void *at = json_object_iter((json_t *)(uintptr_t)settings); at != NULL;
         at = json_object_iter_next((json_t *)(uintptr_t)settings, at)) {
        key = json_object_iter_key(at);
        value = json_object_iter_value(at);
        if (json_is_null(value))
            continue;
        if (strcmp(key, "enable_thinking") != 0)
            return error_set(err, COHORT_ERR_UNSUPPORTED,
                             "%s: \"chat_template_kwargs\": \"%.80s\" is not supported, only "
                             "\"enable_thinking\"; leave it out",
                             where, key);
        if (!json_is_boolean(value))
            return error_set(err, COHORT_ERR_FORMAT,
                             "%s: \"chat_template_kwargs\".enable_thinking: expected true or false", where);
        *thinking = json_is_true(value);
    }
    return COHORT_OK;
}

static bool ends_with_assistant(const json_t *messages)
{
    size_t n = json_array_size(messages);
    const char *role = n == 0 ? NULL : json_string_value(json_object_get(json_array_get(messages, n - 1), "role"));
    return role != NULL && strcmp(role, "assistant") == 0;
}

cohort_status row_render_prompt(const struct session *session, const json_t *messages, const char *where, bool thinking,
                                struct rendered *out, cohort_error *err)
{
    const bool prefilled = ends_with_assistant(messages);
    struct chat_options options = {
        .add_generation_prompt = !prefilled, .continue_final = prefilled, .enable_thinking = thinking};
    return chat_template_render(tokenizer_chat_template(session->tokenizer), messages, &options, where, &out->text,
                                &out->spans, err);
}

cohort_status row_encode(const struct session *session, const struct rendered *rendered, size_t from, bool trust,
                         struct token_list *ids, cohort_error *err)
{
    struct content_spans spans = {0};
    cohort_status status = COHORT_OK;
    for (size_t i = 0; !trust && i < rendered->spans.count; i++) {
        struct content_span span = rendered->spans.items[i];
        if (span.to > from)
            TRY_GOTO(
                content_spans_push(&spans, span.from > from ? span.from - from : 0, span.to - from, span.kind, err));
    }
    TRY_GOTO(tokenizer_encode_content(session->tokenizer, rendered->text.data + from, rendered->text.length - from,
                                      &spans, ids, err));
cleanup:
    content_spans_free(&spans);
    return status;
}

/* The row's messages (a new reference), or NULL where its prompt is text to be taken as it stands. */
static cohort_status find_messages(const json_t *row, const char *where, const struct row_style *style, json_t **out,
                                   cohort_error *err)
{
    const json_t *prompt = row_column(row, "prompt"), *messages = row_column(row, "messages");
    *out = NULL;
    if (prompt != NULL && chat_value_absent(messages))
        messages = NULL; /* an empty list beside a prompt */
    if (prompt != NULL && messages != NULL)
        return error_set(err, COHORT_ERR_FORMAT, "%s: has both \"prompt\" and \"messages\"; give one", where);
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
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s: expected a column \"prompt\" (text or a list of messages) or \"messages\"", where);
    else
        return COHORT_OK;
    return *out != NULL ? COHORT_OK : error_set(err, COHORT_ERR_MEMORY, "%s: cannot build a message", where);
}

cohort_status row_prompt(const struct session *session, const json_t *row, const char *where,
                         const struct row_style *style, struct token_list *ids, struct text *text, cohort_error *err)
{
    struct rendered rendered = {0};
    json_t *messages = NULL;
    bool thinking = false;
    cohort_status status = COHORT_OK;
    TRY_GOTO(find_messages(row, where, style, &messages, err));
    TRY_GOTO(row_settings(row, where, style, messages != NULL, &thinking, err));
    if (messages != NULL) {
        TRY_GOTO(row_render_prompt(session, messages, where, thinking, &rendered, err));
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
        status = row_encode(session, &rendered, 0, style->trust, ids, err);
    else
        status =
            tokenizer_encode_text(session->tokenizer, rendered.text.data, rendered.text.length, false, ids, err);
    if (status != COHORT_OK)
        error_context(err, "%s: prompt", where);
cleanup:
    json_decref(messages);
    rendered_free(&rendered);
    return status;
}

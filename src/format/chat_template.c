/* Renders what Qwen3's Jinja templates render, without Jinja. Which template a folder has is told
 * by its exact text. */
#include "format/chat_template.h"

#include <string.h>

/* A part of a string. */
struct span {
    const char *data;
    size_t length;
};

enum template_kind {
    TEMPLATE_HYBRID,  /* thinking on or off, past thinking removed */
    TEMPLATE_INSTRUCT /* Instruct-2507: no thinking at all */
};

struct message {
    const char *role;
    struct span content, reasoning;
    bool has_reasoning;
};

static const struct {
    size_t length;
    uint64_t hash; /* FNV-1a of the text without trailing white space */
    enum template_kind kind;
} KNOWN[] = {
    /* The hybrid template's second revision (content may be absent; the same for messages whose
       content is a string). */
    {4168, 0x959a4551391a6549u, TEMPLATE_HYBRID},
    /* Qwen3-*-Instruct-2507. */
    {2630, 0x3751fe8ea48448abu, TEMPLATE_INSTRUCT},
};

static uint64_t fnv1a(const char *text, size_t length)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)text[i]) * 0x100000001b3u;
    return hash;
}

static size_t trimmed_length(const char *text)
{
    size_t length = strlen(text);
    while (length > 0 && strchr(" \t\r\n", text[length - 1]) != NULL)
        length--;
    return length;
}

static cohort_status recognise(const char *text, const char *where, enum template_kind *kind,
                               cohort_error *err)
{
    *kind = TEMPLATE_HYBRID;
    if (text == NULL)
        return COHORT_OK;
    size_t length = trimmed_length(text);
    const char *own = chat_template_qwen3();
    if (length == trimmed_length(own) && memcmp(text, own, length) == 0)
        return COHORT_OK;
    uint64_t hash = fnv1a(text, length);
    for (size_t i = 0; i < sizeof KNOWN / sizeof KNOWN[0]; i++) {
        if (length == KNOWN[i].length && hash == KNOWN[i].hash) {
            *kind = KNOWN[i].kind;
            return COHORT_OK;
        }
    }
    return error_set(err, COHORT_ERR_UNSUPPORTED,
                     "%s: unknown template: the model folder's chat_template (%zu bytes) is none "
                     "of Qwen3 hybrid and "
                     "Qwen3 Instruct-2507; give prompts as text, or use one of these templates",
                     where, length);
}

/* ---- Python's string methods, on spans ---- */

static struct span strip_newlines(struct span s, bool left, bool right)
{
    while (left && s.length > 0 && s.data[0] == '\n') {
        s.data++;
        s.length--;
    }
    while (right && s.length > 0 && s.data[s.length - 1] == '\n')
        s.length--;
    return s;
}

static bool starts_with(struct span s, const char *prefix)
{
    size_t n = strlen(prefix);
    return s.length >= n && memcmp(s.data, prefix, n) == 0;
}

static bool ends_with(struct span s, const char *suffix)
{
    size_t n = strlen(suffix);
    return s.length >= n && memcmp(s.data + s.length - n, suffix, n) == 0;
}

/* s.split(separator)[0], or all of s. */
static struct span before_first(struct span s, const char *separator)
{
    const char *at = memmem(s.data, s.length, separator, strlen(separator));
    if (at != NULL)
        s.length = (size_t)(at - s.data);
    return s;
}

/* s.split(separator)[-1], or all of s. */
static struct span after_last(struct span s, const char *separator)
{
    size_t n = strlen(separator);
    for (const char *at; (at = memmem(s.data, s.length, separator, n)) != NULL;)
        s = (struct span){at + n, s.length - (size_t)(at - s.data) - n};
    return s;
}

static cohort_status put(struct text *out, const char *text, cohort_error *err)
{
    return text_append(out, text, strlen(text), err);
}

static cohort_status put_span(struct text *out, struct span s, cohort_error *err)
{
    return text_append(out, s.data, s.length, err);
}

/* ---- messages ---- */

static struct span string_span(const json_t *string)
{
    return (struct span){json_string_value(string), json_string_length(string)};
}

/* What the templates hold false: absent, null, or empty. */
static bool is_absent(const json_t *value)
{
    return value == NULL || json_is_null(value) || json_is_false(value) ||
           (json_is_array(value) && json_array_size(value) == 0) ||
           (json_is_object(value) && json_object_size(value) == 0);
}

static cohort_status read_message(const json_t *messages, size_t index, const char *where,
                                  struct message *message, cohort_error *err)
{
    static const char *const unsupported[] = {"tool_calls", "tools"};
    const json_t *object = json_array_get(messages, index);
    if (!json_is_object(object))
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s: messages[%zu]: expected an object with role and content", where,
                         index);
    const json_t *role = json_object_get(object, "role");
    if (!json_is_string(role))
        return error_set(err, COHORT_ERR_FORMAT, "%s: messages[%zu].role: expected a string", where,
                         index);
    message->role = json_string_value(role);
    if (strcmp(message->role, "tool") == 0)
        return error_set(err, COHORT_ERR_UNSUPPORTED,
                         "%s: messages[%zu]: role \"tool\" is not supported", where, index);
    if (strcmp(message->role, "system") != 0 && strcmp(message->role, "user") != 0 &&
        strcmp(message->role, "assistant") != 0)
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s: messages[%zu].role: \"%.80s\" is none of system, user and assistant",
                         where, index, message->role);
    for (size_t i = 0; i < sizeof unsupported / sizeof unsupported[0]; i++)
        if (!is_absent(json_object_get(object, unsupported[i])))
            return error_set(err, COHORT_ERR_UNSUPPORTED, "%s: messages[%zu].%s is not supported",
                             where, index, unsupported[i]);
    const json_t *content = json_object_get(object, "content");
    if (!json_is_string(content))
        return error_set(err, COHORT_ERR_FORMAT, "%s: messages[%zu].content: expected a string",
                         where, index);
    message->content = string_span(content);
    const json_t *reasoning = json_object_get(object, "reasoning_content");
    message->has_reasoning = json_is_string(reasoning);
    message->reasoning = message->has_reasoning ? string_span(reasoning) : (struct span){"", 0};
    if (reasoning != NULL && !json_is_null(reasoning) && !message->has_reasoning)
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s: messages[%zu].reasoning_content: expected a string or null", where,
                         index);
    return COHORT_OK;
}

/* The last user message that is not a tool's answer; thinking is kept after it only. Without one,
 * the last message. */
static cohort_status find_last_query(const json_t *messages, const char *where, size_t *last,
                                     cohort_error *err)
{
    size_t count = json_array_size(messages);
    *last = count - 1;
    for (size_t i = count; i-- > 0;) {
        struct message message;
        TRY(read_message(messages, i, where, &message, err));
        if (strcmp(message.role, "user") == 0 &&
            !(starts_with(message.content, "<tool_response>") &&
              ends_with(message.content, "</tool_response>"))) {
            *last = i;
            return COHORT_OK;
        }
    }
    return COHORT_OK;
}

static cohort_status render_thinking(struct message message, bool after_query, bool is_last,
                                     struct text *out, cohort_error *err)
{
    struct span content = message.content, reasoning = message.reasoning;
    if (!message.has_reasoning &&
        memmem(content.data, content.length, "</think>", strlen("</think>")) != NULL) {
        reasoning = strip_newlines(before_first(content, "</think>"), false, true);
        reasoning = strip_newlines(after_last(reasoning, "<think>"), true, false);
        content = strip_newlines(after_last(content, "</think>"), true, false);
    }
    TRY(put(out, "<|im_start|>assistant\n", err));
    if (after_query && (is_last || reasoning.length > 0)) {
        TRY(put(out, "<think>\n", err));
        TRY(put_span(out, strip_newlines(reasoning, true, true), err));
        TRY(put(out, "\n</think>\n\n", err));
        content = strip_newlines(content, true, false);
    }
    TRY(put_span(out, content, err));
    return put(out, "<|im_end|>\n", err);
}

static cohort_status render_plain(struct message message, struct text *out, cohort_error *err)
{
    TRY(put(out, "<|im_start|>", err));
    TRY(put(out, message.role, err));
    TRY(put(out, "\n", err));
    TRY(put_span(out, message.content, err));
    return put(out, "<|im_end|>\n", err);
}

static cohort_status render_all(enum template_kind kind, const json_t *messages,
                                const struct chat_options *options, const char *where,
                                struct text *out, cohort_error *err)
{
    size_t count = json_array_size(messages), last_query = 0;
    TRY(find_last_query(messages, where, &last_query, err));
    for (size_t i = 0; i < count; i++) {
        struct message message;
        TRY(read_message(messages, i, where, &message, err));
        if (kind == TEMPLATE_HYBRID && strcmp(message.role, "assistant") == 0)
            TRY(render_thinking(message, i > last_query, i + 1 == count, out, err));
        else
            TRY(render_plain(message, out, err));
    }
    if (!options->add_generation_prompt)
        return COHORT_OK;
    TRY(put(out, "<|im_start|>assistant\n", err));
    if (kind == TEMPLATE_HYBRID && !options->enable_thinking)
        TRY(put(out, "<think>\n\n</think>\n\n", err));
    return COHORT_OK;
}

cohort_status chat_template_render(const char *template_text, const json_t *messages,
                                   const struct chat_options *options, const char *where,
                                   struct text *out, cohort_error *err)
{
    enum template_kind kind = TEMPLATE_HYBRID;
    TRY(recognise(template_text, where, &kind, err));
    if (!json_is_array(messages) || json_array_size(messages) == 0)
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s: messages: expected a non-empty array of messages", where);
    size_t length_before = out->length;
    cohort_status status = render_all(kind, messages, options, where, out, err);
    if (status != COHORT_OK && out->data != NULL) {
        out->length = length_before;
        out->data[length_before] = '\0';
    }
    return status;
}

/* Renders what Qwen3's Jinja templates render, without Jinja. Which template a folder has is told
 * by its exact text. */
#include "text/chat_template.h"

#include <string.h>

/* A part of a string. */
struct span {
    const char *data;
    size_t length;
};

/* What the templates differ in. */
struct template_kind {
    enum { THINK_NEVER, THINK_LAST, THINK_ALWAYS } think; /* which answers get a thinking block */
    enum { OPEN_PLAIN, OPEN_HYBRID, OPEN_THINKING } open; /* what the generation prompt ends with */
};

struct message {
    const char *role;
    struct span content, reasoning;
    bool has_reasoning;
    enum content_kind kind;
};

/* Where a rendering goes. */
struct render {
    struct text *out;
    struct content_spans *spans; /* may be NULL */
    cohort_error *err;
};

static const struct {
    size_t length;
    uint64_t hash; /* FNV-1a of the text with its lines ended by LF, without trailing white space */
    struct template_kind kind;
} KNOWN[] = {
    /* Qwen3's hybrid template, first revision (chat_template_qwen3) and second. */
    {4116, 0x2bfdb7aa9754484eu, {THINK_LAST, OPEN_HYBRID}},
    {4168, 0x959a4551391a6549u, {THINK_LAST, OPEN_HYBRID}},
    /* Qwen3-*-Instruct-2507 and Qwen3-*-Thinking-2507. */
    {2630, 0x3751fe8ea48448abu, {THINK_NEVER, OPEN_PLAIN}},
    {4049, 0xcd0d41a64dfce181u, {THINK_LAST, OPEN_THINKING}},
    /* TRL's qwen3_training.jinja and qwen3_instruct_2507_training.jinja. */
    {4360, 0x93e7eabf9116aa31u, {THINK_ALWAYS, OPEN_HYBRID}},
    {3165, 0xe8faca59b0472e66u, {THINK_NEVER, OPEN_PLAIN}},
};

/* Jinja reads CR LF as LF. */
static void hash_template(const char *text, size_t *length, uint64_t *hash)
{
    size_t end = strlen(text);
    while (end > 0 && strchr(" \t\r\n", text[end - 1]) != NULL)
        end--;
    *hash = 0xcbf29ce484222325u;
    *length = 0;
    for (size_t i = 0; i < end; i++) {
        if (text[i] == '\r' && text[i + 1] == '\n')
            continue;
        *hash = (*hash ^ (unsigned char)text[i]) * 0x100000001b3u;
        ++*length;
    }
}

static cohort_status recognise(const char *text, const char *where, struct template_kind *kind, cohort_error *err)
{
    size_t length = 0;
    uint64_t hash = 0;
    hash_template(text == NULL ? chat_template_qwen3() : text, &length, &hash);
    for (size_t i = 0; i < sizeof KNOWN / sizeof KNOWN[0]; i++) {
        if (length == KNOWN[i].length && hash == KNOWN[i].hash) {
            *kind = KNOWN[i].kind;
            return COHORT_OK;
        }
    }
    if (length == 0)
        return error_set(err, COHORT_ERR_UNSUPPORTED,
                         "%s: unknown template: the model folder's chat_template is empty, or has "
                         "none named \"default\"; give prompts as text, or add a template",
                         where);
    return error_set(err, COHORT_ERR_UNSUPPORTED,
                     "%s: unknown template: the model folder's chat_template (%zu bytes) is none "
                     "of Qwen3's (hybrid, Instruct-2507, Thinking-2507) and of TRL's for training "
                     "them; give prompts as text, or use one of these templates",
                     where, length);
}

const char *chat_template_turn_end(const char *template_text)
{
    static const char end[] = "<|im_end|>";
    return template_text == NULL || strstr(template_text, end) != NULL ? end : NULL;
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

static cohort_status put(const struct render *to, const char *text)
{
    return text_append(to->out, text, strlen(text), to->err);
}

static cohort_status put_content(const struct render *to, struct span s, enum content_kind kind)
{
    size_t from = to->out->length;
    TRY(text_append(to->out, s.data, s.length, to->err));
    return to->spans == NULL ? COHORT_OK : content_spans_push(to->spans, from, to->out->length, kind, to->err);
}

/* ---- messages ---- */

static struct span string_span(const json_t *string)
{
    return (struct span){json_string_value(string), json_string_length(string)};
}

bool chat_value_absent(const json_t *value)
{
    return value == NULL || json_is_null(value) || json_is_false(value) ||
           (json_is_array(value) && json_array_size(value) == 0) ||
           (json_is_object(value) && json_object_size(value) == 0) ||
           (json_is_string(value) && json_string_length(value) == 0);
}

static cohort_status read_message(const json_t *messages, size_t index, const char *where, struct message *message,
                                  cohort_error *err)
{
    static const char *const unsupported[] = {"tool_calls", "tools"};
    const json_t *object = json_array_get(messages, index);
    if (!json_is_object(object))
        return error_set(err, COHORT_ERR_FORMAT, "%s: messages[%zu]: expected an object with role and content", where,
                         index);
    const json_t *role = json_object_get(object, "role");
    if (!json_is_string(role))
        return error_set(err, COHORT_ERR_FORMAT, "%s: messages[%zu].role: expected a string", where, index);
    message->role = json_string_value(role);
    if (strcmp(message->role, "tool") == 0)
        return error_set(err, COHORT_ERR_UNSUPPORTED, "%s: messages[%zu]: role \"tool\" is not supported", where,
                         index);
    if (strcmp(message->role, "system") != 0 && strcmp(message->role, "user") != 0 &&
        strcmp(message->role, "assistant") != 0)
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s: messages[%zu].role: \"%.80s\" is none of system, user and assistant", where, index,
                         message->role);
    for (size_t i = 0; i < sizeof unsupported / sizeof unsupported[0]; i++)
        if (!chat_value_absent(json_object_get(object, unsupported[i])))
            return error_set(err, COHORT_ERR_UNSUPPORTED, "%s: messages[%zu].%s is not supported", where, index,
                             unsupported[i]);
    const json_t *content = json_object_get(object, "content");
    if (!json_is_string(content))
        return error_set(err, COHORT_ERR_FORMAT, "%s: messages[%zu].content: expected a string", where, index);
    message->content = string_span(content);
    message->kind = strcmp(message->role, "assistant") == 0 ? CONTENT_ASSISTANT : CONTENT_FOREIGN;
    const json_t *reasoning = json_object_get(object, "reasoning_content");
    message->has_reasoning = json_is_string(reasoning);
    message->reasoning = message->has_reasoning ? string_span(reasoning) : (struct span){"", 0};
    if (reasoning != NULL && !json_is_null(reasoning) && !message->has_reasoning)
        return error_set(err, COHORT_ERR_FORMAT, "%s: messages[%zu].reasoning_content: expected a string or null",
                         where, index);
    return COHORT_OK;
}

/* The last user message that is not a tool's answer; thinking is kept after it only. Without one,
 * the last message. */
static cohort_status find_last_query(const json_t *messages, const char *where, size_t *last, cohort_error *err)
{
    size_t count = json_array_size(messages);
    *last = count - 1;
    for (size_t i = count; i-- > 0;) {
        struct message message;
        TRY(read_message(messages, i, where, &message, err));
        if (strcmp(message.role, "user") == 0 &&
            !(starts_with(message.content, "<tool_response>") && ends_with(message.content, "</tool_response>"))) {
            *last = i;
            return COHORT_OK;
        }
    }
    return COHORT_OK;
}

/* The answer up to its end; block: with a thinking block. */
static cohort_status render_answer(const struct render *to, struct message message, const struct template_kind *kind,
                                   bool after_query, bool is_last)
{
    struct span content = message.content, reasoning = message.reasoning;
    if (!message.has_reasoning && memmem(content.data, content.length, "</think>", strlen("</think>")) != NULL) {
        reasoning = strip_newlines(before_first(content, "</think>"), false, true);
        reasoning = strip_newlines(after_last(reasoning, "<think>"), true, false);
        content = strip_newlines(after_last(content, "</think>"), true, false);
    }
    TRY(put(to, "<|im_start|>assistant\n"));
    if (kind->think == THINK_ALWAYS || (after_query && (is_last || reasoning.length > 0))) {
        TRY(put(to, "<think>\n"));
        TRY(put_content(to, strip_newlines(reasoning, true, true), message.kind));
        TRY(put(to, "\n</think>\n\n"));
        content = strip_newlines(content, true, false);
    }
    return put_content(to, content, message.kind);
}

static cohort_status render_plain(const struct render *to, struct message message)
{
    TRY(put(to, "<|im_start|>"));
    TRY(put(to, message.role));
    TRY(put(to, "\n"));
    return put_content(to, message.content, message.kind);
}

/* As transformers does: what is to be continued must stand in the rendering as it was given. */
static cohort_status check_continued(const struct render *to, size_t from, struct message message, const char *where)
{
    struct span s = message.content;
    while (s.length > 0 && strchr(" \t\n\r\v\f", s.data[s.length - 1]) != NULL)
        s.length--;
    while (s.length > 0 && strchr(" \t\n\r\v\f", s.data[0]) != NULL) {
        s.data++;
        s.length--;
    }
    if (s.length == 0 || memmem(to->out->data + from, to->out->length - from, s.data, s.length) != NULL)
        return COHORT_OK;
    return error_set(to->err, COHORT_ERR_FORMAT,
                     "%s: the last message is the assistant's, to be gone on with, but the chat "
                     "template changes what stands before its </think>: write it as "
                     "\"<think>\\n...\\n</think>\\n\\n...\", or end with the user's message",
                     where);
}

static cohort_status render_all(const struct render *to, const struct template_kind *kind, const json_t *messages,
                                const struct chat_options *options, const char *where)
{
    size_t count = json_array_size(messages), last_query = 0, start = to->out->length;
    TRY(find_last_query(messages, where, &last_query, to->err));
    for (size_t i = 0; i < count; i++) {
        struct message message;
        bool is_last = i + 1 == count;
        TRY(read_message(messages, i, where, &message, to->err));
        if (kind->think != THINK_NEVER && message.kind == CONTENT_ASSISTANT)
            TRY(render_answer(to, message, kind, i > last_query, is_last));
        else
            TRY(render_plain(to, message));
        if (!is_last || !options->continue_final) {
            TRY(put(to, "<|im_end|>\n"));
            continue;
        }
        if (message.kind != CONTENT_ASSISTANT)
            return error_set(to->err, COHORT_ERR_FORMAT,
                             "%s: messages[%zu]: expected a message of the assistant to go on with", where, i);
        return check_continued(to, start, message, where);
    }
    if (!options->add_generation_prompt)
        return COHORT_OK;
    TRY(put(to, "<|im_start|>assistant\n"));
    if (kind->open == OPEN_THINKING)
        return put(to, "<think>\n");
    if (kind->open == OPEN_HYBRID && !options->enable_thinking)
        return put(to, "<think>\n\n</think>\n\n");
    return COHORT_OK;
}

cohort_status chat_template_render(const char *template_text, const json_t *messages,
                                   const struct chat_options *options, const char *where, struct text *out,
                                   struct content_spans *spans, cohort_error *err)
{
    struct template_kind kind = {0};
    const struct render to = {.out = out, .spans = spans, .err = err};
    TRY(recognise(template_text, where, &kind, err));
    if (!json_is_array(messages) || json_array_size(messages) == 0)
        return error_set(err, COHORT_ERR_FORMAT, "%s: messages: expected a non-empty array of messages", where);
    size_t length_before = out->length, spans_before = spans == NULL ? 0 : spans->count;
    cohort_status status = render_all(&to, &kind, messages, options, where);
    if (status != COHORT_OK && out->data != NULL) {
        out->length = length_before;
        out->data[length_before] = '\0';
    }
    if (status != COHORT_OK && spans != NULL)
        spans->count = spans_before;
    return status;
}

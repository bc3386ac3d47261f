#include "serve/speech.h"

#include "base/json_text.h"

#include <string.h>

static const char think_open[] = "<think>", think_close[] = "</think>";

static bool blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

/* What begins a call within content, or NULL. */
static const char *call_tag(const struct speech *s)
{
    if (!s->calls)
        return NULL;
    switch (s->form) {
    case RESPONSE_HERMES:
    case RESPONSE_XML: return "<tool_call>";
    case RESPONSE_LLAMA: return "<|python_tag|>";
    case RESPONSE_MISTRAL: return "[TOOL_CALLS]";
    default: return NULL;
    }
}

/* What ends one; NULL: the answer's end alone does. */
static const char *call_end(const struct speech *s)
{
    return s->form == RESPONSE_HERMES || s->form == RESPONSE_XML ? "</tool_call>" : NULL;
}

/* Bytes at the end of text that are the beginning of tag, all of which is not there. */
static size_t begun(const char *text, size_t length, const char *tag)
{
    const size_t most = strlen(tag) - 1;
    for (size_t n = most < length ? most : length; n > 0; n--)
        if (memcmp(text + length - n, tag, n) == 0)
            return n;
    return 0;
}

void speech_begin(struct speech *s, bool in_thinking)
{
    s->state = in_thinking ? SPEECH_THINKING : SPEECH_CONTENT;
    s->fresh = in_thinking;
    s->at = 0;
}

/* Hands out text[at, to) of the state, without white space at its beginning where it is fresh. */
static cohort_status say(struct speech *s, const char *text, size_t to, const struct speech_sink *sink,
                         cohort_error *err)
{
    while (s->fresh && s->at < to && blank(text[s->at]))
        s->at++;
    if (s->at >= to)
        return COHORT_OK;
    const size_t from = s->at;
    s->fresh = false;
    s->at = to;
    if (s->one && s->n_calls > 0)
        return COHORT_OK;
    if (s->state == SPEECH_CONTENT)
        return sink->content(sink->context, text + from, to - from, err);
    s->thought += (int64_t)(to - from);
    return sink->thinking(sink->context, text + from, to - from, err);
}

/* Up to a tag at [tag, tag + length), whose neighbours of white space go too. */
static cohort_status say_before(struct speech *s, const char *text, size_t tag, size_t length,
                                const struct speech_sink *sink, cohort_error *err)
{
    size_t to = tag;
    while (to > s->at && blank(text[to - 1]))
        to--;
    TRY(say(s, text, to, sink, err));
    s->at = tag + length;
    s->fresh = true;
    return COHORT_OK;
}

/* Calls in text[from, to), as they stand. */
static cohort_status say_calls(struct speech *s, const char *text, size_t from, size_t to,
                               const struct speech_sink *sink, cohort_error *err)
{
    struct response response = {0};
    cohort_status status = response_parse(&response, text + from, to - from, s->form, false, s->tools, err);
    for (size_t i = 0; i < response.n_parts && status == COHORT_OK; i++) {
        const struct response_part *part = &response.parts[i];
        const char *bytes = text + from + part->from;
        const size_t length = part->to - part->from;
        const struct response_call *call = part->kind == RESPONSE_CALL ? &response.calls[part->call] : NULL;
        if (s->one && s->n_calls > 0)
            break;
        if (call == NULL || call->error != NULL || !json_is_object(call->arguments)) {
            s->n_broken += call != NULL;
            status = sink->content(sink->context, bytes, length, err);
            continue;
        }
        struct text arguments = {0};
        status = json_text_write(call->arguments, 0, &arguments, err);
        if (status == COHORT_OK)
            status = sink->call(sink->context, call->name, call->id, arguments.data, arguments.length, err);
        s->n_calls++;
        text_free(&arguments);
    }
    response_free(&response);
    return status;
}

/* One step in thinking or content: false in *more where nothing can be done before more text comes. */
static cohort_status step(struct speech *s, const char *text, size_t length, bool last, const struct speech_sink *sink,
                          bool *more, cohort_error *err)
{
    const char *tags[2] = {s->state == SPEECH_THINKING ? think_close : think_open,
                           s->state == SPEECH_CONTENT ? call_tag(s) : NULL};
    size_t best = length, held = 0;
    int which = -1;
    *more = false;
    for (int i = 0; i < 2; i++) {
        if (tags[i] == NULL)
            continue;
        const char *found = memmem(text + s->at, length - s->at, tags[i], strlen(tags[i]));
        const size_t n = begun(text + s->at, length - s->at, tags[i]);
        held = n > held ? n : held;
        if (found != NULL && (size_t)(found - text) < best) {
            best = (size_t)(found - text);
            which = i;
        }
    }
    if (which == 0) {
        TRY(say_before(s, text, best, strlen(tags[0]), sink, err));
        s->state = s->state == SPEECH_THINKING ? SPEECH_CONTENT : SPEECH_THINKING;
        *more = true;
        return COHORT_OK;
    }
    if (which == 1) {
        TRY(say_before(s, text, best, 0, sink, err));
        s->state = SPEECH_CALL;
        *more = true;
        return COHORT_OK;
    }
    size_t to = last ? length : length - held;
    while (to > s->at && blank(text[to - 1]) && (!last || s->state == SPEECH_THINKING))
        to--;
    return say(s, text, to, sink, err);
}

/* Llama's calls have no tag where the answer is nothing but one. */
static bool bare_call(const struct speech *s, const char *text, size_t length)
{
    size_t at = s->at;
    if (!s->calls || s->form != RESPONSE_LLAMA || s->state != SPEECH_CONTENT || s->at > 0)
        return false;
    while (at < length && blank(text[at]))
        at++;
    return at < length && text[at] == '{';
}

cohort_status speech_feed(struct speech *s, const char *text, size_t length, bool last, const struct speech_sink *sink,
                          cohort_error *err)
{
    bool more = true;
    if (s->plain) {
        const size_t from = s->at;
        s->at = length;
        return from < length ? sink->content(sink->context, text + from, length - from, err) : COHORT_OK;
    }
    if (bare_call(s, text, length))
        s->state = SPEECH_CALL;
    while (more && s->at < length) {
        if (s->state != SPEECH_CALL) {
            TRY(step(s, text, length, last, sink, &more, err));
            continue;
        }
        const char *end = call_end(s);
        const char *found = end != NULL ? memmem(text + s->at, length - s->at, end, strlen(end)) : NULL;
        if (found == NULL && !last)
            return COHORT_OK;
        const size_t to = found != NULL ? (size_t)(found - text) + strlen(end) : length, from = s->at;
        s->at = to;
        s->state = SPEECH_CONTENT;
        s->fresh = true;
        TRY(say_calls(s, text, from, to, sink, err));
    }
    return COHORT_OK;
}

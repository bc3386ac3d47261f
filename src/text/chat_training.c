#include "text/chat_training.h"

#include <string.h>

void chat_training_free(struct chat_training *training)
{
    text_free(&training->text);
    content_spans_free(&training->spans);
    content_spans_free(&training->trained);
}

/* A rendering of some first messages. */
struct rendering {
    struct text text;
    struct content_spans spans;
};

static void rendering_free(struct rendering *rendering)
{
    text_free(&rendering->text);
    content_spans_free(&rendering->spans);
    memset(rendering, 0, sizeof *rendering);
}

struct job {
    const struct chat_template *chat;
    const json_t *messages;
    const struct chat_options *options;
    const char *where;
    cohort_error *err;
};

/* The first count messages, with or without the prompt for the next. */
static cohort_status render_first(const struct job *job, size_t count, bool prompt, struct rendering *out)
{
    struct chat_options options = *job->options;
    options.continue_final = false;
    options.add_generation_prompt = prompt;
    json_t *head = json_array();
    bool made = head != NULL;
    for (size_t i = 0; made && i < count; i++)
        made = json_array_append(head, json_array_get(job->messages, i)) == 0;
    cohort_status status =
        made ? chat_template_render(job->chat, head, &options, job->where, &out->text, &out->spans, job->err)
             : error_set(job->err, COHORT_ERR_MEMORY, "%s: cannot copy messages", job->where);
    json_decref(head);
    return status;
}

static bool is_assistant(const json_t *messages, size_t i)
{
    const char *role = json_string_value(json_object_get(json_array_get(messages, i), "role"));
    return role != NULL && strcmp(role, "assistant") == 0;
}

/* How many bytes a and b begin with in common. */
static size_t common(const struct text *a, const struct text *b)
{
    size_t n = 0;
    while (n < a->length && n < b->length && a->data[n] == b->data[n])
        n++;
    return n;
}

/* Appends bytes [from, to) of a rendering with their spans. */
static cohort_status take(struct chat_training *out, const struct rendering *from, size_t begin, size_t end,
                          cohort_error *err)
{
    const size_t before = out->text.length;
    TRY(text_append(&out->text, from->text.data + begin, end - begin, err));
    out->spans.markers = from->spans.markers;
    for (size_t i = 0; i < from->spans.count; i++) {
        const struct content_span *span = &from->spans.items[i];
        const size_t first = span->from > begin ? span->from : begin, last = span->to < end ? span->to : end;
        if (first < last)
            TRY(content_spans_push(&out->spans, before + first - begin, before + last - begin, span->kind, err));
    }
    return COHORT_OK;
}

/* ---- the last message ---- */

static cohort_status render_last(struct chat_training *out, const struct job *job)
{
    const size_t n = json_array_size(job->messages);
    struct rendering before = {0}, all = {0};
    cohort_status status = COHORT_OK;
    if (n < 2 || !is_assistant(job->messages, n - 1))
        return error_set(job->err, COHORT_ERR_FORMAT,
                         "%s: the last message must be the assistant's, with something before it to answer",
                         job->where);
    TRY_GOTO(render_first(job, n - 1, true, &before));
    TRY_GOTO(render_first(job, n, false, &all));
    const size_t begin = before.text.length;
    size_t end = all.text.length;
    if (end > 0 && all.text.data[end - 1] == '\n') /* behind the end of the turn: never generated, not learned */
        end--;
    if (end <= begin || common(&all.text, &before.text) < begin) {
        const bool off = job->options->thinking == CHAT_THINKING_OFF;
        status = error_set(job->err, COHORT_ERR_FORMAT,
                           "%s: with thinking %s the rendered prompt is no beginning of the rendered conversation, so "
                           "that what the last message adds to it is not known; --thinking %s may render it otherwise, "
                           "else give prompt and completion as text",
                           job->where, off ? "off" : "on", off ? "true" : "false");
        goto cleanup;
    }
    TRY_GOTO(take(out, &all, 0, end, job->err));
    status = content_spans_push(&out->trained, begin, end, CONTENT_ASSISTANT, job->err);
cleanup:
    rendering_free(&before);
    rendering_free(&all);
    return status;
}

/* ---- every message of the assistant ---- */

/* A turn of the assistant, as it is rendered while it is the last. */
struct turn {
    struct rendering asked;  /* with the prompt for the message */
    struct rendering told;   /* with the message */
    size_t begin;            /* in told: behind the prompt */
    size_t content_end, end; /* in told: behind its last word; behind its turn */
};

static size_t last_assistant_end(const struct content_spans *spans)
{
    for (size_t i = spans->count; i-- > 0;)
        if (spans->items[i].kind == CONTENT_ASSISTANT)
            return spans->items[i].to;
    return 0;
}

/* Whether the message's own text has thinking that the rendering of its turn lacks. */
static bool loses_thinking(const struct job *job, size_t index, const struct turn *turn)
{
    static const char close[] = "</think>";
    const size_t n = strlen(close);
    const json_t *content = json_object_get(json_array_get(job->messages, index), "content");
    const struct text *told = &turn->told.text;
    return json_is_string(content) &&
           memmem(json_string_value(content), json_string_length(content), close, n) != NULL &&
           memmem(told->data + turn->begin, told->length - turn->begin, close, n) == NULL;
}

static cohort_status refuse(const struct job *job, size_t index)
{
    return error_set(
        job->err, COHORT_ERR_UNSUPPORTED,
        "%s: messages[%zu]: the chat template renders this turn of the assistant in another way once later "
        "messages follow, so that it cannot be learned as it was written; name a template with {%% generation "
        "%%} by --chat-template, or end the conversation there",
        job->where, index);
}

static cohort_status render_turn(const struct job *job, size_t index, struct turn *turn)
{
    static const char think[] = "<think>";
    TRY(render_first(job, index, true, &turn->asked));
    TRY(render_first(job, index + 1, false, &turn->told));
    const struct text *asked = &turn->asked.text, *told = &turn->told.text;
    turn->begin = common(asked, told);
    turn->end = told->length;
    turn->content_end = last_assistant_end(&turn->told.spans);
    if (turn->content_end < turn->begin) /* it says nothing */
        turn->content_end = turn->begin;
    /* A block of thinking that the prompt opens is the turn's. */
    struct rendering bare = {0};
    cohort_status status = render_first(job, index, false, &bare);
    const size_t header = common(&bare.text, asked);
    if (status == COHORT_OK && turn->begin < header) /* what comes before it is written in another way */
        status = refuse(job, index);
    const char *found = status == COHORT_OK && header < turn->begin
                            ? memmem(told->data + header, turn->begin - header, think, strlen(think))
                            : NULL;
    if (found != NULL)
        turn->begin = (size_t)(found - told->data);
    rendering_free(&bare);
    return status;
}

static void turn_free(struct turn *turn)
{
    rendering_free(&turn->asked);
    rendering_free(&turn->told);
}

/* Where the turn ends in whole, which is told up to byte parting: not within a tag that begins as another does, and where a
 * turn that is not the last is closed by another tag (gpt-oss's), behind that. */
static size_t end_before(const struct turn *turn, const struct text *whole, size_t parting)
{
    const char *told = turn->told.text.data;
    size_t end = parting;
    for (size_t at = parting; parting < turn->told.text.length && at > turn->content_end; at--) {
        if (told[at - 1] == '>' || told[at - 1] == ']')
            break;
        if (told[at - 1] == '<' || told[at - 1] == '[') {
            end = at - 1;
            break;
        }
    }
    if (end < turn->told.text.length && end == turn->content_end && whole->data[end] == '<') {
        const char *tag_end = memchr(whole->data + end, '>', whole->length - end);
        end = tag_end == NULL ? end : (size_t)(tag_end - whole->data) + 1;
    }
    return end;
}

/* Whether the turn stands in whole, which has later messages, as it was written. Then *end is where it ends there. */
static bool stands_in(const struct turn *turn, const struct text *whole, size_t *end)
{
    const size_t parting = common(&turn->told.text, whole);
    if (parting < turn->content_end || parting <= turn->begin)
        return false;
    *end = end_before(turn, whole, parting);
    return true;
}

/* Where in later, which has later messages, the turn ends, though its beginning was rewritten: behind its words comes
 * what came behind them when it was the last. 0: it cannot be told. later's last words of the assistant are the turn's. */
static size_t end_in(const struct turn *turn, const struct rendering *later)
{
    const char *tail = turn->told.text.data + turn->content_end;
    const size_t n = turn->told.text.length - turn->content_end, at = last_assistant_end(&later->spans);
    if (n == 0 || at == 0 || turn->content_end == turn->begin || later->text.length - at < n ||
        memcmp(later->text.data + at, tail, n) != 0)
        return 0;
    return at + n;
}

/* Turns one after another, each as it was written: of a template that leaves the thinking of earlier turns out. */
static cohort_status compose(struct chat_training *out, const struct job *job)
{
    const size_t n = json_array_size(job->messages);
    struct turn turn = {0}, next = {0};
    struct rendering all = {0};
    cohort_status status = COHORT_OK;
    bool begun = false;
    out->text.length = 0;
    out->spans.count = out->trained.count = 0;
    for (size_t i = 0; i < n; i++) {
        if (!is_assistant(job->messages, i))
            continue;
        TRY_GOTO(render_turn(job, i, &next));
        const size_t from = begun ? end_in(&turn, &next.asked) : 0;
        if (begun && (from == 0 || from > next.begin)) {
            status = refuse(job, i);
            goto cleanup;
        }
        TRY_GOTO(take(out, &next.asked, from, next.begin, job->err));
        const size_t begin = out->text.length;
        TRY_GOTO(take(out, &next.told, next.begin, next.end, job->err));
        TRY_GOTO(content_spans_push(&out->trained, begin, out->text.length, CONTENT_ASSISTANT, job->err));
        turn_free(&turn);
        turn = next;
        memset(&next, 0, sizeof next);
        begun = true;
    }
    TRY_GOTO(render_first(job, n, false, &all));
    const size_t rest = is_assistant(job->messages, n - 1) ? all.text.length : end_in(&turn, &all);
    status = rest == 0 ? refuse(job, n - 1) : take(out, &all, rest, all.text.length, job->err);
cleanup:
    turn_free(&turn);
    turn_free(&next);
    rendering_free(&all);
    return status;
}

/* Whether the turn's block of thinking is left out of whole altogether: where the two part, "<think>" stands in the one
 * alone. Of templates that leave an empty block behind, a turn without thinking is what its model writes too. */
static bool drops_thinking(const struct turn *turn, const struct text *whole)
{
    static const char think[] = "<think>";
    const size_t n = strlen(think), parting = common(&turn->told.text, whole);
    for (size_t at = parting >= n ? parting - n + 1 : 0; at <= parting && at + n <= turn->told.text.length; at++)
        if (memcmp(turn->told.text.data + at, think, n) == 0)
            return true;
    return false;
}

static cohort_status render_all(struct chat_training *out, const struct job *job)
{
    const size_t n = json_array_size(job->messages);
    struct chat_options options = *job->options;
    struct turn turn = {0};
    bool marked = false, composed = false;
    cohort_status status = COHORT_OK;
    options.continue_final = options.add_generation_prompt = false;
    TRY(chat_template_render_marked(job->chat, job->messages, &options, job->where, &out->text, &out->spans,
                                    &out->trained, &marked, job->err));
    for (size_t i = 0; i < n && !marked && !composed; i++) {
        size_t end = 0;
        if (!is_assistant(job->messages, i))
            continue;
        TRY_GOTO(render_turn(job, i, &turn));
        if (loses_thinking(job, i, &turn)) {
            status =
                error_set(job->err, COHORT_ERR_UNSUPPORTED,
                          "%s: messages[%zu]: the chat template leaves its thinking out, which would not be learned; "
                          "name a template with {%% generation %%} by --chat-template, or leave the thinking out",
                          job->where, i);
            goto cleanup;
        }
        if (stands_in(&turn, &out->text, &end)) {
            TRY_GOTO(content_spans_push(&out->trained, turn.begin, end, CONTENT_ASSISTANT, job->err));
        } else if (drops_thinking(&turn, &out->text)) {
            composed = true;
        } else {
            status = refuse(job, i);
            goto cleanup;
        }
        turn_free(&turn);
    }
    if (composed)
        status = compose(out, job);
cleanup:
    turn_free(&turn);
    return status;
}

cohort_status chat_training_render(struct chat_training *out, const struct chat_template *chat, const json_t *messages,
                                   const struct chat_options *options, enum chat_trained trained, const char *where,
                                   cohort_error *err)
{
    const struct job job = {.chat = chat, .messages = messages, .options = options, .where = where, .err = err};
    return trained == CHAT_LAST ? render_last(out, &job) : render_all(out, &job);
}

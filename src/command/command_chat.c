/* cohort chat: a conversation with a person, or with a program a line at a time.
 *
 * A turn renders the conversation as it now is and asks the engine, which still knows the keys and values of what the turns
 * before had alike. An answer is taken apart while it comes (serve/speech.h), so that thinking and calls of tools are shown
 * as what they are. A stop ends the answer that is under way; the conversation goes on with what was said. */
#include "base/clock.h"
#include "base/file.h"
#include "base/json_text.h"
#include "command/command.h"
#include "recipe/end_of_text.h"
#include "recipe/generation_file.h"
#include "recipe/json_rows.h"
#include "recipe/row_prompt.h"
#include "serve/speech.h"

#include <stdio.h>
#include <string.h>

/* What an answer has been so far. */
struct answer {
    struct text raw; /* as the model writes it, tags and all; special tokens where its calls are made of them */
    struct token_stream stream;
    struct speech speech;
    struct text thinking, content;
    json_t *calls;
    bool thinks; /* what stands on the screen last is thinking */
    bool in_row; /* it ends within a row */
    int32_t n_tokens;
    double asked, first;
    enum finish_reason finish;
    cohort_status status; /* of the callback, which cannot return one */
    cohort_error *err;
};

struct chat {
    struct options *options;
    const cohort_observer *observer;
    struct session session;
    struct engine *engine;
    struct engine_request pattern;
    int32_t context;
    enum chat_thinking thinking;
    bool trust;
    bool special; /* the family writes calls in special tokens, which its text then keeps */
    json_t *messages, *tools;
    const char *system;
    char *given_system; /* by /system */
    char *saved;        /* the file that /save wrote last */
    struct answer *answer;
    bool ended;
};

static bool person(const struct chat *c) { return observer_columns(c->observer) > 0; }

static void style(const struct chat *c, cohort_style kind)
{
    if (c->observer->style != NULL)
        c->observer->style(c->observer->context, kind);
}

/* ---- What is shown ---- */

/* Text for the screen; to a terminal without what would drive it. */
static cohort_status show(struct chat *c, const char *text, size_t length, cohort_error *err)
{
    struct text shown = {0};
    cohort_status status =
        person(c) ? text_append_shown(&shown, text, length, err) : text_append(&shown, text, length, err);
    if (status == COHORT_OK)
        observer_output(c->observer, &shown);
    if (length > 0)
        c->answer->in_row = text[length - 1] != '\n';
    text_free(&shown);
    return status;
}

/* Between thinking and what follows it: dimmed to a person, with its tags to a program. */
static cohort_status turn_to(struct chat *c, bool thinks, cohort_error *err)
{
    struct answer *a = c->answer;
    if (a->thinks == thinks)
        return COHORT_OK;
    a->thinks = thinks;
    if (thinks) {
        style(c, COHORT_STYLE_THINKING);
        return person(c) ? COHORT_OK : show(c, "<think>\n", 8, err);
    }
    style(c, COHORT_STYLE_PLAIN);
    return person(c) ? show(c, "\n\n", 2, err) : show(c, "\n</think>\n\n", 11, err);
}

static cohort_status on_thinking(void *context, const char *text, size_t length, cohort_error *err)
{
    struct chat *c = context;
    TRY(turn_to(c, true, err));
    TRY(text_append(&c->answer->thinking, text, length, err));
    return show(c, text, length, err);
}

static cohort_status on_content(void *context, const char *text, size_t length, cohort_error *err)
{
    struct chat *c = context;
    TRY(turn_to(c, false, err));
    TRY(text_append(&c->answer->content, text, length, err));
    return show(c, text, length, err);
}

static cohort_status on_call(void *context, const char *name, const char *id, const char *arguments, size_t length,
                             cohort_error *err)
{
    struct chat *c = context;
    struct text line = {0};
    json_t *value = NULL;
    cohort_status status = COHORT_OK;
    TRY(turn_to(c, false, err));
    if (c->answer->in_row)
        TRY(show(c, "\n", 1, err));
    style(c, COHORT_STYLE_CALL);
    TRY_GOTO(text_printf(&line, err, "call: %s(%.*s)", name, (int)length, arguments));
    TRY_GOTO(show(c, line.data, line.length, err));
    style(c, COHORT_STYLE_PLAIN);
    TRY_GOTO(show(c, "\n", 1, err));
    TRY_GOTO(json_text_parse(&value, arguments, length, "arguments", 1, JSON_TEXT_REPEATED, err));
    json_t *call = json_pack("{s:s, s:{s:s, s:O}}", "type", "function", "function", "name", name, "arguments", value);
    if (call == NULL || (id != NULL && json_object_set_new(call, "id", json_string(id)) != 0) ||
        json_array_append(c->answer->calls, call) != 0)
        status = error_set(err, COHORT_ERR_MEMORY, "out of memory for a call");
    json_decref(call);
cleanup:
    json_decref(value);
    text_free(&line);
    return status;
}

/* ---- The answer ---- */

static cohort_status take(struct chat *c, const struct engine_event *event)
{
    struct answer *a = c->answer;
    const struct speech_sink sink = {c, on_thinking, on_content, on_call};
    if (event->token >= 0)
        a->n_tokens++;
    if (c->special && event->token >= 0 && event->finish_reason != FINISH_EOS)
        TRY(token_stream_push(&a->stream, c->session.tokenizer, event->token, false, &a->raw, a->err));
    else if (!c->special)
        TRY(text_append(&a->raw, event->text, event->text_length, a->err));
    if (c->special && event->finish_reason != FINISH_NONE)
        TRY(token_stream_finish(&a->stream, c->session.tokenizer, &a->raw, a->err));
    return speech_feed(&a->speech, a->raw.data == NULL ? "" : a->raw.data, a->raw.length,
                       event->finish_reason != FINISH_NONE, &sink, a->err);
}

static void on_event(void *context, const struct engine_event *event)
{
    struct chat *c = context;
    struct answer *a = c->answer;
    if (a->first == 0.0)
        a->first = clock_seconds();
    if (a->status == COHORT_OK)
        a->status = take(c, event);
}

static void answer_free(struct answer *a)
{
    text_free(&a->raw);
    token_stream_free(&a->stream);
    text_free(&a->thinking);
    text_free(&a->content);
    json_decref(a->calls);
}

/* Steps until the answer has ended. *stopped: because somebody asked for it. */
static cohort_status run(struct chat *c, int64_t request, bool *stopped, cohort_error *err)
{
    const struct stop *stop = c->session.backend->stop;
    cohort_status status = COHORT_OK;
    *stopped = false;
    for (bool busy = true; busy && status == COHORT_OK;) {
        const cohort_progress progress = {.phase = "stream", .done = c->answer->n_tokens, .unit = "tokens"};
        status = engine_step(c->engine, &busy, err);
        const bool lost = status == COHORT_OK && busy && !observer_progress(c->observer, &progress);
        c->ended = c->ended || (lost && !stop_requested(stop));
        if (status != COHORT_ERR_CANCELLED && !lost)
            continue;
        *stopped = true;
        c->session.backend->stop = NULL; /* what is under way is ended in peace */
        engine_cancel(c->engine, request);
        status = COHORT_OK;
    }
    c->session.backend->stop = stop;
    for (struct completion completion; engine_poll(c->engine, &completion);) {
        c->answer->finish = completion.finish_reason;
        if (status == COHORT_OK)
            status = completion_check(&completion, err);
        completion_free(&completion);
    }
    return status == COHORT_OK ? c->answer->status : status;
}

/* The assistant's message as templates take it; NULL where nothing was said. */
static cohort_status remember(struct chat *c, bool *said, cohort_error *err)
{
    struct answer *a = c->answer;
    *said = a->content.length > 0 || a->thinking.length > 0 || json_array_size(a->calls) > 0;
    if (!*said)
        return COHORT_OK;
    json_t *message = json_pack("{s:s, s:o}", "role", "assistant", "content",
                                json_text_value(a->content.data == NULL ? "" : a->content.data, a->content.length));
    bool good = message != NULL;
    if (good && a->thinking.length > 0)
        good = json_object_set_new(message, "reasoning_content",
                                   json_text_value(a->thinking.data, a->thinking.length)) == 0;
    if (good && json_array_size(a->calls) > 0)
        good = json_object_set(message, "tool_calls", a->calls) == 0;
    if (!good || json_array_append(c->messages, message) != 0) {
        json_decref(message);
        return error_set(err, COHORT_ERR_MEMORY, "out of memory for a message");
    }
    json_decref(message);
    return COHORT_OK;
}

/* To a person: how fast it was, and why it ended if that was not the model's wish. */
static void tell(const struct chat *c, const struct engine_stats *before)
{
    const struct answer *a = c->answer;
    const struct engine_stats now = engine_stats(c->engine);
    const double seconds = clock_seconds() - a->first, known = (double)(now.known_tokens - before->known_tokens);
    if (!person(c) || a->first == 0.0)
        return;
    const char *why = a->finish == FINISH_LENGTH       ? "cut at its length; "
                      : a->finish == FINISH_CANCELLED  ? "stopped; "
                      : a->finish == FINISH_REPETITION ? "cut, for it repeats itself; "
                                                       : "";
    observer_message(c->observer, "[%s%d tokens, %.1f/s; prompt: %lld tokens, %.0f known; first after %.2f s]", why,
                     (int)a->n_tokens, seconds > 0.0 ? (double)(a->n_tokens - 1) / seconds : 0.0,
                     (long long)(now.prompt_tokens - before->prompt_tokens) + (long long)known, known,
                     a->first - a->asked);
}

/* The conversation as ids. */
static cohort_status render(struct chat *c, struct token_list *ids, bool *in_thinking, cohort_error *err)
{
    struct rendered rendered = {0};
    const struct chat_options options = {.thinking = c->thinking, .tools = c->tools};
    cohort_status status = row_render_prompt(&c->session, c->messages, "the conversation", &options, &rendered, err);
    if (status == COHORT_OK)
        status = row_encode(&c->session, &rendered.text, &rendered.spans, 0, rendered.text.length, c->trust, ids, err);
    if (status == COHORT_OK)
        *in_thinking = response_opens_thinking(rendered.text.data, rendered.text.length);
    rendered_free(&rendered);
    return status;
}

static cohort_status submit(struct chat *c, const struct token_list *ids, int64_t *id, cohort_error *err)
{
    struct engine_request request = c->pattern;
    const int32_t room = c->context - (int32_t)ids->count;
    request.prompt = ids->ids;
    request.n_prompt = (int32_t)ids->count;
    request.n = 1;
    request.stream = prompt_stream(ids->ids, ids->count, 0);
    if (request.max_tokens <= 0 || request.max_tokens > room)
        request.max_tokens = room;
    return engine_submit(c->engine, &request, id, err);
}

/* One answer to the conversation as it is. *said: it is part of the conversation now; false: nothing came. */
static cohort_status answer(struct chat *c, bool *said, cohort_error *err)
{
    struct answer a = {.calls = json_array(), .err = err, .asked = clock_seconds()};
    struct token_list ids = {0};
    const struct engine_stats before = engine_stats(c->engine);
    bool in_thinking = false, stopped = false;
    int64_t id = 0;
    cohort_status status = COHORT_OK;
    *said = false;
    c->answer = &a;
    TRY_GOTO(render(c, &ids, &in_thinking, err));
    if ((int64_t)ids.count >= c->context) {
        observer_message(c->observer,
                         "the conversation has %zu tokens and %d fit: /reset begins another, --max-context "
                         "makes room where the model has more",
                         ids.count, (int)c->context);
        goto cleanup;
    }
    a.speech =
        (struct speech){.calls = c->tools != NULL, .form = chat_template_form(c->session.chat), .tools = c->tools};
    speech_begin(&a.speech, in_thinking);
    TRY_GOTO(submit(c, &ids, &id, err));
    TRY_GOTO(run(c, id, &stopped, err));
    TRY_GOTO(turn_to(c, false, err));
    if (a.in_row || !person(c))
        TRY_GOTO(show(c, "\n", 1, err));
    tell(c, &before);
    TRY_GOTO(remember(c, said, err));
cleanup:
    style(c, COHORT_STYLE_PLAIN);
    c->answer = NULL;
    token_list_free(&ids);
    answer_free(&a);
    return status;
}

/* ---- What the person says ---- */

static cohort_status add_message(struct chat *c, const char *role, const char *content, const char *id,
                                 cohort_error *err)
{
    json_t *message = json_pack("{s:s, s:s}", "role", role, "content", content);
    if (message == NULL)
        return error_set(err, COHORT_ERR_FORMAT, "what was entered is not valid UTF-8");
    if (id != NULL)
        (void)json_object_set_new(message, "tool_call_id", json_string(id));
    return json_array_append_new(c->messages, message) == 0 ? COHORT_OK
                                                            : error_set(err, COHORT_ERR_MEMORY, "out of memory");
}

static cohort_status reset(struct chat *c, cohort_error *err)
{
    json_array_clear(c->messages);
    return c->system == NULL ? COHORT_OK : add_message(c, "system", c->system, NULL, err);
}

/* A line of the person's; NULL: there are no more. */
static const char *ask(struct chat *c, const char *prompt) { return c->observer->input(c->observer->context, prompt); }

static cohort_status save(struct chat *c, const char *path, cohort_error *err)
{
    struct text text = {0};
    json_t *row = json_pack("{s:O}", "messages", c->messages);
    bool there = false;
    cohort_status status = row == NULL ? error_set(err, COHORT_ERR_MEMORY, "out of memory") : COHORT_OK;
    if (status == COHORT_OK)
        status = file_exists(path, &there, err);
    if (status == COHORT_OK && there && (c->saved == NULL || strcmp(c->saved, path) != 0))
        status = error_set(err, COHORT_ERR_ARGUMENT, "%s is there already: name another file", path);
    if (status == COHORT_OK)
        status = json_text_write(row, 0, &text, err);
    if (status == COHORT_OK)
        status = text_append(&text, "\n", 1, err);
    if (status == COHORT_OK)
        status = file_write_atomic(path, text.data, text.length, err);
    if (status == COHORT_OK) {
        mem_free(c->saved);
        c->saved = NULL;
        status = mem_strdup(&c->saved, path, strlen(path), err);
    }
    json_decref(row);
    text_free(&text);
    return status;
}

/* What a command of the conversation failed with is told, and the conversation goes on. */
static cohort_status told(const struct chat *c, cohort_status status, const cohort_error *failed, const char *good)
{
    if (status == COHORT_OK && good != NULL)
        observer_message(c->observer, "%s", good);
    else if (status != COHORT_OK)
        observer_message(c->observer, "%s", failed->message);
    return status == COHORT_ERR_MEMORY ? status : COHORT_OK;
}

static cohort_status set_system(struct chat *c, const char *text, cohort_error *err)
{
    char *copy = NULL;
    if (text[0] != '\0')
        TRY(mem_strdup(&copy, text, strlen(text), err));
    mem_free(c->given_system);
    c->system = c->given_system = copy;
    TRY(reset(c, err));
    observer_message(c->observer, copy == NULL ? "no system message; a new conversation"
                                               : "the system message of a new conversation");
    return COHORT_OK;
}

static const char help[] = "/system TEXT   begin anew with this system message; without TEXT: with none\n"
                           "/reset         begin anew\n"
                           "/save FILE     write the conversation as a row of JSON, as cohort sft reads it\n"
                           "/help          this list\n"
                           "/quit          leave, as Ctrl-D does\n"
                           "Ctrl-C stops an answer. A line that ends in \\ goes on in the next. //... is said as /...";

/* A line that begins with "/". */
static cohort_status command(struct chat *c, const char *line, cohort_error *err)
{
    const size_t n = strcspn(line, " \t");
    const char *rest = line + n + strspn(line + n, " \t");
    cohort_error failed = {0};
    if (n == 5 && memcmp(line, "/quit", n) == 0) {
        c->ended = true;
        return COHORT_OK;
    }
    if (n == 5 && memcmp(line, "/help", n) == 0) {
        struct text lines = {0};
        const cohort_status status = text_append(&lines, help, sizeof help - 1, err);
        if (status == COHORT_OK)
            observer_notes(c->observer, &lines);
        text_free(&lines);
        return status;
    }
    if (n == 6 && memcmp(line, "/reset", n) == 0)
        return told(c, reset(c, &failed), &failed, "a new conversation");
    if (n == 7 && memcmp(line, "/system", n) == 0)
        return told(c, set_system(c, rest, &failed), &failed, NULL);
    if (n == 5 && memcmp(line, "/save", n) == 0 && *rest == '\0')
        observer_message(c->observer, "/save needs the name of a file");
    else if (n == 5 && memcmp(line, "/save", n) == 0)
        return told(c, save(c, rest, &failed), &failed, "saved");
    else
        observer_message(c->observer, "there is no %.*s; /help lists what there is", (int)n, line);
    return COHORT_OK;
}

/* The person, or the program, stands for the tools that were called. *more: they were answered. */
static cohort_status answer_calls(struct chat *c, bool *more, cohort_error *err)
{
    const json_t *last = json_array_get(c->messages, json_array_size(c->messages) - 1);
    json_t *calls = json_incref(json_object_get(last, "tool_calls"));
    cohort_status status = COHORT_OK;
    *more = false;
    for (size_t i = 0; i < json_array_size(calls) && status == COHORT_OK && !c->ended; i++) {
        const json_t *call = json_array_get(calls, i);
        char prompt[160];
        snprintf(prompt, sizeof prompt, "%.100s returns> ",
                 json_string_value(json_object_get(json_object_get(call, "function"), "name")));
        const char *line = ask(c, prompt);
        c->ended = line == NULL;
        if (line != NULL)
            status = add_message(c, "tool", line, json_string_value(json_object_get(call, "id")), err);
        *more = line != NULL;
    }
    json_decref(calls);
    return status;
}

/* A message of the user's, and the answers to it: more than one where tools are called. */
static cohort_status turn(struct chat *c, const char *line, cohort_error *err)
{
    const size_t before = json_array_size(c->messages);
    bool more = true;
    TRY(add_message(c, "user", line, NULL, err));
    while (more && !c->ended) {
        bool said = false;
        TRY(answer(c, &said, err));
        more = false;
        if (said)
            TRY(answer_calls(c, &more, err));
        else
            while (json_array_size(c->messages) > before)
                json_array_remove(c->messages, json_array_size(c->messages) - 1);
    }
    return COHORT_OK;
}

/* The next message: a line, with those that follow one that ends in a backslash. *there false: no more. */
static cohort_status read_message(struct chat *c, struct text *out, bool *there, cohort_error *err)
{
    const char *line = ask(c, "> ");
    out->length = 0;
    *there = line != NULL;
    while (line != NULL) {
        const size_t n = strlen(line);
        const bool more = n > 0 && line[n - 1] == '\\';
        TRY(text_append(out, line, more ? n - 1 : n, err));
        if (!more)
            break;
        TRY(text_append(out, "\n", 1, err));
        line = ask(c, ". ");
    }
    return *there && out->data == NULL ? text_append(out, "", 0, err) : COHORT_OK;
}

static cohort_status converse(struct chat *c, cohort_error *err)
{
    struct text message = {0};
    cohort_status status = COHORT_OK;
    while (!c->ended) {
        bool there = false;
        TRY_GOTO(read_message(c, &message, &there, err));
        if (!there)
            break;
        const char *line = message.data;
        if (stop_requested(options_stop(c->options)))
            break;
        if (strspn(line, " \t\n") == strlen(line))
            continue;
        if (line[0] == '/' && line[1] != '/')
            TRY_GOTO(command(c, line, err));
        else
            TRY_GOTO(turn(c, line[0] == '/' ? line + 1 : line, err));
    }
cleanup:
    text_free(&message);
    return status;
}

/* ---- Opening ---- */

/* As much context as was asked for, or as fits: half of it, and half of that, where no number was given. */
static cohort_status open_engine(struct chat *c, cohort_error *err)
{
    const int64_t asked = options_int(c->options, OPTION_MAX_CONTEXT);
    struct rollout_need need = {0};
    struct rollout_choice choice = {0};
    enum { LEAST = 512 };
    c->context = c->session.model->max_context;
    if (asked > 0 && asked < c->context)
        c->context = (int32_t)asked;
    for (;;) {
        rollout_need_any(&need, c->session.backend, 1, c->context);
        need.step_tokens = (int32_t)options_int(c->options, OPTION_PREFILL_STEP_SIZE);
        need.draft_tokens = session_drafts(&c->session, c->options);
        need.history = rollout_history(&c->pattern.sampling, c->context);
        need.modest = true;
        const cohort_status status = session_rollout(&c->session, c->options, &need, &choice, err);
        if (status != COHORT_ERR_MEMORY || !choice.refused || asked > 0 || c->context <= LEAST) {
            TRY(status);
            break;
        }
        c->context /= 2;
    }
    if (asked == 0 && c->context < c->session.model->max_context)
        observer_message(c->observer, "note: memory is there for a conversation of %d tokens, of the model's %d",
                         (int)c->context, (int)c->session.model->max_context);
    TRY(session_engine(&c->session, c->options, &need, &c->engine, err));
    engine_set_callback(c->engine, on_event, c);
    return COHORT_OK;
}

static cohort_status read_tools(struct chat *c, cohort_error *err)
{
    const char *path = options_string(c->options, OPTION_TOOLS);
    struct text text = {0};
    enum { MOST = 1 << 24 };
    if (path == NULL)
        return COHORT_OK;
    cohort_status status = file_read(path, MOST, &text, err);
    if (status == COHORT_OK)
        status = json_text_parse(&c->tools, text.data, text.length, path, 1, JSON_TEXT_REPEATED, err);
    if (status == COHORT_OK && (!json_is_array(c->tools) || json_array_size(c->tools) == 0))
        status = error_set(err, COHORT_ERR_FORMAT,
                           "%s: expected a list of tools, [{\"type\": \"function\", \"function\": {\"name\": ..., "
                           "\"parameters\": {...}}}, ...]",
                           path);
    text_free(&text);
    const enum response_form form = chat_template_form(c->session.chat);
    c->special = form == RESPONSE_LLAMA || form == RESPONSE_MISTRAL;
    return status;
}

static cohort_status open_chat(struct chat *c, cohort_error *err)
{
    struct options *o = c->options;
    const cohort_observer *observer = c->observer;
    if (observer->input == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "chat asks somebody: the observer has no input");
    TRY(session_open(&c->session, o, NULL, SESSION_TOKENIZER, observer, err));
    end_of_text_note(&c->session, observer);
    TRY(generation_file_apply(&c->session, o, observer, err));
    TRY(session_request(&c->session, o, &c->pattern, err));
    if (options_is_set(o, OPTION_THINKING))
        c->thinking = options_bool(o, OPTION_THINKING) ? CHAT_THINKING_ON : CHAT_THINKING_OFF;
    c->trust = options_bool(o, OPTION_TRUST_CONTENT);
    c->system = options_string(o, OPTION_SYSTEM);
    if ((c->messages = json_array()) == NULL)
        return error_set(err, COHORT_ERR_MEMORY, "out of memory");
    TRY(read_tools(c, err));
    TRY(reset(c, err));
    return open_engine(c, err);
}

cohort_status command_chat(struct options *options, const struct reward_list *extra, const cohort_observer *observer,
                           cohort_error *err)
{
    (void)extra;
    struct chat c = {.options = options, .observer = observer};
    cohort_status status = open_chat(&c, err);
    if (status == COHORT_OK && person(&c))
        observer_message(observer, "%s; /help lists what there is beside talking", c.session.dir);
    if (status == COHORT_OK)
        status = converse(&c, err);
    session_request_free(&c.pattern);
    json_decref(c.messages);
    json_decref(c.tools);
    mem_free(c.given_system);
    mem_free(c.saved);
    engine_destroy(c.engine);
    session_close(&c.session);
    return status;
}

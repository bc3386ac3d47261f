#include "serve/job.h"

#include "base/clock.h"
#include "base/json_text.h"
#include "base/rng.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { FLAGS = JSON_COMPACT | JSON_REAL_PRECISION(9) | JSON_ENCODE_ANY }; /* 9 digits tell floats apart */

/* ---- Answers ---- */

void answer_json(struct http_call *call, unsigned status, json_t *value)
{
    struct text text = {0};
    if (json_text_write(value, FLAGS, &text, NULL) != COHORT_OK) {
        status = 500;
        text_free(&text);
    }
    json_decref(value);
    http_answer(call, status, "application/json", &text);
}

void answer_fault(struct http_call *call, const struct fault *fault, json_t *(*form)(const struct fault *fault))
{
    const unsigned http = fault_http(fault);
    if (http == 429 || http == 503)
        http_add_header(call, "Retry-After", "1");
    if (http == 401)
        http_add_header(call, "WWW-Authenticate", "Bearer");
    answer_json(call, http, form(fault));
}

cohort_status job_json(struct text *text, const json_t *value, cohort_error *err)
{
    return json_text_write(value, FLAGS, text, err);
}

/* value is used up. */
static cohort_status write_event(struct job *job, const char *name, const struct text *head, json_t *value,
                                 const char *tail, cohort_error *err)
{
    struct text *text = &job->event;
    cohort_status status = COHORT_OK;
    text->length = 0;
    if (name != NULL)
        TRY_GOTO(text_printf(text, err, "event: %s\n", name));
    TRY_GOTO(text_append(text, "data: ", 6, err));
    if (head != NULL)
        TRY_GOTO(text_append(text, head->data, head->length, err));
    TRY_GOTO(job_json(text, value, err));
    TRY_GOTO(text_append(text, tail, strlen(tail), err));
    TRY_GOTO(text_append(text, "\n\n", 2, err));
    job->said++;
    http_write(job->call, text->data, text->length);
cleanup:
    json_decref(value);
    return status;
}

cohort_status job_event(struct job *job, const char *event, json_t *value, cohort_error *err)
{
    return write_event(job, event, NULL, value, "", err);
}

cohort_status job_event_behind_head(struct job *job, json_t *value, const char *tail, cohort_error *err)
{
    return write_event(job, NULL, &job->head, value, tail, err);
}

void job_name(const struct job *job, const char *prefix, int64_t number, char out[48])
{
    const struct rng_block block = rng_philox(job->seed ^ (uint64_t)job->created, RNG_TEST, (uint64_t)(uintptr_t)job,
                                              (uint64_t)number ^ (uint64_t)(job->arrived * 1e9));
    snprintf(out, 48, "%.20s%08x%08x%08x", prefix, block.word[0], block.word[1], block.word[2]);
}

/* ---- Life ---- */

static const struct dialect *dialect_of(enum ask_form form)
{
    switch (form) {
    case ASK_COMPLETION: return &dialect_completion;
    case ASK_MESSAGES: return &dialect_anthropic;
    case ASK_RESPONSES: return &dialect_responses;
    default: return &dialect_chat;
    }
}

static cohort_status make_choices(struct job *job, cohort_error *err)
{
    const struct ask *ask = &job->ask;
    job->n_choices = job->n_open = (int32_t)ask->n_prompts * ask->n;
    TRY(mem_alloc(&job->choices, (size_t)job->n_choices, sizeof *job->choices, "choices", err));
    TRY(mem_alloc(&job->requests, ask->n_prompts, sizeof *job->requests, "requests", err));
    TRY(mem_alloc(&job->constraints, ask->n_prompts, sizeof *job->constraints, "constraints", err));
    if (ask->prompt_logprobs >= 0)
        TRY(mem_alloc(&job->prompt_scores, ask->n_prompts, sizeof *job->prompt_scores, "log-probs", err));
    for (size_t i = 0; i < ask->n_prompts; i++)
        job->requests[i] = -1;
    for (int32_t i = 0; i < job->n_choices; i++) {
        struct choice *choice = &job->choices[i];
        choice->job = job;
        choice->index = i;
        choice->prompt = i / ask->n;
        choice->stop_id = -1;
        choice->block = -1;
        choice->speech = (struct speech){.plain = ask->form == ASK_COMPLETION,
                                         .calls = ask->calls,
                                         .one = json_is_false(ask_field(ask->body, "parallel_tool_calls")),
                                         .form = ask->response,
                                         .tools = ask->tools};
        speech_begin(&choice->speech, ask->thinks);
    }
    return COHORT_OK;
}

cohort_status job_create(struct job **out, struct ask *ask, struct http_call *call, const struct tokenizer *tokenizer,
                         const char *fingerprint, uint64_t seed, cohort_error *err)
{
    struct job *job = NULL;
    *out = NULL;
    cohort_status status = mem_alloc(&job, 1, sizeof *job, "request", err);
    if (status != COHORT_OK) {
        ask_free(ask);
        return status;
    }
    job->ask = *ask;
    memset(ask, 0, sizeof *ask);
    job->dialect = dialect_of(job->ask.form);
    job->tokenizer = tokenizer;
    job->fingerprint = fingerprint;
    job->seed = seed;
    job->created = (int64_t)time(NULL);
    job->arrived = clock_seconds();
    job_name(job, job->dialect->prefix, 0, job->id);
    job->call = call;
    http_hold(call);
    status = make_choices(job, err);
    if (status == COHORT_OK)
        *out = job;
    else
        job_destroy(job);
    return status;
}

void job_destroy(struct job *job)
{
    if (job == NULL)
        return;
    for (int32_t i = 0; job->choices != NULL && i < job->n_choices; i++) {
        struct choice *choice = &job->choices[i];
        mem_free(choice->tokens);
        mem_free(choice->logprobs);
        mem_free(choice->ends);
        mem_free(choice->top);
        mem_free(choice->top_logprobs);
        token_stream_free(&choice->stream);
        text_free(&choice->text);
        text_free(&choice->thinking);
        text_free(&choice->content);
        json_decref(choice->calls);
    }
    for (size_t i = 0; job->constraints != NULL && i < job->ask.n_prompts; i++)
        row_constraints_free(&job->constraints[i]);
    for (size_t i = 0; job->prompt_scores != NULL && i < job->ask.n_prompts; i++) {
        mem_free(job->prompt_scores[i].logprobs);
        mem_free(job->prompt_scores[i].top);
        mem_free(job->prompt_scores[i].top_logprobs);
    }
    mem_free(job->prompt_scores);
    mem_free(job->choices);
    mem_free(job->requests);
    mem_free(job->constraints);
    json_decref(job->note);
    text_free(&job->head);
    text_free(&job->event);
    http_release(job->call);
    ask_free(&job->ask);
    mem_free(job);
}

void job_fail(struct job *job, const struct fault *fault)
{
    job->failed = true;
    if (!http_answered(job->call)) {
        answer_fault(job->call, fault, job->dialect->fault);
        return;
    }
    (void)job_event(job, job->dialect->fault_event, job->dialect->fault(fault), NULL);
    http_end(job->call);
}

/* ---- What was drawn ---- */

static cohort_status add_token(struct choice *c, const struct engine_event *event, cohort_error *err)
{
    const size_t n = (size_t)c->n_tokens + 1;
    const struct job *job = c->job;
    TRY(mem_grow(&c->tokens, &c->token_capacity, n, sizeof *c->tokens, "tokens", err));
    TRY(mem_grow(&c->logprobs, &c->logprob_capacity, n, sizeof *c->logprobs, "tokens", err));
    TRY(mem_grow(&c->ends, &c->end_capacity, n, sizeof *c->ends, "tokens", err));
    c->tokens[c->n_tokens] = event->token;
    c->logprobs[c->n_tokens] = event->logp;
    if (event->n_top > 0) {
        const size_t k = (size_t)event->n_top, at = (n - 1) * k;
        TRY(mem_grow(&c->top, &c->top_capacity, n * k, sizeof *c->top, "alternatives", err));
        TRY(mem_grow(&c->top_logprobs, &c->top_logprob_capacity, n * k, sizeof *c->top_logprobs, "alternatives", err));
        memcpy(c->top + at, event->top_ids, k * sizeof *c->top);
        memcpy(c->top_logprobs + at, event->top_logp, k * sizeof *c->top_logprobs);
    }
    if (event->finish_reason != FINISH_EOS)
        TRY(token_stream_push(&c->stream, job->tokenizer, event->token, !job->ask.special, &c->text, err));
    c->ends[c->n_tokens++] = c->text.length;
    return COHORT_OK;
}

/* Where the first stop string stands, of several there the longest; the text's length if none does. */
static size_t find_stop(struct choice *c)
{
    const struct ask *ask = &c->job->ask;
    size_t best = c->text.length;
    for (int32_t i = 0; i < ask->n_stop && c->text.length > 0; i++) {
        const size_t length = strlen(ask->stop[i]);
        const char *found = memmem(c->text.data, c->text.length, ask->stop[i], length);
        const size_t at = found == NULL ? c->text.length : (size_t)(found - c->text.data);
        if (at < best || (at == best && found != NULL && (c->stop == NULL || length > strlen(c->stop)))) {
            best = at;
            c->stop = ask->stop[i];
        }
    }
    return best;
}

/* Cuts the text off at a stop string, and the tokens that lie wholly behind the cut. */
static void cut(struct choice *c)
{
    const size_t at = find_stop(c);
    if (c->stop == NULL)
        return;
    c->text.length = at;
    while (c->n_kept > 0 && c->ends[c->n_kept - 1] > at && (c->n_kept > 1 ? c->ends[c->n_kept - 2] : 0) >= at)
        c->n_kept--;
}

cohort_status job_take(struct choice *c, const struct engine_event *event, cohort_error *err)
{
    struct job *job = c->job;
    if (c->ended)
        return COHORT_OK;
    job->last = clock_seconds();
    if (job->first == 0)
        job->first = job->last;
    c->dirty = true;
    if (event->token >= 0)
        TRY(add_token(c, event, err));
    c->n_kept = c->n_tokens;
    if (event->finish_reason == FINISH_NONE)
        return COHORT_OK;
    c->ended = true;
    c->finish = event->finish_reason;
    job->n_open--;
    TRY(token_stream_finish(&c->stream, job->tokenizer, &c->text, err));
    if (c->finish == FINISH_STOP)
        cut(c);
    const json_t *stops = ask_field(job->ask.body, "stop_token_ids");
    for (size_t i = 0; c->finish == FINISH_EOS && i < json_array_size(stops); i++)
        if (json_integer_value(json_array_get(stops, i)) == event->token)
            c->stop_id = event->token;
    return COHORT_OK;
}

/* Bytes of the text that no stop string can take back. */
static size_t certain(const struct choice *c)
{
    const struct ask *ask = &c->job->ask;
    size_t held = 0;
    for (int32_t i = 0; i < ask->n_stop && !c->ended; i++)
        for (size_t n = strlen(ask->stop[i]) - 1; n > held; n--)
            if (n <= c->text.length && memcmp(c->text.data + c->text.length - n, ask->stop[i], n) == 0)
                held = n;
    return c->text.length - held;
}

/* ---- What is said: into the choice, and of a stream to the client ---- */

static cohort_status say_thinking(void *context, const char *text, size_t length, cohort_error *err)
{
    struct choice *c = context;
    TRY(text_append(&c->thinking, text, length, err));
    return c->job->ask.stream ? c->job->dialect->piece(c, SPEECH_THINKING, text, length, err) : COHORT_OK;
}

static cohort_status say_content(void *context, const char *text, size_t length, cohort_error *err)
{
    struct choice *c = context;
    TRY(text_append(&c->content, text, length, err));
    return c->job->ask.stream ? c->job->dialect->piece(c, SPEECH_CONTENT, text, length, err) : COHORT_OK;
}

static cohort_status say_call(void *context, const char *name, const char *id, const char *arguments, size_t length,
                              cohort_error *err)
{
    struct choice *c = context;
    char made[48];
    if (c->calls == NULL)
        c->calls = json_array();
    job_name(c->job, "call_", 1 + (int64_t)json_array_size(c->calls) + ((int64_t)c->index << 20), made);
    json_t *call =
        json_pack("{s:s, s:s, s:{s:o, s:o}}", "id", id != NULL ? id : made, "type", "function", "function", "name",
                  json_text_value(name, strlen(name)), "arguments", json_text_value(arguments, length));
    if (call == NULL || json_array_append_new(c->calls, call) != 0)
        return error_set(err, COHORT_ERR_MEMORY, "a call: out of memory");
    return c->job->ask.stream ? c->job->dialect->call(c, call, arguments, length, err) : COHORT_OK;
}

static cohort_status flush_choice(struct choice *c, cohort_error *err)
{
    const struct speech_sink sink = {c, say_thinking, say_content, say_call};
    const struct dialect *dialect = c->job->dialect;
    const bool stream = c->job->ask.stream;
    const size_t sure = certain(c);
    const bool thinking = c->speech.state == SPEECH_THINKING;
    c->dirty = false;
    while (c->n_due < c->n_kept && (c->ended || c->ends[c->n_due] <= sure))
        c->n_due++;
    if (thinking)
        c->n_thought += c->n_due - c->n_said;
    TRY(speech_feed(&c->speech, c->text.data == NULL ? "" : c->text.data, sure, c->ended, &sink, err));
    if (stream && c->n_said < c->n_due) /* no piece took them along */
        TRY(dialect->tokens(c, err));
    if (!stream)
        c->n_said = c->n_due;
    return c->ended && stream ? dialect->finish(c, err) : COHORT_OK;
}

/* Choices whose tokens ran out in error end the whole of it. */
static bool broken(struct job *job)
{
    struct fault fault = {0};
    for (int32_t i = 0; i < job->n_choices; i++) {
        const struct choice *c = &job->choices[i];
        if (!c->ended || c->finish != FINISH_FAILED)
            continue;
        if (row_constraints_check(&job->constraints[c->prompt], &fault.err) == COHORT_OK)
            (void)fault_set(&fault, 500, "no_token", NULL,
                            "no token could be drawn: the weights are damaged, or every token is forbidden");
        job_fail(job, &fault);
        return true;
    }
    return false;
}

cohort_status job_flush(struct job *job, cohort_error *err)
{
    if (job->failed || job->cancelled)
        return COHORT_OK;
    if (broken(job))
        return COHORT_OK;
    if (job->ask.stream && !http_answered(job->call)) {
        http_begin(job->call, "text/event-stream");
        TRY(job->dialect->begin(job, err));
    }
    for (int32_t i = 0; i < job->n_choices; i++)
        if (job->choices[i].dirty)
            TRY(flush_choice(&job->choices[i], err));
    if (job->n_open > 0 || job_lacks_scores(job))
        return COHORT_OK;
    if (job->ask.stream) {
        TRY(job->dialect->end(job, err));
        http_end(job->call);
        return COHORT_OK;
    }
    json_t *value = NULL;
    TRY(job->dialect->whole(job, &value, err));
    answer_json(job->call, 200, value);
    return COHORT_OK;
}

bool job_lacks_scores(const struct job *job)
{
    return job->prompt_scores != NULL && job->n_scored < job->ask.n_prompts;
}

/* ---- For dialects ---- */

const char *choice_finish(const struct choice *c)
{
    if (c->speech.n_calls > 0)
        return "tool_calls";
    return c->finish == FINISH_LENGTH ? "length" : "stop";
}

int64_t job_prompt_tokens(const struct job *job)
{
    int64_t n = 0;
    for (size_t i = 0; i < job->ask.n_prompts; i++)
        n += (int64_t)job->ask.prompts[i].ids.count;
    return n;
}

int64_t job_drawn_tokens(const struct job *job)
{
    int64_t n = 0;
    for (int32_t i = 0; i < job->n_choices; i++)
        n += job->choices[i].n_tokens;
    return n;
}

int64_t job_thought_tokens(const struct job *job)
{
    int64_t n = 0;
    for (int32_t i = 0; i < job->n_choices; i++)
        n += job->choices[i].n_thought;
    return n;
}

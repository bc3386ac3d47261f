/* Chat completions and completions, as OpenAI's API has them, whole and as streams. */
#include "base/json_text.h"
#include "serve/job.h"

#include <stdio.h>
#include <string.h>

static cohort_status no_memory(cohort_error *err)
{
    return error_set(err, COHORT_ERR_MEMORY, "an answer: out of memory");
}

/* value is used up; NULL: out of memory. */
static cohort_status put(json_t *object, const char *key, json_t *value, cohort_error *err)
{
    return value != NULL && json_object_set_new(object, key, value) == 0 ? COHORT_OK : no_memory(err);
}

static json_t *text_value(const struct text *text) { return json_text_value(text->data, text->length); }

static json_t *ids_value(const int32_t *ids, int64_t n)
{
    json_t *list = json_array();
    for (int64_t i = 0; list != NULL && i < n; i++)
        json_text_add(&list, json_integer(ids[i]));
    return list;
}

/* What answers of any kind begin with. */
static json_t *envelope(const struct job *job, const char *object)
{
    return json_pack("{s:s, s:s, s:I, s:s, s:s}", "id", job->id, "object", object, "created", (json_int_t)job->created,
                     "model", job->ask.model, "system_fingerprint", job->fingerprint);
}

static json_t *usage(const struct job *job)
{
    const json_int_t prompt = job_prompt_tokens(job), drawn = job_drawn_tokens(job);
    return json_pack("{s:I, s:I, s:I, s:{s:I}}", "prompt_tokens", prompt, "completion_tokens", drawn, "total_tokens",
                     prompt + drawn, "completion_tokens_details", "reasoning_tokens",
                     (json_int_t)job_thought_tokens(job));
}

static json_t *bytes_value(const char *bytes, size_t length)
{
    json_t *list = json_array();
    for (size_t i = 0; list != NULL && i < length; i++)
        json_text_add(&list, json_integer((unsigned char)bytes[i]));
    return list;
}

/* Whether the token at t was cut by a stop string. */
static bool is_cut(const struct choice *c, int32_t t) { return c->ended && c->ends[t] > c->text.length; }

static json_t *token_text(const struct choice *c, int32_t id)
{
    size_t length = 0;
    const char *bytes = tokenizer_bytes(c->job->tokenizer, id, &length);
    return json_text_value(bytes == NULL ? "" : bytes, length);
}

/* Alternatives of a place: an object of texts and numbers. */
static json_t *named_value(const struct choice *c, const int32_t *ids, const float *logprobs, int32_t n)
{
    json_t *value = json_object();
    for (int32_t k = 0; k < n; k++) {
        json_t *text = token_text(c, ids[k]);
        if (json_object_get(value, json_string_value(text)) == NULL) /* the likelier of two that look alike */
            json_text_set(&value, json_string_value(text), json_real((double)logprobs[k]));
        json_decref(text);
    }
    return value;
}

/* The alternatives at t: a list of {"token", "logprob", "bytes", "token_id"}. */
static json_t *top_value(const struct choice *c, int32_t t)
{
    const int32_t n = c->top == NULL ? 0 : c->job->ask.top_logprobs;
    json_t *value = json_array();
    for (int32_t k = 0; k < n; k++) {
        const size_t at = (size_t)t * (size_t)n + (size_t)k;
        size_t length = 0;
        const char *bytes = tokenizer_bytes(c->job->tokenizer, c->top[at], &length);
        json_text_add(&value, json_pack("{s:o, s:f, s:o, s:i}", "token", token_text(c, c->top[at]), "logprob",
                                        (double)c->top_logprobs[at], "bytes",
                                        bytes_value(bytes == NULL ? "" : bytes, length), "token_id", (int)c->top[at]));
    }
    return value;
}

/* Of the prompt's tokens: null for the first, of each other one {"ID": {"logprob", "rank", "decoded_token"}, ...} of itself
 * and of its alternatives, as vLLM has it. The rank is null where it is none of these. */
static json_t *prompt_value(const struct choice *c)
{
    const struct ask *ask = &c->job->ask;
    const struct token_list *prompt = &ask->prompts[c->prompt].ids;
    const struct prompt_score *score = &c->job->prompt_scores[c->prompt];
    const int32_t n = ask->prompt_logprobs;
    json_t *list = json_array();
    json_text_add(&list, json_null());
    for (size_t t = 1; t < prompt->count; t++) {
        json_t *place = json_object();
        for (int32_t k = -1; k < n; k++) {
            const size_t at = (t - 1) * (size_t)n + (size_t)(k < 0 ? 0 : k);
            const int32_t id = k < 0 ? prompt->ids[t] : score->top[at];
            char name[16];
            snprintf(name, sizeof name, "%d", (int)id);
            json_text_set(&place, name,
                          json_pack("{s:f, s:o, s:o}", "logprob",
                                    (double)(k < 0 ? score->logprobs[t - 1] : score->top_logprobs[at]), "rank",
                                    k < 0 ? json_null() : json_integer(k + 1), "decoded_token", token_text(c, id)));
        }
        json_text_add(&list, place);
    }
    return list;
}

/* {"content": [...]} of tokens [from, to). */
static json_t *chat_logprobs(const struct choice *c, int32_t from, int32_t to)
{
    json_t *list = json_array();
    for (int32_t t = from; t < to && list != NULL; t++) {
        size_t length = 0;
        const char *bytes = tokenizer_bytes(c->job->tokenizer, c->tokens[t], &length);
        bytes = bytes == NULL ? "" : bytes;
        json_t *entry = json_pack("{s:o, s:f, s:o, s:o, s:i}", "token", json_text_value(bytes, length), "logprob",
                                  (double)c->logprobs[t], "bytes", bytes_value(bytes, length), "top_logprobs",
                                  top_value(c, t), "token_id", (int)c->tokens[t]);
        if (entry != NULL && is_cut(c, t))
            json_text_set(&entry, "cut", json_true());
        json_text_add(&list, entry);
    }
    return json_pack("{s:o}", "content", list);
}

/* Characters that begin in bytes [from, to) of a text, as far as it goes. */
static json_int_t characters(const struct text *text, size_t from, size_t to)
{
    json_int_t n = 0;
    for (size_t i = from; i < to && i < text->length; i++)
        n += ((unsigned char)text->data[i] & 0xC0) != 0x80;
    return n;
}

/* The lists of completion_logprobs. */
struct token_lists {
    json_t *tokens, *values, *top, *offsets, *bytes;
};

static void list_token(struct token_lists *lists, const struct choice *c, int32_t id, json_t *logprob, json_t *top,
                       json_int_t offset)
{
    size_t length = 0;
    const char *bytes = tokenizer_bytes(c->job->tokenizer, id, &length);
    json_text_add(&lists->tokens, token_text(c, id));
    json_text_add(&lists->values, logprob);
    json_text_add(&lists->top, top);
    json_text_add(&lists->bytes, bytes_value(bytes == NULL ? "" : bytes, length));
    json_text_add(&lists->offsets, json_integer(offset));
}

/* The prompt's tokens ahead of the answer's. Returns the characters that they have. */
static json_int_t list_prompt(struct token_lists *lists, const struct choice *c)
{
    const struct ask *ask = &c->job->ask;
    const struct ask_prompt *prompt = &ask->prompts[c->prompt];
    const struct prompt_score *score = &c->job->prompt_scores[c->prompt];
    const size_t n = (size_t)ask->prompt_logprobs;
    size_t at = 0;
    json_int_t before = 0;
    for (size_t t = 0; t < prompt->ids.count; t++) {
        size_t length = 0;
        (void)tokenizer_bytes(c->job->tokenizer, prompt->ids.ids[t], &length);
        list_token(lists, c, prompt->ids.ids[t], t == 0 ? json_null() : json_real((double)score->logprobs[t - 1]),
                   t > 0 && n > 0
                       ? named_value(c, score->top + (t - 1) * n, score->top_logprobs + (t - 1) * n, (int32_t)n)
                       : json_null(),
                   before);
        before += characters(&prompt->text, at, at + length);
        at += length;
    }
    return before + characters(&prompt->text, at, prompt->text.length);
}

/* {"tokens", "token_logprobs", "top_logprobs", "text_offset"}, and the tokens' "bytes": the older form. Offsets are
 * characters of the text that goes with it. */
static json_t *completion_logprobs(const struct choice *c, int32_t from, int32_t to)
{
    struct token_lists lists = {json_array(), json_array(), json_array(), json_array(), json_array()};
    const struct ask *ask = &c->job->ask;
    const int32_t n = ask->top_logprobs;
    json_int_t before = ask->echo && !ask->stream ? list_prompt(&lists, c) : 0;
    before += from > 0 ? characters(&c->text, 0, c->ends[from - 1]) : 0;
    for (int32_t t = from; t < to; t++) {
        const size_t at = (size_t)t * (size_t)n;
        list_token(&lists, c, c->tokens[t], json_real((double)c->logprobs[t]),
                   c->top == NULL ? json_null() : named_value(c, c->top + at, c->top_logprobs + at, n), before);
        before += characters(&c->text, t > 0 ? c->ends[t - 1] : 0, c->ends[t]);
    }
    if (n == 0) {
        json_decref(lists.top);
        lists.top = json_null();
    }
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "tokens", lists.tokens, "token_logprobs", lists.values,
                     "top_logprobs", lists.top, "text_offset", lists.offsets, "bytes", lists.bytes);
}

/* What a choice has beside its text: finish, and what was asked for of its tokens [from, to). */
static cohort_status put_details(json_t *entry, const struct choice *c, int32_t from, int32_t to, cohort_error *err)
{
    const struct ask *ask = &c->job->ask;
    if (!ask->logprobs)
        TRY(put(entry, "logprobs", json_null(), err));
    else
        TRY(put(entry, "logprobs",
                ask->form == ASK_CHAT ? chat_logprobs(c, from, to) : completion_logprobs(c, from, to), err));
    return ask->return_token_ids ? put(entry, "token_ids", ids_value(c->tokens + from, to - from), err) : COHORT_OK;
}

static cohort_status put_finish(json_t *entry, const struct choice *c, cohort_error *err)
{
    TRY(put(entry, "finish_reason", json_string(choice_finish(c)), err));
    if (c->stop != NULL)
        return put(entry, "stop_reason", json_text_value(c->stop, strlen(c->stop)), err);
    if (c->stop_id >= 0)
        return put(entry, "stop_reason", json_integer(c->stop_id), err);
    return c->finish == FINISH_CANCELLED || c->finish == FINISH_REPETITION
               ? put(entry, "cohort_finish", json_string(finish_reason_name(c->finish)), err)
               : COHORT_OK;
}

/* ---- Whole ---- */

static json_t *message_of(const struct choice *c, cohort_error *err)
{
    const bool empty = c->content.length == 0 && c->calls != NULL;
    json_t *message =
        json_pack("{s:s, s:o}", "role", "assistant", "content", empty ? json_null() : text_value(&c->content));
    cohort_status status = message != NULL ? COHORT_OK : no_memory(err);
    if (status == COHORT_OK && c->thinking.length > 0)
        status = put(message, "reasoning_content", text_value(&c->thinking), err);
    if (status == COHORT_OK && c->calls != NULL)
        status = put(message, "tool_calls", json_incref(c->calls), err);
    if (status == COHORT_OK)
        return message;
    json_decref(message);
    return NULL;
}

static cohort_status completion_text(const struct choice *c, struct text *text, cohort_error *err)
{
    const struct text *prompt = &c->job->ask.prompts[c->prompt].text;
    if (c->job->ask.echo && prompt->length > 0)
        TRY(text_append(text, prompt->data, prompt->length, err));
    return c->content.length > 0 ? text_append(text, c->content.data, c->content.length, err) : COHORT_OK;
}

static cohort_status put_choice(json_t *list, const struct choice *c, cohort_error *err)
{
    const struct ask *ask = &c->job->ask;
    const struct token_list *prompt = &ask->prompts[c->prompt].ids;
    struct text text = {0};
    json_t *entry = json_object();
    cohort_status status = json_array_append_new(list, entry) == 0 ? COHORT_OK : no_memory(err);
    TRY(status);
    TRY_GOTO(put(entry, "index", json_integer(c->index), err));
    if (ask->form == ASK_CHAT) {
        TRY_GOTO(put(entry, "message", message_of(c, err), err));
    } else {
        TRY_GOTO(completion_text(c, &text, err));
        TRY_GOTO(put(entry, "text", text_value(&text), err));
    }
    TRY_GOTO(put_finish(entry, c, err));
    TRY_GOTO(put_details(entry, c, 0, c->n_said, err));
    if (ask->return_token_ids)
        TRY_GOTO(put(entry, "prompt_token_ids", ids_value(prompt->ids, (int64_t)prompt->count), err));
    if (ask->form == ASK_COMPLETION && ask_field(ask->body, "prompt_logprobs") != NULL)
        TRY_GOTO(put(entry, "prompt_logprobs", prompt_value(c), err));
cleanup:
    text_free(&text);
    return status;
}

static cohort_status whole(struct job *job, json_t **out, cohort_error *err)
{
    json_t *value = envelope(job, job->ask.form == ASK_CHAT ? "chat.completion" : "text_completion");
    json_t *list = json_array();
    cohort_status status = COHORT_OK;
    TRY_GOTO(put(value, "choices", list, err));
    for (int32_t i = 0; i < job->n_choices; i++)
        TRY_GOTO(put_choice(list, &job->choices[i], err));
    if (job->ask.form == ASK_CHAT && ask_field(job->ask.body, "prompt_logprobs") != NULL)
        TRY_GOTO(put(value, "prompt_logprobs", prompt_value(&job->choices[0]), err));
    TRY_GOTO(put(value, "usage", usage(job), err));
    TRY_GOTO(put(value, "seed", json_integer((json_int_t)job->seed), err));
    *out = value;
    return COHORT_OK;
cleanup:
    json_decref(value);
    return status;
}

/* ---- Streams ---- */

/* What all chunks of a stream begin with, up to the choice. */
static cohort_status make_head(struct job *job, cohort_error *err)
{
    static const char choices[] = ",\"choices\":[";
    json_t *value = envelope(job, job->ask.form == ASK_CHAT ? "chat.completion.chunk" : "text_completion");
    cohort_status status = value != NULL ? job_json(&job->head, value, err) : no_memory(err);
    json_decref(value);
    TRY(status);
    job->head.length--; /* the bracket that closes it */
    return text_append(&job->head, choices, sizeof choices - 1, err);
}

/* A chunk of one choice; delta is used up. Takes the tokens that were not handed out. */
static cohort_status chunk(struct choice *c, json_t *delta, bool finish, cohort_error *err)
{
    struct job *job = c->job;
    const struct ask *ask = &job->ask;
    const bool chat = ask->form == ASK_CHAT;
    const struct token_list *prompt = &ask->prompts[c->prompt].ids;
    const int32_t from = c->n_said;
    json_t *entry =
        json_pack("{s:i, s:o, s:n}", "index", (int)c->index, chat ? "delta" : "text", delta, "finish_reason");
    cohort_status status = entry != NULL ? COHORT_OK : no_memory(err);
    if (status == COHORT_OK && job->head.length == 0)
        status = make_head(job, err);
    if (status == COHORT_OK)
        status = put_details(entry, c, from, c->n_due, err);
    if (status == COHORT_OK && finish)
        status = put_finish(entry, c, err);
    if (status == COHORT_OK && !c->begun && ask->return_token_ids)
        status = put(entry, "prompt_token_ids", ids_value(prompt->ids, (int64_t)prompt->count), err);
    c->begun = true;
    c->n_said = c->n_due;
    if (status == COHORT_OK)
        return job_event_behind_head(job, entry, "]}", err);
    json_decref(entry);
    return status;
}

static cohort_status begin(struct job *job, cohort_error *err)
{
    for (int32_t i = 0; i < job->n_choices; i++) {
        struct choice *c = &job->choices[i];
        const struct ask_prompt *prompt = &job->ask.prompts[c->prompt];
        cohort_status status = COHORT_OK;
        if (job->ask.form == ASK_CHAT)
            status = chunk(c, json_pack("{s:s, s:s}", "role", "assistant", "content", ""), false, err);
        else if (job->ask.echo && prompt->text.length > 0)
            status = chunk(c, text_value(&prompt->text), false, err);
        TRY(status);
    }
    return COHORT_OK;
}

static cohort_status piece(struct choice *c, enum speech_state kind, const char *text, size_t length, cohort_error *err)
{
    json_t *words = json_text_value(text, length);
    if (c->job->ask.form == ASK_COMPLETION)
        return chunk(c, words, false, err);
    return chunk(c, json_pack("{s:o}", kind == SPEECH_THINKING ? "reasoning_content" : "content", words), false, err);
}

static cohort_status call(struct choice *c, const json_t *made, const char *arguments, size_t length, cohort_error *err)
{
    const json_t *function = json_object_get(made, "function");
    const int index = (int)json_array_size(c->calls) - 1;
    TRY(chunk(c,
              json_pack("{s:[{s:i, s:O, s:s, s:{s:O, s:s}}]}", "tool_calls", "index", index, "id",
                        json_object_get(made, "id"), "type", "function", "function", "name",
                        json_object_get(function, "name"), "arguments", ""),
              false, err));
    return chunk(c,
                 json_pack("{s:[{s:i, s:{s:o}}]}", "tool_calls", "index", index, "function", "arguments",
                           json_text_value(arguments, length)),
                 false, err);
}

static json_t *nothing(const struct choice *c)
{
    return c->job->ask.form == ASK_CHAT ? json_object() : json_string("");
}

static cohort_status tokens(struct choice *c, cohort_error *err)
{
    const struct ask *ask = &c->job->ask;
    if ((ask->logprobs || ask->return_token_ids) && !c->ended) /* finish brings the last ones */
        return chunk(c, nothing(c), false, err);
    c->n_said = c->ended ? c->n_said : c->n_due;
    return COHORT_OK;
}

static cohort_status finish(struct choice *c, cohort_error *err) { return chunk(c, nothing(c), true, err); }

static cohort_status end(struct job *job, cohort_error *err)
{
    static const char done[] = "data: [DONE]\n\n";
    if (job->ask.include_usage) {
        json_t *value = envelope(job, job->ask.form == ASK_CHAT ? "chat.completion.chunk" : "text_completion");
        cohort_status status = put(value, "choices", json_array(), err);
        if (status == COHORT_OK)
            status = put(value, "usage", usage(job), err);
        if (status != COHORT_OK) {
            json_decref(value);
            return status;
        }
        TRY(job_event(job, NULL, value, err));
    }
    http_write(job->call, done, sizeof done - 1);
    return COHORT_OK;
}

const struct dialect dialect_chat = {"chatcmpl-", begin, piece, call, tokens, finish, end, whole, fault_value, NULL};
const struct dialect dialect_completion = {"cmpl-", begin, piece, call, tokens, finish, end, whole, fault_value, NULL};

#include "serve/ask.h"

#include "base/json_text.h"
#include "base/number.h"
#include "serve/ask_list.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- JSON ---- */

/* How deep brackets nest, by a look at the text alone, ahead of a parser that would take memory for them. */
static int nesting(const char *text, size_t length)
{
    int depth = 0, most = 0;
    bool in_string = false;
    for (size_t i = 0; i < length; i++) {
        const char c = text[i];
        if (in_string) {
            i += c == '\\';
            in_string = c != '"';
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            depth++;
            most = depth > most ? depth : most;
        } else if (c == '}' || c == ']') {
            depth--;
        }
    }
    return most;
}

cohort_status ask_json(json_t **out, const char *body, size_t length, struct fault *fault)
{
    cohort_error err = {0};
    *out = NULL;
    if (length == 0)
        return fault_set(fault, 400, "empty_body", NULL, "the request has no body; expected a JSON object");
    if (nesting(body, length) > ASK_DEPTH)
        return fault_set(fault, 400, "invalid_json", NULL, "the body nests deeper than %d", (int)ASK_DEPTH);
    const cohort_status status = json_text_parse(out, body, length, "body", 1, JSON_TEXT_NUL, &err);
    if (status == COHORT_ERR_MEMORY)
        return fault_set(fault, 500, "out_of_memory", NULL, "%s", err.message);
    if (status != COHORT_OK)
        return fault_set(fault, 400, "invalid_json", NULL, "%s", err.message);
    if (json_is_object(*out))
        return COHORT_OK;
    json_decref(*out);
    *out = NULL;
    return fault_set(fault, 400, "invalid_json", NULL, "the body is not a JSON object");
}

const json_t *ask_field(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    return json_is_null(value) ? NULL : value;
}

static const char *kind_of(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "a list";
    case JSON_STRING: return "a text";
    case JSON_INTEGER: return "a whole number";
    case JSON_REAL: return "a number with a fraction";
    case JSON_TRUE: return "true";
    case JSON_FALSE: return "false";
    default: return "null";
    }
}

static cohort_status wrong_kind(struct fault *fault, const char *name, const char *expected, const json_t *value)
{
    return fault_set(fault, 400, "invalid_type", name, "%s: expected %s, got %s", name, expected, kind_of(value));
}

cohort_status ask_bool(const json_t *object, const char *name, bool *out, struct fault *fault)
{
    const json_t *value = ask_field(object, name);
    if (value == NULL)
        return COHORT_OK;
    if (!json_is_boolean(value))
        return wrong_kind(fault, name, "true or false", value);
    *out = json_is_true(value);
    return COHORT_OK;
}

cohort_status ask_integer(const json_t *object, const char *name, int64_t least, int64_t most, int64_t *out,
                          struct fault *fault)
{
    const json_t *value = ask_field(object, name);
    if (value == NULL)
        return COHORT_OK;
    const double number = json_number_value(value);
    const bool whole =
        json_is_integer(value) || (json_is_real(value) && number == trunc(number) && fabs(number) < 0x1p53);
    if (!whole)
        return wrong_kind(fault, name, "a whole number", value);
    const int64_t found = json_is_integer(value) ? json_integer_value(value) : (int64_t)number;
    if (found < least || found > most)
        return fault_set(fault, 400, "invalid_value", name, "%s is %lld, expected a number from %lld to %lld", name,
                         (long long)found, (long long)least, (long long)most);
    *out = found;
    return COHORT_OK;
}

static cohort_status read_number(const json_t *object, const char *name, double least, double most, float *out,
                                 struct fault *fault)
{
    const json_t *value = ask_field(object, name);
    if (value == NULL)
        return COHORT_OK;
    if (!json_is_number(value))
        return wrong_kind(fault, name, "a number", value);
    const double number = json_number_value(value);
    if (!(number >= least && number <= most))
        return fault_set(fault, 400, "invalid_value", name, "%s is %g, expected a number from %g to %g", name, number,
                         least, most);
    *out = (float)number;
    return COHORT_OK;
}

cohort_status ask_string(const json_t *object, const char *name, const char **out, struct fault *fault)
{
    const json_t *value = ask_field(object, name);
    if (value == NULL)
        return COHORT_OK;
    if (!json_is_string(value))
        return wrong_kind(fault, name, "a text", value);
    if (strlen(json_string_value(value)) != json_string_length(value))
        return fault_set(fault, 400, "invalid_value", name, "%s: the text holds a NUL", name);
    *out = json_string_value(value);
    return COHORT_OK;
}

cohort_status ask_ids(const json_t *list, const char *name, int32_t vocab, struct token_list *out, struct fault *fault)
{
    size_t i = 0;
    json_t *value = NULL;
    if (!json_is_array(list))
        return wrong_kind(fault, name, "a list of token ids", list);
    TRY(mem_grow(&out->ids, &out->capacity, out->count + json_array_size(list), sizeof *out->ids, "ids", &fault->err));
    json_array_foreach((json_t *)(uintptr_t)list, i, value)
    {
        if (!json_is_integer(value) || json_integer_value(value) < 0 || json_integer_value(value) >= vocab)
            return fault_set(fault, 400, "invalid_value", name, "%s[%zu]: expected a token id from 0 to %d", name, i,
                             (int)vocab - 1);
        out->ids[out->count++] = (int32_t)json_integer_value(value);
    }
    return COHORT_OK;
}

/* ---- Fields ---- */

enum reader { READ_NUMBER, READ_WHOLE, READ_SWITCH, READ_ELSEWHERE, READ_NOTHING };
struct field {
    const char *name;
    unsigned forms;
    enum reader reader;
    size_t offset;
    double least, most;
};
#define NUMBER(member)                          READ_NUMBER, offsetof(struct ask, member)
#define WHOLE(member)                           READ_WHOLE, offsetof(struct ask, member)
#define SWITCH(member)                          READ_SWITCH, offsetof(struct ask, member)
#define ELSEWHERE                               READ_ELSEWHERE, 0
#define NOTHING                                 READ_NOTHING, 0
#define FIELD(name, forms, reader, least, most) {name, forms, reader, least, most},
static const struct field fields[] = {ASK_FIELD_LIST(FIELD)};
#undef FIELD
enum { N_FIELDS = sizeof fields / sizeof fields[0] };

/* Letters that two names share at their beginning and end, for a guess at what was meant. */
static size_t likeness(const char *a, const char *b)
{
    const size_t n = strlen(a), m = strlen(b), shorter = n < m ? n : m;
    size_t head = 0, tail = 0;
    while (head < shorter && a[head] == b[head])
        head++;
    while (tail < shorter - head && a[n - 1 - tail] == b[m - 1 - tail])
        tail++;
    return 2 * (head + tail) > (n > m ? n : m) ? head + tail : 0;
}

static cohort_status unknown(struct fault *fault, const char *name, const char *nearest)
{
    return fault_set(fault, 400, "unknown_parameter", name, "unknown field \"%.80s\"%s%s%s", name,
                     nearest != NULL ? "; did you mean \"" : "", nearest != NULL ? nearest : "",
                     nearest != NULL ? "\"?"
                                     : "; the server refuses what it would not honour (--lenient passes over it)");
}

cohort_status ask_known(const json_t *object, const char *const *names, bool lenient, struct fault *fault)
{
    const char *name = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)(uintptr_t)object, name, value)
    {
        const char *nearest = NULL;
        bool known = lenient || json_is_null(value);
        size_t best = 0;
        for (size_t i = 0; names[i] != NULL && !known; i++) {
            known = strcmp(names[i], name) == 0;
            if (likeness(name, names[i]) > best) {
                best = likeness(name, names[i]);
                nearest = names[i];
            }
        }
        if (!known)
            return unknown(fault, name, nearest);
    }
    return COHORT_OK;
}

static cohort_status check_fields(const struct ask *ask, bool lenient, struct fault *fault)
{
    const char *names[N_FIELDS + 1];
    size_t n = 0;
    for (size_t i = 0; i < N_FIELDS; i++)
        if ((fields[i].forms & ask->form) != 0)
            names[n++] = fields[i].name;
    names[n] = NULL;
    return ask_known(ask->body, names, lenient, fault);
}

static cohort_status read_plain(struct ask *ask, struct fault *fault)
{
    for (size_t i = 0; i < N_FIELDS; i++) {
        const struct field *field = &fields[i];
        char *at = (char *)ask + field->offset;
        int64_t whole = 0;
        if ((field->forms & ask->form) == 0 || ask_field(ask->body, field->name) == NULL)
            continue;
        switch (field->reader) {
        case READ_NUMBER:
            TRY(read_number(ask->body, field->name, field->least, field->most, (float *)(void *)at, fault));
            break;
        case READ_WHOLE:
            TRY(ask_integer(ask->body, field->name, (int64_t)field->least, (int64_t)field->most, &whole, fault));
            *(int32_t *)(void *)at = (int32_t)whole;
            break;
        case READ_SWITCH: TRY(ask_bool(ask->body, field->name, (bool *)(void *)at, fault)); break;
        default: break;
        }
    }
    return COHORT_OK;
}

cohort_status ask_model(const json_t *body, const struct ask_context *context, const char **model, struct fault *fault)
{
    const char *asked = NULL;
    TRY(ask_string(body, "model", &asked, fault));
    *model = context->model;
    if (asked == NULL || strcmp(asked, context->model) == 0 || strcmp(asked, "default_model") == 0)
        return COHORT_OK;
    if (context->knows != NULL && context->knows(context->knows_context, asked)) {
        *model = asked;
        return COHORT_OK;
    }
    return fault_set(fault, 404, "model_not_found", "model", "there is no model \"%.200s\" here; this is \"%s\"", asked,
                     context->model);
}

static cohort_status read_lengths(struct ask *ask, const struct ask_context *context, struct fault *fault)
{
    static const char *const names[] = {"max_completion_tokens", "max_output_tokens", "max_tokens"};
    int64_t most = 0, top_k = ask->sampling.top_k;
    for (size_t i = 0; i < sizeof names / sizeof names[0] && most == 0; i++)
        TRY(ask_integer(ask->body, names[i], 1, INT32_MAX, &most, fault));
    if (ask->form == ASK_MESSAGES && most == 0)
        return fault_set(fault, 400, "missing_parameter", "max_tokens", "max_tokens: the field is required");
    ask->max_tokens = (int32_t)(most > 0 ? most : context->max_tokens);
    TRY(ask_integer(ask->body, "top_k", -1, INT32_MAX, &top_k, fault)); /* -1: all, as vLLM has it */
    ask->sampling.top_k = (int32_t)(top_k < 0 ? 0 : top_k);
    if (ask->max_tokens > 0 && ask->min_tokens > ask->max_tokens)
        return fault_set(fault, 400, "invalid_value", "min_tokens", "min_tokens is %d, but an answer has at most %d",
                         (int)ask->min_tokens, (int)ask->max_tokens);
    return COHORT_OK;
}

static cohort_status read_bias(struct ask *ask, int32_t vocab, struct fault *fault)
{
    const json_t *map = ask_field(ask->body, "logit_bias");
    const char *key = NULL;
    json_t *value = NULL;
    int32_t n = 0;
    if (map == NULL)
        return COHORT_OK;
    if (!json_is_object(map))
        return wrong_kind(fault, "logit_bias", "an object of token ids and numbers", map);
    TRY(mem_alloc(&ask->bias_id, json_object_size(map), sizeof *ask->bias_id, "logit bias", &fault->err));
    TRY(mem_alloc(&ask->bias, json_object_size(map), sizeof *ask->bias, "logit bias", &fault->err));
    json_object_foreach((json_t *)(uintptr_t)map, key, value)
    {
        int64_t id = -1;
        if (!number_read_integer(key, strlen(key), &id) || id < 0 || id >= vocab)
            return fault_set(fault, 400, "invalid_value", "logit_bias",
                             "logit_bias: \"%.40s\" is not a token id from 0 to %d", key, (int)vocab - 1);
        ask->bias_id[n] = (int32_t)id;
        if (!json_is_number(value) || fabs(json_number_value(value)) > 1000)
            return fault_set(fault, 400, "invalid_value", "logit_bias",
                             "logit_bias of %.40s: expected a number from -1000 to 1000", key);
        ask->bias[n++] = (float)json_number_value(value);
    }
    ask->sampling.bias_id = ask->bias_id;
    ask->sampling.bias = ask->bias;
    ask->sampling.n_bias = n;
    return COHORT_OK;
}

static cohort_status read_stops(struct ask *ask, const struct engine_request *pattern, struct fault *fault)
{
    const char *name = ask->form == ASK_MESSAGES ? "stop_sequences" : "stop";
    const json_t *stop = ask_field(ask->body, name);
    const size_t given = json_is_array(stop) ? json_array_size(stop) : stop != NULL;
    TRY(mem_alloc(&ask->stop, given + (size_t)pattern->n_stop, sizeof *ask->stop, "stop strings", &fault->err));
    if (given > ASK_MOST_STOPS)
        return fault_set(fault, 400, "invalid_value", name, "%s: %zu texts, expected at most %d", name, given,
                         (int)ASK_MOST_STOPS);
    for (size_t i = 0; i < given; i++) {
        const json_t *text = json_is_array(stop) ? json_array_get(stop, i) : stop;
        if (!json_is_string(text) || json_string_length(text) == 0 ||
            strlen(json_string_value(text)) != json_string_length(text))
            return fault_set(fault, 400, "invalid_value", name,
                             "%s: expected a text, or a list of texts, none empty or with a NUL", name);
        ask->stop[ask->n_stop++] = json_string_value(text);
    }
    for (int32_t i = 0; i < pattern->n_stop && given == 0; i++)
        ask->stop[ask->n_stop++] = pattern->stop[i];
    return COHORT_OK;
}

/* vLLM's object; one that is given holds for itself, whatever the server's options say. */
static cohort_status read_repetition(struct ask *ask, const struct engine_request *pattern, bool lenient,
                                     struct fault *fault)
{
    enum { MOST_SIZE = 4096, MOST_COUNT = 65536 }; /* as of the options */
    static const char *const names[] = {"max_pattern_size", "min_pattern_size", "min_count", NULL};
    static const char param[] = "repetition_detection";
    const json_t *given = ask_field(ask->body, param);
    int64_t longest = 0, shortest = 0, count = 0;
    ask->repetition = pattern->repetition;
    if (given == NULL)
        return COHORT_OK;
    if (!json_is_object(given))
        return wrong_kind(fault, param, "an object of max_pattern_size, min_pattern_size and min_count", given);
    TRY(ask_known(given, names, lenient, fault));
    TRY(ask_integer(given, names[0], 0, MOST_SIZE, &longest, fault));
    TRY(ask_integer(given, names[1], 0, MOST_SIZE, &shortest, fault));
    TRY(ask_integer(given, names[2], 0, MOST_COUNT, &count, fault));
    if (shortest > longest)
        return fault_set(fault, 400, "invalid_value", param,
                         "repetition_detection: min_pattern_size is %d, more than max_pattern_size, which is %d",
                         (int)shortest, (int)longest);
    if (longest > 0 && count < 2)
        return fault_set(fault, 400, "invalid_value", param,
                         "repetition_detection: min_count is %d, expected at least 2 where max_pattern_size is given",
                         (int)count);
    ask->repetition = (struct repeat_limit){
        .max_size = (int32_t)longest, .min_size = (int32_t)(shortest > 0 ? shortest : 1), .min_count = (int32_t)count};
    return COHORT_OK;
}

static cohort_status read_ends(struct ask *ask, const struct engine_request *pattern, int32_t vocab,
                               struct fault *fault)
{
    const json_t *stops = ask_field(ask->body, "stop_token_ids");
    struct token_list list = {0};
    cohort_status status = COHORT_OK;
    if (stops != NULL)
        TRY_GOTO(ask_ids(stops, "stop_token_ids", vocab, &list, fault));
    if (list.count > ASK_MOST_STOPS) {
        status =
            fault_set(fault, 400, "invalid_value", "stop_token_ids", "stop_token_ids: at most %d", (int)ASK_MOST_STOPS);
        goto cleanup;
    }
    const size_t own = ask->ignore_eos ? 0 : (size_t)pattern->n_eos;
    TRY_GOTO(mem_alloc(&ask->eos_ids, own + list.count, sizeof *ask->eos_ids, "stop ids", &fault->err));
    for (size_t i = 0; i < own; i++)
        ask->eos_ids[ask->n_eos++] = pattern->eos_ids[i];
    for (size_t i = 0; i < list.count; i++)
        ask->eos_ids[ask->n_eos++] = list.ids[i];
cleanup:
    token_list_free(&list);
    return status;
}

/* The model's own log-probs at temperature 1 (what vLLM calls raw), or those of what draws begin with. */
static cohort_status read_mode(struct ask *ask, struct fault *fault)
{
    const char *mode = NULL;
    TRY(ask_string(ask->body, "logprobs_mode", &mode, fault));
    ask->logp_temperature = 1;
    if (mode == NULL || strcmp(mode, "raw") == 0 || strcmp(mode, "raw_logprobs") == 0)
        return COHORT_OK;
    const bool processed = strcmp(mode, "processed") == 0 || strcmp(mode, "processed_logprobs") == 0;
    if (!processed && strcmp(mode, "temperature") != 0)
        return fault_set(fault, 400, "invalid_value", "logprobs_mode",
                         "logprobs_mode \"%.40s\": expected raw, temperature or processed", mode);
    if (processed && (sampling_changes_logits(&ask->sampling) || ask->sampling.temperature == 0))
        return fault_set(
            fault, 400, "unsupported_value", "logprobs_mode",
            "log-probs behind filters and penalties are not told; \"temperature\" gives those of the whole "
            "distribution at the temperature");
    ask->logp_temperature = 0;
    return COHORT_OK;
}

static cohort_status read_logprobs(struct ask *ask, int32_t vocab, struct fault *fault)
{
    int64_t top = 0, of_prompt = -1;
    const json_t *logprobs = ask_field(ask->body, "logprobs");
    if (ask->form == ASK_COMPLETION && !json_is_boolean(logprobs)) {
        TRY(ask_integer(ask->body, "logprobs", 0, ASK_MOST_TOP, &top, fault));
        ask->logprobs = logprobs != NULL;
    } else {
        TRY(ask_bool(ask->body, "logprobs", &ask->logprobs, fault));
    }
    if (ask->form == ASK_CHAT)
        TRY(ask_integer(ask->body, "top_logprobs", 0, ASK_MOST_TOP, &top, fault));
    if (top > 0 && !ask->logprobs)
        return fault_set(fault, 400, "invalid_value", "top_logprobs", "top_logprobs needs \"logprobs\": true");
    ask->top_logprobs = (int32_t)(top < vocab ? top : vocab);
    TRY(read_mode(ask, fault));
    TRY(ask_integer(ask->body, "prompt_logprobs", 0, ASK_MOST_TOP, &of_prompt, fault));
    if (ask->stream && (of_prompt >= 0 || (ask->echo && ask->logprobs)))
        return fault_set(fault, 400, "unsupported_value", of_prompt >= 0 ? "prompt_logprobs" : "echo",
                         "log-probs of a prompt's tokens are not told in a stream");
    if (ask->echo && ask->logprobs && ask->top_logprobs > of_prompt)
        of_prompt = ask->top_logprobs;
    ask->prompt_logprobs = (int32_t)(of_prompt < vocab ? of_prompt : vocab);
    return COHORT_OK;
}

static cohort_status read_options(struct ask *ask, struct fault *fault)
{
    static const char *const names[] = {"include_usage", "include_obfuscation", "continuous_usage_stats", NULL};
    const json_t *options = ask_field(ask->body, "stream_options");
    int64_t best = 0;
    if (options != NULL && !json_is_object(options))
        return wrong_kind(fault, "stream_options", "an object", options);
    if (options != NULL) {
        TRY(ask_known(options, names, false, fault));
        TRY(ask_bool(options, "include_usage", &ask->include_usage, fault));
    }
    TRY(ask_integer(ask->body, "best_of", 1, ASK_MOST_N, &best, fault));
    if (best > 0 && best != ask->n)
        return fault_set(fault, 400, "unsupported_value", "best_of", "best_of other than n is not supported here");
    if (ask_field(ask->body, "suffix") != NULL)
        return fault_set(fault, 400, "unsupported_value", "suffix", "suffix is not supported here");
    return COHORT_OK;
}

static cohort_status read_seed(struct ask *ask, struct fault *fault)
{
    ask->has_seed = ask_field(ask->body, "seed") != NULL;
    return ask_integer(ask->body, "seed", INT64_MIN, INT64_MAX, &ask->seed, fault);
}

/* Whether every prompt leaves room for what is asked. */
static cohort_status check_lengths(struct ask *ask, const struct ask_context *context, struct fault *fault)
{
    const bool asked = ask_field(ask->body, "max_tokens") != NULL ||
                       ask_field(ask->body, "max_completion_tokens") != NULL ||
                       ask_field(ask->body, "max_output_tokens") != NULL;
    for (size_t i = 0; i < ask->n_prompts; i++) {
        const size_t n = ask->prompts[i].ids.count, most = (size_t)context->context;
        if (n == 0)
            return fault_set(fault, 400, "invalid_value", ask->form == ASK_COMPLETION ? "prompt" : "messages",
                             "the prompt is empty: it needs at least one token");
        if (n >= most)
            return fault_set(fault, 400, "context_length_exceeded", ask->form == ASK_COMPLETION ? "prompt" : "messages",
                             "the prompt has %zu tokens, the context holds %zu", n, most);
        if (ask->prompt_logprobs >= 0 && n > (size_t)context->max_score)
            return fault_set(fault, 400, "context_length_exceeded",
                             ask_field(ask->body, "prompt_logprobs") != NULL ? "prompt_logprobs" : "echo",
                             "log-probs of a prompt are told of up to %d tokens (--max-score): this one has %zu",
                             (int)context->max_score, n);
        if (asked && ask->form != ASK_MESSAGES && n + (size_t)ask->max_tokens > most)
            return fault_set(fault, 400, "context_length_exceeded", "max_tokens",
                             "the prompt has %zu tokens and %d are asked for: the context holds %zu", n,
                             (int)ask->max_tokens, most);
    }
    return COHORT_OK;
}

static cohort_status read_prompts(struct ask *ask, const struct ask_context *context, struct fault *fault)
{
    if (ask->form == ASK_COMPLETION)
        return ask_completion_prompts(ask, context, fault);
    if (ask->form == ASK_MESSAGES)
        return ask_anthropic(ask, context, fault);
    if (ask->form == ASK_RESPONSES)
        return ask_responses(ask, context, fault);
    const json_t *messages = ask_field(ask->body, "messages");
    if (messages == NULL)
        return fault_set(fault, 400, "missing_parameter", "messages", "messages: the field is required");
    TRY(ask_chat_messages(ask, messages, fault));
    TRY(ask_chat_tools(ask, ask_field(ask->body, "tools"), ask_field(ask->body, "tool_choice"), fault));
    return ask_chat_prompt(ask, context, fault);
}

cohort_status ask_read(struct ask *ask, enum ask_form form, const struct ask_context *context, const char *body,
                       size_t length, struct fault *fault)
{
    const int32_t vocab = tokenizer_size(context->session->tokenizer),
                  model_vocab = context->session->model->config.vocab_size;
    ask->form = form;
    ask->sampling = context->pattern->sampling;
    ask->n = 1;
    TRY(ask_json(&ask->body, body, length, fault));
    TRY(check_fields(ask, context->lenient, fault));
    TRY(ask_model(ask->body, context, &ask->model, fault));
    TRY(read_plain(ask, fault));
    TRY(read_lengths(ask, context, fault));
    TRY(read_seed(ask, fault));
    TRY(read_bias(ask, vocab, fault));
    TRY(read_stops(ask, context->pattern, fault));
    TRY(read_repetition(ask, context->pattern, context->lenient, fault));
    TRY(read_ends(ask, context->pattern, vocab, fault));
    TRY(read_logprobs(ask, vocab < model_vocab ? vocab : model_vocab, fault));
    TRY(read_options(ask, fault));
    TRY(read_prompts(ask, context, fault));
    TRY(check_lengths(ask, context, fault));
    return ask_guide(ask, context, fault);
}

void ask_free(struct ask *ask)
{
    for (size_t i = 0; i < ask->n_prompts; i++) {
        token_list_free(&ask->prompts[i].ids);
        text_free(&ask->prompts[i].text);
    }
    mem_free(ask->prompts);
    mem_free(ask->bias_id);
    mem_free(ask->bias);
    mem_free(ask->stop);
    mem_free(ask->eos_ids);
    guide_release(ask->guide);
    json_decref(ask->messages);
    json_decref(ask->tools);
    json_decref(ask->body);
    memset(ask, 0, sizeof *ask);
}

/* Models: generation by one engine for all requests, by its own thread. */
#include "addon.h"

#include <stdlib.h>
#include <string.h>

static const unsigned MODEL = 1u << WORKER_MODEL;

/* ---- Opening ----------------------------------------------------------------------------------------------------- */

struct opening {
    struct job job;
    char **pairs;
    size_t count;
    int32_t max_context;
};

static void open_release(napi_env env, struct job *job)
{
    (void)env;
    struct opening *opening = (struct opening *)job;
    strings_free(opening->pairs, opening->count);
}

static void on_token(void *context, int64_t request, int32_t index, int32_t token, float logprob, const char *text,
                     size_t length, const char *finish_reason);

static void open_work(struct job *job)
{
    struct opening *opening = (struct opening *)job;
    struct worker *worker = job->worker;
    job->status = options_make(&worker->options, COHORT_GENERATE, opening->pairs, opening->count, &job->err);
    if (job->status == COHORT_OK)
        job->status = cohort_options_set_stop(worker->options, worker->stop, &job->err);
    if (job->status == COHORT_OK)
        job->status = cohort_model_open(&worker->handle.model, worker->options, opening->max_context, &job->err);
    if (job->status != COHORT_OK)
        return;
    cohort_on_token(worker->handle.model, on_token, worker);
    addon_text_say(&job->text, cohort_model_notes(worker->handle.model));
}

/* (pairs, max_context) -> [handle, promise of notes] */
static napi_value model_open(napi_env env, napi_callback_info info)
{
    napi_value values[2], handle = NULL;
    double context = 0;
    if (!arguments(env, info, 2, values) || !number_of(env, values[1], &context))
        return NULL;
    struct opening *opening = calloc(1, sizeof *opening);
    if (opening != NULL)
        opening->pairs = strings_of(env, values[0], &opening->count);
    struct worker *worker =
        opening != NULL && opening->pairs != NULL ? worker_new(env, addon_of(env), WORKER_MODEL, &handle) : NULL;
    if (worker == NULL) {
        if (opening != NULL)
            open_release(env, &opening->job);
        free(opening);
        throw_pending(env, "model_open");
        return NULL;
    }
    opening->max_context = (int32_t)context;
    opening->job.work = open_work;
    opening->job.result = result_text;
    opening->job.release = open_release;
    return pair(env, handle, worker_queue(env, worker, &opening->job));
}

/* ---- Text and ids ------------------------------------------------------------------------------------------------ */

/* Text to ids or ids to text. */
struct coding {
    struct job job;
    char *text;
    size_t length;
    int32_t *ids;
    size_t count;
    bool thinking;
};

static void code_release(napi_env env, struct job *job)
{
    (void)env;
    struct coding *coding = (struct coding *)job;
    free(coding->text);
    if (coding->ids != NULL)
        cohort_free(coding->ids);
}

static napi_value ids_result(napi_env env, struct job *job)
{
    const struct coding *coding = (struct coding *)job;
    return typed_array(env, napi_uint32_array, coding->ids, coding->count);
}

static bool is_open(struct job *job)
{
    if (job->worker->handle.model != NULL)
        return true;
    node_job_fail(job, COHORT_ERR_STATE, "the model is not open");
    return false;
}

static void encode_work(struct job *job)
{
    struct coding *c = (struct coding *)job;
    if (is_open(job))
        job->status = cohort_encode(job->worker->handle.model, c->text, &c->ids, &c->count, &job->err);
}

static void chat_encode_work(struct job *job)
{
    struct coding *c = (struct coding *)job;
    if (is_open(job))
        job->status =
            cohort_chat_encode(job->worker->handle.model, c->text, c->thinking, &c->ids, &c->count, &job->err);
}

static void take_text(struct job *job, char *text, size_t length)
{
    if (job->status == COHORT_OK)
        addon_text_add(&job->text, text, length);
    cohort_free(text);
}

static void chat_prompt_work(struct job *job)
{
    struct coding *c = (struct coding *)job;
    char *text = NULL;
    size_t length = 0;
    if (!is_open(job))
        return;
    job->status = cohort_chat_prompt(job->worker->handle.model, c->text, c->thinking, &text, &length, &job->err);
    take_text(job, text, length);
}

/* Ids came as bytes in text. */
static void decode_work(struct job *job)
{
    struct coding *c = (struct coding *)job;
    char *text = NULL;
    size_t length = 0;
    if (!is_open(job))
        return;
    job->status = cohort_decode(job->worker->handle.model, (const int32_t *)(const void *)c->text,
                                c->length / sizeof(int32_t), &text, &length, &job->err);
    take_text(job, text, length);
}

/* A copy of the elements of an Int32Array or Uint32Array; NULL with an exception. */
static void *elements_of(napi_env env, napi_value value, size_t *bytes)
{
    napi_typedarray_type type = napi_int8_array;
    size_t count = 0;
    void *data = NULL;
    OK_OR(NULL, napi_get_typedarray_info(env, value, &type, &count, &data, NULL, NULL));
    const size_t width = type == napi_float64_array ? 8 : 4;
    if (type != napi_int32_array && type != napi_uint32_array && type != napi_float32_array &&
        type != napi_float64_array) {
        throw_error(env, COHORT_ERR_ARGUMENT, "expected an Int32Array, Uint32Array, Float32Array or Float64Array");
        return NULL;
    }
    void *copy = malloc(count * width + 1);
    if (copy == NULL) {
        throw_error(env, COHORT_ERR_MEMORY, "out of memory");
        return NULL;
    }
    if (count > 0)
        memcpy(copy, data, count * width);
    *bytes = count * width;
    return copy;
}

/* (handle, text or ids, thinking) -> promise */
static napi_value code(napi_env env, napi_callback_info info, void (*work)(struct job *),
                       napi_value (*result)(napi_env, struct job *), bool of_ids)
{
    napi_value values[3];
    if (!arguments(env, info, 3, values))
        return NULL;
    struct worker *worker = worker_of(env, values[0], MODEL);
    struct coding *coding = worker == NULL ? NULL : calloc(1, sizeof *coding);
    if (coding == NULL) {
        throw_pending(env, "out of memory");
        return NULL;
    }
    coding->text = of_ids ? elements_of(env, values[1], &coding->length) : string_of(env, values[1], &coding->length);
    if (coding->text == NULL) {
        free(coding);
        return NULL;
    }
    if (!of_ids && strlen(coding->text) != coding->length) {
        throw_error(env, COHORT_ERR_ARGUMENT, "the text holds a NUL character, which no tokenizer here reads");
        free(coding->text);
        free(coding);
        return NULL;
    }
    napi_get_value_bool(env, values[2], &coding->thinking);
    coding->job.work = work;
    coding->job.result = result;
    coding->job.release = code_release;
    return worker_queue(env, worker, &coding->job);
}

static napi_value model_encode(napi_env env, napi_callback_info info)
{
    return code(env, info, encode_work, ids_result, false);
}

static napi_value model_chat_encode(napi_env env, napi_callback_info info)
{
    return code(env, info, chat_encode_work, ids_result, false);
}

static napi_value model_chat_prompt(napi_env env, napi_callback_info info)
{
    return code(env, info, chat_prompt_work, result_text, false);
}

static napi_value model_decode(napi_env env, napi_callback_info info)
{
    return code(env, info, decode_work, result_text, true);
}

/* ---- Generation -------------------------------------------------------------------------------------------------- */

struct wish {
    cohort_request request;
    int32_t *prompt, *stop_ids, *bias_ids;
    float *bias;
    char **stop;
    size_t n_stop;
    char *chat; /* of a conversation whose completions are taken apart; NULL: of none */
    bool thinking, submitted;
    uint64_t before;
    int64_t id;
    size_t first; /* its completions among those of the job */
};

struct made {
    cohort_completion completion;
    char *parsed;
    size_t parsed_length;
};

/* Requests that go together, and their completions. Owned by the job's message; listed by the worker while the engine has
 * them. */
struct generation {
    struct job job;
    struct generation *next;
    struct wish *wishes;
    size_t n_wishes;
    struct made *made;
    size_t n_made, left;
    int64_t number; /* what cancel names */
    napi_ref on_token;
};

struct token_message {
    struct message message;
    struct generation *generation;
    int32_t index, token;
    float logprob;
    const char *finish_reason;
    size_t length;
    char text[];
};

static void generation_release(napi_env env, struct job *job)
{
    struct generation *g = (struct generation *)job;
    if (g->on_token != NULL && env != NULL)
        napi_delete_reference(env, g->on_token);
    for (size_t i = 0; i < g->n_wishes; i++) {
        free(g->wishes[i].prompt);
        free(g->wishes[i].stop_ids);
        free(g->wishes[i].bias_ids);
        free(g->wishes[i].bias);
        free(g->wishes[i].chat);
        strings_free(g->wishes[i].stop, g->wishes[i].n_stop);
    }
    for (size_t i = 0; g->made != NULL && i < g->n_made; i++) {
        cohort_completion_free(&g->made[i].completion);
        cohort_free(g->made[i].parsed);
    }
    free(g->wishes);
    free(g->made);
}

static struct generation *find(const struct worker *worker, int64_t request, struct wish **wish)
{
    for (struct generation *g = worker->generations; g != NULL; g = g->next)
        for (size_t i = 0; i < g->n_wishes; i++)
            if (g->wishes[i].submitted && g->wishes[i].id == request) {
                *wish = &g->wishes[i];
                return g;
            }
    return NULL;
}

static void on_token_message(napi_env env, struct message *message)
{
    struct token_message *m = (struct token_message *)message;
    napi_handle_scope scope = NULL;
    if (env != NULL && napi_open_handle_scope(env, &scope) == napi_ok) {
        napi_value function = NULL, global = NULL, values[5], ignored = NULL;
        values[2] = text_value(env, m->text, m->length);
        values[4] = text_value(env, m->finish_reason, strlen(m->finish_reason));
        if (napi_create_int32(env, m->index, &values[0]) == napi_ok &&
            napi_create_int32(env, m->token, &values[1]) == napi_ok &&
            napi_create_double(env, (double)m->logprob, &values[3]) == napi_ok &&
            napi_get_global(env, &global) == napi_ok &&
            napi_get_reference_value(env, m->generation->on_token, &function) == napi_ok)
            napi_call_function(env, global, function, 5, values, &ignored);
        bool pending = false;
        if (napi_is_exception_pending(env, &pending) == napi_ok && pending)
            napi_get_and_clear_last_exception(env, &ignored);
        napi_close_handle_scope(env, scope);
    }
    free(m);
}

static void on_token(void *context, int64_t request, int32_t index, int32_t token, float logprob, const char *text,
                     size_t length, const char *finish_reason)
{
    struct worker *worker = context;
    struct wish *wish = NULL;
    struct generation *g = find(worker, request, &wish);
    if (g == NULL || g->on_token == NULL)
        return;
    struct token_message *m = malloc(sizeof *m + length);
    if (m == NULL)
        return;
    *m = (struct token_message){.message = {on_token_message},
                                .generation = g,
                                .index = (int32_t)wish->first + index,
                                .token = token,
                                .logprob = logprob,
                                .finish_reason = finish_reason,
                                .length = length};
    if (length > 0)
        memcpy(m->text, text, length);
    post(worker->addon, &m->message);
}

static void cancel(struct worker *worker, struct generation *g)
{
    for (size_t i = 0; i < g->n_wishes; i++)
        if (g->wishes[i].submitted)
            cohort_cancel(worker->handle.model, g->wishes[i].id);
}

static void generation_start(struct job *job)
{
    struct generation *g = (struct generation *)job;
    struct worker *worker = job->worker;
    if (!is_open(job))
        return;
    job->kept = true;
    g->next = worker->generations;
    worker->generations = g;
    for (size_t i = 0; job->status == COHORT_OK && i < g->n_wishes; i++) {
        struct wish *w = &g->wishes[i];
        w->request.prompt = w->prompt;
        w->request.stop = (const char *const *)w->stop;
        w->request.stop_token_ids = w->stop_ids;
        w->request.bias_ids = w->bias_ids;
        w->request.bias = w->bias;
        w->request.n_stop = w->n_stop;
        w->request.stream = cohort_prompt_stream(w->prompt, w->request.n_prompt, w->before);
        job->status = cohort_submit(worker->handle.model, &w->request, &w->id, &job->err);
        w->submitted = job->status == COHORT_OK;
        g->left += w->submitted ? (size_t)w->request.n : 0;
    }
    if (job->status != COHORT_OK)
        cancel(worker, g);
    worker->busy = true;
}

static void take_apart(struct worker *worker, struct generation *g, const struct wish *w, struct made *made)
{
    struct job *job = &g->job;
    if (w->chat == NULL || job->status != COHORT_OK)
        return;
    job->status = cohort_chat_parse(worker->handle.model, w->chat, w->thinking, &made->completion, &made->parsed,
                                    &made->parsed_length, &job->err);
}

/* Moves out what the engine has finished, and posts the jobs that have all of theirs. */
static cohort_status collect(struct worker *worker, cohort_error *err)
{
    bool found = true;
    for (;;) {
        cohort_completion completion;
        cohort_completion_init(&completion);
        cohort_status status = cohort_poll(worker->handle.model, &completion, &found, err);
        if (status != COHORT_OK || !found)
            return status;
        struct wish *wish = NULL;
        struct generation *g = find(worker, completion.request, &wish);
        if (g == NULL) {
            cohort_completion_free(&completion);
            continue;
        }
        struct made *made = &g->made[wish->first + (size_t)completion.index];
        made->completion = completion;
        g->left--;
        take_apart(worker, g, wish, made);
    }
}

static void post_finished(struct worker *worker, bool all)
{
    for (struct generation **at = &worker->generations; *at != NULL;) {
        struct generation *g = *at;
        if (g->left > 0 && !all) {
            at = &g->next;
            continue;
        }
        *at = g->next;
        node_job_done(&g->job);
    }
}

void model_turn(struct worker *worker)
{
    bool busy = false;
    cohort_error err;
    cohort_error_init(&err);
    cohort_status status = cohort_step(worker->handle.model, &busy, &err);
    if (status == COHORT_OK)
        status = collect(worker, &err);
    if (status == COHORT_ERR_CANCELLED) { /* the model is closing, which the thread sees next */
        worker->busy = false;
        return;
    }
    if (status != COHORT_OK) {
        model_drop(worker, status, err.message);
        return;
    }
    worker->busy = busy;
    post_finished(worker, !busy);
}

void model_drop(struct worker *worker, cohort_status status, const char *message)
{
    bool busy = true;
    cohort_error err;
    cohort_error_init(&err);
    for (struct generation *g = worker->generations; g != NULL; g = g->next)
        cancel(worker, g);
    cohort_stop_reset(worker->stop);
    while (busy && cohort_step(worker->handle.model, &busy, &err) == COHORT_OK)
        ;
    collect(worker, &err);
    for (struct generation *g = worker->generations; g != NULL; g = g->next)
        node_job_fail(&g->job, status, message);
    worker->busy = false;
    post_finished(worker, true);
}

static bool set_value(napi_env env, napi_value object, const char *name, napi_value value)
{
    return value != NULL && napi_set_named_property(env, object, name, value) == napi_ok;
}

static napi_value made_value(napi_env env, const struct made *made)
{
    const cohort_completion *c = &made->completion;
    napi_value object = NULL;
    OK_OR(NULL, napi_create_object(env, &object));
    const bool set =
        set_value(env, object, "text", text_value(env, c->text, c->text_length)) &&
        set_value(env, object, "tokens", typed_array(env, napi_uint32_array, c->tokens, c->n_tokens)) &&
        set_value(env, object, "logprobs", typed_array(env, napi_float32_array, c->logprobs, c->n_tokens)) &&
        set_value(env, object, "finishReason", text_value(env, c->finish_reason, strlen(c->finish_reason))) &&
        (c->n_top == 0 || (set_value(env, object, "topTokens",
                                     typed_array(env, napi_uint32_array, c->top_token_ids, c->n_tokens * c->n_top)) &&
                           set_value(env, object, "topLogprobs",
                                     typed_array(env, napi_float32_array, c->top_logprobs, c->n_tokens * c->n_top)))) &&
        (made->parsed == NULL || set_value(env, object, "parsed", text_value(env, made->parsed, made->parsed_length)));
    return set ? object : NULL;
}

static napi_value generation_result(napi_env env, struct job *job)
{
    struct generation *g = (struct generation *)job;
    napi_value array = NULL;
    OK_OR(NULL, napi_create_array_with_length(env, g->n_made, &array));
    for (size_t i = 0; i < g->n_made; i++) {
        napi_handle_scope scope = NULL;
        OK_OR(NULL, napi_open_handle_scope(env, &scope));
        napi_value value = g->made[i].completion.finish_reason == NULL ? NULL : made_value(env, &g->made[i]);
        const bool set = value != NULL && napi_set_element(env, array, (uint32_t)i, value) == napi_ok;
        napi_close_handle_scope(env, scope);
        if (!set) {
            throw_pending(env, "a completion is missing");
            return NULL;
        }
    }
    return array;
}

static bool get_number(napi_env env, napi_value object, const char *name, double *number)
{
    napi_value value = NULL;
    OK_OR(false, napi_get_named_property(env, object, name, &value));
    return number_of(env, value, number);
}

/* A typed array of 4-byte elements. */
static bool get_elements(napi_env env, napi_value object, const char *name, void **elements, size_t *count)
{
    napi_value value = NULL;
    size_t bytes = 0;
    OK_OR(false, napi_get_named_property(env, object, name, &value));
    *elements = elements_of(env, value, &bytes);
    *count = bytes / 4;
    return *elements != NULL;
}

/* {prompt, n, maxTokens, seed (bigint), before, temperature, ..., stop, stopIds, biasIds, bias, chat, thinking}: all there,
 * filled in by model.js */
static bool wish_of(napi_env env, napi_value object, struct wish *wish)
{
    cohort_request *request = &wish->request;
    double numbers[18];
    static const char *const names[] = {"n",
                                        "maxTokens",
                                        "before",
                                        "temperature",
                                        "topP",
                                        "minP",
                                        "topK",
                                        "repetitionPenalty",
                                        "presencePenalty",
                                        "frequencyPenalty",
                                        "repetitionContextSize",
                                        "presenceContextSize",
                                        "frequencyContextSize",
                                        "repetitionMaxPatternSize",
                                        "repetitionMinPatternSize",
                                        "repetitionMinCount",
                                        "minNewTokens",
                                        "topLogprobs"};
    napi_value value = NULL;
    napi_valuetype type = napi_undefined;
    size_t n_bias = 0;
    void *prompt = NULL, *stop_ids = NULL, *bias_ids = NULL, *bias = NULL;
    bool lossless = false;
    cohort_request_init(request);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (!get_number(env, object, names[i], &numbers[i]))
            return false;
    request->n = (int32_t)numbers[0];
    request->max_tokens = (int32_t)numbers[1];
    wish->before = (uint64_t)numbers[2];
    request->temperature = (float)numbers[3];
    request->top_p = (float)numbers[4];
    request->min_p = (float)numbers[5];
    request->top_k = (int32_t)numbers[6];
    request->repetition_penalty = (float)numbers[7];
    request->presence_penalty = (float)numbers[8];
    request->frequency_penalty = (float)numbers[9];
    request->repetition_context = (int32_t)numbers[10];
    request->presence_context = (int32_t)numbers[11];
    request->frequency_context = (int32_t)numbers[12];
    request->repetition_max_pattern_size = (int32_t)numbers[13];
    request->repetition_min_pattern_size = (int32_t)numbers[14];
    request->repetition_min_count = (int32_t)numbers[15];
    request->min_tokens = (int32_t)numbers[16];
    request->top_logprobs = (int32_t)numbers[17];
    OK_OR(false, napi_get_named_property(env, object, "ignoreEos", &value));
    OK_OR(false, napi_get_value_bool(env, value, &request->ignore_eos));
    OK_OR(false, napi_get_named_property(env, object, "seed", &value));
    OK_OR(false, napi_get_value_bigint_uint64(env, value, &request->seed, &lossless));
    const bool read = get_elements(env, object, "prompt", &prompt, &request->n_prompt) &&
                      get_elements(env, object, "stopIds", &stop_ids, &request->n_stop_token_ids) &&
                      get_elements(env, object, "biasIds", &bias_ids, &request->n_bias) &&
                      get_elements(env, object, "bias", &bias, &n_bias);
    wish->prompt = prompt;
    wish->stop_ids = stop_ids;
    wish->bias_ids = bias_ids;
    wish->bias = bias;
    if (!read)
        return false;
    if (n_bias != request->n_bias) {
        throw_error(env, COHORT_ERR_ARGUMENT, "as many biases as ids were expected");
        return false;
    }
    OK_OR(false, napi_get_named_property(env, object, "stop", &value));
    wish->stop = strings_of(env, value, &wish->n_stop);
    if (wish->stop == NULL)
        return false;
    OK_OR(false, napi_get_named_property(env, object, "thinking", &value));
    OK_OR(false, napi_get_value_bool(env, value, &wish->thinking));
    OK_OR(false, napi_get_named_property(env, object, "chat", &value));
    OK_OR(false, napi_typeof(env, value, &type));
    if (type == napi_string)
        wish->chat = string_of(env, value, NULL);
    return type != napi_string || wish->chat != NULL;
}

static struct generation *generation_of(napi_env env, napi_value requests)
{
    uint32_t count = 0;
    OK_OR(NULL, napi_get_array_length(env, requests, &count));
    struct generation *g = calloc(1, sizeof *g);
    if (g == NULL || (g->wishes = calloc((size_t)count + 1, sizeof *g->wishes)) == NULL)
        goto failed;
    for (uint32_t i = 0; i < count; i++) {
        napi_value object = NULL;
        struct wish *wish = &g->wishes[i];
        g->n_wishes++;
        if (napi_get_element(env, requests, i, &object) != napi_ok || !wish_of(env, object, wish))
            goto failed;
        if (wish->request.n < 1 || wish->request.n > 1 << 20) {
            throw_error(env, COHORT_ERR_ARGUMENT, "the number of completions is not from 1 to 1048576");
            goto failed;
        }
        wish->first = g->n_made;
        g->n_made += (size_t)wish->request.n;
    }
    g->made = calloc(g->n_made + 1, sizeof *g->made);
    if (g->made != NULL)
        return g;
failed:
    throw_pending(env, "out of memory");
    if (g != NULL) {
        g->n_made = 0;
        generation_release(env, &g->job);
    }
    free(g);
    return NULL;
}

/* (handle, requests, number, on_token or null) -> promise of completions, those of a request consecutive */
static napi_value model_generate(napi_env env, napi_callback_info info)
{
    napi_value values[4];
    napi_valuetype type = napi_undefined;
    double number = 0;
    if (!arguments(env, info, 4, values) || !number_of(env, values[2], &number))
        return NULL;
    struct worker *worker = worker_of(env, values[0], MODEL);
    struct generation *g = worker == NULL ? NULL : generation_of(env, values[1]);
    if (g == NULL)
        return NULL;
    g->number = (int64_t)number;
    napi_typeof(env, values[3], &type);
    if (type == napi_function)
        napi_create_reference(env, values[3], 1, &g->on_token);
    g->job.work = generation_start;
    g->job.result = generation_result;
    g->job.release = generation_release;
    return worker_queue(env, worker, &g->job);
}

struct cancelling {
    struct job job;
    int64_t number;
};

static void cancel_work(struct job *job)
{
    const struct cancelling *cancelling = (struct cancelling *)job;
    for (struct generation *g = job->worker->generations; g != NULL; g = g->next)
        if (g->number == cancelling->number)
            cancel(job->worker, g);
}

/* (handle, number) -> promise, settled when the engine was told */
static napi_value model_cancel(napi_env env, napi_callback_info info)
{
    napi_value values[2];
    double number = 0;
    if (!arguments(env, info, 2, values) || !number_of(env, values[1], &number))
        return NULL;
    struct worker *worker = worker_of(env, values[0], MODEL);
    struct cancelling *cancelling = worker == NULL ? NULL : calloc(1, sizeof *cancelling);
    if (cancelling == NULL) {
        throw_pending(env, "out of memory");
        return NULL;
    }
    cancelling->number = (int64_t)number;
    cancelling->job.work = cancel_work;
    return worker_queue(env, worker, &cancelling->job);
}

/* (bytes): memory beside JavaScript's that its collector should know of */
static napi_value external_memory(napi_env env, napi_callback_info info)
{
    napi_value values[1];
    double bytes = 0;
    int64_t all = 0;
    if (arguments(env, info, 1, values) && number_of(env, values[0], &bytes))
        OK_OR(NULL, napi_adjust_external_memory(env, (int64_t)bytes, &all));
    return NULL;
}

bool model_exports(napi_env env, napi_value exports)
{
    return export_function(env, exports, "modelOpen", model_open) &&
           export_function(env, exports, "modelEncode", model_encode) &&
           export_function(env, exports, "modelDecode", model_decode) &&
           export_function(env, exports, "modelChatEncode", model_chat_encode) &&
           export_function(env, exports, "modelChatPrompt", model_chat_prompt) &&
           export_function(env, exports, "modelGenerate", model_generate) &&
           export_function(env, exports, "modelCancel", model_cancel) &&
           export_function(env, exports, "externalMemory", external_memory);
}

/* The public generation functions over session and engine. */
#include "api/handles.h"
#include "api/sized.h"
#include "base/json_text.h"
#include "recipe/row_response.h"

#include <string.h>
#include <unistd.h>

cohort_status check_process(pid_t owner, const char *function, const char *what, cohort_error *err)
{
    if (owner == getpid())
        return COHORT_OK;
    return error_set(err, COHORT_ERR_STATE,
                     "%s: %s was opened by process %ld and this is a process forked from it; open it again here",
                     function, what, (long)owner);
}

/* What every call that reaches the engine checks first. */
static cohort_status check_usable(const cohort_model *model, const char *function, cohort_error *err)
{
    TRY(check_process(model->owner, function, "the model", err));
    if (!atomic_load(&model->training))
        return COHORT_OK;
    return error_set(err, COHORT_ERR_STATE,
                     "%s: the trainer that this model belongs to is in a step; wait until it ends", function);
}

cohort_status cohort_model_open(cohort_model **out, const cohort_options *options, int32_t max_context,
                                cohort_error *err)
{
    struct cohort_model *model = NULL;
    cohort_status status = COHORT_OK;
    if (out == NULL || options == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "cohort_model_open: out and options must not be NULL");
    *out = NULL;
    if (options->command != COHORT_GENERATE)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "cohort_model_open: these are options of %s; create them with COHORT_GENERATE",
                         cohort_command_name(options->command));
    if (max_context < 0)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "cohort_model_open: max_context is %d, expected a number of tokens, or 0", (int)max_context);
    TRY(mem_alloc(&model, 1, sizeof *model, "model", err));
    model->owner = getpid();
    model->session = &model->own;
    model->trust_content = options_bool(options->options, OPTION_TRUST_CONTENT);
    TRY_GOTO(session_open(model->session, options->options, NULL, SESSION_TOKENIZER, NULL, err));
    int32_t context = model->session->model->max_context;
    if (max_context > 0 && max_context < context)
        context = max_context;
    struct rollout_need need = {0};
    rollout_need_any(&need, model->session->backend, (int32_t)options_int(options->options, OPTION_DECODE_CONCURRENCY),
                     context);
    need.step_tokens = (int32_t)options_int(options->options, OPTION_PREFILL_STEP_SIZE);
    need.draft_tokens = session_drafts(model->session, options->options);
    need.history = context; /* a request may bring any penalty */
    need.modest = true;
    TRY_GOTO(session_engine(model->session, options->options, &need, &model->engine, err));
    *out = model;
    return COHORT_OK;
cleanup:
    cohort_model_close(model);
    return status;
}

const char *cohort_model_notes(const cohort_model *model)
{
    return model == NULL || model->session->notes.data == NULL ? "" : model->session->notes.data;
}

void cohort_model_close(cohort_model *model)
{
    if (model == NULL || model->lender != NULL)
        return;
    if (atomic_load(&model->stepping)) { /* from a callback: cohort_step still needs it */
        model->closed = true;
        return;
    }
    engine_destroy(model->engine);
    session_close(&model->own);
    mem_free(model);
}

cohort_status cohort_encode(const cohort_model *model, const char *text, int32_t **ids, size_t *count,
                            cohort_error *err)
{
    struct token_list list = {0};
    if (model == NULL || text == NULL || ids == NULL || count == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "cohort_encode: no argument may be NULL");
    cohort_status status = tokenizer_encode(model->session->tokenizer, text, strlen(text), true, &list, err);
    if (status == COHORT_OK && list.ids == NULL)
        status = mem_alloc(&list.ids, 1, sizeof *list.ids, "ids", err);
    if (status != COHORT_OK)
        token_list_free(&list);
    *ids = list.ids;
    *count = list.count;
    return status;
}

/* Hands out a text that the caller frees. */
static void give_text(struct text *out, char **text, size_t *length)
{
    *text = out->data;
    if (length != NULL)
        *length = out->length;
    memset(out, 0, sizeof *out);
}

cohort_status cohort_decode(const cohort_model *model, const int32_t *ids, size_t count, char **text, size_t *length,
                            cohort_error *err)
{
    struct text out = {0};
    if (model == NULL || (ids == NULL && count > 0) || text == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "cohort_decode: no argument may be NULL");
    cohort_status status = text_append(&out, "", 0, err);
    if (status == COHORT_OK)
        status = tokenizer_decode(model->session->tokenizer, ids, count, true, &out, err);
    if (status != COHORT_OK)
        text_free(&out);
    give_text(&out, text, length);
    return status;
}

/* A conversation of the caller's: what it was parsed to, and what the template makes of it. Zero-initialise. */
struct conversation {
    json_t *value;
    json_t *wrapped; /* the object around a list that came alone, or NULL */
    const json_t *row;
    struct row_settings settings;
    struct rendered rendered;
};

static void conversation_free(struct conversation *c)
{
    rendered_free(&c->rendered);
    row_settings_free(&c->settings);
    json_decref(c->wrapped);
    json_decref(c->value);
}

static cohort_status conversation_render(const cohort_model *model, const char *messages_json, bool thinking,
                                         struct conversation *out, cohort_error *err)
{
    const struct row_style style = {.thinking = thinking ? CHAT_THINKING_ON : CHAT_THINKING_OFF};
    TRY(json_text_parse(&out->value, messages_json, strlen(messages_json), "messages", 1, 0, err));
    out->row = out->value;
    if (!json_is_object(out->value)) {
        out->wrapped = json_object();
        if (out->wrapped == NULL || json_object_set(out->wrapped, "messages", out->value) != 0)
            return error_set(err, COHORT_ERR_MEMORY, "messages: out of memory");
        out->row = out->wrapped;
    }
    const json_t *messages = json_object_get(out->row, "messages");
    if (messages == NULL)
        return error_set(err, COHORT_ERR_FORMAT,
                         "messages: expected a list of messages, or an object with one as \"messages\"");
    TRY(row_settings(out->row, "messages", &style, true, &out->settings, err));
    return row_render_prompt(model->session, messages, "messages", &out->settings.chat, &out->rendered, err);
}

cohort_status cohort_chat_encode(const cohort_model *model, const char *messages_json, bool thinking, int32_t **ids,
                                 size_t *count, cohort_error *err)
{
    struct conversation c = {0};
    struct token_list list = {0};
    if (model == NULL || messages_json == NULL || ids == NULL || count == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "cohort_chat_encode: no argument may be NULL");
    cohort_status status = conversation_render(model, messages_json, thinking, &c, err);
    if (status == COHORT_OK)
        status = row_encode(model->session, &c.rendered.text, &c.rendered.spans, 0, c.rendered.text.length,
                            model->trust_content, &list, err);
    if (status != COHORT_OK)
        token_list_free(&list);
    conversation_free(&c);
    *ids = list.ids;
    *count = list.count;
    return status;
}

cohort_status cohort_chat_prompt(const cohort_model *model, const char *messages_json, bool thinking, char **text,
                                 size_t *length, cohort_error *err)
{
    struct conversation c = {0};
    if (model == NULL || messages_json == NULL || text == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "cohort_chat_prompt: no argument may be NULL");
    *text = NULL;
    cohort_status status = conversation_render(model, messages_json, thinking, &c, err);
    if (status == COHORT_OK)
        give_text(&c.rendered.text, text, length);
    conversation_free(&c);
    return status;
}

static cohort_status give_json(json_t *value, char **json, size_t *length, cohort_error *err)
{
    struct text text = {0};
    const cohort_status status = json_text_write(value, JSON_COMPACT, &text, err);
    json_decref(value);
    if (status == COHORT_OK)
        give_text(&text, json, length);
    text_free(&text);
    return status;
}

/* What row->parse gives, as text; NULL if the row has none. */
static cohort_status parse_row(const struct reward_row *row, char **json, size_t *length, cohort_error *err)
{
    json_t *parsed = NULL;
    *json = NULL;
    if (row->parse == NULL)
        return COHORT_OK;
    TRY(row->parse(row, &parsed, err));
    return give_json(parsed, json, length, err);
}

cohort_status cohort_text_parse(const char *text, size_t length, char **json, size_t *json_length, cohort_error *err)
{
    json_t *parsed = NULL;
    if (text == NULL || json == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "cohort_text_parse: text and json must not be NULL");
    *json = NULL;
    TRY(row_response_text(text, length, &parsed, err));
    return give_json(parsed, json, json_length, err);
}

cohort_status cohort_chat_parse(const cohort_model *model, const char *messages_json, bool thinking,
                                const cohort_completion *completion, char **json, size_t *length, cohort_error *err)
{
    const struct row_style style = {0};
    struct conversation c = {0};
    cohort_completion made = {0};
    if (model == NULL || messages_json == NULL || completion == NULL || json == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "cohort_chat_parse: no argument may be NULL");
    *json = NULL;
    TRY(sized_read(&sized_completion, "cohort_chat_parse", completion, &made, err));
    if (made.text == NULL || made.finish_reason == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "cohort_chat_parse: the completion is one that cohort_poll gave");
    cohort_status status = conversation_render(model, messages_json, thinking, &c, err);
    if (status == COHORT_OK) {
        struct reward_row row = {.data = c.row,
                                 .prompt = c.rendered.text.data,
                                 .prompt_length = c.rendered.text.length,
                                 .completion = made.text,
                                 .completion_length = made.text_length,
                                 .tokens = made.tokens,
                                 .n_tokens = (int32_t)made.n_tokens,
                                 .finish_reason = made.finish_reason};
        row_response_set(&row, model->session, &style);
        status = parse_row(&row, json, length, err);
    }
    conversation_free(&c);
    return status;
}

size_t cohort_model_width(const cohort_model *model)
{
    return model == NULL ? 0 : (size_t)model->session->model->config.hidden_size;
}

cohort_status cohort_embed(const cohort_model *model, const int32_t *ids, size_t count, float *out, cohort_error *err)
{
    if (model == NULL || (count > 0 && (ids == NULL || out == NULL)))
        return error_set(err, COHORT_ERR_ARGUMENT, "cohort_embed: model, ids and out must not be NULL");
    const struct model *inner = model->session->model;
    for (size_t i = 0; i < count; i++)
        if (ids[i] < 0 || ids[i] >= inner->config.vocab_size)
            return error_set(err, COHORT_ERR_ARGUMENT, "cohort_embed: id %zu is %d, expected one from 0 to %d", i,
                             (int)ids[i], (int)inner->config.vocab_size - 1);
    TRY(check_usable(model, "cohort_embed", err));
    return model_embed(inner, ids, count, out, err);
}

void cohort_request_init_sized(cohort_request *request, size_t size) { sized_init(&sized_request, request, size); }

uint64_t cohort_prompt_stream(const int32_t *ids, size_t count, uint64_t before)
{
    return prompt_stream(ids, ids == NULL ? 0 : count, before);
}

cohort_status cohort_submit(cohort_model *model, const cohort_request *given, int64_t *id, cohort_error *err)
{
    cohort_request known = {0}, *const request = &known;
    if (model == NULL || given == NULL || id == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "cohort_submit: model, request and id must not be NULL");
    TRY(sized_read(&sized_request, "cohort_submit", given, request, err));
    if ((request->prompt == NULL && request->n_prompt > 0) || (request->stop == NULL && request->n_stop > 0))
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "cohort_submit: the request's prompt and stop must not be NULL where they are counted");
    if (request->prompt_embeddings != NULL && request->prompt_width != cohort_model_width(model))
        return error_set(err, COHORT_ERR_ARGUMENT, "cohort_submit: prompt_width is %zu, the model's is %zu",
                         request->prompt_width, cohort_model_width(model));
    if ((request->stop_token_ids == NULL && request->n_stop_token_ids > 0) ||
        ((request->bias_ids == NULL || request->bias == NULL) && request->n_bias > 0))
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "cohort_submit: stop_token_ids, bias_ids and bias must not be NULL where they are counted");
    if (request->n_prompt > INT32_MAX || request->n_stop > INT32_MAX || request->n_stop_token_ids > INT32_MAX ||
        request->n_bias > INT32_MAX)
        return error_set(
            err, COHORT_ERR_ARGUMENT,
            "cohort_submit: %zu prompt tokens, %zu stop strings, %zu stop ids or %zu biases are more than can "
            "be used",
            request->n_prompt, request->n_stop, request->n_stop_token_ids, request->n_bias);
    TRY(check_usable(model, "cohort_submit", err));
    const struct model_config *c = &model->session->model->config;
    struct engine_request inner = {.prompt = request->prompt,
                                   .n_prompt = (int32_t)request->n_prompt,
                                   .vectors = request->prompt_embeddings,
                                   .width = (int32_t)request->prompt_width,
                                   .n = request->n,
                                   .sampling = {.temperature = request->temperature,
                                                .top_k = request->top_k,
                                                .top_p = request->top_p,
                                                .min_p = request->min_p,
                                                .min_tokens_to_keep = 1,
                                                .repetition_penalty = request->repetition_penalty,
                                                .presence_penalty = request->presence_penalty,
                                                .frequency_penalty = request->frequency_penalty,
                                                .repetition_context = request->repetition_context,
                                                .presence_context = request->presence_context,
                                                .frequency_context = request->frequency_context,
                                                .bias_id = request->bias_ids,
                                                .bias = request->bias,
                                                .n_bias = (int32_t)request->n_bias},
                                   .seed = request->seed,
                                   .stream = request->stream,
                                   .max_tokens = request->max_tokens,
                                   .eos_ids = c->eos_ids,
                                   .n_eos = request->ignore_eos ? 0 : c->n_eos,
                                   .stop_ids = request->stop_token_ids,
                                   .n_stop_ids = (int32_t)request->n_stop_token_ids,
                                   .min_tokens = request->min_tokens,
                                   .repetition = {.max_size = request->repetition_max_pattern_size,
                                                  .min_size = request->repetition_min_pattern_size,
                                                  .min_count = request->repetition_min_count},
                                   .n_top = request->top_logprobs,
                                   .prompt_logp = request->prompt_logprobs,
                                   .process = request->logits_processor,
                                   .process_context = request->logits_context,
                                   .caller = request->caller,
                                   .stop = request->stop,
                                   .n_stop = (int32_t)request->n_stop,
                                   .n_choosable = tokenizer_size(model->session->tokenizer)};
    atomic_fetch_add(&model->open, request->n);
    const cohort_status status = engine_submit(model->engine, &inner, id, err);
    if (status != COHORT_OK)
        atomic_fetch_sub(&model->open, request->n);
    return status;
}

static void forward_event(void *context, const struct engine_event *event)
{
    const cohort_model *model = context;
    if (event->request < model->first)
        return;
    model->callback(model->callback_context, event->request, event->index, event->token, event->logp, event->text,
                    event->text_length, finish_reason_name(event->finish_reason));
}

void cohort_on_token(cohort_model *model, cohort_token_callback callback, void *context)
{
    if (model == NULL)
        return;
    model->callback = callback;
    model->callback_context = context;
    if (!atomic_load(&model->training))
        model_resume(model);
}

void model_resume(cohort_model *model)
{
    if (model->lender != NULL && atomic_load(&model->open) == 0)
        atomic_store(&model->first, engine_next_id(model->engine));
    engine_set_callback(model->engine, model->callback == NULL ? NULL : forward_event, model);
    atomic_store(&model->training, false);
}

cohort_status model_suspend(cohort_model *model, const char *function, cohort_error *err)
{
    if (atomic_load(&model->stepping))
        return error_set(err, COHORT_ERR_STATE, "%s: cohort_step is running on the trainer's model", function);
    if (model->open > 0)
        return error_set(err, COHORT_ERR_STATE,
                         "%s: the trainer's model has %lld completions that have not finished or were not polled; "
                         "finish them, or cancel and poll them",
                         function, (long long)model->open);
    atomic_store(&model->training, true);
    engine_set_callback(model->engine, NULL, NULL);
    return COHORT_OK;
}

cohort_status cohort_step(cohort_model *model, bool *busy, cohort_error *err)
{
    if (model == NULL || busy == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "cohort_step: model and busy must not be NULL");
    TRY(check_usable(model, "cohort_step", err));
    if (atomic_exchange(&model->stepping, true))
        return error_set(err, COHORT_ERR_STATE,
                         "cohort_step: another call of it is running on this model; wait until it returns");
    cohort_status status = engine_step(model->engine, busy, err);
    atomic_store(&model->stepping, false);
    if (!model->closed)
        return status;
    if (model->lender != NULL)
        cohort_trainer_close(model->lender);
    else
        cohort_model_close(model);
    *busy = false;
    return error_set(err, COHORT_ERR_STATE, "cohort_step: the model was closed by its callback");
}

void cohort_completion_init_sized(cohort_completion *completion, size_t size)
{
    sized_init(&sized_completion, completion, size);
}

cohort_status cohort_poll(cohort_model *model, cohort_completion *out, bool *found, cohort_error *err)
{
    struct completion inner;
    if (model == NULL || out == NULL || found == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "cohort_poll: model, out and found must not be NULL");
    *found = false;
    TRY(sized_check(&sized_completion, "cohort_poll", out, err));
    TRY(check_usable(model, "cohort_poll", err));
    for (;;) {
        if (!engine_poll(model->engine, &inner))
            return COHORT_OK;
        if (inner.request >= model->first)
            break;
        completion_free(&inner);
    }
    atomic_fetch_sub(&model->open, 1);
    const cohort_completion ours = {.request = inner.request,
                                    .index = inner.index,
                                    .tokens = inner.tokens,
                                    .logprobs = inner.logp,
                                    .n_tokens = (size_t)inner.n_tokens,
                                    .text = inner.text,
                                    .finish_reason = finish_reason_name(inner.finish_reason),
                                    .text_length = inner.text_length,
                                    .n_top = (size_t)inner.n_top,
                                    .top_token_ids = inner.top_ids,
                                    .top_logprobs = inner.top_logp,
                                    .n_prompt = (size_t)inner.n_prompt,
                                    .prompt_logprobs = inner.prompt_logp};
    mem_free(inner.entropy); /* the public struct has no place for it */
    sized_write(&sized_completion, &ours, out);
    *found = true;
    return COHORT_OK;
}

void cohort_completion_free(cohort_completion *completion)
{
    if (completion == NULL)
        return;
    mem_free(completion->tokens);
    mem_free(completion->logprobs);
    mem_free(completion->text);
    if (completion->size >= sizeof *completion) {
        mem_free(completion->top_token_ids);
        mem_free(completion->top_logprobs);
        mem_free(completion->prompt_logprobs);
        completion->top_token_ids = NULL;
        completion->top_logprobs = completion->prompt_logprobs = NULL;
        completion->n_top = completion->n_prompt = 0;
    }
    completion->tokens = NULL;
    completion->logprobs = NULL;
    completion->text = NULL;
    completion->n_tokens = completion->text_length = 0;
}

void cohort_cancel(cohort_model *model, int64_t id)
{
    if (model != NULL && !atomic_load(&model->training))
        engine_cancel(model->engine, id);
}

#include "command/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_BATCH = 1 << 22 }; /* completions of a step, or of an evaluation's prompt set */

void observer_output(const cohort_observer *observer, const struct text *text)
{
    if (observer->output != NULL && text->length > 0)
        observer->output(observer->context, text->data, text->length);
}

void observer_message(const cohort_observer *observer, const char *format, ...)
{
    char line[2000];
    if (observer->message == NULL)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    observer->message(observer->context, line);
}

bool observer_progress(const cohort_observer *observer, const cohort_progress *progress)
{
    return observer->progress == NULL || observer->progress(observer->context, progress);
}

uint64_t content_hash(const void *bytes, size_t length)
{
    const unsigned char *p = bytes;
    uint64_t hash = 0xcbf29ce484222325ull;
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ p[i]) * 0x100000001b3ull;
    return hash;
}

/* *gpu: the number after "cuda:", 0 for "cuda", -1 for the CPU. */
static cohort_status read_device(const struct options *options, int *gpu, cohort_error *err)
{
    const char *device = options_string(options, "device");
    *gpu = -1;
    if (strcmp(device, "cpu") == 0)
        return COHORT_OK;
    const char *isa = options_string(options, "isa"); /* a run's config.yaml has it as auto */
    const bool wants_cpu = strcmp(isa, "auto") != 0;
    if (strcmp(device, "auto") == 0) { /* an instruction set asked for is a CPU asked for */
        *gpu = !wants_cpu && backend_cuda_present() ? 0 : -1;
        return COHORT_OK;
    }
    char *end = NULL;
    long number = strcmp(device, "cuda") == 0 ? 0
                  : strncmp(device, "cuda:", 5) == 0 && device[5] >= '0' && device[5] <= '9'
                      ? strtol(device + 5, &end, 10)
                      : -1;
    if (number < 0 || number > 1023 || (end != NULL && *end != '\0'))
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "--device '%s': expected auto, cpu, cuda or cuda:N, for example cuda:1",
                         device);
    if (wants_cpu)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "--isa %s is an instruction set of the CPU, --device %s asks for a GPU: "
                         "give one of the two",
                         isa, device);
    *gpu = (int)number;
    return COHORT_OK;
}

cohort_status session_backend(struct backend **out, const struct options *options,
                              cohort_error *err)
{
    int gpu = -1;
    *out = NULL;
    TRY(read_device(options, &gpu, err));
    if (gpu >= 0)
        return backend_cuda_create(out, gpu, err);
    return backend_cpu_create(out, options_string(options, "isa"),
                              (int)options_int(options, "threads"), err);
}

cohort_status session_model(struct model **out, struct backend *backend,
                            const struct options *options, const struct model_config *config,
                            cohort_error *err)
{
    const char *asked = options_string(options, "dtype");
    const bool f32 =
        strcmp(asked, "f32") == 0 || (strcmp(asked, "auto") == 0 && config->dtype == DTYPE_F32);
    return model_open(out, backend, config, f32 ? DTYPE_F32 : DTYPE_BF16, 0, err);
}

/* Before anything large is allocated: whether the weights, and with training their gradient and
 * optimizer state, can fit. */
static cohort_status check_room(const struct session *session, const struct options *options,
                                bool training, cohort_error *err)
{
    const struct model *model = session->model;
    const double weights = (double)model_weight_bytes(model) / 1e9,
                 limit = (double)session_memory_limit(session->backend, options) / 1e9;
    const double state =
        training ? (double)model_train_bytes(model, session_moments(options)) / 1e9 : 0.0;
    const double narrow = training ? (double)model_train_bytes(model, DTYPE_BF16) / 1e9 : 0.0;
    if (weights + state <= limit)
        return COHORT_OK;
    return error_set(
        err, COHORT_ERR_MEMORY,
        "%s: weights take %.2f GB, gradient and optimizer %.2f GB, %.2f GB are there; %s",
        session->dir, weights, state, limit,
        weights + narrow < limit   ? "pass --moments-dtype bf16, with which they fit"
        : model->type == DTYPE_F32 ? "use --dtype bf16, a smaller model or another --device"
                                   : "use a smaller model or another --device");
}

cohort_status session_open(struct session *session, const struct options *options, const char *dir,
                           unsigned need, cohort_error *err)
{
    struct model_config config = {0};
    char *path = NULL;
    cohort_status status = COHORT_OK;
    memset(session, 0, sizeof *session);
    if (dir == NULL)
        dir = options_string(options, "model");
    if (dir == NULL)
        return error_set(
            err, COHORT_ERR_ARGUMENT,
            "no model given: pass --model DIR, a folder with config.json and model.safetensors");
    if (!file_is_dir(dir))
        return error_set(
            err, COHORT_ERR_IO,
            "%s: not a folder; --model takes a folder with config.json and model.safetensors", dir);
    TRY_GOTO(session_backend(&session->backend, options, err));
    session->dir = dir;
    TRY_GOTO(model_config_load(&config, dir, err));
    TRY_GOTO(session_model(&session->model, session->backend, options, &config, err));
    TRY_GOTO(check_room(session, options, (need & SESSION_TRAINING) != 0, err));
    TRY_GOTO(file_join(&path, dir, "tokenizer.json", err));
    if ((need & SESSION_TOKENIZER) != 0 ||
        ((need & SESSION_TOKENIZER_IF_ANY) != 0 && file_exists(path)))
        TRY_GOTO(tokenizer_load(&session->tokenizer, dir, err));
    if (session->tokenizer != NULL &&
        tokenizer_size(session->tokenizer) > session->model->config.vocab_size) {
        status = error_set(
            err, COHORT_ERR_FORMAT,
            "%s: tokenizer.json has %d tokens, the model only %d rows (vocab_size of config.json)",
            dir, (int)tokenizer_size(session->tokenizer), (int)session->model->config.vocab_size);
        goto cleanup;
    }
    if ((need & SESSION_TRAINING) == 0)
        TRY_GOTO(session_read(session, err));
cleanup:
    model_config_free(&config);
    mem_free(path);
    if (status != COHORT_OK)
        session_close(session);
    return status;
}

cohort_status session_read(struct session *session, cohort_error *err)
{
    return model_read(session->model, session->dir, err);
}

void session_close(struct session *session)
{
    if (session->backend != NULL)
        arena_release(&session->arena, session->backend);
    model_destroy(session->model);
    tokenizer_destroy(session->tokenizer);
    backend_destroy(session->backend);
    memset(session, 0, sizeof *session);
}

size_t session_memory_limit(struct backend *backend, const struct options *options)
{
    double asked = options_float(options, "memory_limit");
    if (asked > 0.0)
        return (size_t)(asked * 1e9);
    return backend->ops->available(backend) / 20 * 19; /* leave a twentieth to everybody else */
}

/* Products of wide models are large enough with fewer rows, and their activations larger. What free
 * memory there is has no say: the sums of gradients follow the micro-batches. */
enum { FULL_MICRO_WIDTH = 1280 };

int64_t session_micro_tokens(const struct model *model, const struct options *options)
{
    int64_t asked = options_int(options, "micro_batch_tokens");
    const int64_t full = model->backend->train_tokens, width = model->config.hidden_size;
    return asked > 0 ? asked : width <= FULL_MICRO_WIDTH ? full : full * FULL_MICRO_WIDTH / width;
}

enum dtype session_moments(const struct options *options)
{
    return strcmp(options_string(options, "moments_dtype"), "bf16") == 0 ? DTYPE_BF16 : DTYPE_F32;
}

/* What is left beside the weights and a training state, which are there. */
static size_t room_left(const struct session *session, const struct options *options)
{
    const struct model *model = session->model;
    const size_t limit = session_memory_limit(session->backend, options);
    size_t held = model_weight_bytes(model);
    if (options_float(options, "memory_limit") <= 0.0)
        return limit; /* of what is free now */
    held += model->grad != NULL ? model_train_bytes(model, model->moment_type) : 0;
    return limit > held ? limit - held : 0;
}

cohort_status session_rollout(const struct session *session, const struct options *options,
                              const struct rollout_need *need, struct rollout_choice *choice,
                              cohort_error *err)
{
    const size_t room = room_left(session, options);
    const bool half = need->modest || (session->backend->host_memory && !need->whole);
    TRY(rollout_choose(session->model, need, half ? room / 2 : room, NULL, choice, err));
    const bool waits = need->whole && (choice->config.n_pages < need->pages ||
                                       choice->config.max_sequences < need->completions);
    choice->refused = waits || choice->buffers + choice->working > room;
    if (!choice->refused)
        return COHORT_OK;
    const double missing =
        waits ? (double)(need->pages - choice->config.n_pages) *
                    (double)engine_page_bytes(&session->model->config, session->model->type)
              : 0.0;
    return error_set(err, COHORT_ERR_MEMORY,
                     "rollout buffers: %.4g GB are wanted%s, %.4g GB are there; ask for fewer "
                     "tokens, or use a smaller model or another --device",
                     ((double)(choice->buffers + choice->working) + missing) / 1e9,
                     waits ? " with KV pages for all completions at once"
                           : " at the least, with the KV pages of one completion",
                     (double)room / 1e9);
}

cohort_status session_engine(struct session *session, const struct options *options,
                             const struct rollout_need *need, struct engine **out,
                             cohort_error *err)
{
    struct rollout_choice choice = {0};
    cohort_status status = COHORT_OK;
    *out = NULL;
    TRY(session_rollout(session, options, need, &choice, err));
    TRY(engine_create(out, session->model, session->tokenizer, &choice.config, err));
    TRY_GOTO(engine_plan(*out, &session->arena, err));
    TRY_GOTO(arena_allocate(&session->arena, session->backend, "rollout buffers", err));
    TRY_GOTO(engine_plan(*out, &session->arena, err));
    return COHORT_OK;
cleanup:
    engine_destroy(*out);
    *out = NULL;
    return status;
}

static cohort_status read_bias(const char *item, int32_t *id, float *bias, cohort_error *err)
{
    char *end = NULL;
    long value = strtol(item, &end, 10);
    if (end != item && *end == ':' && value >= 0 && value <= INT32_MAX) {
        char *stop = NULL;
        double amount = strtod(end + 1, &stop);
        if (stop != end + 1 && *stop == '\0') {
            *id = (int32_t)value;
            *bias = (float)amount;
            return COHORT_OK;
        }
    }
    return error_set(err, COHORT_ERR_ARGUMENT,
                     "--logit-bias: '%s' is not ID:BIAS, for example 42:-5.0", item);
}

/* The ids of a newline, then the EOS ids. */
static cohort_status xtc_special_ids(const struct session *session, int32_t **ids, int32_t *count,
                                     cohort_error *err)
{
    const struct model_config *c = &session->model->config;
    struct token_list list = {0};
    cohort_status status = tokenizer_encode(session->tokenizer, "\n", 1, false, &list, err);
    for (int32_t i = 0; i < c->n_eos && status == COHORT_OK; i++) {
        status = mem_grow(&list.ids, &list.capacity, list.count + 1, sizeof *list.ids,
                          "special ids", err);
        if (status == COHORT_OK)
            list.ids[list.count++] = c->eos_ids[i];
    }
    if (status != COHORT_OK)
        token_list_free(&list);
    *ids = list.ids;
    *count = (int32_t)list.count;
    return status;
}

cohort_status session_sampling(const struct session *session, const struct options *options,
                               struct sampling_params *sampling, cohort_error *err)
{
    size_t n = options_list_count(options, "logit_bias");
    int32_t *ids = NULL, *special = NULL, n_special = 0;
    float *bias = NULL;
    cohort_status status = COHORT_OK;
    TRY_GOTO(mem_alloc(&ids, n, sizeof *ids, "logit bias", err));
    TRY_GOTO(mem_alloc(&bias, n, sizeof *bias, "logit bias", err));
    TRY_GOTO(xtc_special_ids(session, &special, &n_special, err));
    for (size_t i = 0; i < n; i++)
        TRY_GOTO(read_bias(options_list_item(options, "logit_bias", i), &ids[i], &bias[i], err));
    *sampling = (struct sampling_params){
        .temperature = (float)options_float(options, "temperature"),
        .top_k = (int32_t)options_int(options, "top_k"),
        .top_p = (float)options_float(options, "top_p"),
        .min_p = (float)options_float(options, "min_p"),
        .min_tokens_to_keep = 1,
        .xtc_probability = (float)options_float(options, "xtc_probability"),
        .xtc_threshold = (float)options_float(options, "xtc_threshold"),
        .xtc_special = special,
        .n_xtc_special = n_special,
        .repetition_penalty = (float)options_float(options, "repetition_penalty"),
        .presence_penalty = (float)options_float(options, "presence_penalty"),
        .frequency_penalty = (float)options_float(options, "frequency_penalty"),
        .repetition_context = (int32_t)options_int(options, "repetition_context"),
        .presence_context = (int32_t)options_int(options, "presence_context"),
        .frequency_context = (int32_t)options_int(options, "frequency_context"),
        .bias_id = ids,
        .bias = bias,
        .n_bias = (int32_t)n};
    return COHORT_OK;
cleanup:
    mem_free(ids);
    mem_free(bias);
    mem_free(special);
    return status;
}

void session_sampling_free(struct sampling_params *sampling)
{
    mem_free((void *)(uintptr_t)sampling->bias_id);
    mem_free((void *)(uintptr_t)sampling->bias);
    mem_free((void *)(uintptr_t)sampling->xtc_special);
    sampling->xtc_special = NULL;
    sampling->bias_id = NULL;
    sampling->bias = NULL;
}

static cohort_status render_messages(const struct session *session, const json_t *messages,
                                     const char *where, bool thinking, struct text *text,
                                     cohort_error *err)
{
    struct chat_options options = {.add_generation_prompt = true, .enable_thinking = thinking};
    return chat_template_render(tokenizer_chat_template(session->tokenizer), messages, &options,
                                where, text, err);
}

cohort_status session_prompt(const struct session *session, const json_t *row, const char *where,
                             bool chat, bool thinking, struct token_list *ids, struct text *text,
                             cohort_error *err)
{
    const json_t *prompt = json_object_get(row, "prompt"),
                 *messages = json_object_get(row, "messages");
    cohort_status status = COHORT_OK;
    size_t before = text->length;
    if (prompt != NULL && messages != NULL)
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s: has both \"prompt\" and \"messages\"; give one", where);
    if (json_is_array(prompt))
        messages = prompt;
    if (json_is_string(prompt) && !chat) {
        TRY(text_append(text, json_string_value(prompt), json_string_length(prompt), err));
    } else if (json_is_string(prompt)) {
        json_t *wrapped = json_pack("[{s:s, s:O}]", "role", "user", "content", prompt);
        if (wrapped == NULL)
            return error_set(err, COHORT_ERR_MEMORY, "%s: cannot build a message", where);
        status = render_messages(session, wrapped, where, thinking, text, err);
        json_decref(wrapped);
        TRY(status);
    } else if (messages != NULL) {
        TRY(render_messages(session, messages, where, thinking, text, err));
    } else {
        return error_set(
            err, COHORT_ERR_FORMAT,
            "%s: expected a column \"prompt\" (text or a list of messages) or \"messages\"", where);
    }
    if (text->length == before)
        return error_set(err, COHORT_ERR_FORMAT, "%s: the prompt is empty", where);
    status = tokenizer_encode(session->tokenizer, text->data + before, text->length - before, true,
                              ids, err);
    if (status != COHORT_OK)
        error_context(err, "%s: prompt", where);
    return status;
}

cohort_status session_batch_size(const struct options *options, int32_t *n, cohort_error *err)
{
    int64_t prompts = options_int(options, "prompts_per_step"),
            group = options_int(options, "num_generations");
    if (prompts * group > MAX_BATCH)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "--prompts-per-step %lld times --num-generations %lld: a step has at most "
                         "%d completions",
                         (long long)prompts, (long long)group, (int)MAX_BATCH);
    *n = (int32_t)(prompts * group);
    return COHORT_OK;
}

cohort_status session_stops(const struct options *options, const char ***stops, int32_t *count,
                            cohort_error *err)
{
    size_t n = options_list_count(options, "stop");
    TRY(mem_alloc(stops, n, sizeof **stops, "stop strings", err));
    for (size_t i = 0; i < n; i++)
        (*stops)[i] = options_list_item(options, "stop", i);
    *count = (int32_t)n;
    return COHORT_OK;
}

#include "recipe/session.h"

#include "backend/sampling.h"
#include "base/cores.h"
#include "base/rng.h"
#include "base/number.h"
#include "recipe/end_of_text.h"
#include "recipe/offload_list.h"
#include "recipe/optimizer_options.h"
#include "recipe/speculative_list.h"
#include "format/model_folder.h"
#include "run/sampling_words.h"
#include "tensor/dtype_list.h"

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

int observer_columns(const cohort_observer *observer)
{
    return observer->columns == NULL ? 0 : observer->columns(observer->context);
}

void observer_message(const cohort_observer *observer, const char *format, ...)
{
    char line[2000];
    if (observer->message == NULL)
        return;
    va_list args;
    va_start(args, format);
    number_vformat(line, sizeof line, format, args);
    va_end(args);
    observer->message(observer->context, line);
}

void observer_notes(const cohort_observer *observer, const struct text *notes)
{
    for (const char *line = notes->data; line != NULL && *line != '\0';) {
        const char *end = strchr(line, '\n');
        const size_t length = end == NULL ? strlen(line) : (size_t)(end - line);
        if (observer != NULL)
            observer_message(observer, "%.*s", (int)length, line);
        line += length + (end != NULL);
    }
}

bool observer_progress(const cohort_observer *observer, const cohort_progress *progress)
{
    cohort_progress sized = *progress;
    sized.size = sizeof sized;
    return observer->progress == NULL || observer->progress(observer->context, &sized);
}

void observer_metrics(const cohort_observer *observer, const struct metrics *metrics)
{
    const cohort_metrics handed = {.size = sizeof handed, .items = metrics->items, .count = metrics->count};
    if (observer->metrics != NULL)
        observer->metrics(observer->context, &handed);
}

uint64_t content_hash(const void *bytes, size_t length)
{
    const unsigned char *p = bytes;
    uint64_t hash = 0xcbf29ce484222325ull;
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ p[i]) * 0x100000001b3ull;
    return hash;
}

uint64_t prompt_stream(const int32_t *ids, size_t count, uint64_t before)
{
    return rng_stream(content_hash(ids, count * sizeof *ids), before);
}

/* *gpu: the number after "cuda:", 0 for "cuda", -1 for the CPU. */
static cohort_status read_device(const struct options *options, int *gpu, cohort_error *err)
{
    const char *device = options_string(options, OPTION_DEVICE);
    *gpu = -1;
    if (strcmp(device, "cpu") == 0)
        return COHORT_OK;
    const char *isa = options_choice_word(options, OPTION_ISA); /* config.yaml of a run says auto */
    const bool wants_cpu = strcmp(isa, "auto") != 0;
    if (strcmp(device, "auto") == 0) { /* a requested instruction set implies a CPU */
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
                         "--device '%s': expected auto, cpu, cuda or cuda:N, for example cuda:1", device);
    if (wants_cpu)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "--isa %s is an instruction set of the CPU, --device %s asks for a GPU: "
                         "give one of the two",
                         isa, device);
    *gpu = (int)number;
    return COHORT_OK;
}

/* Where nobody has bound the ranks of a host to cores of their own, as mpirun may have, each takes its part of all. */
static int rank_threads(const struct options *options)
{
    const struct ranks *ranks = options_ranks(options);
    const int asked = (int)options_int(options, OPTION_THREADS);
    struct cores cores;
    cores_find(&cores);
    if (asked > 0 || ranks_count(ranks) == 1 || cores.affinity < cores.online)
        return asked;
    const int part = cores.usable / (int)ranks->local_count;
    return part > 1 ? part : 1;
}

cohort_status session_backend(struct backend **out, const struct options *options, cohort_error *err)
{
    int gpu = -1;
    const struct ranks *ranks = options_ranks(options);
    *out = NULL;
    TRY(read_device(options, &gpu, err));
    /* Without a number each rank of a host has a GPU of its own. */
    if (gpu == 0 && ranks_count(ranks) > 1 && strchr(options_string(options, OPTION_DEVICE), ':') == NULL)
        gpu = (int)ranks->local_rank;
    if (gpu >= 0)
        TRY(backend_cuda_create(out, gpu, err));
    else
        TRY(backend_cpu_create(out, (enum cpu_isa)options_choice(options, OPTION_ISA), rank_threads(options), err));
    (*out)->stop = options_stop(options);
    return COHORT_OK;
}

#define TYPE(id, word) DTYPE_##id,
static const enum dtype compute_types[] = {COMPUTE_TYPE_LIST(TYPE)};
static const enum dtype moments_types[] = {MOMENTS_TYPE_LIST(TYPE)};
#undef TYPE

bool session_asked_type(const struct options *options, enum dtype *type)
{
    const int asked = options_choice(options, OPTION_DTYPE) - 1; /* -1: auto */
    if (asked >= 0)
        *type = compute_types[asked];
    return asked >= 0;
}

#define WORD(id, word) OFFLOAD_##id,
enum offload { OFFLOAD_LIST(WORD) };
#undef WORD

static bool offloads(const struct options *options, enum offload what)
{
    for (size_t i = 0; i < options_list_count(options, OPTION_OFFLOAD); i++)
        if (options_list_choice(options, OPTION_OFFLOAD, i) == (int)what)
            return true;
    return false;
}

unsigned session_offload(const struct options *options)
{
    return (offloads(options, OFFLOAD_OPTIMIZER) ? (unsigned)PARAM_OFFLOAD_STATES : 0) |
           (offloads(options, OFFLOAD_GRADIENTS) ? (unsigned)PARAM_OFFLOAD_GRADIENT : 0);
}

unsigned session_offload_reference(const struct options *options)
{
    return offloads(options, OFFLOAD_REFERENCE) ? PARAM_OFFLOAD_VALUES : 0;
}

enum dtype session_moments(const struct options *options)
{
    return moments_types[options_choice(options, OPTION_MOMENTS_DTYPE)];
}

cohort_status session_type(const struct options *options, const struct model_config *config, const char *dir,
                           bool training, enum dtype *type, struct checkpoint_types *types, struct text *notes,
                           cohort_error *err)
{
    struct checkpoint_types stored = {0};
    struct param_table table = {0};
    cohort_status status = COHORT_OK;
    bool weights = false;
    if (dir != NULL)
        TRY(checkpoint_has_weights(dir, &weights, err));
    if (weights) {
        TRY(architecture_params(config, STORAGE_F32, &table, err));
        status = checkpoint_look(dir, &table, &stored, err);
        param_table_free(&table);
        TRY(status);
    }
    if (!session_asked_type(options, type)) {
        *type = checkpoint_auto_type(config, &stored);
        TRY(checkpoint_type_notes(dir, config, &stored, *type, training, notes, err));
    }
    if (training && config->attention_dropout > 0.0)
        TRY(text_printf(notes, err,
                        "config.json: attention_dropout is %g; training here has no dropout, as "
                        "with 0\n",
                        config->attention_dropout));
    if (types != NULL)
        *types = stored;
    return COHORT_OK;
}

bool session_writes_f16(const struct options *options, const struct model_config *config,
                        const struct checkpoint_types *types)
{
    enum dtype asked = DTYPE_F32;
    return !session_asked_type(options, &asked) && checkpoint_is_f16(config, types);
}

void session_store_f16(struct model *model, const struct checkpoint_types *types,
                       const struct adapter_settings *adapter)
{
    const bool f16 = types->n[DTYPE_F16] > 0 && types->n[DTYPE_F32] == 0 && types->n[DTYPE_BF16] == 0;
    const bool apart = adapter == NULL || (!adapter->merged && !adapter->dora && adapter->saved.count == 0);
    if (f16 && apart)
        model_store_f16(model);
}

cohort_status session_check_room(const struct session *session, const struct options *options, bool training,
                                 cohort_error *err)
{
    const struct model *model = session->model;
    const double weights = (double)model_weight_bytes(model) / 1e9,
                 limit = (double)session_memory_limit(session->backend, options) / 1e9;
    const double state = training ? (double)param_set_train_bytes(model->trained, session_moments(options)) / 1e9 : 0.0;
    const double narrow = training ? (double)param_set_train_bytes(model->trained, DTYPE_BF16) / 1e9 : 0.0;
    if (weights + state <= limit)
        return COHORT_OK;
    const bool movable = session->backend->ops->alloc_host != NULL && model->trained->offload == 0;
    return error_set(err, COHORT_ERR_MEMORY,
                     "%s: weights take %.2f GB, gradient and optimizer %.2f GB, %.2f GB are there; %s", session->dir,
                     weights, state, limit,
                     weights + narrow < limit ? "pass --moments-dtype bf16, with which they fit"
                     : training && movable && weights < limit
                         ? "pass --offload optimizer,gradients, which puts these into the host's memory"
                     : model->type == DTYPE_F32 ? "use --dtype bf16, a smaller model or another --device"
                                                : "use a smaller model or another --device");
}

/* What needs logits of the next token. */
static cohort_status check_language_model(const struct model_config *config, const char *dir, cohort_error *err)
{
    if (config->n_labels == 0)
        return COHORT_OK;
    return error_set(err, COHORT_ERR_UNSUPPORTED,
                     "%s: a sequence classifier of %d labels, which gives no probabilities of tokens; cohort logprobs "
                     "prints its scores",
                     dir, (int)config->n_labels);
}

/* A reward model: of its files, of an adapter that makes one of its base, or because it is to become one. */
static cohort_status make_reward_model(struct session *session, struct model_config *config, bool wanted,
                                       cohort_error *err)
{
    struct session_adapter *adapter = &session->adapter;
    if (adapter->there && adapter->dir == NULL && wanted)
        TRY(adapter_settings_scores(&adapter->settings, err));
    if (adapter->there && !adapter->settings.scores && wanted)
        return error_set(
            err, COHORT_ERR_ARGUMENT,
            "%s: the adapter of a language model, which has no head of scores: merge it with cohort merge, "
            "and train a reward model from there",
            adapter->dir);
    if (!wanted && !(adapter->there && adapter->settings.scores))
        return COHORT_OK;
    return model_config_score(config, session->dir, err);
}

static void hash_files(struct hash *hash, const struct weight_files *files)
{
    for (size_t i = 0; i < files->count; i++)
        hash_add_text(hash, files->files[i].sha256, strlen(files->files[i].sha256));
}

static cohort_status read_weights(struct session *session, bool hashed, cohort_error *err)
{
    struct weight_files files = {0}, adapter = {0};
    struct hash hash;
    if (!hashed)
        return session_read(session, NULL, NULL, err);
    const cohort_status status = session_read(session, &files, &adapter, err);
    hash_begin(&hash);
    hash_files(&hash, &files);
    hash_files(&hash, &adapter);
    hash_end(&hash, session->weights);
    weight_files_free(&files);
    weight_files_free(&adapter);
    return status;
}

static cohort_status read_kv_bits(struct session *session, const struct options *options, cohort_error *err)
{
    const int64_t bits = options_has(options, "kv_bits") ? options_int(options, OPTION_KV_BITS) : 0;
    if (bits != 0 && bits != 8)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "kv_bits is %lld, expected 8, or 0 for keys and values in the model's type", (long long)bits);
    session->kv8 = bits == 8;
    return !session->kv8
               ? COHORT_OK
               : text_printf(&session->notes, err,
                             "kv_bits 8: keys and values are rounded to 8 bits, so that what is drawn and its "
                             "log-probs are not exactly the model's\n");
}

static cohort_status read_max_kv_size(struct session *session, const struct options *options, cohort_error *err)
{
    const int64_t size = options_has(options, "max_kv_size") ? options_int(options, OPTION_MAX_KV_SIZE) : 0;
    if (size == 0)
        return COHORT_OK;
    if (size < 2 * ATTENTION_CHUNK)
        return error_set(err, COHORT_ERR_ARGUMENT, "max_kv_size is %lld, expected at least %d tokens, or 0 for all",
                         (long long)size, 2 * ATTENTION_CHUNK);
    for (int32_t l = 0; l < session->model->config.n_layers; l++)
        if (session->model->layers[l].attention.window > 0)
            return error_set(err, COHORT_ERR_UNSUPPORTED,
                             "%s: max_kv_size is for models that see all tokens, and this one has sliding windows",
                             session->dir);
    const int64_t pages = size / ATTENTION_CHUNK;
    session->kv_pages = pages < session->model->max_context ? (int32_t)pages : 0;
    return text_printf(
        &session->notes, err,
        "max_kv_size %lld: a token sees the first %d tokens and the last ones, at most %lld together, so "
        "that what is drawn behind so many and its log-probs are not the model's\n",
        (long long)size, ATTENTION_CHUNK, (long long)(pages * ATTENTION_CHUNK));
}

cohort_status session_open(struct session *session, const struct options *options, const char *dir, unsigned need,
                           const cohort_observer *observer, cohort_error *err)
{
    const bool training = (need & SESSION_TRAINING) != 0;
    const enum adapter_use use = !training                       ? ADAPTER_COMPUTED
                                 : (need & SESSION_DROPOUT) != 0 ? ADAPTER_TRAINED_WITH_DROPOUT
                                                                 : ADAPTER_TRAINED;
    enum dtype type = DTYPE_F32;
    struct checkpoint_types types = {0};
    struct model_config config = {0};
    char *path = NULL;
    bool there = false;
    cohort_status status = COHORT_OK;
    memset(session, 0, sizeof *session);
    TRY_GOTO(session_adapter_find(&session->adapter, options, dir, use, &session->notes, err));
    dir = session->dir = session->adapter.base;
    enum file_kind kind = FILE_ABSENT;
    TRY_GOTO(file_look(dir, &kind, err));
    if (kind != FILE_FOLDER) {
        status = model_folder_refuse(dir, NULL, err);
        goto cleanup;
    }
    TRY_GOTO(session_backend(&session->backend, options, err));
    TRY_GOTO(model_config_load(&config, &session->config_files, dir, err));
    TRY_GOTO(make_reward_model(session, &config, (need & SESSION_REWARD) != 0, err));
    if ((need & (SESSION_CLASSIFIER | SESSION_REWARD)) == 0)
        TRY_GOTO(check_language_model(&config, dir, err));
    TRY_GOTO(session_type(options, &config, dir, training, &type, &types, &session->notes, err));
    session->f16 = session_writes_f16(options, &config, &types);
    TRY_GOTO(model_open(&session->model, session->backend, &config, type, 0, err));
    session->model->head_seed = config.head_is_new && training ? (uint64_t)options_int(options, OPTION_SEED) : 0;
    if (session->f16 && (!training || session->adapter.there))
        session_store_f16(session->model, &types, session->adapter.there ? &session->adapter.settings : NULL);
    if (session->adapter.there)
        TRY_GOTO(model_adapt(session->model, &session->adapter.settings, err));
    else if (!training && (need & SESSION_ADAPTED) == 0)
        model_pack_alone(session->model);
    if (session->adapter.there && training)
        model_train_adapter(session->model);
    session->seed = session->adapter.there && training ? (uint64_t)options_int(options, OPTION_SEED) : 0;
    if (training) {
        TRY_GOTO(optimizer_read(&session->optimizer, options, err));
        TRY_GOTO(optimizer_lay_out(&session->optimizer, session->model->trained, err));
        param_set_offload(session->model->trained, session_offload(options));
        if (options_list_count(options, OPTION_OFFLOAD) > 0 && session->backend->ops->alloc_host == NULL)
            TRY_GOTO(
                text_printf(&session->notes, err, "offload: a CPU's memory is the host's already: nothing is moved\n"));
    }
    if (!training) /* else by training_open, which knows what ranks divide */
        TRY_GOTO(session_check_room(session, options, false, err));
    TRY_GOTO(file_join(&path, session->adapter.tokenizer, "tokenizer.json", err));
    if ((need & SESSION_TOKENIZER_IF_ANY) != 0)
        TRY_GOTO(file_exists(path, &there, err));
    if ((need & SESSION_TOKENIZER) != 0 || there)
        TRY_GOTO(tokenizer_load(&session->tokenizer, session->adapter.tokenizer, err));
    if (session->tokenizer != NULL && tokenizer_size(session->tokenizer) > session->model->config.vocab_size) {
        status = error_set(err, COHORT_ERR_FORMAT,
                           "%s: tokenizer.json has %d tokens, the model only %d rows (vocab_size of config.json)", dir,
                           (int)tokenizer_size(session->tokenizer), (int)session->model->config.vocab_size);
        goto cleanup;
    }
    if ((need & SESSION_TOKENIZER) != 0) {
        TRY_GOTO(
            chat_template_open(&session->chat, session->tokenizer, options_string(options, OPTION_CHAT_TEMPLATE), err));
        TRY_GOTO(end_of_text_open(session, options, err));
    }
    TRY_GOTO(read_kv_bits(session, options, err));
    TRY_GOTO(read_max_kv_size(session, options, err));
    observer_notes(observer, &session->notes);
    if (!training)
        TRY_GOTO(read_weights(session, (need & SESSION_HASHED) != 0, err));
cleanup:
    mem_free(path);
    if (status != COHORT_OK)
        session_close(session);
    return status;
}

cohort_status session_read(struct session *session, struct weight_files *files, struct weight_files *adapter_files,
                           cohort_error *err)
{
    TRY(model_read(session->model, session->dir, files, err));
    return session->model->adapter == NULL
               ? COHORT_OK
               : session_adapter_read(&session->adapter, session->model, session->seed, adapter_files, err);
}

cohort_status session_load_reference(const struct session *session, const struct options *options, const char *dir,
                                     struct weight_files *files, struct model **out, cohort_error *err)
{
    struct model_config config = {0};
    TRY(model_config_load(&config, NULL, dir, err));
    TRY(check_language_model(&config, dir, err));
    TRY(model_open(out, session->backend, &config, session->model->type, 0, err));
    param_set_offload(&(*out)->base, session_offload_reference(options));
    return model_read(*out, dir, files, err);
}

void session_close(struct session *session)
{
    session_draft_close(session->draft);
    if (session->backend != NULL)
        arena_release(&session->arena, session->backend);
    model_destroy(session->model);
    session_adapter_free(&session->adapter);
    config_files_free(&session->config_files);
    chat_template_close(session->chat);
    tokenizer_destroy(session->tokenizer);
    backend_destroy(session->backend);
    text_free(&session->notes);
    memset(session, 0, sizeof *session);
}

size_t session_memory_limit(struct backend *backend, const struct options *options)
{
    double asked = options_float(options, OPTION_MEMORY_LIMIT);
    if (asked > 0.0)
        return (size_t)(asked * 1e9);
    return backend->ops->available(backend) / 20 * 19; /* leave a twentieth to other programs */
}

/* Wide models need fewer rows for a product of useful size, and their activations are larger. Free memory does not
 * enter, because the sums of gradients depend on the micro-batches. */
enum { FULL_MICRO_WIDTH = 1280 };

int64_t session_pass_tokens(const struct model *model)
{
    const struct backend *be = model->backend;
    const int64_t width = model->config.hidden_size;
    return width <= FULL_MICRO_WIDTH ? be->sizes->train_tokens
                                     : be->sizes->train_tokens_wide * FULL_MICRO_WIDTH / width;
}

int64_t session_micro_tokens(const struct model *model, const struct options *options)
{
    const int64_t asked = options_int(options, OPTION_MICRO_BATCH_TOKENS);
    return asked > 0 ? asked : session_pass_tokens(model);
}

/* The memory that is left beside the weights and a training state, which are allocated already. */
size_t session_room(const struct session *session, const struct options *options)
{
    const struct model *model = session->model;
    const size_t limit = session_memory_limit(session->backend, options);
    size_t held = model_weight_bytes(model) + session->beside;
    if (options_float(options, OPTION_MEMORY_LIMIT) <= 0.0)
        return limit; /* of what is free now */
    const struct param_training *training = &model->trained->training;
    held += training->grad != NULL ? param_set_train_bytes(model->trained, training->moment_type) : 0;
    return limit > held ? limit - held : 0;
}

cohort_status session_rollout(const struct session *session, const struct options *options,
                              const struct rollout_need *need, struct rollout_choice *choice, cohort_error *err)
{
    const bool half = need->modest || (session->backend->host_memory && !need->whole);
    size_t room = session_room(session, options);
    if (session->draft != NULL)
        room = session_draft_leaves(session->draft, session, room);
    struct rollout_need own = *need;
    own.kv8 = session->kv8;
    own.kv_pages = session->kv_pages;
    TRY(rollout_choose(session->model, &own, half ? room / 2 : room, NULL, choice, err));
    const bool waits =
        need->whole && (choice->config.n_pages < need->pages || choice->config.max_sequences < need->completions);
    choice->refused = waits || choice->buffers + choice->working > room;
    if (!choice->refused)
        return COHORT_OK;
    const double missing =
        waits ? (double)(need->pages - choice->config.n_pages) *
                    (double)engine_page_bytes(&session->model->config, session->model->type, session->kv8)
              : 0.0;
    return error_set(err, COHORT_ERR_MEMORY,
                     "rollout buffers: %.4g GB are wanted%s, %.4g GB are there; ask for fewer "
                     "tokens, or use a smaller model or another --device",
                     ((double)(choice->buffers + choice->working) + missing) / 1e9,
                     waits ? " with KV pages for all completions at once"
                           : " at the least, with the KV pages of one completion",
                     (double)room / 1e9);
}

#define ID(id, word) SPECULATIVE_##id,
enum { SPECULATIVE_LIST(ID) };
#undef ID

int32_t session_drafts(const struct session *session, const struct options *options)
{
    const int word = options_choice(options, OPTION_SPECULATIVE) - 1; /* -1: auto */
    const bool model = options_has(options, "draft_model") && options_string(options, OPTION_DRAFT_MODEL) != NULL;
    const bool draws = word == SPECULATIVE_NGRAM || (word < 0 && (model || session->backend->host_memory));
    return draws ? (int32_t)options_int(options, OPTION_SPECULATIVE_TOKENS) : 0;
}

cohort_status session_engine(struct session *session, const struct options *options, const struct rollout_need *need,
                             struct engine **out, cohort_error *err)
{
    struct rollout_choice choice = {0};
    cohort_status status = COHORT_OK;
    *out = NULL;
    TRY(session_draft_open(&session->draft, session, options, err));
    if (session->draft != NULL)
        session->beside += session_draft_bytes(session->draft);
    TRY(session_rollout(session, options, need, &choice, err));
    const size_t room = session_room(session, options);
    TRY(engine_create(out, session->model, session->tokenizer, &choice.config, err));
    TRY_GOTO(engine_keep_prefixes(*out, err));
    TRY_GOTO(engine_plan(*out, &session->arena, err));
    TRY_GOTO(arena_allocate(&session->arena, session->backend, "rollout buffers", err));
    TRY_GOTO(engine_plan(*out, &session->arena, err));
    if (session->draft != NULL)
        TRY_GOTO(session_draft_engine(session->draft, *out, need,
                                      room - session_draft_leaves(session->draft, session, room), err));
    return COHORT_OK;
cleanup:
    engine_destroy(*out);
    *out = NULL;
    return status;
}

static cohort_status read_bias(const char *item, int32_t *id, float *bias, cohort_error *err)
{
    const size_t n = strcspn(item, ":");
    int64_t value = 0;
    double amount = 0.0;
    if (item[n] == ':' && number_read_integer(item, n, &value) && value >= 0 && value <= INT32_MAX &&
        number_read(item + n + 1, strlen(item + n + 1), &amount)) {
        *id = (int32_t)value;
        *bias = (float)amount;
        return COHORT_OK;
    }
    return error_set(err, COHORT_ERR_ARGUMENT, "--logit-bias: '%s' is not ID:BIAS, for example 42:-5.0", item);
}

/* The ids of a newline, then the EOS ids. */
static cohort_status xtc_special_ids(const struct session *session, int32_t **ids, int32_t *count, cohort_error *err)
{
    const struct model_config *c = &session->model->config;
    struct token_list list = {0};
    cohort_status status = tokenizer_encode(session->tokenizer, "\n", 1, false, &list, err);
    for (int32_t i = 0; i < c->n_eos && status == COHORT_OK; i++) {
        status = mem_grow(&list.ids, &list.capacity, list.count + 1, sizeof *list.ids, "special ids", err);
        if (status == COHORT_OK)
            list.ids[list.count++] = c->eos_ids[i];
    }
    if (status != COHORT_OK)
        token_list_free(&list);
    *ids = list.ids;
    *count = (int32_t)list.count;
    return status;
}

static cohort_status read_sampling(const struct session *session, const struct options *options,
                                   struct sampling_params *sampling, cohort_error *err)
{
    size_t n = options_list_count(options, OPTION_LOGIT_BIAS);
    int32_t *ids = NULL, *special = NULL, n_special = 0;
    float *bias = NULL;
    cohort_status status = COHORT_OK;
    TRY_GOTO(mem_alloc(&ids, n, sizeof *ids, "logit bias", err));
    TRY_GOTO(mem_alloc(&bias, n, sizeof *bias, "logit bias", err));
    TRY_GOTO(xtc_special_ids(session, &special, &n_special, err));
    for (size_t i = 0; i < n; i++)
        TRY_GOTO(read_bias(options_list_item(options, OPTION_LOGIT_BIAS, i), &ids[i], &bias[i], err));
    *sampling =
        (struct sampling_params){.temperature = (float)options_float(options, OPTION_TEMPERATURE),
                                 .hf_order = options_choice(options, OPTION_SAMPLING_ORDER) == SAMPLING_ORDER_HF,
                                 .top_k = (int32_t)options_int(options, OPTION_TOP_K),
                                 .top_p = (float)options_float(options, OPTION_TOP_P),
                                 .min_p = (float)options_float(options, OPTION_MIN_P),
                                 .min_tokens_to_keep = 1,
                                 .xtc_probability = (float)options_float(options, OPTION_XTC_PROBABILITY),
                                 .xtc_threshold = (float)options_float(options, OPTION_XTC_THRESHOLD),
                                 .xtc_special = special,
                                 .n_xtc_special = n_special,
                                 .repetition_penalty = (float)options_float(options, OPTION_REPETITION_PENALTY),
                                 .presence_penalty = (float)options_float(options, OPTION_PRESENCE_PENALTY),
                                 .frequency_penalty = (float)options_float(options, OPTION_FREQUENCY_PENALTY),
                                 .repetition_context = (int32_t)options_int(options, OPTION_REPETITION_CONTEXT),
                                 .presence_context = (int32_t)options_int(options, OPTION_PRESENCE_CONTEXT),
                                 .frequency_context = (int32_t)options_int(options, OPTION_FREQUENCY_CONTEXT),
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

cohort_status session_request(const struct session *session, const struct options *options,
                              struct engine_request *request, cohort_error *err)
{
    const struct model_config *c = &session->model->config;
    const size_t n_stop = options_list_count(options, OPTION_STOP);
    const char **stop = NULL;
    TRY(mem_alloc(&stop, n_stop, sizeof *stop, "stop strings", err));
    for (size_t i = 0; i < n_stop; i++)
        stop[i] = options_list_item(options, OPTION_STOP, i);
    *request = (struct engine_request){.seed = (uint64_t)options_int(options, OPTION_SEED),
                                       .max_tokens = (int32_t)options_int(options, OPTION_MAX_COMPLETION_LENGTH),
                                       .eos_ids = c->eos_ids,
                                       .n_eos = c->n_eos,
                                       .stop = stop,
                                       .n_stop = (int32_t)n_stop,
                                       .n_choosable = tokenizer_size(session->tokenizer)};
    if (options_has(options, "repetition_max_pattern_size"))
        request->repetition =
            (struct repeat_limit){.max_size = (int32_t)options_int(options, OPTION_REPETITION_MAX_PATTERN_SIZE),
                                  .min_size = (int32_t)options_int(options, OPTION_REPETITION_MIN_PATTERN_SIZE),
                                  .min_count = (int32_t)options_int(options, OPTION_REPETITION_MIN_COUNT)};
    return read_sampling(session, options, &request->sampling, err);
}

void session_request_free(struct engine_request *request)
{
    mem_free((void *)(uintptr_t)request->sampling.bias_id);
    mem_free((void *)(uintptr_t)request->sampling.bias);
    mem_free((void *)(uintptr_t)request->sampling.xtc_special);
    mem_free((void *)(uintptr_t)request->stop);
    memset(request, 0, sizeof *request);
}

cohort_status session_batch_size(const struct options *options, int32_t *n, cohort_error *err)
{
    int64_t prompts = options_int(options, OPTION_PROMPTS_PER_STEP),
            group = options_int(options, OPTION_NUM_GENERATIONS);
    if (prompts * group > MAX_BATCH)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "--prompts-per-step %lld times --num-generations %lld: a step has at most "
                         "%d completions",
                         (long long)prompts, (long long)group, (int)MAX_BATCH);
    *n = (int32_t)(prompts * group);
    return COHORT_OK;
}

/* cohort info: what a checkpoint is, what computes here, and what training it would take. */
#include "command/command.h"
#include "guide/guide.h"
#include "recipe/end_of_text.h"
#include "recipe/memory_plan.h"
#include "recipe/model_fit.h"
#include "recipe/optimizer_options.h"
#include "format/manifest.h"
#include "format/model_preset.h"
#include "base/json_text.h"
#include "text/response.h"

#include <stdio.h>
#include <string.h>

/* "BF16", "F16 (computed in F32)", "F32 and BF16 (computed in BF16)". */
static cohort_status print_types(const struct checkpoint_types *types, enum dtype type, struct text *out,
                                 cohort_error *err)
{
    static const enum dtype all[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
    const char *last = dtype_name(type);
    int n = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (types->n[all[i]] == 0)
            continue;
        last = dtype_name(all[i]);
        TRY(text_printf(out, err, "%s%s", n++ > 0 ? " and " : "", last));
    }
    if (n == 0) /* a preset, or a folder without weights */
        return text_printf(out, err, "%s\n", last);
    if (n > 1 || strcmp(last, dtype_name(type)) != 0)
        TRY(text_printf(out, err, " (computed in %s)", dtype_name(type)));
    return text_append(out, "\n", 1, err);
}

/* How many weights a token meets: all but the experts that it does not go to, and the embedding's other rows. */
static cohort_status print_experts(const struct model_config *c, const struct param_table *params, struct text *out,
                                   cohort_error *err)
{
    const struct expert_config *e = &c->experts;
    int64_t n_sparse = 0, of_experts = 0;
    if (e->n == 0)
        return COHORT_OK;
    for (int32_t l = 0; l < c->n_layers; l++)
        n_sparse += model_config_sparse(c, l);
    of_experts = n_sparse * 3 * (int64_t)e->size * c->hidden_size;
    const int64_t active = params->n_weights - of_experts * (e->n - e->chosen);
    return text_printf(out, err,
                       "experts           %d of width %d in %d layers, %d for a token (%s); %.1f M parameters for a "
                       "token\n",
                       (int)e->n, (int)e->size, (int)n_sparse, (int)e->chosen,
                       e->normalised ? "weights add up to 1" : "weights as the softmax has them", (double)active / 1e6);
}

static cohort_status print_attention(const struct model_config *c, struct text *out, cohort_error *err)
{
    const struct rope_config *rope = &c->rope;
    int32_t n_windows = 0;
    for (int32_t l = 0; l < c->n_layers; l++)
        n_windows += model_config_window(c, l) > 0;
    TRY(text_printf(out, err, "attention         %d query heads, %d key/value heads of %d%s; rope theta %.0f",
                    (int)c->n_heads, (int)c->n_kv_heads, (int)c->head_dim, c->attention_bias ? " with biases" : "",
                    rope->theta));
    if (rope->type == ROPE_DYNAMIC)
        TRY(text_printf(out, err, ", dynamic: not beyond %d positions", (int)c->max_positions));
    else if (rope->type != ROPE_DEFAULT)
        TRY(text_printf(out, err, ", %s by %g", rope_type_names[rope->type], rope->factor));
    if (rope->type == ROPE_YARN || rope->type == ROPE_LLAMA3)
        TRY(text_printf(out, err, " of %.0f positions", rope->original));
    if (rope->type == ROPE_YARN)
        TRY(text_printf(out, err, ", which changes short texts too"));
    if (n_windows > 0)
        TRY(text_printf(out, err, "; %d of %d layers see a window of %d", (int)n_windows, (int)c->n_layers,
                        (int)c->window));
    return text_append(out, "\n", 1, err);
}

static cohort_status print_model(const struct model_config *c, const struct param_table *params,
                                 const struct checkpoint_types *types, enum dtype type, struct text *out,
                                 cohort_error *err)
{
    char class_name[ARCHITECTURE_CLASS_BYTES];
    architecture_class(c->architecture, c->n_labels > 0, class_name);
    TRY(text_printf(out, err, "architecture      %s, %d layers, width %d, feed-forward %d%s\n", class_name,
                    (int)c->n_layers, (int)c->hidden_size, (int)c->intermediate_size,
                    c->mlp_bias ? " with biases" : ""));
    TRY(print_experts(c, params, out, err));
    TRY(print_attention(c, out, err));
    if (c->n_labels > 0)
        TRY(text_printf(out, err, "scores            of %d label%s, no log-probs: a sequence classifier\n",
                        (int)c->n_labels, c->n_labels == 1 ? "" : "s"));
    TRY(text_printf(out, err, "vocabulary        %d%s; context %d\n", (int)c->vocab_size,
                    c->tie_embeddings ? ", head tied to the embedding" : "", (int)c->max_positions));
    TRY(text_printf(out, err, "parameters        %.1f M in %d tensors, ", (double)params->n_weights / 1e6,
                    (int)params->n_params));
    TRY(print_types(types, type, out, err));
    TRY(text_printf(out, err, "ends at ids      "));
    for (int32_t i = 0; i < c->n_eos; i++)
        TRY(text_printf(out, err, " %d", (int)c->eos_ids[i]));
    return text_append(out, "\n", 1, err);
}

static cohort_status print_adapter(const struct model_adapter *adapter, struct text *out, cohort_error *err)
{
    const struct adapter_layout *layout = &adapter->layout;
    int32_t least = 0, most = 0;
    bool dora = false;
    for (int32_t i = 0; i < layout->n_sites; i++) {
        const int32_t r = layout->sites[i].r;
        least = i == 0 || r < least ? r : least;
        most = r > most ? r : most;
        dora = layout->sites[i].magnitude != NULL;
    }
    TRY(text_printf(out, err, "adapter           %s of rank %d", dora ? "DoRA" : "LoRA", (int)least));
    if (most != least)
        TRY(text_printf(out, err, " to %d", (int)most));
    TRY(text_printf(out, err, " on %d projections, %.3f M parameters", (int)layout->n_sites,
                    (double)layout->table.n_weights / 1e6));
    if (layout->n_saved > 0)
        TRY(text_printf(out, err, ", %d tensors in place of the model's", (int)layout->n_saved));
    return text_append(out, "\n", 1, err);
}

/* What the options say of an adapter: one that is there, or, with training, a new one. dir becomes the model's folder. */
static cohort_status find_adapter(struct session_adapter *adapter, const struct options *options, const char **dir,
                                  struct text *notes, cohort_error *err)
{
    const bool fresh = options_bool(options, OPTION_USE_PEFT);
    const char *given = options_string(options, OPTION_ADAPTER);
    if (*dir == NULL && given == NULL && fresh) {
        TRY(session_adapter_settings(&adapter->settings, options, ADAPTER_TRAINED, err));
        adapter->there = true;
    }
    if (*dir == NULL && given == NULL)
        return COHORT_OK;
    TRY(session_adapter_find(adapter, options, NULL,
                             fresh || options_bool(options, OPTION_MEMORY) ? ADAPTER_TRAINED : ADAPTER_COMPUTED, notes,
                             err));
    *dir = adapter->base;
    return COHORT_OK;
}

/* "DIR/config.json: ..." without the folder. */
static const char *without_folder(const char *message, const char *dir)
{
    const size_t n = strlen(dir);
    if (strncmp(message, dir, n) != 0)
        return message;
    message += n;
    return *message == '/' ? message + 1 : message;
}

/* What a config.json that is not supported says it is. Whatever cannot be read is left out. */
static cohort_status print_stranger(const char *dir, const cohort_error *refusal, struct text *out, cohort_error *err)
{
    struct text content = {0};
    json_t *json = NULL;
    char *path = NULL;
    cohort_error passed = {0};
    cohort_status status = COHORT_OK;
    TRY_GOTO(file_join(&path, dir, "config.json", err));
    if (file_read(path, 1 << 24, &content, &passed) == COHORT_OK &&
        json_text_parse(&json, content.data, content.length, path, 1, 0, &passed) == COHORT_OK) {
        const char *name = json_string_value(json_array_get(json_object_get(json, "architectures"), 0)),
                   *type = json_string_value(json_object_get(json, "model_type"));
        TRY_GOTO(text_printf(out, err, "architecture      %.80s (model_type %.80s)\n", name == NULL ? "unsaid" : name,
                             type == NULL ? "unsaid" : type));
    }
    TRY_GOTO(text_printf(out, err, "supported         no: %s\n", without_folder(refusal->message, dir)));
cleanup:
    json_decref(json);
    text_free(&content);
    mem_free(path);
    return status;
}

static cohort_status print_chat(const struct tokenizer *tokenizer, const struct chat_template *chat, struct text *out,
                                cohort_error *err)
{
    static const char *const forms[RESPONSE_FORMS] = {[RESPONSE_PLAIN] = "no tool calls",
                                                      [RESPONSE_HERMES] = "tool calls as Hermes and Qwen write them",
                                                      [RESPONSE_XML] = "tool calls in XML, as Qwen3-Coder writes them",
                                                      [RESPONSE_LLAMA] = "tool calls as Llama 3 writes them",
                                                      [RESPONSE_MISTRAL] = "tool calls as Mistral writes them"};
    TRY(text_printf(out, err, "tokenizer         %d tokens\n", (int)tokenizer_size(tokenizer)));
    if (!chat_template_given(chat))
        return text_printf(out, err, "chat template     none in the folder: that of the first Qwen3 models is used\n");
    return text_printf(out, err, "chat template     the folder's; %s\n", forms[chat_template_form(chat)]);
}

/* With a tokenizer in the folder, what ends a text is what generate takes. about gets whether cohort supports what the
 * folder holds, and what its tokenizer and template are. */
static cohort_status load_config(struct model_config *config, const char *dir, struct text *about, cohort_error *err)
{
    struct tokenizer *tokenizer = NULL;
    struct chat_template *chat = NULL;
    char *path = NULL;
    bool there = false;
    cohort_status status = COHORT_OK;
    TRY(model_config_load(config, NULL, dir, err));
    TRY_GOTO(file_join(&path, dir, "tokenizer.json", err));
    TRY_GOTO(file_exists(path, &there, err));
    if (!there) {
        TRY_GOTO(text_printf(about, err, "supported         yes\ntokenizer         none in this folder\n"));
        goto cleanup;
    }
    cohort_error passed = {0}; /* what a folder is can be told of a tokenizer that is not supported */
    const cohort_status opened = tokenizer_load(&tokenizer, dir, &passed);
    if (opened == COHORT_ERR_MEMORY || opened == COHORT_ERR_IO) { /* it says nothing of the tokenizer */
        status = error_set(err, opened, "%s", passed.message);
        goto cleanup;
    }
    if (opened != COHORT_OK) {
        TRY_GOTO(text_printf(about, err, "supported         the model, not its tokenizer: %s\n",
                             without_folder(passed.message, dir)));
        goto cleanup;
    }
    TRY_GOTO(chat_template_open(&chat, tokenizer, NULL, err));
    TRY_GOTO(end_of_text_unite(config, tokenizer, chat, err));
    TRY_GOTO(text_printf(about, err, "supported         yes\n"));
    TRY_GOTO(print_chat(tokenizer, chat, about, err));
cleanup:
    mem_free(path);
    chat_template_close(chat);
    tokenizer_destroy(tokenizer);
    return status;
}

struct memory_row {
    const char *what;
    size_t bytes;
};

/* One row for each thing, totals of every recomputation, and what a run would choose. */
static cohort_status print_plan(struct memory_plan *plan, const struct options *options, struct text *out,
                                cohort_error *err)
{
    cohort_error refusal = {0};
    cohort_status choice = memory_plan_choose(plan, options, &refusal);
    if (choice != COHORT_OK && !plan->refused)
        return error_set(err, choice, "%s", refusal.message);
    struct memory_plan levels[N_RECOMPUTE];
    for (int i = 0; i < N_RECOMPUTE; i++) {
        levels[i] = *plan;
        TRY(memory_plan_measure(&levels[i], (enum recompute)i, plan->micro_tokens, err));
    }
    const struct memory_row rows[] = {{"weights (with packed copy)", plan->weights},
                                      {"frozen reference (beta > 0)", plan->reference},
                                      {"gradient, moments, master", plan->state},
                                      {"rollout buffers", plan->rollout},
                                      {"  of it KV pages", plan->kv},
                                      {"working memory of the device", plan->working}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        TRY(text_printf(out, err, "  %-36s %10.3f GB\n", rows[i].what, (double)rows[i].bytes / 1e9));
    if (plan->host > 0)
        TRY(text_printf(out, err, "  %-36s %10.3f GB\n", "in the host's memory (offload)", (double)plan->host / 1e9));
    for (int i = 0; i < N_RECOMPUTE; i++)
        TRY(text_printf(out, err, "  training buffers, recompute %-8s %10.3f GB\n", recompute_names[i],
                        (double)levels[i].training / 1e9));
    for (int i = 0; i < N_RECOMPUTE; i++) {
        size_t total = memory_plan_total(&levels[i]);
        TRY(text_printf(out, err, "  total, recompute %-19s %10.3f GB of %.3f free%s\n", recompute_names[i],
                        (double)total / 1e9, (double)plan->limit / 1e9, total > plan->limit ? "  (does not fit)" : ""));
    }
    if (choice != COHORT_OK)
        return text_printf(out, err, "%s\n", refusal.message);
    TRY(memory_plan_describe(plan, out, err));
    return text_append(out, "\n", 1, err);
}

/* As cohort grpo would plan it, with prompts of up to max_prompt_length. */
static cohort_status print_memory(const struct options *options, struct model *model, struct text *out,
                                  cohort_error *err)
{
    const int32_t P = (int32_t)options_int_or(options, OPTION_MAX_PROMPT_LENGTH, 512),
                  C = (int32_t)options_int(options, OPTION_MAX_COMPLETION_LENGTH),
                  group = (int32_t)options_int(options, OPTION_NUM_GENERATIONS),
                  prompts = (int32_t)options_int(options, OPTION_PROMPTS_PER_STEP);
    struct memory_plan plan = {0};
    struct tree_runner runner = {
        .extras = {.masks = options_choice(options, OPTION_GUIDED_LOGPROB) == GUIDE_LOGPROB_MASKED}};
    struct engine *engine = NULL;
    struct optimizer optimizer;
    int32_t n = 0;
    cohort_status status = COHORT_OK;
    TRY(session_batch_size(options, &n, err));
    if (model->adapter != NULL)
        model_train_adapter(model);
    TRY(optimizer_read_kind(&optimizer, options, err));
    TRY(optimizer_lay_out(&optimizer, model->trained, err));
    param_set_offload(model->trained, session_offload(options));
    struct rollout_need need = {.sequences = (int32_t)options_int(options, OPTION_DECODE_CONCURRENCY), .history = -1};
    rollout_need_add(&need, prompts, P, C, group);
    /* The base of a new adapter is its reference. */
    const bool reference = options_float(options, OPTION_BETA) != 0.0 && !options_bool(options, OPTION_USE_PEFT);
    memory_plan_begin(&plan, model, options, reference, &runner, n, P + C, (int64_t)prompts * P + (int64_t)n * C);
    TRY_GOTO(memory_plan_engine(&plan, NULL, &need, &engine, err));
    TRY_GOTO(text_printf(out, err,
                         "\nmemory plan of cohort grpo, %s: %d prompts x %d, prompt %d, "
                         "completion %d\n",
                         dtype_name(model->type), (int)prompts, (int)group, (int)P, (int)C));
    TRY_GOTO(print_plan(&plan, options, out, err));
cleanup:
    engine_destroy(engine);
    tree_runner_free(&runner);
    return status;
}

/* Damage is printed file by file, then an error. */
static cohort_status verify(const char *dir, const struct options *options, const cohort_observer *observer,
                            struct text *out, cohort_error *err)
{
    struct manifest_report report = {0};
    cohort_status status = COHORT_OK;
    if (dir == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "--verify needs a checkpoint: pass --model DIR, for example "
                         "runs/first/checkpoints/step-500");
    TRY_GOTO(manifest_verify(dir, NULL, &report, options_stop(options), err));
    if (!report.found) {
        status = error_set(err, COHORT_ERR_FORMAT,
                           "%s: has no " MANIFEST_NAME " to verify it by; cohort writes one into each checkpoint", dir);
        goto cleanup;
    }
    if (report.n_bad > 0) {
        TRY_GOTO(text_append(out, report.bad.data, report.bad.length, err));
        observer_output(observer, out);
        status = error_set(err, COHORT_ERR_FORMAT, "%s: %lld of %lld files are damaged or missing", dir,
                           (long long)report.n_bad, (long long)report.n_files);
        goto cleanup;
    }
    TRY_GOTO(text_printf(out, err, "files             %lld, all as they were saved\n", (long long)report.n_files));
cleanup:
    text_free(&report.bad);
    return status;
}

cohort_status command_info(struct options *options, const struct reward_list *extra, const cohort_observer *observer,
                           cohort_error *err)
{
    (void)extra;
    const char *dir = options_string(options, OPTION_MODEL);
    const int preset = options_choice(options, OPTION_PRESET);
    struct session_adapter adapter = {0};
    struct model_config config = {0};
    struct model *model = NULL;
    struct backend *backend = NULL;
    struct text out = {0}, notes = {0}, about = {0};
    struct checkpoint_types types = {0};
    enum dtype type = DTYPE_F32;
    cohort_status status = COHORT_OK;
    if ((dir != NULL || options_string(options, OPTION_ADAPTER) != NULL) && preset >= 0)
        return error_set(err, COHORT_ERR_ARGUMENT, "give either --model DIR (with --adapter DIR) or --preset NAME");
    /* First: what is damaged cannot be described. */
    if (options_bool(options, OPTION_VERIFY))
        TRY_GOTO(verify(dir, options, observer, &out, err));
    TRY_GOTO(find_adapter(&adapter, options, &dir, &notes, err));
    TRY_GOTO(session_backend(&backend, options, err));
    const bool limited = backend->threads_note != NULL && *backend->threads_note != '\0';
    if (dir != NULL) {
        status = load_config(&config, dir, &about, err);
        if (status == COHORT_ERR_UNSUPPORTED) {
            TRY_GOTO(print_stranger(dir, err, &out, err));
            observer_output(observer, &out);
            status = COHORT_ERR_UNSUPPORTED;
        }
        if (status != COHORT_OK)
            goto cleanup;
    } else if (preset >= 0)
        TRY_GOTO(model_config_preset(&config, NULL, (enum model_preset)preset, 0, err));
    TRY_GOTO(text_printf(&out, err,
                         "cohort            %s\nbackend           %s, %d threads%s%s\nmatrix "
                         "products   bf16: %s, f32: %s\n",
                         cohort_version(), backend->ops->name, backend->threads, limited ? ": " : "",
                         limited ? backend->threads_note : "", backend->provider_bf16, backend->provider_f32));
    if (dir != NULL || preset >= 0) {
        TRY_GOTO(session_type(options, &config, dir, false, &type, &types, &notes, err));
        if (dir != NULL && types.n[DTYPE_F32] + types.n[DTYPE_BF16] + types.n[DTYPE_F16] == 0)
            TRY_GOTO(text_printf(&notes, err, "%s: no weights in this folder\n", dir));
        TRY_GOTO(model_open(&model, backend, &config, type, 0, err));
        if (adapter.there && session_writes_f16(options, &config, &types))
            session_store_f16(model, &types, &adapter.settings);
        TRY_GOTO(print_model(&config, &model->base.table, &types, type, &out, err));
        if (adapter.there) {
            TRY_GOTO(model_adapt(model, &adapter.settings, err));
            TRY_GOTO(print_adapter(model->adapter, &out, err));
        }
        TRY_GOTO(text_append(&out, about.data == NULL ? "" : about.data, about.length, err));
        if (options_bool(options, OPTION_MEMORY))
            TRY_GOTO(print_memory(options, model, &out, err));
        else
            TRY_GOTO(model_fit_print(model, &out, err));
    } else if (options_bool(options, OPTION_MEMORY)) {
        status = error_set(err, COHORT_ERR_ARGUMENT, "--memory needs a model: pass --model DIR or --preset NAME");
        goto cleanup;
    }
    observer_notes(observer, &notes);
    observer_output(observer, &out);
cleanup:
    text_free(&out);
    text_free(&notes);
    text_free(&about);
    session_adapter_free(&adapter);
    model_destroy(model);
    backend_destroy(backend);
    return status;
}

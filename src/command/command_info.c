/* cohort info: what a checkpoint is, what computes here, and what training it would take. */
#include "command/command.h"
#include "command/session.h"

#include <stdio.h>
#include <string.h>

static cohort_status print_model(const struct model_config *c, const struct param_table *params,
                                 struct text *out, cohort_error *err)
{
    TRY(text_printf(out, err,
                    "architecture      Qwen3ForCausalLM, %d layers, width %d, feed-forward %d\n",
                    (int)c->n_layers, (int)c->hidden_size, (int)c->intermediate_size));
    TRY(text_printf(out, err,
                    "attention         %d query heads, %d key/value heads of %d; rope theta %.0f\n",
                    (int)c->n_heads, (int)c->n_kv_heads, (int)c->head_dim, c->rope_theta));
    TRY(text_printf(out, err, "vocabulary        %d%s; context %d\n", (int)c->vocab_size,
                    c->tie_embeddings ? ", head tied to the embedding" : "",
                    (int)c->max_positions));
    TRY(text_printf(out, err, "parameters        %.1f M in %d tensors, %s\n",
                    (double)params->n_weights / 1e6, (int)params->n_params, dtype_name(c->dtype)));
    TRY(text_printf(out, err, "ends at ids      "));
    for (int32_t i = 0; i < c->n_eos; i++)
        TRY(text_printf(out, err, " %d", (int)c->eos_ids[i]));
    return text_append(out, "\n", 1, err);
}

struct memory_row {
    const char *what;
    size_t bytes;
};

static cohort_status print_memory(const struct options *options, const struct model_config *c,
                                  const struct param_table *params, struct backend *backend,
                                  struct text *out, cohort_error *err)
{
    const char *dtype = options_string(options, "dtype");
    enum dtype type =
        strcmp(dtype, "f32") == 0 || (strcmp(dtype, "auto") == 0 && c->dtype == DTYPE_F32)
            ? DTYPE_F32
            : DTYPE_BF16;
    int32_t P = options_is_set(options, "max_prompt_length")
                    ? (int32_t)options_int(options, "max_prompt_length")
                    : 512;
    int32_t C = (int32_t)options_int(options, "max_completion_length"),
            group = (int32_t)options_int(options, "num_generations");
    int32_t prompts = (int32_t)options_int(options, "prompts_per_step"), n = 0;
    int64_t micro = session_micro_tokens(backend, options);
    micro = micro < P + C ? P + C : micro;
    TRY(session_batch_size(options, &n, err));
    size_t limit = 0, weights = model_weight_bytes(c, backend, type, err),
           state = model_train_bytes(params, type, session_moments(options));
    size_t pages = (size_t)prompts * (size_t)engine_pages(P, C, group) * engine_page_bytes(c, type),
           buffers[2];
    const enum decoder_mode modes[2] = {DECODER_TRAIN, DECODER_RECOMPUTE};
    for (int i = 0; i < 2; i++) {
        struct tree_runner runner = {0};
        struct arena arena = {0};
        runner.logits_bytes = backend->logits_bytes;
        cohort_status status = tree_runner_plan(&runner, &arena, c, type, micro, n, modes[i], err);
        tree_runner_free(&runner);
        TRY(status);
        buffers[i] = arena.used;
    }
    limit = session_memory_limit(backend, options);
    size_t reference = options_float(options, "beta") > 0.0 ? weights : 0;
    const struct memory_row rows[] = {{"weights (with packed copy)", weights},
                                      {"frozen reference (beta > 0)", reference},
                                      {"gradient, moments, master", state},
                                      {"KV pages of a full rollout", pages},
                                      {"training buffers, recompute none", buffers[0]},
                                      {"training buffers, recompute layer", buffers[1]}};
    TRY(text_printf(out, err,
                    "\nmemory plan of cohort grpo, %s: %d prompts x %d, prompt %d, completion %d, "
                    "micro-batch %lld tokens\n",
                    dtype_name(type), (int)prompts, (int)group, (int)P, (int)C, (long long)micro));
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        TRY(text_printf(out, err, "  %-36s %10.3f GB\n", rows[i].what,
                        (double)rows[i].bytes / 1e9));
    for (int i = 0; i < 2; i++) {
        size_t phase =
            pages > buffers[i] ? pages : buffers[i]; /* rollout and training share their buffers */
        size_t total = weights + reference + state + phase;
        TRY(text_printf(out, err, "  total, recompute %-19s %10.3f GB of %.3f free%s\n",
                        i == 0 ? "none" : "layer", (double)total / 1e9, (double)limit / 1e9,
                        total > limit ? "  (does not fit)" : ""));
    }
    return COHORT_OK;
}

cohort_status command_info(struct options *options, const struct command_rewards *extra,
                           const cohort_observer *observer, cohort_error *err)
{
    (void)extra;
    const char *dir = options_string(options, "model"), *preset = options_string(options, "preset");
    struct model_config config = {0};
    struct param_table params = {0};
    struct backend *backend = NULL;
    struct text out = {0};
    cohort_status status = COHORT_OK;
    if (dir != NULL && preset != NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "give either --model DIR or --preset NAME");
    TRY_GOTO(session_backend(&backend, options, err));
    if (dir != NULL)
        TRY_GOTO(model_config_load(&config, dir, err));
    else if (preset != NULL)
        TRY_GOTO(model_config_preset(&config, preset, 0, err));
    TRY_GOTO(text_printf(&out, err,
                         "cohort            %s\nbackend           %s, %d threads\nmatrix products  "
                         " bf16: %s, f32: %s\n",
                         cohort_version(), backend->ops->name, backend->threads,
                         backend->provider_bf16, backend->provider_f32));
    if (dir != NULL || preset != NULL) {
        TRY_GOTO(model_config_params(&config, &params, err));
        TRY_GOTO(print_model(&config, &params, &out, err));
        if (options_bool(options, "memory"))
            TRY_GOTO(print_memory(options, &config, &params, backend, &out, err));
    } else if (options_bool(options, "memory")) {
        status = error_set(err, COHORT_ERR_ARGUMENT,
                           "--memory needs a model: pass --model DIR or --preset NAME");
        goto cleanup;
    }
    observer_output(observer, &out);
cleanup:
    text_free(&out);
    param_table_free(&params);
    model_config_free(&config);
    backend_destroy(backend);
    return status;
}

/* cohort info: what a checkpoint is, what computes here, and what training it would take. */
#include "command/command.h"
#include "command/memory_plan.h"

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

/* One row for each thing, totals of every recomputation, and what a run would choose. */
static cohort_status print_plan(struct memory_plan *plan, const struct options *options,
                                int64_t longest, int64_t most_useful, struct text *out,
                                cohort_error *err)
{
    cohort_error refusal = {0};
    cohort_status choice = memory_plan_choose(plan, options, longest, most_useful, &refusal);
    if (choice != COHORT_OK && choice != COHORT_ERR_MEMORY)
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
                                      {"  of it KV pages", plan->kv}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        TRY(text_printf(out, err, "  %-36s %10.3f GB\n", rows[i].what,
                        (double)rows[i].bytes / 1e9));
    for (int i = 0; i < N_RECOMPUTE; i++)
        TRY(text_printf(out, err, "  training buffers, recompute %-8s %10.3f GB\n",
                        recompute_names[i], (double)levels[i].training / 1e9));
    for (int i = 0; i < N_RECOMPUTE; i++) {
        size_t total = memory_plan_total(&levels[i]);
        TRY(text_printf(out, err, "  total, recompute %-19s %10.3f GB of %.3f free%s\n",
                        recompute_names[i], (double)total / 1e9, (double)plan->limit / 1e9,
                        total > plan->limit ? "  (does not fit)" : ""));
    }
    if (choice != COHORT_OK)
        return text_printf(out, err, "%s\n", refusal.message);
    TRY(memory_plan_describe(plan, out, err));
    return text_append(out, "\n", 1, err);
}

/* As cohort grpo would plan it, with prompts of up to max_prompt_length. */
static cohort_status print_memory(const struct options *options, struct model *model,
                                  struct text *out, cohort_error *err)
{
    const int32_t P = options_is_set(options, "max_prompt_length")
                          ? (int32_t)options_int(options, "max_prompt_length")
                          : 512,
                  C = (int32_t)options_int(options, "max_completion_length"),
                  group = (int32_t)options_int(options, "num_generations"),
                  prompts = (int32_t)options_int(options, "prompts_per_step");
    struct memory_plan plan = {0};
    struct tree_runner runner = {0};
    struct engine *engine = NULL;
    int32_t n = 0;
    cohort_status status = COHORT_OK;
    TRY(session_batch_size(options, &n, err));
    memory_plan_begin(&plan, model, options, options_float(options, "beta") != 0.0, &runner, n);
    TRY_GOTO(memory_plan_engine(&plan, NULL, prompts, group, P, C, &engine, err));
    TRY_GOTO(text_printf(out, err,
                         "\nmemory plan of cohort grpo, %s: %d prompts x %d, prompt %d, "
                         "completion %d\n",
                         dtype_name(model->type), (int)prompts, (int)group, (int)P, (int)C));
    TRY_GOTO(print_plan(&plan, options, P + C, (int64_t)prompts * P + (int64_t)n * C, out, err));
cleanup:
    engine_destroy(engine);
    tree_runner_free(&runner);
    return status;
}

cohort_status command_info(struct options *options, const struct command_rewards *extra,
                           const cohort_observer *observer, cohort_error *err)
{
    (void)extra;
    const char *dir = options_string(options, "model"), *preset = options_string(options, "preset");
    struct model_config config = {0};
    struct model *model = NULL;
    struct backend *backend = NULL;
    struct text out = {0};
    cohort_status status = COHORT_OK;
    if (dir != NULL && preset != NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "give either --model DIR or --preset NAME");
    TRY_GOTO(session_backend(&backend, options, err));
    const bool limited = backend->threads_note != NULL && *backend->threads_note != '\0';
    if (dir != NULL)
        TRY_GOTO(model_config_load(&config, dir, err));
    else if (preset != NULL)
        TRY_GOTO(model_config_preset(&config, preset, 0, err));
    TRY_GOTO(text_printf(&out, err,
                         "cohort            %s\nbackend           %s, %d threads%s%s\nmatrix "
                         "products   bf16: %s, f32: %s\n",
                         cohort_version(), backend->ops->name, backend->threads,
                         limited ? ": " : "", limited ? backend->threads_note : "",
                         backend->provider_bf16, backend->provider_f32));
    if (dir != NULL || preset != NULL) {
        TRY_GOTO(session_model(&model, backend, options, &config, err));
        TRY_GOTO(print_model(&config, &model->params, &out, err));
        if (options_bool(options, "memory"))
            TRY_GOTO(print_memory(options, model, &out, err));
    } else if (options_bool(options, "memory")) {
        status = error_set(err, COHORT_ERR_ARGUMENT,
                           "--memory needs a model: pass --model DIR or --preset NAME");
        goto cleanup;
    }
    observer_output(observer, &out);
cleanup:
    text_free(&out);
    model_destroy(model);
    model_config_free(&config);
    backend_destroy(backend);
    return status;
}

#include "train/grpo.h"

#include "base/clock.h"
#include "base/number.h"
#include "base/rng.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

void grpo_batch_free(struct grpo_batch *batch)
{
    for (int32_t i = 0; batch->completions != NULL && i < batch->n; i++)
        completion_free(&batch->completions[i]);
    for (int32_t i = 0; batch->episodes != NULL && i < batch->n; i++)
        episode_free(&batch->episodes[i]);
    mem_free(batch->completions);
    mem_free(batch->episodes);
    mem_free(batch->rewards);
    mem_free(batch->reward);
    mem_free(batch->advantage);
    memset(batch, 0, sizeof *batch);
}

static cohort_status cancelled(cohort_error *err) { return error_set(err, COHORT_ERR_CANCELLED, "stopped on request"); }

cohort_status grpo_rollout(struct engine *engine, const struct grpo_prompt *prompts, int32_t n_prompts, int32_t n,
                           const struct engine_request *pattern, uint64_t batch_index, struct completion *completions,
                           grpo_progress *progress, void *progress_context, cohort_error *err)
{
    int64_t first_id = 0, submitted = 0, done = 0;
    cohort_status status = COHORT_OK;
    for (int32_t p = 0; p < n_prompts; p++) {
        struct engine_request request = *pattern;
        int64_t id = 0;
        request.prompt = prompts[p].tokens;
        request.n_prompt = prompts[p].n_tokens;
        request.n = n;
        request.stream = rng_stream(batch_index, prompts[p].id);
        TRY_GOTO(engine_submit(engine, &request, &id, err));
        submitted++;
        if (p == 0)
            first_id = id;
    }
    int64_t before = engine_stats(engine).generated_tokens;
    for (bool busy = true; busy;) {
        struct completion completion;
        TRY_GOTO(engine_step(engine, &busy, err));
        while (engine_poll(engine, &completion)) {
            if (completion.request < first_id) { /* of a rollout that was given up */
                completion_free(&completion);
                continue;
            }
            completions[(completion.request - first_id) * n + completion.index] = completion;
            TRY_GOTO(completion_check(&completion, err));
            done++;
        }
        int64_t tokens = engine_stats(engine).generated_tokens - before;
        if (progress != NULL &&
            !progress(progress_context, "rollout", tokens, (int64_t)n_prompts * n * pattern->max_tokens)) {
            status = cancelled(err);
            goto cleanup;
        }
    }
    assert(done == (int64_t)n_prompts * n);
cleanup:
    for (int64_t i = 0; status != COHORT_OK && i < submitted; i++)
        engine_cancel(engine, first_id + i);
    return status;
}

/* What one optimizer step needs of the trees. */
struct step_data {
    struct tree *trees;
    struct completion_tokens *completions;
    float **reference; /* [n] log-probs of the reference, or NULL */
    bool *masked;      /* [n] */
    struct loss_scale scale;
};

static void step_data_free(struct step_data *data, int32_t n)
{
    for (int32_t i = 0; data->reference != NULL && i < n; i++)
        mem_free(data->reference[i]);
    mem_free(data->reference);
    mem_free(data->trees);
    mem_free(data->completions);
    mem_free(data->masked);
}

static cohort_status step_data_build(struct step_data *data, struct grpo *grpo, const struct grpo_prompt *prompts,
                                     int32_t n_prompts, const struct grpo_batch *batch, cohort_error *err)
{
    int32_t group = grpo->config.group, n = batch->n;
    TRY(mem_alloc(&data->trees, (size_t)n_prompts, sizeof *data->trees, "step", err));
    TRY(mem_alloc(&data->completions, (size_t)n, sizeof *data->completions, "step", err));
    TRY(mem_alloc(&data->masked, (size_t)n, sizeof *data->masked, "step", err));
    data->scale.n_sequences = n;
    for (int32_t i = 0; i < n; i++) {
        const struct episode *e = &batch->episodes[i];
        data->completions[i] = episode_tokens(e);
        data->masked[i] = grpo->config.mask_truncated && episode_truncated(e);
        if (!data->masked[i])
            data->scale.n_tokens += e->n_sampled;
    }
    for (int32_t p = 0; p < n_prompts; p++)
        data->trees[p] = (struct tree){.prompt = prompts[p].tokens,
                                       .n_prompt = prompts[p].n_tokens,
                                       .completions = data->completions + (int64_t)p * group,
                                       .n_completions = group};
    if (grpo->reference == NULL)
        return COHORT_OK;
    TRY(mem_alloc(&data->reference, (size_t)n, sizeof(float *), "reference log-probs", err));
    for (int32_t i = 0; i < n; i++)
        TRY(mem_alloc(&data->reference[i], (size_t)batch->episodes[i].n_sampled, sizeof(float), "reference log-probs",
                      err));
    return tree_runner_score(grpo->runner, grpo->reference, data->trees, n_prompts, grpo->config.sampling.temperature,
                             data->reference, NULL, err);
}

/* Sums over the tokens of a step, beside those of the loss core. */
struct step_sums {
    double logp_difference;
    double logp_difference_max;
    int64_t trained_tokens; /* fed to the model, prompts included */
};

/* Applies the loss to one episode, of which it sees the sampled tokens alone: reads their log-probs from the outputs
 * and writes the derivative back to them. row is its index in the batch, c that in the micro-batch. */
static cohort_status apply_loss(struct grpo *grpo, const struct step_data *data, const struct grpo_batch *batch,
                                int32_t row, int32_t c, int32_t iteration, float *scratch, struct loss_sums *sums,
                                struct step_sums *step, bool *any_gradient, cohort_error *err)
{
    struct tree_runner *runner = grpo->runner;
    const struct episode *episode = &batch->episodes[row];
    int32_t n = episode->n_sampled;
    float *logp = scratch, *entropy = scratch + n, *d_logp = scratch + 2 * n;
    packed_gather(&runner->packed, c, n, runner->logp, logp);
    packed_gather(&runner->packed, c, n, runner->entropy, entropy);
    loss_sequence_apply(&grpo->config.loss, &data->scale,
                        &(struct loss_sequence){.n_tokens = n,
                                                .masked = data->masked[row],
                                                .advantage = batch->advantage[row],
                                                .logp = logp,
                                                .logp_old = iteration == 0 ? NULL : episode->logp,
                                                .logp_ref = data->reference == NULL ? NULL : data->reference[row],
                                                .entropy = entropy,
                                                .d_logp = d_logp},
                        sums);
    for (int32_t t = 0; t < n; t++) {
        if (!isfinite(d_logp[t]) || !isfinite(logp[t]))
            return error_set(err, COHORT_ERR_NUMERIC,
                             "completion %d of prompt %d, token %d: log-prob %g, loss derivative "
                             "%g; its reward or the weights are not finite",
                             (int)(row % grpo->config.group), (int)(row / grpo->config.group), (int)t, (double)logp[t],
                             (double)d_logp[t]);
        *any_gradient = *any_gradient || d_logp[t] != 0.0f;
        if (iteration == 0 && episode->logp != NULL) {
            double difference = fabs((double)logp[t] - (double)episode->logp[t]);
            step->logp_difference += difference;
            step->logp_difference_max = fmax(step->logp_difference_max, difference);
        }
    }
    packed_scatter(&runner->packed, c, n, d_logp, runner->d_logp);
    return COHORT_OK;
}

/* Runs all micro-batches and adds up their gradients in the param_set that trains. */
static cohort_status accumulate(struct grpo *grpo, const struct step_data *data, const struct grpo_batch *batch,
                                int32_t iteration, struct loss_sums *sums, struct step_sums *step, cohort_error *err)
{
    struct tree_runner *runner = grpo->runner;
    float temperature = grpo->config.sampling.temperature;
    float *scratch = NULL;
    cohort_status status = COHORT_OK;
    int32_t longest = 0;
    for (int32_t i = 0; i < batch->n; i++)
        longest = batch->episodes[i].n_sampled > longest ? batch->episodes[i].n_sampled : longest;
    TRY(mem_alloc(&scratch, 3 * (size_t)longest, sizeof *scratch, "step", err));
    TRY_GOTO(packing_split(&runner->packing, data->trees, batch->n_prompts, runner->max_tokens,
                           runner->max_outputs - runner->max_tokens, err));
    for (int32_t m = 0; m < runner->packing.n_micro; m++) {
        bool any_gradient = false;
        int32_t c = 0;
        TRY_GOTO(packed_build(&runner->packed, data->trees, &runner->packing, m, err));
        tree_runner_forward(runner, grpo->model, temperature);
        TRY_GOTO(backend_check(grpo->model->backend, err));
        step->trained_tokens += runner->packed.batch.n_tokens;
        for (int32_t s = runner->packing.slice_begin[m]; s < runner->packing.slice_begin[m + 1]; s++) {
            const struct tree_slice *slice = &runner->packing.slices[s];
            for (int32_t i = slice->begin; i < slice->end; i++, c++)
                TRY_GOTO(apply_loss(grpo, data, batch, slice->tree * grpo->config.group + i, c, iteration, scratch,
                                    sums, step, &any_gradient, err));
        }
        /* Where every advantage is 0 (and there is no KL) the gradient is 0: nothing to add. */
        if (any_gradient)
            tree_runner_backward(runner, grpo->model, temperature, false);
        TRY_GOTO(backend_check(grpo->model->backend, err));
        if (grpo->progress != NULL &&
            !grpo->progress(grpo->progress_context, "train", m + 1, runner->packing.n_micro)) {
            status = cancelled(err);
            goto cleanup;
        }
    }
cleanup:
    mem_free(scratch);
    return status;
}

/* Lengths count sampled tokens. */
static void length_metrics(const struct grpo_batch *batch, struct metrics *metrics)
{
    double sum = 0.0, terminated_sum = 0.0;
    int32_t least = INT32_MAX, most = 0, t_least = INT32_MAX, t_most = 0, truncated = 0;
    for (int32_t i = 0; i < batch->n; i++) {
        int32_t length = batch->episodes[i].n_sampled;
        sum += length;
        least = length < least ? length : least;
        most = length > most ? length : most;
        if (episode_truncated(&batch->episodes[i])) {
            truncated++;
            continue;
        }
        terminated_sum += length;
        t_least = length < t_least ? length : t_least;
        t_most = length > t_most ? length : t_most;
    }
    int32_t terminated = batch->n - truncated;
    metrics_set(metrics, "completions/mean_length", sum / batch->n);
    metrics_set(metrics, "completions/min_length", least);
    metrics_set(metrics, "completions/max_length", most);
    metrics_set(metrics, "completions/clipped_ratio", (double)truncated / batch->n);
    metrics_set(metrics, "completions/mean_terminated_length", terminated > 0 ? terminated_sum / terminated : 0.0);
    metrics_set(metrics, "completions/min_terminated_length", terminated > 0 ? t_least : 0);
    metrics_set(metrics, "completions/max_terminated_length", terminated > 0 ? t_most : 0);
}

static void write_loss_metrics(const struct grpo_config *config, const struct loss_sums *sums,
                               const struct step_sums *step, bool compared, struct metrics *metrics)
{
    struct loss_metrics values;
    loss_metrics(sums, &values);
    metrics_set(metrics, "loss", values.loss);
    metrics_set(metrics, "entropy", values.entropy);
    if (config->loss.beta != 0.0)
        metrics_set(metrics, "kl", values.kl);
    metrics_set(metrics, "clip_ratio/low_mean", values.clip_low_mean);
    metrics_set(metrics, "clip_ratio/low_min", values.clip_low_min);
    metrics_set(metrics, "clip_ratio/high_mean", values.clip_high_mean);
    metrics_set(metrics, "clip_ratio/high_max", values.clip_high_max);
    metrics_set(metrics, "clip_ratio/region_mean", values.clip_region_mean);
    metrics_set(metrics, "importance_ratio/min", values.ratio_min);
    metrics_set(metrics, "importance_ratio/max", values.ratio_max);
    if (compared) {
        metrics_set(metrics, "sampling/sampling_logp_difference/mean",
                    step->logp_difference / (sums->tokens > 0 ? (double)sums->tokens : 1.0));
        metrics_set(metrics, "sampling/sampling_logp_difference/max", step->logp_difference_max);
    }
}

cohort_status grpo_update(struct grpo *grpo, const struct grpo_prompt *prompts, int32_t n_prompts,
                          struct grpo_batch *batch, int32_t iteration, struct metrics *metrics, cohort_error *err)
{
    const struct grpo_config *config = &grpo->config;
    struct step_data data = {0};
    struct loss_sums sums;
    struct step_sums step = {0};
    double start = clock_seconds(), grad_norm = 0.0;
    bool skipped = false;
    int64_t done = grpo->optimizer.step + grpo->skipped;
    double rate =
        schedule_rate(config->schedule, config->learning_rate, done, config->warmup_steps, config->total_steps);
    cohort_error problem = {0};
    loss_sums_init(&sums);
    grpo->warning[0] = '\0';
    cohort_status status = step_data_build(&data, grpo, prompts, n_prompts, batch, &problem);
    if (status == COHORT_OK)
        status = accumulate(grpo, &data, batch, iteration, &sums, &step, &problem);
    step_data_free(&data, batch->n);
    if (status != COHORT_OK)
        param_set_zero_grad(grpo->model->trained);
    if (status == COHORT_ERR_NUMERIC) { /* skip the update, say which row, count */
        skipped = true;
        grad_norm = (double)NAN;
        snprintf(grpo->warning, sizeof grpo->warning, "update skipped: %.380s", problem.message);
    } else if (status != COHORT_OK) {
        return error_set(err, status, "%s", problem.message);
    } else {
        optimizer_apply(&grpo->optimizer, grpo->model->trained, rate, &grad_norm, &skipped);
        model_refresh(grpo->model);
        if (skipped)
            number_format(grpo->warning, sizeof grpo->warning, "update skipped: the gradient norm is %g", grad_norm);
    }
    grpo->skipped += skipped ? 1 : 0;
    double seconds = clock_seconds() - start;
    write_loss_metrics(config, &sums, &step, iteration == 0, metrics);
    metrics_set(metrics, "grad_norm", grad_norm);
    metrics_set(metrics, "learning_rate", rate);
    metrics_set(metrics, "skipped_steps", (double)grpo->skipped);
    metrics_set(metrics, "time/train", seconds);
    metrics_set(metrics, "throughput/train_tokens_per_second", (double)step.trained_tokens / seconds);
    return COHORT_OK;
}

static cohort_status score(struct grpo *grpo, struct grpo_batch *batch, struct metrics *metrics, cohort_error *err)
{
    const struct grpo_config *config = &grpo->config;
    double *means = NULL;
    cohort_status status = COHORT_OK;
    size_t functions = (size_t)config->n_functions;
    TRY(mem_alloc(&means, 2 * functions, sizeof *means, "reward metrics", err));
    TRY_GOTO(grpo->reward(grpo->reward_context, batch->completions, batch->n, batch->rewards, err));
    struct advantage_output output = {.advantage = batch->advantage,
                                      .reward = batch->reward,
                                      .function_mean = means,
                                      .function_std = means + functions};
    TRY_GOTO(advantage_compute(&(struct advantage_input){.n_rows = batch->n,
                                                         .group = config->group,
                                                         .n_functions = config->n_functions,
                                                         .rewards = batch->rewards,
                                                         .weights = config->reward_weights,
                                                         .scale = config->scale},
                               &output, err));
    for (size_t f = 0; f < functions; f++) {
        metrics_setf(metrics, output.function_mean[f], "rewards/%s/mean", config->reward_names[f]);
        metrics_setf(metrics, output.function_std[f], "rewards/%s/std", config->reward_names[f]);
    }
    metrics_set(metrics, "reward", output.reward_mean);
    metrics_set(metrics, "reward_std", output.reward_std);
    metrics_set(metrics, "frac_reward_zero_std", output.frac_reward_zero_std);
cleanup:
    mem_free(means);
    return status;
}

cohort_status grpo_generate(struct grpo *grpo, const struct grpo_prompt *prompts, int32_t n_prompts,
                            struct grpo_batch *batch, cohort_error *err)
{
    const struct grpo_config *config = &grpo->config;
    cohort_status status = COHORT_OK;
    size_t n = (size_t)n_prompts * (size_t)config->group;
    memset(batch, 0, sizeof *batch);
    batch->start = clock_seconds();
    batch->n_prompts = n_prompts;
    batch->n = (int32_t)n;
    TRY_GOTO(mem_alloc(&batch->completions, n, sizeof *batch->completions, "generation batch", err));
    TRY_GOTO(mem_alloc(&batch->episodes, n, sizeof *batch->episodes, "generation batch", err));
    TRY_GOTO(mem_alloc(&batch->rewards, n * (size_t)config->n_functions, sizeof(double), "generation batch", err));
    TRY_GOTO(mem_alloc(&batch->reward, n, sizeof(float), "generation batch", err));
    TRY_GOTO(mem_alloc(&batch->advantage, n, sizeof(float), "generation batch", err));
    struct engine_request pattern = {.sampling = config->sampling,
                                     .seed = config->seed,
                                     .max_tokens = config->max_completion_length,
                                     .eos_ids = grpo->model->config.eos_ids,
                                     .n_eos = grpo->model->config.n_eos,
                                     .stop = config->stop,
                                     .n_stop = config->n_stop,
                                     .n_choosable = config->n_choosable};
    TRY_GOTO(grpo_rollout(grpo->engine, prompts, n_prompts, config->group, &pattern, (uint64_t)grpo->batches,
                          batch->completions, grpo->progress, grpo->progress_context, err));
    batch->rollout_end = clock_seconds();
    for (int32_t i = 0; i < batch->n; i++)
        TRY_GOTO(episode_append_completion(&batch->episodes[i], &batch->completions[i], err));
cleanup:
    if (status != COHORT_OK)
        grpo_batch_free(batch);
    return status;
}

cohort_status grpo_learn(struct grpo *grpo, const struct grpo_prompt *prompts, struct grpo_batch *batch,
                         struct metrics *metrics, cohort_error *err)
{
    const struct grpo_config *config = &grpo->config;
    struct metrics first = {0};
    int64_t prompt_tokens = 0, completion_tokens = 0;
    cohort_status status = COHORT_OK;
    if (grpo->progress != NULL && !grpo->progress(grpo->progress_context, "reward", 0, batch->n))
        return cancelled(err);
    TRY_GOTO(score(grpo, batch, &first, err));
    double reward_end = clock_seconds();
    for (int32_t i = 0; i < batch->n; i++) {
        prompt_tokens += batch->completions[i].n_prompt;
        completion_tokens += batch->completions[i].n_tokens;
    }
    const int64_t tokens_seen = grpo->tokens_seen + prompt_tokens + completion_tokens;
    length_metrics(batch, &first);
    metrics_set(&first, "num_tokens", (double)tokens_seen);
    metrics_set(&first, "time/rollout", batch->rollout_end - batch->start);
    metrics_set(&first, "time/reward", reward_end - batch->rollout_end);
    metrics_set(&first, "throughput/rollout_tokens_per_second",
                (double)completion_tokens / (batch->rollout_end - batch->start));
    for (int32_t i = 0; i < config->num_iterations; i++) {
        metrics_add(&metrics[i], &first);
        TRY_GOTO(grpo_update(grpo, prompts, batch->n_prompts, batch, i, &metrics[i], err));
        metrics_set(&metrics[i], "step_time", clock_seconds() - (i == 0 ? batch->start : reward_end));
    }
    grpo->tokens_seen = tokens_seen;
    grpo->batches++;
cleanup:
    metrics_free(&first);
    return status;
}

cohort_status grpo_step(struct grpo *grpo, const struct grpo_prompt *prompts, int32_t n_prompts,
                        struct grpo_batch *batch, struct metrics *metrics, cohort_error *err)
{
    TRY(grpo_generate(grpo, prompts, n_prompts, batch, err));
    cohort_status status = grpo_learn(grpo, prompts, batch, metrics, err);
    if (status != COHORT_OK)
        grpo_batch_free(batch);
    return status;
}

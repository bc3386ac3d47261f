#include "train/grpo.h"

#include "base/clock.h"
#include "base/number.h"
#include "base/rng.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* rows[i][n_sampled] floats for each of the batch's episodes. */
static cohort_status rows_alloc(float ***rows, const struct grpo_batch *batch, const char *what, cohort_error *err)
{
    TRY(mem_alloc(rows, (size_t)batch->n, sizeof **rows, what, err));
    for (int32_t i = 0; i < batch->n; i++)
        TRY(mem_alloc(&(*rows)[i], (size_t)batch->episodes[i].n_sampled, sizeof ***rows, what, err));
    return COHORT_OK;
}

static void rows_free(float **rows, int32_t n)
{
    for (int32_t i = 0; rows != NULL && i < n; i++)
        mem_free(rows[i]);
    mem_free(rows);
}

void grpo_batch_free(struct grpo_batch *batch)
{
    for (int32_t i = 0; batch->completions != NULL && i < batch->n; i++)
        completion_free(&batch->completions[i]);
    for (int32_t i = 0; batch->episodes != NULL && i < batch->n; i++)
        episode_free(&batch->episodes[i]);
    rows_free(batch->reference, batch->n);
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
                           grpo_progress *progress, void *progress_context, grpo_arrived *arrived,
                           void *arrived_context, cohort_error *err)
{
    int64_t first_id = 0, submitted = 0, done = 0;
    int32_t *there = NULL; /* [n_prompts] completions that have come */
    cohort_status status = COHORT_OK;
    TRY(mem_alloc(&there, (size_t)n_prompts, sizeof *there, "rollout", err));
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
            const int32_t prompt = (int32_t)(completion.request - first_id);
            if (++there[prompt] == n && arrived != NULL)
                TRY_GOTO(arrived(arrived_context, prompt, completions + (int64_t)prompt * n, err));
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
    mem_free(there);
    return status;
}

/* A batch's prompts with their completions. */
struct batch_trees {
    struct tree *trees;                    /* [n_prompts] */
    struct completion_tokens *completions; /* [n] */
};

static void batch_trees_free(struct batch_trees *t)
{
    mem_free(t->trees);
    mem_free(t->completions);
}

static cohort_status batch_trees_build(struct batch_trees *t, const struct grpo *grpo,
                                       const struct grpo_prompt *prompts, const struct grpo_batch *batch,
                                       cohort_error *err)
{
    const int32_t group = grpo->config.group;
    TRY(mem_alloc(&t->trees, (size_t)batch->n_prompts, sizeof *t->trees, "step", err));
    TRY(mem_alloc(&t->completions, (size_t)batch->n, sizeof *t->completions, "step", err));
    for (int32_t i = 0; i < batch->n; i++)
        t->completions[i] = episode_tokens(&batch->episodes[i]);
    for (int32_t p = 0; p < batch->n_prompts; p++)
        t->trees[p] = (struct tree){.prompt = prompts[p].tokens,
                                    .n_prompt = prompts[p].n_tokens,
                                    .completions = t->completions + (int64_t)p * group,
                                    .n_completions = group};
    return COHORT_OK;
}

/* Left out of the loss. */
static bool is_masked(const struct grpo_config *config, const struct episode *e)
{
    return config->mask_truncated && episode_truncated(e);
}

/* What one optimizer step needs. */
struct step_data {
    struct batch_trees tree;
    float **reference; /* [n] log-probs of the reference, or NULL; the batch's, or own */
    float **owned;
    bool *masked; /* [n] */
    struct loss_scale scale;
    float entropy_threshold; /* of the filter */
};

static void step_data_free(struct step_data *data, int32_t n)
{
    rows_free(data->owned, n);
    batch_trees_free(&data->tree);
    mem_free(data->masked);
}

static cohort_status score_reference(struct grpo *grpo, const struct batch_trees *tree, const struct grpo_batch *batch,
                                     float *const *reference, cohort_error *err)
{
    return tree_runner_score(grpo->runner, grpo->reference, tree->trees, batch->n_prompts,
                             grpo->config.sampling.temperature, reference, NULL, err);
}

static cohort_status step_data_build(struct step_data *data, struct grpo *grpo, const struct grpo_prompt *prompts,
                                     const struct grpo_batch *batch, cohort_error *err)
{
    const int32_t n = batch->n;
    TRY(batch_trees_build(&data->tree, grpo, prompts, batch, err));
    TRY(mem_alloc(&data->masked, (size_t)n, sizeof *data->masked, "step", err));
    data->scale.n_sequences = n;
    data->scale.entropy_coef = entropy_control_coef(&grpo->entropy);
    for (int32_t i = 0; i < n; i++) {
        const struct episode *e = &batch->episodes[i];
        data->masked[i] = is_masked(&grpo->config, e);
        if (!data->masked[i])
            data->scale.n_tokens += e->n_sampled;
    }
    data->scale.n_kept = data->scale.n_tokens;
    data->reference = batch->reference;
    if (grpo->config.loss.beta == 0.0 || data->reference != NULL)
        return COHORT_OK;
    TRY(rows_alloc(&data->owned, batch, "reference log-probs", err));
    data->reference = data->owned;
    return score_reference(grpo, &data->tree, batch, data->owned, err);
}

/* ---- The entropy filter ----
 *
 * Its quantile spans the step (I5), so that it needs every token's entropy before the first loss. In the first iteration
 * those recorded with the draws are what the training forward computes (I2). Later the forward itself has them where the
 * step is one micro-batch; where it is several, a forward more has to find them. */

/* Entropies as recorded, if they are those of the weights. */
static const float *recorded_entropy(const struct grpo_batch *batch, int32_t row, int32_t iteration)
{
    return iteration == 0 ? batch->episodes[row].entropy : NULL;
}

static bool all_recorded(const struct grpo_batch *batch, int32_t iteration)
{
    for (int32_t i = 0; i < batch->n; i++)
        if (recorded_entropy(batch, i, iteration) == NULL && batch->episodes[i].n_sampled > 0)
            return false;
    return true;
}

/* rows[n] of entropies. */
static cohort_status set_threshold(struct step_data *data, const struct grpo_batch *batch, double top,
                                   const float *const *rows, cohort_error *err)
{
    float *values = NULL;
    int64_t n = 0;
    TRY(mem_alloc(&values, (size_t)data->scale.n_tokens, sizeof *values, "entropies", err));
    for (int32_t i = 0; i < batch->n; i++) {
        const size_t count = data->masked[i] ? 0 : (size_t)batch->episodes[i].n_sampled;
        if (count > 0)
            memcpy(values + n, rows[i], count * sizeof *values);
        n += (int64_t)count;
    }
    data->entropy_threshold = entropy_threshold(values, n, top);
    data->scale.n_kept = 0;
    for (int64_t i = 0; i < n; i++)
        data->scale.n_kept += values[i] >= data->entropy_threshold ? 1 : 0;
    mem_free(values);
    return COHORT_OK;
}

/* Before the first loss of the step: the only micro-batch has been forwarded, or, of several, none. */
static cohort_status filter_entropies(struct grpo *grpo, struct step_data *data, const struct grpo_batch *batch,
                                      int32_t iteration, cohort_error *err)
{
    struct tree_runner *runner = grpo->runner;
    const double top = grpo->config.top_entropy_quantile;
    const float **rows = NULL;
    float **computed = NULL, **logp = NULL;
    cohort_status status = COHORT_OK;
    TRY_GOTO(mem_alloc(&rows, (size_t)batch->n, sizeof *rows, "entropies", err));
    if (!all_recorded(batch, iteration)) {
        TRY_GOTO(rows_alloc(&computed, batch, "entropies", err));
        if (runner->packing.n_micro > 1) {
            TRY_GOTO(rows_alloc(&logp, batch, "log-probs", err));
            /* Splits the same trees again, with the same result. */
            TRY_GOTO(tree_runner_score(runner, grpo->model, data->tree.trees, batch->n_prompts,
                                       grpo->config.sampling.temperature, logp, computed, err));
        } else {
            for (int32_t i = 0; i < batch->n; i++)
                packed_gather(&runner->packed, i, batch->episodes[i].n_sampled, runner->entropy, computed[i]);
        }
    }
    for (int32_t i = 0; i < batch->n; i++)
        rows[i] = computed != NULL ? computed[i] : recorded_entropy(batch, i, iteration);
    TRY_GOTO(set_threshold(data, batch, top, rows, err));
cleanup:
    rows_free(computed, batch->n);
    rows_free(logp, batch->n);
    mem_free(rows);
    return status;
}

/* ---- A step ---- */

/* Sums over the tokens of a step, beside those of the loss core. */
struct step_sums {
    double logp_difference;
    double logp_difference_max;
    int64_t trained_tokens; /* fed to the model, prompts included */
};

/* What apply_loss works in, for the longest episode. */
struct loss_scratch {
    float *logp, *entropy, *d_logp, *d_entropy;
    bool *kept;
};

static cohort_status loss_scratch_alloc(struct loss_scratch *s, int32_t longest, cohort_error *err)
{
    const size_t n = (size_t)longest;
    TRY(mem_alloc(&s->logp, 4 * n, sizeof *s->logp, "step", err));
    s->entropy = s->logp + n;
    s->d_logp = s->entropy + n;
    s->d_entropy = s->d_logp + n;
    return mem_alloc(&s->kept, n, sizeof *s->kept, "step", err);
}

static void loss_scratch_free(struct loss_scratch *s)
{
    mem_free(s->logp);
    mem_free(s->kept);
}

/* Applies the loss to one episode, of which it sees the sampled tokens alone: reads their log-probs and entropies from
 * the outputs and writes the derivatives back to them. row is its index in the batch, c that in the micro-batch. */
static cohort_status apply_loss(struct grpo *grpo, const struct step_data *data, const struct grpo_batch *batch,
                                int32_t row, int32_t c, int32_t iteration, const struct loss_scratch *s,
                                struct loss_sums *sums, struct step_sums *step, bool *any_gradient, cohort_error *err)
{
    struct tree_runner *runner = grpo->runner;
    const struct episode *episode = &batch->episodes[row];
    const float *recorded = recorded_entropy(batch, row, iteration);
    const bool filters = grpo->config.filter_entropy;
    int32_t n = episode->n_sampled;
    packed_gather(&runner->packed, c, n, runner->logp, s->logp);
    packed_gather(&runner->packed, c, n, runner->entropy, s->entropy);
    for (int32_t t = 0; filters && t < n; t++) /* by the entropies that the threshold was found from */
        s->kept[t] = (recorded != NULL ? recorded[t] : s->entropy[t]) >= data->entropy_threshold;
    loss_sequence_apply(&grpo->config.loss, &data->scale,
                        &(struct loss_sequence){.n_tokens = n,
                                                .masked = data->masked[row],
                                                .advantage = batch->advantage[row],
                                                .logp = s->logp,
                                                .logp_old = iteration == 0 ? NULL : episode->logp,
                                                .logp_ref = data->reference == NULL ? NULL : data->reference[row],
                                                .kept = filters ? s->kept : NULL,
                                                .entropy = s->entropy,
                                                .d_logp = s->d_logp,
                                                .d_entropy = s->d_entropy},
                        sums);
    for (int32_t t = 0; t < n; t++) {
        if (!isfinite(s->d_logp[t]) || !isfinite(s->logp[t]))
            return error_set(err, COHORT_ERR_NUMERIC,
                             "completion %d of prompt %d, token %d: log-prob %g, loss derivative "
                             "%g; its reward or the weights are not finite",
                             (int)(row % grpo->config.group), (int)(row / grpo->config.group), (int)t,
                             (double)s->logp[t], (double)s->d_logp[t]);
        *any_gradient = *any_gradient || s->d_logp[t] != 0.0f || s->d_entropy[t] != 0.0f;
        if (iteration == 0 && episode->logp != NULL) {
            double difference = fabs((double)s->logp[t] - (double)episode->logp[t]);
            step->logp_difference += difference;
            step->logp_difference_max = fmax(step->logp_difference_max, difference);
        }
    }
    packed_scatter(&runner->packed, c, n, s->d_logp, runner->d_logp);
    packed_scatter(&runner->packed, c, n, s->d_entropy, runner->d_entropy);
    return COHORT_OK;
}

static cohort_status forward(struct grpo *grpo, const struct step_data *data, int32_t micro, cohort_error *err)
{
    struct tree_runner *runner = grpo->runner;
    TRY(packed_build(&runner->packed, data->tree.trees, &runner->packing, micro, err));
    tree_runner_forward(runner, grpo->model, grpo->config.sampling.temperature);
    return backend_check(grpo->model->backend, err);
}

/* Runs all micro-batches and adds up their gradients in the param_set that trains. */
static cohort_status accumulate(struct grpo *grpo, struct step_data *data, const struct grpo_batch *batch,
                                int32_t iteration, struct loss_sums *sums, struct step_sums *step, cohort_error *err)
{
    struct tree_runner *runner = grpo->runner;
    struct loss_scratch scratch = {0};
    cohort_status status = COHORT_OK;
    int32_t longest = 0;
    for (int32_t i = 0; i < batch->n; i++)
        longest = batch->episodes[i].n_sampled > longest ? batch->episodes[i].n_sampled : longest;
    TRY_GOTO(loss_scratch_alloc(&scratch, longest, err));
    TRY_GOTO(packing_split(&runner->packing, data->tree.trees, batch->n_prompts, runner->max_tokens,
                           runner->max_outputs - runner->max_tokens, err));
    if (grpo->config.filter_entropy && runner->packing.n_micro > 1)
        TRY_GOTO(filter_entropies(grpo, data, batch, iteration, err));
    for (int32_t m = 0; m < runner->packing.n_micro; m++) {
        bool any_gradient = false;
        int32_t c = 0;
        TRY_GOTO(forward(grpo, data, m, err));
        if (grpo->config.filter_entropy && runner->packing.n_micro == 1)
            TRY_GOTO(filter_entropies(grpo, data, batch, iteration, err));
        step->trained_tokens += runner->packed.batch.n_tokens;
        for (int32_t s = runner->packing.slice_begin[m]; s < runner->packing.slice_begin[m + 1]; s++) {
            const struct tree_slice *slice = &runner->packing.slices[s];
            for (int32_t i = slice->begin; i < slice->end; i++, c++)
                TRY_GOTO(apply_loss(grpo, data, batch, slice->tree * grpo->config.group + i, c, iteration, &scratch,
                                    sums, step, &any_gradient, err));
        }
        /* Where every advantage is 0 (and there is neither KL nor entropy bonus) the gradient is 0: nothing to add. */
        if (any_gradient)
            tree_runner_backward(runner, grpo->model, grpo->config.sampling.temperature,
                                 data->scale.entropy_coef != 0.0);
        TRY_GOTO(backend_check(grpo->model->backend, err));
        if (grpo->progress != NULL &&
            !grpo->progress(grpo->progress_context, "train", m + 1, runner->packing.n_micro)) {
            status = cancelled(err);
            goto cleanup;
        }
    }
cleanup:
    loss_scratch_free(&scratch);
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

static void write_loss_metrics(const struct grpo *grpo, const struct step_data *data, const struct loss_sums *sums,
                               const struct step_sums *step, bool compared, struct metrics *metrics)
{
    const struct grpo_config *config = &grpo->config;
    const struct loss_traits *traits = loss_traits(config->loss.type);
    struct loss_metrics values;
    loss_metrics(sums, &values);
    metrics_set(metrics, "loss", values.loss);
    if (entropy_control_on(&grpo->entropy)) {
        metrics_set(metrics, "policy_loss", values.policy_loss);
        metrics_set(metrics, "entropy_coef", grpo->entropy.coef);
    }
    metrics_set(metrics, "entropy", values.entropy);
    if (config->filter_entropy)
        metrics_set(metrics, "entropy_threshold", (double)data->entropy_threshold);
    if (config->loss.beta != 0.0)
        metrics_set(metrics, "kl", values.kl);
    if (traits->clips) {
        metrics_set(metrics, "clip_ratio/low_mean", values.clip_low_mean);
        metrics_set(metrics, "clip_ratio/low_min", values.clip_low_min);
        metrics_set(metrics, "clip_ratio/high_mean", values.clip_high_mean);
        metrics_set(metrics, "clip_ratio/high_max", values.clip_high_max);
        metrics_set(metrics, "clip_ratio/region_mean", values.clip_region_mean);
    }
    if (config->loss.delta > 0.0)
        metrics_set(metrics, "clip_ratio/delta_mean", values.capped_mean);
    if (traits->event != NULL)
        metrics_set(metrics, traits->event, values.event);
    if (config->loss.off_policy_mask)
        metrics_set(metrics, "off_policy_mask/dropped_ratio", values.dropped);
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
    double rate = schedule_rate(&config->schedule, done);
    cohort_error problem = {0};
    loss_sums_init(&sums);
    grpo->warning[0] = '\0';
    assert(n_prompts == batch->n_prompts);
    cohort_status status = step_data_build(&data, grpo, prompts, batch, &problem);
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
    if (!skipped)
        entropy_control_update(&grpo->entropy, sums.entropy_kept / (sums.kept > 0 ? (double)sums.kept : 1.0));
    double seconds = clock_seconds() - start;
    write_loss_metrics(grpo, &data, &sums, &step, iteration == 0, metrics);
    metrics_set(metrics, "grad_norm", grad_norm);
    metrics_set(metrics, "learning_rate", rate);
    metrics_set(metrics, "skipped_steps", (double)grpo->skipped);
    metrics_set(metrics, "time/train", seconds);
    metrics_set(metrics, "throughput/train_tokens_per_second", (double)step.trained_tokens / seconds);
    return COHORT_OK;
}

/* Scores the batch with the reference, once for all that needs it. */
static cohort_status batch_reference(struct grpo *grpo, const struct grpo_prompt *prompts, struct grpo_batch *batch,
                                     cohort_error *err)
{
    struct batch_trees tree = {0};
    float **reference = NULL;
    cohort_status status = COHORT_OK;
    if (batch->reference != NULL)
        return COHORT_OK;
    TRY_GOTO(batch_trees_build(&tree, grpo, prompts, batch, err));
    TRY_GOTO(rows_alloc(&reference, batch, "reference log-probs", err));
    TRY_GOTO(score_reference(grpo, &tree, batch, reference, err));
    batch->reference = reference;
    reference = NULL;
cleanup:
    rows_free(reference, batch->n);
    batch_trees_free(&tree);
    return status;
}

/* The KL that is taken from each completion's reward: the estimates of its sampled tokens, summed; none of masked
 * completions (as TRL's RLOOTrainer has it). Returns the mean over the tokens. */
static double reward_kl(const struct grpo_config *config, const struct grpo_batch *batch, double *penalty)
{
    double sum = 0.0;
    int64_t tokens = 0;
    for (int32_t i = 0; i < batch->n; i++) {
        const struct episode *e = &batch->episodes[i];
        double kl = 0.0;
        if (is_masked(config, e))
            continue;
        for (int32_t t = 0; t < e->n_sampled; t++)
            kl += loss_kl(config->loss.kl, e->logp[t], batch->reference[i][t]).value;
        penalty[i] = config->reward_beta * kl;
        sum += kl;
        tokens += e->n_sampled;
    }
    return tokens > 0 ? sum / (double)tokens : 0.0;
}

static cohort_status score(struct grpo *grpo, struct grpo_batch *batch, struct metrics *metrics, cohort_error *err)
{
    const struct grpo_config *config = &grpo->config;
    double *means = NULL, *penalty = NULL;
    cohort_status status = COHORT_OK;
    size_t functions = (size_t)config->n_functions;
    TRY(mem_alloc(&means, 2 * functions, sizeof *means, "reward metrics", err));
    TRY_GOTO(grpo->reward(grpo->reward_context, batch->completions, batch->n, batch->rewards, err));
    if (config->reward_beta != 0.0) {
        TRY_GOTO(mem_alloc(&penalty, (size_t)batch->n, sizeof *penalty, "KL in the reward", err));
        metrics_set(metrics, "kl", reward_kl(config, batch, penalty));
    }
    struct advantage_output output = {.advantage = batch->advantage,
                                      .reward = batch->reward,
                                      .function_mean = means,
                                      .function_std = means + functions};
    TRY_GOTO(advantage_compute(&(struct advantage_input){.n_rows = batch->n,
                                                         .group = config->group,
                                                         .n_functions = config->n_functions,
                                                         .rewards = batch->rewards,
                                                         .weights = config->reward_weights,
                                                         .penalty = penalty,
                                                         .config = config->advantage},
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
    mem_free(penalty);
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
                          batch->completions, grpo->progress, grpo->progress_context, grpo->arrived,
                          grpo->arrived_context, err));
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
    const double reference_start = clock_seconds();
    if (config->reward_beta != 0.0 || (config->loss.beta != 0.0 && config->num_iterations > 1)) {
        TRY_GOTO(batch_reference(grpo, prompts, batch, err));
        metrics_set(&first, "time/reference", clock_seconds() - reference_start);
    }
    const double reward_start = clock_seconds();
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
    metrics_set(&first, "time/reward", reward_end - reward_start);
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

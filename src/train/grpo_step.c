/* One optimizer step of GRPO on rows of one batch or of several. */
#include "train/grpo_rows.h"

#include "base/clock.h"
#include "base/number.h"
#include "train/lanes.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* What one optimizer step needs. */
struct step_data {
    const struct grpo_row *rows;
    int32_t n;
    struct row_trees tree;
    float **owned; /* [n] log-probs of the reference, where the rows have none; NULL: not needed */
    bool *masked;  /* [n] */
    struct loss_scale scale;
    float entropy_threshold; /* of the filter */
    bool *fresh;             /* [n] of each tree: sampled with the weights as they are */
    bool routed;             /* all routes are known and those that the forwards take */
};

static void step_data_free(struct step_data *data)
{
    row_values_free(data->owned, data->n);
    row_trees_free(&data->tree);
    mem_free(data->masked);
    mem_free(data->fresh);
}

static const float *reference_of(const struct step_data *data, int32_t row)
{
    return data->owned != NULL ? data->owned[row] : data->rows[row].reference;
}

/* What the rows are known to have been routed like. */
static cohort_status route_rows(struct step_data *data, const struct grpo *grpo, cohort_error *err)
{
    const int32_t width = route_width(&grpo->model->config);
    if (width == 0)
        return COHORT_OK;
    TRY(mem_alloc(&data->fresh, (size_t)data->n, sizeof *data->fresh, "step", err));
    data->routed = row_trees_route(&data->tree, data->rows, width);
    for (int32_t t = 0; t < data->tree.n_trees; t++) {
        data->fresh[t] = data->rows[data->tree.first[t]].fresh;
        data->routed = data->routed && (data->fresh[t] || grpo->routing.replay == ROUTER_REPLAY_ROLLOUT);
    }
    return COHORT_OK;
}

static cohort_status step_data_build(struct step_data *data, struct grpo *grpo, cohort_error *err)
{
    const int32_t n = data->n;
    bool known = true;
    TRY(row_trees_build(&data->tree, data->rows, n, err));
    TRY(route_rows(data, grpo, err));
    TRY(mem_alloc(&data->masked, (size_t)n, sizeof *data->masked, "step", err));
    data->scale.n_sequences = n;
    data->scale.entropy_coef = entropy_control_coef(&grpo->entropy);
    for (int32_t i = 0; i < n; i++) {
        const struct episode *e = data->rows[i].episode;
        data->masked[i] = grpo_masks(&grpo->config, e);
        if (!data->masked[i])
            data->scale.n_tokens += e->n_sampled;
        known = known && data->rows[i].reference != NULL;
    }
    data->scale.n_kept = data->scale.n_tokens;
    if (grpo->teacher != NULL || grpo->config.loss.beta == 0.0 || known)
        return COHORT_OK;
    TRY(row_values_alloc(&data->owned, data->rows, n, "reference log-probs", err));
    return row_reference(grpo, &data->tree, data->owned, err);
}

/* ---- The entropy filter ----
 *
 * Its quantile spans the step (I5), so that it needs every token's entropy before the first loss. In the first iteration
 * those recorded with the draws are what the training forward computes (I2). Later the forward itself has them where the
 * step is one micro-batch; where it is several, a forward more has to find them. */

/* Entropies as recorded, if they are those of the weights. */
static const float *recorded_entropy(const struct grpo_row *row) { return row->fresh ? row->episode->entropy : NULL; }

static bool all_recorded(const struct step_data *data)
{
    for (int32_t i = 0; i < data->n; i++)
        if (recorded_entropy(&data->rows[i]) == NULL && data->rows[i].episode->n_sampled > 0)
            return false;
    return true;
}

/* entropies[n] of the rows' tokens. */
static cohort_status set_threshold(struct step_data *data, double top, const float *const *entropies, cohort_error *err)
{
    float *values = NULL;
    int64_t n = 0;
    TRY(mem_alloc(&values, (size_t)data->scale.n_tokens, sizeof *values, "entropies", err));
    for (int32_t i = 0; i < data->n; i++) {
        const size_t count = data->masked[i] ? 0 : (size_t)data->rows[i].episode->n_sampled;
        if (count > 0)
            memcpy(values + n, entropies[i], count * sizeof *values);
        n += (int64_t)count;
    }
    data->entropy_threshold = entropy_threshold(values, n, top);
    data->scale.n_kept = 0;
    for (int64_t i = 0; i < n; i++)
        data->scale.n_kept += values[i] >= data->entropy_threshold ? 1 : 0;
    mem_free(values);
    return COHORT_OK;
}

/* Whether they are found before the first forward: where that is not the only one, or another rank's. */
static bool filters_first(const struct tree_runner *runner, const struct lanes *lanes)
{
    return runner->packing.n_micro > 1 || lanes_shared(lanes);
}

/* Before the first loss of the step: the only micro-batch has been forwarded, or, of several, none. first:
 * filters_first. */
static cohort_status filter_entropies(struct grpo *grpo, struct step_data *data, bool first, cohort_error *err)
{
    struct tree_runner *runner = grpo->runner;
    const int32_t n = data->n;
    const float **entropies = NULL;
    float **computed = NULL, **logp = NULL;
    cohort_status status = COHORT_OK;
    TRY_GOTO(mem_alloc(&entropies, (size_t)n, sizeof *entropies, "entropies", err));
    if (!all_recorded(data)) {
        TRY_GOTO(row_values_alloc(&computed, data->rows, n, "entropies", err));
        if (first) {
            TRY_GOTO(row_values_alloc(&logp, data->rows, n, "log-probs", err));
            TRY_GOTO(tree_runner_score(runner, grpo->model, data->tree.trees, data->tree.n_trees,
                                       grpo->config.sampling.temperature, logp, computed, err));
        } else {
            for (int32_t i = 0; i < n; i++)
                packed_gather(&runner->packed, i, data->rows[i].episode->n_sampled, runner->entropy, computed[i]);
        }
    }
    for (int32_t i = 0; i < n; i++)
        entropies[i] = computed != NULL ? computed[i] : recorded_entropy(&data->rows[i]);
    TRY_GOTO(set_threshold(data, grpo->config.top_entropy_quantile, entropies, err));
cleanup:
    row_values_free(computed, n);
    row_values_free(logp, n);
    mem_free(entropies);
    return status;
}

/* ---- A step ---- */

/* Sums over the tokens of a step, beside those of the loss core. */
struct step_sums {
    double logp_difference;
    double logp_difference_max;
    double ratio, ratio_min, ratio_max; /* of training to the draw */
    int64_t compared;                   /* tokens of which the log-prob of the draw is that of training, or should be */
    int64_t trained_tokens;             /* fed to the model, prompts included */
    double divergence, entropy;         /* with a teacher: their means over the step's tokens */
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

/* What training computes beside what the draw recorded. */
static void compare_draws(const struct grpo_row *row, const float *logp, int32_t n, struct step_sums *step)
{
    const float *drawn = row->episode->logp;
    for (int32_t t = 0; row->fresh && drawn != NULL && t < n; t++) {
        const double signed_difference = (double)logp[t] - (double)drawn[t], difference = fabs(signed_difference),
                     ratio = difference == 0.0 ? 1.0 : exp(signed_difference);
        step->logp_difference += difference;
        step->logp_difference_max = fmax(step->logp_difference_max, difference);
        step->ratio += ratio;
        step->ratio_min = step->compared == 0 ? ratio : fmin(step->ratio_min, ratio);
        step->ratio_max = fmax(step->ratio_max, ratio);
        step->compared++;
    }
}

/* Applies the loss to one episode, of which it sees the sampled tokens alone: reads their log-probs and entropies from
 * the outputs and writes the derivatives back to them. index is its place in the step, c that in the micro-batch. */
static cohort_status apply_loss(struct grpo *grpo, const struct step_data *data, int32_t index, int32_t c,
                                const struct loss_scratch *s, struct loss_sums *sums, struct step_sums *step,
                                bool *any_gradient, cohort_error *err)
{
    struct tree_runner *runner = grpo->runner;
    const struct grpo_row *row = &data->rows[index];
    const struct episode *episode = row->episode;
    const float *recorded = recorded_entropy(row);
    const bool filters = grpo->config.filter_entropy;
    int32_t n = episode->n_sampled;
    packed_gather(&runner->packed, c, n, runner->logp, s->logp);
    packed_gather(&runner->packed, c, n, runner->entropy, s->entropy);
    for (int32_t t = 0; filters && t < n; t++) /* by the entropies that the threshold was found from */
        s->kept[t] = (recorded != NULL ? recorded[t] : s->entropy[t]) >= data->entropy_threshold;
    loss_sequence_apply(
        &grpo->config.loss, &data->scale,
        &(struct loss_sequence){.n_tokens = n,
                                .masked = data->masked[index],
                                .advantage = row->advantage,
                                .advantages = row->token_advantages,
                                .logp = s->logp,
                                .logp_old = row->fresh ? NULL : episode->logp,
                                .logp_ref = grpo->config.loss.beta == 0.0 ? NULL : reference_of(data, index),
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
                             (int)row->completion, (int)row->prompt_index, (int)t, (double)s->logp[t],
                             (double)s->d_logp[t]);
        *any_gradient = *any_gradient || s->d_logp[t] != 0.0f || s->d_entropy[t] != 0.0f;
    }
    compare_draws(row, s->logp, n, step);
    packed_scatter(&runner->packed, c, n, s->d_logp, runner->d_logp);
    packed_scatter(&runner->packed, c, n, s->d_entropy, runner->d_entropy);
    return COHORT_OK;
}

/* ---- Distillation ---- */

/* What a token weighs, known before the forward: the mean over all tokens of the step (I5). values: room for the longest
 * episode. Returns whether any token counts. */
static bool weigh(struct grpo *grpo, const struct step_data *data, int32_t micro, float *values)
{
    const struct tree_runner *runner = grpo->runner;
    bool any = false;
    int32_t c = 0;
    for (int32_t s = runner->packing.slice_begin[micro]; s < runner->packing.slice_begin[micro + 1]; s++) {
        const struct tree_slice *slice = &runner->packing.slices[s];
        for (int32_t i = slice->begin; i < slice->end; i++, c++) {
            const int32_t row = data->tree.first[slice->tree] + i, n = data->rows[row].episode->n_sampled;
            const float weight = data->masked[row] ? 0.0f : (float)(1.0 / (double)data->scale.n_tokens);
            for (int32_t t = 0; t < n; t++)
                values[t] = weight;
            packed_scatter(&runner->packed, c, n, values, grpo->teacher->weight);
            any = any || (n > 0 && weight > 0.0f);
        }
    }
    return any;
}

/* In place of apply_loss: the divergence is the loss, and its gradient has entered the head already. */
static cohort_status sum_divergence(struct grpo *grpo, const struct step_data *data, int32_t index, int32_t c,
                                    const struct loss_scratch *s, struct step_sums *step, cohort_error *err)
{
    struct tree_runner *runner = grpo->runner;
    const struct grpo_row *row = &data->rows[index];
    const int32_t n = row->episode->n_sampled;
    float *divergence = s->d_logp;
    packed_gather(&runner->packed, c, n, runner->logp, s->logp);
    packed_gather(&runner->packed, c, n, runner->entropy, s->entropy);
    packed_gather(&runner->packed, c, n, grpo->teacher->divergence, divergence);
    for (int32_t t = 0; t < n; t++) {
        if (!isfinite(divergence[t]) || !isfinite(s->logp[t]))
            return error_set(err, COHORT_ERR_NUMERIC,
                             "completion %d of prompt %d, token %d: log-prob %g, divergence to the teacher %g; the "
                             "weights of one of both are not finite",
                             (int)row->completion, (int)row->prompt_index, (int)t, (double)s->logp[t],
                             (double)divergence[t]);
        if (data->masked[index])
            continue;
        step->divergence += (double)divergence[t] / (double)data->scale.n_tokens;
        step->entropy += (double)s->entropy[t] / (double)data->scale.n_tokens;
    }
    compare_draws(row, s->logp, n, step);
    return COHORT_OK;
}

/* values: room for the longest episode. *any_gradient: with a teacher whether there is one; else what it was. */
static cohort_status forward(struct grpo *grpo, const struct step_data *data, int32_t micro, float *values,
                             bool *any_gradient, cohort_error *err)
{
    struct tree_runner *runner = grpo->runner;
    const float temperature = grpo->config.sampling.temperature;
    TRY(packed_build(&runner->packed, data->tree.trees, &runner->packing, micro, err));
    if (grpo->teacher != NULL) {
        *any_gradient = weigh(grpo, data, micro, values);
        teacher_forward(grpo->teacher, runner, grpo->model, temperature, true);
    } else {
        tree_runner_forward(runner, grpo->model, temperature);
    }
    return backend_check(grpo->model->backend, err);
}

/* A pass over the micro-batches of a step. */
struct pass {
    struct loss_scratch scratch; /* for the longest episode */
    struct lanes lanes;
    struct loss_sums *sums;
    struct step_sums *step;
};

/* The losses of a micro-batch's outputs, whose log-probs and entropies the runner has. */
static cohort_status apply_losses(struct grpo *grpo, const struct step_data *data, int32_t m, struct pass *pass,
                                  bool *any_gradient, cohort_error *err)
{
    const struct packing *packing = &grpo->runner->packing;
    int32_t c = 0;
    pass->step->trained_tokens += grpo->runner->packed.batch.n_tokens;
    for (int32_t s = packing->slice_begin[m]; s < packing->slice_begin[m + 1]; s++)
        for (int32_t i = packing->slices[s].begin; i < packing->slices[s].end; i++, c++) {
            const int32_t row = data->tree.first[packing->slices[s].tree] + i;
            TRY(grpo->teacher != NULL
                    ? sum_divergence(grpo, data, row, c, &pass->scratch, pass->step, err)
                    : apply_loss(grpo, data, row, c, &pass->scratch, pass->sums, pass->step, any_gradient, err));
        }
    return COHORT_OK;
}

static void backward(struct grpo *grpo, const struct step_data *data, bool any_gradient)
{
    struct tree_runner *runner = grpo->runner;
    /* Where every advantage is 0 (and there is neither KL nor entropy bonus) the gradient is 0: nothing to add. */
    if (grpo->teacher != NULL && (any_gradient || runner->decoder.experts.on.aux))
        teacher_backward(runner, grpo->model);
    else if (any_gradient || runner->decoder.experts.on.aux)
        tree_runner_backward(runner, grpo->model, grpo->config.sampling.temperature, data->scale.entropy_coef != 0.0);
}

static size_t divergence_bytes(const struct grpo *grpo)
{
    return (size_t)grpo->runner->packed.outputs.count * sizeof *grpo->teacher->divergence;
}

/* What the forward gave, the teacher's part with it. */
static cohort_status keep_outputs(const struct grpo *grpo, struct lanes *lanes, cohort_error *err)
{
    TRY(lanes_keep_outputs(lanes, grpo->runner, err));
    return grpo->teacher == NULL ? COHORT_OK
                                 : lanes_keep(lanes, grpo->teacher->divergence, divergence_bytes(grpo), err);
}

static cohort_status take_outputs(const struct grpo *grpo, struct lanes *lanes, int32_t m, cohort_error *err)
{
    TRY(lanes_take_outputs(lanes, m, grpo->runner, err));
    return grpo->teacher == NULL ? COHORT_OK
                                 : lanes_take(lanes, m, grpo->teacher->divergence, divergence_bytes(grpo), err);
}

/* A micro-batch of this rank. */
static cohort_status compute(struct grpo *grpo, struct step_data *data, int32_t m, struct pass *pass, cohort_error *err)
{
    struct tree_runner *runner = grpo->runner;
    bool any_gradient = false;
    TRY(forward(grpo, data, m, pass->scratch.logp, &any_gradient, err));
    TRY(routing_compare(&grpo->routing, runner, grpo->model, m, data->fresh, err));
    if (runner->packing.n_micro == 1)
        TRY(routing_prepare(&grpo->routing, runner, grpo->model, data->tree.trees, data->tree.n_trees, data->routed,
                            err));
    if (grpo->config.filter_entropy && !filters_first(runner, &pass->lanes))
        TRY(filter_entropies(grpo, data, false, err));
    if (lanes_shared(&pass->lanes))
        TRY(keep_outputs(grpo, &pass->lanes, err));
    TRY(routing_keep(&grpo->routing, runner, grpo->model, &pass->lanes, err));
    if (!lanes_shared(&pass->lanes)) {
        TRY(apply_losses(grpo, data, m, pass, &any_gradient, err));
    } else { /* summed with those of the others, where a failure is found by all */
        struct loss_sums sums;
        struct step_sums step = {0};
        struct pass alone = {.scratch = pass->scratch, .sums = &sums, .step = &step};
        loss_sums_init(&sums);
        if (apply_losses(grpo, data, m, &alone, &any_gradient, NULL) != COHORT_OK)
            return COHORT_OK;
    }
    backward(grpo, data, any_gradient);
    return backend_check(grpo->model->backend, err);
}

/* The sums over the micro-batches of all ranks, in their order. */
static cohort_status sum_shared(struct grpo *grpo, const struct step_data *data, struct pass *pass, cohort_error *err)
{
    struct tree_runner *runner = grpo->runner;
    bool any_gradient = false;
    TRY(lanes_share(&pass->lanes, err));
    for (int32_t m = 0; m < runner->packing.n_micro; m++) {
        TRY(packed_build(&runner->packed, data->tree.trees, &runner->packing, m, err));
        TRY(take_outputs(grpo, &pass->lanes, m, err));
        TRY(routing_take(&grpo->routing, grpo->model, &pass->lanes, m, err));
        TRY(apply_losses(grpo, data, m, pass, &any_gradient, err));
    }
    return COHORT_OK;
}

static cohort_status split(struct grpo *grpo, const struct step_data *data, cohort_error *err)
{
    struct tree_runner *runner = grpo->runner;
    return lanes_split(grpo->model->trained, &runner->packing, data->tree.trees, data->tree.n_trees, runner->max_tokens,
                       runner->max_outputs - runner->max_tokens, err);
}

/* Runs all micro-batches and adds up their gradients in the param_set that trains. */
static cohort_status accumulate(struct grpo *grpo, struct step_data *data, struct loss_sums *sums,
                                struct step_sums *step, cohort_error *err)
{
    struct tree_runner *runner = grpo->runner;
    struct pass pass = {.sums = sums, .step = step};
    cohort_status status = COHORT_OK;
    int32_t longest = 0;
    for (int32_t i = 0; i < data->n; i++)
        longest = data->rows[i].episode->n_sampled > longest ? data->rows[i].episode->n_sampled : longest;
    TRY_GOTO(loss_scratch_alloc(&pass.scratch, longest, err));
    TRY_GOTO(split(grpo, data, err));
    lanes_begin(&pass.lanes, grpo->model->trained, runner->packing.n_micro, true);
    runner->decoder.experts.on.compare = data->fresh != NULL;
    runner->decoder.experts.on.replay = grpo->routing.replay == ROUTER_REPLAY_ROLLOUT;
    if (grpo->config.filter_entropy && filters_first(runner, &pass.lanes)) {
        TRY_GOTO(filter_entropies(grpo, data, true, err));
        TRY_GOTO(split(grpo, data, err)); /* which it may have done otherwise */
    }
    TRY_GOTO(routing_begin(&grpo->routing, runner, grpo->model, err));
    if (runner->packing.n_micro > 1)
        TRY_GOTO(routing_prepare(&grpo->routing, runner, grpo->model, data->tree.trees, data->tree.n_trees,
                                 data->routed, err));
    for (int32_t m = 0; m < runner->packing.n_micro; m++) {
        if (lanes_mine(&pass.lanes, m))
            TRY_GOTO(compute(grpo, data, m, &pass, err));
        TRY_GOTO(lanes_count(&pass.lanes, m, err));
        if (grpo->progress != NULL &&
            !grpo->progress(grpo->progress_context,
                            &(struct grpo_at){.phase = "train", .done = m + 1, .total = runner->packing.n_micro})) {
            status = grpo_cancelled(err);
            goto cleanup;
        }
    }
    if (lanes_shared(&pass.lanes))
        TRY_GOTO(sum_shared(grpo, data, &pass, err));
cleanup:
    runner->decoder.experts.on = (struct expert_switches){0};
    loss_scratch_free(&pass.scratch);
    lanes_free(&pass.lanes);
    return status;
}

static void write_draw_metrics(const struct step_data *data, const struct step_sums *step, struct metrics *metrics)
{
    bool compared = false;
    for (int32_t i = 0; i < data->n; i++)
        compared = compared || data->rows[i].fresh;
    if (compared) {
        metrics_set(metrics, "sampling/sampling_logp_difference/mean",
                    step->logp_difference / (step->compared > 0 ? (double)step->compared : 1.0));
        metrics_set(metrics, "sampling/sampling_logp_difference/max", step->logp_difference_max);
        metrics_set(metrics, "sampling/importance_sampling_ratio/min", step->ratio_min);
        metrics_set(metrics, "sampling/importance_sampling_ratio/mean",
                    step->ratio / (step->compared > 0 ? (double)step->compared : 1.0));
        metrics_set(metrics, "sampling/importance_sampling_ratio/max", step->ratio_max);
    }
}

static void write_divergence_metrics(const struct grpo *grpo, const struct step_data *data,
                                     const struct step_sums *step, struct metrics *metrics)
{
    metrics_set(metrics, "loss", step->divergence + routing_loss(&grpo->routing));
    metrics_set(metrics, "entropy", step->entropy);
    write_draw_metrics(data, step, metrics);
}

static void write_loss_metrics(const struct grpo *grpo, const struct step_data *data, const struct loss_sums *sums,
                               const struct step_sums *step, struct metrics *metrics)
{
    const struct grpo_config *config = &grpo->config;
    const struct loss_traits *traits = loss_traits(config->loss.type);
    struct loss_metrics values;
    loss_metrics(sums, &values);
    metrics_set(metrics, "loss", values.loss + routing_loss(&grpo->routing));
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
    write_draw_metrics(data, step, metrics);
}

cohort_status grpo_train(struct grpo *grpo, const struct grpo_row *rows, int32_t n, struct metrics *metrics,
                         cohort_error *err)
{
    struct step_data data = {.rows = rows, .n = n};
    struct loss_sums sums;
    struct step_sums step = {0};
    double start = clock_seconds(), grad_norm = 0.0;
    bool skipped = false;
    double rate = schedule_rate(&grpo->config.schedule, grpo_steps(grpo));
    cohort_error problem = {0};
    loss_sums_init(&sums);
    grpo->warning[0] = '\0';
    cohort_status status = step_data_build(&data, grpo, &problem);
    if (status == COHORT_OK)
        status = accumulate(grpo, &data, &sums, &step, &problem);
    if (status == COHORT_OK)
        status = routing_end(&grpo->routing, grpo->runner, grpo->model, metrics, &problem);
    if (status != COHORT_OK)
        param_set_zero_grad(grpo->model->trained);
    if (status == COHORT_ERR_NUMERIC) { /* skip the update, say which row, count */
        skipped = true;
        grad_norm = (double)NAN;
        snprintf(grpo->warning, sizeof grpo->warning, "update skipped: %.380s", problem.message);
    } else if (status != COHORT_OK) {
        step_data_free(&data);
        return error_set(err, status, "%s", problem.message);
    } else {
        status = optimizer_apply(&grpo->optimizer, grpo->model->trained, rate, &grad_norm, &skipped, err);
        if (status != COHORT_OK) {
            step_data_free(&data);
            return status;
        }
        model_refresh(grpo->model);
        if (skipped)
            number_format(grpo->warning, sizeof grpo->warning, "update skipped: the gradient norm is %g", grad_norm);
    }
    grpo->skipped += skipped ? 1 : 0;
    if (!skipped && grpo->teacher == NULL)
        entropy_control_update(&grpo->entropy, sums.entropy_kept / (sums.kept > 0 ? (double)sums.kept : 1.0));
    double seconds = clock_seconds() - start;
    if (grpo->teacher != NULL)
        write_divergence_metrics(grpo, &data, &step, metrics);
    else
        write_loss_metrics(grpo, &data, &sums, &step, metrics);
    step_data_free(&data);
    metrics_set(metrics, "grad_norm", grad_norm);
    metrics_set(metrics, "learning_rate", rate);
    metrics_set(metrics, "skipped_steps", (double)grpo->skipped);
    metrics_set(metrics, "time/train", seconds);
    metrics_set(metrics, "throughput/train_tokens_per_second", (double)step.trained_tokens / seconds);
    return COHORT_OK;
}

/* ---- Held-out divergence ---- */

/* Sums over completions. */
struct measured {
    struct grpo_divergence sum;
    int64_t n_tokens;
    float *values; /* room for the longest of them */
};

static void measure_micro(const struct grpo *grpo, int32_t micro, const struct tree *trees, struct measured *measured)
{
    const struct tree_runner *runner = grpo->runner;
    int32_t c = 0;
    for (int32_t s = runner->packing.slice_begin[micro]; s < runner->packing.slice_begin[micro + 1]; s++) {
        const struct tree_slice *slice = &runner->packing.slices[s];
        for (int32_t i = slice->begin; i < slice->end; i++, c++) {
            const int32_t n = completion_outputs(&trees[slice->tree].completions[i]);
            packed_gather(&runner->packed, c, n, grpo->teacher->divergence, measured->values);
            for (int32_t t = 0; t < n; t++)
                measured->sum.loss += (double)measured->values[t];
            packed_gather(&runner->packed, c, n, runner->entropy, measured->values);
            for (int32_t t = 0; t < n; t++)
                measured->sum.entropy += (double)measured->values[t];
            measured->n_tokens += n;
        }
    }
}

/* The passes of the micro-batches, which ranks take in turn, and the sums over all. */
static cohort_status measure_trees(struct grpo *grpo, const struct row_trees *tree, struct lanes *lanes,
                                   struct measured *measured, cohort_error *err)
{
    struct tree_runner *runner = grpo->runner;
    const int32_t n_micro = runner->packing.n_micro;
    for (int32_t m = 0; m < n_micro; m++) {
        if (lanes_mine(lanes, m)) {
            TRY(packed_build(&runner->packed, tree->trees, &runner->packing, m, err));
            teacher_forward(grpo->teacher, runner, grpo->model, grpo->config.sampling.temperature, false);
            TRY(backend_check(grpo->model->backend, err));
            if (lanes_shared(lanes))
                TRY(keep_outputs(grpo, lanes, err));
            else
                measure_micro(grpo, m, tree->trees, measured);
        }
        if (grpo->progress != NULL &&
            !grpo->progress(grpo->progress_context,
                            &(struct grpo_at){.phase = "evaluate", .done = m + 1, .total = n_micro}))
            return grpo_cancelled(err);
    }
    if (lanes_shared(lanes))
        TRY(lanes_share(lanes, err));
    for (int32_t m = 0; lanes_shared(lanes) && m < n_micro; m++) {
        TRY(packed_build(&runner->packed, tree->trees, &runner->packing, m, err));
        TRY(take_outputs(grpo, lanes, m, err));
        measure_micro(grpo, m, tree->trees, measured);
    }
    return COHORT_OK;
}

static cohort_status measure_rows(struct grpo *grpo, const struct grpo_row *rows, int32_t n, int32_t longest,
                                  struct grpo_divergence *out, cohort_error *err)
{
    struct tree_runner *runner = grpo->runner;
    struct row_trees tree = {0};
    struct measured measured = {0};
    struct lanes lanes = {0};
    cohort_status status = COHORT_OK;
    TRY_GOTO(mem_alloc(&measured.values, (size_t)longest, sizeof *measured.values, "divergences", err));
    TRY_GOTO(row_trees_build(&tree, rows, n, err));
    TRY_GOTO(packing_split(&runner->packing, tree.trees, tree.n_trees, runner->max_tokens,
                           runner->max_outputs - runner->max_tokens, err));
    lanes_begin(&lanes, grpo->model->trained, runner->packing.n_micro, false);
    TRY_GOTO(measure_trees(grpo, &tree, &lanes, &measured, err));
    if (measured.n_tokens > 0)
        *out = (struct grpo_divergence){measured.sum.loss / (double)measured.n_tokens,
                                        measured.sum.entropy / (double)measured.n_tokens};
cleanup:
    lanes_free(&lanes);
    row_trees_free(&tree);
    mem_free(measured.values);
    return status;
}

cohort_status grpo_measure(struct grpo *grpo, const struct grpo_prompt *prompts, int32_t n_prompts, int32_t n,
                           const struct completion *completions, struct grpo_divergence *out, cohort_error *err)
{
    struct grpo_row *rows = NULL;
    struct episode *episodes = NULL;
    const int32_t total = n_prompts * n;
    int32_t longest = 0, n_rows = 0;
    cohort_status status = COHORT_OK;
    *out = (struct grpo_divergence){(double)NAN, (double)NAN};
    TRY_GOTO(mem_alloc(&rows, (size_t)total, sizeof *rows, "evaluation", err));
    TRY_GOTO(mem_alloc(&episodes, (size_t)total, sizeof *episodes, "evaluation", err));
    for (int32_t i = 0; i < total; i++) {
        TRY_GOTO(episode_append_completion(&episodes[i], &completions[i], err));
        if (grpo_masks(&grpo->config, &episodes[i]))
            continue;
        rows[n_rows++] = (struct grpo_row){.prompt = &prompts[i / n], .episode = &episodes[i]};
        longest = episodes[i].n_sampled > longest ? episodes[i].n_sampled : longest;
    }
    if (n_rows > 0)
        TRY_GOTO(measure_rows(grpo, rows, n_rows, longest, out, err));
cleanup:
    for (int32_t i = 0; episodes != NULL && i < total; i++)
        episode_free(&episodes[i]);
    mem_free(episodes);
    mem_free(rows);
    return status;
}

#include "train/sft.h"

#include "backend/ops.h"
#include "base/clock.h"
#include "base/rng.h"
#include "train/lanes.h"

#include <math.h>
#include <string.h>

struct tree_extras sft_extras(const struct sft *sft)
{
    const bool smooth = sft->label_smoothing > 0.0;
    return (struct tree_extras){
        .top = true, .mean = smooth, .d_mean = smooth, .noise = sft->noise_alpha > 0.0 || sft->dropout > 0.0};
}

void sft_free(struct sft *sft)
{
    mem_free(sft->weight);
    mem_free(sft->noise.scale);
    mem_free(sft->noise.stream);
    routing_free(&sft->routing);
    sft->weight = NULL;
    memset(&sft->noise, 0, sizeof sft->noise);
    sft->weight_capacity = sft->scale_capacity = sft->stream_capacity = 0;
}

static double weight_of(const struct sft_batch *batch, int32_t row)
{
    return batch->weights == NULL ? 1.0 : batch->weights[row];
}

/* Sums over the learned tokens of a batch. */
struct sums {
    int64_t targets;
    double weights; /* of those tokens: the denominator of the loss */
    double loss, entropy;
    int64_t right;  /* targets that were the likeliest token */
    int64_t tokens; /* of the rows, as TRL counts them */
    int64_t fed;    /* without what predicts nothing */
};

static struct sums sums_begin(const struct sft_batch *batch)
{
    struct sums sums = {0};
    for (int32_t i = 0; i < batch->n; i++) {
        const struct tree *tree = &batch->trees[i];
        int64_t n = 0;
        sums.tokens += tree->n_prompt;
        for (int32_t c = 0; c < tree->n_completions; c++) {
            n += completion_outputs(&tree->completions[c]);
            sums.tokens += tree->completions[c].n_tokens;
        }
        sums.targets += n;
        sums.weights += weight_of(batch, i) * (double)n;
    }
    return sums;
}

/* The row of the batch that slice s of micro-batch m belongs to. */
static int32_t row_of(const struct packing *packing, int32_t m, int32_t s)
{
    return packing->slices[packing->slice_begin[m] + s].tree;
}

/* The weights of the micro-batch's outputs, in their order. */
static cohort_status output_weights(struct sft *sft, const struct sft_batch *batch, int32_t m, cohort_error *err)
{
    const struct packing *packing = &sft->runner->packing;
    const struct packed *packed = &sft->runner->packed;
    int32_t c = 0;
    TRY(mem_grow(&sft->weight, &sft->weight_capacity, (size_t)packed->outputs.count, sizeof *sft->weight, "weights",
                 err));
    for (int32_t s = packing->slice_begin[m]; s < packing->slice_begin[m + 1]; s++) {
        const struct tree_slice *slice = &packing->slices[s];
        const double weight = weight_of(batch, slice->tree);
        for (int32_t k = slice->begin; k < slice->end; k++, c++) {
            const int32_t first = packed->first_output[c];
            const int32_t rest = completion_outputs(&batch->trees[slice->tree].completions[k]) - (first >= 0 ? 1 : 0);
            if (first >= 0)
                sft->weight[first] = weight;
            for (int32_t i = 0; i < rest; i++)
                sft->weight[packed->rest_output[c] + i] = weight;
        }
    }
    return COHORT_OK;
}

/* NEFTune (https://arxiv.org/abs/2310.05914): noise of up to alpha / sqrt(L C), with L the row's own tokens, so that it
 * does not depend on what else is in the micro-batch. A row's stream is that of its place in the optimizer step. */
static cohort_status add_noise(struct sft *sft, const struct sft_batch *batch, int32_t m, cohort_error *err)
{
    struct batch *tokens = &sft->runner->packed.batch;
    struct batch_noise *noise = &sft->noise;
    const size_t n = (size_t)tokens->n_tokens;
    const uint64_t step = (uint64_t)(sft->optimizer.step + sft->skipped);
    if (sft->noise_alpha > 0.0)
        TRY(mem_grow(&noise->scale, &sft->scale_capacity, n, sizeof *noise->scale, "noise", err));
    TRY(mem_grow(&noise->stream, &sft->stream_capacity, n, sizeof *noise->stream, "noise", err));
    for (int32_t s = 0; s < tokens->n_seqs; s++) {
        const struct attention_seq *seq = &tokens->seqs[s];
        const int32_t row = row_of(&sft->runner->packing, m, seq->tree);
        const struct tree *tree = &batch->trees[row];
        const double length = (double)tree->n_prompt + (double)tree->completions[0].n_tokens;
        const float scale = (float)(sft->noise_alpha / sqrt(length * (double)sft->model->config.hidden_size));
        const uint64_t stream = rng_stream(step, (uint64_t)row);
        for (int32_t t = seq->query_row; t < seq->query_row + seq->n_queries; t++) {
            if (noise->scale != NULL)
                noise->scale[t] = scale;
            noise->stream[t] = stream;
        }
    }
    noise->seed = sft->seed;
    noise->dropout = sft->dropout;
    tokens->noise = noise;
    return COHORT_OK;
}

/* Adds the micro-batch's tokens to sums and leaves the derivatives of the step's loss in the runner. */
static void take_losses(struct sft *sft, bool weighted, struct sums *sums)
{
    struct tree_runner *runner = sft->runner;
    const double scale = 1.0 / sums->weights, smooth = sft->label_smoothing;
    for (int32_t i = 0; i < runner->packed.outputs.count; i++) {
        const double weight = weighted ? sft->weight[i] : 1.0, logp = (double)runner->logp[i];
        double loss = -logp, slope = -(scale * weight);
        if (sft->loss == SFT_LOSS_DFT) { /* the probability has no gradient */
            const double p = exp(logp);
            loss *= p;
            slope *= p;
        }
        if (smooth > 0.0) {
            loss = (1.0 - smooth) * loss - smooth * (double)runner->mean[i];
            runner->d_mean[i] = (float)(smooth * slope);
            slope *= 1.0 - smooth;
        }
        runner->d_logp[i] = (float)slope;
        sums->loss += weight * loss;
        sums->entropy += (double)runner->entropy[i];
        sums->right += runner->top != NULL ? runner->top[i] : 0;
    }
}

static cohort_status build(struct sft *sft, const struct sft_batch *batch, int32_t m, cohort_error *err)
{
    TRY(packed_build(&sft->runner->packed, batch->trees, &sft->runner->packing, m, err));
    return batch->weights == NULL ? COHORT_OK : output_weights(sft, batch, m, err);
}

/* A micro-batch of this rank, with train also its backward. */
static cohort_status compute(struct sft *sft, const struct sft_batch *batch, int32_t m, bool train, struct lanes *lanes,
                             struct sums *sums, cohort_error *err)
{
    struct tree_runner *runner = sft->runner;
    struct sums own = *sums; /* the others' are not known yet */
    TRY(build(sft, batch, m, err));
    if (train && (sft->noise_alpha > 0.0 || sft->dropout > 0.0))
        TRY(add_noise(sft, batch, m, err));
    tree_runner_forward(runner, sft->model, 1.0f);
    TRY(backend_check(sft->model->backend, err));
    if (train && runner->packing.n_micro == 1)
        TRY(routing_prepare(&sft->routing, runner, sft->model, batch->trees, batch->n, false, err));
    if (lanes_shared(lanes))
        TRY(lanes_keep_outputs(lanes, runner, err));
    if (train)
        TRY(routing_keep(&sft->routing, runner, sft->model, lanes, err));
    take_losses(sft, batch->weights != NULL, lanes_shared(lanes) ? &own : sums);
    if (train)
        tree_runner_backward(runner, sft->model, 1.0f, false);
    return backend_check(sft->model->backend, err);
}

/* The sums over the micro-batches of all ranks, in their order. */
static cohort_status sum_shared(struct sft *sft, const struct sft_batch *batch, bool train, struct lanes *lanes,
                                struct sums *sums, cohort_error *err)
{
    TRY(lanes_share(lanes, err));
    for (int32_t m = 0; m < sft->runner->packing.n_micro; m++) {
        TRY(build(sft, batch, m, err));
        TRY(lanes_take_outputs(lanes, m, sft->runner, err));
        if (train)
            TRY(routing_take(&sft->routing, sft->model, lanes, m, err));
        take_losses(sft, batch->weights != NULL, sums);
        sums->fed += sft->runner->packed.batch.n_tokens;
    }
    return COHORT_OK;
}

/* Runs all micro-batches, with train also their backward. */
static cohort_status run(struct sft *sft, const struct sft_batch *batch, bool train, struct sums *sums,
                         cohort_error *err)
{
    struct tree_runner *runner = sft->runner;
    struct lanes lanes = {0};
    const int64_t completions = runner->max_outputs - runner->max_tokens;
    cohort_status status = COHORT_OK;
    if (train)
        TRY(lanes_split(sft->model->trained, &runner->packing, batch->trees, batch->n, runner->max_tokens, completions,
                        err));
    else
        TRY(packing_split(&runner->packing, batch->trees, batch->n, runner->max_tokens, completions, err));
    if (train)
        TRY(routing_begin(&sft->routing, runner, sft->model, err));
    if (train && runner->packing.n_micro > 1)
        TRY(routing_prepare(&sft->routing, runner, sft->model, batch->trees, batch->n, false, err));
    lanes_begin(&lanes, sft->model->trained, runner->packing.n_micro, train);
    for (int32_t m = 0; m < runner->packing.n_micro; m++) {
        if (lanes_mine(&lanes, m)) {
            TRY_GOTO(compute(sft, batch, m, train, &lanes, sums, err));
            sums->fed += lanes_shared(&lanes) ? 0 : runner->packed.batch.n_tokens;
        }
        TRY_GOTO(lanes_count(&lanes, m, err));
    }
    if (lanes_shared(&lanes))
        TRY_GOTO(sum_shared(sft, batch, train, &lanes, sums, err));
cleanup:
    lanes_free(&lanes);
    return status;
}

cohort_status sft_step(struct sft *sft, const struct sft_batch *batch, struct metrics *metrics, cohort_error *err)
{
    double grad_norm = 0.0, start = clock_seconds();
    struct sums sums = sums_begin(batch);
    bool skipped = false;
    if (sums.targets == 0)
        return error_set(err, COHORT_ERR_ARGUMENT, "the batch has no completion token to learn from");
    cohort_status status = run(sft, batch, true, &sums, err);
    if (status == COHORT_OK)
        status = routing_end(&sft->routing, sft->runner, sft->model, metrics, err);
    sft->runner->decoder.experts.on = (struct expert_switches){0};
    if (status != COHORT_OK) { /* half a gradient must not reach the next step */
        param_set_zero_grad(sft->model->trained);
        return status;
    }
    double rate = schedule_rate(&sft->schedule, sft->optimizer.step + sft->skipped);
    TRY(optimizer_apply(&sft->optimizer, sft->model->trained, rate, &grad_norm, &skipped, err));
    model_refresh(sft->model);
    sft->skipped += skipped ? 1 : 0;
    sft->tokens_seen += sums.tokens;
    double seconds = clock_seconds() - start;
    metrics_set(metrics, "loss", sums.loss / sums.weights + routing_loss(&sft->routing));
    metrics_set(metrics, "entropy", sums.entropy / (double)sums.targets);
    if (sft->runner->top != NULL)
        metrics_set(metrics, "mean_token_accuracy", (double)sums.right / (double)sums.targets);
    metrics_set(metrics, "grad_norm", grad_norm);
    metrics_set(metrics, "learning_rate", rate);
    metrics_set(metrics, "num_tokens", (double)sft->tokens_seen);
    metrics_set(metrics, "skipped_steps", (double)sft->skipped);
    metrics_set(metrics, "step_time", seconds);
    metrics_set(metrics, "throughput/train_tokens_per_second", (double)sums.fed / seconds);
    return COHORT_OK;
}

cohort_status sft_evaluate(struct sft *sft, const struct sft_batch *batch, struct sft_figures *figures,
                           cohort_error *err)
{
    struct sums sums = sums_begin(batch);
    *figures = (struct sft_figures){.accuracy = (double)NAN};
    if (sums.targets == 0)
        return error_set(err, COHORT_ERR_ARGUMENT, "the evaluation data has no completion token");
    TRY(run(sft, batch, false, &sums, err));
    figures->loss = sums.loss / sums.weights;
    figures->entropy = sums.entropy / (double)sums.targets;
    if (sft->runner->top != NULL)
        figures->accuracy = (double)sums.right / (double)sums.targets;
    return COHORT_OK;
}

#include "train/sft.h"

#include "base/clock.h"

#include <math.h>

static int64_t target_tokens(const struct tree *trees, int32_t n)
{
    int64_t total = 0;
    for (int32_t i = 0; i < n; i++)
        for (int32_t c = 0; c < trees[i].n_completions; c++)
            total += completion_outputs(&trees[i].completions[c]);
    return total;
}

/* Runs all micro-batches, with train also their backward, and sums nll and entropy over the target tokens. */
static cohort_status run(struct sft *sft, const struct tree *trees, int32_t n, bool train, double *nll, double *entropy,
                         int64_t *fed, cohort_error *err)
{
    struct tree_runner *runner = sft->runner;
    double scale = 1.0 / (double)target_tokens(trees, n);
    TRY(packing_split(&runner->packing, trees, n, runner->max_tokens, runner->max_outputs - runner->max_tokens, err));
    for (int32_t m = 0; m < runner->packing.n_micro; m++) {
        TRY(packed_build(&runner->packed, trees, &runner->packing, m, err));
        tree_runner_forward(runner, sft->model, 1.0f);
        TRY(backend_check(sft->model->backend, err));
        for (int32_t i = 0; i < runner->packed.outputs.count; i++) {
            *nll -= (double)runner->logp[i];
            *entropy += (double)runner->entropy[i];
            runner->d_logp[i] = (float)-scale;
        }
        *fed += runner->packed.batch.n_tokens;
        if (train)
            tree_runner_backward(runner, sft->model, 1.0f, false);
        TRY(backend_check(sft->model->backend, err));
    }
    return COHORT_OK;
}

cohort_status sft_step(struct sft *sft, const struct tree *trees, int32_t n, struct metrics *metrics, cohort_error *err)
{
    double nll = 0.0, entropy = 0.0, grad_norm = 0.0, start = clock_seconds();
    int64_t fed = 0, targets = target_tokens(trees, n);
    bool skipped = false;
    if (targets == 0)
        return error_set(err, COHORT_ERR_ARGUMENT, "the batch has no completion token to learn from");
    cohort_status status = run(sft, trees, n, true, &nll, &entropy, &fed, err);
    if (status != COHORT_OK) { /* half a gradient must not reach the next step */
        param_set_zero_grad(sft->model->trained);
        return status;
    }
    double rate = schedule_rate(&sft->schedule, sft->optimizer.step + sft->skipped);
    optimizer_apply(&sft->optimizer, sft->model->trained, rate, &grad_norm, &skipped);
    model_refresh(sft->model);
    sft->skipped += skipped ? 1 : 0;
    sft->tokens_seen += fed;
    double seconds = clock_seconds() - start;
    metrics_set(metrics, "loss", nll / (double)targets);
    metrics_set(metrics, "entropy", entropy / (double)targets);
    metrics_set(metrics, "grad_norm", grad_norm);
    metrics_set(metrics, "learning_rate", rate);
    metrics_set(metrics, "num_tokens", (double)sft->tokens_seen);
    metrics_set(metrics, "skipped_steps", (double)sft->skipped);
    metrics_set(metrics, "step_time", seconds);
    metrics_set(metrics, "throughput/train_tokens_per_second", (double)fed / seconds);
    return COHORT_OK;
}

cohort_status sft_evaluate(struct sft *sft, const struct tree *trees, int32_t n, double *loss, cohort_error *err)
{
    double nll = 0.0, entropy = 0.0;
    int64_t fed = 0, targets = target_tokens(trees, n);
    *loss = 0.0;
    if (targets == 0)
        return error_set(err, COHORT_ERR_ARGUMENT, "the evaluation data has no completion token");
    TRY(run(sft, trees, n, false, &nll, &entropy, &fed, err));
    *loss = nll / (double)targets;
    return COHORT_OK;
}

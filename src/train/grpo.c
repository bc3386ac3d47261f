#include "train/grpo_rows.h"

#include "base/clock.h"
#include "base/rng.h"
#include "train/repetition.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

int64_t grpo_steps(const struct grpo *grpo) { return grpo->optimizer.step + grpo->skipped; }

static void reward_lists_free(struct grpo_batch *batch)
{
    for (int64_t i = 0; batch->reward_lists != NULL && i < (int64_t)batch->n * batch->n_functions; i++)
        mem_free(batch->reward_lists[i]);
    mem_free(batch->reward_lists);
    batch->reward_lists = NULL;
}

void grpo_batch_free(struct grpo_batch *batch)
{
    for (int32_t i = 0; batch->completions != NULL && i < batch->n; i++)
        completion_free(&batch->completions[i]);
    for (int32_t i = 0; batch->episodes != NULL && i < batch->n; i++)
        episode_free(&batch->episodes[i]);
    row_values_free(batch->reference, batch->n);
    row_values_free(batch->token_advantages, batch->n);
    reward_lists_free(batch);
    for (int32_t p = 0; batch->guides != NULL && p < batch->n_prompts; p++)
        text_free(&batch->guides[p]);
    mem_free(batch->guides);
    metrics_free(&batch->metrics);
    mem_free(batch->prompts);
    mem_free(batch->prompt_tokens);
    mem_free(batch->order);
    mem_free(batch->completions);
    mem_free(batch->episodes);
    mem_free(batch->n_sampled);
    mem_free(batch->rewards);
    mem_free(batch->reward);
    mem_free(batch->advantage);
    memset(batch, 0, sizeof *batch);
}

/* How much of the probability what guides the completions left at each token: little says that the model is dragged. */
static void guide_metrics(const struct grpo_batch *batch, struct metrics *metrics)
{
    double sum = 0.0, least = 1.0;
    int64_t n = 0;
    for (int32_t i = 0; i < batch->n; i++) {
        const struct completion *c = &batch->completions[i];
        for (int32_t t = 0; c->kept != NULL && t < c->n_tokens; t++) {
            if (!completion_sampled(c, t))
                continue;
            const double kept = exp((double)c->kept[t]);
            n++;
            sum += kept;
            least = kept < least ? kept : least;
        }
    }
    if (n == 0)
        return;
    metrics_set(metrics, "guided/kept_mass_mean", sum / (double)n);
    metrics_set(metrics, "guided/kept_mass_min", least);
}

/* Lengths count sampled tokens. */
static cohort_status length_metrics(const struct grpo_batch *batch, struct metrics *metrics, cohort_error *err)
{
    double repeated = 0.0, distinct = 0.0, sum = 0.0, terminated_sum = 0.0;
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
    TRY(repetition_measure(batch->episodes, batch->n, batch->n / batch->n_prompts, &repeated, &distinct, err));
    metrics_set(metrics, "completions/repeated_ratio", repeated);
    metrics_set(metrics, "completions/distinct_ratio", distinct);
    return COHORT_OK;
}

static struct grpo_row row_of(const struct grpo_batch *batch, const struct grpo_prompt *prompts, int32_t row,
                              bool fresh)
{
    const int32_t group = batch->n / batch->n_prompts, p = row / group;
    return (struct grpo_row){.prompt = &prompts[p],
                             .episode = &batch->episodes[row],
                             .reference = batch->reference == NULL ? NULL : batch->reference[row],
                             .advantage = batch->advantage[row],
                             .token_advantages = batch->token_advantages == NULL ? NULL : batch->token_advantages[row],
                             .prompt_index = p,
                             .completion = row % group,
                             .fresh = fresh};
}

/* Scores the batch with the reference, once for all that needs it. */
static cohort_status batch_reference(struct grpo *grpo, struct grpo_batch *batch, cohort_error *err)
{
    struct row_trees trees = {0};
    struct grpo_row *rows = NULL;
    float **reference = NULL;
    cohort_status status = COHORT_OK;
    if (batch->reference != NULL)
        return COHORT_OK;
    TRY_GOTO(mem_alloc(&rows, (size_t)batch->n, sizeof *rows, "step", err));
    for (int32_t i = 0; i < batch->n; i++)
        rows[i] = row_of(batch, batch->prompts, i, true);
    TRY_GOTO(row_trees_build(&trees, rows, batch->n, err));
    TRY_GOTO(row_values_alloc(&reference, rows, batch->n, "reference log-probs", err));
    TRY_GOTO(row_reference(grpo, &trees, reference, err));
    batch->reference = reference;
    reference = NULL;
cleanup:
    row_values_free(reference, batch->n);
    row_trees_free(&trees);
    mem_free(rows);
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
        if (grpo_masks(config, e))
            continue;
        for (int32_t t = 0; t < e->n_sampled; t++)
            kl += loss_kl(config->loss.kl, e->logp[t], batch->reference[i][t]).value;
        penalty[i] = config->reward_beta * kl;
        sum += kl;
        tokens += e->n_sampled;
    }
    return tokens > 0 ? sum / (double)tokens : 0.0;
}

static struct advantage_input input_of(const struct grpo_config *config, const struct grpo_batch *batch,
                                       const double *penalty)
{
    return (struct advantage_input){.n_rows = batch->n,
                                    .group = config->group,
                                    .n_functions = config->n_functions,
                                    .rewards = batch->rewards,
                                    .lists = batch->reward_lists,
                                    .n_tokens = batch->n_sampled,
                                    .weights = config->reward_weights,
                                    .penalty = penalty,
                                    .config = config->advantage};
}

bool grpo_group_spreads(const struct grpo *grpo, const struct grpo_batch *batch, int32_t group)
{
    const struct advantage_input input = input_of(&grpo->config, batch, NULL);
    return advantage_spreads(&input, group);
}

/* Rewards of tokens as those of the tokens that were sampled: what stands at one from outside belongs to the last that was
 * sampled before it. */
static void keep_sampled(const struct completion *c, double *list)
{
    int32_t n = 0;
    for (int32_t t = 0; list != NULL && c->sampled != NULL && t < c->n_tokens; t++) {
        if (c->sampled[t])
            list[n++] = list[t];
        else if (!isnan(list[t]) && n > 0)
            list[n - 1] = (isnan(list[n - 1]) ? 0.0 : list[n - 1]) + list[t];
    }
}

/* The lists stay only where there are any. */
static cohort_status reward_all(struct grpo *grpo, struct grpo_batch *batch, cohort_error *err)
{
    const int64_t n = (int64_t)batch->n * batch->n_functions;
    bool any = false;
    TRY(mem_alloc(&batch->reward_lists, (size_t)n, sizeof(double *), "rewards of tokens", err));
    cohort_status status =
        grpo->reward(grpo->reward_context, batch->completions, batch->n, batch->rewards, batch->reward_lists, err);
    for (int64_t i = 0; status == COHORT_OK && i < n; i++)
        any = any || batch->reward_lists[i] != NULL;
    for (int64_t i = 0; status == COHORT_OK && i < n; i++)
        keep_sampled(&batch->completions[i / batch->n_functions], batch->reward_lists[i]);
    if (!any)
        reward_lists_free(batch);
    return status;
}

cohort_status grpo_reward_batch(struct grpo *grpo, struct grpo_batch *batch, cohort_error *err)
{
    const double start = clock_seconds();
    if (batch->rewarded)
        return COHORT_OK;
    if (grpo->progress != NULL &&
        !grpo->progress(grpo->progress_context, &(struct grpo_at){.phase = "reward", .total = batch->n}))
        return grpo_cancelled(err);
    TRY(reward_all(grpo, batch, err));
    batch->reward_seconds = clock_seconds() - start;
    batch->rewarded = true;
    return COHORT_OK;
}

static cohort_status token_advantages_alloc(struct grpo_batch *batch, cohort_error *err)
{
    row_values_free(batch->token_advantages, batch->n); /* of a call that failed */
    batch->token_advantages = NULL;
    TRY(mem_alloc(&batch->token_advantages, (size_t)batch->n, sizeof(float *), "advantages of tokens", err));
    for (int32_t i = 0; i < batch->n; i++)
        TRY(mem_alloc(&batch->token_advantages[i], (size_t)batch->n_sampled[i], sizeof(float), "advantages of tokens",
                      err));
    return COHORT_OK;
}

static cohort_status score(struct grpo *grpo, struct grpo_batch *batch, struct metrics *metrics, cohort_error *err)
{
    const struct grpo_config *config = &grpo->config;
    double *means = NULL, *penalty = NULL;
    cohort_status status = COHORT_OK;
    size_t functions = (size_t)config->n_functions;
    TRY(mem_alloc(&means, 2 * functions, sizeof *means, "reward metrics", err));
    if (config->reward_beta != 0.0) {
        TRY_GOTO(mem_alloc(&penalty, (size_t)batch->n, sizeof *penalty, "KL in the reward", err));
        metrics_set(metrics, "kl", reward_kl(config, batch, penalty));
    }
    if (batch->reward_lists != NULL)
        TRY_GOTO(token_advantages_alloc(batch, err));
    const struct advantage_input input = input_of(config, batch, penalty);
    struct advantage_output output = {.advantage = batch->advantage,
                                      .tokens = batch->token_advantages,
                                      .reward = batch->reward,
                                      .function_mean = means,
                                      .function_std = means + functions};
    TRY_GOTO(advantage_compute(&input, &output, err));
    for (size_t f = 0; f < functions; f++) {
        metrics_setf(metrics, output.function_mean[f], "rewards/%s/mean", config->reward_names[f]);
        metrics_setf(metrics, output.function_std[f], "rewards/%s/std", config->reward_names[f]);
    }
    metrics_set(metrics, "reward", output.reward_mean);
    metrics_set(metrics, "reward_std", output.reward_std);
    if (grpo->teacher == NULL)
        metrics_set(metrics, "frac_reward_zero_std", output.frac_reward_zero_std);
cleanup:
    mem_free(means);
    mem_free(penalty);
    return status;
}

/* A batch outlives the memory that its prompts came in. */
static cohort_status keep_prompts(struct grpo_batch *batch, const struct grpo_prompt *prompts, cohort_error *err)
{
    size_t total = 0;
    for (int32_t p = 0; p < batch->n_prompts; p++)
        total += (size_t)prompts[p].n_tokens;
    TRY(mem_alloc(&batch->prompts, (size_t)batch->n_prompts, sizeof *batch->prompts, "generation batch", err));
    TRY(mem_alloc(&batch->prompt_tokens, total, sizeof *batch->prompt_tokens, "generation batch", err));
    int32_t *to = batch->prompt_tokens;
    for (int32_t p = 0; p < batch->n_prompts; p++) {
        batch->prompts[p] = prompts[p];
        batch->prompts[p].constraints = NULL; /* of the draws alone */
        batch->prompts[p].tokens = to;
        memcpy(to, prompts[p].tokens, (size_t)prompts[p].n_tokens * sizeof *to);
        to += prompts[p].n_tokens;
    }
    return COHORT_OK;
}

/* What a batch of so many prompts holds, empty. */
static cohort_status batch_alloc(const struct grpo *grpo, int32_t n_prompts, int64_t index, struct grpo_batch *batch,
                                 cohort_error *err)
{
    const struct grpo_config *config = &grpo->config;
    const size_t n = (size_t)n_prompts * (size_t)config->group;
    cohort_status status = COHORT_OK;
    *batch = (struct grpo_batch){.index = index,
                                 .drawn_at = grpo_steps(grpo),
                                 .n_prompts = n_prompts,
                                 .n = (int32_t)n,
                                 .route_width = config->route_width,
                                 .n_functions = config->n_functions};
    TRY_GOTO(mem_alloc(&batch->order, n, sizeof *batch->order, "generation batch", err));
    step_plan_order(&config->plan, config->seed, index, batch->n, batch->order);
    TRY_GOTO(mem_alloc(&batch->completions, n, sizeof *batch->completions, "generation batch", err));
    TRY_GOTO(mem_alloc(&batch->episodes, n, sizeof *batch->episodes, "generation batch", err));
    TRY_GOTO(mem_alloc(&batch->n_sampled, n, sizeof *batch->n_sampled, "generation batch", err));
    TRY_GOTO(mem_alloc(&batch->rewards, n * (size_t)config->n_functions, sizeof(double), "generation batch", err));
    TRY_GOTO(mem_alloc(&batch->reward, n, sizeof(float), "generation batch", err));
    TRY_GOTO(mem_alloc(&batch->advantage, n, sizeof(float), "generation batch", err));
cleanup:
    if (status != COHORT_OK)
        grpo_batch_free(batch);
    return status;
}

cohort_status grpo_batch_pick(const struct grpo *grpo, const struct grpo_pick *picks, int32_t n_picks,
                              struct grpo_batch *const *all, int32_t n_all, struct grpo_batch *batch, cohort_error *err)
{
    const int32_t group = grpo->config.group, functions = grpo->config.n_functions;
    struct grpo_prompt *prompts = NULL;
    bool listed = false;
    cohort_status status = COHORT_OK;
    memset(batch, 0, sizeof *batch);
    TRY_GOTO(mem_alloc(&prompts, (size_t)n_picks, sizeof *prompts, "generation batch", err));
    for (int32_t p = 0; p < n_picks; p++)
        prompts[p] = picks[p].from->prompts[picks[p].group];
    TRY_GOTO(batch_alloc(grpo, n_picks, all[0]->index, batch, err));
    TRY_GOTO(keep_prompts(batch, prompts, err));
    for (int32_t k = 0; k < n_all; k++)
        listed = listed || all[k]->reward_lists != NULL;
    if (listed)
        TRY_GOTO(mem_alloc(&batch->reward_lists, (size_t)batch->n * (size_t)functions, sizeof(double *),
                           "generation batch", err));
    for (int32_t p = 0; p < n_picks; p++) {
        struct grpo_batch *from = picks[p].from;
        for (int32_t i = 0; i < group; i++) {
            const int64_t old = (int64_t)picks[p].group * group + i, row = (int64_t)p * group + i;
            batch->completions[row] = from->completions[old];
            batch->episodes[row] = from->episodes[old];
            memset(&from->completions[old], 0, sizeof *from->completions);
            memset(&from->episodes[old], 0, sizeof *from->episodes);
            memcpy(&batch->rewards[row * functions], &from->rewards[old * functions],
                   (size_t)functions * sizeof *batch->rewards);
            batch->n_sampled[row] = from->n_sampled[old];
            for (int32_t f = 0; from->reward_lists != NULL && f < functions; f++) {
                batch->reward_lists[row * functions + f] = from->reward_lists[old * functions + f];
                from->reward_lists[old * functions + f] = NULL;
            }
        }
    }
    batch->rewarded = true;
    batch->start = all[0]->start;
    for (int32_t k = 0; k < n_all; k++) {
        batch->tokens += all[k]->tokens;
        batch->completion_tokens += all[k]->completion_tokens;
        batch->rollout_seconds += all[k]->rollout_seconds;
        batch->reward_seconds += all[k]->reward_seconds;
    }
cleanup:
    if (status != COHORT_OK)
        grpo_batch_free(batch);
    mem_free(prompts);
    return status;
}

cohort_status grpo_generate(struct grpo *grpo, const struct grpo_prompt *prompts, int32_t n_prompts, int64_t index,
                            struct grpo_batch *batch, cohort_error *err)
{
    const struct grpo_config *config = &grpo->config;
    cohort_status status = COHORT_OK;
    TRY(batch_alloc(grpo, n_prompts, index, batch, err));
    batch->start = clock_seconds();
    TRY_GOTO(keep_prompts(batch, prompts, err));
    struct engine_request pattern = {.sampling = config->sampling,
                                     .seed = config->seed,
                                     .max_tokens = config->max_completion_length,
                                     .eos_ids = grpo->model->config.eos_ids,
                                     .n_eos = grpo->model->config.n_eos,
                                     .stop = config->stop,
                                     .n_stop = config->n_stop,
                                     .n_choosable = config->n_choosable,
                                     .turns = grpo->turns != NULL};
    TRY_GOTO(grpo_rollout(grpo->engine, grpo->ranks, prompts, n_prompts, config->group, &pattern, (uint64_t)index,
                          batch->completions, grpo->progress, grpo->progress_context, grpo->arrived,
                          grpo->arrived_context, grpo->turns, err));
    batch->rollout_seconds = clock_seconds() - batch->start;
    for (int32_t i = 0; i < batch->n; i++) {
        TRY_GOTO(episode_append_completion(&batch->episodes[i], &batch->completions[i], err));
        episode_take_routes(&batch->episodes[i], &batch->completions[i]);
        batch->n_sampled[i] = batch->episodes[i].n_sampled;
        batch->completion_tokens += batch->episodes[i].n_sampled;
        batch->tokens += batch->completions[i].n_prompt + batch->completions[i].n_tokens;
    }
cleanup:
    if (status != COHORT_OK)
        grpo_batch_free(batch);
    return status;
}

/* Of a batch that is not learned from by its rewards: what they say stays, and nothing is made of it. */
static void forget_advantages(struct grpo_batch *batch)
{
    row_values_free(batch->token_advantages, batch->n);
    batch->token_advantages = NULL;
    for (int32_t i = 0; i < batch->n; i++) {
        batch->advantage[i] = NAN;
        batch->reward[i] = batch->n_functions > 0 ? batch->reward[i] : NAN;
    }
}

cohort_status grpo_score(struct grpo *grpo, struct grpo_batch *batch, cohort_error *err)
{
    const struct grpo_config *config = &grpo->config;
    struct metrics first = {0};
    cohort_status status = COHORT_OK;
    if (batch->scored)
        return COHORT_OK;
    const double reference_start = clock_seconds();
    if (config->reward_beta != 0.0 || (config->loss.beta != 0.0 && step_plan_reuses(&config->plan))) {
        TRY_GOTO(batch_reference(grpo, batch, err));
        metrics_set(&first, "time/reference", clock_seconds() - reference_start);
    }
    if (config->n_functions > 0) {
        TRY_GOTO(grpo_reward_batch(grpo, batch, err));
        TRY_GOTO(score(grpo, batch, &first, err));
    }
    if (grpo->teacher != NULL)
        forget_advantages(batch);
    TRY_GOTO(length_metrics(batch, &first, err));
    guide_metrics(batch, &first);
    metrics_set(&first, "num_tokens", (double)(grpo->tokens_seen + batch->tokens));
    metrics_set(&first, "time/rollout", batch->rollout_seconds);
    if (config->n_functions > 0)
        metrics_set(&first, "time/reward", batch->reward_seconds);
    metrics_set(&first, "throughput/rollout_tokens_per_second",
                (double)batch->completion_tokens / batch->rollout_seconds);
    batch->metrics = first;
    batch->scored = true;
    return COHORT_OK;
cleanup:
    metrics_free(&first);
    return status;
}

/* ---- Steps ---- */

static int compare_rows(const void *a, const void *b)
{
    const struct grpo_row *x = a, *y = b;
    if (x->batch_index != y->batch_index)
        return x->batch_index < y->batch_index ? -1 : 1;
    if (x->prompt_index != y->prompt_index)
        return x->prompt_index < y->prompt_index ? -1 : 1;
    return (x->completion > y->completion) - (x->completion < y->completion);
}

/* The rows of the next step, in the order of their batches: the result does not depend on how slices are cut where a
 * step takes all of a batch. */
static cohort_status collect(const struct grpo *grpo, const struct grpo_batch *batches, int32_t n_batches,
                             struct grpo_row **rows, int32_t *n, cohort_error *err)
{
    const struct step_plan *plan = &grpo->config.plan;
    const int64_t steps = grpo_steps(grpo), begin = steps * plan->accumulated, end = begin + plan->accumulated;
    size_t capacity = 0;
    *n = 0;
    for (int64_t place = begin; place < end; place++) {
        const struct step_slice slice = step_plan_slice(plan, place);
        const int64_t which = slice.batch - batches[0].index;
        assert(which >= 0 && which < n_batches);
        const struct grpo_batch *batch = &batches[which];
        const int32_t first = (int32_t)((int64_t)batch->n * slice.slice / plan->slices),
                      last = (int32_t)((int64_t)batch->n * (slice.slice + 1) / plan->slices);
        TRY(mem_grow(rows, &capacity, (size_t)(*n + last - first), sizeof **rows, "step", err));
        for (int32_t i = first; i < last; i++) {
            struct grpo_row *row = &(*rows)[(*n)++];
            *row = row_of(batch, batch->prompts, batch->order[i], batch->drawn_at == steps);
            row->batch_index = slice.batch;
        }
    }
    if (*n > 0)
        qsort(*rows, (size_t)*n, sizeof **rows, compare_rows);
    return COHORT_OK;
}

/* A batch that is begun counts once its first step is done. */
static void count_begun(struct grpo *grpo, struct grpo_batch *batches, int32_t n_batches)
{
    for (int32_t b = 0; b < n_batches; b++) {
        if (batches[b].index < grpo->batches)
            continue;
        grpo->batches = batches[b].index + 1;
        grpo->tokens_seen += batches[b].tokens;
        metrics_set(&batches[b].metrics, "num_tokens", (double)grpo->tokens_seen);
    }
}

/* Metrics of the batches that a step took from: of one its own, of several their mean; seconds are added. */
static void batch_metrics(const struct grpo_batch *batches, int32_t n, struct metrics *metrics)
{
    metrics_add(metrics, &batches[n - 1].metrics);
    for (size_t i = 0; n > 1 && i < metrics->count; i++) {
        const char *name = metrics->items[i].name;
        const bool total = strcmp(name, "num_tokens") == 0;
        double sum = 0.0;
        int32_t found = 0;
        for (int32_t b = 0; b < n; b++) {
            const double value = metrics_get(&batches[b].metrics, name);
            sum += isnan(value) ? 0.0 : value;
            found += isnan(value) ? 0 : 1;
        }
        if (!total && found > 0)
            metrics->items[i].value = strncmp(name, "time/", 5) == 0 ? sum : sum / found;
    }
}

cohort_status grpo_advance(struct grpo *grpo, struct grpo_batch *batches, int32_t n_batches, struct metrics *metrics,
                           cohort_error *err)
{
    struct grpo_row *rows = NULL;
    struct metrics own = {0};
    int32_t n = 0;
    cohort_status status = COHORT_OK;
    const double start = clock_seconds(),
                 begun = batches[n_batches - 1].index >= grpo->batches ? batches[n_batches - 1].start : start;
    TRY_GOTO(collect(grpo, batches, n_batches, &rows, &n, err));
    TRY_GOTO(grpo_train(grpo, rows, n, &own, err));
    count_begun(grpo, batches, n_batches);
    batch_metrics(batches, n_batches, metrics);
    metrics_add(metrics, &own);
    metrics_set(metrics, "step_time", clock_seconds() - (begun < start ? begun : start));
cleanup:
    metrics_free(&own);
    mem_free(rows);
    return status;
}

cohort_status grpo_update(struct grpo *grpo, const struct grpo_prompt *prompts, int32_t n_prompts,
                          struct grpo_batch *batch, int32_t iteration, struct metrics *metrics, cohort_error *err)
{
    struct grpo_row *rows = NULL;
    assert(n_prompts == batch->n_prompts);
    TRY(mem_alloc(&rows, (size_t)batch->n, sizeof *rows, "step", err));
    for (int32_t i = 0; i < batch->n; i++)
        rows[i] = row_of(batch, prompts, i, iteration == 0);
    cohort_status status = grpo_train(grpo, rows, batch->n, metrics, err);
    mem_free(rows);
    return status;
}

cohort_status grpo_step(struct grpo *grpo, const struct grpo_prompt *prompts, int32_t n_prompts,
                        struct grpo_batch *batch, struct metrics *metrics, cohort_error *err)
{
    TRY(grpo_generate(grpo, prompts, n_prompts, grpo->batches, batch, err));
    cohort_status status = grpo_score(grpo, batch, err);
    if (status == COHORT_OK)
        status = grpo_advance(grpo, batch, 1, metrics, err);
    if (status != COHORT_OK)
        grpo_batch_free(batch);
    return status;
}

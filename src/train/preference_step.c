#include "train/preference_step.h"

#include "base/clock.h"
#include "base/number.h"
#include "model/model_adapter.h"
#include "train/lanes.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

struct tree_extras preference_extras(const struct preference *preference)
{
    if (preference_scores(&preference->config))
        return (struct tree_extras){.scores = true, .whole = true};
    return (struct tree_extras){
        .top = true, .mean = true, .lse = true, .squares = preference->config.weighting, .whole = true};
}

void preference_free(struct preference *preference)
{
    mem_free(preference->pairs);
    mem_free(preference->order);
    mem_free(preference->values);
    routing_free(&preference->routing);
    preference->pairs = NULL;
    preference->order = NULL;
    preference->values = NULL;
    preference->pair_capacity = preference->order_capacity = preference->value_capacity = 0;
}

/* Sums over the completions of a batch, beside those of preference_apply. */
struct figures {
    struct preference_sums sums;
    double entropy, logits_chosen, logits_rejected; /* over tokens; logits: of the vocabulary's mean */
    int64_t right;                                  /* chosen tokens that were the likeliest */
    int64_t chosen, rejected;                       /* tokens */
    int64_t tokens;                                 /* of the rows, as TRL counts them: a prompt with each completion */
    int64_t fed;
};

/* ---- Rows as sides of pairs ---- */

static struct preference_side *side_of(struct preference_pair *pair, int32_t completion)
{
    if (pair->single)
        return pair->wanted ? &pair->chosen : &pair->rejected;
    return completion == 0 ? &pair->chosen : &pair->rejected;
}

/* What a token at this place of a completion weighs in its score. */
static double weight_at(const struct preference_config *config, const struct tree *tree, int32_t t)
{
    if (!config->long_tail)
        return 1.0;
    const int32_t a = tree->completions[0].n_tokens, b = tree->completions[1].n_tokens;
    return t < (a < b ? a : b) ? 1.0 : config->ld_alpha;
}

static double score_of(const struct preference_config *config, const struct tree *tree, const float *logp, int32_t n)
{
    double score = 0.0;
    for (int32_t t = 0; t < n; t++)
        score += weight_at(config, tree, t) * (double)logp[t];
    return score;
}

static cohort_status begin(struct preference *p, const struct preference_batch *batch, struct preference_scale *scale,
                           struct figures *figures, cohort_error *err)
{
    const size_t n = (size_t)batch->n;
    size_t longest = 0;
    *scale = (struct preference_scale){.n_pairs = batch->n};
    *figures = (struct figures){0};
    TRY(mem_grow(&p->pairs, &p->pair_capacity, n, sizeof *p->pairs, "pairs", err));
    if (preference_spans(&p->config))
        TRY(mem_grow(&p->order, &p->order_capacity, 2 * n, sizeof *p->order, "pairs", err));
    for (int32_t i = 0; i < batch->n; i++) {
        const struct tree *tree = &batch->trees[i];
        p->pairs[i] = (struct preference_pair){.single = batch->wanted != NULL,
                                               .wanted = batch->wanted != NULL && batch->wanted[i],
                                               .margin = batch->margins == NULL ? 0.0 : batch->margins[i]};
        for (int32_t c = 0; c < tree->n_completions; c++) {
            const int32_t tokens = tree->completions[c].n_tokens;
            struct preference_side *side = side_of(&p->pairs[i], c);
            side->n = tokens;
            side->weight = 1.0;
            if (batch->reference != NULL)
                side->reference = c == 0 ? batch->reference[i].chosen : batch->reference[i].rejected;
            figures->tokens += tree->n_prompt + tokens;
            longest = (size_t)tokens > longest ? (size_t)tokens : longest;
        }
        scale->n_chosen += p->pairs[i].chosen.n + (tree->prompt_wanted ? tree->n_prompt - 1 : 0);
        if (tree->prompt_wanted)
            longest = (size_t)tree->n_prompt > longest ? (size_t)tree->n_prompt : longest;
    }
    return mem_grow(&p->values, &p->value_capacity, longest, sizeof *p->values, "log-probs", err);
}

static cohort_status forward(struct preference *p, struct model *model, const struct preference_batch *batch,
                             int32_t micro, cohort_error *err)
{
    TRY(packed_build(&p->runner->packed, batch->trees, &p->runner->packing, micro, err));
    tree_runner_forward(p->runner, model, 1.0f);
    return backend_check(model->backend, err);
}

/* train: into what lanes take. */
static cohort_status split(struct preference *p, const struct preference_batch *batch, bool train, cohort_error *err)
{
    struct tree_runner *runner = p->runner;
    const int64_t completions = runner->max_outputs - runner->max_tokens;
    return train ? lanes_split(p->model->trained, &runner->packing, batch->trees, batch->n, runner->max_tokens,
                               completions, err)
                 : packing_split(&runner->packing, batch->trees, batch->n, runner->max_tokens, completions, err);
}

/* A micro-batch: what its forward gave is in the runner. */
typedef cohort_status take_micro(void *context, int32_t micro, cohort_error *err);

/* The micro-batches of a batch that was split are given to take in their order, with what the ranks together forwarded. */
static cohort_status forward_all(struct preference *p, struct model *model, const struct preference_batch *batch,
                                 take_micro *take, void *context, cohort_error *err)
{
    struct tree_runner *runner = p->runner;
    struct lanes lanes = {0};
    cohort_status status = COHORT_OK;
    lanes_begin(&lanes, p->model->trained, runner->packing.n_micro, false);
    for (int32_t m = 0; m < runner->packing.n_micro; m++) {
        if (!lanes_mine(&lanes, m))
            continue;
        TRY_GOTO(forward(p, model, batch, m, err));
        TRY_GOTO(lanes_shared(&lanes) ? lanes_keep_outputs(&lanes, runner, err) : take(context, m, err));
    }
    if (lanes_shared(&lanes))
        TRY_GOTO(lanes_share(&lanes, err));
    for (int32_t m = 0; lanes_shared(&lanes) && m < runner->packing.n_micro; m++) {
        TRY_GOTO(packed_build(&runner->packed, batch->trees, &runner->packing, m, err));
        TRY_GOTO(lanes_take_outputs(&lanes, m, runner, err));
        TRY_GOTO(take(context, m, err));
    }
cleanup:
    lanes_free(&lanes);
    return status;
}

/* ---- The reference ---- */

struct scored {
    struct preference *p;
    const struct preference_batch *batch;
    struct preference_reference *out;
};

static cohort_status take_reference(void *context, int32_t m, cohort_error *err)
{
    const struct scored *scored = context;
    struct preference *p = scored->p;
    const struct packing *packing = &p->runner->packing;
    int32_t k = 0;
    (void)err;
    for (int32_t s = packing->slice_begin[m]; s < packing->slice_begin[m + 1]; s++) {
        const struct tree_slice *slice = &packing->slices[s];
        const struct tree *tree = &scored->batch->trees[slice->tree];
        struct preference_reference *out = &scored->out[slice->tree];
        for (int32_t c = slice->begin; c < slice->end; c++, k++) {
            const int32_t n = tree->completions[c].n_tokens;
            packed_gather(&p->runner->packed, k, n, p->runner->logp, p->values);
            *(c == 0 ? &out->chosen : &out->rejected) = score_of(&p->config, tree, p->values, n); /* single: chosen */
        }
    }
    return COHORT_OK;
}

static cohort_status score_all(struct preference *p, struct model *model, const struct preference_batch *batch,
                               struct preference_reference *out, cohort_error *err)
{
    struct scored scored = {p, batch, out};
    TRY(split(p, batch, false, err));
    return forward_all(p, model, batch, take_reference, &scored, err);
}

cohort_status preference_score_reference(struct preference *p, const struct preference_batch *batch,
                                         struct preference_reference *out, cohort_error *err)
{
    const bool itself = p->reference == p->model;
    size_t longest = 0;
    for (int32_t i = 0; i < batch->n; i++) {
        out[i] = (struct preference_reference){0};
        for (int32_t c = 0; c < batch->trees[i].n_completions; c++) {
            const size_t n = (size_t)batch->trees[i].completions[c].n_tokens;
            longest = n > longest ? n : longest;
        }
    }
    if (p->reference == NULL)
        return COHORT_OK;
    TRY(mem_grow(&p->values, &p->value_capacity, longest, sizeof *p->values, "log-probs", err));
    if (itself)
        model_wear(p->model, p->reference_adapter);
    const cohort_status status = score_all(p, p->reference, batch, out, err);
    if (itself)
        model_wear(p->model, p->model->adapter);
    return status;
}

static cohort_status reference_scores(struct preference *p, const struct preference_batch *batch, cohort_error *err)
{
    struct preference_reference *scores = NULL;
    if (batch->reference != NULL || p->reference == NULL)
        return COHORT_OK;
    TRY(mem_alloc(&scores, (size_t)batch->n, sizeof *scores, "reference", err));
    const cohort_status status = preference_score_reference(p, batch, scores, err);
    for (int32_t i = 0; status == COHORT_OK && i < batch->n; i++) {
        side_of(&p->pairs[i], 0)->reference = scores[i].chosen;
        if (!p->pairs[i].single)
            p->pairs[i].rejected.reference = scores[i].rejected;
    }
    mem_free(scores);
    return status;
}

/* The prompts of a batch with completions that belong to others. */
struct mismatched {
    struct tree *trees;
    struct completion_tokens *completions;
    struct preference_batch batch;
};

static void mismatched_free(struct mismatched *m)
{
    mem_free(m->trees);
    mem_free(m->completions);
}

/* *m is zeroed. */
static cohort_status mismatch(const struct preference *p, const struct preference_batch *batch, struct mismatched *m,
                              cohort_error *err)
{
    const size_t n = (size_t)batch->n;
    TRY(mem_alloc(&m->trees, n, sizeof *m->trees, "rows", err));
    TRY(mem_alloc(&m->completions, n, sizeof *m->completions, "rows", err));
    for (size_t i = 0; i < n; i++) {
        const int32_t room = p->max_length - batch->trees[i].n_prompt;
        m->completions[i] =
            batch->mismatched != NULL ? batch->mismatched[i] : batch->trees[(i + n - 1) % n].completions[0];
        m->completions[i].n_tokens = m->completions[i].n_tokens < room ? m->completions[i].n_tokens : room;
        m->trees[i] = batch->trees[i];
        m->trees[i].completions = &m->completions[i];
    }
    m->batch = (struct preference_batch){.trees = m->trees, .n = batch->n};
    return COHORT_OK;
}

cohort_status preference_score_mismatched(struct preference *p, const struct preference_batch *batch,
                                          struct preference_reference *out, cohort_error *err)
{
    struct mismatched m = {0};
    struct preference_reference *scores = NULL;
    cohort_status status = COHORT_OK;
    TRY_GOTO(mem_alloc(&scores, (size_t)batch->n, sizeof *scores, "reference", err));
    TRY_GOTO(mismatch(p, batch, &m, err));
    TRY_GOTO(preference_score_reference(p, &m.batch, scores, err));
    for (int32_t i = 0; i < batch->n; i++)
        out[i].rejected = scores[i].chosen;
cleanup:
    mismatched_free(&m);
    mem_free(scores);
    return status;
}

/* KTO's estimate of the KL to the reference: of completions that belong to other prompts, the mean of the log-ratio,
 * at least 0. It is a constant of the loss. */
static cohort_status mismatched_kl(struct preference *p, const struct preference_batch *batch, double *kl,
                                   cohort_error *err)
{
    const size_t n = (size_t)batch->n;
    const bool known = batch->reference != NULL && batch->mismatched != NULL;
    struct mismatched m = {0};
    struct preference_reference *policy = NULL, *reference = NULL;
    double sum = 0.0;
    cohort_status status = COHORT_OK;
    *kl = 0.0;
    if (!preference_needs_kl(&p->config))
        return COHORT_OK;
    TRY_GOTO(mismatch(p, batch, &m, err));
    TRY_GOTO(mem_alloc(&policy, n, sizeof *policy, "rows", err));
    if (!known) {
        TRY_GOTO(mem_alloc(&reference, n, sizeof *reference, "rows", err));
        TRY_GOTO(preference_score_reference(p, &m.batch, reference, err));
    }
    TRY_GOTO(score_all(p, p->model, &m.batch, policy, err));
    for (size_t i = 0; i < n; i++)
        sum += policy[i].chosen - (known ? batch->reference[i].rejected : reference[i].chosen);
    *kl = sum > 0.0 ? sum / (double)n : 0.0;
    if (isnan(sum))
        *kl = sum;
cleanup:
    mismatched_free(&m);
    mem_free(policy);
    mem_free(reference);
    return status;
}

/* ---- A micro-batch ---- */

/* Calls each for the completions of the micro-batch in hand: k is their place in it. */
typedef void visitor(struct preference *p, const struct tree *tree, struct preference_pair *pair, int32_t completion,
                     int32_t k, struct figures *figures);
static void each_completion(struct preference *p, const struct preference_batch *batch, int32_t micro, visitor *visit,
                            struct figures *figures)
{
    const struct packing *packing = &p->runner->packing;
    int32_t k = 0;
    for (int32_t s = packing->slice_begin[micro]; s < packing->slice_begin[micro + 1]; s++) {
        const struct tree_slice *slice = &packing->slices[s];
        for (int32_t c = slice->begin; c < slice->end; c++, k++)
            visit(p, &batch->trees[slice->tree], &p->pairs[slice->tree], c, k, figures);
    }
}

/* The sum of a completion's outputs, in the order of its tokens. */
static double sum_outputs(struct preference *p, int32_t k, int32_t n, const float *outputs)
{
    double sum = 0.0;
    packed_gather(&p->runner->packed, k, n, outputs, p->values);
    for (int32_t t = 0; t < n; t++)
        sum += (double)p->values[t];
    return sum;
}

/* Read the forward's outputs of a completion. */
static void take_head_score(struct preference *p, const struct tree *tree, struct preference_pair *pair, int32_t c,
                            int32_t k, struct figures *figures)
{
    struct preference_side *side = side_of(pair, c);
    (void)tree;
    (void)figures;
    side->score = side->sum = (double)p->runner->scores[p->runner->packed.first_output[k]];
}

static void take_scores(struct preference *p, const struct tree *tree, struct preference_pair *pair, int32_t c,
                        int32_t k, struct figures *figures)
{
    const struct tree_runner *runner = p->runner;
    struct preference_side *side = side_of(pair, c);
    const int32_t n = side->n, first = runner->packed.first_output[k], rest = runner->packed.rest_output[k];
    const double logits = sum_outputs(p, k, n, runner->mean) + sum_outputs(p, k, n, runner->lse);
    figures->entropy += sum_outputs(p, k, n, runner->entropy);
    if (side == &pair->chosen) {
        figures->chosen += n;
        figures->logits_chosen += logits;
        figures->right += runner->top[first];
        for (int32_t t = 0; t + 1 < n; t++)
            figures->right += runner->top[rest + t];
    } else {
        figures->rejected += n;
        figures->logits_rejected += logits;
    }
    if (p->config.weighting)
        side->weight = -sum_outputs(p, k, n, runner->squares);
    side->sum = sum_outputs(p, k, n, runner->logp);
    side->score = score_of(&p->config, tree, p->values, n);
    if (p->config.weighting) /* exp of the mean of log p - log of the sum of p^2 */
        side->weight = exp((side->sum + side->weight) / (double)n);
}

/* The prompts of the micro-batch whose log-probs are wanted: their sums are read, or what they weigh is written. */
static void each_prompt(struct preference *p, const struct preference_batch *batch, int32_t micro, bool derive)
{
    struct tree_runner *runner = p->runner;
    const int32_t begin = runner->packing.slice_begin[micro], end = runner->packing.slice_begin[micro + 1];
    for (int32_t s = begin; s < end; s++) {
        const int32_t first = runner->packed.prompt_output[s - begin], i = runner->packing.slices[s].tree;
        double sum = 0.0;
        for (int32_t t = 0; first >= 0 && t + 1 < batch->trees[i].n_prompt; t++) {
            if (derive)
                runner->d_logp[first + t] = (float)p->pairs[i].d_prompt;
            sum += (double)runner->logp[first + t];
        }
        if (first >= 0 && !derive)
            p->pairs[i].prompt = sum;
    }
}

/* Leave the derivatives of the step's loss in the runner. */
static void give_head_derivative(struct preference *p, const struct tree *tree, struct preference_pair *pair, int32_t c,
                                 int32_t k, struct figures *figures)
{
    (void)tree;
    (void)figures;
    p->runner->d_scores[p->runner->packed.first_output[k]] = (float)side_of(pair, c)->d_score;
}

static void give_derivatives(struct preference *p, const struct tree *tree, struct preference_pair *pair, int32_t c,
                             int32_t k, struct figures *figures)
{
    const struct preference_side *side = side_of(pair, c);
    (void)figures;
    for (int32_t t = 0; t < side->n; t++)
        p->values[t] = (float)(side->d_score * weight_at(&p->config, tree, t) + side->d_sum);
    packed_scatter(&p->runner->packed, k, side->n, p->values, p->runner->d_logp);
}

static cohort_status apply(struct preference *p, const struct preference_scale *scale, int32_t first, int32_t n,
                           struct figures *figures, cohort_error *err)
{
    preference_apply(&p->config, scale, p->pairs + first, n, &figures->sums, p->order);
    for (int32_t i = first; i < first + n; i++) {
        const struct preference_pair *pair = &p->pairs[i];
        if (!isfinite(pair->loss + pair->chosen.sum + pair->rejected.sum) ||
            !isfinite(pair->chosen.d_score + pair->rejected.d_score))
            return preference_scores(&p->config)
                       ? error_set(err, COHORT_ERR_NUMERIC, "row %d of the step: the loss is %g, the scores %g and %g",
                                   (int)i, pair->loss, pair->chosen.score, pair->rejected.score)
                       : error_set(
                             err, COHORT_ERR_NUMERIC,
                             "row %d of the step: the loss is %g, its derivatives %g and %g; log-probs of the chosen "
                             "completion %g, of the rejected one %g, of the reference %g and %g",
                             (int)i, pair->loss, pair->chosen.d_score, pair->rejected.d_score, pair->chosen.score,
                             pair->rejected.score, pair->chosen.reference, pair->rejected.reference);
    }
    return COHORT_OK;
}

/* A pass over the micro-batches of a step. */
struct pass {
    struct preference *p;
    const struct preference_batch *batch;
    const struct preference_scale *scale;
    struct figures *figures;
    bool ahead; /* losses and derivatives are found once all scores are there, before the first backward */
};

static cohort_status take_losses(void *context, int32_t m, cohort_error *err)
{
    const struct pass *pass = context;
    struct preference *p = pass->p;
    const struct packing *packing = &p->runner->packing;
    pass->figures->fed += p->runner->packed.batch.n_tokens;
    each_completion(p, pass->batch, m, preference_scores(&p->config) ? take_head_score : take_scores, pass->figures);
    each_prompt(p, pass->batch, m, false);
    if (pass->ahead)
        return COHORT_OK;
    return apply(p, pass->scale, packing->slices[packing->slice_begin[m]].tree,
                 packing->slice_begin[m + 1] - packing->slice_begin[m], pass->figures, err);
}

/* A micro-batch of this rank. */
static cohort_status compute(struct pass *pass, struct lanes *lanes, int32_t m, cohort_error *err)
{
    struct preference *p = pass->p;
    struct tree_runner *runner = p->runner;
    struct figures own = {0}; /* the others' are not known yet */
    TRY(forward(p, p->model, pass->batch, m, err));
    if (runner->packing.n_micro == 1)
        TRY(routing_prepare(&p->routing, runner, p->model, pass->batch->trees, pass->batch->n, false, err));
    if (lanes_shared(lanes))
        TRY(pass->ahead ? lanes_keep_begin(lanes, err) : lanes_keep_outputs(lanes, runner, err));
    TRY(routing_keep(&p->routing, runner, p->model, lanes, err));
    if (!pass->ahead && lanes_shared(lanes)) { /* summed with those of the others, where a failure is found by all */
        struct pass alone = *pass;
        alone.figures = &own;
        if (take_losses(&alone, m, NULL) != COHORT_OK)
            return COHORT_OK;
    } else if (!pass->ahead) {
        TRY(take_losses(pass, m, err));
    }
    each_completion(p, pass->batch, m, preference_scores(&p->config) ? give_head_derivative : give_derivatives, &own);
    each_prompt(p, pass->batch, m, true);
    tree_runner_backward(runner, p->model, 1.0f, false);
    return backend_check(p->model->backend, err);
}

/* The sums over the micro-batches of all ranks, in their order. */
static cohort_status sum_shared(struct pass *pass, struct lanes *lanes, cohort_error *err)
{
    struct tree_runner *runner = pass->p->runner;
    TRY(lanes_share(lanes, err));
    for (int32_t m = 0; m < runner->packing.n_micro; m++) {
        TRY(packed_build(&runner->packed, pass->batch->trees, &runner->packing, m, err));
        if (!pass->ahead)
            TRY(lanes_take_outputs(lanes, m, runner, err));
        TRY(routing_take(&pass->p->routing, pass->p->model, lanes, m, err));
        if (!pass->ahead)
            TRY(take_losses(pass, m, err));
    }
    return COHORT_OK;
}

static cohort_status train(struct pass *pass, cohort_error *err)
{
    struct preference *p = pass->p;
    struct tree_runner *runner = p->runner;
    struct lanes lanes = {0};
    cohort_status status = COHORT_OK;
    TRY(routing_begin(&p->routing, runner, p->model, err));
    if (runner->packing.n_micro > 1)
        TRY(routing_prepare(&p->routing, runner, p->model, pass->batch->trees, pass->batch->n, false, err));
    lanes_begin(&lanes, p->model->trained, runner->packing.n_micro, true);
    for (int32_t m = 0; m < runner->packing.n_micro; m++) {
        if (lanes_mine(&lanes, m))
            TRY_GOTO(compute(pass, &lanes, m, err));
        TRY_GOTO(lanes_count(&lanes, m, err));
    }
    if (lanes_shared(&lanes) && (!pass->ahead || p->routing.sums != NULL))
        TRY_GOTO(sum_shared(pass, &lanes, err));
cleanup:
    lanes_free(&lanes);
    return status;
}

/* Runs all micro-batches, with train also their backward. Where a loss sees all pairs at once, or the sides of one are in
 * two micro-batches, all scores are computed first, and the forwards again before their backwards. */
static cohort_status run(struct preference *p, const struct preference_batch *batch, bool trains,
                         struct preference_scale *scale, struct figures *figures, cohort_error *err)
{
    const struct packing *packing = &p->runner->packing;
    TRY(reference_scores(p, batch, err));
    TRY(mismatched_kl(p, batch, &scale->kl, err));
    TRY(split(p, batch, trains, err));
    struct pass pass = {p, batch, scale, figures,
                        packing->n_micro > 1 && (packing->n_slices != batch->n || preference_spans(&p->config))};
    if (pass.ahead || !trains)
        TRY(forward_all(p, p->model, batch, take_losses, &pass, err));
    if (pass.ahead)
        TRY(apply(p, scale, 0, batch->n, figures, err));
    return trains ? train(&pass, err) : COHORT_OK;
}

/* ---- The step ---- */

static double mean_of(double sum, int64_t n) { return sum / (n > 0 ? (double)n : 1.0); }

/* What TRL's RewardTrainer logs. */
static void write_scores(const struct figures *f, const char *prefix, struct metrics *metrics)
{
    const struct preference_sums *sums = &f->sums;
    metrics_setf(metrics, sums->least, "%smin_reward", prefix);
    metrics_setf(metrics, mean_of(sums->reward_chosen + sums->reward_rejected, sums->chosen + sums->rejected),
                 "%smean_reward", prefix);
    metrics_setf(metrics, sums->most, "%smax_reward", prefix);
    metrics_setf(metrics, mean_of(sums->accuracy, sums->chosen), "%saccuracy", prefix);
    metrics_setf(metrics, mean_of(sums->reward_chosen - sums->reward_rejected, sums->chosen), "%smargin", prefix);
}

static void write_figures(const struct preference *p, const struct figures *f, const struct preference_scale *scale,
                          const char *prefix, double aux, struct metrics *metrics)
{
    const struct preference_sums *sums = &f->sums;
    const bool single = preference_is_single(&p->config);
    const double chosen = mean_of(sums->reward_chosen, sums->chosen),
                 rejected = mean_of(sums->reward_rejected, sums->rejected);
    metrics_setf(metrics, sums->loss + aux, "%sloss", prefix);
    if (preference_scores(&p->config)) {
        write_scores(f, prefix, metrics);
        return;
    }
    metrics_setf(metrics, mean_of(f->entropy, f->chosen + f->rejected), "%sentropy", prefix);
    if (preference_is_single(&p->config))
        metrics_setf(metrics, scale->kl, "%skl", prefix);
    if (sums->chosen > 0) {
        metrics_setf(metrics, mean_of((double)f->right, f->chosen), "%smean_token_accuracy", prefix);
        metrics_setf(metrics, chosen, "%srewards/chosen", prefix);
        metrics_setf(metrics, mean_of(sums->logp_chosen, sums->chosen), "%slogps/chosen", prefix);
        metrics_setf(metrics, mean_of(f->logits_chosen, f->chosen), "%slogits/chosen", prefix);
    }
    if (sums->rejected > 0) {
        metrics_setf(metrics, rejected, "%srewards/rejected", prefix);
        metrics_setf(metrics, mean_of(sums->logp_rejected, sums->rejected), "%slogps/rejected", prefix);
        metrics_setf(metrics, mean_of(f->logits_rejected, f->rejected), "%slogits/rejected", prefix);
    }
    if (!single)
        metrics_setf(metrics, mean_of(sums->accuracy, sums->chosen), "%srewards/accuracies", prefix);
    if (sums->chosen > 0 && sums->rejected > 0)
        metrics_setf(metrics, chosen - rejected, "%srewards/margins", prefix);
    if (!preference_needs_reference(&p->config))
        metrics_setf(metrics, p->config.nll == 0.0 ? 0.0 : mean_of(sums->nll, scale->n_chosen), "%snll_loss", prefix);
    if (p->config.terms[0].loss == PREFERENCE_ORPO) {
        metrics_setf(metrics, mean_of(sums->log_odds, sums->chosen), "%slog_odds_ratio", prefix);
        metrics_setf(metrics, mean_of(sums->odds, sums->chosen), "%slog_odds_chosen", prefix);
    }
}

cohort_status preference_step(struct preference *p, const struct preference_batch *batch, struct metrics *metrics,
                              cohort_error *err)
{
    const double start = clock_seconds();
    double grad_norm = 0.0;
    bool skipped = false;
    struct preference_scale scale;
    struct figures figures;
    cohort_error problem = {0};
    p->warning[0] = '\0';
    cohort_status status = begin(p, batch, &scale, &figures, &problem);
    if (status == COHORT_OK)
        status = run(p, batch, true, &scale, &figures, &problem);
    if (status == COHORT_OK)
        status = routing_end(&p->routing, p->runner, p->model, metrics, &problem);
    p->runner->decoder.experts.on = (struct expert_switches){0};
    if (status != COHORT_OK) /* half a gradient must not reach the next step */
        param_set_zero_grad(p->model->trained);
    if (status != COHORT_OK && status != COHORT_ERR_NUMERIC)
        return error_set(err, status, "%s", problem.message);
    const double rate = schedule_rate(&p->schedule, p->optimizer.step + p->skipped);
    if (status == COHORT_ERR_NUMERIC) {
        skipped = true;
        grad_norm = (double)NAN;
        snprintf(p->warning, sizeof p->warning, "update skipped: %.380s", problem.message);
    } else {
        TRY(optimizer_apply(&p->optimizer, p->model->trained, rate, &grad_norm, &skipped, err));
        model_refresh(p->model);
        if (skipped)
            number_format(p->warning, sizeof p->warning, "update skipped: the gradient norm is %g", grad_norm);
    }
    p->skipped += skipped ? 1 : 0;
    p->tokens_seen += figures.tokens;
    const double seconds = clock_seconds() - start;
    write_figures(p, &figures, &scale, "", routing_loss(&p->routing), metrics);
    metrics_set(metrics, "grad_norm", grad_norm);
    metrics_set(metrics, "learning_rate", rate);
    metrics_set(metrics, "num_tokens", (double)p->tokens_seen);
    metrics_set(metrics, "skipped_steps", (double)p->skipped);
    metrics_set(metrics, "step_time", seconds);
    metrics_set(metrics, "throughput/train_tokens_per_second", (double)figures.fed / seconds);
    return COHORT_OK;
}

cohort_status preference_evaluate(struct preference *p, const struct preference_batch *batch, struct metrics *metrics,
                                  cohort_error *err)
{
    struct preference_scale scale;
    struct figures figures;
    TRY(begin(p, batch, &scale, &figures, err));
    TRY(run(p, batch, false, &scale, &figures, err));
    write_figures(p, &figures, &scale, "eval_", 0.0, metrics);
    return COHORT_OK;
}

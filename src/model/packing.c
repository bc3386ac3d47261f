#include "model/packing.h"

#include "model/param_shard.h"

#include <assert.h>
#include <string.h>

static bool is_wanted(const struct completion_tokens *completion, int32_t token)
{
    return completion->sampled == NULL || completion->sampled[token];
}

int32_t completion_outputs(const struct completion_tokens *completion)
{
    int32_t n = 0;
    for (int32_t i = 0; i < completion->n_tokens; i++)
        n += is_wanted(completion, i) ? 1 : 0;
    return n;
}

int32_t completion_fed(const struct completion_tokens *completion)
{
    int32_t last = completion->n_tokens - 1;
    while (last > 0 && !is_wanted(completion, last))
        last--;
    return last > 0 ? last : 0;
}

static int32_t fed_of(const struct packing *packing, const struct completion_tokens *completion)
{
    return packing->scored ? completion->n_tokens : completion_fed(completion);
}

/* Tokens of its completions that are fed. */
static int64_t fed_by(const struct packing *packing, const struct tree *tree)
{
    int64_t n = 0;
    for (int32_t c = 0; c < tree->n_completions; c++)
        n += fed_of(packing, &tree->completions[c]);
    return n;
}

static cohort_status open_micro(struct packing *p, cohort_error *err)
{
    TRY(mem_grow(&p->slice_begin, &p->micro_capacity, (size_t)p->n_micro + 2, sizeof *p->slice_begin, "micro-batches",
                 err));
    p->slice_begin[p->n_micro++] = p->n_slices;
    p->slice_begin[p->n_micro] = p->n_slices;
    return COHORT_OK;
}

static cohort_status open_slice(struct packing *p, int32_t tree, int32_t begin, cohort_error *err)
{
    TRY(mem_grow(&p->slices, &p->slice_capacity, (size_t)p->n_slices + 1, sizeof *p->slices, "micro-batch slices",
                 err));
    p->slices[p->n_slices++] = (struct tree_slice){.tree = tree, .begin = begin, .end = begin};
    p->slice_begin[p->n_micro] = p->n_slices;
    return COHORT_OK;
}

cohort_status packing_split(struct packing *packing, const struct tree *trees, int32_t n_trees, int64_t max_tokens,
                            int64_t max_completions, cohort_error *err)
{
    int64_t used = 0, completions = 0;
    packing->n_micro = packing->n_slices = 0;
    for (int32_t t = 0; t < n_trees; t++) {
        bool open = false; /* this tree has a slice in the current micro-batch */
        const int64_t all = trees[t].n_prompt + fed_by(packing, &trees[t]), n = trees[t].n_completions;
        if (packing->whole && packing->n_micro > 0 && all <= max_tokens && n <= max_completions &&
            (used + all > max_tokens || completions + n > max_completions)) {
            TRY(open_micro(packing, err));
            used = completions = 0;
        }
        for (int32_t c = 0; c < trees[t].n_completions; c++) {
            int64_t more = fed_of(packing, &trees[t].completions[c]);
            int64_t alone = trees[t].n_prompt + more;
            if (alone > max_tokens)
                return error_set(err, COHORT_ERR_ARGUMENT,
                                 "a prompt of %d tokens with a completion of %d needs %lld tokens "
                                 "in one micro-batch, the limit is %lld; "
                                 "raise micro_batch_tokens or shorten the row",
                                 (int)trees[t].n_prompt, (int)trees[t].completions[c].n_tokens, (long long)alone,
                                 (long long)max_tokens);
            if (packing->n_micro == 0 || used + (open ? more : alone) > max_tokens || completions == max_completions) {
                TRY(open_micro(packing, err));
                used = completions = 0;
                open = false;
            }
            if (!open) {
                TRY(open_slice(packing, t, c, err));
                used += trees[t].n_prompt;
                open = true;
            }
            packing->slices[packing->n_slices - 1].end = c + 1;
            used += more;
            completions++;
        }
    }
    return COHORT_OK;
}

void packing_free(struct packing *packing)
{
    mem_free(packing->slices);
    mem_free(packing->slice_begin);
    memset(packing, 0, sizeof *packing);
}

static cohort_status reserve(struct packed *packed, const struct tree *trees, const struct packing *packing,
                             int32_t micro, cohort_error *err)
{
    size_t tokens = 0, seqs = 0, outputs = 0, completions = 0, waves = 1;
    for (int32_t s = packing->slice_begin[micro]; s < packing->slice_begin[micro + 1]; s++) {
        const struct tree_slice *slice = &packing->slices[s];
        const struct tree *tree = &trees[slice->tree];
        tokens += (size_t)tree->n_prompt;
        outputs += tree->prompt_wanted ? (size_t)tree->n_prompt : 0;
        seqs += 1 + (size_t)(slice->end - slice->begin);
        completions += (size_t)(slice->end - slice->begin);
        if ((size_t)(slice->end - slice->begin) > waves)
            waves = (size_t)(slice->end - slice->begin);
        for (int32_t c = slice->begin; c < slice->end; c++) {
            tokens += (size_t)fed_of(packing, &tree->completions[c]);
            outputs += packing->scored ? 1 : (size_t)tree->completions[c].n_tokens;
        }
    }
    TRY(batch_reserve(&packed->batch, tokens, seqs, 2 * seqs, err));
    TRY(mem_grow(&packed->prompt_output, &packed->slice_capacity,
                 (size_t)(packing->slice_begin[micro + 1] - packing->slice_begin[micro]), sizeof(int32_t), "prompts",
                 err));
    size_t capacity = packed->output_capacity;
    TRY(mem_grow(&packed->outputs.row, &capacity, outputs, sizeof(int32_t), "outputs", err));
    TRY(mem_grow(&packed->outputs.target, &packed->output_capacity, outputs, sizeof(int32_t), "outputs", err));
    capacity = packed->completion_capacity;
    TRY(mem_grow(&packed->first_output, &capacity, completions, sizeof(int32_t), "completions", err));
    TRY(mem_grow(&packed->rest_output, &packed->completion_capacity, completions, sizeof(int32_t), "completions", err));
    return mem_grow(&packed->outputs.wave_begin, &packed->wave_capacity, waves + 1, sizeof(int32_t), "waves", err);
}

static int32_t add_output(struct head_outputs *outputs, int32_t row, int32_t target)
{
    outputs->row[outputs->count] = row;
    outputs->target[outputs->count] = target;
    return outputs->count++;
}

/* The outputs of a completion's tokens, each the 4 bytes of a number. */
static void scatter(const struct packed *packed, int32_t c, int32_t n, const void *values, void *outputs)
{
    const int32_t first = packed->first_output[c], ahead = first >= 0 ? 1 : 0;
    const char *from = values;
    char *to = outputs;
    if (n == 0)
        return;
    if (first >= 0)
        memcpy(to + (size_t)first * 4, from, 4);
    memcpy(to + (size_t)packed->rest_output[c] * 4, from + 4 * ahead, (size_t)(n - ahead) * 4);
}

/* The masks of the completion that is the c-th here. */
static cohort_status replay_masks(struct packed *packed, const struct completion_tokens *completion, int32_t c,
                                  cohort_error *err)
{
    const struct mask_replay *replay = completion->masks;
    const int32_t most = completion_outputs(completion);
    bool running = false;
    TRY(mem_grow(&packed->completion_mask, &packed->completion_mask_capacity, (size_t)most, sizeof(int32_t), "masks",
                 err));
    for (int32_t t = 0, n = 0; n < most; t++) {
        const int32_t token = completion->tokens[t];
        int32_t index = -1;
        if (!is_wanted(completion, t)) {
            running = false;
            continue;
        }
        if (!running)
            replay->begin(replay->context, t);
        running = true;
        const uint32_t *allowed = replay->allowed(replay->context);
        if (allowed != NULL)
            TRY(token_masks_add(&packed->masks, allowed, replay->n_ids, packed->vocab, &index, err));
        if (index >= 0 && !token_masks_has(&packed->masks, index, token))
            return error_set(
                err, COHORT_ERR_STATE,
                "token %d of a completion (id %d) is not one that its guide allows there: it was not drawn "
                "with this guide",
                (int)t, (int)token);
        replay->accept(replay->context, token);
        packed->completion_mask[n++] = index;
    }
    scatter(packed, c, most, packed->completion_mask, packed->outputs.mask);
    return COHORT_OK;
}

/* The masks of all completions of a micro-batch, where it has any. */
static cohort_status add_masks(struct packed *packed, const struct tree *trees, const struct packing *packing,
                               int32_t micro, cohort_error *err)
{
    const int32_t begin = packing->slice_begin[micro], end = packing->slice_begin[micro + 1];
    bool any = false;
    packed->outputs.masks = NULL;
    for (int32_t s = begin; packed->vocab > 0 && s < end; s++)
        for (int32_t c = packing->slices[s].begin; c < packing->slices[s].end; c++)
            any = any || trees[packing->slices[s].tree].completions[c].masks != NULL;
    if (!any)
        return COHORT_OK;
    TRY(mem_grow(&packed->outputs.mask, &packed->mask_capacity, (size_t)packed->outputs.count, sizeof(int32_t), "masks",
                 err));
    for (int32_t i = 0; i < packed->outputs.count; i++)
        packed->outputs.mask[i] = -1;
    token_masks_clear(&packed->masks);
    packed->outputs.masks = &packed->masks;
    for (int32_t s = begin, at = 0; s < end; s++)
        for (int32_t c = packing->slices[s].begin; c < packing->slices[s].end; c++, at++)
            if (trees[packing->slices[s].tree].completions[c].masks != NULL)
                TRY(replay_masks(packed, &trees[packing->slices[s].tree].completions[c], at, err));
    return COHORT_OK;
}

cohort_status packed_build(struct packed *packed, const struct tree *trees, const struct packing *packing,
                           int32_t micro, cohort_error *err)
{
    struct batch *batch = &packed->batch;
    struct head_outputs *outputs = &packed->outputs;
    TRY(reserve(packed, trees, packing, micro, err));
    batch_clear(batch);
    outputs->count = 0;
    packed->n_completions = 0;
    int32_t most = 0; /* completions of one tree: the number of waves */
    int32_t begin = packing->slice_begin[micro], end = packing->slice_begin[micro + 1];
    /* Rows, and the outputs that stand on rows of their own. */
    for (int32_t s = begin; s < end; s++) {
        const struct tree_slice *slice = &packing->slices[s];
        const struct tree *tree = &trees[slice->tree];
        int32_t tree_index = s - begin, prompt_row = batch->n_tokens;
        assert(tree->n_prompt > 0 || packing->scored);
        if (tree->n_prompt > 0) {
            batch_add_seq(batch, tree->prompt, tree->n_prompt, 0, tree_index);
            batch_add_span(batch, 0, prompt_row, tree->n_prompt);
        }
        packed->prompt_output[tree_index] = tree->prompt_wanted && slice->begin == 0 ? outputs->count : -1;
        for (int32_t i = 1; i < tree->n_prompt && packed->prompt_output[tree_index] >= 0; i++)
            add_output(outputs, prompt_row + i - 1, tree->prompt[i]);
        if (packed->route_width > 0 && tree->n_prompt > 0)
            TRY(batch_add_routes(batch, tree->n_prompt, slice->end - slice->begin, tree->prompt_routes,
                                 packed->route_width, err));
        for (int32_t c = slice->begin; c < slice->end; c++) {
            const struct completion_tokens *completion = &tree->completions[c];
            int32_t fed = fed_of(packing, completion), row = batch->n_tokens;
            const int32_t prompt_end = prompt_row + tree->n_prompt - 1;
            packed->rest_output[packed->n_completions] = outputs->count;
            packed->first_output[packed->n_completions] =
                packing->scored ? (fed > 0 ? row + fed - 1 : prompt_end)
                                : (completion->n_tokens > 0 && is_wanted(completion, 0) ? prompt_end : -1);
            packed->n_completions++;
            if (fed == 0)
                continue;
            batch_add_seq(batch, completion->tokens, fed, tree->n_prompt, tree_index);
            if (tree->n_prompt > 0)
                batch_add_span(batch, 0, prompt_row, tree->n_prompt);
            batch_add_span(batch, tree->n_prompt, row, fed);
            if (packed->route_width > 0)
                TRY(batch_add_routes(batch, fed, 1, completion->routes, packed->route_width, err));
            for (int32_t i = 0; i < fed && !packing->scored; i++)
                if (is_wanted(completion, i + 1))
                    add_output(outputs, row + i, completion->tokens[i + 1]);
        }
        if (slice->end - slice->begin > most)
            most = slice->end - slice->begin;
    }
    for (int32_t i = 0; i < batch->n_tokens; i++)
        batch->kv_row[i] = i;
    /* First tokens all stand on their prompt's last row: the k-th completion of every tree goes into wave k.
     * first_output held the row. A score, which reads no target, is an output of the same kind. */
    outputs->n_waves = most;
    outputs->wave_begin[0] = 0;
    for (int32_t wave = 0; wave < most; wave++) {
        for (int32_t s = begin, base = 0; s < end; s++) {
            const struct tree_slice *slice = &packing->slices[s];
            int32_t count = slice->end - slice->begin;
            if (wave < count && packed->first_output[base + wave] >= 0) {
                const struct completion_tokens *completion = &trees[slice->tree].completions[slice->begin + wave];
                packed->first_output[base + wave] =
                    add_output(outputs, packed->first_output[base + wave], packing->scored ? 0 : completion->tokens[0]);
            }
            base += count;
        }
        outputs->wave_begin[wave + 1] = outputs->count;
    }
    return add_masks(packed, trees, packing, micro, err);
}

void packed_free(struct packed *packed)
{
    batch_free(&packed->batch);
    mem_free(packed->outputs.row);
    mem_free(packed->outputs.target);
    mem_free(packed->outputs.wave_begin);
    mem_free(packed->outputs.mask);
    mem_free(packed->completion_mask);
    token_masks_free(&packed->masks);
    mem_free(packed->first_output);
    mem_free(packed->rest_output);
    mem_free(packed->prompt_output);
    memset(packed, 0, sizeof *packed);
}

void packed_gather(const struct packed *packed, int32_t c, int32_t n, const float *outputs, float *values)
{
    const int32_t first = packed->first_output[c], ahead = first >= 0 ? 1 : 0;
    if (n == 0)
        return;
    if (first >= 0)
        values[0] = outputs[first];
    memcpy(values + ahead, outputs + packed->rest_output[c], (size_t)(n - ahead) * sizeof *values);
}

void packed_scatter(const struct packed *packed, int32_t c, int32_t n, const float *values, float *outputs)
{
    scatter(packed, c, n, values, outputs);
}

cohort_status packed_decoder_plan(struct decoder_work *work, struct arena *arena, const struct model_config *config,
                                  enum dtype act, int64_t max_tokens, enum decoder_mode mode, cohort_error *err)
{
    TRY(decoder_work_plan(work, arena, config, act, max_tokens, mode, err));
    if (mode != DECODER_INFER)
        return COHORT_OK;
    work->kv.rows = max_tokens;
    work->kv.layer_bytes = 0;
    work->kv.k = arena_take(arena, kv_layer_bytes(config, act, false, max_tokens));
    work->kv.v = arena_take(arena, kv_layer_bytes(config, act, false, max_tokens));
    return COHORT_OK;
}

int64_t tree_runner_chunk(const struct tree_runner *runner, const struct model_config *config)
{
    return head_chunk(config, runner->logits_bytes > 0 ? runner->logits_bytes : 64 << 20);
}

cohort_status tree_runner_plan(struct tree_runner *runner, struct arena *arena, const struct model_config *config,
                               enum dtype act, int64_t max_tokens, int64_t max_completions, enum decoder_mode mode,
                               cohort_error *err)
{
    runner->max_tokens = max_tokens;
    runner->max_outputs = max_tokens + max_completions;
    runner->decoder.noisy = runner->extras.noise;
    runner->packing.whole = runner->extras.whole;
    runner->packing.scored = runner->extras.scores;
    runner->head.masked = runner->extras.masks;
    runner->packed.vocab = runner->extras.masks ? config->vocab_size : 0;
    runner->head.extended = runner->extras.top || runner->extras.mean || runner->extras.squares;
    runner->head.compared = runner->extras.compare;
    TRY(packed_decoder_plan(&runner->decoder, arena, config, act, max_tokens, mode, err));
    runner->packed.route_width = mode == DECODER_INFER ? 0 : route_width(config);
    if (runner->extras.scores)
        score_work_plan(&runner->score, arena, config, act, max_completions, mode != DECODER_INFER);
    else
        head_work_plan(&runner->head, arena, config, act, runner->max_outputs, tree_runner_chunk(runner, config),
                       mode != DECODER_INFER, runner->keep_logits && !runner->extras.compare && mode != DECODER_INFER);
    if (runner->logp != NULL || runner->scores != NULL)
        return COHORT_OK;
    if (runner->extras.scores) {
        const size_t n_scores = (size_t)max_completions * (size_t)config->n_labels;
        TRY(mem_alloc(&runner->scores, n_scores, sizeof(float), "scores", err));
        return mem_alloc(&runner->d_scores, n_scores, sizeof(float), "score gradients", err);
    }
    size_t n = (size_t)runner->max_outputs;
    TRY(mem_alloc(&runner->logp, n, sizeof(float), "log-probs", err));
    TRY(mem_alloc(&runner->entropy, n, sizeof(float), "entropies", err));
    TRY(mem_alloc(&runner->d_logp, n, sizeof(float), "log-prob gradients", err));
    if (runner->extras.mean)
        TRY(mem_alloc(&runner->mean, n, sizeof(float), "mean log-probs", err));
    if (runner->extras.d_mean)
        TRY(mem_alloc(&runner->d_mean, n, sizeof(float), "mean log-prob gradients", err));
    if (runner->extras.lse)
        TRY(mem_alloc(&runner->lse, n, sizeof(float), "log-sum-exps", err));
    if (runner->extras.squares)
        TRY(mem_alloc(&runner->squares, n, sizeof(float), "sums of squares", err));
    if (runner->extras.top)
        TRY(mem_alloc(&runner->top, n, sizeof *runner->top, "likeliest tokens", err));
    return mem_alloc(&runner->d_entropy, n, sizeof(float), "entropy gradients", err);
}

void tree_runner_free(struct tree_runner *runner)
{
    const struct tree_extras extras = runner->extras;
    struct ranks *ranks = runner->ranks;
    decoder_work_free(&runner->decoder);
    packing_free(&runner->packing);
    packed_free(&runner->packed);
    mem_free(runner->logp);
    mem_free(runner->entropy);
    mem_free(runner->d_logp);
    mem_free(runner->d_entropy);
    mem_free(runner->mean);
    mem_free(runner->d_mean);
    mem_free(runner->lse);
    mem_free(runner->squares);
    mem_free(runner->top);
    mem_free(runner->scores);
    mem_free(runner->d_scores);
    memset(runner, 0, sizeof *runner);
    runner->extras = extras;
    runner->ranks = ranks;
}

/* The residual after the last layer, where decoder_forward left it. */
static float *last_residual(const struct tree_runner *runner, const struct model *model)
{
    const struct decoder_work *work = &runner->decoder;
    int64_t layers = work->mode == DECODER_INFER ? 0 : model->config.n_layers;
    return work->x + layers * work->max_tokens * model->config.hidden_size;
}

void tree_runner_forward(struct tree_runner *runner, struct model *model, float temperature)
{
    assert(runner->packed.outputs.count <= runner->max_outputs);
    const float *x = decoder_forward(model, &runner->decoder, &runner->packed.batch, NULL);
    if (runner->extras.scores) {
        score_forward(model, &runner->score, x, &runner->packed.outputs, runner->scores);
        return;
    }
    head_forward(model, &runner->head, x, &runner->packed.outputs, temperature,
                 &(struct head_values){.logp = runner->logp,
                                       .entropy = runner->entropy,
                                       .mean = runner->mean,
                                       .top = runner->top,
                                       .lse = runner->lse,
                                       .squares = runner->squares});
}

void tree_runner_backward(struct tree_runner *runner, struct model *model, float temperature, bool with_entropy)
{
    struct decoder_work *work = &runner->decoder;
    struct backend *be = model->backend;
    be->ops->zero(be, work->d_x,
                  (size_t)runner->packed.batch.n_tokens * (size_t)model->config.hidden_size * sizeof(float));
    const float *x = last_residual(runner, model);
    if (runner->extras.scores)
        score_backward(model, &runner->score, x, &runner->packed.outputs, runner->d_scores, work->d_x);
    else
        head_backward(model, &runner->head, x, &runner->packed.outputs, temperature,
                      &(struct head_derivatives){.logp = runner->d_logp,
                                                 .entropy = with_entropy ? runner->d_entropy : NULL,
                                                 .mean = runner->d_mean},
                      work->d_x);
    decoder_backward(model, work, &runner->packed.batch);
}

/* Called for the completions of a micro-batch: done is the number of those of earlier ones. */
struct score_rows {
    float *const *logp, *const *entropy;
    struct text *bytes; /* of what is written to ranks, or read from them at *at; NULL: of the forward alone */
    size_t at;
    bool reads;
};

static cohort_status pass_values(struct score_rows *rows, float *values, int32_t n, cohort_error *err)
{
    const size_t size = (size_t)n * sizeof *values;
    if (!rows->reads)
        return text_append(rows->bytes, (const char *)values, size, err);
    if (rows->bytes->length - rows->at < size)
        return error_set(err, COHORT_ERR_INTERNAL, "another rank scored other completions");
    if (size > 0)
        memcpy(values, rows->bytes->data + rows->at, size);
    rows->at += size;
    return COHORT_OK;
}

/* The values of micro-batch m: from the runner, or from another rank. */
static cohort_status score_micro(const struct tree_runner *runner, const struct tree *trees, int32_t m, int32_t done,
                                 struct score_rows *rows, cohort_error *err)
{
    int32_t c = 0;
    for (int32_t s = runner->packing.slice_begin[m]; s < runner->packing.slice_begin[m + 1]; s++) {
        const struct tree_slice *slice = &runner->packing.slices[s];
        for (int32_t i = slice->begin; i < slice->end; i++, c++) {
            const int32_t n = completion_outputs(&trees[slice->tree].completions[i]);
            float *const logp = rows->logp[done + c], *const entropy =
                                                          rows->entropy == NULL ? NULL : rows->entropy[done + c];
            if (!rows->reads) {
                packed_gather(&runner->packed, c, n, runner->logp, logp);
                if (entropy != NULL)
                    packed_gather(&runner->packed, c, n, runner->entropy, entropy);
            }
            if (rows->bytes == NULL)
                continue;
            TRY(pass_values(rows, logp, n, err));
            if (entropy != NULL)
                TRY(pass_values(rows, entropy, n, err));
        }
    }
    return COHORT_OK;
}

static int32_t completions_of(const struct packing *packing, int32_t m)
{
    int32_t n = 0;
    for (int32_t s = packing->slice_begin[m]; s < packing->slice_begin[m + 1]; s++)
        n += packing->slices[s].end - packing->slices[s].begin;
    return n;
}

/* What the other ranks scored. */
static cohort_status take_scores(const struct tree_runner *runner, const struct tree *trees, const struct text *own,
                                 float *const *logp, float *const *entropy, cohort_error *err)
{
    const int32_t count = ranks_count(runner->ranks);
    struct text *all = NULL;
    struct score_rows *rows = NULL;
    int32_t done = 0;
    cohort_status status = COHORT_OK;
    TRY_GOTO(mem_alloc(&rows, (size_t)count, sizeof *rows, "scores", err));
    TRY_GOTO(ranks_gather_texts(runner->ranks, own, &all, err));
    for (int32_t r = 0; r < count; r++)
        rows[r] = (struct score_rows){.logp = logp, .entropy = entropy, .bytes = &all[r], .reads = true};
    for (int32_t m = 0; m < runner->packing.n_micro; m++) {
        if (m % count != ranks_rank(runner->ranks))
            TRY_GOTO(score_micro(runner, trees, m, done, &rows[m % count], err));
        done += completions_of(&runner->packing, m);
    }
cleanup:
    mem_free(rows);
    ranks_texts_free(runner->ranks, all);
    return status;
}

cohort_status tree_runner_score(struct tree_runner *runner, struct model *model, const struct tree *trees,
                                int32_t n_trees, float temperature, float *const *logp, float *const *entropy,
                                cohort_error *err)
{
    const int32_t count = ranks_count(runner->ranks), rank = ranks_rank(runner->ranks);
    struct text own = {0};
    struct score_rows rows = {.logp = logp, .entropy = entropy, .bytes = count > 1 ? &own : NULL};
    int32_t done = 0; /* completions of earlier micro-batches */
    cohort_status status = COHORT_OK;
    TRY(packing_split(&runner->packing, trees, n_trees, runner->max_tokens, runner->max_outputs - runner->max_tokens,
                      err));
    for (int32_t m = 0; m < runner->packing.n_micro; m++) {
        if (m % count == rank) {
            TRY_GOTO(packed_build(&runner->packed, trees, &runner->packing, m, err));
            tree_runner_forward(runner, model, temperature);
            TRY_GOTO(backend_check(model->backend, err));
            TRY_GOTO(score_micro(runner, trees, m, done, &rows, err));
        }
        done += completions_of(&runner->packing, m);
    }
    if (runner->packing.n_micro % count > 0 && rank >= runner->packing.n_micro % count)
        param_shard_attend(&model->base);
    TRY_GOTO(param_shard_check(&model->base, err));
    if (count > 1)
        TRY_GOTO(take_scores(runner, trees, &own, logp, entropy, err));
cleanup:
    text_free(&own);
    return status;
}

cohort_status tree_runner_scores(struct tree_runner *runner, struct model *model, const struct tree *trees,
                                 int32_t n_trees, float *scores, cohort_error *err)
{
    struct packed *packed = &runner->packed;
    const size_t labels = (size_t)model->config.n_labels;
    TRY(packing_split(&runner->packing, trees, n_trees, runner->max_tokens, runner->max_outputs - runner->max_tokens,
                      err));
    for (int32_t m = 0; m < runner->packing.n_micro; m++) {
        TRY(packed_build(packed, trees, &runner->packing, m, err));
        tree_runner_forward(runner, model, 1.0f);
        TRY(backend_check(model->backend, err));
        for (int32_t c = 0; c < packed->n_completions; c++, scores += labels)
            memcpy(scores, runner->scores + (size_t)packed->first_output[c] * labels, labels * sizeof *scores);
    }
    return COHORT_OK;
}

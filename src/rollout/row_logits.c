#include "rollout/row_logits.h"

#include "backend/ops.h"

#include <math.h>
#include <string.h>

cohort_status row_logits_reserve(struct row_logits *rows, const struct engine_request *ask, int32_t vocab,
                                 cohort_error *err)
{
    if (ask->n_top > 0 || ask->process != NULL)
        TRY(mem_grow(&rows->row, &rows->row_capacity, (size_t)vocab, sizeof(float), "a row of logits", err));
    if (ask->process != NULL)
        TRY(mem_grow(&rows->changed, &rows->changed_capacity, (size_t)vocab, sizeof(float), "a row of logits", err));
    return COHORT_OK;
}

void row_logits_free(struct row_logits *rows)
{
    mem_free(rows->row);
    mem_free(rows->changed);
    memset(rows, 0, sizeof *rows);
}

static float *row_at(const struct model *model, const struct head_work *head, int32_t row)
{
    return head->logits + (int64_t)row * model->config.vocab_size;
}

/* Statistics of n rows from logits on, with the temperature that draws report, in the head's buffers. */
static void stats(struct model *model, struct head_work *head, const float *logits, int32_t n, float temperature,
                  const int32_t *tokens)
{
    struct backend *be = model->backend;
    be->ops->upload(be, head->target, tokens, (size_t)n * sizeof *tokens);
    be->ops->head_stats(be, &(struct head_stats){.rows = n,
                                                 .vocab = model->config.vocab_size,
                                                 .logits = logits,
                                                 .temperature = temperature == 0.0f ? 1.0f : temperature,
                                                 .target = head->target,
                                                 .logp = head->logp,
                                                 .lse = head->lse,
                                                 .entropy = head->entropy});
}

void row_logits_score(struct model *model, struct head_work *head, int32_t first, int32_t n, float temperature,
                      const int32_t *tokens, float *logp)
{
    stats(model, head, row_at(model, head, first), n, temperature, tokens);
    model->backend->ops->download(model->backend, logp, head->logp, (size_t)n * sizeof *logp);
}

/* Puts the n largest of count logits into ids, the largest first. Not a number is less than any. */
static void largest(const float *logits, int32_t count, int32_t n, int32_t *ids)
{
    int32_t have = 0;
    for (int32_t id = 0; id < count; id++) {
        const float x = isnan(logits[id]) ? -INFINITY : logits[id];
        int32_t at = have;
        while (at > 0 && x > logits[ids[at - 1]])
            at--;
        if (at == n)
            continue;
        have += have < n ? 1 : 0;
        memmove(ids + at + 1, ids + at, (size_t)(have - at - 1) * sizeof *ids);
        ids[at] = id;
    }
}

void row_logits_top(struct row_logits *rows, struct model *model, struct head_work *head, int32_t row,
                    float temperature, int32_t n_choosable, int32_t n, int32_t *ids, float *logp)
{
    struct backend *be = model->backend;
    const int32_t vocab = model->config.vocab_size;
    be->ops->download(be, rows->row, row_at(model, head, row), (size_t)vocab * sizeof(float));
    largest(rows->row, n_choosable, n, ids);
    for (int32_t i = 0; i < n; i++)
        row_logits_score(model, head, row, 1, temperature, &ids[i], &logp[i]);
}

void row_logits_draw(struct row_logits *rows, struct model *model, struct head_work *head, const struct sequence *s,
                     int32_t n_choosable, struct sample_row *draw)
{
    struct backend *be = model->backend;
    const struct engine_request *ask = &s->request->ask;
    const int32_t vocab = model->config.vocab_size;
    const size_t bytes = (size_t)vocab * sizeof(float);
    float *at = row_at(model, head, draw->logits_row);
    be->ops->download(be, rows->row, at, bytes);
    memcpy(rows->changed, rows->row, bytes);
    ask->process(ask->process_context, s->index, s->history, ask->n_prompt + s->n_tokens, rows->changed, vocab);
    be->ops->upload(be, at, rows->changed, bytes);
    be->ops->sample(be,
                    &(struct sample){
                        .vocab = vocab, .n_choosable = n_choosable, .logits = head->logits, .rows = draw, .n_rows = 1});
    be->ops->upload(be, at, rows->row, bytes);
    if (draw->token < 0)
        return;
    stats(model, head, at, 1, draw->params->temperature, &draw->token);
    be->ops->download(be, &draw->logp, head->logp, sizeof draw->logp);
    be->ops->download(be, &draw->entropy, head->entropy, sizeof draw->entropy);
}

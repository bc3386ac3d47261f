#include "model/classifier.h"

#include "backend/ops.h"

#include <assert.h>
#include <string.h>

cohort_status classifier_plan(struct classifier *classifier, struct arena *arena, const struct model_config *config,
                              enum dtype act, int64_t max_tokens, int64_t max_rows, enum decoder_mode mode,
                              cohort_error *err)
{
    const size_t R = (size_t)max_rows, C = (size_t)config->hidden_size, N = (size_t)config->n_labels;
    assert(config->n_labels > 0 && max_rows <= max_tokens);
    classifier->max_tokens = max_tokens;
    classifier->max_rows = max_rows;
    classifier->train = mode != DECODER_INFER;
    if (classifier->last == NULL)
        TRY(mem_alloc(&classifier->last, R, sizeof *classifier->last, "rows to score", err));
    TRY(batch_reserve(&classifier->batch, (size_t)max_tokens, R, R, err));
    TRY(decoder_work_plan(&classifier->decoder, arena, config, act, max_tokens, mode, err));
    classifier->row = arena_take(arena, R * sizeof(int32_t));
    classifier->hidden = arena_take(arena, R * C * dtype_bytes(act));
    classifier->scores = arena_take(arena, R * N * sizeof(float));
    if (!classifier->train) {
        /* In training the batch's own rows are the decoder's. */
        classifier->decoder.kv.rows = max_tokens;
        const size_t bytes = kv_layer_bytes(config, act, max_tokens);
        classifier->decoder.kv.layer_bytes = 0; /* a layer's keys are of no use to the next */
        classifier->decoder.kv.k = arena_take(arena, bytes);
        classifier->decoder.kv.v = arena_take(arena, bytes);
        return COHORT_OK;
    }
    classifier->d_scores = arena_take(arena, R * N * sizeof(float));
    classifier->d_out = arena_take(arena, R * N * dtype_bytes(act));
    classifier->d_hidden = arena_take(arena, R * C * sizeof(float));
    return COHORT_OK;
}

void classifier_free(struct classifier *classifier)
{
    decoder_work_free(&classifier->decoder);
    batch_free(&classifier->batch);
    mem_free(classifier->last);
    memset(classifier, 0, sizeof *classifier);
}

static void build_batch(struct classifier *classifier, const struct token_row *rows, int32_t n)
{
    struct batch *batch = &classifier->batch;
    batch_clear(batch);
    for (int32_t i = 0; i < n; i++) {
        const int32_t first = batch->n_tokens;
        batch_add_seq(batch, rows[i].tokens, rows[i].n, 0, i);
        batch_add_span(batch, 0, first, rows[i].n);
        for (int32_t t = 0; t < rows[i].n; t++)
            batch->kv_row[first + t] = first + t;
        classifier->last[i] = batch->n_tokens - 1;
    }
    classifier->n = n;
}

cohort_status classifier_forward(struct classifier *classifier, struct model *model, const struct token_row *rows,
                                 int32_t n, float *scores, cohort_error *err)
{
    struct backend *be = model->backend;
    const int32_t labels = model->config.n_labels;
    if (n == 0)
        return COHORT_OK;
    build_batch(classifier, rows, n);
    assert(classifier->batch.n_tokens <= classifier->max_tokens && n <= classifier->max_rows);
    classifier->x = decoder_forward(model, &classifier->decoder, &classifier->batch, NULL);
    be->ops->upload(be, classifier->row, classifier->last, (size_t)n * sizeof(int32_t));
    norm_forward(&model->final_norm, n, classifier->row, classifier->x, classifier->hidden, model->type);
    linear_forward(&model->head, n, classifier->hidden, classifier->scores, DTYPE_F32);
    be->ops->download(be, scores, classifier->scores, (size_t)n * (size_t)labels * sizeof(float));
    return backend_check(be, err);
}

cohort_status classifier_score(struct classifier *classifier, struct model *model, const struct token_row *rows,
                               int32_t n, float *scores, cohort_error *err)
{
    for (int32_t begin = 0, end = 0; begin < n; begin = end) {
        int64_t tokens = 0;
        while (end < n && end - begin < classifier->max_rows && tokens + rows[end].n <= classifier->max_tokens)
            tokens += rows[end++].n;
        assert(end > begin);
        TRY(classifier_forward(classifier, model, rows + begin, end - begin,
                               scores + (int64_t)begin * model->config.n_labels, err));
    }
    return COHORT_OK;
}

void classifier_backward(struct classifier *classifier, struct model *model, const float *d_scores)
{
    struct backend *be = model->backend;
    struct decoder_work *work = &classifier->decoder;
    const int64_t C = model->config.hidden_size, count = (int64_t)classifier->n * model->config.n_labels;
    assert(classifier->train && classifier->n > 0);
    be->ops->upload(be, classifier->d_scores, d_scores, (size_t)count * sizeof(float));
    be->ops->convert(be, &(struct convert){.count = count,
                                           .x = classifier->d_scores,
                                           .x_type = DTYPE_F32,
                                           .y = classifier->d_out,
                                           .y_type = model->type});
    linear_backward(&model->head, classifier->n, classifier->d_out, classifier->hidden, classifier->d_hidden,
                    DTYPE_F32);
    be->ops->zero(be, work->d_x, (size_t)classifier->batch.n_tokens * (size_t)C * sizeof(float));
    norm_backward(&model->final_norm, classifier->n, classifier->row, classifier->x, classifier->d_hidden, work->d_x);
    decoder_backward(model, work, &classifier->batch);
}

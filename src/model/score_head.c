#include "model/score_head.h"

#include "backend/ops.h"

#include <assert.h>

void score_work_plan(struct score_work *work, struct arena *arena, const struct model_config *config, enum dtype act,
                     int64_t max_rows, bool train)
{
    const size_t R = (size_t)max_rows, C = (size_t)config->hidden_size, N = (size_t)config->n_labels;
    assert(config->n_labels > 0);
    work->max_rows = max_rows;
    work->labels = config->n_labels;
    work->row = arena_take(arena, R * sizeof(int32_t));
    work->hidden = arena_take(arena, R * C * dtype_bytes(act));
    work->scores = arena_take(arena, R * N * sizeof(float));
    if (!train)
        return;
    work->d_scores = arena_take(arena, R * N * sizeof(float));
    work->d_out = arena_take(arena, R * N * dtype_bytes(act));
    work->d_hidden = arena_take(arena, R * C * sizeof(float));
}

void score_forward(struct model *model, struct score_work *work, const float *x, const struct head_outputs *outputs,
                   float *scores)
{
    struct backend *be = model->backend;
    const int32_t n = outputs->count;
    assert(n <= work->max_rows);
    if (n == 0)
        return;
    be->ops->upload(be, work->row, outputs->row, (size_t)n * sizeof *outputs->row);
    norm_forward(&model->final_norm, n, work->row, x, work->hidden, model->type);
    linear_forward(&model->head, n, work->hidden, work->scores, DTYPE_F32);
    be->ops->download(be, scores, work->scores, (size_t)n * (size_t)model->config.n_labels * sizeof *scores);
}

void score_backward(struct model *model, struct score_work *work, const float *x, const struct head_outputs *outputs,
                    const float *d_scores, float *d_x)
{
    struct backend *be = model->backend;
    const int32_t n = outputs->count;
    const int64_t C = model->config.hidden_size, count = (int64_t)n * model->config.n_labels;
    assert(work->d_scores != NULL);
    if (n == 0)
        return;
    be->ops->upload(be, work->d_scores, d_scores, (size_t)count * sizeof *d_scores);
    be->ops->convert(
        be, &(struct convert){
                .count = count, .x = work->d_scores, .x_type = DTYPE_F32, .y = work->d_out, .y_type = model->type});
    linear_backward(&model->head, n, work->d_out, work->hidden, work->d_hidden, DTYPE_F32);
    for (int32_t w = 0; w < outputs->n_waves; w++) {
        const int32_t begin = outputs->wave_begin[w], rows = outputs->wave_begin[w + 1] - begin;
        norm_backward(&model->final_norm, rows, work->row + begin, x, work->d_hidden + (int64_t)begin * C, d_x);
    }
}

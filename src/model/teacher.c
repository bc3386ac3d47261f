#include "model/teacher.h"

#include "backend/ops.h"

cohort_status teacher_plan(struct teacher *teacher, const struct tree_runner *runner, struct arena *arena,
                           struct arena *passing, int64_t max_tokens, int64_t max_completions, cohort_error *err)
{
    const struct model_config *config = &teacher->model->config;
    const int64_t outputs = max_tokens + max_completions;
    head_work_plan(&teacher->head, arena, config, teacher->model->type, outputs, tree_runner_chunk(runner, config),
                   false, false);
    if (passing->used < arena->used)
        passing->used = arena->used;
    TRY(packed_decoder_plan(&teacher->decoder, passing, config, teacher->model->type, max_tokens, DECODER_INFER, err));
    if (teacher->weight != NULL)
        return COHORT_OK;
    TRY(mem_alloc(&teacher->divergence, (size_t)outputs, sizeof(float), "divergences", err));
    return mem_alloc(&teacher->weight, (size_t)outputs, sizeof(float), "weights of divergences", err);
}

void teacher_free(struct teacher *teacher)
{
    decoder_work_free(&teacher->decoder);
    mem_free(teacher->divergence);
    mem_free(teacher->weight);
    teacher->divergence = teacher->weight = NULL;
}

void teacher_forward(struct teacher *teacher, struct tree_runner *runner, struct model *model, float temperature,
                     bool train)
{
    const struct packed *packed = &runner->packed;
    const struct head_teacher compared = {teacher->model, &teacher->head, teacher->beta};
    struct backend *be = model->backend;
    const float *x = decoder_forward(teacher->model, &teacher->decoder, &packed->batch, NULL);
    if (packed->outputs.count > 0)
        head_norm(teacher->model, &teacher->head, x, packed->outputs.row, packed->outputs.count);
    x = decoder_forward(model, &runner->decoder, &packed->batch, NULL);
    if (train)
        be->ops->zero(be, runner->decoder.d_x,
                      (size_t)packed->batch.n_tokens * (size_t)model->config.hidden_size * sizeof(float));
    head_compare(model, &runner->head, x, &packed->outputs, temperature, &compared,
                 &(struct head_values){.logp = runner->logp, .entropy = runner->entropy}, teacher->divergence,
                 train ? teacher->weight : NULL, runner->decoder.d_x);
}

void teacher_backward(struct tree_runner *runner, struct model *model)
{
    decoder_backward(model, &runner->decoder, &runner->packed.batch);
}

#include "model/feed_forward.h"

#include "model/layer_run.h"

static struct swiglu_forward swiglu_params(const struct layer_run *r)
{
    return (struct swiglu_forward){.tokens = r->batch->n_tokens,
                                   .width = r->layer->feed_forward.down.k,
                                   .gate_up = r->acts->gate_up,
                                   .y = r->work->ffn,
                                   .act = r->model->type};
}

void feed_forward_forward(const struct layer_run *r, const float *mid, float *out)
{
    struct backend *be = r->model->backend;
    const struct feed_forward *f = &r->layer->feed_forward;
    const int64_t T = r->batch->n_tokens;
    const struct swiglu_forward inner = swiglu_params(r);
    const struct linear_normed input = {.norm = &f->norm, .x = mid, .room = r->work->normed};
    linear_forward_normed(&f->gate_up, T, &input, r->acts->gate_up);
    if (out == NULL)
        return;
    be->ops->swiglu_forward(be, &inner);
    linear_forward_residual(&f->down, T, r->work->ffn, mid, out);
}

void feed_forward_backward(const struct layer_run *r)
{
    struct backend *be = r->model->backend;
    struct decoder_work *work = r->work;
    const struct feed_forward *f = &r->layer->feed_forward;
    const enum dtype type = r->model->type;
    const int64_t T = r->batch->n_tokens;
    const struct swiglu_forward inner = swiglu_params(r);
    layer_run_convert(r);
    be->ops->swiglu_forward(be, &inner);
    linear_backward(&f->down, T, work->d_out, work->ffn, work->d_ffn, type);
    be->ops->swiglu_backward(be, &(struct swiglu_backward){.tokens = T,
                                                           .width = inner.width,
                                                           .gate_up = r->acts->gate_up,
                                                           .dy = work->d_ffn,
                                                           .d_gate_up = work->d_gate_up,
                                                           .act = type});
    norm_forward(&f->norm, T, NULL, r->acts->mid, work->normed, type);
    linear_backward(&f->gate_up, T, work->d_gate_up, work->normed, work->d_normed, DTYPE_F32);
    norm_backward(&f->norm, T, NULL, r->acts->mid, work->d_normed, work->d_x);
}

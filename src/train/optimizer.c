#include "train/optimizer.h"
#include "backend/ops.h"

#include <math.h>

double optimizer_grad_norm(const struct model *model)
{
    struct backend *be = model->backend;
    /* Between the tensors there are zeros. */
    return sqrt(be->ops->sum_squares(be, model->grad, model->params.n_elements));
}

void optimizer_apply(struct optimizer *optimizer, struct model *model, double learning_rate, double *grad_norm,
                     bool *skipped)
{
    struct backend *be = model->backend;
    be->unstoppable++; /* an update is whole or has not begun */
    double norm = optimizer_grad_norm(model);
    const size_t moment = dtype_bytes(model->moment_type);
    *grad_norm = norm;
    *skipped = !isfinite(norm);
    if (!*skipped) {
        double scale = 1.0;
        if (optimizer->max_grad_norm > 0.0) /* torch.nn.utils.clip_grad_norm_ */
            scale = fmin(1.0, optimizer->max_grad_norm / (norm + 1e-6));
        optimizer->step++;
        for (int32_t i = 0; i < model->params.n_params; i++) {
            const struct param *p = &model->params.params[i];
            be->ops->adamw(be, &(struct adamw){.count = p->count,
                                               .weight = model_tensor(model, p),
                                               .low = model->low == NULL ? NULL : model->low + p->offset,
                                               .type = model->type,
                                               .grad = model_grad(model, p),
                                               .m = (char *)model->m + (size_t)p->offset * moment,
                                               .v = (char *)model->v + (size_t)p->offset * moment,
                                               .moment_type = model->moment_type,
                                               .first = p->offset,
                                               .grad_scale = (float)scale,
                                               .learning_rate = (float)learning_rate,
                                               .beta1 = optimizer->beta1,
                                               .beta2 = optimizer->beta2,
                                               .eps = optimizer->eps,
                                               .weight_decay = p->decay ? optimizer->weight_decay : 0.0f,
                                               .step = optimizer->step});
        }
        model_refresh(model);
    }
    be->ops->zero(be, model->grad, (size_t)model->params.n_elements * sizeof(float));
    be->unstoppable--;
}

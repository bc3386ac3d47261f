#include "train/optimizer.h"
#include "backend/ops.h"

#include <math.h>

double optimizer_grad_norm(const struct param_set *set)
{
    struct backend *be = set->backend;
    /* Between the tensors there are zeros. */
    return sqrt(be->ops->sum_squares(be, set->training.grad, set->training.n_elements));
}

static void update_param(const struct optimizer *optimizer, const struct param_set *set, int32_t i, double scale,
                         double learning_rate)
{
    struct backend *be = set->backend;
    const struct param *p = &set->table.params[i];
    const struct param_training *t = &set->training;
    const int64_t first = t->first[i];
    const size_t moment = (size_t)first * dtype_bytes(t->moment_type);
    be->ops->adamw(be, &(struct adamw){.count = p->count,
                                       .weight = param_values(set, p),
                                       .low = p->format == STORAGE_BF16 ? t->low + first : NULL,
                                       .type = storage_dtype(p->format),
                                       .grad = t->grad + first,
                                       .m = (char *)t->m + moment,
                                       .v = (char *)t->v + moment,
                                       .moment_type = t->moment_type,
                                       .first = first,
                                       .grad_scale = (float)scale,
                                       .learning_rate = (float)learning_rate,
                                       .beta1 = optimizer->beta1,
                                       .beta2 = optimizer->beta2,
                                       .eps = optimizer->eps,
                                       .weight_decay = p->decay ? optimizer->weight_decay : 0.0f,
                                       .step = optimizer->step});
}

void optimizer_apply(struct optimizer *optimizer, struct param_set *set, double learning_rate, double *grad_norm,
                     bool *skipped)
{
    struct backend *be = set->backend;
    be->unstoppable++; /* an update is whole or has not begun */
    double norm = optimizer_grad_norm(set);
    *grad_norm = norm;
    *skipped = !isfinite(norm);
    if (!*skipped) {
        double scale = 1.0;
        if (optimizer->max_grad_norm > 0.0) /* torch.nn.utils.clip_grad_norm_ */
            scale = fmin(1.0, optimizer->max_grad_norm / (norm + 1e-6));
        optimizer->step++;
        for (int32_t i = 0; i < set->table.n_params; i++)
            if (set->training.first[i] >= 0)
                update_param(optimizer, set, i, scale, learning_rate);
    }
    param_set_zero_grad(set);
    be->unstoppable--;
}

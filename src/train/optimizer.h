/* Clipping by the global norm and AdamW over a model's parameters. */
#ifndef COHORT_TRAIN_OPTIMIZER_H
#define COHORT_TRAIN_OPTIMIZER_H

#include "model/model.h"

struct optimizer {
    float beta1, beta2, eps, weight_decay;
    double max_grad_norm; /* 0: no clipping */
    int64_t step;         /* updates done */
};

/* sqrt of the sum of squares of all gradients, before clipping. */
double optimizer_grad_norm(const struct model *model);
/* One update with the gradients in model->grad, which are zeroed afterwards; weights are repacked. A norm that is not
 * finite skips the update (*skipped) and leaves weights and moments untouched. */
void optimizer_apply(struct optimizer *optimizer, struct model *model, double learning_rate, double *grad_norm,
                     bool *skipped);

#endif

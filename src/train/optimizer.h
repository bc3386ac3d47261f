/* Clipping by the global norm and AdamW over what trains of a set of parameters. */
#ifndef COHORT_TRAIN_OPTIMIZER_H
#define COHORT_TRAIN_OPTIMIZER_H

#include "model/param_set.h"

struct optimizer {
    float beta1, beta2, eps, weight_decay;
    double max_grad_norm; /* 0: no clipping */
    int64_t step;         /* updates done */
};

/* sqrt of the sum of squares of all gradients, before clipping. */
double optimizer_grad_norm(const struct param_set *set);
/* One update with the set's gradients, which are zeroed afterwards; frozen tensors keep their bits. A norm that is not
 * finite skips the update (*skipped) and leaves values and moments untouched. Code that uses the values in another form
 * (packed weights) must rebuild it afterwards: model_refresh. */
void optimizer_apply(struct optimizer *optimizer, struct param_set *set, double learning_rate, double *grad_norm,
                     bool *skipped);

#endif

/* What the files of the optimizers share. */
#ifndef COHORT_TRAIN_OPTIMIZER_INTERNAL_H
#define COHORT_TRAIN_OPTIMIZER_INTERNAL_H

#include "backend/ops.h"
#include "train/optimizer.h"

/* The update of one tensor. */
struct param_update {
    const struct optimizer *optimizer;
    const struct param_set *set;
    int32_t i;
    const struct param *param;
    float *grad;
    double scale;         /* of the gradient: clipping */
    double learning_rate; /* with the tensor's factor */
    double weight_decay;  /* of this tensor */
};

/* A step along direction (optimizer's state m, or NULL), its scalars apart from rate and keep set to nothing. */
struct descent optimizer_descent(const struct param_update *u, enum descent_rule rule, const void *direction,
                                 enum dtype type);

/* Bytes that the updates of a param work in. */
size_t muon_work_bytes(const struct param *param);
void muon_update(const struct param_update *u);
size_t adafactor_work_bytes(const struct optimizer *optimizer);
void adafactor_update(const struct param_update *u);

#endif

/* A set of parameters in backend memory and, apart from them, what training keeps for those that train. The base of a
 * model is one; a set of adapters will be another. Optimizer, gradient norm, trainer state and memory plan take a
 * param_set and know no model.
 *
 * States: open (the table is known, no backend memory is held: sizes for plans), allocated (values), training
 * (gradient, moments, low halves). Owns all of them.
 *
 * What trains lies in arrays of elements with a layout of their own: the order of the table without what is frozen. A
 * param's part of each of the four arrays begins at element first. For BF16 values the fp32 master is value and low
 * half together; F32 values are their own master. */
#ifndef COHORT_MODEL_PARAM_SET_H
#define COHORT_MODEL_PARAM_SET_H

#include "backend/backend.h"
#include "tensor/param.h"

struct param_training {
    int64_t *first;     /* (host) [n_params] first element in the arrays below; -1: the param is frozen */
    int64_t n_elements; /* of each array, alignment included; gaps hold zeros */
    float *grad;        /* NULL until param_set_train_begin */
    void *m, *v;        /* moment_type */
    enum dtype moment_type;
    int16_t *low; /* NULL if nothing that trains is stored in BF16 */
};

struct param_set {
    struct backend *backend;  /* borrowed */
    struct param_table table; /* owned */
    void *values;             /* [table.bytes], NULL while the set is only open */
    struct param_training training;
};

/* Takes over the table and empties the caller's, also on failure; everything trains at first. */
cohort_status param_set_open(struct param_set *set, struct backend *backend, struct param_table *table,
                             cohort_error *err);
void param_set_close(struct param_set *set);
/* Lays the values out anew after formats were changed in the table of an open set. */
void param_set_layout(struct param_set *set);
/* Freezes a tensor and those adjacent to it. Must come before param_set_train_begin. */
void param_set_freeze(struct param_set *set, const struct param *param);
/* Memory for the values, zeroed. */
cohort_status param_set_allocate(struct param_set *set, cohort_error *err);
/* Copies the values of another set that has the same table. */
void param_set_copy(struct param_set *to, const struct param_set *from);

/* Allocates what training keeps, zeroed; moments in F32 or BF16. */
cohort_status param_set_train_begin(struct param_set *set, enum dtype moment_type, cohort_error *err);
/* How many bytes that takes; known also for a set that is only open. */
size_t param_set_train_bytes(const struct param_set *set, enum dtype moment_type);
void param_set_zero_grad(struct param_set *set);

/* Address of a tensor's values in backend memory. */
void *param_values(const struct param_set *set, const struct param *param);
bool param_trains(const struct param_set *set, const struct param *param);
/* Address of its gradient. NULL: the tensor is frozen, and none is computed. */
float *param_grad(const struct param_set *set, const struct param *param);

/* Elements [first, first + count) of a tensor in its format, from and to the host: a checkpoint_fetch and a
 * checkpoint_sink whose context is the set. The latter ends at a requested stop. */
cohort_status param_set_fetch(void *context, const struct param *param, int64_t first, int64_t count, void *to,
                              cohort_error *err);
cohort_status param_set_store(void *context, const struct param *param, int64_t first, int64_t count, const void *data,
                              cohort_error *err);

#endif

/* The parameter table: one row per tensor of a checkpoint, in the order they lie in the parameter buffer. Weight,
 * gradient, optimizer moments and the low halves of the split master all use the same element offsets. Tensors that one
 * product reads together (q, k, v; gate, up) lie next to each other without a gap. */
#ifndef COHORT_TENSOR_PARAM_H
#define COHORT_TENSOR_PARAM_H

#include "base/memory.h"
#include "tensor/dtype.h"

struct param {
    char name[96]; /* Hugging Face name, for example model.layers.0.self_attn.q_proj.weight */
    int32_t rank;  /* 1 or 2 */
    int64_t shape[2];
    int64_t count;  /* elements */
    int64_t offset; /* first element, in elements from the start of the buffer */
    bool decay;     /* weight decay applies (matrices yes, norm gains no) */
};

struct param_table {
    struct param *params;
    int32_t n_params;
    int64_t n_elements; /* of the buffer, alignment included */
    int64_t n_weights;  /* sum of counts: the number people quote */
};

/* NULL if there is none. */
const struct param *param_find(const struct param_table *table, const char *name);
void param_table_free(struct param_table *table);

#endif

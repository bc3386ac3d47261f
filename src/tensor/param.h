/* The parameter table: one row per tensor of a checkpoint, in the order in which they lie in the buffer of values, each
 * with the format that it is stored in and its place in bytes. Tensors that one product reads together (q, k, v; gate,
 * up) lie next to each other without a gap. What training keeps for a tensor is not said here: struct param_set. */
#ifndef COHORT_TENSOR_PARAM_H
#define COHORT_TENSOR_PARAM_H

#include "base/memory.h"
#include "tensor/storage.h"

#include <stdbool.h>

enum {
    PARAM_ALIGNMENT = 64, /* elements */
    PARAM_PART_ROWS = 64  /* a reader hands a matrix out in parts that begin at a multiple of so many rows */
};

/* What a tensor is to an optimizer that treats some matrices otherwise. */
enum param_kind {
    PARAM_VECTOR, /* gains, biases, and whatever is not one of the next */
    PARAM_MATRIX, /* of a layer: a projection */
    PARAM_EMBEDDING,
    PARAM_HEAD
};

struct param {
    char name[96]; /* Hugging Face name, for example model.layers.0.self_attn.q_proj.weight */
    int32_t rank;  /* 1, 2, or 3: a stack of matrices, one for each expert */
    int64_t shape[3];
    int64_t count;              /* elements */
    enum storage_format format; /* of the values */
    bool adjacent;              /* lies directly behind the tensor before it, which has its format */
    enum param_kind kind;
    int32_t layer; /* 1 + the layer that it belongs to; 0: to none */
    bool expert;   /* of a layer's experts, or their router */
    bool decay;    /* weight decay applies (matrices yes, gains and biases no) */
    bool drawn;    /* no file has it, where a language model becomes a classifier: its reader draws it */
    bool packed;   /* its values are held by the weight of its product alone, and have no place in the buffer */
    float start;   /* elements of a vector where a model is made anew: 1 for a gain, 0 for a bias */
    size_t offset; /* first byte in the buffer of values; param_table_layout */
};

struct param_table {
    struct param *params;
    int32_t n_params;
    size_t bytes;      /* of the buffer of values, alignment included; param_table_layout */
    int64_t n_weights; /* sum of counts: the number people quote; param_table_layout */
    int32_t *by_name;  /* owned; NULL until param_table_index */
    size_t n_slots;    /* of by_name */
};

/* The rows and columns of a matrix; those of a stack below each other; a vector is one column. */
static inline int64_t param_rows(const struct param *param)
{
    return param->rank == 3 ? param->shape[0] * param->shape[1] : param->shape[0];
}
static inline int64_t param_columns(const struct param *param)
{
    return param->rank == 1 ? 1 : param->shape[param->rank - 1];
}

/* Gives every tensor its place, and the table its sums: a tensor starts at a multiple of PARAM_ALIGNMENT elements of its
 * format, unless it is adjacent. Again after a format has been changed. */
void param_table_layout(struct param_table *table);
/* Has param_find look names up in place of comparing all of them: for a table of many. No name may change afterwards. */
cohort_status param_table_index(struct param_table *table, cohort_error *err);
/* NULL if there is none. */
const struct param *param_find(const struct param_table *table, const char *name);
void param_table_free(struct param_table *table);

#endif

/* A set of parameters in backend memory and, apart from them, what training keeps for those that train. The base of a
 * model is one, an adapter another. Optimizer, gradient norm, trainer state and memory plan take a
 * param_set and know no model.
 *
 * States: open (the table is known, no backend memory is held: sizes for plans), allocated (values), training
 * (gradient, what the optimizer keeps, low halves). Owns all of them.
 *
 * The gradients of what trains lie in an array of elements with a layout of its own: the order of the table without
 * what is frozen; a param's begins at element first. What an optimizer keeps (PARAM_STATE_LIST) differs from param to
 * param: each state has its place in one block. For BF16 values the fp32 master is value and low half (PARAM_STATE_LOW)
 * together; F32 values are their own master. */
#ifndef COHORT_MODEL_PARAM_SET_H
#define COHORT_MODEL_PARAM_SET_H

#include "backend/backend.h"
#include "model/param_state_list.h"
#include "tensor/param.h"

#define STATE(id, ...) PARAM_STATE_##id,
enum param_state { PARAM_STATE_LIST(STATE) N_PARAM_STATES };
#undef STATE

/* What is kept for a param, as bits: PARAM_KEEPS(EXP_AVG) | ... */
#define PARAM_KEEPS(id) (1u << PARAM_STATE_##id)

/* A state of a param. */
struct param_state_tensor {
    const char *name, *type; /* as in a checkpoint: the name comes before the param's */
    int32_t rank;
    int64_t shape[3], count;
    size_t bytes;
    void *data; /* backend memory; NULL before param_set_train_begin */
};

struct param_training {
    int64_t *first;     /* (host) [n_params] first element of the gradient; -1: the param is frozen */
    int64_t n_elements; /* of the gradient, alignment included; gaps hold zeros */
    unsigned *keeps;    /* (host) [n_params] the states of each */
    float *grad;        /* NULL until param_set_train_begin */
    enum dtype moment_type;
    void *states;      /* the block of all states; size_t at[n_params][N_PARAM_STATES] are the places in it */
    size_t *at;        /* (host) */
    size_t work_bytes; /* what the optimizer works in, beside what it keeps */
    void *work;
    const char *optimizer; /* what keeps the states, by which a checkpoint is told; "adamw" until param_set_keep */
};

/* What lies in memory of the host, in a backend whose own memory is not the host's. */
enum param_offload {
    PARAM_OFFLOAD_VALUES = 1, /* but for vectors */
    PARAM_OFFLOAD_GRADIENT = 2,
    PARAM_OFFLOAD_STATES = 4 /* what the optimizer keeps, and low halves */
};

struct param_set {
    struct backend *backend;  /* borrowed */
    struct param_table table; /* owned */
    void *values;             /* [table.bytes], NULL while the set is only open; with PARAM_OFFLOAD_VALUES the host's */
    char *vectors;            /* with PARAM_OFFLOAD_VALUES: those of rank 1, in the backend's own memory */
    unsigned offload;         /* PARAM_OFFLOAD_* */
    struct param_training training;
};

/* Bytes in the backend's own memory and in the host's. */
struct param_bytes {
    size_t own, host;
};

/* Takes over the table and empties the caller's, also on failure; everything trains at first. */
cohort_status param_set_open(struct param_set *set, struct backend *backend, struct param_table *table,
                             cohort_error *err);
void param_set_close(struct param_set *set);
/* Lays the values out anew after formats were changed in the table of an open set. */
void param_set_layout(struct param_set *set);
/* Freezes a tensor and those adjacent to it. Must come before param_set_train_begin. */
void param_set_freeze(struct param_set *set, const struct param *param);
/* What of the set is to lie in the host's memory; must come before that is allocated. Where the backend's own memory is
 * the host's, nothing changes. The bits of results do not. */
void param_set_offload(struct param_set *set, unsigned offload);
/* Memory for the values, zeroed. */
cohort_status param_set_allocate(struct param_set *set, cohort_error *err);
/* Copies the values of another set that has the same table. */
void param_set_copy(struct param_set *to, const struct param_set *from);

/* What an optimizer of this name keeps for each param that trains, and works in: [n_params] bits. Without it, AdamW's
 * two moments are kept. Low halves belong to BF16 values whatever the optimizer. Must come before
 * param_set_train_begin. */
void param_set_keep(struct param_set *set, const char *optimizer, const unsigned *keeps, size_t work_bytes);
/* Allocates what training keeps, zeroed; moments in F32 or BF16. */
cohort_status param_set_train_begin(struct param_set *set, enum dtype moment_type, cohort_error *err);
/* How many bytes that takes, and those of the values; known also for a set that is only open. param_set_train_bytes: of
 * the backend's own memory. */
struct param_bytes param_set_train_sizes(const struct param_set *set, enum dtype moment_type);
size_t param_set_train_bytes(const struct param_set *set, enum dtype moment_type);
struct param_bytes param_set_value_sizes(const struct param_set *set, unsigned offload);
void param_set_zero_grad(struct param_set *set);

/* Address of a tensor's values in backend memory. */
void *param_values(const struct param_set *set, const struct param *param);
bool param_trains(const struct param_set *set, const struct param *param);
/* Address of its gradient. NULL: the tensor is frozen, and none is computed. */
float *param_grad(const struct param_set *set, const struct param *param);
/* Whether a param has a state, and the state; its data alone (NULL: it has none). */
bool param_state_get(const struct param_set *set, int32_t i, enum param_state state, struct param_state_tensor *tensor);
void *param_state(const struct param_set *set, int32_t i, enum param_state state);

/* Elements [first, first + count) of a tensor in its format, from and to the host: checkpoint_fetch and checkpoint_sink
 * with the set as context. param_set_store ends at a requested stop. */
cohort_status param_set_fetch(void *context, const struct param *param, int64_t first, int64_t count, void *to,
                              cohort_error *err);
/* param_set_fetch on another thread than the one that computes (download_beside). */
cohort_status param_set_fetch_beside(void *context, const struct param *param, int64_t first, int64_t count, void *to,
                                     cohort_error *err);
/* The mean of the weights (PARAM_STATE_EMA), rounded to the tensor's format; of what keeps none, its values. */
cohort_status param_set_fetch_mean(void *context, const struct param *param, int64_t first, int64_t count, void *to,
                                   cohort_error *err);
cohort_status param_set_store(void *context, const struct param *param, int64_t first, int64_t count, const void *data,
                              cohort_error *err);

#endif

/* A set of parameters in backend memory and, apart from them, what training keeps for those that train. The base of a
 * model is one, an adapter another. Optimizer, gradient norm, trainer state and memory plan take a
 * param_set and know no model.
 *
 * States: open (the table is known, no backend memory is held: sizes for plans), allocated (values), training
 * (gradient, what the optimizer keeps, low halves). Owns all of them.
 *
 * Ranks may divide the values (share.weights): a matrix of a layer then lies with its owner (param_home), and values have
 * room for the matrices of one layer, which param_shard_need brings there. Everything else is everybody's, as always.
 *
 * The gradients of what trains lie in an array of elements with a layout of its own: the order of the table without
 * what is frozen; a param's begins at element first. What an optimizer keeps (PARAM_STATE_LIST) differs from param to
 * param: each state has its place in one block. For BF16 values the fp32 master is value and low half (PARAM_STATE_LOW)
 * together; F32 values are their own master. */
#ifndef COHORT_MODEL_PARAM_SET_H
#define COHORT_MODEL_PARAM_SET_H

#include "backend/backend.h"
#include "model/param_state_list.h"
#include "ranks/ranks.h"
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

/* How the gradient of a set is summed in lanes (train/lanes.h), and what of it and of the optimizer's state a rank
 * holds. */
struct param_share {
    struct ranks *ranks; /* borrowed; NULL: one */
    int32_t rank, count; /* of them */
    int32_t lanes;       /* 1 with one rank: gradients are added up where they are made, and nothing below is held */
    int32_t partials;    /* sums of lanes that wait for another to be added to, of what the rank owns */
    int32_t parts;       /* pieces of gradients that an exchange brings at once */
    bool overlaps;       /* an exchange goes on beside operations: one piece comes while another is added */
    int64_t piece;       /* elements of a gradient that are exchanged at once; */
    int32_t rooms;       /* for so many such exchanges there is room */
    bool weights;        /* the matrices of layers are divided too (param_set_divides) */
};

/* What a backward finishes at once: a layer, or what belongs to none and lies together. With several lanes its gradient
 * is taken as soon as it is there (param_set_done), and layers have theirs in one place, one after the other. */
struct param_unit {
    int32_t layer;      /* as in struct param; 0 also where all is one unit */
    int64_t first, end; /* elements of the gradient */
    int64_t place;      /* of the first, in training.grad */
};

/* Takes a unit's gradient, which is whole for the micro-batch in hand, and leaves zeros. */
typedef void param_take(void *context, const struct param_unit *unit);

/* Elements first .. end. */
struct param_range {
    int64_t first, end;
};

struct param_training {
    int64_t *first;           /* (host) [n_params] first element of the gradient; -1: the param is frozen */
    int64_t n_elements;       /* of the gradient, alignment included; gaps hold zeros */
    struct param_unit *units; /* (host) [n_units] in the order of the table */
    int32_t n_units;
    int64_t n_held;   /* elements of grad: n_elements, or with several lanes those of a layer and of what is in none */
    int64_t *place;   /* (host) [n_params] first element in grad; -1: the param is frozen */
    unsigned *keeps;  /* (host) [n_params] the states of each */
    float *grad;      /* [n_held] NULL until param_set_train_begin */
    param_take *take; /* NULL: gradients add up in grad */
    void *take_context;
    enum dtype moment_type;
    void *states;      /* the block of all states; size_t at[n_params][N_PARAM_STATES] are the places in it */
    size_t *at;        /* (host) */
    size_t work_bytes; /* what the optimizer works in, beside what it keeps */
    void *work;
    const char *optimizer; /* what keeps the states, by which a checkpoint is told; "adamw" until param_set_keep */
    struct param_share share;
    float *sum;      /* of the lanes' gradients, in the elements of param_set_sums; NULL: grad is the sum */
    float *partials; /* [share.partials, those elements] */
    float *pieces;   /* [share.rooms, share.parts, length of a piece (param_set_piece)] */
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
    /* Of values that ranks divide: */
    void *home; /* what this rank owns of them; home_at (host) [n_params] has the places */
    size_t *home_at;
    int32_t there;        /* the layer, as in struct param, whose matrices the values hold; 0: none */
    uint64_t n_brought;   /* how often one was brought */
    cohort_status status; /* of param_shard_need, for param_shard_check */
    cohort_error err;
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
/* Must come before param_set_train_begin, and before sizes are asked. With several ranks a param's state is held by one of
 * them (param_owner): whole tensors, with what is adjacent, so that every optimizer has all of what it updates. */
void param_set_share(struct param_set *set, const struct param_share *share);
/* The rank that keeps the state of param i and updates it. */
int32_t param_owner(const struct param_set *set, int32_t i);
/* Whether ranks divide the values; and those of param i. */
bool param_set_divides(const struct param_set *set);
bool param_is_divided(const struct param_set *set, int32_t i);
/* How many layers the params belong to. */
int32_t param_set_layers(const struct param_set *set);
/* The gradient's elements of what a rank owns, which lie together, and, longer up to a block of sum_squares (of
 * square_block elements), those that it sums the lanes of. */
struct param_range param_set_owned(const struct param_set *set, int32_t rank);
struct param_range param_set_sums(const struct param_set *set, int32_t rank);
/* Elements of a piece: those of share, or all that a rank sums where that is less. */
int64_t param_set_piece(const struct param_set *set);
/* Allocates what training keeps, zeroed; moments in F32 or BF16. */
cohort_status param_set_train_begin(struct param_set *set, enum dtype moment_type, cohort_error *err);
/* How many bytes that takes, and those of the values; known also for a set that is only open. param_set_train_bytes: of
 * the backend's own memory. */
struct param_bytes param_set_train_sizes(const struct param_set *set, enum dtype moment_type);
size_t param_set_train_bytes(const struct param_set *set, enum dtype moment_type);
struct param_bytes param_set_value_sizes(const struct param_set *set, unsigned offload);
void param_set_zero_grad(struct param_set *set);
/* Called by a backward where it has added all that this micro-batch adds to the gradients of a layer (of what is in
 * none): has them taken. */
void param_set_done(const struct param_set *set, int32_t layer);

/* Address of a tensor's values in backend memory; of those that ranks divide while their layer is there. */
void *param_values(const struct param_set *set, const struct param *param);
/* Address of the values that an update changes; NULL: another rank has them. */
void *param_home(const struct param_set *set, int32_t i);
bool param_trains(const struct param_set *set, const struct param *param);
/* Address of its gradient, to which a backward adds. NULL: the tensor is frozen, and none is computed. */
float *param_grad(const struct param_set *set, const struct param *param);
/* Address of the sum of its gradients over lanes, for the rank that owns it. */
float *param_grad_sum(const struct param_set *set, int32_t i);
/* Whether a param has a state, and the state, its data NULL where another rank holds it; its data alone (NULL: it has
 * none here). */
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

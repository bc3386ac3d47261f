/* The adapter of one projection (LoRA): of each of its parts that has one, A [r, K] and B [N, r] in a param_set of their
 * own, whose product s * x . A^T . B^T is added behind the weight's. linear_forward and linear_backward run it.
 *
 * With magnitudes (DoRA) the sum z is then scaled column by column, y = m / |W + s B A| * z, and the norm counts as a
 * constant in the gradient. z is fp32 and is rounded once, with the factor: in chunks of rows, in memory that all
 * projections share.
 *
 * Merged (linear_adapter_merge), the product is that of W + s B A (with DoRA m / |W + s B A| times that), rounded once, in
 * memory of its own: it is made from the base's after every update and never unmerged.
 *
 * Biases may change too: the adapter's own in place of the base's (PEFT's bias), and one of B (lora_bias), s times which is
 * added; and a whole projection may be the adapter's own (modules_to_save), which is then another struct linear. */
#ifndef COHORT_MODEL_LINEAR_ADAPTER_H
#define COHORT_MODEL_LINEAR_ADAPTER_H

#include "backend/ops.h"
#include "format/adapter.h"
#include "model/param_set.h"

struct linear;

/* What projections with a magnitude work in: chunks of rows, whose number changes no bit. */
struct adapter_room {
    int64_t rows, width; /* the widest projection's columns */
    float *z;            /* [rows, width] */
    void *dz;            /* [rows, width] act */
};

/* Dropout of what A reads, in training (0: none): the element masks are counters of seed, projection, and of each token
 * its stream and position. */
struct adapter_dropout {
    float p;
    uint64_t seed;
    int64_t tokens;
    const int32_t *position; /* [tokens] */
    const uint64_t *stream;  /* [tokens] */
};

/* What becomes of the bias of a part. */
struct adapter_bias {
    int64_t column, n;
    const struct param *base, *own; /* own: in place of the base's, or NULL */
    const struct param *of_b;       /* or NULL */
    float scale;                    /* of of_b */
};

struct linear_adapter {
    const struct param_set *set;
    const struct param *a; /* of the first part that has one, the others' adjacent; NULL: the projection has none */
    const struct param *b[LOWRANK_PARTS];
    const struct param *base[LOWRANK_PARTS];      /* the tensors of the base that it changes */
    const struct param *magnitude[LOWRANK_PARTS]; /* all or none NULL */
    const struct linear *of;
    const struct adapter_room *room;       /* borrowed */
    const struct adapter_dropout *dropout; /* borrowed; NULL: never */
    uint64_t number;                       /* of the projection in its model */
    struct lowrank change;                 /* its weights are NULL until linear_adapter_pack, its gradients always */
    struct weight *packed_a, *packed_b[LOWRANK_PARTS]; /* owned */
    /* With magnitudes, of every column of the projection: m / |W + s B A| (1 where a part has none) and that norm. */
    float *factor, *norm;   /* [n], owned */
    struct linear *merged;  /* owned; NULL: not merged */
    struct linear *instead; /* owned; of the adapter's set, in place of the base's; NULL: none */
    int32_t n_biases;       /* 0: the base's stay, else all parts */
    struct adapter_bias biases[LOWRANK_PARTS];
    float *bias;      /* [n], owned: what the biases come to */
    float *bias_room; /* (host) [2 n], owned */
};

/* What the layout says of the projection. linear must be open, and stay; room too. An error if it can only be computed
 * with the whole of a fused projection. */
cohort_status linear_adapter_open(struct linear_adapter *adapter, const struct param_set *set,
                                  const struct linear *linear, const struct adapter_layout *layout,
                                  const struct adapter_room *room, cohort_error *err);
/* Has the adapter of a projection compute with merged weights: params, in a set that is only open, are like the parts of
 * the projection. */
cohort_status linear_adapter_merge(struct linear_adapter *adapter, const struct param_set *set,
                                   const struct param *params, cohort_error *err);
/* Whether it changes anything. */
bool linear_adapter_acts(const struct linear_adapter *adapter);
void linear_adapter_close(struct linear_adapter *adapter);
/* Bytes of what linear_adapter_pack makes. */
size_t linear_adapter_packed_bytes(const struct linear_adapter *adapter);
cohort_status linear_adapter_pack(struct linear_adapter *adapter, cohort_error *err);
/* Packs the values as they are now, and computes the factors again. */
void linear_adapter_refresh(const struct linear_adapter *adapter);
/* Gives the magnitudes the norms of W + s B A as they are now: the adapter is then the one without magnitudes. The base
 * must have its values. */
void linear_adapter_start_magnitudes(const struct linear_adapter *adapter);
bool linear_adapter_has_magnitudes(const struct linear_adapter *adapter);

/* The product and its change; a must not be NULL. y is contiguous. */
void linear_adapter_forward(const struct linear_adapter *adapter, const struct matmul_forward *product);
/* The product's dx and what follows from the change, and the gradients of all that trains in it; x[m, K] is the
 * product's input. */
void linear_adapter_backward(const struct linear_adapter *adapter, const struct matmul_backward_input *product,
                             const void *x);
/* The gradients of the biases that are its own, from dy[m, n]. */
void linear_adapter_bias_backward(const struct linear_adapter *adapter, int64_t m, const void *dy);

#endif

/* The embedding: what a token's row of the residual stream begins as, with the change that an adapter makes of it.
 *
 * An adapter's change is y = E[token] + s A[token] . B, with A [V, r] and B [r, C] (PEFT's lora_embedding_A and
 * lora_embedding_B, each transposed) in the adapter's set; a new one has A 0. It is of the input alone: a head that is tied
 * to the embedding stays as it is, as in PEFT. With a magnitude (DoRA) of each of the C columns it is scaled, y = m / n
 * (E[token] + s A[token] . B), n the norms of the columns of E + s A B, constants in the gradient. Merged, the rows are
 * those of E + s A B, scaled, rounded once, in memory of their own. */
#ifndef COHORT_MODEL_EMBEDDING_H
#define COHORT_MODEL_EMBEDDING_H

#include "format/adapter.h"
#include "model/param_set.h"

struct model;

struct embedding_adapter {
    const struct param_set *set, *base_set;
    const struct param *a, *b;     /* in set; NULL: the embedding has none */
    const struct param *base;      /* what it changes */
    const struct param *magnitude; /* [C] in set, or NULL */
    int32_t r;
    float scale;
    float *room;                        /* [EMBEDDING_ROOM, r], owned */
    float *factor, *norm;               /* [C], owned; with a magnitude: m / n and n */
    float *z, *dz;                      /* [EMBEDDING_ROOM, C], owned, with a magnitude */
    const struct param_set *merged_set; /* NULL: not merged */
    const struct param *merged;
};

enum { EMBEDDING_ROOM = 1024 }; /* rows of a backward at once */

/* What the layout says of the embedding, a tensor of base_set. */
void embedding_adapter_open(struct embedding_adapter *adapter, const struct param_set *set,
                            const struct param_set *base_set, const struct adapter_layout *layout);
void embedding_adapter_close(struct embedding_adapter *adapter);
/* Has it compute with merged rows: param, in a set that is only open, is like the embedding. */
void embedding_adapter_merge(struct embedding_adapter *adapter, const struct param_set *set, const struct param *param);
/* Bytes of what embedding_adapter_pack makes. */
size_t embedding_adapter_bytes(const struct embedding_adapter *adapter);
cohort_status embedding_adapter_pack(struct embedding_adapter *adapter, cohort_error *err);
/* Makes factors and merged rows of the values as they are now. */
void embedding_adapter_refresh(const struct embedding_adapter *adapter);
/* Gives the magnitudes the norms as they are now: the adapter is then the one without magnitudes. The base must have its
 * values. */
void embedding_adapter_start_magnitudes(const struct embedding_adapter *adapter);

/* y[n, C] of ids (backend memory, [n]). */
void embedding_forward(const struct model *model, int64_t n, const int32_t *token, float *y);
/* From dy[n, C] the gradients of all that trains in it, added up. */
void embedding_backward(const struct model *model, int64_t n, const int32_t *token, const float *dy);

#endif

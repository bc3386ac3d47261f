/* An adapter of a whole model (LoRA): the param_set of its A and B, and of every projection what it adds. A model wears
 * one (model_wear), or none and is its base: the base's values are the same in either case, and no weight is copied. */
#ifndef COHORT_MODEL_MODEL_ADAPTER_H
#define COHORT_MODEL_MODEL_ADAPTER_H

#include "model/embedding.h"
#include "model/model.h"

struct model_adapter {
    struct param_set set;
    enum dtype type;                /* of the model */
    const struct param_set *base;   /* of the model */
    struct adapter_layout layout;   /* its table is that of the set, which owns it */
    struct linear_adapter *linears; /* owned; those of the layers, LAYER_LINEARS each, then the head's */
    int32_t n_linears;
    struct expert_adapter *stacks; /* owned; of the layers' experts, in the order of model_stack */
    int32_t n_stacks;
    struct embedding_adapter embedding;
    struct adapter_room room;       /* owned; empty without magnitudes */
    struct adapter_dropout dropout; /* of the batch in hand; p 0 outside training */
    struct param_set merged;        /* of projections with merged weights; empty if none are */
};

/* Of a model's shape, without values: no backend memory is taken, but sizes are known. What cannot be computed is
 * COHORT_ERR_UNSUPPORTED. */
cohort_status model_adapter_open(struct model_adapter **out, const struct model *model,
                                 const struct adapter_settings *settings, cohort_error *err);
/* Each gives an opened adapter its values: those of a folder (adapter_read), or start values. */
cohort_status model_adapter_read(struct model_adapter *adapter, const char *dir,
                                 const struct adapter_settings *settings, struct weight_files *files,
                                 cohort_error *err);
/* Magnitudes and tensors in place of the base's come from the base, which must have its values. */
cohort_status model_adapter_start(struct model_adapter *adapter, uint64_t seed, cohort_error *err);
void model_adapter_destroy(struct model_adapter *adapter);

/* Packs all values again, after an update. */
void model_adapter_refresh(const struct model_adapter *adapter);
/* Bytes that its values take, with what is packed of them. */
size_t model_adapter_bytes(const struct model_adapter *adapter);
/* The ranks of the parts of one projection together, the columns that one reduction has, and the rank of an expert, at
 * most: what a backend plans with. */
void model_adapter_extent(const struct model_adapter *adapter, int64_t *rank, int64_t *depth, int64_t *expert_rank);

/* What the next forwards and backwards drop. */
void model_adapter_drop(struct model_adapter *adapter, const struct adapter_dropout *dropout);

/* From here on the model computes with the adapter; NULL: with its base alone. adapter must be of this model. */
void model_wear(struct model *model, const struct model_adapter *adapter);

#endif

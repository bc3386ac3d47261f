/* A decoder: the shape, its parameters (base), and the projections and norms that are made of them. What an optimizer
 * changes is trained: the base itself, or an adapter beside a base that is frozen.
 *
 * Owns the parameters, the adapter, the packed copies for products and the rotation tables. */
#ifndef COHORT_MODEL_MODEL_H
#define COHORT_MODEL_MODEL_H

#include "format/architecture.h"
#include "format/checkpoint.h"
#include "model/arena.h"
#include "model/attention_block.h"
#include "model/experts.h"
#include "model/feed_forward.h"
#include "model/rotation.h"

struct adapter_layout;
struct model_adapter;

struct layer {
    struct attention_block attention;
    bool sparse; /* it has experts, and no feed_forward */
    struct feed_forward feed_forward;
    struct experts experts;
};

struct model {
    struct backend *backend;
    struct model_config config;
    enum dtype type; /* of activations: BF16 or F32. Weights that products read have it too; other parameters have the
                        format that their table says */
    struct param_set base;
    struct model_adapter
        *adapter;              /* owned; NULL: there is none. The model wears it, unless somebody scores with another
                                      one or with the base (model_wear) */
    struct param_set *trained; /* &base, or the adapter's; its training arrays are there after param_set_train_begin */
    struct layer *layers;      /* [L] */
    const struct param_set *embedding_set; /* of the embedding: the base, or the adapter's */
    const struct param *embedding;
    const struct embedding_adapter *embedding_adapter; /* borrowed; what changes it, or NULL */
    struct norm final_norm;
    struct linear head;  /* its weight is the embedding when tied, and that of the scores of a classifier */
    uint64_t head_seed;  /* of a head that is drawn where the weights are read */
    int32_t max_context; /* positions the rotation tables cover */
    struct rotation rotation;
    uint64_t n_changes;               /* of its weights: model_refresh */
    const struct model_adapter *worn; /* by model_wear */
    /* Where ranks divide the base's matrices (param_set_divides): */
    uint64_t n_packed; /* base.n_brought when a layer was packed last */
    bool whole;        /* products read the whole weights (model_gather_whole) */
};

/* A model of this shape without its weights: no backend memory is taken, but sizes are known, for plans. config is
 * copied. type: BF16 or F32; max_context: positions that will be used (at most config.max_positions; 0: all). */
cohort_status model_open(struct model **out, struct backend *backend, const struct model_config *config,
                         enum dtype type, int32_t max_context, cohort_error *err);
/* Has a model that is only open, in F32 and without what trains in it, keep its matrices as F16: those of a checkpoint
 * whose tensors are F16, so that no value changes. */
void model_store_f16(struct model *model);
/* Has a model that is only open, without an adapter, hold the matrices of its projections once, packed for products, where
 * the backend packs them: what is left is for the forward alone, in half the memory. Nothing happens elsewhere. */
void model_pack_alone(struct model *model);
/* A checkpoint_sink with the model as context, for all of its weights or others in their place (then model_refresh). */
cohort_status model_store(void *context, const struct param *param, int64_t first, int64_t count, const void *data,
                          cohort_error *err);
/* Allocates the weights of an opened model and reads them from a checkpoint of its shape. After an error the model can
 * only be destroyed. files: NULL, or gets the files and their hashes (checkpoint_read_hashed). */
cohort_status model_read(struct model *model, const char *dir, struct weight_files *files, cohort_error *err);
/* model_open and model_read. */
cohort_status model_load(struct model **out, struct backend *backend, const char *dir, enum dtype type,
                         int32_t max_context, cohort_error *err);
cohort_status model_load_hashed(struct model **out, struct backend *backend, const char *dir, enum dtype type,
                                int32_t max_context, struct weight_files *files, cohort_error *err);
/* A model of this shape whose weights come from fetch in place of a checkpoint. config is copied. */
cohort_status model_create(struct model **out, struct backend *backend, const struct model_config *config,
                           enum dtype type, int32_t max_context, checkpoint_fetch *fetch, void *context,
                           cohort_error *err);
/* Gives an opened model an adapter without values and puts it on; the model owns it. */
cohort_status model_adapt(struct model *model, const struct adapter_settings *settings, cohort_error *err);
/* The adapter trains from here on, and the base is frozen. */
void model_train_adapter(struct model *model);
/* A second model with the weights as they are now, without its adapter (the frozen reference). */
cohort_status model_clone(struct model **out, const struct model *from, cohort_error *err);
void model_destroy(struct model *model);

/* Repacks every weight that trains, after an update of model->trained (or another change of its values). A stop does
 * not end it: products must not see half an update. */
void model_refresh(struct model *model);

/* ---- Weights that ranks divide; without such nothing happens. All ranks call these in the same order. ---- */

/* A layer's weights are there, for its forward and backward (param_shard_need). */
void model_need_layer(struct model *model, int32_t layer);
/* Memory for the weights of all layers at once, from the arena of the rollout: twice, to measure and to allocate. */
cohort_status model_plan_whole(struct model *model, struct arena *arena, cohort_error *err);
/* Gathers them, layer by layer, so that until model_leave_whole every rank runs the model by itself. */
cohort_status model_gather_whole(struct model *model, cohort_error *err);
void model_leave_whole(struct model *model);

/* Which tensors embedding and norms are: the base's, or those that a set with this layout has in their place (NULL: no
 * set). model_wear calls it. */
void model_place(struct model *model, const struct param_set *set, const struct adapter_layout *layout);
/* Whether it knows a tensor of the base. */
bool model_places(const struct model *model, const struct param *param);

/* The projections: those of the layers in order, then the head. NULL: one that the layer does not have. */
int32_t model_linears(const struct model *model);
struct linear *model_linear(const struct model *model, int32_t i);
/* Those of experts, likewise. */
int32_t model_stacks(const struct model *model);
struct expert_stack *model_stack(const struct model *model, int32_t i);

/* The embedding's rows of ids, [count, C] on the host. */
cohort_status model_embed(const struct model *model, const int32_t *ids, size_t count, float *out, cohort_error *err);

/* Bytes that the weights take (natural and packed, with the rotation tables and the adapter). The model need only be
 * open. */
size_t model_weight_bytes(const struct model *model);

#endif

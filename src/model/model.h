/* A decoder's weights in backend memory, and what training keeps beside them.
 *
 * Owns: the weight buffer (element offsets of the parameter table), the packed copies for products, the rotation
 * tables; after model_train_begin also gradient, optimizer moments and the low halves of the split master. */
#ifndef COHORT_MODEL_MODEL_H
#define COHORT_MODEL_MODEL_H

#include "backend/backend.h"
#include "format/checkpoint.h"

struct layer_weights {
    const struct param *input_norm, *q_norm, *k_norm, *post_norm;
    const struct param *q, *o, *gate, *down; /* q starts the fused q, k, v; gate the fused gate, up */
    struct weight *qkv, *attn_out, *gate_up, *ffn_down;
};

struct model {
    struct backend *backend;
    struct model_config config;
    struct param_table params;
    enum dtype type;                                         /* of weights and activations: BF16 or F32 */
    void *weights;                                           /* [n_elements] type */
    struct layer_weights *layers;                            /* [L] */
    const struct param *embedding, *final_norm, *head_param; /* head_param is the embedding when tied */
    struct weight *head;
    int32_t max_context;          /* positions the rotation tables cover */
    float *cos_table, *sin_table; /* [max_context, D/2] */

    /* Training only, else NULL. */
    float *grad; /* [n_elements] */
    void *m, *v; /* [n_elements] moment_type */
    enum dtype moment_type;
    int16_t *low; /* [n_elements], BF16 only */
};

/* A model of this shape without its weights: no backend memory is taken, but sizes are known, for plans. config is
 * copied. type: BF16 or F32; max_context: positions that will be used (at most config.max_positions; 0: all). */
cohort_status model_open(struct model **out, struct backend *backend, const struct model_config *config,
                         enum dtype type, int32_t max_context, cohort_error *err);
/* Allocates the weights of an opened model and reads them from a checkpoint of its shape. After an error the model can
 * only be destroyed. files: NULL, or gets the files and their hashes (checkpoint_read_hashed). */
cohort_status model_read(struct model *model, const char *dir, struct weight_files *files, cohort_error *err);
/* Both. */
cohort_status model_load(struct model **out, struct backend *backend, const char *dir, enum dtype type,
                         int32_t max_context, cohort_error *err);
cohort_status model_load_hashed(struct model **out, struct backend *backend, const char *dir, enum dtype type,
                                int32_t max_context, struct weight_files *files, cohort_error *err);
/* A model of this shape whose weights come from fetch in place of a checkpoint. config is copied. */
cohort_status model_create(struct model **out, struct backend *backend, const struct model_config *config,
                           enum dtype type, int32_t max_context, checkpoint_fetch *fetch, void *context,
                           cohort_error *err);
/* A second model with the weights as they are now (the frozen reference). */
cohort_status model_clone(struct model **out, const struct model *from, cohort_error *err);
void model_destroy(struct model *model);

/* Allocates gradient and optimizer state, zeroed; moments in F32 or BF16. */
cohort_status model_train_begin(struct model *model, enum dtype moment_type, cohort_error *err);
/* Repacks every weight after an update or a load. */
void model_refresh(struct model *model);

/* Address of a tensor in the weight buffer (backend memory) and of its gradient. */
void *model_tensor(const struct model *model, const struct param *param);
float *model_grad(const struct model *model, const struct param *param);

/* Bytes that the weights take (natural and packed, with the rotation tables), and that training adds. The model need
 * only be open. */
size_t model_weight_bytes(const struct model *model);
size_t model_train_bytes(const struct model *model, enum dtype moment_type);

/* For checkpoint_write_weights: context is the model. */
cohort_status model_fetch(void *context, const struct param *param, int64_t first, int64_t count, void *to,
                          cohort_error *err);

#endif

/* The feed-forward blocks that are experts behind a router, as config.json describes them. */
#ifndef COHORT_FORMAT_EXPERT_CONFIG_H
#define COHORT_FORMAT_EXPERT_CONFIG_H

#include "format/config_keys.h"

struct config_defaults;

enum { MODEL_MAX_DENSE = 128 };

struct expert_config {
    int32_t n, chosen, size; /* experts of a layer (0: the model has none); of them for a token; width of one */
    bool normalised;         /* the weights of a token's experts add up to 1 */
    bool fused;              /* the files hold the experts of a layer as one tensor (expert_layout_look) */
    int32_t sparse_step;     /* layers step - 1, 2 * step - 1, ... have experts, */
    int32_t n_dense;         /* but for these */
    uint16_t dense[MODEL_MAX_DENSE];
    double aux_coef; /* router_aux_loss_coef */
};

/* absent: the family's. intermediate_size: the model's, which is that of experts too in families whose experts have no
 * size of their own. */
cohort_status expert_config_read(struct expert_config *experts, const struct config_source *source,
                                 const struct config_defaults *absent, int32_t n_layers, int32_t intermediate_size);
/* Puts it into a config.json under the names that it has. False: no memory. */
bool expert_config_write(json_t *json, const struct expert_config *experts, const struct config_defaults *absent);
/* Whether a layer has experts. */
bool expert_config_sparse(const struct expert_config *experts, int32_t layer);

#endif

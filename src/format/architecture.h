/* What differs between families of decoders, as data: a family is one row. The row says how config.json and the tensors
 * of a checkpoint call things, and by that which optional tensors there are; the decoder asks for tensors by role and
 * leaves out what a family has not. */
#ifndef COHORT_FORMAT_ARCHITECTURE_H
#define COHORT_FORMAT_ARCHITECTURE_H

#include "tensor/param.h"

struct model_config;

/* In the order of the parameter table; the roles of a layer repeat for every layer. */
enum tensor_role {
    TENSOR_EMBEDDING,
    TENSOR_INPUT_NORM, /* the first of a layer */
    TENSOR_QUERY,
    TENSOR_KEY,   /* adjacent to the query's */
    TENSOR_VALUE, /* likewise */
    TENSOR_QUERY_BIAS,
    TENSOR_KEY_BIAS,   /* adjacent to the query's; a family has all three biases or none */
    TENSOR_VALUE_BIAS, /* likewise */
    TENSOR_QUERY_NORM,
    TENSOR_KEY_NORM,
    TENSOR_ATTENTION_OUT,
    TENSOR_ATTENTION_OUT_BIAS,
    TENSOR_POST_NORM,
    TENSOR_GATE,
    TENSOR_UP, /* adjacent to the gate's */
    TENSOR_GATE_BIAS,
    TENSOR_UP_BIAS, /* adjacent to the gate's */
    TENSOR_DOWN,
    TENSOR_DOWN_BIAS,
    TENSOR_ROUTER,      /* in place of those before from the gate on, in layers with experts; so are the next */
    TENSOR_EXPERT_GATE, /* of expert 0, the others' adjacent to the up of the expert before; or of all, with their up */
    TENSOR_EXPERT_UP,   /* adjacent to its gate's */
    TENSOR_EXPERT_DOWN, /* of expert 0, the others' adjacent, or of all; the last of a layer */
    TENSOR_FINAL_NORM,
    TENSOR_HEAD,  /* not in a model that ties it to the embedding */
    TENSOR_SCORE, /* in place of the head, in a sequence classifier (n_labels of config) */
    N_TENSOR_ROLES
};

/* What keys of config.json mean where they are absent: the defaults of the family's config class in transformers. */
struct config_defaults {
    int32_t vocab_size, hidden_size, n_layers, n_heads, n_kv_heads, intermediate_size, max_positions;
    int32_t head_dim; /* 0: hidden_size / n_heads; n_kv_heads 0: n_heads */
    int32_t sliding_window, max_window_layers;
    int32_t bos_id, eos_id; /* 0: none */
    float rms_norm_eps;
    double rope_theta, initializer_range;
    bool tie_embeddings;
    int32_t n_experts, experts_chosen; /* 0: the family has none */
    int32_t expert_size;               /* 0: intermediate_size, which then is no key of its own */
};

/* Which keys say that layers see a window of the last positions only (read_windows). */
enum window_rule { WINDOWS_NONE, WINDOWS_BY_FLAG, WINDOWS_EVERYWHERE, WINDOWS_ALL_BY_FLAG };

struct architecture {
    const char *model_type; /* config.json's model_type */
    const char *class_name; /* of transformers, NAMEForCausalLM: the only entry of config.json's architectures. Of a
                               sequence classifier it is NAMEForSequenceClassification. */
    struct config_defaults absent;
    enum window_rule windows;
    bool biased; /* q, k and v have biases whatever config.json says; else its keys attention_bias and mlp_bias say
                    whether the bias tensors named below are there */
    /* Tensor names; '*' stands for the number of the layer, the second one for that of the expert. NULL: models of this
     * family have no such tensor. Those of experts that are one tensor are the same in all families. */
    const char *tensors[N_TENSOR_ROLES];
};

enum {
    ARCHITECTURE_QWEN3,
    ARCHITECTURE_QWEN2,
    ARCHITECTURE_LLAMA,
    ARCHITECTURE_MISTRAL,
    ARCHITECTURE_QWEN3_MOE,
    ARCHITECTURE_MIXTRAL,
    N_ARCHITECTURES
};
extern const struct architecture architectures[N_ARCHITECTURES];

/* The class of transformers that a config is of. */
enum { ARCHITECTURE_CLASS_BYTES = 80 };
void architecture_class(const struct architecture *architecture, bool classifier, char out[ARCHITECTURE_CLASS_BYTES]);

/* The parameter table for a config, in the order of enum tensor_role, laid out, all tensors in one format. layer is 0
 * for roles outside of layers. */
cohort_status architecture_params(const struct model_config *config, enum storage_format format,
                                  struct param_table *table, cohort_error *err);
/* Whether a role is one of layers with experts only. */
bool architecture_expert_role(enum tensor_role role);
/* The tensor of a role in such a table; NULL if the family or this model has none. */
const struct param *architecture_param(const struct model_config *config, const struct param_table *table,
                                       enum tensor_role role, int32_t layer);

#endif

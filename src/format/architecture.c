#include "format/architecture.h"

#include "format/model_config.h"

#include <stdio.h>
#include <string.h>

#define LAYER "model.layers.*."

/* The names that every decoder after Llama's pattern has in common. */
#define LLAMA_TENSORS                                                                                                  \
    [TENSOR_EMBEDDING] = "model.embed_tokens.weight", [TENSOR_INPUT_NORM] = LAYER "input_layernorm.weight",            \
    [TENSOR_QUERY] = LAYER "self_attn.q_proj.weight", [TENSOR_KEY] = LAYER "self_attn.k_proj.weight",                  \
    [TENSOR_VALUE] = LAYER "self_attn.v_proj.weight", [TENSOR_ATTENTION_OUT] = LAYER "self_attn.o_proj.weight",        \
    [TENSOR_POST_NORM] = LAYER "post_attention_layernorm.weight", [TENSOR_GATE] = LAYER "mlp.gate_proj.weight",        \
    [TENSOR_UP] = LAYER "mlp.up_proj.weight", [TENSOR_DOWN] = LAYER "mlp.down_proj.weight",                            \
    [TENSOR_FINAL_NORM] = "model.norm.weight", [TENSOR_HEAD] = "lm_head.weight"

#define QKV_BIASES                                                                                                     \
    [TENSOR_QUERY_BIAS] = LAYER "self_attn.q_proj.bias", [TENSOR_KEY_BIAS] = LAYER "self_attn.k_proj.bias",            \
    [TENSOR_VALUE_BIAS] = LAYER "self_attn.v_proj.bias"
#define OUT_BIAS [TENSOR_ATTENTION_OUT_BIAS] = LAYER "self_attn.o_proj.bias"
#define MLP_BIASES                                                                                                     \
    [TENSOR_GATE_BIAS] = LAYER "mlp.gate_proj.bias", [TENSOR_UP_BIAS] = LAYER "mlp.up_proj.bias",                      \
    [TENSOR_DOWN_BIAS] = LAYER "mlp.down_proj.bias"

/* The defaults that Qwen2Config and Qwen3Config have in common. */
#define QWEN_DEFAULTS                                                                                                  \
    .vocab_size = 151936, .hidden_size = 4096, .n_layers = 32, .n_heads = 32, .n_kv_heads = 32,                        \
    .intermediate_size = 22016, .max_positions = 32768, .sliding_window = 4096, .max_window_layers = 28,               \
    .rms_norm_eps = 1e-6f, .rope_theta = 10000.0, .initializer_range = 0.02

/* Those that LlamaConfig and MistralConfig have in common. */
#define LLAMA_DEFAULTS                                                                                                 \
    .vocab_size = 32000, .hidden_size = 4096, .n_layers = 32, .n_heads = 32, .bos_id = 1, .eos_id = 2,                 \
    .rms_norm_eps = 1e-6f, .rope_theta = 10000.0, .initializer_range = 0.02

const struct architecture architectures[N_ARCHITECTURES] = {
    [ARCHITECTURE_QWEN3] = {.model_type = "qwen3",
                            .class_name = "Qwen3ForCausalLM",
                            .absent = {QWEN_DEFAULTS, .head_dim = 128},
                            .windows = WINDOWS_BY_FLAG,
                            .tensors = {LLAMA_TENSORS, QKV_BIASES,
                                        OUT_BIAS, [TENSOR_QUERY_NORM] = LAYER "self_attn.q_norm.weight",
                                        [TENSOR_KEY_NORM] = LAYER "self_attn.k_norm.weight"}},
    [ARCHITECTURE_QWEN2] = {.model_type = "qwen2", /* Qwen2, Qwen2.5, QwQ, R1-Distill-Qwen */
                            .class_name = "Qwen2ForCausalLM",
                            .absent = {QWEN_DEFAULTS},
                            .windows = WINDOWS_BY_FLAG,
                            .biased = true,
                            .tensors = {LLAMA_TENSORS, QKV_BIASES}},
    [ARCHITECTURE_LLAMA] = {.model_type = "llama", /* Llama 2 to 3.3, R1-Distill-Llama, SmolLM2, TinyLlama, Yi, ... */
                            .class_name = "LlamaForCausalLM",
                            .absent = {LLAMA_DEFAULTS, .intermediate_size = 11008, .max_positions = 2048},
                            .tensors = {LLAMA_TENSORS, QKV_BIASES, OUT_BIAS, MLP_BIASES}},
    [ARCHITECTURE_MISTRAL] = {.model_type = "mistral", /* Mistral 7B, Nemo, Small */
                              .class_name = "MistralForCausalLM",
                              .absent = {LLAMA_DEFAULTS, .n_kv_heads = 8, .intermediate_size = 14336,
                                         .max_positions = 131072, .sliding_window = 4096},
                              .windows = WINDOWS_EVERYWHERE,
                              .tensors = {LLAMA_TENSORS}},
};

/* [rows, columns] of a role's tensor; columns 0: a vector of rows elements. */
static void shape_of(const struct model_config *c, enum tensor_role role, int64_t *rows, int64_t *columns)
{
    const int64_t C = c->hidden_size, F = c->intermediate_size, D = c->head_dim;
    const int64_t shapes[N_TENSOR_ROLES][2] = {[TENSOR_EMBEDDING] = {c->vocab_size, C},
                                               [TENSOR_INPUT_NORM] = {C, 0},
                                               [TENSOR_QUERY] = {c->n_heads * D, C},
                                               [TENSOR_KEY] = {c->n_kv_heads * D, C},
                                               [TENSOR_VALUE] = {c->n_kv_heads * D, C},
                                               [TENSOR_QUERY_BIAS] = {c->n_heads * D, 0},
                                               [TENSOR_KEY_BIAS] = {c->n_kv_heads * D, 0},
                                               [TENSOR_VALUE_BIAS] = {c->n_kv_heads * D, 0},
                                               [TENSOR_QUERY_NORM] = {D, 0},
                                               [TENSOR_KEY_NORM] = {D, 0},
                                               [TENSOR_ATTENTION_OUT] = {C, c->n_heads * D},
                                               [TENSOR_ATTENTION_OUT_BIAS] = {C, 0},
                                               [TENSOR_POST_NORM] = {C, 0},
                                               [TENSOR_GATE] = {F, C},
                                               [TENSOR_UP] = {F, C},
                                               [TENSOR_GATE_BIAS] = {F, 0},
                                               [TENSOR_UP_BIAS] = {F, 0},
                                               [TENSOR_DOWN] = {C, F},
                                               [TENSOR_DOWN_BIAS] = {C, 0},
                                               [TENSOR_FINAL_NORM] = {C, 0},
                                               [TENSOR_HEAD] = {c->vocab_size, C}};
    *rows = shapes[role][0];
    *columns = shapes[role][1];
}

/* The pattern with the layer in place of '*'. */
static void name_of(const char *pattern, int32_t layer, char *out, size_t size)
{
    const char *star = strchr(pattern, '*');
    if (star == NULL)
        snprintf(out, size, "%s", pattern);
    else
        snprintf(out, size, "%.*s%d%s", (int)(star - pattern), pattern, (int)layer, star + 1);
}

static bool is_attention_bias(enum tensor_role role)
{
    return (role >= TENSOR_QUERY_BIAS && role <= TENSOR_VALUE_BIAS) || role == TENSOR_ATTENTION_OUT_BIAS;
}

static bool is_mlp_bias(enum tensor_role role)
{
    return role == TENSOR_GATE_BIAS || role == TENSOR_UP_BIAS || role == TENSOR_DOWN_BIAS;
}

/* NULL: there is no such tensor. */
static const char *pattern_of(const struct model_config *config, enum tensor_role role)
{
    if ((role == TENSOR_HEAD && config->tie_embeddings) || (is_attention_bias(role) && !config->attention_bias) ||
        (is_mlp_bias(role) && !config->mlp_bias))
        return NULL;
    return config->architecture->tensors[role];
}

/* The table has room for all. */
static void add_params(struct param_table *table, const struct model_config *config, enum storage_format format,
                       enum tensor_role begin, enum tensor_role end, int32_t layer)
{
    for (enum tensor_role role = begin; role < end; role++) {
        const char *pattern = pattern_of(config, role);
        int64_t rows = 0, columns = 0;
        if (pattern == NULL)
            continue;
        shape_of(config, role, &rows, &columns);
        struct param *param = &table->params[table->n_params++];
        name_of(pattern, layer, param->name, sizeof param->name);
        param->rank = columns > 0 ? 2 : 1;
        param->shape[0] = rows;
        param->shape[1] = columns > 0 ? columns : 1;
        param->count = rows * param->shape[1];
        param->format = format;
        param->adjacent = role == TENSOR_KEY || role == TENSOR_VALUE || role == TENSOR_UP || role == TENSOR_KEY_BIAS ||
                          role == TENSOR_VALUE_BIAS || role == TENSOR_UP_BIAS;
        param->decay = param->rank == 2;
        param->kind = param->rank != 2           ? PARAM_VECTOR
                      : role == TENSOR_EMBEDDING ? PARAM_EMBEDDING
                      : role == TENSOR_HEAD      ? PARAM_HEAD
                                                 : PARAM_MATRIX;
        param->start = is_attention_bias(role) || is_mlp_bias(role) ? 0.0f : 1.0f;
    }
}

cohort_status architecture_params(const struct model_config *config, enum storage_format format,
                                  struct param_table *table, cohort_error *err)
{
    enum { PER_LAYER = TENSOR_FINAL_NORM - TENSOR_INPUT_NORM };
    const size_t most = (size_t)config->n_layers * PER_LAYER + (N_TENSOR_ROLES - PER_LAYER);
    memset(table, 0, sizeof *table);
    TRY(mem_alloc(&table->params, most, sizeof *table->params, "parameter table", err));
    add_params(table, config, format, TENSOR_EMBEDDING, TENSOR_INPUT_NORM, 0);
    for (int32_t layer = 0; layer < config->n_layers; layer++)
        add_params(table, config, format, TENSOR_INPUT_NORM, TENSOR_FINAL_NORM, layer);
    add_params(table, config, format, TENSOR_FINAL_NORM, N_TENSOR_ROLES, 0);
    param_table_layout(table);
    return COHORT_OK;
}

const struct param *architecture_param(const struct model_config *config, const struct param_table *table,
                                       enum tensor_role role, int32_t layer)
{
    char name[sizeof table->params->name];
    const char *pattern = pattern_of(config, role);
    if (pattern == NULL)
        return NULL;
    name_of(pattern, layer, name, sizeof name);
    return param_find(table, name);
}

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
    [TENSOR_FINAL_NORM] = "model.norm.weight", [TENSOR_HEAD] = "lm_head.weight", [TENSOR_SCORE] = "score.weight"

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

/* Other than Mistral's, and with no window where the key is absent. */
#define MIXTRAL_DEFAULTS                                                                                               \
    .vocab_size = 32000, .hidden_size = 4096, .n_layers = 32, .n_heads = 32, .bos_id = 1, .eos_id = 2,                 \
    .rms_norm_eps = 1e-5f, .rope_theta = 1e6, .initializer_range = 0.02

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
    [ARCHITECTURE_QWEN3_MOE] =
        {.model_type = "qwen3_moe", /* Qwen3-30B-A3B, 235B-A22B, Qwen3-Coder */
         .class_name = "Qwen3MoeForCausalLM",
         .absent = {.vocab_size = 151936,
                    .hidden_size = 2048,
                    .n_layers = 24,
                    .n_heads = 32,
                    .n_kv_heads = 4,
                    .intermediate_size = 6144,
                    .max_positions = 32768,
                    .sliding_window = 4096,
                    .rms_norm_eps = 1e-6f,
                    .rope_theta = 10000.0,
                    .initializer_range = 0.02,
                    .n_experts = 128,
                    .experts_chosen = 8,
                    .expert_size = 768},
         .windows = WINDOWS_ALL_BY_FLAG,
         .tensors = {LLAMA_TENSORS, QKV_BIASES, OUT_BIAS, [TENSOR_QUERY_NORM] = LAYER "self_attn.q_norm.weight",
                     [TENSOR_KEY_NORM] = LAYER "self_attn.k_norm.weight", [TENSOR_ROUTER] = LAYER "mlp.gate.weight",
                     [TENSOR_EXPERT_GATE] = LAYER "mlp.experts.*.gate_proj.weight",
                     [TENSOR_EXPERT_UP] = LAYER "mlp.experts.*.up_proj.weight",
                     [TENSOR_EXPERT_DOWN] = LAYER "mlp.experts.*.down_proj.weight"}},
    [ARCHITECTURE_MIXTRAL] = {.model_type = "mixtral",
                              .class_name = "MixtralForCausalLM",
                              .absent = {MIXTRAL_DEFAULTS, .n_kv_heads = 8, .intermediate_size = 14336,
                                         .max_positions = 131072, .n_experts = 8, .experts_chosen = 2},
                              .windows = WINDOWS_EVERYWHERE,
                              .tensors = {LLAMA_TENSORS, [TENSOR_ROUTER] = LAYER "block_sparse_moe.gate.weight",
                                          [TENSOR_EXPERT_GATE] = LAYER "block_sparse_moe.experts.*.w1.weight",
                                          [TENSOR_EXPERT_UP] = LAYER "block_sparse_moe.experts.*.w3.weight",
                                          [TENSOR_EXPERT_DOWN] = LAYER "block_sparse_moe.experts.*.w2.weight"}},
};

/* What transformers 5 calls the tensors where the experts of a layer are one: in memory, and on disk on request. */
static const char *const fused_tensors[N_TENSOR_ROLES] = {[TENSOR_ROUTER] = LAYER "mlp.gate.weight",
                                                          [TENSOR_EXPERT_GATE] = LAYER "mlp.experts.gate_up_proj",
                                                          [TENSOR_EXPERT_DOWN] = LAYER "mlp.experts.down_proj"};

bool architecture_expert_role(enum tensor_role role) { return role >= TENSOR_ROUTER && role <= TENSOR_EXPERT_DOWN; }

void architecture_class(const struct architecture *architecture, bool classifier, char out[ARCHITECTURE_CLASS_BYTES])
{
    const char *name = architecture->class_name;
    const int stem = (int)(strlen(name) - strlen("ForCausalLM"));
    snprintf(out, ARCHITECTURE_CLASS_BYTES, "%.*s%s", stem, name,
             classifier ? "ForSequenceClassification" : "ForCausalLM");
}

/* [rows, columns] of a role's tensor; columns 0: a vector of rows elements. */
static void shape_of(const struct model_config *c, enum tensor_role role, int64_t *rows, int64_t *columns)
{
    const int64_t C = c->hidden_size, F = c->intermediate_size, D = c->head_dim, I = c->experts.size;
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
                                               [TENSOR_ROUTER] = {c->experts.n, C},
                                               [TENSOR_EXPERT_GATE] = {c->experts.fused ? 2 * I : I, C},
                                               [TENSOR_EXPERT_UP] = {I, C},
                                               [TENSOR_EXPERT_DOWN] = {C, I},
                                               [TENSOR_FINAL_NORM] = {C, 0},
                                               [TENSOR_HEAD] = {c->vocab_size, C},
                                               [TENSOR_SCORE] = {c->n_labels, C}};
    *rows = shapes[role][0];
    *columns = shapes[role][1];
}

/* The pattern with the numbers of layer and expert in place of its '*'. */
static void name_of(const char *pattern, int32_t layer, int32_t expert, char *out, size_t size)
{
    const int32_t numbers[] = {layer, expert};
    size_t used = 0;
    int next = 0;
    for (; *pattern != '\0' && used + 1 < size; pattern++) {
        if (*pattern != '*') {
            out[used++] = *pattern;
            continue;
        }
        const int n = snprintf(out + used, size - used, "%d", (int)numbers[next]);
        used += n > 0 && used + (size_t)n < size ? (size_t)n : size - used - 1;
        next = 1;
    }
    out[used] = '\0';
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
static const char *pattern_of(const struct model_config *config, enum tensor_role role, int32_t layer)
{
    const bool dense_role = role >= TENSOR_GATE && role <= TENSOR_DOWN_BIAS,
               expert_role = architecture_expert_role(role);
    if ((role == TENSOR_HEAD && (config->tie_embeddings || config->n_labels > 0)) ||
        (role == TENSOR_SCORE && config->n_labels == 0) || (is_attention_bias(role) && !config->attention_bias) ||
        (is_mlp_bias(role) && !config->mlp_bias) ||
        ((dense_role || expert_role) && model_config_sparse(config, layer) != expert_role))
        return NULL;
    return expert_role && config->experts.fused ? fused_tensors[role] : config->architecture->tensors[role];
}

static bool is_adjacent(enum tensor_role role, int32_t expert)
{
    switch (role) {
    case TENSOR_KEY:
    case TENSOR_VALUE:
    case TENSOR_UP:
    case TENSOR_KEY_BIAS:
    case TENSOR_VALUE_BIAS:
    case TENSOR_UP_BIAS:
    case TENSOR_EXPERT_UP: return true;
    default: return expert > 0;
    }
}

/* The table has room for it. */
static void add_param(struct param_table *table, const struct model_config *config, enum storage_format format,
                      enum tensor_role role, int32_t layer, int32_t expert)
{
    const char *pattern = pattern_of(config, role, layer);
    int64_t rows = 0, columns = 0;
    if (pattern == NULL)
        return;
    shape_of(config, role, &rows, &columns);
    struct param *param = &table->params[table->n_params++];
    name_of(pattern, layer, expert, param->name, sizeof param->name);
    const bool stack = config->experts.fused && (role == TENSOR_EXPERT_GATE || role == TENSOR_EXPERT_DOWN);
    param->rank = stack ? 3 : columns > 0 ? 2 : 1;
    param->shape[0] = stack ? config->experts.n : rows;
    param->shape[1] = stack ? rows : columns > 0 ? columns : 1;
    param->shape[2] = stack ? columns : 1;
    param->count = param->shape[0] * param->shape[1] * param->shape[2];
    param->format = format;
    param->adjacent = is_adjacent(role, expert);
    param->expert = architecture_expert_role(role);
    param->decay = param->rank >= 2;
    param->kind = param->rank != 2           ? PARAM_VECTOR
                  : role == TENSOR_EMBEDDING ? PARAM_EMBEDDING
                  : role >= TENSOR_HEAD      ? PARAM_HEAD
                                             : PARAM_MATRIX;
    param->layer = role >= TENSOR_INPUT_NORM && role < TENSOR_FINAL_NORM ? layer + 1 : 0;
    param->drawn = role == TENSOR_SCORE && config->head_is_new;
    param->start = is_attention_bias(role) || is_mlp_bias(role) ? 0.0f : 1.0f;
}

/* The table has room for all. */
static void add_params(struct param_table *table, const struct model_config *config, enum storage_format format,
                       enum tensor_role begin, enum tensor_role end, int32_t layer)
{
    const int32_t n_experts = config->experts.fused ? 1 : config->experts.n;
    for (enum tensor_role role = begin; role < end; role++) {
        if (role == TENSOR_EXPERT_GATE)
            for (int32_t e = 0; e < n_experts; e++) {
                add_param(table, config, format, TENSOR_EXPERT_GATE, layer, e);
                add_param(table, config, format, TENSOR_EXPERT_UP, layer, e);
            }
        else if (role == TENSOR_EXPERT_DOWN)
            for (int32_t e = 0; e < n_experts; e++)
                add_param(table, config, format, TENSOR_EXPERT_DOWN, layer, e);
        else if (role != TENSOR_EXPERT_UP)
            add_param(table, config, format, role, layer, 0);
    }
}

cohort_status architecture_params(const struct model_config *config, enum storage_format format,
                                  struct param_table *table, cohort_error *err)
{
    enum { PER_LAYER = TENSOR_FINAL_NORM - TENSOR_INPUT_NORM };
    const size_t of_experts = config->experts.fused ? 0 : 3 * (size_t)config->experts.n;
    const size_t most = (size_t)config->n_layers * (PER_LAYER + of_experts) + (N_TENSOR_ROLES - PER_LAYER);
    memset(table, 0, sizeof *table);
    TRY(mem_alloc(&table->params, most, sizeof *table->params, "parameter table", err));
    add_params(table, config, format, TENSOR_EMBEDDING, TENSOR_INPUT_NORM, 0);
    for (int32_t layer = 0; layer < config->n_layers; layer++)
        add_params(table, config, format, TENSOR_INPUT_NORM, TENSOR_FINAL_NORM, layer);
    add_params(table, config, format, TENSOR_FINAL_NORM, N_TENSOR_ROLES, 0);
    param_table_layout(table);
    const cohort_status status = param_table_index(table, err);
    if (status != COHORT_OK)
        param_table_free(table);
    return status;
}

const struct param *architecture_param(const struct model_config *config, const struct param_table *table,
                                       enum tensor_role role, int32_t layer)
{
    char name[sizeof table->params->name];
    const char *pattern = pattern_of(config, role, layer);
    if (pattern == NULL)
        return NULL;
    name_of(pattern, layer, 0, name, sizeof name);
    return param_find(table, name);
}

#include "format/model_preset.h"

#include "format/architecture.h"

#include <string.h>

/* What the published models of a family have in common. */
enum preset_family {
    FAMILY_QWEN3,
    FAMILY_QWEN3_MOE,
    FAMILY_QWEN2_5,
    FAMILY_QWEN2_5_WIDE,
    FAMILY_LLAMA3_1,
    FAMILY_LLAMA3_2,
    FAMILY_SMOLLM2,
    FAMILY_MISTRAL,
    N_FAMILIES
};

struct preset {
    enum preset_family family;
    int32_t hidden_size, n_layers, n_heads, n_kv_heads, head_dim, intermediate_size, max_positions;
    bool tied;
    int32_t n_experts, chosen, expert_size; /* 0: dense */
};

#define SHAPE(id, word, family, ...) {FAMILY_##family, __VA_ARGS__},
static const struct preset presets[N_PRESETS] = {PRESET_LIST(SHAPE)};
#undef SHAPE
#define NAME(id, word, ...) word,
const char *const model_preset_names[N_PRESETS] = {PRESET_LIST(NAME)};
#undef NAME

struct family {
    int architecture; /* of architectures */
    int32_t vocab_size;
    const char *rms_norm_eps, *rope_theta, *rope_scaling; /* as config.json has them */
    bool states_head_dim;                                 /* its config.json has the key */
    const char *more;                                     /* its other keys */
    int32_t bos, pad, eos[3], n_eos;                      /* -1: none */
    const char *generation;                               /* what generation_config.json says of sampling */
};

enum { QWEN_VOCAB = 151936 };
#define QWEN_TOKENS   151643, 151643, {151645, 151643}, 2
#define LLAMA3_TOKENS 128000, -1, {128001, 128008, 128009}, 3
#define QWEN_MORE     ", \"attention_bias\": false, \"sliding_window\": null, \"use_sliding_window\": false"
#define QWEN2_MORE(w) ", \"sliding_window\": " w ", \"use_sliding_window\": false"
#define LLAMA_MORE    ", \"attention_bias\": false, \"mlp_bias\": false, \"pretraining_tp\": 1"
#define LLAMA3(factor)                                                                                                 \
    "{\"factor\": " factor ", \"high_freq_factor\": 4.0, \"low_freq_factor\": 1.0, "                                   \
    "\"original_max_position_embeddings\": 8192, \"rope_type\": \"llama3\"}"
#define QWEN_SAMPLING "{\"do_sample\": true, \"temperature\": 0.6, \"top_k\": 20, \"top_p\": 0.95}"
#define QWEN2_SAMPLING(penalty)                                                                                        \
    "{\"do_sample\": true, \"repetition_penalty\": " penalty ", \"temperature\": 0.7, \"top_k\": 20, \"top_p\": 0.8}"
#define LLAMA3_SAMPLING "{\"do_sample\": true, \"temperature\": 0.6, \"top_p\": 0.9}"

/* clang-format off */
static const struct family families[N_FAMILIES] = {
    [FAMILY_QWEN3] =        {ARCHITECTURE_QWEN3,     QWEN_VOCAB, "1e-06", "1000000", "null", true, QWEN_MORE,
                             QWEN_TOKENS, QWEN_SAMPLING},
    [FAMILY_QWEN3_MOE] =    {ARCHITECTURE_QWEN3_MOE, QWEN_VOCAB, "1e-06", "1000000", "null", true, QWEN_MORE,
                             QWEN_TOKENS, QWEN_SAMPLING},
    [FAMILY_QWEN2_5] =      {ARCHITECTURE_QWEN2,     QWEN_VOCAB, "1e-06", "1000000.0", "null", false,
                             QWEN2_MORE("32768"), QWEN_TOKENS, QWEN2_SAMPLING("1.1")},
    [FAMILY_QWEN2_5_WIDE] = {ARCHITECTURE_QWEN2,     QWEN_VOCAB + 128 /* from 7B on */, "1e-06", "1000000.0", "null",
                             false, QWEN2_MORE("131072"), QWEN_TOKENS, QWEN2_SAMPLING("1.05")},
    [FAMILY_LLAMA3_1] =     {ARCHITECTURE_LLAMA,     128256, "1e-05", "500000.0", LLAMA3("8.0"), false, LLAMA_MORE,
                             LLAMA3_TOKENS, LLAMA3_SAMPLING},
    [FAMILY_LLAMA3_2] =     {ARCHITECTURE_LLAMA,     128256, "1e-05", "500000.0", LLAMA3("32.0"), true, LLAMA_MORE,
                             LLAMA3_TOKENS, LLAMA3_SAMPLING},
    [FAMILY_SMOLLM2] =      {ARCHITECTURE_LLAMA,      49152, "1e-05", "100000", "null", false,
                             LLAMA_MORE ", \"rope_interleaved\": false", 1, 2, {2}, 1, "{}"},
    [FAMILY_MISTRAL] =      {ARCHITECTURE_MISTRAL,    32768, "1e-05", "1000000.0", "null", false,
                             ", \"sliding_window\": null", 1, -1, {2}, 1, "{}"},
};
/* clang-format on */

/* BOS and EOS are null here: they come from the family where the vocabulary has them. */
static cohort_status preset_text(const struct preset *preset, int32_t vocab_size, struct text *text, cohort_error *err)
{
    const struct family *family = &families[preset->family];
    const struct architecture *architecture = &architectures[family->architecture];
    TRY(text_printf(text, err,
                    "{\"architectures\": [\"%s\"], \"attention_dropout\": 0.0, \"bos_token_id\": null, "
                    "\"eos_token_id\": null, \"hidden_act\": \"silu\", "
                    "\"hidden_size\": %d, \"initializer_range\": 0.02, \"intermediate_size\": %d, "
                    "\"max_position_embeddings\": %d, \"model_type\": \"%s\", "
                    "\"num_attention_heads\": %d, \"num_hidden_layers\": %d, \"num_key_value_heads\": %d, "
                    "\"rms_norm_eps\": %s, \"rope_scaling\": %s, \"rope_theta\": %s, \"tie_word_embeddings\": %s, "
                    "\"torch_dtype\": \"bfloat16\", \"use_cache\": true, \"vocab_size\": %d%s",
                    architecture->class_name, preset->hidden_size, preset->intermediate_size, preset->max_positions,
                    architecture->model_type, preset->n_heads, preset->n_layers, preset->n_kv_heads,
                    family->rms_norm_eps, family->rope_scaling, family->rope_theta, preset->tied ? "true" : "false",
                    vocab_size, family->more));
    if (family->states_head_dim)
        TRY(text_printf(text, err, ", \"head_dim\": %d", preset->head_dim));
    if (architecture->windows == WINDOWS_BY_FLAG)
        TRY(text_printf(text, err, ", \"max_window_layers\": %d", preset->n_layers));
    if (preset->n_experts > 0)
        TRY(text_printf(text, err,
                        ", \"decoder_sparse_step\": 1, \"mlp_only_layers\": [], \"moe_intermediate_size\": %d, "
                        "\"norm_topk_prob\": true, \"num_experts\": %d, \"num_experts_per_tok\": %d, "
                        "\"output_router_logits\": false, \"router_aux_loss_coef\": 0.001",
                        preset->expert_size, preset->n_experts, preset->chosen));
    return text_printf(text, err, "}");
}

cohort_status model_config_preset(struct model_config *config, struct config_files *files, enum model_preset preset,
                                  int32_t vocab_size, cohort_error *err)
{
    struct config_files own = {0};
    cohort_status status = COHORT_OK;
    memset(config, 0, sizeof *config);
    if (vocab_size < 0)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "vocabulary size %d, expected a positive size, or 0 for the preset's", vocab_size);
    const struct family *family = &families[presets[preset].family];
    if (vocab_size == 0)
        vocab_size = family->vocab_size;
    TRY_GOTO(preset_text(&presets[preset], vocab_size, &own.config, err));
    TRY_GOTO(model_config_parse(config, own.config.data, own.config.length, model_preset_names[preset], err));
    /* The family's special tokens, where the vocabulary has them; for another tokenizer the caller knows its own. */
    if (vocab_size >= family->vocab_size) {
        config->n_eos = family->n_eos;
        memcpy(config->eos_ids, family->eos, sizeof family->eos);
        config->bos_id = family->bos;
        config->pad_id = family->pad;
        TRY_GOTO(text_printf(&own.generation, err, "%s", family->generation));
    }
    if (files != NULL) {
        *files = own;
        own = (struct config_files){0};
    }
cleanup:
    config_files_free(&own);
    return status;
}

#include "format/model_preset.h"

#include "format/architecture.h"

#include <string.h>

struct preset {
    int32_t hidden_size, n_layers, n_heads, n_kv_heads, head_dim, intermediate_size, max_positions;
    bool tied;
    int32_t n_experts, chosen, expert_size; /* 0: dense */
};

#define SHAPE(id, word, ...) {__VA_ARGS__},
static const struct preset presets[N_PRESETS] = {PRESET_LIST(SHAPE)};
#undef SHAPE
#define NAME(id, word, ...) word,
const char *const model_preset_names[N_PRESETS] = {PRESET_LIST(NAME)};
#undef NAME

/* What the published Qwen3 models have in common. */
enum { QWEN_VOCAB = 151936, QWEN_ENDOFTEXT = 151643, QWEN_IM_END = 151645 };

static cohort_status preset_text(const struct preset *preset, int32_t vocab_size, struct text *text, cohort_error *err)
{
    const struct architecture *family =
        &architectures[preset->n_experts > 0 ? ARCHITECTURE_QWEN3_MOE : ARCHITECTURE_QWEN3];
    TRY(text_printf(text, err,
                    "{\"architectures\": [\"%s\"], \"attention_bias\": false, "
                    "\"attention_dropout\": 0.0, \"head_dim\": %d, \"hidden_act\": \"silu\", "
                    "\"hidden_size\": %d, \"initializer_range\": 0.02, \"intermediate_size\": %d, "
                    "\"max_position_embeddings\": %d, \"max_window_layers\": %d, \"model_type\": \"%s\", "
                    "\"num_attention_heads\": %d, \"num_hidden_layers\": %d, \"num_key_value_heads\": %d, "
                    "\"rms_norm_eps\": 1e-06, \"rope_scaling\": null, \"rope_theta\": 1000000, "
                    "\"sliding_window\": null, \"tie_word_embeddings\": %s, \"torch_dtype\": \"bfloat16\", "
                    "\"use_cache\": true, \"use_sliding_window\": false, \"vocab_size\": %d",
                    family->class_name, preset->head_dim, preset->hidden_size, preset->intermediate_size,
                    preset->max_positions, preset->n_layers, family->model_type, preset->n_heads, preset->n_layers,
                    preset->n_kv_heads, preset->tied ? "true" : "false", vocab_size));
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
    if (vocab_size == 0)
        vocab_size = QWEN_VOCAB;
    TRY_GOTO(preset_text(&presets[preset], vocab_size, &own.config, err));
    TRY_GOTO(model_config_parse(config, own.config.data, own.config.length, model_preset_names[preset], err));
    /* Qwen's special tokens, where the vocabulary has them; for another tokenizer the caller knows
     * its own. */
    if (vocab_size > QWEN_IM_END) {
        config->n_eos = 2;
        config->eos_ids[0] = QWEN_IM_END;
        config->eos_ids[1] = QWEN_ENDOFTEXT;
        config->bos_id = QWEN_ENDOFTEXT;
        config->pad_id = QWEN_ENDOFTEXT;
        TRY_GOTO(text_printf(&own.generation, err,
                             "{\"do_sample\": true, \"temperature\": 0.6, \"top_k\": 20, \"top_p\": 0.95}"));
    }
    if (files != NULL) {
        *files = own;
        own = (struct config_files){0};
    }
cleanup:
    config_files_free(&own);
    return status;
}

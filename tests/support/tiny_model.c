#include "support/tiny_model.h"

const struct tiny_shape tiny_even = {.name = "even",
                                     .vocab_size = 320,
                                     .hidden_size = 64,
                                     .n_layers = 2,
                                     .n_heads = 4,
                                     .n_kv_heads = 2,
                                     .head_dim = 16,
                                     .intermediate_size = 192,
                                     .tied = true,
                                     .standard_deviation = 0.25f};

const struct tiny_shape tiny_odd = {.name = "odd",
                                    .vocab_size = 131,
                                    .hidden_size = 40,
                                    .n_layers = 3,
                                    .n_heads = 4,
                                    .n_kv_heads = 1,
                                    .head_dim = 22,
                                    .intermediate_size = 72,
                                    .tied = false,
                                    .standard_deviation = 0.3f};

const struct tiny_shape tiny_wide = {.name = "wide",
                                     .vocab_size = 2500,
                                     .hidden_size = 256,
                                     .n_layers = 2,
                                     .n_heads = 4,
                                     .n_kv_heads = 2,
                                     .head_dim = 128,
                                     .intermediate_size = 512,
                                     .tied = false,
                                     .standard_deviation = 0.12f};

const struct tiny_shape tiny_half = {.name = "half",
                                     .vocab_size = 1003,
                                     .hidden_size = 192,
                                     .n_layers = 2,
                                     .n_heads = 6,
                                     .n_kv_heads = 2,
                                     .head_dim = 64,
                                     .intermediate_size = 328,
                                     .tied = true,
                                     .standard_deviation = 0.15f};

const struct tiny_shape tiny_experts = {.name = "experts",
                                        .vocab_size = 320,
                                        .hidden_size = 64,
                                        .n_layers = 3,
                                        .n_heads = 4,
                                        .n_kv_heads = 2,
                                        .head_dim = 16,
                                        .intermediate_size = 96,
                                        .tied = false,
                                        .standard_deviation = 0.25f,
                                        .n_experts = 8,
                                        .chosen = 3,
                                        .expert_size = 40};

static cohort_status shape_text(const struct tiny_shape *s, struct text *text, cohort_error *err)
{
    if (s->n_experts > 0)
        TRY(text_printf(text, err,
                        "{\"model_type\": \"qwen3_moe\", \"num_experts\": %d, \"num_experts_per_tok\": %d, "
                        "\"moe_intermediate_size\": %d, \"norm_topk_prob\": true, \"mlp_only_layers\": [0], ",
                        (int)s->n_experts, (int)s->chosen, (int)s->expert_size));
    else
        TRY(text_printf(text, err, "{\"architectures\": [\"Qwen3ForCausalLM\"], \"model_type\": \"qwen3\", "));
    return text_printf(text, err,
                       "\"hidden_act\": \"silu\", "
                       "\"attention_bias\": false, \"rms_norm_eps\": 1e-6, \"max_position_embeddings\": %d, "
                       "\"rope_theta\": 10000.0, \"vocab_size\": %d, \"hidden_size\": %d, \"num_hidden_layers\": "
                       "%d, "
                       "\"num_attention_heads\": %d, \"num_key_value_heads\": %d, \"head_dim\": %d, "
                       "\"intermediate_size\": %d, \"tie_word_embeddings\": %s, \"torch_dtype\": \"float32\"}",
                       (int)(s->max_positions > 0 ? s->max_positions : 1024), (int)s->vocab_size, (int)s->hidden_size,
                       (int)s->n_layers, (int)s->n_heads, (int)s->n_kv_heads, (int)s->head_dim,
                       (int)s->intermediate_size, s->tied ? "true" : "false");
}

cohort_status tiny_checkpoint_write(const char *dir, const struct tiny_shape *shape, uint64_t seed, cohort_error *err)
{
    struct text text = {0};
    struct model_config config = {0};
    struct param_table params = {0};
    const enum dtype type = shape->bf16_weights ? DTYPE_BF16 : DTYPE_F32;
    struct checkpoint_init init = {.seed = seed, .standard_deviation = shape->standard_deviation};
    cohort_status status = COHORT_OK;
    TRY_GOTO(shape_text(shape, &text, err));
    TRY_GOTO(model_config_parse(&config, text.data, text.length, shape->name, err));
    config.experts.fused = shape->fused;
    TRY_GOTO(architecture_params(&config, storage_of(type), &params, err));
    TRY_GOTO(model_config_save(&config, NULL, type, dir, err));
    TRY_GOTO(checkpoint_write_weights(dir, &params, 0, checkpoint_init_fetch, &init, NULL, err));
cleanup:
    text_free(&text);
    param_table_free(&params);
    return status;
}

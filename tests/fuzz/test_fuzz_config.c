/* Any bytes as a config.json: either refused with a message, or the sizes keep their promises and
 * the parameter table follows. */
#include "support/fuzz.h"

#include "format/architecture.h"
#include "format/model_config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(const struct model_config *config)
{
    struct param_table table;
    cohort_error err = {0};
    if (config->n_heads % config->n_kv_heads != 0 || config->head_dim % 2 != 0 || config->n_eos < 0 ||
        config->n_eos > MODEL_MAX_EOS || config->pad_id < -1 || config->pad_id >= config->vocab_size ||
        config->bos_id >= config->vocab_size || !(config->rms_norm_eps > 0.0f) || !(config->rope.theta >= 1.0))
        abort();
    for (int32_t i = 0; i < config->n_eos; i++)
        if (config->eos_ids[i] < 0 || config->eos_ids[i] >= config->vocab_size)
            abort();
    if (architecture_params(config, STORAGE_BF16, &table, &err) != COHORT_OK)
        abort();
    size_t end = 0;
    for (int32_t i = 0; i < table.n_params; i++) {
        const struct param *param = &table.params[i];
        if (param->offset < end || param->count <= 0 || param->count != param->shape[0] * param->shape[1])
            abort();
        end = param->offset + storage_bytes(param->format, param->count);
    }
    if (end > table.bytes)
        abort();
    param_table_free(&table);
}

static bool accepted(const uint8_t *data, size_t size)
{
    struct model_config config;
    cohort_error err = {0};
    if (model_config_parse(&config, (const char *)data, size, "fuzz.json", &err) == COHORT_OK) {
        check(&config);
        return true;
    }
    if (err.status == COHORT_OK || strncmp(err.message, "fuzz.json:", 10) != 0)
        abort();
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    (void)accepted(data, size);
    return 0;
}

#ifndef COHORT_LIBFUZZER
#define CONFIG                                                                                                         \
    "{\"architectures\":[\"Qwen3ForCausalLM\"],\"model_type\":\"qwen3\",\"vocab_size\":264,"                           \
    "\"hidden_size\":64,\"num_hidden_layers\":2,\"num_attention_heads\":4,"                                            \
    "\"num_key_value_heads\":2,\"head_dim\":16,\"intermediate_size\":192,"                                             \
    "\"max_position_embeddings\":1024,\"rms_norm_eps\":1e-06,\"rope_theta\":10000,"
#define SEED(text)                                                                                                     \
    {                                                                                                                  \
        text, sizeof text - 1                                                                                          \
    }

int main(int argc, char **argv)
{
    static const struct fuzz_seed seeds[] = {
        SEED(CONFIG "\"eos_token_id\":[2,1],\"pad_token_id\":0,\"torch_dtype\":\"bfloat16\"}"),
        SEED(CONFIG "\"rope_scaling\":{\"rope_type\":\"default\"},\"eos_token_id\":1}"),
        SEED(CONFIG "\"rope_parameters\":{\"rope_theta\":10000,\"rope_type\":\"default\"},"
                    "\"layer_types\":[\"full_attention\",\"full_attention\"],"
                    "\"tie_word_embeddings\":true,\"hidden_act\":\"silu\"}"),
        SEED("{\"model_type\":\"qwen3_moe\",\"hidden_size\":64,\"num_hidden_layers\":3,\"num_attention_heads\":4,"
             "\"num_key_value_heads\":2,\"num_experts\":8,\"num_local_experts\":8,\"num_experts_per_tok\":2,"
             "\"moe_intermediate_size\":48,\"norm_topk_prob\":true,\"decoder_sparse_step\":2,\"mlp_only_layers\":[0,9],"
             "\"router_aux_loss_coef\":0.001}"),
        SEED("{\"model_type\":\"mixtral\",\"num_local_experts\":4,\"num_experts_per_tok\":2,\"sliding_window\":null,"
             "\"router_jitter_noise\":0.0}")};
    static const char *const words[] = {"\"rope_scaling\":",
                                        "\"rope_parameters\":",
                                        "\"layer_types\":",
                                        "\"quantization_config\":",
                                        "\"attention_bias\":",
                                        "\"use_sliding_window\":",
                                        "\"eos_token_id\":",
                                        "\"head_dim\":",
                                        "\"dtype\":",
                                        "1e999,",
                                        "18446744073709551616,",
                                        "null,",
                                        "true,",
                                        "[],",
                                        "{},",
                                        "\"\",",
                                        "\\ud800",
                                        "\xff"};
    static const struct fuzz_target target = {.name = "config",
                                              .one = LLVMFuzzerTestOneInput,
                                              .accepted = accepted,
                                              .seeds = seeds,
                                              .n_seeds = sizeof seeds / sizeof *seeds,
                                              .words = words,
                                              .n_words = sizeof words / sizeof *words,
                                              .max_size = 2048};
    return fuzz_run(&target, argc, argv);
}
#endif

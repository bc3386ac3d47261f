/* Presets, and writing a config back in the form that transformers (4.51 and later, 5) reads. */
#include "format/model_config.h"

#include "base/json_text.h"
#include "format/architecture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct preset {
    const char *name;
    int32_t hidden_size, n_layers, n_heads, n_kv_heads, head_dim, intermediate_size, max_positions;
    bool tied;
};

/* Qwen's published config.json files; the last two are ours, for tests and first steps. */
static const struct preset presets[] = {
    {"qwen3-0.6b", 1024, 28, 16, 8, 128, 3072, 40960, true},
    {"qwen3-1.7b", 2048, 28, 16, 8, 128, 6144, 40960, true},
    {"qwen3-4b", 2560, 36, 32, 8, 128, 9728, 40960, true},
    {"qwen3-8b", 4096, 36, 32, 8, 128, 12288, 40960, false},
    {"qwen3-14b", 5120, 40, 40, 8, 128, 17408, 40960, false},
    {"qwen3-32b", 5120, 64, 64, 8, 128, 25600, 40960, false},
    {"tiny", 128, 4, 4, 2, 32, 384, 2048, true},
    {"nano", 64, 2, 4, 2, 16, 192, 1024, true},
};
enum { N_PRESETS = sizeof presets / sizeof *presets };

enum { QWEN_VOCAB = 151936, QWEN_ENDOFTEXT = 151643, QWEN_IM_END = 151645 };

static cohort_status unknown_preset(const char *name, cohort_error *err)
{
    struct text known = {0};
    cohort_status status = COHORT_OK;
    for (size_t i = 0; status == COHORT_OK && i < N_PRESETS; i++)
        status = text_printf(&known, err, "%s%s", i == 0 ? "" : ", ", presets[i].name);
    if (status == COHORT_OK)
        status =
            error_set(err, COHORT_ERR_ARGUMENT, "unknown model preset \"%.100s\"; known presets: %s", name, known.data);
    text_free(&known);
    return status;
}

static cohort_status preset_text(const struct preset *preset, int32_t vocab_size, struct text *text, cohort_error *err)
{
    return text_printf(text, err,
                       "{\"architectures\": [\"Qwen3ForCausalLM\"], \"attention_bias\": false, "
                       "\"attention_dropout\": 0.0, \"head_dim\": %d, \"hidden_act\": \"silu\", "
                       "\"hidden_size\": %d, \"initializer_range\": 0.02, \"intermediate_size\": %d, "
                       "\"max_position_embeddings\": %d, \"max_window_layers\": %d, \"model_type\": \"qwen3\", "
                       "\"num_attention_heads\": %d, \"num_hidden_layers\": %d, \"num_key_value_heads\": %d, "
                       "\"rms_norm_eps\": 1e-06, \"rope_scaling\": null, \"rope_theta\": 1000000, "
                       "\"sliding_window\": null, \"tie_word_embeddings\": %s, \"torch_dtype\": \"bfloat16\", "
                       "\"use_cache\": true, \"use_sliding_window\": false, \"vocab_size\": %d}",
                       preset->head_dim, preset->hidden_size, preset->intermediate_size, preset->max_positions,
                       preset->n_layers, preset->n_heads, preset->n_layers, preset->n_kv_heads,
                       preset->tied ? "true" : "false", vocab_size);
}

cohort_status model_config_preset(struct model_config *config, struct config_files *files, const char *name,
                                  int32_t vocab_size, cohort_error *err)
{
    const struct preset *preset = NULL;
    struct config_files own = {0};
    cohort_status status = COHORT_OK;
    memset(config, 0, sizeof *config);
    for (size_t i = 0; i < N_PRESETS; i++)
        if (strcmp(presets[i].name, name) == 0)
            preset = &presets[i];
    if (preset == NULL)
        return unknown_preset(name, err);
    if (vocab_size < 0)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "vocabulary size %d, expected a positive size, or 0 for the preset's", vocab_size);
    if (vocab_size == 0)
        vocab_size = QWEN_VOCAB;
    TRY_GOTO(preset_text(preset, vocab_size, &own.config, err));
    TRY_GOTO(model_config_parse(config, own.config.data, own.config.length, name, err));
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

/* ---- writing ---- */

/* Sets key; -1 (no such token) removes it. */
static bool set_id(json_t *json, const char *key, int32_t id)
{
    if (id < 0) {
        json_object_del(json, key);
        return true;
    }
    return json_object_set_new(json, key, json_integer(id)) == 0;
}

static json_t *eos_list(const struct model_config *config)
{
    json_t *list = json_array();
    bool ok = list != NULL;
    for (int32_t i = 0; ok && i < config->n_eos; i++)
        ok = json_array_append_new(list, json_integer(config->eos_ids[i])) == 0;
    if (!ok) {
        json_decref(list);
        return NULL;
    }
    return list;
}

static bool set_eos(json_t *json, const struct model_config *config, bool as_list)
{
    if (config->n_eos == 0 || !as_list)
        return set_id(json, "eos_token_id", config->n_eos > 0 ? config->eos_ids[0] : -1);
    return json_object_set_new(json, "eos_token_id", eos_list(config)) == 0;
}

static bool set_size(json_t *json, const char *key, int32_t value)
{
    return json_object_set_new(json, key, json_integer(value)) == 0;
}

/* Keeps a number that reads back as the same value: 1e-06 stays 1e-06 although the field is a
 * float, and 1000000 stays an integer. */
static bool set_number(json_t *json, const char *key, double value, bool single)
{
    const json_t *old = json_object_get(json, key);
    double kept = json_number_value(old);
    if (json_is_number(old) && (single ? (float)kept == (float)value : kept == value))
        return true;
    return json_object_set_new(json, key, json_real(value)) == 0;
}

static const char *torch_name(enum dtype type)
{
    return type == DTYPE_F32 ? "float32" : type == DTYPE_BF16 ? "bfloat16" : "float16";
}

/* rope_theta and torch_dtype are what every transformers since 4.51 reads; the newer names
 * rope_parameters and dtype would only be a second place for the same thing. */
static bool update_config(json_t *json, const struct model_config *config, enum dtype dtype)
{
    bool list_in_config = json_is_array(json_object_get(json, "eos_token_id"));
    json_object_del(json, "rope_parameters");
    json_object_del(json, "dtype");
    bool ok = json_object_set_new(json, "architectures", json_pack("[s]", config->architecture->class_name)) == 0;
    ok = ok && json_object_set_new(json, "model_type", json_string(config->architecture->model_type)) == 0;
    ok = ok && json_object_set_new(json, "torch_dtype", json_string(torch_name(dtype))) == 0;
    ok = ok && json_object_set_new(json, "rope_scaling", json_null()) == 0;
    ok = ok && json_object_set_new(json, "tie_word_embeddings", json_boolean(config->tie_embeddings)) == 0;
    ok = ok && set_size(json, "vocab_size", config->vocab_size);
    ok = ok && set_size(json, "hidden_size", config->hidden_size);
    ok = ok && set_size(json, "num_hidden_layers", config->n_layers);
    ok = ok && set_size(json, "num_attention_heads", config->n_heads);
    ok = ok && set_size(json, "num_key_value_heads", config->n_kv_heads);
    ok = ok && set_size(json, "head_dim", config->head_dim);
    ok = ok && set_size(json, "intermediate_size", config->intermediate_size);
    ok = ok && set_size(json, "max_position_embeddings", config->max_positions);
    ok = ok && set_number(json, "rms_norm_eps", (double)config->rms_norm_eps, true);
    ok = ok && set_number(json, "rope_theta", config->rope_theta, false);
    ok = ok && set_eos(json, config, list_in_config);
    ok = ok && set_id(json, "bos_token_id", config->bos_id);
    /* Only where it was: in config.json a pad id makes transformers treat that row of the embedding
     * apart. */
    if (json_object_get(json, "pad_token_id") != NULL)
        ok = ok && set_id(json, "pad_token_id", config->pad_id);
    return ok;
}

static bool update_generation(json_t *json, const struct model_config *config)
{
    return set_eos(json, config, config->n_eos > 1) && set_id(json, "bos_token_id", config->bos_id) &&
           set_id(json, "pad_token_id", config->pad_id);
}

static cohort_status write_json(const json_t *json, const char *dir, const char *name, cohort_error *err)
{
    cohort_status status = COHORT_OK;
    char *path = NULL;
    struct text text = {0};
    TRY_GOTO(file_join(&path, dir, name, err));
    TRY_GOTO(json_text_write(json, JSON_INDENT(2) | JSON_SORT_KEYS, &text, err));
    TRY_GOTO(text_append(&text, "\n", 1, err));
    TRY_GOTO(file_write_atomic(path, text.data, text.length, err));
cleanup:
    mem_free(path);
    text_free(&text);
    return status;
}

/* The text of a file as an object to be updated; an empty one where there is no text. */
static cohort_status parse_kept(json_t **out, const struct text *text, const char *name, cohort_error *err)
{
    if (text != NULL && text->length > 0)
        return json_text_parse(out, text->data, text->length, name, 1, 0, err);
    *out = json_object();
    return *out != NULL ? COHORT_OK : error_set(err, COHORT_ERR_MEMORY, "cannot build %s", name);
}

cohort_status model_config_save(const struct model_config *config, const struct config_files *files, enum dtype dtype,
                                const char *dir, cohort_error *err)
{
    cohort_status status = COHORT_OK;
    json_t *json = NULL, *generation = NULL;
    TRY_GOTO(parse_kept(&json, files != NULL ? &files->config : NULL, "config.json", err));
    TRY_GOTO(parse_kept(&generation, files != NULL ? &files->generation : NULL, "generation_config.json", err));
    if (!update_config(json, config, dtype) || !update_generation(generation, config)) {
        status = error_set(err, COHORT_ERR_MEMORY, "%s: cannot build config.json", dir);
        goto cleanup;
    }
    TRY_GOTO(write_json(json, dir, "config.json", err));
    TRY_GOTO(write_json(generation, dir, "generation_config.json", err));
cleanup:
    json_decref(json);
    json_decref(generation);
    return status;
}

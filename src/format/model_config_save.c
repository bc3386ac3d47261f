/* Writes a config back in the form that transformers (4.51 and later, 5) reads. */
#include "format/model_config.h"

#include "base/json_text.h"
#include "format/architecture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static bool set_flag(json_t *json, const char *key, bool value)
{
    return json_object_set_new(json, key, json_boolean(value)) == 0;
}

/* Keys that say which layers slide, in the family's manner. */
static bool set_windows(json_t *json, const struct model_config *config)
{
    bool slides = false, ok = true;
    for (int32_t i = 0; i < config->n_layers; i++)
        slides = slides || model_config_window(config, i) > 0;
    if (config->architecture->windows == WINDOWS_ALL_BY_FLAG)
        return !slides ||
               (set_flag(json, "use_sliding_window", true) && set_size(json, "sliding_window", config->window));
    if (config->architecture->windows == WINDOWS_EVERYWHERE)
        return config->window > 0 ? set_size(json, "sliding_window", config->window)
                                  : json_object_set_new(json, "sliding_window", json_null()) == 0;
    if (!slides)
        return true;
    json_t *types = json_array();
    for (int32_t i = 0; ok && i < config->n_layers; i++)
        ok = json_array_append_new(
                 types, json_string(model_config_window(config, i) > 0 ? "sliding_attention" : "full_attention")) == 0;
    return json_object_set_new(json, "layer_types", types) == 0 && ok && set_flag(json, "use_sliding_window", true) &&
           set_size(json, "sliding_window", config->window);
}

/* A flag that is off need not be stated. */
static bool set_bias(json_t *json, const char *key, bool value)
{
    return (!value && json_object_get(json, key) == NULL) || set_flag(json, key, value);
}

static bool set_biases(json_t *json, const struct model_config *config)
{
    const struct architecture *family = config->architecture;
    const bool attention = !family->biased && family->tensors[TENSOR_QUERY_BIAS] != NULL;
    return (!attention || set_bias(json, "attention_bias", config->attention_bias)) &&
           (family->tensors[TENSOR_DOWN_BIAS] == NULL || set_bias(json, "mlp_bias", config->mlp_bias));
}

/* Names of labels, as transformers gives them; how many there are says how many scores. */
static bool set_labels(json_t *json, int32_t n)
{
    json_t *names = json_object(), *ids = json_object();
    char id[16], name[32];
    bool ok = names != NULL && ids != NULL;
    for (int32_t i = 0; ok && i < n; i++) {
        snprintf(id, sizeof id, "%d", (int)i);
        snprintf(name, sizeof name, "LABEL_%d", (int)i);
        ok = json_object_set_new(names, id, json_string(name)) == 0 &&
             json_object_set_new(ids, name, json_integer(i)) == 0;
    }
    json_object_del(json, "num_labels");
    ok = ok && json_object_set(json, "id2label", names) == 0 && json_object_set(json, "label2id", ids) == 0;
    json_decref(names);
    json_decref(ids);
    return ok;
}

/* rope_theta and torch_dtype are what every transformers since 4.51 reads; the newer names
 * rope_parameters and dtype would only be a second place for the same thing. */
static bool update_config(json_t *json, const struct model_config *config, enum dtype dtype)
{
    bool list_in_config = json_is_array(json_object_get(json, "eos_token_id"));
    json_object_del(json, "dtype");
    char class_name[ARCHITECTURE_CLASS_BYTES];
    architecture_class(config->architecture, config->n_labels > 0, class_name);
    bool ok = json_object_set_new(json, "architectures", json_pack("[s]", class_name)) == 0;
    if (config->n_labels > 0 && json_object_get(json, "id2label") == NULL)
        ok = ok && set_labels(json, config->n_labels);
    ok = ok && json_object_set_new(json, "model_type", json_string(config->architecture->model_type)) == 0;
    ok = ok && json_object_set_new(json, "torch_dtype", json_string(torch_name(dtype))) == 0;
    ok = ok && rope_config_write(json, &config->rope);
    ok = ok && json_object_set_new(json, "tie_word_embeddings", json_boolean(config->tie_embeddings)) == 0;
    ok = ok && set_size(json, "vocab_size", config->vocab_size);
    ok = ok && set_size(json, "hidden_size", config->hidden_size);
    ok = ok && set_size(json, "num_hidden_layers", config->n_layers);
    ok = ok && set_size(json, "num_attention_heads", config->n_heads);
    ok = ok && set_size(json, "num_key_value_heads", config->n_kv_heads);
    if (config->architecture->absent.head_dim > 0 || json_object_get(json, "head_dim") != NULL ||
        config->head_dim * config->n_heads != config->hidden_size)
        ok = ok && set_size(json, "head_dim", config->head_dim);
    ok = ok && set_size(json, "intermediate_size", config->intermediate_size);
    ok = ok && expert_config_write(json, &config->experts, &config->architecture->absent);
    ok = ok && set_size(json, "max_position_embeddings", config->max_positions);
    ok = ok && set_number(json, "rms_norm_eps", (double)config->rms_norm_eps, true);
    ok = ok && set_biases(json, config) && set_windows(json, config);
    ok = ok && set_eos(json, config, list_in_config);
    ok = ok && set_id(json, "bos_token_id", config->bos_id);
    /* A family with a default of its own needs to be told that there is none. */
    if (config->n_eos == 0 && config->architecture->absent.eos_id > 0)
        ok = ok && json_object_set_new(json, "eos_token_id", json_null()) == 0;
    if (config->bos_id < 0 && config->architecture->absent.bos_id > 0)
        ok = ok && json_object_set_new(json, "bos_token_id", json_null()) == 0;
    /* Only where it was: in config.json a pad id makes transformers treat that row of the embedding
     * apart. But a classifier needs it, to find the last token of each row of a batch. */
    if (json_object_get(json, "pad_token_id") != NULL || (config->n_labels > 0 && config->pad_id >= 0))
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

/* A tokenizer's folder: tokenizer.json, and what the files beside it say of templates and of the end of a text. */
#include "text/tokenizer_internal.h"

#include "base/file.h"
#include "base/json_text.h"

#include <string.h>

/* *root: the JSON object in path, NULL where there is no such file. */
static cohort_status read_object(const char *path, json_t **root, cohort_error *err)
{
    bool there = false;
    *root = NULL;
    TRY(file_exists(path, &there, err));
    if (!there)
        return COHORT_OK;
    TRY(json_text_read(root, path, TOKENIZER_MAX_BYTES, JSON_TEXT_REPEATED, err));
    if (json_is_object(*root))
        return COHORT_OK;
    cohort_status status =
        error_set(err, COHORT_ERR_FORMAT, "%s: expected an object, found %s", path, tokenizer_type_name(*root));
    json_decref(*root);
    *root = NULL;
    return status;
}

/* chat_template of tokenizer_config.json: a text, or several named ones (a list, or an object) of which "default"
 * counts. */
static cohort_status template_from_config(struct tokenizer *tokenizer, const json_t *config, const char *path,
                                          cohort_error *err)
{
    const json_t *chat = json_object_get(config, "chat_template");
    if (json_is_array(chat)) {
        const json_t *list = chat;
        chat = NULL;
        for (size_t i = 0; i < json_array_size(list) && chat == NULL; i++) {
            const char *name = json_string_value(json_object_get(json_array_get(list, i), "name"));
            if (name != NULL && strcmp(name, "default") == 0)
                chat = json_object_get(json_array_get(list, i), "template");
        }
    } else if (json_is_object(chat)) {
        chat = json_object_get(chat, "default");
    } else if (chat == NULL || json_is_null(chat)) {
        return COHORT_OK;
    }
    if (chat == NULL) /* a question only where messages are to be rendered */
        return mem_strdup(&tokenizer->chat_template, "", 0, err);
    if (!json_is_string(chat))
        return error_set(err, COHORT_ERR_FORMAT, "%s: chat_template: expected a string, found %s", path,
                         tokenizer_type_name(chat));
    return mem_strdup(&tokenizer->chat_template, json_string_value(chat), json_string_length(chat), err);
}

/* eos_token of tokenizer_config.json or special_tokens_map.json: a text, or an object with its content. False if it is
 * not stated. */
static bool eos_from(struct tokenizer *tokenizer, const json_t *object)
{
    const json_t *eos = json_object_get(object, "eos_token");
    if (json_is_object(eos))
        eos = json_object_get(eos, "content");
    if (!json_is_string(eos))
        return false;
    tokenizer->eos = tokenizer_find_text(tokenizer, json_string_value(eos), json_string_length(eos));
    return true;
}

/* A token by its name, or an object with its content. */
static cohort_status check_added(const struct tokenizer *tokenizer, const json_t *token, const char *path,
                                 const char *key, cohort_error *err)
{
    if (json_is_object(token))
        token = json_object_get(token, "content");
    if (!json_is_string(token))
        return COHORT_OK;
    int32_t id = tokenizer_find_text(tokenizer, json_string_value(token), json_string_length(token));
    if (id >= 0 && (tokenizer->entries[id].flags & TOKEN_ADDED) != 0)
        return COHORT_OK;
    return error_set(err, COHORT_ERR_UNSUPPORTED,
                     "%s: %s: \"%.80s\" is no added token of tokenizer.json; transformers adds it when "
                     "it loads the folder: load and save the tokenizer there once",
                     path, key, json_string_value(token));
}

/* What in tokenizer_config.json makes transformers give other ids than tokenizer.json says. */
static cohort_status check_config(const struct tokenizer *tokenizer, const json_t *config, const char *path,
                                  cohort_error *err)
{
    static const char *const lists[] = {"added_tokens_decoder", "additional_special_tokens", "extra_special_tokens"};
    const char *type = json_string_value(json_object_get(config, "tokenizer_class"));
    const bool plain =
        type != NULL && (strcmp(type, "PreTrainedTokenizerFast") == 0 || strcmp(type, "TokenizersBackend") == 0);
    if (json_is_true(json_object_get(config, "split_special_tokens")))
        return error_set(err, COHORT_ERR_UNSUPPORTED, "%s: split_special_tokens true is not supported", path);
    /* Of Llama's and Mistral's files it says what their pipeline does anyway. */
    if (json_is_true(json_object_get(config, "add_prefix_space")) && type != NULL && !plain && tokenizer->byte_units)
        return error_set(err, COHORT_ERR_UNSUPPORTED,
                         "%s: add_prefix_space true is not supported with tokenizer_class %.80s", path, type);
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        json_t *list = json_object_get(config, lists[i]), *token = NULL;
        const char *key = NULL;
        size_t at = 0;
        json_array_foreach(list, at, token) TRY(check_added(tokenizer, token, path, lists[i], err));
        json_object_foreach(list, key, token) TRY(check_added(tokenizer, token, path, lists[i], err));
    }
    return COHORT_OK;
}

/* What the tokenizer's other files say. */
static cohort_status load_settings(struct tokenizer *tokenizer, const char *dir, cohort_error *err)
{
    char *jinja = NULL, *config = NULL, *map = NULL;
    json_t *settings = NULL, *special = NULL;
    struct text content = {0};
    bool with_jinja = false;
    cohort_status status = COHORT_OK;
    TRY_GOTO(file_join(&jinja, dir, "chat_template.jinja", err));
    TRY_GOTO(file_join(&config, dir, "tokenizer_config.json", err));
    TRY_GOTO(file_join(&map, dir, "special_tokens_map.json", err));
    TRY_GOTO(read_object(config, &settings, err));
    TRY_GOTO(read_object(map, &special, err));
    TRY_GOTO(check_config(tokenizer, settings, config, err));
    TRY_GOTO(file_exists(jinja, &with_jinja, err));
    if (with_jinja) {
        TRY_GOTO(file_read(jinja, TOKENIZER_MAX_BYTES, &content, err));
        TRY_GOTO(mem_strdup(&tokenizer->chat_template, content.data == NULL ? "" : content.data, content.length, err));
    } else {
        TRY_GOTO(template_from_config(tokenizer, settings, config, err));
    }
    if (!eos_from(tokenizer, settings))
        eos_from(tokenizer, special);
cleanup:
    json_decref(settings);
    json_decref(special);
    text_free(&content);
    mem_free(jinja);
    mem_free(config);
    mem_free(map);
    return status;
}

cohort_status tokenizer_load(struct tokenizer **out, const char *dir, cohort_error *err)
{
    char *path = NULL;
    struct file_map content = {0};
    struct tokenizer *tokenizer = NULL;
    cohort_status status = COHORT_OK;
    *out = NULL;
    TRY_GOTO(file_join(&path, dir, "tokenizer.json", err));
    TRY_GOTO(file_map_open(&content, path, err));
    TRY_GOTO(
        tokenizer_parse(&tokenizer, content.data == NULL ? "" : (const char *)content.data, content.size, path, err));
    TRY_GOTO(load_settings(tokenizer, dir, err));
    *out = tokenizer;
    tokenizer = NULL;
cleanup:
    tokenizer_destroy(tokenizer);
    file_map_close(&content);
    mem_free(path);
    return status;
}

/* A tokenizer's folder: tokenizer.json, and what the files beside it say of templates and of the end of a text. */
#include "text/tokenizer_internal.h"

#include "base/absent.h"
#include "base/file.h"
#include "base/json_text.h"

#include <errno.h>
#include <stdlib.h>
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

/* ---- chat templates ---- */

/* Where a template of that name is known, the one that is read later counts. */
static cohort_status set_template(struct tokenizer *tokenizer, const char *name, const char *text, size_t length,
                                  const char *origin, cohort_error *err)
{
    size_t at = 0;
    while (at < tokenizer->n_templates && strcmp(tokenizer->templates[at].name, name) != 0)
        at++;
    if (at == tokenizer->n_templates) {
        char *copy = NULL;
        TRY(mem_grow(&tokenizer->templates, &tokenizer->templates_capacity, at + 1, sizeof *tokenizer->templates,
                     "chat templates", err));
        TRY(mem_strdup(&copy, name, strlen(name), err));
        tokenizer->templates[at].name = copy;
        tokenizer->n_templates++;
    }
    struct tokenizer_template *template = &tokenizer->templates[at];
    mem_free(template->text);
    mem_free(template->origin);
    template->text = template->origin = NULL;
    template->length = length;
    TRY(mem_strdup(&template->text, text, length, err));
    return mem_strdup(&template->origin, origin, strlen(origin), err);
}

static cohort_status template_value(struct tokenizer *tokenizer, const char *name, const json_t *value,
                                    const char *path, cohort_error *err)
{
    struct text origin = {0};
    if (!json_is_string(value))
        return error_set(err, COHORT_ERR_FORMAT, "%s: chat_template: expected a string, found %s", path,
                         value == NULL ? "nothing" : tokenizer_type_name(value));
    cohort_status status = text_printf(&origin, err, "%s: chat_template", path);
    if (status == COHORT_OK)
        status = set_template(tokenizer, name, json_string_value(value), json_string_length(value), origin.data, err);
    text_free(&origin);
    return status;
}

/* chat_template of tokenizer_config.json: a text, or several named ones (a list, or an object). */
static cohort_status templates_from_config(struct tokenizer *tokenizer, const json_t *config, const char *path,
                                           cohort_error *err)
{
    json_t *chat = json_object_get(config, "chat_template"), *item = NULL;
    const char *key = NULL;
    size_t at = 0;
    if (chat == NULL || json_is_null(chat))
        return COHORT_OK;
    if (!json_is_array(chat) && !json_is_object(chat))
        return template_value(tokenizer, "default", chat, path, err);
    json_array_foreach(chat, at, item)
    {
        const char *name = json_string_value(json_object_get(item, "name"));
        if (name == NULL)
            return error_set(err, COHORT_ERR_FORMAT,
                             "%s: chat_template[%zu]: expected an object with name and template", path, at);
        TRY(template_value(tokenizer, name, json_object_get(item, "template"), path, err));
    }
    json_object_foreach(chat, key, item) TRY(template_value(tokenizer, key, item, path, err));
    return COHORT_OK;
}

static cohort_status template_file(struct tokenizer *tokenizer, const char *name, const char *path, cohort_error *err)
{
    struct text content = {0};
    cohort_status status = COHORT_OK;
    TRY_GOTO(file_read(path, TOKENIZER_MAX_BYTES, &content, err));
    status = set_template(tokenizer, name, content.data == NULL ? "" : content.data, content.length, path, err);
cleanup:
    text_free(&content);
    return status;
}

/* chat_templates/NAME.jinja. One named default takes the place of chat_template.jinja, as in transformers. */
static cohort_status template_folder(struct tokenizer *tokenizer, const char *path, cohort_error *err)
{
    static const char suffix[] = ".jinja";
    cohort_status status = COHORT_OK;
    char *file = NULL, *name = NULL;
    DIR *dir = opendir(path);
    if (dir == NULL)
        return error_set(err, COHORT_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    for (const char *entry; (entry = file_next_entry(dir, path, &status, err)) != NULL;) {
        const size_t length = strlen(entry);
        if (length < sizeof suffix || strcmp(entry + length - (sizeof suffix - 1), suffix) != 0)
            continue;
        TRY_GOTO(file_join(&file, path, entry, err));
        TRY_GOTO(mem_strdup(&name, entry, length - (sizeof suffix - 1), err));
        TRY_GOTO(template_file(tokenizer, name, file, err));
        mem_free(file);
        mem_free(name);
        file = name = NULL;
    }
cleanup:
    closedir(dir);
    mem_free(file);
    mem_free(name);
    return status;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct tokenizer_template *)a)->name, ((const struct tokenizer_template *)b)->name);
}

/* Files, or else what tokenizer_config.json says: a single file takes the place of all that stands there. */
static cohort_status load_templates(struct tokenizer *tokenizer, const char *dir, const json_t *settings,
                                    const char *config, cohort_error *err)
{
    char *jinja = NULL, *folder = NULL;
    bool there = false;
    enum file_kind kind = FILE_ABSENT;
    cohort_status status = COHORT_OK;
    TRY_GOTO(file_join(&jinja, dir, "chat_template.jinja", err));
    TRY_GOTO(file_join(&folder, dir, "chat_templates", err));
    TRY_GOTO(file_exists(jinja, &there, err));
    TRY_GOTO(file_look(folder, &kind, err));
    if (there)
        TRY_GOTO(template_file(tokenizer, "default", jinja, err));
    if (kind == FILE_FOLDER)
        TRY_GOTO(template_folder(tokenizer, folder, err));
    if (tokenizer->n_templates == 0)
        TRY_GOTO(templates_from_config(tokenizer, settings, config, err));
    if (tokenizer->n_templates > 1) /* the order of a folder is the file system's */
        qsort(tokenizer->templates, tokenizer->n_templates, sizeof *tokenizer->templates, by_name);
cleanup:
    mem_free(jinja);
    mem_free(folder);
    return status;
}

/* ---- special tokens ---- */

/* A token's text: a string, or an object with its content. NULL if it is neither. */
static const json_t *token_text(const json_t *token)
{
    if (json_is_object(token))
        token = json_object_get(token, "content");
    return json_is_string(token) ? token : NULL;
}

/* The named special tokens: of tokenizer_config.json, or else of special_tokens_map.json. */
static cohort_status load_special(struct tokenizer *tokenizer, const json_t *settings, const json_t *map,
                                  cohort_error *err)
{
    static const char *const names[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                        "pad_token", "cls_token", "mask_token"};
    json_t *extra = json_object_get(settings, "extra_special_tokens"), *item = NULL;
    const char *key = NULL;
    tokenizer->special = json_object();
    bool made = tokenizer->special != NULL;
    for (size_t i = 0; made && i < sizeof names / sizeof names[0]; i++) {
        const json_t *token = token_text(json_object_get(settings, names[i]));
        if (token == NULL)
            token = token_text(json_object_get(map, names[i]));
        made = token == NULL || json_object_set(tokenizer->special, names[i], (json_t *)(uintptr_t)token) == 0;
    }
    json_object_foreach(extra, key, item) /* of one model alone: {"image_token": "<image>"} */
    {
        const json_t *token = token_text(item);
        made = made && (token == NULL || json_object_set(tokenizer->special, key, (json_t *)(uintptr_t)token) == 0);
    }
    if (!made)
        return error_set(err, COHORT_ERR_MEMORY, "cannot keep the special tokens");
    const json_t *eos = json_object_get(tokenizer->special, "eos_token");
    if (eos != NULL)
        tokenizer->eos = tokenizer_find_text(tokenizer, json_string_value(eos), json_string_length(eos));
    return COHORT_OK;
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
    char *config = NULL, *map = NULL;
    json_t *settings = NULL, *special = NULL;
    cohort_status status = COHORT_OK;
    TRY_GOTO(file_join(&config, dir, "tokenizer_config.json", err));
    TRY_GOTO(file_join(&map, dir, "special_tokens_map.json", err));
    TRY_GOTO(read_object(config, &settings, err));
    TRY_GOTO(read_object(map, &special, err));
    TRY_GOTO(check_config(tokenizer, settings, config, err));
    TRY_GOTO(load_templates(tokenizer, dir, settings, config, err));
    TRY_GOTO(load_special(tokenizer, settings, special, err));
cleanup:
    json_decref(settings);
    json_decref(special);
    mem_free(config);
    mem_free(map);
    return status;
}

/* The error for a folder without tokenizer.json, which path is. */
static cohort_status refuse_folder(const char *dir, const char *path, cohort_error *err)
{
    static const char *const older[] = {"tokenizer.model", "vocab.json", "vocab.txt", "tekken.json"};
    enum file_kind kind = FILE_ABSENT;
    TRY(file_look(dir, &kind, err));
    if (kind == FILE_ABSENT)
        TRY(absent_explain(dir, ABSENT_MODEL, err));
    if (kind != FILE_FOLDER)
        return error_set(err, COHORT_ERR_IO, "%s: %s; expected the folder of a model, with tokenizer.json", dir,
                         kind == FILE_FILE ? "is a file" : "there is nothing of that name");
    for (size_t i = 0; i < sizeof older / sizeof older[0]; i++) {
        char *other = NULL;
        bool there = false;
        TRY(file_join(&other, dir, older[i], err));
        const cohort_status status = file_exists(other, &there, err);
        mem_free(other);
        TRY(status);
        if (there)
            return error_set(err, COHORT_ERR_UNSUPPORTED,
                             "%s: is not there, but %s, which is not read; write tokenizer.json with transformers: "
                             "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)",
                             path, older[i]);
    }
    return error_set(err, COHORT_ERR_IO, "%s: is not there; give the folder of a model with its tokenizer", path);
}

cohort_status tokenizer_load(struct tokenizer **out, const char *dir, cohort_error *err)
{
    char *path = NULL;
    struct file_map content = {0};
    struct tokenizer *tokenizer = NULL;
    bool there = false;
    cohort_status status = COHORT_OK;
    *out = NULL;
    TRY_GOTO(file_join(&path, dir, "tokenizer.json", err));
    TRY_GOTO(file_exists(path, &there, err));
    if (!there)
        TRY_GOTO(refuse_folder(dir, path, err));
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

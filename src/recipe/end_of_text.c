#include "recipe/end_of_text.h"

#include "base/file.h"
#include "recipe/json_rows.h"

#include <stdlib.h>
#include <string.h>

static cohort_status add(struct model_config *config, int32_t id, cohort_error *err)
{
    if (id < 0 || id >= config->vocab_size) /* such an id can never be drawn */
        return COHORT_OK;
    for (int32_t i = 0; i < config->n_eos; i++)
        if (config->eos_ids[i] == id)
            return COHORT_OK;
    if (config->n_eos == MODEL_MAX_EOS)
        return error_set(err, COHORT_ERR_UNSUPPORTED,
                         "more than %d tokens end a text; name those that matter with --eos-token", MODEL_MAX_EOS);
    config->eos_ids[config->n_eos++] = id;
    return COHORT_OK;
}

static int32_t find_turn_end(const struct tokenizer *tokenizer)
{
    const char *end = chat_template_turn_end(tokenizer_chat_template(tokenizer));
    return end == NULL ? -1 : tokenizer_find(tokenizer, end);
}

cohort_status end_of_text_unite(struct model_config *config, const struct tokenizer *tokenizer, cohort_error *err)
{
    TRY(add(config, tokenizer_eos(tokenizer), err));
    /* A folder without a template names no end of a turn: messages are then rendered with our own template. */
    return tokenizer_chat_template(tokenizer) == NULL ? COHORT_OK : add(config, find_turn_end(tokenizer), err);
}

/* Finds a token by its text or by its id. */
static cohort_status read_token(const struct session *session, const char *item, int32_t *id, cohort_error *err)
{
    const int32_t vocab = session->model->config.vocab_size;
    if (item[0] != '\0' && strspn(item, "0123456789") == strlen(item)) {
        long long number = strlen(item) > 10 ? (long long)INT32_MAX + 1 : strtoll(item, NULL, 10);
        if (number >= vocab)
            return error_set(err, COHORT_ERR_ARGUMENT,
                             "--eos-token %s: expected a token, or an id below the vocabulary's %d", item, (int)vocab);
        *id = (int32_t)number;
        return COHORT_OK;
    }
    *id = tokenizer_find(session->tokenizer, item);
    if (*id < 0)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "--eos-token '%s': %s/tokenizer.json has no such token; give one as it "
                         "stands there, for example <|im_end|>, or its id",
                         item, session->dir);
    return COHORT_OK;
}

cohort_status end_of_text_open(struct session *session, const struct options *options, cohort_error *err)
{
    struct model_config *config = &session->model->config;
    const size_t n = options_list_count(options, OPTION_EOS_TOKEN);
    session->turn_end = find_turn_end(session->tokenizer);
    if (n == 0) {
        int32_t own = tokenizer_eos(session->tokenizer);
        session->text_end = own >= 0 ? own : config->n_eos > 0 ? config->eos_ids[0] : -1;
        return end_of_text_unite(config, session->tokenizer, err);
    }
    config->n_eos = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t id = -1;
        TRY(read_token(session, options_list_item(options, OPTION_EOS_TOKEN, i), &id, err));
        TRY(add(config, id, err));
    }
    session->text_end = config->eos_ids[0];
    return COHORT_OK;
}

cohort_status end_of_text_learned(struct session *session, cohort_error *err)
{
    return add(&session->model->config, session->turn_end, err);
}

void end_of_text_note(const struct session *session, const cohort_observer *observer)
{
    if (session->model->config.n_eos == 0)
        observer_message(observer,
                         "note: nothing in %s says which token ends a text (eos_token_id of "
                         "generation_config.json or config.json, eos_token of "
                         "tokenizer_config.json): completions run to their length limit; name one "
                         "with --eos-token",
                         session->dir);
}

/* Where in a JSON text the value of a key of its outermost object lies: [*from, *to). The text is valid JSON; false if
 * there is no such key. */
static bool find_value(const char *json, const char *key, size_t *from, size_t *to)
{
    int depth = 0;
    bool ours = false, named = false; /* the last string at depth 1 is the key, and its value follows */
    size_t n = strlen(key);
    for (size_t i = 0; json[i] != '\0'; i++) {
        const char c = json[i];
        if (c == '"') {
            size_t start = i++;
            while (json[i] != '"')
                i += json[i] == '\\' ? 2 : 1;
            if (depth == 1 && !named)
                ours = i - start - 1 == n && memcmp(json + start + 1, key, n) == 0;
        } else if (c == ':' && depth == 1) {
            named = true;
            *from = i + 1;
        } else if (c == '{' || c == '[') {
            depth++;
        } else if ((c == ',' && depth == 1) || c == '}' || c == ']') {
            *to = i;
            if (depth == 1 && ours && named)
                return true;
            named = named && depth > 1;
            depth -= c != ',';
        }
    }
    return false;
}

/* Sets "eos_token" in a file of the folder, if the file exists; everything else keeps its bytes. */
static cohort_status save_name(const char *dir, const char *file, const char *token, size_t length, cohort_error *err)
{
    struct text content = {0}, out = {0};
    char *path = NULL;
    size_t from = 0, to = 0;
    bool exists = false;
    cohort_status status = COHORT_OK;
    TRY_GOTO(file_join(&path, dir, file, err));
    TRY_GOTO(file_exists(path, &exists, err));
    if (!exists) /* it was read when the tokenizer was loaded: an object */
        goto cleanup;
    TRY_GOTO(file_read(path, 1 << 28, &content, err));
    const bool there = find_value(content.data, "eos_token", &from, &to);
    if (!there)
        from = to = strcspn(content.data, "{") + 1;
    while (there && to > from && strchr(" \t\r\n", content.data[to - 1]) != NULL)
        to--;
    TRY_GOTO(text_append(&out, content.data, from, err));
    TRY_GOTO(text_printf(&out, err, there ? " " : "\n  \"eos_token\": "));
    TRY_GOTO(json_string_write(token, length, &out, err));
    if (!there) /* an object with nothing else in it needs no comma */
        TRY_GOTO(text_printf(&out, err, "%s",
                             content.data[from + strspn(content.data + from, " \t\r\n")] == '}' ? "" : ","));
    TRY_GOTO(text_append(&out, content.data + to, content.length - to, err));
    TRY_GOTO(file_write_atomic(path, out.data, out.length, err));
cleanup:
    mem_free(path);
    text_free(&content);
    text_free(&out);
    return status;
}

cohort_status end_of_text_save(const struct session *session, const struct options *options, const char *dir,
                               cohort_error *err)
{
    if (options_list_count(options, OPTION_EOS_TOKEN) == 0)
        return COHORT_OK;
    size_t length = 0;
    const char *token = tokenizer_text(session->tokenizer, session->text_end, &length);
    if (token == NULL) /* an id of the model beyond the tokenizer's */
        return COHORT_OK;
    TRY(save_name(dir, "tokenizer_config.json", token, length, err));
    return save_name(dir, "special_tokens_map.json", token, length, err);
}

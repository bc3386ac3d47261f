#include "recipe/end_of_text.h"

#include "base/file.h"
#include "base/json_text.h"
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

cohort_status end_of_text_unite(struct model_config *config, const struct tokenizer *tokenizer,
                                const struct chat_template *chat, cohort_error *err)
{
    TRY(add(config, tokenizer_eos(tokenizer), err));
    /* A folder without a template names no end of a turn: messages are then rendered with our own template. */
    return chat_template_given(chat) ? add(config, chat_template_turn_end(chat), err) : COHORT_OK;
}

cohort_status end_of_text_unknown(const struct tokenizer *tokenizer, const char *dir, struct text *notes,
                                  cohort_error *err)
{
    const char *name = NULL;
    json_t *token = NULL;
    json_object_foreach((json_t *)(uintptr_t)tokenizer_special_tokens(tokenizer), name, token)
    {
        if (json_string_length(token) == 0 || tokenizer_find(tokenizer, json_string_value(token)) >= 0)
            continue;
        TRY(text_printf(
            notes, err,
            "note: %.300s: %.80s is \"%.80s\", which is no token of tokenizer.json: %s; correct the name in "
            "tokenizer_config.json, or load and save the tokenizer with transformers, which adds the token\n",
            dir, name, json_string_value(token),
            strcmp(name, "eos_token") == 0 ? "it ends no completion" : "it is text like any other"));
    }
    return COHORT_OK;
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
    session->turn_end = chat_template_turn_end(session->chat);
    TRY(end_of_text_unknown(session->tokenizer, session->adapter.tokenizer, &session->notes, err));
    if (config->eos_beyond > 0)
        TRY(text_printf(&session->notes, err,
                        "note: %.300s: eos_token_id %lld of generation_config.json or config.json is beyond the "
                        "vocabulary's %d rows: it ends no completion\n",
                        session->dir, (long long)config->eos_beyond, (int)config->vocab_size));
    if (n == 0) {
        int32_t own = tokenizer_eos(session->tokenizer);
        session->text_end = own >= 0 ? own : config->n_eos > 0 ? config->eos_ids[0] : -1;
        TRY(end_of_text_unite(config, session->tokenizer, session->chat, err));
        return chat_template_add_markers(session->chat, config->eos_ids, (size_t)config->n_eos, err);
    }
    config->n_eos = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t id = -1;
        TRY(read_token(session, options_list_item(options, OPTION_EOS_TOKEN, i), &id, err));
        TRY(add(config, id, err));
    }
    session->text_end = config->eos_ids[0];
    return chat_template_add_markers(session->chat, config->eos_ids, (size_t)config->n_eos, err);
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
    const bool there = json_text_member(content.data, content.length, "eos_token", &from, &to);
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

#include "recipe/sft_rows.h"

#include "recipe/row_prompt.h"
#include "text/chat_training.h"

#include <stdio.h>
#include <string.h>

void sft_rows_free(struct sft_rows *rows)
{
    for (size_t i = 0; rows->ids != NULL && i < rows->n; i++)
        token_list_free(&rows->ids[i]);
    mem_free(rows->ids);
    mem_free(rows->n_prompt);
    memset(rows, 0, sizeof *rows);
}

struct tree sft_rows_tree(const struct sft_rows *rows, size_t i, struct completion_tokens *completion)
{
    int32_t n_prompt = rows->n_prompt[i];
    *completion = (struct completion_tokens){.tokens = rows->ids[i].ids + n_prompt,
                                             .n_tokens = (int32_t)rows->ids[i].count - n_prompt};
    return (struct tree){
        .prompt = rows->ids[i].ids, .n_prompt = n_prompt, .completions = completion, .n_completions = 1};
}

static cohort_status append_eos(const struct session *session, struct token_list *ids, cohort_error *err)
{
    const int32_t eos = session->text_end;
    if (eos < 0 || (ids->count > 0 && ids->ids[ids->count - 1] == eos))
        return COHORT_OK;
    TRY(mem_grow(&ids->ids, &ids->capacity, ids->count + 1, sizeof *ids->ids, "row", err));
    ids->ids[ids->count++] = eos;
    return COHORT_OK;
}

/* Text of the row is the caller's own rendering: all tokens in it count. goes_on: a completion follows. */
static cohort_status encode(const struct session *session, const json_t *text, bool goes_on, struct token_list *ids,
                            cohort_error *err)
{
    return tokenizer_encode_text(session->tokenizer, json_string_value(text), json_string_length(text), goes_on, ids,
                                 err);
}

struct reader {
    const struct session *session;
    struct row_style style;
    struct sft_rows *rows;
};

/* A whole conversation: what comes before the last message's words is the prompt. The two are encoded apart, as they are
 * where a model is asked. */
static cohort_status read_conversation(const struct reader *reader, const json_t *row, const json_t *messages,
                                       const char *where, struct token_list *ids, int32_t *n_prompt, cohort_error *err)
{
    struct row_settings settings = {0};
    struct chat_training all = {0};
    cohort_status status = COHORT_OK;
    TRY_GOTO(row_settings(row, where, &reader->style, true, &settings, err));
    TRY_GOTO(chat_training_render(&all, reader->session->chat, messages, &settings.chat, CHAT_LAST, where, err));
    const size_t begin = all.trained.items[0].from;
    TRY_GOTO(row_encode(reader->session, &all.text, &all.spans, 0, begin, reader->style.trust, ids, err));
    *n_prompt = (int32_t)ids->count;
    TRY_GOTO(row_encode(reader->session, &all.text, &all.spans, begin, all.text.length, reader->style.trust, ids, err));
    reader->rows->conversations = true;
cleanup:
    row_settings_free(&settings);
    chat_training_free(&all);
    return status;
}

static cohort_status read_pair(const struct reader *reader, const json_t *row, const json_t *prompt,
                               const json_t *completion, const char *where, struct token_list *ids, int32_t *n_prompt,
                               cohort_error *err)
{
    if (json_is_array(prompt) && json_is_array(completion)) {
        json_t *all = json_copy((json_t *)(uintptr_t)prompt);
        cohort_status status = COHORT_OK;
        if (all == NULL || json_array_extend(all, (json_t *)(uintptr_t)completion) != 0)
            status = error_set(err, COHORT_ERR_MEMORY, "%s: cannot join messages", where);
        else
            status = read_conversation(reader, row, all, where, ids, n_prompt, err);
        json_decref(all);
        return status;
    }
    if (!json_is_string(prompt) || !json_is_string(completion))
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s: \"prompt\" and \"completion\" must both be text, or both lists of messages", where);
    TRY(encode(reader->session, prompt, true, ids, err));
    *n_prompt = (int32_t)ids->count;
    TRY(tokenizer_encode(reader->session->tokenizer, json_string_value(completion), json_string_length(completion),
                         true, ids, err));
    return append_eos(reader->session, ids, err);
}

static cohort_status read_row(const struct reader *reader, const json_t *row, const char *where, struct token_list *ids,
                              int32_t *n_prompt, cohort_error *err)
{
    const json_t *messages = row_column(row, "messages"), *prompt = row_column(row, "prompt"),
                 *completion = row_column(row, "completion"), *text = row_column(row, "text");
    const bool pair = prompt != NULL && completion != NULL;
    struct row_settings settings; /* whether the row has images */
    TRY(row_settings(row, where, &reader->style, false, &settings, err));
    if (json_is_array(messages) && (json_array_size(messages) > 0 || (!pair && text == NULL))) {
        TRY(read_conversation(reader, row, messages, where, ids, n_prompt, err));
    } else if (pair) {
        TRY(read_pair(reader, row, prompt, completion, where, ids, n_prompt, err));
    } else if (json_is_string(text)) {
        TRY(encode(reader->session, text, false, ids, err));
        TRY(append_eos(reader->session, ids, err));
        *n_prompt = 1;
    } else {
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s: expected \"messages\" (a list), \"prompt\" and \"completion\", or \"text\"", where);
    }
    if (*n_prompt == 0)
        return error_set(err, COHORT_ERR_FORMAT, "%s: the prompt is empty; the first token needs something to follow",
                         where);
    return COHORT_OK;
}

cohort_status sft_rows_load(struct sft_rows *rows, const struct session *session, const char *path, size_t limit,
                            int32_t max_length, const struct options *options, cohort_error *err)
{
    const struct reader reader = {session, row_style(options), rows};
    struct dataset data = {0};
    cohort_status status = COHORT_OK;
    memset(rows, 0, sizeof *rows);
    TRY_GOTO(dataset_load(&data, path, err));
    strcpy(rows->sha256, data.sha256);
    TRY_GOTO(mem_alloc(&rows->ids, data.n_rows, sizeof *rows->ids, "rows", err));
    TRY_GOTO(mem_alloc(&rows->n_prompt, data.n_rows, sizeof *rows->n_prompt, "rows", err));
    for (size_t i = 0; i < data.n_rows && (limit == 0 || i < limit); i++) {
        char where[512];
        struct token_list *ids = &rows->ids[rows->n];
        int32_t *n_prompt = &rows->n_prompt[rows->n];
        TRY_GOTO(stop_check(options_stop(options), err));
        snprintf(where, sizeof where, "%.480s:%lld", data.path, (long long)data.rows[i].line);
        rows->n++; /* so that the row is freed on failure */
        TRY_GOTO(read_row(&reader, data.rows[i].json, where, ids, n_prompt, err));
        if (ids->count > (size_t)max_length) {
            ids->count = (size_t)max_length;
            rows->n_cut++;
        }
        if (ids->count <= (size_t)*n_prompt) {
            token_list_free(ids);
            rows->n--;
            rows->n_dropped++;
            continue;
        }
        if ((int32_t)ids->count > rows->longest)
            rows->longest = (int32_t)ids->count;
    }
    if (rows->n == 0)
        status = error_set(err, COHORT_ERR_ARGUMENT, "%s: no row has a completion within --max-length %d", path,
                           (int)max_length);
cleanup:
    dataset_free(&data);
    return status;
}

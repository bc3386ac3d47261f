/* cohort tokenize: ids of a text, or of every row of a file. */
#include "command/command.h"
#include "recipe/data_open.h"
#include "recipe/json_rows.h"
#include "recipe/row_prompt.h"

#include <stdio.h>
#include <string.h>

static cohort_status print_ids(const struct tokenizer *tokenizer, const struct token_list *ids, bool jsonl,
                               struct text *out, cohort_error *err)
{
    for (size_t i = 0; i < ids->count; i++) {
        if (jsonl) {
            TRY(text_printf(out, err, i == 0 ? "{\"tokens\": [%d" : ", %d", (int)ids->ids[i]));
            continue;
        }
        size_t length = 0;
        const char *bytes = tokenizer_bytes(tokenizer, ids->ids[i], &length);
        TRY(text_printf(out, err, "%d\t", (int)ids->ids[i]));
        TRY(json_string_write(bytes == NULL ? "" : bytes, length, out, err));
        TRY(text_append(out, "\n", 1, err));
    }
    if (jsonl)
        TRY(text_printf(out, err, ids->count == 0 ? "{\"tokens\": []}\n" : "]}\n"));
    return COHORT_OK;
}

static cohort_status tokenize_rows(const struct session *session, const struct options *options,
                                   const cohort_observer *observer, struct text *out, cohort_error *err)
{
    struct dataset data = {0};
    struct row_style style = row_style(options);
    TRY(data_open(&data, options, OPTION_BATCH, 0, true, observer, err));
    cohort_status status = COHORT_OK;
    for (size_t i = 0; i < data.n_rows && status == COHORT_OK; i++) {
        struct token_list ids = {0};
        struct text text = {0};
        char place[DATA_PLACE];
        json_t *row = NULL;
        status = dataset_row(&data, i, &row, err);
        dataset_place(&data, i, place);
        if (status == COHORT_OK)
            status = row_prompt(session, row, place, &style, &ids, &text, err);
        json_decref(row);
        if (status == COHORT_OK)
            status = print_ids(session->tokenizer, &ids, true, out, err);
        token_list_free(&ids);
        text_free(&text);
    }
    dataset_free(&data);
    return status;
}

cohort_status command_tokenize(struct options *options, const struct reward_list *extra,
                               const cohort_observer *observer, cohort_error *err)
{
    (void)extra;
    const char *dir = options_string(options, OPTION_MODEL), *prompt = options_string(options, OPTION_PROMPT),
               *batch = options_string(options, OPTION_BATCH);
    struct session session = {0}; /* a tokenizer alone: no weights are read */
    struct token_list ids = {0};
    struct text text = {0}, out = {0};
    cohort_status status = COHORT_OK;
    if (dir == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "no tokenizer given: pass --model DIR, a folder with tokenizer.json");
    if ((prompt != NULL) == (batch != NULL))
        return error_set(err, COHORT_ERR_ARGUMENT, "give either --prompt TEXT or --batch FILE");
    TRY_GOTO(tokenizer_load(&session.tokenizer, dir, err));
    TRY_GOTO(chat_template_open(&session.chat, session.tokenizer, options_string(options, OPTION_CHAT_TEMPLATE), err));
    if (batch != NULL) {
        TRY_GOTO(tokenize_rows(&session, options, observer, &out, err));
    } else {
        if (strcmp(prompt, "-") == 0)
            TRY_GOTO(file_read("/dev/stdin", 1 << 28, &text, err));
        else
            TRY_GOTO(text_append(&text, prompt, strlen(prompt), err));
        if (options_bool_or(options, OPTION_CHAT, false)) {
            struct row_style style = row_style(options);
            json_t *row = json_pack("{s:s%}", "prompt", text.data, text.length);
            text_free(&text);
            status = row == NULL ? error_set(err, COHORT_ERR_FORMAT, "--prompt: the text is not valid UTF-8")
                                 : row_prompt(&session, row, "--prompt", &style, &ids, &text, err);
            json_decref(row);
            TRY_GOTO(status);
        } else {
            TRY_GOTO(tokenizer_encode_text(session.tokenizer, text.data, text.length, false, &ids, err));
        }
        TRY_GOTO(print_ids(session.tokenizer, &ids, json_rows_asked(options), &out, err));
    }
    TRY_GOTO(row_tell_template(&session, false, observer, err));
    observer_output(observer, &out);
cleanup:
    token_list_free(&ids);
    text_free(&text);
    text_free(&out);
    chat_template_close(session.chat);
    tokenizer_destroy(session.tokenizer);
    return status;
}

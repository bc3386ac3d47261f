#include "recipe/sft_rows.h"

#include "recipe/data_open.h"
#include "text/chat_training.h"

#include <string.h>

void sft_row_free(struct sft_row *row)
{
    token_list_free(&row->ids);
    row->n_prompt = 0;
}

struct tree sft_row_tree(const struct sft_row *row, struct completion_tokens *completion)
{
    *completion = (struct completion_tokens){.tokens = row->ids.ids + row->n_prompt,
                                             .n_tokens = (int32_t)row->ids.count - row->n_prompt};
    return (struct tree){
        .prompt = row->ids.ids, .n_prompt = row->n_prompt, .completions = completion, .n_completions = 1};
}

void sft_rows_free(struct sft_rows *rows)
{
    mem_free(rows->kept);
    mem_free(rows->parts);
    dataset_free(&rows->data);
    memset(rows, 0, sizeof *rows);
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

/* OpenAI's rows may say of a message that it is not learned. */
static cohort_status check_weight(const json_t *messages, const char *where, cohort_error *err)
{
    const json_t *weight = row_column(json_array_get(messages, json_array_size(messages) - 1), "weight");
    if (!json_is_number(weight) || json_number_value(weight) != 0.0)
        return COHORT_OK;
    return error_set(err, COHORT_ERR_UNSUPPORTED,
                     "%s: the last message has the weight 0, which says that it is not learned, and no other is; leave "
                     "the row out, or the weight",
                     where);
}

/* A whole conversation: what comes before the last message's words is the prompt. The two are encoded apart, as they are
 * where a model is asked. */
static cohort_status read_conversation(const struct reader *reader, const json_t *row, const json_t *messages,
                                       const char *where, struct token_list *ids, int32_t *n_prompt, cohort_error *err)
{
    struct row_settings settings = {0};
    struct chat_training all = {0};
    cohort_status status = COHORT_OK;
    TRY_GOTO(check_weight(messages, where, err));
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
    const bool texts = json_is_string(prompt) && json_is_string(completion), chat = texts && reader->style.chat;
    if (chat || (json_is_array(prompt) && json_is_array(completion))) {
        json_t *all = chat ? json_pack("[{s:s, s:O}, {s:s, s:O}]", "role", "user", "content", prompt, "role",
                                       "assistant", "content", completion)
                           : json_copy((json_t *)(uintptr_t)prompt);
        cohort_status status = COHORT_OK;
        if (all == NULL || (!chat && json_array_extend(all, (json_t *)(uintptr_t)completion) != 0))
            status = error_set(err, COHORT_ERR_MEMORY, "%s: cannot join messages", where);
        else
            status = read_conversation(reader, row, all, where, ids, n_prompt, err);
        json_decref(all);
        return status;
    }
    if (!texts)
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s: \"prompt\" and \"completion\" must both be text, or both lists of messages", where);
    TRY(encode(reader->session, prompt, true, ids, err));
    *n_prompt = (int32_t)ids->count;
    TRY(tokenizer_encode_more(reader->session->tokenizer, json_string_value(completion), json_string_length(completion),
                              NULL, ids, err));
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
        return row_lacks(row, where, "\"messages\" (a list), \"prompt\" and \"completion\", or \"text\"", err);
    }
    if (*n_prompt == 0)
        return error_set(err, COHORT_ERR_FORMAT, "%s: the prompt is empty; the first token needs something to follow",
                         where);
    return COHORT_OK;
}

cohort_status sft_row_make(const struct session *session, const struct row_style *style, const json_t *json,
                           const char *place, struct sft_row *row, bool *conversation, cohort_error *err)
{
    struct sft_rows seen = {0};
    const struct reader reader = {session, *style, &seen};
    row->ids.count = 0;
    TRY(read_row(&reader, json, place, &row->ids, &row->n_prompt, err));
    if (conversation != NULL)
        *conversation = *conversation || seen.conversations;
    return COHORT_OK;
}

/* A row of the set; *whole gets its number of tokens before it was cut. */
static cohort_status read_cut(struct sft_rows *rows, size_t i, struct sft_row *row, size_t *whole, cohort_error *err)
{
    char place[DATA_PLACE];
    json_t *json = NULL;
    TRY(dataset_row(&rows->data, i, &json, err));
    dataset_place(&rows->data, i, place);
    const cohort_status status = sft_row_make(rows->session, &rows->style, json, place, row, &rows->conversations, err);
    json_decref(json);
    *whole = row->ids.count;
    if (row->ids.count > (size_t)rows->max_length)
        row->ids.count = (size_t)rows->max_length;
    return status;
}

cohort_status sft_rows_read(struct sft_rows *rows, size_t i, struct sft_row *row, cohort_error *err)
{
    size_t whole = 0;
    return read_cut(rows, rows->kept[i], row, &whole, err);
}

/* Reads every row of the set once, and keeps the places of those that teach something. */
static cohort_status keep_rows(struct sft_rows *rows, const struct options *options, const cohort_observer *observer,
                               cohort_error *err)
{
    struct sft_row row = {0};
    size_t part = 0, end = rows->data.parts[0].n_rows; /* end: of the part, in rows of data */
    cohort_status status = COHORT_OK;
    for (size_t i = 0; i < rows->data.n_rows; i++) {
        size_t whole = 0;
        for (; i == end; end += rows->data.parts[part].n_rows)
            rows->parts[++part].first = rows->n;
        TRY_GOTO(data_report(&rows->data, i, options, observer, err));
        TRY_GOTO(read_cut(rows, i, &row, &whole, err));
        rows->n_cut += whole > row.ids.count;
        if (row.ids.count <= (size_t)row.n_prompt) {
            rows->n_dropped++;
            continue;
        }
        rows->kept[rows->n++] = (uint32_t)i;
        rows->parts[part].n_rows++;
        if ((int32_t)row.ids.count > rows->longest)
            rows->longest = (int32_t)row.ids.count;
    }
cleanup:
    sft_row_free(&row);
    return status;
}

cohort_status sft_rows_load(struct sft_rows *rows, const struct session *session, enum option_id named, size_t limit,
                            int32_t max_length, const struct options *options, const cohort_observer *observer,
                            cohort_error *err)
{
    memset(rows, 0, sizeof *rows);
    rows->session = session;
    rows->style = row_style(options);
    rows->max_length = max_length;
    TRY(data_open(&rows->data, options, named, limit, true, observer, err));
    if (rows->data.n_rows > UINT32_MAX)
        return error_set(err, COHORT_ERR_UNSUPPORTED, "%s: has %zu rows; at most %lu", rows->data.path,
                         rows->data.n_rows, (unsigned long)UINT32_MAX);
    TRY(mem_alloc(&rows->kept, rows->data.n_rows, sizeof *rows->kept, "rows", err));
    TRY(mem_alloc(&rows->parts, rows->data.n_parts, sizeof *rows->parts, "rows", err));
    for (size_t p = 0; p < rows->data.n_parts; p++)
        rows->parts[p].weight = rows->data.parts[p].weight;
    TRY(keep_rows(rows, options, observer, err));
    for (size_t p = 0; p < rows->data.n_parts; p++)
        if (rows->parts[p].n_rows == 0)
            return error_set(err, COHORT_ERR_ARGUMENT, "%s: no row%s has a completion within --max-length %d",
                             rows->data.path, rows->data.n_parts > 1 ? " of one of the files" : "", (int)max_length);
    return COHORT_OK;
}

#include "recipe/data_survey.h"

#include "base/json_text.h"
#include "recipe/data_open.h"

#include <stdlib.h>
#include <string.h>

const char *survey_type_name(enum survey_type type)
{
    static const char *const names[] = {"text", "whole number", "number", "true or false", "list", "object", "null"};
    return names[type];
}

void data_survey_free(struct data_survey *survey)
{
    for (size_t i = 0; i < survey->n_columns; i++)
        mem_free(survey->columns[i].name);
    for (size_t i = 0; i < survey->n_faults; i++)
        mem_free(survey->faults[i].what);
    for (size_t i = 0; i < SURVEY_EXAMPLES; i++)
        text_free(&survey->examples[i].text);
    mem_free(survey->columns);
    mem_free(survey->lengths);
    dataset_free(&survey->data);
    memset(survey, 0, sizeof *survey);
}

/* ---- columns ---- */

static enum survey_type type_of(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_STRING: return SURVEY_TEXT;
    case JSON_INTEGER: return SURVEY_INTEGER;
    case JSON_REAL: return SURVEY_REAL;
    case JSON_TRUE:
    case JSON_FALSE: return SURVEY_BOOL;
    case JSON_ARRAY: return SURVEY_LIST;
    case JSON_OBJECT: return SURVEY_OBJECT;
    case JSON_NULL: break;
    }
    return SURVEY_NULL;
}

/* Rows mostly have the same columns in the same order: the search begins where the last one ended. */
static cohort_status count_columns(struct data_survey *survey, const json_t *row, cohort_error *err)
{
    size_t next = 0;
    survey->n_counted++;
    for (void *at = json_object_iter((json_t *)(uintptr_t)row); at != NULL;
         at = json_object_iter_next((json_t *)(uintptr_t)row, at)) {
        const char *name = json_object_iter_key(at);
        size_t c = next, looked = 0;
        for (; looked < survey->n_columns; looked++, c++) {
            c = c < survey->n_columns ? c : 0;
            if (strcmp(survey->columns[c].name, name) == 0)
                break;
        }
        if (looked == survey->n_columns) {
            c = survey->n_columns;
            if (c == SURVEY_COLUMNS) {
                survey->more_columns = true;
                continue;
            }
            TRY(mem_grow(&survey->columns, &survey->column_capacity, c + 1, sizeof *survey->columns, "columns", err));
            TRY(mem_strdup(&survey->columns[c].name, name, strlen(name), err));
            survey->n_columns++;
        }
        survey->columns[c].counts[type_of(json_object_iter_value(at))]++;
        next = c + 1;
    }
    return COHORT_OK;
}

/* ---- rows ---- */

/* What of a row is used, and how. */
struct surveying {
    struct data_survey *survey;
    const struct session *session; /* or NULL */
    struct sft_style style;
    int32_t max_prompt;
    struct sft_row row; /* of the row in hand; of one that is asked the ids alone */
    struct text text;   /* likewise: its prompt */
};

static bool ends_with_answer(const json_t *messages)
{
    const size_t n = json_array_size(messages);
    const char *role = n < 2 ? NULL : json_string_value(json_object_get(json_array_get(messages, n - 1), "role"));
    return role != NULL && strcmp(role, "assistant") == 0;
}

static void find_use(struct data_survey *survey, const json_t *row, const char *text_field)
{
    const bool prompt = row_column(row, "prompt") != NULL;
    const json_t *messages = row_column(row, "messages");
    const bool answered = ends_with_answer(messages);
    const bool both = prompt && json_array_size(messages) > 0; /* sft learns the messages, who asks wants to be told */
    const bool text = row_column(row, text_field) != NULL, ids = row_column(row, "input_ids") != NULL;
    survey->teaches = ids || answered || (prompt && row_column(row, "completion") != NULL) || text;
    survey->asks = !both && (prompt || (messages != NULL && !answered));
    survey->prompt = ids                ? "input_ids"
                     : prompt && !both  ? "prompt"
                     : messages != NULL ? "messages"
                     : text             ? text_field
                                        : NULL;
}

static cohort_status note(struct data_survey *survey, const char *what, cohort_error *err)
{
    if (survey->n_faults == SURVEY_FAULTS)
        return COHORT_OK;
    return mem_strdup(&survey->faults[survey->n_faults++].what, what, strlen(what), err);
}

/* Says what would be done to a row that is too long, or counts nothing. */
static cohort_status note_length(struct surveying *s, const char *place, size_t n_tokens, cohort_error *err)
{
    struct data_survey *survey = s->survey;
    struct text what = {0};
    const bool dropped = survey->teaches && !sft_row_teaches(&s->row);
    const bool longer = n_tokens > (survey->teaches ? s->row.ids.count : (size_t)s->max_prompt);
    if (!longer && !dropped)
        return COHORT_OK;
    survey->n_cut += survey->teaches && !dropped;
    survey->n_dropped += dropped;
    survey->n_refused += !survey->teaches;
    cohort_status status = text_printf(&what, err, "%s: %zu tokens, %s", place, n_tokens,
                                       !survey->teaches                  ? "a longer prompt than grpo and eval take"
                                       : dropped && s->row.weight == 0.0 ? "left out by sft: its weight is 0"
                                       : dropped ? "left out by sft: nothing of its completion is within --max-length"
                                                 : "cut by sft to --max-length");
    if (status == COHORT_OK)
        status = note(survey, what.data, err);
    text_free(&what);
    return status;
}

/* ---- without a tokenizer ---- */

static cohort_status append_value(const json_t *value, struct text *out, cohort_error *err)
{
    if (json_is_string(value))
        return text_append(out, json_string_value(value), json_string_length(value), err);
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *message = json_array_get(value, i), *content = json_object_get(message, "content");
        const char *role = json_string_value(json_object_get(message, "role"));
        TRY(text_printf(out, err, "%s[%s] ", i == 0 ? "" : "\n", role == NULL ? "?" : role));
        if (json_is_string(content))
            TRY(text_append(out, json_string_value(content), json_string_length(content), err));
        else
            TRY(json_text_write(content == NULL ? json_null() : content, JSON_COMPACT | JSON_ENCODE_ANY, out, err));
    }
    return text_append(out, "", 0, err);
}

/* The row as plain text; learned: where what is learned begins. */
static cohort_status plain_text(struct surveying *s, const json_t *row, const char *place, struct text *out,
                                size_t *learned, cohort_error *err)
{
    const json_t *messages = row_column(row, "messages"), *prompt = row_column(row, "prompt"),
                 *text = row_column(row, s->style.text_field), *completion = row_column(row, "completion");
    const json_t *asked = messages != NULL ? messages : prompt, *ids = row_column(row, "input_ids");
    *learned = 0;
    if (ids != NULL)
        return json_text_write(ids, JSON_COMPACT | JSON_ENCODE_ANY, out, err);
    if (asked == NULL)
        asked = text;
    if (!json_is_string(asked) && !json_is_array(asked))
        return row_lacks(row, place, "a column \"prompt\" (text or a list of messages), \"messages\" or \"text\"", err);
    *learned = 0;
    if (s->survey->teaches && ends_with_answer(messages)) {
        json_t *head = json_copy((json_t *)(uintptr_t)messages), *last = json_array();
        const size_t n = json_array_size(messages);
        cohort_status status = head == NULL || last == NULL ||
                                       json_array_append(last, json_array_get(messages, n - 1)) != 0 ||
                                       json_array_remove(head, n - 1) != 0
                                   ? error_set(err, COHORT_ERR_MEMORY, "%s: cannot copy messages", place)
                                   : append_value(head, out, err);
        if (status == COHORT_OK)
            status = text_append(out, "\n", 1, err);
        *learned = out->length;
        if (status == COHORT_OK)
            status = append_value(last, out, err);
        json_decref(head);
        json_decref(last);
        return status;
    }
    TRY(append_value(asked, out, err));
    if (asked == text)
        return COHORT_OK;
    *learned = out->length;
    if (!s->survey->teaches || completion == NULL)
        return COHORT_OK;
    if (json_is_array(completion))
        TRY(text_append(out, "\n", 1, err));
    *learned = out->length;
    return append_value(completion, out, err);
}

static size_t characters(const struct text *text)
{
    size_t n = 0;
    for (size_t i = 0; i < text->length; i++)
        n += ((unsigned char)text->data[i] & 0xc0) != 0x80;
    return n;
}

/* ---- with one ---- */

static cohort_status append_ids(const struct session *session, const int32_t *ids, size_t n, struct text *out,
                                cohort_error *err)
{
    for (size_t i = 0; i < n; i++) {
        size_t length = 0;
        const char *bytes = tokenizer_bytes(session->tokenizer, ids[i], &length);
        if (bytes != NULL)
            TRY(text_append(out, bytes, length, err));
    }
    return text_append(out, "", 0, err);
}

/* The row's tokens in s->row. */
static cohort_status encode(struct surveying *s, const json_t *row, const char *place, cohort_error *err)
{
    if (s->survey->teaches)
        return sft_row_make(s->session, &s->style, row, place, &s->row, err);
    s->row.ids.count = 0;
    s->text.length = 0;
    TRY(row_prompt(s->session, row, place, &s->style.row, &s->row.ids, &s->text, err));
    s->row.n_prompt = (int32_t)s->row.ids.count;
    s->row.masked = false;
    return COHORT_OK;
}

/* The row with what is learned of it: from *learned on, but for what stands between "]]" and "[[learned: ". */
static cohort_status append_row(const struct surveying *s, struct text *out, size_t *learned, cohort_error *err)
{
    const struct sft_row *row = &s->row;
    const size_t n_prompt = (size_t)row->n_prompt;
    size_t end = row->ids.count;
    bool inside = true;
    TRY(append_ids(s->session, row->ids.ids, n_prompt < end ? n_prompt : end, out, err));
    *learned = out->length;
    while (row->masked && end > n_prompt && !row->learned[end - 1])
        end--;
    for (size_t i = n_prompt; i < end; i++) {
        const bool is = !row->masked || row->learned[i];
        if (is != inside)
            TRY(text_printf(out, err, "%s", is ? "[[learned: " : "]]"));
        inside = is;
        TRY(append_ids(s->session, row->ids.ids + i, 1, out, err));
    }
    return COHORT_OK;
}

/* A row that is good: its length, and for the first few how it looks. */
static cohort_status take_row(struct surveying *s, size_t i, const json_t *row, const char *place, cohort_error *err)
{
    struct data_survey *survey = s->survey;
    struct survey_example *example =
        survey->n_examples < SURVEY_EXAMPLES ? &survey->examples[survey->n_examples] : NULL;
    size_t length = 0, learned = 0;
    if (s->session != NULL) {
        TRY(encode(s, row, place, err));
        length = s->row.ids.count;
        if (example != NULL)
            TRY(append_row(s, &example->text, &learned, err));
        if (survey->teaches)
            sft_row_cut(&s->row, &s->style);
        TRY(note_length(s, place, length, err));
    } else {
        s->text.length = 0;
        TRY(plain_text(s, row, place, &s->text, &learned, err));
        if (survey->teaches)
            TRY(sft_row_check(&s->style, row, place, NULL, NULL, err));
        length = characters(&s->text);
    }
    survey->lengths[survey->n_lengths++] = length > INT32_MAX ? INT32_MAX : (int32_t)length;
    if (example == NULL)
        return COHORT_OK;
    example->row = i;
    example->learned = learned;
    if (s->session == NULL)
        TRY(text_append(&example->text, s->text.data, s->text.length, err));
    survey->n_examples++;
    return COHORT_OK;
}

/* What is wrong with a row is noted and does not end the survey; what is wrong with the machine does. */
static cohort_status look_at_row(struct surveying *s, size_t i, cohort_error *err)
{
    struct data_survey *survey = s->survey;
    char place[DATA_PLACE];
    json_t *row = NULL;
    cohort_error found = {0};
    cohort_status status = dataset_row(&survey->data, i, &row, &found);
    if (status == COHORT_OK)
        status = count_columns(survey, row, &found);
    if (status == COHORT_OK && survey->n_counted == 1)
        find_use(survey, row, s->style.text_field);
    s->style.row.asks = !survey->teaches;
    dataset_place(&survey->data, i, place);
    if (status == COHORT_OK)
        status = take_row(s, i, row, place, &found);
    json_decref(row);
    if (status == COHORT_OK)
        return COHORT_OK;
    if (status != COHORT_ERR_FORMAT && status != COHORT_ERR_UNSUPPORTED)
        return error_set(err, status, "%s", found.message);
    survey->n_refused++;
    return note(survey, found.message, err);
}

static int by_length(const void *a, const void *b)
{
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

cohort_status data_survey_make(struct data_survey *survey, const struct session *session, int32_t max_length,
                               int32_t max_prompt, const struct options *options, const cohort_observer *observer,
                               cohort_error *err)
{
    struct surveying s = {
        .survey = survey, .session = session, .style = sft_style(options, max_length), .max_prompt = max_prompt};
    cohort_status status = COHORT_OK;
    memset(survey, 0, sizeof *survey);
    survey->in_tokens = session != NULL;
    TRY(data_open(&survey->data, options, OPTION_DATA, 0, true, observer, err));
    TRY_GOTO(mem_alloc(&survey->lengths, survey->data.n_rows, sizeof *survey->lengths, "lengths", err));
    for (size_t i = 0; i < survey->data.n_rows; i++) {
        TRY_GOTO(data_report(&survey->data, i, options, observer, err));
        TRY_GOTO(look_at_row(&s, i, err));
    }
    qsort(survey->lengths, survey->n_lengths, sizeof *survey->lengths, by_length);
cleanup:
    sft_row_free(&s.row);
    text_free(&s.text);
    return status;
}

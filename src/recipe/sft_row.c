#include "recipe/sft_row.h"

#include "model/packing.h"
#include "recipe/json_rows.h"
#include "text/chat_training.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

struct sft_style sft_style(const struct options *options, int32_t max_length)
{
    struct sft_style style = {.row = row_style(options),
                              .text_field = options_string(options, OPTION_DATASET_TEXT_FIELD),
                              .assistant_only = options_bool(options, OPTION_ASSISTANT_ONLY_LOSS),
                              .max_length = max_length,
                              .keep_end = options_choice(options, OPTION_TRUNCATION_MODE) == TRUNCATION_KEEP_END};
    if (options_is_set(options, OPTION_COMPLETION_ONLY_LOSS))
        style.part = options_bool(options, OPTION_COMPLETION_ONLY_LOSS) ? SFT_PART_ONLY : SFT_PART_ALL;
    return style;
}

void sft_row_free(struct sft_row *row)
{
    token_list_free(&row->ids);
    mem_free(row->learned);
    memset(row, 0, sizeof *row);
}

bool sft_row_teaches(const struct sft_row *row) { return row->n_learned > 0 && row->weight > 0.0; }

struct tree sft_row_tree(const struct sft_row *row, struct completion_tokens *completion)
{
    *completion = (struct completion_tokens){.tokens = row->ids.ids + row->n_prompt,
                                             .n_tokens = (int32_t)row->ids.count - row->n_prompt,
                                             .sampled = row->masked ? row->learned + row->n_prompt : NULL};
    return (struct tree){
        .prompt = row->ids.ids, .n_prompt = row->n_prompt, .completions = completion, .n_completions = 1};
}

/* ---- the columns of a row ---- */

/* Where a row's tokens come from: one of these is there. */
struct source {
    const json_t *ids;                 /* tokens */
    const json_t *messages;            /* a conversation */
    const json_t *prompt, *completion; /* both */
    const json_t *text;
};

static cohort_status find_source(const struct sft_style *style, const json_t *row, const char *where,
                                 struct source *out, cohort_error *err)
{
    const json_t *messages = row_column(row, "messages"), *prompt = row_column(row, "prompt"),
                 *completion = row_column(row, "completion"), *text = row_column(row, style->text_field);
    const bool pair = prompt != NULL && completion != NULL;
    *out = (struct source){.ids = row_column(row, "input_ids")};
    if (out->ids != NULL)
        return COHORT_OK;
    if (json_is_array(messages) && (json_array_size(messages) > 0 || (!pair && text == NULL)))
        out->messages = messages;
    else if (pair)
        *out = (struct source){.prompt = prompt, .completion = completion};
    else if (json_is_string(text))
        out->text = text;
    else {
        char expected[200];
        snprintf(expected, sizeof expected, "\"messages\" (a list), \"prompt\" and \"completion\", or \"%.80s\"",
                 style->text_field);
        return row_lacks(row, where, expected, err);
    }
    if (pair && out->messages == NULL && json_is_array(prompt) != json_is_array(completion))
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s: \"prompt\" and \"completion\" must both be text, or both lists of messages", where);
    return COHORT_OK;
}

/* ---- weights ---- */

static bool is_assistant(const json_t *message)
{
    const char *role = json_string_value(json_object_get(message, "role"));
    return role != NULL && strcmp(role, "assistant") == 0;
}

/* OpenAI's rows may say of a message of the assistant that it is not learned. */
static cohort_status message_weight(const json_t *message, const char *where, bool *learned, cohort_error *err)
{
    const json_t *weight = row_column(message, "weight");
    *learned = true;
    if (weight == NULL)
        return COHORT_OK;
    const double value = json_is_number(weight) ? json_number_value(weight) : -1.0;
    if (value != 0.0 && value != 1.0)
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s: a message's \"weight\" must be 0 (it is not learned) or 1; what a whole row counts is "
                         "said by its column \"weight\"",
                         where);
    *learned = value == 1.0;
    return COHORT_OK;
}

static cohort_status check_messages(const struct sft_style *style, const json_t *messages, const char *where,
                                    cohort_error *err)
{
    const size_t n = json_array_size(messages);
    for (size_t i = 0; i < n; i++) {
        bool learned = true;
        if (!is_assistant(json_array_get(messages, i)))
            continue;
        TRY(message_weight(json_array_get(messages, i), where, &learned, err));
        if (learned || style->assistant_only)
            continue;
        if (style->part == SFT_PART_ALL)
            return error_set(
                err, COHORT_ERR_UNSUPPORTED,
                "%s: a message has the weight 0, which says that it is not learned, and completion_only_loss "
                "false that all is; assistant_only_loss learns the assistant's messages that have not",
                where);
        if (i + 1 == n)
            return error_set(
                err, COHORT_ERR_UNSUPPORTED,
                "%s: the last message has the weight 0, which says that it is not learned, and no other is; "
                "leave the row out, or the weight, or learn the other turns (assistant_only_loss)",
                where);
    }
    return COHORT_OK;
}

cohort_status sft_row_check(const struct sft_style *style, const json_t *json, const char *place, double *weight,
                            bool *weighted, cohort_error *err)
{
    const json_t *column = row_column(json, "weight");
    const double value = column == NULL ? 1.0 : json_is_number(column) ? json_number_value(column) : -1.0;
    struct source source;
    if (!(value >= 0.0) || !isfinite(value))
        return error_set(
            err, COHORT_ERR_FORMAT,
            "%s: \"weight\" is what the row counts in the loss: expected a number, 0 or more; a column that "
            "means something else needs another name",
            place);
    if (weight != NULL)
        *weight = value;
    if (weighted != NULL)
        *weighted = column != NULL;
    TRY(find_source(style, json, place, &source, err));
    if (source.messages != NULL)
        return check_messages(style, source.messages, place, err);
    return source.completion == NULL ? COHORT_OK : check_messages(style, source.completion, place, err);
}

/* ---- tokens ---- */

struct maker {
    const struct session *session;
    const struct sft_style *style;
    const json_t *json;
    const char *where;
    struct sft_row *row;
    cohort_error *err;
};

/* All tokens that were appended since the last call are learned, or are not. */
static cohort_status mark(const struct maker *m, size_t *marked, bool learned)
{
    struct sft_row *row = m->row;
    TRY(mem_grow(&row->learned, &row->learned_capacity, row->ids.count, sizeof *row->learned, "row", m->err));
    for (; *marked < row->ids.count; (*marked)++)
        row->learned[*marked] = learned;
    return COHORT_OK;
}

static cohort_status append_eos(const struct maker *m)
{
    struct token_list *ids = &m->row->ids;
    const int32_t eos = m->session->text_end;
    if (eos < 0 || (ids->count > 0 && ids->ids[ids->count - 1] == eos))
        return COHORT_OK;
    TRY(mem_grow(&ids->ids, &ids->capacity, ids->count + 1, sizeof *ids->ids, "row", m->err));
    ids->ids[ids->count++] = eos;
    return COHORT_OK;
}

/* Text of the row is the caller's own rendering: all tokens in it count. goes_on: a completion follows. */
static cohort_status encode(const struct maker *m, const json_t *text, bool goes_on)
{
    return tokenizer_encode_text(m->session->tokenizer, json_string_value(text), json_string_length(text), goes_on,
                                 &m->row->ids, m->err);
}

/* The rendering's ids: what is learned is encoded apart from what is not, as it is where a model is asked. */
static cohort_status encode_parts(const struct maker *m, const struct chat_training *all)
{
    size_t at = 0, marked = 0;
    for (size_t i = 0; i <= all->trained.count; i++) {
        const bool last = i == all->trained.count;
        const size_t from = last ? all->text.length : all->trained.items[i].from;
        const size_t to = last ? from : all->trained.items[i].to;
        if (from > at)
            TRY(row_encode(m->session, &all->text, &all->spans, at, from, m->style->row.trust, &m->row->ids, m->err));
        TRY(mark(m, &marked, false));
        if (i == 0 && m->style->part != SFT_PART_ALL && m->row->ids.count == 0)
            return error_set(m->err, COHORT_ERR_FORMAT,
                             "%s: the prompt is empty; the first token needs something to follow", m->where);
        if (to > from)
            TRY(row_encode(m->session, &all->text, &all->spans, from, to, m->style->row.trust, &m->row->ids, m->err));
        TRY(mark(m, &marked, true));
        at = to;
    }
    return COHORT_OK;
}

/* Leaves of the turns that can be learned those that are: not the first n_before messages', nor those of weight 0. */
static cohort_status choose_turns(const struct maker *m, const json_t *messages, size_t n_before,
                                  struct chat_training *all)
{
    size_t n_turns = 0, n_kept = 0;
    bool chooses = false;
    for (size_t i = 0; i < json_array_size(messages); i++) {
        bool learned = true;
        if (!is_assistant(json_array_get(messages, i)))
            continue;
        TRY(message_weight(json_array_get(messages, i), m->where, &learned, m->err));
        learned = learned && i >= n_before;
        chooses = chooses || !learned;
        if (learned && n_turns < all->trained.count)
            all->trained.items[n_kept++] = all->trained.items[n_turns];
        n_turns++;
    }
    if (chooses && n_turns != all->trained.count)
        return error_set(m->err, COHORT_ERR_UNSUPPORTED,
                         "%s: the chat template marks %zu parts as the assistant's, of %zu messages of the assistant: "
                         "which of them are learned cannot be told; leave weights of messages out, and give the row as "
                         "messages",
                         m->where, all->trained.count, n_turns);
    all->trained.count = chooses ? n_kept : all->trained.count;
    return COHORT_OK;
}

/* Everything behind the first n messages is learned, to the end of the last turn. */
static cohort_status learn_from(const struct maker *m, const json_t *messages, size_t n,
                                const struct chat_options *options, struct chat_training *all)
{
    struct rendered before = {0};
    json_t *head = json_array();
    bool made = head != NULL;
    for (size_t i = 0; made && i < n; i++)
        made = json_array_append(head, json_array_get(messages, i)) == 0;
    cohort_status status = made ? row_render_prompt(m->session, head, m->where, options, &before, m->err)
                                : error_set(m->err, COHORT_ERR_MEMORY, "%s: cannot copy messages", m->where);
    if (status == COHORT_OK && (before.text.length >= all->trained.items[0].to ||
                                memcmp(before.text.data, all->text.data, before.text.length) != 0))
        status = error_set(m->err, COHORT_ERR_FORMAT,
                           "%s: the rendered prompt is no beginning of the rendered conversation, so that what the "
                           "completion adds to it is not known; learn the assistant's turns (assistant_only_loss), or "
                           "give prompt and completion as text",
                           m->where);
    if (status == COHORT_OK)
        all->trained.items[0].from = before.text.length;
    json_decref(head);
    rendered_free(&before);
    return status;
}

/* A whole conversation, of which the first n_prompt messages are a prompt (0: there is none). */
static cohort_status make_conversation(const struct maker *m, const json_t *messages, size_t n_prompt)
{
    const struct sft_style *style = m->style;
    const size_t n = json_array_size(messages);
    const bool prompt = n_prompt > 0 && style->part != SFT_PART_ALL;
    struct row_settings settings = {0};
    struct chat_training all = {0};
    cohort_status status = COHORT_OK;
    TRY_GOTO(row_settings(m->json, m->where, &style->row, true, &settings, m->err));
    if (style->assistant_only) {
        TRY_GOTO(chat_training_render(&all, m->session->chat, messages, &settings.chat, CHAT_ALL, m->where, m->err));
        TRY_GOTO(choose_turns(m, messages, prompt ? n_prompt : 0, &all));
    } else if (style->part == SFT_PART_ALL) {
        TRY_GOTO(
            chat_template_render(m->session->chat, messages, &settings.chat, m->where, &all.text, &all.spans, m->err));
        TRY_GOTO(content_spans_push(&all.trained, 0, all.text.length, CONTENT_ASSISTANT, m->err));
    } else {
        TRY_GOTO(chat_training_render(&all, m->session->chat, messages, &settings.chat, CHAT_LAST, m->where, m->err));
        if (prompt && n_prompt + 1 < n)
            TRY_GOTO(learn_from(m, messages, n_prompt, &settings.chat, &all));
    }
    TRY_GOTO(encode_parts(m, &all));
    m->row->conversation = true;
cleanup:
    row_settings_free(&settings);
    chat_training_free(&all);
    return status;
}

static cohort_status make_pair(const struct maker *m, const struct source *source)
{
    const json_t *prompt = source->prompt, *completion = source->completion;
    const bool texts = json_is_string(prompt) && json_is_string(completion), chat = texts && m->style->row.chat;
    size_t marked = 0;
    if (chat || json_is_array(prompt)) {
        json_t *all = chat ? json_pack("[{s:s, s:O}, {s:s, s:O}]", "role", "user", "content", prompt, "role",
                                       "assistant", "content", completion)
                           : json_copy((json_t *)(uintptr_t)prompt);
        cohort_status status = COHORT_OK;
        if (all == NULL || (!chat && json_array_extend(all, (json_t *)(uintptr_t)completion) != 0))
            status = error_set(m->err, COHORT_ERR_MEMORY, "%s: cannot join messages", m->where);
        else
            status = make_conversation(m, all, chat ? 1 : json_array_size(prompt));
        json_decref(all);
        return status;
    }
    if (!texts)
        return error_set(m->err, COHORT_ERR_FORMAT,
                         "%s: \"prompt\" and \"completion\" must both be text, or both lists of messages", m->where);
    TRY(encode(m, prompt, true));
    TRY(mark(m, &marked, m->style->part == SFT_PART_ALL));
    if (m->row->ids.count == 0)
        return error_set(m->err, COHORT_ERR_FORMAT,
                         "%s: the prompt is empty; the first token needs something to follow", m->where);
    TRY(tokenizer_encode_more(m->session->tokenizer, json_string_value(completion), json_string_length(completion),
                              NULL, &m->row->ids, m->err));
    TRY(append_eos(m));
    return mark(m, &marked, true);
}

static cohort_status make_text(const struct maker *m, const json_t *text)
{
    size_t marked = 0;
    if (m->style->part == SFT_PART_ONLY)
        return error_set(m->err, COHORT_ERR_FORMAT,
                         "%s: the row is plain text, which has no completion; leave completion_only_loss out, or give "
                         "prompt and completion",
                         m->where);
    TRY(encode(m, text, false));
    TRY(append_eos(m));
    return mark(m, &marked, true);
}

/* Clears what a column does not learn: of labels what is -100, of a mask what is 0. A label is the token itself. */
static cohort_status apply_mask(const struct maker *m, const char *name, bool labels)
{
    struct sft_row *row = m->row;
    const json_t *mask = row_column(m->json, name);
    if (mask == NULL)
        return COHORT_OK;
    if (json_array_size(mask) != row->ids.count)
        return error_set(m->err, COHORT_ERR_FORMAT, "%s: \"%s\" must be a list as long as \"input_ids\", %zu", m->where,
                         name, row->ids.count);
    for (size_t i = 0; i < row->ids.count; i++) {
        const json_t *item = json_array_get(mask, i);
        const json_int_t value = json_is_integer(item) ? json_integer_value(item) : json_is_true(item) ? 1 : 0;
        const json_int_t off = labels ? -100 : 0, on = labels ? row->ids.ids[i] : 1;
        if ((!json_is_integer(item) && (labels || !json_is_boolean(item))) || (value != on && value != off))
            return error_set(m->err, COHORT_ERR_FORMAT, "%s: \"%s\"[%zu] must be %lld (learned) or %lld", m->where,
                             name, i, (long long)on, (long long)off);
        row->learned[i] = row->learned[i] && value == on;
    }
    return COHORT_OK;
}

/* Tokens of the caller's, with labels or masks as TRL has them. */
static cohort_status make_ids(const struct maker *m)
{
    const struct session *session = m->session;
    struct token_list *ids = &m->row->ids;
    int32_t *found = NULL, n = 0;
    size_t marked = 0;
    TRY(json_read_ids(m->json, "input_ids", m->where,
                      session->model != NULL ? session->model->config.vocab_size : tokenizer_size(session->tokenizer),
                      &found, &n, m->err));
    cohort_status status = mem_grow(&ids->ids, &ids->capacity, (size_t)n, sizeof *ids->ids, "row", m->err);
    for (int32_t i = 0; status == COHORT_OK && i < n; i++)
        ids->ids[ids->count++] = found[i];
    mem_free(found);
    TRY(status);
    TRY(mark(m, &marked, true));
    if (row_column(m->json, "labels") != NULL)
        return apply_mask(m, "labels", true);
    if (m->style->assistant_only && row_column(m->json, "assistant_masks") == NULL)
        return error_set(m->err, COHORT_ERR_FORMAT,
                         "%s: assistant_only_loss needs messages, or \"assistant_masks\" beside \"input_ids\"",
                         m->where);
    TRY(apply_mask(m, "assistant_masks", false));
    return m->style->part == SFT_PART_ALL ? COHORT_OK : apply_mask(m, "completion_mask", false);
}

/* ---- a row ---- */

static int32_t count_learned(const struct sft_row *row)
{
    int32_t n = 0;
    for (size_t i = 1; i < row->ids.count; i++)
        n += row->learned[i] ? 1 : 0;
    return n;
}

/* What follows from ids and learned. */
static void count(struct sft_row *row)
{
    const int32_t n = (int32_t)row->ids.count;
    row->n_learned = count_learned(row);
    row->n_prompt = 1;
    row->first_learned = n > 0 && row->learned[0];
    if (n > 0)
        row->learned[0] = false;
    while (row->n_prompt < n && !row->learned[row->n_prompt])
        row->n_prompt++;
    row->masked = row->n_learned < n - row->n_prompt;
}

void sft_row_cut(struct sft_row *row, const struct sft_style *style)
{
    const size_t n = row->ids.count, most = (size_t)style->max_length;
    if (n <= most)
        return;
    if (style->keep_end) {
        memmove(row->ids.ids, row->ids.ids + n - most, most * sizeof *row->ids.ids);
        memmove(row->learned, row->learned + n - most, most * sizeof *row->learned);
    }
    row->ids.count = most;
    count(row);
}

void sft_row_clear(struct sft_row *row)
{
    row->ids.count = 0;
    row->conversation = row->weighted = false;
    row->weight = 1.0;
}

cohort_status sft_row_append(struct sft_row *row, const struct sft_row *from, int32_t first, int32_t n,
                             cohort_error *err)
{
    const size_t at = row->ids.count, end = at + (size_t)n;
    TRY(mem_grow(&row->ids.ids, &row->ids.capacity, end, sizeof *row->ids.ids, "row", err));
    TRY(mem_grow(&row->learned, &row->learned_capacity, end, sizeof *row->learned, "row", err));
    if (n > 0) {
        memcpy(row->ids.ids + at, from->ids.ids + first, (size_t)n * sizeof *row->ids.ids);
        memcpy(row->learned + at, from->learned + first, (size_t)n * sizeof *row->learned);
        row->learned[at] = row->learned[at] || (first == 0 && from->first_learned);
    }
    row->ids.count = end;
    row->conversation = row->conversation || from->conversation;
    return COHORT_OK;
}

void sft_row_finish(struct sft_row *row)
{
    count(row);
    row->n_whole = (int32_t)row->ids.count;
    row->n_learned_whole = row->n_learned;
}

cohort_status sft_row_make(const struct session *session, const struct sft_style *style, const json_t *json,
                           const char *place, struct sft_row *row, cohort_error *err)
{
    const struct maker m = {session, style, json, place, row, err};
    struct row_settings settings; /* whether the row has images */
    struct source source;
    row->ids.count = 0;
    row->conversation = false;
    TRY(row_settings(json, place, &style->row, false, &settings, err));
    TRY(sft_row_check(style, json, place, &row->weight, &row->weighted, err));
    TRY(find_source(style, json, place, &source, err));
    if (source.ids == NULL && style->assistant_only && source.messages == NULL && !json_is_array(source.completion))
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s: assistant_only_loss needs messages, and this row is text; leave it out, or give messages",
                         place);
    if (source.ids != NULL)
        TRY(make_ids(&m));
    else if (source.messages != NULL)
        TRY(make_conversation(&m, source.messages, 0));
    else if (source.text != NULL)
        TRY(make_text(&m, source.text));
    else
        TRY(make_pair(&m, &source));
    if (row->ids.count > INT32_MAX)
        return error_set(err, COHORT_ERR_UNSUPPORTED, "%s: the row has %zu tokens; at most %d", place, row->ids.count,
                         INT32_MAX);
    sft_row_finish(row);
    return COHORT_OK;
}

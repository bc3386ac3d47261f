#include "recipe/preference_rows.h"

#include "model/packing.h"
#include "recipe/data_open.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

void preference_row_free(struct preference_row *row)
{
    sft_row_free(&row->chosen);
    sft_row_free(&row->rejected);
}

void preference_rows_free(struct preference_rows *rows)
{
    mem_free(rows->kept);
    mem_free(rows->parts);
    dataset_free(&rows->data);
    memset(rows, 0, sizeof *rows);
}

struct tree preference_row_tree(const struct preference_row *row, bool single, struct completion_tokens completions[2])
{
    struct tree tree = sft_row_tree(&row->chosen, &completions[0]);
    completions[0].sampled = NULL; /* all tokens of a completion count */
    if (single)
        return tree;
    (void)sft_row_tree(&row->rejected, &completions[1]);
    completions[1].sampled = NULL;
    tree.completions = completions;
    tree.n_completions = 2;
    return tree;
}

/* ---- the columns of a row ---- */

/* prompt may be a new value, all others are the row's. */
struct parts {
    json_t *prompt, *chosen, *rejected;
    bool ids; /* the two are lists of tokens, and there is no prompt */
};

static void parts_free(struct parts *parts)
{
    json_decref(parts->prompt);
    json_decref(parts->chosen);
    json_decref(parts->rejected);
}

/* Bytes that both texts begin with, whole characters, as TRL cuts them: a space before the difference belongs to the
 * completions, and so does the last character where one text is the beginning of the other. */
static size_t common_text(const json_t *a, const json_t *b)
{
    const char *x = json_string_value(a), *y = json_string_value(b);
    const size_t n_x = json_string_length(a), n_y = json_string_length(b), n = n_x < n_y ? n_x : n_y;
    size_t same = 0;
    while (same < n && x[same] == y[same])
        same++;
    const bool whole = same == n;
    const char *text = n_x < n_y ? y : x; /* the longer one: what stands behind the common part is there */
    size_t at = same;
    if (whole && at > 0)
        at--; /* into the last common character */
    while (at > 0 && at < (n_x < n_y ? n_y : n_x) && ((unsigned char)text[at] & 0xc0) == 0x80)
        at--; /* to where a character begins */
    if (!whole && at > 0 && text[at - 1] == ' ')
        at--;
    return at;
}

static size_t common_messages(const json_t *a, const json_t *b)
{
    const size_t n_a = json_array_size(a), n_b = json_array_size(b), n = n_a < n_b ? n_a : n_b;
    size_t same = 0;
    while (same < n && json_equal(json_array_get(a, same), json_array_get(b, same)))
        same++;
    return same == n && same > 0 ? same - 1 : same;
}

/* A part of a list of messages. */
static json_t *slice(const json_t *messages, size_t from, size_t to)
{
    json_t *out = json_array();
    for (size_t i = from; out != NULL && i < to; i++)
        if (json_array_append(out, json_array_get(messages, i)) != 0) {
            json_decref(out);
            return NULL;
        }
    return out;
}

/* The prompt is what both completions begin with. */
static cohort_status implicit_prompt(const json_t *chosen, const json_t *rejected, const char *where,
                                     struct parts *parts, cohort_error *err)
{
    if (json_is_string(chosen)) {
        const size_t n = common_text(chosen, rejected);
        parts->prompt = json_stringn(json_string_value(chosen), n);
        parts->chosen = json_stringn(json_string_value(chosen) + n, json_string_length(chosen) - n);
        parts->rejected = json_stringn(json_string_value(rejected) + n, json_string_length(rejected) - n);
    } else {
        const size_t n = common_messages(chosen, rejected);
        if (n == 0)
            return error_set(err, COHORT_ERR_FORMAT,
                             "%s: \"chosen\" and \"rejected\" begin with different messages, so that no prompt is "
                             "common to them: give it as the column \"prompt\"",
                             where);
        parts->prompt = slice(chosen, 0, n);
        parts->chosen = slice(chosen, n, json_array_size(chosen));
        parts->rejected = slice(rejected, n, json_array_size(rejected));
    }
    return parts->prompt != NULL && parts->chosen != NULL && parts->rejected != NULL
               ? COHORT_OK
               : error_set(err, COHORT_ERR_MEMORY, "%s: cannot copy the row", where);
}

static bool is_text_or_messages(const json_t *value) { return json_is_string(value) || json_is_array(value); }

static cohort_status find_parts(const json_t *row, const char *where, struct parts *parts, cohort_error *err)
{
    const json_t *prompt = row_column(row, "prompt"), *chosen = row_column(row, "chosen"),
                 *rejected = row_column(row, "rejected");
    if (chosen == NULL || rejected == NULL)
        return row_lacks(row, where, "\"chosen\" and \"rejected\"", err);
    if (!is_text_or_messages(chosen) || json_is_array(chosen) != json_is_array(rejected) ||
        !is_text_or_messages(rejected) || (json_is_array(prompt) && !json_is_array(chosen)))
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s: \"chosen\" and \"rejected\" must both be text, or both lists of messages, and \"prompt\" "
                         "like them",
                         where);
    /* A prompt that is text beside messages is a copy of the first of them, as in several published sets. */
    if (prompt == NULL || json_is_array(prompt) != json_is_array(chosen))
        return implicit_prompt(chosen, rejected, where, parts, err);
    *parts = (struct parts){json_incref((json_t *)(uintptr_t)prompt), json_incref((json_t *)(uintptr_t)chosen),
                            json_incref((json_t *)(uintptr_t)rejected), false};
    return COHORT_OK;
}

/* Of whole sequences, whose prompt need not be known; prompt NULL: there is none, or the two begin with it. */
static cohort_status find_sequences(const json_t *row, const char *where, bool chat, struct parts *parts,
                                    cohort_error *err)
{
    const json_t *prompt = row_column(row, "prompt"), *chosen = row_column(row, "chosen"),
                 *rejected = row_column(row, "rejected"), *ids = row_column(row, "chosen_ids");
    const bool own = ids != NULL || row_column(row, "rejected_ids") != NULL;
    if (own) {
        *parts = (struct parts){.chosen = json_incref((json_t *)(uintptr_t)ids),
                                .rejected = json_incref((json_t *)(uintptr_t)row_column(row, "rejected_ids")),
                                .ids = true};
        return parts->chosen != NULL && parts->rejected != NULL
                   ? COHORT_OK
                   : row_lacks(row, where, "\"chosen_ids\" and \"rejected_ids\"", err);
    }
    if (chosen == NULL || rejected == NULL)
        return row_lacks(row, where, "\"chosen\" and \"rejected\"", err);
    if (!is_text_or_messages(chosen) || !is_text_or_messages(rejected) ||
        json_is_array(chosen) != json_is_array(rejected) || (json_is_array(prompt) && !json_is_array(chosen)))
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s: \"chosen\" and \"rejected\" must both be text, or both lists of messages, and \"prompt\" "
                         "like them",
                         where);
    if (chat && json_is_string(chosen) && !json_is_string(prompt))
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s: with --chat a text is the assistant's answer to \"prompt\", which the row has not",
                         where);
    /* A prompt that is text beside messages is a copy of the first of them. */
    const bool copied = json_is_string(prompt) && json_is_array(chosen);
    *parts =
        (struct parts){copied ? NULL : json_incref((json_t *)(uintptr_t)prompt),
                       json_incref((json_t *)(uintptr_t)chosen), json_incref((json_t *)(uintptr_t)rejected), false};
    return COHORT_OK;
}

/* ---- a row ---- */

/* One side as a row of sft: prompt and completion, beside what else the template reads of the row. */
static cohort_status make_side(const struct session *session, const struct sft_style *style, const json_t *json,
                               const struct parts *parts, bool chosen, const char *place, struct sft_row *row,
                               cohort_error *err)
{
    static const char *const others[] = {"messages", "input_ids", "weight", "text"};
    json_t *side = json_copy((json_t *)(uintptr_t)json);
    char where[DATA_PLACE + 16];
    snprintf(where, sizeof where, "%s, %s", place, chosen ? "chosen" : "rejected");
    if (side == NULL || json_object_set(side, "prompt", parts->prompt) != 0 ||
        json_object_set(side, "completion", chosen ? parts->chosen : parts->rejected) != 0) {
        json_decref(side);
        return error_set(err, COHORT_ERR_MEMORY, "%s: cannot copy the row", place);
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        (void)json_object_del(side, others[i]);
    const cohort_status status = sft_row_make(session, style, side, where, row, err);
    json_decref(side);
    TRY(status);
    /* What a template writes behind the end of the last turn is no part of the completion. */
    while (row->ids.count > 0 && !row->learned[row->ids.count - 1])
        row->ids.count--;
    sft_row_finish(row);
    if (row->masked || row->n_learned == 0)
        return error_set(err, COHORT_ERR_FORMAT, "%s: the completion is empty, or a part of it is not learned", where);
    return COHORT_OK;
}

/* A side as one sequence, prompt and completion together, all of whose tokens are read. */
static cohort_status make_sequence(const struct session *session, const struct sft_style *style, const json_t *json,
                                   const struct parts *parts, bool chosen, const char *place, struct sft_row *row,
                                   cohort_error *err)
{
    static const char *const others[] = {"prompt", "completion", "messages", "weight",         "text",
                                         "labels", "input_ids",  "margin",   "completion_mask"};
    const json_t *part = chosen ? parts->chosen : parts->rejected, *prompt = parts->prompt;
    json_t *side = json_copy((json_t *)(uintptr_t)json), *all = NULL;
    struct text text = {0};
    char where[DATA_PLACE + 16];
    cohort_status status = COHORT_OK;
    snprintf(where, sizeof where, "%s, %s", place, chosen ? "chosen" : "rejected");
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        (void)json_object_del(side, others[i]);
    const char *key = "input_ids";
    if (!parts->ids && json_is_string(part) && !style->row.chat) {
        key = "text";
        if (prompt != NULL)
            TRY_GOTO(text_append(&text, json_string_value(prompt), json_string_length(prompt), err));
        TRY_GOTO(text_append(&text, json_string_value(part), json_string_length(part), err));
        all = json_stringn(text.data == NULL ? "" : text.data, text.length);
    } else if (!parts->ids) {
        key = "messages";
        all = json_is_string(part) ? json_pack("[{s:s, s:O?}, {s:s, s:O}]", "role", "user", "content", prompt, "role",
                                               "assistant", "content", part)
              : prompt != NULL     ? json_copy((json_t *)(uintptr_t)prompt)
                                   : json_copy((json_t *)(uintptr_t)part);
        if (all != NULL && json_is_array(part) && prompt != NULL &&
            json_array_extend(all, (json_t *)(uintptr_t)part) != 0) {
            json_decref(all);
            all = NULL;
        }
    } else {
        all = json_incref((json_t *)(uintptr_t)part);
    }
    if (side == NULL || json_object_set_new(side, key, all) != 0) {
        status = error_set(err, COHORT_ERR_MEMORY, "%s: cannot copy the row", place);
        goto cleanup;
    }
    TRY_GOTO(sft_row_make(session, style, side, where, row, err));
    if (row->ids.count == 0)
        status =
            error_set(err, COHORT_ERR_FORMAT, "%s: it is empty, and has no token whose score could be read", where);
cleanup:
    json_decref(side);
    text_free(&text);
    return status;
}

/* What both sequences begin with is their prompt, and computed once. */
static void share_prompt(struct sft_row *a, struct sft_row *b)
{
    const size_t n = a->ids.count < b->ids.count ? a->ids.count : b->ids.count;
    size_t same = 0;
    while (same < n && a->ids.ids[same] == b->ids.ids[same])
        same++;
    a->n_prompt = b->n_prompt = (int32_t)same;
}

static cohort_status make_sequences(const struct session *session, const struct sft_style *style, const json_t *json,
                                    const char *place, struct preference_row *row, cohort_error *err)
{
    struct parts parts = {0};
    cohort_status status = COHORT_OK;
    TRY_GOTO(find_sequences(json, place, style->row.chat, &parts, err));
    TRY_GOTO(make_sequence(session, style, json, &parts, true, place, &row->chosen, err));
    TRY_GOTO(make_sequence(session, style, json, &parts, false, place, &row->rejected, err));
    share_prompt(&row->chosen, &row->rejected);
cleanup:
    parts_free(&parts);
    return status;
}

static cohort_status make_pair(const struct session *session, const struct sft_style *style, const json_t *json,
                               const char *place, struct preference_row *row, cohort_error *err)
{
    struct parts parts = {0};
    cohort_status status = COHORT_OK;
    TRY_GOTO(find_parts(json, place, &parts, err));
    TRY_GOTO(make_side(session, style, json, &parts, true, place, &row->chosen, err));
    TRY_GOTO(make_side(session, style, json, &parts, false, place, &row->rejected, err));
    const struct sft_row *c = &row->chosen, *r = &row->rejected;
    if (c->n_prompt != r->n_prompt || memcmp(c->ids.ids, r->ids.ids, (size_t)c->n_prompt * sizeof *c->ids.ids) != 0)
        status = error_set(err, COHORT_ERR_FORMAT,
                           "%s: the chat template writes the prompt differently before \"chosen\" and before "
                           "\"rejected\": they have no common prompt",
                           place);
cleanup:
    parts_free(&parts);
    return status;
}

cohort_status preference_row_make(const struct session *session, const struct sft_style *style,
                                  enum preference_kind kind, const json_t *json, const char *place,
                                  struct preference_row *row, cohort_error *err)
{
    const json_t *margin = row_column(json, "margin");
    if (margin != NULL && (!json_is_number(margin) || !isfinite(json_number_value(margin))))
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s: \"margin\" is by how much the chosen completion is better: expected a number", place);
    row->margin = margin == NULL ? 0.0 : json_number_value(margin);
    return kind == PREFERENCE_SEQUENCES ? make_sequences(session, style, json, place, row, err)
                                        : make_pair(session, style, json, place, row, err);
}

static bool is_pair(const json_t *json) { return row_column(json, "chosen") != NULL; }

/* A single completion: with its label, or one side of a pair. */
static cohort_status make_single(const struct session *session, const struct sft_style *style, const json_t *json,
                                 bool rejected, const char *place, struct preference_row *row, cohort_error *err)
{
    struct parts parts = {0};
    const json_t *label = row_column(json, "label"), *prompt = row_column(json, "prompt"),
                 *completion = row_column(json, "completion");
    const bool number = json_is_integer(label) && (json_integer_value(label) == 0 || json_integer_value(label) == 1);
    row->margin = 0.0;
    row->wanted = is_pair(json) ? !rejected : json_is_true(label) || (number && json_integer_value(label) == 1);
    if (is_pair(json)) {
        cohort_status status = find_parts(json, place, &parts, err);
        if (status == COHORT_OK)
            status = make_side(session, style, json, &parts, !rejected, place, &row->chosen, err);
        parts_free(&parts);
        return status;
    }
    if (prompt == NULL || completion == NULL || label == NULL)
        return row_lacks(json, place, "\"prompt\", \"completion\" and \"label\", or \"chosen\" and \"rejected\"", err);
    if (!json_is_boolean(label) && !number)
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s: \"label\" says whether the completion is wanted: expected true or false", place);
    parts = (struct parts){.prompt = (json_t *)(uintptr_t)prompt, .chosen = (json_t *)(uintptr_t)completion};
    return make_side(session, style, json, &parts, true, place, &row->chosen, err);
}

/* half: with single, of a pair the rejected side. */
static cohort_status read_whole(struct preference_rows *rows, size_t i, bool half, struct preference_row *row,
                                bool *pair, cohort_error *err)
{
    char place[DATA_PLACE];
    json_t *json = NULL;
    TRY(dataset_row(&rows->data, i, &json, err));
    dataset_place(&rows->data, i, place);
    if (pair != NULL)
        *pair = is_pair(json);
    cohort_status status = rows->kind == PREFERENCE_SINGLES
                               ? make_single(rows->session, &rows->style, json, half, place, row, err)
                               : preference_row_make(rows->session, &rows->style, rows->kind, json, place, row, err);
    json_decref(json);
    return status;
}

cohort_status preference_rows_read(struct preference_rows *rows, size_t i, struct preference_row *row,
                                   cohort_error *err)
{
    const uint32_t kept = rows->kept[i];
    const bool single = rows->kind == PREFERENCE_SINGLES;
    TRY(read_whole(rows, single ? kept / 2 : kept, single && kept % 2 == 1, row, NULL, err));
    if (rows->kind == PREFERENCE_SEQUENCES) /* fits */
        return COHORT_OK;
    sft_row_cut(&row->chosen, &rows->style);
    if (!single)
        sft_row_cut(&row->rejected, &rows->style);
    return COHORT_OK;
}

/* ---- a set ---- */

/* Whether a side stays, after it was cut where it is too long. */
static bool keep_side(const struct preference_rows *rows, struct sft_row *side, bool *cut)
{
    if (rows->kind == PREFERENCE_SEQUENCES) {
        const bool fits = side->ids.count <= (size_t)rows->style.max_length;
        *cut = *cut || !fits;
        return fits;
    }
    sft_row_cut(side, &rows->style);
    *cut = *cut || side->n_whole > (int32_t)side->ids.count;
    return side->n_learned > 0;
}

size_t preference_rows_before(const struct preference_rows *rows, size_t i)
{
    for (size_t back = 1; back < rows->n; back++) {
        const size_t j = (i + rows->n - back) % rows->n;
        if (rows->kept[j] / 2 != rows->kept[i] / 2)
            return j;
    }
    return (i + rows->n - 1) % rows->n;
}

static void count_row(struct preference_rows *rows, uint32_t kept, struct preference_row *row, size_t part)
{
    struct sft_row *sides[2] = {&row->chosen, &row->rejected};
    const int n_sides = rows->kind == PREFERENCE_SINGLES ? 1 : 2;
    const int32_t pad = rows->session->model->config.pad_id;
    int64_t tokens = -(int64_t)row->chosen.n_prompt;
    bool cut = false, teaches = true;
    for (int k = 0; k < n_sides; k++) {
        teaches = keep_side(rows, sides[k], &cut) && teaches;
        tokens += (int64_t)sides[k]->ids.count;
    }
    rows->n_cut += cut;
    rows->n_dropped += !teaches;
    if (!teaches)
        return;
    rows->kept[rows->n++] = kept;
    rows->n_wanted += row->wanted;
    rows->parts[part].n_rows++;
    rows->conversations = rows->conversations || row->chosen.conversation;
    rows->margins = rows->margins || row->margin != 0.0;
    for (int k = 0; k < n_sides; k++) {
        const int32_t all = (int32_t)sides[k]->ids.count, prompt = sides[k]->n_prompt;
        rows->n_padded += pad >= 0 && sides[k]->ids.ids[all - 1] == pad;
        rows->longest = all > rows->longest ? all : rows->longest;
        rows->longest_prompt = prompt > rows->longest_prompt ? prompt : rows->longest_prompt;
        rows->longest_completion = all - prompt > rows->longest_completion ? all - prompt : rows->longest_completion;
    }
    rows->tokens = tokens > rows->tokens ? tokens : rows->tokens;
}

static cohort_status keep_rows(struct preference_rows *rows, struct preference_row *row, const struct options *options,
                               const cohort_observer *observer, cohort_error *err)
{
    size_t part = 0, end = rows->data.parts[0].n_rows;
    for (size_t i = 0; i < rows->data.n_rows; i++) {
        for (; i == end; end += rows->data.parts[part].n_rows)
            rows->parts[++part].first = rows->n;
        TRY(data_report(&rows->data, i, options, observer, err));
        bool pair = false;
        TRY(read_whole(rows, i, false, row, &pair, err));
        count_row(rows, (uint32_t)(rows->kind == PREFERENCE_SINGLES ? 2 * i : i), row, part);
        if (rows->kind == PREFERENCE_SINGLES && pair) {
            TRY(read_whole(rows, i, true, row, NULL, err));
            count_row(rows, (uint32_t)(2 * i + 1), row, part);
        }
    }
    for (size_t p = 0; p < rows->data.n_parts; p++)
        if (rows->parts[p].n_rows == 0 && rows->kind == PREFERENCE_SEQUENCES)
            return error_set(err, COHORT_ERR_ARGUMENT, "%s: no row%s has both of its sides within --max-length %d",
                             rows->data.path, rows->data.n_parts > 1 ? " of one of the files" : "",
                             (int)rows->style.max_length);
        else if (rows->parts[p].n_rows == 0)
            return error_set(err, COHORT_ERR_ARGUMENT,
                             "%s: no row%s has a prompt shorter than --max-length %d, which would leave something of "
                             "its completions",
                             rows->data.path, rows->data.n_parts > 1 ? " of one of the files" : "",
                             (int)rows->style.max_length);
    return COHORT_OK;
}

cohort_status preference_rows_load(struct preference_rows *rows, const struct session *session, enum option_id named,
                                   size_t limit, enum preference_kind kind, int32_t max_length,
                                   const struct options *options, const cohort_observer *observer, cohort_error *err)
{
    struct preference_row row = {0};
    memset(rows, 0, sizeof *rows);
    rows->session = session;
    rows->style = (struct sft_style){.row = row_style(options),
                                     .text_field = "text",
                                     .part = kind == PREFERENCE_SEQUENCES ? SFT_PART_ALL : SFT_PART_ONLY,
                                     .max_length = max_length};
    TRY(data_open(&rows->data, options, named, limit, true, observer, err));
    rows->kind = kind;
    if (rows->data.n_rows >= INT32_MAX)
        return error_set(err, COHORT_ERR_UNSUPPORTED, "%s: has %zu rows; at most %d", rows->data.path,
                         rows->data.n_rows, INT32_MAX - 1);
    TRY(mem_alloc(&rows->kept, (kind == PREFERENCE_SINGLES ? 2 : 1) * rows->data.n_rows, sizeof *rows->kept, "rows",
                  err));
    TRY(mem_alloc(&rows->parts, rows->data.n_parts, sizeof *rows->parts, "rows", err));
    for (size_t p = 0; p < rows->data.n_parts; p++)
        rows->parts[p].weight = rows->data.parts[p].weight;
    const cohort_status status = keep_rows(rows, &row, options, observer, err);
    preference_row_free(&row);
    return status;
}

void preference_rows_tell(const struct preference_rows *rows, const cohort_observer *observer)
{
    if (rows->n_cut > 0 && rows->kind == PREFERENCE_SEQUENCES)
        observer_message(observer, "%s: %zu rows have a side longer than --max-length %d and are left out",
                         rows->data.path, rows->n_dropped, (int)rows->style.max_length);
    else if (rows->n_cut > 0)
        observer_message(
            observer,
            "%s: %zu rows have a completion that is cut to --max-length %d at its end; %zu of them are left "
            "out because the prompt alone is that long",
            rows->data.path, rows->n_cut, (int)rows->style.max_length, rows->n_dropped);
}

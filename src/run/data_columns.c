#include "run/data_columns.h"

#include "base/json_text.h"
#include "base/number.h"

#include <string.h>

static bool is_absent(const json_t *value) { return value == NULL || json_is_null(value); }

static bool has(const json_t *row, const char *name) { return !is_absent(json_object_get(row, name)); }

static cohort_status no_memory(const char *place, cohort_error *err)
{
    return error_set(err, COHORT_ERR_MEMORY, "%s: cannot build the columns of the row", place);
}

/* Sets a column that the row has not. value is taken over; NULL: it could not be built. */
static cohort_status set_new(json_t *row, const char *name, json_t *value, const char *place, cohort_error *err)
{
    if (has(row, name)) {
        json_decref(value);
        return COHORT_OK;
    }
    return json_object_set_new(row, name, value) == 0 ? COHORT_OK : no_memory(place, err);
}

/* ---- --columns ---- */

cohort_status data_columns_parse(struct data_columns *columns, const char *const *items, size_t n, cohort_error *err)
{
    if (n > DATA_MOST_COLUMNS)
        return error_set(err, COHORT_ERR_ARGUMENT, "--columns: names %zu columns, at most %d are read", n,
                         DATA_MOST_COLUMNS);
    TRY(mem_alloc(&columns->items, n, sizeof *columns->items, "columns", err));
    for (size_t i = 0; i < n; i++) {
        const char *equals = strchr(items[i], '=');
        if (equals == NULL || equals == items[i] || equals[1] == '\0')
            return error_set(err, COHORT_ERR_ARGUMENT,
                             "--columns %.80s: expected CANONICAL=COLUMN, for example prompt=question", items[i]);
        struct data_rename *item = &columns->items[columns->n++];
        TRY(mem_strdup(&item->to, items[i], (size_t)(equals - items[i]), err));
        TRY(mem_strdup(&item->from, equals + 1, strlen(equals + 1), err));
        for (size_t k = 0; k < i; k++)
            if (strcmp(columns->items[k].to, item->to) == 0 && strcmp(columns->items[k].from, item->from) == 0)
                return error_set(err, COHORT_ERR_ARGUMENT, "--columns names '%.80s' twice", items[i]);
    }
    return COHORT_OK;
}

void data_columns_free(struct data_columns *columns)
{
    for (size_t i = 0; i < columns->n; i++) {
        mem_free(columns->items[i].to);
        mem_free(columns->items[i].from);
    }
    mem_free(columns->items);
    memset(columns, 0, sizeof *columns);
}

/* The value of a column; "a.b" is b within a, where no column is called so. */
static json_t *find_column(const json_t *row, const char *name)
{
    json_t *value = json_object_get(row, name);
    const char *dot = strchr(name, '.');
    if (value != NULL || dot == NULL)
        return value;
    value = json_object_getn(row, name, (size_t)(dot - name));
    return value == NULL ? NULL : find_column(value, dot + 1);
}

cohort_status data_columns_list(const json_t *row, struct text *out, cohort_error *err)
{
    enum { SHOWN = 12 };
    size_t n = 0;
    TRY(text_append(out, "", 0, err));
    for (void *at = json_object_iter((json_t *)(uintptr_t)row); at != NULL && n <= SHOWN;
         at = json_object_iter_next((json_t *)(uintptr_t)row, at), n++)
        TRY(text_printf(out, err, "%s%.40s%s", n == 0 ? "" : ", ", n == SHOWN ? "..." : json_object_iter_key(at),
                        n < SHOWN && json_is_null(json_object_iter_value(at)) ? " (null)" : ""));
    return n > 0 ? COHORT_OK : text_printf(out, err, "none");
}

static cohort_status missing(const json_t *row, const struct data_rename *item, const char *place, cohort_error *err)
{
    struct text names = {0};
    cohort_status status = COHORT_OK;
    TRY_GOTO(data_columns_list(row, &names, err));
    status = error_set(err, COHORT_ERR_FORMAT, "%s: no column \"%.80s\", which --columns names for %.80s; it has %s",
                       place, item->from, item->to, names.data);
cleanup:
    text_free(&names);
    return status;
}

static bool counts(uint64_t renames, size_t item) { return (renames >> item & 1) != 0; }

static bool maps_to(const struct data_columns *columns, uint64_t renames, const char *name)
{
    for (size_t i = 0; i < columns->n; i++)
        if (counts(renames, i) && strcmp(columns->items[i].to, name) == 0)
            return true;
    return false;
}

/* A row is read by one of these columns. Where --columns names one, the others are left out, so that a set that has
 * "messages" too is read as was asked. */
static const char *const ways[] = {"prompt", "messages", "text"};
enum { N_WAYS = sizeof ways / sizeof *ways };

static bool says_way(const struct data_columns *columns, uint64_t renames)
{
    for (size_t i = 0; i < N_WAYS; i++)
        if (maps_to(columns, renames, ways[i]))
            return true;
    return false;
}

static void leave_out_others(const struct data_columns *columns, uint64_t renames, json_t *row)
{
    const bool pair = maps_to(columns, renames, "completion"); /* goes with a prompt of the row's own */
    for (size_t i = 0; i < N_WAYS && (pair || says_way(columns, renames)); i++)
        if (!maps_to(columns, renames, ways[i]) && !(pair && strcmp(ways[i], "prompt") == 0))
            (void)json_object_del(row, ways[i]); /* fails where it is absent */
}

/* All are found before one is set: prompt=completion,completion=prompt swaps. */
static cohort_status rename_columns(const struct data_columns *columns, uint64_t renames, json_t *row,
                                    const char *place, cohort_error *err)
{
    json_t *found = renames == 0 ? NULL : json_array();
    cohort_status status = COHORT_OK;
    if (renames == 0)
        return COHORT_OK;
    if (found == NULL)
        return no_memory(place, err);
    for (size_t i = 0; i < columns->n; i++) {
        json_t *value = counts(renames, i) ? find_column(row, columns->items[i].from) : json_null();
        if (value == NULL)
            TRY_GOTO(missing(row, &columns->items[i], place, err));
        if (json_array_append(found, value) != 0)
            TRY_GOTO(no_memory(place, err));
    }
    for (size_t i = 0; i < columns->n; i++)
        if (counts(renames, i) && json_object_set(row, columns->items[i].to, json_array_get(found, i)) != 0)
            TRY_GOTO(no_memory(place, err));
    leave_out_others(columns, renames, row);
cleanup:
    json_decref(found);
    return status;
}

/* The items that count for a file: for each canonical column the first that its first row has, or the first of all where
 * it has none and no other file may have it, so that rows say what they lack. */
static uint64_t choose_renames(const struct data_columns *columns, const json_t *first)
{
    uint64_t chosen = 0;
    for (size_t i = 0; i < columns->n; i++)
        if (!maps_to(columns, chosen, columns->items[i].to) && find_column(first, columns->items[i].from) != NULL)
            chosen |= UINT64_C(1) << i;
    for (size_t i = 0; i < columns->n && !columns->several; i++)
        if (!maps_to(columns, chosen, columns->items[i].to))
            chosen |= UINT64_C(1) << i;
    return chosen;
}

cohort_status data_columns_check(const struct data_columns *columns, const char *set, cohort_error *err)
{
    for (size_t i = 0; i < columns->n; i++)
        if (!maps_to(columns, columns->found, columns->items[i].to))
            return error_set(err, COHORT_ERR_FORMAT,
                             "%s: no file has a column \"%.80s\", which --columns names for %.80s", set,
                             columns->items[i].from, columns->items[i].to);
    return COHORT_OK;
}

/* ---- forms ---- */

/* ShareGPT's messages. */
static bool has_turns(const json_t *list)
{
    const json_t *first = json_array_get(list, 0);
    return has(first, "from") && has(first, "value");
}

/* A turn of Capybara's: what was asked and what was said, in one. */
static bool is_exchange(const json_t *turn) { return has(turn, "input") && has(turn, "output"); }

static bool is_conversation(const json_t *list)
{
    const json_t *first = json_array_get(list, 0);
    return json_is_array(list) &&
           (json_array_size(list) == 0 || has_turns(list) || has(first, "role") || is_exchange(first));
}

static bool has_conversations(const json_t *row) { return is_conversation(json_object_get(row, "conversations")); }
static bool has_conversation(const json_t *row) { return is_conversation(json_object_get(row, "conversation")); }

static bool is_alpaca(const json_t *row) { return has(row, "instruction") && has(row, "output"); }
static bool is_dolly(const json_t *row) { return has(row, "instruction") && has(row, "response"); }
/* Where an answer stands beside a solution, it is the value that the solution comes to. */
static bool is_question(const json_t *row)
{
    return has(row, "question") && has(row, "answer") && !has(row, "solution");
}
static bool is_solved(const json_t *row) { return has(row, "question") && has(row, "solution"); }
static bool is_problem(const json_t *row) { return has(row, "problem") && has(row, "solution"); }
static bool is_unsolved(const json_t *row)
{
    return has(row, "problem") && has(row, "answer") && !has(row, "solution");
}

static cohort_status make_messages(json_t *row, const char *column, const char *place, cohort_error *err);
static cohort_status make_conversations(json_t *row, const char *place, cohort_error *err);
static cohort_status make_conversation(json_t *row, const char *place, cohort_error *err);
static cohort_status make_alpaca(json_t *row, const char *place, cohort_error *err);
static cohort_status make_dolly(json_t *row, const char *place, cohort_error *err);
static cohort_status make_question(json_t *row, const char *place, cohort_error *err);
static cohort_status make_solved(json_t *row, const char *place, cohort_error *err);
static cohort_status make_problem(json_t *row, const char *place, cohort_error *err);
static cohort_status make_unsolved(json_t *row, const char *place, cohort_error *err);

#define FINAL_VALUE "; of an answer that ends with '#### VALUE' rewards get VALUE"

static const struct {
    const char *columns, *note, *mapping;
    bool (*is)(const json_t *row);
    cohort_status (*make)(json_t *row, const char *place, cohort_error *err);
} forms[] = {
    [DATA_FORM_CONVERSATIONS] = {"\"conversations\"", "ShareGPT: they are the messages", "messages=conversations",
                                 has_conversations, make_conversations},
    [DATA_FORM_CONVERSATION] = {"\"conversation\"", "it is the messages", "messages=conversation", has_conversation,
                                make_conversation},
    [DATA_FORM_ALPACA] = {"\"instruction\" and \"output\"",
                          "Alpaca: instruction and input are the user's message, output is the completion",
                          "prompt=instruction,completion=output", is_alpaca, make_alpaca},
    [DATA_FORM_DOLLY] = {"\"instruction\" and \"response\"",
                         "Dolly: instruction and context are the user's message, response is the completion",
                         "prompt=instruction,completion=response", is_dolly, make_dolly},
    [DATA_FORM_QUESTION] = {"\"question\" and \"answer\"",
                            "the question is the user's message, the answer the completion" FINAL_VALUE,
                            "prompt=question,completion=answer", is_question, make_question},
    [DATA_FORM_SOLVED] = {"\"question\" and \"solution\"",
                          "the question is the user's message, the solution the completion",
                          "prompt=question,completion=solution", is_solved, make_solved},
    [DATA_FORM_PROBLEM] = {"\"problem\" and \"solution\"",
                           "the problem is the user's message, the solution the completion",
                           "prompt=problem,completion=solution", is_problem, make_problem},
    [DATA_FORM_UNSOLVED] = {"\"problem\" and \"answer\"",
                            "the problem is the user's message, the answer the completion" FINAL_VALUE,
                            "prompt=problem,completion=answer", is_unsolved, make_unsolved},
};
enum { N_FORMS = sizeof forms / sizeof *forms };

static bool is_canonical(const json_t *row)
{
    return has(row, "prompt") || has(row, "messages") || has(row, "text") || has(row, "prompt_tokens");
}

/* The form of a row that has its names from --columns. */
static cohort_status find_form(struct data_form *form, const json_t *row, const char *path, struct text *notes,
                               cohort_error *err)
{
    for (int kind = DATA_FORM_NONE + 1; kind < N_FORMS; kind++) {
        if (!forms[kind].is(row))
            continue;
        if (form->kind != DATA_FORM_NONE)
            return error_set(
                err, COHORT_ERR_ARGUMENT,
                "%s: the rows have %s, and also %s: say which is the prompt, with --columns %s or --columns "
                "%s",
                path, forms[form->kind].columns, forms[kind].columns, forms[form->kind].mapping, forms[kind].mapping);
        form->kind = (enum data_form_kind)kind;
    }
    if (form->kind == DATA_FORM_NONE)
        return COHORT_OK;
    return text_printf(notes, err, "note: %.300s: rows with %s (%s); --columns says otherwise, for example %s\n", path,
                       forms[form->kind].columns, forms[form->kind].note, forms[form->kind].mapping);
}

cohort_status data_form_find(struct data_form *form, struct data_columns *columns, const json_t *first,
                             const char *path, struct text *notes, cohort_error *err)
{
    form->kind = DATA_FORM_NONE;
    form->renames = choose_renames(columns, first);
    columns->found |= form->renames;
    if (!columns->recognise)
        return COHORT_OK;
    json_t *row = json_copy((json_t *)(uintptr_t)first);
    cohort_status status = row == NULL ? no_memory(path, err) : COHORT_OK;
    /* A column that is missing is told with the place of the row, when that is read. */
    const cohort_status renamed =
        status == COHORT_OK ? rename_columns(columns, form->renames, row, path, NULL) : status;
    if (status == COHORT_OK && renamed == COHORT_ERR_MEMORY)
        status = no_memory(path, err);
    if (renamed == COHORT_OK && !is_canonical(row) && !says_way(columns, form->renames))
        status = find_form(form, row, path, notes, err);
    json_decref(row);
    return status;
}

const char *data_form_columns(const struct data_form *form) { return forms[form->kind].columns; }

/* Messages that are the JSON text of a list: in CSV, and in tables whose maker wrote one. */
static cohort_status read_messages(json_t *row, const char *place, cohort_error *err)
{
    const json_t *text = json_object_get(row, "messages");
    json_t *list = NULL;
    cohort_error why = {0};
    if (!json_is_string(text))
        return COHORT_OK;
    cohort_status status =
        json_text_parse(&list, json_string_value(text), json_string_length(text), "messages", 1, 0, &why);
    if (status == COHORT_OK && !json_is_array(list)) {
        json_decref(list);
        status = error_set(&why, COHORT_ERR_FORMAT, "it is no list");
    }
    if (status == COHORT_ERR_MEMORY)
        return no_memory(place, err);
    if (status != COHORT_OK)
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s: \"messages\" is text: expected a list of messages, or the JSON text of one (%.300s)",
                         place, why.message);
    return json_object_set_new(row, "messages", list) == 0 ? COHORT_OK : no_memory(place, err);
}

cohort_status data_columns_apply(const struct data_columns *columns, const struct data_form *form, json_t *row,
                                 const char *place, cohort_error *err)
{
    TRY(rename_columns(columns, form->renames, row, place, err));
    if (columns->recognise)
        TRY(read_messages(row, place, err));
    if (columns->recognise && has_turns(json_object_get(row, "messages")))
        TRY(make_messages(row, "messages", place, err));
    if (form->kind == DATA_FORM_NONE || is_canonical(row) || !forms[form->kind].is(row))
        return COHORT_OK;
    return forms[form->kind].make(row, place, err);
}

/* ---- making them canonical ---- */

static json_t *message(const char *role, const json_t *content)
{
    return json_pack("{s:s, s:O}", "role", role, "content", content);
}

/* A column that must be text. */
static cohort_status text_column(const json_t *row, const char *name, const char *place, const json_t **out,
                                 cohort_error *err)
{
    *out = json_object_get(row, name);
    if (json_is_string(*out))
        return COHORT_OK;
    return error_set(err, COHORT_ERR_FORMAT, "%s: \"%s\": expected text", place, name);
}

static cohort_status append(json_t *list, json_t *value, const char *place, cohort_error *err)
{
    return json_array_append_new(list, value) == 0 ? COHORT_OK : no_memory(place, err);
}

/* The row's system message first, if it has one that says something. */
static cohort_status add_system(const json_t *row, json_t *messages, const char *place, cohort_error *err)
{
    const json_t *system = NULL;
    if (!has(row, "system"))
        return COHORT_OK;
    TRY(text_column(row, "system", place, &system, err));
    return json_string_length(system) == 0 ? COHORT_OK : append(messages, message("system", system), place, err);
}

/* The completion beside a prompt of messages: the row's own, if it has one, else said. One that is no text (a number, to
 * be compared with) makes none. */
static cohort_status set_completion(json_t *row, const json_t *said, const char *place, cohort_error *err)
{
    const json_t *own = json_object_get(row, "completion"), *value = is_absent(own) ? said : own;
    if (!json_is_string(value))
        return COHORT_OK;
    json_t *list = json_pack("[o]", message("assistant", value));
    return json_object_set_new(row, "completion", list) == 0 ? COHORT_OK : no_memory(place, err);
}

static cohort_status make_pair(json_t *row, const char *prompt, const char *completion, const char *place,
                               cohort_error *err)
{
    const json_t *asked = NULL, *said = json_object_get(row, completion);
    TRY(text_column(row, prompt, place, &asked, err));
    TRY(set_new(row, "prompt", json_pack("[o]", message("user", asked)), place, err));
    return set_completion(row, said, place, err);
}

static cohort_status make_problem(json_t *row, const char *place, cohort_error *err)
{
    return make_pair(row, "problem", "solution", place, err);
}

static cohort_status make_solved(json_t *row, const char *place, cohort_error *err)
{
    return make_pair(row, "question", "solution", place, err);
}

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

/* What stands behind the last "####", if that is in the last line: GSM8K's final value. NULL: there is none. */
static const char *final_value(const char *text, size_t length, size_t *n)
{
    while (length > 0 && is_blank(text[length - 1]))
        length--;
    for (size_t i = length; i-- > 0 && text[i] != '\n';)
        if (i + 4 <= length && memcmp(text + i, "####", 4) == 0) {
            const char *value = text + i + 4, *end = text + length;
            while (value < end && is_blank(*value))
                value++;
            *n = (size_t)(end - value);
            return *n == 0 ? NULL : value;
        }
    return NULL;
}

/* A pair whose completion is the answer, of which rewards get the final value where it ends with one. */
static cohort_status make_answered(json_t *row, const char *prompt, const char *place, cohort_error *err)
{
    TRY(make_pair(row, prompt, "answer", place, err));
    json_t *answer = json_object_get(row, "answer");
    size_t n = 0;
    const char *value =
        json_is_string(answer) ? final_value(json_string_value(answer), json_string_length(answer), &n) : NULL;
    if (value == NULL)
        return COHORT_OK;
    TRY(set_new(row, "solution", json_incref(answer), place, err));
    return json_object_set_new(row, "answer", json_stringn_nocheck(value, n)) == 0 ? COHORT_OK : no_memory(place, err);
}

static cohort_status make_question(json_t *row, const char *place, cohort_error *err)
{
    return make_answered(row, "question", place, err);
}

static cohort_status make_unsolved(json_t *row, const char *place, cohort_error *err)
{
    return make_answered(row, "problem", place, err);
}

/* [[question, answer], ...] of earlier turns. */
static cohort_status add_history(const json_t *row, json_t *messages, const char *place, cohort_error *err)
{
    const json_t *history = json_object_get(row, "history");
    for (size_t i = 0; i < json_array_size(history); i++) {
        const json_t *pair = json_array_get(history, i), *asked = json_array_get(pair, 0),
                     *said = json_array_get(pair, 1);
        if (!json_is_string(asked) || !json_is_string(said) || json_array_size(pair) != 2)
            return error_set(err, COHORT_ERR_FORMAT, "%s: \"history\"[%zu]: expected a question and an answer", place,
                             i);
        TRY(append(messages, message("user", asked), place, err));
        TRY(append(messages, message("assistant", said), place, err));
    }
    if (has(row, "history") && !json_is_array(history))
        return error_set(err, COHORT_ERR_FORMAT, "%s: \"history\": expected a list of questions and answers", place);
    return COHORT_OK;
}

/* more: the column that stands behind the instruction; answer: that of the completion. */
static cohort_status make_instruction(json_t *row, const char *more, const char *answer, const char *place,
                                      cohort_error *err)
{
    const json_t *instruction = NULL, *input = NULL, *output = NULL;
    struct text asked = {0};
    json_t *messages = json_array(), *content = NULL;
    cohort_status status = COHORT_OK;
    if (messages == NULL)
        TRY_GOTO(no_memory(place, err));
    TRY_GOTO(text_column(row, "instruction", place, &instruction, err));
    TRY_GOTO(text_column(row, answer, place, &output, err));
    TRY_GOTO(text_append(&asked, json_string_value(instruction), json_string_length(instruction), err));
    if (has(row, more)) {
        TRY_GOTO(text_column(row, more, place, &input, err));
        if (json_string_length(input) > 0) {
            TRY_GOTO(text_append(&asked, "\n\n", 2, err));
            TRY_GOTO(text_append(&asked, json_string_value(input), json_string_length(input), err));
        }
    }
    content = json_stringn_nocheck(asked.data, asked.length);
    if (content == NULL)
        TRY_GOTO(no_memory(place, err));
    TRY_GOTO(add_system(row, messages, place, err));
    TRY_GOTO(add_history(row, messages, place, err));
    TRY_GOTO(append(messages, message("user", content), place, err));
    TRY_GOTO(set_new(row, "prompt", json_incref(messages), place, err));
    status = set_completion(row, output, place, err);
cleanup:
    json_decref(content);
    json_decref(messages);
    text_free(&asked);
    return status;
}

static cohort_status make_alpaca(json_t *row, const char *place, cohort_error *err)
{
    return make_instruction(row, "input", "output", place, err);
}

static cohort_status make_dolly(json_t *row, const char *place, cohort_error *err)
{
    return make_instruction(row, "context", "response", place, err);
}

static const char *role_of(const char *from)
{
    static const struct {
        const char *from, *role;
    } roles[] = {{"human", "user"},          {"user", "user"},         {"prompter", "user"}, {"gpt", "assistant"},
                 {"assistant", "assistant"}, {"model", "assistant"},   {"bot", "assistant"}, {"chatgpt", "assistant"},
                 {"bing", "assistant"},      {"bard", "assistant"},    {"system", "system"}, {"tool", "tool"},
                 {"observation", "tool"},    {"tool_response", "tool"}};
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        if (ascii_same(from, roles[i].from))
            return roles[i].role;
    return NULL;
}

static cohort_status add_turn(const json_t *turn, size_t i, const char *column, json_t *messages, const char *place,
                              cohort_error *err)
{
    const json_t *from = json_object_get(turn, "from"), *value = json_object_get(turn, "value");
    if (has(turn, "role"))
        return append(messages, json_incref((json_t *)(uintptr_t)turn), place, err);
    if (is_exchange(turn)) {
        TRY(append(messages, message("user", json_object_get(turn, "input")), place, err));
        return append(messages, message("assistant", json_object_get(turn, "output")), place, err);
    }
    if (!json_is_string(from) || !json_is_string(value))
        return error_set(err, COHORT_ERR_FORMAT, "%s: \"%s\"[%zu]: expected {\"from\": ..., \"value\": ...}, both text",
                         place, column, i);
    const char *role = role_of(json_string_value(from));
    if (role == NULL)
        return error_set(
            err, COHORT_ERR_FORMAT,
            "%s: \"%s\"[%zu]: \"from\" is '%.40s', expected human or user, gpt or assistant, system, or tool", place,
            column, i, json_string_value(from));
    return append(messages, message(role, value), place, err);
}

static cohort_status make_messages(json_t *row, const char *column, const char *place, cohort_error *err)
{
    const json_t *list = json_object_get(row, column);
    json_t *messages = json_array();
    cohort_status status = COHORT_OK;
    if (messages == NULL)
        return no_memory(place, err);
    TRY_GOTO(add_system(row, messages, place, err));
    for (size_t i = 0; i < json_array_size(list); i++)
        TRY_GOTO(add_turn(json_array_get(list, i), i, column, messages, place, err));
    if (json_object_set(row, "messages", messages) != 0)
        status = no_memory(place, err);
cleanup:
    json_decref(messages);
    return status;
}

static cohort_status make_conversations(json_t *row, const char *place, cohort_error *err)
{
    return make_messages(row, "conversations", place, err);
}

static cohort_status make_conversation(json_t *row, const char *place, cohort_error *err)
{
    return make_messages(row, "conversation", place, err);
}

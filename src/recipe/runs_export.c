/* Completions and tables of a run, printed or written into files. */
#include "recipe/runs_view.h"

#include "base/file.h"
#include "base/number.h"
#include "run/event_file.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- completions ---- */

static cohort_status read_query(const struct options *o, cohort_completion_query *q, cohort_error *err)
{
    *q = store_all_completions;
    TRY(runs_steps(o, &q->first_step, &q->last_step, err));
    if (options_is_set(o, OPTION_SET)) {
        const char *set = options_string(o, OPTION_SET);
        q->set = strcmp(set, "all") == 0 ? NULL : strcmp(set, "train") == 0 ? "" : set;
    }
    q->reward_below = options_float_or(o, OPTION_REWARD_BELOW, (double)NAN);
    q->reward_above = options_float_or(o, OPTION_REWARD_ABOVE, (double)NAN);
    q->reward_name = options_string(o, OPTION_REWARD_NAME);
    q->finish_reason = options_string(o, OPTION_FINISH);
    q->search = options_string(o, OPTION_SEARCH);
    q->order = (cohort_completion_order)options_choice(o, OPTION_ORDER);
    q->limit = options_int_or(o, OPTION_LIMIT, 0);
    return COHORT_OK;
}

/* What a visit of rows writes to. */
struct rows_out {
    struct table_out table;
    const struct runs_view *view;
    bool whole;
    struct text text;
    cohort_status status;
    cohort_error *err;
};

static const struct parquet_column completion_columns[] = {
    {"step", PARQUET_INTEGER},       {"set", PARQUET_TEXT},         {"group", PARQUET_INTEGER},
    {"index", PARQUET_INTEGER},      {"row", PARQUET_INTEGER},      {"prompt", PARQUET_TEXT},
    {"completion", PARQUET_TEXT},    {"thinking", PARQUET_TEXT},    {"tool_calls", PARQUET_TEXT},
    {"finish_reason", PARQUET_TEXT}, {"tokens", PARQUET_INTEGER},   {"logprob", PARQUET_NUMBER},
    {"reward", PARQUET_NUMBER},      {"advantage", PARQUET_NUMBER}, {"rewards", PARQUET_TEXT},
    {"extra", PARQUET_TEXT}};
enum { COMPLETION_COLUMNS = sizeof completion_columns / sizeof *completion_columns };

static cohort_status write_rewards(const cohort_stored_completion *c, struct text *out, cohort_error *err)
{
    out->length = 0;
    TRY(text_append(out, "{", 1, err));
    for (size_t i = 0; i < c->n_rewards; i++) {
        char number[NUMBER_BYTES] = "null";
        if (isfinite(c->rewards[i].value))
            number_write_double(c->rewards[i].value, number);
        TRY(text_append(out, i == 0 ? "" : ", ", i == 0 ? 0 : 2, err));
        TRY(json_string_write(c->rewards[i].name, strlen(c->rewards[i].name), out, err));
        TRY(text_printf(out, err, ": %s", number));
    }
    return text_append(out, "}", 1, err);
}

static cohort_status completion_row(struct rows_out *rows, const cohort_stored_completion *c, cohort_error *err)
{
    struct table_out *out = &rows->table;
    TRY(write_rewards(c, &rows->text, err));
    TRY(table_integer(out, c->step, err));
    TRY(table_text(out, c->set, strlen(c->set), err));
    TRY(table_integer(out, c->group, err));
    TRY(table_integer(out, c->index, err));
    TRY(table_integer(out, c->row, err));
    TRY(table_text(out, c->prompt, c->prompt_length, err));
    TRY(table_text(out, c->text, c->text_length, err));
    TRY(table_text(out, c->thinking, c->thinking_length, err));
    TRY(table_json(out, c->tool_calls, c->tool_calls_length, err));
    TRY(table_text(out, c->finish_reason, strlen(c->finish_reason), err));
    TRY(table_integer(out, c->tokens, err));
    TRY(isnan(c->logprob) ? table_null(out, err) : table_number(out, c->logprob, err));
    TRY(isnan(c->reward) ? table_null(out, err) : table_number(out, c->reward, err));
    TRY(isnan(c->advantage) ? table_null(out, err) : table_number(out, c->advantage, err));
    TRY(table_json(out, rows->text.data, rows->text.length, err));
    TRY(table_json(out, c->extra, c->extra_length, err));
    return table_end_row(out, err);
}

/* A text for a person, indented, cut where it is long. */
static cohort_status show_text(struct rows_out *rows, const char *title, const char *bytes, size_t length)
{
    enum { SHOWN = 600 };
    struct text *out = &rows->text;
    size_t n = rows->whole || length <= SHOWN ? length : SHOWN;
    while (n > 0 && n < length && ((unsigned char)bytes[n] & 0xC0) == 0x80)
        n--; /* whole characters */
    TRY(text_printf(out, rows->err, "%s\n    ", title));
    for (size_t i = 0; i < n;) {
        size_t end = i;
        while (end < n && bytes[end] != '\n')
            end++;
        TRY(text_append_shown(out, bytes + i, end - i, rows->err));
        if (end < n)
            TRY(text_append(out, "\n    ", 5, rows->err));
        i = end + 1;
    }
    if (n < length)
        TRY(text_printf(out, rows->err, " ... %zu more bytes (--whole)", length - n));
    return text_append(out, "\n", 1, rows->err);
}

static cohort_status completion_page(struct rows_out *rows, const cohort_stored_completion *c, cohort_error *err)
{
    struct text *out = &rows->text;
    out->length = 0;
    TRY(text_printf(out, err, "step %lld  group %lld  completion %lld", (long long)c->step, (long long)c->group,
                    (long long)c->index));
    if (c->set[0] != '\0')
        TRY(text_printf(out, err, "  of evaluation set %s", c->set));
    TRY(isnan(c->reward) ? text_printf(out, err, "  unscorable") : text_printf(out, err, "  reward %.4g", c->reward));
    for (size_t i = 0; i < c->n_rewards; i++)
        TRY(text_printf(out, err, "%s%s %.4g", i == 0 ? " (" : ", ", c->rewards[i].name, c->rewards[i].value));
    TRY(text_printf(out, err, "%s", c->n_rewards > 0 ? ")" : ""));
    if (!isnan(c->advantage))
        TRY(text_printf(out, err, "  advantage %.4g", c->advantage));
    TRY(text_printf(out, err, "  %lld tokens  %s\n", (long long)c->tokens, c->finish_reason));
    TRY(show_text(rows, "  prompt", c->prompt, c->prompt_length));
    TRY(show_text(rows, "  completion", c->text, c->text_length));
    if (c->extra != NULL)
        TRY(show_text(rows, "  extra", c->extra, c->extra_length));
    TRY(text_append(out, "\n", 1, err));
    observer_output(rows->view->observer, out);
    return COHORT_OK;
}

static bool see_completion(void *context, const cohort_stored_completion *c)
{
    struct rows_out *rows = context;
    rows->status =
        rows->table.columns == NULL ? completion_page(rows, c, rows->err) : completion_row(rows, c, rows->err);
    return rows->status == COHORT_OK;
}

static void rows_close(struct rows_out *rows, struct store_reader *reader)
{
    store_reader_close(reader);
    table_close(&rows->table);
    text_free(&rows->text);
}

cohort_status runs_completions(const struct runs_view *view, const char *name, cohort_error *err)
{
    enum { USUAL = 20 };
    struct store_reader reader;
    cohort_completion_query q;
    struct rows_out rows = {.view = view, .err = err};
    enum table_form form;
    int64_t count = 0;
    cohort_status status = COHORT_OK;
    TRY(runs_form(view->options, "completions", &form, err));
    TRY(read_query(view->options, &q, err));
    rows.whole = options_bool(view->options, OPTION_WHOLE);
    TRY_GOTO(runs_open(view, name, &reader, err));
    if (form != TABLE_TABS)
        TRY_GOTO(table_open(&rows.table, form, completion_columns, COMPLETION_COLUMNS, NULL, view->observer, err));
    else if (!options_is_set(view->options, OPTION_LIMIT)) {
        q.limit = USUAL;
        TRY_GOTO(store_read_count(&reader, &q, &count, err));
    }
    TRY_GOTO(store_read_completions(&reader, &q, see_completion, &rows, err));
    status = rows.status;
    if (count > USUAL)
        observer_message(view->observer, "%lld completions, of which %d are shown: --limit N shows more, --limit 0 all",
                         (long long)count, USUAL);
cleanup:
    rows_close(&rows, &reader);
    return status;
}

/* ---- SQL ---- */

static cohort_status sql_row(struct rows_out *rows, const cohort_stored_row *row, cohort_error *err)
{
    struct table_out *out = &rows->table;
    double number = 0.0;
    int64_t integer = 0;
    for (size_t i = 0; i < row->n; i++) {
        if (row->values[i] == NULL)
            TRY(table_null(out, err));
        else if (row->kinds[i] == 'i' && number_read_integer(row->values[i], row->lengths[i], &integer))
            TRY(table_integer(out, integer, err));
        else if (row->kinds[i] == 'd' && number_read(row->values[i], row->lengths[i], &number))
            TRY(table_number(out, number, err));
        else
            TRY(table_text(out, row->values[i], row->lengths[i], err));
    }
    return table_end_row(out, err);
}

/* The first row says what the columns are. */
static bool see_row(void *context, const cohort_stored_row *row)
{
    struct rows_out *rows = context;
    struct parquet_column *columns = NULL;
    rows->status = COHORT_OK;
    if (rows->table.columns == NULL) {
        const enum table_form form = rows->table.form;
        rows->status = mem_alloc(&columns, row->n, sizeof *columns, "columns", rows->err);
        for (size_t i = 0; rows->status == COHORT_OK && i < row->n; i++)
            columns[i] = (struct parquet_column){row->names[i], PARQUET_TEXT};
        if (rows->status == COHORT_OK)
            rows->status = table_open(&rows->table, form, columns, row->n, NULL, rows->view->observer, rows->err);
    }
    if (rows->status == COHORT_OK)
        rows->status = sql_row(rows, row, rows->err);
    return rows->status == COHORT_OK;
}

cohort_status runs_sql(const struct runs_view *view, const char *name, const char *sql, cohort_error *err)
{
    struct store_reader reader;
    struct rows_out rows = {.view = view, .err = err};
    cohort_status status = COHORT_OK;
    TRY(runs_form(view->options, "sql", &rows.table.form, err));
    TRY_GOTO(runs_open(view, name, &reader, err));
    TRY_GOTO(store_read_sql(&reader, sql, options_stop(view->options), see_row, &rows, err));
    status = rows.status;
cleanup:;
    void *columns = NULL;
    memcpy(&columns, &rows.table.columns, sizeof columns);
    rows_close(&rows, &reader);
    mem_free(columns);
    return status;
}

/* ---- export ---- */

struct export
{
    struct table_out table;
    struct parquet_column *columns; /* of metrics: step, epoch, time, then a column for each name */
    struct text names;
    size_t *places, n, room, column_room;
    struct event_file events;
    cohort_status status;
    cohort_error *err;
};

static bool wanted_metric(const struct options *o, const char *name)
{
    const size_t n = options_list_count(o, OPTION_METRIC);
    for (size_t i = 0; i < n; i++)
        if (strcmp(options_list_item(o, OPTION_METRIC, i), name) == 0)
            return true;
    return n == 0;
}

struct name_visit {
    struct export *export;
    const struct options *options;
};

static bool add_name(void *context, const char *name)
{
    const struct name_visit *visit = context;
    struct export *x = visit->export;
    if (!wanted_metric(visit->options, name))
        return true;
    x->status = mem_grow(&x->places, &x->room, x->n + 1, sizeof *x->places, "metrics", x->err);
    if (x->status != COHORT_OK)
        return false;
    x->places[x->n++] = x->names.length;
    x->status = text_append(&x->names, name, strlen(name) + 1, x->err);
    return x->status == COHORT_OK;
}

static cohort_status step_row(struct export *x, const cohort_stored_step *step, cohort_error *err)
{
    struct table_out *out = &x->table;
    size_t next = 0;
    TRY(table_integer(out, step->step, err));
    TRY(isnan(step->epoch) ? table_absent(out, err) : table_number(out, step->epoch, err));
    TRY(step->time > 0.0 ? table_number(out, step->time, err) : table_absent(out, err));
    for (size_t i = 0; i < x->n; i++) { /* both lists are in one order */
        size_t at = next;
        while (at < step->n_metrics && strcmp(step->metrics[at].name, x->columns[i + 3].name) != 0)
            at++;
        if (at == step->n_metrics) {
            TRY(table_absent(out, err));
            continue;
        }
        TRY(table_number(out, step->metrics[at].value, err));
        next = at + 1;
    }
    return table_end_row(out, err);
}

static bool see_step(void *context, const cohort_stored_step *step)
{
    struct export *x = context;
    x->status = step_row(x, step, x->err);
    return x->status == COHORT_OK;
}

static bool see_step_event(void *context, const cohort_stored_step *step)
{
    struct export *x = context;
    x->status = event_file_scalars(&x->events, step->time, step->step, step->metrics, step->n_metrics, x->err);
    return x->status == COHORT_OK;
}

static cohort_status export_metrics(const struct runs_view *view, struct store_reader *reader, enum table_form form,
                                    cohort_error *err)
{
    struct export x = {.err = err};
    const struct name_visit visit = {&x, view->options};
    int64_t first = 0, last = 0;
    cohort_status status = COHORT_OK;
    TRY(runs_steps(view->options, &first, &last, err));
    void *context = NULL;
    const struct name_visit *pointer = &visit;
    memcpy(&context, &pointer, sizeof context);
    TRY_GOTO(store_read_names(reader, add_name, context, err));
    TRY_GOTO(x.status);
    for (size_t i = 0; i < options_list_count(view->options, OPTION_METRIC); i++) {
        const char *name = options_list_item(view->options, OPTION_METRIC, i);
        bool found = false;
        for (size_t k = 0; k < x.n && !found; k++)
            found = strcmp(x.names.data + x.places[k], name) == 0;
        if (!found) {
            status = error_set(err, COHORT_ERR_ARGUMENT, "--metric %s: the run has no metric of that name", name);
            goto cleanup;
        }
    }
    TRY_GOTO(mem_alloc(&x.columns, x.n + 3, sizeof *x.columns, "columns", err));
    x.columns[0] = (struct parquet_column){"step", PARQUET_INTEGER};
    x.columns[1] = (struct parquet_column){"epoch", PARQUET_NUMBER};
    x.columns[2] = (struct parquet_column){"time", PARQUET_NUMBER};
    for (size_t i = 0; i < x.n; i++)
        x.columns[i + 3] = (struct parquet_column){x.names.data + x.places[i], PARQUET_NUMBER};
    TRY_GOTO(
        table_open(&x.table, form, x.columns, x.n + 3, options_string(view->options, OPTION_OUT), view->observer, err));
    TRY_GOTO(store_read_steps(reader, first, last, see_step, &x, err));
    TRY_GOTO(x.status);
    status = table_finish(&x.table, err);
cleanup:
    table_close(&x.table);
    mem_free(x.columns);
    mem_free(x.places);
    text_free(&x.names);
    return status;
}

static cohort_status export_events(const struct runs_view *view, struct store_reader *reader, cohort_error *err)
{
    const char *out = options_string(view->options, OPTION_OUT);
    struct export x = {.err = err};
    int64_t first = 0, last = 0;
    cohort_status status = COHORT_OK;
    if (out == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "--format tensorboard writes files: pass --out DIR");
    TRY(runs_steps(view->options, &first, &last, err));
    TRY(file_make_dirs(out, err));
    TRY_GOTO(event_file_open(&x.events, out, store_time(), first, err));
    TRY_GOTO(store_read_steps(reader, first, last, see_step_event, &x, err));
    status = x.status;
cleanup:
    event_file_close(&x.events);
    return status;
}

static const struct parquet_column event_columns[] = {
    {"id", PARQUET_INTEGER}, {"step", PARQUET_INTEGER},  {"time", PARQUET_NUMBER}, {"kind", PARQUET_TEXT},
    {"rule", PARQUET_TEXT},  {"severity", PARQUET_TEXT}, {"text", PARQUET_TEXT},   {"json", PARQUET_TEXT}};

static cohort_status event_row(struct table_out *out, const cohort_stored_event *event, cohort_error *err)
{
    TRY(table_integer(out, event->id, err));
    TRY(table_integer(out, event->step, err));
    TRY(table_number(out, event->time, err));
    TRY(table_text(out, event->kind, strlen(event->kind), err));
    TRY(table_text(out, event->rule, strlen(event->rule), err));
    TRY(table_text(out, event->severity, strlen(event->severity), err));
    TRY(table_text(out, event->text, strlen(event->text), err));
    TRY(table_json(out, event->json, event->json == NULL ? 0 : strlen(event->json), err));
    return table_end_row(out, err);
}

static bool see_event(void *context, const cohort_stored_event *event)
{
    struct rows_out *rows = context;
    rows->status = event_row(&rows->table, event, rows->err);
    return rows->status == COHORT_OK;
}

/* Completions or events. */
static cohort_status export_rows(const struct runs_view *view, struct store_reader *reader, enum export_table table,
                                 enum table_form form, cohort_error *err)
{
    struct rows_out rows = {.view = view, .err = err};
    const bool events = table == EXPORT_EVENTS;
    const char *path = options_string(view->options, OPTION_OUT);
    cohort_completion_query q;
    cohort_status status = COHORT_OK;
    TRY(read_query(view->options, &q, err));
    TRY_GOTO(table_open(&rows.table, form, events ? event_columns : completion_columns,
                        events ? sizeof event_columns / sizeof *event_columns : COMPLETION_COLUMNS, path,
                        view->observer, err));
    TRY_GOTO(events ? store_read_events(reader, 0, NULL, see_event, &rows, err)
                    : store_read_completions(reader, &q, see_completion, &rows, err));
    TRY_GOTO(rows.status);
    status = table_finish(&rows.table, err);
cleanup:
    table_close(&rows.table);
    text_free(&rows.text);
    return status;
}

cohort_status runs_export(const struct runs_view *view, const char *name, cohort_error *err)
{
    static const enum table_form forms[] = {TABLE_JSONL, TABLE_JSONL, TABLE_CSV, TABLE_PARQUET, TABLE_JSONL};
    const int format = options_choice(view->options, OPTION_FORMAT),
              table = options_choice(view->options, OPTION_TABLE);
    struct store_reader reader;
    cohort_status status = COHORT_OK;
    if (format == EXPORT_TENSORBOARD && table != EXPORT_METRICS)
        return error_set(err, COHORT_ERR_ARGUMENT, "--format tensorboard has metrics alone: leave out --table");
    TRY_GOTO(runs_open(view, name, &reader, err));
    if (format == EXPORT_TENSORBOARD)
        status = export_events(view, &reader, err);
    else if (table == EXPORT_METRICS)
        status = export_metrics(view, &reader, forms[format], err);
    else
        status = export_rows(view, &reader, (enum export_table)table, forms[format], err);
cleanup:
    store_reader_close(&reader);
    return status;
}

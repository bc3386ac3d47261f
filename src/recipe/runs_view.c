#include "recipe/runs_view.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/number.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

cohort_status runs_find(const struct runs_view *view, const char *name, char **path, cohort_error *err)
{
    return runs_find_in(options_string(view->options, OPTION_RUNS), name, path, err);
}

cohort_status runs_find_in(const char *runs, const char *name, char **path, cohort_error *err)
{
    char *within = NULL, *file = NULL;
    bool there = false;
    cohort_status status = COHORT_OK;
    *path = NULL;
    TRY_GOTO(file_join(&file, name, store_file_name, err));
    TRY_GOTO(file_exists(file, &there, err));
    if (there) {
        TRY_GOTO(mem_strdup(path, name, strlen(name), err));
        goto cleanup;
    }
    mem_free(file);
    file = NULL;
    TRY_GOTO(file_join(&within, runs, name, err));
    TRY_GOTO(file_join(&file, within, store_file_name, err));
    TRY_GOTO(file_exists(file, &there, err));
    if (there) {
        *path = within;
        within = NULL;
    } else {
        status = error_set(err, COHORT_ERR_IO,
                           "%s: there is no run of that name: neither %s/%s nor %s is there ('cohort runs list' shows "
                           "those in %s; --runs DIR names another folder)",
                           name, name, store_file_name, file, runs);
    }
cleanup:
    mem_free(within);
    mem_free(file);
    return status;
}

cohort_status runs_open(const struct runs_view *view, const char *name, struct store_reader *reader, cohort_error *err)
{
    char *path = NULL;
    memset(reader, 0, sizeof *reader);
    TRY(runs_find(view, name, &path, err));
    cohort_status status = store_reader_open(reader, path, err);
    mem_free(path);
    return status;
}

cohort_status runs_steps(const struct options *options, int64_t *first, int64_t *last, cohort_error *err)
{
    const char *word = options_string(options, OPTION_STEP);
    *first = 0;
    *last = INT64_MAX;
    if (word == NULL)
        return COHORT_OK;
    const char *colon = strchr(word, ':');
    const size_t length = colon == NULL ? strlen(word) : (size_t)(colon - word);
    bool good = length > 0 ? number_read_integer(word, length, first) : colon != NULL && colon[1] != '\0';
    if (colon == NULL)
        *last = *first;
    else if (good && colon[1] != '\0')
        good = number_read_integer(colon + 1, strlen(colon + 1), last);
    return good ? COHORT_OK
                : error_set(err, COHORT_ERR_ARGUMENT,
                            "--step %s: expected a step or FIRST:LAST, as in 812 or 800:", word);
}

cohort_status runs_form(const struct options *options, const char *what, enum table_form *form, cohort_error *err)
{
    const int word = options_choice(options, OPTION_FORMAT);
    *form = word == EXPORT_JSONL ? TABLE_JSONL : word == EXPORT_CSV ? TABLE_CSV : TABLE_TABS;
    if (word <= EXPORT_CSV)
        return COHORT_OK;
    return error_set(err, COHORT_ERR_ARGUMENT, "--format %s is of 'cohort runs export'; %s has text, jsonl and csv",
                     options_choice_word(options, OPTION_FORMAT), what);
}

/* ---- list ---- */

static cohort_status text_or_null(struct table_out *out, const char *text, cohort_error *err)
{
    return table_text(out, text, text == NULL ? 0 : strlen(text), err);
}

static const struct parquet_column list_columns[] = {
    {"name", PARQUET_TEXT},     {"command", PARQUET_TEXT}, {"status", PARQUET_TEXT},  {"step", PARQUET_INTEGER},
    {"steps", PARQUET_INTEGER}, {"figure", PARQUET_TEXT},  {"value", PARQUET_NUMBER}, {"updated", PARQUET_TEXT},
    {"model", PARQUET_TEXT},    {"parent", PARQUET_TEXT},  {"path", PARQUET_TEXT},    {"message", PARQUET_TEXT}};
enum { LIST_COLUMNS = sizeof list_columns / sizeof *list_columns };

struct list {
    struct table_out out;
    cohort_status status;
    cohort_error *err;
};

/* The last value of a metric; NaN: none. */
static cohort_status last_value(struct store_reader *reader, const char *name, int64_t step, double *value,
                                cohort_error *err)
{
    int64_t *steps = NULL;
    double *values = NULL;
    size_t n = 0;
    cohort_status status = store_read_curve(reader, name, step > 0 ? step : 0, INT64_MAX, &steps, &values, &n, err);
    *value = n > 0 ? values[n - 1] : (double)NAN;
    mem_free(steps);
    mem_free(values);
    return status;
}

/* What a line of the list has of a run: reward or loss at its last step. */
struct list_figure {
    const char *name;
    double value; /* NaN: none */
};

/* A run whose figure cannot be read is an unreadable one, as those are that cannot be opened; why is its message. */
static cohort_status list_figure(struct list_figure *figure, cohort_stored_run *run, cohort_error *why,
                                 cohort_error *err)
{
    struct store_reader reader;
    *figure = (struct list_figure){(options_command(run->command) & FOR_GROUPS) != 0 ? "reward" : "loss", (double)NAN};
    if (run->step < 0)
        return COHORT_OK;
    cohort_status status = store_reader_open(&reader, run->path, why);
    if (status == COHORT_OK)
        status = last_value(&reader, figure->name, run->step, &figure->value, why);
    store_reader_close(&reader);
    if (status == COHORT_ERR_MEMORY)
        return error_set(err, status, "%s", why->message);
    if (status != COHORT_OK) {
        run->status = "unreadable";
        run->message = why->message;
    }
    return COHORT_OK;
}

static cohort_status list_row(struct list *list, const cohort_stored_run *run, const struct list_figure *figure,
                              cohort_error *err)
{
    struct table_out *out = &list->out;
    char updated[32];
    clock_text(run->updated, updated);
    TRY(text_or_null(out, run->name, err));
    TRY(text_or_null(out, run->command, err));
    TRY(text_or_null(out, run->status, err));
    TRY(run->step < 0 ? table_null(out, err) : table_integer(out, run->step, err));
    TRY(run->steps == 0 ? table_null(out, err) : table_integer(out, run->steps, err));
    TRY(text_or_null(out, run->command[0] == '\0' ? NULL : figure->name, err));
    TRY(isnan(figure->value) ? table_null(out, err) : table_number(out, figure->value, err));
    TRY(text_or_null(out, updated, err));
    TRY(text_or_null(out, run->model, err));
    TRY(text_or_null(out, run->parent[0] == '\0' ? NULL : run->parent, err));
    TRY(text_or_null(out, run->path, err));
    TRY(text_or_null(out, run->message[0] == '\0' ? NULL : run->message, err));
    return table_end_row(out, err);
}

/* A line of the table for people, in columns. */
static cohort_status list_line(struct list *list, const cohort_stored_run *run, const struct list_figure *figure,
                               cohort_error *err)
{
    struct text line = {0}, shown = {0};
    char updated[32], steps[48], value[48] = "";
    cohort_status status = COHORT_OK;
    clock_text(run->updated, updated);
    updated[16] = '\0'; /* to the minute */
    snprintf(steps, sizeof steps, "%lld", (long long)run->step);
    if (run->steps > 0)
        snprintf(steps, sizeof steps, "%lld/%lld", (long long)run->step, (long long)run->steps);
    if (!isnan(figure->value))
        number_format(value, sizeof value, "%s %.4g", figure->name, figure->value);
    TRY_GOTO(text_append_shown(&shown, run->name, strlen(run->name), err));
    TRY_GOTO(text_printf(&line, err, "%-24s  %-10s  %-4s  %11s  %-15s  %-16s  ", shown.data, run->status, run->command,
                         run->step < 0 ? "-" : steps, value, updated));
    TRY_GOTO(text_append_shown(&line, run->status[0] == 'u' ? run->message : run->model,
                               strlen(run->status[0] == 'u' ? run->message : run->model), err));
    TRY_GOTO(text_append(&line, "\n", 1, err));
    observer_output(list->out.observer, &line);
cleanup:
    text_free(&line);
    text_free(&shown);
    return status;
}

static bool list_run(void *context, const cohort_stored_run *run)
{
    struct list *list = context;
    cohort_stored_run shown = *run;
    struct list_figure figure;
    cohort_error why = {0};
    list->status = list_figure(&figure, &shown, &why, list->err);
    if (list->status == COHORT_OK)
        list->status = list->out.form == TABLE_TABS ? list_line(list, &shown, &figure, list->err)
                                                    : list_row(list, &shown, &figure, list->err);
    return list->status == COHORT_OK;
}

cohort_status runs_list(const struct runs_view *view, cohort_error *err)
{
    struct list list = {.err = err};
    struct text head = {0};
    enum table_form form;
    cohort_status status = COHORT_OK;
    TRY(runs_form(view->options, "list", &form, err));
    if (form == TABLE_TABS) {
        list.out = (struct table_out){.form = form, .observer = view->observer};
        TRY_GOTO(text_printf(&head, err, "%-24s  %-10s  %-4s  %11s  %-15s  %-16s  %s\n", "run", "status", "by", "step",
                             "last", "updated (UTC)", "model"));
        observer_output(view->observer, &head);
    } else {
        TRY_GOTO(table_open(&list.out, form, list_columns, LIST_COLUMNS, NULL, view->observer, err));
    }
    TRY_GOTO(store_read_list(options_string(view->options, OPTION_RUNS), list_run, &list, err));
    status = list.status;
cleanup:
    text_free(&head);
    table_close(&list.out);
    return status;
}

/* ---- show ---- */

/* Lines of a page for people. */
struct page {
    struct text text;
    cohort_status status;
    cohort_error *err;
    int n;
};

static cohort_status put(struct page *page, const char *key, const char *value)
{
    if (value == NULL || value[0] == '\0')
        return COHORT_OK;
    TRY(text_printf(&page->text, page->err, "%-12s ", key));
    TRY(text_append_shown(&page->text, value, strlen(value), page->err));
    return text_append(&page->text, "\n", 1, page->err);
}

static bool show_input(void *context, const cohort_stored_input *input)
{
    struct page *page = context;
    page->status = text_printf(&page->text, page->err, "%-12s %s  ", input->kind, input->sha256);
    if (page->status == COHORT_OK)
        page->status = text_append_shown(&page->text, input->path, strlen(input->path), page->err);
    if (page->status == COHORT_OK)
        page->status = text_append(&page->text, "\n", 1, page->err);
    return page->status == COHORT_OK;
}

static bool show_metrics(void *context, const cohort_stored_step *step)
{
    struct page *page = context;
    for (size_t i = 0; i < step->n_metrics && page->status == COHORT_OK; i++)
        page->status =
            text_printf(&page->text, page->err, "  %-44s %.6g\n", step->metrics[i].name, step->metrics[i].value);
    return page->status == COHORT_OK;
}

static bool show_event(void *context, const cohort_stored_event *event)
{
    struct page *page = context;
    char time[32];
    if (strcmp(event->kind, "checkpoint") == 0)
        return true;
    clock_text(event->time, time);
    page->status =
        text_printf(&page->text, page->err, "  %s  step %-6lld %-9s ", time, (long long)event->step, event->kind);
    if (page->status == COHORT_OK)
        page->status = text_append_shown(&page->text, event->text, strlen(event->text), page->err);
    if (page->status == COHORT_OK)
        page->status = text_append(&page->text, "\n", 1, page->err);
    page->n++;
    return page->status == COHORT_OK;
}

/* Whether a line of config.yaml says what the option is without being given. */
static bool is_default(const char *command, const char *line, size_t length)
{
    const size_t name = strcspn(line, ":\n");
    const struct option_spec *row = options_row(options_command(command), line, name);
    double a = 0.0, b = 0.0;
    if (row == NULL || row->fallback == NULL || name + 2 > length)
        return false;
    const char *value = line + name + 2;
    size_t n = length - name - 2;
    if (n >= 2 && value[0] == '"') {
        value++;
        n -= 2;
    }
    if (strlen(row->fallback) == n && memcmp(row->fallback, value, n) == 0)
        return true;
    return number_read(row->fallback, strlen(row->fallback), &a) && number_read(value, n, &b) && a == b;
}

/* The options that were given, or whose values are no defaults. */
static cohort_status show_config(struct page *page, const cohort_stored_run *run)
{
    for (const char *line = run->config; *line != '\0';) {
        const size_t length = strcspn(line, "\n");
        if (!is_default(run->command, line, length)) {
            TRY(text_append(&page->text, "  ", 2, page->err));
            TRY(text_append_shown(&page->text, line, length, page->err));
            TRY(text_append(&page->text, "\n", 1, page->err));
        }
        line += length + (line[length] == '\n');
    }
    return COHORT_OK;
}

static cohort_status show_run(struct page *page, const cohort_stored_run *run)
{
    char text[256], created[32], updated[32], ended[32];
    clock_text(run->created, created);
    clock_text(run->updated, updated);
    clock_text(run->ended, ended);
    TRY(put(page, "run", run->path));
    TRY(put(page, "status", run->status));
    TRY(put(page, "message", run->message));
    snprintf(text, sizeof text, "%s of ", run->command);
    TRY(text_printf(&page->text, page->err, "%-12s %s", "what", text));
    TRY(text_append_shown(&page->text, run->model, strlen(run->model), page->err));
    TRY(text_append(&page->text, "\n", 1, page->err));
    snprintf(text, sizeof text, run->steps > 0 ? "%lld of %lld" : "%lld", (long long)run->step, (long long)run->steps);
    TRY(put(page, "step", run->step < 0 ? "none yet" : text));
    snprintf(text, sizeof text, "%s UTC; last written %s%s%s", created, updated, ended[0] != '\0' ? "; ended " : "",
             ended);
    TRY(put(page, "started", text));
    if (run->starts > 1) {
        snprintf(text, sizeof text, "%lld times", (long long)run->starts);
        TRY(put(page, "starts", text));
    }
    if (run->parent[0] != '\0') {
        TRY(put(page, "forked from", run->parent));
        snprintf(text, sizeof text, "%lld", (long long)run->parent_step);
        TRY(put(page, "at step", text));
    }
    snprintf(text, sizeof text, "%s, cohort %s, SQLite %s, process %lld", run->host, run->version, run->sqlite,
             (long long)run->pid);
    TRY(put(page, "on", text));
    return put(page, "device", run->device);
}

cohort_status runs_show(const struct runs_view *view, const char *name, cohort_error *err)
{
    struct store_reader reader;
    struct page page = {.err = err};
    const cohort_stored_run *run = NULL;
    enum table_form form;
    cohort_status status = COHORT_OK;
    TRY(runs_form(view->options, "show", &form, err));
    TRY_GOTO(runs_open(view, name, &reader, err));
    if (form != TABLE_TABS) {
        struct list list = {.err = err};
        TRY_GOTO(table_open(&list.out, form, list_columns, LIST_COLUMNS, NULL, view->observer, err));
        status = store_read_list(reader.folder, list_run, &list, err);
        table_close(&list.out);
        status = status == COHORT_OK ? list.status : status;
        goto cleanup;
    }
    TRY_GOTO(store_read_run(&reader, &run, err));
    TRY_GOTO(show_run(&page, run));
    TRY_GOTO(text_append(&page.text, "\nreads, by SHA-256\n", 19, err));
    TRY_GOTO(store_read_inputs(&reader, show_input, &page, err));
    TRY_GOTO(page.status);
    if (run->step >= 0) {
        TRY_GOTO(text_printf(&page.text, err, "\nmetrics of step %lld\n", (long long)run->step));
        TRY_GOTO(store_read_steps(&reader, run->step, run->step, show_metrics, &page, err));
        TRY_GOTO(page.status);
    }
    TRY_GOTO(text_printf(&page.text, err, "\noptions that are not defaults (all: %s/config.yaml)\n", run->path));
    TRY_GOTO(show_config(&page, run));
    TRY_GOTO(text_append(&page.text, "\nevents, checkpoints apart\n", 27, err));
    TRY_GOTO(store_read_events(&reader, 0, NULL, show_event, &page, err));
    TRY_GOTO(page.status);
    observer_output(view->observer, &page.text);
cleanup:
    store_reader_close(&reader);
    text_free(&page.text);
    return status;
}

/* ---- compare ---- */

enum { MOST_COMPARED = 8 };

/* What is put beside each other: a key with a value for each run. */
struct side_by_side {
    struct text keys; /* each with a NUL */
    size_t *places;
    size_t n, room;
    struct text *cells; /* [n, runs] */
    size_t cell_room, runs, run;
    cohort_status status;
    cohort_error *err;
};

static cohort_status cell_of(struct side_by_side *table, const char *key, size_t length, struct text **cell)
{
    size_t row = 0;
    while (row < table->n && (strlen(table->keys.data + table->places[row]) != length ||
                              memcmp(table->keys.data + table->places[row], key, length) != 0))
        row++;
    if (row == table->n) {
        TRY(mem_grow(&table->places, &table->room, row + 1, sizeof *table->places, "comparison", table->err));
        TRY(mem_grow(&table->cells, &table->cell_room, (row + 1) * table->runs, sizeof *table->cells, "comparison",
                     table->err));
        table->places[row] = table->keys.length;
        TRY(text_append(&table->keys, key, length, table->err));
        TRY(text_append(&table->keys, "", 1, table->err));
        table->n++;
    }
    *cell = &table->cells[row * table->runs + table->run];
    return COHORT_OK;
}

static cohort_status add_config(struct side_by_side *table, const char *config)
{
    for (const char *line = config; *line != '\0';) {
        const size_t length = strcspn(line, "\n"), key = strcspn(line, ":\n");
        struct text *cell = NULL;
        TRY(cell_of(table, line, key, &cell));
        if (key + 2 <= length)
            TRY(text_append_shown(cell, line + key + 2, length - key - 2, table->err));
        line += length + (line[length] == '\n');
    }
    return COHORT_OK;
}

static bool add_input(void *context, const cohort_stored_input *input)
{
    struct side_by_side *table = context;
    struct text key = {0}, *cell = NULL;
    table->status = text_printf(&key, table->err, "%s (sha256)", input->kind);
    if (table->status == COHORT_OK)
        table->status = cell_of(table, key.data, key.length, &cell);
    if (table->status == COHORT_OK)
        table->status = text_printf(cell, table->err, "%s%.8s", cell->length > 0 ? " " : "", input->sha256);
    text_free(&key);
    return table->status == COHORT_OK;
}

static bool add_metrics(void *context, const cohort_stored_step *step)
{
    struct side_by_side *table = context;
    for (size_t i = 0; i < step->n_metrics && table->status == COHORT_OK; i++) {
        struct text *cell = NULL;
        table->status = cell_of(table, step->metrics[i].name, strlen(step->metrics[i].name), &cell);
        if (table->status == COHORT_OK)
            table->status = text_printf(cell, table->err, "%.6g", step->metrics[i].value);
    }
    return table->status == COHORT_OK;
}

static bool row_differs(const struct side_by_side *table, size_t row)
{
    const struct text *cells = table->cells + row * table->runs;
    for (size_t i = 1; i < table->runs; i++)
        if (cells[i].length != cells[0].length ||
            (cells[i].length > 0 && memcmp(cells[i].data, cells[0].data, cells[i].length) != 0))
            return true;
    return false;
}

static cohort_status write_rows(const struct side_by_side *table, const char *title, bool differing,
                                struct table_out *out, struct text *page, cohort_error *err)
{
    for (size_t row = 0; row < table->n; row++) {
        const char *key = table->keys.data + table->places[row];
        const struct text *cells = table->cells + row * table->runs;
        if (differing && !row_differs(table, row))
            continue;
        if (out->form == TABLE_TABS)
            TRY(text_printf(page, err, "%-36s", key));
        else {
            TRY(table_text(out, title, strlen(title), err));
            TRY(table_text(out, key, strlen(key), err));
        }
        for (size_t i = 0; i < table->runs; i++) {
            const char *value = cells[i].length > 0 ? cells[i].data : "-";
            if (out->form == TABLE_TABS)
                TRY(text_printf(page, err, "  %-18s", value));
            else
                TRY(table_text(out, cells[i].length > 0 ? value : NULL, cells[i].length, err));
        }
        TRY(out->form == TABLE_TABS ? text_append(page, "\n", 1, err) : table_end_row(out, err));
    }
    return COHORT_OK;
}

static void side_by_side_free(struct side_by_side *table)
{
    for (size_t i = 0; i < table->cell_room; i++)
        text_free(&table->cells[i]);
    mem_free(table->cells);
    mem_free(table->places);
    text_free(&table->keys);
}

static cohort_status add_run(const struct runs_view *view, const char *name, struct side_by_side *what,
                             struct side_by_side *options, struct side_by_side *metrics, cohort_error *err)
{
    struct store_reader reader;
    const cohort_stored_run *run = NULL;
    struct text *cell = NULL;
    cohort_status status = COHORT_OK;
    TRY_GOTO(runs_open(view, name, &reader, err));
    TRY_GOTO(store_read_run(&reader, &run, err));
    TRY_GOTO(cell_of(what, "status", 6, &cell));
    TRY_GOTO(text_append(cell, run->status, strlen(run->status), err));
    TRY_GOTO(cell_of(what, "step", 4, &cell));
    TRY_GOTO(text_printf(cell, err, "%lld", (long long)run->step));
    TRY_GOTO(add_config(options, run->config));
    TRY_GOTO(store_read_inputs(&reader, add_input, options, err));
    TRY_GOTO(options->status);
    TRY_GOTO(store_read_steps(&reader, run->step, run->step, add_metrics, metrics, err));
    status = metrics->status;
cleanup:
    store_reader_close(&reader);
    return status;
}

cohort_status runs_compare(const struct runs_view *view, const char *const *names, size_t n, cohort_error *err)
{
    struct side_by_side what = {.runs = n, .err = err}, options = {.runs = n, .err = err},
                        metrics = {.runs = n, .err = err};
    struct parquet_column columns[MOST_COMPARED + 2] = {{"part", PARQUET_TEXT}, {"name", PARQUET_TEXT}};
    struct table_out out = {0};
    struct text page = {0};
    enum table_form form;
    cohort_status status = COHORT_OK;
    TRY(runs_form(view->options, "compare", &form, err));
    if (n < 2 || n > MOST_COMPARED)
        return error_set(err, COHORT_ERR_ARGUMENT, "compare takes two to %d runs, as in 'cohort runs compare A B'",
                         MOST_COMPARED);
    for (size_t i = 0; i < n; i++) {
        what.run = options.run = metrics.run = i;
        columns[i + 2] = (struct parquet_column){names[i], PARQUET_TEXT};
        TRY_GOTO(add_run(view, names[i], &what, &options, &metrics, err));
    }
    if (form == TABLE_TABS) {
        out.form = form;
        TRY_GOTO(text_printf(&page, err, "%-36s", ""));
        for (size_t i = 0; i < n; i++) {
            TRY_GOTO(text_append(&page, "  ", 2, err));
            TRY_GOTO(text_printf(&page, err, "%-18s", names[i]));
        }
        TRY_GOTO(text_append(&page, "\n", 1, err));
    } else {
        TRY_GOTO(table_open(&out, form, columns, n + 2, NULL, view->observer, err));
    }
    TRY_GOTO(write_rows(&what, "run", false, &out, &page, err));
    if (form == TABLE_TABS)
        TRY_GOTO(text_append(&page, "\noptions and inputs that differ\n", 32, err));
    TRY_GOTO(write_rows(&options, "option", true, &out, &page, err));
    if (form == TABLE_TABS)
        TRY_GOTO(text_append(&page, "\nmetrics of each one's last step\n", 33, err));
    TRY_GOTO(write_rows(&metrics, "metric", false, &out, &page, err));
    if (form == TABLE_TABS)
        observer_output(view->observer, &page);
cleanup:
    side_by_side_free(&what);
    side_by_side_free(&options);
    side_by_side_free(&metrics);
    table_close(&out);
    text_free(&page);
    return status;
}

/* cohort score: rewards of given completions, without the model that wrote them. */
#include "command/command.h"
#include "base/json_text.h"
#include "recipe/data_open.h"
#include "recipe/json_rows.h"
#include "recipe/scoring.h"

#include <math.h>
#include <string.h>

static const char *column_text(const json_t *row, const char *key, size_t *length)
{
    const json_t *value = json_object_get(row, key);
    *length = json_string_length(value);
    return json_string_value(value); /* NULL where it is no text */
}

/* The completion's ids, or their number alone, where the row has them. "tokens" is what cohort generate prints; another
 * thing of that name is the row's own affair. *ids is the caller's to free. */
static cohort_status read_tokens(const json_t *json, const char *place, struct reward_row *row, int32_t **ids,
                                 cohort_error *err)
{
    const json_t *list = json_object_get(json, "completion_ids"), *printed = json_object_get(json, "tokens"),
                 *count = json_object_get(json, "completion_tokens");
    const bool given = list != NULL && !json_is_null(list);
    row->length = -1;
    if (given || json_is_integer(json_array_get(printed, 0))) {
        TRY(json_read_ids(json, given ? "completion_ids" : "tokens", place, INT32_MAX, ids, &row->n_tokens, err));
        row->tokens = *ids;
        row->length = row->n_tokens;
    }
    if (count == NULL || json_is_null(count))
        return COHORT_OK;
    if (!json_is_integer(count) || json_integer_value(count) < 0 || json_integer_value(count) > INT32_MAX)
        return error_set(
            err, COHORT_ERR_FORMAT,
            "%s: expected \"completion_tokens\", the number of tokens of the completion, as a whole number "
            "from 0 to %d",
            place, (int)INT32_MAX);
    if (row->length >= 0 && row->length != json_integer_value(count))
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s: \"completion_tokens\" is %lld, but the row has %d token ids; mend one or leave it out",
                         place, (long long)json_integer_value(count), (int)row->n_tokens);
    row->length = json_integer_value(count);
    return COHORT_OK;
}

/* The columns that rewards added to a row. */
static cohort_status write_extra(const struct reward_log *log, size_t row, struct text *text, cohort_error *err)
{
    const char *column = NULL;
    json_t *values = NULL;
    bool first = true;
    json_object_foreach(log->extra, column, values)
    {
        TRY(text_append(text, first ? ", \"extra\": {" : ", ", first ? 12 : 2, err));
        TRY(json_string_write(column, strlen(column), text, err));
        TRY(text_append(text, ": ", 2, err));
        if (row < json_array_size(values))
            TRY(json_text_write(json_array_get(values, row), JSON_ENCODE_ANY, text, err));
        else
            TRY(text_append(text, "null", 4, err));
        first = false;
    }
    return first ? COHORT_OK : text_append(text, "}", 1, err);
}

/* The metrics that rewards gave, for people. */
static void tell_metrics(struct scoring *scoring, struct reward_log *log, const cohort_observer *observer)
{
    struct metrics metrics = {0};
    scoring->log = *log; /* extra too: it is freed with it */
    *log = (struct reward_log){0};
    scoring_take_metrics(scoring, "", &metrics);
    for (size_t i = 0; i < metrics.count; i++)
        observer_message(observer, "metric %s: %.9g", metrics.items[i].name, metrics.items[i].value);
    metrics_free(&metrics);
}

static cohort_status print_scores(const struct reward_row *rows, size_t n_rows, const struct scoring *scoring,
                                  const double *rewards, double *const *lists, const struct reward_log *log,
                                  const cohort_observer *observer, cohort_error *err)
{
    struct text text = {0};
    cohort_status status = COHORT_OK;
    for (size_t i = 0; i < n_rows; i++) {
        double sum = 0.0;
        bool any = false;
        TRY_GOTO(text_printf(&text, err, "{\"index\": %zu, \"rewards\": {", i));
        for (int32_t f = 0; f < scoring->n; f++) {
            double value = rewards[i * (size_t)scoring->n + (size_t)f];
            TRY_GOTO(text_append(&text, ", ", f == 0 ? 0 : 2, err));
            TRY_GOTO(json_string_write(scoring->names[f], strlen(scoring->names[f]), &text, err));
            TRY_GOTO(isnan(value) ? text_printf(&text, err, ": null") : text_printf(&text, err, ": %.9g", value));
            sum += isnan(value) ? 0.0 : scoring->weights[f] * value;
            any = any || !isnan(value);
        }
        TRY_GOTO(any ? text_printf(&text, err, "}, \"reward\": %.9g", sum)
                     : text_printf(&text, err, "}, \"reward\": null"));
        TRY_GOTO(scoring_write_lists(scoring, lists + i * (size_t)scoring->n, rows[i].n_tokens, &text, err));
        TRY_GOTO(write_extra(log, i, &text, err));
        TRY_GOTO(text_append(&text, "}\n", 2, err));
    }
    observer_output(observer, &text);
cleanup:
    text_free(&text);
    return status;
}

/* Models that reward need a device. No sequence has more tokens than its row has bytes. */
static cohort_status open_models(struct scoring *scoring, struct backend **backend, const struct options *options,
                                 json_t *const *table, size_t n_rows, const cohort_observer *observer,
                                 cohort_error *err)
{
    struct text text = {0};
    size_t longest = 0, bytes = 0;
    cohort_status status = COHORT_OK;
    if (scoring->models.n == 0)
        return COHORT_OK;
    for (size_t i = 0; i < n_rows; i++) {
        text.length = 0;
        TRY_GOTO(json_text_write(table[i], 0, &text, err));
        longest = text.length > longest ? text.length : longest;
    }
    TRY_GOTO(session_backend(backend, options, err));
    TRY_GOTO(reward_models_open(&scoring->models, *backend, options, false, (int64_t)longest / 2 + 1, observer, err));
    TRY_GOTO(reward_models_own(&scoring->models, session_memory_limit(*backend, options), &bytes, err));
cleanup:
    text_free(&text);
    return status;
}

cohort_status command_score(struct options *options, const struct reward_list *extra, const cohort_observer *observer,
                            cohort_error *err)
{
    struct scoring scoring = {0};
    struct dataset data = {0};
    struct backend *backend = NULL; /* of models */
    struct reward_row *rows = NULL;
    json_t **table = NULL;                  /* [n_rows] what rows point into */
    int32_t **ids = NULL;                   /* the same; NULL where a row has none */
    double *rewards = NULL, **lists = NULL; /* [n_rows, scoring.n] */
    struct reward_log log = {0};
    const char *path = options_string(options, OPTION_DATA);
    cohort_status status = COHORT_OK;
    if (path == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "no rows given: pass --data FILE with {\"prompt\", \"completion\", ...} a line");
    TRY_GOTO(scoring_open(&scoring, options, extra, err));
    scoring.observer = observer;
    TRY_GOTO(data_open(&data, options, OPTION_DATA, 0, false, observer, err));
    TRY_GOTO(mem_alloc(&table, data.n_rows, sizeof(json_t *), "rows", err));
    TRY_GOTO(mem_alloc(&ids, data.n_rows, sizeof(int32_t *), "rows", err));
    TRY_GOTO(mem_alloc(&rows, data.n_rows, sizeof *rows, "rows", err));
    TRY_GOTO(mem_alloc(&rewards, data.n_rows * (size_t)scoring.n, sizeof *rewards, "rewards", err));
    TRY_GOTO(mem_alloc(&lists, data.n_rows * (size_t)scoring.n, sizeof(double *), "rewards", err));
    for (size_t i = 0; i < data.n_rows; i++) {
        TRY_GOTO(data_report(&data, i, options, observer, err));
        TRY_GOTO(dataset_row(&data, i, &table[i], err));
        const json_t *json = table[i];
        size_t completion_length = 0, prompt_length = 0, reason_length = 0;
        const char *completion = column_text(json, "completion", &completion_length),
                   *prompt = column_text(json, "prompt", &prompt_length),
                   *reason = column_text(json, "finish_reason", &reason_length);
        char place[DATA_PLACE];
        dataset_place(&data, i, place);
        if (completion == NULL) {
            status = error_set(err, COHORT_ERR_FORMAT, "%s: expected a text column \"completion\" to score", place);
            goto cleanup;
        }
        rows[i] = (struct reward_row){.data = json,
                                      .prompt = prompt == NULL ? "" : prompt,
                                      .completion = completion,
                                      .prompt_length = prompt_length,
                                      .completion_length = completion_length,
                                      .finish_reason = reason == NULL ? "eos" : reason,
                                      .prompt_index = (int64_t)i};
        TRY_GOTO(read_tokens(json, place, &rows[i], &ids[i], err));
    }
    TRY_GOTO(open_models(&scoring, &backend, options, table, data.n_rows, observer, err));
    TRY_GOTO(scoring_rows(&scoring, rows, data.n_rows, rewards, lists, &log, err));
    TRY_GOTO(print_scores(rows, data.n_rows, &scoring, rewards, lists, &log, observer, err));
    tell_metrics(&scoring, &log, observer);
cleanup:
    reward_log_free(&log);
    for (size_t i = 0; table != NULL && i < data.n_rows; i++)
        json_decref(table[i]);
    for (size_t i = 0; ids != NULL && i < data.n_rows; i++)
        mem_free(ids[i]);
    mem_free(ids);
    mem_free(table);
    mem_free(rows);
    reward_lists_clear(lists, data.n_rows * (size_t)scoring.n);
    mem_free(lists);
    mem_free(rewards);
    dataset_free(&data);
    scoring_close(&scoring);
    backend_destroy(backend);
    return status;
}

/* cohort score: rewards of given completions, without a model. */
#include "command/command.h"
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

static cohort_status print_scores(size_t n_rows, const struct scoring *scoring, const double *rewards,
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
        TRY_GOTO(any ? text_printf(&text, err, "}, \"reward\": %.9g}\n", sum)
                     : text_printf(&text, err, "}, \"reward\": null}\n"));
    }
    observer_output(observer, &text);
cleanup:
    text_free(&text);
    return status;
}

cohort_status command_score(struct options *options, const struct reward_list *extra, const cohort_observer *observer,
                            cohort_error *err)
{
    struct scoring scoring = {0};
    struct dataset data = {0};
    struct reward_row *rows = NULL;
    json_t **table = NULL; /* [n_rows] what rows point into */
    double *rewards = NULL;
    const char *path = options_string(options, OPTION_DATA);
    cohort_status status = COHORT_OK;
    if (path == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "no rows given: pass --data FILE with {\"prompt\", \"completion\", ...} a line");
    TRY_GOTO(scoring_open(&scoring, options, extra, err));
    scoring.observer = observer;
    TRY_GOTO(data_open(&data, options, OPTION_DATA, 0, false, observer, err));
    TRY_GOTO(mem_alloc(&table, data.n_rows, sizeof(json_t *), "rows", err));
    TRY_GOTO(mem_alloc(&rows, data.n_rows, sizeof *rows, "rows", err));
    TRY_GOTO(mem_alloc(&rewards, data.n_rows * (size_t)scoring.n, sizeof *rewards, "rewards", err));
    for (size_t i = 0; i < data.n_rows; i++) {
        TRY_GOTO(data_report(&data, i, options, observer, err));
        TRY_GOTO(dataset_row(&data, i, &table[i], err));
        const json_t *json = table[i];
        size_t completion_length = 0, prompt_length = 0, reason_length = 0;
        const char *completion = column_text(json, "completion", &completion_length),
                   *prompt = column_text(json, "prompt", &prompt_length),
                   *reason = column_text(json, "finish_reason", &reason_length);
        if (completion == NULL) {
            char place[DATA_PLACE];
            dataset_place(&data, i, place);
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
    }
    TRY_GOTO(scoring_rows(&scoring, rows, data.n_rows, rewards, err));
    TRY_GOTO(print_scores(data.n_rows, &scoring, rewards, observer, err));
cleanup:
    for (size_t i = 0; table != NULL && i < data.n_rows; i++)
        json_decref(table[i]);
    mem_free(table);
    mem_free(rows);
    mem_free(rewards);
    dataset_free(&data);
    scoring_close(&scoring);
    return status;
}

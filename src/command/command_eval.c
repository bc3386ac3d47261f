/* cohort eval: rewards of a model's completions on a data set. cohort score: rewards of given completions, no model. */
#include "backend/sampling.h"
#include "command/command.h"

#include "recipe/scoring.h"

#include "recipe/choices.h"
#include "recipe/end_of_text.h"
#include "recipe/json_rows.h"
#include "train/metrics.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

struct eval_progress {
    const cohort_observer *observer;
};

static bool report(void *context, const char *phase, int64_t done, int64_t total)
{
    const struct eval_progress *p = context;
    (void)phase;
    cohort_progress progress = {.phase = "evaluate", .done = done, .total = total, .unit = "tokens"};
    return observer_progress(p->observer, &progress);
}

static cohort_status print_metrics(const struct metrics *metrics, bool jsonl, const cohort_observer *observer,
                                   cohort_error *err)
{
    struct text text = {0};
    cohort_status status = COHORT_OK;
    if (jsonl)
        status = metrics_write(metrics, &text, err);
    else
        for (size_t i = 0; i < metrics->count && status == COHORT_OK; i++)
            status = text_printf(&text, err, "%-40s %.6g\n", metrics->items[i].name, metrics->items[i].value);
    if (status == COHORT_OK)
        observer_output(observer, &text);
    text_free(&text);
    return status;
}

cohort_status command_eval(struct options *options, const struct reward_list *extra, const cohort_observer *observer,
                           cohort_error *err)
{
    struct session session = {0};
    struct scoring scoring = {0};
    struct prompt_set set = {0};
    struct engine *engine = NULL;
    struct sampling_params sampling = {0};
    struct metrics metrics = {0};
    struct text samples = {0};
    const char **stops = NULL;
    const char *data = options_string(options, "data");
    int32_t n = (int32_t)options_int(options, "n"), C = (int32_t)options_int(options, "max_completion_length"),
            n_stops = 0;
    bool jsonl = choice_of(options, "format") == OUTPUT_JSONL;
    struct eval_progress progress = {.observer = observer};
    cohort_status status = COHORT_OK;
    if (data == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "no prompts given: pass --data FILE.jsonl");
    TRY_GOTO(scoring_open(&scoring, options, extra, err));
    scoring.observer = observer;
    TRY_GOTO(session_open(&session, options, NULL, SESSION_TOKENIZER, observer, err));
    end_of_text_note(&session, observer);
    TRY_GOTO(session_sampling(&session, options, &sampling, err));
    TRY_GOTO(session_stops(options, &stops, &n_stops, err));
    size_t limit = options_is_set(options, "eval_limit") ? (size_t)options_int(options, "eval_limit") : 0;
    int32_t room = session.model->max_context - 1;
    if (options_is_set(options, "max_prompt_length") && options_int(options, "max_prompt_length") < room)
        room = (int32_t)options_int(options, "max_prompt_length");
    TRY_GOTO(prompt_set_load(&set, &session, data, limit, room, options, err));
    if (set.data.n_rows > (size_t)(INT32_MAX / n)) {
        status = error_set(err, COHORT_ERR_ARGUMENT,
                           "--n %d for %zu prompts: at most %d completions in all; lower --n or --eval-limit", (int)n,
                           set.data.n_rows, INT32_MAX);
        goto cleanup;
    }
    struct rollout_need need = {.sequences = (int32_t)options_int(options, "decode_concurrency")};
    prompt_set_need(&set, session.model->max_context, C, n, &need);
    need.history = rollout_history(&sampling, need.context);
    TRY_GOTO(session_engine(&session, options, &need, &engine, err));
    struct evaluation evaluation = {.session = &session,
                                    .engine = engine,
                                    .scoring = &scoring,
                                    .set = &set,
                                    .pattern = {.sampling = sampling,
                                                .seed = (uint64_t)options_int(options, "seed"),
                                                .max_tokens = C,
                                                .eos_ids = session.model->config.eos_ids,
                                                .n_eos = session.model->config.n_eos,
                                                .stop = stops,
                                                .n_stop = n_stops,
                                                .n_choosable = tokenizer_size(session.tokenizer)},
                                    .n = n,
                                    .progress = report,
                                    .progress_context = &progress};
    TRY_GOTO(evaluate(&evaluation, &metrics, jsonl ? &samples : NULL, err));
    observer_output(observer, &samples);
    TRY_GOTO(print_metrics(&metrics, jsonl, observer, err));
cleanup:
    text_free(&samples);
    metrics_free(&metrics);
    engine_destroy(engine);
    mem_free(stops);
    session_sampling_free(&sampling);
    prompt_set_free(&set);
    scoring_close(&scoring);
    session_close(&session);
    return status;
}

static const char *column_text(const json_t *row, const char *key, size_t *length)
{
    const json_t *value = json_object_get(row, key);
    *length = json_string_length(value);
    return json_string_value(value); /* NULL where it is no text */
}

static cohort_status print_scores(const struct dataset *data, const struct scoring *scoring, const double *rewards,
                                  const cohort_observer *observer, cohort_error *err)
{
    struct text text = {0};
    cohort_status status = COHORT_OK;
    for (size_t i = 0; i < data->n_rows; i++) {
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
    double *rewards = NULL;
    const char *path = options_string(options, "data");
    cohort_status status = COHORT_OK;
    if (path == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "no rows given: pass --data FILE.jsonl with {\"prompt\", \"completion\", ...} a line");
    TRY_GOTO(scoring_open(&scoring, options, extra, err));
    scoring.observer = observer;
    TRY_GOTO(dataset_load(&data, path, err));
    TRY_GOTO(mem_alloc(&rows, data.n_rows, sizeof *rows, "rows", err));
    TRY_GOTO(mem_alloc(&rewards, data.n_rows * (size_t)scoring.n, sizeof *rewards, "rewards", err));
    for (size_t i = 0; i < data.n_rows; i++) {
        const json_t *json = data.rows[i].json;
        size_t completion_length = 0, prompt_length = 0, reason_length = 0;
        const char *completion = column_text(json, "completion", &completion_length),
                   *prompt = column_text(json, "prompt", &prompt_length),
                   *reason = column_text(json, "finish_reason", &reason_length);
        if (completion == NULL) {
            status = error_set(err, COHORT_ERR_FORMAT, "%s:%lld: expected a text column \"completion\" to score",
                               data.path, (long long)data.rows[i].line);
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
    TRY_GOTO(print_scores(&data, &scoring, rewards, observer, err));
cleanup:
    mem_free(rows);
    mem_free(rewards);
    dataset_free(&data);
    scoring_close(&scoring);
    return status;
}

/* cohort eval: rewards of a model's completions on a data set. */
#include "backend/sampling.h"
#include "command/command.h"

#include "recipe/evaluation.h"

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
    struct engine_request pattern = {0};
    struct metrics metrics = {0};
    struct text samples = {0};
    const char *data = options_string(options, OPTION_DATA);
    const int32_t n = (int32_t)options_int(options, OPTION_N);
    bool jsonl = json_rows_asked(options);
    struct eval_progress progress = {.observer = observer};
    cohort_status status = COHORT_OK;
    if (data == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "no prompts given: pass --data FILE");
    TRY_GOTO(scoring_open(&scoring, options, extra, err));
    scoring.observer = observer;
    TRY_GOTO(session_open(&session, options, NULL, SESSION_TOKENIZER, observer, err));
    end_of_text_note(&session, observer);
    TRY_GOTO(session_request(&session, options, &pattern, err));
    size_t limit = (size_t)options_int_or(options, OPTION_EVAL_LIMIT, 0);
    int32_t room = session.model->max_context - 1;
    const int64_t asked = options_int_or(options, OPTION_MAX_PROMPT_LENGTH, room);
    room = asked < room ? (int32_t)asked : room;
    TRY_GOTO(prompt_set_load(&set, &session, &scoring, OPTION_DATA, limit, room, options, observer, err));
    if (set.data.n_rows > (size_t)(INT32_MAX / n)) {
        status = error_set(err, COHORT_ERR_ARGUMENT,
                           "--n %d for %zu prompts: at most %d completions in all; lower --n or --eval-limit", (int)n,
                           set.data.n_rows, INT32_MAX);
        goto cleanup;
    }
    struct rollout_need need = {.sequences = (int32_t)options_int(options, OPTION_DECODE_CONCURRENCY)};
    prompt_set_need(&set, session.model->max_context, pattern.max_tokens, n, &need);
    need.history = rollout_history(&pattern.sampling, need.context);
    TRY_GOTO(session_engine(&session, options, &need, &engine, err));
    struct evaluation evaluation = {.engine = engine,
                                    .scoring = &scoring,
                                    .set = &set,
                                    .pattern = pattern,
                                    .n = n,
                                    .progress = report,
                                    .progress_context = &progress};
    TRY_GOTO(evaluation_run(&evaluation, &metrics, jsonl ? &samples : NULL, err));
    observer_output(observer, &samples);
    TRY_GOTO(print_metrics(&metrics, jsonl, observer, err));
cleanup:
    text_free(&samples);
    metrics_free(&metrics);
    engine_destroy(engine);
    session_request_free(&pattern);
    prompt_set_free(&set);
    scoring_close(&scoring);
    session_close(&session);
    return status;
}

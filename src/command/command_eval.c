/* cohort eval: rewards of a model's completions on a data set. */
#include "backend/sampling.h"
#include "command/command.h"

#include "recipe/episodes.h"
#include "recipe/evaluation.h"

#include "recipe/choices.h"
#include "recipe/end_of_text.h"
#include "recipe/generation_file.h"
#include "recipe/json_rows.h"
#include "recipe/rank_inputs.h"
#include "train/metrics.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

struct eval_progress {
    const cohort_observer *observer;
};

static bool report(void *context, const struct grpo_at *at)
{
    const struct eval_progress *p = context;
    cohort_progress progress = {.phase = "evaluate",
                                .done = at->done,
                                .total = at->total,
                                .unit = "tokens",
                                .ended = at->ended,
                                .begun = at->begun};
    return observer_progress(p->observer, &progress);
}

/* Options used: data, eval_limit, data_limit, max_prompt_length. */
static cohort_status load_sets(struct evaluation_sets *sets, const struct session *session,
                               const struct scoring *scoring, int32_t n, const struct options *options,
                               const cohort_observer *observer, cohort_error *err)
{
    const int64_t limit = options_int_or(options, OPTION_EVAL_LIMIT, 0),
                  most = options_int_or(options, OPTION_DATA_LIMIT, 0), room = session->model->max_context - 1,
                  asked = options_int_or(options, OPTION_MAX_PROMPT_LENGTH, room);
    const struct evaluation_load load = {.spec = options_string(options, OPTION_DATA),
                                         .session = session,
                                         .scoring = scoring,
                                         .options = options,
                                         .observer = observer,
                                         .limit = (size_t)(limit == 0 || (most > 0 && most < limit) ? most : limit),
                                         .max_tokens = (int32_t)(asked < room ? asked : room),
                                         .n = n};
    return evaluation_sets_load(sets, &load, err);
}

/* Whether all ranks evaluate the same model on the same data. */
static cohort_status compare(const struct evaluation_sets *sets, const struct session *session,
                             const struct options *options, cohort_error *err)
{
    struct run_inputs inputs = {0};
    cohort_status status = COHORT_OK;
    for (size_t i = 0; i < sets->n && status == COHORT_OK; i++)
        status = run_inputs_add(&inputs, INPUT_DATA, sets->items[i].spec, sets->items[i].prompts.data.sha256, err);
    if (status == COHORT_OK)
        return rank_inputs_compare_session(options_ranks(options), options, session, &inputs, err);
    run_inputs_free(&inputs);
    return status;
}

/* Lines of JSON, or the table and behind it the samples. */
static cohort_status print(const struct evaluation_sets *sets, const struct metrics *metrics, bool jsonl,
                           const struct text *rows, const cohort_observer *observer, cohort_error *err)
{
    struct text text = {0};
    cohort_status status = jsonl ? metrics_write(metrics, &text, err) : evaluation_table(sets, metrics, &text, err);
    if (status == COHORT_OK && jsonl)
        observer_output(observer, rows);
    if (status == COHORT_OK)
        observer_output(observer, &text);
    if (status == COHORT_OK && !jsonl)
        observer_output(observer, rows);
    text_free(&text);
    return status;
}

cohort_status command_eval(struct options *options, const struct reward_list *extra, const cohort_observer *observer,
                           cohort_error *err)
{
    struct session session = {0};
    struct scoring scoring = {0};
    struct row_guides guides = {0};
    struct episodes episodes = {0};
    struct evaluation_sets sets = {0};
    struct evaluation_judge judge = {0};
    struct engine *engine = NULL;
    struct engine_request pattern = {0};
    struct metrics metrics = {0};
    struct text rows = {0}; /* lines of JSON, or samples */
    const int32_t n = (int32_t)options_int(options, OPTION_N);
    const bool jsonl = json_rows_asked(options);
    const size_t n_shown = (size_t)options_int(options, OPTION_SAMPLES);
    struct eval_progress progress = {.observer = observer};
    struct ranks *ranks = options_ranks(options);
    cohort_status status = COHORT_OK;
    if (options_string(options, OPTION_DATA) == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "no prompts given: pass --data FILE");
    ranks_set_timeout(ranks, options_float(options, OPTION_RANK_TIMEOUT));
    TRY_GOTO(session_open(&session, options, NULL, SESSION_TOKENIZER | rank_inputs_need(options), observer, err));
    if (options_bool(options, OPTION_CHOICES)) {
        status = choices_run(&session, options, observer, err);
        goto cleanup;
    }
    TRY_GOTO(
        episodes_open(&episodes, &session, options, extra == NULL ? NULL : extra->environment, observer, NULL, err));
    TRY_GOTO(episodes_scoring(&episodes, &scoring, options, extra, err));
    scoring.observer = observer;
    scoring.ranks = ranks;
    TRY_GOTO(evaluation_judge_open(&judge, &scoring, n, options, err));
    end_of_text_note(&session, observer);
    TRY_GOTO(generation_file_note(&session, options, "eval", observer, err));
    TRY_GOTO(session_request(&session, options, &pattern, err));
    TRY_GOTO(row_guides_open(&guides, &session, options, observer, false, err));
    TRY_GOTO(load_sets(&sets, &session, &scoring, n, options, observer, err));
    TRY_GOTO(compare(&sets, &session, options, err));
    TRY_GOTO(row_tell_template(&session, false, observer, err));
    struct rollout_need need = {.sequences = (int32_t)options_int(options, OPTION_DECODE_CONCURRENCY),
                                .draft_tokens = session_drafts(&session, options)};
    for (size_t i = 0; i < sets.n; i++)
        prompt_set_need(&sets.items[i].prompts, session.model->max_context, pattern.max_tokens, n, &need);
    need.turns = episodes.environment != NULL;
    need.history = rollout_history(&pattern.sampling, need.context);
    if (guides.on && need.history < 0)
        need.history = 0;
    TRY_GOTO(reward_models_open(&scoring.models, session.backend, options, true, need.context, observer, err));
    TRY_GOTO(reward_models_own(&scoring.models, session_room(&session, options), &session.beside, err));
    TRY_GOTO(session_engine(&session, options, &need, &engine, err));
    struct evaluation evaluation = {.engine = engine,
                                    .ranks = ranks,
                                    .scoring = &scoring,
                                    .sets = &sets,
                                    .judge = &judge,
                                    .guides = &guides,
                                    .pattern = pattern,
                                    .n = n,
                                    .episodes = &episodes,
                                    .stop = options_stop(options),
                                    .progress = report,
                                    .progress_context = &progress};
    const struct evaluation_out out = {.rows = jsonl ? &rows : NULL, .shown = jsonl ? NULL : &rows, .n_shown = n_shown};
    TRY_GOTO(evaluation_run(&evaluation, &metrics, &out, err));
    TRY_GOTO(ranks_agree(ranks, print(&sets, &metrics, jsonl, &rows, observer, err), err, err));
cleanup:
    text_free(&rows);
    metrics_free(&metrics);
    engine_destroy(engine);
    row_guides_close(&guides);
    session_request_free(&pattern);
    evaluation_judge_close(&judge);
    evaluation_sets_free(&sets);
    scoring_close(&scoring);
    episodes_close(&episodes);
    session_close(&session);
    return status;
}

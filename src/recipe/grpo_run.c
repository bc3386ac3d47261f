#include "recipe/grpo_run.h"

#include "base/clock.h"
#include "base/json_text.h"
#include "recipe/evaluation.h"
#include "recipe/generation_file.h"
#include "recipe/record.h"
#include "recipe/run_identity.h"
#include "train/batch_file.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static cohort_status score_batch(void *context, const struct completion *completions, int32_t n, double *rewards,
                                 double **lists, cohort_error *err)
{
    struct grpo_run *run = context;
    int32_t group = run->grpo.config.group;
    const struct prompt_batch batch = live_batch_prompts(run->scored);
    return scoring_completions(&run->scoring, &batch, n / group, group, completions, rewards, lists, err);
}

static cohort_status begin_rewards(void *context, int32_t prompt, const struct completion *group, cohort_error *err)
{
    struct grpo_run *run = context;
    const struct prompt_batch batch = live_batch_prompts(run->scored);
    return scoring_begin(&run->scoring, &batch, (size_t)prompt, run->grpo.config.group, group, err);
}

static bool report(void *context, const struct grpo_at *at)
{
    struct grpo_run *run = context;
    const double now = clock_seconds();
    if (run->phase != at->phase) {
        run->phase = at->phase;
        run->phase_start = now;
    }
    const double seconds = now - run->phase_start;
    return training_progress(&run->t, &(cohort_progress){.phase = at->phase,
                                                         .done = at->done,
                                                         .total = at->total,
                                                         .unit = strcmp(at->phase, "train") == 0    ? "micro-batches"
                                                                 : strcmp(at->phase, "reward") == 0 ? "rows"
                                                                                                    : "tokens",
                                                         .per_second = seconds > 0.0 ? (double)at->done / seconds : 0.0,
                                                         .ended = at->ended,
                                                         .begun = at->begun});
}

static bool report_evaluation(void *context, const struct grpo_at *at)
{
    struct grpo_at evaluates = *at;
    evaluates.phase = "evaluate";
    return report(context, &evaluates);
}

cohort_status grpo_run_room(const struct grpo_run *run, int32_t *room, cohort_error *err)
{
    const struct options *o = run->t.options;
    *room = run->t.session.model->max_context - run->grpo.config.max_completion_length;
    if (*room < 1)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "--max-completion-length %d leaves no room for a prompt in the model's context of %d%s",
                         (int)run->grpo.config.max_completion_length, (int)run->t.session.model->max_context,
                         rope_config_limit(&run->t.session.model->config.rope));
    const int64_t asked = options_int_or(o, OPTION_MAX_PROMPT_LENGTH, *room);
    *room = asked < *room ? (int32_t)asked : *room;
    return COHORT_OK;
}

static cohort_status load_held_out(struct grpo_run *run, cohort_error *err)
{
    const struct options *o = run->t.options;
    const char *path = options_string(o, OPTION_EVAL_DATA);
    int32_t room = 0;
    if (path == NULL)
        return COHORT_OK;
    TRY(evaluation_judge_open(&run->judge, &run->scoring, run->eval_n, o, err));
    TRY(grpo_run_room(run, &room, err));
    const struct evaluation_load load = {.spec = path,
                                         .session = &run->t.session,
                                         .scoring = &run->scoring,
                                         .options = o,
                                         .observer = run->t.observer,
                                         .limit = (size_t)options_int_or(o, OPTION_EVAL_LIMIT, 0),
                                         .max_tokens = room,
                                         .n = run->eval_n};
    TRY(evaluation_sets_load(&run->held_out, &load, err));
    for (size_t i = 0; i < run->held_out.n; i++)
        TRY(run_inputs_add(&run->t.inputs, INPUT_EVAL_DATA, run->held_out.items[i].spec,
                           run->held_out.items[i].prompts.data.sha256, err));
    run->has_held_out = true;
    if (run->held_out.longest > run->extent.max_prompt)
        run->extent.max_prompt = run->held_out.longest;
    return COHORT_OK;
}

static int32_t completions_per_step(const struct grpo_run *run)
{
    return run->prompts_per_step * run->grpo.config.group;
}

static cohort_status allocate(struct grpo_run *run, cohort_error *err)
{
    struct training *t = &run->t;
    struct memory_plan plan = {0};
    const int32_t P = run->extent.max_prompt, C = run->grpo.config.max_completion_length, n = completions_per_step(run);
    struct rollout_need need = {.sequences = (int32_t)options_int(t->options, OPTION_DECODE_CONCURRENCY),
                                .draft_tokens = session_drafts(&t->session, t->options)};
    const double at_once = run->dynamic.on ? ceil(run->prompts_per_step * run->dynamic.oversample) : 0.0;
    rollout_need_add(&need, run->dynamic.on ? (int64_t)at_once : run->prompts_per_step, P, C, run->grpo.config.group);
    need.turns = run->episodes.environment != NULL;
    need.history = run->extent.lends ? need.context : rollout_history(&run->grpo.config.sampling, need.context);
    if (run->guides.on && need.history < 0)
        need.history = 0;
    run->runner.ranks = t->ranks;
    run->runner.extras.masks = run->guides.masked;
    run->runner.extras.compare = run->distills;
    memory_plan_begin(&plan, t->session.model, t->options, run_reference_holds(&run->reference, t), &run->runner, n,
                      P + C, (int64_t)run->prompts_per_step * P + (int64_t)n * C);
    TRY(reward_models_open(&run->scoring.models, t->session.backend, t->options, true, P + C, t->observer, err));
    memory_plan_scorers(&plan, &run->scoring.models);
    if (run->distills) {
        TRY(run_teacher_check_length(&run->teacher, P + C, err));
        memory_plan_teacher(&plan, &run->teacher.pass);
    }
    TRY(memory_plan_engine(&plan, t->session.tokenizer, &need, &run->engine, err));
    engine_keep_routes(run->engine);
    TRY(training_allocate(t, &plan, err));
    TRY(reward_models_read(&run->scoring.models, &t->inputs, err));
    if (run->extent.rows > 0 && !run->extent.lends)
        TRY(mem_alloc(&run->longest, (size_t)run->extent.rows, sizeof *run->longest, "lengths of rows", err));
    return mem_alloc(&run->live, (size_t)step_plan_most_batches(&run->grpo.config.plan), sizeof *run->live, "batch",
                     err);
}

static double epoch_of(const struct grpo_run *run)
{
    return run->extent.rows == 0 ? (double)NAN : (double)run->prompts_drawn / (double)run->extent.rows;
}

void grpo_run_tell_progress(struct grpo_run *run)
{
    const double epoch = epoch_of(run);
    run->scoring.progress = (struct reward_progress){.step = run->t.state.step,
                                                     .max_steps = run->t.steps,
                                                     .epoch = isnan(epoch) ? 0.0 : epoch,
                                                     .tokens_seen = run->t.state.tokens_seen};
}

/* Adds eval_loss and eval_entropy of a set, with its name where it has one. */
static cohort_status measure_set(struct grpo_run *run, const struct prompt_batch *batch, int32_t n_prompts, int32_t n,
                                 const struct completion *completions, cohort_error *err)
{
    struct grpo_divergence found = {0};
    struct grpo_prompt *prompts = NULL;
    const char *name = batch->name == NULL ? "" : batch->name, *dash = batch->name == NULL ? "" : "_";
    TRY(mem_alloc(&prompts, (size_t)n_prompts, sizeof *prompts, "evaluation", err));
    for (int32_t i = 0; i < n_prompts; i++)
        prompts[i] =
            (struct grpo_prompt){.tokens = batch->prompts[i].ids.ids, .n_tokens = (int32_t)batch->prompts[i].ids.count};
    const cohort_status status = grpo_measure(&run->grpo, prompts, n_prompts, n, completions, &found, err);
    mem_free(prompts);
    TRY(status);
    metrics_setf(run->measured, found.loss, "eval_%s%sloss", name, dash);
    metrics_setf(run->measured, found.entropy, "eval_%s%sentropy", name, dash);
    return COHORT_OK;
}

/* Of several sets the mean of theirs. */
static void measured_mean(const struct grpo_run *run, struct metrics *metrics)
{
    double sum = 0.0;
    for (size_t i = 0; i < run->held_out.n; i++) {
        char name[96];
        if (run->held_out.items[i].name == NULL)
            return;
        snprintf(name, sizeof name, "eval_%s_loss", run->held_out.items[i].name);
        sum += metrics_get(metrics, name);
    }
    metrics_set(metrics, "eval_loss", sum / (double)run->held_out.n);
}

static cohort_status record_set(void *context, const struct prompt_batch *batch, int32_t n_prompts, int32_t n,
                                const struct completion *completions, const double *rewards, const double *sums,
                                cohort_error *err)
{
    struct grpo_run *run = context;
    if (run->distills)
        TRY(measure_set(run, batch, n_prompts, n, completions, err));
    return record_completions(&run->t,
                              &(struct record_batch){.scoring = &run->scoring,
                                                     .prompts = batch,
                                                     .completions = completions,
                                                     .n_prompts = n_prompts,
                                                     .n = n,
                                                     .rewards = rewards,
                                                     .sums = sums},
                              err);
}

/* What an evaluation is known by. */
static const char *eval_metric(const struct grpo_run *run) { return run->distills ? "eval_loss" : "eval_reward"; }

/* Adds all of an evaluation to metrics or nothing: a missing one is made up for by a run that resumes here
 * (owed_evaluation). */
static cohort_status held_out_metrics(struct grpo_run *run, struct metrics *metrics, cohort_error *err)
{
    const struct options *o = run->t.options;
    struct metrics found = {0};
    struct text samples = {0};
    const struct evaluation_out out = {.rows = &samples, .record = record_set, .record_context = run};
    const double begin = clock_seconds();
    char name[64];
    cohort_status status = COHORT_OK;
    if (!run->has_held_out)
        return COHORT_OK;
    struct evaluation evaluation = {.engine = run->engine,
                                    .ranks = run->t.ranks,
                                    .scoring = &run->scoring,
                                    .sets = &run->held_out,
                                    .judge = &run->judge,
                                    .guides = &run->guides,
                                    .pattern = run->pattern,
                                    .n = run->eval_n,
                                    .episodes = &run->episodes,
                                    .step = run->t.state.step,
                                    .stop = options_stop(o),
                                    .progress = report_evaluation,
                                    .progress_context = run};
    float *temperature = &evaluation.pattern.sampling.temperature;
    *temperature = (float)options_float_or(o, OPTION_EVAL_TEMPERATURE, (double)*temperature);
    grpo_run_tell_progress(run);
    run->measured = &found;
    TRY_GOTO(evaluation_run(&evaluation, &found, &out, err));
    if (run->distills)
        measured_mean(run, &found);
    TRY_GOTO(training_share_metrics(&run->t, &found, err)); /* rewards may have added some */
    TRY_GOTO(best_model_check(&run->best, &found, err));
    snprintf(name, sizeof name, "eval-step-%lld.jsonl", (long long)run->t.state.step);
    if (training_writes(&run->t))
        TRY_GOTO(run_folder_write(&run->t.run, name, samples.data, samples.length, err));
    observer_message(run->t.observer, "step %lld: held-out %s %.4f (%zu prompts)", (long long)run->t.state.step,
                     run->distills ? "divergence" : "reward", metrics_get(&found, eval_metric(run)),
                     run->held_out.n_prompts);
    metrics_add(metrics, &found);
    run->t.evaluated = clock_seconds() - begin;
cleanup:
    metrics_free(&found);
    text_free(&samples);
    return status;
}

/* Those of a batch, with the first step that takes from it. */
static cohort_status log_completions(struct grpo_run *run, const struct live_batch *live, cohort_error *err)
{
    const struct prompt_batch prompts = live_batch_prompts(live);
    if (!training_writes(&run->t))
        return COHORT_OK;
    TRY(record_completions(&run->t,
                           &(struct record_batch){.scoring = &run->scoring,
                                                  .prompts = &prompts,
                                                  .completions = live->batch.completions,
                                                  .n_prompts = live->batch.n_prompts,
                                                  .n = live->batch.n / live->batch.n_prompts,
                                                  .rewards = live->batch.rewards,
                                                  .reward = live->batch.reward,
                                                  .advantage = live->batch.advantage},
                           err));
    if (!options_bool(run->t.options, OPTION_LOG_COMPLETIONS))
        return COHORT_OK;
    cohort_status status = scoring_log(&run->scoring, &prompts, &live->batch, &run->t.run, run->t.state.step, err);
    if (status != COHORT_OK && run->t.run.logs[RUN_COMPLETIONS].pending.length == 0)
        run->t.lines_lost = true; /* could not even be kept for the checkpoint */
    return status;
}

/* Whether the last step reached a multiple of steps; never where steps is 0. Where the owner has a batch done as a whole,
 * at its end: whether one of its steps did. */
static bool every(const struct grpo_run *run, int64_t steps)
{
    const struct step_plan *plan = &run->grpo.config.plan;
    const int64_t step = run->t.state.step,
                  before = run->extent.lends ? step - (int64_t)plan->slices * plan->iterations / plan->accumulated
                                             : step - 1;
    return steps > 0 && step / steps != before / steps;
}

/* Whether the held-out prompts are evaluated after the last step. */
static bool evaluates_now(const struct grpo_run *run)
{
    return (run->t.steps > 0 && run->t.state.step >= run->t.steps) || every(run, run->eval_steps);
}

bool grpo_run_ends(const struct grpo_run *run)
{
    return (run->t.steps > 0 && run->t.state.step >= run->t.steps) ||
           (!run->extent.lends && best_model_stops(&run->best, &run->t));
}

/* The controller of the entropy bonus outlives a step (I6). */
static void keep_entropy(struct grpo_run *run)
{
    run->t.state.adapts_entropy = run->grpo.entropy.adaptive;
    run->t.state.entropy_coef = run->grpo.entropy.coef;
    run->t.state.last_entropy = run->grpo.entropy.last;
}

static void restore_entropy(struct grpo_run *run)
{
    if (run->t.state.adapts_entropy) {
        run->grpo.entropy.coef = run->t.state.entropy_coef;
        run->grpo.entropy.last = run->t.state.last_entropy;
    }
    keep_entropy(run);
}

bool grpo_run_whole(const struct grpo_run *run)
{
    return grpo_steps(&run->grpo) == run->t.state.step &&
           (run->n_live == 0 || run->live[0].batch.index >= run->grpo.batches);
}

/* The optimizer step, with the rewards of batches that are new. *begun: how many of the live batches were begun before. */
static cohort_status advance(struct grpo_run *run, int32_t *begun, struct metrics *metrics, cohort_error *err)
{
    struct training *t = &run->t;
    struct grpo *grpo = &run->grpo;
    struct grpo_batch *batches = NULL;
    const int32_t n = run->n_live;
    cohort_status status = COHORT_OK;
    *begun = 0;
    for (int32_t b = 0; b < n; b++) {
        *begun += run->live[b].batch.index < grpo->batches ? 1 : 0;
        run->scored = &run->live[b];
        TRY(grpo_score(grpo, &run->live[b].batch, err));
        scoring_take_metrics(&run->scoring, "", &run->live[b].batch.metrics);
    }
    TRY(training_before_update(t, err));
    TRY(mem_alloc(&batches, (size_t)n, sizeof *batches, "step", err));
    for (int32_t b = 0; b < n; b++)
        batches[b] = run->live[b].batch;
    status = grpo_advance(grpo, batches, n, metrics, err);
    for (int32_t b = 0; b < n; b++) /* its metrics were written */
        run->live[b].batch.metrics = batches[b].metrics;
    mem_free(batches);
    TRY(status);
    if (grpo->warning[0] != '\0')
        observer_message(t->observer, "%s (%lld so far)", grpo->warning, (long long)grpo->skipped);
    run->prompts_drawn = run->live[n - 1].cursor_end;
    t->state.step++;
    if (grpo->warning[0] != '\0')
        record_event(t, "skipped", NULL, NULL, grpo->warning, NULL);
    run_reference_step(&run->reference, t);
    t->state.skipped = grpo->skipped;
    t->state.batches = grpo->batches;
    t->state.tokens_seen = grpo->tokens_seen;
    keep_entropy(run);
    return COHORT_OK;
}

/* Frees the batches of which nothing is left to take. */
static void drop_done(struct grpo_run *run)
{
    const int64_t done = step_plan_done(&run->grpo.config.plan, run->t.state.step);
    int32_t n = 0;
    while (n < run->n_live && run->live[n].batch.index < done)
        live_batch_free(&run->live[n++]);
    run->n_live -= n;
    memmove(run->live, run->live + n, (size_t)run->n_live * sizeof *run->live);
    memset(run->live + run->n_live, 0, (size_t)n * sizeof *run->live);
}

/* Compares an evaluation that was due, not by the run's end alone, with those before it. Returns whether its model is to be
 * kept. */
static bool count_evaluation(struct grpo_run *run, const struct metrics *metrics)
{
    return run->has_held_out && every(run, run->eval_steps) && best_model_take(&run->best, &run->t, metrics);
}

/* What is due after a step. A failure comes after the update: the step is logged all the same, because it will not be
 * repeated. The first failure is reported. */
static cohort_status after_step(struct grpo_run *run, int32_t begun, struct metrics *metrics, cohort_error *err)
{
    struct training *t = &run->t;
    cohort_status failed = COHORT_OK, logged = COHORT_OK, shown = COHORT_OK;
    const int64_t logging_steps = options_int(t->options, OPTION_LOGGING_STEPS);
    for (int32_t b = begun; failed == COHORT_OK && b < run->n_live; b++)
        failed = log_completions(run, &run->live[b], err);
    drop_done(run);
    const bool due = !run->extent.lends || run->n_live == 0, evaluates = due && evaluates_now(run);
    if (failed == COHORT_OK && evaluates)
        failed = held_out_metrics(run, metrics, err);
    const bool best = failed == COHORT_OK && evaluates && count_evaluation(run, metrics);
    const bool end = due && grpo_run_ends(run);
    /* Whoever reads the line of a step may count on the checkpoint of the one before. */
    const cohort_status settled = training_settle(t, failed == COHORT_OK ? err : NULL);
    failed = failed == COHORT_OK ? settled : failed;
    logged = training_log(t, t->state.step, epoch_of(run), metrics, failed == COHORT_OK ? err : NULL);
    shown = training_show(t,
                          &(struct shown_step){.epoch = epoch_of(run),
                                               .line = end || (due && every(run, logging_steps)),
                                               .evaluates = run->has_held_out,
                                               .evaluation = every(run, run->eval_steps)},
                          metrics, failed == COHORT_OK && logged == COHORT_OK ? err : NULL);
    TRY(training_agree(t, failed != COHORT_OK ? failed : logged != COHORT_OK ? logged : shown, err));
    training_draw(t, evaluates ? DRAW_EVALUATION : DRAW_STEP);
    TRY(training_agree(t, training_check(t, err), err));
    /* A batch is drawn before the next update, by us: weights and moments stay what they are until then. */
    const bool meanwhile = !end && !run->extent.lends && grpo_run_wants(run);
    return due ? training_save(t, &run->grpo.optimizer, best || end || every(run, run->save_steps), meanwhile, err)
               : COHORT_OK;
}

cohort_status grpo_run_update(struct grpo_run *run, cohort_error *err)
{
    cohort_status failed = COHORT_OK;
    do {
        struct metrics metrics = {0};
        int32_t begun = 0;
        cohort_status status = advance(run, &begun, &metrics, failed == COHORT_OK ? err : NULL), after = COHORT_OK;
        if (status == COHORT_OK)
            after = after_step(run, begun, &metrics, failed == COHORT_OK ? err : NULL);
        metrics_free(&metrics);
        TRY(failed != COHORT_OK && status != COHORT_OK ? failed : status);
        failed = failed == COHORT_OK ? after : failed;
    } while (run->extent.lends && run->n_live > 0);
    return failed;
}

/* ---- Checkpoints ---- */

static const char DRAWS[] = "trainer/draws.json"; /* how far a run with dynamic sampling is in its data */

static cohort_status write_draws(const struct grpo_run *run, const char *dir, cohort_error *err)
{
    struct text text = {0};
    char *path = NULL;
    cohort_status status = COHORT_OK;
    if (!run->dynamic.on)
        return COHORT_OK;
    TRY_GOTO(file_join(&path, dir, DRAWS, err));
    TRY_GOTO(text_printf(&text, err, "{\"format\": 1, \"prompts_drawn\": %lld}\n", (long long)run->prompts_drawn));
    TRY_GOTO(file_write_atomic(path, text.data, text.length, err));
cleanup:
    text_free(&text);
    mem_free(path);
    return status;
}

static cohort_status read_draws(struct grpo_run *run, cohort_error *err)
{
    const json_int_t most = 1000000000000000; /* sums with a batch stay in 64 bits, and exact in double */
    const json_int_t least = run->grpo.batches * run->prompts_per_step;
    json_t *json = NULL;
    char *path = NULL;
    json_int_t format = 0, drawn = 0;
    cohort_status status = COHORT_OK;
    run->prompts_drawn = least;
    if (!run->dynamic.on || run->t.resume_dir == NULL)
        return COHORT_OK;
    TRY_GOTO(file_join(&path, run->t.resume_dir, DRAWS, err));
    TRY_GOTO(json_text_read(&json, path, 1 << 20, 0, err));
    if (json_unpack(json, "{s:I, s:I}", "format", &format, "prompts_drawn", &drawn) != 0 || format != 1 ||
        drawn < least || drawn > most)
        status = error_set(err, COHORT_ERR_FORMAT,
                           "%s: expected \"prompts_drawn\" of at least %lld (%lld batches of %d); the file is damaged: "
                           "resume from another checkpoint",
                           path, (long long)least, (long long)run->grpo.batches, (int)run->prompts_per_step);
    else
        run->prompts_drawn = drawn;
cleanup:
    json_decref(json);
    mem_free(path);
    return status;
}

static cohort_status write_more(void *context, const char *dir, struct manifest *manifest, cohort_error *err)
{
    const struct grpo_run *run = context;
    TRY(run_reference_write(&run->reference, &run->t, dir, manifest, err));
    TRY(write_draws(run, dir, err));
    return run->n_live == 0 ? COHORT_OK : batch_file_write(dir, &run->live[0].batch, manifest, err);
}

/* What guided the completions of a batch that was read. */
static cohort_status restore_masks(struct grpo_run *run, struct live_batch *live, cohort_error *err)
{
    struct grpo_batch *batch = &live->batch;
    cohort_status status = COHORT_OK;
    if (run->guides.masked != (batch->guides != NULL))
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s/trainer/batch.json: the guides of its prompts are missing, or it should have none; the "
                         "checkpoint is damaged: resume from another one",
                         run->t.resume_dir);
    if (batch->guides == NULL)
        return COHORT_OK;
    TRY(mem_alloc(&live->masks, (size_t)batch->n_prompts, sizeof *live->masks, "batch", err));
    live->n_masks = batch->n_prompts;
    for (int32_t p = 0; p < batch->n_prompts && status == COHORT_OK; p++) {
        const struct text *text = &batch->guides[p];
        struct guide *guide = NULL;
        TRY(row_guide_of_text(&run->guides, text->data, text->length, run->t.resume_dir, &guide, err));
        status = live_batch_guide(run, live, p, &batch->prompts[p], guide, text, err);
        guide_release(guide);
    }
    return status;
}

/* The batch that the checkpoint's step left something of. */
static cohort_status restore_batch(struct grpo_run *run, cohort_error *err)
{
    const struct training *t = &run->t;
    const struct step_plan *plan = &run->grpo.config.plan;
    const int64_t done = step_plan_done(plan, t->state.step);
    bool there = false;
    if (t->resume_dir == NULL || step_plan_batches(plan, t->state.step) == done)
        return COHORT_OK;
    if (run->extent.lends)
        return error_set(
            err, COHORT_ERR_STATE,
            "%s was written in the middle of a generation batch: go on from it with cohort grpo, or from a "
            "checkpoint at the end of one",
            t->resume_dir);
    TRY(batch_file_exists(t->resume_dir, &there, err));
    if (!there)
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s: step %lld is in the middle of generation batch %lld, and trainer/batch.json is missing; "
                         "the checkpoint is damaged: resume from another one",
                         t->resume_dir, (long long)t->state.step, (long long)done);
    struct grpo_batch *batch = &run->live[0].batch;
    TRY(batch_file_read(t->resume_dir, &run->grpo.config, t->session.model->config.vocab_size, batch, err));
    run->n_live = 1;
    run->live[0].cursor_end = run->prompts_drawn;
    if (batch->index != done || batch->drawn_at > t->state.step || batch->n_prompts != run->prompts_per_step ||
        (run->grpo.config.loss.beta != 0.0 && batch->reference == NULL))
        return error_set(
            err, COHORT_ERR_FORMAT,
            "%s/trainer/batch.json: batch %lld of %d prompts, drawn at step %lld, is not the one that a run "
            "with these options has at step %lld; the checkpoint is damaged: resume from another one",
            t->resume_dir, (long long)batch->index, (int)batch->n_prompts, (long long)batch->drawn_at,
            (long long)t->state.step);
    return restore_masks(run, &run->live[0], err);
}

/* The evaluation of the step that a run resumes from, if it is still owed. */
static cohort_status owed_evaluation(struct grpo_run *run, cohort_error *err)
{
    struct metrics metrics = {0};
    bool owes = false;
    cohort_status status = COHORT_OK;
    if (!run->has_held_out || !evaluates_now(run))
        return COHORT_OK;
    TRY(training_owes_evaluation(&run->t, eval_metric(run), &owes, err));
    if (!owes)
        return COHORT_OK;
    TRY_GOTO(held_out_metrics(run, &metrics, err));
    TRY_GOTO(training_log_evaluation(&run->t, &metrics, err));
    TRY_GOTO(training_diagnose(&run->t, &metrics, every(run, run->eval_steps), err));
    (void)count_evaluation(run, &metrics);
    TRY_GOTO(training_save(&run->t, &run->grpo.optimizer, true, false, err)); /* with what the evaluation said */
cleanup:
    metrics_free(&metrics);
    return status;
}

cohort_status grpo_run_start(struct grpo_run *run, cohort_error *err)
{
    struct training *t = &run->t;
    if (run->started)
        return COHORT_OK;
    if (t->state.step == 0 && run->has_held_out) {
        struct metrics metrics = {0};
        cohort_status status = held_out_metrics(run, &metrics, err);
        if (status == COHORT_OK)
            status = training_log(t, 0, run->extent.rows == 0 ? (double)NAN : 0.0, &metrics, err);
        if (status == COHORT_OK)
            status = training_diagnose(t, &metrics, true, err);
        metrics_free(&metrics);
        TRY(status);
    }
    if (!run->distills && !step_plan_reuses(&run->grpo.config.plan) && run->grpo.config.loss.beta == 0.0 &&
        !entropy_control_on(&run->grpo.entropy) && loss_traits(run->grpo.config.loss.type)->event == NULL)
        observer_message(t->observer, "note: on-policy, the ratio is 1 and the loss stays near 0 "
                                      "while its gradient does not; watch reward and grad_norm");
    best_model_begin(&run->best, t);
    TRY(owed_evaluation(run, err));
    run->started = true;
    return COHORT_OK;
}

/* Whether there are rewards; where a run distills there need not be any. */
static bool has_rewards(const struct grpo_run *run, const struct options *options, const struct reward_list *extra)
{
    return !run->distills || run->episodes.reward != NULL || (extra != NULL && extra->count > 0) ||
           options_list_count(options, OPTION_REWARD) > 0;
}

cohort_status grpo_run_open(struct grpo_run *run, struct options *options, const char *command,
                            const struct reward_list *extra, const cohort_observer *observer, cohort_error *err)
{
    int64_t keep = 0;
    memset(run, 0, sizeof *run);
    run->distills = strcmp(command, "distill") == 0;
    TRY(training_open(&run->t, options, command, observer, err));
    TRY(generation_file_note(&run->t.session, options, command, observer, err));
    if (run->distills)
        TRY(run_teacher_open(&run->teacher, &run->t, err));
    TRY(episodes_open(&run->episodes, &run->t.session, options, extra == NULL ? NULL : extra->environment, observer,
                      options_string(options, OPTION_OUT), err));
    if (has_rewards(run, options, extra))
        TRY(episodes_scoring(&run->episodes, &run->scoring, options, extra, err));
    run->scoring.observer = observer;
    run->scoring.ranks = run->t.ranks;
    TRY(record_keep(options, &keep, err));
    run->scoring.keeps_extra = keep != 0 || options_bool(options, OPTION_LOG_COMPLETIONS);
    TRY(grpo_run_configure(run, err));
    TRY(row_guides_open(&run->guides, &run->t.session, options, observer, !run->distills, err));
    TRY(row_guides_identity(&run->guides, &run->t.inputs, err));
    return run_identity_add_rewards(&run->t.inputs, options, err);
}

/* What the rules of the diagnosis must know of this run. */
static void set_up_diagnosis(struct grpo_run *run)
{
    const struct grpo_config *config = &run->grpo.config;
    run->t.setup = (struct diagnosis_setup){
        .group = config->group,
        .prompts = run->prompts_per_step,
        .eval_prompts = (int64_t)run->held_out.n_prompts,
        .entropy_target = run->grpo.entropy.adaptive ? run->grpo.entropy.target : 0.0,
        .reference_steps = !run->distills && options_bool(run->t.options, OPTION_SYNC_REF_MODEL)
                               ? options_int(run->t.options, OPTION_REF_MODEL_SYNC_STEPS)
                               : 0,
        .sequence_ratio =
            config->loss.level != LOSS_LEVEL_TOKEN || config->loss.type == LOSS_GMPO || config->loss.type == LOSS_RLOO};
}

cohort_status grpo_run_begin(struct grpo_run *run, const struct grpo_extent *extent, cohort_error *err)
{
    struct training *t = &run->t;
    struct grpo *grpo = &run->grpo;
    run->extent = *extent;
    if (extent->lends && run->best.rule.patience > 0)
        return error_set(
            err, COHORT_ERR_ARGUMENT,
            "early_stopping_patience: whoever asks for the steps decides when this run ends; leave it out");
    t->steps = extent->steps;
    TRY(training_plan_schedule(t, err));
    TRY(load_held_out(run, err));
    TRY(allocate(run, err));
    if (run->distills)
        TRY(run_teacher_read(&run->teacher, t, err));
    grpo->teacher = run->distills ? &run->teacher.pass : NULL;
    TRY(run_reference_load(&run->reference, t, err));
    grpo->reference = run->reference.model;
    grpo->reference_adapter = run->reference.adapter;
    set_up_diagnosis(run);
    TRY(training_begin(t, err));
    restore_entropy(run);
    grpo->batches = t->state.batches;
    TRY(read_draws(run, err));
    TRY(run_reference_check(&run->reference, t, err));
    TRY(restore_batch(run, err));
    t->write_more = write_more;
    t->more_context = run;
    grpo->config.schedule = t->schedule;
    grpo->model = t->session.model;
    grpo->engine = run->engine;
    grpo->runner = &run->runner;
    grpo->ranks = t->ranks;
    grpo->optimizer = training_optimizer(t);
    grpo->skipped = t->state.skipped;
    grpo->tokens_seen = t->state.tokens_seen;
    grpo->reward = score_batch;
    grpo->reward_context = run;
    grpo->arrived = begin_rewards;
    grpo->arrived_context = run;
    grpo->progress = report;
    grpo->progress_context = run;
    grpo->turns = run->episodes.environment == NULL ? NULL : &run->episodes.hooks;
    training_curve(t, run->distills ? "loss" : "reward", run->has_held_out ? eval_metric(run) : NULL,
                   run->distills                     ? "Distillation: divergence to the teacher"
                   : strcmp(t->command, "rloo") == 0 ? "RLOO: reward"
                                                     : "GRPO: reward",
                   run->distills ? "loss.svg" : "reward.svg");
    return COHORT_OK;
}

cohort_status grpo_run_finish(struct grpo_run *run, cohort_error *err)
{
    struct training *t = &run->t;
    training_diagnosis_end(t);
    if (best_model_stops(&run->best, t))
        best_model_tell_stop(&run->best, t);
    TRY(best_model_save_final(&run->best, t, err));
    training_draw(t, DRAW_END);
    observer_message(t->observer, "done: %s/final is the trained %s, %s/%s the curve", t->run.path,
                     t->session.adapter.there ? "adapter" : "model", t->run.path, t->curve.file);
    return COHORT_OK;
}

void grpo_run_rescue(struct grpo_run *run) { training_rescue(&run->t, &run->grpo.optimizer); }

void grpo_run_close(struct grpo_run *run)
{
    for (int32_t b = 0; run->live != NULL && b < run->n_live; b++)
        live_batch_free(&run->live[b]);
    mem_free(run->live);
    mem_free(run->longest);
    engine_destroy(run->engine);
    routing_free(&run->grpo.routing);
    tree_runner_free(&run->runner);
    run_teacher_close(&run->teacher);
    run_reference_close(&run->reference, &run->t);
    evaluation_sets_free(&run->held_out);
    evaluation_judge_close(&run->judge);
    scoring_close(&run->scoring);
    episodes_close(&run->episodes);
    row_guides_close(&run->guides);
    session_request_free(&run->pattern);
    training_close(&run->t);
}

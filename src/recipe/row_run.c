#include "recipe/row_run.h"

#include "base/clock.h"
#include "base/number.h"
#include "recipe/data_open.h"
#include "recipe/record.h"

#include <stdio.h>
#include <string.h>

/* As TRL counts: batch_size is the product, and is what the run is written down with. */
static cohort_status read_batch(struct row_run *run, cohort_error *err)
{
    enum { TRL_BATCH = 8 /* per device, unless said */ };
    struct options *o = run->t.options;
    const int64_t steps = options_int(o, OPTION_GRADIENT_ACCUMULATION_STEPS);
    const bool counted = options_is_set(o, OPTION_PER_DEVICE_TRAIN_BATCH_SIZE) || steps > 1;
    const int64_t product = options_int_or(o, OPTION_PER_DEVICE_TRAIN_BATCH_SIZE, TRL_BATCH) * steps;
    char text[32];
    if (counted && options_given(o, OPTION_BATCH_SIZE) && options_int(o, OPTION_BATCH_SIZE) != product)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "--batch-size %lld is the rows of an optimizer step, and per_device_train_batch_size times "
                         "gradient_accumulation_steps are %lld: give one of the two",
                         (long long)options_int(o, OPTION_BATCH_SIZE), (long long)product);
    snprintf(text, sizeof text, "%lld", (long long)product);
    if (counted)
        TRY(options_set(o, "batch_size", text,
                        "per_device_train_batch_size times gradient_accumulation_steps, the rows of an optimizer step",
                        err));
    run->batch_size = options_int(o, OPTION_BATCH_SIZE);
    return COHORT_OK;
}

static cohort_status read_evaluation(struct row_run *run, cohort_error *err)
{
    const struct options *o = run->t.options;
    const bool said = options_is_set(o, OPTION_EVAL_STRATEGY);
    const char *metric = options_choice_word(o, OPTION_METRIC_FOR_BEST_MODEL);
    run->eval.when = said ? (enum eval_strategy)options_choice(o, OPTION_EVAL_STRATEGY) : EVAL_STEPS;
    run->eval.steps = options_int(o, OPTION_EVAL_STEPS);
    if (said && run->eval.when == EVAL_STEPS && run->eval.steps == 0) /* as transformers has it */
        run->eval.steps = options_int(o, OPTION_LOGGING_STEPS);
    return best_model_open(&run->best, o, metric,
                           run->eval.when == EVAL_EPOCH || (run->eval.when == EVAL_STEPS && run->eval.steps > 0), err);
}

/* Whether an evaluation is due by eval_strategy, which does not depend on where the run ends. */
static bool is_due(const struct row_run *run, int64_t step)
{
    const int64_t units = (int64_t)run->n_units;
    switch (run->eval.when) {
    case EVAL_STEPS: return run->eval.steps > 0 && step % run->eval.steps == 0;
    case EVAL_EPOCH: return step * run->batch_size / units > (step - 1) * run->batch_size / units;
    case EVAL_NO:
    case N_EVAL_STRATEGIES: break;
    }
    return false;
}

static bool evaluates_after(const struct row_run *run, int64_t step)
{
    return step == run->t.steps || is_due(run, step);
}

/* Compares an evaluation that was due with those before it. Returns whether its model is to be kept. */
static bool count_evaluation(struct row_run *run, const struct metrics *metrics)
{
    return run->held_out && is_due(run, run->t.state.step) && best_model_take(&run->best, &run->t, metrics);
}

static cohort_status evaluate(struct row_run *run, struct metrics *metrics, cohort_error *err)
{
    const struct row_trainer *trainer = &run->trainer;
    char name[64];
    if (!run->held_out)
        return COHORT_OK;
    const double begin = clock_seconds();
    TRY(trainer->evaluate(trainer->context, metrics, err));
    snprintf(name, sizeof name, "eval_%s", trainer->figure);
    run->t.evaluated = clock_seconds() - begin;
    observer_message(run->t.observer, "step %lld: held-out loss %.4f, %s %.4f", (long long)run->t.state.step,
                     metrics_get(metrics, "eval_loss"), trainer->figure_name, metrics_get(metrics, name));
    return COHORT_OK;
}

static void tell_skipped(const struct row_run *run)
{
    const struct row_trainer *trainer = &run->trainer;
    char text[400];
    if (trainer->warning != NULL && trainer->warning[0] != '\0')
        snprintf(text, sizeof text, "%s", trainer->warning);
    else
        number_format(text, sizeof text, "update skipped: the gradient norm is %g",
                      metrics_get(&run->metrics, "grad_norm"));
    observer_message(run->t.observer, "%s (%lld so far)", text, (long long)*trainer->skipped);
    record_event((struct training *)(uintptr_t)&run->t, "skipped", NULL, NULL, text, NULL);
}

static cohort_status one_step(struct row_run *run, cohort_error *err)
{
    struct training *t = &run->t;
    struct metrics *metrics = &run->metrics;
    const struct row_trainer *trainer = &run->trainer;
    metrics_free(metrics);
    for (int64_t i = 0; i < run->batch_size; i++)
        TRY(dataset_order_at(&run->order, (uint64_t)(t->state.batches * run->batch_size + i), &run->units[i], NULL,
                             err));
    TRY(trainer->step(trainer->context, run->units, (size_t)run->batch_size, metrics, err));
    t->state.step++;
    t->state.batches++;
    if (trainer->after_step != NULL)
        trainer->after_step(trainer->context);
    if (*trainer->skipped > t->state.skipped)
        tell_skipped(run);
    t->state.skipped = *trainer->skipped;
    t->state.tokens_seen = *trainer->tokens_seen;
    bool end = t->state.step == t->steps;
    /* An evaluation that fails comes after the update: the step is logged all the same, for it will not be done
     * again. */
    bool evaluates = evaluates_after(run, t->state.step);
    cohort_status evaluated = COHORT_OK;
    if (evaluates)
        evaluated = evaluate(run, metrics, err);
    const double epoch = (double)(t->state.batches * run->batch_size) / (double)run->n_units;
    const cohort_status logged = training_log(t, t->state.step, epoch, metrics, evaluated == COHORT_OK ? err : NULL);
    /* Counted before a failure to log it: the checkpoint of the rescue has the evaluation, which is not owed again. */
    const bool best = evaluated == COHORT_OK && count_evaluation(run, metrics);
    end = end || best_model_stops(&run->best, t);
    const cohort_status shown = training_show(
        t,
        &(struct shown_step){.epoch = epoch,
                             .line = end || t->state.step % options_int(t->options, OPTION_LOGGING_STEPS) == 0,
                             .evaluates = run->held_out,
                             .evaluation = is_due(run, t->state.step)},
        metrics, evaluated == COHORT_OK && logged == COHORT_OK ? err : NULL);
    const cohort_status tail = evaluated != COHORT_OK ? evaluated : logged != COHORT_OK ? logged : shown;
    TRY(training_agree(t, tail, err));
    training_draw(t, evaluates ? DRAW_EVALUATION : DRAW_STEP);
    TRY(training_agree(t, training_check(t, err), err));
    TRY(training_save(t, trainer->optimizer,
                      best || end || (run->save_steps > 0 && t->state.step % run->save_steps == 0), false, err));
    if (!training_progress(t, &(cohort_progress){.phase = "train",
                                                 .done = t->state.step,
                                                 .total = t->steps,
                                                 .unit = "steps",
                                                 .per_second = (double)(t->state.step - t->started_step) /
                                                               (clock_seconds() - t->started)}))
        return error_set(err, COHORT_ERR_CANCELLED, "stopped on request");
    return COHORT_OK;
}

static int64_t planned_steps(const struct row_run *run)
{
    const struct options *o = run->t.options;
    int64_t per_epoch = ((int64_t)run->n_units + run->batch_size - 1) / run->batch_size;
    return options_int_or(o, OPTION_STEPS, per_epoch * options_int(o, OPTION_EPOCHS));
}

/* The evaluation of the step that a run goes on from, if it is still to be made. */
static cohort_status owed_evaluation(struct row_run *run, cohort_error *err)
{
    struct metrics metrics = {0};
    bool owes = false;
    cohort_status status = COHORT_OK;
    if (!run->held_out || !evaluates_after(run, run->t.state.step))
        return COHORT_OK;
    TRY(training_owes_evaluation(&run->t, "eval_loss", &owes, err));
    if (!owes)
        return COHORT_OK;
    TRY_GOTO(evaluate(run, &metrics, err));
    TRY_GOTO(training_log_evaluation(&run->t, &metrics, err));
    TRY_GOTO(training_diagnose(&run->t, &metrics, is_due(run, run->t.state.step), err));
    (void)count_evaluation(run, &metrics); /* the checkpoint of its model is the one that the run goes on from, */
    TRY_GOTO(training_save(&run->t, run->trainer.optimizer, true, false, err)); /* and now is what it would have been */
cleanup:
    metrics_free(&metrics);
    return status;
}

static cohort_status train(struct row_run *run, cohort_error *err)
{
    struct training *t = &run->t;
    if (t->state.step == 0 && run->held_out) {
        struct metrics metrics = {0};
        cohort_status status = evaluate(run, &metrics, err);
        if (status == COHORT_OK)
            status = training_log(t, 0, 0.0, &metrics, err);
        if (status == COHORT_OK)
            status = training_diagnose(t, &metrics, true, err);
        metrics_free(&metrics);
        TRY(status);
    }
    best_model_begin(&run->best, t);
    TRY(owed_evaluation(run, err));
    while (t->state.step < t->steps && !best_model_stops(&run->best, t)) {
        TRY(training_steer(t, run->trainer.optimizer, err));
        TRY(one_step(run, err));
    }
    if (best_model_stops(&run->best, t))
        best_model_tell_stop(&run->best, t);
    return COHORT_OK;
}

cohort_status row_run_go(struct row_run *run, cohort_error *err)
{
    struct training *t = &run->t;
    char title[64];
    snprintf(title, sizeof title, "%s: loss", run->trainer.title);
    training_listen(t);
    training_curve(t, "loss", run->held_out ? "eval_loss" : NULL, title, "loss.svg");
    cohort_status status = train(run, err);
    if (status != COHORT_OK) {
        training_rescue(t, run->trainer.optimizer);
        return status;
    }
    training_diagnosis_end(t);
    TRY(best_model_save_final(&run->best, t, err));
    training_draw(t, DRAW_END);
    observer_message(t->observer, "done: %s/final is the trained %s, %s/loss.svg the curve", t->run.path,
                     t->session.adapter.there ? "adapter" : "model", t->run.path);
    return COHORT_OK;
}

cohort_status row_run_open(struct row_run *run, struct options *options, const char *command,
                           const cohort_observer *observer, cohort_error *err)
{
    memset(run, 0, sizeof *run);
    TRY(training_open(&run->t, options, command, observer, err));
    run->save_steps = options_int(options, OPTION_SAVE_STEPS);
    TRY(read_batch(run, err));
    TRY(read_evaluation(run, err));
    run->held_out = options_is_set(options, OPTION_EVAL_DATA);
    return mem_alloc(&run->units, (size_t)run->batch_size, sizeof *run->units, "batch", err);
}

cohort_status row_run_plan(struct row_run *run, const struct dataset_part *parts, size_t n_parts, size_t n_units,
                           cohort_error *err)
{
    run->n_units = n_units;
    TRY(data_order(&run->order, parts, n_parts, run->t.options, err));
    run->t.steps = planned_steps(run);
    return training_plan_schedule(&run->t, err);
}

cohort_status row_run_begin(struct row_run *run, const struct row_trainer *trainer, cohort_error *err)
{
    struct training *t = &run->t;
    run->trainer = *trainer;
    TRY(training_begin(t, err));
    *trainer->optimizer = training_optimizer(t);
    *trainer->schedule = t->schedule;
    *trainer->skipped = t->state.skipped;
    *trainer->tokens_seen = t->state.tokens_seen;
    return COHORT_OK;
}

void row_run_close(struct row_run *run)
{
    dataset_order_free(&run->order);
    metrics_free(&run->metrics);
    mem_free(run->units);
    training_close(&run->t);
}

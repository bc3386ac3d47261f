/* cohort sft: supervised fine-tuning, loss on the completion. */
#include "base/clock.h"
#include "base/number.h"
#include "command/command.h"
#include "recipe/data_open.h"
#include "recipe/end_of_text.h"
#include "recipe/record.h"
#include "recipe/routing_options.h"
#include "recipe/run_inputs.h"
#include "recipe/sft_rows.h"
#include "recipe/training.h"
#include "train/sft.h"

#include <stdio.h>

struct sft_run {
    struct training t;
    struct sft_rows train, held_out;
    struct dataset_order order;
    struct sft sft;
    struct tree_runner runner;
    /* The rows in hand, of a step or of the evaluation, and the room for them. */
    struct sft_row *batch;
    struct tree *trees;
    struct completion_tokens *completions;
    double *weights;
    size_t n_batch, room[4];
    int64_t batch_size, save_steps;
    struct {
        enum eval_strategy when;
        int64_t steps; /* EVAL_STEPS: every so many; 0: never */
        const char *metric;
        struct best_rule rule;
        bool keeps; /* load_best_model_at_end */
    } eval;
    struct metrics metrics; /* of the step */
};

static cohort_status load_data(struct sft_run *run, cohort_error *err)
{
    const struct options *o = run->t.options;
    const char *data = options_string(o, OPTION_DATA), *held_out = options_string(o, OPTION_EVAL_DATA);
    const int32_t context = run->t.session.model->max_context, most = (int32_t)options_int(o, OPTION_MAX_LENGTH);
    const int32_t length = most < context ? most : context;
    const struct sft_packing packing = {.on = options_bool(o, OPTION_PACKING),
                                        .strategy = (enum packing_strategy)options_choice(o, OPTION_PACKING_STRATEGY),
                                        .room = most},
                             none = {.on = false};
    if (data == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "no training rows given: pass --data FILE");
    TRY(sft_rows_load(&run->train, &run->t.session, OPTION_DATA, 0, length, &packing, o, run->t.observer, err));
    TRY(run_inputs_add(&run->t.inputs, INPUT_DATA, data, run->train.data.sha256, err));
    sft_rows_tell(&run->train, run->t.observer);
    if (held_out != NULL) {
        TRY(sft_rows_load(&run->held_out, &run->t.session, OPTION_EVAL_DATA,
                          (size_t)options_int_or(o, OPTION_EVAL_LIMIT, 0), length, &none, o, run->t.observer, err));
        TRY(run_inputs_add(&run->t.inputs, INPUT_EVAL_DATA, held_out, run->held_out.data.sha256, err));
        sft_rows_tell(&run->held_out, run->t.observer);
    }
    if (run->train.conversations)
        TRY(end_of_text_learned(&run->t.session, err));
    TRY(row_tell_template(&run->t.session, true, run->t.observer, err));
    return data_order(&run->order, run->train.parts, run->train.data.n_parts, o, err);
}

/* As TRL counts: batch_size is the product, and is what the run is written down with. */
static cohort_status read_batch(struct sft_run *run, cohort_error *err)
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

static cohort_status read_evaluation(struct sft_run *run, cohort_error *err)
{
    static const char *const metrics[N_BEST_METRICS] = {"eval_loss", "eval_mean_token_accuracy", "eval_entropy"};
    const struct options *o = run->t.options;
    const bool said = options_is_set(o, OPTION_EVAL_STRATEGY);
    const int metric = options_choice(o, OPTION_METRIC_FOR_BEST_MODEL);
    run->eval.when = said ? (enum eval_strategy)options_choice(o, OPTION_EVAL_STRATEGY) : EVAL_STEPS;
    run->eval.steps = options_int(o, OPTION_EVAL_STEPS);
    if (said && run->eval.when == EVAL_STEPS && run->eval.steps == 0) /* as transformers has it */
        run->eval.steps = options_int(o, OPTION_LOGGING_STEPS);
    run->eval.metric = metrics[metric];
    run->eval.keeps = options_bool(o, OPTION_LOAD_BEST_MODEL_AT_END);
    run->eval.rule = (struct best_rule){.greater = options_bool_or(o, OPTION_GREATER_IS_BETTER, metric != BEST_BY_LOSS),
                                        .threshold = options_float(o, OPTION_EARLY_STOPPING_THRESHOLD),
                                        .patience = options_int_or(o, OPTION_EARLY_STOPPING_PATIENCE, 0)};
    const bool never = run->eval.when == EVAL_NO || (run->eval.when == EVAL_STEPS && run->eval.steps == 0);
    if ((run->eval.keeps || run->eval.rule.patience > 0) && (never || !options_is_set(o, OPTION_EVAL_DATA)))
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "--%s looks at evaluations during the run: pass --eval-data FILE, and --eval-steps N or "
                         "--eval-strategy epoch",
                         run->eval.keeps ? "load-best-model-at-end" : "early-stopping-patience");
    return COHORT_OK;
}

static cohort_status read_loss(struct sft_run *run, cohort_error *err)
{
    const struct options *o = run->t.options;
    run->sft.loss = (enum sft_loss)options_choice(o, OPTION_LOSS_TYPE);
    run->sft.label_smoothing = options_float(o, OPTION_LABEL_SMOOTHING_FACTOR);
    run->sft.noise_alpha = options_float_or(o, OPTION_NEFTUNE_NOISE_ALPHA, 0.0);
    run->sft.seed = (uint64_t)options_int(o, OPTION_SEED);
    run->sft.dropout = run->t.session.adapter.settings.dropout;
    run->runner.extras = sft_extras(&run->sft);
    TRY(routing_options(&run->sft.routing, o, &run->t.session.model->config, err));
    if (run->sft.label_smoothing > 0.0 && run->sft.loss != SFT_LOSS_NLL)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "--label-smoothing-factor is of --loss-type nll alone: a smoothed label has no probability to "
                         "weigh its loss by");
    return COHORT_OK;
}

static cohort_status allocate(struct sft_run *run, cohort_error *err)
{
    struct training *t = &run->t;
    struct memory_plan plan = {0};
    const struct sft_rows *rows = &run->train;
    int32_t longest = rows->longest > run->held_out.longest ? rows->longest : run->held_out.longest;
    int64_t useful = run->batch_size * longest, completions = run->batch_size;
    if (rows->begin != NULL) { /* bins of many rows */
        enum { MOST_ROWS = 4096 /* of a micro-batch: more gain nothing */ };
        completions *= (int64_t)rows->most;
        completions = completions < MOST_ROWS ? completions : MOST_ROWS;
        useful = run->batch_size * options_int(t->options, OPTION_MAX_LENGTH);
    }
    memory_plan_begin(&plan, t->session.model, t->options, false, &run->runner, completions, longest, useful);
    return training_allocate(t, &plan, err);
}

/* Reads n rows behind those in hand, from row first of the set. */
static cohort_status take_rows(struct sft_run *run, struct sft_rows *rows, size_t first, size_t n, cohort_error *err)
{
    const size_t end = run->n_batch + n;
    TRY(mem_grow(&run->batch, &run->room[0], end, sizeof *run->batch, "batch", err));
    TRY(mem_grow(&run->trees, &run->room[1], end, sizeof *run->trees, "batch", err));
    TRY(mem_grow(&run->completions, &run->room[2], end, sizeof *run->completions, "batch", err));
    TRY(mem_grow(&run->weights, &run->room[3], end, sizeof *run->weights, "batch", err));
    for (size_t i = 0; i < n; i++, run->n_batch++)
        TRY(sft_rows_read(rows, first + i, &run->batch[run->n_batch], err));
    return COHORT_OK;
}

/* The rows in hand as they are learned. */
static struct sft_batch batch_of(struct sft_run *run)
{
    bool weighted = false;
    for (size_t i = 0; i < run->n_batch; i++) {
        run->trees[i] = sft_row_tree(&run->batch[i], &run->completions[i]);
        run->weights[i] = run->batch[i].weight;
        weighted = weighted || run->batch[i].weighted;
    }
    return (struct sft_batch){
        .trees = run->trees, .weights = weighted ? run->weights : NULL, .n = (int32_t)run->n_batch};
}

static cohort_status held_out_metrics(struct sft_run *run, struct metrics *metrics, cohort_error *err)
{
    struct sft_figures figures;
    if (run->held_out.n == 0)
        return COHORT_OK;
    const double begin = clock_seconds();
    run->n_batch = 0;
    TRY(take_rows(run, &run->held_out, 0, run->held_out.n, err));
    const struct sft_batch batch = batch_of(run);
    TRY(sft_evaluate(&run->sft, &batch, &figures, err));
    metrics_set(metrics, "eval_loss", figures.loss);
    metrics_set(metrics, "eval_mean_token_accuracy", figures.accuracy);
    metrics_set(metrics, "eval_entropy", figures.entropy);
    run->t.evaluated = clock_seconds() - begin;
    observer_message(run->t.observer, "step %lld: held-out loss %.4f, token accuracy %.4f",
                     (long long)run->t.state.step, figures.loss, figures.accuracy);
    return COHORT_OK;
}

/* Whether an evaluation is due by eval_strategy, which does not depend on where the run ends. */
static bool is_due(const struct sft_run *run, int64_t step)
{
    const int64_t units = (int64_t)run->train.n_units;
    switch (run->eval.when) {
    case EVAL_STEPS: return run->eval.steps > 0 && step % run->eval.steps == 0;
    case EVAL_EPOCH: return step * run->batch_size / units > (step - 1) * run->batch_size / units;
    case EVAL_NO:
    case N_EVAL_STRATEGIES: break;
    }
    return false;
}

static bool evaluates_after(const struct sft_run *run, int64_t step)
{
    return step == run->t.steps || is_due(run, step);
}

/* Compares an evaluation that was due with those before it. Returns whether its model is to be kept. */
static bool count_evaluation(struct sft_run *run, const struct metrics *metrics)
{
    struct training *t = &run->t;
    struct best *best = &t->state.best;
    if (run->held_out.n == 0 || !is_due(run, t->state.step) || best->counted == t->state.step ||
        (!run->eval.keeps && run->eval.rule.patience == 0))
        return false;
    const bool better = best_take(best, &run->eval.rule, t->state.step, metrics_get(metrics, run->eval.metric));
    t->run.spared = run->eval.keeps ? best->step : 0;
    return better && run->eval.keeps;
}

static bool stops_early(const struct sft_run *run) { return best_stops(&run->t.state.best, &run->eval.rule); }

static cohort_status one_step(struct sft_run *run, cohort_error *err)
{
    struct training *t = &run->t;
    struct metrics *metrics = &run->metrics;
    metrics_free(metrics);
    run->n_batch = 0;
    for (int64_t i = 0; i < run->batch_size; i++) {
        size_t unit = 0, first = 0;
        TRY(dataset_order_at(&run->order, (uint64_t)(t->state.batches * run->batch_size + i), &unit, NULL, err));
        const size_t n = sft_rows_unit(&run->train, unit, &first);
        TRY(take_rows(run, &run->train, first, n, err));
    }
    const struct sft_batch batch = batch_of(run);
    TRY(sft_step(&run->sft, &batch, metrics, err));
    t->state.step++;
    t->state.batches++;
    if (run->sft.skipped > t->state.skipped) {
        char text[100];
        number_format(text, sizeof text, "update skipped: the gradient norm is %g", metrics_get(metrics, "grad_norm"));
        observer_message(t->observer, "%s (%lld so far)", text, (long long)run->sft.skipped);
        record_event(t, "skipped", NULL, NULL, text, NULL);
    }
    t->state.skipped = run->sft.skipped;
    t->state.tokens_seen = run->sft.tokens_seen;
    bool end = t->state.step == t->steps;
    /* An evaluation that fails comes after the update: the step is logged all the same, for it will not be done
     * again. */
    bool evaluates = evaluates_after(run, t->state.step);
    cohort_status evaluated = COHORT_OK;
    if (evaluates)
        evaluated = held_out_metrics(run, metrics, err);
    const double epoch = (double)(t->state.batches * run->batch_size) / (double)run->train.n_units;
    const cohort_status logged = training_log(t, t->state.step, epoch, metrics, evaluated == COHORT_OK ? err : NULL);
    /* Counted before a failure to log it: the checkpoint of the rescue has the evaluation, which is not owed again. */
    const bool best = evaluated == COHORT_OK && count_evaluation(run, metrics);
    end = end || stops_early(run);
    const cohort_status shown = training_show(
        t,
        &(struct shown_step){.epoch = epoch,
                             .line = end || t->state.step % options_int(t->options, OPTION_LOGGING_STEPS) == 0,
                             .evaluates = run->held_out.n > 0,
                             .evaluation = is_due(run, t->state.step)},
        metrics, evaluated == COHORT_OK && logged == COHORT_OK ? err : NULL);
    TRY(evaluated);
    TRY(logged);
    TRY(shown);
    training_draw(t, evaluates ? DRAW_EVALUATION : DRAW_STEP);
    TRY(training_check(t, err));
    TRY(training_save(t, &run->sft.optimizer,
                      best || end || (run->save_steps > 0 && t->state.step % run->save_steps == 0), err));
    if (!training_progress(t, "train", t->state.step, t->steps, "steps",
                           (double)(t->state.step - t->started_step) / (clock_seconds() - t->started)))
        return error_set(err, COHORT_ERR_CANCELLED, "stopped on request");
    return COHORT_OK;
}

static int64_t planned_steps(const struct sft_run *run)
{
    const struct options *o = run->t.options;
    int64_t per_epoch = ((int64_t)run->train.n_units + run->batch_size - 1) / run->batch_size;
    return options_int_or(o, OPTION_STEPS, per_epoch * options_int(o, OPTION_EPOCHS));
}

/* The evaluation of the step that a run goes on from, if it is still to be made. */
static cohort_status owed_evaluation(struct sft_run *run, cohort_error *err)
{
    struct metrics metrics = {0};
    bool owes = false;
    cohort_status status = COHORT_OK;
    if (run->held_out.n == 0 || !evaluates_after(run, run->t.state.step))
        return COHORT_OK;
    TRY(training_owes_evaluation(&run->t, "eval_loss", &owes, err));
    if (!owes)
        return COHORT_OK;
    TRY_GOTO(held_out_metrics(run, &metrics, err));
    TRY_GOTO(training_log_evaluation(&run->t, &metrics, err));
    TRY_GOTO(training_diagnose(&run->t, &metrics, is_due(run, run->t.state.step), err));
    (void)count_evaluation(run, &metrics); /* the checkpoint of its model is the one that the run goes on from, */
    TRY_GOTO(training_save(&run->t, &run->sft.optimizer, true, err)); /* and now is what it would have been */
cleanup:
    metrics_free(&metrics);
    return status;
}

static cohort_status train(struct sft_run *run, cohort_error *err)
{
    struct training *t = &run->t;
    if (t->state.step == 0 && run->held_out.n > 0) {
        struct metrics metrics = {0};
        cohort_status status = held_out_metrics(run, &metrics, err);
        if (status == COHORT_OK)
            status = training_log(t, 0, 0.0, &metrics, err);
        if (status == COHORT_OK)
            status = training_diagnose(t, &metrics, true, err);
        metrics_free(&metrics);
        TRY(status);
    }
    t->run.spared = run->eval.keeps ? t->state.best.step : 0;
    TRY(owed_evaluation(run, err));
    while (t->state.step < t->steps && !stops_early(run))
        TRY(one_step(run, err));
    if (stops_early(run))
        observer_message(t->observer,
                         "stopped after step %lld: %lld evaluations in a row are not better than the best, %s %.4f "
                         "after step %lld",
                         (long long)t->state.step, (long long)t->state.best.worse, run->eval.metric,
                         t->state.best.value, (long long)t->state.best.step);
    return COHORT_OK;
}

/* final/: the last model, or with load_best_model_at_end that of the best evaluation. */
static cohort_status save_final(struct sft_run *run, cohort_error *err)
{
    struct training *t = &run->t;
    const int64_t best = t->state.best.step;
    if (!run->eval.keeps || best == 0 || best == t->state.step)
        return training_save_final(t, err);
    observer_message(t->observer, "final is the model of step %lld: its %s is the best, %.4f", (long long)best,
                     run->eval.metric, t->state.best.value);
    return training_save_final_of(t, best, err);
}

static cohort_status run_steps(struct sft_run *run, cohort_error *err)
{
    struct training *t = &run->t;
    run->sft.model = t->session.model;
    run->sft.runner = &run->runner;
    run->sft.optimizer = training_optimizer(t);
    run->sft.schedule = t->schedule;
    run->sft.skipped = t->state.skipped;
    run->sft.tokens_seen = t->state.tokens_seen;
    training_curve(t, "loss", run->held_out.n > 0 ? "eval_loss" : NULL, "SFT: loss", "loss.svg");
    cohort_status status = train(run, err);
    if (status != COHORT_OK) {
        training_rescue(t, &run->sft.optimizer);
        return status;
    }
    training_diagnosis_end(t);
    TRY(save_final(run, err));
    training_draw(t, DRAW_END);
    observer_message(t->observer, "done: %s/final is the trained %s, %s/loss.svg the curve", t->run.path,
                     t->session.adapter.there ? "adapter" : "model", t->run.path);
    return COHORT_OK;
}

cohort_status command_sft(struct options *options, const struct reward_list *extra, const cohort_observer *observer,
                          cohort_error *err)
{
    (void)extra;
    struct sft_run *run = NULL;
    cohort_status status = COHORT_OK;
    TRY(mem_alloc(&run, 1, sizeof *run, "run", err));
    TRY_GOTO(training_open(&run->t, options, "sft", observer, err));
    run->save_steps = options_int(options, OPTION_SAVE_STEPS);
    TRY_GOTO(read_batch(run, err));
    TRY_GOTO(read_evaluation(run, err));
    TRY_GOTO(read_loss(run, err));
    TRY_GOTO(load_data(run, err));
    run->t.steps = planned_steps(run);
    TRY_GOTO(training_plan_schedule(&run->t, err));
    TRY_GOTO(allocate(run, err));
    TRY_GOTO(training_begin(&run->t, err));
    TRY_GOTO(run_steps(run, err));
cleanup:
    training_end(&run->t, status, err);
    tree_runner_free(&run->runner);
    sft_rows_free(&run->train);
    sft_rows_free(&run->held_out);
    dataset_order_free(&run->order);
    for (size_t i = 0; i < run->room[0]; i++)
        sft_row_free(&run->batch[i]);
    sft_free(&run->sft);
    mem_free(run->batch);
    mem_free(run->trees);
    mem_free(run->completions);
    mem_free(run->weights);
    metrics_free(&run->metrics);
    training_close(&run->t);
    mem_free(run);
    return status;
}

/* cohort sft: supervised fine-tuning, loss on the completion. */
#include "command/command.h"
#include "recipe/data_open.h"
#include "recipe/end_of_text.h"
#include "recipe/routing_options.h"
#include "recipe/row_run.h"
#include "recipe/run_inputs.h"
#include "recipe/sft_rows.h"
#include "train/sft.h"

#include <stdio.h>

struct sft_run {
    struct row_run r;
    struct sft_rows train, held_out;
    struct sft sft;
    struct tree_runner runner;
    /* The rows in hand, of a step or of the evaluation, and the room for them. */
    struct sft_row *batch;
    struct tree *trees;
    struct completion_tokens *completions;
    double *weights;
    size_t n_batch, room[4];
};

static cohort_status load_data(struct sft_run *run, cohort_error *err)
{
    const struct options *o = run->r.t.options;
    const char *data = options_string(o, OPTION_DATA), *held_out = options_string(o, OPTION_EVAL_DATA);
    const int32_t context = run->r.t.session.model->max_context, most = (int32_t)options_int(o, OPTION_MAX_LENGTH);
    const int32_t length = most < context ? most : context;
    const struct sft_packing packing = {.on = options_bool(o, OPTION_PACKING),
                                        .strategy = (enum packing_strategy)options_choice(o, OPTION_PACKING_STRATEGY),
                                        .room = most},
                             none = {.on = false};
    if (data == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "no training rows given: pass --data FILE");
    TRY(sft_rows_load(&run->train, &run->r.t.session, OPTION_DATA, 0, length, &packing, o, run->r.t.observer, err));
    TRY(run_inputs_add(&run->r.t.inputs, INPUT_DATA, data, run->train.data.sha256, err));
    sft_rows_tell(&run->train, run->r.t.observer);
    if (held_out != NULL) {
        TRY(sft_rows_load(&run->held_out, &run->r.t.session, OPTION_EVAL_DATA,
                          (size_t)options_int_or(o, OPTION_EVAL_LIMIT, 0), length, &none, o, run->r.t.observer, err));
        TRY(run_inputs_add(&run->r.t.inputs, INPUT_EVAL_DATA, held_out, run->held_out.data.sha256, err));
        sft_rows_tell(&run->held_out, run->r.t.observer);
    }
    if (run->train.conversations)
        TRY(end_of_text_learned(&run->r.t.session, err));
    TRY(row_tell_template(&run->r.t.session, true, run->r.t.observer, err));
    return row_run_plan(&run->r, run->train.parts, run->train.data.n_parts, run->train.n_units, err);
}

static cohort_status read_loss(struct sft_run *run, cohort_error *err)
{
    const struct options *o = run->r.t.options;
    run->sft.loss = (enum sft_loss)options_choice(o, OPTION_LOSS_TYPE);
    run->sft.label_smoothing = options_float(o, OPTION_LABEL_SMOOTHING_FACTOR);
    run->sft.noise_alpha = options_float_or(o, OPTION_NEFTUNE_NOISE_ALPHA, 0.0);
    run->sft.seed = (uint64_t)options_int(o, OPTION_SEED);
    run->sft.dropout = run->r.t.session.adapter.settings.dropout;
    run->runner.extras = sft_extras(&run->sft);
    TRY(routing_options(&run->sft.routing, o, &run->r.t.session.model->config, err));
    if (run->sft.label_smoothing > 0.0 && run->sft.loss != SFT_LOSS_NLL)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "--label-smoothing-factor is of --loss-type nll alone: a smoothed label has no probability to "
                         "weigh its loss by");
    return COHORT_OK;
}

static cohort_status allocate(struct sft_run *run, cohort_error *err)
{
    struct training *t = &run->r.t;
    struct memory_plan plan = {0};
    const struct sft_rows *rows = &run->train;
    int32_t longest = rows->longest > run->held_out.longest ? rows->longest : run->held_out.longest;
    int64_t useful = run->r.batch_size * longest, completions = run->r.batch_size;
    if (rows->begin != NULL) { /* bins of many rows */
        enum { MOST_ROWS = 4096 /* of a micro-batch: more gain nothing */ };
        completions *= (int64_t)rows->most;
        completions = completions < MOST_ROWS ? completions : MOST_ROWS;
        useful = run->r.batch_size * options_int(t->options, OPTION_MAX_LENGTH);
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

static cohort_status held_out_metrics(void *context, struct metrics *metrics, cohort_error *err)
{
    struct sft_run *run = context;
    struct sft_figures figures;
    run->n_batch = 0;
    TRY(take_rows(run, &run->held_out, 0, run->held_out.n, err));
    const struct sft_batch batch = batch_of(run);
    TRY(sft_evaluate(&run->sft, &batch, &figures, err));
    metrics_set(metrics, "eval_loss", figures.loss);
    metrics_set(metrics, "eval_mean_token_accuracy", figures.accuracy);
    metrics_set(metrics, "eval_entropy", figures.entropy);
    return COHORT_OK;
}

static cohort_status one_step(void *context, const size_t *units, size_t n, struct metrics *metrics, cohort_error *err)
{
    struct sft_run *run = context;
    run->n_batch = 0;
    for (size_t i = 0; i < n; i++) {
        size_t first = 0;
        const size_t rows = sft_rows_unit(&run->train, units[i], &first);
        TRY(take_rows(run, &run->train, first, rows, err));
    }
    const struct sft_batch batch = batch_of(run);
    return sft_step(&run->sft, &batch, metrics, err);
}

static cohort_status run_steps(struct sft_run *run, cohort_error *err)
{
    run->sft.model = run->r.t.session.model;
    run->sft.runner = &run->runner;
    TRY(row_run_begin(&run->r,
                      &(struct row_trainer){.step = one_step,
                                            .evaluate = held_out_metrics,
                                            .context = run,
                                            .optimizer = &run->sft.optimizer,
                                            .schedule = &run->sft.schedule,
                                            .skipped = &run->sft.skipped,
                                            .tokens_seen = &run->sft.tokens_seen,
                                            .title = "SFT",
                                            .figure = "mean_token_accuracy",
                                            .figure_name = "token accuracy"},
                      err));
    return row_run_go(&run->r, err);
}

cohort_status command_sft(struct options *options, const struct reward_list *extra, const cohort_observer *observer,
                          cohort_error *err)
{
    (void)extra;
    struct sft_run *run = NULL;
    cohort_status status = COHORT_OK;
    TRY(mem_alloc(&run, 1, sizeof *run, "run", err));
    TRY_GOTO(row_run_open(&run->r, options, "sft", observer, err));
    TRY_GOTO(read_loss(run, err));
    TRY_GOTO(load_data(run, err));
    TRY_GOTO(allocate(run, err));
    TRY_GOTO(run_steps(run, err));
cleanup:
    training_end(&run->r.t, status, err);
    tree_runner_free(&run->runner);
    sft_rows_free(&run->train);
    sft_rows_free(&run->held_out);
    for (size_t i = 0; i < run->room[0]; i++)
        sft_row_free(&run->batch[i]);
    sft_free(&run->sft);
    mem_free(run->batch);
    mem_free(run->trees);
    mem_free(run->completions);
    mem_free(run->weights);
    row_run_close(&run->r);
    mem_free(run);
    return status;
}

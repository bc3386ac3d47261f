/* A run whose steps take rows of a data set: sft and the trainers of preferences. Here is what they share: which rows a step
 * takes, when it is evaluated, logged and saved, when it ends. What a step does with its rows is the command's (struct
 * row_trainer).
 *
 *     row_run_open     options are read, the model is opened; then the command loads its rows
 *     row_run_plan     how many rows there are: steps, order, schedule; then training_allocate by the command
 *     row_run_begin    the run folder is created or continued
 *     row_run_go       steps, evaluations, final/
 *     row_run_close    at any point */
#ifndef COHORT_RECIPE_ROW_RUN_H
#define COHORT_RECIPE_ROW_RUN_H

#include "recipe/best_model.h"

/* What a command does in a step, and where it keeps what checkpoints need of it. */
struct row_trainer {
    /* An optimizer step on these units of the training data. */
    cohort_status (*step)(void *context, const size_t *units, size_t n, struct metrics *metrics, cohort_error *err);
    /* Called once the step counts, before it is evaluated and saved; may be NULL. */
    void (*after_step)(void *context);
    /* The held-out figures; their names begin with "eval_". */
    cohort_status (*evaluate)(void *context, struct metrics *metrics, cohort_error *err);
    void *context;
    struct optimizer *optimizer;
    struct schedule *schedule;
    int64_t *skipped, *tokens_seen;
    const char *warning; /* why the last step was skipped, empty where the norm says it; NULL: the norm says it */
    const char *title;   /* "SFT" */
    const char *figure;  /* what a person is told of an evaluation beside the loss: a metric without "eval_" */
    const char *figure_name;
};

struct row_run {
    struct training t;
    struct dataset_order order;
    struct row_trainer trainer;
    size_t *units; /* [batch_size] of the step in hand */
    size_t n_units;
    bool held_out; /* there are held-out rows */
    int64_t batch_size, save_steps;
    struct {
        enum eval_strategy when;
        int64_t steps; /* EVAL_STEPS: every so many; 0: never */
    } eval;
    struct best_model best;
    struct metrics metrics; /* of the step */
};

/* *run is overwritten; close it also after a failure. Options used: those of training_open; batch_size,
 * per_device_train_batch_size, gradient_accumulation_steps, save_steps, eval_strategy, eval_steps, eval_data,
 * metric_for_best_model, greater_is_better, load_best_model_at_end, early_stopping_patience, early_stopping_threshold. */
cohort_status row_run_open(struct row_run *run, struct options *options, const char *command,
                           const cohort_observer *observer, cohort_error *err);
/* parts: of the units, n_units in all. Options used: those of data_order; steps, epochs; those of the schedule. */
cohort_status row_run_plan(struct row_run *run, const struct dataset_part *parts, size_t n_parts, size_t n_units,
                           cohort_error *err);
cohort_status row_run_begin(struct row_run *run, const struct row_trainer *trainer, cohort_error *err);
/* Options used: logging_steps. */
cohort_status row_run_go(struct row_run *run, cohort_error *err);
/* Says how it ended, before the command frees what its trainer points to, and then training_close. */
void row_run_close(struct row_run *run);

#endif

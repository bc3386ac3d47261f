/* What sft and grpo share: opening or resuming a run, the memory plan, checkpoints, the metrics
 * file.
 *
 * A run is at a step boundary between optimizer steps that end a batch; only there is a checkpoint
 * written (invariant I6). */
#ifndef COHORT_COMMAND_TRAINING_H
#define COHORT_COMMAND_TRAINING_H

#include "command/command.h"
#include "command/memory_plan.h"
#include "command/session.h"
#include "run/run_folder.h"
#include "train/metrics.h"
#include "train/optimizer.h"
#include "train/schedule.h"
#include "train/state.h"

struct training {
    struct options *options;
    const cohort_observer *observer;
    const char *command; /* "sft" or "grpo" */
    struct session session;
    struct run_folder run;
    struct train_state state;
    char *resume_dir;   /* checkpoint the run goes on from, or NULL */
    int64_t saved_step; /* of the newest checkpoint, -1 if none */
    int64_t steps;      /* planned */
    double started;
    int64_t started_step;
};

/* Resolves --resume, reads the run's config.yaml if it goes on without --config, opens model and
 * tokenizer; the weights are not read yet. */
cohort_status training_open(struct training *t, struct options *options, const char *command,
                            const cohort_observer *observer, cohort_error *err);
/* Once the plan is known: allocates optimizer state, restores it when resuming, creates or reopens
 * the run folder, writes config.yaml. */
cohort_status training_begin(struct training *t, cohort_error *err);
void training_close(struct training *t);

/* Completes the plan (memory_plan_choose) and prints it; only then reads the weights and allocates
 * the buffers. */
cohort_status training_allocate(struct training *t, struct memory_plan *plan, cohort_error *err);

struct optimizer training_optimizer(const struct training *t);
enum schedule_type training_schedule(const struct options *options);

/* Adds {"step", "epoch", ...} and writes the line. */
cohort_status training_log(struct training *t, int64_t step, double epoch,
                           const struct metrics *metrics, cohort_error *err);
/* checkpoints/step-N with everything; or final/ with the model alone. */
cohort_status training_save(struct training *t, const struct optimizer *optimizer,
                            cohort_error *err);
cohort_status training_save_final(struct training *t, cohort_error *err);
/* After a failed step: saves a checkpoint if the run stands at a boundary that none was written at,
 * and tells the observer how to go on. */
void training_rescue(struct training *t, const struct optimizer *optimizer);
/* "step 3/10 ..." progress from a trainer's callback. */
bool training_progress(struct training *t, const char *phase, int64_t done, int64_t total,
                       const char *unit, double per_second);

#endif

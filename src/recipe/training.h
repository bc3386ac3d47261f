/* What all that trains shares: opening or resuming a run, the memory plan, checkpoints, the metrics file.
 *
 * Checkpoints are written between optimizer steps (invariant I6). */
#ifndef COHORT_RECIPE_TRAINING_H
#define COHORT_RECIPE_TRAINING_H

#include "run/options.h"
#include "recipe/memory_plan.h"
#include "recipe/report_to.h"
#include "recipe/run_inputs.h"
#include "ranks/ranks.h"
#include "recipe/session.h"
#include "format/checkpoint.h"
#include "run/diagnosis.h"
#include "run/run_folder.h"
#include "run/steering.h"
#include "run/step_line.h"
#include "run/store.h"
#include "train/metrics.h"
#include "train/optimizer.h"
#include "train/schedule.h"
#include "train/state.h"
#include "train/step_plan.h"

enum { PACE_STEPS = 20 };

struct training {
    struct options *options;
    const cohort_observer *observer;
    const char *command; /* "sft", "grpo", "dpo" */
    struct ranks
        *ranks; /* that do the run together; rank 0 alone has what follows of folder, report, store, steering */
    const struct stop *stop; /* with several: looked at where all stand together, in place of options_stop */
    bool asks_stop;          /* likewise, of the observer */
    bool together;           /* all ranks end alike, between two steps */
    struct session session;
    struct run_folder run;
    struct report_to *report;  /* where metrics go beside the folder */
    struct store *store;       /* run.db; NULL before the run begins (record.h) */
    struct steering *steering; /* what the run is asked from outside; NULL: nobody can */
    double told;               /* the clock when it was last told where the run stands, */
    const char *told_phase;    /* and in which phase */
    const char *outcome;       /* how the run ended, for the store; static */
    char *why;                 /* why it failed; NULL: it did not */
    double evaluated;          /* seconds of the evaluation whose figures are logged next; negative: none */
    bool event_failed;         /* the user was told that an event could not be recorded */
    struct train_state state;
    char *resume_dir;                 /* checkpoint the run goes on from, or NULL */
    struct tokenizer_files tokenizer; /* as the run opened them: checkpoints are complete alone */
    int64_t saved_step;               /* of the newest checkpoint, -1 if none */
    double saved_at;                  /* end of the last save, or the run's begin; of the clock */
    double save_seconds;              /* for which the last save held the run up */
    struct save_beside *beside;       /* a checkpoint that is being written meanwhile; NULL: none */
    bool lines_lost;                  /* a step's metrics or completions could not be kept: it must be done again */
    bool again;                       /* --resume, but what stands in --out has no checkpoint yet: a new start */
    bool forked;                  /* it goes on from the checkpoint that cohort fork put there: options may differ */
    struct run_inputs inputs;     /* what this run reads: the command adds its own before training_begin */
    struct diagnosis_setup setup; /* what rules must know: the command fills in its own before training_begin */
    struct diagnosis *diagnosis;  /* whether it learns */
    bool diverged;                /* it will not recover */
    struct step_line lines;       /* what is shown of steps */
    struct pace {
        double last[PACE_STEPS], sum; /* seconds of steps since the run was opened */
        int64_t n;
    } pace;
    struct drawn_curve {
        const char *metric, *eval_metric, *title, *file; /* metric NULL: none yet */
        double drawn, cost;                              /* when last, and the seconds it took */
        bool failed;
    } curve;
    int64_t steps; /* planned */
    struct schedule schedule;
    struct step_plan plan; /* a batch a step, unless the command says otherwise after training_open */
    /* Writes what a command has in trainer/ beyond the state; may be NULL. */
    cohort_status (*write_more)(void *context, const char *dir, struct manifest *manifest, cohort_error *err);
    void *more_context;
    double started;
    int64_t started_step;
};

/* Resolves --resume ('latest' starts the run if there is no checkpoint yet), reads the run's config.yaml if it is
 * resumed without --config, and opens model and tokenizer; the weights are not read yet. */
cohort_status training_open(struct training *t, struct options *options, const char *command,
                            const cohort_observer *observer, cohort_error *err);
/* Called when the plan is known and t->steps and t->schedule are set: allocates optimizer state, restores it when resuming (and compares
 * what the run reads: run_identity_check), creates or reopens the run folder, writes config.yaml. */
cohort_status training_begin(struct training *t, cohort_error *err);
/* Says how the run ended, before it is closed: with COHORT_OK it is finished, with COHORT_ERR_CANCELLED stopped. */
void training_end(struct training *t, cohort_status status, const cohort_error *err);
void training_close(struct training *t);
/* In a child that was forked since: folder and store are its parent's. */
void training_leave(struct training *t);

/* Completes the plan (memory_plan_choose) and prints it; only then reads the weights and allocates the buffers. */
cohort_status training_allocate(struct training *t, struct memory_plan *plan, cohort_error *err);

struct optimizer training_optimizer(const struct training *t);
/* Called when t->steps is set (0: unknown), before anything large is read: t->schedule from the options. */
cohort_status training_plan_schedule(struct training *t, cohort_error *err);

/* ---- training_ranks.c ---- */

/* Whether this rank writes folder, record and messages. */
static inline bool training_writes(const struct training *t) { return ranks_rank(t->ranks) == 0; }
/* Called by training_open: number of lanes and what of the state is this rank's. dir: the checkpoint that the run goes on from,
 * or NULL. Options used: gradient_lanes, which gets its value, rank_timeout. */
cohort_status training_join(struct training *t, cohort_error *err);
/* Of all ranks at one place: whether none has failed (ranks_agree). With one rank: status. */
cohort_status training_agree(struct training *t, cohort_status status, cohort_error *err);
/* Whether all ranks have read the same: options, inputs, kernels. */
cohort_status training_compare(struct training *t, cohort_error *err);
/* A text or flag of rank 0 becomes everybody's. */
cohort_status training_share_text(struct training *t, char **text, cohort_error *err);
cohort_status training_share_flag(struct training *t, bool *flag, cohort_error *err);
cohort_status training_share_metrics(struct training *t, struct metrics *metrics, cohort_error *err);

/* ---- training_save.c ---- */

/* Takes the lock of the run folder, if there is a folder, and clears what a crash left in it. */
cohort_status training_lock(struct training *t, const char *out, cohort_error *err);
/* t->resume_dir = the newest checkpoint of the run, or NULL. */
cohort_status training_find_latest(struct training *t, const char *out, cohort_error *err);
/* Checks the checkpoint that is resumed from against its SHA256SUMS. Damage is an error that names the newest intact
 * checkpoint, which is used only if the user asks for it. */
cohort_status training_verify(struct training *t, const char *out, cohort_error *err);
/* Reopens the run folder at t->state.step; later checkpoints and metrics are moved away first. */
cohort_status training_continue(struct training *t, const char *out, const struct text *yaml, cohort_error *err);

/* Writes a line {"step", "epoch", ...} (without epoch if it is NaN) and tells the observer. */
cohort_status training_log(struct training *t, int64_t step, double epoch, const struct metrics *metrics,
                           cohort_error *err);
/* A run that resumes at a step whose evaluation failed or was stopped (the step's line lacks metric) still owes it: it
 * is run first and its figures are added to that line, so that the file equals that of an undisturbed run. */
cohort_status training_owes_evaluation(struct training *t, const char *metric, bool *owes, cohort_error *err);
cohort_status training_log_evaluation(struct training *t, const struct metrics *metrics, cohort_error *err);
/* Called after a step: writes checkpoints/step-N with everything if it is asked for or due by the clock (option
 * save_minutes). meanwhile: a rollout follows, which changes nothing that a checkpoint has, so that its tensors are written
 * by another thread, without a copy, until training_before_update. */
cohort_status training_save(struct training *t, const struct optimizer *optimizer, bool asked, bool meanwhile,
                            cohort_error *err);
/* Called before the next update: waits until all that it changes was read for the checkpoint that is being written, if
 * there is one. Its files are synced and named while the update runs. */
cohort_status training_before_update(struct training *t, cohort_error *err);
/* Waits until the checkpoint that is being written, if there is one, is whole: before a later step is logged. */
cohort_status training_settle(struct training *t, cohort_error *err);
/* Writes final/ with the model alone: that in memory, or that of the checkpoint of a step; and final-ema/ with the mean
 * of the weights up to now, if one is kept. */
cohort_status training_save_final(struct training *t, cohort_error *err);
cohort_status training_save_final_of(struct training *t, int64_t step, cohort_error *err);
/* Called after a failed step: saves a checkpoint if the run is at a boundary without one, and tells the observer how to
 * continue. */
void training_rescue(struct training *t, const struct optimizer *optimizer);
/* trainer/ of a checkpoint but for the tensors of the optimizer (in training.c). */
cohort_status training_write_trainer(struct training *t, const struct optimizer *optimizer, const char *dir,
                                     struct manifest *manifest, cohort_error *err);

/* Draws the picture of the run from metrics.jsonl: after a step if some seconds have passed since the last time, after
 * an evaluation, and at the end. Except for the last time, drawing takes at most a hundredth of the time. A drawing
 * that fails is reported once and stops nothing. */
enum draw_when { DRAW_STEP, DRAW_EVALUATION, DRAW_END };
void training_curve(struct training *t, const char *metric, const char *eval_metric, const char *title,
                    const char *file);
void training_draw(struct training *t, enum draw_when when);

/* ---- training_report.c ---- */

/* Called after each step that was logged: its line, as option log_format says, and what the diagnosis says to it
 * (training_diagnose), which it hears of whatever else fails. */
struct shown_step {
    double epoch;    /* NaN: unknown */
    bool line;       /* a line is due */
    bool evaluates;  /* the run has held-out rows */
    bool evaluation; /* as of training_diagnose */
};
cohort_status training_show(struct training *t, const struct shown_step *shown, const struct metrics *metrics,
                            cohort_error *err);
/* A warning as JSON beside the lines of steps, where these are JSON. */
cohort_status training_report_warning(struct training *t, const struct diagnosis_warning *warning, cohort_error *err);

/* ---- training_diagnosis.c ---- */

/* Called by training_begin: the diagnosis of a run that begins, or that of the checkpoint it goes on from. */
cohort_status training_diagnosis_begin(struct training *t, cohort_error *err);
/* Gives metrics of the last step, or those of an evaluation that was owed, to the diagnosis and tells its warnings.
 * evaluation: whether an evaluation was due by its number of steps, and not at the run's end alone. */
cohort_status training_diagnose(struct training *t, const struct metrics *metrics, bool evaluation, cohort_error *err);
/* COHORT_ERR_DIVERGED, where a warning said that the run will not recover and the run is to end then. */
cohort_status training_check(const struct training *t, cohort_error *err);
/* After the last step: warnings that a short run is due, and what was said in the course of it. */
void training_diagnosis_end(struct training *t);

/* ---- training_steer.c ---- */

/* Progress within the present step, which is set here: to the observer, and to whoever watches the run. False: stop. */
bool training_progress(struct training *t, const cohort_progress *progress);
/* Called when the run has begun: from now on it can be steered from outside (run/steering.h), if that can be had. Of the
 * commands alone: a program that embeds a trainer did not ask for a socket, nor to be paused by somebody else. */
void training_listen(struct training *t);
/* Called before each step: saves a checkpoint if that was asked for from outside, and waits while the run is to pause.
 * Nothing that a step computes depends on it. COHORT_ERR_CANCELLED: a stop was requested meanwhile; with several ranks also one
 * that was requested in the step before, which is where they look at it. */
cohort_status training_steer(struct training *t, const struct optimizer *optimizer, cohort_error *err);

#endif

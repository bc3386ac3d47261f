/* A run of dpo and the trainers like it: rows of preferences (preference_rows.h), steps of preference_step.h, the frozen
 * reference (run_reference.h), all else a run of rows (row_run.h). A command says what its loss is. */
#ifndef COHORT_RECIPE_PREFERENCE_RUN_H
#define COHORT_RECIPE_PREFERENCE_RUN_H

#include "recipe/preference_rows.h"
#include "recipe/row_run.h"
#include "recipe/run_reference.h"
#include "train/preference_step.h"

struct preference_run {
    struct row_run r;
    struct preference_rows train, held_out;
    struct preference p;
    struct tree_runner runner;
    struct run_reference reference;
    /* The rows in hand, of a step or of the evaluation, and the room for them. */
    struct preference_row *batch;
    struct tree *trees;
    struct completion_tokens *completions; /* two a row */
    struct preference_reference *scores;   /* of the reference, where they are known ahead */
    struct preference_row *others;         /* whose completions the prompts meet, where that is known ahead: KTO's KL */
    struct completion_tokens *mismatched;  /* their completions */
    bool *wanted;                          /* of single completions */
    double *margins;                       /* of a reward model */
    size_t n_batch, room[8];
    /* precompute_ref_log_probs: what the reference gave of every row before the first step. */
    bool precompute;
    struct preference_reference *known, *known_held_out; /* [train.n], [held_out.n] */
};

/* Reads the options of a command's loss into run->p.config, run->reference and run->precompute. */
typedef cohort_status preference_configure(struct preference_run *run, cohort_error *err);

/* Reads the options of a reference: sync_ref_model and its, precompute_ref_log_probs. none: there is no reference, by this
 * option (a string constant); NULL: there is one. */
cohort_status preference_run_reference(struct preference_run *run, const char *none, cohort_error *err);

/* The whole of a command. title: in the words of a person ("DPO"). Options used: those of row_run.h and preference_rows.h;
 * data, eval_data, eval_limit, max_length. */
cohort_status preference_run(struct options *options, const char *command, const char *title,
                             preference_configure *configure, const cohort_observer *observer, cohort_error *err);

#endif

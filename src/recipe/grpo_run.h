/* A GRPO run step by step, on which `cohort grpo` and the trainer of the API are built, and `cohort distill`, whose loss is
 * the divergence to a teacher. The owner decides which rows a batch takes and when the run ends.
 *
 *     grpo_run_open        options and rewards are read, the model is opened
 *     grpo_run_room        how long a prompt may be, for the code that loads data
 *     grpo_run_begin       memory planned and taken, weights read, run folder created or continued
 *     grpo_run_start       what comes before the first batch
 *     grpo_run_draw        completions of a batch, as long as grpo_run_wants one (or grpo_run_rollout), then
 *     grpo_run_update      their rewards, the optimizer step, the log, evaluation and checkpoint that are due
 *     grpo_run_finish      final/
 *     grpo_run_rescue      in place of it, after a failure
 *     grpo_run_close       at any point */
#ifndef COHORT_RECIPE_GRPO_RUN_H
#define COHORT_RECIPE_GRPO_RUN_H

#include "recipe/best_model.h"
#include "recipe/episodes.h"
#include "recipe/row_masks.h"
#include "recipe/evaluation_sets.h"
#include "recipe/run_reference.h"
#include "recipe/run_teacher.h"

/* What the code that knows where the rows come from tells grpo_run_begin. */
struct grpo_extent {
    int32_t max_prompt; /* tokens of the longest prompt */
    int64_t rows;       /* of an epoch; 0: unknown, and metrics have no epoch */
    int64_t steps;      /* optimizer steps planned; 0: no end, and the rate is constant */
    bool lends;         /* between batches the engine takes requests of any kind: a batch is done as a whole */
};

/* A batch that was drawn and of which a later step will take something. */
struct live_batch {
    struct grpo_batch batch;
    /* What was asked, for rewards and logs; nothing of it after a resume. */
    struct prompt_set *set; /* borrowed */
    size_t *rows;           /* [n_asked] of set */
    struct prompt *asked;   /* [n_asked] these rows */
    int32_t n_asked;
    int64_t cursor_end;       /* prompts of the data that were drawn up to and with it */
    struct row_masks **masks; /* [n_masks] of its prompts, with guided_logprob masked; else NULL */
    int32_t n_masks;
    struct scoring *scoring; /* borrowed; keeps what rewards added to its completions. NULL: nothing was asked here */
};
void live_batch_free(struct live_batch *live);
struct prompt_batch live_batch_prompts(const struct live_batch *live);
struct grpo_run;
/* Gives prompt number p of a batch, for training, what guided its completions, made of text. */
cohort_status live_batch_guide(const struct grpo_run *run, struct live_batch *live, int32_t p,
                               struct grpo_prompt *prompt, struct guide *guide, const struct text *text,
                               cohort_error *err);

/* Where a run takes its prompts from. */
struct grpo_source {
    struct prompt_set *set;
    /* The row of draw number i of the data, from 0, and what keys its draws (rng_stream of row and epoch). */
    cohort_status (*prompt)(void *context, uint64_t i, size_t *row, uint64_t *id, cohort_error *err);
    void *context;
};

struct grpo_run {
    struct training t;
    struct episodes episodes;
    struct scoring scoring;
    struct row_guides guides;
    struct evaluation_sets held_out;
    struct evaluation_judge judge;
    bool has_held_out;
    struct grpo grpo;
    struct run_reference reference; /* with a KL in the loss or in the reward */
    bool distills;
    struct run_teacher teacher; /* of a run that distills */
    struct metrics *measured;   /* that an evaluation adds the divergence of its sets to, while it goes on */
    struct tree_runner runner;
    struct engine *engine;
    struct engine_request pattern; /* of every completion */
    struct grpo_extent extent;
    int32_t prompts_per_step, eval_n;
    struct {
        bool on;
        int32_t refills;   /* at most */
        double oversample; /* prompts drawn for each that is wanted */
    } dynamic;             /* sampling */
    int64_t prompts_drawn; /* of the data, by the batches that steps took from */
    int32_t *longest;      /* [extent.rows] tokens of the longest completion of a row's last group; NULL: not kept */
    int64_t save_steps, eval_steps;
    struct best_model best;  /* by evaluations every eval_steps */
    bool started;            /* grpo_run_start is done */
    struct live_batch *live; /* [n_live] in the order of their draws; room for what one step takes from */
    int32_t n_live;
    const struct live_batch *scored; /* the one that rewards are asked for */
    double phase_start;
    const char *phase;
};

/* command: grpo, rloo or distill, whose options they are. options and observer are borrowed, and extra's rewards. *run is overwritten; close it also after a failure. */
cohort_status grpo_run_open(struct grpo_run *run, struct options *options, const char *command,
                            const struct reward_list *extra, const cohort_observer *observer, cohort_error *err);
/* grpo_options.c, called by grpo_run_open: run->grpo's configuration. Defaults that depend on other options become values
 * that were given, so that config.yaml has them. */
cohort_status grpo_run_configure(struct grpo_run *run, cohort_error *err);
/* Tokens that the longest prompt may have. COHORT_ERR_ARGUMENT where the completion leaves none. */
cohort_status grpo_run_room(const struct grpo_run *run, int32_t *room, cohort_error *err);
/* Before this call the owner adds to run->t.inputs what else the run reads. */
cohort_status grpo_run_begin(struct grpo_run *run, const struct grpo_extent *extent, cohort_error *err);
/* Runs the evaluation of step 0, once; the first rollout calls it too. */
cohort_status grpo_run_start(struct grpo_run *run, cohort_error *err);
/* Says to rewards how far the run is; it stands until the next batch is drawn or the next evaluation begins. */
void grpo_run_tell_progress(struct grpo_run *run);
/* Whether the next step takes from a batch that was not drawn yet. */
bool grpo_run_wants(const struct grpo_run *run);
/* The number of the batch that is drawn next. */
int64_t grpo_run_next(const struct grpo_run *run);
/* Draws the next batch from the data, with dynamic sampling from as many prompts as it takes. After a failure nothing was
 * drawn. */
cohort_status grpo_run_draw(struct grpo_run *run, const struct grpo_source *source, cohort_error *err);
/* Prompts of the data that were drawn. */
int64_t grpo_run_cursor(const struct grpo_run *run);
/* Draws the next batch from rows that the owner chose. ids[n] keys the draws of one prompt apart from those of others in this and any other batch
 * (rng_stream of row and epoch). n is at most prompts_per_step. set must stay until the update. */
cohort_status grpo_run_rollout(struct grpo_run *run, struct prompt_set *set, const size_t *rows, const uint64_t *ids,
                               int32_t n, cohort_error *err);
/* Forgets batches that no step took from: the same rows draw the same completions again. */
void grpo_run_discard(struct grpo_run *run);
/* The batch that was drawn last, NULL where nothing of one is left; and its prompts. */
const struct grpo_batch *grpo_run_batch(const struct grpo_run *run);
struct prompt_batch grpo_run_prompts(const struct grpo_run *run);
/* The next step, or, with lends, all of a batch's. After a failure before the weights changed the batch is kept;
 * t.state.step tells whether they changed, and grpo_run_whole whether no batch is half done. */
cohort_status grpo_run_update(struct grpo_run *run, cohort_error *err);
bool grpo_run_whole(const struct grpo_run *run);
/* Whether the run is done: all steps that were planned, or early by its evaluations. */
bool grpo_run_ends(const struct grpo_run *run);
cohort_status grpo_run_finish(struct grpo_run *run, cohort_error *err);
void grpo_run_rescue(struct grpo_run *run);
void grpo_run_close(struct grpo_run *run);

#endif

/* A GRPO run step by step: what `cohort grpo` and the trainer of the API are made of. Its owner says which rows a batch
 * takes, and when the run ends.
 *
 *     grpo_run_open        options and rewards are read, the model is opened
 *     grpo_run_room        how long a prompt may be, for who loads data
 *     grpo_run_begin       memory planned and taken, weights read, run folder made or gone on with
 *     grpo_run_start       what comes before the first batch
 *     grpo_run_rollout     completions of a batch, then
 *     grpo_run_update      their rewards, the optimizer steps, the log, evaluation and checkpoint that are due
 *     grpo_run_finish      final/
 *     grpo_run_rescue      in place of it, after a failure
 *     grpo_run_close       at any point */
#ifndef COHORT_RECIPE_GRPO_RUN_H
#define COHORT_RECIPE_GRPO_RUN_H

#include "recipe/scoring.h"
#include "recipe/training.h"

/* What grpo_run_begin is told by who knows where the rows come from. */
struct grpo_extent {
    int32_t max_prompt; /* tokens of the longest prompt */
    int64_t rows;       /* of an epoch; 0: unknown, and metrics have no epoch */
    int64_t steps;      /* optimizer steps planned; 0: no end, and the rate is constant */
    bool lends;         /* between steps the engine takes requests of any kind */
};

struct grpo_run {
    struct training t;
    struct scoring scoring;
    struct prompt_set held_out;
    bool has_held_out;
    struct grpo grpo;
    struct tree_runner runner;
    struct engine *engine;
    struct engine_request pattern; /* of every completion */
    struct grpo_extent extent;
    int32_t prompts_per_step, eval_n;
    int64_t save_steps, eval_steps;
    bool started; /* grpo_run_start is done */
    /* The batch in hand, between grpo_run_rollout and grpo_run_update. */
    struct prompt_set *set;      /* borrowed */
    size_t *rows;                /* [prompts_per_step] of set */
    struct prompt *asked;        /* [prompts_per_step] these rows */
    struct grpo_prompt *prompts; /* [prompts_per_step] */
    struct grpo_batch batch;     /* n 0: none */
    struct metrics *metrics;     /* [num_iterations] */
    double phase_start;
    const char *phase;
};

/* options and observer are borrowed, and extra's rewards. *run is overwritten; close it also after a failure. */
cohort_status grpo_run_open(struct grpo_run *run, struct options *options, const struct reward_list *extra,
                            const cohort_observer *observer, cohort_error *err);
/* Tokens that the longest prompt may have. COHORT_ERR_ARGUMENT where the completion leaves none. */
cohort_status grpo_run_room(const struct grpo_run *run, int32_t *room, cohort_error *err);
/* Before it the owner adds to run->t.inputs what else the run reads. */
cohort_status grpo_run_begin(struct grpo_run *run, const struct grpo_extent *extent, cohort_error *err);
/* The evaluation of step 0; once, also by the first rollout. */
cohort_status grpo_run_start(struct grpo_run *run, cohort_error *err);
/* ids[n] tells the draws of one prompt apart from those of others in this and any other batch (rng_stream of row and
 * epoch). n: at most prompts_per_step. set must stay until the update. Of a batch that was in hand nothing is left:
 * the same rows draw the same completions again. */
cohort_status grpo_run_rollout(struct grpo_run *run, struct prompt_set *set, const size_t *rows, const uint64_t *ids,
                               int32_t n, cohort_error *err);
/* The prompts of the batch in hand, for as long as it is. */
struct prompt_batch grpo_run_prompts(const struct grpo_run *run);
/* After a failure before the weights changed the batch is still in hand; t.state.step tells whether they did, and
 * grpo_run_whole whether all of a batch's steps were done. */
cohort_status grpo_run_update(struct grpo_run *run, cohort_error *err);
bool grpo_run_whole(const struct grpo_run *run);
cohort_status grpo_run_finish(struct grpo_run *run, cohort_error *err);
void grpo_run_rescue(struct grpo_run *run);
void grpo_run_close(struct grpo_run *run);

#endif

/* GRPO generation batches (rollout, rewards, advantages) and the optimizer steps on them. It knows nothing of files.
 *
 * The log-probs that the rollout recorded are the old log-probs (invariant I2): no pass computes them again, and before
 * the first update since the draw the ratio is exactly 1. Every such step records the largest difference between the
 * two: it is 0. */
#ifndef COHORT_TRAIN_GRPO_H
#define COHORT_TRAIN_GRPO_H

#include "backend/sampling.h"
#include "model/teacher.h"
#include "rollout/engine.h"
#include "train/advantage.h"
#include "train/entropy.h"
#include "train/episode.h"
#include "train/loss.h"
#include "train/metrics.h"
#include "train/optimizer.h"
#include "train/routing.h"
#include "train/schedule.h"
#include "train/step_plan.h"

struct grpo_config {
    int32_t group; /* completions a prompt */
    int32_t max_completion_length;
    struct step_plan plan;
    struct sampling_params sampling; /* temperature > 0 */
    uint64_t seed;
    struct loss_config loss;
    struct advantage_config advantage;
    double reward_beta; /* weight of the KL that is taken from the reward (loss.beta is then 0); 0: none */
    bool mask_truncated;
    bool filter_entropy;         /* only the most uncertain tokens have a policy term: */
    double top_entropy_quantile; /* this share of them */
    const char *const *stop;
    int32_t n_stop;
    int32_t n_choosable;
    struct schedule schedule;
    const double *reward_weights;    /* [n_functions] */
    const char *const *reward_names; /* [n_functions] */
    int32_t n_functions;
    int32_t route_width,
        n_experts; /* what later steps take the routes of, where they do (ROUTER_REPLAY_ROLLOUT); else 0 */
};

/* A prompt of the batch; id (its row in the data set) keys its draws apart from those of other prompts. */
struct grpo_prompt {
    const int32_t *tokens;
    int32_t n_tokens;
    int32_t expected; /* tokens of its longest completion, as far as one knows: who needs longest begins first */
    uint64_t id;
    const struct constraint *constraints; /* [group] of its completions, until they are drawn; NULL: none */
    const struct mask_replay *masks;      /* what they allowed, for training on the constrained distribution; NULL: the
                                        model's. Not the batch's: it must stay as long as that */
};

/* Scores the batch: rewards[n, n_functions], NaN for null; lists[n, n_functions] of NULLs get what is rewards of tokens
 * (reward_score_lists). The completions of a prompt are consecutive. */
typedef cohort_status grpo_reward(void *context, const struct completion *completions, int32_t n, double *rewards,
                                  double **lists, cohort_error *err);
/* Called while work goes on: phase is "rollout", "reward", "train"; done of total tokens, and in a rollout how many
 * completions have ended of those that were begun. Returns false to stop (COHORT_ERR_CANCELLED). */
struct grpo_at {
    const char *phase;
    int64_t done, total, ended, begun;
};
typedef bool grpo_progress(void *context, const struct grpo_at *at);

/* Told, while a rollout goes on, that all completions of a prompt are there: group[n]. */
typedef cohort_status grpo_arrived(void *context, int32_t prompt, const struct completion *group, cohort_error *err);

/* What answers the turns of a rollout's completions (recipe/episodes.h). */
struct rollout_turns {
    void *context;
    /* The model's turn of a completion of this prompt ended. */
    cohort_status (*turn)(void *context, int32_t prompt, const struct engine_turn *turn, cohort_error *err);
    /* Hands the answers that are there to the engine; where idle, nothing else is to be done, it waits a little. */
    cohort_status (*answer)(void *context, struct engine *engine, bool idle, cohort_error *err);
    /* The completion lies where it stays until its episode is over, which may come later. */
    cohort_status (*ended)(void *context, int32_t prompt, struct completion *completion, cohort_error *err);
    /* A completion whose episode is over, each once; false: none at the moment. */
    bool (*over)(void *context, int32_t *prompt);
};

struct grpo {
    struct model *model;
    /* NULL without KL. It may be model itself, which then wears reference_adapter while it scores: NULL, its base, or the
     * adapter that the run began with. */
    struct model *reference;
    const struct model_adapter *reference_adapter;
    struct teacher *teacher; /* distillation: the loss of a token is the divergence to this one, and rewards are only
                                measured; there may be none. NULL: they are what is learned from */
    struct engine *engine;
    struct ranks *ranks; /* that draw together; NULL: one */
    struct tree_runner *runner;
    struct optimizer optimizer;
    struct entropy_control entropy; /* of the entropy bonus */
    struct routing routing;         /* of a model with experts; free it with routing_free */
    struct grpo_config config;
    int64_t batches;     /* generation batches that steps took from */
    int64_t skipped;     /* optimizer steps skipped because a gradient was not finite */
    char warning[400];   /* why the last step was skipped; empty if it was not */
    int64_t tokens_seen; /* prompt and completion tokens generated */
    grpo_reward *reward;
    void *reward_context;
    grpo_progress *progress; /* may be NULL */
    void *progress_context;
    grpo_arrived *arrived; /* may be NULL */
    void *arrived_context;
    const struct rollout_turns *turns; /* NULL: completions have one turn */
};

/* What a batch produced: valid until grpo_batch_free. */
struct grpo_batch {
    int64_t index;                  /* batches are counted from 0; keys the draws */
    int64_t drawn_at;               /* optimizer steps that were done before it was drawn */
    struct grpo_prompt *prompts;    /* [n_prompts] */
    int32_t *prompt_tokens;         /* of all prompts */
    int32_t *order;                 /* [n] rows in the order in which slices take them */
    int32_t n_prompts, n;           /* n = n_prompts * group */
    int32_t route_width;            /* of the episodes' routes, where checkpoints need them; else 0 */
    int32_t n_functions;            /* of its rewards */
    int32_t *n_sampled;             /* [n] of the episodes */
    struct completion *completions; /* [n] as they came from the engine: for rewards and logs */
    struct episode *episodes;       /* [n] what is trained */
    double *rewards;                /* [n, n_functions] */
    double **reward_lists;          /* [n, n_functions] rewards of tokens, or NULL in its place; NULL: there are none */
    float *reward;                  /* [n] weighted sum */
    float *advantage;               /* [n] */
    float **token_advantages;       /* [n][n_sampled] where there are rewards of tokens; else NULL */
    float **reference;              /* [n] log-probs of the reference for the sampled tokens; NULL: not yet computed */
    /* Of everything that was drawn for it: prompt and completion tokens of each completion, the latter alone, seconds. */
    int64_t tokens, completion_tokens;
    double rollout_seconds, reward_seconds;
    struct text *guides; /* [n_prompts] what masks were made of, of a batch that was read (batch_file.h); else NULL */
    struct metrics metrics; /* of draw and rewards, once it is scored */
    bool rewarded, scored;
    double start; /* of the clock */
};
void grpo_batch_free(struct grpo_batch *batch);

/* A completion in an optimizer step. */
struct grpo_row {
    const struct grpo_prompt *prompt;
    const struct episode *episode;
    const float *reference; /* log-probs of the reference for the sampled tokens; NULL: not yet computed */
    float advantage;
    const float *token_advantages; /* of the sampled tokens, in place of advantage; NULL: none */
    int64_t batch_index;
    int32_t prompt_index, completion; /* in its batch, in its group */
    bool fresh;                       /* no update since the draw: the ratio is 1 */
};

/* Optimizer steps tried. */
int64_t grpo_steps(const struct grpo *grpo);

/* The completions of a batch, whose draws depend on index. After a failure *batch is empty and what was in flight is
 * abandoned: it does not appear in a later rollout of the engine. */
cohort_status grpo_generate(struct grpo *grpo, const struct grpo_prompt *prompts, int32_t n_prompts, int64_t index,
                            struct grpo_batch *batch, cohort_error *err);
/* The rewards alone; nothing where they are there. */
cohort_status grpo_reward_batch(struct grpo *grpo, struct grpo_batch *batch, cohort_error *err);
/* A group of a batch. */
struct grpo_pick {
    struct grpo_batch *from; /* rewarded, not scored */
    int32_t group;
};
/* One batch of groups of several that were drawn for it: what they hold moves to *batch. all: everything that was drawn,
 * the first draw first. After a failure nothing has moved. */
cohort_status grpo_batch_pick(const struct grpo *grpo, const struct grpo_pick *picks, int32_t n_picks,
                              struct grpo_batch *const *all, int32_t n_all, struct grpo_batch *batch,
                              cohort_error *err);
/* Whether a group of a batch teaches anything by its rewards (advantage_spreads). */
bool grpo_group_spreads(const struct grpo *grpo, const struct grpo_batch *batch, int32_t group);
/* Its rewards, advantages and, where more than one step needs them, log-probs of the reference. Nothing where it is
 * scored already; a failure has changed nothing, and the call can be made again. */
cohort_status grpo_score(struct grpo *grpo, struct grpo_batch *batch, cohort_error *err);
/* The next optimizer step of the plan. batches: those that it takes from, scored, in order, the first one and the last
 * one not without need. A failure has changed nothing. */
cohort_status grpo_advance(struct grpo *grpo, struct grpo_batch *batches, int32_t n_batches, struct metrics *metrics,
                           cohort_error *err);
/* The mean divergence to the teacher of the sampled tokens of completions of prompts, n of each, and their mean entropy;
 * NaN where there are no tokens. Completions that their environment lost are left out. */
struct grpo_divergence {
    double loss, entropy;
};
cohort_status grpo_measure(struct grpo *grpo, const struct grpo_prompt *prompts, int32_t n_prompts, int32_t n,
                           const struct completion *completions, struct grpo_divergence *out, cohort_error *err);
/* All three, where a step is one batch; after a failure *batch is empty. */
cohort_status grpo_step(struct grpo *grpo, const struct grpo_prompt *prompts, int32_t n_prompts,
                        struct grpo_batch *batch, struct metrics *metrics, cohort_error *err);

/* Which prompts of a rollout this rank draws of (ranks NULL: all), by the lengths that are expected: mine[n]. */
cohort_status grpo_rollout_deal(const struct ranks *ranks, const int32_t *expected, int32_t n, bool *mine,
                                cohort_error *err);
/* The rollout alone: fills completions[n_prompts * n] in order. With ranks (NULL: one) each draws some of the prompts' and all
 * get everything; arrived is then not told. batch_index separates the draws of batches. Completions of another kind must not be
 * in flight. progress, arrived and turns may be NULL; with turns pattern->turns is set. After a
 * failure its own requests are cancelled: they leave the engine at its next step. */
cohort_status grpo_rollout(struct engine *engine, struct ranks *ranks, const struct grpo_prompt *prompts,
                           int32_t n_prompts, int32_t n, const struct engine_request *pattern, uint64_t batch_index,
                           struct completion *completions, grpo_progress *progress, void *progress_context,
                           grpo_arrived *arrived, void *arrived_context, const struct rollout_turns *turns,
                           cohort_error *err);

/* An optimizer step on rows, those of one prompt consecutive. */
cohort_status grpo_train(struct grpo *grpo, const struct grpo_row *rows, int32_t n, struct metrics *metrics,
                         cohort_error *err);
/* An optimizer step on given episodes (the parity tests replay fixed ones): n = n_prompts * group rows. logp
 * of an episode may be NULL in iteration 0 (nothing to compare with, ratio 1). */
cohort_status grpo_update(struct grpo *grpo, const struct grpo_prompt *prompts, int32_t n_prompts,
                          struct grpo_batch *batch, int32_t iteration, struct metrics *metrics, cohort_error *err);

#endif

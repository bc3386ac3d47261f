/* One GRPO generation batch: rollout, rewards, advantages, and num_iterations optimizer steps on it. It knows nothing
 * of files.
 *
 * The log-probs that the rollout recorded are the old log-probs (invariant I2): no pass computes them again, and in the
 * first iteration the ratio is exactly 1. Every step records the largest difference between the two: it is 0. */
#ifndef COHORT_TRAIN_GRPO_H
#define COHORT_TRAIN_GRPO_H

#include "backend/sampling.h"
#include "model/packing.h"
#include "rollout/engine.h"
#include "train/advantage.h"
#include "train/entropy.h"
#include "train/episode.h"
#include "train/loss.h"
#include "train/metrics.h"
#include "train/optimizer.h"
#include "train/schedule.h"

struct grpo_config {
    int32_t group; /* completions a prompt */
    int32_t max_completion_length;
    int32_t num_iterations;
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
};

/* A prompt of the batch; id (its row in the data set) keys its draws apart from those of other prompts. */
struct grpo_prompt {
    const int32_t *tokens;
    int32_t n_tokens;
    uint64_t id;
};

/* Scores the batch: rewards[n, n_functions], NaN for null; the completions of a prompt are consecutive. */
typedef cohort_status grpo_reward(void *context, const struct completion *completions, int32_t n, double *rewards,
                                  cohort_error *err);
/* Called while work goes on: phase is "rollout", "reward", "train"; done of total tokens. Returns false to stop
 * (COHORT_ERR_CANCELLED). */
typedef bool grpo_progress(void *context, const char *phase, int64_t done, int64_t total);

/* Told, while a rollout goes on, that all completions of a prompt are there: group[n]. */
typedef cohort_status grpo_arrived(void *context, int32_t prompt, const struct completion *group, cohort_error *err);

struct grpo {
    struct model *model;
    struct model *reference; /* NULL without KL */
    struct engine *engine;
    struct tree_runner *runner;
    struct optimizer optimizer;
    struct entropy_control entropy; /* of the entropy bonus */
    struct grpo_config config;
    int64_t batches;     /* generation batches done */
    int64_t skipped;     /* optimizer steps skipped because a gradient was not finite */
    char warning[400];   /* why the last step was skipped; empty if it was not */
    int64_t tokens_seen; /* prompt and completion tokens generated */
    grpo_reward *reward;
    void *reward_context;
    grpo_progress *progress; /* may be NULL */
    void *progress_context;
    grpo_arrived *arrived; /* may be NULL */
    void *arrived_context;
};

/* What a batch produced, for logs: valid until grpo_batch_free. */
struct grpo_batch {
    int32_t n_prompts, n;           /* n = n_prompts * group */
    struct completion *completions; /* [n] as they came from the engine: for rewards and logs */
    struct episode *episodes;       /* [n] what is trained */
    double *rewards;                /* [n, n_functions] */
    float *reward;                  /* [n] weighted sum */
    float *advantage;               /* [n] */
    float **reference;              /* [n] log-probs of the reference for the sampled tokens; NULL: not yet computed */
    double start, rollout_end;      /* of the clock */
};
void grpo_batch_free(struct grpo_batch *batch);

/* The first half of a step: the completions of a batch, whose draws depend on grpo->batches. After a failure *batch is
 * empty and what was in flight is abandoned: it does not appear in a later rollout of the engine. */
cohort_status grpo_generate(struct grpo *grpo, const struct grpo_prompt *prompts, int32_t n_prompts,
                            struct grpo_batch *batch, cohort_error *err);
/* The second half: rewards, advantages and the optimizer steps on a batch of these prompts. metrics: [num_iterations],
 * empty, one for each optimizer step. The batch stays the caller's to free; a failure before the first update has
 * changed nothing, and the half can be done again. */
cohort_status grpo_learn(struct grpo *grpo, const struct grpo_prompt *prompts, struct grpo_batch *batch,
                         struct metrics *metrics, cohort_error *err);
/* Both halves; after a failure *batch is empty. */
cohort_status grpo_step(struct grpo *grpo, const struct grpo_prompt *prompts, int32_t n_prompts,
                        struct grpo_batch *batch, struct metrics *metrics, cohort_error *err);

/* The rollout alone: fills completions[n_prompts * n] in order. batch_index separates the draws of batches. Completions
 * of another kind must not be in flight. progress and arrived may be NULL. After a failure its own requests are
 * cancelled: they leave the engine at its next step. */
cohort_status grpo_rollout(struct engine *engine, const struct grpo_prompt *prompts, int32_t n_prompts, int32_t n,
                           const struct engine_request *pattern, uint64_t batch_index, struct completion *completions,
                           grpo_progress *progress, void *progress_context, grpo_arrived *arrived,
                           void *arrived_context, cohort_error *err);

/* The training half of a step on given episodes (the parity tests replay fixed ones): n = n_prompts * group rows. logp
 * of an episode may be NULL in iteration 0 (nothing to compare with, ratio 1). */
cohort_status grpo_update(struct grpo *grpo, const struct grpo_prompt *prompts, int32_t n_prompts,
                          struct grpo_batch *batch, int32_t iteration, struct metrics *metrics, cohort_error *err);

#endif

/* Rewards that models give (reward: model:DIR): a sequence classifier of one label scores the conversation of prompt and
 * completion, rendered by its own chat template and encoded by its own tokenizer, or of a text prompt both texts joined, as
 * TRL's GRPOTrainer does with a model among its rewards. A score is a function of the conversation and the weights, with the
 * same bits in any batch (I2); completions of a prompt share what they begin with.
 *
 *     reward_models_add       a folder is named, at first
 *     reward_models_open      shapes, tokenizers, templates: sizes are known
 *     reward_models_plan      takes buffers of an arena, which other phases may share
 *     reward_models_read      weights
 *     reward_model_score      scores; then reward_models_close */
#ifndef COHORT_RECIPE_REWARD_MODEL_H
#define COHORT_RECIPE_REWARD_MODEL_H

#include "recipe/row_prompt.h"
#include "recipe/run_inputs.h"
#include "reward/reward.h"

struct reward_model {
    char *dir;
    struct session session; /* its model, tokenizer and template; the backend is the command's */
    struct tree_runner runner;
    struct row_style style;
    const struct token_list *markers; /* of turns, the template's: no text of a model becomes one; NULL: not known */
    int64_t max_tokens;               /* of a pass, and of a sequence that is scored */
    const cohort_observer *observer;  /* told the first time that a sequence is longer; NULL: nobody */
    size_t n_long;                    /* such sequences so far */
};

/* Those of a command. Zero-initialise. */
struct reward_models {
    struct reward_model **items;
    size_t n, capacity;
    struct arena arena; /* of reward_models_own */
};
/* *out is for reward_model_score, and stays. */
cohort_status reward_models_add(struct reward_models *models, const char *dir, struct reward_model **out,
                                cohort_error *err);
/* longest: tokens of a prompt and a completion where they come from; sequences of up to twice as many in the models' own
 * tokens can be scored, or of one pass, but none beyond a model's context. Options used: dtype; those of row_style with
 * style. */
cohort_status reward_models_open(struct reward_models *models, struct backend *backend, const struct options *options,
                                 bool style, int64_t longest, const cohort_observer *observer, cohort_error *err);
/* Bytes that weights take; what the backend's operations come to hold beside buffers. */
size_t reward_models_bytes(const struct reward_models *models);
size_t reward_models_working_bytes(const struct reward_models *models);
/* Takes the buffers of the largest: called twice, to measure and then to allocate. */
cohort_status reward_models_plan(struct reward_models *models, struct arena *arena, cohort_error *err);
/* inputs: NULL, or gets the files, by hash. */
cohort_status reward_models_read(struct reward_models *models, struct run_inputs *inputs, cohort_error *err);
/* Reads them and allocates buffers of their own, for commands without a plan. *bytes gets what that takes; more than limit is
 * COHORT_ERR_MEMORY. */
cohort_status reward_models_own(struct reward_models *models, size_t limit, size_t *bytes, cohort_error *err);
void reward_models_close(struct reward_models *models);

/* A reward_callback; context is a model that was read. A sequence that is too long, or has no tokens, gets no reward. */
cohort_status reward_model_score(void *context, const struct reward_row *rows, size_t n_rows, double *rewards,
                                 double **lists, struct reward_log *log, cohort_error *err);

#endif

/* What a rollout produced behind a prompt: tokens that the model sampled, and tokens that came from outside (the answer
 * of a tool, the next turn of a user), in any order. A completion is an episode with one sampled run.
 *
 * Only sampled tokens are trained: they alone enter the head, the loss and its denominators (invariant I10). What came
 * from outside is context. Ids stay what they were from the draw to the update (invariant I4). */
#ifndef COHORT_TRAIN_EPISODE_H
#define COHORT_TRAIN_EPISODE_H

#include "model/packing.h"
#include "rollout/completion.h"

/* Zero-initialise it; episode_free frees what the functions below make. */
struct episode {
    int32_t *tokens;       /* [n_tokens] behind the prompt */
    bool *sampled;         /* [n_tokens]; NULL: all were */
    float *logp, *entropy; /* [n_sampled] of the sampled tokens in order, as recorded with the draw; NULL: not
                                      known */
    uint16_t *routes;      /* of the prompt and of all tokens but the last (struct completion's); NULL: not known */
    int32_t n_tokens, n_sampled;
    enum finish_reason finish_reason; /* of the last sampled run */
    size_t token_capacity, sampled_capacity;
};
/* Appends a sampled run with its log-probs and entropies, or the runs of a completion with turns and what stands between
 * them. */
cohort_status episode_append_completion(struct episode *episode, const struct completion *completion,
                                        cohort_error *err);
/* Appends a run from outside. */
cohort_status episode_append_outside(struct episode *episode, const int32_t *tokens, int32_t n, cohort_error *err);
void episode_free(struct episode *episode);

/* Whether it was ended by its length or from outside, not by the model. */
bool episode_truncated(const struct episode *episode);
/* The episode as a branch of its prompt's tree, which points into the episode. */
struct completion_tokens episode_tokens(const struct episode *episode);
/* Takes the routes of its only completion over; of an episode of several runs they are not known. */
void episode_take_routes(struct episode *episode, struct completion *completion);

#endif

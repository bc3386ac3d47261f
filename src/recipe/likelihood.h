/* Log-probs of given tokens, by the forward of training: what logprobs, perplexity and eval --choices compute. Any number
 * of trees at once; what one gets is a function of its tokens alone (I2). */
#ifndef COHORT_RECIPE_LIKELIHOOD_H
#define COHORT_RECIPE_LIKELIHOOD_H

#include "model/packing.h"
#include "recipe/session.h"

struct likelihood {
    struct session *session;
    struct tree_runner runner;
    int64_t tokens; /* of one pass at most */
};
/* Zero-initialise; runner.extras may be set. longest: tokens of the longest prompt with one of its completions; pass: tokens
 * of a pass where that is less. Buffers are the session's arena, which nothing else has. */
cohort_status likelihood_open(struct likelihood *l, struct session *session, int64_t pass, int64_t longest,
                              cohort_error *err);
void likelihood_close(struct likelihood *l);
/* logp: one pointer for each completion of the trees, in order. */
cohort_status likelihood_of(struct likelihood *l, const struct tree *trees, int32_t n_trees, float temperature,
                            float *const *logp, cohort_error *err);

#endif

/* What guided a prompt's completions, for training: which tokens each of their draws could choose is said again from the
 * tokens, by the same guide (guided_logprob: masked). */
#ifndef COHORT_RECIPE_ROW_MASKS_H
#define COHORT_RECIPE_ROW_MASKS_H

#include "model/packing.h"
#include "recipe/row_guide.h"

struct row_masks {
    struct mask_replay replay; /* its context is this */
    struct guide_state *state;
    struct text text; /* what the guide was made of */
};
/* text: what guide was made of; it is copied. max_tokens as the completions had it (row_constraints_open); n_ids: tokens that
 * may be chosen. guides must stay. */
cohort_status row_masks_open(struct row_masks **out, const struct row_guides *guides, struct guide *guide,
                             const struct text *text, int32_t max_tokens, int32_t n_ids, cohort_error *err);
void row_masks_free(struct row_masks *masks);

#endif

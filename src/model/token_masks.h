/* Which tokens draws could choose, as bitsets over the vocabulary: each distinct one is kept once, however often it is
 * met. What log-probs of a constrained distribution are computed from (head.h, packing.h). */
#ifndef COHORT_MODEL_TOKEN_MASKS_H
#define COHORT_MODEL_TOKEN_MASKS_H

#include "base/error.h"

#include <stdint.h>

/* Zero-initialise it. */
struct token_masks {
    uint32_t *bits; /* [n, words] a bit for every id, the lowest id in the lowest bit; none from n_ids on */
    int64_t words;  /* of the vocabulary of the first token_masks_add since token_masks_clear */
    int32_t n;
    int32_t *slots; /* [n_slots] a power of two; a mask's number plus 1, or 0 */
    size_t n_slots, capacity;
};
/* *index = the number of the mask that has these bits, [allowed_words(n_ids)]; bits from n_ids on are not looked at. All
 * of a table are of one vocabulary. */
cohort_status token_masks_add(struct token_masks *masks, const uint32_t *bits, int64_t n_ids, int64_t vocab,
                              int32_t *index, cohort_error *err);
/* Whether a mask has this token. */
static inline int token_masks_has(const struct token_masks *masks, int32_t index, int32_t token)
{
    return (int)(masks->bits[index * masks->words + token / 32] >> (token % 32) & 1u);
}
/* Forgets the masks and keeps the memory. */
void token_masks_clear(struct token_masks *masks);
void token_masks_free(struct token_masks *masks);

#endif

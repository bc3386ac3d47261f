/* Which row a draw takes: a function of the seed and of the draw's number alone (invariant I3), so that a run that goes
 * on needs no other cursor than how many draws were made.
 *
 * One part (files behind each other): each epoch is a permutation of all rows, by (seed, epoch). Without shuffle the
 * rows in order.
 *
 * Several parts with weights: of every DATASET_BLOCK draws each part gets its share, to within one, in an order that is
 * a permutation by (seed, block), with shuffle and without. Up to the end of block b a part has had floor(n * c) -
 * floor(n * c') draws, with n = (b + 1) * DATASET_BLOCK and c, c' the sums of the shares up to and before it, in units
 * of 2^-32; so shares are exact in the long run too. A part is walked as if it were a set of its own: draw k of its own
 * takes row k of the permutation by (seed, its place and epoch), and begins anew behind its last row, whatever the
 * others do. */
#ifndef COHORT_RUN_DATASET_ORDER_H
#define COHORT_RUN_DATASET_ORDER_H

#include "base/memory.h"

#include <stdint.h>

enum { DATASET_BLOCK = 1024 };

struct dataset_part;

/* A walk over one part. 4 bytes a row with shuffle. */
struct dataset_walk {
    size_t first, n;
    uint64_t cached_epoch; /* of permutation */
    uint32_t *permutation; /* owned; NULL until first used */
};

struct dataset_order {
    size_t n; /* rows; an epoch is as many draws */
    uint64_t seed;
    bool shuffle;
    struct dataset_walk *walks; /* [n_walks] */
    size_t n_walks;
    uint64_t *shares;  /* [n_walks] sums of the shares up to each, in units of 2^-32; NULL: one part */
    uint16_t *choices; /* [DATASET_BLOCK] the part of each draw in the block that was asked for last */
    uint64_t block;
};

/* parts (at least one) is not kept. A share of less than one draw in a block is an error. */
cohort_status dataset_order_create(struct dataset_order *order, const struct dataset_part *parts, size_t n_parts,
                                   uint64_t seed, bool shuffle, cohort_error *err);
void dataset_order_free(struct dataset_order *order);

/* The row of draw i, counted over all epochs. epoch (may be NULL) gets how often the row's part was walked before: with
 * row it is never the same for two draws. */
cohort_status dataset_order_at(struct dataset_order *order, uint64_t i, size_t *row, uint64_t *epoch,
                               cohort_error *err);

#endif

/* The gradient of an optimizer step, summed in lanes: the same bits on any number of ranks.
 *
 * A step's micro-batches are dealt to K lanes (struct param_share: lanes), micro-batch m to lane m mod K, whatever the
 * number of ranks. After each round of K micro-batches the lanes' gradients are added in a fixed tree: those of lanes i and
 * i + 1 with i even, then of pairs, and so on; a lane without a micro-batch, in the last round, is left out. The sum of
 * a round is added to that of the rounds before. Of N ranks r computes lanes r, r + N, ..., one after the other: those that
 * are computed at once are a turn. With K = 1 a backward adds to the sum itself, and rank 0 computes all micro-batches.
 *
 * Within the backward, as soon as a layer's gradient is there (param_take), every rank sends the others what they own of it and
 * adds what it gets of its own (param_set_sums). So no rank holds a whole gradient: that of a layer, those of the embedding
 * and the head, for what the rank owns the sum, and as much again for each sum of lanes that waits for its neighbour from turn to
 * turn: log2 (K / N) of them. With K = 1 there is one unit, the whole. */
#ifndef COHORT_TRAIN_LANES_H
#define COHORT_TRAIN_LANES_H

#include "model/packing.h"
#include "model/param_set.h"

enum { MOST_LANES = 1024, LANE_LEVELS = 11 }; /* a power of two; and the levels of its tree */

/* Lanes first .. first + n - 1 added up. */
struct lane_sum {
    int32_t first, n;
};

struct lanes {
    struct param_set *set;
    int32_t n; /* lanes; of a pass without gradients, ranks */
    int32_t n_micro;
    bool train;
    bool summed;                            /* the sum has that of a round before */
    struct lane_sum stack[LANE_LEVELS + 1]; /* lanes of the round before the turn in hand, added up as far as it goes */
    int32_t depth;
    int32_t counted;                /* micro-batches: the number of the one in hand */
    bool taken;                     /* its gradient, or that of another of the turn */
    struct ranks_message *messages; /* owned */
    cohort_status status;           /* of what was exchanged within a backward */
    cohort_error err;
    /* What came of micro-batches. */
    struct text own, *all;
    size_t begun;        /* where in own the micro-batch in hand begins */
    const char **values; /* [n_micro] in all, */
    size_t *lengths;     /* of so many bytes */
};

/* What of share follows from its ranks and lanes, and from whether exchanges overlap: how many sums and pieces a rank
 * holds, and how large these are. */
void lanes_plan(struct param_share *share);

/* packing_split into micro-batches that give every lane as many, and as nearly as many tokens as it finds: a function of
 * the trees and of the number of lanes. */
cohort_status lanes_split(const struct param_set *set, struct packing *packing, const struct tree *trees,
                          int32_t n_trees, int64_t max_tokens, int64_t max_completions, cohort_error *err);

/* A step over n_micro micro-batches, of which each that is computed here has at most one backward; without train there are
 * no gradients. lanes stays where it is until lanes_free, also after a failure. */
void lanes_begin(struct lanes *lanes, struct param_set *set, int32_t n_micro, bool train);
void lanes_free(struct lanes *lanes);
/* Whether micro-batch m is computed here; the first rank, where one computes all. */
bool lanes_mine(const struct lanes *lanes, int32_t m);
/* Called by every rank for every micro-batch in order, for those that are its own after their backward. */
cohort_status lanes_count(struct lanes *lanes, int32_t m, cohort_error *err);

/* ---- What came of micro-batches, for all ranks: where there is one, nothing is kept ---- */

bool lanes_shared(const struct lanes *lanes);
/* Appends to what came of the micro-batch in hand, which is one's own: first lanes_keep_begin. */
cohort_status lanes_keep_begin(struct lanes *lanes, cohort_error *err);
cohort_status lanes_keep(struct lanes *lanes, const void *bytes, size_t n, cohort_error *err);
/* lanes_keep_begin, and all that the runner's forward gave of the outputs. */
cohort_status lanes_keep_outputs(struct lanes *lanes, const struct tree_runner *runner, cohort_error *err);
/* Called by every rank behind the last micro-batch. */
cohort_status lanes_share(struct lanes *lanes, cohort_error *err);
/* Takes the next n bytes of what was kept of micro-batch m. */
cohort_status lanes_take(struct lanes *lanes, int32_t m, void *bytes, size_t n, cohort_error *err);
/* The runner, into which micro-batch m was built, gets what lanes_keep_outputs kept of it. */
cohort_status lanes_take_outputs(struct lanes *lanes, int32_t m, struct tree_runner *runner, cohort_error *err);

#endif

/* The gradient of an optimizer step, summed in lanes: the same bits on any number of ranks.
 *
 * A step's micro-batches are dealt to K lanes (struct param_share: lanes), micro-batch m to lane m mod K, whatever the
 * number of ranks. After each round of K micro-batches the lanes' gradients are added in a fixed tree: those of lanes i and
 * i + 1 with i even, then of pairs, and so on; a lane without a micro-batch, in the last round, is left out. The sum of
 * a round is added to that of the rounds before. Rank r of N computes lanes r K / N to (r + 1) K / N, one after the other, and
 * sums what it owns of the gradient (param_set_sums), to which it is sent what the others have. With K = 1 a backward adds
 * to the sum itself, and rank 0 computes all.
 *
 * A lane that waits for its neighbour holds a whole gradient: log2 K of them on one rank, none where every rank has
 * one lane. Beside them stand the gradient that a backward adds to and, for what the rank owns, the sum. */
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
    bool summed; /* the sum has that of a round before */
    struct lane_sum stack[LANE_LEVELS];
    int32_t depth;
    /* What came of micro-batches. */
    struct text own, *all;
    size_t begun;        /* where in own the micro-batch in hand begins */
    const char **values; /* [n_micro] in all, */
    size_t *lengths;     /* of so many bytes */
};

/* What of share follows from its ranks and lanes: how many gradients and pieces a rank holds. */
void lanes_plan(struct param_share *share);

/* packing_split into micro-batches that give every lane as many, and as nearly as many tokens as it finds: a function of
 * the trees and of the number of lanes. */
cohort_status lanes_split(const struct param_set *set, struct packing *packing, const struct tree *trees,
                          int32_t n_trees, int64_t max_tokens, int64_t max_completions, cohort_error *err);

/* A step over n_micro micro-batches; without train there are no gradients, and the ranks take turns. Free with
 * lanes_free, also after a failure. */
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

/* Experts in an optimizer step: the auxiliary loss, whether tokens go where they were sampled, and metrics.
 *
 * The auxiliary loss is that of transformers (after Switch Transformers, arXiv 2101.03961, equations 4 to 6)
 * over all rows of the optimizer step instead of those of a forward (invariant I5): with N the rows that count, times
 * the layers with experts, f_e = (how often e was chosen) / N and P_e = (sum of p_e) / N, L = E * sum of f_e P_e, which
 * is k where the load is even. A row of data counts once, a prompt once for each of its completions, though it is
 * computed once for all. Only P has a gradient, coef * E * f_e / N for each p_e, so f must be known before the first
 * backward: from the routes of the rollout, from the forward of the only micro-batch, or from one more forward.
 *
 * What a micro-batch counted is fetched behind its forward and added in the order of micro-batches, so that the number of
 * ranks enters no sum; f are whole numbers. */
#ifndef COHORT_TRAIN_ROUTING_H
#define COHORT_TRAIN_ROUTING_H

#include "model/packing.h"
#include "train/lanes.h"
#include "train/metrics.h"
#include "train/routing_list.h"

#define REPLAY(id, word) ROUTER_REPLAY_##id,
enum router_replay { ROUTER_REPLAY_LIST(REPLAY) N_ROUTER_REPLAYS };
#undef REPLAY

/* Tokens that went to other experts than sampled, with the weights that they were sampled with and with later ones; of so many
 * of each. */
struct routing_counts {
    int64_t differ, moved, differ_of, moved_of;
};

/* Zero: a model without experts. */
struct routing {
    double aux_coef;           /* 0: no auxiliary loss */
    enum router_replay replay; /* where tokens go once the weights have changed since they were sampled */
    /* Of the step in hand, and of the micro-batch in hand. */
    double *sums, *micro_sums; /* (host) [expert_sums_size], owned */
    double aux_loss;           /* NaN: not known */
    struct routing_counts counts, micro_counts;
};
void routing_free(struct routing *routing);
/* What the auxiliary loss adds to the loss of the last step. */
double routing_loss(const struct routing *routing);

/* Before the first forward that counts of a step whose micro-batches are split: all is 0. Other switches stay. */
cohort_status routing_begin(struct routing *routing, struct tree_runner *runner, struct model *model,
                            cohort_error *err);
/* Before the first backward: finds f, if there is an auxiliary loss. routed: of every row the routes are known, and are
 * those that the forwards take. Before the first forward where the step is several micro-batches, after it where it is
 * one; then only the rank that computes it calls this. */
cohort_status routing_prepare(struct routing *routing, struct tree_runner *runner, struct model *model,
                              const struct tree *trees, int32_t n_trees, bool routed, cohort_error *err);
/* After the forward of a micro-batch. fresh[n_trees]: the tree was sampled with the weights as they are; NULL: there is
 * nothing to compare. */
cohort_status routing_compare(struct routing *routing, struct tree_runner *runner, struct model *model, int32_t micro,
                              const bool *fresh, cohort_error *err);
/* After the forward of each micro-batch that is computed here, when what is to be compared was: takes in what it counted, or,
 * where ranks share the step, keeps it for all (lanes_keep). */
cohort_status routing_keep(struct routing *routing, struct tree_runner *runner, const struct model *model,
                           struct lanes *lanes, cohort_error *err);
/* Takes in what was kept of micro-batch m, which is called for every one in order. */
cohort_status routing_take(struct routing *routing, const struct model *model, struct lanes *lanes, int32_t m,
                           cohort_error *err);
/* After the last one: metrics of the step, and switches everything off. */
cohort_status routing_end(struct routing *routing, struct tree_runner *runner, struct model *model,
                          struct metrics *metrics, cohort_error *err);

#endif

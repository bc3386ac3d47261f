/* A set of parameters whose optimizer's state is divided among ranks (struct param_share): what crosses between them.
 *
 * Rank 0 writes checkpoints. While it does, the others answer what it asks for (param_shard_serve), until it says that it
 * asks for nothing more (param_shard_release), whether it wrote anything or not.
 *
 * Where the matrices of layers are divided too (param_set_divides), all ranks bring the same layers in the same order: those that
 * compute, and those that have nothing to (param_shard_attend). */
#ifndef COHORT_MODEL_PARAM_SHARD_H
#define COHORT_MODEL_PARAM_SHARD_H

#include "model/param_set.h"

enum { PARAM_VALUES = N_PARAM_STATES }; /* the values of a param, as if they were a state */

/* length bytes from offset of a state (or PARAM_VALUES), to the host. On rank 0, of a state that another rank holds, while that one serves. */
cohort_status param_state_fetch(const struct param_set *set, int32_t i, int state, size_t offset, size_t length,
                                void *to, cohort_error *err);
/* Of the others than rank 0. Returns when they are released. */
cohort_status param_shard_serve(const struct param_set *set, cohort_error *err);
/* Of rank 0. */
cohort_status param_shard_release(const struct param_set *set, cohort_error *err);
/* Called by all after an update: the values that each rank updated become everybody's, but for those that ranks divide. */
cohort_status param_shard_gather_values(struct param_set *set, cohort_error *err);
/* Called by all: the matrices of a layer are there, until another one's are. Nothing to do where they are already, or are not
 * divided. A failure is kept, and the values are wrong. */
void param_shard_need(struct param_set *set, int32_t layer);
/* In place of a forward over all layers: takes part in bringing them. */
void param_shard_attend(struct param_set *set);
/* Whether param_shard_need has failed. */
cohort_status param_shard_check(const struct param_set *set, cohort_error *err);
/* ranks_exchange of backend memory that belongs to the set or stands beside it (offloaded to the host as it is). It happens
 * behind the operations that were issued, and those that are issued from now on happen behind it. */
cohort_status param_shard_exchange(const struct param_set *set, const struct ranks_message *sends, size_t n_sends,
                                   const struct ranks_message *receives, size_t n_receives, cohort_error *err);
/* The same in two parts. Between them operations that touch none of its bytes may be issued, which a GPU does meanwhile, and
 * further exchanges begun; they end in the same order. */
cohort_status param_shard_begin(const struct param_set *set, const struct ranks_message *sends, size_t n_sends,
                                const struct ranks_message *receives, size_t n_receives, uint64_t *ticket,
                                cohort_error *err);
cohort_status param_shard_end(const struct param_set *set, uint64_t ticket, cohort_error *err);

#endif

/* A set of parameters whose optimizer's state is divided among ranks (struct param_share): what crosses between them.
 *
 * Rank 0 writes checkpoints. While it does, the others answer what it asks for (param_shard_serve), until it says that it
 * asks for nothing more (param_shard_release), whether it wrote anything or not. */
#ifndef COHORT_MODEL_PARAM_SHARD_H
#define COHORT_MODEL_PARAM_SHARD_H

#include "model/param_set.h"

/* length bytes from offset of a state, to the host. On rank 0, of a state that another rank holds, while that one serves. */
cohort_status param_state_fetch(const struct param_set *set, int32_t i, enum param_state state, size_t offset,
                                size_t length, void *to, cohort_error *err);
/* Of the others than rank 0. Returns when they are released. */
cohort_status param_shard_serve(const struct param_set *set, cohort_error *err);
/* Of rank 0. */
cohort_status param_shard_release(const struct param_set *set, cohort_error *err);
/* Called by all after an update: the values that each rank updated become everybody's. */
cohort_status param_shard_gather_values(struct param_set *set, cohort_error *err);
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

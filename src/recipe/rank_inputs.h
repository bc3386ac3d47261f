/* Whether the ranks of a job do the same work: options and what they have read, by hash, version and kernels. */
#ifndef COHORT_RECIPE_RANK_INPUTS_H
#define COHORT_RECIPE_RANK_INPUTS_H

#include "ranks/ranks.h"
#include "recipe/run_inputs.h"
#include "recipe/session.h"

/* Called by all ranks at one place: COHORT_ERR_STATE, for all, where one differs from rank 0. With one rank nothing. */
cohort_status rank_inputs_compare(struct ranks *ranks, const struct options *options, const struct backend *backend,
                                  const struct run_inputs *inputs, cohort_error *err);
/* The same of a command that is no run: its session (with SESSION_HASHED) joins what inputs has, which is then freed. */
cohort_status rank_inputs_compare_session(struct ranks *ranks, const struct options *options,
                                          const struct session *session, struct run_inputs *inputs, cohort_error *err);
/* What session_open must be asked for that, beside what the command needs. */
unsigned rank_inputs_need(const struct options *options);

#endif

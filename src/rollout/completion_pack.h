/* Completions as bytes, for other ranks of the same job: the same machine's numbers, and no format of a file. */
#ifndef COHORT_ROLLOUT_COMPLETION_PACK_H
#define COHORT_ROLLOUT_COMPLETION_PACK_H

#include "base/memory.h"
#include "rollout/completion.h"

/* Appends all of it but its request. route_width: the elements of a token's routes. */
cohort_status completion_pack(const struct completion *completion, int32_t route_width, struct text *out,
                              cohort_error *err);
/* Reads one at *at, which moves behind it. out is for completion_free, also after a failure. */
cohort_status completion_unpack(const struct text *bytes, size_t *at, struct completion *out, cohort_error *err);

#endif

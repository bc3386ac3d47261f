/* A reference that follows the policy (sync_ref_model; TR-DPO, arXiv 2404.09656, TRL's SyncRefModelCallback): after every
 * so many optimizer steps it becomes alpha times the policy and 1 - alpha times what it was. Sums are double and rounded
 * once to what the reference is stored in; TRL rounds twice. */
#ifndef COHORT_TRAIN_REFERENCE_SYNC_H
#define COHORT_TRAIN_REFERENCE_SYNC_H

#include "model/model.h"

struct reference_sync {
    int64_t steps; /* 0: the reference stays as it is */
    double alpha;
    char *policy, *reference; /* (host) parts of a tensor; owned */
};

/* Takes the memory that mixing needs, so that mixing cannot fail for want of it. */
cohort_status reference_sync_open(struct reference_sync *sync, cohort_error *err);
void reference_sync_close(struct reference_sync *sync);
/* Whether the reference has been mixed by the end of this step, and whether it is at the end of it. */
bool reference_sync_mixed(const struct reference_sync *sync, int64_t step);
bool reference_sync_due(const struct reference_sync *sync, int64_t step);
/* The same shape and formats in both. A stop does not end it; what goes wrong on the device backend_check reports. */
void reference_sync_mix(struct reference_sync *sync, struct model *reference, const struct model *policy);
/* count values in a format, as reference_sync_mix mixes them. */
void reference_sync_values(double alpha, enum storage_format format, int64_t count, const void *policy,
                           void *reference);

#endif

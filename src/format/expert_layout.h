/* How the files of a checkpoint hold experts, which config.json does not say: a tensor for each matrix of each expert, or
 * one for those of a layer, as transformers 5 has them in memory and writes on request. */
#ifndef COHORT_FORMAT_EXPERT_LAYOUT_H
#define COHORT_FORMAT_EXPERT_LAYOUT_H

#include "base/error.h"

#include <stdbool.h>

/* *fused: the experts of a layer are one tensor. False for a folder without weights. Looks at the names only, which
 * checkpoint_look compares with the table afterwards. */
cohort_status expert_layout_look(const char *dir, bool *fused, cohort_error *err);

#endif

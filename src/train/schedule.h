/* Learning rate schedules of transformers: constant, linear, cosine, each with linear warm-up over
 * warmup_steps. step counts from 0 (the first optimizer step uses lr(0), as get_scheduler's
 * LambdaLR does: with warm-up the first step has factor 0 / warmup). */
#ifndef COHORT_TRAIN_SCHEDULE_H
#define COHORT_TRAIN_SCHEDULE_H

#include "train/schedule_list.h"

#include <stdint.h>

#define SCHEDULE(id, word) SCHEDULE_##id,
enum schedule_type { SCHEDULE_LIST(SCHEDULE) };
#undef SCHEDULE

double schedule_rate(enum schedule_type type, double base, int64_t step, int64_t warmup_steps, int64_t total_steps);

#endif

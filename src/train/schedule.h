/* Learning rate schedules: those of transformers 5.24 that do not follow a metric, under its names, with its parameters
 * and defaults (schedule_list.h).
 *
 * A schedule is begun with its type (schedule_init), gets its parameters (schedule_set) and the length of the run
 * (schedule_plan); then the rate is a function of the step alone. Steps count from 0: the first optimizer step uses
 * the rate of step 0, which is 0 where there is a linear warm-up. */
#ifndef COHORT_TRAIN_SCHEDULE_H
#define COHORT_TRAIN_SCHEDULE_H

#include "base/error.h"
#include "train/schedule_list.h"

#include <stdbool.h>
#include <stdint.h>

#define SCHEDULE(id, word) SCHEDULE_##id,
enum schedule_type { SCHEDULE_LIST(SCHEDULE) };
#undef SCHEDULE

#define PARAMETER(id, name, form, least, most) SCHEDULE_##id,
enum schedule_parameter { SCHEDULE_PARAMETER_LIST(PARAMETER) N_SCHEDULE_PARAMETERS };
#undef PARAMETER

/* One of a type without parameters may also be written down as an initialiser. */
struct schedule {
    enum schedule_type type;
    double learning_rate;                     /* at the peak */
    int64_t warmup_steps, total_steps;        /* optimizer steps */
    double parameters[N_SCHEDULE_PARAMETERS]; /* of this type; NaN: not given, and without a default */
    bool given[N_SCHEDULE_PARAMETERS];
};

void schedule_init(struct schedule *schedule, enum schedule_type type, double learning_rate);
/* item: "num_cycles=2". */
cohort_status schedule_set(struct schedule *schedule, const char *item, cohort_error *err);
/* warmup: steps, or below 1 the share of all steps, rounded up. Whether the rates depend on the number of all steps. */
bool schedule_needs_total(const struct schedule *schedule, double warmup);
/* total_steps 0: unknown. Checks that the parameters fit each other and the run. */
cohort_status schedule_plan(struct schedule *schedule, double warmup, int64_t total_steps, cohort_error *err);

double schedule_rate(const struct schedule *schedule, int64_t step);

#endif

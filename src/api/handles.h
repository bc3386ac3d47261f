/* The public handles that more than one file of the API looks into. */
#ifndef COHORT_API_HANDLES_H
#define COHORT_API_HANDLES_H

#include "base/stop.h"
#include "reward/reward.h"
#include "run/options.h"

struct reward_binding {
    cohort_reward_function function;
    void *context;
};

struct cohort_options {
    struct options *options;
    cohort_command command;
    struct reward **rewards;          /* [n_rewards] */
    struct reward_binding **bindings; /* [n_rewards] each a block of its own: rewards point at it */
    size_t n_rewards, reward_room, binding_room;
    const struct cohort_stop *stop; /* the caller's */
    bool running, destroyed;        /* inside cohort_run; cohort_options_destroy was called there */
};

struct cohort_stop {
    struct stop stop;
};

#endif

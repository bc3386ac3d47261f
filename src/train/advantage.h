/* Group-relative advantages. Formulas and constants: TRL GRPOTrainer (grpo.md 1.10, 9.1). */
#ifndef COHORT_TRAIN_ADVANTAGE_H
#define COHORT_TRAIN_ADVANTAGE_H

#include "base/error.h"
#include "train/advantage_list.h"

#define SCALE(id, word) ADVANTAGE_SCALE_##id,
enum advantage_scale { ADVANTAGE_SCALE_LIST(SCALE) };
#undef SCALE

struct advantage_input {
    int32_t n_rows, group; /* n_rows a multiple of group; groups consecutive */
    int32_t n_functions;
    const double *rewards; /* [n_rows, n_functions], NaN: null */
    const double *weights; /* [n_functions] */
    enum advantage_scale scale;
};

struct advantage_output {
    float *advantage; /* [n_rows] */
    float *reward;    /* [n_rows] weighted sum; NaN where no function scored */
    /* Metrics as TRL defines them (grpo.md 2). */
    double reward_mean, reward_std, frac_reward_zero_std;
    double *function_mean, *function_std; /* [n_functions], caller's memory */
};

/* Rows that no function scored, and rows alone in their group, get advantage 0. Metrics without data (no row scored, or
 * only one for a deviation) are NaN. COHORT_ERR_ARGUMENT: impossible sizes or weights; COHORT_ERR_REWARD: an infinite
 * reward. */
cohort_status advantage_compute(const struct advantage_input *input, struct advantage_output *output,
                                cohort_error *err);

#endif

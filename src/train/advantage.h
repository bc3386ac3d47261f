/* Advantages of a batch's completions, or of their tokens. Formulas and constants: TRL's GRPOTrainer and RLOOTrainer, the
 * papers of REINFORCE++ and of pass@k training, and GRPO's process supervision (docs/GRPO.md). */
#ifndef COHORT_TRAIN_ADVANTAGE_H
#define COHORT_TRAIN_ADVANTAGE_H

#include "base/error.h"
#include "train/advantage_list.h"

#define SCALE(id, word) ADVANTAGE_SCALE_##id,
enum advantage_scale { ADVANTAGE_SCALE_LIST(SCALE) };
#undef SCALE
#define ESTIMATOR(id, word) ADVANTAGE_##id,
enum advantage_estimator { ADVANTAGE_ESTIMATOR_LIST(ESTIMATOR) };
#undef ESTIMATOR
#define AGGREGATION(id, word) ADVANTAGE_##id,
enum advantage_aggregation { ADVANTAGE_AGGREGATION_LIST(AGGREGATION) };
#undef AGGREGATION

struct advantage_config {
    enum advantage_scale scale;
    enum advantage_estimator estimator;
    enum advantage_aggregation aggregation;
    int32_t k;      /* of PASS_AT_K */
    double epsilon; /* added to deviations that are divided by (TRL: 1e-4) */
    bool clips;     /* weighted sums are moved into clip_low .. clip_high, before a penalty */
    double clip_low, clip_high;
};
/* COHORT_ERR_ARGUMENT with the reason, in the words of the options, where switches do not go together. penalised: rows
 * have a penalty. */
cohort_status advantage_check(const struct advantage_config *config, bool penalised, cohort_error *err);

struct advantage_input {
    int32_t n_rows, group; /* n_rows a multiple of group; groups consecutive */
    int32_t n_functions;
    const double *rewards; /* [n_rows, n_functions], NaN: null; where there is a list, its sum */
    /* [n_rows, n_functions] rewards of tokens: [n_tokens of the row] with NaN where there is none, or NULL, a number for the
     * row. NULL: there are none of tokens. */
    double *const *lists;
    const int32_t *n_tokens; /* [n_rows], needed with lists */
    const double *weights;   /* [n_functions] */
    const double *penalty;   /* [n_rows] taken from the weighted sum (a KL in the reward); NULL: none */
    struct advantage_config config;
};

struct advantage_output {
    float *advantage; /* [n_rows]; with lists the mean of the row's tokens */
    float **tokens;   /* [n_rows][n_tokens of the row], needed with lists: of each token */
    float *reward;    /* [n_rows] weighted sum, before clipping and penalty; NaN where no function scored */
    /* Metrics as TRL defines them (docs/GRPO.md), before clipping and penalty but for the share without a
     * deviation. */
    double reward_mean, reward_std, frac_reward_zero_std;
    double *function_mean, *function_std; /* [n_functions], caller's memory */
};

/* Whether the completions of a group (the first is 0) differ in what advantages are made of: whether they can teach
 * anything. */
bool advantage_spreads(const struct advantage_input *input, int32_t group);

/* Rows that no function scored, and rows alone in their group, get advantage 0. Metrics without data (no row scored, or
 * only one for a deviation) are NaN. COHORT_ERR_ARGUMENT: impossible sizes or weights; COHORT_ERR_REWARD: an infinite
 * reward; COHORT_ERR_NUMERIC: a penalty that is not finite. */
cohort_status advantage_compute(const struct advantage_input *input, struct advantage_output *output,
                                cohort_error *err);

#endif

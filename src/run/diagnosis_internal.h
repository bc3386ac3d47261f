/* Shared by the files of the diagnosis: state (diagnosis.c), windows over it (diagnosis_window.c), rules
 * (diagnosis_rules.c), file (diagnosis_file.c). */
#ifndef COHORT_RUN_DIAGNOSIS_INTERNAL_H
#define COHORT_RUN_DIAGNOSIS_INTERNAL_H

#include "run/diagnosis.h"

/* X(ID, metric): what is kept of each step that counts. */
#define DIAGNOSIS_COLUMN_LIST(X)                                                                                       \
    X(REWARD, "reward")                                                                                                \
    X(REWARD_STD, "reward_std")                                                                                        \
    X(ZERO_STD, "frac_reward_zero_std")                                                                                \
    X(CLIPPED, "completions/clipped_ratio")                                                                            \
    X(TERMINATED, "completions/mean_terminated_length")                                                                \
    X(LENGTH, "completions/mean_length")                                                                               \
    X(REPEATED, "completions/repeated_ratio")                                                                          \
    X(DISTINCT, "completions/distinct_ratio")                                                                          \
    X(LOSS, "loss")                                                                                                    \
    X(GRAD_NORM, "grad_norm")                                                                                          \
    X(RATE, "learning_rate")                                                                                           \
    X(ENTROPY, "entropy")                                                                                              \
    X(KL, "kl")                                                                                                        \
    X(CLIP_REGION, "clip_ratio/region_mean")

/* Likewise, of the clock: not in checkpoints. */
#define DIAGNOSIS_MEASURED_LIST(X)                                                                                     \
    X(STEP_TIME, "step_time")                                                                                          \
    X(REWARD_TIME, "time/reward")                                                                                      \
    X(ROLLOUT_TIME, "time/rollout")                                                                                    \
    X(SPEED, "throughput/rollout_tokens_per_second")                                                                   \
    X(MEASURED_LENGTH, "completions/mean_length")

enum diagnosis_column {
#define COLUMN(id, metric) COLUMN_##id,
    DIAGNOSIS_COLUMN_LIST(COLUMN) N_KEPT_COLUMNS,
    COLUMN_BEFORE_MEASURED = N_KEPT_COLUMNS - 1,
    DIAGNOSIS_MEASURED_LIST(COLUMN) N_COLUMNS
#undef COLUMN
};

/* The rules by what they find, those of one cause together, the one that explains the others first. */
enum diagnosis_rule_index {
    RULE_NO_REWARD,
    RULE_NO_END,
    RULE_TRUNCATED,
    RULE_NO_SPREAD,
    RULE_NO_GRADIENT,
    RULE_LITTLE_SPREAD,
    RULE_FUNCTION_NULL,
    RULE_FUNCTION_CONSTANT,
    RULE_NOT_FINITE,
    RULE_RATIO,
    RULE_KL,
    RULE_COLLAPSE,
    RULE_ENTROPY_LOW,
    RULE_ENTROPY_HIGH,
    RULE_CLIPPED_UPDATES,
    RULE_GRAD_SPIKES,
    RULE_FORM,
    RULE_LENGTH,
    RULE_HELD_OUT,
    RULE_LOOPS,
    RULE_NOTHING_SAID,
    RULE_OVERFIT,
    RULE_SLOW_REWARD,
    RULE_SLOWER,
    N_RULES
};

/* Values of steps, the newest last: the last n of DIAGNOSIS_FRAMES places are filled. NaN: the step had none. */
struct diagnosis_series {
    double at[DIAGNOSIS_FRAMES];
};

/* Whether a rule spoke. */
struct diagnosis_mark {
    enum diagnosis_severity said; /* the worst since it was armed */
    int32_t clean;                /* steps in a row in which it did not hold, since it spoke */
};

/* A reward function, by its metrics rewards/NAME/mean and rewards/NAME/std. */
struct diagnosis_function {
    char *name;
    char shown[64]; /* of the name, what fits, as a terminal may be given it */
    struct diagnosis_series mean, std;
    double base;      /* of mean; NaN: not known yet */
    double low, high; /* of its mean, over the run */
    struct diagnosis_mark unanswered, constant;
};

struct diagnosis {
    struct diagnosis_setup setup;
    int64_t steps;    /* given, those before a resume included */
    int64_t counted;  /* of them that windows hold: the rate was not near 0 and the update not skipped */
    int64_t measured; /* counted since this process began */
    int64_t last;     /* number of the last step */
    bool ended;
    bool stepped; /* the last call took a step, and not an evaluation alone */
    struct diagnosis_series columns[N_COLUMNS];
    double base[N_COLUMNS]; /* median of the counted steps 11 to 30; NaN: not known yet */
    double kl_base;         /* of the steps 31 to 60 since the reference was last replaced */
    int64_t kl_counted;     /* counted steps since then */
    struct diagnosis_function *functions;
    size_t n_functions, room;
    uint32_t skips;       /* bit i: the update of the i-th last step was skipped */
    uint32_t spikes;      /* bit i: likewise, of counted steps whose gradient was far above the usual */
    double ratio_off;     /* of the last step: how far a log-prob was off that of its draw; 0 where it need not agree */
    double best_mean;     /* highest mean reward of 50 steps; NaN: none yet */
    double low10, high10; /* of the mean reward of 10 steps */
    int32_t collapsed;    /* steps in a row */
    double zero_std_sum;  /* over all counted steps */
    int64_t evaluations;  /* with eval_reward */
    double best_eval;
    int32_t below2, below4; /* evaluations in a row that are so many standard errors below the best */
    double last_eval_loss;
    int32_t eval_loss_up; /* evaluations in a row */
    struct diagnosis_mark marks[N_RULES];
    struct diagnosis_warning *queue; /* not yet taken */
    size_t n_queue, queue_room, taken;
    struct diagnosis_warning said[DIAGNOSIS_SAID];
    size_t n_said;
};

/* ---- diagnosis_window.c ---- */

/* How many values of n a window of the last steps has now: fewer than n only at the end of a short run; 0: not enough. */
int32_t window_size(const struct diagnosis *d, int32_t n);
/* The i-th value from the end, 0 the last. */
double window_at(const struct diagnosis_series *series, int32_t i);
/* Median and mean of n values, the last of them i from the end; NaN values are left out, and NaN where none is left. */
double window_median(const struct diagnosis_series *series, int32_t n, int32_t before);
double window_mean(const struct diagnosis_series *series, int32_t n, int32_t before);
/* Whether values rise (1), fall (-1) or neither (0) over the last 50 steps: Theil-Sen's slope, beyond two standard
 * errors of Kendall's S. Fewer than 20 values: 0. */
int window_trend(const struct diagnosis *d, const struct diagnosis_series *series);

/* ---- diagnosis.c ---- */

struct diagnosis_function *diagnosis_function_of(struct diagnosis *d, const char *name, size_t length);
cohort_status diagnosis_add_function(struct diagnosis *d, const char *name, size_t length, cohort_error *err);

/* ---- diagnosis_rules.c ---- */

/* What a rule finds after the step that was taken last; it writes the sentence. function: index, of rules that ask of
 * each one. */
enum diagnosis_severity diagnosis_find(const struct diagnosis *d, enum diagnosis_rule_index rule, size_t function,
                                       char sentence[DIAGNOSIS_SENTENCE]);
/* Whether the rule is asked of each reward function. */
bool diagnosis_of_functions(enum diagnosis_rule_index rule);
/* Rules of the same cause have the same number, above 0. */
int diagnosis_cause(enum diagnosis_rule_index rule);

#endif

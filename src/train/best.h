/* The best evaluation of a run, and when it stops early: transformers' EarlyStoppingCallback and
 * load_best_model_at_end. */
#ifndef COHORT_TRAIN_BEST_H
#define COHORT_TRAIN_BEST_H

#include "train/best_list.h"

#include <stdbool.h>
#include <stdint.h>

#define EVAL_STRATEGY(id, word) EVAL_##id,
enum eval_strategy { EVAL_STRATEGY_LIST(EVAL_STRATEGY) N_EVAL_STRATEGIES };
#undef EVAL_STRATEGY
#define BEST_METRIC(id, word) BEST_BY_##id,
enum best_metric { BEST_METRIC_LIST(BEST_METRIC) N_BEST_METRICS };
#undef BEST_METRIC

struct best_rule {
    bool greater;     /* is better */
    double threshold; /* an evaluation that is better by no more than this counts as none that is */
    int64_t patience; /* evaluations in a row that are not better, after which a run stops; 0: it does not */
};

/* State that outlives a step. Zero: nothing was evaluated yet. */
struct best {
    int64_t counted; /* the step whose evaluation was taken last */
    int64_t step;    /* the best one's; 0: none */
    double value;    /* its metric */
    int64_t worse;   /* evaluations in a row that were not better */
};
/* Takes the evaluation after a step. Returns whether it is the best so far. A value that is not finite is never better. */
bool best_take(struct best *best, const struct best_rule *rule, int64_t step, double value);
bool best_stops(const struct best *best, const struct best_rule *rule);

#endif

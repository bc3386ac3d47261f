/* The best evaluation of a run: when a run stops early, which checkpoint is kept, and what final/ is made of. The state is
 * t->state.best, which checkpoints hold. */
#ifndef COHORT_RECIPE_BEST_MODEL_H
#define COHORT_RECIPE_BEST_MODEL_H

#include "recipe/training.h"

struct best_model {
    struct best_rule rule;
    char metric[160]; /* of an evaluation, with "eval_" before it */
    bool keeps;       /* load_best_model_at_end */
};

/* metric: as the option metric_for_best_model gives it, with or without "eval_" before it. evaluates: whether there are
 * evaluations during the run. Options used: greater_is_better, load_best_model_at_end, early_stopping_patience,
 * early_stopping_threshold, eval_data. */
cohort_status best_model_open(struct best_model *best, const struct options *options, const char *metric,
                              bool evaluates, cohort_error *err);
/* Whether anything is compared. */
bool best_model_compares(const struct best_model *best);
/* What the run goes on with: its best checkpoint is not pruned. */
void best_model_begin(const struct best_model *best, struct training *t);
/* COHORT_ERR_ARGUMENT where an evaluation has no such metric. */
cohort_status best_model_check(const struct best_model *best, const struct metrics *metrics, cohort_error *err);
/* Takes the evaluation after the present step, unless it was taken before. Returns whether its model is to be saved now. */
bool best_model_take(const struct best_model *best, struct training *t, const struct metrics *metrics);
/* Whether the run ends here; and says so. */
bool best_model_stops(const struct best_model *best, const struct training *t);
void best_model_tell_stop(const struct best_model *best, const struct training *t);
/* final/: the last model, or with load_best_model_at_end that of the best evaluation. */
cohort_status best_model_save_final(const struct best_model *best, struct training *t, cohort_error *err);

#endif

/* An optimizer step of DPO and its family on rows of preferences: pairs of a chosen and a rejected completion of one prompt
 * (which is computed once for both), or single completions that are wanted or not (KTO). A row's log-probs become scores,
 * preference_apply says what each score weighs, and from there on the step is sft's: log-probs with weights. Of a reward model
 * scores are what its head gives. It knows nothing of files. */
#ifndef COHORT_TRAIN_PREFERENCE_STEP_H
#define COHORT_TRAIN_PREFERENCE_STEP_H

#include "model/packing.h"
#include "train/metrics.h"
#include "train/optimizer.h"
#include "train/preference.h"
#include "train/routing.h"
#include "train/schedule.h"

struct preference {
    struct model *model;
    /* NULL: scores of the reference come with the batch, or are 0. It may be model itself, which then wears
     * reference_adapter while it scores: NULL, its base, or the adapter that the run began with. */
    struct model *reference;
    const struct model_adapter *reference_adapter;
    struct tree_runner *runner; /* preference_extras says what it must give */
    struct optimizer optimizer;
    struct schedule schedule;
    struct preference_config config;
    int32_t max_length; /* tokens of a row, to which the mismatched ones of KTO's KL are cut */
    struct routing routing;
    int64_t skipped, tokens_seen; /* tokens of rows, each time they were learned */
    char warning[400];            /* why the last step was skipped; empty if it was not */

    /* Of the step in hand; preference_free frees them. */
    struct preference_pair *pairs;  /* [n] */
    struct preference_order *order; /* [2 n], where a loss spans the step */
    float *values;                  /* [longest completion] */
    size_t pair_capacity, order_capacity, value_capacity;
};
struct tree_extras preference_extras(const struct preference *preference);
void preference_free(struct preference *preference);

/* What the reference gives of a row: the scores of its completions, 0 where there is none. A single completion's is chosen;
 * rejected is then that of the completion that its prompt meets for KTO's KL, where that is known ahead. */
struct preference_reference {
    double chosen, rejected;
};

/* Rows: each a prompt with its completions: the chosen and the rejected one, or with wanted a single one. Where a loss
 * compares with the KL of mismatched completions, each prompt meets the completion of the row before it, the first that of
 * the last, as in TRL's batches. */
struct preference_batch {
    const struct tree *trees;
    const bool *wanted;                           /* [n] of single completions */
    const double *margins;                        /* [n] of a reward model; NULL: 0 */
    const struct preference_reference *reference; /* [n] known ahead; NULL: preference's reference scores them, or 0 */
    const struct completion_tokens *mismatched;   /* [n] that the prompts meet instead, known ahead; may be NULL */
    int32_t n;
};

/* Scores the rows with the reference: out[n]. */
cohort_status preference_score_reference(struct preference *preference, const struct preference_batch *batch,
                                         struct preference_reference *out, cohort_error *err);
/* Scores the prompts with the completions that they meet: out[n].rejected. */
cohort_status preference_score_mismatched(struct preference *preference, const struct preference_batch *batch,
                                          struct preference_reference *out, cohort_error *err);

/* One optimizer step; the metrics have TRL's names. A row whose loss is not finite is named in warning, and the update is
 * skipped and counted. */
cohort_status preference_step(struct preference *preference, const struct preference_batch *batch,
                              struct metrics *metrics, cohort_error *err);
/* The same figures without training, each name behind "eval_". */
cohort_status preference_evaluate(struct preference *preference, const struct preference_batch *batch,
                                  struct metrics *metrics, cohort_error *err);

#endif

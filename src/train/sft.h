/* Supervised fine-tuning: mean negative log-likelihood of the completion tokens of a batch of rows. */
#ifndef COHORT_TRAIN_SFT_H
#define COHORT_TRAIN_SFT_H

#include "model/packing.h"
#include "train/metrics.h"
#include "train/optimizer.h"
#include "train/schedule.h"

struct sft {
    struct model *model;
    struct tree_runner *runner;
    struct optimizer optimizer;
    struct schedule schedule;
    int64_t skipped, tokens_seen;
};

/* One optimizer step on trees (prompt, one completion each). The loss is divided by the completion tokens of the whole
 * step (invariant I5). */
cohort_status sft_step(struct sft *sft, const struct tree *trees, int32_t n, struct metrics *metrics,
                       cohort_error *err);
/* The same loss without training; entropy in metrics too. */
cohort_status sft_evaluate(struct sft *sft, const struct tree *trees, int32_t n, double *loss, cohort_error *err);

#endif

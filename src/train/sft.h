/* Supervised fine-tuning: the mean loss of the learned tokens of a batch of rows. docs/SFT.md has the formulas. */
#ifndef COHORT_TRAIN_SFT_H
#define COHORT_TRAIN_SFT_H

#include "model/packing.h"
#include "train/metrics.h"
#include "train/optimizer.h"
#include "train/routing.h"
#include "train/schedule.h"
#include "train/sft_list.h"

#define SFT_LOSS(id, word) SFT_LOSS_##id,
enum sft_loss { SFT_LOSS_LIST(SFT_LOSS) N_SFT_LOSSES };
#undef SFT_LOSS

struct sft {
    struct model *model;
    struct tree_runner *runner; /* sft_extras says what it must give */
    struct optimizer optimizer;
    struct schedule schedule;
    int64_t skipped, tokens_seen; /* tokens of rows, each time they were learned */
    enum sft_loss loss;
    double label_smoothing; /* 0: none; only with SFT_LOSS_NLL */
    double noise_alpha;     /* NEFTune; 0: none */
    double dropout;         /* of what an adapter reads; 0: none */
    uint64_t seed;          /* of noise and dropout */
    struct routing routing; /* of a model with experts */

    /* Of the micro-batch in hand; sft_free frees them. */
    double *weight; /* [outputs] */
    struct batch_noise noise;
    size_t weight_capacity, scale_capacity, stream_capacity;
};
/* What the runner must be planned with. */
struct tree_extras sft_extras(const struct sft *sft);
void sft_free(struct sft *sft);

/* Rows: each a prompt with one completion, whose wanted tokens are learned. */
struct sft_batch {
    const struct tree *trees;
    const double *weights; /* [n] what a row's tokens count; NULL: 1 each */
    int32_t n;
};
/* One optimizer step. The loss is divided by the sum of the weights of the batch's learned tokens (invariant I5). */
cohort_status sft_step(struct sft *sft, const struct sft_batch *batch, struct metrics *metrics, cohort_error *err);

/* Means over learned tokens: loss by weight, the others of the tokens alike. */
struct sft_figures {
    double loss, accuracy, entropy;
};
/* The same loss without training, noise and dropout. The accuracy is NaN if the runner does not give it. */
cohort_status sft_evaluate(struct sft *sft, const struct sft_batch *batch, struct sft_figures *figures,
                           cohort_error *err);

#endif

/* The loss core: a scalar function of every completion token's (logp, logp_old, logp_ref, advantage) and lengths, its
 * value and its analytic derivative with respect to logp. One core, in which a loss is a row of loss_list.h; names,
 * formulas and defaults are TRL's (grpo.md 1.9, 1.11, 9; docs/NUMERICS.md). Denominators span the optimizer step
 * (invariant I5): struct loss_scale holds the whole step's counts, and loss_sequence_apply may be called for its
 * sequences in any split. Arithmetic in double. */
#ifndef COHORT_TRAIN_LOSS_H
#define COHORT_TRAIN_LOSS_H

#include "base/error.h"
#include "train/loss_list.h"

#define LOSS(id, ...) LOSS_##id,
enum loss_type { LOSS_LIST(LOSS) };
#undef LOSS
#define LEVEL(id, ...) LOSS_LEVEL_##id,
enum loss_level { LOSS_LEVEL_LIST(LEVEL) };
#undef LEVEL

struct loss_config {
    enum loss_type type;
    enum loss_level level;
    double epsilon, epsilon_high;  /* clip to [1 - epsilon, 1 + epsilon_high] */
    double delta;                  /* two-sided cap of the ratio in the unclipped term; 0: off */
    double beta;                   /* k3 KL against the reference; 0: off */
    int32_t max_completion_length; /* denominator of dr_grpo */
};

/* What the denominators need, over the whole optimizer step. n_sequences counts fully masked ones too (TRL). */
struct loss_scale {
    int64_t n_sequences;
    int64_t n_tokens; /* unmasked completion tokens of the step */
};

/* One completion. masked: none of its tokens count (mask_truncated_completions). logp_old NULL: the ratio is exactly 1
 * (same weights, I2), with d ratio / d logp = 1. */
struct loss_sequence {
    int32_t n_tokens;
    bool masked;
    float advantage;
    const float *logp;     /* [n_tokens] */
    const float *logp_old; /* [n_tokens] or NULL */
    const float *logp_ref; /* [n_tokens], needed if beta != 0 */
    float *d_logp;         /* [n_tokens] out: dL/dlogp; 0 for a masked sequence */
    const float *entropy;  /* [n_tokens] or NULL: only for the metric */
};

/* Sums over sequences, to which loss_sequence_apply adds; loss_metrics divides them. Clip fractions as TRL: low counts
 * A < 0 and r < 1 - epsilon, high A > 0 and r > 1 + epsilon_high. */
struct loss_sums {
    double loss;
    double kl, clip_low, clip_high,
        clip_region;                    /* sums over counted tokens (clips at sequence level: over sequences) */
    double clip_low_min, clip_high_max; /* over sequences of the per-sequence fractions */
    double ratio_min, ratio_max;        /* over counted tokens, or sequences that have some */
    double entropy;                     /* over counted tokens of sequences that gave it */
    int64_t tokens;                     /* counted */
    int64_t sequences;                  /* seen */
    int64_t clip_units;                 /* what clip sums are divided by: tokens or sequences */
};
void loss_sums_init(struct loss_sums *sums);
/* Adds the sums of another part of the same step. */
void loss_sums_merge(struct loss_sums *sums, const struct loss_sums *part);

/* TRL's metrics of the step: clip_ratio/low_mean, low_min, high_mean, high_max, region_mean, kl, entropy. Means are
 * over the step's tokens (clips at sequence level: sequences, masked ones too). Without anything to count means are 0,
 * minima and maxima NaN. ratio_min, ratio_max: how far the policy has moved since sampling (1 on-policy). */
struct loss_metrics {
    double loss, kl, entropy;
    double clip_low_mean, clip_low_min, clip_high_mean, clip_high_max, clip_region_mean;
    double ratio_min, ratio_max;
};
void loss_metrics(const struct loss_sums *sums, struct loss_metrics *metrics);

/* Writes d_logp and adds the sequence's part to sums. A NaN or infinity among the log-probs reaches sums->loss and
 * d_logp: the caller looks before it steps. To find the sequence at fault, give each its own sums and merge them. */
void loss_sequence_apply(const struct loss_config *config, const struct loss_scale *scale,
                         const struct loss_sequence *sequence, struct loss_sums *sums);

#endif

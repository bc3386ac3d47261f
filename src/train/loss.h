/* The loss core: a scalar function of every completion token's (logp, logp_old, logp_ref, entropy, advantage) and
 * lengths, its value and its analytic derivative with respect to logp and entropy. One core, in which a loss is a row of
 * loss_list.h; names, formulas and defaults are TRL's (docs/GRPO.md). Denominators span the optimizer step (invariant
 * I5): struct loss_scale holds the whole step's counts, and loss_sequence_apply may be called for its sequences in any
 * split. Arithmetic in double. */
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
#define ESTIMATOR(id, ...) LOSS_KL_##id,
enum loss_kl { LOSS_KL_LIST(ESTIMATOR) };
#undef ESTIMATOR

struct loss_config {
    enum loss_type type;
    enum loss_level level;
    double epsilon,
        epsilon_high; /* clip to [1 - epsilon, 1 + epsilon_high]; cispo: cap at epsilon_high; gmpo: of logs */
    double delta;     /* two-sided cap of the ratio in the unclipped term; 0: off */
    double sapo_temperature_pos, sapo_temperature_neg; /* sapo, by the sign of the advantage; above 0 */
    double vespo_k_pos, vespo_lambda_pos, vespo_k_neg, vespo_lambda_neg; /* vespo, likewise */
    double beta;                                                         /* KL against the reference; 0: off */
    enum loss_kl kl;
    bool kl_correction;            /* the KL is multiplied by the ratio (TRL's use_bias_correction_kl) */
    bool off_policy_mask;          /* sequences that the policy left are dropped: */
    double off_policy_threshold;   /* A < 0 and the mean of logp_old - logp above this */
    int32_t max_completion_length; /* denominator of dr_grpo */
};

/* What a loss has. */
struct loss_traits {
    bool delta;        /* a term that delta caps */
    bool levels;       /* the ratio of importance_sampling_level */
    bool corrects_kl;  /* kl_correction; without it the KL is never corrected */
    bool clips;        /* clips, which clip_ratio/... count */
    const char *event; /* the metric that it alone has, loss_metrics' event; NULL: none */
};
const struct loss_traits *loss_traits(enum loss_type type);
/* COHORT_ERR_ARGUMENT with the reason, in the words of the options, where switches do not go together. */
cohort_status loss_check(const struct loss_config *config, cohort_error *err);

/* What the denominators need, over the whole optimizer step. n_sequences counts fully masked ones too (TRL). */
struct loss_scale {
    int64_t n_sequences;
    int64_t n_tokens;    /* unmasked completion tokens of the step */
    double entropy_coef; /* of the entropy bonus in this step; 0: none */
    int64_t n_kept;      /* those of n_tokens that the entropy filter keeps: read if entropy_coef != 0 */
};

/* One completion. masked: none of its tokens count (mask_truncated_completions). logp_old NULL: the ratio is exactly 1
 * (same weights, I2), with d ratio / d logp = 1. */
struct loss_sequence {
    int32_t n_tokens;
    bool masked;
    float advantage;
    const float *advantages; /* [n_tokens] of each token, in place of advantage; NULL: all have that one */
    const float *logp;       /* [n_tokens] */
    const float *logp_old;   /* [n_tokens] or NULL */
    const float *logp_ref;   /* [n_tokens], needed if beta != 0 */
    const bool *kept;        /* [n_tokens] or NULL: which tokens have a policy term (top_entropy_quantile) */
    const float *entropy;    /* [n_tokens] or NULL: for the metric, and needed if entropy_coef != 0 */
    float *d_logp;           /* [n_tokens] out: dL/dlogp; 0 for a masked sequence */
    float *d_entropy;        /* [n_tokens] out: dL/dentropy; needed if entropy_coef != 0 */
};

/* Sums over sequences, to which loss_sequence_apply adds; loss_metrics divides them. Clip fractions as TRL: low counts
 * A < 0 and r < 1 - epsilon, high A > 0 and r > 1 + epsilon_high. */
struct loss_sums {
    double loss;  /* policy term and KL */
    double bonus; /* what the entropy bonus takes from it */
    double kl, clip_low, clip_high,
        clip_region;                    /* sums over counted tokens (clips of one advantage and one ratio: sequences) */
    double capped;                      /* likewise: A < 0 and r at or above delta */
    double clip_low_min, clip_high_max; /* over sequences of the per-sequence fractions */
    double ratio_min, ratio_max;        /* over counted tokens, or sequences that have some */
    double entropy;                     /* over counted tokens of sequences that gave it */
    double entropy_kept;                /* of those the entropy filter keeps */
    double event;                       /* what loss_traits' event counts */
    int64_t tokens;                     /* counted */
    int64_t kept;                       /* of these, by the entropy filter */
    int64_t sequences;                  /* seen */
    int64_t dropped;                    /* of these, by the off-policy mask, wholly or in part */
    int64_t clip_units;                 /* what clip sums are divided by: tokens or sequences */
    int64_t event_units;
};
void loss_sums_init(struct loss_sums *sums);
/* Adds the sums of another part of the same step. */
void loss_sums_merge(struct loss_sums *sums, const struct loss_sums *part);

/* TRL's metrics of the step: clip_ratio/low_mean, low_min, high_mean, high_max, region_mean, kl, entropy, policy_loss and
 * a loss's own. Means are over the step's tokens (clips at sequence level: sequences, masked ones too). Without anything
 * to count means are 0, minima and maxima NaN. ratio_min, ratio_max: how far the policy has moved since sampling (1
 * on-policy). */
struct loss_metrics {
    double loss, policy_loss, kl, entropy;
    double clip_low_mean, clip_low_min, clip_high_mean, clip_high_max, clip_region_mean, capped_mean;
    double event;
    double dropped; /* share of the sequences */
    double ratio_min, ratio_max;
};
void loss_metrics(const struct loss_sums *sums, struct loss_metrics *metrics);

/* Writes d_logp and d_entropy and adds the sequence's part to sums. A NaN or infinity among the log-probs reaches
 * sums->loss and d_logp: the caller looks before it steps. To find the sequence at fault, give each its own sums and
 * merge them. */
void loss_sequence_apply(const struct loss_config *config, const struct loss_scale *scale,
                         const struct loss_sequence *sequence, struct loss_sums *sums);

/* The estimate of KL(policy || reference) from one token, and its derivative with respect to logp. */
struct kl_estimate {
    double value, slope;
};
struct kl_estimate loss_kl(enum loss_kl kl, float logp, float logp_ref);

#endif

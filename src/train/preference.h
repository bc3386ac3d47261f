/* The losses of preferences: scalar functions of a pair's two scores, which are sums (or means) of log-probs of a chosen and
 * a rejected completion, with their derivatives by those sums. So all that a trainer of preferences adds to a step is what a
 * token's log-prob weighs: the derivative by the sum that it is in. A loss is a row of preference_list.h; names, formulas
 * and defaults are TRL's (docs/TRAINERS.md). Denominators span the optimizer step (invariant I5). Arithmetic in double. */
#ifndef COHORT_TRAIN_PREFERENCE_H
#define COHORT_TRAIN_PREFERENCE_H

#include "base/error.h"
#include "train/preference_list.h"

#include <stdbool.h>
#include <stdint.h>

#define LOSS(id, ...) PREFERENCE_##id,
enum preference_loss { PREFERENCE_LOSS_LIST(LOSS) N_PREFERENCE_LOSSES };
#undef LOSS
#define DIVERGENCE(id, word) PREFERENCE_DIVERGENCE_##id,
enum preference_divergence { PREFERENCE_DIVERGENCE_LIST(DIVERGENCE) };
#undef DIVERGENCE

enum { MOST_PREFERENCE_LOSSES = 16 };

struct preference_config {
    struct {
        enum preference_loss loss;
        double weight;
    } terms[MOST_PREFERENCE_LOSSES]; /* that are added up */
    int32_t n_terms;
    double beta; /* above 0 */
    double label_smoothing;
    enum preference_divergence divergence;
    double alpha_coef; /* of PREFERENCE_DIVERGENCE_ALPHA */
    double discopop_tau;
    double simpo_gamma;
    double alpha;     /* of AlphaPO's reward, of losses that see sums or means; 0: the log-prob itself */
    double nll;       /* weight of the negative log-probs of the chosen side beside the terms; 0: none */
    bool nll_prompts; /* over the prompt's tokens too (ORPO) */
    bool long_tail;   /* tokens beyond the shorter side's length weigh ld_alpha (LD-DPO) */
    double ld_alpha;
    bool weighting;                /* pairs weigh the product of their sides' weights (WPO) */
    double desirable, undesirable; /* weights of single completions */
    double centre;                 /* of a reward model: weight of the squared sum of a pair's scores */
};
/* COHORT_ERR_ARGUMENT with the reason, in the words of the options, where switches do not go together. */
cohort_status preference_check(const struct preference_config *config, cohort_error *err);
/* Whether a loss reads log-probs of a reference, and whether one looks at all pairs of a step at once. */
bool preference_needs_reference(const struct preference_config *config);
bool preference_spans(const struct preference_config *config);
/* Whether rows are single completions, and whether their loss compares with the KL of mismatched ones. */
bool preference_is_single(const struct preference_config *config);
bool preference_needs_kl(const struct preference_config *config);
/* Whether what a side counts is the score of a reward model's head, and nothing is made of log-probs. */
bool preference_scores(const struct preference_config *config);

/* One completion of a pair. */
struct preference_side {
    int32_t n;    /* its tokens */
    double sum;   /* of their log-probs */
    double score; /* the same with tokens beyond the shorter side's length times ld_alpha, where long_tail says so */
    double reference; /* the reference's score */
    double weight;    /* with weighting */
    /* Out: the derivatives of the step's loss by score and by sum. */
    double d_score, d_sum;
};
struct preference_pair {
    struct preference_side chosen, rejected; /* of a single completion one, by whether it is wanted */
    bool single, wanted;
    double margin; /* by which the chosen side should be better, of a reward model */
    double prompt; /* sum of the log-probs of the prompt's tokens but the first; only with nll_prompts */
    /* Out: its own loss, not divided by the pairs of the step, without tokens' means; the derivative by prompt. */
    double loss, d_prompt;
};

/* What the denominators need, over the whole optimizer step. */
struct preference_scale {
    int64_t n_pairs;  /* or single completions */
    double kl;        /* what those are compared with */
    int64_t n_chosen; /* tokens of the chosen sides; with nll_prompts their prompts' too */
};

/* Sums over pairs; means are the trainer's to make. */
struct preference_sums {
    double loss; /* of the step: already divided */
    double nll;  /* sum of negative log-probs of chosen sides' tokens, where a loss asks for it */
    double reward_chosen, reward_rejected, accuracy;
    double logp_chosen, logp_rejected;
    double odds, log_odds;    /* of ORPO: lo, and log sigmoid of it */
    double least, most;       /* scores of a reward model; of the first pair's where sides is 0 */
    int64_t chosen, rejected; /* sides */
};

/* A value by which pairs are sorted. */
struct preference_order {
    double value;
    int32_t pair;
};

/* Writes the derivatives of n of the step's pairs and their losses, and adds to sums. Where a loss spans the step, n is
 * all of them, and order has room for [2 n]; else order may be NULL. What is not finite is passed on. */
void preference_apply(const struct preference_config *config, const struct preference_scale *scale,
                      struct preference_pair *pairs, int32_t n, struct preference_sums *sums,
                      struct preference_order *order);

/* What TRL calls the reward of a side: beta times its log-ratio, or times what the loss sees of it; and its log-prob: the
 * sum or the mean, as the loss has it. */
double preference_reward(const struct preference_config *config, const struct preference_side *side);
double preference_logp(const struct preference_config *config, const struct preference_side *side);

#endif

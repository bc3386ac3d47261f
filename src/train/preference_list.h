/* The losses of preferences, one row each, and the divergences: the choices of loss_type in dpo, cpo and kto, and of
 * f_divergence_type. */
#ifndef COHORT_TRAIN_PREFERENCE_LIST_H
#define COHORT_TRAIN_PREFERENCE_LIST_H

/* X(ID, word, formula, input, divergence)
 *   ID, word    PREFERENCE_ID is called word in the option loss_type
 *   formula     formula_FORMULA of preference.c: value and derivatives of a pair; sorted: over all pairs of a step; single: of one
 *               completion
 *   input       what the formula sees of a side: ratio (log-ratio to the reference), sum or mean of log-probs, tokens
 *               (the negative log-probs of the chosen completions, a mean over all their tokens), or score (of the head of a
 *               reward model, in place of log-probs)
 *   divergence  whether f_divergence_type applies to that log-ratio */
/* clang-format off */
#define DPO_LOSS_LIST(X)                                                                                               \
    X(SIGMOID,      "sigmoid",      sigmoid,       ratio,  true)                                                       \
    X(HINGE,        "hinge",        hinge,         ratio,  true)                                                       \
    X(IPO,          "ipo",          squared_means, ratio,  true)                                                       \
    X(EXO_PAIR,     "exo_pair",     exo,           ratio,  true)                                                       \
    X(NCA_PAIR,     "nca_pair",     nca,           ratio,  false)                                                      \
    X(ROBUST,       "robust",       robust,        ratio,  true)                                                       \
    X(BCO_PAIR,     "bco_pair",     bco,           ratio,  false)                                                      \
    X(SPPO_HARD,    "sppo_hard",    sppo,          ratio,  false)                                                      \
    X(AOT,          "aot",          sorted,        ratio,  false)                                                      \
    X(AOT_UNPAIRED, "aot_unpaired", sorted,        ratio,  false)                                                      \
    X(APO_ZERO,     "apo_zero",     apo_zero,      ratio,  false)                                                      \
    X(APO_DOWN,     "apo_down",     apo_down,      ratio,  false)                                                      \
    X(DISCOPOP,     "discopop",     discopop,      ratio,  true)                                                       \
    X(SFT,          "sft",          none,          tokens, false)                                                      \
    X(SIGMOID_NORM, "sigmoid_norm", sigmoid_means, ratio,  true)

#define CPO_LOSS_LIST(X)                                                                                               \
    X(CPO_SIGMOID, "sigmoid", smoothed,  sum,  false)                                                                  \
    X(CPO_HINGE,   "hinge",   hinge,     sum,  false)                                                                  \
    X(CPO_IPO,     "ipo",     squared,   mean, false)                                                                  \
    X(CPO_SIMPO,   "simpo",   simpo,     mean, false)                                                                  \
    X(CPO_ALPHAPO, "alphapo", simpo,     mean, false)

#define ORPO_LOSS_LIST(X)                                                                                              \
    X(ORPO, "orpo", odds, mean, false)

/* Of single completions. */
#define KTO_LOSS_LIST(X)                                                                                               \
    X(KTO,               "kto",               single, ratio, false)                                                    \
    X(APO_ZERO_UNPAIRED, "apo_zero_unpaired", single, ratio, false)

/* Of a reward model. */
#define REWARD_LOSS_LIST(X)                                                                                            \
    X(REWARD, "reward", reward, score, false)

#define PREFERENCE_LOSS_LIST(X) DPO_LOSS_LIST(X) CPO_LOSS_LIST(X) ORPO_LOSS_LIST(X) KTO_LOSS_LIST(X) REWARD_LOSS_LIST(X)
/* clang-format on */

/* X(ID, word): PREFERENCE_DIVERGENCE_ID is called word in the option f_divergence_type. */
#define PREFERENCE_DIVERGENCE_LIST(X)                                                                                  \
    X(REVERSE_KL, "reverse_kl")                                                                                        \
    X(FORWARD_KL, "forward_kl")                                                                                        \
    X(JS, "js_divergence")                                                                                             \
    X(ALPHA, "alpha_divergence")

#endif

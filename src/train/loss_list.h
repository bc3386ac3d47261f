/* The losses, one row each, the levels of their ratio and the estimators of the KL: the choices of loss_type,
 * importance_sampling_level and kl_estimator. */
#ifndef COHORT_TRAIN_LOSS_LIST_H
#define COHORT_TRAIN_LOSS_LIST_H

/* X(ID, word, gate, average, levels)
 *   ID, word  LOSS_ID is called word in the option loss_type
 *   gate      gate_GATE of loss.c: what becomes of ratio and advantage
 *   average   average_AVERAGE of loss.c: what a token weighs
 *   levels    levels_LEVELS of loss.c: which ratio the gate sees, by importance_sampling_level */
/* clang-format off */
#define LOSS_LIST(X)                                                                                                   \
    X(GRPO,    "grpo",    clip,      sequences, named)                                                                 \
    X(BNPO,    "bnpo",    clip,      tokens,    named)                                                                 \
    X(DR_GRPO, "dr_grpo", clip,      longest,   named)                                                                 \
    X(DAPO,    "dapo",    clip,      tokens,    named)                                                                 \
    X(LUSPO,   "luspo",   clip,      sums,      named)                                                                 \
    X(CISPO,   "cispo",   detached,  tokens,    named)                                                                 \
    X(SAPO,    "sapo",    soft,      sequences, named)                                                                 \
    X(VESPO,   "vespo",   gamma,     tokens,    named)                                                                 \
    X(GMPO,    "gmpo",    geometric, sequences, own)                                                                   \
    X(RLOO,    "rloo",    clip,      sequences, product)
/* clang-format on */

/* X(ID, word, level): LOSS_LEVEL_ID is called word in the option importance_sampling_level, and is level_LEVEL of
 * loss.c for the losses that have the levels as they are named. */
#define LOSS_LEVEL_LIST(X)                                                                                             \
    X(TOKEN, "token", token)                                                                                           \
    X(SEQUENCE, "sequence", sequence)                                                                                  \
    X(SEQUENCE_TOKEN, "sequence_token", sequence_token)

/* X(ID, word): LOSS_KL_ID is called word in the option kl_estimator. */
#define LOSS_KL_LIST(X)                                                                                                \
    X(K3, "k3")                                                                                                        \
    X(K1, "k1")                                                                                                        \
    X(K2, "k2")

#endif

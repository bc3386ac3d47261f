/* The losses, one row each, and the levels of their ratio: the choices of loss_type and importance_sampling_level. */
#ifndef COHORT_TRAIN_LOSS_LIST_H
#define COHORT_TRAIN_LOSS_LIST_H

/* X(ID, word, gate, average, levels)
 *   ID, word  LOSS_ID is called word in the option loss_type
 *   gate      gate_GATE of loss.c: what becomes of ratio and advantage
 *   average   average_AVERAGE of loss.c: what a token weighs
 *   levels    levels_LEVELS of loss.c: which ratio the gate sees, by importance_sampling_level */
/* clang-format off */
#define LOSS_LIST(X)                                                                                                   \
    X(GRPO,    "grpo",    clip, sequences, named)                                                                      \
    X(BNPO,    "bnpo",    clip, tokens,    named)                                                                      \
    X(DR_GRPO, "dr_grpo", clip, longest,   named)                                                                      \
    X(DAPO,    "dapo",    clip, tokens,    named)
/* clang-format on */

/* X(ID, word, level): LOSS_LEVEL_ID is called word in the option importance_sampling_level, and is level_LEVEL of
 * loss.c for the losses that have the levels as they are named. */
#define LOSS_LEVEL_LIST(X)                                                                                             \
    X(TOKEN, "token", token)                                                                                           \
    X(SEQUENCE, "sequence", sequence)

#endif

/* The optimizers, by the names of transformers, and their arguments: the choices of optim and the names in optim_args. */
#ifndef COHORT_TRAIN_OPTIMIZER_LIST_H
#define COHORT_TRAIN_OPTIMIZER_LIST_H

/* X(ID, word, type): the word of optim, which is OPTIMIZER_type. */
#define OPTIM_LIST(X)                                                                                                  \
    X(ADAMW_TORCH_FUSED, "adamw_torch_fused", ADAMW)                                                                   \
    X(ADAMW_TORCH, "adamw_torch", ADAMW)                                                                               \
    X(ADAMW_8BIT, "adamw_8bit", ADAMW_8BIT)                                                                            \
    X(ADAMW_BNB_8BIT, "adamw_bnb_8bit", ADAMW_8BIT)                                                                    \
    X(MUON, "muon", MUON)                                                                                              \
    X(SGD, "sgd", SGD)                                                                                                 \
    X(ADAFACTOR, "adafactor", ADAFACTOR)                                                                               \
    X(LION_32BIT, "lion_32bit", LION)

/* X(ID, name): OPTIMIZER_ID, and its name in a checkpoint. */
#define OPTIMIZER_LIST(X)                                                                                              \
    X(ADAMW, "adamw")                                                                                                  \
    X(ADAMW_8BIT, "adamw_8bit")                                                                                        \
    X(MUON, "muon")                                                                                                    \
    X(SGD, "sgd")                                                                                                      \
    X(ADAFACTOR, "adafactor")                                                                                          \
    X(LION, "lion")

/* X(ID, name, form, least, most): OPTIMIZER_ID and its name in optim_args; form: NUMBER, WHOLE, SWITCH (true or false),
 * or RATE (one of OPTIMIZER_RATE_LIST). */
#define OPTIMIZER_ARGUMENT_LIST(X)                                                                                     \
    X(MOMENTUM, "momentum", NUMBER, 0, 0.9999999)                                                                      \
    X(DAMPENING, "dampening", NUMBER, 0, 1)                                                                            \
    X(NESTEROV, "nesterov", SWITCH, 0, 1)                                                                              \
    X(NS_STEPS, "ns_steps", WHOLE, 1, 99)                                                                              \
    X(NS_EPS, "eps", NUMBER, 1e-30, 1)                                                                                 \
    X(ADJUST_LR_FN, "adjust_lr_fn", RATE, 0, 0)                                                                        \
    X(CLIP_THRESHOLD, "clip_threshold", NUMBER, 1e-6, 1e6)                                                             \
    X(DECAY_RATE, "decay_rate", NUMBER, -10, 0)                                                                        \
    X(BETA1, "beta1", NUMBER, 0, 0.9999999)                                                                            \
    X(SCALE_PARAMETER, "scale_parameter", SWITCH, 0, 1)                                                                \
    X(RELATIVE_STEP, "relative_step", SWITCH, 0, 1)                                                                    \
    X(WARMUP_INIT, "warmup_init", SWITCH, 0, 1)

/* X(ID, word): OPTIMIZER_RATE_ID, how Muon's rate follows from a matrix's shape (torch.optim.Muon). */
#define OPTIMIZER_RATE_LIST(X)                                                                                         \
    X(ORIGINAL, "original")                                                                                            \
    X(MATCH_RMS_ADAMW, "match_rms_adamw")                                                                              \
    X(SPECTRAL_UNCLAMPED, "spectral_unclamped")

#endif

/* The losses of supervised fine-tuning: the choices of loss_type in sft. */
#ifndef COHORT_TRAIN_SFT_LIST_H
#define COHORT_TRAIN_SFT_LIST_H

/* X(ID, word): SFT_LOSS_ID is called word in the option loss_type. */
#define SFT_LOSS_LIST(X)                                                                                               \
    X(NLL, "nll")                                                                                                      \
    X(DFT, "dft")

#endif

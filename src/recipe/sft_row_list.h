/* Rows of supervised fine-tuning: the choices of truncation_mode and packing_strategy. */
#ifndef COHORT_RECIPE_SFT_ROW_LIST_H
#define COHORT_RECIPE_SFT_ROW_LIST_H

/* X(ID, word): TRUNCATION_ID is called word. */
#define TRUNCATION_LIST(X)                                                                                             \
    X(KEEP_START, "keep_start")                                                                                        \
    X(KEEP_END, "keep_end")

/* X(ID, word): PACKING_ID is called word in packing_strategy. */
#define PACKING_LIST(X)                                                                                                \
    X(BFD, "bfd")                                                                                                      \
    X(BFD_SPLIT, "bfd_split")                                                                                          \
    X(WRAPPED, "wrapped")

#endif

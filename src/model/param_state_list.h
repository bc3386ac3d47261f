/* What an optimizer may keep for a parameter beside its gradient, each kind with the name that its tensors begin with in
 * a checkpoint (torch's where torch has one). */
#ifndef COHORT_MODEL_PARAM_STATE_LIST_H
#define COHORT_MODEL_PARAM_STATE_LIST_H

/* X(ID, name, type, size): PARAM_STATE_ID.
 *   type  the dtype of safetensors; MOMENT: F32 or BF16, as param_set_train_begin is told
 *   size  ELEMENTS: one for each of the param; BLOCKS: one for every ADAMW_8BIT_BLOCK; ROWS, COLUMNS: of its shape */
#define PARAM_STATE_LIST(X)                                                                                            \
    X(EXP_AVG, "exp_avg", MOMENT, ELEMENTS)                                                                            \
    X(EXP_AVG_SQ, "exp_avg_sq", MOMENT, ELEMENTS)                                                                      \
    X(STATE1, "state1", U8, ELEMENTS)                                                                                  \
    X(STATE2, "state2", U8, ELEMENTS)                                                                                  \
    X(ABSMAX1, "absmax1", F32, BLOCKS)                                                                                 \
    X(ABSMAX2, "absmax2", F32, BLOCKS)                                                                                 \
    X(MOMENTUM, "momentum_buffer", F32, ELEMENTS)                                                                      \
    X(SQUARES, "exp_avg_sq_whole", F32, ELEMENTS)                                                                      \
    X(ROW, "exp_avg_sq_row", F32, ROWS)                                                                                \
    X(COLUMN, "exp_avg_sq_col", F32, COLUMNS)                                                                          \
    X(EMA, "ema", F32, ELEMENTS)                                                                                       \
    X(LOW, "master_low", I16, ELEMENTS)

#endif

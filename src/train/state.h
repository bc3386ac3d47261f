/* The trainer's state beside the weights (invariant I6): trainer/optimizer.safetensors with what the optimizer keeps,
 * the mean of the weights if there is one and the low halves of the master, and trainer/state.json with the counters. Together with the weights this is all that a run
 * needs to continue bit for bit. */
#ifndef COHORT_TRAIN_STATE_H
#define COHORT_TRAIN_STATE_H

#include "format/manifest.h"
#include "model/param_set.h"
#include "train/best.h"

struct train_state {
    char command[8]; /* "sft", "grpo", "dpo" */
    int64_t step;    /* optimizer steps tried: updates + skipped */
    int64_t updates; /* of the optimizer */
    int64_t skipped;
    int64_t batches; /* generation batches (grpo) or row batches (sft) done: the data cursor */
    int64_t tokens_seen;
    uint64_t seed;
    bool adapts_entropy;               /* the controller of an entropy bonus (train/entropy.h) is part of it: */
    double entropy_coef, last_entropy; /* last_entropy infinite: no step yet */
    struct best best;                  /* evaluations (train/best.h); part of it once one was taken */
};

/* Writes the state of everything in the set that trains into dir/trainer/ (dir exists). manifest, if not NULL, gets the
 * hash of the optimizer's state. */
cohort_status train_state_write(const char *dir, const struct param_set *set, const struct train_state *state,
                                struct manifest *manifest, cohort_error *err);
/* Reads it back; param_set_train_begin must have been called. A checkpoint of another model, type, optimizer or command is
 * refused with what differs. */
cohort_status train_state_read(const char *dir, struct param_set *set, struct train_state *state, cohort_error *err);

#endif

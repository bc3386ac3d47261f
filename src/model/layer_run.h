/* One layer at work on one batch: what the blocks' forward and backward share. */
#ifndef COHORT_MODEL_LAYER_RUN_H
#define COHORT_MODEL_LAYER_RUN_H

#include "backend/ops.h"
#include "model/decoder.h"

struct layer_run {
    struct model *model;
    struct decoder_work *work;
    const struct batch *batch;
    const struct layer *layer;
    struct layer_acts *acts;
    struct layer_state state; /* this layer's keys and values */
    float *x;                 /* [T, C] the layer's input */
};

/* work->d_out = work->d_x in the type that products read. */
void layer_run_convert(const struct layer_run *r);

#endif

/* The feed-forward half of a layer: out = mid + down(silu(gate(norm(mid))) * up(norm(mid))). */
#ifndef COHORT_MODEL_FEED_FORWARD_H
#define COHORT_MODEL_FEED_FORWARD_H

#include "model/linear.h"

struct layer_run;

struct feed_forward {
    struct norm norm;            /* of the block's input */
    struct linear gate_up, down; /* [2F, C], [C, F] */
};

/* out[T, C]. In inference out may be mid itself. With out NULL it computes only what the backward reads. */
void feed_forward_forward(const struct layer_run *r, const float *mid, float *out);
/* work->d_x: from dL/d out to dL/d mid. */
void feed_forward_backward(const struct layer_run *r);

#endif

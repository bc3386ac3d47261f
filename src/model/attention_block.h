/* The attention half of a layer: mid = x + out(attention(rotation(head norm(qkv(norm(x)))))). */
#ifndef COHORT_MODEL_ATTENTION_BLOCK_H
#define COHORT_MODEL_ATTENTION_BLOCK_H

#include "model/linear.h"

struct layer_run;

struct attention_block {
    struct norm norm;           /* of the block's input */
    struct linear qkv, out;     /* [(H+2K)*D, C], [C, H*D] */
    struct norm q_norm, k_norm; /* of each head, gains [D], which are NULL where there is none */
    int32_t window;             /* keys that a query sees at most; 0: all before it */
};

/* mid[T, C]. In inference mid may be x itself. */
void attention_block_forward(const struct layer_run *r, float *mid);
/* work->d_x: from dL/d mid to dL/d x. */
void attention_block_backward(const struct layer_run *r);

#endif

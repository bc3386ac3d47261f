/* The tables of rotary position embeddings, which the attention block's operations read: cos and sin of
 * position * theta^(-2i/D) for the pair (i, i + D/2) of a head. */
#ifndef COHORT_MODEL_ROTATION_H
#define COHORT_MODEL_ROTATION_H

#include "backend/backend.h"

struct rotation {
    float *cos_table, *sin_table; /* [positions, D/2], owned; NULL until rotation_build */
};

size_t rotation_bytes(int32_t positions, int32_t head_dim);
/* Frequencies and angles in fp32, as transformers computes them. */
cohort_status rotation_build(struct rotation *rotation, struct backend *backend, double theta, int32_t positions,
                             int32_t head_dim, cohort_error *err);
void rotation_free(struct rotation *rotation, struct backend *backend);

#endif

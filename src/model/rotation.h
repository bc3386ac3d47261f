/* The tables of rotary position embeddings, which the attention block's operations read: cos and sin of
 * position * f_i for the pair (i, i + D/2) of a head, times the attention factor of the rotation (format/rope_config.h
 * has the frequencies f_i). */
#ifndef COHORT_MODEL_ROTATION_H
#define COHORT_MODEL_ROTATION_H

#include "backend/backend.h"
#include "base/pool.h"
#include "format/rope_config.h"

struct rotation {
    float *cos_table, *sin_table; /* [positions, D/2], owned; NULL until rotation_build */
};

size_t rotation_bytes(int32_t positions, int32_t head_dim);
/* Frequencies and angles in fp32, as transformers computes them. pool: NULL, or threads that share the positions. */
cohort_status rotation_build(struct rotation *rotation, struct backend *backend, const struct rope_config *rope,
                             int32_t positions, int32_t head_dim, struct pool *pool, cohort_error *err);
void rotation_free(struct rotation *rotation, struct backend *backend);

#endif

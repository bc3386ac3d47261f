/* Random checkpoints small enough for tests, written and read back through the library. */
#ifndef COHORT_TESTS_SUPPORT_TINY_MODEL_H
#define COHORT_TESTS_SUPPORT_TINY_MODEL_H

#include "model/model.h"

struct tiny_shape {
    const char *name;
    int32_t vocab_size, hidden_size, n_layers, n_heads, n_kv_heads, head_dim, intermediate_size;
    bool tied, bf16_weights;
    int32_t n_experts, chosen, expert_size; /* 0: dense; else all layers but the first have experts */
    bool fused;                             /* written as one tensor for a layer */
    int32_t max_positions;                  /* 0: 1,024 */
    /* Of the initial weights. Well above the usual 0.02, so that the distribution is far from flat
     * and attention has a say in it: a flat one would hide differences. */
    float standard_deviation;
};

/* A head size that divides by the vector width, tied head; and sizes that divide by nothing. */
extern const struct tiny_shape tiny_even, tiny_odd;
/* Head sizes 128 and 64, for which a GPU has kernels of their own: two and three query heads to a key head, and a
 * vocabulary of more than one block of the head's statistics. */
extern const struct tiny_shape tiny_wide, tiny_half;
/* Experts behind a dense layer. */
extern const struct tiny_shape tiny_experts;

/* Writes config.json and model.safetensors (F32, or BF16 with bf16_weights) into the existing folder dir. */
cohort_status tiny_checkpoint_write(const char *dir, const struct tiny_shape *shape, uint64_t seed, cohort_error *err);

#endif

/* The statistics of one row of logits: the one function behind head_stats and sample, so that the
 * log-prob a token is sampled with is the one training computes, bit for bit (invariants I1, I2).
 *
 * The vocabulary is cut into blocks whose size depends on V alone. A block gives its maximum and,
 * relative to it, the sum of exp and the sum of exp * z; the row combines the blocks in ascending
 * order in double. Threads may share out the blocks of a row: the result does not change. */
#ifndef COHORT_BACKEND_CPU_HEAD_ROW_H
#define COHORT_BACKEND_CPU_HEAD_ROW_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

struct backend;

enum {
    HEAD_BLOCK = 2048,
    HEAD_MAX_BLOCKS = 256 /* beyond 2048 * 256 entries the blocks grow instead, so a row needs no allocation */
};

/* Of z = logit * inv_temperature over one block. All -inf: max = -inf, sums 0. A NaN or +inf makes
 * weighted NaN. */
struct head_block {
    float max;
    float sum;      /* of exp(z - max) */
    float weighted; /* of exp(z - max) * (z - max) */
};

struct head_row {
    int64_t count, block_size;
    int n_blocks;
    float inv_temperature;
    /* A NaN, +inf or nothing but -inf among the logits: there is no distribution, and lse and
     * entropy are NaN. */
    bool valid;
    double lse; /* log sum exp z; rounded to float only on output */
    double entropy;
    struct head_block block[HEAD_MAX_BLOCKS];
};

/* log-prob of a token with this logit. */
static inline float head_row_logp(const struct head_row *row, float logit)
{
    return (float)((double)(logit * row->inv_temperature) - row->lse);
}

/* Whether the token is the row's first entry with the largest z, as an argmax gives it. Only blocks that have this
 * maximum are read again. */
static inline bool head_row_is_top(const struct head_row *row, const float *logits, int64_t token)
{
    const float z = logits[token] * row->inv_temperature;
    for (int b = 0; b < row->n_blocks; b++)
        if (row->block[b].max > z)
            return false;
    for (int b = 0; row->valid && (int64_t)b * row->block_size < token; b++) {
        const int64_t begin = (int64_t)b * row->block_size, end = begin + row->block_size;
        for (int64_t i = begin; row->block[b].max == z && i < end && i < token; i++)
            if (logits[i] * row->inv_temperature == z)
                return false;
    }
    return row->valid;
}

/* Logits of ids that are not allowed become -inf. */
static inline void head_forbid(const uint32_t *allowed, float *logits, int64_t count)
{
    for (int64_t word = 0; word * 32 < count; word++) {
        const int64_t begin = 32 * word, left = count - begin;
        if (allowed[word] == UINT32_MAX)
            continue;
        for (int bit = 0; bit < 32 && bit < left; bit++)
            if ((allowed[word] >> bit & 1u) == 0)
                logits[begin + bit] = -INFINITY;
    }
}

/* head_row: on the backend's threads; backend NULL: on the calling thread alone. */
#define HEAD_ROW_DECLARE(isa)                                                                                          \
    void head_block_##isa(struct head_block *out, const float *logits, int64_t count, float inv_temperature);          \
    void head_row_##isa(struct backend *backend, struct head_row *out, const float *logits, int64_t count,             \
                        float inv_temperature);
HEAD_ROW_DECLARE(portable)
HEAD_ROW_DECLARE(avx2)
HEAD_ROW_DECLARE(avx512)

#endif

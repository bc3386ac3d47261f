/* The steps between raw logits and a draw that MLX-LM calls logits processors and sampling methods
 * (sample_utils.py), on one row in memory, apart so that tests can compare the distributions they
 * leave. */
#ifndef COHORT_BACKEND_CPU_SAMPLE_FILTERS_H
#define COHORT_BACKEND_CPU_SAMPLE_FILTERS_H

#include "backend/sampling.h"

/* A token and its log-prob, for ranking. */
struct ranked {
    float logp;
    int32_t id;
};

/* Working memory of one thread. Zero-initialise it; it grows as needed. */
struct sample_scratch {
    float *logits; /* the row being changed */
    float *window; /* the logits of a window of the history */
    struct ranked *ranked;
    size_t logits_capacity, window_capacity, ranked_capacity;
};

/* process: on count raw logits, in place, -inf for what is not allowed, then bias, repetition, presence
 * and frequency penalty. Ids outside 0 .. count are skipped. A context of 0 or less is the whole history, as in MLX-LM.
 * filter: raw or processed logits to log-probs at temperature 1 (with hf_order at its own, and in that order), then top-p, min-p, XTC (its coin
 * from row's seed, stream and position), top-k, in place; what is removed becomes -inf. *valid is
 * false if the logits have no distribution (a NaN, +inf, or -inf throughout). Among equals, top-k
 * and min_tokens_to_keep keep the lowest ids. Both fail only for want of memory. */
#define SAMPLE_FILTERS_DECLARE(isa)                                                                                    \
    cohort_status sample_process_##isa(const struct sample_row *row, float *logits, int64_t count,                     \
                                       struct sample_scratch *scratch);                                                \
    cohort_status sample_filter_##isa(const struct sample_row *row, float *logits, int64_t count,                      \
                                      struct sample_scratch *scratch, bool *valid);
SAMPLE_FILTERS_DECLARE(portable)
SAMPLE_FILTERS_DECLARE(avx2)
SAMPLE_FILTERS_DECLARE(avx512)

#endif

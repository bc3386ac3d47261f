/* Counter-based randomness (invariant I3): a draw is a function of what it is for, never of what was
 * drawn before. Philox4x32-10 of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC11). */
#ifndef COHORT_BASE_RNG_H
#define COHORT_BASE_RNG_H

#include <stdint.h>

/* What a draw is for. The numbers are part of what a seed means: never renumber. */
enum rng_purpose {
    RNG_SAMPLE = 1,  /* choosing a token */
    RNG_XTC = 2,     /* the coin of the XTC filter */
    RNG_INIT = 3,    /* initial weights */
    RNG_SHUFFLE = 4, /* order of a data set */
    RNG_TEST = 5,
    RNG_ROUND = 6,   /* rounding of moments that are kept in bf16 */
    RNG_MIXTURE = 7, /* which file of a mixture a row comes from */
    RNG_NOISE = 8,   /* on the embeddings of a row (NEFTune) */
    RNG_SLICES = 9,  /* order in which a generation batch is cut into slices */
    RNG_DROPOUT = 10 /* of what an adapter reads */
};

struct rng_block {
    uint32_t word[4];
};

/* The block for (seed, purpose, stream, counter). stream tells apart what shares a seed and a purpose: a
 * completion, a tensor, an epoch. counter is the position within it. */
struct rng_block rng_philox(uint64_t seed, enum rng_purpose purpose, uint64_t stream, uint64_t counter);

/* Mixes two words into a stream id (for example prompt id and completion index). */
uint64_t rng_stream(uint64_t a, uint64_t b);

/* Uniform in [0, 1) with 24 bits, and uniform double in (0, 1) with 53 bits. */
float rng_uniform(uint32_t word);
double rng_uniform_double(uint32_t high, uint32_t low);

#endif

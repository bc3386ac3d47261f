/* Steps of decoding that a device takes without a word from the host: what the engine hands over and gets back. */
#ifndef COHORT_ROLLOUT_WINDOW_H
#define COHORT_ROLLOUT_WINDOW_H

#include "backend/sampling.h"

/* Steps between two looks of the host. More would waste more on sequences that end in between. */
enum { DECODE_WINDOW = DECODE_STEPS_MOST };

struct decode_window {
    struct decode_slot *slots; /* [n] */
    int32_t *tokens;           /* [DECODE_WINDOW, n] */
    float *logp;
    int32_t steps;
    size_t slot_capacity, token_capacity, logp_capacity;
};
cohort_status decode_window_reserve(struct decode_window *window, int32_t n, cohort_error *err);
void decode_window_free(struct decode_window *window);

/* Rows a step computes for n sequences: few distinct numbers, because a step is recorded for each. */
int32_t decode_rows(int32_t n);
/* Tells recordings apart: the engine, by a buffer of its own; rows; and whether any of the n slots needs more than a
 * plain draw. */
uint64_t decode_window_key(const struct decode_window *window, const void *buffer, int32_t n, int32_t rows);

#endif

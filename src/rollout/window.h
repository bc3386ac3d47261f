/* A window of decoding: steps that a device takes without a host round trip.
 *
 * Owns what is handed over (a slot for every running sequence) and what comes back (tokens, log-probs and entropies of
 * all steps); works with the step's buffers. While a window runs nothing is admitted and the host does not look: what a
 * sequence draws between its stop string and the end of the window is wasted.
 *
 * Keeps I1 (a step of the window is decoder_layers and the head as everywhere) and I3 (its draws are keyed as those of
 * single steps: the same tokens). */
#ifndef COHORT_ROLLOUT_WINDOW_H
#define COHORT_ROLLOUT_WINDOW_H

#include "rollout/step.h"

/* Steps between two looks of the host. More steps would waste more work on sequences that end in between. */
enum { DECODE_WINDOW = DECODE_STEPS_MOST };

struct decode_window {
    struct decode_slot *slots; /* [max_sequences] */
    int32_t *tokens;           /* [DECODE_WINDOW, n] of n running sequences */
    float *logp, *entropy;     /* likewise */
    int32_t steps;
};
cohort_status decode_window_create(struct decode_window *window, int32_t max_sequences, cohort_error *err);
void decode_window_free(struct decode_window *window);

/* Draws several tokens for every running sequence, of which there is at least one. */
cohort_status decode_window_run(struct decode_window *window, struct step *step, struct scheduler *scheduler,
                                cohort_error *err);

#endif

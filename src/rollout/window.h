/* A window of decoding: steps that a device takes without a host round trip.
 *
 * Owns what is handed over (a slot for every running sequence) and what comes back (tokens, log-probs and entropies of
 * all steps); works with the step's buffers. While a window runs nothing is admitted and the host does not look: what a
 * sequence draws between its end and that of the window is wasted; where many end, windows are shorter. A request that comes
 * meanwhile waits; where some came since the last window, more are to be expected, and windows are shorter too.
 *
 * Keeps I1 (a step of the window is decoder_layers and the head as everywhere) and I3 (its draws are keyed as those of
 * single steps: the same tokens). */
#ifndef COHORT_ROLLOUT_WINDOW_H
#define COHORT_ROLLOUT_WINDOW_H

#include "rollout/step.h"

/* Steps between two looks of the host, at most. More steps would waste more work on sequences that end in between. */
enum { DECODE_WINDOW = DECODE_STEPS_MOST };

struct decode_window {
    struct decode_slot *slots; /* [max_sequences] */
    int32_t *tokens;           /* [DECODE_WINDOW, n] of n running sequences */
    float *logp, *entropy;     /* likewise */
    int32_t steps;
    int32_t most; /* steps of the next one, as many stopped early in those before */
    int32_t calm; /* likewise, as requests came */
    int64_t came; /* requests until the last one */
};
cohort_status decode_window_create(struct decode_window *window, int32_t max_sequences, cohort_error *err);
void decode_window_free(struct decode_window *window);

/* How many steps the next window has: where many sequences come to their longest it ends before an eighth of its work would be
 * for nothing, so that others take their rows; and within most and calm. */
int32_t decode_window_steps(const struct decode_window *window, const struct scheduler *scheduler);
/* Of that many draws so many stood behind an end that nobody foresaw: windows are halved where that is more than an eighth, to
 * no less than a quarter, and doubled again where it is less than a 32nd. */
void decode_window_note(struct decode_window *window, int64_t draws, int64_t wasted);

/* Before a window: so many requests came so far. Windows are of a quarter where some are new, and doubled again where none is. */
void decode_window_expect(struct decode_window *window, int64_t came);

/* Draws several tokens for every running sequence, of which there is at least one. */
cohort_status decode_window_run(struct decode_window *window, struct step *step, struct scheduler *scheduler,
                                cohort_error *err);

#endif

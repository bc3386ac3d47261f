/* Watches the metrics of a run's steps and reports when it cannot learn: once after ten steps from which nothing could
 * be learned, and at its end. It knows nothing of options or observers. */
#ifndef COHORT_TRAIN_WATCH_H
#define COHORT_TRAIN_WATCH_H

#include "train/metrics.h"

enum {
    WATCH_STEPS = 10,    /* in a row, before the run is told */
    WATCH_MESSAGE = 1200 /* bytes of a message */
};

enum watch_reason {
    WATCH_NO_REWARD,  /* every reward null */
    WATCH_EQUAL,      /* rewards equal within every group: no advantage */
    WATCH_TRUNCATED,  /* (nearly) no completion ended by itself */
    WATCH_NOT_FINITE, /* every update skipped */
    WATCH_NO_GRADIENT,
    WATCH_REASONS
};

/* Zero-initialise. */
struct watch {
    int64_t steps;
    int64_t streak[WATCH_REASONS]; /* steps in a row, the last one among them */
    double reward, clipped;        /* of the last step; NaN if it had none */
    bool told_hopeless, told_clipped;
    bool say_hopeless, say_clipped; /* what watch_says has not reported yet */
    bool ended;
};

/* Takes the metrics of one optimizer step, as they are logged. */
void watch_step(struct watch *watch, const struct metrics *metrics);
/* Called after the last step: what still holds is reported again. */
void watch_end(struct watch *watch);
/* Takes the next message; false if there is none. */
bool watch_says(struct watch *watch, char message[WATCH_MESSAGE]);

#endif

/* What a run records in its store: steps, completions, events. */
#ifndef COHORT_RECIPE_RECORD_H
#define COHORT_RECIPE_RECORD_H

#include "recipe/scoring.h"
#include "recipe/training.h"

/* Opens the store of a run whose folder is open; step and checkpoint as of store_start. Option used: keep_completions. */
cohort_status record_open(struct training *t, int64_t step, cohort_error *err);
/* keep_completions as a number (store_start); also before a run is opened, to find a wrong value early. */
cohort_status record_keep(const struct options *options, int64_t *keep, cohort_error *err);
/* Says how the run ended, and closes the store. Accepts a run without one. */
void record_close(struct training *t);

/* Completions of the step that is committed next: n of each of n_prompts prompts in order, rewards[n_prompts * n,
 * scoring->n]. */
struct record_batch {
    const struct scoring *scoring;
    const struct prompt_batch *prompts;
    const struct completion *completions;
    int32_t n_prompts, n;
    const double *rewards;
    const double *sums;     /* [n_prompts * n] weighted sums, or */
    const float *reward;    /* [n_prompts * n] the same */
    const float *advantage; /* [n_prompts * n]; NULL: of an evaluation */
};
cohort_status record_completions(struct training *t, const struct record_batch *batch, cohort_error *err);
/* The metrics of a step; of an evaluation alone with is_step false. seconds of the evaluation among them, negative: none. */
cohort_status record_step(struct training *t, int64_t step, double epoch, const struct metrics *metrics, bool is_step,
                          double seconds, cohort_error *err);
/* Something that happened after the run's present step. What fails is told the observer: no event ends a run. rule,
 * severity and json may be NULL. */
void record_event(struct training *t, const char *kind, const char *rule, const char *severity, const char *text,
                  const char *json);
/* The same of another step. */
void record_event_of(struct training *t, int64_t step, const char *kind, const char *rule, const char *severity,
                     const char *text, const char *json);

#endif

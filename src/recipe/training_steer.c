/* A run that somebody watches: where it stands, and what it is asked from outside (run/steering.h). */
#include "recipe/training.h"

#include "base/clock.h"
#include "recipe/record.h"

#include <stdio.h>
#include <string.h>

static const double TELL_SECONDS = 0.05; /* at most so often, but for another phase and its end */
static const double LOOK_SECONDS = 0.1;  /* while the run pauses: a stop is noticed so soon */

bool training_progress(struct training *t, const cohort_progress *progress)
{
    cohort_progress at = *progress;
    at.step = t->state.step;
    at.steps = t->steps;
    const double now = clock_seconds();
    const bool ends = (at.begun > 0 && at.ended == at.begun) || (at.total > 0 && at.done == at.total);
    if (t->steering != NULL && (ends || now - t->told >= TELL_SECONDS || t->told_phase != at.phase)) {
        struct steering_at told = {.step = at.step,
                                   .steps = at.steps,
                                   .done = at.done,
                                   .total = at.total,
                                   .per_second = at.per_second,
                                   .ended = at.ended,
                                   .begun = at.begun,
                                   .saved_step = t->saved_step};
        snprintf(told.phase, sizeof told.phase, "%s", at.phase);
        snprintf(told.unit, sizeof told.unit, "%s", at.unit == NULL ? "" : at.unit);
        steering_tell(t->steering, &told);
        t->told = now;
        t->told_phase = at.phase;
    }
    return observer_progress(t->observer, &at);
}

void training_listen(struct training *t)
{
    cohort_error why = {0};
    if (steering_open(&t->steering, t->run.path, &why) != COHORT_OK)
        observer_message(t->observer,
                         "note: this run cannot be paused from 'cohort watch', which shows it all the same: %s",
                         why.message);
}

/* Where the run stands between two steps. */
static bool stands(struct training *t, const char *phase)
{
    t->told_phase = NULL;
    return training_progress(t, &(cohort_progress){.phase = phase, .unit = ""}) &&
           !stop_requested(options_stop(t->options));
}

/* A checkpoint that somebody wants to have: if it fails, the run goes on. */
static void save(struct training *t, const struct optimizer *optimizer)
{
    cohort_error why = {0};
    if (t->state.step == t->saved_step)
        return;
    (void)stands(t, "save");
    if (training_save(t, optimizer, true, false, &why) != COHORT_OK)
        observer_message(t->observer, "note: the checkpoint that was asked for could not be saved: %s; the run goes on",
                         why.message);
}

static cohort_status pause(struct training *t, const struct optimizer *optimizer, cohort_error *err)
{
    const double begin = clock_seconds();
    bool stop = !stands(t, "paused");
    char text[80];
    snprintf(text, sizeof text, "paused after step %lld", (long long)t->state.step);
    observer_message(t->observer, "%s, from outside ('cohort watch %s' and r go on)", text, t->run.path);
    record_event(t, "pause", NULL, NULL, text, NULL);
    steering_set_paused(t->steering, true);
    for (struct steering_asked asked = {.pause = true}; asked.pause && !stop;) {
        steering_wait(t->steering, LOOK_SECONDS);
        asked = steering_asked(t->steering, t->state.step > 0);
        if (asked.save && t->state.step > 0)
            save(t, optimizer);
        stop = !stands(t, "paused");
    }
    steering_set_paused(t->steering, false);
    const double seconds = clock_seconds() - begin;
    t->started += seconds; /* what is left is reckoned from the time that was worked */
    snprintf(text, sizeof text, "paused for %lld s", (long long)(seconds + 0.5));
    record_event(t, "continue", NULL, NULL, text, NULL);
    if (stop)
        return error_set(err, COHORT_ERR_CANCELLED, "stopped on request");
    observer_message(t->observer, "%s, now the run goes on", text);
    return COHORT_OK;
}

cohort_status training_steer(struct training *t, const struct optimizer *optimizer, cohort_error *err)
{
    const struct steering_asked asked = steering_asked(t->steering, t->state.step > 0);
    if (asked.save && t->state.step > 0)
        save(t, optimizer);
    return asked.pause ? pause(t, optimizer, err) : COHORT_OK;
}

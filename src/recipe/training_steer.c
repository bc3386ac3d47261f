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
    const bool goes_on = observer_progress(t->observer, &at);
    t->asks_stop = t->asks_stop || !goes_on;
    return goes_on || ranks_count(t->ranks) > 1; /* then it is looked at where all stand together */
}

void training_listen(struct training *t)
{
    cohort_error why = {0};
    if (!training_writes(t))
        return;
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
    (void)stands(t, "save");
    if (training_save(t, optimizer, true, false, &why) != COHORT_OK)
        observer_message(t->observer, "note: the checkpoint that was asked for could not be saved: %s; the run goes on",
                         why.message);
}

/* What is asked from outside, which rank 0 hears; and whether any rank is to stop. */
struct wish {
    bool save, pause, stop;
};

static cohort_status look(struct training *t, struct wish *wish, cohort_error *err)
{
    const struct steering_asked asked = steering_asked(t->steering, t->state.step > 0);
    struct wish *all = NULL;
    *wish = (struct wish){asked.save && t->state.step > 0 && t->state.step != t->saved_step, asked.pause, false};
    if (ranks_count(t->ranks) == 1)
        return COHORT_OK;
    wish->stop = t->asks_stop || stop_requested(t->stop);
    TRY(mem_alloc(&all, (size_t)ranks_count(t->ranks), sizeof *all, "ranks", err));
    const cohort_status status = ranks_gather(t->ranks, wish, sizeof *wish, all, err);
    if (status == COHORT_OK)
        *wish = (struct wish){all[0].save, all[0].pause, false};
    for (int32_t r = 0; status == COHORT_OK && r < ranks_count(t->ranks); r++)
        wish->stop = wish->stop || all[r].stop;
    mem_free(all);
    return status;
}

/* A stop that all ranks have heard of: they end alike, and can save together. */
static cohort_status stopped(struct training *t, cohort_error *err)
{
    t->together = true;
    if (t->ranks != NULL)
        t->ranks->agreed = true;
    return error_set(err, COHORT_ERR_CANCELLED, "stopped on request");
}

static cohort_status pause(struct training *t, const struct optimizer *optimizer, cohort_error *err)
{
    const double begin = clock_seconds();
    bool stop = !stands(t, "paused") && ranks_count(t->ranks) == 1;
    char text[80];
    snprintf(text, sizeof text, "paused after step %lld", (long long)t->state.step);
    observer_message(t->observer, "%s, from outside ('cohort watch %s' and r go on)", text,
                     t->run.path == NULL ? "" : t->run.path);
    record_event(t, "pause", NULL, NULL, text, NULL);
    steering_set_paused(t->steering, true);
    for (struct wish wish = {.pause = true}; wish.pause && !stop;) {
        if (training_writes(t))
            steering_wait(t->steering, LOOK_SECONDS);
        TRY(look(t, &wish, err));
        if (wish.save)
            save(t, optimizer);
        stop = (!stands(t, "paused") && ranks_count(t->ranks) == 1) || wish.stop;
    }
    steering_set_paused(t->steering, false);
    const double seconds = clock_seconds() - begin;
    t->started += seconds; /* what is left is reckoned from the time that was worked */
    snprintf(text, sizeof text, "paused for %lld s", (long long)(seconds + 0.5));
    record_event(t, "continue", NULL, NULL, text, NULL);
    if (stop)
        return stopped(t, err);
    observer_message(t->observer, "%s, now the run goes on", text);
    return COHORT_OK;
}

cohort_status training_steer(struct training *t, const struct optimizer *optimizer, cohort_error *err)
{
    struct wish wish;
    TRY(look(t, &wish, err));
    if (wish.stop)
        return stopped(t, err);
    if (wish.save)
        save(t, optimizer);
    return wish.pause ? pause(t, optimizer, err) : COHORT_OK;
}

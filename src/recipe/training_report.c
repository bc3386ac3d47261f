/* What a run shows of a step: a line for people (run/step_line.h) or for programs, and how long is left. */
#include "recipe/training.h"

#include "base/clock.h"
#include "base/json_text.h"
#include "run/output_format.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LEFT_AFTER = 3 }; /* steps, from which on the time that is left is told */

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* How long a step took, for the time that is left. */
static void tick(struct training *t, const struct metrics *metrics)
{
    struct pace *pace = &t->pace;
    const double seconds = metrics_get(metrics, "step_time");
    if (isnan(seconds))
        return;
    pace->last[pace->n++ % PACE_STEPS] = seconds;
    pace->sum += seconds;
}

/* The median of the last steps for each that is left, and for evaluations and checkpoints what they took of the time so
 * far. */
static double seconds_left(const struct training *t)
{
    const struct pace *pace = &t->pace;
    const int64_t n = pace->n < PACE_STEPS ? pace->n : PACE_STEPS, rest = t->steps - t->state.step;
    double sorted[PACE_STEPS];
    if (t->steps == 0 || pace->n < LEFT_AFTER)
        return (double)NAN;
    memcpy(sorted, pace->last, (size_t)n * sizeof *sorted);
    qsort(sorted, (size_t)n, sizeof *sorted, ascending);
    const double other = (clock_seconds() - t->started - pace->sum) / (double)pace->n;
    return (double)rest * (sorted[n / 2] + fmax(0.0, other));
}

static bool as_json(const struct training *t) { return options_choice(t->options, OPTION_LOG_FORMAT) == OUTPUT_JSONL; }

cohort_status training_report_warning(struct training *t, const struct diagnosis_warning *warning, cohort_error *err)
{
    struct text text = {0};
    json_t *json = NULL;
    cohort_status status = COHORT_OK;
    if (!as_json(t))
        return COHORT_OK;
    json = json_pack("{s:s, s:I, s:s, s:s, s:s, s:s, s:s}", "event", "warning", "step", (json_int_t)warning->step,
                     "rule", warning->rule->id, "name", warning->rule->name, "severity",
                     diagnosis_severity_name(warning->severity), "text", warning->sentence, "usually",
                     warning->rule->usually);
    TRY_GOTO(json_text_write(json, 0, &text, err));
    TRY_GOTO(text_append(&text, "\n", 1, err));
    observer_output(t->observer, &text);
cleanup:
    json_decref(json);
    text_free(&text);
    return status;
}

static cohort_status write_line(struct training *t, double epoch, const struct metrics *metrics, bool evaluates,
                                cohort_error *err)
{
    struct text text = {0};
    struct metrics line = {0};
    cohort_status status = COHORT_OK;
    if (as_json(t)) {
        metrics_set(&line, "step", (double)t->state.step);
        if (!isnan(epoch))
            metrics_set(&line, "epoch", epoch);
        metrics_add(&line, metrics);
        TRY_GOTO(metrics_write(&line, &text, err));
    } else {
        const struct step_line_at at = {.step = t->state.step,
                                        .steps = t->steps,
                                        .seconds_left = seconds_left(t),
                                        .evaluates = evaluates,
                                        .columns = observer_columns(t->observer)};
        TRY_GOTO(step_line_write(&t->lines, &at, metrics->items, metrics->count, &text, err));
    }
    observer_output(t->observer, &text);
cleanup:
    metrics_free(&line);
    text_free(&text);
    return status;
}

cohort_status training_show(struct training *t, const struct shown_step *shown, const struct metrics *metrics,
                            cohort_error *err)
{
    if (!training_writes(t))
        return COHORT_OK;
    tick(t, metrics);
    const cohort_status written = shown->line ? write_line(t, shown->epoch, metrics, shown->evaluates, err) : COHORT_OK;
    const cohort_status diagnosed = training_diagnose(t, metrics, shown->evaluation, written == COHORT_OK ? err : NULL);
    return written != COHORT_OK ? written : diagnosed;
}

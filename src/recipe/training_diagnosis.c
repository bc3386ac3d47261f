/* A run under the diagnosis (run/diagnosis.h): what it is told, who hears its warnings, and when they end the run. */
#include "recipe/record.h"

#include "base/json_text.h"
#include "run/stop_list.h"

#include <string.h>

enum {
#define STOPS_ON(id, word) STOP_ON_##id,
    STOP_ON_LIST(STOPS_ON)
#undef STOPS_ON
};

cohort_status training_diagnosis_begin(struct training *t, cohort_error *err)
{
    t->setup.peak_rate = options_float(t->options, OPTION_LEARNING_RATE);
    t->setup.max_grad_norm = options_float(t->options, OPTION_MAX_GRAD_NORM);
    TRY(diagnosis_create(&t->diagnosis, &t->setup, err));
    return t->resume_dir == NULL ? COHORT_OK : diagnosis_read(t->diagnosis, t->resume_dir, err);
}

/* As an event of the run: its sentence, and what else there is to say as JSON. */
static cohort_status record_warning(struct training *t, const struct diagnosis_warning *warning, cohort_error *err)
{
    struct text more = {0};
    json_t *json = json_pack("{s:s, s:s}", "name", warning->rule->name, "usually", warning->rule->usually);
    cohort_status status = json_text_write(json, JSON_COMPACT, &more, err);
    if (status == COHORT_OK)
        record_event(t, "warning", warning->rule->id, diagnosis_severity_name(warning->severity), warning->sentence,
                     more.data);
    json_decref(json);
    text_free(&more);
    return status;
}

static cohort_status tell(struct training *t, cohort_error *err)
{
    struct diagnosis_warning warning;
    struct text line = {0};
    cohort_status status = COHORT_OK;
    while (status == COHORT_OK && diagnosis_next(t->diagnosis, &warning)) {
        line.length = 0;
        status = diagnosis_describe(&warning, &line, err);
        if (status == COHORT_OK)
            observer_message(t->observer, "%s", line.data);
        if (status == COHORT_OK)
            status = record_warning(t, &warning, err);
        if (status == COHORT_OK)
            status = training_report_warning(t, &warning, err);
        t->diverged = t->diverged || warning.severity == DIAGNOSIS_FATAL;
    }
    text_free(&line);
    return status;
}

cohort_status training_diagnose(struct training *t, const struct metrics *metrics, bool evaluation, cohort_error *err)
{
    if (!training_writes(t))
        return COHORT_OK;
    cohort_status status = diagnosis_step(t->diagnosis, t->state.step, metrics->items, metrics->count, evaluation, err);
    t->lines_lost = t->lines_lost || status != COHORT_OK; /* a checkpoint would lack the step */
    TRY(status);
    return tell(t, err);
}

cohort_status training_check(const struct training *t, cohort_error *err)
{
    if (!t->diverged || options_choice(t->options, OPTION_STOP_ON) != STOP_ON_DIVERGED)
        return COHORT_OK;
    const struct diagnosis_warning *last = NULL;
    for (size_t i = 0; i < diagnosis_said(t->diagnosis); i++)
        if (diagnosis_said_at(t->diagnosis, i)->severity == DIAGNOSIS_FATAL)
            last = diagnosis_said_at(t->diagnosis, i);
    return error_set(err, COHORT_ERR_DIVERGED,
                     "stopped after step %lld (--stop-on diverged): %s; to go on all the same, resume without it",
                     (long long)t->state.step, last == NULL ? "" : last->sentence);
}

void training_diagnosis_end(struct training *t)
{
    size_t n = 0;
    if (!training_writes(t))
        return;
    diagnosis_end(t->diagnosis);
    (void)tell(t, NULL);
    for (size_t i = 0; i < diagnosis_said(t->diagnosis); i++)
        n += diagnosis_said_at(t->diagnosis, i)->severity > DIAGNOSIS_NOTE ? 1 : 0;
    if (n == 0)
        return;
    observer_message(t->observer, "warnings of this run: %zu", n);
    for (size_t i = 0; i < diagnosis_said(t->diagnosis); i++) {
        const struct diagnosis_warning *warning = diagnosis_said_at(t->diagnosis, i);
        if (warning->severity > DIAGNOSIS_NOTE)
            observer_message(t->observer, "  step %lld, %s: %s", (long long)warning->step, warning->rule->id,
                             warning->sentence);
    }
}

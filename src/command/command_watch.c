/* cohort watch, as lines: what a pipe, a screen reader and a terminal without a view get, and what the library does. The
 * view itself is the program's (cli/watch.c). */
#include "command/command.h"

#include "recipe/runs_view.h"
#include "run/step_line.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { MOST_RUNS = 8, FIRST_STEPS = 20 };

struct followed {
    const cohort_observer *observer;
    const char *name;
    bool named; /* lines say whose they are */
    char *folder;
    struct store_reader reader;
    struct step_line lines;
    int64_t last_step, last_event, steps;
    bool open, ended;
    cohort_status status; /* of a callback */
    cohort_error err;
};

/* A line, which names its run where there are several. */
static cohort_status print(const struct followed *f, const char *text, size_t length, cohort_error *err)
{
    struct text line = {0};
    cohort_status status = COHORT_OK;
    if (f->named)
        TRY_GOTO(text_printf(&line, err, "%-20.20s ", f->name));
    TRY_GOTO(text_append(&line, text, length, err));
    observer_output(f->observer, &line);
cleanup:
    text_free(&line);
    return status;
}

static bool show_step(void *context, const cohort_stored_step *step)
{
    struct followed *f = context;
    struct text text = {0};
    const int columns = observer_columns(f->observer);
    double seconds = (double)NAN;
    f->last_step = step->step;
    for (size_t i = 0; i < step->n_metrics; i++)
        if (strcmp(step->metrics[i].name, "step_time") == 0)
            seconds = step->metrics[i].value;
    if (step->step == 0) /* the evaluation before the first step */
        return true;
    const struct step_line_at at = {.step = step->step,
                                    .steps = f->steps,
                                    .seconds_left =
                                        f->steps > 0 ? seconds * (double)(f->steps - step->step) : (double)NAN,
                                    .evaluates = true,
                                    .columns = columns > 30 && f->named ? columns - 21 : columns};
    f->status = step_line_write(&f->lines, &at, step->metrics, step->n_metrics, &text, &f->err);
    for (const char *line = text.data; f->status == COHORT_OK && line < text.data + text.length;) {
        const size_t length = (size_t)((const char *)memchr(line, '\n', text.length) - line) + 1;
        f->status = print(f, line, length, &f->err);
        line += length;
    }
    text_free(&text);
    return f->status == COHORT_OK;
}

static bool show_event(void *context, const cohort_stored_event *event)
{
    struct followed *f = context;
    struct text text = {0};
    f->last_event = event->id;
    f->status = text_printf(&text, &f->err, "%s at step %lld: ", event->kind, (long long)event->step);
    if (f->status == COHORT_OK)
        f->status = text_append_shown(&text, event->text, strlen(event->text), &f->err);
    if (f->status == COHORT_OK)
        f->status = text_append(&text, "\n", 1, &f->err);
    if (f->status == COHORT_OK)
        f->status = print(f, text.data, text.length, &f->err);
    text_free(&text);
    return f->status == COHORT_OK;
}

/* What is new of a run. */
static cohort_status follow(struct followed *f, cohort_error *err)
{
    const cohort_stored_run *run = NULL;
    bool changed = false;
    TRY(store_read_run(&f->reader, &run, err));
    f->steps = run->steps;
    const bool ended = strcmp(run->status, "running") != 0;
    if (!f->open)
        f->last_step = run->step > FIRST_STEPS ? run->step - FIRST_STEPS : -1;
    f->open = true;
    TRY(store_read_changed(&f->reader, &changed, err));
    if (!changed && !ended)
        return COHORT_OK;
    TRY(store_read_steps(&f->reader, f->last_step + 1, INT64_MAX, show_step, f, err));
    if (f->status == COHORT_OK)
        TRY(store_read_events(&f->reader, f->last_event, NULL, show_event, f, err));
    if (f->status != COHORT_OK)
        return error_set(err, f->status, "%s", f->err.message);
    if (ended) {
        struct text text = {0};
        TRY(store_read_run(&f->reader, &run, err));
        cohort_status status = text_printf(&text, err, "%s: %s at step %lld%s\n", f->name, run->status,
                                           (long long)run->step, run->message[0] == '\0' ? "" : ", ");
        if (status == COHORT_OK && run->message[0] != '\0') {
            text.length--;
            status = text_append_shown(&text, run->message, strlen(run->message), err);
            if (status == COHORT_OK)
                status = text_append(&text, "\n", 1, err);
        }
        if (status == COHORT_OK)
            observer_output(f->observer, &text);
        text_free(&text);
        TRY(status);
    }
    f->ended = ended;
    return COHORT_OK;
}

cohort_status command_watch(struct options *options, const struct reward_list *extra, const cohort_observer *observer,
                            cohort_error *err)
{
    const struct timespec quarter = {.tv_nsec = 250000000};
    const size_t n = options_list_count(options, OPTION_RUN);
    struct followed *runs = NULL;
    size_t going = n;
    cohort_status status = COHORT_OK;
    (void)extra;
    if (n < 1 || n > MOST_RUNS)
        return error_set(err, COHORT_ERR_ARGUMENT, "watch takes one to %d runs, as in: cohort watch NAME", MOST_RUNS);
    TRY(mem_alloc(&runs, n, sizeof *runs, "runs", err));
    for (size_t i = 0; i < n; i++) {
        runs[i].observer = observer;
        runs[i].name = options_list_item(options, OPTION_RUN, i);
        runs[i].named = n > 1;
        TRY_GOTO(runs_find_in(options_string(options, OPTION_RUNS), runs[i].name, &runs[i].folder, err));
        TRY_GOTO(store_reader_open(&runs[i].reader, runs[i].folder, err));
    }
    while (going > 0) {
        const cohort_progress progress = {.phase = "watch", .unit = "runs", .done = (int64_t)(n - going)};
        for (size_t i = 0; i < n; i++) {
            if (runs[i].ended)
                continue;
            TRY_GOTO(follow(&runs[i], err));
            going -= runs[i].ended ? 1 : 0;
        }
        TRY_GOTO(stop_check(options_stop(options), err));
        if (!observer_progress(observer, &progress))
            TRY_GOTO(error_set(err, COHORT_ERR_CANCELLED, "stopped on request"));
        if (going > 0)
            nanosleep(&quarter, NULL);
    }
cleanup:
    for (size_t i = 0; i < n; i++) {
        store_reader_close(&runs[i].reader);
        step_line_free(&runs[i].lines);
        mem_free(runs[i].folder);
    }
    mem_free(runs);
    return status;
}

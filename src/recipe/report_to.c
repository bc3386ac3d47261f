#include "recipe/report_to.h"

#include "base/clock.h"
#include "base/file.h"
#include "recipe/json_rows.h"
#include "reward/program.h"
#include "run/event_file.h"
#include "run/store_begin.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { WAITING_BYTES = 1 << 20 /* of lines that a program has not read yet */ };
static const double GOODBYE_S = 2.0;

/* A program, and the lines that it has not taken yet. */
struct told {
    const char *command; /* of the options */
    struct program *program;
    struct text waiting;
    int64_t dropped; /* lines */
    bool ended, told_dropped;
};

struct report_to {
    const cohort_observer *observer;
    struct event_file events; /* closed where it is not wanted, or could not be written */
    struct told *programs;
    size_t n_programs;
};

static const char EXEC[] = "exec:";

static bool is_program(const char *word) { return strncmp(word, EXEC, sizeof EXEC - 1) == 0; }

cohort_status report_to_check(const struct options *options, cohort_error *err)
{
    for (size_t i = 0; i < options_list_count(options, OPTION_REPORT_TO); i++) {
        const char *word = options_list_item(options, OPTION_REPORT_TO, i);
        if (strcmp(word, "tensorboard") == 0 || strcmp(word, "none") == 0 ||
            (is_program(word) && word[sizeof EXEC - 1] != '\0'))
            continue;
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "--report-to %s: expected tensorboard, exec:PROGRAM or none; for W&B, Trackio and others see "
                         "examples/report_wandb.py, which exec: runs",
                         word);
    }
    return COHORT_OK;
}

/* ---- programs ---- */

/* Hands over what the program takes now. */
static void pass_on(struct report_to *report, struct told *told)
{
    char why[700] = "";
    size_t sent = 0;
    if (told->ended)
        return;
    const bool there = program_tell(told->program, told->waiting.data, told->waiting.length, &sent, why, sizeof why);
    if (sent > 0) {
        memmove(told->waiting.data, told->waiting.data + sent, told->waiting.length - sent);
        told->waiting.length -= sent;
    }
    if (there)
        return;
    told->ended = true;
    observer_message(report->observer,
                     "warning: --report-to %s: the program %s; it is told nothing more, the run goes on", told->command,
                     why);
}

static void tell(struct report_to *report, struct told *told, const struct text *line)
{
    if (told->ended)
        return;
    if (told->waiting.length + line->length > WAITING_BYTES ||
        text_append(&told->waiting, line->data, line->length, NULL) != COHORT_OK) {
        told->dropped++;
        if (!told->told_dropped)
            observer_message(report->observer,
                             "warning: --report-to %s: the program does not read what it is told; steps are left out "
                             "until it does, the run goes on",
                             told->command);
        told->told_dropped = true;
    }
    pass_on(report, told);
}

static void tell_all(struct report_to *report, const struct text *line)
{
    for (size_t i = 0; i < report->n_programs; i++)
        tell(report, &report->programs[i], line);
}

static cohort_status start(struct report_to *report, struct told *told, const char *word, cohort_error *err)
{
    char shell[] = "/bin/sh", option[] = "-c", *command = NULL;
    const struct program_limits limits = {.role = "--report-to"};
    cohort_error why = {0};
    told->command = word;
    told->ended = true;
    TRY(text_append(&told->waiting, "", 0, err));
    TRY(mem_strdup(&command, word + sizeof EXEC - 1, strlen(word) - sizeof EXEC + 1, err));
    char *const arguments[] = {shell, option, command, NULL};
    if (program_start(&told->program, word, arguments, &limits, &why) == COHORT_OK)
        told->ended = false;
    else
        observer_message(report->observer, "warning: %s; the run goes on without it", why.message);
    mem_free(command);
    return COHORT_OK;
}

/* {"start": {...}} */
static cohort_status first_line(const struct options *options, const char *command, const char *run, int64_t step,
                                struct text *line, cohort_error *err)
{
    struct text yaml = {0};
    cohort_status status = COHORT_OK;
    TRY_GOTO(options_write_yaml(options, &yaml, err));
    TRY_GOTO(text_printf(line, err, "{\"start\": {\"command\": \"%s\", \"step\": %lld, \"run\": ", command,
                         (long long)step));
    TRY_GOTO(json_string_write(run, strlen(run), line, err));
    TRY_GOTO(text_append(line, ", \"config\": ", 12, err));
    TRY_GOTO(json_string_write(yaml.data, yaml.length, line, err));
    TRY_GOTO(text_append(line, "}}\n", 3, err));
cleanup:
    text_free(&yaml);
    return status;
}

/* ---- event files ---- */

static void stop_events(struct report_to *report, const cohort_error *why)
{
    observer_message(report->observer, "warning: --report-to tensorboard: %s; the run goes on without it",
                     why->message);
    event_file_close(&report->events);
}

static void open_events(struct report_to *report, const struct options *options, const char *run, int64_t step)
{
    cohort_error why = {0};
    struct text yaml = {0}, shown = {0};
    char *dir = NULL;
    cohort_status status = COHORT_OK;
    TRY_GOTO(file_join(&dir, run, "tensorboard", &why));
    TRY_GOTO(file_make_dirs(dir, &why));
    TRY_GOTO(event_file_open(&report->events, dir, store_time(), step + 1, &why));
    TRY_GOTO(options_write_yaml(options, &yaml, &why));
    /* Indented, Markdown shows it as it is. */
    for (const char *line = yaml.data; line != NULL && *line != '\0';) {
        const size_t length = strcspn(line, "\n");
        TRY_GOTO(text_append(&shown, "    ", 4, &why));
        TRY_GOTO(text_append(&shown, line, length, &why));
        TRY_GOTO(text_append(&shown, "\n", 1, &why));
        line += length + (line[length] == '\n');
    }
    TRY_GOTO(event_file_text(&report->events, store_time(), step + 1, "config", shown.data, shown.length, &why));
cleanup:
    if (status != COHORT_OK)
        stop_events(report, &why);
    mem_free(dir);
    text_free(&yaml);
    text_free(&shown);
}

/* ---- both ---- */

cohort_status report_to_open(struct report_to **out, const struct options *options, const char *command,
                             const char *run, int64_t step, const cohort_observer *observer, cohort_error *err)
{
    const size_t n = options_list_count(options, OPTION_REPORT_TO);
    struct report_to *report = NULL;
    struct text line = {0};
    bool events = false;
    cohort_status status = COHORT_OK;
    *out = NULL;
    TRY(report_to_check(options, err));
    if (n == 0)
        return COHORT_OK;
    TRY(mem_alloc(&report, 1, sizeof *report, "reports", err));
    report->observer = observer;
    TRY_GOTO(mem_alloc(&report->programs, n, sizeof *report->programs, "reports", err));
    TRY_GOTO(first_line(options, command, run, step < 0 ? 0 : step, &line, err));
    for (size_t i = 0; i < n; i++) {
        const char *word = options_list_item(options, OPTION_REPORT_TO, i);
        events = events || strcmp(word, "tensorboard") == 0;
        if (is_program(word)) {
            report->n_programs++;
            TRY_GOTO(start(report, &report->programs[report->n_programs - 1], word, err));
        }
    }
    if (events)
        open_events(report, options, run, step);
    tell_all(report, &line);
    *out = report;
    report = NULL;
cleanup:
    text_free(&line);
    report_to_close(report, NULL);
    return status;
}

void report_to_step(struct report_to *report, int64_t step, const struct metrics *metrics)
{
    cohort_error why = {0};
    struct text line = {0};
    if (report == NULL)
        return;
    if (report->events.fd > 0 && metrics->count > 1 &&
        event_file_scalars(&report->events, store_time(), step, metrics->items + 1, metrics->count - 1, &why) !=
            COHORT_OK) /* without the step itself */
        stop_events(report, &why);
    if (report->n_programs > 0 && metrics_write(metrics, &line, NULL) == COHORT_OK)
        tell_all(report, &line);
    text_free(&line);
}

void report_to_close(struct report_to *report, const char *outcome)
{
    struct text line = {0};
    if (report == NULL)
        return;
    if (outcome != NULL && text_printf(&line, NULL, "{\"end\": {\"status\": \"%s\"}}\n", outcome) == COHORT_OK)
        tell_all(report, &line);
    const double deadline = clock_seconds() + GOODBYE_S;
    for (size_t i = 0; i < report->n_programs; i++) {
        struct told *told = &report->programs[i];
        while (!told->ended && told->waiting.length > 0 && clock_seconds() < deadline) {
            nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
            pass_on(report, told);
        }
        if (told->dropped > 0)
            observer_message(report->observer,
                             "note: --report-to %s was not told %lld of the steps, which it did not read",
                             told->command, (long long)told->dropped);
        program_destroy(told->program);
        text_free(&told->waiting);
    }
    event_file_close(&report->events);
    mem_free(report->programs);
    mem_free(report);
    text_free(&line);
}

/* The programs are the parent's; the memory goes with the process. */
void report_to_leave(struct report_to *report) { (void)report; }

/* What a person sees while work goes on. */
#include "cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* A terminal that became narrower has broken the line that stood there into several rows, all of which go. */
static void clear_line(struct cli_terminal *terminal)
{
    const size_t width = (size_t)cli_columns(STDERR_FILENO);
    if (terminal->line_length == 0)
        return;
    const size_t above = width > 0 ? (terminal->line_length - 1) / width : 0;
    if (above > 0)
        fprintf(stderr, "\r\033[%zuA\033[J", above);
    else
        fputs("\r\033[K", stderr);
    terminal->line_length = 0;
}

/* Text that is streamed to the terminal may stand in its row: what is for a person begins on another. */
static void leave_row(struct cli_terminal *terminal)
{
    if (terminal->in_row)
        fputc('\n', stderr);
    terminal->in_row = false;
}

static void output(void *context, const char *bytes, size_t length)
{
    struct cli_terminal *terminal = context;
    clear_line(terminal);
    terminal->last_said = now();
    if (length > 0)
        terminal->in_row = terminal->to_terminal && bytes[length - 1] != '\n';
    if (!terminal->output_failed && (fwrite(bytes, 1, length, stdout) != length || fflush(stdout) != 0)) {
        terminal->output_closed = errno == EPIPE;
        terminal->output_failed = true;
    }
}

static int columns(void *context)
{
    (void)context;
    return cli_columns(STDOUT_FILENO);
}

static void message(void *context, const char *text)
{
    struct cli_terminal *terminal = context;
    clear_line(terminal);
    leave_row(terminal);
    terminal->last_said = now();
    cli_print_wrapped(stderr, text, cli_columns(STDERR_FILENO));
}

static void write_duration(double seconds, char *out, size_t size)
{
    long s = (long)seconds;
    if (s >= 3600)
        snprintf(out, size, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(out, size, "%ld:%02ld", s / 60, s % 60);
}

/* Step, phase, bar of the phase, count, rate, time left of the whole run; without a part: bar_width 0, rate false.
 * Returns how many columns it takes (all is ASCII). */
static size_t line_text(char *out, size_t size, const cohort_progress *p, int bar_width, bool rate, const char *left)
{
    char bar[40] = "", step[56] = "", speed[40] = "", count[56];
    const double share = p->total > 0 ? (double)p->done / (double)p->total : 0.0;
    if (bar_width > 0 && p->total > 0) {
        const int filled = (int)(share > 1.0 ? bar_width : share * bar_width);
        bar[0] = '[';
        memset(bar + 1, '.', (size_t)bar_width);
        memset(bar + 1, '#', (size_t)filled);
        memcpy(bar + 1 + bar_width, "] ", 3);
    }
    if (p->steps > 0)
        snprintf(step, sizeof step, "step %lld/%lld ", (long long)p->step, (long long)p->steps);
    if (p->total > 0)
        snprintf(count, sizeof count, "%lld/%lld", (long long)p->done, (long long)p->total);
    else
        snprintf(count, sizeof count, "%lld", (long long)p->done);
    if (rate && p->per_second > 0.0)
        snprintf(speed, sizeof speed, "  %.*f/s", p->per_second < 10.0 ? 1 : 0, p->per_second);
    int n = snprintf(out, size, "%s%-*s %s%s %s%s%s", step, bar_width > 0 ? 8 : 0, p->phase, bar, count,
                     p->unit == NULL ? "" : p->unit, speed, left);
    return n < 0 ? 0 : (size_t)n;
}

/* As much of the line as one row of the terminal holds: a longer one would wrap, and each redraw leave a row behind.
 * The last column stays free, for some terminals wrap when it is filled. */
static void draw(struct cli_terminal *terminal, const cohort_progress *p)
{
    static const int bars[] = {24, 16, 8, 0, 0};
    char line[512] = "", left[48] = "";
    const size_t width = (size_t)cli_columns(STDERR_FILENO), room = width == 0 ? 79 : width - 1;
    double share = p->total > 0 ? (double)p->done / (double)p->total : 0.0;
    double whole = p->steps > 0
                       ? ((double)p->step + (strcmp(p->unit, "steps") == 0 ? 0.0 : share * 0.5)) / (double)p->steps
                       : share;
    if (whole > 0.0 && whole <= 1.0) {
        char duration[40];
        write_duration((now() - terminal->started) * (1.0 / whole - 1.0), duration, sizeof duration);
        snprintf(left, sizeof left, "  %s left", duration);
    }
    for (size_t i = 0; i < sizeof bars / sizeof bars[0]; i++)
        if (line_text(line, sizeof line, p, bars[i], i < 4, left) <= room)
            break;
    if (room < sizeof line)
        line[room] = '\0';
    clear_line(terminal);
    fputs(line, stderr);
    fflush(stderr);
    terminal->line_length = strlen(line);
}

/* Where there is no live line: what is waited for, if nothing was printed for a minute. */
static void say_awaited(struct cli_terminal *terminal, const cohort_progress *p)
{
    enum { SILENT_SECONDS = 60 };
    const double t = now();
    if (t - terminal->last_said < SILENT_SECONDS)
        return;
    terminal->last_said = t;
    if (p->total > 0)
        fprintf(stderr, "step %lld: %s, %lld of %lld %s\n", (long long)p->step + 1, p->phase, (long long)p->done,
                (long long)p->total, p->unit == NULL ? "" : p->unit);
    else
        fprintf(stderr, "step %lld: %s\n", (long long)p->step + 1, p->phase);
}

static bool progress(void *context, const cohort_progress *p)
{
    struct cli_terminal *terminal = context;
    double t = now();
    /* While an answer is streamed the row is its own. */
    if (strcmp(p->phase, "stream") == 0 || terminal->in_row)
        clear_line(terminal);
    else if (terminal->live && (t - terminal->last_drawn > 0.2 || terminal->phase != p->phase)) {
        terminal->last_drawn = t;
        terminal->phase = p->phase;
        draw(terminal, p);
    }
    if (!terminal->live && terminal->trains)
        say_awaited(terminal, p);
    return !cohort_stop_triggered(terminal->stop) && (terminal->trains || !terminal->output_failed);
}

/* A terminal that can go back to the beginning of a line, before which somebody sits. */
static bool can_redraw(void)
{
    const char *kind = getenv("TERM"), *ci = getenv("CI");
    return isatty(STDERR_FILENO) == 1 && (kind == NULL || strcmp(kind, "dumb") != 0) && (ci == NULL || *ci == '\0');
}

void cli_terminal_begin(struct cli_terminal *terminal, cohort_observer *observer, cohort_stop *stop, bool trains)
{
    memset(terminal, 0, sizeof *terminal);
    terminal->stop = stop;
    terminal->live = can_redraw();
    terminal->to_terminal = isatty(STDOUT_FILENO) == 1;
    terminal->trains = trains;
    terminal->started = terminal->last_said = now();
    cli_signals_begin(stop);
    cohort_observer_init(observer);
    observer->context = terminal;
    observer->output = output;
    observer->message = message;
    observer->progress = progress;
    observer->columns = columns;
    observer->input = cli_input;
    observer->style = cli_style;
}

void cli_terminal_end(struct cli_terminal *terminal)
{
    clear_line(terminal);
    leave_row(terminal);
}

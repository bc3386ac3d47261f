/* What a person sees while work goes on. */
#include "cli.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void clear_line(struct cli_terminal *terminal)
{
    if (terminal->line_open)
        fputs("\r\033[K", stderr);
    terminal->line_open = false;
}

static void output(void *context, const char *bytes, size_t length)
{
    struct cli_terminal *terminal = context;
    clear_line(terminal);
    if (!terminal->output_failed && (fwrite(bytes, 1, length, stdout) != length || fflush(stdout) != 0)) {
        terminal->output_closed = !terminal->output_failed && errno == EPIPE;
        terminal->output_failed = true;
    }
}

static void message(void *context, const char *text)
{
    struct cli_terminal *terminal = context;
    clear_line(terminal);
    fprintf(stderr, "%s\n", text);
}

static void write_duration(double seconds, char *out, size_t size)
{
    long s = (long)seconds;
    if (s >= 3600)
        snprintf(out, size, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(out, size, "%ld:%02ld", s / 60, s % 60);
}

/* Columns of the terminal now: it may have been resized since the last line. 0: it does not say. */
static size_t columns(void)
{
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
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
        snprintf(speed, sizeof speed, "  %.0f/s", p->per_second);
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
    const size_t width = columns(), room = width == 0 ? 79 : width - 1;
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
    fprintf(stderr, "\r\033[K%s", line);
    fflush(stderr);
    terminal->line_open = true;
}

static bool progress(void *context, const cohort_progress *p)
{
    struct cli_terminal *terminal = context;
    double t = now();
    if (terminal->interactive && (t - terminal->last_drawn > 0.1 || terminal->phase != p->phase)) {
        terminal->last_drawn = t;
        terminal->phase = p->phase;
        draw(terminal, p);
    }
    return !cohort_stop_triggered(terminal->stop) && !terminal->output_failed;
}

void cli_terminal_begin(struct cli_terminal *terminal, cohort_observer *observer, cohort_stop *stop)
{
    memset(terminal, 0, sizeof *terminal);
    terminal->stop = stop;
    terminal->interactive = isatty(STDERR_FILENO) == 1;
    terminal->started = now();
    cli_signals_begin(stop);
    cohort_observer_init(observer);
    observer->context = terminal;
    observer->output = output;
    observer->message = message;
    observer->progress = progress;
}

void cli_terminal_end(struct cli_terminal *terminal) { clear_line(terminal); }

/* What a person types to cohort chat, or a program writes to it: the observer's input and style.
 *
 * A line is edited by the terminal's own line discipline (rlwrap gives it a history). While an answer comes, Ctrl-C stops the
 * answer; while a line is waited for, it throws the line away. */
#include "cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Bytes that were read and not handed out yet, then the line that was: kept until the next is asked for. */
static struct {
    char *data;
    size_t length, capacity;
    size_t taken; /* of the line that was handed out, its newline included */
    bool ended;
    int failed; /* errno of the reading that failed; 0: none did */
} typed;

static bool grow(void)
{
    if (typed.capacity - typed.length > 1)
        return true;
    const size_t capacity = typed.capacity == 0 ? 4096 : typed.capacity * 2;
    char *data = realloc(typed.data, capacity);
    if (data == NULL)
        return false;
    typed.data = data;
    typed.capacity = capacity;
    return true;
}

/* Reads more; false at the end, or where a signal came between (*interrupted). */
static bool read_more(bool *interrupted)
{
    *interrupted = false;
    if (!grow()) {
        typed.failed = ENOMEM;
        return false;
    }
    const ssize_t n = read(STDIN_FILENO, typed.data + typed.length, typed.capacity - typed.length - 1);
    if (n > 0)
        typed.length += (size_t)n;
    *interrupted = n < 0 && errno == EINTR;
    if (n < 0 && errno != EINTR)
        typed.failed = errno;
    return n > 0;
}

/* The line at the beginning of what was read, ended by a NUL; NULL: it is not all there. */
static const char *whole_line(void)
{
    char *end = typed.length > 0 ? memchr(typed.data, '\n', typed.length) : NULL;
    if (end == NULL && (!typed.ended || typed.length == 0))
        return NULL;
    if (end == NULL)
        end = typed.data + typed.length; /* the last line has no newline; there is room for the NUL */
    typed.taken = (size_t)(end - typed.data) + (end < typed.data + typed.length ? 1 : 0);
    *end = '\0';
    if (end > typed.data && end[-1] == '\r')
        end[-1] = '\0';
    return typed.data;
}

const char *cli_input(void *context, const char *prompt)
{
    struct cli_terminal *terminal = context;
    const bool asks = isatty(STDIN_FILENO) == 1 && terminal->to_terminal;
    cli_signals_talk();
    cli_terminal_end(terminal);
    if (typed.length > typed.taken)
        memmove(typed.data, typed.data + typed.taken, typed.length - typed.taken);
    typed.length -= typed.taken;
    typed.taken = 0;
    if (asks) {
        fputs(prompt, stdout);
        fflush(stdout);
    }
    for (;;) {
        const char *line = whole_line();
        bool interrupted = false;
        if (line != NULL || typed.ended)
            return line;
        if (read_more(&interrupted))
            continue;
        if (interrupted && !cli_signals_ended()) {
            cli_signals_talk();
            if (asks) {
                printf("\n%s", prompt);
                fflush(stdout);
            }
            continue;
        }
        typed.ended = true;
        if (interrupted) /* the program is to end */
            return NULL;
        if (typed.failed != 0)
            fprintf(stderr, "cohort: standard input could not be read: %s\n", strerror(typed.failed));
        terminal->input_failed = typed.failed != 0;
        if (asks && typed.length == 0)
            fputc('\n', stdout);
    }
}

/* Colours are for terminals that have them, and for people who want them. */
static bool coloured(const struct cli_terminal *terminal)
{
    const char *none = getenv("NO_COLOR"), *kind = getenv("TERM");
    return terminal->to_terminal && (none == NULL || *none == '\0') && (kind == NULL || strcmp(kind, "dumb") != 0);
}

void cli_style(void *context, cohort_style style)
{
    struct cli_terminal *terminal = context;
    if (!coloured(terminal))
        return;
    fputs(style == COHORT_STYLE_THINKING ? "\033[2m" : style == COHORT_STYLE_CALL ? "\033[36m" : "\033[0m", stdout);
    fflush(stdout);
}

/* The command line over cohort.h. */
#ifndef COHORT_CLI_CLI_H
#define COHORT_CLI_CLI_H

#include "cohort.h"

#include <stdio.h>

/* Exit codes. */
enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_DIVERGED = 3, EXIT_INTERRUPTED = 130 };

/* Fills options from argv[0 .. argc): --name value, --name=value, --switch, --no-switch. bare: the option whose value is
 * the words without a flag, or NULL. Prints the error and returns false on failure. */
bool cli_parse(cohort_options *options, const char *bare, int argc, char **argv);

/* From here on Ctrl-C and SIGTERM ask for a stop, and a second one of the two ends the program at once; so do, without that,
 * SIGHUP and the notices of schedulers (SIGUSR1, SIGUSR2, SIGXCPU). stop lives as long as the process; NULL: there is none. */
void cli_signals_begin(cohort_stop *stop);
/* From here on Ctrl-C alone ends what is under way and not the program; takes back a stop that it asked for. */
void cli_signals_talk(void);
/* Whether another signal asked the program to end. */
bool cli_signals_ended(void);

/* Joins the job that this process is a rank of; *out NULL: it is none, or its only one. */
cohort_status cli_ranks_open(cohort_ranks **out, cohort_error *err);

/* Columns of the terminal that a descriptor is, now; 80 if it does not say; 0: it is none. */
int cli_columns(int fd);
/* Prints a line, broken between words where it is longer than the columns (0: any number). */
void cli_print_wrapped(FILE *to, const char *text, int columns);

/* The view of cohort watch, until the person leaves it; *code: the exit code. False: it cannot be drawn here (no terminal,
 * --plain, a build without ncursesw), and lines are printed in its place. */
bool cli_watch(const cohort_options *options, int *code);

/* Writes results to stdout, notes and a live line (on a terminal that can) to stderr. */
struct cli_terminal {
    const cohort_stop *stop;
    bool live;          /* there is a live line */
    size_t line_length; /* of the live line that stands there now; 0: none */
    bool to_terminal;   /* results go to one */
    bool in_row;        /* what was printed there last ended within a row */
    bool output_failed, input_failed;
    bool output_closed; /* the reader of a pipe has gone (cohort ... | head), so no message is printed */
    bool trains;        /* what cannot be printed ends no training */
    double last_drawn, last_said, started;
    const char *phase;
};
void cli_terminal_begin(struct cli_terminal *terminal, cohort_observer *observer, cohort_stop *stop, bool trains);
void cli_terminal_end(struct cli_terminal *terminal);

/* The observer's input and style, of cohort chat; context is the terminal. */
const char *cli_input(void *context, const char *prompt);
void cli_style(void *context, cohort_style style);

#endif

/* The command line over cohort.h. */
#ifndef COHORT_CLI_CLI_H
#define COHORT_CLI_CLI_H

#include "cohort.h"

/* Exit codes. */
enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_DIVERGED = 3, EXIT_INTERRUPTED = 130 };

/* Fills options from argv[0 .. argc): --name value, --name=value, --switch, --no-switch. bare: the option whose value is
 * the words without a flag, or NULL. Prints the error and returns false on failure. */
bool cli_parse(cohort_options *options, const char *bare, int argc, char **argv);

/* Writes results to stdout, notes and a progress line (on a terminal) to stderr; Ctrl-C, SIGTERM and SIGHUP ask for a
 * stop, a second Ctrl-C or SIGTERM ends at once. */
struct cli_terminal {
    bool interactive, line_open, output_failed;
    bool output_closed; /* the reader of a pipe has gone (cohort ... | head), so no message is printed */
    double last_drawn, started;
    const char *phase;
};
void cli_terminal_begin(struct cli_terminal *terminal, cohort_observer *observer, cohort_stop *stop);
void cli_terminal_end(struct cli_terminal *terminal);

#endif

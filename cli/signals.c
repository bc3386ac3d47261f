/* What signals mean to a run. */
#include "cli.h"

#include <signal.h>
#include <stddef.h>
#include <string.h>

/* A handler gets no argument of ours. */
static cohort_stop *to_stop;
static volatile sig_atomic_t asked;
static volatile sig_atomic_t talks; /* Ctrl-C is about an answer or a line, not about the program */
static volatile sig_atomic_t ended; /* something else said that it is to end */

/* A person, a scheduler or the machine that goes down: once to stop with everything saved, twice to leave at once. */
static void on_request(int number)
{
    if (talks && number == SIGINT) {
        cohort_stop_trigger(to_stop);
        return;
    }
    ended = 1;
    if (asked) {
        signal(number, SIG_DFL);
        raise(number);
    }
    asked = 1;
    cohort_stop_trigger(to_stop);
}

/* A notice that the end is near. It is no request: the terminal that goes away tells of it twice (by the kernel and by the
 * shell), and schedulers send SIGTERM behind it, which must not cut the save that the notice began. */
static void on_notice(int number)
{
    (void)number;
    ended = 1;
    cohort_stop_trigger(to_stop);
}

void cli_signals_talk(void)
{
    talks = 1;
    if (!ended)
        cohort_stop_reset(to_stop);
    if (ended) /* it came while the stop was taken back */
        cohort_stop_trigger(to_stop);
}

bool cli_signals_ended(void) { return ended != 0; }

static void handle(int number, void (*handler)(int))
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    sigaction(number, &action, NULL);
}

/* By who started the program, as nohup does it. A request is heard all the same: kill names this process. */
static bool is_ignored(int number)
{
    struct sigaction action;
    return sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
}

void cli_signals_begin(cohort_stop *stop)
{
    static const int requests[] = {SIGINT, SIGTERM};
    static const int notices[] = {
        SIGHUP,           /* the terminal is gone: an ssh session ended */
        SIGUSR1, SIGUSR2, /* #SBATCH --signal, and SGE's -notify */
        SIGXCPU           /* a limit of CPU time is near: ulimit -t, SGE */
    };
    to_stop = stop;
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++)
        handle(requests[i], on_request);
    for (size_t i = 0; i < sizeof notices / sizeof *notices; i++)
        if (!is_ignored(notices[i]))
            handle(notices[i], on_notice);
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is seen as a failed write */
    signal(SIGXFSZ, SIG_IGN); /* so is a file beyond the limit (ulimit -f) */
}

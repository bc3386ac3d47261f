/* cohort COMMAND with the program's own options, killed in a phase of its work: compiled by the tests that need it, with
 * cli/arguments.c, over the shared library.
 *
 *   KILL_PHASE=rollout   the phase, as the observer is told it: "rollout", "reward", "train", "evaluate"; none: never
 *   KILL_AT=K            SIGKILL at the K-th call of the observer in that phase, from 1
 *   KILL_AFTER_US=N      that many microseconds later, from another thread: "update" is what follows the last micro-batch of "train"
 *   KILL_COUNT=FILE      the number of calls in the phases, as "phase calls" lines, at the end
 *
 * Programs that it starts have its process id in KILL_PID. */
#include "cli.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PHASES = 16 };
static struct {
    char name[32];
    long calls;
} phases[PHASES];
static const char *phase_to_die = "";
static long at, after_us;

static void *kill_later(void *context)
{
    (void)context;
    nanosleep(&(struct timespec){.tv_sec = after_us / 1000000, .tv_nsec = after_us % 1000000 * 1000}, NULL);
    kill(getpid(), SIGKILL);
    return NULL;
}

static long count(const char *phase)
{
    for (int i = 0; i < PHASES; i++) {
        if (phases[i].calls == 0)
            snprintf(phases[i].name, sizeof phases[i].name, "%s", phase);
        if (strcmp(phases[i].name, phase) == 0)
            return ++phases[i].calls;
    }
    return 0;
}

static void arrive(const char *phase)
{
    pthread_t thread;
    if (count(phase) != at || strcmp(phase, phase_to_die) != 0)
        return;
    if (after_us == 0 || pthread_create(&thread, NULL, kill_later, NULL) != 0)
        kill(getpid(), SIGKILL);
}

static bool progress(void *context, const cohort_progress *p)
{
    (void)context;
    arrive(p->phase);
    if (strcmp(p->phase, "train") == 0 && p->done == p->total)
        arrive("update");
    return true;
}

static void message(void *context, const char *text)
{
    (void)context;
    fprintf(stderr, "%s\n", text);
}

int main(int argc, char **argv)
{
    cohort_command command = COHORT_INFO;
    cohort_options *options = NULL;
    cohort_observer observer;
    cohort_error err = {0};
    char pid[32];
    const char *number = getenv("KILL_AT"), *delay = getenv("KILL_AFTER_US"), *file = getenv("KILL_COUNT");
    phase_to_die = getenv("KILL_PHASE") != NULL ? getenv("KILL_PHASE") : "";
    at = number != NULL ? atol(number) : 0;
    after_us = delay != NULL ? atol(delay) : 0;
    snprintf(pid, sizeof pid, "%ld", (long)getpid());
    setenv("KILL_PID", pid, 1);
    if (argc < 2 || !cohort_command_find(argv[1], &command) ||
        cohort_options_create(&options, command, &err) != COHORT_OK ||
        !cli_parse(options, cohort_options_bare(options), argc - 2, argv + 2))
        return EXIT_USAGE;
    cohort_observer_init(&observer);
    observer.progress = progress;
    observer.message = message;
    cohort_status status = cohort_run(options, &observer, &err);
    if (status != COHORT_OK)
        fprintf(stderr, "kill_run: %s\n", err.message);
    cohort_options_destroy(options);
    FILE *to = file != NULL ? fopen(file, "w") : NULL;
    for (int i = 0; to != NULL && i < PHASES && phases[i].calls > 0; i++)
        fprintf(to, "%s %ld\n", phases[i].name, phases[i].calls);
    if (to != NULL)
        fclose(to);
    return status == COHORT_OK ? EXIT_OK : EXIT_FAILED;
}

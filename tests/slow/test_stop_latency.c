/* How soon a stop ends a call at the shape of Qwen3-0.6B: while its files are read, memory is cleared, completions are
 * generated, and in the middle of a training step. Saving is not counted: what is stopped here has nothing to save. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "cohort.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Of the calling thread's own time, since other programs may have the cores; of all time where it only waits. */
static const double allowed_seconds = 0.2, allowed_waiting = 2.0;

static char folder[] = "/tmp/cohort_latency_XXXXXX";
static char model_dir[64], data_path[64], run_dir[64];

static double seconds_of(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double now(void) { return seconds_of(CLOCK_MONOTONIC); }

static cohort_status run(cohort_command command, const cohort_stop *stop, cohort_error *err, ...)
{
    cohort_options *options = NULL;
    va_list args;
    cohort_status status = cohort_options_create(&options, command, err);
    va_start(args, err);
    for (const char *name; status == COHORT_OK && (name = va_arg(args, const char *)) != NULL;)
        status = cohort_options_set(options, name, va_arg(args, const char *), NULL, err);
    va_end(args);
    if (status == COHORT_OK)
        status = cohort_options_set_stop(options, stop, err);
    if (status == COHORT_OK)
        status = cohort_run(options, NULL, err);
    cohort_options_destroy(options);
    return status;
}

struct trigger {
    cohort_stop *stop;
    double after;     /* seconds from the start */
    clockid_t caller; /* of the thread that is to be stopped */
    double at, used;  /* when it was made, and what that thread had used */
};

static void *pull(void *argument)
{
    struct trigger *trigger = argument;
    const double until = now() + trigger->after;
    while (now() < until)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    trigger->at = now();
    trigger->used = seconds_of(trigger->caller);
    cohort_stop_trigger(trigger->stop);
    return NULL;
}

static int set_up(void **state)
{
    (void)state;
    cohort_error err = {0};
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(model_dir, sizeof model_dir, "%s/model", folder);
    snprintf(data_path, sizeof data_path, "%s/data.jsonl", folder);
    snprintf(run_dir, sizeof run_dir, "%s/run", folder);
    FILE *file = fopen(data_path, "w");
    if (file == NULL)
        return -1;
    for (int i = 0; i < 64; i++)
        fprintf(file, "{\"prompt\": \"%0250d\", \"completion\": \"%0250d\"}\n", i, i + 1);
    fclose(file);
    if (run(COHORT_INIT, NULL, &err, "preset", "qwen3-0.6b", "tokenizer", "bytes", "seed", "1", "out", model_dir,
            NULL) == COHORT_OK)
        return 0;
    fprintf(stderr, "%s\n", err.message);
    return -1;
}

static int tear_down(void **state)
{
    (void)state;
    char line[128];
    snprintf(line, sizeof line, "rm -rf '%s'", folder);
    return system(line);
}

/* Stops a command after so many seconds, and measures how long it goes on. */
static void stops_within(cohort_command command, double after)
{
    struct trigger trigger = {.after = after};
    pthread_t thread;
    cohort_error err = {0};
    cohort_status status = COHORT_OK;
    char line[128];
    snprintf(line, sizeof line, "rm -rf '%s'", run_dir);
    assert_int_equal(system(line), 0);
    assert_int_equal(cohort_stop_create(&trigger.stop, &err), COHORT_OK);
    assert_int_equal(pthread_getcpuclockid(pthread_self(), &trigger.caller), 0);
    assert_int_equal(pthread_create(&thread, NULL, pull, &trigger), 0);
    if (command == COHORT_SFT)
        status = run(command, trigger.stop, &err, "model", model_dir, "data", data_path, "out", run_dir, "batch_size",
                     "16", "steps", "1", "device", "cpu", NULL);
    else
        status = run(command, trigger.stop, &err, "model", model_dir, "batch", data_path, "max_tokens", "64", "device",
                     "cpu", NULL);
    const double end = now(), used = seconds_of(trigger.caller);
    pthread_join(thread, NULL);
    cohort_stop_destroy(trigger.stop);
    if (status != COHORT_ERR_CANCELLED)
        fail_msg("%s, to be stopped after %.2f s: %s: %s", cohort_command_name(command), after,
                 cohort_status_name(status), err.message);
    print_message("%s, stopped after %.2f s: it went on for %.0f ms, computing for %.0f ms\n",
                  cohort_command_name(command), after, 1e3 * (end - trigger.at), 1e3 * (used - trigger.used));
    assert_true(used - trigger.used < allowed_seconds);
    assert_true(end - trigger.at < allowed_waiting);
}

static void test_generating(void **state)
{
    (void)state;
    const double after[] = {0.02, 0.1, 0.3, 0.8, 2.0, 4.1};
    for (size_t i = 0; i < sizeof after / sizeof *after; i++)
        stops_within(COHORT_GENERATE, after[i]);
}

static void test_training(void **state)
{
    (void)state;
    const double after[] = {0.1, 2.0, 4.0, 6.0, 9.0, 15.0, 25.0};
    for (size_t i = 0; i < sizeof after / sizeof *after; i++)
        stops_within(COHORT_SFT, after[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_generating), cmocka_unit_test(test_training)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

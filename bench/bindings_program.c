/* A GRPO run whose reward is a function of this program: how many different characters a completion has. bench_bindings.sh
 * builds it, and runs it beside bindings_program.js and bindings_program.py, which do the same.
 *
 *     bindings_program SETTINGS.yaml RUN_FOLDER FROM
 *
 * Prints what a step takes behind step FROM: processor time of the process, and time by the clock, in microseconds. */
#include <cohort.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct times {
    double from, step, processor, clock;
    double end_processor, end_clock;
};

static double now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static void on_metrics(void *context, const cohort_metrics *metrics)
{
    struct times *times = context;
    times->step = metrics->items[0].value; /* "step" is first */
    times->end_processor = now(CLOCK_PROCESS_CPUTIME_ID);
    times->end_clock = now(CLOCK_MONOTONIC);
    if (times->step == times->from) {
        times->processor = times->end_processor;
        times->clock = times->end_clock;
    }
}

/* Code points of valid UTF-8, each counted once. */
static double distinct(const char *text, size_t length)
{
    unsigned char seen[0x110000 / 8];
    double count = 0.0;
    memset(seen, 0, sizeof seen);
    for (size_t i = 0; i < length;) {
        const unsigned char first = (unsigned char)text[i];
        const size_t n = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
        unsigned point = n == 1 ? first : first & (0xffu >> (n + 1));
        for (size_t k = 1; k < n; k++)
            point = point << 6 | ((unsigned char)text[i + k] & 0x3f);
        count += (seen[point / 8] >> (point % 8) & 1) == 0;
        seen[point / 8] |= (unsigned char)(1u << (point % 8));
        i += n;
    }
    return count;
}

static cohort_status reward(void *context, const cohort_reward_row *const *rows, size_t n_rows, double *rewards,
                            cohort_error *err)
{
    (void)context;
    (void)err;
    for (size_t i = 0; i < n_rows; i++)
        rewards[i] = distinct(rows[i]->completion, rows[i]->completion_length);
    return COHORT_OK;
}

int main(int argc, char **argv)
{
    cohort_error err = {0};
    cohort_options *options = NULL;
    cohort_observer observer;
    if (argc != 4) {
        fprintf(stderr, "usage: bindings_program SETTINGS.yaml RUN_FOLDER FROM\n");
        return 2;
    }
    struct times times = {.from = atof(argv[3])};
    cohort_observer_init(&observer);
    observer.context = &times;
    observer.metrics = on_metrics;
    cohort_status status = cohort_options_create(&options, COHORT_GRPO, &err);
    if (status == COHORT_OK)
        status = cohort_options_set(options, "out", argv[2], NULL, &err);
    if (status == COHORT_OK)
        status = cohort_options_read_yaml(options, argv[1], &err);
    if (status == COHORT_OK)
        status = cohort_options_add_reward(options, "distinct", reward, NULL, &err);
    if (status == COHORT_OK)
        status = cohort_run(options, &observer, &err);
    cohort_options_destroy(options);
    if (status != COHORT_OK) {
        fprintf(stderr, "bindings_program: %s\n", err.message);
        return 1;
    }
    const double steps = times.step - times.from;
    printf("%.1f %.1f\n", (times.end_processor - times.processor) / steps, (times.end_clock - times.clock) / steps);
    return 0;
}

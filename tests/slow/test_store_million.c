/* A store of 1,000,000 completions: how long it takes to write, to open, and to answer what a view asks first. Prints what it
 * measured; opening with the first page must stay under a second. --steps N makes it smaller. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/file.h"
#include "run/store.h"
#include "support/temporary_folder.h"

#include <math.h>
#include <string.h>
#include <sys/stat.h>

enum { GROUPS = 32, GROUP = 8, TEXT = 870 };
static int64_t n_steps = 3907; /* of 256 completions: 1,000,192 */

static void write_step(struct store *store, int64_t step)
{
    static const char *const names[] = {"accuracy", "format"};
    static char text[TEXT + 1];
    static cohort_metric metrics[60];
    static char metric_names[60][24];
    cohort_error err = {0};
    for (int g = 0; g < GROUPS; g++)
        for (int i = 0; i < GROUP; i++) {
            const double scores[] = {(double)((g + i + step) % 2), 0.5};
            for (int k = 0; k < TEXT; k++)
                text[k] = (char)('a' + (step * 31 + g * 7 + i * 3 + k * (k % 5)) % 26);
            char prompt[32];
            snprintf(prompt, sizeof prompt, "question %d", (int)((step * GROUPS + g) % 7473));
            const struct store_completion c = {.set = {"", 0},
                                               .group = g,
                                               .index = i,
                                               .row = (step * GROUPS + g) % 7473,
                                               .prompt = {prompt, strlen(prompt)},
                                               .text = {text, TEXT},
                                               .finish = "eos",
                                               .tokens = 200,
                                               .logp = -30.0,
                                               .reward = scores[0] + 0.1 * i,
                                               .advantage = 0.5,
                                               .names = names,
                                               .scores = scores,
                                               .n_scores = 2};
            assert_int_equal(store_completion(store, &c, &err), COHORT_OK);
        }
    for (int m = 0; m < 60; m++) {
        snprintf(metric_names[m], sizeof metric_names[m], "group/metric_%d", m);
        metrics[m] = (cohort_metric){metric_names[m], (double)m + (double)step};
    }
    const struct store_step row = {
        .step = step, .epoch = 0.5, .metrics = metrics, .n_metrics = 60, .is_step = true, .evaluated = -1};
    if (store_commit(store, &row, NULL, &err) != COHORT_OK)
        fail_msg("%s", err.message);
}

static bool count(void *context, const cohort_stored_completion *c)
{
    (void)c;
    ++*(int64_t *)context;
    return true;
}

static bool count_steps(void *context, const cohort_stored_step *s)
{
    *(int64_t *)context += (int64_t)s->n_metrics;
    return true;
}

/* Asks the newest, the best and the worst completions, the last 200 steps. */
static double first_screen(int64_t *seen)
{
    cohort_store *store = NULL;
    const cohort_stored_run *run = NULL;
    cohort_completion_query q;
    cohort_error err = {0};
    const double begin = clock_seconds();
    assert_int_equal(cohort_store_open(&store, folder, &err), COHORT_OK);
    assert_int_equal(cohort_store_run(store, &run, &err), COHORT_OK);
    assert_int_equal(cohort_store_steps(store, run->step - 199, run->step, count_steps, seen, &err), COHORT_OK);
    cohort_completion_query_init(&q);
    q.limit = 50;
    for (int order = COHORT_NEWEST_FIRST; order <= COHORT_WORST_FIRST; order++) {
        q.order = (cohort_completion_order)order;
        assert_int_equal(cohort_store_completions(store, &q, count, seen, &err), COHORT_OK);
    }
    cohort_store_close(store);
    return clock_seconds() - begin;
}

static void test_million(void **state)
{
    (void)state;
    struct store *store = NULL;
    struct text notes = {0};
    cohort_error err = {0};
    struct stat st;
    int64_t seen = 0, found = 0;
    double behind = 0.0;
    const struct store_start start = {
        .run = folder, .command = "grpo", .model = "m", .config = "", .step = -1, .keep = -1};
    assert_int_equal(store_open(&store, &start, &notes, &err), COHORT_OK);
    const double begin = clock_seconds();
    for (int64_t step = 1; step <= n_steps; step++)
        write_step(store, step);
    const double gathered = store_seconds(store, &behind);
    assert_int_equal(store_carry(store, folder, &err), COHORT_OK);
    const double live = first_screen(&seen);
    const double caller = store_seconds(store, &behind) < gathered ? 0.0 : gathered;
    assert_int_equal(store_close(store, "finished", NULL, &err), COHORT_OK);
    const double wrote = clock_seconds() - begin;
    assert_int_equal(stat(in_folder("run.db"), &st), 0);
    const double closed = first_screen(&seen);
    assert_int_equal(seen, 2 * ((n_steps < 200 ? n_steps : 200) * 60 + 150));
    cohort_store *reader = NULL;
    cohort_completion_query q;
    assert_int_equal(cohort_store_open(&reader, folder, &err), COHORT_OK);
    cohort_completion_query_init(&q);
    q.search = "no such text";
    const double search_begin = clock_seconds();
    assert_int_equal(cohort_store_count(reader, &q, &found, &err), COHORT_OK);
    const double search = clock_seconds() - search_begin;
    assert_int_equal(found, 0);
    cohort_store_close(reader);
    printf("%lld completions, %.2f GB: written in %.1f s; of a step %.2f ms of the caller, %.2f ms of the store's "
           "thread\n",
           (long long)n_steps * GROUPS * GROUP, (double)st.st_size * 1e-9, wrote, 1e3 * caller / (double)n_steps,
           1e3 * behind / (double)n_steps);
    printf("first screen %.3f s while it is written, %.3f s after; a search of every text %.2f s\n", live, closed,
           search);
    assert_true(live < 1.0);
    assert_true(closed < 1.0);
    text_free(&notes);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup(test_million, setup)};
    if (argc > 2 && strcmp(argv[1], "--steps") == 0)
        n_steps = atoll(argv[2]);
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}

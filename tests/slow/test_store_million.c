/* A store of 1,000,000 completions: how long it takes to write, to open, and to answer what a view asks first. Prints what it
 * measured; opening with the first page must stay under a second. --steps N makes it smaller, --out DIR leaves it in that
 * folder, which must be there (test_store_views.sh opens it with the program). */
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
static const char *place = folder;

static void write_step(struct store *store, int64_t step)
{
    static const char *const names[] = {"accuracy", "format"};
    static char text[TEXT + 1];
    static cohort_metric metrics[60];
    static const char *const known[] = {"reward",
                                        "reward_std",
                                        "rewards/accuracy/mean",
                                        "rewards/accuracy/std",
                                        "rewards/format/mean",
                                        "rewards/format/std",
                                        "loss",
                                        "grad_norm",
                                        "learning_rate",
                                        "entropy",
                                        "kl",
                                        "clip_ratio/region_mean",
                                        "completions/mean_length",
                                        "completions/clipped_ratio",
                                        "frac_reward_zero_std",
                                        "step_time",
                                        "time/rollout",
                                        "time/reward",
                                        "time/train",
                                        "throughput/rollout_tokens_per_second",
                                        "eval_reward"};
    enum { N_KNOWN = sizeof known / sizeof *known };
    static char metric_names[60][40];
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
        if (m < N_KNOWN)
            snprintf(metric_names[m], sizeof metric_names[m], "%s", known[m]);
        else
            snprintf(metric_names[m], sizeof metric_names[m], "group/metric_%d", m);
        metrics[m] = (cohort_metric){metric_names[m], 0.5 + 0.4 * sin((double)(m + 1) * (double)step / 300.0)};
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
    assert_int_equal(cohort_store_open(&store, place, &err), COHORT_OK);
    assert_int_equal(cohort_store_run(store, &run, &err), COHORT_OK);
    assert_int_equal(cohort_store_steps(store, run->step - 199, run->step, count_steps, seen, &err), COHORT_OK);
    cohort_completion_query_init(&q);
    q.limit = 50;
    for (int order = COHORT_NEWEST_FIRST; order <= COHORT_WORST_FIRST; order++) {
        q.order = (cohort_completion_order)order;
        assert_int_equal(cohort_store_completions(store, &q, count, seen, &err), COHORT_OK);
    }
    q.limit = 1; /* of the newest step alone: far behind the whole table's best */
    q.first_step = q.last_step = run->step;
    for (int order = COHORT_BEST_FIRST; order <= COHORT_WORST_FIRST; order++) {
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
    char database[300];
    int64_t seen = 0, found = 0;
    double behind = 0.0;
    const struct store_start start = {
        .run = place, .command = "grpo", .model = "m", .config = "", .step = -1, .keep = -1};
    assert_int_equal(store_open(&store, &start, &notes, &err), COHORT_OK);
    const double begin = clock_seconds();
    for (int64_t step = 1; step <= n_steps; step++)
        write_step(store, step);
    const double gathered = store_seconds(store, &behind);
    assert_int_equal(store_carry(store, place, &err), COHORT_OK);
    const double live = first_screen(&seen);
    const double caller = store_seconds(store, &behind) < gathered ? 0.0 : gathered;
    assert_int_equal(store_close(store, "finished", NULL, &err), COHORT_OK);
    const double wrote = clock_seconds() - begin;
    snprintf(database, sizeof database, "%s/run.db", place);
    assert_int_equal(stat(database, &st), 0);
    const double closed = first_screen(&seen);
    assert_int_equal(seen, 2 * ((n_steps < 200 ? n_steps : 200) * 60 + 150 + 2));
    cohort_store *reader = NULL;
    cohort_completion_query q;
    assert_int_equal(cohort_store_open(&reader, place, &err), COHORT_OK);
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
    for (int i = 1; i + 1 < argc; i += 2) {
        n_steps = strcmp(argv[i], "--steps") == 0 ? atoll(argv[i + 1]) : n_steps;
        place = strcmp(argv[i], "--out") == 0 ? argv[i + 1] : place;
    }
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}

/* The watch over a run that cannot learn, on metrics made up for each reason. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "train/watch.h"

#include <math.h>
#include <string.h>

#define ABSENT 1e300 /* a metric that is not there */

static void step(struct watch *watch, double reward, double zero_std, double clipped, double norm)
{
    struct metrics metrics = {0};
    if (reward != ABSENT)
        metrics_set(&metrics, "reward", reward);
    if (zero_std != ABSENT)
        metrics_set(&metrics, "frac_reward_zero_std", zero_std);
    if (clipped != ABSENT)
        metrics_set(&metrics, "completions/clipped_ratio", clipped);
    metrics_set(&metrics, "grad_norm", norm);
    watch_step(watch, &metrics);
    metrics_free(&metrics);
}

static void silent(struct watch *watch)
{
    char message[WATCH_MESSAGE];
    if (watch_says(watch, message))
        fail_msg("said: %s", message);
}

/* The next message has all of the words (NULL ends them), and it is the only one. */
static void says(struct watch *watch, ...)
{
    char message[WATCH_MESSAGE];
    va_list words;
    assert_true(watch_says(watch, message));
    va_start(words, watch);
    for (const char *word = va_arg(words, const char *); word != NULL; word = va_arg(words, const char *))
        if (strstr(message, word) == NULL)
            fail_msg("no '%s' in: %s", word, message);
    va_end(words);
    silent(watch);
}

static void lacks(const struct watch *watch, const char *word)
{
    char message[WATCH_MESSAGE];
    struct watch copy = *watch;
    assert_true(watch_says(&copy, message));
    if (strstr(message, word) != NULL)
        fail_msg("'%s' in: %s", word, message);
}

/* Each reason: nothing for nine steps, once at the tenth, nothing more for thirty, and again at the end. */
static void test_reasons(void **state)
{
    (void)state;
    static const struct {
        double reward, zero_std, clipped, norm;
        const char *what, *advice;
    } cases[] = {
        {NAN, 0.0, 0.0, 0.0, "no completion had a reward", "column"},
        {0.5, 1.0, 0.1, 0.0, "equal within every group", "--num-generations"},
        {0.5, 1.0, 0.1, 0.3, "last mean reward is 0.5", "--temperature"}, /* with a KL term */
        {0.5, 0.5, 0.0, NAN, "every update was skipped", "--learning-rate"},
        {0.5, 0.5, 0.0, 0.0, "the gradient was 0", "--mask-truncated-completions"},
        {ABSENT, ABSENT, ABSENT, 0.0, "the gradient was 0", "data"}, /* sft */
        {ABSENT, ABSENT, ABSENT, INFINITY, "every update was skipped", "--learning-rate"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct watch watch = {0};
        for (int s = 1; s <= 40; s++) {
            step(&watch, cases[i].reward, cases[i].zero_std, cases[i].clipped, cases[i].norm);
            if (s == WATCH_STEPS)
                says(&watch, "does not learn", cases[i].what, cases[i].advice, "10 steps", NULL);
            else
                silent(&watch);
        }
        watch_end(&watch);
        says(&watch, "does not learn", cases[i].what, cases[i].advice, "the last 10 steps", NULL);
    }
}

/* One step that can teach something begins the count anew; at the end the last ten count. */
static void test_interrupted(void **state)
{
    (void)state;
    struct watch watch = {0};
    for (int s = 1; s <= 100; s++) {
        step(&watch, 0.5, s % WATCH_STEPS == 0 ? 0.875 : 1.0, 0.0, s % WATCH_STEPS == 0 ? 1.0 : 0.0);
        silent(&watch);
    }
    watch_end(&watch);
    silent(&watch);
    for (int s = 1; s < WATCH_STEPS; s++)
        step(&watch, 0.5, 1.0, 0.0, 0.0);
    watch_end(&watch);
    silent(&watch);
    struct watch healed = {0};
    for (int s = 1; s <= WATCH_STEPS; s++)
        step(&healed, 0.5, 1.0, 0.0, 0.0);
    says(&healed, "does not learn", NULL);
    step(&healed, 0.5, 0.5, 0.0, 1.0);
    watch_end(&healed);
    silent(&healed);
}

/* A short run: all of its steps. */
static void test_short(void **state)
{
    (void)state;
    struct watch none = {0}, one = {0}, three = {0}, good = {0};
    watch_end(&none);
    silent(&none);
    step(&one, NAN, 0.0, 0.0, 0.0);
    silent(&one);
    watch_end(&one);
    says(&one, "in its one step", "null", NULL);
    for (int s = 0; s < 3; s++)
        step(&three, 1.0, 1.0, 0.0, 0.0);
    watch_end(&three);
    lacks(&three, "gradient was 0"); /* that follows from the rewards */
    says(&three, "in all 3 steps", "equal within every group", NULL);
    step(&good, 1.0, 1.0, 0.0, 0.0);
    step(&good, 1.0, 0.5, 0.0, 0.1);
    watch_end(&good);
    silent(&good);
}

/* Completions that never end: more than 90 % of one step is said once, all of them for ten steps once more, and at the
 * end what still holds. */
static void test_truncated(void **state)
{
    (void)state;
    struct watch watch = {0}, all = {0}, fewer = {0}, both = {0};
    step(&watch, 0.5, 0.5, 0.9, 1.0);
    silent(&watch);
    step(&watch, 0.5, 0.5, 0.91, 1.0);
    says(&watch, "91 % of the completions of this step", "--max-completion-length", "--eos-token", NULL);
    for (int s = 0; s < 30; s++)
        step(&watch, 0.5, 0.5, 0.95, 1.0);
    silent(&watch);
    watch_end(&watch);
    says(&watch, "95 % of the completions of the last step", "--eos-token", NULL);

    for (int s = 1; s < WATCH_STEPS; s++)
        step(&all, 0.5, 0.5, 1.0, 1.0);
    says(&all, "100 % of the completions of this step", NULL);
    step(&all, 0.5, 0.5, 1.0, 1.0);
    lacks(&(struct watch){.steps = 10, .streak = {0, 0, 10, 0, 0}, .say_hopeless = true},
          "does not learn"); /* it does, from beginnings */
    says(&all, "in all 10 steps nearly every completion was cut", "--eos-token", NULL);

    step(&fewer, 0.5, 0.5, 1.0, 1.0);
    says(&fewer, "100 %", NULL);
    step(&fewer, 0.5, 0.5, 0.2, 1.0);
    watch_end(&fewer);
    silent(&fewer);

    for (int s = 0; s < WATCH_STEPS; s++)
        step(&both, 0.0, 1.0, 1.0, 0.0);
    char message[WATCH_MESSAGE];
    assert_true(watch_says(&both, message));
    assert_non_null(strstr(message, "this run does not learn"));
    assert_non_null(strstr(message, "equal within every group"));
    assert_non_null(strstr(message, "and nearly every completion was cut"));
    assert_true(strlen(message) < WATCH_MESSAGE - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reasons),
        cmocka_unit_test(test_interrupted),
        cmocka_unit_test(test_short),
        cmocka_unit_test(test_truncated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The diagnosis on metrics made up for each rule: it speaks at the step that docs/RUN.md says and not before, once; just
 * under its threshold it is silent; and a run that is cut and goes on from its checkpoint says the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/file.h"
#include "run/diagnosis.h"
#include "support/temporary_folder.h"
#include "train/metrics.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MOST_SAID = 64 };

/* A step of a run that learns. */
static void healthy(struct metrics *m, int64_t step)
{
    const double wave = 0.01 * (double)(step * 7 % 5 - 2); /* what is not quite the same from step to step */
    metrics_set(m, "reward", 0.3 + 0.001 * (double)step + wave);
    metrics_set(m, "reward_std", 0.4);
    metrics_set(m, "frac_reward_zero_std", 0.3 + wave);
    metrics_set(m, "rewards/answer/mean", 0.3 + 0.001 * (double)step + wave);
    metrics_set(m, "rewards/answer/std", 0.4);
    metrics_set(m, "completions/clipped_ratio", 0.1 + wave);
    metrics_set(m, "completions/mean_terminated_length", 50);
    metrics_set(m, "completions/mean_length", 60 + 100 * wave);
    metrics_set(m, "completions/repeated_ratio", 0);
    metrics_set(m, "completions/distinct_ratio", 0.9);
    metrics_set(m, "loss", 0.02 + wave);
    metrics_set(m, "grad_norm", 0.5 + 10 * wave);
    metrics_set(m, "learning_rate", 1e-6);
    metrics_set(m, "entropy", 0.6 + wave);
    metrics_set(m, "kl", 0.02 + 0.1 * wave);
    metrics_set(m, "clip_ratio/region_mean", 0.05 + wave);
    metrics_set(m, "sampling/sampling_logp_difference/max", 0);
    metrics_set(m, "step_time", 10);
    metrics_set(m, "time/reward", 1);
    metrics_set(m, "time/rollout", 6);
    metrics_set(m, "throughput/rollout_tokens_per_second", 1000 + 1000 * wave);
}

/* Makes a step that is ill; under: as ill as it may be without a word. */
typedef void illness(struct metrics *m, int64_t step, bool under);

static void no_reward(struct metrics *m, int64_t step, bool under)
{
    if (!under || step % 3 != 0)
        metrics_set(m, "reward", (double)NAN);
}
static void function_null(struct metrics *m, int64_t step, bool under)
{
    metrics_set(m, "rewards/form/mean", under && step % 20 == 0 ? 0.5 : (double)NAN);
    metrics_set(m, "rewards/form/std", under && step % 20 == 0 ? 0.5 : (double)NAN);
}
static void no_end(struct metrics *m, int64_t step, bool under)
{
    const bool ends = step < 20 || (under && step % 5 == 0); /* where it ends in some steps, C6 speaks */
    metrics_set(m, "completions/clipped_ratio", ends ? 0.4 : 1.0);
    metrics_set(m, "completions/mean_terminated_length", ends ? 50 : 0);
}
static void cut_from_the_start(struct metrics *m, int64_t step, bool under)
{
    metrics_set(m, "completions/clipped_ratio", step > 2 ? 0.4 : under ? 0.89 : 0.9);
}
static void truncated(struct metrics *m, int64_t step, bool under)
{
    (void)step;
    metrics_set(m, "completions/clipped_ratio", under ? 0.5 : 0.51);
}
static void no_spread(struct metrics *m, int64_t step, bool under)
{
    metrics_set(m, "frac_reward_zero_std", under && step % 10 == 0 ? 0.0 : 1.0);
    metrics_set(m, "reward", 0.5);
}
static void solved(struct metrics *m, int64_t step, bool under)
{
    if (under || step <= 20)
        return;
    metrics_set(m, "frac_reward_zero_std", 1.0);
    metrics_set(m, "reward", 1.0);
    metrics_set(m, "reward_std", 0.0);
}
static void no_gradient(struct metrics *m, int64_t step, bool under)
{
    metrics_set(m, "grad_norm", under && step % 5 == 0 ? 1e-12 : 0.0);
}
static void little_spread(struct metrics *m, int64_t step, bool under)
{
    (void)step;
    metrics_set(m, "frac_reward_zero_std", under ? 0.79 : 0.81);
}
static void form_constant(struct metrics *m, double value, bool varies)
{
    metrics_set(m, "rewards/form/mean", value);
    metrics_set(m, "rewards/form/std", varies ? 0.1 : 0.0);
}
static void function_never(struct metrics *m, int64_t step, bool under)
{
    form_constant(m, 0.0, under && step % 30 == 0);
}
static void function_always(struct metrics *m, int64_t step, bool under)
{
    form_constant(m, 1.0, under && step % 30 == 0);
}
static void not_finite_once(struct metrics *m, int64_t step, bool under)
{
    if (step == 5 && !under)
        metrics_set(m, "grad_norm", (double)NAN);
}
static void not_finite(struct metrics *m, int64_t step, bool under)
{
    if (step >= 10 && step % (under ? 5 : 4) == 0)
        metrics_set(m, "grad_norm", (double)INFINITY);
}
static void ratio_off(struct metrics *m, int64_t step, bool under)
{
    metrics_set(m, "sampling/sampling_logp_difference/max", step < 7 || under ? 0.0 : 1e-7);
}
static void kl_runaway(struct metrics *m, int64_t step, bool under)
{
    metrics_set(m, "kl", step <= 70 ? 0.02 : under ? 0.2 : 0.21);
}
static void kl_far(struct metrics *m, int64_t step, bool under)
{
    metrics_set(m, "kl", step <= 30 ? 0.02 : under ? 9.9 : 10.1);
    if (step > 30)
        metrics_set(m, "reward", 0.25);
}
static void collapsed(struct metrics *m, int64_t step, bool under)
{
    /* 8 prompts a step: 4 standard errors of 10 steps are 0.18. */
    metrics_set(m, "reward", step <= 100 ? 0.6 : under ? 0.43 : 0.41);
}
static void entropy_low(struct metrics *m, int64_t step, bool under)
{
    metrics_set(m, "reward", 0.3);
    metrics_set(m, "entropy", step <= 40 ? 0.6 : under ? 0.1 : 0.09);
}
static void entropy_low_learns(struct metrics *m, int64_t step, bool under)
{
    metrics_set(m, "entropy", step <= 40 ? 0.6 : under ? 0.1 : 0.09);
}
/* To a reward near its highest, where it stays; under: to one that still differs from answer to answer. */
static void entropy_low_there(struct metrics *m, int64_t step, bool under)
{
    metrics_set(m, "entropy", step <= 40 ? 0.6 : 0.09);
    metrics_set(m, "reward", step <= 40 ? 0.4 : 0.94);
    metrics_set(m, "reward_std", step <= 40 ? 0.49 : under ? 0.3 : 0.24);
}
static void entropy_high(struct metrics *m, int64_t step, bool under)
{
    const double most = under ? 1.15 : 3.0; /* twice the begin is 1.2 */
    metrics_set(m, "entropy", fmin(most, step <= 40 ? 0.6 : 0.6 + 0.05 * (double)(step - 40)));
}
static void entropy_random(struct metrics *m, int64_t step, bool under)
{
    if (step <= 40)
        return;
    metrics_set(m, "entropy", under ? 1.1 : 1.9);
    metrics_set(m, "reward", 0.2);
}
static void updates_clipped(struct metrics *m, int64_t step, bool under)
{
    (void)step;
    metrics_set(m, "clip_ratio/region_mean", under ? 0.29 : 0.31);
}
static void grad_spike(struct metrics *m, int64_t step, bool under)
{
    if (step == 50)
        metrics_set(m, "grad_norm", under ? 4.9 : 5.6);
    else
        metrics_set(m, "grad_norm", 0.5);
}
static void grad_spikes(struct metrics *m, int64_t step, bool under)
{
    metrics_set(m, "grad_norm", step >= 50 && step % 9 == 5 && (!under || step % 2 == 0) ? 5.6 : 0.5);
}
static void form_only(struct metrics *m, int64_t step, bool under)
{
    metrics_set(m, "reward", 0.5);
    metrics_set(m, "rewards/answer/mean", under ? 0.3 + 0.001 * (double)step : 0.3);
    metrics_set(m, "rewards/form/mean", step <= 130 ? 0.2 : fmin(0.9, 0.2 + 0.02 * (double)(step - 130)));
    metrics_set(m, "rewards/form/std", 0.3);
}
static void length_runaway(struct metrics *m, int64_t step, bool under)
{
    metrics_set(m, "reward", 0.3);
    metrics_set(m, "completions/mean_length", step <= 40 ? 60 : under ? 119 : 121);
}
static void cuts_rise(struct metrics *m, int64_t step, bool under)
{
    metrics_set(m, "reward", 0.3);
    metrics_set(m, "completions/clipped_ratio", step <= 60 ? 0.1 : under ? 0.39 : 0.41);
}
static void shrinks(struct metrics *m, int64_t step, bool under)
{
    metrics_set(m, "completions/mean_length", step <= 40 ? 60 : under ? 19 : 17);
    metrics_set(m, "rewards/form/mean", 0.9 - 0.005 * (double)step);
    metrics_set(m, "rewards/form/std", 0.3);
}
static void held_out(struct metrics *m, int64_t step, bool under)
{
    /* 200 held-out prompts: two standard errors at 0.5 are 0.071. */
    if (step % 20 == 0)
        metrics_set(m, "eval_reward", step <= 40 ? 0.5 : under ? 0.44 : 0.42);
}
static void held_out_far(struct metrics *m, int64_t step, bool under)
{
    if (step % 20 == 0)
        metrics_set(m, "eval_reward", step <= 40 ? 0.5 : under ? 0.40 : 0.35);
}
static void loops(struct metrics *m, int64_t step, bool under)
{
    metrics_set(m, "completions/repeated_ratio", step <= 40 ? 0.02 : under ? 0.1 : 0.11);
}
static void same_answers(struct metrics *m, int64_t step, bool under)
{
    metrics_set(m, "completions/distinct_ratio", step <= 40 ? 0.9 : under ? 0.5 : 0.49);
}
static void overfit(struct metrics *m, int64_t step, bool under)
{
    metrics_set(m, "loss", 2.0 - 0.005 * (double)step);
    if (step % 10 == 0)
        metrics_set(m, "eval_loss", step <= 50 ? 1.0 : under && step % 30 == 0 ? 0.9 : 1.0 + 0.01 * (double)step);
}
static void slow_reward(struct metrics *m, int64_t step, bool under)
{
    (void)step;
    metrics_set(m, "time/reward", under ? 2.9 : 3.1);
}
static void slower(struct metrics *m, int64_t step, bool under)
{
    metrics_set(m, "throughput/rollout_tokens_per_second", step <= 60 ? 1000 : under ? 710 : 690);
}

/* A step up to which nothing is said, what is said then, and its severity. */
static const struct ill_case {
    illness *ill;
    const char *id, *name;
    enum diagnosis_severity severity;
    int64_t at;
    const char *words;
    bool other_under; /* as ill as that, another rule may speak */
} cases[] = {
    {no_reward, "C3", "no_reward", DIAGNOSIS_FATAL, 3, "no completion had a reward", false},
    {function_null, "C3", "function_unanswered", DIAGNOSIS_WARNING, 20, "the reward form answered null", false},
    {no_end, "C5", "no_end", DIAGNOSIS_FATAL, 24, "no completion ended by itself", true},
    {cut_from_the_start, "C5", "no_end", DIAGNOSIS_WARNING, 1, "90 % of the completions of this step never ended",
     false},
    {truncated, "C6", "truncated", DIAGNOSIS_WARNING, 10, "51 % of the completions were cut", false},
    {no_spread, "C1", "no_spread", DIAGNOSIS_FATAL, 10, "equal within every group", true},
    {solved, "C1", "no_spread", DIAGNOSIS_FATAL, 30, "solved", false},
    {no_gradient, "C7", "no_gradient", DIAGNOSIS_FATAL, 5, "the gradient was 0", false},
    {little_spread, "C2", "little_spread", DIAGNOSIS_NOTE, 50, "81 % of the groups", false},
    {function_never, "C4", "function_constant", DIAGNOSIS_WARNING, 30, "never says yes", false},
    {function_always, "C4", "function_constant", DIAGNOSIS_NOTE, 30, "always content", false},
    {not_finite_once, "U1", "not_finite", DIAGNOSIS_WARNING, 5, "not finite", false},
    {not_finite, "U1", "not_finite", DIAGNOSIS_FATAL, 20, "3 of the last 10 steps", true},
    {ratio_off, "U5", "ratio_off", DIAGNOSIS_FATAL, 7, "1e-07 off", false},
    {kl_runaway, "U4", "kl_runaway", DIAGNOSIS_WARNING, 76, "the KL to the reference is 0.21, was 0.02", false},
    {kl_far, "U4", "kl_runaway", DIAGNOSIS_FATAL, 36, "less than the", true},
    {collapsed, "U8", "reward_collapsed", DIAGNOSIS_FATAL, 119, "collapsed", false},
    {entropy_low, "U2", "entropy_collapsed", DIAGNOSIS_WARNING, 51, "stopped trying", false},
    {entropy_high, "U3", "entropy_rising", DIAGNOSIS_WARNING, 59, "turn random", false},
    {entropy_random, "U3", "entropy_rising", DIAGNOSIS_FATAL, 46, "the reward has fallen", false},
    {updates_clipped, "U6", "updates_clipped", DIAGNOSIS_WARNING, 30, "31 % of the tokens", false},
    {grad_spike, "U7", "gradient_spikes", DIAGNOSIS_NOTE, 50, "in 1 of the last 20", false},
    {grad_spikes, "U7", "gradient_spikes", DIAGNOSIS_WARNING, 68, "in 3 of the last 20", true},
    {form_only, "H3", "form_only", DIAGNOSIS_WARNING, 201, "the form and not the answer", false},
    {length_runaway, "H1", "length_runaway", DIAGNOSIS_WARNING, 46, "grow without", false},
    {cuts_rise, "H1", "length_runaway", DIAGNOSIS_WARNING, 66, "50 steps before", false},
    {shrinks, "H1", "length_runaway", DIAGNOSIS_WARNING, 46, "shrink without", false},
    {held_out, "H2", "held_out_falls", DIAGNOSIS_WARNING, 80, "0.5, for 2 evaluations", false},
    {held_out_far, "H2", "held_out_falls", DIAGNOSIS_FATAL, 100, "for 3 evaluations", true},
    {loops, "H4", "repeats_itself", DIAGNOSIS_WARNING, 50, "11 % of the completions repeat", false},
    {same_answers, "H6", "same_answers", DIAGNOSIS_WARNING, 50, "only 49 %", false},
    {overfit, "S1", "overfit", DIAGNOSIS_WARNING, 80, "by heart", false},
    {slow_reward, "M1", "reward_slow", DIAGNOSIS_WARNING, 20, "waiting for rewards", false},
    {slower, "M4", "slower", DIAGNOSIS_WARNING, 71, "690 tokens/s are generated, were 1000", false},
};
enum { N_CASES = sizeof cases / sizeof *cases };

static const struct diagnosis_setup of_run = {
    .group = 8, .prompts = 8, .eval_prompts = 200, .peak_rate = 1e-6, .max_grad_norm = 1.0};

struct heard {
    struct diagnosis_warning at[MOST_SAID];
    size_t n;
};

static struct diagnosis *begin(void)
{
    struct diagnosis *d = NULL;
    assert_int_equal(diagnosis_create(&d, &of_run, NULL), COHORT_OK);
    return d;
}

static void listen(struct diagnosis *d, struct heard *heard)
{
    struct diagnosis_warning w;
    while (diagnosis_next(d, &w)) {
        assert_true(heard->n < MOST_SAID);
        heard->at[heard->n++] = w;
    }
}

static void give(struct diagnosis *d, illness *ill, bool under, int64_t step, struct heard *heard)
{
    struct metrics m = {0};
    healthy(&m, step);
    if (ill != NULL)
        ill(&m, step, under);
    assert_int_equal(diagnosis_step(d, step, m.items, m.count, true, NULL), COHORT_OK);
    metrics_free(&m);
    listen(d, heard);
}

static void print(const struct heard *heard)
{
    for (size_t i = 0; i < heard->n; i++)
        print_message("  %lld %s %s: %s\n", (long long)heard->at[i].step, heard->at[i].rule->id,
                      heard->at[i].rule->name, heard->at[i].sentence);
}

enum { STEPS = 240 };

/* A run of a case; cut: after so many steps its state is written, and another diagnosis goes on from it. */
static void run(illness *ill, bool under, int64_t cut, struct heard *heard)
{
    struct diagnosis *d = begin();
    heard->n = 0;
    for (int64_t step = 1; step <= STEPS; step++) {
        give(d, ill, under, step, heard);
        if (step != cut)
            continue;
        cohort_error err = {0};
        assert_int_equal(file_make_dirs(in_folder("trainer"), NULL), COHORT_OK);
        assert_int_equal(diagnosis_write(d, folder, NULL), COHORT_OK);
        diagnosis_destroy(d);
        d = begin();
        if (diagnosis_read(d, folder, &err) != COHORT_OK)
            fail_msg("%s", err.message);
    }
    diagnosis_end(d);
    listen(d, heard);
    diagnosis_destroy(d);
}

static const struct diagnosis_warning *first_of(const struct heard *heard, const struct ill_case *c)
{
    for (size_t i = 0; i < heard->n; i++)
        if (strcmp(heard->at[i].rule->name, c->name) == 0 && heard->at[i].severity == c->severity)
            return &heard->at[i];
    return NULL;
}

static void test_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_CASES; i++) {
        const struct ill_case *c = &cases[i];
        struct heard heard;
        run(c->ill, false, 0, &heard);
        const struct diagnosis_warning *w = first_of(&heard, c);
        size_t same = 0;
        for (size_t k = 0; k < heard.n; k++)
            same += heard.at[k].rule == (w == NULL ? NULL : w->rule) && heard.at[k].severity == c->severity ? 1 : 0;
        if (w == NULL || w->step != c->at || strcmp(w->rule->id, c->id) != 0 || strstr(w->sentence, c->words) == NULL ||
            same != 1) {
            print(&heard);
            fail_msg("case %zu, %s %s: expected once, at step %lld, with '%s'", i, c->id, c->name, (long long)c->at,
                     c->words);
        }
        for (size_t k = 0; k < heard.n && !c->other_under; k++)
            if (heard.at[k].step < c->at)
                fail_msg("case %zu, %s: %s was said before", i, c->name, heard.at[k].sentence);
        run(c->ill, true, 0, &heard);
        if (first_of(&heard, c) != NULL || (heard.n > 0 && !c->other_under)) {
            print(&heard);
            fail_msg("case %zu, %s %s: said something just under the threshold", i, c->id, c->name);
        }
    }
}

/* Rules of speed begin anew, and are then said at another step. */
static bool measured(const struct ill_case *c) { return c->id[0] == 'M'; }

static void test_resumed(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_CASES; i++) {
        const int64_t cuts[] = {1, 15, cases[i].at - 1, cases[i].at, cases[i].at + 3, 150};
        struct heard whole, parts;
        if (measured(&cases[i]))
            continue;
        run(cases[i].ill, false, 0, &whole);
        for (size_t k = 0; k < sizeof cuts / sizeof *cuts; k++) {
            run(cases[i].ill, false, cuts[k], &parts);
            if (parts.n != whole.n)
                fail_msg("%s, cut after %lld: %zu warnings, without a cut %zu", cases[i].name, (long long)cuts[k],
                         parts.n, whole.n);
            for (size_t w = 0; w < whole.n; w++) {
                assert_ptr_equal(parts.at[w].rule, whole.at[w].rule);
                assert_int_equal(parts.at[w].step, whole.at[w].step);
                assert_string_equal(parts.at[w].sentence, whole.at[w].sentence);
            }
        }
    }
}

static void test_healthy(void **state)
{
    (void)state;
    struct heard heard;
    run(NULL, false, 0, &heard);
    print(&heard);
    assert_int_equal(heard.n, 0);
    run(entropy_low_learns, false, 0, &heard); /* as in each of the demo's seeds */
    print(&heard);
    assert_int_equal(heard.n, 0);
    run(entropy_low_there, false, 0, &heard); /* and at their end */
    print(&heard);
    assert_int_equal(heard.n, 0);
    run(entropy_low_there, true, 0, &heard);
    assert_int_equal(heard.n, 1);
    assert_string_equal(heard.at[0].rule->id, "U2");
}

/* What a rule said is said again after 50 steps in which it did not hold, and no sooner. */
static void sometimes(struct metrics *m, int64_t step, bool under)
{
    (void)under;
    metrics_set(m, "sampling/sampling_logp_difference/max", step == 10 || step == 60 ? 1.0 : 0.0);
}

static void test_again(void **state)
{
    (void)state;
    struct heard heard;
    run(sometimes, false, 0, &heard);
    assert_int_equal(heard.n, 1); /* 49 clean steps between 10 and 60 */
    struct diagnosis *d = begin();
    heard.n = 0;
    for (int64_t step = 1; step <= 80; step++) {
        struct metrics m = {0};
        healthy(&m, step);
        if (step == 10 || step == 61)
            metrics_set(&m, "sampling/sampling_logp_difference/max", 1.0);
        assert_int_equal(diagnosis_step(d, step, m.items, m.count, true, NULL), COHORT_OK);
        metrics_free(&m);
        listen(d, &heard);
    }
    assert_int_equal(heard.n, 2);
    assert_int_equal(heard.at[1].step, 61);
    assert_int_equal(diagnosis_said(d), 2);
    assert_string_equal(diagnosis_said_at(d, 0)->sentence, heard.at[0].sentence);
    diagnosis_destroy(d);
}

/* Of several rules with one cause the first speaks: what no completion ends makes no rewards that differ. */
static void everything(struct metrics *m, int64_t step, bool under)
{
    no_end(m, step + 20, under);
    no_spread(m, step, under);
    metrics_set(m, "grad_norm", 0.0);
}

static void test_one_cause(void **state)
{
    (void)state;
    struct heard heard;
    run(everything, false, 0, &heard);
    print(&heard);
    assert_int_equal(heard.n, 2); /* at once that nothing ends, then that nothing ever does */
    assert_string_equal(heard.at[0].rule->name, "no_end");
    assert_int_equal(heard.at[0].severity, DIAGNOSIS_WARNING);
    assert_string_equal(heard.at[1].rule->name, "no_end");
    assert_int_equal(heard.at[1].severity, DIAGNOSIS_FATAL);
}

/* A run of fewer steps than a rule wants says at its end what held in all of them. */
static void test_short(void **state)
{
    (void)state;
    static const struct {
        illness *ill;
        int64_t steps;
        const char *id, *words;
    } shorts[] = {{no_spread, 3, "C1", "in all 3 steps"},
                  {no_reward, 1, "C3", "in its one step"},
                  {no_gradient, 2, "C7", "in all 2 steps"},
                  {truncated, 4, "C6", "in all 4 steps"}};
    struct heard heard = {.n = 0};
    for (size_t i = 0; i < sizeof shorts / sizeof *shorts; i++) {
        struct diagnosis *d = begin();
        heard.n = 0;
        for (int64_t step = 1; step <= shorts[i].steps; step++)
            give(d, shorts[i].ill, false, step, &heard);
        assert_int_equal(heard.n, 0);
        diagnosis_end(d);
        listen(d, &heard);
        diagnosis_end(d);
        listen(d, &heard);
        assert_int_equal(heard.n, 1);
        assert_string_equal(heard.at[0].rule->id, shorts[i].id);
        if (strstr(heard.at[0].sentence, shorts[i].words) == NULL)
            fail_msg("%s", heard.at[0].sentence);
        diagnosis_destroy(d);
    }
    struct diagnosis *none = begin();
    diagnosis_end(none);
    listen(none, &heard);
    diagnosis_destroy(none);
    diagnosis_destroy(NULL);
}

/* While the rate is near 0 nothing moves, and nothing is said of it. */
static void test_warm_up(void **state)
{
    (void)state;
    struct heard heard = {.n = 0};
    struct diagnosis *d = begin();
    for (int64_t step = 1; step <= 40; step++) {
        struct metrics m = {0};
        healthy(&m, step);
        metrics_set(&m, "grad_norm", 0.0);
        metrics_set(&m, "learning_rate", step <= 20 ? 0.9e-7 : 1e-7);
        assert_int_equal(diagnosis_step(d, step, m.items, m.count, true, NULL), COHORT_OK);
        metrics_free(&m);
        listen(d, &heard);
        assert_int_equal(heard.n, step < 25 ? 0 : 1);
    }
    diagnosis_destroy(d);
}

/* docs/RUN.md has every rule, by id and name. */
static void test_documented(void **state)
{
    (void)state;
    struct text page = {0};
    assert_int_equal(file_read(COHORT_SOURCE_DIR "/docs/RUN.md", 0, &page, NULL), COHORT_OK);
    for (size_t i = 0; diagnosis_rule_at(i) != NULL; i++) {
        char row[80];
        bool tested = false;
        snprintf(row, sizeof row, "| %s `%s` |", diagnosis_rule_at(i)->id, diagnosis_rule_at(i)->name);
        if (strstr(page.data, row) == NULL)
            fail_msg("docs/RUN.md has no row '%s'", row);
        for (size_t c = 0; c < N_CASES; c++)
            tested = tested || strcmp(cases[c].name, diagnosis_rule_at(i)->name) == 0;
        if (!tested)
            fail_msg("no case for %s", diagnosis_rule_at(i)->name);
    }
    text_free(&page);
}

/* A file that is not as it was written is refused by name. */
static void test_damaged(void **state)
{
    (void)state;
    static const char *const texts[] = {"",
                                        "{",
                                        "[]",
                                        "{\"format\": 2}",
                                        "{\"format\": 1}",
                                        "{\"format\": 1, \"steps\": -1}",
                                        "{\"format\": 1, \"steps\": 1e300}"};
    static const char name[] = "trainer/diagnosis.json";
    assert_int_equal(file_make_dirs(in_folder("trainer"), NULL), COHORT_OK);
    struct diagnosis *d = begin();
    assert_int_equal(diagnosis_read(d, folder, NULL), COHORT_OK); /* none: it begins */
    diagnosis_destroy(d);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        cohort_error err = {0};
        d = begin();
        put(name, texts[i]);
        assert_int_equal(diagnosis_read(d, folder, &err), COHORT_ERR_FORMAT);
        assert_non_null(strstr(err.message, "diagnosis.json"));
        diagnosis_destroy(d);
    }
    /* Every single byte of a real one changed: refused, or read as something that a run might have. */
    struct heard heard = {.n = 0};
    struct text good = {0};
    d = begin();
    for (int64_t step = 1; step <= 4; step++)
        give(d, not_finite_once, false, step, &heard);
    assert_int_equal(diagnosis_write(d, folder, NULL), COHORT_OK);
    diagnosis_destroy(d);
    assert_int_equal(file_read(in_folder(name), 0, &good, NULL), COHORT_OK);
    for (size_t at = 0; at < good.length; at += 3) {
        FILE *file = fopen(in_folder(name), "wb");
        assert_non_null(file);
        const char was = good.data[at];
        good.data[at] = (char)('0' + at % 10);
        assert_int_equal(fwrite(good.data, 1, good.length, file), good.length);
        good.data[at] = was;
        fclose(file);
        d = begin();
        if (diagnosis_read(d, folder, NULL) == COHORT_OK) {
            heard.n = 0;
            for (int64_t step = 5; step <= 20; step++)
                give(d, NULL, false, step, &heard);
        }
        diagnosis_destroy(d);
    }
    text_free(&good);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_healthy, setup),   cmocka_unit_test_setup(test_cases, setup),
        cmocka_unit_test_setup(test_resumed, setup),   cmocka_unit_test_setup(test_again, setup),
        cmocka_unit_test_setup(test_one_cause, setup), cmocka_unit_test_setup(test_short, setup),
        cmocka_unit_test_setup(test_warm_up, setup),   cmocka_unit_test_setup(test_damaged, setup),
        cmocka_unit_test_setup(test_documented, setup)};
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}

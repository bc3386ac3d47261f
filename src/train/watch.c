#include "train/watch.h"

#include "base/number.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const double MANY_CLIPPED = 0.9, NEARLY_ALL = 0.99;

static const struct {
    const char *what, *advice;
} texts[WATCH_REASONS] = {
    [WATCH_NO_REWARD] = {"no completion had a reward (every reward function answered null)",
                         "Look at why the reward functions have no opinion: is the column that "
                         "they read in the data, under that name?"},
    [WATCH_EQUAL] = {"all rewards were equal within every group, so that every advantage was 0",
                     "Try the reward function on a few completions (cohort score), take prompts "
                     "that the model gets right some of the time, or raise --num-generations or "
                     "--temperature."},
    [WATCH_TRUNCATED] = {"nearly every completion was cut at --max-completion-length",
                         "Raise --max-completion-length, or see that completions can end: does "
                         "--eos-token (or --stop) name what the model ends with?"},
    [WATCH_NOT_FINITE] = {"no gradient was finite and every update was skipped",
                          "Lower --learning-rate, and see whether the weights that the run began "
                          "with are sound (cohort generate)."},
    [WATCH_NO_GRADIENT] = {"the gradient was 0",
                           "Either no reward differed from the others of its group, or nothing is "
                           "left of the loss: --mask-truncated-completions, --epsilon and the data "
                           "decide which tokens are learned from."},
};

/* Whether a metric is there, and its value. */
static bool has(const struct metrics *metrics, const char *name, double *value)
{
    for (size_t i = 0; i < metrics->count; i++) {
        if (strcmp(metrics->items[i].name, name) == 0) {
            *value = metrics->items[i].value;
            return true;
        }
    }
    *value = (double)NAN;
    return false;
}

/* How many steps in a row a reason must hold. */
static int64_t wanted(const struct watch *watch)
{
    return watch->ended && watch->steps < WATCH_STEPS ? watch->steps : WATCH_STEPS;
}

static bool holds(const struct watch *watch, enum watch_reason reason)
{
    return watch->steps > 0 && watch->streak[reason] >= wanted(watch);
}

static bool hopeless(const struct watch *watch)
{
    for (int reason = 0; reason < WATCH_REASONS; reason++)
        if (holds(watch, (enum watch_reason)reason))
            return true;
    return false;
}

void watch_step(struct watch *watch, const struct metrics *metrics)
{
    double zero_std = 0.0, grad_norm = 0.0;
    bool now[WATCH_REASONS] = {false};
    watch->steps++;
    now[WATCH_NO_REWARD] = has(metrics, "reward", &watch->reward) && isnan(watch->reward);
    now[WATCH_EQUAL] = has(metrics, "frac_reward_zero_std", &zero_std) && zero_std >= 1.0 && !now[WATCH_NO_REWARD];
    now[WATCH_TRUNCATED] = has(metrics, "completions/clipped_ratio", &watch->clipped) && watch->clipped >= NEARLY_ALL;
    if (has(metrics, "grad_norm", &grad_norm)) {
        now[WATCH_NOT_FINITE] = !isfinite(grad_norm);
        now[WATCH_NO_GRADIENT] = grad_norm == 0.0;
    }
    for (int reason = 0; reason < WATCH_REASONS; reason++)
        watch->streak[reason] = now[reason] ? watch->streak[reason] + 1 : 0;
    if (!watch->told_hopeless && hopeless(watch))
        watch->told_hopeless = watch->say_hopeless = true;
    else if (!watch->told_clipped && watch->clipped > MANY_CLIPPED)
        watch->told_clipped = watch->say_clipped = true;
}

void watch_end(struct watch *watch)
{
    watch->ended = true;
    if (hopeless(watch))
        watch->say_hopeless = true;
    else if (watch->steps > 1 && watch->clipped > MANY_CLIPPED)
        watch->say_clipped = true;
}

/* Appends as much as there is room for. */
static void add(char message[WATCH_MESSAGE], const char *text)
{
    size_t length = strlen(message);
    snprintf(message + length, WATCH_MESSAGE - length, "%s", text);
}

static void say_hopeless(const struct watch *watch, char message[WATCH_MESSAGE])
{
    /* Without any advantage there is no gradient, which then needs no message of its own. */
    const bool explained = holds(watch, WATCH_NO_REWARD) || holds(watch, WATCH_EQUAL);
    bool learns = true; /* from completions without an end something is learned all the same */
    int said = 0;
    for (int reason = 0; reason < WATCH_REASONS; reason++)
        learns = learns && (reason == WATCH_TRUNCATED || !holds(watch, (enum watch_reason)reason));
    if (!learns)
        add(message, "this run does not learn: ");
    if (wanted(watch) == 1)
        add(message, "in its one step ");
    else
        snprintf(message + strlen(message), WATCH_MESSAGE - strlen(message), "in %s %lld steps ",
                 wanted(watch) == watch->steps ? "all" : "the last", (long long)wanted(watch));
    for (int reason = 0; reason < WATCH_REASONS; reason++) {
        if (!holds(watch, (enum watch_reason)reason) || (reason == WATCH_NO_GRADIENT && explained))
            continue;
        add(message, said++ > 0 ? ", and " : "");
        add(message, texts[reason].what);
        if (reason == WATCH_EQUAL && isfinite(watch->reward)) {
            char mean[64];
            number_format(mean, sizeof mean, " (the last mean reward is %.4g)", watch->reward);
            add(message, mean);
        }
    }
    add(message, learns ? ", so that no answer is ever judged whole." : ".");
    for (int reason = 0; reason < WATCH_REASONS; reason++) {
        if (!holds(watch, (enum watch_reason)reason) || (reason == WATCH_NO_GRADIENT && explained))
            continue;
        add(message, " ");
        add(message, texts[reason].advice);
    }
}

bool watch_says(struct watch *watch, char message[WATCH_MESSAGE])
{
    message[0] = '\0';
    if (watch->say_hopeless) {
        watch->say_hopeless = false;
        say_hopeless(watch, message);
        return true;
    }
    if (watch->say_clipped) {
        watch->say_clipped = false;
        number_format(message, WATCH_MESSAGE,
                      "%.0f %% of the completions of %s never ended: they were cut at "
                      "--max-completion-length. %s",
                      100.0 * watch->clipped, watch->ended ? "the last step" : "this step",
                      texts[WATCH_TRUNCATED].advice);
        return true;
    }
    return false;
}

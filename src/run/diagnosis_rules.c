/* The rules: what each looks for, what it says and what people usually do. docs/RUN.md has the same thresholds, with
 * their sources. Numbers that no source gives were chosen so that healthy runs are silent. */
#include "run/diagnosis_internal.h"

#include "base/number.h"

#include <math.h>

/* Causes: of several rules with one of these, the first speaks. */
enum { CAUSE_NONE, CAUSE_NO_SIGNAL, CAUSE_BLOWN_UP, CAUSE_LENGTH };

typedef enum diagnosis_severity find_function(const struct diagnosis *d, size_t function, char *sentence);

static const struct {
    struct diagnosis_rule rule;
    int cause;
    bool late;      /* silent before step 30 */
    bool functions; /* asked of each reward function */
} table[N_RULES] = {
    [RULE_NO_REWARD] =
        {{"C3", "no_reward",
          "score the data's own answers (cohort score); see that the column which the reward reads is in "
          "the data under that name, and that the program answers within --reward-timeout"},
         CAUSE_NO_SIGNAL,
         false,
         false},
    [RULE_FUNCTION_NULL] =
        {{"C3", "function_unanswered",
          "see that the column which the function reads is in the data under that name, or leave the "
          "function out"},
         CAUSE_NONE,
         false,
         true},
    [RULE_NO_END] = {{"C5", "no_end",
                      "see that --eos-token (or --stop) names what the model ends an answer with and that the chat "
                      "template is the model's own; raise --max-completion-length"},
                     CAUSE_NO_SIGNAL,
                     false,
                     false},
    [RULE_TRUNCATED] =
        {{"C6", "truncated",
          "raise --max-completion-length; leave cut answers out (--mask-truncated-completions); make long "
          "answers cost something (reward soft_overlong_punishment)"},
         CAUSE_NO_SIGNAL,
         false,
         false},
    [RULE_NO_SPREAD] = {{"C1", "no_spread",
                         "try the reward on a few completions (cohort score); take prompts that the model gets right "
                         "some of the time; raise --num-generations; --temperature 1; a reward with degrees"},
                        CAUSE_NO_SIGNAL,
                        false,
                        false},
    [RULE_NO_GRADIENT] = {{"C7", "no_gradient",
                           "see what is left to train: --lora-target-modules, --mask-truncated-completions, "
                           "--top-entropy-quantile, and in sft which tokens of the data are learned (cohort data)"},
                          CAUSE_NO_SIGNAL,
                          false,
                          false},
    [RULE_LITTLE_SPREAD] = {{"C2", "little_spread",
                             "--dynamic-sampling; --num-generations 16; leave out prompts that are always or never "
                             "solved"},
                            CAUSE_NO_SIGNAL,
                            false,
                            false},
    [RULE_FUNCTION_CONSTANT] = {{"C4", "function_constant",
                                 "try the function on a few completions (cohort score); mend its check, or set its "
                                 "--reward-weights to 0"},
                                CAUSE_NONE,
                                false,
                                true},
    [RULE_NOT_FINITE] = {{"U1", "not_finite",
                          "lower --learning-rate; --max-grad-norm 0.2; see whether the weights that the run began with "
                          "are sound (cohort generate)"},
                         CAUSE_BLOWN_UP,
                         false,
                         false},
    [RULE_RATIO] =
        {{"U5", "ratio_off",
          "report it: sampling and training compute the same number here, so this is a defect of the program "
          "or of the machine's memory"},
         CAUSE_BLOWN_UP,
         false,
         false},
    [RULE_KL] = {{"U4", "kl_runaway", "lower --learning-rate; raise --beta; --sync-ref-model"},
                 CAUSE_BLOWN_UP,
                 true,
                 false},
    [RULE_COLLAPSE] = {{"U8", "reward_collapsed",
                        "go on from the checkpoint before the fall with half the --learning-rate, and --beta 0.001 to "
                        "0.01"},
                       CAUSE_BLOWN_UP,
                       true,
                       false},
    [RULE_ENTROPY_LOW] = {{"U2", "entropy_collapsed",
                           "--epsilon-high 0.28; --temperature 1; --use-adaptive-entropy; --num-iterations 1"},
                          CAUSE_NONE,
                          true,
                          false},
    [RULE_ENTROPY_HIGH] =
        {{"U3", "entropy_rising",
          "--epsilon-high as --epsilon; lower --learning-rate; --mask-truncated-completions; --delta"},
         CAUSE_NONE,
         true,
         false},
    [RULE_CLIPPED_UPDATES] = {{"U6", "updates_clipped", "lower --num-iterations or --learning-rate"},
                              CAUSE_NONE,
                              true,
                              false},
    [RULE_GRAD_SPIKES] = {{"U7", "gradient_spikes", "--max-grad-norm 0.2; more prompts a step"},
                          CAUSE_NONE,
                          true,
                          false},
    [RULE_FORM] = {{"H3", "form_only",
                    "lower the function's --reward-weights; pay the form only where the answer is right; check the "
                    "reward for answers"},
                   CAUSE_LENGTH,
                   true,
                   false},
    [RULE_LENGTH] = {{"H1", "length_runaway",
                      "--loss-type dr_grpo or dapo; --scale-rewards none; let the length count in the reward "
                      "(soft_overlong_punishment, cosine_scaled)"},
                     CAUSE_LENGTH,
                     true,
                     false},
    [RULE_HELD_OUT] = {{"H2", "held_out_falls",
                        "stop at the best evaluation's checkpoint; more prompts; --beta; fewer --epochs; look at "
                        "completions that get the highest reward"},
                       CAUSE_NONE,
                       true,
                       false},
    [RULE_LOOPS] = {{"H4", "repeats_itself",
                     "--temperature 1; make length cost something (soft_overlong_punishment) or repetition "
                     "(repetition_penalty); go on from an older checkpoint"},
                    CAUSE_NONE,
                    true,
                    false},
    [RULE_NOTHING_SAID] = {{"H6", "same_answers",
                            "look at what is drawn (--log-completions); --temperature 1, --top-k 0 and --top-p 1"},
                           CAUSE_NONE,
                           true,
                           false},
    [RULE_OVERFIT] = {{"S1", "overfit",
                       "stop at the best evaluation (--load-best-model-at-end, --early-stopping-patience); more data; "
                       "fewer --epochs; a lower --learning-rate"},
                      CAUSE_NONE,
                      false,
                      false},
    [RULE_SLOW_REWARD] =
        {{"M1", "reward_slow",
          "--reward-workers, which lets rewards work during the rollout; --reward-cache; let the program "
          "score rows together"},
         CAUSE_NONE,
         false,
         false},
    [RULE_SLOWER] = {{"M4", "slower", "look for other jobs on the machine, heat, and a disk that is full"},
                     CAUSE_NONE,
                     true,
                     false},
};

const struct diagnosis_rule *diagnosis_rule_at(size_t i) { return i < N_RULES ? &table[i].rule : NULL; }
bool diagnosis_of_functions(enum diagnosis_rule_index rule) { return table[rule].functions; }
int diagnosis_cause(enum diagnosis_rule_index rule) { return table[rule].cause; }

#define SAY(...) number_format(sentence, DIAGNOSIS_SENTENCE, __VA_ARGS__)

static const struct diagnosis_series *column(const struct diagnosis *d, enum diagnosis_column which)
{
    return &d->columns[which];
}

/* "in the last 10 steps", "in all 3 steps", "in its one step" */
static const char *span(const struct diagnosis *d, int32_t n, char text[48])
{
    if (n == 1)
        number_format(text, 48, "in its one step");
    else
        number_format(text, 48, "in %s %d steps", n == d->counted && d->ended ? "all" : "the last", (int)n);
    return text;
}

/* Whether a value is within [low, high] in each of the last n steps. */
static bool always(const struct diagnosis *d, enum diagnosis_column which, int32_t n, double low, double high)
{
    for (int32_t i = 0; i < n; i++) {
        const double value = window_at(column(d, which), i);
        if (!(value >= low && value <= high))
            return false;
    }
    return n > 0;
}

static bool always_null(const struct diagnosis_series *series, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        if (!isnan(window_at(series, i)))
            return false;
    return n > 0;
}

/* ---- Cannot learn ---- */

/* GRPO's steps have an advantage, and so a share of groups without one. */
static bool has_groups(const struct diagnosis *d) { return !isnan(window_at(column(d, COLUMN_ZERO_STD), 0)); }

static enum diagnosis_severity no_reward(const struct diagnosis *d, char *sentence)
{
    const int32_t n = window_size(d, 3);
    char text[48];
    if (!has_groups(d) || !always_null(column(d, COLUMN_REWARD), n))
        return DIAGNOSIS_NONE;
    SAY("this run does not learn: %s no completion had a reward (every reward function answered null)",
        span(d, n, text));
    return DIAGNOSIS_FATAL;
}

static enum diagnosis_severity function_null(const struct diagnosis *d, size_t f, char *sentence)
{
    if (d->counted < 20 || !always_null(&d->functions[f].mean, 20) || always_null(column(d, COLUMN_REWARD), 20))
        return DIAGNOSIS_NONE;
    SAY("the reward %s answered null for every completion of the last 20 steps", d->functions[f].shown);
    return DIAGNOSIS_WARNING;
}

static enum diagnosis_severity no_end(const struct diagnosis *d, char *sentence)
{
    const int32_t n = window_size(d, 5);
    const double clipped = window_at(column(d, COLUMN_CLIPPED), 0);
    char text[48];
    if (always(d, COLUMN_CLIPPED, n, 1.0, 1.0) && always(d, COLUMN_TERMINATED, n, 0.0, 0.0)) {
        SAY("%s no completion ended by itself: all were cut at --max-completion-length, so that no answer is ever "
            "judged "
            "whole",
            span(d, n, text));
        return DIAGNOSIS_FATAL;
    }
    if (d->steps > 2 || !(clipped >= 0.9))
        return DIAGNOSIS_NONE;
    SAY("%.0f %% of the completions of this step never ended: they were cut at --max-completion-length",
        100.0 * clipped);
    return DIAGNOSIS_WARNING;
}

static enum diagnosis_severity truncated(const struct diagnosis *d, char *sentence)
{
    const int32_t n = window_size(d, 10);
    const double clipped = n > 0 ? window_median(column(d, COLUMN_CLIPPED), n, 0) : (double)NAN;
    char text[48];
    /* Recipes that begin with a short limit are cut at first, and less from step to step. */
    if (!(clipped > 0.5) || window_trend(d, column(d, COLUMN_CLIPPED)) < 0)
        return DIAGNOSIS_NONE;
    SAY("%s %.0f %% of the completions were cut at --max-completion-length: most answers are never judged whole",
        span(d, n, text), 100.0 * clipped);
    return DIAGNOSIS_WARNING;
}

static enum diagnosis_severity no_spread(const struct diagnosis *d, char *sentence)
{
    const int32_t n = window_size(d, 10);
    const double reward = window_at(column(d, COLUMN_REWARD), 0);
    double groups = 0.0;
    char text[48];
    int32_t run = 0;
    while (run < d->counted && run < DIAGNOSIS_FRAMES && window_at(column(d, COLUMN_ZERO_STD), run) >= 1.0)
        run++;
    groups = (double)run * (d->setup.prompts > 0 ? d->setup.prompts : 1);
    if (d->ended && d->counted >= 10 && run < n && d->zero_std_sum >= 0.95 * (double)d->counted) {
        SAY("this run hardly learned: in %.0f %% of its groups all rewards were equal",
            100.0 * d->zero_std_sum / (double)d->counted);
        return DIAGNOSIS_FATAL;
    }
    if (n == 0 || run < n || (groups < 40.0 && !d->ended) || isnan(reward))
        return DIAGNOSIS_NONE;
    if (window_at(column(d, COLUMN_REWARD_STD), 0) == 0.0 && reward >= d->high10 && d->high10 > d->low10)
        SAY("this run no longer learns: %s all rewards were equal within every group, all at the highest, %.4g: this "
            "data "
            "is solved",
            span(d, run < n ? n : run, text), reward);
    else
        SAY("this run does not learn: %s all rewards were equal within every group, so that every advantage was 0 (the "
            "last mean reward is %.4g)",
            span(d, run, text), reward);
    return DIAGNOSIS_FATAL;
}

static enum diagnosis_severity no_gradient(const struct diagnosis *d, char *sentence)
{
    const int32_t n = window_size(d, 5);
    char text[48];
    for (int32_t i = 0; i < n; i++)
        if (window_at(column(d, COLUMN_ZERO_STD), i) >= 1.0 || !(window_at(column(d, COLUMN_RATE), i) > 0.0))
            return DIAGNOSIS_NONE;
    if (!always(d, COLUMN_GRAD_NORM, n, 0.0, 0.0))
        return DIAGNOSIS_NONE;
    SAY("this run does not learn: %s the gradient was 0", span(d, n, text));
    return DIAGNOSIS_FATAL;
}

static enum diagnosis_severity little_spread(const struct diagnosis *d, char *sentence)
{
    const double share = window_mean(column(d, COLUMN_ZERO_STD), 50, 0),
                 p = window_median(column(d, COLUMN_REWARD), 10, 0);
    const int group = d->setup.group;
    if (d->counted < 50 || !(share >= 0.8))
        return DIAGNOSIS_NONE;
    if (group > 1 && p > 0.0 && p < 1.0)
        SAY("in %.0f %% of the groups of the last 50 steps all rewards were equal (were every prompt solved %.0f %% of "
            "the "
            "time, %.0f %% of groups of %d would be, and %.0f %% of groups of %d)",
            100.0 * share, 100.0 * p, 100.0 * (pow(p, group) + pow(1.0 - p, group)), group,
            100.0 * (pow(p, 2 * group) + pow(1.0 - p, 2 * group)), 2 * group);
    else
        SAY("in %.0f %% of the groups of the last 50 steps all rewards were equal: most prompts teach nothing",
            100.0 * share);
    return DIAGNOSIS_NOTE;
}

static bool is_constant(const struct diagnosis_function *function)
{
    for (int32_t i = 0; i < 30; i++)
        if (window_at(&function->std, i) != 0.0)
            return false;
    return true;
}

static enum diagnosis_severity function_constant(const struct diagnosis *d, size_t f, char *sentence)
{
    const struct diagnosis_function *function = &d->functions[f];
    bool varies = false;
    if (d->counted < 30 || !is_constant(function))
        return DIAGNOSIS_NONE;
    for (size_t other = 0; other < d->n_functions; other++)
        varies = varies || (other != f && window_median(&d->functions[other].std, 30, 0) > 0.0);
    if (!varies)
        return DIAGNOSIS_NONE;
    const double value = window_at(&function->mean, 0);
    const bool least = function->high > function->low ? value <= function->low : value <= 0.0;
    SAY("the reward %s gave every completion of the last 30 steps %.4g, while others differ: it %s", function->shown,
        value, least ? "never says yes" : "is always content, and teaches nothing more");
    return least ? DIAGNOSIS_WARNING : DIAGNOSIS_NOTE;
}

/* ---- Unstable ---- */

static enum diagnosis_severity not_finite(const struct diagnosis *d, char *sentence)
{
    int32_t skipped = 0;
    char text[48];
    for (int32_t i = 0; i < 10; i++)
        skipped += (int32_t)((d->skips >> i) & 1u);
    if (skipped == 0)
        return DIAGNOSIS_NONE;
    const bool all = d->ended && skipped == d->steps;
    if (skipped >= 3 || all) {
        number_format(text, sizeof text, d->steps < 10 ? "of %d" : "of the last 10", (int)d->steps);
        SAY("this run does not learn: no gradient was finite in %d %s steps, whose updates were skipped", (int)skipped,
            text);
        return DIAGNOSIS_FATAL;
    }
    SAY("the loss or its gradient was not finite, and the update was skipped");
    return DIAGNOSIS_WARNING;
}

static enum diagnosis_severity ratio_off(const struct diagnosis *d, char *sentence)
{
    if (!(d->ratio_off > 0.0))
        return DIAGNOSIS_NONE;
    SAY("a log-prob in training is %.3g off the one of its draw, where both must be the same: sampler and trainer "
        "disagree",
        d->ratio_off);
    return DIAGNOSIS_FATAL;
}

static enum diagnosis_severity kl_runaway(const struct diagnosis *d, char *sentence)
{
    const double kl = window_median(column(d, COLUMN_KL), 10, 0),
                 reward = window_median(column(d, COLUMN_REWARD), 10, 0);
    if (d->kl_counted < 10 || isnan(kl))
        return DIAGNOSIS_NONE;
    if (kl > 10.0 && reward < d->base[COLUMN_REWARD]) {
        SAY("the KL to the reference is %.3g and the reward %.4g, which is less than the %.4g it began with", kl,
            reward, d->base[COLUMN_REWARD]);
        return DIAGNOSIS_FATAL;
    }
    if (isnan(d->kl_base) || !(kl > 0.1 && kl > 10.0 * d->kl_base))
        return DIAGNOSIS_NONE;
    SAY("the KL to the reference is %.3g, was %.3g: the model has left its reference", kl, d->kl_base);
    return DIAGNOSIS_WARNING;
}

static enum diagnosis_severity collapsed(const struct diagnosis *d, char *sentence)
{
    if (d->collapsed < 10)
        return DIAGNOSIS_NONE;
    SAY("the reward is %.4g over the last 10 steps and was %.4g over its best 50: it has collapsed",
        window_mean(column(d, COLUMN_REWARD), 10, 0), d->best_mean);
    return DIAGNOSIS_FATAL;
}

/* The reward has risen and most rewards are alike now: answers agree because they are good. */
static bool has_got_there(const struct diagnosis *d)
{
    const double reward = window_median(column(d, COLUMN_REWARD), 20, 0), base = d->base[COLUMN_REWARD],
                 spread = window_median(column(d, COLUMN_REWARD_STD), 20, 0), spread_base = d->base[COLUMN_REWARD_STD],
                 prompts = 20.0 * (d->setup.prompts > 0 ? d->setup.prompts : 1);
    return reward > base + 4.0 * spread_base / sqrt(prompts) && spread < 0.6 * spread_base;
}

static enum diagnosis_severity entropy_low(const struct diagnosis *d, char *sentence)
{
    const double entropy = window_median(column(d, COLUMN_ENTROPY), 20, 0), base = d->base[COLUMN_ENTROPY];
    if (!has_groups(d) || d->counted < 30 || !(entropy < 0.1 && entropy < 0.25 * base))
        return DIAGNOSIS_NONE;
    /* A fall alone is healthy: most of the entropy goes in the first steps, with most of the gain (arXiv 2505.22617). */
    if (window_trend(d, column(d, COLUMN_REWARD)) > 0 || has_got_there(d))
        return DIAGNOSIS_NONE;
    SAY("the entropy is %.3g, was %.3g, and the reward does not rise: the model has stopped trying different answers",
        entropy, base);
    return DIAGNOSIS_WARNING;
}

static enum diagnosis_severity entropy_high(const struct diagnosis *d, char *sentence)
{
    const double entropy = window_median(column(d, COLUMN_ENTROPY), 10, 0),
                 base = fmax(d->base[COLUMN_ENTROPY], d->setup.entropy_target),
                 reward = window_median(column(d, COLUMN_REWARD), 10, 0);
    if (!has_groups(d) || d->counted < 30 || isnan(d->base[COLUMN_ENTROPY]))
        return DIAGNOSIS_NONE;
    if (entropy > 3.0 * base && entropy > base + 0.5 && reward < d->base[COLUMN_REWARD]) {
        SAY("the entropy is %.3g, was %.3g, and the reward has fallen from %.4g to %.4g: answers turn random", entropy,
            base, d->base[COLUMN_REWARD], reward);
        return DIAGNOSIS_FATAL;
    }
    if (!(entropy > fmax(2.0 * base, base + 0.5)) || window_trend(d, column(d, COLUMN_ENTROPY)) <= 0)
        return DIAGNOSIS_NONE;
    SAY("the entropy is %.3g, was %.3g, and rises: answers turn random", entropy, base);
    return DIAGNOSIS_WARNING;
}

static enum diagnosis_severity updates_clipped(const struct diagnosis *d, char *sentence)
{
    const double share = window_median(column(d, COLUMN_CLIP_REGION), 20, 0);
    if (d->counted < 30 || d->setup.sequence_ratio || !(share > 0.3))
        return DIAGNOSIS_NONE;
    SAY("%.0f %% of the tokens of the last 20 steps were clipped: most of each update is thrown away", 100.0 * share);
    return DIAGNOSIS_WARNING;
}

static enum diagnosis_severity grad_spikes(const struct diagnosis *d, char *sentence)
{
    int32_t spikes = 0;
    for (int32_t i = 0; i < 20; i++)
        spikes += (int32_t)((d->spikes >> i) & 1u);
    if (spikes == 0)
        return DIAGNOSIS_NONE;
    SAY("the gradient's norm was more than 10 times its usual %.3g in %d of the last 20 steps: a few batches push hard",
        window_median(column(d, COLUMN_GRAD_NORM), 50, 1), (int)spikes);
    return spikes >= 3 ? DIAGNOSIS_WARNING : DIAGNOSIS_NOTE;
}

/* ---- Hacking ---- */

static enum diagnosis_severity form_only(const struct diagnosis *d, char *sentence)
{
    if (d->last <= 200 || d->counted < 110 || d->n_functions < 2)
        return DIAGNOSIS_NONE;
    const double prompts = 10.0 * (d->setup.prompts > 0 ? d->setup.prompts : 1);
    for (size_t f = 0; f < d->n_functions; f++) {
        const struct diagnosis_function *form = &d->functions[f];
        const double rise = window_median(&form->mean, 10, 0) - window_median(&form->mean, 10, 100),
                     error = window_median(&form->std, 10, 0) / sqrt(prompts);
        bool alone = rise >= 0.3 * (form->high - form->low) && rise > 4.0 * error;
        for (size_t other = 0; alone && other < d->n_functions; other++) {
            const struct diagnosis_function *answer = &d->functions[other];
            const double moved = fabs(window_median(&answer->mean, 10, 0) - answer->base);
            alone = other == f || moved <= window_median(&answer->std, 10, 0) / sqrt(prompts);
        }
        if (!alone)
            continue;
        SAY("the reward %s rose by %.3g over 100 steps, and no other has moved since the run began: the model "
            "learns "
            "the form and not the answer",
            form->shown, rise);
        return DIAGNOSIS_WARNING;
    }
    return DIAGNOSIS_NONE;
}

static enum diagnosis_severity length_runaway(const struct diagnosis *d, char *sentence)
{
    const double length = window_median(column(d, COLUMN_LENGTH), 10, 0), base = d->base[COLUMN_LENGTH],
                 cut = window_median(column(d, COLUMN_CLIPPED), 10, 0),
                 cut_before = window_median(column(d, COLUMN_CLIPPED), 10, 50);
    if (d->counted < 30 || isnan(base))
        return DIAGNOSIS_NONE;
    const bool learns = window_trend(d, column(d, COLUMN_REWARD)) > 0;
    if (length > 2.0 * base && !learns) {
        SAY("completions have %.0f tokens, had %.0f, and the reward does not rise: answers grow without getting better",
            length, base);
        return DIAGNOSIS_WARNING;
    }
    if (d->counted >= 60 && cut >= cut_before + 0.3 && !learns) {
        SAY("%.0f %% of completions are cut at --max-completion-length, 50 steps before it were %.0f %%, and the "
            "reward "
            "does not rise",
            100.0 * cut, 100.0 * cut_before);
        return DIAGNOSIS_WARNING;
    }
    for (size_t f = 0; length < 0.3 * base && f < d->n_functions; f++) {
        if (window_trend(d, &d->functions[f].mean) >= 0)
            continue;
        SAY("completions have %.0f tokens, had %.0f, and the reward %s falls: answers shrink without getting better",
            length, base, d->functions[f].shown);
        return DIAGNOSIS_WARNING;
    }
    return DIAGNOSIS_NONE;
}

static enum diagnosis_severity held_out(const struct diagnosis *d, char *sentence)
{
    const int64_t n = d->setup.eval_prompts;
    if (d->evaluations < 3 || d->below2 < 2 || window_trend(d, column(d, COLUMN_REWARD)) <= 0)
        return DIAGNOSIS_NONE;
    SAY("the held-out reward has been more than %d standard errors below its best, %.4g, for %d evaluations, while the "
        "reward in training rises%s",
        d->below4 >= 3 ? 4 : 2, d->best_eval, (int)(d->below4 >= 3 ? d->below4 : d->below2),
        n > 0 && n < 100 ? " (with fewer than 100 held-out prompts, too few to tell)"
                         : ": the model learns the prompts or the reward, not the task");
    if (n > 0 && n < 100)
        return DIAGNOSIS_NOTE;
    return d->below4 >= 3 ? DIAGNOSIS_FATAL : DIAGNOSIS_WARNING;
}

static enum diagnosis_severity loops(const struct diagnosis *d, char *sentence)
{
    const double base = d->base[COLUMN_REPEATED];
    /* Tables and code repeat by nature: more than at the run's begin counts. */
    if (d->counted < 30 || isnan(base) || !always(d, COLUMN_REPEATED, 10, nextafter(fmax(0.1, 2.0 * base), 2.0), 1.0))
        return DIAGNOSIS_NONE;
    SAY("%.0f %% of the completions repeat themselves for more than half of their length, at first %.0f %% did",
        100.0 * window_median(column(d, COLUMN_REPEATED), 10, 0), 100.0 * base);
    return DIAGNOSIS_WARNING;
}

static enum diagnosis_severity same_answers(const struct diagnosis *d, char *sentence)
{
    if (d->counted < 30 || !always(d, COLUMN_DISTINCT, 10, 0.0, nextafter(0.5, 0.0)) ||
        !(window_median(column(d, COLUMN_LENGTH), 10, 0) > 16.0))
        return DIAGNOSIS_NONE;
    SAY("only %.0f %% of the completions of a prompt differ from each other: the model draws one answer",
        100.0 * window_median(column(d, COLUMN_DISTINCT), 10, 0));
    return DIAGNOSIS_WARNING;
}

static enum diagnosis_severity overfit(const struct diagnosis *d, char *sentence)
{
    if (d->eval_loss_up < 3 || window_trend(d, column(d, COLUMN_LOSS)) >= 0)
        return DIAGNOSIS_NONE;
    SAY("the held-out loss has risen in three evaluations in a row, to %.4g, while the loss in training falls: the "
        "model "
        "learns the rows by heart",
        d->last_eval_loss);
    return DIAGNOSIS_WARNING;
}

/* ---- Machine ---- */

static enum diagnosis_severity slow_reward(const struct diagnosis *d, char *sentence)
{
    const double reward = window_median(column(d, COLUMN_REWARD_TIME), 20, 0),
                 step = window_median(column(d, COLUMN_STEP_TIME), 20, 0);
    /* What takes a few milliseconds need not be faster. */
    if (d->measured < 20 || !(reward > 0.3 * step && reward > 0.05))
        return DIAGNOSIS_NONE;
    SAY("%.0f %% of the time goes into waiting for rewards (%.3g of %.3g s a step)", 100.0 * reward / step, reward,
        step);
    return DIAGNOSIS_WARNING;
}

static enum diagnosis_severity slower(const struct diagnosis *d, char *sentence)
{
    const double speed = window_median(column(d, COLUMN_SPEED), 20, 0), base = d->base[COLUMN_SPEED],
                 length = window_median(column(d, COLUMN_MEASURED_LENGTH), 20, 0),
                 before = d->base[COLUMN_MEASURED_LENGTH];
    const bool like = length < 2.0 * before && before < 2.0 * length;
    if (d->measured < 50 || !like || !(speed < 0.7 * base) ||
        !(window_median(column(d, COLUMN_ROLLOUT_TIME), 20, 0) > 1.0))
        return DIAGNOSIS_NONE;
    SAY("%.0f tokens/s are generated, were %.0f, at about the same length: the machine has become slower", speed, base);
    return DIAGNOSIS_WARNING;
}

enum diagnosis_severity diagnosis_find(const struct diagnosis *d, enum diagnosis_rule_index rule, size_t function,
                                       char sentence[DIAGNOSIS_SENTENCE])
{
    if (table[rule].late && d->last < 30)
        return DIAGNOSIS_NONE;
    switch (rule) {
    case RULE_NO_REWARD: return no_reward(d, sentence);
    case RULE_FUNCTION_NULL: return function_null(d, function, sentence);
    case RULE_NO_END: return no_end(d, sentence);
    case RULE_TRUNCATED: return truncated(d, sentence);
    case RULE_NO_SPREAD: return no_spread(d, sentence);
    case RULE_NO_GRADIENT: return no_gradient(d, sentence);
    case RULE_LITTLE_SPREAD: return little_spread(d, sentence);
    case RULE_FUNCTION_CONSTANT: return function_constant(d, function, sentence);
    case RULE_NOT_FINITE: return not_finite(d, sentence);
    case RULE_RATIO: return ratio_off(d, sentence);
    case RULE_KL: return kl_runaway(d, sentence);
    case RULE_COLLAPSE: return collapsed(d, sentence);
    case RULE_ENTROPY_LOW: return entropy_low(d, sentence);
    case RULE_ENTROPY_HIGH: return entropy_high(d, sentence);
    case RULE_CLIPPED_UPDATES: return updates_clipped(d, sentence);
    case RULE_GRAD_SPIKES: return grad_spikes(d, sentence);
    case RULE_FORM: return form_only(d, sentence);
    case RULE_LENGTH: return length_runaway(d, sentence);
    case RULE_HELD_OUT: return held_out(d, sentence);
    case RULE_LOOPS: return loops(d, sentence);
    case RULE_NOTHING_SAID: return same_answers(d, sentence);
    case RULE_OVERFIT: return overfit(d, sentence);
    case RULE_SLOW_REWARD: return slow_reward(d, sentence);
    case RULE_SLOWER: return slower(d, sentence);
    case N_RULES: break;
    }
    return DIAGNOSIS_NONE;
}

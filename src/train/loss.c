/* The loss core. Formulas: TRL 1.16.0, GRPOTrainer._compute_loss (grpo.md 1.9, 1.11, 9).
 *
 *   loss = sum over counted tokens of w (gate(r, A) + beta (exp(d) - d - 1)),   d = logp_ref - logp
 *
 * A loss is a row of loss_list.h, three functions of this file:
 *
 *   level    r   token      exp(logp - logp_old)
 *                sequence   the exponential of the sequence's mean of logp - logp_old, one value
 *   gate         clip       -min(min(r, delta) A, clip(r, 1 - epsilon, 1 + epsilon_high) A)
 *   average  w   sequences  1 / (n_sequences tokens of the sequence)              grpo
 *                longest    1 / (n_sequences max_completion_length)               dr_grpo
 *                tokens     1 / n_tokens                                          bnpo and dapo
 *
 * All counts are the optimizer step's (I5), so a loss does not depend on how the step is split. For bnpo this is a
 * stated difference from TRL, which divides by each micro-batch's own tokens: equal when the step is one micro-batch.
 *
 * Derivatives follow torch's autograd also where the function has a kink: clamp passes the gradient strictly inside its
 * bounds (torch 2.14 and later; up to 2.13 on the bounds too), min of equal arguments gives half of it to each. A ratio
 * is exactly on a bound only with epsilon 0, epsilon_high 0 or delta 1, when it is exactly 1.
 *
 * NaN is passed on, never clipped away: the trainer refuses a loss that is not finite. */
#include "train/loss.h"

#include <assert.h>
#include <math.h>

void loss_sums_init(struct loss_sums *sums)
{
    *sums = (struct loss_sums){
        .clip_low_min = (double)INFINITY,
        .clip_high_max = -(double)INFINITY,
        .ratio_min = (double)INFINITY,
        .ratio_max = -(double)INFINITY,
    };
}

static double smaller(double a, double b) { return a < b ? a : b; }
static double larger(double a, double b) { return a > b ? a : b; }

void loss_sums_merge(struct loss_sums *sums, const struct loss_sums *part)
{
    sums->loss += part->loss;
    sums->kl += part->kl;
    sums->entropy += part->entropy;
    sums->clip_low += part->clip_low;
    sums->clip_high += part->clip_high;
    sums->clip_region += part->clip_region;
    sums->clip_low_min = smaller(sums->clip_low_min, part->clip_low_min);
    sums->clip_high_max = larger(sums->clip_high_max, part->clip_high_max);
    sums->ratio_min = smaller(sums->ratio_min, part->ratio_min);
    sums->ratio_max = larger(sums->ratio_max, part->ratio_max);
    sums->tokens += part->tokens;
    sums->sequences += part->sequences;
    sums->clip_units += part->clip_units;
}

void loss_metrics(const struct loss_sums *sums, struct loss_metrics *metrics)
{
    double tokens = sums->tokens > 0 ? (double)sums->tokens : 1.0;
    double units = sums->clip_units > 0 ? (double)sums->clip_units : 1.0;
    *metrics = (struct loss_metrics){
        .loss = sums->loss,
        .kl = sums->kl / tokens,
        .entropy = sums->entropy / tokens,
        .clip_low_mean = sums->clip_low / units,
        .clip_high_mean = sums->clip_high / units,
        .clip_region_mean = sums->clip_region / units,
        /* Without any unit the infinities of loss_sums_init are left, which become NaN, as in TRL's nanmin. */
        .clip_low_min = isinf(sums->clip_low_min) ? (double)NAN : sums->clip_low_min,
        .clip_high_max = isinf(sums->clip_high_max) ? (double)NAN : sums->clip_high_max,
        .ratio_min = sums->tokens > 0 ? sums->ratio_min : (double)NAN,
        .ratio_max = sums->tokens > 0 ? sums->ratio_max : (double)NAN,
    };
}

/* ---- Averages: what one counted token of a sequence of n weighs ---- */

typedef double loss_average(const struct loss_config *config, const struct loss_scale *scale, int32_t n);

static double average_sequences(const struct loss_config *config, const struct loss_scale *scale, int32_t n)
{
    (void)config;
    return 1.0 / ((double)scale->n_sequences * n);
}

static double average_longest(const struct loss_config *config, const struct loss_scale *scale, int32_t n)
{
    (void)n;
    assert(config->max_completion_length > 0);
    return 1.0 / ((double)scale->n_sequences * config->max_completion_length);
}

static double average_tokens(const struct loss_config *config, const struct loss_scale *scale, int32_t n)
{
    (void)config;
    (void)n;
    return 1.0 / (double)(scale->n_tokens > 0 ? scale->n_tokens : 1);
}

/* ---- Gates ---- */

/* What a gate is given about a token. */
struct gate_input {
    double ratio; /* new/old, of the token or of its sequence */
    double logp;
    double advantage;
};

struct gate_output {
    double loss; /* of the token, without the KL */
    /* Derivative of all tokens' losses with respect to the token's log-prob. Where the ratio is the sequence's, that is
     * the derivative with respect to log(ratio): each of the n tokens carries 1/n of it, n times. */
    double d_logp;
    double low, high; /* 1 if counted as clipped on that side, else 0 */
};

typedef struct gate_output loss_gate(const struct loss_config *config, const struct gate_input *input);

static struct gate_output gate_clip(const struct loss_config *config, const struct gate_input *input)
{
    double ratio = input->ratio, advantage = input->advantage;
    double bottom = 1.0 - config->epsilon, top = 1.0 + config->epsilon_high;
    bool over_delta = config->delta > 0.0 && ratio >= config->delta;
    double capped = over_delta ? config->delta : ratio;
    double capped_slope = over_delta ? 0.0 : 1.0;
    double clipped = ratio < bottom ? bottom : ratio > top ? top : ratio;
    double clipped_slope = ratio <= bottom || ratio >= top ? 0.0 : 1.0;

    double objective, slope;
    if (capped * advantage == clipped * advantage) {
        objective = clipped * advantage;
        slope = 0.5 * (capped_slope + clipped_slope);
    } else if (capped * advantage < clipped * advantage) {
        objective = capped * advantage;
        slope = capped_slope;
    } else {
        objective = clipped * advantage;
        slope = clipped_slope;
    }
    return (struct gate_output){
        .loss = -objective,
        /* Where the slope is 0 the ratio may be infinite. */
        .d_logp = slope == 0.0 ? 0.0 : -advantage * slope * ratio,
        /* TRL takes these after the cap by delta. */
        .low = capped < bottom && advantage < 0.0 ? 1.0 : 0.0,
        .high = capped > top && advantage > 0.0 ? 1.0 : 0.0,
    };
}

/* ---- Levels: the ratio that a gate sees ---- */

struct ratio_level {
    bool whole; /* one ratio for all tokens of a sequence, which metrics then count once */
    /* log(ratio) of token t of a sequence with n counted tokens. */
    double (*log_ratio)(const struct loss_sequence *sequence, int32_t n, int32_t t);
};

static double token_log_ratio(const struct loss_sequence *sequence, int32_t n, int32_t t)
{
    (void)n;
    if (!sequence->logp_old)
        return 0.0;
    return (double)sequence->logp[t] - (double)sequence->logp_old[t];
}

static double mean_log_ratio(const struct loss_sequence *sequence, int32_t n, int32_t t)
{
    (void)t;
    double sum = 0.0;
    for (int32_t i = 0; i < n; i++)
        sum += token_log_ratio(sequence, n, i);
    return sum / n;
}

static const struct ratio_level level_token = {.whole = false, .log_ratio = token_log_ratio};
static const struct ratio_level level_sequence = {.whole = true, .log_ratio = mean_log_ratio};

#define LEVEL(id, word, level) [LOSS_LEVEL_##id] = &level_##level,
static const struct ratio_level *const levels_named[] = {LOSS_LEVEL_LIST(LEVEL)};
#undef LEVEL

/* ---- The table ---- */

static const struct loss_row {
    loss_gate *gate;
    loss_average *average;
    const struct ratio_level *const *levels; /* by enum loss_level */
} losses[] = {
#define LOSS(id, word, gate, average, levels) [LOSS_##id] = {gate_##gate, average_##average, levels_##levels},
    LOSS_LIST(LOSS)
#undef LOSS
};

static void count_ratio(struct loss_sums *sums, double ratio)
{
    sums->ratio_min = smaller(ratio, sums->ratio_min);
    sums->ratio_max = larger(ratio, sums->ratio_max);
}

/* Adds one sequence's clipped units: its n tokens, or itself as one. */
static void count_clips(struct loss_sums *sums, double low, double high, int32_t units)
{
    sums->clip_low += low;
    sums->clip_high += high;
    /* Low needs A < 0 and high A > 0, so that no unit is both. */
    sums->clip_region += low + high;
    sums->clip_units += units;
    sums->clip_low_min = smaller(low / units, sums->clip_low_min);
    sums->clip_high_max = larger(high / units, sums->clip_high_max);
}

void loss_sequence_apply(const struct loss_config *config, const struct loss_scale *scale,
                         const struct loss_sequence *sequence, struct loss_sums *sums)
{
    const struct loss_row *row = &losses[config->type];
    const struct ratio_level *level = row->levels[config->level];
    assert(scale->n_sequences > 0);
    assert(config->beta == 0.0 || sequence->logp_ref);

    sums->sequences++;
    int32_t n = sequence->masked ? 0 : sequence->n_tokens;
    if (n <= 0) {
        for (int32_t t = 0; t < sequence->n_tokens; t++)
            sequence->d_logp[t] = 0.0f;
        /* TRL has a ratio of 1 for such a row at sequence level, which counts as not clipped; at token level the row is
         * left out. */
        if (level->whole)
            count_clips(sums, 0.0, 0.0, 1);
        return;
    }

    double weight = row->average(config, scale, n);
    struct gate_input input = {.advantage = (double)sequence->advantage};
    double loss = 0.0, low = 0.0, high = 0.0;
    for (int32_t t = 0; t < n; t++) {
        const bool counts = t == 0 || !level->whole;
        if (counts) {
            input.ratio = exp(level->log_ratio(sequence, n, t));
            count_ratio(sums, input.ratio);
        }
        input.logp = (double)sequence->logp[t];
        const struct gate_output gate = row->gate(config, &input);
        low += counts ? gate.low : 0.0;
        high += counts ? gate.high : 0.0;
        double value = gate.loss, slope = gate.d_logp;
        if (config->beta != 0.0) {
            double d = (double)sequence->logp_ref[t] - (double)sequence->logp[t];
            double excess = expm1(d); /* exact where exp(d) - 1 - d cancels */
            value += config->beta * (excess - d);
            slope -= config->beta * excess;
            sums->kl += excess - d;
        }
        loss += value;
        sequence->d_logp[t] = (float)(weight * slope);
        if (sequence->entropy)
            sums->entropy += (double)sequence->entropy[t];
    }
    sums->loss += weight * loss;
    sums->tokens += n;
    count_clips(sums, low, high, level->whole ? 1 : n);
}

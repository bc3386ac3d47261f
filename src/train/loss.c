/* The loss core. Formulas: TRL 1.16.0, GRPOTrainer._compute_loss and GMPOTrainer._compute_loss; docs/GRPO.md has each
 * with its paper.
 *
 *   loss = sum over counted tokens of w (e o gate(r, A) + beta c k(logp, logp_ref))
 *
 * e: 0 for tokens that the entropy filter leaves out; o: 0 for sequences that the off-policy mask drops; c: r with
 * kl_correction, else 1. A loss is a row of loss_list.h, three functions of this file:
 *
 *   level    r   token           exp(logp - logp_old)
 *                sequence        the exponential of the sequence's mean of logp - logp_old, one value
 *                sequence_token  that value, with the derivative that the token's own ratio would have
 *                product         the product of the tokens' ratios, one value: rloo alone
 *   gate         clip            -min(min(r, delta) A, clip(r, 1 - epsilon, 1 + epsilon_high) A)
 *                detached        -[min(r, epsilon_high)] A logp             cispo; [x] has no derivative
 *                soft            -4 sigmoid(tau (r - 1)) / tau A            sapo; tau by the sign of A
 *                gamma           -[phi(w)] A logp, w the sequence's ratio   vespo
 *                geometric       -exp(mean of the clipped logp - logp_old) A, one value   gmpo
 *   average  w   sequences       1 / (n_sequences tokens of the sequence)   grpo, sapo, gmpo, rloo
 *                longest         1 / (n_sequences max_completion_length)    dr_grpo
 *                tokens          1 / n_tokens                               bnpo, dapo, cispo, vespo
 *                sums            1 / n_sequences                            luspo
 *
 * A is the sequence's or the token's own (advantages): then every A above is the token's, as o is, which drops tokens with
 * A < 0; geometric clips each log by the sign of its token's A, and multiplies by the mean of o A.
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
    sums->bonus += part->bonus;
    sums->kl += part->kl;
    sums->entropy += part->entropy;
    sums->entropy_kept += part->entropy_kept;
    sums->event += part->event;
    sums->event_units += part->event_units;
    sums->kept += part->kept;
    sums->dropped += part->dropped;
    sums->capped += part->capped;
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
        .loss = sums->loss - sums->bonus,
        .policy_loss = sums->loss,
        .kl = sums->kl / tokens,
        .entropy = sums->entropy / tokens,
        .clip_low_mean = sums->clip_low / units,
        .clip_high_mean = sums->clip_high / units,
        .clip_region_mean = sums->clip_region / units,
        .capped_mean = sums->capped / units,
        .event = sums->event / (sums->event_units > 0 ? (double)sums->event_units : 1.0),
        .dropped = (double)sums->dropped / (sums->sequences > 0 ? (double)sums->sequences : 1.0),
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

static double average_sums(const struct loss_config *config, const struct loss_scale *scale, int32_t n)
{
    (void)config;
    (void)n;
    return 1.0 / (double)scale->n_sequences;
}

static double average_tokens(const struct loss_config *config, const struct loss_scale *scale, int32_t n)
{
    (void)config;
    (void)n;
    return 1.0 / (double)(scale->n_tokens > 0 ? scale->n_tokens : 1);
}

/* ---- Log-ratios ---- */

static double token_log_ratio(const struct loss_sequence *sequence, int32_t t)
{
    if (!sequence->logp_old)
        return 0.0;
    return (double)sequence->logp[t] - (double)sequence->logp_old[t];
}

static double mean_log_ratio(const struct loss_sequence *sequence, int32_t n)
{
    double sum = 0.0;
    for (int32_t t = 0; t < n; t++)
        sum += token_log_ratio(sequence, t);
    return sum / n;
}

static double advantage_of(const struct loss_sequence *sequence, int32_t t)
{
    return (double)(sequence->advantages != NULL ? sequence->advantages[t] : sequence->advantage);
}

static bool is_kept(const struct loss_sequence *sequence, int32_t t)
{
    return sequence->kept == NULL || sequence->kept[t];
}

static int32_t count_kept(const struct loss_sequence *sequence, int32_t n)
{
    int32_t kept = 0;
    for (int32_t t = 0; t < n; t++)
        kept += is_kept(sequence, t) ? 1 : 0;
    return kept;
}

/* ---- Gates ---- */

/* What a gate is given about a token. */
struct gate_input {
    double ratio;     /* new/old, of the token or of its sequence */
    double log_ratio; /* of the token */
    double logp;
    double advantage;
    double mean_advantage; /* over the sequence's tokens, those that the off-policy mask drops as 0 */
    double prepared;       /* what the gate's prepare gave for the sequence */
    int32_t n, kept;       /* counted tokens of the sequence, and those that the entropy filter keeps */
};

struct gate_output {
    double loss; /* of the token, without the KL */
    /* Its derivative through the log of the ratio. Where that is the sequence's, each of the n tokens carries 1/n of it,
     * n times. */
    double d_ratio;
    double d_logp;            /* and not through the ratio */
    double low, high, capped; /* 1 if counted as clipped on that side, or capped by delta, else 0 */
    double event;             /* what loss_traits' event counts */
};

struct loss_gate {
    struct loss_traits traits;
    /* One number for a sequence of n counted tokens, or NULL. */
    double (*prepare)(const struct loss_config *config, const struct loss_sequence *sequence, int32_t n);
    struct gate_output (*apply)(const struct loss_config *config, const struct gate_input *input);
    bool filters;        /* prepare leaves out what the entropy filter does; the value of a token stays */
    bool sequence_event; /* a sequence has one event, whatever the level */
};

/* Where a slope is 0 the ratio may be infinite. */
static double times_ratio(double slope, double ratio) { return slope == 0.0 ? 0.0 : slope * ratio; }

static struct gate_output clip_apply(const struct loss_config *config, const struct gate_input *input)
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
        .d_ratio = slope == 0.0 ? 0.0 : -advantage * slope * ratio,
        /* TRL takes these after the cap by delta. */
        .low = capped < bottom && advantage < 0.0 ? 1.0 : 0.0,
        .high = capped > top && advantage > 0.0 ? 1.0 : 0.0,
        .capped = over_delta && advantage < 0.0 ? 1.0 : 0.0,
    };
}

static const struct loss_gate gate_clip = {
    .traits = {.delta = true, .levels = true, .corrects_kl = true, .clips = true}, .apply = clip_apply};

/* CISPO (arXiv 2506.13585): the capped ratio weighs the log-prob. */
static struct gate_output detached_apply(const struct loss_config *config, const struct gate_input *input)
{
    const double weight = input->ratio > config->epsilon_high ? config->epsilon_high : input->ratio;
    return (struct gate_output){
        .loss = -weight * input->advantage * input->logp,
        .d_logp = -weight * input->advantage,
        .event = input->ratio > config->epsilon_high && input->advantage > 0.0 ? 1.0 : 0.0,
    };
}

static const struct loss_gate gate_detached = {
    .traits = {.levels = true, .corrects_kl = true, .event = "cispo_clip_ratio"}, .apply = detached_apply};

/* SAPO (arXiv 2511.20347): a sigmoid in place of the clip. */
static struct gate_output soft_apply(const struct loss_config *config, const struct gate_input *input)
{
    const double tau = input->advantage > 0.0 ? config->sapo_temperature_pos : config->sapo_temperature_neg;
    const double x = tau * (input->ratio - 1.0), tail = exp(-fabs(x)), whole = 1.0 + tail;
    const double sigmoid = x < 0.0 ? tail / whole : 1.0 / whole;
    const double slope = 4.0 * tail / (whole * whole); /* of 4 sigmoid(x) / tau with respect to the ratio */
    return (struct gate_output){
        .loss = -4.0 * sigmoid / tau * input->advantage,
        .d_ratio = times_ratio(-slope * input->advantage, input->ratio),
    };
}

static const struct loss_gate gate_soft = {.traits = {.levels = true, .corrects_kl = true}, .apply = soft_apply};

/* VESPO (arXiv 2602.10693): phi(w) = e^lambda w^k e^(-lambda w) of the sequence's ratio w, the product over its tokens.
 * The bounds are TRL's. */
static double gamma_prepare(const struct loss_config *config, const struct loss_sequence *sequence, int32_t n)
{
    const double most = 20.0, least = log(1e-8);
    double log_w = 0.0;
    (void)config;
    for (int32_t t = 0; t < n; t++) {
        const double ratio = token_log_ratio(sequence, t);
        log_w += ratio < -most ? -most : ratio > most ? most : ratio;
    }
    return log_w < least ? least : log_w > most ? most : log_w;
}

static struct gate_output gamma_apply(const struct loss_config *config, const struct gate_input *input)
{
    const bool positive = input->advantage >= 0.0;
    const double k = positive ? config->vespo_k_pos : config->vespo_k_neg;
    const double asked = positive ? config->vespo_lambda_pos : config->vespo_lambda_neg;
    const double lambda = asked < 1e-4 ? 1e-4 : asked, log_w = input->prepared;
    const double raw = exp(lambda + k * log_w - lambda * exp(log_w)), phi = isinf(raw) ? 0.0 : raw;
    return (struct gate_output){
        .loss = -phi * input->advantage * input->logp,
        .d_logp = -phi * input->advantage,
        .event = phi,
    };
}

static const struct loss_gate gate_gamma = {
    .traits = {.levels = true, .corrects_kl = true, .event = "vespo/phi_seq_mean"},
    .prepare = gamma_prepare,
    .apply = gamma_apply,
    .sequence_event = true,
};

/* GMPO (arXiv 2507.20673): the clip is of the logs, and on one side, as PPO's min is. */
static double clipped_log(const struct loss_config *config, double advantage, double log_ratio)
{
    if (advantage > 0.0)
        return log_ratio > config->epsilon_high ? config->epsilon_high : log_ratio;
    return log_ratio < -config->epsilon ? -config->epsilon : log_ratio;
}

static double geometric_prepare(const struct loss_config *config, const struct loss_sequence *sequence, int32_t n)
{
    const int32_t kept = count_kept(sequence, n);
    double sum = 0.0;
    for (int32_t t = 0; t < n; t++)
        if (is_kept(sequence, t))
            sum += clipped_log(config, advantage_of(sequence, t), token_log_ratio(sequence, t));
    return exp(sum / (kept > 0 ? kept : 1));
}

static struct gate_output geometric_apply(const struct loss_config *config, const struct gate_input *input)
{
    const double log_ratio = input->log_ratio, advantage = input->advantage;
    const bool below = log_ratio<-config->epsilon, above = log_ratio> config->epsilon_high;
    double passes = (advantage > 0.0 ? above : below) ? 0.0 : 1.0;
    if (log_ratio == -config->epsilon || log_ratio == config->epsilon_high)
        passes = 0.5;
    const double share = input->kept > 0 ? (double)input->n / input->kept : 0.0;
    return (struct gate_output){
        .loss = -input->prepared * advantage,
        .d_logp = times_ratio(-input->mean_advantage * passes * share, input->prepared),
        .low = below && advantage < 0.0 ? 1.0 : 0.0,
        .high = above && advantage > 0.0 ? 1.0 : 0.0,
    };
}

static const struct loss_gate gate_geometric = {
    .traits = {.clips = true}, .prepare = geometric_prepare, .apply = geometric_apply, .filters = true};

/* ---- Levels: the ratio that a gate sees ---- */

struct ratio_level {
    bool whole;   /* one ratio for all tokens of a sequence, */
    bool shared;  /* through which the loss of each depends on all of them; metrics then count it once */
    bool product; /* it is the product of the tokens' ratios, not their geometric mean */
};

static const struct ratio_level level_token = {.whole = false};
static const struct ratio_level level_sequence = {.whole = true, .shared = true};
static const struct ratio_level level_sequence_token = {.whole = true};
static const struct ratio_level level_product = {.whole = true, .shared = true, .product = true};

#define LEVEL(id, word, level) [LOSS_LEVEL_##id] = &level_##level,
static const struct ratio_level *const levels_named[] = {LOSS_LEVEL_LIST(LEVEL)};
#undef LEVEL
#define LEVEL(id, ...) [LOSS_LEVEL_##id] = &level_token,
static const struct ratio_level *const levels_own[] = {LOSS_LEVEL_LIST(LEVEL)};
#undef LEVEL
#define LEVEL(id, ...) [LOSS_LEVEL_##id] = &level_product,
static const struct ratio_level *const levels_product[] = {LOSS_LEVEL_LIST(LEVEL)};
#undef LEVEL

/* ---- The table ---- */

static const struct loss_row {
    const char *word;
    const struct loss_gate *gate;
    loss_average *average;
    const struct ratio_level *const *levels; /* by enum loss_level */
} losses[] = {
#define LOSS(id, word, gate, average, levels) [LOSS_##id] = {word, &gate_##gate, average_##average, levels_##levels},
    LOSS_LIST(LOSS)
#undef LOSS
};

const struct loss_traits *loss_traits(enum loss_type type) { return &losses[type].gate->traits; }

cohort_status loss_check(const struct loss_config *config, cohort_error *err)
{
    const struct loss_row *row = &losses[config->type];
    if (config->delta > 0.0 && !row->gate->traits.delta)
        return error_set(
            err, COHORT_ERR_ARGUMENT,
            "delta caps the ratio of a clipped loss, and loss_type %s has no such term: leave delta out, or "
            "take grpo, bnpo, dr_grpo, dapo or luspo",
            row->word);
    if (config->level != LOSS_LEVEL_TOKEN && row->levels == levels_product)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "loss_type %s has a ratio of its own (the product of the tokens'): leave "
                         "importance_sampling_level out",
                         row->word);
    if (config->level != LOSS_LEVEL_TOKEN && !row->gate->traits.levels)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "loss_type %s has a ratio of its own (the geometric mean of the tokens'): leave "
                         "importance_sampling_level out",
                         row->word);
    return COHORT_OK;
}

/* ---- KL ---- */

struct kl_estimate loss_kl(enum loss_kl kl, float logp, float logp_ref)
{
    const double d = (double)logp_ref - (double)logp;
    const double excess = expm1(d); /* exact where exp(d) - 1 - d cancels */
    switch (kl) {
    case LOSS_KL_K1: return (struct kl_estimate){.value = -d, .slope = 1.0};
    case LOSS_KL_K2: return (struct kl_estimate){.value = 0.5 * d * d, .slope = -d};
    case LOSS_KL_K3: break;
    }
    return (struct kl_estimate){.value = excess - d, .slope = -excess};
}

/* Where every token's correction is the sequence's one ratio, each carries a share of what all of them hang on it. */
static double mean_kl(const struct loss_config *config, const struct loss_sequence *sequence, int32_t n)
{
    double sum = 0.0;
    for (int32_t t = 0; t < n; t++)
        sum += loss_kl(config->kl, sequence->logp[t], sequence->logp_ref[t]).value;
    return sum / n;
}

/* ---- A sequence ---- */

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

/* Nothing counts: no derivative. TRL has a ratio of 1 for such a row where a sequence has one, and counts what the loss
 * makes of it; at token level the row is left out. */
static void apply_masked(const struct loss_config *config, const struct loss_gate *gate, bool shared,
                         const struct loss_sequence *sequence, struct loss_sums *sums)
{
    struct gate_input input = {.ratio = 1.0, .advantage = (double)sequence->advantage};
    for (int32_t t = 0; t < sequence->n_tokens; t++) {
        sequence->d_logp[t] = 0.0f;
        if (sequence->d_entropy)
            sequence->d_entropy[t] = 0.0f;
    }
    if (sequence->advantages != NULL) /* tokens are counted */
        return;
    if (shared)
        count_clips(sums, 0.0, 0.0, 1);
    if (shared || gate->sequence_event) {
        if (gate->prepare)
            input.prepared = gate->prepare(config, sequence, 0);
        sums->event += gate->apply(config, &input).event;
        sums->event_units++;
    }
}

/* Whether the policy has left what was sampled (DeepSeek-V3.2, arXiv 2512.02556), so that tokens with A < 0 are dropped. A
 * NaN has not: it is passed on. */
static bool is_left(const struct loss_config *config, const struct loss_sequence *sequence, int32_t n)
{
    bool any = false;
    if (!config->off_policy_mask)
        return false;
    for (int32_t t = 0; t < (sequence->advantages == NULL ? 1 : n); t++)
        any = any || advantage_of(sequence, t) < 0.0;
    return any && -mean_log_ratio(sequence, n) > config->off_policy_threshold;
}

static double mean_advantage(const struct loss_sequence *sequence, int32_t n, bool left)
{
    double sum = 0.0;
    if (sequence->advantages == NULL)
        return left ? 0.0 : (double)sequence->advantage;
    for (int32_t t = 0; t < n; t++)
        sum += left && sequence->advantages[t] < 0.0f ? 0.0 : (double)sequence->advantages[t];
    return sum / n;
}

/* What all tokens' losses hang on the log of the sequence's one ratio, by the share that each token has in it. */
static double shared_slope(const struct loss_config *config, const struct loss_gate *gate,
                           const struct loss_sequence *sequence, const struct gate_input *input, bool left)
{
    struct gate_input one = *input;
    double sum = 0.0;
    if (sequence->advantages == NULL)
        return left ? 0.0 : gate->apply(config, input).d_ratio * ((double)input->kept / input->n);
    for (int32_t t = 0; t < input->n; t++) {
        one.advantage = advantage_of(sequence, t);
        if (is_kept(sequence, t) && !(left && one.advantage < 0.0))
            sum += gate->apply(config, &one).d_ratio;
    }
    return sum / input->n;
}

/* The entropies of a sequence's n counted tokens: metric, controller and bonus. */
static void apply_entropy(const struct loss_scale *scale, const struct loss_sequence *sequence, int32_t n,
                          struct loss_sums *sums)
{
    const double weight = scale->entropy_coef / (double)(scale->n_kept > 0 ? scale->n_kept : 1);
    for (int32_t t = 0; t < n && sequence->entropy; t++) {
        const double entropy = (double)sequence->entropy[t];
        const bool kept = is_kept(sequence, t);
        sums->entropy += entropy;
        sums->entropy_kept += kept ? entropy : 0.0;
        sums->bonus += kept && weight != 0.0 ? weight * entropy : 0.0;
        if (sequence->d_entropy)
            sequence->d_entropy[t] = kept ? (float)-weight : 0.0f;
    }
}

void loss_sequence_apply(const struct loss_config *config, const struct loss_scale *scale,
                         const struct loss_sequence *sequence, struct loss_sums *sums)
{
    const struct loss_row *row = &losses[config->type];
    const struct loss_gate *gate = row->gate;
    const struct ratio_level *level = row->levels[config->level];
    assert(scale->n_sequences > 0);
    assert(config->beta == 0.0 || sequence->logp_ref);
    assert(scale->entropy_coef == 0.0 || (sequence->entropy && sequence->d_entropy));

    sums->sequences++;
    const int32_t n = sequence->masked ? 0 : sequence->n_tokens;
    if (n <= 0) {
        apply_masked(config, gate, level->shared, sequence, sums);
        return;
    }

    const int32_t n_kept = count_kept(sequence, n);
    const bool left = is_left(config, sequence, n), corrects = config->kl_correction && gate->traits.corrects_kl;
    /* What is one value of the sequence is counted once. */
    const bool one_clip = level->shared && sequence->advantages == NULL,
               one_event = one_clip || (gate->sequence_event && sequence->advantages == NULL);
    const double weight = row->average(config, scale, n);
    struct gate_input input = {.advantage = (double)sequence->advantage, .n = n, .kept = n_kept};
    double loss = 0.0, low = 0.0, high = 0.0, shared = 0.0, shared_kl = 0.0;
    input.mean_advantage = mean_advantage(sequence, n, left);
    if (level->whole)
        input.ratio = exp(mean_log_ratio(sequence, n) * (level->product ? n : 1.0));
    if (gate->prepare)
        input.prepared = gate->prepare(config, sequence, n);
    if (level->shared)
        shared = shared_slope(config, gate, sequence, &input, left);
    if (config->beta != 0.0 && corrects && level->shared)
        shared_kl = mean_kl(config, sequence, n);
    if (level->product) { /* each token carries all of the ratio's derivative, not its share */
        shared *= n;
        shared_kl *= n;
    }
    for (int32_t t = 0; t < n; t++) {
        input.log_ratio = token_log_ratio(sequence, t);
        input.advantage = advantage_of(sequence, t);
        if (!level->whole)
            input.ratio = exp(input.log_ratio);
        if (t == 0 || !level->shared)
            count_ratio(sums, input.ratio);
        input.logp = (double)sequence->logp[t];
        const struct gate_output out = gate->apply(config, &input);
        if (t == 0 || !one_clip) {
            low += out.low;
            high += out.high;
            sums->capped += out.capped;
        }
        if (t == 0 || !one_event) {
            sums->event += out.event;
            sums->event_units++;
        }
        const bool dropped = left && input.advantage < 0.0, kept = is_kept(sequence, t);
        const bool here = !dropped && (gate->filters || kept);
        double value = here ? out.loss : 0.0;
        double slope = level->shared ? shared : here ? out.d_ratio : 0.0;
        if (kept && (!dropped || gate->filters) && out.d_logp != 0.0)
            slope += out.d_logp;
        if (config->beta != 0.0) {
            const struct kl_estimate kl = loss_kl(config->kl, sequence->logp[t], sequence->logp_ref[t]);
            const double factor = corrects ? input.ratio : 1.0, corrected = kl.value * factor;
            value += config->beta * corrected;
            slope += config->beta * (kl.slope * factor);
            if (corrects)
                slope += config->beta * (level->shared ? shared_kl * factor : corrected);
            sums->kl += corrected;
        }
        loss += value;
        sequence->d_logp[t] = (float)(weight * slope);
    }
    apply_entropy(scale, sequence, n, sums);
    sums->loss += weight * loss;
    sums->tokens += n;
    sums->kept += n_kept;
    sums->dropped += left ? 1 : 0;
    count_clips(sums, low, high, one_clip ? 1 : n);
}

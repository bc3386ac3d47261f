/* Advantages as TRL 1.16.0 computes them (GRPOTrainer._generate_and_score_completions, RLOOTrainer's for the leave-one-out
 * baseline; docs/GRPO.md). TRL works in float32; here sums are double and the advantage is rounded once, at the end. */
#include "train/advantage.h"

#include "base/memory.h"

#include <assert.h>
#include <float.h>
#include <math.h>

/* torch.isclose(std, 0): its default absolute tolerance. */
static const double ZERO_STD = 1e-8;

struct moments {
    int32_t n;        /* values that are not NaN */
    double mean, std; /* of these; NaN without any. std: NaN for one value */
};

static double function_value(const struct advantage_input *input, int32_t row, int32_t function)
{
    return input->rewards[(int64_t)row * input->n_functions + function];
}

/* The weighted sum over the functions that scored; NaN where none did (nansum alone would say 0).
 */
static double row_reward(const struct advantage_input *input, int32_t row)
{
    double sum = 0.0;
    bool scored = false;
    for (int32_t f = 0; f < input->n_functions; f++) {
        double reward = function_value(input, row, f);
        if (isnan(reward))
            continue;
        sum += input->weights[f] * reward;
        scored = true;
    }
    return scored ? sum : (double)NAN;
}

/* nanmean and nanstd with Bessel's correction of count values, each stride behind the other. Deviations are
 * taken from the first value, so that equal values have exactly that mean, a deviation of 0 and
 * advantages of exactly 0. */
static struct moments moments_of(const double *values, int32_t stride, int32_t count)
{
    struct moments moments = {.mean = (double)NAN, .std = (double)NAN};
    double origin = 0.0, shift = 0.0;
    for (int32_t i = 0; i < count; i++) {
        double x = values[(int64_t)i * stride];
        if (isnan(x))
            continue;
        if (moments.n == 0)
            origin = x;
        shift += x - origin;
        moments.n++;
    }
    if (moments.n == 0)
        return moments;
    shift /= moments.n;
    moments.mean = origin + shift;
    if (moments.n == 1)
        return moments;
    double squares = 0.0;
    for (int32_t i = 0; i < count; i++) {
        double x = values[(int64_t)i * stride];
        if (isnan(x))
            continue;
        double deviation = x - origin - shift;
        squares += deviation * deviation;
    }
    moments.std = sqrt(squares / (moments.n - 1));
    return moments;
}

static cohort_status check_input(const struct advantage_input *input, cohort_error *err)
{
    if (input->n_rows < 1 || input->n_functions < 1)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "advantages of %d rows and %d reward functions: at least one of each is "
                         "needed",
                         input->n_rows, input->n_functions);
    if (input->group < 1 || input->n_rows % input->group != 0)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "advantages of %d rows in groups of %d: the rows must be a multiple of the "
                         "group",
                         input->n_rows, input->group);
    for (int32_t f = 0; f < input->n_functions; f++)
        if (!isfinite(input->weights[f]))
            return error_set(err, COHORT_ERR_ARGUMENT, "weight of reward function %d is %g: a finite number is needed",
                             f, input->weights[f]);
    /* An infinite reward would make its group's advantages NaN or infinite: an error, not a silent
     * 0. The sum must fit the float that it is stored in. */
    for (int32_t row = 0; row < input->n_rows; row++) {
        for (int32_t f = 0; f < input->n_functions; f++)
            if (isinf(function_value(input, row, f)))
                return error_set(err, COHORT_ERR_REWARD,
                                 "reward of function %d for row %d is infinite: return a finite "
                                 "number, or null if it cannot be scored",
                                 f, row);
        double reward = row_reward(input, row);
        if (!isnan(reward) && fabs(reward) > (double)FLT_MAX)
            return error_set(err, COHORT_ERR_REWARD, "weighted reward of row %d is %g: it must be within %g", row,
                             reward, (double)FLT_MAX);
        if (input->penalty != NULL && !isfinite(input->penalty[row]))
            return error_set(err, COHORT_ERR_NUMERIC,
                             "the KL in the reward of row %d is %g: a log-prob of policy or reference is not finite",
                             row, input->penalty[row]);
    }
    return COHORT_OK;
}

cohort_status advantage_check(const struct advantage_config *config, bool penalised, cohort_error *err)
{
    const bool whitened = config->estimator == ADVANTAGE_REINFORCE_PLUS_PLUS ||
                          config->estimator == ADVANTAGE_REINFORCE_PLUS_PLUS_BASELINE;
    if (whitened && config->scale != ADVANTAGE_SCALE_BATCH)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "REINFORCE++ normalises advantages over the batch: leave scale_rewards out, or give batch");
    if (config->estimator == ADVANTAGE_PASS_AT_K && config->scale == ADVANTAGE_SCALE_BATCH)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "advantage_estimator pass_at_k divides by the deviation of pass@k in the group: leave "
                         "scale_rewards out, or give none");
    if (config->estimator == ADVANTAGE_PASS_AT_K && penalised)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "kl_in_reward changes rewards, of which advantage_estimator pass_at_k only reads whether they "
                         "are above 0: leave kl_in_reward out");
    if (config->aggregation != ADVANTAGE_NORMALIZE_THEN_SUM)
        return COHORT_OK;
    if (config->estimator != ADVANTAGE_GRPO)
        return error_set(
            err, COHORT_ERR_ARGUMENT,
            "multi_objective_aggregation normalize_then_sum normalises each reward in its group, which only "
            "advantage_estimator grpo does");
    if (config->scale != ADVANTAGE_SCALE_GROUP)
        return error_set(
            err, COHORT_ERR_ARGUMENT,
            "multi_objective_aggregation normalize_then_sum divides by the group's deviation of each reward, "
            "then by the batch's of their sum: leave scale_rewards out");
    if (penalised)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "kl_in_reward takes the KL from the sum of the rewards, which multi_objective_aggregation "
                         "normalize_then_sum does not form before it normalises: take sum_then_normalize");
    return COHORT_OK;
}

/* ---- normalize_then_sum ---- */

/* Replaces value[n_rows] by the weighted sums of what each function's rewards are in their group, normalised; rows that
 * no function scored stay NaN. */
static void sum_normalised(const struct advantage_input *input, double *value)
{
    for (int32_t first = 0; first < input->n_rows; first += input->group) {
        for (int32_t row = first; row < first + input->group; row++)
            value[row] = isnan(value[row]) ? (double)NAN : 0.0;
        for (int32_t f = 0; f < input->n_functions; f++) {
            const double *rewards = &input->rewards[(int64_t)first * input->n_functions + f];
            const struct moments moments = moments_of(rewards, input->n_functions, input->group);
            const double std = input->group > 1 ? moments.std : 0.0;
            for (int32_t row = first; row < first + input->group; row++) {
                const double x = (function_value(input, row, f) - moments.mean) / (std + input->config.epsilon);
                value[row] += isnan(x) ? 0.0 : input->weights[f] * x;
            }
        }
    }
}

/* ---- Baseline and scale ---- */

/* The deviation that says whether there is a signal, and by which GRPO's advantages are divided if they are scaled. */
static double scale_std(const struct advantage_input *input, const struct moments *batch, const struct moments *group)
{
    const struct advantage_config *config = &input->config;
    if (config->aggregation == ADVANTAGE_NORMALIZE_THEN_SUM || config->estimator == ADVANTAGE_REINFORCE_PLUS_PLUS ||
        (config->estimator == ADVANTAGE_GRPO && config->scale == ADVANTAGE_SCALE_BATCH))
        return input->n_rows > 1 ? batch->std : 0.0;
    return input->group > 1 ? group->std : 0.0;
}

/* The reward less its baseline. */
static double centred(const struct advantage_input *input, double reward, const struct moments *batch,
                      const struct moments *group)
{
    switch (input->config.estimator) {
    case ADVANTAGE_RLOO: /* reward - (sum of the others) / (n - 1) */
        return (reward - group->mean) * group->n / (group->n - 1.0);
    case ADVANTAGE_REINFORCE_PLUS_PLUS: return reward - batch->mean;
    case ADVANTAGE_GRPO:
    case ADVANTAGE_REINFORCE_PLUS_PLUS_BASELINE:
    case ADVANTAGE_PASS_AT_K: break;
    }
    return reward - (input->config.aggregation == ADVANTAGE_NORMALIZE_THEN_SUM ? batch->mean : group->mean);
}

/* ---- pass@k ---- */

/* Of n draws of which failed are failures, the chance that k of them are all failures (first 0), or, of one that is a failure,
 * that k - 1 others are too (first 1): binomial(failed - first, k - first) / binomial(n - first, k - first). */
static double all_fail(int32_t n, int32_t failed, int32_t k, int32_t first)
{
    double chance = 1.0;
    for (int32_t i = first; i < k; i++)
        chance *= failed > i ? (double)(failed - i) / (double)(n - i) : 0.0;
    return chance;
}

/* Replaces value[group] by advantages of pass@k (arXiv 2508.10751, the analytical form): the mean, over all k of the group
 * that contain a completion, of whether one of them passes, less that over all k of the group. A reward above 0 passes.
 * Returns the deviation of pass@k over all k of the group. */
static double pass_at_k(const struct advantage_config *config, int32_t group, double *value)
{
    int32_t n = 0, failed = 0;
    for (int32_t i = 0; i < group; i++) {
        n += isnan(value[i]) ? 0 : 1;
        failed += value[i] <= 0.0 ? 1 : 0;
    }
    const bool enough = n >= config->k;
    const double none = enough ? all_fail(n, failed, config->k, 0) : 0.0, std = sqrt(none * (1.0 - none));
    for (int32_t i = 0; i < group; i++) {
        if (isnan(value[i]))
            continue;
        const double a = value[i] > 0.0 ? none : none - (enough ? all_fail(n, failed, config->k, 1) : 0.0);
        value[i] = config->scale == ADVANTAGE_SCALE_NONE ? a : a / (std + config->epsilon);
    }
    return std;
}

/* Whether advantages are normalised over the batch once they have their baseline. */
static bool whitens(const struct advantage_config *config)
{
    return config->estimator != ADVANTAGE_GRPO && config->scale == ADVANTAGE_SCALE_BATCH;
}

static void apply_baseline(const struct advantage_input *input, double *value, struct advantage_output *output)
{
    const struct advantage_config *config = &input->config;
    const bool divides = !whitens(config) && config->scale != ADVANTAGE_SCALE_NONE;
    const struct moments batch = moments_of(value, 1, input->n_rows);
    int64_t zero_std = 0;
    for (int32_t first = 0; first < input->n_rows; first += input->group) {
        const bool passes = config->estimator == ADVANTAGE_PASS_AT_K;
        const struct moments group = moments_of(value + first, 1, input->group);
        const double std = passes ? pass_at_k(config, input->group, value + first) : scale_std(input, &batch, &group);
        if (fabs(std) <= ZERO_STD)
            zero_std += input->group;
        for (int32_t row = first; !passes && row < first + input->group; row++) {
            value[row] = centred(input, value[row], &batch, &group);
            if (divides)
                value[row] /= std + config->epsilon;
        }
    }
    output->frac_reward_zero_std = (double)zero_std / input->n_rows;
    if (!whitens(config))
        return;
    const struct moments whole = moments_of(value, 1, input->n_rows);
    for (int32_t row = 0; row < input->n_rows; row++)
        value[row] = (value[row] - whole.mean) / (whole.std + config->epsilon);
}

bool advantage_spreads(const struct advantage_input *input, int32_t group)
{
    const struct advantage_config *config = &input->config;
    const int32_t first = group * input->group, end = first + input->group;
    double origin = 0.0, shift = 0.0, squares = 0.0;
    int32_t n = 0, failed = 0;
    if (config->aggregation == ADVANTAGE_NORMALIZE_THEN_SUM) {
        for (int32_t f = 0; f < input->n_functions; f++) {
            const double *rewards = &input->rewards[(int64_t)first * input->n_functions + f];
            if (input->weights[f] != 0.0 && moments_of(rewards, input->n_functions, input->group).std > ZERO_STD)
                return true;
        }
        return false;
    }
    for (int32_t row = first; row < end; row++) {
        const double reward = row_reward(input, row);
        if (isinf(reward)) /* an error of who computes advantages */
            return true;
        if (isnan(reward))
            continue;
        origin = n == 0 ? reward : origin;
        shift += reward - origin;
        failed += reward <= 0.0 ? 1 : 0;
        n++;
    }
    if (config->estimator == ADVANTAGE_PASS_AT_K) {
        const double none = n >= config->k ? all_fail(n, failed, config->k, 0) : 0.0;
        return none > 0.0 && none < 1.0;
    }
    if (n < 2)
        return false;
    shift /= n;
    for (int32_t row = first; row < end; row++) {
        const double deviation = row_reward(input, row) - origin - shift;
        squares += isnan(deviation) ? 0.0 : deviation * deviation;
    }
    return sqrt(squares / (n - 1)) > ZERO_STD;
}

cohort_status advantage_compute(const struct advantage_input *input, struct advantage_output *output, cohort_error *err)
{
    double *value = NULL;
    TRY(check_input(input, err));
    TRY(advantage_check(&input->config, input->penalty != NULL, err));
    assert(output->advantage && output->reward && output->function_mean && output->function_std);
    TRY(mem_alloc(&value, (size_t)input->n_rows, sizeof *value, "advantages", err));

    for (int32_t row = 0; row < input->n_rows; row++) {
        value[row] = row_reward(input, row);
        output->reward[row] = (float)value[row];
    }
    const struct moments rewards = moments_of(value, 1, input->n_rows);
    output->reward_mean = rewards.mean;
    output->reward_std = rewards.std;
    for (int32_t f = 0; f < input->n_functions; f++) {
        const struct moments moments = moments_of(input->rewards + f, input->n_functions, input->n_rows);
        output->function_mean[f] = moments.mean;
        output->function_std[f] = moments.std;
    }
    if (input->config.aggregation == ADVANTAGE_NORMALIZE_THEN_SUM)
        sum_normalised(input, value);
    for (int32_t row = 0; input->penalty != NULL && row < input->n_rows; row++)
        value[row] -= input->penalty[row];
    apply_baseline(input, value, output);
    /* A row that cannot be scored, or a single value, which has no deviation: there is no learning signal. */
    for (int32_t row = 0; row < input->n_rows; row++)
        output->advantage[row] = isnan(value[row]) ? 0.0f : (float)value[row];
    mem_free(value);
    return COHORT_OK;
}

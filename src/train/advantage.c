/* Advantages as TRL 1.16.0 computes them (GRPOTrainer._generate_and_score_completions, RLOOTrainer's for the leave-one-out
 * baseline; docs/GRPO.md). TRL works in float32; here sums are double and the advantage is rounded once, at the end.
 *
 * A reward is an event of a row: where a row has one number, that is its only one, behind its last token. Rewards of tokens
 * are several events in a row. All statistics are of events; a token's advantage is the sum of those at and behind it
 * (process supervision, arXiv 2402.03300, section 4.1.3). */
#include "train/advantage.h"

#include "base/memory.h"

#include <assert.h>
#include <float.h>
#include <math.h>

/* torch.isclose(std, 0): its default absolute tolerance. */
static const double ZERO_STD = 1e-8;

struct moments {
    int32_t n;        /* values that are not NaN, */
    int32_t places;   /* of so many */
    double mean, std; /* of these; NaN without any. std: NaN for one value */
};

static double function_value(const struct advantage_input *input, int32_t row, int32_t function)
{
    return input->rewards[(int64_t)row * input->n_functions + function];
}

static const double *list_of(const struct advantage_input *input, int32_t row, int32_t function)
{
    return input->lists == NULL ? NULL : input->lists[(int64_t)row * input->n_functions + function];
}

/* Places of a row where an event may be: its tokens if any of its rewards are of tokens, else one. */
static int32_t n_places(const struct advantage_input *input, int32_t row)
{
    for (int32_t f = 0; f < input->n_functions; f++)
        if (list_of(input, row, f) != NULL)
            return input->n_tokens[row] > 0 ? input->n_tokens[row] : 1;
    return 1;
}

/* What a function gave at a place of a row: a number for the row stands at the last. NaN: nothing. */
static double value_at(const struct advantage_input *input, int32_t row, int32_t place, int32_t places, int32_t f)
{
    const double *list = list_of(input, row, f);
    if (list != NULL)
        return place < input->n_tokens[row] ? list[place] : (double)NAN;
    return place + 1 == places ? function_value(input, row, f) : (double)NAN;
}

/* The weighted sum over the functions that gave something there; NaN where none did (nansum alone would say 0). */
static double reward_at(const struct advantage_input *input, int32_t row, int32_t place, int32_t places)
{
    double sum = 0.0;
    bool scored = false;
    for (int32_t f = 0; f < input->n_functions; f++) {
        double reward = value_at(input, row, place, places, f);
        if (isnan(reward))
            continue;
        sum += input->weights[f] * reward;
        scored = true;
    }
    return scored ? sum : (double)NAN;
}

/* The same as advantages are made of it. */
static double clipped_at(const struct advantage_input *input, int32_t row, int32_t place, int32_t places)
{
    const struct advantage_config *config = &input->config;
    const double reward = reward_at(input, row, place, places);
    if (!config->clips || isnan(reward))
        return reward;
    return reward < config->clip_low ? config->clip_low : reward > config->clip_high ? config->clip_high : reward;
}

/* The same of a whole row, before it is clipped. */
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

/* The events of a batch, those of a row and of a group behind each other. A row without any has one that is NaN. */
struct events {
    int32_t *begin; /* [n_rows + 1] */
    int32_t *place; /* [begin[n_rows]] */
    double *value;  /* the same */
};

static void events_free(struct events *events)
{
    mem_free(events->begin);
    mem_free(events->place);
    mem_free(events->value);
}

static cohort_status events_collect(struct events *events, const struct advantage_input *input, cohort_error *err)
{
    int64_t most = 0;
    for (int32_t row = 0; row < input->n_rows; row++)
        most += n_places(input, row);
    if (most > INT32_MAX)
        return error_set(err, COHORT_ERR_ARGUMENT, "rewards of %lld tokens in one batch: at most %d are possible",
                         (long long)most, (int)INT32_MAX);
    TRY(mem_alloc(&events->begin, (size_t)input->n_rows + 1, sizeof *events->begin, "advantages", err));
    TRY(mem_alloc(&events->place, (size_t)most, sizeof *events->place, "advantages", err));
    TRY(mem_alloc(&events->value, (size_t)most, sizeof *events->value, "advantages", err));
    int32_t n = 0;
    for (int32_t row = 0; row < input->n_rows; row++) {
        const int32_t places = n_places(input, row);
        events->begin[row] = n;
        for (int32_t place = 0; place < places; place++) {
            const double value = clipped_at(input, row, place, places);
            if (isnan(value) && !(place + 1 == places && n == events->begin[row]))
                continue;
            events->place[n] = place;
            events->value[n++] = value;
        }
    }
    events->begin[input->n_rows] = n;
    return COHORT_OK;
}

/* nanmean and nanstd with Bessel's correction of count values, each stride behind the other. Deviations are
 * taken from the first value, so that equal values have exactly that mean, a deviation of 0 and
 * advantages of exactly 0. */
static struct moments strided_moments(const double *values, int32_t stride, int32_t count)
{
    struct moments moments = {.places = count, .mean = (double)NAN, .std = (double)NAN};
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

static struct moments moments_of(const double *values, int32_t count) { return strided_moments(values, 1, count); }

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
        const int32_t places = n_places(input, row);
        double reward = row_reward(input, row);
        for (int32_t place = 0; input->lists != NULL && place < places; place++)
            if (isinf(reward_at(input, row, place, places)))
                reward = (double)INFINITY;
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

/* What is known only once rewards of tokens come. */
static cohort_status check_lists(const struct advantage_input *input, cohort_error *err)
{
    if (input->lists == NULL)
        return COHORT_OK;
    if (input->config.estimator == ADVANTAGE_PASS_AT_K)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "a reward gave a list, rewards of tokens, and advantage_estimator pass_at_k asks of a whole "
                         "completion whether it passes: let the reward give a number, or take another estimator");
    if (input->config.clips)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "a reward gave a list, rewards of tokens, and reward_clip_range clips the one reward of a "
                         "completion: leave it out, or let the reward give a number");
    if (input->penalty != NULL)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "a reward gave a list, rewards of tokens, and kl_in_reward takes the KL of a completion from "
                         "its one reward: leave kl_in_reward out (the KL is then in the loss), or let the reward give "
                         "a number");
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
    if (config->clips && !(config->clip_low < config->clip_high))
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "reward_clip_range is from %g to %g: expected two numbers, the lower one first",
                         config->clip_low, config->clip_high);
    if (config->clips && config->estimator == ADVANTAGE_PASS_AT_K)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "reward_clip_range changes rewards, of which advantage_estimator pass_at_k only reads whether "
                         "they are above 0: leave reward_clip_range out");
    if (config->aggregation != ADVANTAGE_NORMALIZE_THEN_SUM)
        return COHORT_OK;
    if (config->clips)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "reward_clip_range clips the sum of the rewards, which multi_objective_aggregation "
                         "normalize_then_sum does not form before it normalises: take sum_then_normalize");
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

/* What a function gave at the events of the rows from first to end. */
static void events_of_function(const struct advantage_input *input, const struct events *events, int32_t first,
                               int32_t end, int32_t f, double *out)
{
    for (int32_t row = first; row < end; row++)
        for (int32_t e = events->begin[row]; e < events->begin[row + 1]; e++)
            *out++ = value_at(input, row, events->place[e], n_places(input, row), f);
}

/* Replaces the events' values by the weighted sums of what each function's rewards are in their group, normalised; rows
 * that no function scored stay NaN. */
static cohort_status sum_normalised(const struct advantage_input *input, struct events *events, cohort_error *err)
{
    double *one = NULL;
    TRY(mem_alloc(&one, (size_t)events->begin[input->n_rows], sizeof *one, "advantages", err));
    for (int32_t first = 0; first < input->n_rows; first += input->group) {
        const int32_t begin = events->begin[first], n = events->begin[first + input->group] - begin;
        double *value = events->value + begin;
        for (int32_t e = 0; e < n; e++)
            value[e] = isnan(value[e]) ? (double)NAN : 0.0;
        for (int32_t f = 0; f < input->n_functions; f++) {
            events_of_function(input, events, first, first + input->group, f, one);
            const struct moments moments = moments_of(one, n);
            const double std = n > 1 ? moments.std : 0.0;
            for (int32_t e = 0; e < n; e++) {
                const double x = (one[e] - moments.mean) / (std + input->config.epsilon);
                value[e] += isnan(x) ? 0.0 : input->weights[f] * x;
            }
        }
    }
    mem_free(one);
    return COHORT_OK;
}

/* ---- Baseline and scale ---- */

/* The deviation that says whether there is a signal, and by which GRPO's advantages are divided if they are scaled. */
static double scale_std(const struct advantage_input *input, const struct moments *batch, const struct moments *group)
{
    const struct advantage_config *config = &input->config;
    if (config->aggregation == ADVANTAGE_NORMALIZE_THEN_SUM || config->estimator == ADVANTAGE_REINFORCE_PLUS_PLUS ||
        (config->estimator == ADVANTAGE_GRPO && config->scale == ADVANTAGE_SCALE_BATCH))
        return batch->places > 1 ? batch->std : 0.0;
    return group->places > 1 ? group->std : 0.0;
}

/* The events of a row less their baseline. Leave-one-out: the mean of the others' events, m + n (m - mean of the row) / (N -
 * n) with m, N of the group and n of the row; of one event in each row reward - (sum of the others) / (N - 1). */
static void centre(const struct advantage_input *input, double *value, int32_t n, const struct moments *batch,
                   const struct moments *group)
{
    const bool of_batch = input->config.estimator == ADVANTAGE_REINFORCE_PLUS_PLUS ||
                          input->config.aggregation == ADVANTAGE_NORMALIZE_THEN_SUM;
    double own = 0.0;
    for (int32_t e = 0; e < n; e++) {
        value[e] -= of_batch ? batch->mean : group->mean;
        own += value[e];
    }
    for (int32_t e = 0; e < n && input->config.estimator == ADVANTAGE_RLOO; e++)
        value[e] += group->n > n ? own / (double)(group->n - n) : (double)NAN; /* there are no others */
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

static void apply_baseline(const struct advantage_input *input, struct events *events, struct advantage_output *output)
{
    const struct advantage_config *config = &input->config;
    const bool divides = !whitens(config) && config->scale != ADVANTAGE_SCALE_NONE;
    const int32_t n_events = events->begin[input->n_rows];
    double *value = events->value;
    const struct moments batch = moments_of(value, n_events);
    int64_t zero_std = 0;
    for (int32_t first = 0; first < input->n_rows; first += input->group) {
        const bool passes = config->estimator == ADVANTAGE_PASS_AT_K;
        const int32_t begin = events->begin[first], end = events->begin[first + input->group];
        const struct moments group = moments_of(value + begin, end - begin);
        const double std = passes ? pass_at_k(config, input->group, value + begin) : scale_std(input, &batch, &group);
        if (fabs(std) <= ZERO_STD)
            zero_std += input->group;
        for (int32_t row = first; !passes && row < first + input->group; row++)
            centre(input, value + events->begin[row], events->begin[row + 1] - events->begin[row], &batch, &group);
        for (int32_t e = begin; divides && !passes && e < end; e++)
            value[e] /= std + config->epsilon;
    }
    output->frac_reward_zero_std = (double)zero_std / input->n_rows;
    if (!whitens(config))
        return;
    const struct moments whole = moments_of(value, n_events);
    for (int32_t e = 0; e < n_events; e++)
        value[e] = (value[e] - whole.mean) / (whole.std + config->epsilon);
}

/* What cannot be scored, or a single value, which has no deviation: there is no learning signal. */
static double signal_of(double value) { return isnan(value) ? 0.0 : value; }

static void write_rows(const struct advantage_input *input, const struct events *events,
                       struct advantage_output *output)
{
    for (int32_t row = 0; row < input->n_rows; row++) {
        int32_t e = events->begin[row + 1] - 1;
        if (input->lists == NULL) {
            output->advantage[row] = (float)signal_of(events->value[e]);
            continue;
        }
        const int32_t n = input->n_tokens[row];
        /* A number for a row among others that have lists stands at its last token. */
        const bool single = n_places(input, row) == 1;
        double behind = 0.0, sum = 0.0;
        for (int32_t t = n - 1; t >= 0; t--) {
            for (; e >= events->begin[row] && (single || events->place[e] == t); e--)
                behind += signal_of(events->value[e]);
            output->tokens[row][t] = (float)behind;
            sum += (double)output->tokens[row][t];
        }
        output->advantage[row] = n > 0 ? (float)(sum / n) : 0.0f;
    }
}

/* The deviation of the rewards of rows from first to end, of all functions together (function negative) or of one: that of
 * moments_of, without memory for them. NaN: there is none. An infinite reward, which is an error of who computes
 * advantages, has an infinite one. */
static double spread_of(const struct advantage_input *input, int32_t first, int32_t end, int32_t function)
{
    double origin = 0.0, shift = 0.0, squares = 0.0;
    int32_t n = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (int32_t row = first; row < end; row++) {
            const int32_t places = n_places(input, row);
            for (int32_t place = 0; place < places; place++) {
                const double reward = function < 0 ? clipped_at(input, row, place, places)
                                                   : value_at(input, row, place, places, function);
                if (isinf(reward))
                    return (double)INFINITY;
                if (isnan(reward))
                    continue;
                if (pass == 0) {
                    origin = n == 0 ? reward : origin;
                    shift += reward - origin;
                    n++;
                } else {
                    const double deviation = reward - origin - shift;
                    squares += deviation * deviation;
                }
            }
        }
        shift /= pass == 0 && n > 0 ? n : 1;
    }
    return n < 2 ? (double)NAN : sqrt(squares / (n - 1));
}

bool advantage_spreads(const struct advantage_input *input, int32_t group)
{
    const struct advantage_config *config = &input->config;
    const int32_t first = group * input->group, end = first + input->group;
    int32_t n = 0, failed = 0;
    if (config->aggregation == ADVANTAGE_NORMALIZE_THEN_SUM) {
        for (int32_t f = 0; f < input->n_functions; f++)
            if (input->weights[f] != 0.0 && spread_of(input, first, end, f) > ZERO_STD)
                return true;
        return false;
    }
    const double spread = spread_of(input, first, end, -1);
    if (config->estimator != ADVANTAGE_PASS_AT_K || isinf(spread))
        return spread > ZERO_STD;
    for (int32_t row = first; row < end; row++) {
        const double reward = row_reward(input, row);
        n += isnan(reward) ? 0 : 1;
        failed += reward <= 0.0 ? 1 : 0;
    }
    const double none = n >= config->k ? all_fail(n, failed, config->k, 0) : 0.0;
    return none > 0.0 && none < 1.0;
}

cohort_status advantage_compute(const struct advantage_input *input, struct advantage_output *output, cohort_error *err)
{
    struct events events = {0};
    double *value = NULL;
    cohort_status status = COHORT_OK;
    TRY(check_input(input, err));
    TRY(advantage_check(&input->config, input->penalty != NULL, err));
    TRY(check_lists(input, err));
    assert(output->advantage && output->reward && output->function_mean && output->function_std);
    TRY_GOTO(mem_alloc(&value, (size_t)input->n_rows, sizeof *value, "advantages", err));
    TRY_GOTO(events_collect(&events, input, err));

    for (int32_t row = 0; row < input->n_rows; row++) {
        value[row] = row_reward(input, row);
        output->reward[row] = (float)value[row];
    }
    const struct moments rewards = moments_of(value, input->n_rows);
    output->reward_mean = rewards.mean;
    output->reward_std = rewards.std;
    for (int32_t f = 0; f < input->n_functions; f++) {
        const struct moments moments = strided_moments(input->rewards + f, input->n_functions, input->n_rows);
        output->function_mean[f] = moments.mean;
        output->function_std[f] = moments.std;
    }
    if (input->config.aggregation == ADVANTAGE_NORMALIZE_THEN_SUM)
        TRY_GOTO(sum_normalised(input, &events, err));
    for (int32_t row = 0; input->penalty != NULL && row < input->n_rows; row++)
        events.value[row] -= input->penalty[row]; /* one event a row: check_lists */
    apply_baseline(input, &events, output);
    write_rows(input, &events, output);
cleanup:
    events_free(&events);
    mem_free(value);
    return status;
}

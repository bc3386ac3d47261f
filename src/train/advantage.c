/* Group-relative advantages as TRL 1.16.0 computes them
 * (GRPOTrainer._generate_and_score_completions with multi_objective_aggregation =
 * "sum_then_normalize"; grpo.md 1.10, 9.1). TRL works in float32; here sums are double and the
 * advantage is rounded once, at the end. */
#include "train/advantage.h"

#include <assert.h>
#include <float.h>
#include <math.h>

/* Added to the standard deviation (TRL). */
static const double STD_EPSILON = 1e-4;
/* torch.isclose(std, 0): its default absolute tolerance. */
static const double ZERO_STD = 1e-8;

struct moments {
    double mean, std; /* of the values that are not NaN; NaN without any. std: NaN for one value */
};

/* The i-th of the values to be summarised. */
typedef double value_at(const struct advantage_input *input, int32_t index, int32_t column);

static double function_value(const struct advantage_input *input, int32_t row, int32_t function)
{
    return input->rewards[(int64_t)row * input->n_functions + function];
}

/* The weighted sum over the functions that scored; NaN where none did (nansum alone would say 0).
 */
static double row_reward(const struct advantage_input *input, int32_t row, int32_t unused)
{
    (void)unused;
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

/* nanmean and nanstd with Bessel's correction over rows [first, first + count). Deviations are
 * taken from the first value, so that equal values have exactly that mean, a deviation of 0 and
 * advantages of exactly 0. */
static struct moments moments_of(value_at *value, const struct advantage_input *input, int32_t column, int32_t first,
                                 int32_t count)
{
    struct moments moments = {.mean = (double)NAN, .std = (double)NAN};
    double origin = 0.0, shift = 0.0;
    int32_t n = 0;
    for (int32_t i = first; i < first + count; i++) {
        double x = value(input, i, column);
        if (isnan(x))
            continue;
        if (n == 0)
            origin = x;
        shift += x - origin;
        n++;
    }
    if (n == 0)
        return moments;
    shift /= n;
    moments.mean = origin + shift;
    if (n == 1)
        return moments;
    double squares = 0.0;
    for (int32_t i = first; i < first + count; i++) {
        double x = value(input, i, column);
        if (isnan(x))
            continue;
        double deviation = x - origin - shift;
        squares += deviation * deviation;
    }
    moments.std = sqrt(squares / (n - 1));
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
        double reward = row_reward(input, row, 0);
        if (!isnan(reward) && fabs(reward) > (double)FLT_MAX)
            return error_set(err, COHORT_ERR_REWARD, "weighted reward of row %d is %g: it must be within %g", row,
                             reward, (double)FLT_MAX);
    }
    return COHORT_OK;
}

/* The deviation that says whether there is a signal, and by which advantages are divided if they are scaled. */
static double scale_std(const struct advantage_input *input, const struct moments *batch, const struct moments *group)
{
    switch (input->scale) {
    case ADVANTAGE_SCALE_BATCH: return input->n_rows > 1 ? batch->std : 0.0;
    case ADVANTAGE_SCALE_GROUP:
    case ADVANTAGE_SCALE_NONE: break;
    }
    return input->group > 1 ? group->std : 0.0;
}

static double group_advantage(double reward, double mean, double std, enum advantage_scale scale)
{
    double advantage = reward - mean;
    if (scale != ADVANTAGE_SCALE_NONE)
        advantage /= std + STD_EPSILON;
    /* A row that cannot be scored, or a single value, which has no deviation: there is no learning signal. */
    return isnan(advantage) ? 0.0 : advantage;
}

cohort_status advantage_compute(const struct advantage_input *input, struct advantage_output *output, cohort_error *err)
{
    TRY(check_input(input, err));
    assert(output->advantage && output->reward && output->function_mean && output->function_std);

    struct moments batch = moments_of(row_reward, input, 0, 0, input->n_rows);
    int64_t zero_std = 0;
    for (int32_t first = 0; first < input->n_rows; first += input->group) {
        struct moments group = moments_of(row_reward, input, 0, first, input->group);
        double std = scale_std(input, &batch, &group);
        if (fabs(std) <= ZERO_STD)
            zero_std += input->group;
        for (int32_t row = first; row < first + input->group; row++) {
            double reward = row_reward(input, row, 0);
            output->reward[row] = (float)reward;
            output->advantage[row] = (float)group_advantage(reward, group.mean, std, input->scale);
        }
    }
    output->reward_mean = batch.mean;
    output->reward_std = batch.std;
    output->frac_reward_zero_std = (double)zero_std / input->n_rows;
    for (int32_t f = 0; f < input->n_functions; f++) {
        struct moments moments = moments_of(function_value, input, f, 0, input->n_rows);
        output->function_mean[f] = moments.mean;
        output->function_std[f] = moments.std;
    }
    return COHORT_OK;
}

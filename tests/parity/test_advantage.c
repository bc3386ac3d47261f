/* Advantages and reward metrics against TRL (tests/fixtures/advantages/trl.json, oracle/advantage_trl.py), advantages of
 * tokens against their formulas in float64 (tokens.json, oracle/token_rewards.py). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "train/advantage.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_ROWS      64
#define MAX_FUNCTIONS 4

struct buffers {
    double rewards[MAX_ROWS * MAX_FUNCTIONS], weights[MAX_FUNCTIONS], penalty[MAX_ROWS];
    float advantage[MAX_ROWS], reward[MAX_ROWS];
    double function_mean[MAX_FUNCTIONS], function_std[MAX_FUNCTIONS];
};

static struct advantage_output output_of(struct buffers *buffers)
{
    return (struct advantage_output){.advantage = buffers->advantage,
                                     .reward = buffers->reward,
                                     .function_mean = buffers->function_mean,
                                     .function_std = buffers->function_std};
}

/* JSON null is NaN. */
static double number(const json_t *value) { return json_is_null(value) ? (double)NAN : json_number_value(value); }

static void check(const char *what, const char *name, size_t index, double got, double want, double tolerance)
{
    if (isnan(want) ? isnan(got) : fabs(got - want) <= tolerance * (1.0 + fabs(want)))
        return;
    fail_msg("%s of case %s at %zu: %.12g, expected %.12g", what, name, index, got, want);
}

static void check_result(const json_t *want, const char *name, const struct advantage_input *input,
                         const struct advantage_output *output, double tolerance)
{
    json_t *advantages = json_object_get(want, "advantages");
    assert_int_equal(json_array_size(advantages), input->n_rows);
    for (size_t i = 0; i < json_array_size(advantages); i++)
        check("advantage", name, i, (double)output->advantage[i], number(json_array_get(advantages, i)), tolerance);
    check("reward", name, 0, output->reward_mean, number(json_object_get(want, "reward")), tolerance);
    check("reward_std", name, 0, output->reward_std, number(json_object_get(want, "reward_std")), tolerance);
    /* TRL takes this mean in float32 in both runs. */
    check("frac_reward_zero_std", name, 0, output->frac_reward_zero_std,
          number(json_object_get(want, "frac_reward_zero_std")), 1e-7);
    for (size_t f = 0; f < (size_t)input->n_functions; f++) {
        check("function mean", name, f, output->function_mean[f],
              number(json_array_get(json_object_get(want, "function_mean"), f)), tolerance);
        check("function std", name, f, output->function_std[f],
              number(json_array_get(json_object_get(want, "function_std"), f)), tolerance);
    }
}

static void load_case(const json_t *item, struct buffers *buffers, struct advantage_input *input)
{
    json_t *rewards = json_object_get(item, "rewards"), *weights = json_object_get(item, "weights");
    const char *scale = json_string_value(json_object_get(item, "scale"));
    const json_t *penalty = json_object_get(item, "penalty"), *aggregation = json_object_get(item, "aggregation");
    size_t n = json_array_size(rewards), functions = json_array_size(weights);
    assert_in_range(n, 1, MAX_ROWS);
    assert_in_range(functions, 1, MAX_FUNCTIONS);
    for (size_t f = 0; f < functions; f++)
        buffers->weights[f] = json_number_value(json_array_get(weights, f));
    for (size_t i = 0; i < n; i++)
        for (size_t f = 0; f < functions; f++)
            buffers->rewards[i * functions + f] = number(json_array_get(json_array_get(rewards, i), f));
    for (size_t i = 0; penalty != NULL && i < n; i++)
        buffers->penalty[i] = json_number_value(json_array_get(penalty, i));
    *input = (struct advantage_input){
        .n_rows = (int32_t)n,
        .group = (int32_t)json_integer_value(json_object_get(item, "group")),
        .n_functions = (int32_t)functions,
        .rewards = buffers->rewards,
        .weights = buffers->weights,
        .penalty = penalty != NULL ? buffers->penalty : NULL,
        .config = {.scale = strcmp(scale, "group") == 0   ? ADVANTAGE_SCALE_GROUP
                            : strcmp(scale, "batch") == 0 ? ADVANTAGE_SCALE_BATCH
                                                          : ADVANTAGE_SCALE_NONE,
                   .estimator = json_object_get(item, "estimator") != NULL ? ADVANTAGE_RLOO : ADVANTAGE_GRPO,
                   .aggregation = aggregation != NULL ? ADVANTAGE_NORMALIZE_THEN_SUM : ADVANTAGE_SUM_THEN_NORMALIZE,
                   .epsilon = 1e-4},
    };
}

static void test_trl(void **state)
{
    (void)state;
    json_error_t error;
    json_t *root = json_load_file(COHORT_SOURCE_DIR "/tests/fixtures/advantages/trl.json", 0, &error);
    assert_non_null(root);
    json_t *cases = json_object_get(root, "cases"), *item;
    assert_int_equal(json_array_size(cases), 80);
    size_t index;
    json_array_foreach(cases, index, item)
    {
        static struct buffers buffers;
        struct advantage_input input;
        load_case(item, &buffers, &input);
        struct advantage_output output = output_of(&buffers);
        assert_int_equal(advantage_compute(&input, &output, NULL), COHORT_OK);
        char name[128];
        snprintf(name, sizeof name, "\"%s\", scale %s", json_string_value(json_object_get(item, "name")),
                 json_string_value(json_object_get(item, "scale")));
        /* The same formulas in double: what remains is the rounding of the advantage to float. */
        check_result(json_object_get(item, "float64"), name, &input, &output, 1e-7);
        /* As TRL trains, in float32: means and deviations carry a few roundings of 6e-8, divided by
         * the deviation. */
        check_result(json_object_get(item, "float32"), name, &input, &output, 1e-6);
    }
    json_decref(root);
}

/* Literals computed in float64 from the formulas (grpo.md 9.6). */
static void test_golden(void **state)
{
    (void)state;
    static const double rewards[12] = {1, 0, 0, 0, 1, 1, 1, 1, .5, 1, 0, 2};
    static const double want[3][12] = {
        {1.4997001, -.4999, -.4999, -.4999, 0, 0, 0, 0, -.4391036, .1463679, -1.0245751, 1.3173108},
        {1.2093727, -.4031242, -.4031242, -.4031242, 0, 0, 0, 0, -.6046864, .2015621, -1.4109348, 1.8140591},
        {.75, -.25, -.25, -.25, 0, 0, 0, 0, -.375, .125, -.875, 1.125}};
    double one = 1.0;
    static struct buffers buffers;
    struct advantage_output output = output_of(&buffers);
    for (int s = 0; s < 3; s++) {
        struct advantage_input input = {.n_rows = 12,
                                        .group = 4,
                                        .n_functions = 1,
                                        .rewards = rewards,
                                        .weights = &one,
                                        .config = {.scale = (enum advantage_scale)s, .epsilon = 1e-4}};
        assert_int_equal(advantage_compute(&input, &output, NULL), COHORT_OK);
        for (size_t i = 0; i < 12; i++) /* the literals have seven decimals; -.4999 is -.49990002 */
            check("advantage", "golden", i, (double)buffers.advantage[i], want[s][i], 6e-8);
    }
}

/* Equal rewards that float cannot hold exactly: advantages of exactly 0, whatever the group. In
 * float32 TRL gives such a group a deviation of one rounding and advantages around 6e-4. */
static void test_equal_rewards_are_exactly_zero(void **state)
{
    (void)state;
    static struct buffers buffers;
    double one = 1.0;
    for (int32_t group = 2; group <= 9; group++) {
        for (int32_t i = 0; i < group; i++)
            buffers.rewards[i] = 0.7;
        struct advantage_input input = {
            .n_rows = group, .group = group, .n_functions = 1, .rewards = buffers.rewards, .weights = &one};
        input.config = (struct advantage_config){.epsilon = group % 2 ? 0.0 : 1e-4}; /* 0 / 0 is no signal either */
        struct advantage_output output = output_of(&buffers);
        assert_int_equal(advantage_compute(&input, &output, NULL), COHORT_OK);
        for (int32_t i = 0; i < group; i++)
            assert_true(buffers.advantage[i] == 0.0f);
        assert_true(output.reward_std == 0.0 && output.frac_reward_zero_std == 1.0);
    }
}

static void test_null_rows(void **state)
{
    (void)state;
    static struct buffers buffers;
    const double null = (double)NAN;
    /* Row 1 by one function only, row 2 by none; the other group has one scorable row. */
    const double rewards[] = {1, 1, null, 2, null, null, 0, 1, null, null, 4, 4, null, null, null, null};
    const double weights[] = {1, 0.5};
    struct advantage_input input = {
        .n_rows = 8, .group = 4, .n_functions = 2, .rewards = rewards, .weights = weights, .config = {.epsilon = 1e-4}};
    struct advantage_output output = output_of(&buffers);
    assert_int_equal(advantage_compute(&input, &output, NULL), COHORT_OK);
    /* Rewards 1.5, 1, null, 0.5: mean 1, deviation 0.5. */
    check("value", "nulls", 0, (double)buffers.advantage[0], 0.5 / 0.5001, 1e-7);
    assert_true(buffers.advantage[1] == 0.0f && buffers.advantage[2] == 0.0f);
    check("value", "nulls", 0, (double)buffers.advantage[3], -0.5 / 0.5001, 1e-7);
    for (int i = 4; i < 8; i++)
        assert_true(buffers.advantage[i] == 0.0f);
    assert_true(isnan(buffers.reward[2]) && isnan(buffers.reward[7]));
    assert_true(buffers.reward[1] == 1.0f && buffers.reward[5] == 6.0f);
    check("value", "nulls", 0, output.reward_mean, 9.0 / 4, 1e-12);
    assert_true(output.frac_reward_zero_std == 0.0);
    check("value", "nulls", 0, output.function_mean[0], 5.0 / 3, 1e-12);
    check("value", "nulls", 0, output.function_mean[1], 2.0, 1e-12);
}

static void expect_error(const struct advantage_input *input, cohort_status status, const char *part)
{
    static struct buffers buffers;
    struct advantage_output output = output_of(&buffers);
    cohort_error err = {0};
    assert_int_equal(advantage_compute(input, &output, &err), status);
    if (!strstr(err.message, part))
        fail_msg("\"%s\" does not say \"%s\"", err.message, part);
}

/* REINFORCE++ (arXiv 2501.03262): normalised over the batch, from the batch's mean or the group's. The formulas by hand;
 * the batch's mean of group-centred rewards is 0 without nulls. */
static void test_reinforce_plus_plus(void **state)
{
    (void)state;
    static struct buffers buffers;
    static const double rewards[8] = {1, 0, 0, 3, 2, 2, 5, 1}, group_mean[2] = {1, 2.5};
    const double one = 1.0, epsilon = 1e-8;
    struct advantage_output output = output_of(&buffers);
    for (int baseline = 0; baseline < 2; baseline++) {
        double squares = 0;
        for (int i = 0; i < 8; i++) {
            const double a = rewards[i] - (baseline ? group_mean[i / 4] : 14.0 / 8);
            squares += a * a;
        }
        struct advantage_input input = {
            .n_rows = 8,
            .group = 4,
            .n_functions = 1,
            .rewards = rewards,
            .weights = &one,
            .config = {.scale = ADVANTAGE_SCALE_BATCH,
                       .estimator = baseline ? ADVANTAGE_REINFORCE_PLUS_PLUS_BASELINE : ADVANTAGE_REINFORCE_PLUS_PLUS,
                       .epsilon = epsilon}};
        assert_int_equal(advantage_compute(&input, &output, NULL), COHORT_OK);
        for (size_t i = 0; i < 8; i++)
            check("advantage", "reinforce++", i, (double)buffers.advantage[i],
                  (rewards[i] - (baseline ? group_mean[i / 4] : 14.0 / 8)) / (sqrt(squares / 7) + epsilon), 1e-7);
    }
}

/* The penalty is in the advantages and in what tells whether there is a signal, not in the reward that is logged. */
static void test_penalty(void **state)
{
    (void)state;
    static struct buffers buffers;
    static const double rewards[4] = {1, 1, 2, 2}, penalty[4] = {0, 0.5, 0, 0};
    const double one = 1.0;
    struct advantage_input input = {.n_rows = 4,
                                    .group = 2,
                                    .n_functions = 1,
                                    .rewards = rewards,
                                    .weights = &one,
                                    .penalty = penalty,
                                    .config = {.scale = ADVANTAGE_SCALE_NONE}};
    struct advantage_output output = output_of(&buffers);
    assert_int_equal(advantage_compute(&input, &output, NULL), COHORT_OK);
    assert_true(buffers.advantage[0] == 0.25f && buffers.advantage[1] == -0.25f && buffers.advantage[2] == 0.0f);
    assert_true(output.reward_mean == 1.5 && buffers.reward[1] == 1.0f && output.frac_reward_zero_std == 0.5);
}

static void test_bad_input(void **state)
{
    (void)state;
    double rewards[] = {1, 2, 3, 4}, weights[] = {1};
    const struct advantage_input good = {
        .n_rows = 4, .group = 2, .n_functions = 1, .rewards = rewards, .weights = weights};
    struct advantage_input input = good;
    input.group = 3;
    expect_error(&input, COHORT_ERR_ARGUMENT, "4 rows in groups of 3");
    input.group = 0;
    expect_error(&input, COHORT_ERR_ARGUMENT, "groups of 0");
    input = good;
    input.n_rows = 0;
    expect_error(&input, COHORT_ERR_ARGUMENT, "0 rows");
    input = good;
    input.n_functions = 0;
    expect_error(&input, COHORT_ERR_ARGUMENT, "0 reward functions");
    weights[0] = (double)NAN;
    expect_error(&good, COHORT_ERR_ARGUMENT, "weight of reward function 0");
    weights[0] = 1;
    rewards[2] = -(double)INFINITY;
    expect_error(&good, COHORT_ERR_REWARD, "row 2 is infinite");
    rewards[2] = 1e39;
    expect_error(&good, COHORT_ERR_REWARD, "row 2 is 1e+39");
    rewards[2] = 1;
    const double penalty[] = {0, 0, (double)INFINITY, 0};
    input = good;
    input.penalty = penalty;
    expect_error(&input, COHORT_ERR_NUMERIC, "KL in the reward of row 2 is inf");
    input = good;
    input.config.estimator = ADVANTAGE_REINFORCE_PLUS_PLUS;
    expect_error(&input, COHORT_ERR_ARGUMENT, "leave scale_rewards out, or give batch");
    input.config =
        (struct advantage_config){.aggregation = ADVANTAGE_NORMALIZE_THEN_SUM, .scale = ADVANTAGE_SCALE_NONE};
    expect_error(&input, COHORT_ERR_ARGUMENT, "leave scale_rewards out");
    input.config = (struct advantage_config){.aggregation = ADVANTAGE_NORMALIZE_THEN_SUM, .estimator = ADVANTAGE_RLOO};
    expect_error(&input, COHORT_ERR_ARGUMENT, "only advantage_estimator grpo");
    assert_int_equal(
        advantage_check(&(struct advantage_config){.aggregation = ADVANTAGE_NORMALIZE_THEN_SUM}, true, NULL),
        COHORT_ERR_ARGUMENT);
}

/* Advantages of pass@k by their definition: over every k of the group, whether one of them passes. */
static void enumerate(const double *rewards, int n, int k, double *advantage, double *std)
{
    double all = 0.0, with[8] = {0};
    int subsets = 0, having[8] = {0};
    for (unsigned set = 0; set < 1u << n; set++) {
        int size = 0;
        bool passes = false;
        for (int i = 0; i < n; i++)
            if ((set >> i & 1) != 0) {
                size++;
                passes = passes || rewards[i] > 0.0;
            }
        if (size != k)
            continue;
        subsets++;
        all += passes ? 1.0 : 0.0;
        for (int i = 0; i < n; i++)
            if ((set >> i & 1) != 0) {
                having[i]++;
                with[i] += passes ? 1.0 : 0.0;
            }
    }
    const double mean = all / subsets;
    *std = sqrt(mean * (1.0 - mean));
    for (int i = 0; i < n; i++)
        advantage[i] = with[i] / having[i] - mean;
}

/* Every pattern of up to eight completions, for every k; a null row is as if it were not there. */
static void test_pass_at_k(void **state)
{
    (void)state;
    static struct buffers buffers;
    struct advantage_output output = output_of(&buffers);
    const double one = 1.0;
    int checked = 0;
    for (int n = 2; n <= 8; n++)
        for (unsigned pattern = 0; pattern < 1u << n; pattern++)
            for (int k = 1; k <= n; k++)
                for (int undivided = 0; undivided < 2; undivided++) {
                    double rewards[9], want[8], std = 0.0;
                    for (int i = 0; i < n; i++)
                        rewards[i] = (pattern >> i & 1) != 0 ? 0.5 + i : -(double)(i % 2);
                    rewards[n] = (double)NAN;
                    enumerate(rewards, n, k, want, &std);
                    struct advantage_input input = {
                        .n_rows = n + 1,
                        .group = n + 1,
                        .n_functions = 1,
                        .rewards = rewards,
                        .weights = &one,
                        .config = {.estimator = ADVANTAGE_PASS_AT_K,
                                   .scale = undivided ? ADVANTAGE_SCALE_NONE : ADVANTAGE_SCALE_GROUP,
                                   .k = k,
                                   .epsilon = 1e-4}};
                    assert_int_equal(advantage_compute(&input, &output, NULL), COHORT_OK);
                    for (int i = 0; i < n; i++, checked++)
                        check("advantage", "pass@k", (size_t)i, (double)buffers.advantage[i],
                              undivided ? want[i] : want[i] / (std + 1e-4), 1e-7);
                    assert_true(buffers.advantage[n] == 0.0f);
                    assert_true(output.frac_reward_zero_std == (std > 0.0 ? 0.0 : 1.0));
                }
    assert_true(checked > 40000);
    /* A group without k scorable completions teaches nothing. */
    const double few[4] = {1.0, 0.0, (double)NAN, (double)NAN};
    struct advantage_input input = {.n_rows = 4,
                                    .group = 4,
                                    .n_functions = 1,
                                    .rewards = few,
                                    .weights = &one,
                                    .config = {.estimator = ADVANTAGE_PASS_AT_K, .k = 3, .epsilon = 1e-4}};
    assert_int_equal(advantage_compute(&input, &output, NULL), COHORT_OK);
    for (int i = 0; i < 4; i++)
        assert_true(buffers.advantage[i] == 0.0f);
    input.config.scale = ADVANTAGE_SCALE_BATCH;
    assert_int_equal(advantage_compute(&input, &output, NULL), COHORT_ERR_ARGUMENT);
}

/* Which groups can teach: three in one input, by several rules. */
static void test_spreads(void **state)
{
    (void)state;
    const double two[2] = {1.0, 0.5}, nothing = (double)NAN;
    /* Two functions; the sums of group 0 differ, those of group 1 do not though its parts do, group 2 has one row that is
     * scored. */
    double rewards[12 * 2] = {1, 0, 0, 0, 1, 1, 0, 2, 1, 0, 0, 2, 1, 0, 0, 2, 1, 1};
    for (int i = 9; i < 12; i++)
        rewards[2 * i] = rewards[2 * i + 1] = nothing;
    rewards[16] = rewards[18] = rewards[20] = nothing;
    rewards[17] = rewards[19] = rewards[21] = nothing;
    struct advantage_input input = {
        .n_rows = 12, .group = 4, .n_functions = 2, .rewards = rewards, .weights = two, .config = {.epsilon = 1e-4}};
    assert_true(advantage_spreads(&input, 0));
    assert_false(advantage_spreads(&input, 1));
    assert_false(advantage_spreads(&input, 2));
    input.config.aggregation = ADVANTAGE_NORMALIZE_THEN_SUM;
    assert_true(advantage_spreads(&input, 0));
    assert_true(advantage_spreads(&input, 1));
    assert_false(advantage_spreads(&input, 2));
    /* All above 0 pass; with one failure of four and k = 2, every two have one that passes. */
    double passes[12] = {1, 2, 3, 4, 1, 1, 1, 0, 1, 1, 0, 0};
    const double one = 1.0;
    input = (struct advantage_input){.n_rows = 12,
                                     .group = 4,
                                     .n_functions = 1,
                                     .rewards = passes,
                                     .weights = &one,
                                     .config = {.estimator = ADVANTAGE_PASS_AT_K, .k = 2, .epsilon = 1e-4}};
    assert_false(advantage_spreads(&input, 0));
    assert_false(advantage_spreads(&input, 1));
    assert_true(advantage_spreads(&input, 2));
    input.config.k = 1;
    assert_true(advantage_spreads(&input, 1));
    passes[0] = (double)INFINITY; /* an error, which who computes advantages tells */
    assert_true(advantage_spreads(&input, 0));
}

/* ---- Rewards of tokens ---- */

#define MAX_LIST 8

struct token_buffers {
    double lists[MAX_ROWS * MAX_FUNCTIONS][MAX_LIST];
    double *list[MAX_ROWS * MAX_FUNCTIONS];
    float tokens[MAX_ROWS][MAX_LIST];
    float *row[MAX_ROWS];
    int32_t n_tokens[MAX_ROWS];
};

/* The word's index. */
static int index_of(const char *const *words, const char *word)
{
    int i = 0;
    while (strcmp(words[i], word) != 0)
        i++;
    return i;
}

static void load_tokens(const json_t *item, struct buffers *buffers, struct token_buffers *tokens,
                        struct advantage_input *input)
{
#define WORD(id, word) word,
    static const char *const scales[] = {ADVANTAGE_SCALE_LIST(WORD)},
                             *const estimators[] = {ADVANTAGE_ESTIMATOR_LIST(WORD)},
                             *const aggregations[] = {ADVANTAGE_AGGREGATION_LIST(WORD)};
    json_t *rewards = json_object_get(item, "rewards"), *weights = json_object_get(item, "weights");
    const size_t n = json_array_size(rewards), functions = json_array_size(weights);
    memset(tokens, 0, sizeof *tokens);
    for (size_t f = 0; f < functions; f++)
        buffers->weights[f] = json_number_value(json_array_get(weights, f));
    for (size_t i = 0; i < n; i++) {
        tokens->n_tokens[i] = (int32_t)json_integer_value(json_array_get(json_object_get(item, "n_tokens"), i));
        tokens->row[i] = tokens->tokens[i];
        for (size_t f = 0; f < functions; f++) {
            const json_t *given = json_array_get(json_array_get(rewards, i), f);
            const size_t k = i * functions + f;
            buffers->rewards[k] = json_is_array(given) ? 0.0 : number(given);
            if (!json_is_array(given))
                continue;
            tokens->list[k] = tokens->lists[k];
            bool any = false;
            for (int32_t t = 0; t < tokens->n_tokens[i]; t++) {
                const double value = number(json_array_get(given, (size_t)t));
                tokens->list[k][t] = value;
                buffers->rewards[k] += isnan(value) ? 0.0 : value;
                any = any || !isnan(value);
            }
            if (!any)
                buffers->rewards[k] = (double)NAN;
        }
    }
    *input = (struct advantage_input){
        .n_rows = (int32_t)n,
        .group = (int32_t)json_integer_value(json_object_get(item, "group")),
        .n_functions = (int32_t)functions,
        .rewards = buffers->rewards,
        .lists = tokens->list,
        .n_tokens = tokens->n_tokens,
        .weights = buffers->weights,
        .config = {.scale = (enum advantage_scale)index_of(scales, json_string_value(json_object_get(item, "scale"))),
                   .estimator = (enum advantage_estimator)index_of(
                       estimators, json_string_value(json_object_get(item, "estimator"))),
                   .aggregation = (enum advantage_aggregation)index_of(
                       aggregations, json_string_value(json_object_get(item, "aggregation"))),
                   .epsilon = 1e-4}};
}

static void test_tokens(void **state)
{
    (void)state;
    json_error_t error;
    json_t *root = json_load_file(COHORT_SOURCE_DIR "/tests/fixtures/advantages/tokens.json", 0, &error), *item;
    assert_non_null(root);
    json_t *cases = json_object_get(root, "cases");
    assert_int_equal(json_array_size(cases), 109);
    size_t index;
    json_array_foreach(cases, index, item)
    {
        static struct buffers buffers;
        static struct token_buffers tokens;
        struct advantage_input input;
        char name[32];
        load_tokens(item, &buffers, &tokens, &input);
        struct advantage_output output = output_of(&buffers);
        output.tokens = tokens.row;
        snprintf(name, sizeof name, "%zu", index);
        assert_int_equal(advantage_compute(&input, &output, NULL), COHORT_OK);
        for (int32_t i = 0; i < input.n_rows; i++) {
            const json_t *want = json_array_get(json_object_get(item, "advantages"), (size_t)i);
            double sum = 0.0;
            assert_int_equal(json_array_size(want), tokens.n_tokens[i]);
            for (int32_t t = 0; t < tokens.n_tokens[i]; t++) { /* rounded to float once */
                check("advantage", name, (size_t)(100 * i + t), (double)tokens.tokens[i][t],
                      json_number_value(json_array_get(want, (size_t)t)), 1e-7);
                sum += (double)tokens.tokens[i][t];
            }
            check("advantage", name, (size_t)i, (double)buffers.advantage[i], sum / tokens.n_tokens[i], 1e-7);
        }
        check("frac_reward_zero_std", name, 0, output.frac_reward_zero_std,
              json_number_value(json_object_get(item, "frac_reward_zero_std")), 1e-12);
    }
    json_decref(root);
}

/* A number for a completion is the same as a list with it at the last token, bit for bit, in every estimator. */
static void test_last_token(void **state)
{
    (void)state;
    json_error_t error;
    json_t *root = json_load_file(COHORT_SOURCE_DIR "/tests/fixtures/advantages/trl.json", 0, &error), *item;
    assert_non_null(root);
    size_t index;
    json_array_foreach(json_object_get(root, "cases"), index, item)
    {
        static struct buffers whole, listed;
        static struct token_buffers tokens;
        struct advantage_input input;
        load_case(item, &whole, &input);
        struct advantage_output output = output_of(&whole);
        if (input.penalty != NULL)
            continue;
        assert_int_equal(advantage_compute(&input, &output, NULL), COHORT_OK);
        const bool spreads = advantage_spreads(&input, 0);
        for (int32_t i = 0; i < input.n_rows; i++) {
            tokens.n_tokens[i] = 1 + i % MAX_LIST;
            tokens.row[i] = tokens.tokens[i];
            for (int32_t f = 0; f < input.n_functions; f++) {
                const int32_t k = i * input.n_functions + f;
                tokens.list[k] = (i + f) % 3 == 0 ? NULL : tokens.lists[k];
                for (int32_t t = 0; t < tokens.n_tokens[i]; t++)
                    tokens.lists[k][t] = t + 1 == tokens.n_tokens[i] ? input.rewards[k] : (double)NAN;
            }
        }
        input.lists = tokens.list;
        input.n_tokens = tokens.n_tokens;
        struct advantage_output again = output_of(&listed);
        again.tokens = tokens.row;
        assert_int_equal(advantage_compute(&input, &again, NULL), COHORT_OK);
        assert_int_equal(advantage_spreads(&input, 0), spreads);
        for (int32_t i = 0; i < input.n_rows; i++)
            for (int32_t t = 0; t < tokens.n_tokens[i]; t++)
                if (memcmp(&tokens.tokens[i][t], &whole.advantage[i], sizeof(float)) != 0)
                    fail_msg("case %zu, row %d, token %d: %.9g, of the row %.9g", index, (int)i, (int)t,
                             (double)tokens.tokens[i][t], (double)whole.advantage[i]);
    }
    json_decref(root);
}

/* What does not go with rewards of tokens, and what makes a group worth keeping. */
static void test_tokens_with_switches(void **state)
{
    (void)state;
    double up[2] = {1, 0}, nothing[2] = {(double)NAN, (double)NAN}, rewards[2] = {1, 1}, penalty[2] = {0}, one = 1;
    double *lists[2] = {up, up};
    const int32_t n_tokens[2] = {2, 2};
    float row[2][2], *rows[2] = {row[0], row[1]};
    const struct advantage_input good = {.n_rows = 2,
                                         .group = 2,
                                         .n_functions = 1,
                                         .rewards = rewards,
                                         .lists = lists,
                                         .n_tokens = n_tokens,
                                         .weights = &one,
                                         .config = {.epsilon = 1e-4}};
    static struct buffers buffers;
    struct advantage_output output = output_of(&buffers);
    struct advantage_input input = good;
    output.tokens = rows;
    assert_true(advantage_spreads(&good, 0)); /* the sums are equal, the steps are not */
    assert_int_equal(advantage_compute(&good, &output, NULL), COHORT_OK);
    assert_true(row[0][0] == 0.0f && row[0][1] < 0.0f && output.reward_std == 0.0 &&
                output.frac_reward_zero_std == 0.0);
    lists[1] = nothing;
    rewards[1] = (double)NAN;
    up[1] = (double)NAN;
    assert_false(advantage_spreads(&good, 0)); /* one event */
    assert_int_equal(advantage_compute(&good, &output, NULL), COHORT_OK);
    assert_true(row[0][0] == 0.0f && row[1][1] == 0.0f);
    input.config = (struct advantage_config){.estimator = ADVANTAGE_PASS_AT_K, .k = 2, .epsilon = 1e-4};
    expect_error(&input, COHORT_ERR_ARGUMENT, "pass_at_k asks of a whole completion");
    input = good;
    input.penalty = penalty;
    expect_error(&input, COHORT_ERR_ARGUMENT, "leave kl_in_reward out");
    up[0] = (double)INFINITY;
    expect_error(&good, COHORT_ERR_REWARD, "weighted reward of row 0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trl),
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_equal_rewards_are_exactly_zero),
        cmocka_unit_test(test_null_rows),
        cmocka_unit_test(test_reinforce_plus_plus),
        cmocka_unit_test(test_penalty),
        cmocka_unit_test(test_pass_at_k),
        cmocka_unit_test(test_spreads),
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_last_token),
        cmocka_unit_test(test_tokens_with_switches),
        cmocka_unit_test(test_bad_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* For tests that take random draws of switches and divide a step in two ways: the draws, and the comparison of the two
 * steps. Included by programs of cmocka, once. Arguments: [--draws N] [--seed S], beside those of all tests. */
#ifndef COHORT_TESTS_SPLIT_TEST_H
#define COHORT_TESTS_SPLIT_TEST_H

#include "support/model_test.h"

#include "base/rng.h"
#include "train/metrics.h"

static struct {
    uint64_t seed, draws;
} asked = {.seed = 1, .draws = 16};

static uint64_t draw_counter;

static inline double uniform(void)
{
    struct rng_block block = rng_philox(asked.seed, RNG_TEST, 1, draw_counter++);
    return (double)rng_uniform(block.word[0]);
}

static inline int pick(int n) { return (int)(uniform() * n) % n; }

/* How many draws a run of the test takes. */
static inline uint64_t n_draws(void) { return test_options.small ? (asked.draws + 3) / 4 : asked.draws; }

/* The gradient of a parameter, for free: with beta1 = 0 and no clipping the optimizer leaves it in the first moment. */
static inline float *step_gradient(const struct model_test *test, int32_t p)
{
    return fetched(test->backend, param_state(test->model->trained, p, PARAM_STATE_EXP_AVG),
                   (size_t)test->model->base.table.params[p].count * sizeof(float));
}

/* Names of clocks and rates differ in any two runs. */
static inline bool timed(const char *name)
{
    return strcmp(name, "step_time") == 0 || strncmp(name, "time/", 5) == 0 || strncmp(name, "throughput/", 11) == 0;
}

/* Two steps that should be one: their gradients by name, and their metrics. */
static inline void compare_steps(const char *words, struct model_test *whole, struct model_test *parts,
                                 const struct metrics *want, const struct metrics *got, struct tally *gradients,
                                 struct tally *values)
{
    for (int32_t p = 0; p < parts->model->base.table.n_params; p++) {
        const struct param *param = &parts->model->base.table.params[p];
        float *x = step_gradient(parts, p), *y = step_gradient(whole, p);
        tally_add(gradients, relative_norm(x, y, param->count), words, param->name);
        free(x);
        free(y);
    }
    assert_int_equal(want->count, got->count);
    for (size_t k = 0; k < want->count; k++) {
        const double a = want->items[k].value, b = metrics_get(got, want->items[k].name);
        if (timed(want->items[k].name) || (isnan(a) && isnan(b)))
            continue;
        tally_add(values, fabs(a - b) / (1.0 + fabs(a)), words, want->items[k].name);
    }
}

/* Takes this test's own arguments out of argv. */
static inline int own_arguments(int argc, char **argv)
{
    int kept = 1;
    for (int i = 1; i < argc; i++) {
        uint64_t *to = strcmp(argv[i], "--draws") == 0  ? &asked.draws
                       : strcmp(argv[i], "--seed") == 0 ? &asked.seed
                                                        : NULL;
        if (to != NULL && i + 1 < argc)
            *to = strtoull(argv[++i], NULL, 10);
        else
            argv[kept++] = argv[i];
    }
    return kept;
}

#endif

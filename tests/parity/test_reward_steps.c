/* A step of a reward model against TRL's RewardTrainer (oracle/reward_trl.py): metrics of a batch and the gradients by name,
 * with margins and with centred scores, and the weights after twenty steps. What both sides of a pair begin with is computed
 * once; TRL runs them apart. */
#include "support/preference_test.h"

struct sequences {
    int32_t tokens[MOST_PAIRS][2][MOST_TOKENS];
    struct completion_tokens completions[MOST_PAIRS][2];
    struct tree trees[MOST_PAIRS];
    double margins[MOST_PAIRS];
    int32_t n;
};

/* shared: both sides are one tree, with as much of a prompt as they have in common. Else the prompts are empty. */
static void read_sequences(struct sequences *s, const json_t *json, size_t first, size_t n, bool shared)
{
    static const char *const sides[2] = {"chosen_ids", "rejected_ids"};
    assert_true(n > 0 && n <= MOST_PAIRS && json_array_size(json) >= first + n);
    s->n = (int32_t)n;
    for (size_t i = 0; i < n; i++) {
        const json_t *row = json_array_get(json, first + i);
        int32_t length[2], same = 0;
        for (int c = 0; c < 2; c++)
            length[c] = read_ids(json_object_get(row, sides[c]), s->tokens[i][c], MOST_TOKENS);
        while (shared && same < length[0] && same < length[1] && s->tokens[i][0][same] == s->tokens[i][1][same])
            same++;
        for (int c = 0; c < 2; c++)
            s->completions[i][c] =
                (struct completion_tokens){.tokens = s->tokens[i][c] + same, .n_tokens = length[c] - same};
        s->trees[i] = (struct tree){
            .prompt = s->tokens[i][0], .n_prompt = same, .completions = s->completions[i], .n_completions = 2};
        s->margins[i] = json_number(row, "margin");
    }
}

static int64_t longest_row(const struct sequences *s)
{
    int64_t longest = 0;
    for (int32_t i = 0; i < s->n; i++)
        for (int c = 0; c < 2; c++) {
            const int64_t n = s->trees[i].n_prompt + s->completions[i][c].n_tokens;
            longest = n > longest ? n : longest;
        }
    return longest;
}

static struct preference_config config_of(const json_t *settings)
{
    const json_t *centre = json_object_get(settings, "center_rewards_coefficient");
    return (struct preference_config){
        .terms = {{PREFERENCE_REWARD, 1.0}}, .n_terms = 1, .centre = centre == NULL ? 0.0 : json_number_value(centre)};
}

static struct preference trainer(struct model_test *test, const json_t *settings, float beta1, double rate,
                                 double max_grad_norm)
{
    struct preference reward = {
        .model = test->model,
        .runner = &test->runner,
        .optimizer = {.beta1 = beta1, .beta2 = 0.999f, .eps = 1e-8f, .max_grad_norm = max_grad_norm},
        .schedule.learning_rate = rate,
        .config = config_of(settings)};
    test->runner.extras = preference_extras(&reward);
    return reward;
}

/* In micro-batches of so many tokens. */
static void check_run(struct backend *backend, const char *isa, int64_t micro_tokens, enum decoder_mode mode,
                      const struct preference_run *run, const struct sequences *s, struct tally *values,
                      struct tally *gradients)
{
    const json_t *settings = json_object_get(run->json, "settings");
    const struct preference_batch batch = {.trees = s->trees,
                                           .n = s->n,
                                           .margins =
                                               json_is_true(json_object_get(settings, "margins")) ? s->margins : NULL};
    struct model_test test;
    char what[100];
    model_test_open(&test, backend, "classifier_qwen3", DTYPE_F32);
    struct preference reward = trainer(&test, settings, 0.0f, 1e-3, 0.0);
    model_test_plan(&test, micro_tokens, 2 * MOST_PAIRS, mode, 0);
    snprintf(what, sizeof what, "%s, %s, %lld tokens", run->name, isa, (long long)micro_tokens);
    compare_run(&test, &reward, &batch, run, values, gradients, what);
    assert_int_equal(test.runner.packing.n_micro > 1, micro_tokens < 1000);
    preference_free(&reward);
    model_test_close(&test);
}

static void test_steps(void **state)
{
    (void)state;
    static struct sequences shared, apart;
    json_t *cases = load_json(FIXTURES "reward/cases.json"), *json;
    const json_t *pairs = json_object_get(cases, "pairs");
    struct safetensors expected = {0};
    cohort_error err = {0};
    /* Both sides sum 10^2 to 10^4 float products a number, in another order. */
    struct tally values = {.what = "values", .tolerance = 1e-5}, gradients = {.what = "gradients", .tolerance = 1e-5};
    const char *name, *isa;
    size_t n = 0;
    must(safetensors_open(&expected, FIXTURES "reward/expected.safetensors", &err), &err);
    read_sequences(&shared, pairs, 0, json_array_size(pairs), true);
    read_sequences(&apart, pairs, 0, json_array_size(pairs), false);
    for (size_t i = 0; (isa = test_provider(test_isas, N_TEST_ISAS, i)) != NULL; i++) {
        struct backend *backend = backend_here(isa, 2);
        if (backend == NULL)
            continue;
        json_object_foreach(json_object_get(cases, "runs"), name, json)
        {
            const int64_t stride = strcmp(name, "both") == 0 ? 1 : (int64_t)json_number(cases, "stride");
            const struct preference_run run = {name, json, stride, (int64_t)json_number(cases, "least"), &expected};
            /* Whole; in micro-batches of whole pairs; so that sides of a pair are apart; and nothing shared. */
            if (test_options.small && stride > 1)
                continue;
            check_run(backend, isa, 1000, DECODER_TRAIN, &run, &shared, &values, &gradients);
            check_run(backend, isa, 50, DECODER_RECOMPUTE, &run, &shared, &values, &gradients);
            check_run(backend, isa, longest_row(&shared), DECODER_TRAIN, &run, &shared, &values, &gradients);
            check_run(backend, isa, 1000, DECODER_TRAIN, &run, &apart, &values, &gradients);
            n++;
        }
        backend_destroy(backend);
    }
    assert_true(n >= (test_options.small ? 1 : 4));
    tally_report(&values);
    tally_report(&gradients);
    safetensors_close(&expected);
    json_decref(cases);
}

/* Twenty steps against TRL's weights: by tensor, the difference as a share of how far the tensor has moved. */
static void test_twenty(void **state)
{
    (void)state;
    static struct sequences s;
    json_t *cases = load_json(FIXTURES "reward/cases.json"), *twenty = json_object_get(cases, "twenty"), *step;
    const size_t batch_size = (size_t)json_number(twenty, "batch");
    struct safetensors expected = {0};
    struct tally values = {.what = "metrics", .tolerance = 1e-4}, weights = {.what = "weights", .tolerance = 0.01};
    cohort_error err = {0};
    struct backend *backend = backend_here(test_provider(test_isas, N_TEST_ISAS, 0), 2);
    struct model_test test, start;
    struct metrics metrics = {0};
    size_t i;
    assert_non_null(backend);
    must(safetensors_open(&expected, FIXTURES "reward/expected.safetensors", &err), &err);
    model_test_open(&test, backend, "classifier_qwen3", DTYPE_F32);
    model_test_open(&start, backend, "classifier_qwen3", DTYPE_F32);
    struct preference reward = trainer(&test, NULL, 0.9f, 1e-4, 1.0);
    model_test_plan(&test, 60, 2 * MOST_PAIRS, DECODER_TRAIN, 0);
    json_array_foreach(json_object_get(twenty, "steps"), i, step)
    {
        char what[32];
        read_sequences(&s, json_object_get(twenty, "pairs"), i * batch_size, batch_size, true);
        const struct preference_batch batch = {.trees = s.trees, .n = s.n, .margins = s.margins};
        snprintf(what, sizeof what, "step %d", (int)i + 1);
        must(preference_step(&reward, &batch, &metrics, &err), &err);
        compare_metrics(&metrics, "", step, &values, what);
    }
    assert_int_equal(i, 20);
    compare_weights(test.model, start.model, "twenty.", 1, INT64_MAX, &expected, &weights, "after twenty steps");
    tally_report(&values);
    tally_report(&weights);
    metrics_free(&metrics);
    preference_free(&reward);
    model_test_close(&test);
    model_test_close(&start);
    safetensors_close(&expected);
    backend_destroy(backend);
    json_decref(cases);
}

/* ---- Central differences ---- */

static double loss_of(struct preference *reward, const struct preference_batch *batch)
{
    struct metrics metrics = {0};
    cohort_error err = {0};
    must(preference_evaluate(reward, batch, &metrics, &err), &err);
    const double loss = metrics_get(&metrics, "eval_loss");
    metrics_free(&metrics);
    return loss;
}

/* Moves the whole model along its gradient: the loss must change by the norm of the gradient times the way. */
static void test_differences(void **state)
{
    (void)state;
    static struct sequences s;
    json_t *cases = load_json(FIXTURES "reward/cases.json");
    const json_t *settings = json_object_get(json_object_get(json_object_get(cases, "runs"), "both"), "settings");
    cohort_error err = {0};
    struct backend *backend = backend_here(test_provider(test_isas, N_TEST_ISAS, 0), 2);
    struct model_test test, start;
    struct metrics metrics = {0};
    double loss[2], norm = 0.0;
    const double way = 2e-3;
    assert_non_null(backend);
    read_sequences(&s, json_object_get(cases, "pairs"), 0, json_array_size(json_object_get(cases, "pairs")), true);
    const struct preference_batch batch = {.trees = s.trees, .n = s.n, .margins = s.margins};
    model_test_open(&start, backend, "classifier_qwen3", DTYPE_F32);
    model_test_open(&test, backend, "classifier_qwen3", DTYPE_F32);
    struct preference reward = trainer(&test, settings, 0.0f, 1e-3, 0.0);
    model_test_plan(&test, 1000, 2 * MOST_PAIRS, DECODER_TRAIN, 0);
    must(preference_step(&reward, &batch, &metrics, &err), &err);
    norm = metrics_get(&metrics, "grad_norm");
    for (int side = 0; side < 2; side++) {
        for (int32_t p = 0; p < test.model->base.table.n_params; p++) {
            const struct param *param = &test.model->base.table.params[p];
            float *value = fetched_tensor(start.model, param),
                  *gradient = fetched(backend, param_state(test.model->trained, p, PARAM_STATE_EXP_AVG),
                                      (size_t)param->count * sizeof(float));
            for (int64_t i = 0; i < param->count; i++)
                value[i] += (float)((side == 0 ? way : -way) * (double)gradient[i] / norm);
            must(param_set_store(&test.model->base, param, 0, param->count, value, &err), &err);
            free(value);
            free(gradient);
        }
        model_refresh(test.model);
        loss[side] = loss_of(&reward, &batch);
    }
    const double slope = (loss[0] - loss[1]) / (2.0 * way);
    print_message("slope %.6f, norm of the gradient %.6f\n", slope, norm);
    /* The third derivative along the gradient, and losses rounded to 1e-7 of their size. */
    assert_true(fabs(slope - norm) < 1e-3 * norm);
    metrics_free(&metrics);
    preference_free(&reward);
    model_test_close(&test);
    model_test_close(&start);
    backend_destroy(backend);
    json_decref(cases);
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_steps), cmocka_unit_test(test_twenty),
                                       cmocka_unit_test(test_differences)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

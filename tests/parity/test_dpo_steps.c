/* A step of dpo against TRL's DPOTrainer (oracle/dpo_trl.py): metrics of a batch and the gradients by name of each loss and
 * switch, and the weights after twenty steps. */
#include "support/preference_test.h"

/* Tokens that the longest prompt and completion feed. */
static int64_t longest_row(const struct pairs *pairs)
{
    int64_t longest = 0;
    for (int32_t i = 0; i < pairs->n; i++)
        for (int c = 0; c < 2; c++) {
            const int64_t n = pairs->trees[i].n_prompt + completion_fed(&pairs->completions[i][c]);
            longest = n > longest ? n : longest;
        }
    return longest;
}

static const char *const loss_words[] = {
#define WORD(id, word, ...) word,
    DPO_LOSS_LIST(WORD)
#undef WORD
};
static const char *const divergence_words[] = {
#define WORD(id, word) word,
    PREFERENCE_DIVERGENCE_LIST(WORD)
#undef WORD
};

static int word_of(const char *const *words, size_t n, const char *word)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(words[i], word) == 0)
            return (int)i;
    fail_msg("no choice is called %s", word);
    return 0;
}

static void add_term(struct preference_config *config, const char *word, double weight)
{
    const int loss = word_of(loss_words, sizeof loss_words / sizeof *loss_words, word);
    config->terms[config->n_terms].loss = (enum preference_loss)loss;
    config->terms[config->n_terms++].weight = weight;
}

static struct preference_config config_of(const json_t *settings)
{
    struct preference_config config = {.beta = 0.1, .alpha_coef = 0.5, .discopop_tau = 0.05};
    const json_t *types = json_object_get(settings, "loss_type"), *weights = json_object_get(settings, "loss_weights");
    const json_t *divergence = json_object_get(settings, "f_divergence_type");
    for (size_t i = 0; i < json_array_size(types); i++)
        add_term(&config, json_string_value(json_array_get(types, i)), json_number_value(json_array_get(weights, i)));
    if (config.n_terms == 0)
        add_term(&config, types == NULL ? "sigmoid" : json_string_value(types), 1.0);
    if (json_object_get(settings, "beta") != NULL)
        config.beta = json_number(settings, "beta");
    if (json_object_get(settings, "label_smoothing") != NULL)
        config.label_smoothing = json_number(settings, "label_smoothing");
    if (divergence != NULL)
        config.divergence = (enum preference_divergence)word_of(
            divergence_words, sizeof divergence_words / sizeof *divergence_words, json_string_value(divergence));
    if (json_object_get(settings, "f_alpha_divergence_coef") != NULL)
        config.alpha_coef = json_number(settings, "f_alpha_divergence_coef");
    if (json_object_get(settings, "ld_alpha") != NULL) {
        config.long_tail = true;
        config.ld_alpha = json_number(settings, "ld_alpha");
    }
    config.weighting = json_is_true(json_object_get(settings, "use_weighting"));
    return config;
}

/* With micro-batches of so many tokens. */
static void check_run(struct backend *backend, const char *isa, int64_t micro_tokens, const struct preference_run *run,
                      const struct pairs *pairs, struct tally *values, struct tally *gradients)
{
    const struct preference_batch batch = {.trees = pairs->trees, .n = pairs->n, .reference = pairs->reference};
    struct model_test test;
    char what[100];
    cohort_error err = {0};
    model_test_open(&test, backend, "model_tied", DTYPE_F32);
    struct preference dpo = {.model = test.model,
                             .runner = &test.runner,
                             .optimizer = {.beta1 = 0.0f, .beta2 = 0.999f, .eps = 1e-8f},
                             .schedule.learning_rate = 1e-3,
                             .config = config_of(json_object_get(run->json, "settings"))};
    must(preference_check(&dpo.config, &err), &err);
    test.runner.extras = preference_extras(&dpo);
    model_test_plan(&test, micro_tokens, 2 * MOST_PAIRS, DECODER_TRAIN, 0);
    snprintf(what, sizeof what, "%s, %s, %lld tokens", run->name, isa, (long long)micro_tokens);
    compare_run(&test, &dpo, &batch, run, values, gradients, what);
    assert_int_equal(test.runner.packing.n_micro > 1, micro_tokens < 1000);
    assert_int_equal(test.runner.packing.n_slices > pairs->n, micro_tokens < 60);
    preference_free(&dpo);
    model_test_close(&test);
}

static bool is_whole(const json_t *cases, const char *name)
{
    size_t i;
    json_t *one;
    json_array_foreach(json_object_get(cases, "whole"), i,
                       one) if (strcmp(json_string_value(one), name) == 0) return true;
    return false;
}

static void test_losses(void **state)
{
    (void)state;
    static struct pairs pairs;
    json_t *cases = load_json(FIXTURES "dpo/cases.json"), *run;
    struct safetensors expected = {0};
    cohort_error err = {0};
    /* Both sides sum 10^2 to 10^4 float products a number, in another order; a sum of log-probs is rounded to a float by
     * TRL, of -100 to 4e-6, and a difference of two sums is what losses see. */
    struct tally values = {.what = "values", .tolerance = 1e-5}, gradients = {.what = "gradients", .tolerance = 1e-5};
    const char *name, *isa;
    size_t n = 0;
    must(safetensors_open(&expected, FIXTURES "dpo/gradients.safetensors", &err), &err);
    read_pairs(&pairs, json_object_get(cases, "pairs"), 0, json_array_size(json_object_get(cases, "pairs")));
    for (size_t i = 0; (isa = test_provider(test_isas, N_TEST_ISAS, i)) != NULL; i++) {
        struct backend *backend = backend_here(isa, 2);
        if (backend == NULL)
            continue;
        json_object_foreach(json_object_get(cases, "runs"), name, run)
        {
            /* Whole; in micro-batches of whole pairs; and so that sides of a pair are apart. */
            const int64_t sizes[] = {1000, 60, longest_row(&pairs)};
            const struct preference_run one = {name, run,
                                               is_whole(cases, name) ? 1 : (int64_t)json_number(cases, "stride"),
                                               (int64_t)json_number(cases, "least"), &expected};
            for (size_t s = 0; s < 3; s++)
                check_run(backend, isa, sizes[s], &one, &pairs, &values, &gradients);
            n++;
        }
        backend_destroy(backend);
    }
    assert_true(n >= 25);
    tally_report(&values);
    tally_report(&gradients);
    safetensors_close(&expected);
    json_decref(cases);
}

/* Twenty steps with the reference beside the policy, against TRL's weights: by tensor, the difference as a share of how far
 * the tensor has moved. */
static void test_twenty(void **state)
{
    (void)state;
    static struct pairs pairs;
    json_t *cases = load_json(FIXTURES "dpo/cases.json"), *twenty = json_object_get(cases, "twenty"), *step;
    const size_t batch_size = (size_t)json_number(twenty, "batch");
    struct safetensors expected = {0};
    struct tally values = {.what = "metrics", .tolerance = 1e-4}, weights = {.what = "weights", .tolerance = 0.01};
    cohort_error err = {0};
    struct backend *backend = backend_here(test_provider(test_isas, N_TEST_ISAS, 0), 2);
    struct model_test test, start;
    struct metrics metrics = {0};
    size_t i;
    assert_non_null(backend);
    must(safetensors_open(&expected, FIXTURES "dpo/twenty/model.safetensors", &err), &err);
    model_test_open(&test, backend, "model_tied", DTYPE_F32);
    model_test_open(&start, backend, "model_tied", DTYPE_F32);
    struct preference dpo = {.model = test.model,
                             .runner = &test.runner,
                             .reference = start.model,
                             .optimizer = {.beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .max_grad_norm = 1.0},
                             .schedule.learning_rate = 1e-3,
                             .config = config_of(NULL)};
    test.runner.extras = preference_extras(&dpo);
    model_test_plan(&test, 60, 2 * MOST_PAIRS, DECODER_TRAIN, 0);
    json_array_foreach(json_object_get(twenty, "steps"), i, step)
    {
        char what[32];
        read_pairs(&pairs, json_object_get(twenty, "pairs"), i * batch_size, batch_size);
        const struct preference_batch batch = {.trees = pairs.trees, .n = pairs.n};
        snprintf(what, sizeof what, "step %d", (int)i + 1);
        must(preference_step(&dpo, &batch, &metrics, &err), &err);
        compare_metrics(&metrics, "", step, &values, what);
    }
    assert_int_equal(i, 20);
    compare_weights(test.model, start.model, "", 1, INT64_MAX, &expected, &weights, "after twenty steps");
    tally_report(&values);
    tally_report(&weights);
    metrics_free(&metrics);
    preference_free(&dpo);
    model_test_close(&test);
    model_test_close(&start);
    safetensors_close(&expected);
    backend_destroy(backend);
    json_decref(cases);
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_losses), cmocka_unit_test(test_twenty)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

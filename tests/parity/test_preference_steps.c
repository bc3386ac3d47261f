/* Steps of kto, cpo and orpo against TRL's trainers (oracle/preference_trl.py): metrics of a batch and the gradients by name
 * of each loss and switch, and the weights after twenty steps. */
#include "support/preference_test.h"

static double setting(const json_t *settings, const char *name, double otherwise)
{
    return json_object_get(settings, name) == NULL ? otherwise : json_number(settings, name);
}

static bool is_kind(const json_t *run, const char *kind)
{
    return strcmp(json_string_value(json_object_get(run, "kind")), kind) == 0;
}

static const struct {
    const char *kind, *word;
    enum preference_loss loss;
} words[] = {
    {"kto", "kto", PREFERENCE_KTO},
    {"kto", "apo_zero_unpaired", PREFERENCE_APO_ZERO_UNPAIRED},
    {"cpo", "sigmoid", PREFERENCE_CPO_SIGMOID},
    {"cpo", "hinge", PREFERENCE_CPO_HINGE},
    {"cpo", "ipo", PREFERENCE_CPO_IPO},
    {"cpo", "simpo", PREFERENCE_CPO_SIMPO},
    {"cpo", "alphapo", PREFERENCE_CPO_ALPHAPO},
    {"orpo", "orpo", PREFERENCE_ORPO},
};

/* As the commands read their options. */
static struct preference_config config_of(const json_t *run)
{
    const json_t *settings = json_object_get(run, "settings"), *type = json_object_get(settings, "loss_type");
    const char *kind = json_string_value(json_object_get(run, "kind"));
    const char *word = type != NULL ? json_string_value(type) : strcmp(kind, "cpo") == 0 ? "sigmoid" : kind;
    struct preference_config c = {.n_terms = 1, .terms = {{.weight = 1.0}}};
    size_t i = 0;
    while (i < sizeof words / sizeof *words && (strcmp(words[i].kind, kind) != 0 || strcmp(words[i].word, word) != 0))
        i++;
    assert_true(i < sizeof words / sizeof *words);
    c.terms[0].loss = words[i].loss;
    c.beta = setting(settings, "beta", 0.1);
    c.label_smoothing = setting(settings, "label_smoothing", 0.0);
    c.simpo_gamma = setting(settings, "simpo_gamma", 0.5);
    c.alpha = setting(settings, "alpha", 0.0);
    c.desirable = setting(settings, "desirable_weight", 1.0);
    c.undesirable = setting(settings, "undesirable_weight", 1.0);
    if (strcmp(kind, "cpo") == 0)
        c.nll = c.terms[0].loss == PREFERENCE_CPO_ALPHAPO ? 0.0 : setting(settings, "cpo_alpha", 1.0);
    if (strcmp(kind, "orpo") == 0) {
        c.nll = 1.0;
        c.nll_prompts = true;
    }
    return c;
}

static struct preference_batch batch_of(struct pairs *pairs, const struct preference_config *config)
{
    for (int32_t i = 0; i < pairs->n; i++)
        pairs->trees[i].prompt_wanted = config->nll_prompts;
    return (struct preference_batch){
        .trees = pairs->trees, .n = pairs->n, .wanted = pairs->single ? pairs->wanted : NULL};
}

static void check_run(struct backend *backend, const char *isa, int64_t micro_tokens, const char *name,
                      const json_t *cases, const json_t *run, struct model *reference,
                      const struct safetensors *expected, struct tally *values, struct tally *gradients)
{
    static struct pairs pairs;
    const json_t *rows = json_object_get(run, "rows");
    const struct preference_run one = {name, run, (int64_t)json_number(cases, "stride"),
                                       (int64_t)json_number(cases, "least"), expected};
    struct model_test test;
    char what[100];
    cohort_error err = {0};
    model_test_open(&test, backend, "model_tied", DTYPE_F32);
    struct preference p = {.model = test.model,
                           .reference = is_kind(run, "kto") ? reference : NULL,
                           .runner = &test.runner,
                           .optimizer = {.beta1 = 0.0f, .beta2 = 0.999f, .eps = 1e-8f},
                           .schedule.learning_rate = 1e-3,
                           .config = config_of(run),
                           .max_length = 1024};
    pairs.single = preference_is_single(&p.config);
    read_pairs(&pairs, rows, 0, json_array_size(rows));
    const struct preference_batch batch = batch_of(&pairs, &p.config);
    must(preference_check(&p.config, &err), &err);
    test.runner.extras = preference_extras(&p);
    model_test_plan(&test, micro_tokens, 2 * MOST_PAIRS, DECODER_TRAIN, 0);
    snprintf(what, sizeof what, "%s, %s, %lld tokens", name, isa, (long long)micro_tokens);
    compare_run(&test, &p, &batch, &one, values, gradients, what);
    assert_int_equal(test.runner.packing.n_micro > 1, micro_tokens < 1000);
    preference_free(&p);
    model_test_close(&test);
}

static void test_losses(void **state)
{
    (void)state;
    json_t *cases = load_json(FIXTURES "preference/cases.json"), *run;
    struct safetensors expected = {0};
    cohort_error err = {0};
    /* As in test_dpo_steps.c. */
    struct tally values = {.what = "values", .tolerance = 1e-5}, gradients = {.what = "gradients", .tolerance = 1e-5};
    const char *name, *isa;
    size_t n = 0;
    must(safetensors_open(&expected, FIXTURES "preference/expected.safetensors", &err), &err);
    for (size_t i = 0; (isa = test_provider(test_isas, N_TEST_ISAS, i)) != NULL; i++) {
        struct backend *backend = backend_here(isa, 2);
        struct model_test reference;
        if (backend == NULL)
            continue;
        model_test_open(&reference, backend, "dpo/twenty", DTYPE_F32);
        json_object_foreach(json_object_get(cases, "runs"), name, run)
        {
            static const int64_t sizes[] = {1000, 45, 30};
            for (size_t s = 0; s < 3; s++, n++)
                check_run(backend, isa, sizes[s], name, cases, run, reference.model, &expected, &values, &gradients);
        }
        model_test_close(&reference);
        backend_destroy(backend);
    }
    assert_true(n >= 39);
    tally_report(&values);
    tally_report(&gradients);
    safetensors_close(&expected);
    json_decref(cases);
}

static void check_twenty(struct backend *backend, const char *name, const json_t *cases, const json_t *run,
                         const struct safetensors *expected, struct tally *values, struct tally *weights)
{
    static struct pairs pairs;
    const size_t batch_size = (size_t)json_number(cases, "batch");
    struct model_test test, start;
    struct metrics metrics = {0};
    cohort_error err = {0};
    char prefix[64];
    json_t *step;
    size_t i;
    model_test_open(&test, backend, "model_tied", DTYPE_F32);
    model_test_open(&start, backend, "model_tied", DTYPE_F32);
    struct preference p = {.model = test.model,
                           .reference = is_kind(run, "kto") ? start.model : NULL,
                           .runner = &test.runner,
                           .optimizer = {.beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .max_grad_norm = 1.0},
                           .schedule.learning_rate = 1e-3,
                           .config = config_of(run),
                           .max_length = 1024};
    pairs.single = preference_is_single(&p.config);
    test.runner.extras = preference_extras(&p);
    model_test_plan(&test, 60, 2 * MOST_PAIRS, DECODER_TRAIN, 0);
    json_array_foreach(json_object_get(run, "steps"), i, step)
    {
        char what[64];
        read_pairs(&pairs, json_object_get(run, "rows"), i * batch_size, batch_size);
        const struct preference_batch batch = batch_of(&pairs, &p.config);
        snprintf(what, sizeof what, "%s, step %d", name, (int)i + 1);
        metrics_free(&metrics);
        must(preference_step(&p, &batch, &metrics, &err), &err);
        compare_metrics(&metrics, "", step, values, what);
    }
    assert_int_equal(i, 20);
    snprintf(prefix, sizeof prefix, "twenty.%s.", name);
    compare_weights(test.model, start.model, prefix, (int64_t)json_number(cases, "stride"),
                    (int64_t)json_number(cases, "least"), expected, weights, name);
    metrics_free(&metrics);
    preference_free(&p);
    model_test_close(&test);
    model_test_close(&start);
}

static void test_twenty(void **state)
{
    (void)state;
    json_t *cases = load_json(FIXTURES "preference/cases.json"), *run;
    struct safetensors expected = {0};
    struct tally values = {.what = "metrics", .tolerance = 1e-4}, weights = {.what = "weights", .tolerance = 0.01};
    cohort_error err = {0};
    struct backend *backend = backend_here(test_provider(test_isas, N_TEST_ISAS, 0), 2);
    const char *name;
    assert_non_null(backend);
    must(safetensors_open(&expected, FIXTURES "preference/expected.safetensors", &err), &err);
    json_object_foreach(json_object_get(cases, "twenty"), name, run)
        check_twenty(backend, name, cases, run, &expected, &values, &weights);
    tally_report(&values);
    tally_report(&weights);
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

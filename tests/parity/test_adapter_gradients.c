/* What an adapter of PEFT trains: the gradient of every tensor of its file, by name, against PEFT's autograd on the same
 * model and sequences (tests/fixtures/adapter_gradients, oracle/adapter_gradients_peft.py): targets, ranks, scales,
 * magnitudes, biases, tensors in place of the base's, experts and routers; beside the base and with merged weights. In
 * fp32, on every instruction set or with --device cuda. */
#include "support/adapter_test.h"

/* What two orders of summation come to: transformers' own gradients move by 5e-6 of their largest element when only its
 * attention changes (oracle/README.md). Merged weights are rounded once more, each of them. */
static const double ALLOWED = 2e-5, ALLOWED_MERGED = 4e-5;

struct bench {
    struct model_test test;
    struct fixture fixture;
    struct model_case c;
    struct case_trees trees;
    struct safetensors want;
};

static void bench_open(struct bench *b, struct backend *backend, const char *name, const char *base, bool merged)
{
    char fixture[64], adapter[256], path[300];
    cohort_error err = {0};
    memset(b, 0, sizeof *b);
    snprintf(fixture, sizeof fixture, "model_%s", base);
    snprintf(adapter, sizeof adapter, FIXTURES "adapter_gradients/%s", name);
    snprintf(path, sizeof path, "%s/gradients.safetensors", adapter);
    must(safetensors_open(&b->want, path, &err), &err);
    fixture_open(&b->fixture, fixture);
    for (size_t i = 0; fixture_case(&b->fixture, i, &b->c) && strcmp(b->c.name, "cold") != 0; i++)
        continue;
    assert_string_equal(b->c.name, "cold");
    case_trees_build(&b->trees, &b->c, true);
    adapter_test_open(&b->test, backend, fixture, adapter, merged);
    model_test_plan(&b->test, b->trees.fed, b->c.n, DECODER_TRAIN, 0);
}

static void bench_close(struct bench *b)
{
    model_test_close(&b->test);
    fixture_close(&b->fixture);
    safetensors_close(&b->want);
}

static void check_case(struct backend *backend, const char *name, const char *base, bool merged,
                       struct tally *gradients, struct tally *losses)
{
    struct bench b;
    bench_open(&b, backend, name, base, merged);
    const struct param_set *set = b.test.model->trained;
    assert_int_equal(b.want.n_tensors, set->table.n_params + 1);
    const double loss = case_backward(&b.test, &b.fixture, &b.c, &b.trees),
                 want_loss = (double)*fixture_tensor(&b.want, 1, "loss");
    tally_add(losses, fabs(loss - want_loss) / fabs(want_loss), name, "loss");
    for (int32_t i = 0; i < set->table.n_params; i++) {
        const struct param *param = &set->table.params[i];
        const float *want = fixture_tensor(&b.want, param->count, PEFT_PREFIX "%s", param->name);
        float *have = fetched(backend, param_grad(set, param), (size_t)param->count * sizeof *have),
              *in_file = malloc((size_t)param->count * sizeof *in_file);
        assert_non_null(in_file);
        for (int64_t at = 0; at < param->count; at++)
            in_file[adapter_file_place(param, at)] = have[at];
        tally_add(gradients, relative_max(in_file, want, param->count), name, param->name);
        free(in_file);
        free(have);
    }
    bench_close(&b);
}

static void test_gradients(void **state)
{
    (void)state;
    struct tally gradients[] = {{.what = "gradient", .tolerance = ALLOWED},
                                {.what = "gradient with merged weights", .tolerance = ALLOWED_MERGED}},
                 losses = {.what = "loss", .tolerance = ALLOWED};
    json_t *cases = load_json(FIXTURES "adapter_gradients/settings.json");
    assert_true(json_object_size(cases) >= 12);
    const char *name = NULL, *provider = NULL;
    json_t *base = NULL;
    for (size_t i = 0; (provider = test_provider(test_isas, N_TEST_ISAS, i)) != NULL; i++) {
        struct backend *backend = backend_here(provider, 2);
        if (backend == NULL)
            continue;
        json_object_foreach(cases, name, base)
        {
            for (int merged = 0; merged < 2; merged++)
                check_case(backend, name, json_string_value(base), merged == 1, &gradients[merged], &losses);
        }
        backend_destroy(backend);
    }
    json_decref(cases);
    tally_report(&gradients[0]);
    tally_report(&gradients[1]);
    tally_report(&losses);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_gradients)};
    test_arguments(argc, argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

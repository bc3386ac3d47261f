/* The auxiliary loss of models with experts against transformers: its value and its gradient for every tensor, whatever
 * the micro-batches, prompts shared or not, with the load counted by a forward more, by the only forward, or from the
 * routes of the rollout. And routes that are taken again: what is computed is what was recorded. */
#include "support/model_test.h"

#include "train/lanes.h"
#include "train/routing.h"

static const char *const fixtures[] = {"model_experts", "model_mixtral", "model_experts_fused"};
enum { N_FIXTURES = sizeof fixtures / sizeof *fixtures };

static const struct variant {
    const char *name;
    bool shared;
    int64_t completions; /* of a micro-batch; 0: all in one */
    enum decoder_mode mode;
    bool recorded;
} variants[] = {
    {"one micro-batch", true, 0, DECODER_TRAIN, false},
    {"unshared, recomputed", false, 0, DECODER_RECOMPUTE, false},
    {"one by one", true, 1, DECODER_TRAIN, false},
    {"two by two, recomputed, from routes", true, 2, DECODER_RECOMPUTE, true},
    {"one micro-batch, from routes", true, 0, DECODER_TRAIN, true},
};
enum { N_VARIANTS = sizeof variants / sizeof *variants, MOST_ROUTES = 64 * 64 };

/* The routes of every row of the trees, in the order of one batch of all of them; into the trees. */
static void record(struct model_test *test, struct case_trees *trees, uint16_t *routes)
{
    struct tree_runner *runner = &test->runner;
    const struct model *model = test->model;
    const int32_t k = model->config.experts.chosen, width = route_width(&model->config);
    cohort_error err = {0};
    int32_t row = 0;
    must(packing_split(&runner->packing, trees->trees, trees->n_trees, runner->max_tokens,
                       runner->max_outputs - runner->max_tokens, &err),
         &err);
    assert_int_equal(runner->packing.n_micro, 1);
    must(packed_build(&runner->packed, trees->trees, &runner->packing, 0, &err), &err);
    decoder_forward(test->model, &runner->decoder, &runner->packed.batch, NULL);
    const int32_t n = runner->packed.batch.n_tokens;
    assert_true(n * width <= MOST_ROUTES);
    for (int32_t l = 0, s = 0; l < model->config.n_layers; l++) {
        if (!model->layers[l].sparse)
            continue;
        int32_t *expert =
            fetched(test->backend, runner->decoder.layers[l].experts.expert, (size_t)n * (size_t)k * sizeof *expert);
        for (int32_t t = 0; t < n; t++)
            for (int32_t j = 0; j < k; j++)
                routes[t * width + s * k + j] = (uint16_t)expert[t * k + j];
        free(expert);
        s++;
    }
    for (int32_t t = 0; t < trees->n_trees; t++) {
        trees->trees[t].prompt_routes = routes + row * width;
        row += trees->trees[t].n_prompt;
        for (int32_t c = 0; c < trees->trees[t].n_completions; c++) {
            struct completion_tokens *completion =
                &trees->completions[trees->trees[t].completions - trees->completions + c];
            completion->routes = routes + row * width;
            row += completion_fed(completion);
        }
    }
    assert_int_equal(row, n);
}

/* A step in which only the auxiliary loss, with coefficient 1, has a gradient. */
static void step(struct model_test *test, const struct case_trees *trees, bool recorded, struct metrics *metrics)
{
    struct tree_runner *runner = &test->runner;
    struct routing routing = {.aux_coef = 1.0};
    struct lanes lanes;
    bool fresh[CASE_SEQUENCES];
    cohort_error err = {0};
    memset(fresh, true, sizeof fresh);
    zero_grad(test);
    must(packing_split(&runner->packing, trees->trees, trees->n_trees, runner->max_tokens,
                       runner->max_outputs - runner->max_tokens, &err),
         &err);
    must(routing_begin(&routing, runner, test->model, &err), &err);
    runner->decoder.experts.on.compare = recorded;
    if (runner->packing.n_micro > 1)
        must(routing_prepare(&routing, runner, test->model, trees->trees, trees->n_trees, recorded, &err), &err);
    lanes_begin(&lanes, test->model->trained, runner->packing.n_micro, true);
    for (int32_t m = 0; m < runner->packing.n_micro; m++) {
        must(packed_build(&runner->packed, trees->trees, &runner->packing, m, &err), &err);
        tree_runner_forward(runner, test->model, 1.0f);
        must(routing_compare(&routing, runner, test->model, m, fresh, &err), &err);
        if (runner->packing.n_micro == 1)
            must(routing_prepare(&routing, runner, test->model, trees->trees, trees->n_trees, recorded, &err), &err);
        must(routing_keep(&routing, runner, test->model, &lanes, &err), &err);
        memset(runner->d_logp, 0, (size_t)runner->packed.outputs.count * sizeof *runner->d_logp);
        tree_runner_backward(runner, test->model, 1.0f, false);
    }
    must(routing_end(&routing, runner, test->model, metrics, &err), &err);
    assert_true(metrics_get(metrics, "aux_loss") == routing_loss(&routing));
    lanes_free(&lanes);
    routing_free(&routing);
}

static void check(struct model_test *test, const struct fixture *fixture, const struct model_case *c,
                  const struct variant *v, const char *setting, struct tally *losses, struct tally *gradients)
{
    static uint16_t routes[MOST_ROUTES];
    struct case_trees trees;
    struct metrics metrics = {0};
    char name[160];
    case_trees_build(&trees, c, v->shared);
    if (v->recorded) {
        model_test_plan(test, trees.fed, c->n, DECODER_TRAIN, 0);
        record(test, &trees, routes);
    }
    model_test_plan(test, trees.fed, v->completions > 0 ? v->completions : c->n, v->mode, 0);
    step(test, &trees, v->recorded, &metrics);
    if (v->recorded)
        assert_true(metrics_get(&metrics, "sampling/experts_differ") == 0.0);
    tally_add(losses,
              fabs(metrics_get(&metrics, "aux_loss") - (double)*fixture_tensor(&fixture->expected, 1, "aux.loss")),
              setting, "aux.loss");
    metrics_free(&metrics);
    for (int32_t p = 0; p < test->model->base.table.n_params; p++) {
        const struct param *param = &test->model->base.table.params[p];
        snprintf(name, sizeof name, "aux.grad.%s", param->name);
        float *got = fetched_grad(test->model, param);
        tally_add(gradients,
                  relative_max(got, fixture_tensor(&fixture->expected, param->count, "%s", name), param->count),
                  setting, name);
        free(got);
    }
}

static void test_against_transformers(void **state)
{
    (void)state;
    struct tally losses = {.what = "auxiliary loss (absolute)", .tolerance = 1e-6};
    struct tally gradients = {.what = "its gradients", .tolerance = 2e-5};
    const char *isa;
    for (size_t i = 0; (isa = test_provider(test_isas, N_TEST_ISAS, i)) != NULL; i++) {
        struct backend *backend = backend_here(isa, 2);
        if (backend == NULL)
            continue;
        for (int f = 0; f < (test_options.small ? 1 : N_FIXTURES); f++) {
            struct fixture fixture;
            struct model_test test;
            struct model_case c;
            fixture_open(&fixture, fixtures[f]);
            model_test_open(&test, backend, fixtures[f], DTYPE_F32);
            assert_true(fixture_case(&fixture, 1, &c) && strcmp(c.name, "group") == 0);
            for (int v = 0; v < N_VARIANTS; v++) {
                char setting[160];
                snprintf(setting, sizeof setting, "%s %s (%s)", fixtures[f], isa, variants[v].name);
                check(&test, &fixture, &c, &variants[v], setting, &losses, &gradients);
            }
            model_test_close(&test);
            fixture_close(&fixture);
        }
        backend_destroy(backend);
    }
    tally_report(&losses);
    tally_report(&gradients);
}

/* Routes that are not those of the router: they are counted, and with replay the model computes with them, in the
 * forward and again in a backward with recomputation. */
static void test_replay(void **state)
{
    (void)state;
    static uint16_t own[MOST_ROUTES], other[MOST_ROUTES];
    struct backend *backend = backend_here("auto", 2);
    struct model_test test;
    struct fixture fixture;
    struct model_case c;
    struct case_trees trees;
    cohort_error err = {0};
    float *logp[3] = {NULL};
    if (backend == NULL)
        return;
    fixture_open(&fixture, fixtures[0]);
    model_test_open(&test, backend, fixtures[0], DTYPE_F32);
    assert_true(fixture_case(&fixture, 1, &c));
    case_trees_build(&trees, &c, true);
    model_test_plan(&test, trees.fed, c.n, DECODER_TRAIN, 0);
    record(&test, &trees, own);
    struct tree_runner *runner = &test.runner;
    const int32_t n = runner->packed.batch.n_tokens, width = route_width(&test.model->config),
                  k = test.model->config.experts.chosen;
    /* The experts 0 .. k of every token of the last layer. */
    memcpy(other, own, sizeof own);
    for (int32_t t = 0; t < n; t++)
        for (int32_t j = 0; j < k; j++)
            other[t * width + width - k + j] = (uint16_t)j;
    for (int way = 0; way < 3; way++) { /* as it is; with its own routes again; with others */
        runner->decoder.experts.on.compare = runner->decoder.experts.on.replay = way > 0;
        memcpy(runner->packed.batch.routes, way == 2 ? other : own, (size_t)(n * width) * sizeof *own);
        tree_runner_forward(runner, test.model, 1.0f);
        must(backend_check(backend, &err), &err);
        logp[way] = malloc((size_t)runner->packed.outputs.count * sizeof(float));
        memcpy(logp[way], runner->logp, (size_t)runner->packed.outputs.count * sizeof(float));
    }
    int32_t *differ = fetched(backend, runner->decoder.experts.differ, (size_t)n * sizeof *differ);
    int32_t expected = 0, counted = 0;
    for (int32_t t = 0; t < n; t++) {
        expected += memcmp(own + t * width, other + t * width, (size_t)width * sizeof *own) != 0;
        counted += differ[t];
    }
    assert_int_equal(counted, expected);
    assert_true(expected > n / 2);
    assert_memory_equal(logp[0], logp[1], (size_t)runner->packed.outputs.count * sizeof(float));
    assert_memory_not_equal(logp[0], logp[2], (size_t)runner->packed.outputs.count * sizeof(float));
    free(differ);
    for (int way = 0; way < 3; way++)
        free(logp[way]);
    model_test_close(&test);
    fixture_close(&fixture);
    backend_destroy(backend);
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_transformers),
        cmocka_unit_test(test_replay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The decoder against transformers (tests/fixtures/model_*, oracle/model_transformers.py): logits, log-probs, entropies
 * and every gradient tensor by name, on every instruction set of this machine or (--device cuda) on the GPU, a group's
 * prompt shared or not, in one micro-batch or one for each sequence, activations kept or recomputed, the head whole or
 * in chunks.
 *
 * Differences are the largest of a tensor relative to its largest element. The fixtures are float32 themselves: float64
 * differs from them by 2.0e-5 of a logit, 1.5e-5 of a log-prob (oracle/README.md). */
#include "support/model_test.h"

/* small: with --small too, a run on the emulation: tied weights, the head size that a GPU has kernels for, biases,
 * windows, experts. */
static const struct {
    const char *name;
    bool small;
} fixtures[] = {{"model_tied", true},           {"model_untied", false},
                {"model_wide_heads", false},    {"model_sharded", true},
                {"model_bf16", false},          {"model_qwen2", true},
                {"model_qwen3_yarn", false},    {"model_qwen3_linear", false},
                {"model_qwen2_yarn", false},    {"model_llama_llama3", false},
                {"model_llama_biases", true},   {"model_llama_linear", false},
                {"model_mistral_tied", false},  {"model_qwen3_window", true},
                {"model_qwen2_window", false},  {"model_mistral_window", false},
                {"model_mistral_wide", false},  {"model_experts", true},
                {"model_experts_fused", false}, {"model_mixtral", false},
                {"model_experts_f16", false}};
enum { N_FIXTURES = sizeof fixtures / sizeof *fixtures };

struct variant {
    const char *name;
    bool shared;         /* prompts of a group */
    int64_t completions; /* of a micro-batch; 0: all in one */
    enum decoder_mode mode;
    int64_t head_chunk;
    int threads;
    bool keep_logits;
};
static const struct variant variants[] = {
    {"shared", true, 0, DECODER_TRAIN, 0, 2, false},
    {"shared, recomputed, head in fives", true, 0, DECODER_RECOMPUTE, 5, 2, false},
    {"unshared, head in ones", false, 0, DECODER_TRAIN, 1, 1, false},
    {"shared, head in threes, logits kept", true, 0, DECODER_TRAIN, 3, 2, true},
    {"one by one, recomputed", false, 1, DECODER_RECOMPUTE, 0, 1, false},
    {"shared, two by two", true, 2, DECODER_TRAIN, 3, 2, false},
};
enum { N_VARIANTS = sizeof variants / sizeof *variants };

/* With --small: the first variants. */
static bool left_out(int fixture, int variant)
{
    return test_options.small && (!fixtures[fixture].small || variant > 1);
}

/* Logits at positions logits_from and on of one sequence run alone. */
static void check_logits(struct model_test *test, const struct fixture *fixture, const struct model_case *c,
                         const char *setting, struct tally *tally)
{
    const int64_t vocab = test->model->config.vocab_size;
    struct batch batch = {0};
    cohort_error err = {0};
    for (int32_t i = 0; i < c->n; i++) {
        const struct case_sequence *s = &c->sequence[i];
        const int32_t last = s->n_prompt == s->n ? s->n : s->n - 1, rows = last - s->logits_from;
        const float *want = fixture_tensor(&fixture->expected, rows * vocab, "%s.%d.logits", c->name, (int)i);
        int32_t row[CASE_TOKENS];
        char name[64];
        for (int32_t r = 0; r < rows; r++)
            row[r] = s->logits_from + r;
        must(batch_reserve(&batch, (size_t)s->n, 1, 1, &err), &err);
        batch_clear(&batch);
        batch_add_seq(&batch, s->tokens, s->n, 0, 0);
        batch_add_span(&batch, 0, 0, s->n);
        for (int32_t t = 0; t < s->n; t++)
            batch.kv_row[t] = t;
        const float *x = decoder_forward(test->model, &test->runner.decoder, &batch, NULL);
        head_norm(test->model, &test->runner.head, x, row, rows);
        head_logits(test->model, &test->runner.head, 0, rows);
        snprintf(name, sizeof name, "%s.%d.logits", c->name, (int)i);
        float *got = fetched(test->backend, test->runner.head.logits, (size_t)(rows * vocab) * sizeof *got);
        tally_add(tally, relative_max(got, want, rows * vocab), setting, name);
        free(got);
    }
    batch_free(&batch);
}

static void check_scores(struct model_test *test, const struct fixture *fixture, const struct model_case *c,
                         const struct case_trees *trees, const char *setting, struct tally *logps,
                         struct tally *entropies)
{
    static const float temperature[] = {1.0f, 0.7f};
    static const char *const suffix[] = {"t10", "t07"};
    for (int k = 0; k < 2; k++) {
        float logp[CASE_SEQUENCES][CASE_TOKENS], entropy[CASE_SEQUENCES][CASE_TOKENS];
        float *logp_of[CASE_SEQUENCES], *entropy_of[CASE_SEQUENCES];
        cohort_error err = {0};
        for (int32_t i = 0; i < c->n; i++) {
            logp_of[i] = logp[i];
            entropy_of[i] = entropy[i];
        }
        must(tree_runner_score(&test->runner, test->model, trees->trees, trees->n_trees, temperature[k], logp_of,
                               entropy_of, &err),
             &err);
        for (int32_t i = 0; i < c->n; i++) {
            int32_t n = trees->completions[i].n_tokens;
            char name[64];
            snprintf(name, sizeof name, "%s.%d.logp_%s", c->name, (int)i, suffix[k]);
            tally_add(logps, relative_max(logp[i], fixture_tensor(&fixture->expected, n, "%s", name), n), setting,
                      name);
            snprintf(name, sizeof name, "%s.%d.entropy_%s", c->name, (int)i, suffix[k]);
            tally_add(entropies, relative_max(entropy[i], fixture_tensor(&fixture->expected, n, "%s", name), n),
                      setting, name);
        }
    }
}

static void check_gradients(struct model_test *test, const struct fixture *fixture, const struct model_case *c,
                            const struct case_trees *trees, const char *setting, struct tally *losses,
                            struct tally *gradients, double (*distance)(const float *, const float *, int64_t))
{
    char name[160];
    zero_grad(test);
    const double loss = case_backward(test, fixture, c, trees);
    const double want = (double)*fixture_tensor(&fixture->expected, 1, "%s.loss", c->name);
    snprintf(name, sizeof name, "%s.loss", c->name);
    tally_add(losses, fabs(loss - want), setting, name);
    size_t in_fixture = 0;
    for (size_t i = 0; i < fixture->expected.n_tensors; i++) {
        snprintf(name, sizeof name, "%s.grad.", c->name);
        in_fixture += strncmp(fixture->expected.tensors[i].name, name, strlen(name)) == 0;
    }
    assert_int_equal(in_fixture, test->model->base.table.n_params);
    for (int32_t p = 0; p < test->model->base.table.n_params; p++) {
        const struct param *param = &test->model->base.table.params[p];
        snprintf(name, sizeof name, "%s.grad.%s", c->name, param->name);
        float *got = fetched_grad(test->model, param);
        tally_add(gradients, distance(got, fixture_tensor(&fixture->expected, param->count, "%s", name), param->count),
                  setting, name);
        free(got);
    }
}

static void test_fp32(void **state)
{
    (void)state;
    struct tally logits = {.what = "logits", .tolerance = 1e-5};
    struct tally logps = {.what = "log-probs", .tolerance = 5e-6};
    struct tally entropies = {.what = "entropies", .tolerance = 1e-5};
    struct tally losses = {.what = "L (absolute)", .tolerance = 1e-4};
    struct tally gradients = {.what = "gradients", .tolerance = 2e-5};
    const char *isa;
    int isas = 0;
    for (size_t i_isa = 0; (isa = test_provider(test_isas, N_TEST_ISAS, i_isa)) != NULL; i_isa++) {
        struct backend *backend = backend_here(isa, 2);
        if (backend == NULL)
            continue;
        isas++;
        for (int f = 0; f < N_FIXTURES; f++) {
            if (left_out(f, 0))
                continue;
            struct fixture fixture;
            struct model_test test;
            struct model_case c;
            fixture_open(&fixture, fixtures[f].name);
            model_test_open(&test, backend, fixtures[f].name, DTYPE_F32);
            for (size_t i = 0; fixture_case(&fixture, i, &c); i++) {
                char setting[160];
                snprintf(setting, sizeof setting, "%s %s", fixtures[f].name, isa);
                model_test_plan(&test, CASE_TOKENS, 1, DECODER_INFER, 0);
                check_logits(&test, &fixture, &c, setting, &logits);
                for (int v = 0; c.gradients && v < N_VARIANTS && !left_out(f, v); v++) {
                    const struct variant *variant = &variants[v];
                    struct case_trees trees;
                    case_trees_build(&trees, &c, variant->shared);
                    backend->threads = variant->threads;
                    snprintf(setting, sizeof setting, "%s %s (%s)", fixtures[f].name, isa, variant->name);
                    test.keep_logits = variant->keep_logits;
                    model_test_plan(&test, trees.fed, variant->completions > 0 ? variant->completions : c.n,
                                    variant->mode, variant->head_chunk);
                    check_scores(&test, &fixture, &c, &trees, setting, &logps, &entropies);
                    check_gradients(&test, &fixture, &c, &trees, setting, &losses, &gradients, relative_max);
                }
                backend->threads = 2;
            }
            model_test_close(&test);
            fixture_close(&fixture);
        }
        backend_destroy(backend);
    }
    print_message("%d instruction sets or devices\n", isas);
    tally_report(&logits);
    tally_report(&logps);
    tally_report(&entropies);
    tally_report(&losses);
    tally_report(&gradients);
}

/* In bf16 the kernels round activations and their gradients to 8 bits: what is checked is that the
 * bf16 paths (their own products and conversions) compute the same thing. The weights of these models
 * are bf16 as stored, so all of the difference is that rounding. transformers in bf16 differs from
 * the same numbers by 1.3e-2, 2.5e-2, 0.23 and 9.9e-2, with experts by 1.4e-2, 3.3e-2, 0.07 and 4.1e-2
 * (oracle/bf16_spread.py): the tolerances are of that size. */
static void test_bf16(void **state)
{
    (void)state;
    static const char *const providers[] = {"portable", "avx2", "avx512", "avx512-bf16", "amx-bf16"};
    static const char *const models[] = {"model_bf16", "model_experts_bf16"};
    struct tally logps = {.what = "bf16 log-probs", .tolerance = 2e-2};
    struct tally entropies = {.what = "bf16 entropies", .tolerance = 3e-2};
    struct tally losses = {.what = "bf16 L (absolute)", .tolerance = 0.5};
    struct tally gradients = {.what = "bf16 gradients (norm)", .tolerance = 8e-2};
    const char *provider;
    for (size_t p = 0; (provider = test_provider(providers, sizeof providers / sizeof *providers, p)) != NULL; p++) {
        struct backend *backend = backend_here(provider, 2);
        struct fixture fixture;
        struct model_test test;
        struct model_case c;
        if (backend == NULL)
            continue;
        for (size_t m = 0; m < sizeof models / sizeof *models; m++) {
            fixture_open(&fixture, models[m]);
            model_test_open(&test, backend, models[m], DTYPE_BF16);
            for (size_t i = 0; fixture_case(&fixture, i, &c); i++)
                for (int v = 0; c.gradients && v < 2; v++) {
                    struct case_trees trees;
                    char setting[160];
                    case_trees_build(&trees, &c, variants[v].shared);
                    snprintf(setting, sizeof setting, "%s %s (%s)", models[m], provider, variants[v].name);
                    model_test_plan(&test, trees.fed, c.n, variants[v].mode, variants[v].head_chunk);
                    check_scores(&test, &fixture, &c, &trees, setting, &logps, &entropies);
                    check_gradients(&test, &fixture, &c, &trees, setting, &losses, &gradients, relative_norm);
                }
            model_test_close(&test);
            fixture_close(&fixture);
        }
        backend_destroy(backend);
    }
    tally_report(&logps);
    tally_report(&entropies);
    tally_report(&losses);
    tally_report(&gradients);
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fp32),
        cmocka_unit_test(test_bf16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

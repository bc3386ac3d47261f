/* A step of sft, with any of its switches: its gradient and its metrics do not depend on how the step is divided into
 * micro-batches (invariant I5); what a row's tokens give is, bit for bit, what they give alone, whatever is packed with
 * the row; and the gradient is the derivative of the loss that it reports, by central differences. Random rows, switches
 * and divisions, in fp32. The draws are printed with their seed:
 *
 *     test_sft_split [--draws N] [--seed S] [--device cuda]
 *
 * The gradient is read from the first moment: with beta1 = 0 and no clipping the optimizer leaves it there. */
#include "support/split_test.h"

#include "train/sft.h"

enum { MOST_ROWS = 10, MOST_TOKENS = 60, MAX_FED = MOST_ROWS * MOST_TOKENS, VOCAB = 97 };

/* Rows, switches, and how the step is divided. */
struct draw {
    int32_t tokens[MOST_ROWS][MOST_TOKENS];
    bool learned[MOST_ROWS][MOST_TOKENS];
    struct completion_tokens completions[MOST_ROWS];
    struct tree trees[MOST_ROWS];
    double weights[MOST_ROWS];
    struct sft_batch batch;
    enum sft_loss loss;
    double smoothing, noise;
    int64_t max_completions, max_tokens;
    char words[160];
};

static int32_t draw_row(struct draw *draw, int32_t i)
{
    const int32_t n = 2 + pick(MOST_TOKENS - 2), n_prompt = 1 + pick(n - 1);
    const bool masked = pick(2);
    for (int32_t t = 0; t < n; t++) {
        draw->tokens[i][t] = pick(VOCAB);
        draw->learned[i][t] = t == n_prompt || pick(3) > 0;
    }
    draw->completions[i] = (struct completion_tokens){.tokens = draw->tokens[i] + n_prompt,
                                                      .n_tokens = n - n_prompt,
                                                      .sampled = masked ? draw->learned[i] + n_prompt : NULL};
    draw->trees[i] = (struct tree){
        .prompt = draw->tokens[i], .n_prompt = n_prompt, .completions = &draw->completions[i], .n_completions = 1};
    draw->weights[i] = pick(4) == 0 ? 1.0 : 3.0 * uniform() + 0.01;
    return n;
}

static void draw_all(struct draw *draw)
{
    const bool weighted = pick(2);
    int32_t longest = 0;
    draw->batch = (struct sft_batch){
        .trees = draw->trees, .weights = weighted ? draw->weights : NULL, .n = 2 + pick(MOST_ROWS - 1)};
    for (int32_t i = 0; i < draw->batch.n; i++) {
        const int32_t n = draw_row(draw, i);
        longest = n > longest ? n : longest;
    }
    draw->loss = pick(3) == 0 ? SFT_LOSS_DFT : SFT_LOSS_NLL;
    draw->smoothing = draw->loss == SFT_LOSS_NLL && pick(2) ? 0.5 * uniform() : 0.0;
    draw->noise = pick(2) ? 5.0 * uniform() : 0.0;
    draw->max_completions = 1 + pick(draw->batch.n);
    draw->max_tokens = pick(2) ? MAX_FED : longest + pick(longest);
    snprintf(draw->words, sizeof draw->words, "%s smoothing %.2g noise %.2g%s, %d rows, by %d and %d tokens",
             draw->loss == SFT_LOSS_DFT ? "dft" : "nll", draw->smoothing, draw->noise, weighted ? " weighted" : "",
             (int)draw->batch.n, (int)draw->max_completions, (int)draw->max_tokens);
}

/* A model, all its weights moved by step times a direction (NULL: not). */
static void open_moved(struct model_test *test, struct backend *backend, const struct draw *draw, int64_t max_tokens,
                       int64_t max_completions, float *const *direction, double step)
{
    struct sft sft = {.loss = draw->loss, .label_smoothing = draw->smoothing, .noise_alpha = draw->noise};
    model_test_open(test, backend, "model_tied", DTYPE_F32);
    test->runner.extras = sft_extras(&sft);
    model_test_plan(test, max_tokens, max_completions, DECODER_TRAIN, 0);
    for (int32_t p = 0; direction != NULL && p < test->model->base.table.n_params; p++) {
        const struct param *param = &test->model->base.table.params[p];
        float *w = fetched_tensor(test->model, param);
        for (int64_t k = 0; k < param->count; k++)
            w[k] = (float)((double)w[k] + step * (double)direction[p][k]);
        backend->ops->upload(backend, param_values(&test->model->base, param), w, (size_t)param->count * sizeof *w);
        free(w);
    }
    if (direction != NULL)
        model_refresh(test->model);
}

static void take_step(struct model_test *test, const struct draw *draw, struct metrics *metrics)
{
    cohort_error err = {0};
    struct sft sft = {.model = test->model,
                      .runner = &test->runner,
                      .optimizer = {.beta1 = 0.0f, .beta2 = 0.999f, .eps = 1e-8f, .step = 3},
                      .loss = draw->loss,
                      .label_smoothing = draw->smoothing,
                      .noise_alpha = draw->noise,
                      .seed = asked.seed};
    must(sft_step(&sft, &draw->batch, metrics, &err), &err);
    assert_true(metrics_get(metrics, "skipped_steps") == 0);
    sft_free(&sft);
}

/* The loss that a step reports, of weights that were moved. */
static double moved_loss(struct backend *backend, const struct draw *draw, float *const *direction, double step)
{
    struct model_test test;
    struct metrics metrics = {0};
    open_moved(&test, backend, draw, MAX_FED, MOST_ROWS, direction, step);
    take_step(&test, draw, &metrics);
    const double loss = metrics_get(&metrics, "loss");
    metrics_free(&metrics);
    model_test_close(&test);
    return loss;
}

/* Along the gradient the loss rises by the gradient's norm. */
static void differences(struct backend *backend, const struct draw *draw, struct model_test *whole, struct tally *tally)
{
    enum { MOST_PARAMS = 64 };
    float *direction[MOST_PARAMS];
    double squares = 0.0;
    const double h = 2e-3;
    const int32_t n = whole->model->base.table.n_params;
    assert_true(n <= MOST_PARAMS);
    for (int32_t p = 0; p < n; p++) {
        direction[p] = step_gradient(whole, p);
        for (int64_t k = 0; k < whole->model->base.table.params[p].count; k++)
            squares += (double)direction[p][k] * (double)direction[p][k];
    }
    const double norm = sqrt(squares);
    for (int32_t p = 0; p < n; p++)
        for (int64_t k = 0; k < whole->model->base.table.params[p].count; k++)
            direction[p][k] = (float)((double)direction[p][k] / norm);
    const double rise =
        (moved_loss(backend, draw, direction, h) - moved_loss(backend, draw, direction, -h)) / (2.0 * h);
    tally_add(tally, fabs(rise - norm) / norm, draw->words, "loss");
    for (int32_t p = 0; p < n; p++)
        free(direction[p]);
}

/* The outputs of completion c as the runner left them, in order. */
static void take_outputs(const struct tree_runner *runner, int32_t c, int32_t n, float *logp, float *mean, int32_t *top)
{
    const struct packed *packed = &runner->packed;
    const int32_t first = packed->first_output[c], ahead = first >= 0 ? 1 : 0;
    packed_gather(packed, c, n, runner->logp, logp);
    if (runner->mean != NULL)
        packed_gather(packed, c, n, runner->mean, mean);
    for (int32_t i = 0; i < n; i++)
        top[i] = runner->top[i < ahead ? first : packed->rest_output[c] + i - ahead];
}

/* Row after row alone, against all in one pass. */
static void alone(struct model_test *test, const struct draw *draw)
{
    static float logp[2][MOST_TOKENS], mean[2][MOST_TOKENS], all_logp[MOST_ROWS][MOST_TOKENS],
        all_mean[MOST_ROWS][MOST_TOKENS];
    static int32_t top[MOST_TOKENS], all_top[MOST_ROWS][MOST_TOKENS];
    struct tree_runner *runner = &test->runner;
    cohort_error err = {0};
    memset(mean, 0, sizeof mean);
    memset(all_mean, 0, sizeof all_mean);
    must(packing_split(&runner->packing, draw->trees, draw->batch.n, MAX_FED, MOST_ROWS, &err), &err);
    must(packed_build(&runner->packed, draw->trees, &runner->packing, 0, &err), &err);
    tree_runner_forward(runner, test->model, 1.0f);
    for (int32_t i = 0; i < draw->batch.n; i++)
        take_outputs(runner, i, completion_outputs(&draw->completions[i]), all_logp[i], all_mean[i], all_top[i]);
    for (int32_t i = 0; i < draw->batch.n; i++) {
        const int32_t n = completion_outputs(&draw->completions[i]);
        must(packing_split(&runner->packing, &draw->trees[i], 1, MAX_FED, 1, &err), &err);
        must(packed_build(&runner->packed, &draw->trees[i], &runner->packing, 0, &err), &err);
        tree_runner_forward(runner, test->model, 1.0f);
        take_outputs(runner, 0, n, logp[0], mean[0], top);
        assert_memory_equal(logp[0], all_logp[i], (size_t)n * sizeof(float));
        assert_memory_equal(mean[0], all_mean[i], (size_t)n * sizeof(float));
        assert_memory_equal(top, all_top[i], (size_t)n * sizeof(int32_t));
    }
}

static void test_divisions(void **state)
{
    (void)state;
    static struct draw draw;
    /* Differences: losses are good to 1e-7 of about 5, over 2 h times a norm of about 3; h h times the curvature beside
     * that. */
    struct tally gradients = {.what = "gradients", .tolerance = 2e-6}, values = {.what = "metrics", .tolerance = 2e-6},
                 slopes = {.what = "differences", .tolerance = 2e-3};
    const char *isa;
    printf("seed %llu, %llu draws\n", (unsigned long long)asked.seed, (unsigned long long)asked.draws);
    for (size_t i_isa = 0; (isa = test_provider(test_isas, N_TEST_ISAS, i_isa)) != NULL; i_isa++) {
        struct backend *backend = backend_here(isa, 2);
        int64_t divided = 0;
        if (backend == NULL)
            continue;
        draw_counter = 0;
        for (uint64_t k = 0; k < n_draws(); k++) {
            struct model_test whole, parts;
            struct metrics want = {0}, got = {0};
            memset(&draw, 0, sizeof draw);
            draw_all(&draw);
            open_moved(&whole, backend, &draw, MAX_FED, MOST_ROWS, NULL, 0.0);
            alone(&whole, &draw);
            take_step(&whole, &draw, &want);
            open_moved(&parts, backend, &draw, draw.max_tokens, draw.max_completions, NULL, 0.0);
            take_step(&parts, &draw, &got);
            assert_int_equal(whole.runner.packing.n_micro, 1);
            divided += parts.runner.packing.n_micro > 1 ? 1 : 0;
            compare_steps(draw.words, &whole, &parts, &want, &got, &gradients, &values);
            if (draw.loss == SFT_LOSS_NLL && !test_options.small) /* dft's is not the derivative of its value */
                differences(backend, &draw, &whole, &slopes);
            metrics_free(&want);
            metrics_free(&got);
            model_test_close(&whole);
            model_test_close(&parts);
        }
        assert_true(divided > 0);
        backend_destroy(backend);
    }
    tally_report(&gradients);
    tally_report(&values);
    if (!test_options.small)
        tally_report(&slopes);
}

int main(int argc, char **argv)
{
    test_arguments(own_arguments(argc, argv), argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_divisions)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

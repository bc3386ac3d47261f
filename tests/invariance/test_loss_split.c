/* The gradient of a GRPO step, and its metrics, do not depend on how the step is divided into micro-batches, whatever the
 * switches of the loss (invariant I5): random switches, random divisions, in fp32. The draws are printed with their seed:
 *
 *     test_loss_split [--draws N] [--seed S] [--device cuda]
 *
 * The gradient is read from the first moment: with beta1 = 0 and no clipping the optimizer leaves it there. */
#include "support/script_rows.h"
#include "support/split_test.h"

enum { MAX_FED = 400 };

/* The rows, and what the policy gave to them. */
struct rows {
    struct script_rows script;
    float scored[N_ROWS][MAX_IDS], entropy[N_ROWS][MAX_IDS];
};

/* What the policy gives to the rows before the step. */
static void rows_score(struct rows *rows, struct model_test *test, float temperature)
{
    float *logp[N_ROWS], *entropy[N_ROWS];
    cohort_error err = {0};
    for (int i = 0; i < N_ROWS; i++) {
        logp[i] = rows->scored[i];
        entropy[i] = rows->entropy[i];
    }
    must(tree_runner_score(&test->runner, test->model, rows->script.trees, N_ROWS, temperature, logp, entropy, &err),
         &err);
}

/* Switches, and what the rows were sampled with. */
struct draw {
    struct grpo_config config;
    struct entropy_control entropy;
    int32_t iteration;
    int64_t max_completions, max_tokens; /* of the division */
    bool of_tokens;                      /* each token has an advantage of its own */
    char words[160];
};

static const char *const losses[] = {
#define WORD(id, word, ...) word,
    LOSS_LIST(WORD)};

static void draw_switches(struct draw *draw, struct rows *rows)
{
    struct loss_config *loss = &draw->config.loss;
    do {
        *loss = (struct loss_config){.type = (enum loss_type)pick(sizeof losses / sizeof *losses),
                                     .level = (enum loss_level)pick(3),
                                     .epsilon = 0.05 + 0.3 * uniform(),
                                     .epsilon_high = 0.05 + 1.5 * uniform(),
                                     .delta = pick(3) == 0 ? 1.0 + uniform() : 0.0,
                                     .sapo_temperature_pos = 0.5 + uniform(),
                                     .sapo_temperature_neg = 0.5 + uniform(),
                                     .vespo_k_pos = 2.0 * uniform(),
                                     .vespo_lambda_pos = 2.0 * uniform(),
                                     .vespo_k_neg = 2.0 * uniform(),
                                     .vespo_lambda_neg = 2.0 * uniform(),
                                     .beta = pick(2) ? 0.2 : 0.0,
                                     .kl = (enum loss_kl)pick(3),
                                     .kl_correction = pick(2),
                                     .off_policy_mask = pick(3) == 0,
                                     .off_policy_threshold = 0.02,
                                     .max_completion_length = MAX_IDS};
    } while (loss_check(loss, NULL) != COHORT_OK);
    draw->iteration = pick(3) == 0 ? 0 : 1;
    draw->config.group = GROUP;
    draw->config.plan = (struct step_plan){1, 1, 2};
    draw->config.sampling.temperature = 0.9f;
    draw->config.mask_truncated = pick(2);
    draw->config.filter_entropy = pick(2);
    draw->config.top_entropy_quantile = uniform();
    draw->config.schedule.learning_rate = 1e-3;
    draw->entropy = (struct entropy_control){
        .coef = pick(2) ? 0.3 : 0.0, .last = 0.0, .adaptive = pick(3) == 0, .most = 1, .target = 9};
    for (int i = 0; i < N_ROWS; i++) {
        const double drift = 0.4 * uniform() - 0.2;
        rows->script.advantage[i] = (float)(2.0 * uniform() - 1.0);
        rows->script.episodes[i].finish_reason = pick(4) == 0 ? FINISH_LENGTH : FINISH_EOS;
        rows->script.episodes[i].logp = draw->iteration == 0 ? rows->scored[i] : rows->script.logp[i];
        rows->script.episodes[i].entropy = pick(2) ? rows->entropy[i] : NULL;
        for (int32_t t = 0; t < rows->script.spans[i].n_tokens; t++)
            rows->script.logp[i][t] = rows->scored[i][t] + (float)(drift + 0.6 * uniform() - 0.3);
    }
    draw->of_tokens = pick(3) == 0;
    for (int i = 0; i < N_ROWS && draw->of_tokens; i++)
        for (int32_t t = 0; t < rows->script.spans[i].n_tokens; t++)
            rows->script.of_tokens[i][t] = (float)(2.0 * uniform() - 1.0);
    draw->max_completions = 1 + pick(N_ROWS - 1);
    draw->max_tokens = pick(2) ? MAX_FED : rows->script.longest + pick(rows->script.longest);
    snprintf(
        draw->words, sizeof draw->words,
        "%s%s level %d delta %.2g beta %.2g k%d%s%s filter %.2g bonus %.2g%s iteration %d, %d completions, %d tokens",
        losses[loss->type], draw->of_tokens ? " of tokens" : "", (int)loss->level, loss->delta, loss->beta,
        (int)loss->kl, loss->kl_correction ? " corrected" : "", loss->off_policy_mask ? " off-policy mask" : "",
        draw->config.filter_entropy ? draw->config.top_entropy_quantile : 1.0, draw->entropy.coef,
        draw->config.mask_truncated ? " masked" : "", (int)draw->iteration, (int)draw->max_completions,
        (int)draw->max_tokens);
}

static void take_step(struct model_test *test, struct backend *backend, const struct draw *draw, struct rows *rows,
                      int64_t max_tokens, int64_t max_completions, struct metrics *metrics)
{
    cohort_error err = {0};
    struct grpo_batch batch = script_batch(&rows->script);
    if (draw->of_tokens)
        batch.token_advantages = rows->script.token_advantages;
    model_test_open(test, backend, "model_tied", DTYPE_F32);
    model_test_plan(test, max_tokens, max_completions, DECODER_TRAIN, 0);
    struct grpo grpo = {.model = test->model,
                        .runner = &test->runner,
                        .optimizer = {.beta1 = 0.0f, .beta2 = 0.999f, .eps = 1e-8f},
                        .entropy = draw->entropy,
                        .config = draw->config};
    if (draw->config.loss.beta != 0.0) { /* a reference that differs: the KL term has a gradient */
        must(model_clone(&grpo.reference, test->model, &err), &err);
        other_norm(grpo.reference);
    }
    must(grpo_update(&grpo, rows->script.prompts, N_PROMPTS, &batch, draw->iteration, metrics, &err), &err);
    assert_true(metrics_get(metrics, "skipped_steps") == 0);
    model_destroy(grpo.reference);
}

static void test_divisions(void **state)
{
    (void)state;
    static struct rows rows;
    struct tally gradients = {.what = "gradients", .tolerance = 2e-6}, values = {.what = "metrics", .tolerance = 2e-6};
    const char *isa;
    printf("seed %llu, %llu draws\n", (unsigned long long)asked.seed, (unsigned long long)asked.draws);
    for (size_t i_isa = 0; (isa = test_provider(test_isas, N_TEST_ISAS, i_isa)) != NULL; i_isa++) {
        struct backend *backend = backend_here(isa, 2);
        struct model_test scored;
        int64_t divided = 0;
        if (backend == NULL)
            continue;
        script_rows_read(&rows.script);
        model_test_open(&scored, backend, "model_tied", DTYPE_F32);
        model_test_plan(&scored, MAX_FED, N_ROWS, DECODER_INFER, 0);
        rows_score(&rows, &scored, 0.9f);
        model_test_close(&scored);
        draw_counter = 0;
        for (uint64_t k = 0; k < n_draws(); k++) {
            struct draw draw = {0};
            struct model_test whole, parts;
            struct metrics want = {0}, got = {0};
            draw_switches(&draw, &rows);
            take_step(&whole, backend, &draw, &rows, MAX_FED, N_ROWS, &want);
            take_step(&parts, backend, &draw, &rows, draw.max_tokens, draw.max_completions, &got);
            assert_int_equal(whole.runner.packing.n_micro, 1);
            divided += parts.runner.packing.n_micro > 1 ? 1 : 0;
            compare_steps(draw.words, &whole, &parts, &want, &got, &gradients, &values);
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
}

int main(int argc, char **argv)
{
    test_arguments(own_arguments(argc, argv), argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_divisions)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* An optimizer step on slices of several generation batches: its gradient and its metrics do not depend on how it is
 * divided into micro-batches (invariant I5). Random plans, losses and divisions, in fp32; the draws are printed with their
 * seed:
 *
 *     test_step_rows [--draws N] [--seed S] [--device cuda]
 */
#include "support/script_rows.h"
#include "support/split_test.h"

enum { MAX_FED = 1600, MAX_BATCHES = 4 };

/* Batches of the same prompts and completions with advantages and log-probs of their own. */
struct batches {
    struct script_rows rows;
    struct grpo_batch of[MAX_BATCHES];
    struct episode episodes[MAX_BATCHES][N_ROWS];
    float logp[MAX_BATCHES][N_ROWS][MAX_IDS], reference[MAX_BATCHES][N_ROWS][MAX_IDS];
    float scored[N_ROWS][MAX_IDS], entropy[N_ROWS][MAX_IDS];
    float *reference_of[MAX_BATCHES][N_ROWS];
    float advantage[MAX_BATCHES][N_ROWS];
    int32_t order[MAX_BATCHES][N_ROWS];
};

struct draw {
    struct grpo_config config;
    int64_t steps;    /* done before this one */
    int32_t first, n; /* batches that it takes from */
    int64_t max_completions, max_tokens;
    char words[160];
};

static void draw_plan(struct draw *draw)
{
    static const int32_t slices[] = {1, 2, 4};
    struct step_plan *plan = &draw->config.plan;
    do {
        *plan = (struct step_plan){.slices = slices[pick(3)], .accumulated = 1 + pick(6), .iterations = 1 + pick(2)};
        draw->steps = pick(6);
        const int64_t begin = draw->steps * plan->accumulated;
        draw->first = (int32_t)step_plan_slice(plan, begin).batch;
        draw->n = (int32_t)step_plan_slice(plan, begin + plan->accumulated - 1).batch - draw->first + 1;
    } while (draw->n > MAX_BATCHES || draw->n > step_plan_most_batches(plan));
}

static void draw_step(struct draw *draw, struct batches *b)
{
    struct loss_config *loss = &draw->config.loss;
    do {
        *loss = (struct loss_config){.type = (enum loss_type)pick(LOSS_RLOO + 1),
                                     .level = (enum loss_level)pick(3),
                                     .epsilon = 0.2,
                                     .epsilon_high = 0.05 + uniform(),
                                     .sapo_temperature_pos = 1.0,
                                     .sapo_temperature_neg = 1.05,
                                     .vespo_k_pos = 1.0,
                                     .vespo_lambda_pos = 1.0,
                                     .vespo_k_neg = 1.0,
                                     .vespo_lambda_neg = 1.0,
                                     .beta = pick(2) ? 0.2 : 0.0,
                                     .kl_correction = pick(2),
                                     .max_completion_length = MAX_IDS};
    } while (loss_check(loss, NULL) != COHORT_OK);
    draw_plan(draw);
    draw->config.group = GROUP;
    draw->config.seed = (uint64_t)pick(1000);
    draw->config.sampling.temperature = 0.9f;
    draw->config.mask_truncated = pick(2);
    draw->config.filter_entropy = pick(2);
    draw->config.top_entropy_quantile = uniform();
    draw->config.schedule.learning_rate = 1e-3;
    for (int32_t k = 0; k < draw->n; k++) {
        struct grpo_batch *batch = &b->of[k];
        /* Drawn at any step up to this one: only what was drawn just now has a ratio of 1. */
        const bool fresh = k == draw->n - 1 && pick(2);
        *batch = (struct grpo_batch){.index = draw->first + k,
                                     .drawn_at = fresh ? draw->steps : draw->steps - 1,
                                     .prompts = b->rows.prompts,
                                     .order = b->order[k],
                                     .n_prompts = N_PROMPTS,
                                     .n = N_ROWS,
                                     .episodes = b->episodes[k],
                                     .advantage = b->advantage[k],
                                     .reference = loss->beta != 0.0 ? b->reference_of[k] : NULL,
                                     .scored = true};
        step_plan_order(&draw->config.plan, draw->config.seed, batch->index, N_ROWS, batch->order);
        for (int i = 0; i < N_ROWS; i++) {
            struct episode *e = &b->episodes[k][i];
            *e = b->rows.episodes[i];
            e->finish_reason = pick(4) == 0 ? FINISH_LENGTH : FINISH_EOS;
            e->logp = fresh ? b->scored[i] : b->logp[k][i];
            e->entropy = b->entropy[i];
            b->advantage[k][i] = (float)(2.0 * uniform() - 1.0);
            b->reference_of[k][i] = b->reference[k][i];
            for (int32_t t = 0; t < e->n_sampled; t++) {
                b->logp[k][i][t] = b->scored[i][t] + (float)(0.6 * uniform() - 0.3);
                b->reference[k][i][t] = b->scored[i][t] + (float)(0.6 * uniform() - 0.3);
            }
        }
    }
    draw->max_completions = 1 + pick(2 * N_ROWS);
    draw->max_tokens = pick(2) ? MAX_FED : b->rows.longest + pick(b->rows.longest);
    snprintf(
        draw->words, sizeof draw->words,
        "loss %d level %d beta %.2g, %d slices, %d a step, %d times, after %d steps, %d batches; %d completions, %d "
        "tokens",
        (int)loss->type, (int)loss->level, loss->beta, (int)draw->config.plan.slices,
        (int)draw->config.plan.accumulated, (int)draw->config.plan.iterations, (int)draw->steps, (int)draw->n,
        (int)draw->max_completions, (int)draw->max_tokens);
}

static void take_step(struct model_test *test, struct backend *backend, const struct draw *draw, struct batches *b,
                      int64_t max_tokens, int64_t max_completions, struct metrics *metrics)
{
    cohort_error err = {0};
    model_test_open(test, backend, "model_tied", DTYPE_F32);
    model_test_plan(test, max_tokens, max_completions, DECODER_TRAIN, 0);
    struct grpo grpo = {.model = test->model,
                        .runner = &test->runner,
                        .optimizer = {.beta1 = 0.0f, .beta2 = 0.999f, .eps = 1e-8f},
                        .config = draw->config,
                        .skipped = draw->steps};
    must(grpo_advance(&grpo, b->of, draw->n, metrics, &err), &err);
    assert_int_equal(grpo.skipped, draw->steps);
    for (int32_t k = 0; k < draw->n; k++)
        metrics_free(&b->of[k].metrics);
}

static void score_rows(struct batches *b, struct backend *backend)
{
    struct model_test test;
    float *logp[N_ROWS], *entropy[N_ROWS];
    cohort_error err = {0};
    script_rows_read(&b->rows);
    model_test_open(&test, backend, "model_tied", DTYPE_F32);
    model_test_plan(&test, MAX_FED, N_ROWS, DECODER_INFER, 0);
    for (int i = 0; i < N_ROWS; i++) {
        logp[i] = b->scored[i];
        entropy[i] = b->entropy[i];
    }
    must(tree_runner_score(&test.runner, test.model, b->rows.trees, N_ROWS, 0.9f, logp, entropy, &err), &err);
    model_test_close(&test);
}

static void test_divisions(void **state)
{
    (void)state;
    static struct batches batches;
    struct tally gradients = {.what = "gradients", .tolerance = 2e-6}, values = {.what = "metrics", .tolerance = 2e-6};
    const char *isa;
    printf("seed %llu, %llu draws\n", (unsigned long long)asked.seed, (unsigned long long)asked.draws);
    for (size_t i_isa = 0; (isa = test_provider(test_isas, N_TEST_ISAS, i_isa)) != NULL; i_isa++) {
        struct backend *backend = backend_here(isa, 2);
        int64_t divided = 0, several = 0;
        if (backend == NULL)
            continue;
        score_rows(&batches, backend);
        draw_counter = 0;
        for (uint64_t k = 0; k < n_draws(); k++) {
            struct draw draw = {0};
            struct model_test whole, parts;
            struct metrics want = {0}, got = {0};
            draw_step(&draw, &batches);
            several += draw.n > 1 ? 1 : 0;
            take_step(&whole, backend, &draw, &batches, MAX_FED, (int64_t)MAX_BATCHES * 6 * N_ROWS, &want);
            take_step(&parts, backend, &draw, &batches, draw.max_tokens, draw.max_completions, &got);
            assert_int_equal(whole.runner.packing.n_micro, 1);
            divided += parts.runner.packing.n_micro > 1 ? 1 : 0;
            compare_steps(draw.words, &whole, &parts, &want, &got, &gradients, &values);
            metrics_free(&want);
            metrics_free(&got);
            model_test_close(&whole);
            model_test_close(&parts);
        }
        assert_true(divided > 0 && several > 0);
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

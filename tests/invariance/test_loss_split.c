/* The gradient of a GRPO step, and its metrics, do not depend on how the step is divided into micro-batches, whatever the
 * switches of the loss (invariant I5): random switches, random divisions, in fp32. The draws are printed with their seed:
 *
 *     test_loss_split [--draws N] [--seed S] [--device cuda]
 *
 * The gradient is read from the first moment: with beta1 = 0 and no clipping the optimizer leaves it there. */
#include "support/model_test.h"

#include "base/rng.h"
#include "train/grpo.h"

enum { GROUP = 4, N_PROMPTS = 2, N_ROWS = GROUP * N_PROMPTS, MAX_FED = 400, MAX_IDS = 100 };

static struct {
    uint64_t seed, draws;
} asked = {.seed = 1, .draws = 16};

static uint64_t draw_counter;

static double uniform(void)
{
    struct rng_block block = rng_philox(asked.seed, RNG_TEST, 1, draw_counter++);
    return (double)rng_uniform(block.word[0]);
}

static int pick(int n) { return (int)(uniform() * n) % n; }

struct rows {
    int32_t prompt[N_PROMPTS][MAX_IDS], tokens[N_ROWS][MAX_IDS];
    struct grpo_prompt prompts[N_PROMPTS];
    struct episode episodes[N_ROWS];
    struct completion_tokens spans[N_ROWS];
    struct tree trees[N_ROWS]; /* one for each row */
    float advantage[N_ROWS];
    float scored[N_ROWS][MAX_IDS], logp[N_ROWS][MAX_IDS], entropy[N_ROWS][MAX_IDS];
    int32_t longest; /* tokens that the longest row needs */
};

/* Eight completions of different lengths for two prompts. */
static void rows_read(struct rows *rows)
{
    json_t *script = load_json(FIXTURES "grpo_steps/script.json");
    const json_t *round = json_array_get(json_object_get(script, "rounds"), 4);
    memset(rows, 0, sizeof *rows);
    for (size_t i = 0; i < N_ROWS; i++) {
        const size_t p = i / GROUP;
        int32_t n_prompt = read_ids(json_array_get(json_object_get(round, "prompts"), p), rows->prompt[p], MAX_IDS);
        int32_t n = read_ids(json_array_get(json_object_get(round, "completions"), i), rows->tokens[i], MAX_IDS);
        rows->prompts[p] = (struct grpo_prompt){.tokens = rows->prompt[p], .n_tokens = n_prompt};
        rows->spans[i] = (struct completion_tokens){.tokens = rows->tokens[i], .n_tokens = n};
        rows->episodes[i] = (struct episode){.tokens = rows->tokens[i], .n_tokens = n, .n_sampled = n};
        rows->trees[i] = (struct tree){
            .prompt = rows->prompt[p], .n_prompt = n_prompt, .completions = &rows->spans[i], .n_completions = 1};
        rows->longest = n_prompt + n - 1 > rows->longest ? n_prompt + n - 1 : rows->longest;
    }
    json_decref(script);
}

/* What the policy gives to the rows before the step. */
static void rows_score(struct rows *rows, struct model_test *test, float temperature)
{
    float *logp[N_ROWS], *entropy[N_ROWS];
    cohort_error err = {0};
    for (int i = 0; i < N_ROWS; i++) {
        logp[i] = rows->scored[i];
        entropy[i] = rows->entropy[i];
    }
    must(tree_runner_score(&test->runner, test->model, rows->trees, N_ROWS, temperature, logp, entropy, &err), &err);
}

/* Switches, and what the rows were sampled with. */
struct draw {
    struct grpo_config config;
    struct entropy_control entropy;
    int32_t iteration;
    int64_t max_completions, max_tokens; /* of the division */
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
    draw->config.num_iterations = 2;
    draw->config.sampling.temperature = 0.9f;
    draw->config.mask_truncated = pick(2);
    draw->config.filter_entropy = pick(2);
    draw->config.top_entropy_quantile = uniform();
    draw->config.learning_rate = 1e-3;
    draw->config.total_steps = 1;
    draw->entropy = (struct entropy_control){
        .coef = pick(2) ? 0.3 : 0.0, .last = 0.0, .adaptive = pick(3) == 0, .most = 1, .target = 9};
    for (int i = 0; i < N_ROWS; i++) {
        const double drift = 0.4 * uniform() - 0.2;
        rows->advantage[i] = (float)(2.0 * uniform() - 1.0);
        rows->episodes[i].finish_reason = pick(4) == 0 ? FINISH_LENGTH : FINISH_EOS;
        rows->episodes[i].logp = draw->iteration == 0 ? rows->scored[i] : rows->logp[i];
        rows->episodes[i].entropy = pick(2) ? rows->entropy[i] : NULL;
        for (int32_t t = 0; t < rows->spans[i].n_tokens; t++)
            rows->logp[i][t] = rows->scored[i][t] + (float)(drift + 0.6 * uniform() - 0.3);
    }
    draw->max_completions = 1 + pick(N_ROWS - 1);
    draw->max_tokens = pick(2) ? MAX_FED : rows->longest + pick(rows->longest);
    snprintf(
        draw->words, sizeof draw->words,
        "%s level %d delta %.2g beta %.2g k%d%s%s filter %.2g bonus %.2g%s iteration %d, %d completions, %d tokens",
        losses[loss->type], (int)loss->level, loss->delta, loss->beta, (int)loss->kl,
        loss->kl_correction ? " corrected" : "", loss->off_policy_mask ? " off-policy mask" : "",
        draw->config.filter_entropy ? draw->config.top_entropy_quantile : 1.0, draw->entropy.coef,
        draw->config.mask_truncated ? " masked" : "", (int)draw->iteration, (int)draw->max_completions,
        (int)draw->max_tokens);
}

static void take_step(struct model_test *test, struct backend *backend, const struct draw *draw, struct rows *rows,
                      int64_t max_tokens, int64_t max_completions, struct metrics *metrics)
{
    cohort_error err = {0};
    float reward[N_ROWS] = {0};
    double rewards[N_ROWS] = {0};
    struct grpo_batch batch = {.n_prompts = N_PROMPTS,
                               .n = N_ROWS,
                               .episodes = rows->episodes,
                               .rewards = rewards,
                               .reward = reward,
                               .advantage = rows->advantage};
    model_test_open(test, backend, "model_tied", DTYPE_F32);
    model_test_plan(test, max_tokens, max_completions, DECODER_TRAIN, 0);
    struct grpo grpo = {.model = test->model,
                        .runner = &test->runner,
                        .optimizer = {.beta1 = 0.0f, .beta2 = 0.999f, .eps = 1e-8f},
                        .entropy = draw->entropy,
                        .config = draw->config};
    if (draw->config.loss.beta != 0.0) { /* a reference that differs: the KL term has a gradient */
        must(model_clone(&grpo.reference, test->model, &err), &err);
        const struct param *norm = grpo.reference->final_norm.gain;
        float *w = fetched_tensor(grpo.reference, norm);
        for (int64_t i = 0; i < norm->count; i++)
            w[i] *= i % 2 == 0 ? 1.1f : 0.9f;
        backend->ops->upload(backend, param_values(&grpo.reference->base, norm), w, (size_t)norm->count * sizeof *w);
        free(w);
    }
    must(grpo_update(&grpo, rows->prompts, N_PROMPTS, &batch, draw->iteration, metrics, &err), &err);
    assert_true(metrics_get(metrics, "skipped_steps") == 0);
    model_destroy(grpo.reference);
}

/* Names of clocks and rates differ in any two runs. */
static bool timed(const char *name) { return strncmp(name, "time/", 5) == 0 || strncmp(name, "throughput/", 11) == 0; }

static void compare(const struct draw *draw, struct model_test *whole, struct model_test *parts,
                    const struct metrics *want, const struct metrics *got, struct tally *gradients,
                    struct tally *values)
{
    for (int32_t i = 0; i < parts->model->base.table.n_params; i++) {
        const struct param *param = &parts->model->base.table.params[i];
        const size_t bytes = (size_t)param->count * sizeof(float);
        const struct param_training *a = &parts->model->trained->training, *b = &whole->model->trained->training;
        float *x = fetched(parts->backend, (float *)a->m + a->first[i], bytes);
        float *y = fetched(whole->backend, (float *)b->m + b->first[i], bytes);
        tally_add(gradients, relative_norm(x, y, param->count), draw->words, param->name);
        free(x);
        free(y);
    }
    assert_int_equal(want->count, got->count);
    for (size_t k = 0; k < want->count; k++) {
        const double a = want->items[k].value, b = metrics_get(got, want->items[k].name);
        if (timed(want->items[k].name) || (isnan(a) && isnan(b)))
            continue;
        tally_add(values, fabs(a - b) / (1.0 + fabs(a)), draw->words, want->items[k].name);
    }
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
        rows_read(&rows);
        model_test_open(&scored, backend, "model_tied", DTYPE_F32);
        model_test_plan(&scored, MAX_FED, N_ROWS, DECODER_INFER, 0);
        rows_score(&rows, &scored, 0.9f);
        model_test_close(&scored);
        draw_counter = 0;
        for (uint64_t k = 0; k < (test_options.small ? (asked.draws + 3) / 4 : asked.draws); k++) {
            struct draw draw = {0};
            struct model_test whole, parts;
            struct metrics want = {0}, got = {0};
            draw_switches(&draw, &rows);
            take_step(&whole, backend, &draw, &rows, MAX_FED, N_ROWS, &want);
            take_step(&parts, backend, &draw, &rows, draw.max_tokens, draw.max_completions, &got);
            assert_int_equal(whole.runner.packing.n_micro, 1);
            divided += parts.runner.packing.n_micro > 1 ? 1 : 0;
            compare(&draw, &whole, &parts, &want, &got, &gradients, &values);
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

/* Takes this test's own arguments out of argv. */
static int own_arguments(int argc, char **argv)
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

int main(int argc, char **argv)
{
    test_arguments(own_arguments(argc, argv), argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_divisions)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The gradient of an optimizer step does not depend on how the step is split into micro-batches: by
 * completions (1, 2, 7, all) or by tokens, per tensor, for a GRPO step and an SFT step, in fp32
 * (invariant I5: denominators span the step; what is left is the order of fp32 sums).
 *
 * The gradient is read from the first moment: with beta1 = 0 and no clipping the optimizer leaves
 * the gradient itself there. */
#include "support/model_test.h"

#include "train/grpo.h"
#include "train/sft.h"

enum { GROUP = 4, N_PROMPTS = 2, N_ROWS = GROUP * N_PROMPTS, MAX_TOKENS = 400, MAX_IDS = 100 };

struct rows {
    int32_t prompt[N_PROMPTS][MAX_IDS], tokens[N_ROWS][MAX_IDS];
    struct grpo_prompt prompts[N_PROMPTS];
    struct episode episodes[N_ROWS];
    struct completion_tokens spans[N_ROWS];
    struct tree trees[N_ROWS]; /* one for each row */
    float advantage[N_ROWS];
    float logp[N_ROWS][MAX_IDS];
    int32_t longest; /* tokens that the longest row needs */
};

/* Round 4 of the GRPO script: eight completions of different lengths for two prompts. */
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
        rows->episodes[i] =
            (struct episode){.tokens = rows->tokens[i], .n_tokens = n, .n_sampled = n, .finish_reason = FINISH_EOS};
        rows->trees[i] = (struct tree){
            .prompt = rows->prompt[p], .n_prompt = n_prompt, .completions = &rows->spans[i], .n_completions = 1};
        rows->advantage[i] = 0.25f * (float)i - 0.8f;
        rows->longest = n_prompt + n - 1 > rows->longest ? n_prompt + n - 1 : rows->longest;
    }
    json_decref(script);
}

static const struct optimizer keep_gradient = {.beta1 = 0.0f, .beta2 = 0.999f, .eps = 1e-8f};

static const float temperature = 0.9f;

/* n_micro: micro-batches that must come out of it; 0: more than one. max_tokens 0: no limit. */
struct split {
    const char *name;
    int64_t max_completions, max_tokens;
    int32_t n_micro;
};

enum job { JOB_DAPO_KL, JOB_GRPO_CLIP, JOB_SFT, N_JOBS };
static const char *const job_names[] = {"grpo step (dapo, kl)", "grpo step (clipped ratios)", "sft step"};

/* The ratios of the clipped job: well inside and well outside the clip range, so that no rounding
 * decides whether a token is clipped. */
static void old_logps(struct backend *backend, struct rows *rows, const char *fixture)
{
    static const float moved[] = {0.0f, 0.1f, -0.5f, -0.1f, 0.5f};
    struct model_test test;
    float *logp[N_ROWS];
    cohort_error err = {0};
    for (int i = 0; i < N_ROWS; i++)
        logp[i] = rows->logp[i];
    model_test_open(&test, backend, fixture, DTYPE_F32);
    model_test_plan(&test, MAX_TOKENS, N_ROWS, DECODER_INFER, 0);
    must(tree_runner_score(&test.runner, test.model, rows->trees, N_ROWS, temperature, logp, NULL, &err), &err);
    for (int i = 0; i < N_ROWS; i++) {
        for (int32_t t = 0; t < rows->spans[i].n_tokens; t++)
            rows->logp[i][t] += moved[(i + t) % 5];
        rows->episodes[i].logp = rows->logp[i];
    }
    model_test_close(&test);
}

static void sft_update(struct model_test *test, struct rows *rows)
{
    struct metrics metrics = {0};
    cohort_error err = {0};
    struct sft sft = {.model = test->model,
                      .runner = &test->runner,
                      .optimizer = keep_gradient,
                      .learning_rate = 1e-3,
                      .total_steps = 1};
    must(sft_step(&sft, rows->trees, N_ROWS, &metrics, &err), &err);
    metrics_free(&metrics);
}

static void rl_update(struct model_test *test, struct rows *rows, enum job job)
{
    struct metrics metrics = {0};
    cohort_error err = {0};
    float reward[N_ROWS] = {0};
    double rewards[N_ROWS] = {0};
    struct grpo_batch batch = {.n_prompts = N_PROMPTS,
                               .n = N_ROWS,
                               .episodes = rows->episodes,
                               .rewards = rewards,
                               .reward = reward,
                               .advantage = rows->advantage};
    struct grpo grpo = {.model = test->model,
                        .runner = &test->runner,
                        .optimizer = keep_gradient,
                        .config = {.group = GROUP,
                                   .num_iterations = 2,
                                   .sampling = {.temperature = temperature},
                                   .loss = {.type = job == JOB_GRPO_CLIP ? LOSS_GRPO : LOSS_DAPO,
                                            .epsilon = 0.2,
                                            .epsilon_high = 0.28,
                                            .beta = job == JOB_GRPO_CLIP ? 0.0 : 0.04,
                                            .max_completion_length = MAX_IDS},
                                   .learning_rate = 1e-3,
                                   .total_steps = 1}};
    if (job == JOB_DAPO_KL) { /* a reference that differs: the KL term has a gradient */
        must(model_clone(&grpo.reference, test->model, &err), &err);
        struct backend *backend = test->backend;
        const struct param *norm = grpo.reference->final_norm;
        float *w = fetched_tensor(grpo.reference, norm);
        for (int64_t i = 0; i < norm->count; i++)
            w[i] *= i % 2 == 0 ? 1.1f : 0.9f;
        backend->ops->upload(backend, model_tensor(grpo.reference, norm), w, (size_t)norm->count * sizeof *w);
        free(w);
    }
    must(grpo_update(&grpo, rows->prompts, N_PROMPTS, &batch, job == JOB_GRPO_CLIP ? 1 : 0, &metrics, &err), &err);
    assert_true(metrics_get(&metrics, "skipped_steps") == 0);
    if (job == JOB_GRPO_CLIP)
        assert_true(metrics_get(&metrics, "clip_ratio/region_mean") > 0.05);
    else
        assert_true(metrics_get(&metrics, "kl") > 0);
    model_destroy(grpo.reference);
}

/* One optimizer step on a fresh model; its gradient stays in test->model->m. */
static void take_step(struct model_test *test, struct backend *backend, const char *fixture, struct rows *rows,
                      enum job job, const struct split *split)
{
    model_test_open(test, backend, fixture, DTYPE_F32);
    model_test_plan(test, split->max_tokens > 0 ? split->max_tokens : MAX_TOKENS, split->max_completions, DECODER_TRAIN,
                    0);
    if (job == JOB_SFT)
        sft_update(test, rows);
    else
        rl_update(test, rows, job);
}

static void check(struct backend *backend, const char *isa, const char *fixture, struct rows *rows, enum job job,
                  struct tally *tally)
{
    const struct split splits[] = {{"1", 1, 0, 8},
                                   {"2", 2, 0, 4},
                                   {"7", 7, 0, 2},
                                   {"least tokens", N_ROWS, rows->longest, 0},
                                   {"twice the least tokens", N_ROWS, 2 * (int64_t)rows->longest, 0}};
    const struct split all = {"all", N_ROWS, 0, 1};
    struct model_test whole, test;
    take_step(&whole, backend, fixture, rows, job, &all);
    assert_int_equal(whole.runner.packing.n_micro, 1);
    for (size_t s = 0; s < sizeof splits / sizeof *splits; s++) {
        char setting[160];
        take_step(&test, backend, fixture, rows, job, &splits[s]);
        if (splits[s].n_micro > 0)
            assert_int_equal(test.runner.packing.n_micro, splits[s].n_micro);
        else
            assert_true(test.runner.packing.n_micro > 1);
        snprintf(setting, sizeof setting, "%s, %s %s, split %s", job_names[job], fixture, isa, splits[s].name);
        for (int32_t i = 0; i < test.model->params.n_params; i++) {
            const struct param *param = &test.model->params.params[i];
            const size_t bytes = (size_t)param->count * sizeof(float);
            float *got = fetched(backend, (float *)test.model->m + param->offset, bytes);
            float *want = fetched(backend, (float *)whole.model->m + param->offset, bytes);
            tally_add(tally, relative_norm(got, want, param->count), setting, param->name);
            free(got);
            free(want);
        }
        model_test_close(&test);
    }
    model_test_close(&whole);
}

static void test_split(void **state)
{
    (void)state;
    static const char *const fixtures[] = {"model_tied", "model_wide_heads"};
    static struct rows rows;
    struct tally tally = {.what = "gradients", .tolerance = 1e-6};
    const char *isa;
    for (size_t i_isa = 0; (isa = test_provider(test_isas, N_TEST_ISAS, i_isa)) != NULL; i_isa++) {
        struct backend *backend = backend_here(isa, 2);
        if (backend == NULL)
            continue;
        for (int f = 0; f < 2; f++) {
            rows_read(&rows);
            old_logps(backend, &rows, fixtures[f]);
            for (int job = 0; job < N_JOBS; job++)
                check(backend, isa, fixtures[f], &rows, (enum job)job, &tally);
        }
        backend_destroy(backend);
    }
    tally_report(&tally);
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_split)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The gradient of an optimizer step does not depend on how the step is split into micro-batches: by
 * completions (1, 2, 7, all) or by tokens, per tensor, for a GRPO step and an SFT step, in fp32
 * (invariant I5: denominators span the step; what is left is the order of fp32 sums).
 *
 * The gradient is read from the first moment: with beta1 = 0 and no clipping the optimizer leaves
 * the gradient itself there. */
#include "support/script_rows.h"

#include "train/sft.h"

enum { MAX_TOKENS = 400 };

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
static void old_logps(struct backend *backend, struct script_rows *rows, const char *fixture)
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

static void sft_update(struct model_test *test, struct script_rows *rows)
{
    struct metrics metrics = {0};
    cohort_error err = {0};
    struct sft sft = {
        .model = test->model, .runner = &test->runner, .optimizer = keep_gradient, .schedule.learning_rate = 1e-3};
    must(sft_step(&sft, &(struct sft_batch){.trees = rows->trees, .n = N_ROWS}, &metrics, &err), &err);
    metrics_free(&metrics);
}

static void rl_update(struct model_test *test, struct script_rows *rows, enum job job)
{
    struct metrics metrics = {0};
    cohort_error err = {0};
    struct grpo_batch batch = script_batch(rows);
    struct grpo grpo = {.model = test->model,
                        .runner = &test->runner,
                        .optimizer = keep_gradient,
                        .config = {.group = GROUP,
                                   .plan = {1, 1, 2},
                                   .sampling = {.temperature = temperature},
                                   .loss = {.type = job == JOB_GRPO_CLIP ? LOSS_GRPO : LOSS_DAPO,
                                            .epsilon = 0.2,
                                            .epsilon_high = 0.28,
                                            .beta = job == JOB_GRPO_CLIP ? 0.0 : 0.04,
                                            .max_completion_length = MAX_IDS},
                                   .schedule.learning_rate = 1e-3}};
    if (job == JOB_DAPO_KL) { /* a reference that differs: the KL term has a gradient */
        must(model_clone(&grpo.reference, test->model, &err), &err);
        other_norm(grpo.reference);
    }
    must(grpo_update(&grpo, rows->prompts, N_PROMPTS, &batch, job == JOB_GRPO_CLIP ? 1 : 0, &metrics, &err), &err);
    assert_true(metrics_get(&metrics, "skipped_steps") == 0);
    if (job == JOB_GRPO_CLIP)
        assert_true(metrics_get(&metrics, "clip_ratio/region_mean") > 0.05);
    else
        assert_true(metrics_get(&metrics, "kl") > 0);
    model_destroy(grpo.reference);
    metrics_free(&metrics);
}

static float *first_moment(const struct model *model, int32_t param)
{
    return param_state(model->trained, param, PARAM_STATE_EXP_AVG);
}

/* One optimizer step on a fresh model; its gradient stays in test->model->m. */
static void take_step(struct model_test *test, struct backend *backend, const char *fixture, struct script_rows *rows,
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

static void check(struct backend *backend, const char *isa, const char *fixture, struct script_rows *rows, enum job job,
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
        for (int32_t i = 0; i < test.model->base.table.n_params; i++) {
            const struct param *param = &test.model->base.table.params[i];
            const size_t bytes = (size_t)param->count * sizeof(float);
            float *got = fetched(backend, first_moment(test.model, i), bytes);
            float *want = fetched(backend, first_moment(whole.model, i), bytes);
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
    static struct script_rows rows;
    struct tally tally = {.what = "gradients", .tolerance = 1e-6};
    const char *isa;
    for (size_t i_isa = 0; (isa = test_provider(test_isas, N_TEST_ISAS, i_isa)) != NULL; i_isa++) {
        struct backend *backend = backend_here(isa, 2);
        if (backend == NULL)
            continue;
        for (int f = 0; f < 2; f++) {
            script_rows_read(&rows);
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

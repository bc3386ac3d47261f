/* Ten GRPO steps on scripted completions against TRL's trainer (tests/fixtures/grpo_steps,
 * oracle/grpo_steps_trl.py): loss, gradient norm, learning rate, KL, entropy, clip and reward
 * metrics of every step, advantages, old and reference log-probs, weights after the first and the
 * last step.
 *
 * Tolerances are those oracle/README.md derives: TRL moves from itself by about as much when only
 * its rounding changes. */
#include "support/model_test.h"

#include "train/grpo.h"

enum { GROUP = 4, N_PROMPTS = 2, N_ROWS = GROUP * N_PROMPTS, MAX_PROMPT = 80, MAX_COMPLETION = 24 };

struct round {
    int32_t prompt[N_PROMPTS][MAX_PROMPT], tokens[N_ROWS][MAX_COMPLETION];
    float logp[N_ROWS][MAX_COMPLETION], entropy[N_ROWS][MAX_COMPLETION];
    struct grpo_prompt prompts[N_PROMPTS];
    struct episode episodes[N_ROWS];
    struct completion_tokens spans[N_ROWS];
    struct tree trees[N_PROMPTS];
    double reward[N_ROWS];
    struct grpo_batch batch;
    float advantage[N_ROWS], row_reward[N_ROWS];
    struct advantage_output output;
    double mean, std;
};

static bool is_eos(const struct model_config *config, int32_t token)
{
    for (int32_t i = 0; i < config->n_eos; i++)
        if (config->eos_ids[i] == token)
            return true;
    return false;
}

/* r is large and points into itself: filled in place. */
static void round_read(struct round *r, const json_t *json, const struct model_config *config)
{
    static const double weight = 1.0;
    cohort_error err = {0};
    memset(r, 0, sizeof *r);
    for (size_t p = 0; p < N_PROMPTS; p++) {
        int32_t n = read_ids(json_array_get(json_object_get(json, "prompts"), p), r->prompt[p], MAX_PROMPT);
        r->prompts[p] = (struct grpo_prompt){.tokens = r->prompt[p], .n_tokens = n, .id = p};
        r->trees[p] = (struct tree){
            .prompt = r->prompt[p], .n_prompt = n, .completions = &r->spans[p * GROUP], .n_completions = GROUP};
    }
    for (size_t i = 0; i < N_ROWS; i++) {
        int32_t n = read_ids(json_array_get(json_object_get(json, "completions"), i), r->tokens[i], MAX_COMPLETION);
        const json_t *reward = json_array_get(json_object_get(json, "rewards"), i);
        r->reward[i] = json_is_null(reward) ? (double)NAN : json_number_value(reward);
        r->spans[i] = (struct completion_tokens){.tokens = r->tokens[i], .n_tokens = n};
        r->episodes[i] =
            (struct episode){.n_tokens = n,
                             .n_sampled = n,
                             .tokens = r->tokens[i],
                             .finish_reason = is_eos(config, r->tokens[i][n - 1]) ? FINISH_EOS : FINISH_LENGTH};
    }
    r->output = (struct advantage_output){
        .advantage = r->advantage, .reward = r->row_reward, .function_mean = &r->mean, .function_std = &r->std};
    must(advantage_compute(&(struct advantage_input){.n_rows = N_ROWS,
                                                     .group = GROUP,
                                                     .n_functions = 1,
                                                     .rewards = r->reward,
                                                     .weights = &weight,
                                                     .config = {.epsilon = 1e-4}},
                           &r->output, &err),
         &err);
    r->batch = (struct grpo_batch){.n_prompts = N_PROMPTS,
                                   .n = N_ROWS,
                                   .episodes = r->episodes,
                                   .rewards = r->reward,
                                   .reward = r->row_reward,
                                   .advantage = r->advantage};
}

static double setting(const json_t *settings, const char *key, double otherwise)
{
    const json_t *value = json_object_get(settings, key);
    return json_is_number(value) ? json_number_value(value) : otherwise;
}

#define WORD(id, word, ...) word,
static enum loss_type type_of(const json_t *settings)
{
    static const char *const words[] = {LOSS_LIST(WORD)};
    const char *type = json_string_value(json_object_get(settings, "loss_type"));
    size_t i = 0;
    assert_non_null(type);
    while (strcmp(words[i], type) != 0)
        assert_true(++i < sizeof words / sizeof *words);
    return (enum loss_type)i;
}

static struct grpo_config config_of(const json_t *settings)
{
    assert_int_equal(json_number(settings, "num_generations"), GROUP);
    const double top = setting(settings, "top_entropy_quantile", 1.0);
    return (struct grpo_config){
        .group = GROUP,
        .max_completion_length = MAX_COMPLETION,
        .plan = {1, 1, (int32_t)json_number(settings, "num_iterations")},
        .sampling = {.temperature = (float)json_number(settings, "temperature")},
        .loss = {.type = type_of(settings),
                 .epsilon = json_number(settings, "epsilon"),
                 .epsilon_high = json_number(settings, "epsilon_high"),
                 .sapo_temperature_pos = 1.0,
                 .sapo_temperature_neg = 1.05,
                 .beta = json_number(settings, "beta"),
                 .kl_correction = json_is_true(json_object_get(settings, "use_bias_correction_kl")),
                 .off_policy_mask = json_object_get(settings, "off_policy_mask_threshold") != NULL,
                 .off_policy_threshold = setting(settings, "off_policy_mask_threshold", 0.0),
                 .max_completion_length = MAX_COMPLETION},
        .filter_entropy = top < 1.0,
        .top_entropy_quantile = top,
        .schedule = {.type = SCHEDULE_CONSTANT, .learning_rate = json_number(settings, "learning_rate")}};
}

static struct entropy_control control_of(const json_t *settings)
{
    return (struct entropy_control){.coef = setting(settings, "entropy_coef", 0.0),
                                    .last = (double)INFINITY,
                                    .adaptive = json_is_true(json_object_get(settings, "use_adaptive_entropy")),
                                    .most = setting(settings, "entropy_coef_max", 1.0),
                                    .delta = setting(settings, "entropy_coef_delta", 0.005),
                                    .target = setting(settings, "entropy_target", 0.2)};
}

static struct optimizer optimizer_of(const json_t *settings)
{
    return (struct optimizer){.beta1 = (float)json_number(settings, "adam_beta1"),
                              .beta2 = (float)json_number(settings, "adam_beta2"),
                              .eps = (float)json_number(settings, "adam_epsilon"),
                              .weight_decay = (float)json_number(settings, "weight_decay"),
                              .max_grad_norm = json_number(settings, "max_grad_norm")};
}

/* Log-probs of the round's completions by model into to, compared with TRL's if it recorded them.
 */
static void score(struct model_test *test, struct model *model, const struct round *r, const struct grpo_config *config,
                  const json_t *seen, const char *key, float to[N_ROWS][MAX_COMPLETION],
                  float entropy[N_ROWS][MAX_COMPLETION], const char *run, struct tally *tally)
{
    float *rows[N_ROWS], *entropies[N_ROWS];
    cohort_error err = {0};
    for (int i = 0; i < N_ROWS; i++) {
        rows[i] = to[i];
        entropies[i] = entropy[i];
    }
    must(tree_runner_score(&test->runner, model, r->trees, N_PROMPTS, config->sampling.temperature, rows, entropies,
                           &err),
         &err);
    const json_t *recorded = json_object_get(seen, key);
    for (size_t i = 0; i < N_ROWS && recorded != NULL; i++) {
        const json_t *row = json_array_get(recorded, i);
        double worst = 0;
        assert_int_equal(json_array_size(row), r->spans[i].n_tokens);
        for (size_t t = 0; t < json_array_size(row); t++)
            worst = fmax(worst, fabs(json_number_value(json_array_get(row, t)) - (double)to[i][t]));
        tally_add(tally, worst, run, key);
    }
}

static void check_weights(const struct model *model, const char *run, const char *when, struct tally *rms,
                          struct tally *max)
{
    char path[256], setting[64];
    struct safetensors file = {0};
    cohort_error err = {0};
    double squares = 0, worst = 0;
    int64_t count = 0;
    snprintf(path, sizeof path, FIXTURES "grpo_steps/%s.%s.safetensors", run, when);
    snprintf(setting, sizeof setting, "%s %s", run, when);
    must(safetensors_open(&file, path, &err), &err);
    assert_int_equal(file.n_tensors, model->base.table.n_params);
    for (int32_t p = 0; p < model->base.table.n_params; p++) {
        const struct param *param = &model->base.table.params[p];
        const float *want = fixture_tensor(&file, param->count, "%s", param->name);
        float *got = fetched_tensor(model, param);
        double tensor_worst = 0;
        for (int64_t i = 0; i < param->count; i++) {
            double d = fabs((double)got[i] - (double)want[i]);
            tensor_worst = fmax(tensor_worst, d);
            squares += d * d;
        }
        free(got);
        tally_add(max, tensor_worst, setting, param->name);
        worst = fmax(worst, tensor_worst);
        count += param->count;
    }
    tally_add(rms, sqrt(squares / (double)count), setting, "all weights");
    print_message("%s: weights rms %.1e max %.1e\n", setting, sqrt(squares / (double)count), worst);
    safetensors_close(&file);
}

struct tallies {
    struct tally loss, grad_norm, entropy, kl, clip, exact, reward, advantage, logp, rms, max;
};

/* One metric of a step: ours against the fixture's. */
static void metric(struct tally *tally, const struct metrics *metrics, const json_t *step, const char *name,
                   const char *run)
{
    char label[96];
    const double want = json_number(step, name);
    /* The second step of kl_corrected is of another size than all others (loss 2.6, KL 19, gradient norm 80; TRL with
     * other padding differs by 7.2e-6 of the loss and 2.1e-4 of the norm): what is above 1 there is compared relatively. */
    const double unit = strcmp(run, "kl_corrected") == 0 ? fmax(1.0, fabs(want)) : 1.0;
    snprintf(label, sizeof label, "%s of step %d", name, (int)json_number(step, "step"));
    tally_add(tally, fabs(metrics_get(metrics, name) - want) / unit, run, label);
}

static void check_metrics(struct tallies *t, const struct metrics *metrics, const struct round *r, const json_t *step,
                          bool first, bool kl, const char *run)
{
    metric(&t->loss, metrics, step, "loss", run);
    metric(&t->grad_norm, metrics, step, "grad_norm", run);
    metric(&t->exact, metrics, step, "learning_rate", run);
    metric(&t->entropy, metrics, step, "entropy", run);
    static const char *const clips[] = {"clip_ratio/low_mean", "clip_ratio/low_min", "clip_ratio/high_mean",
                                        "clip_ratio/high_max", "clip_ratio/region_mean"};
    for (size_t i = 0; i < sizeof clips / sizeof *clips; i++) {
        assert_int_equal(json_object_get(step, clips[i]) == NULL, isnan(metrics_get(metrics, clips[i])));
        if (json_object_get(step, clips[i]) != NULL)
            metric(&t->clip, metrics, step, clips[i], run);
    }
    if (json_object_get(step, "policy_loss") != NULL) {
        metric(&t->loss, metrics, step, "policy_loss", run);
        metric(&t->exact, metrics, step, "entropy_coef", run);
    }
    if (kl)
        metric(&t->kl, metrics, step, "kl", run);
    if (first) {
        tally_add(&t->reward, fabs(r->output.reward_mean - json_number(step, "reward")), run, "reward");
        tally_add(&t->reward, fabs(r->output.reward_std - json_number(step, "reward_std")), run, "reward_std");
        tally_add(&t->reward, fabs(r->output.frac_reward_zero_std - json_number(step, "frac_reward_zero_std")), run,
                  "frac_reward_zero_std");
    }
}

static void replay(const char *run, const json_t *script, struct backend *backend, int64_t max_completions,
                   enum decoder_mode mode, struct tallies *t)
{
    char path[256];
    struct model_test test;
    struct model *reference = NULL;
    cohort_error err = {0};
    static struct round r;
    snprintf(path, sizeof path, FIXTURES "grpo_steps/%s.json", run);
    json_t *json = load_json(path);
    const json_t *settings = json_object_get(json, "settings"), *steps = json_object_get(json, "steps");
    struct grpo grpo = {
        .config = config_of(settings), .optimizer = optimizer_of(settings), .entropy = control_of(settings)};
    const bool kl = grpo.config.loss.beta != 0.0;
    model_test_open(&test, backend, "model_tied", DTYPE_F32);
    model_test_plan(&test, 400, max_completions, mode, 0);
    if (kl)
        must(model_clone(&reference, test.model, &err), &err);
    grpo.model = test.model;
    grpo.reference = reference;
    grpo.runner = &test.runner;
    assert_int_equal(json_array_size(steps), 10);
    for (size_t s = 0; s < json_array_size(steps); s++) {
        size_t index = s / (size_t)grpo.config.plan.iterations;
        int32_t iteration = (int32_t)(s % (size_t)grpo.config.plan.iterations);
        const json_t *step = json_array_get(steps, s);
        const json_t *seen = json_array_get(json_object_get(json, "rounds"), index);
        struct metrics metrics = {0};
        if (iteration == 0) {
            static float scratch[2][N_ROWS][MAX_COMPLETION];
            round_read(&r, json_array_get(json_object_get(script, "rounds"), index), &test.model->config);
            score(&test, test.model, &r, &grpo.config, seen, "old_per_token_logps", r.logp, r.entropy, run, &t->logp);
            for (int i = 0; i < N_ROWS; i++) {
                r.episodes[i].logp = r.logp[i];
                /* Recorded, or to be found by a forward more. */
                r.episodes[i].entropy = max_completions >= N_ROWS ? r.entropy[i] : NULL;
            }
            if (kl)
                score(&test, reference, &r, &grpo.config, seen, "ref_per_token_logps", scratch[0], scratch[1], run,
                      &t->logp);
            for (size_t i = 0; i < N_ROWS; i++)
                tally_add(&t->advantage,
                          fabs((double)r.advantage[i] -
                               json_number_value(json_array_get(json_object_get(seen, "advantages"), i))),
                          run, "advantage");
        }
        must(grpo_update(&grpo, r.prompts, N_PROMPTS, &r.batch, iteration, &metrics, &err), &err);
        check_metrics(t, &metrics, &r, step, iteration == 0, kl, run);
        if (iteration == 0) /* scored by the same model just before: the same bits (I2) */
            tally_add(&t->exact, metrics_get(&metrics, "sampling/sampling_logp_difference/max"), run,
                      "sampling_logp_difference/max");
        assert_true(metrics_get(&metrics, "skipped_steps") == 0.0);
        if (s == 0)
            check_weights(test.model, run, "step1", &t->rms, &t->max);
    }
    check_weights(test.model, run, "final", &t->rms, &t->max);
    model_destroy(reference);
    model_test_close(&test);
    json_decref(json);
}

static void test_replay(void **state)
{
    (void)state;
    static const char *const runs[] = {"grpo", "dapo", "kl", "kl_corrected", "two_iterations", "entropy", "sapo"};
    struct tallies t = {.loss = {.what = "loss", .tolerance = 5e-6},
                        .grad_norm = {.what = "grad_norm", .tolerance = 2e-4},
                        .entropy = {.what = "entropy", .tolerance = 5e-6},
                        .kl = {.what = "kl", .tolerance = 2e-4},
                        .clip = {.what = "clip metrics", .tolerance = 1e-6},
                        .exact = {.what = "learning rate, log-prob difference", .tolerance = 0},
                        .reward = {.what = "reward metrics", .tolerance = 1e-6},
                        .advantage = {.what = "advantages", .tolerance = 1e-6},
                        .logp = {.what = "old and reference log-probs", .tolerance = 5e-5},
                        .rms = {.what = "weights (rms)", .tolerance = 1e-6},
                        .max = {.what = "weights (max)", .tolerance = 1e-4}};
    json_t *script = load_json(FIXTURES "grpo_steps/script.json");
    const char *isa;
    for (size_t i_isa = 0; (isa = test_provider(test_isas, N_TEST_ISAS, i_isa)) != NULL; i_isa++) {
        struct backend *backend = backend_here(isa, 2);
        if (backend == NULL)
            continue;
        for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
            if (test_options.small && strcmp(runs[i], "kl") != 0 && strcmp(runs[i], "entropy") != 0)
                continue;
            if (!test_options.small)
                replay(runs[i], script, backend, N_ROWS, DECODER_TRAIN, &t);
            replay(runs[i], script, backend, 3, DECODER_RECOMPUTE, &t); /* 3 + 3 + 2 completions */
        }
        backend_destroy(backend);
    }
    json_decref(script);
    const struct tally *all[] = {&t.loss,   &t.grad_norm, &t.entropy, &t.kl,  &t.clip, &t.exact,
                                 &t.reward, &t.advantage, &t.logp,    &t.rms, &t.max};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        tally_report(all[i]);
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_replay)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

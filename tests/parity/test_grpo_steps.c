/* Ten GRPO steps on scripted completions against TRL's trainer (tests/fixtures/grpo_steps,
 * oracle/grpo_steps_trl.py): loss, gradient norm, learning rate, KL, entropy, clip and reward
 * metrics of every step, advantages, old and reference log-probs, weights after the first and the
 * last step.
 *
 * Tolerances are those oracle/README.md derives: TRL moves from itself by about as much when only
 * its rounding changes. */
#include "support/grpo_script.h"

static void round_advantages(struct round *r, const struct advantage_config *config)
{
    static const double weight = 1.0;
    cohort_error err = {0};
    r->output = (struct advantage_output){
        .advantage = r->advantage, .reward = r->row_reward, .function_mean = &r->mean, .function_std = &r->std};
    must(advantage_compute(&(struct advantage_input){.n_rows = N_ROWS,
                                                     .group = GROUP,
                                                     .n_functions = 1,
                                                     .rewards = r->reward,
                                                     .weights = &weight,
                                                     .config = *config},
                           &r->output, &err),
         &err);
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

/* Which tokens a prompt's completions could draw, by place alone: allowed() of the oracle. */
struct script_masks {
    uint32_t bits[MAX_COMPLETION][4];
    int32_t at;
};

static void masks_begin(void *context, int32_t n_tokens)
{
    assert_int_equal(n_tokens, 0);
    ((struct script_masks *)context)->at = 0;
}

static const uint32_t *masks_allowed(void *context)
{
    const struct script_masks *masks = context;
    return masks->bits[masks->at];
}

static void masks_accept(void *context, int32_t token)
{
    (void)token;
    ((struct script_masks *)context)->at++;
}

static void masks_give(struct round *r, struct script_masks masks[N_PROMPTS], struct mask_replay replay[N_PROMPTS],
                       int32_t vocab)
{
    enum { PAD = 96 };
    memset(masks, 0, N_PROMPTS * sizeof *masks);
    for (int p = 0; p < N_PROMPTS; p++) {
        for (int32_t t = 0; t < MAX_COMPLETION; t++) {
            for (int32_t id = 0; id < vocab; id++)
                if ((t + id) % 2 == 0)
                    masks[p].bits[t][id / 32] |= 1u << (id % 32);
            for (int i = p * GROUP; i < (p + 1) * GROUP; i++) {
                const int32_t id = t < r->spans[i].n_tokens ? r->spans[i].tokens[t] : PAD;
                masks[p].bits[t][id / 32] |= 1u << (id % 32);
            }
        }
        replay[p] = (struct mask_replay){&masks[p], vocab, NULL, 0, masks_begin, masks_allowed, masks_accept};
        r->prompts[p].masks = &replay[p];
        for (int i = p * GROUP; i < (p + 1) * GROUP; i++)
            r->spans[i].masks = &replay[p];
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
    static struct script_masks masks[N_PROMPTS];
    struct mask_replay masks_of[N_PROMPTS];
    const bool masked = strcmp(run, "masked") == 0;
    snprintf(path, sizeof path, FIXTURES "grpo_steps/%s.json", run);
    json_t *json = load_json(path);
    const json_t *settings = json_object_get(json, "settings"), *steps = json_object_get(json, "steps");
    struct grpo grpo = {
        .config = config_of(settings), .optimizer = optimizer_of(settings), .entropy = control_of(settings)};
    const bool kl = grpo.config.loss.beta != 0.0;
    model_test_open(&test, backend, "model_tied", DTYPE_F32);
    test.runner.extras.masks = masked;
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
            if (masked)
                masks_give(&r, masks, masks_of, test.model->config.vocab_size);
            round_advantages(&r, &grpo.config.advantage);
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
        metrics_free(&metrics);
    }
    check_weights(test.model, run, "final", &t->rms, &t->max);
    model_destroy(reference);
    model_test_close(&test);
    json_decref(json);
}

static void test_replay(void **state)
{
    (void)state;
    static const char *const runs[] = {"grpo",           "dapo",    "kl",   "kl_corrected",
                                       "two_iterations", "entropy", "sapo", "masked"};
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
            if (test_options.small && strcmp(runs[i], "masked") != 0 && strcmp(runs[i], "entropy") != 0)
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

/* Memory plans of a GPU: what they choose for cards of 16, 24, 80 and 141 GB, without allocating it; and, with a small
 * model, that a run of rollout and training takes what was planned and no more. */
#include "backend/sampling.h"
#include "support/model_test.h"
#include "support/tiny_model.h"

#include "base/file.h"
#include "format/model_preset.h"
#include "recipe/memory_plan.h"
#include "train/grpo.h"

#if defined(COHORT_CUDA_EMULATED)
#include "cuda_emulation_control.h"
#endif

static struct backend *device;

static int open_device(void **state)
{
    (void)state;
    device = backend_here("cuda", 0);
    return device != NULL ? 0 : -1;
}

static int close_device(void **state)
{
    (void)state;
    backend_destroy(device);
    return 0;
}

/* ---- What plans choose ---- */

static struct options *grpo_options(const char *limit, const char *sequences)
{
    struct options *options = NULL;
    cohort_error err = {0};
    must(options_create(&options, FOR_GRPO, &err), &err);
    must(options_set(options, "memory_limit", limit, "test", &err), &err);
    must(options_set(options, "moments_dtype", "bf16", "test", &err), &err);
    must(options_set(options, "decode_concurrency", sequences, "test", &err), &err);
    return options;
}

static struct model *preset_model(enum model_preset preset)
{
    struct model_config config = {0};
    struct model *model = NULL;
    cohort_error err = {0};
    must(model_config_preset(&config, NULL, preset, 0, &err), &err);
    must(model_open(&model, device, &config, DTYPE_BF16, 0, &err), &err);
    return model;
}

/* Pages are all that are of use, or what the rest of the memory holds. */
static void check_pages(const struct rollout_choice *choice, size_t left, size_t page)
{
    assert_true(choice->config.n_pages <= choice->useful);
    if (choice->config.n_pages < choice->useful && left >= page)
        fail_msg("%lld pages of %lld that are of use, and %zu bytes are left (a page takes %zu)",
                 (long long)choice->config.n_pages, (long long)choice->useful, left, page);
}

/* How many of 64 x 8 completions of 512 tokens behind prompts of 128 run at once in a training run with moments in
 * bf16; 0: it is refused. */
static int32_t at_once_training(enum model_preset preset, const char *limit, const char *asked)
{
    struct options *options = grpo_options(limit, asked);
    struct model *model = preset_model(preset);
    struct memory_plan plan = {0};
    struct tree_runner runner = {0};
    struct engine *engine = NULL;
    struct rollout_need need = {.sequences = (int32_t)options_int(options, OPTION_DECODE_CONCURRENCY), .history = -1};
    cohort_error err = {0};
    rollout_need_add(&need, 64, 128, 512, 8);
    memory_plan_begin(&plan, model, options, false, &runner, 512, 640, 64 * 128 + 512 * 512);
    must(memory_plan_engine(&plan, NULL, &need, &engine, &err), &err);
    const cohort_status status = memory_plan_choose(&plan, options, &err);
    const size_t total = memory_plan_total(&plan);
    int32_t sequences = 0;
    if (status == COHORT_OK) {
        assert_true(total <= plan.limit);
        assert_true(plan.working > 0 && plan.kv > 0 && plan.training > 0);
        check_pages(&plan.choice,
                    plan.rollout < plan.training ? plan.limit - total + plan.training - plan.rollout
                                                 : plan.limit - total,
                    engine_page_bytes(&model->config, model->type, false));
        sequences = plan.choice.config.max_sequences;
    } else {
        assert_int_equal(status, COHORT_ERR_MEMORY);
        assert_true(plan.refused && total > plan.limit);
        assert_non_null(strstr(err.message, "GB are there"));
    }
    engine_destroy(engine);
    tree_runner_free(&runner);
    model_destroy(model);
    options_destroy(options);
    return sequences;
}

/* The same without training, of 2,000 completions; 0: not even one. */
static int32_t at_once(enum model_preset preset, const char *limit, int32_t asked)
{
    struct options *options = grpo_options(limit, "0");
    struct session session = {.backend = device, .model = preset_model(preset)};
    struct rollout_need need = {.sequences = asked, .history = -1};
    struct rollout_choice choice = {0};
    cohort_error err = {0};
    rollout_need_add(&need, 2000, 128, 512, 1);
    const size_t weights = model_weight_bytes(session.model), all = session_memory_limit(device, options);
    const cohort_status status = session_rollout(&session, options, &need, &choice, &err);
    const size_t taken = choice.buffers + choice.working;
    if (status == COHORT_OK) {
        assert_true(weights + taken <= all);
        check_pages(&choice, all - weights - taken,
                    engine_page_bytes(&session.model->config, session.model->type, false));
    } else {
        assert_int_equal(status, COHORT_ERR_MEMORY);
        assert_true(choice.refused);
    }
    model_destroy(session.model);
    options_destroy(options);
    return status == COHORT_OK ? choice.config.max_sequences : 0;
}

static void test_cards(void **state)
{
    (void)state;
    static const struct {
        enum model_preset preset;
        const char *limit;
        int32_t training_least, training_most, least, most;
    } cards[] = {{PRESET_QWEN3_0_6B, "16", 450, 512, 512, 512}, {PRESET_QWEN3_0_6B, "24", 512, 512, 512, 512},
                 {PRESET_QWEN3_0_6B, "80", 512, 512, 512, 512}, {PRESET_QWEN3_0_6B, "141", 512, 512, 512, 512},
                 {PRESET_QWEN3_1_7B, "16", 0, 0, 450, 512},     {PRESET_QWEN3_1_7B, "24", 0, 0, 512, 512},
                 {PRESET_QWEN3_8B, "16", 0, 0, 0, 0},           {PRESET_QWEN3_8B, "24", 0, 0, 250, 420},
                 {PRESET_QWEN3_8B, "80", 0, 0, 512, 512},       {PRESET_QWEN3_8B, "141", 512, 512, 512, 512}};
    for (size_t i = 0; i < sizeof cards / sizeof cards[0]; i++) {
        const int32_t training = at_once_training(cards[i].preset, cards[i].limit, "0"),
                      alone = at_once(cards[i].preset, cards[i].limit, 0);
        printf("%s, %s GB: %d at once in training, %d in generate\n", model_preset_names[cards[i].preset],
               cards[i].limit, training, alone);
        assert_in_range(training, cards[i].training_least, cards[i].training_most);
        assert_in_range(alone, cards[i].least, cards[i].most);
    }
    /* An option says how many, as far as there is memory. */
    assert_int_equal(at_once_training(PRESET_QWEN3_0_6B, "80", "96"), 96);
    assert_int_equal(at_once(PRESET_QWEN3_0_6B, "80", 1000), 1000);
    assert_in_range(at_once(PRESET_QWEN3_0_6B, "16", 1000), 750, 999);
}

/* ---- What a run takes ---- */

static size_t held(void)
{
    device->ops->wait(device);
#if defined(COHORT_CUDA_EMULATED)
    return cuda_emulation_allocated();
#else
    static size_t most;
    const size_t free_bytes = device->ops->available(device);
    most = free_bytes > most ? free_bytes : most; /* the first call: nothing is held */
    return most - free_bytes;
#endif
}

/* Groups whose rewards are equal would take no step. */
static cohort_status reward_in_order(void *context, const struct completion *completions, int32_t n, double *rewards,
                                     double **lists, cohort_error *err)
{
    (void)lists;
    (void)context, (void)completions, (void)err;
    for (int32_t i = 0; i < n; i++)
        rewards[i] = i;
    return COHORT_OK;
}

enum { PROMPTS = 2, GROUP = 3, P = 66, C = 10 };

static void run_step(struct model *model, struct memory_plan *plan, struct engine *engine,
                     const struct sampling_params *sampling)
{
    static const double weight = 1.0;
    static const char *const name = "test";
    static int32_t tokens[PROMPTS][P];
    struct grpo_prompt prompts[PROMPTS];
    struct grpo_batch batch = {0};
    struct metrics metrics = {0};
    cohort_error err = {0};
    struct grpo grpo = {
        .model = model,
        .engine = engine,
        .runner = plan->runner,
        .optimizer = {.beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .max_grad_norm = 1.0},
        .config = {.group = GROUP,
                   .max_completion_length = C,
                   .plan = {1, 1, 1},
                   .sampling = *sampling,
                   .seed = 3,
                   .loss = {.type = LOSS_DAPO, .epsilon = 0.2, .epsilon_high = 0.2, .max_completion_length = C},
                   .advantage = {.scale = ADVANTAGE_SCALE_GROUP, .epsilon = 1e-4},
                   .schedule = {.type = SCHEDULE_CONSTANT, .learning_rate = 1e-6},
                   .reward_weights = &weight,
                   .reward_names = &name,
                   .n_functions = 1},
        .reward = reward_in_order};
    for (int32_t i = 0; i < PROMPTS; i++) {
        for (int32_t j = 0; j < P; j++)
            tokens[i][j] = (i * 31 + j * 7) % model->config.vocab_size;
        prompts[i] = (struct grpo_prompt){.tokens = tokens[i], .n_tokens = P - i, .id = (uint64_t)i};
    }
    must(grpo_step(&grpo, prompts, PROMPTS, &batch, &metrics, &err), &err);
    grpo_batch_free(&batch);
}

static void check_run(const char *what, const struct sampling_params *sampling)
{
    struct tiny_shape shape = tiny_wide;
    char dir[64] = "/tmp/cohort-cuda-memory-XXXXXX";
    struct options *options = grpo_options("0.5", "0");
    struct model *model = NULL;
    struct memory_plan plan = {0};
    struct tree_runner runner = {0};
    struct engine *engine = NULL;
    struct arena arena = {0};
    struct rollout_need need = {0};
    cohort_error err = {0};
    shape.bf16_weights = true;
    shape.n_layers = 1;
    backend_destroy(device); /* with what it has grown to */
    device = backend_here("cuda", 0);
    const size_t before = held();
    assert_non_null(mkdtemp(dir));
    must(tiny_checkpoint_write(dir, &shape, 5, &err), &err);
    must(model_load(&model, device, dir, DTYPE_BF16, 0, &err), &err);
    rollout_need_add(&need, PROMPTS, P, C, GROUP);
    need.history = rollout_history(sampling, need.context);
    memory_plan_begin(&plan, model, options, false, &runner, PROMPTS * GROUP, P + C, PROMPTS * P + PROMPTS * GROUP * C);
    must(memory_plan_engine(&plan, NULL, &need, &engine, &err), &err);
    must(memory_plan_choose(&plan, options, &err), &err);
    must(param_set_train_begin(model->trained, session_moments(options), &err), &err);
    must(memory_plan_allocate(&plan, &arena, &err), &err);
    const size_t tensors = held() - before, planned = memory_plan_total(&plan) - plan.working;
    run_step(model, &plan, engine, sampling);
    const size_t beyond = held() - before - tensors;
    test_figure("%s: beside %.1f MB of tensors %.1f MB were taken, %.1f MB planned for it", what, (double)tensors / 1e6,
                (double)beyond / 1e6, (double)plan.working / 1e6);
#if defined(COHORT_CUDA_EMULATED)
    /* To the byte, but for what the allocator rounds; working memory no more than was said, and not by far less. */
    assert_in_range(tensors, planned - 4096, planned + 4096);
    assert_true(beyond <= plan.working);
    assert_true(plan.working <= 2 * beyond + (8 << 20));
#else
    /* The driver gives pages of 2 MiB, and keeps machine code (from a first kernel on, so beside the tensors too) and
     * recorded steps, for which a twentieth of the memory is left. */
    assert_true(tensors + beyond <= planned + plan.working + device->ops->available(device) / 20);
#endif
    engine_destroy(engine);
    tree_runner_free(&runner);
    arena_release(&arena, device);
    model_destroy(model);
    options_destroy(options);
    must(file_remove_all(dir, &err), &err);
}

static void test_run_takes_what_was_planned(void **state)
{
    (void)state;
    static const int32_t bias_id[] = {5, 9};
    static const float bias[] = {0.5f, -1.0f};
    struct sampling_params sampling = {.temperature = 1.0f, .min_tokens_to_keep = 1};
    check_run("plain draws", &sampling);
    sampling.repetition_penalty = 1.1f;
    sampling.repetition_context = 0; /* all of it */
    sampling.bias_id = bias_id;
    sampling.bias = bias;
    sampling.n_bias = 2;
    sampling.top_k = 50;
    check_run("penalties, a bias and a filter", &sampling);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cards), cmocka_unit_test(test_run_takes_what_was_planned)};
    test_arguments(argc, argv);
    return cmocka_run_group_tests(tests, open_device, close_device);
}

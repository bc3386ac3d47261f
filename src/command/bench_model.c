/* The model at work: prefill, decode, training, a GRPO step. */
#include "command/bench_report.h"

#include "base/clock.h"
#include "train/grpo.h"
#include "train/sft.h"

#include <string.h>

static int64_t layer_weights_count(const struct model_config *c)
{
    int64_t C = c->hidden_size, F = c->intermediate_size, QD = (int64_t)c->n_heads * c->head_dim,
            KD = (int64_t)c->n_kv_heads * c->head_dim;
    return c->n_layers * ((QD + 2 * KD) * C + C * QD + 3 * C * F);
}

/* pair_positions: query-key pairs of one head of one layer. kv_positions_read: positions whose keys
 * and values must come from memory. */
struct bench_work bench_forward_work(const struct model *model, int64_t tokens, int64_t n_outputs,
                                     int64_t kv_positions_read, double pair_positions)
{
    const struct model_config *c = &model->config;
    double layers = (double)layer_weights_count(c),
           head = (double)c->vocab_size * (double)c->hidden_size;
    double kv = 2.0 * (double)c->n_layers * (double)c->n_kv_heads * (double)c->head_dim;
    return (struct bench_work){
        .flops =
            2.0 * (layers * (double)tokens + head * (double)n_outputs) +
            4.0 * (double)c->n_layers * (double)c->n_heads * (double)c->head_dim * pair_positions,
        .bytes = (double)dtype_bytes(model->type) *
                 (layers + (n_outputs > 0 ? head : 0.0) + kv * (double)kv_positions_read)};
}

/* An engine for one prompt and n completions; tokens written to prompt. */
static cohort_status open_engine(struct bench *bench, int32_t n_prompt, int32_t new_tokens,
                                 int32_t n, struct engine **out, cohort_error *err)
{
    return session_engine(&bench->session, bench->options, n, engine_pages(n_prompt, new_tokens, n),
                          n_prompt + new_tokens, n_prompt, out, err);
}

static void close_engine(struct bench *bench, struct engine *engine)
{
    engine_destroy(engine);
    arena_release(&bench->session.arena, bench->session.backend);
}

/* Submits one request of random tokens. No id ends a completion, so its length is what was asked.
 */
static cohort_status submit(struct bench *bench, struct engine *engine, int32_t n_prompt,
                            int32_t new_tokens, int32_t n, uint64_t stream, cohort_error *err)
{
    int32_t *prompt = NULL;
    int64_t id = 0;
    TRY(mem_alloc(&prompt, (size_t)n_prompt, sizeof *prompt, "prompt", err));
    for (int32_t i = 0; i < n_prompt; i++)
        prompt[i] = bench_token(bench, stream, i);
    cohort_status status = engine_submit(
        engine,
        &(struct engine_request){.prompt = prompt,
                                 .n_prompt = n_prompt,
                                 .n = n,
                                 .sampling = {.temperature = 1.0f, .min_tokens_to_keep = 1},
                                 .seed = bench->seed,
                                 .stream = stream,
                                 .max_tokens = new_tokens},
        &id, err);
    mem_free(prompt);
    return status;
}

static void drop_finished(struct engine *engine)
{
    struct completion done;
    while (engine_poll(engine, &done))
        completion_free(&done);
}

/* The first step computes the prompt and draws the first tokens; the others decode. */
static cohort_status generate(struct engine *engine, double *first, double *rest, cohort_error *err)
{
    bool busy = true;
    double start = clock_seconds();
    TRY(engine_step(engine, &busy, err));
    double middle = clock_seconds();
    while (busy)
        TRY(engine_step(engine, &busy, err));
    drop_finished(engine);
    *first = middle - start;
    *rest = clock_seconds() - middle;
    return COHORT_OK;
}

cohort_status bench_prefill(struct bench *bench, cohort_error *err)
{
    int32_t n_prompt = 512;
    struct engine *engine = NULL;
    cohort_status status = COHORT_OK;
    if (n_prompt > bench->session.model->max_context - 1)
        n_prompt = bench->session.model->max_context - 1;
    TRY(open_engine(bench, n_prompt, 1, 1, &engine, err));
    struct bench_row *row = bench_row(bench, "prefill", "%d tokens", (int)n_prompt);
    row->amount = n_prompt;
    row->unit = "tok/s";
    row->work = bench_forward_work(bench->session.model, n_prompt, 1, 0, 0.5 * n_prompt * n_prompt);
    for (int run = 0; run < (bench->quick ? 4 : 8); run++) {
        double first = 0.0, rest = 0.0;
        TRY_GOTO(submit(bench, engine, n_prompt, 1, 1, (uint64_t)run, err));
        TRY_GOTO(generate(engine, &first, &rest, err));
        if (run > 0)
            bench_add(&row->samples, first);
    }
cleanup:
    close_engine(bench, engine);
    return status;
}

static cohort_status decode_batch(struct bench *bench, int32_t batch, cohort_error *err)
{
    const int32_t n_prompt = 256, new_tokens = bench->quick ? 24 : 128;
    struct engine *engine = NULL;
    cohort_status status = COHORT_OK;
    TRY(open_engine(bench, n_prompt, new_tokens, batch, &engine, err));
    struct bench_row *row = bench_row(bench, "decode", "batch %d, shared prompt %d, %d new",
                                      (int)batch, (int)n_prompt, (int)new_tokens);
    /* Step i of new_tokens - 1 sees i + 1 tokens of its own. */
    double steps = new_tokens - 1, own = 0.5 * (steps + 1.0);
    struct bench_work step =
        bench_forward_work(bench->session.model, batch, batch, (int64_t)(n_prompt + batch * own),
                           batch * (n_prompt + own));
    row->amount = batch * steps;
    row->unit = "tok/s";
    row->work = (struct bench_work){.flops = steps * step.flops, .bytes = steps * step.bytes};
    for (int run = 0; run < 4; run++) {
        double first = 0.0, rest = 0.0;
        TRY_GOTO(submit(bench, engine, n_prompt, new_tokens, batch, (uint64_t)run, err));
        TRY_GOTO(generate(engine, &first, &rest, err));
        if (run > 0)
            bench_add(&row->samples, rest);
    }
cleanup:
    close_engine(bench, engine);
    return status;
}

cohort_status bench_decode(struct bench *bench, cohort_error *err)
{
    static const int32_t batches[] = {1, 8, 32};
    for (size_t i = 0; i < sizeof batches / sizeof batches[0]; i++)
        TRY(decode_batch(bench, batches[i], err));
    return COHORT_OK;
}

/* Products of forward and backward (3 x forward; the head's logits once more where the backward
 * computes them again is not counted), then the optimizer's passes: gradient read twice and zeroed,
 * moments and master read and written. */
static struct bench_work train_work(const struct model *model, int64_t tokens, int64_t n_outputs,
                                    double pair_positions)
{
    struct bench_work forward = bench_forward_work(model, tokens, n_outputs, 0, pair_positions);
    double state = 3 * 4 + 4 * 4 + (model->type == DTYPE_BF16 ? 8 : 8);
    return (struct bench_work){.flops = 3.0 * forward.flops,
                               .bytes = state * (double)model->params.n_weights,
                               .serial = true};
}

static cohort_status begin_training(struct bench *bench, cohort_error *err)
{
    return bench->session.model->grad != NULL ? COHORT_OK
                                              : model_train_begin(bench->session.model, err);
}

/* As the option says; auto: layers are computed again if their activations do not fit. */
static cohort_status choose_mode(const struct bench *bench, int64_t micro_tokens,
                                 int64_t completions, enum decoder_mode *mode, cohort_error *err)
{
    const char *asked = options_string(bench->options, "recompute");
    const struct model *model = bench->session.model;
    struct tree_runner runner = {.logits_bytes = model->backend->logits_bytes};
    struct arena arena = {0};
    size_t limit = 0;
    *mode = strcmp(asked, "layer") == 0 ? DECODER_RECOMPUTE : DECODER_TRAIN;
    if (strcmp(asked, "auto") != 0)
        return COHORT_OK;
    cohort_status status = tree_runner_plan(&runner, &arena, &model->config, model->type,
                                            micro_tokens, completions, DECODER_TRAIN, err);
    tree_runner_free(&runner);
    TRY(status);
    limit = session_memory_limit(bench->session.backend, bench->options);
    if (arena.used > limit)
        *mode = DECODER_RECOMPUTE;
    return COHORT_OK;
}

cohort_status bench_train(struct bench *bench, cohort_error *err)
{
    enum { ROWS = 8, P = 128, C = 128 };
    struct session *session = &bench->session;
    struct model *model = session->model;
    int32_t tokens[ROWS][P + C];
    struct completion_tokens completions[ROWS];
    struct tree trees[ROWS];
    struct tree_runner runner = {.logits_bytes = model->backend->logits_bytes};
    enum decoder_mode mode = DECODER_TRAIN;
    cohort_status status = COHORT_OK;
    int64_t micro = options_int(bench->options, "micro_batch_tokens");
    micro = micro < P + C ? P + C : micro > ROWS * (P + C) ? ROWS * (P + C) : micro;
    for (int i = 0; i < ROWS; i++) {
        for (int j = 0; j < P + C; j++)
            tokens[i][j] = bench_token(bench, (uint64_t)(100 + i), j);
        completions[i] = (struct completion_tokens){.tokens = tokens[i] + P, .n_tokens = C};
        trees[i] = (struct tree){
            .prompt = tokens[i], .n_prompt = P, .completions = &completions[i], .n_completions = 1};
    }
    TRY(begin_training(bench, err));
    TRY(choose_mode(bench, micro, ROWS, &mode, err));
    TRY_GOTO(tree_runner_plan(&runner, &session->arena, &model->config, model->type, micro, ROWS,
                              mode, err));
    TRY_GOTO(arena_allocate(&session->arena, session->backend, "training buffers", err));
    TRY_GOTO(tree_runner_plan(&runner, &session->arena, &model->config, model->type, micro, ROWS,
                              mode, err));
    struct sft sft = {
        .model = model,
        .runner = &runner,
        .optimizer = {.beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .max_grad_norm = 1.0},
        .schedule = SCHEDULE_CONSTANT,
        .learning_rate = 1e-6,
        .total_steps = 100};
    struct bench_row *row = bench_row(bench, "train", "%d x (%d + %d), recompute %s", ROWS, P, C,
                                      mode == DECODER_TRAIN ? "none" : "layer");
    row->unit = "tok/s";
    row->amount = ROWS * (P + C - 1); /* a completion's last token is not fed */
    row->work = train_work(model, ROWS * (P + C - 1), ROWS * C, ROWS * 0.5 * (P + C) * (P + C));
    for (int run = 0; run < (bench->quick ? 2 : 4); run++) {
        struct metrics metrics = {0};
        double start = clock_seconds();
        TRY_GOTO(sft_step(&sft, trees, ROWS, &metrics, err));
        if (run > 0)
            bench_add(&row->samples, clock_seconds() - start);
    }
    row->bytes_held = bench_peak_bytes();
cleanup:
    tree_runner_free(&runner);
    arena_release(&session->arena, session->backend);
    return status;
}

/* Rewards that differ within a group, so that nothing of the update is skipped. */
static cohort_status reward(void *context, const struct completion *completions, int32_t n,
                            double *rewards, cohort_error *err)
{
    (void)context;
    (void)err;
    for (int32_t i = 0; i < n; i++)
        rewards[i] = (double)(completions[i].tokens[0] % 7) + 0.1 * i;
    return COHORT_OK;
}

enum { GRPO_PROMPTS = 4, GRPO_GROUP = 8, GRPO_P = 128, GRPO_C = 128 };

/* Rollout and training never run at once: they share the arena, as in cohort grpo. */
static cohort_status plan_grpo(struct bench *bench, struct engine *engine,
                               struct tree_runner *runner, int64_t micro, enum decoder_mode mode,
                               cohort_error *err)
{
    struct arena *arena = &bench->session.arena, rollout = *arena, train = *arena;
    const struct model *model = bench->session.model;
    TRY(engine_plan(engine, &rollout, err));
    TRY(tree_runner_plan(runner, &train, &model->config, model->type, micro,
                         GRPO_PROMPTS * GRPO_GROUP, mode, err));
    arena->used = rollout.used > train.used ? rollout.used : train.used;
    return COHORT_OK;
}

static cohort_status run_grpo(struct bench *bench, struct grpo *grpo, cohort_error *err)
{
    int32_t tokens[GRPO_PROMPTS][GRPO_P];
    struct grpo_prompt prompts[GRPO_PROMPTS];
    const struct model *model = bench->session.model;
    for (int i = 0; i < GRPO_PROMPTS; i++) {
        for (int j = 0; j < GRPO_P; j++)
            tokens[i][j] = bench_token(bench, (uint64_t)(200 + i), j);
        prompts[i] =
            (struct grpo_prompt){.tokens = tokens[i], .n_tokens = GRPO_P, .id = (uint64_t)i};
    }
    const int n = GRPO_PROMPTS * GRPO_GROUP;
    const double steps = GRPO_C - 1, own = 0.5 * GRPO_C;
    const int64_t fed = GRPO_PROMPTS * GRPO_P + n * (GRPO_C - 1);
    struct bench_work decode = bench_forward_work(
        model, n, n, (int64_t)(GRPO_PROMPTS * GRPO_P + n * own), n * (GRPO_P + own));
    struct bench_work train = train_work(
        model, fed, n * GRPO_C, GRPO_PROMPTS * 0.5 * GRPO_P * GRPO_P + n * GRPO_C * (GRPO_P + own));
    struct bench_row *whole = bench_row(bench, "grpo", "step of %d prompts x %d, P = C = %d",
                                        GRPO_PROMPTS, GRPO_GROUP, GRPO_P);
    struct bench_row *rollout = bench_row(bench, "grpo", "  rollout");
    struct bench_row *update = bench_row(bench, "grpo", "  training");
    struct bench_row *sampled = bench_row(bench, "grpo", "  rollout, tokens generated");
    struct bench_row *trained = bench_row(bench, "grpo", "  training, tokens fed");
    whole->unit = rollout->unit = update->unit = "s";
    sampled->unit = trained->unit = "tok/s";
    sampled->amount = n * GRPO_C;
    trained->amount = (double)fed;
    rollout->work = sampled->work =
        (struct bench_work){.flops = steps * decode.flops, .bytes = steps * decode.bytes};
    update->work = trained->work = train;
    for (int run = 0; run < (bench->quick ? 2 : 4); run++) {
        struct grpo_batch batch = {0};
        struct metrics metrics = {0};
        TRY(grpo_step(grpo, prompts, GRPO_PROMPTS, &batch, &metrics, err));
        grpo_batch_free(&batch);
        if (run == 0)
            continue;
        bench_add(&whole->samples, metrics_get(&metrics, "step_time"));
        bench_add(&rollout->samples, metrics_get(&metrics, "time/rollout"));
        bench_add(&sampled->samples, metrics_get(&metrics, "time/rollout"));
        bench_add(&update->samples, metrics_get(&metrics, "time/train"));
        bench_add(&trained->samples, metrics_get(&metrics, "time/train"));
    }
    whole->bytes_held = bench_peak_bytes();
    return COHORT_OK;
}

cohort_status bench_grpo(struct bench *bench, cohort_error *err)
{
    static const double weight = 1.0;
    static const char *const name = "bench";
    struct session *session = &bench->session;
    struct tree_runner runner = {.logits_bytes = session->backend->logits_bytes};
    enum decoder_mode mode = DECODER_TRAIN;
    const int32_t n = GRPO_PROMPTS * GRPO_GROUP;
    struct engine_config config = {.max_sequences = n,
                                   .prefill_tokens = session->backend->prefill_tokens,
                                   .max_context = GRPO_P + GRPO_C,
                                   .n_pages =
                                       GRPO_PROMPTS * engine_pages(GRPO_P, GRPO_C, GRPO_GROUP)};
    struct grpo grpo = {
        .model = session->model,
        .runner = &runner,
        .optimizer = {.beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .max_grad_norm = 1.0},
        .config = {.group = GRPO_GROUP,
                   .max_completion_length = GRPO_C,
                   .num_iterations = 1,
                   .sampling = {.temperature = 1.0f, .min_tokens_to_keep = 1},
                   .seed = bench->seed,
                   .loss = {.type = LOSS_DAPO,
                            .epsilon = 0.2,
                            .epsilon_high = 0.2,
                            .max_completion_length = GRPO_C},
                   .scale = ADVANTAGE_SCALE_GROUP,
                   .schedule = SCHEDULE_CONSTANT,
                   .learning_rate = 1e-6,
                   .total_steps = 100,
                   .reward_weights = &weight,
                   .reward_names = &name,
                   .n_functions = 1},
        .reward = reward};
    cohort_status status = COHORT_OK;
    int64_t micro = options_int(bench->options, "micro_batch_tokens");
    micro = micro < GRPO_P + GRPO_C ? GRPO_P + GRPO_C : micro;
    TRY(begin_training(bench, err));
    TRY(choose_mode(bench, micro, n, &mode, err));
    TRY_GOTO(engine_create(&grpo.engine, session->model, NULL, &config, err));
    TRY_GOTO(plan_grpo(bench, grpo.engine, &runner, micro, mode, err));
    TRY_GOTO(
        arena_allocate(&session->arena, session->backend, "rollout and training buffers", err));
    TRY_GOTO(plan_grpo(bench, grpo.engine, &runner, micro, mode, err));
    TRY_GOTO(run_grpo(bench, &grpo, err));
cleanup:
    engine_destroy(grpo.engine);
    tree_runner_free(&runner);
    arena_release(&session->arena, session->backend);
    return status;
}

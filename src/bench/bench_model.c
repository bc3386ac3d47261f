/* The model at work: prefill, decode, training, a GRPO step. */
#include "bench/bench_report.h"

#include "base/clock.h"
#include "recipe/memory_plan.h"
#include "train/grpo.h"
#include "train/sft.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Weights of all layers: those that every token meets, and one expert in each layer that has some. */
struct layer_weights {
    double common, expert;
};

static struct layer_weights layer_weights_of(const struct model_config *c)
{
    const double C = c->hidden_size, QD = (double)c->n_heads * c->head_dim, KD = (double)c->n_kv_heads * c->head_dim;
    struct layer_weights w = {0};
    for (int32_t l = 0; l < c->n_layers; l++) {
        const bool sparse = model_config_sparse(c, l);
        w.common += (QD + 2 * KD) * C + C * QD + C * (sparse ? (double)c->experts.n : 3.0 * c->intermediate_size);
        w.expert += sparse ? 3.0 * C * c->experts.size : 0.0;
    }
    return w;
}

/* The experts of a layer that some of so many tokens go to, where each is as likely as any other: all of them in a large
 * batch, those of one token in the smallest. */
static double experts_met(const struct model_config *c, int64_t tokens)
{
    const double n = c->experts.n;
    return n == 0.0 ? 0.0 : n * (1.0 - pow(1.0 - c->experts.chosen / n, (double)tokens));
}

/* pair_positions: query-key pairs of one head of one layer. kv_positions_read: positions whose keys and values must
 * come from memory. */
struct bench_work bench_forward_work(const struct model *model, int64_t tokens, int64_t n_outputs,
                                     int64_t kv_positions_read, double pair_positions)
{
    const struct model_config *c = &model->config;
    const struct layer_weights w = layer_weights_of(c);
    double layers = w.common + w.expert * c->experts.chosen, head = (double)c->vocab_size * (double)c->hidden_size;
    double read = w.common + w.expert * experts_met(c, tokens);
    double kv = 2.0 * (double)c->n_layers * (double)c->n_kv_heads * (double)c->head_dim;
    return (struct bench_work){
        .flops = 2.0 * (layers * (double)tokens + head * (double)n_outputs) +
                 4.0 * (double)c->n_layers * (double)c->n_heads * (double)c->head_dim * pair_positions,
        .bytes =
            (double)dtype_bytes(model->type) * (read + (n_outputs > 0 ? head : 0.0) + kv * (double)kv_positions_read)};
}

/* An engine for requests of n completions each, all at once; *out NULL: memory does not allow it, which is noted as
 * kind and what. */
static cohort_status open_engine(struct bench *bench, int32_t n_prompt, int32_t new_tokens, int32_t n, int32_t requests,
                                 const char *kind, const char *what, struct engine **out, cohort_error *err)
{
    const int32_t prefill = bench->session.backend->sizes->prefill_tokens;
    struct rollout_need need = {.sequences = n * requests,
                                .step_tokens = n_prompt > prefill || requests > 1 ? prefill : n_prompt,
                                .history = -1,
                                .whole = true};
    struct rollout_choice choice = {0};
    cohort_error why = {0};
    *out = NULL;
    rollout_need_add(&need, requests, n_prompt, new_tokens, n);
    cohort_status status = session_rollout(&bench->session, bench->options, &need, &choice, &why);
    if (status != COHORT_OK && choice.refused)
        return bench_left_out(bench, kind, what, &why, err);
    if (status != COHORT_OK)
        return error_set(err, status, "%s", why.message);
    return session_engine(&bench->session, bench->options, &need, out, err);
}

static void close_engine(struct bench *bench, struct engine *engine)
{
    engine_destroy(engine);
    arena_release(&bench->session.arena, bench->session.backend);
}

/* Submits one request of random tokens. No id ends a completion, so its length is what was asked. */
static cohort_status submit(struct bench *bench, struct engine *engine, int32_t n_prompt, int32_t new_tokens, int32_t n,
                            uint64_t stream, cohort_error *err)
{
    int32_t *prompt = NULL;
    int64_t id = 0;
    TRY(mem_alloc(&prompt, (size_t)n_prompt, sizeof *prompt, "prompt", err));
    for (int32_t i = 0; i < n_prompt; i++)
        prompt[i] = bench_token(bench, stream, i);
    cohort_status status =
        engine_submit(engine,
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

/* Until every prompt is computed, then the rest. *decoded: tokens drawn in the rest. */
static cohort_status generate(struct engine *engine, int64_t prompt_tokens, double *first, double *rest,
                              int64_t *decoded, cohort_error *err)
{
    bool busy = true;
    const int64_t before = engine_stats(engine).prompt_tokens;
    double start = clock_seconds();
    while (busy && engine_stats(engine).prompt_tokens - before < prompt_tokens)
        TRY(engine_step(engine, &busy, err));
    double middle = clock_seconds();
    const int64_t drawn = engine_stats(engine).generated_tokens;
    while (busy)
        TRY(engine_step(engine, &busy, err));
    *first = middle - start;
    *rest = clock_seconds() - middle;
    *decoded = engine_stats(engine).generated_tokens - drawn;
    drop_finished(engine);
    return COHORT_OK;
}

static bool on_gpu(const struct bench *bench) { return !bench->session.backend->host_memory; }

static cohort_status prefill_case(struct bench *bench, int32_t n_prompt, cohort_error *err)
{
    struct engine *engine = NULL;
    cohort_status status = COHORT_OK;
    char what[sizeof bench->rows->what];
    snprintf(what, sizeof what, "%d tokens", (int)n_prompt);
    TRY(open_engine(bench, n_prompt, 1, 1, 1, "prefill", what, &engine, err));
    if (engine == NULL)
        return COHORT_OK;
    struct bench_row *row = bench_row(bench, "prefill", "%s", what);
    row->amount = n_prompt;
    row->unit = "tok/s";
    row->work = bench_forward_work(bench->session.model, n_prompt, 1, 0, 0.5 * n_prompt * n_prompt);
    for (int run = 0; run < (bench->quick ? 4 : 8); run++) {
        double first = 0.0, rest = 0.0;
        int64_t decoded = 0;
        TRY_GOTO(submit(bench, engine, n_prompt, 1, 1, (uint64_t)run, err));
        TRY_GOTO(generate(engine, n_prompt, &first, &rest, &decoded, err));
        if (run > 0)
            bench_add(&row->samples, first);
    }
cleanup:
    close_engine(bench, engine);
    return status;
}

/* A prompt in which products of weights are nearly all, and one in which attention counts; on a GPU as many tokens as its
 * products need to be what bounds them, of experts too. */
cohort_status bench_prefill(struct bench *bench, cohort_error *err)
{
    const int32_t sizes[] = {512, on_gpu(bench) ? 8192 : 2048};
    const int32_t most = bench->session.model->max_context - 1;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (i == 0 || (on_gpu(bench) ? sizes[i] <= most : sizes[0] < most))
            TRY(prefill_case(bench, sizes[i] < most ? sizes[i] : most, err));
    return COHORT_OK;
}

/* requests prompts with group completions each. whole: also a figure that counts the time of the prompts. */
struct decode_size {
    int32_t requests, group, n_prompt, new_tokens;
    bool whole;
};

static cohort_status decode_case(struct bench *bench, const struct decode_size *size, cohort_error *err)
{
    const int32_t P = size->n_prompt, group = size->group, n = size->requests * group;
    const int32_t new_tokens = bench->quick ? (size->new_tokens + 4) / 5 : size->new_tokens;
    struct engine *engine = NULL;
    cohort_status status = COHORT_OK;
    char what[sizeof bench->rows->what];
    if (size->requests > 1 && group > 1)
        snprintf(what, sizeof what, "batch %d, %d share each prompt of %d, %d new", (int)n, (int)group, (int)P,
                 (int)new_tokens);
    else
        snprintf(what, sizeof what, "batch %d, %sprompt %d, %d new", (int)n, group > 1 ? "shared " : "", (int)P,
                 (int)new_tokens);
    TRY(open_engine(bench, P, new_tokens, group, size->requests, "decode", what, &engine, err));
    if (engine == NULL)
        return COHORT_OK;
    struct bench_row *row = bench_row(bench, "decode", "%s", what), *whole = NULL;
    if (size->whole)
        whole = bench_row(bench, "generate", "%s, prompts included", row->what);
    /* Step i of new_tokens - 1 sees i + 1 tokens of its own. */
    double steps = new_tokens - 1, own = 0.5 * (steps + 1.0);
    struct bench_work step =
        bench_forward_work(bench->session.model, n, n, (int64_t)(size->requests * P + n * own), n * (P + own));
    row->unit = "tok/s";
    row->work = (struct bench_work){.flops = steps * step.flops, .bytes = steps * step.bytes};
    if (whole != NULL) {
        whole->unit = row->unit;
        whole->amount = (double)n * new_tokens;
    }
    /* A run of many seconds needs no other to warm up. */
    for (int run = n * (P + new_tokens) > 100000 ? 1 : 0; run < 4; run++) {
        double first = 0.0, rest = 0.0;
        int64_t decoded = 0;
        for (int32_t r = 0; r < size->requests; r++)
            TRY_GOTO(submit(bench, engine, P, new_tokens, group, (uint64_t)(run * size->requests + r), err));
        TRY_GOTO(generate(engine, (int64_t)size->requests * P, &first, &rest, &decoded, err));
        /* The sequences whose prompts were computed first have decoded beside the other prompts. */
        const double share = (double)decoded / ((double)n * steps);
        row->amount = (double)n * steps;
        if (run == 0)
            continue;
        bench_add(&row->samples, rest / share);
        if (whole != NULL)
            bench_add(&whole->samples, first + rest);
    }
cleanup:
    close_engine(bench, engine);
    return status;
}

/* Above these sizes the model is one that a GPU's canonical measurements call large (8B). */
static bool is_large(const struct bench *bench) { return bench->session.model->base.table.n_weights > 2000000000; }

cohort_status bench_decode(struct bench *bench, cohort_error *err)
{
    static const struct decode_size cpu[] = {
        {1, 1, 256, 128, false}, {1, 8, 256, 128, false}, {1, 32, 256, 128, false}};
    static const struct decode_size small[] = {{1, 1, 128, 256, true},     {64, 1, 128, 256, true},
                                               {256, 1, 128, 256, true},   {512, 1, 128, 256, true},
                                               {256, 1, 1024, 512, false}, {16, 16, 1024, 512, false}};
    static const struct decode_size large[] = {{1, 1, 128, 128, true}, {256, 1, 128, 128, true}};
    const struct decode_size *sizes = !on_gpu(bench) ? cpu : is_large(bench) ? large : small;
    size_t n = !on_gpu(bench)    ? sizeof cpu / sizeof cpu[0]
               : is_large(bench) ? sizeof large / sizeof large[0]
                                 : sizeof small / sizeof small[0];
    for (size_t i = 0; i < n; i++)
        TRY(decode_case(bench, &sizes[i], err));
    return COHORT_OK;
}

/* Products of forward and backward (3 x forward; the head's logits once more where the backward computes them again is
 * not counted), then the optimizer's passes: gradient read twice and zeroed, both moments (counted as fp32) and the
 * master read and written. */
static struct bench_work train_work(const struct model *model, int64_t tokens, int64_t n_outputs, double pair_positions)
{
    struct bench_work forward = bench_forward_work(model, tokens, n_outputs, 0, pair_positions);
    const double state = 3 * 4 + 4 * 4 + 2 * 4; /* bytes a weight */
    return (struct bench_work){
        .flops = 3.0 * forward.flops, .bytes = state * (double)model->base.table.n_weights, .serial = true};
}

/* As asked; unasked, what a large model leaves room for on one GPU. */
static enum dtype moments_of(const struct bench *bench)
{
    return on_gpu(bench) && is_large(bench) && !options_given(bench->options, OPTION_MOMENTS_DTYPE)
               ? DTYPE_BF16
               : session_moments(bench->options);
}

static cohort_status begin_training(struct bench *bench, cohort_error *err)
{
    struct param_set *set = bench->session.model->trained;
    return set->training.grad != NULL ? COHORT_OK : param_set_train_begin(set, moments_of(bench), err);
}

/* The memory plan of a training run whose longest row has so many tokens, with the engine of its rollout (need NULL:
 * none). *fits false: memory does not allow it, which is noted as kind and what; nothing was allocated. */
static cohort_status plan_training(struct bench *bench, struct memory_plan *plan, struct tree_runner *runner,
                                   int64_t completions, int64_t longest, int64_t micro_tokens,
                                   const struct rollout_need *need, struct engine **engine, const char *kind,
                                   const char *what, bool *fits, cohort_error *err)
{
    struct model *model = bench->session.model;
    cohort_error why = {0};
    memory_plan_begin(plan, model, bench->options, false, runner, completions, longest, micro_tokens);
    plan->micro_tokens = micro_tokens;
    plan->limit = bench->limit;
    plan->moments = moments_of(bench);
    const struct param_bytes state = param_set_train_sizes(model->trained, plan->moments);
    plan->state = state.own;
    plan->host = state.host;
    if (need != NULL)
        TRY(memory_plan_engine(plan, NULL, need, engine, err));
    cohort_status status = memory_plan_choose(plan, bench->options, &why);
    *fits = status == COHORT_OK;
    if (status != COHORT_OK && plan->refused)
        return bench_left_out(bench, kind, what, &why, err);
    return status == COHORT_OK ? COHORT_OK : error_set(err, status, "%s", why.message);
}

/* Training state, then buffers for micro-batches. */
static cohort_status open_buffers(struct bench *bench, struct memory_plan *plan, cohort_error *err)
{
    TRY(begin_training(bench, err));
    return memory_plan_allocate(plan, &bench->session.arena, err);
}

/* trees prompts of P tokens with group completions of C; a tree with its prompt repeated for every completion when not
 * shared. */
struct train_size {
    int32_t trees, group, P, C;
    bool shared;
    int64_t micro_tokens; /* where the option does not say */
};

/* What the trees of one measurement point into. */
struct train_rows {
    int32_t *tokens;
    struct completion_tokens *completions;
    struct tree *trees;
    int32_t n_trees, n;
};

static void train_rows_free(struct train_rows *rows)
{
    mem_free(rows->tokens);
    mem_free(rows->completions);
    mem_free(rows->trees);
}

static cohort_status train_rows_make(struct train_rows *rows, const struct bench *bench, const struct train_size *size,
                                     cohort_error *err)
{
    const int32_t n = size->trees * size->group, stride = size->P + size->C;
    rows->n = n;
    rows->n_trees = size->shared ? size->trees : n;
    TRY(mem_alloc(&rows->tokens, (size_t)n * (size_t)stride, sizeof(int32_t), "bench", err));
    TRY(mem_alloc(&rows->completions, (size_t)n, sizeof *rows->completions, "bench", err));
    TRY(mem_alloc(&rows->trees, (size_t)n, sizeof *rows->trees, "bench", err));
    for (int32_t i = 0; i < n; i++) {
        int32_t *row = rows->tokens + (int64_t)i * stride;
        for (int32_t j = 0; j < stride; j++)
            row[j] = bench_token(bench, (uint64_t)(100 + (j < size->P ? i / size->group : i)), j);
        rows->completions[i] = (struct completion_tokens){.tokens = row + size->P, .n_tokens = size->C};
        if (!size->shared || i % size->group == 0)
            rows->trees[size->shared ? i / size->group : i] =
                (struct tree){.prompt = row,
                              .n_prompt = size->P,
                              .completions = &rows->completions[i],
                              .n_completions = size->shared ? size->group : 1};
    }
    return COHORT_OK;
}

static cohort_status train_case(struct bench *bench, const struct train_size *size, cohort_error *err)
{
    struct session *session = &bench->session;
    struct train_rows rows = {0};
    struct tree_runner runner = {0};
    cohort_status status = COHORT_OK;
    const int64_t P = size->P, C = size->C, n = size->trees * size->group, prompts = size->shared ? size->trees : n,
                  fed = prompts * P + n * (C - 1);
    int64_t micro = size->micro_tokens > 0 && !options_given(bench->options, OPTION_MICRO_BATCH_TOKENS)
                        ? size->micro_tokens
                        : session_micro_tokens(bench->session.model, bench->options);
    micro = micro < P + C ? P + C : micro > fed + n ? fed + n : micro;
    struct memory_plan plan = {0};
    bool fits = false;
    char what[sizeof bench->rows->what];
    snprintf(what, sizeof what, "%d x (%d + %d)%s", (int)n, (int)P, (int)C, size->shared ? ", prompts shared" : "");
    TRY_GOTO(plan_training(bench, &plan, &runner, n, P + C, micro, NULL, NULL, "train", what, &fits, err));
    if (!fits)
        goto cleanup;
    TRY_GOTO(train_rows_make(&rows, bench, size, err));
    TRY_GOTO(open_buffers(bench, &plan, err));
    struct sft sft = {.model = session->model,
                      .runner = &runner,
                      .optimizer = {.beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .max_grad_norm = 1.0},
                      .schedule = {.type = SCHEDULE_CONSTANT, .learning_rate = 1e-6}};
    struct bench_row *row = bench_row(bench, "train", "%s, recompute %s", what, recompute_names[plan.recompute]);
    row->unit = "tok/s";
    /* Tokens of the rows as they are, each with its prompt: what sharing saves shows as speed. A completion's last
     * token is not fed. */
    row->amount = (double)(n * (P + C - 1));
    row->work = train_work(session->model, fed, n * C,
                           (double)prompts * 0.5 * (double)(P * P) + (double)(n * C) * ((double)P + 0.5 * (double)C));
    const int runs = bench->quick || n == 1 ? 2 : 4; /* one long row: a look */
    for (int run = 0; run < runs; run++) {
        struct metrics metrics = {0};
        session->backend->ops->wait(session->backend);
        double start = clock_seconds();
        status = sft_step(&sft, &(struct sft_batch){.trees = rows.trees, .n = rows.n_trees}, &metrics, err);
        if (status != COHORT_OK) {
            metrics_free(&metrics);
            sft_free(&sft);
            goto cleanup;
        }
        session->backend->ops->wait(session->backend);
        if (run > 0)
            bench_add(&row->samples, clock_seconds() - start);
        metrics_free(&metrics);
    }
    sft_free(&sft);
    row->bytes_held = bench_bytes_held(bench);
    row->bytes_planned = (double)memory_plan_total(&plan);
cleanup:
    tree_runner_free(&runner);
    train_rows_free(&rows);
    arena_release(&session->arena, session->backend);
    return status;
}

cohort_status bench_train(struct bench *bench, cohort_error *err)
{
    static const struct train_size cpu[] = {{8, 1, 128, 128, false, 0}};
    static const struct train_size small[] = {{64, 1, 128, 512, false, 20480},
                                              {4, 16, 1024, 512, false, 24576},
                                              {4, 16, 1024, 512, true, 24576},
                                              {1, 1, 1024, 31744, false, 32768}};
    static const struct train_size large[] = {{32, 1, 128, 512, false, 5120}, {1, 1, 1024, 31744, false, 32768}};
    const struct train_size *sizes = !on_gpu(bench) ? cpu : is_large(bench) ? large : small;
    size_t n = !on_gpu(bench)    ? sizeof cpu / sizeof cpu[0]
               : is_large(bench) ? sizeof large / sizeof large[0]
                                 : sizeof small / sizeof small[0];
    for (size_t i = 0; i < n; i++)
        TRY(train_case(bench, &sizes[i], err));
    return COHORT_OK;
}

static void name_rows(struct bench *bench, int first, const char *kind, const char *word)
{
    for (int i = first; i < bench->n_rows; i++) {
        char what[sizeof bench->rows[i].what];
        memcpy(what, bench->rows[i].what, sizeof what);
        bench->rows[i].kind = kind;
        snprintf(bench->rows[i].what, sizeof bench->rows[i].what, "%s, %.60s", word, what);
    }
}

cohort_status bench_exactness(struct bench *bench, cohort_error *err)
{
    static const struct decode_size decode = {256, 1, 128, 256, false};
    static const struct train_size train = {64, 1, 128, 512, false, 20480};
    struct backend *backend = bench->session.backend;
    cohort_status status = COHORT_OK;
    for (int round = 0; on_gpu(bench) && !is_large(bench) && round < 2; round++) {
        int first = bench->n_rows;
        backend->inexact_products = round > 0;
        TRY_GOTO(decode_case(bench, &decode, err));
        TRY_GOTO(train_case(bench, &train, err));
        name_rows(bench, first, "exactness", round == 0 ? "exact" : "free");
    }
cleanup:
    backend->inexact_products = false;
    return status;
}

/* An adapter of every projection but the head, whose B is not 0, in place of what trained before. */
static cohort_status wear_adapter(struct bench *bench, cohort_error *err)
{
    enum { PART = 1 << 16 };
    static const char *const all[] = {"all-linear"};
    struct session *session = &bench->session;
    struct adapter_settings settings;
    float *part = NULL;
    cohort_status status = COHORT_OK;
    model_destroy(session->model);
    session->model = NULL;
    TRY(bench_open_model(bench, err));
    struct model *model = session->model;
    adapter_settings_default(&settings);
    settings.r = (int32_t)options_int(bench->options, OPTION_LORA_R);
    TRY_GOTO(mem_alloc(&part, PART, sizeof *part, "bench", err));
    TRY_GOTO(adapter_settings_targets(&settings, all, 1, err));
    TRY_GOTO(model_adapt(model, &settings, err));
    model_train_adapter(model);
    param_set_offload(model->trained, session_offload(bench->options));
    TRY_GOTO(model_adapter_start(model->adapter, bench->seed, err));
    for (int32_t i = 0; i < model->adapter->set.table.n_params; i++) {
        const struct param *param = &model->adapter->set.table.params[i];
        for (int64_t first = 0; first < param->count; first += PART) {
            const int64_t count = param->count - first < PART ? param->count - first : PART;
            bench_fill(bench, part, storage_dtype(param->format), first, count, bench->seed, (uint64_t)i, 0.01f);
            TRY_GOTO(param_set_store(&model->adapter->set, param, first, count, part, err));
        }
    }
    model_adapter_refresh(model->adapter);
cleanup:
    mem_free(part);
    adapter_settings_free(&settings);
    return status;
}

/* Rewards that differ within a group, so that nothing of the update is skipped. */
static cohort_status reward(void *context, const struct completion *completions, int32_t n, double *rewards,
                            double **lists, cohort_error *err)
{
    (void)context, (void)lists;
    (void)err;
    for (int32_t i = 0; i < n; i++)
        rewards[i] = (double)(completions[i].tokens[0] % 7) + 0.1 * i;
    return COHORT_OK;
}

/* One step of GRPO: prompts x group completions. On a GPU the canonical W-A. */
struct grpo_size {
    int32_t prompts, group, P, C;
    int64_t micro_tokens;
};

static struct grpo_size grpo_size_of(const struct bench *bench)
{
    static const struct grpo_size cpu = {4, 8, 128, 128, 0}, gpu = {64, 8, 128, 512, 24576},
                                  gpu_large = {64, 8, 128, 512, 5120};
    struct grpo_size size = !on_gpu(bench) ? cpu : is_large(bench) ? gpu_large : gpu;
    if (size.micro_tokens == 0 || options_given(bench->options, OPTION_MICRO_BATCH_TOKENS))
        size.micro_tokens = session_micro_tokens(bench->session.model, bench->options);
    if (size.micro_tokens < size.P + size.C)
        size.micro_tokens = size.P + size.C;
    return size;
}

static void grpo_name(const struct grpo_size *size, char *what, size_t length)
{
    snprintf(what, length, "step of %d prompts x %d, P = %d, C = %d", (int)size->prompts, (int)size->group,
             (int)size->P, (int)size->C);
}

static cohort_status run_grpo(struct bench *bench, struct grpo *grpo, const struct grpo_size *size, int32_t *tokens,
                              struct grpo_prompt *prompts, double planned, cohort_error *err)
{
    const struct model *model = bench->session.model;
    char what[sizeof bench->rows->what];
    const int32_t P = size->P, C = size->C;
    for (int i = 0; i < size->prompts; i++) {
        for (int j = 0; j < P; j++)
            tokens[i * P + j] = bench_token(bench, (uint64_t)(200 + i), j);
        prompts[i] = (struct grpo_prompt){.tokens = tokens + i * P, .n_tokens = P, .id = (uint64_t)i};
    }
    const int n = size->prompts * size->group;
    const double steps = C - 1, own = 0.5 * C;
    const int64_t fed = size->prompts * P + n * (C - 1);
    struct bench_work decode = bench_forward_work(model, n, n, (int64_t)(size->prompts * P + n * own), n * (P + own));
    struct bench_work train = train_work(model, fed, n * C, size->prompts * 0.5 * P * P + (double)n * C * (P + own));
    grpo_name(size, what, sizeof what);
    struct bench_row *whole = bench_row(bench, "grpo", "%s", what);
    struct bench_row *rollout = bench_row(bench, "grpo", "  rollout");
    struct bench_row *update = bench_row(bench, "grpo", "  training");
    struct bench_row *sampled = bench_row(bench, "grpo", "  rollout, tokens generated");
    struct bench_row *trained = bench_row(bench, "grpo", "  training, tokens fed");
    whole->unit = rollout->unit = update->unit = "s";
    sampled->unit = trained->unit = "tok/s";
    sampled->amount = n * C;
    trained->amount = (double)fed;
    rollout->work = sampled->work = (struct bench_work){.flops = steps * decode.flops, .bytes = steps * decode.bytes};
    update->work = trained->work = train;
    const bool once = is_large(bench); /* a step of half a minute and more */
    for (int run = on_gpu(bench) ? 1 : 0; run < (bench->quick || once ? 2 : 4); run++) {
        struct grpo_batch batch = {0};
        struct metrics metrics = {0};
        cohort_status status = grpo_step(grpo, prompts, size->prompts, &batch, &metrics, err);
        if (status != COHORT_OK || run == 0) {
            metrics_free(&metrics);
            TRY(status);
            grpo_batch_free(&batch);
            continue;
        }
        grpo_batch_free(&batch);
        bench_add(&whole->samples, metrics_get(&metrics, "step_time"));
        bench_add(&rollout->samples, metrics_get(&metrics, "time/rollout"));
        bench_add(&sampled->samples, metrics_get(&metrics, "time/rollout"));
        bench_add(&update->samples, metrics_get(&metrics, "time/train"));
        bench_add(&trained->samples, metrics_get(&metrics, "time/train"));
        metrics_free(&metrics);
    }
    whole->bytes_held = bench_bytes_held(bench);
    whole->bytes_planned = planned;
    return COHORT_OK;
}

cohort_status bench_grpo(struct bench *bench, cohort_error *err)
{
    static const double weight = 1.0;
    static const char *const name = "bench";
    struct session *session = &bench->session;
    struct tree_runner runner = {0};
    const struct grpo_size size = grpo_size_of(bench);
    struct grpo_prompt *prompts = NULL;
    int32_t *tokens = NULL;
    struct memory_plan plan = {0};
    struct rollout_need need = {.history = -1};
    bool fits = false;
    char what[sizeof bench->rows->what];
    struct grpo grpo = {
        .model = session->model,
        .runner = &runner,
        .optimizer = {.beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .max_grad_norm = 1.0},
        .config = {.group = size.group,
                   .max_completion_length = size.C,
                   .plan = {1, 1, 1},
                   .sampling = {.temperature = 1.0f, .min_tokens_to_keep = 1},
                   .seed = bench->seed,
                   .loss = {.type = LOSS_DAPO, .epsilon = 0.2, .epsilon_high = 0.2, .max_completion_length = size.C},
                   .advantage = {.scale = ADVANTAGE_SCALE_GROUP, .epsilon = 1e-4},
                   .schedule = {.type = SCHEDULE_CONSTANT, .learning_rate = 1e-6},
                   .reward_weights = &weight,
                   .reward_names = &name,
                   .n_functions = 1},
        .reward = reward};
    cohort_status status = COHORT_OK;
    TRY_GOTO(mem_alloc(&prompts, (size_t)size.prompts, sizeof *prompts, "bench", err));
    TRY_GOTO(mem_alloc(&tokens, (size_t)(size.prompts * size.P), sizeof *tokens, "bench", err));
    rollout_need_add(&need, size.prompts, size.P, size.C, size.group);
    grpo_name(&size, what, sizeof what);
    TRY_GOTO(plan_training(bench, &plan, &runner, size.prompts * size.group, size.P + size.C, size.micro_tokens, &need,
                           &grpo.engine, "grpo", what, &fits, err));
    if (!fits)
        goto cleanup;
    engine_keep_routes(grpo.engine);
    TRY_GOTO(open_buffers(bench, &plan, err));
    TRY_GOTO(run_grpo(bench, &grpo, &size, tokens, prompts, (double)memory_plan_total(&plan), err));
cleanup:
    engine_destroy(grpo.engine);
    routing_free(&grpo.routing);
    mem_free(prompts);
    mem_free(tokens);
    tree_runner_free(&runner);
    arena_release(&session->arena, session->backend);
    return status;
}

cohort_status bench_lora(struct bench *bench, cohort_error *err)
{
    static const struct decode_size cpu = {1, 8, 256, 64, false}, gpu = {256, 1, 128, 128, false};
    static const struct train_size cpu_train = {8, 1, 128, 128, false, 0}, small = {64, 1, 128, 512, false, 20480},
                                   large = {32, 1, 128, 512, false, 5120};
    char with[32];
    if (bench->session.adapter.there)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "--kind lora makes an adapter of its own (--lora-r): leave --adapter out");
    snprintf(with, sizeof with, "LoRA rank %d", (int)options_int(bench->options, OPTION_LORA_R));
    for (int round = 0; round < 2; round++) {
        const int first = bench->n_rows;
        if (round > 0)
            TRY(wear_adapter(bench, err));
        TRY(decode_case(bench, on_gpu(bench) ? &gpu : &cpu, err));
        TRY(train_case(bench, !on_gpu(bench) ? &cpu_train : is_large(bench) ? &large : &small, err));
        if (round > 0 && on_gpu(bench) && is_large(bench))
            TRY(bench_grpo(bench, err));
        name_rows(bench, first, "lora", round == 0 ? "all weights" : with);
    }
    return COHORT_OK;
}

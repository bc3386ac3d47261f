/* The exactness contract (I2, I3): what a request gets, and what its tokens are worth, is the same bits however the
 * work is cut.
 *
 * For every instruction set this machine has, in bf16 and fp32, on two model shapes and one with experts, 64 ragged requests (prompts of 1
 * to 200 tokens, groups of 1 to 8 completions, temperatures 0, 0.7 and 1, filters and penalties) are run once as the
 * baseline and then again in every other way the engine can go about it; and the training forward scores the finished
 * sequences in every mode, packed in different ways. Everything is compared bit for bit.
 *
 * With --device cuda the same on GPU 0: more than 256 sequences at once, prompts of up to 700 tokens (its attention
 * merges splits of 256 positions), and two shapes more with the head sizes that have kernels of their own.
 *
 * With --expect-difference the program is the negative control: linked with a kernel whose order of summation depends
 * on the batch, the same comparisons must report differences, in both types (on the GPU: in bf16 and on the shape whose
 * kernels are built to be broken). */
#include "backend/sampling.h"
#include "support/engine_test.h"

#include "base/rng.h"
#include "model/packing.h"

#include <math.h>

enum {
    MAX_REQUESTS = 64,
    MAX_GROUP = 8,
    MAX_COMPLETIONS = MAX_REQUESTS * MAX_GROUP,
    MAX_PROMPT = 700,
    N_LENGTHS = 12,
    N_NOISE = 12
};

/* How much is asked for. */
struct scale {
    int32_t thorough_requests, requests;
    int32_t n_alone; /* of the first, in an engine of their own */
    int32_t max_prompt, max_tokens;
    /* Prompts of the first requests: around the edges of a chunk and of two (of a split), and both ends; these are also
     * run alone. */
    int32_t lengths[N_LENGTHS];
    int32_t groups[6];
};
static const struct scale scale_cpu = {
    64, 20, 12, 200, 40, {1, 200, 64, 63, 65, 127, 128, 129, 2, 60, 120, 190}, {1, 8, 3, 1, 2, 1}};
static const struct scale scale_gpu = {
    64, 20, 12, 700, 40, {1, 600, 64, 255, 257, 127, 512, 129, 2, 256, 320, 700}, {1, 8, 5, 8, 2, 8}};
/* For an emulated GPU, which needs a second for what a GPU does in a millisecond. */
static const struct scale scale_small = {
    5, 5, 2, 270, 7, {65, 270, 3, 64, 20, 1, 1, 1, 1, 1, 1, 1}, {1, 3, 2, 1, 2, 1}};

/* Of a large vocabulary one in 60; ids that a vocabulary lacks are harmless. */
enum { N_EOS = 37 };
static int32_t eos_ids[N_EOS] = {5, 17};

/* One request of the test, and where its completions stand in a result. */
struct wanted {
    struct engine_request ask;
    int32_t prompt[MAX_PROMPT];
    int32_t first; /* completion 0 in the arrays below */
};

struct world {
    struct wanted requests[MAX_REQUESTS];
    struct wanted noise[N_NOISE];
    int32_t n_requests, n_completions;
    const struct scale *scale;
    struct model *model[2]; /* with one and with two threads; on a GPU twice the same */
    struct backend *backend[2];
    char what[120];
    int64_t compared, differences; /* log-probs */
};

/* Of all worlds, for the report. */
static int64_t all_compared, all_differences;

/* One way of going about it. */
struct way {
    const char *name;
    int threads;
    int32_t max_sequences, prefill_tokens, prefill_chunk;
    bool scarce;   /* no more pages than the largest request needs, and a few */
    bool unshared; /* every completion asked for alone, with its own copy of the prompt */
    bool reversed; /* submitted in the other order */
    bool noise;    /* between others, which are cancelled midway */
    bool alone;    /* each request in an engine of its own (the first n_alone requests only) */
    bool small;    /* also with --small */
};

static const struct way baseline = {.name = "baseline", .threads = 1, .max_sequences = 512, .prefill_tokens = 16384};

static const struct way ways[] = {
    {.name = "alone", .threads = 1, .max_sequences = 8, .prefill_tokens = 512, .alone = true, .small = true},
    {.name = "few slots, scarce pages",
     .threads = 1,
     .max_sequences = 3,
     .prefill_tokens = 100,
     .scarce = true,
     .small = true},
    {.name = "prompt not shared",
     .threads = 2,
     .max_sequences = 64,
     .prefill_tokens = 512,
     .unshared = true,
     .small = true},
    {.name = "two threads", .threads = 2, .max_sequences = 512, .prefill_tokens = 16384},
    {.name = "chunks of 1", .threads = 1, .max_sequences = 64, .prefill_tokens = 64, .prefill_chunk = 1},
    {.name = "chunks of 7", .threads = 2, .max_sequences = 64, .prefill_tokens = 40, .prefill_chunk = 7},
    {.name = "chunks of 64", .threads = 1, .max_sequences = 64, .prefill_tokens = 128, .prefill_chunk = 64},
    {.name = "one prompt token a step", .threads = 1, .max_sequences = 16, .prefill_tokens = 1, .alone = true},
    {.name = "among cancelled ones, reversed",
     .threads = 2,
     .max_sequences = 24,
     .prefill_tokens = 200,
     .reversed = true,
     .noise = true},
};
enum { N_WAYS = sizeof ways / sizeof ways[0] };

static uint32_t draw(uint64_t stream, uint64_t counter, uint32_t below)
{
    return rng_philox(20240607, RNG_TEST, stream, counter).word[0] % below;
}

/* ---- The requests ------------------------------------------------------------------------------------------------ */

static const int32_t bias_id[] = {3, 40};
static const float bias[] = {2.0f, -INFINITY};

static struct sampling_params sampling_of(uint32_t kind)
{
    struct sampling_params s = {.temperature = 1.0f, .min_tokens_to_keep = 1};
    switch (kind) {
    case 0: break;
    case 1: s.temperature = 0.7f; break;
    case 2: s.temperature = 0.0f; break;
    case 3: s.top_k = 20; break;
    case 4: s.temperature = 0.7f, s.top_p = 0.8f; break;
    case 5: s.min_p = 0.05f, s.repetition_penalty = 1.3f, s.repetition_context = 20; break;
    case 6:
        s.temperature = 0.7f, s.xtc_probability = 0.5f, s.xtc_threshold = 0.1f, s.presence_penalty = 0.4f,
        s.presence_context = 20;
        break;
    default:
        s.temperature = 0.0f, s.frequency_penalty = 0.3f, s.frequency_context = 20, s.bias_id = bias_id, s.bias = bias,
        s.n_bias = 2;
    }
    return s;
}

static void want(struct wanted *w, uint64_t stream, int32_t vocab, int32_t n_prompt, int32_t n, int32_t max_tokens)
{
    for (int32_t i = 0; i < n_prompt; i++)
        w->prompt[i] = (int32_t)draw(stream, 1000 + (uint64_t)i, (uint32_t)vocab);
    w->ask = (struct engine_request){.prompt = w->prompt,
                                     .n_prompt = n_prompt,
                                     .n = n,
                                     .sampling = sampling_of((uint32_t)(stream % 8)),
                                     .seed = 77,
                                     .stream = stream,
                                     .max_tokens = max_tokens,
                                     .eos_ids = eos_ids,
                                     .n_eos = N_EOS,
                                     .n_choosable = stream % 5 == 0 ? vocab - 10 : 0};
}

static void choose_requests(struct world *w, int32_t n_requests, int32_t vocab)
{
    const struct scale *scale = w->scale;
    const uint32_t prompts = (uint32_t)scale->max_prompt, tokens = (uint32_t)scale->max_tokens;
    w->n_requests = n_requests;
    w->n_completions = 0;
    for (int32_t i = 0; i < n_requests; i++) {
        const uint64_t id = (uint64_t)i;
        const bool edge = i < N_LENGTHS;
        want(&w->requests[i], id, vocab, edge ? scale->lengths[i] : 1 + (int32_t)draw(id, 0, prompts),
             scale->groups[draw(id, 1, 6)], edge ? scale->max_tokens : 1 + (int32_t)draw(id, 2, tokens));
        w->requests[i].first = w->n_completions;
        w->n_completions += w->requests[i].ask.n;
    }
    for (int32_t i = 0; i < N_NOISE; i++)
        want(&w->noise[i], 5000 + (uint64_t)i, vocab, 1 + (int32_t)draw(5000 + (uint64_t)i, 0, prompts), 2,
             scale->max_tokens);
}

/* ---- Running them ------------------------------------------------------------------------------------------------ */

struct machine {
    struct engine *engine;
    struct arena arena;
    struct model *model;
};

static void machine_open(struct machine *m, struct model *model, const struct engine_config *config)
{
    m->model = model;
    test_engine_open(&m->engine, &m->arena, model, config);
}

static void machine_close(struct machine *m) { test_engine_close(m->engine, &m->arena, m->model); }

struct submitted {
    int64_t id;
    int32_t at; /* completion 0 in the result; -1: noise */
    int32_t first_index;
};

static int32_t submit(struct machine *m, const struct wanted *w, bool unshared, int32_t at, struct submitted *to)
{
    if (!unshared) {
        *to = (struct submitted){.at = at};
        OK(engine_submit(m->engine, &w->ask, &to->id, err));
        return 1;
    }
    for (int32_t i = 0; i < w->ask.n; i++) {
        struct engine_request one = w->ask;
        one.n = 1;
        one.first_index = i;
        to[i] = (struct submitted){.at = at, .first_index = i};
        OK(engine_submit(m->engine, &one, &to[i].id, err));
    }
    return w->ask.n;
}

static void drain(struct machine *m, const struct submitted *list, int32_t n, struct completion *result)
{
    bool busy = true;
    for (int64_t step = 0; busy; step++) {
        struct completion c;
        OK(engine_step(m->engine, &busy, err));
        while (engine_poll(m->engine, &c)) {
            int32_t i = 0;
            while (i < n && list[i].id != c.request)
                i++;
            assert_true(i < n);
            if (list[i].at < 0) {
                completion_free(&c);
                continue;
            }
            struct completion *to = &result[list[i].at + c.index];
            assert_null(to->tokens); /* every completion comes once */
            *to = c;
        }
        /* One noise request every fourth step: some wait, some are in their prompt, some decode. */
        for (int32_t i = 0, seen = 0; i < n; i++)
            if (list[i].at < 0 && seen++ == step / 4 && step % 4 == 3)
                engine_cancel(m->engine, list[i].id);
    }
}

static void run_way(struct world *w, const struct way *way, struct completion *result)
{
    const struct scale *scale = w->scale;
    const int64_t pages = engine_pages(scale->max_prompt, scale->max_tokens, 1);
    struct engine_config config = {.max_sequences = way->max_sequences,
                                   .prefill_tokens = way->prefill_tokens,
                                   .prefill_chunk = way->prefill_chunk,
                                   .max_context = scale->max_prompt + scale->max_tokens,
                                   .n_pages = way->scarce ? pages + 2 : 0};
    struct submitted list[MAX_COMPLETIONS + N_NOISE];
    struct machine m;
    int32_t n = 0, count = way->alone ? scale->n_alone : w->n_requests;
    if (way->alone)
        config.n_pages = MAX_GROUP * pages;
    for (int32_t i = 0; i < w->n_requests && !way->scarce && !way->alone; i++)
        config.n_pages += w->requests[i].ask.n * pages;
    if (way->alone) {
        for (int32_t i = 0; i < count; i++) {
            machine_open(&m, w->model[way->threads - 1], &config);
            submit(&m, &w->requests[i], false, w->requests[i].first, list);
            drain(&m, list, 1, result);
            machine_close(&m);
        }
        return;
    }
    machine_open(&m, w->model[way->threads - 1], &config);
    for (int32_t k = 0; k < count; k++) {
        int32_t i = way->reversed ? count - 1 - k : k;
        if (way->noise && k % 5 == 0 && k / 5 < N_NOISE)
            n += submit(&m, &w->noise[k / 5], false, -1, list + n);
        n += submit(&m, &w->requests[i], way->unshared, w->requests[i].first, list + n);
    }
    drain(&m, list, n, result);
    machine_close(&m);
}

static void free_result(struct completion *result)
{
    for (int32_t i = 0; i < MAX_COMPLETIONS; i++)
        completion_free(&result[i]);
    free(result);
}

static struct completion *new_result(void)
{
    struct completion *result = calloc(MAX_COMPLETIONS, sizeof *result);
    assert_non_null(result);
    return result;
}

/* ---- Comparing --------------------------------------------------------------------------------------------------- */

static void differ(struct world *w, const char *way, int32_t request, int32_t index, const char *what, int32_t token)
{
    if (w->differences++ < 5)
        print_message("%s, %s: request %d completion %d differs in %s at token %d\n", w->what, way, (int)request,
                      (int)index, what, (int)token);
}

static uint32_t bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static void compare(struct world *w, const struct way *way, const struct completion *expected,
                    const struct completion *got)
{
    for (int32_t r = 0; r < (way->alone ? w->scale->n_alone : w->n_requests); r++)
        for (int32_t i = 0; i < w->requests[r].ask.n; i++) {
            const struct completion *a = &expected[w->requests[r].first + i], *b = &got[w->requests[r].first + i];
            assert_non_null(b->tokens);
            int32_t t = 0;
            w->compared += a->n_tokens;
            while (t < a->n_tokens && t < b->n_tokens && a->tokens[t] == b->tokens[t] &&
                   bits(a->logp[t]) == bits(b->logp[t]) && bits(a->entropy[t]) == bits(b->entropy[t]))
                t++;
            if (t < a->n_tokens || t < b->n_tokens)
                differ(w, way->name, r, i,
                       t < a->n_tokens && t < b->n_tokens && a->tokens[t] == b->tokens[t] ? "log-prob or entropy"
                                                                                          : "token",
                       t);
            else if (a->finish_reason != b->finish_reason)
                differ(w, way->name, r, i, "finish reason", t);
        }
}

/* The baseline must be worth comparing: lengths differ, some end by EOS, and the model has an opinion. */
static void check_baseline(const struct world *w, const struct completion *result)
{
    const double flat = -log((double)w->model[0]->config.vocab_size);
    double sum = 0.0;
    int64_t tokens = 0, eos = 0;
    for (int32_t r = 0; r < w->n_requests; r++)
        for (int32_t i = 0; i < w->requests[r].ask.n; i++) {
            const struct completion *c = &result[w->requests[r].first + i];
            assert_non_null(c->tokens);
            assert_true(c->n_tokens >= 1 && c->n_tokens <= w->requests[r].ask.max_tokens);
            eos += c->finish_reason == FINISH_EOS;
            for (int32_t t = 0; t < c->n_tokens; t++) {
                assert_true(c->logp[t] <= 0.0f && c->logp[t] > -100.0f);
                assert_true(c->entropy[t] >= 0.0f && (double)c->entropy[t] < -1.001 * flat);
                sum += (double)c->logp[t];
            }
            tokens += c->n_tokens;
        }
    assert_true(eos > 0 || test_options.small);
    assert_true(sum / (double)tokens > 0.75 * flat);
}

/* ---- The training forward ---------------------------------------------------------------------------------------- */

/* The finished sequences of one temperature, as trees. */
struct forest {
    struct tree trees[MAX_COMPLETIONS];
    struct completion_tokens completions[MAX_COMPLETIONS];
    int32_t request[MAX_COMPLETIONS], index[MAX_COMPLETIONS];
    const struct completion *expected[MAX_COMPLETIONS];
    float *logp[MAX_COMPLETIONS], *entropy[MAX_COMPLETIONS];
    int32_t n_trees, n;
    int64_t longest;
};

static struct forest *make_forest(const struct world *w, const struct completion *result, float temperature,
                                  bool shared)
{
    struct forest *f = calloc(1, sizeof *f);
    assert_non_null(f);
    for (int32_t r = 0; r < w->n_requests; r++) {
        const struct engine_request *ask = &w->requests[r].ask;
        if ((ask->sampling.temperature == 0.0f ? 1.0f : ask->sampling.temperature) != temperature)
            continue;
        for (int32_t i = 0; i < ask->n; i++) {
            const struct completion *c = &result[w->requests[r].first + i];
            if (i == 0 || !shared)
                f->trees[f->n_trees++] = (struct tree){
                    .prompt = ask->prompt, .n_prompt = ask->n_prompt, .completions = &f->completions[f->n]};
            f->trees[f->n_trees - 1].n_completions++;
            f->completions[f->n] = (struct completion_tokens){.tokens = c->tokens, .n_tokens = c->n_tokens};
            f->request[f->n] = r;
            f->index[f->n] = i;
            f->expected[f->n] = c;
            f->logp[f->n] = calloc((size_t)c->n_tokens, sizeof(float));
            f->entropy[f->n] = calloc((size_t)c->n_tokens, sizeof(float));
            assert_true(f->logp[f->n] != NULL && f->entropy[f->n] != NULL);
            f->n++;
            if (ask->n_prompt + c->n_tokens - 1 > f->longest)
                f->longest = ask->n_prompt + c->n_tokens - 1;
        }
    }
    assert_true(f->n > 0);
    return f;
}

static void free_forest(struct forest *f)
{
    for (int32_t i = 0; i < f->n; i++) {
        free(f->logp[i]);
        free(f->entropy[i]);
    }
    free(f);
}

/* budget: fed tokens of a micro-batch at most; 0: as few as can be. */
static void score(struct world *w, const struct completion *result, enum decoder_mode mode, int64_t budget, bool shared,
                  int threads)
{
    static const char *const modes[] = {"infer", "train", "recompute"};
    static const float temperatures[] = {1.0f, 0.7f};
    char name[80];
    snprintf(name, sizeof name, "score %s, %lld tokens, %s, %d threads", modes[mode], (long long)budget,
             shared ? "shared" : "not shared", threads);
    for (int32_t k = 0; k < 2; k++) {
        struct model *model = w->model[threads - 1];
        struct forest *f = make_forest(w, result, temperatures[k], shared);
        struct tree_runner runner = {0};
        struct arena arena = {0};
        int64_t tokens = budget > f->longest ? budget : f->longest;
        OK(tree_runner_plan(&runner, &arena, &model->config, model->type, tokens, 64, mode, err));
        OK(arena_allocate(&arena, model->backend, "test", err));
        OK(tree_runner_plan(&runner, &arena, &model->config, model->type, tokens, 64, mode, err));
        OK(tree_runner_score(&runner, model, f->trees, f->n_trees, temperatures[k], f->logp, f->entropy, err));
        for (int32_t i = 0; i < f->n; i++) {
            w->compared += f->completions[i].n_tokens;
            for (int32_t t = 0; t < f->completions[i].n_tokens; t++)
                if (bits(f->logp[i][t]) != bits(f->expected[i]->logp[t]) ||
                    bits(f->entropy[i][t]) != bits(f->expected[i]->entropy[t])) {
                    differ(w, name, f->request[i], f->index[i], "log-prob or entropy", t);
                    break;
                }
        }
        tree_runner_free(&runner);
        arena_release(&arena, model->backend);
        free_forest(f);
    }
}

static void score_all(struct world *w, const struct completion *result, bool thorough)
{
    if (test_options.small) {
        score(w, result, DECODER_TRAIN, 0, true, 1);
        return;
    }
    if (!thorough) {
        score(w, result, DECODER_INFER, 700, true, 2);
        score(w, result, DECODER_TRAIN, 0, false, 1);
        score(w, result, DECODER_RECOMPUTE, 4000, true, 1);
        return;
    }
    for (int mode = DECODER_INFER; mode <= DECODER_RECOMPUTE; mode++)
        for (int shared = 0; shared < 2; shared++) {
            score(w, result, (enum decoder_mode)mode, 0, shared, 1);
            score(w, result, (enum decoder_mode)mode, 700, shared, 2);
            score(w, result, (enum decoder_mode)mode, 4000, shared, 1 + mode % 2);
        }
}

/* ---- The tests --------------------------------------------------------------------------------------------------- */

enum { MAX_SHAPES = 5, EXPERTS = 4 };
static const struct tiny_shape *const shapes[MAX_SHAPES] = {&tiny_even, &tiny_odd, &tiny_wide, &tiny_half,
                                                            &tiny_experts};
static char folders[MAX_SHAPES][64];

/* False if this machine has not got the instruction set. */
static bool world_open(struct world *w, const char *provider, enum dtype type, int shape)
{
    memset(w, 0, sizeof *w);
    w->scale = test_options.small ? &scale_small : test_options.cuda ? &scale_gpu : &scale_cpu;
    for (int t = 0; t < (test_options.cuda ? 1 : 2); t++) {
        w->backend[t] = backend_here(provider, t + 1);
        if (w->backend[t] == NULL)
            return false;
        w->backend[t]->alone_ns = 0.0; /* a tiny model's work is shared out too */
        OK(model_load(&w->model[t], w->backend[t], folders[shape], type, 0, err));
    }
    if (test_options.cuda)
        w->model[1] = w->model[0];
    snprintf(w->what, sizeof w->what, "%s %s (%s), %s model", provider, dtype_name(type),
             type == DTYPE_BF16 ? w->backend[0]->provider_bf16 : w->backend[0]->provider_f32, shapes[shape]->name);
    return true;
}

static void world_close(struct world *w)
{
    for (int t = 0; t < (test_options.cuda ? 1 : 2); t++) {
        model_destroy(w->model[t]);
        backend_destroy(w->backend[t]);
    }
    free(w);
}

static int64_t check(const char *provider, enum dtype type, int shape, bool thorough)
{
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    if (!world_open(w, provider, type, shape)) {
        free(w);
        print_message("%s: not on this machine\n", provider);
        return 0;
    }
    choose_requests(w, thorough ? w->scale->thorough_requests : w->scale->requests, shapes[shape]->vocab_size);
    if (w->scale == &scale_gpu && thorough)
        assert_true(w->n_completions > 256); /* all at once in the baseline */
    struct completion *expected = new_result();
    run_way(w, &baseline, expected);
    check_baseline(w, expected);
    for (int32_t i = 0; i < N_WAYS; i++) {
        if (test_options.small && !ways[i].small)
            continue;
        struct completion *got = new_result();
        run_way(w, &ways[i], got);
        compare(w, &ways[i], expected, got);
        free_result(got);
    }
    score_all(w, expected, thorough);
    int64_t differences = w->differences;
    all_compared += w->compared;
    all_differences += differences;
    free_result(expected);
    world_close(w);
    return differences;
}

static void check_isa(const char *isa, bool thorough)
{
    static const int on_cpu[] = {0, 1, EXPERTS};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(check(isa, DTYPE_BF16, on_cpu[i], thorough && on_cpu[i] != EXPERTS), 0);
        assert_int_equal(check(isa, DTYPE_F32, on_cpu[i], thorough && on_cpu[i] != EXPERTS), 0);
    }
}

static void test_auto(void **state)
{
    (void)state;
    check_isa("auto", true);
}
static void test_portable(void **state)
{
    (void)state;
    check_isa("portable", false);
}
static void test_avx2(void **state)
{
    (void)state;
    check_isa("avx2", false);
}
static void test_avx512(void **state)
{
    (void)state;
    check_isa("avx512", false);
}
static void test_avx512_bf16(void **state)
{
    (void)state;
    check_isa("avx512-bf16", false);
}
static void test_amx_bf16(void **state)
{
    (void)state;
    check_isa("amx-bf16", false);
}

/* On a GPU: shape 2 has everything, the others what is different in them. */
static void test_gpu(void **state)
{
    (void)state;
    for (int shape = test_options.small ? 2 : 0; shape < MAX_SHAPES; shape++) {
        if (test_options.small && shape == 3)
            continue;
        assert_int_equal(check("cuda", DTYPE_BF16, shape, shape == 2), 0);
        if (test_options.small)
            continue;
        assert_int_equal(check("cuda", DTYPE_F32, shape, false), 0);
    }
    test_figure("%lld log-probs compared, %lld differ (0)", (long long)all_compared, (long long)all_differences);
}

/* A shape that has what is broken; -1: those of the CPU without experts, on a GPU the one with all else. */
#ifndef CONTROL_SHAPE
#define CONTROL_SHAPE -1
#endif

/* The negative control: a break that the comparisons do not see would mean they see nothing. */
static void test_break_is_seen(void **state)
{
    (void)state;
    if (test_options.cuda) {
        assert_int_not_equal(check("cuda", DTYPE_BF16, CONTROL_SHAPE < 0 ? 2 : CONTROL_SHAPE, false), 0);
        test_figure("%lld sequences differ (> 0)", (long long)all_differences);
        return;
    }
    const int first = CONTROL_SHAPE < 0 ? 0 : CONTROL_SHAPE, last = CONTROL_SHAPE < 0 ? 1 : CONTROL_SHAPE;
    for (int shape = first; shape <= last; shape++) {
        assert_int_not_equal(check("auto", DTYPE_F32, shape, false), 0);
        assert_int_not_equal(check("auto", DTYPE_BF16, shape, false), 0);
    }
}

static int write_models(void **state)
{
    (void)state;
    for (int32_t i = 2; i < N_EOS; i++)
        eos_ids[i] = 400 + 60 * (i - 2);
    for (int i = 0; i < MAX_SHAPES; i++) {
        cohort_error err = {0};
        snprintf(folders[i], sizeof folders[i], "/tmp/cohort-invariance-XXXXXX");
        if (mkdtemp(folders[i]) == NULL ||
            tiny_checkpoint_write(folders[i], shapes[i], 11 + (uint64_t)i, &err) != COHORT_OK) {
            print_error("%s: %s\n", folders[i], err.message);
            return -1;
        }
    }
    return 0;
}

static int remove_models(void **state)
{
    (void)state;
    for (int i = 0; i < MAX_SHAPES; i++)
        if (file_remove_all(folders[i], NULL) != COHORT_OK)
            return -1;
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_auto),        cmocka_unit_test(test_portable),
                                       cmocka_unit_test(test_avx2),        cmocka_unit_test(test_avx512),
                                       cmocka_unit_test(test_avx512_bf16), cmocka_unit_test(test_amx_bf16)};
    const struct CMUnitTest gpu[] = {cmocka_unit_test(test_gpu)};
    const struct CMUnitTest control[] = {cmocka_unit_test(test_break_is_seen)};
    test_arguments(argc, argv);
    if (test_options.expect_difference)
        return cmocka_run_group_tests(control, write_models, remove_models);
    if (test_options.cuda)
        return cmocka_run_group_tests(gpu, write_models, remove_models);
    return cmocka_run_group_tests(tests, write_models, remove_models);
}

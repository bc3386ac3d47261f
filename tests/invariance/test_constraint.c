/* Constraints: a draw by a bitset of allowed tokens is the draw with a bias of -infinity on the others; its log-prob is
 * the unconstrained one; through the engine a constraint says which tokens come and when they end, alone and beside
 * others, which do not notice. On both backends. */
#include "support/engine_test.h"

#include "backend/ops.h"
#include "base/rng.h"
#include "model/packing.h"

#include <math.h>

static const char *const providers[] = {"portable", "avx2", "avx512"};
enum { N_PROVIDERS = sizeof providers / sizeof *providers };

static uint32_t draw(uint64_t stream, uint64_t counter, uint32_t below)
{
    return rng_philox(314, RNG_TEST, stream, counter).word[0] % below;
}

/* ---- Draws ---- */

enum { MOST_VOCAB = 5000, N_KINDS = 7, N_MASKS = 6 };

static struct sampling_params params_of(int kind)
{
    struct sampling_params p = {.temperature = 1.0f, .min_tokens_to_keep = 1};
    switch (kind) {
    case 0: break;
    case 1: p.temperature = 0.7f; break;
    case 2: p.temperature = 0.0f; break;
    case 3: p.top_p = 0.8f; break;
    case 4: p.top_k = 3, p.temperature = 1.3f; break;
    case 5: p.min_p = 0.1f, p.presence_penalty = 0.5f, p.repetition_penalty = 1.4f; break;
    default: p.xtc_probability = 0.5f, p.xtc_threshold = 0.05f, p.frequency_penalty = 0.3f;
    }
    return p;
}

/* Which of n ids are allowed. */
static bool is_allowed(int mask, int32_t id, int32_t n)
{
    switch (mask) {
    case 0: return draw(1, (uint64_t)id, 2) == 0 || id == n / 2;
    case 1: return id == 0;
    case 2: return id == n - 1;
    case 3: return id == n / 2;
    case 4: return true;
    default: return draw(2, (uint64_t)id, 30) != 0 || id == n / 2;
    }
}

/* Bits beyond n are set: nobody may look at them. */
static void make_bits(uint32_t *bits, int mask, int32_t n)
{
    for (int64_t w = 0; w < allowed_words(n); w++)
        bits[w] = 0;
    for (int64_t id = 0; id < 32 * allowed_words(n); id++)
        if (id >= n || is_allowed(mask, (int32_t)id, n))
            bits[id / 32] |= 1u << (id % 32);
}

static void sample(struct backend *backend, const float *logits, int64_t vocab, int32_t choosable,
                   struct sample_row *rows, int32_t n)
{
    backend->ops->sample(backend, &(struct sample){vocab, choosable, logits, rows, n});
    cohort_error err = {0};
    if (backend_check(backend, &err) != COHORT_OK)
        fail_msg("%s", err.message);
}

/* Fails unless the row's log-prob and entropy are those of head_stats, bit for bit. */
static void expect_stats(struct backend *backend, const float *logits, int64_t vocab, const struct sample_row *row)
{
    void *memory = NULL;
    OK(backend->ops->alloc(backend, &memory, 64 * 4, "test", err));
    char *at = memory;
    backend->ops->upload(backend, at, &row->token, sizeof row->token);
    const float t = row->params->temperature;
    backend->ops->head_stats(backend, &(struct head_stats){.rows = 1,
                                                           .vocab = vocab,
                                                           .logits = logits,
                                                           .temperature = t == 0.0f ? 1.0f : t,
                                                           .target = (const int32_t *)(const void *)at,
                                                           .logp = (float *)(void *)(at + 64),
                                                           .lse = (float *)(void *)(at + 128),
                                                           .entropy = (float *)(void *)(at + 192)});
    float logp = 0.0f, entropy = 0.0f;
    backend->ops->download(backend, &logp, at + 64, sizeof logp);
    backend->ops->download(backend, &entropy, at + 192, sizeof entropy);
    backend->ops->free(backend, memory);
    assert_memory_equal(&row->logp, &logp, sizeof logp);
    assert_memory_equal(&row->entropy, &entropy, sizeof entropy);
}

/* Fails unless a row that is masked has the numbers that head_stats gives for the logits that are allowed, bit for bit,
 * and says how much of the probability they have. plain: the same draw, not masked. here: the logits. */
static void expect_masked(struct backend *backend, const float *here, int64_t vocab, int mask, int32_t n,
                          const struct sample_row *plain)
{
    static float forbidden[MOST_VOCAB];
    struct sample_row row = *plain;
    void *logits = NULL;
    double all = 0.0, kept = 0.0;
    const double t = row.params->temperature == 0.0f ? 1.0 : (double)row.params->temperature;
    OK(backend->ops->alloc(backend, &logits, 2 * (size_t)vocab * sizeof(float), "test", err));
    for (int64_t i = 0; i < vocab; i++) {
        const bool in = i < n && is_allowed(mask, (int32_t)i, n);
        forbidden[i] = in ? here[i] : -INFINITY;
        all += exp((double)here[i] / t);
        kept += in ? exp((double)here[i] / t) : 0.0;
    }
    backend->ops->upload(backend, logits, here, (size_t)vocab * sizeof(float));
    backend->ops->upload(backend, (float *)logits + vocab, forbidden, (size_t)vocab * sizeof(float));
    row.masked = true;
    row.token = -7;
    sample(backend, logits, vocab, n, &row, 1);
    assert_int_equal(row.token, plain->token);
    assert_memory_equal(&row.kept, &plain->kept, sizeof row.kept);
    expect_stats(backend, (const float *)logits + vocab, vocab, &row);
    assert_true(fabs((double)row.kept - log(kept / all)) < 2e-5); /* sums of floats, and their rounding to one */
    assert_true(fabs((double)plain->logp - (double)row.logp - (double)row.kept) < 2e-5);
    backend->ops->free(backend, logits);
}

static void check_draws(struct backend *backend, int64_t vocab, int32_t n)
{
    static float here[MOST_VOCAB];
    static uint32_t bits[(MOST_VOCAB + 31) / 32];
    static int32_t bias_id[MOST_VOCAB + 1];
    static float bias[MOST_VOCAB + 1];
    const int32_t history[] = {0, n / 2, n - 1, 0};
    void *logits = NULL;
    OK(backend->ops->alloc(backend, &logits, (size_t)vocab * sizeof(float), "test", err));
    for (int64_t i = 0; i < vocab; i++)
        here[i] = (float)draw(3, (uint64_t)i, 1000) * 0.008f - 4.0f;
    backend->ops->upload(backend, logits, here, (size_t)vocab * sizeof(float));
    for (int mask = 0; mask < N_MASKS; mask++)
        for (int kind = 0; kind < N_KINDS; kind++) {
            struct sampling_params params = params_of(kind), biased = params;
            make_bits(bits, mask, n);
            /* The other way of saying it; with a bias of 0, so that it goes through the same steps in any case. */
            biased.n_bias = 1;
            bias_id[0] = 0;
            bias[0] = 0.0f;
            for (int32_t id = 0; id < n; id++)
                if (!is_allowed(mask, id, n)) {
                    bias_id[biased.n_bias] = id;
                    bias[biased.n_bias++] = -INFINITY;
                }
            biased.bias_id = bias_id;
            biased.bias = bias;
            enum { DRAWS = 5 };
            struct sample_row rows[3 * DRAWS], plain[DRAWS];
            for (int i = 0; i < DRAWS; i++) {
                struct sample_row row = {
                    .params = &params, .history = history, .n_history = 4, .seed = 9, .stream = (uint64_t)i};
                plain[i] = row;
                rows[3 * i] = row; /* the neighbours in between */
                row.allowed = bits;
                rows[3 * i + 1] = row;
                row.allowed = NULL;
                row.params = &biased;
                rows[3 * i + 2] = row;
            }
            sample(backend, logits, vocab, n, rows, 3 * DRAWS);
            sample(backend, logits, vocab, n, plain, DRAWS);
            for (int i = 0; i < DRAWS; i++) {
                const struct sample_row *row = &rows[3 * i + 1];
                assert_in_range(row->token, 0, n - 1);
                assert_true(is_allowed(mask, row->token, n));
                assert_int_equal(row->token, rows[3 * i + 2].token);
                assert_memory_equal(&row->logp, &rows[3 * i + 2].logp, sizeof row->logp);
                expect_stats(backend, logits, vocab, row);
                assert_true(rows[3 * i].kept == 0.0f && rows[3 * i + 2].kept == 0.0f);
                if (i == 0)
                    expect_masked(backend, here, vocab, mask, n, row);
                assert_int_equal(rows[3 * i].token, plain[i].token);
                assert_memory_equal(&rows[3 * i].logp, &plain[i].logp, sizeof plain[i].logp);
                expect_stats(backend, logits, vocab, &plain[i]);
            }
            /* The same alone. */
            struct sample_row alone = rows[1];
            alone.token = -7;
            sample(backend, logits, vocab, n, &alone, 1);
            assert_int_equal(alone.token, rows[1].token);
            /* Nothing is allowed. */
            memset(bits, 0, sizeof bits);
            sample(backend, logits, vocab, n, rows, 2);
            assert_int_equal(rows[1].token, -1);
            assert_true(isnan(rows[1].logp) && isnan(rows[1].entropy));
            assert_int_equal(rows[0].token, plain[0].token);
        }
    backend->ops->free(backend, logits);
}

static void test_draws(void **state)
{
    (void)state;
    static const int32_t sizes[] = {1, 31, 32, 33, 64, 65, 100, 2049, MOST_VOCAB};
    const char *provider = NULL;
    for (size_t i = 0; (provider = test_provider(providers, N_PROVIDERS, i)) != NULL; i++) {
        struct backend *backend = backend_here(provider, 2);
        for (size_t s = 0; backend != NULL && s < sizeof sizes / sizeof *sizes; s++) {
            if (test_options.small && sizes[s] != 33 && sizes[s] != 2049)
                continue;
            check_draws(backend, sizes[s], sizes[s]);
            if (sizes[s] > 7)
                check_draws(backend, sizes[s], sizes[s] - 7);
        }
        backend_destroy(backend);
    }
}

/* ---- Through the engine ---- */

enum { FIRST_DIGIT = 10, N_DIGITS = 10, N_PLAIN = 3, GROUP = 3, TOKENS = 8, MOST_WORDS = 64 };

/* Digits only, and so many of them; broken: nothing at all from the second on. */
struct digits {
    uint32_t bits[MOST_WORDS];
    int32_t accepted, wanted;
    bool broken, anything; /* anything: asks for nothing, only counts */
};

static const uint32_t *digits_allowed(void *context)
{
    struct digits *d = context;
    memset(d->bits, 0, sizeof d->bits);
    for (int32_t id = FIRST_DIGIT; id < FIRST_DIGIT + N_DIGITS && !(d->broken && d->accepted > 0); id++)
        d->bits[id / 32] |= 1u << (id % 32);
    return d->anything ? NULL : d->bits;
}

static void digits_accept(void *context, int32_t token)
{
    struct digits *d = context;
    assert_true(d->anything || (token >= FIRST_DIGIT && token < FIRST_DIGIT + N_DIGITS));
    d->accepted++;
}

static bool digits_done(void *context)
{
    const struct digits *d = context;
    return d->accepted == d->wanted;
}

static struct constraint constraint_of(struct digits *digits, bool masked)
{
    return (struct constraint){digits, digits_allowed, digits_accept, digits_done, NULL, masked};
}

static void digits_begin(void *context, int32_t n_tokens)
{
    struct digits *d = context;
    assert_int_equal(n_tokens, 0);
    d->accepted = 0;
}

struct outcome {
    struct completion plain[N_PLAIN];
    struct completion constrained[GROUP];
};

static const int32_t prompt[] = {3, 1, 4, 1, 5, 9, 2, 6};
enum { N_PROMPT = sizeof prompt / sizeof *prompt };

static void outcome_free(struct outcome *o)
{
    for (int i = 0; i < N_PLAIN; i++)
        completion_free(&o->plain[i]);
    for (int i = 0; i < GROUP; i++)
        completion_free(&o->constrained[i]);
}

/* Completions of the group: 3 digits; broken behind one; anything, 4 tokens. */
static struct outcome run(struct model *model, bool plain, bool constrained, bool masked)
{
    struct outcome result = {0};
    struct engine *engine = NULL;
    struct arena arena;
    struct digits digits[GROUP] = {{.wanted = 3}, {.wanted = 3, .broken = true}, {.wanted = 4, .anything = true}};
    struct constraint constraints[GROUP];
    int64_t id = -1, constrained_id = -1;
    const struct engine_config config = {.max_sequences = 8, .n_pages = 32, .prefill_tokens = 16, .max_context = 64};
    test_engine_open(&engine, &arena, model, &config);
    for (int i = 0; i < GROUP; i++)
        constraints[i] = constraint_of(&digits[i], masked);
    struct engine_request ask = {.prompt = prompt,
                                 .n_prompt = N_PROMPT,
                                 .n = N_PLAIN,
                                 .sampling = {.temperature = 1.0f},
                                 .max_tokens = TOKENS,
                                 .stream = 1};
    if (plain)
        OK(engine_submit(engine, &ask, &id, err));
    ask.stream = 2;
    ask.n = GROUP;
    ask.sampling.temperature = 0.8f;
    ask.constraints = constraints;
    if (constrained)
        OK(engine_submit(engine, &ask, &constrained_id, err));
    memset(constraints, 0, sizeof constraints); /* they were copied */
    for (bool busy = true; busy;) {
        struct completion c;
        OK(engine_step(engine, &busy, err));
        while (engine_poll(engine, &c))
            *(c.request == id ? &result.plain[c.index] : &result.constrained[c.index]) = c;
    }
    for (int i = 0; constrained && i < GROUP; i++)
        assert_int_equal(digits[i].accepted, result.constrained[i].n_tokens);
    test_engine_close(engine, &arena, model);
    return result;
}

static void expect_same(const struct completion *a, const struct completion *b)
{
    assert_int_equal(a->n_tokens, b->n_tokens);
    assert_int_equal(a->finish_reason, b->finish_reason);
    assert_memory_equal(a->tokens, b->tokens, (size_t)a->n_tokens * sizeof *a->tokens);
    assert_memory_equal(a->logp, b->logp, (size_t)a->n_tokens * sizeof *a->logp);
    assert_true((a->kept == NULL) == (b->kept == NULL));
    if (a->kept != NULL)
        assert_memory_equal(a->kept, b->kept, (size_t)a->n_tokens * sizeof *a->kept);
}

/* The log-probs and entropies are those that training computes (invariant I2): without masks constraints leave no trace in
 * them, with masks they are those over what was allowed. */
static void expect_trained(struct model *model, const struct completion *c, float temperature,
                           const struct mask_replay *masks)
{
    float logp[TOKENS], entropy[TOKENS], *at = logp, *entropy_at = entropy;
    struct tree_runner runner = {.extras = {.masks = masks != NULL}};
    struct arena arena = {0};
    const struct completion_tokens tokens = {.tokens = c->tokens, .n_tokens = c->n_tokens, .masks = masks};
    const struct tree tree = {.prompt = prompt, .n_prompt = N_PROMPT, .completions = &tokens, .n_completions = 1};
    for (int pass = 0; pass < 2; pass++) {
        OK(tree_runner_plan(&runner, &arena, &model->config, model->type, 64, 1, DECODER_INFER, err));
        if (pass == 0)
            OK(arena_allocate(&arena, model->backend, "test", err));
    }
    OK(tree_runner_score(&runner, model, &tree, 1, temperature, &at, &entropy_at, err));
    assert_memory_equal(logp, c->logp, (size_t)c->n_tokens * sizeof *logp);
    assert_memory_equal(entropy, c->entropy, (size_t)c->n_tokens * sizeof *entropy);
    tree_runner_free(&runner);
    arena_release(&arena, model->backend);
}

/* The same tokens as without masks; log-probs over what was allowed, in sampling and in training. */
static void expect_masked_run(struct model *model, const struct completion *masked, const struct completion *plain,
                              int k)
{
    struct digits digits = {.broken = k == 1, .anything = k == 2};
    const struct mask_replay replay = {&digits,      model->config.vocab_size, NULL,         0,
                                       digits_begin, digits_allowed,           digits_accept};
    const size_t bytes = (size_t)plain->n_tokens * sizeof(float);
    assert_int_equal(masked->n_tokens, plain->n_tokens);
    assert_memory_equal(masked->tokens, plain->tokens, (size_t)plain->n_tokens * sizeof *plain->tokens);
    assert_memory_equal(masked->kept, plain->kept, bytes);
    assert_true((memcmp(masked->logp, plain->logp, bytes) == 0) ==
                (k == 2)); /* where all is allowed, nothing differs */
    for (int32_t t = 0; t < plain->n_tokens; t++)
        assert_true(fabs((double)plain->logp[t] - (double)masked->logp[t] - (double)masked->kept[t]) < 1e-5);
    expect_trained(model, masked, 0.8f, &replay);
}

/* A token that is not allowed is no token of this guide: an error, no crash. */
static void test_strange_tokens(void **state)
{
    (void)state;
    struct backend *backend = backend_here(test_options.cuda ? "cuda" : "portable", 1);
    struct model *model = NULL;
    struct tree_runner runner = {.extras = {.masks = true}};
    struct arena arena = {0};
    struct digits digits = {0};
    float logp[2], *at = logp;
    cohort_error error = {0};
    OK(model_load(&model, backend, tiny_folder, DTYPE_F32, 0, err));
    const struct mask_replay replay = {&digits,      model->config.vocab_size, NULL,         0,
                                       digits_begin, digits_allowed,           digits_accept};
    const int32_t strange[] = {FIRST_DIGIT, FIRST_DIGIT - 1};
    const struct completion_tokens tokens = {.tokens = strange, .n_tokens = 2, .masks = &replay};
    const struct tree tree = {.prompt = prompt, .n_prompt = N_PROMPT, .completions = &tokens, .n_completions = 1};
    for (int pass = 0; pass < 2; pass++) {
        OK(tree_runner_plan(&runner, &arena, &model->config, model->type, 64, 1, DECODER_INFER, err));
        if (pass == 0)
            OK(arena_allocate(&arena, backend, "test", err));
    }
    assert_int_equal(tree_runner_score(&runner, model, &tree, 1, 1.0f, &at, NULL, &error), COHORT_ERR_STATE);
    assert_non_null(strstr(error.message, "token 1 of a completion (id 9) is not one that its guide allows"));
    tree_runner_free(&runner);
    arena_release(&arena, backend);
    model_destroy(model);
    backend_destroy(backend);
}

static void test_engine(void **state)
{
    (void)state;
    const char *provider = NULL;
    for (size_t i = 0; (provider = test_provider(providers, N_PROVIDERS, i)) != NULL; i++) {
        struct backend *backend = backend_here(provider, 2);
        struct model *model = NULL;
        if (backend == NULL)
            continue;
        OK(model_load(&model, backend, tiny_folder, DTYPE_F32, 0, err));
        assert_in_range(model->config.vocab_size, FIRST_DIGIT + N_DIGITS, 32 * MOST_WORDS);
        struct outcome both = run(model, true, true, false), plain = run(model, true, false, false),
                       constrained = run(model, false, true, false), masked = run(model, false, true, true);
        for (int k = 0; k < N_PLAIN; k++) {
            assert_int_equal(both.plain[k].finish_reason, FINISH_LENGTH);
            expect_same(&both.plain[k], &plain.plain[k]);
        }
        for (int k = 0; k < GROUP; k++) {
            expect_same(&both.constrained[k], &constrained.constrained[k]);
            expect_trained(model, &both.constrained[k], 0.8f, NULL);
            expect_masked_run(model, &masked.constrained[k], &both.constrained[k], k);
        }
        assert_int_equal(both.constrained[0].finish_reason, FINISH_STOP);
        assert_int_equal(both.constrained[0].n_tokens, 3);
        assert_int_equal(both.constrained[1].finish_reason, FINISH_FAILED);
        assert_int_equal(both.constrained[1].n_tokens, 1);
        assert_int_equal(both.constrained[2].finish_reason, FINISH_STOP);
        assert_int_equal(both.constrained[2].n_tokens, 4);
        outcome_free(&both);
        outcome_free(&plain);
        outcome_free(&constrained);
        outcome_free(&masked);
        model_destroy(model);
        backend_destroy(backend);
    }
}

/* A constraint without one of its functions is refused. */
static void test_refused(void **state)
{
    (void)state;
    struct backend *backend = backend_here(test_options.cuda ? "cuda" : "portable", 1);
    struct model *model = NULL;
    struct engine *engine = NULL;
    struct constraint lacking = {.allowed = digits_allowed, .accept = digits_accept};
    const struct engine_config config = {.max_sequences = 1, .n_pages = 4, .prefill_tokens = 4, .max_context = 32};
    cohort_error error = {0};
    int64_t id = 0;
    OK(model_load(&model, backend, tiny_folder, DTYPE_F32, 0, err));
    OK(engine_create(&engine, model, NULL, &config, err));
    assert_int_equal(
        engine_submit(
            engine,
            &(struct engine_request){.prompt = prompt, .n_prompt = 2, .n = 1, .max_tokens = 2, .constraints = &lacking},
            &id, &error),
        COHORT_ERR_ARGUMENT);
    engine_destroy(engine);
    model_destroy(model);
    backend_destroy(backend);
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_draws), cmocka_unit_test(test_engine),
                                       cmocka_unit_test(test_strange_tokens), cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, tiny_folder_setup, tiny_folder_teardown);
}

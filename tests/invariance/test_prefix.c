/* Pages that stay known (rollout/prefix.h): a request that begins as an earlier one did, or goes on where one ended, gets
 * the same bits as without them and computes only what is new; pages that others want are given up, the oldest first;
 * nothing outlives a change of the weights.
 *
 * --bench: the time to the first token of a second request that shares 4,096 tokens, beside the first one's. */
#include "support/engine_test.h"

#include "base/clock.h"
#include "base/rng.h"
#include "rollout/pages.h"
#include "train/grpo.h"

enum { CHUNK = 64, MOST_PROMPT = 400, MOST_TOKENS = 130 };

static const struct engine_config config = {
    .max_sequences = 4, .n_pages = 24, .prefill_tokens = 150, .max_context = MOST_PROMPT + MOST_TOKENS};

static void fill(int32_t *ids, int32_t n, int32_t salt, int32_t vocab)
{
    for (int32_t i = 0; i < n; i++)
        ids[i] = (i * 31 + salt * 17 + i / 7) % vocab;
}

static int64_t submit(struct engine *engine, const int32_t *prompt, int32_t n_prompt, int32_t max_tokens, int32_t n)
{
    const struct engine_request ask = {.prompt = prompt,
                                       .n_prompt = n_prompt,
                                       .n = n,
                                       .sampling = {.temperature = 0.9f},
                                       .stream = 5,
                                       .max_tokens = max_tokens};
    int64_t id = 0;
    OK(engine_submit(engine, &ask, &id, err));
    return id;
}

/* Runs all that was submitted; the completions in the order of their requests and indices. */
static int32_t run(struct engine *engine, int64_t first, int32_t n, struct completion *out)
{
    struct completion c;
    int32_t done = 0;
    for (bool busy = true; busy;) {
        OK(engine_step(engine, &busy, err));
        for (; engine_poll(engine, &c); done++)
            out[(c.request - first) * n + c.index] = c;
    }
    return done;
}

static void expect_same(const struct completion *a, const struct completion *b)
{
    assert_int_equal(a->n_tokens, b->n_tokens);
    assert_memory_equal(a->tokens, b->tokens, (size_t)a->n_tokens * sizeof *a->tokens);
    assert_memory_equal(a->logp, b->logp, (size_t)a->n_tokens * sizeof *a->logp);
    assert_memory_equal(a->entropy, b->entropy, (size_t)a->n_tokens * sizeof *a->entropy);
}

/* A request, the same again, one with another end, a group, and one that goes on behind the first one's answer: each with
 * known pages and in an engine that knows none. */
static void test_same_bits(void **state)
{
    (void)state;
    struct completion list[2][5][3] = {0};
    int64_t known[2] = {0}, computed[2] = {0};
    int32_t prompt[MOST_PROMPT];
    for (int with = 0; with < 2; with++) {
        struct engine_bench b;
        engine_bench_open(&b, test_options.cuda ? "cuda" : "auto", &config);
        const int32_t vocab = b.model->config.vocab_size;
        if (with == 1)
            OK(engine_keep_prefixes(b.engine, err));
        fill(prompt, MOST_PROMPT, 1, vocab);
        run(b.engine, submit(b.engine, prompt, 200, 90, 1), 1, list[with][0]);
        run(b.engine, submit(b.engine, prompt, 200, 90, 1), 1, list[with][1]);
        fill(prompt + 130, MOST_PROMPT - 130, 2, vocab);
        run(b.engine, submit(b.engine, prompt, 192, 20, 1), 1, list[with][2]);
        run(b.engine, submit(b.engine, prompt, 193, 20, 3), 3, list[with][3]);
        fill(prompt, MOST_PROMPT, 1, vocab);
        memcpy(prompt + 200, list[with][0][0].tokens, 90 * sizeof *prompt);
        run(b.engine, submit(b.engine, prompt, 310, 20, 1), 1, list[with][4]);
        const struct engine_stats stats = engine_stats(b.engine);
        known[with] = stats.known_tokens;
        computed[with] = stats.prompt_tokens;
        engine_bench_close(&b);
    }
    for (int i = 0; i < 5; i++)
        for (int k = 0; k < 3 && list[0][i][k].tokens != NULL; k++)
            expect_same(&list[0][i][k], &list[1][i][k]);
    /* 192 of the second prompt, 128 and 192 of the next two, and of the last the prompt and the answer: 289 positions. */
    assert_int_equal(known[0], 0);
    assert_int_equal(known[1], 192 + 128 + 192 + 256);
    assert_int_equal(computed[0] - computed[1], known[1]);
    for (int i = 0; i < 2 * 5 * 3; i++)
        completion_free(&list[0][0][0] + i);
}

/* Of requests that come at once those behind the first find what it computed. */
static void test_at_once(void **state)
{
    (void)state;
    struct engine_bench b;
    struct completion list[3] = {0};
    int32_t prompt[MOST_PROMPT];
    engine_bench_open(&b, test_options.cuda ? "cuda" : "auto", &config);
    OK(engine_keep_prefixes(b.engine, err));
    fill(prompt, MOST_PROMPT, 1, b.model->config.vocab_size);
    const int64_t first = submit(b.engine, prompt, 300, 10, 1);
    submit(b.engine, prompt, 300, 10, 1);
    submit(b.engine, prompt, 300, 10, 1);
    assert_int_equal(run(b.engine, first, 1, list), 3);
    expect_same(&list[0], &list[1]);
    expect_same(&list[0], &list[2]);
    assert_true(engine_stats(b.engine).known_tokens >= 256);
    for (int i = 0; i < 3; i++)
        completion_free(&list[i]);
    engine_bench_close(&b);
}

/* After the weights changed a prompt is computed anew, and gets what a fresh engine gives. */
static void test_changed_weights(void **state)
{
    (void)state;
    struct engine_bench b;
    struct completion list[3] = {0};
    int32_t prompt[MOST_PROMPT];
    engine_bench_open(&b, test_options.cuda ? "cuda" : "auto", &config);
    OK(engine_keep_prefixes(b.engine, err));
    fill(prompt, MOST_PROMPT, 1, b.model->config.vocab_size);
    run(b.engine, submit(b.engine, prompt, 200, 10, 1), 1, &list[0]);
    struct param_set *set = b.model->trained;
    const struct param *param = &set->table.params[1];
    float values[8];
    OK(param_set_fetch(set, param, 0, 8, values, err));
    for (int i = 0; i < 8; i++)
        values[i] += 0.5f;
    OK(param_set_store(set, param, 0, 8, values, err));
    model_refresh(b.model);
    run(b.engine, submit(b.engine, prompt, 200, 10, 1), 1, &list[1]);
    assert_int_equal(engine_stats(b.engine).known_tokens, 0);
    struct engine *fresh = NULL;
    struct arena arena;
    test_engine_open(&fresh, &arena, b.model, &config);
    run(fresh, submit(fresh, prompt, 200, 10, 1), 1, &list[2]);
    expect_same(&list[1], &list[2]);
    assert_memory_not_equal(list[0].logp, list[1].logp, 10 * sizeof(float));
    test_engine_close(fresh, &arena, b.model);
    for (int i = 0; i < 3; i++)
        completion_free(&list[i]);
    engine_bench_close(&b);
}

/* Completions are set back where pages run out, and find pages of others that said the same and are gone: such a page stands in
 * place of their prompt's last one, so that they take one more than without it. Where it is not there they wait (an assert fell). A
 * few prompts, begun again and again with completions of any length, in pools that hold two or three of them. */
static void test_set_back(void **state)
{
    (void)state;
    enum { LONG = 150, CASES = 40, REQUESTS = 8, LEAST_PAGES = 4, SIZES = 4 };
    int64_t set_back = 0, known = 0;
    uint64_t n_drawn = 0;
    struct engine_bench b;
    engine_bench_open(&b, "auto", &config);
    for (int32_t i = 0; i < CASES; i++) {
        int32_t prompt[CHUNK];
        struct completion list[REQUESTS] = {0};
        struct engine *engine = NULL;
        struct arena arena;
        test_engine_open(&engine, &arena, b.model,
                         &(struct engine_config){.max_sequences = 4,
                                                 .n_pages = LEAST_PAGES + i % SIZES,
                                                 .prefill_tokens = CHUNK,
                                                 .max_context = CHUNK + LONG});
        OK(engine_keep_prefixes(engine, err));
        for (int32_t k = 0; k < REQUESTS; k++) {
            const struct rng_block drawn = rng_philox(1, RNG_TEST, 0, n_drawn++);
            const uint32_t *word = drawn.word;
            fill(prompt, CHUNK, (int32_t)(word[0] % 2), b.model->config.vocab_size);
            submit(engine, prompt, 20 + 7 * (int32_t)(word[0] % 2), 20 + (int32_t)(word[1] % (LONG - 20)), 1);
        }
        assert_int_equal(run(engine, 0, 1, list), REQUESTS);
        set_back += engine_stats(engine).set_back;
        known += engine_stats(engine).known_tokens;
        for (int32_t k = 0; k < REQUESTS; k++)
            completion_free(&list[k]);
        test_engine_close(engine, &arena, b.model);
    }
    engine_bench_close(&b);
    print_message("%lld times set back, %lld tokens known\n", (long long)set_back, (long long)known);
    assert_true(set_back > 0 && known > 0);
}

/* Rollouts, with what others write into the engine's block between them: nothing that was known before is taken for true, of prompts
 * that ended nor of those that were given up; within a rollout prompts that begin alike are computed once. The last prompt is what
 * the one that is given up came to. */
static void test_rollouts(void **state)
{
    (void)state;
    enum { PROMPTS = 3, SHORT = 20 };
    struct engine_bench b;
    struct completion list[3][PROMPTS] = {0}, whole = {0};
    struct grpo_prompt prompts[PROMPTS] = {0};
    int32_t ids[PROMPTS][200];
    bool busy = true;
    engine_bench_open(&b, test_options.cuda ? "cuda" : "auto", &config);
    OK(engine_keep_prefixes(b.engine, err));
    for (int32_t i = 0; i < PROMPTS; i++) {
        fill(ids[i], 200, 1, b.model->config.vocab_size);
        fill(ids[i] + (i < 2 ? 150 : 0), 50, 2 + i, b.model->config.vocab_size);
        prompts[i] = (struct grpo_prompt){.tokens = ids[i], .n_tokens = 200, .id = (uint64_t)i};
    }
    run(b.engine, submit(b.engine, ids[2], SHORT, 90, 1), 1, &whole);
    memcpy(ids[2] + SHORT, whole.tokens, 90 * sizeof *ids[2]);
    completion_free(&whole);
    const struct engine_request pattern = {.sampling = {.temperature = 0.9f}, .max_tokens = 40};
    for (int32_t i = 0; i < 3; i++) {
        const int64_t before = engine_stats(b.engine).known_tokens;
        OK(grpo_rollout(b.engine, NULL, prompts, PROMPTS, 1, &pattern, 1, list[i], NULL, NULL, NULL, NULL, NULL, err));
        assert_int_equal(engine_stats(b.engine).known_tokens - before, 128);
        const int64_t given_up = submit(b.engine, ids[2], SHORT, 90, 1);
        for (int32_t k = 0; k < 60 && i < 2; k++)
            OK(engine_step(b.engine, &busy, err));
        engine_cancel(b.engine, given_up);
        const size_t bytes = b.arena.used / sizeof(float);
        float *junk = NULL;
        OK(mem_alloc(&junk, bytes, sizeof *junk, "junk", err));
        for (size_t k = 0; k < bytes; k++)
            junk[k] = 0.25f;
        b.backend->ops->upload(b.backend, b.arena.base, junk, bytes * sizeof *junk);
        mem_free(junk);
    }
    for (int32_t i = 1; i < 3; i++)
        for (int32_t k = 0; k < PROMPTS; k++)
            expect_same(&list[0][k], &list[i][k]);
    for (int32_t i = 0; i < 3 * PROMPTS; i++)
        completion_free(&list[0][0] + i);
    while (busy)
        OK(engine_step(b.engine, &busy, err));
    struct completion c;
    while (engine_poll(b.engine, &c))
        completion_free(&c);
    engine_bench_close(&b);
}

/* The pool alone. */
static void test_known_pages(void **state)
{
    (void)state;
    struct page_pool pool;
    int32_t tokens[3][CHUNK], page[4];
    int64_t name = 0;
    OK(page_pool_create(&pool, 4, err));
    assert_int_equal(page_pool_find(&pool, -1, tokens[0], &name), -1); /* nothing is kept */
    OK(page_pool_keep(&pool, err));
    for (int i = 0; i < 3; i++) {
        fill(tokens[i], CHUNK, i, 50);
        page[i] = page_pool_take(&pool);
    }
    const int64_t a = page_pool_know(&pool, page[0], -1, tokens[0]), c = page_pool_know(&pool, page[1], a, tokens[1]);
    assert_true(a > 0 && c > a);
    assert_int_equal(page_pool_know(&pool, page[2], -1, tokens[0]), a); /* the same: the first one stays */
    assert_int_equal(page_pool_find(&pool, -2, tokens[0], &name), -1);
    assert_int_equal(page_pool_find(&pool, a, tokens[2], &name), -1);
    assert_int_equal(page_pool_find(&pool, a, tokens[1], &name), page[1]);
    assert_int_equal(name, c);
    for (int i = 2; i >= 0; i--)
        page_pool_release(&pool, page[i]);
    assert_int_equal(pool.n_free, 3);
    page_pool_release(&pool, page[1]);
    assert_int_equal(pool.n_free, 4);
    /* First those that nobody knows, then the one that was let go first. */
    for (int i = 0; i < 3; i++)
        page[3] = page_pool_take(&pool);
    assert_int_equal(page[3], page[0]);
    assert_int_equal(page_pool_find(&pool, -1, tokens[0], &name), -1);
    assert_int_equal(page_pool_find(&pool, a, tokens[1], &name), page[1]);
    assert_int_equal(pool.n_free, 0);
    page_pool_release(&pool, page[1]);
    page_pool_forget(&pool);
    assert_int_equal(page_pool_find(&pool, a, tokens[1], &name), -1);
    assert_int_equal(page_pool_take(&pool), page[1]);
    page_pool_free(&pool);
}

static void bench(void)
{
    enum { SHARED = 4096, OWN = 20, CONTEXT = 4300 };
    static int32_t prompt[CONTEXT];
    struct backend *backend = backend_here(test_options.cuda ? "cuda" : "auto", 2);
    struct model *model = NULL;
    struct engine *engine = NULL;
    struct arena arena;
    char folder[] = "/tmp/cohort-prefix-XXXXXX";
    assert_non_null(mkdtemp(folder));
    struct tiny_shape wide = tiny_wide;
    wide.max_positions = CONTEXT;
    OK(tiny_checkpoint_write(folder, &wide, 3, err));
    OK(model_load(&model, backend, folder, DTYPE_F32, 0, err));
    test_engine_open(
        &engine, &arena, model,
        &(struct engine_config){
            .max_sequences = 4, .n_pages = 4 * (CONTEXT / CHUNK + 2), .prefill_tokens = 2048, .max_context = CONTEXT});
    OK(engine_keep_prefixes(engine, err));
    double first[2] = {0};
    for (int i = 0; i < 2; i++) {
        fill(prompt, SHARED, 1, model->config.vocab_size);
        fill(prompt + SHARED, OWN, 2 + i, model->config.vocab_size);
        const double start = clock_seconds();
        submit(engine, prompt, SHARED + OWN, 4, 1);
        bool busy = true;
        while (engine_stats(engine).generated_tokens < 4 * i + 1)
            OK(engine_step(engine, &busy, err));
        first[i] = clock_seconds() - start;
        struct completion c;
        while (busy)
            OK(engine_step(engine, &busy, err));
        while (engine_poll(engine, &c))
            completion_free(&c);
    }
    print_message("first token behind %d + %d tokens: %.2f ms, then %.2f ms (%.1f %%)\n", (int)SHARED, (int)OWN,
                  first[0] * 1e3, first[1] * 1e3, first[1] / first[0] * 100.0);
    test_engine_close(engine, &arena, model);
    model_destroy(model);
    backend_destroy(backend);
    OK(file_remove_all(folder, err));
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    if (test_options.bench) {
        bench();
        return 0;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_set_back),    cmocka_unit_test(test_rollouts),
                                       cmocka_unit_test(test_known_pages), cmocka_unit_test(test_same_bits),
                                       cmocka_unit_test(test_at_once),     cmocka_unit_test(test_changed_weights)};
    return cmocka_run_group_tests(tests, tiny_folder_setup, tiny_folder_teardown);
}

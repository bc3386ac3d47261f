/* The page pool and the engine's life cycle: whatever is asked for and cancelled when, nothing waits
 * for ever, every completion comes exactly once, and after the last
 * one all pages are free. */
#include "support/engine_test.h"

#include "base/rng.h"
#include "rollout/pages.h"

enum { MAX_PROMPT = 150, MAX_TOKENS = 90, MAX_CONTEXT = 224, N_REQUESTS = 200, MAX_GROUP = 5, WIDEST = 40 };

static uint32_t draw(uint64_t stream, uint64_t counter, uint32_t below)
{
    return rng_philox(99, RNG_TEST, stream, counter).word[0] % below;
}

struct asked {
    int64_t id;
    int32_t n, max_tokens, n_prompt;
    int64_t cancel_at; /* step; -1: never */
    int32_t seen[WIDEST], n_seen;
    bool cancelled;
};

static void submit(struct engine_bench *b, struct asked *a, uint64_t seed, uint64_t i)
{
    static const int32_t eos[] = {5};
    const uint64_t stream = seed * 1000 + i;
    int32_t prompt[MAX_PROMPT];
    a->n_prompt = 1 + (int32_t)draw(stream, 0, MAX_PROMPT);
    a->n = 1 + (int32_t)draw(stream, 1, MAX_GROUP);
    a->max_tokens = 1 + (int32_t)draw(stream, 2, draw(stream, 3, 4) == 0 ? MAX_TOKENS : 8);
    for (int32_t k = 0; k < a->n_prompt; k++)
        prompt[k] = (int32_t)draw(stream, 100 + (uint64_t)k, (uint32_t)tiny_odd.vocab_size);
    const struct engine_request ask = {.prompt = prompt,
                                       .n_prompt = a->n_prompt,
                                       .n = a->n,
                                       .sampling = {.temperature = 1.0f},
                                       .stream = stream,
                                       .max_tokens = a->max_tokens,
                                       .eos_ids = eos,
                                       .n_eos = 1};
    OK(engine_submit(b->engine, &ask, &a->id, err));
    if (a->max_tokens > MAX_CONTEXT - a->n_prompt)
        a->max_tokens = MAX_CONTEXT - a->n_prompt; /* as the engine clips */
}

static void take(struct asked *asked, int32_t n, struct completion *c)
{
    int32_t i = 0;
    while (i < n && asked[i].id != c->request)
        i++;
    assert_true(i < n);
    struct asked *a = &asked[i];
    assert_in_range(c->index, 0, a->n - 1);
    assert_int_equal(a->seen[c->index], 0);
    a->seen[c->index] = 1;
    a->n_seen++;
    assert_int_equal(c->n_prompt, a->n_prompt);
    if (c->finish_reason == FINISH_CANCELLED)
        assert_true(a->cancelled);
    else if (c->finish_reason == FINISH_LENGTH)
        assert_int_equal(c->n_tokens, a->max_tokens);
    else
        assert_int_equal(c->finish_reason, FINISH_EOS);
    completion_free(c);
}

/* N_REQUESTS requests arriving over time, about a third cancelled at a random moment. */
static void exercise(uint64_t seed, const struct engine_config *config)
{
    struct engine_bench b;
    struct asked *asked = calloc(N_REQUESTS, sizeof *asked);
    int32_t n = 0, complete = 0, wanted = 0;
    assert_non_null(asked);
    engine_bench_open(&b, test_options.cuda ? "cuda" : "auto", config);
    bool busy = true;
    for (int64_t step = 0; busy || n < N_REQUESTS; step++) {
        assert_true(step < 200000); /* else it hangs */
        for (uint32_t arrive = draw(seed, 7000 + (uint64_t)step, 4); arrive > 0 && n < N_REQUESTS; arrive--, n++) {
            submit(&b, &asked[n], seed, (uint64_t)n);
            wanted += asked[n].n;
            asked[n].cancel_at =
                draw(seed, 90000 + (uint64_t)n, 3) == 0 ? step + draw(seed, 95000 + (uint64_t)n, 60) : -1;
        }
        for (int32_t i = 0; i < n; i++)
            if (asked[i].cancel_at == step) {
                engine_cancel(b.engine, asked[i].id); /* of some that are finished too: no error */
                asked[i].cancelled = true;
            }
        OK(engine_step(b.engine, &busy, err));
        const struct engine_stats stats = engine_stats(b.engine);
        assert_true(stats.pages_used >= 0 && stats.pages_used <= config->n_pages);
        assert_in_range(stats.running, 0, config->max_sequences);
        struct completion c;
        while (engine_poll(b.engine, &c)) {
            take(asked, n, &c);
            complete++;
        }
    }
    const struct engine_stats stats = engine_stats(b.engine);
    assert_int_equal(complete, wanted);
    assert_int_equal(stats.pages_used, 0);
    assert_int_equal(stats.running, 0);
    /* A request that needs the whole pool can still run. */
    int32_t prompt[MAX_CONTEXT] = {0};
    struct engine_request whole = {.prompt = prompt, .n_prompt = MAX_PROMPT, .n = 1, .sampling = {.temperature = 1.0f}};
    whole.max_tokens = MAX_CONTEXT - MAX_PROMPT;
    int64_t id = 0;
    OK(engine_submit(b.engine, &whole, &id, err));
    for (busy = true; busy;)
        OK(engine_step(b.engine, &busy, err));
    struct completion c;
    assert_true(engine_poll(b.engine, &c));
    assert_int_equal(c.n_tokens, whole.max_tokens);
    completion_free(&c);
    assert_int_equal(engine_stats(b.engine).pages_used, 0);
    engine_bench_close(&b);
    free(asked);
}

static int64_t least_pages(void) { return engine_pages(MAX_PROMPT, MAX_CONTEXT - MAX_PROMPT, 1); }

static void test_plenty(void **state)
{
    (void)state;
    exercise(1, &(struct engine_config){
                    .max_sequences = 16, .n_pages = 200, .prefill_tokens = 128, .max_context = MAX_CONTEXT});
}

static void test_tiny_pool(void **state)
{
    (void)state;
    for (uint64_t seed = 2; seed < 5; seed++)
        exercise(seed, &(struct engine_config){.max_sequences = 4,
                                               .n_pages = least_pages() + (int64_t)seed - 2,
                                               .prefill_tokens = 64,
                                               .prefill_chunk = 33,
                                               .max_context = MAX_CONTEXT});
}

static void test_one_slot(void **state)
{
    (void)state;
    exercise(5,
             &(struct engine_config){
                 .max_sequences = 1, .n_pages = least_pages() + 3, .prefill_tokens = 200, .max_context = MAX_CONTEXT});
}

/* A group wider than slots and pool gets through, in turns. */
static void test_wide_group(void **state)
{
    (void)state;
    struct engine_bench b;
    struct asked a = {.n = WIDEST, .n_prompt = 100, .max_tokens = 70, .cancel_at = -1};
    int32_t prompt[100] = {1, 2, 3};
    engine_bench_open(
        &b, test_options.cuda ? "cuda" : "auto",
        &(struct engine_config){
            .max_sequences = 3, .n_pages = engine_pages(100, 70, 2), .prefill_tokens = 50, .max_context = 200});
    const struct engine_request ask = {
        .prompt = prompt, .n_prompt = 100, .n = WIDEST, .sampling = {.temperature = 1.0f}, .max_tokens = 70};
    OK(engine_submit(b.engine, &ask, &a.id, err));
    for (bool busy = true; busy;) {
        struct completion c;
        OK(engine_step(b.engine, &busy, err));
        while (engine_poll(b.engine, &c))
            take(&a, 1, &c);
    }
    assert_int_equal(a.n_seen, WIDEST);
    assert_int_equal(engine_stats(b.engine).pages_used, 0);
    assert_int_equal(engine_stats(b.engine).pages_peak, b.config.n_pages);
    engine_bench_close(&b);
}

/* What can never run is refused at once. */
static void test_too_large(void **state)
{
    (void)state;
    struct engine_bench b;
    int32_t prompt[150] = {0};
    int64_t id = 0;
    cohort_error error = {0};
    engine_bench_open(
        &b, test_options.cuda ? "cuda" : "auto",
        &(struct engine_config){.max_sequences = 1, .n_pages = 2, .prefill_tokens = 8, .max_context = 200});
    struct engine_request ask = {
        .prompt = prompt, .n_prompt = 150, .n = 1, .sampling = {.temperature = 1.0f}, .max_tokens = 2};
    assert_int_equal(engine_submit(b.engine, &ask, &id, &error), COHORT_ERR_MEMORY);
    ask.n_prompt = 200;
    assert_int_equal(engine_submit(b.engine, &ask, &id, &error), COHORT_ERR_ARGUMENT);
    bool busy = true;
    OK(engine_step(b.engine, &busy, err));
    assert_false(busy);
    engine_bench_close(&b);
}

/* The pool alone: a page is free when the last of its holders lets it go. */
static void test_holders(void **state)
{
    (void)state;
    struct page_pool pool;
    struct page_list list;
    OK(page_pool_create(&pool, 4, err));
    OK(page_list_create(&list, 3, err));
    const int32_t a = page_pool_take(&pool);
    page_list_grow(&list, &pool, 2);
    page_list_grow(&list, &pool, 1);
    assert_int_equal(list.count, 2);
    assert_true(list.pages[0] != a && list.pages[1] != a && list.pages[0] != list.pages[1]);
    assert_int_equal(page_list_row(&list, 1, 130), list.pages[1] * 64 + 2);
    page_pool_hold(&pool, list.pages[0]);
    const int32_t shared = list.pages[0];
    assert_int_equal(pool.n_free, 1);
    page_list_release(&list, &pool);
    assert_int_equal(pool.n_free, 2);
    page_pool_release(&pool, shared);
    page_pool_release(&pool, a);
    assert_int_equal(pool.n_free, 4);
    assert_int_equal(pool.peak, 3);
    page_list_free(&list);
    page_pool_free(&pool);
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_plenty),    cmocka_unit_test(test_tiny_pool),
                                       cmocka_unit_test(test_one_slot),  cmocka_unit_test(test_wide_group),
                                       cmocka_unit_test(test_too_large), cmocka_unit_test(test_holders)};
    return cmocka_run_group_tests(tests, tiny_folder_setup, tiny_folder_teardown);
}

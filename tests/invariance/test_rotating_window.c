/* A rotating window of keys and values (kv_pages of struct engine_config): what is within it is the same bits as without one; a
 * prompt and a completion of any length are computed in as many pages as the window and a step have; a token that is left
 * out is not seen, and the first page is. That results are the same alone and in any company is of test_engine_mix.c. */
#include "support/engine_test.h"

enum { WINDOW = 3, LONG = 700, TOKENS = 120 };

/* An emulated device gets less to do. */
static int32_t length = LONG, n_tokens = TOKENS;

static struct engine_stats generate(const struct engine_config *config, const int32_t *prompt, int32_t n_prompt,
                                    struct completion *out)
{
    struct engine_bench b;
    int64_t id = 0;
    engine_bench_open(&b, test_options.cuda ? "cuda" : "auto", config);
    OK(engine_submit(b.engine,
                     &(struct engine_request){.prompt = prompt,
                                              .n_prompt = n_prompt,
                                              .n = 1,
                                              .sampling = {.temperature = 1.0f},
                                              .stream = 3,
                                              .max_tokens = n_tokens},
                     &id, err));
    for (bool busy = true; busy;)
        OK(engine_step(b.engine, &busy, err));
    assert_true(engine_poll(b.engine, out));
    const struct engine_stats stats = engine_stats(b.engine);
    engine_bench_close(&b);
    return stats;
}

static const struct engine_config whole = {
    .max_sequences = 2, .n_pages = 40, .prefill_tokens = 100, .max_context = LONG + TOKENS};

static void fill(int32_t *prompt, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        prompt[i] = (i * 31 + i / 7) % 100;
}

/* How many tokens of two completions have the same log-probs, from the first on. */
static int32_t alike(const struct completion *a, const struct completion *b)
{
    int32_t n = 0;
    while (n < n_tokens && a->tokens[n] == b->tokens[n] && f32_bits(a->logp[n]) == f32_bits(b->logp[n]))
        n++;
    return n;
}

/* Up to the end of the window's pages nothing is left out; the first token behind it sees less. */
static void test_within(void **state)
{
    (void)state;
    struct engine_config narrow = whole;
    struct completion a, b;
    int32_t prompt[LONG];
    fill(prompt, length);
    narrow.kv_pages = WINDOW;
    const int32_t n_prompt = WINDOW * ATTENTION_CHUNK - 50;
    generate(&whole, prompt, n_prompt, &a);
    generate(&narrow, prompt, n_prompt, &b);
    assert_int_equal(alike(&a, &b), 51); /* the token drawn at the window's last position is drawn from all */
    completion_free(&a);
    completion_free(&b);
}

/* The same bits with steps of any size; and few pages. */
static void test_pages(void **state)
{
    (void)state;
    struct completion first = {0}, c;
    int32_t prompt[LONG];
    fill(prompt, length);
    for (int32_t tokens = 30; tokens <= 300; tokens += 90) {
        struct engine_config narrow = whole;
        narrow.kv_pages = WINDOW;
        narrow.prefill_tokens = tokens;
        narrow.n_pages = 2 * engine_pages_at_once(&narrow);
        const struct engine_stats stats = generate(&narrow, prompt, length, &c);
        assert_true(stats.pages_peak <= engine_pages_at_once(&narrow) + WINDOW + 2);
        assert_true(tokens > 100 || stats.pages_peak < (length + n_tokens) / ATTENTION_CHUNK || test_options.cuda);
        if (first.tokens == NULL)
            first = c;
        else
            assert_int_equal(alike(&first, &c), n_tokens);
        if (first.tokens != c.tokens)
            completion_free(&c);
    }
    completion_free(&first);
}

/* Another token of the first page always counts, one that was left out long ago does not: it is heard of through the tokens
 * that saw it, a window's length a layer, and the model has three. */
static void test_what_is_seen(void **state)
{
    (void)state;
    struct engine_config narrow = whole;
    struct completion plain, changed;
    int32_t prompt[LONG];
    narrow.kv_pages = WINDOW;
    fill(prompt, length);
    generate(&narrow, prompt, length, &plain);
    prompt[5] = 101;
    generate(&narrow, prompt, length, &changed);
    assert_int_equal(alike(&plain, &changed), 0);
    completion_free(&changed);
    fill(prompt, length);
    prompt[ATTENTION_CHUNK + 1] = 101;
    generate(&narrow, prompt, length, &changed);
    assert_int_equal(alike(&plain, &changed), n_tokens);
    completion_free(&changed);
    fill(prompt, length);
    prompt[length - ATTENTION_CHUNK] = 101;
    generate(&narrow, prompt, length, &changed);
    assert_true(alike(&plain, &changed) < n_tokens);
    completion_free(&changed);
    completion_free(&plain);
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest few[] = {cmocka_unit_test(test_pages)};
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_pages), cmocka_unit_test(test_within),
                                       cmocka_unit_test(test_what_is_seen)};
    if (test_options.small) {
        length = 270;
        n_tokens = 6;
        return cmocka_run_group_tests(few, tiny_folder_setup, tiny_folder_teardown);
    }
    return cmocka_run_group_tests(tests, tiny_folder_setup, tiny_folder_teardown);
}

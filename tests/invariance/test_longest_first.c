/* The prompts of a rollout are begun with the one that is expected to take longest, and what is drawn does not depend on
 * it. */
#include "support/engine_test.h"

#include "train/grpo.h"

enum { PROMPTS = 6, EACH = 2, MAX_TOKENS = 9 };

/* Prompts in the order in which their first token was drawn. */
struct seen {
    int64_t first; /* request */
    int32_t order[PROMPTS];
    int32_t n;
};

static void note(void *context, const struct engine_event *event)
{
    struct seen *seen = context;
    if (seen->first < 0)
        seen->first = event->request;
    const int32_t turn = (int32_t)(event->request - seen->first);
    for (int32_t i = 0; i < seen->n; i++)
        if (seen->order[i] == turn)
            return;
    assert_true(seen->n < PROMPTS);
    seen->order[seen->n++] = turn;
}

static void roll(struct engine_bench *b, const int32_t *expected, struct completion *completions, struct seen *seen)
{
    int32_t tokens[PROMPTS];
    struct grpo_prompt prompts[PROMPTS];
    const struct engine_request pattern = {.sampling = {.temperature = 1.0f}, .seed = 5, .max_tokens = MAX_TOKENS};
    *seen = (struct seen){.first = -1};
    for (int32_t p = 0; p < PROMPTS; p++) {
        tokens[p] = 3 + p;
        prompts[p] = (struct grpo_prompt){
            .tokens = &tokens[p], .n_tokens = 1, .expected = expected == NULL ? 0 : expected[p], .id = (uint64_t)p};
    }
    engine_set_callback(b->engine, note, seen);
    OK(grpo_rollout(b->engine, NULL, prompts, PROMPTS, EACH, &pattern, 7, completions, NULL, NULL, NULL, NULL, NULL,
                    err));
}

static void test_order(void **state)
{
    (void)state;
    static const int32_t expected[PROMPTS] = {4, 9, INT32_MAX, 4, 1, 9};
    const struct engine_config config = {.max_sequences = EACH, .n_pages = 64, .prefill_tokens = 16, .max_context = 64};
    struct engine_bench b;
    struct completion plain[PROMPTS * EACH], sorted[PROMPTS * EACH];
    struct seen seen;
    engine_bench_open(&b, "portable", &config);
    roll(&b, NULL, plain, &seen);
    for (int32_t p = 0; p < PROMPTS; p++)
        assert_int_equal(seen.order[p], p);
    roll(&b, expected, sorted, &seen);
    assert_int_equal(seen.n, PROMPTS);
    /* Requests are numbered as they are submitted, and are let in by their number. */
    static const int32_t want[PROMPTS] = {2, 1, 5, 0, 3, 4};
    for (int32_t p = 0; p < PROMPTS; p++)
        assert_int_equal(sorted[want[p] * EACH].request, seen.first + p);
    for (int32_t i = 0; i < PROMPTS * EACH; i++) {
        assert_int_equal(sorted[i].index, i % EACH);
        assert_int_equal(plain[i].n_tokens, sorted[i].n_tokens);
        assert_memory_equal(plain[i].tokens, sorted[i].tokens, (size_t)plain[i].n_tokens * sizeof(int32_t));
        assert_memory_equal(plain[i].logp, sorted[i].logp, (size_t)plain[i].n_tokens * sizeof(float));
        completion_free(&plain[i]);
        completion_free(&sorted[i]);
    }
    engine_bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_order)};
    return cmocka_run_group_tests(tests, tiny_folder_setup, tiny_folder_teardown);
}

/* What a request may ask for beside tokens: the most likely ones, log-probs of its prompt, ends of its own, logits changed by
 * the host; and what holds between callers: any thread submits and cancels, they take turns, and a queue has an end. */
#include "support/engine_test.h"

#include "rollout/scheduler.h"

#include <math.h>
#include <pthread.h>

enum { PROMPT = 100, TOKENS = 40, TOP = 5 };

static const struct engine_config config = {
    .max_sequences = 4, .n_pages = 40, .prefill_tokens = 70, .max_context = 2 * (PROMPT + TOKENS)};

static struct engine_request asking(const int32_t *prompt, int32_t n)
{
    return (struct engine_request){
        .prompt = prompt, .n_prompt = n, .n = 1, .sampling = {.temperature = 0.7f}, .stream = 3, .max_tokens = TOKENS};
}

static void fill(int32_t *ids, int32_t n, int32_t vocab)
{
    for (int32_t i = 0; i < n; i++)
        ids[i] = (i * 37 + i / 5) % vocab;
}

/* One completion of a request alone in the engine. */
static struct completion run_one(struct engine *engine, const struct engine_request *ask)
{
    struct completion c;
    int64_t id = 0;
    OK(engine_submit(engine, ask, &id, err));
    for (bool busy = true; busy;)
        OK(engine_step(engine, &busy, err));
    assert_true(engine_poll(engine, &c));
    assert_int_equal(c.request, id);
    return c;
}

/* The log-prob of a token is the same bits as it is drawn, among the most likely ones, and as a prompt's. */
static void test_log_probs(void **state)
{
    (void)state;
    struct engine_bench b;
    int32_t prompt[PROMPT + TOKENS], found = 0;
    engine_bench_open(&b, test_options.cuda ? "cuda" : "auto", &config);
    fill(prompt, PROMPT, b.model->config.vocab_size);
    struct engine_request ask = asking(prompt, PROMPT);
    struct completion plain = run_one(b.engine, &ask);
    ask.n_top = TOP;
    ask.prompt_logp = true;
    struct completion c = run_one(b.engine, &ask);
    assert_memory_equal(plain.tokens, c.tokens, TOKENS * sizeof *c.tokens);
    assert_memory_equal(plain.logp, c.logp, TOKENS * sizeof *c.logp);
    assert_true(plain.top_ids == NULL && plain.prompt_logp == NULL && c.n_top == TOP);
    for (int32_t t = 0; t < TOKENS; t++)
        for (int32_t k = 0; k < TOP; k++) {
            const int32_t at = t * TOP + k;
            assert_true(k == 0 || c.top_logp[at] <= c.top_logp[at - 1]);
            if (c.top_ids[at] != c.tokens[t])
                continue;
            found++;
            assert_memory_equal(&c.top_logp[at], &c.logp[t], sizeof(float));
        }
    assert_true(found > TOKENS / 4);
    memcpy(prompt + PROMPT, c.tokens, TOKENS * sizeof *prompt);
    ask = asking(prompt, PROMPT + TOKENS);
    ask.prompt_logp = true;
    ask.max_tokens = 1;
    struct completion scored = run_one(b.engine, &ask);
    assert_true(scored.prompt_logp[0] == 0.0f && scored.prompt_logp[1] < 0.0f);
    assert_memory_equal(scored.prompt_logp, c.prompt_logp, PROMPT * sizeof(float));
    assert_memory_equal(scored.prompt_logp + PROMPT, c.logp, TOKENS * sizeof(float));
    completion_free(&plain);
    completion_free(&c);
    completion_free(&scored);
    engine_bench_close(&b);
}

/* Log-probs of another temperature than that of the draws, which stay what they were. */
static void test_log_prob_temperature(void **state)
{
    (void)state;
    struct engine_bench b;
    int32_t prompt[PROMPT + TOKENS];
    engine_bench_open(&b, test_options.cuda ? "cuda" : "auto", &config);
    fill(prompt, PROMPT, b.model->config.vocab_size);
    struct engine_request ask = asking(prompt, PROMPT);
    struct completion plain = run_one(b.engine, &ask);
    ask.logp_temperature = 1.0f;
    ask.n_top = TOP;
    ask.prompt_logp = true;
    struct completion c = run_one(b.engine, &ask);
    assert_memory_equal(plain.tokens, c.tokens, TOKENS * sizeof *c.tokens);
    assert_memory_not_equal(plain.logp, c.logp, sizeof *c.logp);
    for (int32_t at = 0; at < TOKENS * TOP; at++)
        if (c.top_ids[at] == c.tokens[at / TOP])
            assert_memory_equal(&c.top_logp[at], &c.logp[at / TOP], sizeof(float));
    memcpy(prompt + PROMPT, c.tokens, TOKENS * sizeof *prompt);
    ask = asking(prompt, PROMPT + TOKENS);
    ask.sampling.temperature = 1.0f;
    ask.prompt_logp = true;
    ask.max_tokens = 1;
    struct completion scored = run_one(b.engine, &ask);
    assert_memory_equal(scored.prompt_logp, c.prompt_logp, PROMPT * sizeof(float));
    assert_memory_equal(scored.prompt_logp + PROMPT, c.logp, TOKENS * sizeof(float));
    cohort_error mistake;
    int64_t id = 0;
    ask.logp_temperature = -1.0f;
    assert_int_equal(engine_submit(b.engine, &ask, &id, &mistake), COHORT_ERR_ARGUMENT);
    completion_free(&plain);
    completion_free(&c);
    completion_free(&scored);
    engine_bench_close(&b);
}

static void test_ends(void **state)
{
    (void)state;
    struct engine_bench b;
    int32_t prompt[PROMPT];
    engine_bench_open(&b, test_options.cuda ? "cuda" : "auto", &config);
    fill(prompt, PROMPT, b.model->config.vocab_size);
    struct engine_request ask = asking(prompt, PROMPT);
    struct completion plain = run_one(b.engine, &ask);
    ask.stop_ids = &plain.tokens[6];
    ask.n_stop_ids = 1;
    struct completion c = run_one(b.engine, &ask);
    int32_t first = 0;
    while (plain.tokens[first] != plain.tokens[6])
        first++;
    assert_int_equal(c.finish_reason, FINISH_STOP);
    assert_int_equal(c.n_tokens, first + 1);
    assert_memory_equal(c.tokens, plain.tokens, (size_t)c.n_tokens * sizeof *c.tokens);
    completion_free(&c);
    ask.min_tokens = 20;
    ask.eos_ids = &plain.tokens[2];
    ask.n_eos = 1;
    c = run_one(b.engine, &ask);
    assert_true(c.n_tokens >= 20);
    for (int32_t t = 0; t < 19; t++)
        assert_true(c.tokens[t] != plain.tokens[6] && c.tokens[t] != plain.tokens[2]);
    completion_free(&c);
    cohort_error mistake;
    int64_t id = 0;
    ask.min_tokens = TOKENS + 1;
    assert_int_equal(engine_submit(b.engine, &ask, &id, &mistake), COHORT_ERR_ARGUMENT);
    ask.min_tokens = 0;
    ask.n_top = ENGINE_TOP_MOST + 1;
    assert_int_equal(engine_submit(b.engine, &ask, &id, &mistake), COHORT_ERR_ARGUMENT);
    ask.n_top = 0;
    const int32_t wrong = -1;
    ask.stop_ids = &wrong;
    assert_int_equal(engine_submit(b.engine, &ask, &id, &mistake), COHORT_ERR_ARGUMENT);
    completion_free(&plain);
    engine_bench_close(&b);
}

struct leaning {
    int32_t calls, last;
    bool forbids;
};

static void lean(void *context, int32_t index, const int32_t *history, int32_t n_history, float *logits, int32_t n)
{
    struct leaning *l = context;
    (void)index;
    l->calls++;
    l->last = history[n_history - 1];
    for (int32_t i = 0; l->forbids && i < n; i++)
        logits[i] = i % 3 == 0 ? logits[i] : -INFINITY;
}

/* A function that changes nothing changes no bit; one that forbids is obeyed, and log-probs are the model's. */
static void test_process(void **state)
{
    (void)state;
    struct engine_bench b;
    struct leaning leaning = {0};
    int32_t prompt[PROMPT];
    engine_bench_open(&b, test_options.cuda ? "cuda" : "auto", &config);
    fill(prompt, PROMPT, b.model->config.vocab_size);
    struct engine_request ask = asking(prompt, PROMPT);
    struct completion plain = run_one(b.engine, &ask);
    ask.process = lean;
    ask.process_context = &leaning;
    struct completion same = run_one(b.engine, &ask);
    assert_int_equal(leaning.calls, TOKENS);
    assert_int_equal(leaning.last, same.tokens[TOKENS - 2]);
    assert_memory_equal(plain.tokens, same.tokens, TOKENS * sizeof *same.tokens);
    assert_memory_equal(plain.logp, same.logp, TOKENS * sizeof *same.logp);
    assert_memory_equal(plain.entropy, same.entropy, TOKENS * sizeof *same.entropy);
    leaning.forbids = true;
    ask.prompt_logp = true;
    struct completion c = run_one(b.engine, &ask);
    for (int32_t t = 0; t < TOKENS; t++)
        assert_int_equal(c.tokens[t] % 3, 0);
    int32_t all[PROMPT + TOKENS];
    memcpy(all, prompt, sizeof prompt);
    memcpy(all + PROMPT, c.tokens, TOKENS * sizeof *all);
    ask = asking(all, PROMPT + TOKENS);
    ask.prompt_logp = true;
    struct completion scored = run_one(b.engine, &ask);
    assert_memory_equal(scored.prompt_logp + PROMPT, c.logp, TOKENS * sizeof(float));
    completion_free(&plain);
    completion_free(&same);
    completion_free(&c);
    completion_free(&scored);
    engine_bench_close(&b);
}

/* A caller with many requests does not keep another one waiting. */
static void test_callers(void **state)
{
    (void)state;
    enum { MANY = 12 };
    struct engine_bench b;
    const struct engine_config one = {
        .max_sequences = 1, .n_pages = 20, .prefill_tokens = 1, .max_context = 64, .max_waiting = MANY + 1};
    int32_t prompt = 3, order[MANY + 1], n = 0;
    int64_t id = 0, last = 0;
    cohort_error mistake = {0};
    engine_bench_open(&b, test_options.cuda ? "cuda" : "auto", &one);
    struct engine_request ask = asking(&prompt, 1);
    ask.max_tokens = 2;
    ask.caller = 1;
    for (int32_t i = 0; i < MANY; i++)
        OK(engine_submit(b.engine, &ask, &id, err));
    ask.caller = 2;
    OK(engine_submit(b.engine, &ask, &last, err));
    assert_int_equal(engine_submit(b.engine, &ask, &id, &mistake), COHORT_ERR_STATE);
    assert_non_null(strstr(mistake.message, "13 requests wait already"));
    for (bool busy = true; busy;) {
        struct completion c;
        OK(engine_step(b.engine, &busy, err));
        while (engine_poll(b.engine, &c)) {
            order[n++] = (int32_t)c.request;
            completion_free(&c);
        }
    }
    int32_t place = 0;
    while (order[place] != last)
        place++;
    assert_in_range(place, 0, 2);
    for (int32_t i = 1, before = -1; i <= MANY; i++) /* the others in their order */
        if (order[i] != last) {
            assert_true(order[i] > before);
            before = order[i];
        }
    engine_bench_close(&b);
}

/* ---- Threads ---- */

enum { THREADS = 3, EACH = 20 };

struct submitter {
    struct engine *engine;
    int64_t ids[EACH];
    int32_t number;
};

static void *submit_and_cancel(void *context)
{
    struct submitter *s = context;
    for (int32_t i = 0; i < EACH; i++) {
        int32_t prompt[3] = {1 + s->number, 2, 3};
        struct engine_request ask = asking(prompt, 3);
        cohort_error err;
        ask.stream = (uint64_t)(s->number * EACH + i);
        if (engine_submit(s->engine, &ask, &s->ids[i], &err) != COHORT_OK)
            s->ids[i] = -1;
        if (i % 4 == 3)
            engine_cancel(s->engine, s->ids[i - 1]);
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    struct engine_bench b;
    struct submitter submitters[THREADS];
    pthread_t threads[THREADS];
    int32_t seen = 0, cancelled = 0;
    engine_bench_open(&b, test_options.cuda ? "cuda" : "auto", &config);
    for (int32_t i = 0; i < THREADS; i++) {
        submitters[i] = (struct submitter){.engine = b.engine, .number = i};
        assert_int_equal(pthread_create(&threads[i], NULL, submit_and_cancel, &submitters[i]), 0);
    }
    for (bool busy = true; busy || seen < THREADS * EACH;) {
        struct completion c;
        OK(engine_step(b.engine, &busy, err));
        for (; engine_poll(b.engine, &c); seen++) {
            cancelled += c.finish_reason == FINISH_CANCELLED;
            assert_true(c.finish_reason == FINISH_CANCELLED || c.n_tokens == TOKENS);
            completion_free(&c);
        }
    }
    for (int32_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(seen, THREADS * EACH);
    assert_in_range(cancelled, 0, THREADS * EACH / 4);
    for (int32_t i = 0; i < THREADS; i++) /* every one had an id of its own */
        for (int32_t k = 0; k < EACH; k++)
            for (int32_t j = 0; j < THREADS * EACH; j++)
                assert_true(j == i * EACH + k || submitters[j / EACH].ids[j % EACH] != submitters[i].ids[k]);
    engine_bench_close(&b);
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_log_probs), cmocka_unit_test(test_log_prob_temperature),
                                       cmocka_unit_test(test_ends),      cmocka_unit_test(test_process),
                                       cmocka_unit_test(test_callers),   cmocka_unit_test(test_threads)};
    return cmocka_run_group_tests(tests, tiny_folder_setup, tiny_folder_teardown);
}

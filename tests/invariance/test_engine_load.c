/* The engine under many requests: what a submission, a cancellation and a step cost does not depend on how many wait, and
 * results come in the order that the schedule gives. */
#include "support/test_backend.h"

#include "rollout/engine.h"
#include "support/tiny_model.h"

#include <time.h>

enum { FEW = 10000, MANY = 100000 };

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        cohort_error err_ = {0}, *err = &err_;                                                                         \
        if ((call) != COHORT_OK)                                                                                       \
            fail_msg("%s: %s", #call, err_.message);                                                                   \
    } while (0)

static char folder[64];

struct bench {
    struct backend *backend;
    struct model *model;
    struct engine *engine;
    struct arena arena;
};

static void bench_open(struct bench *b, const struct engine_config *config)
{
    memset(b, 0, sizeof *b);
    b->backend = backend_here("auto", 1);
    OK(model_load(&b->model, b->backend, folder, DTYPE_F32, 0, err));
    OK(engine_create(&b->engine, b->model, NULL, config, err));
    OK(engine_plan(b->engine, &b->arena, err));
    OK(arena_allocate(&b->arena, b->backend, "test", err));
    OK(engine_plan(b->engine, &b->arena, err));
}

static void bench_close(struct bench *b)
{
    engine_destroy(b->engine);
    arena_release(&b->arena, b->backend);
    model_destroy(b->model);
    backend_destroy(b->backend);
}

/* Of this thread's work, so that busy neighbours do not count. */
static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int64_t submit_one(struct bench *b, int32_t token, int32_t n, int32_t max_tokens)
{
    int64_t id = -1;
    OK(engine_submit(b->engine,
                     &(struct engine_request){.prompt = &token,
                                              .n_prompt = 1,
                                              .n = n,
                                              .sampling = {.temperature = 1.0f},
                                              .stream = (uint64_t)token,
                                              .max_tokens = max_tokens},
                     &id, err));
    return id;
}

static double submit_many(struct bench *b, int32_t n)
{
    const double start = seconds();
    for (int32_t i = 0; i < n; i++)
        submit_one(b, i % 7, 1, 2);
    return seconds() - start;
}

/* The least time of a few steps. */
static double step_time(struct bench *b)
{
    double least = 1e9;
    for (int i = 0; i < 20; i++) {
        const double start = seconds();
        struct completion c;
        bool busy = false;
        OK(engine_step(b->engine, &busy, err));
        const double took = seconds() - start;
        least = took < least ? took : least;
        while (engine_poll(b->engine, &c))
            completion_free(&c);
    }
    return least;
}

/* Cancels requests first .. first + n, the last one first. */
static double cancel_all(struct bench *b, int64_t first, int32_t n)
{
    const double start = seconds();
    for (int64_t i = n - 1; i >= 0; i--)
        engine_cancel(b->engine, first + i);
    return seconds() - start;
}

/* Polls completions of FINISH_CANCELLED, of which there are n, with ids ascending. */
static void expect_cancelled(struct bench *b, int32_t n)
{
    struct completion c;
    int64_t last = -1;
    int32_t seen = 0;
    while (engine_poll(b->engine, &c)) {
        if (c.finish_reason == FINISH_CANCELLED) {
            assert_true(c.request > last);
            last = c.request;
            seen++;
        }
        completion_free(&c);
    }
    assert_int_equal(seen, n);
}

struct figures {
    double submit, step, cancel, end;
};

static struct figures measure(int32_t n)
{
    struct bench b;
    struct figures f;
    bool busy = true;
    bench_open(&b, &(struct engine_config){.max_sequences = 2, .n_pages = 8, .prefill_tokens = 4, .max_context = 64});
    f.submit = submit_many(&b, n);
    f.step = step_time(&b);
    const int32_t done = 20; /* more than 20 steps finish, with these sizes not so many more */
    f.cancel = cancel_all(&b, 4 * done, n - 4 * done);
    const double start = seconds();
    OK(engine_step(b.engine, &busy, err));
    f.end = seconds() - start;
    expect_cancelled(&b, n - 4 * done);
    while (busy)
        OK(engine_step(b.engine, &busy, err));
    bench_close(&b);
    return f;
}

/* Ten times the requests take ten times as long to submit and to cancel, where a walk over those that wait takes a
 * hundred times; and a step does not take longer because of them. The bounds leave room for memory that no cache
 * holds. */
static void test_many(void **state)
{
    (void)state;
    const struct figures few = measure(FEW), many = measure(MANY);
    print_message("%d: submit %.1f ms, step %.3f ms, cancel %.1f ms, their end %.1f ms\n", (int)FEW, few.submit * 1e3,
                  few.step * 1e3, few.cancel * 1e3, few.end * 1e3);
    print_message("%d: submit %.1f ms, step %.3f ms, cancel %.1f ms, their end %.1f ms\n", (int)MANY, many.submit * 1e3,
                  many.step * 1e3, many.cancel * 1e3, many.end * 1e3);
    assert_true(many.submit < 40 * few.submit);
    assert_true(many.cancel < 40 * few.cancel + 1e-3);
    assert_true(many.end < 40 * few.end);
    assert_true(many.step < 4 * few.step + 1e-4);
}

/* One slot: completions come in the order of submission, a group's in order of their index. Cancelled ones come at the
 * next step, in the order of submission too, whatever the order they were cancelled in. */
static void test_order(void **state)
{
    enum { REQUESTS = 30, GROUP = 3 };
    (void)state;
    struct bench b;
    struct completion c;
    bool busy = true;
    bench_open(&b, &(struct engine_config){.max_sequences = 1, .n_pages = 40, .prefill_tokens = 64, .max_context = 64});
    const int64_t first = submit_one(&b, 1, GROUP, 3);
    for (int32_t i = 1; i < REQUESTS; i++)
        assert_int_equal(submit_one(&b, i % 7, GROUP, 3), first + i);
    engine_cancel(b.engine, first + 20);
    engine_cancel(b.engine, first + 10);
    engine_cancel(b.engine, first + 10);
    engine_cancel(b.engine, first + REQUESTS); /* is not there */
    engine_cancel(b.engine, -5);
    int64_t wanted = 10 * GROUP;
    OK(engine_step(b.engine, &busy, err));
    for (int32_t k = 0; k < 2 * GROUP; k++) {
        assert_true(engine_poll(b.engine, &c));
        assert_int_equal(c.finish_reason, FINISH_CANCELLED);
        assert_int_equal((c.request - first) * GROUP + c.index, wanted);
        wanted = k == GROUP - 1 ? 20 * GROUP : wanted + 1;
        completion_free(&c);
    }
    assert_false(engine_poll(b.engine, &c));
    wanted = 0;
    while (busy) {
        OK(engine_step(b.engine, &busy, err));
        while (engine_poll(b.engine, &c)) {
            assert_int_equal(c.finish_reason, FINISH_LENGTH);
            if (wanted / GROUP == 10 || wanted / GROUP == 20)
                wanted += GROUP;
            assert_int_equal((c.request - first) * GROUP + c.index, wanted++);
            completion_free(&c);
        }
    }
    assert_int_equal(wanted, REQUESTS * GROUP);
    bench_close(&b);
}

/* Groups that together draw more first tokens in one step than the engine has room for at once draw in parts: the same
 * tokens. */
static void test_draws_in_parts(void **state)
{
    enum { REQUESTS = 9, GROUP = 20, TOKENS = 3 };
    (void)state;
    struct completion got[2][REQUESTS * GROUP];
    for (int k = 0; k < 2; k++) {
        struct bench b;
        struct completion c;
        bench_open(&b, &(struct engine_config){.max_sequences = 2 + k * REQUESTS * GROUP,
                                               .n_pages = REQUESTS * (GROUP + 1),
                                               .prefill_tokens = 8,
                                               .max_context = 64});
        const int64_t first = submit_one(&b, 0, GROUP, TOKENS);
        for (int32_t i = 1; i < REQUESTS; i++)
            submit_one(&b, i, GROUP, TOKENS);
        for (bool busy = true; busy;) {
            OK(engine_step(b.engine, &busy, err));
            while (engine_poll(b.engine, &c))
                got[k][(c.request - first) * GROUP + c.index] = c;
        }
        bench_close(&b);
    }
    for (int i = 0; i < REQUESTS * GROUP; i++) {
        assert_int_equal(got[0][i].n_tokens, TOKENS);
        assert_memory_equal(got[0][i].tokens, got[1][i].tokens, TOKENS * sizeof(int32_t));
        assert_memory_equal(got[0][i].logp, got[1][i].logp, TOKENS * sizeof(float));
        for (int k = 0; k < 2; k++)
            completion_free(&got[k][i]);
    }
}

static int write_model(void **state)
{
    (void)state;
    cohort_error err = {0};
    snprintf(folder, sizeof folder, "/tmp/cohort-load-XXXXXX");
    if (mkdtemp(folder) == NULL || tiny_checkpoint_write(folder, &tiny_odd, 3, &err) != COHORT_OK) {
        print_error("%s: %s\n", folder, err.message);
        return -1;
    }
    return 0;
}

static int remove_model(void **state)
{
    (void)state;
    return file_remove_all(folder, NULL) == COHORT_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_order), cmocka_unit_test(test_draws_in_parts),
                                       cmocka_unit_test(test_many)};
    return cmocka_run_group_tests(tests, write_model, remove_model);
}

/* How many steps a request waits for its first token while others are under way: counts, no times. A short prompt does not wait
 * for a long one before it, nor for drafts of those that decode; a long one is not held up by short ones for more than twice
 * its steps. On a device that decodes without the host, windows are short while requests come. */
#include "support/engine_test.h"

enum { LONG = 700, SHORT = 20, ROOM = 64, TOKENS = 200 };

static struct engine_bench bench;
static int64_t steps, first_at[64]; /* steps so far; of each request when its first token came */

static void on_event(void *context, const struct engine_event *event)
{
    (void)context;
    if (event->token >= 0 && first_at[event->request] == 0)
        first_at[event->request] = steps;
}

/* Always so many tokens, all of them wrong in all likelihood. */
static int32_t guess(void *context, int64_t request, int32_t index, const int32_t *history, int32_t n_history,
                     int32_t *drafts, int32_t most)
{
    (void)context, (void)request, (void)index;
    for (int32_t i = 0; i < most; i++)
        drafts[i] = (history[n_history - 1] + i) % 100;
    return most;
}

static void open_bench(int32_t draft_tokens)
{
    const struct engine_config config = {
        .max_sequences = 20, .n_pages = 120, .prefill_tokens = ROOM, .max_context = 960, .draft_tokens = draft_tokens};
    engine_bench_open(&bench, test_options.cuda ? "cuda" : "auto", &config);
    engine_set_callback(bench.engine, on_event, NULL);
    if (draft_tokens > 0)
        engine_set_guess(bench.engine, guess, NULL);
    steps = 0;
    memset(first_at, 0, sizeof first_at);
}

static int64_t submit(int32_t n_prompt, int32_t max_tokens)
{
    static int32_t salt;
    int32_t prompt[LONG];
    int64_t id = -1;
    salt++;
    for (int32_t i = 0; i < n_prompt; i++)
        prompt[i] = (salt * 13 + i * 7) % 100;
    OK(engine_submit(bench.engine,
                     &(struct engine_request){.prompt = prompt,
                                              .n_prompt = n_prompt,
                                              .n = 1,
                                              .sampling = {.temperature = 1.0f},
                                              .stream = (uint64_t)salt,
                                              .max_tokens = max_tokens},
                     &id, err));
    return id;
}

static bool step(void)
{
    struct completion c;
    bool busy = false;
    steps = engine_stats(bench.engine).steps + 1;
    OK(engine_step(bench.engine, &busy, err));
    while (engine_poll(bench.engine, &c))
        completion_free(&c);
    return busy;
}

static void close_bench(void)
{
    while (step())
        ;
    engine_bench_close(&bench);
}

/* A prompt of 11 steps, and behind it a short one. */
static void test_short_behind_long(void **state)
{
    (void)state;
    open_bench(0);
    const int64_t slow = submit(LONG, 4), quick = submit(SHORT, 4);
    while (first_at[slow] == 0)
        step();
    print_message("short behind long: step %lld, the long one %lld\n", (long long)first_at[quick],
                  (long long)first_at[slow]);
    assert_int_equal(first_at[quick], 1);
    assert_int_equal(first_at[slow], (LONG + SHORT + ROOM - 1) / ROOM);
    close_bench();
}

/* Several long ones first: they too leave room, and short ones are let in that come behind them. */
static void test_behind_several(void **state)
{
    (void)state;
    open_bench(0);
    for (int i = 0; i < 3; i++)
        submit(LONG, 4);
    step();
    int64_t most = 0;
    for (int i = 0; i < 8; i++) {
        const int64_t now = engine_stats(bench.engine).steps, quick = submit(SHORT, 4);
        while (first_at[quick] == 0)
            step();
        most = first_at[quick] - now > most ? first_at[quick] - now : most;
    }
    print_message("behind three long ones: at most %lld steps\n", (long long)most);
    assert_int_equal(most, 1);
    close_bench();
}

/* A short prompt in every step does not hold up a long one for more than twice its steps. */
static void test_long_among_short(void **state)
{
    (void)state;
    open_bench(0);
    const int64_t slow = submit(LONG, 4);
    for (int i = 0; i < 40 && first_at[slow] == 0; i++) {
        submit(ROOM / 2, 1);
        step();
    }
    print_message("long among short: step %lld\n", (long long)first_at[slow]);
    assert_true(first_at[slow] > 0 && first_at[slow] <= 2 * (LONG + ROOM - 1) / ROOM + 1);
    close_bench();
}

/* Sixteen that decode would have 16 drafts each, four times a step's room: drafts get what prompts leave. */
static void test_beside_drafts(void **state)
{
    (void)state;
    open_bench(16);
    for (int i = 0; i < 16; i++)
        submit(SHORT, TOKENS);
    for (int i = 0; i < 8; i++)
        step();
    const int64_t now = engine_stats(bench.engine).steps, drafted = engine_stats(bench.engine).drafted,
                  one = submit(ROOM, 4), other = submit(SHORT, 4);
    while (first_at[one] == 0 || first_at[other] == 0)
        step();
    print_message("beside drafts: %lld and %lld steps\n", (long long)(first_at[one] - now),
                  (long long)(first_at[other] - now));
    assert_true(first_at[one] - now <= 2 && first_at[other] - now <= 2); /* together they are more than a step's room */
    assert_true(drafted > 0);
    close_bench();
}

/* Requests that come one by one: windows are of 4 steps rather than 16, and of 16 again when none came for a while. */
static void test_windows(void **state)
{
    (void)state;
    if (!test_options.cuda)
        return;
    open_bench(0);
    submit(4, TOKENS);
    int64_t last = 0, lengths[12] = {0};
    step();
    for (int i = 0; i < 12; i++) {
        if (i == 3 || i == 4 || i == 8) {
            submit(4, TOKENS);
            step();
        }
        last = engine_stats(bench.engine).steps;
        step();
        lengths[i] = engine_stats(bench.engine).steps - last;
    }
    static const int64_t wanted[12] = {4, 8, 16, 4, 4, 8, 16, 16, 4, 8, 16, 16};
    for (int i = 0; i < 12; i++)
        print_message("window %d: %lld steps\n", i, (long long)lengths[i]);
    for (int i = 0; i < 12; i++)
        assert_int_equal(lengths[i], wanted[i]);
    close_bench();
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_short_behind_long), cmocka_unit_test(test_behind_several),
                                       cmocka_unit_test(test_long_among_short), cmocka_unit_test(test_beside_drafts),
                                       cmocka_unit_test(test_windows)};
    const struct CMUnitTest device[] = {cmocka_unit_test(test_windows)};
    return test_options.cuda ? cmocka_run_group_tests(device, tiny_folder_setup, tiny_folder_teardown)
                             : cmocka_run_group_tests(tests, tiny_folder_setup, tiny_folder_teardown);
}

/* How long a window of decoding is (rollout/window.h): as long as it may be while few sequences end in it, shorter where many come to
 * their longest, and shorter where many of those before ended unforeseen. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "rollout/window.h"

enum { N = 64 };

static struct request request[N];
static struct sequence sequence[N], *running[N];
static const struct scheduler scheduler = {.running = running, .n_running = N};
static struct decode_window window;

static int begin(void **state)
{
    (void)state;
    window = (struct decode_window){.most = DECODE_WINDOW, .calm = DECODE_WINDOW};
    for (int i = 0; i < N; i++) {
        request[i] = (struct request){.max_tokens = 100};
        sequence[i] = (struct sequence){.request = &request[i], .n_tokens = 10};
        running[i] = &sequence[i];
    }
    return 0;
}

/* With so many that have left tokens to go. */
static int32_t steps_with(int n, int32_t left)
{
    for (int i = 0; i < n; i++)
        sequence[i].n_tokens = 100 - left;
    return decode_window_steps(&window, &scheduler);
}

static void test_lengths(void **state)
{
    (void)state;
    assert_int_equal(decode_window_steps(&window, &scheduler), DECODE_WINDOW);
    assert_int_equal(steps_with(8, 1),
                     DECODE_WINDOW); /* an eighth of the rows, from the second step on: 120 of 1024 draws */
    assert_int_equal(steps_with(16, 3),
                     6); /* 16 * 3 of 64 * 6 draws, and 16 * 4 of 64 * 7 would be more than an eighth */
    assert_int_equal(steps_with(N, 3), 3); /* all end there */
    assert_int_equal(steps_with(N, 1), 1);
    assert_int_equal(steps_with(N / 2, 40), 1); /* the other half ends behind this one */
    request[0].ask.min_tokens = 65;
    assert_int_equal(steps_with(N, 40), 5); /* it may end behind five more */
}

static void test_unforeseen(void **state)
{
    (void)state;
    decode_window_note(&window, 1024, 128);
    assert_int_equal(decode_window_steps(&window, &scheduler), DECODE_WINDOW);
    decode_window_note(&window, 1024, 129);
    assert_int_equal(decode_window_steps(&window, &scheduler), DECODE_WINDOW / 2);
    decode_window_note(&window, 512, 32);
    assert_int_equal(decode_window_steps(&window, &scheduler), DECODE_WINDOW / 2);
    for (int i = 0; i < 5; i++)
        decode_window_note(&window, 512, 500);
    assert_int_equal(decode_window_steps(&window, &scheduler), DECODE_WINDOW / 4);
    for (int i = 0; i < 5; i++)
        decode_window_note(&window, 256, 7);
    assert_int_equal(decode_window_steps(&window, &scheduler), DECODE_WINDOW);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup(test_lengths, begin),
                                       cmocka_unit_test_setup(test_unforeseen, begin)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

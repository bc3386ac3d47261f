/* What is drafted and when (rollout/drafts.h), against a clock of its own: completions whose tokens are given in advance,
 * steps that take what a line over their rows says. Texts that repeat are read in much fewer seconds; those that do not,
 * or only seem to, cost at most two hundredths more, on machines where a row costs much as where it costs little. That
 * what is drafted changes no result is of tests/invariance/test_engine_mix.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/rng.h"
#include "rollout/drafts.h"

#include <string.h>

enum { PROMPT = 40, TOKENS = 1200, MOST = 16, MOST_SEQUENCES = 16, VOCAB = 5000 };

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        cohort_error err_ = {0}, *err = &err_;                                                                         \
        if ((call) != COHORT_OK)                                                                                       \
            fail_msg("%s: %s", #call, err_.message);                                                                   \
    } while (0)

static uint64_t counter;

static int32_t pick(int32_t below)
{
    return (int32_t)(rng_philox(7, RNG_TEST, 1, counter++).word[0] % (uint32_t)below);
}

/* A text that copies what it said before, so many tokens at a time, and says something new for as many. 0: nothing is
 * copied. wrong: each token of a copy is another one in one of so many cases; 0: in none. */
static void write_text(int32_t *text, int32_t n, int32_t copied, int32_t fresh, int32_t wrong)
{
    for (int32_t i = 0; i < n;) {
        const int32_t from = i > 0 ? pick(i) : 0;
        for (int32_t k = 0; k < fresh && i < n; k++)
            text[i++] = pick(VOCAB);
        for (int32_t k = 0; k < copied && i < n && from < i; k++, i++)
            text[i] = wrong > 0 && pick(wrong) == 0 ? pick(VOCAB) : text[from + k];
    }
}

struct text_kind {
    const char *name;
    int32_t copied, fresh, wrong;
};

struct machine {
    double fixed, row;
    bool windows;
    double window; /* of a step in a window, of fixed and rows */
};

/* What the step takes. */
static double takes(const struct machine *m, int32_t rows, bool drafted)
{
    const double seconds = m->fixed + m->row * rows;
    return m->windows && !drafted ? m->window * seconds : seconds;
}

static bool placed(struct drafts *d, struct sequence **running, int32_t n, int32_t room)
{
    bool any = false;
    OK(drafts_place(d, running, n, room, 1 << 20, true, &any, err));
    return any;
}

/* How many times faster n completions of such a text come with drafts. */
static double gain(const struct machine *m, const struct text_kind *kind, int32_t n, int64_t *drafted)
{
    static int32_t truth[MOST_SEQUENCES][PROMPT + TOKENS], history[MOST_SEQUENCES][PROMPT + TOKENS + MOST];
    struct request request[MOST_SEQUENCES];
    struct sequence s[MOST_SEQUENCES], *running[MOST_SEQUENCES];
    struct drafts d;
    double plain = 0.0, with = 0.0;
    OK(drafts_create(&d, MOST, n * (PROMPT + TOKENS) / 64 + 1, m->windows, err));
    memset(s, 0, sizeof s);
    memset(request, 0, sizeof request);
    for (int32_t i = 0; i < n; i++) {
        write_text(truth[i], PROMPT + TOKENS, kind->copied, kind->fresh, kind->wrong);
        memcpy(history[i], truth[i], PROMPT * sizeof(int32_t));
        request[i].ask.n_prompt = PROMPT;
        request[i].prompt = history[i];
        request[i].scope = (uint64_t)i;
        request[i].max_tokens = TOKENS;
        s[i].request = &request[i];
        s[i].history = history[i];
        drafts_know_prompt(&d, &request[i]);
    }
    for (;;) {
        int32_t left = 0, rows = 0;
        int64_t tokens = 0;
        for (int32_t i = 0; i < n; i++)
            if (s[i].n_tokens < TOKENS)
                running[left++] = &s[i];
        if (left == 0)
            break;
        const bool any = placed(&d, running, left, 1000);
        for (int32_t i = 0; i < left; i++) {
            struct sequence *q = running[i];
            const int32_t at = (int32_t)(q - s), end = PROMPT + q->n_tokens;
            int32_t right = 0;
            while (right < q->n_drafted && history[at][end + right] == truth[at][end + right])
                right++;
            rows += 1 + q->n_drafted;
            tokens += right + 1;
            assert_true(q->n_tokens + q->n_drafted < TOKENS);
            for (int32_t k = 0; k <= right; k++) {
                history[at][end + k] = truth[at][end + k];
                q->n_tokens++;
                drafts_know(&d, q, 1, true);
            }
        }
        const double seconds = takes(m, rows, any);
        with += seconds;
        drafts_measure(&d, rows, tokens, seconds);
        *drafted += rows - left;
    }
    plain = TOKENS * takes(m, n, false);
    drafts_free(&d);
    return plain / with;
}

static const struct text_kind kinds[] = {{"new", 0, 50, 0},    {"now and then", 6, 60, 0}, {"misleading", 40, 3, 2},
                                         {"half", 30, 30, 20}, {"mostly", 100, 10, 50},    {"copies", 300, 5, 0}};
enum { N_KINDS = sizeof kinds / sizeof kinds[0] };

static const struct machine machines[] = {
    {6.0, 1.0, false, 0.0},                          /* one that waits for its weights */
    {20.0, 1.0, false, 0.0}, {0.5, 1.0, false, 0.0}, /* one that computes */
    {0.0, 1.0, false, 0.0},  {30.0, 0.2, true, 0.6}, /* one with windows */
};

static void test_gains(void **state)
{
    (void)state;
    for (size_t m = 0; m < sizeof machines / sizeof machines[0]; m++)
        for (int32_t n = 1; n <= MOST_SEQUENCES; n *= 4)
            for (size_t k = 0; k < N_KINDS; k++) {
                int64_t drafted = 0;
                const double times = gain(&machines[m], &kinds[k], n, &drafted);
                print_message("machine %zu, %2d completions, text %-12s %.2f times, %lld drafted\n", m, (int)n,
                              kinds[k].name, times, (long long)drafted);
                if (times < 0.98)
                    fail_msg("machine %zu, %d completions, text %s: %.3f times", m, (int)n, kinds[k].name, times);
                if (m < 2 && n == 1 && k >= 4 && times < 1.5)
                    fail_msg("machine %zu, text %s: only %.3f times", m, kinds[k].name, times);
            }
}

/* One completion whose text changes its kind: each part takes at most a fiftieth longer than without drafts, what is new or
 * misleading is not drafted in its second half but for a few tokens, and copies are fast again as soon as they come. */
static void test_changes(void **state)
{
    (void)state;
    enum { PARTS = 5, PART = 1000 };
    static const int parts[PARTS] = {5, 0, 2, 5, 0}; /* of kinds */
    static int32_t truth[PROMPT + PARTS * PART], history[PROMPT + PARTS * PART + MOST];
    for (size_t m = 0; m < sizeof machines / sizeof machines[0]; m++) {
        struct request request = {.prompt = history, .ask.n_prompt = PROMPT, .max_tokens = PARTS * PART};
        struct sequence s = {.request = &request, .history = history}, *running[] = {&s};
        struct drafts d;
        for (int p = 0; p < PARTS; p++) {
            const struct text_kind *kind = &kinds[parts[p]];
            write_text(truth + (p > 0 ? PROMPT : 0) + p * PART, PART + (p > 0 ? 0 : PROMPT), kind->copied, kind->fresh,
                       kind->wrong);
        }
        memcpy(history, truth, PROMPT * sizeof *history);
        OK(drafts_create(&d, MOST, PARTS * PART / 64 + 1, machines[m].windows, err));
        drafts_know_prompt(&d, &request);
        double begin = 0.0, now = 0.0;
        int32_t late = 0, from = 0;
        for (int p = 0; p < PARTS; p++, begin = now) {
            late = 0;
            from = s.n_tokens;
            while (s.n_tokens < (p + 1) * PART) {
                const int32_t end = PROMPT + s.n_tokens;
                const bool any = placed(&d, running, 1, 1000);
                int32_t right = 0;
                while (right < s.n_drafted && history[end + right] == truth[end + right])
                    right++;
                late += s.n_tokens > p * PART + PART / 2 ? s.n_drafted : 0;
                const double seconds = takes(&machines[m], 1 + s.n_drafted, any);
                const int32_t rows = 1 + s.n_drafted;
                for (int32_t k = 0; k <= right; k++) {
                    history[end + k] = truth[end + k];
                    s.n_tokens++;
                    drafts_know(&d, &s, 1, true);
                }
                now += seconds;
                drafts_measure(&d, rows, right + 1, seconds);
            }
            const double times = (s.n_tokens - from) * takes(&machines[m], 1, false) / (now - begin);
            print_message("machine %zu, part %d, %s: %.2f times, %d drafted late\n", m, p, kinds[parts[p]].name, times,
                          (int)late);
            assert_true(times >= 0.98);
            assert_true(parts[p] != 0 || late < PART / 50);
            assert_true(m >= 2 || parts[p] != 5 || times >= 1.5);
        }
        drafts_free(&d);
    }
}

/* What another completion of the same prompt said is drafted, what one of another prompt said is not; the newer of two
 * continuations first, and one that was seen often outlasts one that was seen once. */
static void test_sources(void **state)
{
    (void)state;
    int32_t text[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, begun[20] = {1, 2, 3};
    struct request said = {.scope = 5, .max_tokens = 12}, asked = {.scope = 5, .max_tokens = 20, .ask.n_prompt = 3};
    struct sequence first = {.request = &said, .history = text, .n_tokens = 12},
                    second = {.request = &asked, .history = begun}, *running[] = {&second};
    struct drafts d;
    OK(drafts_create(&d, MOST, 4, false, err));
    drafts_know(&d, &first, 10, true);
    assert_false(placed(&d, running, 1, 100)); /* no step was measured */
    drafts_measure(&d, 1, 1, 1.0);
    for (int i = 0; i < 100; i++)
        drafts_know(&d, &first, 10, true);
    assert_true(placed(&d, running, 1, 100));
    assert_int_equal(second.n_drafted, 9);
    assert_memory_equal(begun + 3, text + 3, 9 * sizeof *text);
    assert_true(placed(&d, running, 1, 4));
    assert_int_equal(second.n_drafted, 4);
    text[4] = 77; /* seen once: the other was seen often */
    drafts_know(&d, &first, 8, true);
    assert_true(placed(&d, running, 1, 2));
    assert_int_equal(begun[4], 5);
    drafts_know(&d, &first, 8, true);
    drafts_know(&d, &first, 8, true);
    assert_true(placed(&d, running, 1, 2));
    assert_int_equal(begun[4], 77);
    asked.scope = 6;
    assert_false(placed(&d, running, 1, 100));
    drafts_free(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_gains), cmocka_unit_test(test_changes),
                                       cmocka_unit_test(test_sources)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

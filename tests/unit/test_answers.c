/* Answers against math-verify, TRL and hendrycks' is_equiv (tests/fixtures/answers.json,
 * oracle/answers_math_verify.py), and the time that they take, whatever a completion holds.
 *
 * "test_answers --bench" prints how long 512 completions of 800 bytes take. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "reward/reward.h"

#include "support/sanitized.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* Of this process, so that a busy machine does not fail the test. */
static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static struct reward *accuracy(void)
{
    struct reward *reward = NULL;
    cohort_error err = {0};
    if (reward_create(&reward, "accuracy", NULL, &err) != COHORT_OK)
        fail_msg("%s", err.message);
    return reward;
}

static double score(struct reward *reward, json_t *data, const char *completion, size_t length)
{
    struct reward_row row = {
        .data = data, .prompt = "", .completion = completion, .completion_length = length, .finish_reason = "eos"};
    double value = -1;
    cohort_error err = {0};
    if (reward_score(reward, &row, 1, &value, &err) != COHORT_OK)
        fail_msg("%s", err.message);
    return value;
}

/* --- what others say --- */

struct exception {
    const char *gold, *completion; /* a part of it */
    const char *why;
};

/* Right by us alone. */
static const struct exception accepted[] = {
    {"42", "\\boxed{42.}", "a period behind the number is none of it"},
    {"42", "\\boxed{42,}", "nor is a comma"},
    {"1234", "\\boxed{1234.}", "nor is a period"},
    {"1234", "\\boxed{1\\,234}", "a thin space groups digits"},
    {"1234567", "\\boxed{1\\,234\\,567}", "a thin space groups digits"},
    {"50", "\\boxed{50~\\text{m}}", "a unit behind a tie"},
    {"90^\\circ", "\\boxed{90\\degree}", "\\degree is ^\\circ"},
    {"\\{1, 2, 3\\}", "\\lbrace 1,2,3\\rbrace", "\\lbrace is \\{"},
    {"\\sqrt[3]{2}", "\\sqrt[3]2", "LaTeX needs no braces around one digit"},
    {"\\frac{\\pi}{2}", "\\frac\\pi2", "LaTeX needs no braces around one command"},
    {"42", "<answer>42</answer>", "the tags of R1 and its like"},
    {"42", "\\fbox{42}", "a box too"},
    {"E", "The answer is (E).", "letters of choices, which math-verify reads in formulas only"},
    {"E", "The correct answer is E.", "as above"},
    {"E", "Answer: E", "as above"},
    {"E", "**Answer: (E)**", "as above"},
    {"E", "The correct answer is **E**.", "as above"},
    {"E", "The answer is option E.", "as above"},
};

/* Wrong by us though others, or one of them, say right. */
static const struct exception refused[] = {
    {"42", "\\boxed{4 2}", "is_equiv drops every blank; these are two numbers"},
    {"42", "42 \\text{ million}", "both drop what follows a number; a million is no unit"},
    {"\\frac{1}{2004!}", "2006!", "math-verify compares to six digits: both are 0"},
    {"\\{1, 2\\}", "\\boxed{(2, 1)}", "math-verify takes a pair for a set"},
    {"101_2", "101_3", "math-verify drops the base"},
};

static bool is_among(const struct exception *list, size_t n, const char *gold, const char *completion, bool *used)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(list[i].gold, gold) == 0 && strstr(completion, list[i].completion) != NULL) {
            used[i] = true;
            return true;
        }
    return false;
}

static void test_others(void **state)
{
    (void)state;
    enum { ACCEPTED = sizeof accepted / sizeof accepted[0] };
    enum { REFUSED = sizeof refused / sizeof refused[0] };
    bool accepted_used[ACCEPTED] = {false}, refused_used[REFUSED] = {false};
    json_error_t error;
    json_t *pairs = json_load_file(COHORT_SOURCE_DIR "/tests/fixtures/answers.json", 0, &error);
    if (pairs == NULL)
        fail_msg("answers.json:%d: %s", error.line, error.text);
    struct reward *reward = accuracy();
    size_t right = 0, wrong = 0, failed = 0;
    for (size_t i = 0; i < json_array_size(pairs); i++) {
        json_t *pair = json_array_get(pairs, i), *equiv = json_object_get(pair, "is_equiv");
        const char *gold = json_string_value(json_object_get(pair, "gold"));
        const char *completion = json_string_value(json_object_get(pair, "completion"));
        bool verified = json_is_true(json_object_get(pair, "math_verify"));
        bool trl = json_real_value(json_object_get(pair, "trl")) == 1.0;
        json_t *data = json_pack("{s:s}", "answer", gold);
        bool ours = score(reward, data, completion, strlen(completion)) == 1;
        json_decref(data);
        right += ours;
        wrong += !ours;
        if (ours && !verified && !trl && !json_is_true(equiv) &&
            !is_among(accepted, ACCEPTED, gold, completion, accepted_used)) {
            print_error("right by us alone: '%s' for '%s'\n", completion, gold);
            failed++;
        }
        if (!ours && (verified || trl || json_is_true(equiv)) &&
            !is_among(refused, REFUSED, gold, completion, refused_used)) {
            print_error("wrong by us: '%s' for '%s'\n", completion, gold);
            failed++;
        }
    }
    for (size_t i = 0; i < ACCEPTED; i++)
        if (!accepted_used[i]) {
            print_error("no exception any more: '%s'\n", accepted[i].completion);
            failed++;
        }
    for (size_t i = 0; i < REFUSED; i++)
        if (!refused_used[i]) {
            print_error("no exception any more: '%s'\n", refused[i].completion);
            failed++;
        }
    reward_destroy(reward);
    json_decref(pairs);
    assert_int_equal(failed, 0);
    assert_true(right > 250 && wrong > 150);
}

/* --- time --- */

/* The longest that is read as more than text, and one that no answer is. */
enum { READ_TEXT = 4000, LONG_TEXT = 120000 };
static const double LONG_TIME = SLOW ? 5 : 0.5; /* seconds; linear ones take hundredths, quadratic ones minutes */

static const char *const pieces[] = {
    "\\boxed{",
    "\\boxed",
    "\\boxed ",
    "\\fbox{",
    "\\boxed{1",
    "\\boxed{}",
    "</think>",
    "<answer>",
    "</answer>",
    "<answer>x</answer>",
    "####",
    "#### ",
    "#### 1\n",
    "answer is ",
    "answer",
    "answer:",
    "answer \n",
    "the answer is\n",
    "answers",
    "{",
    "}",
    "{}",
    "$",
    "$$",
    "$ ",
    "$1",
    "$$.",
    "**",
    "* ",
    "**.",
    "`",
    "`.",
    "\\(",
    "\\)",
    "\\(\\)",
    "\\[",
    "\\]",
    "\\left",
    "\\left(",
    "\\text{",
    "\\text{}",
    "\\frac",
    "\\frac{",
    "\\frac1",
    "\\sqrt",
    "\\sqrt[",
    "^",
    "^{",
    "_",
    "1,",
    "1",
    "1 ",
    "0",
    "1.",
    ".",
    ",",
    ", ",
    ";",
    ":",
    "=",
    "x=",
    "x = 1, ",
    "a and ",
    "and ",
    "or",
    "(",
    "(1,",
    "(1),",
    "[1,",
    "\\{",
    "\\{1,",
    "\\\\",
    "\\",
    "-",
    "+",
    "/",
    "1/",
    "~",
    "\\,",
    "\xc2",
    "\xff",
    " ",
    "\n",
    "\t",
    "(A) ",
    "A. ",
    "cm ",
    "1 cm ",
    "a",
    "\\a",
    "\\pi",
    " \\in ",
    "% ",
    "e1",
    "because ",
    ", a",
    "<",
    "#",
    "9999!",
    "!",
    "\\binom{999}{5}",
    "x^",
    "x^{x^",
    "|",
    "\\sin ",
    "\\sin^{",
    "\\pm 1,",
    "\\cup",
    "(1,2)\\cup ",
    "\\{1\\},",
    "\\{1,\\{",
    "\\begin{pmatrix}",
    "1&",
    "1\\\\",
    "x<",
    "x+",
    "\\overline{",
    "0.\\overline{1}",
    "\\boxed{1},",
    "1.5,",
    "x,",
    "9^{9^{9}}",
};

/* before, a piece again and again, after */
static void build(struct text *text, size_t length, const char *before, const char *piece, size_t n, const char *after)
{
    text->length = 0;
    assert_int_equal(text_append(text, before, strlen(before), NULL), COHORT_OK);
    while (text->length + n < length)
        assert_int_equal(text_append(text, piece, n, NULL), COHORT_OK);
    assert_int_equal(text_append(text, after, strlen(after), NULL), COHORT_OK);
}

static void check_time(struct reward *reward, const char *gold, const struct text *text, const char *piece)
{
    json_t *data = json_object();
    json_t *answer = json_stringn_nocheck(gold, strlen(gold));
    json_object_set_new_nocheck(data, "answer", answer);
    double start = now_s();
    score(reward, data, text->data, text->length);
    double took = now_s() - start;
    json_decref(data);
    if (took > LONG_TIME)
        fail_msg("%zu bytes of '%s' ('%.20s...'): %.2f s", text->length, piece, text->data, took);
}

static void test_linear(void **state)
{
    (void)state;
    static const char *const around[][2] = {
        {"", ""},      {"\\boxed{", "}"},   {"The answer is ", ""},
        {"#### ", ""}, {"\\boxed{(", ")}"}, {"\\boxed{7} ", ""},
        {"x\n$", "$"},
    };
    struct reward *reward = accuracy();
    struct text text = {0}, gold = {0};
    static const size_t lengths[] = {READ_TEXT, LONG_TEXT};
    for (size_t l = 0; l < 2; l++)
        for (size_t p = 0; p < sizeof pieces / sizeof pieces[0]; p++) {
            const size_t n = strlen(pieces[p]);
            for (size_t a = 0; a < sizeof around / sizeof around[0]; a++) {
                build(&text, lengths[l], around[a][0], pieces[p], n, around[a][1]);
                check_time(reward, "7", &text, pieces[p]);
            }
            /* Both long, and different at their ends. */
            build(&gold, lengths[l], "", pieces[p], n, "7");
            build(&text, lengths[l], "", pieces[p], n, "8");
            check_time(reward, gold.data, &text, pieces[p]);
        }
    build(&text, LONG_TEXT, "", "\0", 1, "");
    check_time(reward, "7", &text, "NUL");
    text_free(&text);
    text_free(&gold);
    reward_destroy(reward);
}

/* 512 completions of about 200 tokens: their time in all, the best of several, in seconds. */
static double batch_time(const char *end)
{
    enum { ROWS = 512, LENGTH = 800 };
    static struct reward_row rows[ROWS];
    static char texts[ROWS][LENGTH + 100];
    static double values[ROWS];
    static const char filler[] = "we add the two numbers and then take 3 \\cdot x^2 away, so that ";
    struct reward *reward = accuracy();
    double best = 1e9;
    for (int i = 0; i < ROWS; i++) {
        size_t n = 0;
        for (; n < LENGTH; n++)
            texts[i][n] = filler[n % (sizeof filler - 1)];
        snprintf(texts[i] + n, sizeof texts[i] - n, end, i);
        rows[i] = (struct reward_row){.data = json_pack("{s:i}", "answer", i),
                                      .prompt = "",
                                      .completion = texts[i],
                                      .completion_length = strlen(texts[i]),
                                      .finish_reason = "eos"};
    }
    for (int turn = 0; turn < 7; turn++) {
        double start = now_s();
        assert_int_equal(reward_score(reward, rows, ROWS, values, NULL), COHORT_OK);
        double took = now_s() - start;
        best = took < best ? took : best;
    }
    for (int i = 0; i < ROWS; i++) {
        if (values[i] != 1)
            fail_msg("'%s' is wrong", texts[i] + LENGTH);
        json_decref((json_t *)(uintptr_t)rows[i].data);
    }
    reward_destroy(reward);
    return best;
}

static const char *const ends[] = {"\\boxed{%d}.", "\n#### %d", "\nThe answer is %d.", "\n%d"};

static void test_fast(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        double took = batch_time(ends[i]);
        if (took > 0.1) /* it takes a few ms; sanitizers and a busy machine take their share */
            fail_msg("512 completions with '%s' take %.1f ms", ends[i], took * 1e3);
    }
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--bench") == 0) {
        for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
            printf("512 completions of 800 bytes, '%s': %.2f ms\n", ends[i][0] == '\n' ? ends[i] + 1 : ends[i],
                   batch_time(ends[i]) * 1e3);
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_others),
        cmocka_unit_test(test_linear),
        cmocka_unit_test(test_fast),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

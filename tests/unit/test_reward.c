/* Built-in rewards: what counts as the answer, which answers are the same, regex, format,
 * callbacks, names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "reward/reward.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct reward *make(const char *spec, const char *pattern)
{
    struct reward *reward = NULL;
    cohort_error err = {0};
    struct reward_options options = {.pattern = pattern};
    if (reward_create(&reward, spec, &options, &err) != COHORT_OK)
        fail_msg("%s", err.message);
    return reward;
}

/* Reward of one completion for a data row given as JSON. */
static cohort_status score(struct reward *reward, const char *data, const char *completion, double *value,
                           cohort_error *err)
{
    json_t *json = json_loads(data, 0, NULL);
    assert_non_null(json);
    struct reward_row row = {.data = json,
                             .prompt = "p",
                             .completion = completion,
                             .prompt_length = 1,
                             .completion_length = strlen(completion),
                             .finish_reason = "eos",
                             .prompt_index = 3,
                             .completion_index = 1};
    cohort_status status = reward_score(reward, &row, 1, value, err);
    json_decref(json);
    return status;
}

static double accuracy(const char *data, const char *completion)
{
    struct reward *reward = make("accuracy", NULL);
    cohort_error err = {0};
    double value = -1;
    if (score(reward, data, completion, &value, &err) != COHORT_OK)
        fail_msg("%s: %s", data, err.message);
    reward_destroy(reward);
    return value;
}

struct pair {
    const char *completion, *answer;
};

static double accuracy_of_pair(struct pair pair)
{
    json_t *data = json_pack("{s:s}", "answer", pair.answer);
    char *text = json_dumps(data, 0);
    double value = accuracy(text, pair.completion);
    json_decref(data);
    free(text);
    return value;
}

static void test_extraction(void **state)
{
    (void)state;
    static const struct pair right[] = {
        {"42", "42"},
        {"  42\n", "42"},
        {"first \\boxed{41}, no: \\boxed{42}.", "42"},
        {"\\boxed{\\frac{3}{4}}", "0.75"},
        {"\\boxed {42}", "42"},
        {"\\boxed{\\{1\\}}", "\\{1\\}"},
        {"\\boxed{42} and then \\boxed{7", "42"}, /* cut off: the last complete one */
        {"the answer is 5\n\\boxed{42}", "42"},
        {"x\n#### 42\nmore", "42"},
        {"#### 1\n#### 42", "42"},
        {"The answer is 41. No, the Answer Is: 42. That is all.", "42"},
        {"the answer is 3.5", "3.5"},
        {"The answer is **42**.", "42"},
        {"The final answer is $\\frac{1}{2}$.", "0.5"},
        {"<think>the answer is 7</think>\n\n42", "42"},
        {"<think>the answer is 42</think>\n ", "42"}, /* nothing after: what was thought counts */
        {"42", "Half of 84 is 42.\n#### 42"},
        {"42", "so \\boxed{42}"},
        {"2 + 3 = 5", "5"},
        {"We have\n= 42.", "42"},
        {"so \\fbox{42}", "42"},
        {"so $\\boxed 42$", "42"},
        {"so \\\\boxed{42}", "42"}, /* escaped twice */
        {"\\boxed{1 \\boxed{42} 3}", "42"},
        {"<think>\\boxed{3}</think><answer>42</answer> I am sure.", "42"},
        {"**Answer:** 42", "42"},
        {"### Answer\n\n42", "42"},
        {"The answer is 42, altogether.", "42"},
        {"The answer is 42 (see above).", "42"},
        {"#### 42,", "42"},
        {"42", "<answer> 42 </answer>"},
    };
    for (size_t i = 0; i < sizeof right / sizeof right[0]; i++)
        if (accuracy_of_pair(right[i]) != 1)
            fail_msg("'%s' is not '%s'", right[i].completion, right[i].answer);
    static const struct pair wrong[] = {
        {"", "42"},
        {"   ", "42"},
        {"\\boxed{}", "42"},
        {"42 \\boxed{}", "42"},
        {"#### \n42", "42"},
        {"\\boxed{42} \\boxed{43}", "42"},
        {"it might be 42", "42"},
        {"42 43", "42"},
        {"<think>42</think> 43", "42"},
        {"the answer is", "42"},
        {".", "42"},
        {"$$", "42"},
        {"42", "the answer is 42"}, /* not searched for in the data */
        {"\\boxed{42", "42"},
        {"The answer is $42$ or $43$.", "42"},
        {"The answer is 42, or 43.", "42"},
        {"The answer is 42, 43.", "42"},
        {"The answer is not 42.", "42"},
        {"x != 42", "42"},
        {"Answers vary.\n42 43", "42"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        if (accuracy_of_pair(wrong[i]) != 0)
            fail_msg("'%s' counts as '%s'", wrong[i].completion, wrong[i].answer);
}

static void test_equal(void **state)
{
    (void)state;
    static const struct pair same[] = {
        {"5", "+5"},
        {"5.0", "5"},
        {"5.", "5"},
        {"005", "5"},
        {".5", "0.5"},
        {"-0", "0"},
        {"0.0", "0e5"},
        {"1e3", "1000"},
        {"1.5E-2", "0.015"},
        {"1,234", "1234"},
        {"1,234,567.50", "1234567.5"},
        {"1{,}234", "1234"},
        {"1\\,234", "1234"},
        {"1,\\!234", "1234"},
        {"3/4", "0.75"},
        {"3 / 4", "6/8"},
        {"\\frac{3}{4}", "3/4"},
        {"\\dfrac34", "3/4"},
        {"-\\frac{1}{2}", "-0.5"},
        {"\\frac{-1}{2}", "-1/2"},
        {"\\frac{-1}{-2}", "1/2"},
        {"1/3", "2/6"},
        {"0/5", "0"},
        {"$5", "5"},
        {"\\$5", "$5.00"},
        {"-$5", "-5"},
        {"$-5", "-5"},
        {"$5$", "5"},
        {"50%", "50"},
        {"50\\%", "50%"},
        {"50 percent", "50%"},
        {"5%", "0.05"}, /* 50% is 50 and 0.5 */
        {"50\\%", "\\frac{1}{2}"},
        {"5 cm", "5"},
        {"5cm", "5 cm"},
        {"5\\text{ cm}", "5"},
        {"5 apples", "5"},
        {"5 apple", "5 apples"},
        {"12 square meters", "12"},
        {"9 m^2", "9"},
        {"90^\\circ", "90"},
        {"90\xc2\xb0", "90 degrees"},
        {"5 dollars", "$5"},
        {"x = 5", "5"},
        {"x=5", "x = 5.0"},
        {"5", "n_1 = 5"},
        {"\xe2\x88\x92"
         "5",
         "-5"},
        {"1.5 \\times 10^{3}", "1500"},
        {"2*10^-3", "0.002"},
        {"0 \\times 10^5", "0"},
        {"\\text{yes}", "yes"},
        {"a  b", "a b"},
        {"yes.", "yes"},
        {"`x+1`", "x+1"},
        {"\\left(1,2\\right)", "(1,2)"},
        {"\\(7\\)", "7"},
        {"123456789012345678901234567890", "123456789012345678901234567890.0"},
        {"1000000000000000000000/3000000000000000000001", "1000000000000000000000/3000000000000000000001.0"},
        {"1234567890123456789012/1234567890123456789012", "1"},
        {"2\\frac{1}{2}", "2.5"},
        {"2 1/2", "\\frac52"},
        {"-1\\dfrac{1}{3}", "-4/3"},
        {"(1,2)", "( 1, 2 )"},
        {"[0,1)", "\\left[0,\\,1\\right)"},
        {"\\{2,1\\}", "\\{1, 2\\}"},
        {"x=1, x=-2", "-2,1"},
        {"1, 2, \\text{ and } 3", "1,2,3"},
        {"(0.5, 1)", "(\\frac12, 1.0)"},
        {"x \\in (1, 2)", "(1,2)"},
        {"f(x) = 2x", "2x"},
        {"\\theta = 5", "5"},
        {"2\\cdot\\pi", "2 \\pi"},
        {"2\xcf\x80", "2\\pi"},
        {"\\sqrt2", "\\sqrt{2}"},
        {"x^2", "x^{2}"},
        {"-\\pi/2", "\\frac{-\\pi}{2}"},
        {"2\\sqrt{3} cm", "2\\sqrt{3}"},
        {"(E)", "E"},
        {"E.", "\\text{(E)}"},
        {"(E) 42", "E"},
        {"(E) 42", "42"},
        {"Option B", "B"},
        {"the $x$ axis", "the x axis"},
        {"42,", "42"},
    };
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++)
        if (accuracy_of_pair(same[i]) != 1)
            fail_msg("'%s' is not '%s'", same[i].completion, same[i].answer);
    static const struct pair other[] = {
        {"5", "6"},
        {"5", "-5"},
        {"0.333", "1/3"},
        {"0.33333", "1/3"},
        {"0.3333334", "1/3"},
        {"1,23", "123"},
        {"1,2345", "12345"},
        {"1234,567", "1234567"},
        {"12,34,567", "1234567"},
        {",123", "123"},
        {"3,14", "3.14"},
        {"1/0", "0"},
        {"1/0", "2/0"},
        {"5 cm", "5 m"},
        {"$5", "5%"},
        {"5 million", "5"},
        {"5x", "5"},
        {"5 x", "5"},
        {"5 or 6", "5"},
        {"5 and a half", "5"},
        {"5 halves", "5"},
        {"x = 5", "y = 5"},
        {"1 1/2", "1"},
        {"1\\frac{1}{2}", "0.5"},
        {"5!", "5"},
        {"5^2", "5"},
        {"5\xc2\xb2", "5"},
        {"5\xcf\x80", "5"},
        {"yes", "yet"},
        {"1 2", "12"},
        {"0x10", "16"},
        {"nan", "0"},
        {"inf", "1e999"},
        {"1e9999999", "1e99999999"},
        {"--5", "5"},
        {"(1, 2)", "(1, 3)"},
        {"5..", "5"},
        {"\\frac{1}{2", "0.5"},
        {"\\fraction", "1"},
        {"123456789012345678901234567890", "123456789012345678901234567891"},
        {"1000000000000000001/1000000000000000000", "1"},
        {"x =", "x"},
        {"5 \\pi", "5"},
        {"2\\sqrt{3}", "2"},
        {"10^3", "10"},
        {"0.0049", "0.049%"},
        {"2 5/2", "4.5"}, /* not a mixed number */
        {"2\\frac{-1}{2}", "1.5"},
        {"21/2", "2.5"},
        {"(1,2)", "[1,2]"},
        {"\\{1,2\\}", "(1,2)"},
        {"(1,2)", "(2,1)"},
        {"1,2,2", "1,1,2"},
        {"1,034", "1,34"},
        {"(1,034)", "1034"},
        {"2 \\cdot 3", "23"},
        {"x*-2", "x-2"},
        {"\\pi r", "\\pir"},
        {"(A) and (B)", "A"},
        {"(E) 42", "(E) 43"},
        {"A, B", "A"},
        {"E", "e"},
        {"D", "(E)"},
        {"\\sqrt{12}", "\\sqrt12"},
        {"\\boxed{42", "42"}, /* cut off: it may have been going to be 421 */
    };
    for (size_t i = 0; i < sizeof other / sizeof other[0]; i++)
        if (accuracy_of_pair(other[i]) != 0)
            fail_msg("'%s' counts as '%s'", other[i].completion, other[i].answer);
    /* Both ways round. */
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++)
        if (accuracy_of_pair((struct pair){same[i].answer, same[i].completion}) != 1)
            fail_msg("'%s' is not '%s'", same[i].answer, same[i].completion);
    for (size_t i = 0; i < sizeof other / sizeof other[0]; i++)
        if (accuracy_of_pair((struct pair){other[i].answer, other[i].completion}) != 0)
            fail_msg("'%s' counts as '%s'", other[i].answer, other[i].completion);
}

static void test_columns(void **state)
{
    (void)state;
    assert_true(accuracy("{\"answer\": 42}", "42.0") == 1);
    assert_true(accuracy("{\"answer\": 0.1}", "0.1") == 1); /* not 0.10000000000000001 */
    assert_true(accuracy("{\"answer\": 0.3333333333333333}", "1/3") == 1);
    assert_true(accuracy("{\"solution\": \"42\"}", "42") == 1);
    assert_true(accuracy("{\"solution\": \"41\", \"answer\": \"42\"}", "42") == 1);
    assert_true(isnan(accuracy("{\"answer\": null}", "42")));
    assert_true(isnan(accuracy("{\"answer\": \" \"}", "42")));
    assert_true(isnan(accuracy("{\"answer\": \"\", \"solution\": \"42\"}", "42")));
    struct reward *reward = make("accuracy", NULL);
    double value = 0;
    cohort_error err = {0};
    assert_int_equal(score(reward, "{}", "1", &value, &err), COHORT_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "prompt 3"));
    assert_non_null(strstr(err.message, "'answer'"));
    assert_int_equal(score(reward, "{\"answer\": [1]}", "1", &value, &err), COHORT_ERR_ARGUMENT);
    assert_int_equal(score(reward, "{\"answer\": true}", "1", &value, &err), COHORT_ERR_ARGUMENT);
    reward_destroy(reward);
}

static void test_regex(void **state)
{
    (void)state;
    struct reward *reward = make("regex", "\\bcat\\b");
    cohort_error err = {0};
    double value = -1;
    assert_int_equal(score(reward, "{}", "the cat sat", &value, &err), COHORT_OK);
    assert_true(value == 1);
    assert_int_equal(score(reward, "{}", "concatenate", &value, &err), COHORT_OK);
    assert_true(value == 0);
    assert_int_equal(score(reward, "{}", "\xff cat", &value, &err), COHORT_OK); /* not UTF-8 */
    assert_true(value == 1);
    reward_destroy(reward);

    reward = make("regex", NULL); /* each row has its own */
    assert_int_equal(score(reward, "{\"pattern\": \"^a\"}", "ab", &value, &err), COHORT_OK);
    assert_true(value == 1);
    assert_int_equal(score(reward, "{\"pattern\": \"^b\"}", "ab", &value, &err), COHORT_OK);
    assert_true(value == 0);
    assert_int_equal(score(reward, "{}", "ab", &value, &err), COHORT_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "'pattern'"));
    assert_int_equal(score(reward, "{\"pattern\": \"(\"}", "ab", &value, &err), COHORT_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "prompt 3"));
    assert_int_equal(score(reward, "{\"pattern\": \"^a\"}", "ab", &value, &err), COHORT_OK);
    assert_true(value == 1);
    reward_destroy(reward);

    struct reward_options options = {.pattern = "a(b"};
    assert_int_equal(reward_create(&reward, "regex", &options, &err), COHORT_ERR_ARGUMENT);
    assert_null(reward);
    assert_non_null(strstr(err.message, "character 4"));

    /* Exponential backtracking counts as no match, which is told once, and the next text is matched. */
    reward = make("regex", "^(a+)+$");
    assert_null(reward_warning(reward));
    for (int i = 0; i < 2; i++) {
        value = -1;
        assert_int_equal(score(reward, "{}", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", &value, &err), COHORT_OK);
        assert_true(value == 0);
    }
    const char *warning = reward_warning(reward);
    assert_non_null(warning);
    assert_non_null(strstr(warning, "'^(a+)+$' takes too many steps on prompt 3, completion 1"));
    assert_null(reward_warning(reward));
    assert_int_equal(score(reward, "{}", "aaaa", &value, &err), COHORT_OK);
    assert_true(value == 1);
    assert_null(reward_warning(reward));
    reward_destroy(reward);

    /* A long completion does not run out of the matcher's stack. */
    reward = make("regex", "^(?:(x)|y)*$");
    char *longest = NULL;
    assert_int_equal(mem_alloc(&longest, 200001, 1, "text", NULL), COHORT_OK);
    memset(longest, 'x', 200000);
    assert_int_equal(score(reward, "{}", longest, &value, &err), COHORT_OK);
    assert_true(value == 1);
    mem_free(longest);
    reward_destroy(reward);
}

/* Values of re.search of Python 3 with the same pattern and text. */
static void test_regex_unicode(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *completion;
        double reward;
    } cases[] = {
        {"^\\w+$", "caf\xc3\xa9", 1},
        {"^\\w+$", "\xe6\x97\xa5\xe6\x9c\xac", 1},
        {"^\\d+$", "\xd9\xa3\xd9\xa4", 1}, /* Arabic-Indic digits */
        {"^\\W+$", "\xc3\xa9", 0},
        {"a\\sb",
         "a\xc2\xa0"
         "b",
         1},
        {"\\bcaf\\b", "caf\xc3\xa9", 0},
        {"\\b\xc3\xa9t\xc3\xa9\\b", "un \xc3\xa9t\xc3\xa9.", 1},
        {"(?i)\xc3\x89T\xc3\x89", "\xc3\xa9t\xc3\xa9", 1},
        {"(?i)stra\xc3\x9f"
         "e",
         "STRASSE", 0},
        {"(?P<n>\\d)(?P=n)", "\xd9\xa3\xd9\xa3", 1},
        {"^.$", "\xf0\x9f\x98\x80", 1},
        {"b$", "a\xffz b", 1}, /* what is not UTF-8 is no error */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct reward *reward = make("regex", cases[i].pattern);
        double value = -1;
        assert_int_equal(score(reward, "{}", cases[i].completion, &value, NULL), COHORT_OK);
        if (value != cases[i].reward)
            fail_msg("'%s' in '%s' is %g", cases[i].pattern, cases[i].completion, value);
        reward_destroy(reward);
    }
}

static cohort_status whole_length(void *context, const struct reward_row *rows, size_t n_rows, double *rewards,
                                  double **lists, struct reward_log *log, cohort_error *err)
{
    (void)lists;
    (void)log;
    (void)context;
    (void)n_rows;
    (void)err;
    rewards[0] = (double)rows[0].completion_length;
    return COHORT_OK;
}

/* What follows a NUL is seen by every reward. */
static void test_nul(void **state)
{
    (void)state;
    static const char completion[] = "7\0 and more";
    json_t *data = json_pack("{s:s}", "answer", "7");
    struct reward_row row = {.data = data,
                             .prompt = "p",
                             .completion = completion,
                             .prompt_length = 1,
                             .completion_length = sizeof completion - 1,
                             .finish_reason = "eos"};
    struct reward *rewards[] = {make("accuracy", NULL), make("regex", "more$"), make("regex", "^7\\x00 and"), NULL};
    static const double right[] = {0, 1, 1, 11};
    assert_int_equal(reward_create_callback(&rewards[3], "length", whole_length, NULL, NULL), COHORT_OK);
    for (size_t i = 0; i < 4; i++) {
        double value = -1;
        assert_int_equal(reward_score(rewards[i], &row, 1, &value, NULL), COHORT_OK);
        if (value != right[i])
            fail_msg("reward %zu is %g", i, value);
        reward_destroy(rewards[i]);
    }
    static const char boxed[] = "\\boxed{7\0}", late[] = "a\0b \\boxed{7}";
    struct reward *reward = make("accuracy", NULL);
    double value = -1;
    row.completion = boxed;
    row.completion_length = sizeof boxed - 1;
    assert_int_equal(reward_score(reward, &row, 1, &value, NULL), COHORT_OK);
    assert_true(value == 0);
    row.completion = late;
    row.completion_length = sizeof late - 1;
    assert_int_equal(reward_score(reward, &row, 1, &value, NULL), COHORT_OK);
    assert_true(value == 1);
    reward_destroy(reward);
    json_decref(data);
}

/* Values of trl.rewards.think_format_reward. */
static void test_format(void **state)
{
    (void)state;
    static const struct {
        const char *completion;
        double reward;
    } cases[] = {
        {"<think>a</think>b", 1},
        {"<think>\nsome\nlines\n</think>\n\nThe answer\nis 4", 1},
        {"<think></think>", 1},
        {"<think>a</think> </think>", 1},
        {" <think>a</think>b", 0},
        {"x\n<think>a</think>b", 0}, /* MULTILINE, but re.match starts at the first character */
        {"<think>a<think>b</think>", 0},
        {"<think>a</think>b<think>", 0},
        {"<think>a", 0},
        {"a</think>b", 0},
        {"", 0},
    };
    struct reward *reward = make("format", "ignored");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        double value = -1;
        assert_int_equal(score(reward, "{}", cases[i].completion, &value, NULL), COHORT_OK);
        if (value != cases[i].reward)
            fail_msg("format of '%s' is %g", cases[i].completion, value);
    }
    reward_destroy(reward);
}

static cohort_status lengths(void *context, const struct reward_row *rows, size_t n_rows, double *rewards,
                             double **lists, struct reward_log *log, cohort_error *err)
{
    (void)lists;
    (void)log;
    double *scale = context;
    for (size_t i = 0; i < n_rows; i++) {
        if (rows[i].completion[0] == '!')
            return error_set(err, COHORT_ERR_REWARD, "no");
        if (rows[i].completion[0] != '?') /* left alone: null */
            rewards[i] = *scale * (double)strlen(rows[i].completion);
    }
    return COHORT_OK;
}

static void test_callback(void **state)
{
    (void)state;
    struct reward *reward = NULL;
    cohort_error err = {0};
    double scale = 2, value = 0;
    assert_int_equal(reward_create_callback(&reward, "length", lengths, &scale, &err), COHORT_OK);
    assert_string_equal(reward_name(reward), "length");
    assert_int_equal(score(reward, "{}", "abc", &value, &err), COHORT_OK);
    assert_true(value == 6);
    assert_int_equal(score(reward, "{}", "?", &value, &err), COHORT_OK);
    assert_true(isnan(value));
    assert_int_equal(score(reward, "{}", "!", &value, &err), COHORT_ERR_REWARD);
    scale = INFINITY;
    assert_int_equal(score(reward, "{}", "abc", &value, &err), COHORT_ERR_REWARD);
    assert_non_null(strstr(err.message, "infinite"));
    assert_int_equal(reward_score(reward, NULL, 0, NULL, &err), COHORT_OK);
    reward_destroy(reward);
    reward_destroy(NULL);
    assert_int_equal(reward_create_callback(&reward, "x", NULL, NULL, &err), COHORT_ERR_ARGUMENT);
}

static cohort_status misbehave(void *context, const struct reward_row *rows, size_t n_rows, double *rewards,
                               double **lists, struct reward_log *log, cohort_error *err)
{
    (void)lists;
    (void)log;
    const int *status = context;
    (void)rows;
    (void)n_rows;
    (void)rewards;
    if (*status == (int)COHORT_ERR_IO) /* a message without an end */
        memset(err->message, 'x', sizeof err->message);
    return (cohort_status)*status;
}

/* A function that breaks the contract gets a status with a message, whatever it does. */
static void test_callback_misuse(void **state)
{
    (void)state;
    static const struct {
        int status, becomes;
        const char *says;
    } cases[] = {
        {4711, COHORT_ERR_REWARD, "reward 'f': its function returned 4711, which is no cohort_status"},
        {-1, COHORT_ERR_REWARD, "returned -1"},
        {COHORT_ERR_NUMERIC, COHORT_ERR_NUMERIC, "reward 'f': its function failed (numeric error)"},
        {COHORT_ERR_IO, COHORT_ERR_IO, "xxx"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct reward *reward = NULL;
        cohort_error err = {.message = "of an earlier call"};
        int status = cases[i].status;
        double value = 0;
        assert_int_equal(reward_create_callback(&reward, "f", misbehave, &status, &err), COHORT_OK);
        assert_int_equal(score(reward, "{}", "a", &value, &err), cases[i].becomes);
        assert_int_equal(err.status, cases[i].becomes);
        if (strstr(err.message, cases[i].says) == NULL)
            fail_msg("\"%s\" does not say \"%s\"", err.message, cases[i].says);
        assert_int_equal(score(reward, "{}", "a", &value, NULL), cases[i].becomes);
        reward_destroy(reward);
    }
}

static void test_names(void **state)
{
    (void)state;
    static const struct pair names[] = {
        {"accuracy", "accuracy"},
        {"exec:true", "true"},
        {"exec:./a/check.py --x", "check.py"},
        {"exec: /usr/bin/python3 -u rewards/check.py --x", "check.py"},
        {"exec:env python3 check.py", "check.py"},
        {"exec:python3 -c 'x'", "python3"},
        {"exec:sh", "sh"},
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct reward *reward = make(names[i].completion, NULL);
        assert_string_equal(reward_name(reward), names[i].answer);
        reward_destroy(reward);
    }
    struct reward *reward = NULL;
    cohort_error err = {0};
    assert_int_equal(reward_create(&reward, "acuracy", NULL, &err), COHORT_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "exec:PROGRAM"));
    assert_int_equal(reward_create(&reward, "exec: ", NULL, &err), COHORT_ERR_ARGUMENT);
    struct reward_options options = {.timeout_s = -1};
    assert_int_equal(reward_create(&reward, "exec:true", &options, &err), COHORT_ERR_ARGUMENT);
    options.timeout_s = (double)NAN;
    assert_int_equal(reward_create(&reward, "exec:true", &options, &err), COHORT_ERR_ARGUMENT);
    assert_null(reward);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_extraction),      cmocka_unit_test(test_equal),         cmocka_unit_test(test_columns),
        cmocka_unit_test(test_regex),           cmocka_unit_test(test_format),        cmocka_unit_test(test_callback),
        cmocka_unit_test(test_names),           cmocka_unit_test(test_regex_unicode), cmocka_unit_test(test_nul),
        cmocka_unit_test(test_callback_misuse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Numbers as text: strict, shortest, and the same under a locale with a decimal comma (that part in
 * tests/fault/test_locale.c). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/number.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void test_read(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double value;
    } good[] = {{"0", 0},      {"-0", 0},        {"+5", 5},          {"5.", 5},       {".5", 0.5},
                {"-.5e1", -5}, {"1e5", 1e5},     {"1E-5", 1e-5},     {"1.e+3", 1000}, {"007", 7},
                {"0e999", 0},  {"1e308", 1e308}, {"5e-324", 5e-324}, {"0.1", 0.1},    {"1e-39", 1e-39}};
    static const char *const bad[] = {"",      "+",      ".",      "e5",    "1e",    "1e+", " 5",
                                      "5 ",    "1_000",  "0x10",   "inf",   "nan",   "1,5", "--1",
                                      "1e999", "1e-999", "-1e999", "1.2.3", "1e5.5", "1\n", "1f"};
    double value = 0;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(number_read(good[i].text, strlen(good[i].text), &value));
        assert_true(value == good[i].value);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (number_read(bad[i], strlen(bad[i]), &value))
            fail_msg("'%s' was read as %g", bad[i], value);
    assert_false(number_read("1\0002", 3, &value)); /* all of it */
    assert_true(number_read("12345", 3, &value) && value == 123);
}

static void test_read_integer(void **state)
{
    (void)state;
    int64_t value = 0;
    assert_true(number_read_integer("9223372036854775807", 19, &value) && value == INT64_MAX);
    assert_true(number_read_integer("-9223372036854775808", 20, &value) && value == INT64_MIN);
    assert_true(number_read_integer("+007", 4, &value) && value == 7);
    static const char *const bad[] = {
        "", "+", "-", "1.0", "1e3", "0x10", " 1", "1 ", "1_0", "--1", "9223372036854775808", "-9223372036854775809"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (number_read_integer(bad[i], strlen(bad[i]), &value))
            fail_msg("'%s' was read as %lld", bad[i], (long long)value);
}

static void test_write(void **state)
{
    (void)state;
    char text[NUMBER_BYTES];
    static const struct {
        double value;
        const char *text;
    } cases[] = {{0.1, "0.1"},
                 {100, "100"},
                 {1e15, "1000000000000000"},
                 {1e20, "1e+20"},
                 {1e-6, "1e-06"},
                 {0.00012, "0.00012"},
                 {-2.5, "-2.5"},
                 {1.0 / 3, "0.3333333333333333"},
                 {DBL_MAX, "1.7976931348623157e+308"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        number_write_double(cases[i].value, text);
        assert_string_equal(text, cases[i].text);
    }
    for (uint32_t i = 0; i < 20000; i++) { /* what is written reads back to the same bits */
        uint32_t bits = i * 2654435761u;
        float single;
        memcpy(&single, &bits, sizeof single);
        if (!isfinite(single))
            continue;
        number_write_float(single, text);
        assert_true(strtof(text, NULL) == single);
        double wide = (double)single * 1.1, back = 0;
        number_write_double(wide, text);
        assert_true(!number_read(text, strlen(text), &back) ? wide == 0 : back == wide);
    }
}

static void test_ascii(void **state)
{
    (void)state;
    assert_true(ascii_same("Title", "tITLE") && ascii_same("", ""));
    assert_false(ascii_same("a", "ab"));
    assert_false(ascii_same("ab", "a"));
    assert_false(ascii_same("\xc3\xa9", "\xc3\x89"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_read), cmocka_unit_test(test_read_integer),
                                       cmocka_unit_test(test_write), cmocka_unit_test(test_ascii)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

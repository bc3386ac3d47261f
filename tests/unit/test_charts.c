/* What a report is made of: text that stays text, curves that lose no extreme, charts with gaps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "report/chart.h"
#include "report/html.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static void test_text_stays_text(void **state)
{
    (void)state;
    static const char hostile[] = "</script><img onerror='x'>&\"\x1b[2J\x80\xe2\x80\xae\n\t\xc3\xa9\xff";
    struct text out = {0};
    cohort_error err = {0};
    assert_int_equal(html_text(&out, hostile, sizeof hostile - 1, &err), COHORT_OK);
    assert_string_equal(out.data,
                        "&lt;/script&gt;&lt;img onerror=&#39;x&#39;&gt;&amp;&quot;\\x1b[2J\xef\xbf\xbd\\u202e\n\t"
                        "\xc3\xa9\xef\xbf\xbd");
    text_free(&out);
}

static void test_cut_inside_no_character(void **state)
{
    (void)state;
    assert_int_equal(html_cut("a\xc3\xa9z", 4, 2), 3);
    assert_int_equal(html_cut("a\xc3\xa9z", 4, 9), 4);
    assert_int_equal(html_cut("\xff\xff", 2, 1), 1);
    assert_int_equal(html_cut("", 0, 5), 0);
}

static void test_style_hash(void **state)
{
    (void)state;
    struct text out = {0};
    cohort_error err = {0};
    /* printf abc | openssl dgst -sha256 -binary | base64 */
    assert_int_equal(html_style_hash(&out, "abc", 3, &err), COHORT_OK);
    assert_string_equal(out.data, "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=");
    text_free(&out);
}

enum { N = 10000 };

static void make(struct curve *curve, size_t n, double (*y)(size_t i))
{
    cohort_error err = {0};
    assert_int_equal(mem_alloc(&curve->x, n, sizeof *curve->x, "test", &err), COHORT_OK);
    assert_int_equal(mem_alloc(&curve->y, n, sizeof *curve->y, "test", &err), COHORT_OK);
    curve->n = n;
    for (size_t i = 0; i < n; i++) {
        curve->x[i] = (double)i;
        curve->y[i] = y(i);
    }
}

static double spike(size_t i) { return i == 7777 ? 9.0 : i == 3 ? -9.0 : (double)i / N; }
static double gap(size_t i) { return i == 4 ? NAN : 2.0; }
static double line(size_t i) { return (double)i; }

static void test_no_extreme_is_lost(void **state)
{
    (void)state;
    struct curve curve = {0}, thin = {0};
    cohort_error err = {0};
    make(&curve, N, spike);
    assert_int_equal(curve_thin(&curve, 100, &thin, &err), COHORT_OK);
    const struct curve_summary s = curve_summarise(&thin);
    assert_true(thin.n <= 202);
    assert_true(s.most == 9.0 && s.most_x == 7777.0 && s.least == -9.0 && s.least_x == 3.0);
    assert_true(thin.x[0] == 0.0 && thin.x[thin.n - 1] == N - 1);
    for (size_t i = 1; i < thin.n; i++)
        assert_true(thin.x[i - 1] < thin.x[i]);
    curve_free(&curve);
    curve_free(&thin);
}

static void test_smoothing(void **state)
{
    (void)state;
    struct curve curve = {0}, smooth = {0};
    cohort_error err = {0};
    make(&curve, 10, gap);
    assert_int_equal(curve_smooth(&curve, 3.0, &smooth, &err), COHORT_OK);
    for (size_t i = 0; i < 10; i++)
        assert_true(i == 4 ? isnan(smooth.y[i]) : fabs(smooth.y[i] - 2.0) < 1e-12);
    curve_free(&curve);
    curve_free(&smooth);
    make(&curve, 3, line);
    assert_int_equal(curve_smooth(&curve, 1.0, &smooth, &err), COHORT_OK);
    assert_true(fabs(smooth.y[2] - (0.25 * 0.0 + 0.5 * 1.0 + 1.0 * 2.0) / 1.75) < 1e-12); /* weights 1/4, 1/2, 1 */
    curve_free(&curve);
    curve_free(&smooth);
}

static void test_chart(void **state)
{
    (void)state;
    struct chart_series series = {.name = "a<b"};
    struct chart chart = {.title = "T & T", .series = &series, .n_series = 1, .limit = NAN, .alone = true};
    struct text out = {0};
    cohort_error err = {0};
    assert_int_equal(chart_write(&chart, &out, &err), COHORT_OK);
    assert_int_equal(out.length, 0); /* nothing to draw */
    make(&series.curve, 10, gap);
    assert_int_equal(chart_write(&chart, &out, &err), COHORT_OK);
    assert_non_null(strstr(out.data, "<title>T &amp; T</title>"));
    assert_non_null(strstr(out.data, "a&lt;b"));
    assert_null(strstr(out.data, "nan"));
    const char *path = strstr(out.data, "class=\"s0 line\" d=\"M");
    assert_non_null(path);
    const char *second = strchr(path + strlen("class=\"s0 line\" d=\"M"), 'M'); /* the pen is lifted once */
    assert_non_null(second);
    assert_true(second < strchr(path, '/'));
    /* In a page, which says below the chart which curve is which, there is no legend. */
    assert_non_null(strstr(out.data, "y=\"36\">a&lt;b</text>"));
    text_free(&out);
    chart.alone = false;
    assert_int_equal(chart_write(&chart, &out, &err), COHORT_OK);
    assert_null(strstr(out.data, "a&lt;b</text>"));
    curve_free(&series.curve);
    text_free(&out);
}

/* The name of a limit is over the curves, above its line, or below it where the legend is. */
static void test_limit(void **state)
{
    (void)state;
    struct chart_series series = {.name = "a"};
    const double limits[] = {5.0, 10.0};
    cohort_error err = {0};
    make(&series.curve, 10, line);
    for (size_t i = 0; i < 2; i++) {
        struct chart chart = {.title = "T", .series = &series, .n_series = 1, .limit = limits[i], .limit_name = "most"};
        struct text out = {0};
        double line_y = 0.0, name_y = 0.0;
        assert_int_equal(chart_write(&chart, &out, &err), COHORT_OK);
        const char *at = strstr(out.data, "class=\"limit\"");
        assert_non_null(at);
        assert_true(at > strstr(out.data, "class=\"s0 line\" d="));
        assert_int_equal(sscanf(strstr(at, "y1="), "y1=\"%lf", &line_y), 1);
        assert_int_equal(sscanf(strstr(at, "<text"), "<text class=\"soft named\" x=\"704\" y=\"%lf", &name_y), 1);
        assert_true(i == 0 ? name_y < line_y : name_y > line_y);
        text_free(&out);
    }
    curve_free(&series.curve);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_stays_text), cmocka_unit_test(test_cut_inside_no_character),
        cmocka_unit_test(test_style_hash),      cmocka_unit_test(test_no_extreme_is_lost),
        cmocka_unit_test(test_smoothing),       cmocka_unit_test(test_chart),
        cmocka_unit_test(test_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

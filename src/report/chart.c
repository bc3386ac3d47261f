#include "report/chart.h"

#include "report/html.h"

#include <math.h>
#include <string.h>

enum {
    WIDTH = 720,
    HEIGHT = 300,
    LEFT = 64,
    RIGHT = 16,
    TOP = 44,
    BOTTOM = 44,
    MAX_TICKS = 24,
    LINE_BUCKETS = 200,
    RAW_BUCKETS = 300,
    FEW_POINTS = 3,
    NAME_WIDTH = 7 /* of a letter of a legend, about */
};

/* Colours that keep their contrast on either ground, and dashes beside them. */
const char chart_style[] =
    ":root{--ground:#fff;--ink:#1a1a1a;--soft:#595959;--rule:#d0d0d0;--c0:#1d5fbf;--c1:#b4470a;--c2:#1b7a3d;--c3:#"
    "8a2fb0;"
    "--c4:#9a1d3a;--c5:#0d7080;--c6:#6b5a00;--c7:#444}"
    "@media(prefers-color-scheme:dark){:root{--ground:#161616;--ink:#ececec;--soft:#b0b0b0;--rule:#444;--c0:#7db0ff;"
    "--c1:#ffa06b;--c2:#7fd69b;--c3:#d79bf2;--c4:#ff8fa6;--c5:#6fd3e3;--c6:#d8c45a;--c7:#ccc}}"
    ".chart{background:var(--ground);font:12px sans-serif}.chart text{fill:var(--ink)}.chart .soft{fill:var(--soft)}"
    ".chart .named{paint-order:stroke;stroke:var(--ground);stroke-width:4px}.chart .title{font-size:15px}.chart "
    ".rule{stroke:var(--rule)}.chart .axis{stroke:var(--soft)}"
    ".chart .mark{stroke:var(--soft);stroke-dasharray:2 4}.chart .limit{stroke:var(--ink);stroke-dasharray:6 4}"
    ".chart path,.chart line{fill:none}.chart .raw{stroke-width:1;opacity:.4}.chart .line{stroke-width:2}"
    ".s0{stroke:var(--c0)}.s1{stroke:var(--c1);stroke-dasharray:8 3}.s2{stroke:var(--c2);stroke-dasharray:3 3}"
    ".s3{stroke:var(--c3);stroke-dasharray:10 3 2 3}.s4{stroke:var(--c4);stroke-dasharray:14 4}"
    ".s5{stroke:var(--c5);stroke-dasharray:2 2}.s6{stroke:var(--c6);stroke-dasharray:6 2 2 2}"
    ".s7{stroke:var(--c7);stroke-dasharray:1 4}.chart .raw,.chart .error{stroke-dasharray:none}"
    ".chart .dot{stroke-dasharray:none;fill:var(--ground);stroke-width:2}";

struct frame {
    double x0, x1, y0, y1; /* y as it is drawn: its decimal logarithm where log is true */
    bool log;
};

static double to_x(const struct frame *f, double x)
{
    return LEFT + (x - f->x0) / (f->x1 - f->x0) * (WIDTH - LEFT - RIGHT);
}

static double drawn(const struct frame *f, double y) { return f->log ? log10(y) : y; }

static double to_y(const struct frame *f, double y)
{
    return HEIGHT - BOTTOM - (drawn(f, y) - f->y0) / (f->y1 - f->y0) * (HEIGHT - TOP - BOTTOM);
}

/* 1, 2 or 5 times a power of ten, for about five ticks. */
static double tick_step(double range)
{
    const double power = pow(10.0, floor(log10(range / 5.0))), lead = range / 5.0 / power;
    return power * (lead > 5.0 ? 10.0 : lead > 2.0 ? 5.0 : lead > 1.0 ? 2.0 : 1.0);
}

/* Widens a range so that its ticks differ in double: it is never empty, and never so small beside its ends that ticks
 * would coincide. */
static void open_range(double *low, double *high)
{
    const double least = fmax(1e-9, fmax(fabs(*low), fabs(*high)) * 1e-6);
    if (*high - *low < least)
        *high = *low + (least < 1e-6 ? 1.0 : fmax(1.0, least));
}

static void widen(struct frame *f, double y)
{
    if (isnan(y))
        return;
    f->y0 = fmin(f->y0, drawn(f, y));
    f->y1 = fmax(f->y1, drawn(f, y));
}

/* false: there is nothing to draw. */
static bool frame_of(const struct chart *chart, struct frame *f)
{
    size_t finite = 0;
    *f = (struct frame){INFINITY, -INFINITY, INFINITY, -INFINITY, chart->log};
    for (size_t i = 0; i < chart->n_series; i++)
        for (size_t j = 0; j < chart->series[i].curve.n; j++)
            if (!(chart->series[i].curve.y[j] > 0.0) && !isnan(chart->series[i].curve.y[j]))
                f->log = false;
    for (size_t i = 0; i < chart->n_series; i++) {
        const struct chart_series *s = &chart->series[i];
        for (size_t j = 0; j < s->curve.n; j++) {
            if (isnan(s->curve.y[j]))
                continue;
            finite++;
            f->x0 = fmin(f->x0, s->curve.x[j]);
            f->x1 = fmax(f->x1, s->curve.x[j]);
            widen(f, s->curve.y[j]);
            if (s->error != NULL && !f->log) {
                widen(f, s->curve.y[j] - 1.96 * s->error[j]);
                widen(f, s->curve.y[j] + 1.96 * s->error[j]);
            }
        }
    }
    if (finite == 0)
        return false;
    if (chart->from_zero && !f->log)
        widen(f, 0.0);
    /* A limit far away would flatten the curve. */
    if (!isnan(chart->limit) && (!f->log || chart->limit > 0.0) &&
        fabs(drawn(f, chart->limit) - f->y1) <= 2.0 * fmax(f->y1 - f->y0, 1e-9))
        widen(f, chart->limit);
    open_range(&f->x0, &f->x1);
    open_range(&f->y0, &f->y1);
    const double dy = tick_step(f->y1 - f->y0);
    f->y0 = floor(f->y0 / dy) * dy;
    f->y1 = ceil(f->y1 / dy) * dy;
    return true;
}

static cohort_status draw_axes(const struct frame *f, struct text *out, cohort_error *err)
{
    const double dx = tick_step(f->x1 - f->x0), dy = tick_step(f->y1 - f->y0);
    /* Ticks are counted, not summed: if values are so large that adding a tick changes nothing, a loop over sums would
     * not end. */
    for (int i = 0; i < MAX_TICKS; i++) {
        const double y = (ceil(f->y0 / dy) + i) * dy,
                     at = HEIGHT - BOTTOM - (y - f->y0) / (f->y1 - f->y0) * (HEIGHT - TOP - BOTTOM);
        if (!(y <= f->y1 + dy * 1e-9))
            break;
        TRY(text_printf(out, err,
                        "<line class=\"rule\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/><text class=\"soft\" "
                        "x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.4g</text>\n",
                        LEFT, WIDTH - RIGHT, at, at, LEFT - 6, at + 4.0,
                        f->log                ? pow(10.0, y)
                        : fabs(y) < dy * 1e-6 ? 0.0
                                              : y));
    }
    for (int i = 0; i < MAX_TICKS; i++) {
        const double x = (ceil(f->x0 / dx) + i) * dx;
        if (!(x <= f->x1 + dx * 1e-9))
            break;
        TRY(text_printf(out, err, "<text class=\"soft\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.6g</text>\n",
                        to_x(f, x), HEIGHT - BOTTOM + 20, x));
    }
    return text_printf(out, err,
                       "<line class=\"axis\" x1=\"%d\" x2=\"%d\" y1=\"%d\" y2=\"%d\"/><text class=\"soft\" x=\"%d\" "
                       "y=\"%d\" text-anchor=\"middle\">step</text>\n",
                       LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM, HEIGHT - BOTTOM, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 5);
}

/* A line with gaps where the curve has none. A point between two gaps is a short stroke. */
static cohort_status draw_path(const struct frame *f, const struct curve *curve, size_t series, const char *class,
                               struct text *out, cohort_error *err)
{
    bool pen = false;
    TRY(text_printf(out, err, "<path class=\"s%zu %s\" d=\"", series, class));
    for (size_t i = 0; i < curve->n; i++) {
        const bool there = !isnan(curve->y[i]);
        if (there)
            TRY(text_printf(out, err, "%s%.1f,%.1f", pen ? " " : "M", to_x(f, curve->x[i]), to_y(f, curve->y[i])));
        if (there && !pen && (i + 1 == curve->n || isnan(curve->y[i + 1])))
            TRY(text_append(out, "h1", 2, err));
        pen = there;
    }
    return text_append(out, "\"/>\n", 4, err);
}

static cohort_status draw_dots(const struct frame *f, const struct chart_series *s, size_t series, struct text *out,
                               cohort_error *err)
{
    for (size_t i = 0; i < s->curve.n; i++) {
        const double x = s->curve.x[i], y = s->curve.y[i], e = s->error == NULL || f->log ? NAN : 1.96 * s->error[i];
        if (isnan(y))
            continue;
        if (!isnan(e))
            TRY(text_printf(out, err, "<line class=\"s%zu error\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>\n",
                            series, to_x(f, x), to_x(f, x), to_y(f, y - e), to_y(f, y + e)));
        TRY(text_printf(out, err, "<circle class=\"s%zu dot\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\"/>\n", series, to_x(f, x),
                        to_y(f, y)));
    }
    return COHORT_OK;
}

static cohort_status draw_series(const struct chart *chart, const struct frame *f, size_t i, struct text *out,
                                 cohort_error *err)
{
    const struct chart_series *s = &chart->series[i];
    struct curve smooth = {0}, thin = {0}, raw = {0};
    cohort_status status = COHORT_OK;
    if (s->dots || s->curve.n <= FEW_POINTS) {
        TRY(draw_path(f, &s->curve, i, "line", out, err));
        return draw_dots(f, s, i, out, err);
    }
    TRY_GOTO(curve_thin(&s->curve, RAW_BUCKETS, &raw, err));
    TRY_GOTO(draw_path(f, &raw, i, s->exact ? "line" : "raw", out, err));
    if (s->exact)
        goto cleanup;
    TRY_GOTO(curve_smooth(&s->curve, curve_half_life(s->curve.n), &smooth, err));
    TRY_GOTO(curve_thin(&smooth, LINE_BUCKETS, &thin, err));
    TRY_GOTO(draw_path(f, &thin, i, "line", out, err));
cleanup:
    curve_free(&smooth);
    curve_free(&thin);
    curve_free(&raw);
    return status;
}

static cohort_status draw_marks(const struct chart *chart, const struct frame *f, struct text *out, cohort_error *err)
{
    for (size_t i = 0; i < chart->n_marks; i++) {
        const double x = chart->marks[i].x;
        if (!(x >= f->x0 && x <= f->x1))
            continue;
        TRY(text_printf(out, err, "<line class=\"mark\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"><title>",
                        to_x(f, x), to_x(f, x), TOP, HEIGHT - BOTTOM));
        TRY(html_string(out, chart->marks[i].word, err));
        TRY(text_printf(out, err, " at step %.0f</title></line>\n", x));
    }
    return COHORT_OK;
}

/* Over the curves; its name below the line where above it there is the legend. */
static cohort_status draw_limit(const struct chart *chart, const struct frame *f, struct text *out, cohort_error *err)
{
    if (isnan(chart->limit) || (f->log && !(chart->limit > 0.0)) || drawn(f, chart->limit) < f->y0 ||
        drawn(f, chart->limit) > f->y1)
        return COHORT_OK;
    const double y = to_y(f, chart->limit);
    TRY(text_printf(out, err,
                    "<line class=\"limit\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/><text class=\"soft named\" "
                    "x=\"%d\" y=\"%.1f\" text-anchor=\"end\">",
                    LEFT, WIDTH - RIGHT, y, y, WIDTH - RIGHT, y < TOP + 12 ? y + 14.0 : y - 4.0));
    TRY(html_string(out, chart->limit_name, err));
    return text_append(out, "</text>\n", 8, err);
}

/* From the right, behind the title. A page says below a chart which curve is which. */
static cohort_status draw_legend(const struct chart *chart, struct text *out, cohort_error *err)
{
    int x = WIDTH - RIGHT;
    for (size_t i = chart->n_series; i-- > 0;) {
        const char *name = chart->series[i].name;
        x -= (int)strlen(name) * NAME_WIDTH + 34;
        if (x < LEFT) /* the table names the rest */
            break;
        TRY(text_printf(out, err,
                        "<line class=\"s%zu line\" x1=\"%d\" x2=\"%d\" y1=\"32\" y2=\"32\"/><text x=\"%d\" y=\"36\">",
                        i, x, x + 22, x + 27));
        TRY(html_string(out, name, err));
        TRY(text_append(out, "</text>\n", 8, err));
    }
    return COHORT_OK;
}

cohort_status chart_describe(const struct chart_series *series, struct text *out, cohort_error *err)
{
    const struct curve_summary s = curve_summarise(&series->curve);
    if (s.n == 0)
        return COHORT_OK;
    TRY(html_string(out, series->name, err));
    if (s.n == 1)
        return text_printf(out, err, " is %.4g at step %.0f.", s.first, s.last_x);
    const double spread = s.most - s.least, change = s.late - s.early;
    TRY(text_printf(out, err, " %s from %.4g to %.4g",
                    fabs(change) <= 0.05 * spread || spread == 0.0 ? "stayed, going"
                    : change > 0.0                                 ? "rose"
                                                                   : "fell",
                    s.early, s.late));
    return text_printf(out, err, " (lowest %.4g at step %.0f, highest %.4g at step %.0f).", s.least, s.least_x, s.most,
                       s.most_x);
}

cohort_status chart_write(const struct chart *chart, struct text *out, cohort_error *err)
{
    struct frame f;
    if (!frame_of(chart, &f))
        return COHORT_OK;
    TRY(text_printf(out, err,
                    "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" role=\"img\" viewBox=\"0 0 %d %d\"%s>\n",
                    WIDTH, HEIGHT, chart->alone ? " width=\"720\" height=\"300\"" : ""));
    if (chart->alone)
        TRY(text_printf(out, err,
                        "<style>%s</style>\n<rect width=\"100%%\" height=\"100%%\" fill=\"var(--ground)\"/>\n",
                        chart_style));
    TRY(text_append(out, "<title>", 7, err));
    TRY(html_string(out, chart->title, err));
    TRY(text_append(out, "</title><desc>", 14, err));
    for (size_t i = 0; i < chart->n_series; i++) {
        TRY(chart_describe(&chart->series[i], out, err));
        TRY(text_append(out, " ", 1, err));
    }
    TRY(text_printf(out, err, "</desc>\n<text class=\"title\" x=\"%d\" y=\"20\">", LEFT));
    TRY(html_string(out, chart->title, err));
    TRY(text_append(out, "</text>\n", 8, err));
    TRY(draw_axes(&f, out, err));
    TRY(draw_marks(chart, &f, out, err));
    for (size_t i = 0; i < chart->n_series; i++)
        TRY(draw_series(chart, &f, i, out, err));
    TRY(draw_limit(chart, &f, out, err));
    if (chart->alone)
        TRY(draw_legend(chart, out, err));
    return text_append(out, "</svg>\n", 7, err);
}

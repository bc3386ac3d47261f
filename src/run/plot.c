/* Draws a metric against steps as an SVG. */
#include "run/run_folder.h"

#include "base/json_text.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

enum { WIDTH = 720, HEIGHT = 400, LEFT = 60, RIGHT = 20, TOP = 40, BOTTOM = 50, MAX_TICKS = 24 };

struct series {
    double *x, *y;
    size_t count, x_capacity, y_capacity;
};

static cohort_status add_point(struct series *s, double x, double y, cohort_error *err)
{
    TRY(mem_grow(&s->x, &s->x_capacity, s->count + 1, sizeof *s->x, "plot", err));
    TRY(mem_grow(&s->y, &s->y_capacity, s->count + 1, sizeof *s->y, "plot", err));
    s->x[s->count] = x;
    s->y[s->count++] = y;
    return COHORT_OK;
}

static cohort_status read_series(const char *path, const char *metric, struct series *s, cohort_error *err)
{
    struct text content = {0};
    cohort_status status = COHORT_OK;
    TRY_GOTO(file_read(path, 0, &content, err));
    for (char *line = content.data; *line != '\0' && status == COHORT_OK;) {
        size_t length = strcspn(line, "\n");
        json_t *json = NULL;
        status = json_text_parse(&json, line, length, path, 1, 0, NULL);
        if (status == COHORT_ERR_FORMAT) /* a last line that was cut short */
            status = COHORT_OK;
        const json_t *x = json_object_get(json, "step"), *y = json_object_get(json, metric);
        if (json_is_number(x) && json_is_number(y))
            status = add_point(s, json_number_value(x), json_number_value(y), err);
        json_decref(json);
        line += length + (line[length] == '\n');
    }
cleanup:
    text_free(&content);
    return status;
}

struct frame {
    double x0, x1, y0, y1;
};

static double to_x(const struct frame *f, double x)
{
    return LEFT + (x - f->x0) / (f->x1 - f->x0) * (WIDTH - LEFT - RIGHT);
}

static double to_y(const struct frame *f, double y)
{
    return HEIGHT - BOTTOM - (y - f->y0) / (f->y1 - f->y0) * (HEIGHT - TOP - BOTTOM);
}

/* 1, 2 or 5 times a power of ten, for about five ticks. */
static double tick_step(double range)
{
    double power = pow(10.0, floor(log10(range / 5.0))), lead = range / 5.0 / power;
    return power * (lead > 5.0 ? 10.0 : lead > 2.0 ? 5.0 : lead > 1.0 ? 2.0 : 1.0);
}

static void widen(struct frame *f, const struct series *s)
{
    for (size_t i = 0; i < s->count; i++) {
        f->x0 = fmin(f->x0, s->x[i]);
        f->x1 = fmax(f->x1, s->x[i]);
        f->y0 = fmin(f->y0, s->y[i]);
        f->y1 = fmax(f->y1, s->y[i]);
    }
}

/* Widens a range so that its ticks differ in double: it is never empty, and never so small beside its ends that ticks
 * would coincide. */
static void open_range(double *low, double *high)
{
    double least = fmax(1e-9, fmax(fabs(*low), fabs(*high)) * 1e-6);
    if (*high - *low < least)
        *high = *low + (least < 1e-6 ? 1.0 : fmax(1.0, least));
}

/* Extends the range so that the lowest and the highest value lie between two ticks and both can be read. */
static void round_out(struct frame *f)
{
    double dy = tick_step(f->y1 - f->y0);
    f->y0 = floor(f->y0 / dy) * dy;
    f->y1 = ceil(f->y1 / dy) * dy;
}

static cohort_status draw_axes(const struct frame *f, const char *title, struct text *svg, cohort_error *err)
{
    TRY(text_printf(svg, err,
                    "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
                    "font-family=\"sans-serif\" font-size=\"12\">\n"
                    "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n<text x=\"%d\" "
                    "y=\"24\" font-size=\"15\">%s</text>\n",
                    WIDTH, HEIGHT, LEFT, title));
    double dx = tick_step(f->x1 - f->x0), dy = tick_step(f->y1 - f->y0);
    /* Ticks are counted, not summed: if values are so large that adding a tick changes nothing, a loop over sums would
     * not end. */
    for (int i = 0; i < MAX_TICKS; i++) {
        double y = (ceil(f->y0 / dy) + i) * dy;
        if (!(y <= f->y1 + dy * 1e-9))
            break;
        TRY(text_printf(svg, err,
                        "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#ddd\"/><text "
                        "x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.4g</text>\n",
                        LEFT, WIDTH - RIGHT, to_y(f, y), to_y(f, y), LEFT - 6, to_y(f, y) + 4,
                        fabs(y) < dy * 1e-6 ? 0.0 : y));
    }
    for (int i = 0; i < MAX_TICKS; i++) {
        double x = (ceil(f->x0 / dx) + i) * dx;
        if (!(x <= f->x1 + dx * 1e-9))
            break;
        TRY(text_printf(svg, err, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.6g</text>\n", to_x(f, x),
                        HEIGHT - BOTTOM + 18, x));
    }
    return text_printf(svg, err,
                       "<line x1=\"%d\" x2=\"%d\" y1=\"%d\" y2=\"%d\" stroke=\"black\"/><text "
                       "x=\"%d\" y=\"%d\" text-anchor=\"middle\">step</text>\n",
                       LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM, HEIGHT - BOTTOM, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12);
}

static cohort_status draw_line(const struct frame *f, const struct series *s, const char *colour, double width,
                               struct text *svg, cohort_error *err)
{
    TRY(text_printf(svg, err, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"%.1f\" points=\"", colour, width));
    for (size_t i = 0; i < s->count; i++)
        TRY(text_printf(svg, err, "%.1f,%.1f ", to_x(f, s->x[i]), to_y(f, s->y[i])));
    return text_append(svg, "\"/>\n", 4, err);
}

/* Evaluations are few: a dot for each shows how far apart they are. */
static cohort_status draw_dots(const struct frame *f, const struct series *s, const char *colour, struct text *svg,
                               cohort_error *err)
{
    for (size_t i = 0; i < s->count; i++)
        TRY(text_printf(svg, err, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"/>\n", to_x(f, s->x[i]),
                        to_y(f, s->y[i]), colour));
    return COHORT_OK;
}

static cohort_status draw_legend(int row, const char *colour, const char *name, struct text *svg, cohort_error *err)
{
    return text_printf(svg, err,
                       "<rect x=\"%d\" y=\"%d\" width=\"14\" height=\"4\" fill=\"%s\"/><text "
                       "x=\"%d\" y=\"%d\">%s</text>\n",
                       WIDTH - 190, 14 + 14 * row, colour, WIDTH - 170, 20 + 14 * row, name);
}

cohort_status run_plot(const struct run_folder *run, const char *metric, const char *eval_metric, const char *title,
                       const char *file_name, cohort_error *err)
{
    struct series values = {0}, held_out = {0};
    struct text svg = {0};
    cohort_status status = COHORT_OK;
    struct frame f = {.x0 = INFINITY, .x1 = -INFINITY, .y0 = INFINITY, .y1 = -INFINITY};
    TRY_GOTO(read_series(run->logs[RUN_METRICS].path, metric, &values, err));
    if (eval_metric != NULL)
        TRY_GOTO(read_series(run->logs[RUN_METRICS].path, eval_metric, &held_out, err));
    widen(&f, &values);
    widen(&f, &held_out);
    if (values.count + held_out.count == 0)
        goto cleanup;
    open_range(&f.x0, &f.x1);
    open_range(&f.y0, &f.y1);
    round_out(&f);
    TRY_GOTO(draw_axes(&f, title, &svg, err));
    TRY_GOTO(draw_line(&f, &values, "#7799dd", 1.2, &svg, err));
    TRY_GOTO(draw_legend(0, "#7799dd", metric, &svg, err));
    if (held_out.count > 0) {
        TRY_GOTO(draw_line(&f, &held_out, "#cc5500", 2.0, &svg, err));
        TRY_GOTO(draw_dots(&f, &held_out, "#cc5500", &svg, err));
        TRY_GOTO(draw_legend(1, "#cc5500", eval_metric, &svg, err));
    }
    TRY_GOTO(text_append(&svg, "</svg>\n", 7, err));
    TRY_GOTO(run_folder_write(run, file_name, svg.data, svg.length, err));
cleanup:
    mem_free(values.x);
    mem_free(values.y);
    mem_free(held_out.x);
    mem_free(held_out.y);
    text_free(&svg);
    return status;
}

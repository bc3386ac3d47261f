#include "report/run_plot.h"

#include "base/file.h"
#include "base/json_text.h"
#include "report/chart.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

static cohort_status add_point(struct curve *curve, size_t *x_room, size_t *y_room, double x, double y,
                               cohort_error *err)
{
    TRY(mem_grow(&curve->x, x_room, curve->n + 1, sizeof *curve->x, "plot", err));
    TRY(mem_grow(&curve->y, y_room, curve->n + 1, sizeof *curve->y, "plot", err));
    curve->x[curve->n] = x;
    curve->y[curve->n++] = y;
    return COHORT_OK;
}

static cohort_status read_curve(const char *path, const char *metric, struct curve *curve, cohort_error *err)
{
    struct text content = {0};
    size_t x_room = 0, y_room = 0;
    cohort_status status = COHORT_OK;
    TRY_GOTO(file_read(path, 0, &content, err));
    for (char *line = content.data; *line != '\0' && status == COHORT_OK;) {
        size_t length = strcspn(line, "\n");
        json_t *json = NULL;
        status = json_text_parse(&json, line, length, path, 1, 0, err);
        if (status == COHORT_ERR_FORMAT) /* a last line that was cut short */
            status = COHORT_OK;
        const json_t *x = json_object_get(json, "step"), *y = json_object_get(json, metric);
        if (json_is_number(x) && json_is_number(y))
            status = add_point(curve, &x_room, &y_room, json_number_value(x), json_number_value(y), err);
        json_decref(json);
        line += length + (line[length] == '\n');
    }
cleanup:
    text_free(&content);
    return status;
}

cohort_status run_plot(const struct run_folder *run, const char *metric, const char *eval_metric, const char *title,
                       const char *file_name, cohort_error *err)
{
    struct chart_series series[] = {{.name = metric}, {.name = eval_metric, .dots = true}};
    struct chart chart = {.title = title, .series = series, .n_series = 1, .limit = NAN, .alone = true};
    struct text svg = {0};
    cohort_status status = COHORT_OK;
    TRY_GOTO(read_curve(run->logs[RUN_METRICS].path, metric, &series[0].curve, err));
    if (eval_metric != NULL)
        TRY_GOTO(read_curve(run->logs[RUN_METRICS].path, eval_metric, &series[1].curve, err));
    chart.n_series += series[1].curve.n > 0;
    TRY_GOTO(chart_write(&chart, &svg, err));
    if (svg.length > 0)
        TRY_GOTO(run_folder_write(run, file_name, svg.data, svg.length, err));
cleanup:
    curve_free(&series[0].curve);
    curve_free(&series[1].curve);
    text_free(&svg);
    return status;
}

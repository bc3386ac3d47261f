/* cohort plot: curves of a run's metrics. */
#include "command/command.h"
#include "base/file.h"
#include "recipe/runs_view.h"
#include "report/report_charts.h"

#include <string.h>

/* What is drawn where --metric does not say. */
static void choose(const struct report_run *run, const char **names, size_t *n)
{
    names[(*n)++] = report_run_takes_rows(run) ? "loss" : "reward";
    for (size_t i = 0; i < run->n_names && *n < CHART_SERIES; i++)
        if (report_run_takes_rows(run) ? strcmp(run->names[i], "eval_loss") == 0 : report_is_eval_reward(run->names[i]))
            names[(*n)++] = run->names[i];
}

static cohort_status check_names(const struct report_run *run, const char *const *names, size_t n, cohort_error *err)
{
    for (size_t i = 0; i < n; i++) {
        bool known = run->n_names == 0;
        for (size_t j = 0; j < run->n_names; j++)
            known = known || strcmp(names[i], run->names[j]) == 0;
        if (!known)
            return error_set(err, COHORT_ERR_ARGUMENT,
                             "--metric %s: %s has no such metric; 'cohort runs show' lists those that it has", names[i],
                             run->run->name);
    }
    return COHORT_OK;
}

cohort_status command_plot(struct options *options, const struct reward_list *extra, const cohort_observer *observer,
                           cohort_error *err)
{
    const struct runs_view view = {.options = options, .observer = observer};
    const char *out = options_string(options, OPTION_OUT), *names[CHART_SERIES];
    size_t n = options_list_count(options, OPTION_METRIC);
    struct report_run run = {0};
    char *folder = NULL, *path = NULL;
    struct text title = {0}, svg = {0}, said = {0};
    cohort_status status = COHORT_OK;
    (void)extra;
    if (options_list_count(options, OPTION_RUN) != 1)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "plot takes one run, as in: cohort plot NAME; several go into one chart with cohort report");
    if (n > CHART_SERIES)
        return error_set(err, COHORT_ERR_ARGUMENT, "--metric: %zu metrics in one chart, at most %d can be told apart",
                         n, CHART_SERIES);
    for (size_t i = 0; i < n; i++)
        names[i] = options_list_item(options, OPTION_METRIC, i);
    TRY_GOTO(runs_find(&view, options_list_item(options, OPTION_RUN, 0), &folder, err));
    TRY_GOTO(report_run_open(&run, folder, err));
    if (n == 0)
        choose(&run, names, &n);
    TRY_GOTO(check_names(&run, names, n, err));
    TRY_GOTO(text_printf(&title, err, "%s: %s", run.run->name, names[0]));
    TRY_GOTO(report_plot(&run, title.data, names, n, &svg, err));
    if (svg.length == 0) {
        status = error_set(err, COHORT_ERR_FORMAT, "%s: no step with %s is recorded yet", folder, names[0]);
        goto cleanup;
    }
    if (out == NULL) {
        text_free(&title);
        TRY_GOTO(text_printf(&title, err, "%s.svg", names[0]));
        for (char *at = title.data; *at != '\0'; at++)
            *at = *at == '/' ? '-' : *at;
        TRY_GOTO(file_join(&path, folder, title.data, err));
    }
    TRY_GOTO(file_write_atomic(out == NULL ? path : out, svg.data, svg.length, err));
    TRY_GOTO(text_printf(&said, err, "%s\n", out == NULL ? path : out));
    observer_output(observer, &said);
cleanup:
    report_run_close(&run);
    mem_free(folder);
    mem_free(path);
    text_free(&title);
    text_free(&svg);
    text_free(&said);
    return status;
}

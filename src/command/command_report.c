/* cohort report: a page about runs. */
#include "command/command.h"
#include "base/file.h"
#include "recipe/runs_view.h"
#include "report/report_page.h"

#include <string.h>

cohort_status command_report(struct options *options, const struct reward_list *extra, const cohort_observer *observer,
                             cohort_error *err)
{
    const struct runs_view view = {.options = options, .observer = observer};
    const size_t n = options_list_count(options, OPTION_RUN);
    const char *out = options_string(options, OPTION_OUT);
    struct report_run runs[CHART_SERIES] = {0};
    char *folder = NULL, *path = NULL;
    struct text page = {0}, said = {0};
    cohort_status status = COHORT_OK;
    (void)extra;
    if (n < 1 || n > CHART_SERIES)
        return error_set(err, COHORT_ERR_ARGUMENT, "report takes one to %d runs, as in: cohort report NAME",
                         CHART_SERIES);
    if (n > 1 && out == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "a report of several runs needs the file to write: --out FILE.html");
    for (size_t i = 0; i < n; i++) {
        mem_free(folder);
        TRY_GOTO(runs_find(&view, options_list_item(options, OPTION_RUN, i), &folder, err));
        TRY_GOTO(report_run_open(&runs[i], folder, err));
    }
    TRY_GOTO(report_page(runs, n, &page, err));
    if (out == NULL)
        TRY_GOTO(file_join(&path, folder, "report.html", err));
    TRY_GOTO(file_write_atomic(out == NULL ? path : out, page.data, page.length, err));
    TRY_GOTO(text_printf(&said, err, "%s\n", out == NULL ? path : out));
    observer_output(observer, &said);
cleanup:
    for (size_t i = 0; i < CHART_SERIES; i++)
        report_run_close(&runs[i]);
    mem_free(folder);
    mem_free(path);
    text_free(&page);
    text_free(&said);
    return status;
}

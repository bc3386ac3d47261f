#include "report/report_page.h"

#include "base/clock.h"
#include "base/json_text.h"
#include "report/html.h"
#include "report/report_samples.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Charts are drawn in units that grow and shrink with their width: letters by where they stand, so that they stay of one size. */
static const char page_style[] =
    "*{box-sizing:border-box}body{margin:0 "
    "auto;max-width:1180px;padding:16px;background:var(--ground);color:var(--ink);"
    "font:15px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}h1{font-size:24px;margin:8px 0}h2{font-size:19px;"
    "margin:32px 0 8px;border-bottom:1px solid var(--rule)}h3{font-size:16px;margin:16px 0 4px}a{color:var(--c0)}"
    "a:focus-visible,summary:focus-visible,.scroll:focus-visible{outline:3px solid var(--c0)}"
    ".skip{position:absolute;left:-999px}.skip:focus{position:static}.verdict{font-size:18px;margin:8px 0}"
    "figure{margin:12px 0;max-width:880px}figcaption,.soft{color:var(--soft);font-size:14px}"
    "svg.chart{width:100%;height:auto;overflow:visible}.key{width:26px;height:10px}.key line{stroke-width:2}"
    ".chart .soft{font-size:inherit}.charts .chart{font-size:15px}.charts .chart .title{font-size:20px}"
    "@media(max-width:600px){.chart,.charts .chart{font-size:22px}.chart .title,.charts .chart .title{font-size:26px}"
    ".chart path.line,.chart .dot{stroke-width:3}}"
    ".charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,480px),1fr));gap:8px 24px}"
    "table{border-collapse:collapse;font-size:14px}th,td{text-align:left;vertical-align:top;padding:3px 12px 3px 0;"
    "border-bottom:1px solid var(--rule)}th{overflow-wrap:break-word}.times td,.times th{white-space:nowrap}"
    ".scroll{overflow-x:auto}pre{white-space:pre-wrap;overflow-wrap:anywhere;"
    "margin:4px "
    "0;font-size:13px}.samples{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,280px),1fr));"
    "gap:12px}.sample{border:1px solid var(--rule);border-radius:4px;padding:8px}.prompt{border-left:3px solid "
    "var(--soft);"
    "padding-left:8px}.warning{border-left:4px solid "
    "var(--c1);padding-left:8px}.bar{height:14px;width:100%;min-width:100px}"
    "@media print{details>*{display:block}}";

static cohort_status write_cell(struct text *out, const char *head, const char *value, cohort_error *err)
{
    if (value == NULL || *value == '\0')
        return COHORT_OK;
    TRY(text_printf(out, err, "<tr><th scope=\"row\">%s</th><td><bdi>", head));
    TRY(html_string(out, value, err));
    return text_printf(out, err, "</bdi></td></tr>\n");
}

/* "3 h 12 min", "41 s". */
static void write_span(double seconds, char out[48])
{
    const long whole = (long)fmax(seconds, 0.0);
    if (whole >= 3600)
        snprintf(out, 48, "%ld h %ld min", whole / 3600, whole % 3600 / 60);
    else if (whole >= 60)
        snprintf(out, 48, "%ld min %ld s", whole / 60, whole % 60);
    else
        snprintf(out, 48, "%ld s", whole);
}

/* ---- the verdict ---- */

static const char *first_eval_reward(const struct report_run *run)
{
    for (size_t i = 0; i < run->n_names; i++)
        if (report_is_eval_reward(run->names[i]))
            return run->names[i];
    return NULL;
}

static cohort_status say_held_out(struct report_run *run, const char *name, bool *said, struct text *out,
                                  cohort_error *err)
{
    struct curve curve = {0};
    double *error = NULL;
    TRY(report_eval_curve(run, name, &curve, &error, err));
    const struct curve_summary s = curve_summarise(&curve);
    cohort_status status = COHORT_OK;
    *said = s.n >= 2;
    if (*said) {
        const double change = s.last - s.first,
                     chance = error == NULL ? NAN : 2.0 * hypot(error[0], error[curve.n - 1]);
        status = text_printf(out, err, "%s Held-out reward %s from %.3g to %.3g in %zu evaluations%s.",
                             isnan(chance)      ? ""
                             : change > chance  ? "It learned."
                             : change < -chance ? "It became worse."
                                                : "It did not learn more than chance explains.",
                             change > 0.0   ? "rose"
                             : change < 0.0 ? "fell"
                                            : "stayed, going",
                             s.first, s.last, s.n,
                             isnan(chance) ? " (its standard error is not known: completions were not kept)" : "");
        if (status == COHORT_OK && s.most > s.last && s.most_x < s.last_x)
            status = text_printf(out, err, " Its best was %.3g at step %.0f.", s.most, s.most_x);
    }
    curve_free(&curve);
    mem_free(error);
    return status;
}

static cohort_status say_trained(struct report_run *run, const char *metric, const char *what, struct text *out,
                                 cohort_error *err)
{
    struct curve curve = {0};
    TRY(report_curve(run, metric, &curve, err));
    const struct curve_summary s = curve_summarise(&curve);
    curve_free(&curve);
    if (s.n == 0)
        return text_printf(out, err, "No step is recorded yet.");
    return text_printf(out, err, "%s went from %.3g to %.3g (means of the first and the last tenth of %zu steps).",
                       what, s.early, s.late, s.n);
}

static cohort_status write_verdict(struct report_run *run, struct text *out, cohort_error *err)
{
    const char *name = first_eval_reward(run);
    bool said = false;
    TRY(text_printf(out, err, "<p class=\"verdict\">"));
    if (report_run_takes_rows(run)) {
        TRY(say_trained(run, "loss", "The loss", out, err));
        struct curve curve = {0};
        TRY(report_curve(run, "eval_loss", &curve, err));
        const struct curve_summary s = curve_summarise(&curve);
        curve_free(&curve);
        if (s.n >= 2)
            TRY(text_printf(out, err, " The held-out loss went from %.4g to %.4g, its lowest was %.4g at step %.0f.",
                            s.first, s.last, s.least, s.least_x));
    } else {
        if (name != NULL)
            TRY(say_held_out(run, name, &said, out, err));
        if (!said) {
            TRY(say_trained(run, "reward", "The training reward", out, err));
            TRY(text_printf(out, err, " There is no held-out set to confirm it by (--eval-data)."));
        }
    }
    TRY(text_printf(out, err, "</p>\n<p>"));
    if (run->warnings == 0)
        TRY(text_printf(out, err, "No warning was recorded."));
    else
        TRY(text_printf(out, err, "<a href=\"#warnings\">%zu warning%s</a> recorded.", run->warnings,
                        run->warnings == 1 ? " is" : "s are"));
    return text_printf(out, err, "</p>\n");
}

/* ---- what on what ---- */

struct listing {
    struct text *out;
    cohort_status status;
    cohort_error *err;
    bool any;
};

static bool add_input(void *context, const cohort_stored_input *input)
{
    struct listing *l = context;
    l->status = text_printf(l->out, l->err, "<tr><th scope=\"row\">");
    if (l->status == COHORT_OK)
        l->status = html_string(l->out, input->kind, l->err);
    if (l->status == COHORT_OK)
        l->status = text_printf(l->out, l->err, "</th><td><bdi>");
    if (l->status == COHORT_OK)
        l->status = html_string(l->out, input->path, l->err);
    if (l->status == COHORT_OK)
        l->status = text_printf(l->out, l->err, "</bdi><br><span class=\"soft\">sha256 ");
    if (l->status == COHORT_OK)
        l->status = html_string(l->out, input->sha256, l->err);
    if (l->status == COHORT_OK)
        l->status = text_printf(l->out, l->err, "</span></td></tr>\n");
    return l->status == COHORT_OK;
}

static cohort_status write_what(struct report_run *run, struct text *out, cohort_error *err)
{
    const cohort_stored_run *r = run->run;
    struct listing inputs = {out, COHORT_OK, err, false};
    char word[96], time[48];
    TRY(text_printf(out, err,
                    "<h2 id=\"what\">What was trained on what</h2>\n<div class=\"scroll\" tabindex=\"0\"><table>"
                    "<tbody>\n"));
    TRY(write_cell(out, "command", r->command, err));
    TRY(write_cell(out, "model", r->model, err));
    TRY(write_cell(out, "status", r->status, err));
    TRY(write_cell(out, "why", r->message, err));
    snprintf(word, sizeof word, r->steps > 0 ? "%lld of %lld" : "%lld", (long long)(r->step < 0 ? 0 : r->step),
             (long long)r->steps);
    TRY(write_cell(out, "steps", word, err));
    clock_text(r->created, time);
    TRY(write_cell(out, "begun (UTC)", time, err));
    write_span((r->ended > 0.0 ? r->ended : r->updated) - r->created, time);
    TRY(write_cell(out, "from begin to end", time, err));
    snprintf(word, sizeof word, "%lld", (long long)r->starts);
    TRY(write_cell(out, "starts", word, err));
    TRY(write_cell(out, "machine", r->host, err));
    TRY(write_cell(out, "computed by", r->device, err));
    TRY(write_cell(out, "cohort", r->version, err));
    if (r->parent != NULL && *r->parent != '\0') {
        TRY(write_cell(out, "forked from", r->parent, err));
        snprintf(word, sizeof word, "%lld", (long long)r->parent_step);
        TRY(write_cell(out, "at its step", word, err));
    }
    TRY(store_read_inputs(&run->reader, add_input, &inputs, err));
    TRY(inputs.status);
    return text_printf(out, err, "</tbody></table></div>\n");
}

/* ---- warnings and events ---- */

/* What people usually do about it: a warning's event has that as JSON. */
static cohort_status write_usually(const cohort_stored_event *event, struct text *out, cohort_error *err)
{
    json_t *json = NULL;
    cohort_status status = COHORT_OK;
    if (event->json == NULL)
        return COHORT_OK;
    status = json_text_parse(&json, event->json, strlen(event->json), "an event of the run", 1, 0, err);
    if (status == COHORT_ERR_FORMAT) /* not one of ours */
        return COHORT_OK;
    TRY_GOTO(status);
    const char *usually = json_string_value(json_object_get(json, "usually"));
    if (usually != NULL) {
        TRY_GOTO(text_printf(out, err, ". Usually: "));
        TRY_GOTO(html_string(out, usually, err));
    }
cleanup:
    json_decref(json);
    return status;
}

static bool add_warning(void *context, const cohort_stored_event *event)
{
    struct listing *l = context;
    const bool note = strcmp(event->severity, "note") == 0;
    if (strcmp(event->kind, "warning") != 0 && strcmp(event->kind, "skipped") != 0)
        return true;
    if (!l->any)
        l->status = text_printf(l->out, l->err, "<h2 id=\"warnings\">Warnings</h2>\n");
    l->any = true;
    if (l->status == COHORT_OK)
        l->status =
            text_printf(l->out, l->err, "<p%s>%sStep %lld%s%s: ", note ? "" : " class=\"warning\"",
                        note ? "Note. " : "", (long long)event->step, event->rule[0] == '\0' ? "" : ", ", event->rule);
    if (l->status == COHORT_OK)
        l->status = html_string(l->out, event->text, l->err);
    if (l->status == COHORT_OK)
        l->status = write_usually(event, l->out, l->err);
    if (l->status == COHORT_OK)
        l->status = text_printf(l->out, l->err, "</p>\n");
    return l->status == COHORT_OK;
}

static bool add_event(void *context, const cohort_stored_event *event)
{
    struct listing *l = context;
    char time[48];
    clock_text(event->time, time);
    l->status = text_printf(l->out, l->err, "<tr><td>%lld</td><td>%s</td><td>", (long long)event->step, time);
    if (l->status == COHORT_OK)
        l->status = html_string(l->out, event->kind, l->err);
    if (l->status == COHORT_OK)
        l->status = text_printf(l->out, l->err, "</td><td>");
    if (l->status == COHORT_OK)
        l->status = html_string(l->out, event->text, l->err);
    if (l->status == COHORT_OK)
        l->status = text_printf(l->out, l->err, "</td></tr>\n");
    return l->status == COHORT_OK;
}

static cohort_status write_events(struct report_run *run, struct text *out, cohort_error *err)
{
    struct listing events = {out, COHORT_OK, err, false};
    TRY(text_printf(out, err,
                    "<h2 id=\"events\">What happened</h2>\n<details><summary>Starts, checkpoints, warnings, in "
                    "their order</summary><div class=\"scroll\" tabindex=\"0\"><table><thead><tr><th>step</th>"
                    "<th>time (UTC)</th><th>what</th><th></th></tr></thead><tbody>\n"));
    TRY(store_read_events(&run->reader, 0, NULL, add_event, &events, err));
    TRY(events.status);
    return text_printf(out, err, "</tbody></table></div></details>\n");
}

/* ---- where the time went ---- */

static double sum_of(struct report_run *run, const char *metric, cohort_status *status, cohort_error *err)
{
    struct curve curve = {0};
    double sum = 0.0;
    if (*status == COHORT_OK)
        *status = report_curve(run, metric, &curve, err);
    for (size_t i = 0; i < curve.n; i++)
        sum += isnan(curve.y[i]) ? 0.0 : curve.y[i];
    curve_free(&curve);
    return sum;
}

static cohort_status write_share(struct text *out, const char *name, double seconds, double all, size_t colour,
                                 cohort_error *err)
{
    char span[48];
    write_span(seconds, span);
    TRY(text_printf(out, err, "<tr><th scope=\"row\">"));
    TRY(html_string(out, name, err));
    return text_printf(out, err,
                       "</th><td>%s</td><td>%.1f %%</td><td><svg class=\"bar\" viewBox=\"0 0 200 14\" "
                       "preserveAspectRatio=\"none\" aria-hidden=\"true\"><line class=\"s%zu\" x1=\"0\" y1=\"7\" "
                       "x2=\"%.1f\" y2=\"7\" stroke-width=\"14\"/></svg></td></tr>\n",
                       span, 100.0 * seconds / all, colour, 200.0 * seconds / all);
}

static cohort_status write_times(struct report_run *run, struct text *out, cohort_error *err)
{
    cohort_status status = COHORT_OK;
    const double all = sum_of(run, "step_time", &status, err);
    double known = 0.0;
    TRY(status);
    if (!(all > 0.0))
        return COHORT_OK;
    TRY(text_printf(out, err,
                    "<h2 id=\"time\">Where the time went</h2>\n<div class=\"scroll\" tabindex=\"0\"><table "
                    "class=\"times\"><thead>"
                    "<tr><th>of all steps</th><th>time</th><th>share</th><th></th></tr></thead><tbody>\n"));
    for (size_t i = 0; i < run->n_names; i++) {
        if (strncmp(run->names[i], "time/", 5) != 0)
            continue;
        const double seconds = sum_of(run, run->names[i], &status, err);
        TRY(status);
        known += seconds;
        TRY(write_share(out, run->names[i] + 5, seconds, all, 0, err));
    }
    if (known < all)
        TRY(write_share(out, "the rest", all - known, all, 0, err));
    return text_printf(out, err, "</tbody></table></div>\n");
}

/* ---- configuration ---- */

static cohort_status write_config(struct report_run *run, struct text *out, cohort_error *err)
{
    TRY(text_printf(out, err, "<h2 id=\"config\">Configuration</h2>\n<p>The same run again:</p>\n<pre>cohort "));
    TRY(html_string(out, run->run->command, err));
    TRY(text_printf(out, err, " --config "));
    TRY(html_string(out, run->run->path, err));
    TRY(text_printf(out, err, "/config.yaml --out runs/NEW</pre>\n<details><summary>config.yaml</summary><pre>"));
    TRY(html_string(out, run->run->config, err));
    return text_printf(out, err, "</pre></details>\n");
}

/* ---- the page ---- */

static cohort_status write_head(const struct report_run *runs, size_t n, struct text *out, cohort_error *err)
{
    struct text style = {0};
    cohort_status status = COHORT_OK;
    TRY_GOTO(text_printf(&style, err, "%s%s", chart_style, page_style));
    TRY_GOTO(text_printf(out, err,
                         "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
                         "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src '"));
    TRY_GOTO(html_style_hash(out, style.data, style.length, err));
    TRY_GOTO(text_printf(out, err,
                         "'; img-src data:; base-uri 'none'; form-action 'none'\">\n<meta name=\"viewport\" "
                         "content=\"width=device-width,initial-scale=1\">\n<meta name=\"color-scheme\" "
                         "content=\"light dark\">\n<title>"));
    for (size_t i = 0; i < n; i++) {
        TRY_GOTO(text_printf(out, err, i > 0 ? ", " : ""));
        TRY_GOTO(html_string(out, runs[i].run->name, err));
    }
    TRY_GOTO(text_printf(out, err,
                         " - cohort report</title>\n<style>%s</style></head><body>\n<a class=\"skip\" "
                         "href=\"#main\">Skip to the report</a>\n",
                         style.data));
cleanup:
    text_free(&style);
    return status;
}

static cohort_status write_one(struct report_run *run, struct text *out, cohort_error *err)
{
    struct listing warnings = {out, COHORT_OK, err, false};
    TRY(text_printf(out, err, "<header><h1><bdi>"));
    TRY(html_string(out, run->run->name, err));
    TRY(text_printf(out, err, "</bdi></h1>\n"));
    TRY(write_verdict(run, out, err));
    TRY(text_printf(out, err,
                    "<nav><a href=\"#learned\">learned</a> &middot; <a href=\"#health\">health</a> &middot; "
                    "<a href=\"#time\">time</a> &middot; <a href=\"#samples\">samples</a> &middot; "
                    "<a href=\"#what\">what</a> &middot; <a href=\"#config\">configuration</a></nav></header>\n"
                    "<main id=\"main\">\n<h2 id=\"learned\">Did it learn</h2>\n"));
    TRY(report_learned(run, 1, out, err));
    TRY(store_read_events(&run->reader, 0, NULL, add_warning, &warnings, err));
    TRY(warnings.status);
    TRY(text_printf(out, err, "<h2 id=\"health\">Is it healthy</h2>\n<div class=\"charts\">\n"));
    TRY(report_health(run, 1, out, err));
    TRY(text_printf(out, err, "</div>\n"));
    TRY(write_times(run, out, err));
    TRY(report_samples(run, out, err));
    TRY(write_what(run, out, err));
    TRY(write_config(run, out, err));
    return write_events(run, out, err);
}

static cohort_status write_several(struct report_run *runs, size_t n, struct text *out, cohort_error *err)
{
    TRY(text_printf(out, err, "<header><h1>%zu runs compared</h1></header>\n<main id=\"main\">\n", n));
    for (size_t i = 0; i < n; i++) {
        TRY(text_printf(out, err, "<h3><bdi>"));
        TRY(html_string(out, runs[i].run->name, err));
        TRY(text_printf(out, err, "</bdi></h3>\n"));
        TRY(write_verdict(&runs[i], out, err));
    }
    TRY(text_printf(out, err, "<h2 id=\"learned\">Did they learn</h2>\n"));
    TRY(report_learned(runs, n, out, err));
    TRY(text_printf(out, err, "<h2 id=\"health\">Are they healthy</h2>\n<div class=\"charts\">\n"));
    TRY(report_health(runs, n, out, err));
    TRY(text_printf(out, err, "</div>\n"));
    for (size_t i = 0; i < n; i++) {
        TRY(write_what(&runs[i], out, err));
        TRY(write_config(&runs[i], out, err));
    }
    return COHORT_OK;
}

cohort_status report_page(struct report_run *runs, size_t n, struct text *out, cohort_error *err)
{
    TRY(write_head(runs, n, out, err));
    TRY(n == 1 ? write_one(runs, out, err) : write_several(runs, n, out, err));
    return text_printf(out, err, "</main></body></html>\n");
}

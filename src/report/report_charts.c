#include "report/report_charts.h"

#include "base/number.h"
#include "report/html.h"
#include "run/options.h"

#include <math.h>
#include <string.h>

/* ---- a run ---- */

struct visit {
    struct report_run *run;
    cohort_status status;
    cohort_error *err;
};

static bool add_name(void *context, const char *name)
{
    struct visit *v = context;
    struct report_run *r = v->run;
    v->status = mem_grow(&r->names, &r->names_room, r->n_names + 1, sizeof *r->names, "report", v->err);
    if (v->status == COHORT_OK)
        v->status = mem_strdup(&r->names[r->n_names], name, strlen(name), v->err);
    r->n_names += v->status == COHORT_OK;
    return v->status == COHORT_OK;
}

static bool add_mark(void *context, const cohort_stored_event *event)
{
    static const char *const words[] = {"resume", "fork", "warning", "skipped"};
    struct visit *v = context;
    struct report_run *r = v->run;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcmp(event->kind, words[i]) != 0)
            continue;
        if (strcmp(event->kind, "warning") == 0 && strcmp(event->severity, "note") == 0)
            continue; /* worth knowing, and nothing to look at */
        r->warnings += strcmp(event->kind, "warning") == 0;
        v->status = mem_grow(&r->marks, &r->marks_room, r->n_marks + 1, sizeof *r->marks, "report", v->err);
        if (v->status == COHORT_OK)
            r->marks[r->n_marks++] = (struct chart_mark){(double)event->step, words[i]};
    }
    return v->status == COHORT_OK;
}

cohort_status report_run_open(struct report_run *run, const char *folder, cohort_error *err)
{
    struct visit v = {run, COHORT_OK, err};
    memset(run, 0, sizeof *run);
    TRY(store_reader_open(&run->reader, folder, err));
    TRY(store_read_run(&run->reader, &run->run, err));
    TRY(store_read_names(&run->reader, add_name, &v, err));
    TRY(v.status);
    TRY(store_read_events(&run->reader, 0, NULL, add_mark, &v, err));
    return v.status;
}

void report_run_close(struct report_run *run)
{
    for (size_t i = 0; i < run->n_names; i++)
        mem_free(run->names[i]);
    mem_free(run->names);
    mem_free(run->marks);
    store_reader_close(&run->reader);
    memset(run, 0, sizeof *run);
}

bool report_run_takes_rows(const struct report_run *run)
{
    return (options_command(run->run->command) & FOR_ROWS) != 0;
}

cohort_status report_curve(struct report_run *run, const char *name, struct curve *curve, cohort_error *err)
{
    int64_t *steps = NULL;
    double *values = NULL;
    size_t n = 0;
    *curve = (struct curve){0};
    TRY(store_read_curve(&run->reader, name, 0, INT64_MAX, &steps, &values, &n, err));
    return curve_take(curve, steps, values, n, err);
}

bool report_is_eval_reward(const char *name)
{
    return strncmp(name, "eval_", 5) == 0 && text_ends(name, "reward") &&
           (strcmp(name, "eval_reward") == 0 || text_ends(name, "_reward"));
}

struct errors {
    struct curve *curve;
    double *error;
    bool any;
};

static bool add_error(void *context, const cohort_stored_row *row)
{
    struct errors *e = context;
    double cell[3] = {0}; /* step, prompts, variance of a prompt's mean */
    for (size_t i = 0; i < 3; i++)
        if (row->values[i] == NULL || !number_read(row->values[i], row->lengths[i], &cell[i]))
            return true;
    for (size_t i = 0; i < e->curve->n; i++)
        if (e->curve->x[i] == cell[0] && cell[1] > 1.0) {
            e->error[i] = sqrt(fmax(cell[2], 0.0) / (cell[1] - 1.0));
            e->any = true;
        }
    return true;
}

cohort_status report_eval_curve(struct report_run *run, const char *name, struct curve *curve, double **error,
                                cohort_error *err)
{
    struct text sql = {0};
    cohort_status status = COHORT_OK;
    *error = NULL;
    TRY(report_curve(run, name, curve, err));
    TRY_GOTO(mem_alloc(error, curve->n, sizeof **error, "report", err));
    for (size_t i = 0; i < curve->n; i++)
        (*error)[i] = NAN;
    struct errors errors = {curve, *error, false};
    TRY_GOTO(text_printf(&sql, err, "%s",
                         "SELECT step, count(*), avg(m * m) - avg(m) * avg(m) FROM (SELECT step, \"group\", "
                         "avg(reward) AS m FROM completions WHERE reward IS NOT NULL AND \"set\" = '"));
    const size_t length = strlen(name);
    const char *set = length > 12 ? name + 5 : "eval", *end = length > 12 ? name + length - 7 : set + 4;
    for (const char *at = set; at < end; at++) /* SQL writes a quote twice */
        TRY_GOTO(text_append(&sql, *at == '\'' ? "''" : at, *at == '\'' ? 2 : 1, err));
    TRY_GOTO(text_printf(&sql, err, "%s", "' GROUP BY step, \"group\") GROUP BY step"));
    TRY_GOTO(store_read_sql(&run->reader, sql.data, NULL, add_error, &errors, err));
    if (!errors.any) {
        mem_free(*error);
        *error = NULL;
    }
cleanup:
    text_free(&sql);
    if (status != COHORT_OK) {
        mem_free(*error);
        *error = NULL;
        curve_free(curve);
    }
    return status;
}

/* ---- charts ---- */

/* What is being put together for one chart. */
struct drawing {
    struct chart_series series[CHART_SERIES];
    size_t n;
};

static void drawing_free(struct drawing *d)
{
    for (size_t i = 0; i < d->n; i++) {
        curve_free(&d->series[i].curve);
        mem_free((void *)(uintptr_t)d->series[i].error);
    }
    d->n = 0;
}

/* Left out where the run has not the metric, or the chart no room. */
static cohort_status add_series(struct drawing *d, struct report_run *run, const char *metric, const char *name,
                                cohort_error *err)
{
    if (d->n == CHART_SERIES)
        return COHORT_OK;
    struct chart_series *s = &d->series[d->n];
    double *error = NULL;
    *s = (struct chart_series){
        .name = name, .dots = strncmp(metric, "eval_", 5) == 0, .exact = strcmp(metric, "learning_rate") == 0};
    TRY(report_is_eval_reward(metric) ? report_eval_curve(run, metric, &s->curve, &error, err)
                                      : report_curve(run, metric, &s->curve, err));
    s->error = error;
    if (curve_summarise(&s->curve).n > 0) {
        d->n++;
        return COHORT_OK;
    }
    curve_free(&s->curve);
    mem_free(error);
    return COHORT_OK;
}

/* The values behind a chart, thinned out. */
static cohort_status write_table(const struct drawing *d, struct text *out, cohort_error *err)
{
    enum { ROWS = 20 };
    TRY(text_printf(out, err,
                    "<details><summary>The values as a table</summary><div class=\"scroll\" tabindex=\"0\">"
                    "<table><thead><tr><th>curve</th><th>step</th><th>value</th></tr></thead><tbody>\n"));
    for (size_t i = 0; i < d->n; i++) {
        struct curve thin = {0};
        cohort_status status = curve_thin(&d->series[i].curve, ROWS / 2, &thin, err);
        for (size_t j = 0; status == COHORT_OK && j < thin.n; j++) {
            status = text_append(out, "<tr><td>", 8, err);
            if (status == COHORT_OK)
                status = html_string(out, d->series[i].name, err);
            if (status == COHORT_OK)
                status = text_printf(out, err, "</td><td>%.0f</td><td>", thin.x[j]);
            if (status == COHORT_OK)
                status = isnan(thin.y[j]) ? text_printf(out, err, "none</td></tr>\n")
                                          : text_printf(out, err, "%.5g</td></tr>\n", thin.y[j]);
        }
        curve_free(&thin);
        TRY(status);
    }
    return text_printf(out, err, "</tbody></table></div></details>\n");
}

/* sentence: what to see in it. */
static cohort_status write_figure(const struct chart *chart, const struct drawing *d, const char *sentence,
                                  struct text *out, cohort_error *err)
{
    if (d->n == 0)
        return COHORT_OK;
    TRY(text_printf(out, err, "<figure>\n"));
    TRY(chart_write(chart, out, err));
    TRY(text_printf(out, err, "<figcaption>"));
    for (size_t i = 0; i < d->n; i++) {
        if (d->n > 1) /* which is which */
            TRY(text_printf(out, err,
                            "<div><svg class=\"key\" viewBox=\"0 0 26 10\" aria-hidden=\"true\"><line class=\"s%zu\" "
                            "x1=\"0\" x2=\"26\" y1=\"5\" y2=\"5\"/></svg> ",
                            i));
        TRY(chart_describe(&d->series[i], out, err));
        TRY(text_printf(out, err, "%s", d->n > 1 ? "</div>" : " "));
    }
    TRY(html_string(out, sentence, err));
    TRY(text_printf(out, err, "</figcaption>\n"));
    TRY(write_table(d, out, err));
    return text_printf(out, err, "</figure>\n");
}

static cohort_status write_chart(struct report_run *runs, size_t n, struct chart *chart, struct drawing *d,
                                 const char *sentence, struct text *out, cohort_error *err)
{
    chart->series = d->series;
    chart->n_series = d->n;
    if (n == 1) {
        chart->marks = runs->marks;
        chart->n_marks = runs->n_marks;
    }
    cohort_status status = write_figure(chart, d, sentence, out, err);
    drawing_free(d);
    return status;
}

/* ---- did it learn ---- */

/* A dashed line at what the untrained model reached. */
static void draw_start(const struct drawing *d, struct chart *chart)
{
    for (size_t i = 0; i < d->n; i++)
        if (d->series[i].dots && d->series[i].curve.n > 0 && d->series[i].curve.x[0] == 0.0) {
            chart->limit = d->series[i].curve.y[0];
            chart->limit_name = "before training";
            return;
        }
}

/* One chart of a run's metrics that choose says. */
static cohort_status chart_of(struct report_run *run, const char *title, bool (*choose)(const char *name), size_t least,
                              const char *sentence, struct text *out, cohort_error *err)
{
    struct chart chart = {.title = title, .from_zero = true, .limit = NAN};
    struct drawing d = {0};
    cohort_status status = COHORT_OK;
    for (size_t i = 0; i < run->n_names && status == COHORT_OK; i++)
        if (choose(run->names[i]))
            status = add_series(&d, run, run->names[i], run->names[i], err);
    if (status == COHORT_OK && d.n >= least) {
        draw_start(&d, &chart);
        return write_chart(run, 1, &chart, &d, sentence, out, err);
    }
    drawing_free(&d);
    return status;
}

static bool is_reward(const char *name) { return strcmp(name, "reward") == 0 || report_is_eval_reward(name); }
static bool is_function(const char *name) { return strncmp(name, "rewards/", 8) == 0 && text_ends(name, "/mean"); }
static bool is_loss(const char *name)
{
    return strcmp(name, "loss") == 0 || (strncmp(name, "eval_", 5) == 0 && text_ends(name, "loss"));
}
static bool is_accuracy(const char *name) { return text_ends(name, "mean_token_accuracy"); }
static bool is_estimate(const char *name)
{
    return strncmp(name, "eval_", 5) == 0 && strchr(name, '/') == NULL && strchr(name, '@') != NULL;
}

/* The same metric of several runs. */
static cohort_status chart_across(struct report_run *runs, size_t n, const char *metric, struct text *out,
                                  cohort_error *err)
{
    struct chart chart = {.title = metric, .limit = NAN};
    struct drawing d = {0};
    cohort_status status = COHORT_OK;
    for (size_t i = 0; i < n && status == COHORT_OK; i++)
        status = add_series(&d, &runs[i], metric, runs[i].run->name, err);
    if (status == COHORT_OK)
        return write_chart(runs, n, &chart, &d, "", out, err);
    drawing_free(&d);
    return status;
}

cohort_status report_learned(struct report_run *runs, size_t n, struct text *out, cohort_error *err)
{
    static bool (*const kinds[])(const char *) = {is_reward, is_loss, is_accuracy, is_estimate};
    const bool sft = report_run_takes_rows(runs);
    if (n > 1) {
        for (size_t i = 0; i < runs->n_names; i++)
            for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
                if (kinds[k](runs->names[i]) && (sft || strcmp(runs->names[i], "loss") != 0))
                    TRY(chart_across(runs, n, runs->names[i], out, err));
        return COHORT_OK;
    }
    if (sft) {
        TRY(chart_of(runs, "Loss", is_loss, 1,
                     "Where the held-out loss rises while the other falls, the model learns the rows by heart.", out,
                     err));
        return chart_of(runs, "Share of tokens that were the likeliest", is_accuracy, 1, "", out, err);
    }
    TRY(chart_of(runs, "Reward", is_reward, 1,
                 "Pale: every step. Strong: their exponential mean. Dots: held-out prompts, with 1.96 standard errors "
                 "to both sides.",
                 out, err));
    TRY(chart_of(runs, "Mean of each reward function", is_function, 2,
                 "One that rises alone is learned in place of the task.", out, err));
    return chart_of(runs, "Held-out estimates", is_estimate, 2, "", out, err);
}

/* ---- is it healthy ---- */

static const struct {
    const char *title, *metrics[3];
    bool from_zero, log;
    const char *limit; /* option that is drawn as a line */
    const char *sentence;
} health[] = {
    {"Entropy (nats a token)",
     {"entropy"},
     true,
     false,
     NULL,
     "How undecided the model is. A slow fall is learning; near 0 it has stopped trying different answers."},
    {"KL to the reference", {"kl"}, true, false, NULL, "How far it has moved from the model it started from."},
    {"Norm of the gradient",
     {"grad_norm"},
     false,
     true,
     "max_grad_norm",
     "Before clipping. Single peaks are harmless; a rise that stays is not."},
    {"Clipped share of tokens",
     {"clip_ratio/region_mean"},
     true,
     false,
     NULL,
     "Tokens whose gradient the clip took away; 0 with one update a batch."},
    {"Length of completions (tokens)",
     {"completions/mean_length", "completions/max_length"},
     true,
     false,
     NULL,
     "Growth is wanted where the reward grows with it."},
    {"Share of completions that were cut off",
     {"completions/clipped_ratio"},
     true,
     false,
     NULL,
     "They never reached their end, so their reward says little."},
    {"Share of groups without a spread of rewards",
     {"frac_reward_zero_std"},
     true,
     false,
     NULL,
     "All answers to a prompt got the same reward: nothing to learn from. Near 1 the prompts are too easy or too "
     "hard."},
    {"Spread of rewards in a group", {"reward_std"}, true, false, NULL, ""},
    {"Learning rate", {"learning_rate"}, true, false, NULL, ""},
    {"Updates that were skipped, in all", {"skipped_steps"}, true, false, NULL, "A norm or loss was not finite."},
    {"Tokens a second",
     {"throughput/rollout_tokens_per_second", "throughput/train_tokens_per_second"},
     true,
     false,
     NULL,
     "Generated, and trained."},
    {"Memory (bytes)", {"memory/peak_bytes"}, true, false, NULL, ""},
};

/* The number that config.yaml gives an option; NaN: none. */
static double option_of(const struct report_run *run, const char *option)
{
    const size_t length = strlen(option);
    for (const char *line = run->run->config; line != NULL && *line != '\0';) {
        const size_t end = strcspn(line, "\n");
        double value = NAN;
        if (strncmp(line, option, length) == 0 && line[length] == ':' && end > length + 2 &&
            number_read(line + length + 2, end - length - 2, &value))
            return value;
        line += end + (line[end] == '\n');
    }
    return NAN;
}

/* A curve that is 0 everywhere, as of clipping that cannot happen, says nothing. */
static bool all_zero(const struct drawing *d)
{
    for (size_t i = 0; i < d->n; i++) {
        const struct curve_summary s = curve_summarise(&d->series[i].curve);
        if (s.least != 0.0 || s.most != 0.0)
            return false;
    }
    return true;
}

cohort_status report_health(struct report_run *runs, size_t n, struct text *out, cohort_error *err)
{
    for (size_t i = 0; i < sizeof health / sizeof *health; i++) {
        struct chart chart = {.title = health[i].title,
                              .from_zero = health[i].from_zero,
                              .log = health[i].log,
                              .limit = NAN,
                              .limit_name = health[i].limit};
        struct drawing d = {0};
        cohort_status status = COHORT_OK;
        for (size_t m = 0; m < 3 && health[i].metrics[m] != NULL && (n == 1 || m == 0); m++)
            for (size_t r = 0; r < n && status == COHORT_OK; r++)
                status = add_series(&d, &runs[r], health[i].metrics[m],
                                    n > 1 ? runs[r].run->name : health[i].metrics[m], err);
        if (status == COHORT_OK && health[i].limit != NULL)
            chart.limit = option_of(runs, health[i].limit);
        if (status != COHORT_OK || all_zero(&d)) {
            drawing_free(&d);
            TRY(status);
            continue;
        }
        TRY(write_chart(runs, n, &chart, &d, health[i].sentence, out, err));
    }
    return COHORT_OK;
}

cohort_status report_plot(struct report_run *run, const char *title, const char *const *names, size_t n,
                          struct text *out, cohort_error *err)
{
    struct chart chart = {.title = title, .limit = NAN, .alone = true, .marks = run->marks, .n_marks = run->n_marks};
    struct drawing d = {0};
    cohort_status status = COHORT_OK;
    for (size_t i = 0; i < n && status == COHORT_OK; i++)
        status = add_series(&d, run, names[i], names[i], err);
    if (status == COHORT_OK) {
        draw_start(&d, &chart);
        chart.series = d.series;
        chart.n_series = d.n;
        status = chart_write(&chart, out, err);
    }
    drawing_free(&d);
    return status;
}

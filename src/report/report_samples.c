#include "report/report_samples.h"

#include "base/number.h"
#include "report/html.h"

#include <math.h>
#include <string.h>

enum { MOST_CHARACTERS = 4000, PROMPTS = 3, MOMENTS = 3, BEST = 3 };

struct showing {
    struct text *out;
    cohort_status status;
    cohort_error *err;
    bool with_prompt; /* in each sample; else it is shown once, before the first */
    size_t shown;
};

/* Cut, and said. */
static cohort_status write_long(struct text *out, const char *bytes, size_t length, cohort_error *err)
{
    const size_t cut = html_cut(bytes, length, MOST_CHARACTERS);
    TRY(text_printf(out, err, "<pre>"));
    TRY(html_text(out, bytes, cut, err));
    if (cut < length)
        TRY(text_printf(out, err, " [and %zu bytes more]", length - cut));
    return text_printf(out, err, "</pre>\n");
}

static cohort_status write_sample(struct showing *s, const cohort_stored_completion *c)
{
    struct text *out = s->out;
    cohort_error *err = s->err;
    if (s->with_prompt || s->shown == 0) {
        TRY(text_printf(out, err,
                        s->with_prompt ? "<div class=\"sample\"><div class=\"prompt\">" : "<div class=\"prompt\">"));
        TRY(write_long(out, c->prompt, c->prompt_length, err));
        TRY(text_printf(out, err, "</div>\n"));
    }
    if (!s->with_prompt)
        TRY(text_printf(out, err,
                        s->shown == 0 ? "<div class=\"samples\">\n<div class=\"sample\">" : "<div class=\"sample\">"));
    TRY(text_printf(out, err, "<strong>step %lld", (long long)c->step));
    if (isnan(c->reward))
        TRY(text_printf(out, err, ", no reward"));
    else
        TRY(text_printf(out, err, ", reward %.4g", c->reward));
    TRY(text_printf(out, err, "</strong> <span class=\"soft\">%lld tokens, %s</span>\n", (long long)c->tokens,
                    strcmp(c->finish_reason, "length") == 0 ? "cut off" : c->finish_reason));
    TRY(write_long(out, c->text, c->text_length, err));
    TRY(text_printf(out, err, "</div>\n"));
    s->shown++;
    return COHORT_OK;
}

static bool show(void *context, const cohort_stored_completion *completion)
{
    struct showing *s = context;
    s->status = write_sample(s, completion);
    return s->status == COHORT_OK;
}

/* ---- which ---- */

struct moments {
    int64_t step[MOMENTS];
    size_t n;
};

static bool take_steps(void *context, const cohort_stored_row *row)
{
    struct moments *m = context;
    for (size_t i = 0; i < row->n && m->n < MOMENTS; i++) {
        int64_t step = 0;
        if (row->values[i] != NULL && number_read_integer(row->values[i], row->lengths[i], &step) &&
            (m->n == 0 || m->step[m->n - 1] < step))
            m->step[m->n++] = step;
    }
    return true;
}

/* The first, the middle and the last step that has completions of a set: train, or the first evaluation's. */
static cohort_status find_moments(struct report_run *run, bool trained, struct moments *moments, cohort_error *err)
{
    static const char *const sql[] = {
        "SELECT min(step), (SELECT step FROM evaluation WHERE step >= (SELECT (min(step) + max(step)) / 2 FROM "
        "evaluation) ORDER BY step LIMIT 1), max(step) FROM completion WHERE set_id <> 0",
        "SELECT min(step), (SELECT step FROM completion WHERE set_id = 0 AND step >= (SELECT (min(step) + max(step)) / "
        "2 "
        "FROM completion WHERE set_id = 0) ORDER BY step LIMIT 1), max(step) FROM completion WHERE set_id = 0"};
    *moments = (struct moments){0};
    return store_read_sql(&run->reader, sql[trained], NULL, take_steps, moments, err);
}

static bool take_set(void *context, const cohort_stored_row *row)
{
    struct text *set = context;
    return row->values[0] == NULL || text_append(set, row->values[0], row->lengths[0], NULL) != COHORT_OK;
}

static cohort_status write_extremes(struct report_run *run, int64_t step, cohort_completion_order order,
                                    const char *title, struct text *out, cohort_error *err)
{
    cohort_completion_query query = store_all_completions;
    struct showing s = {out, COHORT_OK, err, true, 0};
    query.set = "";
    query.first_step = query.last_step = step;
    query.order = order;
    query.limit = BEST;
    TRY(text_printf(out, err, "<h3>%s of step %lld</h3>\n<div class=\"samples\">\n", title, (long long)step));
    TRY(store_read_completions(&run->reader, &query, show, &s, err));
    TRY(s.status);
    return text_printf(out, err, "</div>\n");
}

cohort_status report_samples(struct report_run *run, struct text *out, cohort_error *err)
{
    struct moments held_out, trained;
    struct text set = {0};
    cohort_status status = COHORT_OK;
    if (report_run_takes_rows(run))
        return COHORT_OK;
    TRY_GOTO(text_printf(out, err, "<h2 id=\"samples\">Samples</h2>\n"));
    TRY_GOTO(find_moments(run, false, &held_out, err));
    TRY_GOTO(find_moments(run, true, &trained, err));
    if (held_out.n + trained.n == 0) {
        status = text_printf(out, err, "<p>No completion was kept (--keep-completions).</p>\n");
        goto cleanup;
    }
    TRY_GOTO(store_read_sql(&run->reader,
                            "SELECT name FROM name WHERE id = (SELECT min(set_id) FROM completion WHERE set_id <> 0)",
                            NULL, take_set, &set, err));
    const struct moments *moments = held_out.n > 0 ? &held_out : &trained;
    TRY_GOTO(text_printf(out, err, "<p class=\"soft\">%s</p>\n",
                         held_out.n > 0
                             ? "The same held-out prompts at the start, in the middle and at the end."
                             : "Prompts of the first, a middle and the last step that completions are kept of."));
    for (int64_t group = 0; group < PROMPTS; group++) {
        struct showing s = {out, COHORT_OK, err, held_out.n == 0, 0};
        if (held_out.n == 0)
            TRY_GOTO(text_printf(out, err, "<div class=\"samples\">\n"));
        for (size_t i = 0; i < moments->n; i++) {
            cohort_completion_query query = store_all_completions;
            query.set = held_out.n > 0 ? set.data : "";
            query.first_step = query.last_step = moments->step[i];
            query.group = group;
            query.limit = 1;
            TRY_GOTO(store_read_completions(&run->reader, &query, show, &s, err));
            TRY_GOTO(s.status);
        }
        if (held_out.n == 0 || s.shown > 0)
            TRY_GOTO(text_printf(out, err, "</div>\n"));
    }
    if (trained.n > 0) {
        TRY_GOTO(write_extremes(run, trained.step[trained.n - 1], COHORT_BEST_FIRST, "The best", out, err));
        TRY_GOTO(write_extremes(run, trained.step[trained.n - 1], COHORT_WORST_FIRST, "The worst", out, err));
    }
    TRY_GOTO(text_printf(out, err, "<p class=\"soft\">All of them: <code>cohort runs completions "));
    TRY_GOTO(html_string(out, run->run->path, err));
    TRY_GOTO(text_printf(out, err, " --limit 0 --whole</code></p>\n"));
cleanup:
    text_free(&set);
    return status;
}

#include "run/step_line.h"

#include "base/number.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { HEADER_EVERY = 40, NAME_COLUMNS = 20 };

void step_line_free(struct step_line *line)
{
    for (size_t f = 0; f < line->n_functions; f++)
        mem_free(line->functions[f]);
    mem_free(line->functions);
    memset(line, 0, sizeof *line);
}

void step_line_duration(double seconds, char out[24])
{
    const int64_t s = (int64_t)(seconds + 0.5);
    if (!(seconds >= 0.0) || seconds > 1e12)
        snprintf(out, 24, "-");
    else if (s >= 86400)
        snprintf(out, 24, "%lldd%02lldh", (long long)(s / 86400), (long long)(s / 3600 % 24));
    else if (s >= 3600)
        snprintf(out, 24, "%lldh%02lldm", (long long)(s / 3600), (long long)(s / 60 % 60));
    else if (s >= 60)
        snprintf(out, 24, "%lldm%02llds", (long long)(s / 60), (long long)(s % 60));
    else
        snprintf(out, 24, "%llds", (long long)s);
}

static bool find(const cohort_metric *metrics, size_t count, const char *name, double *value)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(metrics[i].name, name) == 0) {
            *value = metrics[i].value;
            return true;
        }
    *value = (double)NAN;
    return false;
}

/* Which columns the run has: functions are known from its first step. */
static cohort_status begin(struct step_line *line, const struct step_line_at *at, const cohort_metric *metrics,
                           size_t count, cohort_error *err)
{
    static const char before[] = "rewards/", behind[] = "/mean";
    for (size_t i = 0; i < count; i++) {
        const char *name = metrics[i].name;
        if (strncmp(name, before, strlen(before)) != 0 || !text_ends(name, behind))
            continue;
        const size_t length = strlen(name) - strlen(before) - strlen(behind);
        TRY(mem_grow(&line->functions, &line->room, line->n_functions + 1, sizeof *line->functions, "step line", err));
        TRY(mem_strdup(&line->functions[line->n_functions], name + strlen(before), length, err));
        line->n_functions++;
    }
    line->evaluates = at->evaluates;
    line->begun = true;
    return COHORT_OK;
}

/* A row that is being made: the header's or the step's. */
struct row {
    struct text *out;
    bool header;
    size_t used, room; /* columns */
    bool full;         /* a field did not fit: those behind it are left out too, so that rows have the same columns */
};

/* A field of its width, right-aligned, two blanks before it. Header and line ask for the same widths in the same order. */
static cohort_status field(struct row *row, int width, const char *head, const char *value, cohort_error *err)
{
    const size_t head_width = strlen(head);
    const size_t cells = (size_t)width > head_width ? (size_t)width : head_width, gap = row->used > 0 ? 2 : 0;
    if (row->full || (row->room > 0 && row->used + gap + cells > row->room)) {
        row->full = true;
        return COHORT_OK;
    }
    row->used += gap + cells;
    return text_printf(row->out, err, "%*s%*s", (int)gap, "", (int)cells, row->header ? head : value);
}

/* A number with so many decimals; share: as a percentage. */
static cohort_status number(struct row *row, int width, const char *head, const char *format, double value, bool there,
                            cohort_error *err)
{
    char text[48] = "";
    if (there && isnan(value))
        snprintf(text, sizeof text, "null");
    else if (there)
        number_format(text, sizeof text, format, value);
    return field(row, width, head, text, err);
}

/* What a header has room for of a name; the rest is a '~'. */
static cohort_status function_field(struct row *row, const char *name, double value, bool there, cohort_error *err)
{
    struct text shown = {0};
    char head[NAME_COLUMNS + 1] = "";
    cohort_status status = text_append_shown(&shown, name, strlen(name), err);
    if (status == COHORT_OK && shown.length > 0) {
        const bool fits = shown.length <= NAME_COLUMNS;
        const size_t n = fits ? shown.length : NAME_COLUMNS - 1;
        bool ascii = true;
        for (size_t i = 0; i < n; i++)
            ascii = ascii && (unsigned char)shown.data[i] < 0x80;
        if (ascii)
            snprintf(head, sizeof head, "%.*s%s", (int)n, shown.data, fits ? "" : "~");
        else /* cells cannot be counted without tables; a name in another script stays a name in metrics.jsonl */
            snprintf(head, sizeof head, "function");
    }
    text_free(&shown);
    TRY(status);
    return number(row, 7, head, "%.4f", value, there, err);
}

static cohort_status metric(struct row *row, const cohort_metric *metrics, size_t count, int width, const char *head,
                            const char *format, double scale, const char *name, cohort_error *err)
{
    double value = 0.0;
    const bool there = find(metrics, count, name, &value);
    return number(row, width, head, format, scale * value, there, err);
}

/* All fields of a row, the first the last that are left out where there is no room. */
static cohort_status fields(const struct step_line *line, struct row *row, const struct step_line_at *at,
                            const cohort_metric *m, size_t n, cohort_error *err)
{
    char step[48], left[24];
    double value = 0.0;
    /* What is learned from: rewards, rows of a data set, or a teacher, beside which rewards may be measured. */
    const bool drawn = find(m, n, "completions/mean_length", &value), rewarded = find(m, n, "reward", &value),
               distilled = drawn && !find(m, n, "frac_reward_zero_std", &value), grpo = rewarded && !distilled,
               sft = !rewarded && !distilled, kl = find(m, n, "kl", &value),
               scores = find(m, n, "margin", &value); /* of a reward model, which has no log-probs */
    if (at->steps > 0) {
        const int digits = snprintf(NULL, 0, "%lld", (long long)at->steps);
        snprintf(step, sizeof step, "step %*lld/%lld", digits, (long long)at->step, (long long)at->steps);
    } else {
        snprintf(step, sizeof step, "step %6lld", (long long)at->step);
    }
    TRY(field(row, (int)strlen(step), "", step, err));
    step_line_duration(at->seconds_left, left);
    if (!grpo)
        TRY(metric(row, m, n, 7, "loss", "%.4f", 1.0, "loss", err));
    if (rewarded)
        TRY(metric(row, m, n, 7, "reward", "%.4f", 1.0, "reward", err));
    /* Of one function alone the reward is its. */
    for (size_t f = 0; line->n_functions > 1 && f < line->n_functions; f++) {
        bool there = false;
        for (size_t i = 0; i < n && !there; i++) {
            const char *rest = strncmp(m[i].name, "rewards/", 8) == 0 ? m[i].name + 8 : "";
            const size_t length = strlen(line->functions[f]);
            there = strncmp(rest, line->functions[f], length) == 0 && strcmp(rest + length, "/mean") == 0;
            value = there ? m[i].value : (double)NAN;
        }
        TRY(function_field(row, line->functions[f], value, there, err));
    }
    TRY(field(row, 6, "left", left, err));
    if (line->evaluates && grpo)
        TRY(metric(row, m, n, 7, "eval", "%.4f", 1.0, "eval_reward", err));
    if (line->evaluates && !grpo)
        TRY(metric(row, m, n, 9, "eval loss", "%.4f", 1.0, "eval_loss", err));
    if (sft)
        TRY(metric(row, m, n, 8, "accuracy", "%.4f", 1.0, scores ? "accuracy" : "mean_token_accuracy", err));
    if (grpo || distilled) {
        TRY(metric(row, m, n, 6, "length", "%.0f", 1.0, "completions/mean_length", err));
        if (kl)
            TRY(metric(row, m, n, 7, "kl", "%.4f", 1.0, "kl", err));
        TRY(metric(row, m, n, 5, "cut", "%.0f %%", 100.0, "completions/clipped_ratio", err));
    }
    if (grpo)
        TRY(metric(row, m, n, 9, "no spread", "%.0f %%", 100.0, "frac_reward_zero_std", err));
    if (scores)
        TRY(metric(row, m, n, 7, "margin", "%.4f", 1.0, "margin", err));
    else
        TRY(metric(row, m, n, 7, "entropy", "%.3f", 1.0, "entropy", err));
    TRY(metric(row, m, n, 8, "grad", "%.3g", 1.0, "grad_norm", err));
    TRY(metric(row, m, n, 7, "s/step", "%.3g", 1.0, "step_time", err));
    if (!sft)
        TRY(metric(row, m, n, 7, "roll/s", "%.0f", 1.0, "throughput/rollout_tokens_per_second", err));
    return metric(row, m, n, 7, "train/s", "%.0f", 1.0, "throughput/train_tokens_per_second", err);
}

static cohort_status write_row(const struct step_line *line, bool header, const struct step_line_at *at,
                               const cohort_metric *metrics, size_t count, struct text *out, cohort_error *err)
{
    /* The last column stays free: some terminals wrap when it is filled. */
    struct row row = {.out = out, .header = header, .room = at->columns > 1 ? (size_t)at->columns - 1 : 0};
    TRY(fields(line, &row, at, metrics, count, err));
    while (out->length > 0 && out->data[out->length - 1] == ' ') /* a last field that is empty */
        out->data[--out->length] = '\0';
    return text_append(out, "\n", 1, err);
}

cohort_status step_line_write(struct step_line *line, const struct step_line_at *at, const cohort_metric *metrics,
                              size_t count, struct text *out, cohort_error *err)
{
    if (!line->begun)
        TRY(begin(line, at, metrics, count, err));
    if (line->lines == 0)
        TRY(write_row(line, true, at, metrics, count, out, err));
    TRY(write_row(line, false, at, metrics, count, out, err));
    line->lines = at->columns > 0 && line->lines + 1 >= HEADER_EVERY ? 0 : line->lines + 1;
    return COHORT_OK;
}

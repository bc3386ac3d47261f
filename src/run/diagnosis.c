/* State of the diagnosis: windows of the last steps, what they were at the run's begin, and what was said. */
#include "run/diagnosis_internal.h"

#include "base/utf8.h"

#include <math.h>
#include <string.h>

enum {
    BASE_FROM = 10, /* the base of a metric is the median of the counted steps 11 to 30 */
    BASE_TO = 30,
    KL_BASE_FROM = 30,
    KL_BASE_TO = 60,
    CLEAN_STEPS = 50 /* after which a rule may speak again */
};

static const char *const column_metrics[N_COLUMNS] = {
#define COLUMN(id, metric) [COLUMN_##id] = metric,
    DIAGNOSIS_COLUMN_LIST(COLUMN) DIAGNOSIS_MEASURED_LIST(COLUMN)
#undef COLUMN
};

static void clear_series(struct diagnosis_series *series)
{
    for (int32_t i = 0; i < DIAGNOSIS_FRAMES; i++)
        series->at[i] = (double)NAN;
}

cohort_status diagnosis_create(struct diagnosis **out, const struct diagnosis_setup *setup, cohort_error *err)
{
    struct diagnosis *d = NULL;
    TRY(mem_alloc(&d, 1, sizeof *d, "diagnosis", err));
    d->setup = *setup;
    for (int32_t c = 0; c < N_COLUMNS; c++) {
        clear_series(&d->columns[c]);
        d->base[c] = (double)NAN;
    }
    d->kl_base = d->best_mean = d->low10 = d->high10 = d->best_eval = d->last_eval_loss = (double)NAN;
    *out = d;
    return COHORT_OK;
}

void diagnosis_destroy(struct diagnosis *d)
{
    if (d == NULL)
        return;
    for (size_t f = 0; f < d->n_functions; f++)
        mem_free(d->functions[f].name);
    mem_free(d->functions);
    mem_free(d->queue);
    mem_free(d);
}

/* ---- Taking a step ---- */

static double find(const cohort_metric *metrics, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(metrics[i].name, name) == 0)
            return isfinite(metrics[i].value) ? metrics[i].value : (double)NAN;
    return (double)NAN;
}

static bool has(const cohort_metric *metrics, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(metrics[i].name, name) == 0)
            return true;
    return false;
}

static void push(struct diagnosis_series *series, double value)
{
    memmove(series->at, series->at + 1, (DIAGNOSIS_FRAMES - 1) * sizeof *series->at);
    series->at[DIAGNOSIS_FRAMES - 1] = value;
}

/* Length of NAME in rewards/NAME/part; 0: it is no such metric. */
static size_t function_name(const char *metric, const char *part)
{
    static const char before[] = "rewards/";
    const size_t n = strlen(metric), front = strlen(before), back = strlen(part);
    if (n <= front + back || strncmp(metric, before, front) != 0 || strcmp(metric + n - back, part) != 0)
        return 0;
    return n - front - back;
}

struct diagnosis_function *diagnosis_function_of(struct diagnosis *d, const char *name, size_t length)
{
    for (size_t f = 0; f < d->n_functions; f++)
        if (strncmp(d->functions[f].name, name, length) == 0 && d->functions[f].name[length] == '\0')
            return &d->functions[f];
    return NULL;
}

/* What fits of a name, cut where a character ends. */
static cohort_status show_name(struct diagnosis_function *function, cohort_error *err)
{
    struct text text = {0};
    cohort_status status = text_append_shown(&text, function->name, strlen(function->name), err);
    if (status == COHORT_OK && text.length > 0) {
        const size_t most = sizeof function->shown - 1, room = text.length < most ? text.length : most,
                     n = utf8_check(text.data, room);
        memcpy(function->shown, text.data, n);
    }
    text_free(&text);
    return status;
}

cohort_status diagnosis_add_function(struct diagnosis *d, const char *name, size_t length, cohort_error *err)
{
    struct diagnosis_function *function = NULL;
    TRY(mem_grow(&d->functions, &d->room, d->n_functions + 1, sizeof *d->functions, "diagnosis", err));
    function = &d->functions[d->n_functions];
    TRY(mem_strdup(&function->name, name, length, err));
    cohort_status status = show_name(function, err);
    if (status != COHORT_OK) {
        mem_free(function->name);
        function->name = NULL;
        return status;
    }
    clear_series(&function->mean);
    clear_series(&function->std);
    function->base = function->low = function->high = (double)NAN;
    d->n_functions++;
    return COHORT_OK;
}

static double lesser(double a, double b) { return isnan(a) || b < a ? b : a; }
static double greater(double a, double b) { return isnan(a) || b > a ? b : a; }

static void take_functions(struct diagnosis *d, const cohort_metric *metrics, size_t count)
{
    static const char prefix[] = "rewards/";
    for (size_t f = 0; f < d->n_functions; f++) {
        struct diagnosis_function *function = &d->functions[f];
        double mean = (double)NAN, std = (double)NAN;
        for (size_t i = 0; i < count; i++) {
            const char *name = metrics[i].name;
            const bool is_mean = function_name(name, "/mean") == strlen(function->name),
                       is_std = function_name(name, "/std") == strlen(function->name);
            if ((!is_mean && !is_std) || strncmp(name + strlen(prefix), function->name, strlen(function->name)) != 0)
                continue;
            *(is_mean ? &mean : &std) = isfinite(metrics[i].value) ? metrics[i].value : (double)NAN;
        }
        push(&function->mean, mean);
        push(&function->std, std);
        if (!isnan(mean)) {
            function->low = lesser(function->low, mean);
            function->high = greater(function->high, mean);
        }
    }
}

/* What is kept over more steps than a window has. */
static void take_range(struct diagnosis *d)
{
    const struct diagnosis_series *reward = &d->columns[COLUMN_REWARD];
    if (d->counted < 10)
        return;
    const double now = window_mean(reward, 10, 0);
    if (isnan(now))
        return;
    const double prompts = 10.0 * (d->setup.prompts > 0 ? d->setup.prompts : 1),
                 error = window_median(&d->columns[COLUMN_REWARD_STD], 10, 0) / sqrt(prompts),
                 fall = fmax(4.0 * error, 0.25 * (d->high10 - d->low10));
    d->collapsed = now < d->best_mean - fall ? d->collapsed + 1 : 0;
    d->low10 = lesser(d->low10, now);
    d->high10 = greater(d->high10, now);
    if (d->counted >= 50)
        d->best_mean = greater(d->best_mean, window_mean(reward, 50, 0));
}

static void take_bases(struct diagnosis *d)
{
    if (d->counted == BASE_TO)
        for (int32_t c = 0; c < N_KEPT_COLUMNS; c++)
            d->base[c] = window_median(&d->columns[c], BASE_TO - BASE_FROM, 0);
    if (d->measured == BASE_TO)
        for (int32_t c = N_KEPT_COLUMNS; c < N_COLUMNS; c++)
            d->base[c] = window_median(&d->columns[c], BASE_TO - BASE_FROM, 0);
    for (size_t f = 0; d->counted == BASE_TO && f < d->n_functions; f++)
        d->functions[f].base = window_median(&d->functions[f].mean, BASE_TO - BASE_FROM, 0);
    if (d->kl_counted == KL_BASE_TO)
        d->kl_base = window_median(&d->columns[COLUMN_KL], KL_BASE_TO - KL_BASE_FROM, 0);
}

static void take_frame(struct diagnosis *d, const cohort_metric *metrics, size_t count)
{
    const int64_t sync = d->setup.reference_steps;
    const double norm = find(metrics, count, "grad_norm"), usual = window_median(&d->columns[COLUMN_GRAD_NORM], 50, 0);
    for (int32_t c = 0; c < N_COLUMNS; c++)
        push(&d->columns[c], find(metrics, count, column_metrics[c]));
    take_functions(d, metrics, count);
    if (sync > 0 && d->last % sync == 0) { /* after this step the reference is another one */
        d->kl_counted = 0;
        d->kl_base = (double)NAN;
        clear_series(&d->columns[COLUMN_KL]);
    } else {
        d->kl_counted++;
    }
    const bool spike = d->counted >= 30 && norm > 10.0 * usual && norm > d->setup.max_grad_norm;
    d->spikes = d->spikes << 1 | (spike ? 1u : 0u);
    d->counted++;
    d->measured++;
    const double zero_std = window_at(&d->columns[COLUMN_ZERO_STD], 0);
    d->zero_std_sum += isnan(zero_std) ? 0.0 : zero_std;
    take_range(d);
    take_bases(d);
}

static void take_evaluation(struct diagnosis *d, const cohort_metric *metrics, size_t count)
{
    const double reward = find(metrics, count, "eval_reward"), loss = find(metrics, count, "eval_loss");
    if (!isnan(reward)) {
        const double n = (double)(d->setup.eval_prompts > 0 ? d->setup.eval_prompts : 1), p = d->best_eval,
                     std = p >= 0.0 && p <= 1.0 ? sqrt(p * (1.0 - p))
                                                : window_median(&d->columns[COLUMN_REWARD_STD], 10, 0),
                     below = (d->best_eval - reward) * sqrt(n);
        d->evaluations++;
        /* Without a spread a fall of any size is one. */
        d->below2 = below > 0.0 && below >= 2.0 * std ? d->below2 + 1 : 0;
        d->below4 = below > 0.0 && below >= 4.0 * std ? d->below4 + 1 : 0;
        d->best_eval = greater(d->best_eval, reward);
    }
    if (!isnan(loss)) {
        d->eval_loss_up = loss > d->last_eval_loss ? d->eval_loss_up + 1 : 0;
        d->last_eval_loss = loss;
    }
}

/* ---- Speaking ---- */

static void remember(struct diagnosis *d, const struct diagnosis_warning *warning)
{
    if (d->n_said == DIAGNOSIS_SAID) {
        memmove(d->said, d->said + 1, (DIAGNOSIS_SAID - 1) * sizeof *d->said);
        d->n_said--;
    }
    d->said[d->n_said++] = *warning;
}

static struct diagnosis_mark *mark_of(struct diagnosis *d, enum diagnosis_rule_index rule, size_t function)
{
    if (!diagnosis_of_functions(rule))
        return &d->marks[rule];
    return rule == RULE_FUNCTION_NULL ? &d->functions[function].unanswered : &d->functions[function].constant;
}

/* Asks a rule. worst: of what rules with the same cause before it said or found; gets this rule's too. */
static void ask(struct diagnosis *d, enum diagnosis_rule_index rule, size_t function, enum diagnosis_severity *worst)
{
    struct diagnosis_warning warning = {.rule = diagnosis_rule_at((size_t)rule), .step = d->last};
    struct diagnosis_mark *mark = mark_of(d, rule, function);
    const enum diagnosis_severity found = diagnosis_find(d, rule, function, warning.sentence);
    if (found == DIAGNOSIS_NONE) {
        mark->clean += mark->said != DIAGNOSIS_NONE && d->stepped ? 1 : 0;
        if (mark->clean >= CLEAN_STEPS)
            *mark = (struct diagnosis_mark){.said = DIAGNOSIS_NONE};
    } else {
        mark->clean = 0;
        if (found > mark->said && found > *worst) {
            warning.severity = mark->said = found;
            remember(d, &warning);
            d->queue[d->n_queue++] = warning;
        }
    }
    const enum diagnosis_severity stands = found > mark->said ? found : mark->said;
    *worst = stands > *worst ? stands : *worst;
}

static void ask_all(struct diagnosis *d)
{
    enum diagnosis_severity worst = DIAGNOSIS_NONE;
    for (int rule = 0; rule < N_RULES; rule++) {
        const enum diagnosis_rule_index r = (enum diagnosis_rule_index)rule;
        const int cause = diagnosis_cause(r);
        if (cause == 0 || rule == 0 || cause != diagnosis_cause((enum diagnosis_rule_index)(rule - 1)))
            worst = DIAGNOSIS_NONE;
        for (size_t f = 0; diagnosis_of_functions(r) && f < d->n_functions; f++) {
            worst = DIAGNOSIS_NONE;
            ask(d, r, f, &worst);
        }
        if (!diagnosis_of_functions(r))
            ask(d, r, 0, &worst);
    }
}

/* Room for what every rule might say, so that speaking cannot fail. */
static cohort_status make_room(struct diagnosis *d, cohort_error *err)
{
    if (d->taken == d->n_queue)
        d->taken = d->n_queue = 0;
    return mem_grow(&d->queue, &d->queue_room, d->n_queue + N_RULES + 2 * d->n_functions, sizeof *d->queue, "diagnosis",
                    err);
}

cohort_status diagnosis_step(struct diagnosis *d, int64_t step, const cohort_metric *metrics, size_t count,
                             bool evaluation, cohort_error *err)
{
    for (size_t i = 0; i < count; i++) {
        const size_t length = function_name(metrics[i].name, "/mean");
        const char *name = metrics[i].name + strlen("rewards/");
        if (length > 0 && diagnosis_function_of(d, name, length) == NULL)
            TRY(diagnosis_add_function(d, name, length, err));
    }
    TRY(make_room(d, err));
    d->stepped = has(metrics, count, "grad_norm");
    if (d->stepped) {
        const bool skipped = isnan(find(metrics, count, "grad_norm")) || isnan(find(metrics, count, "loss")),
                   small = find(metrics, count, "learning_rate") < 0.1 * d->setup.peak_rate;
        const double off = find(metrics, count, "sampling/sampling_logp_difference/max");
        d->last = step;
        d->steps++;
        d->skips = d->skips << 1 | (skipped ? 1u : 0u);
        d->ratio_off = isnan(off) ? 0.0 : off;
        if (!skipped && !small)
            take_frame(d, metrics, count);
    }
    if (evaluation)
        take_evaluation(d, metrics, count);
    if (d->steps > 0)
        ask_all(d);
    return COHORT_OK;
}

void diagnosis_end(struct diagnosis *d)
{
    if (d->steps == 0 || d->ended || make_room(d, NULL) != COHORT_OK)
        return;
    d->ended = true;
    d->stepped = false;
    ask_all(d);
}

bool diagnosis_next(struct diagnosis *d, struct diagnosis_warning *out)
{
    if (d->taken == d->n_queue)
        return false;
    *out = d->queue[d->taken++];
    return true;
}

size_t diagnosis_said(const struct diagnosis *d) { return d->n_said; }

const struct diagnosis_warning *diagnosis_said_at(const struct diagnosis *d, size_t i) { return &d->said[i]; }

const char *diagnosis_severity_name(enum diagnosis_severity severity)
{
    static const char *const names[] = {"none", "note", "warning", "fatal"};
    return names[severity];
}

cohort_status diagnosis_describe(const struct diagnosis_warning *warning, struct text *out, cohort_error *err)
{
    return text_printf(out, err, "%s: step %lld, %s: %s. Usually: %s",
                       warning->severity == DIAGNOSIS_NOTE ? "note" : "warning", (long long)warning->step,
                       warning->rule->id, warning->sentence, warning->rule->usually);
}

#include "recipe/best_model.h"

#include <stdio.h>
#include <string.h>

cohort_status best_model_open(struct best_model *best, const struct options *options, const char *metric,
                              bool evaluates, cohort_error *err)
{
    static const char prefix[] = "eval_", loss[] = "loss";
    const size_t n = strlen(metric), m = sizeof loss - 1;
    const bool is_loss = n >= m && strcmp(metric + n - m, loss) == 0;
    if (snprintf(best->metric, sizeof best->metric, "%s%s",
                 strncmp(metric, prefix, sizeof prefix - 1) == 0 ? "" : prefix, metric) >= (int)sizeof best->metric)
        return error_set(err, COHORT_ERR_ARGUMENT, "--metric-for-best-model: the name is longer than %zu bytes",
                         sizeof best->metric - sizeof prefix);
    best->keeps = options_bool(options, OPTION_LOAD_BEST_MODEL_AT_END);
    best->rule = (struct best_rule){.greater = options_bool_or(options, OPTION_GREATER_IS_BETTER, !is_loss),
                                    .threshold = options_float(options, OPTION_EARLY_STOPPING_THRESHOLD),
                                    .patience = options_int_or(options, OPTION_EARLY_STOPPING_PATIENCE, 0)};
    if (best_model_compares(best) && (!evaluates || !options_is_set(options, OPTION_EVAL_DATA)))
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "--%s looks at evaluations during the run: pass --eval-data FILE, and --eval-steps N%s",
                         best->keeps ? "load-best-model-at-end" : "early-stopping-patience",
                         options_has(options, "eval_strategy") ? " or --eval-strategy epoch" : "");
    return COHORT_OK;
}

bool best_model_compares(const struct best_model *best) { return best->keeps || best->rule.patience > 0; }

void best_model_begin(const struct best_model *best, struct training *t)
{
    t->run.spared = best->keeps ? t->state.best.step : 0;
}

cohort_status best_model_check(const struct best_model *best, const struct metrics *metrics, cohort_error *err)
{
    struct text names = {0};
    bool there = !best_model_compares(best);
    for (size_t i = 0; i < metrics->count && !there; i++)
        there = strcmp(metrics->items[i].name, best->metric) == 0;
    if (there)
        return COHORT_OK;
    cohort_status status = COHORT_OK;
    for (size_t i = 0; i < metrics->count && status == COHORT_OK; i++)
        if (strncmp(metrics->items[i].name, "eval_", 5) == 0)
            status = text_printf(&names, err, "%s%s", names.length > 0 ? ", " : "", metrics->items[i].name + 5);
    if (status == COHORT_OK)
        status = error_set(err, COHORT_ERR_ARGUMENT,
                           "metric_for_best_model: an evaluation of this run has no '%s'; it has %s", best->metric + 5,
                           names.data == NULL ? "none" : names.data);
    text_free(&names);
    return status;
}

bool best_model_take(const struct best_model *best, struct training *t, const struct metrics *metrics)
{
    if (!best_model_compares(best) || t->state.best.counted == t->state.step)
        return false;
    const bool better = best_take(&t->state.best, &best->rule, t->state.step, metrics_get(metrics, best->metric));
    best_model_begin(best, t);
    return better && best->keeps;
}

bool best_model_stops(const struct best_model *best, const struct training *t)
{
    return best_stops(&t->state.best, &best->rule);
}

void best_model_tell_stop(const struct best_model *best, const struct training *t)
{
    observer_message(t->observer,
                     "stopped after step %lld: %lld evaluations in a row are not better than the best, %s %.4f after "
                     "step %lld",
                     (long long)t->state.step, (long long)t->state.best.worse, best->metric, t->state.best.value,
                     (long long)t->state.best.step);
}

cohort_status best_model_save_final(const struct best_model *best, struct training *t, cohort_error *err)
{
    const int64_t step = t->state.best.step;
    if (!best->keeps || step == 0 || step == t->state.step)
        return training_save_final(t, err);
    observer_message(t->observer, "final is the model of step %lld: its %s is the best, %.4f", (long long)step,
                     best->metric, t->state.best.value);
    return training_save_final_of(t, step, err);
}

/* The parameters of a schedule: which type has which, their defaults (the signatures of transformers/optimization.py),
 * and what must fit together. */
#include "base/number.h"
#include "train/schedule.h"

#include <math.h>
#include <string.h>

static const char *const type_names[] = {
#define SCHEDULE(id, word) word,
    SCHEDULE_LIST(SCHEDULE)
#undef SCHEDULE
};

static const char *const curve_names[] = {
#define CURVE(id, word) word,
    SCHEDULE_CURVE_LIST(CURVE)
#undef CURVE
};
enum { N_CURVES = sizeof curve_names / sizeof curve_names[0] };

enum form { NUMBER, WHOLE, CURVE };
static const struct {
    const char *name;
    enum form form;
    double least, most;
} parameters[N_SCHEDULE_PARAMETERS] = {
#define PARAMETER(id, name, form, least, most) {name, form, least, most},
    SCHEDULE_PARAMETER_LIST(PARAMETER)
#undef PARAMETER
};

/* Which type has which parameter, with the default; NAN: none. */
static const struct {
    enum schedule_type type;
    enum schedule_parameter parameter;
    double fallback;
} owned[] = {
    {SCHEDULE_COSINE, SCHEDULE_NUM_CYCLES, 0.5},
    {SCHEDULE_COSINE_WITH_RESTARTS, SCHEDULE_NUM_CYCLES, 1},
    {SCHEDULE_POLYNOMIAL, SCHEDULE_LR_END, 1e-7},
    {SCHEDULE_POLYNOMIAL, SCHEDULE_POWER, 1},
    {SCHEDULE_INVERSE_SQRT, SCHEDULE_TIMESCALE, NAN},
    {SCHEDULE_COSINE_WITH_MIN_LR, SCHEDULE_NUM_CYCLES, 0.5},
    {SCHEDULE_COSINE_WITH_MIN_LR, SCHEDULE_MIN_LR, NAN},
    {SCHEDULE_COSINE_WITH_MIN_LR, SCHEDULE_MIN_LR_RATE, NAN},
    {SCHEDULE_COSINE_WARMUP_WITH_MIN_LR, SCHEDULE_NUM_CYCLES, 0.5},
    {SCHEDULE_COSINE_WARMUP_WITH_MIN_LR, SCHEDULE_MIN_LR, NAN},
    {SCHEDULE_COSINE_WARMUP_WITH_MIN_LR, SCHEDULE_MIN_LR_RATE, NAN},
    {SCHEDULE_COSINE_WARMUP_WITH_MIN_LR, SCHEDULE_WARMUP_LR_RATE, NAN},
    {SCHEDULE_WARMUP_STABLE_DECAY, SCHEDULE_NUM_DECAY_STEPS, NAN},
    {SCHEDULE_WARMUP_STABLE_DECAY, SCHEDULE_NUM_STABLE_STEPS, NAN},
    {SCHEDULE_WARMUP_STABLE_DECAY, SCHEDULE_WARMUP_TYPE, 0},
    {SCHEDULE_WARMUP_STABLE_DECAY, SCHEDULE_DECAY_TYPE, 1},
    {SCHEDULE_WARMUP_STABLE_DECAY, SCHEDULE_MIN_LR_RATIO, 0},
    {SCHEDULE_WARMUP_STABLE_DECAY, SCHEDULE_NUM_CYCLES, 0.5},
};
enum { N_OWNED = sizeof owned / sizeof owned[0] };

void schedule_init(struct schedule *schedule, enum schedule_type type, double learning_rate)
{
    *schedule = (struct schedule){.type = type, .learning_rate = learning_rate};
    for (int i = 0; i < N_SCHEDULE_PARAMETERS; i++)
        schedule->parameters[i] = NAN;
    for (int i = 0; i < N_OWNED; i++)
        if (owned[i].type == type)
            schedule->parameters[owned[i].parameter] = owned[i].fallback;
}

/* "num_cycles, power": what the type has. */
static const char *names_of(enum schedule_type type, char list[256])
{
    list[0] = '\0';
    for (int i = 0; i < N_OWNED; i++)
        if (owned[i].type == type) {
            strcat(list, list[0] == '\0' ? "it has " : ", ");
            strcat(list, parameters[owned[i].parameter].name);
        }
    return list[0] == '\0' ? "it has none" : list;
}

/* The parameter that the first length bytes of an item name, of those of the type; -1: none. */
static int find(enum schedule_type type, const char *name, size_t length)
{
    for (int i = 0; i < N_OWNED; i++) {
        const char *own = parameters[owned[i].parameter].name;
        if (owned[i].type == type && strlen(own) == length && memcmp(own, name, length) == 0)
            return (int)owned[i].parameter;
    }
    return -1;
}

static bool read_value(enum schedule_parameter parameter, const char *text, double *value)
{
    if (parameters[parameter].form == CURVE) {
        int i = 0;
        while (i < N_CURVES && strcmp(text, curve_names[i]) != 0)
            i++;
        *value = i;
        return i < N_CURVES;
    }
    return number_read(text, strlen(text), value) && *value >= parameters[parameter].least &&
           *value <= parameters[parameter].most && (parameters[parameter].form == NUMBER || *value == floor(*value));
}

cohort_status schedule_set(struct schedule *schedule, const char *item, cohort_error *err)
{
    const size_t length = strcspn(item, "=");
    const char *const type = type_names[schedule->type];
    char list[256];
    if (item[length] == '\0')
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "lr_scheduler_kwargs: '%.80s' is no parameter with a value: write NAME=VALUE, such as "
                         "num_cycles=2",
                         item);
    const int found = find(schedule->type, item, length);
    if (found < 0)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "lr_scheduler_kwargs: the %s schedule has no parameter '%.*s'; %s: leave it out, or choose "
                         "another lr_scheduler_type",
                         type, length > 80 ? 80 : (int)length, item, names_of(schedule->type, list));
    const char *const text = item + length + 1;
    const double least = parameters[found].least, most = parameters[found].most;
    if (schedule->given[found])
        return error_set(err, COHORT_ERR_ARGUMENT, "lr_scheduler_kwargs: %s is given twice; keep one of them",
                         parameters[found].name);
    if (!read_value((enum schedule_parameter)found, text, &schedule->parameters[found]))
        return parameters[found].form == CURVE
                   ? error_set(err, COHORT_ERR_ARGUMENT,
                               "lr_scheduler_kwargs: %s cannot be '%.80s': expected one of linear, cosine, 1-sqrt",
                               parameters[found].name, text)
                   : error_set(err, COHORT_ERR_ARGUMENT,
                               "lr_scheduler_kwargs: %s cannot be '%.80s': expected %s from %g to %g",
                               parameters[found].name, text,
                               parameters[found].form == WHOLE ? "an integer" : "a number", least, most);
    schedule->given[found] = true;
    return COHORT_OK;
}

bool schedule_needs_total(const struct schedule *schedule, double warmup)
{
    if (warmup > 0.0 && warmup < 1.0)
        return true;
    switch (schedule->type) {
    case SCHEDULE_CONSTANT:
    case SCHEDULE_CONSTANT_WITH_WARMUP:
    case SCHEDULE_INVERSE_SQRT: return false;
    case SCHEDULE_WARMUP_STABLE_DECAY: return !schedule->given[SCHEDULE_NUM_STABLE_STEPS];
    case SCHEDULE_LINEAR:
    case SCHEDULE_COSINE:
    case SCHEDULE_COSINE_WITH_RESTARTS:
    case SCHEDULE_POLYNOMIAL:
    case SCHEDULE_COSINE_WITH_MIN_LR:
    case SCHEDULE_COSINE_WARMUP_WITH_MIN_LR: return true;
    }
    return true;
}

static cohort_status plan_least(struct schedule *s, cohort_error *err)
{
    double *p = s->parameters;
    const bool rate = s->given[SCHEDULE_MIN_LR], share = s->given[SCHEDULE_MIN_LR_RATE];
    if (rate == share)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "lr_scheduler_type %s needs %s of min_lr (a rate) and min_lr_rate (a share of learning_rate), "
                         "such as lr_scheduler_kwargs: {min_lr_rate: 0.1}",
                         type_names[s->type], rate ? "only one" : "one");
    if (rate && !(p[SCHEDULE_MIN_LR] <= s->learning_rate && s->learning_rate > 0.0))
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "lr_scheduler_kwargs: min_lr %g must be at most learning_rate %g, which must be above 0",
                         p[SCHEDULE_MIN_LR], s->learning_rate);
    if (rate)
        p[SCHEDULE_MIN_LR_RATE] = p[SCHEDULE_MIN_LR] / s->learning_rate;
    return COHORT_OK;
}

static cohort_status plan_decay(struct schedule *s, cohort_error *err)
{
    double *p = s->parameters;
    if (!s->given[SCHEDULE_NUM_DECAY_STEPS])
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "lr_scheduler_type warmup_stable_decay needs the length of the decay, such as "
                         "lr_scheduler_kwargs: {num_decay_steps: 100}");
    if (s->given[SCHEDULE_NUM_STABLE_STEPS])
        return COHORT_OK;
    p[SCHEDULE_NUM_STABLE_STEPS] = (double)(s->total_steps - s->warmup_steps) - p[SCHEDULE_NUM_DECAY_STEPS];
    if (p[SCHEDULE_NUM_STABLE_STEPS] >= 0.0)
        return COHORT_OK;
    return error_set(err, COHORT_ERR_ARGUMENT,
                     "warmup_stable_decay: %lld steps of warm-up and %.0f of decay (num_decay_steps) are more than the "
                     "%lld steps of the run: shorten one of them",
                     (long long)s->warmup_steps, p[SCHEDULE_NUM_DECAY_STEPS], (long long)s->total_steps);
}

cohort_status schedule_plan(struct schedule *s, double warmup, int64_t total_steps, cohort_error *err)
{
    const double MOST = 1e15; /* steps: what a double counts exactly, and no run has */
    if (total_steps == 0 && schedule_needs_total(s, warmup))
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "a learning rate that decays (lr_scheduler_type %s), or a warm-up that is a share of the run, "
                         "needs steps, the number of optimizer steps",
                         type_names[s->type]);
    s->total_steps = total_steps;
    s->warmup_steps = (int64_t)(warmup >= 1.0 ? fmin(warmup, MOST) : ceil((double)total_steps * warmup));
    switch (s->type) {
    case SCHEDULE_POLYNOMIAL:
        if (s->learning_rate > s->parameters[SCHEDULE_LR_END])
            return COHORT_OK;
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "lr_scheduler_kwargs: lr_end %g is not below learning_rate %g: choose a smaller one",
                         s->parameters[SCHEDULE_LR_END], s->learning_rate);
    case SCHEDULE_INVERSE_SQRT:
        if (!s->given[SCHEDULE_TIMESCALE])
            s->parameters[SCHEDULE_TIMESCALE] = s->warmup_steps > 0 ? (double)s->warmup_steps : 10000.0;
        return COHORT_OK;
    case SCHEDULE_COSINE_WITH_MIN_LR:
    case SCHEDULE_COSINE_WARMUP_WITH_MIN_LR: return plan_least(s, err);
    case SCHEDULE_WARMUP_STABLE_DECAY: return plan_decay(s, err);
    case SCHEDULE_CONSTANT:
    case SCHEDULE_LINEAR:
    case SCHEDULE_COSINE:
    case SCHEDULE_COSINE_WITH_RESTARTS:
    case SCHEDULE_CONSTANT_WITH_WARMUP: return COHORT_OK;
    }
    return COHORT_OK;
}

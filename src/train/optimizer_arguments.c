/* What the options say of an optimizer: its arguments (names and defaults of transformers and torch), and groups of
 * tensors. */
#include "base/number.h"
#include "train/optimizer.h"

#include <math.h>
#include <string.h>

static const struct {
    const char *word;
    enum optimizer_type type;
} words[] = {
#define WORD(id, word, type) {word, OPTIMIZER_##type},
    OPTIM_LIST(WORD)
#undef WORD
};

static const char *const rate_names[] = {
#define RATE(id, word) word,
    OPTIMIZER_RATE_LIST(RATE)
#undef RATE
};
enum { N_RATES = sizeof rate_names / sizeof rate_names[0] };

enum form { NUMBER, WHOLE, SWITCH, RATE };
static const struct {
    const char *name;
    enum form form;
    double least, most;
} arguments[N_OPTIMIZER_ARGUMENTS] = {
#define ARGUMENT(id, name, form, least, most) {name, form, least, most},
    OPTIMIZER_ARGUMENT_LIST(ARGUMENT)
#undef ARGUMENT
};

/* Which optimizer has which argument, with the default. */
static const struct {
    enum optimizer_type type;
    enum optimizer_argument argument;
    double fallback;
} owned[] = {
    {OPTIMIZER_SGD, OPTIMIZER_MOMENTUM, 0},
    {OPTIMIZER_SGD, OPTIMIZER_DAMPENING, 0},
    {OPTIMIZER_SGD, OPTIMIZER_NESTEROV, 0},
    {OPTIMIZER_MUON, OPTIMIZER_MOMENTUM, 0.95},
    {OPTIMIZER_MUON, OPTIMIZER_NESTEROV, 1},
    {OPTIMIZER_MUON, OPTIMIZER_NS_STEPS, 5},
    {OPTIMIZER_MUON, OPTIMIZER_NS_EPS, 1e-7},
    {OPTIMIZER_MUON, OPTIMIZER_ADJUST_LR_FN, OPTIMIZER_RATE_ORIGINAL},
    {OPTIMIZER_ADAFACTOR, OPTIMIZER_CLIP_THRESHOLD, 1},
    {OPTIMIZER_ADAFACTOR, OPTIMIZER_DECAY_RATE, -0.8},
    {OPTIMIZER_ADAFACTOR, OPTIMIZER_BETA1, 0},
    {OPTIMIZER_ADAFACTOR, OPTIMIZER_SCALE_PARAMETER, 0},
    {OPTIMIZER_ADAFACTOR, OPTIMIZER_RELATIVE_STEP, 0},
    {OPTIMIZER_ADAFACTOR, OPTIMIZER_WARMUP_INIT, 0},
};
enum { N_OWNED = sizeof owned / sizeof owned[0] };

void optimizer_init(struct optimizer *optimizer, int word)
{
    *optimizer = (struct optimizer){.type = words[word].type};
    for (int i = 0; i < N_OWNED; i++)
        if (owned[i].type == optimizer->type)
            optimizer->arguments[owned[i].argument] = owned[i].fallback;
}

static const char *word_of(enum optimizer_type type)
{
    size_t i = 0;
    while (words[i].type != type)
        i++;
    return words[i].word;
}

/* "it has momentum, nesterov" */
static const char *names_of(enum optimizer_type type, char list[256])
{
    list[0] = '\0';
    for (int i = 0; i < N_OWNED; i++)
        if (owned[i].type == type) {
            strcat(list, list[0] == '\0' ? "it has " : ", ");
            strcat(list, arguments[owned[i].argument].name);
        }
    return list[0] != '\0'          ? list
           : type == OPTIMIZER_LION ? "it has adam_beta1 and adam_beta2, options of their own"
                                    : "it has adam_beta1, adam_beta2 and adam_epsilon, options of their own";
}

static int find(enum optimizer_type type, const char *name, size_t length)
{
    for (int i = 0; i < N_OWNED; i++) {
        const char *own = arguments[owned[i].argument].name;
        if (owned[i].type == type && strlen(own) == length && memcmp(own, name, length) == 0)
            return (int)owned[i].argument;
    }
    return -1;
}

static bool read_value(int argument, const char *text, double *value)
{
    const double least = arguments[argument].least, most = arguments[argument].most;
    switch (arguments[argument].form) {
    case SWITCH: *value = ascii_same(text, "true") ? 1.0 : 0.0; return *value == 1.0 || ascii_same(text, "false");
    case RATE:
        for (int i = 0; i < N_RATES; i++)
            if (strcmp(text, rate_names[i]) == 0) {
                *value = i;
                return true;
            }
        return false;
    case NUMBER:
    case WHOLE: break;
    }
    return number_read(text, strlen(text), value) && *value >= least && *value <= most &&
           (arguments[argument].form == NUMBER || *value == floor(*value));
}

static cohort_status bad_value(int argument, const char *text, cohort_error *err)
{
    const char *name = arguments[argument].name;
    switch (arguments[argument].form) {
    case SWITCH:
        return error_set(err, COHORT_ERR_ARGUMENT, "optim_args: %s cannot be '%.80s': expected true or false", name,
                         text);
    case RATE:
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "optim_args: %s cannot be '%.80s': expected one of original, match_rms_adamw, "
                         "spectral_unclamped",
                         name, text);
    case NUMBER:
    case WHOLE: break;
    }
    return error_set(err, COHORT_ERR_ARGUMENT, "optim_args: %s cannot be '%.80s': expected %s from %g to %g", name,
                     text, arguments[argument].form == WHOLE ? "an integer" : "a number", arguments[argument].least,
                     arguments[argument].most);
}

cohort_status optimizer_set(struct optimizer *optimizer, const char *item, cohort_error *err)
{
    const size_t length = strcspn(item, "=");
    char list[256];
    if (item[length] == '\0')
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "optim_args: '%.80s' is no argument with a value: write NAME=VALUE, such as momentum=0.9",
                         item);
    const int found = find(optimizer->type, item, length);
    if (found < 0)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "optim_args: the optimizer %s has no argument '%.*s'; %s: leave it out, or choose another "
                         "optim",
                         word_of(optimizer->type), length > 80 ? 80 : (int)length, item,
                         names_of(optimizer->type, list));
    if (optimizer->given[found])
        return error_set(err, COHORT_ERR_ARGUMENT, "optim_args: %s is given twice; keep one of them",
                         arguments[found].name);
    if (!read_value(found, item + length + 1, &optimizer->arguments[found]))
        return bad_value(found, item + length + 1, err);
    optimizer->given[found] = true;
    return COHORT_OK;
}

cohort_status optimizer_add_group(struct optimizer *optimizer, bool decay, const char *item, cohort_error *err)
{
    const char *const option = decay ? "weight_decay_groups" : "lr_groups", *equals = strrchr(item, '=');
    const double most = decay ? 10.0 : 1e6;
    int32_t *n = decay ? &optimizer->n_decay : &optimizer->n_lr;
    struct optimizer_group *groups = decay ? optimizer->decay : optimizer->lr;
    double value = 0.0;
    const size_t length = equals == NULL ? 0 : (size_t)(equals - item);
    if (length == 0 || length >= sizeof groups->pattern || !number_read(equals + 1, strlen(equals + 1), &value) ||
        !(value >= 0.0 && value <= most))
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "%s: '%.120s' is not PATTERN=NUMBER with a pattern of at most %d characters and a number from "
                         "0 to %g, such as lm_head=0.1",
                         option, item, (int)sizeof groups->pattern - 1, most);
    if (*n == OPTIMIZER_GROUPS)
        return error_set(err, COHORT_ERR_ARGUMENT, "%s: more than %d groups; use patterns that cover more", option,
                         (int)OPTIMIZER_GROUPS);
    memcpy(groups[*n].pattern, item, length);
    groups[*n].pattern[length] = '\0';
    groups[(*n)++].value = value;
    return COHORT_OK;
}

cohort_status optimizer_check(const struct optimizer *optimizer, cohort_error *err)
{
    const double *a = optimizer->arguments;
    if (optimizer->type == OPTIMIZER_SGD && a[OPTIMIZER_NESTEROV] != 0.0 &&
        (a[OPTIMIZER_MOMENTUM] == 0.0 || a[OPTIMIZER_DAMPENING] != 0.0))
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "optim_args: nesterov needs a momentum above 0 and dampening 0, such as momentum=0.9");
    if (optimizer->type == OPTIMIZER_ADAFACTOR && a[OPTIMIZER_WARMUP_INIT] != 0.0 && a[OPTIMIZER_RELATIVE_STEP] == 0.0)
        return error_set(err, COHORT_ERR_ARGUMENT, "optim_args: warmup_init=true needs relative_step=true");
    if (optimizer->type == OPTIMIZER_ADAFACTOR && a[OPTIMIZER_RELATIVE_STEP] != 0.0 && optimizer->n_lr > 0)
        return error_set(
            err, COHORT_ERR_ARGUMENT,
            "lr_groups: with relative_step=true Adafactor has rates of its own and heeds no learning_rate: "
            "leave one of them out");
    return COHORT_OK;
}

/* '*' is any characters. */
static bool matches_whole(const char *pattern, const char *name)
{
    const char *star = NULL, *from = NULL; /* the last star, and where what it covers ends for now */
    while (*name != '\0') {
        if (*pattern == '*') {
            star = pattern++;
            from = name;
        } else if (*pattern == *name) {
            pattern++;
            name++;
        } else if (star != NULL) {
            pattern = star + 1;
            name = ++from;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return *pattern == '\0';
}

bool optimizer_matches(const char *pattern, const char *name)
{
    const size_t n = strlen(pattern);
    if (strchr(pattern, '*') != NULL)
        return matches_whole(pattern, name);
    for (const char *at = name; (at = strstr(at, pattern)) != NULL; at++)
        if ((at == name || at[-1] == '.') && (at[n] == '\0' || at[n] == '.'))
            return true;
    return false;
}

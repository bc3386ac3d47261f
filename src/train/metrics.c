#include "train/metrics.h"

#include "base/number.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

void metrics_set(struct metrics *metrics, const char *name, double value)
{
    size_t i = 0;
    while (i < metrics->count && strcmp(metrics->items[i].name, name) != 0)
        i++;
    assert(i < METRICS_MAX);
    snprintf(metrics->items[i].name, sizeof metrics->items[i].name, "%s", name);
    metrics->items[i].value = value;
    if (i == metrics->count)
        metrics->count++;
}

void metrics_setf(struct metrics *metrics, double value, const char *format, ...)
{
    char name[sizeof metrics->items[0].name];
    va_list args;
    va_start(args, format);
    number_vformat(name, sizeof name, format, args);
    va_end(args);
    metrics_set(metrics, name, value);
}

double metrics_get(const struct metrics *metrics, const char *name)
{
    for (size_t i = 0; i < metrics->count; i++)
        if (strcmp(metrics->items[i].name, name) == 0)
            return metrics->items[i].value;
    return (double)NAN;
}

/* Names come from our own code and from reward specs: quotes and backslashes are all that needs
 * care. */
static cohort_status write_name(const char *name, struct text *out, cohort_error *err)
{
    TRY(text_append(out, "\"", 1, err));
    for (; *name != '\0'; name++) {
        if (*name == '"' || *name == '\\')
            TRY(text_append(out, "\\", 1, err));
        if ((unsigned char)*name >= 0x20)
            TRY(text_append(out, name, 1, err));
    }
    return text_append(out, "\": ", 3, err);
}

cohort_status metrics_write(const struct metrics *metrics, struct text *out, cohort_error *err)
{
    for (size_t i = 0; i < metrics->count; i++) {
        double value = metrics->items[i].value;
        TRY(text_append(out, i == 0 ? "{" : ", ", i == 0 ? 1 : 2, err));
        TRY(write_name(metrics->items[i].name, out, err));
        if (!isfinite(value))
            TRY(text_append(out, "null", 4, err));
        else if (value == floor(value) && fabs(value) < 1e15)
            TRY(text_printf(out, err, "%.0f", value));
        else
            TRY(text_printf(out, err, "%.9g", value));
    }
    return text_append(out, "}\n", 2, err);
}

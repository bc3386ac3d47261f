#include "train/metrics.h"

#include "base/number.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

void metrics_set(struct metrics *metrics, const char *name, double value)
{
    size_t i = 0;
    while (i < metrics->count && strcmp(metrics->items[i].name, name) != 0)
        i++;
    if (i == metrics->count) {
        char *copy = NULL;
        if (mem_grow(&metrics->items, &metrics->room, i + 1, sizeof *metrics->items, "metrics", NULL) != COHORT_OK ||
            mem_strdup(&copy, name, strlen(name), NULL) != COHORT_OK) {
            metrics->incomplete = true;
            return;
        }
        metrics->items[i].name = copy;
        metrics->count++;
    }
    metrics->items[i].value = value;
}

static void set_formatted(struct metrics *metrics, double value, bool replaces, const char *format, va_list args)
{
    char *name = NULL;
    va_list again;
    va_copy(again, args);
    int length = number_vformat(NULL, 0, format, args);
    if (length < 0 || mem_alloc(&name, (size_t)length + 1, 1, "metrics", NULL) != COHORT_OK) {
        metrics->incomplete = true;
    } else {
        number_vformat(name, (size_t)length + 1, format, again);
        bool there = false;
        for (size_t i = 0; !replaces && !there && i < metrics->count; i++)
            there = strcmp(metrics->items[i].name, name) == 0;
        if (!there)
            metrics_set(metrics, name, value);
    }
    va_end(again);
    mem_free(name);
}

void metrics_setf(struct metrics *metrics, double value, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    set_formatted(metrics, value, true, format, args);
    va_end(args);
}

void metrics_offer(struct metrics *metrics, double value, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    set_formatted(metrics, value, false, format, args);
    va_end(args);
}

void metrics_add(struct metrics *metrics, const struct metrics *other)
{
    for (size_t i = 0; i < other->count; i++)
        metrics_set(metrics, other->items[i].name, other->items[i].value);
    metrics->incomplete = metrics->incomplete || other->incomplete;
}

void metrics_free(struct metrics *metrics)
{
    if (metrics == NULL)
        return;
    for (size_t i = 0; i < metrics->count; i++)
        mem_free((void *)(uintptr_t)metrics->items[i].name);
    mem_free(metrics->items);
    memset(metrics, 0, sizeof *metrics);
}

double metrics_get(const struct metrics *metrics, const char *name)
{
    for (size_t i = 0; i < metrics->count; i++)
        if (strcmp(metrics->items[i].name, name) == 0)
            return metrics->items[i].value;
    return (double)NAN;
}

/* Names come from our own code and from reward specs: quotes and backslashes are all that needs care. */
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
    if (metrics->incomplete)
        return error_set(err, COHORT_ERR_MEMORY, "metrics of a step: out of memory");
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

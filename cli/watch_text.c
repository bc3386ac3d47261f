/* Text and numbers of the view. */
#include "watch.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

double watch_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double watch_time(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void watch_lines_add(struct watch_lines *lines, const char *text, size_t length)
{
    for (const char *at = text, *end = text + length; at <= end;) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        const size_t n = (size_t)((stop == NULL ? end : stop) - at);
        char *shown = NULL;
        if (lines->n == lines->room) {
            const size_t room = lines->room == 0 ? 64 : 2 * lines->room;
            char **more = realloc(lines->at, room * sizeof *more);
            if (more == NULL)
                return;
            lines->at = more;
            lines->room = room;
        }
        if (cohort_shown(at, n, &shown, NULL) != COHORT_OK)
            return;
        lines->at[lines->n++] = shown;
        if (stop == NULL)
            return;
        at = stop + 1;
    }
}

void watch_lines_free(struct watch_lines *lines)
{
    for (size_t i = 0; i < lines->n; i++)
        cohort_free(lines->at[i]);
    free(lines->at);
    memset(lines, 0, sizeof *lines);
}

void watch_duration(double seconds, char out[24])
{
    const long long s = seconds >= 0.0 && seconds < 1e10 ? (long long)(seconds + 0.5) : -1;
    if (s < 0)
        snprintf(out, 24, "-");
    else if (s >= 86400)
        snprintf(out, 24, "%lld d %02lld h", s / 86400, s / 3600 % 24);
    else if (s >= 3600)
        snprintf(out, 24, "%lld h %02lld m", s / 3600, s / 60 % 60);
    else if (s >= 60)
        snprintf(out, 24, "%lld m %02lld s", s / 60, s % 60);
    else
        snprintf(out, 24, "%lld s", s);
}

void watch_number(double value, char *out, size_t size)
{
    const double most = fabs(value);
    if (isnan(value))
        snprintf(out, size, "null");
    else if (isinf(value))
        snprintf(out, size, value > 0.0 ? "inf" : "-inf");
    else if (most != 0.0 && (most < 1e-3 || most >= 1e6))
        snprintf(out, size, "%.1e", value);
    else if (most >= 1000.0)
        snprintf(out, size, "%.0f", value);
    else if (most >= 100.0)
        snprintf(out, size, "%.1f", value);
    else if (most >= 1.0)
        snprintf(out, size, "%.2f", value);
    else
        snprintf(out, size, most < 0.01 && most != 0.0 ? "%.4f" : "%.3f", value);
}

const char *watch_trend(const struct watch_curve *curve)
{
    enum { LAST = 50, LEAST = 8 };
    double last[LAST];
    size_t n = 0;
    long sum = 0;
    for (size_t i = curve->n; i-- > 0 && n < LAST;)
        if (isfinite(curve->values[i]))
            last[n++] = curve->values[i]; /* the newest first */
    if (n < LEAST)
        return "";
    for (size_t i = 0; i < n; i++)
        for (size_t k = i + 1; k < n; k++)
            sum += (last[i] > last[k]) - (last[i] < last[k]);
    const double m = (double)n, error = sqrt(m * (m - 1.0) * (2.0 * m + 5.0) / 18.0);
    return (double)sum > 2.0 * error ? "up" : (double)sum < -2.0 * error ? "down" : "flat";
}

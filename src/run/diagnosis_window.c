/* What rules ask of the last steps. */
#include "run/diagnosis_internal.h"

#include <math.h>
#include <stdlib.h>

enum { TREND_STEPS = 50, TREND_LEAST = 20 };

int32_t window_size(const struct diagnosis *d, int32_t n)
{
    if (d->counted >= n)
        return n;
    return d->ended ? (int32_t)d->counted : 0;
}

double window_at(const struct diagnosis_series *series, int32_t i) { return series->at[DIAGNOSIS_FRAMES - 1 - i]; }

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_of(double *values, int32_t n)
{
    if (n == 0)
        return (double)NAN;
    qsort(values, (size_t)n, sizeof *values, ascending);
    return n % 2 == 1 ? values[n / 2] : 0.5 * (values[n / 2 - 1] + values[n / 2]);
}

/* The values that there are among n, the last of them before places from the end. */
static int32_t present(const struct diagnosis_series *series, int32_t n, int32_t before, double *values)
{
    int32_t found = 0;
    for (int32_t i = before + n - 1; i >= before; i--)
        if (i < DIAGNOSIS_FRAMES && !isnan(window_at(series, i)))
            values[found++] = window_at(series, i);
    return found;
}

double window_median(const struct diagnosis_series *series, int32_t n, int32_t before)
{
    double values[DIAGNOSIS_FRAMES];
    const int32_t found = present(series, n, before, values);
    return median_of(values, found);
}

double window_mean(const struct diagnosis_series *series, int32_t n, int32_t before)
{
    double values[DIAGNOSIS_FRAMES], sum = 0.0;
    const int32_t found = present(series, n, before, values);
    for (int32_t i = 0; i < found; i++)
        sum += values[i];
    return found > 0 ? sum / found : (double)NAN;
}

/* Slopes of all pairs, ascending: Sen's interval of 2 standard errors around their median goes from the slope number
 * (N - C) / 2 to number (N + C) / 2, with C = 2 sqrt(n (n - 1) (2 n + 5) / 18) (Sen 1968). */
int window_trend(const struct diagnosis *d, const struct diagnosis_series *series)
{
    double slopes[TREND_STEPS * (TREND_STEPS - 1) / 2];
    const int32_t steps = d->counted < TREND_STEPS ? (int32_t)d->counted : TREND_STEPS;
    int32_t n = 0, pairs = 0;
    for (int32_t i = 0; i < steps; i++) {
        const double later = window_at(series, i);
        if (isnan(later))
            continue;
        n++;
        for (int32_t j = i + 1; j < steps; j++)
            if (!isnan(window_at(series, j)))
                slopes[pairs++] = (later - window_at(series, j)) / (double)(j - i);
    }
    if (n < TREND_LEAST)
        return 0;
    qsort(slopes, (size_t)pairs, sizeof *slopes, ascending);
    const double c = 2.0 * sqrt((double)n * (n - 1) * (2 * n + 5) / 18.0);
    const int32_t low = (int32_t)floor((pairs - c) / 2.0), high = (int32_t)ceil((pairs + c) / 2.0);
    if (low >= 0 && slopes[low] > 0.0)
        return 1;
    return high < pairs && slopes[high] < 0.0 ? -1 : 0;
}

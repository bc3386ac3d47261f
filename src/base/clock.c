#include "base/clock.h"

#include <time.h>

double clock_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void clock_text(double seconds, char out[CLOCK_TEXT])
{
    const time_t whole = (time_t)seconds;
    struct tm tm;
    if (!(seconds > 0.0) || gmtime_r(&whole, &tm) == NULL || strftime(out, CLOCK_TEXT, "%Y-%m-%d %H:%M:%S", &tm) == 0)
        out[0] = '\0';
}

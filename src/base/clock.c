#include "base/clock.h"

#include <time.h>

double clock_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int clock_condition(pthread_cond_t *condition)
{
    pthread_condattr_t monotonic;
    int code = pthread_condattr_init(&monotonic);
    if (code != 0)
        return code;
    code = pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    if (code == 0)
        code = pthread_cond_init(condition, &monotonic);
    pthread_condattr_destroy(&monotonic);
    return code;
}

void clock_wait(pthread_cond_t *condition, pthread_mutex_t *mutex, double seconds)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)seconds;
    until.tv_nsec += (long)((seconds - (double)(time_t)seconds) * 1e9);
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    (void)pthread_cond_timedwait(condition, mutex, &until);
}

void clock_text(double seconds, char out[CLOCK_TEXT])
{
    const time_t whole = (time_t)seconds;
    struct tm tm;
    if (!(seconds > 0.0) || gmtime_r(&whole, &tm) == NULL || strftime(out, CLOCK_TEXT, "%Y-%m-%d %H:%M:%S", &tm) == 0)
        out[0] = '\0';
}

/* Monotonic time, and what the calendar says. */
#ifndef COHORT_BASE_CLOCK_H
#define COHORT_BASE_CLOCK_H

#include <pthread.h>

double clock_seconds(void);
/* A condition whose waits end by the monotonic clock, so that they last no longer where the date is set back. 0, or what is wrong. */
int clock_condition(pthread_cond_t *condition);
/* Waits for a signal to such a condition, so many seconds at most. */
void clock_wait(pthread_cond_t *condition, pthread_mutex_t *mutex, double seconds);
/* Seconds since 1970 as "2026-11-29 13:14:02", in UTC; "" for 0 and for what no calendar has. */
enum { CLOCK_TEXT = 32 };
void clock_text(double seconds, char out[CLOCK_TEXT]);

#endif

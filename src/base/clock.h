/* Monotonic time, and what the calendar says. */
#ifndef COHORT_BASE_CLOCK_H
#define COHORT_BASE_CLOCK_H

double clock_seconds(void);
/* Seconds since 1970 as "2026-11-29 13:14:02", in UTC; "" for 0 and for what no calendar has. */
enum { CLOCK_TEXT = 32 };
void clock_text(double seconds, char out[CLOCK_TEXT]);

#endif

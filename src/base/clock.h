/* Monotonic time. */
#ifndef COHORT_BASE_CLOCK_H
#define COHORT_BASE_CLOCK_H

double clock_seconds(void);

#endif

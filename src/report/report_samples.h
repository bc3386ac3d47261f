/* Samples in a report: what the model wrote at the start, in the middle and at the end, and its best and worst. */
#ifndef COHORT_REPORT_REPORT_SAMPLES_H
#define COHORT_REPORT_REPORT_SAMPLES_H

#include "report/report_charts.h"

/* Nothing but a sentence where no completion was kept. */
cohort_status report_samples(struct report_run *run, struct text *out, cohort_error *err);

#endif

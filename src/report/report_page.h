/* The report of runs as one self-contained page: no script, no request, nothing of a model's text as markup. */
#ifndef COHORT_REPORT_REPORT_PAGE_H
#define COHORT_REPORT_REPORT_PAGE_H

#include "report/report_charts.h"

/* runs [n]: one is told in full; several are compared, up to CHART_SERIES. */
cohort_status report_page(struct report_run *runs, size_t n, struct text *out, cohort_error *err);

#endif

/* Line charts as SVG: of one run the raw values pale and their mean over time strong, of several runs a line each. A
 * chart says in words and in a table what it shows. Colours are classes, which chart_style gives a page and a chart
 * that is a file of its own. */
#ifndef COHORT_REPORT_CHART_H
#define COHORT_REPORT_CHART_H

#include "report/curve.h"

enum { CHART_SERIES = 8 }; /* that can be told apart */

struct chart_series {
    const char *name;    /* borrowed */
    struct curve curve;  /* borrowed */
    const double *error; /* [n] standard errors, drawn as 1.96 of them to both sides; NULL: none */
    bool dots,
        exact; /* few points that are each of interest: an evaluation's; exact: without noise, so drawn as it is */
};
struct chart_mark {
    double x;
    const char *word;
};
struct chart {
    const char *title;
    const struct chart_series *series; /* [n_series], at most CHART_SERIES */
    size_t n_series;
    bool from_zero, log;            /* of the vertical axis; log where all values are positive */
    double limit;                   /* a dashed line; NaN: none */
    const char *limit_name;         /* NULL: none */
    const struct chart_mark *marks; /* [n_marks] upright lines with a word */
    size_t n_marks;
    bool alone; /* a file of its own, with a legend */
};
/* Nothing where no series has a finite value. */
cohort_status chart_write(const struct chart *chart, struct text *out, cohort_error *err);
/* What a chart shows, as a sentence: "reward rose from 0.12 to 0.61 (lowest 0.1 at step 3, highest 0.63 at step 800)." */
cohort_status chart_describe(const struct chart_series *series, struct text *out, cohort_error *err);

/* The style of charts, in light and dark. */
extern const char chart_style[];

#endif

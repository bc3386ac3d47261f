/* What /metrics tells Prometheus. */
#ifndef COHORT_SERVE_SERVE_METRICS_H
#define COHORT_SERVE_SERVE_METRICS_H

#include "base/memory.h"

struct serve;

enum { HISTOGRAM_BOUNDS = 16 };
struct histogram {
    int64_t counts[HISTOGRAM_BOUNDS + 1];
    double sum;
    int64_t n;
};
enum { METRIC_STATUSES = 12 };
struct serve_metrics {
    unsigned statuses[METRIC_STATUSES]; /* of HTTP, as they first came */
    int64_t by_status[METRIC_STATUSES];
    int64_t prompt_tokens, drawn_tokens, cancelled, calls, broken_calls;
    int64_t pages_used, known_tokens, set_back, drafted, accepted;
    struct histogram queue, first_token, per_token, whole; /* seconds */
};
void metrics_count(struct serve_metrics *metrics, unsigned status);
void histogram_add(struct histogram *histogram, double seconds);
cohort_status serve_metrics_write(struct serve *serve, struct text *out, cohort_error *err);

#endif

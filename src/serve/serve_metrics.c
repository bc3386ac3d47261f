#include "serve/serve_metrics.h"

#include "base/number.h"
#include "serve/serve.h"

static const double bounds[HISTOGRAM_BOUNDS] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
                                                0.5,   1,      2.5,   5,    10,    30,   60,  300};

void metrics_count(struct serve_metrics *m, unsigned status)
{
    for (size_t i = 0; i < METRIC_STATUSES; i++)
        if (m->statuses[i] == status || m->statuses[i] == 0) {
            m->statuses[i] = status;
            m->by_status[i]++;
            return;
        }
}

void histogram_add(struct histogram *h, double seconds)
{
    size_t i = 0;
    while (i < HISTOGRAM_BOUNDS && seconds > bounds[i])
        i++;
    h->counts[i]++;
    h->sum += seconds;
    h->n++;
}

static cohort_status write_number(struct text *out, const char *name, const char *labels, double value,
                                  cohort_error *err)
{
    char number[NUMBER_BYTES];
    number_write_double(value, number);
    return text_printf(out, err, "cohort_%s%s %s\n", name, labels, number);
}

static cohort_status write_plain(struct text *out, const char *name, const char *type, const char *help, double value,
                                 cohort_error *err)
{
    TRY(text_printf(out, err, "# HELP cohort_%s %s\n# TYPE cohort_%s %s\n", name, help, name, type));
    return write_number(out, name, "", value, err);
}

static cohort_status write_histogram(struct text *out, const char *name, const char *help, const struct histogram *h,
                                     cohort_error *err)
{
    int64_t below = 0;
    TRY(text_printf(out, err, "# HELP cohort_%s %s\n# TYPE cohort_%s histogram\n", name, help, name));
    for (size_t i = 0; i <= HISTOGRAM_BOUNDS; i++) {
        char bound[NUMBER_BYTES] = "+Inf";
        below += h->counts[i];
        if (i < HISTOGRAM_BOUNDS)
            number_write_double(bounds[i], bound);
        TRY(text_printf(out, err, "cohort_%s_bucket{le=\"%s\"} %lld\n", name, bound, (long long)below));
    }
    char sum[NUMBER_BYTES];
    number_write_double(h->sum, sum);
    return text_printf(out, err, "cohort_%s_sum %s\ncohort_%s_count %lld\n", name, sum, name, (long long)h->n);
}

cohort_status serve_metrics_write(struct serve *serve, struct text *out, cohort_error *err)
{
    pthread_mutex_lock(&serve->lock);
    const struct serve_metrics m = serve->metrics;
    const int32_t waiting = serve->n_waiting, running = serve->n_running;
    pthread_mutex_unlock(&serve->lock);
    TRY(text_printf(out, err,
                    "# HELP cohort_requests_total requests answered, by status of HTTP\n"
                    "# TYPE cohort_requests_total counter\n"));
    for (size_t i = 0; i < METRIC_STATUSES && m.statuses[i] != 0; i++)
        TRY(text_printf(out, err, "cohort_requests_total{status=\"%u\"} %lld\n", m.statuses[i],
                        (long long)m.by_status[i]));
    TRY(write_plain(out, "requests_running", "gauge", "requests behind their first token", running, err));
    TRY(write_plain(out, "requests_waiting", "gauge", "requests before their first token", waiting, err));
    TRY(write_plain(out, "connections", "gauge", "open connections", http_connections(serve->http), err));
    TRY(write_plain(out, "requests_cancelled_total", "counter", "requests whose client hung up, or whose time was up",
                    (double)m.cancelled, err));
    TRY(write_plain(out, "prompt_tokens_total", "counter", "tokens of prompts", (double)m.prompt_tokens, err));
    TRY(write_plain(out, "generated_tokens_total", "counter", "tokens drawn", (double)m.drawn_tokens, err));
    TRY(write_plain(out, "kv_pages_used", "gauge", "pages of keys and values in use", (double)m.pages_used, err));
    TRY(write_plain(out, "known_tokens_total", "counter", "tokens of prompts whose keys and values were there already",
                    (double)m.known_tokens, err));
    TRY(write_plain(out, "set_back_total", "counter", "sequences that gave up their pages for older ones",
                    (double)m.set_back, err));
    TRY(write_plain(out, "drafted_tokens_total", "counter", "tokens that were guessed ahead and checked",
                    (double)m.drafted, err));
    TRY(write_plain(out, "accepted_tokens_total", "counter", "guessed tokens that were the ones drawn",
                    (double)m.accepted, err));
    TRY(write_plain(out, "tool_calls_total", "counter", "calls of tools", (double)m.calls, err));
    TRY(write_plain(out, "tool_calls_broken_total", "counter", "calls that could not be read, returned as content",
                    (double)m.broken_calls, err));
    TRY(write_histogram(out, "queue_seconds", "from a request's arrival to its first step", &m.queue, err));
    TRY(write_histogram(out, "first_token_seconds", "from a request's arrival to its first token", &m.first_token,
                        err));
    TRY(write_histogram(out, "token_seconds", "between two tokens of a choice, mean of a request", &m.per_token, err));
    return write_histogram(out, "request_seconds", "from a request's arrival to its end", &m.whole, err);
}

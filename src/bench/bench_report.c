#include "bench/bench_report.h"

#include "base/clock.h"
#include "base/number.h"
#include "base/pool.h"
#include "base/rng.h"
#include "recipe/json_rows.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

void bench_add(struct bench_samples *samples, double seconds)
{
    if (samples->count < BENCH_SAMPLES)
        samples->seconds[samples->count++] = seconds;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static struct bench_samples sorted(const struct bench_samples *samples)
{
    struct bench_samples copy = *samples;
    qsort(copy.seconds, (size_t)copy.count, sizeof copy.seconds[0], by_value);
    return copy;
}

double bench_median(const struct bench_samples *samples)
{
    assert(samples->count > 0);
    struct bench_samples s = sorted(samples);
    return s.count % 2 != 0 ? s.seconds[s.count / 2] : 0.5 * (s.seconds[s.count / 2 - 1] + s.seconds[s.count / 2]);
}

double bench_least_seconds(const struct bench_work *work, const struct bench_limits *limits)
{
    double multiply = work->flops / limits->product_flops, move = work->bytes / limits->read_bytes;
    return work->serial ? multiply + move : fmax(multiply, move);
}

struct bench_row *bench_row(struct bench *bench, const char *kind, const char *format, ...)
{
    assert(bench->n_rows < BENCH_ROWS);
    struct bench_row *row = &bench->rows[bench->n_rows++];
    memset(row, 0, sizeof *row);
    row->kind = kind;
    va_list args;
    va_start(args, format);
    number_vformat(row->what, sizeof row->what, format, args);
    va_end(args);
    return row;
}

/* What bounds the work more. */
static const char *limit_name(const struct bench_work *work, const struct bench_limits *limits)
{
    if (work->serial)
        return "products and memory";
    return work->flops / limits->product_flops > work->bytes / limits->read_bytes ? "products" : "memory";
}

static cohort_status print_row(const struct bench *bench, const struct bench_row *row,
                               const struct bench_limits *limits, struct text *out, cohort_error *err)
{
    struct bench_samples s = sorted(&row->samples);
    double median = bench_median(&row->samples), least = bench_least_seconds(&row->work, limits);
    bool plain = row->amount == 0.0; /* the figure is a time */
    double value = plain ? median : row->amount / median;
    double low = plain ? s.seconds[0] : row->amount / s.seconds[s.count - 1],
           high = plain ? s.seconds[s.count - 1] : row->amount / s.seconds[0];
    if (bench->jsonl) {
        TRY(text_printf(out, err,
                        "{\"kind\": \"%s\", \"what\": \"%s\", \"value\": %.6g, \"unit\": \"%s\", "
                        "\"low\": %.6g, \"high\": %.6g, \"samples\": %d",
                        row->kind, row->what, value, row->unit, low, high, s.count));
        if (least > 0.0)
            TRY(text_printf(out, err, ", \"share_of_limit\": %.4f, \"limit\": \"%s\"", least / median,
                            limit_name(&row->work, limits)));
        if (row->work.bytes > 0.0 && !row->work.serial)
            TRY(text_printf(out, err, ", \"gb_per_second\": %.4g", row->work.bytes / median / 1e9));
        if (row->bytes_held > 0.0)
            TRY(text_printf(out, err, ", \"peak_memory_gb\": %.4g", row->bytes_held / 1e9));
        if (row->bytes_planned > 0.0)
            TRY(text_printf(out, err, ", \"planned_memory_gb\": %.4g", row->bytes_planned / 1e9));
        return text_append(out, "}\n", 2, err);
    }
    TRY(text_printf(out, err, "%-8s %-44s %9.1f %-8s", row->kind, row->what, value, row->unit));
    if (least > 0.0)
        TRY(text_printf(out, err, " %3.0f %% of %s", 100.0 * least / median, limit_name(&row->work, limits)));
    if (row->work.bytes > 0.0 && !row->work.serial)
        TRY(text_printf(out, err, " (%.1f GB/s)", row->work.bytes / median / 1e9));
    if (row->bytes_held > 0.0)
        TRY(text_printf(out, err, ", peak memory %.2f GB", row->bytes_held / 1e9));
    return text_printf(out, err, "  [%.1f .. %.1f, n %d]\n", low, high, s.count);
}

cohort_status bench_left_out(struct bench *bench, const char *kind, const char *what, const cohort_error *why,
                             cohort_error *err)
{
    struct text out = {0};
    cohort_status status = COHORT_OK;
    bench->n_left_out++;
    if (bench->jsonl) {
        TRY_GOTO(text_printf(&out, err, "{\"kind\": \"%s\", \"what\": \"%s\", \"left_out\": ", kind, what));
        TRY_GOTO(json_string_write(why->message, strlen(why->message), &out, err));
        TRY_GOTO(text_append(&out, "}\n", 2, err));
    } else
        TRY_GOTO(text_printf(&out, err, "%-8s %-44s left out: %s\n", kind, what, why->message));
    observer_output(bench->observer, &out);
cleanup:
    text_free(&out);
    return status;
}

cohort_status bench_print(struct bench *bench, const struct bench_limits *limits, cohort_error *err)
{
    struct text out = {0};
    cohort_status status = COHORT_OK;
    if (bench->jsonl)
        TRY_GOTO(text_printf(&out, err,
                             "{\"kind\": \"machine\", \"read_gb_per_second\": %.4g, "
                             "\"product_gflops\": %.5g, \"threads\": %d, \"provider\": \"%s\"}\n",
                             limits->read_bytes / 1e9, limits->product_flops / 1e9, bench->session.backend->threads,
                             bench->type == DTYPE_F32 ? bench->session.backend->provider_f32
                                                      : bench->session.backend->provider_bf16));
    else
        TRY_GOTO(text_printf(&out, err, "machine  reading memory %.1f GB/s, products in cache %.0f GFLOP/s\n",
                             limits->read_bytes / 1e9, limits->product_flops / 1e9));
    for (int i = 0; i < bench->n_rows; i++)
        TRY_GOTO(print_row(bench, &bench->rows[i], limits, &out, err));
    observer_output(bench->observer, &out);
    bench->n_rows = 0;
cleanup:
    text_free(&out);
    return status;
}

double bench_bytes_held(const struct bench *bench)
{
    struct backend *backend = bench->session.backend;
    struct rusage usage;
    if (!backend->host_memory)
        return (double)bench->available - (double)backend->ops->available(backend);
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (double)usage.ru_maxrss * 1024.0 : 0.0;
}

struct fill_job {
    void *to;
    enum dtype type;
    int64_t first, count;
    uint64_t seed, stream;
    float scale;
};

/* Item: four values. */
static void fill_blocks(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct fill_job *job = context;
    (void)thread;
    for (int64_t i = 4 * begin; i < 4 * end; i += 4) {
        struct rng_block block = rng_philox(job->seed, RNG_TEST, job->stream, (uint64_t)(job->first + i));
        for (int j = 0; j < 4 && i + j < job->count; j++) {
            float value = job->scale * (2.0f * rng_uniform(block.word[j]) - 1.0f);
            if (job->type == DTYPE_F32)
                ((float *)job->to)[i + j] = value;
            else
                ((uint16_t *)job->to)[i + j] = bf16_from_f32(value);
        }
    }
}

void bench_fill(struct bench *bench, void *to, enum dtype type, int64_t first, int64_t count, uint64_t seed,
                uint64_t stream, float scale)
{
    const struct fill_job job = {to, type, first, count, seed, stream, scale};
    pool_run(bench->pool, (count + 3) / 4, 0, fill_blocks, &job);
}

int32_t bench_token(const struct bench *bench, uint64_t stream, int32_t i)
{
    uint32_t word = rng_philox(bench->seed, RNG_TEST, stream, (uint64_t)i).word[0];
    return (int32_t)(word % (uint32_t)bench->session.model->config.vocab_size);
}

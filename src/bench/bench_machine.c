/* What the machine can do at most, and the matrix products alone. */
#include "backend/ops.h"
#include "bench/bench_report.h"

#include "base/clock.h"
#include "base/pool.h"

#include <math.h>
#include <string.h>

/* Beyond every cache that is ours alone; runs over it are averaged within one sample and the best of them is the
 * limit. */
enum { READ_WORDS = 96 << 20, READ_RUNS = 4, PRODUCT_RUNS = 20 };

struct reading {
    uint64_t *x;
    uint64_t *sum; /* of each thread */
};

/* Items: lines of eight words. The first touch, too, is by many threads. */
static void write_lines(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct reading *reading = context;
    (void)thread;
    for (int64_t i = 8 * begin; i < 8 * end; i++)
        reading->x[i] = (uint64_t)i * 0x9e3779b97f4a7c15ull;
}

static void read_lines(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct reading *reading = context;
    const uint64_t *x = reading->x;
    uint64_t sum = 0;
    for (int64_t i = 8 * begin; i < 8 * end; i += 8) {
        __builtin_prefetch(x + i + 512);
        sum ^= x[i] ^ x[i + 1] ^ x[i + 2] ^ x[i + 3] ^ x[i + 4] ^ x[i + 5] ^ x[i + 6] ^ x[i + 7];
    }
    reading->sum[thread] ^= sum;
}

static cohort_status measure_reading(struct bench *bench, int64_t words, double *bytes_per_second, cohort_error *err)
{
    struct backend *backend = bench->session.backend;
    uint64_t sums[POOL_MAX_THREADS] = {0};
    uint64_t *x = NULL;
    TRY(backend->ops->alloc(backend, &x, (size_t)words * sizeof *x, "memory to read", err));
    double best = 0.0;
    uint64_t sum = 0;
    const struct reading reading = {x, sums};
    pool_run(bench->pool, words / 8, 0, write_lines, &reading);
    for (int run = 0; run < READ_RUNS; run++) {
        double start = clock_seconds();
        pool_run(bench->pool, words / 8, 0, read_lines, &reading);
        best = fmax(best, (double)words * sizeof *x / (clock_seconds() - start));
    }
    for (int i = 0; i < POOL_MAX_THREADS; i++)
        sum ^= sums[i];
    if (sum == 0) /* uses the sum, so that the loop stays */
        best = fmax(best, 1.0);
    backend->ops->free(backend, x);
    *bytes_per_second = best;
    return COHORT_OK;
}

/* A device's memory: a copy, bytes read and written counted. */
static cohort_status measure_copying(struct backend *backend, size_t bytes, double *bytes_per_second, cohort_error *err)
{
    void *x = NULL, *y = NULL;
    cohort_status status = COHORT_OK;
    double best = 0.0;
    TRY_GOTO(backend->ops->alloc(backend, &x, bytes, "memory to copy", err));
    TRY_GOTO(backend->ops->alloc(backend, &y, bytes, "memory to copy", err));
    for (int run = 0; run < READ_RUNS + 1; run++) {
        backend->ops->wait(backend);
        double start = clock_seconds();
        for (int i = 0; i < 4; i++)
            backend->ops->copy(backend, i % 2 != 0 ? x : y, i % 2 != 0 ? y : x, bytes);
        backend->ops->wait(backend);
        if (run > 0)
            best = fmax(best, 8.0 * (double)bytes / (clock_seconds() - start));
    }
    *bytes_per_second = best;
cleanup:
    backend->ops->free(backend, x);
    backend->ops->free(backend, y);
    return status;
}

/* One product y = x . w^T with everything it needs. */
struct gemm {
    int64_t m, n, k;
    void *x, *w, *y;
    struct weight *weight;
};

static void gemm_close(struct gemm *g, struct backend *backend)
{
    backend->ops->weight_destroy(backend, g->weight);
    backend->ops->free(backend, g->x);
    backend->ops->free(backend, g->w);
    backend->ops->free(backend, g->y);
    memset(g, 0, sizeof *g);
}

/* bench_fill of backend memory. */
static cohort_status fill(struct bench *bench, void *to, enum dtype type, int64_t count, uint64_t stream,
                          cohort_error *err)
{
    struct backend *backend = bench->session.backend;
    void *host = NULL;
    if (backend->host_memory) {
        bench_fill(bench, to, type, 0, count, 1, stream, 1.0f);
        return COHORT_OK;
    }
    TRY(mem_alloc(&host, (size_t)count, dtype_bytes(type), "bench", err));
    bench_fill(bench, host, type, 0, count, 1, stream, 1.0f);
    backend->ops->upload(backend, to, host, (size_t)count * dtype_bytes(type));
    mem_free(host);
    return COHORT_OK;
}

static cohort_status gemm_open(struct gemm *g, struct bench *bench, int64_t m, int64_t n, int64_t k, cohort_error *err)
{
    struct backend *backend = bench->session.backend;
    const enum dtype type = bench->type;
    cohort_status status = COHORT_OK;
    *g = (struct gemm){.m = m, .n = n, .k = k};
    TRY_GOTO(backend->ops->alloc(backend, &g->x, (size_t)(m * k) * dtype_bytes(type), "bench", err));
    TRY_GOTO(backend->ops->alloc(backend, &g->w, (size_t)(n * k) * dtype_bytes(type), "bench", err));
    TRY_GOTO(backend->ops->alloc(backend, &g->y, (size_t)(m * n) * sizeof(float), "bench", err));
    TRY_GOTO(fill(bench, g->x, type, m * k, 1, err));
    TRY_GOTO(fill(bench, g->w, type, n * k, 2, err));
    TRY_GOTO(backend->ops->weight_create(
        backend, &g->weight, &(struct weight_source){.format = storage_of(type), .data = g->w, .n = n, .k = k}, err));
    return COHORT_OK;
cleanup:
    gemm_close(g, backend);
    return status;
}

/* Seconds of one of repeats products. */
static double gemm_run(const struct gemm *g, struct backend *backend, int repeats)
{
    backend->ops->wait(backend);
    double start = clock_seconds();
    for (int i = 0; i < repeats; i++)
        backend->ops->matmul_forward(
            backend, &(struct matmul_forward){.w = g->weight, .m = g->m, .x = g->x, .y = g->y, .y_stride = g->n});
    backend->ops->wait(backend);
    return (clock_seconds() - start) / repeats;
}

cohort_status bench_measure_limits(struct bench *bench, struct bench_limits *limits, cohort_error *err)
{
    struct backend *backend = bench->session.backend;
    struct gemm g;
    double reading = 0.0, best = 0.0;
    int64_t size = 8192;
    if (backend->host_memory)
        TRY(measure_reading(bench, bench->quick ? READ_WORDS / 4 : READ_WORDS, &reading, err));
    else {
        /* Beside a model that fills the device there is less room to measure in. */
        const size_t free_bytes = backend->ops->available(backend), most = (size_t)2 << 30;
        size = free_bytes < (size_t)2 << 30 ? 4096 : 8192;
        TRY(measure_copying(backend, free_bytes / 8 < most ? free_bytes / 8 / 64 * 64 : most, &reading, err));
    }
    if (backend->host_memory)
        TRY(gemm_open(&g, bench, 256, 512, 1024, err));
    else
        TRY(gemm_open(&g, bench, size, size, size, err));
    (void)gemm_run(&g, backend, 1);
    for (int run = 0; run < PRODUCT_RUNS; run++)
        best = fmax(best, 2.0 * (double)(g.m * g.n * g.k) / gemm_run(&g, backend, 1));
    gemm_close(&g, backend);
    limits->read_bytes = fmax(limits->read_bytes, reading);
    limits->product_flops = fmax(limits->product_flops, best);
    return COHORT_OK;
}

/* Few rows are bound by reading the weight: copies of it taken in turn, so that it comes from memory as in a model. */
static cohort_status gemm_case(struct bench *bench, int64_t m, int64_t n, int64_t k, cohort_error *err)
{
    enum { MAX_COPIES = 32 };
    struct backend *backend = bench->session.backend;
    struct gemm copies[MAX_COPIES];
    double bytes = (double)(n * k) * (double)dtype_bytes(bench->type), wanted = 384e6 / bytes; /* beyond every cache */
    int n_copies = m > 32 || wanted < 1.0 ? 1 : wanted > MAX_COPIES ? MAX_COPIES : (int)wanted, open = 0;
    cohort_status status = COHORT_OK;
    for (; open < n_copies; open++)
        TRY_GOTO(gemm_open(&copies[open], bench, m, n, k, err));
    struct bench_row *row =
        bench_row(bench, "gemm", "%lld x %lld, %lld rows", (long long)n, (long long)k, (long long)m);
    const bool on_device = !backend->host_memory;
    double flops = 2.0 * (double)(m * n * k);
    row->amount = flops / 1e9;
    row->unit = "GFLOP/s";
    row->work = (struct bench_work){.flops = flops, .bytes = bytes};
    double until = clock_seconds() + (bench->quick || on_device ? 0.05 : 0.4);
    for (int i = 0; i < n_copies; i++)
        (void)gemm_run(&copies[i], backend, 1);
    for (int i = 0; (i < 5 || clock_seconds() < until) && i < BENCH_SAMPLES; i++)
        bench_add(&row->samples, gemm_run(&copies[i % n_copies], backend, on_device ? 20 : 1));
cleanup:
    while (open > 0)
        gemm_close(&copies[--open], backend);
    return status;
}

/* The products of a model of this shape: fused query, key, value; attention's output; fused gate and up; down; head. Of
 * experts those of one. */
cohort_status bench_gemm(struct bench *bench, cohort_error *err)
{
    const struct model_config *c = &bench->session.model->config;
    const int64_t C = c->hidden_size, F = c->experts.n > 0 ? c->experts.size : c->intermediate_size, V = c->vocab_size,
                  QD = (int64_t)c->n_heads * c->head_dim;
    const int64_t shapes[][2] = {
        {QD + 2 * (int64_t)c->n_kv_heads * c->head_dim, C}, {C, QD}, {2 * F, C}, {C, F}, {V, C}};
    static const int64_t rows[] = {1, 8, 32, 128, 512, 2048};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        for (size_t j = 0; j < sizeof rows / sizeof rows[0]; j++)
            if (shapes[i][0] != V || rows[j] <= 512) /* the head never has more rows at once */
                TRY(gemm_case(bench, rows[j], shapes[i][0], shapes[i][1], err));
    return COHORT_OK;
}

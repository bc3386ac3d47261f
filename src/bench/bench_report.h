/* What the benchmarks share: the machine's limits, medians, and rows of results. */
#ifndef COHORT_BENCH_BENCH_REPORT_H
#define COHORT_BENCH_BENCH_REPORT_H

#include "recipe/session.h"

/* Ceilings, measured beside what they are compared with: a machine that is shared or virtual has no fixed ones. */
struct bench_limits {
    double read_bytes;    /* a second, by all threads, from memory */
    double product_flops; /* a second, of the backend's own product with operands in the second-level cache */
};

/* Up to this many samples of one figure. */
enum { BENCH_SAMPLES = 64 };
struct bench_samples {
    double seconds[BENCH_SAMPLES];
    int count;
};
void bench_add(struct bench_samples *samples, double seconds);
double bench_median(const struct bench_samples *samples);

/* The least that one run of a piece of work must take: what it multiplies and what it moves. They overlap unless serial
 * says that one follows the other. */
struct bench_work {
    double flops, bytes;
    bool serial;
};
double bench_least_seconds(const struct bench_work *work, const struct bench_limits *limits);

/* One figure, until the limits on both sides of it are known. */
struct bench_row {
    const char *kind;
    char what[96];
    struct bench_samples samples;
    double amount;    /* done in one sample, in the unit below */
    const char *unit; /* of amount a second ("tok/s"), or "s": the seconds of a sample */
    struct bench_work work;
    double bytes_held;    /* peak memory of the process, 0: not asked */
    double bytes_planned; /* of the memory plan, 0: none */
};

enum { BENCH_ROWS = 64 };
struct bench {
    struct options *options;
    const cohort_observer *observer;
    struct session session; /* backend, and the model once a kind needs it */
    struct pool *pool;      /* for what the host does itself */
    enum dtype type;
    bool quick, jsonl;
    uint64_t seed;
    size_t available; /* on the device, at the start */
    size_t limit;     /* that plans keep to, weights included */
    int n_left_out;   /* cases so far that memory did not allow */
    struct bench_row rows[BENCH_ROWS];
    int n_rows;
};
/* The next row, zeroed and named. */
struct bench_row *bench_row(struct bench *bench, const char *kind, const char *format, ...) PRINTF_LIKE(3, 4);
/* Reports a case that the memory plan refuses: a line with the reason, in place of a row. */
cohort_status bench_left_out(struct bench *bench, const char *kind, const char *what, const cohort_error *why,
                             cohort_error *err);
/* Prints the rows with their shares and forgets them. */
cohort_status bench_print(struct bench *bench, const struct bench_limits *limits, cohort_error *err);

cohort_status bench_measure_limits(struct bench *bench, struct bench_limits *limits, cohort_error *err);
/* Peak resident memory of the process so far; of a device what is held now. */
double bench_bytes_held(const struct bench *bench);
/* count values from -1 to 1 (never zeros: multipliers and memory are faster on them), a function of seed and stream. */
void bench_fill(struct bench *bench, void *to, enum dtype type, int64_t first, int64_t count, uint64_t seed,
                uint64_t stream, float scale);
int32_t bench_token(const struct bench *bench, uint64_t stream, int32_t i);

/* bench->session.model, as the options name it. */
cohort_status bench_open_model(struct bench *bench, cohort_error *err);

/* The kinds. Each adds rows. */
cohort_status bench_gemm(struct bench *bench, cohort_error *err);
cohort_status bench_prefill(struct bench *bench, cohort_error *err);
cohort_status bench_decode(struct bench *bench, cohort_error *err);
cohort_status bench_train(struct bench *bench, cohort_error *err);
cohort_status bench_grpo(struct bench *bench, cohort_error *err);
/* Measures decoding and training of all weights, then the same with an adapter of option lora_r, on a GPU beside large
 * models a GRPO step with it too. */
cohort_status bench_lora(struct bench *bench, cohort_error *err);
/* Measures decoding and training once as they are and once with products that may be inexact. Does nothing on a CPU,
 * whose kernels are always exact. */
cohort_status bench_exactness(struct bench *bench, cohort_error *err);

/* Products and bytes of one forward. n_outputs rows enter the head. */
struct bench_work bench_forward_work(const struct model *model, int64_t tokens, int64_t n_outputs,
                                     int64_t kv_positions_read, double pair_positions);

#endif

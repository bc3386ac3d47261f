/* The CPU kernels that exist once per instruction set. kernel_*.c define CPU_NAME(operation) for each line here;
 * cpu_backend.c picks one set at creation. The parameters are those of backend.h. */
#ifndef COHORT_BACKEND_CPU_CPU_KERNELS_H
#define COHORT_BACKEND_CPU_CPU_KERNELS_H

#include "backend/expert_ops.h"
#include "backend/ops.h"
#include "backend/sampling.h"
#include "backend/cpu/sample_filters.h"
#include "base/pool.h"

/* What else is compiled for instruction sets that differ from these only in products of bf16. */
#define CPU_ATTENTION_KERNELS(KERNEL)                                                                                  \
    KERNEL(void, attention_forward, const struct attention_forward *)                                                  \
    KERNEL(void, attention_backward, const struct attention_backward *)

#define CPU_KERNELS(KERNEL)                                                                                            \
    KERNEL(void, embed_forward, const struct embed_forward *)                                                          \
    KERNEL(void, embed_backward, const struct embed_backward *)                                                        \
    KERNEL(void, embed_noise, const struct embed_noise *)                                                              \
    KERNEL(void, embed_change_forward, const struct embed_change_forward *)                                            \
    KERNEL(void, embed_change_backward, const struct embed_change_backward *)                                          \
    KERNEL(void, rmsnorm_forward, const struct rmsnorm_forward *)                                                      \
    KERNEL(void, rmsnorm_backward, const struct rmsnorm_backward *)                                                    \
    KERNEL(void, qkv_forward, const struct qkv_forward *)                                                              \
    KERNEL(void, qkv_backward, const struct qkv_backward *)                                                            \
    KERNEL(void, swiglu_forward, const struct swiglu_forward *)                                                        \
    KERNEL(void, swiglu_backward, const struct swiglu_backward *)                                                      \
    KERNEL(void, bias_forward, const struct bias_forward *)                                                            \
    KERNEL(void, bias_backward, const struct bias_backward *)                                                          \
    KERNEL(void, route_forward, const struct route_forward *)                                                          \
    KERNEL(void, route_backward, const struct route_backward *)                                                        \
    KERNEL(void, route_sums, const struct route_sums *)                                                                \
    KERNEL(void, combine_forward, const struct combine_forward *)                                                      \
    KERNEL(void, combine_backward, const struct combine_backward *)                                                    \
    KERNEL(void, fold, const struct fold *)                                                                            \
    KERNEL(void, magnitude_forward, const struct magnitude_forward *)                                                  \
    KERNEL(void, magnitude_backward, const struct magnitude_backward *)                                                \
    KERNEL(void, dropout, const struct dropout *)                                                                      \
    KERNEL(void, convert, const struct convert *)                                                                      \
    KERNEL(void, head_stats, const struct head_stats *)                                                                \
    KERNEL(void, head_gradient, const struct head_gradient *)                                                          \
    KERNEL(void, divergence, const struct divergence *)                                                                \
    KERNEL(void, divergence_gradient, const struct divergence *)                                                       \
    KERNEL(void, sample, struct sample *)                                                                              \
    KERNEL(void, adamw, const struct adamw *)                                                                          \
    KERNEL(void, adamw_8bit, const struct adamw_8bit *)                                                                \
    KERNEL(void, descent, const struct descent *)                                                                      \
    KERNEL(void, average, const struct average *)                                                                      \
    KERNEL(void, add, const struct add *)                                                                              \
    KERNEL(void, adafactor_means, const struct adafactor_means *)                                                      \
    KERNEL(void, adafactor_scale, const struct adafactor_scale *)                                                      \
    KERNEL(void, muon_momentum, const struct muon_momentum *)                                                          \
    KERNEL(void, muon_mix, const struct muon_mix *)                                                                    \
    KERNEL(void, muon_transpose, const struct muon_transpose *)

#define CPU_DECLARE_KERNEL(type, name, params)                                                                         \
    type name##_portable(struct backend *, params);                                                                    \
    type name##_avx2(struct backend *, params);                                                                        \
    type name##_avx512(struct backend *, params);
CPU_KERNELS(CPU_DECLARE_KERNEL)
CPU_ATTENTION_KERNELS(CPU_DECLARE_KERNEL)
#define CPU_DECLARE_BF16(type, name, params) type name##_avx512bf16(struct backend *, params);
CPU_ATTENTION_KERNELS(CPU_DECLARE_BF16)

double sum_squares_portable(struct backend *, const float *x, int64_t count);
double sum_squares_avx2(struct backend *, const float *x, int64_t count);
double sum_squares_avx512(struct backend *, const float *x, int64_t count);
void square_sums_portable(struct backend *, const float *x, int64_t count, double *sums);
void square_sums_avx2(struct backend *, const float *x, int64_t count, double *sums);
void square_sums_avx512(struct backend *, const float *x, int64_t count, double *sums);
enum { CPU_SQUARE_BLOCK = 65536 }; /* elements */

/* How many threads to use for elements of work that take about ns each on one core (see alone_ns of struct backend): 1
 * or all. */
static inline int cpu_threads(const struct backend *backend, int64_t elements, double ns)
{
    return (double)elements * ns < backend->alone_ns ? 1 : backend->threads;
}

/* The working memory of one thread, apart from its stack, on which kernels keep nothing large. A kernel lays its own
 * struct over block; nothing in it outlives the piece of work. */
enum { CPU_BLOCK_BYTES = 576 << 10 };
struct cpu_worker {
    void *block; /* CPU_BLOCK_BYTES, 64-byte aligned */
    struct sample_scratch sample;
};

/* The CPU backend's own state. */
struct cpu_state {
    const struct cpu_matmul *matmul_bf16, *matmul_f32, *matmul_f16; /* providers, chosen once */
    struct pool *pool;
    struct cpu_worker *worker; /* [threads of the pool] */
    void *blocks;              /* of all workers */
    char threads_note[160];    /* struct backend's */
    /* Scratch that kernels share: cpu_scratch gives the calling operation a buffer of at least bytes (64-byte aligned)
     * that is valid until the next call. It grows on first use to what the largest operation needs (tens of MB) and
     * stays; it is not part of the arena's plan. */
    void *scratch;
    size_t scratch_bytes;
    void *aside; /* cpu_scratch_aside */
    size_t aside_bytes;
    atomic_size_t large_bytes; /* of blocks that are mapped: memory is taken where they are written to */
    atomic_bool failed;        /* memory could not be had; reported by the next checked call */
};
void *cpu_scratch(struct backend *backend, size_t bytes);
/* A second one, for an operation made of others that use the first. */
void *cpu_scratch_aside(struct backend *backend, size_t bytes);

/* Runs fn over 0 .. items on this many threads (from cpu_threads: all, or the calling one alone), in pieces of grain
 * items (0: a few pieces for each thread; see pool_run). */
static inline void cpu_run(struct backend *backend, int threads, int64_t items, int64_t grain, pool_fn *fn,
                           const void *context)
{
    const struct cpu_state *state = backend->state;
    pool_set_stop(state->pool, backend->unstoppable == 0 ? backend->stop : NULL);
    (threads > 1 ? pool_run : pool_run_alone)(state->pool, items, grain, fn, context);
}

/* The working memory of thread number thread of a cpu_run. */
static inline struct cpu_worker *cpu_worker(struct backend *backend, int thread)
{
    const struct cpu_state *state = backend->state;
    return &state->worker[thread];
}

/* Whether a long piece of work should end early (see pool_stopped). */
static inline bool cpu_stopped(struct backend *backend)
{
    const struct cpu_state *state = backend->state;
    return pool_stopped(state->pool);
}

#endif

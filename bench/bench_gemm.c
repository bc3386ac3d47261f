/* Matrix products of one provider beside oneDNN on the same data, interleaved, medians.
 *
 *   bench_gemm [ISA] [THREADS] [SECONDS per case] [TYPE bf16|f32] [CASE forward|backward]
 *
 * ISA: auto, amx-bf16, avx512-bf16, avx512, avx2. oneDNN is held to the same instruction set. For
 * few rows the limit is the memory, so GB/s of weights are printed beside the bandwidth of reading
 * measured here; the weights of a small case are as many copies as 256 MiB hold, taken in turn, so
 * that they come from memory as in a model. */
#include "backend/ops.h"
#include "base/rng.h"

#include <dnnl.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { MAX_COPIES = 64, MAX_SAMPLES = 400 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void die(const char *what)
{
    fprintf(stderr, "bench_gemm: %s\n", what);
    exit(1);
}

static void check(dnnl_status_t status, const char *what)
{
    if (status != dnnl_success)
        die(what);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *x, int n)
{
    qsort(x, (size_t)n, sizeof *x, by_value);
    return x[n / 2];
}

static void *new_memory(size_t bytes)
{
    size_t rounded = (bytes + (2u << 20) - 1) / (2u << 20) * (2u << 20);
    void *p = aligned_alloc(2u << 20, rounded);
    if (p == NULL)
        die("out of memory");
    madvise(p, rounded, MADV_HUGEPAGE);
    memset(p, 0, rounded);
    return p;
}

/* Never zeros: multipliers and memory are faster on them. */
static void *random_matrix(int64_t count, enum dtype type, uint64_t stream)
{
    void *x = new_memory((size_t)count * dtype_bytes(type));
#pragma omp parallel for
    for (int64_t i = 0; i < count; i += 4) {
        struct rng_block block = rng_philox(2, RNG_TEST, stream, (uint64_t)i);
        for (int j = 0; j < 4 && i + j < count; j++) {
            float value = 2.0f * rng_uniform(block.word[j]) - 1.0f;
            if (type == DTYPE_F32)
                ((float *)x)[i + j] = value;
            else
                ((uint16_t *)x)[i + j] = bf16_from_f32(value);
        }
    }
    return x;
}

/* Bytes a second of reading 512 MiB by all threads, the best of five. */
static double read_bandwidth(int threads)
{
    const uint64_t count = (uint64_t)64 << 20;
    uint64_t *x = random_matrix((int64_t)count * 2, DTYPE_F32, 99);
    double best = 0.0;
    uint64_t sum = 0;
    for (int run = 0; run < 5; run++) {
        double start = now();
#pragma omp parallel for num_threads(threads) reduction(+ : sum) schedule(static)
        for (uint64_t i = 0; i < count; i += 8)
            sum += x[i] ^ x[i + 1] ^ x[i + 2] ^ x[i + 3] ^ x[i + 4] ^ x[i + 5] ^ x[i + 6] ^ x[i + 7];
        double rate = (double)count * 8.0 / (now() - start);
        best = rate > best ? rate : best;
    }
    if (sum == 42)
        putchar(' ');
    free(x);
    return best;
}

/* oneDNN's matmul, weights reordered once into the layout it chose. */
struct peer {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_t primitive;
    dnnl_memory_t x, w[MAX_COPIES], y;
    int copies;
    const char *kernel;
};

static dnnl_memory_desc_t matrix_desc(int64_t rows, int64_t cols, dnnl_data_type_t type, bool transposed)
{
    dnnl_memory_desc_t desc;
    dnnl_dims_t dims = {rows, cols};
    check(dnnl_memory_desc_init_by_tag(&desc, 2, dims, type, transposed ? dnnl_ba : dnnl_ab), "desc");
    return desc;
}

static void peer_open(struct peer *p, int64_t m, int64_t n, int64_t k, enum dtype type, void *x, void *const *w,
                      int copies, void *y, bool transposed_w)
{
    dnnl_data_type_t dt = type == DTYPE_F32 ? dnnl_f32 : dnnl_bf16;
    dnnl_memory_desc_t xd = matrix_desc(m, k, dt, false), yd = matrix_desc(m, n, dnnl_f32, false);
    dnnl_memory_desc_t natural = matrix_desc(k, n, dt, transposed_w), any;
    dnnl_dims_t dims = {k, n};
    check(dnnl_memory_desc_init_by_tag(&any, 2, dims, dt, dnnl_format_tag_any), "any");
    check(dnnl_engine_create(&p->engine, dnnl_cpu, 0), "engine");
    check(dnnl_stream_create(&p->stream, p->engine, dnnl_stream_default_flags), "stream");
    dnnl_matmul_desc_t desc;
    check(dnnl_matmul_desc_init(&desc, &xd, &any, NULL, &yd), "matmul");
    dnnl_primitive_desc_t pd;
    check(dnnl_primitive_desc_create(&pd, &desc, NULL, p->engine, NULL), "primitive");
    const dnnl_memory_desc_t *packed = dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
    check(dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &p->kernel), "name");
    check(dnnl_primitive_create(&p->primitive, pd), "create");
    check(dnnl_memory_create(&p->x, &xd, p->engine, x), "x");
    check(dnnl_memory_create(&p->y, &yd, p->engine, y), "y");
    p->copies = copies;
    for (int i = 0; i < copies; i++) {
        dnnl_memory_t from;
        dnnl_primitive_desc_t rpd;
        dnnl_primitive_t reorder;
        check(dnnl_memory_create(&from, &natural, p->engine, w[i]), "w");
        check(dnnl_memory_create(&p->w[i], packed, p->engine, new_memory(dnnl_memory_desc_get_size(packed))), "packed");
        check(dnnl_reorder_primitive_desc_create(&rpd, &natural, p->engine, packed, p->engine, NULL), "reorder");
        check(dnnl_primitive_create(&reorder, rpd), "reorder");
        dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, p->w[i]}};
        check(dnnl_primitive_execute(reorder, p->stream, 2, args), "reorder");
        check(dnnl_stream_wait(p->stream), "wait");
        dnnl_primitive_destroy(reorder);
        dnnl_primitive_desc_destroy(rpd);
        dnnl_memory_destroy(from);
    }
    p->kernel = strdup(p->kernel);
    dnnl_primitive_desc_destroy(pd);
}

static void peer_run(struct peer *p, int copy)
{
    dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, p->x}, {DNNL_ARG_WEIGHTS, p->w[copy]}, {DNNL_ARG_DST, p->y}};
    check(dnnl_primitive_execute(p->primitive, p->stream, 3, args), "execute");
    check(dnnl_stream_wait(p->stream), "wait");
}

static void peer_close(struct peer *p)
{
    void *data = NULL;
    for (int i = 0; i < p->copies; i++) {
        dnnl_memory_get_data_handle(p->w[i], &data);
        free(data);
        dnnl_memory_destroy(p->w[i]);
    }
    dnnl_memory_destroy(p->x);
    dnnl_memory_destroy(p->y);
    dnnl_primitive_destroy(p->primitive);
    dnnl_stream_destroy(p->stream);
    dnnl_engine_destroy(p->engine);
    free((void *)(uintptr_t)p->kernel);
}

struct settings {
    struct backend *backend;
    enum dtype type;
    double seconds, bandwidth;
};

/* Alternates the two for the given time; ratio is the median of the ratios of neighbours. */
static void forward_case(const struct settings *s, int64_t m, int64_t n, int64_t k)
{
    struct backend *b = s->backend;
    const double bytes = (double)(n * k) * (double)dtype_bytes(s->type);
    int copies = (int)(256e6 / bytes);
    copies = copies < 1 || m > 32 ? 1 : copies > MAX_COPIES ? MAX_COPIES : copies;
    void *x = random_matrix(m * k, s->type, 1), *w[MAX_COPIES];
    struct weight *weight[MAX_COPIES];
    for (int i = 0; i < copies; i++) {
        w[i] = random_matrix(n * k, s->type, (uint64_t)(2 + i));
        cohort_error err = {0};
        if (b->ops->weight_create(b, &weight[i],
                                  &(struct weight_source){.format = storage_of(s->type), .data = w[i], .n = n, .k = k},
                                  &err) != COHORT_OK)
            die(err.message);
    }
    float *y = new_memory((size_t)(m * n) * 4), *y_peer = new_memory((size_t)(m * n) * 4);
    struct peer peer;
    peer_open(&peer, m, n, k, s->type, x, w, copies, y_peer, true);
    double ours[MAX_SAMPLES], theirs[MAX_SAMPLES], ratio[MAX_SAMPLES];
    int samples = 0;
    double until = 0.0;
    for (int i = -1; i < 5 || (i < MAX_SAMPLES && now() < until); i++) {
        int copy = (i + 1) % copies;
        struct matmul_forward p = {.w = weight[copy], .m = m, .x = x, .y = y, .y_stride = n};
        double t0 = now();
        b->ops->matmul_forward(b, &p);
        double t1 = now();
        peer_run(&peer, (copy + copies / 2) % copies);
        double t2 = now();
        if (i < 0) {
            until = now() + s->seconds;
            continue;
        }
        ours[i] = t1 - t0;
        theirs[i] = t2 - t1;
        ratio[i] = theirs[i] / ours[i];
        samples = i + 1;
    }
    /* The same product of the same data, or the comparison means nothing. */
    struct matmul_forward p = {.w = weight[0], .m = m, .x = x, .y = y, .y_stride = n};
    b->ops->matmul_forward(b, &p);
    peer_run(&peer, 0);
    for (int64_t i = 0; i < m * n; i += 1 + m * n / 1000)
        if (!(y[i] - y_peer[i] < 0.01f && y_peer[i] - y[i] < 0.01f))
            die("the results differ");
    double t = median(ours, samples), tp = median(theirs, samples), flops = 2.0 * (double)(m * n * k);
    printf("%6lld x %5lld  m %4lld  %8.1f %8.1f GFLOP/s", (long long)n, (long long)k, (long long)m, flops / t / 1e9,
           flops / tp / 1e9);
    if (m <= 32)
        printf("  %6.1f %6.1f GB/s (%3.0f %% of reading)", bytes / t / 1e9, bytes / tp / 1e9,
               100.0 * bytes / t / s->bandwidth);
    printf("  ratio %.2f  %s\n", median(ratio, samples), peer.kernel);
    fflush(stdout);
    peer_close(&peer);
    for (int i = 0; i < copies; i++) {
        b->ops->weight_destroy(b, weight[i]);
        free(w[i]);
    }
    free(x);
    free(y);
    free(y_peer);
}

/* dx = dy . w as oneDNN's matmul of the natural w; dw as its matmul of transposed dy with x
 * (without the sum onto dw, which ours includes). Operands are packed within the timed part on both
 * sides. */
static void backward_case(const struct settings *s, int64_t m, int64_t n, int64_t k, bool of_weight)
{
    struct backend *b = s->backend;
    void *x = random_matrix(m * k, s->type, 1), *w = random_matrix(n * k, s->type, 2);
    void *dy = random_matrix(m * n, s->type, 3);
    float *dx = new_memory((size_t)(m * k) * 4), *dw = new_memory((size_t)(n * k) * 4);
    float *out = new_memory((size_t)((of_weight ? n : m) * k) * 4);
    struct weight *weight = NULL;
    cohort_error err = {0};
    if (b->ops->weight_create(b, &weight,
                              &(struct weight_source){.format = storage_of(s->type), .data = w, .n = n, .k = k},
                              &err) != COHORT_OK)
        die(err.message);
    dnnl_data_type_t dt = s->type == DTYPE_F32 ? dnnl_f32 : dnnl_bf16;
    dnnl_memory_desc_t ad = of_weight ? matrix_desc(n, m, dt, true) : matrix_desc(m, n, dt, false);
    dnnl_memory_desc_t bd = of_weight ? matrix_desc(m, k, dt, false) : matrix_desc(n, k, dt, false);
    dnnl_memory_desc_t cd = matrix_desc(of_weight ? n : m, k, dnnl_f32, false);
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_matmul_desc_t desc;
    dnnl_primitive_desc_t pd;
    dnnl_primitive_t primitive;
    dnnl_memory_t am, bm, cm;
    check(dnnl_engine_create(&engine, dnnl_cpu, 0), "engine");
    check(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags), "stream");
    check(dnnl_matmul_desc_init(&desc, &ad, &bd, NULL, &cd), "matmul");
    check(dnnl_primitive_desc_create(&pd, &desc, NULL, engine, NULL), "primitive");
    check(dnnl_primitive_create(&primitive, pd), "create");
    check(dnnl_memory_create(&am, &ad, engine, dy), "a");
    check(dnnl_memory_create(&bm, &bd, engine, of_weight ? x : w), "b");
    check(dnnl_memory_create(&cm, &cd, engine, out), "c");
    double ours[MAX_SAMPLES], theirs[MAX_SAMPLES], ratio[MAX_SAMPLES];
    int samples = 0;
    double until = 0.0;
    for (int i = -1; i < 5 || (i < MAX_SAMPLES && now() < until); i++) {
        double t0 = now();
        if (of_weight)
            b->ops->matmul_backward_weight(
                b, &(struct matmul_backward_weight){
                       .m = m, .n = n, .k = k, .dy = dy, .dy_stride = n, .x = x, .type = s->type, .dw = dw});
        else
            b->ops->matmul_backward_input(
                b, &(struct matmul_backward_input){.w = weight, .m = m, .dy = dy, .dy_stride = n, .dx = dx});
        double t1 = now();
        dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, am}, {DNNL_ARG_WEIGHTS, bm}, {DNNL_ARG_DST, cm}};
        check(dnnl_primitive_execute(primitive, stream, 3, args), "execute");
        check(dnnl_stream_wait(stream), "wait");
        double t2 = now();
        if (i < 0) {
            until = now() + s->seconds;
            continue;
        }
        ours[i] = t1 - t0;
        theirs[i] = t2 - t1;
        ratio[i] = theirs[i] / ours[i];
        samples = i + 1;
    }
    double flops = 2.0 * (double)(m * n * k);
    printf("%6lld x %5lld  m %4lld  %s %8.1f %8.1f GFLOP/s  ratio %.2f\n", (long long)n, (long long)k, (long long)m,
           of_weight ? "dw" : "dx", flops / median(ours, samples) / 1e9, flops / median(theirs, samples) / 1e9,
           median(ratio, samples));
    fflush(stdout);
    dnnl_memory_destroy(am);
    dnnl_memory_destroy(bm);
    dnnl_memory_destroy(cm);
    dnnl_primitive_destroy(primitive);
    dnnl_primitive_desc_destroy(pd);
    dnnl_stream_destroy(stream);
    dnnl_engine_destroy(engine);
    b->ops->weight_destroy(b, weight);
    free(x);
    free(w);
    free(dy);
    free(dx);
    free(dw);
    free(out);
}

/* The instruction set that the option isa calls so. */
static enum cpu_isa isa_named(const char *name)
{
#define WORD(id, word, ...) word,
    static const char *const words[] = {"auto", CPU_ISA_LIST(WORD)};
#undef WORD
    for (int i = 0; i < N_CPU_ISAS; i++)
        if (strcmp(words[i], name) == 0)
            return (enum cpu_isa)i;
    die("the first argument is no instruction set of the option isa");
    return CPU_ISA_AUTO;
}

int main(int argc, char **argv)
{
    struct settings s = {.type = argc > 4 && strcmp(argv[4], "f32") == 0 ? DTYPE_F32 : DTYPE_BF16,
                         .seconds = argc > 3 ? atof(argv[3]) : 0.5};
    cohort_error err = {0};
    if (backend_cpu_create(&s.backend, isa_named(argc > 1 ? argv[1] : "auto"), argc > 2 ? atoi(argv[2]) : 2, &err) !=
        COHORT_OK)
        die(err.message);
    const char *name = s.type == DTYPE_F32 ? s.backend->provider_f32 : s.backend->provider_bf16;
    dnnl_cpu_isa_t limit = strcmp(name, "avx512-bf16") == 0 ? dnnl_cpu_isa_avx512_core_bf16
                           : strcmp(name, "avx512") == 0    ? dnnl_cpu_isa_avx512_core
                           : strcmp(name, "avx2") == 0      ? dnnl_cpu_isa_avx2
                                                            : dnnl_cpu_isa_all;
    check(dnnl_set_max_cpu_isa(limit), "instruction set");
    omp_set_num_threads(s.backend->threads);
    s.bandwidth = read_bandwidth(s.backend->threads);
    printf("%s %s, %d threads, reading %.1f GB/s; ours, oneDNN, theirs/ours\n", name, dtype_name(s.type),
           s.backend->threads, s.bandwidth / 1e9);
    static const int64_t shapes[][2] = {{4096, 1024}, {1024, 2048}, {6144, 1024}, {1024, 3072}, {151936, 1024}};
    static const int64_t rows[] = {1, 8, 32, 128, 512, 2048};
    bool backward = argc > 5 && strcmp(argv[5], "backward") == 0;
    const int n_shapes = argc > 6 ? atoi(argv[6]) : 5;
    for (int i = 0; i < n_shapes; i++)
        for (int j = backward ? 3 : 0; j < 6; j++) {
            if (backward && i == 4)
                break;
            if (backward) {
                backward_case(&s, rows[j], shapes[i][0], shapes[i][1], false);
                backward_case(&s, rows[j], shapes[i][0], shapes[i][1], true);
            } else {
                forward_case(&s, rows[j], shapes[i][0], shapes[i][1]);
            }
        }
    backend_destroy(s.backend);
    return 0;
}

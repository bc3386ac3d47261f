/* Matrix products on a GPU, for every size of the published Qwen3 models:
 *
 *   bench_products [bits] [times] [tune]      (all of them without arguments)
 *
 * bits   the kernel for few rows (kernel_matmul_skinny.cu) against cuBLASLt without workspace and split-K,
 *        bit for bit, and cuBLASLt against itself over the number of rows; fails if bits differ
 * times both in recorded steps, weights coming from memory (copies larger than the cache in turn)
 * tune   with times: other plans of the kernels for few rows, for 0.6B, m = 1, 4, 8; the best one
 *        beside the plan of choice
 *
 * Figures are medians, with the share of the copy bandwidth measured in the same run. */
#include "bench_device.h"

#include "backend/ops.h"
#include "backend/cuda/kernel_matmul_skinny.h"

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_ROWS = 8192, WORKSPACE = 64 << 20, REPLAYS = 7, CACHED = 24 << 20 };

struct size {
    const char *model, *what;
    int64_t n, k;
};
static const struct size sizes[] = {
    {"0.6B", "qkv", 4096, 1024},
    {"0.6B", "o", 1024, 2048},
    {"0.6B", "gate_up", 6144, 1024},
    {"0.6B", "down", 1024, 3072},
    {"0.6B", "head", 151936, 1024},
    {"1.7B", "qkv", 4096, 2048},
    {"1.7B", "o", 2048, 2048},
    {"1.7B", "gate_up", 12288, 2048},
    {"1.7B", "down", 2048, 6144},
    {"1.7B", "head", 151936, 2048},
    {"4B", "qkv", 6144, 2560},
    {"4B", "o", 2560, 4096},
    {"4B", "gate_up", 19456, 2560},
    {"4B", "down", 2560, 9728},
    {"4B", "head", 151936, 2560},
    {"8B", "qkv", 6144, 4096},
    {"8B", "o", 4096, 4096},
    {"8B", "gate_up", 24576, 4096},
    {"8B", "down", 4096, 12288},
    {"8B", "head", 151936, 4096},
    {"14B", "qkv", 7168, 5120},
    {"14B", "o", 5120, 5120},
    {"14B", "gate_up", 34816, 5120},
    {"14B", "down", 5120, 17408},
    {"14B", "head", 151936, 5120},
    {"32B", "qkv", 10240, 5120},
    {"32B", "o", 5120, 8192},
    {"32B", "gate_up", 51200, 5120},
    {"32B", "down", 5120, 25600},
    {"2.5-0.5B", "qkv", 1152, 896},
    {"2.5-0.5B", "o", 896, 896},
    {"2.5-0.5B", "gate_up", 9728, 896},
    {"2.5-0.5B", "down", 896, 4864},
    {"2.5-0.5B", "head", 151936, 896},
    {"2.5-1.5B", "qkv", 2048, 1536},
    {"2.5-1.5B", "o", 1536, 1536},
    {"2.5-1.5B", "gate_up", 17920, 1536},
    {"2.5-1.5B", "down", 1536, 8960},
    {"2.5-1.5B", "head", 151936, 1536},
    {"2.5-3B", "qkv", 2560, 2048},
    {"2.5-3B", "gate_up", 22016, 2048},
    {"2.5-3B", "down", 2048, 11008},
    {"2.5-7B", "qkv", 4608, 3584},
    {"2.5-7B", "o", 3584, 3584},
    {"2.5-7B", "gate_up", 37888, 3584},
    {"2.5-7B", "down", 3584, 18944},
    {"2.5-7B", "head", 152064, 3584},
};
enum { N_SIZES = sizeof sizes / sizeof sizes[0] };

static struct backend *backend;
static cublasLtHandle_t blas;
static double copy_gbs; /* bytes read and written by a copy, GB/s */

static void die(const char *what, const char *why)
{
    fprintf(stderr, "bench_products: %s: %s\n", what, why);
    exit(1);
}

static void cuda(cudaError_t result, const char *what)
{
    if (result != cudaSuccess)
        die(what, cudaGetErrorString(result));
}

static void lt(cublasStatus_t status, const char *what)
{
    if (status != CUBLAS_STATUS_SUCCESS)
        die(what, cublasLtGetStatusString(status));
}

static cudaStream_t stream(void) { return cuda_state_of(backend)->stream; }

static void *device_memory(size_t bytes)
{
    void *p = NULL;
    cuda(cudaMalloc(&p, bytes), "device memory");
    return p;
}

static void finish(void)
{
    cohort_error err = {0};
    cuda(cudaStreamSynchronize(stream()), "a kernel");
    if (backend->ops->check(backend, &err) != COHORT_OK)
        die("a product", err.message);
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *x, int n)
{
    qsort(x, (size_t)n, sizeof *x, by_value);
    return x[n / 2];
}

/* ---- cuBLASLt ---- */

/* y[m, n] (+)= x[m, k] . w[n, k]^T as src/backend/cuda/cuda_matmul.c asks for it; with free_choice any algorithm, with
 * a workspace. */
struct blas_product {
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t a, b, d;
    cublasLtMatmulAlgo_t algorithm;
    size_t workspace;
    float beta;
};

static void *workspace_memory(void)
{
    static void *memory;
    if (memory == NULL)
        memory = device_memory(WORKSPACE);
    return memory;
}

static struct blas_product blas_new(int64_t m, int64_t n, int64_t k, enum dtype y_type, bool accumulate,
                                    bool free_choice)
{
    struct blas_product p = {.workspace = free_choice ? WORKSPACE : 0, .beta = accumulate ? 1.0f : 0.0f};
    const cublasOperation_t transpose = CUBLAS_OP_T;
    const uint32_t reduction = free_choice ? CUBLASLT_REDUCTION_SCHEME_MASK : CUBLASLT_REDUCTION_SCHEME_NONE;
    const uint32_t alignment = 16;
    const cublasLtMatmulPreferenceAttributes_t alignments[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulHeuristicResult_t best;
    int found = 0;
    lt(cublasLtMatmulDescCreate(&p.operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "operation");
    lt(cublasLtMatmulDescSetAttribute(p.operation, CUBLASLT_MATMUL_DESC_TRANSA, &transpose, sizeof transpose),
       "operation");
    lt(cublasLtMatrixLayoutCreate(&p.a, CUDA_R_16BF, (uint64_t)k, (uint64_t)n, k), "layout");
    lt(cublasLtMatrixLayoutCreate(&p.b, CUDA_R_16BF, (uint64_t)k, (uint64_t)m, k), "layout");
    lt(cublasLtMatrixLayoutCreate(&p.d, y_type == DTYPE_F32 ? CUDA_R_32F : CUDA_R_16BF, (uint64_t)n, (uint64_t)m, n),
       "layout");
    lt(cublasLtMatmulPreferenceCreate(&preference), "preference");
    lt(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &p.workspace,
                                            sizeof p.workspace),
       "preference");
    lt(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reduction,
                                            sizeof reduction),
       "preference");
    for (size_t i = 0; i < sizeof alignments / sizeof alignments[0]; i++)
        lt(cublasLtMatmulPreferenceSetAttribute(preference, alignments[i], &alignment, sizeof alignment), "preference");
    lt(cublasLtMatmulAlgoGetHeuristic(blas, p.operation, p.a, p.b, p.d, p.d, preference, 1, &best, &found),
       "heuristic");
    if (found == 0)
        die("heuristic", "no algorithm");
    p.algorithm = best.algo;
    (void)cublasLtMatmulPreferenceDestroy(preference);
    return p;
}

static void blas_run(const struct blas_product *p, const void *w, const void *x, void *y)
{
    const float one = 1.0f;
    lt(cublasLtMatmul(blas, p->operation, &one, w, p->a, x, p->b, &p->beta, y, p->d, y, p->d, &p->algorithm,
                      p->workspace > 0 ? workspace_memory() : NULL, p->workspace, stream()),
       "product");
}

static void blas_free(struct blas_product *p)
{
    (void)cublasLtMatmulDescDestroy(p->operation);
    (void)cublasLtMatrixLayoutDestroy(p->a);
    (void)cublasLtMatrixLayoutDestroy(p->b);
    (void)cublasLtMatrixLayoutDestroy(p->d);
}

static void blas_once(const void *w, const void *x, void *y, int64_t m, const struct size *s, enum dtype y_type,
                      bool accumulate, bool free_choice)
{
    struct blas_product p = blas_new(m, s->n, s->k, y_type, accumulate, free_choice);
    blas_run(&p, w, x, y);
    finish();
    blas_free(&p);
}

/* ---- Bits ---- */

static struct bench_difference *found_memory(void)
{
    static void *memory;
    if (memory == NULL)
        memory = device_memory(sizeof(struct bench_difference));
    return memory;
}

static struct bench_difference compare(const void *a, const void *b, int64_t rows, int64_t columns, enum dtype type)
{
    struct bench_difference d = {0, ~0ull};
    cuda(cudaMemcpy(found_memory(), &d, sizeof d, cudaMemcpyHostToDevice), "copy");
    bench_compare(a, b, rows, columns, (int)dtype_bytes(type), found_memory(), stream());
    finish();
    cuda(cudaMemcpy(&d, found_memory(), sizeof d, cudaMemcpyDeviceToHost), "copy");
    return d;
}

/* The kernel for few rows, modes bf16, fp32, fp32 added to what was there, plans of choice and of the other kind;
 * against the first rows of cuBLASLt's product of many rows. Notes the first difference in where. Numbers of rows
 * without a plan are left out. */
static uint64_t few_rows_bits(const struct size *s, const void *w, const void *x, void *y, void *many, char *where,
                              size_t where_bytes)
{
    static const int64_t few[] = {1, 2, 4, 8}, rows[] = {64, 256, 1024, 4096};
    enum { N_FEW = 4, N_ROWS = 4, MODES = 3 };
    uint64_t different = 0;
    for (int mode = 0; mode < MODES; mode++) {
        const enum dtype type = mode == 0 ? DTYPE_BF16 : DTYPE_F32;
        const bool accumulate = mode == 2;
        for (int r = 0; r < N_ROWS; r++) {
            bench_fill_f32(many, accumulate ? rows[r] * s->n : 0, 4.0f, 7, stream());
            blas_once(w, x, many, rows[r], s, type, accumulate, false);
            for (int f = 0; f < N_FEW * 2; f++) {
                struct cuda_skinny_plan plan;
                const int64_t m = few[f / 2];
                if (!cuda_skinny_choose(cuda_state_of(backend), m, s->n, s->k, &plan))
                    continue;
                /* Resident in place of rings, or the reverse, once. */
                if (f % 2 == 1) {
                    if (r > 0)
                        continue;
                    plan.resident = !plan.resident;
                    plan.tile_rows = 16;
                    plan.warps = plan.resident ? 1 : plan.warps;
                    plan.depth = 4;
                    plan.overlap = true; /* with the kernel that writes what y += reads */
                    if (!cuda_skinny_finish(cuda_state_of(backend), m, s->n, s->k, &plan))
                        continue;
                }
                bench_fill_f32(y, accumulate ? m * s->n : 0, 4.0f, 7, stream());
                cuda_skinny_launch(
                    backend, w, s->n, s->k,
                    &(struct matmul_forward){
                        .m = m, .x = x, .y = y, .y_stride = s->n, .y_type = type, .accumulate = accumulate},
                    &plan);
                const struct bench_difference d = compare(y, many, m, s->n, type);
                if (d.count > 0 && different == 0)
                    snprintf(where, where_bytes, "m %" PRId64 " against %" PRId64 " rows, %s, row %llu column %llu", m,
                             rows[r],
                             mode == 0   ? "bf16"
                             : mode == 1 ? "fp32"
                                         : "fp32 added",
                             d.first / (unsigned long long)s->n, d.first % (unsigned long long)s->n);
                different += d.count;
            }
        }
    }
    return different;
}

/* How many numbers of rows there are at which cuBLASLt's rows differ from those of MOST_ROWS, and which, as text. */
static int blas_bits(const struct size *s, const void *w, const void *x, void *y, void *many, bool free_choice,
                     enum dtype type, char *text, size_t text_bytes)
{
    static const int64_t rows[] = {1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024, 2048, 4096};
    size_t used = 0;
    int different = 0;
    snprintf(text, text_bytes, "equal");
    blas_once(w, x, many, MOST_ROWS, s, type, false, free_choice);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        blas_once(w, x, y, rows[i], s, type, false, free_choice);
        if (compare(y, many, rows[i], s->n, type).count == 0)
            continue;
        different++;
        if (used < text_bytes)
            used += (size_t)snprintf(text + used, text_bytes - used, "%s%" PRId64, used == 0 ? "differs at m " : " ",
                                     rows[i]);
    }
    return different;
}

/* How many matrices have rows whose bits depend on their number. */
static int bits(void)
{
    int wrong = 0;
    size_t w_bytes = 0, y_bytes = 0;
    int64_t most_k = 0;
    for (int i = 0; i < N_SIZES; i++) {
        const size_t w = (size_t)(sizes[i].n * sizes[i].k) * 2;
        const size_t y = (size_t)sizes[i].n * MOST_ROWS * 2;
        w_bytes = w > w_bytes ? w : w_bytes;
        y_bytes = y > y_bytes ? y : y_bytes;
        most_k = sizes[i].k > most_k ? sizes[i].k : most_k;
    }
    void *w = device_memory(w_bytes), *x = device_memory((size_t)(most_k * MOST_ROWS) * 2), *y = device_memory(y_bytes),
         *many = device_memory(y_bytes);
    bench_fill_bf16(x, most_k * MOST_ROWS, 2.0f, 11, stream());
    puts("\nBits. few: m = 1 .. 8 of the kernel for few rows against cuBLASLt's products of 64, "
         "256, 1024, 4096 rows\n(bf16, fp32, fp32 added). cuBLASLt: every m of 1 .. 4096 against "
         "8192, without and with workspace and split-K.");
    printf("%-5s %-8s %16s  %-28s %-10s %s\n", "model", "matrix", "[n, k]", "few", "cuBLASLt", "cuBLASLt, free");
    for (int i = 0; i < N_SIZES; i++) {
        const struct size *s = &sizes[i];
        char where[160] = "", few[200], own[128], any[128];
        bench_fill_bf16(w, s->n * s->k, 0.05f, (uint32_t)i, stream());
        const uint64_t different = few_rows_bits(s, w, x, y, many, where, sizeof where);
        if (different == 0)
            snprintf(few, sizeof few, "equal");
        else
            snprintf(few, sizeof few, "%" PRIu64 " differ: %s", different, where);
        const int own_different = blas_bits(s, w, x, y, many, false, DTYPE_BF16, own, sizeof own);
        (void)blas_bits(s, w, x, y, many, true, DTYPE_BF16, any, sizeof any);
        wrong += different > 0 || own_different > 0;
        printf("%-5s %-8s [%6" PRId64 ", %6" PRId64 "]  %-28s %-10s %s\n", s->model, s->what, s->n, s->k, few, own,
               any);
        fflush(stdout);
    }
    cuda(cudaFree(w), "free"), cuda(cudaFree(x), "free"), cuda(cudaFree(y), "free"), cuda(cudaFree(many), "free");
    printf("figure: %d matrices of ten models, 1 to %d rows: %d differ (0)\n", (int)N_SIZES, (int)MOST_ROWS, wrong);
    return wrong;
}

/* ---- Times ---- */

/* What a timed step launches. */
struct timed {
    const struct size *size;
    const struct blas_product *blas; /* or */
    const struct cuda_skinny_plan *plan;
    int64_t m;
    const void *x;
    void *y;
    const char *weights; /* copies of the matrix, one after the other */
    int copies;
    bool cached; /* all products of the first copy */
};

static void launch(const struct timed *t, int copy)
{
    const void *w = t->weights + (size_t)copy * (size_t)(t->size->n * t->size->k) * 2;
    if (t->blas != NULL)
        blas_run(t->blas, w, t->x, t->y);
    else
        cuda_skinny_launch(
            backend, w, t->size->n, t->size->k,
            &(struct matmul_forward){.m = t->m, .x = t->x, .y = t->y, .y_stride = t->size->n, .y_type = DTYPE_BF16},
            t->plan);
}

/* Microseconds a product in a recorded step of many, one after the other; the median of replays. */
static double time_of(const struct timed *t, int replays)
{
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    cudaEvent_t begin, end;
    double us[REPLAYS];
    launch(t, 0); /* loads the kernel, which a recording may not */
    finish();
    cuda(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeThreadLocal), "capture");
    for (int i = 0; i < t->copies; i++)
        launch(t, t->cached ? 0 : i);
    cuda(cudaStreamEndCapture(stream(), &graph), "capture");
    cuda(cudaGraphInstantiate(&exec, graph, 0), "a recorded step");
    cuda(cudaEventCreate(&begin), "event");
    cuda(cudaEventCreate(&end), "event");
    cuda(cudaGraphLaunch(exec, stream()), "a recorded step");
    for (int i = 0; i < replays; i++) {
        float ms = 0.0f;
        cuda(cudaEventRecord(begin, stream()), "event");
        cuda(cudaGraphLaunch(exec, stream()), "a recorded step");
        cuda(cudaEventRecord(end, stream()), "event");
        cuda(cudaEventSynchronize(end), "event");
        cuda(cudaEventElapsedTime(&ms, begin, end), "event");
        us[i] = (double)ms * 1e3 / t->copies;
    }
    finish();
    (void)cudaEventDestroy(begin);
    (void)cudaEventDestroy(end);
    (void)cudaGraphExecDestroy(exec);
    (void)cudaGraphDestroy(graph);
    return median(us, replays);
}

/* Keeps a plan if it fits and is the fastest yet. */
static void try_plan(struct timed *t, struct cuda_skinny_plan plan, double *least, struct cuda_skinny_plan *best)
{
    if (!cuda_skinny_finish(cuda_state_of(backend), t->m, t->size->n, t->size->k, &plan))
        return;
    t->plan = &plan;
    const double us = time_of(t, 3);
    t->plan = NULL;
    if (us < *least) {
        *least = us;
        *best = plan;
    }
}

/* Tries other plans; the best one's time, and the plan in *best. */
static double tune(struct timed t, struct cuda_skinny_plan *best)
{
    static const int warps[] = {1, 2, 3, 4, 6, 8}, rings[] = {48, 96, 160};
    double least = 1e30;
    for (int w = 0; w < 6; w++)
        for (int tile_rows = 8; tile_rows <= 16; tile_rows += 8) {
            struct cuda_skinny_plan plan = {.tile_rows = tile_rows, .warps = warps[w], .overlap = true};
            plan.resident = true;
            /* A block of every multiprocessor at most twice: others wait. */
            if (t.size->n <= (int64_t)tile_rows * warps[w] * cuda_state_of(backend)->multiprocessors * 2)
                try_plan(&t, plan, &least, best);
            plan.resident = false;
            for (int v = 0; tile_rows == 8 && v < 3; v++) {
                plan.depth = (rings[v] << 10) / (plan.warps * tile_rows * 256);
                try_plan(&t, plan, &least, best);
            }
        }
    return least;
}

/* How the plan spreads the product, as text. */
static const char *plan_text(const struct cuda_skinny_plan *plan, char *text, size_t bytes)
{
    const int used = snprintf(text, bytes, "%2dx%dx%-3d ", plan->tile_rows, plan->warps, plan->blocks);
    if (plan->resident)
        snprintf(text + used, bytes - (size_t)used, "all");
    else
        snprintf(text + used, bytes - (size_t)used, "%d", plan->depth);
    return text;
}

static void times(bool tuning)
{
    static const int64_t few[] = {1, 2, 4, 8};
    const size_t pool = (size_t)1600 << 20, enough = (size_t)400 << 20;
    char *weights = device_memory(pool);
    void *x = device_memory((size_t)8 * 25600 * 2), *y = device_memory((size_t)8 * 151936 * 4);
    bench_fill_bf16(weights, (int64_t)(pool / 2), 0.05f, 3, stream());
    bench_fill_bf16(x, (int64_t)8 * 25600, 2.0f, 4, stream());
    puts("\nTimes, us a product in a recorded step. GB/s of weights and "
         "share of the copy\nbandwidth are of the overlapping launches; cached: these, weights in "
         "the cache (what is latency, not reading).");
    printf("%-5s %-8s %3s %9s %9s %9s %9s %8s %6s  %s%s\n", "model", "matrix", "m", "cuBLASLt", "few rows", "overlap",
           "cached", "GB/s", "share", "rows x warps x blocks, depth", tuning ? "; best of 0.6B: us, plan" : "");
    for (int i = 0; i < N_SIZES; i++) {
        const struct size *s = &sizes[i];
        if (strcmp(s->model, "0.6B") != 0 && strcmp(s->model, "8B") != 0)
            continue;
        const size_t bytes = (size_t)(s->n * s->k) * 2;
        /* At least 400 MB, so that nothing is still in the cache when its turn comes again. */
        const int copies = bytes >= enough ? 1 : (int)(enough / bytes) + 1;
        for (size_t f = 0; f < sizeof few / sizeof few[0]; f++) {
            struct blas_product product = blas_new(few[f], s->n, s->k, DTYPE_BF16, false, false);
            struct timed t = {
                .size = s, .blas = &product, .m = few[f], .x = x, .y = y, .weights = weights, .copies = copies};
            struct cuda_skinny_plan plan, best = {0};
            char text[64];
            const double blas_us = time_of(&t, REPLAYS);
            t.blas = NULL;
            if (!cuda_skinny_choose(cuda_state_of(backend), few[f], s->n, s->k, &plan)) {
                printf("%-5s %-8s %3" PRId64 " %9.2f (no plan)\n", s->model, s->what, few[f], blas_us);
                blas_free(&product);
                continue;
            }
            t.plan = &plan;
            plan.overlap = false;
            const double us = time_of(&t, REPLAYS);
            plan.overlap = true;
            const double early_us = time_of(&t, REPLAYS);
            t.cached = true;
            const double cached_us = bytes <= CACHED ? time_of(&t, 3) : 0.0;
            t.cached = false;
            const double gbs = (double)bytes / early_us * 1e-3;
            printf("%-5s %-8s %3" PRId64 " %9.2f %9.2f %9.2f %9.2f %8.0f %5.0f%%  %s", s->model, s->what, few[f],
                   blas_us, us, early_us, cached_us, gbs, 100.0 * gbs / copy_gbs, plan_text(&plan, text, sizeof text));
            if (tuning && strcmp(s->model, "0.6B") == 0 && few[f] != 2) {
                const double best_us = tune(t, &best);
                printf("; %.2f %s", best_us, plan_text(&best, text, sizeof text));
            }
            printf("%s\n", cuda_skinny_takes(cuda_state_of(backend), few[f], s->n, s->k, &plan) ? "" : " (cuBLASLt's)");
            fflush(stdout);
            blas_free(&product);
        }
    }
    cuda(cudaFree(weights), "free"), cuda(cudaFree(x), "free"), cuda(cudaFree(y), "free");
}

static void measure_copy(void)
{
    const size_t bytes = (size_t)2 << 30;
    void *a = device_memory(bytes), *b = device_memory(bytes);
    cudaEvent_t begin, end;
    double gbs[REPLAYS];
    bench_fill_bf16(a, (int64_t)(bytes / 2), 1.0f, 5, stream());
    cuda(cudaEventCreate(&begin), "event");
    cuda(cudaEventCreate(&end), "event");
    for (int i = 0; i < REPLAYS; i++) {
        float ms = 0.0f;
        cuda(cudaEventRecord(begin, stream()), "event");
        cuda(cudaMemcpyAsync(b, a, bytes, cudaMemcpyDeviceToDevice, stream()), "copy");
        cuda(cudaEventRecord(end, stream()), "event");
        cuda(cudaEventSynchronize(end), "event");
        cuda(cudaEventElapsedTime(&ms, begin, end), "event");
        gbs[i] = 2.0 * (double)bytes / ((double)ms * 1e6);
    }
    copy_gbs = median(gbs, REPLAYS);
    (void)cudaEventDestroy(begin);
    (void)cudaEventDestroy(end);
    cuda(cudaFree(a), "free"), cuda(cudaFree(b), "free");
}

static void chains(void)
{
    float c[4];
    float *device = device_memory(sizeof c);
    bench_chains(device, stream());
    finish();
    cuda(cudaMemcpy(c, device, sizeof c, cudaMemcpyDeviceToHost), "copy");
    printf("A chain over k, cycles a step of 16 columns: mma.sync %.1f, wgmma %.1f; their sums %s\n", (double)c[0],
           (double)c[1],
           c[1] == 0.0f                             ? "not compared"
           : memcmp(&c[2], &c[3], sizeof c[2]) == 0 ? "have the same bits"
                                                    : "DIFFER");
    cuda(cudaFree(device), "free");
}

int main(int argc, char **argv)
{
    int wrong = 0;
    bool want_bits = argc == 1, want_times = argc == 1, want_tuning = argc == 1;
    cohort_error err = {0};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "bits") == 0)
            want_bits = true;
        else if (strcmp(argv[i], "times") == 0)
            want_times = true;
        else if (strcmp(argv[i], "tune") == 0)
            want_times = want_tuning = true;
        else
            die(argv[i], "is none of bits, times, tune");
    }
    if (backend_cuda_create(&backend, 0, &err) != COHORT_OK)
        die("no device", err.message);
    lt(cublasLtCreate(&blas), "cuBLASLt");
    measure_copy();
    printf("%s, copy %.0f GB/s\n", cuda_state_of(backend)->name, copy_gbs);
    chains();
    if (want_times)
        times(want_tuning);
    if (want_bits)
        wrong = bits();
    (void)cublasLtDestroy(blas);
    backend_destroy(backend);
    return wrong > 0;
}

/* Matrix products. bf16 by cuBLASLt without workspace and without split-K: then the sum over k is one chain per output
 * element, in the same steps whatever the number of rows (measured for every published Qwen3 size, tests/cuda/), so a
 * row's bits do not depend on its batch (invariant I2). Products of few rows, where cuBLASLt is far from the memory's
 * speed, go to kernel_matmul_skinny.cu, which forms the same chain. fp32, and sizes that are no multiple of 8, go to
 * kernel_matmul_plain.cu.
 *
 * cuBLASLt's matrices are column-major: a row-major [rows, columns] is its columns x rows. */
#include "backend/cuda/cuda_internal.h"
#include "backend/cuda/kernel_matmul_plain.h"

#include "backend/ops.h"
#include "base/memory.h"

#include <assert.h>
#include <cublasLt.h>
#include <stdio.h>
#include <string.h>

/* One product as cuBLASLt sees it: d[m, n] = op(a) . op(b) + beta * d, column-major. */
struct product {
    int64_t m, n, k, lda, ldb, ldd;
    bool transpose_a, transpose_b, accumulate, inexact;
    enum dtype type, d_type;
};

/* A product whose algorithm was chosen. */
struct chosen {
    struct product product;
    bool used, failed;
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t a, b, d;
    cublasLtMatmulAlgo_t algorithm;
};

enum { CHOSEN = 1024, WORKSPACE = 64 << 20, ALIGNMENT = 16 };

struct blas {
    cublasLtHandle_t handle;
    struct chosen chosen[CHOSEN];
};

static void blas_failed(struct backend *backend, const struct product *p, cublasStatus_t status)
{
    char what[160];
    snprintf(what, sizeof what, "a product of %lld x %lld x %lld (cuBLASLt status %d)", (long long)p->m,
             (long long)p->n, (long long)p->k, (int)status);
    cuda_note(backend, what, cudaErrorUnknown);
}

static void forget(struct chosen *c)
{
    if (c->operation != NULL)
        (void)cublasLtMatmulDescDestroy(c->operation);
    if (c->a != NULL)
        (void)cublasLtMatrixLayoutDestroy(c->a);
    if (c->b != NULL)
        (void)cublasLtMatrixLayoutDestroy(c->b);
    if (c->d != NULL)
        (void)cublasLtMatrixLayoutDestroy(c->d);
    memset(c, 0, sizeof *c);
}

cohort_status cuda_blas_create(struct backend *backend, cohort_error *err)
{
    struct cuda_state *s = cuda_state_of(backend);
    struct blas *blas = NULL;
    TRY(mem_alloc(&blas, 1, sizeof *blas, "matrix products", err));
    s->blas = blas;
    cublasStatus_t status = cublasLtCreate(&blas->handle);
    if (status != CUBLAS_STATUS_SUCCESS)
        return error_set(err, COHORT_ERR_UNSUPPORTED, "%s: cuBLASLt does not start: %s", s->name,
                         cublasLtGetStatusString(status));
    return COHORT_OK;
}

void cuda_blas_destroy(struct backend *backend)
{
    struct cuda_state *s = cuda_state_of(backend);
    struct blas *blas = s->blas;
    for (int i = 0; blas != NULL && i < CHOSEN; i++)
        forget(&blas->chosen[i]);
    if (blas != NULL && blas->handle != NULL)
        (void)cublasLtDestroy(blas->handle);
    mem_free(blas);
    s->blas = NULL;
    cuda_free(backend, s->workspace);
    s->workspace = NULL;
}

static cudaDataType_t data_type(enum dtype type) { return type == DTYPE_F32 ? CUDA_R_32F : CUDA_R_16BF; }

static bool same_product(const struct product *a, const struct product *b)
{
    return a->m == b->m && a->n == b->n && a->k == b->k && a->lda == b->lda && a->ldb == b->ldb && a->ldd == b->ldd &&
           a->transpose_a == b->transpose_a && a->transpose_b == b->transpose_b && a->accumulate == b->accumulate &&
           a->inexact == b->inexact && a->type == b->type && a->d_type == b->d_type;
}

static size_t slot_of(const struct product *p)
{
    uint64_t h = 0x9e3779b97f4a7c15ull;
    const uint64_t words[] = {(uint64_t)p->m, (uint64_t)p->n, (uint64_t)p->k,
                              (uint64_t)p->transpose_a << 1 | (uint64_t)p->transpose_b << 2 |
                                  (uint64_t)p->accumulate << 3 | (uint64_t)p->inexact << 6 | (uint64_t)p->d_type << 4};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        h = (h ^ words[i]) * 0xff51afd7ed558ccdull, h ^= h >> 32;
    return (size_t)(h % CHOSEN);
}

static cublasStatus_t set_operation(struct chosen *c)
{
    const struct product *p = &c->product;
    cublasOperation_t a = p->transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N, b = p->transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasStatus_t status = cublasLtMatmulDescCreate(&c->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatmulDescSetAttribute(c->operation, CUBLASLT_MATMUL_DESC_TRANSA, &a, sizeof a);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatmulDescSetAttribute(c->operation, CUBLASLT_MATMUL_DESC_TRANSB, &b, sizeof b);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatrixLayoutCreate(&c->a, data_type(p->type), (uint64_t)(p->transpose_a ? p->k : p->m),
                                            (uint64_t)(p->transpose_a ? p->m : p->k), p->lda);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatrixLayoutCreate(&c->b, data_type(p->type), (uint64_t)(p->transpose_b ? p->n : p->k),
                                            (uint64_t)(p->transpose_b ? p->k : p->n), p->ldb);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatrixLayoutCreate(&c->d, data_type(p->d_type), (uint64_t)p->m, (uint64_t)p->n, p->ldd);
    return status;
}

/* free: any algorithm with a workspace; else none that splits its sums. */
static cublasStatus_t set_preference(cublasLtMatmulPreference_t preference, bool free_choice)
{
    const size_t workspace = free_choice ? WORKSPACE : 0;
    const uint32_t reduction = free_choice ? CUBLASLT_REDUCTION_SCHEME_MASK : CUBLASLT_REDUCTION_SCHEME_NONE;
    const uint32_t alignment = ALIGNMENT;
    static const cublasLtMatmulPreferenceAttributes_t alignments[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    cublasStatus_t status = cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                                 &workspace, sizeof workspace);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                                                      &reduction, sizeof reduction);
    for (size_t i = 0; i < sizeof alignments / sizeof alignments[0]; i++)
        if (status == CUBLAS_STATUS_SUCCESS)
            status = cublasLtMatmulPreferenceSetAttribute(preference, alignments[i], &alignment, sizeof alignment);
    return status;
}

static cublasStatus_t choose(struct cuda_state *s, struct chosen *c)
{
    struct blas *blas = s->blas;
    cublasLtMatmulPreference_t preference = NULL;
    cublasLtMatmulHeuristicResult_t best;
    int found = 0;
    cublasStatus_t status = set_operation(c);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatmulPreferenceCreate(&preference);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = set_preference(preference, c->product.inexact);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatmulAlgoGetHeuristic(blas->handle, c->operation, c->a, c->b, c->d, c->d, preference, 1,
                                                &best, &found);
    if (preference != NULL)
        (void)cublasLtMatmulPreferenceDestroy(preference);
    if (status == CUBLAS_STATUS_SUCCESS && found == 0)
        status = CUBLAS_STATUS_NOT_SUPPORTED;
    if (status == CUBLAS_STATUS_SUCCESS)
        c->algorithm = best.algo;
    return status;
}

/* before: what an accumulating product adds to, where that is not d. */
static void run_product(struct backend *backend, const struct product *wanted, const void *a, const void *b,
                        const void *before, void *d)
{
    struct cuda_state *s = cuda_state_of(backend);
    struct blas *blas = s->blas;
    struct product product = *wanted;
    product.inexact = backend->inexact_products;
    if (product.inexact && s->workspace == NULL &&
        cuda_alloc(backend, &s->workspace, WORKSPACE, "workspace", NULL) != COHORT_OK)
        return;
    const struct product *p = &product;
    struct chosen *c = &blas->chosen[slot_of(p)];
    cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
    const float one = 1.0f, beta = p->accumulate ? 1.0f : 0.0f;
    if (!c->used || !same_product(&c->product, p)) {
        forget(c);
        c->product = *p;
        status = choose(s, c);
        c->used = status == CUBLAS_STATUS_SUCCESS;
    }
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatmul(blas->handle, c->operation, &one, a, c->a, b, c->b, &beta, before != NULL ? before : d,
                                c->d, d, c->d, &c->algorithm, p->inexact ? s->workspace : NULL,
                                p->inexact ? WORKSPACE : 0, s->stream);
    if (status != CUBLAS_STATUS_SUCCESS)
        blas_failed(backend, p, status);
    else
        cuda_note(backend, "a product", cudaSuccess);
}

/* cuBLASLt's fast kernels need rows that start at multiples of 16 bytes. This depends on the weight's sizes alone,
 * never on the number of rows. */
static bool takes(enum dtype type, int64_t n, int64_t k) { return type == DTYPE_BF16 && n % 8 == 0 && k % 8 == 0; }

size_t cuda_weight_bytes(struct backend *backend, const struct weight_source *source)
{
    (void)backend;
    return source->lowrank ? storage_bytes(source->format, source->n * source->k) : 0;
}

cohort_status cuda_weight_create(struct backend *backend, struct weight **out, const struct weight_source *source,
                                 cohort_error *err)
{
    struct weight *w = NULL;
    cohort_status status = COHORT_OK;
    *out = NULL;
    if (source->format != STORAGE_F32 && source->format != STORAGE_BF16 && source->format != STORAGE_F16)
        return error_set(err, COHORT_ERR_UNSUPPORTED,
                         "weight [%lld, %lld] has format %d; products take F32, BF16 or F16", (long long)source->n,
                         (long long)source->k, (int)source->format);
    assert(source->scales == NULL);
    TRY(mem_alloc(&w, 1, sizeof *w, "weight", err));
    *w = (struct weight){.natural = source->data,
                         .n = source->n,
                         .k = source->k,
                         .type = storage_act(source->format),
                         .stored = storage_dtype(source->format)};
    if (source->lowrank)
        TRY_GOTO(cuda_alloc(backend, &w->transposed, cuda_weight_bytes(backend, source), "transposed weight", err));
    cuda_weight_refresh(backend, w);
    *out = w;
    return COHORT_OK;
cleanup:
    mem_free(w);
    return status;
}

void cuda_weight_refresh(struct backend *backend, struct weight *w)
{
    cuda_make_current(backend);
    cuda_host_forget(backend, w->natural);
    if (w->transposed != NULL)
        cuda_transpose(backend, w->natural, w->transposed, w->n, w->k, w->type);
}

void cuda_weight_destroy(struct backend *backend, struct weight *w)
{
    if (w != NULL)
        cuda_free(backend, w->transposed);
    mem_free(w);
}

#ifdef COHORT_BREAK_REDUCTION
/* The negative control of the exactness tests: few rows sum over k in two parts. */
static bool broken_forward(struct backend *backend, const struct matmul_forward *p)
{
    const struct weight *w = p->w;
    const int64_t half = w->k / 2;
    if (p->m >= 16 || half == 0)
        return false;
    matmul_make_input(backend, p);
    matmul_copy_before(backend, p);
    const size_t bytes = dtype_bytes(w->type), b_bytes = dtype_bytes(w->stored);
    for (int part = 0; part < 2; part++) {
        struct plain_product plain = {.rows = p->m,
                                      .columns = w->n,
                                      .depth = part == 0 ? half : w->k - half,
                                      .a = (const char *)p->x + (size_t)(part * half) * bytes,
                                      .a_row = w->k,
                                      .a_depth = 1,
                                      .b = (const char *)w->natural + (size_t)(part * half) * b_bytes,
                                      .b_column = w->k,
                                      .b_depth = 1,
                                      .type = w->type,
                                      .b_type = w->stored,
                                      .d = p->y,
                                      .d_row = p->y_stride,
                                      .d_type = p->y_type,
                                      .accumulate = p->accumulate || part > 0};
        cuda_plain_product(backend, &plain);
    }
    return true;
}
#endif

/* The weight with its matrix where a product finds it. */
static struct weight staged(struct backend *backend, const struct weight *w)
{
    struct weight there = *w;
    there.natural = cuda_stage(backend, w->natural, (size_t)(w->n * w->k) * dtype_bytes(w->stored), false);
    return there;
}

static void forward(struct backend *backend, const struct matmul_forward *p)
{
    const struct weight *w = p->w;
#ifdef COHORT_BREAK_REDUCTION
    if (broken_forward(backend, p))
        return;
#endif
    if (takes(w->type, w->n, w->k) && cuda_skinny_forward(backend, w->natural, w->n, w->k, p))
        return;
    matmul_make_input(backend, p);
    if (!takes(w->type, w->n, w->k)) {
        matmul_copy_before(backend, p);
        cuda_plain_product(backend, &(struct plain_product){.rows = p->m,
                                                            .columns = w->n,
                                                            .depth = w->k,
                                                            .a = p->x,
                                                            .a_row = w->k,
                                                            .a_depth = 1,
                                                            .b = w->natural,
                                                            .b_column = w->k,
                                                            .b_depth = 1,
                                                            .type = w->type,
                                                            .b_type = w->stored,
                                                            .d = p->y,
                                                            .d_row = p->y_stride,
                                                            .d_type = p->y_type,
                                                            .accumulate = p->accumulate});
        return;
    }
    run_product(backend,
                &(struct product){.m = w->n,
                                  .n = p->m,
                                  .k = w->k,
                                  .lda = w->k,
                                  .ldb = w->k,
                                  .ldd = p->y_stride,
                                  .transpose_a = true,
                                  .accumulate = p->accumulate,
                                  .type = w->type,
                                  .d_type = p->y_type},
                w->natural, p->x, p->before, p->y);
}

void cuda_matmul_forward(struct backend *backend, const struct matmul_forward *p)
{
    struct matmul_forward product = *p;
    if (p->m == 0)
        return;
    const struct weight there = staged(backend, p->w);
    product.w = &there;
    forward(backend, &product);
    cuda_staged(backend, p->w->natural);
}

static void backward_input(struct backend *backend, const struct matmul_backward_input *p)
{
    const struct weight *w = p->w;
    if (!takes(w->type, w->n, w->k)) {
        cuda_plain_product(backend, &(struct plain_product){.rows = p->m,
                                                            .columns = w->k,
                                                            .depth = w->n,
                                                            .a = p->dy,
                                                            .a_row = p->dy_stride,
                                                            .a_depth = 1,
                                                            .b = w->natural,
                                                            .b_column = 1,
                                                            .b_depth = w->k,
                                                            .type = w->type,
                                                            .b_type = w->stored,
                                                            .d = p->dx,
                                                            .d_row = w->k,
                                                            .d_type = p->dx_type,
                                                            .accumulate = p->accumulate});
        return;
    }
    run_product(backend,
                &(struct product){.m = w->k,
                                  .n = p->m,
                                  .k = w->n,
                                  .lda = w->k,
                                  .ldb = p->dy_stride,
                                  .ldd = w->k,
                                  .accumulate = p->accumulate,
                                  .type = w->type,
                                  .d_type = p->dx_type},
                w->natural, p->dy, NULL, p->dx);
}

void cuda_matmul_backward_input(struct backend *backend, const struct matmul_backward_input *p)
{
    struct matmul_backward_input product = *p;
    if (p->m == 0)
        return;
    const struct weight there = staged(backend, p->w);
    product.w = &there;
    backward_input(backend, &product);
    cuda_staged(backend, p->w->natural);
}

static void backward_weight(struct backend *backend, const struct matmul_backward_weight *p)
{
    if (!takes(p->type, p->n, p->k)) {
        cuda_plain_product(backend, &(struct plain_product){.rows = p->n,
                                                            .columns = p->k,
                                                            .depth = p->m,
                                                            .a = p->dy,
                                                            .a_row = 1,
                                                            .a_depth = p->dy_stride,
                                                            .b = p->x,
                                                            .b_column = 1,
                                                            .b_depth = p->k,
                                                            .type = p->type,
                                                            .b_type = p->type,
                                                            .d = p->dw,
                                                            .d_row = p->k,
                                                            .d_type = DTYPE_F32,
                                                            .accumulate = true});
        return;
    }
    run_product(backend,
                &(struct product){.m = p->k,
                                  .n = p->n,
                                  .k = p->m,
                                  .lda = p->k,
                                  .ldb = p->dy_stride,
                                  .ldd = p->k,
                                  .transpose_b = true,
                                  .accumulate = true,
                                  .type = p->type,
                                  .d_type = DTYPE_F32},
                p->x, p->dy, NULL, p->dw);
}

void cuda_matmul_backward_weight(struct backend *backend, const struct matmul_backward_weight *p)
{
    struct matmul_backward_weight product = *p;
    if (p->m == 0)
        return;
    product.dw = cuda_stage(backend, p->dw, (size_t)(p->n * p->k) * sizeof *p->dw, true);
    backward_weight(backend, &product);
    cuda_staged(backend, p->dw);
}

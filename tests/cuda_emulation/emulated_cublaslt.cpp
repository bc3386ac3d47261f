/* cuBLASLt's matrix product on the CPU. bf16: the sum over k of an element is one chain of steps of 16 in ascending
 * order, each as the emulated mma_bf16 forms it (a GPU's does the same: measured on an H200); then alpha, then beta
 * times what was there. Operands must lie in device memory with all that their layouts span. */
#include <memory>
#include <vector>

/* After the standard headers: it defines words that they use in attributes. */
#include "emulation_state.h"

#include <cublasLt.h>

struct emulated_blas {
    int unused;
};
struct emulated_blas_operation {
    cublasOperation_t transpose[2] = {CUBLAS_OP_N, CUBLAS_OP_N};
};
struct emulated_blas_layout {
    cudaDataType_t type;
    uint64_t rows, columns;
    int64_t ld;
};
struct emulated_blas_preference {
    size_t alignment = 256;
};

namespace
{
size_t bytes_of(cudaDataType_t type) { return type == CUDA_R_32F ? 4 : 2; }

bool fits(const char *what, const void *p, const emulated_blas_layout &l)
{
    size_t elements = (size_t)l.ld * (l.columns - 1) + l.rows;
    if (emulated_device_range(p, elements * bytes_of(l.type)))
        return true;
    emulated_fail("cublasLtMatmul: %s (%llu x %llu, %lld apart) at %p is not inside device memory", what,
                  (unsigned long long)l.rows, (unsigned long long)l.columns, (long long)l.ld, p);
    return false;
}

float load(const void *p, cudaDataType_t type, size_t i)
{
    return type == CUDA_R_32F ? ((const float *)p)[i] : __uint_as_float((uint32_t)((const uint16_t *)p)[i] << 16);
}

/* op(matrix) as [rows, columns] floats; transposed: element (i, j) lies at j + i * ld. */
std::vector<float> widened(const void *p, const emulated_blas_layout &l, bool transpose)
{
    uint64_t rows = transpose ? l.columns : l.rows, columns = transpose ? l.rows : l.columns;
    std::vector<float> x((size_t)(rows * columns));
    for (uint64_t i = 0; i < rows; i++)
        for (uint64_t j = 0; j < columns; j++)
            x[i * columns + j] = load(p, l.type, transpose ? j + i * (size_t)l.ld : i + j * (size_t)l.ld);
    return x;
}

struct call {
    emulated_blas_operation operation;
    emulated_blas_layout a, b, d;
    const void *pa, *pb, *pc; /* c lies as d does */
    void *pd;
    float alpha, beta;
};

bool multiply(const call &c)
{
    if (!fits("a", c.pa, c.a) || !fits("b", c.pb, c.b) || !fits("d", c.pd, c.d) || !fits("c", c.pc, c.d))
        return false;
    bool ta = c.operation.transpose[0] == CUBLAS_OP_T, tb = c.operation.transpose[1] == CUBLAS_OP_T;
    uint64_t m = c.d.rows, n = c.d.columns, k = ta ? c.a.rows : c.a.columns;
    /* b as [k, n]; a by rows of op(a)^T = [k, m], so that the inner loop runs over m. */
    std::vector<float> a = widened(c.pa, c.a, ta), b = widened(c.pb, c.b, tb);
    std::vector<float> a_t((size_t)(k * m)), sum((size_t)m);
    std::vector<double> step((size_t)m);
    for (uint64_t i = 0; i < m; i++)
        for (uint64_t l = 0; l < k; l++)
            a_t[l * m + i] = a[i * k + l];
    for (uint64_t j = 0; j < n; j++) {
        for (uint64_t i = 0; i < m; i++)
            sum[i] = 0.0f;
        for (uint64_t l = 0; l < k; l++) {
            float y = b[l * n + j];
            const float *x = &a_t[l * m];
            if (c.a.type == CUDA_R_32F) {
                for (uint64_t i = 0; i < m; i++)
                    sum[i] = fmaf(x[i], y, sum[i]);
                continue;
            }
            for (uint64_t i = 0; i < m; i++)
                step[i] = (l % 16 == 0 ? 0.0 : step[i]) + (double)x[i] * (double)y;
            if (l % 16 == 15 || l + 1 == k)
                for (uint64_t i = 0; i < m; i++)
                    sum[i] = (float)((double)sum[i] + step[i]);
        }
        for (uint64_t i = 0; i < m; i++) {
            size_t at = i + j * (size_t)c.d.ld;
            float v = c.alpha * sum[i];
            if (c.beta != 0.0f)
                v += c.beta * load(c.pc, c.d.type, at);
            if (c.d.type == CUDA_R_32F)
                ((float *)c.pd)[at] = v;
            else
                ((uint16_t *)c.pd)[at] = (uint16_t)emulated_bf16(v);
        }
    }
    return true;
}
} // namespace

extern "C" {
const char *cublasLtGetStatusString(cublasStatus_t status)
{
    return status == CUBLAS_STATUS_SUCCESS ? "CUBLAS_STATUS_SUCCESS" : "CUBLAS_STATUS_(error)";
}
size_t cublasLtGetVersion(void) { return 120400; }
cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
    *handle = new emulated_blas();
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *desc, cublasComputeType_t compute, cudaDataType_t scale)
{
    if (compute != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F)
        return CUBLAS_STATUS_INVALID_VALUE;
    *desc = new emulated_blas_operation();
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc)
{
    delete desc;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attribute,
                                              const void *value, size_t bytes)
{
    if (bytes != sizeof desc->transpose[0])
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(&desc->transpose[attribute == CUBLASLT_MATMUL_DESC_TRANSB], value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *layout, cudaDataType_t type, uint64_t rows,
                                          uint64_t columns, int64_t ld)
{
    *layout = new emulated_blas_layout{type, rows, columns, ld};
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout)
{
    delete layout;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *preference)
{
    *preference = new emulated_blas_preference();
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference)
{
    delete preference;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void *value,
                                                    size_t bytes)
{
    if (attribute >= CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES) {
        uint32_t alignment;
        if (bytes != sizeof alignment)
            return CUBLAS_STATUS_INVALID_VALUE;
        memcpy(&alignment, value, sizeof alignment);
        preference->alignment = alignment;
    }
    return CUBLAS_STATUS_SUCCESS;
}
/* The algorithm remembers the least alignment it was chosen for. */
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t,
                                              cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t preference,
                                              int wanted, cublasLtMatmulHeuristicResult_t *results, int *found)
{
    *found = 0;
    bool ta = desc->transpose[0] == CUBLAS_OP_T, tb = desc->transpose[1] == CUBLAS_OP_T;
    uint64_t m = ta ? a->columns : a->rows, ka = ta ? a->rows : a->columns;
    uint64_t n = tb ? b->rows : b->columns, kb = tb ? b->columns : b->rows;
    if (wanted < 1 || m != d->rows || n != d->columns || ka != kb || a->type != b->type || a->ld < (int64_t)a->rows ||
        b->ld < (int64_t)b->rows || d->ld < (int64_t)d->rows)
        return CUBLAS_STATUS_INVALID_VALUE;
    for (const emulated_blas_layout *l : {a, b, d})
        if ((size_t)l->ld * bytes_of(l->type) % preference->alignment != 0)
            return CUBLAS_STATUS_NOT_SUPPORTED;
    memset(results, 0, sizeof *results);
    results->algo.data[0] = preference->alignment;
    *found = 1;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t desc, const void *alpha, const void *a,
                              cublasLtMatrixLayout_t a_layout, const void *b, cublasLtMatrixLayout_t b_layout,
                              const void *beta, const void *c, cublasLtMatrixLayout_t, void *d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *algo, void *, size_t,
                              cudaStream_t stream)
{
    size_t alignment = algo->data[0];
    const uintptr_t all = (uintptr_t)a | (uintptr_t)b | (uintptr_t)c | (uintptr_t)d;
    if (alignment == 0 || all % alignment != 0) {
        emulated_fail("cublasLtMatmul: operands at %p, %p, %p, %p, but the algorithm was chosen "
                      "for multiples of %zu",
                      a, b, c, d, alignment);
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    call made = {*desc, *a_layout, *b_layout, *d_layout, a, b, c, d, 0.0f, 0.0f};
    memcpy(&made.alpha, alpha, sizeof made.alpha);
    memcpy(&made.beta, beta, sizeof made.beta);
    emulated_issue(stream, [made]() { return multiply(made); });
    return CUBLAS_STATUS_SUCCESS;
}
} // extern "C"

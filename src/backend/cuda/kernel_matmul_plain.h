/* The plain matrix product of kernel_matmul_plain.cu: any sizes and strides, sums over the depth in ascending order by
 * fused multiply-add, one chain an element. */
#ifndef COHORT_BACKEND_CUDA_KERNEL_MATMUL_PLAIN_H
#define COHORT_BACKEND_CUDA_KERNEL_MATMUL_PLAIN_H

#include "backend/cuda/cuda_internal.h"

#ifdef __cplusplus
extern "C" {
#endif

/* d[i, j] (+)= sum_l a[i * a_row + l * a_depth] * b[j * b_column + l * b_depth]. */
struct plain_product {
    int64_t rows, columns, depth;
    const void *a, *b; /* type, b_type */
    int64_t a_row, a_depth, b_column, b_depth;
    enum dtype type, b_type; /* b_type: the same, or F16 where type and d_type are F32 */
    void *d;                 /* d_type, rows d_row elements apart */
    int64_t d_row;
    enum dtype d_type;
    bool accumulate;
};
void cuda_plain_product(struct backend *backend, const struct plain_product *product);

#ifdef __cplusplus
}
#endif

#endif

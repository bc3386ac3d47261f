/* The instruction sets of the CPU backend, in ascending order: a machine that has one has those before it.
 * X(ID, word, kernels, product): CPU_ISA_ID and its word of isa; the kernels compiled for KERNELS, and matmul_bf16_PRODUCT
 * for products in bf16. */
#ifndef COHORT_BACKEND_CPU_ISA_LIST_H
#define COHORT_BACKEND_CPU_ISA_LIST_H

/* clang-format off */
#define CPU_ISA_LIST(X)                                                                                                \
    X(PORTABLE,    "portable",    portable, portable)                                                                  \
    X(AVX2,        "avx2",        avx2,     avx2)                                                                      \
    X(AVX512,      "avx512",      avx512,   avx512)                                                                    \
    X(AVX512_BF16, "avx512-bf16", avx512,   dot)                                                                       \
    X(AMX_BF16,    "amx-bf16",    avx512,   amx)
/* clang-format on */

#endif

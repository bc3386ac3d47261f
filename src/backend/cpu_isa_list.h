/* The instruction sets of the CPU backend, in ascending order: a machine that has one also has those before it.
 *
 * X(ID, word, kernels, attention, product)
 *   ID, word  CPU_ISA_ID is called word in the option isa
 *   kernels   it uses the kernel files as they are compiled for this set
 *   attention and attention's as compiled for this one
 *   product   and matmul_bf16_PRODUCT for products in bf16 */
#ifndef COHORT_BACKEND_CPU_ISA_LIST_H
#define COHORT_BACKEND_CPU_ISA_LIST_H

/* clang-format off */
#define CPU_ISA_LIST(X)                                                                                                \
    X(PORTABLE,    "portable",    portable, portable,   portable)                                                      \
    X(AVX2,        "avx2",        avx2,     avx2,       avx2)                                                          \
    X(AVX512,      "avx512",      avx512,   avx512,     avx512)                                                        \
    X(AVX512_BF16, "avx512-bf16", avx512,   avx512bf16, dot)                                                           \
    X(AMX_BF16,    "amx-bf16",    avx512,   avx512,     amx)
/* clang-format on */

#endif

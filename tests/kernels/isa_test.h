/* For tests of what is the CPU backend's own: kernels of one instruction set, called by name. */
#ifndef COHORT_TESTS_KERNELS_ISA_TEST_H
#define COHORT_TESTS_KERNELS_ISA_TEST_H

#include "backend/cpu/cpu_kernels.h"
#include "support/numbers.h"
#include "support/threads.h"

/* OPERATION(name)[isa] is the kernel for an instruction set. */
#if defined(COHORT_X86)
enum { N_ISAS = 3 };
#define OPERATION(name)                                                                                                \
    {                                                                                                                  \
        name##_portable, name##_avx2, name##_avx512                                                                    \
    }
static inline bool isa_here(int isa)
{
    if (isa == 1)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (isa == 2)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    return true;
}
#else
enum { N_ISAS = 1 };
#define OPERATION(name)                                                                                                \
    {                                                                                                                  \
        name##_portable                                                                                                \
    }
static inline bool isa_here(int isa) { return isa == 0; }
#endif

/* A loop over the instruction sets of this machine. */
#define EACH_ISA(isa)                                                                                                  \
    for (int isa = 0; isa < N_ISAS; isa++)                                                                             \
        if (isa_here(isa))

#endif

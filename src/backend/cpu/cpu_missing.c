/* Temporary: weak stand-ins for kernels that other files define; deleted when those are in place.
 */
#include "backend/cpu/cpu_kernels.h"

#include <stdlib.h>

#define MISSING(type, name, params)                                                                \
    __attribute__((weak)) type name##_portable(struct backend *b, params p)                        \
    {                                                                                              \
        (void)b, (void)p, abort();                                                                 \
    }                                                                                              \
    __attribute__((weak)) type name##_avx2(struct backend *b, params p)                            \
    {                                                                                              \
        (void)b, (void)p, abort();                                                                 \
    }                                                                                              \
    __attribute__((weak)) type name##_avx512(struct backend *b, params p)                          \
    {                                                                                              \
        (void)b, (void)p, abort();                                                                 \
    }
CPU_KERNELS(MISSING)

#define MISSING_SUM(isa)                                                                           \
    __attribute__((weak)) double sum_squares_##isa(struct backend *b, const float *x, int64_t n)   \
    {                                                                                              \
        (void)b, (void)x, (void)n, abort();                                                        \
    }
MISSING_SUM(portable)
MISSING_SUM(avx2)
MISSING_SUM(avx512)

/* Shared by the kernel tests: which instruction sets to run, guarded buffers, numbers, comparison.
 */
#ifndef COHORT_TESTS_KERNELS_KERNEL_TEST_H
#define COHORT_TESTS_KERNELS_KERNEL_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "backend/cpu/cpu_kernels.h"
#include "base/rng.h"
#include "support/threads.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

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

/* Around the vector widths 8 and 16 and the unrolled 4 * VW, and a real one. */
static const int64_t test_width[] = {1, 7, 8, 9, 15, 16, 17, 100, 1024};
enum { N_WIDTHS = sizeof test_width / sizeof *test_width };

/* ---- Guarded buffers: 64 bytes of a pattern on both sides ---- */

enum { GUARD = 64, GUARD_BYTE = 0xA7 };

static inline void *guarded(size_t bytes)
{
    unsigned char *block = malloc(bytes + 2 * GUARD);
    assert_non_null(block);
    memset(block, GUARD_BYTE, bytes + 2 * GUARD);
    memset(block + GUARD, 0, bytes);
    return block + GUARD;
}

static inline void guarded_free(void *memory, size_t bytes)
{
    unsigned char *block = (unsigned char *)memory - GUARD;
    for (size_t i = 0; i < GUARD; i++) {
        assert_int_equal(block[i], GUARD_BYTE);
        assert_int_equal(block[GUARD + bytes + i], GUARD_BYTE);
    }
    free(block);
}

/* ---- Numbers: a function of (stream, index) ---- */

/* Uniform in (-1, 1). */
static inline double number(uint64_t stream, int64_t i)
{
    struct rng_block block = rng_philox(11, RNG_TEST, stream, (uint64_t)i);
    return 2.0 * rng_uniform_double(block.word[0], block.word[1]) - 1.0;
}

static inline void fill(void *x, enum dtype type, int64_t count, uint64_t stream, double scale)
{
    for (int64_t i = 0; i < count; i++) {
        float value = (float)(scale * number(stream, i));
        if (type == DTYPE_F32)
            ((float *)x)[i] = value;
        else
            ((uint16_t *)x)[i] = bf16_from_f32(value);
    }
}

static inline double at(const void *x, enum dtype type, int64_t i)
{
    return type == DTYPE_F32 ? (double)((const float *)x)[i] : (double)f32_from_bf16(((const uint16_t *)x)[i]);
}

/* Half a unit in the last place of what is stored (2^-8 of a bf16), plus slack for fp32 arithmetic
 * on the way, both relative to scale. */
static inline void expect_near(double got, double wanted, enum dtype type, double scale, double slack)
{
    double bound = slack * scale + (type == DTYPE_BF16 ? fabs(wanted) * 0x1.01p-8 : 0.0);
    if (!(fabs(got - wanted) <= bound))
        fail_msg("got %.9g, expected %.9g within %.3g", got, wanted, bound);
}

#endif

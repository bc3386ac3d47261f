/* Numbers for tests of operations, host memory between guard bytes, and comparison. */
#ifndef COHORT_TESTS_SUPPORT_NUMBERS_H
#define COHORT_TESTS_SUPPORT_NUMBERS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/rng.h"
#include "tensor/dtype.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

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

static inline void put(void *x, enum dtype type, int64_t i, float value)
{
    if (type == DTYPE_F32)
        ((float *)x)[i] = value;
    else
        ((uint16_t *)x)[i] = bf16_from_f32(value);
}

static inline double at(const void *x, enum dtype type, int64_t i)
{
    return type == DTYPE_F32 ? (double)((const float *)x)[i] : (double)f32_from_bf16(((const uint16_t *)x)[i]);
}

static inline void fill(void *x, enum dtype type, int64_t count, uint64_t stream, double scale)
{
    for (int64_t i = 0; i < count; i++)
        put(x, type, i, (float)(scale * number(stream, i)));
}

/* Half a unit in the last place of what is stored (2^-8 of a bf16), plus slack for fp32 arithmetic on the way, both
 * relative to scale. */
static inline void expect_near(double got, double wanted, enum dtype type, double scale, double slack)
{
    double bound = slack * scale + (type == DTYPE_BF16 ? fabs(wanted) * 0x1.01p-8 : 0.0);
    if (!(fabs(got - wanted) <= bound))
        fail_msg("got %.9g, expected %.9g within %.3g", got, wanted, bound);
}

#endif

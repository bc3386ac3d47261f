/* Directional derivatives by central differences, for forwards that compute in fp32. */
#ifndef COHORT_TESTS_SUPPORT_DIFFERENCES_H
#define COHORT_TESTS_SUPPORT_DIFFERENCES_H

#include "base/rng.h"

#include <math.h>
#include <stdint.h>

/* The scalar whose derivative is asked for, at the values that x holds at the time of the call. */
typedef double difference_loss(void *context);

/* Uniform in (-1, 1), a function of (stream, index). */
static inline double test_number(uint64_t stream, int64_t i)
{
    struct rng_block block = rng_philox(17, RNG_TEST, stream, (uint64_t)i);
    return 2.0 * rng_uniform_double(block.word[0], block.word[1]) - 1.0;
}

static inline double norm_of(const float *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return sqrt(sum);
}

/* A random direction. A plain random one has almost nothing of the gradient in it (1/sqrt(n)), and
 * rounding hides the rest: so half of it is the gradient with random weights in (0, 2) and half is
 * noise of the gradient's size, which sees elements that the gradient misses. */
static inline void direction_make(float *direction, const float *gradient, int64_t n, uint64_t stream)
{
    double rms = norm_of(gradient, n) / sqrt((double)n);
    if (rms == 0)
        rms = 1;
    for (int64_t i = 0; i < n; i++)
        direction[i] = (float)((double)gradient[i] * (1.0 + test_number(stream, 2 * i)) +
                               rms * 1.7 * test_number(stream, 2 * i + 1));
}

static inline double central_difference(difference_loss *loss, void *context, float *x, const float *origin,
                                        const float *direction, int64_t n, double h)
{
    double value[2];
    for (int side = 0; side < 2; side++) {
        for (int64_t i = 0; i < n; i++)
            x[i] = (float)((double)origin[i] + (side == 0 ? -h : h) * (double)direction[i]);
        value[side] = loss(context);
    }
    return (value[1] - value[0]) / (2 * h);
}

/* |numeric - gradient . direction| / (|gradient| |direction|). x is moved by step * |x| /
 * |direction| and half of that (Richardson's extrapolation takes the h^2 error away) and put back.
 */
static inline double directional_error(difference_loss *loss, void *context, float *x, float *origin,
                                       const float *gradient, const float *direction, int64_t n, double step)
{
    const double size = norm_of(direction, n), h = step * (norm_of(x, n) + 1e-30) / size;
    double analytic = 0;
    for (int64_t i = 0; i < n; i++) {
        origin[i] = x[i];
        analytic += (double)gradient[i] * (double)direction[i];
    }
    const double wide = central_difference(loss, context, x, origin, direction, n, h);
    const double narrow = central_difference(loss, context, x, origin, direction, n, h / 2);
    for (int64_t i = 0; i < n; i++)
        x[i] = origin[i];
    return fabs((4 * narrow - wide) / 3 - analytic) / (norm_of(gradient, n) * size + 1e-30);
}

#endif

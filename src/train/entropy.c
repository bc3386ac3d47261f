/* Formulas: TRL 1.16.0, the entropy mask of GRPOTrainer and the end of its _compute_loss (docs/GRPO.md). */
#include "train/entropy.h"

#include <assert.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

/* An integer that is ordered as the float is. */
static uint32_t order_of(float value)
{
    uint32_t bits = 0;
    memcpy(&bits, &value, sizeof bits);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

static float value_of(uint32_t order)
{
    const uint32_t bits = order & 0x80000000u ? order & 0x7fffffffu : ~order;
    float value = 0.0f;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* The value at rank (from 0) of values[n] in ascending order: its bits are found 8 at a time, by counting those that
 * begin alike. */
static float at_rank(const float *values, int64_t n, int64_t rank)
{
    uint32_t prefix = 0, mask = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        int64_t counts[256] = {0};
        for (int64_t i = 0; i < n; i++) {
            const uint32_t order = order_of(values[i]);
            counts[order >> shift & 255] += (order & mask) == prefix ? 1 : 0;
        }
        uint32_t digit = 0;
        while (rank >= counts[digit])
            rank -= counts[digit++];
        assert(digit < 256);
        prefix |= digit << shift;
        mask |= 255u << shift;
    }
    return value_of(prefix);
}

float entropy_threshold(const float *values, int64_t n, double top)
{
    if (n == 0)
        return INFINITY;
    /* torch's steps, of a float for the quantile: whether a rank is whole decides about tokens. */
    const double rank = (double)(float)(1.0 - top) * (double)(n - 1);
    const int64_t below = (int64_t)rank;
    const float weight = (float)(rank - (double)below);
    const float low = at_rank(values, n, below);
    if (weight == 0.0f || below == n - 1)
        return low;
    const float high = at_rank(values, n, below + 1);
    return weight < 0.5f ? low + weight * (high - low) : high - (high - low) * (1.0f - weight);
}

bool entropy_control_on(const struct entropy_control *control) { return control->adaptive || control->coef != 0.0; }

double entropy_control_coef(const struct entropy_control *control)
{
    return control->adaptive && !(control->last <= control->target) ? 0.0 : control->coef;
}

void entropy_control_update(struct entropy_control *control, double entropy)
{
    if (!control->adaptive)
        return;
    if (entropy <= control->target)
        control->coef = fmin(control->coef + control->delta, control->most);
    else
        control->coef = fmax(control->coef - control->delta, control->least);
    control->last = entropy;
}

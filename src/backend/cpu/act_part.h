/* Access to rows in an activation type, including the last n < VW elements of a row: what lies behind them is neither
 * read nor written. */
#ifndef COHORT_BACKEND_CPU_ACT_PART_H
#define COHORT_BACKEND_CPU_ACT_PART_H

#include "backend/cpu/simd.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* Elements i .. i + n, zeros behind them. */
ALWAYS_INLINE vf vf_load_act_part(const void *p, enum dtype type, int64_t i, int n)
{
    if (n == VW)
        return vf_load_act(p, type, i);
    float lane[VW] = {0};
    for (int j = 0; j < n; j++)
        lane[j] = act_load(p, type, i + j);
    return vf_load(lane);
}

ALWAYS_INLINE void vf_store_act_part(void *p, enum dtype type, int64_t i, vf x, int n)
{
    if (n == VW) {
        vf_store_act(p, type, i, x);
        return;
    }
    float lane[VW];
    vf_store(lane, x);
    for (int j = 0; j < n; j++)
        act_store(p, type, i + j, lane[j]);
}

/* How many of the VW elements from i on a row of width elements has. */
ALWAYS_INLINE int part_of(int64_t i, int64_t width) { return width - i < VW ? (int)(width - i) : VW; }

/* y = x in fp32, exactly. */
ALWAYS_INLINE void act_widen(const void *x, enum dtype type, int64_t count, float *y)
{
    for (int64_t i = 0; i < count; i += VW) {
        int n = part_of(i, count);
        vf_store_act_part(y, DTYPE_F32, i, vf_load_act_part(x, type, i, n), n);
    }
}

#endif

/* Master weights in fp32 that are stored as a bf16 weight and its low half (struct adamw). */
#ifndef COHORT_BACKEND_CPU_SPLIT_MASTER_H
#define COHORT_BACKEND_CPU_SPLIT_MASTER_H

#include "tensor/dtype.h"

/* master bits = (high << 16) + signed low, modulo 2^32; master_split is its exact inverse for every bit
 * pattern. */
static inline void master_join(const uint16_t *high, const int16_t *low, int64_t count, float *master)
{
    for (int64_t i = 0; i < count; i++)
        master[i] = f32_from_bits(((uint32_t)high[i] << 16) + (uint32_t)(int32_t)low[i]);
}

static inline void master_split(const float *master, int64_t count, uint16_t *high, int16_t *low)
{
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits = f32_bits(master[i]);
        high[i] = (uint16_t)((bits + 0x8000u) >> 16);
        low[i] = (int16_t)(uint16_t)(bits & 0xffffu);
    }
}

#endif

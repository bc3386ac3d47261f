/* How the values of a parameter are stored. Each parameter has a format of its own, so that a model may hold norm gains
 * in F32 beside projections in BF16. A format that packs several values into a block with scales (a quantised one) will
 * be another row here: sizes are asked for by number of values, never computed from bytes per value. */
#ifndef COHORT_TENSOR_STORAGE_H
#define COHORT_TENSOR_STORAGE_H

#include "tensor/dtype.h"

enum storage_format { STORAGE_F32, STORAGE_BF16, STORAGE_F16, N_STORAGE_FORMATS };

/* The type of one value as operations read it. */
static inline enum dtype storage_dtype(enum storage_format format)
{
    return format == STORAGE_F32 ? DTYPE_F32 : format == STORAGE_BF16 ? DTYPE_BF16 : DTYPE_F16;
}

/* The type of activations beside a weight: products with F16 weights are those of the same values in F32. */
static inline enum dtype storage_act(enum storage_format format)
{
    return format == STORAGE_BF16 ? DTYPE_BF16 : DTYPE_F32;
}

/* The format that stores values of a type as they are. type: F32 or BF16. */
static inline enum storage_format storage_of(enum dtype type) { return type == DTYPE_F32 ? STORAGE_F32 : STORAGE_BF16; }

static inline size_t storage_bytes(enum storage_format format, int64_t count)
{
    return (size_t)count * dtype_bytes(storage_dtype(format));
}

/* Value i of some on the host. */
static inline float storage_get(enum storage_format format, const void *values, int64_t i)
{
    return format == STORAGE_F32    ? ((const float *)values)[i]
           : format == STORAGE_BF16 ? f32_from_bf16(((const uint16_t *)values)[i])
                                    : f32_from_f16(((const uint16_t *)values)[i]);
}

/* The same, rounded to nearest even. */
static inline void storage_set(enum storage_format format, void *values, int64_t i, float value)
{
    if (format == STORAGE_F32)
        ((float *)values)[i] = value;
    else
        ((uint16_t *)values)[i] = format == STORAGE_BF16 ? bf16_from_f32(value) : f16_from_f32(value);
}

#endif

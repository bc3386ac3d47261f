#include "format/checkpoint_convert.h"

/* Sources may lie at any byte (headers of other writers are not always padded), hence memcpy loads.
 * Each loop also tells whether a result is NaN or infinite: all exponent bits set. The file is
 * compiled with -O3, which makes vectors of them. */

static bool to_f32_from_f32(const unsigned char *from, int64_t count, float *to)
{
    uint32_t bad = 0;
    memcpy(to, from, (size_t)count * sizeof *to);
    for (int64_t i = 0; i < count; i++)
        bad |= (uint32_t)((f32_bits(to[i]) & 0x7f800000u) == 0x7f800000u);
    return bad == 0;
}

static bool to_f32_from_bf16(const unsigned char *from, int64_t count, float *to)
{
    uint32_t bad = 0;
    for (int64_t i = 0; i < count; i++) {
        uint16_t half;
        memcpy(&half, from + 2 * i, sizeof half);
        bad |= (uint32_t)((half & 0x7f80u) == 0x7f80u);
        to[i] = f32_from_bf16(half);
    }
    return bad == 0;
}

/* f32_from_f16 without branches, for finite values. A subnormal becomes 2^-14 * (1 + m / 1024) by
 * its bits; taking 2^-14 off again is exact. */
static inline float f32_from_finite_f16(uint16_t half)
{
    uint32_t magnitude = (uint32_t)(half & 0x7fffu) << 13;
    uint32_t normal = magnitude + (112u << 23);
    uint32_t subnormal = f32_bits(f32_from_bits(magnitude + (113u << 23)) - 0x1p-14f);
    uint32_t bits = (half & 0x7c00u) == 0 ? subnormal : normal;
    return f32_from_bits(bits | (uint32_t)(half & 0x8000u) << 16);
}

static bool to_f32_from_f16(const unsigned char *from, int64_t count, float *to)
{
    uint32_t bad = 0;
    for (int64_t i = 0; i < count; i++) {
        uint16_t half;
        memcpy(&half, from + 2 * i, sizeof half);
        bad |= (uint32_t)((half & 0x7c00u) == 0x7c00u);
        to[i] = f32_from_finite_f16(half);
    }
    return bad == 0;
}

static bool to_bf16_from_bf16(const unsigned char *from, int64_t count, uint16_t *to)
{
    uint32_t bad = 0;
    memcpy(to, from, (size_t)count * sizeof *to);
    for (int64_t i = 0; i < count; i++)
        bad |= (uint32_t)((to[i] & 0x7f80u) == 0x7f80u);
    return bad == 0;
}

/* bf16_from_f32 for values that are not NaN; a NaN becomes some other non-finite value, or a finite
 * one that is caught by its own exponent. */
static bool to_bf16_from_f32(const unsigned char *from, int64_t count, uint16_t *to)
{
    uint32_t bad = 0;
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, from + 4 * i, sizeof bits);
        uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
        bad |= (uint32_t)((bits & 0x7f800000u) == 0x7f800000u);
        bad |= (uint32_t)((rounded & 0x7f80u) == 0x7f80u);
        to[i] = (uint16_t)rounded;
    }
    return bad == 0;
}

static bool to_bf16_from_f16(const unsigned char *from, int64_t count, uint16_t *to)
{
    uint32_t bad = 0;
    for (int64_t i = 0; i < count; i++) {
        uint16_t half;
        memcpy(&half, from + 2 * i, sizeof half);
        uint32_t bits = f32_bits(f32_from_finite_f16(half));
        bad |= (uint32_t)((half & 0x7c00u) == 0x7c00u);
        to[i] = (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
    }
    return bad == 0;
}

/* Whatever is no finite number in F16 is refused. */
static bool to_f16(enum dtype from_type, const unsigned char *from, int64_t count, uint16_t *to)
{
    uint32_t bad = 0;
    if (from_type == DTYPE_F16)
        memcpy(to, from, (size_t)count * sizeof *to);
    for (int64_t i = 0; i < count; i++) {
        if (from_type == DTYPE_F32) {
            float value;
            memcpy(&value, from + 4 * i, sizeof value);
            to[i] = f16_from_f32(value);
        } else if (from_type == DTYPE_BF16) {
            uint16_t half;
            memcpy(&half, from + 2 * i, sizeof half);
            to[i] = f16_from_f32(f32_from_bf16(half));
        }
        bad |= (uint32_t)((to[i] & 0x7c00u) == 0x7c00u);
    }
    return bad == 0;
}

bool checkpoint_convert(enum dtype from_type, const unsigned char *from, int64_t count, enum dtype want, void *to)
{
    if (want == DTYPE_F32) {
        switch (from_type) {
        case DTYPE_F32: return to_f32_from_f32(from, count, to);
        case DTYPE_BF16: return to_f32_from_bf16(from, count, to);
        case DTYPE_F16: return to_f32_from_f16(from, count, to);
        }
    }
    if (want == DTYPE_F16)
        return to_f16(from_type, from, count, to);
    switch (from_type) {
    case DTYPE_F32: return to_bf16_from_f32(from, count, to);
    case DTYPE_BF16: return to_bf16_from_bf16(from, count, to);
    case DTYPE_F16: break;
    }
    return to_bf16_from_f16(from, count, to);
}

bool checkpoint_finite(enum dtype type, const void *from, int64_t count)
{
    uint32_t bad = 0;
    if (type == DTYPE_F32) {
        const uint32_t *bits = from;
        for (int64_t i = 0; i < count; i++)
            bad |= (uint32_t)((bits[i] & 0x7f800000u) == 0x7f800000u);
        return bad == 0;
    }
    const uint16_t *bits = from;
    const uint32_t exponent = type == DTYPE_BF16 ? 0x7f80u : 0x7c00u;
    for (int64_t i = 0; i < count; i++)
        bad |= (uint32_t)((bits[i] & exponent) == exponent);
    return bad == 0;
}

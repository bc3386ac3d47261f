/* Conversion between types, elementwise. Threads split the elements. */
#include "backend/cpu/act_part.h"
#include "backend/cpu/cpu_kernels.h"

#include <assert.h>

enum { CONVERT_CHUNK = 16384 };

/* From any type to F32 or BF16; F16 is a type of stored weights only. */
static void convert_chunk(const struct convert *p, int64_t first, int64_t count)
{
    const void *x = act_at(p->x, p->x_type, first);
    void *y = act_at_mut(p->y, p->y_type, first);
    if (p->x_type == p->y_type) {
        memcpy(y, x, (size_t)count * dtype_bytes(p->x_type));
    } else if (p->x_type == DTYPE_F16) {
        const uint16_t *half = x;
        for (int64_t i = 0; i < count; i++)
            act_store(y, p->y_type, i, f32_from_f16(half[i]));
    } else if (p->x_type == DTYPE_BF16) {
        act_widen(x, DTYPE_BF16, count, y);
    } else {
        for (int64_t i = 0; i < count; i += VW) {
            int n = part_of(i, count);
            vf_store_act_part(y, DTYPE_BF16, i, vf_load_act_part(x, DTYPE_F32, i, n), n);
        }
    }
}

static void convert_chunks(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct convert *p = context;
    const int64_t first = begin * CONVERT_CHUNK, left = p->count - first;
    const int64_t count = (end - begin) * CONVERT_CHUNK;
    (void)thread;
    convert_chunk(p, first, left < count ? left : count);
}

void CPU_NAME(convert)(struct backend *backend, const struct convert *p)
{
    assert(p->y_type != DTYPE_F16 || p->x_type == DTYPE_F16);
    cpu_run(backend, backend->threads, (p->count + CONVERT_CHUNK - 1) / CONVERT_CHUNK, 0, convert_chunks, p);
}
